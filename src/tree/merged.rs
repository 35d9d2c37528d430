//! A tree with changes laid over it, as one tree: what a journal makes of an archive, and what a new archive is packed from.

use super::{
    Attr, Changes, Draft, Inode, Kind, Name, NameBuf, Named, Node, Owner, PartFrom, Totals, Touched, Tree, Visit, Xattr,
};
use crate::error::{Error, Kind as ErrorKind, Result};
use crate::source::ReadAt;
use std::collections::BTreeMap;
use std::ops::{ControlFlow, Range};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

/// A tree and its changes, to which more come.
///
/// Later changes are made over what this tree shows. Whoever takes them in guards that nobody sees half of them: a file
/// that is open reads as it was when it was opened.
pub struct Merged {
    base: Arc<dyn Tree>,
    changes: RwLock<Arc<Changes>>,
}

impl Merged {
    pub fn new(base: Arc<dyn Tree>, changes: Changes) -> Self {
        Self { base, changes: RwLock::new(Arc::new(changes)) }
    }

    /// The tree below.
    pub fn base(&self) -> &Arc<dyn Tree> {
        &self.base
    }

    /// All changes until now.
    pub fn changes(&self) -> Arc<Changes> {
        self.read().clone()
    }

    /// Lays further changes over it.
    pub fn absorb(&self, later: Changes) {
        let mut changes = self.changes.write().unwrap_or_else(PoisonError::into_inner);
        let changes = Arc::make_mut(&mut changes);
        for (dir, names) in later.names {
            changes.names.entry(dir).or_default().extend(names);
        }
        for (node, inode) in later.nodes {
            let earlier = changes.nodes.remove(&node).flatten();
            let was_new = earlier.as_ref().is_some_and(|inode| inode.is_new);
            match inode {
                None => {
                    changes.names.remove(&node);
                    // What was never below leaves no trace.
                    if !was_new && self.base.attr(node).is_ok() {
                        changes.nodes.insert(node, None);
                    }
                }
                Some(inode) => drop(changes.nodes.insert(node, Some(inode.laid_over(earlier)))),
            }
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, Arc<Changes>> {
        self.changes.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// An inode that was changed.
    fn changed(&self, node: Node) -> Result<Option<Inode>> {
        match self.read().nodes.get(&node) {
            Some(None) => Err(Error::new(ErrorKind::Changed, "the file is gone")),
            Some(Some(inode)) => Ok(Some(inode.clone())),
            None => Ok(None),
        }
    }
}

impl Inode {
    /// This state of an inode, made over an earlier one.
    fn laid_over(mut self, earlier: Option<Inode>) -> Inode {
        let Some(earlier) = earlier else { return self };
        self.draft = match (earlier.draft, self.draft.take()) {
            (Some(mut draft), Some(later)) => {
                Arc::make_mut(&mut draft).absorb(&later);
                Some(draft)
            }
            (earlier, later) => later.or(earlier),
        };
        self.target = self.target.or(earlier.target);
        self.xattrs = self.xattrs.or(earlier.xattrs);
        self.is_new |= earlier.is_new;
        self
    }
}

impl Tree for Merged {
    fn root(&self) -> Node {
        self.base.root()
    }

    fn find(&self, dir: Node, name: Name<'_>) -> Result<Option<Node>> {
        let changes = self.changes();
        if let Some(named) = changes.name(dir, name.bytes()) {
            return Ok(named.map(|(node, _)| node));
        }
        if changes.is_new(dir) { Ok(None) } else { self.base.find(dir, name) }
    }

    fn attr(&self, node: Node) -> Result<Attr> {
        match self.changed(node)? {
            Some(inode) => Ok(Attr { allocated: inode.allocated(), ..inode.attr }),
            None => self.base.attr(node),
        }
    }

    fn list(&self, dir: Node, after: Option<Name<'_>>, visit: &mut Visit<'_>) -> Result<()> {
        let changes = self.changes();
        let base = (!changes.is_new(dir)).then_some(&*self.base);
        list_over(base, dir, after, changes.names.get(&dir).cloned().unwrap_or_default(), visit)
    }

    fn target(&self, link: Node) -> Result<Vec<u8>> {
        match self.changed(link)? {
            Some(Inode { target: Some(target), .. }) => Ok(target),
            _ => self.base.target(link),
        }
    }

    fn open(&self, file: Node) -> Result<Arc<dyn ReadAt>> {
        match self.changed(file)? {
            Some(Inode { draft: Some(draft), is_new: false, .. }) if draft.kept() > 0 => {
                Ok(Arc::new(Drafted::new(draft, Some(self.base.open(file)?))))
            }
            Some(Inode { draft: Some(draft), .. }) => Ok(Arc::new(Drafted::new(draft, None))),
            Some(Inode { is_new: true, .. }) => Ok(Arc::new(Drafted::new(Arc::default(), None))),
            _ => self.base.open(file),
        }
    }

    fn xattrs(&self, node: Node) -> Result<Vec<Xattr>> {
        match self.changed(node)? {
            Some(Inode { xattrs: Some(xattrs), .. }) => Ok(xattrs),
            Some(Inode { is_new: true, .. }) => Ok(Vec::new()),
            _ => self.base.xattrs(node),
        }
    }

    /// The names of who owned it below, as long as it is theirs.
    fn owner(&self, node: Node) -> Result<Owner> {
        let Some(inode) = self.changed(node)? else { return self.base.owner(node) };
        if inode.is_new {
            return Ok(Owner::default());
        }
        let (before, named) = (self.base.attr(node)?, self.base.owner(node)?);
        let user = named.user.filter(|_| before.uid == inode.attr.uid);
        Ok(Owner { user, group: named.group.filter(|_| before.gid == inode.attr.gid) })
    }

    fn totals(&self) -> Result<Totals> {
        let mut totals = self.base.totals()?;
        for (node, inode) in &self.changes().nodes {
            let size = |attr: &Attr| if attr.kind == Kind::File { attr.size } else { 0 };
            let is_new = inode.as_ref().is_some_and(|inode| inode.is_new);
            let before = if is_new { None } else { Some(size(&self.base.attr(*node)?)) };
            totals.nodes = totals.nodes + u64::from(inode.is_some()) - u64::from(before.is_some()).min(totals.nodes);
            totals.bytes = totals.bytes.saturating_sub(before.unwrap_or(0));
            totals.bytes = totals.bytes.saturating_add(inode.as_ref().map_or(0, |inode| size(&inode.attr)));
        }
        Ok(totals)
    }

    fn is_frozen(&self) -> bool {
        false
    }

    fn place(&self, file: Node) -> u64 {
        match self.changed(file) {
            Ok(Some(Inode { draft: None, is_new: false, .. }) | None) => self.base.place(file),
            _ => u64::MAX,
        }
    }
}

/// The names of a directory with changes laid over them: each once, in order where the base has an order.
pub fn list_over(
    base: Option<&dyn Tree>,
    dir: Node,
    after: Option<Name<'_>>,
    mut names: BTreeMap<NameBuf, Named>,
    visit: &mut Visit<'_>,
) -> Result<()> {
    if let Some(after) = after {
        names = names.split_off(after.bytes());
        names.remove(after.bytes());
    }
    let mut over = false;
    let mut merge = |name: Name<'_>, node, kind| {
        while let Some(first) = names.first_entry().filter(|first| first.key().as_name() < name) {
            let (new, to) = first.remove_entry();
            if let Some((node, kind)) = to
                && visit(new.as_name(), node, kind).is_break()
            {
                over = true;
                return ControlFlow::Break(());
            }
        }
        let flow = match names.remove(name.bytes()) {
            Some(None) => ControlFlow::Continue(()),
            Some(Some((node, kind))) => visit(name, node, kind),
            None => visit(name, node, kind),
        };
        over |= flow.is_break();
        flow
    };
    if let Some(base) = base {
        base.list(dir, after, &mut merge)?;
    }
    for (name, to) in names.into_iter().filter(|_| !over) {
        if to.is_some_and(|(node, kind)| visit(name.as_name(), node, kind).is_break()) {
            break;
        }
    }
    Ok(())
}

/// A changed file as bytes.
pub struct Drafted {
    draft: Arc<Draft>,
    below: Option<Arc<dyn ReadAt>>,
}

impl Drafted {
    /// A draft over what was there before, if anything was.
    pub fn new(draft: Arc<Draft>, below: Option<Arc<dyn ReadAt>>) -> Self {
        Self { draft, below }
    }
}

impl ReadAt for Drafted {
    fn len(&self) -> Result<u64> {
        Ok(self.draft.size())
    }

    fn read_at(&self, at: u64, into: &mut [u8]) -> Result<usize> {
        let mut done = 0;
        for part in self.draft.parts(at..at.saturating_add(into.len() as u64)) {
            let len = part.len as usize;
            let piece = &mut into[done..done + len];
            match (&part.from, &self.below) {
                (PartFrom::Touched(Touched::Bytes(bytes, from)), _) => {
                    piece.copy_from_slice(&bytes[*from..*from + len]);
                }
                (PartFrom::Touched(Touched::Copy(source, from)), _) => source.read_exact_at(*from, piece)?,
                (PartFrom::Below, Some(below)) => below.read_exact_at(part.at, piece)?,
                _ => piece.fill(0),
            }
            done += len;
        }
        Ok(done)
    }

    fn will_read(&self, range: Range<u64>) {
        if let Some(below) = &self.below {
            below.will_read(range.start..range.end.min(self.draft.kept()));
        }
    }

    fn next_data(&self, at: u64) -> Result<Option<Range<u64>>> {
        for part in self.draft.parts(at..u64::MAX) {
            let end = part.at + part.len;
            match (&part.from, &self.below) {
                (PartFrom::Touched(Touched::Hole) | PartFrom::Nothing, _) | (PartFrom::Below, None) => {}
                (PartFrom::Touched(_), _) => return Ok(Some(part.at..end)),
                (PartFrom::Below, Some(below)) => {
                    if let Some(data) = below.next_data(part.at)?.filter(|data| data.start < end) {
                        return Ok(Some(data.start.max(part.at)..data.end.min(end)));
                    }
                }
            }
        }
        Ok(None)
    }
}
