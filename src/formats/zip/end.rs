//! Where the list of entries is: what the records at the end of the archive say, and whether that can be.
//!
//! ```text
//!   prefix │ entries ─ ─ │ list │ End64 │ Locator │ End │ comment │ garbage
//!          0 of offsets  └ list_at ┘└ list_len ┘   └ found by its signature, from behind
//!            relative to the archive
//! ```
//!
//! Anything may look like an end record: a comment may hold one, garbage behind it may. So all that are found are weighed by
//! whether a list is where they say, and the last of the best is taken.

use super::layout::{ARCHIVE_EXTRA, CENTRAL, END, END64, End, End64, IN_ZIP64, IN_ZIP64_SHORT, LOCATOR, Locator};
use super::records::Records;
use crate::error::Result;
use crate::source::ReadAt;
use memchr::memmem;
use zerocopy::FromBytes;

/// How much of the end is looked through for the end record: first what the format allows, then much more.
const WINDOWS: [u64; 2] = [(64 << 10) + 22 + 20, 1 << 20];

/// End records that are looked at, the last ones.
const MOST: usize = 64;

/// What the records at the end say.
#[derive(Clone, Debug, Default)]
pub struct Ending {
    /// Where the first of them begins, and so the list has ended.
    pub at: u64,
    /// Where the last of them begins.
    end_at: u64,
    /// The number of the last volume.
    pub disk: u32,
    pub list_disk: u32,
    pub entries: u64,
    pub list_len: u64,
    pub list_at: u64,
    pub is_zip64: bool,
    pub comment: Vec<u8>,
    /// Bytes behind what belongs to the archive.
    pub behind: u64,
}

/// Where a list is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub start: u64,
    /// What is to be added to offsets in the archive: something stands in front of it, or they are wrong.
    pub base: i64,
    trust: Trust,
}

/// How sure it is that a list is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Trust {
    /// It says that there are no entries, and there is nothing that contradicts it.
    Empty,
    /// It begins where the offset says, though not as far before the end record as it is long.
    Offset,
    /// It is as long as it says, right before the end record.
    Length,
    /// Both.
    Both,
}

impl Place {
    pub fn is_empty(&self) -> bool {
        self.trust == Trust::Empty
    }
}

/// What was found.
pub struct Found {
    pub ending: Ending,
    /// Nothing when there is no list where it says.
    pub place: Option<Place>,
    /// How many end records lead to a list, and may be meant as well as this one.
    pub candidates: usize,
}

/// The best of all end records. `starts` is where each volume begins.
pub fn find(source: &dyn ReadAt, starts: &[u64]) -> Result<Option<Found>> {
    let mut best: Option<Found> = None;
    for window in WINDOWS {
        best = best_in(source, starts, window)?;
        if best.as_ref().is_some_and(|found| found.place.is_some()) || window >= source.len()? {
            break;
        }
    }
    Ok(best)
}

/// Whether the last bytes of a file hold something like an end record.
pub fn may_end(tail: &[u8]) -> bool {
    let is_likely = |at: usize| {
        let Ok((end, rest)) = End::read_from_prefix(&tail[at..]) else { return false };
        let entry = size_of::<super::layout::Central>() as u64;
        let fits = u64::from(end.entries.get()) * entry <= u64::from(end.list_len.get());
        fits && usize::from(end.comment_len.get()) <= rest.len() && end.list_disk.get() <= end.disk.get()
    };
    memmem::rfind_iter(tail, &END).take(MOST).any(is_likely)
}

fn best_in(source: &dyn ReadAt, starts: &[u64], window: u64) -> Result<Option<Found>> {
    let (mut best, mut rivals): (Option<Found>, Vec<u64>) = (None, Vec::new());
    let mut last = None;
    for ending in endings(source, starts, window)? {
        let place = locate(source, starts, &ending)?;
        // With zip64 and without, one record is one.
        let is_another =
            place.is_some_and(|place| !place.is_empty()) && last.replace(ending.end_at) != Some(ending.end_at);
        if is_another {
            rivals.push(ending.behind);
        }
        let trust = |place: &Option<Place>| place.map(|place| place.trust);
        if best.as_ref().is_none_or(|best| trust(&place) > trust(&best.place)) {
            best = Some(Found { ending, place, candidates: 0 });
        }
    }
    // One with something behind it is that of an archive inside, where another one reaches to the end of the file.
    Ok(best.map(|best| {
        let candidates = rivals.iter().filter(|behind| best.ending.behind > 0 || **behind == 0).count();
        Found { candidates, ..best }
    }))
}

