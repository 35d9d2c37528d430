//! Writing to a container in place: changes become segments, one table and one commit, behind all that is there.
//!
//! ```text
//!   … COMMIT │ SEG … SEG  TABLE  COMMIT          small: one write, one sync; the tail hash says whether all of it arrived
//!   … COMMIT │ SEG … SEG  TABLE │ COMMIT         large: a sync before the commit as well
//!            └ `end`: nothing before it is ever written again
//! ```
//!
//! The table takes in the newest tables that are not much larger than what is new, so there are few of them, and a row is
//! written again as often as the container doubles: a commit costs what was changed, not what there is.
//!
//! Whatever fails on the way, nothing counts before the commit is durable: the next attempt begins at `end` again.

mod clean;
mod contents;
mod entries;
mod keys;
mod protect;
mod room;

pub use entries::orphans;

use super::commit::{self, Commit};
use super::generations::{self, Tagged};
use super::index::Index;
use super::layout::{Header, RECORD_HEADER_LEN, RecordType, TotalsItem};
use super::medium::Medium;
use super::past::Past;
use super::plan::Preset;
use super::records::{self, Log};
use super::rows::{MetaRow, meta_key};
use super::seal::Sealing;
use super::table::{Encoded, NewTable, Table};
use super::tape::Tape;
use super::tree::Container;
use super::{limits, pack, parity, signed};
use crate::cache::Cache;
use crate::codec::id::Id;
use crate::error::{Error, Kind, Result, Within};
use crate::formats::{Give, Owners, Root, Upkeep, Watch, Writer};
use crate::key::sign::Signing;
use crate::pool::lock;
use crate::source::Store;
use crate::source::parity::Group;
use crate::tree::{Changes, Time, Tree};
use contents::Contents;
use room::RESERVE;
use std::collections::{BTreeMap, HashSet};
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, Weak};

/// Bytes that are gathered before they are written. What is larger than this needs a sync of its own.
const SMALL: usize = 1 << 20;
/// zstd level of tables: they are written often.
const INDEX_LEVEL: i32 = 3;
/// A table is taken into the new one when it has at most so many rows for each that is new,
const GROWTH: u64 = 2;
/// and at most so many at all: what is merged is in memory. Larger ones are left to a compaction.
const MERGED_ROWS: u64 = 1 << 20;
/// The writer of one container. There is one for each file: who has it holds the lock.
pub struct StWriter {
    name: String,
    store: Arc<dyn Store>,
    medium: Medium,
    cache: Arc<Cache>,
    /// Of segments, whose addresses are never used again.
    owners: Option<Arc<Owners>>,
    tape: Arc<Tape>,
    /// What browses the states.
    past: Arc<Past>,
    preset: Preset,
    signing: Signing,
    first_new_node: u64,
    upkeep: Upkeep,
    state: Mutex<State>,
    /// Where the next commit begins.
    end: AtomicU64,
    /// Up to here the medium has promised space.
    reserved: AtomicU64,
    reserving: Mutex<()>,
    /// Whether an attempt that failed may have left something behind the last commit.
    untidy: AtomicBool,
    /// Number of the last commit.
    sequence: AtomicU64,
}

struct State {
    commit: Commit,
    tables: Vec<Arc<Table>>,
    index: Arc<Index>,
    /// Of table blocks in the cache, as long as no place in the file is used again.
    blocks: u64,
    /// The newest keys. All else that is sealed is so with those of the medium, which are the same but for who opens it.
    sealing: Sealing,
    /// Parity that covers what was written, oldest first.
    groups: Vec<Group>,
    /// Indexes of before, that somebody may still read by.
    former: Vec<Weak<Index>>,
    /// When the file ends here, or so many states were made, or its files have fewer bytes, it is looked whether space can be
    /// given back.
    check_at: u64,
    check_seq: u64,
    check_below: u64,
    /// The last commit at which all space was looked for, and where the file must end until that is done for small changes.
    looked_full: u64,
    tight_at: u64,
    contents: Contents,
    /// Users and groups whose names need not be looked up again.
    known: HashSet<(u32, u32)>,
    /// Of the next commit, when it is not now.
    time_ns: Option<u64>,
}

