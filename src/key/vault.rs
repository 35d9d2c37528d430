//! Master keys that were unlocked already: making a key of a passphrase takes a second, and one run of the program opens
//! a container more than once.

use super::Master;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Keeps master keys by the identity of their container, for as long as it lives.
#[derive(Default)]
pub struct Vault(Mutex<HashMap<[u8; 16], Master>>);

impl Vault {
    pub fn get(&self, uid: &[u8; 16]) -> Option<Master> {
        self.masters().get(uid).cloned()
    }

    pub fn keep(&self, uid: [u8; 16], master: &Master) {
        self.masters().insert(uid, master.clone());
    }

    fn masters(&self) -> MutexGuard<'_, HashMap<[u8; 16], Master>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
