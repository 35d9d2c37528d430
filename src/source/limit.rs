//! How many bytes may go over a link in a second, all of its requests together.
//!
//! ```text
//!   rate ──► bucket, a quarter of a second deep ──► what somebody waits for ──► what is fetched ahead
//! ```
//!
//! A piece passes when anything is in the bucket, and may leave it in debt: so a piece may be larger than the bucket. Who is
//! held is not late: for whoever counts how long he waits, the clock stands still while the limit holds somebody.

use crate::pool::lock;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// What may go at once after a pause: the rate of so long.
const DEPTH: f64 = 0.25;

/// How often who is held looks whether anybody still wants it.
const LOOK: Duration = Duration::from_millis(200);

pub struct Limit {
    state: Mutex<State>,
    turn: Condvar,
    begun: Instant,
}

/// All of it, at times that are told: since it was begun.
struct State {
    /// Bytes in a second.
    rate: f64,
    /// Bytes that may go now; less than nothing is a debt.
    level: f64,
    /// When that was so.
    at: Duration,
    /// How many are held, and of these how many of those that somebody waits for.
    held: usize,
    urgent: usize,
    /// Since when somebody is held, and how long somebody was before.
    since: Duration,
    total: Duration,
}

impl Limit {
    /// So many bytes a second; at least one.
    pub fn new(rate: u64) -> Self {
        Self { state: Mutex::new(State::new(rate)), turn: Condvar::new(), begun: Instant::now() }
    }

    /// Waits until so many bytes may go, or until `is_wanted` says that they need not; tells how long that was.
    pub fn pass(&self, bytes: usize, is_urgent: bool, is_wanted: &dyn Fn() -> bool) -> Duration {
        let begun = self.begun.elapsed();
        let mut state = lock(&self.state);
        let Some(mut wait) = state.pass(begun, bytes, is_urgent) else { return Duration::ZERO };
        state.hold(begun, is_urgent);
        loop {
            state = self.turn.wait_timeout(state, wait.min(LOOK)).unwrap_or_else(PoisonError::into_inner).0;
            let now = self.begun.elapsed();
            // Those who are held with it are no reason to wait for oneself.
            state.release(now, is_urgent);
            wait = match state.pass(now, bytes, is_urgent) {
                Some(wait) if is_wanted() => wait,
                _ => break,
            };
            state.hold(now, is_urgent);
        }
        drop(state);
        self.turn.notify_all();
        self.begun.elapsed().saturating_sub(begun)
    }

    /// Takes note of bytes that have gone already.
    pub fn spend(&self, bytes: usize) {
        lock(&self.state).level -= bytes as f64;
    }

    /// How long somebody was held, in all.
    pub fn held(&self) -> Duration {
        lock(&self.state).held(self.begun.elapsed())
    }
}

impl State {
    fn new(rate: u64) -> Self {
        let rate = rate.max(1) as f64;
        let (at, since, total) = Default::default();
        Self { rate, level: rate * DEPTH, at, held: 0, urgent: 0, since, total }
    }

    /// Lets bytes go; or tells how long to wait before asking again.
    fn pass(&mut self, now: Duration, bytes: usize, is_urgent: bool) -> Option<Duration> {
        let fresh = now.saturating_sub(self.at).as_secs_f64() * self.rate;
        (self.level, self.at) = ((self.level + fresh).min(self.rate * DEPTH), now.max(self.at));
        if self.level <= 0.0 {
            // A little more than nothing has to be there.
            let wait = (1.0 - self.level) / self.rate;
            return Some(Duration::try_from_secs_f64(wait).unwrap_or(LOOK).max(Duration::from_millis(1)));
        }
        if !is_urgent && self.urgent > 0 {
            return Some(LOOK);
        }
        self.level -= bytes as f64;
        None
    }

    fn hold(&mut self, now: Duration, is_urgent: bool) {
        if self.held == 0 {
            self.since = now;
        }
        (self.held, self.urgent) = (self.held + 1, self.urgent + usize::from(is_urgent));
    }

