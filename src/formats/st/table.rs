//! Tables: immutable, sorted, found by a fence.
//!
//! ```text
//! TABLE payload = block … block ‖ fence ‖ u64 length of the blocks ‖ u64 length of the fence
//! ```
//!
//! Blocks hold up to 1024 rows of one family. The fence has a row for each block: its family, its first key, its length
//! and its hash; it stays in memory while a container is open (about 90 KB for a million files), blocks are read and
//! decoded when they are wanted. The hash of the fence stands in the COMMIT, so the fence vouches for the blocks and the
//! commit for the fence.

use super::columns::{In, Out, unwrap};
use super::index::{Index, Merge};
use super::layout::{TableRef, TableTail};
use super::limits;
use super::medium::Medium;
use super::rows::{Block, ChunkRow, ExtentRow, MetaRow, NameRow, NodeRow, Plain, Row, Rows, SegmentRow};
use super::seal::{Piece, Sealing};
use crate::codec::damaged;
use crate::codec::id::Id;
use crate::error::{Result, Within};
use zerocopy::IntoBytes;

/// Rows that are to become a table.
#[derive(Clone, Default)]
pub struct NewTable {
    pub names: Vec<NameRow>,
    pub nodes: Vec<NodeRow>,
    pub extents: Vec<ExtentRow>,
    pub segments: Vec<SegmentRow>,
    pub chunks: Vec<ChunkRow>,
    pub metas: Vec<MetaRow>,
    /// Keys that are deleted, with their family in front. Only a table that is merged may have any.
    pub gone: Vec<Vec<u8>>,
}

/// A finished TABLE payload and what a COMMIT says of it; the offset of the record is not yet known.
pub struct Encoded {
    pub payload: Vec<u8>,
    pub reference: TableRef,
}

impl NewTable {
    /// Sorts the rows and writes them as blocks and a fence; `level` is that of zstd.
    pub fn encode(mut self, level: i32, sealing: &Sealing) -> Result<Encoded> {
        self.names.sort_unstable_by(|a, b| (a.parent, &a.name).cmp(&(b.parent, &b.name)));
        self.nodes.sort_unstable_by_key(|row| row.ino);
        self.metas.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        let mut writer = TableWriter::new(level, sealing);
        writer.family(&self.names)?;
        writer.family(&self.nodes)?;
        writer.plain(self.extents)?;
        writer.plain(self.segments)?;
        writer.plain(self.chunks)?;
        writer.family(&self.metas)?;
        writer.finish()
    }

    /// An older table once more, for other places of its segments: `segment` gives their new rows, `chunk` says which hints
    /// stay. `None` when no row is left.
    pub fn moved(
        table: &Index,
        segment: impl Fn(&SegmentRow) -> Option<SegmentRow>,
        chunk: impl Fn(&ChunkRow) -> bool,
        level: i32,
    ) -> Result<Option<Encoded>> {
        let mut writer = TableWriter::new(level, table.sealing());
        writer.merged(Vec::<NameRow>::new(), &[], table, false)?;
        writer.merged(Vec::<NodeRow>::new(), &[], table, false)?;
        writer.merged(Vec::<ExtentRow>::new(), &[], table, false)?;
        writer.mapped(table, segment)?;
        writer.mapped(table, |row: &ChunkRow| chunk(row).then_some(*row))?;
        writer.merged(Vec::<MetaRow>::new(), &[], table, false)?;
        if writer.blocks == 0 { Ok(None) } else { writer.finish().map(Some) }
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.names.len()
            + self.nodes.len()
            + self.extents.len()
            + self.segments.len()
            + self.chunks.len()
            + self.metas.len()
            + self.gone.len()
    }

    /// Writes the rows together with those of older tables, which they overrule. `last` says that there are no tables
    /// older than these: then what is deleted needs no row any more.
    pub fn merge(mut self, older: &Index, last: bool, level: i32) -> Result<Encoded> {
        self.gone.sort_unstable();
        let mut writer = TableWriter::new(level, older.sealing());
        writer.merged(self.names, &self.gone, older, last)?;
        writer.merged(self.nodes, &self.gone, older, last)?;
        writer.merged(self.extents, &self.gone, older, last)?;
        writer.merged(self.segments, &self.gone, older, last)?;
        writer.merged(self.chunks, &self.gone, older, last)?;
        writer.merged(self.metas, &self.gone, older, last)?;
        writer.finish()
    }
}

