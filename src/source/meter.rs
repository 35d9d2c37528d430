//! What goes over the links of a mount, told to whoever asks how it is doing.
//!
//! ```text
//!   requests, bytes, tries ──► meter ◄── answered, or not, and when it is tried again
//!                                ▲
//!   objects that are open ───────┘       how much of them is kept here
//! ```

use crate::error::Error;
use crate::pool::lock;
use serde::{Deserialize, Serialize};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, Weak};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Longest text of an error, in bytes: it is part of an extended attribute.
const LONGEST: usize = 400;

/// Counts what goes over the links of a mount.
#[derive(Default)]
pub struct Meter {
    requests: AtomicU64,
    bytes: AtomicU64,
    retries: AtomicU64,
    failed: AtomicU64,
    line: Mutex<Line>,
    objects: Mutex<Vec<Weak<dyn Portion>>>,
}

/// How the other end answers.
#[derive(Clone, Debug, Default)]
struct Line {
    is_offline: bool,
    answered: Option<SystemTime>,
    /// Why the newest request got no answer.
    error: Option<String>,
    again: Option<SystemTime>,
}

/// Something of which a part is kept here.
pub trait Portion: Send + Sync {
    /// Bytes that are kept, about, and all of them.
    fn portion(&self) -> (u64, u64);
}

/// What there is to be told of the links of a mount. Times are seconds since 1970.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Traffic {
    pub state: State,
    /// When it answered last.
    pub answered: Option<i64>,
    /// Why the newest request got no answer, and when the next try is.
    pub error: Option<String>,
    pub again: Option<i64>,
    /// Requests for bytes, and bytes that came.
    pub requests: u64,
    pub bytes: u64,
    /// Requests that had to be made again.
    pub retries: u64,
    /// Reads that failed.
    pub failed: u64,
    /// Bytes on the disk of the objects that are open, about, and all of their bytes.
    pub kept: u64,
    pub total: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// The newest request was answered.
    #[default]
    Online,
    /// It was not.
    Unreachable,
    /// Nothing is asked.
    Offline,
}

impl Meter {
    pub fn asked(&self) {
        self.requests.fetch_add(1, Relaxed);
    }

    pub fn came(&self, bytes: usize) {
        self.bytes.fetch_add(bytes as u64, Relaxed);
    }

    /// A read failed.
    pub fn read_failed(&self) {
        self.failed.fetch_add(1, Relaxed);
    }

    /// A request failed, and is made again in a while.
    pub fn again(&self, error: &Error, wait: Duration) {
        self.retries.fetch_add(1, Relaxed);
        self.silent(error, Some(wait));
    }

    /// Nobody is asked.
    pub fn is_offline(&self) {
        lock(&self.line).is_offline = true;
    }

    /// A request was answered, whatever the answer was.
    pub fn answered(&self) {
        let mut line = lock(&self.line);
        (line.answered, line.error, line.again) = (Some(SystemTime::now()), None, None);
    }

    /// What came of a request: also that there is no such thing is an answer.
    pub fn note(&self, failed: Option<&Error>) {
        match failed.filter(|e| e.is_of_link()) {
            Some(e) => self.silent(e, None),
            None => self.answered(),
        }
    }

    fn silent(&self, error: &Error, wait: Option<Duration>) {
        let mut text = error.to_string();
        text.truncate(text.floor_char_boundary(LONGEST));
        let mut line = lock(&self.line);
        line.error = Some(text);
        line.again = wait.map(|wait| SystemTime::now() + wait);
    }

    /// Whether anything went over a link, or should have.
    pub fn is_used(&self) -> bool {
        let line = lock(&self.line);
        line.is_offline || line.answered.is_some() || line.error.is_some()
    }

    /// Takes note of an object that is open.
    pub fn enter(&self, object: Weak<dyn Portion>) {
        let mut objects = lock(&self.objects);
        if objects.len() == objects.capacity() {
            objects.retain(|object| object.strong_count() > 0);
        }
        objects.push(object);
    }

    pub fn traffic(&self) -> Traffic {
        let of = |number: &AtomicU64| number.load(Relaxed);
        let line = lock(&self.line).clone();
        let time = |time: Option<SystemTime>| Some(time?.duration_since(UNIX_EPOCH).ok()?.as_secs() as i64);
        let open: Vec<_> = lock(&self.objects).iter().filter_map(Weak::upgrade).collect();
        let parts = open.iter().map(|object| object.portion());
        let (kept, total) = parts.fold((0, 0), |sum, part| (sum.0 + part.0, sum.1 + part.1));
        Traffic {
            state: match (line.is_offline, &line.error) {
                (true, _) => State::Offline,
                (false, Some(_)) => State::Unreachable,
                (false, None) => State::Online,
            },
            answered: time(line.answered),
            error: line.error,
            again: time(line.again),
            requests: of(&self.requests),
            bytes: of(&self.bytes),
            retries: of(&self.retries),
            failed: of(&self.failed),
            kept,
            total,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;
    use std::sync::Arc;

    struct Half;

    impl Portion for Half {
        fn portion(&self) -> (u64, u64) {
            (50, 100)
        }
    }

    #[test]
    fn it_is_online_when_the_newest_request_was_answered() {
        let meter = Meter::default();
        assert_eq!(meter.traffic(), Traffic::default());
        meter.again(&Error::new(Kind::TimedOut, "ü".repeat(300)), Duration::from_secs(5));
        let traffic = meter.traffic();
        assert_eq!((traffic.state, traffic.retries), (State::Unreachable, 1));
        assert!(traffic.again.is_some() && traffic.error.unwrap().len() <= LONGEST);
        // That there is no such file is an answer.
        meter.note(Some(&Error::new(Kind::NotFound, "it is gone")));
        let traffic = meter.traffic();
        assert_eq!((traffic.state, &traffic.error, traffic.again), (State::Online, &None, None));
        assert!(traffic.answered.is_some());
        meter.is_offline();
        assert_eq!(meter.traffic().state, State::Offline);
    }

    #[test]
    fn only_objects_that_are_open_count() {
        let meter = Meter::default();
        let open: Arc<dyn Portion> = Arc::new(Half);
        meter.enter(Arc::downgrade(&open));
        for _ in 0..100 {
            let closed: Arc<dyn Portion> = Arc::new(Half);
            meter.enter(Arc::downgrade(&closed));
        }
        assert_eq!((meter.traffic().kept, meter.traffic().total), (50, 100));
        assert!(lock(&meter.objects).len() < 100);
    }
}
