//! ar archives, to be read: libraries of `ar`, and packages of Debian.
//!
//! ```text
//!   !<arch>\n │ header │ data ┊to 2│ header │ data ┊to 2│ ─ ─
//!               "/" the index   "//" long names   "#1/20" a name in front of the data
//! ```
//!
//! The index that linkers use is no file that somebody packed; it is not shown, as `ar t` does not show it. A package of
//! Debian is a folder with its archives; with `-r` these are folders, too.

mod header;

use super::{Access, Format, Match, Names, Probe, Slips, Undeclared, Volume};
use crate::error::{Error, Kind as ErrorKind, Result, Within};
use crate::source::{Part, ReadAt};
use crate::tree::{Attr, Builder, Catalog, Contents, Duplicates, Item, Kind, Time};
use header::{Called, Header, LEN};
use std::sync::Arc;

const MAGIC: &[u8] = b"!<arch>\n";
const THIN: &[u8] = b"!<thin>\n";

/// A table of long names, and one name; no archive comes near.
const MAX_TABLE: u64 = 64 << 20;
const MAX_NAME: u64 = 64 << 10;

/// The format, for the list of formats.
pub struct Ar;

impl Format for Ar {
    fn name(&self) -> &'static str {
        "ar"
    }

    fn recognise(&self, probe: &Probe<'_>) -> Match {
        Match::head(probe.head.starts_with(MAGIC) || probe.head.starts_with(THIN))
    }

    fn is_read_forward(&self) -> bool {
        true
    }

    fn open(&self, access: Access) -> Result<Volume> {
        let name = access.name.clone();
        open(&access).within(|| name)
    }
}

fn open(access: &Access) -> Result<Volume> {
    let mut magic = [0; MAGIC.len()];
    access.bytes.read_at(0, &mut magic)?;
    match &magic[..] {
        MAGIC => {}
        THIN => {
            let what = "it is a thin archive: it has only the names of files that lie elsewhere, and nothing of what is in \
                        them";
            return Err(Error::new(ErrorKind::Unsupported, what).hint("`ar t` shows the names"));
        }
        _ => return Err(Error::new(ErrorKind::Header, "it does not begin as an ar archive")),
    }
    let scan = |names| Scan::new(access, names).run();
    let (scan, _) = Names::settled(access.reading.encoding.as_deref(), scan, |scan| &scan.undeclared)?;
    scan.finish()
}

/// What was found in an archive.
struct Scan<'a> {
    access: &'a Access,
    bytes: &'a dyn ReadAt,
    names: Names,
    undeclared: Undeclared,
    builder: Builder,
    members: Vec<(u64, u64)>,
    table: Vec<u8>,
    /// Bytes of the index.
    index: u64,
    is_package: bool,
    slips: Slips,
    at: u64,
}

impl<'a> Scan<'a> {
    fn new(access: &'a Access, names: Names) -> Self {
        let time = access.modified.unwrap_or_default();
        Self {
            access,
            bytes: &*access.bytes,
            names,
            undeclared: Undeclared::default(),
            builder: Builder::new(Duplicates::Numbered, access.reading.max_entries, time),
            members: Vec::new(),
            table: Vec::new(),
            index: 0,
            is_package: false,
            slips: Slips::new(access.reading.strict),
            at: MAGIC.len() as u64,
        }
    }

    fn run(mut self) -> Result<Self> {
        loop {
            if self.access.watch.is_cancelled() {
                return Err(Error::new(ErrorKind::Interrupted, "interrupted"));
            }
            match self.step() {
                Ok(true) => self.access.watch.advance(0, 1),
                Ok(false) => return Ok(self),
                // What stands before the damage can be read.
                Err(e) if !self.members.is_empty() && e.kind() == ErrorKind::Damaged => {
                    self.lost()?;
                    return Ok(self);
                }
                Err(e) => return Err(e),
            }
        }
    }

    /// The next member; `false` at the end.
    fn step(&mut self) -> Result<bool> {
        let mut head = [0; LEN];
        let got = self.bytes.read_at(self.at, &mut head)?;
        // Some fill up more than they should.
        if head[..got].iter().all(|b| matches!(b, b'\n' | 0)) {
            self.check_end()?;
            return Ok(false);
        }
        let Some(header) = Header::read(&head[..got]) else {
            if self.members.is_empty() {
                return Err(Error::new(ErrorKind::Header, "no header of a member is where the first one should be"));
            }
            self.lost()?;
            return Ok(false);
        };
        let data_at = self.at + LEN as u64;
        let end = data_at.checked_add(header.size).filter(|end| *end < u64::MAX);
        let end = end.ok_or_else(|| Error::new(ErrorKind::Damaged, "a member is larger than a file can be"))?;
        self.member(&header, data_at)?;
        self.at = end + end % 2;
        Ok(true)
    }

    fn lost(&mut self) -> Result<()> {
        self.slips.add("the archive is damaged, and what is behind the damage is missing")
    }

