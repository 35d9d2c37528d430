//! The record of who writes: `NAME.st.lock` beside the container.
//!
//! The lock of the file system keeps others out where it works: among the processes of one machine, and over NFS. On
//! shares without locks, or with locks that other machines do not see, this small file does. It also tells who it is.
//!
//! ```text
//!   the record is of                      who opens the container to write it
//!   nobody                                writes one
//!   this machine, and has the lock        is refused by the lock, and told who it is
//!   this machine, before a crash          takes it over, and says nothing
//!   another machine                       is refused, and told who it is and how to take it over
//! ```

use super::process;
use crate::error::{Error, Kind, Result};
use crate::formats::folder;
use crate::source::Held;
use crate::tree::Time;
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// A record is no longer than this.
const LEN: u64 = 16 << 10;
/// So often is a record taken over that somebody else writes anew meanwhile.
const TRIES: u32 = 10;

/// On whose behalf a container is opened to be written.
#[derive(Clone, Debug, Default)]
pub struct Claim {
    pub mountpoint: Option<PathBuf>,
    /// Take a record of another machine over.
    pub break_lock: bool,
}

/// Who writes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    host: String,
    /// Of the running system: it is another one after each start of the machine.
    boot: String,
    pid: u32,
    /// When the process began, in clock ticks since the start of the machine.
    start: u64,
    user: String,
    mountpoint: Option<String>,
    /// Seconds since 1970.
    since: i64,
    /// The inode of the container: another file of the same name is not meant.
    inode: u64,
}

impl Record {
    fn new(inode: u64, claim: &Claim) -> Self {
        let (pid, uid) = (std::process::id(), rustix::process::geteuid().as_raw());
        Self {
            host: of_system("/proc/sys/kernel/hostname"),
            boot: of_system("/proc/sys/kernel/random/boot_id"),
            pid,
            start: process::start_time(pid).unwrap_or(0),
            user: folder::user_name(uid).unwrap_or_else(|| uid.to_string()),
            mountpoint: claim.mountpoint.as_ref().map(|path| path.display().to_string()),
            since: Time::now().secs,
            inode,
        }
    }

    /// Whether nobody stands behind a record any more, as far as this machine can tell.
    fn is_stale(&self, own: &Self, is_locked: bool) -> bool {
        match (self.boot == own.boot, self.host == own.host) {
            // Whoever has the lock is the only one on this machine.
            (true, _) => is_locked || self.inode != own.inode || !process::is_running(self.pid, self.start),
            (false, same_host) => same_host,
        }
    }

    fn words(&self) -> String {
        let place = self.mountpoint.as_ref().map(|place| format!(", mounted on {place}")).unwrap_or_default();
        let since = Time { secs: self.since, nanos: 0 }.date();
        format!("{} has it open to write on {} (pid {}) since {since}{place}", self.user, self.host, self.pid)
    }
}

fn of_system(file: &str) -> String {
    fs::read_to_string(file).unwrap_or_default().trim().to_owned()
}

/// Removes the record when the container is held no longer.
#[derive(Debug)]
struct Written {
    path: PathBuf,
    record: Record,
}

