//! Deflate and Deflate64, decoded in pieces.
//!
//! ```text
//!   buf   | history, 32 KiB (64 KiB) | given | decoded, not yet fetched |        | slack |
//!           floor                      start                         end  ^ full
//! ```
//!
//! Between two calls less than a byte is held back, so the place in the input is known to the bit; where a block begins a
//! decoder can be made anew from that place and the bytes before it. Lengths, codes and limits are as of zlib: what zlib
//! refuses is refused.

mod bits;
mod table;

use super::damaged;
use crate::error::Result;
use bits::Feed;
use table::{DISTANCE_BITS, Distances, END, EXCEPTION, HEADER_BITS, LITERAL, LITERAL_BITS, Literals, SUB};

/// Bytes that are decoded before they must be fetched.
const ROOM: usize = 32 << 10;

/// The longest match of deflate.
const MATCH: usize = 258;

/// What one turn of the fast loop writes beyond `full` at most: a few literals, a match, and the rest of its last piece.
const SLACK: usize = 8 + MATCH + 2 * PIECE;

/// Bytes that a match is copied in.
const PIECE: usize = 16;

/// Input that one turn of the fast loop looks at.
const AHEAD: usize = 16;

/// Order of the lengths in a block header.
const ORDER: [u8; 19] = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];

/// Why a decoder came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// What is decoded must be fetched first.
    Full,
    /// It can do nothing without more input behind what was left over.
    Hungry,
    /// All of a block is decoded, the next one begins at the place in the input.
    Block,
    /// The stream has ended.
    End,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// Behind a block.
    Between,
    Header,
    Stored(u16),
    Codes,
    /// Behind a length.
    Distance(u32),
    Copy {
        length: u32,
        distance: u32,
    },
    End,
}

/// A decoder of deflate; with `LONG`, of Deflate64.
pub struct Inflate<const LONG: bool> {
    buf: Vec<u8>,
    floor: usize,
    start: usize,
    end: usize,
    /// Less than a byte of the input.
    held: u8,
    held_bits: u32,
    state: State,
    last: bool,
    /// The tables are those of the fixed codes.
    fixed: bool,
    tables: Box<Tables>,
}

struct Tables {
    literals: Literals,
    distances: Distances,
}

impl<const LONG: bool> Default for Inflate<LONG> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const LONG: bool> Inflate<LONG> {
    /// How far back a match can reach.
    pub const WINDOW: usize = if LONG { 64 << 10 } else { 32 << 10 };
    const FULL: usize = Self::WINDOW + ROOM;

    pub fn new() -> Self {
        Self {
            buf: vec![0; Self::FULL + SLACK],
            floor: Self::WINDOW,
            start: Self::WINDOW,
            end: Self::WINDOW,
            held: 0,
            held_bits: 0,
            state: State::Header,
            last: false,
            fixed: false,
            tables: Box::new(Tables { literals: table::new_literals(), distances: table::new_distances() }),
        }
    }

    /// Begins at a block. Its first `held_bits` bits, less than 8, are given apart, the others are what the next input begins
    /// with; `window` is what was decoded before, as far as matches reach.
    pub fn resume(&mut self, held: u8, held_bits: u32, window: &[u8]) {
        let window = &window[window.len().saturating_sub(Self::WINDOW)..];
        self.restart();
        self.floor = Self::WINDOW - window.len();
        self.buf[self.floor..Self::WINDOW].copy_from_slice(window);
        (self.held, self.held_bits) = (held, held_bits & 7);
    }

    /// Begins a new stream.
    pub fn restart(&mut self) {
        (self.floor, self.start, self.end) = (Self::WINDOW, Self::WINDOW, Self::WINDOW);
        (self.held, self.held_bits) = (0, 0);
        self.state = State::Header;
        self.last = false;
    }

    /// Bits of the last byte taken that are not used yet.
    pub fn held_bits(&self) -> u32 {
        self.held_bits
    }

