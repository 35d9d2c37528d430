//! A container taken apart into segments and the columns of its tables, and put together again with one commit and nothing
//! compressed in its tables. Offsets and lengths are made anew; the hashes are left to `seal`.

use crate::seal::{self, COMMIT, COMMIT_HEAD, FENCE_STREAMS, RECORD, SEGMENT, SEGMENTS, TABLE, TABLE_REF};
use std::collections::HashMap;
use stmount::codec::varint::{Cursor, put, unzigzag, zigzag};
use stmount::codec::zstd;

/// Limits of what is taken apart; an input over them is mutated as plain bytes.
const TABLES: usize = 16;
const BLOCKS: u64 = 256;
const RAW: u64 = 256 << 10;

#[derive(Clone)]
pub struct Model {
    header: Vec<u8>,
    pub segments: Vec<Segment>,
    /// The blocks of each table.
    pub tables: Vec<Vec<Block>>,
    /// The front of the COMMIT payload, and its items.
    pub head: Vec<u8>,
    pub items: Vec<u8>,
    /// Whether first keys, and what segments say of their place, follow the rows.
    pub agree: bool,
}

#[derive(Clone)]
pub struct Segment {
    at: u64,
    pub payload: Vec<u8>,
}

#[derive(Clone)]
pub struct Block {
    pub family: u8,
    /// As the fence says.
    pub rows: u64,
    pub first: Vec<u8>,
    /// As the block says.
    pub rows_inside: u64,
    pub streams: Vec<Vec<u8>>,
}

/// The content of a block.
fn content(block: &[u8]) -> Option<Vec<u8>> {
    let mut cursor = Cursor(block);
    let codec = cursor.bytes(1).ok()?[0];
    let len = cursor.number_to(RAW, "").ok()?;
    match codec {
        0 => Some(cursor.0.to_vec()),
        1 => zstd::decode(cursor.0, len as usize, zstd::With::Nothing).ok(),
        _ => None,
    }
}

fn taken_apart(content: &[u8], count: usize) -> Option<(u64, Vec<Vec<u8>>)> {
    let mut cursor = Cursor(content);
    let rows = cursor.number().ok()?;
    let lens: Vec<u64> = (0..count).map(|_| cursor.number().ok()).collect::<Option<_>>()?;
    Some((rows, lens.into_iter().map(|len| Some(cursor.bytes(len).ok()?.to_vec())).collect::<Option<_>>()?))
}

fn put_together(rows: u64, streams: &[Vec<u8>]) -> Vec<u8> {
    let mut raw = Vec::new();
    put(&mut raw, rows);
    streams.iter().for_each(|stream| put(&mut raw, stream.len() as u64));
    streams.iter().for_each(|stream| raw.extend_from_slice(stream));
    let mut block = vec![0];
    put(&mut block, raw.len() as u64);
    [block, raw].concat()
}

/// The numbers of a stream, as many as there are.
pub fn numbers(stream: &[u8]) -> Vec<u64> {
    let mut cursor = Cursor(stream);
    std::iter::from_fn(|| cursor.number().ok()).collect()
}

pub fn stream_of(numbers: &[u64]) -> Vec<u8> {
    let mut stream = Vec::new();
    numbers.iter().for_each(|n| put(&mut stream, *n));
    stream
}

/// A column of differences as numbers, and back.
fn sums(stream: &[u8]) -> Vec<u64> {
    let step = |sum: &mut u64, delta| {
        *sum = sum.wrapping_add(unzigzag(delta) as u64);
        Some(*sum)
    };
    numbers(stream).into_iter().scan(0, step).collect()
}

fn differences(numbers: &[u64]) -> Vec<u8> {
    let before = std::iter::once(&0).chain(numbers);
    stream_of(&numbers.iter().zip(before).map(|(n, before)| zigzag(n.wrapping_sub(*before) as i64)).collect::<Vec<_>>())
}

