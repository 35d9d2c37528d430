//! Contents of changed files: what was touched is cut into chunks and laid on the tape, the rest stays where it is.
//!
//! ```text
//!   file      ├──────────────────────────────────────────┤
//!   touched              ▓▓▓▓▓▓▓▓▓▓▓▓▓
//!   chunks        ╎......╎╎═════╎═══════╎═══╎               cut from a bit before, so that the old cuts are found again;
//!   laid                  ╎═════╎═══════╎═══╎               what ends before the touched part is as it was
//! ```

use super::super::index::Index;
use super::super::pack::chunks::Chunks;
use super::super::pack::{Content, Sink};
use super::super::plan::{Class, Preset};
use super::super::rows::ChunkRow;
use super::super::seal::Sealing;
use super::super::tape::Tape;
use crate::codec::cdc;
use crate::codec::id::Id;
use crate::error::{Error, Kind, Result};
use crate::source::ReadAt;
use crate::tree::{Draft, Part, PartFrom, Touched};
use std::ops::Range;
use std::sync::Arc;

/// Touched stretches from this size on are cut from a bit before them. Smaller ones are taken as they are: a database that
/// writes a page does not want to store all of a chunk.
const RECUT: u64 = 64 << 10;

/// A stretch of a file that is data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    pub at: u64,
    pub address: u64,
    pub len: u64,
}

impl Piece {
    pub fn end(&self) -> u64 {
        self.at + self.len
    }
}

/// What lays contents on the tape, from commit to commit.
pub struct Contents {
    content: Content,
    /// Whether stretches are cut anew from a bit before them. On a full disk there is room for what was touched only.
    recuts: bool,
}

impl Contents {
    pub fn new(preset: &Preset, sealing: &Sealing, address: u64) -> Self {
        let mut content = Content::new(None, preset, sealing);
        content.resume(address);
        Self { content, recuts: true }
    }

    /// Begins a commit: chunks are also looked for in what this index knows.
    pub fn begin(&mut self, index: &Arc<Index>, tape: &Arc<Tape>, recuts: bool) {
        self.recuts = recuts;
        let (index, tape) = (index.clone(), tape.clone());
        self.content.older = Some(Box::new(move |id, bytes| older(&index, &tape, id, bytes)));
    }

    /// Forgets what a failed commit has laid, and which index it asked.
    pub fn forget(&mut self, address: u64) {
        self.content.older = None;
        self.content.resume(address);
    }

    pub fn address(&self) -> u64 {
        self.content.address()
    }

    pub fn take_chunks(&mut self) -> Vec<ChunkRow> {
        std::mem::take(&mut self.content.chunks)
    }

    /// Ends a commit: the segment that is being filled is closed.
    pub fn finish(&mut self, send: &Sink<'_>) -> Result<()> {
        self.content.close(send)
    }

    /// Where the contents of a changed file lie. `old` says where those of `below` do, the file before; `owner` is the
    /// container.
    pub fn file(
        &mut self,
        draft: &Draft,
        below: Option<&Arc<dyn ReadAt>>,
        old: Vec<Piece>,
        owner: u64,
        send: &Sink<'_>,
    ) -> Result<Vec<Piece>> {
        let mut pieces = Pieces(old);
        pieces.cut(draft.kept()..u64::MAX);
        let view = View { draft, below };
        let mut run: Option<Range<u64>> = None;
        for part in draft.touched() {
            let range = part.at..part.at + part.len;
            if let Some(shared) = shared(&part, owner) {
                self.run(&view, run.take(), &mut pieces, send)?;
                pieces.cut(range);
                pieces.put(&shared);
                continue;
            }
            if let PartFrom::Touched(Touched::Hole) = part.from {
                self.run(&view, run.take(), &mut pieces, send)?;
                pieces.cut(range);
                continue;
            }
            run = match run {
                Some(run) if run.end == range.start => Some(run.start..range.end),
                earlier => {
                    self.run(&view, earlier, &mut pieces, send)?;
                    Some(range)
                }
            };
        }
        self.run(&view, run, &mut pieces, send)?;
        Ok(pieces.joined())
    }

    /// Lays a touched stretch on the tape.
    fn run(&mut self, view: &View<'_>, run: Option<Range<u64>>, pieces: &mut Pieces, send: &Sink<'_>) -> Result<()> {
        let Some(touched) = run else { return Ok(()) };
        let is_recut = touched.end - touched.start >= RECUT && self.recuts;
        let around = if is_recut { pieces.around(&touched) } else { touched.clone() };
        pieces.cut(touched.clone());
        let laid = match self.lay(view, around, &touched, send) {
            // What lies around it cannot be read, and need not be.
            Err(e) if e.kind() == Kind::MissingBase && is_recut => self.lay(view, touched.clone(), &touched, send)?,
            laid => laid?,
        };
        if laid.last().is_none_or(|last| last.end() < touched.end.min(view.draft.size())) {
            return Err(Error::new(Kind::Damaged, "a changed file is shorter than it should be"));
        }
        laid.iter().for_each(|piece| pieces.cut(piece.at..piece.end()));
        pieces.put(&laid);
        Ok(())
    }