/// All end records, the last one first; each with what zip64 adds to it, and without.
fn endings(source: &dyn ReadAt, starts: &[u64], window: u64) -> Result<Vec<Ending>> {
    let len = source.len()?;
    let mut tail = vec![0; window.min(len) as usize];
    let tail_at = len - tail.len() as u64;
    source.read_exact_at(tail_at, &mut tail)?;
    let mut found = Vec::new();
    for at in memmem::rfind_iter(&tail, &END).take(MOST) {
        let Ok((end, rest)) = End::read_from_prefix(&tail[at..]) else { continue };
        let Some(ending) = ending(tail_at + at as u64, &end, rest) else { continue };
        if let Some(wide) = widened(source, starts, &ending)? {
            found.push(wide);
        }
        found.push(ending);
    }
    Ok(found)
}

/// A record as it is. A comment that goes on behind the end of the file is cut off there.
fn ending(at: u64, end: &End, rest: &[u8]) -> Option<Ending> {
    let comment = &rest[..rest.len().min(end.comment_len.get().into())];
    let ending = Ending {
        at,
        end_at: at,
        disk: end.disk.get().into(),
        list_disk: end.list_disk.get().into(),
        entries: end.entries.get().into(),
        list_len: end.list_len.get().into(),
        list_at: end.list_at.get().into(),
        is_zip64: false,
        comment: comment.to_vec(),
        behind: (rest.len() - comment.len()) as u64,
    };
    (end.list_disk.get() <= end.disk.get()).then_some(ending)
}

/// The same with the numbers of zip64, where its records stand before it.
fn widened(source: &dyn ReadAt, starts: &[u64], ending: &Ending) -> Result<Option<Ending>> {
    let Some(locator_at) = ending.at.checked_sub(size_of::<Locator>() as u64) else { return Ok(None) };
    let Some(locator) = read::<Locator>(source, locator_at)? else { return Ok(None) };
    if locator.signature != LOCATOR {
        return Ok(None);
    }
    let volume = starts.get(locator.disk.get() as usize).copied().unwrap_or(0);
    let told = volume.checked_add(locator.end64_at.get());
    // With something in front of the archive, it is where it has to be and not where the locator says.
    let behind = locator_at.checked_sub(size_of::<End64>() as u64);
    for at in [told, behind].into_iter().flatten().filter(|at| *at < locator_at) {
        if let Some(end64) = read::<End64>(source, at)?.filter(|end64| end64.signature == END64) {
            return Ok(Some(merged(ending, &end64, at)));
        }
    }
    Ok(None)
}

fn merged(ending: &Ending, end64: &End64, at: u64) -> Ending {
    Ending {
        at,
        disk: end64.disk.get(),
        list_disk: end64.list_disk.get(),
        entries: end64.entries.get(),
        list_len: end64.list_len.get(),
        list_at: end64.list_at.get(),
        is_zip64: true,
        ..ending.clone()
    }
}

impl Ending {
    /// Whether a number has no room in the record that was read.
    pub fn needs_zip64(&self) -> bool {
        let short = u64::from(IN_ZIP64_SHORT);
        !self.is_zip64 && (self.entries == short || [self.list_len, self.list_at].contains(&IN_ZIP64.into()))
    }
}

fn read<T: FromBytes>(source: &dyn ReadAt, at: u64) -> Result<Option<T>> {
    // The largest of the structures.
    let mut bytes = [0; 64];
    let bytes = &mut bytes[..size_of::<T>()];
    let got = source.read_at(at, bytes)?;
    Ok(T::read_from_bytes(&bytes[..got]).ok())
}

/// Whether a list is where an end record says, or where it must be when something stands in front of the archive.
fn locate(source: &dyn ReadAt, starts: &[u64], ending: &Ending) -> Result<Option<Place>> {
    let volume = starts.get(ending.list_disk as usize).copied().unwrap_or(0);
    let told = volume.checked_add(ending.list_at).filter(|at| *at <= ending.at);
    let behind = ending.at.checked_sub(ending.list_len);
    if ending.entries == 0 && ending.list_len == 0 {
        return Ok(empty(ending, told));
    }
    let told =
        told.filter(|at| begins(source, *at, ending.at)).map(|start| Place { start, base: 0, trust: Trust::Offset });
    let behind = behind.filter(|at| begins(source, *at, ending.at)).map(|start| {
        let base = start.wrapping_sub(volume).wrapping_sub(ending.list_at).cast_signed();
        Place { start, base, trust: Trust::Length }
    });
    match (told, behind) {
        (Some(told), Some(behind)) if told.start == behind.start => Ok(Some(Place { trust: Trust::Both, ..told })),
        (Some(told), Some(behind)) => {
            let is_right =
                |place: Place| Ok::<_, crate::error::Error>(count(source, place.start, ending)? == ending.entries);
            Ok(Some(if is_right(told)? && !is_right(behind)? { told } else { behind }))
        }
        (told, behind) => Ok(behind.or(told)),
    }
}

