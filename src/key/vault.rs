//! Master keys that were unlocked already: making a key of a passphrase takes a second, and one run of the program opens
//! a container more than once.

use super::Master;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Keeps master keys by the identity of their container, for as long as it lives.
#[derive(Default)]
pub struct Vault(Mutex<HashMap<[u8; 16], Kept>>);

struct Kept {
    master: Master,
    /// The way by which it was found, as its container counts them.
    slot: Option<usize>,
}

impl Vault {
    pub fn get(&self, uid: &[u8; 16]) -> Option<Master> {
        self.masters().get(uid).map(|kept| kept.master.clone())
    }

    /// Which way opened the container.
    pub fn slot(&self, uid: &[u8; 16]) -> Option<usize> {
        self.masters().get(uid)?.slot
    }

    pub fn keep(&self, uid: [u8; 16], master: &Master, slot: Option<usize>) {
        self.masters().insert(uid, Kept { master: master.clone(), slot });
    }

    fn masters(&self) -> MutexGuard<'_, HashMap<[u8; 16], Kept>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
