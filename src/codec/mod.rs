//! Floor 0: bytes in, bytes out. No I/O, no names, no threads, no clock.

pub mod adler;
pub mod bits;
pub mod brotli;
pub mod bzip2;
pub mod cdc;
pub mod charset;
pub mod filter;
pub mod id;
pub mod inflate;
pub mod lzma;
pub mod lzw;
pub mod parity;
pub mod pieces;
pub mod rar29;
pub mod seal;
pub mod spread;
pub mod varint;
pub mod whole;
pub mod xz;
pub mod zframe;
pub mod zstd;

use crate::error::{Error, Kind, Result};

/// The error of bytes that do not decode.
pub fn damaged(what: impl Into<String>) -> Error {
    Error::new(Kind::Damaged, what)
}

/// Where a codec that takes its bytes as it needs them gets them from.
pub trait Supply {
    /// At least one byte, unless there are no more.
    fn some(&mut self) -> Result<&[u8]>;

    /// Takes the first `n` of these.
    fn used(&mut self, n: usize);

    /// The error of bytes that end too early.
    fn torn(&self) -> Error;
}

impl Supply for &[u8] {
    fn some(&mut self) -> Result<&[u8]> {
        Ok(self)
    }

    fn used(&mut self, n: usize) {
        *self = &self[n.min(self.len())..];
    }

    fn torn(&self) -> Error {
        damaged("the bytes end too early")
    }
}
