//! A stream that can only be decoded from its front, made readable at any offset. All cleverness about seeking in
//! compressed streams is here, once, for every format that has such streams.
//!
//! ```text
//!   decoded bytes   |page 0|page 1|page 2| ... |page n|
//!                    ▲                ▲          ▲
//!                    point            point      wanted: from the nearest point, or parked decoder, before it
//! ```
//!
//! What was decoded is kept in pages: in the cache, and below it on the disk when memory does not suffice. A page that is
//! not there is decoded by a *run*, which begins at the nearest place before it: where a decoder was parked, or a point,
//! or the front. Every page that a run comes by is kept, whoever waits for one of them gets it, and afterwards the
//! decoder is parked in the cache, so that dictionaries count against the same budget as pages. So one who reads in sequence
//! decodes once, many who read the same solid block share one run, and one who jumps pays for a distance only once.
//!
//! Two or more runs may be under way at different places. A lock is held for bookkeeping only, never while decoding.

use super::{Decoder, Point, ReadAt, Stream};
use crate::cache::{Cache, Key};
use crate::error::{Error, Kind, Result};
use crate::pool::{self, Background, lock};
use std::collections::HashMap;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

/// Decoded bytes that are kept together.
pub const PAGE: usize = 128 << 10;

/// Decoded bytes between two points, to begin with.
const APART: u64 = 1 << 20;

/// Memory for the points of all streams of the process. A stream that would need more doubles the distance of its own.
pub const POINTS_BUDGET: u64 = 40 << 20;
static POINTS_USED: AtomicU64 = AtomicU64::new(0);

/// Decoders that one stream parks; the one that was parked first goes.
const PARKED: usize = 4;

/// Pages decoded in one go to learn where the end is.
const STEP: u64 = 32;

/// Skipped pages that are so near before the wanted one are likely to be read soon.
const NEAR: u64 = 8;

/// A page that is so far behind the nearest point is slower to decode again than to read from the disk.
const FAR: u64 = 2 * APART;

/// Spaces of keys in the cache.
const PAGES: u8 = 0;
const DECODERS: u8 = 1;

/// Work ahead of readers, for all streams of the process.
fn ahead() -> &'static Background {
    static AHEAD: OnceLock<Background> = OnceLock::new();
    AHEAD.get_or_init(|| Background::new(pool::threads(), 32))
}

/// A stream with random access.
pub struct Forward {
    stream: Arc<dyn Stream>,
    cache: Arc<Cache>,
    owner: u64,
    state: Mutex<State>,
    moved: Condvar,
    /// Itself, for work ahead.
    me: Weak<Forward>,
}

#[derive(Default)]
struct State {
    /// In ascending order.
    points: Vec<Point>,
    apart: u64,
    /// Positions of parked decoders, the oldest first.
    parked: Vec<u64>,
    runs: Vec<Run>,
    /// Pages that somebody waits for.
    wanted: HashMap<u64, Wanted>,
    /// The length, when the end was reached.
    end: Option<u64>,
    /// The end of the furthest page that was decoded.
    furthest: u64,
    /// Whether memory was not enough for how this stream is read: pages that have to make room go to the disk.
    is_spilling: bool,
    /// Where decoding failed, and how.
    broken: Vec<Broken>,
}

/// A page that could not be decoded.
struct Broken {
    at: u64,
    kind: Kind,
    what: String,
    /// What came out before.
    front: Page,
}

#[derive(Default)]
struct Wanted {
    waiting: usize,
    page: Option<Page>,
}

type Page = Arc<Vec<u8>>;

/// Somebody who decodes.
struct Run {
    id: u64,
    /// The page that is decoded now.
    at: u64,
    /// The last page it will decode.
    until: u64,
}

/// Where a run begins.
enum Start {
    Parked(u64),
    Point(Point),
    Front,
}

impl Start {
    fn at(&self) -> u64 {
        match self {
            Self::Parked(at) => *at,
            Self::Point(point) => point.at,
            Self::Front => 0,
        }
    }
}

impl Forward {
    pub fn new(stream: Arc<dyn Stream>, cache: Arc<Cache>) -> Result<Arc<Self>> {
        let points = stream.points()?;
        Ok(Self::with_points(stream, cache, points))
    }

