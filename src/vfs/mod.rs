//! Floor 3: a tree as a file system.
//!
//! [`Vfs`] answers what a kernel asks: names, attributes, bytes, in inode numbers and offsets. It stands on [`Tree`] and
//! knows no kernel; a frontend decodes a request, calls one method here, and encodes the answer.
//!
//! ```text
//!   lookup getattr readlink     ──► tree, through policy (owners, masks)     nodes  policy
//!   lookup, case ignored        ──► folded names of the directory            fold
//!   read lseek                  ──► the ReadAt of an open file, and its pace handles
//!   readdir                     ──► a listing, by offset                     listing
//!   listxattr getxattr statfs   ──► tree                                     space
//!   messages about a node       ──► a search for its path                    paths
//!   .stmount/snapshots          ──► the trees of earlier states              earlier
//! ```
//!
//! Locks guard tables and are held for a look into them: never over a call of the tree or of a source, so a slow read
//! holds up nobody but its reader.

mod acl;
mod commit;
mod earlier;
mod fold;
mod handles;
mod listing;
mod live;
mod nodes;
mod paths;
mod policy;
mod recent;
mod scrub;
mod space;
mod status;
mod write;

pub use commit::Commit;
pub use handles::STATELESS;
pub use nodes::ROOT;
pub use policy::Policy;
pub use scrub::{Schedule, Scrubbing};
pub use space::{BLOCK, Space};
pub use status::{CacheUse, Failure, Status};
pub use write::{Allocate, Maker, New, Rename, SetAttr, SetXattr};

use crate::cache::Cache;
use crate::error::{Error, Kind as ErrorKind, Result};
use crate::formats::{Heals, States, Writer};
use crate::pool::lock;
use crate::source::Meter;
use crate::tree::{Attr, Kind, Name, Node, Tree, path_display};
use commit::Committer;
use earlier::Earlier;
use fold::FoldedNames;
use handles::{Handles, Open, OpenFile};
use listing::Listing;
use live::Live;
use nodes::Numbers;
use recent::Recent;
use scrub::Scrubber;
use status::Failures;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex};

/// An extended attribute of the root that is in no list: a [`Status`] as JSON. Whoever may read the root may ask, by no
/// other means than the mount itself.
pub const STATUS: &[u8] = b"user.stmount.status";

/// Setting this attribute of the root, to anything, brings into the archive what is in its journal.
pub const SETTLE: &[u8] = b"user.stmount.settle";

/// Setting this attribute of the root gives its value as a name to the state of the tree, after storing it;
pub const SNAPSHOT: &[u8] = b"user.stmount.snapshot";
/// and this one takes such a name away.
pub const FORGET: &[u8] = b"user.stmount.forget";

/// Bytes of memory for listings of directories being read; about a quarter of a million names.
const LISTINGS: usize = 8 << 20;
/// Bytes of memory for folded names, of mounts that ignore case.
const FOLDED: usize = 32 << 20;
/// Open files kept by node. Each is a small thing that holds on to a container that is open anyway.
const FILES: usize = 1024;
/// And of earlier states, each of which may hold on to one that is not open otherwise.
const EARLIER_FILES: usize = 16;
/// Paths kept for messages: a damaged file is read again and again.
const PATHS: usize = 256;
/// No system takes a path of so many bytes.
const PATH_MAX: usize = 4096;

/// An inode number with its attributes, as they are shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stat {
    pub ino: u64,
    pub attr: Attr,
}

/// One name of a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DirEntry<'a> {
    pub name: &'a [u8],
    pub ino: u64,
    pub kind: Kind,
    /// The offset of the entry behind this one: where to go on.
    pub next: u64,
}

/// A read-only file system made of a tree.
pub struct Vfs {
    /// With its earlier states, where it has any.
    tree: Arc<dyn Tree>,
    earlier: Option<Arc<Earlier>>,
    policy: Policy,
    numbers: Numbers,
    frozen: bool,
    /// The tree again, when it takes changes.
    live: Option<Arc<Live>>,
    committer: Option<Committer>,
    handles: Handles,
    files: Recent<Node, OpenFile>,
    earlier_files: Recent<Node, OpenFile>,
    listings: Recent<Node, Listing>,
    folded: Recent<Node, FoldedNames>,
    paths: Recent<Node, String>,
    cache: Option<Arc<Cache>>,
    meter: Option<Arc<Meter>>,
    heals: Option<Arc<dyn Heals>>,
    scrubber: Option<Scrubber>,
    failures: Arc<Failures>,
}

