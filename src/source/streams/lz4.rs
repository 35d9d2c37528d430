//! lz4: frames of blocks, one behind the other, some of which are to be left out; and the old format before frames, which the
//! Linux kernel still uses.
//!
//! A frame is a point, and so is each block where blocks do not refer to each other. The sum over a whole frame can only be
//! made from its front.

use super::input::Input;
use crate::codec::damaged;
use crate::codec::zframe::is_skippable;
use crate::error::{Error, Kind, Result};
use crate::source::{Decoder, Point, ReadAt, Stream};
use std::hash::Hasher;
use std::sync::{Arc, OnceLock};
use twox_hash::XxHash32;

pub(super) const MAGIC: u32 = 0x184d_2204;
pub(super) const LEGACY: u32 = 0x184c_2102;

/// Decoded bytes of a block of the old format, and what such a block takes at most where it cannot be compressed.
const LEGACY_BLOCK: usize = 8 << 20;
const LEGACY_STORED: usize = LEGACY_BLOCK + LEGACY_BLOCK / 255 + 16;

/// How far back a block may refer.
const WINDOW: usize = 64 << 10;

/// Blocks that are stepped over to see whether a frame is the only one.
const STEPS: usize = 1024;

/// A file of lz4.
pub struct Lz4 {
    source: Arc<dyn ReadAt>,
    len: OnceLock<Option<u64>>,
}

impl Lz4 {
    pub fn new(source: Arc<dyn ReadAt>) -> Self {
        Self { source, len: OnceLock::new() }
    }
}

impl Stream for Lz4 {
    fn start(&self, from: Option<&Point>) -> Result<Box<dyn Decoder>> {
        let mut decoder = Lz4Decoder::new(Input::new(self.source.clone(), 0)?);
        if let Some(point) = from {
            decoder.begin_at(point)?;
        }
        Ok(Box::new(decoder))
    }

    fn len(&self) -> Option<u64> {
        *self.len.get_or_init(|| only_frame(&self.source).ok().flatten())
    }
}

/// What a frame says of itself.
#[derive(Clone, Copy, Default)]
struct Frame {
    offset: u64,
    /// Decoded bytes of a block at most.
    block: usize,
    legacy: bool,
    linked: bool,
    block_sums: bool,
    sum: bool,
    len: Option<u64>,
}

impl Frame {
    /// Reads what follows the magic.
    fn read(input: &mut Input, offset: u64) -> Result<Self> {
        let mut fields = input.array::<2>()?.to_vec();
        let [flags, sizes] = [fields[0], fields[1]];
        if flags >> 6 != 1 || flags & 2 != 0 || sizes & 0x8f != 0 || sizes < 0x40 {
            return Err(input.damaged("a frame of lz4 of a kind that is not known"));
        }
        let mut len = None;
        if flags & 8 != 0 {
            let bytes = input.array()?;
            fields.extend_from_slice(&bytes);
            len = Some(u64::from_le_bytes(bytes));
        }
        if flags & 1 != 0 {
            return Err(Error::new(Kind::Unsupported, "lz4 data need a dictionary that stands elsewhere"));
        }
        if input.byte()? != (XxHash32::oneshot(0, &fields) >> 8) as u8 {
            return Err(input.damaged("the header of a frame of lz4 fails its check"));
        }
        Ok(Self {
            offset,
            block: 1 << (8 + 2 * (sizes >> 4)),
            legacy: false,
            linked: flags & 0x20 == 0,
            block_sums: flags & 0x10 != 0,
            sum: flags & 4 != 0,
            len,
        })
    }

    fn legacy(offset: u64) -> Self {
        Self { offset, block: LEGACY_BLOCK, legacy: true, ..Self::default() }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// Before the frame that must be there.
    First,
    Between,
    Block,
    End,
}

struct Lz4Decoder {
    input: Input,
    state: State,
    frame: Frame,
    /// The sum over the frame so far, if it is decoded from its front, and its length.
    sum: Option<XxHash32>,
    len: u64,
    stored: Vec<u8>,
    /// [`WINDOW`] bytes, the last `history` of them decoded before; then the block, of which `start..end` is to be fetched.
    buf: Vec<u8>,
    history: usize,
    start: usize,
    end: usize,
    at: u64,
    given: u64,
    mark: Option<Mark>,
}

/// A place to begin at: a frame, or a block of it.
struct Mark {
    at: u64,
    frame: u64,
    block: Option<u64>,
}

impl Lz4Decoder {
    fn new(input: Input) -> Self {
        Self {
            input,
            state: State::First,
            frame: Frame::default(),
            sum: None,
            len: 0,
            stored: Vec::new(),
            buf: Vec::new(),
            history: 0,
            start: WINDOW,
            end: WINDOW,
            at: 0,
            given: 0,
            mark: None,
        }
    }

