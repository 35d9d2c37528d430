//! The directory of an overlay, and all that is done in it. Nothing is asked of its file system but names, bytes, and that a
//! rename puts one file in the place of another.

use super::state::{CHANGES_MAX, Move};
use crate::error::{Error, Kind, Result, Within};
use crate::source::FileSource;
use crate::source::free_in;
use rustix::fs::{Mode, OFlags};
use std::collections::BTreeSet;
use std::fs::{self, File, FileTimes};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Called before each step that changes something in the directory. A test looks at it there, or ends there.
pub type Before = dyn Fn(&Path) -> Result<()> + Send + Sync;

/// What lies in the directory.
pub const CHANGES: &str = "changes";
pub const FILES: &str = "files";
pub const NEW: &str = "new";
pub const JOURNAL: &str = "journal";
pub const LOCK: &str = "overlay";
const DRAFT: &str = "changes.new";
const README: &str = "README.txt";

const README_TEXT: &str = "\
This folder holds what was changed in an archive or a folder that stmount has shown; the original is as it was.\n\
Changed and new files are below `files`, as they are; `changes` knows the rest: names, deletions, renames, attributes.\n\
`stmount overlay --help` tells how to look at it, to throw it away, to take it along, or to bring it into the original.\n";

/// Files that are brought to the medium at once, and so many are open until that is done.
const SYNCS: usize = 16;
pub const BATCH: usize = 256;

/// Contents of others are nobody's business.
const FILE_MODE: u32 = 0o600;

/// The directory of one overlay.
#[derive(Clone)]
pub struct Dir {
    path: PathBuf,
    before: Option<Arc<Before>>,
}

/// What was found under a name: its size and its time.
pub type Seen = (u64, (i64, u32));

impl Dir {
    pub fn new(path: PathBuf) -> Self {
        Self { path, before: None }
    }