    /// What is decoded and was not fetched yet.
    pub fn ready(&self) -> &[u8] {
        &self.buf[self.start..self.end]
    }

    /// Gives up the first `n` of these bytes.
    pub fn fetched(&mut self, n: usize) {
        self.start = (self.start + n).min(self.end);
    }

    /// What a match in the next byte could reach.
    pub fn window(&self) -> &[u8] {
        &self.buf[self.floor.max(self.end - Self::WINDOW)..self.end]
    }

    pub fn weight(&self) -> usize {
        size_of::<Self>() + self.buf.len() + size_of::<Tables>()
    }

    /// Decodes on: how many bytes of the input were taken, and why it came back. What was not taken must be the beginning of
    /// the next input.
    pub fn run(&mut self, input: &[u8]) -> Result<(usize, Step)> {
        if self.end >= Self::FULL {
            if self.start < self.end {
                return Ok((0, Step::Full));
            }
            self.slide();
        }
        let mut feed = Feed::new(input, self.held, self.held_bits);
        let step = self.steps(&mut feed);
        let (taken, held, held_bits) = feed.give_back();
        (self.held, self.held_bits) = (held, held_bits);
        Ok((taken, step?))
    }

    fn slide(&mut self) {
        let by = self.end - Self::WINDOW;
        self.buf.copy_within(by..self.end, 0);
        self.floor = self.floor.saturating_sub(by);
        (self.start, self.end) = (Self::WINDOW, Self::WINDOW);
    }

    fn steps(&mut self, feed: &mut Feed) -> Result<Step> {
        loop {
            let done = match self.state {
                State::Between => {
                    self.state = State::Header;
                    Some(Step::Block)
                }
                State::Header => self.header(feed)?,
                State::Stored(left) => self.stored(feed, left),
                State::Codes => self.codes(feed)?,
                State::Distance(length) => self.distance(feed, length)?,
                State::Copy { length, distance } => self.copy_on(length, distance),
                State::End => Some(Step::End),
            };
            if let Some(step) = done {
                return Ok(step);
            }
        }
    }

    fn after_block(&mut self) {
        self.state = if self.last { State::End } else { State::Between };
    }

    /// A block header, as a whole or not at all.
    fn header(&mut self, feed: &mut Feed) -> Result<Option<Step>> {
        let before = *feed;
        if self.try_header(feed)?.is_none() {
            *feed = before;
            return Ok(Some(Step::Hungry));
        }
        Ok(None)
    }

    fn try_header(&mut self, feed: &mut Feed) -> Result<Option<()>> {
        let Some(head) = feed.take(3) else { return Ok(None) };
        let next = match head >> 1 {
            0 => {
                feed.align();
                let Some(lengths) = feed.take(32) else { return Ok(None) };
                let length = lengths as u16;
                if length != !(lengths >> 16) as u16 {
                    return Err(damaged("the two lengths of a stored block differ"));
                }
                State::Stored(length)
            }
            1 => {
                self.fixed_codes()?;
                State::Codes
            }
            2 => {
                if self.dynamic_codes(feed)?.is_none() {
                    return Ok(None);
                }
                State::Codes
            }
            _ => return Err(damaged("a block of a kind that is not known")),
        };
        self.last = head & 1 == 1;
        self.state = next;
        Ok(Some(()))
    }

    fn fixed_codes(&mut self) -> Result<()> {
        if self.fixed {
            return Ok(());
        }
        let mut lengths = [8; 288];
        lengths[144..256].fill(9);
        lengths[256..280].fill(7);
        self.build(&lengths, &[5; 32])?;
        self.fixed = true;
        Ok(())
    }

    fn build(&mut self, literals: &[u8], distances: &[u8]) -> Result<()> {
        table::build(&mut self.tables.literals, LITERAL_BITS, literals, table::literal::<LONG>)?;
        table::build(&mut self.tables.distances, DISTANCE_BITS, distances, table::distance::<LONG>)
    }

