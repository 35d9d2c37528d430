//! A file that appears under its name when it is complete, and not before.
//!
//! ```text
//!  O_TMPFILE in the directory of OUT ──write──► fsync ──link──► OUT              a new name: no other name ever exists
//!                                                    └──link──► .OUT.N.tmp ──rename──► OUT       replacing a file
//!  a file system without O_TMPFILE:   .OUT.N.tmp ──write──► fsync ──rename──► OUT
//! ```
//!
//! At the end the directory is synced as well. Whatever ends the process before, the name OUT is what it was.

use crate::error::{Error, Kind, Result};
use crate::formats::st;
use crate::source::{FileSource, ReadAt, Store};
use rustix::fs::{AtFlags, CWD, RenameFlags};
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// The file while it is being written.
pub struct Output {
    pub file: File,
    target: PathBuf,
    force: bool,
    /// The name it has meanwhile, where it needs one.
    draft: Option<PathBuf>,
}

impl Output {
    /// Begins a file that is going to be `target`; an existing one is replaced only when `force` says so.
    pub fn create(target: &Path, force: bool) -> Result<Self> {
        match fs::symlink_metadata(target) {
            Ok(meta) if meta.is_dir() => {
                return Err(Error::new(Kind::Exists, format!("{} is a directory", target.display()))
                    .hint("the last operand is the file to write: stmount pack DIR OUT.st"));
            }
            Ok(_) if !force => return Err(exists(target)),
            _ => {}
        }
        let failed = |e| Error::io(e, format!("cannot write {}", target.display()));
        // A link is written through, as every other program would do.
        let target = if force { fs::canonicalize(target).unwrap_or_else(|_| target.into()) } else { target.into() };
        let (file, draft) = match unnamed(&dir_of(&target)) {
            Ok(file) => (file, None),
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Err(failed(e)),
            Err(_) => named(&target).map(|(file, path)| (file, Some(path))).map_err(failed)?,
        };
        Ok(Self { file, target, force, draft })
    }

    /// The file as something that can be written at any place.
    pub fn store(&self) -> Result<FileTarget> {
        let file = self.file.try_clone().map_err(|e| Error::io(e, "cannot open a file twice"))?;
        Ok(FileTarget(FileSource::new(file)))
    }

    /// The name to be removed when the process has to end at once.
    pub fn draft(&self) -> Option<PathBuf> {
        self.draft.clone()
    }

    /// Makes the content durable, then the name.
    pub fn commit(mut self) -> Result<()> {
        let failed = |e: io::Error, target: &Path| Error::io(e, format!("cannot write {}", target.display()));
        self.file.sync_all().map_err(|e| failed(e, &self.target))?;
        self.publish().map_err(|e| match e.kind() {
            io::ErrorKind::AlreadyExists => exists(&self.target),
            _ => failed(e, &self.target),
        })?;
        self.draft = None;
        let dir = dir_of(&self.target);
        File::open(&dir).and_then(|d| d.sync_all()).map_err(|e| failed(e, &dir))
    }

    fn publish(&mut self) -> io::Result<()> {
        if self.draft.is_none() {
            match link(&self.file, &self.target) {
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists && self.force => {}
                other => return other,
            }
            let draft = free_name(&self.target, |path| link(&self.file, path))?.1;
            self.draft = Some(draft);
        }
        let draft = self.draft.as_ref().expect("it has a name now");
        if self.force {
            return fs::rename(draft, &self.target);
        }
        match rustix::fs::renameat_with(CWD, draft, CWD, &self.target, RenameFlags::NOREPLACE) {
            // A file system that cannot refuse: the name was free a moment ago.
            Err(rustix::io::Errno::INVAL) if !self.target.exists() => fs::rename(draft, &self.target),
            other => Ok(other?),
        }
    }
}

/// A file that is written front to back first.
pub struct FileTarget(FileSource);

impl st::Target for FileTarget {
    fn stream(&self) -> Result<Box<dyn Write + Send + '_>> {
        Ok(Box::new(BufWriter::with_capacity(1 << 20, self.0.file())))
    }
}

impl ReadAt for FileTarget {
    fn len(&self) -> Result<u64> {
        self.0.len()
    }

    fn read_at(&self, at: u64, into: &mut [u8]) -> Result<usize> {
        self.0.read_at(at, into)
    }
}