impl Block {
    /// The key of the first row.
    fn first_key(&self) -> Option<Vec<u8>> {
        let number =
            |stream: usize| Some((unzigzag(Cursor(self.streams.get(stream)?).number().ok()?) as u64).to_be_bytes());
        let text = |stream: usize| {
            let len = Cursor(self.streams.get(stream)?).number().ok()?;
            self.streams.get(stream + 1)?.get(..usize::try_from(len).ok()?)
        };
        let mut key = vec![self.family];
        match self.family {
            1 => key.extend([&number(1)?[..], text(3)?].concat()),
            2 | 4 | 5 => key.extend(number(1)?),
            3 => key.extend([number(1)?, number(2)?].concat()),
            6 => key.extend(text(2)?),
            _ => return None,
        }
        Some(key)
    }
}

impl Model {
    pub fn parse(file: &[u8]) -> Option<Self> {
        let mut bytes = file;
        if !file.starts_with(seal::MAGIC) {
            let end = seal::u64_at(file, file.len().checked_sub(seal::FOOTER - 8)?)?;
            bytes = file.get(file.len().checked_sub(usize::try_from(end).ok()?)?..)?;
        }
        let records = seal::records(bytes);
        let payload = |found: &seal::Found| bytes[found.payload.clone()].to_vec();
        let commit = payload(records.iter().rfind(|found| found.kind == COMMIT)?);
        let head = commit.get(..COMMIT_HEAD)?.to_vec();
        let tables = (seal::u64_at(&head, 160)? as u32 as usize).min(TABLES);
        let references = commit.get(COMMIT_HEAD..COMMIT_HEAD + tables * TABLE_REF)?;
        let segments = records.iter().filter(|found| found.kind == SEGMENT);
        Some(Self {
            header: bytes[..seal::HEADER].to_vec(),
            segments: segments.map(|found| Segment { at: found.at as u64, payload: payload(found) }).collect(),
            tables: references.chunks_exact(TABLE_REF).filter_map(|reference| table(bytes, reference)).collect(),
            items: commit[COMMIT_HEAD + tables * TABLE_REF..].to_vec(),
            head,
            agree: true,
        })
    }

    /// Tape address and length of all segments.
    pub fn tape(&self) -> Vec<(u64, u64)> {
        let place = |segment: &Segment| Some((seal::u64_at(&segment.payload, 0)?, seal::u64_at(&segment.payload, 8)?));
        self.segments.iter().filter_map(place).collect()
    }

    pub fn write(mut self) -> Vec<u8> {
        let mut out = Out { bytes: std::mem::take(&mut self.header), uid: self.head[..16].to_vec() };
        let mut places = HashMap::new();
        for segment in &self.segments {
            let at = out.record(SEGMENT, &segment.payload);
            places.insert(segment.at, (at, segment.payload.len() as u64));
        }
        let mut references = Vec::new();
        for blocks in &mut self.tables {
            let (mut payload, mut fence) = (Vec::new(), vec![Vec::new(); FENCE_STREAMS]);
            for block in blocks.iter_mut() {
                if block.family == SEGMENTS && block.streams.len() == 7 {
                    out.segment_rows(block, &places, self.agree);
                }
                let stored = put_together(block.rows_inside, &block.streams);
                let first = block.first_key().filter(|_| self.agree).unwrap_or(std::mem::take(&mut block.first));
                let columns = [block.family.into(), block.rows, 0, first.len() as u64, stored.len() as u64];
                for (stream, number) in [0, 1, 2, 3, 5].into_iter().zip(columns) {
                    put(&mut fence[stream], number);
                }
                fence[4].extend(first);
                fence[6].extend([0; 32]);
                payload.extend(stored);
            }
            let fence = put_together(blocks.len() as u64, &fence);
            let (blocks_len, fence_len) = (payload.len() as u64, fence.len() as u64);
            payload.extend(fence);
            payload.extend([blocks_len.to_le_bytes(), fence_len.to_le_bytes()].concat());
            let at = out.record(TABLE, &payload);
            let numbers = [at, payload.len() as u64, blocks_len, fence_len];
            references.extend(numbers.map(u64::to_le_bytes).concat());
            references.extend([0; 32]);
        }
        let at = out.bytes.len() as u64;
        self.head[32..40].fill(0);
        self.head[72..80].copy_from_slice(&at.to_le_bytes());
        self.head[160..164].copy_from_slice(&(self.tables.len() as u32).to_le_bytes());
        out.record(COMMIT, &[self.head, references, self.items].concat());
        let end = out.bytes.len() as u64 + seal::FOOTER as u64;
        out.bytes.extend([&at.to_le_bytes()[..], &end.to_le_bytes(), &[0; 96], b"STcf", &[0; 12]].concat());
        out.bytes
    }
}

