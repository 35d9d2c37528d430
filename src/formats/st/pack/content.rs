//! From files to the tape: read, cut into chunks, find the ones that are there already, lay the others one behind the
//! other, close a segment when it is full.

use super::super::bases::Ground;
use super::super::layout::{Base, TAPE_START};
use super::super::plan::{Class, Preset};
use super::super::rows::{ChunkRow, ExtentRow, NodeRow};
use super::super::seal::Sealing;
use super::super::table::NewTable;
use super::super::{extra, limits};
use super::chunks::Chunks;
use super::dict::{Dict, Dicts};
use super::encode::Raw;
use super::kin::Kinship;
use super::{Keeping, Segmentation};
use crate::codec::cdc::{self, Chunker};
use crate::codec::id::Id;
use crate::codec::zstd::EncodeDict;
use crate::error::Result;
use crate::formats::Watch;
use crate::formats::st::pack::walk::cancelled;
use crate::source::ReadAt;
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

/// Chunks that are remembered for dedup, in each of two generations: with 56 bytes a chunk about 110 MiB together, good
/// for 64 GiB of contents that lie back.
const SEEN: usize = 1 << 20;

/// Chunks smaller than this get no row in the index: what sharing them could save is hardly more than the row.
const SMALLEST_ROW: usize = 512;

/// Which chunks lie where. The older half is forgotten when the younger is full; what is found again stays.
#[derive(Default)]
struct Seen {
    young: HashMap<Id, u64>,
    old: HashMap<Id, u64>,
}

impl Seen {
    fn find(&mut self, id: &Id) -> Option<u64> {
        if let Some(address) = self.young.get(id) {
            return Some(*address);
        }
        let address = self.old.remove(id)?;
        self.insert(*id, address);
        Some(address)
    }

    fn insert(&mut self, id: Id, address: u64) {
        if self.young.len() >= SEEN {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(id, address);
    }
}

/// Takes segments for the workers; false when they have given up.
pub type Sink<'a> = dyn Fn(Raw) -> bool + 'a;

/// Looks for a chunk in what was written long ago: by its id, and by comparing the bytes.
pub type Older = Box<dyn Fn(&Id, &[u8]) -> Option<u64> + Send>;

/// The tape, while it is being filled.
pub struct Content {
    segmentation: Option<Segmentation>,
    preset: Preset,
    chunker: Arc<Chunker>,
    /// Segments all have one length, as far as there is enough to fill them: where chunks end shows in none.
    even: bool,
    seen: Seen,
    kinship: Option<Kinship>,
    pub dicts: Dicts,
    /// For who adds to a container.
    pub older: Option<Older>,
    /// What is not stored because it lies in a base, and because it stays where it is.
    ground: Option<Ground>,
    keeping: Option<Keeping>,
    /// Where the own tape begins.
    start: u64,
    /// What files are read into.
    buffer: Vec<u8>,
    open: Vec<u8>,
    open_class: Class,
    /// Where the next byte goes.
    address: u64,
    pub chunks: Vec<ChunkRow>,
    pub extents: Vec<ExtentRow>,
}

impl Content {
    pub fn new(segmentation: Option<Segmentation>, preset: &Preset, sealing: &Sealing) -> Self {
        Self {
            segmentation,
            preset: *preset,
            chunker: Arc::new(sealing.chunker()),
            even: sealing.is_sealed(),
            seen: Seen::default(),
            dicts: Dicts::default(),
            older: None,
            ground: None,
            keeping: None,
            start: TAPE_START,
            kinship: preset.bases.then(Kinship::new),
            buffer: Vec::new(),
            open: Vec::new(),
            open_class: Class::default(),
            address: TAPE_START,
            chunks: Vec::new(),
            extents: Vec::new(),
        }
    }

    /// Begins behind what lies elsewhere.
    pub fn lie_over(&mut self, ground: Option<Ground>, keeping: Option<Keeping>) {
        let behind = [ground.as_ref().map(Ground::end), keeping.as_ref().map(|keeping| keeping.kept.start)];
        self.start = behind.into_iter().flatten().fold(TAPE_START, u64::max);
        (self.address, self.ground, self.keeping) = (self.start, ground, keeping);
    }

    /// Whether something lies elsewhere.
    pub fn is_thin(&self) -> bool {
        self.ground.is_some() || self.keeping.is_some()
    }

    /// The rows of what lies elsewhere.
    pub fn foreign(&mut self, table: &mut NewTable) {
        if let Some((rows, metas)) = self.ground.as_mut().map(Ground::take) {
            table.segments.extend(rows);
            table.metas.extend(metas);
        }
        if let Some(Keeping { kept, .. }) = &self.keeping {
            table.segments.extend(kept.foreign().copied());
            table.metas.extend(kept.metas.iter().cloned());
        }
    }

    /// Bytes that were found in bases.
    pub fn in_bases(&self) -> u64 {
        self.ground.as_ref().map_or(0, Ground::found)
    }

    /// Goes on at this address, with nothing remembered.
    pub fn resume(&mut self, address: u64) {
        self.seen = Seen::default();
        // A segment that was laid and not committed is no base for another one.
        self.kinship = self.preset.bases.then(Kinship::new);
        self.open.clear();
        self.chunks.clear();
        self.extents.clear();
        self.address = address;
    }

