//! The codec of RAR 2.9 to 4, decoded as it is read.
//!
//! ```text
//!   member   │ block: matches │ block: PPMd │ … │ end      the first bit of a block, at a whole byte, tells which it is
//! ```
//!
//! Matches and PPMd share the dictionary, and both can bring filters: programs that change a range of bytes behind the
//! dictionary, on their way out. A solid member goes on with all that the one before left.
//!
//! After rars (Apache-2.0), and the description of the format in libarchive.

mod bits;
mod filter;
mod huffman;
mod ppmd;
#[cfg(test)]
mod tests;
mod vm;
mod window;

use super::damaged;
use crate::error::{Error, Result};
use bits::Bits;
use huffman::Huffman;
use std::io::{Read, Write};
use vm::Filters;
use window::{ROOM, Window};

const MAIN: usize = 299;
const DISTANCES: usize = 60;
const LOW_DISTANCES: usize = 17;
const LENGTHS: usize = 28;
const LEVELS: usize = 20;
const SYMBOLS: usize = MAIN + DISTANCES + LOW_DISTANCES + LENGTHS;

const LENGTH_BASES: [u8; LENGTHS] =
    [0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20, 24, 28, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224];
const LENGTH_BITS: [u8; LENGTHS] = [0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5];

const SHORT_BASES: [u8; 8] = [0, 4, 8, 16, 32, 64, 128, 192];
const SHORT_BITS: [u8; 8] = [2, 2, 3, 4, 5, 6, 6, 6];

/// The first distance of each symbol, less one, and the bits behind it.
const DISTANCE_CODES: [(u32, u32); DISTANCES] = {
    let (mut all, mut n, mut base) = ([(0, 0); DISTANCES], 0, 0);
    while n < DISTANCES {
        let bits = match n {
            0..4 => 0,
            4..36 => n as u32 / 2 - 1,
            36..48 => 16,
            _ => 18,
        };
        all[n] = (base, bits);
        base += 1 << bits;
        n += 1;
    }
    all
};

/// From this symbol on the lowest four bits of a distance have a code of their own.
const WITH_LOW: usize = 10;

/// A distance that was never there: what is copied from it is zeros.
const NOWHERE: usize = usize::MAX;

const TOO_FAR: &str = "a match is from farther than the dictionary reaches";
const TOO_LONG: &str = "there are more bytes than the member has";
const TOO_SHORT: &str = "the member ends too early";

#[derive(Clone, Copy, PartialEq, Eq)]
enum Block {
    Matches,
    Ppmd,
}

/// A decoder with what it remembers from the member before.
pub struct Unpack29 {
    window: Window,
    /// Packed bytes.
    buffer: Vec<u8>,
    levels: [u8; SYMBOLS],
    codes: Codes,
    matches: Matches,
    block: Block,
    /// Whether the block goes on; else another one begins.
    in_block: bool,
    model: Box<ppmd::Model>,
    escape: u8,
    filters: Filters,
    /// How many bytes were given out, and how many before the member.
    given: u64,
    start: u64,
    /// A block ended the member.
    ended: bool,
}

#[derive(Default)]
struct Codes {
    main: Huffman,
    distances: Huffman,
    low_distances: Huffman,
    lengths: Huffman,
}

/// What is remembered of matches.
struct Matches {
    distances: [usize; 4],
    last: (usize, usize),
    low: u32,
    low_repeats: u32,
}

impl Default for Matches {
    fn default() -> Self {
        Self { distances: [NOWHERE; 4], last: (NOWHERE, 0), low: 0, low_repeats: 0 }
    }
}

impl Default for Unpack29 {
    fn default() -> Self {
        Self::new()
    }
}

impl Unpack29 {
    pub fn new() -> Self {
        Self {
            window: Window::new(),
            buffer: Vec::new(),
            levels: [0; SYMBOLS],
            codes: Codes::default(),
            matches: Matches::default(),
            block: Block::Matches,
            in_block: false,
            model: Box::default(),
            escape: 2,
            filters: Filters::default(),
            given: 0,
            start: 0,
            ended: false,
        }
    }

