//! The writer of archives that cannot take changes one by one: they become durable in a journal beside the archive, and are
//! brought into it later, all at once.
//!
//! ```text
//!   commit   changes ──► one batch of the journal, one sync          cheap; what fsync waits for
//!   settle   archive + all changes ──► the archive, anew or longer   at the unmount, when idle, when asked for
//!
//!   readers see        Merged { archive, changes in the journal }
//!   after a settle     Merged { the new archive, nothing }, its inodes under the numbers that they had
//! ```
//!
//! The journal knows which archive it belongs to, by its [`Stamp`], and before an archive is replaced, which one that will
//! be: after a crash it is either not there, or for the old archive and replayed, or for the new one and thrown away.
//!
//! ```text
//!  record   changes as bytes        file   batches, whole or not at all        layout   fixed structures
//!  meter    how far a settling has come
//! ```
#![doc = include_str!("FORMAT.md")]

mod file;
mod layout;
mod meter;
pub mod record;

use super::{Give, Holds, Notes, Settle, Settled, Task, Undo, Undone, Watch, Writer};
use crate::error::{Error, Kind, Result};
use crate::key::Secret;
use crate::pool::lock;
use crate::source::{ReadAt, Stamp, Store};
use crate::tree::{Changes, Difference, Draft, Inode, Kind as NodeKind, Merged, Node, Renumbered, Tree, differences};
use file::Journal;
pub use layout::HEADER_LEN;
use meter::Meter;
use record::Id;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

/// Space of the journal is asked for in steps of so many bytes.
const RESERVE_STEP: u64 = 8 << 20;
/// What an entry needs in a record, at most, without what its attributes hold.
const ENTRY: u64 = 512;
/// Inodes have smaller numbers than this.
const NODES: u64 = 1 << 62;
/// In a journal, an inode of an archive of before, which has no name any more, has its number and this.
const FORMER: u64 = 1 << 48;
/// Kept for changes that need none for contents, such as deleting on a full disk.
const RESERVE: u64 = 1 << 20;

/// Where a journal lies.
pub trait Journals: Send + Sync {
    /// The journal that is there.
    fn open(&self) -> Result<Option<Arc<dyn Store>>>;

    /// A new empty file for one, in place of what is there.
    fn create(&self) -> Result<Arc<dyn Store>>;

    /// Takes it away: nothing in it is needed any more. Who has it open reads on.
    fn remove(&self) -> Result<()>;

    /// Where it is, for messages.
    fn path(&self) -> PathBuf;
}

/// A writer with a journal.
pub struct Journaled {
    archive: Arc<dyn Settle>,
    journals: Box<dyn Journals>,
    /// Of an archive that is encrypted: the journal is so as well.
    password: Option<Secret>,
    /// From this number on, nodes are none of the archive; and none of the journal either.
    origin: u64,
    first_new: u64,
    state: Mutex<State>,
    sequence: AtomicU64,
    /// What is in the journal and not in the archive; and how far it is brought in. Asked for while that goes on.
    unsettled: Mutex<Settled>,
    meter: Meter,
    /// Where the next batch begins, and up to where there is space.
    end: AtomicU64,
    reserved: AtomicU64,
}

struct State {
    merged: Arc<Merged>,
    journal: Option<Journal>,
    /// The archive as it is now.
    archive: Arc<Renumbered>,
}

/// What was found in a journal when its archive was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Replayed {
    pub batches: u64,
    pub entries: u64,
    pub bytes: u64,
}

/// What the journal beside an archive means for it.
pub enum Standing {
    /// There is none, or nothing in it is needed.
    Clean,
    /// It has changes that are not in the archive.
    Pending,
    /// It has such changes, and an attempt to bring them in has begun to write to the archive.
    Torn(Undo),
}

