//! The bits of a member, highest of a byte first, from a buffer that is filled as it is used.

use super::super::damaged;
use crate::error::{Error, Result};
use std::io::{ErrorKind, Read};

/// Packed bytes that are held.
pub(super) const BUFFER: usize = 64 << 10;

/// Bytes that one look takes at once.
const WORD: usize = 8;

/// An input and up to 64 bits of it that were taken.
pub(super) struct Bits<'a, R> {
    input: &'a mut R,
    buf: Vec<u8>,
    at: usize,
    end: usize,
    /// From the highest down. Those behind `count` hold what comes next, or nothing.
    bits: u64,
    count: u32,
    /// Zeros put behind the last byte: they may be looked at, never used.
    zeros: usize,
}

impl<'a, R: Read> Bits<'a, R> {
    pub fn new(input: &'a mut R, mut buf: Vec<u8>) -> Self {
        buf.resize(BUFFER, 0);
        Self { input, buf, at: 0, end: 0, bits: 0, count: 0, zeros: 0 }
    }

    pub fn into_buffer(self) -> Vec<u8> {
        self.buf
    }

    /// Makes sure of 56 bits.
    ///
    /// # Errors
    /// When more bits were used than there are.
    #[inline(always)]
    pub fn fill(&mut self) -> Result<()> {
        if self.end - self.at < WORD {
            self.more()?;
        }
        if let Some(word) = self.buf[self.at..].first_chunk() {
            self.bits |= u64::from_be_bytes(*word) >> (self.count & 63);
            self.at += ((63 - self.count) >> 3) as usize;
            self.count |= 56;
        }
        Ok(())
    }

    #[cold]
    fn more(&mut self) -> Result<()> {
        self.check()?;
        self.buf.copy_within(self.at..self.end, 0);
        (self.at, self.end) = (0, self.end - self.at);
        while self.end < WORD && self.zeros == 0 {
            match self.input.read(&mut self.buf[self.end..]) {
                Ok(0) => break,
                Ok(n) => self.end += n,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(Error::io(e, "the packed bytes cannot be read")),
            }
        }
        if self.end < WORD {
            self.buf[self.end..WORD].fill(0);
            self.zeros += WORD - self.end;
            self.end = WORD;
        }
        Ok(())
    }

    /// Whether all bits that were used are of the input.
    pub fn check(&self) -> Result<()> {
        let left = (self.end - self.at) * 8 + self.count as usize;
        if left < self.zeros * 8 { Err(damaged("the packed bytes end too early")) } else { Ok(()) }
    }

    /// Whether there is nothing left.
    pub fn is_empty(&mut self) -> Result<bool> {
        self.fill()?;
        Ok((self.end - self.at) * 8 + self.count as usize <= self.zeros * 8)
    }

    /// The next 15 bits of those that [`fill`](Self::fill) took.
    #[inline(always)]
    pub fn peek(&self) -> usize {
        (self.bits >> 49) as usize
    }

    /// Drops bits of those that [`fill`](Self::fill) took.
    #[inline(always)]
    pub fn skip(&mut self, n: u32) {
        self.bits <<= n;
        self.count = self.count.wrapping_sub(n);
    }

    /// The next `n` bits, 32 at most, of those that [`fill`](Self::fill) took.
    #[inline(always)]
    pub fn taken(&mut self, n: u32) -> u32 {
        // In two steps: a shift by 64 is none.
        let value = (self.bits >> 1 >> (63 - n)) as u32;
        self.skip(n);
        value
    }

    /// The next `n` bits, 32 at most.
    pub fn take(&mut self, n: u32) -> Result<u32> {
        self.fill()?;
        Ok(self.taken(n))
    }

    pub fn flag(&mut self) -> Result<bool> {
        Ok(self.take(1)? == 1)
    }

    #[inline]
    pub fn byte(&mut self) -> Result<u8> {
        Ok(self.take(8)? as u8)
    }

    /// Drops the rest of a byte.
    pub fn align(&mut self) {
        self.skip(self.count % 8);
    }
}
