//! Reading extended attributes, of files that must not be opened as well.
//!
//! The kernel takes a path for a symbolic link or a fifo, and a path can be too long or lead elsewhere meanwhile. So the
//! path goes through the open directory: `/proc/self/fd/<directory>/<name>` is resolved from that directory whatever it
//! is called now, and the last component is not followed.

use crate::tree::Xattr;
use rustix::buffer::spare_capacity;
use rustix::fd::{AsFd, AsRawFd};
use rustix::fs::{lgetxattr, llistxattr};
use rustix::io::{Errno, Result};

/// What the kernel returns at most: 64 KiB of names, 64 KiB for one value.
const LONGEST: usize = 64 * 1024;

/// What most lists fit in.
const USUAL: usize = 1024;

/// The path of a name in an open directory; the directory itself for an empty name.
pub fn path_of(dir: impl AsFd, name: &[u8]) -> Vec<u8> {
    let mut path = format!("/proc/self/fd/{}/", dir.as_fd().as_raw_fd()).into_bytes();
    path.extend_from_slice(if name.is_empty() { b"." } else { name });
    path
}

/// All attributes that can be read: everything outside `system.`, and of that the ACLs. What the user may not read or
/// what vanishes meanwhile is left out, and a file system without attributes has none.
pub fn read_all(path: &[u8]) -> Result<Vec<Xattr>> {
    let names = match growing(|buffer| llistxattr(path, spare_capacity(buffer))) {
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => return Ok(Vec::new()),
        names => names?,
    };
    let mut found = Vec::new();
    for name in names.split(|b| *b == 0).filter(|name| is_kept(name)) {
        match growing(|buffer| lgetxattr(path, name, spare_capacity(buffer))) {
            Ok(value) => found.push((name.to_vec(), value)),
            Err(Errno::NODATA | Errno::ACCESS | Errno::PERM | Errno::OPNOTSUPP) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(found)
}

fn is_kept(name: &[u8]) -> bool {
    match name.strip_prefix(b"system.") {
        Some(rest) => rest == b"posix_acl_access" || rest == b"posix_acl_default",
        None => !name.is_empty(),
    }
}

fn growing(read: impl Fn(&mut Vec<u8>) -> Result<usize>) -> Result<Vec<u8>> {
    let mut buffer = Vec::with_capacity(USUAL);
    match read(&mut buffer) {
        Err(Errno::RANGE) => {
            buffer = Vec::with_capacity(LONGEST);
            read(&mut buffer)?;
        }
        done => _ = done?,
    }
    Ok(buffer)
}
