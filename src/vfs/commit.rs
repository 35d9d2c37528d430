//! When changes are committed without being asked to: some seconds after the first of them, or when they take too much
//! memory.

use super::live::Live;
use crate::formats::{Give, Unwatched, Watch};
use crate::pool::lock;
use std::sync::atomic::{AtomicBool, Ordering::AcqRel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// When to commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Commit {
    /// A change waits at most so long.
    pub after: Duration,
    /// What is in a journal is brought into the archive when nothing was changed for so long.
    pub settle: Duration,
    /// At so many bytes in memory a commit begins. At twice as many, who writes waits for it.
    pub dirty: u64,
}

impl Default for Commit {
    fn default() -> Self {
        Self { after: Duration::from_secs(5), settle: Duration::from_secs(60), dirty: 64 << 20 }
    }
}

/// Wakes the thread that commits.
#[derive(Default)]
pub struct Pulse {
    /// Set while the thread knows that there is something to commit.
    awake: AtomicBool,
    signals: Mutex<Signals>,
    wake: Condvar,
}

#[derive(Default)]
struct Signals {
    changed: bool,
    full: bool,
    closing: bool,
}

impl Pulse {
    /// Something was changed.
    pub fn changed(&self) {
        if !self.awake.swap(true, AcqRel) {
            lock(&self.signals).changed = true;
            self.wake.notify_one();
        }
    }

    fn full(&self) {
        let mut signals = lock(&self.signals);
        if !signals.full {
            signals.full = true;
            self.wake.notify_one();
        }
    }
}

/// Commits a tree in the background.
pub struct Committer {
    when: Commit,
    live: Arc<Live>,
    thread: Option<JoinHandle<()>>,
}

impl Committer {
    pub fn new(live: Arc<Live>, when: Commit) -> Self {
        let own = live.clone();
        let work = move || run(&own, when);
        // Without a thread, fsync and the limit of memory still commit.
        let thread = std::thread::Builder::new().name("stmount-commit".into()).spawn(work);
        let thread = thread.inspect_err(|e| log::warn!("no thread to commit in the background: {e}")).ok();
        Self { when, live, thread }
    }

    /// Begins a commit when there is much to do, and waits for it when there is too much.
    pub fn make_room(&self) -> crate::error::Result<()> {
        let dirty = self.live.dirty();
        if dirty >= self.when.dirty.saturating_mul(2) {
            return self.live.sync();
        }
        if dirty >= self.when.dirty {
            self.live.pulse.full();
        }
        Ok(())
    }
}

impl Drop for Committer {
    fn drop(&mut self) {
        lock(&self.live.pulse.signals).closing = true;
        self.live.pulse.wake.notify_all();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Whoever works while nobody writes ends when somebody does.
struct Quiet<'a>(&'a Pulse);

impl Watch for Quiet<'_> {
    fn is_cancelled(&self) -> bool {
        let signals = lock(&self.0.signals);
        signals.changed || signals.full || signals.closing
    }
}

fn settle(live: &Live) {
    match live.settle(&Unwatched) {
        Ok(settled) if settled.entries > 0 => log::info!("{} changes are in the archive", settled.entries),
        Ok(_) => {}
        Err(e) => log::error!("changes are in the journal, and not in the archive: {e}"),
    }
}

fn run(live: &Live, when: Commit) {
    let pulse = &live.pulse;
    let mut signals = lock(&pulse.signals);
    // Changes from before, of a journal that was found.
    let mut settles = true;
    let mut healed = 0;
    loop {
        while !signals.changed && !signals.full && !signals.closing {
            let is_quiet = |s: &mut Signals| !s.changed && !s.full && !s.closing;
            let waited = pulse.wake.wait_timeout_while(signals, when.settle, is_quiet);
            let (back, waited) = waited.unwrap_or_else(PoisonError::into_inner);
            signals = back;
            // Who only reads may have met damage, which is to be written as it was.
            let found = live.healed();
            if waited.timed_out() && (settles || found != healed) {
                drop(signals);
                if settles {
                    settle(live);
                }
                live.protect(&Quiet(pulse));
                (settles, healed) = (false, found);
                signals = lock(&pulse.signals);
            }
        }
        if signals.changed && !signals.full && !signals.closing {
            let waited = pulse.wake.wait_timeout_while(signals, when.after, |s| !s.full && !s.closing);
            signals = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        if signals.closing {
            return;
        }
        (signals.changed, signals.full) = (false, false);
        drop(signals);
        pulse.awake.store(false, std::sync::atomic::Ordering::Release);
        match live.sync() {
            Ok(()) => {
                live.upkeep(Give::Worthwhile);
                settles = true;
            }
            Err(e) => {
                log::error!("changes are not stored yet: {e}");
                pulse.changed();
            }
        }
        signals = lock(&pulse.signals);
    }
}
