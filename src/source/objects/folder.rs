//! A store of objects in a folder.
//!
//! ```text
//!   tmp/PID.N ──write, fsync──► rename ──► ab/abcdef…        whole or not there, whatever ends the process
//!                                             └──fsync of ab/ ── sync()
//! ```

use super::{Drawer, Guard, Hash, Hold, MARK, MARK_MAX, Objects, mark_of, uid_of, unhex};
use crate::error::{Error, Kind, Result};
use crate::pool::lock;
use rustix::fs::{FlockOperation, flock};
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

const TMP: &str = "tmp";
const LOCK: &str = "lock";

/// Numbers of what is being written by this process.
static NEXT: AtomicU64 = AtomicU64::new(0);

/// The objects in a folder.
pub struct FolderObjects {
    dir: PathBuf,
    uid: [u8; 16],
    /// Directories with names that may not be on the medium yet.
    fresh: Mutex<BTreeSet<PathBuf>>,
}

impl FolderObjects {
    /// Makes a store of a folder, which is made where it is missing.
    ///
    /// # Errors
    /// `Exists` when it is one already; `NotEmpty` when something else is in it.
    pub fn init(dir: &Path, uid: [u8; 16]) -> Result<Self> {
        let failed = |e| Error::io(e, format!("cannot make a store of {}", dir.display()));
        fs::create_dir_all(dir).map_err(failed)?;
        if dir.join(MARK).exists() {
            return Err(Error::new(Kind::Exists, format!("{} is a store already", dir.display())));
        }
        if fs::read_dir(dir).map_err(failed)?.next().is_some() {
            return Err(Error::new(Kind::NotEmpty, format!("{} is not empty", dir.display()))
                .hint("a store is a folder of its own: name a new one"));
        }
        fs::create_dir(dir.join(TMP)).map_err(failed)?;
        File::create(dir.join(LOCK)).and_then(|file| file.sync_all()).map_err(failed)?;
        let draft = dir.join(TMP).join(MARK);
        write_whole(&draft, mark_of(&uid).as_bytes()).map_err(failed)?;
        fs::rename(&draft, dir.join(MARK)).and_then(|()| sync_dir(dir)).map_err(failed)?;
        Ok(Self { dir: dir.to_owned(), uid, fresh: Mutex::default() })
    }

    /// Opens the store in a folder; `None` when there is none.
    pub fn open(dir: &Path) -> Result<Option<Self>> {
        let path = dir.join(MARK);
        if !path.is_file() {
            return Ok(None);
        }
        let mut mark = Vec::new();
        let read = File::open(&path).and_then(|file| file.take(MARK_MAX).read_to_end(&mut mark));
        read.map_err(|e| Error::io(e, format!("cannot read {}", path.display())))?;
        let unknown = || {
            Error::new(Kind::Unsupported, format!("{} is of no store that this version knows", path.display()))
                .hint("a newer version of stmount may know it")
        };
        let uid = uid_of(&mark).ok_or_else(unknown)?;
        Ok(Some(Self { dir: dir.to_owned(), uid, fresh: Mutex::default() }))
    }

    fn path(&self, drawer: Drawer, hash: &Hash) -> PathBuf {
        let [dir, name] = drawer.path(hash);
        self.dir.join(dir).join(name)
    }

    fn failed(&self, e: io::Error, doing: &str) -> Error {
        Error::io(e, format!("cannot {doing} the store {}", self.dir.display()))
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let dir = path.parent().unwrap_or(&self.dir);
        if !dir.is_dir() {
            fs::create_dir_all(dir)?;
            lock(&self.fresh).insert(self.dir.clone());
        }
        fs::create_dir_all(self.dir.join(TMP))?;
        let name = format!("{}.{}", std::process::id(), NEXT.fetch_add(1, Relaxed));
        let draft = self.dir.join(TMP).join(name);
        let written = write_whole(&draft, bytes).and_then(|()| fs::rename(&draft, path));
        if written.is_err() {
            let _ = fs::remove_file(&draft);
        }
        lock(&self.fresh).insert(dir.to_owned());
        written
    }