    /// The same with points that are known from before.
    pub fn with_points(stream: Arc<dyn Stream>, cache: Arc<Cache>, points: Vec<Point>) -> Arc<Self> {
        let owner = cache.new_owner();
        let used: u64 = points.iter().map(|p| p.state.len() as u64).sum();
        POINTS_USED.fetch_add(used, Ordering::Relaxed);
        let state = Mutex::new(State { points, apart: APART, ..State::default() });
        Arc::new_cyclic(|me| Self { stream, cache, owner, state, moved: Condvar::new(), me: me.clone() })
    }

    /// The points found until now.
    pub fn points(&self) -> Vec<Point> {
        lock(&self.state).points.clone()
    }

    /// Whether the stream says how long it is.
    pub fn is_len_told(&self) -> bool {
        self.stream.len().is_some()
    }

    /// How far it was decoded.
    pub fn furthest(&self) -> u64 {
        let state = lock(&self.state);
        let end = |broken: &Broken| broken.at + broken.front.len() as u64;
        state.broken.iter().map(end).max().unwrap_or_default().max(state.furthest)
    }

    /// Bytes between two points, as of now: what a jump decodes at most where the codec has points.
    pub fn apart(&self) -> u64 {
        lock(&self.state).apart
    }

    fn key(&self, page: u64) -> Key {
        Key { owner: self.owner, space: PAGES, at: page }
    }

    fn decoder_key(&self, at: u64) -> Key {
        Key { owner: self.owner, space: DECODERS, at }
    }

    fn kept(&self, page: u64) -> Option<Page> {
        let key = self.key(page);
        if let Some(kept) = self.cache.get(key) {
            return Some(kept);
        }
        let kept = self.cache.below()?.get(key)?;
        self.cache.put_over(key, kept.clone());
        self.touch_parked();
        Some(kept)
    }

    /// Parked decoders are in use as long as the stream is read, wherever: without them, the next who reads further on begins
    /// at the front.
    fn touch_parked(&self) {
        let parked = lock(&self.state).parked.clone();
        parked.into_iter().for_each(|at| self.cache.touch_lasting(self.decoder_key(at)));
    }

    /// A page; all up to `until` are decoded in the same go, if this has to be.
    fn page(&self, page: u64, until: u64) -> Result<Page> {
        if let Some(kept) = self.kept(page) {
            return Ok(kept);
        }
        let mut state = lock(&self.state);
        loop {
            // A run may have come by it just now.
            let key = self.key(page);
            if self.cache.contains(key) || self.cache.below().is_some_and(|below| below.contains(key)) {
                drop(state);
                if let Some(kept) = self.kept(page) {
                    return Ok(kept);
                }
                state = lock(&self.state);
                continue;
            }
            if let Some(end) = state.end.filter(|end| page * PAGE as u64 >= *end) {
                return Err(Error::new(Kind::Damaged, format!("the data end at {end}, more were expected")));
            }
            let start = state.nearest(page);
            if state.is_coming(page, start.at()) || state.runs.len() >= pool::threads().max(2) {
                let (after, found) = self.wait(state, page);
                match found {
                    Some(found) => return Ok(found),
                    None => state = after,
                }
                continue;
            }
            if let Some(error) = state.broken_between(start.at(), page) {
                return Err(error);
            }
            return self.run(state, start, page, until);
        }
    }

