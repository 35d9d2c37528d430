//! WinZip's encryption: AES as a key stream, so that any part can be read by itself, and a check over all of what is
//! encrypted (HMAC-SHA-1, of which ten bytes are kept).
//!
//! ```text
//!   salt 8, 12, 16 │ verifier 2 │ data ─ ─ │ check 10
//!   PBKDF2-HMAC-SHA-1(password, salt, 1000) = key of the cipher ‖ key of the check ‖ verifier
//! ```

use crate::error::{Error, Kind, Result};
use crate::key::Secret;
use crate::source::{ReadAt, Span};
use crate::source::{Sum, Summed};
use aes::cipher::{BlockCipherEncrypt, KeyInit};
use aes::{Aes128, Aes192, Aes256, Block};
use hmac::{Hmac, Mac};
use sha1::Sha1;
use std::ops::Range;
use std::sync::Arc;
use zeroize::Zeroizing;

const ROUNDS: u32 = 1000;
const VERIFIER: usize = 2;
const CHECK: usize = 10;
const BLOCK: usize = 16;

/// Blocks of the key stream that are made at once.
const BATCH: usize = 32;

/// How long keys are: 1, 2, 3 as in the archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Strength(u8);

impl Strength {
    pub fn new(number: u8) -> Option<Self> {
        (1..=3).contains(&number).then_some(Self(number))
    }

    pub fn bits(self) -> u32 {
        64 + 64 * u32::from(self.0)
    }

    fn salt(self) -> usize {
        4 + 4 * usize::from(self.0)
    }

    fn key(self) -> usize {
        8 + 8 * usize::from(self.0)
    }
}

/// What stands in front of the data and behind them.
pub struct Sealed {
    strength: Strength,
    packed: Arc<dyn ReadAt>,
    salt: Vec<u8>,
    verifier: [u8; VERIFIER],
    check: [u8; CHECK],
    data: Range<u64>,
}

impl Sealed {
    /// Of an entry with its packed bytes.
    pub fn read(packed: Arc<dyn ReadAt>, strength: Strength) -> Result<Self> {
        let (mut salt, mut verifier, mut check) = (vec![0; strength.salt()], [0; VERIFIER], [0; CHECK]);
        let start = (salt.len() + VERIFIER) as u64;
        let end = packed.len()?.checked_sub(CHECK as u64).filter(|end| *end >= start);
        let end = end.ok_or_else(|| Error::new(Kind::Damaged, "it is too short to be encrypted"))?;
        packed.read_exact_at(0, &mut salt)?;
        packed.read_exact_at(salt.len() as u64, &mut verifier)?;
        packed.read_exact_at(end, &mut check)?;
        Ok(Self { strength, packed, salt, verifier, check, data: start..end })
    }

    /// The data, if the password can be right: of 65536 wrong ones, one seems so.
    pub fn unlock(&self, secret: &Secret) -> Option<Aes> {
        let key_len = self.strength.key();
        let mut keys = Zeroizing::new(vec![0; 2 * key_len + VERIFIER]);
        pbkdf2::pbkdf2_hmac::<Sha1>(secret.expose(), &self.salt, ROUNDS, &mut keys);
        let (cipher, rest) = keys.split_at(key_len);
        let (mac, verifier) = rest.split_at(key_len);
        if verifier != self.verifier {
            return None;
        }
        let sum = HmacSum { hmac: hmac(mac)?, wanted: self.check };
        let data = Arc::new(Span::new(self.packed.clone(), self.data.clone()));
        let sealed = Arc::new(Summed::new(data, self.data.end - self.data.start, Box::new(sum)));
        Some(Aes { sealed, cipher: Cipher::new(cipher)? })
    }
}

struct HmacSum {
    hmac: Hmac<Sha1>,
    wanted: [u8; CHECK],
}

fn hmac(key: &[u8]) -> Option<Hmac<Sha1>> {
    Hmac::new_from_slice(key).ok()
}

impl Sum for HmacSum {
    fn update(&mut self, bytes: &[u8]) {
        self.hmac.update(bytes);
    }

    fn is_right(&self) -> bool {
        self.hmac.clone().verify_truncated_left(&self.wanted).is_ok()
    }
}

enum Cipher {
    Aes128(Aes128),
    Aes192(Aes192),
    Aes256(Aes256),
}

impl Cipher {
    fn new(key: &[u8]) -> Option<Self> {
        Some(match key.len() {
            16 => Self::Aes128(Aes128::new_from_slice(key).ok()?),
            24 => Self::Aes192(Aes192::new_from_slice(key).ok()?),
            _ => Self::Aes256(Aes256::new_from_slice(key).ok()?),
        })
    }

    fn encrypt(&self, blocks: &mut [Block]) {
        match self {
            Self::Aes128(aes) => aes.encrypt_blocks(blocks),
            Self::Aes192(aes) => aes.encrypt_blocks(blocks),
            Self::Aes256(aes) => aes.encrypt_blocks(blocks),
        }
    }
}

/// The data of an entry, decrypted.
pub struct Aes {
    sealed: Arc<Summed>,
    cipher: Cipher,
}

