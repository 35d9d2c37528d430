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
use crate::codec::{damaged, xz, zstd};
use crate::error::{Error, Kind, Result};
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
}

/// A payload taken apart. Nothing is decoded yet.
#[derive(Debug)]
pub struct Parts<'a> {
    pub head: SegmentHead,
    pub bases: Vec<Base>,
    pub codec: u16,
    pub data: &'a [u8],
}

/// Takes a payload apart and checks it against what the index says of it.
pub fn parse(payload: &[u8], address: u64, raw_len: u64) -> Result<Parts<'_>> {
    let cut = || damaged("it is cut off");
    let (head, rest) = SegmentHead::read_from_prefix(payload).map_err(|_| cut())?;
    if head.address.get() != address || head.raw_len.get() != raw_len || raw_len > limits::SEGMENT_RAW {
        return Err(damaged("it is not the segment that the index names"));
    }
    if head.bases.get() > limits::BASES || head.stages > limits::STAGES {
        return Err(damaged("it has too many bases or stages"));
    }
    let (bases, mut rest) = <[Base]>::ref_from_prefix_with_elems(rest, head.bases.get().into()).map_err(|_| cut())?;
    let mut stages = Vec::new();
    for _ in 0..head.stages {
        let (stage, behind) = StageHead::read_from_prefix(rest).map_err(|_| cut())?;
        let (_params, behind) = behind.split_at_checked(stage.params.get().into()).ok_or_else(cut)?;
        stages.push(stage.codec.get());
        rest = behind;
    }
    let codec = match stages[..] {
        [] => codec::STORE,
        [one] => one,
        // Chains are laid out for filters, of which version 1 writes none.
        [.., last] => return Err(unknown(last)),
    };
    let total = bases.iter().try_fold(0u64, |sum, base| sum.checked_add(base.len.get()));
    if total.is_none_or(|total| total > limits::BASE_LEN) {
        return Err(damaged("its bases are too long"));
    }
    Ok(Parts { head, bases: bases.to_vec(), codec, data: rest })
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

/// Decodes the data of a segment.
pub fn decode(parts: &Parts<'_>, help: Help<'_>) -> Result<Vec<u8>> {
    let len = parts.head.raw_len.get() as usize;
    match (parts.codec, help) {
        (codec::STORE, _) if parts.data.len() == len => Ok(parts.data.to_vec()),
        (codec::STORE, _) => Err(damaged("it is stored and has another length than it says")),
        (codec::ZSTD, _) => zstd::decode(parts.data, len, zstd::With::Nothing),
        (codec::ZSTD_PREFIX, Help::Prefix(prefix)) => zstd::decode(parts.data, len, zstd::With::Prefix(prefix)),
        (codec::ZSTD_DICT, Help::Dict(dict)) => zstd::decode(parts.data, len, zstd::With::Dict(dict)),
        (codec::ZSTD_PREFIX | codec::ZSTD_DICT, _) => Err(damaged("it lacks its base")),
        (codec::XZ, _) => xz::decode(parts.data, len),
        (other, _) => Err(unknown(other)),
    }
}

/// The front of a payload: all but the data.
pub fn front(address: u64, raw_len: u64, codec: u16, bases: &[Base]) -> Vec<u8> {
    let mut head = SegmentHead::new_zeroed();
    head.address = address.into();
    head.raw_len = raw_len.into();
    head.stages = u8::from(codec != codec::STORE);
    head.bases = (bases.len() as u16).into();
    let mut out = head.as_bytes().to_vec();
    bases.iter().for_each(|base| out.extend_from_slice(base.as_bytes()));
    if codec != codec::STORE {
        out.extend_from_slice(StageHead { codec: codec.into(), params: 0.into() }.as_bytes());
    }
    out
}
