//! Everything about an entry but its name and its contents.
//!
//! The order matters: attributes need a file that may be written, a change of owner takes setuid bits and capabilities
//! away, a mode reshapes the ACL, and the times come last.
//!
//! ```text
//!   user.*, trusted.*, security.*  ->  owner  ->  mode  ->  ACLs, capabilities  ->  times
//! ```

use super::Work;
use crate::error::{Error, Kind as ErrorKind};
use crate::formats::folder::{beneath, path_of};
use crate::pool::lock;
use crate::tree::{Attr, Kind, Name, Node, Owner, PATH_ATTRIBUTE, Time, Xattr};
use nix::unistd::{Group, User};
use rustix::fd::{AsRawFd, OwnedFd};
use rustix::fs::{
    AtFlags, CWD, Gid, Mode, OFlags, Timespec, Timestamps, UTIME_OMIT, Uid, XattrFlags, chmodat, chownat, fchmod,
    fchown, fremovexattr, fsetxattr, futimens, lremovexattr, lsetxattr, utimensat,
};
use rustix::io::{Errno, Result};
use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::Ordering;

const ACLS: [&str; 2] = ["system.posix_acl_access", "system.posix_acl_default"];

/// An entry that was just made. What must not be opened is known by its name, which is never followed.
enum Made<'a> {
    Open(&'a OwnedFd),
    Named(&'a OwnedFd, Name<'a>),
}

impl Made<'_> {
    fn set_xattr(&self, (name, value): &Xattr) -> Result<()> {
        match self {
            Self::Open(fd) => fsetxattr(fd, &name[..], value, XattrFlags::empty()),
            Self::Named(dir, at) => lsetxattr(path_of(dir, at.bytes()), &name[..], value, XattrFlags::empty()),
        }
    }

    fn set_owner(&self, user: Uid, group: Gid) -> Result<()> {
        match self {
            Self::Open(fd) => fchown(fd, Some(user), Some(group)),
            Self::Named(dir, at) => chownat(dir, at.bytes(), Some(user), Some(group), AtFlags::SYMLINK_NOFOLLOW),
        }
    }

    fn set_mode(&self, mode: Mode) -> Result<()> {
        match self {
            Self::Open(fd) => fchmod(fd, mode),
            Self::Named(dir, at) => {
                // chmod by name would follow a link that somebody puts there meanwhile.
                let fd = beneath::open(dir, *at, OFlags::PATH, Mode::empty())?;
                chmodat(CWD, format!("/proc/self/fd/{}", fd.as_raw_fd()), mode, AtFlags::empty())
            }
        }
    }

    fn set_times(&self, mtime: Time) -> Result<()> {
        // Nanoseconds out of range would mean "now" or "leave it" to the kernel.
        let last_modification = Timespec { tv_sec: mtime.secs, tv_nsec: i64::from(mtime.nanos.min(999_999_999)) as _ };
        let times = Timestamps { last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT }, last_modification };
        match self {
            Self::Open(fd) => futimens(fd, &times),
            Self::Named(dir, at) => utimensat(dir, at.bytes(), &times, AtFlags::SYMLINK_NOFOLLOW),
        }
    }
}

/// Gives an open file or directory all it should have; returns what could not be given.
pub fn dress_fd(work: &Work<'_>, fd: &OwnedFd, node: Node, attr: &Attr) -> Vec<String> {
    dress(work, &Made::Open(fd), node, attr)
}

/// The same for a link or a special file, which is not opened.
pub fn dress_name(work: &Work<'_>, dir: &OwnedFd, name: Name<'_>, node: Node, attr: &Attr) -> Vec<String> {
    dress(work, &Made::Named(dir, name), node, attr)
}

fn dress(work: &Work<'_>, made: &Made<'_>, node: Node, attr: &Attr) -> Vec<String> {
    let mut lacks = Vec::new();
    let (late, early) = work.xattrs(node, &mut lacks).into_iter().partition::<Vec<_>, _>(|(name, _)| is_late(name));
    work.set_xattrs(made, early, &mut lacks);
    let owned = !work.same_owner() || work.set_owner(made, node, attr, &mut lacks);
    if attr.kind != Kind::Symlink {
        let mode = Mode::from_raw_mode(work.mode(attr, owned));
        note(&mut lacks, "the mode", made.set_mode(mode));
    }
    work.set_xattrs(made, late, &mut lacks);
    note(&mut lacks, "the time", made.set_times(attr.mtime));
    lacks
}

/// Removes what a new entry inherited from a default ACL of its directory.
pub fn disinherit(fd: &OwnedFd) {
    for acl in ACLS {
        // Most often there is none.
        let _ = fremovexattr(fd, acl);
    }
}

/// The same for a special file.
pub fn disinherit_name(dir: &OwnedFd, name: Name<'_>) {
    let _ = lremovexattr(path_of(dir, name.bytes()), ACLS[0]);
}

/// What a change of owner or mode would undo.
fn is_late(name: &[u8]) -> bool {
    name == b"security.capability" || is_acl(name)
}

