//! Floor 2: the formats. Each opens bytes as a [`Tree`] and, where it can, packs a tree into bytes. A format knows neither
//! kernel nor network nor terminal.

pub mod ar;
mod bases;
mod cbc;
mod chain;
pub mod compressed;
pub mod cpio;
mod entries;
pub mod folder;
mod health;
pub mod iso9660;
pub mod journal;
mod links;
mod names;
pub mod overlay;
mod parts;
pub mod rar;
mod rebuild;
mod root;
pub mod sevenz;
mod slips;
pub mod squashfs;
pub mod st;
pub mod tar;
mod times;
mod upkeep;
pub mod zip;

pub use bases::{Base, Bases, FoundBase, Wanted};
pub use cbc::{CIPHER_BLOCK, Cbc, Chained};
pub use chain::Chain;
pub use compressed::inside;
pub use entries::{Found, Holds, as_text, collect};
pub use health::{Heals, Health, Scrubbed};
pub use journal::record::{Id, decode as decode_changes, encode as encode_changes};
pub use links::target_in;
pub use names::{Names, Undeclared, charset_called};
pub use parts::{MOST_PARTS, Parts, is_piece, number_of};
pub use rebuild::{First, Onto, Patched, Rebuild, Remake, stand_by, verified};
pub use root::{Root, Signer};
pub use slips::Slips;
pub use times::{of_dos, of_windows};
pub use upkeep::Upkeep;

use crate::cache::Cache;
use crate::error::{Error, Kind, Result};
use crate::key::sign::Signing;
use crate::key::{Keys, NoKeys, Secret, Vault};
use crate::source::{Held, Meter, ReadAt, Stamp, Store};
use crate::tree::{Changes, Difference, Merged, Node, Owner, Renumbered, Time, Tree};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::{Read, Seek, Write};
use std::ops::Deref;
use std::path::PathBuf;
use std::sync::Arc;

/// Bytes to open, and what an opened tree works with.
#[derive(Clone)]
pub struct Access {
    pub bytes: Arc<dyn ReadAt>,
    /// The same bytes, to be written, when whoever opens them wants to and holds the lock.
    pub store: Option<Arc<dyn Store>>,
    /// The same again, where it is a file that others may move or write to meanwhile.
    pub held: Option<Arc<Held>>,
    /// Who tells the names of owners that are new to what is written.
    pub owners: Option<Arc<Owners>>,
    /// Which earlier state to open, where the format has any: its name or its number.
    pub state: Option<String>,
    /// How space is given back that nothing needs any more.
    pub upkeep: Upkeep,
    /// How strongly what is written is compressed, 1 to 9, where the format leaves that open.
    pub level: Option<u8>,
    /// What signs what is written, where the format has signatures.
    pub signing: Signing,
    /// How archives of other makers are read.
    pub reading: Arc<Reading>,
    /// The other files of an archive of several, where there may be any.
    pub volumes: Option<Arc<dyn Volumes>>,
    /// The pieces that the bytes were put together from.
    pub parts: Option<Parts>,
    /// What the bytes are decoded from, where they are.
    pub compressed: Option<Compressed>,
    /// When the file that the bytes are from was changed last.
    pub modified: Option<Time>,
    /// What was learnt of these bytes when they were opened before.
    pub memory: Option<Arc<dyn Remembered>>,
    /// Who follows an opening that takes long.
    pub watch: Arc<dyn Watch>,
    pub cache: Arc<Cache>,
    /// Where the bytes are from, for messages.
    pub name: String,
}

impl Access {
    /// To read the newest state.
    pub fn to_read(bytes: Arc<dyn ReadAt>, cache: Arc<Cache>, name: impl Into<String>) -> Self {
        let (store, held, owners, state, level, upkeep) = (None, None, None, None, None, Upkeep::default());
        let signing = Signing::default();
        let (reading, watch, name) = (Arc::default(), Arc::new(Unwatched), name.into());
        let (volumes, parts, compressed, modified, memory) = (None, None, None, None, None);
        #[rustfmt::skip]
        let access = Self {
            bytes, store, held, owners, state, upkeep, level, signing, reading, volumes, parts, compressed, modified, memory, watch,
            cache, name,
        };
        access
    }

