//! xz: streams of blocks, each stream with an index of its blocks at its end.
//!
//! ```text
//!   header | block | block | … | index | footer     zeros     header | block | … | index | footer
//!                                ^──────┘ length of the index
//! ```
//!
//! Where decoding begins at a block, liblzma is given a stream that begins with this block: header, the blocks from there on
//! as they are, and an index of these. So it checks everything as it does from the front.

use super::coded::{Coded, occupied};
use super::input::Input;
use super::lzma::{Plain, offset_of, point_of, too_many};
use crate::codec::damaged;
use crate::codec::lzma::{self, Coder};
use crate::error::{Kind, Result};
use crate::source::{Decoder, Point, ReadAt, Stream};
use std::sync::{Arc, OnceLock};

pub(super) const MAGIC: [u8; 6] = [0xfd, b'7', b'z', b'X', b'Z', 0];
const FOOTER_MAGIC: [u8; 2] = *b"YZ";
const HEADER: u64 = 12;

/// Streams of one file, and blocks of all of them. More are read from the front.
const STREAMS: usize = 1 << 16;
const BLOCKS: usize = 1 << 18;

/// Bytes of an index: two numbers of nine bytes for each block.
const INDEX: usize = 18 * BLOCKS + 32;

/// Zeros behind a stream that are looked over.
const PADDING: u64 = 1 << 20;

/// A file of xz.
pub struct Xz {
    source: Arc<dyn ReadAt>,
    index: OnceLock<Option<Index>>,
}

impl Xz {
    pub fn new(source: Arc<dyn ReadAt>) -> Self {
        Self { source, index: OnceLock::new() }
    }

    /// The blocks, if the file is whole and there are not too many.
    fn index(&self) -> Result<Option<&Index>> {
        if self.index.get().is_none() {
            let found = match Index::read(&self.source) {
                Ok(index) => Some(index),
                Err(e) if matches!(e.kind(), Kind::Damaged | Kind::Limit) => {
                    log::debug!("xz without an index: {e}");
                    None
                }
                Err(e) => return Err(e),
            };
            let _ = self.index.set(found);
        }
        Ok(self.index.get().and_then(Option::as_ref))
    }

    fn front(&self, offset: u64) -> Result<Coded> {
        Ok(Coded::new(Coder::xz(true)?, Input::new(self.source.clone(), offset)?))
    }

    /// What the decoder of a block occupies.
    fn dictionary(&self, block: u64) -> Result<usize> {
        let mut header = [0; 1024];
        let got = self.source.read_at(block, &mut header)?;
        let known = self.index.get().and_then(Option::as_ref);
        Ok(occupied(dictionary(&header[..got]).unwrap_or(0), known.map(|i| i.largest())))
    }
}

impl Stream for Xz {
    fn start(&self, from: Option<&Point>) -> Result<Box<dyn Decoder>> {
        let Some(point) = from else {
            return Ok(Box::new(Plain { coded: self.front(0)?, dictionary: self.dictionary(HEADER)? }));
        };
        let unknown = || damaged("a point in a file of xz is not where a block is");
        let index = self.index()?.ok_or_else(unknown)?;
        let offset = offset_of(point)?;
        let n = index.blocks.binary_search_by_key(&offset, |b| b.offset).map_err(|_| unknown())?;
        if index.blocks[n].at != point.at {
            return Err(unknown());
        }
        let (stream, next) = index.stream_of(n);
        let mut input = Input::new(self.source.clone(), offset)?;
        input.limit(stream.index);
        let coded = Coded::new(Coder::xz(false)?, input).between(stream.header(), index.rest(n, stream));
        let plain = Plain { coded, dictionary: self.dictionary(offset)? };
        match next {
            Some(next) => Ok(Box::new(Chain { first: plain, next: Some(self.front(next.offset)?) })),
            None => Ok(Box::new(plain)),
        }
    }

    fn len(&self) -> Option<u64> {
        self.index().ok()?.map(|index| index.len)
    }

    fn points(&self) -> Result<Vec<Point>> {
        let Some(index) = self.index()? else { return Ok(Vec::new()) };
        let inner = index.blocks.iter().filter(|b| b.at > 0 && b.len > 0);
        Ok(inner.map(|b| point_of(b.at, b.offset)).collect())
    }
}

