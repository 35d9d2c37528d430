//! Space that nothing needs any more is given back: what is needed at the end of the file is written together once more, and
//! the file is cut off behind it. No medium needs holes for that.
//!
//! ```text
//!   found   │ needed, mostly │░ live ░░░ live ░░░ COMMIT│
//!   up      │ needed, mostly │░░░░░░░░░░░░░░░░░░░░░░░░░░│ live live COMMIT │     appended, as every commit is; segments
//!           │                                                                     only when there is no room for `down`
//!   down    │ needed, mostly │ live live COMMIT │░░░░░░░│ live live COMMIT │     over what nobody needs
//!           │ needed, mostly │ live live COMMIT │                                cut off
//! ```
//!
//! Each step leaves a file whose last commit is whole, and all of them are the same state. What is needed is what the
//! newest state needs, and the earlier ones that are kept: their records are written anew as well, since segments and
//! tables change their places, and tables say where segments are.
//!
//! A part is only written anew when it holds more that is not needed than that is. So at most two
//! bytes are copied for each that was thrown away, and a file is at most twice what it needs, and the slack.

use super::super::commit::{self, Commit};
use super::super::generations::{self, History, time_of};
use super::super::index::Index;
use super::super::layout::{HEADER_LEN, RECORD_HEADER_LEN, RecordType, TableRef, record_len};
use super::super::past::Past;
use super::super::records::{self, Log, Placed};
use super::super::rows::{ChunkRow, ExtentRow, Nodes, Rows, SegmentRow};
use super::super::table::{Left, NewTable, Table};
use super::super::{open_table, segment};
use super::{INDEX_LEVEL, MERGED_ROWS, RESERVE, StWriter, State, Tail};
use crate::codec::damaged;
use crate::codec::id::Id;
use crate::error::{Error, Kind, Result};
use crate::formats::{Give, States, Upkeep, Writer};
use crate::tree::Tree;
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

/// So many earlier states are looked at; what they need besides stays where it is.
const STATES: usize = 1 << 16;
/// How often, and how long each time, it is waited for those who still read what is to be overwritten.
const WAITS: u32 = 100;
const WAIT: Duration = Duration::from_millis(1);

/// What is written anew, all of it in the order of its places.
struct Plan {
    /// Where the part begins, and where in it the first record lies that is needed.
    start: u64,
    first: u64,
    needed: Needed,
    /// The newest state before the part, 0 for none.
    before: u64,
    /// About how many bytes it takes.
    len: u64,
}

/// What can be done next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// All of the part is appended.
    Up,
    /// The part would fit in front of itself, but the newest commit names what lies there. One is appended that does not;
    /// segments stay where they are.
    Clear,
    /// The part is written in front of itself, and the file is cut off behind it.
    Down,
}

impl Plan {
    fn step(&self) -> Step {
        let gap = self.start..self.first;
        let named = self.needed.segments.iter().any(|segment| gap.contains(&segment.row.record));
        let passed = self.needed.chain.iter().any(|record| gap.contains(record));
        match (gap.end - gap.start >= self.len, named || passed) {
            (false, _) => Step::Up,
            (true, true) => Step::Clear,
            (true, false) => Step::Down,
        }
    }
}

/// What the newest state and those that are kept need.
struct Needed {
    /// By address.
    segments: Vec<Segment>,
    tables: BTreeMap<u64, TableRef>,
    /// Records of the earlier states that are kept.
    states: Vec<u64>,
    /// All earlier states that were looked at, newest first.
    chain: Vec<u64>,
}

struct Segment {
    row: SegmentRow,
    live: bool,
}

impl Needed {
    /// Marks a stretch of the tape.
    fn mark(&mut self, address: u64, len: u64) {
        let end = address.saturating_add(len);
        let first = self.segments.partition_point(|segment| segment.row.address + segment.row.raw_len <= address);
        let behind = self.segments[first..].iter_mut().take_while(|segment| segment.row.address < end);
        behind.filter(|_| address > 0).for_each(|segment| segment.live = true);
    }

    /// Marks what the files of these tables consist of.
    fn mark_files(&mut self, index: &Index) -> Result<()> {
        let mut nodes = index.all::<Nodes>()?;
        while let Some(at) = nodes.next()? {
            at.block.extents(at.row).iter().for_each(|(address, len)| self.mark(*address, *len));
        }
        let mut extents = index.all::<Rows<ExtentRow>>()?;
        while let Some(at) = extents.next()? {
            let row: &ExtentRow = at.block.get(at.row);
            self.mark(row.address, row.len);
        }
        Ok(())
    }

