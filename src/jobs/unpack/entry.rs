//! One entry that is not a directory: a file, a link, a fifo, a socket, a device.

use super::dirs;
use super::links::Claim;
use super::{Existing, Job, Work, metadata, one_more};
use crate::error::{Error, Kind as ErrorKind, Result};
use crate::formats::folder::beneath;
use crate::source::ReadAt;
use crate::tree::{Attr, Kind, Name, NameBuf, device};
use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, linkat, makedev, mknodat, renameat, statat, symlinkat, unlinkat};
use rustix::io::Errno;
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Bytes read and written at once.
const BUFFER: usize = 1 << 20;

/// Whether the entry was made; false when something of that name exists.
type IsMade = bool;

/// Unpacks an entry, or tells why not.
pub fn unpack(work: &Work<'_>, job: &Job, buffer: &mut Vec<u8>) {
    let path = job.dir.path(work, Some(job.name.as_name()));
    work.watch.entry(&path);
    let done = work.tree.attr(job.node).and_then(|attr| {
        let dir = job.dir.fd(work)?;
        Entry { work, job, dir, attr: &attr, path: &path }.unpack(buffer)
    });
    match done {
        Ok(()) => work.watch.advance(0, 1),
        Err(e) => work.skip(&path, e),
    }
}

struct Entry<'a> {
    work: &'a Work<'a>,
    job: &'a Job,
    dir: Arc<OwnedFd>,
    attr: &'a Attr,
    path: &'a [u8],
}

