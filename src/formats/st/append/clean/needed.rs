//! What of a container is needed, and which part of it is worth to be written anew.

use super::super::super::commit;
use super::super::super::generations::{self, History, time_of};
use super::super::super::index::Index;
use super::super::super::layout::{Base, HEADER_LEN, RECORD_HEADER_LEN, RecordType, TableRef, record_len};
use super::super::super::locks;
use super::super::super::open_table;
use super::super::super::records;
use super::super::super::rows::{ExtentRow, Nodes, Rows, SegmentRow};
use super::super::super::table::Left;
use super::super::{MERGED_ROWS, RESERVE, StWriter, State};
use crate::codec::damaged;
use crate::error::Result;
use crate::formats::Upkeep;
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// So many earlier states are looked at; what they need besides stays where it is.
pub const STATES: usize = 1 << 16;
/// From so many stretches of the tape or segments on those are joined that touch or are the same.
const MANY: usize = 1 << 16;
/// Bytes of a payload in front of the data, about.
const FRONT: u64 = 32;
/// Bytes of the tape that a segment of parts spans.
const SPAN: u64 = 256 << 10;

/// What is written anew, all of it in the order of its places.
pub(super) struct Plan {
    /// Where the part begins, and where in it the first record lies that is needed.
    pub(super) start: u64,
    pub(super) first: u64,
    pub(super) needed: Needed,
    /// The newest state before the part, 0 for none.
    pub(super) before: u64,
    /// About how many bytes it takes.
    pub(super) len: u64,
}

/// What can be done next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// All of the part is appended.
    Up,
    /// The part would fit in front of itself, but the newest commit names what lies there. One is appended that does not;
    /// segments stay where they are.
    Clear,
    /// The part is written in front of itself, and the file is cut off behind it.
    Down,
}

impl Plan {
    pub(super) fn step(&self) -> Step {
        let gap = self.start..self.first;
        let named = self.needed.segments.iter().any(|segment| segment.is_own() && gap.contains(&segment.row.record));
        let passed = self.needed.chain.iter().any(|record| gap.contains(record));
        match (gap.end - gap.start >= self.len, named || passed) {
            (false, _) => Step::Up,
            (true, true) => Step::Clear,
            (true, false) => Step::Down,
        }
    }
}

/// What the newest state and those that are kept need.
pub(super) struct Needed {
    /// By address.
    pub(super) segments: Vec<Segment>,
    pub(super) tables: BTreeMap<u64, TableRef>,
    /// Records of the earlier states that are kept.
    pub(super) states: Vec<u64>,
    /// All earlier states that were looked at, newest first.
    chain: Vec<u64>,
    /// Stretches of the tape that are needed, from and to; in order and apart from each other when they are settled.
    pub(super) ranges: Vec<(u64, u64)>,
}

pub(super) struct Segment {
    pub(super) row: SegmentRow,
    /// How many of its bytes are needed.
    pub(super) live: u64,
    /// It is decoded with what lies in a base, which need not be there: it stays as it is.
    leans: bool,
}

impl Segment {
    /// How much it takes when only what is needed of it is written, about: as if that could not be compressed.
    fn least(&self) -> Result<u64> {
        len_of(RecordType::Segment as u8, self.live + FRONT)
    }

    pub(super) fn len(&self) -> Result<u64> {
        len_of(RecordType::Segment as u8, self.row.payload_len)
    }

    /// Whether it lies in this container, and can be written anew.
    pub(super) fn is_own(&self) -> bool {
        self.row.store == 0
    }

    /// Whether it is worth to leave out what is not needed.
    fn is_sparse(&self) -> Result<bool> {
        Ok(self.live > 0 && !self.leans && self.least()? < self.len()? / 4 * 3)
    }

    pub(super) fn end(&self) -> u64 {
        self.row.address + self.row.raw_len
    }
}

/// What is written in place of segments.
pub(super) enum Piece {
    /// As it is.
    Whole(SegmentRow),
    /// One segment of what is needed of several, which follow each other on the tape. What is between reads as zeros.
    Parts(Vec<SegmentRow>),
}

impl Needed {
    /// Marks a stretch of the tape.
    fn mark(&mut self, address: u64, len: u64) {
        let end = address.saturating_add(len);
        match self.ranges.last_mut() {
            _ if address == 0 => {}
            Some(last) if last.1 == address => last.1 = end,
            _ => self.ranges.push((address, end)),
        }
        // Many files may share what they consist of.
        if self.ranges.len() == self.ranges.capacity() && self.ranges.len() > MANY {
            self.join();
        }
    }

    fn join(&mut self) {
        self.ranges.sort_unstable();
        self.ranges.dedup_by(|later, kept| {
            let joined = later.0 <= kept.1;
            if joined {
                kept.1 = kept.1.max(later.1);
            }
            joined
        });
    }

    /// Counts what is needed of each segment.
    fn settle(&mut self) {
        self.join();
        for segment in &mut self.segments {
            segment.live = overlaps(&self.ranges, segment.row.address, segment.end()).map(|(from, to)| to - from).sum();
        }
    }

