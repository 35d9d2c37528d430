//! The lease of a container on a server: `NAME.st.lease` beside it says who writes, and until when nobody else does.
//!
//! ```text
//!   there is none              it is made, by a request that fails where one is
//!   it has run out, or was     it is taken over, if it is still the same one
//!   left by a process of this
//!   machine that is no more
//!   somebody else's            `Locked`: who has it, and until when
//!
//!   made ──20 s── renewed ──20 s── renewed … removed        each time for a minute more
//! ```
//!
//! It keeps two from doing the same work, and nothing stands on it alone: clocks differ, and there are servers that cannot
//! refuse. What keeps the data is that a commit goes only over the very version that it was made of.

use super::process;
use super::there::There;
use crate::error::{Error, Kind, Result};
use crate::formats::folder;
use crate::key::{random, sign::hex};
use crate::pool::lock;
use crate::remote::Seen;
use crate::tree::Time;
use serde::{Deserialize, Serialize};
use std::fs;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// So long a lease lasts that nobody renews, in seconds; and how often it is renewed.
const LASTS: i64 = 60;
const RENEWED: Duration = Duration::from_secs(20);

/// So long after it was made it is looked whose it is.
const SETTLES: Duration = Duration::from_millis(100);

/// A lease is no longer than this.
const LEN: u64 = 16 << 10;

/// So often somebody else may be quicker.
const TRIES: u32 = 5;

/// What is behind the name of what it is for.
pub const ENDING: &str = ".lease";

/// Who writes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    /// Of this lease, and of no other.
    id: String,
    user: String,
    host: String,
    /// Of the running system.
    boot: String,
    pid: u32,
    /// When the process began, in clock ticks since the start of the machine.
    start: u64,
    /// Seconds since 1970, by the clock of who writes.
    since: i64,
    until: i64,
}

fn of_system(file: &str) -> String {
    fs::read_to_string(file).unwrap_or_default().trim().to_owned()
}

impl Record {
    fn new() -> Result<Self> {
        let (pid, uid, now) = (std::process::id(), rustix::process::geteuid().as_raw(), Time::now().secs);
        Ok(Self {
            id: hex(&random::<16>()?),
            user: folder::user_name(uid).unwrap_or_else(|| uid.to_string()),
            host: of_system("/proc/sys/kernel/hostname"),
            boot: of_system("/proc/sys/kernel/random/boot_id"),
            pid,
            start: process::start_time(pid).unwrap_or(0),
            since: now,
            until: now.saturating_add(LASTS),
        })
    }

    /// Whether nobody writes by it any more.
    fn is_over(&self, own: &Self) -> bool {
        let is_of_here = !self.boot.is_empty() && self.boot == own.boot;
        Time::now().secs > self.until || (is_of_here && !process::is_running(self.pid, self.start))
    }

    fn words(&self) -> String {
        let until = Time { secs: self.until, nanos: 0 }.date();
        let clean = |text: &str| text.chars().filter(|c| !c.is_control()).take(100).collect::<String>();
        let (user, host) = (clean(&self.user), clean(&self.host));
        format!("{user} writes to it on {host} (pid {}), and has it until {until} at least", self.pid)
    }

    fn json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a record is plain data")
    }
}

/// A lease that this process has; it is given back when it is dropped.
pub struct Lease {
    inner: Arc<Inner>,
    renewing: Option<JoinHandle<()>>,
}

struct Inner {
    place: There,
    id: String,
    state: Mutex<State>,
    wake: Condvar,
}

struct State {
    record: Record,
    /// What the server says of it.
    seen: Seen,
    /// Somebody else has it.
    lost: Option<String>,
    is_over: bool,
}

/// What is there of a lease.
enum Found {
    Nothing,
    Of(Record, Seen),
    /// No lease at all.
    Other,
}

fn found(place: &There) -> Result<Found> {
    let Some((seen, bytes)) = place.read(LEN)? else {
        return match place.is_there()? {
            true => Ok(Found::Other),
            false => Ok(Found::Nothing),
        };
    };
    Ok(match serde_json::from_slice(&bytes) {
        Ok(record) => Found::Of(record, seen),
        Err(_) => Found::Other,
    })
}

impl Lease {
    /// Takes the lease at a place.
    ///
    /// # Errors
    /// `Locked` when somebody else has it.
    pub fn take(place: There) -> Result<Self> {
        let own = Record::new()?;
        for _ in 0..TRIES {
            let taken = match place.make_small(&own.json()) {
                Ok(()) => Ok(()),
                Err(e) if e.kind() == Kind::Exists => match found(&place)? {
                    Found::Nothing => continue,
                    Found::Of(other, _) if other.id == own.id => Ok(()),
                    Found::Of(other, seen) if other.is_over(&own) => {
                        log::info!("{}: the lease of {} (pid {}) is taken over", place.shown(), other.host, other.pid);
                        place.replace_small(&own.json(), &seen)
                    }
                    Found::Of(other, _) => return Err(locked(&place, &other.words())),
                    Found::Other => return Err(unknown(&place)),
                },
                Err(e) => return Err(e),
            };
            match taken {
                Ok(()) => {}
                Err(e) if matches!(e.kind(), Kind::Changed | Kind::NotFound) => continue,
                Err(e) => return Err(e),
            }
            // A server that cannot refuse has taken what came last, a moment later.
            std::thread::sleep(SETTLES);
            match found(&place)? {
                Found::Of(record, seen) if record == own => return Ok(Self::kept(place, record, seen)),
                Found::Of(other, _) => return Err(locked(&place, &other.words())),
                Found::Nothing => {}
                Found::Other => return Err(unknown(&place)),
            }
        }
        Err(Error::new(Kind::Locked, format!("{}: others are quicker again and again", place.shown())))
    }

