//! A source, read forward in blocks.

use crate::codec::{Supply, damaged};
use crate::error::{Error, Kind, Result};
use crate::source::ReadAt;
use std::io::{self, BufRead, Read};
use std::sync::Arc;

/// Bytes that are read at once.
const BLOCK: usize = 64 << 10;

/// The bytes of a source from some offset on.
pub(super) struct Input {
    source: Arc<dyn ReadAt>,
    /// What was read and is not used up: `buf[start..end]`, the last of it from just before `next`.
    buf: Vec<u8>,
    start: usize,
    end: usize,
    next: u64,
    /// Where the source, or the part of it that counts, ends.
    limit: u64,
}

impl Input {
    pub fn new(source: Arc<dyn ReadAt>, at: u64) -> Result<Self> {
        let limit = source.len()?;
        Ok(Self { source, buf: Vec::new(), start: 0, end: 0, next: at, limit })
    }

    /// Goes on elsewhere.
    pub fn seek(&mut self, at: u64) {
        (self.start, self.end, self.next) = (0, 0, at);
    }

    /// Takes the source to end here, at most where it ends.
    pub fn limit(&mut self, end: u64) {
        self.limit = self.limit.min(end);
    }

    /// The offset in the source of the next byte.
    pub fn offset(&self) -> u64 {
        self.next - (self.end - self.start) as u64
    }

    /// What is at hand.
    pub fn at_hand(&self) -> &[u8] {
        &self.buf[self.start..self.end]
    }

    pub fn used(&mut self, n: usize) {
        self.start = (self.start + n).min(self.end);
    }

    /// Reads on, behind what is at hand; `false` at the end of the source.
    pub fn more(&mut self) -> Result<bool> {
        if self.next >= self.limit {
            return Ok(false);
        }
        self.buf.copy_within(self.start..self.end, 0);
        (self.start, self.end) = (0, self.end - self.start);
        let rest = self.limit - self.next;
        let want = self.end.saturating_add(usize::try_from(rest).unwrap_or(BLOCK)).min(BLOCK);
        if self.buf.len() < want {
            self.buf.resize(want, 0);
        }
        let room = self.buf.len() - self.end;
        let room = room.min(usize::try_from(rest).unwrap_or(room));
        debug_assert!(room > 0, "who asks for more must have used something");
        let got = self.source.read_at(self.next, &mut self.buf[self.end..self.end + room])?;
        self.end += got;
        self.next += got as u64;
        Ok(got > 0)
    }

    /// At least one byte, unless the source has ended.
    pub fn some(&mut self) -> Result<&[u8]> {
        if self.start == self.end {
            self.more()?;
        }
        Ok(self.at_hand())
    }

    /// At least `n` bytes, of 4096 at most, unless the source has ended.
    pub fn ahead(&mut self, n: usize) -> Result<&[u8]> {
        while self.end - self.start < n && self.more()? {}
        Ok(self.at_hand())
    }

    /// Takes `N` bytes.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let Some(bytes) = self.ahead(N)?.first_chunk().copied() else { return Err(self.torn()) };
        self.used(N);
        Ok(bytes)
    }

    /// Takes one byte.
    pub fn byte(&mut self) -> Result<u8> {
        Ok(self.array::<1>()?[0])
    }

    /// Leaves bytes out, which need not be read.
    pub fn skip(&mut self, n: u64) -> Result<()> {
        let at_hand = (self.end - self.start) as u64;
        if n <= at_hand {
            self.start += n as usize;
        } else if n - at_hand > self.limit.saturating_sub(self.next) {
            return Err(self.torn());
        } else {
            self.seek(self.next + (n - at_hand));
        }
        Ok(())
    }

    /// The error of a source that ends where something must follow.
    pub fn torn(&self) -> Error {
        let at = self.next.min(self.limit);
        self.source.blame(damaged(format!("the compressed data end too early, at byte {at}")))
    }

    /// The error of what is at hand.
    pub fn damaged(&self, what: &str) -> Error {
        self.blame(damaged(what))
    }

    /// Adds to an error of a codec where it came up.
    pub fn blame(&self, e: Error) -> Error {
        let at = self.offset();
        let e = if e.kind() == Kind::Damaged { e.within(format_args!("compressed data at byte {at}")) } else { e };
        self.source.blame(e)
    }

    pub fn weight(&self) -> usize {
        size_of::<Self>() + self.buf.capacity()
    }
}

impl Supply for Input {
    fn some(&mut self) -> Result<&[u8]> {
        self.some()
    }

    fn used(&mut self, n: usize) {
        self.used(n);
    }

    fn torn(&self) -> Error {
        self.torn()
    }
}

/// For decoders that read by themselves. The error of the source is inside of what they get; [`unwrap`] takes it out.
impl Read for Input {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let bytes = self.fill_buf()?;
        let n = bytes.len().min(into.len());
        into[..n].copy_from_slice(&bytes[..n]);
        self.consume(n);
        Ok(n)
    }
}

impl BufRead for Input {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.some().map_err(io::Error::other)
    }

    fn consume(&mut self, n: usize) {
        self.used(n);
    }
}

/// The error of the source below an error of input and output, or that one.
pub(super) fn unwrap(e: io::Error) -> Result<Error, io::Error> {
    e.downcast::<Error>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Memory;

    fn input(n: usize) -> Input {
        let bytes: Vec<u8> = (0..n).map(|i| (i % 251) as u8).collect();
        Input::new(Arc::new(Memory::new(bytes)), 0).unwrap()
    }

    #[test]
    fn offsets_follow_what_is_used() {
        let mut input = input(200_000);
        assert_eq!(input.some().unwrap().len(), BLOCK);
        input.used(BLOCK - 3);
        assert_eq!(input.ahead(10).unwrap().len(), BLOCK);
        assert_eq!(input.offset(), BLOCK as u64 - 3);
        input.skip(100_000).unwrap();
        let at = BLOCK as u64 - 3 + 100_000;
        assert_eq!((input.offset(), input.byte().unwrap()), (at, (at % 251) as u8));
        assert!(input.skip(200_000).is_err());
    }

    #[test]
    fn an_end_is_an_end() {
        let mut input = input(10);
        input.used(0);
        assert_eq!(input.array::<8>().unwrap(), [0, 1, 2, 3, 4, 5, 6, 7]);
        let torn = input.array::<4>().unwrap_err();
        assert_eq!(torn.kind(), Kind::Damaged);
        assert!(torn.to_string().contains("at byte 10"), "{torn}");
        assert_eq!(input.array::<2>().unwrap(), [8, 9]);
        assert!(input.some().unwrap().is_empty());
        assert!(input.weight() < 1000);
    }
}