    fn add_segments(&mut self, index: &Index) -> Result<()> {
        let mut rows = index.all::<Rows<SegmentRow>>()?;
        while let Some(at) = rows.next()? {
            self.segments.push(Segment { row: *at.block.get(at.row), live: false });
        }
        self.segments.sort_by_key(|segment| segment.row.address);
        self.segments.dedup_by_key(|segment| segment.row.address);
        Ok(())
    }

    fn find(&self, address: u64) -> Option<&Segment> {
        let behind = self.segments.partition_point(|segment| segment.row.address <= address);
        let found = self.segments.get(behind.checked_sub(1)?)?;
        (address - found.row.address < found.row.raw_len).then_some(found)
    }

    /// Segments from a place on that are needed, by place.
    fn live_from(&self, start: u64) -> Vec<SegmentRow> {
        let live = self.segments.iter().filter(|segment| segment.live && segment.row.record >= start);
        let mut rows: Vec<SegmentRow> = live.map(|segment| segment.row).collect();
        rows.sort_unstable_by_key(|row| row.record);
        rows
    }
}

fn len_of(kind: u8, payload_len: u64) -> Result<u64> {
    record_len(kind, payload_len).ok_or_else(|| damaged("a record is too long"))
}

impl State {
    /// Looks again when so many bytes more are written, or fewer are in files.
    fn look_later(&mut self, end: u64, bytes: u64) {
        self.check_at = end + bytes;
        self.check_below = self.commit.totals.bytes.get().saturating_sub(bytes);
    }
}

impl StWriter {
    /// Gives space back, see [`Writer::upkeep`](crate::formats::Writer::upkeep).
    pub(super) fn clean(&self, when: Give, show: &mut dyn FnMut(Arc<dyn Tree>)) -> Result<u64> {
        let before = self.end.load(Relaxed);
        let mut state = self.state();
        let full = match when {
            Give::Worthwhile => false,
            Give::Tight if before < state.tight_at || !self.is_tight() => return Ok(0),
            Give::Tight | Give::All => true,
        };
        let upkeep = if full { Upkeep::nothing(0) } else { self.upkeep };
        let sequence = state.commit.head.seq.get();
        if full && std::mem::replace(&mut state.looked_full, sequence) == sequence {
            return Ok(0);
        }
        if !full && before < state.check_at && state.commit.totals.bytes.get() >= state.check_below {
            return Ok(0);
        }
        if !self.store.exclude_readers()? {
            state.look_later(before, upkeep.slack / 16);
            return Ok(0);
        }
        let cleaned = self.steps(&mut state, &upkeep, show);
        self.store.admit_readers();
        if cleaned.is_err() {
            // Not at each commit anew.
            state.look_later(self.end.load(Relaxed), upkeep.slack / 2);
        }
        state.tight_at = self.end.load(Relaxed) + RESERVE / 8;
        cleaned.map(|()| before.saturating_sub(self.end.load(Relaxed)))
    }

    /// Whether not much is left of what is kept free, and no more can be had.
    fn is_tight(&self) -> bool {
        self.reserved.load(Relaxed).saturating_sub(self.end.load(Relaxed)) < RESERVE / 4 * 3
            && self.reserve(0, 0).is_err()
    }

    fn steps(&self, state: &mut State, upkeep: &Upkeep, show: &mut dyn FnMut(Arc<dyn Tree>)) -> Result<()> {
        // One step up and one down, and what is left then.
        let mut begun = None;
        for _ in 0..4 {
            let address = state.commit.head.next_address.get();
            state.contents.forget(address);
            if !all_gone(state, &self.past) {
                state.look_later(self.end.load(Relaxed), upkeep.slack / 16);
                break;
            }
            let Some(plan) = self.plan(state, upkeep, begun)? else { break };
            let step = plan.step();
            log::debug!("{}: {step:?}: {} bytes from {} on", self.name, plan.len, plan.start);
            match step {
                Step::Down => self.move_down(state, &plan, show)?,
                _ => self.move_up(state, &plan, step == Step::Up, show)?,
            }
            // What was made room for is written there.
            begun = (step != Step::Down).then_some(plan.start);
        }
        Ok(())
    }

