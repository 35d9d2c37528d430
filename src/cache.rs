//! Decoded things, kept as long as they are useful: one budget in bytes for the whole process.
//!
//! The cache knows nothing of what it holds. A key names its owner (an opened container), a space inside it (segments,
//! index blocks) and a place; a value tells its weight. For each key there is one loader at a time: whoever asks
//! meanwhile waits for that one result, and other keys are not held up. A loader that fails leaves nothing behind, and
//! the next one who asks tries again.
//!
//! The eviction is S3-FIFO (`quick_cache`): a scan through a large file does not push out what is used often.
//!
//! A few things are large, and costly to make again: decoders that wait to go on. They are kept apart, in the order of their
//! use, and what they take is missing for all else. The one that was used last stays, however large it is: without it,
//! whoever reads on would begin at the front.

use crate::error::Result;
use lru::LruCache;
use quick_cache::sync::{Cache as Inner, GuardResult};
use quick_cache::{DefaultHashBuilder, Lifecycle, Weighter};
use std::any::Any;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Names one cached thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// From [`Cache::new_owner`].
    pub owner: u64,
    /// What kind of thing of that owner.
    pub space: u8,
    /// Which one.
    pub at: u64,
}

/// Something that can be cached.
pub trait Cached: Any + Send + Sync {
    /// Bytes of memory it keeps occupied.
    fn weight(&self) -> usize;
}

impl Cached for Vec<u8> {
    fn weight(&self) -> usize {
        self.capacity()
    }
}

#[derive(Clone)]
struct Slot {
    value: Arc<dyn Any + Send + Sync>,
    weight: u64,
    /// Whether it goes to the second place when it has to make room.
    goes_below: bool,
}

impl Slot {
    fn new<T: Cached>(value: Arc<T>, goes_below: bool) -> Self {
        let weight = value.weight() as u64 + ENTRY_OVERHEAD;
        Self { value, weight, goes_below }
    }
}

/// What has to make room goes to the second place, before it is gone here: who looks here and then there finds it.
#[derive(Clone)]
struct Evicting(Option<Arc<dyn Below>>);

impl Lifecycle<Key, Slot> for Evicting {
    type RequestState = ();

    fn on_evict(&self, _: &mut (), key: Key, slot: Slot) {
        let bytes = slot.goes_below.then(|| slot.value.downcast::<Vec<u8>>());
        if let (Some(below), Some(Ok(bytes))) = (&self.0, bytes) {
            below.keep(key, bytes);
        }
    }
}

#[derive(Clone)]
struct Weigh;

impl Weighter<Key, Slot> for Weigh {
    fn weight(&self, _: &Key, slot: &Slot) -> u64 {
        slot.weight
    }
}

/// What an entry costs besides its value: key, pointers and the bookkeeping of the map.
const ENTRY_OVERHEAD: u64 = 160;

/// Items that the map is prepared for: one for so many bytes of budget.
const TYPICAL_ITEM: u64 = 128 * 1024;

/// A second place for bytes that memory has no room for: larger and slower. What it loses is decoded again.
pub trait Below: Send + Sync {
    /// Takes bytes at once, without waiting for the place where they go.
    fn keep(&self, key: Key, bytes: Arc<Vec<u8>>);

    /// Puts what was taken where it goes, so that memory is free again: now, or soon while it is little.
    fn settle(&self);

    fn get(&self, key: Key) -> Option<Arc<Vec<u8>>>;

    /// Whether it is there, as far as is known without reading it.
    fn contains(&self, key: Key) -> bool;
}

/// What lasts: the things that are kept apart.
struct Lasting {
    kept: LruCache<Key, (Box<dyn Any + Send>, u64)>,
    weight: u64,
    /// Bytes of the budget that are left to them. They come and go all the time: not with each of them all else makes room.
    given: u64,
    /// Bytes of the budget that are lent to what is not in the cache.
    lent: u64,
}

