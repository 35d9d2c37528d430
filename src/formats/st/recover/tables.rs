//! Which tables are alive, when no commit says so.
//!
//! ```text
//!  T1 ── T2 ── T3 ── T4           a writer takes older tables into a new one: T3 has all that T2 had,
//!        └──────┘                 and what T2 said is no longer asked for
//! ```
//!
//! To keep a table that was taken into another is harmless: the newer rows overrule it. But for one case: what took in *all*
//! older tables has no rows for what is deleted, so an older table beside it would bring that back. Rows that are never
//! deleted tell what was taken in: those of segments and chunks; and a row of an inode that stands unchanged in both.

use super::super::commit::Commit;
use super::super::index::Index;
use super::super::layout::{RECORD_HEADER_LEN, RecordHeader, TableRef, TableTail};
use super::super::medium::Medium;
use super::super::rows::{Block, ChunkRow, ExtentRow, Nodes, Rows, SegmentRow};
use super::super::table::{Left, Table};
use super::super::{TAPE_START, limits, open_table, records};
use super::scan;
use crate::cache::Cache;
use crate::codec::damaged;
use crate::codec::id::Id;
use crate::error::{Error, Kind, Result};
use crate::source::ReadAt;
use std::sync::Arc;
use zerocopy::FromBytes;

/// Rows of a table that are looked up in a newer one.
const SAMPLE: usize = 64;
/// A writer takes a table in that has at most so many rows for each of its own.
const GROWTH: u64 = 2;

/// Rows that are looked up at all, before it is given up.
const LOOKUPS: u64 = 1 << 22;

/// A table that counts.
pub struct Alive {
    seq: u64,
    rows: u64,
    reference: TableRef,
    table: Arc<Table>,
    used: Left,
}

/// What is above all numbers that were ever used.
#[derive(Clone, Copy, Debug)]
pub struct Next {
    pub address: u64,
    pub ino: u64,
}

impl Default for Next {
    fn default() -> Self {
        Self { address: TAPE_START, ino: super::super::tree::ROOT + 1 }
    }
}

impl Next {
    pub fn address(&mut self, address: u64) {
        self.address = self.address.max(address);
    }

    /// Inodes and the ids of data are given by one counter.
    pub fn ino(&mut self, ino: u64) {
        self.ino = self.ino.max(ino.saturating_add(1));
    }
}

/// The tables that are alive, from the oldest to the newest that was added.
pub struct Tables {
    medium: Medium,
    cache: Arc<Cache>,
    owner: u64,
    alive: Vec<Alive>,
    lookups: u64,
    pub next: Next,
}

impl Tables {
    pub fn new(medium: Medium, cache: Arc<Cache>) -> Self {
        let owner = cache.new_owner();
        Self { medium, cache, owner, alive: Vec::new(), lookups: LOOKUPS, next: Next::default() }
    }

    /// Takes over the tables of a commit.
    pub fn resume(&mut self, commit: &Commit, tables: Vec<Arc<Table>>) {
        let seq = commit.head.seq.get();
        self.next.address(commit.head.next_address.get());
        self.next.ino(commit.head.next_ino.get().saturating_sub(1));
        for (reference, table) in commit.tables.iter().zip(tables) {
            // Damage in a table of a whole commit is for the check to tell.
            let _ = self.water(&table);
            let alive = Alive { seq, rows: rows(&table), reference: *reference, table, used: NOTHING };
            self.alive.push(alive);
        }
    }

    pub fn is_empty(&self) -> bool {
        self.alive.is_empty()
    }

    pub fn references(&self) -> Vec<TableRef> {
        self.alive.iter().map(|alive| alive.reference).collect()
    }

    pub fn index(&self) -> Arc<Index> {
        self.index_of(self.alive.iter().map(|alive| alive.table.clone()).collect())
    }

    pub fn index_of(&self, tables: Vec<Arc<Table>>) -> Arc<Index> {
        Arc::new(Index::new(tables, self.medium.clone(), self.cache.clone(), self.owner))
    }

