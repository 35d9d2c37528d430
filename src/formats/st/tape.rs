//! The tape, as one reads it: an address leads to a segment, a segment is decoded once and kept in the cache.

use super::bases::Lower;
use super::index::Index;
use super::layout::{Base, RECORD_HEADER_LEN};
use super::limits;
use super::medium::Medium;
use super::rows::SegmentRow;
use super::seal::Piece;
use super::segment::{self, Help, codec};
use crate::cache::{Cache, Cached, Key};
use crate::codec::{damaged, zstd};
use crate::error::{Kind, Result, Within};
use crate::pool::{Background, lock};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

/// Spaces of the cache.
const SEGMENTS: u8 = 0;
const DICTS: u8 = 2;

/// Reads the tape of one container.
pub struct Tape {
    /// The newest: what an address holds never changes, but only it knows all of them.
    index: RwLock<Arc<Index>>,
    medium: Medium,
    cache: Arc<Cache>,
    owner: u64,
    buffers: Arc<Buffers>,
    ahead: Arc<Background>,
    /// Where the last record that was read ends.
    passed: AtomicU64,
}

/// Threads that decode ahead of a sequential reader, and how many segments may wait for them.
const AHEAD_THREADS: usize = 2;
const AHEAD_QUEUE: usize = 64;

/// Records so close behind the last one are not a jump: several threads go forward together.
const FORWARD: u64 = 1 << 20;

/// A decoded segment. Its buffer goes back to the others when nobody has it any more: memory is then neither mapped and
/// unmapped for each segment nor left in pieces.
pub struct Decoded {
    address: u64,
    pub bytes: Vec<u8>,
    buffers: Arc<Buffers>,
}

impl Cached for Decoded {
    fn weight(&self) -> usize {
        self.bytes.capacity()
    }
}

impl Drop for Decoded {
    fn drop(&mut self) {
        self.buffers.give(std::mem::take(&mut self.bytes));
    }
}

/// Buffers that wait to be used again.
#[derive(Default)]
struct Buffers {
    spare: Mutex<VecDeque<Vec<u8>>>,
    /// How many are being made ready.
    coming: AtomicUsize,
}

/// Buffers that are kept, and how large each may be. More are needed only when many segments leave the cache at once.
const SPARE: usize = 16;
const SPARE_LEN: usize = 1 << 20;

/// Buffers that are made ready before they are needed, while the cache fills: the system hands out memory page by page,
/// which takes a third of the time to decode a segment.
const READY: usize = 4;

/// Segments end where chunks do, so that hardly two are of one length: buffers are made in steps of so many bytes.
const STEP: usize = 16 << 10;

impl Buffers {
    /// A buffer for so many bytes, with anything in it: the one that fits best, and none that wastes a fourth.
    fn take(self: &Arc<Self>, len: usize, ahead: &Background) -> Vec<u8> {
        let capacity = len.next_multiple_of(STEP);
        let mut spare = self.spare();
        let fits = |capacity: usize| capacity >= len && capacity <= len + (len / 4).max(STEP);
        let sizes = spare.iter().map(Vec::capacity).enumerate().filter(|(_, capacity)| fits(*capacity));
        let best = sizes.min_by_key(|(_, capacity)| *capacity);
        let found = best.and_then(|(i, _)| spare.remove(i));
        let few = spare.len() + self.coming.load(Relaxed) < READY;
        drop(spare);
        if few && capacity <= SPARE_LEN {
            self.coming.fetch_add(1, Relaxed);
            let buffers = self.clone();
            if !ahead.push(move || buffers.make_ready(capacity)) {
                self.coming.fetch_sub(1, Relaxed);
            }
        }
        found.unwrap_or_else(|| Vec::with_capacity(capacity))
    }

    fn make_ready(&self, capacity: usize) {
        // Ones, since zeros would be promised by the system and not written.
        self.give(vec![1; capacity]);
        self.coming.fetch_sub(1, Relaxed);
    }

    /// Keeps a buffer. Where there are enough, the one that nobody wanted for longest goes.
    fn give(&self, buffer: Vec<u8>) {
        if buffer.capacity() > SPARE_LEN || buffer.capacity() == 0 {
            return;
        }
        let mut spare = self.spare();
        spare.push_back(buffer);
        let surplus = if spare.len() > SPARE { spare.pop_front() } else { None };
        drop(spare);
        drop(surplus);
    }

    fn spare(&self) -> MutexGuard<'_, VecDeque<Vec<u8>>> {
        lock(&self.spare)
    }
}

struct Dict {
    dict: zstd::DecodeDict,
    /// Bytes of the tape that it was made of.
    len: u64,
}

impl Cached for Dict {
    fn weight(&self) -> usize {
        self.dict.weight()
    }
}

