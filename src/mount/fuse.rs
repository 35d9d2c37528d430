//! The requests of a FUSE kernel: decode, call, reply. What they mean is the business of [`crate::vfs`].

use super::crew::Crew;
use super::errno::errno;
use crate::error::{Error, Kind as ErrorKind};
use crate::tree::{Attr, Kind, Time, device};
use crate::vfs::{Allocate, DirEntry, Maker, New, ROOT, Rename, SetAttr, SetXattr, Stat, Vfs};
use fuser::{
    AccessFlags, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo, InitFlags,
    IoctlFlags, KernelConfig, LockOwner, OpenAccMode, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData,
    ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyIoctl, ReplyLseek, ReplyOpen, ReplyStatfs,
    ReplyWrite, ReplyXattr, Request, TimeOrNow, WriteFlags,
};
use std::cell::RefCell;
use std::ffi::OsStr;
use std::io;
use std::ops::ControlFlow;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How long a kernel may believe what cannot change: longer than a mount lives.
const FOR_EVER: Duration = Duration::from_secs(365 * 24 * 3600);
/// And what can.
const A_MOMENT: Duration = Duration::from_secs(1);
/// Largest request of a kernel, in bytes.
const MAX_REQUEST: u32 = 1 << 20;
/// Reads a kernel sends ahead without waiting: 64 of 1 MiB keep several sequential readers going.
const MAX_BACKGROUND: u16 = 64;

/// `FS_IOC_GETFLAGS` with a `long` of 64 and of 32 bits.
const GETFLAGS: [u32; 2] = [0x8008_6601, 0x8004_6601];
/// `FS_CASEFOLD_FL`: Wine looks for it, and then leaves the search for the right case to us.
const CASEFOLD: u32 = 0x4000_0000;

/// The blocks of stat(2), in bytes.
const SECTOR: u64 = 512;
const BLOCK: u32 = crate::vfs::BLOCK as u32;

/// A [`Vfs`] as `fuser` wants it.
pub struct Frontend {
    vfs: Arc<Vfs>,
    crew: Crew,
    ttl: Duration,
    /// The kernel goes without open and opendir when they are answered with ENOSYS.
    no_open: bool,
    no_opendir: bool,
    /// Each open file is read as it was when it was opened, and a kernel keeps one set of pages for all of them: it is to
    /// keep none.
    uncached: bool,
}

impl Frontend {
    /// `takers`: the number of threads that will take requests. `uncached`: files may become others while they are open.
    pub fn new(vfs: Arc<Vfs>, takers: usize, uncached: bool) -> Self {
        // Of a tree that takes changes the kernel knows each of them: it sends them.
        let ttl = if vfs.is_frozen() || vfs.is_writable() { FOR_EVER } else { A_MOMENT };
        Self { vfs, crew: Crew::new(takers), ttl, no_open: false, no_opendir: false, uncached }
    }

    fn serve(&self, request: impl FnOnce(&Vfs) + Send + 'static) {
        let vfs = self.vfs.clone();
        self.crew.run(move || request(&vfs));
    }

    /// How long a kernel may believe what is told of an inode, or of a name in it.
    fn ttl(&self, ino: INodeNo) -> Duration {
        if self.vfs.is_passing(ino.0) { Duration::ZERO } else { self.ttl }
    }

    fn cached(&self, flags: FopenFlags) -> FopenFlags {
        match (self.vfs.is_frozen(), self.vfs.is_writable()) {
            (true, _) => flags,
            (_, true) => flags & FopenFlags::FOPEN_KEEP_CACHE,
            _ if self.uncached && flags == FopenFlags::FOPEN_KEEP_CACHE => FopenFlags::FOPEN_DIRECT_IO,
            _ => FopenFlags::empty(),
        }
    }
}

fn ask(config: &mut KernelConfig, capability: InitFlags) -> bool {
    config.add_capabilities(capability).is_ok()
}

/// The errno of an error. What is wrong with the data is noted as well, with the path of the file.
fn told(e: &Error, vfs: &Vfs, ino: INodeNo) -> Errno {
    match e.kind() {
        ErrorKind::NotFound | ErrorKind::Denied | ErrorKind::NotADirectory | ErrorKind::IsADirectory => {}
        ErrorKind::Exists | ErrorKind::NotEmpty | ErrorKind::NameTooLong | ErrorKind::NoAttribute => {}
        ErrorKind::ReadOnly | ErrorKind::NotPermitted | ErrorKind::TooLarge | ErrorKind::Invalid => {}
        _ => vfs.note_failure(ino.0, e),
    }
    errno(e.kind())
}

