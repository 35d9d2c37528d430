//! Limits: every number out of a file meets one of these before it is used. A writer keeps them, a reader refuses what
//! is over them, so that a hostile file costs neither memory nor time out of proportion.

/// Raw bytes of a segment. The largest that is useful for ratio, and the largest decode for one random read.
pub const SEGMENT_RAW: u64 = 64 << 20;
/// Stored bytes of a segment beyond its raw bytes: prelude, bases, stages, and what a codec adds to noise.
pub const SEGMENT_OVERHEAD: u64 = 1 << 20;

/// Stored bytes of a segment of so many raw ones: padding adds an eighth at most.
pub const fn segment_payload(raw_len: u64) -> u64 {
    raw_len + raw_len / 8 + SEGMENT_OVERHEAD
}
/// Base ranges of one segment.
pub const BASES: u16 = 64;
/// Sum of the base ranges of one segment, in bytes.
pub const BASE_LEN: u64 = 64 << 20;
/// How deep bases may stand on bases.
pub const BASE_DEPTH: u32 = 2;
/// Stages of one segment.
pub const STAGES: u8 = 8;

/// How many containers may lie over each other: a base that was brought to a store does.
pub const STORE_DEPTH: u32 = 4;
/// Bases of one container.
pub const STORES: usize = 4096;

/// Bytes of the payload of a KEYS record.
pub const KEY_PAYLOAD: usize = 128 << 10;
/// Slots of a KEYS record: each is one way to open the container.
pub const KEY_SLOTS: usize = 64;
/// Bytes in the body of a slot.
pub const KEY_BODY: usize = 1024;
/// Bytes in the label of a slot.
pub const KEY_LABEL: usize = 200;

/// Rows of a table block; writers stop at [`BLOCK_ROWS_TYPICAL`].
pub const BLOCK_ROWS: u64 = 65_536;
/// Rows that a writer puts into a block: 1024 rows of names or inodes decode in 20 to 30 µs.
pub const BLOCK_ROWS_TYPICAL: u64 = 1024;
/// Raw bytes after which a writer ends a block.
pub const BLOCK_RAW_TYPICAL: usize = 256 << 10;
/// Raw bytes of a table block.
pub const BLOCK_RAW: u64 = 32 << 20;
/// The names of a table block, written out: as many of the longest as a writer puts into a block.
pub const BLOCK_TEXT: u64 = 64 << 20;
/// Raw bytes of a fence index: enough for some hundred million rows.
pub const FENCE_RAW: u64 = 64 << 20;
/// The fence indexes of all tables of a commit together, each as large as it is raw or stored, whichever is more: room
/// for what the limits of their rows and keys allow.
pub const FENCES: u64 = 256 << 20;
/// Rows of the fence indexes of all tables of a commit together: a thousand million rows in full blocks.
pub const FENCE_ROWS: u64 = 1 << 20;
/// The first keys in the fence indexes of all tables of a commit together, written out: 128 bytes for each row.
pub const FENCE_TEXT: u64 = 128 << 20;

/// Extents that may stand in a NODE row; more stand in EXTENT rows.
pub const EXTENTS_INLINE: u64 = 4;
/// Bytes of the `extra` field of a NODE row: link target and extended attributes.
pub const EXTRA: usize = 16 << 20;
/// Highest tape address and largest file: room for every sum of two of them.
pub const ADDRESS: u64 = 1 << 62;

/// Bytes of a COMMIT payload.
pub const COMMIT: u64 = 2 << 20;
/// Tables of a commit.
pub const TABLES: u32 = 4096;
/// Bytes between the last durable commit and a COMMIT whose tail hash covers them.
pub const TAIL: u64 = 64 << 20;
/// Damaged commits that are tried on the way back to a good one.
pub const COMMIT_TRIES: u32 = 64;
