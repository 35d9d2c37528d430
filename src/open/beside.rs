//! What lies beside an archive, and what is kept of it: its other volumes, and the index from the last time.

use crate::error::Result;
use crate::formats::{Remembered, Volumes};
use crate::source::{FileSource, ReadAt};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

/// The files in the directory of an archive.
pub struct Beside {
    dir: PathBuf,
    name: String,
}

impl Beside {
    pub fn of(path: &Path) -> Option<Self> {
        let name = path.file_name()?.to_str()?.to_owned();
        Some(Self { dir: path.parent()?.to_owned(), name })
    }
}

impl Volumes for Beside {
    fn name(&self) -> &str {
        &self.name
    }

    fn open(&self, name: &str) -> Result<Option<Arc<dyn ReadAt>>> {
        let path = self.dir.join(name);
        // A name out of an archive leads nowhere else.
        if name.contains('/') || name == ".." || !path.is_file() {
            return Ok(None);
        }
        let file = FileSource::open(&path)?;
        file.lock_shared();
        Ok(Some(Arc::new(file)))
    }

    fn names(&self) -> Vec<String> {
        // A path without a directory is beside what is here.
        let dir = if self.dir.as_os_str().is_empty() { Path::new(".") } else { &self.dir };
        let Ok(entries) = std::fs::read_dir(dir) else { return Vec::new() };
        entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect()
    }
}

/// Bytes of all indexes together. When they become more, those that were not used for longest go.
const MOST: u64 = 2 << 30;

/// Bytes at either end of an archive that are part of its fingerprint.
const ENDS: usize = 64 << 10;

const ENDING: &str = "index";
const HASH: usize = blake3::OUT_LEN;

/// Indexes in a directory, each under the fingerprint of its archive: the length, the time of the last change and both
/// ends. Of an archive that was changed there is none, then.
pub struct Indexes {
    dir: PathBuf,
    fingerprint: blake3::Hash,
}

impl Indexes {
    /// Those of one archive; none where its fingerprint cannot be taken.
    pub fn of(dir: &Path, path: &Path, bytes: &dyn ReadAt) -> Option<Self> {
        let meta = std::fs::metadata(path).ok()?;
        let changed = meta.modified().ok()?.duration_since(SystemTime::UNIX_EPOCH).ok()?;
        let len = bytes.len().ok()?;
        let mut ends = vec![0; ENDS.min(len as usize)];
        let mut hasher = blake3::Hasher::new();
        hasher.update(&len.to_le_bytes()).update(&changed.as_nanos().to_le_bytes());
        for at in [0, len - ends.len() as u64] {
            bytes.read_exact_at(at, &mut ends).ok()?;
            hasher.update(&ends);
        }
        Some(Self { dir: dir.to_owned(), fingerprint: hasher.finalize() })
    }

    /// Those of what is called so: an address and a version, for one.
    pub fn called(dir: &Path, names: &[&str]) -> Self {
        let mut hasher = blake3::Hasher::new();
        for name in names {
            hasher.update(&(name.len() as u64).to_le_bytes()).update(name.as_bytes());
        }
        Self { dir: dir.to_owned(), fingerprint: hasher.finalize() }
    }

    fn path(&self, what: &str) -> PathBuf {
        let key = blake3::keyed_hash(self.fingerprint.as_bytes(), what.as_bytes()).to_hex();
        self.dir.join(format!("{key}.{ENDING}"))
    }
}

impl Remembered for Indexes {
    fn load(&self, what: &str) -> Option<Vec<u8>> {
        let path = self.path(what);
        let mut bytes = std::fs::read(&path).ok()?;
        let payload = bytes.split_off(HASH.min(bytes.len()));
        if blake3::hash(&payload).as_bytes()[..] != bytes[..] {
            log::warn!("{}: the index is damaged, and made anew", path.display());
            return None;
        }
        // It is in use: the time tells who goes first when there are too many.
        let _ = std::fs::File::options().append(true).open(&path).and_then(|f| f.set_modified(SystemTime::now()));
        Some(payload)
    }

