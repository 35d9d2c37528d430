//! A local file that is written to for long, by a path that may come to lead elsewhere meanwhile.
//!
//! ```text
//!   path ──► this file                    it goes on
//!   path ──► another file, or none;
//!            the file has another name    it goes on: it was moved
//!            it has no name any more      a copy beside the old path takes its place: `move_away`
//! ```
//!
//! Whatever the path leads to then, nothing is ever written to it. Who reads at an offset reads the same bytes before and
//! after the copy has taken the place.

use super::{FileSource, ReadAt, Store};
use crate::error::{Error, Kind, Result};
use crate::pool::lock;
use rustix::fs::{CWD, RenameFlags};
use std::ffi::OsString;
use std::fs::{self, File, Metadata};
use std::io::ErrorKind;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, chown};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

/// Bytes that are copied at a time.
const PIECE: usize = 1 << 20;
/// So many files of one second have a name.
const NAMES: u32 = 1000;

/// What has become of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It can be found, and is as long as it was left.
    Ours,
    /// No path is known that leads to it.
    Away,
    /// Somebody else has written to it or has cut it off.
    Altered,
}

/// A file, its lock, and where it is.
#[derive(Debug)]
pub struct Held {
    place: RwLock<Place>,
    /// As long as it was left.
    len: AtomicU64,
    /// Whether it holds what could be saved of a file that somebody else had changed.
    is_salvage: bool,
    /// Whether others are kept out by a lock.
    is_locked: bool,
    /// Whether the lock goes with this: not, when the file has become that of another.
    is_keeper: AtomicBool,
    /// So many files whose place another one takes are kept.
    backups: AtomicU32,
    /// What tells others that it is held, where they cannot see the lock.
    sign: Mutex<Option<Sign>>,
}

/// Something that lasts as long as a file is held at its place.
pub type Sign = Box<dyn std::fmt::Debug + Send + Sync>;

#[derive(Clone, Debug)]
struct Place {
    file: Arc<FileSource>,
    /// Where it was found last.
    path: PathBuf,
    /// After which it is called: the path by which it was opened, or to which it was moved.
    origin: PathBuf,
    /// Another than the one that was opened.
    refuge: Option<PathBuf>,
    /// What it is to be called when it is complete.
    target: Option<OsString>,
}

impl Held {
    /// Opens a file to write it, with its lock.
    ///
    /// # Errors
    /// `Locked` when somebody else has it open to write it.
    pub fn open(path: &Path) -> Result<Self> {
        let file = File::options().read(true).write(true).open(path);
        let file = FileSource::watched(file.map_err(|e| Error::io(e, "cannot open it"))?);
        let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        Self::new(file, &path, &path, None)
    }

    fn new(file: FileSource, path: &Path, origin: &Path, target: Option<OsString>) -> Result<Self> {
        let is_locked = file.lock()?;
        let is_salvage = target.is_some();
        let len = AtomicU64::new(file.len()?);
        let (path, origin) = (path.to_owned(), origin.to_owned());
        let place = Place { file: Arc::new(file), path, origin, refuge: None, target };
        Ok(Self {
            place: RwLock::new(place),
            len,
            is_salvage,
            is_locked,
            is_keeper: AtomicBool::new(true),
            backups: AtomicU32::new(0),
            sign: Mutex::default(),
        })
    }

    pub fn is_locked(&self) -> bool {
        self.is_locked
    }

    /// The path by which it was opened, without links.
    pub fn path(&self) -> PathBuf {
        self.place().path
    }

    /// From now on keeps so many of the files whose place another one takes: `NAME.bak`, the newest, `NAME.bak2` ...
    pub fn keep_backups(&self, count: u32) {
        self.backups.store(count, Relaxed);
    }

    /// Keeps a sign until it is let go or goes elsewhere.
    pub fn keep(&self, sign: Sign) {
        *self.sign() = Some(sign);
    }

    /// Keeps others out no longer.
    pub fn let_go(&self) {
        *self.sign() = None;
        self.file().unlock();
    }

