//! bzip2: blocks, each for itself.
//!
//! ```text
//!   "BZh" level   block  block  …  end            level: 100 000 bytes of a block, 1 to 9
//!   block         48 bits π ‖ check ‖ first row ‖ bytes in use ‖ codes ‖ runs and places of bytes
//!   end           48 bits √π ‖ check of the checks
//! ```
//!
//! Nothing is aligned to bytes but the beginning and the end of the whole. A block is read whole; its bytes are then made as
//! they are asked for.

use super::bits::High;
use super::{Supply, damaged};
use crate::error::{Error, Kind, Result};

/// Bytes per level, before runs are written out.
const LEVEL: usize = 100_000;

const BLOCK_MAGIC: u64 = 0x3141_5926_5359;
const END_MAGIC: u64 = 0x1772_4538_5090;

/// Symbols of a code: two for runs, 255 for places, one for the end.
const SYMBOLS: usize = 258;
/// The longest code.
const LONGEST: u32 = 20;
/// Bits of the first look-up.
const FIRST: u32 = 10;
/// Symbols after which another code is taken.
const GROUP: usize = 50;
/// Codes that a block switches between.
const CODES: usize = 6;
/// Switches that a block of the largest size needs.
const SELECTORS: usize = 18_002;

/// What comes next in a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    Block,
    End,
}

/// A decoder of one stream after another.
pub struct Bzip2 {
    pub bits: High,
    limit: usize,
    /// The check of the checks so far.
    pub sum: u32,
    codes: Vec<Code>,
    selectors: Vec<u8>,
    /// The bytes of the block, and in the higher bits of each the row that follows.
    rows: Vec<u32>,
    wanted: u32,
    run: Run,
}

/// What is being made of a block.
#[derive(Default)]
struct Run {
    /// The next row, and how many there are still.
    row: u32,
    left: usize,
    last: Option<u8>,
    /// How often the last byte came, up to four times, and is to come again.
    seen: u32,
    again: u32,
    check: crc32fast::Hasher,
}

impl Default for Bzip2 {
    fn default() -> Self {
        Self::new()
    }
}

impl Bzip2 {
    pub fn new() -> Self {
        Self {
            bits: High::default(),
            limit: 0,
            sum: 0,
            codes: Vec::new(),
            selectors: Vec::new(),
            rows: Vec::new(),
            wanted: 0,
            run: Run::default(),
        }
    }

    /// Begins a stream of a level, 1 to 9.
    pub fn begin(&mut self, level: u8) {
        self.limit = LEVEL * usize::from(level.clamp(1, 9));
        self.sum = 0;
        self.run = Run::default();
    }

    pub fn weight(&self) -> usize {
        let vectors = self.codes.capacity() * size_of::<Code>() + self.selectors.capacity() + self.rows.capacity() * 4;
        size_of::<Self>() + vectors
    }

    /// Reads what comes behind a block that was fetched whole: another one, or the end, behind which the rest of a byte is
    /// left out.
    pub fn next(&mut self, from: &mut impl Supply) -> Result<Part> {
        let magic = u64::from(self.bits.take(from, 24)?) << 24 | u64::from(self.bits.take(from, 24)?);
        let check = self.bits.take(from, 32)?;
        match magic {
            BLOCK_MAGIC => {
                self.wanted = check;
                self.block(from)?;
                Ok(Part::Block)
            }
            END_MAGIC if check == self.sum => {
                let rest = self.bits.held() % 8;
                self.bits.skip(rest);
                Ok(Part::End)
            }
            END_MAGIC => Err(damaged("the decoded blocks fail their check")),
            _ => Err(damaged("neither a block nor the end of the stream")),
        }
    }

    fn block(&mut self, from: &mut impl Supply) -> Result<()> {
        if self.bits.take(from, 1)? == 1 {
            return Err(Error::new(Kind::Unsupported, "a block of bzip2 as only its first versions wrote them"));
        }
        let first = self.bits.take(from, 24)? as usize;
        let bytes = self.bytes_in_use(from)?;
        let count = self.codes_of_block(from, bytes.len())?;
        self.rows.resize(self.limit, 0);
        let (len, counts) = self.places(from, &bytes, count)?;
        if first >= len {
            return Err(damaged("a block does not say where it begins"));
        }
        link(&mut self.rows[..len], &counts);
        self.run = Run { row: self.rows[first] >> 8, left: len, ..Run::default() };
        Ok(())
    }

