//! Bytes that are encrypted by a block cipher in CBC mode: any part can be decrypted by itself, with the block before it.
//!
//! ```text
//!   iv  │ block 0 │ block 1 │ block 2 │        plain n = undone(block n) xor block n-1, before the first of which is the iv
//! ```

use crate::error::{Error, Kind, Result};
use crate::source::ReadAt;
use std::ops::Range;
use std::sync::Arc;

/// Bytes of a block of AES.
pub const CIPHER_BLOCK: usize = 16;

/// A cipher with its key and what it begins with.
pub trait Chained: Send + Sync {
    /// Undoes blocks that follow each other; `before` is the encrypted one in front of them, where they are not the first.
    fn undo(&self, before: Option<[u8; CIPHER_BLOCK]>, blocks: &mut [u8]);
}

/// A source that is decrypted.
pub struct Cbc<C> {
    packed: Arc<dyn ReadAt>,
    cipher: C,
    len: u64,
}

impl<C: Chained> Cbc<C> {
    /// `len` are the bytes that count: the last block is filled up.
    pub fn new(packed: Arc<dyn ReadAt>, cipher: C, len: u64) -> Result<Self> {
        if len > packed.len()? / CIPHER_BLOCK as u64 * CIPHER_BLOCK as u64 {
            return Err(Error::new(Kind::Damaged, "encrypted data are shorter than they should be"));
        }
        Ok(Self { packed, cipher, len })
    }
}

impl<C: Chained> ReadAt for Cbc<C> {
    fn len(&self) -> Result<u64> {
        Ok(self.len)
    }

    fn read_at(&self, at: u64, into: &mut [u8]) -> Result<usize> {
        let want = usize::try_from(self.len.saturating_sub(at)).unwrap_or(usize::MAX).min(into.len());
        if want == 0 {
            return Ok(0);
        }
        let block = CIPHER_BLOCK as u64;
        let (first, end) = (at / block * block, (at + want as u64).div_ceil(block) * block);
        let (mut bytes, mut before) = (vec![0; (end - first) as usize], None);
        if first > 0 {
            self.packed.read_exact_at(first - block, before.insert([0; CIPHER_BLOCK]))?;
        }
        let got = self.packed.read_at(first, &mut bytes)? / CIPHER_BLOCK * CIPHER_BLOCK;
        self.cipher.undo(before, &mut bytes[..got]);
        let skip = (at - first) as usize;
        let there = got.saturating_sub(skip).min(want);
        into[..there].copy_from_slice(&bytes[skip..skip + there]);
        Ok(there)
    }

    fn will_read(&self, range: Range<u64>) {
        self.packed.will_read(range);
    }

    fn is_changed(&self) -> bool {
        self.packed.is_changed()
    }
}