impl State {
    /// Forgets what is known of contents and owners that were to be stored: no index has them.
    fn forget(&mut self) {
        self.contents.forget(self.commit.head.next_address.get());
        self.known.clear();
    }
}

/// What a container was opened as.
pub struct Opened {
    pub name: String,
    pub store: Arc<dyn Store>,
    pub medium: Medium,
    pub cache: Arc<Cache>,
    pub owner: u64,
    pub owners: Option<Arc<Owners>>,
    pub upkeep: Upkeep,
    pub tape: Arc<Tape>,
    pub index: Arc<Index>,
    pub commit: Commit,
    /// Where the commit ends.
    pub end: u64,
    /// How new contents are compressed.
    pub preset: Preset,
    /// What signs the commits.
    pub signing: Signing,
}

impl StWriter {
    /// Takes a container over. What lies behind its last commit is cut off.
    pub fn new(opened: Opened) -> Result<Self> {
        let Opened { name, store, medium, cache, owner, owners, upkeep, tape, index, commit, end, preset, signing } =
            opened;
        finish_record(&*store, &commit, end)?;
        let contents = Contents::new(&preset, &medium.sealing, commit.head.next_address.get());
        let groups = match medium.healing.newest() {
            0 => Vec::new(),
            newest => parity::groups(medium.source(), commit.head.uid, newest),
        };
        let sealing = medium.sealing.clone();
        let past = Arc::new(Past::new(name.clone(), commit.clone(), index.clone(), tape.clone()));
        let writer = Self {
            name,
            store,
            medium,
            cache,
            owners,
            tape,
            past,
            preset,
            signing,
            upkeep,
            first_new_node: commit.head.next_ino.get(),
            end: AtomicU64::new(end),
            reserved: AtomicU64::new(end),
            reserving: Mutex::default(),
            untidy: AtomicBool::new(false),
            sequence: AtomicU64::new(commit.head.seq.get()),
            state: Mutex::new(State {
                // Who had it before may have been killed before it looked, or while it gave space back.
                check_at: end.max(upkeep.slack),
                check_seq: commit.head.seq.get() + clean::STATES as u64 / 2,
                check_below: commit.totals.bytes.get().saturating_sub(upkeep.slack / 2),
                commit,
                tables: index.tables().to_vec(),
                index,
                blocks: owner,
                sealing,
                groups,
                former: Vec::new(),
                looked_full: 0,
                tight_at: 0,
                contents,
                known: HashSet::new(),
                time_ns: None,
            }),
        };
        match writer.reserve(0, 0) {
            Err(e) if e.kind() == Kind::NoSpace => {
                log::warn!(
                    "{}: its disk is full: files can be read, and deleted as far as that can be stored",
                    writer.name
                );
                writer.promise_again(end, RESERVE);
            }
            reserved => reserved?,
        }
        Ok(writer)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// The states of the container.
    pub fn past(&self) -> Arc<Past> {
        self.past.clone()
    }

    /// Takes away what had no name when the container was last written, but was open. Returns the tree from then on.
    pub fn tidy_up(&self, tree: Arc<dyn Tree>) -> Result<Arc<dyn Tree>> {
        let orphans = entries::orphans(&self.state().index)?;
        if orphans.is_empty() {
            return Ok(tree);
        }
        log::info!("{}: {} files without a name are taken away", self.name, orphans.len());
        let nodes = orphans.into_iter().map(|node| (node, None)).collect();
        self.commit(&Changes { nodes, ..Changes::default() })
    }

    /// Names of owners that the container does not know yet.
    fn new_owners(&self, state: &mut State, changes: &Changes) -> Result<Vec<MetaRow>> {
        let mut rows = BTreeMap::new();
        let Some(owners) = &self.owners else { return Ok(Vec::new()) };
        for inode in changes.nodes.values().flatten() {
            let (uid, gid) = (inode.attr.uid, inode.attr.gid);
            if !state.known.insert((uid, gid)) {
                continue;
            }
            let names = owners(uid, gid);
            for (key, name) in [(format!("user/{uid}"), names.user), (format!("group/{gid}"), names.group)] {
                let Some(name) = name.map(String::into_bytes) else { continue };
                if state.index.meta(key.as_bytes())?.is_none() {
                    rows.insert(key.into_bytes(), name);
                }
            }
        }
        Ok(rows.into_iter().map(|(name, value)| MetaRow { name, value }).collect())
    }

    /// Commits rows of META and nothing else.
    pub fn commit_names(&self, metas: Vec<MetaRow>, gone: Vec<Vec<u8>>) -> Result<()> {
        let mut state = self.state();
        let names = NewTable { metas, gone, ..NewTable::default() };
        self.commit_rows(&mut state, &Changes::default(), names).map(drop).within(|| &self.name)
    }

    /// Whether the file begins and ends as this has left it, so that nobody else has written a container there.
    pub fn is_as_left(&self) -> Result<bool> {
        let state = self.state();
        let uid = state.commit.head.uid;
        let front = self.header().map(|front| front.is_some_and(|header| header.uid == uid));
        let last = || commit::read(&self.medium, state.commit.record);
        match front.and_then(|same| Ok(same && last()?.encode() == state.commit.encode())) {
            Err(e) if !matches!(e.kind(), Kind::Damaged | Kind::Header | Kind::Unsupported | Kind::Changed) => Err(e),
            same => Ok(same.unwrap_or(false)),
        }
    }

    /// The header of the container. One that is damaged is read through the parity.
    fn header(&self) -> Result<Option<Header>> {
        let there = commit::read_front(&*self.medium);
        if matches!(there, Ok(Some(_))) {
            return there;
        }
        let mender = self.medium.healing.mender(self.medium.source(), &self.medium.uid);
        mender.map_or(there, |mender| commit::read_front(&*mender))
    }

    /// Where the last commit ends.
    pub fn end(&self) -> u64 {
        self.end.load(Relaxed)
    }

    /// Whose addresses are those of its tape.
    pub fn owner(&self) -> u64 {
        self.tape.owner()
    }

    /// Where the last commit is.
    pub fn last_commit(&self) -> u64 {
        self.state().commit.record
    }

    /// Commits with a number and a time of its own: those of the same state in another container.
    pub fn replay(&self, changes: &Changes, seq: u64, time_ns: u64) -> Result<()> {
        let mut state = self.state();
        state.commit.head.seq = (seq - 1).into();
        state.time_ns = Some(time_ns);
        self.attempt(&mut state, changes, NewTable::default(), false).map(drop)
    }

    /// Makes an earlier state the newest one; names of states stay.
    pub fn restore(&self, record: u64) -> Result<Arc<dyn Tree>> {
        let mut state = self.state();
        let old = commit::read(&self.medium, record)?;
        let names = generations::tags(&state.index)?;
        let row = |(name, tagged): (String, Tagged)| {
            Ok(MetaRow { name: generations::tag_key(&name)?, value: tagged.encode() })
        };
        let metas = names.into_iter().map(row).collect::<Result<Vec<_>>>()?;
        let before = (state.tables.clone(), state.commit.clone(), state.index.clone());
        state.former.push(Arc::downgrade(&before.2));
        // Its tables and totals; all else goes on from the newest commit.
        state.tables = super::open_tables(&self.medium, &old)?;
        (state.commit.tables, state.commit.totals) = (old.tables, old.totals);
        state.index = Arc::new(self.index(&state, state.tables.clone()));
        // What was written since is known to no index any more.
        state.forget();
        let names = NewTable { metas, ..NewTable::default() };
        let done = self.commit_rows(&mut state, &Changes::default(), names);
        if done.is_err() {
            (state.tables, state.commit, state.index) = before;
        }
        done.within(|| &self.name)
    }

    /// Commits changes and these rows, on a full disk with as little as can be.
    fn commit_rows(&self, state: &mut State, changes: &Changes, more: NewTable) -> Result<Arc<dyn Tree>> {
        let mut done = self.attempt(state, changes, more.clone(), false).inspect_err(|_| state.forget());
        if done.as_ref().is_err_and(|e| e.kind() == Kind::NoSpace) {
            // To merge tables and to store again what is around needs space that nothing was reserved for.
            done = self.attempt(state, changes, more, true).inspect_err(|_| state.forget());
        }
        done
    }

    /// One attempt; a sparing one takes no more space than it has to. Nothing of the state is changed before the commit is
    /// durable.
    fn attempt(&self, state: &mut State, changes: &Changes, more: NewTable, sparing: bool) -> Result<Arc<dyn Tree>> {
        let start = self.end.load(Relaxed);
        self.untidy.store(true, Relaxed);
        let seq = state.commit.head.seq.get() + 1;
        let mut tail = Tail { store: &*self.store, start, pending: Vec::new(), written: 0 };
        let uid = state.commit.head.uid;
        let last_commit = state.commit.record;

        let mut segments = Vec::new();
        let container = self.container(state.index.clone(), state.commit.totals, start);
        let mut rows = entries::Rows::new(&container, state.commit.totals);
        {
            let mut log = self.log(&mut tail, uid, start, (seq, last_commit));
            state.contents.begin(&state.index, &self.tape, !sparing);
            let contents = &mut state.contents;
            let feed = |send: &pack::Sink<'_>| {
                rows.collect(changes, contents, send)?;
                contents.finish(send)
            };
            pack::segments(&self.preset, &self.medium.sealing, changes.touched() > SMALL as u64, feed, |segment| {
                segments.push(pack::append_segment(&mut log, &segment)?);
                Ok(())
            })?;
        }
        let (mut table, totals) = rows.finish();
        table.segments = segments;
        table.chunks = state.contents.take_chunks();
        table.metas.extend(self.new_owners(state, changes)?);
        table.metas.extend(more.metas);
        table.gone.extend(more.gone);
        let tail_len = tail.len();

        let mut commit = self.next_commit(state, seq, totals, changes)?;
        let mut tables = state.tables.clone();
        let mut log = self.log(&mut tail, uid, start + tail_len, (seq, last_commit));
        // What was done and undone leaves no rows, and a table has some.
        if table.len() > 0 {
            let (kept, mut encoded) = self.merge(state, table, !sparing)?;
            let placed = log.append(RecordType::Table, &[&encoded.payload])?;
            encoded.reference.record = placed.record.into();
            commit.tables.truncate(kept);
            commit.tables.push(encoded.reference);
            tables.truncate(kept);
            tables.push(Arc::new(Table::written(&encoded, placed.record + RECORD_HEADER_LEN, &self.medium.sealing)?));
        }
        commit.record = log.at();
        if !sparing {
            self.keep_free(commit.record)?;
        }
        let end = self.write_commit(tail, &mut commit, last_commit)?;
        Ok(self.take_over(state, commit, tables, end))
    }

