//! A local file, read with pread. Never mapped: a mapped file on a failing disk or a lost share kills the process with
//! SIGBUS, a pread returns an error for the one read.

use super::{ReadAt, Store};
use crate::error::{Error, Kind, Result};
use crate::pool::lock;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use rustix::fs::FallocateFlags;
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// A file of the local system, at whatever offset one likes.
#[derive(Debug)]
pub struct FileSource {
    file: File,
    /// As it was when it was opened by its path, and after each change by this.
    seen: Mutex<Option<Seen>>,
}

/// What tells whether somebody has changed a file: its length and the time of the last change, to the nanosecond.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Seen {
    len: u64,
    mtime: (i64, i64),
}

impl Seen {
    fn of(file: &File) -> Option<Self> {
        let meta = file.metadata().ok()?;
        Some(Self { len: meta.len(), mtime: (meta.mtime(), meta.mtime_nsec()) })
    }
}

impl FileSource {
    pub fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(|e| Error::io(e, format!("cannot open {}", path.display())))?;
        Ok(Self::watched(file))
    }

    /// Opens a file to read and to write it.
    pub fn open_to_write(path: &Path) -> Result<Self> {
        let file = File::options().read(true).write(true).open(path);
        Ok(Self::watched(file.map_err(|e| Error::io(e, format!("cannot open {}", path.display())))?))
    }

    /// Takes the lock of who writes, until this is dropped. Of all openings of the file one can have it. False where the
    /// file system has no locks.
    ///
    /// # Errors
    /// `Locked` when another has it.
    pub fn lock(&self) -> Result<bool> {
        match set_lock(&self.file, libc::F_WRLCK, WRITER) {
            Ok(()) => Ok(true),
            Err(Errno::ENOLCK | Errno::EOPNOTSUPP | Errno::ENOSYS) => Ok(false),
            Err(Errno::EAGAIN | Errno::EACCES) => Err(Error::new(Kind::Locked, "another process has it open to write")
                .hint("`stmount list` shows who; `-o ro` mounts the last committed state")),
            Err(e) => Err(Error::io(e.into(), "cannot lock it")),
        }
    }

    /// Gives the lock of who writes back.
    pub fn unlock(&self) {
        if let Err(e) = set_lock(&self.file, libc::F_UNLCK, WRITER) {
            log::debug!("there is no lock to be given back: {e}");
        }
    }

    /// Says, until this is dropped, that somebody reads the file: what the last commit holds stays where it is. Waits for
    /// a writer that is just moving something. A reader is never refused: where there are no locks it goes on without.
    pub fn lock_shared(&self) {
        let begun = Instant::now();
        loop {
            match set_lock(&self.file, libc::F_RDLCK, READERS) {
                Ok(()) => return,
                Err(Errno::EAGAIN | Errno::EACCES) if begun.elapsed() < PATIENCE => std::thread::sleep(AGAIN),
                Err(e) => return log::debug!("reading without a lock: {e}"),
            }
        }
    }

    pub fn file(&self) -> &File {
        &self.file
    }

    /// A file that others may change.
    pub fn watched(file: File) -> Self {
        Self { seen: Mutex::new(Seen::of(&file)), file }
    }

    /// A file whose changes by others nobody asks for.
    pub fn new(file: File) -> Self {
        Self { file, seen: Mutex::default() }
    }

    /// Takes note of what this itself has changed.
    fn changed<T>(&self, done: T) -> T {
        let mut seen = lock(&self.seen);
        if seen.is_some() {
            *seen = Seen::of(&self.file);
        }
        done
    }
}

/// Far behind every byte that a file may have: who writes has this one,
const WRITER: i64 = 1 << 62;
/// and all who read share this one.
const READERS: i64 = WRITER + 1;

/// How long a reader waits for a writer that moves things, and after how long it asks again.
const PATIENCE: Duration = Duration::from_secs(5);
const AGAIN: Duration = Duration::from_millis(10);

/// A lock on one byte that belongs to the opening of a file and not to a process.
fn set_lock(file: &File, kind: libc::c_int, byte: i64) -> nix::Result<()> {
    let lock = libc::flock { l_type: kind as i16, l_whence: libc::SEEK_SET as i16, l_start: byte, l_len: 1, l_pid: 0 };
    fcntl(file, FcntlArg::F_OFD_SETLK(&lock)).map(drop)
}