    /// Reads the frame of a point, and goes to its block.
    fn begin_at(&mut self, point: &Point) -> Result<()> {
        let bad = || damaged("a point in a compressed stream cannot be read");
        let (frame, block) = match point.state.len() {
            8 => (&point.state[..], None),
            16 => (&point.state[..8], point.state[8..].first_chunk().map(|b| u64::from_le_bytes(*b))),
            _ => return Err(bad()),
        };
        self.input.seek(frame.first_chunk().map(|b| u64::from_le_bytes(*b)).ok_or_else(bad)?);
        (self.at, self.given) = (point.at, point.at);
        let Some(block) = block else { return Ok(()) };
        self.begin()?;
        if self.state != State::Block || self.frame.linked {
            return Err(bad());
        }
        self.sum = None;
        self.mark = None;
        self.input.seek(block);
        Ok(())
    }

    /// Looks at what begins here.
    fn begin(&mut self) -> Result<()> {
        let offset = self.input.offset();
        let head = self.input.ahead(4)?;
        let (len, first) = (head.len(), self.state == State::First);
        let magic = head.first_chunk().map(|m| u32::from_le_bytes(*m));
        match magic {
            None if len == 0 && !first => self.state = State::End,
            None if first => return Err(self.input.torn()),
            Some(magic) if is_skippable(magic) => {
                self.input.used(4);
                let len = u32::from_le_bytes(self.input.array()?);
                self.input.skip(len.into())?;
                self.state = State::Between;
            }
            Some(MAGIC | LEGACY) => {
                self.input.used(4);
                let legacy = magic == Some(LEGACY);
                let frame = if legacy { Frame::legacy(offset) } else { Frame::read(&mut self.input, offset)? };
                self.enter(frame);
            }
            _ if first => return Err(self.input.damaged("this is no frame of lz4")),
            _ => {
                log::warn!("what stands behind the lz4 data, from byte {offset} on, is ignored");
                self.state = State::End;
            }
        }
        Ok(())
    }

    fn enter(&mut self, frame: Frame) {
        self.frame = frame;
        self.sum = Some(XxHash32::with_seed(0));
        (self.len, self.history) = (0, 0);
        if self.buf.len() < WINDOW + frame.block {
            self.buf = vec![0; WINDOW + frame.block];
        }
        self.mark = Some(Mark { at: self.at, frame: frame.offset, block: None });
        self.state = State::Block;
    }

    /// Decodes the next block, or comes to the end of the frame.
    fn block(&mut self) -> Result<()> {
        let offset = self.input.offset();
        if !self.frame.linked && self.len > 0 {
            self.mark = Some(Mark { at: self.at, frame: self.frame.offset, block: Some(offset) });
        }
        if self.frame.legacy && self.legacy_ends()? {
            self.state = State::Between;
            return Ok(());
        }
        let size = u32::from_le_bytes(self.input.array()?);
        if size == 0 && !self.frame.legacy {
            return self.end_of_frame();
        }
        self.keep_window();
        let packed = self.frame.legacy || size >> 31 == 0;
        let size = if self.frame.legacy { size } else { size & 0x7fff_ffff };
        self.fetch(size as usize)?;
        let made = if packed { self.unpack() } else { self.copy() }.map_err(|e| self.input.blame(e))?;
        (self.start, self.end) = (WINDOW, WINDOW + made);
        if let Some(sum) = self.sum.as_mut().filter(|_| self.frame.sum) {
            sum.write(&self.buf[WINDOW..WINDOW + made]);
        }
        self.len += made as u64;
        Ok(())
    }

    /// The old format has no end: it is over with the file, or where another frame begins.
    fn legacy_ends(&mut self) -> Result<bool> {
        let head = self.input.ahead(4)?;
        let magic = head.first_chunk().map(|m| u32::from_le_bytes(*m));
        Ok(head.is_empty() || magic.is_some_and(|m| m == MAGIC || m == LEGACY || is_skippable(m)))
    }

