//! From a tree to a list of what is to be packed, a batch at a time: so that the packer needs memory for a batch and not
//! for the whole tree.
//!
//! Directories are listed depth first, names in the order of their bytes; the children of a directory get inode numbers
//! that follow each other, so that listing it touches few blocks of the index.

use super::super::rows::NameRow;
use super::super::tree::ROOT;
use crate::error::{Error, Kind as ErrorKind, Result};
use crate::formats::Watch;
use crate::tree::{Attr, Filter, Kind, NameBuf, Node, Tree};
use std::collections::HashMap;
use std::collections::hash_map::Entry as MapEntry;
use std::ops::ControlFlow;

/// Entries of a batch: about 250 bytes of memory each.
pub const BATCH: usize = 256 * 1024;

/// One inode that is to be packed.
pub struct Item {
    pub ino: u64,
    pub node: Node,
    /// From the root, without a leading slash; empty for the root.
    pub path: Box<[u8]>,
    pub attr: Attr,
    /// More names may lead here than the one in `path`.
    pub linked: bool,
}

/// Some of the tree.
#[derive(Default)]
pub struct Batch {
    pub names: Vec<NameRow>,
    pub items: Vec<Item>,
}

/// A directory that has been seen and not listed.
struct Pending {
    ino: u64,
    node: Node,
    path: Box<[u8]>,
    attr: Attr,
}

/// The walk.
pub struct Walk<'a> {
    tree: &'a dyn Tree,
    filter: &'a Filter,
    watch: &'a dyn Watch,
    pending: Vec<Pending>,
    /// Inode numbers of what has several names.
    links: HashMap<Node, u64>,
    /// Whether inodes have the numbers of the tree.
    keeps: bool,
    next_ino: u64,
    pub skipped: u64,
}

impl<'a> Walk<'a> {
    pub fn new(tree: &'a dyn Tree, filter: &'a Filter, watch: &'a dyn Watch, keeps: bool) -> Result<Self> {
        let node = tree.root();
        let attr = tree.attr(node)?;
        if attr.kind != Kind::Directory {
            return Err(Error::new(ErrorKind::NotADirectory, "what is to be packed is not a directory"));
        }
        let root = Pending { ino: ROOT, node, path: Box::default(), attr };
        let (pending, links) = (vec![root], HashMap::new());
        Ok(Self { tree, filter, watch, pending, links, keeps, next_ino: ROOT + 1, skipped: 0 })
    }

    pub fn next_ino(&self) -> u64 {
        self.next_ino
    }

    /// The next batch, or `None` when everything has been seen.
    pub fn next(&mut self) -> Result<Option<Batch>> {
        let mut batch = Batch::default();
        while batch.names.len() < BATCH {
            let Some(dir) = self.pending.pop() else { break };
            if self.watch.is_cancelled() {
                return Err(cancelled());
            }
            self.list(dir, &mut batch)?;
        }
        Ok((!batch.items.is_empty()).then_some(batch))
    }

    fn list(&mut self, mut dir: Pending, batch: &mut Batch) -> Result<()> {
        let mut children: Vec<(NameBuf, Node)> = Vec::new();
        let listed = self.tree.list(dir.node, None, &mut |name, node, _| {
            children.push((name.to_owned(), node));
            ControlFlow::Continue(())
        });
        if let Err(e) = listed {
            if dir.ino == ROOT {
                return Err(e);
            }
            self.skip(&dir.path, &e);
        }
        children.sort_unstable();
        let below = self.pending.len();
        for (name, node) in children {
            self.child(&dir, name, node, batch);
        }
        dir.attr.nlink = 2 + (self.pending.len() - below) as u32;
        // The first subdirectory is the next to be listed.
        self.pending[below..].reverse();
        batch.items.push(Item { ino: dir.ino, node: dir.node, path: dir.path, attr: dir.attr, linked: false });
        Ok(())
    }

    fn child(&mut self, dir: &Pending, name: NameBuf, node: Node, batch: &mut Batch) {
        let path = join(&dir.path, name.as_name().bytes());
        if self.filter.excludes(&path) {
            return;
        }
        let attr = match self.tree.attr(node) {
            Ok(attr) => attr,
            Err(e) => return self.skip(&path, &e),
        };
        if attr.kind != Kind::Directory && !self.filter.includes(&path) {
            return;
        }
        let (ino, known) = self.number(node, &attr);
        let row = NameRow { parent: dir.ino, name: name.as_name().bytes().into(), ino, kind: attr.kind };
        batch.names.push(row);
        if known {
            return;
        }
        if attr.kind == Kind::Directory {
            self.pending.push(Pending { ino, node, path, attr });
        } else {
            let linked = attr.nlink > 1;
            batch.items.push(Item { ino, node, path, attr, linked });
        }
    }

    /// The inode number of a node, and whether it had one already.
    fn number(&mut self, node: Node, attr: &Attr) -> (u64, bool) {
        let fresh = if self.keeps { node.0 } else { self.next_ino };
        if attr.kind != Kind::Directory && attr.nlink > 1 {
            match self.links.entry(node) {
                MapEntry::Occupied(known) => return (*known.get(), true),
                MapEntry::Vacant(entry) => entry.insert(fresh),
            };
        }
        self.next_ino += 1;
        (fresh, false)
    }

    fn skip(&mut self, path: &[u8], why: &Error) {
        self.skipped += 1;
        self.watch.skipped(path, why);
    }
}

fn join(dir: &[u8], name: &[u8]) -> Box<[u8]> {
    if dir.is_empty() { name.into() } else { [dir, b"/", name].concat().into() }
}

/// The error of work that was cancelled.
pub fn cancelled() -> Error {
    Error::new(ErrorKind::Interrupted, "interrupted")
}