    /// What to write anew, if it is worth it; the part that begins at `only`, if that is given.
    fn plan(&self, state: &mut State, upkeep: &Upkeep, only: Option<u64>) -> Result<Option<Plan>> {
        let end = self.end.load(Relaxed);
        let mut needed = self.needed(state, upkeep)?;
        let spare = self.store.free()?.saturating_add(self.reserved.load(Relaxed).saturating_sub(end));
        let spare = spare.saturating_sub(RESERVE / 4);
        let mut best = self.part(&needed, state, upkeep.slack, spare, only)?;
        // What segments in the part are decoded with is needed as well.
        while let Some((start, ..)) = best {
            if !self.mark_bases(&mut needed, start)? {
                break;
            }
            best = self.part(&needed, state, upkeep.slack, spare, only)?;
        }
        let Some((start, first, len)) = best else {
            let live: u64 = needed.segments.iter().filter(|s| s.live).map(|s| s.row.payload_len).sum();
            state.look_later(end, (upkeep.slack / 2).max(live / 4));
            return Ok(None);
        };
        let before = needed.chain.iter().copied().find(|record| *record < start).unwrap_or(0);
        Ok(Some(Plan { start, first, needed, before, len }))
    }

    fn needed(&self, state: &State, upkeep: &Upkeep) -> Result<Needed> {
        let history = History::new(self.source.clone(), state.commit.clone());
        let (mut records, mut times, mut seqs) = (Vec::new(), vec![time_of(&state.commit)], Vec::new());
        for earlier in history.back_from(state.commit.clone()).skip(1).take(STATES) {
            records.push(earlier.record);
            times.push(time_of(&earlier));
            seqs.push(earlier.head.seq.get());
        }
        let named: HashSet<u64> = generations::tags(&state.index)?.values().map(|tagged| tagged.sequence).collect();
        let kept = upkeep.kept(&times);
        let kept = records.iter().zip(&seqs).zip(&kept[1..]).filter(|((_, seq), keep)| **keep || named.contains(seq));
        let mut states: Vec<u64> = kept.map(|((record, _), _)| *record).collect();
        if named.contains(&state.commit.head.seq.get()) {
            states.push(state.commit.record);
        }
        states.sort_unstable();

        let mut needed = Needed { segments: Vec::new(), tables: BTreeMap::new(), states, chain: records };
        needed.add_segments(&state.index)?;
        let mut earlier = Vec::new();
        for record in &needed.states {
            for table in commit::read(&*self.source, *record)?.tables {
                if needed.tables.insert(table.record.get(), table).is_none() {
                    earlier.push(Arc::new(open_table(&*self.source, &table, *record, &mut Left::default())?));
                }
            }
        }
        // One by one: what a newer table says of a file is not what an earlier state sees.
        for table in &earlier {
            needed.add_segments(&self.index_of(state, table.clone()))?;
        }
        for table in earlier {
            let index = self.index_of(state, table);
            needed.mark_files(&index)?;
        }
        needed.mark_files(&state.index)?;
        needed.tables.extend(state.commit.tables.iter().map(|table| (table.record.get(), *table)));
        Ok(needed)
    }

    fn index_of(&self, state: &State, table: Arc<Table>) -> Index {
        Index::new(vec![table], self.source.clone(), self.cache.clone(), state.blocks)
    }

    /// The part of the file whose writing anew gives most, its first needed record, and the length it takes.
    fn part(&self, needed: &Needed, state: &State, slack: u64, spare: u64, only: Option<u64>) -> Result<Part> {
        let end = self.end.load(Relaxed);
        let mut found: Vec<(u64, u64, bool)> = Vec::new();
        for segment in needed.segments.iter().filter(|segment| segment.live) {
            found.push((segment.row.record, len_of(RecordType::Segment as u8, segment.row.payload_len)?, true));
        }
        for table in needed.tables.values() {
            // All of a table is in memory when it is written.
            let movable = table.payload_len.get() < MERGED_ROWS * 32;
            found.push((table.record.get(), len_of(RecordType::Table as u8, table.payload_len.get())?, movable));
        }
        let own = len_of(RecordType::Commit as u8, state.commit.encode().len() as u64)?;
        for record in &needed.states {
            let header = records::read_header(&*self.source, *record)?;
            found.push((*record, len_of(header.kind, header.payload_len.get())?, true));
        }
        found.sort_unstable();
        // Behind the oldest state that was looked at lies what nobody looked at.
        let floor = match needed.chain.last() {
            Some(oldest) if needed.chain.len() == STATES => *oldest,
            _ => HEADER_LEN,
        };
        let (mut live, mut first, mut best, mut most) = (own, end, None, 0);
        for i in (0..=found.len()).rev() {
            let start = i.checked_sub(1).map_or(HEADER_LEN, |before| found[before].0 + found[before].1);
            if start < floor {
                break;
            }
            let unneeded = (end - start).saturating_sub(live);
            // Tables may take a bit more than they did.
            let len = live + live / 64 + 4096;
            let fits = (first - start >= len || len <= spare) && only.is_none_or(|only| only == start);
            if fits && unneeded >= slack && unneeded > len && unneeded - live > most {
                (best, most) = (Some((start, first, len)), unneeded - live);
            }
            let Some((at, len, true)) = i.checked_sub(1).map(|before| found[before]) else { break };
            live += len;
            first = at;
        }
        Ok(best)
    }

