//! Packing over bases: chunks that a base holds are left out, and the segments they lie in are named instead.
//!
//! ```text
//!   chunk ──id──► CHUNK row of a base ──► its bytes, compared ──► rows of the segments they lie in,
//!                 (or its files, cut again)                       and of what those are decoded with
//! ```

use super::super::generations::History;
use super::super::index::Index;
use super::super::layout::{Base as Related, TAPE_START};
use super::super::pack::chunks::Chunks;
use super::super::rows::{ChunkRow, MetaRow, Nodes, Plain, Rows, SegmentRow};
use super::super::tree::Container;
use super::super::{limits, segment};
use super::Entry;
use super::alike::Alike;
use crate::cache::Cache;
use crate::codec::cdc::Chunker;
use crate::codec::id::Id;
use crate::error::{Error, Kind as ErrorKind, Result, Within};
use crate::formats::{Access, Base, Bases, FoundBase, Reading, Wanted};
use crate::source::objects::{Drawer, Guard, Hash, Hold, Objects, sound};
use crate::source::{Memory, ReadAt};
use crate::tree::{Kind, Node, Tree};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::sync::Arc;

/// Bytes of a catalog: 20 million segments, about.
const CATALOG: u64 = 1 << 30;

/// Memory for the index of a catalog that is only looked through.
const SMALL_CACHE: u64 = 8 << 20;

/// Segments that one chunk needs, with all that they are decoded with. A sound one needs a handful.
const NEEDED: usize = 4096;

/// Chunks smaller than this are not looked for: see the packer.
const SMALLEST: usize = 512;

/// A container, or what lies in a store, that is packed over.
pub struct Under {
    entry: Entry,
    container: Container,
    /// The store of its segments that counts; what lies further down is not used.
    store: u64,
    /// Where its tape ends.
    end: u64,
    /// Chunks by the beginning of their id, where its index has none.
    chunks: Option<HashMap<u64, ChunkRow>>,
    objects: Option<Arc<dyn Objects>>,
    /// All of it may be read: it is one container, and on a disk.
    pub is_near: bool,
    /// Keeps anybody from removing objects from the store meanwhile.
    _held: Option<Arc<Guard>>,
}

impl fmt::Debug for Under {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Under").field("entry", &self.entry).finish_non_exhaustive()
    }
}

impl Under {
    /// Opens a container to be packed over. `hints` say where it will be found; `is_near` that reading all of it costs
    /// little.
    ///
    /// # Errors
    /// `Unsupported` when it is sealed.
    pub fn container(access: &Access, hints: Vec<String>, is_near: bool) -> Result<Self> {
        let (history, container) = History::open(access).within(|| &access.name)?;
        if container.seal().is_some() {
            let what = format!("{}: it is sealed, and nothing can be packed over it", access.name);
            return Err(Error::new(ErrorKind::Unsupported, what).hint(
                "a base is one in clear: everybody who has what is packed over it could read it with its key only",
            ));
        }
        let head = history.newest().head;
        let entry = Entry { is_store: false, own_seal: false, related: false, uid: head.uid, shift: 0, hints };
        let chunks = match has_chunks(container.index()) {
            true => None,
            false => {
                log::info!("{}: its index lists no chunks: all of it is read", access.name);
                Some(chunks_of(&container).within(|| &access.name)?)
            }
        };
        let end = head.next_address.get();
        Ok(Self { entry, container, store: 0, end, chunks, objects: None, is_near, _held: None })
    }

    /// Opens what lies in a store, catalog by catalog.
    pub fn store(objects: Arc<dyn Objects>, hints: &[String], cache: &Arc<Cache>) -> Result<Vec<Self>> {
        let held = Arc::new(objects.hold(Hold::Shared)?);
        let mut names = Vec::new();
        objects.list(Drawer::Catalogs, &mut |hash, _| {
            names.push(hash);
            Ok(())
        })?;
        // The same store gives the same bytes.
        names.sort_unstable();
        let mut found = Vec::new();
        for hash in names {
            match catalog(&objects, &hash, cache) {
                Ok(None) => {}
                Ok(Some((history, container))) => {
                    let end = history.newest().head.next_address.get();
                    let (uid, hints) = (objects.uid(), hints.to_vec());
                    let entry = Entry { is_store: true, own_seal: false, related: false, uid, shift: 0, hints };
                    let (objects, _held) = (Some(objects.clone()), Some(held.clone()));
                    let (store, chunks, is_near) = (1, None, false);
                    found.push(Self { entry, container, store, end, chunks, objects, is_near, _held });
                }
                Err(e) => log::warn!("{}: a catalog cannot be used: {e}", objects.place()),
            }
        }
        Ok(found)
    }

