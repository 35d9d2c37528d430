//! A server that is away for a moment, as while it is started anew.
//!
//! ```text
//!   asked ─ away ─ asked again ─ ... ─ there          it heals by itself
//!   asked ─ away ─ asked again ─ ... ─ away too long ─ who asks later is told at once, until it is there again
//! ```

use crate::error::{Kind, Result};
use crate::pool::lock;
use std::sync::Mutex;
use std::time::{Duration, Instant};

const FIRST_WAIT: Duration = Duration::from_millis(100);
const LAST_WAIT: Duration = Duration::from_secs(1);

/// Since when nobody is there.
#[derive(Default)]
pub struct Away(Mutex<Option<Instant>>);

impl Away {
    /// Asks, and asks again for some time where nobody is there.
    pub fn ask<T>(&self, time: Duration, ask: impl Fn() -> Result<T>) -> Result<T> {
        let mut wait = FIRST_WAIT;
        loop {
            let begun = Instant::now();
            let asked = ask();
            if !asked.as_ref().is_err_and(|e| e.kind() == Kind::Unreachable) {
                // One that does not answer in time is not there again.
                if !asked.as_ref().is_err_and(|e| e.kind() == Kind::TimedOut) {
                    *lock(&self.0) = None;
                }
                return asked;
            }
            let since = *lock(&self.0).get_or_insert(begun);
            if since.elapsed() + wait > time {
                return asked;
            }
            std::thread::sleep(wait);
            wait = (wait * 2).min(LAST_WAIT);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;
    use std::cell::Cell;

    #[test]
    fn who_is_away_for_a_moment_is_asked_again_and_who_is_away_for_long_is_not() {
        let (away, asked) = (Away::default(), Cell::new(0));
        let unreachable = || Error::new(Kind::Unreachable, "nobody is there");
        let back = |after: u32| {
            asked.set(asked.get() + 1);
            if asked.get() > after { Ok(()) } else { Err(unreachable()) }
        };
        away.ask(Duration::from_secs(60), || back(2)).unwrap();
        assert_eq!(asked.replace(0), 3);
        assert!(away.ask(Duration::from_millis(250), || back(100)).is_err());
        assert!(asked.replace(0) > 1);
        assert!(away.ask(Duration::ZERO, || back(100)).is_err());
        assert_eq!(asked.replace(0), 1);
        assert!(away.ask(Duration::from_secs(60), || Err::<(), _>(Error::new(Kind::NotFound, "x"))).is_err());
    }
}