fn is_acl(name: &[u8]) -> bool {
    ACLS.iter().any(|acl| acl.as_bytes() == name)
}

/// Whether Linux has a place for an attribute of this name at all.
fn is_of_linux(name: &[u8]) -> bool {
    let spaces: [&[u8]; 4] = [b"user.", b"security.", b"trusted.", b"system."];
    spaces.iter().any(|space| name.starts_with(space))
}

fn note(lacks: &mut Vec<String>, what: &str, done: Result<()>) -> bool {
    if let Err(e) = done {
        lacks.push(format!("{what} ({})", std::io::Error::from(e)));
    }
    done.is_ok()
}

impl Work<'_> {
    fn xattrs(&self, node: Node, lacks: &mut Vec<String>) -> Vec<Xattr> {
        if !self.options.xattrs {
            return Vec::new();
        }
        let mut xattrs = self.tree.xattrs(node).unwrap_or_else(|e| {
            lacks.push(format!("its extended attributes ({e})"));
            Vec::new()
        });
        // An ACL would give back what the umask takes; of `system.` nothing but ACLs is anybody's to restore.
        let acls = self.options.same_permissions;
        xattrs.retain(|(name, _)| if is_acl(name) { acls } else { !name.starts_with(b"system.") });
        xattrs
    }

    fn set_xattrs(&self, made: &Made<'_>, xattrs: Vec<Xattr>, lacks: &mut Vec<String>) {
        for xattr in xattrs {
            let Err(e) = made.set_xattr(&xattr) else { continue };
            let shown = String::from_utf8_lossy(&xattr.0).into_owned();
            let reserved = xattr.0.starts_with(b"security.") || xattr.0.starts_with(b"trusted.");
            match e {
                // Only root can set these, and whoever is not root expects no more than with owners.
                Errno::PERM | Errno::ACCESS if reserved && !self.is_root => log::debug!("{shown} needs root"),
                // It tells of a name that was changed, and is no part of the file.
                _ if xattr.0 == PATH_ATTRIBUTE => log::debug!("no {shown}"),
                Errno::OPNOTSUPP if !is_of_linux(&xattr.0) => log::info!("{shown} is of another system"),
                Errno::OPNOTSUPP if self.no_xattrs_told.swap(true, Ordering::Relaxed) => log::debug!("no {shown}"),
                Errno::OPNOTSUPP => {
                    lacks.push(format!("{shown}, and so with all further entries: the target cannot store it"));
                }
                e => _ = note(lacks, &shown, Err(e)),
            }
        }
    }

    fn set_owner(&self, made: &Made<'_>, node: Node, attr: &Attr, lacks: &mut Vec<String>) -> bool {
        let names =
            if self.options.numeric_owner { Owner::default() } else { self.tree.owner(node).unwrap_or_default() };
        let user = names.user.and_then(|name| self.ids.user(name)).unwrap_or(attr.uid);
        let group = names.group.and_then(|name| self.ids.group(name)).unwrap_or(attr.gid);
        // To the kernel this number means "leave it as it is".
        if user == u32::MAX || group == u32::MAX {
            return note(lacks, "the owner", Err(Errno::INVAL));
        }
        note(lacks, "the owner", made.set_owner(Uid::from_raw(user), Gid::from_raw(group)))
    }

    /// The mode to set. A setuid bit is good only together with the owner it was given by.
    fn mode(&self, attr: &Attr, owned: bool) -> u32 {
        let trusted = attr.kind == Kind::Directory || (self.is_root && self.same_owner() && owned);
        let mode = attr.mode & if trusted { 0o7777 } else { 0o1777 };
        if self.options.same_permissions { mode } else { mode & 0o777 & !self.umask }
    }

    /// Tells what an entry that was made lacks.
    pub fn lacks(&self, path: &[u8], lacks: &[String]) {
        if lacks.is_empty() {
            return;
        }
        super::one_more(&self.tally.incomplete);
        let e = Error::new(ErrorKind::Warnings, format!("unpacked without {}", lacks.join(", ")));
        self.watch.skipped(path, &e);
    }
}

/// The numbers of users and groups by name, asked once each.
#[derive(Default)]
pub struct Ids {
    users: Mutex<HashMap<String, Option<u32>>>,
    groups: Mutex<HashMap<String, Option<u32>>>,
}

impl Ids {
    fn user(&self, name: String) -> Option<u32> {
        once(&self.users, name, |name| Some(User::from_name(name).ok()??.uid.as_raw()))
    }

    fn group(&self, name: String) -> Option<u32> {
        once(&self.groups, name, |name| Some(Group::from_name(name).ok()??.gid.as_raw()))
    }
}

fn once(
    known: &Mutex<HashMap<String, Option<u32>>>,
    name: String,
    ask: impl FnOnce(&str) -> Option<u32>,
) -> Option<u32> {
    let mut known = lock(known);
    if let Some(id) = known.get(&name) {
        return *id;
    }
    let id = ask(&name);
    known.insert(name, id);
    id
}
