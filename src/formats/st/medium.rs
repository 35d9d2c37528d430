//! The file of a container, and its seal: all that is read goes through here.

use super::bases::Stores;
use super::healing::Healing;
use super::layout::{Base, RECORD_HEADER_LEN};
use super::rows::SegmentRow;
use super::seal::{Piece, Sealing};
use super::segment;
use crate::codec::damaged;
use crate::codec::id::Id;
use crate::error::Result;
use crate::source::ReadAt;
use std::ops::Deref;
use std::sync::Arc;

/// Bytes that records lie in.
#[derive(Clone)]
pub struct Medium {
    pub(super) source: Arc<dyn ReadAt>,
    pub sealing: Sealing,
    /// The identity of the container, once it is known.
    pub uid: [u8; 16],
    /// What makes damage good.
    pub healing: Arc<Healing>,
    /// What is damaged of a file reads as zeros.
    pub forgives: bool,
    /// What it lies over.
    pub stores: Arc<Stores>,
}

impl Medium {
    pub fn new(source: Arc<dyn ReadAt>, sealing: Sealing) -> Self {
        Self { source, sealing, uid: [0; 16], healing: Arc::default(), forgives: false, stores: Arc::default() }
    }

    pub fn source(&self) -> &Arc<dyn ReadAt> {
        &self.source
    }

    /// Fills `into` with the bytes at `at`, which must have this hash. Where they have not, or cannot be read, parity makes
    /// them good.
    pub fn read_checked(&self, at: u64, into: &mut [u8], hash: &[u8; 32]) -> Result<()> {
        self.read_right(at, into, &|bytes| Id::of(bytes).0 == *hash)
    }

    /// The payload of a segment of this container, as stored.
    pub fn payload(&self, row: &SegmentRow) -> Result<Vec<u8>> {
        let mut payload = vec![0; row.payload_len as usize];
        self.read_checked(place_of(row)?, &mut payload, &row.hash)?;
        Ok(payload)
    }

    /// What a segment of this container is decoded with.
    pub fn bases(&self, row: &SegmentRow) -> Result<Vec<Base>> {
        // Of a sealed one nothing can be read by itself.
        if self.sealing.is_sealed() || row.payload_len <= segment::FRONT as u64 {
            return segment::bases(self.sealing.open(Piece::Segment, &mut self.payload(row)?)?);
        }
        let mut front = vec![0; segment::FRONT];
        self.read_exact_at(place_of(row)?, &mut front)?;
        segment::bases(&front)
    }

    /// The same of bytes that can be told in another way.
    pub fn read_right(&self, at: u64, into: &mut [u8], is_right: &dyn Fn(&[u8]) -> bool) -> Result<()> {
        let read = self.source.read_exact_at(at, into);
        if read.is_ok() && is_right(into) {
            return Ok(());
        }
        if self.healing.heal(&self.source, &self.uid, at, into, is_right) {
            return Ok(());
        }
        read.and(Err(damaged("it fails its check")))
    }
}

/// Where the payload of a segment begins.
fn place_of(row: &SegmentRow) -> Result<u64> {
    row.record.checked_add(RECORD_HEADER_LEN).ok_or_else(|| damaged("its offset is too large"))
}

impl Deref for Medium {
    type Target = dyn ReadAt;

    fn deref(&self) -> &Self::Target {
        &*self.source
    }
}
