//! Deflate, Deflate64 and zlib; the part of gzip between header and trailer.
//!
//! A decoder can begin at every block, if it has the bytes before it that matches may reach:
//!
//! ```text
//!   state   u8 kind ‖ u64 first bit ‖ u32 check so far ‖ u64 length so far ‖ u32 length of the window ‖ the window, as zstd
//! ```

use super::input::Input;
use crate::codec::adler::Adler;
use crate::codec::damaged;
use crate::codec::inflate::{Inflate, Step};
use crate::codec::zstd::{self, Effort, With};
use crate::error::{Error, Kind, Result};
use crate::source::{Decoder, Point, ReadAt, Stream};
use crc32fast::Hasher;
use std::sync::Arc;

/// Decoded bytes between two places that a decoder remembers: a copy of the window each, which must cost little.
const APART: u64 = 64 << 10;

/// A deflate stream without anything around it, as a member of a zip archive is one. What stands behind its end does not
/// count.
pub struct Raw<const LONG: bool> {
    source: Arc<dyn ReadAt>,
    len: Option<u64>,
}

pub type Deflate = Raw<false>;
/// With a window of 64 KiB: method 9 of zip.
pub type Deflate64 = Raw<true>;

impl<const LONG: bool> Raw<LONG> {
    /// `len` is the decoded length, where something says it.
    pub fn new(source: Arc<dyn ReadAt>, len: Option<u64>) -> Self {
        Self { source, len }
    }
}

impl<const LONG: bool> Stream for Raw<LONG> {
    fn start(&self, from: Option<&Point>) -> Result<Box<dyn Decoder>> {
        let place = from.map(Place::read).transpose()?;
        Ok(Box::new(RawDecoder::<LONG>(Blocks::new(self.source.clone(), 0, Check::None, place)?)))
    }

    fn len(&self) -> Option<u64> {
        self.len
    }
}

struct RawDecoder<const LONG: bool>(Blocks<LONG>);

impl<const LONG: bool> Decoder for RawDecoder<LONG> {
    fn read(&mut self, into: &mut [u8]) -> Result<usize> {
        self.0.read(into)
    }

    fn weight(&self) -> usize {
        self.0.weight()
    }

    fn point(&mut self, apart: u64) -> Option<Point> {
        self.0.point(apart)
    }
}

/// A deflate stream between a header of two bytes and an Adler-32.
pub struct Zlib {
    source: Arc<dyn ReadAt>,
    len: Option<u64>,
}

impl Zlib {
    pub fn new(source: Arc<dyn ReadAt>, len: Option<u64>) -> Self {
        Self { source, len }
    }
}

impl Stream for Zlib {
    fn start(&self, from: Option<&Point>) -> Result<Box<dyn Decoder>> {
        let place = from.map(Place::read).transpose()?;
        if place.is_none() {
            zlib_header(&mut Input::new(self.source.clone(), 0)?)?;
        }
        let blocks = Blocks::new(self.source.clone(), 2, Check::Adler(Adler::default()), place)?;
        Ok(Box::new(ZlibDecoder { blocks, done: false }))
    }

    fn len(&self) -> Option<u64> {
        self.len
    }
}

fn zlib_header(input: &mut Input) -> Result<()> {
    let [cmf, flags] = input.array()?;
    if cmf & 15 != 8 || cmf >> 4 > 7 || u16::from_be_bytes([cmf, flags]) % 31 != 0 {
        return Err(input.damaged("this is no header of zlib"));
    }
    if flags & 0x20 != 0 {
        return Err(Error::new(Kind::Unsupported, "a zlib stream needs a dictionary that stands elsewhere"));
    }
    Ok(())
}

struct ZlibDecoder {
    blocks: Blocks<false>,
    done: bool,
}

impl Decoder for ZlibDecoder {
    fn read(&mut self, into: &mut [u8]) -> Result<usize> {
        let n = self.blocks.read(into)?;
        if n == 0 && !into.is_empty() && !self.done {
            let wanted = u32::from_be_bytes(self.blocks.input.array()?);
            self.blocks.expect(wanted)?;
            self.done = true;
        }
        Ok(n)
    }