    fn live(&self) -> u64 {
        self.segments.iter().map(|segment| segment.live).sum()
    }

    pub(super) fn is_needed(&self, address: u64, len: u64) -> bool {
        overlaps(&self.ranges, address, address.saturating_add(len)).next() == Some((address, address + len))
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
            // States may have tables with the same rows.
            if self.segments.len() == self.segments.capacity() && self.segments.len() > MANY {
                self.sort_segments();
            }
            self.segments.push(Segment { row: *at.block.get(at.row), live: 0, leans: false });
        }
        Ok(())
    }

    /// Brings them in order; of two rows of a segment the first stays.
    fn sort_segments(&mut self) {
        self.segments.sort_by_key(|segment| segment.row.address);
        self.segments.dedup_by_key(|segment| segment.row.address);
    }

    pub(super) fn find(&self, address: u64) -> Option<&Segment> {
        let behind = self.segments.partition_point(|segment| segment.row.address <= address);
        let found = self.segments.get(behind.checked_sub(1)?)?;
        (address - found.row.address < found.row.raw_len).then_some(found)
    }

    /// Has a segment stay as it is from now on when what it is decoded with lies in a base; whether it does.
    fn keep_whole(&mut self, row: &SegmentRow, bases: &[Base]) -> bool {
        let lies_elsewhere = |base: &Base| self.find(base.address.get()).is_some_and(|segment| !segment.is_own());
        let leans = bases.iter().any(lies_elsewhere);
        let at = self.segments.binary_search_by_key(&row.address, |segment| segment.row.address);
        let segment = at.ok().map(|at| &mut self.segments[at]).filter(|segment| leans && !segment.leans);
        segment.map(|segment| segment.leans = true).is_some()
    }

    /// What is written of the segments from a place on, in the order of the tape.
    pub(super) fn pieces(&self, start: u64) -> Result<Vec<Piece>> {
        let (mut pieces, mut run): (Vec<Piece>, Vec<SegmentRow>) = (Vec::new(), Vec::new());
        for segment in &self.segments {
            let row = segment.row;
            let moves = segment.is_own() && row.record >= start;
            if moves && segment.live == 0 {
                continue;
            }
            let joins = moves && segment.is_sparse()?;
            if !joins || run.first().is_some_and(|first| segment.end() - first.address > SPAN) {
                pieces.extend((!run.is_empty()).then(|| Piece::Parts(std::mem::take(&mut run))));
            }
            if joins {
                run.push(row);
            } else if moves {
                pieces.push(Piece::Whole(row));
            }
        }
        pieces.extend((!run.is_empty()).then_some(Piece::Parts(run)));
        Ok(pieces)
    }
}

/// What of these ranges lies between two places.
pub(super) fn overlaps(ranges: &[(u64, u64)], from: u64, to: u64) -> impl Iterator<Item = (u64, u64)> + '_ {
    let first = ranges.partition_point(|range| range.1 <= from);
    let within = ranges[first..].iter().take_while(move |range| range.0 < to);
    within.map(move |range| (range.0.max(from), range.1.min(to)))
}

/// Where a part begins, where its first needed record lies, and about how many bytes it takes.
type Part = Option<(u64, u64, u64)>;

/// A record that is needed.
struct Found {
    at: u64,
    len: u64,
    /// How much it takes where it is written anew.
    takes: u64,
    /// Whether it can be.
    moves: bool,
}

pub(super) fn len_of(kind: u8, payload_len: u64) -> Result<u64> {
    record_len(kind, payload_len).ok_or_else(|| damaged("a record is too long"))
}

impl StWriter {
    /// What to write anew, if it is worth it; the part that begins at `only`, if that is given.
    pub(super) fn plan(&self, state: &mut State, upkeep: &Upkeep, only: Option<u64>) -> Result<Option<Plan>> {
        let end = self.end.load(Relaxed);
        let mut needed = self.needed(state, upkeep)?;
        let spare = self.store.free()?.saturating_add(self.reserved.load(Relaxed).saturating_sub(end));
        let spare = spare.saturating_sub(RESERVE / 4);
        // What segments in the part are decoded with is needed as well.
        let best = loop {
            let best = self.part(&needed, state, upkeep.slack, spare, only)?;
            match best {
                Some((start, ..)) if self.mark_bases(&mut needed, start)? => {}
                best => break best,
            }
        };
        let Some((start, first, len)) = best else {
            let own = needed.segments.iter().filter(|segment| segment.is_own());
            let live: u64 = own.map(|segment| segment.live.min(segment.row.payload_len)).sum();
            state.look_later(end, (upkeep.slack / 2).max(live / 4));
            return Ok(None);
        };
        let before = needed.chain.iter().copied().find(|record| *record < start).unwrap_or(0);
        Ok(Some(Plan { start, first, needed, before, len }))
    }

