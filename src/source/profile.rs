//! In which order the blocks of an object are first needed, so that the next start has them fetched ahead.
//!
//! ```text
//!   recorded   read ─► block 0, 1200, 1201, 7, 8 …  first time each ─► FILE     {"v":1,"name":…,"stamp":…,"len":…}
//!                                                                              0 1
//!                                                                              1200 2
//!   replayed   FILE ─► windows of a few ranges, in that order ─► fetched behind all that somebody waits for
//! ```
//!
//! A profile is a wish and no promise: one that is damaged or lies, or is of another version, costs a few requests at most.

use super::blocks::{BLOCK, Blocks, Coming};
use super::{ReadAt, Stored};
use crate::error::{Error, Kind, Result};
use crate::pool::lock;
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use std::fs;
use std::io::{self, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, Weak};
use std::thread;
use std::time::{Duration, Instant};

/// What a profile holds at most: ranges, and blocks of all of them. A start that needs more is no start.
const RANGES: usize = 100_000;
const BLOCKS: u64 = (1 << 30) / BLOCK;

/// Bytes of a profile.
const MOST: u64 = 4 << 20;

/// It is written down after so long, when there is more to tell.
const WRITE_AFTER: Duration = Duration::from_secs(3);

/// A window of what is fetched ahead: blocks, ranges, and how far apart two may lie that are fetched as one.
const WINDOW: u64 = (4 << 20) / BLOCK;
const WINDOW_RANGES: usize = 32;
const GAP: u64 = 2;

/// Windows that are on their way at a time.
const WINDOWS: usize = 2;

/// How long is waited for a window, before it is seen whether anybody still reads the object.
const WAIT: Duration = Duration::from_millis(500);

/// Of what a profile is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    v: u32,
    name: String,
    stamp: String,
    len: u64,
}

impl Version {
    pub fn new(name: &str, stamp: &str, len: u64) -> Self {
        Self { v: 1, name: name.to_owned(), stamp: stamp.to_owned(), len }
    }

    /// What a file with its profile is called.
    pub fn file_name(&self) -> String {
        let parts = [self.name.as_bytes(), self.stamp.as_bytes()].join(&0);
        blake3::hash(&parts).to_hex().to_string()
    }

    fn blocks(&self) -> u64 {
        self.len.div_ceil(BLOCK)
    }
}

/// Blocks, in the order in which they are needed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Profile {
    ranges: Vec<Range<u64>>,
}

impl Profile {
    /// Reads a profile. `None` where there is none of this version.
    pub fn read(path: &Path, version: &Version) -> Result<Option<Self>> {
        let failed = |e: io::Error| Error::io(e, format!("cannot read {}", path.display()));
        let text = match fs::metadata(path)
            .and_then(|meta| if meta.len() > MOST { Ok(None) } else { fs::read(path).map(Some) })
        {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            text => text.map_err(failed)?,
        };
        Ok(text.and_then(|text| Self::parse(&String::from_utf8_lossy(&text), version)))
    }

    fn parse(text: &str, version: &Version) -> Option<Self> {
        let mut lines = text.lines();
        let head: Version = serde_json::from_str(lines.next()?).ok()?;
        if head != *version {
            return None;
        }
        let (mut ranges, mut left) = (Vec::new(), BLOCKS);
        for line in lines.take(RANGES) {
            let (first, count) = line.split_once(' ')?;
            let (first, count): (u64, u64) = (first.parse().ok()?, count.parse().ok()?);
            let end = first.checked_add(count).filter(|end| *end <= version.blocks())?;
            left = left.checked_sub(count)?;
            ranges.push(first..end);
        }
        Some(Self { ranges })
    }

    fn write(&self, path: &Path, version: &Version) -> io::Result<()> {
        let mut text = serde_json::to_string(version).expect("a version is plain data") + "\n";
        for range in &self.ranges {
            text.push_str(&format!("{} {}\n", range.start, range.end - range.start));
        }
        if let Some(dir) = path.parent() {
            fs::create_dir_all(dir)?;
        }
        let mut draft = path.as_os_str().to_owned();
        draft.push(format!(".{}.tmp", std::process::id()));
        let mut file = fs::File::create(&draft)?;
        file.write_all(text.as_bytes())?;
        fs::rename(draft, path)
    }

