//! The bytes of a header, taken one thing after the other. No count is believed that the rest of the bytes cannot hold.

use crate::error::{Error, Kind, Result};

/// What is left of a header.
pub struct Bytes<'a>(pub &'a [u8]);

impl<'a> Bytes<'a> {
    pub fn take(&mut self, len: usize) -> Result<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len).ok_or_else(|| broken("it ends too early"))?;
        self.0 = rest;
        Ok(taken)
    }

    pub fn byte(&mut self) -> Result<u8> {
        Ok(self.take(1)?[0])
    }

    pub fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let taken = self.take(N)?;
        Ok(taken.try_into().expect("so many were taken"))
    }

    /// A number of up to nine bytes: the ones in front of its first byte tell how many follow.
    pub fn number(&mut self) -> Result<u64> {
        let first = self.byte()?;
        let more = first.leading_ones() as usize;
        let mut low = [0; 8];
        low[..more].copy_from_slice(self.take(more)?);
        let high = if more >= 7 { 0 } else { u64::from(first & ((1 << (7 - more)) - 1)) << (8 * more) };
        Ok(u64::from_le_bytes(low) | high)
    }

    /// How many things follow, each of which takes a byte at least.
    pub fn count(&mut self) -> Result<usize> {
        let count = self.number()?;
        usize::try_from(count)
            .ok()
            .filter(|count| *count <= self.0.len())
            .ok_or_else(|| broken("a number is too large"))
    }

    /// So many bits.
    pub fn bits(&mut self, count: usize) -> Result<Vec<bool>> {
        let bytes = self.take(count.div_ceil(8))?;
        Ok((0..count).map(|at| bytes[at / 8] & 0x80 >> (at % 8) != 0).collect())
    }

    /// The same, with a byte in front that may say that all are set.
    pub fn bits_or_all(&mut self, count: usize) -> Result<Vec<bool>> {
        match self.byte()? {
            0 => self.bits(count),
            _ => Ok(vec![true; count]),
        }
    }

    /// Checksums, where they are known.
    pub fn sums(&mut self, count: usize) -> Result<Vec<Option<u32>>> {
        let known = self.bits_or_all(count)?;
        known.into_iter().map(|known| known.then(|| self.array().map(u32::from_le_bytes)).transpose()).collect()
    }
}

/// The error of a header that cannot be right.
pub fn broken(what: &str) -> Error {
    Error::new(Kind::Header, format!("the list of its entries is damaged: {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_as_long_as_their_first_byte_says() {
        let number = |bytes: &[u8]| Bytes(bytes).number().ok();
        assert_eq!(number(&[0x7f]), Some(0x7f));
        assert_eq!(number(&[0x81, 0x02]), Some(0x102));
        assert_eq!(number(&[0xc1, 0x02, 0x03]), Some(0x1_0302));
        assert_eq!(number(&[0xfe, 1, 2, 3, 4, 5, 6, 7]), Some(0x07_0605_0403_0201));
        assert_eq!(number(&[0xff, 1, 2, 3, 4, 5, 6, 7, 8]), Some(0x0807_0605_0403_0201));
        assert_eq!((number(&[]), number(&[0xff, 1])), (None, None));
        assert!(Bytes(&[5, 0, 0]).count().is_err());
        assert_eq!(Bytes(&[0b1010_0000]).bits(3).unwrap(), [true, false, true]);
    }
}