    fn end_of_frame(&mut self) -> Result<()> {
        if self.frame.sum {
            let wanted = u32::from_le_bytes(self.input.array()?);
            let found = self.sum.as_ref().map(XxHash32::finish_32);
            if found.is_some_and(|found| found != wanted) {
                return Err(self.input.damaged("the decoded bytes of a frame of lz4 fail their check"));
            }
        }
        if self.sum.is_some() && self.frame.len.is_some_and(|len| len != self.len) {
            return Err(self.input.damaged("a frame of lz4 has not the length that it says"));
        }
        self.state = State::Between;
        Ok(())
    }

    /// Moves what the next block may refer to in front of it.
    fn keep_window(&mut self) {
        if self.frame.linked {
            self.history = WINDOW.min(self.history + self.end - WINDOW);
            self.buf.copy_within(self.end - self.history..self.end, WINDOW - self.history);
        }
        (self.start, self.end) = (WINDOW, WINDOW);
    }

    /// Reads the stored bytes of a block, and makes their check.
    fn fetch(&mut self, size: usize) -> Result<()> {
        let most = if self.frame.legacy { LEGACY_STORED } else { self.frame.block };
        if size > most {
            return Err(self.input.damaged("a block of lz4 is too large"));
        }
        self.stored.clear();
        while self.stored.len() < size {
            let bytes = self.input.some()?;
            let n = bytes.len().min(size - self.stored.len());
            self.stored.extend_from_slice(&bytes[..n]);
            self.input.used(n);
            if n == 0 {
                return Err(self.input.torn());
            }
        }
        if self.frame.block_sums && u32::from_le_bytes(self.input.array()?) != XxHash32::oneshot(0, &self.stored) {
            return Err(self.input.damaged("a block of lz4 fails its check"));
        }
        Ok(())
    }

    fn unpack(&mut self) -> Result<usize> {
        let (window, block) = self.buf.split_at_mut(WINDOW);
        let (window, block) = (&window[WINDOW - self.history..], &mut block[..self.frame.block]);
        let done = match window {
            [] => lz4_flex::block::decompress_into(&self.stored, block),
            _ => lz4_flex::block::decompress_into_with_dict(&self.stored, block, window),
        };
        done.map_err(|e| damaged("a block of lz4 cannot be decoded").caused_by(e))
    }

    fn copy(&mut self) -> Result<usize> {
        self.buf[WINDOW..WINDOW + self.stored.len()].copy_from_slice(&self.stored);
        Ok(self.stored.len())
    }
}

impl Decoder for Lz4Decoder {
    fn read(&mut self, into: &mut [u8]) -> Result<usize> {
        while self.start == self.end && !into.is_empty() {
            match self.state {
                State::First | State::Between => self.begin()?,
                State::Block => self.block()?,
                State::End => return Ok(0),
            }
        }
        let n = into.len().min(self.end - self.start);
        into[..n].copy_from_slice(&self.buf[self.start..self.start + n]);
        self.start += n;
        self.at = self.at.saturating_add(n as u64);
        Ok(n)
    }

    fn weight(&self) -> usize {
        self.input.weight() + self.stored.capacity() + self.buf.capacity()
    }

    fn point(&mut self, apart: u64) -> Option<Point> {
        let mark = self.mark.as_ref().filter(|m| m.at >= self.given.saturating_add(apart.max(1)))?;
        self.given = mark.at;
        let mut state = mark.frame.to_le_bytes().to_vec();
        state.extend(mark.block.into_iter().flat_map(u64::to_le_bytes));
        Some(Point { at: mark.at, state: state.into() })
    }
}

/// The length that the first frame gives, if it is the only one, and not too long to see that.
fn only_frame(source: &Arc<dyn ReadAt>) -> Result<Option<u64>> {
    let mut input = Input::new(source.clone(), 0)?;
    if u32::from_le_bytes(input.array()?) != MAGIC {
        return Ok(None);
    }
    let frame = Frame::read(&mut input, 0)?;
    let (mut at, end) = (input.offset(), source.len()?);
    for _ in 0..if frame.len.is_some() { STEPS } else { 0 } {
        let mut size = [0; 4];
        source.read_exact_at(at, &mut size)?;
        let size = u64::from(u32::from_le_bytes(size) & 0x7fff_ffff);
        at += 4;
        if size == 0 {
            return Ok(frame.len.filter(|_| at + if frame.sum { 4 } else { 0 } == end));
        }
        at += size + if frame.block_sums { 4 } else { 0 };
    }
    Ok(None)
}