    /// To change what is stored; whoever opens it holds the lock.
    pub fn to_write<S: Store + 'static>(store: Arc<S>, cache: Arc<Cache>, name: impl Into<String>) -> Self {
        Self { store: Some(store.clone()), ..Self::to_read(store, cache, name) }
    }
}

/// What bytes are decoded from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compressed {
    pub by: &'static str,
    /// Compressed bytes.
    pub len: u64,
}

/// How archives of other makers are read.
#[derive(Clone)]
pub struct Reading {
    pub keys: Arc<dyn Keys>,
    /// Keys that were unlocked already.
    pub vault: Arc<Vault>,
    /// The charset of names that do not say theirs; it is guessed where nobody says one.
    pub encoding: Option<String>,
    /// Refuse what is slightly wrong, instead of reading it with a warning.
    pub strict: bool,
    /// Ask for a password only when something encrypted is read, and not to see whether it is right.
    pub asks_late: bool,
    /// Open it though a password is missing or wrong, or the list of its entries is damaged.
    pub force: bool,
    /// What is damaged of a file reads as zeros, and is told in the log.
    pub allow_damaged: bool,
    /// More entries than this are refused.
    pub max_entries: usize,
    /// Who finds what a thin container lies over.
    pub bases: Option<Arc<dyn Bases>>,
}

/// Entries of one archive, unless somebody says otherwise: about a gigabyte of memory.
pub const MAX_ENTRIES: usize = 10_000_000;

impl Default for Reading {
    fn default() -> Self {
        let (asks_late, strict, force, allow_damaged) = (false, false, false, false);
        Self {
            keys: Arc::new(NoKeys),
            vault: Arc::default(),
            encoding: None,
            strict,
            asks_late,
            force,
            allow_damaged,
            max_entries: MAX_ENTRIES,
            bases: None,
        }
    }
}

/// The files beside an archive.
pub trait Volumes: Send + Sync {
    /// The file name of the archive itself.
    fn name(&self) -> &str;

    /// Another file in the same place, if it is there.
    fn open(&self, name: &str) -> Result<Option<Arc<dyn ReadAt>>>;

    /// The names of all files in the same place, where they can be listed.
    fn names(&self) -> Vec<String> {
        Vec::new()
    }
}

/// What is kept of an archive from one opening to the next: it is found again only for the same unchanged bytes.
pub trait Remembered: Send + Sync {
    /// What was kept for a purpose.
    fn load(&self, what: &str) -> Option<Vec<u8>>;

    /// Keeps it. Where that fails, it is made again next time.
    fn save(&self, what: &str, bytes: &[u8]);
}

/// The names of a user and a group, by their numbers.
pub type Owners = dyn Fn(u32, u32) -> Owner + Send + Sync;

/// What opening gives: a tree, and a way to change it where the format has one.
pub struct Volume {
    pub tree: Arc<dyn Tree>,
    pub writer: Option<Arc<dyn Writer>>,
    /// The states that the tree had, where the format keeps any.
    pub states: Option<Arc<dyn States>>,
    /// What looks for damage in it, where it can.
    pub heals: Option<Arc<dyn Heals>>,
    /// What it is read through.
    pub cache: Option<Arc<Cache>>,
    /// What goes over links, where it is read over one.
    pub meter: Option<Arc<Meter>>,
    /// What it stands on, where the format knows.
    pub root: Option<Root>,
    /// The name of the format.
    pub format: &'static str,
    /// What a person is to be told: what is slightly wrong, what is shown under another name.
    pub notes: Vec<String>,
    /// What `info` tells of it: methods, blocks, what a jump costs.
    pub facts: Vec<(&'static str, String)>,
}

impl Volume {
    pub fn read_only(tree: Arc<dyn Tree>, format: &'static str) -> Self {
        Self {
            tree,
            writer: None,
            states: None,
            heals: None,
            root: None,
            cache: None,
            meter: None,
            format,
            notes: Vec::new(),
            facts: Vec::new(),
        }
    }
}

/// The states of a container: each commit made one, and those that are still there can be seen again.
pub trait States: Send + Sync {
    /// Those that have names, and the newest `most` of all others; in no order.
    fn list(&self, most: usize) -> Result<Vec<State>>;