    fn kept(place: There, record: Record, seen: Seen) -> Self {
        let state = Mutex::new(State { record: record.clone(), seen, lost: None, is_over: false });
        let inner = Arc::new(Inner { place, id: record.id, state, wake: Condvar::new() });
        let own = inner.clone();
        // Without a thread it runs out, and what is written after that is looked at all the more.
        let renewing = std::thread::Builder::new().name("lease".into()).spawn(move || own.renew()).ok();
        Self { inner, renewing }
    }

    /// Who has the lease at a place, in words; nothing when nobody has.
    ///
    /// # Errors
    /// Those of the link.
    pub fn holder(place: &There) -> Result<Option<String>> {
        match found(place)? {
            Found::Of(record, _) => Ok((!record.is_over(&Record::new()?)).then(|| record.words())),
            Found::Nothing => Ok(None),
            Found::Other => Ok(Some("who that is cannot be read".to_owned())),
        }
    }

    /// Whether it is still ours, as the server says just now.
    ///
    /// # Errors
    /// `Locked` when somebody else has it; those of the link.
    pub fn check(&self) -> Result<()> {
        let place = &self.inner.place;
        if let Some(words) = &lock(&self.inner.state).lost {
            return Err(locked(place, words));
        }
        match found(place)? {
            Found::Of(record, _) if record.id == self.inner.id => Ok(()),
            Found::Of(other, _) => Err(locked(place, &other.words())),
            Found::Nothing | Found::Other => {
                Err(Error::new(Kind::Locked, format!("{}: somebody has taken the lease away", place.shown())))
            }
        }
    }
}

fn locked(place: &There, words: &str) -> Error {
    let hint = format!("later; or, when nobody does any more, remove {}", place.shown());
    let file = place.shown().trim_end_matches(ENDING);
    Error::new(Kind::Locked, format!("{file}: {words}")).hint(hint)
}

fn unknown(place: &There) -> Error {
    let what = format!("{}: it should say who writes, and cannot be read", place.shown());
    Error::new(Kind::Locked, what).hint("remove it, when nobody writes")
}

impl Inner {
    /// Renews it from time to time until it is over.
    fn renew(&self) {
        let mut state = lock(&self.state);
        loop {
            state = self.wake.wait_timeout(state, RENEWED).unwrap_or_else(PoisonError::into_inner).0;
            if state.is_over || state.lost.is_some() {
                return;
            }
            let (old, seen) = (state.record.clone(), state.seen.clone());
            drop(state);
            let renewed = self.renewed(&old, &seen);
            state = lock(&self.state);
            match renewed {
                Ok(Some((record, seen))) => (state.record, state.seen) = (record, seen),
                Ok(None) => {}
                Err(words) => {
                    log::warn!("{}: {words}", self.place.shown());
                    state.lost = Some(words);
                }
            }
        }
    }

    /// The lease as it is then, or nothing when the server could not be asked; who has it when somebody else has.
    fn renewed(&self, old: &Record, seen: &Seen) -> std::result::Result<Option<(Record, Seen)>, String> {
        let record = Record { until: Time::now().secs.saturating_add(LASTS), ..old.clone() };
        let done = self.place.replace_small(&record.json(), seen);
        match (found(&self.place), done) {
            (Ok(Found::Of(there, seen)), _) if there.id == self.id => Ok(Some((there, seen))),
            (Ok(Found::Of(other, _)), _) => Err(other.words()),
            (Ok(Found::Nothing | Found::Other), Err(e)) if e.kind() == Kind::Changed => {
                Err("somebody has taken the lease away".to_owned())
            }
            (found, done) => {
                let why = found.err().or(done.err()).map(|e| e.to_string()).unwrap_or_default();
                log::info!("{}: it is not renewed yet: {why}", self.place.shown());
                Ok(None)
            }
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        lock(&self.inner.state).is_over = true;
        self.inner.wake.notify_all();
        drop(self.renewing.take().map(JoinHandle::join));
        if lock(&self.inner.state).lost.is_some() {
            return;
        }
        let place = &self.inner.place;
        if matches!(found(place), Ok(Found::Of(record, _)) if record.id == self.inner.id)
            && let Err(e) = place.remove()
        {
            log::info!("{}: it is left there, and runs out in a minute: {e}", place.shown());
        }
    }
}
