//! From raw bytes to a SEG payload, on a worker.

use super::super::layout::Base;
use super::super::plan::{Class, Coder, Preset};
use super::super::seal::{Piece, Sealing};
use super::super::segment::{Stage, codec, front};
use super::dict::Dict;
use super::guess::{self, Filter};
use crate::codec::{xz, zstd};
use crate::error::Result;
use std::sync::Arc;

/// A segment on its way to a worker.
pub struct Raw {
    pub address: u64,
    pub bytes: Arc<Vec<u8>>,
    pub class: Class,
    /// An earlier stretch of the tape that this one resembles.
    pub base: Option<(Base, Arc<Vec<u8>>)>,
    /// What segments of its class have in common.
    pub dict: Option<Dict>,
}

/// A payload that is ready to be written.
pub struct Segment {
    pub address: u64,
    pub raw_len: u64,
    pub front: Vec<u8>,
    pub data: Vec<u8>,
}

/// Stages and bases, and what they make of the bytes.
struct Way {
    stages: Vec<Stage>,
    bases: Vec<Base>,
    data: Vec<u8>,
}

/// Encodes a segment, and seals it; what hardly shrinks is stored, so that reading it costs no decoding.
pub fn encode(raw: &Raw, preset: &Preset, sealing: &Sealing) -> Result<Segment> {
    let bytes = &raw.bytes[..];
    let way = match preset.coder_of(raw.class) {
        Coder::Zstd(effort) => by_zstd(raw, effort, preset)?,
        Coder::Xz(level) => by_xz(raw, level)?,
    };
    let raw_len = bytes.len() as u64;
    let (stages, bases, data) = if way.data.len() < bytes.len() - bytes.len() / 128 {
        (way.stages, way.bases, way.data)
    } else {
        (Vec::new(), Vec::new(), bytes.to_vec())
    };
    let front = front(raw.address, raw_len, &stages, &bases);
    let (front, data) = match sealing.close(Piece::Segment, &[&front, &data])? {
        Some(sealed) => (Vec::new(), sealed),
        None => (front, data),
    };
    Ok(Segment { address: raw.address, raw_len, front, data })
}

/// The smaller of two ways: against the base, where there is one, or by itself with a filter. Text has no records to
/// filter, so its base decides.
fn by_zstd(raw: &Raw, effort: zstd::Effort, preset: &Preset) -> Result<Way> {
    let against = match &raw.base {
        Some((base, prefix)) => {
            let data = zstd::encode(&raw.bytes, effort, zstd::With::Prefix(prefix))?;
            Some(Way { stages: vec![Stage::plain(codec::ZSTD_PREFIX)], bases: vec![*base], data })
        }
        None => None,
    };
    match against {
        Some(way) if raw.class == Class::Text => Ok(way),
        Some(way) => {
            let alone = by_itself(raw, effort, preset)?;
            Ok(if way.data.len() < alone.data.len() { way } else { alone })
        }
        None => by_itself(raw, effort, preset),
    }
}

fn by_itself(raw: &Raw, effort: zstd::Effort, preset: &Preset) -> Result<Way> {
    let looks = preset.filters && raw.class == Class::Binary;
    let filter = if looks { guess::filter(&raw.bytes)? } else { Filter::None };
    if let (Filter::None, Some(dict)) = (&filter, &raw.dict) {
        let data = zstd::encode(&raw.bytes, effort, zstd::With::Dict(&*dict.encoder))?;
        return Ok(Way { stages: vec![Stage::plain(codec::ZSTD_DICT)], bases: vec![dict.base], data });
    }
    let data = zstd::encode(&filter.apply(&raw.bytes), effort, zstd::With::Nothing)?;
    Ok(Way { stages: stages(&filter, codec::ZSTD), bases: Vec::new(), data })
}

/// Context bits of LZMA for text, and for records of four and of eight bytes: the low bits of the position, not the byte
/// before, tell what comes next.
const CONTEXTS: [(u32, u32, u32); 3] = [(3, 0, 2), (0, 2, 2), (0, 3, 3)];

fn by_xz(raw: &Raw, preset: u32) -> Result<Way> {
    let plain = zstd::encode(&raw.bytes, zstd::Effort::level(3), zstd::With::Nothing)?;
    if plain.len() > raw.bytes.len() - raw.bytes.len() / 50 {
        // Packed already: LZMA finds no more than zstd does.
        return Ok(Way { stages: stages(&Filter::None, codec::ZSTD), bases: Vec::new(), data: plain });
    }
    let filter = guess::filter(&raw.bytes)?;
    let filtered = filter.apply(&raw.bytes);
    let plain = best_contexts(&raw.bytes, &CONTEXTS)?;
    let split = if filter == Filter::None { plain } else { best_contexts(&filtered, &[CONTEXTS[0], (0, 0, 0)])? };
    let helps = split.0 < plain.0;
    let (filter, bytes) = if helps { (filter, &filtered[..]) } else { (Filter::None, &raw.bytes[..]) };
    let lc_lp_pb = if helps { split.1 } else { plain.1 };
    let data = xz::encode(bytes, xz::Effort { preset, lc_lp_pb })?;
    Ok(Way { stages: stages(&filter, codec::XZ), bases: Vec::new(), data })
}

/// The context bits that make a sample smallest, and how small.
fn best_contexts(bytes: &[u8], choices: &[(u32, u32, u32)]) -> Result<(usize, (u32, u32, u32))> {
    let sample = guess::sample(bytes, 8, 16 << 10);
    let mut best = (usize::MAX, choices[0]);
    for &lc_lp_pb in choices {
        best = best.min((xz::encode(&sample, xz::Effort { preset: 1, lc_lp_pb })?.len(), lc_lp_pb));
    }
    Ok(best)
}

fn stages(filter: &Filter, last: u16) -> Vec<Stage> {
    let mut stages = filter.stages();
    stages.push(Stage::plain(last));
    stages
}
