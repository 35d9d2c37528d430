//! Transfers that go on: a range that begins where another one ended is taken from the same transfer.
//!
//! ```text
//!   RETR at 0 ─► 0..4M ─ parked ─► 4M..8M ─ parked ─► ...     no command, no new connection, and nothing that is sent in vain
//! ```
//!
//! A server sends a file to its end, and learns that there is enough of it by a connection that is closed, with all in it that is
//! on its way. So a transfer is not ended with the range it was begun for. One that is parked gives its connection to whoever
//! has none.

use super::control::Control;
use super::server::{Held, Pool, Server};
use super::wire::Pipe;
use crate::pool::lock;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

/// One that nobody went on with for so long is given up.
const KEPT: Duration = Duration::from_secs(10);

/// So far before a place one is that will come to it.
const NEAR: u64 = 8 << 20;

/// So long after it stands still somebody takes it on, if anybody does.
const TAKEN_ON: Duration = Duration::from_millis(100);

/// Of one object; more are of readers that went elsewhere.
const OF_ONE: usize = 2;

/// A transfer that stands still.
pub struct Parked {
    of: u64,
    at: u64,
    control: Control,
    data: Pipe,
    since: Instant,
}

/// A range that is being taken, and whose transfer will be parked at its end.
pub struct Running<'a> {
    server: &'a Server,
    of: u64,
    end: u64,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let mut pool = lock(&self.server.pool);
        if let Some(n) = pool.running.iter().position(|running| *running == (self.of, self.end)) {
            pool.running.swap_remove(n);
        }
        drop(pool);
        self.server.freed.notify_all();
    }
}

impl Pool {
    /// Gives up one that is parked: its connection is ready once the server has said how it ended.
    pub fn give_up(&mut self, n: usize) {
        let Parked { control, data, .. } = self.parked.swap_remove(n);
        drop(data);
        self.idle.push(control);
    }

    /// Gives up those for which this is true.
    pub fn give_up_if(&mut self, is: impl Fn(&Parked) -> bool) {
        while let Some(n) = self.parked.iter().position(&is) {
            self.give_up(n);
        }
    }

    pub fn give_up_old(&mut self) {
        self.give_up_if(|parked| parked.since.elapsed() > KEPT);
    }

    pub fn give_up_oldest(&mut self) -> bool {
        let oldest = (0..self.parked.len()).min_by_key(|n| self.parked[*n].since);
        oldest.map(|n| self.give_up(n)).is_some()
    }
}

impl Server {
    /// Says that a range of an object is being taken.
    pub fn runs(&self, of: u64, end: u64) -> Running<'_> {
        lock(&self.pool).running.push((of, end));
        Running { server: self, of, end }
    }

    /// A transfer that has come to this place of an object, once those have that will. What is read ahead is asked for by
    /// several at once, in any order: one that is just before this place is going to come to it, when the next of them takes it
    /// on.
    pub fn goes_on(&self, of: u64, at: u64, until: Instant) -> Option<(Held<'_>, Pipe)> {
        let is_before = |end: u64| end <= at && at - end <= NEAR;
        let mut taken_on = Instant::now() + TAKEN_ON;
        let mut pool = lock(&self.pool);
        loop {
            pool.give_up_old();
            if let Some(n) = pool.parked.iter().position(|parked| (parked.of, parked.at) == (of, at)) {
                let Parked { control, data, .. } = pool.parked.swap_remove(n);
                pool.out += 1;
                return Some((Held::again(self, control), data));
            }
            let now = Instant::now();
            let runs = pool.running.iter().any(|(running, end)| *running == of && is_before(*end));
            let stands = pool.parked.iter().any(|parked| parked.of == of && is_before(parked.at));
            let until = match (runs, stands) {
                (true, _) => {
                    taken_on = now + TAKEN_ON;
                    until
                }
                (false, true) => until.min(taken_on),
                (false, false) => return None,
            };
            let left = until.saturating_duration_since(now);
            if left.is_zero() {
                return None;
            }
            pool = self.freed.wait_timeout(pool, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Leaves a transfer where it is.
    pub fn park(&self, held: Held<'_>, data: Pipe, (of, at): (u64, u64)) {
        let Some(control) = held.into_control() else { return };
        let mut pool = lock(&self.pool);
        pool.parked.push(Parked { of, at, control, data, since: Instant::now() });
        let own = pool.parked.iter().filter(|parked| parked.of == of).count();
        if own > OF_ONE
            && let Some(n) = pool.parked.iter().position(|parked| parked.of == of)
        {
            pool.give_up(n);
        }
        drop(pool);
        self.freed.notify_all();
    }

    /// Nobody reads an object any more.
    pub fn is_left(&self, of: u64) {
        lock(&self.pool).give_up_if(|parked| parked.of == of);
        self.freed.notify_all();
    }

    /// Whether there is a connection for something beside a transfer.
    pub fn has_room(&self) -> bool {
        let pool = lock(&self.pool);
        !pool.idle.is_empty() || pool.out + pool.parked.len() < pool.most
    }
}
