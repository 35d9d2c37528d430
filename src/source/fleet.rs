//! Threads that make requests over a link, a few at a time.
//!
//! What somebody waits for goes before what is fetched ahead, and one thread is always left for it. Threads come when there is
//! work and go when there is none for a while.

use super::{Limit, Until};
use crate::pool::lock;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

/// How long a thread waits for work before it goes.
const PATIENCE: Duration = Duration::from_secs(10);

type Job = Box<dyn FnOnce() + Send>;

/// So many requests at once, and no more.
pub struct Fleet {
    most: usize,
    shared: Arc<Shared>,
    limit: Option<Arc<Limit>>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    wake: Condvar,
}

#[derive(Default)]
struct State {
    now: VecDeque<Job>,
    ahead: VecDeque<Job>,
    threads: usize,
    idle: usize,
    /// Threads at work ahead.
    ahead_now: usize,
    is_closed: bool,
}

impl Fleet {
    /// At most so many requests at a time; at least two, of which one is for what somebody waits for.
    pub fn new(most: usize) -> Self {
        Self { most: most.max(2), shared: Arc::default(), limit: None }
    }

    /// The same, with a limit of what all bring together.
    pub fn limited(most: usize, limit: Option<Arc<Limit>>) -> Self {
        let mut fleet = Self::new(most);
        fleet.limit = limit;
        fleet
    }

    /// Requests at a time.
    pub fn most(&self) -> usize {
        self.most
    }

    /// The limit, for who else uses the link.
    pub fn limit(&self) -> Option<&Arc<Limit>> {
        self.limit.as_ref()
    }

    /// Until when somebody waits for what they bring.
    pub fn until(&self, patience: Duration) -> Until<'_> {
        Until::new(patience, self.limit.as_deref())
    }

    /// Has a job done: at once if it may be, and else when its turn comes.
    pub fn send(&self, ahead: bool, job: impl FnOnce() + Send + 'static) {
        let mut state = lock(&self.shared.state);
        let queue = if ahead { &mut state.ahead } else { &mut state.now };
        queue.push_back(Box::new(job));
        let waiting = state.now.len() + state.ahead.len();
        if state.idle < waiting && state.threads < self.most {
            let (shared, most) = (self.shared.clone(), self.most);
            let started = thread::Builder::new().name("fetch".into()).spawn(move || work(&shared, most));
            // Without a thread a job waits for another; without any it is dropped, which tells who waits.
            match started {
                Ok(_) => state.threads += 1,
                Err(_) if state.threads == 0 => (state.now, state.ahead) = Default::default(),
                Err(_) => {}
            }
        }
        drop(state);
        self.shared.wake.notify_one();
    }

    /// Waits before another try.
    pub fn rest(&self, time: Duration) {
        thread::sleep(time);
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        lock(&self.shared.state).is_closed = true;
        self.shared.wake.notify_all();
    }
}

fn work(shared: &Shared, most: usize) {
    let mut state = lock(&shared.state);
    loop {
        let may_ahead = state.ahead_now + 1 < most;
        let (job, is_ahead) = match state.now.pop_front() {
            Some(job) => (Some(job), false),
            None if may_ahead => (state.ahead.pop_front(), true),
            None => (None, false),
        };
        if let Some(job) = job {
            state.ahead_now += usize::from(is_ahead);
            drop(state);
            // A panic ends the one job.
            let _ = catch_unwind(AssertUnwindSafe(job));
            state = lock(&shared.state);
            state.ahead_now -= usize::from(is_ahead);
            continue;
        }
        if state.is_closed {
            break;
        }
        state.idle += 1;
        let waited = shared.wake.wait_timeout(state, PATIENCE).unwrap_or_else(PoisonError::into_inner);
        state = waited.0;
        state.idle -= 1;
        if waited.1.timed_out() && state.now.is_empty() && state.ahead.is_empty() {
            break;
        }
    }
    state.threads -= 1;
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;

    #[test]
    fn what_somebody_waits_for_goes_before_what_is_fetched_ahead() {
        let fleet = Fleet::new(2);
        let (done, order) = channel();
        let (go, gate) = channel::<()>();
        let told = done.clone();
        fleet.send(true, move || {
            let _ = gate.recv();
            told.send("ahead 1").unwrap();
        });
        let told = done.clone();
        fleet.send(true, move || told.send("ahead 2").unwrap());
        // One thread is busy, the other is not for what is ahead.
        assert_eq!(order.recv_timeout(Duration::from_millis(50)).ok(), None);
        fleet.send(false, move || done.send("now").unwrap());
        assert_eq!(order.recv().unwrap(), "now");
        go.send(()).unwrap();
        assert_eq!(order.recv().unwrap(), "ahead 1");
        assert_eq!(order.recv().unwrap(), "ahead 2");
    }

    #[test]
    fn a_panic_ends_one_job() {
        let fleet = Fleet::new(2);
        let (done, order) = channel();
        fleet.send(false, || panic!("a broken job"));
        fleet.send(false, move || done.send(()).unwrap());
        order.recv().unwrap();
    }
}
