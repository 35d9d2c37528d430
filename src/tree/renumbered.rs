//! A tree whose nodes have other numbers than they have in it: a new archive in place of an old one, whose inodes programs
//! have open.

use super::{Attr, Name, Node, Owner, Totals, Tree, Visit, Xattr};
use crate::error::Result;
use crate::source::ReadAt;
use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::Arc;

/// A tree under other numbers.
pub struct Renumbered {
    tree: Arc<dyn Tree>,
    /// The number in the tree for one that is shown; and back. Nothing where they are the same.
    maps: Option<(HashMap<Node, Node>, HashMap<Node, Node>)>,
}

/// Nodes of a new tree that an old one has not are shown from here on.
const FOREIGN: u64 = 1 << 62;

impl Renumbered {
    /// Under its own numbers.
    pub fn as_is(tree: Arc<dyn Tree>) -> Self {
        Self { tree, maps: None }
    }

    /// Under the numbers that the same paths have in another tree.
    pub fn aligned(old: &dyn Tree, new: Arc<dyn Tree>) -> Result<Self> {
        let mut below = HashMap::from([(old.root(), new.root())]);
        let mut above = HashMap::from([(new.root(), old.root())]);
        let (mut todo, mut foreign) = (vec![(Some(old.root()), new.root())], FOREIGN);
        while let Some((dir, there)) = todo.pop() {
            let mut names = Vec::new();
            new.list(there, None, &mut |name, node, kind| {
                names.push((name.to_owned(), node, kind));
                ControlFlow::Continue(())
            })?;
            for (name, node, kind) in names {
                if above.contains_key(&node) {
                    continue;
                }
                let same = match dir {
                    Some(dir) => old.find(dir, name.as_name())?.filter(|known| !below.contains_key(known)),
                    None => None,
                };
                let shown = same.unwrap_or_else(|| {
                    foreign += 1;
                    Node(foreign)
                });
                below.insert(shown, node);
                above.insert(node, shown);
                if kind == super::Kind::Directory {
                    todo.push((same, node));
                }
            }
        }
        Ok(Self { tree: new, maps: Some((below, above)) })
    }

    /// The number in the tree below; none for a node that is not in it.
    pub fn number_below(&self, node: Node) -> Option<Node> {
        match &self.maps {
            Some((below, _)) => below.get(&node).copied(),
            None => self.tree.attr(node).is_ok().then_some(node),
        }
    }

    /// The number that is shown.
    pub fn number_above(&self, node: Node) -> Node {
        self.maps.as_ref().and_then(|(_, above)| above.get(&node).copied()).unwrap_or(node)
    }

    fn below(&self, node: Node) -> Result<Node> {
        match &self.maps {
            Some((below, _)) => below.get(&node).copied().ok_or_else(|| super::not_found(format!("inode {}", node.0))),
            None => Ok(node),
        }
    }
}

impl Tree for Renumbered {
    fn root(&self) -> Node {
        self.number_above(self.tree.root())
    }

    fn find(&self, dir: Node, name: Name<'_>) -> Result<Option<Node>> {
        Ok(self.tree.find(self.below(dir)?, name)?.map(|node| self.number_above(node)))
    }

    fn attr(&self, node: Node) -> Result<Attr> {
        self.tree.attr(self.below(node)?)
    }

    fn list(&self, dir: Node, after: Option<Name<'_>>, visit: &mut Visit<'_>) -> Result<()> {
        self.tree.list(self.below(dir)?, after, &mut |name, node, kind| visit(name, self.number_above(node), kind))
    }

    fn target(&self, link: Node) -> Result<Vec<u8>> {
        self.tree.target(self.below(link)?)
    }

    fn open(&self, file: Node) -> Result<Arc<dyn ReadAt>> {
        self.tree.open(self.below(file)?)
    }

    fn xattrs(&self, node: Node) -> Result<Vec<Xattr>> {
        self.tree.xattrs(self.below(node)?)
    }

    fn owner(&self, node: Node) -> Result<Owner> {
        self.tree.owner(self.below(node)?)
    }

    fn totals(&self) -> Result<Totals> {
        self.tree.totals()
    }

    fn is_frozen(&self) -> bool {
        self.tree.is_frozen()
    }

    fn place(&self, file: Node) -> u64 {
        self.below(file).map_or(u64::MAX, |node| self.tree.place(node))
    }
}
