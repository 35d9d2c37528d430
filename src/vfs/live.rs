//! A tree that takes changes. What was changed lies in memory, over the tree as it is stored.
//!
//! ```text
//!   live      changes since the last commit began           written to
//!   frozen    changes that a commit is taking in            only while it runs; nobody writes to it
//!   base      the tree as it is stored                      replaced when the commit is done
//! ```
//!
//! Whoever reads sees live over frozen over base, so a commit changes nothing for anybody. The lock of the three is never
//! held over a call of the base: what is needed of it is fetched before, and fetched again if it was replaced meanwhile.

use super::commit::Pulse;
use super::status::{Failures, Status};
use crate::error::{Error, Kind as ErrorKind, Result};
use crate::formats::{Give, Heals, Settled, Watch, Writer};
use crate::pool::lock;
use crate::source::ReadAt;
use crate::tree::{
    Attr, Changes, Draft, Inode, Name, NameBuf, Named, Node, Owner, PartFrom, Time, Totals, Touched, Tree, Visit,
    Xattr, list_over,
};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// A tree and its changes.
pub struct Live {
    pub(super) writer: Arc<dyn Writer>,
    state: RwLock<State>,
    /// Held by whoever changes names: what was checked must hold until it is done.
    naming: Mutex<()>,
    /// Held by whoever commits.
    commits: Mutex<Commits>,
    next_node: AtomicU64,
    /// Open handles of each file that has any.
    opened: Mutex<HashMap<Node, u32>>,
    /// Taken before `opened` by whoever needs both.
    nameless: Mutex<Nameless>,
    /// Bytes of contents and entries that are not committed, about.
    dirty: AtomicU64,
    /// Bytes that are just being written, and were promised room.
    claimed: AtomicU64,
    pub(super) pulse: Pulse,
    last_error: Mutex<Option<String>>,
    /// The files of the base that have handles, and which base that was.
    below: Mutex<(u64, Below)>,
    pub(super) failures: Arc<Failures>,
    /// What finds damage in the container, if it does.
    pub(super) heals: OnceLock<Arc<dyn Heals>>,
}

type Below = HashMap<Node, Arc<dyn ReadAt>>;

/// Files that have no name any more, and are still there.
#[derive(Default)]
struct Nameless {
    /// With true for an inode that somebody knows and may still open; with false for one that only a handle keeps.
    known: HashMap<Node, bool>,
    /// Whether the frontend tells of the inodes that it forgets.
    is_told: bool,
}

pub(super) struct State {
    base: Arc<dyn Tree>,
    frozen: Option<Arc<Changes>>,
    live: Changes,
    departed: Departed,
    /// Nanoseconds that the container tells apart.
    grain: u32,
    /// How often the base was replaced.
    generation: u64,
    /// How often changes were handed to a commit.
    freezes: u64,
    /// Changes so far.
    count: u64,
    /// When the oldest change was made that is not committed.
    since: Option<std::time::Instant>,
}

/// The inodes that went last, as they were. Programs may have them without a handle of ours: a fifo, a directory they
/// stand in, a path the kernel was just about to open.
#[derive(Default)]
struct Departed {
    attrs: HashMap<Node, Attr>,
    order: VecDeque<Node>,
}

impl Departed {
    fn add(&mut self, node: Node, attr: Attr) {
        if self.attrs.insert(node, Attr { nlink: 0, ..attr }).is_none() {
            self.order.push_back(node);
        }
        if self.order.len() > DEPARTED {
            self.order.pop_front().and_then(|first| self.attrs.remove(&first));
        }
    }
}

/// How far commits have come.
#[derive(Default)]
pub(super) struct Commits {
    /// All changes up to this one are durable.
    durable: u64,
}

/// Whether a name was known before the changes that no commit has seen, and when that was asked.
#[derive(Clone, Copy)]
pub(super) struct Had {
    known: bool,
    freezes: u64,
}

/// What an entry costs, in the sum of what is dirty: it takes memory as contents do.
const ENTRY: u64 = 256;

/// How many inodes are remembered that are gone.
const DEPARTED: usize = 16 << 10;