    fn sign(&self) -> MutexGuard<'_, Option<Sign>> {
        lock(&self.sign)
    }

    fn place(&self) -> Place {
        self.place.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The file as it is now. What it is replaced by later is another one: who reads this reads on in it.
    pub fn file(&self) -> Arc<FileSource> {
        self.place.read().unwrap_or_else(PoisonError::into_inner).file.clone()
    }

    fn change_place(&self, change: impl FnOnce(&mut Place)) {
        change(&mut self.place.write().unwrap_or_else(PoisonError::into_inner));
    }

    /// Where it is, when that is not where it was opened.
    pub fn refuge(&self) -> Option<PathBuf> {
        self.place.read().unwrap_or_else(PoisonError::into_inner).refuge.clone()
    }

    /// Looks what has become of it.
    pub fn standing(&self) -> Result<Standing> {
        let place = self.place();
        let own = place.file.file().metadata()?;
        if own.len() != self.len.load(Relaxed) {
            return Ok(Standing::Altered);
        }
        if leads_to(&place.path, &own) {
            return Ok(Standing::Ours);
        }
        // The system knows the name by which it was opened, wherever that is now.
        let moved = fs::read_link(format!("/proc/self/fd/{}", place.file.file().as_raw_fd()));
        let Some(moved) = moved.ok().filter(|path| is_at(path, &own)) else { return Ok(Standing::Away) };
        log::warn!("{} was moved: changes go to {}", place.path.display(), moved.display());
        self.change_place(|place| {
            place.refuge = Some(moved.clone());
            place.origin.clone_from(&moved);
            place.path = moved;
        });
        Ok(Standing::Ours)
    }

    /// Makes a copy of the first `len` bytes, beside the path by which it was opened, and goes on with that.
    ///
    /// # Errors
    /// Then it goes on with the file that it has.
    pub fn move_away(&self, len: u64, date: &str) -> Result<PathBuf> {
        // Space that was reserved behind its end is needed by the copy now.
        self.set_len(self.len.load(Relaxed))?;
        let copy = self.beside(date)?;
        copy_bytes(&self.file(), &copy.file(), len)?;
        let path = copy.publish()?;
        let file = copy.file();
        self.len.store(len, Relaxed);
        *self.sign() = None;
        self.change_place(|place| {
            place.file = file;
            place.path.clone_from(&path);
            place.refuge = Some(path.clone());
        });
        Ok(path)
    }

    /// An empty file beside the path by which this was opened. It has no name that lasts before it is published.
    pub fn beside(&self, date: &str) -> Result<Self> {
        let place = self.place();
        let own = place.file.file().metadata()?;
        let mut target = place.origin.file_stem().unwrap_or_default().to_owned();
        target.push(format!(".conflict-{date}"));
        let (file, draft) = draft(&place.origin, &own)?;
        Self::new(file, &draft, &place.origin, Some(target))
    }

    /// An empty file beside this one that is to take its place. It has no name before that, where the file system can do
    /// so: nothing is left of it after a crash.
    pub fn sibling(&self) -> Result<Self> {
        let place = self.place();
        let own = place.file.file().metadata()?;
        let (file, draft) = match nameless(&place.path, &own) {
            Some(made) => made,
            None => draft(&place.path, &own)?,
        };
        Self::new(file, &draft, &place.path, Some(OsString::new()))
    }

    /// Lets another file, which is complete, take the place of this one, under its name, with its mode, owner and
    /// attributes. Who reads the old one reads on in it.
    ///
    /// # Errors
    /// Then the old one is where it was.
    pub fn supplant(&self, by: Self) -> Result<()> {
        let (place, new) = (self.place(), by.place());
        if self.standing()? != Standing::Ours {
            return Err(Error::new(Kind::Changed, format!("{} was changed by somebody else", place.path.display())));
        }
        let failed = |e| Error::io(e, format!("cannot put the new archive in the place of {}", place.path.display()));
        copy_xattrs(place.file.file(), new.file.file());
        new.file.file().sync_all().map_err(failed)?;
        if !new.path.exists() {
            let of_fd = format!("/proc/self/fd/{}", new.file.file().as_raw_fd());
            let follow = rustix::fs::AtFlags::SYMLINK_FOLLOW;
            rustix::fs::linkat(CWD, of_fd, CWD, &new.path, follow).map_err(|e| failed(e.into()))?;
        }
        self.back_up(&place.path).map_err(failed)?;
        fs::rename(&new.path, &place.path).map_err(failed)?;
        by.change_place(|place| place.target = None);
        by.is_keeper.store(false, Relaxed);
        self.len.store(new.file.len()?, Relaxed);
        self.change_place(|place| place.file = new.file);
        let dir = place.path.parent().unwrap_or(Path::new("/"));
        File::open(dir).and_then(|dir| dir.sync_all()).map_err(failed)
    }

    /// Gives a file one more name, under which it stays when another takes its place. Where a file has only one name, it is
    /// copied.
    fn back_up(&self, path: &Path) -> std::io::Result<()> {
        let name = |number: u32| {
            let mut name = path.as_os_str().to_owned();
            name.push(if number == 1 { ".bak".into() } else { format!(".bak{number}") });
            PathBuf::from(name)
        };
        let count = self.backups.load(Relaxed);
        for number in (1..count).rev().filter(|number| name(*number).symlink_metadata().is_ok()) {
            fs::rename(name(number), name(number + 1))?;
        }
        if count == 0 {
            return Ok(());
        }
        // Not before the new one is there is the old one gone.
        let draft = draft_name(path, NAMES);
        let _ = fs::remove_file(&draft);
        if fs::hard_link(path, &draft).is_err() {
            fs::copy(path, &draft)?;
            File::open(&draft)?.sync_all()?;
        }
        fs::rename(&draft, name(1))
    }

    /// Gives a file beside another its name, after what it holds was made durable.
    pub fn publish(&self) -> Result<PathBuf> {
        let place = self.place();
        let Some(target) = place.target else { return Ok(place.path) };
        let failed = |e| Error::io(e, format!("cannot give {} a name", place.path.display()));
        self.sync()?;
        let path = rename_free(&place.path, &target).map_err(failed)?;
        self.change_place(|place| {
            place.path.clone_from(&path);
            place.refuge = Some(path.clone());
            place.target = None;
        });
        let dir = path.parent().unwrap_or(Path::new("/"));
        File::open(dir).and_then(|dir| dir.sync_all()).map_err(failed)?;
        Ok(path)
    }

    /// After a failure nobody knows how much was done.
    fn note_len(&self, done: Result<()>, len: impl FnOnce(u64) -> u64) -> Result<()> {
        let now = match &done {
            Ok(()) => len(self.len.load(Relaxed)),
            Err(_) => self.file().len()?,
        };
        self.len.store(now, Relaxed);
        done
    }
}