    fn save(&self, what: &str, bytes: &[u8]) {
        let path = self.path(what);
        if let Err(e) = self.write(&path, bytes) {
            log::info!("{}: the index is not kept: {e}", path.display());
        }
        make_room(&self.dir, MOST);
    }
}

impl Indexes {
    fn write(&self, path: &Path, bytes: &[u8]) -> std::io::Result<()> {
        use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.dir)?;
        let draft = path.with_extension(format!("{}.draft", std::process::id()));
        // It names what is in the archive: nobody else's business.
        let mut file = std::fs::File::options().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
        let written = file.write_all(blake3::hash(bytes).as_bytes()).and_then(|()| file.write_all(bytes));
        let renamed = written.and_then(|()| std::fs::rename(&draft, path));
        renamed.inspect_err(|_| drop(std::fs::remove_file(&draft)))
    }
}

/// Removes the oldest indexes until all together are not more than so many bytes.
fn make_room(dir: &Path, most: u64) {
    let Ok(entries) = std::fs::read_dir(dir) else { return };
    let mut all: Vec<_> = entries
        .flatten()
        .filter(|e| e.path().extension().is_some_and(|ending| ending == ENDING || ending == "draft"))
        .filter_map(|e| e.metadata().ok().and_then(|meta| Some((meta.modified().ok()?, meta.len(), e.path()))))
        .collect();
    let mut total: u64 = all.iter().map(|(_, len, _)| len).sum();
    all.sort();
    for (_, len, path) in all {
        if total <= most {
            return;
        }
        if std::fs::remove_file(path).is_ok() {
            total -= len;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Memory;

    fn indexes(dir: &Path, archive: &Path) -> Indexes {
        let bytes = Memory::new(std::fs::read(archive).unwrap());
        Indexes::of(&dir.join("kept"), archive, &bytes).unwrap()
    }

    #[test]
    fn an_index_is_found_again_until_the_archive_changes() {
        let dir = tempfile::tempdir().unwrap();
        let archive = dir.path().join("a.tar.gz");
        std::fs::write(&archive, b"one").unwrap();
        indexes(dir.path(), &archive).save("tar", b"what is in it");
        assert_eq!(indexes(dir.path(), &archive).load("tar").unwrap(), b"what is in it");
        assert_eq!(indexes(dir.path(), &archive).load("other"), None);
        std::fs::write(&archive, b"two").unwrap();
        assert_eq!(indexes(dir.path(), &archive).load("tar"), None);
    }

    #[test]
    fn a_damaged_index_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let archive = dir.path().join("a.tar.gz");
        std::fs::write(&archive, b"one").unwrap();
        let indexes = indexes(dir.path(), &archive);
        indexes.save("tar", b"what is in it");
        for damaged in [&b""[..], b"short", &[0; 100]] {
            std::fs::write(indexes.path("tar"), damaged).unwrap();
            assert_eq!(indexes.load("tar"), None);
        }
    }

    #[test]
    fn the_oldest_go_when_there_are_too_many() {
        let dir = tempfile::tempdir().unwrap();
        for n in 0..10u64 {
            let path = dir.path().join(format!("{n}.index"));
            std::fs::write(&path, [0; 100]).unwrap();
            let time = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(n);
            std::fs::File::options().append(true).open(&path).unwrap().set_modified(time).unwrap();
        }
        make_room(dir.path(), 350);
        let mut left: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["7.index", "8.index", "9.index"]);
    }

    #[test]
    fn volumes_are_only_those_beside_the_archive() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("sub")).unwrap();
        for name in ["a.001", "a.002", "sub/b"] {
            std::fs::write(dir.path().join(name), name).unwrap();
        }
        let beside = Beside::of(&dir.path().join("a.001")).unwrap();
        assert!(beside.open("a.002").unwrap().is_some());
        for no in ["a.003", "sub/b", "../x", "sub", ".."] {
            assert!(beside.open(no).unwrap().is_none(), "{no}");
        }
    }
}