impl Aes {
    /// What checks that nobody has changed the data.
    pub fn check(&self) -> Arc<Summed> {
        self.sealed.clone()
    }

    /// The key stream from a block on, over some bytes that begin there.
    fn apply(&self, first: u64, bytes: &mut [u8]) {
        let mut blocks = [Block::default(); BATCH];
        let mut number = first;
        for batch in bytes.chunks_mut(BATCH * BLOCK) {
            let blocks = &mut blocks[..batch.len().div_ceil(BLOCK)];
            for block in &mut *blocks {
                // The first block has the number 1.
                number = number.wrapping_add(1);
                block.fill(0);
                block[..8].copy_from_slice(&number.to_le_bytes());
            }
            self.cipher.encrypt(blocks);
            batch.iter_mut().zip(blocks.iter().flatten()).for_each(|(byte, key)| *byte ^= key);
        }
    }
}

impl ReadAt for Aes {
    fn len(&self) -> Result<u64> {
        self.sealed.len()
    }

    fn read_at(&self, at: u64, into: &mut [u8]) -> Result<usize> {
        let got = self.sealed.read_at(at, into)?;
        let into = &mut into[..got];
        let within = (at % BLOCK as u64) as usize;
        let (head, rest) = into.split_at_mut(((BLOCK - within) % BLOCK).min(got));
        if !head.is_empty() {
            let mut block = [0; BLOCK];
            block[within..within + head.len()].copy_from_slice(head);
            self.apply(at / BLOCK as u64, &mut block);
            head.copy_from_slice(&block[within..within + head.len()]);
        }
        self.apply(at.div_ceil(BLOCK as u64), rest);
        Ok(got)
    }

    fn will_read(&self, range: Range<u64>) {
        self.sealed.will_read(range);
    }

    fn is_changed(&self) -> bool {
        self.sealed.is_changed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Memory;

    /// An entry as WinZip would make it, with the password "secret".
    fn sealed(plain: &[u8], strength: u8) -> (Vec<u8>, Strength) {
        let strength = Strength::new(strength).unwrap();
        let salt: Vec<u8> = (0..strength.salt() as u8).collect();
        let mut keys = vec![0; 2 * strength.key() + VERIFIER];
        pbkdf2::pbkdf2_hmac::<Sha1>(b"secret", &salt, ROUNDS, &mut keys);
        let nothing = Arc::new(Memory::default());
        let hmac = hmac(&keys[strength.key()..2 * strength.key()]).unwrap();
        let sum = HmacSum { hmac: hmac.clone(), wanted: [0; CHECK] };
        let cipher = Cipher::new(&keys[..strength.key()]).unwrap();
        let aes = Aes { sealed: Arc::new(Summed::new(nothing, 0, Box::new(sum))), cipher };
        let mut data = plain.to_vec();
        aes.apply(0, &mut data);
        let check = hmac.chain_update(&data).finalize().into_bytes();
        ([&salt, &keys[2 * strength.key()..], &data, &check[..CHECK]].concat(), strength)
    }

    fn unlock(bytes: Vec<u8>, strength: Strength, password: &[u8]) -> Option<Aes> {
        let secret = Secret::new(password.to_vec());
        Sealed::read(Arc::new(Memory::new(bytes)), strength).unwrap().unlock(&secret)
    }

    #[test]
    fn every_part_can_be_read_by_itself() {
        let plain: Vec<u8> = (0..5000u32).map(|n| ((n * n) >> 3) as u8).collect();
        for number in 1..=3 {
            let (bytes, strength) = sealed(&plain, number);
            let aes = unlock(bytes, strength, b"secret").unwrap();
            assert_eq!(aes.len().unwrap(), 5000);
            for (at, len) in [(0, 5000), (1, 1), (15, 2), (16, 16), (17, 900), (4990, 100), (5000, 1)] {
                let mut into = vec![0; len];
                let got = aes.read_at(at as u64, &mut into).unwrap();
                assert_eq!(into[..got], plain[at..(at + len).min(5000)]);
            }
        }
    }

    #[test]
    fn a_change_shows_when_all_was_read() {
        let (mut bytes, strength) = sealed(&[5; 1000], 3);
        bytes[500] ^= 1;
        let aes = unlock(bytes, strength, b"secret").unwrap();
        let mut into = [0; 600];
        assert!(aes.read_at(0, &mut into).is_ok());
        assert_eq!(aes.read_at(600, &mut into).unwrap_err().kind(), Kind::Damaged);
        assert_eq!(aes.check().check().unwrap_err().kind(), Kind::Damaged);
    }

    #[test]
    fn a_wrong_password_is_found_out_and_so_is_what_is_too_short() {
        let (bytes, strength) = sealed(&[5; 100], 1);
        assert!(unlock(bytes.clone(), strength, b"wrong").is_none());
        let cut = Arc::new(Memory::new(bytes[..strength.salt() + VERIFIER + CHECK - 1].to_vec()));
        assert_eq!(Sealed::read(cut, strength).err().unwrap().kind(), Kind::Damaged);
    }
}
