//! The archive that is written.
//!
//! ```text
//!   │ where the list is │ blocks as they were ─ ─ │ blocks that are new ─ ─ │ list │
//!     written last        in pieces                 small ones side by side on all threads, large files one by one
//! ```

use super::super::contents::Archive;
use super::super::database::{Block, Packed, Part, Streams};
use super::super::find::START;
use super::super::pack::{BLOCK, LARGE};
use super::super::{MAX_HEADER, database::File, entry};
use super::encode::{Encoded, Encoder};
use super::header;
use super::plan::{Entry, Plan};
use crate::error::{Error, Kind as ErrorKind, Result, Within};
use crate::formats::{Onto, Watch};
use crate::pool;
use crate::source::{Memory, ReadAt, Store};
use crate::tree::{Kind, Merged, Renumbered, Tree, path_display};
use std::io::{self, BufWriter, Write};
use std::sync::Arc;

/// Bytes that are read and written at once.
const PIECE: usize = 1 << 20;

/// The archive as far as it is written.
pub struct Out<'a> {
    store: &'a dyn Store,
    file: BufWriter<Onto<'a>>,
    at: u64,
    streams: Streams,
    encoder: &'a Encoder,
    watch: &'a dyn Watch,
}

/// Where contents of entries come from.
#[derive(Clone, Copy)]
pub struct Origin<'a> {
    pub merged: &'a Merged,
    pub archive: &'a Renumbered,
}

enum Job<'a> {
    /// Entries that become a block, with their bytes.
    Small(Vec<Vec<u8>>),
    Large(&'a Entry),
}

enum Made<'a> {
    Small(Result<Done<Vec<u8>>>),
    Large(&'a Entry),
}

/// A block with the lengths and sums of its parts.
struct Done<W> {
    encoded: Encoded<W>,
    parts: Vec<(u64, u32)>,
}

impl<'a> Out<'a> {
    pub fn new(store: &'a dyn Store, encoder: &'a Encoder, watch: &'a dyn Watch) -> Self {
        let at = START as u64;
        let file = BufWriter::with_capacity(PIECE, Onto { store, at });
        Self { store, file, at, streams: Streams::default(), encoder, watch }
    }

    /// Copies blocks.
    pub fn copy(&mut self, from: &Archive, blocks: &[usize]) -> Result<()> {
        let Streams { packed, parts, blocks: all } = &from.streams;
        for number in blocks {
            let block = &all[*number];
            let new = self.streams.blocks.len() as u32;
            let first = self.streams.packed.len();
            for stream in &packed[block.first..block.first + block.packed.len()] {
                self.streams.packed.push(Packed { at: self.at, ..*stream });
                self.copy_stream(&*from.source, stream)?;
            }
            self.streams.blocks.push(Block { first, ..block.clone() });
            let own = parts.partition_point(|part| (part.block as usize) < *number);
            let own = parts[own..].iter().take_while(|part| part.block as usize == *number);
            self.streams.parts.extend(own.map(|part| Part { block: new, ..*part }));
        }
        Ok(())
    }