impl Filesystem for Frontend {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> io::Result<()> {
        // Every one of these is a gain that an older kernel does without.
        ask(config, InitFlags::FUSE_DO_READDIRPLUS);
        ask(config, InitFlags::FUSE_READDIRPLUS_AUTO);
        ask(config, InitFlags::FUSE_PARALLEL_DIROPS);
        ask(config, InitFlags::FUSE_ASYNC_READ);
        ask(config, InitFlags::FUSE_HAS_IOCTL_DIR);
        if self.vfs.is_frozen() {
            ask(config, InitFlags::FUSE_CACHE_SYMLINKS);
            ask(config, InitFlags::FUSE_EXPLICIT_INVAL_DATA);
            self.no_open = ask(config, InitFlags::FUSE_NO_OPEN_SUPPORT);
            self.no_opendir = ask(config, InitFlags::FUSE_NO_OPENDIR_SUPPORT);
        } else if self.vfs.is_writable() {
            // Not FUSE_ATOMIC_O_TRUNC: with it a program that is running is cut off before the kernel refuses to open it.
            ask(config, InitFlags::FUSE_EXPLICIT_INVAL_DATA);
            // Lists and the umask belong together: who makes a file where a default list is has no umask.
            ask(config, InitFlags::FUSE_DONT_MASK);
            ask(config, InitFlags::FUSE_POSIX_ACL);
        } else {
            ask(config, InitFlags::FUSE_AUTO_INVAL_DATA);
            ask(config, InitFlags::FUSE_DIRECT_IO_ALLOW_MMAP);
        }
        let _ = config.set_max_write(MAX_REQUEST);
        let _ = config.set_max_background(MAX_BACKGROUND);
        Ok(())
    }

    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let (ttl, name) = (self.ttl(parent), name.to_owned());
        self.serve(move |vfs| match vfs.lookup(parent.0, name.as_bytes()) {
            Ok(Some(stat)) => {
                let ttl = if vfs.is_passing(stat.ino) { Duration::ZERO } else { ttl };
                reply.entry(&ttl, &attr(&stat), Generation(0));
            }
            // The inode 0 lets the kernel remember that there is nothing of this name.
            Ok(None) if ttl == FOR_EVER => reply.entry(&ttl, &nothing(), Generation(0)),
            Ok(None) => reply.error(Errno::ENOENT),
            Err(e) => reply.error(told(&e, vfs, parent)),
        });
    }

    fn forget(&self, _: &Request, ino: INodeNo, _: u64) {
        if self.vfs.is_nameless(ino.0) {
            self.serve(move |vfs| vfs.forget(ino.0));
        }
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        let ttl = self.ttl(ino);
        self.serve(move |vfs| match vfs.getattr(ino.0) {
            Ok(stat) => reply.attr(&ttl, &attr(&stat)),
            Err(e) => reply.error(told(&e, vfs, ino)),
        });
    }

    fn readlink(&self, _: &Request, ino: INodeNo, reply: ReplyData) {
        self.serve(move |vfs| match vfs.readlink(ino.0) {
            Ok(target) => reply.data(&target),
            Err(e) => reply.error(told(&e, vfs, ino)),
        });
    }

    fn open(&self, _: &Request, ino: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        if flags.acc_mode() != OpenAccMode::O_RDONLY && !self.vfs.takes_changes(ino.0) {
            return reply.error(Errno::EROFS);
        }
        if self.no_open {
            return reply.error(Errno::ENOSYS);
        }
        let cached = self.cached(FopenFlags::FOPEN_KEEP_CACHE);
        self.serve(move |vfs| match vfs.open(ino.0) {
            Ok(handle) => reply.opened(FileHandle(handle), cached),
            Err(e) => reply.error(told(&e, vfs, ino)),
        });
    }

    fn read(
        &self,
        _: &Request,
        ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        self.serve(move |vfs| {
            with_buffer(size, |buffer| match vfs.read(ino.0, fh.0, offset, buffer) {
                Ok(got) => reply.data(&buffer[..got]),
                Err(e) => reply.error(told(&e, vfs, ino)),
            });
        });
    }

    fn lseek(&self, _: &Request, ino: INodeNo, fh: FileHandle, offset: i64, whence: i32, reply: ReplyLseek) {
        const DATA: i32 = 3;
        const HOLE: i32 = 4;
        let (Ok(at), DATA | HOLE) = (u64::try_from(offset), whence) else { return reply.error(Errno::EINVAL) };
        self.serve(move |vfs| match vfs.seek(ino.0, fh.0, at, whence == HOLE) {
            Ok(Some(found)) => reply.offset(found as i64),
            Ok(None) => reply.error(Errno::ENXIO),
            Err(e) => reply.error(told(&e, vfs, ino)),
        });
    }

    fn release(
        &self,
        _: &Request,
        _: INodeNo,
        fh: FileHandle,
        _: OpenFlags,
        _: Option<LockOwner>,
        _: bool,
        reply: ReplyEmpty,
    ) {
        self.serve(move |vfs| {
            vfs.release(fh.0);
            reply.ok();
        });
    }

    fn opendir(&self, _: &Request, ino: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        if self.no_opendir {
            return reply.error(Errno::ENOSYS);
        }
        let cached = self.cached(FopenFlags::FOPEN_KEEP_CACHE | FopenFlags::FOPEN_CACHE_DIR);
        match self.vfs.opendir(ino.0) {
            Ok(handle) => reply.opened(FileHandle(handle), cached),
            Err(e) => reply.error(told(&e, &self.vfs, ino)),
        }
    }

    fn readdir(&self, _: &Request, ino: INodeNo, fh: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        self.serve(move |vfs| {
            let listed = vfs.readdir(ino.0, fh.0, offset, &mut |e| {
                full(reply.add(INodeNo(e.ino), e.next, file_type(e.kind), OsStr::from_bytes(e.name)))
            });
            match listed {
                Ok(()) => reply.ok(),
                Err(e) => reply.error(told(&e, vfs, ino)),
            }
        });
    }

    fn readdirplus(&self, _: &Request, ino: INodeNo, fh: FileHandle, offset: u64, mut reply: ReplyDirectoryPlus) {
        let ttl = self.ttl(ino);
        self.serve(move |vfs| {
            let slow = vfs.is_slow(ino.0);
            let listed = vfs.readdir(ino.0, fh.0, offset, &mut |e| {
                let stat = if slow { None } else { vfs.getattr(e.ino).ok() };
                let attr = stat.map_or_else(|| unknown(e), |stat| attr(&stat));
                full(reply.add(attr.ino, e.next, OsStr::from_bytes(e.name), &ttl, &attr, Generation(0)))
            });
            match listed {
                Ok(()) => reply.ok(),
                Err(e) => reply.error(told(&e, vfs, ino)),
            }
        });
    }

    fn releasedir(&self, _: &Request, _: INodeNo, fh: FileHandle, _: OpenFlags, reply: ReplyEmpty) {
        self.vfs.release(fh.0);
        reply.ok();
    }

    fn statfs(&self, _: &Request, ino: INodeNo, reply: ReplyStatfs) {
        self.serve(move |vfs| match vfs.statfs() {
            Ok(s) => reply.statfs(s.blocks, s.free, s.free, s.nodes, s.free_nodes, BLOCK, s.name_max, BLOCK),
            Err(e) => reply.error(told(&e, vfs, ino)),
        });
    }

    fn listxattr(&self, _: &Request, ino: INodeNo, size: u32, reply: ReplyXattr) {
        self.serve(move |vfs| match vfs.listxattr(ino.0) {
            Ok(names) => reply_xattr(&names, size, reply),
            Err(e) => reply.error(told(&e, vfs, ino)),
        });
    }

    fn getxattr(&self, _: &Request, ino: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        let name = name.to_owned();
        self.serve(move |vfs| match vfs.getxattr(ino.0, name.as_bytes()) {
            Ok(Some(value)) => reply_xattr(&value, size, reply),
            Ok(None) => reply.error(Errno::NO_XATTR),
            Err(e) => reply.error(told(&e, vfs, ino)),
        });
    }

    fn access(&self, _: &Request, ino: INodeNo, mask: AccessFlags, reply: ReplyEmpty) {
        let writes = mask.contains(AccessFlags::W_OK);
        if writes && !self.vfs.takes_changes(ino.0) { reply.error(Errno::EROFS) } else { reply.ok() }
    }

    fn ioctl(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        _: IoctlFlags,
        cmd: u32,
        _: &[u8],
        out_size: u32,
        reply: ReplyIoctl,
    ) {
        if !GETFLAGS.contains(&cmd) || !self.vfs.ignores_case() {
            return reply.error(Errno::ENOTTY);
        }
        self.serve(move |vfs| match vfs.getattr(ino.0) {
            Ok(stat) => {
                let flags = if stat.attr.kind == Kind::Directory { CASEFOLD } else { 0 };
                reply.ioctl(0, &u64::from(flags).to_le_bytes()[..(out_size as usize).min(8)]);
            }
            Err(e) => reply.error(told(&e, vfs, ino)),
        });
    }

    fn fsync(&self, _: &Request, ino: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        self.serve(move |vfs| answer(vfs.sync(), vfs, ino, reply));
    }

    fn fsyncdir(&self, _: &Request, ino: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        self.serve(move |vfs| answer(vfs.sync(), vfs, ino, reply));
    }

    /// ENOSYS: the kernel never asks again.
    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.error(Errno::ENOSYS);
    }

    // Whatever changes something. Where nothing can be changed this is EROFS, not ENOSYS, which programs take for a
    // broken system.

    fn setattr(
        &self,
        _: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        atime: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        _: Option<SystemTime>,
        _: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<fuser::BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let set = SetAttr { mode, uid, gid, size, atime: atime.map(time), mtime: mtime.map(time) };
        let ttl = self.ttl;
        self.serve(move |vfs| match vfs.setattr(ino.0, &set) {
            Ok(stat) => reply.attr(&ttl, &attr(&stat)),
            Err(e) => reply.error(told(&e, vfs, ino)),
        });
    }

    fn mknod(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        rdev: u32,
        reply: ReplyEntry,
    ) {
        let (ttl, maker, name) = (self.ttl, maker(request, umask), name.to_owned());
        let Some(kind) = Kind::from_mode(mode) else { return reply.error(Errno::EINVAL) };
        let new = match kind {
            Kind::File => New::File,
            Kind::Directory | Kind::Symlink => return reply.error(Errno::EINVAL),
            kind => New::Special(kind, if kind.is_device() { own_device(rdev) } else { 0 }),
        };
        self.serve(move |vfs| made(vfs.make(parent.0, name.as_bytes(), mode, maker, &new), ttl, vfs, parent, reply));
    }

    fn mkdir(&self, request: &Request, parent: INodeNo, name: &OsStr, mode: u32, umask: u32, reply: ReplyEntry) {
        let (ttl, maker, name) = (self.ttl, maker(request, umask), name.to_owned());
        self.serve(move |vfs| {
            made(vfs.make(parent.0, name.as_bytes(), mode, maker, &New::Directory), ttl, vfs, parent, reply);
        });
    }

    fn symlink(&self, request: &Request, parent: INodeNo, name: &OsStr, target: &Path, reply: ReplyEntry) {
        let (ttl, maker) = (self.ttl, maker(request, 0));
        let (name, target) = (name.to_owned(), target.as_os_str().to_owned());
        self.serve(move |vfs| {
            let new = New::Symlink(target.as_bytes());
            made(vfs.make(parent.0, name.as_bytes(), 0o777, maker, &new), ttl, vfs, parent, reply);
        });
    }

    fn create(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        _: i32,
        reply: ReplyCreate,
    ) {
        let (ttl, maker, name) = (self.ttl, maker(request, umask), name.to_owned());
        self.serve(move |vfs| {
            let made = vfs.make(parent.0, name.as_bytes(), mode, maker, &New::File);
            match made.and_then(|stat| Ok((vfs.open(stat.ino)?, stat))) {
                Ok((handle, stat)) => {
                    let flags = FopenFlags::FOPEN_KEEP_CACHE;
                    reply.created(&ttl, &attr(&stat), Generation(0), FileHandle(handle), flags);
                }
                Err(e) => reply.error(told(&e, vfs, parent)),
            }
        });
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let name = name.to_owned();
        self.serve(move |vfs| answer(vfs.unlink(parent.0, name.as_bytes()), vfs, parent, reply));
    }

    fn rmdir(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let name = name.to_owned();
        self.serve(move |vfs| answer(vfs.rmdir(parent.0, name.as_bytes()), vfs, parent, reply));
    }

    fn link(&self, _: &Request, ino: INodeNo, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let (ttl, name) = (self.ttl, name.to_owned());
        self.serve(move |vfs| made(vfs.link(ino.0, parent.0, name.as_bytes()), ttl, vfs, ino, reply));
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        new_parent: INodeNo,
        new_name: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let (name, new_name) = (name.to_owned(), new_name.to_owned());
        let how = match flags.bits() {
            0 => Rename::Replace,
            1 => Rename::NoReplace,
            2 => Rename::Exchange,
            _ => return reply.error(Errno::EINVAL),
        };
        self.serve(move |vfs| {
            let done = vfs.rename(parent.0, name.as_bytes(), new_parent.0, new_name.as_bytes(), how);
            answer(done, vfs, parent, reply);
        });
    }

    fn write(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let bytes = data.to_vec();
        let len = data.len() as u32;
        self.serve(move |vfs| match vfs.write(ino.0, offset, bytes) {
            Ok(()) => reply.written(len),
            Err(e) => reply.error(told(&e, vfs, ino)),
        });
    }

    fn fallocate(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        const KEEP_SIZE: i32 = 1;
        const PUNCH_HOLE: i32 = 2;
        const ZERO_RANGE: i32 = 0x10;
        const PUNCH: i32 = PUNCH_HOLE | KEEP_SIZE;
        const ZERO_KEEPING: i32 = ZERO_RANGE | KEEP_SIZE;
        let how = match mode {
            0 => Allocate::Extend,
            KEEP_SIZE => Allocate::KeepSize,
            PUNCH => Allocate::Punch,
            ZERO_RANGE => Allocate::Zero { keep_size: false },
            ZERO_KEEPING => Allocate::Zero { keep_size: true },
            _ => return reply.error(Errno::EOPNOTSUPP),
        };
        let Some(end) = offset.checked_add(length) else { return reply.error(Errno::EFBIG) };
        self.serve(move |vfs| answer(vfs.allocate(ino.0, offset..end, how), vfs, ino, reply));
    }

    fn setxattr(&self, _: &Request, ino: INodeNo, name: &OsStr, value: &[u8], flags: i32, _: u32, reply: ReplyEmpty) {
        let (name, value) = (name.to_owned(), value.to_owned());
        let how = match flags {
            1 => SetXattr::Create,
            2 => SetXattr::Replace,
            _ => SetXattr::Any,
        };
        self.serve(move |vfs| answer(vfs.setxattr(ino.0, name.as_bytes(), &value, how), vfs, ino, reply));
    }

    fn removexattr(&self, _: &Request, ino: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let name = name.to_owned();
        self.serve(move |vfs| answer(vfs.removexattr(ino.0, name.as_bytes()), vfs, ino, reply));
    }

    fn copy_file_range(
        &self,
        _: &Request,
        from: INodeNo,
        _: FileHandle,
        from_at: u64,
        to: INodeNo,
        _: FileHandle,
        to_at: u64,
        len: u64,
        _: fuser::CopyFileRangeFlags,
        reply: ReplyWrite,
    ) {
        // What was copied is answered in 32 bits.
        let len = len.min(1 << 30);
        self.serve(move |vfs| match vfs.copy(from.0, from_at, to.0, to_at, len) {
            Ok(copied) => reply.written(copied as u32),
            Err(e) => reply.error(told(&e, vfs, to)),
        });
    }
}

