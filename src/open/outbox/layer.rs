//! What the journal of a generation lies over: the folder of the server as it will be when all generations before are there.

use crate::error::{Error, Kind, Result};
use crate::formats::{Holds, Lasting, Notes, Settle, Task};
use crate::pool::lock;
use crate::remote::ShareTree;
use crate::source::{Stamp, free_in};
use crate::tree::{Merged, NameBuf, Node, Tree, find_path};
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

/// Entries that a journal speaks of and that are not there any more get numbers from here on.
const GONE: u64 = 1 << 50;

/// A folder with what goes up before.
pub struct Layer {
    pub base: Arc<ShareTree>,
    /// The generation before, as long as it is not there.
    before: Mutex<Option<Before>>,
    dir: PathBuf,
    stamp: Stamp,
    holds: &'static Holds,
    gone: AtomicU64,
    /// Moves of an attempt before, which has ended in the middle.
    moves: Vec<(String, String)>,
}

struct Before {
    merged: Arc<Merged>,
    named: HashMap<Node, (Node, NameBuf)>,
}

impl Layer {
    pub fn new(
        base: Arc<ShareTree>,
        before: Option<Arc<Merged>>,
        dir: PathBuf,
        stamp: Stamp,
        moves: Vec<(String, String)>,
    ) -> Self {
        let holds = holds_of(&base);
        let before = Mutex::new(before.map(Before::new));
        Self { base, before, dir, stamp, holds, gone: AtomicU64::new(GONE), moves }
    }

    /// The generation before is on the server.
    pub fn has_come(&self) {
        *lock(&self.before) = None;
    }

    pub fn moves(&self) -> &[(String, String)] {
        &self.moves
    }

    fn path(&self, node: Node) -> Option<Vec<u8>> {
        let before = lock(&self.before);
        let (mut names, mut at) = (Vec::new(), node);
        while at != self.base.root() {
            let named = before.as_ref().and_then(|before| before.named.get(&at)).cloned();
            let (dir, name) = named.or_else(|| self.base.place(at))?;
            names.push(name);
            at = dir;
        }
        let parts: Vec<&[u8]> = names.iter().rev().map(|name| name.as_name().bytes()).collect();
        Some(self.unmoved(parts.join(&b'/')))
    }

    /// Where what had a path before an attempt that ended in the middle is now; nothing when something else has come there.
    fn moved(&self, path: &[u8]) -> Option<Vec<u8>> {
        self.moves.iter().try_fold(path.to_vec(), |path, (from, to)| match behind(&path, from) {
            Some(rest) => Some([to.as_bytes(), &rest].concat()),
            None => behind(&path, to).is_none().then_some(path),
        })
    }

    /// The way back: the path that something had before. A journal has no others, whenever it was written: what is found by one
    /// is looked for through all moves.
    fn unmoved(&self, path: Vec<u8>) -> Vec<u8> {
        self.moves.iter().rev().fold(path, |path, (from, to)| match behind(&path, to) {
            Some(rest) => [from.as_bytes(), &rest].concat(),
            None => path,
        })
    }
}

/// What of a path is behind this entry, where it is that or in it.
fn behind(path: &[u8], dir: &str) -> Option<Vec<u8>> {
    let rest = path.strip_prefix(dir.as_bytes()).filter(|rest| rest.is_empty() || rest[0] == b'/');
    rest.map(<[u8]>::to_vec)
}

impl Before {
    fn new(merged: Arc<Merged>) -> Self {
        let changes = merged.changes();
        let named = super::plan::named(&changes).into_iter();
        let named = named.map(|(node, (dir, name))| (node, (dir, name.clone()))).collect();
        Self { merged, named }
    }
}

impl Lasting for Layer {
    fn paths(&self, nodes: &[Node]) -> Result<Vec<(u64, Vec<u8>)>> {
        Ok(nodes.iter().filter_map(|node| Some((node.0, self.path(*node)?))).collect())
    }

    /// Who has gone on the server meanwhile gets a number that nobody has: there is nothing to be done to it.
    fn find(&self, path: &[u8]) -> Result<Node> {
        let before = lock(&self.before);
        let tree: &dyn Tree = before.as_ref().map_or(&*self.base as &dyn Tree, |before| &*before.merged);
        let gone = || Ok(Node(self.gone.fetch_add(1, Relaxed)));
        let path = if before.is_none() { self.moved(path) } else { Some(path.to_vec()) };
        match path {
            None => gone(),
            Some(path) if path.is_empty() => Ok(tree.root()),
            Some(path) => match find_path(tree, &path) {
                Err(e) if matches!(e.kind(), Kind::NotFound | Kind::NotADirectory) => gone(),
                found => found,
            },
        }
    }
}

impl Settle for Layer {
    fn stamp(&self) -> Result<Stamp> {
        Ok(self.stamp)
    }

    fn settle(&self, _: &Task<'_>, _: &mut dyn Notes) -> Result<Arc<dyn Tree>> {
        Err(Error::new(Kind::Unsupported, "what goes to a server goes there by its queue"))
    }

    fn holds(&self) -> &'static Holds {
        self.holds
    }

    fn lasting(&self) -> Option<&dyn Lasting> {
        Some(self)
    }

    fn free(&self) -> Result<u64> {
        free_in(&self.dir)
    }
}

const WITH_LINKS: Holds = Holds { format: "the server", ..Holds::BASIC };
const WITHOUT_LINKS: Holds = Holds { symlinks: false, ..WITH_LINKS };

fn holds_of(base: &ShareTree) -> &'static Holds {
    match base.share().writes().is_some_and(|writes| writes.holds().links) {
        true => &WITH_LINKS,
        false => &WITHOUT_LINKS,
    }
}
