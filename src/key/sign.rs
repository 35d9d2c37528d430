//! Signatures: Ed25519, and how its keys are written.
//!
//! ```text
//!  stpub1…                                  a public key: bech32 of its 32 bytes
//!  STMOUNT-SIGNING-KEY-1…                   a secret key: bech32 of its 32 bytes, in capitals
//!  ssh-ed25519 AAAA… comment                a public key as ssh writes it
//!  -----BEGIN OPENSSH PRIVATE KEY-----      a secret key of ssh, when it has no passphrase
//! ```
//!
//! A file with a secret key of ours:
//!
//! ```text
//!  # created: 2026-11-23 08:20:08
//!  # public key: stpub1…
//!  STMOUNT-SIGNING-KEY-1…
//! ```

use super::{fill_random, ssh};
use crate::error::{Error, Kind, Result};
use bech32::primitives::decode::CheckedHrpstring;
use bech32::{Bech32, Hrp};
use ed25519_dalek::{Signer as _, VerifyingKey};
use sha2::{Digest, Sha256};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use zeroize::Zeroizing;

const PUBLIC: &str = "stpub";
const SECRET: &str = "stmount-signing-key-";

/// The purpose of a signature of a commit in a `.st` container, for [`message`].
pub const ST_COMMIT: &str = "stmount st v1 sign";

/// A signature, as it is stored.
pub type Signature = [u8; 64];

/// The bytes to be signed for one purpose: `BLAKE3 derive_key(context, parts one after the other)`.
///
/// A signature for one context says nothing in another one. The parts are not told from each other: all but the last must
/// have a fixed length.
pub fn message(context: &str, parts: &[&[u8]]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new_derive_key(context);
    for part in parts {
        hasher.update(part);
    }
    hasher.finalize().into()
}

/// A key that signs. It is wiped when it is dropped, and is never shown: it has no `Debug` and no `Display`.
pub struct SigningKey(ed25519_dalek::SigningKey);

impl SigningKey {
    pub fn generate() -> Result<Self> {
        let mut seed = Zeroizing::new([0; 32]);
        fill_random(&mut *seed)?;
        Ok(Self::from_seed(&seed))
    }

    /// From the 32 bytes that RFC 8032 calls the private key.
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self(ed25519_dalek::SigningKey::from_bytes(seed))
    }

    pub fn public(&self) -> PublicKey {
        PublicKey(self.0.verifying_key().to_bytes())
    }

    /// Signs; what is signed is a [`message`] for one purpose.
    pub fn sign(&self, message: &[u8]) -> Signature {
        self.0.sign(message).to_bytes()
    }

    /// Reads what a file with a secret key holds: one of ours, or one of ssh.
    ///
    /// # Errors
    /// `Invalid` when it is neither; `Usage` for a key of ssh that is damaged, `Unsupported` for one that has a passphrase
    /// or is of another kind.
    pub fn parse(text: &str) -> Result<Self> {
        if ssh::is_private(text) {
            return Self::of_ssh(text);
        }
        let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        let wrong = || Error::new(Kind::Invalid, "there is no secret key in it").hint("stmount keygen makes one");
        match (lines.next(), lines.next()) {
            (Some(line), None) => decode(SECRET, line).map(|seed| Self::from_seed(&seed)).ok_or_else(wrong),
            _ => Err(wrong()),
        }
    }

    fn of_ssh(text: &str) -> Result<Self> {
        let (seed, public) = ssh::private_key(text)?;
        let key = Self::from_seed(&seed);
        match key.public().as_bytes() == &public {
            true => Ok(key),
            false => Err(Error::new(Kind::Usage, "the ssh key is damaged: its halves do not belong together")),
        }
    }

    /// What a file with this key holds; `date` says when it was made.
    pub fn to_file(&self, date: &str) -> Zeroizing<String> {
        let head = format!("# created: {date}\n# public key: {}\n", self.public());
        let mut file = growing(head.len() + TEXT);
        file.push_str(&head);
        let hrp = Hrp::parse(SECRET).expect("it is a valid prefix");
        bech32::encode_upper_to_fmt::<Bech32, _>(&mut *file, hrp, self.0.as_bytes())
            .expect("32 bytes are not too long");
        file.push('\n');
        file
    }
}

/// What signs, or nothing. It is shown by its public half alone.
#[derive(Clone, Default)]
pub struct Signing(Option<Arc<SigningKey>>);

impl Signing {
    pub fn by(key: SigningKey) -> Self {
        Self(Some(Arc::new(key)))
    }

    pub fn key(&self) -> Option<&SigningKey> {
        self.0.as_deref()
    }

    pub fn public(&self) -> Option<PublicKey> {
        self.0.as_ref().map(|key| key.public())
    }
}