    /// Marks what the needed segments from `start` on are decoded with; false when all of it was.
    fn mark_bases(&self, needed: &mut Needed, start: u64) -> Result<bool> {
        let live = |needed: &Needed| needed.segments.iter().filter(|segment| segment.live).count();
        let before = live(needed);
        for row in needed.live_from(start) {
            let mut front = vec![0; (segment::FRONT as u64).min(row.payload_len) as usize];
            self.source.read_exact_at(row.record + RECORD_HEADER_LEN, &mut front)?;
            for base in segment::bases(&front)? {
                needed.mark(base.address.get(), base.len.get());
            }
        }
        Ok(live(needed) > before)
    }

    fn move_up(
        &self,
        state: &mut State,
        plan: &Plan,
        segments: bool,
        show: &mut dyn FnMut(Arc<dyn Tree>),
    ) -> Result<()> {
        let (commit, tables, end) = self.write_anew(state, plan, self.end.load(Relaxed), u64::MAX, segments)?;
        show(self.take_over(state, commit, tables, end));
        Ok(())
    }

    fn move_down(&self, state: &mut State, plan: &Plan, show: &mut dyn FnMut(Arc<dyn Tree>)) -> Result<()> {
        let (commit, tables, end) = self.write_anew(state, plan, plan.start, plan.first, true)?;
        let _nobody_reserves = self.reserving();
        let promised = self.reserved.load(Relaxed).saturating_sub(self.end.load(Relaxed));
        let before = (state.commit.clone(), state.tables.clone(), self.end.load(Relaxed));
        // Places of before are used again: what is cached of them is not theirs.
        state.blocks = self.cache.new_owner();
        show(self.take_over(state, commit, tables, end));
        let cut = match all_gone(state, &self.past) {
            true => self.store.set_len(end).map(|()| true),
            false => Ok(false),
        };
        if !matches!(cut, Ok(true)) {
            // The file still ends with the commit of before.
            let (commit, tables, end) = before;
            state.blocks = self.cache.new_owner();
            show(self.take_over(state, commit, tables, end));
            return cut.map(drop);
        }
        // Both are the same state. Which of them a power failure leaves does not matter.
        self.store.sync().unwrap_or_else(|e| log::warn!("{}: {e}", self.name));
        self.promise_again(end, promised);
        Ok(())
    }

