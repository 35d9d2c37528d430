//! A part of a container on its way to another place.

use super::super::super::commit::{self, Commit};
use super::super::super::layout::{RECORD_HEADER_LEN, RecordType, TableRef};
use super::super::super::plan::Class;
use super::super::super::records::{self, Log, Placed};
use super::super::super::rows::{ChunkRow, SegmentRow};
use super::super::super::seal::{Seal, Sealing};
use super::super::super::table::{Left, NewTable, Table};
use super::super::super::{open_table, pack};
use super::super::{INDEX_LEVEL, StWriter, State, Tail};
use super::needed::{Needed, Piece, Plan, len_of, overlaps};
use crate::codec::damaged;
use crate::codec::id::Id;
use crate::error::{Error, Kind, Result};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// A commit, its tables, and where it ends.
type Written = (Commit, Vec<Arc<Table>>, u64);

/// Records on their way to another place.
struct Copy<'a> {
    tail: Tail<'a>,
    uid: [u8; 16],
    sealing: Sealing,
    at: u64,
    limit: u64,
    last_commit: u64,
}

impl Copy<'_> {
    /// Whether there is room for a record of this length.
    fn check(&self, kind: RecordType, payload_len: u64) -> Result<()> {
        if self.at + len_of(kind as u8, payload_len)? <= self.limit {
            return Ok(());
        }
        Err(Error::new(Kind::NoSpace, "what is needed takes more room than it did"))
    }

    fn put(&mut self, kind: RecordType, seq: u64, payload: &[u8]) -> Result<Placed> {
        self.check(kind, payload.len() as u64)?;
        self.append(seq, |log| log.append(kind, &[payload]))
    }

    fn put_segment(&mut self, seq: u64, segment: &pack::Segment) -> Result<SegmentRow> {
        self.check(RecordType::Segment, (segment.front.len() + segment.data.len()) as u64)?;
        self.append(seq, |log| pack::append_segment(log, segment))
    }

    /// Writes the newest keys, twice as ever; where they are then.
    fn put_keys(&mut self, seq: u64, seal: &Seal) -> Result<u64> {
        let payload = seal.payload()?;
        let first = self.put(RecordType::Keys, seq, &payload)?;
        self.put(RecordType::Keys, seq, &payload)?;
        Ok(first.record)
    }

    fn append<T>(&mut self, seq: u64, append: impl FnOnce(&mut Log<'_>) -> Result<T>) -> Result<T> {
        let log = Log::new(&mut self.tail, self.uid, self.at, seq, self.last_commit);
        let mut log = log.sealed(&self.sealing);
        let appended = append(&mut log)?;
        self.at = log.at();
        Ok(appended)
    }
}

