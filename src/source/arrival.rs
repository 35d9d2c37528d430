//! A file that comes over a link, block by block, and takes its place when all of it is there.
//!
//! ```text
//!   .NAME.sync        the bytes, each block at its place
//!   .NAME.sync.map    {"v":1,"name":…,"len":…,"stamp":…}\n   which version of what it is going to be
//!                     │ block 8 │ BLAKE3 32 │ ...              which blocks have come
//!   both whole ──► fsync ──► rename to NAME                    until then NAME is what it was
//! ```
//!
//! Nothing is synced before the end. A block that came in an earlier process counts only when it has the hash that the map tells,
//! so whatever a crash left is found out when it goes on. What was filled in from elsewhere on this machine the map does not
//! tell: that is had again for little.

use super::blocks::{BLOCK, Kept};
use super::{FileSource, ReadAt};
use crate::error::{Error, Kind, Result, Within};
use crate::pool::lock;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

/// The longest first line of a map.
const HEAD: u64 = 16 << 10;
const LINE: usize = 8 + blake3::OUT_LEN;

/// Bytes that are copied at once.
const PIECE: u64 = 1 << 20;

/// What a file is going to be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Version {
    v: u32,
    name: String,
    len: u64,
    stamp: Option<String>,
}

/// A file on its way.
pub struct Arrival {
    file: FileSource,
    map: File,
    place: PathBuf,
    len: u64,
    state: Mutex<State>,
    /// What went wrong with a block that came.
    failed: Mutex<Option<Error>>,
    /// Bytes of blocks that came in this process.
    landed: AtomicU64,
    /// Bytes of blocks that had come before.
    resumed: u64,
    /// It is in its place, or gone: nothing is written to it any more.
    is_over: AtomicBool,
}

struct State {
    blocks: Vec<Has>,
    /// Bytes that are there of blocks that are there in part.
    partly: HashMap<u64, u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Has {
    Nothing,
    /// It came over the link.
    Come,
    /// It was filled in from elsewhere.
    Filled,
}

impl Arrival {
    /// Begins to fill the place, or goes on where it was ended, when that was the same version of the same thing. Without a
    /// stamp nobody knows that, and it begins anew.
    ///
    /// # Errors
    /// `Locked` when another process is at it; `NoSpace` when it can never fit.
    pub fn begin(place: &Path, name: &str, len: u64, stamp: Option<&str>) -> Result<Self> {
        let failed = |e: io::Error| Error::io(e, format!("cannot write {}", place.display()));
        let version = Version { v: 1, name: name.to_owned(), len, stamp: stamp.map(str::to_owned) };
        let replaces = place.exists();
        let file = FileSource::new(open(&draft_of(place), replaces).map_err(failed)?);
        file.lock().within(|| place.display())?;
        refuse_renamed(place, &file)?;
        refuse_endless(place, &file, len)?;
        let map = open(&map_of(place), replaces).map_err(failed)?;
        let mut blocks = vec![Has::Nothing; usize::try_from(len.div_ceil(BLOCK)).unwrap_or(usize::MAX)];
        let resumed = match stamp {
            Some(_) => resume(&file, &map, &version, &mut blocks).map_err(failed)?,
            None => None,
        };
        if resumed.is_none() {
            blocks.fill(Has::Nothing);
            file.file().set_len(0).map_err(failed)?;
            let line = serde_json::to_string(&version).expect("a version is plain data");
            map.set_len(0).map_err(failed)?;
            (&map).seek(SeekFrom::Start(0)).map_err(failed)?;
            (&map).write_all(format!("{line}\n").as_bytes()).map_err(failed)?;
        }
        file.file().set_len(len).map_err(failed)?;
        let state = Mutex::new(State { blocks, partly: HashMap::new() });
        let (place, resumed) = (place.to_owned(), resumed.unwrap_or(0));
        let (failed, landed, is_over) = (Mutex::default(), AtomicU64::new(0), AtomicBool::new(false));
        Ok(Self { file, map, place, len, state, failed, landed, resumed, is_over })
    }

    /// Bytes that had come before this process.
    pub fn resumed(&self) -> u64 {
        self.resumed
    }

    /// Bytes that came in this process, in whole blocks.
    pub fn landed(&self) -> u64 {
        self.landed.load(Relaxed)
    }

    /// It is of no use any more: what has come of it goes.
    pub fn discard(&self) {
        self.is_over.store(true, Relaxed);
        let _ = fs::remove_file(draft_of(&self.place));
        let _ = fs::remove_file(map_of(&self.place));
    }

    /// What went wrong with what came.
    pub fn check(&self) -> Result<()> {
        lock(&self.failed).take().map_or(Ok(()), Err)
    }

