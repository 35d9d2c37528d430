//! Bytes that are a round trip away, read as if they were here.
//!
//! ```text
//!   read ─► in memory? ─► kept on the disk? ─► on its way? ─► a flight: one request for blocks that lie together
//!
//!   flight   request 12..20 │12│13│14│ dropped ── backoff ── request 15..20 │15│16│ ...
//!            a block lands as soon as it is whole, and whoever waits for it goes on
//! ```
//!
//! Nobody waits longer than the patience of the object, whatever the other end does: a read whose blocks have not landed
//! until then fails with `TimedOut`, and the same read later finds what has landed meanwhile. Reads that go on where the last
//! one ended are seen, and what follows is fetched ahead, the more the longer they go on, by several flights at once: that is
//! what fills a link whose round trips are long.
//!
//! What the other end sends is asked for by [`Far`]; which answers of it count, it knows. An object that was changed there is
//! never mixed with what was fetched of it before: each later flight fails with `Changed`.

use super::pace::Pace;
use super::{Fleet, Meter, Portion, ReadAt, Until};
use crate::cache::{Cache, Key};
use crate::error::{Error, Kind, Result};
use crate::pool::lock;
use std::collections::HashMap;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

/// Bytes of a block: what is fetched and kept at least.
pub const BLOCK: u64 = 64 << 10;

/// Blocks of one request. A range is fetched by a few at once, and none of them is so small that the way takes longer than the
/// bytes.
const FLIGHT: std::ops::RangeInclusive<u64> = 16..=64;
const FLIGHTS: u64 = 4;

/// The largest stretch that is fetched ahead: of a link with 100 ms and 1 Gbit/s, 12 MiB are on their way.
const AHEAD: u64 = 16 << 20;

/// The first wait before another try, which doubles with each until the last.
const FIRST_WAIT: Duration = Duration::from_millis(200);
const LAST_WAIT: Duration = Duration::from_secs(5);

/// The space of blocks in the keys of the cache.
const SPACE: u8 = 0;

/// An object at the other end of a link.
pub trait Far: Send + Sync {
    /// Fetches a range, and hands over what comes as it comes, from the front; ends early when it is told so. It may end before
    /// all was there: then it is asked for the rest.
    fn fetch(&self, range: Range<u64>, take: &mut dyn FnMut(&[u8]) -> Go) -> std::result::Result<(), Failure>;

    /// Whether only all of it can be had, from its front.
    fn is_forward(&self) -> bool {
        false
    }

    /// Whether to ask for a part is so dear that what lies together is one request, however long it is.
    fn is_stream(&self) -> bool {
        false
    }
}

/// Whether to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Go {
    On,
    Away,
}

/// Why nothing came, and whether it is worth another try.
#[derive(Debug)]
pub struct Failure {
    pub error: Error,
    pub again: Again,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Again {
    Never,
    /// After a while, which is longer each time.
    Soon,
    /// As the other end says.
    In(Duration),
}

/// Where blocks are kept that outlast the process. What it gives is what it was given, or nothing.
pub trait Kept: Send + Sync {
    fn get(&self, block: u64) -> Option<Vec<u8>>;
    fn contains(&self, block: u64) -> bool;
    fn put(&self, block: u64, bytes: &[u8]);
    /// Blocks that are kept, about.
    fn count(&self) -> u64;
}

/// A [`ReadAt`] over an object at the other end of a link.
pub struct Blocks(Arc<Inner>);

struct Inner {
    far: Arc<dyn Far>,
    len: u64,
    fleet: Arc<Fleet>,
    cache: Arc<Cache>,
    owner: u64,
    kept: Option<Arc<dyn Kept>>,
    patience: Duration,
    state: Mutex<State>,
    /// Nobody reads it any more.
    is_closed: AtomicBool,
    is_changed: AtomicBool,
    meter: Arc<Meter>,
}

#[derive(Default)]
struct State {
    /// Blocks on their way.
    flying: HashMap<u64, Arc<Slot>>,
    pace: Pace,
}

/// A block on its way.
#[derive(Default)]
struct Slot {
    landing: Mutex<Landing>,
    changed: Condvar,
    /// Somebody waits for it.
    is_awaited: AtomicBool,
}

#[derive(Clone, Default)]
enum Landing {
    #[default]
    Flying,
    Here(Arc<Vec<u8>>),
    Failed(Kind, String, Option<String>),
}

/// Blocks that were sent for ahead.
pub struct Coming(Vec<Arc<Slot>>);

impl Coming {
    /// Waits until all of them are there.
    ///
    /// # Errors
    /// `TimedOut` when they are not until then; why one of them cannot come.
    pub fn wait(&self, patience: Duration) -> Result<()> {
        let until = Until::new(patience, None);
        self.0.iter().try_for_each(|slot| slot.wait(&until).map(drop))
    }
}

/// A block as a read finds it.
enum Found {
    Here(Arc<Vec<u8>>),
    Flying(Arc<Slot>),
}

/// How blocks are read and kept.
pub struct Ways {
    pub cache: Arc<Cache>,
    pub fleet: Arc<Fleet>,
    pub kept: Option<Arc<dyn Kept>>,
    /// The longest that a read waits.
    pub patience: Duration,
    /// Counts what comes.
    pub meter: Arc<Meter>,
}

impl Blocks {
    /// An object of so many bytes.
    pub fn new(far: Arc<dyn Far>, len: u64, ways: Ways) -> Self {
        let Ways { cache, fleet, kept, patience, meter } = ways;
        let owner = cache.new_owner();
        let inner = Inner {
            far,
            len,
            fleet,
            cache,
            owner,
            kept,
            patience,
            state: Mutex::default(),
            is_closed: AtomicBool::new(false),
            is_changed: AtomicBool::new(false),
            meter,
        };
        let inner = Arc::new(inner);
        if inner.kept.is_some() {
            let open: Weak<Inner> = Arc::downgrade(&inner);
            inner.meter.enter(open);
        }
        Self(inner)
    }