/// The rest of one stream, then all streams behind it.
struct Chain {
    first: Plain,
    next: Option<Coded>,
}

impl Decoder for Chain {
    fn read(&mut self, into: &mut [u8]) -> Result<usize> {
        let n = self.first.read(into)?;
        if n > 0 || into.is_empty() {
            return Ok(n);
        }
        let Some(next) = self.next.take() else { return Ok(0) };
        self.first.coded = next;
        self.first.read(into)
    }

    fn weight(&self) -> usize {
        self.first.weight() + self.next.as_ref().map_or(0, Coded::weight)
    }
}

struct Block {
    offset: u64,
    at: u64,
    len: u64,
    /// Without the zeros behind it.
    size: u64,
}

struct StreamPlace {
    offset: u64,
    flags: [u8; 2],
    index: u64,
    /// Its first block, among all.
    first: usize,
}

struct Index {
    streams: Vec<StreamPlace>,
    blocks: Vec<Block>,
    len: u64,
}

impl Index {
    /// From the end of the file to its front.
    fn read(source: &Arc<dyn ReadAt>) -> Result<Self> {
        let mut end = source.len()?;
        let (mut streams, mut blocks) = (Vec::new(), Vec::new());
        while end > 0 {
            let (stream, own) = stream_before(source, behind_padding(&**source, end)?, BLOCKS - blocks.len())?;
            if streams.len() == STREAMS {
                return Err(too_many("streams of xz"));
            }
            end = stream.offset;
            blocks.extend(own.into_iter().rev());
            streams.push(StreamPlace { first: blocks.len(), ..stream });
        }
        streams.reverse();
        blocks.reverse();
        streams.iter_mut().for_each(|s| s.first = blocks.len() - s.first);
        let mut len = 0u64;
        for block in &mut blocks {
            block.at = len;
            len = len.checked_add(block.len).ok_or_else(wrong)?;
        }
        Ok(Self { streams, blocks, len })
    }

    fn largest(&self) -> u64 {
        self.blocks.iter().map(|b| b.len).max().unwrap_or(0)
    }

    /// The stream of a block, and the one behind it.
    fn stream_of(&self, block: usize) -> (&StreamPlace, Option<&StreamPlace>) {
        // Streams without blocks begin at the same one: the last of these has it.
        let n = self.streams.partition_point(|s| s.first <= block).saturating_sub(1);
        (&self.streams[n], self.streams.get(n + 1))
    }

    /// An index of the blocks of a stream from one on, and the footer.
    fn rest(&self, block: usize, stream: &StreamPlace) -> Vec<u8> {
        let blocks: Vec<_> = self.blocks[block..].iter().take_while(|b| b.offset < stream.index).collect();
        let mut index = vec![0];
        put_number(&mut index, blocks.len() as u64);
        for block in blocks {
            put_number(&mut index, block.size);
            put_number(&mut index, block.len);
        }
        index.resize(index.len().next_multiple_of(4), 0);
        let sum = crc32fast::hash(&index);
        index.extend_from_slice(&sum.to_le_bytes());
        let size = (index.len() / 4 - 1) as u32;
        let fields = [&size.to_le_bytes()[..], &stream.flags].concat();
        index.extend_from_slice(&crc32fast::hash(&fields).to_le_bytes());
        index.extend_from_slice(&fields);
        index.extend_from_slice(&FOOTER_MAGIC);
        index
    }
}

impl StreamPlace {
    fn header(&self) -> Vec<u8> {
        [&MAGIC[..], &self.flags, &crc32fast::hash(&self.flags).to_le_bytes()].concat()
    }
}

fn wrong() -> crate::error::Error {
    damaged("the index does not fit the file")
}

/// Where a stream ends behind which there may be zeros, four at a time.
fn behind_padding(source: &dyn ReadAt, end: u64) -> Result<u64> {
    let mut at = end;
    let mut buf = [0; 4096];
    while at > 0 && end - at < PADDING {
        let len = at.min(buf.len() as u64);
        let part = &mut buf[..len as usize];
        source.read_exact_at(at - len, part)?;
        let zeros = part.iter().rev().take_while(|b| **b == 0).count() as u64;
        at -= zeros;
        if zeros < len {
            // The magic of the footer is no zero, so what is no multiple of four is not padding.
            return if (end - at).is_multiple_of(4) { Ok(at) } else { Err(wrong()) };
        }
    }
    Err(wrong())
}

