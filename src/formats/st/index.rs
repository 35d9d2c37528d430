//! The index: all tables of a commit, seen as one.
//!
//! A newer table overrules an older one. A point lookup asks the newest first; a walk over a range merges the tables. A
//! container that was packed has one table, and then both go straight to it.

use super::medium::Medium;
use super::rows::{Block, ChunkRow, Metas, Names, Nodes, Plain, Rows, SegmentRow, key, meta_key, name_key};
use super::seal::Sealing;
use super::table::Table;
use crate::cache::{Cache, Key};
use crate::error::Result;
use std::sync::Arc;

/// The space of table blocks in the cache.
const BLOCKS: u8 = 1;

/// All live tables.
pub struct Index {
    /// Oldest first.
    tables: Vec<Arc<Table>>,
    medium: Medium,
    cache: Arc<Cache>,
    owner: u64,
}

/// A row in a decoded block.
pub struct At<B> {
    pub block: Arc<B>,
    pub row: usize,
}

impl Index {
    pub fn new(tables: Vec<Arc<Table>>, medium: Medium, cache: Arc<Cache>, owner: u64) -> Self {
        Self { tables, medium, cache, owner }
    }

    pub fn sealing(&self) -> &Sealing {
        &self.medium.sealing
    }

    pub fn tables(&self) -> &[Arc<Table>] {
        &self.tables
    }

    fn block<B: Block>(&self, table: usize, block: usize) -> Result<Arc<B>> {
        let key = Key { owner: self.owner, space: BLOCKS, at: self.tables[table].fences[block].at };
        self.cache.get_or_load(key, || self.tables[table].load(block, &self.medium).map_err(|e| self.medium.blame(e)))
    }

    /// The newest row with the key, which `order` finds in a block (as of `binary_search_by`).
    fn get<B: Block>(&self, key: &[u8], order: impl Fn(&B, usize) -> std::cmp::Ordering) -> Result<Option<At<B>>> {
        for table in (0..self.tables.len()).rev() {
            let Some(at) = self.tables[table].block_for(key) else { continue };
            let block = self.block::<B>(table, at)?;
            let row = partition(block.rows(), |row| order(&block, row).is_lt());
            if row < block.rows() && order(&block, row).is_eq() {
                return Ok((!block.deletes(row)).then_some(At { block, row }));
            }
        }
        Ok(None)
    }

    pub fn node(&self, ino: u64) -> Result<Option<At<Nodes>>> {
        self.get(&key(Nodes::FAMILY, &[ino]), |block: &Nodes, row| block.entry(row).ino.cmp(&ino))
    }

    pub fn name(&self, parent: u64, name: &[u8]) -> Result<Option<At<Names>>> {
        self.get(&name_key(parent, name), |block: &Names, row| block.key_of(row).cmp(&(parent, name)))
    }

    /// Where a chunk may lie whose id begins so.
    pub fn chunk(&self, id: u64) -> Result<Option<ChunkRow>> {
        let key = key(ChunkRow::FAMILY, &[id]);
        let found = self.get(&key, |block: &Rows<ChunkRow>, row| block.get(row).id.cmp(&id))?;
        Ok(found.map(|at| *at.block.get(at.row)))
    }

    pub fn meta(&self, name: &[u8]) -> Result<Option<Vec<u8>>> {
        let found = self.get(&meta_key(name), |block: &Metas, row| block.get(row).name.as_slice().cmp(name))?;
        Ok(found.map(|at| at.block.get(at.row).value.clone()))
    }

    /// The segment that holds a tape address.
    pub fn segment(&self, address: u64) -> Result<Option<SegmentRow>> {
        for table in (0..self.tables.len()).rev() {
            if let Some(row) = self.segment_in(table, address)? {
                return Ok(Some(row));
            }
        }
        Ok(None)
    }