impl State {
    /// The inode, if it was changed. `Some(None)`: it is gone.
    fn changed(&self, node: Node) -> Option<Option<&Inode>> {
        let found = self.live.nodes.get(&node).or_else(|| self.frozen.as_ref()?.nodes.get(&node));
        found.map(Option::as_ref)
    }

    /// Whether the base has no such inode.
    fn is_new(&self, node: Node) -> bool {
        matches!(self.changed(node), Some(Some(inode)) if inode.is_new)
    }

    fn is_gone(&self, node: Node) -> bool {
        matches!(self.changed(node), Some(None)) || self.departed.attrs.contains_key(&node)
    }

    fn name(&self, dir: Node, name: &[u8]) -> Option<Named> {
        self.live.name(dir, name).or_else(|| self.frozen.as_ref()?.name(dir, name))
    }

    /// Makes sure that an inode can be changed. False when its attributes must be fetched first.
    fn lift(&mut self, node: Node, fetched: &[(Node, Attr)]) -> bool {
        if self.live.nodes.contains_key(&node) {
            return true;
        }
        let inode = match self.frozen.as_ref().and_then(|frozen| frozen.nodes.get(&node)) {
            Some(frozen) => frozen.as_ref().map(above),
            None => match fetched.iter().find(|(known, _)| *known == node) {
                Some((_, attr)) => Some(Inode::new(attr.clone(), false)),
                None => return false,
            },
        };
        self.live.nodes.insert(node, inode);
        true
    }

    /// An inode that was lifted.
    pub(super) fn inode(&mut self, node: Node) -> Result<&mut Inode> {
        self.live.nodes.get_mut(&node).and_then(Option::as_mut).ok_or_else(gone)
    }

    /// The contents of a lifted file, to be changed.
    pub(super) fn draft(&mut self, node: Node) -> Result<&mut Draft> {
        let inode = self.inode(node)?;
        let size = inode.attr.size;
        Ok(Arc::make_mut(inode.draft.get_or_insert_with(|| Arc::new(Draft::over(size)))))
    }

    /// Changes the contents of a lifted file.
    pub(super) fn redraft(&mut self, node: Node, work: impl FnOnce(&mut Draft)) -> Result<()> {
        let draft = self.draft(node)?;
        work(draft);
        let size = draft.size();
        self.touch(node)?.size = size;
        Ok(())
    }

    pub(super) fn set_name(&mut self, dir: Node, name: NameBuf, to: Named) {
        self.live.set_name(dir, name, to);
    }

    /// Takes a name away. One that no commit has seen leaves no trace; if a commit began since that was asked, it may
    /// have seen it.
    pub(super) fn take_name(&mut self, dir: Node, name: NameBuf, had: Had) {
        if had.known || had.freezes != self.freezes {
            self.set_name(dir, name, None);
        } else if let Some(names) = self.live.names.get_mut(&dir) {
            names.remove(&name);
        }
    }

    pub(super) fn insert(&mut self, node: Node, inode: Inode) {
        self.live.nodes.insert(node, Some(inode));
    }

    /// Takes a node away. One that no commit has seen leaves no trace.
    pub(super) fn remove(&mut self, node: Node) {
        if let Some(Some(inode)) = self.changed(node) {
            let attr = inode.attr.clone();
            self.departed.add(node, attr);
        }
        let unknown = self.live.nodes.get(&node).and_then(Option::as_ref).is_some_and(|inode| inode.is_new);
        let frozen = self.frozen.as_ref().is_some_and(|frozen| frozen.nodes.contains_key(&node));
        if unknown && !frozen {
            self.live.nodes.remove(&node);
            self.live.names.remove(&node);
        } else {
            self.live.nodes.insert(node, None);
        }
    }

    /// The directory and its names have changed just now.
    pub(super) fn touch(&mut self, node: Node) -> Result<&mut Attr> {
        let now = Time::now().rounded(self.grain);
        let attr = &mut self.inode(node)?.attr;
        (attr.mtime, attr.ctime) = (now, now);
        Ok(attr)
    }
}

/// An inode that stands on a state of it which a commit is taking in.
fn above(frozen: &Inode) -> Inode {
    let draft = frozen.draft.as_ref().map(|draft| Arc::new(Draft::over(draft.size())));
    Inode { draft, under: frozen.draft.clone(), ..frozen.clone() }
}