impl fmt::Debug for Signing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Signing").field(&self.public()).finish()
    }
}

/// A key as text is no longer than this.
const TEXT: usize = 128;

/// An empty text that has room from the beginning: one that grows leaves copies of what was in it behind.
fn growing(len: usize) -> Zeroizing<String> {
    Zeroizing::new(String::with_capacity(len))
}

/// A key that verifies. It is one that a signature can be valid under: a point of the curve, in the one right encoding,
/// not of small order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey([u8; 32]);

impl PublicKey {
    /// # Errors
    /// `Invalid` when these bytes are no such key.
    pub fn from_bytes(bytes: &[u8; 32]) -> Result<Self> {
        let wrong = || Error::new(Kind::Invalid, "it is no Ed25519 key");
        let key = VerifyingKey::from_bytes(bytes).map_err(|_| wrong())?;
        let is_canonical = key.to_edwards().compress().as_bytes() == bytes;
        if is_canonical && !key.is_weak() { Ok(Self(*bytes)) } else { Err(wrong()) }
    }

    /// The line of a public key of ssh.
    fn of_ssh(line: &str) -> Result<Self> {
        let mut words = line.split_whitespace();
        let key = words.next().filter(|kind| *kind == ssh::KIND).and_then(|_| words.next()).and_then(ssh::public_key);
        let wrong = || Error::new(Kind::Invalid, "it is no whole public key of ssh");
        Self::from_bytes(&key.ok_or_else(|| wrong().hint("the whole line that ssh-keygen wrote"))?)
    }

    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Whether it is a signature of this key, and the only form that it can have.
    pub fn verify(&self, message: &[u8], signature: &Signature) -> bool {
        let signature = ed25519_dalek::Signature::from_bytes(signature);
        VerifyingKey::from_bytes(&self.0).is_ok_and(|key| key.verify_strict(message, &signature).is_ok())
    }

    /// A short name: the first 10 bytes of its SHA-256, in hexadecimal. To look a key up by, not to trust it by.
    pub fn fingerprint(&self) -> String {
        hex(&Sha256::digest(self.0)[..10])
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hrp = Hrp::parse(PUBLIC).expect("it is a valid prefix");
        bech32::encode_lower_to_fmt::<Bech32, _>(f, hrp, &self.0).map_err(|_| fmt::Error)
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for PublicKey {
    type Err = Error;

    /// `stpub1…`, or the line of a public key of ssh.
    fn from_str(text: &str) -> Result<Self> {
        let text = text.trim();
        if text.starts_with(ssh::KIND) {
            return Self::of_ssh(text);
        }
        let wrong = || {
            Error::new(Kind::Invalid, "it is no public key")
                .hint("stpub1…, as stmount keygen prints it, or ssh-ed25519 AAAA…")
        };
        Self::from_bytes(&*decode(PUBLIC, text).ok_or_else(wrong)?)
    }
}

/// The 32 bytes of a key in bech32, in the one form that they are written in.
fn decode(prefix: &str, text: &str) -> Option<Zeroizing<[u8; 32]>> {
    let checked = CheckedHrpstring::new::<Bech32>(text).ok()?;
    let (hrp, mut bytes) = (checked.hrp(), checked.byte_iter());
    if !hrp.as_str().eq_ignore_ascii_case(prefix) || bytes.len() != 32 {
        return None;
    }
    let mut key = Zeroizing::new([0; 32]);
    key.iter_mut().for_each(|into| *into = bytes.next().unwrap_or_default());
    // Bits of the last letter that belong to no byte are zero.
    let mut again = growing(TEXT);
    bech32::encode_lower_to_fmt::<Bech32, _>(&mut *again, hrp, &*key).ok()?;
    again.eq_ignore_ascii_case(text).then_some(key)
}

/// Bytes in hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// As many bytes as there are, from hexadecimal.
pub fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    if text.len() != 2 * N || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * at..2 * at + 2], 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 8032, 7.1: secret key, public key, message, signature.
    const RFC: &[(&str, &str, &str, &str)] = &[
        (
            "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
            "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
            "",
            "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595b\
             be24655141438e7a100b",
        ),
        (
            "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
            "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
            "72",
            "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb430\
             2aeeb00d291612bb0c00",
        ),
        (
            "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
            "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
            "af82",
            "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716e\
             d28dc027beceea1ec40a",
        ),
    ];

    fn bytes<const N: usize>(text: &str) -> [u8; N] {
        unhex(text).unwrap()
    }

    fn first() -> SigningKey {
        SigningKey::from_seed(&bytes(RFC[0].0))
    }

