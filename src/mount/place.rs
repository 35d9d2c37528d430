//! Mount points: what is mounted where, what died there, and how to get it off.

use crate::error::{Error, Kind, Result};
use rustix::io::Errno;
use rustix::mount::UnmountFlags;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The type of our mounts, as `mount` and `umount` see it: `fuse.` and the subtype.
pub const FS_TYPE: &str = "fuse.stmount";

/// One line of `/proc/self/mountinfo`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountLine {
    /// `major:minor` of the file system, also its name under `/sys/class/bdi`.
    pub device: String,
    pub point: PathBuf,
    pub fs_type: String,
    pub source: OsString,
}

/// All mounts of this process, in the order in which they were made. Empty where there is no `/proc`.
pub fn mounts() -> Vec<MountLine> {
    let table = std::fs::read("/proc/self/mountinfo").unwrap_or_default();
    table.split(|b| *b == b'\n').filter_map(parse_line).collect()
}

/// The uppermost mount at exactly this path.
pub fn mount_at(point: &Path) -> Option<MountLine> {
    mounts().into_iter().rfind(|m| m.point == point)
}

/// `id parent major:minor root point options [tags] - type source options`, each field with octal escapes.
fn parse_line(line: &[u8]) -> Option<MountLine> {
    let fields: Vec<&[u8]> = line.split(|b| *b == b' ').collect();
    let dash = fields.iter().skip(6).position(|f| *f == b"-")? + 6;
    Some(MountLine {
        device: String::from_utf8(fields[2].to_vec()).ok()?,
        point: unescape(fields[4]).into(),
        fs_type: String::from_utf8(unescape(fields.get(dash + 1)?).into_vec()).ok()?,
        source: unescape(fields.get(dash + 2)?),
    })
}

fn unescape(field: &[u8]) -> OsString {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, tail)) = rest.split_first() {
        let octal = tail.get(..3).filter(|_| *first == b'\\').and_then(|o| std::str::from_utf8(o).ok());
        match octal.and_then(|o| u8::from_str_radix(o, 8).ok()) {
            Some(byte) => {
                out.push(byte);
                rest = &tail[3..];
            }
            None => {
                out.push(*first);
                rest = tail;
            }
        }
    }
    OsString::from_vec(out)
}

/// Makes sure that a mount can be made here, and says where "here" is without links. What a dead process left mounted
/// is taken off first.
///
/// # Errors
/// `BadMountPoint` when there is no directory, or a mount of ours already.
pub fn prepare(point: &Path) -> Result<PathBuf> {
    clear_stale(point)?;
    let meta = std::fs::metadata(point).map_err(|e| bad(point, e))?;
    if !meta.is_dir() {
        return Err(Error::new(Kind::BadMountPoint, format!("{}: not a directory", point.display()))
            .hint("name an empty directory as the mount point"));
    }
    let point = point.canonicalize().map_err(|e| bad(point, e))?;
    match mount_at(&point) {
        Some(old) if old.fs_type == FS_TYPE => Err(Error::new(
            Kind::BadMountPoint,
            format!("{}: {} is mounted here already", point.display(), old.source.to_string_lossy()),
        )
        .hint(format!("unmount it first: umount {}", point.display()))),
        _ => Ok(point),
    }
}

fn bad(point: &Path, cause: std::io::Error) -> Error {
    let hint = match cause.kind() {
        std::io::ErrorKind::NotFound => format!("create it first: mkdir -p {}", point.display()),
        _ => "name a directory that you may enter".to_owned(),
    };
    Error::new(Kind::BadMountPoint, format!("{}: cannot be a mount point", point.display())).caused_by(cause).hint(hint)
}

fn clear_stale(point: &Path) -> Result<()> {
    // One mount may lie on another, each left by its own dead process.
    for _ in 0..8 {
        if !is_stale(point) {
            return Ok(());
        }
        let point = absolute(point);
        log::warn!("{}: the process that mounted this is gone, taking its mount off", point.display());
        unmount(&point, true).map_err(|e| {
            e.within("what a dead process left mounted does not come off")
                .hint(format!("try: fusermount3 -u -z {}", point.display()))
        })?;
    }
    Ok(())
}

