//! Fixed structures of a journal. All numbers are little-endian.

use crate::formats::Undo;
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

pub const MAGIC: [u8; 8] = *b"STJRNL\r\n";
pub const VERSION: u32 = 1;
pub const BATCH: [u8; 4] = *b"STJB";

/// Contents are sealed with a key made of the password of the archive.
pub const SEALED: u32 = 1;

/// The front of the file.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Header {
    pub magic: [u8; 8],
    pub version: U32,
    pub flags: U32,
    /// What the archive is that the changes are made to: its length and its stamp.
    pub base_len: U64,
    pub base: [u8; 32],
    /// What it will be when the changes are in it; zeros until somebody begins to bring them in.
    pub target_len: U64,
    pub target: [u8; 32],
    /// 1 when the archive is being written to in place: it had `undo` at `undo_at` then, and zeros behind up to its length.
    pub is_begun: U32,
    pub undo_len: U32,
    pub undo_at: U64,
    pub undo: [u8; Undo::TAIL],
    /// Of the key; anything where there is none.
    pub salt: [u8; 16],
    /// The front of a hash that tells whether a key is right.
    pub key_check: [u8; 16],
    /// The hash of all above.
    pub hash: [u8; 32],
}

/// The front of a batch. Behind it are the contents, then the record.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Batch {
    pub magic: [u8; 4],
    pub record_len: U32,
    pub contents_len: U64,
    /// The number of the batch, from 1.
    pub sequence: U64,
    /// Of the key stream over contents and record.
    pub nonce: [u8; 24],
    /// The hash of all above, of the hash of the batch before, of contents and record as they are stored.
    pub hash: [u8; 32],
}

pub const HEADER_LEN: u64 = size_of::<Header>() as u64;
/// The header is rewritten: a medium writes a sector whole or not at all.
const _: () = assert!(HEADER_LEN <= 512);
pub const BATCH_LEN: u64 = size_of::<Batch>() as u64;
