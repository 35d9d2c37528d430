//! Opening things below a directory, with no way out of it.
//!
//! ```text
//!   dir ── a ── b ── c        each component is a name, never `..`; none may be a symbolic link
//!    └── openat2(dir, "a/b/c", RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS)
//!        without openat2: openat(dir, "a"), openat(a, "b"), .. each with O_NOFOLLOW
//! ```
//!
//! The kernel refuses a path of 4096 bytes, so longer ones are opened in pieces.

use crate::tree::Name;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat, openat2};
use rustix::io::{Errno, Result};
use std::sync::OnceLock;

/// Longest piece of a path handed to the kernel at once: PATH_MAX with room for the NUL.
const PIECE: usize = 4000;

/// Flags of a directory that is only a place to start from: needs no permission to read it.
pub const PLACE: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// Opens `name` in `dir`. A symbolic link gives `ELOOP` or, where a directory was asked for, `ENOTDIR`.
pub fn open(dir: impl AsFd, name: Name<'_>, flags: OFlags, mode: Mode) -> Result<OwnedFd> {
    open_piece(dir.as_fd(), name.bytes(), flags, mode)
}

/// Opens the directory that is reached from `dir` by these names, of which there is at least one.
pub fn open_path<'a>(dir: impl AsFd, names: impl Iterator<Item = Name<'a>>, flags: OFlags) -> Result<OwnedFd> {
    let mut piece = Vec::new();
    let mut at: Option<OwnedFd> = None;
    for name in names {
        if !piece.is_empty() && piece.len() + name.bytes().len() >= PIECE {
            let from = at.as_ref().map_or(dir.as_fd(), |fd| fd.as_fd());
            at = Some(open_piece(from, &piece, PLACE, Mode::empty())?);
            piece.clear();
        }
        if !piece.is_empty() {
            piece.push(b'/');
        }
        piece.extend_from_slice(name.bytes());
    }
    open_piece(at.as_ref().map_or(dir.as_fd(), |fd| fd.as_fd()), &piece, flags, Mode::empty())
}

fn open_piece(dir: BorrowedFd<'_>, path: &[u8], flags: OFlags, mode: Mode) -> Result<OwnedFd> {
    let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    if has_openat2() {
        return openat2(dir, path, flags, mode, resolve());
    }
    stepwise(dir, path, flags, mode)
}

/// What `openat2` promises, for kernels before 5.6 and for sandboxes that forbid it.
fn stepwise(dir: BorrowedFd<'_>, path: &[u8], flags: OFlags, mode: Mode) -> Result<OwnedFd> {
    let mut at: Option<OwnedFd> = None;
    let mut parts = path.split(|b| *b == b'/').peekable();
    while let Some(part) = parts.next() {
        if part.is_empty() || part == b".." {
            return Err(Errno::XDEV);
        }
        let from = at.as_ref().map_or(dir, |fd| fd.as_fd());
        let next = match parts.peek() {
            Some(_) => openat(from, part, PLACE | OFlags::NOFOLLOW, Mode::empty())?,
            None => return openat(from, part, flags, mode),
        };
        at = Some(next);
    }
    Err(Errno::NOENT)
}

fn resolve() -> ResolveFlags {
    ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS
}

/// Asked once: some sandboxes answer EPERM instead of ENOSYS, which on a real file would mean something else.
fn has_openat2() -> bool {
    static KNOWN: OnceLock<bool> = OnceLock::new();
    *KNOWN.get_or_init(|| match openat2(CWD, ".", PLACE, Mode::empty(), resolve()) {
        Err(Errno::NOSYS | Errno::PERM | Errno::INVAL) => {
            log::debug!("no openat2 here: paths are opened component by component");
            false
        }
        _ => true,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    fn both(dir: &OwnedFd, path: &str) -> [Result<OwnedFd>; 2] {
        let flags = PLACE | OFlags::NOFOLLOW;
        [
            open_piece(dir.as_fd(), path.as_bytes(), flags, Mode::empty()),
            stepwise(dir.as_fd(), path.as_bytes(), flags, Mode::empty()),
        ]
    }

    #[test]
    fn with_and_without_openat2_no_link_is_followed_and_nothing_left() {
        let tmp = tempfile::tempdir().unwrap();
        fs::create_dir_all(tmp.path().join("in/side")).unwrap();
        symlink("/etc", tmp.path().join("in/abs")).unwrap();
        symlink("side", tmp.path().join("in/rel")).unwrap();
        let dir = openat(CWD, tmp.path().join("in"), PLACE, Mode::empty()).unwrap();
        for path in ["abs", "rel", "rel/x", "abs/ssl", "..", "side/../..", "/etc"] {
            for opened in both(&dir, path) {
                assert!(opened.is_err(), "{path}");
            }
        }
        for opened in both(&dir, "side") {
            opened.unwrap();
        }
    }

    #[test]
    fn a_path_longer_than_the_kernel_takes_at_once_is_opened() {
        let tmp = tempfile::tempdir().unwrap();
        let long = [b'd'; 200];
        let name = Name::new(&long).unwrap();
        let root = openat(CWD, tmp.path(), PLACE, Mode::empty()).unwrap();
        let mut at = root.try_clone().unwrap();
        for _ in 0..60 {
            rustix::fs::mkdirat(&at, &long[..], Mode::RWXU).unwrap();
            at = open(&at, name, PLACE, Mode::empty()).unwrap();
        }
        let again = open_path(&root, std::iter::repeat_n(name, 60), PLACE).unwrap();
        let ino = |fd: &OwnedFd| rustix::fs::fstat(fd).unwrap().st_ino;
        assert_eq!(ino(&again), ino(&at));
    }
}
