//! Packing a tree as tar: the pax format, which GNU tar, bsdtar, Python and all others of this century read.
//!
//! ```text
//!   tree ──► headers and contents ──► pieces ──► workers compress ──► out, in order
//! ```
//!
//! What the old header has no room for stands in a pax header before it: long paths, large numbers, nanoseconds,
//! attributes (as `SCHILY.xattr.`), the map of a sparse file (as GNU tar writes it, version 1.0). A compressed tar is made of
//! pieces that are compressed each on its own: all cores work, and whoever reads can begin at each of them. Every
//! decompressor reads such files, they are what `cat a.gz b.gz` gives.

use crate::codec::pieces::{Codec, compressed};
use crate::error::{Error, Kind as ErrorKind, Result};
use crate::formats::{Found, Holds, collect};
use crate::formats::{Pack, Packed, Watch};
use crate::pool;
use crate::source::ReadAt;
use crate::tree::{Attr, Filter, Kind, Tree, device};
use std::io::{self, Write};

/// What tar holds: all but sockets.
pub const HOLDS: Holds = Holds {
    format: "tar",
    hard_links: true,
    symlinks: true,
    xattrs: usize::MAX,
    owners: true,
    sparse: true,
    specials: true,
    sockets: false,
    root: true,
    any_names: true,
    time: 1,
};

const BLOCK: usize = 512;

/// The end of an archive.
pub const END: [u8; 2 * BLOCK] = [0; 2 * BLOCK];

/// Bytes that are read at once.
const PIECE: usize = 1 << 20;

/// Files up to this size are read before their header is written, so that a damaged one is left out and not cut.
const READ_AHEAD: u64 = 8 << 20;

/// Packs trees as tar.
pub struct TarPacker {
    pub codec: Option<Codec>,
    /// 1 to 9.
    pub level: u8,
    pub threads: usize,
    pub filter: Filter,
}

impl Pack for TarPacker {
    fn pack(&self, tree: &dyn Tree, out: &mut (dyn Write + Send), watch: &dyn Watch) -> Result<Packed> {
        self.entries(tree, &collect(tree, &self.filter, watch)?, out, watch)
    }
}

impl TarPacker {
    /// Writes entries, and the end.
    pub fn entries(
        &self,
        tree: &dyn Tree,
        all: &[Found],
        out: &mut (dyn Write + Send),
        watch: &dyn Watch,
    ) -> Result<Packed> {
        let mut packed = Packed { entries: all.len() as u64, ..Packed::default() };
        packed.bytes =
            all.iter().filter(|f| f.same_as.is_none() && f.attr.kind == Kind::File).map(|f| f.attr.size).sum();
        packed.unique = packed.bytes;
        watch.total(packed.bytes, packed.entries);
        let mut counted = Counted { out, written: 0 };
        let Some(codec) = self.codec else {
            packed.skipped = entries(tree, all, &mut counted, watch)?;
            packed.stored = counted.written;
            return Ok(packed);
        };
        let (level, mut skipped) = (self.level, 0);
        pool::ordered(
            self.threads,
            self.threads * 2,
            |feed| {
                let mut pieces =
                    Pieces { buffer: Vec::new(), size: codec.piece(level), push: &mut |piece| feed.push(piece) };
                skipped = entries(tree, all, &mut pieces, watch)?;
                pieces.push_rest();
                Ok(())
            },
            |piece: Vec<u8>| compressed(codec, level, &piece),
            |piece| Ok(counted.write_all(&piece?)?),
        )?;
        (packed.skipped, packed.stored) = (skipped, counted.written);
        Ok(packed)
    }
}

struct Counted<'a> {
    out: &'a mut (dyn Write + Send),
    written: u64,
}

impl Write for Counted<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.written += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Cuts what is written into pieces.
struct Pieces<'a> {
    buffer: Vec<u8>,
    size: usize,
    push: &'a mut dyn FnMut(Vec<u8>) -> bool,
}

impl Pieces<'_> {
    fn push_rest(&mut self) {
        if !self.buffer.is_empty() {
            (self.push)(std::mem::take(&mut self.buffer));
        }
    }
}

impl Write for Pieces<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let len = bytes.len().min(self.size - self.buffer.len());
        self.buffer.extend_from_slice(&bytes[..len]);
        if self.buffer.len() == self.size && !(self.push)(std::mem::take(&mut self.buffer)) {
            // The error is that of whoever took the pieces.
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        Ok(len)
    }

    /// What follows begins a piece of its own.
    fn flush(&mut self) -> io::Result<()> {
        self.push_rest();
        Ok(())
    }
}

