//! Files with holes: the data of all pieces stand one behind the other, and a map tells where they belong.

use super::header::Piece;
use crate::error::{Error, Kind, Result};
use crate::source::ReadAt;
use serde::{Deserialize, Serialize};
use std::ops::Range;
use std::sync::Arc;

/// Where the pieces of a file are: in ascending order, none of them empty, none over another one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Map {
    pub size: u64,
    /// Offset in the file, offset in the data, length.
    pieces: Vec<(u64, u64, u64)>,
}

impl Map {
    /// The map of a file of `size` bytes of which `stored` are there.
    ///
    /// # Errors
    /// `Damaged` when pieces are over each other, or are more than there is.
    pub fn new(size: u64, stored: u64, given: &[Piece]) -> Result<Self> {
        let wrong = || Error::new(Kind::Damaged, "the map of a sparse file cannot be right");
        let (mut pieces, mut end, mut data) = (Vec::with_capacity(given.len()), 0, 0u64);
        for piece in given {
            let next = piece.at.checked_add(piece.len).filter(|next| *next <= size && piece.at >= end);
            end = next.ok_or_else(wrong)?;
            if piece.len > 0 {
                pieces.push((piece.at, data, piece.len));
            }
            data = data.checked_add(piece.len).filter(|data| *data <= stored).ok_or_else(wrong)?;
        }
        Ok(Self { size, pieces })
    }

    /// Bytes that are no holes.
    pub fn allocated(&self) -> u64 {
        self.pieces.last().map_or(0, |(_, data, len)| data + len)
    }

    /// Whether a map from a file is one that could have been made here.
    pub fn is_sound(&self, stored: u64) -> bool {
        let given: Vec<_> = self.pieces.iter().map(|(at, _, len)| Piece { at: *at, len: *len }).collect();
        Self::new(self.size, stored, &given).is_ok_and(|map| map == *self)
    }
}

/// A sparse file: `data` are those of all pieces.
pub struct Sparse {
    data: Arc<dyn ReadAt>,
    map: Arc<Map>,
}

impl Sparse {
    pub fn new(data: Arc<dyn ReadAt>, map: Arc<Map>) -> Self {
        Self { data, map }
    }

    /// The pieces that end behind an offset.
    fn from(&self, at: u64) -> &[(u64, u64, u64)] {
        let first = self.map.pieces.partition_point(|(start, _, len)| start + len <= at);
        &self.map.pieces[first..]
    }
}

impl ReadAt for Sparse {
    fn len(&self) -> Result<u64> {
        Ok(self.map.size)
    }

    fn read_at(&self, at: u64, into: &mut [u8]) -> Result<usize> {
        let want = usize::try_from(self.map.size.saturating_sub(at)).unwrap_or(usize::MAX).min(into.len());
        let into = &mut into[..want];
        into.fill(0);
        let end = at + want as u64;
        for (start, data, len) in self.from(at).iter().take_while(|(start, ..)| *start < end) {
            let (first, last) = ((*start).max(at), (start + len).min(end));
            let part = &mut into[(first - at) as usize..(last - at) as usize];
            self.data.read_exact_at(data + (first - start), part)?;
        }
        Ok(want)
    }

    fn next_data(&self, at: u64) -> Result<Option<Range<u64>>> {
        let next = self.from(at).first();
        Ok(next.filter(|_| at < self.map.size).map(|(start, _, len)| (*start).max(at)..start + len))
    }

    fn is_changed(&self) -> bool {
        self.data.is_changed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Memory;

    #[test]
    fn what_is_between_pieces_is_zeros() {
        let pieces = [Piece { at: 2, len: 3 }, Piece { at: 7, len: 0 }, Piece { at: 8, len: 1 }];
        let map = Map::new(10, 4, &pieces).unwrap();
        assert!(map.is_sound(4) && !map.is_sound(3));
        let file = Sparse::new(Arc::new(Memory::new(b"abcd".to_vec())), Arc::new(map));
        for at in 0..12 {
            for len in 0..12 {
                let mut into = vec![9; len];
                let got = file.read_at(at as u64, &mut into).unwrap();
                let all = b"\0\0abc\0\0\0d\0";
                assert_eq!(&into[..got], &all[at.min(10)..(at + len).min(10)]);
            }
        }
        assert_eq!(file.next_data(0).unwrap(), Some(2..5));
        assert_eq!(file.next_data(3).unwrap(), Some(3..5));
        assert_eq!(file.next_data(5).unwrap(), Some(8..9));
        assert_eq!((file.next_data(9).unwrap(), file.next_data(u64::MAX).unwrap()), (None, None));
    }

    #[test]
    fn maps_that_cannot_be_are_refused() {
        let map = |size, stored, pieces: &[(u64, u64)]| {
            let pieces: Vec<_> = pieces.iter().map(|(at, len)| Piece { at: *at, len: *len }).collect();
            Map::new(size, stored, &pieces).is_ok()
        };
        assert!(map(10, 10, &[(0, 5), (5, 5)]));
        assert!(!map(10, 10, &[(5, 5), (0, 5)]) && !map(10, 10, &[(0, 6), (5, 4)]));
        assert!(!map(10, 4, &[(0, 5)]) && !map(4, 10, &[(0, 5)]) && !map(10, 10, &[(5, u64::MAX)]));
    }
}
