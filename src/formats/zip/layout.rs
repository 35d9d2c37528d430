//! The fixed structures of a zip archive, byte by byte as they lie in the file, after PKWARE's APPNOTE 6.3.10. Nothing else
//! in the code knows an offset.
//!
//! ```text
//! ┌ Local ┬ name ┬ extra ┬ data ┬ (descriptor) ┬ Local ─ ─ ┬ Central ┬ name ┬ extra ┬ comment ┬ Central ─ ─ ┬ End ┬ comment ┐
//! └───────┴──────┴───────┴──────┴──────────────┴─ ─        └─────────┴──────┴───────┴─────────┴─ ─          └─────┴─────────┘
//!   where needed, between the last Central and End:  End64 ┬ Locator
//! ```

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

pub const LOCAL: [u8; 4] = *b"PK\x03\x04";
pub const CENTRAL: [u8; 4] = *b"PK\x01\x02";
pub const END: [u8; 4] = *b"PK\x05\x06";
pub const END64: [u8; 4] = *b"PK\x06\x06";
pub const LOCATOR: [u8; 4] = *b"PK\x06\x07";
pub const DESCRIPTOR: [u8; 4] = *b"PK\x07\x08";
/// In front of an archive that was to be cut into pieces and became one. One of several begins with [`DESCRIPTOR`].
pub const SINGLE: [u8; 4] = *b"PK00";
/// In front of a list of entries that is encrypted.
pub const ARCHIVE_EXTRA: [u8; 4] = *b"PK\x06\x08";

/// The number has no room here, and is in a field of zip64.
pub const IN_ZIP64: u32 = u32::MAX;
pub const IN_ZIP64_SHORT: u16 = u16::MAX;

/// Bits of `flags`.
pub mod flag {
    pub const ENCRYPTED: u16 = 1;
    /// Sizes and CRC stand behind the data.
    pub const DESCRIPTOR: u16 = 8;
    /// Encrypted in PKWARE's own way.
    pub const STRONG: u16 = 0x40;
    pub const UTF_8: u16 = 0x800;
}

/// Systems in `Central::made_by`.
pub mod host {
    pub const DOS: u8 = 0;
    pub const UNIX: u8 = 3;
    pub const HPFS: u8 = 6;
    pub const NTFS: u8 = 10;
    pub const VFAT: u8 = 14;
    pub const MACOS: u8 = 19;
}

/// Bits of the low byte of `Central::external`.
pub mod dos {
    pub const READ_ONLY: u32 = 1;
    pub const DIRECTORY: u32 = 0x10;
}

/// Extra fields.
pub mod extra {
    pub const ZIP64: u16 = 0x0001;
    pub const NTFS: u16 = 0x000a;
    pub const PKWARE_UNIX: u16 = 0x000d;
    pub const TIMES: u16 = 0x5455;
    pub const OLD_UNIX: u16 = 0x5855;
    pub const UNICODE_COMMENT: u16 = 0x6375;
    pub const UNICODE_PATH: u16 = 0x7075;
    pub const ASI_UNIX: u16 = 0x756e;
    pub const OWNER: u16 = 0x7875;
    pub const AES: u16 = 0x9901;
    /// The one of this program, "st".
    pub const OWN: u16 = u16::from_le_bytes(*b"st");
    pub const ROOT: u16 = u16::from_le_bytes(*b"sr");
}

/// In front of the data of an entry.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Local {
    pub signature: [u8; 4],
    pub needed: U16,
    pub flags: U16,
    pub method: U16,
    pub time: U16,
    pub date: U16,
    pub crc: U32,
    pub packed: U32,
    pub size: U32,
    pub name_len: U16,
    pub extra_len: U16,
}

/// An entry in the list.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Central {
    pub signature: [u8; 4],
    pub version: u8,
    /// One of [`host`].
    pub made_by: u8,
    pub needed: U16,
    pub flags: U16,
    pub method: U16,
    pub time: U16,
    pub date: U16,
    pub crc: U32,
    pub packed: U32,
    pub size: U32,
    pub name_len: U16,
    pub extra_len: U16,
    pub comment_len: U16,
    pub disk: U16,
    pub internal: U16,
    /// `st_mode` in the upper half where it was made on Unix, attributes of DOS in the lowest byte.
    pub external: U32,
    /// Where the local header is, on its disk.
    pub header_at: U32,
}