    /// The state that somebody names, by a name or by the number of its commit.
    fn find(&self, which: &str) -> Result<Option<State>>;

    /// Opens the state of a commit. The root of its tree is the node that is the root of the newest one. Whoever holds
    /// the tree, or a file of it, may keep the container from being tidied up: hold it no longer than it is used.
    ///
    /// # Errors
    /// `Changed` when the state is gone.
    fn open(&self, sequence: u64) -> Result<Arc<dyn Tree>>;

    /// When the newest state was made.
    fn time(&self) -> Time;

    /// No node of any state has this number, or one above it.
    fn first_new_node(&self) -> u64;

    /// How many states are held open just now, by whomever.
    fn held(&self) -> usize;
}

/// One state of a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// The number of its commit.
    pub sequence: u64,
    pub time: Time,
    /// Names that were given to it.
    pub names: Vec<String>,
}

/// What a format sees of bytes when it is asked whether it knows them.
pub struct Probe<'a> {
    /// The beginning and the end, both up to [`HEAD`] bytes.
    pub head: &'a [u8],
    pub tail: &'a [u8],
    /// The file name.
    pub name: &'a str,
}

/// How sure a format is. The surest is taken, and of several the first in the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Match {
    No,
    /// Only the file name speaks for it, or a few bytes that others may have as well.
    Weak,
    /// It ends like one; something else may stand in front of it.
    Tail,
    /// It begins like one.
    Head,
}

impl Match {
    /// A match of the beginning, or none.
    pub fn head(is_it: bool) -> Self {
        if is_it { Self::Head } else { Self::No }
    }
}

/// A way of reading, and perhaps of writing, one kind of container.
pub trait Format: Sync {
    fn name(&self) -> &'static str;

    /// How sure it is that these bytes are of this format.
    fn recognise(&self, probe: &Probe<'_>) -> Match;

    /// Whether it is read from its front to its end, and so can be read out of a compressed file.
    fn is_read_forward(&self) -> bool {
        false
    }

    /// Whether it begins further in than a [`Probe`] sees, behind a program.
    fn is_further_in(&self, _bytes: &dyn ReadAt) -> Result<bool> {
        Ok(false)
    }

    fn open(&self, access: Access) -> Result<Volume>;

    /// The length of all volumes but the last, of an archive that may do without some of them; the last one is there.
    fn volume_size(&self, _volumes: &[Option<Arc<dyn ReadAt>>]) -> Result<Option<u64>> {
        Ok(None)
    }

    /// Whether an archive of this format is known to end where these bytes end.
    fn ends_here(&self, _bytes: &dyn ReadAt) -> bool {
        false
    }

    /// Whether archives of it may have earlier states.
    fn keeps_states(&self) -> bool {
        false
    }

    /// The states that it has and had, newest first. Nothing where a format keeps none.
    fn generations(&self, _access: &Access) -> Option<Result<Vec<Generation>>> {
        None
    }

    /// What it stands on, as [`Volume::root`], with nothing else done.
    fn root(&self, _access: &Access) -> Result<Option<Root>> {
        Ok(None)
    }

    /// Which container it is, as [`Root::uid`], told without a password.
    fn uid(&self, _access: &Access) -> Result<Option<[u8; 16]>> {
        Ok(None)
    }

    /// Opens a file that is held, to change it. Nothing where this format, or this archive, can only be read.
    fn open_to_settle(&self, _access: Access) -> Result<Option<Settling>> {
        Ok(None)
    }
}

/// One of the states of an archive, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Generation {
    /// Its number.
    pub sequence: u64,
    pub time: Time,
    /// Inodes, and the sum of the sizes of all files.
    pub nodes: u64,
    pub bytes: u64,
    /// Names that were given to it.
    pub names: Vec<String>,
}

