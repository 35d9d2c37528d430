//! Segments: what a SEG payload is made of, and its way through the codecs in both directions.
//!
//! ```text
//! payload = head 24 ‖ bases × 16 ‖ stages × (codec u16, length u16, parameters) ‖ data
//! ```
//!
//! Encoding runs the stages first to last, decoding last to first. Bases are stretches of the tape that the codec works
//! with: a dictionary is one, the earlier version of a file is one.

use super::layout::{Base, SegmentHead, StageHead};
use super::limits;
use crate::codec::filter::{Delta16, Split};
use crate::codec::{damaged, xz, zstd};
use crate::error::{Error, Kind, Result};
use std::cell::RefCell;
use zerocopy::{FromBytes, FromZeros, IntoBytes};

/// Codec numbers of version 1. Those that are reserved and not written stand in FORMAT.md.
pub mod codec {
    pub const STORE: u16 = 0;
    pub const ZSTD: u16 = 1;
    /// zstd, with the bases as bytes before the segment.
    pub const ZSTD_PREFIX: u16 = 2;
    /// zstd, with the one base as a trained dictionary.
    pub const ZSTD_DICT: u16 = 3;
    /// An xz stream.
    pub const XZ: u16 = 4;
    /// Filter: 16-bit differences, see [`Delta16`](crate::codec::filter::Delta16).
    pub const DELTA16: u16 = 17;
    /// Filter: fields of records gathered, see [`Split`](crate::codec::filter::Split).
    pub const SPLIT: u16 = 18;
}

/// One step of the way from raw bytes to stored ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stage {
    pub codec: u16,
    pub params: Vec<u8>,
}

impl Stage {
    pub fn plain(codec: u16) -> Self {
        Self { codec, params: Vec::new() }
    }

    pub fn split(filter: &Split) -> Self {
        Self { codec: codec::SPLIT, params: filter.params() }
    }

    pub fn delta(filter: &Delta16) -> Self {
        Self { codec: codec::DELTA16, params: filter.params() }
    }
}

/// A payload taken apart. Nothing is decoded yet.
#[derive(Debug)]
pub struct Parts<'a> {
    pub head: SegmentHead,
    pub bases: Vec<Base>,
    /// In the order of encoding.
    pub stages: Vec<Stage>,
    pub data: &'a [u8],
}

impl Parts<'_> {
    /// The codec that made the stored bytes.
    pub fn codec(&self) -> u16 {
        self.stages.last().map_or(codec::STORE, |stage| stage.codec)
    }

    /// Moves what it is decoded with to another place of the tape.
    pub fn shift(&mut self, by: u64) -> Result<()> {
        for base in &mut self.bases {
            let moved = base.address.get().checked_add(by).filter(|address| *address <= limits::ADDRESS);
            base.address = moved.ok_or_else(|| damaged("its base lies too far out on the tape"))?.into();
        }
        Ok(())
    }
}

/// Bytes at the beginning of a payload in which all its bases stand.
pub const FRONT: usize = size_of::<SegmentHead>() + size_of::<Base>() * limits::BASES as usize;

/// What a segment is decoded with, from the front of its payload.
pub fn bases(front: &[u8]) -> Result<Vec<Base>> {
    let cut = || damaged("it is cut off");
    let (head, rest) = SegmentHead::read_from_prefix(front).map_err(|_| cut())?;
    let (bases, _) = <[Base]>::ref_from_prefix_with_elems(rest, head.bases.get().into()).map_err(|_| cut())?;
    Ok(bases.to_vec())
}