fn answer(done: crate::error::Result<()>, vfs: &Vfs, ino: INodeNo, reply: ReplyEmpty) {
    match done {
        Ok(()) => reply.ok(),
        Err(e) => reply.error(told(&e, vfs, ino)),
    }
}

fn made(done: crate::error::Result<Stat>, ttl: Duration, vfs: &Vfs, ino: INodeNo, reply: ReplyEntry) {
    match done {
        Ok(stat) => reply.entry(&ttl, &attr(&stat), Generation(0)),
        Err(e) => reply.error(told(&e, vfs, ino)),
    }
}

fn maker(request: &Request, umask: u32) -> Maker {
    Maker { uid: request.uid(), gid: request.gid(), umask }
}

fn time(time: TimeOrNow) -> Time {
    match time {
        TimeOrNow::SpecificTime(time) => sent(time),
        TimeOrNow::Now => Time::now(),
    }
}

/// A time as the kernel sent it. Of a time before 1970, `fuser` takes the nanoseconds away and does not add them.
fn sent(time: SystemTime) -> Time {
    match UNIX_EPOCH.duration_since(time) {
        Ok(before) if !before.is_zero() => Time { secs: -(before.as_secs() as i64), nanos: before.subsec_nanos() },
        _ => time.into(),
    }
}

