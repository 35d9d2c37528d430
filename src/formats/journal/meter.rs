//! How far a settling has come, for whoever asks meanwhile.

use crate::error::Error;
use crate::formats::Watch;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

/// Counts what is told of one piece of work at a time.
#[derive(Default)]
pub struct Meter {
    goes_on: AtomicBool,
    done: AtomicU64,
    total: AtomicU64,
}

impl Meter {
    /// Counts while something is worked on.
    pub fn during<T>(&self, watch: &dyn Watch, work: impl FnOnce(&dyn Watch) -> T) -> T {
        self.done.store(0, Relaxed);
        self.total.store(0, Relaxed);
        self.goes_on.store(true, Relaxed);
        let done = work(&Metered { meter: self, watch });
        self.goes_on.store(false, Relaxed);
        done
    }

    /// Bytes that are done, and all of them.
    pub fn read(&self) -> Option<(u64, u64)> {
        self.goes_on.load(Relaxed).then(|| (self.done.load(Relaxed), self.total.load(Relaxed)))
    }
}

struct Metered<'a> {
    meter: &'a Meter,
    watch: &'a dyn Watch,
}

impl Watch for Metered<'_> {
    fn total(&self, bytes: u64, entries: u64) {
        self.meter.total.store(bytes, Relaxed);
        self.watch.total(bytes, entries);
    }

    fn advance(&self, bytes: u64, entries: u64) {
        self.meter.done.fetch_add(bytes, Relaxed);
        self.watch.advance(bytes, entries);
    }

    fn entry(&self, path: &[u8]) {
        self.watch.entry(path);
    }

    fn skipped(&self, path: &[u8], why: &Error) {
        self.watch.skipped(path, why);
    }

    fn is_cancelled(&self) -> bool {
        self.watch.is_cancelled()
    }
}
