//! The tree that an overlay lies over, with a way back from an inode to its path.
//!
//! Numbers of inodes are good for one opening only: a folder gives them away as they are asked for, and another version of the
//! program may number an archive differently. So what lasts names an inode by its path. A tree knows no way up; here it is
//! remembered for each inode that somebody has looked up in which directory that was, and the name is searched there when it
//! is needed, which is when the inode is changed first.

use super::FIRST_NEW;
use crate::error::{Error, Kind as ErrorKind, Result};
use crate::pool::lock;
use crate::source::ReadAt;
use crate::tree::{Attr, Kind, Name, NameBuf, Node, Owner, Totals, Tree, Visit, Xattr};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex};

/// A tree whose inodes have paths.
pub struct Base {
    tree: Arc<dyn Tree>,
    /// The directory of each inode that was seen.
    above: Mutex<HashMap<Node, Node>>,
    /// The names of those that were asked for.
    names: Mutex<HashMap<Node, NameBuf>>,
}

impl Base {
    pub fn new(tree: Arc<dyn Tree>) -> Self {
        Self { tree, above: Mutex::default(), names: Mutex::default() }
    }

    /// Whether an inode is one of the base, by its number.
    pub fn has(node: Node) -> bool {
        node.0 < FIRST_NEW
    }

    /// Refuses what is no inode of the base.
    fn own(node: Node) -> Result<Node> {
        match Self::has(node) {
            true => Ok(node),
            false => Err(Error::new(ErrorKind::NotFound, "the base has no such inode")),
        }
    }

    fn saw(&self, dir: Node, node: Node) -> Result<()> {
        if !Self::has(node) {
            return Err(Error::new(ErrorKind::Limit, "an inode of the base has a number that is too large"));
        }
        if node != self.tree.root() {
            lock(&self.above).entry(node).or_insert(dir);
        }
        Ok(())
    }

    /// Where an inode is in the base: its directory and its name there. Nothing for the root.
    pub fn link(&self, node: Node) -> Result<Option<(Node, NameBuf)>> {
        if node == self.tree.root() {
            return Ok(None);
        }
        self.learn(&[node])?;
        let (dir, name) = (lock(&self.above).get(&node).copied(), lock(&self.names).get(&node).cloned());
        dir.zip(name).map(Some).ok_or_else(|| lost(node))
    }

    /// The paths of inodes of the base.
    pub fn paths(&self, nodes: &[Node]) -> Result<HashMap<Node, Vec<u8>>> {
        self.learn(nodes)?;
        let (above, names) = (lock(&self.above), lock(&self.names));
        let mut paths = HashMap::from([(self.tree.root(), Vec::new())]);
        for node in nodes {
            let (mut way, mut at) = (Vec::new(), *node);
            while !paths.contains_key(&at) {
                way.push(at);
                at = *above.get(&at).ok_or_else(|| lost(at))?;
            }
            for node in way.into_iter().rev() {
                let name = names.get(&node).ok_or_else(|| lost(node))?;
                let mut path: Vec<u8> = paths[&above[&node]].clone();
                super::join(&mut path, name.as_name().bytes());
                paths.insert(node, path);
            }
        }
        Ok(paths)
    }

    /// Searches the names of inodes, and of all directories on the way to them, each directory once.
    fn learn(&self, nodes: &[Node]) -> Result<()> {
        let mut wanted: BTreeMap<Node, HashSet<Node>> = BTreeMap::new();
        {
            let (above, names) = (lock(&self.above), lock(&self.names));
            for node in nodes {
                let mut at = *node;
                while at != self.tree.root() && !names.contains_key(&at) {
                    let dir = *above.get(&at).ok_or_else(|| lost(at))?;
                    if !wanted.entry(dir).or_default().insert(at) {
                        break;
                    }
                    at = dir;
                }
            }
        }
        for (dir, mut missing) in wanted {
            self.tree.list(dir, None, &mut |name, node, _| {
                if missing.remove(&node) {
                    lock(&self.names).insert(node, name.to_owned());
                }
                if missing.is_empty() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            })?;
            if let Some(node) = missing.into_iter().next() {
                return Err(lost(node));
            }
        }
        Ok(())
    }
}

fn lost(node: Node) -> Error {
    Error::new(ErrorKind::Changed, format!("the inode {} of the base cannot be found any more", node.0))
}

impl Tree for Base {
    fn root(&self) -> Node {
        self.tree.root()
    }

    fn find(&self, dir: Node, name: Name<'_>) -> Result<Option<Node>> {
        let found = self.tree.find(Self::own(dir)?, name)?;
        found.iter().try_for_each(|node| self.saw(dir, *node))?;
        Ok(found)
    }

    fn attr(&self, node: Node) -> Result<Attr> {
        self.tree.attr(Self::own(node)?)
    }

    fn list(&self, dir: Node, after: Option<Name<'_>>, visit: &mut Visit<'_>) -> Result<()> {
        let mut failed = Ok(());
        self.tree.list(
            Self::own(dir)?,
            after,
            &mut |name: Name<'_>, node: Node, kind: Kind| match self.saw(dir, node) {
                Ok(()) => visit(name, node, kind),
                Err(e) => {
                    failed = Err(e);
                    ControlFlow::Break(())
                }
            },
        )?;
        failed
    }

    fn target(&self, link: Node) -> Result<Vec<u8>> {
        self.tree.target(Self::own(link)?)
    }

    fn open(&self, file: Node) -> Result<Arc<dyn ReadAt>> {
        self.tree.open(Self::own(file)?)
    }

    fn xattrs(&self, node: Node) -> Result<Vec<Xattr>> {
        self.tree.xattrs(Self::own(node)?)
    }

    fn owner(&self, node: Node) -> Result<Owner> {
        self.tree.owner(Self::own(node)?)
    }

    fn totals(&self) -> Result<Totals> {
        self.tree.totals()
    }

    fn is_frozen(&self) -> bool {
        self.tree.is_frozen()
    }

    fn place(&self, file: Node) -> u64 {
        self.tree.place(file)
    }
}
