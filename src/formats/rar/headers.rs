//! What the headers of all versions tell, in one form.

use super::cipher::Sealed;
use crate::error::{Error, Kind, Result};
use crate::tree::Time;

/// A size that nobody says.
pub const UNKNOWN: u64 = u64::MAX;

/// What the header in front of all others tells.
#[derive(Clone, Copy, Debug, Default)]
pub struct Main {
    pub is_volume: bool,
    pub is_solid: bool,
    pub has_recovery: bool,
    /// Whether the headers are encrypted.
    pub is_locked: bool,
    /// Volumes are called `x.part1.rar`, and not `x.rar`, `x.r00`.
    pub is_numbered: bool,
    /// Whether it is the first volume, where it says so.
    pub is_first: Option<bool>,
}

/// A file, a directory or a link, as it is listed.
#[derive(Clone, Debug, Default)]
pub struct File {
    pub name: Name,
    pub host: Host,
    pub attributes: u64,
    pub is_dir: bool,
    pub modified: Option<Time>,
    pub read: Option<Time>,
    pub owner: Owner,
    pub link: Option<Link>,
    /// The number of an earlier version that was kept.
    pub version: Option<u64>,
    /// Its place among the members.
    pub member: u32,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Name {
    pub bytes: Vec<u8>,
    /// Whether it is in UTF-8, or means these very bytes.
    pub is_text: bool,
}

/// Where an archive was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Host {
    #[default]
    Windows,
    Unix,
    Other,
}

#[derive(Clone, Debug, Default)]
pub struct Owner {
    pub user: Option<Vec<u8>>,
    pub group: Option<Vec<u8>>,
    pub uid: Option<u64>,
    pub gid: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Link {
    /// Its target, and whether that has backslashes.
    Symbolic(Vec<u8>, bool),
    Hard(Vec<u8>),
    /// The contents are those of another entry.
    Copy(Vec<u8>),
}

/// What is needed to read contents.
#[derive(Clone, Debug)]
pub struct Member {
    pub pieces: Pieces,
    pub packed: u64,
    pub size: u64,
    pub codec: Codec,
    /// Bytes of the dictionary.
    pub dictionary: u64,
    /// Whether decoding goes on where the member before ended.
    pub is_solid: bool,
    pub sum: Sum,
    pub sealed: Option<Box<Sealed>>,
    /// Whether a part of it is in a volume that is not there.
    pub is_cut: bool,
    /// Which stream it is decoded from, and where in it.
    pub run: u32,
    pub at: u64,
}

impl Member {
    pub fn is_encrypted(&self) -> bool {
        self.sealed.is_some()
    }

    pub fn is_empty(&self) -> bool {
        self.size == 0
    }

    /// Whether it has to be decoded, or decrypted from its front, to be read.
    pub fn is_streamed(&self) -> bool {
        self.codec != Codec::Stored || self.sealed.as_ref().is_some_and(|sealed| !sealed.lock.is_random_access())
    }
}

/// Where packed data lie: in most cases in one place.
#[derive(Clone, Debug)]
pub enum Pieces {
    One(Piece),
    Many(Vec<Piece>),
}

impl Pieces {
    pub fn all(&self) -> &[Piece] {
        match self {
            Self::One(piece) => std::slice::from_ref(piece),
            Self::Many(pieces) => pieces,
        }
    }

    pub fn push(&mut self, piece: Piece) {
        match self {
            Self::One(first) => *self = Self::Many(vec![*first, piece]),
            Self::Many(pieces) => pieces.push(piece),
        }
    }
}

/// A part of a volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    pub volume: u32,
    pub at: u64,
    pub len: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Codec {
    Stored,
    /// Of RAR 1.3 to 1.5.
    V15,
    V20,
    V29,
    /// Of RAR 5, and 7, which is 1.
    V50(u8),
    /// Of a version that is not known.
    Other(u8),
}

impl Codec {
    pub fn name(self) -> String {
        match self {
            Self::Stored => "stored".into(),
            Self::V15 => "RAR 1.5".into(),
            Self::V20 => "RAR 2.0".into(),
            Self::V29 => "RAR 2.9".into(),
            Self::V50(0) => "RAR 5".into(),
            Self::V50(_) => "RAR 7".into(),
            Self::Other(version) => format!("version {version}"),
        }
    }
}

/// What decoded bytes must fit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sum {
    None,
    /// Of RAR 1.3: 16 bits.
    Old(u16),
    Crc(u32),
    Blake2sp(Box<[u8; 32]>),
}

/// The members and files of all volumes.
#[derive(Default)]
pub struct List {
    pub files: Vec<File>,
    pub members: Vec<Member>,
    /// Whether the last of them goes on in the next volume.
    pub is_open: bool,
    /// Members whose beginning, or whose end, is nowhere.
    pub cut: u64,
}

/// A file header, with where it is in its volume set.
pub struct Found {
    pub file: File,
    pub member: Member,
    pub goes_on: bool,
    pub began_before: bool,
}

impl List {
    /// Adds a file, or a further part of the last one.
    pub fn add(&mut self, found: Found, most: usize) -> Result<()> {
        let Found { mut file, mut member, goes_on, began_before } = found;
        let is_open = std::mem::replace(&mut self.is_open, goes_on);
        if began_before && is_open && self.goes_on_with(&file) {
            self.extend(member);
            return Ok(());
        }
        if is_open {
            self.give_up();
        }
        if began_before {
            member.is_cut = true;
            self.cut += 1;
        }
        if self.files.len() >= most {
            return Err(Error::new(Kind::Limit, format!("there are more than {most} entries")));
        }
        file.member = self.members.len() as u32;
        self.members.push(member);
        self.files.push(file);
        Ok(())
    }

    fn goes_on_with(&self, file: &File) -> bool {
        self.files.last().is_some_and(|last| last.name == file.name)
    }

    /// The last part is the one that knows the sum and the size of all.
    fn extend(&mut self, part: Member) {
        let Some(last) = self.members.last_mut() else { return };
        part.pieces.all().iter().for_each(|piece| last.pieces.push(*piece));
        last.packed = last.packed.saturating_add(part.packed);
        last.sum = part.sum;
        if part.size != UNKNOWN {
            last.size = part.size;
        }
    }

    /// What the last file goes on with is not there.
    pub fn give_up(&mut self) {
        self.is_open = false;
        self.cut += 1;
        if let Some(last) = self.members.last_mut() {
            last.is_cut = true;
        }
    }
}

/// How the headers of a volume ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// By a header that says so, and whether another volume follows; what is behind it begins here.
    Told { goes_on: bool, at: u64 },
    /// By the end of the file.
    Silent,
    /// Within a header, or within data.
    Cut,
}