/// Writes all entries and the end. Returns how many were skipped.
fn entries(tree: &dyn Tree, all: &[Found], out: &mut dyn Write, watch: &dyn Watch) -> Result<u64> {
    let mut skipped = 0;
    for found in all {
        if watch.is_cancelled() {
            return Err(Error::new(ErrorKind::Interrupted, "interrupted"));
        }
        watch.entry(&found.path);
        let unplaced = || Error::new(ErrorKind::Unsupported, "tar has no place for a socket");
        let done = if HOLDS.has_place_for(found.attr.kind) { entry(tree, found, out, watch) } else { Err(unplaced()) };
        match done {
            Ok(()) => {}
            Err(e) if is_of_output(&e) => return Err(e),
            Err(e) => {
                watch.skipped(&found.path, &e);
                skipped += 1;
            }
        }
        watch.advance(0, 1);
    }
    // Whoever adds something later only has to take away the piece with the end.
    out.flush().and_then(|()| out.write_all(&END)).map_err(output)?;
    Ok(skipped)
}

/// Errors of the output end everything; they are marked by their words.
const OUTPUT: &str = "cannot write the archive";

fn output(e: io::Error) -> Error {
    Error::io(e, OUTPUT)
}

fn is_of_output(e: &Error) -> bool {
    e.to_string().starts_with(OUTPUT) || e.kind() == ErrorKind::Interrupted
}

fn entry(tree: &dyn Tree, found: &Found, out: &mut dyn Write, watch: &dyn Watch) -> Result<()> {
    let mut head = Head::new(tree, found)?;
    if found.same_as.is_some() || found.attr.kind != Kind::File {
        return out.write_all(&head.bytes(0)).map_err(output);
    }
    let file = tree.open(found.node)?;
    let map = if found.attr.allocated < found.attr.size { Some(data_of(&*file, found.attr.size)?) } else { None };
    match map {
        Some(map) => sparse(&mut head, &*file, &map, out, watch),
        None => {
            let whole = std::iter::once((0, found.attr.size)).collect::<Vec<_>>();
            let first = ahead(&*file, found.attr.size)?;
            out.write_all(&head.bytes(found.attr.size)).map_err(output)?;
            contents(&*file, &whole, &first, out, watch)?;
            pad(found.attr.size, out)
        }
    }
}

/// A small file, read before anything of it is written.
fn ahead(file: &dyn ReadAt, size: u64) -> Result<Vec<u8>> {
    let mut bytes = vec![0; if size <= READ_AHEAD { size as usize } else { 0 }];
    file.read_exact_at(0, &mut bytes)?;
    Ok(bytes)
}

/// The parts of a file that are no holes, in whole blocks: GNU tar begins a block with each of them.
fn data_of(file: &dyn ReadAt, size: u64) -> Result<Vec<(u64, u64)>> {
    let (mut parts, mut at): (Vec<(u64, u64)>, _) = (Vec::new(), 0);
    while let Some(data) = file.next_data(at)? {
        let (start, end) =
            (data.start / BLOCK as u64 * BLOCK as u64, data.end.next_multiple_of(BLOCK as u64).min(size));
        if start >= end {
            break;
        }
        match parts.last_mut() {
            Some((first, len)) if *first + *len >= start => *len = end - *first,
            _ => parts.push((start, end - start)),
        }
        at = end;
    }
    Ok(parts)
}

/// As GNU tar does: the map stands before the data, in lines of decimal numbers.
fn sparse(
    head: &mut Head,
    file: &dyn ReadAt,
    map: &[(u64, u64)],
    out: &mut dyn Write,
    watch: &dyn Watch,
) -> Result<()> {
    // A hole at the end is told by an empty part there.
    let end = (head.attr.size, 0);
    let ends_in_hole = map.last().is_none_or(|(at, len)| at + len < head.attr.size);
    let parts: Vec<_> = map.iter().copied().chain(ends_in_hole.then_some(end)).collect();
    let mut text = format!("{}\n", parts.len());
    parts.iter().for_each(|(at, len)| text.push_str(&format!("{at}\n{len}\n")));
    let mut text = text.into_bytes();
    text.resize(text.len().next_multiple_of(BLOCK), 0);
    head.mark_sparse();
    let len = text.len() as u64 + map.iter().map(|(_, len)| len).sum::<u64>();
    out.write_all(&head.bytes(len)).map_err(output)?;
    out.write_all(&text).map_err(output)?;
    contents(file, map, &[], out, watch)?;
    pad(len, out)
}

