//! PPMd: variant I of zip, variant H of 7z. Both end where the length says, and have no check and no points.

use super::input::{Input, unwrap};
use crate::codec::damaged;
use crate::error::{Error, Kind, Result};
use crate::source::{Decoder, Point, ReadAt, Stream};
use ppmd_rust::{Ppmd7Decoder, Ppmd8Decoder, RestoreMethod};
use std::io::Read;
use std::sync::Arc;

/// Memory that a model may have: what zip can ask for is at most 256 MiB, people give 7z up to a gigabyte.
const MEMORY: u32 = 1 << 30;

#[derive(Clone, Copy)]
enum Variant {
    H,
    I(RestoreMethod),
}

/// Data of PPMd.
pub struct Ppmd {
    source: Arc<dyn ReadAt>,
    start: u64,
    variant: Variant,
    order: u32,
    memory: u32,
    len: u64,
}

impl Ppmd {
    /// Method 98 of zip: two bytes hold order, memory and what is done when that is full.
    pub fn in_zip(source: Arc<dyn ReadAt>, len: u64) -> Result<Self> {
        let fields = u16::from_le_bytes(Input::new(source.clone(), 0)?.array()?);
        let restore = match fields >> 12 {
            0 => RestoreMethod::Restart,
            1 => RestoreMethod::CutOff,
            _ => return Err(Error::new(Kind::Unsupported, "PPMd of a kind that is not known")),
        };
        let (order, memory) = (u32::from(fields & 15) + 1, (u32::from(fields >> 4 & 255) + 1) << 20);
        Ok(Self { source, start: 2, variant: Variant::I(restore), order, memory, len })
    }

    /// The method of 7z, whose properties are the order and the memory.
    pub fn in_7z(source: Arc<dyn ReadAt>, order: u8, memory: u32, len: u64) -> Result<Self> {
        if memory > MEMORY {
            let most = MEMORY >> 20;
            return Err(Error::new(
                Kind::Limit,
                format!("PPMd needs {memory} bytes of memory, {most} MiB are allowed"),
            ));
        }
        Ok(Self { source, start: 0, variant: Variant::H, order: order.into(), memory, len })
    }
}

impl Stream for Ppmd {
    fn start(&self, from: Option<&Point>) -> Result<Box<dyn Decoder>> {
        if from.is_some() {
            return Err(damaged("PPMd has no points"));
        }
        let input = Input::new(self.source.clone(), self.start)?;
        let model = match self.variant {
            Variant::H => Ppmd7Decoder::new(input, self.order, self.memory).map(|m| Model::H(Box::new(m))),
            Variant::I(restore) => {
                Ppmd8Decoder::new(input, self.order, self.memory, restore).map(|m| Model::I(Box::new(m)))
            }
        };
        let model = model.map_err(|e| match e {
            ppmd_rust::Error::IoError(e) => unwrap(e).unwrap_or_else(|e| damaged("PPMd").caused_by(e)),
            e => damaged("PPMd with options that cannot be").caused_by(e),
        })?;
        Ok(Box::new(PpmdDecoder { model, memory: self.memory, left: self.len }))
    }

    fn len(&self) -> Option<u64> {
        Some(self.len)
    }
}

enum Model {
    H(Box<Ppmd7Decoder<Input>>),
    I(Box<Ppmd8Decoder<Input>>),
}

struct PpmdDecoder {
    model: Model,
    memory: u32,
    left: u64,
}

impl PpmdDecoder {
    fn input(&self) -> &Input {
        match &self.model {
            Model::H(model) => model.get_ref(),
            Model::I(model) => model.get_ref(),
        }
    }
}

impl Decoder for PpmdDecoder {
    fn read(&mut self, into: &mut [u8]) -> Result<usize> {
        let most = usize::try_from(self.left).map_or(into.len(), |left| left.min(into.len()));
        let into = &mut into[..most];
        if into.is_empty() {
            return Ok(0);
        }
        let done = match &mut self.model {
            Model::H(model) => model.read(into),
            Model::I(model) => model.read(into),
        };
        match done {
            Ok(0) => Err(self.input().torn()),
            Ok(n) => {
                self.left -= n as u64;
                Ok(n)
            }
            Err(e) => Err(unwrap(e).unwrap_or_else(|_| self.input().damaged("PPMd data cannot be decoded"))),
        }
    }

    fn weight(&self) -> usize {
        self.input().weight() + self.memory as usize
    }
}