fn gone() -> Error {
    Error::new(ErrorKind::Changed, "the file is gone")
}

impl Live {
    pub fn new(base: Arc<dyn Tree>, writer: Arc<dyn Writer>) -> Arc<Self> {
        let state = State {
            base,
            frozen: None,
            live: Changes::default(),
            departed: Departed::default(),
            grain: writer.holds().time,
            generation: 0,
            freezes: 0,
            count: 0,
            since: None,
        };
        Arc::new(Self {
            next_node: AtomicU64::new(writer.first_new_node()),
            writer,
            state: RwLock::new(state),
            naming: Mutex::default(),
            commits: Mutex::default(),
            opened: Mutex::default(),
            nameless: Mutex::default(),
            dirty: AtomicU64::new(0),
            claimed: AtomicU64::new(0),
            pulse: Pulse::default(),
            last_error: Mutex::default(),
            below: Mutex::default(),
            failures: Arc::default(),
            heals: OnceLock::new(),
        })
    }

    fn state(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn state_mut(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps all names as they are, but for the holder.
    pub(super) fn naming(&self) -> MutexGuard<'_, ()> {
        lock(&self.naming)
    }

    pub(super) fn new_node(&self) -> Node {
        Node(self.next_node.fetch_add(1, Relaxed))
    }

    /// Changes something, with these nodes at hand. `work` is done once, and by nobody else meanwhile.
    pub(super) fn edit<T>(&self, nodes: &[Node], work: impl FnOnce(&mut State) -> Result<T>) -> Result<T> {
        let (mut fetched, mut generation) = (Vec::new(), u64::MAX);
        loop {
            let mut state = self.state_mut();
            if nodes.iter().any(|node| state.is_gone(*node)) {
                return Err(gone());
            }
            if state.generation != generation {
                generation = state.generation;
                fetched.clear();
            }
            let missing: Vec<Node> = nodes.iter().copied().filter(|node| !state.lift(*node, &fetched)).collect();
            if missing.is_empty() {
                state.count += 1;
                state.since.get_or_insert_with(std::time::Instant::now);
                self.dirty.fetch_add(ENTRY * nodes.len() as u64, Relaxed);
                let done = work(&mut state);
                drop(state);
                self.pulse.changed();
                return done;
            }
            let base = state.base.clone();
            drop(state);
            for node in missing {
                fetched.push((node, base.attr(node)?));
            }
        }
    }

    /// Whether a name was there before the changes that no commit has seen.
    pub(super) fn had(&self, dir: Node, name: Name<'_>) -> Result<Had> {
        let state = self.state();
        let freezes = state.freezes;
        let had = |known| Ok(Had { known, freezes });
        if let Some(known) = state.frozen.as_ref().and_then(|frozen| frozen.name(dir, name.bytes())) {
            return had(known.is_some());
        }
        if state.is_new(dir) {
            return had(false);
        }
        let base = state.base.clone();
        drop(state);
        had(base.find(dir, name)?.is_some())
    }

    /// Bytes that wait for a commit.
    pub fn dirty(&self) -> u64 {
        self.dirty.load(Relaxed)
    }

    /// Counts bytes that an edit takes in. Asked within the edit, so that its commit counts them off.
    pub(super) fn add_dirty(&self, bytes: u64) {
        self.dirty.fetch_add(bytes, Relaxed);
    }

    /// Takes care that bytes can be written, until they are counted as dirty. When the disk seems to be full, what waits
    /// is committed first: it may need less than it was counted for, or give room back.
    pub(super) fn reserve(&self, bytes: u64) -> Result<Claim<'_>> {
        self.claimed.fetch_add(bytes, Relaxed);
        let claim = Claim { live: self, bytes };
        match self.ask_for_room() {
            Err(e) if e.kind() == ErrorKind::NoSpace => {
                self.forget_all()?;
                if self.dirty() > 0 {
                    self.sync()?;
                }
                self.upkeep(Give::All);
                self.ask_for_room()?;
            }
            asked => asked?,
        }
        Ok(claim)
    }