fn full(full: bool) -> ControlFlow<()> {
    if full { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
}

fn reply_xattr(value: &[u8], size: u32, reply: ReplyXattr) {
    match size as usize {
        0 => reply.size(value.len() as u32),
        room if room < value.len() => reply.error(Errno::ERANGE),
        _ => reply.data(value),
    }
}

/// Lends a buffer of this thread: a megabyte that is cleared once and not at each read.
fn with_buffer(size: u32, work: impl FnOnce(&mut [u8])) {
    thread_local!(static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) });
    BUFFER.with_borrow_mut(|buffer| {
        let size = size as usize;
        if buffer.len() < size {
            buffer.resize(size, 0);
        }
        work(&mut buffer[..size]);
    });
}

fn attr(stat: &Stat) -> FileAttr {
    let Attr { kind, mode, uid, gid, size, nlink, rdev, mtime, atime, ctime, allocated } = stat.attr;
    let mtime = system_time(mtime);
    FileAttr {
        ino: INodeNo(stat.ino),
        size,
        blocks: allocated.div_ceil(SECTOR),
        atime: system_time(atime),
        mtime,
        ctime: system_time(ctime),
        crtime: mtime,
        kind: file_type(kind),
        perm: mode as u16 & 0o7777,
        nlink,
        uid,
        gid,
        rdev: kernel_device(rdev),
        blksize: BLOCK,
        flags: 0,
    }
}

