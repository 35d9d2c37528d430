//! Files that are compressed one by one, block by block.
//!
//! ```text
//!   magic, size, lengths │ offset of block 0 │ offset of block 1 │ ─ │ end │ zlib │ zlib │ ─ ─      an empty block is zeros
//! ```

use crate::cache::{Cache, Key};
use crate::codec::{damaged, whole};
use crate::error::Result;
use crate::source::ReadAt;
use std::sync::Arc;

const MAGIC: [u8; 8] = [0x37, 0xe4, 0x53, 0x96, 0xc9, 0xdb, 0xd6, 0x07];

/// Blocks are of 32 to 128 KiB.
const BLOCK_LOGS: std::ops::RangeInclusive<u8> = 12..=20;

/// A compressed file in an image.
#[derive(Clone, Copy, Debug)]
pub struct Zisofs {
    pub at: u64,
    pub stored: u64,
    pub size: u64,
    /// Bytes of its header.
    pub header: u64,
    pub block_log: u8,
}

/// What all compressed files of an image share.
pub struct Blocks {
    cache: Arc<Cache>,
    owner: u64,
}

impl Blocks {
    pub fn new(cache: Arc<Cache>) -> Self {
        let owner = cache.new_owner();
        Self { cache, owner }
    }

    pub fn open(&self, image: Arc<dyn ReadAt>, file: Zisofs) -> Result<Arc<dyn ReadAt>> {
        let mut head = [0; 16];
        image.read_exact_at(file.at, &mut head)?;
        if !head.starts_with(&MAGIC) || !BLOCK_LOGS.contains(&file.block_log) {
            return Err(damaged("it does not begin as a compressed file"));
        }
        Ok(Arc::new(File { image, file, cache: self.cache.clone(), owner: self.owner }))
    }
}

struct File {
    image: Arc<dyn ReadAt>,
    file: Zisofs,
    cache: Arc<Cache>,
    owner: u64,
}

impl File {
    fn block(&self, number: u64) -> Result<Arc<Vec<u8>>> {
        let Zisofs { at, stored, size, header, block_log } = self.file;
        let len = (size - (number << block_log)).min(1 << block_log) as usize;
        let mut bounds = [0; 8];
        self.image.read_exact_at(at + header + number * 4, &mut bounds)?;
        let bound =
            |at: usize| u64::from(u32::from_le_bytes([bounds[at], bounds[at + 1], bounds[at + 2], bounds[at + 3]]));
        let (start, end) = (bound(0), bound(4));
        // What is compressed badly is a little longer than it was.
        if end < start || end > stored || end - start > 2 << block_log {
            return Err(damaged("the place of a compressed block cannot be right"));
        }
        let key = Key { owner: self.owner, space: 0, at: at + start };
        if start == end {
            return Ok(Arc::new(vec![0; len]));
        }
        self.cache.get_or_load(key, || {
            let mut packed = vec![0; (end - start) as usize];
            self.image.read_exact_at(at + start, &mut packed)?;
            let plain = whole::decode(whole::Codec::Zlib, &packed, len)?;
            if plain.len() == len { Ok(plain) } else { Err(damaged("a compressed block is too short")) }
        })
    }
}

impl ReadAt for File {
    fn len(&self) -> Result<u64> {
        Ok(self.file.size)
    }

    fn read_at(&self, at: u64, into: &mut [u8]) -> Result<usize> {
        let want = usize::try_from(self.file.size.saturating_sub(at)).unwrap_or(usize::MAX).min(into.len());
        let (log, mut done) = (self.file.block_log, 0);
        while done < want {
            let here = at + done as u64;
            let block = self.block(here >> log).map_err(|e| self.image.blame(e))?;
            let within = (here & ((1 << log) - 1)) as usize;
            // Of two files that lie over each other, the block of one may be shorter than that of the other.
            let bytes = block.get(within..).filter(|bytes| !bytes.is_empty());
            let bytes = bytes.ok_or_else(|| damaged("a compressed block is too short"))?;
            let len = bytes.len().min(want - done);
            into[done..done + len].copy_from_slice(&bytes[..len]);
            done += len;
        }
        Ok(want)
    }

    fn is_changed(&self) -> bool {
        self.image.is_changed()
    }
}
