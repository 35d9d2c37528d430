//! Bytes with a sum over all of them, which is checked by the way when they are read from the front to the end.

use super::ReadAt;
use crate::error::{Error, Kind, Result};
use crate::pool::lock;
use std::sync::{Arc, Mutex};

/// A sum over bytes that come one after the other.
pub trait Sum: Send {
    fn update(&mut self, bytes: &[u8]);

    /// Whether it is what it must be, when all bytes have come.
    fn is_right(&self) -> bool;
}

/// When several read ahead of each other, so many bytes are read once more for the sum.
const CATCH_UP: u64 = 4 << 20;

/// Bytes that are read at once for that.
const PIECE: usize = 64 << 10;

/// A source with its sum. A source that is too short is told, and so is one whose sum is wrong; bytes that were read before
/// the end was reached are given as they are.
pub struct Summed {
    source: Arc<dyn ReadAt>,
    len: u64,
    state: Mutex<State>,
}

struct State {
    /// All before it is in the sum.
    at: u64,
    sum: Box<dyn Sum>,
    is_right: Option<bool>,
}

impl Summed {
    /// The first `len` bytes of a source.
    pub fn new(source: Arc<dyn ReadAt>, len: u64, sum: Box<dyn Sum>) -> Self {
        Self { source, len, state: Mutex::new(State { at: 0, sum, is_right: None }) }
    }

    /// Takes what is missing into the sum, and checks it.
    pub fn check(&self) -> Result<()> {
        let mut piece = Vec::new();
        loop {
            let at = {
                let mut state = lock(&self.state);
                if state.at == self.len {
                    return state.verdict();
                }
                state.at
            };
            piece.resize(PIECE.min((self.len - at) as usize), 0);
            self.source.read_exact_at(at, &mut piece)?;
            lock(&self.state).pass(at, &piece);
        }
    }
}

impl State {
    fn pass(&mut self, at: u64, bytes: &[u8]) {
        let end = at + bytes.len() as u64;
        if at <= self.at && self.at < end {
            self.sum.update(&bytes[(self.at - at) as usize..]);
            self.at = end;
        }
    }

    fn verdict(&mut self) -> Result<()> {
        let Self { sum, is_right, .. } = self;
        match *is_right.get_or_insert_with(|| sum.is_right()) {
            true => Ok(()),
            false => Err(Error::new(Kind::Damaged, "the data do not fit their checksum")),
        }
    }
}

impl ReadAt for Summed {
    fn len(&self) -> Result<u64> {
        Ok(self.len)
    }

    fn read_at(&self, at: u64, into: &mut [u8]) -> Result<usize> {
        let Some(rest) = self.len.checked_sub(at).filter(|rest| *rest > 0) else { return Ok(0) };
        let want = usize::try_from(rest).unwrap_or(usize::MAX).min(into.len());
        let into = &mut into[..want];
        self.source.read_exact_at(at, into)?;
        let behind = {
            let mut state = lock(&self.state);
            state.pass(at, into);
            self.len - state.at
        };
        if want as u64 == rest && behind <= CATCH_UP {
            self.check()?;
        }
        Ok(want)
    }

    fn will_read(&self, range: std::ops::Range<u64>) {
        self.source.will_read(range);
    }

    fn is_changed(&self) -> bool {
        self.source.is_changed()
    }
}

/// CRC-32.
pub struct Crc {
    hasher: crc32fast::Hasher,
    wanted: u32,
}

impl Crc {
    pub fn boxed(wanted: u32) -> Box<dyn Sum> {
        Box::new(Self { hasher: crc32fast::Hasher::new(), wanted })
    }
}

impl Sum for Crc {
    fn update(&mut self, bytes: &[u8]) {
        self.hasher.update(bytes);
    }

    fn is_right(&self) -> bool {
        self.hasher.clone().finalize() == self.wanted
    }
}

/// No sum.
pub struct NoSum;

impl Sum for NoSum {
    fn update(&mut self, _bytes: &[u8]) {}

    fn is_right(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Memory;

    fn summed(bytes: &[u8], len: usize, crc: u32) -> Summed {
        Summed::new(Arc::new(Memory::new(bytes.to_vec())), len as u64, Crc::boxed(crc))
    }

    #[test]
    fn the_last_read_tells_whether_the_whole_is_right() {
        let all = vec![7; 10_000];
        let right = crc32fast::hash(&all);
        let mut into = vec![0; 4000];
        for (crc, is_right) in [(right, true), (right ^ 1, false)] {
            let summed = summed(&all, all.len(), crc);
            // Read ahead by another one in between.
            for at in [0, 8000, 4000, 2000] {
                assert_eq!(summed.read_at(at, &mut into).is_ok(), at != 8000 || is_right);
            }
            assert_eq!(summed.read_at(9999, &mut into).is_ok(), is_right);
            assert_eq!(summed.read_at(10_000, &mut into).unwrap(), 0);
            assert_eq!(summed.check().is_ok(), is_right);
        }
    }

    #[test]
    fn a_source_that_is_too_short_is_an_error_behind_what_is_there() {
        let summed = summed(&[1; 100], 200, 0);
        let mut into = [0; 60];
        assert_eq!(summed.read_at(0, &mut into).unwrap(), 60);
        assert_eq!(summed.read_at(60, &mut into).unwrap_err().kind(), Kind::Damaged);
        assert_eq!(summed.read_at(180, &mut into).unwrap_err().kind(), Kind::Damaged);
    }
}
