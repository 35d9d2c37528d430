//! Damage that is found while a container is read, and made good from its parity.
//!
//! ```text
//!   read ──► hash wrong ──► Mender ──► hash right ──► served, counted, and noted to be written where it belongs
//!                             ▲             └ wrong: the error of before, counted as lost
//!                             └ groups of parity, looked for when they are needed first
//! ```

use super::parity;
use crate::codec::id::Id;
use crate::formats::Health;
use crate::pool::lock;
use crate::source::ReadAt;
use crate::source::parity::Mender;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

/// Stretches that are remembered to be written. Of more, the next check finds them.
const NOTED: usize = 1 << 16;

/// Stretches that are told of one by one.
const TOLD: u64 = 10;

/// Makes damage of one container good, for all who read it.
#[derive(Default)]
pub struct Healing {
    /// The body of the newest group, 0 for none.
    newest: AtomicU64,
    mender: Mutex<Option<Arc<Mender>>>,
    noted: Mutex<BTreeMap<u64, Noted>>,
    healed: AtomicU64,
    lost: AtomicU64,
    all: AtomicBool,
}

/// A stretch that was made good in memory only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Noted {
    pub len: u64,
    pub hash: [u8; 32],
}

impl Healing {
    /// Where the newest parity is; a mender that is known already.
    pub fn found(&self, newest: u64, mender: Option<Arc<Mender>>) {
        self.newest.store(newest, Relaxed);
        *lock(&self.mender) = mender;
    }

    /// Where the body of the newest group is, 0 for none.
    pub fn newest(&self) -> u64 {
        self.newest.load(Relaxed)
    }

    /// What reads through the parity, if there is any.
    pub fn mender(&self, source: &Arc<dyn ReadAt>, uid: &[u8; 16]) -> Option<Arc<Mender>> {
        let mut mender = lock(&self.mender);
        let newest = self.newest();
        if mender.is_none() && newest != 0 {
            let groups = parity::groups(source, *uid, newest);
            *mender = Some(Arc::new(Mender::new(source.clone(), source.clone(), groups)));
        }
        mender.clone().filter(|mender| !mender.groups().is_empty())
    }

    /// Fills `into` with what was at an offset, if its parity can tell; false when it cannot.
    pub fn heal(
        &self,
        source: &Arc<dyn ReadAt>,
        uid: &[u8; 16],
        at: u64,
        into: &mut [u8],
        is_right: &dyn Fn(&[u8]) -> bool,
    ) -> bool {
        let mender = self.mender(source, uid);
        let healed = mender.is_some_and(|mender| mender.read_exact_at(at, into).is_ok() && is_right(into));
        if !healed {
            self.lost.fetch_add(1, Relaxed);
            return false;
        }
        let mut noted = lock(&self.noted);
        let is_new = !noted.contains_key(&at);
        if is_new && noted.len() < NOTED {
            noted.insert(at, Noted { len: into.len() as u64, hash: Id::of(into).0 });
        }
        drop(noted);
        if is_new {
            let before = self.healed.fetch_add(1, Relaxed);
            let what = format!("{} bytes at {at} are damaged; they were made good from parity", into.len());
            match before {
                0..TOLD => log::warn!("{what}"),
                TOLD => log::warn!("{what}; more such are only counted"),
                _ => log::debug!("{what}"),
            }
        }
        true
    }

    /// What is damaged in the file, by offset.
    pub fn noted(&self) -> BTreeMap<u64, Noted> {
        lock(&self.noted).clone()
    }

    /// Whether what begins at an offset was made good.
    pub fn is_noted(&self, at: u64) -> bool {
        lock(&self.noted).contains_key(&at)
    }

    /// It was written where it belongs.
    pub fn written(&self, at: u64) {
        lock(&self.noted).remove(&at);
    }

    /// Everything is to be written that is not as it was, also what nothing needs.
    pub fn repair_all(&self) {
        self.all.store(true, Relaxed);
    }

    /// Whether it is. Who asks takes it on: the next one is told no.
    pub fn take_repair_all(&self) -> bool {
        self.all.swap(false, Relaxed)
    }

    pub fn told(&self) -> Health {
        let waiting = lock(&self.noted).len() as u64;
        Health { healed: self.healed.load(Relaxed), lost: self.lost.load(Relaxed), waiting }
    }
}