impl StWriter {
    /// Writes the part at `to`, with its segments or without, and makes it durable. It must end before `limit`.
    pub(super) fn write_anew(
        &self,
        state: &State,
        plan: &Plan,
        to: u64,
        limit: u64,
        segments: bool,
    ) -> Result<Written> {
        self.untidy.store(true, Relaxed);
        let last_commit = if to == self.end.load(Relaxed) { state.commit.record } else { plan.before };
        let tail = Tail { store: &*self.store, start: to, pending: Vec::new(), written: 0 };
        let (uid, sealing) = (state.commit.head.uid, self.medium.sealing.clone());
        let mut copy = Copy { tail, uid, sealing, at: to, limit, last_commit };
        let mut keys = state.commit.head.keys.get();
        if let Some(seal) = state.sealing.seal().filter(|_| keys >= plan.start) {
            keys = copy.put_keys(state.commit.head.seq.get(), seal)?;
        }
        let mut rows = BTreeMap::new();
        for piece in plan.needed.pieces(plan.start)? {
            match piece {
                Piece::Whole(row) if !segments => _ = rows.insert(row.address, row),
                Piece::Parts(parts) if !segments => rows.extend(parts.into_iter().map(|row| (row.address, row))),
                Piece::Whole(row) => {
                    let (seq, payload) = self.payload(&row)?;
                    let placed = copy.put(RecordType::Segment, seq, &payload)?;
                    rows.insert(row.address, SegmentRow { record: placed.record, ..row });
                }
                Piece::Parts(parts) => {
                    let (address, bytes) = self.parts(&plan.needed, &parts)?;
                    let class = Class::of(&bytes);
                    let raw = pack::Raw { address, bytes: Arc::new(bytes), class, prefix: None, dict: None };
                    let new = copy.put_segment(
                        state.commit.head.seq.get(),
                        &pack::encode(&raw, &self.preset, &self.medium.sealing)?,
                    )?;
                    rows.extend(parts.iter().map(|row| (row.address, new)));
                }
            }
        }
        let mut moved = BTreeMap::new();
        for (record, reference) in plan.needed.tables.range(plan.start..) {
            let table = Arc::new(open_table(&self.medium, reference, self.end.load(Relaxed), &mut Left::default())?);
            let index = self.index(state, vec![table]);
            let segment = |row: &SegmentRow| {
                if row.store != 0 || row.record < plan.start { Some(*row) } else { rows.get(&row.address).copied() }
            };
            let stays = |row: &ChunkRow| {
                plan.needed.find(row.address).is_some_and(|s| s.row.store != 0 || s.row.record < plan.start)
            };
            let chunk = |row: &ChunkRow| stays(row) || plan.needed.is_needed(row.address, row.len);
            let Some(mut encoded) = NewTable::moved(&index, segment, chunk, INDEX_LEVEL)? else { continue };
            let seq = records::sound_header(&self.medium, *record)?.seq.get();
            let placed = copy.put(RecordType::Table, seq, &encoded.payload)?;
            encoded.reference.record = placed.record.into();
            let table = Arc::new(Table::written(&encoded, placed.record + RECORD_HEADER_LEN, &self.medium.sealing)?);
            moved.insert(*record, (encoded.reference, table));
        }
        let place = |table: &TableRef| match table.record.get() {
            record if record < plan.start => Some(*table),
            record => moved.get(&record).map(|(reference, _)| *reference),
        };
        let mut prev = match plan.before {
            0 => (0, [0; 32]),
            before => (before, records::sound_header(&self.medium, before)?.payload_hash),
        };
        let nothing = Id::of(&[]).0;
        for record in plan.needed.states.iter().filter(|record| **record >= plan.start) {
            let mut earlier = commit::read(&self.medium, *record)?;
            earlier.tables = earlier.tables.iter().filter_map(place).collect();
            (earlier.parity, earlier.signer) = (0, None);
            let head = &mut earlier.head;
            (head.prev, head.prev_hash) = (prev.0.into(), prev.1);
            (head.tail_start, head.tail_hash) = (copy.at.into(), nothing);
            head.keys = keys.into();
            head.tables = (earlier.tables.len() as u32).into();
            let placed = copy.put(RecordType::State, earlier.head.seq.get(), &self.medium.sealing.commit(&earlier)?)?;
            prev = (placed.record, placed.hash);
        }
        let mut commit = state.commit.clone();
        let tables = commit.tables.iter().zip(&state.tables).filter_map(|(reference, table)| {
            let found = moved.get(&reference.record.get()).map(|(_, table)| table.clone());
            found.or_else(|| (reference.record.get() < plan.start).then(|| table.clone()))
        });
        let tables = tables.collect();
        commit.tables = commit.tables.iter().filter_map(place).collect();
        commit.parity = state.newest_parity();
        let head = &mut commit.head;
        (head.seq, head.time_ns) = ((head.seq.get() + 1).into(), (head.time_ns.get() + 1).into());
        (head.prev, head.prev_hash) = (prev.0.into(), prev.1);
        head.keys = keys.into();
        commit.record = copy.at;
        commit.signer = self.signing.public().map(|key| *key.as_bytes());
        copy.check(RecordType::Commit, self.medium.sealing.commit(&commit)?.len() as u64)?;
        let end = self.write_commit(copy.tail, &mut commit, last_commit)?;
        Ok((commit, tables, end))
    }

    /// What is needed of some segments, and its address.
    fn parts(&self, needed: &Needed, rows: &[SegmentRow]) -> Result<(u64, Vec<u8>)> {
        let (mut address, mut bytes) = (0, Vec::new());
        for row in rows {
            let decoded = self.tape.decode(row, 0)?;
            for (from, to) in overlaps(&needed.ranges, row.address, row.address + row.raw_len) {
                if bytes.is_empty() {
                    address = from;
                }
                bytes.resize((from - address) as usize, 0);
                let (from, to) = ((from - row.address) as usize, (to - row.address) as usize);
                bytes.extend_from_slice(&decoded.bytes[from..to]);
            }
        }
        Ok((address, bytes))
    }

    /// What a segment is stored as, and the number of its commit.
    fn payload(&self, row: &SegmentRow) -> Result<(u64, Vec<u8>)> {
        let header = records::sound_header(&self.medium, row.record)?;
        if header.payload_hash != row.hash || header.payload_len.get() != row.payload_len {
            return Err(damaged(format!("the header of the record at {} is damaged", row.record)));
        }
        let payload = records::read_payload(&self.medium, &header, row.payload_len)?;
        Ok((header.seq.get(), payload))
    }
}
