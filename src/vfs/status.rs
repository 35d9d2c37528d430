//! What a mount tells of itself: what waits for a commit, what its cache does, what went wrong lately.

use super::scrub::Scrubbing;
use crate::cache::Cache;
use crate::error::Error;
use crate::formats::{Health, Outgoing};
use crate::pool::lock;
use crate::source::Traffic;
use crate::tree::Time;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::sync::Mutex;

/// So many failures are remembered.
const FAILURES: usize = 8;
/// Longest text of one, in bytes: all of them together have to fit an extended attribute.
const LONGEST: usize = 512;

/// How a mount is doing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The number of the last commit; of a mount that takes changes.
    pub sequence: Option<u64>,
    /// Bytes in memory that are not stored yet, about.
    pub dirty_bytes: u64,
    /// Inodes and names that are not stored yet.
    pub pending: u64,
    /// For how many seconds the oldest of them has waited.
    pub waiting: f64,
    /// Why the last commit failed, if it did.
    pub last_error: Option<String>,
    /// The file that changes go to, when the container is not where it was opened any more.
    #[serde(default)]
    pub refuge: Option<String>,
    /// Changes that are durable beside the archive, and not in it yet; and bytes of contents among them.
    #[serde(default)]
    pub unsettled: u64,
    #[serde(default)]
    pub unsettled_bytes: u64,
    /// How far they have come on their way into the archive, in bytes, and of how many.
    #[serde(default)]
    pub settling: Option<(u64, u64)>,
    /// What is on its way to a server, where the changes go to one.
    #[serde(default)]
    pub outgoing: Option<Outgoing>,
    /// What goes over links, where it is read over one.
    #[serde(default)]
    pub link: Option<Traffic>,
    /// Earlier states that are open just now.
    pub states_open: usize,
    pub cache: CacheUse,
    /// Damage that was met, of a container.
    #[serde(default)]
    pub health: Option<Health>,
    /// The look for damage in the background, where there is one.
    #[serde(default)]
    pub scrubbing: Option<Scrubbing>,
    /// The newest failures, newest first.
    pub errors: Vec<Failure>,
}

/// What a cache holds, and how often it had what was asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheUse {
    pub hits: u64,
    pub misses: u64,
    pub bytes: u64,
    pub budget: u64,
}

impl CacheUse {
    pub fn of(cache: &Cache) -> Self {
        let (asked, misses) = cache.asked_and_loaded();
        Self { hits: asked.saturating_sub(misses), misses, bytes: cache.used(), budget: cache.budget() }
    }
}

/// Something that went wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// When it happened last, in seconds since 1970.
    pub time: i64,
    /// How often.
    pub times: u64,
    /// The file, unless it was a commit, which is of all of them.
    pub file: Option<String>,
    pub what: String,
}

/// The failures of one mount. The same one counts once, however often it happens: a program that meets a damaged place
/// tries again.
#[derive(Default)]
pub struct Failures {
    newest: Mutex<VecDeque<Failure>>,
}

impl Failures {
    pub fn note(&self, file: Option<&str>, e: &Error) {
        let (file, what) = (file.map(shortened), shortened(&e.to_string()));
        let mut newest = lock(&self.newest);
        let known = newest.iter().position(|known| known.file == file && known.what == what);
        let times = known.and_then(|at| newest.remove(at)).map_or(1, |known| known.times.saturating_add(1));
        newest.push_front(Failure { time: Time::now().secs, times, file, what });
        newest.truncate(FAILURES);
    }

    pub fn list(&self) -> Vec<Failure> {
        lock(&self.newest).iter().cloned().collect()
    }
}

/// A text, without its middle if it is long.
fn shortened(text: &str) -> String {
    if text.len() <= LONGEST {
        return text.to_owned();
    }
    let (head, tail) = (&text.as_bytes()[..LONGEST / 2], &text.as_bytes()[text.len() - LONGEST / 2..]);
    format!("{}…{}", String::from_utf8_lossy(head), String::from_utf8_lossy(tail))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    #[test]
    fn the_newest_failures_are_kept_and_the_same_one_counts() {
        let failures = Failures::default();
        for number in 0..20 {
            failures.note(Some(&format!("file {number}")), &Error::new(Kind::Damaged, "damaged"));
        }
        failures.note(Some("file 15"), &Error::new(Kind::Damaged, "damaged"));
        failures.note(None, &Error::new(Kind::NoSpace, "full"));
        let list = failures.list();
        assert_eq!(list.len(), FAILURES);
        assert_eq!((list[0].file.as_deref(), list[0].what.as_str(), list[0].times), (None, "full", 1));
        assert_eq!((list[1].file.as_deref(), list[1].times), (Some("file 15"), 2));
        assert_eq!((list[2].file.as_deref(), list[2].times), (Some("file 19"), 1));
    }

    #[test]
    fn whatever_fails_fits_an_attribute() {
        let failures = Failures::default();
        for number in 0..FAILURES {
            let file = format!("{number}{}", "\u{1}".repeat(9000));
            failures.note(Some(&file), &Error::new(Kind::Io, "ü".repeat(5000)));
        }
        assert_eq!(failures.list().len(), FAILURES);
        assert!(serde_json::to_vec(&failures.list()).unwrap().len() < 60 << 10);
    }
}