    fn dirs(&self, drawer: Drawer) -> io::Result<Vec<PathBuf>> {
        if drawer == Drawer::Catalogs {
            let dir = self.dir.join("catalogs");
            return Ok(if dir.is_dir() { vec![dir] } else { Vec::new() });
        }
        let is_one = |name: &str| unhex::<1>(name).is_some();
        let dirs = fs::read_dir(&self.dir)?.filter_map(|entry| Some(entry.ok()?.path()));
        Ok(dirs.filter(|dir| dir.file_name().and_then(|name| name.to_str()).is_some_and(is_one)).collect())
    }
}

fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::options().write(true).create_new(true).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

impl Objects for FolderObjects {
    fn uid(&self) -> [u8; 16] {
        self.uid
    }

    fn place(&self) -> String {
        self.dir.display().to_string()
    }

    fn get(&self, drawer: Drawer, hash: &Hash, most: u64) -> Result<Option<Vec<u8>>> {
        let file = match File::open(self.path(drawer, hash)) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file.map_err(|e| self.failed(e, "read"))?,
        };
        let mut bytes = Vec::new();
        file.take(most.saturating_add(1)).read_to_end(&mut bytes).map_err(|e| self.failed(e, "read"))?;
        if bytes.len() as u64 > most {
            return Err(Error::new(Kind::Damaged, format!("an object in {} is too long", self.place())));
        }
        Ok(Some(bytes))
    }

    fn has(&self, drawer: Drawer, hash: &Hash) -> Result<bool> {
        self.path(drawer, hash).try_exists().map_err(|e| self.failed(e, "look into"))
    }

    fn put(&self, drawer: Drawer, hash: &Hash, bytes: &[u8]) -> Result<bool> {
        let path = self.path(drawer, hash);
        // What is there may have rotted: then it is written once more.
        let there = self.get(drawer, hash, bytes.len() as u64).ok().flatten();
        if there.is_some_and(|there| there == bytes) {
            if let Some(dir) = path.parent() {
                // Whoever put it may not have come to make its name last.
                lock(&self.fresh).insert(dir.to_owned());
            }
            return Ok(false);
        }
        self.write(&path, bytes).map(|()| true).map_err(|e| self.failed(e, "write to"))
    }

    fn sync(&self) -> Result<()> {
        let fresh = std::mem::take(&mut *lock(&self.fresh));
        let synced = fresh.iter().try_for_each(|dir| sync_dir(dir));
        synced.map_err(|e| self.failed(e, "write to"))
    }

    fn list(&self, drawer: Drawer, visit: &mut dyn FnMut(Hash, u64) -> Result<()>) -> Result<()> {
        for dir in self.dirs(drawer).map_err(|e| self.failed(e, "list"))? {
            for entry in fs::read_dir(dir).map_err(|e| self.failed(e, "list"))? {
                let entry = entry.map_err(|e| self.failed(e, "list"))?;
                let Some(hash) = entry.file_name().to_str().and_then(unhex) else { continue };
                visit(hash, entry.metadata().map_err(|e| self.failed(e, "list"))?.len())?;
            }
        }
        Ok(())
    }

    fn remove(&self, drawer: Drawer, hash: &Hash) -> Result<()> {
        match fs::remove_file(self.path(drawer, hash)) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed.map_err(|e| self.failed(e, "remove from")),
        }
    }

    fn hold(&self, how: Hold) -> Result<Guard> {
        let file = File::options().write(true).create(true).truncate(false).open(self.dir.join(LOCK));
        let file = file.map_err(|e| self.failed(e, "hold"))?;
        let (operation, who) = match how {
            Hold::Shared => (FlockOperation::NonBlockingLockShared, "somebody removes from it just now"),
            Hold::Alone => (FlockOperation::NonBlockingLockExclusive, "somebody adds to it just now, or packs over it"),
        };
        match flock(&file, operation) {
            Err(rustix::io::Errno::WOULDBLOCK) => {
                Err(Error::new(Kind::Locked, format!("the store {}: {who}", self.place())).hint("again, a bit later"))
            }
            locked => locked.map_err(|e| self.failed(e.into(), "hold")),
        }?;
        if how == Hold::Alone {
            // Nobody is writing: what is left there is of somebody who was ended.
            let left = fs::read_dir(self.dir.join(TMP)).into_iter().flatten().flatten();
            left.for_each(|entry| drop(fs::remove_file(entry.path())));
        }
        Ok(Box::new(file))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::id::Id;
    use crate::source::objects::sound;

    fn store(dir: &Path) -> FolderObjects {
        FolderObjects::init(&dir.join("s"), [7; 16]).unwrap()
    }

    #[test]
    fn what_is_put_is_got_and_listed_and_can_be_removed() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(dir.path());
        let hash = Id::of(b"bytes").0;
        assert!(store.put(Drawer::Segments, &hash, b"bytes").unwrap());
        assert!(!store.put(Drawer::Segments, &hash, b"bytes").unwrap(), "it is there");
        store.sync().unwrap();
        let store = FolderObjects::open(&dir.path().join("s")).unwrap().unwrap();
        assert_eq!(store.uid(), [7; 16]);
        assert_eq!(sound(&store, Drawer::Segments, &hash, 5).unwrap().unwrap(), b"bytes");
        assert_eq!(store.get(Drawer::Segments, &hash, 4).unwrap_err().kind(), Kind::Damaged);
        let mut found = Vec::new();
        let mut note = |hash, len| {
            found.push((hash, len));
            Ok(())
        };
        store.list(Drawer::Segments, &mut note).unwrap();
        store.list(Drawer::Catalogs, &mut note).unwrap();
        assert_eq!(found, [(hash, 5)]);
        store.remove(Drawer::Segments, &hash).unwrap();
        assert!(!store.has(Drawer::Segments, &hash).unwrap());
    }

    #[test]
    fn an_object_that_rotted_is_damage_and_is_put_anew() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(dir.path());
        let hash = Id::of(b"bytes").0;
        store.put(Drawer::Segments, &hash, b"bytes").unwrap();
        fs::write(store.path(Drawer::Segments, &hash), b"bites").unwrap();
        assert_eq!(sound(&store, Drawer::Segments, &hash, 5).unwrap_err().kind(), Kind::Damaged);
        assert!(store.put(Drawer::Segments, &hash, b"bytes").unwrap());
        assert!(sound(&store, Drawer::Segments, &hash, 5).unwrap().is_some());
    }

    #[test]
    fn who_removes_is_alone() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(dir.path());
        let adding = [store.hold(Hold::Shared).unwrap(), store.hold(Hold::Shared).unwrap()];
        assert_eq!(store.hold(Hold::Alone).err().unwrap().kind(), Kind::Locked);
        drop(adding);
        fs::write(dir.path().join("s/tmp/1.0"), b"half").unwrap();
        let removing = store.hold(Hold::Alone).unwrap();
        assert_eq!(store.hold(Hold::Shared).err().unwrap().kind(), Kind::Locked);
        assert_eq!(fs::read_dir(dir.path().join("s/tmp")).unwrap().count(), 0);
        drop(removing);
    }

    #[test]
    fn a_store_is_made_of_an_empty_folder_only() {
        let dir = tempfile::tempdir().unwrap();
        store(dir.path());
        assert_eq!(FolderObjects::init(&dir.path().join("s"), [1; 16]).err().unwrap().kind(), Kind::Exists);
        assert_eq!(FolderObjects::init(dir.path(), [1; 16]).err().unwrap().kind(), Kind::NotEmpty);
        assert!(FolderObjects::open(dir.path()).unwrap().is_none());
    }
}