/// Looks whether a journal belongs to an archive.
///
/// # Errors
/// `Changed` when it belongs to another one, or to another state of it.
pub fn standing(journals: &dyn Journals, archive: &Arc<dyn ReadAt>) -> Result<Standing> {
    let Some(store) = journals.open()? else { return Ok(Standing::Clean) };
    let place = || journals.path().display().to_string();
    if store.len()? < layout::HEADER_LEN {
        // Whoever made it has not come so far as to write anything.
        return Ok(Standing::Clean);
    }
    let header = Journal::header(&*store).map_err(|e| e.within(place()))?;
    let (now, base) = (Stamp::of(&**archive)?, file::base(&header));
    if file::target(&header) == Some(now) {
        return Ok(Standing::Clean);
    }
    if now == base {
        return Ok(Standing::Pending);
    }
    if let Some(undo) = file::undo(&header).filter(|undo| undo.at <= now.len) {
        let undone = Undone { archive: archive.clone(), undo };
        if Stamp::of(&undone)? == base {
            return Ok(Standing::Torn(undone.undo));
        }
    }
    Err(Error::new(Kind::Changed, format!("{} has changes to another state of the archive", place())).hint(
        "put the archive back as it was; or move the journal away, and the changes with it; `-o ro` mounts the archive as it is",
    ))
}

/// Whether something in a journal is not in the archive.
fn is_needed(store: &dyn ReadAt, archive: &dyn Settle) -> Result<bool> {
    if store.len()? < layout::HEADER_LEN {
        return Ok(false);
    }
    let target = file::target(&Journal::header(store)?);
    Ok(target.is_none() || target != Some(archive.stamp()?))
}

/// Whether nothing is changed but files without a name, which no archive has.
fn is_settled(changes: &Changes) -> bool {
    changes.names.is_empty() && changes.nodes.values().all(|inode| inode.as_ref().is_some_and(is_nameless))
}

fn is_nameless(inode: &Inode) -> bool {
    inode.attr.nlink == 0 && inode.attr.kind != NodeKind::Directory
}

fn unsettled(changes: &Changes) -> Settled {
    match is_settled(changes) {
        true => Settled::default(),
        false => Settled { entries: changes.entries(), bytes: changes.touched() },
    }
}

/// What takes files away that have no name.
fn without_nameless(changes: &Changes) -> Changes {
    let nameless = changes.nodes.iter().filter(|(_, inode)| inode.as_ref().is_some_and(is_nameless));
    Changes { nodes: nameless.map(|(node, _)| (*node, None)).collect(), ..Changes::default() }
}

/// Files that somebody has open and that have no name: they go on, with what they have in the archive and the journal of
/// before.
fn nameless(merged: &Merged, changes: &Changes) -> Result<Changes> {
    let mut kept = Changes::default();
    for (node, inode) in &changes.nodes {
        let Some(inode) = inode.as_ref().filter(|inode| is_nameless(inode)) else { continue };
        let mut inode = Inode { is_new: true, ..inode.clone() };
        if inode.attr.kind == NodeKind::File {
            let mut draft = Draft::default();
            draft.copy(0, inode.attr.size, merged.open(*node)?, 0);
            inode.draft = Some(Arc::new(draft));
        }
        kept.nodes.insert(*node, Some(inode));
    }
    Ok(kept)
}

/// Makes sure that what a journal says is a tree: somebody else may have written it.
fn sound(merged: &Merged) -> Result<()> {
    let wrong = |what: &str| Error::new(Kind::Damaged, format!("the journal cannot be right: {what}"));
    let changes = merged.changes();
    let (mut named, mut moves) = (HashSet::new(), false);
    for (node, kind) in changes.names.values().flat_map(BTreeMap::values).flatten() {
        if merged.attr(*node)?.kind != *kind {
            return Err(wrong("a name leads to something else than it says"));
        }
        if *kind == NodeKind::Symlink {
            merged.target(*node)?;
        }
        if *kind == NodeKind::Directory && !named.insert(*node) {
            return Err(wrong(TWICE));
        }
        // One that was there before has a name there, and it may be in itself now.
        moves |= *kind == NodeKind::Directory && !changes.is_new(*node);
    }
    if moves { walk(merged).and_then(|once| if once { Ok(()) } else { Err(wrong(TWICE)) }) } else { Ok(()) }
}

const TWICE: &str = "a directory has two names";

