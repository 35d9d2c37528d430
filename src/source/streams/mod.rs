//! Compressed streams: what can be decoded from its front, and from its points.
//!
//! ```text
//!   codec/           bytes in, bytes out
//!   streams/input    reads a source in blocks
//!   streams/coded    what liblzma decodes of it
//!   streams/gzip …   what stands around: headers, members, checks; where decoding can begin
//!   streams/pushed   codecs that write by themselves, on a thread of their own
//!   streams/kinds    which of them a file is
//! ```
//!
//! | | points | checks |
//! |---|---|---|
//! | gzip, zlib, deflate | each block, each member | CRC-32 and length, Adler-32, none |
//! | bzip2 | each block | CRC-32 of each block and of all |
//! | xz | each block, known ahead | as the file has it |
//! | lzip | each member, known ahead | CRC-32 |
//! | LZMA2 | where the dictionary is emptied | none |
//! | zstd | each frame, known ahead in the seekable format | XXH64 where the frame has it |
//! | lz4 | each frame, each block where they are independent | XXH32 where the frame has it |
//! | compress | where the table is emptied | none |
//! | LZMA, brotli, PPMd, filters | none | none |

mod brotli;
mod bzip2;
mod checked;
mod coded;
mod compress;
mod deflate;
mod filter;
mod foreign;
mod gzip;
mod input;
mod kinds;
mod lz4;
mod lzip;
mod lzma;
mod ppmd;
mod pushed;
mod xz;
mod zstd;

pub use brotli::Brotli;
pub use bzip2::Bzip2;
pub use checked::Checked;
pub use compress::Compress;
pub use deflate::{Deflate, Deflate64, Zlib};
pub use filter::{Bcj2, Filter, Filtered, Raw};
pub use gzip::Gzip;
pub use kinds::{Compression, HEAD, inner_name, recognise, stream};
pub use lz4::Lz4;
pub use lzip::Lzip;
pub use lzma::{Lzma, Lzma2};
pub use ppmd::Ppmd;
pub use pushed::{Gone, Out, Push, PushInput, Pushed};
pub use xz::Xz;
pub use zstd::Zstd;