    /// Waits until something happens that concerns a page.
    fn wait<'a>(&'a self, mut state: MutexGuard<'a, State>, page: u64) -> (MutexGuard<'a, State>, Option<Page>) {
        state.wanted.entry(page).or_default().waiting += 1;
        let mut state = self.moved.wait(state).unwrap_or_else(PoisonError::into_inner);
        let Some(wanted) = state.wanted.get_mut(&page) else { return (state, None) };
        let found = wanted.page.clone();
        wanted.waiting -= 1;
        if wanted.waiting == 0 {
            state.wanted.remove(&page);
        }
        (state, found)
    }

    fn run(&self, mut state: MutexGuard<'_, State>, start: Start, page: u64, until: u64) -> Result<Page> {
        static RUNS: AtomicU64 = AtomicU64::new(0);
        let (id, first) = (RUNS.fetch_add(1, Ordering::Relaxed), start.at().div_ceil(PAGE as u64));
        state.is_spilling |= page * (PAGE as u64) < state.furthest;
        state.runs.push(Run { id, at: first, until: until.max(page) });
        let parked = match &start {
            Start::Parked(at) => {
                state.parked.retain(|parked| parked != at);
                self.cache.take_lasting::<Box<dyn Decoder>>(self.decoder_key(*at))
            }
            _ => None,
        };
        drop(state);
        let end = RunEnd { forward: self, id };
        let decoder = match (start, parked) {
            (_, Some(decoder)) => Ok(decoder),
            // It was parked, and had to make room for something else meanwhile.
            (Start::Parked(_), None) => {
                drop(end);
                return self.page(page, until);
            }
            (Start::Point(point), None) => self.begin(Some(&point), first * PAGE as u64 - point.at),
            (Start::Front, None) => self.begin(None, 0),
        };
        let failed_at = first * PAGE as u64;
        let decoder = decoder.map_err(|e| self.note_failure(failed_at, Vec::new(), e))?;
        self.decode(decoder, id, page)
    }

    /// A decoder that stands at the first page boundary at or behind a point.
    fn begin(&self, from: Option<&Point>, skip: u64) -> Result<Box<dyn Decoder>> {
        let mut decoder = self.stream.start(from)?;
        let mut rest = vec![0; skip as usize];
        let got = fill(&mut *decoder, &mut rest)?;
        if got < rest.len() {
            return Err(Error::new(Kind::Damaged, "the data end before they should"));
        }
        Ok(decoder)
    }

    /// Decodes page after page, until the wanted one and all that others want of this run are there.
    fn decode(&self, mut decoder: Box<dyn Decoder>, id: u64, wanted: u64) -> Result<Page> {
        let (mut found, mut apart) = (None, lock(&self.state).apart);
        while let Some(number) = self.place_of(id) {
            let at = number * PAGE as u64;
            let page = self.next(&mut *decoder, at).map_err(|(front, e)| self.note_failure(at, front, e))?;
            let is_last = page.len() < PAGE;
            let page = Arc::new(page);
            if number == wanted {
                found = Some(page.clone());
            }
            let point = decoder.point(apart);
            let goes_on = self.publish(id, number, wanted, page, point, &mut apart);
            if is_last {
                break;
            }
            if !goes_on {
                self.park(decoder, (number + 1) * PAGE as u64);
                break;
            }
        }
        let end = lock(&self.state).end.unwrap_or_default();
        found.ok_or_else(|| Error::new(Kind::Damaged, format!("the data end at {end}, more were expected")))
    }

    fn place_of(&self, id: u64) -> Option<u64> {
        lock(&self.state).runs.iter().find(|run| run.id == id).map(|run| run.at)
    }

    /// Decodes the page at a position. It is shorter than others only at the end. Where decoding fails, what came out
    /// before is there; but nothing when all came out, and only a check over it failed.
    fn next(&self, decoder: &mut dyn Decoder, at: u64) -> Result<Vec<u8>, (Vec<u8>, Error)> {
        let left = self.stream.len().map(|len| len.saturating_sub(at));
        let room = left.map_or(PAGE, |left| left.min(PAGE as u64) as usize);
        let mut page = vec![0; room];
        let (got, failed) = fill_or_fail(decoder, &mut page);
        page.truncate(got);
        page.shrink_to_fit();
        if let Some(e) = failed {
            return Err((page, e));
        }
        if left.is_some() && got < room {
            let (end, len) = (at + got as u64, self.stream.len().unwrap_or_default());
            return Err((page, Error::new(Kind::Damaged, format!("the data end at {end} of {len} bytes"))));
        }
        // The check over the whole is made when the end is asked for.
        if left == Some(got as u64) {
            match decoder.read(&mut [0]) {
                Ok(0) => {}
                Ok(_) => {
                    let e = Error::new(Kind::Damaged, "there are more data than the archive says");
                    return Err((Vec::new(), e));
                }
                Err(e) => return Err((Vec::new(), e)),
            }
        }
        Ok(page)
    }

    /// Keeps a page and gives it to those who wait. False when nobody needs the run to go on.
    fn publish(&self, id: u64, number: u64, wanted: u64, page: Page, point: Option<Point>, apart: &mut u64) -> bool {
        // First it is kept, and then the run has passed it: who finds neither the page nor a run that comes by it would
        // decode it again.
        self.keep(number, wanted, page.clone());
        let mut state = lock(&self.state);
        let end = number * PAGE as u64 + page.len() as u64;
        if page.len() < PAGE || self.stream.len() == Some(end) {
            state.end = Some(end);
        }
        state.furthest = state.furthest.max(end);
        if let Some(point) = point {
            state.add_point(point);
        }
        *apart = state.apart;
        if let Some(wanted) = state.wanted.get_mut(&number) {
            wanted.page = Some(page);
        }
        let goes_on = state.runs.iter_mut().find(|run| run.id == id).is_some_and(|run| {
            run.at = number + 1;
            run.at <= run.until
        });
        let is_at_end = state.end == Some(end);
        drop(state);
        self.moved.notify_all();
        goes_on && !is_at_end
    }

    fn keep(&self, number: u64, wanted: u64, page: Page) {
        let state = lock(&self.state);
        // What is passed on the way to a far place would push out what is used.
        let is_passed = number + NEAR < wanted && !state.wanted.contains_key(&number);
        let is_needed_again = state.is_spilling || self.cache.keeps_evicted() && state.is_far(number);
        drop(state);
        let key = self.key(number);
        match self.cache.below() {
            Some(below) if is_passed => {
                below.keep(key, page);
                below.settle();
            }
            Some(_) if is_needed_again => self.cache.put_over(key, page),
            _ => self.cache.put(key, page),
        }
    }

    fn park(&self, decoder: Box<dyn Decoder>, at: u64) {
        if lock(&self.state).end.is_some_and(|end| at >= end) {
            return;
        }
        let weight = decoder.weight();
        self.cache.put_lasting(self.decoder_key(at), decoder, weight);
        let mut state = lock(&self.state);
        state.parked.retain(|parked| *parked != at);
        state.parked.push(at);
        if state.parked.len() > PARKED {
            let oldest = state.parked.remove(0);
            drop(state);
            self.cache.take_lasting::<Box<dyn Decoder>>(self.decoder_key(oldest));
        }
    }

    fn note_failure(&self, at: u64, front: Vec<u8>, error: Error) -> Error {
        if matches!(error.kind(), Kind::Damaged | Kind::Unsupported | Kind::Limit) {
            let (kind, what, front) = (error.kind(), error.to_string(), Arc::new(front));
            lock(&self.state).broken.push(Broken { at, kind, what, front });
        }
        error
    }

    /// What keeps a part of it from being read, as far as anybody came.
    pub fn damage(&self) -> Option<String> {
        lock(&self.state).broken.first().map(|broken| broken.what.clone())
    }

    /// What came out of a page before it failed.
    fn front_of(&self, page: u64) -> Option<Page> {
        let state = lock(&self.state);
        let broken = state.broken.iter().find(|broken| broken.at == page * PAGE as u64)?;
        Some(broken.front.clone())
    }

    /// Decodes to the end, to learn where it is.
    fn find_end(&self) -> Result<u64> {
        loop {
            let (end, furthest) = {
                let state = lock(&self.state);
                (state.end, state.furthest)
            };
            if let Some(end) = end {
                return Ok(end);
            }
            let next = furthest / PAGE as u64;
            match self.page(next, next + STEP) {
                Ok(_) => {}
                // The end is just there where a page would begin.
                Err(e) => return lock(&self.state).end.ok_or(e),
            }
        }
    }
}

