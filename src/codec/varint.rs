//! LEB128 numbers and zigzag, with a reader that never goes past its end.

use super::damaged;
use crate::error::Result;

/// Appends a number in 1 to 10 bytes.
pub fn put(out: &mut Vec<u8>, mut n: u64) {
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

/// Maps small numbers of either sign to small numbers: 0, -1, 1, -2, … to 0, 1, 2, 3, …
pub fn zigzag(n: i64) -> u64 {
    ((n << 1) ^ (n >> 63)) as u64
}

pub fn unzigzag(n: u64) -> i64 {
    (n >> 1) as i64 ^ -((n & 1) as i64)
}

/// Reads numbers and bytes off the front of a slice.
#[derive(Clone, Copy, Debug)]
pub struct Cursor<'a>(pub &'a [u8]);

impl<'a> Cursor<'a> {
    #[inline]
    pub fn number(&mut self) -> Result<u64> {
        // Most numbers are one byte.
        match self.0 {
            [byte @ ..0x80, rest @ ..] => {
                self.0 = rest;
                Ok(u64::from(*byte))
            }
            _ => self.long_number(),
        }
    }

    fn long_number(&mut self) -> Result<u64> {
        let mut n = 0u64;
        for (i, byte) in self.0.iter().enumerate().take(10) {
            if i == 9 && *byte > 1 {
                return Err(damaged("a number is larger than 64 bits"));
            }
            n |= u64::from(byte & 0x7f) << (7 * i);
            if byte & 0x80 == 0 {
                self.0 = &self.0[i + 1..];
                return Ok(n);
            }
        }
        Err(damaged("a number is cut off"))
    }

    /// A number that must not be over a limit.
    pub fn number_to(&mut self, limit: u64, what: &str) -> Result<u64> {
        match self.number()? {
            n if n <= limit => Ok(n),
            n => Err(damaged(format!("{what} is {n}, over the limit of {limit}"))),
        }
    }

    pub fn bytes(&mut self, len: u64) -> Result<&'a [u8]> {
        let len = usize::try_from(len).ok().filter(|len| *len <= self.0.len());
        let (bytes, rest) = self.0.split_at(len.ok_or_else(|| damaged("bytes are cut off"))?);
        self.0 = rest;
        Ok(bytes)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_all_sizes_come_back() {
        for shift in 0..64 {
            for n in [1u64 << shift, (1u64 << shift) - 1, !(1u64 << shift)] {
                let mut out = Vec::new();
                put(&mut out, n);
                let mut cursor = Cursor(&out);
                assert_eq!(cursor.number().unwrap(), n);
                assert!(cursor.is_empty());
                assert_eq!(zigzag(unzigzag(n)), n);
            }
        }
    }

    #[test]
    fn a_number_that_is_cut_off_or_too_long_is_an_error() {
        assert!(Cursor(&[]).number().is_err());
        assert!(Cursor(&[0x80, 0x80]).number().is_err());
        assert!(Cursor(&[0xff; 11]).number().is_err());
        assert!(Cursor(&[0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x02]).number().is_err());
        assert!(Cursor(&[1, 2]).bytes(3).is_err() && Cursor(&[1, 2]).bytes(u64::MAX).is_err());
    }
}