    /// The new rows as a table, with those of the newest tables that are worth it. Returns how many tables are left.
    fn merge(&self, state: &State, table: NewTable, merging: bool) -> Result<(usize, Encoded)> {
        let mut rows = table.len() as u64;
        let mut kept = state.tables.len();
        while merging && kept > 0 {
            let of_table: u64 = state.tables[kept - 1].fences.iter().map(|fence| fence.rows).sum();
            if of_table > rows * GROWTH || rows + of_table > MERGED_ROWS {
                break;
            }
            rows += of_table;
            kept -= 1;
        }
        if kept as u32 >= limits::TABLES {
            return Err(Error::new(Kind::Limit, "the container has too many tables: compact it"));
        }
        let merged = state.tables[kept..].to_vec();
        Ok((kept, table.merge(&self.index(state, merged), kept == 0, INDEX_LEVEL)?))
    }

    fn next_commit(&self, state: &State, seq: u64, totals: TotalsItem, changes: &Changes) -> Result<Commit> {
        let before = &state.commit;
        let mut head = before.head;
        head.seq = seq.into();
        let now = state.time_ns.unwrap_or_else(|| pack::nanoseconds(Time::now()));
        head.time_ns = now.max(before.head.time_ns.get() + 1).into();
        head.prev = before.record.into();
        head.prev_hash = records::sound_header(&self.medium, before.record)?.payload_hash;
        head.next_address = state.contents.address().into();
        let highest = changes.nodes.keys().next_back().map_or(0, |node| node.0 + 1);
        head.next_ino = before.head.next_ino.get().max(highest).into();
        let (tables, parity) = (before.tables.clone(), state.newest_parity());
        let mut commit = Commit { record: 0, head, tables, totals, parity, signer: None };
        commit.head.tables = 0.into();
        Ok(commit)
    }