/// The end of the archive: where the list is.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct End {
    pub signature: [u8; 4],
    pub disk: U16,
    pub list_disk: U16,
    pub entries_here: U16,
    pub entries: U16,
    pub list_len: U32,
    pub list_at: U32,
    pub comment_len: U16,
}

/// The same with larger numbers.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct End64 {
    pub signature: [u8; 4],
    pub len: U64,
    pub made_by: U16,
    pub needed: U16,
    pub disk: U32,
    pub list_disk: U32,
    pub entries_here: U64,
    pub entries: U64,
    pub list_len: U64,
    pub list_at: U64,
}

/// Just before `End`: where `End64` is.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Locator {
    pub signature: [u8; 4],
    pub disk: U32,
    pub end64_at: U64,
    pub disks: U32,
}

/// Behind the data, perhaps with a signature in front.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Descriptor {
    pub crc: U32,
    pub packed: U32,
    pub size: U32,
}

#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Descriptor64 {
    pub crc: U32,
    pub packed: U64,
    pub size: U64,
}

/// In front of an extra field.
#[derive(Clone, Copy, Debug, FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct ExtraHead {
    pub id: U16,
    pub len: U16,
}

/// The field of WinZip's encryption.
#[derive(Clone, Copy, Debug, FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct AesField {
    /// 1 with a CRC, 2 without.
    pub version: U16,
    pub vendor: [u8; 2],
    /// 1, 2, 3 for keys of 128, 192, 256 bits.
    pub strength: u8,
    /// How it is compressed below.
    pub method: U16,
}

/// Times of NTFS: behind four unused bytes, attribute 1 of 24 bytes.
#[derive(Clone, Copy, Debug, FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct NtfsTimes {
    pub reserved: U32,
    pub tag: U16,
    pub len: U16,
    /// Steps of 100 ns since 1601.
    pub changed: U64,
    pub accessed: U64,
    pub created: U64,
}

/// The front of PKWARE's field of Unix; a device number or the target of a link follows.
#[derive(Clone, Copy, Debug, FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct PkwareUnix {
    pub accessed: U32,
    pub changed: U32,
    pub uid: U16,
    pub gid: U16,
}

/// The field of ASi; the target of a link follows.
#[derive(Clone, Copy, Debug, FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct AsiUnix {
    /// Of all that follows.
    pub crc: U32,
    pub mode: U16,
    /// Length of the target, or number of the device.
    pub len_or_device: U32,
    pub uid: U16,
    pub gid: U16,
}

/// The old field of Info-ZIP; owners follow in local headers only.
#[derive(Clone, Copy, Debug, FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct OldUnix {
    pub accessed: U32,
    pub changed: U32,
}

/// The front of a name or a comment in UTF-8.
#[derive(Clone, Copy, Debug, FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct UnicodeHead {
    pub version: u8,
    /// Of the bytes that it stands for.
    pub crc: U32,
}

/// A name for a method of compression.
pub fn method_name(method: u16) -> String {
    let name = match method {
        0 => "stored",
        1 => "shrink",
        2..=5 => return format!("reduce {}", method - 1),
        6 => "implode",
        8 => "deflate",
        9 => "deflate64",
        10 => "PKWARE DCL implode",
        12 => "bzip2",
        14 => "lzma",
        16 => "IBM z/OS CMPSC",
        18 => "IBM TERSE",
        19 => "IBM LZ77",
        20 | 93 => "zstd",
        94 => "MP3",
        95 => "xz",
        96 => "JPEG",
        97 => "WavPack",
        98 => "PPMd",
        99 => "AES",
        _ => return format!("method {method}"),
    };
    name.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn structures_have_the_sizes_that_the_format_says() {
        let sizes =
            [size_of::<Local>(), size_of::<Central>(), size_of::<End>(), size_of::<End64>(), size_of::<Locator>()];
        assert_eq!(sizes, [30, 46, 22, 56, 20]);
        assert_eq!([size_of::<Descriptor>(), size_of::<Descriptor64>(), size_of::<NtfsTimes>()], [12, 20, 32]);
    }
}
