//! Floor 4: a tree under a kernel, by FUSE.
//!
//! ```text
//!   options   -o strings -> Options                  errno   Kind -> errno
//!   place     mount points: check, clear, unmount    crew    which thread does a request
//!   fuse      the requests: decode, call, reply      mod     mount, wait, unmount
//!   session   the register of live mounts            busy    who keeps a mount busy
//! ```
//!
//! On Linux a privileged process mounts by itself, so that the mount has its own type, `fuse.stmount`, and the source
//! shows any path as it is; everybody else goes by way of `fusermount3`. Only this module knows `fuser`.

pub mod busy;
mod crew;
mod errno;
mod fuse;
mod options;
pub mod place;
mod scrub;
pub mod session;

pub use options::{Case, Options, size};
pub use place::FS_TYPE;

use crate::error::{Error, Kind, Result};
use crate::formats::Volume;
use crate::pool::lock;
use crate::tree::Kind as NodeKind;
use crate::vfs::{ROOT, Vfs};
use fuse::Frontend;
use fuser::{Config, MountOption, Session, SessionACL};
use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

/// What a kernel reads ahead of a sequential reader, unless told otherwise: the largest request it sends.
const READ_AHEAD: u64 = 1 << 20;

/// Mounts a volume: read-only when it has no writer, or when that is asked for. When this returns, the mount exists and can be read. Threads of this process serve it, so a
/// process that wants to go to the background does that first.
///
/// # Errors
/// `BadMountPoint` when there is no directory to mount on or one of ours is mounted there; `MountFailed` when the kernel
/// or fusermount3 refuses; `NotADirectory` when the root of the tree is none. Each with a hint where there is a remedy.
pub fn mount(volume: Volume, mountpoint: &Path, options: &Options) -> Result<Mounted> {
    let point = place::prepare(mountpoint)?;
    let vfs = match volume.writer.filter(|_| !options.read_only) {
        Some(writer) => Vfs::writable(volume.tree, writer, options.policy(), options.when_to_commit()).with_forgets(),
        None => Vfs::new(volume.tree, options.policy()),
    };
    let vfs = match volume.states {
        Some(states) => vfs.with_states(states),
        None => vfs,
    };
    let vfs = match volume.heals {
        Some(heals) => {
            let schedule = options.scrub.map(|every| scrub::schedule(&*heals, every, options.scrub_rate));
            vfs.with_heals(heals, schedule)
        }
        None => vfs,
    };
    let vfs = match volume.meter {
        Some(meter) => vfs.with_meter(meter),
        None => vfs,
    };
    let vfs = Arc::new(match volume.cache {
        Some(cache) => vfs.with_cache(cache),
        None => vfs,
    });
    let writable = vfs.is_writable();
    if vfs.getattr(ROOT)?.attr.kind != NodeKind::Directory {
        return Err(Error::new(Kind::NotADirectory, "what is to be mounted is not a directory"));
    }
    let takers = takers(options);
    let session = attach(Frontend::new(vfs.clone(), takers, options.follow), &point, options, writable, takers)?;
    let device = place::mount_at(&point).map(|m| m.device).unwrap_or_default();
    set_read_ahead(&device, options.readahead.unwrap_or(READ_AHEAD));
    let point =
        Unmounter { point: Arc::new(Point { path: point, device, ended: Mutex::new(None), end: Condvar::new() }) };
    point.spawn(session, vfs)
}

/// At least two threads, so that one is always free to take a request; see [`crew`]. More than four were no faster, and
/// fewer make work for the crew on a machine with few cores, where a taker may well wait for a disk.
fn takers(options: &Options) -> usize {
    if cfg!(target_os = "linux") { options.threads.unwrap_or(4).clamp(2, 4) } else { 1 }
}

/// A mounted tree. Unmounts when dropped.
pub struct Mounted {
    vfs: Arc<Vfs>,
    unmounter: Unmounter,
    thread: Option<JoinHandle<()>>,
}

impl Mounted {
    /// Where it is mounted: an absolute path without links.
    pub fn mountpoint(&self) -> &Path {
        &self.unmounter.point.path
    }

    /// Whether programs can change what is mounted.
    pub fn is_writable(&self) -> bool {
        self.vfs.is_writable()
    }

    /// Makes everything durable that was done before.
    pub fn sync(&self) -> Result<()> {
        self.vfs.sync()
    }

    /// Brings into the archive what is in its journal.
    pub fn settle(&self) -> Result<()> {
        self.vfs.settle()
    }

