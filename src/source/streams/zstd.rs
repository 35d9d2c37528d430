//! zstd: frames one behind the other, some of which are to be left out. Each frame is a point; where a table of frames stands
//! at the end, as of the seekable format, all of them are known ahead.
//!
//! ```text
//!   frame | frame | … | 5E 2A 4D 18  length  { u32 stored  u32 decoded  [u32 check] } …  u32 frames  u8 flags  B1 EA 92 8F
//! ```

use super::input::Input;
use super::lzma::{offset_of, point_of};
use crate::codec::zframe::{self, Frames, HEADER, Header, WINDOW_LOG};
use crate::error::{Kind, Result};
use crate::source::{Decoder, Point, ReadAt, Stream};
use std::sync::{Arc, OnceLock};

const TABLE_MAGIC: u32 = 0x8f92_eab1;
const TABLE_FRAME: u32 = 0x184d_2a5e;
const TABLE_FOOTER: u64 = 9;

/// Frames of a table. More are not known ahead.
const FRAMES: u64 = 1 << 20;

/// Blocks, of 128 KiB at most, that are stepped over to see whether a frame is the only one.
const STEPS: usize = 1024;

/// A file of zstd.
pub struct Zstd {
    source: Arc<dyn ReadAt>,
    window_log: u32,
    known: OnceLock<Known>,
}

/// What is known without decoding.
#[derive(Default)]
struct Known {
    len: Option<u64>,
    /// Positions and offsets of frames.
    frames: Vec<(u64, u64)>,
}

impl Zstd {
    pub fn new(source: Arc<dyn ReadAt>) -> Self {
        Self { source, window_log: WINDOW_LOG, known: OnceLock::new() }
    }

    /// Accepts windows of up to two to this power, 31 at most, which is the memory that a decoder takes.
    #[must_use]
    pub fn with_window(self, log: u32) -> Self {
        Self { window_log: log, ..self }
    }

    fn known(&self) -> Result<&Known> {
        if self.known.get().is_none() {
            let found = match table(&self.source)? {
                Some(table) => table,
                None => Known { len: only_frame(&*self.source)?, frames: Vec::new() },
            };
            let _ = self.known.set(found);
        }
        Ok(self.known.get_or_init(Known::default))
    }
}

impl Stream for Zstd {
    fn start(&self, from: Option<&Point>) -> Result<Box<dyn Decoder>> {
        let (at, offset) = match from {
            Some(point) => (point.at, offset_of(point)?),
            None => (0, 0),
        };
        let input = Input::new(self.source.clone(), offset)?;
        let frames = Frames::new(self.window_log)?;
        Ok(Box::new(ZstdDecoder { input, frames, state: State::First, at, given: at, mark: None }))
    }

    fn len(&self) -> Option<u64> {
        self.known().ok()?.len
    }

    fn points(&self) -> Result<Vec<Point>> {
        Ok(self.known()?.frames.iter().map(|(at, offset)| point_of(*at, *offset)).collect())
    }
}

enum State {
    /// Before the frame that must be there.
    First,
    Between,
    Frame,
    End,
}

struct ZstdDecoder {
    input: Input,
    frames: Frames,
    state: State,
    at: u64,
    given: u64,
    /// Position and offset of the last frame.
    mark: Option<(u64, u64)>,
}

impl Decoder for ZstdDecoder {
    fn read(&mut self, into: &mut [u8]) -> Result<usize> {
        while !into.is_empty() {
            match self.state {
                State::First | State::Between => self.begin()?,
                State::Frame => match self.decode(into)? {
                    0 => {}
                    n => return Ok(n),
                },
                State::End => break,
            }
        }
        Ok(0)
    }

    fn weight(&self) -> usize {
        self.input.weight() + self.frames.weight()
    }

    fn point(&mut self, apart: u64) -> Option<Point> {
        let (at, offset) = self.mark.filter(|(at, _)| *at >= self.given.saturating_add(apart.max(1)))?;
        self.given = at;
        Some(point_of(at, offset))
    }
}

