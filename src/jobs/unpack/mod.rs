//! Unpacks a tree into a folder, and never writes a byte outside of it.
//!
//! ```text
//!   walker (one thread)                         workers
//!   lists directories, makes them ── jobs ──►   make files, links, fifos, devices
//!   in order, names the rest                    each in the open directory it belongs to
//!                                  dir ◄──      the last one who needs a directory finishes it:
//!                                               attributes, owner, mode, ACLs, times
//! ```
//!
//! Files whose contents lie in some order in an archive are held back and then made in that order: of a solid block,
//! everything is decoded once, from its front.
//!
//! The tree may be hostile. So every entry is made by its one name in a directory that is held open and was itself
//! opened without following a link ([`beneath`](crate::formats::folder::beneath)); everything is created exclusively, so
//! that nothing that exists is written through; a directory that is reached twice is refused, and so is one at a depth
//! of [`MAX_DEPTH`]. A file whose data are damaged is removed again and told of, and the rest goes on.

mod dirs;
mod entry;
mod links;
mod metadata;
mod walk;

use crate::error::{Error, Kind, Result};
use crate::formats::Watch;
use crate::pool::lock;
use crate::tree::{Filter, NameBuf, Node, Tree, find_path};
use dirs::Dir;
use links::Links;
use metadata::Ids;
use rustix::fd::OwnedFd;
use rustix::fs::{CWD, Mode, OFlags, openat};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// Directories below each other. A path as programs use it has 2047 components at most.
pub const MAX_DEPTH: usize = 4096;

/// What to do about a name that exists in the target already. Directories are always shared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Existing {
    /// Leave it alone and tell of the entry as skipped.
    #[default]
    Refuse,
    /// Leave it alone and say nothing; attributes of existing directories stay as well.
    Keep,
    /// Put the entry in its place, at once and only when it is whole. A directory is never replaced by something else.
    Replace,
}

/// How to unpack.
#[derive(Clone, Debug)]
pub struct Options {
    /// Workers; 0 for as many as there are cores.
    pub threads: usize,
    /// Which paths take part. Paths are those inside the tree, also with `subdir`.
    pub filter: Filter,
    /// Unpack only this path: the contents of a directory, or one other entry.
    pub subdir: Option<Vec<u8>>,
    /// So many leading directories are left out of every path, and what has no more than these is not unpacked.
    pub strip: usize,
    /// Bytes that are written at most; holes are not. Against archives that are small and become endless.
    pub most: Option<u64>,
    pub existing: Existing,
    /// Restore owners; `None` does so as root and never else.
    pub same_owner: Option<bool>,
    /// Take the numbers of owners as they are, rather than looking their names up on this machine.
    pub numeric_owner: bool,
    /// Restore modes and ACLs exactly; else the umask takes bits away. Setuid and setgid bits of files need the owners
    /// restored by root in any case.
    pub same_permissions: bool,
    /// Restore extended attributes and ACLs.
    pub xattrs: bool,
    /// Leave holes as holes.
    pub sparse: bool,
    /// Return only when everything is on the medium.
    pub sync: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            threads: 0,
            filter: Filter::default(),
            subdir: None,
            strip: 0,
            most: None,
            existing: Existing::default(),
            same_owner: None,
            numeric_owner: false,
            same_permissions: true,
            xattrs: true,
            sparse: true,
            sync: false,
        }
    }
}

/// What was done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Files, each inode once.
    pub files: u64,
    /// Directories, the target not counted.
    pub dirs: u64,
    /// Symbolic links, further names of hard-linked inodes, fifos, sockets and devices.
    pub others: u64,
    /// Bytes of the files, holes counted.
    pub bytes: u64,
    /// Entries that existed and were kept.
    pub kept: u64,
    /// Entries that are missing; each was told to [`Watch::skipped`].
    pub skipped: u64,
    /// Entries that were made, but lack an attribute or the owner; each was told to [`Watch::skipped`] as well.
    pub incomplete: u64,
}

impl Report {
    /// Whether everything is there as it should be.
    pub fn is_clean(&self) -> bool {
        self.skipped == 0 && self.incomplete == 0
    }
}

/// Unpacks `tree` into the directory `target`, which is made if it does not exist.
///
/// Entries that cannot be made are told to `watch` and counted in the report. The whole ends early with
/// [`Kind::NoSpace`] when the disk is full, [`Kind::ReadOnly`] when it takes no writes, and [`Kind::Interrupted`] when
/// the watch says so; what was made until then stays, and no file is half written.
pub fn unpack(tree: &dyn Tree, target: &Path, options: &Options, watch: &dyn Watch) -> Result<Report> {
    let prefix = options.subdir.clone().unwrap_or_default();
    let node = find_path(tree, &prefix)?;
    let (fd, is_new) = open_target(target)?;
    let work = Work::new(tree, options, watch, Arc::new(fd), prefix);
    if tree.is_frozen() && options.filter.is_everything() && options.subdir.is_none() && options.strip == 0 {
        let totals = tree.totals()?;
        watch.total(totals.bytes, totals.nodes);
    }
    walk::run(&work, node, is_new)?;
    work.end(target)
}