    /// Fills in what is known without the link. Each byte is filled in once; what has come stays as it came.
    pub fn fill(&self, at: u64, bytes: &[u8]) -> Result<()> {
        let range = at..at.saturating_add(bytes.len() as u64).min(self.len);
        for part in self.open_parts(&range) {
            let piece = &bytes[(part.start - at) as usize..(part.end - at) as usize];
            self.file.file().write_all_at(piece, part.start).map_err(|e| self.failure(e))?;
        }
        self.filled(&range);
        Ok(())
    }

    /// The same with the same range of a file, which shares its space where the file system can do that.
    pub fn fill_from(&self, from: &File, range: Range<u64>) -> Result<()> {
        let range = range.start..range.end.min(self.len);
        for part in self.open_parts(&range) {
            copy(from, self.file.file(), part).map_err(|e| self.failure(e))?;
        }
        self.filled(&range);
        Ok(())
    }

    /// What was filled in is not to be trusted: all of it is to come over the link.
    pub fn unfill(&self) {
        let mut state = lock(&self.state);
        state.partly.clear();
        state.blocks.iter_mut().filter(|has| **has == Has::Filled).for_each(|has| *has = Has::Nothing);
    }

    /// What has not come, in ranges of at most so many bytes.
    pub fn missing(&self, most: u64) -> Vec<Range<u64>> {
        let state = lock(&self.state);
        let mut found: Vec<Range<u64>> = Vec::new();
        for (block, _) in (0u64..).zip(&state.blocks).filter(|(_, has)| **has == Has::Nothing) {
            let range = self.range(block);
            match found.last_mut() {
                Some(last) if last.end == range.start && range.end - last.start <= most => last.end = range.end,
                _ => found.push(range),
            }
        }
        found
    }

    /// Puts the file in its place, with the mode and the owner of what is there, and with a time.
    pub fn publish(&self, modified: Option<std::time::SystemTime>) -> Result<()> {
        let failed = |e| Error::io(e, format!("cannot write {}", self.place.display()));
        self.is_over.store(true, Relaxed);
        let file = self.file.file();
        if let Ok(before) = fs::metadata(&self.place) {
            use std::os::unix::fs::MetadataExt;
            // Another owner only for who may give files away.
            let _ = std::os::unix::fs::fchown(file, Some(before.uid()), Some(before.gid()));
            file.set_permissions(before.permissions()).map_err(failed)?;
        }
        if let Some(modified) = modified {
            file.set_modified(modified).map_err(failed)?;
        }
        file.sync_all().map_err(failed)?;
        fs::rename(draft_of(&self.place), &self.place).map_err(failed)?;
        let _ = fs::remove_file(map_of(&self.place));
        let dir = self.place.parent().filter(|dir| *dir != Path::new("")).unwrap_or(Path::new("."));
        File::open(dir).and_then(|dir| dir.sync_all()).map_err(failed)
    }

    fn failure(&self, e: io::Error) -> Error {
        Error::io(e, format!("cannot write {}", draft_of(&self.place).display()))
    }

    fn range(&self, block: u64) -> Range<u64> {
        block * BLOCK..((block + 1) * BLOCK).min(self.len)
    }

    fn has(&self, block: u64) -> Has {
        let at = usize::try_from(block).unwrap_or(usize::MAX);
        lock(&self.state).blocks.get(at).copied().unwrap_or(Has::Nothing)
    }

    /// What of a range lies in blocks that have not come.
    fn open_parts(&self, range: &Range<u64>) -> Vec<Range<u64>> {
        let mut parts: Vec<Range<u64>> = Vec::new();
        for block in range.start / BLOCK..range.end.div_ceil(BLOCK) {
            if self.has(block) == Has::Come {
                continue;
            }
            let whole = self.range(block);
            let part = whole.start.max(range.start)..whole.end.min(range.end);
            match parts.last_mut() {
                Some(last) if last.end == part.start => last.end = part.end,
                _ if part.start < part.end => parts.push(part),
                _ => {}
            }
        }
        parts
    }

    fn filled(&self, range: &Range<u64>) {
        let mut state = lock(&self.state);
        for block in range.start / BLOCK..range.end.div_ceil(BLOCK) {
            let (whole, at) = (self.range(block), block as usize);
            if state.blocks[at] != Has::Nothing {
                continue;
            }
            let more = whole.end.min(range.end) - whole.start.max(range.start);
            let there = state.partly.remove(&block).unwrap_or(0) + more;
            if there >= whole.end - whole.start {
                state.blocks[at] = Has::Filled;
            } else {
                state.partly.insert(block, there);
            }
        }
    }