/// Takes a run out of the list, however it ended.
struct RunEnd<'a> {
    forward: &'a Forward,
    id: u64,
}

impl Drop for RunEnd<'_> {
    fn drop(&mut self) {
        lock(&self.forward.state).runs.retain(|run| run.id != self.id);
        self.forward.moved.notify_all();
    }
}

impl State {
    /// The nearest place before a page from which to begin.
    fn nearest(&self, page: u64) -> Start {
        let target = page * PAGE as u64;
        let parked = self.parked.iter().copied().filter(|at| *at <= target).max();
        let point = self.points.partition_point(|point| point.at <= target).checked_sub(1).map(|at| &self.points[at]);
        match (parked, point) {
            (Some(parked), Some(point)) if point.at > parked => Start::Point(point.clone()),
            (Some(parked), _) => Start::Parked(parked),
            (None, Some(point)) if point.at > 0 => Start::Point(point.clone()),
            _ => Start::Front,
        }
    }

    /// Whether the nearest point is far before a page.
    fn is_far(&self, page: u64) -> bool {
        let at = page * PAGE as u64;
        let before = self.points.partition_point(|point| point.at <= at).checked_sub(1);
        at - before.map_or(0, |before| self.points[before].at) > FAR
    }

    /// Whether a run comes by a page, or is nearer to it than what begins at `start`: then its decoder goes on to the page
    /// after it was parked, by the hand of who waits for it.
    fn is_coming(&self, page: u64, start: u64) -> bool {
        self.runs.iter().any(|run| run.at <= page && (run.until >= page || run.at * PAGE as u64 >= start))
    }

