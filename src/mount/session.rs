//! The register of live mounts: one small file for each, in a directory of the user.
//!
//! ```text
//!  /run/stmount/4711.json                 root
//!  $XDG_RUNTIME_DIR/stmount/4711.json     everybody else; without it ~/.cache/stmount/mounts, else /tmp/stmount-UID
//! ```
//!
//! The kernel's table says that something is mounted; this register says what, by which process, since when. A file
//! whose mount is gone is removed by whoever finds it. A file whose process is gone, while the mount is still in the
//! table, is a mount that lost its daemon: it is kept, so that it can be shown and taken away.

use super::place::{self, MountLine};
use crate::error::{Error, Kind, Result};
use crate::open::process::{is_running, start_time};
use crate::remote;
use serde::{Deserialize, Serialize};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// One live mount.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    pub source: Text,
    pub mountpoint: Text,
    /// The process that serves the mount.
    pub pid: u32,
    /// When that process began, in clock ticks since boot: a pid alone may have been given to another one since.
    pub start: u64,
    pub format: String,
    /// `ro` or `rw`.
    pub mode: String,
    /// The version of the program that serves it.
    pub version: String,
    /// When it was mounted, in seconds since 1970.
    pub since: i64,
}

/// A path in JSON: text where it is UTF-8, else its bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Text {
    Utf8(String),
    Bytes(Vec<u8>),
}

impl Text {
    pub fn path(&self) -> PathBuf {
        match self {
            Self::Utf8(text) => text.into(),
            Self::Bytes(bytes) => std::ffi::OsStr::from_bytes(bytes).into(),
        }
    }
}

impl From<&Path> for Text {
    fn from(path: &Path) -> Self {
        match path.to_str() {
            Some(text) => Self::Utf8(text.to_owned()),
            None => Self::Bytes(path.as_os_str().as_bytes().to_owned()),
        }
    }
}

/// A mount of the register with what the system says of it now.
#[derive(Clone, Debug)]
pub struct Live {
    pub session: Session,
    pub line: MountLine,
    /// False when the process that served it is gone.
    pub served: bool,
}

impl Live {
    pub fn source(&self) -> PathBuf {
        self.session.source.path()
    }

    pub fn mountpoint(&self) -> PathBuf {
        self.session.mountpoint.path()
    }

    /// Whether what is mounted at its place is the other one: this one was detached, and perhaps killed since.
    fn is_replaced_by(&self, other: &Self) -> bool {
        let later = other.session.start > self.session.start || !self.served;
        other.served && other.session.pid != self.session.pid && later && other.mountpoint() == self.mountpoint()
    }
}

/// Removes its file when dropped: whoever serves the mount keeps it as long as it serves.
#[derive(Debug)]
pub struct Entry {
    path: PathBuf,
}

impl Drop for Entry {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// The register. Its directory is made by the first who writes.
#[derive(Debug)]
pub struct Register {
    dir: PathBuf,
}

impl Register {
    /// That of this user.
    pub fn of_user() -> Self {
        Self { dir: user_dir() }
    }

    pub fn at(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into() }
    }

    /// Enters a mount that this process serves.
    pub fn enter(&self, source: &Path, mountpoint: &Path, format: &str, mode: &str) -> Result<Entry> {
        let pid = std::process::id();
        let session = Session {
            source: source.into(),
            mountpoint: mountpoint.into(),
            pid,
            start: start_time(pid).unwrap_or(0),
            format: format.to_owned(),
            mode: mode.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            since: crate::tree::Time::now().secs,
        };
        // A daemon that died here left its file: from now on the place is somebody else's.
        for (path, old) in self.sessions() {
            if old.mountpoint.path() == mountpoint && !is_running(old.pid, old.start) {
                let _ = fs::remove_file(path);
            }
        }
        self.write(&session)
    }

