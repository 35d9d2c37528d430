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
    /// What lies elsewhere on the tape and resembles this.
    pub prefix: Option<Prefix>,
    /// What segments of its class have in common.
    pub dict: Option<Dict>,
}

/// Stretches of the tape that a segment is packed against, and their bytes, one behind the other.
#[derive(Clone)]
pub struct Prefix {
    pub bases: Vec<Base>,
    pub bytes: Arc<Vec<u8>>,
    /// They lie in another container, which need not be there when this one is read.
    pub elsewhere: bool,
}

/// What is saved by what lies elsewhere is so large a part at least: all that is in the segment then needs that.
const WORTH: usize = 16;

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
    let coder = preset.coder_of(raw.class);
    let against = raw.prefix.as_ref().map(|prefix| behind(raw, prefix, coder)).transpose()?;
    let elsewhere = raw.prefix.as_ref().is_some_and(|prefix| prefix.elsewhere);
    let way = match against {
        // Text has no records to filter: what it resembles decides.
        Some(way) if raw.class == Class::Text && !elsewhere => way,
        Some(way) => {
            let alone = alone(raw, coder, preset)?;
            let saved = if elsewhere { alone.size() / WORTH } else { 0 };
            if way.size() + saved < alone.size() { way } else { alone }
        }
        None => alone(raw, coder, preset)?,
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

impl Way {
    fn size(&self) -> usize {
        self.data.len() + size_of::<Base>() * self.bases.len()
    }
}

/// Up to so many bytes the window that zstd chooses by itself holds all of them.
const WINDOW: usize = 4 << 20;

/// The level of zstd where LZMA is used else, which knows of nothing before the segment.
const BEHIND: i32 = 19;

/// Against what it resembles.
fn behind(raw: &Raw, prefix: &Prefix, coder: Coder) -> Result<Way> {
    let mut effort = match coder {
        Coder::Zstd(effort) => effort,
        Coder::Xz(_) => zstd::Effort::level(BEHIND),
    };
    let both = prefix.bytes.len() + raw.bytes.len();
    if both > WINDOW {
        effort.window_log = both.next_power_of_two().ilog2().min(zstd::WINDOW_LOG_MAX);
    }
    let data = zstd::encode(&raw.bytes, effort, zstd::With::Prefix(&prefix.bytes))?;
    Ok(Way { stages: vec![Stage::plain(codec::ZSTD_PREFIX)], bases: prefix.bases.clone(), data })
}

fn alone(raw: &Raw, coder: Coder, preset: &Preset) -> Result<Way> {
    match coder {
        Coder::Zstd(effort) => by_zstd(raw, effort, preset),
        Coder::Xz(level) => by_xz(raw, level),
    }
}

fn by_zstd(raw: &Raw, effort: zstd::Effort, preset: &Preset) -> Result<Way> {
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
