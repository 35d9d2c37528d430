//! What a container knows of damage in it, and how all of it is looked for.

use super::Watch;
use crate::error::Result;
use serde::{Deserialize, Serialize};

/// Damage that reads have met.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// Pieces, segments or blocks of the index, that were damaged and that parity made good; each once.
    pub healed: u64,
    /// Reads of pieces that nothing made good.
    pub lost: u64,
    /// Pieces that are still damaged in the file.
    pub waiting: u64,
}

/// What a look at everything found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scrubbed {
    /// Bytes, decoded, that were read.
    pub bytes: u64,
    /// Files that cannot be read whole.
    pub files: u64,
    /// Other damage that nothing makes good.
    pub other: u64,
}

/// A container that finds damage in itself.
pub trait Heals: Send + Sync {
    /// What tells it from others.
    fn identity(&self) -> [u8; 16];

    /// What reads have met so far.
    fn health(&self) -> Health;

    /// Reads everything that the newest state needs, and all that parity covers. What is damaged is made good, and written
    /// when the container is protected the next time.
    fn scrub(&self, watch: &dyn Watch) -> Result<Scrubbed>;
}
