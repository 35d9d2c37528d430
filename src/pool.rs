//! Work in parallel, results in order.
//!
//! ```text
//!   feed ──► jobs (bounded) ──► workers ──► results, each in its own slot
//!     └────► slots, in the order of feeding ──► drain, in that order
//! ```
//!
//! The same input gives the same output whatever the number of threads: what comes out depends on the order of feeding
//! alone. At most `depth` jobs are on the way, so memory is bounded by the size of a job. A panic in a worker becomes a
//! panic of the caller.
//!
//! What threads share is behind a [`lock`].

use crate::error::Result;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The end that takes jobs.
pub struct Feed<J, R> {
    jobs: SyncSender<(J, SyncSender<R>)>,
    slots: SyncSender<Receiver<R>>,
}

impl<J, R> Feed<J, R> {
    /// Hands a job over; waits while too many are on the way. False when the drain has given up and nothing more is
    /// wanted.
    pub fn push(&self, job: J) -> bool {
        let (send, receive) = sync_channel(1);
        self.slots.send(receive).is_ok() && self.jobs.send((job, send)).is_ok()
    }
}

/// Locks, whatever became of the last one who did: what is shared here is whole between any two statements, and the panic
/// of one thread is told by that thread.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The number of threads to use when nobody said one: the cores this process may run on.
pub fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, |n| n.get())
}

/// Runs `feed` on the calling thread, `work` on `threads` workers, and `drain` on one more thread, which sees the results
/// in the order in which their jobs were fed. The first error of `drain` or `feed` ends everything and is returned.
pub fn ordered<J: Send, R: Send>(
    threads: usize,
    depth: usize,
    feed: impl FnOnce(&Feed<J, R>) -> Result<()>,
    work: impl Fn(J) -> R + Sync,
    mut drain: impl FnMut(R) -> Result<()> + Send,
) -> Result<()> {
    let (job_in, job_out) = sync_channel::<(J, SyncSender<R>)>(depth.max(1));
    let (slot_in, slot_out) = sync_channel::<Receiver<R>>(depth.max(1));
    let job_out = Mutex::new(job_out);
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads.max(1)).map(|_| scope.spawn(|| run(&job_out, &work))).collect();
        let drainer = scope.spawn(move || {
            for slot in slot_out {
                // A slot without a sender: its worker panicked, which is told below.
                let Ok(result) = slot.recv() else { return Ok(()) };
                drain(result)?;
            }
            Ok(())
        });
        let fed = feed(&Feed { jobs: job_in, slots: slot_in });
        let drained = drainer.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        for worker in workers {
            worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        }
        drained.and(fed)
    })
}

fn run<J, R>(jobs: &Mutex<Receiver<(J, SyncSender<R>)>>, work: &impl Fn(J) -> R) {
    loop {
        let next = lock(jobs).recv();
        let Ok((job, slot)) = next else { return };
        // The drain may have given up; then nobody takes the result.
        let _ = slot.send(work(job));
    }
}

/// Threads for work that nobody waits for. A job that finds the queue full is dropped: it was a preparation, and whoever
/// needs its result makes it.
pub struct Background {
    jobs: SyncSender<Box<dyn FnOnce() + Send>>,
}

impl Background {
    /// Starts the threads; they end when the `Background` is dropped and their queue is empty.
    pub fn new(threads: usize, queue: usize) -> Self {
        let (jobs, queue) = sync_channel::<Box<dyn FnOnce() + Send>>(queue);
        let queue = Arc::new(Mutex::new(queue));
        for _ in 0..threads {
            let queue = queue.clone();
            // Without threads nothing is prepared, and everything works.
            let _ = std::thread::Builder::new().name("ahead".into()).spawn(move || {
                loop {
                    let job = lock(&queue).recv();
                    let Ok(job) = job else { return };
                    // A panic ends the one job.
                    let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(job));
                }
            });
        }
        Self { jobs }
    }

    /// Hands a job over; false when the queue is full.
    pub fn push(&self, job: impl FnOnce() + Send + 'static) -> bool {
        self.jobs.try_send(Box::new(job)).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Error, Kind};

    fn squares(threads: usize) -> Vec<u64> {
        let mut out = Vec::new();
        let feed = |feed: &Feed<u64, u64>| {
            (0..500).for_each(|n| assert!(feed.push(n)));
            Ok(())
        };
        ordered(
            threads,
            4,
            feed,
            |n| n * n,
            |r| {
                out.push(r);
                Ok(())
            },
        )
        .unwrap();
        out
    }

    #[test]
    fn results_come_in_the_order_of_the_jobs() {
        let want: Vec<u64> = (0..500).map(|n| n * n).collect();
        assert_eq!(squares(1), want);
        assert_eq!(squares(7), want);
    }

    #[test]
    fn the_first_error_of_the_drain_stops_the_feed() {
        let mut fed = 0;
        let feed = |feed: &Feed<u64, u64>| {
            while feed.push(fed) {
                fed += 1;
            }
            Ok(())
        };
        let full = |n| if n == 10 { Err(Error::new(Kind::NoSpace, "full")) } else { Ok(()) };
        assert_eq!(ordered(3, 4, feed, |n| n, full).unwrap_err().kind(), Kind::NoSpace);
        assert!(fed < 100);
    }

    #[test]
    #[should_panic(expected = "a broken worker")]
    fn a_panic_of_a_worker_reaches_the_caller() {
        let feed = |feed: &Feed<u64, u64>| {
            (0..50).all(|n| feed.push(n));
            Ok(())
        };
        let _ = ordered(2, 4, feed, |n| if n == 5 { panic!("a broken worker") } else { n }, |_| Ok(()));
    }
}
