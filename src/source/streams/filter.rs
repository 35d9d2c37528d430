//! Filters: what a packer did to the data before it compressed them, so that they compress better. Jumps in machine code
//! become addresses, samples become differences. They keep the length, and are undone behind the decoder.
//!
//! ```text
//!   LZMA ─► Filtered ─► data          LZMA ─► main ┐
//!                                     LZMA ─► calls├─► Bcj2 ─► data
//!                                     LZMA ─► jumps│
//!                                      raw ─► bits ┘
//! ```

use super::foreign::{Feed, Foreign};
use super::input::Input;
use crate::codec::damaged;
use crate::error::Result;
use crate::source::{Decoder, Point, ReadAt, Stream};
use lzma_rust2::filter::bcj::BcjReader;
use lzma_rust2::filter::bcj2::Bcj2Reader;
use lzma_rust2::filter::delta::DeltaReader;
use std::sync::Arc;

/// Bytes that are not compressed, as a stream.
pub struct Raw(pub Arc<dyn ReadAt>);

impl Stream for Raw {
    fn start(&self, from: Option<&Point>) -> Result<Box<dyn Decoder>> {
        let at = from.map_or(0, |point| point.at);
        Ok(Box::new(RawDecoder(Input::new(self.0.clone(), at)?)))
    }

    fn len(&self) -> Option<u64> {
        self.0.len().ok()
    }
}

struct RawDecoder(Input);

impl Decoder for RawDecoder {
    fn read(&mut self, into: &mut [u8]) -> Result<usize> {
        let bytes = self.0.some()?;
        let len = bytes.len().min(into.len());
        into[..len].copy_from_slice(&bytes[..len]);
        self.0.used(len);
        Ok(len)
    }

    fn weight(&self) -> usize {
        self.0.weight()
    }

    fn point(&mut self, _apart: u64) -> Option<Point> {
        None
    }
}

/// A filter with one input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filter {
    X86,
    PowerPc,
    Ia64,
    Arm,
    ArmThumb,
    Sparc,
    Arm64,
    RiscV,
    /// Differences between bytes so far apart.
    Delta(usize),
    /// The bytes of words of two or of four in the other order.
    Swap(usize),
}

/// Memory that a filter takes beside its input.
const BESIDES: usize = 8 << 10;

/// A stream with a filter that is undone. `start` is the address at which the machine code begins.
pub struct Filtered {
    inner: Arc<dyn Stream>,
    filter: Filter,
    start: u32,
}

impl Filtered {
    pub fn new(inner: Arc<dyn Stream>, filter: Filter, start: u32) -> Self {
        Self { inner, filter, start }
    }
}

impl Stream for Filtered {
    fn start(&self, from: Option<&Point>) -> Result<Box<dyn Decoder>> {
        if from.is_some() {
            return Err(damaged("a filter has no points"));
        }
        let inner = self.inner.start(None)?;
        let weight = inner.weight() + BESIDES;
        let (feed, at) = (Feed(inner), self.start as usize);
        let bcj = match self.filter {
            Filter::X86 => BcjReader::new_x86(feed, at),
            Filter::PowerPc => BcjReader::new_ppc(feed, at),
            Filter::Ia64 => BcjReader::new_ia64(feed, at),
            Filter::Arm => BcjReader::new_arm(feed, at),
            Filter::ArmThumb => BcjReader::new_arm_thumb(feed, at),
            Filter::Sparc => BcjReader::new_sparc(feed, at),
            Filter::Arm64 => BcjReader::new_arm64(feed, at),
            Filter::RiscV => BcjReader::new_riscv(feed, at),
            Filter::Delta(distance) => {
                return Ok(Box::new(Foreign::new(DeltaReader::new(feed, distance), "delta", weight)));
            }
            Filter::Swap(width) => return Ok(Box::new(Swapped { inner: feed.0, width, rest: Vec::new() })),
        };
        Ok(Box::new(Foreign::new(bcj, "BCJ", weight)))
    }

    fn len(&self) -> Option<u64> {
        self.inner.len()
    }
}

/// Words whose bytes come out in the other order; what is no whole word at the end stays as it is.
struct Swapped {
    inner: Box<dyn Decoder>,
    width: usize,
    /// What was decoded and not handed out, last byte first.
    rest: Vec<u8>,
}

impl Decoder for Swapped {
    fn read(&mut self, into: &mut [u8]) -> Result<usize> {
        if self.rest.is_empty() {
            self.fill()?;
        }
        let len = self.rest.len().min(into.len());
        for (to, byte) in into.iter_mut().zip(self.rest.drain(self.rest.len() - len..).rev()) {
            *to = byte;
        }
        Ok(len)
    }

    fn weight(&self) -> usize {
        self.inner.weight() + BESIDES
    }
}

impl Swapped {
    fn fill(&mut self) -> Result<()> {
        let mut block = vec![0; 4096];
        let mut got = 0;
        while got < block.len() {
            match self.inner.read(&mut block[got..])? {
                0 => break,
                more => got += more,
            }
        }
        block.truncate(got);
        block.chunks_exact_mut(self.width).for_each(<[u8]>::reverse);
        block.reverse();
        self.rest = block;
        Ok(())
    }
}

/// Machine code of x86 in four streams: everything else, the targets of calls and of jumps, and which is which.
pub struct Bcj2 {
    inputs: [Arc<dyn Stream>; 4],
    len: u64,
}

impl Bcj2 {
    pub fn new(inputs: [Arc<dyn Stream>; 4], len: u64) -> Self {
        Self { inputs, len }
    }
}

impl Stream for Bcj2 {
    fn start(&self, from: Option<&Point>) -> Result<Box<dyn Decoder>> {
        if from.is_some() {
            return Err(damaged("BCJ2 has no points"));
        }
        let inputs = self.inputs.iter().map(|input| input.start(None)).collect::<Result<Vec<_>>>()?;
        let weight: usize = inputs.iter().map(|input| input.weight()).sum();
        let reader = Bcj2Reader::try_new(inputs.into_iter().map(Feed).collect(), self.len);
        let reader = reader.map_err(|e| super::foreign::error(e, "BCJ2"))?;
        Ok(Box::new(Foreign::new(reader, "BCJ2", weight + 4 * BESIDES)))
    }

    fn len(&self) -> Option<u64> {
        Some(self.len)
    }
}
