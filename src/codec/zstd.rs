//! Zstandard: whole buffers, with a trained dictionary or with earlier bytes as a prefix.
//!
//! Contexts are large (a few hundred KiB up to many MiB) and are kept one to a thread.

use super::damaged;
use crate::error::{Error, Kind, Result};
use std::cell::RefCell;
use zstd::zstd_safe::{CCtx, CDict, CParameter, DCtx, DDict, DParameter, ResetDirective, compress_bound};

thread_local! {
    static DECODER: RefCell<DCtx<'static>> = RefCell::new(DCtx::create());
    static ENCODER: RefCell<CCtx<'static>> = RefCell::new(CCtx::create());
}

/// Largest match window that a decoder accepts, as a power of two: 64 MiB, the largest segment.
pub const WINDOW_LOG_MAX: u32 = 26;

/// A trained dictionary, ready to decode with.
pub struct DecodeDict(DDict<'static>);

impl DecodeDict {
    pub fn new(bytes: &[u8]) -> Result<Self> {
        DDict::try_create(bytes).map(Self).ok_or_else(|| damaged("a dictionary cannot be read"))
    }

    /// Bytes of memory.
    pub fn weight(&self) -> usize {
        self.0.sizeof()
    }
}

/// A trained dictionary, ready to encode with at one level.
pub struct EncodeDict(CDict<'static>);

impl EncodeDict {
    pub fn new(bytes: &[u8], level: i32) -> Self {
        Self(CDict::create(bytes, level))
    }
}

/// What a buffer is encoded or decoded with.
#[derive(Clone, Copy)]
pub enum With<'a, D> {
    Nothing,
    Dict(&'a D),
    /// Earlier bytes that matches may refer to.
    Prefix(&'a [u8]),
}

/// Decodes one frame that must give exactly `len` bytes.
pub fn decode(frame: &[u8], len: usize, with: With<'_, DecodeDict>) -> Result<Vec<u8>> {
    let mut out = Vec::with_capacity(len);
    decode_into(frame, len, with, &mut out)?;
    Ok(out)
}

/// Decodes one frame that gives at most so many bytes.
pub fn decode_most(frame: &[u8], most: usize) -> Result<Vec<u8>> {
    let mut out = Vec::with_capacity(most);
    let done = DECODER.with_borrow_mut(|d| d.decompress(&mut out, frame));
    done.map_err(|code| damaged(format!("zstd: {}", zstd::zstd_safe::get_error_name(code))))?;
    Ok(out)
}

/// The same, into a buffer that is used again; what it holds is replaced.
pub fn decode_into(frame: &[u8], len: usize, with: With<'_, DecodeDict>, out: &mut Vec<u8>) -> Result<()> {
    out.clear();
    out.reserve_exact(len);
    let room = out.capacity();
    let done = match with {
        With::Nothing => DECODER.with_borrow_mut(|d| d.decompress(out, frame)),
        With::Dict(dict) => DECODER.with_borrow_mut(|d| d.decompress_using_ddict(out, frame, &dict.0)),
        With::Prefix(prefix) => decode_behind(frame, prefix, out),
    };
    debug_assert_eq!(out.capacity(), room);
    match done {
        Ok(got) if got == len => Ok(()),
        Ok(got) => Err(damaged(format!("{got} bytes came out of zstd where {len} were expected"))),
        Err(code) => Err(damaged(format!("zstd: {}", zstd::zstd_safe::get_error_name(code)))),
    }
}

/// First bytes of a trained dictionary. zstd takes bytes that begin so for one, where it is not told otherwise.
const DICT_MAGIC: [u8; 4] = 0xEC30_A437u32.to_le_bytes();

fn decode_behind(frame: &[u8], prefix: &[u8], out: &mut Vec<u8>) -> Result<usize, usize> {
    if !prefix.starts_with(&DICT_MAGIC) {
        return DECODER.with_borrow_mut(|d| d.decompress_using_dict(out, frame, prefix));
    }
    let mut decoder = DCtx::create();
    decoder.set_parameter(DParameter::WindowLogMax(WINDOW_LOG_MAX + 1))?;
    decoder.ref_prefix(prefix)?;
    decoder.decompress(out, frame)
}

/// How to encode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Effort {
    pub level: i32,
    /// Match window as a power of two; 0 lets zstd choose by the size of the input.
    pub window_log: u32,
}

impl Effort {
    pub fn level(level: i32) -> Self {
        Self { level, window_log: 0 }
    }
}

/// Encodes a buffer as one frame. Gives the same bytes for the same input.
pub fn encode(bytes: &[u8], effort: Effort, with: With<'_, EncodeDict>) -> Result<Vec<u8>> {
    let mut out = Vec::with_capacity(compress_bound(bytes.len()));
    let done = match with {
        With::Prefix(prefix) => encode_behind(bytes, effort, prefix, &mut out),
        With::Dict(dict) => ENCODER.with_borrow_mut(|e| e.compress_using_cdict(&mut out, bytes, &dict.0)),
        With::Nothing => ENCODER.with_borrow_mut(|e| {
            e.reset(ResetDirective::SessionAndParameters)?;
            set(e, effort)?;
            e.compress2(&mut out, bytes)
        }),
    };
    done.map_err(|code| Error::new(Kind::System, format!("zstd: {}", zstd::zstd_safe::get_error_name(code))))?;
    out.shrink_to_fit();
    Ok(out)
}

fn set(encoder: &mut CCtx<'_>, effort: Effort) -> Result<usize, usize> {
    encoder.set_parameter(CParameter::CompressionLevel(effort.level))?;
    if effort.window_log > 0 {
        encoder.set_parameter(CParameter::WindowLog(effort.window_log))?;
        encoder.set_parameter(CParameter::EnableLongDistanceMatching(true))?;
    }
    Ok(0)
}

fn encode_behind(bytes: &[u8], effort: Effort, prefix: &[u8], out: &mut Vec<u8>) -> Result<usize, usize> {
    if !prefix.starts_with(&DICT_MAGIC) && effort.window_log == 0 {
        // The context of the thread, and not a new one of several MiB.
        return ENCODER.with_borrow_mut(|e| e.compress_using_dict(out, bytes, prefix, effort.level));
    }
    let mut encoder = CCtx::create();
    set(&mut encoder, effort)?;
    encoder.ref_prefix(prefix)?;
    encoder.compress2(out, bytes)
}

/// Trains a dictionary of at most `size` bytes from samples, or gives `None` when they are too few or too different.
pub fn train(samples: &[u8], sizes: &[usize], size: usize) -> Option<Vec<u8>> {
    let mut dict = Vec::with_capacity(size);
    zstd::zstd_safe::train_from_buffer(&mut dict, samples, sizes).ok()?;
    Some(dict)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(n: usize) -> Vec<u8> {
        (0..n).flat_map(|i| format!("line {} of {}\n", i * 7919 % 1013, i % 13).into_bytes()).collect()
    }

    #[test]
    fn buffers_come_back_with_and_without_help() {
        let (bytes, earlier) = (text(4000), text(9000));
        let samples: Vec<u8> = (0..400).flat_map(|i| text(20 + i % 7)).collect();
        let sizes: Vec<usize> = (0..400).map(|i| text(20 + i % 7).len()).collect();
        let dict = train(&samples, &sizes, 4096).unwrap();
        let (into, from) = (EncodeDict::new(&dict, 9), DecodeDict::new(&dict).unwrap());
        let effort = Effort::level(9);
        let plain = encode(&bytes, effort, With::Nothing).unwrap();
        let helped = encode(&bytes, effort, With::Dict(&into)).unwrap();
        let behind = encode(&bytes, effort, With::Prefix(&earlier)).unwrap();
        assert_eq!(decode(&plain, bytes.len(), With::Nothing).unwrap(), bytes);
        assert_eq!(decode(&helped, bytes.len(), With::Dict(&from)).unwrap(), bytes);
        assert_eq!(decode(&behind, bytes.len(), With::Prefix(&earlier)).unwrap(), bytes);
        assert!(behind.len() < plain.len() / 4);
    }

    #[test]
    fn a_wrong_length_or_a_damaged_frame_is_an_error() {
        let bytes = text(100);
        let mut frame = encode(&bytes, Effort::level(3), With::Nothing).unwrap();
        assert!(decode(&frame, bytes.len() - 1, With::Nothing).is_err());
        assert!(decode(&frame, bytes.len() + 1, With::Nothing).is_err());
        frame[0] ^= 1;
        assert!(decode(&frame, bytes.len(), With::Nothing).is_err());
    }
}
