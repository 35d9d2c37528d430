//! Who does the work of a request.
//!
//! A thread that takes requests from the kernel does them itself, which is fastest, as long as another such thread is
//! free to take the next one. The last free thread never works: it hands its request to a helper. So however many slow
//! reads there are, a `stat` is answered at once.
//!
//! ```text
//!   kernel ──► taker 1   works on request a
//!          ──► taker 2   works on request b
//!          ──► taker 3   hands request c to a helper, takes the next one
//! ```

use crate::pool::lock;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// Most helpers at a time. Each waits for a slow medium; further requests wait for a helper.
const MAX_HELPERS: usize = 64;
/// How long a helper waits for work before it goes.
const PATIENCE: Duration = Duration::from_secs(10);

type Job = Box<dyn FnOnce() + Send>;

pub struct Crew {
    /// Takers at work.
    busy: AtomicUsize,
    /// Takers that may work at once: all but one.
    limit: usize,
    helpers: Arc<Helpers>,
}

#[derive(Default)]
struct Helpers {
    state: Mutex<State>,
    wake: Condvar,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    threads: usize,
    idle: usize,
    closed: bool,
}

impl Crew {
    /// For that many threads that take requests.
    pub fn new(takers: usize) -> Self {
        Self { busy: AtomicUsize::new(0), limit: takers.saturating_sub(1), helpers: Arc::default() }
    }

    /// Does a request, here or on a helper. A panic ends the request and nothing else.
    pub fn run(&self, job: impl FnOnce() + Send + 'static) {
        if self.busy.fetch_add(1, Ordering::AcqRel) < self.limit {
            guarded(job);
            self.busy.fetch_sub(1, Ordering::AcqRel);
        } else {
            self.busy.fetch_sub(1, Ordering::AcqRel);
            Helpers::hand(&self.helpers, Box::new(job));
        }
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        self.helpers.lock().closed = true;
        self.helpers.wake.notify_all();
    }
}

impl Helpers {
    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    fn hand(helpers: &Arc<Self>, job: Job) {
        let mut state = helpers.lock();
        state.jobs.push_back(job);
        if state.jobs.len() <= state.idle || state.threads >= MAX_HELPERS {
            helpers.wake.notify_one();
            return;
        }
        state.threads += 1;
        drop(state);
        let own = helpers.clone();
        if thread::Builder::new().name("stmount-helper".into()).spawn(move || own.help()).is_err() {
            helpers.no_thread();
        }
    }

    /// No thread to be had: whoever is here does what waits, unless a helper is left to do it.
    fn no_thread(&self) {
        let mut state = self.lock();
        state.threads -= 1;
        let job = if state.threads == 0 { state.jobs.pop_front() } else { None };
        drop(state);
        if let Some(job) = job {
            guarded(job);
        }
    }

    fn help(&self) {
        while let Some(job) = self.next() {
            guarded(job);
        }
    }

    fn next(&self) -> Option<Job> {
        let mut state = self.lock();
        loop {
            if let Some(job) = state.jobs.pop_front() {
                return Some(job);
            }
            if state.closed {
                state.threads -= 1;
                return None;
            }
            state.idle += 1;
            let (again, waited) = self.wake.wait_timeout(state, PATIENCE).unwrap_or_else(PoisonError::into_inner);
            state = again;
            state.idle -= 1;
            if state.jobs.is_empty() && waited.timed_out() {
                state.threads -= 1;
                return None;
            }
        }
    }
}

/// A panic drops the reply, and a dropped reply answers EIO.
fn guarded(job: impl FnOnce()) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(job)) {
        let text = panic.downcast_ref::<&str>().copied();
        let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message");
        log::error!("a request failed by a fault of this program, please report it: {text}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;

    const LONG: Duration = Duration::from_secs(20);

    #[test]
    fn with_one_taker_the_work_is_never_done_by_it() {
        let (crew, (send, receive)) = (Crew::new(1), channel());
        crew.run(move || send.send(thread::current().id()).unwrap());
        assert_ne!(receive.recv_timeout(LONG).unwrap(), thread::current().id());
    }

    #[test]
    fn requests_that_wait_do_not_stop_the_taker() {
        let (crew, (done, receive)) = (Crew::new(1), channel());
        let mut gates = Vec::new();
        for _ in 0..20 {
            let ((open, gate), done) = (channel::<()>(), done.clone());
            gates.push(open);
            crew.run(move || {
                let _ = gate.recv();
                done.send(false).unwrap();
            });
        }
        crew.run(move || done.send(true).unwrap());
        assert!(receive.recv_timeout(LONG).unwrap(), "the last request waited for the others");
        drop(gates);
        assert_eq!(receive.iter().count(), 20);
    }

    #[test]
    fn a_panic_costs_one_request() {
        let (crew, (send, receive)) = (Crew::new(2), channel());
        for _ in 0..5 {
            crew.run(|| panic!("on purpose"));
        }
        let taker = thread::current().id();
        crew.run(move || send.send(thread::current().id()).unwrap());
        assert_eq!(receive.recv_timeout(LONG).unwrap(), taker, "a panic left its taker counted as busy");
    }
}