/// Writes parts of a file. What cannot be read any more is written as zeros, since its length is written already.
fn contents(
    file: &dyn ReadAt,
    parts: &[(u64, u64)],
    first: &[u8],
    out: &mut dyn Write,
    watch: &dyn Watch,
) -> Result<()> {
    let mut failed = Ok(());
    if !first.is_empty() {
        out.write_all(first).map_err(output)?;
        watch.advance(first.len() as u64, 0);
        return Ok(());
    }
    let mut piece = vec![0; PIECE];
    for (start, len) in parts {
        let mut done = 0;
        while done < *len {
            let want = (*len - done).min(PIECE as u64) as usize;
            if failed.is_ok() {
                failed = file.read_exact_at(start + done, &mut piece[..want]);
            }
            if failed.is_err() {
                piece.fill(0);
            }
            out.write_all(&piece[..want]).map_err(output)?;
            done += want as u64;
            watch.advance(want as u64, 0);
        }
    }
    failed.map_err(|e| e.within("what follows is zeros"))
}

fn pad(len: u64, out: &mut dyn Write) -> Result<()> {
    let rest = len.next_multiple_of(BLOCK as u64) - len;
    out.write_all(&[0; BLOCK][..rest as usize]).map_err(output)
}

/// A header in the making.
struct Head<'a> {
    attr: &'a Attr,
    path: Vec<u8>,
    link: Vec<u8>,
    kind: u8,
    user: Option<String>,
    group: Option<String>,
    /// Records of the pax header.
    records: Vec<u8>,
}

impl<'a> Head<'a> {
    fn new(tree: &dyn Tree, found: &'a Found) -> Result<Self> {
        let attr = &found.attr;
        let (kind, link) = match (&found.same_as, attr.kind) {
            (Some(path), _) => (b'1', path.clone()),
            (_, Kind::Symlink) => (b'2', tree.target(found.node)?),
            (_, Kind::CharDevice) => (b'3', Vec::new()),
            (_, Kind::BlockDevice) => (b'4', Vec::new()),
            (_, Kind::Directory) => (b'5', Vec::new()),
            (_, Kind::Fifo) => (b'6', Vec::new()),
            _ => (b'0', Vec::new()),
        };
        let mut path = found.path.clone();
        if kind == b'5' {
            path.extend_from_slice(if path.is_empty() { b"./" } else { b"/" });
        }
        let owner = tree.owner(found.node)?;
        let mut head = Self { attr, path, link, kind, user: owner.user, group: owner.group, records: Vec::new() };
        if [&head.path, &head.link].into_iter().any(|name| std::str::from_utf8(name).is_err()) {
            // Bytes, in no charset that somebody could guess.
            head.record(b"hdrcharset", b"BINARY");
        }
        head.add_times();
        if kind != b'1' {
            for (name, value) in tree.xattrs(found.node)? {
                head.record(&[b"SCHILY.xattr.", &name[..]].concat(), &value);
            }
        }
        Ok(head)
    }

    /// `LEN KEY=VALUE\n`, where the length counts itself.
    fn record(&mut self, key: &[u8], value: &[u8]) {
        let rest = key.len() + value.len() + 3;
        let mut len = rest + 1;
        while len.to_string().len() + rest != len {
            len = len.to_string().len() + rest;
        }
        self.records.extend_from_slice(format!("{len} ").as_bytes());
        self.records.extend_from_slice(key);
        self.records.push(b'=');
        self.records.extend_from_slice(value);
        self.records.push(b'\n');
    }

    fn add_times(&mut self) {
        let (mtime, atime) = (self.attr.mtime, self.attr.atime);
        for (key, time) in [("mtime", mtime), ("atime", atime)] {
            let fits = time.nanos == 0 && (0..1 << 33).contains(&time.secs);
            if (key == "mtime" && fits) || (key == "atime" && time == mtime) {
                continue;
            }
            self.record(key.as_bytes(), decimal(time.secs, time.nanos).as_bytes());
        }
    }