/// The path without links in its parents; what lies at its end is dead and must not be touched.
fn absolute(point: &Path) -> PathBuf {
    match (point.parent().map(Path::canonicalize), point.file_name()) {
        (Some(Ok(parent)), Some(name)) => parent.join(name),
        _ => point.to_owned(),
    }
}

/// Whether a FUSE mount is here whose process is gone. A stat may still be answered from what the kernel remembers;
/// statfs always asks.
fn is_stale(point: &Path) -> bool {
    matches!(rustix::fs::statfs(point), Err(Errno::NOTCONN))
}

/// Makes durable what was written to what is mounted there.
pub fn sync(point: &Path) -> Result<()> {
    let synced = std::fs::File::open(point).and_then(|dir| dir.sync_all());
    synced.map_err(|e| {
        Error::io(e, format!("{}: what was written cannot be stored", point.display()))
            .hint("the mount is still there and has everything: make room, or see its log")
    })
}

/// Takes off what is mounted at a path. `lazily`: off the tree at once, and gone when the last user has left.
///
/// # Errors
/// `Busy` while somebody uses it, and never when `lazily`.
pub fn unmount(point: &Path, lazily: bool) -> Result<()> {
    let flags = if lazily { UnmountFlags::DETACH } else { UnmountFlags::empty() };
    match rustix::mount::unmount(point, flags | UnmountFlags::NOFOLLOW) {
        Ok(()) => Ok(()),
        Err(Errno::BUSY) => Err(busy(point)),
        Err(Errno::PERM) => fusermount(point, lazily),
        Err(e) => Err(Error::io(e.into(), format!("{}: cannot unmount", point.display()))),
    }
}

fn busy(point: &Path) -> Error {
    Error::new(Kind::Busy, format!("{}: still in use", point.display()))
        .hint(format!("see who uses it: fuser -vm {}", point.display()))
}

/// For those who may not call umount(2): the helper of FUSE may, on mounts of theirs.
fn fusermount(point: &Path, lazily: bool) -> Result<()> {
    let mut command = Command::new(std::env::var_os("FUSERMOUNT_PATH").unwrap_or_else(|| "fusermount3".into()));
    command.arg("-u").args(lazily.then_some("-z")).arg("--").arg(point).env("LC_ALL", "C");
    let output =
        command.output().map_err(|e| Error::io(e, "cannot run fusermount3").hint("install the package fuse3"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    match output.status.success() {
        true => Ok(()),
        false if said.contains("busy") => Err(busy(point)),
        false => Err(Error::new(Kind::System, format!("{}: fusermount3 says: {}", point.display(), said.trim()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::ffi::OsStrExt;

    #[test]
    fn a_line_of_mountinfo_gives_its_names_unescaped() {
        let line = br"36 35 0:45 / /mnt/a\040b\134c rw,noatime master:1 - fuse.stmount /x/y\012,z.st rw,user_id=0";
        let mount = parse_line(line).unwrap();
        assert_eq!((mount.device.as_str(), mount.fs_type.as_str()), ("0:45", "fuse.stmount"));
        assert_eq!(mount.point.as_os_str().as_bytes(), br"/mnt/a b\c");
        assert_eq!(mount.source.as_bytes(), b"/x/y\n,z.st");
    }

    #[test]
    fn what_is_no_line_of_mountinfo_is_skipped() {
        for bad in [&b""[..], b"1 2 3", b"36 35 0:45 / /mnt rw - ", b"- - - - - - - - -"] {
            assert!(parse_line(bad).is_none_or(|m| m.fs_type != FS_TYPE));
        }
    }

    #[test]
    fn a_missing_mount_point_is_told_with_a_way_out() {
        let e = prepare(Path::new("/nonexistent/mount point")).unwrap_err();
        assert_eq!(e.kind(), Kind::BadMountPoint);
        assert!(e.advice().unwrap().contains("mkdir"));
        assert_eq!(prepare(Path::new("/etc/passwd")).unwrap_err().kind(), Kind::BadMountPoint);
    }
}
