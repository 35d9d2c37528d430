//! From one header to the next, through all archives that stand one behind the other.

use super::broken;
use super::contents::{Archive, Member, NO_DATA};
use super::header::{Form, Header, LONGEST};
use crate::error::{Error, Kind as ErrorKind, Result};
use crate::formats::{Access, Names, Slips, Undeclared, Volume};
use crate::source::{Forward, ReadAt, Span, streams};
use crate::tree::{Attr, Builder, Catalog, Duplicates, Item, Kind, Time};
use hashbrown::HashMap;
use memchr::memmem;
use std::collections::BTreeSet;
use std::sync::Arc;

/// What is read at once: a header with its name, mostly.
const AHEAD: usize = 512;

/// What is read at once where no header is.
const PIECE: usize = 64 << 10;

/// How far the next header is looked for where none is.
const MAX_SKIPPED: u64 = 64 << 20;

/// Targets of links are no longer than this; what is longer nobody could follow.
const MAX_TARGET: u64 = 4096;

/// Compressed archives that stand in each other, or one behind the other.
const MAX_SOURCES: usize = 16;

/// The name of the entry that ends an archive.
const TRAILER: &[u8] = b"TRAILER!!!";

const CUT_OFF: &str = "the archive is cut off in its last entry";
const STRANGE: &str = "something stands behind the end of the archive";
const DAMAGED: &str = "the archive is damaged, and what is behind the damage is missing";

/// A file of which there may be more names.
struct First {
    row: u32,
    path: Vec<u8>,
    header: Header,
    /// Whether its data came, with one of its names.
    has_data: bool,
}

/// What was found in an archive.
pub struct Scan<'a> {
    access: &'a Access,
    names: Names,
    pub undeclared: Undeclared,
    builder: Builder,
    sources: Vec<Arc<dyn ReadAt>>,
    members: Vec<Member>,
    /// By device and inode.
    links: HashMap<(u64, u64), First>,
    forms: BTreeSet<Form>,
    slips: Slips,
    /// Where the next header is, in the last of the sources.
    at: u64,
    /// Where the data of the last entry end.
    data_end: u64,
    entries: u64,
    /// Archives that came to their end.
    ended: u64,
    /// Whether the last entry was the one that ends an archive.
    is_ended: bool,
    /// Whether entries were passed that could not be read.
    is_torn: bool,
}

impl<'a> Scan<'a> {
    pub fn new(access: &'a Access, source: Arc<dyn ReadAt>, names: Names) -> Self {
        Self {
            access,
            names,
            undeclared: Undeclared::default(),
            builder: Builder::new(
                Duplicates::LastWins,
                access.reading.max_entries,
                access.modified.unwrap_or_default(),
            ),
            sources: vec![source],
            members: Vec::new(),
            links: HashMap::new(),
            forms: BTreeSet::new(),
            slips: Slips::new(access.reading.strict),
            at: 0,
            data_end: 0,
            entries: 0,
            ended: 0,
            is_ended: false,
            is_torn: false,
        }
    }

    pub fn run(mut self) -> Result<Self> {
        loop {
            if self.access.watch.is_cancelled() {
                return Err(Error::new(ErrorKind::Interrupted, "interrupted"));
            }
            let before = self.at;
            match self.step() {
                Ok(true) => self.access.watch.advance(self.at.saturating_sub(before), 1),
                Ok(false) => return Ok(self),
                // What stands before the damage can be read.
                Err(e) if self.entries > 0 && e.kind() == ErrorKind::Damaged => {
                    self.slips.add(DAMAGED)?;
                    return Ok(self);
                }
                Err(e) => return Err(e),
            }
        }
    }

    /// At the end of an archive. The next one has inodes of its own.
    fn end_links(&mut self) {
        let links = std::mem::take(&mut self.links);
        if self.is_ended && !self.is_torn {
            return;
        }
        // The entry with their data may be one that is missing. With a size of nothing, nobody would see that.
        for first in links.values().filter(|first| !first.has_data) {
            self.builder.set_content(first.row, 1, NO_DATA);
        }
    }