    /// Takes bytes that came otherwise, as with the answer that told the length. Only whole blocks count.
    pub fn seed(&self, at: u64, bytes: &[u8]) {
        let (first, end) = (at.div_ceil(BLOCK), at + bytes.len() as u64);
        for block in first..end.div_ceil(BLOCK) {
            let range = self.0.range(block);
            if range.end <= end {
                self.0.keep(block, Arc::new(bytes[(range.start - at) as usize..(range.end - at) as usize].to_vec()));
            }
        }
    }

    /// Whether only all of it can be had, from its front.
    pub fn is_forward(&self) -> bool {
        self.0.far.is_forward()
    }

    /// Starts to fetch what of these ranges is not here, behind all that somebody waits for.
    pub fn bring(&self, ranges: &[Range<u64>]) -> Coming {
        let mut slots = Vec::new();
        for range in ranges.iter().filter(|_| !self.0.far.is_forward()) {
            let end = range.end.min(self.0.len);
            if range.start < end {
                let found = self.0.find(range.start / BLOCK..end.div_ceil(BLOCK), true);
                slots.extend(found.into_iter().filter_map(|(_, found)| match found {
                    Found::Flying(slot) => Some(slot),
                    Found::Here(_) => None,
                }));
            }
        }
        Coming(slots)
    }

    /// Starts to fetch what of a range is not here. False where nothing of it has to be.
    fn fetch_ahead(&self, range: Range<u64>) {
        let end = range.end.min(self.0.len);
        if range.start < end {
            self.0.find(range.start / BLOCK..end.div_ceil(BLOCK), true);
        }
    }
}

impl Drop for Blocks {
    fn drop(&mut self) {
        self.0.is_closed.store(true, Relaxed);
    }
}

impl ReadAt for Blocks {
    fn len(&self) -> Result<u64> {
        Ok(self.0.len)
    }

    fn read_at(&self, at: u64, into: &mut [u8]) -> Result<usize> {
        let inner = &self.0;
        let end = at.saturating_add(into.len() as u64).min(inner.len);
        if at >= end {
            return Ok(0);
        }
        let until = inner.fleet.until(inner.patience);
        let found = inner.find(at / BLOCK..end.div_ceil(BLOCK), false);
        let ahead = lock(&inner.state).pace.note(at..end, inner.len, AHEAD);
        if let Some(ahead) = ahead.filter(|_| !inner.far.is_forward()) {
            self.fetch_ahead(ahead);
        }
        for (block, found) in found {
            let bytes = match found {
                Found::Here(bytes) => bytes,
                Found::Flying(slot) => {
                    slot.is_awaited.store(true, Relaxed);
                    slot.wait(&until).inspect_err(|_| inner.meter.read_failed())?
                }
            };
            let begin = block * BLOCK;
            let part = at.max(begin)..end.min(begin + bytes.len() as u64);
            into[(part.start - at) as usize..(part.end - at) as usize]
                .copy_from_slice(&bytes[(part.start - begin) as usize..(part.end - begin) as usize]);
        }
        Ok((end - at) as usize)
    }