    fn dynamic_codes(&mut self, feed: &mut Feed) -> Result<Option<()>> {
        let Some(counts) = feed.take(14) else { return Ok(None) };
        let counts = counts as usize;
        let (literals, distances) = ((counts & 31) + 257, (counts >> 5 & 31) + 1);
        if literals > 286 || (distances > 30 && !LONG) {
            return Err(damaged("a block has too many codes"));
        }
        let mut header = [0u8; 19];
        for slot in &ORDER[..(counts >> 10) + 4] {
            let Some(bits) = feed.take(3) else { return Ok(None) };
            header[usize::from(*slot)] = bits as u8;
        }
        let mut codes = [0u32; 1 << HEADER_BITS];
        table::build(&mut codes, HEADER_BITS, &header, table::header)?;
        let mut lengths = [0u8; 286 + 32];
        let Some(()) = code_lengths(feed, &codes, &mut lengths[..literals + distances])? else { return Ok(None) };
        if lengths[256] == 0 {
            return Err(damaged("a block has no code for its end"));
        }
        self.fixed = false;
        self.build(&lengths[..literals], &lengths[literals..literals + distances])?;
        Ok(Some(()))
    }

    fn stored(&mut self, feed: &mut Feed, left: u16) -> Option<Step> {
        if left == 0 {
            self.after_block();
            return None;
        }
        if self.end >= Self::FULL {
            return Some(Step::Full);
        }
        let room = usize::from(left).min(Self::FULL - self.end);
        let bytes = feed.bytes(room);
        if bytes.is_empty() {
            return Some(Step::Hungry);
        }
        self.buf[self.end..self.end + bytes.len()].copy_from_slice(bytes);
        self.end += bytes.len();
        self.state = State::Stored(left - bytes.len() as u16);
        None
    }

    /// Symbols: fast where there is enough input, then one by one.
    fn codes(&mut self, feed: &mut Feed) -> Result<Option<Step>> {
        if feed.left() >= AHEAD && self.end < Self::FULL {
            return self.fast(feed).map(|()| None);
        }
        if self.end >= Self::FULL {
            return Ok(Some(Step::Full));
        }
        self.one(feed)
    }

    fn one(&mut self, feed: &mut Feed) -> Result<Option<Step>> {
        let Some((entry, value)) = feed.symbol(&self.tables.literals, LITERAL_BITS) else {
            return Ok(Some(Step::Hungry));
        };
        if entry & LITERAL != 0 {
            self.buf[self.end] = value as u8;
            self.end += 1;
        } else if entry & EXCEPTION == 0 {
            self.state = State::Distance(value);
        } else if entry & END != 0 {
            self.after_block();
        } else {
            return Err(damaged("a code that stands for nothing"));
        }
        Ok(None)
    }

    fn distance(&mut self, feed: &mut Feed, length: u32) -> Result<Option<Step>> {
        let Some((entry, distance)) = feed.symbol(&self.tables.distances, DISTANCE_BITS) else {
            return Ok(Some(Step::Hungry));
        };
        if entry & EXCEPTION != 0 {
            return Err(damaged("a distance that stands for nothing"));
        }
        if distance as usize > self.end - self.floor {
            return Err(too_far());
        }
        self.state = State::Copy { length, distance };
        Ok(None)
    }

    /// As much of a match as there is room for.
    fn copy_on(&mut self, length: u32, distance: u32) -> Option<Step> {
        if self.end >= Self::FULL {
            return Some(Step::Full);
        }
        let now = (length as usize).min(MATCH);
        copy(&mut self.buf, self.end, distance as usize, now);
        self.end += now;
        let length = length - now as u32;
        self.state = if length > 0 { State::Copy { length, distance } } else { State::Codes };
        None
    }