    /// The windows in which it is fetched, each as bytes, in the order of their places.
    fn windows(&self) -> Vec<Vec<Range<u64>>> {
        let mut windows: Vec<(u64, Vec<Range<u64>>)> = Vec::new();
        for range in &self.ranges {
            let mut start = range.start;
            while start < range.end {
                let room = windows.last().filter(|(_, ranges)| ranges.len() < WINDOW_RANGES);
                let room = room.map_or(0, |(blocks, _)| WINDOW.saturating_sub(*blocks));
                if room == 0 {
                    windows.push((0, Vec::new()));
                    continue;
                }
                let end = range.end.min(start + room);
                if let Some((blocks, ranges)) = windows.last_mut() {
                    *blocks += end - start;
                    ranges.push(start..end);
                }
                start = end;
            }
        }
        windows.into_iter().map(|(_, ranges)| joined(ranges)).collect()
    }
}

/// Ranges of blocks in order, those that lie near as one, as bytes.
fn joined(mut ranges: Vec<Range<u64>>) -> Vec<Range<u64>> {
    ranges.sort_unstable_by_key(|range| range.start);
    let mut out: Vec<Range<u64>> = Vec::new();
    for range in ranges {
        match out.last_mut() {
            Some(last) if range.start <= last.end + GAP => last.end = last.end.max(range.end),
            _ => out.push(range),
        }
    }
    out.iter().map(|range| range.start * BLOCK..range.end * BLOCK).collect()
}

/// Bytes whose first reads are written down.
pub struct Recorded {
    inner: Arc<dyn ReadAt>,
    version: Version,
    path: PathBuf,
    seen: Mutex<Seen>,
}

struct Seen {
    blocks: HashSet<u64>,
    profile: Profile,
    is_full: bool,
    /// Ranges that are written down, and when that was.
    written: (usize, Instant),
}

impl Recorded {
    /// Begins a profile, which takes the place of one that is there.
    ///
    /// # Errors
    /// What cannot be written.
    pub fn new(inner: Arc<dyn ReadAt>, version: Version, path: PathBuf) -> Result<Self> {
        let profile = Profile::default();
        let failed = |e| Error::io(e, format!("cannot write {}", path.display()));
        profile.write(&path, &version).map_err(failed)?;
        let written = (0, Instant::now());
        let seen = Mutex::new(Seen { blocks: HashSet::new(), profile, is_full: false, written });
        Ok(Self { inner, version, path, seen })
    }

    fn note(&self, at: u64, len: usize) {
        if len == 0 {
            return;
        }
        let end = at.saturating_add(len as u64).min(self.version.len).div_ceil(BLOCK);
        let mut seen = lock(&self.seen);
        for block in at / BLOCK..end {
            seen.add(block);
        }
        if seen.written.1.elapsed() > WRITE_AFTER {
            self.write(&mut seen);
        }
    }

    fn write(&self, seen: &mut Seen) {
        if seen.profile.ranges.len() > seen.written.0
            && let Err(e) = seen.profile.write(&self.path, &self.version)
        {
            log::warn!("{}: the profile cannot be written: {e}", self.path.display());
        }
        seen.written = (seen.profile.ranges.len(), Instant::now());
    }
}

impl Seen {
    fn add(&mut self, block: u64) {
        if self.is_full || !self.blocks.insert(block) {
            return;
        }
        let ranges = &mut self.profile.ranges;
        match ranges.last_mut() {
            Some(last) if last.end == block => last.end += 1,
            _ => ranges.push(block..block + 1),
        }
        self.is_full = ranges.len() >= RANGES || self.blocks.len() as u64 >= BLOCKS;
        // What was last is told again: it may have become longer.
        self.written.0 = self.written.0.min(ranges.len() - 1);
    }
}

impl Drop for Recorded {
    fn drop(&mut self) {
        self.write(&mut lock(&self.seen));
    }
}

impl ReadAt for Recorded {
    fn len(&self) -> Result<u64> {
        self.inner.len()
    }

    fn read_at(&self, at: u64, into: &mut [u8]) -> Result<usize> {
        self.note(at, into.len());
        self.inner.read_at(at, into)
    }