    /// Decodes a member of `size` bytes; with `goes_on`, one that is solid and follows what was decoded last.
    ///
    /// # Errors
    /// When the bytes are damaged, end too early, or cannot be read or written. Then nothing is left to go on with.
    pub fn decode_member(
        &mut self,
        input: &mut impl Read,
        size: u64,
        goes_on: bool,
        out: &mut impl Write,
    ) -> Result<()> {
        if !goes_on {
            self.restart();
        }
        let mut bits = Bits::new(input, std::mem::take(&mut self.buffer));
        let done = self.decode(&mut bits, size, out);
        self.buffer = bits.into_buffer();
        if done.is_err() {
            self.restart();
        }
        done
    }

    fn restart(&mut self) {
        *self = Self { buffer: std::mem::take(&mut self.buffer), ..Self::new() };
    }

    fn decode<R: Read>(&mut self, bits: &mut Bits<R>, size: u64, out: &mut impl Write) -> Result<()> {
        (self.start, self.given, self.ended) = (self.window.end(), self.window.end(), false);
        self.filters.forget_pending();
        let end = self.start.checked_add(size).ok_or_else(|| damaged(TOO_LONG))?;
        if size == 0 && bits.is_empty()? {
            return Ok(());
        }
        if size == 0 && !self.in_block {
            self.begin_block(bits)?;
        }
        while self.window.end() < end {
            self.run(bits, end.min(self.window.end() + ROOM as u64))?;
            if self.window.end() > end {
                return Err(damaged(TOO_LONG));
            }
            self.give(end, out)?;
        }
        self.finish(bits)?;
        bits.check()
    }

    /// Decodes until so many bytes are there, or a match more.
    fn run<R: Read>(&mut self, bits: &mut Bits<R>, target: u64) -> Result<()> {
        while self.window.end() < target {
            if !self.in_block {
                self.begin_block(bits)?;
            }
            match self.block {
                Block::Matches => self.run_matches(bits, target)?,
                Block::Ppmd => self.run_ppmd(bits, target)?,
            }
            if self.ended {
                return Err(damaged(TOO_SHORT));
            }
        }
        Ok(())
    }

    fn begin_block<R: Read>(&mut self, bits: &mut Bits<R>) -> Result<()> {
        bits.align();
        self.block = if bits.flag()? { Block::Ppmd } else { Block::Matches };
        match self.block {
            Block::Matches => self.read_codes(bits)?,
            Block::Ppmd => self.begin_ppmd(bits)?,
        }
        self.in_block = true;
        Ok(())
    }

    fn begin_ppmd<R: Read>(&mut self, bits: &mut Bits<R>) -> Result<()> {
        let flags = bits.take(7)?;
        let size = if flags & 0x20 != 0 { Some((usize::from(bits.byte()?) + 1) << 20) } else { None };
        if flags & 0x40 != 0 {
            self.escape = bits.byte()?;
        }
        let order = match (flags & 0x1f) + 1 {
            1 if size.is_some() => return Err(damaged("a model of no order")),
            order @ ..=16 => order,
            order => 16 + (order - 16) * 3,
        };
        self.model.start(bits, size.map(|size| (order, size)))
    }

    fn read_codes<R: Read>(&mut self, bits: &mut Bits<R>) -> Result<()> {
        (self.matches.low, self.matches.low_repeats) = (0, 0);
        if !bits.flag()? {
            self.levels = [0; SYMBOLS];
        }
        let mut code = Huffman::default();
        code.build(&level_lengths(bits)?)?;
        let mut at = 0;
        while at < SYMBOLS {
            let symbol = code.symbol(bits)?;
            if symbol < 16 {
                self.levels[at] = (self.levels[at] + symbol as u8) & 15;
                at += 1;
                continue;
            }
            let count = if symbol % 2 == 0 { 3 + bits.take(3)? } else { 11 + bits.take(7)? };
            let level = match symbol {
                18.. => 0,
                _ if at == 0 => return Err(damaged("a code repeats a length before the first")),
                _ => self.levels[at - 1],
            };
            let end = SYMBOLS.min(at + count as usize);
            self.levels[at..end].fill(level);
            at = end;
        }
        let (main, rest) = self.levels.split_at(MAIN);
        let (distances, rest) = rest.split_at(DISTANCES);
        let (low_distances, lengths) = rest.split_at(LOW_DISTANCES);
        self.codes.main.build(main)?;
        self.codes.distances.build(distances)?;
        self.codes.low_distances.build(low_distances)?;
        self.codes.lengths.build(lengths)
    }

