//! A small table of what was used lately, bounded in count and in weight.
//!
//! The newest item always stays, however heavy: a listing of a million names must survive until its last page is read,
//! or every page would cost a listing. Nothing is made under the lock: the caller makes the value and offers it.

use crate::pool::lock;
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard};

/// The bound of items is also the cost of an eviction, which looks at each of them.
const MAX_ITEMS: usize = 1024;

pub struct Recent<K, V> {
    inner: Mutex<Inner<K, V>>,
    budget: usize,
}

struct Inner<K, V> {
    slots: HashMap<K, Slot<V>>,
    clock: u64,
    weight: usize,
}

struct Slot<V> {
    value: Arc<V>,
    weight: usize,
    used: u64,
}

impl<K: Copy + Eq + Hash, V> Recent<K, V> {
    /// `budget` is in the unit of the weights given to [`Recent::offer`].
    pub fn new(budget: usize) -> Self {
        Self { inner: Mutex::new(Inner { slots: HashMap::new(), clock: 0, weight: 0 }), budget }
    }

    pub fn get(&self, key: K) -> Option<Arc<V>> {
        let mut inner = self.lock();
        inner.clock += 1;
        let now = inner.clock;
        let slot = inner.slots.get_mut(&key)?;
        slot.used = now;
        Some(slot.value.clone())
    }

    /// Keeps a value, unless somebody else was faster: then theirs is the one, for both.
    pub fn offer(&self, key: K, value: V, weight: usize) -> Arc<V> {
        let mut inner = self.lock();
        inner.clock += 1;
        let used = inner.clock;
        if let Some(slot) = inner.slots.get(&key) {
            return slot.value.clone();
        }
        let value = Arc::new(value);
        inner.weight += weight;
        inner.slots.insert(key, Slot { value: value.clone(), weight, used });
        while inner.slots.len() > 1 && (inner.weight > self.budget || inner.slots.len() > MAX_ITEMS) {
            inner.drop_oldest();
        }
        value
    }

    fn lock(&self) -> MutexGuard<'_, Inner<K, V>> {
        // Nothing that can panic runs under the lock.
        lock(&self.inner)
    }
}

impl<K: Copy + Eq + Hash, V> Inner<K, V> {
    fn drop_oldest(&mut self) {
        let Some(key) = self.slots.iter().min_by_key(|(_, slot)| slot.used).map(|(key, _)| *key) else { return };
        if let Some(slot) = self.slots.remove(&key) {
            self.weight -= slot.weight;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_used_longest_ago_goes_first() {
        let recent = Recent::new(30);
        for key in 0..3 {
            recent.offer(key, key, 10);
        }
        recent.get(0);
        recent.offer(3, 3, 10);
        assert!(recent.get(1).is_none());
        assert!([0, 2, 3].iter().all(|key| recent.get(*key).is_some()));
    }

    #[test]
    fn the_newest_stays_however_heavy() {
        let recent = Recent::new(30);
        recent.offer(0, (), 10);
        recent.offer(1, (), 1000);
        assert!(recent.get(0).is_none() && recent.get(1).is_some());
        for key in 0..5000 {
            recent.offer(key, (), 0);
        }
        assert!(recent.lock().slots.len() <= MAX_ITEMS);
    }

    #[test]
    fn of_two_who_made_the_same_the_first_one_wins() {
        let recent = Recent::new(30);
        let first = recent.offer(0, "first", 1);
        assert_eq!((*first, *recent.offer(0, "second", 1)), ("first", "first"));
    }
}