impl Drop for Held {
    /// What was never published was never complete.
    fn drop(&mut self) {
        let place = self.place();
        if place.target.is_some() {
            let _ = fs::remove_file(&place.path);
        }
        // Who still reads the file keeps nobody from writing it.
        if self.is_keeper.load(Relaxed) {
            place.file.unlock();
        }
    }
}

/// Whether a path leads to this file, as far as one can see: what cannot be asked is taken for it.
fn leads_to(path: &Path, own: &Metadata) -> bool {
    match fs::metadata(path) {
        Ok(found) => is_same(&found, own),
        Err(e) => !matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory),
    }
}

fn is_at(path: &Path, own: &Metadata) -> bool {
    fs::symlink_metadata(path).is_ok_and(|found| is_same(&found, own))
}

fn is_same(a: &Metadata, b: &Metadata) -> bool {
    (a.dev(), a.ino()) == (b.dev(), b.ino())
}

/// A new file in the directory of another, with its mode and owner, and without a name; and a name that is free for it.
fn nameless(origin: &Path, like: &Metadata) -> Option<(FileSource, PathBuf)> {
    use rustix::fs::{Mode, OFlags, openat};
    let dir = origin.parent()?;
    let file = openat(CWD, dir, OFlags::RDWR | OFlags::CLOEXEC | OFlags::TMPFILE, Mode::RUSR | Mode::WUSR).ok()?;
    let file = File::from(file);
    let _ = std::os::unix::fs::fchown(&file, Some(like.uid()), Some(like.gid()));
    let _ = file.set_permissions(like.permissions());
    let path = (0..NAMES).map(|number| draft_name(origin, number)).find(|path| path.symlink_metadata().is_err())?;
    Some((FileSource::watched(file), path))
}