impl Store for FileTarget {
    fn write_at(&self, at: u64, bytes: &[u8]) -> Result<()> {
        self.0.write_at(at, bytes)
    }

    fn set_len(&self, len: u64) -> Result<()> {
        self.0.set_len(len)
    }

    /// Once, at the end: before that it is nothing.
    fn sync(&self) -> Result<()> {
        Ok(())
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        if let Some(draft) = &self.draft {
            let _ = fs::remove_file(draft);
        }
    }
}

fn exists(target: &Path) -> Error {
    Error::new(Kind::Exists, format!("{} exists already", target.display())).hint("--force replaces it")
}

fn dir_of(target: &Path) -> PathBuf {
    match target.parent() {
        Some(dir) if dir != Path::new("") => dir.to_owned(),
        _ => PathBuf::from("."),
    }
}

/// A file without a name in this directory; it is gone with its last descriptor.
pub fn unnamed(dir: &Path) -> io::Result<File> {
    let flags = rustix::fs::OFlags::TMPFILE.bits() as i32;
    OpenOptions::new().read(true).write(true).mode(0o666).custom_flags(flags).open(dir)
}

/// The same where the file system cannot do it: a file whose name is removed at once.
pub fn unnamed_anywhere(dir: &Path) -> io::Result<File> {
    unnamed(dir).or_else(|_| {
        let (file, path) = named(&dir.join("stmount"))?;
        fs::remove_file(path)?;
        Ok(file)
    })
}

fn named(target: &Path) -> io::Result<(File, PathBuf)> {
    free_name(target, |path| OpenOptions::new().read(true).write(true).create_new(true).open(path))
}

fn link(file: &File, path: &Path) -> io::Result<()> {
    let own = format!("/proc/self/fd/{}", file.as_raw_fd());
    Ok(rustix::fs::linkat(CWD, own, CWD, path, AtFlags::SYMLINK_FOLLOW)?)
}

/// Tries `.NAME.N.tmp` beside the target until one is free.
fn free_name<T>(target: &Path, make: impl Fn(&Path) -> io::Result<T>) -> io::Result<(T, PathBuf)> {
    let name = target.file_name().unwrap_or_default().to_string_lossy().chars().take(60).collect::<String>();
    for number in 0.. {
        let path = dir_of(target).join(format!(".{name}.{}{number}.tmp", std::process::id()));
        match make(&path) {
            Ok(made) => return Ok((made, path)),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(e),
        }
    }
    unreachable!("the numbers do not end")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn names(dir: &Path) -> Vec<String> {
        fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn the_name_appears_with_the_whole_content() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("x.st");
        let mut output = Output::create(&target, false).unwrap();
        output.file.write_all(b"all").unwrap();
        assert!(!target.exists());
        output.commit().unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"all");
        assert_eq!(names(dir.path()), ["x.st"]);
    }

    #[test]
    fn what_is_not_committed_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        for draft in [false, true] {
            let target = dir.path().join("x.st");
            let mut output = Output::create(&target, false).unwrap();
            if draft {
                let (file, path) = named(&target).unwrap();
                output = Output { file, target, force: false, draft: Some(path) };
            }
            output.file.write_all(b"half").unwrap();
            drop(output);
            assert!(names(dir.path()).is_empty());
        }
    }

    #[test]
    fn a_file_is_replaced_only_when_that_is_wanted() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("x.st");
        fs::write(&target, b"old").unwrap();
        assert_eq!(Output::create(&target, false).err().unwrap().kind(), Kind::Exists);
        let mut output = Output::create(&target, true).unwrap();
        output.file.write_all(b"new").unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"old");
        output.commit().unwrap();
        assert_eq!((fs::read(&target).unwrap().as_slice(), names(dir.path()).len()), (&b"new"[..], 1));
    }

    #[test]
    fn a_file_that_appears_meanwhile_is_not_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("x.st");
        for named_draft in [false, true] {
            let _ = fs::remove_file(&target);
            let mut output = Output::create(&target, false).unwrap();
            if named_draft {
                let (file, path) = named(&target).unwrap();
                output = Output { file, target: target.clone(), force: false, draft: Some(path) };
            }
            fs::write(&target, b"other").unwrap();
            assert_eq!(output.commit().unwrap_err().kind(), Kind::Exists);
            assert_eq!((fs::read(&target).unwrap().as_slice(), names(dir.path()).len()), (&b"other"[..], 1));
        }
    }
}