    fn broken_between(&self, start: u64, page: u64) -> Option<Error> {
        let place = |at: &u64| start <= *at && *at <= page * PAGE as u64;
        let broken = self.broken.iter().find(|broken| place(&broken.at))?;
        Some(Error::new(broken.kind, broken.what.clone()))
    }

    fn add_point(&mut self, point: Point) {
        let place = self.points.partition_point(|p| p.at < point.at);
        let near = |p: Option<&Point>| p.is_some_and(|p| p.at.abs_diff(point.at) < self.apart / 2);
        if near(self.points.get(place)) || near(place.checked_sub(1).and_then(|at| self.points.get(at))) {
            return;
        }
        POINTS_USED.fetch_add(point.state.len() as u64, Ordering::Relaxed);
        self.points.insert(place, point);
        if POINTS_USED.load(Ordering::Relaxed) > POINTS_BUDGET && self.points.len() > 16 {
            self.thin_out();
        }
    }

    /// Every second point goes.
    fn thin_out(&mut self) {
        self.apart *= 2;
        let mut odd = false;
        let mut freed = 0;
        self.points.retain(|point| {
            odd = !odd;
            freed += if odd { 0 } else { point.state.len() as u64 };
            odd
        });
        POINTS_USED.fetch_sub(freed, Ordering::Relaxed);
    }
}

impl Drop for Forward {
    fn drop(&mut self) {
        let state = std::mem::take(&mut *lock(&self.state));
        let used: u64 = state.points.iter().map(|p| p.state.len() as u64).sum();
        POINTS_USED.fetch_sub(used, Ordering::Relaxed);
        for at in state.parked {
            self.cache.take_lasting::<Box<dyn Decoder>>(self.decoder_key(at));
        }
    }
}

/// Reads until the buffer is full or the end is there.
fn fill(decoder: &mut dyn Decoder, into: &mut [u8]) -> Result<usize> {
    match fill_or_fail(decoder, into) {
        (got, None) => Ok(got),
        (_, Some(e)) => Err(e),
    }
}

/// The same; of an error, what was read before it.
fn fill_or_fail(decoder: &mut dyn Decoder, into: &mut [u8]) -> (usize, Option<Error>) {
    let mut got = 0;
    while got < into.len() {
        match decoder.read(&mut into[got..]) {
            Ok(0) => break,
            Ok(more) => got += more,
            Err(e) => return (got, Some(e)),
        }
    }
    (got, None)
}

impl ReadAt for Forward {
    fn len(&self) -> Result<u64> {
        match self.stream.len() {
            Some(len) => Ok(len),
            None => self.find_end(),
        }
    }

    fn read_at(&self, at: u64, into: &mut [u8]) -> Result<usize> {
        let end = self.stream.len().or(lock(&self.state).end);
        let mut done = 0;
        while done < into.len() {
            let here = at.saturating_add(done as u64);
            if end.is_some_and(|end| here >= end) {
                break;
            }
            let (number, within) = (here / PAGE as u64, (here % PAGE as u64) as usize);
            let page = match self.page(number, number) {
                Ok(page) => page,
                Err(e) => {
                    let end = lock(&self.state).end.filter(|_| self.stream.len().is_none());
                    if end.is_some_and(|end| here >= end) {
                        break;
                    }
                    // What came out before the damage is right. But a short read would say that the end is here.
                    self.front_of(number).filter(|front| front.len() >= within + into.len() - done).ok_or(e)?
                }
            };
            let Some(bytes) = page.get(within..).filter(|bytes| !bytes.is_empty()) else { break };
            let len = bytes.len().min(into.len() - done);
            into[done..done + len].copy_from_slice(&bytes[..len]);
            done += len;
        }
        Ok(done)
    }

    fn will_read(&self, range: Range<u64>) {
        let (first, last) = (range.start / PAGE as u64, range.end.saturating_sub(1) / PAGE as u64);
        let is_there = |page: &u64| self.cache.contains(self.key(*page));
        let Some(first) = (first..=last).find(|page| !is_there(page)) else { return };
        let me = self.me.clone();
        ahead().push(move || {
            // Whoever reads it for good tells what is wrong with it.
            let _ = me.upgrade().map(|me| me.page(first, last));
        });
    }
}

#[cfg(test)]
mod tests;
