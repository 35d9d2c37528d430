//! One directory, read and sorted.

use super::names::Identity;
use crate::tree::{Kind, Name};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{AtFlags, FileType, RawDir, Stat, statat};
use rustix::io::{Errno, Result};
use std::ops::Range;

/// Bytes the kernel fills with entries at once.
const BUFFER: usize = 64 * 1024;

/// An entry as it was read.
struct Found {
    name: Range<u32>,
    kind: Kind,
    /// Where the identity of an inode with several names stands, or [`ALONE`].
    inode: u32,
}

const ALONE: u32 = u32::MAX;

/// What reading a directory gave, sorted by name.
pub struct Entries {
    text: Vec<u8>,
    found: Vec<Found>,
    inodes: Vec<Identity>,
    bytes: u64,
    stored: u64,
}

impl Entries {
    /// All names, in order.
    pub fn names(&self) -> Vec<Name<'_>> {
        // The kernel hands out no name that a Name refuses, and `read` leaves out `.` and `..`.
        self.found.iter().filter_map(|f| Name::new(text(&self.text, &f.name)).ok()).collect()
    }
}

/// The entries of a directory with their nodes.
pub struct Listing {
    pub dir: u32,
    text: Vec<u8>,
    entries: Vec<(Range<u32>, Kind, u32)>,
    links: Vec<(u32, Identity)>,
    /// Sizes of the files, and what they occupy.
    pub bytes: u64,
    pub stored: u64,
}

impl Listing {
    pub fn empty(dir: u32) -> Self {
        Self { dir, text: Vec::new(), entries: Vec::new(), links: Vec::new(), bytes: 0, stored: 0 }
    }

    pub fn new(dir: u32, from: Entries, nodes: Vec<u32>) -> Self {
        let linked = |(at, f): (usize, &Found)| Some((at as u32, *from.inodes.get(f.inode as usize)?));
        let links = from.found.iter().enumerate().filter_map(linked).collect();
        let entries = from.found.into_iter().zip(nodes).map(|(f, node)| (f.name, f.kind, node)).collect();
        Self { dir, text: from.text, entries, links, bytes: from.bytes, stored: from.stored }
    }

    /// The nodes of the names whose inode has others, to be made one.
    pub fn linked(&mut self) -> impl Iterator<Item = (&mut u32, Identity)> {
        let Self { links, entries, .. } = self;
        let mut rest = &mut entries[..];
        let mut passed = 0;
        links.drain(..).map(move |(at, inode)| {
            let (entry, tail) = std::mem::take(&mut rest)[at as usize - passed..].split_first_mut().expect("in range");
            rest = tail;
            passed = at as usize + 1;
            (&mut entry.2, inode)
        })
    }

    /// The entries behind a name.
    pub fn behind(&self, after: Option<Name<'_>>) -> impl Iterator<Item = (Name<'_>, u32, Kind)> {
        let from = after.map_or(0, |after| self.entries.partition_point(|e| text(&self.text, &e.0) <= after.bytes()));
        let entry = |(name, kind, node): &(Range<u32>, Kind, u32)| {
            Some((Name::new(text(&self.text, name)).ok()?, *node, *kind))
        };
        self.entries[from..].iter().filter_map(entry)
    }
}

/// Reads a directory. What vanishes meanwhile is left out; what may not be looked at is kept with the kind that the
/// directory tells, and its attributes will give the error.
pub fn read(dir: &OwnedFd) -> Result<Entries> {
    let mut all = Entries { text: Vec::new(), found: Vec::new(), inodes: Vec::new(), bytes: 0, stored: 0 };
    let mut buffer = Vec::with_capacity(BUFFER);
    let mut raw = RawDir::new(dir.as_fd(), buffer.spare_capacity_mut());
    while let Some(entry) = raw.next() {
        let entry = match entry {
            // The directory was removed while it was open: it holds nothing.
            Err(Errno::NOENT) => break,
            entry => entry?,
        };
        let name = entry.file_name().to_bytes();
        if name == b"." || name == b".." {
            continue;
        }
        let Some((kind, inode)) = all.look(dir, name, entry.file_type()) else { continue };
        let start = all.text.len() as u32;
        all.text.extend_from_slice(name);
        // A directory with four thousand million bytes of names is beyond every file system.
        let end = u32::try_from(all.text.len()).map_err(|_| Errno::FBIG)?;
        all.found.push(Found { name: start..end, kind, inode });
    }
    let bytes = &all.text;
    all.found.sort_unstable_by(|a, b| text(bytes, &a.name).cmp(text(bytes, &b.name)));
    // A directory that is changed while it is read may show a name twice.
    all.found.dedup_by(|a, b| text(bytes, &a.name) == text(bytes, &b.name));
    Ok(all)
}

impl Entries {
    fn look(&mut self, dir: &OwnedFd, name: &[u8], told: FileType) -> Option<(Kind, u32)> {
        if told == FileType::Directory {
            return Some((Kind::Directory, ALONE));
        }
        let stat = match statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => return None,
            Err(_) => return Some((kind_of(told), ALONE)),
        };
        let kind = Kind::from_mode(stat.st_mode)?;
        if kind == Kind::File {
            self.bytes += stat.st_size as u64;
            self.stored += allocated(&stat);
        }
        let Some(inode) = inode_of_many(&stat) else { return Some((kind, ALONE)) };
        self.inodes.push(inode);
        Some((kind, self.inodes.len() as u32 - 1))
    }
}

/// The identity of an inode that has more than one name; directories have one.
pub fn inode_of_many(stat: &Stat) -> Option<Identity> {
    (stat.st_nlink > 1 && Kind::from_mode(stat.st_mode) != Some(Kind::Directory)).then_some((stat.st_dev, stat.st_ino))
}

/// Bytes of a file that are data. What a file system reserves behind the end does not count.
pub fn allocated(stat: &Stat) -> u64 {
    match Kind::from_mode(stat.st_mode) {
        Some(Kind::File) => (stat.st_blocks as u64 * 512).min((stat.st_size as u64).next_multiple_of(512)),
        _ => 0,
    }
}

fn text<'a>(all: &'a [u8], range: &Range<u32>) -> &'a [u8] {
    &all[range.start as usize..range.end as usize]
}

fn kind_of(told: FileType) -> Kind {
    match told {
        FileType::Symlink => Kind::Symlink,
        FileType::Fifo => Kind::Fifo,
        FileType::Socket => Kind::Socket,
        FileType::CharacterDevice => Kind::CharDevice,
        FileType::BlockDevice => Kind::BlockDevice,
        FileType::Directory => Kind::Directory,
        _ => Kind::File,
    }
}