    #[test]
    fn signatures_are_those_of_rfc_8032() {
        for (secret, public, message, signature) in RFC {
            let key = SigningKey::from_seed(&bytes(secret));
            assert_eq!(hex(key.public().as_bytes()), *public);
            let message: Vec<u8> =
                message.as_bytes().chunks(2).map(|c| bytes::<1>(str::from_utf8(c).unwrap())[0]).collect();
            assert_eq!(hex(&key.sign(&message)), *signature);
            assert!(key.public().verify(&message, &bytes(signature)));
            assert!(!key.public().verify(b"another", &bytes(signature)));
        }
    }

    #[test]
    fn what_is_signed_for_a_container_stays_what_it_is() {
        let message = message(ST_COMMIT, &[&[7; 16], &[9; 80]]);
        assert_eq!(hex(&message), "c11da58c28a05678816d10423b3182559ae28ce7d10b696522f7804ea5754ff7");
        let signature = "8a150cf1e44a3761f028630fadf8c35e6c94d5bb140aee4479c31fe2b65b1c474d4be598b7a003216767e502fd00d92a8a2e2c7199a7\
                         209d042879a53348bb0e";
        assert_eq!(hex(&first().sign(&message)), signature);
        assert_ne!(super::message("stmount st v1 other", &[&[7; 16], &[9; 80]]), message);
    }

    #[test]
    fn any_change_of_a_signature_is_noticed() {
        let (key, message) = (first(), [3; 32]);
        let signature = key.sign(&message);
        for bit in 0..512 {
            let mut changed = signature;
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(!key.public().verify(&message, &changed), "bit {bit}");
        }
        // The same signature with the order of the group added to its second half: one signature has one form.
        let order: [u8; 32] = bytes("edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010");
        let (mut other, mut carry) = (signature, 0u16);
        for (to, add) in other[32..].iter_mut().zip(order) {
            carry += u16::from(*to) + u16::from(add);
            (*to, carry) = (carry as u8, carry >> 8);
        }
        assert!(!key.public().verify(&message, &other));
    }

    #[test]
    fn keys_have_one_text_and_come_back_from_it() {
        let key = first();
        let text = key.public().to_string();
        assert_eq!(text, "stpub16adfsqvzky9t042tlmfujeq88g8wzuhnm2nzxfd0qgdx3ac82ydq4t5r5y");
        assert_eq!(text.parse::<PublicKey>().unwrap(), key.public());
        assert_eq!(text.to_uppercase().parse::<PublicKey>().unwrap(), key.public());
        assert_eq!(key.public().fingerprint(), "21fe31dfa154a261626b");
        let file = key.to_file("2026-11-23 08:20:08");
        let secret = "STMOUNT-SIGNING-KEY-1N4SMR800L4DXPW5YFT6F9MPVC3ZYN3TF0VEXJXTS8WKQX89W0ASQCVKGHU";
        assert_eq!(*file, format!("# created: 2026-11-23 08:20:08\n# public key: {text}\n{secret}\n"));
        assert_eq!(SigningKey::parse(&file).ok().unwrap().public(), key.public());
    }

    #[test]
    fn what_is_no_key_is_refused() {
        let text = first().public().to_string();
        let file = first().to_file("");
        let secret = file.lines().last().unwrap();
        let mut typo = text.clone().into_bytes();
        typo[20] = if typo[20] == b'q' { b'p' } else { b'q' };
        let other = bech32::encode_lower::<Bech32>(Hrp::parse("age").unwrap(), &[1; 32]).unwrap();
        let short = bech32::encode_lower::<Bech32>(Hrp::parse(PUBLIC).unwrap(), &[1; 31]).unwrap();
        let modern = bech32::encode_lower::<bech32::Bech32m>(Hrp::parse(PUBLIC).unwrap(), &[1; 32]).unwrap();
        for wrong in ["", "stpub1", &text[..text.len() - 1], str::from_utf8(&typo).unwrap(), &other, &short, &modern] {
            assert_eq!(wrong.parse::<PublicKey>().unwrap_err().kind(), Kind::Invalid, "{wrong}");
        }
        assert!(secret.parse::<PublicKey>().is_err());
        let twice = format!("{secret}\n{secret}\n");
        for wrong in ["", "# nothing\n", &text, &secret[1..], &twice] {
            assert_eq!(SigningKey::parse(wrong).err().unwrap().kind(), Kind::Invalid, "{wrong}");
        }
        // Not on the curve; of small order; the same point as another encoding.
        let mut one = [0; 32];
        one[0] = 1;
        let mut beyond = [0xff; 32];
        (beyond[0], beyond[31]) = (0xf0, 0x7f);
        for wrong in [[2; 32], one, [0; 32], beyond] {
            assert!(PublicKey::from_bytes(&wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn each_new_key_is_another_one() {
        assert_ne!(SigningKey::generate().unwrap().public(), SigningKey::generate().unwrap().public());
    }
}