    fn weight(&self) -> usize {
        self.blocks.weight()
    }

    fn point(&mut self, apart: u64) -> Option<Point> {
        self.blocks.point(apart)
    }
}

/// A sum over what was decoded.
#[derive(Clone)]
pub(super) enum Check {
    None,
    Crc(Hasher),
    Adler(Adler),
}

impl Check {
    fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::None => {}
            Self::Crc(crc) => crc.update(bytes),
            Self::Adler(adler) => adler.update(bytes),
        }
    }

    fn value(&self) -> u32 {
        match self {
            Self::None => 0,
            Self::Crc(crc) => crc.clone().finalize(),
            Self::Adler(adler) => adler.value(),
        }
    }

    /// The same sum, at some value.
    fn at(&self, value: u32, len: u64) -> Self {
        match self {
            Self::None => Self::None,
            Self::Crc(_) => Self::Crc(Hasher::new_with_initial_len(value, len)),
            Self::Adler(_) if len == 0 => Self::Adler(Adler::default()),
            Self::Adler(_) => Self::Adler(Adler::from(value)),
        }
    }
}

/// Where a decoder was, or begins.
pub(super) struct Place {
    at: u64,
    /// At the header of a member of gzip, and not at a block.
    pub front: bool,
    /// Offset in the source, in bits.
    pub bit: u64,
    check: u32,
    len: u64,
    window: Vec<u8>,
}

/// Positions of points: room for what is decoded behind them.
const FARTHEST: u64 = 1 << 62;

/// Length of what stands before the window.
const HEAD: usize = 25;

impl Place {
    pub fn front(at: u64, byte: u64) -> Self {
        Self { at, front: true, bit: byte.saturating_mul(8), check: 0, len: 0, window: Vec::new() }
    }

    fn write(&self) -> Result<Point> {
        let mut state = vec![u8::from(!self.front)];
        state.extend_from_slice(&self.bit.to_le_bytes());
        if !self.front {
            state.extend_from_slice(&self.check.to_le_bytes());
            state.extend_from_slice(&self.len.to_le_bytes());
            state.extend_from_slice(&(self.window.len() as u32).to_le_bytes());
            state.extend_from_slice(&zstd::encode(&self.window, Effort::level(1), With::Nothing)?);
        }
        Ok(Point { at: self.at, state: state.into() })
    }

    pub fn read(point: &Point) -> Result<Self> {
        let bad = || damaged("a point in a compressed stream cannot be read");
        let state = &point.state;
        let bit = u64::from_le_bytes(*state.get(1..).and_then(<[u8]>::first_chunk).ok_or_else(bad)?);
        if point.at > FARTHEST {
            return Err(bad());
        }
        match state[0] {
            0 if state.len() == 9 && bit % 8 == 0 => return Ok(Self::front(point.at, bit / 8)),
            1 if state.len() >= HEAD => {}
            _ => return Err(bad()),
        }
        let number = |at: usize| u32::from_le_bytes([state[at], state[at + 1], state[at + 2], state[at + 3]]);
        let window = number(21) as usize;
        let len = u64::from(number(13)) | u64::from(number(17)) << 32;
        if window > Inflate::<true>::WINDOW || len > point.at {
            return Err(bad());
        }
        Ok(Self {
            at: point.at,
            front: false,
            bit,
            check: number(9),
            len,
            window: zstd::decode(&state[HEAD..], window, With::Nothing)?,
        })
    }
}

/// The blocks of one deflate stream after another, with the places to begin at that were passed.
pub(super) struct Blocks<const LONG: bool> {
    pub input: Input,
    inflate: Inflate<LONG>,
    pub check: Check,
    /// Position in the decoded bytes, and in those of this stream.
    pub at: u64,
    pub len: u64,
    /// A block begins behind what is ready.
    boundary: bool,
    ended: bool,
    mark: Option<Place>,
    given: u64,
}