    fn sessions(&self) -> impl Iterator<Item = (PathBuf, Session)> {
        let files = fs::read_dir(&self.dir).into_iter().flatten().flatten().map(|file| file.path());
        let paths = files.filter(|path| path.extension().is_some_and(|e| e == "json"));
        paths.filter_map(|path| Some((path.clone(), serde_json::from_slice(&fs::read(path).ok()?).ok()?)))
    }

    /// Whether a process of this user that wrote to a source runs, though its mount is gone: it stores what is left.
    pub fn is_ending(&self, source: &Path) -> bool {
        let table = place::mounts();
        let ends = |session: &Session| {
            let point = session.mountpoint.path();
            session.mode == "rw"
                && session.source.path() == source
                && is_running(session.pid, session.start)
                && !table.iter().any(|line| line.point == point && line.fs_type.starts_with("fuse"))
        };
        self.sessions().any(|(_, session)| ends(&session))
    }

    fn write(&self, session: &Session) -> Result<Entry> {
        let failed = |e| Error::io(e, format!("cannot write the register of mounts in {}", self.dir.display()));
        own_dir(&self.dir)?;
        let path = self.dir.join(format!("{}.json", session.pid));
        let draft = self.dir.join(format!(".{}.tmp", session.pid));
        let text = serde_json::to_vec(session).expect("a session is plain data");
        fs::write(&draft, text).and_then(|()| fs::rename(&draft, &path)).map_err(failed)?;
        Ok(Entry { path })
    }

    /// All mounts that are in the table of the kernel; files of others are removed.
    pub fn live(&self) -> Result<Vec<Live>> {
        let table = place::mounts();
        let Ok(files) = fs::read_dir(&self.dir) else { return Ok(Vec::new()) };
        let paths = files.flatten().map(|f| f.path()).filter(|p| p.extension().is_some_and(|e| e == "json"));
        let mut found: Vec<(PathBuf, Live)> =
            paths.filter_map(|path| Some((path.clone(), check(&path, &table)?))).collect();
        let all: Vec<Live> = found.iter().map(|(_, live)| live.clone()).collect();
        found.retain(|(path, live)| {
            let replaced = all.iter().any(|other| live.is_replaced_by(other));
            // The file of a process that runs is its own.
            if replaced && !live.served {
                let _ = fs::remove_file(path);
            }
            !replaced
        });
        let mut found: Vec<Live> = found.into_iter().map(|(_, live)| live).collect();
        found.sort_by_key(|live| (live.session.since, live.session.pid));
        Ok(found)
    }

    /// The mount that a person names, by mount point or by source.
    pub fn find(&self, named: &Path) -> Result<Option<Live>> {
        let wanted = absolute(named);
        let mut live = self.live()?;
        let at =
            live.iter().rposition(|l| l.mountpoint() == wanted).or(live.iter().rposition(|l| l.source() == wanted));
        Ok(at.map(|at| live.swap_remove(at)))
    }
}

fn check(path: &Path, table: &[MountLine]) -> Option<Live> {
    let session: Session = serde_json::from_slice(&fs::read(path).ok()?).ok()?;
    let mountpoint = session.mountpoint.path();
    let line = table.iter().rev().find(|l| l.point == mountpoint && l.fs_type.starts_with("fuse"));
    let served = is_running(session.pid, session.start);
    match line {
        Some(line) => Some(Live { session, line: line.clone(), served }),
        // Between entering and mounting, or after a lazy unmount, the process still runs.
        None if served => None,
        None => {
            let _ = fs::remove_file(path);
            None
        }
    }
}

fn user_dir() -> PathBuf {
    let uid = rustix::process::geteuid().as_raw();
    if uid == 0 {
        return "/run/stmount".into();
    }
    let var = |name| std::env::var_os(name).map(PathBuf::from).filter(|p| p.is_absolute());
    let owned = |p: &PathBuf| fs::metadata(p).is_ok_and(|m| m.uid() == uid);
    match (var("XDG_RUNTIME_DIR").filter(owned), var("HOME").filter(owned)) {
        (Some(runtime), _) => runtime.join("stmount"),
        (None, Some(home)) => home.join(".cache/stmount/mounts"),
        (None, None) => std::env::temp_dir().join(format!("stmount-{uid}")),
    }
}