    /// What cuts contents.
    pub fn chunker(&self) -> Arc<Chunker> {
        self.chunker.clone()
    }

    /// Where the tape ends.
    pub fn address(&self) -> u64 {
        self.address
    }

    /// Bytes on the tape so far.
    pub fn unique(&self) -> u64 {
        self.address - self.start
    }

    /// Packs the contents of a file and notes in `row` where they are. `dense` says that the file has no holes.
    pub fn file(
        &mut self,
        file: &dyn ReadAt,
        dense: bool,
        row: &mut NodeRow,
        (send, watch): (&Sink<'_>, &dyn Watch),
    ) -> Result<()> {
        let mut layout = Layout::default();
        let mut at = 0;
        while let Some(range) = if dense { (at < row.size).then_some(at..row.size) } else { file.next_data(at)? } {
            let range = range.start..range.end.min(row.size);
            if range.is_empty() {
                break;
            }
            at = range.end;
            let end = self.parts(file, range, &mut layout, (send, watch))?;
            if end < at {
                // The file became shorter while it was read: it is packed as far as it goes.
                row.size = end;
                break;
            }
        }
        self.settle(layout, row);
        Ok(())
    }

    /// Packs a stretch of a file, but for what lies elsewhere; returns where its data ended.
    fn parts(
        &mut self,
        file: &dyn ReadAt,
        range: Range<u64>,
        layout: &mut Layout,
        (send, watch): (&Sink<'_>, &dyn Watch),
    ) -> Result<u64> {
        let end = range.end;
        let parts = match &self.keeping {
            Some(Keeping { kept, index, .. }) => kept.parts(index, file, range)?,
            None if self.even && self.ground.is_some() => self.found(file, range)?,
            None => vec![(range, None)],
        };
        for (part, elsewhere) in parts {
            layout.begin(part.start);
            let len = part.end - part.start;
            match elsewhere {
                Some(address) => {
                    layout.add(address, len);
                    watch.advance(len, 0);
                }
                None => {
                    let (until, end) = (part.end, self.range(file, part, layout, (send, watch))?);
                    if end < until {
                        return Ok(end);
                    }
                }
            }
        }
        Ok(end)
    }

    /// What of a stretch of a file lies in bases, of a container that cuts contents in a way of its own.
    fn found(&mut self, file: &dyn ReadAt, range: Range<u64>) -> Result<Vec<(Range<u64>, Option<u64>)>> {
        let Some(ground) = &mut self.ground else { return Ok(vec![(range, None)]) };
        let (chunker, mut at, end) = (Chunker::default(), range.start, range.end);
        let mut parts: Vec<(Range<u64>, Option<u64>)> = Vec::new();
        let mut chunks = Chunks::new(&chunker, file, range, &mut self.buffer);
        while let Some(chunk) = chunks.next()? {
            let behind = at + chunk.len() as u64;
            let address = ground.find(&Id::of(chunk), chunk);
            match parts.last_mut() {
                Some((last, None)) if address.is_none() => last.end = behind,
                _ => parts.push((at..behind, address)),
            }
            at = behind;
        }
        if at < end {
            // It became shorter: whoever reads it now finds the end.
            parts.push((at..end, None));
        }
        Ok(parts)
    }

    /// Packs a stretch of a file; returns where its data ended.
    fn range(
        &mut self,
        file: &dyn ReadAt,
        range: Range<u64>,
        layout: &mut Layout,
        (send, watch): (&Sink<'_>, &dyn Watch),
    ) -> Result<u64> {
        let mut buffer = std::mem::take(&mut self.buffer);
        let chunker = self.chunker();
        let mut chunks = Chunks::new(&chunker, file, range, &mut buffer);
        while let Some(chunk) = chunks.next()? {
            let class = *layout.class.get_or_insert_with(|| Class::of(chunk));
            self.chunk(chunk, class, layout, send)?;
            watch.advance(chunk.len() as u64, 0);
            if watch.is_cancelled() {
                return Err(cancelled());
            }
        }
        let end = chunks.end();
        self.buffer = buffer;
        Ok(end)
    }

    fn chunk(&mut self, bytes: &[u8], class: Class, layout: &mut Layout, send: &Sink<'_>) -> Result<()> {
        let address = self.place(bytes, class, send)?;
        layout.add(address, bytes.len() as u64);
        Ok(())
    }

    /// The address of a chunk: where it is already, or where it is laid now.
    pub fn place(&mut self, bytes: &[u8], class: Class, send: &Sink<'_>) -> Result<u64> {
        let id = Id::of(bytes);
        if let Some(address) = self.seen.find(&id) {
            return Ok(address);
        }
        let indexed = bytes.len() >= SMALLEST_ROW;
        let lower = self.ground.as_mut().filter(|_| !self.even).and_then(|ground| ground.find(&id, bytes));
        if let Some(address) = lower {
            self.seen.insert(id, address);
            return Ok(address);
        }
        let older = self.older.as_ref().filter(|_| indexed).and_then(|older| older(&id, bytes));
        if let Some(address) = older {
            self.seen.insert(id, address);
            return Ok(address);
        }
        let address = self.append(bytes, class, send)?;
        self.seen.insert(id, address);
        if self.preset.chunk_rows && indexed {
            self.chunks.push(ChunkRow { id: u64::from_be_bytes(id.short()), address, len: bytes.len() as u64 });
        }
        Ok(address)
    }

    /// Lays bytes on the tape; returns where.
    pub fn append(&mut self, bytes: &[u8], class: Class, send: &Sink<'_>) -> Result<u64> {
        if class != self.open_class || self.is_better_closed(bytes.len()) {
            self.close(send)?;
        }
        self.open_class = class;
        let address = self.address;
        let mut rest = bytes;
        while !rest.is_empty() {
            let (now, later) = rest.split_at(rest.len().min(self.limit() - self.open.len()));
            self.open.extend_from_slice(now);
            self.address += now.len() as u64;
            rest = later;
            if self.open.len() == self.limit() {
                self.close(send)?;
            }
        }
        Ok(address)
    }

    /// Raw bytes of a segment of the open class.
    fn limit(&self) -> usize {
        self.limit_of(self.open_class)
    }

    pub fn limit_of(&self, class: Class) -> usize {
        match (self.segmentation, class) {
            (Some(Segmentation::Bytes(bytes)), _) => bytes as usize,
            (Some(Segmentation::Chunk), _) => cdc::MAX,
            (None, Class::Text) => self.preset.text_segment as usize,
            (None, Class::Binary) => self.preset.segment as usize,
        }
    }

    /// Whether the open segment is closed before a chunk of so many bytes: a segment that is nearly full leaves the
    /// chunk whole for the next one, and reading a small file then decodes one segment and not two.
    fn is_better_closed(&self, len: usize) -> bool {
        let limit = self.limit();
        match self.segmentation {
            Some(Segmentation::Chunk) => !self.open.is_empty(),
            _ if self.even => false,
            _ => self.open.len() + len > limit && self.open.len() >= limit - limit / 8,
        }
    }

    /// Lays a dictionary on the tape, in a segment of its own.
    pub fn add_dict(&mut self, bytes: &[u8], class: Class, level: i32, send: &Sink<'_>) -> Result<Dict> {
        self.close(send)?;
        let address = self.append(bytes, class, send)?;
        self.close(send)?;
        let base = Base { address: address.into(), len: (bytes.len() as u64).into() };
        Ok(Dict { base, encoder: Arc::new(EncodeDict::new(bytes, level)) })
    }

    /// Hands the open segment to the workers.
    pub fn close(&mut self, send: &Sink<'_>) -> Result<()> {
        if self.open.is_empty() {
            return Ok(());
        }
        let capacity = self.limit().min(self.open.len() * 2);
        let raw = std::mem::replace(&mut self.open, Vec::with_capacity(capacity));
        let address = self.address - raw.len() as u64;
        let bytes = Arc::new(raw);
        let lower = self.ground.as_mut().filter(|_| self.preset.over).and_then(|ground| ground.alike(&bytes));
        let prefix = lower.or_else(|| self.kinship.as_mut()?.find(address, &bytes));
        let dict = self.dicts.of(self.open_class).cloned();
        let raw = Raw { address, bytes, class: self.open_class, prefix, dict };
        if send(raw) { Ok(()) } else { Err(cancelled()) }
    }

    /// Writes into the row where the contents are: inline when they are few pieces, else as rows of their own.
    fn settle(&mut self, layout: Layout, row: &mut NodeRow) {
        let pieces = layout.pieces;
        let allocated: u64 = pieces.iter().map(|piece| piece.len).sum();
        let mut inline = Vec::new();
        let mut at = 0;
        for piece in &pieces {
            if piece.at > at {
                inline.push((0, piece.at - at));
            }
            inline.push((piece.address, piece.len));
            at = piece.at + piece.len;
        }
        if inline.len() as u64 <= limits::EXTENTS_INLINE {
            row.extents = inline;
            return;
        }
        row.data_id = row.ino;
        let rows = pieces.iter().map(|p| ExtentRow { data_id: row.ino, at: p.at, address: p.address, len: p.len });
        self.extents.extend(rows);
        if allocated < row.size {
            extra::add_numbers(&mut row.extra, extra::ALLOCATED, &[allocated]);
        }
    }
}

/// Where the pieces of a file lie; pieces that follow each other in the file and on the tape are one.
#[derive(Default)]
struct Layout {
    pieces: Vec<Piece>,
    at: u64,
    /// Judged by the first chunk.
    class: Option<Class>,
}

struct Piece {
    at: u64,
    address: u64,
    len: u64,
}

impl Layout {
    /// Data go on at this offset of the file.
    fn begin(&mut self, at: u64) {
        self.at = at;
    }

    fn add(&mut self, address: u64, len: u64) {
        match self.pieces.last_mut() {
            Some(last) if last.address + last.len == address && last.at + last.len == self.at => last.len += len,
            _ => self.pieces.push(Piece { at: self.at, address, len }),
        }
        self.at += len;
    }
}