    /// The last segment of a table that begins at or before the address, if it reaches it. Deleted rows in between are
    /// stepped over.
    fn segment_in(&self, table: usize, address: u64) -> Result<Option<SegmentRow>> {
        let key = key(SegmentRow::FAMILY, &[address]);
        let mut at = self.tables[table].block_for(&key);
        while let Some(block_at) = at {
            let block = self.block::<Rows<SegmentRow>>(table, block_at)?;
            let behind = partition(block.rows(), |row| block.get(row).address <= address);
            if let Some(row) = (0..behind).rev().find(|row| !block.deletes(*row)) {
                let row = *block.get(row);
                return Ok((address - row.address < row.raw_len).then_some(row));
            }
            at = block_at.checked_sub(1).filter(|i| self.tables[table].fences[*i].family == SegmentRow::FAMILY);
        }
        Ok(None)
    }

    /// All live rows of a family from a key on, in order. `before` tells of a row whether it comes before that key.
    pub fn from<B: Block>(&self, key: &[u8], before: impl Fn(&B, usize) -> bool) -> Result<Merge<'_, B>> {
        let mut cursors = Vec::new();
        for (i, table) in self.tables.iter().enumerate() {
            let Some(at) = table.block_for(key).or_else(|| table.first_block(B::FAMILY)) else { continue };
            let block = self.block::<B>(i, at)?;
            let row = partition(block.rows(), |row| before(&block, row));
            let mut cursor = TableCursor { table: i, at, block, row };
            if cursor.settle(self)? {
                cursors.push(cursor);
            }
        }
        Ok(Merge { index: self, cursors })
    }

    /// All live rows of a family.
    pub fn all<B: Block>(&self) -> Result<Merge<'_, B>> {
        self.from(&[B::FAMILY], |_, _| false)
    }
}

/// The number of rows for which `before` holds; they stand in front.
fn partition(rows: usize, before: impl Fn(usize) -> bool) -> usize {
    let (mut low, mut high) = (0, rows);
    while low < high {
        let middle = low + (high - low) / 2;
        if before(middle) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    low
}

struct TableCursor<B> {
    table: usize,
    at: usize,
    block: Arc<B>,
    row: usize,
}

impl<B: Block> TableCursor<B> {
    /// Moves on to the next block when this one is at its end; false at the end of the family.
    fn settle(&mut self, index: &Index) -> Result<bool> {
        while self.row >= self.block.rows() {
            let next = self.at + 1;
            if index.tables[self.table].fences.get(next).is_none_or(|fence| fence.family != B::FAMILY) {
                return Ok(false);
            }
            self.block = index.block(self.table, next)?;
            (self.at, self.row) = (next, 0);
        }
        Ok(true)
    }
}

/// A walk over the live rows of a family, in the order of their keys.
pub struct Merge<'a, B> {
    index: &'a Index,
    /// Oldest table first.
    cursors: Vec<TableCursor<B>>,
}

impl<B: Block> Merge<'_, B> {
    /// The next live row.
    pub fn next(&mut self) -> Result<Option<At<B>>> {
        while let Some(at) = self.step()? {
            if !at.block.deletes(at.row) {
                return Ok(Some(at));
            }
        }
        Ok(None)
    }

    /// The next key, as its newest table has it; older rows of that key are passed over.
    pub fn step(&mut self) -> Result<Option<At<B>>> {
        let Some(mut best) = self.cursors.len().checked_sub(1) else { return Ok(None) };
        for i in (0..best).rev() {
            if self.compare(i, best).is_lt() {
                best = i;
            }
        }
        let found = At { block: self.cursors[best].block.clone(), row: self.cursors[best].row };
        let mut i = 0;
        while i < self.cursors.len() {
            let cursor = &mut self.cursors[i];
            let same = B::compare((&cursor.block, cursor.row), (&found.block, found.row)).is_eq();
            cursor.row += usize::from(same);
            if cursor.settle(self.index)? {
                i += 1;
            } else {
                self.cursors.remove(i);
            }
        }
        Ok(Some(found))
    }

    fn compare(&self, a: usize, b: usize) -> std::cmp::Ordering {
        let (a, b) = (&self.cursors[a], &self.cursors[b]);
        B::compare((&a.block, a.row), (&b.block, b.row))
    }
}
