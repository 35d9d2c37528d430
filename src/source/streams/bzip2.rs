//! bzip2: streams one behind the other. Each block is a point: it needs nothing of what stands before it, only it begins
//! somewhere inside of a byte.
//!
//! ```text
//!   state   u64 first bit ‖ u8 level ‖ u32 check of the checks so far          of a block
//!           u64 first bit                                                      of a stream
//! ```

use super::input::Input;
use crate::codec::bzip2::{Bzip2 as Codec, Part};
use crate::codec::damaged;
use crate::error::Result;
use crate::source::{Decoder, Point, ReadAt, Stream};
use std::sync::Arc;

/// A file of bzip2.
pub struct Bzip2 {
    source: Arc<dyn ReadAt>,
    len: Option<u64>,
}

impl Bzip2 {
    /// `len` is the decoded length, where something says it.
    pub fn new(source: Arc<dyn ReadAt>, len: Option<u64>) -> Self {
        Self { source, len }
    }
}

impl Stream for Bzip2 {
    fn start(&self, from: Option<&Point>) -> Result<Box<dyn Decoder>> {
        let mut decoder = Bzip2Decoder {
            input: Input::new(self.source.clone(), 0)?,
            codec: Codec::new(),
            state: State::First,
            level: 0,
            at: 0,
            given: 0,
            mark: None,
        };
        if let Some(point) = from {
            decoder.begin_at(point)?;
        }
        Ok(Box::new(decoder))
    }

    fn len(&self) -> Option<u64> {
        self.len
    }
}

enum State {
    /// Before the stream that must be there.
    First,
    Between,
    /// Behind the header of a stream.
    Stream,
    Block,
    End,
}

struct Bzip2Decoder {
    input: Input,
    codec: Codec,
    state: State,
    level: u8,
    at: u64,
    given: u64,
    mark: Option<Point>,
}

impl Bzip2Decoder {
    fn begin_at(&mut self, point: &Point) -> Result<()> {
        let bad = || damaged("a point in a compressed stream cannot be read");
        let (bit, rest) = point.state.split_first_chunk().ok_or_else(bad)?;
        let bit = u64::from_le_bytes(*bit);
        self.input.seek(bit / 8);
        (self.at, self.given) = (point.at, point.at);
        match *rest {
            [] if bit % 8 == 0 => {}
            [level @ 1..=9, a, b, c, d] => {
                self.level = level;
                self.codec.begin(level);
                self.codec.sum = u32::from_le_bytes([a, b, c, d]);
                if bit % 8 > 0 {
                    self.codec.bits.take(&mut self.input, (bit % 8) as u32)?;
                }
                self.state = State::Stream;
            }
            _ => return Err(bad()),
        }
        Ok(())
    }

    /// The first bit that was not used, in the source.
    fn bit(&self) -> u64 {
        self.input.offset().saturating_mul(8).saturating_sub(self.codec.bits.held().into())
    }

    /// Looks whether a stream begins here, at a whole byte.
    fn begin(&mut self) -> Result<()> {
        // What was taken ahead goes back.
        self.input.seek(self.bit() / 8);
        self.codec.bits = Default::default();
        let offset = self.input.offset();
        let head = self.input.ahead(4)?;
        match *head {
            [b'B', b'Z', b'h', level @ b'1'..=b'9', ..] => {
                self.mark = Some(Point { at: self.at, state: (offset * 8).to_le_bytes().into() });
                self.input.used(4);
                self.level = level - b'0';
                self.codec.begin(self.level);
                self.state = State::Stream;
            }
            _ if matches!(self.state, State::First) => {
                let torn = b"BZh".starts_with(&head[..head.len().min(3)]);
                return Err(if torn { self.input.torn() } else { self.input.damaged("this is no bzip2 data") });
            }
            [] => self.state = State::End,
            _ => {
                log::warn!("what stands behind the bzip2 data, from byte {offset} on, is ignored");
                self.state = State::End;
            }
        }
        Ok(())
    }

    fn next(&mut self) -> Result<()> {
        let (bit, sum) = (self.bit(), self.codec.sum);
        match self.codec.next(&mut self.input).map_err(|e| self.input.blame(e))? {
            Part::End => self.state = State::Between,
            Part::Block => {
                self.state = State::Block;
                // The first block of a stream is as near as the stream itself.
                if self.mark.as_ref().is_none_or(|m| m.at < self.at) {
                    let state = [&bit.to_le_bytes()[..], &[self.level], &sum.to_le_bytes()].concat();
                    self.mark = Some(Point { at: self.at, state: state.into() });
                }
            }
        }
        Ok(())
    }
}

impl Decoder for Bzip2Decoder {
    fn read(&mut self, into: &mut [u8]) -> Result<usize> {
        while !into.is_empty() {
            match self.state {
                State::First | State::Between => self.begin()?,
                State::Stream => self.next()?,
                State::Block => match self.codec.write(into) {
                    0 => {
                        self.codec.check().map_err(|e| self.input.blame(e))?;
                        self.state = State::Stream;
                    }
                    n => {
                        self.at = self.at.saturating_add(n as u64);
                        return Ok(n);
                    }
                },
                State::End => break,
            }
        }
        Ok(0)
    }

    fn weight(&self) -> usize {
        self.input.weight() + self.codec.weight()
    }

    fn point(&mut self, apart: u64) -> Option<Point> {
        let point = self.mark.as_ref().filter(|m| m.at >= self.given.saturating_add(apart.max(1)))?.clone();
        self.given = point.at;
        Some(point)
    }
}