    /// The bytes that the block holds, in order: sixteen bits say which sixteenths are told.
    fn bytes_in_use(&mut self, from: &mut impl Supply) -> Result<Vec<u8>> {
        let told = self.bits.take(from, 16)?;
        let mut bytes = Vec::new();
        for high in (0..16u8).filter(|n| told << n & 0x8000 != 0) {
            let which = self.bits.take(from, 16)?;
            bytes.extend((0..16).filter(|n| which << n & 0x8000 != 0).map(|low| high << 4 | low));
        }
        if bytes.is_empty() { Err(damaged("a block without any bytes")) } else { Ok(bytes) }
    }

    /// The codes and which of them is used when; how many there are.
    fn codes_of_block(&mut self, from: &mut impl Supply, bytes: usize) -> Result<usize> {
        let count = self.bits.take(from, 3)? as usize;
        let selectors = self.bits.take(from, 15)? as usize;
        if !(2..=CODES).contains(&count) || selectors == 0 {
            return Err(damaged("a block with too many codes, or too few"));
        }
        self.selectors.clear();
        let mut order: [u8; CODES] = std::array::from_fn(|n| n as u8);
        for n in 0..selectors {
            let mut place = 0;
            while self.bits.take(from, 1)? == 1 {
                place += 1;
                if place == count {
                    return Err(damaged("a block uses a code that it has not"));
                }
            }
            order[..=place].rotate_right(1);
            // More than can be used are written by some, and mean nothing.
            if n < SELECTORS {
                self.selectors.push(order[0]);
            }
        }
        self.codes.resize_with(CODES, Code::default);
        for n in 0..count {
            let lengths = self.lengths(from, bytes + 2)?;
            self.codes[n].build(&lengths[..bytes + 2])?;
        }
        Ok(count)
    }

    /// The lengths of a code, each told by steps from the one before.
    fn lengths(&mut self, from: &mut impl Supply, symbols: usize) -> Result<[u8; SYMBOLS]> {
        let mut lengths = [0; SYMBOLS];
        let mut length = self.bits.take(from, 5)?;
        for slot in &mut lengths[..symbols] {
            loop {
                if !(1..=LONGEST).contains(&length) {
                    return Err(damaged("a code is too long"));
                }
                if self.bits.take(from, 1)? == 0 {
                    break;
                }
                length = if self.bits.take(from, 1)? == 0 { length + 1 } else { length - 1 };
            }
            *slot = length as u8;
        }
        Ok(lengths)
    }

    /// The bytes of the block, sorted as they are: how many, and how many of each.
    fn places(&mut self, from: &mut impl Supply, bytes: &[u8], codes: usize) -> Result<(usize, [u32; 256])> {
        let Self { bits, codes: tables, selectors, rows, .. } = self;
        let tables = &tables[..codes];
        let mut order = [0u8; 256];
        order[..bytes.len()].copy_from_slice(bytes);
        let end = bytes.len() as u32 + 1;
        let (mut len, mut counts) = (0, [0u32; 256]);
        let (mut run, mut weight) = (0usize, 1usize);
        for selector in selectors.iter() {
            let table = &tables[usize::from(*selector)];
            for _ in 0..GROUP {
                bits.fill(from)?;
                let symbol = table.symbol(bits).ok_or_else(|| broken(bits, from))?;
                if symbol < 2 {
                    // Two digits of a number to the base two, without a zero.
                    run += weight << symbol;
                    weight <<= 1;
                    if run > rows.len() {
                        return Err(too_long());
                    }
                    continue;
                }
                if run > 0 {
                    rows.get_mut(len..len + run).ok_or_else(too_long)?.fill(u32::from(order[0]));
                    counts[usize::from(order[0])] += run as u32;
                    len += run;
                    (run, weight) = (0, 1);
                }
                if symbol == end {
                    return Ok((len, counts));
                }
                let byte = to_front(&mut order, symbol as usize - 1);
                *rows.get_mut(len).ok_or_else(too_long)? = u32::from(byte);
                counts[usize::from(byte)] += 1;
                len += 1;
            }
        }
        Err(damaged("a block does not end"))
    }

    /// Makes the next bytes of the block; 0 at its end.
    pub fn write(&mut self, into: &mut [u8]) -> usize {
        let run = &mut self.run;
        let mut at = 0;
        while at < into.len() {
            if run.again > 0 {
                let n = (run.again as usize).min(into.len() - at);
                into[at..at + n].fill(run.last.unwrap_or(0));
                run.again -= n as u32;
                at += n;
                continue;
            }
            if run.left == 0 {
                break;
            }
            run.left -= 1;
            let entry = self.rows[run.row as usize];
            run.row = entry >> 8;
            let byte = entry as u8;
            if run.seen == 4 {
                (run.again, run.seen) = (u32::from(byte), 0);
                continue;
            }
            run.seen = if run.last == Some(byte) { run.seen + 1 } else { 1 };
            run.last = Some(byte);
            into[at] = byte;
            at += 1;
        }
        run.update(&into[..at]);
        at
    }