    /// Writes the part at `to`, with its segments or without, and makes it durable. It must end before `limit`.
    fn write_anew(&self, state: &State, plan: &Plan, to: u64, limit: u64, segments: bool) -> Result<Written> {
        self.untidy.store(true, Relaxed);
        let last_commit = if to == self.end.load(Relaxed) { state.commit.record } else { plan.before };
        let tail = Tail { store: &*self.store, start: to, pending: Vec::new(), written: 0 };
        let mut copy = Copy { tail, uid: state.commit.head.uid, at: to, limit, last_commit };
        let mut rows = BTreeMap::new();
        for row in plan.needed.live_from(plan.start) {
            if !segments {
                rows.insert(row.address, row);
                continue;
            }
            let (seq, payload) = self.payload(&row)?;
            let placed = copy.put(RecordType::Segment, seq, &payload)?;
            rows.insert(row.address, SegmentRow { record: placed.record, ..row });
        }
        let mut moved = BTreeMap::new();
        for (record, reference) in plan.needed.tables.range(plan.start..) {
            let table = Arc::new(open_table(&*self.source, reference, self.end.load(Relaxed), &mut Left::default())?);
            let index = self.index_of(state, table);
            let segment =
                |row: &SegmentRow| if row.record < plan.start { Some(*row) } else { rows.get(&row.address).copied() };
            let chunk = |row: &ChunkRow| {
                plan.needed.find(row.address).is_some_and(|segment| segment.live || segment.row.record < plan.start)
            };
            let Some(mut encoded) = NewTable::moved(&index, segment, chunk, INDEX_LEVEL)? else { continue };
            let seq = records::read_header(&*self.source, *record)?.seq.get();
            let placed = copy.put(RecordType::Table, seq, &encoded.payload)?;
            encoded.reference.record = placed.record.into();
            let table = Arc::new(Table::written(&encoded, placed.record + RECORD_HEADER_LEN)?);
            moved.insert(*record, (encoded.reference, table));
        }
        let place = |table: &TableRef| match table.record.get() {
            record if record < plan.start => Some(*table),
            record => moved.get(&record).map(|(reference, _)| *reference),
        };
        let mut prev = match plan.before {
            0 => (0, [0; 32]),
            before => (before, records::read_header(&*self.source, before)?.payload_hash),
        };
        let nothing = Id::of(&[]).0;
        for record in plan.needed.states.iter().filter(|record| **record >= plan.start) {
            let mut earlier = commit::read(&*self.source, *record)?;
            earlier.tables = earlier.tables.iter().filter_map(place).collect();
            let head = &mut earlier.head;
            (head.prev, head.prev_hash) = (prev.0.into(), prev.1);
            (head.tail_start, head.tail_hash) = (copy.at.into(), nothing);
            head.tables = (earlier.tables.len() as u32).into();
            let placed = copy.put(RecordType::State, earlier.head.seq.get(), &earlier.encode())?;
            prev = (placed.record, placed.hash);
        }
        let mut commit = state.commit.clone();
        let tables = commit.tables.iter().zip(&state.tables).filter_map(|(reference, table)| {
            let found = moved.get(&reference.record.get()).map(|(_, table)| table.clone());
            found.or_else(|| (reference.record.get() < plan.start).then(|| table.clone()))
        });
        let tables = tables.collect();
        commit.tables = commit.tables.iter().filter_map(place).collect();
        let head = &mut commit.head;
        (head.seq, head.time_ns) = ((head.seq.get() + 1).into(), (head.time_ns.get() + 1).into());
        (head.prev, head.prev_hash) = (prev.0.into(), prev.1);
        commit.record = copy.at;
        copy.check(RecordType::Commit, commit.encode().len() as u64)?;
        let end = self.write_commit(copy.tail, &mut commit, last_commit)?;
        Ok((commit, tables, end))
    }

    /// What a segment is stored as, and the number of its commit.
    fn payload(&self, row: &SegmentRow) -> Result<(u64, Vec<u8>)> {
        let header = records::read_header(&*self.source, row.record)?;
        if header.payload_hash != row.hash || header.payload_len.get() != row.payload_len {
            return Err(damaged(format!("the header of the record at {} is damaged", row.record)));
        }
        let payload = records::read_payload(&*self.source, &header, row.payload_len)?;
        Ok((header.seq.get(), payload))
    }
}

/// Where a part begins, where its first needed record lies, and about how many bytes it takes.
type Part = Option<(u64, u64, u64)>;

/// A commit, its tables, and where it ends.
type Written = (Commit, Vec<Arc<Table>>, u64);

/// Records on their way to another place.
struct Copy<'a> {
    tail: Tail<'a>,
    uid: [u8; 16],
    at: u64,
    limit: u64,
    last_commit: u64,
}

impl Copy<'_> {
    fn check(&self, kind: RecordType, payload_len: u64) -> Result<()> {
        if self.at + len_of(kind as u8, payload_len)? <= self.limit {
            return Ok(());
        }
        Err(Error::new(Kind::NoSpace, "what is needed takes more room than it did"))
    }

    fn put(&mut self, kind: RecordType, seq: u64, payload: &[u8]) -> Result<Placed> {
        self.check(kind, payload.len() as u64)?;
        let mut log = Log::new(&mut self.tail, self.uid, self.at, seq, self.last_commit);
        let placed = log.append(kind, &[payload])?;
        self.at = log.at();
        Ok(placed)
    }
}

/// Waits a moment for those who still read by an earlier index.
fn all_gone(state: &mut State, past: &Past) -> bool {
    for _ in 0..WAITS {
        let own = Arc::as_ptr(&state.index);
        state.former.retain(|index| index.strong_count() > 0 && index.as_ptr() != own);
        if state.former.is_empty() && past.held() == 0 {
            return true;
        }
        std::thread::sleep(WAIT);
    }
    false
}
