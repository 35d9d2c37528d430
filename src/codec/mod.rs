//! Floor 0: bytes in, bytes out. No I/O, no names, no threads, no clock.

pub mod adler;
pub mod cdc;
pub mod charset;
pub mod filter;
pub mod id;
pub mod inflate;
pub mod pieces;
pub mod varint;
pub mod xz;
pub mod zstd;

use crate::error::{Error, Kind};

/// The error of bytes that do not decode.
pub fn damaged(what: impl Into<String>) -> Error {
    Error::new(Kind::Damaged, what)
}