    /// Makes the check of a block that was fetched whole.
    pub fn check(&mut self) -> Result<()> {
        let found = self.run.check.clone().finalize().reverse_bits();
        if found != self.wanted {
            return Err(damaged("a decoded block fails its check"));
        }
        self.sum = self.sum.rotate_left(1) ^ found;
        Ok(())
    }
}

impl Run {
    /// The check of bzip2 is CRC-32 with all bits the other way round.
    fn update(&mut self, mut bytes: &[u8]) {
        let mut turned = [0u8; 1024];
        while !bytes.is_empty() {
            let (now, rest) = bytes.split_at(bytes.len().min(turned.len()));
            turned.iter_mut().zip(now).for_each(|(t, b)| *t = b.reverse_bits());
            self.check.update(&turned[..now.len()]);
            bytes = rest;
        }
    }
}

fn too_long() -> Error {
    damaged("a block is longer than the stream allows")
}

/// The error of a code that is none: maybe only because the bytes ended.
fn broken(bits: &High, from: &impl Supply) -> Error {
    if bits.held() < LONGEST { from.torn() } else { damaged("a code that stands for nothing") }
}

/// Moves the byte at a place to the front of all.
#[inline(always)]
fn to_front(order: &mut [u8; 256], place: usize) -> u8 {
    let place = place & 255;
    let byte = order[place];
    if place < 16 {
        for n in (0..place).rev() {
            order[n + 1] = order[n];
        }
    } else {
        order.copy_within(..place, 1);
    }
    order[0] = byte;
    byte
}

/// Adds to each row the one that follows it.
fn link(rows: &mut [u32], counts: &[u32; 256]) {
    let mut starts = [0u32; 256];
    let mut sum = 0;
    for (start, count) in starts.iter_mut().zip(counts) {
        *start = sum;
        sum += count;
    }
    for n in 0..rows.len() {
        let start = &mut starts[(rows[n] & 255) as usize];
        rows[*start as usize] |= (n as u32) << 8;
        *start += 1;
    }
}

/// A code: its symbols by the bits they begin with, and those that are longer.
struct Code {
    /// `symbol ‖ length`, five bits for the length; 0 where a code is longer or none.
    first: [u16; 1 << FIRST],
    /// For each length, what codes of it are below when filled up to the longest, and what is to be added to a code to
    /// get its place among the symbols.
    below: [u32; LONGEST as usize + 1],
    offset: [i32; LONGEST as usize + 1],
    symbols: [u16; SYMBOLS],
}

impl Default for Code {
    fn default() -> Self {
        const LENGTHS: usize = LONGEST as usize + 1;
        Self { first: [0; 1 << FIRST], below: [0; LENGTHS], offset: [0; LENGTHS], symbols: [0; SYMBOLS] }
    }
}

impl Code {
    fn build(&mut self, lengths: &[u8]) -> Result<()> {
        self.first.fill(0);
        let (mut code, mut place) = (0u32, 0usize);
        for length in 1..=LONGEST {
            self.offset[length as usize] = place as i32 - code as i32;
            for (symbol, _) in lengths.iter().enumerate().filter(|(_, l)| u32::from(**l) == length) {
                if code >> length != 0 {
                    return Err(damaged("a code has too many symbols"));
                }
                self.symbols[place] = symbol as u16;
                if length <= FIRST {
                    let from = (code << (FIRST - length)) as usize;
                    self.first[from..from + (1 << (FIRST - length))].fill((symbol as u16) << 5 | length as u16);
                }
                (code, place) = (code + 1, place + 1);
            }
            self.below[length as usize] = code << (LONGEST - length);
            code <<= 1;
        }
        Ok(())
    }

    /// The symbol of the next bits.
    #[inline(always)]
    fn symbol(&self, bits: &mut High) -> Option<u32> {
        let entry = self.first[bits.peek(FIRST) as usize];
        if entry != 0 {
            return bits.skip(u32::from(entry) & 31).then_some(u32::from(entry >> 5));
        }
        self.long_symbol(bits)
    }

    fn long_symbol(&self, bits: &mut High) -> Option<u32> {
        let next = bits.peek(LONGEST);
        let length = (FIRST + 1..=LONGEST).find(|length| next < self.below[*length as usize])?;
        let place = (next >> (LONGEST - length)) as i32 + self.offset[length as usize];
        let symbol = *self.symbols.get(usize::try_from(place).ok()?)?;
        bits.skip(length).then_some(symbol.into())
    }
}
