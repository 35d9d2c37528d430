//! What differs from a tree: the inodes and the names that were changed, as they are now.

use super::{Attr, Draft, Kind, NameBuf, Node, PartFrom, Touched, Xattr};
use std::collections::BTreeMap;
use std::sync::Arc;

/// An inode as it is now.
#[derive(Clone)]
pub struct Inode {
    pub attr: Attr,
    /// Contents of a file, when they were touched.
    pub draft: Option<Arc<Draft>>,
    /// A state of the contents that `draft` is made over, while it is on its way into the container.
    pub under: Option<Arc<Draft>>,
    /// Target of a symbolic link that is new.
    pub target: Option<Vec<u8>>,
    /// All extended attributes, when they were touched.
    pub xattrs: Option<Vec<Xattr>>,
    /// Whether the tree has no such node.
    pub is_new: bool,
}

impl Inode {
    /// A node that the tree has, or that is new, with nothing touched but what `attr` says.
    pub fn new(attr: Attr, is_new: bool) -> Self {
        Self { attr, draft: None, under: None, target: None, xattrs: None, is_new }
    }

    /// Whether it is as it was before, but for its names; without its times, if those do not count.
    pub fn is_still(&self, base: &Attr, with_times: bool) -> bool {
        let attr = &self.attr;
        let of = |a: &Attr| (a.mode, a.uid, a.gid, a.size, a.rdev);
        let same_time = !with_times || (attr.mtime, attr.atime) == (base.mtime, base.atime);
        let untouched = self.draft.is_none() && self.target.is_none() && self.xattrs.is_none() && !self.is_new;
        untouched && of(attr) == of(base) && same_time
    }

    /// Bytes that are data, about.
    pub fn allocated(&self) -> u64 {
        let Some(draft) = &self.draft else { return self.attr.allocated };
        data(draft, self.allocated_below())
    }

    /// Bytes of data that the draft lies over.
    pub fn allocated_below(&self) -> u64 {
        self.under.as_ref().map_or(self.attr.allocated, |under| data(under, self.attr.allocated))
    }
}

/// Bytes of data in a draft over so many. Where holes are below is not asked: no more counts of it than there is.
fn data(draft: &Draft, below: u64) -> u64 {
    let (mut touched, mut seen) = (0, 0);
    for part in draft.parts(0..draft.size()) {
        match part.from {
            PartFrom::Touched(Touched::Hole) | PartFrom::Nothing => {}
            PartFrom::Touched(_) => touched += part.len,
            PartFrom::Below => seen += part.len,
        }
    }
    touched + below.min(seen)
}

/// What is in a directory under a name: a node, or nothing any more.
pub type Named = Option<(Node, Kind)>;

/// All changes since some state of a tree.
#[derive(Clone, Default)]
pub struct Changes {
    /// `None`: the node is gone.
    pub nodes: BTreeMap<Node, Option<Inode>>,
    pub names: BTreeMap<Node, BTreeMap<NameBuf, Named>>,
}

impl Changes {
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty() && self.names.is_empty()
    }

    pub fn name(&self, dir: Node, name: &[u8]) -> Option<Named> {
        self.names.get(&dir)?.get(name).copied()
    }

    /// Whether an inode is one that the tree has not.
    pub fn is_new(&self, node: Node) -> bool {
        matches!(self.nodes.get(&node), Some(Some(inode)) if inode.is_new)
    }

    pub fn set_name(&mut self, dir: Node, name: NameBuf, to: Named) {
        self.names.entry(dir).or_default().insert(name, to);
    }

    /// Bytes of memory that contents hold on to.
    pub fn held(&self) -> u64 {
        self.nodes.values().flatten().filter_map(|inode| Some(inode.draft.as_ref()?.held())).sum()
    }

    /// Bytes of contents that are to be written, wherever they come from.
    pub fn touched(&self) -> u64 {
        let drafts = self.nodes.values().flatten().filter_map(|inode| inode.draft.as_ref());
        drafts.flat_map(|draft| draft.touched()).map(|part| part.len).sum()
    }

    /// How many inodes and names are changed.
    pub fn entries(&self) -> u64 {
        (self.nodes.len() + self.names.values().map(BTreeMap::len).sum::<usize>()) as u64
    }

    /// Takes over later changes, made over these.
    pub fn absorb(&mut self, later: Changes) {
        for (dir, names) in later.names {
            self.names.entry(dir).or_default().extend(names);
        }
        for (node, inode) in later.nodes {
            let earlier = self.nodes.remove(&node).flatten();
            self.nodes.insert(node, inode.map(|inode| inode.over(earlier)));
        }
    }
}

impl Inode {
    /// This state of an inode, with what an earlier one knows and this one takes as given.
    fn over(mut self, earlier: Option<Inode>) -> Self {
        let Some(earlier) = earlier else { return self };
        self.draft = match (earlier.draft, self.draft.take()) {
            (Some(mut draft), Some(later)) if self.under.is_some() => {
                Arc::make_mut(&mut draft).absorb(&later);
                Some(draft)
            }
            (earlier, later) => later.or(earlier),
        };
        self.under = None;
        self.target = self.target.or(earlier.target);
        self.xattrs = self.xattrs.or(earlier.xattrs);
        self.is_new |= earlier.is_new;
        self
    }
}
