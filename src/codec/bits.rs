//! Bits of bytes that come as they are needed: lowest first, as in compress and the old methods of zip, or highest first, as
//! in bzip2.

use super::Supply;
use crate::error::Result;

/// Bits, the lowest of a byte first.
#[derive(Clone, Debug, Default)]
pub struct Low {
    bits: u64,
    count: u32,
}

impl Low {
    /// Bits that were taken from the bytes and not used.
    pub fn held(&self) -> u32 {
        self.count
    }

    /// Makes sure of `n` bits, 56 at most; `false` when there are fewer.
    pub fn gather(&mut self, from: &mut impl Supply, n: u32) -> Result<bool> {
        while self.count < n {
            let Some(byte) = from.some()?.first().copied() else { return Ok(false) };
            from.used(1);
            self.bits |= u64::from(byte) << self.count;
            self.count += 8;
        }
        Ok(true)
    }

    /// The next `n` bits of those that are there, 32 at most; what is missing is zero.
    pub fn peek(&self, n: u32) -> u32 {
        (self.bits & ((1 << n) - 1)) as u32
    }

    /// Drops bits; `false` when there were fewer.
    pub fn skip(&mut self, n: u32) -> bool {
        let enough = n <= self.count;
        let n = n.min(self.count);
        self.bits = self.bits.checked_shr(n).unwrap_or(0);
        self.count -= n;
        enough
    }

    /// The next `n` bits, 32 at most.
    pub fn take(&mut self, from: &mut impl Supply, n: u32) -> Result<u32> {
        if !self.gather(from, n)? {
            return Err(from.torn());
        }
        let value = self.peek(n);
        self.skip(n);
        Ok(value)
    }
}

/// Bits, the highest of a byte first.
#[derive(Clone, Debug, Default)]
pub struct High {
    /// From the highest down; what does not count is zero.
    bits: u64,
    count: u32,
}

impl High {
    /// Bits that were taken from the bytes and not used.
    pub fn held(&self) -> u32 {
        self.count
    }

    /// Gets 32 bits or more, if there are so many.
    #[inline(always)]
    pub fn fill(&mut self, from: &mut impl Supply) -> Result<()> {
        if self.count < 32 { self.refill(from) } else { Ok(()) }
    }

    fn refill(&mut self, from: &mut impl Supply) -> Result<()> {
        while self.count < 32 {
            let bytes = from.some()?;
            let word = bytes.first_chunk().map(|word| u32::from_be_bytes(*word));
            let (value, n) = match (word, bytes) {
                (Some(word), _) => (word, 4),
                (None, [byte, ..]) => (u32::from(*byte) << 24, 1),
                (None, []) => return Ok(()),
            };
            from.used(n);
            self.bits |= u64::from(value) << (32 - self.count);
            self.count += 8 * n as u32;
        }
        Ok(())
    }

    /// The next `n` bits, 1 to 32, of those that are there; what is missing is zero.
    #[inline(always)]
    pub fn peek(&self, n: u32) -> u32 {
        (self.bits >> (64 - n)) as u32
    }

    /// Drops bits, 32 at most; `false` when there were fewer.
    #[inline(always)]
    pub fn skip(&mut self, n: u32) -> bool {
        self.bits <<= n;
        let enough = n <= self.count;
        self.count = self.count.saturating_sub(n);
        enough
    }

    /// The next `n` bits, 1 to 32.
    #[inline(always)]
    pub fn take(&mut self, from: &mut impl Supply, n: u32) -> Result<u32> {
        self.fill(from)?;
        let value = self.peek(n);
        if self.skip(n) { Ok(value) } else { Err(from.torn()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_come_in_their_order() {
        let mut from = &[0b1010_0110, 0xff, 0x01][..];
        let mut low = Low::default();
        assert_eq!([3, 5, 9].map(|n| low.take(&mut from, n).unwrap()), [0b110, 0b10100, 0x1ff]);
        assert!(low.take(&mut from, 8).is_err());
        let mut from = &[0b1010_0110, 0xff, 0x01, 2, 3][..];
        let mut high = High::default();
        assert_eq!([3, 5, 9].map(|n| high.take(&mut from, n).unwrap()), [0b101, 0b110, 0x1fe]);
        assert_eq!(high.take(&mut from, 23).unwrap(), 0x1_0203);
        assert!(high.take(&mut from, 1).is_err());
    }
}
