//! What is in the files of an image: ranges of it, one mostly.

use super::zisofs::Zisofs;
use crate::error::{Error, Kind, Result};
use crate::source::{Joined, Part, ReadAt};
use crate::tree::Contents;
use std::sync::Arc;

/// Where the data of a file are.
pub enum Data {
    At(u64, u64),
    Pieces(Box<[(u64, u64)]>),
    Zisofs(Box<Zisofs>),
    /// Why they cannot be read.
    Refused(Kind, &'static str),
}

/// An image with its files.
pub struct Archive {
    pub image: Arc<dyn ReadAt>,
    pub files: Vec<Data>,
    pub zisofs: super::zisofs::Blocks,
}

impl Archive {
    fn file(&self, content: u64) -> Option<&Data> {
        self.files.get(usize::try_from(content).ok()?)
    }

    fn part(&self, (at, len): (u64, u64)) -> Arc<dyn ReadAt> {
        Arc::new(Part::new(self.image.clone(), at, len))
    }
}

impl Contents for Archive {
    fn open(&self, content: u64) -> Result<Arc<dyn ReadAt>> {
        let file = self.file(content).ok_or_else(|| Error::new(Kind::NotFound, "no such entry"))?;
        Ok(match file {
            Data::At(at, len) => self.part((*at, *len)),
            Data::Pieces(pieces) => Arc::new(Joined::new(pieces.iter().map(|piece| self.part(*piece)).collect())?),
            Data::Zisofs(file) => self.zisofs.open(self.image.clone(), **file)?,
            Data::Refused(kind, why) => return Err(Error::new(*kind, *why)),
        })
    }

    fn place(&self, content: u64) -> u64 {
        match self.file(content) {
            Some(Data::At(at, _)) => *at,
            Some(Data::Pieces(pieces)) => pieces.first().map_or(0, |(at, _)| *at),
            Some(Data::Zisofs(file)) => file.at,
            _ => u64::MAX,
        }
    }
}
