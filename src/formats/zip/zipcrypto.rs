//! The encryption that PKZIP had from the beginning: a key stream of three numbers, which every decoded byte changes. It
//! is weak (a few known bytes break it), and it is everywhere.
//!
//! To read at an offset, all before it must be decoded; the three numbers are all that is needed to go on, so every place
//! that was passed is as good a place to begin.

use crate::codec::damaged;
use crate::error::Result;
use crate::source::{Decoder, Point, ReadAt, Stream};
use std::sync::Arc;

/// Bytes in front of the data: noise, of which the last byte tells whether the password can be right.
pub const HEADER: usize = 12;

const TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut at = 0;
    while at < 256 {
        let (mut crc, mut bit) = (at as u32, 0);
        while bit < 8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 };
            bit += 1;
        }
        table[at] = crc;
        at += 1;
    }
    table
};

fn crc(old: u32, byte: u8) -> u32 {
    TABLE[usize::from(old as u8 ^ byte)] ^ old >> 8
}

/// The state of the cipher.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Cipher([u32; 3]);

impl Cipher {
    pub fn new(password: &[u8]) -> Self {
        let mut cipher = Self([0x1234_5678, 0x2345_6789, 0x3456_7890]);
        password.iter().for_each(|byte| cipher.pass(*byte));
        cipher
    }

    fn pass(&mut self, plain: u8) {
        let [a, b, c] = &mut self.0;
        *a = crc(*a, plain);
        *b = b.wrapping_add(*a & 0xff).wrapping_mul(134_775_813).wrapping_add(1);
        *c = crc(*c, (*b >> 24) as u8);
    }

    pub fn decrypt(&mut self, bytes: &mut [u8]) {
        for byte in bytes {
            let key = (self.0[2] | 2) as u16;
            *byte ^= (key.wrapping_mul(key ^ 1) >> 8) as u8;
            self.pass(*byte);
        }
    }

    /// The state behind the header, if its last byte is what it must be.
    pub fn behind(mut self, mut header: [u8; HEADER], check: u8) -> Option<Self> {
        self.decrypt(&mut header);
        (header[HEADER - 1] == check).then_some(self)
    }

    fn to_bytes(self) -> [u8; 12] {
        let mut bytes = [0; 12];
        bytes.chunks_exact_mut(4).zip(self.0).for_each(|(four, n)| four.copy_from_slice(&n.to_le_bytes()));
        bytes
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let [a, b, c] = bytes.as_chunks::<4>().0 else { return None };
        Some(Self([a, b, c].map(|four| u32::from_le_bytes(*four))))
    }
}

/// The data of an entry, decrypted.
pub struct ZipCrypto {
    source: Arc<dyn ReadAt>,
    len: u64,
    cipher: Cipher,
}

impl ZipCrypto {
    /// `source` begins behind the header, and `cipher` is its state there.
    pub fn new(source: Arc<dyn ReadAt>, cipher: Cipher) -> Result<Self> {
        Ok(Self { len: source.len()?, source, cipher })
    }
}

impl Stream for ZipCrypto {
    fn start(&self, from: Option<&Point>) -> Result<Box<dyn Decoder>> {
        let (at, cipher) = match from {
            Some(point) => (point.at, Cipher::from_bytes(&point.state).ok_or_else(|| damaged("this is no state"))?),
            None => (0, self.cipher),
        };
        Ok(Box::new(Decrypting { source: self.source.clone(), at, cipher, point_at: at }))
    }

    fn len(&self) -> Option<u64> {
        Some(self.len)
    }
}

struct Decrypting {
    source: Arc<dyn ReadAt>,
    at: u64,
    cipher: Cipher,
    point_at: u64,
}

impl Decoder for Decrypting {
    fn read(&mut self, into: &mut [u8]) -> Result<usize> {
        let got = self.source.read_at(self.at, into)?;
        self.cipher.decrypt(&mut into[..got]);
        self.at += got as u64;
        Ok(got)
    }

    fn weight(&self) -> usize {
        size_of::<Self>()
    }

    fn point(&mut self, apart: u64) -> Option<Point> {
        if self.at - self.point_at < apart {
            return None;
        }
        self.point_at = self.at;
        Some(Point { at: self.at, state: Arc::new(self.cipher.to_bytes()) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::Cache;
    use crate::source::{Forward, Memory};

    fn encrypt(mut cipher: Cipher, plain: &[u8]) -> Vec<u8> {
        let key = |cipher: &Cipher| {
            let key = (cipher.0[2] | 2) as u16;
            (key.wrapping_mul(key ^ 1) >> 8) as u8
        };
        let encrypt = |byte: &u8| {
            let sealed = byte ^ key(&cipher);
            cipher.pass(*byte);
            sealed
        };
        plain.iter().map(encrypt).collect()
    }

    #[test]
    fn data_are_read_at_any_offset() {
        let plain: Vec<u8> = (0..3_000_000u32).map(|n| (n.wrapping_mul(n) >> 7) as u8).collect();
        let cipher = Cipher::new(b"secret");
        let source = Arc::new(Memory::new(encrypt(cipher, &plain)));
        let stream = Arc::new(ZipCrypto::new(source, cipher).unwrap());
        // A cache that keeps next to nothing: every jump begins at a point.
        let forward = Forward::new(stream, Cache::new(1 << 18)).unwrap();
        let mut piece = vec![0; 1000];
        for at in [0, 2_999_000, 1_500_000, 10, 2_200_001, 1_048_576, 1_048_570] {
            forward.read_exact_at(at, &mut piece).unwrap();
            assert_eq!(piece, plain[at as usize..][..1000]);
        }
        assert!(forward.points().len() >= 2);
    }

    #[test]
    fn a_wrong_password_shows_in_the_header() {
        let mut header = [7; HEADER];
        header.copy_from_slice(&encrypt(Cipher::new(b"right"), b"noise noise\x42"));
        assert!(Cipher::new(b"right").behind(header, 0x42).is_some());
        assert!(Cipher::new(b"right").behind(header, 0x43).is_none());
        let passed = (0..2560u32).filter(|n| Cipher::new(&n.to_le_bytes()).behind(header, 0x42).is_some()).count();
        assert!((1..40).contains(&passed), "one of 256, about: {passed}");
    }
}