fn table(bytes: &[u8], reference: &[u8]) -> Option<Vec<Block>> {
    let number = |i: usize| seal::u64_at(reference, i * 8);
    let mut at = number(0)?.checked_add(RECORD as u64)?;
    let fence = seal::range_in(bytes, at.checked_add(number(2)?)?, number(3)?)?;
    let (rows, streams) = taken_apart(&content(&bytes[fence])?, FENCE_STREAMS)?;
    let mut cursors: Vec<_> = streams.iter().map(|stream| Cursor(stream)).collect();
    let (mut blocks, mut first) = (Vec::new(), Vec::new());
    for _ in 0..rows.min(BLOCKS) {
        let mut next = |i: usize| cursors[i].number().ok();
        let (family, rows, shared, rest, len) = (next(0)?, next(1)?, next(2)?, next(3)?, next(5)?);
        first.truncate(usize::try_from(shared).ok()?);
        first.extend(cursors[4].bytes(rest).ok()?);
        let raw = content(&bytes[seal::range_in(bytes, at, len)?])?;
        at += len;
        let family = u8::try_from(family).ok()?;
        // What does not come apart is kept: its streams are one, and its front is lost.
        let inside = seal::streams_of(family).and_then(|count| taken_apart(&raw, count));
        let (rows_inside, streams) = inside.unwrap_or((rows, vec![raw; seal::streams_of(family).unwrap_or(1)]));
        blocks.push(Block { family, rows, first: first.clone(), rows_inside, streams });
    }
    Some(blocks)
}

struct Out {
    bytes: Vec<u8>,
    uid: Vec<u8>,
}

impl Out {
    fn record(&mut self, kind: u8, payload: &[u8]) -> u64 {
        let at = self.bytes.len() as u64;
        self.bytes.extend([seal::RECORD_MAGIC, &[kind, 0, 0, 0]].concat());
        self.bytes.extend([at, payload.len() as u64, 1, 0].map(u64::to_le_bytes).concat());
        self.bytes.extend([&self.uid[..8], &[0; 48], payload].concat());
        self.bytes.resize(self.bytes.len().next_multiple_of(64), 0);
        at
    }

    /// Where the segments of these rows are now. Segments say what their rows say, where the two are to agree.
    fn segment_rows(&mut self, block: &mut Block, places: &HashMap<u64, (u64, u64)>, agree: bool) {
        let (mut records, mut lens) = (sums(&block.streams[3]), numbers(&block.streams[4]));
        let (addresses, raw_lens) = (sums(&block.streams[1]), numbers(&block.streams[2]));
        for (i, (record, len)) in records.iter_mut().zip(&mut lens).enumerate() {
            let Some((at, now)) = places.get(record) else { continue };
            (*record, *len) = (*at, *now);
            let head = *at as usize + RECORD;
            if let (true, Some(address), Some(raw), 16..) = (agree, addresses.get(i), raw_lens.get(i), *now) {
                self.bytes[head..head + 8].copy_from_slice(&address.to_le_bytes());
                self.bytes[head + 8..head + 16].copy_from_slice(&raw.to_le_bytes());
            }
        }
        block.streams[3] = differences(&records);
        block.streams[4] = stream_of(&lens);
    }
}