    /// Writes what is gathered, and the commit, and returns when both are on the medium.
    fn write_commit(&self, mut tail: Tail<'_>, commit: &mut Commit, last_commit: u64) -> Result<u64> {
        let (uid, seq) = (commit.head.uid, commit.head.seq.get());
        let small = tail.written == 0;
        if small {
            commit.head.tail_start = tail.start.into();
            commit.head.tail_hash = Id::of(&tail.pending).0;
        } else {
            tail.write_out()?;
            self.store.sync()?;
            commit.head.tail_start = commit.record.into();
            commit.head.tail_hash = Id::of(&[]).0;
        }
        commit.head.tables = (commit.tables.len() as u32).into();
        let mut log = self.log(&mut tail, uid, commit.record, (seq, last_commit));
        log.commit(commit, &self.medium.sealing, &self.signing)?;
        let end = log.at();
        tail.write_out()?;
        let appended = tail.start == self.end.load(Relaxed);
        if appended && self.store.len()? > end {
            // An attempt that failed went further.
            self.cut_behind(end)?;
        }
        self.store.sync()?;
        Ok(end)
    }

    /// The commit is durable: from here on it is the state.
    fn take_over(&self, state: &mut State, commit: Commit, tables: Vec<Arc<Table>>, end: u64) -> Arc<dyn Tree> {
        self.end.store(end, Relaxed);
        self.untidy.store(false, Relaxed);
        self.sequence.store(commit.head.seq.get(), Relaxed);
        state.commit = commit;
        state.tables = tables.clone();
        state.former.retain(|index| index.strong_count() > 0);
        state.former.push(Arc::downgrade(&state.index));
        state.index = Arc::new(self.index(state, tables));
        self.tape.renew(state.index.clone());
        self.past.renew(&state.commit, state.index.clone());
        Arc::new(self.container(state.index.clone(), state.commit.totals, end))
    }