    fn will_read(&self, range: Range<u64>) {
        self.inner.will_read(range);
    }

    fn next_data(&self, at: u64) -> Result<Option<Range<u64>>> {
        self.inner.next_data(at)
    }

    fn stored(&self, range: Range<u64>) -> Option<Stored> {
        self.inner.stored(range)
    }

    fn is_changed(&self) -> bool {
        self.inner.is_changed()
    }
}

/// Has blocks fetched in the background, in the order of a profile, for as long as somebody has the object.
pub fn replay(profile: &Profile, object: &Arc<Blocks>) {
    let (windows, object) = (profile.windows(), Arc::downgrade(object));
    let started = thread::Builder::new().name("profile".into()).spawn(move || fetch(&windows, &object));
    if let Err(e) = started {
        log::debug!("nothing is fetched ahead: {e}");
    }
}

fn fetch(windows: &[Vec<Range<u64>>], object: &Weak<Blocks>) {
    let mut coming = std::collections::VecDeque::new();
    for window in windows {
        let Some(there) = object.upgrade() else { return };
        coming.push_back(there.bring(window));
        drop(there);
        while coming.len() >= WINDOWS {
            match coming.front().map(|first: &Coming| first.wait(WAIT)) {
                Some(Err(e)) if e.kind() == Kind::TimedOut && object.strong_count() > 0 => {}
                Some(Err(e)) => return log::debug!("no more is fetched ahead: {e}"),
                Some(Ok(())) | None => drop(coming.pop_front()),
            }
        }
    }
}

/// Tells the system of a local file what is going to be read.
pub fn expect(profile: &Profile, file: &dyn ReadAt) {
    profile.windows().into_iter().flatten().for_each(|range| file.will_read(range));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Memory;

    fn version(len: u64) -> Version {
        Version::new("https://x/y", "1", len)
    }

    #[test]
    fn blocks_are_written_down_once_in_the_order_in_which_they_were_read() {
        let (dir, len) = (tempfile::tempdir().unwrap(), 100 * BLOCK + 5);
        let path = dir.path().join("p/profile");
        let bytes = Arc::new(Memory::new(vec![0; len as usize]));
        let recorded = Recorded::new(bytes, version(len), path.clone()).unwrap();
        let read = |at: u64, len: usize| recorded.read_at(at, &mut vec![0; len]).unwrap();
        read(50 * BLOCK + 7, 10);
        read(51 * BLOCK - 1, 2);
        read(0, 100);
        read(50 * BLOCK, 1000);
        read(100 * BLOCK, 900_000);
        drop(recorded);
        let profile = Profile::read(&path, &version(len)).unwrap().unwrap();
        assert_eq!(profile.ranges, [50..52, 0..1, 100..101]);
        assert_eq!(Profile::read(&path, &version(len + 1)).unwrap(), None);
        assert_eq!(Profile::read(&dir.path().join("none"), &version(len)).unwrap(), None);
    }

    #[test]
    fn what_is_damaged_or_lies_is_none() {
        let head = serde_json::to_string(&version(10 * BLOCK)).unwrap();
        let parse = |rest: &str| Profile::parse(&format!("{head}\n{rest}"), &version(10 * BLOCK));
        assert!(parse("0 3\n7 3\n").is_some());
        for wrong in ["0", "0 x", "-1 2", "8 3", "18446744073709551615 2", "0 10\n0 10\nx"] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
        let many = "0 10\n".repeat(BLOCKS as usize / 10 + 1);
        assert_eq!(parse(&many), None);
    }

    #[test]
    fn windows_keep_the_order_and_join_what_lies_near() {
        let profile = Profile { ranges: vec![500..502, 10..11, 12..13, 0..1, 1000..1000 + 2 * WINDOW] };
        let windows = profile.windows();
        let bytes = |range: Range<u64>| range.start * BLOCK..range.end * BLOCK;
        assert_eq!(windows[0][..3], [bytes(0..1), bytes(10..13), bytes(500..502)]);
        let count: u64 = windows.iter().flatten().map(|range| (range.end - range.start) / BLOCK).sum();
        assert_eq!((windows.len(), count), (3, 5 + 2 * WINDOW + 1));
    }
}
