//! From the root through all directories.

use super::contents::Data;
use super::names;
use super::record::Record;
use super::rockridge::{self, Said};
use super::volume::{Names, Root, Volume};
use super::zisofs::Zisofs;
use crate::error::{Error, Kind as ErrorKind, Result};
use crate::formats::{Access, Chain, Names as Charset, Slips, Undeclared};
use crate::source::ReadAt;
use crate::tree::{Attr, Builder, Duplicates, Item, Kind};
use hashbrown::{HashMap, HashSet};

/// Bytes of one directory.
const MAX_DIRECTORY: u64 = 256 << 20;

/// Where directories lie that are shown elsewhere; with nothing else in it, it is not shown.
const RELOCATED: &[u8] = b"rr_moved";

/// A record with all that is said of it.
struct Entry {
    name: Vec<u8>,
    item: Item,
    said: Said,
    is_dir: bool,
    is_interleaved: bool,
    extents: Vec<(u64, u64)>,
}

/// What was found in an image.
pub struct Walk<'a> {
    access: &'a Access,
    image: &'a dyn ReadAt,
    len: u64,
    volume: &'a Volume,
    charset: Charset,
    pub undeclared: Undeclared,
    pub builder: Builder,
    pub files: Vec<Data>,
    pub slips: Slips,
    pub entries: u64,
    /// Blocks of directories that were met.
    seen: HashSet<u64>,
    /// Bytes of directories, all together.
    total: u64,
    /// Of hard links, by serial number and first extent, the path of the first.
    links: HashMap<(u32, u64), Vec<u8>>,
    todo: Vec<(Chain, Root)>,
    /// Whether the directory was met where those lie that are shown elsewhere.
    has_met_moved: bool,
}

impl<'a> Walk<'a> {
    pub fn new(access: &'a Access, volume: &'a Volume, charset: Charset) -> Result<Self> {
        let time = access.modified.unwrap_or_default();
        Ok(Self {
            access,
            image: &*access.bytes,
            len: access.bytes.len()?,
            volume,
            charset,
            undeclared: Undeclared::default(),
            builder: Builder::new(Duplicates::Numbered, access.reading.max_entries, time),
            files: Vec::new(),
            slips: Slips::new(access.reading.strict),
            entries: 0,
            seen: HashSet::new(),
            total: 0,
            links: HashMap::new(),
            todo: Vec::new(),
            has_met_moved: false,
        })
    }

    pub fn run(mut self) -> Result<Self> {
        self.todo.push((Chain::default(), self.volume.root));
        while let Some((dir, place)) = self.todo.pop() {
            if self.access.watch.is_cancelled() {
                return Err(Error::new(ErrorKind::Interrupted, "interrupted"));
            }
            match self.directory(&dir, place) {
                Err(e) if e.kind() == ErrorKind::Damaged && !dir.is_root() => {
                    self.slips.add("a directory is damaged, and what is in it is missing")?;
                }
                done => done?,
            }
        }
        Ok(self)
    }

    /// The bytes of a directory, as far as they are there.
    fn bytes(&mut self, place: Root) -> Result<Vec<u8>> {
        let at = place.block * self.volume.block_size;
        let len = place.size.min(self.len.saturating_sub(at));
        self.total += len;
        // Directories that lie over each other would be gone through again and again.
        if len > MAX_DIRECTORY || self.total > self.len {
            return Err(Error::new(ErrorKind::Damaged, "its directories are larger than they can be"));
        }
        if len < place.size {
            self.slips.add("a directory is cut off")?;
        }
        let mut bytes = vec![0; len as usize];
        self.image.read_exact_at(at, &mut bytes)?;
        Ok(bytes)
    }

    fn directory(&mut self, dir: &Chain, place: Root) -> Result<()> {
        let bytes = self.bytes(place)?;
        let path = dir.path();
        for mut entry in self.records(&bytes, dir.is_root())? {
            if self.is_hidden(dir, &entry) {
                continue;
            }
            let decoded = self.charset.decoded(&entry.name).into_owned();
            let Some(below) = Chain::joined(&path, &decoded) else {
                self.slips.add("an entry lies too deep to be shown")?;
                continue;
            };
            self.entries += 1;
            match entry.is_dir {
                true => self.add_directory(dir, &mut entry, decoded, &below)?,
                false => self.add_file(entry, &below)?,
            }
        }
        Ok(())
    }