impl Lasting {
    /// Takes out what was used longest ago, as long as all together weigh more than this.
    fn shrink(&mut self, most: u64) -> Vec<Box<dyn Any + Send>> {
        let mut out = Vec::new();
        while self.weight > most && self.kept.len() > 1 {
            let Some((_, (value, weight))) = self.kept.pop_lru() else { break };
            self.weight -= weight;
            out.push(value);
        }
        out
    }
}

/// The cache. Cheap to share through an [`Arc`]; made once per process.
pub struct Cache {
    inner: Inner<Key, Slot, Weigh, DefaultHashBuilder, Evicting>,
    budget: u64,
    lasting: Mutex<Lasting>,
    below: Option<Arc<dyn Below>>,
    /// Whether anything is likely to be asked for again.
    keeps_evicted: AtomicBool,
    owners: AtomicU64,
    loads: AtomicU64,
    asked: AtomicU64,
}

impl Cache {
    /// A cache of so many bytes.
    pub fn new(budget: u64) -> Arc<Self> {
        Self::over(budget, None)
    }

    /// The same over a second place.
    pub fn over(budget: u64, below: Option<Arc<dyn Below>>) -> Arc<Self> {
        let items = (budget / TYPICAL_ITEM).max(64) as usize;
        let options = quick_cache::OptionsBuilder::new()
            .estimated_items_capacity(items)
            .weight_capacity(budget)
            // Every shard evicts on its own: few shards keep a budget of few large items exact.
            .shards(if budget < 64 << 20 { 1 } else { 4 })
            .build()
            .expect("both capacities are given");
        let evicting = Evicting(below.clone());
        let inner = Inner::with_options(options, Weigh, DefaultHashBuilder::default(), evicting);
        let (owners, loads, asked) = (AtomicU64::new(1), AtomicU64::new(0), AtomicU64::new(0));
        let lasting = Mutex::new(Lasting { kept: LruCache::unbounded(), weight: 0, given: 0, lent: 0 });
        Arc::new(Self { inner, budget, lasting, below, keeps_evicted: AtomicBool::new(false), owners, loads, asked })
    }

    /// How many bytes of the budget may be lent to what is not in the cache.
    pub fn lendable(&self) -> u64 {
        self.budget / 2
    }

    /// Leaves so many bytes of the budget to what is not in the cache, so that both together keep to it; the last word
    /// counts. More than [`lendable`](Self::lendable) are not lent.
    pub fn lend(&self, bytes: u64) {
        let mut lasting = self.lasting();
        lasting.lent = bytes.min(self.lendable());
        self.leave_room(&lasting);
    }

    fn lasting(&self) -> MutexGuard<'_, Lasting> {
        self.lasting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All else has what is not lent, and not given to what lasts.
    fn leave_room(&self, lasting: &Lasting) {
        let gone = lasting.lent.saturating_add(lasting.given);
        self.inner.set_capacity(self.budget.saturating_sub(gone).max(self.budget / 8));
    }

    /// Keeps something that is costly to make again, until it is taken, or others of its kind that were used later need
    /// the room: all together have half of the budget.
    pub fn put_lasting<T: Any + Send>(&self, key: Key, value: T, weight: usize) {
        let weight = weight as u64 + ENTRY_OVERHEAD;
        let mut lasting = self.lasting();
        let before = lasting.kept.put(key, (Box::new(value), weight));
        lasting.weight += weight;
        lasting.weight -= before.as_ref().map_or(0, |(_, weight)| *weight);
        let most = (self.budget - lasting.lent) / 2;
        let gone = lasting.shrink(most);
        if lasting.weight > lasting.given || lasting.weight < lasting.given / 4 {
            lasting.given = lasting.weight;
            self.leave_room(&lasting);
        }
        drop(lasting);
        drop((before, gone));
    }

