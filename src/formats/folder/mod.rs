//! A plain local folder as a [`Tree`].
//!
//! ```text
//!   Folder ── root (open directory)
//!     ├── names    node <-> (directory, name)              all a folder remembers, see names.rs
//!     ├── places   the directories used last, open         everything is reached from the directory that holds it
//!     └── listing  the directory listed last, sorted       so that a listing in pages reads the directory once
//! ```
//!
//! Symbolic links are never followed, sockets, fifos and devices never opened; what was swapped during a walk gives
//! [`ErrorKind::Changed`] or [`ErrorKind::NotFound`]. Two names of one inode are one node.

pub mod beneath;
mod listing;
mod names;
mod places;
mod xattr;

pub use xattr::path_of;

use crate::error::{Error, Kind as ErrorKind, Result};
use crate::pool::lock;
use crate::source::{FileSource, ReadAt};
use crate::tree::{Attr, Kind, Name, NameBuf, Node, Owner, Time, Totals, Tree, Visit, Xattr, device, path_display};
use listing::Listing;
use names::Names;
use nix::unistd::{Gid, Group, Uid, User};
use places::Places;
use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, CWD, Mode, OFlags, Stat, fstat, openat, readlinkat, statat};
use rustix::io::Errno;
use std::collections::HashMap;
use std::ops::{ControlFlow, Range};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

const ROOT: u32 = 0;

/// A folder of the local file system.
pub struct Folder {
    root: Arc<OwnedFd>,
    path: PathBuf,
    device: u64,
    one_file_system: bool,
    names: RwLock<Names>,
    places: Places,
    listing: Mutex<Option<Arc<Listing>>>,
    users: Mutex<HashMap<u32, Option<String>>>,
    groups: Mutex<HashMap<u32, Option<String>>>,
    seen_bytes: AtomicU64,
    seen_stored: AtomicU64,
}

impl Folder {
    /// Opens a directory. Symbolic links in `path` itself are followed, as in every command that takes a path.
    pub fn open(path: &Path) -> Result<Self> {
        let wrong = |e: Errno| Error::io(e.into(), format!("cannot open the folder {}", path.display()));
        let root = openat(CWD, path, beneath::PLACE, Mode::empty()).map_err(wrong)?;
        let device = fstat(&root).map_err(wrong)?.st_dev;
        Ok(Self {
            root: Arc::new(root),
            path: path.to_owned(),
            device,
            one_file_system: false,
            names: RwLock::new(Names::new()),
            places: Places::default(),
            listing: Mutex::default(),
            users: Mutex::default(),
            groups: Mutex::default(),
            seen_bytes: AtomicU64::new(0),
            seen_stored: AtomicU64::new(0),
        })
    }

    /// Whether other file systems mounted inside are left out: their mount points are then empty directories.
    #[must_use]
    pub fn one_file_system(mut self, stay: bool) -> Self {
        self.one_file_system = stay;
        self
    }

    fn names(&self) -> RwLockReadGuard<'_, Names> {
        // A panic in between leaves at most a node without a name, which nobody was told of.
        self.names.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn names_mut(&self) -> RwLockWriteGuard<'_, Names> {
        self.names.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Calls `act` with the directory that holds a node and the name there; for the root with an empty name.
    fn at<T>(&self, node: u32, act: impl FnOnce(&OwnedFd, &[u8]) -> Result<T, Errno>) -> Result<T, Errno> {
        if node == ROOT {
            return act(&self.root, b"");
        }
        let (dir, name) = match self.names().place(node) {
            Some((dir, name)) => (dir, name.to_owned()),
            None => return Err(Errno::NOENT),
        };
        act(&*self.place(dir)?, name.as_name().bytes())
    }

    /// A directory to start from. Opened from the nearest one above that is still open.
    fn place(&self, dir: u32) -> Result<Arc<OwnedFd>, Errno> {
        if dir == ROOT {
            return Ok(self.root.clone());
        }
        if let Some(kept) = self.places.get(dir) {
            return Ok(kept);
        }
        let (start, way) = self.way(dir).ok_or(Errno::NOENT)?;
        let fd = Arc::new(beneath::open_path(&*start, way.iter().rev().map(NameBuf::as_name), beneath::PLACE)?);
        self.places.put(dir, fd.clone());
        Ok(fd)
    }

    /// The nearest open directory above, and the names from `dir` up to it.
    fn way(&self, mut dir: u32) -> Option<(Arc<OwnedFd>, Vec<NameBuf>)> {
        let names = self.names();
        let mut way = Vec::new();
        loop {
            let (parent, name) = names.place(dir)?;
            way.push(name.to_owned());
            dir = parent;
            if let Some(start) = if dir == ROOT { Some(self.root.clone()) } else { self.places.get(dir) } {
                return Some((start, way));
            }
        }
    }

    fn stat(&self, node: u32) -> Result<Stat, Errno> {
        self.at(node, |dir, name| match name {
            b"" => fstat(dir),
            name => statat(dir, name, AtFlags::SYMLINK_NOFOLLOW),
        })
    }

