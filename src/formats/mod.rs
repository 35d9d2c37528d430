//! Floor 2: the formats. Each opens bytes as a [`Tree`] and, where it can, packs a tree into bytes. A format knows neither
//! kernel nor network nor terminal.

pub mod folder;
pub mod st;

use crate::cache::Cache;
use crate::error::{Error, Kind, Result};
use crate::source::ReadAt;
use crate::tree::Tree;
use std::io::Write;
use std::sync::Arc;

/// Bytes to open, and what an opened tree works with.
pub struct Access {
    pub bytes: Arc<dyn ReadAt>,
    pub cache: Arc<Cache>,
    /// Where the bytes are from, for messages.
    pub name: String,
}

/// What opening gives: a tree, and a way to change it where the format has one.
pub struct Volume {
    pub tree: Arc<dyn Tree>,
    pub writer: Option<Arc<dyn Writer>>,
    /// The name of the format.
    pub format: &'static str,
}

impl Volume {
    pub fn read_only(tree: Arc<dyn Tree>, format: &'static str) -> Self {
        Self { tree, writer: None, format }
    }
}

/// A way of reading, and perhaps of writing, one kind of container.
pub trait Format: Sync {
    fn name(&self) -> &'static str;

    /// Whether these bytes are of this format: `head` is the beginning and `tail` the end of the source, both up to
    /// [`HEAD`] bytes.
    fn recognise(&self, head: &[u8], tail: &[u8]) -> bool;

    fn open(&self, access: Access) -> Result<Volume>;
}

/// Takes a changed tree into the container it came from. What it returns is the tree as it is stored from then on; when
/// it fails, the container holds what it held before.
pub trait Writer: Send + Sync {
    fn commit(&self, changed: &dyn Tree, watch: &dyn Watch) -> Result<Arc<dyn Tree>>;
}

/// Packs a tree into a stream, front to back, without a seek.
pub trait Pack {
    fn pack(&self, tree: &dyn Tree, out: &mut (dyn Write + Send), watch: &dyn Watch) -> Result<Packed>;
}

/// What was packed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Packed {
    /// Directories, files, links and the rest.
    pub entries: u64,
    /// Sum of the sizes of all files.
    pub bytes: u64,
    /// What was left of them after equal chunks were found.
    pub unique: u64,
    /// Bytes written.
    pub stored: u64,
    /// Entries that could not be read and are missing; each was told to [`Watch::skipped`].
    pub skipped: u64,
}

/// Who follows long work. Every method may be called from any thread.
pub trait Watch: Send + Sync {
    /// So much lies ahead; may be told again when more is known.
    fn total(&self, _bytes: u64, _entries: u64) {}
    /// So many more bytes and entries are done.
    fn advance(&self, _bytes: u64, _entries: u64) {}
    /// This entry is being worked on.
    fn entry(&self, _path: &[u8]) {}
    /// This entry could not be done, the rest goes on.
    fn skipped(&self, _path: &[u8], _why: &Error) {}
    /// Whether the person wants the work to end.
    fn is_cancelled(&self) -> bool {
        false
    }
}

/// Nobody watches.
pub struct Unwatched;

impl Watch for Unwatched {}

/// How much of the beginning and of the end a format sees when it is asked whether it knows the bytes.
pub const HEAD: usize = 64 * 1024;

/// All formats that open bytes, in the order in which they are asked.
pub const FORMATS: &[&dyn Format] = &[&st::St];

/// Opens bytes with the first format that recognises them.
pub fn open(access: Access) -> Result<Volume> {
    let len = access.bytes.len()?;
    let mut head = vec![0; HEAD.min(len as usize)];
    access.bytes.read_exact_at(0, &mut head)?;
    let mut tail = vec![0; HEAD.min(len as usize)];
    access.bytes.read_exact_at(len - tail.len() as u64, &mut tail)?;
    match FORMATS.iter().find(|f| f.recognise(&head, &tail)) {
        Some(format) => format.open(access),
        None => Err(Error::new(Kind::NotRecognised, format!("{}: not an archive of a known format", access.name))
            .hint("stmount reads .st containers; `stmount pack DIR x.st` makes one")),
    }
}
