//! How data and headers are encrypted: AES in CBC mode, of which any part can be decrypted by itself, and before RAR 3 ciphers
//! that go on from byte to byte.

use crate::error::{Error, Kind, Result};
pub use crate::formats::CIPHER_BLOCK as BLOCK;
use crate::formats::{Chained, Reading};
use crate::key::{self, Secret};
use crate::pool::lock;
use rars::crypto::rar13::Rar13Cipher;
use rars::crypto::rar15::Rar15Cipher;
use rars::crypto::rar20::Rar20Cipher;
use rars::crypto::rar30::Rar30Cipher;
use rars::crypto::rar50::{Rar50Cipher, Rar50Keys};
use sha2::{Digest, Sha256};
use std::io::{self, Read};
use std::sync::Mutex;

/// Rounds are two to the power of this at most: a minute of work. RAR itself makes 15.
const MOST_ROUNDS: u8 = 24;

/// What a key is made from, beside the password.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lock {
    Rar13,
    Rar15,
    Rar20,
    Rar30(Option<[u8; 8]>),
    Rar50 {
        rounds: u8,
        salt: [u8; 16],
    },
    /// One that is not known, or whose key would take too long to make.
    Other,
}

/// How a member is encrypted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealed {
    pub lock: Lock,
    pub iv: [u8; BLOCK],
    /// By which a password is known to be right.
    pub check: Option<[u8; 8]>,
    /// The checksum depends on the key.
    pub is_tweaked: bool,
}

impl Sealed {
    /// One that says no more than how.
    pub fn old(lock: Lock) -> Self {
        Self { lock, iv: [0; BLOCK], check: None, is_tweaked: false }
    }
}

/// The check of a password with its own checksum behind it, if that is right. Some versions wrote zeros.
pub fn check_of(bytes: [u8; 12]) -> Option<[u8; 8]> {
    let check: [u8; 8] = *bytes.first_chunk()?;
    let is_whole = Sha256::digest(check)[..4] == bytes[8..];
    (is_whole && check != [0; 8]).then_some(check)
}

#[derive(Clone)]
pub enum Key {
    /// The password itself.
    Plain(Secret),
    Rar30(Box<Rar30Cipher>),
    Rar50(Rar50Keys),
}

impl Lock {
    pub fn rar50(rounds: u8, salt: [u8; 16]) -> Result<Self> {
        match rounds <= MOST_ROUNDS {
            true => Ok(Self::Rar50 { rounds, salt }),
            false => Err(Error::new(Kind::Limit, format!("its key would take 2^{rounds} rounds to make"))),
        }
    }

    pub fn is_random_access(&self) -> bool {
        matches!(self, Self::Rar30(_) | Self::Rar50 { .. } | Self::Other)
    }

    pub fn name(&self) -> &'static str {
        match self {
            Self::Rar13 | Self::Rar15 => "RAR 1.5",
            Self::Rar20 => "RAR 2.0",
            Self::Rar30(_) => "AES-128",
            Self::Rar50 { .. } => "AES-256",
            Self::Other => "unknown",
        }
    }

    fn key(&self, secret: &Secret) -> Result<Key> {
        let failed = |e: String| Error::new(Kind::UnknownCipher, e);
        // Newer versions take the password as UTF-16; what is no text is nothing that they could have been given.
        let text = || zeroize::Zeroizing::new(String::from_utf8_lossy(secret.expose()).into_owned());
        Ok(match *self {
            Self::Rar13 | Self::Rar15 | Self::Rar20 => Key::Plain(secret.clone()),
            Self::Rar30(salt) => {
                Key::Rar30(Rar30Cipher::new(text().as_bytes(), salt).map(Box::new).map_err(|e| failed(e.to_string()))?)
            }
            Self::Rar50 { rounds, salt } => {
                Key::Rar50(Rar50Keys::derive(text().as_bytes(), salt, rounds).map_err(|e| failed(e.to_string()))?)
            }
            Self::Other => return Err(failed("it is encrypted in a way that is not known here".into())),
        })
    }
}

impl Key {
    /// Decrypts whole blocks; `before` is the encrypted block in front of them, where they are not the first.
    pub fn decrypt(&self, iv: [u8; BLOCK], before: Option<[u8; BLOCK]>, bytes: &mut [u8]) {
        // Only whole blocks are handed over, so nothing can fail.
        match self {
            Self::Rar50(keys) => {
                let _ = Rar50Cipher::new(keys.key, before.unwrap_or(iv)).decrypt_in_place(bytes);
            }
            Self::Rar30(cipher) => {
                let mut cipher = cipher.clone();
                if let Some(mut before) = before {
                    let _ = cipher.decrypt_in_place(&mut before);
                }
                let _ = cipher.decrypt_in_place(bytes);
            }
            Self::Plain(_) => {}
        }
    }

    /// Whether it is certain, by its check, that it is right or wrong.
    pub fn fits(&self, sealed: &Sealed) -> Option<bool> {
        match (self, sealed.check) {
            (Self::Rar50(keys), Some(check)) => Some(keys.password_check == check),
            _ => None,
        }
    }
}