impl Vfs {
    pub fn new(tree: Arc<dyn Tree>, policy: Policy) -> Self {
        Self {
            numbers: Numbers::new(tree.root()),
            frozen: tree.is_frozen(),
            live: None,
            committer: None,
            tree,
            earlier: None,
            policy,
            handles: Handles::default(),
            files: Recent::new(FILES),
            earlier_files: Recent::new(EARLIER_FILES),
            listings: Recent::new(LISTINGS),
            folded: Recent::new(FOLDED),
            paths: Recent::new(PATHS),
            cache: None,
            meter: None,
            heals: None,
            scrubber: None,
            failures: Arc::default(),
        }
    }

    /// A file system that takes changes, and commits them by `writer`.
    pub fn writable(tree: Arc<dyn Tree>, writer: Arc<dyn Writer>, policy: Policy, when: Commit) -> Self {
        let live = Live::new(tree, writer);
        let mut vfs = Self { failures: live.failures.clone(), ..Self::new(live.clone(), policy) };
        vfs.committer = Some(Committer::new(live.clone(), when));
        vfs.live = Some(live);
        vfs
    }

    /// The same with its earlier states in the hidden directory `.stmount/snapshots`.
    #[must_use]
    pub fn with_states(mut self, states: Arc<dyn States>) -> Self {
        self.earlier = Earlier::new(self.tree.clone(), states).map(Arc::new);
        if let Some(earlier) = &self.earlier {
            self.tree = earlier.clone();
        }
        self
    }

    /// The same with the cache it reads through, to tell of it.
    #[must_use]
    pub fn with_cache(self, cache: Arc<Cache>) -> Self {
        Self { cache: Some(cache), ..self }
    }

    /// The same with what counts what goes over its links.
    #[must_use]
    pub fn with_meter(self, meter: Arc<Meter>) -> Self {
        Self { meter: Some(meter), ..self }
    }

    /// The same of what finds damage in itself; looked for in the background, if there is a schedule.
    #[must_use]
    pub fn with_heals(self, heals: Arc<dyn Heals>, schedule: Option<Schedule>) -> Self {
        let live = self.live.clone();
        live.iter().for_each(|live| _ = live.heals.set(heals.clone()));
        let scrubber = schedule.map(|schedule| Scrubber::new(heals.clone(), live, schedule));
        Self { heals: Some(heals), scrubber, ..self }
    }

    /// The same for a frontend that tells of inodes that it forgets. A file whose last name goes can be opened until then:
    /// somebody may have looked the name up just before.
    #[must_use]
    pub fn with_forgets(self) -> Self {
        if let Some(live) = &self.live {
            live.expect_forgets();
        }
        self
    }

    /// True when nothing here can ever change: answers may be kept for ever, and handles are not needed.
    pub fn is_frozen(&self) -> bool {
        self.frozen
    }

    /// Whether an inode is of an earlier state, which nothing can change.
    fn is_earlier(&self, node: Node) -> bool {
        self.earlier.as_ref().is_some_and(|earlier| earlier.is_earlier(node))
    }

    /// Whether an inode, or what has a name in it, can come and go without a kernel that knows of it.
    pub fn is_passing(&self, ino: u64) -> bool {
        let node = self.numbers.node(ino);
        !self.frozen && self.earlier.as_ref().is_some_and(|earlier| earlier.is_passing(node))
    }

    /// Whether it takes time to tell the attributes of what has a name in a directory: each is opened for it.
    pub fn is_slow(&self, dir: u64) -> bool {
        let node = self.numbers.node(dir);
        self.earlier.as_ref().is_some_and(|earlier| earlier.is_passing(node))
    }

    pub fn ignores_case(&self) -> bool {
        self.policy.ignore_case
    }

    /// Looks a name up in a directory; `None` when there is no such name.
    pub fn lookup(&self, dir: u64, name: &[u8]) -> Result<Option<Stat>> {
        let dir = self.numbers.node(dir);
        // What cannot be a name is the name of nothing.
        let Ok(name) = Name::new(name) else { return Ok(None) };
        let node = match self.tree.find(dir, name)? {
            None if self.policy.ignore_case => self.folded(dir)?.find(name.bytes()),
            found => found,
        };
        if node.is_none() && name.bytes().len() > write::NAME_MAX {
            return Err(Error::new(ErrorKind::NameTooLong, "the name is longer than 255 bytes"));
        }
        node.map(|node| self.stat(node)).transpose()
    }

    pub fn getattr(&self, ino: u64) -> Result<Stat> {
        self.stat(self.numbers.node(ino))
    }

    fn stat(&self, node: Node) -> Result<Stat> {
        Ok(Stat { ino: self.numbers.ino(node), attr: self.policy.apply(self.tree.attr(node)?) })
    }