/// The stream that ends here, and its blocks. `first` is not set yet, nor are the positions.
fn stream_before(source: &Arc<dyn ReadAt>, end: u64, room: usize) -> Result<(StreamPlace, Vec<Block>)> {
    let at = end.checked_sub(2 * HEADER).ok_or_else(wrong)? + HEADER;
    let mut footer = [0; HEADER as usize];
    source.read_exact_at(at, &mut footer)?;
    let [c0, c1, c2, c3, fields @ .., y, z] = footer;
    let [s0, s1, s2, s3, f0, f1] = fields;
    if [y, z] != FOOTER_MAGIC || u32::from_le_bytes([c0, c1, c2, c3]) != crc32fast::hash(&fields) {
        return Err(wrong());
    }
    let size = (u64::from(u32::from_le_bytes([s0, s1, s2, s3])) + 1) * 4;
    let index = at.checked_sub(size).ok_or_else(wrong)?;
    let mut blocks = records(&read_index(&**source, index, size)?, room)?;
    let body = blocks.iter().try_fold(0u64, |sum, b| sum.checked_add(b.size.checked_next_multiple_of(4)?));
    let front = body.and_then(|body| index.checked_sub(body)?.checked_sub(HEADER)).ok_or_else(wrong)?;
    let stream = StreamPlace { offset: front, flags: [f0, f1], index, first: 0 };
    let mut header = [0; HEADER as usize];
    source.read_exact_at(front, &mut header)?;
    if header[..] != stream.header() {
        return Err(wrong());
    }
    let mut offset = front + HEADER;
    for block in &mut blocks {
        block.offset = offset;
        offset += block.size.next_multiple_of(4);
    }
    Ok((stream, blocks))
}

/// An index without the sum over it.
fn read_index(source: &dyn ReadAt, at: u64, size: u64) -> Result<Vec<u8>> {
    let size = usize::try_from(size).ok().filter(|size| *size <= INDEX).ok_or_else(|| too_many("blocks of xz"))?;
    let mut index = vec![0; size];
    source.read_exact_at(at, &mut index)?;
    let sum = index.split_off(size - 4);
    if crc32fast::hash(&index).to_le_bytes()[..] != sum {
        return Err(wrong());
    }
    Ok(index)
}

/// The records of an index.
fn records(mut index: &[u8], room: usize) -> Result<Vec<Block>> {
    index = index.strip_prefix(&[0]).ok_or_else(wrong)?;
    let count = number(&mut index).ok_or_else(wrong)?;
    if count > room as u64 {
        return Err(too_many("blocks of xz"));
    }
    let record = |_| {
        let (size, len) = (number(&mut index)?, number(&mut index)?);
        (size > 0).then_some(Block { offset: 0, at: 0, len, size })
    };
    (0..count).map(record).collect::<Option<_>>().ok_or_else(wrong)
}

/// Seven bits to a byte, the lowest first, in nine bytes at most.
fn number(bytes: &mut &[u8]) -> Option<u64> {
    let len = bytes.iter().take(9).position(|b| *b < 0x80)? + 1;
    let (number, rest) = bytes.split_at_checked(len)?;
    *bytes = rest;
    Some(number.iter().rev().fold(0, |sum, b| sum << 7 | u64::from(b & 0x7f)))
}

fn put_number(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// The dictionary of LZMA2 that a block header asks for.
fn dictionary(header: &[u8]) -> Option<u64> {
    const LZMA2: u64 = 0x21;
    let flags = *header.get(1)?;
    let mut rest = header.get(2..)?;
    // The lengths of the block, where they are given.
    for _ in 0..u32::from(flags & 0x40 > 0) + u32::from(flags & 0x80 > 0) {
        number(&mut rest)?;
    }
    for _ in 0..=flags & 3 {
        let (filter, size) = (number(&mut rest)?, number(&mut rest)?);
        if filter == LZMA2 {
            return lzma::lzma2_dictionary(*rest.first()?).ok();
        }
        rest = rest.get(usize::try_from(size).ok()?..)?;
    }
    None
}
