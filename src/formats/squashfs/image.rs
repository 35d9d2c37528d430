//! Blocks out of the image: of metadata, 8 KiB of a table each, and of data. Both are kept in the cache.
//!
//! ```text
//!   table │ u16 │ block │ u16 │ block │ ─ ─           a place in it: offset of the block << 16 | offset in what it becomes
//!           └ length, and whether it is stored as it is
//! ```

use super::superblock::Superblock;
use crate::cache::{Cache, Cached, Key};
use crate::codec::{damaged, whole};
use crate::error::Result;
use crate::source::ReadAt;
use std::sync::Arc;

/// What a block of metadata becomes at most.
const META: usize = 8192;

/// Of the length of a block of metadata, and of one of data: it is stored as it is.
const META_STORED: u16 = 1 << 15;
const STORED: u32 = 1 << 24;

/// Spaces of keys in the cache.
const METAS: u8 = 0;
const BLOCKS: u8 = 1;
pub const LISTS: u8 = 2;

/// An image.
pub struct Image {
    pub source: Arc<dyn ReadAt>,
    pub cache: Arc<Cache>,
    pub owner: u64,
    pub head: Superblock,
}

/// A block of metadata.
struct Meta {
    bytes: Vec<u8>,
    /// Where the next one is.
    next: u64,
}

impl Cached for Meta {
    fn weight(&self) -> usize {
        self.bytes.capacity()
    }
}

impl Image {
    fn meta(&self, at: u64) -> Result<Arc<Meta>> {
        self.cache.get_or_load(Key { owner: self.owner, space: METAS, at }, || {
            let mut head = [0; 2];
            self.source.read_exact_at(at, &mut head)?;
            let head = u16::from_le_bytes(head);
            let len = usize::from(head & !META_STORED);
            if len == 0 || len > META {
                return Err(damaged("a block of metadata has a length that cannot be right"));
            }
            let mut block = vec![0; len];
            self.source.read_exact_at(at + 2, &mut block)?;
            let bytes = match head & META_STORED {
                0 => whole::decode(self.head.codec, &block, META)?,
                _ => block,
            };
            if bytes.is_empty() {
                return Err(damaged("a block of metadata is empty"));
            }
            Ok(Meta { bytes, next: at + 2 + len as u64 })
        })
    }

    /// A block of data, from how it is told in a list: its length, with a mark.
    pub fn block(&self, at: u64, told: u32) -> Result<Arc<Vec<u8>>> {
        let (len, most) = ((told & !STORED) as usize, self.head.block_size as usize);
        if len > most || at.checked_add(most as u64).is_none() {
            return Err(damaged("a block has a length that cannot be right"));
        }
        let load = || {
            let mut block = vec![0; len];
            self.source.read_exact_at(at, &mut block)?;
            match told & STORED {
                0 => whole::decode(self.head.codec, &block, most),
                _ => Ok(block),
            }
        };
        self.cache.get_or_load(Key { owner: self.owner, space: BLOCKS, at }, load).map_err(|e| self.source.blame(e))
    }

    /// Whether a block of data is decoded already.
    pub fn has(&self, at: u64) -> bool {
        self.cache.contains(Key { owner: self.owner, space: BLOCKS, at })
    }

    /// Bytes of a block of data that are stored.
    pub fn stored(told: u32) -> u64 {
        u64::from(told & !STORED)
    }

    /// At a place of a table.
    pub fn at(&self, table: u64, place: u64) -> Result<Cursor<'_>> {
        let at = table.checked_add(place >> 16).filter(|at| *at < u64::MAX - (1 << 20));
        let at = at.ok_or_else(|| damaged("a place in a table cannot be right"))?;
        Ok(Cursor { image: self, at, offset: (place & 0xffff) as usize, block: None })
    }

    /// At an entry of a table of equal entries: blocks of metadata, to which pointers stand at `table`.
    pub fn entry(&self, table: u64, number: u64, len: u64) -> Result<Cursor<'_>> {
        let per_block = META as u64 / len;
        let mut pointer = [0; 8];
        let at =
            table.checked_add(number / per_block * 8).ok_or_else(|| damaged("a table cannot be where it should be"))?;
        self.source.read_exact_at(at, &mut pointer)?;
        let place = number % per_block * len;
        self.at(u64::from_le_bytes(pointer), place)
    }
}

/// Reads on from a place of a table.
#[derive(Clone)]
pub struct Cursor<'a> {
    image: &'a Image,
    at: u64,
    offset: usize,
    block: Option<Arc<Meta>>,
}

impl Cursor<'_> {
    pub fn read(&mut self, into: &mut [u8]) -> Result<()> {
        let mut done = 0;
        while done < into.len() {
            let block = match &self.block {
                Some(block) => block.clone(),
                None => self.block.insert(self.image.meta(self.at)?).clone(),
            };
            let bytes = block.bytes.get(self.offset..).ok_or_else(|| damaged("a place in a table cannot be right"))?;
            let len = bytes.len().min(into.len() - done);
            into[done..done + len].copy_from_slice(&bytes[..len]);
            (done, self.offset) = (done + len, self.offset + len);
            if done < into.len() {
                (self.at, self.offset, self.block) = (block.next, 0, None);
            }
        }
        Ok(())
    }

    pub fn bytes(&mut self, len: usize) -> Result<Vec<u8>> {
        let mut bytes = vec![0; len];
        self.read(&mut bytes)?;
        Ok(bytes)
    }

    pub fn u16(&mut self) -> Result<u16> {
        let mut bytes = [0; 2];
        self.read(&mut bytes)?;
        Ok(u16::from_le_bytes(bytes))
    }

    pub fn u32(&mut self) -> Result<u32> {
        let mut bytes = [0; 4];
        self.read(&mut bytes)?;
        Ok(u32::from_le_bytes(bytes))
    }

    pub fn u64(&mut self) -> Result<u64> {
        let mut bytes = [0; 8];
        self.read(&mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }
}