fn draft_name(origin: &Path, number: u32) -> PathBuf {
    let name = origin.file_stem().unwrap_or_default().to_string_lossy().chars().take(60).collect::<String>();
    origin.with_file_name(format!(".{name}.{}{number}.tmp", std::process::id()))
}

/// A new file in the directory of another, with its mode and, where that is allowed, its owner.
fn draft(origin: &Path, like: &Metadata) -> Result<(FileSource, PathBuf)> {
    for number in 0..NAMES {
        let path = draft_name(origin, number);
        match File::options().read(true).write(true).create_new(true).mode(0o600).open(&path) {
            Ok(file) => {
                let _ = chown(&path, Some(like.uid()), Some(like.gid()));
                let _ = file.set_permissions(like.permissions());
                return Ok((FileSource::watched(file), path));
            }
            Err(e) if e.kind() == ErrorKind::AlreadyExists => {}
            Err(e) => {
                return Err(Error::io(e, format!("cannot save the changes beside {}", origin.display()))
                    .hint("make its directory again, or let this user write to it: what is not saved is tried again"));
            }
        }
    }
    Err(Error::new(Kind::Exists, format!("no name is free beside {}", origin.display())))
}

/// Renames a file to `TARGET.st`, `TARGET-2.st` …: the first that nobody has.
fn rename_free(path: &Path, target: &OsString) -> std::io::Result<PathBuf> {
    for number in 1..=NAMES {
        let mut name = target.clone();
        name.push(if number > 1 { format!("-{number}.st") } else { ".st".to_owned() });
        let to = path.with_file_name(name);
        match rustix::fs::renameat_with(CWD, path, CWD, &to, RenameFlags::NOREPLACE) {
            Ok(()) => return Ok(to),
            Err(rustix::io::Errno::EXIST) => {}
            // A file system that cannot refuse.
            Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) if !to.exists() => {
                fs::rename(path, &to)?;
                return Ok(to);
            }
            Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => {}
            Err(e) => return Err(e.into()),
        }
    }
    Err(ErrorKind::AlreadyExists.into())
}

/// Extended attributes of one file for another, as far as the file system takes them.
fn copy_xattrs(from: &File, to: &File) {
    let mut names = vec![0; 64 << 10];
    let Ok(len) = rustix::fs::flistxattr(from, &mut names[..]) else { return };
    for name in names[..len].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let mut value = vec![0; 64 << 10];
        let got = rustix::fs::fgetxattr(from, name, &mut value[..]);
        let set = got.and_then(|len| rustix::fs::fsetxattr(to, name, &value[..len], rustix::fs::XattrFlags::empty()));
        if let Err(e) = set {
            log::debug!("an extended attribute of the archive is lost: {e}");
        }
    }
}

/// Copies the front of a file, by the file system where it can.
fn copy_bytes(from: &FileSource, to: &FileSource, len: u64) -> Result<()> {
    let mut at = 0;
    while at < len {
        let (mut a, mut b) = (at, at);
        let most = usize::try_from(len - at).unwrap_or(usize::MAX).min(1 << 30);
        match rustix::fs::copy_file_range(from.file(), Some(&mut a), to.file(), Some(&mut b), most) {
            Ok(0) | Err(_) => break,
            Ok(copied) => at += copied as u64,
        }
    }
    let mut piece = vec![0; PIECE.min((len - at) as usize)];
    while at < len {
        let piece = &mut piece[..PIECE.min((len - at) as usize)];
        from.read_exact_at(at, piece)?;
        to.write_at(at, piece)?;
        at += piece.len() as u64;
    }
    Ok(())
}

impl ReadAt for Held {
    fn len(&self) -> Result<u64> {
        self.file().len()
    }

    fn read_at(&self, at: u64, into: &mut [u8]) -> Result<usize> {
        self.file().read_at(at, into)
    }

    fn is_changed(&self) -> bool {
        self.is_salvage || self.file().is_changed()
    }

    fn will_read(&self, range: Range<u64>) {
        self.file().will_read(range);
    }

    fn next_data(&self, at: u64) -> Result<Option<Range<u64>>> {
        self.file().next_data(at)
    }
}

impl Store for Held {
    fn write_at(&self, at: u64, bytes: &[u8]) -> Result<()> {
        self.note_len(self.file().write_at(at, bytes), |len| len.max(at + bytes.len() as u64))
    }

