//! AES-256 in CBC mode, as 7z has it: any part can be decrypted by itself, with the block before it.
//!
//! The key is SHA-256 over 2ⁿ rounds of salt, password in UTF-16 and a counter. There is no check: a wrong password shows in
//! what it makes of the data.
//!
//! Whatever is new in an archive has the salt that others of it have, since each key takes a tenth of a second to make, and
//! begins with random bytes of its own.

use super::bytes::Bytes;
use crate::error::{Error, Kind, Result};
use crate::formats::{CIPHER_BLOCK as BLOCK, Chained};
use crate::key::{Secret, random};
use aes::Aes256;
use aes::cipher::{BlockCipherDecrypt, BlockCipherEncrypt, KeyInit};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

/// Rounds are two to the power of this at most: a minute of work. 7-Zip itself makes 19.
const MOST_ROUNDS: u8 = 24;

/// What is new gets so many, as 7-Zip makes them.
const ROUNDS: u8 = 19;

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

    /// A lock that no other archive has.
    pub fn new() -> Result<Self> {
        Ok(Self { rounds: ROUNDS, salt: random::<BLOCK>()?.to_vec(), iv: random()? })
    }

    /// One with the same key, for another stream.
    pub fn renewed(&self) -> Result<Self> {
        Ok(Self { iv: random()?, ..self.clone() })
    }

    /// Whether its key takes as long to make as that of a new one.
    pub fn is_strong(&self) -> bool {
        (ROUNDS..=MOST_ROUNDS).contains(&self.rounds)
    }

    /// What [`read`](Self::read) reads.
    pub fn properties(&self) -> Vec<u8> {
        let has_salt = !self.salt.is_empty();
        let lens = self.salt.len().saturating_sub(1) << 4 | (BLOCK - 1);
        let head = [self.rounds | u8::from(has_salt) << 7 | 1 << 6, lens as u8];
        [&head[..], &self.salt, &self.iv].concat()
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

/// Encrypts a stream, from its front.
pub struct Sealing {
    cipher: Aes256,
    before: [u8; BLOCK],
}

impl Sealing {
    pub fn new(lock: &Lock, key: &Key) -> Self {
        let Opened { cipher, iv } = Opened::new(lock, key);
        Self { cipher, before: iv }
    }

    /// The next blocks, all of them whole.
    pub fn seal(&mut self, blocks: &mut [u8]) {
        for chunk in blocks.chunks_exact_mut(BLOCK) {
            chunk.iter_mut().zip(self.before).for_each(|(byte, before)| *byte ^= before);
            let mut block: [u8; BLOCK] = (&*chunk).try_into().expect("a block");
            self.cipher.encrypt_block((&mut block).into());
            chunk.copy_from_slice(&block);
            self.before = block;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_can_be_opened_by_what_its_properties_say() {
        let secret = Secret::new(b"secret".to_vec());
        for lock in [Lock::new().unwrap(), Lock { rounds: 1, salt: Vec::new(), iv: [7; BLOCK] }.renewed().unwrap()] {
            let lock = Lock { rounds: 2, ..lock };
            let (known, key) = (Lock::read(&lock.properties()).unwrap(), lock.key(&secret));
            assert!(known == lock && known.key(&secret) == key);
            let plain: Vec<u8> = (0..80).collect();
            let (mut bytes, mut sealing) = (plain.clone(), Sealing::new(&lock, &key));
            let (front, rest) = bytes.split_at_mut(2 * BLOCK);
            sealing.seal(front);
            sealing.seal(rest);
            assert_ne!(bytes, plain);
            Opened::new(&known, &key).undo(None, &mut bytes);
            assert_eq!(bytes, plain);
        }
    }
}