    /// Reads a table record whole. Fails when it is not as it was written.
    pub fn read(&mut self, header: &RecordHeader) -> Result<Alive> {
        let reference = verify(&*self.medium, header)?;
        let mut left = Left::default();
        let table = Arc::new(open_table(&self.medium, &reference, u64::MAX, &mut left)?);
        self.water(&table)?;
        let used = less(&Left::default(), &left);
        Ok(Alive { seq: header.seq.get(), rows: rows(&table), reference, table, used })
    }

    /// Whether the segments are whole that a table brings with it: those behind all that was there before.
    pub fn is_finished(&self, newer: &Alive) -> Result<bool> {
        let before = self.alive.iter().map(|older| older.reference.record.get()).max().unwrap_or(0);
        let index = self.index_of(vec![newer.table.clone()]);
        let mut rows = index.all::<Rows<SegmentRow>>()?;
        while let Some(at) = rows.next()? {
            let row = at.block.get(at.row);
            let own = row.store == 0 && row.record > before;
            if own && !is_there(&self.medium, row) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Adds a table that is newer than all others.
    pub fn add(&mut self, newer: Alive) -> Result<()> {
        let kept = self.kept(&newer)?;
        self.alive.truncate(kept);
        let mut left = Left::default();
        self.alive.iter().chain([&newer]).for_each(|alive| left = less(&left, &alive.used));
        if self.alive.len() as u32 >= limits::TABLES || left.rows == 0 || left.text == 0 || left.bytes == 0 {
            return Err(Error::new(Kind::Limit, "it has more tables than a commit may name"));
        }
        self.alive.push(newer);
        Ok(())
    }

    /// How many of the tables are still alive beside a newer one, which may have taken the others in.
    fn kept(&mut self, newer: &Alive) -> Result<usize> {
        let mut unclear = 0;
        for i in 0..self.alive.len() {
            if self.alive[i].seq >= newer.seq {
                break;
            }
            let sign = match self.is_in(i, newer) {
                // What cannot be read may hold what nothing else does.
                Err(e) if e.kind() == Kind::Damaged => Some(false),
                other => other?,
            };
            match sign {
                Some(false) => unclear = i + 1,
                None => {}
                // A writer takes in the newest ones first: all behind this one are in, and of those before it, without
                // a sign, the ones that are so small that it would have taken them.
                Some(true) => return Ok(self.small(unclear, i, newer)),
            }
        }
        let end = self.alive.iter().take_while(|older| older.seq < newer.seq).count();
        Ok(if end == self.alive.len() { self.small(unclear, end, newer) } else { self.alive.len() })
    }

    fn small(&self, from: usize, to: usize, newer: &Alive) -> usize {
        let large = (from..to).rev().find(|i| self.alive[*i].rows > newer.rows.saturating_mul(GROWTH));
        large.map_or(from, |i| i + 1)
    }

    /// Whether a newer table has taken an older one in; `None` when nothing tells.
    fn is_in(&mut self, older: usize, newer: &Alive) -> Result<Option<bool>> {
        let older = self.alive[older].table.clone();
        let (old, new) = (self.index_of(vec![older]), self.index_of(vec![newer.table.clone()]));
        self.look_up()?;
        if let Some(at) = old.all::<Rows<SegmentRow>>()?.next()? {
            let row = at.block.get(at.row);
            return Ok(Some(new.segment(row.address)? == Some(*row)));
        }
        let (mut chunks, mut any) = (old.all::<Rows<ChunkRow>>()?, false);
        for _ in 0..SAMPLE {
            let Some(at) = chunks.next()? else { break };
            any = true;
            self.look_up()?;
            if new.chunk(at.block.get(at.row).id)?.is_none() {
                return Ok(Some(false));
            }
        }
        if any {
            return Ok(Some(true));
        }
        let mut nodes = old.all::<Nodes>()?;
        for _ in 0..SAMPLE {
            let Some(at) = nodes.next()? else { break };
            let row = at.block.row(at.row);
            self.look_up()?;
            if new.node(row.ino)?.is_some_and(|at| at.block.row(at.row) == row) {
                return Ok(Some(true));
            }
        }
        Ok(None)
    }

    fn look_up(&mut self) -> Result<()> {
        let left = self.lookups.checked_sub(1);
        self.lookups = left.ok_or_else(|| Error::new(Kind::Limit, "it has more tables than can be recovered"))?;
        Ok(())
    }

    /// Keeps what is above the numbers of a table, deleted ones too: rows ascend, so the last ones tell.
    fn water(&mut self, table: &Table) -> Result<()> {
        if let Some(nodes) = self.last::<Nodes>(table)? {
            self.next.ino(nodes.entry(nodes.rows() - 1).ino);
        }
        if let Some(extents) = self.last::<Rows<ExtentRow>>(table)? {
            self.next.ino(extents.get(extents.rows() - 1).data_id);
        }
        if let Some(segments) = self.last::<Rows<SegmentRow>>(table)? {
            let row = segments.get(segments.rows() - 1);
            self.next.address(row.address + row.raw_len);
        }
        Ok(())
    }

    fn last<B: Block>(&self, table: &Table) -> Result<Option<B>> {
        let behind = table.fences.partition_point(|fence| fence.family <= B::FAMILY);
        let last = behind.checked_sub(1).filter(|i| table.fences[*i].family == B::FAMILY);
        last.map(|i| table.load(i, &self.medium)).transpose().map(|block| block.filter(|block: &B| block.rows() > 0))
    }
}

fn rows(table: &Table) -> u64 {
    table.fences.iter().map(|fence| fence.rows).sum()
}

const NOTHING: Left = Left { rows: 0, text: 0, bytes: 0 };

fn less(a: &Left, b: &Left) -> Left {
    let (rows, text) = (a.rows.saturating_sub(b.rows), a.text.saturating_sub(b.text));
    Left { rows, text, bytes: a.bytes.saturating_sub(b.bytes) }
}

/// Whether a segment is where its row says, and as it was written.
fn is_there(medium: &Medium, row: &SegmentRow) -> bool {
    records::read_header(&**medium, row.record)
        .is_ok_and(|header| header.payload_hash == row.hash && scan::is_whole(medium, &header))
}

/// What a commit would say of a table record, when its payload is as it was written.
fn verify(source: &dyn ReadAt, header: &RecordHeader) -> Result<TableRef> {
    let (record, len) = (header.offset.get(), header.payload_len.get());
    let cut = || damaged(format!("the table at {record} is cut off"));
    let at = record + RECORD_HEADER_LEN;
    let end = at.checked_add(len).filter(|end| source.len().is_ok_and(|len| *end <= len)).ok_or_else(cut)?;
    if records::hash(source, at, end)? != header.payload_hash {
        return Err(damaged(format!("the table at {record} fails its check")));
    }
    let mut tail = [0; size_of::<TableTail>()];
    let tail_at = end.checked_sub(tail.len() as u64).filter(|tail_at| *tail_at >= at).ok_or_else(cut)?;
    source.read_exact_at(tail_at, &mut tail)?;
    let tail = TableTail::read_from_bytes(&tail).expect("the buffer has the size of a tail");
    let (blocks_len, fence_len) = (tail.blocks_len.get(), tail.fence_len.get());
    let is_right = blocks_len.checked_add(fence_len) == Some(tail_at - at) && fence_len <= limits::FENCE_RAW;
    if !is_right {
        return Err(damaged(format!("the table at {record} contradicts itself")));
    }
    let mut fence = vec![0; fence_len as usize];
    source.read_exact_at(at + blocks_len, &mut fence)?;
    let fence_hash = Id::of(&fence).0;
    let (blocks_len, fence_len) = (tail.blocks_len, tail.fence_len);
    Ok(TableRef { record: record.into(), payload_len: len.into(), blocks_len, fence_len, fence_hash })
}
