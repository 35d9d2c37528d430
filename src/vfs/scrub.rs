//! Looking for damage in the background: from time to time, and slowly.
//!
//! ```text
//!   mounted ──► is it time? ──► all is read, at so many bytes a second ──► what was made good is written ──► in a week again
//! ```

use super::live::Live;
use crate::formats::{Heals, Scrubbed, Unwatched, Watch};
use crate::pool::lock;
use serde::{Deserialize, Serialize};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

/// When a container is looked at, and how fast.
pub struct Schedule {
    /// After a mount there is other work first, for so long.
    pub first: Duration,
    pub every: Duration,
    /// Decoded bytes a second.
    pub rate: u64,
    /// When it was looked at last.
    pub last: Option<SystemTime>,
    /// Is told when a look is done.
    pub done: Box<dyn Fn() + Send>,
}

/// How a look at everything stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scrubbing {
    /// Bytes that were read, and that there are; of one that is going on.
    pub going: Option<(u64, u64)>,
    /// When the last one ended, in seconds since 1970.
    pub last: Option<u64>,
    /// Files, and other things, that it found damaged for good.
    pub damaged: u64,
}

struct Shared {
    ending: Mutex<bool>,
    wake: Condvar,
    told: Mutex<Scrubbing>,
}

/// The thread that looks.
pub struct Scrubber {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Scrubber {
    pub fn new(heals: Arc<dyn Heals>, live: Option<Arc<Live>>, schedule: Schedule) -> Self {
        let shared = Arc::new(Shared { ending: Mutex::default(), wake: Condvar::new(), told: Mutex::default() });
        let own = shared.clone();
        let work = move || run(&own, &*heals, live.as_deref(), &schedule);
        let thread = std::thread::Builder::new().name("stmount-scrub".into()).spawn(work);
        let thread = thread.inspect_err(|e| log::warn!("no thread to look for damage: {e}")).ok();
        Self { shared, thread }
    }

    pub fn told(&self) -> Scrubbing {
        *lock(&self.shared.told)
    }
}

impl Drop for Scrubber {
    fn drop(&mut self) {
        *lock(&self.shared.ending) = true;
        self.shared.wake.notify_all();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Shared {
    /// Waits, and says whether it is to go on.
    fn wait(&self, time: Duration) -> bool {
        let ending = lock(&self.ending);
        let waited = self.wake.wait_timeout_while(ending, time, |ending| !*ending);
        !*waited.unwrap_or_else(PoisonError::into_inner).0
    }
}

fn run(shared: &Shared, heals: &dyn Heals, live: Option<&Live>, schedule: &Schedule) {
    let since = schedule.last.and_then(|last| last.elapsed().ok());
    let mut wait = since.map_or(schedule.first, |since| schedule.every.saturating_sub(since).max(schedule.first));
    while shared.wait(wait) {
        let paced = Paced { shared, rate: schedule.rate, began: Instant::now(), done: AtomicU64::new(0) };
        match heals.scrub(&paced) {
            Ok(found) => note(shared, &found),
            Err(_) if paced.is_cancelled() => return,
            Err(e) => log::error!("the look for damage came to an end: {e}"),
        }
        if let Some(live) = live {
            live.protect(&Unwatched);
        }
        (schedule.done)();
        wait = schedule.every;
    }
}

fn note(shared: &Shared, found: &Scrubbed) {
    let damaged = found.files + found.other;
    let last = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).ok().map(|since| since.as_secs());
    *lock(&shared.told) = Scrubbing { going: None, last, damaged };
    match damaged {
        0 => log::info!("{} bytes were looked at: nothing is lost", found.bytes),
        n => log::error!("{n} files or parts of the index are damaged: stmount check names them"),
    }
}

/// Keeps to a rate.
struct Paced<'a> {
    shared: &'a Shared,
    rate: u64,
    began: Instant,
    done: AtomicU64,
}

impl Watch for Paced<'_> {
    fn total(&self, bytes: u64, _entries: u64) {
        lock(&self.shared.told).going = Some((0, bytes));
    }

    fn advance(&self, bytes: u64, _entries: u64) {
        let done = self.done.fetch_add(bytes, Relaxed) + bytes;
        if let Some(going) = &mut lock(&self.shared.told).going {
            going.0 = done;
        }
        let due = Duration::from_secs_f64(done as f64 / self.rate.max(1) as f64);
        if let Some(early) = due.checked_sub(self.began.elapsed()).filter(|early| *early > Duration::from_millis(10)) {
            self.shared.wait(early);
        }
    }

    fn is_cancelled(&self) -> bool {
        *lock(&self.shared.ending)
    }
}
