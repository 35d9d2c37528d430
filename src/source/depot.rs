//! Blocks of objects at the other end of a link, kept on the disk: they outlast the process, and all processes of a user share
//! them.
//!
//! ```text
//!   blocks/3f/9a…         bytes, called by their BLAKE3
//!   objects/71…           one object, called by the BLAKE3 of its address:
//!                         {"v":1,"name":…,"len":…,"stamp":…}\n    what it was called, how long it was, which version
//!                         │ block 8 │ BLAKE3 32 │ block 8 │ ...   which bytes are where
//!   pages/c0…             what a server said of a directory, called by the BLAKE3 of its name:
//!                         {"v":1,"name":…,"hash":…}\n page
//!   pins/5e…              what stays, called by the BLAKE3 of its name:
//!                         {"v":1,"name":…,"bytes":…,"time":…}\n, and the paths of all of the above that it needs
//! ```
//!
//! Nothing is synced and nothing locked. A block counts only if it has the hash by which it is called, a line of an object only
//! if it is whole, so whatever a crash leaves is found out when it is read. Two who write the same block write the same
//! bytes. An object of which the stamp has changed is begun anew, and what blocks it shares with the version before are there
//! already.
//!
//! Objects that nobody has opened for three months are forgotten. Blocks that were not read for longest go when all together
//! are too many, or when the disk gets full. What is pinned stays, and does not count.

use super::blocks::Kept;
use crate::pool::lock;
use rustix::fs::statvfs;
use serde::{Deserialize, Serialize};
use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

/// Of what is free on the disk, this is left alone.
const LEFT_FREE: u64 = 1 << 30;

/// A block that is read says so at most this often: the time of its file tells what goes first.
const TOUCH: Duration = Duration::from_secs(3600);

/// Objects that were not opened for so long are forgotten.
const FORGET: Duration = Duration::from_secs(90 * 86_400);

/// It is tidied up after so much of the most that it may hold was written, and then to so much.
const TIDY_AFTER: u64 = 16;
const TIDY_TO: f64 = 0.95;

/// The longest first line of an object.
const HEAD: usize = 16 << 10;
const LINE: usize = 8 + blake3::OUT_LEN;

/// The directory in which blocks are kept.
pub struct Depot {
    dir: PathBuf,
    most: u64,
    left_free: u64,
    /// Bytes that were written since it was tidied up last.
    written: AtomicU64,
    is_tidying: AtomicBool,
    drafts: AtomicU64,
    /// Paths of what is used just now, when somebody wants to know.
    noted: Mutex<Option<HashSet<String>>>,
}

/// What stays until it is said that it need not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pin {
    v: u32,
    pub name: String,
    /// Bytes of its blocks.
    pub bytes: u64,
    /// When it was pinned, in seconds since 1970.
    pub time: i64,
}

/// What is known of an object from an earlier time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    v: u32,
    pub name: String,
    pub len: u64,
    /// What the other end calls this version of it.
    pub stamp: String,
}

impl Depot {
    /// At most about so many bytes in a directory, which is made when the first block comes.
    pub fn new(dir: &Path, most: u64) -> Arc<Self> {
        let (written, is_tidying, drafts) = (AtomicU64::new(most), AtomicBool::new(false), AtomicU64::new(0));
        let (dir, left_free, noted) = (dir.to_owned(), LEFT_FREE, Mutex::default());
        Arc::new(Self { dir, most, left_free, written, is_tidying, drafts, noted })
    }

    /// From now on it is noted what is used: that is what [`Depot::pin`] pins.
    pub fn note(&self) {
        *lock(&self.noted) = Some(HashSet::new());
    }

    fn uses(&self, path: &Path) {
        if let Some(noted) = lock(&self.noted).as_mut()
            && let Some(below) = path.strip_prefix(&self.dir).ok().and_then(Path::to_str)
        {
            noted.insert(below.to_owned());
        }
    }

