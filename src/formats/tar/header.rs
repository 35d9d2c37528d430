//! The block in front of each entry: 512 bytes of text, as every tar since 1979 writes it, and what later ones put in it.
//!
//! ```text
//!   0 name │ 100 mode uid gid │ 124 size │ 136 mtime │ 148 checksum │ 156 kind │ 157 target
//!   257 magic │ 265 user │ 297 group │ 329 major minor │ 345 prefix of the name (ustar)
//!                                                        345 atime ctime, 386 pieces, 482 more, 483 real size (GNU)
//! ```

use super::numbers::{number, text};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Everything in a tar is in blocks of this size.
pub const BLOCK: usize = 512;

/// A header as it stands in the archive.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Header {
    name: [u8; 100],
    mode: [u8; 8],
    uid: [u8; 8],
    gid: [u8; 8],
    size: [u8; 12],
    mtime: [u8; 12],
    checksum: [u8; 8],
    pub kind: u8,
    target: [u8; 100],
    magic: [u8; 8],
    user: [u8; 32],
    group: [u8; 32],
    major: [u8; 8],
    minor: [u8; 8],
    /// What stands here depends on the magic.
    rest: [u8; 167],
}

/// A piece of a sparse file: where it is in the file, and how long.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Piece {
    pub at: u64,
    pub len: u64,
}

/// Pieces in a header of GNU tar, and in each block that follows it.
const PIECES: usize = 4;
const MORE_PIECES: usize = 21;

impl Header {
    /// The header in a block, if its checksum is right and its fields can be read.
    pub fn read(block: &[u8]) -> Option<Self> {
        let header = Self::read_from_bytes(block).ok()?;
        (header.is_summed_up() && number(&header.size).is_some()).then_some(header)
    }

    /// The sum of all bytes, the checksum taken as blanks. Some old programs took bytes as signed.
    fn is_summed_up(&self) -> bool {
        let Some(told) = number(&self.checksum) else { return false };
        let bytes = self.as_bytes();
        let (before, behind) = (&bytes[..148], &bytes[156..]);
        let blanks = 8 * i64::from(b' ');
        let unsigned: i64 = before.iter().chain(behind).map(|b| i64::from(*b)).sum();
        let signed: i64 = before.iter().chain(behind).map(|b| i64::from(b.cast_signed())).sum();
        told == unsigned + blanks || told == signed + blanks
    }

    pub fn is_ustar(&self) -> bool {
        &self.magic[..6] == b"ustar\0"
    }

    /// Whether it has one of the magics, and so is certainly no other file.
    pub fn has_magic(&self) -> bool {
        self.magic.starts_with(b"ustar")
    }

    /// The path, put together from both of its parts.
    pub fn path(&self) -> Vec<u8> {
        let name = text(&self.name);
        // Schily's star ends its header with this and has times where the prefix would go on.
        let is_star = self.rest[163..].starts_with(b"tar");
        let prefix = text(&self.rest[..if is_star { 131 } else { 155 }]);
        match self.is_ustar() && !prefix.is_empty() {
            true => [prefix, b"/", name].concat(),
            false => name.to_vec(),
        }
    }

    pub fn target(&self) -> Vec<u8> {
        text(&self.target).to_vec()
    }

    pub fn size(&self) -> u64 {
        number(&self.size).and_then(|size| u64::try_from(size).ok()).unwrap_or_default()
    }

    pub fn mode(&self) -> u32 {
        (number(&self.mode).unwrap_or_default() & 0o7777) as u32
    }

    pub fn uid(&self) -> u32 {
        id(number(&self.uid))
    }

    pub fn gid(&self) -> u32 {
        id(number(&self.gid))
    }

    pub fn mtime(&self) -> i64 {
        number(&self.mtime).unwrap_or_default()
    }

    pub fn user(&self) -> Option<&[u8]> {
        self.named(&self.user)
    }

    pub fn group(&self) -> Option<&[u8]> {
        self.named(&self.group)
    }

    fn named<'a>(&self, field: &'a [u8]) -> Option<&'a [u8]> {
        Some(text(field)).filter(|name| self.has_magic() && !name.is_empty())
    }

    pub fn device(&self) -> (u32, u32) {
        (id(number(&self.major)), id(number(&self.minor)))
    }

    /// Of GNU tar's old sparse files: the first pieces, whether blocks with more follow, and the size of the file.
    pub fn sparse(&self) -> (Vec<Piece>, bool, u64) {
        let pieces = pieces(&self.rest[41..], PIECES);
        let size = number(&self.rest[138..150]).and_then(|size| u64::try_from(size).ok());
        (pieces, self.rest[137] != 0, size.unwrap_or_default())
    }
}

/// Pieces in a block behind a header, and whether another such block follows.
pub fn more_pieces(block: &[u8; BLOCK]) -> (Vec<Piece>, bool) {
    (pieces(block, MORE_PIECES), block[MORE_PIECES * 24] != 0)
}

fn pieces(bytes: &[u8], most: usize) -> Vec<Piece> {
    let piece = |field: &[u8]| {
        let number = |field| number(field).and_then(|number| u64::try_from(number).ok());
        Some(Piece { at: number(&field[..12])?, len: number(&field[12..])? })
    };
    let used = |field: &&[u8]| field[0] != 0;
    bytes.chunks_exact(24).take(most).take_while(used).map_while(piece).collect()
}

fn id(number: Option<i64>) -> u32 {
    number.and_then(|number| u32::try_from(number).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_a_block() {
        assert_eq!(size_of::<Header>(), BLOCK);
    }

    #[test]
    fn a_block_without_a_right_sum_is_none() {
        let mut block = [0; BLOCK];
        block[..4].copy_from_slice(b"name");
        block[124..135].copy_from_slice(b"00000000005");
        assert!(Header::read(&block).is_none());
        let sum: u32 = block.iter().map(|b| u32::from(*b)).sum::<u32>() + 8 * 32;
        block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        let header = Header::read(&block).unwrap();
        assert_eq!((header.path(), header.size()), (b"name".to_vec(), 5));
        block[0] = b'N';
        assert!(Header::read(&block).is_none());
    }
}
