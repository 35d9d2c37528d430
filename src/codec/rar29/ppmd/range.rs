//! The range coder, and the counts of escapes.

use crate::codec::damaged;
use crate::codec::rar29::bits::Bits;
use crate::error::Result;
use std::io::Read;

const TOP: u32 = 1 << 24;
const BOTTOM: u32 = 1 << 15;

/// Bits of a probability of a single state.
pub(super) const SCALE_BITS: u32 = 14;

#[derive(Default)]
pub(super) struct Coder {
    range: u32,
    code: u32,
    low: u32,
}

impl Coder {
    pub fn start<R: Read>(&mut self, bits: &mut Bits<R>) -> Result<()> {
        *self = Self { range: u32::MAX, code: bits.take(32)?, low: 0 };
        if self.code == u32::MAX { Err(damaged("a block cannot begin so")) } else { Ok(()) }
    }

    /// Where in the whole the next symbol is.
    #[inline(always)]
    pub fn threshold(&mut self, total: u32) -> Result<u32> {
        self.range = self.range.checked_div(total).unwrap_or(0);
        let threshold = self.code.wrapping_sub(self.low).checked_div(self.range);
        threshold.filter(|n| *n < total).ok_or_else(|| damaged("a symbol is outside of the model"))
    }

    #[inline(always)]
    pub fn part(&mut self, start: u32, size: u32) {
        self.low = self.low.wrapping_add(start.wrapping_mul(self.range));
        self.range = self.range.wrapping_mul(size);
    }

    /// Whether it is the likely one of two.
    #[inline(always)]
    pub fn is_likely(&mut self, probability: u32) -> bool {
        let size = (self.range >> SCALE_BITS).wrapping_mul(probability);
        let likely = self.code.wrapping_sub(self.low) < size;
        if likely {
            self.range = size;
        } else {
            self.low = self.low.wrapping_add(size);
            self.range = (self.range & !((1 << SCALE_BITS) - 1)).wrapping_sub(size);
        }
        likely
    }

    #[inline(always)]
    pub fn settle<R: Read>(&mut self, bits: &mut Bits<R>) -> Result<()> {
        loop {
            if self.low ^ self.low.wrapping_add(self.range) >= TOP {
                if self.range >= BOTTOM {
                    return Ok(());
                }
                self.range = self.low.wrapping_neg() & (BOTTOM - 1);
            }
            self.code = self.code << 8 | u32::from(bits.byte()?);
            self.range <<= 8;
            self.low <<= 8;
        }
    }
}

/// How often contexts of a kind did not have the symbol.
#[derive(Clone, Copy, Default)]
pub(super) struct See {
    pub sum: u16,
    pub shift: u8,
    pub count: u8,
}

impl See {
    /// Takes the mean from the sum.
    pub fn mean(&mut self) -> u32 {
        let mean = self.sum >> self.shift;
        self.sum -= mean;
        u32::from(mean.max(1))
    }

    pub fn hit(&mut self) {
        if self.shift >= 7 {
            return;
        }
        self.count = self.count.wrapping_sub(1);
        if self.count == 0 {
            self.sum <<= 1;
            self.count = (3u32 << self.shift) as u8;
            self.shift += 1;
        }
    }
}