    /// Has the writer give space back that nothing needs any more.
    pub(super) fn upkeep(&self, when: Give) {
        let commits = lock(&self.commits);
        self.give_back(&commits, when);
    }

    fn give_back(&self, _no_commit: &Commits, when: Give) {
        let freed = self.writer.upkeep(when, &mut |tree| self.show(tree));
        match freed {
            Ok(0) => {}
            Ok(freed) => log::info!("{freed} bytes were given back"),
            Err(e) => log::warn!("no space was given back: {e}"),
        }
    }

    /// Brings into the archive what is only in its journal.
    pub(super) fn settle(&self, watch: &dyn Watch) -> Result<Settled> {
        self.sync()?;
        let _no_commit = lock(&self.commits);
        let settled = self.writer.settle(watch, &mut |tree| self.show(tree));
        if let Err(e) = &settled {
            self.failures.note(None, e);
        }
        settled
    }

    /// Waits for what goes over a link. Whoever writes goes on meanwhile.
    pub(super) fn flush(&self, watch: &dyn Watch) -> Result<()> {
        self.sync()?;
        self.writer.flush(watch)
    }

    /// Has the writer bring up to date what protects the container.
    pub(super) fn protect(&self, watch: &dyn Watch) {
        let _no_commit = lock(&self.commits);
        if let Err(e) = self.writer.protect(watch) {
            log::error!("{e}");
            self.failures.note(None, &e);
        }
    }

    /// Pieces that were found damaged and made good, so far.
    pub(super) fn healed(&self) -> u64 {
        self.heals.get().map_or(0, |heals| heals.health().healed)
    }

    /// Another tree in place of the base, which shows the same.
    fn show(&self, tree: Arc<dyn Tree>) {
        let mut state = self.state_mut();
        state.base = tree;
        state.generation += 1;
        let generation = state.generation;
        drop(state);
        *lock(&self.below) = (generation, HashMap::new());
    }

    fn ask_for_room(&self) -> Result<()> {
        self.writer.reserve(self.dirty() + self.claimed.load(Relaxed), self.dirty() / ENTRY + 1)
    }

    /// Tells how the tree stands to what is stored of it.
    pub fn fill_in(&self, status: &mut Status) {
        let state = self.state();
        let pending = state.live.entries() + state.frozen.as_ref().map_or(0, |frozen| frozen.entries());
        status.waiting = state.since.map_or(0.0, |since| since.elapsed().as_secs_f64());
        drop(state);
        status.pending = pending;
        status.dirty_bytes = if pending == 0 { 0 } else { self.dirty() };
        status.last_error = lock(&self.last_error).clone();
        status.sequence = Some(self.writer.sequence());
        let unsettled = self.writer.unsettled();
        (status.unsettled, status.unsettled_bytes) = (unsettled.entries, unsettled.bytes);
        status.settling = self.writer.settling();
        status.outgoing = self.writer.outgoing();
        status.refuge = self.writer.refuge().map(|path| path.display().to_string());
    }

    pub fn is_open(&self, node: Node) -> bool {
        lock(&self.opened).contains_key(&node)
    }

    /// From here on a file without a name stays until it is forgotten as well.
    pub(super) fn expect_forgets(&self) {
        lock(&self.nameless).is_told = true;
    }

    /// Keeps a file whose last name goes, in the edit that takes it. False when nobody can ask for it any more.
    pub(super) fn keep_nameless(&self, node: Node) -> bool {
        let mut nameless = lock(&self.nameless);
        let is_known = nameless.is_told;
        let keeps = is_known || self.is_open(node);
        if keeps {
            nameless.known.insert(node, is_known);
        }
        keeps
    }

    /// The file has a name again, or is gone.
    pub(super) fn note_name(&self, node: Node) {
        lock(&self.nameless).known.remove(&node);
    }

    /// Who knew this inode does not any more.
    pub(super) fn forget(&self, node: Node) -> Result<()> {
        match lock(&self.nameless).known.get_mut(&node) {
            Some(known) => *known = false,
            None => return Ok(()),
        }
        self.part_with(node)
    }

    pub(super) fn is_nameless(&self, node: Node) -> bool {
        lock(&self.nameless).known.contains_key(&node)
    }

