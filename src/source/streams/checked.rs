//! A stream whose length and CRC-32 stand elsewhere, as those of a member of an archive do.

use crate::codec::damaged;
use crate::error::Result;
use crate::source::{Decoder, Point, Stream};
use crc32fast::Hasher;
use std::sync::Arc;

/// A stream that must have a length and, decoded from its front, a CRC-32.
pub struct Checked {
    inner: Arc<dyn Stream>,
    len: u64,
    crc: Option<u32>,
}

impl Checked {
    pub fn new(inner: Arc<dyn Stream>, len: u64, crc: Option<u32>) -> Self {
        Self { inner, len, crc }
    }
}

impl Stream for Checked {
    fn start(&self, from: Option<&Point>) -> Result<Box<dyn Decoder>> {
        let crc = self.crc.filter(|_| from.is_none()).map(|wanted| (Hasher::new(), wanted));
        let at = from.map_or(0, |point| point.at);
        Ok(Box::new(CheckedDecoder { inner: self.inner.start(from)?, at, len: self.len, crc }))
    }

    fn len(&self) -> Option<u64> {
        Some(self.len)
    }

    fn points(&self) -> Result<Vec<Point>> {
        self.inner.points()
    }
}

struct CheckedDecoder {
    inner: Box<dyn Decoder>,
    at: u64,
    len: u64,
    crc: Option<(Hasher, u32)>,
}

impl Decoder for CheckedDecoder {
    fn read(&mut self, into: &mut [u8]) -> Result<usize> {
        let n = self.inner.read(into)?;
        self.at = self.at.saturating_add(n as u64);
        if self.at > self.len || (n == 0 && !into.is_empty() && self.at < self.len) {
            let (at, len) = (self.at, self.len);
            let found = if at > len { "more".to_owned() } else { at.to_string() };
            return Err(damaged(format!("{found} decoded bytes where {len} are told")));
        }
        let Some((crc, wanted)) = &mut self.crc else { return Ok(n) };
        crc.update(&into[..n]);
        if self.at == self.len {
            // With the last byte, and not behind it: who knows the length does not ask on.
            let (found, wanted) = (crc.clone().finalize(), *wanted);
            if found != wanted {
                return Err(damaged(format!(
                    "the decoded bytes fail their check, {found:08x} instead of {wanted:08x}"
                )));
            }
        }
        Ok(n)
    }

    fn weight(&self) -> usize {
        self.inner.weight()
    }

    fn point(&mut self, apart: u64) -> Option<Point> {
        self.inner.point(apart)
    }
}