/// The passwords that were right, and the keys that were made: to make one takes a tenth of a second.
#[derive(Default)]
pub struct Keyring(Mutex<Ring>);

#[derive(Default)]
struct Ring {
    right: Option<Secret>,
    /// It opened the headers, so it is that of all members, unless they say something else.
    is_of_headers: bool,
    keys: Vec<(Secret, Lock, Key)>,
}

/// Keys that are remembered.
const KEYS: usize = 64;

impl Keyring {
    /// The key of a password.
    fn key(&self, secret: &Secret, wanted: &Lock) -> Result<Key> {
        let is_it = |(known, lock, _): &(Secret, Lock, Key)| lock == wanted && known.expose() == secret.expose();
        if let Some((.., key)) = lock(&self.0).keys.iter().find(|known| is_it(known)) {
            return Ok(key.clone());
        }
        let key = wanted.key(secret)?;
        let mut ring = lock(&self.0);
        ring.keys.truncate(KEYS - 1);
        ring.keys.insert(0, (secret.clone(), *wanted, key.clone()));
        Ok(key)
    }

    /// Opens something by the key of the first password that fits.
    pub fn fitting<T>(
        &self,
        reading: &Reading,
        name: &str,
        lock_of: &Lock,
        open: impl Fn(&Key) -> Result<Option<T>>,
    ) -> Result<T> {
        let right = lock(&self.0).right.clone();
        if let Some(secret) = right
            && let Some(opened) = open(&self.key(&secret, lock_of)?)?
        {
            return Ok(opened);
        }
        key::fitting(&*reading.keys, name, |secret| {
            let opened = open(&self.key(secret, lock_of)?)?;
            if opened.is_some() {
                lock(&self.0).right = Some(secret.clone());
            }
            Ok(opened)
        })
    }

    /// The key of the password that was right last.
    pub fn last(&self, lock_of: &Lock) -> Result<Option<Key>> {
        let right = lock(&self.0).right.clone();
        right.map(|secret| self.key(&secret, lock_of)).transpose()
    }

    pub fn opened_headers(&self) {
        lock(&self.0).is_of_headers = true;
    }

    pub fn is_of_headers(&self) -> bool {
        lock(&self.0).is_of_headers
    }
}

/// The cipher of data of which any part can be decrypted by itself.
pub struct Opened {
    pub key: Key,
    pub iv: [u8; BLOCK],
}

impl Chained for Opened {
    fn undo(&self, before: Option<[u8; BLOCK]>, blocks: &mut [u8]) {
        self.key.decrypt(self.iv, before, blocks);
    }
}

/// Data that are decrypted from their front.
pub struct Unlocked<R> {
    inner: R,
    cipher: Chain,
    /// Decrypted bytes of a block, of which the last ones are not taken yet.
    block: [u8; BLOCK],
    left: usize,
}

enum Chain {
    Rar13(Rar13Cipher),
    Rar15(Rar15Cipher),
    Rar20(Box<Rar20Cipher>),
}

impl<R: Read> Unlocked<R> {
    /// Nothing for ciphers that are not of this kind.
    pub fn new(inner: R, lock: &Lock, key: &Key) -> Result<Self> {
        let Key::Plain(secret) = key else { return Err(Error::new(Kind::UnknownCipher, "a key of another cipher")) };
        let cipher = match lock {
            Lock::Rar13 => Chain::Rar13(Rar13Cipher::new(secret.expose())),
            Lock::Rar15 => Chain::Rar15(Rar15Cipher::new(secret.expose())),
            _ => Chain::Rar20(Box::new(Rar20Cipher::new(secret.expose()))),
        };
        Ok(Self { inner, cipher, block: [0; BLOCK], left: 0 })
    }

    pub fn into_inner(self) -> R {
        self.inner
    }

    fn next_block(&mut self) -> io::Result<()> {
        let Chain::Rar20(cipher) = &mut self.cipher else { return Ok(()) };
        let mut got = 0;
        while got < BLOCK {
            match self.inner.read(&mut self.block[got..])? {
                0 => break,
                more => got += more,
            }
        }
        if got == BLOCK {
            self.left = BLOCK;
            let _ = cipher.decrypt_in_place(&mut self.block);
        }
        Ok(())
    }
}

impl<R: Read> Read for Unlocked<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match &mut self.cipher {
            Chain::Rar13(cipher) => {
                let got = self.inner.read(into)?;
                into[..got].iter_mut().for_each(|byte| *byte = cipher.decrypt_byte(*byte));
                Ok(got)
            }
            Chain::Rar15(cipher) => {
                let got = self.inner.read(into)?;
                cipher.crypt_in_place(&mut into[..got]);
                Ok(got)
            }
            Chain::Rar20(_) => {
                if self.left == 0 {
                    self.next_block()?;
                }
                let len = self.left.min(into.len());
                let start = BLOCK - self.left;
                into[..len].copy_from_slice(&self.block[start..start + len]);
                self.left -= len;
                Ok(len)
            }
        }
    }
}