    /// Whether it is the directory of what is shown elsewhere, and nothing but that.
    fn is_hidden(&mut self, dir: &Chain, entry: &Entry) -> bool {
        if entry.said.is_relocated {
            return true;
        }
        let Names::RockRidge(skip) = self.volume.names else { return false };
        let may_be = dir.is_root() && entry.is_dir && entry.name.eq_ignore_ascii_case(RELOCATED);
        if !may_be || std::mem::replace(&mut self.has_met_moved, true) {
            return false;
        }
        let (at, len) = entry.extents.first().copied().unwrap_or_default();
        let mut bytes = vec![0; len.min(1 << 20) as usize];
        let got = self.image.read_at(at, &mut bytes).unwrap_or_default();
        let is_moved = |record: &Record<'_>| {
            let said = rockridge::read(self.image, self.volume.block_size, record.system_use, skip);
            record.is_self() || record.is_parent() || said.is_ok_and(|said| said.is_relocated)
        };
        records(&bytes[..got], self.volume.block_size).all(|record| record.is_some_and(|record| is_moved(&record)))
    }

    fn add_directory(&mut self, dir: &Chain, entry: &mut Entry, name: Vec<u8>, path: &[u8]) -> Result<()> {
        let place = match entry.said.child {
            Some(block) => self.relocated(block, entry)?,
            None => {
                let (at, size) = entry.extents.first().copied().unwrap_or_default();
                Root { block: at / self.volume.block_size, size }
            }
        };
        if !self.add(path, entry.item.clone())? {
            return Ok(());
        }
        match self.seen.insert(place.block) && place.block != self.volume.root.block {
            true => self.todo.push((dir.below(name), place)),
            false => self.slips.add("a directory is in itself, or in two places, and is shown empty")?,
        }
        Ok(())
    }

    /// A directory that lies elsewhere: its own record tells its length and its attributes.
    fn relocated(&mut self, block: u64, entry: &mut Entry) -> Result<Root> {
        let mut bytes = vec![0; self.volume.block_size as usize];
        let got = self.image.read_at(block * self.volume.block_size, &mut bytes)?;
        let own = Record::read(&bytes[..got]).filter(|(record, _)| record.is_self() && record.block == block);
        let Some((record, _)) = own else {
            self.slips.add("a directory that lies elsewhere is not there")?;
            return Ok(Root { block, size: 0 });
        };
        entry.item = self.read(&record)?.item;
        Ok(Root { block, size: record.size })
    }

    /// Adds an entry, if it does not lie too deep.
    fn add(&mut self, path: &[u8], item: Item) -> Result<bool> {
        match self.builder.add(path, item) {
            Err(e) if e.kind() == ErrorKind::Limit && self.builder.len() <= self.access.reading.max_entries => {
                self.slips.add("an entry lies too deep to be shown")?;
                Ok(false)
            }
            added => added.map(|_| true),
        }
    }

    fn add_file(&mut self, entry: Entry, path: &[u8]) -> Result<()> {
        let Entry { mut item, said, extents, is_interleaved, .. } = entry;
        if item.attr.kind == Kind::File {
            let size = extents.iter().fold(0u64, |size, (_, len)| size.saturating_add(*len));
            let data = data(&said, &extents, size, is_interleaved);
            item.attr.size = match &data {
                Data::Zisofs(file) => file.size,
                // Of a file of nothing, nobody would see that it cannot be read.
                Data::Refused(..) => size.max(1),
                _ => size,
            };
            item.attr.allocated = item.attr.size;
            item.content = self.files.len() as u64;
            if extents.iter().any(|(at, len)| at.saturating_add(*len) > self.len) {
                self.slips.add("the image is cut off, and what is behind is missing")?;
            }
            self.files.push(data);
        }
        let Some(serial) = said.serial.filter(|_| said.links > 1) else { return self.add(path, item).map(drop) };
        let key = (serial, extents.first().map_or(0, |(at, _)| *at));
        if let Some(to) = self.links.get(&key) {
            let linked = self.builder.link(path, to, item);
            return match linked {
                Err(e) if e.kind() == ErrorKind::Limit && self.builder.len() <= self.access.reading.max_entries => {
                    self.slips.add("an entry lies too deep to be shown")
                }
                linked => linked,
            };
        }
        if self.add(path, item)? {
            self.links.insert(key, path.to_vec());
        }
        Ok(())
    }

    /// The entries of a directory, those of a file that goes on taken together.
    fn records(&mut self, bytes: &[u8], is_root: bool) -> Result<Vec<Entry>> {
        let (mut entries, mut goes_on): (Vec<Entry>, bool) = (Vec::new(), false);
        for record in records(bytes, self.volume.block_size) {
            let Some(record) = record else {
                self.slips.add("a directory is damaged, and a part of what is in it is missing")?;
                continue;
            };
            if record.is_self() && is_root {
                let own = self.read(&record)?;
                self.builder.add(b"", own.item)?;
            }
            if record.is_self() || record.is_parent() || record.is_associated() {
                continue;
            }
            let entry = self.read(&record)?;
            match entries.last_mut().filter(|last| goes_on && last.name == entry.name) {
                Some(last) => last.extents.extend(entry.extents),
                None => entries.push(entry),
            }
            goes_on = record.goes_on();
        }
        Ok(entries)
    }

    fn read(&mut self, record: &Record<'_>) -> Result<Entry> {
        let block_size = self.volume.block_size;
        let said = match self.volume.names {
            Names::RockRidge(skip) => rockridge::read(self.image, block_size, record.system_use, skip)?,
            _ => Said::default(),
        };
        if said.is_torn {
            self.slips.add("a part of what is said of an entry is missing")?;
        }
        let name = match (&said.name, self.volume.names) {
            (Some(name), _) => name.clone(),
            (None, Names::Joliet) => names::joliet(record.name),
            (None, _) => names::plain(record.name),
        };
        // No name leads anywhere else.
        let name: Vec<u8> = name.into_iter().map(|b| if b == b'/' { b'_' } else { b }).collect();
        self.undeclared.see(&name);
        let is_dir = record.is_directory() || said.child.is_some();
        let mut item = self.item(record, &said, is_dir);
        if let Some(target) = said.target.as_ref().filter(|_| item.attr.kind == Kind::Symlink && !said.is_torn) {
            self.undeclared.see(target);
            item.target = Some(self.charset.decoded(target).into_owned());
        }
        let extents = vec![(record.block * block_size, record.size)];
        Ok(Entry { name, item, said, is_dir, is_interleaved: record.is_interleaved(), extents })
    }

    /// An entry as it is shown, but for its contents.
    fn item(&self, record: &Record<'_>, said: &Said, is_dir: bool) -> Item {
        // Without a mode all may read everything, and start it.
        let mode = said.mode.map_or(0o555, |mode| mode & 0o7777);
        let kind = match said.mode.and_then(Kind::from_mode) {
            _ if is_dir => Kind::Directory,
            Some(Kind::Directory) | None => Kind::File,
            Some(kind) => kind,
        };
        let mut attr = Attr::new(kind, mode, said.mtime.unwrap_or(record.time));
        attr.atime = said.atime.unwrap_or(attr.mtime);
        attr.ctime = said.ctime.unwrap_or(attr.mtime);
        (attr.uid, attr.gid) = (said.uid, said.gid);
        if kind.is_device() {
            attr.rdev = said.rdev;
        }
        Item::new(attr, 0)
    }
}

