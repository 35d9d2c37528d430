//! Who keeps a mount busy: every process that has its working directory, its root, its program, an open file or a mapped
//! file below the mount point.
//!
//! Only `/proc` is read, and links in it are compared as text: a `stat` through them would ask the mount itself, and wait
//! if it hangs.

use super::place::MountLine;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// A process that uses the mount, and one thing it has there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    pub pid: u32,
    /// As `ps` would call it.
    pub command: String,
    pub path: PathBuf,
    pub how: How,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    WorkingDirectory,
    Root,
    Program,
    OpenFile,
    Mapped,
}

impl std::fmt::Display for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let path = self.path.display();
        write!(f, "{} ({}) ", self.command, self.pid)?;
        match self.how {
            How::WorkingDirectory => write!(f, "has its working directory in {path}"),
            How::Root => write!(f, "has its root in {path}"),
            How::Program => write!(f, "runs {path}"),
            How::OpenFile => write!(f, "has {path} open"),
            How::Mapped => write!(f, "has {path} mapped"),
        }
    }
}

/// Everybody who uses this mount, as far as this user may see; one line for each process.
pub fn holders(mount: &MountLine) -> Vec<Holder> {
    let own = std::process::id();
    let pids = fs::read_dir("/proc").into_iter().flatten().flatten();
    pids.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid| *pid != own)
        .filter_map(|pid| holder(pid, mount))
        .collect()
}

fn holder(pid: u32, mount: &MountLine) -> Option<Holder> {
    let proc = PathBuf::from(format!("/proc/{pid}"));
    let inside = |path: PathBuf| path.starts_with(&mount.point).then_some(path);
    let link = |name: &str| fs::read_link(proc.join(name)).ok().and_then(inside);
    let (how, path) = [(How::Program, "exe"), (How::WorkingDirectory, "cwd"), (How::Root, "root")]
        .into_iter()
        .find_map(|(how, name)| Some((how, link(name)?)))
        .or_else(|| Some((How::OpenFile, open_file(&proc, inside)?)))
        .or_else(|| Some((How::Mapped, mapped(&proc, mount)?)))?;
    let command = fs::read_to_string(proc.join("comm")).unwrap_or_default().trim_end().to_owned();
    Some(Holder { pid, command, path, how })
}

fn open_file(proc: &Path, inside: impl Fn(PathBuf) -> Option<PathBuf>) -> Option<PathBuf> {
    let fds = fs::read_dir(proc.join("fd")).ok()?.flatten();
    fds.filter_map(|fd| fs::read_link(fd.path()).ok()).find_map(inside)
}

/// A line of `maps` is `begin-end rights offset major:minor inode   path`, the device in hexadecimal.
fn mapped(proc: &Path, mount: &MountLine) -> Option<PathBuf> {
    let (major, minor) = mount.device.split_once(':')?;
    let device = format!(" {:02x}:{:02x} ", major.parse::<u32>().ok()?, minor.parse::<u32>().ok()?);
    let maps = fs::read(proc.join("maps")).ok()?;
    let line = maps.split(|b| *b == b'\n').find(|l| l.windows(device.len()).any(|w| w == device.as_bytes()))?;
    let at = line.iter().position(|b| *b == b'/')?;
    Some(PathBuf::from(std::ffi::OsStr::from_bytes(&line[at..])))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    fn line(mountpoint: &Path) -> MountLine {
        // A device that no map has: only paths count here.
        MountLine { device: "4095:4095".into(), point: mountpoint.into(), fs_type: "fuse".into(), source: "x".into() }
    }

    #[test]
    fn a_process_that_stands_in_a_directory_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().canonicalize().unwrap();
        assert_eq!(holders(&line(&place)), vec![]);
        let mut child = Command::new("cat").current_dir(&place).stdin(Stdio::piped()).spawn().unwrap();
        let found = holders(&line(&place));
        let beside = holders(&line(&place.join("below")));
        drop(child.stdin.take());
        child.wait().unwrap();
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!((found[0].pid, found[0].how), (child.id(), How::WorkingDirectory));
        assert_eq!(
            found[0].to_string(),
            format!("cat ({}) has its working directory in {}", child.id(), place.display())
        );
        assert_eq!(beside, vec![]);
    }
}