    /// Pins under a name what was used since [`Depot::note`], in place of what had the name. How much of it is not there.
    ///
    /// # Errors
    /// Those of writing.
    pub fn pin(&self, name: &str) -> io::Result<(Pin, u64)> {
        let noted = lock(&self.noted).clone().unwrap_or_default();
        let mut paths: Vec<&String> = noted.iter().collect();
        paths.sort_unstable();
        let lens = paths.iter().map(|path| self.dir.join(path).metadata().map(|meta| meta.len()));
        let (mut bytes, mut missing) = (0, 0);
        lens.for_each(|len| len.map_or_else(|_| missing += 1, |len| bytes += len));
        let time = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs() as i64;
        let pin = Pin { v: 1, name: name.to_owned(), bytes, time };
        let mut text = serde_json::to_string(&pin)?;
        for path in paths {
            text.push('\n');
            text.push_str(path);
        }
        text.push('\n');
        self.make_dir("pins")?;
        self.write(&self.pin_path(name), text.as_bytes())?;
        Ok((pin, missing))
    }

    /// What is pinned, sorted by name.
    pub fn pins(&self) -> Vec<Pin> {
        let texts = entries(&self.dir.join("pins")).filter_map(|path| fs::read_to_string(path).ok());
        let mut pins: Vec<Pin> = texts.filter_map(|text| serde_json::from_str(text.lines().next()?).ok()).collect();
        pins.sort_by(|a, b| a.name.cmp(&b.name));
        pins
    }

