//! From the root through all directories.
//!
//! ```text
//!   a directory │ count, block of their inodes │ offset there, kind, name │ ─ ─ │ count, block │ ─ ─
//! ```

use super::image::Image;
use super::inode::{Inode, Listing, What};
use super::xattr;
use crate::codec::damaged;
use crate::error::{Error, Kind as ErrorKind, Result};
use crate::formats::{Access, Chain, Names, Slips, Undeclared};
use crate::tree::{Attr, Builder, Duplicates, Item, Kind, Time};
use hashbrown::{HashMap, HashSet};

/// Bytes of all attributes and targets. What most files have is a label of a few dozen, and many can share one.
const MAX_BYTES: usize = 256 << 20;

/// Entries under one head, and bytes of a name.
const MAX_COUNT: u32 = 256;
const MAX_NAME: usize = 256;

/// What was found in an image.
pub struct Walk<'a> {
    access: &'a Access,
    image: &'a Image,
    ids: &'a [u32],
    names: Names,
    pub undeclared: Undeclared,
    pub builder: Builder,
    pub slips: Slips,
    pub entries: u64,
    /// Places of directories that were met.
    seen: HashSet<u64>,
    /// Of files with several names, by the number of the inode, the first.
    links: HashMap<u32, Vec<u8>>,
    /// Bytes of attributes and targets until now.
    bytes: usize,
    todo: Vec<(Chain, Listing)>,
}

impl<'a> Walk<'a> {
    pub fn new(access: &'a Access, image: &'a Image, ids: &'a [u32], names: Names) -> Self {
        let time = Time { secs: image.head.time.into(), nanos: 0 };
        Self {
            access,
            image,
            ids,
            names,
            undeclared: Undeclared::default(),
            builder: Builder::new(Duplicates::Numbered, access.reading.max_entries, time),
            slips: Slips::new(access.reading.strict),
            entries: 0,
            seen: HashSet::new(),
            links: HashMap::new(),
            bytes: 0,
            todo: Vec::new(),
        }
    }

    pub fn run(mut self) -> Result<Self> {
        let (root, _) = Inode::read(self.image, self.image.head.root)?;
        let What::Directory(listing) = root.what else { return Err(damaged("its root is no directory")) };
        let item = self.item(&root, self.image.head.root)?;
        self.builder.add(b"", item)?;
        self.seen.insert(self.image.head.root);
        self.todo.push((Chain::default(), listing));
        while let Some((dir, listing)) = self.todo.pop() {
            if self.access.watch.is_cancelled() {
                return Err(Error::new(ErrorKind::Interrupted, "interrupted"));
            }
            match self.directory(&dir, listing) {
                Err(e) if e.kind() == ErrorKind::Damaged && self.entries > 0 => {
                    self.slips.add("a directory is damaged, and a part of what is in it is missing")?;
                }
                done => done?,
            }
        }
        Ok(self)
    }

    fn directory(&mut self, dir: &Chain, listing: Listing) -> Result<()> {
        let path = dir.path();
        let mut at = self.image.at(self.image.head.directory_table, listing.place)?;
        let mut left = listing.size as usize;
        while left > 0 {
            let (count, block) = (at.u32()?, at.u32()?);
            let _number = at.u32()?;
            if count >= MAX_COUNT {
                return Err(damaged("a directory has more entries than it can have"));
            }
            left = left.saturating_sub(12);
            for _ in 0..=count {
                let (offset, _number, _kind, len) = (at.u16()?, at.u16()?, at.u16()?, at.u16()?);
                let len = usize::from(len) + 1;
                if len > MAX_NAME {
                    return Err(damaged("a name is longer than it can be"));
                }
                let name = at.bytes(len)?;
                left = left.saturating_sub(8 + len);
                self.entry(dir, &path, &name, u64::from(block) << 16 | u64::from(offset))?;
            }
        }
        Ok(())
    }