/// An archive that takes changes all at once.
pub struct Settling {
    pub volume: Volume,
    pub settle: Arc<dyn Settle>,
    /// From this number on, nodes are new.
    pub first_new: u64,
    /// Of an archive that is encrypted.
    pub password: Option<Secret>,
}

/// Takes changes into the container that a tree came from.
pub trait Writer: Send + Sync {
    /// From this number on, nodes are new: no node of the tree has such a number, and none that is gone had one.
    fn first_new_node(&self) -> u64;

    /// Makes sure that so many bytes of contents and so many entries, all that is not committed yet, will find room on
    /// the medium.
    ///
    /// # Errors
    /// `NoSpace` when they would not. What was promised before still holds.
    fn reserve(&self, bytes: u64, entries: u64) -> Result<()>;

    /// Makes the changes durable, all of them or none. Returns the tree as it is stored from then on; after an error the
    /// container holds what it held before.
    fn commit(&self, changes: &Changes) -> Result<Arc<dyn Tree>>;

    /// Gives the state of the last commit a name, by which it can be opened later; or takes the name away, when it is not
    /// to `keep` it.
    ///
    /// # Errors
    /// `Exists` when another state has the name; `Unsupported` when the format keeps no earlier states.
    fn name_state(&self, _name: &str, _keep: bool) -> Result<()> {
        Err(Error::new(Kind::Unsupported, "this format keeps no earlier states"))
    }

    /// Gives space back that nothing needs any more. A tree that stands in for the one before is handed to `show`, and whoever still uses that one is waited for.
    /// Returns how many bytes the container is shorter.
    fn upkeep(&self, _when: Give, _show: &mut dyn FnMut(Arc<dyn Tree>)) -> Result<u64> {
        Ok(0)
    }

    /// Brings into the archive what was committed beside it. A tree that stands in for the one before, and shows the same,
    /// is handed to `show`.
    ///
    /// # Errors
    /// Then all is as it was.
    fn settle(&self, _watch: &dyn Watch, _show: &mut dyn FnMut(Arc<dyn Tree>)) -> Result<Settled> {
        Ok(Settled::default())
    }

    /// Brings up to date what protects the container from damage, and puts right what was found damaged. Begun when nobody
    /// writes; when it is cancelled it is done the next time.
    fn protect(&self, _watch: &dyn Watch) -> Result<()> {
        Ok(())
    }

    /// Waits until what is committed is where it goes in the end, over a link as well.
    ///
    /// # Errors
    /// `NotUploaded` when it is durable here and not there yet.
    fn flush(&self, _watch: &dyn Watch) -> Result<()> {
        Ok(())
    }

    /// What goes over a link, where the changes go to a server.
    fn outgoing(&self) -> Option<Outgoing> {
        None
    }

    /// What is committed and not in the archive yet.
    fn unsettled(&self) -> Settled {
        Settled::default()
    }

    /// Makes an earlier state the newest one; what came later stays, as earlier states.
    fn restore(&self, _state: &str) -> Result<()> {
        Err(Error::new(Kind::Unsupported, "this format keeps no earlier states"))
    }

    /// What is committed and not in the archive yet, path by path.
    fn differences(&self) -> Result<BTreeMap<Vec<u8>, Difference>> {
        Ok(BTreeMap::new())
    }

    /// How far a settling has come: bytes that are done, and all of them. Nothing when none goes on.
    fn settling(&self) -> Option<(u64, u64)> {
        None
    }

    /// Writes the archive anew, with what it needs and nothing else. Nobody uses it meanwhile.
    fn compact(&self, _watch: &dyn Watch) -> Result<()> {
        Err(nothing_to_compact())
    }

