//! Files that are compressed as a whole: `x.gz`, `x.tar.xz` and their like.
//!
//! ```text
//!   x.tar.gz ─► Stream ─► Forward ─► a format that is read from its front: its tree
//!   x.txt.gz                      └► nothing known: a folder with the one file x.txt
//! ```
//!
//! Points from which decoding can begin are found by the way, and are kept for the next time with whatever the format inside
//! keeps.

use super::{Access, Compressed, Format, HEAD, Match, Probe, Remembered, Settling, Volume, Watch, forward_format};
use crate::error::{Error, Kind, Result, Within};
use crate::source::streams::{self, Compression};
use crate::source::{Forward, Point, ReadAt, Stream};
use crate::tree::{Attr, Builder, Catalog, Contents, Duplicates, Item, Kind as NodeKind, Time};
use std::sync::Arc;

/// By so many bytes, formats that are read from their front are recognised at the least.
const FIRST: usize = 512;

/// The format, for the list of formats.
pub struct CompressedFile;

impl Format for CompressedFile {
    fn name(&self) -> &'static str {
        "compressed"
    }

    fn recognise(&self, probe: &Probe<'_>) -> Match {
        match streams::recognise(probe.head, probe.name) {
            // Nothing in the data tells these.
            Some(Compression::Brotli | Compression::Lzma) => Match::Weak,
            Some(_) => Match::Head,
            None => Match::No,
        }
    }

    fn open(&self, access: Access) -> Result<Volume> {
        let name = access.name.clone();
        open(access).within(|| name)
    }

    fn open_to_settle(&self, access: Access) -> Result<Option<Settling>> {
        let Some(held) = access.held.clone() else { return Ok(None) };
        let name = access.name.clone();
        let (decoded, kind) = decoded(&Access { bytes: held.file(), ..access }).within(|| name.clone())?;
        let format = format_inside(&*decoded.bytes, &inner_name(&name)).within(|| name)?;
        let Some(format) = format else { return Ok(None) };
        let settling = format.open_to_settle(decoded)?;
        Ok(settling.map(|settling| {
            let format = joined_name(settling.volume.format, kind);
            Settling { volume: Volume { format, ..settling.volume }, ..settling }
        }))
    }
}

/// What a compressed file is decoded to, for formats that open it anew themselves.
pub fn inside(access: &Access) -> Result<Access> {
    decoded(access).map(|(decoded, _)| decoded)
}

fn decoded(access: &Access) -> Result<(Access, Compression)> {
    let len = access.bytes.len()?;
    let kind = kind(access)?;
    let forward = Forward::new(streams::stream(kind, access.bytes.clone())?, access.cache.clone())?;
    Ok((Access { bytes: forward, compressed: Some(Compressed { by: kind.name(), len }), ..access.clone() }, kind))
}

fn kind(access: &Access) -> Result<Compression> {
    let mut head = vec![0; HEAD.min(access.bytes.len()? as usize)];
    access.bytes.read_exact_at(0, &mut head)?;
    let kind = streams::recognise(&head, &access.name);
    kind.ok_or_else(|| Error::new(Kind::NotRecognised, "it is not compressed in a known way"))
}

fn open(access: Access) -> Result<Volume> {
    let len = access.bytes.len()?;
    let kind = kind(&access)?;
    let stream = streams::stream(kind, access.bytes.clone())?;
    let known = access.memory.as_ref().and_then(|memory| points_of(&memory.load(&key(kind))?));
    let had_points = known.is_some();
    let forward = match known {
        Some(points) => Forward::with_points(stream.clone(), access.cache.clone(), points),
        None => Forward::new(stream.clone(), access.cache.clone())?,
    };
    let (name, memory) = (inner_name(&access.name), access.memory.clone());
    let access_is_strict = access.reading.strict;
    let compressed = Compressed { by: kind.name(), len };
    let inside = match format_inside(&*forward, &name)? {
        Some(format) => {
            let (bytes, name, compressed) = (forward.clone(), name.clone(), Some(compressed));
            let inner = format.open(Access { bytes, name, compressed, ..access.clone() });
            inner.map(|inner| Some(Volume { format: joined_name(inner.format, kind), ..inner }))
        }
        None => Ok(None),
    };
    let volume = match inside {
        Ok(Some(inner)) => inner,
        Ok(None) => single(&access, &forward, &name, kind, len)?,
        // It only looked like one.
        Err(e) if e.kind() == Kind::Header && !access.reading.strict => single(&access, &forward, &name, kind, len)?,
        Err(e) => return Err(e),
    };
    if let Some(memory) = memory.filter(|_| !had_points) {
        keep_points(&*memory, kind, &forward);
    }
    let mut notes = volume.notes;
    if let Some(damage) = forward.damage().filter(|_| notes.is_empty()) {
        refuse_when_strict(access_is_strict, &damage)?;
        notes.push(format!("the compressed data are damaged: {damage}"));
    }
    let facts = [("compression", kind.name().to_owned()), ("random access", cost(kind, &forward, &*stream))];
    Ok(Volume { notes, facts: volume.facts.into_iter().chain(facts).collect(), ..volume })
}