impl ReadAt for FileSource {
    fn len(&self) -> Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn read_at(&self, at: u64, into: &mut [u8]) -> Result<usize> {
        let mut done = 0;
        while done < into.len() {
            match self.file.read_at(&mut into[done..], at + done as u64) {
                Ok(0) => break,
                Ok(n) => done += n,
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) => return Err(Error::io(e, format!("cannot read at {at}"))),
            }
        }
        Ok(done)
    }

    fn will_read(&self, range: Range<u64>) {
        let len = std::num::NonZeroU64::new(range.end.saturating_sub(range.start));
        // A hint: a file system that has no use for it says so, and nothing is lost.
        let _ = rustix::fs::fadvise(&self.file, range.start, len, rustix::fs::Advice::WillNeed);
    }

    fn is_changed(&self) -> bool {
        let seen = *lock(&self.seen);
        seen.is_some() && Seen::of(&self.file) != seen
    }

    fn next_data(&self, at: u64) -> Result<Option<Range<u64>>> {
        let len = self.len()?;
        if at >= len {
            return Ok(None);
        }
        let start = match rustix::fs::seek(&self.file, rustix::fs::SeekFrom::Data(at)) {
            Ok(start) => start,
            Err(rustix::io::Errno::NXIO) => return Ok(None),
            // A file system without SEEK_DATA has no holes to tell of.
            Err(_) => return Ok(Some(at..len)),
        };
        let end = rustix::fs::seek(&self.file, rustix::fs::SeekFrom::Hole(start)).unwrap_or(len);
        Ok(Some(start..end))
    }
}

impl Store for FileSource {
    fn write_at(&self, at: u64, bytes: &[u8]) -> Result<()> {
        let done = self.changed(self.file.write_all_at(bytes, at));
        done.map_err(|e| Error::io(e, format!("cannot write at {at}")))
    }

    fn set_len(&self, len: u64) -> Result<()> {
        let done = self.changed(self.file.set_len(len));
        done.map_err(|e| Error::io(e, format!("cannot set the length to {len}")))
    }

    fn sync(&self) -> Result<()> {
        self.file.sync_data().map_err(|e| Error::io(e, "cannot bring it to the medium"))
    }

    fn reserve(&self, range: Range<u64>) -> Result<()> {
        let len = range.end.saturating_sub(range.start);
        match self.changed(rustix::fs::fallocate(&self.file, FallocateFlags::KEEP_SIZE, range.start, len)) {
            Ok(()) => Ok(()),
            // Here nothing can be reserved: what is free is all that can be known.
            Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) if self.free()? >= len => Ok(()),
            Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => {
                Err(Error::new(Kind::NoSpace, "there is no space left on the device"))
            }
            Err(e) => Err(Error::io(e.into(), "cannot reserve space")),
        }
    }

    fn punch(&self, range: Range<u64>) -> Result<bool> {
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        let len = range.end.saturating_sub(range.start);
        match self.changed(rustix::fs::fallocate(&self.file, flags, range.start, len)) {
            Ok(()) => Ok(true),
            Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => Ok(false),
            Err(e) => Err(Error::io(e.into(), "cannot give space back")),
        }
    }

    fn free(&self) -> Result<u64> {
        free_of(rustix::fs::fstatvfs(&self.file))
    }

    fn exclude_readers(&self) -> Result<bool> {
        match set_lock(&self.file, libc::F_WRLCK, READERS) {
            Ok(()) => Ok(true),
            Err(Errno::EAGAIN | Errno::EACCES) => Ok(false),
            Err(e) => {
                log::debug!("nobody can tell whether it is being read: {e}");
                Ok(false)
            }
        }
    }

    fn admit_readers(&self) {
        if let Err(e) = set_lock(&self.file, libc::F_UNLCK, READERS) {
            log::warn!("cannot give the lock of the readers back: {e}");
        }
    }
}

/// Bytes that this user may still write in a directory.
pub fn free_in(dir: &Path) -> Result<u64> {
    free_of(rustix::fs::statvfs(dir))
}

fn free_of(told: rustix::io::Result<rustix::fs::StatVfs>) -> Result<u64> {
    let fs = told.map_err(|e| Error::io(e.into(), "cannot see what is free"))?;
    Ok(fs.f_bavail.saturating_mul(fs.f_frsize))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_writer_excludes_readers_only_while_there_are_none() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let writer = FileSource::open_to_write(file.path()).unwrap();
        writer.lock().unwrap();
        let reader = FileSource::open(file.path()).unwrap();
        reader.lock_shared();
        assert!(!writer.exclude_readers().unwrap());
        drop(reader);
        assert!(writer.exclude_readers().unwrap());
        assert_eq!(FileSource::open_to_write(file.path()).unwrap().lock().unwrap_err().kind(), Kind::Locked);
    }

    #[test]
    fn a_reader_waits_until_it_is_admitted() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let writer = FileSource::open_to_write(file.path()).unwrap();
        assert!(writer.exclude_readers().unwrap());
        let reader = FileSource::open(file.path()).unwrap();
        let (sent, came) = std::sync::mpsc::channel();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                reader.lock_shared();
                sent.send(()).unwrap();
            });
            assert!(came.try_recv().is_err());
            writer.admit_readers();
            came.recv().unwrap();
        });
        assert!(!writer.exclude_readers().unwrap());
    }
}