    pub fn finish(mut self, format: &'static str) -> Result<Volume> {
        self.end_links();
        let forms: Vec<_> = self.forms.iter().map(|form| form.name()).collect();
        let mut facts = vec![("entries", self.entries.to_string()), ("form", forms.join(", "))];
        if self.ended > 1 {
            facts.push(("archives", self.ended.to_string()));
        }
        facts.extend(self.names.charset().map(|charset| ("names in", charset.to_owned())));
        let is_compressed = self.access.compressed.is_some();
        match self.sources.len() {
            1 if is_compressed => {}
            1 => facts.push(("random access", "not compressed: a jump costs nothing".into())),
            _ => facts.push(("random access", "a part is compressed: a jump decodes what is before it".into())),
        }
        let stored = match &self.access.compressed {
            Some(compressed) => compressed.len,
            None => self.access.bytes.len()?,
        };
        let (tables, shown) = self.builder.finish();
        let notes = [self.slips.notes(), shown].concat();
        let archive = Archive { sources: self.sources, members: self.members };
        let tree = Arc::new(Catalog::new(tables, Arc::new(archive), stored));
        Ok(Volume { notes, facts, ..Volume::read_only(tree, format) })
    }

    fn source(&self) -> &dyn ReadAt {
        &**self.sources.last().expect("there is at least one")
    }

    /// Up to so many bytes.
    fn bytes(&self, at: u64, most: usize) -> Result<Vec<u8>> {
        let mut bytes = vec![0; most];
        let got = self.source().read_at(at, &mut bytes)?;
        bytes.truncate(got);
        Ok(bytes)
    }

    /// The next header, or what is there instead; `false` at the end.
    fn step(&mut self) -> Result<bool> {
        let head = self.bytes(self.at, AHEAD)?;
        if head.is_empty() {
            return self.ended();
        }
        if let Some(header) = Header::read(&head) {
            let name = self.name(&header, &head)?;
            if let Some(name) = name.strip_suffix(b"\0").filter(|name| !name.is_empty()) {
                let end = name.iter().position(|b| *b == 0).unwrap_or(name.len());
                return self.entry(&header, &name[..end]);
            }
        }
        match (head[0], self.entries + self.ended) {
            (_, 0) => Err(broken("its first bytes are no header of a cpio")),
            (0, _) => self.pass_zeros(),
            _ if self.is_ended => self.behind(&head),
            _ => self.lost(),
        }
    }

    fn name(&self, header: &Header, head: &[u8]) -> Result<Vec<u8>> {
        let (at, len) = (header.name_at() as usize, header.name_len as usize);
        match head.get(at..at + len) {
            Some(name) => Ok(name.to_vec()),
            None => self.bytes(self.at + at as u64, len),
        }
    }

    /// Nothing follows. Whether all was there that should be?
    fn ended(&mut self) -> Result<bool> {
        if self.entries + self.ended == 0 {
            return Err(broken("there is nothing in it"));
        }
        if self.data_end > self.source().len()? {
            self.slips.add(CUT_OFF)?;
        } else if !self.is_ended {
            self.slips.add("the mark at the end of the archive is missing; it may be cut off")?;
        }
        Ok(false)
    }

    /// What archives are filled up with.
    fn pass_zeros(&mut self) -> Result<bool> {
        let piece = self.bytes(self.at, PIECE)?;
        let zeros = piece.iter().take_while(|b| **b == 0).count();
        self.at += zeros as u64;
        Ok(true)
    }

    /// Behind an archive: one that is compressed, or what nobody knows.
    fn behind(&mut self, head: &[u8]) -> Result<bool> {
        let kind = streams::recognise(head, "").filter(|_| self.sources.len() < MAX_SOURCES);
        let Some(kind) = kind else {
            self.slips.add(STRANGE)?;
            return Ok(false);
        };
        let source = self.sources.last().expect("there is at least one").clone();
        let range = self.at..source.len()?;
        let stream = streams::stream(kind, Arc::new(Span::new(source, range)))?;
        let forward = Forward::new(stream, self.access.cache.clone())?;
        let mut first = [0; LONGEST + 2];
        let got = forward.read_at(0, &mut first)?;
        if Header::read(&first[..got]).is_none() {
            self.slips.add(STRANGE)?;
            return Ok(false);
        }
        self.sources.push(forward);
        (self.at, self.data_end) = (0, 0);
        Ok(true)
    }

