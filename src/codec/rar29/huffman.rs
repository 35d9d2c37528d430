//! Huffman codes of up to 15 bits.

use super::bits::Bits;
use crate::codec::damaged;
use crate::error::Result;
use std::io::Read;

/// The longest code.
pub(super) const LONGEST: usize = 15;

/// Bits of the one look-up that nearly all codes need.
const FIRST: usize = 11;

/// A code: what the next bits stand for.
pub(super) struct Huffman {
    /// For the next bits: a symbol and, in the four lowest bits, how long its code is. 0 where the code is longer or none.
    first: Box<[u16; 1 << FIRST]>,
    /// Of each length: the code behind its last one, set to 15 bits, and what to add to a code for its place in `order`.
    limits: [u16; LONGEST + 1],
    offsets: [u16; LONGEST + 1],
    /// Symbols by their codes.
    order: Vec<u16>,
}

impl Default for Huffman {
    fn default() -> Self {
        let offsets = [0; LONGEST + 1];
        Self { first: Box::new([0; 1 << FIRST]), limits: offsets, offsets, order: Vec::new() }
    }
}

impl Huffman {
    /// Makes the code anew from the lengths of the symbols' codes; 0 is no code. A code need not use up all bits.
    pub fn build(&mut self, lengths: &[u8]) -> Result<()> {
        let mut counts = [0u16; LONGEST + 1];
        lengths.iter().for_each(|bits| counts[usize::from(*bits & 15)] += 1);
        counts[0] = 0;
        let (mut code, mut place, mut places) = (0u32, 0u16, [0u16; LONGEST + 1]);
        for bits in 1..=LONGEST {
            code <<= 1;
            places[bits] = place;
            self.offsets[bits] = place.wrapping_sub(code as u16);
            code += u32::from(counts[bits]);
            place += counts[bits];
            if code > 1 << bits {
                return Err(damaged("a code has too many symbols"));
            }
            self.limits[bits] = (code << (LONGEST - bits)) as u16;
        }
        self.order.clear();
        self.order.resize(usize::from(place), 0);
        for (symbol, bits) in lengths.iter().enumerate().filter(|(_, bits)| **bits != 0) {
            let place = &mut places[usize::from(*bits & 15)];
            self.order[usize::from(*place)] = symbol as u16;
            *place += 1;
        }
        self.fill(&counts);
        Ok(())
    }

    fn fill(&mut self, counts: &[u16; LONGEST + 1]) {
        let (mut slot, mut place) = (0, 0);
        for (bits, count) in counts.iter().enumerate().take(FIRST + 1).skip(1) {
            for symbol in &self.order[place..place + usize::from(*count)] {
                let width = 1 << (FIRST - bits);
                self.first[slot..slot + width].fill(symbol << 4 | bits as u16);
                slot += width;
            }
            place += usize::from(*count);
        }
        self.first[slot..].fill(0);
    }

    /// The next symbol, of bits that are taken already.
    #[inline(always)]
    pub fn taken<R: Read>(&self, bits: &mut Bits<R>) -> Result<usize> {
        let next = bits.peek();
        let entry = self.first[next >> (LONGEST - FIRST)];
        if entry != 0 {
            bits.skip(u32::from(entry & 15));
            return Ok(usize::from(entry >> 4));
        }
        self.long(bits, next)
    }

    #[cold]
    fn long<R: Read>(&self, bits: &mut Bits<R>, next: usize) -> Result<usize> {
        let len = (FIRST + 1..=LONGEST).find(|len| next < usize::from(self.limits[*len]));
        let symbol = len.and_then(|len| {
            bits.skip(len as u32);
            let place = self.offsets[len].wrapping_add((next >> (LONGEST - len)) as u16);
            self.order.get(usize::from(place))
        });
        symbol.map(|symbol| usize::from(*symbol)).ok_or_else(|| damaged("a code that stands for nothing"))
    }

    /// The next symbol.
    #[inline(always)]
    pub fn symbol<R: Read>(&self, bits: &mut Bits<R>) -> Result<usize> {
        bits.fill()?;
        self.taken(bits)
    }
}