    fn release(&mut self, now: Duration, is_urgent: bool) {
        self.total = self.held(now);
        self.since = now;
        (self.held, self.urgent) = (self.held - 1, self.urgent - usize::from(is_urgent));
    }

    fn held(&self, now: Duration) -> Duration {
        self.total + if self.held > 0 { now.saturating_sub(self.since) } else { Duration::ZERO }
    }
}

/// Until when one waits, while the time counts in which the limit holds nobody.
pub struct Until<'a> {
    until: Instant,
    limit: Option<(&'a Limit, Duration)>,
}

impl<'a> Until<'a> {
    pub fn new(patience: Duration, limit: Option<&'a Limit>) -> Self {
        Self { until: Instant::now() + patience, limit: limit.map(|limit| (limit, limit.held())) }
    }

    /// What is left.
    pub fn left(&self) -> Duration {
        let held = self.limit.map_or(Duration::ZERO, |(limit, before)| limit.held().saturating_sub(before));
        (self.until + held).saturating_duration_since(Instant::now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// When the last of so many pieces has passed, one after the other.
    fn last(state: &mut State, pieces: usize, len: usize, mut now: Duration) -> Duration {
        for _ in 0..pieces {
            while let Some(wait) = state.pass(now, len, true) {
                now += wait;
            }
        }
        now
    }

    #[test]
    fn what_passes_has_the_rate_whatever_the_size_of_the_pieces() {
        for (rate, pieces, len) in
            [(1_000_000, 1000, 10_000), (1_000_000, 10, 1_000_000), (10_000, 100, 16_384), (7, 70, 1)]
        {
            let time = last(&mut State::new(rate), pieces, len, Duration::ZERO).as_secs_f64();
            // The first of it comes out of the bucket, and the last piece may leave it in debt.
            let (all, spare) = ((pieces * len) as f64, rate as f64 * DEPTH + len as f64);
            assert!(
                (all - spare) / rate as f64 - 0.01 <= time && time <= all / rate as f64 * 1.2 + 0.01,
                "{rate}: {time}"
            );
        }
    }

    #[test]
    fn a_pause_fills_no_more_than_the_bucket() {
        let mut state = State::new(1000);
        let now = last(&mut state, 100, 10, Duration::ZERO) + Duration::from_secs(3600);
        let mut passed = 0;
        while state.pass(now, 10, true).is_none() {
            passed += 1;
        }
        assert_eq!(passed, 25);
    }

    #[test]
    fn what_somebody_waits_for_goes_first() {
        let mut state = State::new(1000);
        assert_eq!(state.pass(MS, 2000, true), None);
        assert!(state.pass(MS, 10, true).is_some() && state.pass(MS, 10, false).is_some());
        state.hold(MS, true);
        state.hold(MS, false);
        let later = Duration::from_secs(10);
        state.release(later, false);
        assert!(state.pass(later, 10, false).is_some(), "somebody waits for something else");
        state.hold(later, false);
        state.release(later, true);
        assert_eq!(state.pass(later, 10, true), None);
        state.release(later, false);
        assert_eq!(state.pass(later, 10, false), None);
    }

    #[test]
    fn the_time_in_which_somebody_is_held_is_counted_once() {
        let mut state = State::new(1);
        state.hold(5 * MS, true);
        state.hold(10 * MS, false);
        assert_eq!(state.held(15 * MS), 10 * MS);
        state.release(20 * MS, true);
        state.release(30 * MS, false);
        assert_eq!(state.held(100 * MS), 25 * MS);
        state.hold(100 * MS, false);
        assert_eq!(state.held(101 * MS), 26 * MS);
    }

    #[test]
    fn what_nobody_wants_any_more_is_not_waited_for() {
        let limit = Limit::new(1);
        limit.spend(1_000_000);
        limit.pass(1, true, &|| false);
        assert!(Until::new(Duration::ZERO, Some(&limit)).left().is_zero());
    }
}
