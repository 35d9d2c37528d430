//! What is in the files: of the blocks, only those are decoded that are read.
//!
//! ```text
//!   │ block 0 │ block 1 │ hole │ block 3 │ the end, which may stand in a block with the ends of others
//! ```

use super::image::{Image, LISTS};
use super::inode::{File, Inode, What};
use crate::cache::{Cached, Key};
use crate::codec::damaged;
use crate::error::{Error, Kind, Result};
use crate::pool::{self, Background};
use crate::source::ReadAt;
use crate::tree::Contents;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

/// Blocks of one file.
const MAX_BLOCKS: u64 = 1 << 24;

/// Of so many blocks, the place of one is kept.
const STEP: usize = 256;

/// Blocks that are prepared and wait for a thread.
const QUEUE: usize = 32;

/// Work ahead of readers, for all images of the process.
fn ahead() -> &'static Background {
    static AHEAD: OnceLock<Background> = OnceLock::new();
    AHEAD.get_or_init(|| Background::new(pool::threads(), QUEUE))
}

/// All files of an image. Their numbers are the places of their inodes.
pub struct Files(pub Arc<Image>);

impl Files {
    fn file(&self, place: u64) -> Result<File> {
        match Inode::read(&self.0, place)?.0.what {
            What::File(file) => Ok(file),
            _ => Err(Error::new(Kind::NotFound, "no such file")),
        }
    }

    fn list(&self, place: u64, file: &File) -> Result<Arc<List>> {
        let key = Key { owner: self.0.owner, space: LISTS, at: place };
        self.0.cache.get_or_load_now(key, || List::read(&self.0, place, file))
    }
}

impl Contents for Files {
    fn open(&self, content: u64) -> Result<Arc<dyn ReadAt>> {
        let file = self.file(content)?;
        let list = self.list(content, &file)?;
        let end = match file.fragment {
            Some((number, offset)) if file.size % u64::from(self.0.head.block_size) > 0 => {
                Some(End { offset: offset as usize, ..fragment(&self.0, number)? })
            }
            _ => None,
        };
        Ok(Arc::new(Data { image: self.0.clone(), size: file.size, list, end }))
    }

    fn place(&self, content: u64) -> u64 {
        self.file(content).map_or(u64::MAX, |file| file.start)
    }
}

/// The lengths of the blocks of a file, as they are stored.
struct List {
    told: Vec<u32>,
    /// Of every so many blocks, where one is.
    places: Vec<u64>,
}

impl Cached for List {
    fn weight(&self) -> usize {
        self.told.capacity() * 4 + self.places.capacity() * 8
    }
}

impl List {
    fn read(image: &Image, place: u64, file: &File) -> Result<Self> {
        let block_size = u64::from(image.head.block_size);
        let count = match file.fragment {
            Some(_) => file.size / block_size,
            None => file.size.div_ceil(block_size),
        };
        if count > MAX_BLOCKS {
            return Err(Error::new(Kind::Limit, format!("a file of {count} blocks has more than {MAX_BLOCKS}")));
        }
        let (_, mut at) = Inode::read(image, place)?;
        let (mut list, mut next) = (Self { told: Vec::new(), places: Vec::new() }, file.start);
        for number in 0..count as usize {
            if number % STEP == 0 {
                list.places.push(next);
            }
            let told = at.u32()?;
            next = next.saturating_add(Image::stored(told));
            list.told.push(told);
        }
        Ok(list)
    }

    /// Where a block is, and what is told of its length.
    fn block(&self, number: usize) -> Option<(u64, u32)> {
        let first = number / STEP * STEP;
        let before = self.told.get(first..number)?.iter().map(|told| Image::stored(*told)).sum::<u64>();
        Some((self.places.get(number / STEP)?.saturating_add(before), *self.told.get(number)?))
    }
}

/// The end of a file, in a block that it shares.
struct End {
    at: u64,
    told: u32,
    offset: usize,
}

/// The block with the ends of files that has a number.
fn fragment(image: &Image, number: u32) -> Result<End> {
    if number >= image.head.fragments {
        return Err(damaged("the end of a file is in no block that there is"));
    }
    let mut entry = image.entry(image.head.fragment_table, number.into(), 16)?;
    Ok(End { at: entry.u64()?, told: entry.u32()?, offset: 0 })
}

struct Data {
    image: Arc<Image>,
    size: u64,
    list: Arc<List>,
    end: Option<End>,
}

impl Data {
    fn block_size(&self) -> u64 {
        self.image.head.block_size.into()
    }

    /// Copies from a block of the file, from an offset in it on.
    fn copy(&self, number: u64, offset: usize, into: &mut [u8]) -> Result<()> {
        let short = || damaged("a block is shorter than it should be");
        let block = usize::try_from(number).ok().and_then(|number| self.list.block(number));
        let (block, offset) = match (block, &self.end) {
            (Some((_, 0)), _) => {
                into.fill(0);
                return Ok(());
            }
            (Some((at, told)), _) => (self.image.block(at, told)?, offset),
            (None, Some(end)) => (self.image.block(end.at, end.told)?, end.offset.saturating_add(offset)),
            (None, None) => return Err(short()),
        };
        let end = offset.saturating_add(into.len());
        into.copy_from_slice(block.get(offset..end).ok_or_else(short)?);
        Ok(())
    }

    fn is_hole(&self, number: u64) -> bool {
        self.list.told.get(number as usize) == Some(&0)
    }
}

impl ReadAt for Data {
    fn len(&self) -> Result<u64> {
        Ok(self.size)
    }

    fn read_at(&self, at: u64, into: &mut [u8]) -> Result<usize> {
        let want = usize::try_from(self.size.saturating_sub(at)).unwrap_or(usize::MAX).min(into.len());
        let mut done = 0;
        while done < want {
            let here = at + done as u64;
            let within = here % self.block_size();
            let len = (want - done).min((self.block_size() - within) as usize);
            self.copy(here / self.block_size(), within as usize, &mut into[done..done + len])?;
            done += len;
        }
        Ok(want)
    }

    fn next_data(&self, at: u64) -> Result<Option<Range<u64>>> {
        let (size, blocks) = (self.block_size(), self.size.div_ceil(self.block_size()));
        let Some(first) = (at / size..blocks).find(|number| !self.is_hole(*number)) else { return Ok(None) };
        let last = (first..blocks).find(|number| self.is_hole(*number)).unwrap_or(blocks);
        let range = at.max(first * size)..(last * size).min(self.size);
        Ok(Some(range).filter(|range| range.start < range.end))
    }

    /// Decodes blocks ahead, as many at once as there are threads.
    fn will_read(&self, range: Range<u64>) {
        let size = self.block_size();
        let (first, last) = (range.start / size, range.end.min(self.size).div_ceil(size));
        for number in first..last {
            let Some((at, told)) = self.list.block(number as usize).filter(|(_, told)| *told != 0) else { continue };
            let image = self.image.clone();
            // Whoever reads it for good tells what is wrong with it.
            let is_taken = image.has(at) || ahead().push(move || drop(image.block(at, told)));
            if !is_taken {
                return;
            }
        }
    }

    fn is_changed(&self) -> bool {
        self.image.source.is_changed()
    }
}