    fn set_len(&self, len: u64) -> Result<()> {
        self.note_len(self.file().set_len(len), |_| len)
    }

    fn sync(&self) -> Result<()> {
        self.file().sync()
    }

    fn reserve(&self, range: Range<u64>) -> Result<()> {
        self.file().reserve(range)
    }

    fn punch(&self, range: Range<u64>) -> Result<bool> {
        self.file().punch(range)
    }

    fn free(&self) -> Result<u64> {
        self.file().free()
    }

    fn exclude_readers(&self) -> Result<bool> {
        self.file().exclude_readers()
    }

    fn admit_readers(&self) {
        self.file().admit_readers();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(dir: &Path) -> (Held, PathBuf) {
        let path = dir.join("a.st");
        fs::write(&path, b"as it was").unwrap();
        (Held::open(&path).unwrap(), path)
    }

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<_> =
            fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn what_others_write_is_seen_and_what_it_writes_itself_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let (held, path) = held(dir.path());
        held.write_at(9, b", and more").unwrap();
        held.set_len(12).unwrap();
        assert_eq!((held.standing().unwrap(), held.is_changed()), (Standing::Ours, false));
        File::options().append(true).open(&path).unwrap().set_len(11).unwrap();
        assert_eq!((held.standing().unwrap(), held.is_changed()), (Standing::Altered, true));
    }

    #[test]
    fn a_sibling_takes_the_place_when_it_is_complete_and_not_before() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let (held, path) = held(dir.path());
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let before = held.file();
        drop(held.sibling().unwrap());
        let sibling = held.sibling().unwrap();
        sibling.write_at(0, b"as it will be").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"as it was");
        held.supplant(sibling).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"as it will be");
        assert_eq!((held.standing().unwrap(), held.len().unwrap()), (Standing::Ours, 13));
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o640);
        assert_eq!(Held::open(&path).unwrap_err().kind(), Kind::Locked, "the lock goes along");
        let mut old = [0; 9];
        before.read_exact_at(0, &mut old).unwrap();
        assert_eq!((&old, names(dir.path())), (b"as it was", vec!["a.st".to_owned()]));
        drop(held);
        Held::open(&path).unwrap();
    }

    #[test]
    fn a_file_that_was_moved_is_the_same_file() {
        let dir = tempfile::tempdir().unwrap();
        let (held, path) = held(dir.path());
        fs::rename(&path, dir.path().join("b.st")).unwrap();
        fs::write(&path, b"another one").unwrap();
        assert_eq!(held.standing().unwrap(), Standing::Ours);
        assert_eq!(held.refuge().unwrap().file_name().unwrap(), "b.st");
        fs::remove_file(dir.path().join("b.st")).unwrap();
        assert_eq!(held.standing().unwrap(), Standing::Away);
    }

    #[test]
    fn a_file_that_is_gone_is_copied_and_nothing_is_written_to_what_came_in_its_place() {
        let dir = tempfile::tempdir().unwrap();
        let (held, path) = held(dir.path());
        fs::write(dir.path().join("new"), b"as it is").unwrap();
        fs::rename(dir.path().join("new"), &path).unwrap();
        assert_eq!(held.standing().unwrap(), Standing::Away);
        for expected in ["a.conflict-D.st", "a.conflict-D-2.st"] {
            let refuge = held.move_away(5, "D").unwrap();
            assert_eq!(refuge.file_name().unwrap(), expected);
            assert_eq!(held.standing().unwrap(), Standing::Ours);
            held.write_at(5, b" is").unwrap();
            assert_eq!(fs::read(&refuge).unwrap(), b"as it is");
        }
        assert_eq!(fs::read(&path).unwrap(), b"as it is");
        assert_eq!(names(dir.path()), ["a.conflict-D-2.st", "a.conflict-D.st", "a.st"]);
    }

    #[test]
    fn what_is_never_published_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let (held, _) = held(dir.path());
        let beside = held.beside("D").unwrap();
        beside.write_at(0, b"half").unwrap();
        assert_eq!(names(dir.path()).len(), 2);
        drop(beside);
        assert_eq!(names(dir.path()), ["a.st"]);
    }
}
