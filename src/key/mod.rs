//! Secrets, and whoever is asked for them; keys that sign.
//!
//! ```text
//!   passphrase ── kdf: Argon2id ──┐
//!   keyfile ──── keyfile: BLAKE3 ─┼─► wrap: a key for one slot ──► the Master of a container ──► a key for each purpose
//!   identity ─┬─ X25519 ──────────┘
//!   recipient ┘  what identity opens, recipient locks
//!
//!   sign: SigningKey ──► a signature ──► PublicKey          ssh: keys of OpenSSH, for identities and for signing
//! ```

pub mod guard;
mod identity;
mod kdf;
mod keyfile;
mod recipient;
pub mod sign;
mod ssh;
mod wrap;

pub use identity::{Identity, parse_identities};
pub use kdf::{Cost, WORK_LIMIT};
pub use keyfile::Keyfile;
pub use recipient::{Family, Recipient, recipients_of_file};
pub use wrap::{Kek, WRAPPED};

mod vault;

pub use vault::Vault;

use crate::error::{Error, Kind, Result};
use guard::Kept;
use zeroize::{Zeroize, Zeroizing};

/// A password. It is wiped when it is dropped, and is never shown: it has no `Debug` and no `Display`.
#[derive(Clone)]
pub struct Secret(Zeroizing<Vec<u8>>);

impl Secret {
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The bytes, for who makes a key of them.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

/// Who knows passwords: a file of them, a command, a person at a terminal.
pub trait Keys: Send + Sync {
    /// The password to try next for the thing of this name, after so many that were wrong. `None` when there is no
    /// further one.
    fn next(&self, what: &str, wrong: usize) -> Option<Secret>;

    /// The keyfiles that were given. Each is tried.
    fn keyfiles(&self) -> &[Keyfile] {
        &[]
    }

    /// The identities that were given. Each is tried, before anything else.
    fn identities(&self) -> &[Identity] {
        &[]
    }
}

/// Nobody knows any.
pub struct NoKeys;

impl Keys for NoKeys {
    fn next(&self, _what: &str, _wrong: usize) -> Option<Secret> {
        None
    }
}

/// One password, for all that asks.
pub struct OneKey(pub Secret);

impl Keys for OneKey {
    fn next(&self, _what: &str, wrong: usize) -> Option<Secret> {
        (wrong == 0).then(|| self.0.clone())
    }
}

/// Identities, and no password.
pub struct Identities(pub Vec<Identity>);

impl Keys for Identities {
    fn next(&self, _what: &str, _wrong: usize) -> Option<Secret> {
        None
    }

    fn identities(&self) -> &[Identity] {
        &self.0
    }
}

/// Tries one password after the other until one fits, and returns what `fits` made of it.
///
/// # Errors
/// `NeedsPassword` when there is none, `WrongPassword` when none fits.
pub fn fitting<T>(keys: &dyn Keys, what: &str, mut fits: impl FnMut(&Secret) -> Result<Option<T>>) -> Result<T> {
    let mut wrong = 0;
    while let Some(key) = keys.next(what, wrong) {
        if let Some(made) = fits(&key)? {
            return Ok(made);
        }
        wrong += 1;
    }
    Err(match wrong {
        0 => Error::new(Kind::NeedsPassword, "it is encrypted, and no password was given")
            .hint("--password-file FILE, or a terminal on which it can be asked for"),
        1 => Error::new(Kind::WrongPassword, "the password is wrong"),
        n => Error::new(Kind::WrongPassword, format!("none of {n} passwords is right")),
    })
}

/// Bytes that nobody can guess: salts, and what ciphers begin with.
pub fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    fill_random(&mut bytes)?;
    Ok(bytes)
}

/// Fills a buffer with bytes that nobody can guess.
pub fn fill_random(mut into: &mut [u8]) -> Result<()> {
    while !into.is_empty() {
        match rustix::rand::getrandom(&mut *into, rustix::rand::GetRandomFlags::empty()) {
            Ok(got) => into = &mut into[got..],
            Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(Error::io(e.into(), "the system gives no random numbers")),
        }
    }
    Ok(())
}

/// The key of a container, from which all its other keys come. It is drawn once, at random, stays in memory, and is wiped
/// when it is dropped.
#[derive(Clone)]
pub struct Master(Kept);

impl Master {
    pub fn new(bytes: Zeroizing<[u8; 32]>) -> Self {
        Self(Kept::new(&bytes))
    }

    pub fn random() -> Result<Self> {
        let mut bytes = Zeroizing::new([0; 32]);
        fill_random(&mut *bytes)?;
        Ok(Self::new(bytes))
    }

    /// The bytes, for who locks them in a slot.
    pub fn expose(&self) -> &[u8; 32] {
        self.0.expose()
    }

    /// A key for one purpose in one container: of two purposes, or two containers with the same master key, none tells
    /// anything of the other. `BLAKE3 derive_key("stmount st v1 PURPOSE", master ‖ uid)`.
    pub fn derive(&self, purpose: &str, uid: &[u8; 16]) -> Zeroizing<[u8; 32]> {
        derive(&format!("stmount st v1 {purpose}"), &[self.expose(), uid])
    }
}

/// `BLAKE3 derive_key(context, parts, one behind the other)`.
fn derive(context: &str, parts: &[&[u8]]) -> Zeroizing<[u8; 32]> {
    let mut hasher = blake3::Hasher::new_derive_key(context);
    for part in parts {
        hasher.update(part);
    }
    let mut key = Zeroizing::new([0; 32]);
    hasher.finalize_xof().fill(&mut *key);
    hasher.zeroize();
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    struct List(&'static [&'static str]);

    impl Keys for List {
        fn next(&self, _what: &str, wrong: usize) -> Option<Secret> {
            self.0.get(wrong).map(|key| Secret::new(key.as_bytes().to_vec()))
        }
    }

    fn find(list: &'static [&'static str]) -> Result<usize> {
        fitting(&List(list), "a.zip", |key| Ok((key.expose() == b"right").then_some(key.expose().len())))
    }

    #[test]
    fn passwords_are_tried_in_turn() {
        assert_eq!(find(&["wrong", "right", "other"]).unwrap(), 5);
        assert_eq!(find(&[]).unwrap_err().kind(), Kind::NeedsPassword);
        assert_eq!(find(&["wrong", "worse"]).unwrap_err().kind(), Kind::WrongPassword);
    }
}