    fn log<'a>(&self, tail: &'a mut Tail<'_>, uid: [u8; 16], at: u64, (seq, last_commit): (u64, u64)) -> Log<'a> {
        Log::new(tail, uid, at, seq, last_commit).sealed(&self.medium.sealing)
    }

    fn index(&self, state: &State, tables: Vec<Arc<Table>>) -> Index {
        Index::new(tables, self.medium.clone(), self.cache.clone(), state.blocks)
    }

    fn container(&self, index: Arc<Index>, totals: TotalsItem, end: u64) -> Container {
        // Extent lists of files change from commit to commit: an owner of their own.
        let owner = self.cache.new_owner();
        Container::new(self.name.clone(), index, self.tape.clone(), self.cache.clone(), owner, (totals, end))
    }
}

impl Writer for StWriter {
    fn first_new_node(&self) -> u64 {
        self.first_new_node
    }

    fn reserve(&self, bytes: u64, entries: u64) -> Result<()> {
        self.promise(bytes, entries)
    }

    fn commit(&self, changes: &Changes) -> Result<Arc<dyn Tree>> {
        self.commit_rows(&mut self.state(), changes, NewTable::default()).within(|| &self.name)
    }

    fn name_state(&self, name: &str, keep: bool) -> Result<()> {
        let key = generations::tag_key(name)?;
        let state = self.state();
        let known = state.index.meta(&key)?.is_some();
        let tagged = Tagged { record: state.commit.record, sequence: state.commit.head.seq.get() };
        drop(state);
        match (keep, known) {
            (true, true) => Err(Error::new(Kind::Exists, format!("there is a state {name:?} already"))
                .hint("another name, or take the old one away: stmount snapshot --delete")),
            (false, false) => Err(Error::new(Kind::NotFound, format!("there is no state {name:?}"))),
            (true, false) => self.commit_names(vec![MetaRow { name: key, value: tagged.encode() }], Vec::new()),
            (false, true) => self.commit_names(Vec::new(), vec![meta_key(&key)]),
        }
    }