/// The records of a directory; one that cannot be read hides the rest of its block.
fn records(bytes: &[u8], block_size: u64) -> impl Iterator<Item = Option<Record<'_>>> {
    let mut at = 0;
    std::iter::from_fn(move || {
        loop {
            let rest = bytes.get(at..).filter(|rest| !rest.is_empty())?;
            let next_block = (at + 1).next_multiple_of(block_size as usize);
            if rest[0] == 0 {
                at = next_block;
                continue;
            }
            let read = Record::read(rest);
            at = read.as_ref().map_or(next_block, |(_, len)| at + len);
            return Some(read.map(|(record, _)| record));
        }
    })
}

fn unsupported(why: &'static str) -> Data {
    Data::Refused(ErrorKind::Unsupported, why)
}

/// Where the data of a file are.
fn data(said: &Said, extents: &[(u64, u64)], size: u64, is_interleaved: bool) -> Data {
    let is_one = extents.windows(2).all(|pair| pair[0].0.saturating_add(pair[0].1) == pair[1].0);
    let at = extents.first().map_or(0, |(at, _)| *at);
    match said.zisofs {
        // It may be no file at all.
        _ if said.is_torn && said.mode.is_none() => {
            Data::Refused(ErrorKind::Damaged, "what it is is not said any more")
        }
        _ if is_interleaved => unsupported("its data are interleaved with those of another file, which is not read"),
        _ if said.is_sparse => unsupported("it is sparse in a way that is not read"),
        Some(zisofs) if !zisofs.is_known || !is_one => unsupported("it is compressed in a way that is not known"),
        Some(rockridge::Zisofs { header, block_log, size: plain, .. }) => {
            let header = u64::from(header) * 4;
            Data::Zisofs(Box::new(Zisofs { at, stored: size, size: plain, header, block_log }))
        }
        None if is_one => Data::At(at, size),
        None => Data::Pieces(extents.into()),
    }
}