struct TableWriter<'a> {
    level: i32,
    sealing: &'a Sealing,
    payload: Vec<u8>,
    fence: Out,
    blocks: u64,
}

/// A block that is being filled.
#[derive(Default)]
struct Filling {
    first: Vec<u8>,
    block: Out,
}

impl<'a> TableWriter<'a> {
    fn new(level: i32, sealing: &'a Sealing) -> Self {
        Self { level, sealing, payload: Vec::new(), fence: Out::default(), blocks: 0 }
    }

    fn plain<R: Plain>(&mut self, mut rows: Vec<R>) -> Result<()> {
        rows.sort_unstable_by_key(R::sort_key);
        rows.dedup_by_key(|row| row.sort_key());
        self.family(&rows)
    }

    fn family<R: Row>(&mut self, rows: &[R]) -> Result<()> {
        let mut filling = Filling::default();
        for row in rows {
            self.row::<R::Block>(&mut filling, || row.key(), |out| row.put(out))?;
        }
        self.end::<R::Block>(filling)
    }

    /// New rows and deletions of a family, and what older tables have besides.
    fn merged<R: Row>(&mut self, rows: Vec<R>, gone: &[Vec<u8>], older: &Index, last: bool) -> Result<()> {
        let family = R::Block::FAMILY;
        let gone = gone.iter().filter(|key| key.first() == Some(&family));
        let mut new: Vec<(Vec<u8>, Option<R>)> = rows.into_iter().map(|row| (row.key(), Some(row))).collect();
        new.extend(gone.map(|key| (key.clone(), None)));
        // A row that is put counts, whatever is deleted beside it.
        new.sort_by(|a, b| a.0.cmp(&b.0));
        new.dedup_by(|later, kept| later.0 == kept.0);
        let mut filling = Filling::default();
        let mut old: Merge<'_, R::Block> = older.all()?;
        let mut next_old = old.step()?;
        for (key, row) in new {
            while let Some(at) = next_old.as_ref() {
                let old_key = at.block.key(at.row);
                if old_key < key && !(last && at.block.deletes(at.row)) {
                    self.row::<R::Block>(&mut filling, || old_key.clone(), |out| at.block.copy(at.row, out))?;
                }
                if old_key > key {
                    break;
                }
                next_old = old.step()?;
            }
            match row {
                Some(row) => self.row::<R::Block>(&mut filling, || key, |out| row.put(out))?,
                None if !last => {
                    self.row::<R::Block>(&mut filling, || key.clone(), |out| R::Block::delete(&key, out))?
                }
                None => {}
            }
        }
        while let Some(at) = next_old {
            if !(last && at.block.deletes(at.row)) {
                self.row::<R::Block>(&mut filling, || at.block.key(at.row), |out| at.block.copy(at.row, out))?;
            }
            next_old = old.step()?;
        }
        self.end::<R::Block>(filling)
    }

    /// Other rows for those of a table, or none; the same for several is one. Deletions stay.
    fn mapped<R: Plain>(&mut self, table: &Index, map: impl Fn(&R) -> Option<R>) -> Result<()> {
        let (mut filling, mut rows, mut last) = (Filling::default(), table.all::<Rows<R>>()?, None);
        while let Some(at) = rows.step()? {
            if at.block.deletes(at.row) {
                self.row::<Rows<R>>(&mut filling, || at.block.key(at.row), |out| at.block.copy(at.row, out))?;
            } else if let Some(row) = map(at.block.get(at.row)).filter(|row| last != Some(row.sort_key())) {
                last = Some(row.sort_key());
                self.row::<Rows<R>>(&mut filling, || row.key(), |out| row.put(out))?;
            }
        }
        self.end::<Rows<R>>(filling)
    }

