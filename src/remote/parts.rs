//! What a file is called on a server before all of it is there.

use crate::error::Result;
use crate::key::random;
use std::sync::OnceLock;

/// By which parts are called.
static OWN: OnceLock<[u8; 32]> = OnceLock::new();

/// From now on parts are called by this secret, for who has one that outlasts the process.
pub fn call_parts_by(own: [u8; 32]) {
    let _ = OWN.set(own);
}

/// A number for what is sent of a file before it has its name. The next attempt takes the same: what is left of one that was
/// broken off, and could not be taken away, becomes the file then.
pub fn part_of(path: &str) -> Result<u64> {
    let own = match OWN.get() {
        Some(own) => own,
        None => {
            let fresh = random()?;
            OWN.get_or_init(|| fresh)
        }
    };
    let hash = blake3::keyed_hash(own, path.as_bytes());
    Ok(hash.as_bytes().iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte)))
}
