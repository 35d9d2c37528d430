//! AES-256 in CBC mode, as 7z has it: any part can be decrypted by itself, with the block before it.
//!
//! The key is SHA-256 over 2ⁿ rounds of salt, password in UTF-16 and a counter. There is no check: a wrong password shows in
//! what it makes of the data.

use super::bytes::Bytes;
use crate::error::{Error, Kind, Result};
use crate::formats::{CIPHER_BLOCK as BLOCK, Chained};
use crate::key::Secret;
use aes::Aes256;
use aes::cipher::{BlockCipherDecrypt, KeyInit};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

/// Rounds are two to the power of this at most: a minute of work. 7-Zip itself makes 19.
const MOST_ROUNDS: u8 = 24;

/// The password itself is the key.
const NO_ROUNDS: u8 = 0x3f;

pub type Key = Zeroizing<[u8; 32]>;

/// How a stream is encrypted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lock {
    rounds: u8,
    salt: Vec<u8>,
    iv: [u8; BLOCK],
}

impl Lock {
    pub fn read(properties: &[u8]) -> Result<Self> {
        let mut bytes = Bytes(properties);
        let first = bytes.byte()?;
        let (rounds, mut iv) = (first & 0x3f, [0; BLOCK]);
        let second = if first & 0xc0 == 0 { 0 } else { bytes.byte()? };
        let salt = usize::from(first >> 7) + usize::from(second >> 4);
        let len = usize::from(first >> 6 & 1) + usize::from(second & 15);
        if rounds > MOST_ROUNDS && rounds != NO_ROUNDS {
            return Err(Error::new(Kind::Limit, format!("its key would take 2^{rounds} rounds to make")));
        }
        let salt = bytes.take(salt)?.to_vec();
        iv[..len].copy_from_slice(bytes.take(len)?);
        Ok(Self { rounds, salt, iv })
    }

    /// Whether the key of one password is the same for both.
    pub fn has_key_of(&self, other: &Self) -> bool {
        (self.rounds, &self.salt) == (other.rounds, &other.salt)
    }

    pub fn key(&self, secret: &Secret) -> Key {
        let password = utf16(secret);
        let mut key = Key::new([0; 32]);
        if self.rounds == NO_ROUNDS {
            let bytes = self.salt.iter().chain(password.iter());
            key.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
            return key;
        }
        let mut hasher = Sha256::new();
        let mut round = Zeroizing::new([&self.salt[..], &password[..], &[0; 8]].concat());
        let counter = round.len() - 8;
        for number in 0..1u64 << self.rounds {
            round[counter..].copy_from_slice(&number.to_le_bytes());
            hasher.update(&round[..]);
        }
        key.copy_from_slice(&hasher.finalize());
        key
    }
}

fn utf16(secret: &Secret) -> Zeroizing<Vec<u8>> {
    let text = String::from_utf8_lossy(secret.expose());
    let mut bytes = Zeroizing::new(Vec::with_capacity(2 * text.len()));
    text.encode_utf16().for_each(|unit| bytes.extend_from_slice(&unit.to_le_bytes()));
    drop(Zeroizing::new(text.into_owned()));
    bytes
}

/// The cipher of a stream.
pub struct Opened {
    cipher: Aes256,
    iv: [u8; BLOCK],
}

impl Opened {
    pub fn new(lock: &Lock, key: &Key) -> Self {
        let cipher = Aes256::new_from_slice(&key[..]).expect("the key has its length");
        Self { cipher, iv: lock.iv }
    }
}

impl Chained for Opened {
    fn undo(&self, before: Option<[u8; BLOCK]>, blocks: &mut [u8]) {
        let mut before = before.unwrap_or(self.iv);
        for chunk in blocks.chunks_exact_mut(BLOCK) {
            let packed: [u8; BLOCK] = (&*chunk).try_into().expect("a block");
            let mut plain = packed.into();
            self.cipher.decrypt_block(&mut plain);
            chunk.iter_mut().zip(plain).zip(before).for_each(|((to, plain), before)| *to = plain ^ before);
            before = packed;
        }
    }
}