    fn copy_stream(&mut self, source: &dyn ReadAt, stream: &Packed) -> Result<()> {
        let mut piece = vec![0; PIECE.min(usize::try_from(stream.len).unwrap_or(PIECE))];
        let mut done = 0;
        while done < stream.len {
            is_wanted(self.watch)?;
            let want = (stream.len - done).min(piece.len() as u64) as usize;
            source.read_exact_at(stream.at + done, &mut piece[..want])?;
            self.write(&piece[..want])?;
            done += want as u64;
        }
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).map_err(failed)?;
        self.at += bytes.len() as u64;
        Ok(())
    }

    /// Packs entries.
    pub fn pack(&mut self, entries: &[Entry], from: Origin<'_>) -> Result<()> {
        let (encoder, watch, threads) = (self.encoder, self.watch, pool::threads());
        pool::ordered(
            threads,
            threads + 1,
            |feed| feed_all(entries, from, watch, &mut |job| feed.push(job)),
            |job| match job {
                Job::Small(contents) => Made::Small(small(encoder, &contents)),
                Job::Large(entry) => Made::Large(entry),
            },
            |made| match made {
                Made::Small(done) => self.push_small(done?),
                Made::Large(entry) => self.push_large(entry, from).within(|| path_display(&entry.path)),
            },
        )
    }

    fn push_small(&mut self, done: Done<Vec<u8>>) -> Result<()> {
        let Done { encoded, parts } = done;
        let at = self.at;
        self.write(&encoded.out)?;
        self.push(at, (encoded.block, encoded.packed), &parts);
        Ok(())
    }

    /// A large file is a block, and is packed while it is written.
    fn push_large(&mut self, entry: &Entry, from: Origin<'_>) -> Result<()> {
        let (bytes, mut sum, mut done) = (from.open(entry)?, crc32fast::Hasher::new(), 0);
        let mut encoding = self.encoder.begin(&mut self.file, entry.len)?;
        let mut piece = vec![0; PIECE];
        while done < entry.len {
            is_wanted(self.watch)?;
            let want = (entry.len - done).min(PIECE as u64) as usize;
            bytes.read_exact_at(done, &mut piece[..want])?;
            sum.update(&piece[..want]);
            encoding.write(&piece[..want])?;
            done += want as u64;
            self.watch.advance(want as u64, 0);
        }
        let Encoded { block, packed, .. } = encoding.finish()?;
        let at = self.at;
        self.at += packed.len;
        self.push(at, (block, packed), &[(entry.len, sum.finalize())]);
        self.watch.advance(0, 1);
        Ok(())
    }

    fn push(&mut self, at: u64, (block, packed): (Block, Packed), parts: &[(u64, u32)]) {
        let (number, mut within) = (self.streams.blocks.len() as u32, 0);
        self.streams.blocks.push(Block { first: self.streams.packed.len(), ..block });
        self.streams.packed.push(Packed { at, ..packed });
        for (len, sum) in parts {
            self.streams.parts.push(Part { block: number, at: within, len: *len, sum: Some(*sum) });
            within += len;
        }
    }

    /// Whether anything in it is encrypted.
    pub fn has_locks(&self) -> bool {
        super::super::has_locks(&self.streams)
    }

    /// Writes the list, and at last where it is.
    pub fn finish(mut self, plan: &Plan, is_locked: bool) -> Result<()> {
        let mut files: Vec<File> = plan.entries().map(|entry| entry.file.clone()).collect();
        entry::with_attributes(&mut files);
        let header = match files.is_empty() && !is_locked {
            // As 7-Zip writes an archive with nothing in it.
            true => Vec::new(),
            false => self.packed_header(header::plain(&self.streams, &files), is_locked)?,
        };
        let at = self.at;
        self.write(&header)?;
        self.file.flush().map_err(failed)?;
        self.store.write_at(0, &header::start(at, &header))
    }

    /// Packs the list, where that makes it shorter or it is to be encrypted. Returns what leads to it.
    fn packed_header(&mut self, plain: Vec<u8>, is_locked: bool) -> Result<Vec<u8>> {
        let len = plain.len() as u64;
        if len > MAX_HEADER {
            return Err(Error::new(ErrorKind::Limit, "the list of its entries would be too large"));
        }
        let seal = self.encoder.seal.clone().filter(|_| is_locked);
        let encoder = Encoder { seal, level: self.encoder.level };
        let mut encoding = encoder.begin(Vec::new(), len)?;
        encoding.write(&plain)?;
        let Encoded { out, block, packed } = encoding.finish()?;
        let block = Block { sum: Some(crc32fast::hash(&plain)), ..block };
        let part = Part { block: 0, at: 0, len, sum: block.sum };
        let packed = vec![Packed { at: self.at, ..packed }];
        let leading = header::encoded(&Streams { packed, blocks: vec![block], parts: vec![part] });
        if !is_locked && out.len() + leading.len() >= plain.len() {
            return Ok(plain);
        }
        self.write(&out)?;
        Ok(leading)
    }
}

impl<'a> Origin<'a> {
    /// What is packed of an entry: of a link, where it leads.
    fn open(self, entry: &Entry) -> Result<Arc<dyn ReadAt>> {
        let is_link = self.merged.attr(entry.node)?.kind == Kind::Symlink;
        match is_link && self.archive.number_below(entry.node).is_none() {
            true => Ok(Arc::new(Memory::new(self.merged.target(entry.node)?))),
            false => self.merged.open(entry.node),
        }
    }

    fn read(self, entry: &Entry) -> Result<Vec<u8>> {
        let mut bytes = vec![0; entry.len as usize];
        self.open(entry)?.read_exact_at(0, &mut bytes)?;
        Ok(bytes)
    }
}

/// Hands all entries over, small ones gathered to blocks.
fn feed_all<'a>(
    entries: &'a [Entry],
    from: Origin<'_>,
    watch: &dyn Watch,
    push: &mut dyn FnMut(Job<'a>) -> bool,
) -> Result<()> {
    let (mut batch, mut bytes) = (Vec::new(), 0);
    for entry in entries {
        is_wanted(watch)?;
        watch.entry(&entry.path);
        let is_large = entry.len >= LARGE;
        if !batch.is_empty() && (is_large || bytes + entry.len > BLOCK) {
            bytes = 0;
            if !push(Job::Small(std::mem::take(&mut batch))) {
                return Ok(());
            }
        }
        if is_large {
            if !push(Job::Large(entry)) {
                return Ok(());
            }
            continue;
        }
        batch.push(from.read(entry).within(|| path_display(&entry.path))?);
        bytes += entry.len;
        watch.advance(entry.len, 1);
    }
    if !batch.is_empty() {
        push(Job::Small(batch));
    }
    Ok(())
}

/// A block of several entries.
fn small(encoder: &Encoder, contents: &[Vec<u8>]) -> Result<Done<Vec<u8>>> {
    let len = contents.iter().map(|bytes| bytes.len() as u64).sum();
    let mut encoding = encoder.begin(Vec::new(), len)?;
    contents.iter().try_for_each(|bytes| encoding.write(bytes))?;
    let parts = contents.iter().map(|bytes| (bytes.len() as u64, crc32fast::hash(bytes))).collect();
    Ok(Done { encoded: encoding.finish()?, parts })
}

fn is_wanted(watch: &dyn Watch) -> Result<()> {
    match watch.is_cancelled() {
        true => Err(Error::new(ErrorKind::Interrupted, "interrupted")),
        false => Ok(()),
    }
}

fn failed(e: io::Error) -> Error {
    Error::io(e, "cannot write the archive")
}
