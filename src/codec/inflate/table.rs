//! Tables that give, for the next bits of a deflate stream, the symbol they begin with.
//!
//! ```text
//!  bits 31..16   15         14   13   12       11..8      7..0
//!  value         0          0    0    literal  code bits  code bits and extra bits
//!  -             exception  0    end  0        -          code bits
//!  start         exception  sub  0    0        width      bits of the first look-up
//! ```
//!
//! A value is a byte, a length or a distance, the last two without their extra bits. Codes that are longer than the first
//! look-up continue in a table of their own, `sub`.

use crate::codec::damaged;
use crate::error::Result;

/// Bits that the first look-up takes: nearly all codes of literals are no longer, and the table stays in the first cache.
pub(super) const LITERAL_BITS: u32 = 11;
pub(super) const DISTANCE_BITS: u32 = 8;

/// The most entries that a code of 288 symbols, or of 32, of up to 15 bits can need (`enough` of zlib).
const LITERAL_ENTRIES: usize = 2342;
const DISTANCE_ENTRIES: usize = 402;

/// The longest code.
const LONGEST: usize = 15;

/// Symbols of the largest code.
const SYMBOLS: usize = 288;

pub(super) const LITERAL: u32 = 1 << 12;
pub(super) const EXCEPTION: u32 = 1 << 15;
pub(super) const SUB: u32 = 1 << 14;
pub(super) const END: u32 = 1 << 13;

/// No code begins with these bits.
const INVALID: u32 = EXCEPTION;

pub(super) type Literals = [u32; LITERAL_ENTRIES];
pub(super) type Distances = [u32; DISTANCE_ENTRIES];

pub(super) fn new_literals() -> Literals {
    [INVALID; LITERAL_ENTRIES]
}

pub(super) fn new_distances() -> Distances {
    [INVALID; DISTANCE_ENTRIES]
}

const LENGTH_BASE: [u16; 29] =
    [3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 17, 19, 23, 27, 31, 35, 43, 51, 59, 67, 83, 99, 115, 131, 163, 195, 227, 258];
const LENGTH_EXTRA: [u8; 29] = [0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0];

/// What stands for a symbol of the literals and lengths, but for the length of its code. In Deflate64 the last length
/// has 16 bits of its own.
pub(super) fn literal<const LONG: bool>(symbol: usize) -> u32 {
    match symbol {
        0..256 => LITERAL | (symbol as u32) << 16,
        256 => EXCEPTION | END,
        285 if LONG => (3 << 16) | 16,
        257..=285 => u32::from(LENGTH_BASE[symbol - 257]) << 16 | u32::from(LENGTH_EXTRA[symbol - 257]),
        _ => INVALID,
    }
}

/// What stands for a distance: each pair of symbols has one bit more than the pair before.
pub(super) fn distance<const LONG: bool>(symbol: usize) -> u32 {
    match symbol {
        0..4 => (symbol as u32 + 1) << 16,
        30.. if !LONG => INVALID,
        4..32 => {
            let extra = symbol as u32 / 2 - 1;
            ((2 + symbol as u32 % 2) << extra).wrapping_add(1) << 16 | extra
        }
        _ => INVALID,
    }
}

/// The code of a block header's own lengths: at most 7 bits, one look-up.
pub(super) const HEADER_BITS: u32 = 7;

pub(super) fn header(symbol: usize) -> u32 {
    (symbol as u32) << 16
}

/// An entry for a code of this many bits.
fn entry(symbol: u32, bits: u32) -> u32 {
    if symbol & EXCEPTION != 0 { symbol | bits } else { (symbol & 0xffff_10ff) + (bits << 8) + bits }
}

/// Fills a table whose first look-up takes `first` bits from the code lengths of the symbols.
///
/// A code must use up all its bits; a single code of one bit need not, as of zlib.
pub(super) fn build(table: &mut [u32], first: u32, lengths: &[u8], symbol: impl Fn(usize) -> u32) -> Result<()> {
    let code = Lengths::new(lengths)?;
    table[..1 << first].fill(INVALID);
    let mut tables = Tables { table, first, free: 1 << first, left: code.counts };
    let mut next = 0u32;
    let mut bits = 0;
    for n in code.sorted() {
        let len = usize::from(lengths[usize::from(*n)]);
        next <<= len - bits;
        bits = len;
        tables.put(next.reverse_bits() >> (32 - bits), bits as u32, symbol(usize::from(*n)))?;
        next += 1;
    }
    Ok(())
}