/// A path from the root, with links resolved where that is possible without asking a dead mount: of the last component
/// only the directory is resolved when the whole is not.
pub fn absolute(path: &Path) -> PathBuf {
    if remote::is_address(path).is_some() {
        return path.to_owned();
    }
    if let Ok(real) = path.canonicalize() {
        return real;
    }
    let whole = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    match (whole.parent().and_then(|p| p.canonicalize().ok()), whole.file_name()) {
        (Some(parent), Some(name)) => parent.join(name),
        _ => whole,
    }
}

/// Waits until the process that served a mount is gone.
pub fn wait_until_gone(session: &Session, limit: Option<Duration>) -> Result<()> {
    let begun = Instant::now();
    while is_running(session.pid, session.start) {
        if limit.is_some_and(|limit| begun.elapsed() > limit) {
            let what =
                format!("the process {} that served {} still runs", session.pid, session.mountpoint.path().display());
            return Err(Error::new(Kind::Busy, what).hint("it ends when its last reader is gone"));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// Makes sure that a directory exists and belongs to this user: the last resort lies in `/tmp`, where anybody could have
/// been earlier.
fn own_dir(dir: &Path) -> Result<()> {
    let failed = |e| Error::io(e, format!("cannot make {}", dir.display()));
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(failed)?;
    if fs::metadata(dir).map_err(failed)?.uid() == rustix::process::geteuid().as_raw() {
        return Ok(());
    }
    Err(Error::new(Kind::Denied, format!("{} belongs to somebody else", dir.display())).hint("set XDG_RUNTIME_DIR"))
}

/// Makes a directory that only this user may enter and that was not there before.
pub fn private_dir(prefix: &str) -> Result<PathBuf> {
    let base = user_dir();
    own_dir(&base)?;
    for number in 0.. {
        let path = base.join(format!("{prefix}-{}-{number}", std::process::id()));
        match fs::DirBuilder::new().mode(0o700).create(&path) {
            Ok(()) => return Ok(path),
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(Error::io(e, format!("cannot make {}", path.display()))),
        }
    }
    unreachable!("the numbers do not end")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_is_not_text_survives_the_register() {
        let path = Path::new(std::ffi::OsStr::from_bytes(b"/a/\xff b"));
        let text = serde_json::to_string(&Text::from(path)).unwrap();
        assert_eq!(serde_json::from_str::<Text>(&text).unwrap().path(), path);
        assert_eq!(serde_json::to_string(&Text::from(Path::new("/a b"))).unwrap(), r#""/a b""#);
    }

    #[test]
    fn an_entry_is_there_until_it_is_dropped_and_is_not_live_without_a_mount() {
        let dir = tempfile::tempdir().unwrap();
        let register = Register::at(dir.path().join("r"));
        assert!(register.live().unwrap().is_empty());
        let entry = register.enter(Path::new("/x.st"), Path::new("/no/such/mount"), "st", "ro").unwrap();
        assert!(entry.path.exists());
        assert!(register.live().unwrap().is_empty(), "nothing is mounted there");
        assert!(entry.path.exists(), "its process runs, it may be about to mount");
        let path = entry.path.clone();
        drop(entry);
        assert!(!path.exists());
    }

    #[test]
    fn the_entry_of_a_process_that_is_gone_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let register = Register::at(dir.path());
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let (pid, start) = (child.id(), start_time(child.id()).unwrap_or(1));
        child.wait().unwrap();
        assert!(!is_running(pid, start));
        let nowhere = Text::from(Path::new("/no/such/mount"));
        let session = Session {
            source: nowhere.clone(),
            mountpoint: nowhere,
            pid,
            start,
            format: "st".into(),
            mode: "ro".into(),
            version: "0".into(),
            since: 0,
        };
        let entry = register.write(&session).unwrap();
        assert!(register.live().unwrap().is_empty());
        assert!(!entry.path.exists());
    }
}
