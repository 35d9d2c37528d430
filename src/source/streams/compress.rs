//! Files of compress, with the ending `.Z`. There is no check, and no end but that of the file. Where the table of codes is
//! emptied, which happens when it does not fit any more, decoding can begin.

use super::input::Input;
use super::lzma::{offset_of, point_of};
use crate::codec::lzw::{Lzw, MAGIC};
use crate::error::Result;
use crate::source::{Decoder, Point, ReadAt, Stream};
use std::sync::Arc;

/// A file of compress.
pub struct Compress(Arc<dyn ReadAt>);

impl Compress {
    pub fn new(source: Arc<dyn ReadAt>) -> Self {
        Self(source)
    }
}

impl Stream for Compress {
    fn start(&self, from: Option<&Point>) -> Result<Box<dyn Decoder>> {
        let mut input = Input::new(self.0.clone(), 0)?;
        let [m0, m1, flags] = input.array()?;
        if [m0, m1] != MAGIC {
            return Err(input.damaged("this is no data of compress"));
        }
        let codec = Lzw::new(flags)?;
        let mut at = 0;
        if let Some(point) = from {
            at = point.at;
            input.seek(offset_of(point)?);
        }
        Ok(Box::new(CompressDecoder { input, codec, at, given: at, mark: None }))
    }

    fn len(&self) -> Option<u64> {
        None
    }
}

struct CompressDecoder {
    input: Input,
    codec: Lzw,
    at: u64,
    given: u64,
    /// Position and offset of the last place where the table was emptied.
    mark: Option<(u64, u64)>,
}

impl Decoder for CompressDecoder {
    fn read(&mut self, into: &mut [u8]) -> Result<usize> {
        while self.codec.ready().is_empty() && !into.is_empty() {
            if self.codec.is_cleared() {
                self.mark = Some((self.at, self.input.offset() - u64::from(self.codec.held() / 8)));
            }
            if !self.codec.run(&mut self.input).map_err(|e| self.input.blame(e))? {
                return Ok(0);
            }
        }
        let ready = self.codec.ready();
        let n = ready.len().min(into.len());
        into[..n].copy_from_slice(&ready[..n]);
        self.codec.fetched(n);
        self.at = self.at.saturating_add(n as u64);
        Ok(n)
    }

    fn weight(&self) -> usize {
        self.input.weight() + self.codec.weight()
    }

    fn point(&mut self, apart: u64) -> Option<Point> {
        let (at, offset) = self.mark.filter(|(at, _)| *at >= self.given.saturating_add(apart.max(1)))?;
        self.given = at;
        Some(point_of(at, offset))
    }
}
