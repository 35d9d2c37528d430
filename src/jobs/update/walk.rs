//! The walk over the source: each entry once, a directory before what is in it.

use super::{Options, Source};
use crate::error::{Error, Kind as ErrorKind, Result};
use crate::tree::{Attr, Kind, Name, NameBuf, Node};
use std::collections::{HashSet, VecDeque};
use std::ops::ControlFlow;
use std::sync::Arc;

/// What is to be done, in order.
pub enum Step {
    /// The attributes of the root.
    Root(Attr),
    Entry(Entry),
    /// All names that a directory of the source has: whatever else is stored there may go.
    Rest {
        dir: usize,
        path: Box<[u8]>,
        names: HashSet<NameBuf>,
    },
}

/// A name of the source and what it leads to.
pub struct Entry {
    /// The number of its directory.
    pub dir: usize,
    /// Its own number, if it is a directory.
    pub own: usize,
    pub node: Node,
    pub attr: Attr,
    /// From the root, without a leading slash.
    pub path: Box<[u8]>,
}

impl Entry {
    pub fn name(&self) -> Result<Name<'_>> {
        Name::new(self.path.rsplit(|b| *b == b'/').next().unwrap_or_default())
    }
}

/// A directory that has been seen and not listed.
struct Pending {
    number: usize,
    node: Node,
    path: Box<[u8]>,
}

/// The walk.
pub struct Walk {
    pending: Vec<Pending>,
    ready: VecDeque<Step>,
    /// Directories that have a number.
    count: usize,
    pub skipped: u64,
}

impl Walk {
    pub fn new(source: &Source) -> Result<Self> {
        let node = source.tree().root();
        let attr = source.tree().attr(node)?;
        if attr.kind != Kind::Directory {
            return Err(Error::new(ErrorKind::NotADirectory, "what is to be packed is not a directory"));
        }
        let root = Pending { number: 0, node, path: Box::default() };
        Ok(Self { pending: vec![root], ready: VecDeque::from([Step::Root(attr)]), count: 1, skipped: 0 })
    }

    pub fn next(&mut self, source: &Arc<Source>, options: &Options) -> Result<Option<Step>> {
        loop {
            if let Some(step) = self.ready.pop_front() {
                return Ok(Some(step));
            }
            let Some(dir) = self.pending.pop() else { return Ok(None) };
            source.check()?;
            self.list(dir, source, options)?;
        }
    }

    fn list(&mut self, dir: Pending, source: &Source, options: &Options) -> Result<()> {
        let mut children: Vec<(NameBuf, Node)> = Vec::new();
        let listed = source.tree().list(dir.node, None, &mut |name, node, _| {
            children.push((name.to_owned(), node));
            ControlFlow::Continue(())
        });
        let whole = listed.is_ok();
        match listed {
            Err(e) if dir.number == 0 => return Err(e),
            Err(e) => self.skip(source, &dir.path, &e),
            Ok(()) => {}
        }
        children.sort_unstable();
        let below = self.pending.len();
        for (name, node) in &children {
            self.child(&dir, name.as_name(), *node, source, options);
        }
        // The first subdirectory is the next to be listed.
        self.pending[below..].reverse();
        if options.delete && whole {
            let names = children.into_iter().map(|(name, _)| name).collect();
            self.ready.push_back(Step::Rest { dir: dir.number, path: dir.path, names });
        }
        Ok(())
    }

    fn child(&mut self, dir: &Pending, name: Name<'_>, node: Node, source: &Source, options: &Options) {
        let path = join(&dir.path, name.bytes());
        if options.filter.excludes(&path) {
            return;
        }
        let attr = match source.tree().attr(node) {
            Ok(attr) => attr,
            Err(e) => return self.skip(source, &path, &e),
        };
        let mut own = 0;
        if attr.kind == Kind::Directory {
            own = self.count;
            self.count += 1;
            self.pending.push(Pending { number: own, node, path: path.clone() });
        } else if !options.filter.includes(&path) {
            return;
        }
        source.announce(0, 1);
        self.ready.push_back(Step::Entry(Entry { dir: dir.number, own, node, attr, path }));
    }

    fn skip(&mut self, source: &Source, path: &[u8], why: &Error) {
        self.skipped += 1;
        source.watch().skipped(path, why);
    }
}

pub fn join(dir: &[u8], name: &[u8]) -> Box<[u8]> {
    if dir.is_empty() { name.into() } else { [dir, b"/", name].concat().into() }
}