    /// Takes all files away that have no name and no handle, whoever knows them.
    pub(super) fn forget_all(&self) -> Result<()> {
        let nodes: Vec<Node> = lock(&self.nameless).known.keys().copied().collect();
        nodes.into_iter().try_for_each(|node| self.forget(node))
    }

    /// Takes a file away that has no name, unless somebody has it open or knows it.
    fn part_with(&self, node: Node) -> Result<()> {
        let is_over = || lock(&self.nameless).known.get(&node) == Some(&false) && !self.is_open(node);
        if !is_over() {
            return Ok(());
        }
        self.edit(&[node], |state| {
            // It may have been opened or linked meanwhile.
            if is_over() {
                self.note_name(node);
                state.remove(node);
            }
            Ok(())
        })
    }

    /// Remembers a handle, unless the file is gone. Whoever takes the last name away asks for handles in the same edit.
    pub(super) fn note_open(&self, node: Node) -> Result<()> {
        let state = self.state();
        if state.is_gone(node) {
            return Err(gone());
        }
        *lock(&self.opened).entry(node).or_insert(0) += 1;
        Ok(())
    }

    /// Forgets a handle; a file without a name goes with its last one.
    pub(super) fn note_close(&self, node: Node) -> Result<()> {
        let mut opened = lock(&self.opened);
        let Some(count) = opened.get_mut(&node) else { return Ok(()) };
        *count -= 1;
        if *count > 0 {
            return Ok(());
        }
        opened.remove(&node);
        drop(opened);
        lock(&self.below).1.remove(&node);
        self.part_with(node)
    }

    /// Makes everything durable that was done before.
    pub fn sync(&self) -> Result<()> {
        let wanted = self.state().count;
        let mut commits = lock(&self.commits);
        // Whoever held the lock may have taken our changes along.
        if commits.durable >= wanted {
            return Ok(());
        }
        match self.commit(&mut commits) {
            Err(e) if e.kind() == ErrorKind::NoSpace => {
                self.give_back(&commits, Give::All);
                self.commit(&mut commits)?;
            }
            done => done?,
        }
        self.give_back(&commits, Give::Tight);
        Ok(())
    }

    fn commit(&self, commits: &mut Commits) -> Result<()> {
        let mut state = self.state_mut();
        let (count, since, dirty) = (state.count, state.since.take(), self.dirty());
        let frozen = Arc::new(std::mem::take(&mut state.live));
        if frozen.is_empty() {
            commits.durable = count;
            self.dirty.fetch_sub(dirty, Relaxed);
            return Ok(());
        }
        state.frozen = Some(frozen.clone());
        state.freezes += 1;
        drop(state);
        let done = self.writer.commit(&frozen);
        if let Err(e) = &done {
            self.failures.note(None, e);
        }
        *lock(&self.last_error) = done.as_ref().err().map(ToString::to_string);
        let mut state = self.state_mut();
        state.frozen = None;
        match done {
            Ok(tree) => {
                state.base = tree;
                state.generation += 1;
                *lock(&self.below) = (state.generation, HashMap::new());
                let live = state.live.nodes.iter_mut().filter(|(node, _)| frozen.nodes.contains_key(node));
                live.filter_map(|(_, inode)| inode.as_mut()).for_each(|inode| {
                    inode.attr.allocated = inode.allocated_below();
                    inode.under = None;
                    inode.is_new = false;
                });
                commits.durable = count;
                self.dirty.fetch_sub(dirty, Relaxed);
                Ok(())
            }
            Err(e) => {
                let later = std::mem::take(&mut state.live);
                state.live = Arc::try_unwrap(frozen).unwrap_or_else(|shared| (*shared).clone());
                state.live.absorb(later);
                state.since = since.or(state.since);
                Err(e)
            }
        }
    }