impl<const LONG: bool> Blocks<LONG> {
    /// Begins at the first byte of a deflate stream, or at a place.
    pub fn new(source: Arc<dyn ReadAt>, first: u64, check: Check, place: Option<Place>) -> Result<Self> {
        let mut new = Self {
            input: Input::new(source, first)?,
            inflate: Inflate::new(),
            check,
            at: 0,
            len: 0,
            boundary: false,
            ended: false,
            mark: None,
            given: 0,
        };
        if let Some(place) = place {
            new.begin(&place)?;
        }
        Ok(new)
    }

    fn begin(&mut self, place: &Place) -> Result<()> {
        self.input.seek(place.bit / 8);
        (self.at, self.given, self.len) = (place.at, place.at, place.len);
        if place.front {
            return Ok(());
        }
        let skip = (place.bit % 8) as u32;
        let (held, held_bits) = if skip > 0 { (self.input.byte()? >> skip, 8 - skip) } else { (0, 0) };
        self.inflate.resume(held, held_bits, &place.window);
        self.check = self.check.at(place.check, place.len);
        Ok(())
    }

    /// Begins the next stream at the next byte of the input.
    pub fn restart(&mut self) {
        self.inflate.restart();
        self.check = self.check.at(0, 0);
        (self.len, self.ended, self.boundary) = (0, false, false);
    }

    /// Remembers that a member begins at the next byte of the input.
    pub fn mark_front(&mut self) {
        self.mark = Some(Place::front(self.at, self.input.offset()));
    }

    /// The next decoded bytes, 0 at the end of the stream, whose last byte is used up then.
    pub fn read(&mut self, into: &mut [u8]) -> Result<usize> {
        while self.inflate.ready().is_empty() && !self.ended && !into.is_empty() {
            self.run()?;
        }
        let ready = self.inflate.ready();
        let n = ready.len().min(into.len());
        into[..n].copy_from_slice(&ready[..n]);
        self.inflate.fetched(n);
        self.check.update(&into[..n]);
        self.at += n as u64;
        self.len += n as u64;
        Ok(n)
    }

    /// Decodes on, when nothing is ready.
    fn run(&mut self) -> Result<()> {
        if std::mem::take(&mut self.boundary) {
            self.mark_block();
        }
        let (taken, step) = self.inflate.run(self.input.at_hand()).map_err(|e| self.input.blame(e))?;
        self.input.used(taken);
        match step {
            Step::Full => {}
            Step::Block => self.boundary = true,
            Step::End => self.ended = true,
            Step::Hungry if self.inflate.ready().is_empty() && !self.input.more()? => return Err(self.input.torn()),
            Step::Hungry => {}
        }
        Ok(())
    }

    /// Remembers the block that begins here, where it is not too near to the last one.
    fn mark_block(&mut self) {
        if self.at < self.mark.as_ref().map_or(self.given, |m| m.at).saturating_add(APART) {
            return;
        }
        let mut window = self.mark.take().map(|m| m.window).unwrap_or_default();
        window.clear();
        window.extend_from_slice(self.inflate.window());
        let bit = self.input.offset().saturating_mul(8) - u64::from(self.inflate.held_bits());
        self.mark = Some(Place { at: self.at, front: false, bit, check: self.check.value(), len: self.len, window });
    }

    /// # Errors
    /// `Damaged` when the sum over the stream is not this one.
    pub fn expect(&self, wanted: u32) -> Result<()> {
        let found = self.check.value();
        if found == wanted {
            return Ok(());
        }
        Err(self.input.damaged(&format!("the decoded bytes fail their check, {found:08x} instead of {wanted:08x}")))
    }

    pub fn weight(&self) -> usize {
        self.input.weight() + self.inflate.weight() + self.mark.as_ref().map_or(0, |m| m.window.capacity())
    }

    pub fn point(&mut self, apart: u64) -> Option<Point> {
        let mark = self.mark.as_ref().filter(|m| m.at >= self.given.saturating_add(apart))?;
        let point = mark.write().inspect_err(|e| log::debug!("no point: {e}")).ok()?;
        self.given = mark.at;
        Some(point)
    }
}