    /// Lays the chunks of a stretch on the tape that reach into the touched part of it.
    fn lay(
        &mut self,
        view: &View<'_>,
        around: Range<u64>,
        touched: &Range<u64>,
        send: &Sink<'_>,
    ) -> Result<Vec<Piece>> {
        let around = around.start..around.end.min(view.draft.size());
        let (mut buffer, mut at, mut class) = (Vec::new(), around.start, None);
        let chunker = self.content.chunker();
        let mut chunks = Chunks::new(&chunker, view, around, &mut buffer);
        let mut laid = Vec::new();
        while let Some(chunk) = chunks.next()? {
            let start = at;
            at += chunk.len() as u64;
            if start >= touched.end {
                break;
            }
            if at > touched.start {
                let class = *class.get_or_insert_with(|| Class::of(chunk));
                let address = self.content.place(chunk, class, send)?;
                laid.push(Piece { at: start, address, len: chunk.len() as u64 });
            }
        }
        Ok(laid)
    }
}

/// The address of a chunk that was written long ago. What cannot be read is not there.
fn older(index: &Index, tape: &Tape, id: &Id, bytes: &[u8]) -> Option<u64> {
    let row = index.chunk(u64::from_be_bytes(id.short())).ok()??;
    if row.len != bytes.len() as u64 {
        return None;
    }
    let mut there = vec![0; bytes.len()];
    tape.read(row.address, &mut there).ok()?;
    (there == bytes).then_some(row.address)
}

/// What a part shares with another file of the container.
fn shared(part: &Part, owner: u64) -> Option<Vec<Piece>> {
    let PartFrom::Touched(Touched::Copy(source, from)) = &part.from else { return None };
    let stored = source.stored(*from..from + part.len).filter(|stored| stored.owner == owner)?;
    let piece = |(at, address, len): (u64, u64, u64)| Piece { at: at - from + part.at, address, len };
    Some(stored.pieces.into_iter().map(piece).collect())
}

/// The pieces of a file, in order.
struct Pieces(Vec<Piece>);

impl Pieces {
    /// Takes a range out.
    fn cut(&mut self, range: Range<u64>) {
        let first = self.0.partition_point(|piece| piece.end() <= range.start);
        let last = self.0.partition_point(|piece| piece.at < range.end).max(first);
        let head = self.0[first..last].first().filter(|piece| piece.at < range.start);
        let head = head.map(|piece| Piece { len: range.start - piece.at, ..*piece });
        let tail = self.0[first..last].last().filter(|piece| piece.end() > range.end);
        let tail = tail.map(|piece| {
            let gone = range.end - piece.at;
            Piece { at: range.end, address: piece.address + gone, len: piece.len - gone }
        });
        self.0.splice(first..last, head.into_iter().chain(tail));
    }

    /// Puts pieces, in order, where nothing is.
    fn put(&mut self, new: &[Piece]) {
        if let Some(piece) = new.first() {
            let at = self.0.partition_point(|old| old.at < piece.at);
            self.0.splice(at..at, new.iter().copied());
        }
    }

    /// A touched stretch with what lies around it without a hole: as much before it as a chunk can have, and all behind.
    fn around(&self, touched: &Range<u64>) -> Range<u64> {
        let mut range = touched.clone();
        let first = self.0.partition_point(|piece| piece.at < touched.start);
        for piece in self.0[..first].iter().rev() {
            if piece.end() < range.start || touched.start - range.start >= cdc::MAX as u64 {
                break;
            }
            range.start = range.start.min(piece.at.max(touched.start.saturating_sub(cdc::MAX as u64)));
        }
        for piece in &self.0[first.saturating_sub(1)..] {
            if piece.at > range.end {
                break;
            }
            range.end = range.end.max(piece.end());
        }
        range
    }

    fn joined(self) -> Vec<Piece> {
        let mut joined: Vec<Piece> = Vec::with_capacity(self.0.len());
        for piece in self.0 {
            match joined.last_mut() {
                Some(last) if last.end() == piece.at && last.address + last.len == piece.address => {
                    last.len += piece.len
                }
                _ => joined.push(piece),
            }
        }
        joined
    }
}

/// A changed file as bytes.
struct View<'a> {
    draft: &'a Draft,
    below: Option<&'a Arc<dyn ReadAt>>,
}

impl ReadAt for View<'_> {
    fn len(&self) -> Result<u64> {
        Ok(self.draft.size())
    }

    fn read_at(&self, at: u64, into: &mut [u8]) -> Result<usize> {
        let mut done = 0;
        for part in self.draft.parts(at..at + into.len() as u64) {
            let len = part.len as usize;
            let piece = &mut into[done..done + len];
            match (&part.from, self.below) {
                (PartFrom::Touched(Touched::Bytes(bytes, from)), _) => {
                    piece.copy_from_slice(&bytes[*from..*from + len])
                }
                (PartFrom::Touched(Touched::Copy(source, from)), _) => source.read_exact_at(*from, piece)?,
                (PartFrom::Below, Some(below)) => below.read_exact_at(part.at, piece)?,
                _ => piece.fill(0),
            }
            done += len;
        }
        Ok(done)
    }
}