    /// What a file reads as: where each stretch of a range is, and the tree for what lies below.
    fn layers(&self, file: Node, range: Range<u64>) -> Result<Layers> {
        let state = self.state();
        let base = state.base.clone();
        let generation = state.generation;
        let inode = match state.changed(file) {
            Some(None) => return Err(gone()),
            Some(Some(inode)) if inode.draft.is_some() => inode,
            // A new file that nobody has written to.
            Some(Some(inode)) if inode.is_new => return Ok(Layers { base, generation, parts: Some(Vec::new()) }),
            _ => return Ok(Layers { base, generation, parts: None }),
        };
        let draft = inode.draft.as_ref().expect("it was asked for");
        let mut parts = Vec::new();
        for part in draft.parts(range) {
            match (&part.from, &inode.under) {
                (PartFrom::Below, Some(under)) => parts.extend(under.parts(part.at..part.at + part.len)),
                _ => parts.push(part),
            }
        }
        Ok(Layers { base, generation, parts: Some(parts) })
    }
}

/// Room for bytes that are being written: nobody else is promised it meanwhile.
pub(super) struct Claim<'a> {
    live: &'a Live,
    bytes: u64,
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        self.live.claimed.fetch_sub(self.bytes, Relaxed);
    }
}

struct Layers {
    base: Arc<dyn Tree>,
    generation: u64,
    /// `None`: all of it is as in the base.
    parts: Option<Vec<crate::tree::Part>>,
}

impl Tree for Live {
    fn root(&self) -> Node {
        self.state().base.root()
    }

    fn find(&self, dir: Node, name: Name<'_>) -> Result<Option<Node>> {
        let state = self.state();
        if let Some(named) = state.name(dir, name.bytes()) {
            return Ok(named.map(|(node, _)| node));
        }
        if state.is_new(dir) {
            return Ok(None);
        }
        let base = state.base.clone();
        drop(state);
        base.find(dir, name)
    }

    fn attr(&self, node: Node) -> Result<Attr> {
        let state = self.state();
        if let Some(attr) = state.departed.attrs.get(&node) {
            return Ok(attr.clone());
        }
        match state.changed(node) {
            Some(None) => Err(gone()),
            Some(Some(inode)) => Ok(Attr { allocated: inode.allocated(), ..inode.attr.clone() }),
            None => {
                let base = state.base.clone();
                drop(state);
                base.attr(node)
            }
        }
    }

    fn list(&self, dir: Node, after: Option<Name<'_>>, visit: &mut Visit<'_>) -> Result<()> {
        let state = self.state();
        let mut names: BTreeMap<NameBuf, Named> = BTreeMap::new();
        for changes in state.frozen.as_deref().into_iter().chain([&state.live]) {
            names.extend(changes.names.get(&dir).into_iter().flatten().map(|(name, to)| (name.clone(), *to)));
        }
        let base = (!state.is_new(dir)).then(|| state.base.clone());
        drop(state);
        list_over(base.as_deref(), dir, after, names, visit)
    }

    fn target(&self, link: Node) -> Result<Vec<u8>> {
        let state = self.state();
        match state.changed(link) {
            Some(None) => return Err(gone()),
            Some(Some(Inode { target: Some(target), .. })) => return Ok(target.clone()),
            _ => {}
        }
        let base = state.base.clone();
        drop(state);
        base.target(link)
    }

    /// The file as it is whenever it is read.
    fn open(&self, _: Node) -> Result<Arc<dyn ReadAt>> {
        Err(Error::new(ErrorKind::Invalid, "a file of a living tree is opened by its handle"))
    }

    fn xattrs(&self, node: Node) -> Result<Vec<Xattr>> {
        let state = self.state();
        match state.changed(node) {
            _ if state.is_gone(node) => return Err(gone()),
            Some(Some(Inode { xattrs: Some(xattrs), .. })) => return Ok(xattrs.clone()),
            Some(Some(Inode { is_new: true, .. })) => return Ok(Vec::new()),
            _ => {}
        }
        let base = state.base.clone();
        drop(state);
        base.xattrs(node)
    }

    fn owner(&self, node: Node) -> Result<Owner> {
        let state = self.state();
        if state.is_new(node) {
            return Ok(Owner::default());
        }
        let base = state.base.clone();
        drop(state);
        base.owner(node)
    }

    fn totals(&self) -> Result<Totals> {
        let base = self.state().base.clone();
        base.totals()
    }

    fn is_frozen(&self) -> bool {
        false
    }
}

/// A file of a living tree: reads as it is at that moment.
pub struct LiveFile {
    live: Arc<Live>,
    node: Node,
}