    /// Lets go of what is pinned under a name. Whether there was any.
    pub fn unpin(&self, name: &str) -> io::Result<bool> {
        match fs::remove_file(self.pin_path(name)) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
            removed => removed.map(|()| true),
        }
    }

    fn pin_path(&self, name: &str) -> PathBuf {
        self.dir.join("pins").join(blake3::hash(name.as_bytes()).to_hex().as_str())
    }

    /// Paths of all that is pinned, or is going to be.
    fn pinned(&self) -> HashSet<PathBuf> {
        let mut pinned: HashSet<PathBuf> = HashSet::new();
        for text in entries(&self.dir.join("pins")).filter_map(|path| fs::read_to_string(path).ok()) {
            pinned.extend(text.lines().skip(1).map(|path| self.dir.join(path)));
        }
        pinned.extend(lock(&self.noted).iter().flatten().map(|path| self.dir.join(path)));
        pinned
    }

    /// What was kept of an object last.
    pub fn version(&self, name: &str) -> Option<Version> {
        let mut head = Vec::new();
        File::open(self.object_path(name)).ok()?.take(HEAD as u64).read_to_end(&mut head).ok()?;
        parse(&head, name).map(|(version, _)| version)
    }

    /// The blocks of a version of an object.
    pub fn object(self: &Arc<Self>, name: &str, len: u64, stamp: &str) -> io::Result<DepotObject> {
        let version = Version { v: 1, name: name.to_owned(), len, stamp: stamp.to_owned() };
        let path = self.object_path(name);
        let bytes = fs::read(&path).unwrap_or_default();
        let known = parse(&bytes, name).filter(|(known, _)| *known == version);
        let mut blocks = HashMap::new();
        match known {
            Some((_, at)) => {
                for line in bytes[at..].chunks_exact(LINE) {
                    let (block, id) = line.split_at(8);
                    let block = u64::from_le_bytes(block.try_into().expect("8 bytes"));
                    blocks.insert(block, id.try_into().expect("32 bytes"));
                }
            }
            None => {
                self.make_dir("objects")?;
                let mut head = serde_json::to_vec(&version)?;
                head.push(b'\n');
                self.write(&path, &head)?;
            }
        }
        self.uses(&path);
        let lines = File::options().append(true).read(true).open(&path)?;
        let _ = lines.set_modified(SystemTime::now());
        // A line that was cut off would put all behind it out of step.
        let len = lines.metadata()?.len();
        let whole = whole_lines(&lines, len)?;
        if len != whole {
            lines.set_len(whole)?;
        }
        Ok(DepotObject { depot: self.clone(), lines, blocks: Mutex::new(blocks) })
    }

    /// Keeps a page: what a server said of something, in the words of whoever keeps it.
    pub fn keep_page(&self, name: &str, bytes: &[u8]) {
        let path = self.page_path(name);
        self.uses(&path);
        let head = PageHead { v: 1, name: name.to_owned(), hash: blake3::hash(bytes).to_hex().to_string() };
        let is_known = head_of(&path).is_some_and(|(known, _)| known == head);
        if is_known {
            return touch(&path);
        }
        let kept = serde_json::to_vec(&head).map_err(io::Error::from).and_then(|mut page| {
            page.push(b'\n');
            page.extend_from_slice(bytes);
            self.make_dir("pages")?;
            self.write(&path, &page)
        });
        if let Err(e) = kept {
            log::debug!("a page is not kept: {e}");
        }
    }

    /// A page of at most so many bytes, as it was kept.
    pub fn page(&self, name: &str, most: usize) -> Option<Vec<u8>> {
        let path = self.page_path(name);
        let (head, at) = head_of(&path)?;
        let mut bytes = Vec::new();
        let mut file = File::open(&path).ok()?;
        file.seek(SeekFrom::Start(at)).ok()?;
        file.take(most as u64 + 1).read_to_end(&mut bytes).ok()?;
        let is_it = head.v == 1 && head.name == name && bytes.len() <= most;
        (is_it && blake3::hash(&bytes).to_hex().as_str() == head.hash).then_some(bytes)
    }

    fn page_path(&self, name: &str) -> PathBuf {
        self.dir.join("pages").join(blake3::hash(name.as_bytes()).to_hex().as_str())
    }

    fn object_path(&self, name: &str) -> PathBuf {
        self.dir.join("objects").join(blake3::hash(name.as_bytes()).to_hex().as_str())
    }

    fn block_path(&self, id: &[u8; 32]) -> PathBuf {
        let hex = blake3::Hash::from_bytes(*id).to_hex();
        self.dir.join("blocks").join(&hex[..2]).join(&hex[2..])
    }

    /// What is kept may be of anybody's business but this user's: nobody else looks into it.
    fn make_dir(&self, below: &str) -> io::Result<()> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(self.dir.join(below))
    }

    /// Writes a file that appears when it is whole.
    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let number = self.drafts.fetch_add(1, Relaxed);
        let draft = self.dir.join(format!("draft-{}-{number}", std::process::id()));
        let mut file = File::options().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
        let done = file.write_all(bytes).and_then(|()| fs::rename(&draft, path));
        done.inspect_err(|_| drop(fs::remove_file(&draft)))
    }

    fn put(self: &Arc<Self>, id: &[u8; 32], bytes: &[u8]) -> io::Result<()> {
        let path = self.block_path(id);
        self.uses(&path);
        if path.exists() {
            return Ok(());
        }
        let dir = path.parent().expect("it has one");
        if !dir.exists() {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        }
        let step = (self.most / TIDY_AFTER).max(1);
        if self.written.fetch_add(bytes.len() as u64, Relaxed) >= step && !self.is_tidying.swap(true, Relaxed) {
            self.written.store(0, Relaxed);
            let depot = self.clone();
            let started = std::thread::Builder::new().name("tidy".into()).spawn(move || {
                depot.tidy();
                depot.is_tidying.store(false, Relaxed);
            });
            if started.is_err() {
                self.is_tidying.store(false, Relaxed);
            }
        }
        self.write(&path, bytes)
    }

    /// Bytes that may be kept: what was said, or less where the disk is nearly full.
    fn room(&self, used: u64) -> u64 {
        let Ok(disk) = statvfs(&self.dir) else { return self.most };
        let free = disk.f_bavail.saturating_mul(disk.f_frsize);
        self.most.min((used + free).saturating_sub(self.left_free))
    }

    /// Removes what was not read for longest until there is room.
    pub fn tidy(&self) {
        let mut all: Vec<(SystemTime, u64, PathBuf)> = Vec::new();
        let age =
            |path: &Path| path.metadata().and_then(|meta| meta.modified()).ok().and_then(|time| time.elapsed().ok());
        for dir in entries(&self.dir.join("blocks")) {
            all.extend(entries(&dir).filter_map(|path| {
                let meta = path.metadata().ok()?;
                Some((meta.modified().ok()?, meta.len(), path))
            }));
        }
        // Whoever pins notes it before he writes it: what is listed above and not noted by now is nobody's.
        let pinned = self.pinned();
        all.retain(|(_, _, path)| !pinned.contains(path));
        // What a process that was killed left behind, and what nobody opens any more.
        let drafts = entries(&self.dir).filter(|path| path.is_file() && age(path).is_some_and(|age| age > TOUCH));
        let all_of = |below: &str| entries(&self.dir.join(below));
        let objects = all_of("objects").chain(all_of("pages")).filter(|path| age(path).is_some_and(|age| age > FORGET));
        drafts.chain(objects).filter(|path| !pinned.contains(path)).for_each(|path| drop(fs::remove_file(path)));
        let mut used: u64 = all.iter().map(|(_, len, _)| len).sum();
        let room = self.room(used);
        if used <= room {
            return;
        }
        all.sort_unstable();
        for (_, len, path) in all {
            if used as f64 <= room as f64 * TIDY_TO {
                break;
            }
            if fs::remove_file(path).is_ok() {
                used -= len;
            }
        }
    }
}

