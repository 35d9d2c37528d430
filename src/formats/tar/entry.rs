//! What an entry is, from its header and all records that are about it.

use super::header::Header;
use super::pax::Pax;
use crate::formats::Names;
use crate::tree::{Attr, Item, Kind, Owner, Time, device};

/// What stands in front of an entry and is about it.
#[derive(Default)]
pub struct Said {
    pub pax: Pax,
    /// Names that GNU tar writes into entries of their own.
    pub name: Option<Vec<u8>>,
    pub target: Option<Vec<u8>>,
}

/// Kinds of entries, by the letter in their header.
pub mod kind {
    pub const HARD_LINK: u8 = b'1';
    pub const SYMLINK: u8 = b'2';
    pub const CHAR: u8 = b'3';
    pub const BLOCK: u8 = b'4';
    pub const DIRECTORY: u8 = b'5';
    pub const FIFO: u8 = b'6';
    /// GNU: a directory with a list of what was in it.
    pub const DUMP: u8 = b'D';
    pub const LONG_TARGET: u8 = b'K';
    pub const LONG_NAME: u8 = b'L';
    /// GNU: the rest of a file that begins in another volume.
    pub const REST: u8 = b'M';
    pub const SPARSE: u8 = b'S';
    /// GNU: the name of the volume.
    pub const LABEL: u8 = b'V';
    pub const PAX: u8 = b'x';
    pub const PAX_GLOBAL: u8 = b'g';
    /// Solaris: records as of pax, and ACLs.
    pub const SOLARIS: u8 = b'X';
    pub const SOLARIS_ACL: u8 = b'A';
    pub const OLD_NAMES: u8 = b'N';
}

/// An entry, all things taken together.
pub struct Entry<'a> {
    pub header: &'a Header,
    pub said: &'a Said,
    pub global: &'a Pax,
}

impl Entry<'_> {
    /// What one of them says, the nearest first.
    fn either<T>(&self, get: impl Fn(&Pax) -> Option<T>) -> Option<T> {
        get(&self.said.pax).or_else(|| get(self.global))
    }

    pub fn path(&self) -> Vec<u8> {
        let sparse = self.said.pax.sparse.name.clone();
        let path = sparse.or_else(|| self.either(|pax| pax.path.clone())).or_else(|| self.said.name.clone());
        path.unwrap_or_else(|| self.header.path())
    }

    /// Whether names are bytes, in no charset.
    pub fn is_binary(&self) -> bool {
        self.either(|pax| pax.is_binary).unwrap_or_default()
    }

    pub fn target(&self) -> Vec<u8> {
        let target = self.either(|pax| pax.target.clone()).or_else(|| self.said.target.clone());
        target.unwrap_or_else(|| self.header.target())
    }

    /// Bytes that are stored, as it is said.
    pub fn size(&self) -> u64 {
        self.either(|pax| pax.size).unwrap_or_else(|| self.header.size())
    }

    pub fn kind(&self) -> Kind {
        match self.header.kind {
            kind::SYMLINK => Kind::Symlink,
            kind::CHAR => Kind::CharDevice,
            kind::BLOCK => Kind::BlockDevice,
            kind::DIRECTORY | kind::DUMP => Kind::Directory,
            kind::FIFO => Kind::Fifo,
            // The first tars had no directories but names that end so.
            0 | b'0' if self.path().ends_with(b"/") => Kind::Directory,
            _ => Kind::File,
        }
    }

    pub fn mtime(&self) -> Time {
        let (secs, nanos) = self.either(|pax| pax.mtime).unwrap_or((self.header.mtime(), 0));
        Time { secs, nanos }
    }

    /// The entry as it is shown; its size and its contents are known to the caller.
    pub fn item(&self, names: Names) -> Item {
        let mut attr = Attr::new(self.kind(), self.header.mode(), self.mtime());
        let time = |time: Option<(i64, u32)>| time.map_or(attr.mtime, |(secs, nanos)| Time { secs, nanos });
        (attr.atime, attr.ctime) = (time(self.either(|pax| pax.atime)), time(self.either(|pax| pax.ctime)));
        attr.uid = self.either(|pax| pax.uid).unwrap_or_else(|| self.header.uid());
        attr.gid = self.either(|pax| pax.gid).unwrap_or_else(|| self.header.gid());
        if attr.kind.is_device() {
            let (major, minor) = self.header.device();
            attr.rdev = device::join(self.said.pax.device.0.unwrap_or(major), self.said.pax.device.1.unwrap_or(minor));
        }
        let target = (attr.kind == Kind::Symlink).then(|| names.decoded(&self.target()).into_owned());
        let owner = self.owner();
        Item { owner, target, xattrs: self.said.pax.xattrs.clone(), ..Item::new(attr, 0) }
    }

    fn owner(&self) -> Owner {
        let text = |name: &[u8]| Some(String::from_utf8_lossy(name).into_owned()).filter(|name| !name.is_empty());
        let user = self.either(|pax| pax.user.as_deref().and_then(text));
        let group = self.either(|pax| pax.group.as_deref().and_then(text));
        Owner {
            user: user.or_else(|| self.header.user().and_then(text)),
            group: group.or_else(|| self.header.group().and_then(text)),
        }
    }
}
