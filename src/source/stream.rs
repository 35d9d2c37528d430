//! Streams that are decoded from their front: a compressed file, a member of an archive, a solid block.
//!
//! A [`Stream`] is what can be decoded, a [`Decoder`] is one who is at it and has come to some position. Some codecs can
//! begin anew in the middle: where a block of deflate or bzip2 begins, a frame of zstd, a block of xz. Such a place is a
//! [`Point`]. Points are found while decoding, or are known ahead where the stream has an index. Who keeps pages, decoders
//! and points, and so makes a stream readable at any offset, is [`Forward`](super::Forward).

use crate::error::Result;
use std::sync::Arc;

/// Where decoding can begin without what stands before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Point {
    /// Position in the decoded bytes.
    pub at: u64,
    /// What the codec needs to begin here: an offset into the source, a window, whatever. Only its [`Stream`] understands
    /// it, and takes nothing in it on trust: it may come from a file.
    pub state: Arc<[u8]>,
}

/// Bytes that are decoded from their front, or from a point.
// A length that need not be true, or is not known, does not tell whether there are no bytes.
#[allow(clippy::len_without_is_empty)]
pub trait Stream: Send + Sync {
    /// Begins to decode, at the front or at a point.
    fn start(&self, from: Option<&Point>) -> Result<Box<dyn Decoder>>;

    /// The decoded length, where the stream says it. What a stream says need not be true.
    fn len(&self) -> Option<u64>;

    /// Points that are known without decoding anything, in ascending order.
    fn points(&self) -> Result<Vec<Point>> {
        Ok(Vec::new())
    }
}

/// Decodes on from where it is.
pub trait Decoder: Send {
    /// The next decoded bytes; 0 at the end, and only there. After an error it is of no more use.
    ///
    /// # Errors
    /// `Damaged` when the source ends too early, holds what the codec cannot be, or fails its check. A check over the
    /// whole can only be made by who began at the front.
    fn read(&mut self, into: &mut [u8]) -> Result<usize>;

    /// Bytes of memory that it occupies: dictionaries and buffers.
    fn weight(&self) -> usize;

    /// The last point that was passed, where it is at least `apart` decoded bytes behind the one that was asked for
    /// before, or behind where this decoder began. To make one may cost copying a window, so it is made only when it is due.
    fn point(&mut self, _apart: u64) -> Option<Point> {
        None
    }
}
