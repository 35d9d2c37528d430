//! How a folder of a server is written to, and how a file is made there, or made longer, without anybody's work being lost.
//!
//! ```text
//!   create   whole, and only where nothing has the name
//!   amend    old:  ├───────── stays ─────────┤ goes ┤
//!            new:  ├───────── stays ─────────┤── bytes that are sent ──┤      only if it is still the old one
//! ```

use super::Object;
use crate::error::{Error, Kind, Result};
use crate::source::ReadAt;
use crate::tree::Time;

/// How a folder of a server is written to. What is said to be done is there for whoever looks next.
pub trait Writes: Send + Sync {
    /// What of an entry stays as it was set.
    fn holds(&self) -> Holds;

    /// A whole file, in place of what has the name; whoever reads sees the old one or the new one, where the server knows a
    /// way. `told` is called with how many bytes have gone, and ends it with an error.
    fn put(&self, path: &str, bytes: &dyn ReadAt, what: &Set, told: &mut dyn FnMut(u64) -> Result<()>) -> Result<()>;

    /// The same, only where nothing has the name: what somebody else puts there in the same moment is not replaced, where
    /// the server can tell.
    ///
    /// # Errors
    /// `Exists` when something has it.
    fn create(&self, path: &str, _: &dyn ReadAt, _: &mut dyn FnMut(u64) -> Result<()>) -> Result<()> {
        Err(Error::new(Kind::Unsupported, format!("{path}: nothing can be made there for good")))
    }

    /// Another end for a file, if it is still what it was; `told` is called with how many bytes have gone. Whoever reads sees
    /// the old file or the new one, or, where it is written in its place, the old one with something behind it.
    ///
    /// # Errors
    /// `Changed` when it is another than it was: then it stays so.
    fn amend(&self, path: &str, _: &Amend<'_>, _: &mut dyn FnMut(u64) -> Result<()>) -> Result<Amended> {
        Err(Error::new(Kind::Unsupported, format!("{path}: it can only be replaced")))
    }

    /// A directory. One that is there already is no error.
    fn make_dir(&self, path: &str) -> Result<()>;

    /// A symbolic link, in place of what has the name.
    fn link(&self, path: &str, _target: &[u8]) -> Result<()> {
        Err(Error::new(Kind::Unsupported, format!("{path}: the server knows no symbolic links")))
    }

    /// Sets what can be set of an entry; the rest is left.
    fn set(&self, _path: &str, _what: &Set) -> Result<()> {
        Ok(())
    }

    /// Takes a file or link away. One that is not there is no error.
    fn remove(&self, path: &str) -> Result<()>;

    /// Takes an empty directory away. One that is not there is no error.
    fn remove_dir(&self, path: &str) -> Result<()>;

    /// A file or a directory with all in it gets another name, in place of a file that has it.
    fn rename(&self, from: &str, to: &str) -> Result<()>;
}

/// What a server holds of an entry, besides its name and its bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Holds {
    pub mtime: bool,
    pub mode: bool,
    pub links: bool,
    /// Renaming does not mean to copy.
    pub rename: bool,
}

/// What is set of an entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Set {
    pub modified: Option<Time>,
    pub mode: Option<u32>,
}

/// What was seen of a file of a server: by it one knows whether it is still the same.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    pub len: u64,
    /// What the server calls its version.
    pub stamp: Option<String>,
    pub modified: Option<Time>,
}

impl Seen {
    pub fn of(object: &Object) -> Self {
        Self { len: object.len, stamp: object.stamp.clone(), modified: object.modified }
    }

    /// Whether it is the same version, as far as the server tells versions apart.
    pub fn is_same(&self, other: &Self) -> bool {
        // There are servers that have a tag for a version only when it is some seconds old.
        let is_tag = |stamp: &String| stamp.contains('"');
        let is_same = match (&self.stamp, &other.stamp) {
            (Some(own), Some(other)) if is_tag(own) == is_tag(other) => own == other,
            _ => self.modified == other.modified,
        };
        is_same && self.len == other.len
    }

    /// # Errors
    /// `Changed` when it is another version.
    pub fn is_still(&self, now: &Object) -> Result<()> {
        if self.is_same(&Self::of(now)) { Ok(()) } else { Err(changed()) }
    }
}

/// The error of a file that is another one than it was.
pub fn changed() -> Error {
    Error::new(Kind::Changed, "it was changed on the server while it was open")
}

/// The error of a name that is taken.
pub fn taken() -> Error {
    Error::new(Kind::Exists, "there is something of this name on the server already")
}

/// New bytes for a file of a server.
pub struct Amend<'a> {
    /// The file as it is going to be, all of it: before `from` these are the bytes that the server has.
    pub bytes: &'a dyn ReadAt,
    /// From here on it is another than it was, at most its old length; 0 for all of it.
    pub from: u64,
    /// What it must be still.
    pub old: &'a Seen,
    /// What is before each of these places is on the medium before anything behind it is, where the file is written in its
    /// place. In order.
    pub steps: &'a [u64],
}

/// How a file was amended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amended {
    /// Bytes that were sent.
    pub sent: u64,
    /// The server knows no way to take only what is new.
    pub whole: bool,
}

/// A range of other bytes.
pub struct Rest<'a> {
    pub bytes: &'a dyn ReadAt,
    pub from: u64,
}

impl ReadAt for Rest<'_> {
    fn len(&self) -> Result<u64> {
        Ok(self.bytes.len()?.saturating_sub(self.from))
    }

    fn read_at(&self, at: u64, into: &mut [u8]) -> Result<usize> {
        self.bytes.read_at(self.from.saturating_add(at), into)
    }
}
