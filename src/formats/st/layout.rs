//! The fixed structures of a container, byte by byte as they lie in the file. FORMAT.md describes them; nothing else in
//! the code knows an offset.
//!
//! ```text
//! ┌ header 4096 ┬ record ┬ record ┬ ─ ─ ┬ record: COMMIT ┐
//! │             │ 96 + payload, padded to 64 │ … │ footer 128 │
//! └─────────────┴────────┴────────┴ ─ ─ ┴────────────────┘
//! ```

use crate::codec::id::Id;
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// First bytes of a container. The line ends and the high bit show a transfer that took it for text.
pub const MAGIC: [u8; 8] = *b"\x89STF\r\n\x1a\n";
/// First bytes of a record.
pub const RECORD_MAGIC: [u8; 4] = *b"\xabSTR";
/// Marks a footer.
pub const FOOTER_MAGIC: [u8; 4] = *b"STcf";

pub const HEADER_LEN: u64 = 4096;
pub const RECORD_HEADER_LEN: u64 = 96;
pub const FOOTER_LEN: u64 = 128;
/// Records begin at multiples of this.
pub const ALIGN: u64 = 64;

/// Version of the layout that this code writes and the highest that it reads.
pub const MAJOR: u16 = 1;

/// First address of the tape. What is below is never data: an extent at address 0 is a hole.
pub const TAPE_START: u64 = 4096;

/// Feature bit: payloads are sealed.
pub const INCOMPAT_SEALED: u64 = 1;
/// Feature bit: segments may lie in other containers, or in a store of objects.
pub const INCOMPAT_THIN: u64 = 2;
/// Feature bits that a reader has to know.
pub const KNOWN_INCOMPAT: u64 = INCOMPAT_SEALED | INCOMPAT_THIN;

/// Feature bit, to be ignored: the container has parity, or had when it was packed.
pub const COMPAT_PARITY: u64 = 1;

/// Flag of a record: its payload is sealed.
pub const FLAG_SEALED: u8 = 2;

/// What a record holds. Readers pass over types they have no use for.
#[allow(dead_code, reason = "sealing and parity have their place in the layout before anything writes them")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum RecordType {
    Keys = 1,
    Segment = 2,
    Table = 3,
    Commit = 4,
    Parity = 5,
    Pad = 6,
    /// An earlier state: the payload of its COMMIT, which lay elsewhere. Never the newest.
    State = 7,
}

/// The first 4096 bytes.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Header {
    pub magic: [u8; 8],
    pub major: U16,
    pub minor: U16,
    pub flags: U32,
    pub uid: [u8; 16],
    pub incompat: U64,
    pub ro_compat: U64,
    pub compat: U64,
    pub hash: u8,
    pub suite: u8,
    pub log2_align: u8,
    pub reserved: [u8; 5],
    pub volume_size: U64,
    pub keys: U64,
    pub mac: [u8; 32],
    pub zero: [u8; 3952],
    pub check: [u8; 32],
}

impl Header {
    /// The header of a container in clear.
    pub fn new(uid: [u8; 16]) -> Self {
        let mut header = Self {
            magic: MAGIC,
            major: U16::new(MAJOR),
            minor: U16::new(0),
            flags: U32::new(0),
            uid,
            incompat: U64::new(0),
            ro_compat: U64::new(0),
            compat: U64::new(0),
            hash: 1,
            suite: 0,
            log2_align: ALIGN.trailing_zeros() as u8,
            reserved: [0; 5],
            volume_size: U64::new(0),
            keys: U64::new(0),
            mac: [0; 32],
            zero: [0; 3952],
            check: [0; 32],
        };
        header.check = header.expected_check();
        header
    }

    /// The check that these bytes must carry.
    pub fn expected_check(&self) -> [u8; 32] {
        Id::of(&self.as_bytes()[..4064]).0
    }
}

/// In front of every payload.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct RecordHeader {
    pub magic: [u8; 4],
    pub kind: u8,
    pub flags: u8,
    pub zero: U16,
    /// Where this record begins: a copy elsewhere, as in a container stored inside a container, is no record.
    pub offset: U64,
    pub payload_len: U64,
    pub seq: U64,
    /// The newest COMMIT before this record, 0 for none.
    pub last_commit: U64,
    pub uid: [u8; 8],
    pub payload_hash: [u8; 32],
    pub check: [u8; 8],
    pub reserved: [u8; 8],
}

impl RecordHeader {
    /// The check that these bytes must carry in the container `uid`.
    pub fn expected_check(&self, uid: &[u8; 16]) -> [u8; 8] {
        Id::of_parts(&[uid, &self.as_bytes()[..80]]).short()
    }

    pub fn is_sealed(&self) -> bool {
        self.flags & FLAG_SEALED != 0
    }

