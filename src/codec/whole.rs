//! Blocks that are decoded as a whole, by any codec, into no more room than they may take.

use super::{damaged, zstd};
use crate::error::{Error, Kind, Result};
use liblzma::stream::{Action, Status, Stream};

/// What a block is encoded by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Codec {
    Zlib,
    /// The old format with a header of 13 bytes.
    Lzma,
    Xz,
    /// A bare block.
    Lz4,
    Zstd,
}

/// Memory for the dictionary of LZMA; blocks are small.
const MEMORY: u64 = 80 << 20;

/// Decodes a block that becomes at most so many bytes.
pub fn decode(codec: Codec, block: &[u8], most: usize) -> Result<Vec<u8>> {
    if block.is_empty() {
        return Err(damaged("a block is empty"));
    }
    let mut out = vec![0; most];
    let len = match codec {
        Codec::Zlib => zlib(block, &mut out)?,
        // The old format may have a mark at its end, behind the last byte.
        Codec::Lzma => lzma(Stream::new_lzma_decoder(MEMORY), block, &mut out, true)?,
        Codec::Xz => lzma(Stream::new_stream_decoder(MEMORY, 0), block, &mut out, false)?,
        Codec::Lz4 => {
            lz4_flex::block::decompress_into(block, &mut out).map_err(|_| damaged("lz4 cannot be decoded"))?
        }
        Codec::Zstd => return zstd::decode_most(block, most),
    };
    out.truncate(len);
    Ok(out)
}

fn zlib(block: &[u8], out: &mut [u8]) -> Result<usize> {
    let mut decoder = flate2::Decompress::new(true);
    let status = decoder.decompress(block, out, flate2::FlushDecompress::Finish);
    match status {
        Ok(flate2::Status::StreamEnd) => Ok(decoder.total_out() as usize),
        _ => Err(damaged("zlib cannot be decoded")),
    }
}

type Made = std::result::Result<Stream, liblzma::stream::Error>;

fn lzma(decoder: Made, block: &[u8], out: &mut [u8], may_go_on: bool) -> Result<usize> {
    let mut decoder = decoder.map_err(|_| Error::new(Kind::System, "there is no memory to decode LZMA"))?;
    let status = decoder.process(block, out, Action::Finish).map_err(|_| damaged("LZMA cannot be decoded"))?;
    let made = decoder.total_out() as usize;
    match status {
        Status::StreamEnd => Ok(made),
        _ if may_go_on && made == out.len() => Ok(made),
        _ => Err(damaged("LZMA cannot be decoded")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn no_block_becomes_more_than_it_may() {
        let plain = b"some text, some text, some text, and more text".repeat(50);
        let mut zlib = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
        zlib.write_all(&plain).unwrap();
        let options = liblzma::stream::LzmaOptions::new_preset(6).unwrap();
        let packed = |mut stream: Stream| {
            let mut out = Vec::with_capacity(1 << 16);
            stream.process_vec(&plain, &mut out, Action::Finish).unwrap();
            out
        };
        let blocks = [
            (Codec::Zlib, zlib.finish().unwrap()),
            (Codec::Xz, packed(Stream::new_easy_encoder(6, liblzma::stream::Check::Crc32).unwrap())),
            (Codec::Lzma, packed(Stream::new_lzma_encoder(&options).unwrap())),
            (Codec::Lz4, lz4_flex::block::compress(&plain)),
            (Codec::Zstd, ::zstd::bulk::compress(&plain, 3).unwrap()),
        ];
        for (codec, block) in blocks {
            for most in [plain.len(), plain.len() + 1, 1 << 16] {
                assert_eq!(decode(codec, &block, most).unwrap(), plain, "{codec:?} {most}");
            }
            assert!(codec == Codec::Lzma || decode(codec, &block, plain.len() - 1).is_err(), "{codec:?}");
            for len in 0..block.len() / 2 {
                // A bare block of lz4 may end behind any of its pieces, and one of LZMA may give all before its end.
                let cut = decode(codec, &block[..len], plain.len());
                let may_be = matches!(codec, Codec::Lz4 | Codec::Lzma);
                assert!(cut.map_or(true, |cut| may_be && plain.starts_with(&cut)), "{codec:?} {len}");
            }
        }
    }
}