    /// Takes it out again.
    pub fn take_lasting<T: Any + Send>(&self, key: Key) -> Option<T> {
        let mut lasting = self.lasting();
        let (value, weight) = lasting.kept.pop(&key)?;
        lasting.weight -= weight;
        drop(lasting);
        value.downcast().ok().map(|value| *value)
    }

    /// Says that it is in use.
    pub fn touch_lasting(&self, key: Key) {
        self.lasting().kept.promote(&key);
    }

    /// A number for the keys of something newly opened.
    pub fn new_owner(&self) -> u64 {
        self.owners.fetch_add(1, Ordering::Relaxed)
    }

    /// The value of a key, loaded by the caller or by whoever is already at it.
    pub fn get_or_load<T: Cached>(&self, key: Key, load: impl FnOnce() -> Result<T>) -> Result<Arc<T>> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let guard = match self.inner.get_value_or_guard(&key, None) {
            GuardResult::Value(slot) => return Ok(typed(slot)),
            GuardResult::Guard(guard) => guard,
            GuardResult::Timeout => unreachable!("no timeout is given"),
        };
        self.loads.fetch_add(1, Ordering::Relaxed);
        let value = Arc::new(load()?);
        // Refused only when the key was removed meanwhile: the value is right all the same.
        let _ = guard.insert(Slot::new(value.clone(), false));
        Ok(value)
    }

    /// The value of a key, without waiting for anyone who is at it: for loaders that need other values of the cache, and
    /// so could come to wait for each other or for themselves.
    pub fn get_or_load_now<T: Cached>(&self, key: Key, load: impl FnOnce() -> Result<T>) -> Result<Arc<T>> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        if let Some(known) = self.get(key) {
            return Ok(known);
        }
        self.loads.fetch_add(1, Ordering::Relaxed);
        let value = Arc::new(load()?);
        self.insert(key, Slot::new(value.clone(), false));
        Ok(value)
    }

    /// The value of a key, if it is there; does not wait for a loader.
    pub fn get<T: Cached>(&self, key: Key) -> Option<Arc<T>> {
        self.inner.get(&key).map(typed)
    }

    /// Keeps a value that was made without being asked for.
    pub fn put<T: Cached>(&self, key: Key, value: Arc<T>) {
        self.insert(key, Slot::new(value, false));
    }

    /// Keeps bytes that go to the second place when they have to make room here.
    pub fn put_over(&self, key: Key, value: Arc<Vec<u8>>) {
        self.insert(key, Slot::new(value, self.below.is_some()));
    }

    /// Says that anything may be asked for again, as in a mount, and that this is no work which reads all once.
    pub fn keep_evicted(&self) {
        self.keeps_evicted.store(true, Ordering::Relaxed);
    }

    /// Whether this was said.
    pub fn keeps_evicted(&self) -> bool {
        self.keeps_evicted.load(Ordering::Relaxed)
    }

    fn insert(&self, key: Key, slot: Slot) {
        self.inner.insert(key, slot);
        if let Some(below) = &self.below {
            below.settle();
        }
    }

    /// What is at the second place, if there is one.
    pub fn below(&self) -> Option<&dyn Below> {
        self.below.as_deref()
    }

    /// Whether a key is there, without counting as a use of it.
    pub fn contains(&self, key: Key) -> bool {
        self.inner.peek(&key).is_some()
    }

    /// Bytes in use.
    pub fn used(&self) -> u64 {
        self.inner.weight() + self.lasting().weight
    }

    /// How often something was asked for, and how often it had to be loaded.
    pub fn asked_and_loaded(&self) -> (u64, u64) {
        (self.asked.load(Ordering::Relaxed), self.loads.load(Ordering::Relaxed))
    }

    /// The budget in bytes.
    pub fn budget(&self) -> u64 {
        self.budget - self.lasting().lent
    }
}

