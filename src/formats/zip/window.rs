//! A source looked at in small steps, mostly forward, and read in larger ones.

use crate::error::Result;
use crate::source::ReadAt;

/// The most bytes that are read at once: more than the longest structure, of less than 200 KiB.
pub const MOST: usize = 1 << 20;

/// The fewest, where it is not known whether what lies behind is wanted.
pub const FEW: usize = 4 << 10;

/// A part of a source in memory.
pub struct Window<'a> {
    source: &'a dyn ReadAt,
    /// No byte from here on is looked at.
    end: u64,
    at: u64,
    buf: Vec<u8>,
    first: usize,
    step: usize,
}

impl<'a> Window<'a> {
    /// `first` bytes are read at once to begin with, and after every jump.
    pub fn new(source: &'a dyn ReadAt, end: u64, first: usize) -> Self {
        Self { source, end, at: 0, buf: Vec::new(), first, step: first }
    }

    /// So many bytes at an offset; fewer at the end only.
    pub fn bytes(&mut self, at: u64, len: usize) -> Result<&[u8]> {
        if !self.holds(at, len) {
            self.load(at, len)?;
        }
        let rest = at.checked_sub(self.at).and_then(|skip| self.buf.get(usize::try_from(skip).ok()?..)).unwrap_or(&[]);
        Ok(&rest[..rest.len().min(len)])
    }

    /// All that is in memory from an offset on: at least so many bytes, fewer at the end only.
    pub fn at_hand(&mut self, at: u64, least: usize) -> Result<&[u8]> {
        self.bytes(at, least)?;
        let skip = usize::try_from(at.saturating_sub(self.at)).unwrap_or(usize::MAX);
        Ok(self.buf.get(skip..).unwrap_or(&[]))
    }

    fn holds(&self, at: u64, len: usize) -> bool {
        at >= self.at && at.saturating_add(len as u64) <= self.at + self.buf.len() as u64
    }

    fn load(&mut self, at: u64, len: usize) -> Result<()> {
        let skip = at.checked_sub(self.at).and_then(|skip| usize::try_from(skip).ok());
        match skip.filter(|skip| *skip <= self.buf.len() && !self.buf.is_empty()) {
            Some(skip) => {
                self.buf.drain(..skip);
                self.step = (self.step * 2).clamp(self.first, MOST);
            }
            None => {
                self.buf.clear();
                self.step = self.first;
            }
        }
        self.at = at;
        let rest = usize::try_from(self.end.saturating_sub(at)).unwrap_or(usize::MAX);
        let want = len.max(self.buf.len().saturating_add(self.step)).min(rest);
        while self.buf.len() < want {
            let old = self.buf.len();
            self.buf.resize(want, 0);
            let got = self.source.read_at(at + old as u64, &mut self.buf[old..])?;
            self.buf.truncate(old + got);
            if got == 0 {
                break;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Memory;

    #[test]
    fn every_part_is_what_it_is_in_the_source() {
        let all: Vec<u8> = (0..50_000u32).flat_map(|n| n.to_le_bytes()).collect();
        let source = Memory::new(all.clone());
        let mut window = Window::new(&source, 190_000, 100);
        let steps =
            [(0, 4), (4, 50), (50, 200), (50, 1), (150_000, 10), (10, 10), (20, 100_000), (189_990, 100), (190_000, 1)];
        for (at, len) in steps {
            let end = (at + len).min(190_000);
            assert_eq!(window.bytes(at as u64, len).unwrap(), &all[at..end]);
        }
        assert_eq!(window.bytes(u64::MAX, 4).unwrap(), b"");
        assert!(window.at_hand(0, 4).unwrap().starts_with(&all[..100]));
    }
}