    fn will_read(&self, range: Range<u64>) {
        if !self.0.far.is_forward() {
            self.fetch_ahead(range.start..range.end.min(range.start.saturating_add(AHEAD)));
        }
    }

    fn is_changed(&self) -> bool {
        self.0.is_changed.load(Relaxed)
    }
}

impl Portion for Inner {
    fn portion(&self) -> (u64, u64) {
        let kept = self.kept.as_ref().map_or(0, |kept| kept.count());
        (kept.saturating_mul(BLOCK).min(self.len), self.len)
    }
}

impl Slot {
    fn wait(&self, until: &Until<'_>) -> Result<Arc<Vec<u8>>> {
        let mut landing = lock(&self.landing);
        loop {
            match &*landing {
                Landing::Here(bytes) => return Ok(bytes.clone()),
                Landing::Failed(kind, what, hint) => {
                    let e = Error::new(*kind, what.clone());
                    return Err(hint.iter().fold(e, |e, hint| e.hint(hint.clone())));
                }
                Landing::Flying => {}
            }
            let left = until.left();
            if left.is_zero() {
                return Err(Error::new(Kind::TimedOut, "the other end did not answer in time"));
            }
            landing = self.changed.wait_timeout(landing, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn land(&self, landing: Landing) {
        *lock(&self.landing) = landing;
        self.changed.notify_all();
    }
}

impl Inner {
    fn range(&self, block: u64) -> Range<u64> {
        block * BLOCK..((block + 1) * BLOCK).min(self.len)
    }

    fn key(&self, block: u64) -> Key {
        Key { owner: self.owner, space: SPACE, at: block }
    }

    /// A block that is in memory or on the disk.
    fn here(&self, block: u64) -> Option<Arc<Vec<u8>>> {
        if let Some(bytes) = self.cache.get::<Vec<u8>>(self.key(block)) {
            return Some(bytes);
        }
        let range = self.range(block);
        let bytes = self.kept.as_ref()?.get(block).filter(|bytes| bytes.len() as u64 == range.end - range.start)?;
        let bytes = Arc::new(bytes);
        self.cache.put(self.key(block), bytes.clone());
        Some(bytes)
    }

    fn is_here(&self, block: u64) -> bool {
        self.cache.contains(self.key(block)) || self.kept.as_ref().is_some_and(|kept| kept.contains(block))
    }

    fn keep(&self, block: u64, bytes: Arc<Vec<u8>>) {
        if let Some(kept) = &self.kept {
            kept.put(block, &bytes);
        }
        self.cache.put(self.key(block), bytes);
    }

    /// The blocks of a range as they are; what is neither here nor on its way is sent for. Whoever looks `ahead` needs none
    /// of them yet.
    fn find(self: &Arc<Self>, blocks: Range<u64>, ahead: bool) -> Vec<(u64, Found)> {
        let mut found = Vec::new();
        let mut missing = Vec::new();
        for block in blocks {
            match if ahead { None } else { self.here(block) } {
                Some(bytes) => found.push((block, Found::Here(bytes))),
                None if ahead && self.is_here(block) => {}
                None => missing.push(block),
            }
        }
        let most = match self.far.is_stream() {
            true => u64::MAX,
            false => (missing.len() as u64).div_ceil(FLIGHTS).clamp(*FLIGHT.start(), *FLIGHT.end()),
        };
        let mut runs: Vec<(u64, Vec<Arc<Slot>>)> = Vec::new();
        let mut state = lock(&self.state);
        for block in missing {
            if let Some(slot) = state.flying.get(&block) {
                found.push((block, Found::Flying(slot.clone())));
                continue;
            }
            // It may have landed since it was looked for.
            if let Some(bytes) = self.here(block) {
                found.push((block, Found::Here(bytes)));
                continue;
            }
            if self.far.is_forward() {
                // All of it comes, or nothing: what is here already comes once more.
                let slots = self.slots(&mut state, 0..self.len.div_ceil(BLOCK));
                found.push((block, Found::Flying(slots[block as usize].clone())));
                runs.push((0, slots));
                continue;
            }
            let slot = self.slots(&mut state, block..block + 1).swap_remove(0);
            found.push((block, Found::Flying(slot.clone())));
            match runs.last_mut() {
                Some((first, slots)) if *first + slots.len() as u64 == block && (slots.len() as u64) < most => {
                    slots.push(slot);
                }
                _ => runs.push((block, vec![slot])),
            }
        }
        drop(state);
        for (first, slots) in runs {
            let progress = Instant::now();
            let flight = Flight { of: self.clone(), first, slots, landed: 0, partial: Vec::new(), progress };
            self.fleet.send(ahead, move || flight.fly());
        }
        found
    }

    /// Says that blocks are on their way.
    fn slots(&self, state: &mut State, blocks: Range<u64>) -> Vec<Arc<Slot>> {
        let mut slots = Vec::new();
        for block in blocks {
            slots.push(state.flying.entry(block).or_default().clone());
        }
        slots
    }
}

/// One request after the other for blocks that lie together, until all have landed or there is no more hope.
struct Flight {
    of: Arc<Inner>,
    first: u64,
    slots: Vec<Arc<Slot>>,
    /// Of the slots.
    landed: usize,
    /// What there is of the next block.
    partial: Vec<u8>,
    /// When the last one landed.
    progress: Instant,
}

impl Flight {
    fn fly(mut self) {
        let of = self.of.clone();
        let mut tries = 0;
        self.progress = Instant::now();
        while self.landed < self.slots.len() {
            if of.is_closed.load(Relaxed) {
                return self.fail(&Error::new(Kind::Interrupted, "nobody reads it any more"));
            }
            let start = (self.first + self.landed as u64) * BLOCK + self.partial.len() as u64;
            let end = of.range(self.first + self.slots.len() as u64 - 1).end;
            let before = self.landed;
            of.meter.asked();
            let (from, mut skip) = if of.far.is_forward() { (0, start as usize) } else { (start, 0) };
            let fetched = of.far.fetch(from..end, &mut |piece| {
                let skipped = skip.min(piece.len());
                skip -= skipped;
                self.take(&piece[skipped..])
            });
            if self.landed > before {
                tries = 0;
                of.meter.answered();
            }
            let failure = match fetched {
                Ok(()) if self.landed == self.slots.len() => return,
                Ok(()) if self.is_late() => return self.fail(&Error::new(Kind::TimedOut, "it comes too slowly")),
                Ok(()) => Failure { error: Error::new(Kind::Io, "the connection was cut"), again: Again::Soon },
                Err(failure) => failure,
            };
            of.meter.note(Some(&failure.error));
            let wait = match failure.again {
                Again::Never => return self.fail(&failure.error),
                Again::Soon => (FIRST_WAIT * 2u32.pow(tries)).min(LAST_WAIT),
                Again::In(time) => time,
            };
            if self.progress.elapsed() + wait > of.patience {
                return self.fail(&failure.error);
            }
            log::debug!("{}, another try in {} ms", failure.error, wait.as_millis());
            of.meter.again(&failure.error, wait);
            tries = (tries + 1).min(8);
            of.fleet.rest(wait);
        }
    }

    /// Whether no block has landed for too long.
    fn is_late(&self) -> bool {
        self.progress.elapsed() > self.of.patience
    }

    /// Takes what came; each block that is whole lands.
    fn take(&mut self, mut piece: &[u8]) -> Go {
        self.of.meter.came(piece.len());
        if let Some(limit) = self.of.fleet.limit() {
            let is_awaited = self.slots.iter().skip(self.landed).any(|slot| slot.is_awaited.load(Relaxed));
            self.progress += limit.pass(piece.len(), is_awaited, &|| !self.of.is_closed.load(Relaxed));
        }
        while !piece.is_empty() && self.landed < self.slots.len() {
            let block = self.first + self.landed as u64;
            let range = self.of.range(block);
            let len = (range.end - range.start) as usize;
            let (now, rest) = piece.split_at(piece.len().min(len - self.partial.len()));
            self.partial.extend_from_slice(now);
            piece = rest;
            if self.partial.len() == len {
                self.land(block);
            }
        }
        let is_wanted = self.landed < self.slots.len() && !self.of.is_closed.load(Relaxed) && !self.is_late();
        if is_wanted { Go::On } else { Go::Away }
    }

    fn land(&mut self, block: u64) {
        let bytes = Arc::new(std::mem::take(&mut self.partial));
        // What somebody has read is kept: who pins it counts on that.
        self.of.keep(block, bytes.clone());
        self.slots[self.landed].land(Landing::Here(bytes));
        // Not before it is in the cache: whoever looks there and then here finds it.
        lock(&self.of.state).flying.remove(&block);
        (self.landed, self.progress) = (self.landed + 1, Instant::now());
    }

    /// Whatever has not landed does not come.
    fn fail(&mut self, why: &Error) {
        if why.kind() == Kind::Changed {
            self.of.is_changed.store(true, Relaxed);
        }
        let mut state = lock(&self.of.state);
        for (n, slot) in self.slots.iter().enumerate().skip(self.landed) {
            state.flying.remove(&(self.first + n as u64));
            slot.land(Landing::Failed(why.kind(), why.to_string(), why.advice().map(str::to_owned)));
        }
        self.landed = self.slots.len();
    }
}

impl Drop for Flight {
    /// A flight that ends in any other way, as in a panic, leaves nobody waiting.
    fn drop(&mut self) {
        if self.landed < self.slots.len() {
            self.fail(&Error::new(Kind::Io, "the request was given up"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;

    /// What a request comes to.
    #[derive(Clone, Debug)]
    enum Act {
        /// So many bytes, and then the connection is cut.
        Cut(usize),
        Fail(Kind, Again),
        /// Nothing, for so long.
        Hang(Duration),
    }

    /// The other end: it does what it is told to, and after that what it should.
    struct Script {
        bytes: Vec<u8>,
        acts: Mutex<VecDeque<Act>>,
        asked: Mutex<Vec<Range<u64>>>,
        is_forward: bool,
    }

    impl Far for Script {
        fn fetch(&self, range: Range<u64>, take: &mut dyn FnMut(&[u8]) -> Go) -> std::result::Result<(), Failure> {
            lock(&self.asked).push(range.clone());
            let act = lock(&self.acts).pop_front();
            let mut end = range.end;
            match act {
                None => {}
                Some(Act::Cut(bytes)) => end = end.min(range.start + bytes as u64),
                Some(Act::Fail(kind, again)) => return Err(Failure { error: Error::new(kind, "as told"), again }),
                Some(Act::Hang(time)) => std::thread::sleep(time),
            }
            for piece in self.bytes[range.start as usize..end as usize].chunks(10_000) {
                if take(piece) == Go::Away {
                    break;
                }
            }
            Ok(())
        }

        fn is_forward(&self) -> bool {
            self.is_forward
        }
    }

    fn bytes(len: usize) -> Vec<u8> {
        (0..len).map(|i| (i / 256 * 7 + i % 251) as u8).collect()
    }

    fn script(len: usize, acts: &[Act]) -> Arc<Script> {
        let acts = Mutex::new(acts.iter().cloned().collect());
        Arc::new(Script { bytes: bytes(len), acts, asked: Mutex::default(), is_forward: false })
    }

    fn blocks_of(far: &Arc<Script>, patience: Duration) -> Blocks {
        let (cache, fleet) = (Cache::new(256 << 20), Arc::new(Fleet::new(4)));
        let len = far.bytes.len() as u64;
        Blocks::new(far.clone(), len, Ways { cache, fleet, kept: None, patience, meter: Arc::default() })
    }

    fn read(blocks: &Blocks, at: usize, len: usize) -> Result<Vec<u8>> {
        let mut into = vec![0; len];
        let got = blocks.read_at(at as u64, &mut into)?;
        into.truncate(got);
        Ok(into)
    }

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn what_is_read_is_what_is_there_and_is_asked_for_once() {
        let far = script(1_000_000, &[]);
        let blocks = blocks_of(&far, LONG);
        for (at, len) in [(0, 10), (999_990, 100), (100_000, 300_000), (65_535, 2), (0, 1_000_000), (1_000_000, 5)] {
            let end = (at + len).min(1_000_000);
            assert!(read(&blocks, at, len).unwrap() == far.bytes[at.min(end)..end], "{at} {len}");
        }
        let asked: u64 = lock(&far.asked).iter().map(|range| range.end - range.start).sum();
        assert_eq!(asked, 1_000_000);
    }

    #[test]
    fn what_lies_together_is_one_request() {
        let far = script(1_000_000, &[]);
        read(&blocks_of(&far, LONG), 100_000, 500_000).unwrap();
        let asked = lock(&far.asked);
        assert!(asked.len() == 1 && asked[0] == (BLOCK..10 * BLOCK), "{asked:?}");
    }

    #[test]
    fn a_cut_connection_goes_on_where_it_ended() {
        let far = script(
            1_000_000,
            &[Act::Cut(100_000), Act::Cut(0), Act::Fail(Kind::Io, Again::In(Duration::ZERO)), Act::Cut(1)],
        );
        let blocks = blocks_of(&far, LONG);
        assert!(read(&blocks, 0, 1_000_000).unwrap() == far.bytes);
        let starts: Vec<_> = lock(&far.asked).iter().map(|range| range.start).collect();
        assert_eq!(starts, [0, 100_000, 100_000, 100_000, 100_001]);
        assert_eq!(blocks.0.meter.traffic().retries, 4);
    }

    #[test]
    fn nobody_waits_longer_than_the_patience() {
        let far = script(100_000, &[Act::Hang(Duration::from_secs(2))]);
        let blocks = blocks_of(&far, Duration::from_millis(100));
        assert_eq!(read(&blocks, 0, 10).unwrap_err().kind(), Kind::TimedOut);
        assert_eq!(blocks.0.meter.traffic().failed, 1);
        // Who asks again gets it as soon as the other end is there again.
        while read(&blocks, 0, 10).is_err() {}
    }

    #[test]
    fn what_fails_for_good_fails_at_once_and_is_asked_for_again() {
        let far = script(100_000, &[Act::Fail(Kind::NotFound, Again::Never)]);
        let blocks = blocks_of(&far, LONG);
        assert_eq!(read(&blocks, 0, 10).unwrap_err().kind(), Kind::NotFound);
        assert!(read(&blocks, 0, 10).unwrap() == far.bytes[..10]);
        let far = script(100_000, &[Act::Fail(Kind::Changed, Again::Never)]);
        let blocks = blocks_of(&far, LONG);
        assert_eq!(read(&blocks, 0, 10).unwrap_err().kind(), Kind::Changed);
        assert!(blocks.is_changed());
    }

    #[test]
    fn what_fails_again_and_again_fails_within_the_patience() {
        let acts = vec![Act::Fail(Kind::Unreachable, Again::Soon); 100];
        let blocks = blocks_of(&script(100_000, &acts), Duration::from_millis(500));
        assert!(matches!(read(&blocks, 0, 10).unwrap_err().kind(), Kind::Unreachable | Kind::TimedOut));
    }

    #[test]
    fn who_reads_on_finds_it_there_already() {
        let far = script(16 << 20, &[]);
        let blocks = blocks_of(&far, LONG);
        for at in (0..16 << 20).step_by(128 << 10) {
            assert!(read(&blocks, at, 128 << 10).unwrap() == far.bytes[at..at + (128 << 10)]);
        }
        let asked = lock(&far.asked);
        let sum: u64 = asked.iter().map(|range| range.end - range.start).sum();
        assert_eq!(sum, 16 << 20);
        assert!(asked.len() < 30, "{} requests", asked.len());
    }

    #[test]
    fn a_seed_is_not_asked_for() {
        let far = script(1_000_000, &[]);
        let blocks = blocks_of(&far, LONG);
        blocks.seed(700_000, &far.bytes[700_000..]);
        assert!(read(&blocks, 800_000, 200_000).unwrap() == far.bytes[800_000..]);
        assert!(lock(&far.asked).is_empty());
        assert!(read(&blocks, 690_000, 20_000).unwrap() == far.bytes[690_000..710_000]);
    }

    #[test]
    fn what_comes_only_from_its_front_comes_all_and_once() {
        let far = Script { is_forward: true, ..Arc::into_inner(script(1_000_000, &[Act::Cut(300_000)])).unwrap() };
        let far = Arc::new(far);
        let blocks = blocks_of(&far, LONG);
        assert!(read(&blocks, 900_000, 100).unwrap() == far.bytes[900_000..900_100]);
        assert!(read(&blocks, 0, 1_000_000).unwrap() == far.bytes);
        assert_eq!(*lock(&far.asked), [0..1_000_000, 0..1_000_000]);
    }
}