    fn row<B: Block>(
        &mut self,
        filling: &mut Filling,
        key: impl FnOnce() -> Vec<u8>,
        put: impl FnOnce(&mut Out),
    ) -> Result<()> {
        if filling.block.rows() == 0 {
            filling.first = key();
        }
        put(&mut filling.block);
        if filling.block.rows() >= limits::BLOCK_ROWS_TYPICAL || filling.block.raw_len() >= limits::BLOCK_RAW_TYPICAL {
            self.end::<B>(std::mem::take(filling))?;
        }
        Ok(())
    }

    fn end<B: Block>(&mut self, filling: Filling) -> Result<()> {
        if filling.block.rows() == 0 {
            return Ok(());
        }
        self.block(B::FAMILY, &filling.first, filling.block)
    }

    fn block(&mut self, family: u8, first: &[u8], block: Out) -> Result<()> {
        let rows = block.rows();
        let bytes = self.stored(Piece::Block, block.finish(self.level)?)?;
        self.fence.row();
        self.fence.u(u64::from(family));
        self.fence.u(rows);
        self.fence.p(first);
        self.fence.u(bytes.len() as u64);
        self.fence.h(&Id::of(&bytes).0);
        self.payload.extend_from_slice(&bytes);
        self.blocks += 1;
        Ok(())
    }

    fn stored(&self, piece: Piece, bytes: Vec<u8>) -> Result<Vec<u8>> {
        Ok(self.sealing.close(piece, &[&bytes])?.unwrap_or(bytes))
    }

    fn finish(mut self) -> Result<Encoded> {
        let blocks_len = self.payload.len() as u64;
        let fence = std::mem::take(&mut self.fence).finish(self.level)?;
        let fence = self.stored(Piece::Fence, fence)?;
        self.payload.extend_from_slice(&fence);
        let tail = TableTail { blocks_len: blocks_len.into(), fence_len: (fence.len() as u64).into() };
        self.payload.extend_from_slice(tail.as_bytes());
        let reference = TableRef {
            record: 0.into(),
            payload_len: (self.payload.len() as u64).into(),
            blocks_len: tail.blocks_len,
            fence_len: tail.fence_len,
            fence_hash: Id::of(&fence).0,
        };
        Ok(Encoded { payload: self.payload, reference })
    }
}

/// What the fence knows of a block.
pub struct Fence {
    pub family: u8,
    pub rows: u64,
    /// The first key of the block, with its family in front.
    pub first: Box<[u8]>,
    /// Where the block lies in the container.
    pub at: u64,
    pub len: u64,
    hash: [u8; 32],
}

/// What the fences of the tables of a commit may still have, all together.
#[derive(Clone, Copy, Debug)]
pub struct Left {
    pub rows: u64,
    /// Bytes of first keys.
    pub text: u64,
    /// Bytes of the fences themselves.
    pub bytes: u64,
}

impl Default for Left {
    fn default() -> Self {
        Self { rows: limits::FENCE_ROWS, text: limits::FENCE_TEXT, bytes: limits::FENCES }
    }
}

/// An opened table.
pub struct Table {
    pub fences: Vec<Fence>,
}

const FENCE_COLUMNS: usize = 7;

impl Table {
    /// Reads the fence that `reference` names; `payload_at` is where the payload begins in `medium`, `left` what the
    /// fences of all tables together may still have.
    pub fn open(medium: &Medium, payload_at: u64, reference: &TableRef, left: &mut Left) -> Result<Self> {
        let (blocks_len, fence_len) = (reference.blocks_len.get(), reference.fence_len.get());
        let fence_at = payload_at.checked_add(blocks_len).filter(|_| fence_len <= limits::FENCE_RAW);
        let fence_at = fence_at.ok_or_else(|| damaged("the sizes of a table are too large"))?;
        let mut bytes = vec![0; fence_len as usize];
        let place = || format!("the index of the table at {fence_at}");
        medium.read_checked(fence_at, &mut bytes, &reference.fence_hash).within(place)?;
        let raw = unwrap(medium.sealing.open(Piece::Fence, &mut bytes).within(place)?, limits::FENCE_RAW)?;
        // A commit may name one large fence of few rows thousands of times.
        let bytes = left.bytes.checked_sub(raw.len().max(bytes.len()) as u64);
        left.bytes = bytes.ok_or_else(|| damaged("the indexes of the tables are too large together"))?;
        Self::parse(&raw, payload_at, fence_at, left)
    }

