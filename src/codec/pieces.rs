//! Compression piece by piece: each piece becomes a member, stream or frame of its own, and all of them one after the other
//! are what every decompressor of the format reads as one file. So they can be made by several threads, and read from the
//! beginning of each.

use super::xz::{Effort, encode};
use crate::error::{Error, Kind, Result};
use std::io::{self, Write};

/// A compression whose files may be concatenated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Codec {
    Gzip,
    Bzip2,
    Xz,
    Zstd,
    Lz4,
}

impl Codec {
    /// The one that is called so.
    pub fn called(name: &str) -> Option<Self> {
        Some(match name {
            "gzip" => Self::Gzip,
            "bzip2" => Self::Bzip2,
            "xz" => Self::Xz,
            "zstd" => Self::Zstd,
            "lz4" => Self::Lz4,
            _ => return None,
        })
    }

    /// Bytes of a piece. Larger ones are a little smaller when compressed, and cost more of whoever reads in the middle.
    pub fn piece(self, level: u8) -> usize {
        match (self, level) {
            (Self::Gzip | Self::Lz4, _) => 2 << 20,
            (Self::Bzip2, level) => usize::from(level.clamp(1, 9)) * 900_000,
            (Self::Zstd, 0..=6) => 4 << 20,
            (Self::Zstd, _) => 16 << 20,
            (Self::Xz, level) => (4 << 20) << usize::from(level.clamp(1, 9) / 3),
        }
    }
}

/// A piece, compressed at a level from 1 to 9.
pub fn compressed(codec: Codec, level: u8, bytes: &[u8]) -> Result<Vec<u8>> {
    let level = u32::from(level.clamp(1, 9));
    let out = Vec::with_capacity(bytes.len() / 2);
    let failed = |e: io::Error| Error::new(Kind::System, "cannot compress").caused_by(e);
    match codec {
        Codec::Gzip => {
            let mut encoder = flate2::write::GzEncoder::new(out, flate2::Compression::new(level));
            encoder.write_all(bytes).and_then(|()| encoder.finish()).map_err(failed)
        }
        Codec::Bzip2 => {
            let mut encoder = bzip2::write::BzEncoder::new(out, bzip2::Compression::new(level));
            encoder.write_all(bytes).and_then(|()| encoder.finish()).map_err(failed)
        }
        Codec::Lz4 => {
            let mut encoder = lz4_flex::frame::FrameEncoder::new(out);
            encoder.write_all(bytes).map_err(failed)?;
            encoder.finish().map_err(|e| failed(io::Error::other(e)))
        }
        Codec::Xz => encode(bytes, Effort { preset: level, lc_lp_pb: (3, 0, 2) }),
        Codec::Zstd => {
            let level = [1, 3, 5, 7, 9, 11, 15, 17, 19][level as usize - 1];
            zstd::bulk::compress(bytes, level).map_err(failed)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::process::{Command, Stdio};

    #[test]
    fn the_usual_tools_read_pieces_as_one_file() {
        let bytes: Vec<u8> = (0..300_000u32).flat_map(|n| (n % 1000).to_le_bytes()).collect();
        for (codec, tool) in [
            (Codec::Gzip, "gzip"),
            (Codec::Bzip2, "bzip2"),
            (Codec::Xz, "xz"),
            (Codec::Zstd, "zstd"),
            (Codec::Lz4, "lz4"),
        ] {
            let packed: Vec<u8> =
                bytes.chunks(500_000).flat_map(|piece| compressed(codec, 6, piece).unwrap()).collect();
            let mut child =
                Command::new(tool).arg("-dc").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect(tool);
            let mut stdin = child.stdin.take().unwrap();
            let feeder = std::thread::spawn(move || stdin.write_all(&packed));
            let mut got = Vec::new();
            child.stdout.take().unwrap().read_to_end(&mut got).unwrap();
            feeder.join().unwrap().unwrap();
            assert!(child.wait().unwrap().success() && got == bytes, "{tool}");
        }
    }
}
