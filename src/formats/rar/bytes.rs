//! The bytes of a header, taken one thing after the other.

use crate::error::{Error, Kind, Result};
use crate::source::ReadAt;

/// What is left of a header.
pub struct Bytes<'a>(pub &'a [u8]);

impl<'a> Bytes<'a> {
    pub fn take(&mut self, len: usize) -> Result<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len).ok_or_else(|| broken("a header ends too early"))?;
        self.0 = rest;
        Ok(taken)
    }

    pub fn byte(&mut self) -> Result<u8> {
        Ok(self.take(1)?[0])
    }

    pub fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        Ok(self.take(N)?.try_into().expect("so many were taken"))
    }

    pub fn u16(&mut self) -> Result<u16> {
        self.array().map(u16::from_le_bytes)
    }

    pub fn u32(&mut self) -> Result<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub fn u64(&mut self) -> Result<u64> {
        self.array().map(u64::from_le_bytes)
    }

    /// A number of RAR 5: seven bits a byte, the lowest first; the highest bit says that it goes on.
    pub fn number(&mut self) -> Result<u64> {
        let mut number = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(broken("a number in a header is too long"))
    }

    /// Bytes with their number in front.
    pub fn counted(&mut self) -> Result<&'a [u8]> {
        let len = self.number()?;
        self.take(usize::try_from(len).unwrap_or(usize::MAX))
    }
}

pub fn broken(what: &str) -> Error {
    Error::new(Kind::Header, format!("the archive is damaged: {what}"))
}

/// Headers of one file, which are looked at one after the other.
pub struct Look<'a> {
    source: &'a dyn ReadAt,
    len: u64,
    at: u64,
    bytes: Vec<u8>,
}

/// Bytes that are read at once: most headers fit, and a few small members with theirs.
const LOOK: usize = 4 << 10;

impl<'a> Look<'a> {
    pub fn new(source: &'a dyn ReadAt) -> Result<Self> {
        Ok(Self { source, len: source.len()?, at: 0, bytes: Vec::new() })
    }

    pub fn len(&self) -> u64 {
        self.len
    }

    /// So many bytes at an offset; fewer only at the end.
    pub fn bytes(&mut self, at: u64, len: usize) -> Result<&[u8]> {
        let is_there = |look: &Self| {
            let start = at.checked_sub(look.at).and_then(|start| usize::try_from(start).ok())?;
            (start <= look.bytes.len() && look.bytes.len() - start >= len).then_some(start)
        };
        if let Some(start) = is_there(self) {
            return Ok(&self.bytes[start..start + len]);
        }
        let rest = usize::try_from(self.len.saturating_sub(at)).unwrap_or(usize::MAX);
        self.bytes.resize(len.max(LOOK).min(rest), 0);
        self.at = at;
        self.source.read_exact_at(at, &mut self.bytes)?;
        Ok(&self.bytes[..len.min(rest)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Memory;

    #[test]
    fn numbers_have_seven_bits_a_byte_and_an_end() {
        assert_eq!(Bytes(&[0x80, 1]).number().unwrap(), 128);
        assert_eq!(Bytes(&[0xff, 0x80, 0]).number().unwrap(), 127);
        assert_eq!(Bytes(&[0xff; 9]).number().unwrap_err().kind(), Kind::Header);
        assert_eq!(Bytes(&[0xff; 20]).number().unwrap_err().kind(), Kind::Header);
        assert_eq!(Bytes(&[2, 5]).counted().unwrap_err().kind(), Kind::Header);
    }

    #[test]
    fn a_look_is_right_wherever_it_is_taken() {
        let all: Vec<u8> = (0..20_000u32).map(|n| (n % 253) as u8).collect();
        let source = Memory::new(all.clone());
        let mut look = Look::new(&source).unwrap();
        for (at, len) in [(0, 7), (7, 100), (4000, 200), (4000, 9000), (19_990, 100), (20_000, 5), (30_000, 5), (3, 1)]
        {
            let end = (at + len).min(all.len());
            assert_eq!(look.bytes(at as u64, len).unwrap(), &all[at.min(end)..end]);
        }
    }
}