    fn take(&self, block: u64, bytes: &[u8]) -> io::Result<()> {
        let range = self.range(block);
        if range.end.checked_sub(range.start) != Some(bytes.len() as u64) {
            return Err(io::Error::other("a block has another length than it should have"));
        }
        self.file.file().write_all_at(bytes, range.start)?;
        let mut line = [0; LINE];
        line[..8].copy_from_slice(&block.to_le_bytes());
        line[8..].copy_from_slice(blake3::hash(bytes).as_bytes());
        (&self.map).write_all(&line)
    }
}

impl Kept for Arrival {
    fn get(&self, block: u64) -> Option<Vec<u8>> {
        if !self.contains(block) {
            return None;
        }
        let range = self.range(block);
        let mut bytes = vec![0; (range.end - range.start) as usize];
        self.file.read_exact_at(range.start, &mut bytes).ok()?;
        Some(bytes)
    }

    fn contains(&self, block: u64) -> bool {
        self.has(block) != Has::Nothing
    }

    fn count(&self) -> u64 {
        lock(&self.state).blocks.iter().filter(|has| **has != Has::Nothing).count() as u64
    }

    fn put(&self, block: u64, bytes: &[u8]) {
        if self.has(block) == Has::Come || self.is_over.load(Relaxed) {
            return;
        }
        match self.take(block, bytes) {
            Ok(()) => {
                let before = std::mem::replace(&mut lock(&self.state).blocks[block as usize], Has::Come);
                if before != Has::Come {
                    self.landed.fetch_add(bytes.len() as u64, Relaxed);
                }
            }
            Err(e) => *lock(&self.failed) = Some(self.failure(e)),
        }
    }
}

/// What is there of the file, whatever has come.
impl ReadAt for Arrival {
    fn len(&self) -> Result<u64> {
        Ok(self.len)
    }

    fn read_at(&self, at: u64, into: &mut [u8]) -> Result<usize> {
        self.file.read_at(at, into)
    }
}

/// Where a file is while it comes.
fn draft_of(place: &Path) -> PathBuf {
    beside(place, ".sync")
}

fn map_of(place: &Path) -> PathBuf {
    beside(place, ".sync.map")
}

fn beside(place: &Path, end: &str) -> PathBuf {
    let mut name = std::ffi::OsString::from(".");
    name.push(place.file_name().unwrap_or_default());
    name.push(end);
    place.with_file_name(name)
}

/// Not through a link that somebody else has put there. What takes the place of a file is for its owner alone until it has the
/// mode of that.
fn open(path: &Path, replaces: bool) -> io::Result<File> {
    let (flags, mode) = (rustix::fs::OFlags::NOFOLLOW.bits() as i32, if replaces { 0o600 } else { 0o666 });
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).custom_flags(flags).mode(mode).open(path)
}

/// Whoever had it before may have put it in its place while it was waited for: it is nobody's draft any more.
fn refuse_renamed(place: &Path, draft: &FileSource) -> Result<()> {
    use std::os::unix::fs::MetadataExt;
    let own = draft.file().metadata()?;
    match fs::symlink_metadata(draft_of(place)) {
        Ok(there) if (there.dev(), there.ino()) == (own.dev(), own.ino()) => Ok(()),
        _ => Err(Error::new(Kind::Locked, format!("{}: another process has just put it there", place.display()))),
    }
}

/// A length is what the other end says: nothing is made for one that no disk here could hold.
fn refuse_endless(place: &Path, draft: &FileSource, len: u64) -> Result<()> {
    use std::os::unix::fs::MetadataExt;
    let free = super::Store::free(draft)?;
    let own = draft.file().metadata()?.blocks().saturating_mul(512);
    // What is there already may share its space with what comes.
    let there = fs::metadata(place).map_or(0, |meta| meta.len());
    if free.saturating_add(own).saturating_add(there) < len {
        return Err(Error::new(Kind::NoSpace, format!("{}: {len} bytes do not fit there", place.display())));
    }
    Ok(())
}

/// Finds out which blocks have come, and how many bytes they are. `None` when it was something else.
fn resume(file: &FileSource, map: &File, version: &Version, blocks: &mut [Has]) -> io::Result<Option<u64>> {
    let most = HEAD + (blocks.len() as u64).saturating_mul(2 * LINE as u64);
    let mut bytes = Vec::new();
    map.take(most).read_to_end(&mut bytes)?;
    let Some(end) = bytes.iter().take(HEAD as usize).position(|b| *b == b'\n') else { return Ok(None) };
    if serde_json::from_slice::<Version>(&bytes[..end]).ok().as_ref() != Some(version) {
        return Ok(None);
    }
    let (lines, mut there, mut piece) = (&bytes[end + 1..], 0, vec![0; BLOCK as usize]);
    let whole = lines.len() / LINE * LINE;
    for line in lines[..whole].chunks_exact(LINE) {
        let (block, hash) = line.split_at(8);
        let block = u64::from_le_bytes(block.try_into().unwrap_or_default());
        let Some(has) = usize::try_from(block).ok().and_then(|at| blocks.get_mut(at)) else { continue };
        let len = (version.len - block * BLOCK).min(BLOCK) as usize;
        let is_it = matches!(file.read_at(block * BLOCK, &mut piece[..len]), Ok(got) if got == len);
        if *has == Has::Nothing && is_it && blake3::hash(&piece[..len]).as_bytes() == hash {
            *has = Has::Come;
            there += len as u64;
        }
    }
    // A line that was cut off is written over.
    map.set_len((end + 1 + whole) as u64)?;
    (&*map).seek(SeekFrom::End(0))?;
    Ok(Some(there))
}