    fn needed(&self, state: &State, upkeep: &Upkeep) -> Result<Needed> {
        let history = History::new(self.medium.clone(), state.commit.clone());
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

        let (segments, tables, ranges) = Default::default();
        let mut needed = Needed { segments, tables, states, chain: records, ranges };
        needed.add_segments(&state.index)?;
        needed.mark_files(&state.index)?;
        for record in needed.states.clone() {
            for table in commit::read(&self.medium, record)?.tables {
                if needed.tables.insert(table.record.get(), table).is_none() {
                    // One by one: what a newer table says of a file is not what an earlier state sees.
                    let table = open_table(&self.medium, &table, record, &mut Left::default())?;
                    let index = self.index(state, vec![Arc::new(table)]);
                    needed.add_segments(&index)?;
                    needed.mark_files(&index)?;
                }
            }
        }
        needed.tables.extend(state.commit.tables.iter().map(|table| (table.record.get(), *table)));
        needed.sort_segments();
        needed.settle();
        Ok(needed)
    }

    /// The part of the file whose writing anew gives most, its first needed record, and the length it takes.
    fn part(&self, needed: &Needed, state: &State, slack: u64, spare: u64, only: Option<u64>) -> Result<Part> {
        let end = self.end.load(Relaxed);
        let mut found: Vec<Found> = Vec::new();
        let mut add = |at, len, takes, moves| found.push(Found { at, len, takes, moves });
        for segment in needed.segments.iter().filter(|segment| segment.is_own() && segment.live > 0) {
            let takes = if segment.is_sparse()? { segment.least()? } else { segment.len()? };
            add(segment.row.record, segment.len()?, takes, true);
        }
        for table in needed.tables.values() {
            // All of a table is in memory when it is written.
            let movable = table.payload_len.get() < MERGED_ROWS * 32;
            let len = len_of(RecordType::Table as u8, table.payload_len.get())?;
            add(table.record.get(), len, len, movable);
        }
        let own = len_of(RecordType::Commit as u8, self.medium.sealing.commit(&state.commit)?.len() as u64)?;
        for record in &needed.states {
            let header = records::sound_header(&self.medium, *record)?;
            let len = len_of(header.kind, header.payload_len.get())?;
            add(*record, len, len, true);
        }
        found.extend(self.keys(state)?);
        // Parity that still covers something is not what space is to be gained by; it is not moved, but made anew.
        for group in &state.groups {
            let body = group.body();
            let len = len_of(RecordType::Parity as u8, body.end - body.start)?;
            found.push(Found { at: body.start - RECORD_HEADER_LEN, len, takes: len, moves: true });
        }
        found.sort_unstable_by_key(|found| found.at);
        // Behind the oldest state that was looked at lies what nobody looked at.
        let front = self.front(state)?;
        let floor = match needed.chain.last() {
            Some(oldest) if needed.chain.len() == STATES => *oldest,
            _ => front,
        };
        let (mut live, mut first, mut best, mut most) = (own, end, None, 0);
        for i in (0..=found.len()).rev() {
            let start = i.checked_sub(1).map_or(front, |before| found[before].at + found[before].len);
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
            let Some(before) = i.checked_sub(1).map(|before| &found[before]).filter(|before| before.moves) else {
                break;
            };
            live += before.takes;
            first = before.at;
        }
        Ok(best)
    }

    /// The keys that the newest commit names. The first ones stay where the header says that they are.
    fn keys(&self, state: &State) -> Result<Option<Found>> {
        let (at, uid) = (state.commit.head.keys.get(), &state.commit.head.uid);
        if !state.sealing.is_sealed() {
            return Ok(None);
        }
        let end = locks::end(&*self.medium, at, uid)?;
        let end = end.ok_or_else(|| damaged(format!("there are no keys at {at}")))?;
        Ok(Some(Found { at, len: end - at, takes: end - at, moves: at != HEADER_LEN }))
    }

    /// Where what may be written anew begins: behind the header, and the keys that it names.
    fn front(&self, state: &State) -> Result<u64> {
        if !state.sealing.is_sealed() {
            return Ok(HEADER_LEN);
        }
        Ok(locks::end(&*self.medium, HEADER_LEN, &state.commit.head.uid)?.unwrap_or(HEADER_LEN))
    }

    /// Marks what the segments from `start` on are decoded with that are written as they are; false when all of it was.
    fn mark_bases(&self, needed: &mut Needed, start: u64) -> Result<bool> {
        let before = needed.live();
        let lies_over = needed.segments.iter().any(|segment| !segment.is_own());
        let mut is_less = false;
        for piece in needed.pieces(start)? {
            match piece {
                Piece::Whole(row) => {
                    for base in self.medium.bases(&row)? {
                        needed.mark(base.address.get(), base.len.get());
                    }
                }
                Piece::Parts(rows) if lies_over => {
                    for row in rows {
                        is_less |= needed.keep_whole(&row, &self.medium.bases(&row)?);
                    }
                }
                Piece::Parts(_) => {}
            }
        }
        needed.settle();
        Ok(needed.live() > before || is_less)
    }
}