impl Drop for Written {
    fn drop(&mut self) {
        if read(&self.path).as_ref() == Some(&self.record) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Where the record of a container is.
pub fn record_of(container: &Path) -> PathBuf {
    let mut name = OsString::from(container);
    name.push(".lock");
    name.into()
}

fn read(path: &Path) -> Option<Record> {
    let mut text = Vec::new();
    File::open(path).ok()?.take(LEN).read_to_end(&mut text).ok()?;
    serde_json::from_slice(&text).ok()
}

/// The error of a lock that somebody has, with what the record tells of him.
pub fn named(container: &Path, e: Error) -> Error {
    if e.kind() != Kind::Locked {
        return e;
    }
    let path = container.canonicalize().unwrap_or_else(|_| container.to_owned());
    let Some(record) = read(&record_of(&path)) else { return e };
    let hint = e.advice().unwrap_or_default().to_owned();
    Error::new(Kind::Locked, record.words()).hint(hint)
}

/// Writes the record of a container that this process holds. Where none can be written the lock has to do.
///
/// # Errors
/// `Locked` when somebody else writes to it.
pub fn claim(held: &Held, claim: &Claim) -> Result<()> {
    let container = held.path();
    let path = record_of(&container);
    let own = Record::new(fs::metadata(&container).map_or(0, |meta| meta.ino()), claim);
    for _ in 0..TRIES {
        match File::options().write(true).create_new(true).open(&path) {
            Ok(mut file) => {
                let text = serde_json::to_vec(&own).expect("a record is plain data");
                if let Err(e) = file.write_all(&text) {
                    log::debug!("{}: {e}", path.display());
                }
                held.keep(Box::new(Written { path, record: own }));
                return Ok(());
            }
            Err(e) if e.kind() == ErrorKind::AlreadyExists => {
                if !take_over(&path, &own, held.is_locked(), claim)? {
                    return Ok(());
                }
            }
            Err(e) if held.is_locked() => {
                log::debug!("{}: {e}; the lock has to do", path.display());
                return Ok(());
            }
            Err(e) => {
                log::warn!("{}: {e}: nothing keeps others from writing to it", path.display());
                return Ok(());
            }
        }
    }
    Err(Error::new(Kind::Locked, format!("{} is written again and again", path.display())))
}

/// Removes a record that means nobody. False when it cannot be removed, and the lock has to do.
fn take_over(path: &Path, own: &Record, is_locked: bool, claim: &Claim) -> Result<bool> {
    let found = read(path);
    let hint = format!("--break-lock, when that is not so, or remove {}; -o ro mounts the last commit", path.display());
    match &found {
        Some(other) if other.is_stale(own, is_locked) => {}
        Some(other) if claim.break_lock => log::warn!("taken over, though {}", other.words()),
        Some(other) => return Err(Error::new(Kind::Locked, other.words()).hint(hint)),
        None if is_locked || claim.break_lock => {}
        None => {
            let what = format!("{} cannot be read, which tells who has it open to write", path.display());
            return Err(Error::new(Kind::Locked, what).hint(hint));
        }
    }
    // Of two who see the same stale record, the second must not remove what the first has written since.
    let mut aside = path.to_owned().into_os_string();
    aside.push(format!(".{}", std::process::id()));
    let failed = |e| Error::io(e, format!("cannot take {} over", path.display()));
    match fs::rename(path, &aside) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(true),
        Err(e) if is_locked => {
            log::debug!("{}: {e}; the lock has to do", path.display());
            return Ok(false);
        }
        moved => moved.map_err(failed)?,
    }
    if read(Path::new(&aside)) != found {
        let _ = fs::hard_link(&aside, path);
    }
    fs::remove_file(&aside).map_err(failed).map(|()| true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn desk() -> (tempfile::TempDir, PathBuf, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.st");
        fs::write(&path, b"container").unwrap();
        let record = record_of(&path);
        (dir, path, record)
    }

    fn own(path: &Path) -> Record {
        Record::new(fs::metadata(path).unwrap().ino(), &Claim::default())
    }

    fn put(record: &Path, of: &Record) {
        fs::write(record, serde_json::to_vec(of).unwrap()).unwrap();
    }

    #[test]
    fn the_record_is_there_as_long_as_the_container_is_held() {
        let (_dir, path, record) = desk();
        let held = Held::open(&path).unwrap();
        claim(&held, &Claim { mountpoint: Some("/mnt".into()), ..Claim::default() }).unwrap();
        let told = named(&path, Held::open(&path).unwrap_err()).to_string();
        assert!(told.contains(&format!("(pid {})", std::process::id())) && told.contains("/mnt"), "{told}");
        drop(held);
        assert!(!record.exists());
    }

    #[test]
    fn a_record_of_a_process_that_is_gone_is_taken_over() {
        let (_dir, path, record) = desk();
        for stale in [Record { start: 1, ..own(&path) }, Record { boot: "another".into(), ..own(&path) }] {
            put(&record, &stale);
            let held = Held::open(&path).unwrap();
            claim(&held, &Claim::default()).unwrap();
            assert_eq!(read(&record).unwrap().pid, std::process::id());
        }
        fs::write(&record, b"torn").unwrap();
        claim(&Held::open(&path).unwrap(), &Claim::default()).unwrap();
        assert!(!record.exists());
    }

    #[test]
    fn without_locks_a_process_that_runs_is_respected() {
        let (_dir, path, _) = desk();
        let own = own(&path);
        assert!(!own.is_stale(&own, false) && own.is_stale(&own, true));
        assert!(Record { start: 1, ..own.clone() }.is_stale(&own, false));
        assert!(Record { inode: 0, ..own.clone() }.is_stale(&own, false));
    }

    #[test]
    fn a_record_of_another_machine_is_respected_until_it_is_broken() {
        let (_dir, path, record) = desk();
        let other = Record { host: "elsewhere".into(), boot: "another".into(), ..own(&path) };
        put(&record, &other);
        let held = Held::open(&path).unwrap();
        let e = claim(&held, &Claim::default()).unwrap_err();
        assert!(e.kind() == Kind::Locked && e.to_string().contains("elsewhere"), "{e}");
        assert_eq!(read(&record).unwrap(), other);
        claim(&held, &Claim { break_lock: true, ..Claim::default() }).unwrap();
        assert_eq!(read(&record).unwrap().pid, std::process::id());
    }
}
