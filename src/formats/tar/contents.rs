//! What is in the files of a tar: a range of it, or several with holes between them.

use super::sparse::{Map, Sparse};
use crate::error::{Error, Kind, Result};
use crate::source::ReadAt;
use crate::tree::Contents;
use serde::{Deserialize, Serialize};
use std::ops::Range;
use std::sync::Arc;

/// The content number of sparse files whose map cannot be right.
pub const NO_MAP: u64 = u64::MAX - 1;

/// Where the data of an entry are.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Member {
    pub at: u64,
    pub len: u64,
    /// One more than the place of its map, or 0.
    pub map: u32,
}

/// An archive with its entries.
pub struct Archive {
    source: Arc<dyn ReadAt>,
    members: Vec<Member>,
    maps: Vec<Arc<Map>>,
}

impl Archive {
    pub fn new(source: Arc<dyn ReadAt>, members: Vec<Member>, maps: Vec<Map>) -> Self {
        Self { source, members, maps: maps.into_iter().map(Arc::new).collect() }
    }
}

impl Contents for Archive {
    fn open(&self, content: u64) -> Result<Arc<dyn ReadAt>> {
        if content == NO_MAP {
            return Err(Error::new(Kind::Damaged, "the map of the sparse file cannot be right"));
        }
        let member = usize::try_from(content).ok().and_then(|at| self.members.get(at));
        let member = member.ok_or_else(|| Error::new(Kind::NotFound, "no such entry"))?;
        let data = Arc::new(Data { source: self.source.clone(), at: member.at, len: member.len });
        Ok(match (member.map as usize).checked_sub(1).and_then(|at| self.maps.get(at)) {
            Some(map) => Arc::new(Sparse::new(data, map.clone())),
            None => data,
        })
    }

    fn place(&self, content: u64) -> u64 {
        usize::try_from(content).ok().and_then(|at| self.members.get(at)).map_or(u64::MAX, |member| member.at)
    }
}

/// A range of the archive. Where that was cut off, it is an error and not the end.
struct Data {
    source: Arc<dyn ReadAt>,
    at: u64,
    len: u64,
}

impl ReadAt for Data {
    fn len(&self) -> Result<u64> {
        Ok(self.len)
    }

    fn read_at(&self, at: u64, into: &mut [u8]) -> Result<usize> {
        let want = usize::try_from(self.len.saturating_sub(at)).unwrap_or(usize::MAX).min(into.len());
        if want == 0 {
            return Ok(0);
        }
        let start = self.at.saturating_add(at);
        self.source.read_exact_at(start, &mut into[..want]).map_err(|e| self.source.blame(e))?;
        Ok(want)
    }

    fn is_changed(&self) -> bool {
        self.source.is_changed()
    }

    fn will_read(&self, range: Range<u64>) {
        let end = self.at.saturating_add(range.end.min(self.len));
        self.source.will_read(self.at.saturating_add(range.start).min(end)..end);
    }
}