    /// The listing of a directory, read anew unless it is the continuation of the last one.
    fn listing(&self, dir: u32, goes_on: bool) -> Result<Arc<Listing>> {
        let kept = lock(&self.listing).clone();
        match kept {
            Some(kept) if goes_on && kept.dir == dir => return Ok(kept),
            _ => {}
        }
        let fresh = Arc::new(self.read_directory(dir)?);
        *lock(&self.listing) = Some(fresh.clone());
        Ok(fresh)
    }

    fn read_directory(&self, dir: u32) -> Result<Listing> {
        let told = |e| self.told(dir, e, "cannot list");
        let fd = Arc::new(self.open_directory(dir).map_err(told)?);
        if dir != ROOT {
            self.places.put(dir, fd.clone());
        }
        if self.one_file_system && fstat(&fd).map_err(told)?.st_dev != self.device {
            return Ok(Listing::empty(dir));
        }
        let found = listing::read(&fd).map_err(told)?;
        let nodes = self.names_mut().nodes(dir, &found.names())?;
        let mut listing = Listing::new(dir, found, nodes);
        self.count(&listing);
        for (node, inode) in listing.linked() {
            *node = self.one_node(*node, inode);
        }
        Ok(listing)
    }

    fn open_directory(&self, dir: u32) -> Result<OwnedFd, Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        self.at(dir, |above, name| match name {
            b"" => openat(above, ".", flags, Mode::empty()),
            name => without_atime(flags, |flags| beneath::open(above, valid(name)?, flags, Mode::empty())),
        })
    }

    /// The node of an inode that has several names: that of the first name seen, as long as it still leads there. An
    /// inode number that was freed and given to another file must not make that file a link of the old one.
    fn one_node(&self, node: u32, inode: names::Identity) -> u32 {
        let first = self.names_mut().link(inode, node);
        if first != node && !self.stat(first).is_ok_and(|s| (s.st_dev, s.st_ino) == inode) {
            self.names_mut().relink(inode, node);
            return node;
        }
        first
    }

    fn count(&self, listing: &Listing) {
        self.seen_bytes.fetch_add(listing.bytes, Ordering::Relaxed);
        self.seen_stored.fetch_add(listing.stored, Ordering::Relaxed);
    }

    /// An error about a node, with its path.
    fn told(&self, node: u32, e: Errno, what: &str) -> Error {
        let path = self.full_path(node);
        match e {
            Errno::LOOP | Errno::NOTDIR => Error::new(
                ErrorKind::Changed,
                format!("{what} {path}: something else was put in its place while it was being read"),
            ),
            _ => Error::io(e.into(), format!("{what} {path}")),
        }
    }

    fn full_path(&self, node: u32) -> String {
        let mut path = self.path.as_os_str().as_bytes().to_vec();
        for name in self.names().path(node) {
            path.push(b'/');
            path.extend_from_slice(name.bytes());
        }
        path_display(&path)
    }

    fn open_file(&self, node: u32) -> Result<File, Errno> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        self.at(node, |dir, name| {
            let name = valid(name)?;
            // Opening a device can do things to it, so look first; what is swapped in between is not read either.
            expect_file(&statat(dir, name.bytes(), AtFlags::SYMLINK_NOFOLLOW)?)?;
            let fd = without_atime(flags, |flags| beneath::open(dir, name, flags, Mode::empty()))?;
            let stat = fstat(&fd)?;
            expect_file(&stat)?;
            let whole = stat.st_blocks as u64 * 512 >= stat.st_size as u64;
            Ok(File { inner: FileSource::new(fd.into()), whole })
        })
    }
}

impl Tree for Folder {
    fn root(&self) -> Node {
        Node(u64::from(ROOT))
    }

    fn find(&self, dir: Node, name: Name<'_>) -> Result<Option<Node>> {
        let dir = number(dir)?;
        let found = self.place(dir).and_then(|fd| statat(&*fd, name.bytes(), AtFlags::SYMLINK_NOFOLLOW));
        let stat = match found {
            Err(Errno::NOENT | Errno::NAMETOOLONG) => return Ok(None),
            found => found.map_err(|e| self.told(dir, e, "cannot look into"))?,
        };
        let node = self.names_mut().node(dir, name)?;
        let node = listing::inode_of_many(&stat).map_or(node, |inode| self.one_node(node, inode));
        Ok(Some(Node(u64::from(node))))
    }

    fn attr(&self, node: Node) -> Result<Attr> {
        let node = number(node)?;
        let stat = self.stat(node).map_err(|e| self.told(node, e, "cannot look at"))?;
        attr_of(&stat)
            .ok_or_else(|| Error::new(ErrorKind::Unsupported, format!("{}: of an unknown kind", self.full_path(node))))
    }

    /// Sorted by the bytes of the names. A directory of a million entries takes about 40 MB while it is visited.
    fn list(&self, dir: Node, after: Option<Name<'_>>, visit: &mut Visit<'_>) -> Result<()> {
        let listing = self.listing(number(dir)?, after.is_some())?;
        for (name, node, kind) in listing.behind(after) {
            if let ControlFlow::Break(()) = visit(name, Node(u64::from(node)), kind) {
                break;
            }
        }
        Ok(())
    }