impl Entry<'_> {
    fn unpack(&self, buffer: &mut Vec<u8>) -> Result<()> {
        if self.attr.nlink <= 1 {
            return self.put(&mut |name| self.make(name, buffer)).map(drop);
        }
        let turn = match self.work.links.claim(self.job.node, self.attr.nlink) {
            Claim::Write(turn) => turn,
            Claim::Link(place, turn) => match self.put(&mut |name| self.link(&place, name)) {
                Ok(_) => return Ok(()),
                Err(e) if is_no_link(&e) => {
                    self.work.lacks(self.path, &[format!("being one file with its other names ({e})")]);
                    turn
                }
                Err(e) => return Err(e),
            },
        };
        if self.put(&mut |name| self.make(name, buffer))? {
            turn.made(self.job.dir.place(self.job.name.clone()));
        }
        Ok(())
    }

    /// Makes the entry under its name, and does what was asked for if that name exists.
    fn put(&self, make: &mut dyn FnMut(Name<'_>) -> Result<IsMade>) -> Result<IsMade> {
        if make(self.job.name.as_name())? {
            return Ok(true);
        }
        match self.work.options.existing {
            Existing::Refuse => Err(Error::new(ErrorKind::Exists, "exists already, and was left as it is")
                .hint("replace what exists with --overwrite, or keep it with --skip-existing")),
            Existing::Keep => {
                one_more(&self.work.tally.kept);
                Ok(false)
            }
            Existing::Replace => self.replace(make).map(|()| true),
        }
    }

    /// Makes the entry beside the one that exists and moves it there, so that a damaged file replaces nothing.
    fn replace(&self, make: &mut dyn FnMut(Name<'_>) -> Result<IsMade>) -> Result<()> {
        let name = self.job.name.as_name().bytes();
        let there = statat(&self.dir, name, AtFlags::SYMLINK_NOFOLLOW);
        if there.is_ok_and(|s| Kind::from_mode(s.st_mode) == Some(Kind::Directory)) {
            return Err(Error::new(ErrorKind::IsADirectory, "a directory is in its place, and was left as it is")
                .hint("remove it first, or unpack into another folder"));
        }
        let beside = loop {
            let beside = self.temporary()?;
            if make(beside.as_name())? {
                break beside;
            }
        };
        let beside = beside.as_name().bytes();
        let moved = renameat(&self.dir, beside, &self.dir, name);
        // After a failure it must go; and two names of one inode are left alone by a rename, both of them.
        let _ = unlinkat(&self.dir, beside, AtFlags::empty());
        moved.map_err(|e| Error::io(e.into(), "cannot replace what exists"))
    }

    fn temporary(&self) -> Result<NameBuf> {
        let number = self.work.tally.temporary.fetch_add(1, Ordering::Relaxed);
        let name = format!(".stmount-{}-{number}", std::process::id());
        Ok(Name::new(name.as_bytes())?.to_owned())
    }

    fn make(&self, name: Name<'_>, buffer: &mut Vec<u8>) -> Result<IsMade> {
        match self.attr.kind {
            Kind::File => self.file(name, buffer),
            Kind::Symlink => self.symlink(name),
            Kind::Directory => Err(Error::new(ErrorKind::Damaged, "is listed as a file and is a directory")),
            Kind::Fifo => self.special(name, FileType::Fifo),
            Kind::Socket => self.special(name, FileType::Socket),
            Kind::CharDevice => self.special(name, FileType::CharacterDevice),
            Kind::BlockDevice => self.special(name, FileType::BlockDevice),
        }
    }

    fn file(&self, name: Name<'_>, buffer: &mut Vec<u8>) -> Result<IsMade> {
        let source = self.work.tree.open(self.job.node)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
        let fd = match beneath::open(&self.dir, name, flags, Mode::RUSR | Mode::WUSR) {
            Err(Errno::EXIST) => return Ok(false),
            made => made.map_err(|e| Error::io(e.into(), "cannot make the file"))?,
        };
        if self.job.dir.bequeaths() {
            metadata::disinherit(&fd);
        }
        let file = File::from(fd);
        let bytes = fill(self.work, &*source, &file, buffer).inspect_err(|_| self.remove(name))?;
        self.told(metadata::dress_fd(self.work, &file.into(), self.job.node, self.attr));
        one_more(&self.work.tally.files);
        self.work.tally.bytes.fetch_add(bytes, Ordering::Relaxed);
        Ok(true)
    }

    fn remove(&self, name: Name<'_>) {
        if let Err(e) = unlinkat(&self.dir, name.bytes(), AtFlags::empty()) {
            log::warn!("the damaged file {name} cannot be removed: {e}");
        }
    }

    fn symlink(&self, name: Name<'_>) -> Result<IsMade> {
        let target = self.work.tree.target(self.job.node)?;
        let made = symlinkat(&target[..], &self.dir, name.bytes());
        self.dressed(name, made, "cannot make the symbolic link")
    }

    fn special(&self, name: Name<'_>, kind: FileType) -> Result<IsMade> {
        let number = match kind {
            FileType::CharacterDevice | FileType::BlockDevice => {
                makedev(device::major(self.attr.rdev), device::minor(self.attr.rdev))
            }
            _ => 0,
        };
        match mknodat(&self.dir, name.bytes(), kind, Mode::RUSR | Mode::WUSR, number) {
            Err(Errno::PERM) if self.attr.kind.is_device() => {
                Err(Error::new(ErrorKind::Denied, "is a device, which only root can make")
                    .hint("unpack as root, or leave it out with --exclude"))
            }
            made => self.dressed(name, made, "cannot make the special file"),
        }
    }

    /// The end of making something that is not opened.
    fn dressed(&self, name: Name<'_>, made: Result<(), Errno>, what: &str) -> Result<IsMade> {
        match made {
            Err(Errno::EXIST) => return Ok(false),
            made => made.map_err(|e| Error::io(e.into(), what))?,
        }
        if self.job.dir.bequeaths() && self.attr.kind != Kind::Symlink {
            metadata::disinherit_name(&self.dir, name);
        }
        self.told(metadata::dress_name(self.work, &self.dir, name, self.job.node, self.attr));
        one_more(&self.work.tally.others);
        Ok(true)
    }

    /// Makes the entry a further name of one that was made before.
    fn link(&self, to: &dirs::Place, name: Name<'_>) -> Result<IsMade> {
        let cannot = |e: Errno| Error::io(e.into(), "cannot make the hard link");
        let from = dirs::open(&self.work.root, &to.dir, beneath::PLACE).map_err(cannot)?;
        match linkat(&*from, to.name.as_name().bytes(), &self.dir, name.bytes(), AtFlags::empty()) {
            Err(Errno::EXIST) => return Ok(false),
            made => made.map_err(cannot)?,
        }
        one_more(&self.work.tally.others);
        Ok(true)
    }

    fn told(&self, lacks: Vec<String>) {
        self.work.lacks(self.path, &lacks);
    }
}

/// What a file system answers that has no hard links, or no more of them, or not across a mount.
fn is_no_link(e: &Error) -> bool {
    let answers = [Errno::MLINK, Errno::XDEV, Errno::PERM, Errno::OPNOTSUPP, Errno::NOENT, Errno::ACCESS];
    e.os_code().is_some_and(|code| answers.iter().any(|a| a.raw_os_error() == code))
}

/// Copies a source into a new file, holes as holes; returns its length.
fn fill(work: &Work<'_>, source: &dyn ReadAt, file: &File, buffer: &mut Vec<u8>) -> Result<u64> {
    let len = source.len()?;
    let mut at = 0;
    while at < len {
        let Some(range) = next_data(work, source, at, len)? else { break };
        copy(work, source, file, range.clone(), buffer)?;
        at = range.end;
    }
    if at < len {
        file.set_len(len).map_err(|e| Error::io(e, format!("cannot make a file of {len} bytes")))?;
        work.watch.advance(len - at, 0);
    }
    Ok(len)
}

/// The next data, and a source that goes backwards or beyond its end is damaged.
fn next_data(work: &Work<'_>, source: &dyn ReadAt, at: u64, len: u64) -> Result<Option<Range<u64>>> {
    if !work.options.sparse {
        return Ok(Some(at..len));
    }
    match source.next_data(at)? {
        Some(range) if range.start < at || range.end <= range.start || range.start >= len => {
            Err(Error::new(ErrorKind::Damaged, format!("its data at {at} of {len} bytes are not in order")))
        }
        range => Ok(range.map(|r| r.start..r.end.min(len))),
    }
}

fn copy(work: &Work<'_>, source: &dyn ReadAt, file: &File, range: Range<u64>, buffer: &mut Vec<u8>) -> Result<()> {
    let mut at = range.start;
    while at < range.end {
        if work.is_over() {
            return Err(Error::new(ErrorKind::Interrupted, "unpacking was interrupted"));
        }
        let want = BUFFER.min(usize::try_from(range.end - at).unwrap_or(BUFFER));
        if buffer.len() < want {
            buffer.resize(want, 0);
        }
        source.read_exact_at(at, &mut buffer[..want])?;
        work.write_more(want as u64)?;
        let next = at + want as u64;
        if next < range.end {
            source.will_read(next..range.end.min(next + BUFFER as u64));
        }
        file.write_all_at(&buffer[..want], at).map_err(|e| Error::io(e, format!("cannot write at {at}")))?;
        work.watch.advance(want as u64, 0);
        at = next;
    }
    Ok(())
}
