//! From raw bytes to a SEG payload, on a worker.

use super::super::layout::Base;
use super::super::plan::{Class, Preset};
use super::super::segment::{Stage, codec, front};
use crate::codec::zstd;
use crate::error::Result;

/// A payload that is ready to be written.
pub struct Segment {
    pub address: u64,
    pub raw_len: u64,
    pub front: Vec<u8>,
    pub data: Vec<u8>,
}

/// Encodes a segment in the smallest of the ways that the preset tries; what does not shrink is stored.
pub fn encode(address: u64, raw: Vec<u8>, _class: Class, preset: &Preset) -> Result<Segment> {
    let raw_len = raw.len() as u64;
    let packed = zstd::encode(&raw, zstd::Effort::level(preset.zstd), zstd::With::Nothing)?;
    let zstd = Stage::plain(codec::ZSTD);
    let (stages, data) = if packed.len() < raw.len() { (vec![zstd], packed) } else { (Vec::new(), raw) };
    let bases: [Base; 0] = [];
    Ok(Segment { address, raw_len, front: front(address, raw_len, &stages, &bases), data })
}