    /// Decodes while there are [`AHEAD`] bytes of input and room, or until the block ends.
    fn fast(&mut self, feed: &mut Feed) -> Result<()> {
        let Tables { literals, distances } = &*self.tables;
        let buf = &mut self.buf[..Self::FULL + SLACK];
        let mut end = self.end;
        let result = loop {
            if end >= Self::FULL || !feed.refill() {
                break Ok(());
            }
            let mut entry = literals[feed.low(LITERAL_BITS)];
            if entry & LITERAL != 0 {
                feed.drop(entry);
                buf[end] = (entry >> 16) as u8;
                end += 1;
                entry = literals[feed.low(LITERAL_BITS)];
                if entry & LITERAL != 0 {
                    feed.drop(entry);
                    buf[end] = (entry >> 16) as u8;
                    end += 1;
                    entry = literals[feed.low(LITERAL_BITS)];
                    if entry & LITERAL != 0 {
                        feed.drop(entry);
                        buf[end] = (entry >> 16) as u8;
                        end += 1;
                        continue;
                    }
                }
            }
            if entry & EXCEPTION != 0 {
                if entry & SUB != 0 {
                    entry = feed.second(literals, entry);
                }
                if entry & LITERAL != 0 {
                    feed.drop(entry);
                    buf[end] = (entry >> 16) as u8;
                    end += 1;
                    continue;
                }
                if entry & END != 0 {
                    feed.drop(entry);
                    self.after_block();
                    break Ok(());
                }
                if entry & EXCEPTION != 0 {
                    break Err(damaged("a code that stands for nothing"));
                }
            }
            let length = feed.value(entry) as usize;
            feed.refill_again();
            let mut entry = distances[feed.low(DISTANCE_BITS)];
            if entry & EXCEPTION != 0 {
                if entry & SUB != 0 {
                    entry = feed.second(distances, entry);
                }
                if entry & EXCEPTION != 0 {
                    break Err(damaged("a distance that stands for nothing"));
                }
            }
            let distance = feed.value(entry) as usize;
            if distance > end - self.floor {
                break Err(too_far());
            }
            if LONG && length > MATCH {
                self.state = State::Copy { length: length as u32, distance: distance as u32 };
                break Ok(());
            }
            copy(buf, end, distance, length);
            end += length;
        };
        self.end = end;
        result
    }
}

fn too_far() -> crate::error::Error {
    damaged("a match begins before the first byte")
}

/// The lengths of the codes of a block, themselves coded.
fn code_lengths(feed: &mut Feed, codes: &[u32], lengths: &mut [u8]) -> Result<Option<()>> {
    let mut at = 0;
    while at < lengths.len() {
        let Some((entry, symbol)) = feed.symbol(codes, HEADER_BITS) else { return Ok(None) };
        if entry & EXCEPTION != 0 {
            return Err(damaged("a code of a block header that stands for nothing"));
        }
        let (bits, least) = match symbol {
            16 => (2, 3),
            17 => (3, 3),
            18 => (7, 11),
            length => {
                lengths[at] = length as u8;
                at += 1;
                continue;
            }
        };
        let Some(more) = feed.take(bits) else { return Ok(None) };
        let before = if symbol == 16 { at.checked_sub(1).map(|n| lengths[n]) } else { Some(0) };
        let run = lengths.get_mut(at..at + least + more as usize);
        let (Some(before), Some(run)) = (before, run) else {
            return Err(damaged("the lengths of a block's codes do not fit"));
        };
        at += run.len();
        run.fill(before);
    }
    Ok(Some(()))
}

/// Copies a match of at most [`MATCH`] bytes to `end`. What lies up to two pieces behind it is overwritten.
#[inline(always)]
fn copy(buf: &mut [u8], end: usize, distance: usize, length: usize) {
    let mut from = end - distance;
    if distance >= PIECE {
        let mut to = end;
        loop {
            buf.copy_within(from..from + PIECE, to);
            (from, to) = (from + PIECE, to + PIECE);
            if to >= end + length {
                break;
            }
        }
    } else if distance == 1 {
        let byte = buf[from];
        buf[end..end + length].fill(byte);
    } else {
        for to in end..end + length {
            buf[to] = buf[from];
            from += 1;
        }
    }
}