    fn root(&self) -> Option<Root> {
        let root = signed::root(&self.medium, &self.state().commit);
        root.inspect_err(|e| log::warn!("{}: {e}", self.name)).ok()
    }

    fn upkeep(&self, when: Give, show: &mut dyn FnMut(Arc<dyn Tree>)) -> Result<u64> {
        self.clean(when, show).within(|| &self.name)
    }

    fn protect(&self, watch: &dyn Watch) -> Result<()> {
        self.mend(watch).within(|| &self.name)
    }

    fn sequence(&self) -> u64 {
        self.sequence.load(Relaxed)
    }

    fn free(&self) -> Result<u64> {
        self.store.free()
    }
}

impl Drop for StWriter {
    /// Gives back the space that was reserved and not needed, and what an attempt that failed has left.
    fn drop(&mut self) {
        let end = self.end.load(Relaxed);
        if (self.reserved.load(Relaxed) > end || self.untidy.load(Relaxed))
            && let Err(e) = self.store.set_len(end)
        {
            log::warn!("{}: cannot give reserved space back: {e}", self.name);
        }
    }
}

/// Makes the end of the file that of the commit: what is behind is cut off, what is missing of its record is zeros.
fn finish_record(store: &dyn Store, commit: &Commit, end: u64) -> Result<()> {
    let len = store.len()?;
    if len != end {
        log::info!("the file has {len} bytes, its last commit (at {}) ends at {end}", commit.record);
        store.set_len(end)?;
        store.sync()?;
    }
    Ok(())
}

/// Keeps what a full disk is known by.
fn to_io(e: Error) -> io::Error {
    let full = (e.kind() == Kind::NoSpace).then(|| rustix::io::Errno::NOSPC.raw_os_error());
    full.or(e.os_code()).map_or_else(|| io::Error::other(e), io::Error::from_raw_os_error)
}

/// Bytes on their way to the end of the file.
struct Tail<'a> {
    store: &'a dyn Store,
    start: u64,
    pending: Vec<u8>,
    written: u64,
}

impl Tail<'_> {
    fn len(&self) -> u64 {
        self.written + self.pending.len() as u64
    }

    fn write_out(&mut self) -> Result<()> {
        self.store.write_at(self.start + self.written, &self.pending)?;
        self.written += self.pending.len() as u64;
        self.pending.clear();
        Ok(())
    }
}

impl io::Write for Tail<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.pending.extend_from_slice(bytes);
        if self.pending.len() >= SMALL {
            self.write_out().map_err(to_io)?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
