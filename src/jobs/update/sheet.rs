//! Changes on their way to a commit, over the tree as it is stored.

use super::walk::join;
use crate::error::{Error, Kind as ErrorKind, Result};
use crate::tree::{Attr, Changes, Filter, Inode, Kind, Name, NameBuf, Node, Time, Tree, Xattr};
use std::collections::HashSet;
use std::collections::btree_map::Entry;
use std::ops::ControlFlow;
use std::sync::Arc;

/// A stored tree and what is going to be different.
pub struct Sheet {
    base: Arc<dyn Tree>,
    changes: Changes,
    /// The number of the next new node, and what it was when the sheet was empty.
    next: u64,
    first: u64,
}

impl Sheet {
    pub fn new(base: Arc<dyn Tree>, next: u64) -> Self {
        Self { base, changes: Changes::default(), next, first: next }
    }

    pub fn base(&self) -> &dyn Tree {
        &*self.base
    }

    pub fn changes(&self) -> &Changes {
        &self.changes
    }

    /// Forgets all changes.
    pub fn clear(&mut self) {
        (self.changes, self.next) = (Changes::default(), self.first);
    }

    /// The changes are stored: this is the tree with them.
    pub fn stored(&mut self, base: Arc<dyn Tree>) {
        (self.base, self.changes, self.first) = (base, Changes::default(), self.next);
    }

    fn is_new(&self, node: Node) -> bool {
        node.0 >= self.first
    }

    pub fn find(&self, dir: Node, name: Name<'_>) -> Result<Option<Node>> {
        match self.changes.name(dir, name.bytes()) {
            Some(named) => Ok(named.map(|(node, _)| node)),
            None if self.is_new(dir) => Ok(None),
            None => self.base.find(dir, name),
        }
    }

    pub fn attr(&self, node: Node) -> Result<Attr> {
        match self.changes.nodes.get(&node) {
            Some(Some(inode)) => Ok(inode.attr.clone()),
            Some(None) => Err(gone(node)),
            None => self.base.attr(node),
        }
    }

    pub fn xattrs(&self, node: Node) -> Result<Vec<Xattr>> {
        let changed = self.changes.nodes.get(&node).and_then(Option::as_ref).and_then(|inode| inode.xattrs.clone());
        changed.map_or_else(|| self.base.xattrs(node), Ok)
    }

    /// An inode, to be changed.
    pub fn inode(&mut self, node: Node) -> Result<&mut Inode> {
        if let Entry::Vacant(free) = self.changes.nodes.entry(node) {
            free.insert(Some(Inode::new(self.base.attr(node)?, false)));
        }
        self.changes.nodes.get_mut(&node).and_then(Option::as_mut).ok_or_else(|| gone(node))
    }

    /// A new inode, which has no name yet.
    pub fn add(&mut self, inode: Inode) -> Node {
        let node = Node(self.next);
        self.next += 1;
        self.changes.nodes.insert(node, Some(inode));
        node
    }

    /// Gives a node a name that is free, or whose node was dropped. The links of the node are the caller's.
    pub fn name(&mut self, dir: Node, name: Name<'_>, node: Node, kind: Kind) -> Result<()> {
        if kind == Kind::Directory {
            self.inode(dir)?.attr.nlink += 1;
        }
        self.changes.set_name(dir, name.to_owned(), Some((node, kind)));
        Ok(())
    }

    /// Takes a name away from what it leads to, which goes with its last one. A directory must be empty.
    pub fn drop(&mut self, dir: Node, name: Name<'_>, node: Node, kind: Kind) -> Result<()> {
        if kind == Kind::Directory {
            if node == self.base.root() {
                return Err(Error::new(ErrorKind::Damaged, "a directory of the container is its root again"));
            }
            let parent = &mut self.inode(dir)?.attr;
            parent.nlink = parent.nlink.saturating_sub(1);
            self.changes.nodes.insert(node, None);
        } else {
            let attr = &mut self.inode(node)?.attr;
            attr.nlink = attr.nlink.saturating_sub(1);
            attr.ctime = Time::now();
            if attr.nlink == 0 {
                self.changes.nodes.insert(node, None);
            }
        }
        self.changes.set_name(dir, name.to_owned(), None);
        Ok(())
    }

    /// A directory whose names have changed, and whose times nobody else sets.
    pub fn touch(&mut self, dir: Node) -> Result<()> {
        let attr = &mut self.inode(dir)?.attr;
        attr.mtime = Time::now();
        attr.ctime = attr.mtime;
        Ok(())
    }

    /// The stored names of a directory.
    pub fn stored_names(&self, dir: Node) -> Result<Vec<(NameBuf, Node, Kind)>> {
        let mut names = Vec::new();
        if !self.is_new(dir) {
            self.base.list(dir, None, &mut |name, node, kind| {
                names.push((name.to_owned(), node, kind));
                ControlFlow::Continue(())
            })?;
        }
        Ok(names)
    }

    /// Removes a stored name with all below it, but for what the filter leaves out and the directories that hold such
    /// things. Returns how many names went, and whether this one did.
    pub fn remove(&mut self, top: Stored, filter: &Filter) -> Result<(u64, bool)> {
        let (mut all, mut next, mut seen) = (vec![top], 0, HashSet::new());
        while next < all.len() {
            let (node, kind, path) = (all[next].node, all[next].kind, all[next].path.clone());
            // A directory that is in itself would be removed without end.
            if kind == Kind::Directory && !filter.excludes(&path) && seen.insert(node) {
                let below = self.stored_names(node)?;
                all.extend(below.into_iter().map(|(name, below, kind)| {
                    let path = join(&path, name.as_name().bytes());
                    Stored { dir: node, name, node: below, kind, path }
                }));
            }
            next += 1;
        }
        let (mut count, mut kept, mut lighter) = (0, HashSet::new(), HashSet::new());
        // What is in a directory stands behind it.
        for it in all.iter().rev() {
            let stays = match it.kind {
                Kind::Directory => kept.contains(&it.node) || filter.excludes(&it.path),
                _ => filter.excludes(&it.path) || !filter.includes(&it.path),
            };
            if stays {
                kept.insert(it.dir);
                if lighter.contains(&it.node) {
                    self.touch(it.node)?;
                }
            } else {
                self.drop(it.dir, it.name.as_name(), it.node, it.kind)?;
                lighter.insert(it.dir);
                count += 1;
            }
        }
        let top = &all[0];
        let went = self.changes.name(top.dir, top.name.as_name().bytes()) == Some(None);
        Ok((count, went))
    }
}

/// A name that is stored.
pub struct Stored {
    pub dir: Node,
    pub name: NameBuf,
    pub node: Node,
    pub kind: Kind,
    pub path: Box<[u8]>,
}

fn gone(node: Node) -> Error {
    Error::new(ErrorKind::Damaged, format!("inode {} has fewer links than names", node.0))
}