    /// No header is where one should be.
    fn lost(&mut self) -> Result<bool> {
        if self.data_end > self.at {
            // Only what fills data up is missing.
            return self.ended();
        }
        self.is_torn = true;
        let limit = self.at.saturating_add(MAX_SKIPPED);
        let is_text = self.forms.iter().all(|form| form.is_text());
        while is_text && self.at < limit {
            let piece = self.bytes(self.at + 1, PIECE)?;
            let found = memmem::find_iter(&piece, b"07070").find(|at| Header::is_likely(&piece[*at..]));
            if let Some(found) = found {
                self.at += 1 + found as u64;
                self.slips.add("a part of the archive is damaged, and entries in it are missing")?;
                return Ok(true);
            }
            if piece.len() < PIECE {
                break;
            }
            self.at += (PIECE - LONGEST) as u64;
        }
        self.slips.add(DAMAGED)?;
        Ok(false)
    }

    fn entry(&mut self, header: &Header, name: &[u8]) -> Result<bool> {
        self.forms.insert(header.form);
        let data_at = self.at.checked_add(header.data_at());
        let next = data_at.and(self.at.checked_add(header.next_at()));
        let (Some(data_at), Some(next)) = (data_at, next) else {
            return Err(Error::new(ErrorKind::Damaged, "an entry is larger than a file can be"));
        };
        self.is_ended = name == TRAILER;
        if self.is_ended {
            self.ended += 1;
            self.end_links();
        } else {
            self.data_end = data_at + header.size;
            self.add(header, name, data_at)?;
            self.entries += 1;
        }
        self.at = next;
        Ok(true)
    }

    fn add(&mut self, header: &Header, name: &[u8], data_at: u64) -> Result<()> {
        self.undeclared.see(name);
        let path = self.names.decoded(name).into_owned();
        let mut item = item(header);
        match item.attr.kind {
            Kind::File => {
                item.content = self.members.len() as u64;
                let sum = header.sum.filter(|_| header.size > 0);
                let source = self.sources.len() as u32 - 1;
                self.members.push(Member { source, at: data_at, len: header.size, sum });
            }
            Kind::Symlink if header.size <= MAX_TARGET => {
                let mut target = vec![0; header.size as usize];
                self.source().read_exact_at(data_at, &mut target)?;
                self.undeclared.see(&target);
                item.target = Some(self.names.decoded(&target).into_owned());
            }
            Kind::Symlink => self.slips.add("the target of a link is too long, and cannot be read")?,
            _ => {}
        }
        match self.add_item(header, path, item) {
            Err(e) if e.kind() == ErrorKind::Limit && self.builder.len() <= self.access.reading.max_entries => {
                self.slips.add("an entry lies too deep to be shown")
            }
            added => added,
        }
    }

    fn add_item(&mut self, header: &Header, path: Vec<u8>, item: Item) -> Result<()> {
        let may_be_link = header.links > 1 && !matches!(item.attr.kind, Kind::Directory | Kind::Symlink);
        if !may_be_link {
            return self.builder.add(&path, item).map(drop);
        }
        let key = (header.device, header.inode);
        let first = self.links.get_mut(&key).filter(|first| is_same(&first.header, header));
        // Another entry of its path may have taken the place of the first one.
        let first = first.filter(|first| self.builder.row_of(&first.path) == Some(first.row));
        let Some(First { row, path: to, has_data, .. }) = first else {
            let row = self.builder.add(&path, item)?;
            self.links.insert(key, First { row, path, header: *header, has_data: header.size > 0 });
            return Ok(());
        };
        let (row, content) = (*row, item.content);
        *has_data |= header.size > 0;
        self.builder.link(&path, to, item)?;
        // With the last name come the data; or with each of them.
        if header.size > 0 {
            self.builder.set_content(row, header.size, content);
        }
        Ok(())
    }
}

/// Whether two entries of one inode can be one file. Old forms have few bits for the number of the inode.
fn is_same(one: &Header, other: &Header) -> bool {
    let fits = |header: &Header| (header.mode, header.uid, header.gid, header.mtime, header.rdev);
    fits(one) == fits(other) && (one.size == other.size || one.size == 0 || other.size == 0)
}

/// An entry as it is shown, but for its contents.
fn item(header: &Header) -> Item {
    let kind = Kind::from_mode(header.mode).unwrap_or(Kind::File);
    let mut attr = Attr::new(kind, header.mode & 0o7777, Time { secs: header.mtime, nanos: 0 });
    (attr.uid, attr.gid) = (header.uid, header.gid);
    match kind {
        Kind::File | Kind::Symlink => (attr.size, attr.allocated) = (header.size, header.size),
        _ if kind.is_device() => attr.rdev = header.rdev,
        _ => {}
    }
    Item::new(attr, 0)
}