fn typed<T: Cached>(slot: Slot) -> Arc<T> {
    slot.value.downcast().expect("each space of an owner holds one type")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Error, Kind};
    use std::sync::Barrier;
    use std::sync::atomic::AtomicUsize;

    fn key(at: u64) -> Key {
        Key { owner: 1, space: 0, at }
    }

    #[test]
    fn the_budget_holds_whatever_is_loaded() {
        let cache = Cache::new(1 << 20);
        for at in 0..1000 {
            cache.get_or_load(key(at), || Ok(vec![0u8; 10_000])).unwrap();
            assert!(cache.used() <= 1 << 20);
        }
    }

    #[test]
    fn what_is_lent_is_missing_in_the_cache_until_it_comes_back() {
        let cache = Cache::new(1 << 20);
        let fill = || (0..200).for_each(|at| drop(cache.get_or_load(key(at), || Ok(vec![0u8; 10_000])).unwrap()));
        fill();
        cache.lend(300_000);
        assert!(cache.used() <= (1 << 20) - 300_000, "{}", cache.used());
        cache.lend(u64::MAX);
        fill();
        assert!((1 << 18..=1 << 19).contains(&cache.used()), "{}", cache.used());
        cache.lend(0);
        fill();
        assert!(cache.used() > 1 << 19);
    }

    #[test]
    fn what_lasts_goes_in_the_order_of_its_use_and_the_last_one_stays() {
        let cache = Cache::new(1 << 20);
        (0..200).for_each(|at| drop(cache.get_or_load(key(at), || Ok(vec![0u8; 10_000])).unwrap()));
        for at in 0..4 {
            cache.put_lasting(key(1000 + at), at, 200_000);
            cache.touch_lasting(key(1000));
        }
        assert!(cache.used() <= 1 << 20, "{}", cache.used());
        let there: Vec<u64> = (0..4).filter_map(|at| cache.take_lasting(key(1000 + at))).collect();
        assert_eq!(there, [0, 3]);
        cache.put_lasting(key(1), 7u8, 5 << 20);
        assert_eq!(cache.take_lasting::<u8>(key(1)), Some(7));
        (0..400).for_each(|at| drop(cache.get_or_load(key(at), || Ok(vec![0u8; 10_000])).unwrap()));
        cache.put_lasting(key(1), 7u8, 10);
        (0..400).for_each(|at| drop(cache.get_or_load(key(at), || Ok(vec![0u8; 10_000])).unwrap()));
        assert!(cache.used() > 1 << 19, "all else has its room again");
    }

    #[test]
    fn many_who_ask_at_once_share_one_load() {
        let (cache, loads, start) = (Cache::new(1 << 20), AtomicUsize::new(0), Barrier::new(8));
        std::thread::scope(|s| {
            for _ in 0..8 {
                s.spawn(|| {
                    start.wait();
                    let load = || {
                        loads.fetch_add(1, Ordering::Relaxed);
                        std::thread::sleep(std::time::Duration::from_millis(30));
                        Ok(vec![7u8; 100])
                    };
                    assert_eq!(*cache.get_or_load(key(1), load).unwrap(), vec![7u8; 100]);
                });
            }
        });
        assert_eq!(loads.into_inner(), 1);
    }

    #[test]
    fn a_failed_load_is_told_and_tried_again() {
        let cache = Cache::new(1 << 20);
        let failed = cache.get_or_load::<Vec<u8>>(key(1), || Err(Error::new(Kind::Io, "disk gone")));
        assert_eq!(failed.unwrap_err().kind(), Kind::Io);
        assert_eq!(*cache.get_or_load(key(1), || Ok(vec![1u8])).unwrap(), vec![1u8]);
    }

    #[test]
    fn what_is_larger_than_the_budget_is_served_and_not_kept() {
        let cache = Cache::new(1 << 16);
        assert_eq!(cache.get_or_load(key(1), || Ok(vec![0u8; 1 << 20])).unwrap().len(), 1 << 20);
        assert!(cache.used() <= 1 << 16);
    }
}
