//! A base with an overlay over it, as one tree. Contents of changed files come from the directory, all else as ever.

use super::base::Base;
use super::dir::Dir;
use super::state::Move;
use crate::error::Result;
use crate::source::ReadAt;
use crate::tree::{Attr, Merged, Name, Node, Owner, Totals, Tree, Visit, Xattr};
use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock, RwLockWriteGuard};

/// Where contents lie just now.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Lies {
    Clear(Vec<u8>),
    New(u64),
    Base(Node),
}

/// Where the contents of all changed files lie. Trees of before and after a settling share it: each shows what it showed, since
/// what is laid over the contents of before leads to those of after, and the same again over those.
#[derive(Default)]
pub struct Files {
    all: RwLock<HashMap<Node, Lies>>,
}

impl Files {
    /// While this is held nobody opens contents.
    pub fn write(&self) -> RwLockWriteGuard<'_, HashMap<Node, Lies>> {
        self.all.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn get(&self, node: Node) -> Option<Lies> {
        self.all.read().unwrap_or_else(PoisonError::into_inner).get(&node).cloned()
    }

    fn open(&self, node: Node, dir: &Dir) -> Option<Result<Arc<dyn ReadAt>>> {
        // The name must not be another's between the look and the opening.
        let all = self.all.read().unwrap_or_else(PoisonError::into_inner);
        let path = match all.get(&node)? {
            Lies::Clear(path) => dir.clear(path),
            Lies::New(number) => dir.new_file(*number),
            Lies::Base(_) => return None,
        };
        Some(dir.open(&path).map(|file| Arc::new(file) as Arc<dyn ReadAt>))
    }
}

/// What steps have done to places.
pub fn moved(all: &mut HashMap<Node, Lies>, done: &[Move]) {
    let mut at: HashMap<Lies, Node> = all.iter().map(|(node, lies)| (lies.clone(), *node)).collect();
    for step in done {
        let (from, to) = match step {
            Move::Aside { from, to } => (Lies::Clear(from.clone()), Lies::New(*to)),
            Move::Into { from, to } => (Lies::New(*from), Lies::Clear(to.clone())),
            Move::Gone { .. } => continue,
        };
        if let Some(node) = at.remove(&from) {
            all.insert(node, to.clone());
            at.insert(to, node);
        }
    }
}

/// The tree.
pub struct Laid {
    pub merged: Merged,
    pub base: Arc<Base>,
    pub files: Arc<Files>,
    pub dir: Dir,
}

impl Tree for Laid {
    fn root(&self) -> Node {
        self.merged.root()
    }

    fn find(&self, dir: Node, name: Name<'_>) -> Result<Option<Node>> {
        self.merged.find(dir, name)
    }

    fn attr(&self, node: Node) -> Result<Attr> {
        self.merged.attr(node)
    }

    fn list(&self, dir: Node, after: Option<Name<'_>>, visit: &mut Visit<'_>) -> Result<()> {
        self.merged.list(dir, after, visit)
    }

    fn target(&self, link: Node) -> Result<Vec<u8>> {
        self.merged.target(link)
    }

    fn open(&self, file: Node) -> Result<Arc<dyn ReadAt>> {
        match self.files.open(file, &self.dir) {
            Some(opened) => opened,
            None => match self.files.get(file) {
                Some(Lies::Base(same)) => self.base.open(same),
                _ => self.merged.open(file),
            },
        }
    }

    fn xattrs(&self, node: Node) -> Result<Vec<Xattr>> {
        self.merged.xattrs(node)
    }

    fn owner(&self, node: Node) -> Result<Owner> {
        self.merged.owner(node)
    }

    fn totals(&self) -> Result<Totals> {
        self.merged.totals()
    }

    fn is_frozen(&self) -> bool {
        false
    }

    fn place(&self, file: Node) -> u64 {
        match self.files.get(file) {
            Some(Lies::Base(same)) => self.base.place(same),
            Some(_) => u64::MAX,
            None => self.merged.place(file),
        }
    }
}