    fn target(&self, link: Node) -> Result<Vec<u8>> {
        let node = number(link)?;
        let target = self.at(node, |dir, name| readlinkat(dir, name, Vec::new()));
        Ok(target.map_err(|e| self.told(node, e, "cannot read the link"))?.into_bytes())
    }

    fn open(&self, file: Node) -> Result<Arc<dyn ReadAt>> {
        let node = number(file)?;
        match self.open_file(node) {
            Ok(file) => Ok(Arc::new(file)),
            Err(e @ Errno::ACCESS) => Err(self.told(node, e, "cannot read").hint("read it as its owner or as root")),
            Err(e) => Err(self.told(node, e, "cannot open")),
        }
    }

    fn xattrs(&self, node: Node) -> Result<Vec<Xattr>> {
        let node = number(node)?;
        let read = self.at(node, |dir, name| xattr::read_all(&path_of(dir, name)));
        read.map_err(|e| self.told(node, e, "cannot read the extended attributes of"))
    }

    fn owner(&self, node: Node) -> Result<Owner> {
        let attr = self.attr(node)?;
        let (user, group) = (cached(&self.users, attr.uid, user_name), cached(&self.groups, attr.gid, group_name));
        Ok(Owner { user, group })
    }

    /// What was seen so far: complete after a walk, because counting it beforehand would be a walk of its own.
    fn totals(&self) -> Result<Totals> {
        let (bytes, stored) = (self.seen_bytes.load(Ordering::Relaxed), self.seen_stored.load(Ordering::Relaxed));
        Ok(Totals { nodes: self.names().count(), bytes, stored })
    }

    fn is_frozen(&self) -> bool {
        false
    }
}

/// What this system calls a user.
pub fn user_name(uid: u32) -> Option<String> {
    User::from_uid(Uid::from_raw(uid)).ok().flatten().map(|user| user.name)
}

/// What this system calls a group.
pub fn group_name(gid: u32) -> Option<String> {
    Group::from_gid(Gid::from_raw(gid)).ok().flatten().map(|group| group.name)
}

/// An open file of a folder. One without holes is not asked for them.
struct File {
    inner: FileSource,
    whole: bool,
}

impl ReadAt for File {
    fn len(&self) -> Result<u64> {
        self.inner.len()
    }

    fn read_at(&self, at: u64, into: &mut [u8]) -> Result<usize> {
        self.inner.read_at(at, into)
    }

    fn will_read(&self, range: Range<u64>) {
        self.inner.will_read(range);
    }

    fn next_data(&self, at: u64) -> Result<Option<Range<u64>>> {
        if self.whole {
            let len = self.len()?;
            return Ok((at < len).then_some(at..len));
        }
        self.inner.next_data(at)
    }
}

fn number(node: Node) -> Result<u32> {
    u32::try_from(node.0).map_err(|_| Error::new(ErrorKind::NotFound, format!("there is no node {}", node.0)))
}

fn valid(name: &[u8]) -> Result<Name<'_>, Errno> {
    Name::new(name).map_err(|_| Errno::ISDIR)
}

fn expect_file(stat: &Stat) -> Result<(), Errno> {
    match Kind::from_mode(stat.st_mode) {
        Some(Kind::File) => Ok(()),
        Some(Kind::Directory) => Err(Errno::ISDIR),
        Some(Kind::Symlink) => Err(Errno::LOOP),
        _ => Err(Errno::INVAL),
    }
}

/// Reading leaves no trace in the access time where the system allows that: to the owner and to root.
fn without_atime(flags: OFlags, open: impl Fn(OFlags) -> Result<OwnedFd, Errno>) -> Result<OwnedFd, Errno> {
    match open(flags | OFlags::NOATIME) {
        Err(Errno::PERM) => open(flags),
        opened => opened,
    }
}

fn attr_of(stat: &Stat) -> Option<Attr> {
    let kind = Kind::from_mode(stat.st_mode)?;
    let size = if matches!(kind, Kind::File | Kind::Symlink) { stat.st_size as u64 } else { 0 };
    let rdev = if kind.is_device() {
        device::join(rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev))
    } else {
        0
    };
    Some(Attr {
        kind,
        mode: stat.st_mode & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
        size,
        nlink: u32::try_from(stat.st_nlink).unwrap_or(u32::MAX),
        rdev,
        mtime: Time { secs: stat.st_mtime, nanos: stat.st_mtime_nsec as u32 },
        atime: Time { secs: stat.st_atime, nanos: stat.st_atime_nsec as u32 },
        ctime: Time { secs: stat.st_ctime, nanos: stat.st_ctime_nsec as u32 },
        allocated: listing::allocated(stat),
    })
}

fn cached(
    known: &Mutex<HashMap<u32, Option<String>>>,
    id: u32,
    ask: impl FnOnce(u32) -> Option<String>,
) -> Option<String> {
    lock(known).entry(id).or_insert_with(|| ask(id)).clone()
}