impl LiveFile {
    pub fn new(live: Arc<Live>, node: Node) -> Self {
        Self { live, node }
    }

    fn below(&self, layers: &Layers) -> Result<Arc<dyn ReadAt>> {
        let known = |below: &(u64, Below)| below.1.get(&self.node).filter(|_| below.0 == layers.generation).cloned();
        if let Some(file) = known(&lock(&self.live.below)) {
            return Ok(file);
        }
        let file = layers.base.open(self.node)?;
        // Kept here and not in the handle: nobody may hold a base that was replaced.
        if self.live.is_open(self.node) {
            let mut below = lock(&self.live.below);
            if below.0 == layers.generation {
                below.1.insert(self.node, file.clone());
            }
        }
        Ok(file)
    }

    /// Makes a stretch of another file read as this one does; `true` when that needed no bytes.
    pub(super) fn copy_to(&self, range: Range<u64>, to: &mut dyn FnMut(u64, Copied) -> Result<()>) -> Result<()> {
        let layers = self.live.layers(self.node, range.clone())?;
        let Some(parts) = &layers.parts else {
            let below = self.below(&layers)?;
            let len = range.end.min(below.len()?).saturating_sub(range.start);
            return to(range.start, Copied::Shared(below, range.start, len));
        };
        for part in parts {
            let copied = match &part.from {
                PartFrom::Touched(Touched::Bytes(bytes, at)) => {
                    Copied::Bytes(bytes[*at..*at + part.len as usize].to_vec())
                }
                PartFrom::Touched(Touched::Copy(source, at)) => Copied::Shared(source.clone(), *at, part.len),
                PartFrom::Below => Copied::Shared(self.below(&layers)?, part.at, part.len),
                PartFrom::Touched(Touched::Hole) | PartFrom::Nothing => Copied::Hole(part.len),
            };
            to(part.at, copied)?;
        }
        Ok(())
    }
}

/// What a stretch of a copied file consists of.
pub(super) enum Copied {
    Bytes(Vec<u8>),
    Shared(Arc<dyn ReadAt>, u64, u64),
    Hole(u64),
}

impl ReadAt for LiveFile {
    fn len(&self) -> Result<u64> {
        Ok(self.live.attr(self.node)?.size)
    }

    fn read_at(&self, at: u64, into: &mut [u8]) -> Result<usize> {
        let layers = self.live.layers(self.node, at..at + into.len() as u64)?;
        let Some(parts) = &layers.parts else { return self.below(&layers)?.read_at(at, into) };
        let mut done = 0;
        for part in parts {
            let len = part.len as usize;
            let piece = &mut into[done..done + len];
            match &part.from {
                PartFrom::Touched(Touched::Bytes(bytes, from)) => piece.copy_from_slice(&bytes[*from..*from + len]),
                PartFrom::Touched(Touched::Copy(source, from)) => source.read_exact_at(*from, piece)?,
                PartFrom::Below => self.below(&layers)?.read_exact_at(part.at, piece)?,
                PartFrom::Touched(Touched::Hole) | PartFrom::Nothing => piece.fill(0),
            }
            done += len;
        }
        Ok(done)
    }

    fn will_read(&self, range: Range<u64>) {
        let Ok(layers) = self.live.layers(self.node, range.start..range.start) else { return };
        if let (None, Ok(below)) = (&layers.parts, self.below(&layers)) {
            below.will_read(range);
        }
    }

    fn next_data(&self, at: u64) -> Result<Option<Range<u64>>> {
        let layers = self.live.layers(self.node, at..u64::MAX)?;
        let Some(parts) = &layers.parts else { return self.below(&layers)?.next_data(at) };
        for part in parts {
            let end = part.at + part.len;
            match &part.from {
                PartFrom::Touched(Touched::Hole) | PartFrom::Nothing => {}
                PartFrom::Touched(_) => return Ok(Some(part.at..end)),
                PartFrom::Below => {
                    if let Some(data) = self.below(&layers)?.next_data(part.at)?.filter(|data| data.start < end) {
                        return Ok(Some(data.start.max(part.at)..data.end.min(end)));
                    }
                }
            }
        }
        Ok(None)
    }
}