fn empty(ending: &Ending, told: Option<u64>) -> Option<Place> {
    let start = ending.at;
    told.is_some().then_some(Place { start, base: 0, trust: Trust::Empty })
}

/// Whether a list begins at an offset: in clear, or encrypted.
fn begins(source: &dyn ReadAt, at: u64, end: u64) -> bool {
    let mut signature = [0; 4];
    at < end && source.read_exact_at(at, &mut signature).is_ok() && [CENTRAL, ARCHIVE_EXTRA].contains(&signature)
}

fn count(source: &dyn ReadAt, start: u64, ending: &Ending) -> Result<u64> {
    let (mut records, mut count) = (Records::new(source, start..ending.at), 0);
    while count <= ending.entries && records.next()?.is_some() {
        count += 1;
    }
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Memory;
    use zerocopy::IntoBytes;
    use zerocopy::little_endian::{U16, U32};

    fn record(entries: u16, list_len: u32, list_at: u32, comment: &[u8]) -> Vec<u8> {
        let end = End {
            signature: END,
            disk: U16::ZERO,
            list_disk: U16::ZERO,
            entries_here: U16::new(entries),
            entries: U16::new(entries),
            list_len: U32::new(list_len),
            list_at: U32::new(list_at),
            comment_len: U16::new(comment.len() as u16),
        };
        [end.as_bytes(), comment].concat()
    }

    /// An entry of a list, of 46 bytes.
    fn central() -> Vec<u8> {
        let mut bytes = vec![0; 46];
        bytes[..4].copy_from_slice(&CENTRAL);
        bytes
    }

    fn found(bytes: Vec<u8>) -> Option<Found> {
        find(&Memory::new(bytes), &[0]).unwrap()
    }

    #[test]
    fn an_end_record_in_a_comment_is_not_taken_for_one() {
        let fake = record(0, 0, 0, b"");
        let bytes = [vec![7; 100], central(), record(1, 46, 100, &[&b"see "[..], &fake].concat())].concat();
        let found = found(bytes).unwrap();
        assert_eq!(found.place, Some(Place { start: 100, base: 0, trust: Trust::Both }));
        assert_eq!((found.ending.comment.len(), found.ending.behind), (26, 0));
    }

    #[test]
    fn an_archive_inside_is_no_rival_and_one_in_the_comment_is() {
        let inner = [vec![7; 10], central(), record(1, 46, 10, b"")].concat();
        let outer = [inner.clone(), central(), record(1, 46, inner.len() as u32, b"")].concat();
        assert_eq!(found(outer).unwrap().candidates, 1);
        let quoted = [central(), record(1, 46, 10, b"")].concat();
        let with_comment = [vec![7; 10], central(), record(1, 46, 10, &quoted)].concat();
        assert_eq!(found(with_comment).unwrap().candidates, 2);
    }

    #[test]
    fn offsets_count_from_the_file_or_from_the_archive() {
        let archive = [vec![7; 100], central(), record(1, 46, 100, b"c")].concat();
        let place = found([vec![1; 33], archive.clone()].concat()).unwrap().place;
        assert_eq!(place, Some(Place { start: 133, base: 33, trust: Trust::Length }));
        let of_file = [vec![1; 33], vec![7; 100], central(), record(1, 46, 133, b"c")].concat();
        assert_eq!(found(of_file).unwrap().place, Some(Place { start: 133, base: 0, trust: Trust::Both }));
        let cut_in_front = found(archive[10..].to_vec()).unwrap().place;
        assert_eq!(cut_in_front, Some(Place { start: 90, base: -10, trust: Trust::Length }));
    }

    #[test]
    fn garbage_behind_may_be_long_and_lies_lead_nowhere() {
        let archive = [vec![7; 100], central(), record(1, 46, 100, b"")].concat();
        let with_garbage = [archive.clone(), vec![0; 300_000]].concat();
        assert_eq!(found(with_garbage).unwrap().ending.behind, 300_000);
        assert!(found(vec![0; 1000]).is_none());
        assert!(found(record(1, 46, 100, b"")).unwrap().place.is_none());
        assert!(found(record(9, u32::MAX, u32::MAX, b"")).unwrap().place.is_none());
        assert!(found(record(0, 0, 0, b"")).unwrap().place.unwrap().is_empty());
        let wrong_len = [vec![7; 100], central(), record(1, 40, 100, b"")].concat();
        assert_eq!(found(wrong_len).unwrap().place.unwrap().trust, Trust::Offset);
    }
}