/// The symbols of a code in the order of their codes.
struct Lengths {
    counts: [u16; LONGEST + 1],
    order: [u16; SYMBOLS],
    unused: usize,
    all: usize,
}

impl Lengths {
    fn new(lengths: &[u8]) -> Result<Self> {
        let mut counts = [0u16; LONGEST + 1];
        lengths.iter().for_each(|bits| counts[usize::from(*bits)] += 1);
        let mut starts = [0u16; LONGEST + 2];
        for bits in 0..=LONGEST {
            starts[bits + 1] = starts[bits] + counts[bits];
        }
        let mut order = [0; SYMBOLS];
        for (n, bits) in lengths.iter().enumerate() {
            let start = &mut starts[usize::from(*bits)];
            order[usize::from(*start)] = n as u16;
            *start += 1;
        }
        let unused = usize::from(std::mem::take(&mut counts[0]));
        check(&counts)?;
        Ok(Self { counts, order, unused, all: lengths.len() })
    }

    fn sorted(&self) -> &[u16] {
        &self.order[self.unused..self.all]
    }
}

fn check(counts: &[u16; LONGEST + 1]) -> Result<()> {
    let mut left = 1i32;
    for count in &counts[1..] {
        left = (left << 1) - i32::from(*count);
        if left < 0 {
            return Err(damaged("a code has too many symbols"));
        }
    }
    if left > 0 && counts[2..].iter().any(|n| *n > 0) {
        return Err(damaged("a code has too few symbols"));
    }
    Ok(())
}

/// The first table and those behind it.
struct Tables<'a> {
    table: &'a mut [u32],
    first: u32,
    /// Entries behind this one are free.
    free: usize,
    /// Symbols of each length that have no entry yet.
    left: [u16; LONGEST + 1],
}

impl Tables<'_> {
    /// Writes one symbol wherever its code is what a look-up begins with.
    fn put(&mut self, code: u32, bits: u32, symbol: u32) -> Result<()> {
        let first = self.first;
        if bits <= first {
            let value = entry(symbol, bits);
            self.table[code as usize..1 << first].iter_mut().step_by(1 << bits).for_each(|slot| *slot = value);
        } else {
            let sub = self.sub((code & ((1 << first) - 1)) as usize, bits)?;
            let value = entry(symbol, bits - first);
            sub[(code >> first) as usize..].iter_mut().step_by(1 << (bits - first)).for_each(|slot| *slot = value);
        }
        self.left[bits as usize] -= 1;
        Ok(())
    }

    /// The table behind an entry of the first one, which is made when its first code comes.
    fn sub(&mut self, slot: usize, bits: u32) -> Result<&mut [u32]> {
        if self.table[slot] & SUB == 0 {
            let width = self.width(bits);
            let end = self.free + (1 << width);
            let room = self.table.get_mut(self.free..end).ok_or_else(|| damaged("a code is too long"))?;
            room.fill(INVALID);
            self.table[slot] = (self.free as u32) << 16 | EXCEPTION | SUB | width << 8 | self.first;
            self.free = end;
        }
        let (start, width) = ((self.table[slot] >> 16) as usize, (self.table[slot] >> 8) & 15);
        Ok(&mut self.table[start..start + (1 << width)])
    }

    /// How many more bits the codes that follow take at most, until they fill what is behind one entry: they come in
    /// ascending order of their lengths.
    fn width(&self, bits: u32) -> u32 {
        let mut width = bits - self.first;
        let mut left = 1i32 << width;
        while width + self.first < LONGEST as u32 {
            left -= i32::from(self.left[(width + self.first) as usize]);
            if left <= 0 {
                break;
            }
            width += 1;
            left <<= 1;
        }
        width
    }
}