    /// Opens a table that was just made and is going to be at `payload_at`.
    pub fn written(table: &Encoded, payload_at: u64, sealing: &Sealing) -> Result<Self> {
        let blocks_len = table.reference.blocks_len.get();
        let mut fence = table.payload[blocks_len as usize..][..table.reference.fence_len.get() as usize].to_vec();
        let raw = unwrap(sealing.open(Piece::Fence, &mut fence)?, limits::FENCE_RAW)?;
        Self::parse(&raw, payload_at, payload_at + blocks_len, &mut Left::default())
    }

    fn parse(raw: &[u8], mut at: u64, end: u64, left: &mut Left) -> Result<Self> {
        let mut input = In::new(raw, FENCE_COLUMNS, left.rows)?.with_text(left.text);
        let mut fences: Vec<Fence> = Vec::with_capacity(input.rows());
        for _ in 0..input.rows() {
            input.row();
            let family = u8::try_from(input.u()?).map_err(|_| damaged("a block of a table is of no known family"))?;
            let rows = input.u()?;
            let first: Box<[u8]> = input.p(crate::tree::Name::MAX + 16)?.into();
            let (len, hash) = (input.u()?, input.h()?);
            let ascending = fences.last().is_none_or(|last| last.first < first) && first.first() == Some(&family);
            if !ascending || len > end.saturating_sub(at) || rows == 0 || rows > limits::BLOCK_ROWS {
                return Err(damaged(format!("the index of a table contradicts itself at block {}", fences.len())));
            }
            fences.push(Fence { family, rows, first, at, len, hash });
            at += len;
        }
        *left = Left { rows: left.rows - input.rows() as u64, text: input.text_left(), ..*left };
        Ok(Self { fences })
    }

    /// Reads, checks and decodes a block, whose keys must lie where the fence says: a walk over blocks is in order, and a
    /// key that is found by the fence is found by the walk.
    pub fn load<B: Block>(&self, block: usize, medium: &Medium) -> Result<B> {
        let fence = &self.fences[block];
        let rows: B = fence.load(medium)?;
        let next = self.fences.get(block + 1);
        if *rows.key(0) == *fence.first && next.is_none_or(|next| *rows.key(rows.rows() - 1) < *next.first) {
            return Ok(rows);
        }
        Err(damaged(format!("the table block at {}: its rows are not where the index says", fence.at)))
    }

    /// The block that may hold `key`: the last one that does not begin behind it.
    pub fn block_for(&self, key: &[u8]) -> Option<usize> {
        let behind = self.fences.partition_point(|fence| *fence.first <= *key);
        let fence = behind.checked_sub(1)?;
        (self.fences[fence].family == key[0]).then_some(fence)
    }

    /// The first block that holds rows of a family.
    pub fn first_block(&self, family: u8) -> Option<usize> {
        let i = self.fences.partition_point(|fence| fence.family < family);
        self.fences.get(i).is_some_and(|fence| fence.family == family).then_some(i)
    }
}

impl Fence {
    /// Reads, checks and decodes the block.
    fn load<B: Block>(&self, medium: &Medium) -> Result<B> {
        let place = || format!("the table block at {}", self.at);
        let mut stored = self.read(medium).within(place)?;
        let bytes = medium.sealing.open(Piece::Block, &mut stored).within(place)?;
        let raw = unwrap(bytes, limits::BLOCK_RAW).within(place)?;
        let input = In::new(&raw, B::COLUMNS, limits::BLOCK_ROWS).within(place)?;
        if input.rows() as u64 != self.rows {
            return Err(damaged("the index of a table counts other rows than its block").within(place()));
        }
        B::decode(input).within(place)
    }

    /// Reads and checks the bytes of the block.
    pub fn read(&self, medium: &Medium) -> Result<Vec<u8>> {
        if self.len > limits::BLOCK_RAW {
            return Err(damaged("a table block is too large"));
        }
        let mut bytes = vec![0; self.len as usize];
        medium.read_checked(self.at, &mut bytes, &self.hash)?;
        Ok(bytes)
    }
}
