//! Thin containers: segments that lie in another container, or in a store of objects.
//!
//! ```text
//!   tape of the game   ┌ base 1: its tape, moved by `shift` ┬ base 2 ┬ own contents ──►
//!                      └──────┬─────────────────────────────┴────────┴──────┬────────┘
//!   SEG row            store 1, offset, hash                             store 0, offset, hash
//!                             │ META store/1 = kind, uid, shift, hints
//!                             ▼
//!   lib.st: the record at that offset    or    a store: the object ab/abcdef… with that hash
//! ```
//!
//! All of the tape of a base has a place on the tape of the container, and the rows only of what is used are there. So
//! chunks that lie across segments go on being whole, and what a segment is decoded with is found in the same way.
//!
//! What comes from a base is compared with the hash in the row before it is used: a base need not be trusted, and one
//! that has grown since is as good as before.

mod alike;
mod catalog;
mod entry;
mod kept;
mod under;

pub use catalog::{Added, Collected, add, collect};
pub use entry::{Entry, entries, name};
pub use kept::{Kept, Put};
pub use under::{Ground, Under};

use super::index::Index;
use super::layout::RECORD_HEADER_LEN;
use super::rows::{Rows, SegmentRow};
use super::tree::Container;
use super::{limits, without_stub};
use crate::cache::Cache;
use crate::codec::damaged;
use crate::codec::id::Id;
use crate::error::{Error, Kind, Result, Within};
use crate::formats::{Access, Base, Bases, FoundBase, Reading, Wanted};
use crate::pool::lock;
use crate::source::ReadAt;
use crate::source::objects::{Drawer, Objects, sound};
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

/// A base that is not there is looked for again after so long.
const AGAIN: Duration = Duration::from_secs(10);

/// Memory for the index of a base that is asked where its segments are now.
const CACHE: u64 = 8 << 20;

/// The bases of one container.
#[derive(Default)]
pub struct Stores {
    finder: Option<Arc<dyn Bases>>,
    known: Mutex<BTreeMap<u64, Arc<Lower>>>,
}

impl Stores {
    pub fn new(finder: Option<Arc<dyn Bases>>) -> Self {
        Self { finder, known: Mutex::default() }
    }

    /// The base with a number. Numbers are never used again.
    pub fn get(&self, index: &Index, number: u64) -> Result<Arc<Lower>> {
        if let Some(known) = lock(&self.known).get(&number) {
            return Ok(known.clone());
        }
        let value = index.meta(&name(number))?;
        let value = value.ok_or_else(|| damaged(format!("nothing tells what its base {number} is")))?;
        let lower = Arc::new(Lower {
            entry: Entry::decode(&value)?,
            finder: self.finder.clone(),
            found: Mutex::new(Search::Not(None)),
        });
        let mut known = lock(&self.known);
        if known.len() >= limits::STORES {
            known.clear();
        }
        Ok(known.entry(number).or_insert(lower).clone())
    }
}

/// One base.
pub struct Lower {
    pub entry: Entry,
    finder: Option<Arc<dyn Bases>>,
    found: Mutex<Search>,
}

/// How far the search for a base has come.
enum Search {
    /// Not found, when it was looked for last.
    Not(Option<Instant>),
    Found(Arc<Opened>),
}

/// A base that was found.
struct Opened {
    place: String,
    bytes: Bytes,
}

enum Bytes {
    Container(Box<Foreign>),
    Objects(Arc<dyn Objects>),
}

/// A container that segments of another one lie in.
struct Foreign {
    bytes: Arc<dyn ReadAt>,
    /// Who finds what it lies over itself.
    below: Option<Arc<dyn Bases>>,
    /// Where its segments are now, when one is not where it was.
    moved: OnceLock<Option<Moved>>,
}

struct Moved {
    container: Container,
    /// By their hashes.
    rows: HashMap<[u8; 32], SegmentRow>,
}

/// Finds what a base lies over.
struct Below {
    finder: Arc<dyn Bases>,
    depth: u32,
}

impl Bases for Below {
    fn find(&self, wanted: &Wanted) -> Result<Option<FoundBase>> {
        let found = self.finder.find(wanted)?;
        let deeper = |finder| Arc::new(Self { finder, depth: self.depth }) as Arc<dyn Bases>;
        Ok(found.map(|found| FoundBase { below: found.below.map(deeper), ..found }))
    }

    fn depth(&self) -> u32 {
        self.depth
    }
}