/// Copies a range to the same place of another file.
fn copy(from: &File, to: &File, range: Range<u64>) -> io::Result<()> {
    let (mut a, mut b) = (range.start, range.start);
    while b < range.end {
        let most = (range.end - b).min(1 << 30) as usize;
        match rustix::fs::copy_file_range(from, Some(&mut a), to, Some(&mut b), most) {
            Ok(0) => return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it became shorter")),
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => {}
            // Between file systems, or where it is not known.
            Err(_) => break,
        }
    }
    let mut piece = vec![0; PIECE.min(range.end - b) as usize];
    while b < range.end {
        let len = piece.len().min((range.end - b) as usize);
        from.read_exact_at(&mut piece[..len], b)?;
        to.write_all_at(&piece[..len], b)?;
        b += len as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEN: u64 = 3 * BLOCK + 1000;

    fn begin(place: &Path, stamp: Option<&str>) -> Arrival {
        Arrival::begin(place, "https://x/y", LEN, stamp).unwrap()
    }

    #[test]
    fn it_goes_on_with_the_blocks_that_came_and_are_as_they_came() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("y");
        let arrival = begin(&place, Some("1"));
        arrival.put(1, &[1; BLOCK as usize]);
        arrival.put(2, &[2; BLOCK as usize]);
        arrival.put(3, &[3; 1000]);
        drop(arrival);
        let draft = OpenOptions::new().write(true).open(draft_of(&place)).unwrap();
        draft.write_all_at(b"x", 2 * BLOCK + 5).unwrap();
        let arrival = begin(&place, Some("1"));
        assert_eq!((arrival.resumed(), arrival.missing(LEN)), (BLOCK + 1000, vec![0..BLOCK, 2 * BLOCK..3 * BLOCK]));
        arrival.put(0, &[0; BLOCK as usize]);
        arrival.put(2, &[2; BLOCK as usize]);
        drop(arrival);
        let arrival = begin(&place, Some("1"));
        assert!(arrival.missing(LEN).is_empty());
        arrival.publish(None).unwrap();
        let bytes = fs::read(&place).unwrap();
        assert!(bytes.len() as u64 == LEN && bytes[2 * BLOCK as usize] == 2 && bytes[LEN as usize - 1] == 3);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn of_another_version_nothing_counts_and_without_one_nothing_stays() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("y");
        begin(&place, Some("1")).put(1, &[1; BLOCK as usize]);
        assert_eq!(begin(&place, Some("2")).resumed(), 0);
        begin(&place, Some("2")).put(1, &[1; BLOCK as usize]);
        assert_eq!(begin(&place, Some("2")).resumed(), BLOCK);
        let last = begin(&place, None);
        assert_eq!(last.resumed(), 0);
        last.discard();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn what_is_filled_in_does_not_reach_what_has_come() {
        let dir = tempfile::tempdir().unwrap();
        let arrival = begin(&dir.path().join("y"), Some("1"));
        arrival.put(1, &[1; BLOCK as usize]);
        arrival.fill(BLOCK / 2, &vec![9; 2 * BLOCK as usize]).unwrap();
        assert_eq!(arrival.missing(LEN), [0..BLOCK, 2 * BLOCK..LEN]);
        arrival.fill(0, &vec![9; BLOCK as usize / 2]).unwrap();
        assert_eq!(arrival.missing(LEN), std::slice::from_ref(&(2 * BLOCK..LEN)));
        assert_eq!(arrival.get(1), Some(vec![1; BLOCK as usize]));
        assert_eq!(arrival.get(0), Some(vec![9; BLOCK as usize]));
        arrival.unfill();
        assert_eq!(arrival.missing(BLOCK), [0..BLOCK, 2 * BLOCK..3 * BLOCK, 3 * BLOCK..LEN]);
    }

    #[test]
    fn a_length_that_nobody_can_hold_is_refused_before_anything_is_made_for_it() {
        let dir = tempfile::tempdir().unwrap();
        let refused = Arrival::begin(&dir.path().join("y"), "x", 1 << 60, Some("1")).err().unwrap();
        assert_eq!(refused.kind(), Kind::NoSpace);
    }
}