/// Takes a payload apart and checks it against what the index says of it.
pub fn parse(payload: &[u8], address: u64, raw_len: u64) -> Result<Parts<'_>> {
    let cut = || damaged("it is cut off");
    let (head, rest) = SegmentHead::read_from_prefix(payload).map_err(|_| cut())?;
    if head.address.get() != address || head.raw_len.get() != raw_len || raw_len > limits::SEGMENT_RAW {
        return Err(other());
    }
    if head.bases.get() > limits::BASES || head.stages > limits::STAGES {
        return Err(damaged("it has too many bases or stages"));
    }
    let (bases, mut rest) = <[Base]>::ref_from_prefix_with_elems(rest, head.bases.get().into()).map_err(|_| cut())?;
    let mut stages = Vec::new();
    for _ in 0..head.stages {
        let (stage, behind) = StageHead::read_from_prefix(rest).map_err(|_| cut())?;
        let (params, behind) = behind.split_at_checked(stage.params.get().into()).ok_or_else(cut)?;
        stages.push(Stage { codec: stage.codec.get(), params: params.to_vec() });
        rest = behind;
    }
    let total = bases.iter().try_fold(0u64, |sum, base| sum.checked_add(base.len.get()));
    if total.is_none_or(|total| total > limits::BASE_LEN) {
        return Err(damaged("its bases are too long"));
    }
    Ok(Parts { head, bases: bases.to_vec(), stages, data: rest })
}

/// The error of a record that is not the segment of its row.
fn other() -> Error {
    damaged("it is not the segment that the index names")
}

fn unknown(codec: u16) -> Error {
    Error::new(Kind::Unsupported, format!("it is packed with codec {codec}, which this version does not have"))
        .hint("open it with a newer version of stmount")
}

/// What a codec is given besides the data.
pub enum Help<'a> {
    Nothing,
    Prefix(&'a [u8]),
    Dict(&'a zstd::DecodeDict),
}

thread_local! {
    /// What lies between the compressing stage and the filters.
    static BETWEEN: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Decodes the data of a segment into a buffer that is used again.
pub fn decode(parts: &Parts<'_>, help: Help<'_>, out: &mut Vec<u8>) -> Result<()> {
    uncompress(parts, help, out)?;
    let filters = parts.stages.split_last().map_or(&[][..], |(_, filters)| filters);
    for stage in filters.iter().rev() {
        match stage.codec {
            codec::SPLIT => BETWEEN.with_borrow_mut(|between| {
                std::mem::swap(between, out);
                Split::from_params(&stage.params).map(|split| split.decode(between, out))
            })?,
            codec::DELTA16 => Delta16::from_params(&stage.params)?.decode(out),
            other => return Err(unknown(other)),
        }
    }
    Ok(())
}

/// Undoes the compressing stage.
fn uncompress(parts: &Parts<'_>, help: Help<'_>, out: &mut Vec<u8>) -> Result<()> {
    let len = parts.head.raw_len.get() as usize;
    let with = match (parts.codec(), help) {
        (codec::STORE, _) if parts.data.len() != len => {
            return Err(damaged("it is stored and has another length than it says"));
        }
        (codec::STORE, _) => {
            out.clear();
            out.extend_from_slice(parts.data);
            return Ok(());
        }
        (codec::XZ, _) => return xz::decode(parts.data, len).map(|raw| *out = raw),
        (codec::ZSTD, _) => zstd::With::Nothing,
        (codec::ZSTD_PREFIX, Help::Prefix(prefix)) => zstd::With::Prefix(prefix),
        (codec::ZSTD_DICT, Help::Dict(dict)) => zstd::With::Dict(dict),
        (codec::ZSTD_PREFIX | codec::ZSTD_DICT, _) => return Err(damaged("it lacks its base")),
        (other, _) => return Err(unknown(other)),
    };
    zstd::decode_into(parts.data, len, with, out)
}

/// The front of a payload: all but the data.
pub fn front(address: u64, raw_len: u64, stages: &[Stage], bases: &[Base]) -> Vec<u8> {
    let mut head = SegmentHead::new_zeroed();
    head.address = address.into();
    head.raw_len = raw_len.into();
    head.stages = stages.len() as u8;
    head.bases = (bases.len() as u16).into();
    let mut out = head.as_bytes().to_vec();
    bases.iter().for_each(|base| out.extend_from_slice(base.as_bytes()));
    for stage in stages {
        let head = StageHead { codec: stage.codec.into(), params: (stage.params.len() as u16).into() };
        out.extend_from_slice(head.as_bytes());
        out.extend_from_slice(&stage.params);
    }
    out
}