/// Whether each directory is met once.
fn walk(tree: &dyn Tree) -> Result<bool> {
    let (mut todo, mut seen) = (vec![tree.root()], HashSet::from([tree.root()]));
    while let Some(dir) = todo.pop() {
        let mut once = true;
        tree.list(dir, None, &mut |_, node, kind| {
            if kind == NodeKind::Directory {
                once &= seen.insert(node);
                todo.push(node);
            }
            if once { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        if !once {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The changes of a batch. Inodes that are new have numbers from `origin` on.
fn replay(batch: &file::Read, origin: u64, archive: &dyn Settle) -> Result<Changes> {
    let mut found = HashMap::new();
    if let Some(lasting) = archive.lasting() {
        for (number, path) in record::paths_of(&batch.record)? {
            found.insert(number, lasting.find(&path)?);
        }
    }
    let node = |id| match id {
        Id::Base(number) => found.get(&number).copied().unwrap_or(Node(number)),
        Id::New(number) => Node(number.saturating_add(origin)),
    };
    let changes = record::decode(&batch.record, &batch.contents, node)?;
    match changes.nodes.keys().chain(changes.names.keys()).all(|node| node.0 < NODES) {
        true => Ok(changes),
        false => Err(Error::new(Kind::Limit, "an inode in the journal has a number that is too large")),
    }
}

impl Journaled {
    /// Takes an archive over, with what is in its journal.
    pub fn new(
        tree: Arc<dyn Tree>,
        first_new: u64,
        archive: Arc<dyn Settle>,
        journals: Box<dyn Journals>,
        password: Option<Secret>,
    ) -> Result<(Self, Replayed)> {
        let tree = Arc::new(Renumbered::as_is(tree));
        let merged = Arc::new(Merged::new(tree.clone(), Changes::default()));
        let (mut replayed, mut next) = (Replayed::default(), first_new);
        let journal = match journals.open()? {
            Some(store) if is_needed(&*store, &*archive)? => {
                let (opened, batches) = Journal::open(store, password.as_ref())?;
                for batch in batches {
                    let changes = replay(&batch, first_new, &*archive)?;
                    // Inodes of an archive of before are no numbers to go on from.
                    let new = changes.nodes.keys().filter(|node| node.0 < first_new + FORMER);
                    next = new.map(|node| node.0 + 1).fold(next, u64::max);
                    replayed.batches += 1;
                    replayed.entries += changes.entries();
                    replayed.bytes += changes.touched();
                    merged.absorb(changes);
                }
                // Nobody has such a file open any more, and what it had before may be in no place.
                merged.absorb(without_nameless(&merged.changes()));
                sound(&merged)?;
                Some(opened)
            }
            Some(_) => {
                journals.remove()?;
                None
            }
            None => None,
        };
        let end = AtomicU64::new(journal.as_ref().map_or(0, Journal::len));
        let writer = Self {
            archive,
            journals,
            password,
            origin: first_new,
            first_new: next,
            sequence: AtomicU64::new(replayed.batches),
            unsettled: Mutex::new(unsettled(&merged.changes())),
            meter: Meter::default(),
            reserved: AtomicU64::new(end.load(Relaxed)),
            end,
            state: Mutex::new(State { merged, journal, archive: tree }),
        };
        Ok((writer, replayed))
    }

    /// The archive with all that is in the journal.
    pub fn tree(&self) -> Arc<dyn Tree> {
        lock(&self.state).merged.clone()
    }

    /// The same, with what is in it.
    pub fn merged(&self) -> Arc<Merged> {
        lock(&self.state).merged.clone()
    }

    /// Whether nothing is in the journal that the archive has not.
    pub fn is_empty(&self) -> bool {
        is_settled(&lock(&self.state).merged.changes())
    }

    /// Goes on over another tree, which shows the same under the same numbers as the one before. `kept` are files without a
    /// name that are to go on, too.
    pub fn rebase(&self, tree: Arc<dyn Tree>, kept: Changes) -> Arc<dyn Tree> {
        let mut state = lock(&self.state);
        let merged = Arc::new(Merged::new(tree.clone(), kept));
        merged.absorb((*state.merged.changes()).clone());
        (state.archive, state.merged) = (Arc::new(Renumbered::as_is(tree)), merged.clone());
        merged
    }

    /// Files without a name that somebody has open, as they go on when all else is where it belongs. To be asked for while
    /// what they are made of is still there; one that cannot be had any more does not go on.
    pub fn nameless(&self) -> Changes {
        let merged = self.merged();
        let mut kept = Changes::default();
        for (node, inode) in &merged.changes().nodes {
            let one = Changes { nodes: [(*node, inode.clone())].into(), ..Changes::default() };
            match nameless(&merged, &one) {
                Ok(of_it) => kept.nodes.extend(of_it.nodes),
                Err(e) => log::warn!("a file that is open and has no name is lost: {e}"),
            }
        }
        kept
    }

    /// Ends it: all that is in the journal is where it belongs.
    pub fn finish(&self) {
        *lock(&self.unsettled) = Settled::default();
        self.clear(&mut lock(&self.state));
    }

    fn journal<'a>(&self, state: &'a mut State) -> Result<&'a mut Journal> {
        if state.journal.is_none() {
            let store = self.journals.create()?;
            let journal = Journal::create(store, &self.archive.stamp()?, self.password.as_ref())?;
            self.end.store(journal.len(), Relaxed);
            self.reserved.store(journal.len(), Relaxed);
            state.journal = Some(journal);
        }
        Ok(state.journal.as_mut().expect("it was made just now"))
    }

    /// Has the archive take in what is in the journal, and goes on with what it is then.
    fn bring_in(&self, state: &mut State, anew: bool, watch: &dyn Watch) -> Result<()> {
        let (merged, archive) = (state.merged.clone(), state.archive.clone());
        let changes = merged.changes();
        let journal = self.journal(state)?;
        // The archive may need the room that was promised to what comes next.
        journal.store().set_len(journal.len())?;
        self.reserved.store(journal.len(), Relaxed);
        // What they have must be open before its place may be another's.
        let nameless = nameless(&merged, &changes)?;
        let tree = self.meter.during(watch, |watch| {
            self.archive.settle(&Task { merged: &merged, archive: &archive, anew, watch }, journal)
        })?;
        let archive = Arc::new(match self.archive.lasting() {
            Some(_) => Renumbered::as_is(tree),
            None => Renumbered::aligned(&*merged, tree)?,
        });
        state.archive = archive.clone();
        state.merged = Arc::new(Merged::new(archive, nameless));
        *lock(&self.unsettled) = Settled::default();
        self.clear(state);
        Ok(())
    }

    /// Forgets a journal whose changes are in the archive.
    fn clear(&self, state: &mut State) {
        state.journal = None;
        self.end.store(0, Relaxed);
        self.reserved.store(0, Relaxed);
        if let Err(e) = self.journals.remove() {
            // It says itself that nothing in it is needed.
            log::warn!("{}: {e}", self.journals.path().display());
        }
    }
}

impl Notes for Journal {
    fn begin(&mut self, undo: &Undo) -> Result<()> {
        self.begin(undo)
    }

    fn expect(&mut self, target: &Stamp) -> Result<()> {
        self.expect(target)
    }
}

impl Writer for Journaled {
    fn first_new_node(&self) -> u64 {
        self.first_new
    }

    fn reserve(&self, bytes: u64, entries: u64) -> Result<()> {
        let need = || self.end.load(Relaxed) + RESERVE + bytes + entries * ENTRY;
        if need() <= self.reserved.load(Relaxed) {
            return Ok(());
        }
        let mut state = lock(&self.state);
        let store = self.journal(&mut state)?.store().clone();
        // Meanwhile others may have asked for more, or the journal may be another one.
        let (need, from) = (need(), self.reserved.load(Relaxed));
        if need <= from {
            return Ok(());
        }
        let ample = need.next_multiple_of(RESERVE_STEP);
        let granted = match store.reserve(from..ample) {
            Ok(()) => ample,
            Err(e) if e.kind() == Kind::NoSpace => {
                store.reserve(from..need)?;
                need
            }
            Err(e) => return Err(e),
        };
        self.reserved.store(granted, Relaxed);
        Ok(())
    }

    fn commit(&self, changes: &Changes) -> Result<Arc<dyn Tree>> {
        let mut state = lock(&self.state);
        let (archive, origin) = (state.archive.clone(), self.origin);
        let number = |node: Node| match archive.number_below(node) {
            Some(number) => Id::Base(number.0),
            None => Id::New(node.0.checked_sub(origin).unwrap_or(node.0 + FORMER)),
        };
        let back = RefCell::new(HashMap::new());
        let id = |node: Node| {
            let id = number(node);
            back.borrow_mut().insert(id, node);
            id
        };
        let (mut record, contents) = record::encode(changes, id);
        if let Some(lasting) = self.archive.lasting() {
            let named: BTreeSet<Node> = record::named(changes).filter_map(|node| archive.number_below(node)).collect();
            record::add_paths(&mut record, &lasting.paths(&Vec::from_iter(named))?);
        }
        let journal = self.journal(&mut state)?;
        let stored = journal.append(&record, &contents)?;
        self.end.store(journal.len(), Relaxed);
        // No number says by itself whose it is: one that a journal of before gave may be that of a former inode.
        let back = back.into_inner();
        let node = |id| back.get(&id).copied().expect("each was encoded just now");
        state.merged.absorb(record::decode(&record, &stored, node)?);
        self.sequence.fetch_add(1, Relaxed);
        *lock(&self.unsettled) = unsettled(&state.merged.changes());
        Ok(state.merged.clone())
    }

    fn settle(&self, watch: &dyn Watch, show: &mut dyn FnMut(Arc<dyn Tree>)) -> Result<Settled> {
        let mut state = lock(&self.state);
        let changes = state.merged.changes();
        if is_settled(&changes) {
            if state.journal.is_some() && changes.is_empty() {
                self.clear(&mut state);
            }
            return Ok(Settled::default());
        }
        self.bring_in(&mut state, false, watch)?;
        show(state.merged.clone());
        Ok(Settled { entries: changes.entries(), bytes: changes.touched() })
    }

    fn unsettled(&self) -> Settled {
        *lock(&self.unsettled)
    }

    fn differences(&self) -> Result<BTreeMap<Vec<u8>, Difference>> {
        let merged = lock(&self.state).merged.clone();
        differences(&merged)
    }

    fn settling(&self) -> Option<(u64, u64)> {
        self.meter.read()
    }

    fn restore(&self, which: &str) -> Result<()> {
        let mut state = lock(&self.state);
        if !state.merged.changes().is_empty() {
            return Err(
                Error::new(Kind::Busy, "its journal has changes that are not in it").hint("stmount recover, first")
            );
        }
        self.archive.restore(which, self.journal(&mut state)?)?;
        self.clear(&mut state);
        Ok(())
    }

    fn compact(&self, watch: &dyn Watch) -> Result<()> {
        self.bring_in(&mut lock(&self.state), true, watch)
    }

    fn upkeep(&self, _when: Give, _show: &mut dyn FnMut(Arc<dyn Tree>)) -> Result<u64> {
        Ok(0)
    }

    fn holds(&self) -> &'static Holds {
        self.archive.holds()
    }

    fn sequence(&self) -> u64 {
        self.sequence.load(Relaxed)
    }

    fn refuge(&self) -> Option<PathBuf> {
        self.archive.refuge()
    }

    fn free(&self) -> Result<u64> {
        self.archive.free()
    }
}

impl Drop for Journaled {
    /// Gives back the space that was reserved and not needed; a journal without changes goes.
    fn drop(&mut self) {
        let mut state = lock(&self.state);
        if is_settled(&state.merged.changes()) && state.journal.is_some() {
            return self.clear(&mut state);
        }
        if let Some(journal) = &state.journal
            && self.reserved.load(Relaxed) > journal.len()
            && let Err(e) = journal.store().set_len(journal.len())
        {
            log::warn!("{}: cannot give reserved space back: {e}", self.journals.path().display());
        }
    }
}
