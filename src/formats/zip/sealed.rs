//! A decoded stream that is checked at its end, by whoever has come there from the front.

use crate::codec::damaged;
use crate::error::Result;
use crate::source::Summed;
use crate::source::{Decoder, Point, Stream};
use std::sync::Arc;

/// A check over what is encrypted.
pub type Seal = Arc<Summed>;

/// A stream with its length, its CRC and the seal of what it is made from.
pub struct Checked {
    inner: Arc<dyn Stream>,
    size: Option<u64>,
    crc: Option<u32>,
    seal: Option<Seal>,
}

impl Checked {
    pub fn new(inner: Arc<dyn Stream>, size: Option<u64>, crc: Option<u32>, seal: Option<Seal>) -> Self {
        Self { inner, size, crc, seal }
    }

    /// Whether the first bytes can be decoded, and fit the CRC if they are all.
    pub fn begins_well(&self, most: usize) -> bool {
        let Ok(mut decoder) = self.start(None) else { return false };
        let (mut piece, mut left) = (vec![0; 64 << 10], most);
        while left > 0 {
            match decoder.read(&mut piece) {
                Ok(0) => return true,
                Ok(got) => left = left.saturating_sub(got),
                Err(_) => return false,
            }
        }
        true
    }
}

impl Stream for Checked {
    fn start(&self, from: Option<&Point>) -> Result<Box<dyn Decoder>> {
        let inner = self.inner.start(from)?;
        if from.is_some_and(|point| point.at > 0) {
            return Ok(inner);
        }
        let hasher = crc32fast::Hasher::new();
        Ok(Box::new(Checking { inner, hasher, crc: self.crc, at: 0, size: self.size, seal: self.seal.clone() }))
    }

    fn len(&self) -> Option<u64> {
        self.size
    }

    fn points(&self) -> Result<Vec<Point>> {
        self.inner.points()
    }
}

struct Checking {
    inner: Box<dyn Decoder>,
    hasher: crc32fast::Hasher,
    crc: Option<u32>,
    at: u64,
    size: Option<u64>,
    seal: Option<Seal>,
}

impl Decoder for Checking {
    fn read(&mut self, into: &mut [u8]) -> Result<usize> {
        let got = self.inner.read(into)?;
        self.hasher.update(&into[..got]);
        self.at += got as u64;
        if got == 0 && !into.is_empty() {
            self.check()?;
        }
        Ok(got)
    }

    fn weight(&self) -> usize {
        self.inner.weight() + size_of::<Self>()
    }

    fn point(&mut self, apart: u64) -> Option<Point> {
        self.inner.point(apart)
    }
}

impl Checking {
    fn check(&self) -> Result<()> {
        if let Some(size) = self.size.filter(|size| *size != self.at) {
            return Err(damaged(format!("the data end at {} of {size} bytes", self.at)));
        }
        if self.crc.is_some_and(|crc| crc != self.hasher.clone().finalize()) {
            return Err(damaged("the data do not fit their checksum"));
        }
        self.seal.as_ref().map_or(Ok(()), |seal| seal.check())
    }
}