/// The entry of a name that is not there.
fn nothing() -> FileAttr {
    let attr = Attr { nlink: 0, ..Attr::new(Kind::File, 0, Time::default()) };
    FileAttr { ino: INodeNo(0), ..self::attr(&Stat { ino: ROOT, attr }) }
}

/// An entry whose attributes cannot be read. The kernel shows the name and refuses a size over `i64::MAX`, so that it
/// takes none of this for true and asks again when somebody wants to know.
fn unknown(entry: DirEntry<'_>) -> FileAttr {
    FileAttr { ino: INodeNo(entry.ino), size: u64::MAX, kind: file_type(entry.kind), ..nothing() }
}

fn file_type(kind: Kind) -> FileType {
    match kind {
        Kind::Fifo => FileType::NamedPipe,
        Kind::CharDevice => FileType::CharDevice,
        Kind::Directory => FileType::Directory,
        Kind::BlockDevice => FileType::BlockDevice,
        Kind::File => FileType::RegularFile,
        Kind::Symlink => FileType::Symlink,
        Kind::Socket => FileType::Socket,
    }
}

/// As Linux packs it into 32 bits: 12 bits of major, 20 of minor, whose upper part stands above the major.
fn kernel_device(rdev: u64) -> u32 {
    let (major, minor) = (device::major(rdev), device::minor(rdev));
    (minor & 0xff) | ((major & 0xfff) << 8) | ((minor & 0xfff00) << 12)
}

/// The other way round.
fn own_device(rdev: u32) -> u64 {
    device::join((rdev >> 8) & 0xfff, (rdev & 0xff) | ((rdev >> 12) & 0xfff00))
}

/// A time outside of what the system can express is shown as 1970.
fn system_time(time: Time) -> SystemTime {
    let whole = Duration::from_secs(time.secs.unsigned_abs());
    let whole = if time.secs < 0 { UNIX_EPOCH.checked_sub(whole) } else { UNIX_EPOCH.checked_add(whole) };
    whole.and_then(|t| t.checked_add(Duration::from_nanos(time.nanos.into()))).unwrap_or(UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_before_1970_and_absurd_ones_survive() {
        let time = system_time(Time { secs: -2, nanos: 999_999_750 });
        assert_eq!(time, UNIX_EPOCH - Duration::new(1, 250));
        system_time(Time { secs: i64::MIN, nanos: u32::MAX });
        system_time(Time { secs: i64::MAX, nanos: u32::MAX });
    }

    #[test]
    fn device_numbers_are_packed_as_linux_does() {
        assert_eq!(kernel_device(device::join(1, 3)), 0x103);
        assert_eq!(kernel_device(device::join(259, 0x12345)), 0x1231_0345);
    }
}