    fn run_matches<R: Read>(&mut self, bits: &mut Bits<R>, target: u64) -> Result<()> {
        while self.window.end() < target {
            let (length, distance) = match self.codes.main.symbol(bits)? {
                literal @ ..256 => {
                    self.window.push(literal as u8);
                    continue;
                }
                256 => return self.end_block(bits),
                257 => {
                    self.read_filter(bits, |_, bits| bits.byte())?;
                    continue;
                }
                258 => match self.matches.last {
                    (_, 0) => continue,
                    (distance, length) => (length, distance),
                },
                symbol @ 259..263 => {
                    let length = self.codes.length(bits)?;
                    (length, self.matches.again(symbol - 259, length))
                }
                symbol @ 263..271 => {
                    bits.fill()?;
                    let more = bits.taken(SHORT_BITS[symbol - 263].into());
                    let distance = usize::from(SHORT_BASES[symbol - 263]) + more as usize + 1;
                    (2, self.matches.new_one(distance, 2))
                }
                symbol => {
                    let length = length_of(symbol - 271, bits) + 3;
                    let distance = self.matches.distance(&self.codes, bits)?;
                    let length = length + usize::from(distance >= 0x2000) + usize::from(distance >= 0x40000);
                    (length, self.matches.new_one(distance, length))
                }
            };
            if !self.window.copy(distance, length) {
                return Err(damaged(TOO_FAR));
            }
        }
        Ok(())
    }

    fn end_block<R: Read>(&mut self, bits: &mut Bits<R>) -> Result<()> {
        let goes_on = bits.flag()?;
        self.ended = !goes_on;
        self.in_block = !goes_on && !bits.flag()?;
        Ok(())
    }

    fn run_ppmd<R: Read>(&mut self, bits: &mut Bits<R>, target: u64) -> Result<()> {
        while self.window.end() < target {
            let symbol = self.model.symbol(bits)?;
            if symbol != self.escape {
                self.window.push(symbol);
                continue;
            }
            let (length, distance) = match self.model.symbol(bits)? {
                0 => {
                    self.in_block = false;
                    return Ok(());
                }
                1 => {
                    self.window.push(symbol);
                    continue;
                }
                2 => return Err(damaged(TOO_SHORT)),
                3 => {
                    self.read_filter(bits, |model, bits| model.symbol(bits))?;
                    continue;
                }
                4 => {
                    let mut distance = 0;
                    for _ in 0..3 {
                        distance = distance << 8 | usize::from(self.model.symbol(bits)?);
                    }
                    (usize::from(self.model.symbol(bits)?) + 32, distance + 2)
                }
                5 => (usize::from(self.model.symbol(bits)?) + 4, 1),
                _ => return Err(damaged("an escape that stands for nothing")),
            };
            if !self.window.copy(distance, length) {
                return Err(damaged(TOO_FAR));
            }
        }
        Ok(())
    }

    fn read_filter<R: Read>(
        &mut self,
        bits: &mut Bits<R>,
        next: impl Fn(&mut ppmd::Model, &mut Bits<R>) -> Result<u8>,
    ) -> Result<()> {
        let mut byte = || next(&mut self.model, bits);
        let flags = byte()?;
        let len = match flags & 7 {
            6 => usize::from(byte()?) + 7,
            7 => usize::from(byte()?) << 8 | usize::from(byte()?),
            len => usize::from(len) + 1,
        };
        let record = (0..len).map(|_| byte()).collect::<Result<Vec<u8>>>()?;
        self.filters.read(flags, &record, self.window.end())
    }

