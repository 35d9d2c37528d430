//! The tree that is taken, and its files while a commit reads them.

use crate::error::{Error, Kind as ErrorKind, Result};
use crate::formats::Watch;
use crate::pool::lock;
use crate::source::ReadAt;
use crate::tree::{Attr, Draft, Node, Owner, Tree};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

/// A tree that is to be taken into a container, and who watches it.
pub struct Source {
    tree: Arc<dyn Tree>,
    watch: Arc<dyn Watch>,
    /// The file that is being read. One is enough: a commit reads one after the other.
    open: Mutex<Option<(Node, Arc<dyn ReadAt>)>>,
    fault: Mutex<Option<Fault>>,
    /// Names of users and groups, by their numbers.
    users: Mutex<HashMap<u32, Option<String>>>,
    groups: Mutex<HashMap<u32, Option<String>>>,
    /// Bytes and entries that the watch was told of.
    announced: [AtomicU64; 2],
}

/// A file that could not be read.
pub struct Fault {
    pub node: Node,
    pub path: Box<[u8]>,
    pub error: Error,
}

impl Source {
    pub fn new(tree: Arc<dyn Tree>, watch: Arc<dyn Watch>) -> Self {
        let (open, fault, announced) = (Mutex::default(), Mutex::default(), Default::default());
        Self { tree, watch, open, fault, users: Mutex::default(), groups: Mutex::default(), announced }
    }

    /// What the tree calls a user and a group, of those whose files were taken.
    pub fn owner(&self, uid: u32, gid: u32) -> Owner {
        let name = |names: &Mutex<HashMap<_, Option<String>>>, id| lock(names).get(&id).cloned().flatten();
        Owner { user: name(&self.users, uid), group: name(&self.groups, gid) }
    }

    /// Learns what the owner of a node is called.
    pub(super) fn learn(&self, node: Node, attr: &Attr) -> Result<()> {
        if lock(&self.users).contains_key(&attr.uid) && lock(&self.groups).contains_key(&attr.gid) {
            return Ok(());
        }
        let Owner { user, group } = self.tree.owner(node)?;
        lock(&self.users).insert(attr.uid, user);
        lock(&self.groups).insert(attr.gid, group);
        Ok(())
    }

    pub(super) fn tree(&self) -> &dyn Tree {
        &*self.tree
    }

    pub(super) fn watch(&self) -> &dyn Watch {
        &*self.watch
    }

    /// # Errors
    /// `Interrupted` when the work is to end.
    pub(super) fn check(&self) -> Result<()> {
        if self.watch.is_cancelled() { Err(Error::new(ErrorKind::Interrupted, "interrupted")) } else { Ok(()) }
    }

    /// So much more lies ahead.
    pub(super) fn announce(&self, bytes: u64, entries: u64) {
        let [all_bytes, all_entries] = &self.announced;
        let bytes = all_bytes.fetch_add(bytes, Relaxed) + bytes;
        self.watch.total(bytes, all_entries.fetch_add(entries, Relaxed) + entries);
    }

    /// The contents of a file, to be read when they are committed; only where they lie is looked up now.
    pub(super) fn draft(self: &Arc<Self>, node: Node, attr: &Attr, path: &[u8]) -> Result<Draft> {
        let size = attr.size;
        // What cannot be opened is known before the commit begins.
        let file = self.tree.open(node)?;
        let late: Arc<dyn ReadAt> = Arc::new(Late { source: self.clone(), node, size, path: path.into() });
        let mut draft = Draft::default();
        draft.set_size(size);
        if attr.allocated >= size {
            draft.copy(0, size, late, 0);
            return Ok(draft);
        }
        let mut at = 0;
        while let Some(data) = file.next_data(at)?.filter(|data| data.start < size && data.end > at) {
            at = data.end.min(size);
            draft.copy(data.start, at - data.start, late.clone(), data.start);
        }
        Ok(draft)
    }

    /// Why the last commit failed, when a file of the source is to blame.
    pub(super) fn take_fault(&self) -> Option<Fault> {
        lock(&self.fault).take()
    }

    /// Closes the file that was read last.
    pub(super) fn close(&self) {
        lock(&self.open).take();
    }
}

/// A file that is opened when it is read, and closed when the next one is: there may be more files than a process may
/// have open.
struct Late {
    source: Arc<Source>,
    node: Node,
    size: u64,
    path: Box<[u8]>,
}

impl Late {
    fn file(&self) -> Result<Arc<dyn ReadAt>> {
        let mut open = lock(&self.source.open);
        if let Some((_, file)) = open.as_ref().filter(|(node, _)| *node == self.node) {
            return Ok(file.clone());
        }
        self.source.watch.entry(&self.path);
        let file = self.source.tree.open(self.node)?;
        *open = Some((self.node, file.clone()));
        Ok(file)
    }

    fn read(&self, at: u64, into: &mut [u8]) -> Result<()> {
        let got = self.file()?.read_at(at, into)?;
        if got < into.len() {
            return Err(Error::new(ErrorKind::Changed, "it got shorter while it was being read"));
        }
        self.source.watch.advance(got as u64, 0);
        Ok(())
    }
}

impl ReadAt for Late {
    fn len(&self) -> Result<u64> {
        Ok(self.size)
    }

    fn read_at(&self, at: u64, into: &mut [u8]) -> Result<usize> {
        self.source.check()?;
        let len = into.len().min(self.size.saturating_sub(at).try_into().unwrap_or(usize::MAX));
        match self.read(at, &mut into[..len]) {
            Ok(()) => Ok(len),
            Err(error) => {
                let told = Error::new(error.kind(), "a file of the source cannot be read");
                *lock(&self.source.fault) = Some(Fault { node: self.node, path: self.path.clone(), error });
                Err(told)
            }
        }
    }
}