    /// What there is room for in the container. What there is no room for is refused when it is asked for, since what was
    /// taken has to be kept.
    fn holds(&self) -> &'static Holds {
        &Holds::EVERYTHING
    }

    /// What the container stands on since the last commit, where its format knows.
    fn root(&self) -> Option<Root> {
        None
    }

    /// The number of the last commit.
    fn sequence(&self) -> u64;

    /// The file that changes go to, when that is no longer the one that was opened.
    fn refuge(&self) -> Option<PathBuf> {
        None
    }

    /// Bytes that are free on the medium.
    fn free(&self) -> Result<u64>;
}

/// Changes that went into an archive, or are to go there: entries and bytes of contents.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settled {
    pub entries: u64,
    pub bytes: u64,
}

/// What is on its way to a server.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outgoing {
    /// Requests that are to be made, of what goes just now.
    pub steps: u64,
    /// Bytes of contents that have gone, and all of them.
    pub done: u64,
    pub total: u64,
    /// How often it failed, and why it did the last time, if nothing has gone since.
    pub failures: u64,
    pub error: Option<String>,
    /// When the next try is, in seconds since 1970.
    pub again: Option<i64>,
}

/// Makes an archive anew, with changes in it. There is one for each file: who has it holds the lock.
pub trait Settle: Send + Sync {
    /// What the archive is now.
    fn stamp(&self) -> Result<Stamp>;

    /// Brings changes into the archive, all of them or none, and opens it anew. `notes` are taken of what happens to it, before
    /// it does.
    ///
    /// # Errors
    /// `Unsupported` when it is to be written anew, and that would change nothing.
    fn settle(&self, task: &Task<'_>, notes: &mut dyn Notes) -> Result<Arc<dyn Tree>>;

    /// As [`Writer::restore`].
    fn restore(&self, _state: &str, _notes: &mut dyn Notes) -> Result<()> {
        Err(Error::new(Kind::Unsupported, "this format keeps no earlier states"))
    }

    /// As [`Writer::holds`].
    fn holds(&self) -> &'static Holds;

    /// How inodes are found again, where their numbers are others each time it is opened. Then they stay what they are when
    /// changes are brought in.
    fn lasting(&self) -> Option<&dyn Lasting> {
        None
    }

    /// The file that changes go to, when that is no longer the one that was opened.
    fn refuge(&self) -> Option<PathBuf> {
        None
    }

    /// Bytes that are free on the medium.
    fn free(&self) -> Result<u64>;
}

/// Inodes whose numbers do not last longer than it is open: they are found again by a path.
pub trait Lasting: Send + Sync {
    /// The paths of those among these inodes whose numbers do not last.
    fn paths(&self, nodes: &[Node]) -> Result<Vec<(u64, Vec<u8>)>>;

    /// The inode of a path.
    fn find(&self, path: &[u8]) -> Result<Node>;
}

/// What an archive is to become.
pub struct Task<'a> {
    /// The archive with the changes.
    pub merged: &'a Merged,
    /// The archive without them, which knows the numbers that it gave to its inodes itself.
    pub archive: &'a Renumbered,
    /// Whether it is to be written anew, with what it needs and nothing else.
    pub anew: bool,
    pub watch: &'a dyn Watch,
}

/// The error of writing something anew that has nothing in it that it does not need.
pub fn nothing_to_compact() -> Error {
    Error::new(Kind::Unsupported, "there is nothing in it that it does not need")
}

/// What is noted of an archive that becomes another one, so that after a crash it can be made one of the two.
pub trait Notes {
    /// The archive is written to from here on: what it has there now can be put back.
    fn begin(&mut self, undo: &Undo) -> Result<()>;

    /// This is what the archive will be, before anybody can see it so.
    fn expect(&mut self, target: &Stamp) -> Result<()>;
}

/// What an archive has from an offset on: these bytes, and behind them zeros up to its length.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Undo {
    pub at: u64,
    pub tail: Vec<u8>,
    pub len: u64,
}

impl Undo {
    /// So many bytes of a tail are kept at most.
    pub const TAIL: usize = 320;

    /// Of an archive that only becomes longer.
    pub fn longer(len: u64) -> Self {
        Self { at: len, tail: Vec::new(), len }
    }

