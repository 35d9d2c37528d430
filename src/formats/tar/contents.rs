//! What is in the files of a tar: a range of it, or several with holes between them.

use super::sparse::{Map, Sparse};
use crate::error::{Error, Kind, Result};
use crate::source::{Part, ReadAt};
use crate::tree::Contents;
use serde::{Deserialize, Serialize};
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
        let data = Arc::new(Part::new(self.source.clone(), member.at, member.len));
        Ok(match (member.map as usize).checked_sub(1).and_then(|at| self.maps.get(at)) {
            Some(map) => Arc::new(Sparse::new(data, map.clone())),
            None => data,
        })
    }

    fn place(&self, content: u64) -> u64 {
        usize::try_from(content).ok().and_then(|at| self.members.get(at)).map_or(u64::MAX, |member| member.at)
    }
}
