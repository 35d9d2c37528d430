//! The first 96 bytes: how the image is compressed, and where its tables are.

use super::broken;
use crate::codec::whole::Codec;
use crate::error::{Error, Kind, Result};
use crate::source::ReadAt;

const MAGIC: &[u8; 4] = b"hsqs";
const SWAPPED: &[u8; 4] = b"sqsh";

/// Bytes of the superblock.
pub const LEN: usize = 96;

/// Blocks of data are from 4 KiB to 1 MiB.
const BLOCK_LOGS: std::ops::RangeInclusive<u16> = 12..=20;

/// Stands for a table that is not there.
pub const NONE: u64 = u64::MAX;

/// What the image says of itself.
#[derive(Clone, Copy, Debug)]
pub struct Superblock {
    pub time: u32,
    pub block_size: u32,
    pub fragments: u32,
    pub codec: Codec,
    pub codec_name: &'static str,
    pub ids: u16,
    /// Where the root is: a block of the inode table, and a place in it.
    pub root: u64,
    /// Bytes of all.
    pub used: u64,
    pub id_table: u64,
    pub xattr_table: u64,
    pub inode_table: u64,
    pub directory_table: u64,
    pub fragment_table: u64,
}

/// Whether bytes begin as an image, of whatever version and byte order.
pub fn is_one(head: &[u8]) -> bool {
    head.len() >= LEN && (head.starts_with(MAGIC) || head.starts_with(SWAPPED))
}

impl Superblock {
    pub fn read(image: &dyn ReadAt) -> Result<Self> {
        let mut bytes = [0; LEN];
        let got = image.read_at(0, &mut bytes)?;
        let unsupported = |what: String| Err(Error::new(Kind::Unsupported, what));
        if got == LEN && bytes.starts_with(SWAPPED) {
            return unsupported("it is a squashfs of the other byte order, which only versions before 4.0 have".into());
        }
        if got < LEN || !bytes.starts_with(MAGIC) {
            return Err(broken("its first bytes are no superblock"));
        }
        let u16_at = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
        let u32_at = |at: usize| u32::from(u16_at(at)) | u32::from(u16_at(at + 2)) << 16;
        let u64_at = |at: usize| u64::from(u32_at(at)) | u64::from(u32_at(at + 4)) << 32;
        let (major, minor) = (u16_at(28), u16_at(30));
        if (major, minor) != (4, 0) {
            return unsupported(format!("it is a squashfs of version {major}.{minor}; only 4.0 is read"));
        }
        let (codec, codec_name) = match u16_at(20) {
            1 => (Codec::Zlib, "gzip"),
            2 => (Codec::Lzma, "lzma"),
            4 => (Codec::Xz, "xz"),
            5 => (Codec::Lz4, "lz4"),
            6 => (Codec::Zstd, "zstd"),
            3 => return unsupported("it is compressed by lzo, which is not read".into()),
            other => return unsupported(format!("it is compressed in a way that is not known (number {other})")),
        };
        let (block_size, block_log) = (u32_at(12), u16_at(22));
        if !BLOCK_LOGS.contains(&block_log) || block_size != 1 << block_log {
            return Err(broken(format!("its blocks are said to have {block_size} bytes")));
        }
        Ok(Self {
            time: u32_at(8),
            block_size,
            fragments: u32_at(16),
            codec,
            codec_name,
            ids: u16_at(26),
            root: u64_at(32),
            used: u64_at(40),
            id_table: u64_at(48),
            xattr_table: u64_at(56),
            inode_table: u64_at(64),
            directory_table: u64_at(72),
            fragment_table: u64_at(80),
        })
    }
}