    fn folded(&self, dir: Node) -> Result<Arc<FoldedNames>> {
        if let Some(names) = self.folded.get(dir).filter(|_| self.frozen) {
            return Ok(names);
        }
        let names = FoldedNames::new(&*self.listing(dir)?);
        let weight = names.weight();
        Ok(if self.frozen { self.folded.offer(dir, names, weight) } else { Arc::new(names) })
    }

    /// The target of a symbolic link.
    ///
    /// # Errors
    /// `NameTooLong` for one that no system takes; cut off, it would lead elsewhere.
    pub fn readlink(&self, ino: u64) -> Result<Vec<u8>> {
        let target = self.tree.target(self.numbers.node(ino))?;
        match target.len() {
            ..PATH_MAX => Ok(target),
            len => Err(Error::new(ErrorKind::NameTooLong, format!("a link with a target of {len} bytes"))),
        }
    }

    /// Opens a file for reading. The handle is [`STATELESS`] when the tree is frozen.
    pub fn open(&self, ino: u64) -> Result<u64> {
        if self.frozen {
            return Ok(STATELESS);
        }
        let node = self.numbers.node(ino);
        if self.is_writable() && !self.is_earlier(node) {
            return self.open_live(ino);
        }
        let bytes = self.tree.open(node)?;
        let promised = if self.is_earlier(node) { Some(self.tree.attr(node)?.size) } else { None };
        Ok(self.handles.insert(Open::File(OpenFile::new(bytes, promised)?)))
    }

    /// Reads up to `into.len()` bytes at `at`; fewer only at the end of the file, 0 at or behind it.
    pub fn read(&self, ino: u64, handle: u64, at: u64, into: &mut [u8]) -> Result<usize> {
        self.with_file(ino, handle, |file| file.read(at, into, self.policy.read_ahead))
    }

    /// The first byte at or after `at` that is data (`hole` false) or in a hole (`hole` true; the end of the file counts
    /// as one). `None` when there is no such byte, which includes every `at` at or behind the end.
    pub fn seek(&self, ino: u64, handle: u64, at: u64, hole: bool) -> Result<Option<u64>> {
        self.with_file(ino, handle, |file| {
            let len = file.promised.map_or_else(|| file.bytes.len(), Ok)?;
            if at >= len {
                return Ok(None);
            }
            let data = file.bytes.next_data(at)?.filter(|data| data.start < len);
            Ok(match data {
                None => hole.then_some(at),
                Some(data) if !hole => Some(data.start.max(at)),
                Some(data) if data.start > at => Some(at),
                Some(data) => Some(end_of_data(file, data.end, len)?),
            })
        })
    }

    fn with_file<T>(&self, ino: u64, handle: u64, work: impl FnOnce(&OpenFile) -> Result<T>) -> Result<T> {
        if handle == STATELESS {
            return work(&*self.file(self.numbers.node(ino))?);
        }
        match &*self.handles.get(handle)? {
            Open::File(file) | Open::Living(_, file) => work(file),
            Open::Dir(_) => Err(Error::new(ErrorKind::IsADirectory, "a directory is read by its names")),
        }
    }

    fn file(&self, node: Node) -> Result<Arc<OpenFile>> {
        let files = if self.is_earlier(node) { &self.earlier_files } else { &self.files };
        if let Some(file) = files.get(node) {
            return Ok(file);
        }
        let bytes = self.tree.open(node)?;
        let promised = self.tree.attr(node)?.size;
        Ok(files.offer(node, OpenFile::new(bytes, Some(promised))?, 1))
    }

    /// Opens a directory. The handle is [`STATELESS`] when the tree is frozen.
    pub fn opendir(&self, _ino: u64) -> Result<u64> {
        Ok(if self.frozen { STATELESS } else { self.handles.insert(Open::Dir(Mutex::default())) })
    }

    /// Forgets a handle of [`Vfs::open`] or [`Vfs::opendir`].
    pub fn release(&self, handle: u64) {
        self.release_live(handle);
    }