    /// The same, which tells before it does anything.
    #[must_use]
    pub fn watched(self, before: Option<Arc<Before>>) -> Self {
        Self { before, ..self }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn of(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Where contents lie in clear.
    pub fn clear(&self, path: &[u8]) -> PathBuf {
        self.of(FILES).join(std::ffi::OsStr::from_bytes(path))
    }

    /// Where contents are written to first.
    pub fn new_file(&self, number: u64) -> PathBuf {
        self.of(NEW).join(number.to_string())
    }

    fn step(&self) -> Result<()> {
        self.before.as_ref().map_or(Ok(()), |before| before(&self.path))
    }

    /// The file `changes`, if there is one.
    pub fn read_changes(&self) -> Result<Option<Vec<u8>>> {
        let path = self.of(CHANGES);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(Error::io(e, format!("cannot read {}", path.display()))),
        };
        let mut bytes = Vec::new();
        file.take(CHANGES_MAX + 1).read_to_end(&mut bytes).within(|| path.display())?;
        if bytes.len() as u64 > CHANGES_MAX {
            return Err(Error::new(Kind::Limit, format!("{} is larger than 1 GiB", path.display())));
        }
        Ok(Some(bytes))
    }

    /// Puts another file `changes` in the place of the one that is there: from then on the overlay is what that says.
    pub fn write_changes(&self, bytes: &[u8]) -> Result<()> {
        let (draft, path) = (self.of(DRAFT), self.of(CHANGES));
        let failed = |e| Error::io(e, format!("cannot write {}", path.display()));
        self.step()?;
        let mut file = created(&draft).map_err(failed)?;
        file.write_all(bytes).and_then(|()| file.sync_all()).map_err(failed)?;
        drop(file);
        self.step()?;
        fs::rename(&draft, &path).map_err(failed)?;
        sync_dir(&self.path);
        Ok(())
    }

    /// Makes what is there besides `changes`.
    pub fn make(&self) -> Result<()> {
        let failed = |e| Error::io(e, format!("cannot make the overlay {}", self.path.display()));
        for dir in [NEW, FILES] {
            own_dir(&self.of(dir)).map_err(failed)?;
        }
        if !self.of(README).exists() {
            fs::write(self.of(README), README_TEXT).map_err(failed)?;
        }
        sync_dir(&self.path);
        Ok(())
    }

    /// Whether nothing is in it but what somebody has begun to make an overlay with.
    pub fn is_fresh(&self) -> Result<bool> {
        let failed = |e| Error::io(e, format!("cannot read {}", self.path.display()));
        for entry in fs::read_dir(&self.path).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name();
            let is_begun = [LOCK, "overlay.lock", DRAFT, README].iter().any(|known| name == *known);
            let is_empty = |path: &Path| fs::read_dir(path).is_ok_and(|mut dir| dir.next().is_none());
            let is_ours = [NEW, FILES].iter().any(|known| name == *known) && is_empty(&entry.path());
            if !is_begun && !is_ours {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Removes what is left below `new`.
    pub fn sweep(&self) -> Result<()> {
        for entry in fs::read_dir(self.of(NEW)).into_iter().flatten().flatten() {
            self.step()?;
            let path = entry.path();
            let done = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
            done.map_err(|e| Error::io(e, format!("cannot remove {}", path.display())))?;
        }
        Ok(())
    }

    /// A new file for contents.
    pub fn create(&self, number: u64) -> Result<File> {
        self.step()?;
        let path = self.new_file(number);
        created(&path).map_err(|e| Error::io(e, format!("cannot write {}", path.display())))
    }

    /// Gives contents that are complete their time, and makes them durable. Returns what is seen of them from then on.
    fn seal(&self, file: &File, mtime: (i64, u32)) -> Result<Seen> {
        let failed = |e| Error::io(e, format!("cannot write to {}", self.of(NEW).display()));
        // A file system may have no place for such a time: what it makes of it is noted.
        if let Err(e) = file.set_times(FileTimes::new().set_modified(time_of(mtime))) {
            log::debug!("{}: a time is lost: {e}", self.path.display());
        }
        file.sync_all().map_err(failed)?;
        Ok(seen_of(&file.metadata().map_err(failed)?))
    }

    /// The same for many at once: file systems bring what comes together to the medium together.
    pub fn seal_all(&self, files: &[(File, (i64, u32))]) -> Result<Vec<Seen>> {
        let share = files.len().div_ceil(SYNCS).max(1);
        let seal =
            |part: &[(File, (i64, u32))]| part.iter().map(|(file, mtime)| self.seal(file, *mtime)).collect::<Vec<_>>();
        let sealed = std::thread::scope(|scope| {
            let parts: Vec<_> = files.chunks(share).map(|part| scope.spawn(move || seal(part))).collect();
            let join = |part: std::thread::ScopedJoinHandle<'_, Vec<Result<Seen>>>| part.join().unwrap_or_default();
            parts.into_iter().flat_map(join).collect::<Result<Vec<Seen>>>()
        })?;
        match sealed.len() == files.len() {
            true => Ok(sealed),
            false => Err(Error::new(Kind::System, "a thread that brings contents to the medium has ended")),
        }
    }

    /// What is under a name below `files`; nothing where it is no file.
    pub fn seen(&self, path: &[u8]) -> Option<Seen> {
        let meta = fs::symlink_metadata(self.clear(path)).ok()?;
        meta.is_file().then(|| seen_of(&meta))
    }

    /// Opens contents. Never a link, which could lead anywhere, nor what would wait.
    pub fn open(&self, path: &Path) -> Result<FileSource> {
        let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits() as i32;
        let gone = |e: std::io::Error| {
            let what = format!("contents are missing from the overlay: {}", path.display());
            let hint = "put the file back; or `stmount overlay reset DIR PATH`, for what the original has";
            Error::new(Kind::Io, what).caused_by(e).hint(hint)
        };
        let file = File::options().read(true).custom_flags(flags).open(path).map_err(gone)?;
        match file.metadata() {
            Ok(meta) if meta.is_file() => Ok(FileSource::new(file)),
            Ok(_) => Err(gone(ErrorKind::InvalidInput.into())),
            Err(e) => Err(gone(e)),
        }
    }

    /// Does a step. One that was done before does nothing.
    pub fn act(&self, step: &Move) -> Result<()> {
        self.step()?;
        let (what, done) = match step {
            Move::Aside { from, to } => {
                let (from, to) = (self.clear(from), self.new_file(*to));
                let done = if to.exists() { Ok(()) } else { fs::rename(&from, &to) };
                (from, done)
            }
            Move::Gone { path } => {
                let path = self.clear(path);
                // In its place may be a directory already.
                let done = if path.is_dir() { Ok(()) } else { fs::remove_file(&path) };
                (path, done)
            }
            Move::Into { from, to } => {
                let (from, to) = (self.new_file(*from), self.clear(to));
                let parent = to.parent().map(Path::to_owned).unwrap_or_default();
                let put = || {
                    own_dirs(&parent)?;
                    clear_way(&to);
                    fs::rename(&from, &to)
                };
                let done = if from.exists() { put() } else { Ok(()) };
                (to, done)
            }
        };
        match done {
            // Somebody has taken it away: reading it says so.
            Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(()),
            done => done.map_err(|e| Error::io(e, format!("cannot change {}", what.display()))),
        }
    }

    /// Makes the names of what lies below `new` durable.
    pub fn sync_new(&self) {
        sync_dir(&self.of(NEW));
    }

    /// Makes the names of steps durable, and takes away directories that have nothing in them any more.
    pub fn tidy(&self, moves: &[Move]) {
        let mut dirs: Vec<PathBuf> = moves
            .iter()
            .flat_map(|step| match step {
                Move::Aside { from: path, .. } | Move::Gone { path } | Move::Into { to: path, .. } => {
                    self.clear(path).parent().map(Path::to_owned)
                }
            })
            .collect();
        dirs.sort();
        dirs.dedup();
        let (top, mut changed) = (self.of(FILES), BTreeSet::new());
        for dir in dirs.iter().rev() {
            let mut at = dir.as_path();
            while at != top && at.starts_with(&top) && fs::remove_dir(at).is_ok() {
                at = at.parent().unwrap_or(&top);
            }
            // The names of new directories are in those above.
            while at.starts_with(&top) && changed.insert(at.to_owned()) {
                at = at.parent().unwrap_or(Path::new("/"));
            }
        }
        changed.iter().filter(|dir| dir.exists()).for_each(|dir| sync_dir(dir));
        self.sync_new();
    }

    /// Whether a name can be given here, and is what it was when it is listed.
    pub fn takes_name(&self, name: &[u8]) -> bool {
        let dir = self.of(NEW).join("name");
        let path = dir.join(std::ffi::OsStr::from_bytes(name));
        let is_taken = own_dir(&dir).is_ok() && created(&path).is_ok();
        let listed =
            fs::read_dir(&dir).into_iter().flatten().flatten().any(|entry| entry.file_name().as_bytes() == name);
        let _ = fs::remove_dir_all(&dir);
        is_taken && listed
    }

    /// Whether names are the same here that differ only by case.
    pub fn ignores_case(&self) -> bool {
        self.of("CHANGES").exists() || self.of("readme.TXT").exists()
    }

    /// Bytes that are free.
    pub fn free(&self) -> Result<u64> {
        free_in(&self.path)
    }

    /// All files below a directory in `files`, by their paths in that, with their sizes.
    pub fn clear_below(&self, top: Vec<u8>) -> Result<Vec<(Vec<u8>, u64)>> {
        let (mut found, mut todo) = (Vec::new(), vec![top]);
        while let Some(dir) = todo.pop() {
            for entry in fs::read_dir(self.clear(&dir)).into_iter().flatten() {
                let entry = entry.within(|| self.of(FILES).display().to_string())?;
                let mut path: Vec<u8> = dir.clone();
                super::join(&mut path, entry.file_name().as_bytes());
                match entry.metadata() {
                    Ok(meta) if meta.is_dir() => todo.push(path),
                    Ok(meta) => found.push((path, meta.len())),
                    Err(_) => {}
                }
            }
        }
        found.sort();
        Ok(found)
    }
}

fn created(path: &Path) -> std::io::Result<File> {
    let flags = OFlags::NOFOLLOW.bits() as i32;
    let mode = Mode::from_raw_mode(FILE_MODE).bits();
    File::options().read(true).write(true).create(true).truncate(true).mode(mode).custom_flags(flags).open(path)
}

fn own_dir(path: &Path) -> std::io::Result<()> {
    match fs::DirBuilder::new().mode(0o700).create(path) {
        Err(e) if e.kind() == ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        done => done,
    }
}

fn own_dirs(path: &Path) -> std::io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Takes directories away that have nothing in them, where a file is to be.
fn clear_way(to: &Path) {
    if fs::symlink_metadata(to).is_ok_and(|meta| meta.is_dir()) {
        for entry in fs::read_dir(to).into_iter().flatten().flatten() {
            clear_way(&entry.path());
        }
        let _ = fs::remove_dir(to);
    }
}

/// Not every file system can do so, and those that cannot need it least.
fn sync_dir(path: &Path) {
    if let Err(e) = File::open(path).and_then(|dir| dir.sync_all()) {
        log::debug!("{}: cannot bring names to the medium: {e}", path.display());
    }
}

fn seen_of(meta: &fs::Metadata) -> Seen {
    let time = meta.modified().unwrap_or(UNIX_EPOCH);
    let (secs, nanos) = match time.duration_since(UNIX_EPOCH) {
        Ok(since) => (since.as_secs() as i64, since.subsec_nanos()),
        Err(e) => {
            let before = e.duration();
            match before.subsec_nanos() {
                0 => (-(before.as_secs() as i64), 0),
                nanos => (-(before.as_secs() as i64) - 1, 1_000_000_000 - nanos),
            }
        }
    };
    (meta.len(), (secs, nanos))
}

fn time_of((secs, nanos): (i64, u32)) -> SystemTime {
    let whole = Duration::from_secs(secs.unsigned_abs());
    let at = if secs < 0 { UNIX_EPOCH.checked_sub(whole) } else { UNIX_EPOCH.checked_add(whole) };
    at.and_then(|at| at.checked_add(Duration::from_nanos(nanos.into()))).unwrap_or(UNIX_EPOCH)
}
