//! A stretch of a file, chunk by chunk.

use crate::codec::cdc::{self, Chunker};
use crate::error::Result;
use crate::source::ReadAt;
use std::ops::Range;

/// Bytes read at once.
const WINDOW: usize = 2 << 20;

/// Cuts a stretch of a file into chunks. The cuts depend on the contents alone, not on how much a read happens to give.
pub struct Chunks<'a> {
    chunker: &'a Chunker,
    file: &'a dyn ReadAt,
    buffer: &'a mut Vec<u8>,
    /// Where the next byte is read.
    at: u64,
    end: u64,
    /// What has been read and not been given.
    ready: Range<usize>,
}

impl<'a> Chunks<'a> {
    pub fn new(chunker: &'a Chunker, file: &'a dyn ReadAt, range: Range<u64>, buffer: &'a mut Vec<u8>) -> Self {
        Self { chunker, file, buffer, at: range.start, end: range.end, ready: 0..0 }
    }

    /// The next chunk, or `None` at the end of the stretch or of the file.
    pub fn next(&mut self) -> Result<Option<&[u8]>> {
        while self.at < self.end && self.ready.len() < cdc::MAX {
            self.refill()?;
        }
        if self.ready.is_empty() {
            return Ok(None);
        }
        let start = self.ready.start;
        let len = self.chunker.first(&self.buffer[self.ready.clone()], self.at >= self.end);
        self.ready.start += len;
        Ok(Some(&self.buffer[start..start + len]))
    }

    fn refill(&mut self) -> Result<()> {
        self.buffer.copy_within(self.ready.clone(), 0);
        self.ready = 0..self.ready.len();
        let want = (self.end - self.at).min((WINDOW - self.ready.end) as u64) as usize;
        let until = self.ready.end + want;
        if self.buffer.len() < until {
            self.buffer.resize(until, 0);
        }
        let got = self.file.read_at(self.at, &mut self.buffer[self.ready.end..until])?;
        if got == 0 {
            // The file became shorter.
            self.end = self.at;
        }
        self.ready.end += got;
        self.at += got as u64;
        Ok(())
    }

    /// Where the data ended, once `next` has given `None`.
    pub fn end(&self) -> u64 {
        self.end
    }
}