    /// Visits the entries of a directory from an offset on, `.` and `..` among them. Offset 0 is the beginning, any other
    /// is the `next` of an entry seen before.
    pub fn readdir(
        &self,
        ino: u64,
        handle: u64,
        offset: u64,
        visit: &mut dyn FnMut(DirEntry<'_>) -> ControlFlow<()>,
    ) -> Result<()> {
        let listing = self.listing_of(ino, handle, offset)?;
        for (place, name) in [(0, &b"."[..]), (1, b"..")] {
            // Where `..` leads the kernel knows by itself; a tree does not tell, and this number is only for show.
            let dot = DirEntry { name, ino, kind: Kind::Directory, next: place + 1 };
            if place >= offset && visit(dot).is_break() {
                return Ok(());
            }
        }
        let first = offset.saturating_sub(2);
        for (entry, place) in listing.from(first as usize).zip(first..) {
            let ino = self.numbers.ino(entry.node);
            if visit(DirEntry { name: entry.name, ino, kind: entry.kind, next: place + 3 }).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn listing_of(&self, ino: u64, handle: u64, offset: u64) -> Result<Arc<Listing>> {
        let dir = self.numbers.node(ino);
        if handle == STATELESS {
            return self.listing(dir);
        }
        let open = self.handles.get(handle)?;
        let Open::Dir(kept) = &*open else {
            return Err(Error::new(ErrorKind::NotADirectory, "a file has no names in it"));
        };
        let seen = lock(kept).clone();
        match seen {
            Some(listing) if offset > 0 => Ok(listing),
            _ => {
                let fresh = Arc::new(Listing::read(&*self.tree, dir)?);
                *lock(kept) = Some(fresh.clone());
                Ok(fresh)
            }
        }
    }

    fn listing(&self, dir: Node) -> Result<Arc<Listing>> {
        if let Some(listing) = self.listings.get(dir).filter(|_| self.frozen) {
            return Ok(listing);
        }
        let listing = Listing::read(&*self.tree, dir)?;
        let weight = listing.weight();
        Ok(if self.frozen { self.listings.offer(dir, listing, weight) } else { Arc::new(listing) })
    }

    /// The names of all extended attributes, each ended by a NUL byte, as listxattr(2) gives them.
    pub fn listxattr(&self, ino: u64) -> Result<Vec<u8>> {
        let mut names = Vec::new();
        for (name, _) in self.tree.xattrs(self.numbers.node(ino))? {
            names.extend_from_slice(&name);
            names.push(0);
        }
        Ok(names)
    }

    /// The value of one extended attribute; `None` when there is no such attribute.
    pub fn getxattr(&self, ino: u64, name: &[u8]) -> Result<Option<Vec<u8>>> {
        if let (ROOT, STATUS) = (ino, name) {
            return Ok(Some(serde_json::to_vec(&self.status()).expect("a status is plain data")));
        }
        let all = self.tree.xattrs(self.numbers.node(ino))?;
        Ok(all.into_iter().find(|(n, _)| n == name).map(|(_, value)| value))
    }

    /// How the mount is doing.
    pub fn status(&self) -> Status {
        let mut status = Status {
            sequence: None,
            dirty_bytes: 0,
            pending: 0,
            waiting: 0.0,
            last_error: None,
            refuge: None,
            unsettled: 0,
            unsettled_bytes: 0,
            outgoing: None,
            settling: None,
            link: self.meter.as_ref().map(|meter| meter.traffic()),
            states_open: self.earlier.as_ref().map_or(0, |earlier| earlier.open_states()),
            cache: self.cache.as_deref().map(CacheUse::of).unwrap_or_default(),
            health: self.heals.as_ref().map(|heals| heals.health()),
            scrubbing: self.scrubber.as_ref().map(Scrubber::told),
            errors: self.failures.list(),
        };
        if let Some(live) = &self.live {
            live.fill_in(&mut status);
        }
        status
    }

    /// Tells the log, and whoever asks for the status, what is wrong with a file.
    pub fn note_failure(&self, ino: u64, e: &Error) {
        let file = self.describe(ino);
        log::warn!("{file}: {e}");
        self.failures.note(Some(&file), e);
    }

    /// What to call an inode in a message: a path, where one is found. May take a second in a large tree.
    pub fn describe(&self, ino: u64) -> String {
        let node = self.numbers.node(ino);
        if let Some(path) = self.paths.get(node) {
            return path.to_string();
        }
        let path = match &self.earlier {
            Some(earlier) if earlier.is_earlier(node) => earlier.path_of(node),
            _ => paths::path_of(&*self.tree, node),
        };
        let path = path.map_or_else(|| format!("inode {ino}"), |p| path_display(&p));
        self.paths.offer(node, path, 1).to_string()
    }

    pub fn statfs(&self) -> Result<Space> {
        let totals = self.tree.totals()?;
        Ok(match &self.live {
            Some(live) => Space::with_free(totals, live.writer.free()?),
            None => totals.into(),
        })
    }
}

/// Where the data that go on until `end` really end: ranges may touch each other.
fn end_of_data(file: &OpenFile, mut end: u64, len: u64) -> Result<u64> {
    while end < len {
        match file.bytes.next_data(end)? {
            Some(next) if next.start <= end && next.end > end => end = next.end,
            _ => break,
        }
    }
    Ok(end.min(len))
}
