//! LZMA alone, as old files with the ending `.lzma`, members of zip and 7z have it; and bare LZMA2.

use super::coded::{Coded, occupied};
use super::foreign::{self, Foreign};
use super::input::Input;
use crate::codec::damaged;
use crate::codec::lzma::{self, BESIDES, Chunks, Coder};
use crate::error::{Error, Kind, Result};
use crate::source::{Decoder, Point, ReadAt, Stream};
use std::collections::VecDeque;
use std::sync::Arc;

/// LZMA that ends at a known length, or with a mark. It has no check and no points.
pub struct Lzma {
    source: Arc<dyn ReadAt>,
    /// Where the data begin, behind whatever holds the properties.
    start: u64,
    properties: [u8; 5],
    len: Option<u64>,
}

impl Lzma {
    /// The old format of a file of its own.
    pub fn alone(source: Arc<dyn ReadAt>) -> Result<Self> {
        let mut input = Input::new(source.clone(), 0)?;
        let properties = input.array()?;
        let len = u64::from_le_bytes(input.array()?);
        Ok(Self { source, start: 13, properties, len: Some(len).filter(|len| *len != u64::MAX) })
    }

    /// Method 14 of zip: a version, the length of the properties, and these stand before the data.
    pub fn in_zip(source: Arc<dyn ReadAt>, len: Option<u64>) -> Result<Self> {
        let mut input = Input::new(source.clone(), 0)?;
        let [_, _, size @ ..] = input.array::<4>()?;
        if u16::from_le_bytes(size) != 5 {
            return Err(input.damaged("the properties of LZMA have not their length"));
        }
        Ok(Self { properties: input.array()?, source, start: 9, len })
    }

    /// Data without their properties.
    pub fn bare(source: Arc<dyn ReadAt>, properties: [u8; 5], len: Option<u64>) -> Self {
        Self { source, start: 0, properties, len }
    }
}

impl Lzma {
    /// With more bits of context than liblzma takes: a few old archives have them.
    fn start_wide(&self) -> Result<Box<dyn Decoder>> {
        let header = lzma::alone_header(self.properties, self.len);
        let dictionary = u32::from_le_bytes([header[1], header[2], header[3], header[4]]);
        let model = lzma::wide_model(header[0]);
        lzma::check_dictionary(u64::from(dictionary) + model as u64)?;
        let input = Input::new(self.source.clone(), self.start)?;
        let len = self.len.unwrap_or(u64::MAX);
        let reader = lzma_rust2::LzmaReader::new_with_props(input, len, header[0], dictionary, None);
        let reader = reader.map_err(|e| foreign::error(e, "LZMA"))?;
        Ok(Box::new(Foreign::new(reader, "LZMA", BESIDES + model + dictionary as usize)))
    }
}

impl Stream for Lzma {
    fn start(&self, from: Option<&Point>) -> Result<Box<dyn Decoder>> {
        if from.is_some() {
            return Err(damaged("LZMA has no points"));
        }
        if lzma::is_wide(self.properties[0]) {
            return self.start_wide();
        }
        let header = lzma::alone_header(self.properties, self.len);
        let dictionary = u32::from_le_bytes([header[1], header[2], header[3], header[4]]);
        let input = Input::new(self.source.clone(), self.start)?;
        let coded = Coded::new(Coder::alone()?, input).between(header.into(), Vec::new());
        Ok(Box::new(Plain { coded, dictionary: occupied(dictionary.into(), self.len) }))
    }

    fn len(&self) -> Option<u64> {
        self.len
    }
}

/// A decoder that can only go on.
pub(super) struct Plain {
    pub coded: Coded,
    pub dictionary: usize,
}

impl Decoder for Plain {
    fn read(&mut self, into: &mut [u8]) -> Result<usize> {
        self.coded.read(into)
    }

    fn weight(&self) -> usize {
        BESIDES + self.coded.weight() + self.dictionary
    }
}

/// LZMA2 without anything around it. Where an encoder worked with several threads it has points: chunks before which the
/// dictionary is emptied.
pub struct Lzma2 {
    source: Arc<dyn ReadAt>,
    property: u8,
    len: Option<u64>,
}

impl Lzma2 {
    /// `property` is the one byte of properties that LZMA2 has.
    pub fn new(source: Arc<dyn ReadAt>, property: u8, len: Option<u64>) -> Self {
        Self { source, property, len }
    }
}

impl Stream for Lzma2 {
    fn start(&self, from: Option<&Point>) -> Result<Box<dyn Decoder>> {
        let (at, offset) = from.map_or(Ok((0, 0)), |p| Ok::<_, Error>((p.at, offset_of(p)?)))?;
        let property = lzma::lzma2_property(self.property, self.len);
        let dictionary = occupied(lzma::lzma2_dictionary(property)?, self.len);
        let coded = Coded::new(Coder::lzma2(property)?, Input::new(self.source.clone(), offset)?);
        let chunks = Chunks::new(offset, at);
        let plain = Plain { coded, dictionary };
        Ok(Box::new(Lzma2Decoder { plain, chunks, at, given: at, ahead: VecDeque::new(), passed: None }))
    }

    fn len(&self) -> Option<u64> {
        self.len
    }
}

/// A state that is nothing but an offset in the source.
pub(super) fn offset_of(point: &Point) -> Result<u64> {
    let bytes = <[u8; 8]>::try_from(&*point.state);
    bytes.map(u64::from_le_bytes).map_err(|_| damaged("a point in a compressed stream cannot be read"))
}

pub(super) fn point_of(at: u64, offset: u64) -> Point {
    Point { at, state: offset.to_le_bytes().into() }
}

/// Decoded bytes between two points that are remembered.
const APART: u64 = 64 << 10;

struct Lzma2Decoder {
    plain: Plain,
    chunks: Chunks,
    at: u64,
    given: u64,
    /// Positions and offsets of chunks that were taken in, and whose bytes did not come out yet.
    ahead: VecDeque<(u64, u64)>,
    passed: Option<(u64, u64)>,
}

impl Decoder for Lzma2Decoder {
    fn read(&mut self, into: &mut [u8]) -> Result<usize> {
        let Self { plain, chunks, ahead, .. } = self;
        let n = plain.coded.read_and(into, |bytes| {
            chunks.follow(bytes, |offset, at| {
                if ahead.back().is_none_or(|(last, _)| at >= last.saturating_add(APART)) {
                    ahead.push_back((at, offset));
                }
            });
        })?;
        self.at = self.at.saturating_add(n as u64);
        while self.ahead.front().is_some_and(|(at, _)| *at <= self.at) {
            self.passed = self.ahead.pop_front();
        }
        Ok(n)
    }

    fn weight(&self) -> usize {
        self.plain.weight() + self.ahead.capacity() * 16
    }

    fn point(&mut self, apart: u64) -> Option<Point> {
        let (at, offset) = self.passed.filter(|(at, _)| *at >= self.given.saturating_add(apart.max(1)))?;
        self.given = at;
        Some(point_of(at, offset))
    }
}

/// The error of what is too much for a table of places.
pub(super) fn too_many(what: &str) -> Error {
    Error::new(Kind::Limit, format!("there are too many {what}"))
}