    /// The end of a member, whose bytes are all there: nothing but the ends of blocks comes before it.
    fn finish<R: Read>(&mut self, bits: &mut Bits<R>) -> Result<()> {
        while !self.ended {
            if !self.in_block {
                self.begin_block(bits)?;
            }
            if self.block == Block::Matches {
                if self.codes.main.symbol(bits)? != 256 {
                    return Err(damaged(TOO_LONG));
                }
                self.end_block(bits)?;
                continue;
            }
            let is_escape = self.model.symbol(bits)? == self.escape;
            match self.model.symbol(bits)? {
                0 if is_escape => {}
                2 if is_escape => self.ended = true,
                _ => return Err(damaged(TOO_LONG)),
            }
            self.in_block = false;
        }
        Ok(())
    }

    /// Gives out what no filter waits for.
    fn give(&mut self, end: u64, out: &mut impl Write) -> Result<()> {
        while let Some((from, to)) = self.filters.next().filter(|(from, _)| *from < self.window.end()) {
            if to > end || from < self.given {
                return Err(damaged("a filter for bytes that it cannot be for"));
            }
            self.give_to(from, out)?;
            if to > self.window.end() {
                return Ok(());
            }
            let mut data = self.window.range(from, to).concat();
            self.filters.undo(&mut data, (from - self.start) as u32)?;
            write(out, &data)?;
            self.given = to;
        }
        self.give_to(self.window.end(), out)
    }

    fn give_to(&mut self, to: u64, out: &mut impl Write) -> Result<()> {
        for part in self.window.range(self.given, to) {
            write(out, part)?;
        }
        self.given = to;
        Ok(())
    }
}

fn write(out: &mut impl Write, bytes: &[u8]) -> Result<()> {
    out.write_all(bytes).map_err(|e| Error::io(e, "the unpacked bytes cannot be written"))
}

/// How long the codes of the levels are.
fn level_lengths<R: Read>(bits: &mut Bits<R>) -> Result<[u8; LEVELS]> {
    let (mut lengths, mut at) = ([0; LEVELS], 0);
    while at < LEVELS {
        let length = bits.take(4)?;
        let zeros = if length == 15 { bits.take(4)? } else { 0 };
        if zeros > 0 {
            at += zeros as usize + 2;
        } else {
            lengths[at] = length as u8;
            at += 1;
        }
    }
    Ok(lengths)
}

/// A length but for what it has at least. Its bits are taken already.
#[inline(always)]
fn length_of<R: Read>(symbol: usize, bits: &mut Bits<R>) -> usize {
    let more = bits.taken(LENGTH_BITS[symbol].into());
    usize::from(LENGTH_BASES[symbol]) + more as usize
}

impl Codes {
    /// The length of a match whose distance is known.
    #[inline(always)]
    fn length<R: Read>(&self, bits: &mut Bits<R>) -> Result<usize> {
        let symbol = self.lengths.symbol(bits)?;
        Ok(length_of(symbol, bits) + 2)
    }
}

impl Matches {
    fn new_one(&mut self, distance: usize, length: usize) -> usize {
        self.distances.copy_within(0..3, 1);
        self.distances[0] = distance;
        self.last = (distance, length);
        distance
    }

    /// The distance of one of the last matches.
    fn again(&mut self, n: usize, length: usize) -> usize {
        self.distances[..=n].rotate_right(1);
        self.last = (self.distances[0], length);
        self.distances[0]
    }

    #[inline(always)]
    fn distance<R: Read>(&mut self, codes: &Codes, bits: &mut Bits<R>) -> Result<usize> {
        let symbol = codes.distances.symbol(bits)?;
        let (base, more) = DISTANCE_CODES[symbol];
        if symbol < WITH_LOW {
            return Ok((base + bits.taken(more)) as usize + 1);
        }
        let high = base + (bits.taken(more - 4) << 4);
        if self.low_repeats > 0 {
            self.low_repeats -= 1;
        } else {
            match codes.low_distances.symbol(bits)? {
                16 => self.low_repeats = 15,
                low => self.low = low as u32,
            }
        }
        Ok((high + self.low) as usize + 1)
    }
}
