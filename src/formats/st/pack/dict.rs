//! Dictionaries: what the segments of a class begin with in common, trained once from samples of the first batch and kept on
//! the tape like any other data.
//!
//! A dictionary makes up for small segments: with one, 64 KiB pack as well as 256 KiB do without. For large segments it
//! saves 2 to 4 %. It is kept only when a trial says that it saves at least twice what it occupies itself.

use super::super::layout::Base;
use super::super::plan::Class;
use super::guess;
use crate::codec::zstd::{self, EncodeDict};
use crate::error::Result;
use std::sync::Arc;

/// Bytes of a dictionary, at most.
const SIZE: usize = 64 << 10;

/// Files that are sampled for a class, and the bytes taken of each.
pub const FILES: usize = 192;
pub const PIECE: usize = 12 << 10;

/// Fewer samples train nothing useful.
const FEWEST: usize = 24;

/// A dictionary on the tape, ready for the workers.
#[derive(Clone)]
pub struct Dict {
    pub base: Base,
    pub encoder: Arc<EncodeDict>,
}

/// Samples of one class.
#[derive(Default)]
pub struct Samples {
    bytes: Vec<u8>,
    sizes: Vec<usize>,
}

impl Samples {
    pub fn add(&mut self, piece: &[u8]) {
        self.bytes.extend_from_slice(piece);
        self.sizes.push(piece.len());
    }

    /// A dictionary for `total` bytes of such data in segments of `segment` bytes, if it is worth its place.
    pub fn train(&self, level: i32, segment: usize, total: u64) -> Result<Option<Vec<u8>>> {
        // The last fifth of the samples is for the trial.
        let train = self.sizes.len() - self.sizes.len() / 5;
        if train < FEWEST {
            return Ok(None);
        }
        let split: usize = self.sizes[..train].iter().sum();
        let (learn, probe) = self.bytes.split_at(split);
        let Some(dict) = zstd::train(learn, &self.sizes[..train], SIZE) else { return Ok(None) };
        let probe = guess::sample(probe, 1, segment);
        let effort = zstd::Effort::level(level);
        let plain = zstd::encode(&probe, effort, zstd::With::Nothing)?.len();
        let helped = zstd::encode(&probe, effort, zstd::With::Dict(&EncodeDict::new(&dict, level)))?.len();
        let saved = plain.saturating_sub(helped) as u64;
        let whole = saved * (total / probe.len().max(1) as u64);
        let own = zstd::encode(&dict, effort, zstd::With::Nothing)?.len() as u64;
        Ok((whole > 2 * own).then_some(dict))
    }
}

/// The dictionaries of the classes.
#[derive(Default)]
pub struct Dicts {
    pub text: Option<Dict>,
    pub binary: Option<Dict>,
}

impl Dicts {
    pub fn of(&self, class: Class) -> Option<&Dict> {
        match class {
            Class::Text => self.text.as_ref(),
            Class::Binary => self.binary.as_ref(),
        }
    }
}