fn open_target(target: &Path) -> Result<(OwnedFd, bool)> {
    let wrong = |e: std::io::Error| Error::io(e, format!("cannot unpack into {}", target.display()));
    if let Some(above) = target.parent().filter(|p| !p.as_os_str().is_empty()) {
        std::fs::create_dir_all(above).map_err(wrong)?;
    }
    let is_new = match std::fs::DirBuilder::new().mode(0o700).create(target) {
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => false,
        made => made.map(|()| true).map_err(wrong)?,
    };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let fd = openat(CWD, target, flags, Mode::empty()).map_err(|e| wrong(e.into()))?;
    Ok((fd, is_new))
}

/// What all threads share.
struct Work<'a> {
    tree: &'a dyn Tree,
    options: &'a Options,
    watch: &'a dyn Watch,
    /// The target.
    root: Arc<OwnedFd>,
    /// The path in the tree that is unpacked.
    prefix: Vec<u8>,
    links: Links,
    ids: Ids,
    tally: Tally,
    is_root: bool,
    umask: u32,
    /// Whether it was said that the target has no extended attributes.
    no_xattrs_told: AtomicBool,
    stopped: AtomicBool,
    failure: Mutex<Option<Error>>,
}

#[derive(Default)]
struct Tally {
    files: AtomicU64,
    dirs: AtomicU64,
    others: AtomicU64,
    bytes: AtomicU64,
    /// What is written, holes not counted.
    written: AtomicU64,
    kept: AtomicU64,
    skipped: AtomicU64,
    incomplete: AtomicU64,
    temporary: AtomicU64,
}

/// An entry that is not a directory, on its way to a worker.
struct Job {
    dir: Arc<Dir>,
    name: NameBuf,
    node: Node,
}

fn one_more(count: &AtomicU64) {
    count.fetch_add(1, Ordering::Relaxed);
}

impl<'a> Work<'a> {
    fn new(
        tree: &'a dyn Tree,
        options: &'a Options,
        watch: &'a dyn Watch,
        root: Arc<OwnedFd>,
        prefix: Vec<u8>,
    ) -> Self {
        Self {
            tree,
            options,
            watch,
            root,
            prefix,
            links: Links::default(),
            ids: Ids::default(),
            tally: Tally::default(),
            is_root: rustix::process::geteuid().is_root(),
            umask: umask(),
            no_xattrs_told: AtomicBool::new(false),
            stopped: AtomicBool::new(false),
            failure: Mutex::new(None),
        }
    }

    fn same_owner(&self) -> bool {
        self.options.same_owner.unwrap_or(self.is_root)
    }

    /// Whether nothing more is to be done; asks the watch.
    fn is_over(&self) -> bool {
        if !self.stopped.load(Ordering::Relaxed) && self.watch.is_cancelled() {
            self.fail(Error::new(Kind::Interrupted, "unpacking was interrupted"));
        }
        self.stopped.load(Ordering::Relaxed)
    }

    /// Counts what is about to be written.
    fn write_more(&self, bytes: u64) -> Result<()> {
        let written = self.tally.written.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes);
        match self.options.most {
            Some(most) if written > most => {
                let e = || Error::new(Kind::Limit, format!("it becomes more than {most} bytes"));
                self.fail(e());
                Err(e())
            }
            _ => Ok(()),
        }
    }

    /// Whether more was written than may be: the next entries would fare no better.
    fn is_too_much(&self, e: &Error) -> bool {
        let written = self.tally.written.load(Ordering::Relaxed);
        e.kind() == Kind::Limit && self.options.most.is_some_and(|most| written > most)
    }

    /// Ends the work with this error, unless one was first.
    fn fail(&self, e: Error) {
        lock(&self.failure).get_or_insert(e);
        self.stopped.store(true, Ordering::Relaxed);
    }

    /// Tells of an entry that is missing, or ends the work if the next ones would fare no better.
    fn skip(&self, path: &[u8], e: Error) {
        use rustix::io::Errno;
        let hopeless = [Errno::NOSPC, Errno::DQUOT, Errno::ROFS].map(|e| e.raw_os_error());
        if matches!(e.kind(), Kind::Interrupted)
            || self.is_too_much(&e)
            || e.os_code().is_some_and(|code| hopeless.contains(&code))
        {
            return self.fail(e.within(crate::tree::path_display(path)));
        }
        one_more(&self.tally.skipped);
        self.watch.skipped(path, &e);
    }

    fn end(&self, target: &Path) -> Result<Report> {
        if let Some(e) = lock(&self.failure).take() {
            return Err(e);
        }
        if self.options.sync {
            rustix::fs::syncfs(&*self.root)
                .map_err(|e| Error::io(e.into(), format!("cannot write {} out", target.display())))?;
        }
        Ok(self.tally.report())
    }
}

impl Tally {
    fn report(&self) -> Report {
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Report {
            files: of(&self.files),
            dirs: of(&self.dirs),
            others: of(&self.others),
            bytes: of(&self.bytes),
            kept: of(&self.kept),
            skipped: of(&self.skipped),
            incomplete: of(&self.incomplete),
        }
    }
}

/// The umask, read where reading does not change it.
fn umask() -> u32 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("Umask:"));
    line.and_then(|l| u32::from_str_radix(l.trim(), 8).ok()).unwrap_or(0o022)
}