    /// Whether any object that a catalog names is needed.
    pub fn is_of_use(objects: &Arc<dyn Objects>, hash: &Hash, needed: &HashSet<Hash>) -> Result<bool> {
        let Some((_, container)) = catalog(objects, hash, &Cache::new(SMALL_CACHE))? else { return Ok(false) };
        let mut rows = container.index().all::<Rows<SegmentRow>>()?;
        while let Some(at) = rows.next()? {
            if needed.contains(&at.block.get(at.row).hash) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    pub fn uid(&self) -> [u8; 16] {
        self.entry.uid
    }

    /// Where these bytes are on the tape of the base.
    fn find(&self, id: &Id, bytes: &[u8]) -> Option<u64> {
        let short = u64::from_be_bytes(id.short());
        let row = match &self.chunks {
            Some(chunks) => *chunks.get(&short)?,
            None => self.container.index().chunk(short).ok()??,
        };
        if row.len != bytes.len() as u64 {
            return None;
        }
        let mut there = vec![0; bytes.len()];
        self.container.tape().read(row.address, &mut there).ok()?;
        (there == bytes).then_some(row.address)
    }

    /// Whether a segment counts.
    fn holds(&self, row: &SegmentRow) -> bool {
        // Behind the end that a base tells lies the next one.
        row.store == self.store && row.address >= TAPE_START && row.address + row.raw_len <= self.end
    }

    /// The segments that count, in the order of the tape.
    pub fn segments(&self) -> Result<Vec<SegmentRow>> {
        let (mut found, mut end) = (Vec::new(), 0);
        let mut rows = self.container.index().all::<Rows<SegmentRow>>()?;
        while let Some(at) = rows.next()? {
            let row = *at.block.get(at.row);
            if self.holds(&row) && row.address >= end {
                end = row.address + row.raw_len;
                found.push(row);
            }
        }
        Ok(found)
    }

    /// A stretch of its tape.
    pub fn read(&self, address: u64, len: u64) -> Result<Vec<u8>> {
        let mut bytes = vec![0; len as usize];
        self.container.tape().read(address, &mut bytes)?;
        Ok(bytes)
    }

    /// Whether others can be decoded with a stretch of its tape: not with what is decoded with what needs another itself.
    fn can_be_base(&self, address: u64, len: u64) -> Result<bool> {
        self.is_shallow(address, len, limits::BASE_DEPTH - 1)
    }

    /// Whether what a stretch is decoded with lies in it, and no deeper than this.
    fn is_shallow(&self, mut address: u64, len: u64, depth: u32) -> Result<bool> {
        let end = address.saturating_add(len);
        while address < end {
            let Some(row) = self.container.index().segment(address)?.filter(|row| self.holds(row)) else {
                return Ok(false);
            };
            for base in self.related(&row)? {
                if depth == 0 || !self.is_shallow(base.address.get(), base.len.get(), depth - 1)? {
                    return Ok(false);
                }
            }
            address = row.address + row.raw_len;
        }
        Ok(true)
    }

    /// What a segment is decoded with.
    fn related(&self, row: &SegmentRow) -> Result<Vec<Related>> {
        let Some(objects) = &self.objects else { return self.container.medium().bases(row) };
        let gone = || Error::new(ErrorKind::MissingBase, "an object is gone");
        let payload = sound(&**objects, Drawer::Segments, &row.hash, row.payload_len)?.ok_or_else(gone)?;
        segment::bases(&payload)
    }
}

/// Opens a catalog; `None` when it is not there.
fn catalog(objects: &Arc<dyn Objects>, hash: &Hash, cache: &Arc<Cache>) -> Result<Option<(History, Container)>> {
    let Some(bytes) = sound(&**objects, Drawer::Catalogs, hash, CATALOG)? else { return Ok(None) };
    let access = Access::to_read(Arc::new(Memory::new(bytes)), cache.clone(), objects.place());
    History::open(&Access { reading: Arc::new(reading(objects.clone())), ..access }).map(Some)
}

/// How a container is read that lies over a store that is open already.
pub fn reading(objects: Arc<dyn Objects>) -> Reading {
    Reading { bases: Some(Arc::new(Given(objects))), ..Reading::default() }
}

/// Leads to a store that is open already.
struct Given(Arc<dyn Objects>);

impl Bases for Given {
    fn find(&self, wanted: &Wanted) -> Result<Option<FoundBase>> {
        let is_it = wanted.is_store && wanted.uid == self.0.uid();
        Ok(is_it.then(|| FoundBase { base: Base::Objects(self.0.clone()), place: self.0.place(), below: None }))
    }
}

/// Whether an index lists chunks.
pub fn has_chunks(index: &Index) -> bool {
    index.tables().iter().any(|table| table.fences.iter().any(|fence| fence.family == ChunkRow::FAMILY))
}

/// The chunks of all files, as the packer cuts them, by the beginning of their ids. What cannot be read has none.
pub fn chunks_of(container: &Container) -> Result<HashMap<u64, ChunkRow>> {
    let (mut found, mut buffer, chunker) = (HashMap::new(), Vec::new(), Chunker::default());
    let mut nodes = container.index().all::<Nodes>()?;
    while let Some(at) = nodes.next()? {
        let entry = at.block.entry(at.row);
        if entry.kind != Kind::File || entry.size < SMALLEST as u64 {
            continue;
        }
        let pieces = container.pieces(entry.ino)?;
        let file = container.open(Node(entry.ino))?;
        if let Err(e) = chunks_in(&*file, entry.size, &pieces, (&chunker, &mut buffer), &mut found) {
            log::warn!("inode {}: {e}", entry.ino);
        }
    }
    Ok(found)
}

/// The chunks of one file, each as far as it lies in one piece.
fn chunks_in(
    file: &dyn ReadAt,
    size: u64,
    pieces: &[(u64, u64, u64)],
    (chunker, buffer): (&Chunker, &mut Vec<u8>),
    found: &mut HashMap<u64, ChunkRow>,
) -> Result<()> {
    let mut at = 0;
    while let Some(data) = file.next_data(at)?.filter(|data| data.start < size) {
        at = data.end.min(size);
        let mut start = data.start;
        let mut chunks = Chunks::new(chunker, file, start..at, buffer);
        while let Some(chunk) = chunks.next()? {
            let len = chunk.len() as u64;
            let behind = pieces.partition_point(|(piece, ..)| *piece <= start);
            let piece = behind.checked_sub(1).and_then(|i| pieces.get(i));
            let fits = piece.filter(|(piece, _, length)| start + len <= piece + length);
            if let Some((piece, address, _)) = fits.filter(|_| chunk.len() >= SMALLEST) {
                let id = u64::from_be_bytes(Id::of(chunk).short());
                found.entry(id).or_insert(ChunkRow { id, address: address + (start - piece), len });
            }
            start += len;
        }
    }
    Ok(())
}

/// The bases of a container that is being packed.
pub struct Ground {
    placed: Vec<Placed>,
    /// Rows of what is used, by their addresses on the tape of the new container.
    rows: BTreeMap<u64, SegmentRow>,
    /// Where the tapes of the bases end.
    end: u64,
    /// Bytes of different chunks that were found.
    found: u64,
    /// Where contents like new ones are; known when the first were asked for.
    pub(super) alike: Option<Alike>,
}

/// A base on the tape of a new container.
pub struct Placed {
    pub under: Arc<Under>,
    number: u64,
    pub shift: u64,
    related: bool,
    used: bool,
}

impl Ground {
    /// Lays the tapes of these bases one behind the other.
    pub fn new(bases: &[Arc<Under>]) -> Result<Option<Self>> {
        if bases.len() > limits::STORES {
            return Err(Error::new(ErrorKind::Limit, format!("there may be {} bases at most", limits::STORES)));
        }
        let (mut placed, mut end) = (Vec::new(), TAPE_START);
        for (number, under) in (1..).zip(bases) {
            let shift = end - TAPE_START;
            let behind = shift.checked_add(under.end).filter(|end| *end <= limits::ADDRESS / 2);
            end = behind.ok_or_else(|| Error::new(ErrorKind::Limit, "the bases are too large together"))?.max(end);
            placed.push(Placed { under: under.clone(), number, shift, related: false, used: false });
        }
        let is_some = !placed.is_empty();
        Ok(is_some.then(|| Self { placed, rows: BTreeMap::new(), end, found: 0, alike: None }))
    }

    /// Where the own contents begin.
    pub fn end(&self) -> u64 {
        self.end
    }

    /// Bytes of the chunks that were found so far, each counted once.
    pub fn found(&self) -> u64 {
        self.found
    }

    /// The address of a chunk that a base holds.
    pub fn find(&mut self, id: &Id, bytes: &[u8]) -> Option<u64> {
        if bytes.len() < SMALLEST {
            return None;
        }
        for i in 0..self.placed.len() {
            let Some(address) = self.placed[i].under.find(id, bytes) else { continue };
            if self.take_in(i, address, bytes.len() as u64).unwrap_or(false) {
                self.found += bytes.len() as u64;
                return Some(address + self.placed[i].shift);
            }
        }
        None
    }

    pub(super) fn placed(&self) -> &[Placed] {
        &self.placed
    }

    /// The bytes of a stretch of the tape that lies in a base, to decode others with. `None` when it cannot be that.
    pub(super) fn use_of(&mut self, base: usize, from: u64, to: u64) -> Result<Option<Vec<u8>>> {
        let Placed { under, shift, .. } = &self.placed[base];
        let (under, at, len) = (under.clone(), from - shift, to - from);
        let bytes = under.read(at, len)?;
        Ok((under.can_be_base(at, len)? && self.take_in(base, at, len)?).then_some(bytes))
    }

    /// Takes the rows in that a stretch of a base needs. False when they do not go together with those that are there.
    fn take_in(&mut self, at: usize, address: u64, len: u64) -> Result<bool> {
        let base = &self.placed[at];
        let (mut new, mut todo, mut related) = (BTreeMap::new(), vec![(address, len)], false);
        while let Some((address, len)) = todo.pop() {
            let (mut from, to) = (address, address.saturating_add(len));
            while from < to {
                let Some(row) = base.under.container.index().segment(from)? else { return Ok(false) };
                from = row.address + row.raw_len;
                let moved = SegmentRow {
                    address: row.address + base.shift,
                    record: if base.under.entry.is_store { 0 } else { row.record },
                    store: base.number,
                    ..row
                };
                if !base.under.holds(&row) || new.len() >= NEEDED {
                    return Ok(false);
                }
                if new.contains_key(&moved.address) || self.rows.get(&moved.address) == Some(&moved) {
                    continue;
                }
                if overlaps(&self.rows, &moved) || overlaps(&new, &moved) {
                    return Ok(false);
                }
                let bases = base.under.related(&row)?;
                related |= !bases.is_empty();
                todo.extend(bases.iter().map(|base| (base.address.get(), base.len.get())));
                new.insert(moved.address, moved);
            }
        }
        self.rows.append(&mut new);
        let base = &mut self.placed[at];
        (base.used, base.related) = (true, base.related | related);
        Ok(true)
    }

    /// The rows of what is used, and what tells of the bases.
    pub fn take(&mut self) -> (Vec<SegmentRow>, Vec<MetaRow>) {
        let rows = std::mem::take(&mut self.rows).into_values().collect();
        let used = self.placed.iter().filter(|base| base.used);
        let metas = used.map(|base| {
            let entry = Entry { shift: base.shift, related: base.related, ..base.under.entry.clone() };
            entry.row(base.number)
        });
        (rows, metas.collect())
    }
}

/// Whether a row reaches into another one.
pub fn overlaps(rows: &BTreeMap<u64, SegmentRow>, row: &SegmentRow) -> bool {
    let before = rows.range(..=row.address).next_back();
    let behind = rows.range(row.address..).next();
    before.is_some_and(|(_, other)| other.address + other.raw_len > row.address)
        || behind.is_some_and(|(address, _)| *address < row.address + row.raw_len)
}
