//! Compressed streams: what can be decoded from its front, and from its points.
//!
//! ```text
//!   codec/           bytes in, bytes out
//!   streams/input    reads a source in blocks
//!   streams/gzip     what stands around: headers, members, checks; where decoding can begin
//! ```

mod deflate;
mod gzip;
mod input;

pub use deflate::{Deflate, Deflate64, Zlib};
pub use gzip::Gzip;
