//! From one header to the next, through the whole archive.
//!
//! ```text
//!   │ x records │ L long name │ header │ data ─ ─ ─ ┊pad│ header │ data ┊pad│ ─ ─ │ zeros │ zeros │ ( another archive )
//!    └ about the next entry ─┘
//! ```

use super::broken;
use super::contents::{Member, NO_MAP};
use super::entry::{Entry, Said, kind};
use super::header::{BLOCK, Header, Piece, more_pieces};
use super::index::{Saved, fact};
use super::numbers::{decimal, text};
use super::pax::{MAX_PIECES, Pax};
use super::sparse::Map;
use crate::error::{Error, Kind as ErrorKind, Result};
use crate::formats::{Access, Names, Slips, Undeclared};
use crate::source::ReadAt;
use crate::tree::{Builder, Duplicates, Item, Kind, Time};

/// Records of pax in front of one entry, in bytes; and names, which no system takes if they are longer.
const MAX_RECORDS: u64 = 4 << 20;
const MAX_NAME: u64 = 1 << 20;

/// How far the next header is looked for where none is.
const MAX_SKIPPED: u64 = 64 << 20;

fn torn_map() -> Error {
    Error::new(ErrorKind::Damaged, "the map of a sparse file is cut off")
}

/// What was found in an archive.
pub struct Scan<'a> {
    access: &'a Access,
    bytes: &'a dyn ReadAt,
    names: Names,
    pub undeclared: Undeclared,
    builder: Builder,
    members: Vec<Member>,
    maps: Vec<Map>,
    global: Pax,
    label: Option<String>,
    slips: Slips,
    /// Where the next header is.
    at: u64,
    /// Where the data of the last entry end.
    data_end: u64,
    entries: u64,
    /// Where the first block of zeros behind them is.
    body: u64,
    /// Blocks of zeros that were just passed.
    zeros: u64,
    /// Whether something was said of an entry.
    has_records: bool,
}

impl<'a> Scan<'a> {
    pub fn new(access: &'a Access, names: Names) -> Self {
        Self {
            access,
            bytes: &*access.bytes,
            names,
            undeclared: Undeclared::default(),
            builder: Builder::new(Duplicates::LastWins, access.reading.max_entries, Time::default()),
            members: Vec::new(),
            maps: Vec::new(),
            global: Pax::default(),
            label: None,
            slips: Slips::new(access.reading.strict),
            at: 0,
            data_end: 0,
            body: 0,
            entries: 0,
            zeros: 0,
            has_records: false,
        }
    }

    pub fn run(mut self) -> Result<Self> {
        let mut said = Said::default();
        loop {
            if self.access.watch.is_cancelled() {
                return Err(Error::new(ErrorKind::Interrupted, "interrupted"));
            }
            let before = self.at;
            match self.step(&mut said) {
                Ok(true) => self.access.watch.advance(self.at.saturating_sub(before), 1),
                Ok(false) => break,
                // What stands before the damage can be read.
                Err(e) if self.entries > 0 && e.kind() == ErrorKind::Damaged => {
                    self.slips.add("the archive is damaged, and what is behind the damage is missing")?;
                    break;
                }
                Err(e) => return Err(e),
            }
        }
        Ok(self)
    }

    pub fn finish(self) -> Result<Saved> {
        let is_clear = self.slips.is_empty();
        let mut facts = vec![(fact::ENTRIES, self.entries.to_string())];
        facts.extend(self.names.charset().map(|charset| (fact::CHARSET, charset.to_owned())));
        facts.extend(self.label.map(|label| (fact::LABEL, label)));
        let random = match self.access.compressed {
            Some(_) => None,
            None => Some((fact::RANDOM, "not compressed: a jump costs nothing".to_owned())),
        };
        facts.extend(random);
        let (tables, shown) = self.builder.finish();
        let notes = [self.slips.notes(), shown].concat();
        Ok(Saved {
            tables,
            members: self.members,
            maps: self.maps,
            notes,
            facts,
            is_clear,
            body: self.body,
            end: self.at.max(self.data_end),
        })
    }

    /// The next block; `false` at the end.
    fn step(&mut self, said: &mut Said) -> Result<bool> {
        let Some(block) = self.block(self.at)? else { return self.ended() };
        if block.iter().all(|b| *b == 0) {
            if self.zeros == 0 {
                self.body = self.at;
            }
            self.zeros += 1;
            self.at += BLOCK as u64;
            return Ok(true);
        }
        let Some(header) = Header::read(&block) else { return self.lost() };
        if self.zeros >= 2 {
            // It may be a second archive, or what an older and longer one left behind.
            self.slips.add("another archive stands behind the end of this one; -o force shows its entries, too")?;
            if !self.access.reading.force {
                return Ok(false);
            }
        }
        self.zeros = 0;
        self.header(&header, said)?;
        Ok(true)
    }

