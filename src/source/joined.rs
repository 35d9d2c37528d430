//! Several sources, one behind the other, seen as one: the volumes of an archive that was cut into pieces.

use super::ReadAt;
use crate::error::{Error, Kind, Result};
use std::ops::Range;
use std::sync::Arc;

/// Sources one behind the other.
pub struct Joined {
    parts: Vec<Arc<dyn ReadAt>>,
    /// Where each begins, and where the last one ends.
    bounds: Vec<u64>,
}

impl Joined {
    pub fn new(parts: Vec<Arc<dyn ReadAt>>) -> Result<Self> {
        let mut bounds = vec![0u64];
        for part in &parts {
            let end = bounds[bounds.len() - 1].checked_add(part.len()?);
            bounds.push(end.ok_or_else(|| Error::new(Kind::Limit, "the volumes are larger than a file can be"))?);
        }
        Ok(Self { parts, bounds })
    }

    /// Where each part begins.
    pub fn starts(&self) -> &[u64] {
        &self.bounds[..self.parts.len()]
    }

    /// The parts that a range touches, each with the range in it.
    fn pieces(&self, range: Range<u64>) -> impl Iterator<Item = (&Arc<dyn ReadAt>, Range<u64>)> {
        let first = self.bounds[1..].partition_point(|end| *end <= range.start);
        let touched = self.parts.iter().zip(self.bounds.windows(2)).skip(first);
        touched.take_while(move |(_, bounds)| bounds[0] < range.end).map(move |(part, bounds)| {
            (part, range.start.max(bounds[0]) - bounds[0]..range.end.min(bounds[1]) - bounds[0])
        })
    }
}

impl ReadAt for Joined {
    fn len(&self) -> Result<u64> {
        Ok(self.bounds[self.parts.len()])
    }

    fn read_at(&self, at: u64, into: &mut [u8]) -> Result<usize> {
        let mut done = 0;
        for (part, range) in self.pieces(at..at.saturating_add(into.len() as u64)) {
            let len = (range.end - range.start) as usize;
            let got = part.read_at(range.start, &mut into[done..done + len])?;
            done += got;
            // A volume that became shorter: what follows must not move up.
            if got < len {
                break;
            }
        }
        Ok(done)
    }

    fn is_changed(&self) -> bool {
        self.parts.iter().any(|part| part.is_changed())
    }

    fn will_read(&self, range: Range<u64>) {
        self.pieces(range).for_each(|(part, range)| part.will_read(range));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Memory;

    #[test]
    fn parts_are_read_as_one_at_every_offset() {
        let parts = ["", "a", "bcd", "", "ef", ""].map(|text| Arc::new(Memory::new(text.into())) as Arc<dyn ReadAt>);
        let joined = Joined::new(parts.into()).unwrap();
        assert_eq!(joined.len().unwrap(), 6);
        assert_eq!(joined.starts(), [0, 0, 1, 4, 4, 6]);
        for at in 0..8 {
            for len in 0..8 {
                let mut into = vec![0; len];
                let got = joined.read_at(at as u64, &mut into).unwrap();
                assert_eq!(&into[..got], &b"abcdef"[at.min(6)..(at + len).min(6)]);
            }
        }
        assert_eq!(joined.read_at(u64::MAX, &mut [0; 4]).unwrap(), 0);
    }
}