    /// Makes an archive again what it was.
    pub fn apply(&self, store: &dyn Store) -> Result<()> {
        store.set_len(self.at)?;
        store.write_at(self.at, &self.tail)?;
        store.set_len(self.len)?;
        store.sync()
    }
}

/// An archive as it was, while it is written to.
pub struct Undone<A> {
    pub archive: A,
    pub undo: Undo,
}

impl<A: Deref<Target = dyn ReadAt + 'static> + Send + Sync> ReadAt for Undone<A> {
    fn len(&self) -> Result<u64> {
        Ok(self.undo.len)
    }

    fn read_at(&self, at: u64, into: &mut [u8]) -> Result<usize> {
        let Undo { at: from, tail, len } = &self.undo;
        let want = into.len().min(usize::try_from(len.saturating_sub(at)).unwrap_or(usize::MAX));
        let into = &mut into[..want];
        let front = want.min(usize::try_from(from.saturating_sub(at)).unwrap_or(usize::MAX));
        self.archive.read_exact_at(at, &mut into[..front])?;
        let skip = usize::try_from(at.saturating_sub(*from)).unwrap_or(usize::MAX).min(tail.len());
        let from_tail = (want - front).min(tail.len() - skip);
        into[front..front + from_tail].copy_from_slice(&tail[skip..skip + from_tail]);
        into[front + from_tail..].fill(0);
        Ok(want)
    }

    fn is_changed(&self) -> bool {
        self.archive.is_changed()
    }
}

/// When space is given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Give {
    /// When it is worth the work.
    Worthwhile,
    /// When what is kept free for small changes runs out.
    Tight,
    /// All that can be had: the disk is full.
    All,
}

/// Packs a tree into a stream, front to back, without a seek.
pub trait Pack {
    fn pack(&self, tree: &dyn Tree, out: &mut (dyn Write + Send), watch: &dyn Watch) -> Result<Packed>;

    /// The same into a file, for formats that go back in it.
    fn pack_to_file(&self, tree: &dyn Tree, out: &mut dyn Seekable, watch: &dyn Watch) -> Result<Packed> {
        let mut out = std::io::BufWriter::with_capacity(1 << 20, out);
        let packed = self.pack(tree, &mut out, watch)?;
        out.flush().map_err(|e| Error::io(e, "cannot write the archive"))?;
        Ok(packed)
    }
}

/// A file that is written, at any place.
pub trait Seekable: Read + Write + Seek + Send {}

impl<T: Read + Write + Seek + Send> Seekable for T {}

/// What was packed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Packed {
    /// Directories, files, links and the rest.
    pub entries: u64,
    /// Sum of the sizes of all files.
    pub bytes: u64,
    /// What was left of them after equal chunks were found.
    pub unique: u64,
    /// Bytes of different chunks that lie in bases, and were left out.
    pub in_bases: u64,
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
pub const FORMATS: &[&dyn Format] = &[
    &st::St,
    &zip::Zip,
    &sevenz::SevenZ,
    &rar::Rar,
    &tar::Tar,
    &cpio::Cpio,
    &cpio::Rpm,
    &ar::Ar,
    &iso9660::Iso9660,
    &squashfs::Squashfs,
    &compressed::CompressedFile,
];

/// Their names, for messages.
const NAMES: &str = ".st, zip, 7z, rar, tar, cpio, rpm, ar, deb, ISO 9660, squashfs, and files compressed by gzip, bzip2, xz, \
                     lzma, lzip, zstd, lz4, brotli, compress";

/// The format that recognises these bytes, by its name.
pub fn recognise(bytes: &dyn ReadAt, name: &str) -> Result<Option<&'static str>> {
    Ok(format_of(bytes, name)?.map(Format::name))
}

/// A piece of the beginning or of the end; nothing where a volume is missing, of which another piece may tell enough.
fn piece(bytes: &dyn ReadAt, at: u64, len: u64) -> Result<Vec<u8>> {
    let mut piece = vec![0; HEAD.min(len as usize)];
    match bytes.read_exact_at(at, &mut piece) {
        Err(e) if e.kind() == Kind::MissingVolume => Ok(Vec::new()),
        read => read.map(|()| piece),
    }
}

