//! Brotli. It has no magic, no check, and no place to begin at but its front.

use super::input::Input;
use crate::codec::brotli::Brotli as Codec;
use crate::codec::damaged;
use crate::error::Result;
use crate::source::{Decoder, Point, ReadAt, Stream};
use std::sync::Arc;

/// A file of brotli.
pub struct Brotli {
    source: Arc<dyn ReadAt>,
    len: Option<u64>,
}

impl Brotli {
    /// `len` is the decoded length, where something says it.
    pub fn new(source: Arc<dyn ReadAt>, len: Option<u64>) -> Self {
        Self { source, len }
    }
}

impl Stream for Brotli {
    fn start(&self, from: Option<&Point>) -> Result<Box<dyn Decoder>> {
        if from.is_some() {
            return Err(damaged("brotli has no points"));
        }
        let mut input = Input::new(self.source.clone(), 0)?;
        let codec = Codec::new(input.ahead(2)?)?;
        Ok(Box::new(BrotliDecoder { input, codec, ended: false }))
    }

    fn len(&self) -> Option<u64> {
        self.len
    }
}

struct BrotliDecoder {
    input: Input,
    codec: Codec,
    ended: bool,
}

impl Decoder for BrotliDecoder {
    fn read(&mut self, into: &mut [u8]) -> Result<usize> {
        while !self.ended && !into.is_empty() {
            let bytes = self.input.some()?;
            let at_end = bytes.is_empty();
            let done = self.codec.run(bytes, into).map_err(|e| self.input.blame(e))?;
            self.input.used(done.taken);
            self.ended = done.ended;
            if done.made > 0 {
                return Ok(done.made);
            }
            if at_end && !self.ended {
                return Err(self.input.torn());
            }
        }
        if !into.is_empty() && !self.input.some()?.is_empty() {
            return Err(self.input.damaged("something stands behind the brotli data"));
        }
        Ok(0)
    }

    fn weight(&self) -> usize {
        self.input.weight() + self.codec.weight()
    }
}