impl ZstdDecoder {
    /// Looks at what begins here.
    fn begin(&mut self) -> Result<()> {
        let offset = self.input.offset();
        let head = self.input.ahead(HEADER)?;
        let magic = head.first_chunk().map(|m| u32::from_le_bytes(*m));
        if head.is_empty() && matches!(self.state, State::Between) {
            self.state = State::End;
        } else if magic.is_some_and(zframe::is_skippable) {
            self.input.used(4);
            let len = u32::from_le_bytes(self.input.array()?);
            self.input.skip(len.into())?;
            // A file may consist of such frames alone.
            self.state = State::Between;
        } else {
            let header = Header::read(head).map_err(|e| self.input.blame(e))?;
            self.frames.admit(&header.ok_or_else(|| self.input.torn())?)?;
            self.mark = Some((self.at, offset));
            self.state = State::Frame;
        }
        Ok(())
    }

    fn decode(&mut self, into: &mut [u8]) -> Result<usize> {
        let bytes = self.input.some()?;
        let at_end = bytes.is_empty();
        let done = self.frames.run(bytes, into).map_err(|e| self.input.blame(e))?;
        self.input.used(done.taken);
        self.at = self.at.saturating_add(done.made as u64);
        if done.ended {
            self.state = State::Between;
        } else if at_end && done.made == 0 {
            return Err(self.input.torn());
        }
        Ok(done.made)
    }
}

/// The table of the seekable format, if it stands at the end and fits the file.
fn table(source: &Arc<dyn ReadAt>) -> Result<Option<Known>> {
    let end = source.len()?;
    let Some(at) = end.checked_sub(TABLE_FOOTER) else { return Ok(None) };
    let mut input = Input::new(source.clone(), at)?;
    let frames = u64::from(u32::from_le_bytes(input.array()?));
    let flags = input.byte()?;
    if u32::from_le_bytes(input.array()?) != TABLE_MAGIC || flags & 0x7c != 0 {
        return Ok(None);
    }
    if frames > FRAMES {
        log::debug!("a table of {frames} frames of zstd is not used");
        return Ok(None);
    }
    let checks = flags & 0x80 != 0;
    let size = frames * if checks { 12 } else { 8 } + TABLE_FOOTER;
    let Some(start) = end.checked_sub(size + 8) else { return Ok(None) };
    input.seek(start);
    if u32::from_le_bytes(input.array()?) != TABLE_FRAME || u64::from(u32::from_le_bytes(input.array()?)) != size {
        return Ok(None);
    }
    let (mut known, mut offset, mut len) = (Known::default(), 0, 0);
    for _ in 0..frames {
        if len > 0 && known.frames.last().is_none_or(|(at, _)| *at < len) {
            known.frames.push((len, offset));
        }
        offset += u64::from(u32::from_le_bytes(input.array()?));
        len += u64::from(u32::from_le_bytes(input.array()?));
        input.skip(if checks { 4 } else { 0 })?;
    }
    // Only then it is a table of this file.
    known.len = Some(len);
    Ok((offset == start).then_some(known))
}

/// The length that the first frame gives, if it is the only one, and not too long to see that.
fn only_frame(source: &dyn ReadAt) -> Result<Option<u64>> {
    match steps(source) {
        Err(e) if e.kind() == Kind::Damaged => Ok(None),
        other => other,
    }
}

fn steps(source: &dyn ReadAt) -> Result<Option<u64>> {
    let end = source.len()?;
    let mut head = [0; HEADER];
    let got = source.read_at(0, &mut head)?;
    let header = match Header::read(&head[..got]) {
        Ok(header) => header,
        Err(e) if matches!(e.kind(), Kind::Damaged | Kind::Unsupported) => None,
        Err(e) => return Err(e),
    };
    let Some(header) = header.filter(|h| h.content.is_some()) else { return Ok(None) };
    let mut at = header.size as u64;
    for _ in 0..STEPS {
        let mut block = [0; 3];
        source.read_exact_at(at, &mut block)?;
        let [a, b, c] = block;
        let fields = u32::from_le_bytes([a, b, c, 0]);
        // One byte stands for all of a block of equal ones.
        let stored = if fields >> 1 & 3 == 1 { 1 } else { fields >> 3 };
        at += 3 + u64::from(stored);
        if fields & 1 == 1 {
            let whole = at + if header.checksum { 4 } else { 0 };
            return Ok(header.content.filter(|_| whole == end));
        }
    }
    Ok(None)
}