fn entries(dir: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path())
}

/// The first line of a page.
#[derive(PartialEq, Eq, Serialize, Deserialize)]
struct PageHead {
    v: u32,
    name: String,
    hash: String,
}

/// The first line of a page, and where the rest begins.
fn head_of(path: &Path) -> Option<(PageHead, u64)> {
    let mut head = Vec::new();
    File::open(path).ok()?.take(HEAD as u64).read_to_end(&mut head).ok()?;
    let at = head.iter().position(|b| *b == b'\n')?;
    Some((serde_json::from_slice(&head[..at]).ok()?, at as u64 + 1))
}

/// Says that something was used, once in a while.
fn touch(path: &Path) {
    let now = SystemTime::now();
    let modified = path.metadata().and_then(|meta| meta.modified());
    if modified.is_ok_and(|at| now.duration_since(at).is_ok_and(|age| age > TOUCH)) {
        let _ = File::options().append(true).open(path).and_then(|file| file.set_modified(now));
    }
}

/// The first line of an object, and where the others begin.
fn parse(bytes: &[u8], name: &str) -> Option<(Version, usize)> {
    let at = bytes.iter().take(HEAD).position(|b| *b == b'\n')?;
    let version: Version = serde_json::from_slice(&bytes[..at]).ok()?;
    (version.v == 1 && version.name == name).then_some((version, at + 1))
}

/// The length of an object without a line that was cut off.
fn whole_lines(file: &File, len: u64) -> io::Result<u64> {
    let mut head = vec![0; HEAD];
    let got = file.read_at(&mut head, 0)?;
    let at = head[..got].iter().position(|b| *b == b'\n').map_or(0, |at| at as u64 + 1);
    Ok(at + (len - at) / LINE as u64 * LINE as u64)
}

/// The blocks of one object that are kept.
pub struct DepotObject {
    depot: Arc<Depot>,
    lines: File,
    blocks: Mutex<HashMap<u64, [u8; 32]>>,
}

impl DepotObject {
    fn id(&self, block: u64) -> Option<[u8; 32]> {
        lock(&self.blocks).get(&block).copied()
    }
}

impl Kept for DepotObject {
    fn get(&self, block: u64) -> Option<Vec<u8>> {
        let id = self.id(block)?;
        let path = self.depot.block_path(&id);
        let mut bytes = Vec::new();
        let file = File::open(&path).and_then(|mut file| file.read_to_end(&mut bytes).map(|_| file));
        let is_it = file.is_ok() && blake3::hash(&bytes).as_bytes() == &id;
        if !is_it {
            lock(&self.blocks).remove(&block);
            if let Ok(()) = fs::remove_file(&path) {
                log::warn!("{} was damaged, and is fetched anew", path.display());
            }
            return None;
        }
        touch(&path);
        self.depot.uses(&path);
        Some(bytes)
    }

    fn count(&self) -> u64 {
        lock(&self.blocks).len() as u64
    }

    fn contains(&self, block: u64) -> bool {
        self.id(block).is_some_and(|id| {
            let path = self.depot.block_path(&id);
            let is_there = path.exists();
            if is_there {
                self.depot.uses(&path);
            }
            is_there
        })
    }