    fn mark_sparse(&mut self) {
        let (path, size) = (self.path.clone(), self.attr.size.to_string());
        self.record(b"GNU.sparse.major", b"1");
        self.record(b"GNU.sparse.minor", b"0");
        self.record(b"GNU.sparse.name", &path);
        self.record(b"GNU.sparse.realsize", size.as_bytes());
        let name = path.rsplit(|b| *b == b'/').next().unwrap_or_default();
        self.path = [b"GNUSparseFile.0/", name].concat();
        self.path.truncate(100);
    }

    /// The header, with a pax header before it where one is needed.
    fn bytes(&mut self, size: u64) -> Vec<u8> {
        let (path, link) = (self.path.clone(), self.link.clone());
        if path.len() > 100 {
            self.record(b"path", &path);
        }
        if link.len() > 100 {
            self.record(b"linkpath", &link);
        }
        let (uid, gid) = (u64::from(self.attr.uid), u64::from(self.attr.gid));
        let (user, group) = (self.user.clone().unwrap_or_default(), self.group.clone().unwrap_or_default());
        for (key, value, most) in [("size", size, 1 << 33), ("uid", uid, 1 << 21), ("gid", gid, 1 << 21)] {
            if value >= most {
                self.record(key.as_bytes(), value.to_string().as_bytes());
            }
        }
        for (key, name) in [("uname", &user), ("gname", &group)] {
            if name.len() > 32 {
                self.record(key.as_bytes(), name.as_bytes());
            }
        }
        let mut out = Vec::new();
        if !self.records.is_empty() {
            let name = [b"PaxHeaders/", &path[..path.len().min(80)]].concat();
            out.extend_from_slice(&block(
                b'x',
                &name,
                &[],
                self.records.len() as u64,
                &Attr::new(Kind::File, 0o644, crate::tree::Time::default()),
                "",
                "",
            ));
            out.extend_from_slice(&self.records);
            out.resize(out.len().next_multiple_of(BLOCK), 0);
        }
        out.extend_from_slice(&block(self.kind, &path, &link, size, self.attr, &user, &group));
        out
    }
}

/// Seconds with their fraction; before 1970 both are negative.
fn decimal(secs: i64, nanos: u32) -> String {
    let (sign, secs, nanos) = match (secs, nanos) {
        (secs, 0) => return secs.to_string(),
        (secs, nanos) if secs < 0 => ("-", (secs + 1).unsigned_abs(), 1_000_000_000 - nanos),
        (secs, nanos) => ("", secs.unsigned_abs(), nanos),
    };
    format!("{sign}{secs}.{nanos:09}").trim_end_matches('0').to_owned()
}

/// A header block as ustar has it. What does not fit is cut; then a pax header has it whole.
fn block(kind: u8, path: &[u8], link: &[u8], size: u64, attr: &Attr, user: &str, group: &str) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    let mut put = |at: usize, len: usize, bytes: &[u8]| {
        block[at..at + bytes.len().min(len)].copy_from_slice(&bytes[..bytes.len().min(len)])
    };
    let octal = |value: u64, digits: usize| match value < 1 << (3 * digits) {
        true => format!("{value:0digits$o}").into_bytes(),
        false => vec![b'0'; digits],
    };
    put(0, 100, path);
    put(100, 7, &octal(u64::from(attr.mode), 7));
    put(108, 7, &octal(u64::from(attr.uid), 7));
    put(116, 7, &octal(u64::from(attr.gid), 7));
    put(124, 11, &octal(size, 11));
    put(136, 11, &octal(u64::try_from(attr.mtime.secs).unwrap_or(0), 11));
    put(148, 8, b"        ");
    put(156, 1, &[kind]);
    put(157, 100, link);
    put(257, 8, b"ustar\x0000");
    put(265, 31, user.as_bytes());
    put(297, 31, group.as_bytes());
    if attr.kind.is_device() {
        put(329, 7, &octal(u64::from(device::major(attr.rdev)), 7));
        put(337, 7, &octal(u64::from(device::minor(attr.rdev)), 7));
    }
    let sum: u64 = block.iter().map(|b| u64::from(*b)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_before_1970_are_written_as_numbers_have_it() {
        for (secs, nanos, text) in [
            (0, 0, "0"),
            (5, 500_000_000, "5.5"),
            (-1, 0, "-1"),
            (-1, 750_000_000, "-0.25"),
            (-2, 999_999_999, "-1.000000001"),
        ] {
            assert_eq!(decimal(secs, nanos), text);
        }
    }
}