impl Lower {
    /// Where it is, if it is there.
    pub fn place(&self) -> Result<Option<String>> {
        match self.opened() {
            Ok(opened) => Ok(Some(opened.place.clone())),
            Err(e) if e.kind() == Kind::MissingBase => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Fills `into` with the payload of a segment, which has the hash of the row.
    pub fn read(&self, row: &SegmentRow, into: &mut [u8]) -> Result<()> {
        let opened = self.opened()?;
        match &opened.bytes {
            Bytes::Container(foreign) => foreign.read(row, into),
            Bytes::Objects(objects) => {
                let most = into.len() as u64;
                match sound(&**objects, Drawer::Segments, &row.hash, most)? {
                    Some(bytes) if bytes.len() == into.len() => into.copy_from_slice(&bytes),
                    Some(_) => return Err(damaged("an object has another length than it should have")),
                    None => return Err(self.lacks("an object of", &opened.place)),
                }
                Ok(())
            }
        }
        .map_err(|e| if e.kind() == Kind::NotFound { self.lacks("a segment of", &opened.place) } else { e })
        .within(|| &opened.place)
    }

    fn lacks(&self, what: &str, place: &str) -> Error {
        Error::new(Kind::MissingBase, format!("{what} {} is not there any more", self.entry.words()))
            .hint(format!("{place} as it was when this was packed over it"))
    }

    fn opened(&self) -> Result<Arc<Opened>> {
        let mut found = lock(&self.found);
        match &*found {
            Search::Found(opened) => return Ok(opened.clone()),
            Search::Not(Some(when)) if when.elapsed() < AGAIN => return Err(self.missing()),
            Search::Not(_) => {}
        }
        *found = Search::Not(Some(Instant::now()));
        let there = self.finder.as_ref().map(|finder| finder.find(&self.entry.wanted())).transpose();
        let there = there.within(|| format!("it needs {}", self.entry.words()))?.flatten();
        let Some(FoundBase { base, place, below }) = there else { return Err(self.missing()) };
        let bytes = match base {
            Base::Container(bytes) if !self.entry.is_store => {
                let below = below.and_then(|finder| self.below(finder));
                Bytes::Container(Box::new(Foreign { bytes: without_stub(bytes)?, below, moved: OnceLock::new() }))
            }
            Base::Objects(objects) if self.entry.is_store => Bytes::Objects(objects),
            _ => return Err(self.missing()),
        };
        let opened = Arc::new(Opened { place, bytes });
        *found = Search::Found(opened.clone());
        Ok(opened)
    }

    /// Who finds what a base of this lies over. A hostile one may lie over itself.
    fn below(&self, finder: Arc<dyn Bases>) -> Option<Arc<dyn Bases>> {
        let depth = self.finder.as_ref().map_or(0, |finder| finder.depth()) + 1;
        (depth <= limits::STORE_DEPTH).then(|| Arc::new(Below { finder, depth }) as Arc<dyn Bases>)
    }

    fn missing(&self) -> Error {
        let what = format!("{} is not there, and it lies over that", self.entry.words());
        Error::new(Kind::MissingBase, what)
            .hint("--base PATH or -o base=PATH names it; it is also found beside the file, and in the folders of STMOUNT_BASES")
    }
}

impl Foreign {
    fn read(&self, row: &SegmentRow, into: &mut [u8]) -> Result<()> {
        let at = row.record.checked_add(RECORD_HEADER_LEN).ok_or_else(|| damaged("its offset is too large"))?;
        let read = self.bytes.read_exact_at(at, into);
        match &read {
            Ok(()) if Id::of(into).0 == row.hash => return Ok(()),
            Err(e) if e.kind() != Kind::Damaged => return read,
            _ => {}
        }
        // It was moved there, or to a store, or it is damaged: its own index knows, and so does its parity.
        let gone = || Error::new(Kind::NotFound, "it is not there any more");
        let moved = self.moved.get_or_init(|| self.index().inspect_err(|e| log::warn!("a base: {e}")).ok());
        let moved = moved.as_ref().ok_or_else(gone)?;
        let there = moved.rows.get(&row.hash).filter(|there| there.payload_len == row.payload_len).ok_or_else(gone)?;
        let (index, medium) = (moved.container.index(), moved.container.medium());
        if there.store != 0 {
            return medium.stores.get(index, there.store)?.read(there, into);
        }
        let at = there.record.checked_add(RECORD_HEADER_LEN).ok_or_else(gone)?;
        medium.read_checked(at, into, &row.hash)
    }

    fn index(&self) -> Result<Moved> {
        let access = Access::to_read(self.bytes.clone(), Cache::new(CACHE), "a base");
        let reading = Arc::new(Reading { bases: self.below.clone(), ..Reading::default() });
        let container = Container::open(Access { reading, ..access })?;
        let mut found = HashMap::new();
        let mut rows = container.index().all::<Rows<SegmentRow>>()?;
        while let Some(at) = rows.next()? {
            let row = at.block.get(at.row);
            found.insert(row.hash, *row);
        }
        drop(rows);
        Ok(Moved { container, rows: found })
    }
}

/// What a container says of one of its bases.
#[derive(Clone, Debug)]
pub struct BaseInfo {
    /// What it is: its kind, its first hint, its identity.
    pub words: String,
    pub uid: String,
    pub is_store: bool,
    pub hints: Vec<String>,
    /// Segments that lie in it, their raw bytes, and their bytes as stored.
    pub segments: u64,
    pub raw: u64,
    pub stored: u64,
    /// Where it was found.
    pub place: Option<String>,
}

impl Container {
    /// What it lies over, and where that is.
    pub fn bases(&self) -> Result<Vec<BaseInfo>> {
        let mut found = BTreeMap::new();
        for (number, entry) in entries(self.index())? {
            let lower = self.medium().stores.get(self.index(), number)?;
            let place = lower.place().unwrap_or_else(|e| {
                log::warn!("{e}");
                None
            });
            let (words, uid) = (entry.words(), crate::source::objects::hex(&entry.uid));
            let (is_store, hints) = (entry.is_store, entry.hints);
            found.insert(number, BaseInfo { words, uid, is_store, hints, segments: 0, raw: 0, stored: 0, place });
        }
        if found.is_empty() {
            return Ok(Vec::new());
        }
        let mut rows = self.index().all::<Rows<SegmentRow>>()?;
        while let Some(at) = rows.next()? {
            let row = at.block.get(at.row);
            if let Some(info) = found.get_mut(&row.store) {
                (info.segments, info.raw) = (info.segments + 1, info.raw.saturating_add(row.raw_len));
                info.stored = info.stored.saturating_add(row.payload_len);
            }
        }
        Ok(found.into_values().collect())
    }
}