fn refuse_when_strict(is_strict: bool, damage: &str) -> Result<()> {
    match is_strict {
        true => Err(Error::new(Kind::Damaged, damage).hint("without --strict what is whole is read all the same")),
        false => Ok(()),
    }
}

/// The format of what is inside, if it can be read from its front.
fn format_inside(forward: &dyn ReadAt, name: &str) -> Result<Option<&'static dyn Format>> {
    let mut head = vec![0; HEAD];
    let got = match forward.read_at(0, &mut head) {
        Ok(got) => got,
        // It is damaged, but perhaps not in its first block.
        Err(e) if e.kind() == Kind::Damaged => forward.read_at(0, &mut head[..FIRST]).unwrap_or_default(),
        Err(e) => return Err(e),
    };
    Ok(forward_format(&Probe { head: &head[..got], tail: &[], name }))
}

/// The name without the ending of the compression; without a known one, the same with a dot less would be a guess.
fn inner_name(name: &str) -> String {
    let file = name.rsplit('/').next().unwrap_or(name);
    streams::inner_name(file).unwrap_or_else(|| format!("{file}.out"))
}

fn joined_name(inner: &'static str, kind: Compression) -> &'static str {
    match (inner, kind) {
        ("tar", Compression::Gzip) => "tar.gz",
        ("tar", Compression::Bzip2) => "tar.bz2",
        ("tar", Compression::Xz) => "tar.xz",
        ("tar", Compression::Lzma) => "tar.lzma",
        ("tar", Compression::Lzip) => "tar.lz",
        ("tar", Compression::Zstd) => "tar.zst",
        ("tar", Compression::Lz4) => "tar.lz4",
        ("tar", Compression::Brotli) => "tar.br",
        ("tar", Compression::Compress) => "tar.Z",
        ("cpio", Compression::Gzip) => "cpio.gz",
        ("cpio", Compression::Bzip2) => "cpio.bz2",
        ("cpio", Compression::Xz) => "cpio.xz",
        ("cpio", Compression::Lzma) => "cpio.lzma",
        ("cpio", Compression::Zstd) => "cpio.zst",
        ("cpio", Compression::Lz4) => "cpio.lz4",
        (inner, _) => inner,
    }
}

// ---- one file ----

struct Single(Arc<Forward>);

impl Contents for Single {
    fn open(&self, _content: u64) -> Result<Arc<dyn ReadAt>> {
        Ok(self.0.clone())
    }
}

/// A folder with the one file.
fn single(access: &Access, forward: &Arc<Forward>, name: &str, kind: Compression, stored: u64) -> Result<Volume> {
    let time = access.modified.unwrap_or_default();
    let mut notes = Vec::new();
    let size = match size(access, forward, kind) {
        Ok(size) => size,
        Err(e) if e.kind() == Kind::Damaged && !access.reading.strict => {
            notes.push(format!("it is damaged: {e}"));
            // So that who reads it gets all that is there, and is told that it is not all.
            forward.furthest() + 1
        }
        Err(e) => return Err(e),
    };
    let mut builder = Builder::new(Duplicates::Numbered, access.reading.max_entries, time);
    let mut attr = Attr::new(NodeKind::File, 0o644, mtime(access, kind).unwrap_or(time));
    (attr.size, attr.allocated) = (size, size);
    builder.add(name.as_bytes(), Item::new(attr, 0))?;
    let (tables, shown) = builder.finish();
    notes.extend(shown);
    let contents: Arc<dyn Contents> = match notes.is_empty() {
        true => Arc::new(Single(forward.clone())),
        false => Arc::new(Torn(forward.clone(), size)),
    };
    let tree = Arc::new(Catalog::new(tables, contents, stored));
    Ok(Volume { notes, ..Volume::read_only(tree, kind.name()) })
}

/// What a file becomes. Of gzip and others only who decodes all of it knows.
fn size(access: &Access, forward: &Forward, kind: Compression) -> Result<u64> {
    let key = format!("{} length", key(kind));
    let known = access.memory.as_ref().and_then(|memory| memory.load(&key)?.try_into().ok());
    if let Some(known) = known {
        return Ok(u64::from_le_bytes(known));
    }
    let is_told = forward.is_len_told();
    let size = if is_told { forward.len()? } else { decoded_size(forward, &*access.watch)? };
    if let Some(memory) = access.memory.as_ref().filter(|_| !is_told && size >= WORTH) {
        memory.save(&key, &size.to_le_bytes());
    }
    Ok(size)
}

/// Decodes all of it, piece by piece, so that somebody can see how far it is, and end it.
fn decoded_size(forward: &Forward, watch: &dyn Watch) -> Result<u64> {
    const STEP: u64 = 4 << 20;
    let mut at = 0;
    while forward.read_at(at, &mut [0])? > 0 {
        if watch.is_cancelled() {
            return Err(Error::new(Kind::Interrupted, "interrupted"));
        }
        at += STEP;
        watch.advance(STEP, 0);
    }
    forward.len()
}

/// A file that ends in damage, before its last byte.
struct Torn(Arc<Forward>, u64);

impl Contents for Torn {
    fn open(&self, _content: u64) -> Result<Arc<dyn ReadAt>> {
        Ok(Arc::new(TornFile(self.0.clone(), self.1)))
    }
}

struct TornFile(Arc<Forward>, u64);

impl ReadAt for TornFile {
    fn len(&self) -> Result<u64> {
        Ok(self.1)
    }

    fn read_at(&self, at: u64, into: &mut [u8]) -> Result<usize> {
        let want = usize::try_from(self.1.saturating_sub(at)).unwrap_or(usize::MAX).min(into.len());
        self.0.read_exact_at(at, &mut into[..want])?;
        Ok(want)
    }
}

fn mtime(access: &Access, kind: Compression) -> Option<Time> {
    let gzip = (kind == Compression::Gzip).then(|| streams::Gzip::new(access.bytes.clone()))?.ok()?;
    gzip.mtime().map(|secs| Time { secs: secs.into(), nanos: 0 })
}

// ---- points ----

/// Decoded bytes below which points are found again at once.
const WORTH: u64 = 16 << 20;

fn key(kind: Compression) -> String {
    format!("points 1 {}", kind.name())
}

fn keep_points(memory: &dyn Remembered, kind: Compression, forward: &Forward) {
    let points: Vec<_> = forward.points().into_iter().map(|point| (point.at, point.state.to_vec())).collect();
    if points.last().is_none_or(|(at, _)| *at < WORTH) {
        return;
    }
    // Windows are text as often as not.
    let packed = postcard::to_allocvec(&points).ok().and_then(|plain| zstd::bulk::compress(&plain, 1).ok());
    packed.into_iter().for_each(|packed| memory.save(&key(kind), &packed));
}

fn points_of(bytes: &[u8]) -> Option<Vec<Point>> {
    const MAX: u64 = 1 << 30;
    let mut plain = Vec::new();
    let decoder = zstd::stream::read::Decoder::new(bytes).ok()?;
    std::io::Read::read_to_end(&mut std::io::Read::take(decoder, MAX), &mut plain).ok()?;
    let points: Vec<(u64, Vec<u8>)> = postcard::from_bytes(&plain).ok()?;
    let ascend = points.windows(2).all(|pair| pair[0].0 < pair[1].0);
    ascend.then(|| points.into_iter().map(|(at, state)| Point { at, state: state.into() }).collect())
}

/// What a jump into the file costs.
fn cost(kind: Compression, forward: &Forward, stream: &dyn Stream) -> String {
    let points = forward.points();
    let widest = points.windows(2).map(|pair| pair[1].at - pair[0].at).max();
    let tail = points.last().zip(stream.len()).map(|(last, len)| len.saturating_sub(last.at));
    let most = widest.max(tail).map(|bytes| bytes.div_ceil(1 << 20).max(1));
    match most.filter(|_| points.len() > 1) {
        Some(most) => format!("{}: a jump decodes at most about {most} MiB ({} points)", kind.name(), points.len()),
        None => format!(
            "{}: a jump decodes all that is before it, what was decoded lately excepted; `stmount convert` to .st makes \
             it instant",
            kind.name()
        ),
    }
}