    /// Whether all is there of the last member.
    fn check_end(&mut self) -> Result<()> {
        let end = self.members.last().map_or(0, |(at, len)| at.saturating_add(*len));
        match end > self.bytes.len()? {
            true => self.slips.add("the archive is cut off in its last member"),
            false => Ok(()),
        }
    }

    fn member(&mut self, header: &Header, data_at: u64) -> Result<()> {
        let (mut at, mut len) = (data_at, header.size);
        let name = match header.called() {
            Called::Name(name) => name,
            Called::Table => {
                self.table = self.text(at, len, MAX_TABLE)?;
                return Ok(());
            }
            Called::Index => {
                self.index = self.index.saturating_add(len);
                return Ok(());
            }
            Called::InTable(at) => self.long_name(at)?,
            Called::InData(of_name) => {
                let of_name = of_name.min(len);
                let name = self.text(at, of_name, MAX_NAME)?;
                (at, len) = (at + of_name, len - of_name);
                let end = name.iter().position(|b| *b == 0).unwrap_or(name.len());
                name[..end].to_vec()
            }
        };
        if header::is_index(&name) {
            self.index = self.index.saturating_add(len);
            return Ok(());
        }
        self.is_package |= self.members.is_empty() && name == b"debian-binary";
        self.add(header, &name, at, len)
    }

    /// A name from the table, up to where the next one begins.
    fn long_name(&mut self, at: u64) -> Result<Vec<u8>> {
        let rest = usize::try_from(at).ok().and_then(|at| self.table.get(at..)).unwrap_or_default();
        let name = rest.split(|b| matches!(b, b'\n' | 0)).next().unwrap_or_default();
        let name = name.strip_suffix(b"/").unwrap_or(name);
        if name.is_empty() || name.len() as u64 > MAX_NAME {
            self.slips.add("the name of a member is not in the table of names")?;
            return Ok(Vec::new());
        }
        Ok(name.to_vec())
    }

    fn text(&mut self, at: u64, len: u64, most: u64) -> Result<Vec<u8>> {
        if len > most {
            return Err(Error::new(ErrorKind::Damaged, "names are longer than they can be"));
        }
        // Where the archive is shorter than it says, there is no memory for what it has not.
        let (mut text, mut piece) = (Vec::new(), vec![0; 64 << 10]);
        while (text.len() as u64) < len {
            let want = piece.len().min((len - text.len() as u64) as usize);
            self.bytes.read_exact_at(at + text.len() as u64, &mut piece[..want])?;
            text.extend_from_slice(&piece[..want]);
        }
        Ok(text)
    }

    fn add(&mut self, header: &Header, name: &[u8], at: u64, len: u64) -> Result<()> {
        self.undeclared.see(name);
        let mode = match header.mode & 0o7777 {
            // Some leave it blank.
            0 => 0o644,
            mode => mode,
        };
        let mut attr = Attr::new(Kind::File, mode, Time { secs: header.mtime, nanos: 0 });
        (attr.uid, attr.gid, attr.size, attr.allocated) = (header.uid, header.gid, len, len);
        let item = Item::new(attr, self.members.len() as u64);
        self.members.push((at, len));
        let path = self.names.decoded(name).into_owned();
        match self.builder.add(&path, item) {
            Err(e) if e.kind() == ErrorKind::Limit && self.builder.len() <= self.access.reading.max_entries => {
                self.slips.add("a member lies too deep to be shown")
            }
            added => added.map(drop),
        }
    }

    fn finish(self) -> Result<Volume> {
        let mut facts = vec![("entries", self.members.len().to_string())];
        if self.index > 0 {
            facts.push(("index of symbols", format!("{} bytes, not shown", self.index)));
        }
        facts.extend(self.names.charset().map(|charset| ("names in", charset.to_owned())));
        let stored = match &self.access.compressed {
            Some(compressed) => compressed.len,
            None => {
                facts.push(("random access", "not compressed: a jump costs nothing".into()));
                self.bytes.len()?
            }
        };
        let (tables, shown) = self.builder.finish();
        let notes = [self.slips.notes(), shown].concat();
        let archive = Archive { source: self.access.bytes.clone(), members: self.members };
        let tree = Arc::new(Catalog::new(tables, Arc::new(archive), stored));
        let format = if self.is_package { "deb" } else { "ar" };
        Ok(Volume { notes, facts, ..Volume::read_only(tree, format) })
    }
}

/// An archive with its members.
struct Archive {
    source: Arc<dyn ReadAt>,
    members: Vec<(u64, u64)>,
}

impl Contents for Archive {
    fn open(&self, content: u64) -> Result<Arc<dyn ReadAt>> {
        let member = usize::try_from(content).ok().and_then(|at| self.members.get(at));
        let (at, len) = *member.ok_or_else(|| Error::new(ErrorKind::NotFound, "no such entry"))?;
        Ok(Arc::new(Part::new(self.source.clone(), at, len)))
    }
}