    fn block(&self, at: u64) -> Result<Option<[u8; BLOCK]>> {
        let mut block = [0; BLOCK];
        let got = self.bytes.read_at(at, &mut block)?;
        Ok((got == BLOCK).then_some(block))
    }

    /// Nothing follows. Whether all was there that should be?
    fn ended(&mut self) -> Result<bool> {
        if self.entries == 0 && (self.zeros == 0 || self.has_records) {
            return Err(broken("there is no entry in it"));
        }
        let len = self.bytes.len()?;
        if self.data_end > len {
            self.slips.add("the archive is cut off in its last entry")?;
        }
        self.at = self.at.min(len);
        if self.zeros == 0 {
            self.body = self.at;
        }
        Ok(false)
    }

    /// No header is where one should be.
    fn lost(&mut self) -> Result<bool> {
        if self.entries == 0 && self.zeros == 0 {
            return Err(broken("its first block is no header of a tar"));
        }
        if self.zeros > 0 {
            self.slips.add("something stands behind the end of the archive")?;
            return Ok(false);
        }
        let limit = self.at.saturating_add(MAX_SKIPPED);
        while self.at < limit {
            self.at += BLOCK as u64;
            let Some(block) = self.block(self.at)? else { break };
            if Header::read(&block).is_some_and(|header| header.has_magic()) {
                self.slips.add("a part of the archive is damaged, and entries in it are missing")?;
                return Ok(true);
            }
        }
        self.slips.add("the archive is damaged, and what is behind the damage is missing")?;
        Ok(false)
    }

    fn header(&mut self, header: &Header, said: &mut Said) -> Result<()> {
        let data_at = self.at + BLOCK as u64;
        let size = header.size();
        match header.kind {
            kind::PAX | kind::SOLARIS => {
                self.has_records = true;
                let records = self.text(data_at, size, MAX_RECORDS)?;
                said.pax.take(&records);
            }
            kind::PAX_GLOBAL => {
                let records = self.text(data_at, size, MAX_RECORDS)?;
                self.global.take(&records);
            }
            kind::LONG_NAME => said.name = Some(text(&self.text(data_at, size, MAX_NAME)?).to_vec()),
            kind::LONG_TARGET => said.target = Some(text(&self.text(data_at, size, MAX_NAME)?).to_vec()),
            kind::LABEL => self.label = Some(String::from_utf8_lossy(&header.path()).into_owned()),
            kind::SOLARIS_ACL | kind::OLD_NAMES => {}
            _ => {
                let said = std::mem::take(said);
                return self.entry(header, &said);
            }
        }
        self.pass(data_at, size)
    }

    /// Goes on behind data.
    fn pass(&mut self, data_at: u64, size: u64) -> Result<()> {
        let behind = size.checked_next_multiple_of(BLOCK as u64).and_then(|size| data_at.checked_add(size));
        self.at = behind.ok_or_else(|| Error::new(ErrorKind::Damaged, "an entry is larger than a file can be"))?;
        Ok(())
    }

    /// What an entry about another entry says. What is too long is left out.
    fn text(&mut self, at: u64, size: u64, most: u64) -> Result<Vec<u8>> {
        if size > most {
            self.slips.add("what is said of an entry is too long, and was left out")?;
            return Ok(Vec::new());
        }
        let mut bytes = vec![0; size as usize];
        self.bytes.read_exact_at(at, &mut bytes)?;
        Ok(bytes)
    }

    fn entry(&mut self, header: &Header, said: &Said) -> Result<()> {
        let global = std::mem::take(&mut self.global);
        let entry = Entry { header, said, global: &global };
        let added = self.add(&entry);
        self.global = global;
        added
    }

    fn add(&mut self, entry: &Entry<'_>) -> Result<()> {
        if entry.said.pax.is_torn {
            self.slips.add("a record about an entry cannot be read")?;
        }
        let (path, target) = (entry.path(), entry.target());
        if entry.header.kind == kind::REST {
            self.slips.add("an entry is the rest of a file that begins in another volume")?;
        }
        // Whoever says a charset knows better.
        let is_binary = entry.is_binary() && self.access.reading.encoding.is_none();
        let names = if is_binary { Names::default() } else { self.names };
        if !is_binary {
            self.undeclared.see(&path);
        }
        self.entries += 1;
        let mut item = entry.item(names);
        let is_link = entry.header.kind == kind::HARD_LINK;
        let data_at = self.at + BLOCK as u64;
        let stored = self.stored(entry, item.attr.kind, data_at)?;
        if item.attr.kind == Kind::File && !(is_link && stored == 0) {
            self.contents(entry, &mut item, data_at, stored)?;
        } else {
            self.data_end = data_at.saturating_add(stored);
            self.pass(data_at, stored)?;
        }
        let path = names.decoded(&path);
        let added = match is_link && stored == 0 {
            true => self.builder.link(&path, &names.decoded(&target), item),
            false => self.builder.add(&path, item).map(drop),
        };
        match added {
            Err(e) if e.kind() == ErrorKind::Limit && self.builder.len() <= self.access.reading.max_entries => {
                self.slips.add("an entry lies too deep to be shown")
            }
            added => added,
        }
    }