    /// Waits until the mount is gone, whoever unmounted it.
    ///
    /// # Errors
    /// `System` when the connection to the kernel failed.
    pub fn wait(&self) -> Result<()> {
        let point = &self.unmounter.point;
        let mut ended = lock(&point.ended);
        loop {
            match &*ended {
                Some(None) => return Ok(()),
                Some(Some(failure)) => return Err(Error::new(Kind::System, failure.clone())),
                None => ended = point.end.wait(ended).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }

    /// Unmounts, and returns when that is done. After an error it is still mounted.
    ///
    /// # Errors
    /// `Busy` while a program uses it.
    pub fn unmount(&self) -> Result<()> {
        self.unmounter.unmount()?;
        self.wait()
    }

    /// A way to unmount for another thread, such as one that waits for signals.
    pub fn unmounter(&self) -> Unmounter {
        self.unmounter.clone()
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let gone = self.unmounter.unmount();
        if gone.is_err() {
            self.unmounter.detach();
        }
        // After a detach the thread serves whoever still has files open, and ends with the last one.
        if let (Ok(()), Some(thread)) = (gone, self.thread.take()) {
            let _ = thread.join();
        }
    }
}

/// Unmounts a [`Mounted`] from anywhere.
#[derive(Clone)]
pub struct Unmounter {
    point: Arc<Point>,
}

struct Point {
    path: PathBuf,
    device: String,
    /// Set when the connection ended; with a text when it failed.
    ended: Mutex<Option<Option<String>>>,
    end: Condvar,
}

impl Unmounter {
    /// Unmounts, if it is still mounted; does not wait for [`Mounted::wait`] to return.
    ///
    /// # Errors
    /// `Busy` while a program uses it.
    pub fn unmount(&self) -> Result<()> {
        if self.is_mounted() { place::unmount(&self.point.path, false) } else { Ok(()) }
    }

    /// Takes the mount away from its place at once. Who has a file open may read it to the end.
    pub fn detach(&self) {
        if !self.is_mounted() {
            return;
        }
        if let Err(e) = place::unmount(&self.point.path, true) {
            log::warn!("{e}");
        }
    }

    /// Whether what is mounted there is still this one, and not the next.
    fn is_mounted(&self) -> bool {
        if self.point.device.is_empty() {
            return lock(&self.point.ended).is_none();
        }
        place::mount_at(&self.point.path).is_some_and(|m| m.device == self.point.device)
    }

    fn spawn(self, session: Session<Frontend>, vfs: Arc<Vfs>) -> Result<Mounted> {
        let (own, served) = (self.clone(), vfs.clone());
        let run = move || {
            let failure = session.run().err().map(|e| format!("the connection to the kernel failed: {e}"));
            // A kernel that unmounts does not tell what it forgets.
            served.forget_all();
            // After a failure the mount would stay behind, dead.
            own.detach();
            *lock(&own.point.ended) = Some(failure);
            own.point.end.notify_all();
        };
        match thread::Builder::new().name("stmount-mount".into()).spawn(run) {
            Ok(thread) => Ok(Mounted { vfs, unmounter: self, thread: Some(thread) }),
            Err(e) => {
                self.detach();
                Err(Error::new(Kind::System, "cannot start a thread").caused_by(e))
            }
        }
    }
}

/// Makes the mount and shakes hands with the kernel.
fn attach(
    front: Frontend,
    point: &Path,
    options: &Options,
    writable: bool,
    takers: usize,
) -> Result<Session<Frontend>> {
    let (acl, config) = config(options, writable, takers);
    #[cfg(target_os = "linux")]
    if let Some(device) = mount_by_ourselves(point, options, writable)? {
        return Session::from_fd(front, device, acl, config).map_err(|e| {
            let _ = place::unmount(point, true);
            refused(point, &e)
        });
    }
    let _ = acl;
    Session::new(front, point, &config).map_err(|e| refused(point, &e))
}

fn config(options: &Options, writable: bool, takers: usize) -> (SessionACL, Config) {
    let acl = match (options.allow_other, options.allow_root) {
        (true, _) => SessionACL::All,
        (_, true) => SessionACL::RootAndOwner,
        _ => SessionACL::Owner,
    };
    let mut config = Config::default();
    config.acl = acl;
    config.n_threads = Some(takers);
    config.clone_fd = cfg!(target_os = "linux");
    config.mount_options = helper_options(options, writable);
    (acl, config)
}

/// The options for fusermount3 (and for macOS).
fn helper_options(options: &Options, writable: bool) -> Vec<MountOption> {
    let pick = |on, yes, no| if on { yes } else { no };
    let mut list = vec![
        pick(writable, MountOption::RW, MountOption::RO),
        MountOption::FSName(escaped(&source(options).to_string_lossy())),
        MountOption::Subtype("stmount".into()),
        pick(options.suid, MountOption::Suid, MountOption::NoSuid),
        pick(options.dev, MountOption::Dev, MountOption::NoDev),
        pick(options.exec, MountOption::Exec, MountOption::NoExec),
    ];
    list.extend(options.default_permissions.then_some(MountOption::DefaultPermissions));
    list.extend((!options.atime).then_some(MountOption::NoAtime));
    list.extend(options.sync.then_some(MountOption::Sync));
    list.extend(options.dirsync.then_some(MountOption::DirSync));
    if let (true, Some(name)) = (cfg!(target_os = "macos"), &options.volname) {
        list.push(MountOption::CUSTOM(format!("volname={}", escaped(name))));
    }
    list
}

/// A value among options, which are parted at commas, except behind a backslash: by fusermount3, and in `-o`.
pub fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace(',', "\\,")
}

fn source(options: &Options) -> OsString {
    options.fsname.clone().filter(|s| !s.as_bytes().contains(&0)).unwrap_or_else(|| "stmount".into())
}

/// Mounts with mount(2). `None` when this process may not, and must ask fusermount3.
#[cfg(target_os = "linux")]
fn mount_by_ourselves(point: &Path, options: &Options, writable: bool) -> Result<Option<std::os::fd::OwnedFd>> {
    use rustix::mount::MountFlags as F;
    use std::os::fd::AsRawFd;
    let device = match std::fs::File::options().read(true).write(true).open("/dev/fuse") {
        Ok(device) => device,
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => return Ok(None),
        Err(e) => return Err(refused(point, &e)),
    };
    let (uid, gid) = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
    let mut data = format!("fd={},rootmode=40000,user_id={uid},group_id={gid}", device.as_raw_fd());
    for (on, word) in [
        (options.default_permissions, ",default_permissions"),
        (options.allow_other || options.allow_root, ",allow_other"),
    ] {
        data.push_str(if on { word } else { "" });
    }
    let mut flags = F::empty();
    flags.set(F::RDONLY, !writable);
    flags.set(F::NOSUID, !options.suid);
    flags.set(F::NODEV, !options.dev);
    flags.set(F::NOEXEC, !options.exec);
    flags.set(F::NOATIME, !options.atime);
    flags.set(F::SYNCHRONOUS, options.sync);
    flags.set(F::DIRSYNC, options.dirsync);
    let data = std::ffi::CString::new(data).expect("numbers and words hold no NUL");
    match rustix::mount::mount(source(options), point, FS_TYPE, flags, data.as_c_str()) {
        Ok(()) => Ok(Some(device.into())),
        Err(rustix::io::Errno::PERM) => Ok(None),
        Err(e) => Err(refused(point, &e.into())),
    }
}

/// The error of a mount that did not come about, with what can be done about it.
fn refused(point: &Path, cause: &io::Error) -> Error {
    let text = cause.to_string();
    let hint = if !Path::new("/dev/fuse").exists() {
        "there is no /dev/fuse: load the module with `modprobe fuse`, or start the container with --device /dev/fuse"
    } else if cause.kind() == io::ErrorKind::NotFound {
        "fusermount3 is missing: install the package fuse3"
    } else if text.contains("user_allow_other") {
        "add the line user_allow_other to /etc/fuse.conf, or leave allow_other and allow_root away"
    } else if cause.kind() == io::ErrorKind::PermissionDenied {
        "/dev/fuse may not be opened by this user: install the package fuse3, or ask for access to /dev/fuse"
    } else {
        "see the last lines of dmesg; `stmount unpack` works without a mount"
    };
    Error::new(Kind::MountFailed, format!("{}: cannot mount: {}", point.display(), text.trim())).hint(hint)
}

/// Lets the kernel read ahead as much as one request can carry. Only root may, and it works without.
fn set_read_ahead(device: &str, bytes: u64) {
    if device.is_empty() {
        return;
    }
    let file = format!("/sys/class/bdi/{device}/read_ahead_kb");
    if let Err(e) = std::fs::write(&file, (bytes >> 10).to_string()) {
        log::debug!("{file}: {e}");
    }
}
