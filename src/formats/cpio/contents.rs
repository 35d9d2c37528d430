//! What is in the files of a cpio: ranges of it, checked where the archive has sums.

use crate::error::{Error, Kind, Result};
use crate::source::{Part, ReadAt, Sum, Summed};
use crate::tree::Contents;
use std::sync::Arc;

/// The content number of hard links without the entry that has their data.
pub const NO_DATA: u64 = u64::MAX - 1;

/// Where the data of an entry are.
#[derive(Clone, Copy, Debug)]
pub struct Member {
    /// In which of the sources.
    pub source: u32,
    pub at: u64,
    pub len: u64,
    pub sum: Option<u32>,
}

/// An archive with its entries.
pub struct Archive {
    /// The file, and what is decoded of it.
    pub sources: Vec<Arc<dyn ReadAt>>,
    pub members: Vec<Member>,
}

impl Archive {
    fn member(&self, content: u64) -> Option<&Member> {
        self.members.get(usize::try_from(content).ok()?)
    }
}

impl Contents for Archive {
    fn open(&self, content: u64) -> Result<Arc<dyn ReadAt>> {
        if content == NO_DATA {
            return Err(Error::new(Kind::Damaged, "the entry with the data of this hard link is missing"));
        }
        let member = self.member(content).ok_or_else(|| Error::new(Kind::NotFound, "no such entry"))?;
        let data = Arc::new(Part::new(self.sources[member.source as usize].clone(), member.at, member.len));
        Ok(match member.sum {
            Some(wanted) => Arc::new(Summed::new(data, member.len, Box::new(Bytes { sum: 0, wanted }))),
            None => data,
        })
    }

    fn place(&self, content: u64) -> u64 {
        // One source behind the other; none is as long.
        self.member(content).map_or(u64::MAX, |member| (u64::from(member.source) << 56).saturating_add(member.at))
    }
}

/// What the form crc calls so: all bytes added up.
struct Bytes {
    sum: u32,
    wanted: u32,
}

impl Sum for Bytes {
    fn update(&mut self, bytes: &[u8]) {
        self.sum = bytes.iter().fold(self.sum, |sum, byte| sum.wrapping_add((*byte).into()));
    }

    fn is_right(&self) -> bool {
        self.sum == self.wanted
    }
}