thread_local! {
    /// Stored bytes of the segment being decoded: used again and again, so that decoding allocates its result only.
    static STORED: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

impl Tape {
    pub fn new(index: Arc<Index>, medium: Medium, cache: Arc<Cache>, owner: u64) -> Self {
        let ahead = Arc::new(Background::new(AHEAD_THREADS, AHEAD_QUEUE));
        let (index, passed) = (RwLock::new(index), AtomicU64::new(0));
        Self { index, medium, cache, owner, buffers: Arc::default(), ahead, passed }
    }

    /// The tape as another state of the container knows it. Threads and buffers are those of this one.
    pub fn beside(&self, index: Arc<Index>, owner: u64) -> Self {
        let (medium, cache) = (self.medium.clone(), self.cache.clone());
        let (buffers, ahead) = (self.buffers.clone(), self.ahead.clone());
        Self { index: RwLock::new(index), medium, cache, owner, buffers, ahead, passed: AtomicU64::new(0) }
    }

    pub fn owner(&self) -> u64 {
        self.owner
    }

    /// Takes a newer index into use, which knows all that is needed of what the one before knew.
    pub fn renew(&self, index: Arc<Index>) {
        *self.index.write().unwrap_or_else(PoisonError::into_inner) = index;
    }

    pub fn medium(&self) -> &Medium {
        &self.medium
    }

    pub fn shared_cache(&self) -> Arc<Cache> {
        self.cache.clone()
    }

    /// Fills `into` with the bytes at `address`.
    pub fn read(&self, address: u64, into: &mut [u8]) -> Result<()> {
        self.read_at_depth(address, into, 0)
    }

    fn read_at_depth(&self, mut address: u64, mut into: &mut [u8], depth: u32) -> Result<()> {
        while !into.is_empty() {
            let row = self.find(address)?;
            let segment = match self.load(&row, depth) {
                // It was moved just now.
                Err(_) if self.find(address)? != row => continue,
                // Not as a base of others: what came of that would be neither damaged nor right.
                Err(e) if depth == 0 && self.medium.forgives && e.kind() == Kind::Damaged => {
                    log::error!("{e}: {} bytes at {address} of the tape read as zeros", row.raw_len);
                    let len = (row.address + row.raw_len - address).min(into.len() as u64);
                    let (lost, rest) = into.split_at_mut(len as usize);
                    lost.fill(0);
                    (into, address) = (rest, address + len);
                    continue;
                }
                loaded => loaded?,
            };
            let piece = &segment.bytes[(address - row.address) as usize..];
            let len = piece.len().min(into.len());
            into[..len].copy_from_slice(&piece[..len]);
            into = &mut into[len..];
            address += len as u64;
        }
        Ok(())
    }

    fn find(&self, address: u64) -> Result<SegmentRow> {
        let index = self.index.read().unwrap_or_else(PoisonError::into_inner).clone();
        index.segment(address)?.ok_or_else(|| damaged(format!("no segment holds the tape address {address}")))
    }

    fn key(&self, row: &SegmentRow) -> Key {
        // A segment may move to another place in the file, and one with less in it may take its place on the tape. What it is
        // stored as, its address among it, is its own for ever.
        let at = row.hash.first_chunk().map_or(0, |first| u64::from_le_bytes(*first));
        Key { owner: self.owner, space: SEGMENTS, at }
    }

    fn load(&self, row: &SegmentRow, depth: u32) -> Result<Arc<Decoded>> {
        let segment = self.cached(self.key(row), depth, || self.decode(row, depth))?;
        // Rows of a hostile container may share a record, which is the segment of one of them only; and keys are short.
        if segment.address != row.address || segment.bytes.len() as u64 != row.raw_len {
            return self.decode(row, depth).map(Arc::new);
        }
        Ok(segment)
    }

    /// What is needed to decode something else is not waited for: whoever loads it may be waiting for that, or be this
    /// very thread, where a hostile container has bases in a circle.
    fn cached<T: Cached>(&self, key: Key, depth: u32, load: impl FnOnce() -> Result<T>) -> Result<Arc<T>> {
        match depth {
            0 => self.cache.get_or_load(key, load),
            _ => self.cache.get_or_load_now(key, load),
        }
    }

    /// Reads, checks and decodes a segment, past the cache.
    pub fn decode(&self, row: &SegmentRow, depth: u32) -> Result<Decoded> {
        STORED
            .with(|stored| match stored.try_borrow_mut() {
                Ok(mut stored) => self.decode_in(row, depth, &mut stored),
                // The base of a segment that is being decoded: one level down, in a buffer of its own.
                Err(_) => self.decode_in(row, depth, &mut Vec::new()),
            })
            .map_err(|e| self.medium.blame(e))
            .within(|| match row.store {
                0 => format!("the segment at {}", row.record),
                _ => format!("a segment of {} bytes that lies elsewhere", row.raw_len),
            })
    }

    fn decode_in(&self, row: &SegmentRow, depth: u32, stored: &mut Vec<u8>) -> Result<Decoded> {
        let lower = (row.store != 0).then(|| self.lower(row.store)).transpose()?;
        let len = row.payload_len as usize;
        if stored.len() < len {
            stored.resize(len, 0);
        }
        let stored = &mut stored[..len];
        let (shift, is_sealed) = lower.as_ref().map_or((0, true), |lower| (lower.entry.shift, lower.entry.own_seal));
        match &lower {
            Some(lower) => lower.read(row, stored)?,
            None => self.fetch(row, stored)?,
        }
        let payload = if is_sealed { self.medium.sealing.open(Piece::Segment, stored)? } else { stored };
        let address = row.address.checked_sub(shift).ok_or_else(|| damaged("it lies before its base"))?;
        let mut parts = segment::parse(payload, address, row.raw_len)?;
        parts.shift(shift)?;
        let bytes = self.buffers.take(row.raw_len as usize, &self.ahead);
        let mut out = Decoded { address: row.address, bytes, buffers: self.buffers.clone() };
        match parts.codec() {
            codec::ZSTD_PREFIX => {
                segment::decode(&parts, Help::Prefix(&self.bases(&parts.bases, depth)?), &mut out.bytes)?;
            }
            codec::ZSTD_DICT => {
                segment::decode(&parts, Help::Dict(&self.dict(&parts.bases, depth)?.dict), &mut out.bytes)?;
            }
            _ => segment::decode(&parts, Help::Nothing, &mut out.bytes)?,
        }
        Ok(out)
    }

    /// What a segment lies in that is not in this container.
    fn lower(&self, number: u64) -> Result<Arc<Lower>> {
        let index = self.index.read().unwrap_or_else(PoisonError::into_inner).clone();
        self.medium.stores.get(&index, number)
    }

    /// Reads the payload of a segment of this container.
    fn fetch(&self, row: &SegmentRow, stored: &mut [u8]) -> Result<()> {
        let at = row.record.checked_add(RECORD_HEADER_LEN).ok_or_else(|| damaged("its offset is too large"))?;
        // The system reads ahead of who goes forward. Of a jump it would read the first part, and then the next.
        let end = at.saturating_add(row.payload_len);
        let before = self.passed.swap(end, Relaxed);
        if !(before..before.saturating_add(FORWARD)).contains(&at) {
            self.medium.will_read(at..end);
        }
        self.medium.read_checked(at, stored, &row.hash)
    }

    fn dict(&self, bases: &[Base], depth: u32) -> Result<Arc<Dict>> {
        let [base] = bases else { return Err(damaged("it has more or less than one dictionary")) };
        let key = Key { owner: self.owner, space: DICTS, at: base.address.get() };
        let len = base.len.get();
        let make = || Ok(Dict { dict: zstd::DecodeDict::new(&self.bases(&[*base], depth)?)?, len });
        let dict = self.cached(key, depth, make)?;
        // The same address with another length is another dictionary, and not kept.
        if dict.len == len { Ok(dict) } else { Ok(Arc::new(make()?)) }
    }

    /// The bytes of the bases, one behind the other.
    fn bases(&self, bases: &[Base], depth: u32) -> Result<Vec<u8>> {
        if depth >= limits::BASE_DEPTH {
            return Err(damaged("its bases stand on too many others"));
        }
        let len: u64 = bases.iter().map(|base| base.len.get()).sum();
        let mut out = vec![0; len as usize];
        let mut rest = &mut out[..];
        for base in bases {
            let (piece, behind) = rest.split_at_mut(base.len.get() as usize);
            self.read_at_depth(base.address.get(), piece, depth + 1)?;
            rest = behind;
        }
        Ok(out)
    }

    /// The segments of a range that are not in the cache, in order, and at most so many bytes of them.
    pub fn missing(&self, range: Range<u64>, most: u64) -> Result<Vec<SegmentRow>> {
        let (mut out, mut address, mut bytes) = (Vec::new(), range.start, 0);
        while address < range.end && bytes < most {
            let row = self.find(address)?;
            if !self.cache.contains(self.key(&row)) {
                out.push(row);
                bytes += row.raw_len;
            }
            address = row.address + row.raw_len;
        }
        Ok(out)
    }

    /// Has a segment decoded into the cache, for whoever will ask for it.
    pub fn prepare(self: &Arc<Self>, row: SegmentRow) {
        let tape = self.clone();
        // Who reads it for real will meet the error and tell it.
        self.ahead.push(move || drop(tape.load(&row, 0)));
    }
}