fn format_of(bytes: &dyn ReadAt, name: &str) -> Result<Option<&'static dyn Format>> {
    let len = bytes.len()?;
    let (head, tail) = (piece(bytes, 0, len)?, piece(bytes, len.saturating_sub(HEAD as u64), len)?);
    if let Some(format) = recognised(&Probe { head: &head, tail: &tail, name }) {
        return Ok(Some(format));
    }
    for format in FORMATS {
        if format.is_further_in(bytes)? {
            return Ok(Some(*format));
        }
    }
    Ok(None)
}

/// The whole archive, where one of its pieces was opened; else what was opened.
///
/// # Errors
/// `MissingVolume` when a piece is missing that nothing makes up for.
pub fn whole(access: Access) -> Result<Access> {
    parts::whole(access, &st::St)
}

/// Opens bytes with the format that recognises them.
pub fn open(access: Access) -> Result<Volume> {
    let access = whole(access)?;
    let (cache, parts) = (Some(access.cache.clone()), access.parts.clone());
    let opened = open_whole(access).map_err(|e| match &parts {
        Some(parts) => parts.blame(e),
        None => e,
    })?;
    let pieces = parts.map(|parts| ("pieces", parts.count.to_string()));
    Ok(Volume { cache, facts: pieces.into_iter().chain(opened.facts).collect(), ..opened })
}

/// The states that an archive has and had, newest first.
///
/// # Errors
/// `Unsupported` where its format keeps none.
pub fn generations(access: &Access) -> Result<Vec<Generation>> {
    let format = format_of(&*access.bytes, &access.name)?;
    format.and_then(|format| format.generations(access)).unwrap_or_else(|| Err(no_states(&access.name)))
}

/// Which container it is, where its format tells one from another.
pub fn uid(access: &Access) -> Result<Option<[u8; 16]>> {
    format_of(&*access.bytes, &access.name)?.map_or(Ok(None), |format| format.uid(access))
}

/// What an archive stands on, where its format knows.
pub fn root(access: &Access) -> Result<Option<Root>> {
    let access = whole(access.clone())?;
    let format = format_of(&*access.bytes, &access.name)?.ok_or_else(|| not_recognised(&access.name))?;
    format.root(&access)
}

fn not_recognised(name: &str) -> Error {
    Error::new(Kind::NotRecognised, format!("{name}: not an archive of a known format"))
        .hint(format!("stmount reads {NAMES}"))
}

fn no_states(name: &str) -> Error {
    Error::new(Kind::Unsupported, format!("{name}: an archive of its format has no earlier states"))
        .hint("a .st has, and a zip that was changed by stmount")
}

fn open_whole(access: Access) -> Result<Volume> {
    match format_of(&*access.bytes, &access.name)? {
        Some(format) if access.state.is_some() && !format.keeps_states() => Err(no_states(&access.name)),
        Some(format) => format.open(access),
        None => Err(not_recognised(&access.name)),
    }
}

/// Opens a file that is held with the format that recognises it, to change it. Nothing where it can only be read.
pub fn open_to_settle(access: Access) -> Result<Option<Settling>> {
    match format_of(&*access.bytes, &access.name)? {
        Some(format) => format.open_to_settle(access),
        None => Ok(None),
    }
}

/// The format of something that is decoded, and of which only the front is seen.
fn forward_format(probe: &Probe<'_>) -> Option<&'static dyn Format> {
    let is_it = |format: &&&dyn Format| format.is_read_forward() && format.recognise(probe) > Match::No;
    FORMATS.iter().find(is_it).copied()
}

fn recognised(probe: &Probe<'_>) -> Option<&'static dyn Format> {
    let sure = FORMATS.iter().map(|format| (format.recognise(probe), *format)).filter(|(sure, _)| *sure > Match::No);
    // Of several that are equally sure, `max_by_key` takes the last.
    sure.rev().max_by_key(|(sure, _)| *sure).map(|(_, format)| format)
}
