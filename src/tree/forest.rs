//! Several trees as one: each is an entry of a root that exists nowhere else.
//!
//! ```text
//!  the node 0 is the root; the node n of the tree i, of k trees, is  n * k + i + 1
//! ```

use super::{Attr, Kind, Name, NameBuf, Node, Owner, Time, Totals, Tree, Visit, Xattr};
use crate::error::{Error, Kind as ErrorKind, Result};
use crate::source::ReadAt;
use std::ops::ControlFlow;
use std::sync::Arc;

const ROOT: Node = Node(0);

/// One entry of the root: a node of some tree, with all below it.
pub struct Entry {
    pub name: NameBuf,
    pub tree: Arc<dyn Tree>,
    pub node: Node,
}

/// Trees side by side under one root.
pub struct Forest {
    /// Sorted by name.
    entries: Vec<Entry>,
}

impl Forest {
    pub fn new(mut entries: Vec<Entry>) -> Result<Self> {
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        match entries.windows(2).find(|pair| pair[0].name == pair[1].name) {
            Some(pair) => {
                Err(Error::new(ErrorKind::Usage, format!("two sources have the name {}", pair[0].name.as_name())))
            }
            None => Ok(Self { entries }),
        }
    }

    /// The tree that a node belongs to, and its number there.
    fn inner(&self, node: Node) -> Result<(&dyn Tree, usize, Node)> {
        let count = self.entries.len() as u64;
        let number = node.0.checked_sub(1).filter(|_| count > 0);
        let number = number.ok_or_else(|| Error::new(ErrorKind::IsADirectory, "the root is a directory"))?;
        let at = (number % count) as usize;
        Ok((&*self.entries[at].tree, at, Node(number / count)))
    }

    fn outer(&self, at: usize, node: Node) -> Result<Node> {
        let number = node.0.checked_mul(self.entries.len() as u64).and_then(|n| n.checked_add(at as u64 + 1));
        number.map(Node).ok_or_else(|| Error::new(ErrorKind::Limit, "inode numbers are too large to be joined"))
    }

    fn root_attr(&self) -> Attr {
        let newest = self.entries.iter().filter_map(|e| e.tree.attr(e.node).ok()).map(|a| a.mtime).max();
        let mtime = newest.unwrap_or(Time::default());
        let (uid, gid) = match self.entries.first().and_then(|e| e.tree.attr(e.node).ok()) {
            Some(attr) => (attr.uid, attr.gid),
            None => (0, 0),
        };
        Attr { uid, gid, nlink: 2, ..Attr::new(Kind::Directory, 0o755, mtime) }
    }
}

/// Lists a directory of a tree whose nodes have other numbers outside of it.
pub fn list_as(
    tree: &dyn Tree,
    dir: Node,
    after: Option<Name<'_>>,
    outer: impl Fn(Node) -> Result<Node>,
    visit: &mut Visit<'_>,
) -> Result<()> {
    let mut failed = Ok(());
    tree.list(dir, after, &mut |name, node, kind| match outer(node) {
        Ok(node) => visit(name, node, kind),
        Err(e) => {
            failed = Err(e);
            ControlFlow::Break(())
        }
    })?;
    failed
}

impl Tree for Forest {
    fn root(&self) -> Node {
        ROOT
    }

    fn find(&self, dir: Node, name: Name<'_>) -> Result<Option<Node>> {
        if dir == ROOT {
            let at = self.entries.iter().position(|e| e.name.as_name() == name);
            return at.map(|at| self.outer(at, self.entries[at].node)).transpose();
        }
        let (tree, at, node) = self.inner(dir)?;
        tree.find(node, name)?.map(|found| self.outer(at, found)).transpose()
    }

    fn attr(&self, node: Node) -> Result<Attr> {
        if node == ROOT {
            return Ok(self.root_attr());
        }
        let (tree, _, node) = self.inner(node)?;
        tree.attr(node)
    }

    fn list(&self, dir: Node, after: Option<Name<'_>>, visit: &mut Visit<'_>) -> Result<()> {
        if dir == ROOT {
            for (at, e) in self.entries.iter().enumerate().filter(|(_, e)| after.is_none_or(|a| e.name.as_name() > a)) {
                if visit(e.name.as_name(), self.outer(at, e.node)?, e.tree.attr(e.node)?.kind).is_break() {
                    break;
                }
            }
            return Ok(());
        }
        let (tree, at, node) = self.inner(dir)?;
        list_as(tree, node, after, |node| self.outer(at, node), visit)
    }

    fn target(&self, link: Node) -> Result<Vec<u8>> {
        let (tree, _, node) = self.inner(link)?;
        tree.target(node)
    }

    fn open(&self, file: Node) -> Result<Arc<dyn ReadAt>> {
        let (tree, _, node) = self.inner(file)?;
        tree.open(node)
    }

    fn xattrs(&self, node: Node) -> Result<Vec<Xattr>> {
        if node == ROOT {
            return Ok(Vec::new());
        }
        let (tree, _, node) = self.inner(node)?;
        tree.xattrs(node)
    }

    fn owner(&self, node: Node) -> Result<Owner> {
        if node == ROOT {
            return Ok(Owner::default());
        }
        let (tree, _, node) = self.inner(node)?;
        tree.owner(node)
    }

    fn totals(&self) -> Result<Totals> {
        self.entries.iter().try_fold(Totals { nodes: 1, ..Totals::default() }, |sum, e| {
            let t = e.tree.totals()?;
            Ok(Totals { nodes: sum.nodes + t.nodes, bytes: sum.bytes + t.bytes, stored: sum.stored + t.stored })
        })
    }

    fn is_frozen(&self) -> bool {
        self.entries.iter().all(|e| e.tree.is_frozen())
    }
}