    fn put(&self, block: u64, bytes: &[u8]) {
        let id = *blake3::hash(bytes).as_bytes();
        if let Err(e) = self.depot.put(&id, bytes) {
            return log::debug!("a block is not kept: {e}");
        }
        if lock(&self.blocks).insert(block, id) != Some(id) {
            let mut line = [0; LINE];
            line[..8].copy_from_slice(&block.to_le_bytes());
            line[8..].copy_from_slice(&id);
            if let Err(e) = (&self.lines).write_all(&line) {
                log::debug!("a block is kept for this process alone: {e}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn depot(dir: &Path) -> Arc<Depot> {
        Depot::new(&dir.join("kept"), 1 << 30)
    }

    #[test]
    fn what_was_kept_is_there_for_the_next_process_until_the_object_changes() {
        let dir = tempfile::tempdir().unwrap();
        let object = depot(dir.path()).object("https://a/b", 100, "v1").unwrap();
        object.put(3, b"three");
        object.put(7, b"seven");
        assert_eq!(object.get(3).unwrap(), b"three");
        let again = depot(dir.path()).object("https://a/b", 100, "v1").unwrap();
        assert_eq!((again.get(3).unwrap(), again.get(7).unwrap()), (b"three".to_vec(), b"seven".to_vec()));
        assert!(again.get(4).is_none() && !again.contains(4) && again.contains(7));
        assert_eq!(depot(dir.path()).version("https://a/b").unwrap().stamp, "v1");
        for (len, stamp) in [(100, "v2"), (101, "v2")] {
            assert_eq!(depot(dir.path()).object("https://a/b", len, stamp).unwrap().count(), 0);
        }
        assert!(depot(dir.path()).object("https://a/c", 100, "v1").unwrap().get(3).is_none());
    }

    #[test]
    fn whatever_a_crash_left_is_found_out() {
        let dir = tempfile::tempdir().unwrap();
        let depot = depot(dir.path());
        let object = depot.object("x", 100, "v").unwrap();
        (0..4).for_each(|n| object.put(n, format!("block {n}").as_bytes()));
        let path = depot.object_path("x");
        let whole = fs::read(&path).unwrap();
        for cut in 0..whole.len() {
            fs::write(&path, &whole[..cut]).unwrap();
            let object = depot.object("x", 100, "v").unwrap();
            for n in 0..4 {
                let got = object.get(n);
                assert!(got.is_none_or(|got| got == format!("block {n}").as_bytes()), "{cut}");
            }
            object.put(9, b"nine");
            assert_eq!(depot.object("x", 100, "v").unwrap().get(9).unwrap(), b"nine", "{cut}");
        }
        // A block that is not what it is called.
        fs::write(&path, &whole).unwrap();
        let object = depot.object("x", 100, "v").unwrap();
        fs::write(depot.block_path(&object.id(2).unwrap()), b"blo").unwrap();
        assert!(object.get(2).is_none());
        object.put(2, b"block 2");
        assert_eq!(object.get(2).unwrap(), b"block 2");
    }

    #[test]
    fn what_was_not_read_for_longest_goes() {
        let dir = tempfile::tempdir().unwrap();
        let depot = Depot::new(&dir.path().join("kept"), 3500);
        // However full the disk of who tests it is, and only when the test says so.
        let (left_free, is_tidying) = (0, AtomicBool::new(true));
        let depot = Arc::new(Depot { left_free, is_tidying, ..Arc::into_inner(depot).unwrap() });
        let object = depot.object("x", 1 << 30, "v").unwrap();
        let block = |n: u64| vec![n as u8; 1000];
        for n in 0..6 {
            object.put(n, &block(n));
            let path = depot.block_path(&object.id(n).unwrap());
            let time = SystemTime::UNIX_EPOCH + Duration::from_secs(n);
            File::options().append(true).open(path).unwrap().set_modified(time).unwrap();
        }
        // Reading it makes it new.
        assert_eq!(object.get(0).unwrap(), block(0));
        depot.tidy();
        let left: Vec<u64> = (0..6).filter(|n| object.get(*n).is_some()).collect();
        assert_eq!(left, [0, 4, 5]);
        // What is pinned stays, whatever else comes.
        depot.note();
        assert!(object.get(4).is_some());
        let (pin, missing) = depot.pin("x, and four of it").unwrap();
        assert_eq!((pin.bytes, missing, depot.pins()), (1000, 0, vec![pin.clone()]));
        *lock(&depot.noted) = None;
        for n in 10..20 {
            object.put(n, &block(n));
        }
        depot.tidy();
        assert!(object.get(4).is_some() && object.get(0).is_none());
        assert!(depot.unpin(&pin.name).unwrap() && !depot.unpin(&pin.name).unwrap());
        depot.tidy();
        depot.object("y", 1, "v").unwrap();
        let old = SystemTime::now() - FORGET - TOUCH;
        File::options().append(true).open(depot.object_path("y")).unwrap().set_modified(old).unwrap();
        depot.tidy();
        assert!(depot.version("x").is_some() && depot.version("y").is_none());
    }
}