    /// Bytes that stand behind a header. Some programs tell the size of the file of which a link, or a directory, is one.
    fn stored(&self, entry: &Entry<'_>, kind: Kind, data_at: u64) -> Result<u64> {
        let told = entry.size();
        Ok(match (entry.header.kind, kind) {
            _ if told == 0 => 0,
            (kind::DUMP, _) => told,
            (kind::HARD_LINK, _) => {
                let next = self.block(data_at)?;
                let is_header = next.is_none_or(|block| Header::read(&block).is_some() || block == [0; BLOCK]);
                if is_header { 0 } else { told }
            }
            (_, Kind::File) => told,
            _ => 0,
        })
    }

    fn contents(&mut self, entry: &Entry<'_>, item: &mut Item, mut at: u64, mut stored: u64) -> Result<()> {
        let (next, sparse) = (at, &entry.said.pax.sparse);
        self.data_end = at.saturating_add(stored);
        let map = match entry.header.kind {
            kind::SPARSE => {
                let (pieces, size) = self.old_map(entry.header, &mut at)?;
                self.data_end = at.saturating_add(stored);
                self.pass(at, stored)?;
                Some((pieces, size))
            }
            _ if sparse.is_sparse => {
                self.pass(next, stored)?;
                let before = at;
                let pieces =
                    if sparse.version.0 == 1 { self.map_in_data(&mut at, stored)? } else { sparse.pieces.clone() };
                stored = stored.saturating_sub(at - before);
                Some((pieces, sparse.size.unwrap_or(stored)))
            }
            _ => {
                self.pass(next, stored)?;
                None
            }
        };
        let mut member = Member { at, len: stored, map: 0 };
        (item.attr.size, item.attr.allocated) = (stored, stored);
        if let Some((pieces, size)) = map {
            match Map::new(size, stored, &pieces) {
                Ok(map) => {
                    (item.attr.size, item.attr.allocated) = (size, map.allocated());
                    self.maps.push(map);
                    member.map = self.maps.len() as u32;
                }
                // Where its data belong, nobody knows.
                Err(_) => {
                    self.slips.add("the map of a sparse file cannot be right, and the file cannot be read")?;
                    (item.attr.size, item.content) = (size, NO_MAP);
                }
            }
        }
        if item.content != NO_MAP {
            item.content = self.members.len() as u64;
        }
        self.members.push(member);
        Ok(())
    }

    /// The pieces of an old sparse file: in its header, and in blocks behind it.
    fn old_map(&mut self, header: &Header, at: &mut u64) -> Result<(Vec<Piece>, u64)> {
        let (mut pieces, mut goes_on, size) = header.sparse();
        while goes_on && pieces.len() < MAX_PIECES {
            let block = self.block(*at)?.ok_or_else(torn_map)?;
            let (more, another) = more_pieces(&block);
            pieces.extend(more);
            goes_on = another;
            *at += BLOCK as u64;
        }
        Ok((pieces, size))
    }

    /// The pieces of a sparse file of version 1.0: numbers in lines, in front of the data, filled up to a block.
    fn map_in_data(&mut self, at: &mut u64, stored: u64) -> Result<Vec<Piece>> {
        let end = at.saturating_add(stored);
        let (mut numbers, mut text, mut wanted) = (Vec::new(), Vec::new(), None);
        while wanted.is_none_or(|wanted| numbers.len() < wanted) && *at < end {
            let block = self.block(*at)?.ok_or_else(torn_map)?;
            *at += BLOCK as u64;
            for byte in block {
                match byte {
                    // A comment.
                    b'\n' if text.starts_with(b"#") => text.clear(),
                    b'\n' => numbers.push(decimal(&std::mem::take(&mut text)).unwrap_or(u64::MAX)),
                    _ if text.len() < 20 => text.push(byte),
                    _ => {}
                }
            }
            let count = numbers.first().map(|count| usize::try_from(*count).unwrap_or(usize::MAX).min(MAX_PIECES));
            wanted = count.map(|count| 1 + 2 * count);
        }
        let used = numbers.len().min(wanted.unwrap_or(0)).max(1);
        let pairs = numbers.get(1..used).unwrap_or_default().chunks_exact(2);
        Ok(pairs.map(|pair| Piece { at: pair[0], len: pair[1] }).collect())
    }
}