    pub fn is_commit(&self) -> bool {
        self.kind == RecordType::Commit as u8
    }

    /// Whether the payload is that of a COMMIT.
    pub fn is_state(&self) -> bool {
        self.is_commit() || self.kind == RecordType::State as u8
    }
}

/// The fixed front of a SEG payload.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct SegmentHead {
    pub address: U64,
    pub raw_len: U64,
    pub stages: u8,
    pub flags: u8,
    pub bases: U16,
    pub zero: U32,
}

/// Tape bytes that a segment is decoded with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Base {
    pub address: U64,
    pub len: U64,
}

/// The fixed front of a stage: its codec and the length of the parameters that follow.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct StageHead {
    pub codec: U16,
    pub params: U16,
}

/// The last 16 bytes of a TABLE payload.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct TableTail {
    pub blocks_len: U64,
    pub fence_len: U64,
}

/// The fixed front of a COMMIT payload.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct CommitHead {
    pub uid: [u8; 16],
    pub seq: U64,
    pub time_ns: U64,
    pub prev: U64,
    pub prev_hash: [u8; 32],
    pub tail_start: U64,
    pub tail_hash: [u8; 32],
    pub next_address: U64,
    pub next_ino: U64,
    pub incompat: U64,
    pub ro_compat: U64,
    pub compat: U64,
    pub keys: U64,
    pub tables: U32,
    pub zero: U32,
}

/// In front of the sealed payload of a COMMIT.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct SealedFront {
    pub uid: [u8; 16],
    /// Where the newest KEYS record is.
    pub keys: U64,
}

/// How a COMMIT names a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct TableRef {
    pub record: U64,
    pub payload_len: U64,
    pub blocks_len: U64,
    pub fence_len: U64,
    pub fence_hash: [u8; 32],
}

/// In front of each optional item of a COMMIT.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct ItemHead {
    pub kind: U16,
    pub zero: U16,
    pub len: U32,
}

/// Bit of an item's kind: who does not know it must refuse the container.
pub const ITEM_CRITICAL: u16 = 0x8000;
/// Item: how many inodes the tree has and the sum of the sizes of its files.
pub const ITEM_TOTALS: u16 = 1;
/// Item: where the body of the newest parity group before this commit is.
pub const ITEM_PARITY: u16 = 2;
/// Item: the public key that the footer has a signature of.
pub const ITEM_SIGNER: u16 = 3;

/// The value of [`ITEM_TOTALS`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct TotalsItem {
    pub nodes: U64,
    pub bytes: U64,
}

/// Ends a COMMIT record, and so a clean file.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Footer {
    pub record: U64,
    /// Length of the container up to here: what lies before the container in the file is known from its end.
    pub logical_end: U64,
    pub public_key: [u8; 32],
    pub signature: [u8; 64],
    pub magic: [u8; 4],
    pub flags: U32,
    pub check: [u8; 8],
}

impl Footer {
    /// The check that these bytes must carry in the container `uid`.
    pub fn expected_check(&self, uid: &[u8; 16]) -> [u8; 8] {
        Id::of_parts(&[uid, &self.as_bytes()[..120]]).short()
    }
}

/// Whether a record ends with a footer: after it a container may end.
pub fn has_footer(kind: u8) -> bool {
    kind == RecordType::Commit as u8 || kind == RecordType::Parity as u8
}

/// The length of a record on the medium, with header, padding and, where it has one, its footer; `None` beyond 64 bits.
pub fn record_len(kind: u8, payload_len: u64) -> Option<u64> {
    let footer = if has_footer(kind) { FOOTER_LEN } else { 0 };
    (RECORD_HEADER_LEN + footer).checked_add(payload_len)?.checked_next_multiple_of(ALIGN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn structures_have_the_sizes_of_the_specification() {
        assert_eq!(size_of::<Header>() as u64, HEADER_LEN);
        assert_eq!(size_of::<RecordHeader>() as u64, RECORD_HEADER_LEN);
        assert_eq!(size_of::<Footer>() as u64, FOOTER_LEN);
        assert_eq!((size_of::<SegmentHead>(), size_of::<Base>(), size_of::<StageHead>()), (24, 16, 4));
        assert_eq!((size_of::<CommitHead>(), size_of::<TableRef>(), size_of::<ItemHead>()), (168, 64, 8));
    }

    #[test]
    fn a_record_ends_on_the_alignment_and_a_commit_has_room_for_its_footer() {
        assert_eq!(record_len(RecordType::Segment as u8, 0), Some(128));
        assert_eq!(record_len(RecordType::Segment as u8, 32), Some(128));
        assert_eq!(record_len(RecordType::Commit as u8, 32), Some(256));
        assert_eq!(record_len(RecordType::Segment as u8, u64::MAX - 100), None);
    }
}