    fn entry(&mut self, dir: &Chain, path: &[u8], name: &[u8], place: u64) -> Result<()> {
        let inode = match Inode::read(self.image, place) {
            Ok((inode, _)) => inode,
            Err(e) if e.kind() == ErrorKind::Damaged => {
                return self.slips.add("an inode is damaged, and its file is missing");
            }
            Err(e) => return Err(e),
        };
        self.undeclared.see(name);
        self.entries += 1;
        self.access.watch.advance(0, 1);
        // No name leads anywhere else.
        let name: Vec<u8> = name.iter().map(|b| if *b == b'/' { b'_' } else { *b }).collect();
        let name = self.names.decoded(&name).into_owned();
        let Some(below) = Chain::joined(path, &name) else {
            return self.slips.add("an entry lies too deep to be shown");
        };
        let item = self.item(&inode, place)?;
        if !self.add(&below, &inode, item)? {
            return self.slips.add("an entry lies too deep to be shown");
        }
        if let What::Directory(listing) = inode.what {
            match self.seen.insert(place) {
                true => self.todo.push((dir.below(name), listing)),
                false => self.slips.add("a directory is in itself, or in two places, and is shown empty")?,
            }
        }
        Ok(())
    }

    /// Adds an entry, if it does not lie too deep.
    fn add(&mut self, path: &[u8], inode: &Inode, item: Item) -> Result<bool> {
        let first = self.links.get(&inode.number).filter(|_| inode.links > 1 && inode.kind != Kind::Directory);
        let added = match first {
            Some(to) => self.builder.link(path, to, item),
            None => self.builder.add(path, item).map(drop),
        };
        match added {
            Err(e) if e.kind() == ErrorKind::Limit && self.builder.len() <= self.access.reading.max_entries => {
                return Ok(false);
            }
            added => added?,
        }
        if inode.links > 1 && inode.kind != Kind::Directory {
            self.links.entry(inode.number).or_insert_with(|| path.to_vec());
        }
        Ok(true)
    }

    /// An entry as it is shown.
    fn item(&mut self, inode: &Inode, place: u64) -> Result<Item> {
        let mut attr = Attr::new(inode.kind, inode.mode, Time { secs: inode.mtime.into(), nanos: 0 });
        let id = |number: u16| self.ids.get(usize::from(number)).copied();
        let (Some(uid), Some(gid)) = (id(inode.uid), id(inode.gid)) else {
            self.slips.add("the owner of a file is not in the table of owners")?;
            return Ok(Item::new(attr, place));
        };
        (attr.uid, attr.gid) = (uid, gid);
        let mut target = None;
        match &inode.what {
            What::File(file) => (attr.size, attr.allocated) = (file.size, file.size.saturating_sub(file.sparse)),
            What::Device(rdev) => attr.rdev = *rdev,
            What::Target(path) => {
                self.undeclared.see(path);
                if self.has_room(path.len())? {
                    target = Some(self.names.decoded(path).into_owned());
                }
            }
            _ => {}
        }
        let xattrs = match inode.xattrs {
            Some(number) => self.xattrs(number)?,
            None => Vec::new(),
        };
        Ok(Item { target, xattrs, ..Item::new(attr, place) })
    }

    fn xattrs(&mut self, number: u32) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        if self.bytes > MAX_BYTES {
            return Ok(Vec::new());
        }
        let xattrs = match xattr::read(self.image, number) {
            Err(e) if e.kind() == ErrorKind::Damaged => {
                self.slips.add("attributes of a file are damaged, and are missing")?;
                return Ok(Vec::new());
            }
            xattrs => xattrs?,
        };
        let bytes = xattrs.iter().map(|(name, value)| name.len() + value.len()).sum();
        if !self.has_room(bytes)? {
            return Ok(Vec::new());
        }
        Ok(xattrs)
    }

    /// Whether there is memory for so many bytes more.
    fn has_room(&mut self, bytes: usize) -> Result<bool> {
        self.bytes = self.bytes.saturating_add(bytes);
        if self.bytes > MAX_BYTES {
            self.slips
                .add("there are more attributes and targets of links than memory is given to, and some are missing")?;
        }
        Ok(self.bytes <= MAX_BYTES)
    }
}
