//! Sealing: bytes become bytes that tell nothing but their length, and that nobody can change unnoticed.
//!
//! ```text
//!   plain                     [the bytes]                                      layers: 1, 2
//!   padded, where asked for   [the bytes │ 80 00 00 …]
//!   layer 1    nonce 12 ‖ AES-256-GCM-SIV   of the above             ‖ tag 16
//!   layer 2    nonce 24 ‖ XChaCha20-Poly1305 of all of layer 1       ‖ tag 16
//! ```
//!
//! Each layer has a key and a nonce of its own and knows nothing of the others: who breaks one has the other before him.
//! What a piece is for is bound to it as associated data. The nonces are random: AES-256-GCM-SIV tells no more than that
//! two messages are equal if one is used twice ([RFC 8452](https://www.rfc-editor.org/rfc/rfc8452)), and 24 bytes
//! are enough to draw from for ever.

use super::damaged;
use crate::error::{Error, Kind, Result};
use aes_gcm_siv::Aes256GcmSiv;
use aes_gcm_siv::aead::inout::InOutBuf;
use aes_gcm_siv::aead::{AeadInOut, KeyInit, Nonce, Tag};
use chacha20poly1305::XChaCha20Poly1305;
use zeroize::Zeroizing;

/// AES-256-GCM-SIV.
pub const AES_256_GCM_SIV: u16 = 1;
/// XChaCha20-Poly1305.
pub const XCHACHA20_POLY1305: u16 = 2;

/// What a cipher is called.
pub fn name_of(id: u16) -> &'static str {
    match id {
        AES_256_GCM_SIV => "AES-256-GCM-SIV",
        XCHACHA20_POLY1305 => "XChaCha20-Poly1305",
        _ => "an unknown cipher",
    }
}

/// Layers that a container may have: what a piece costs grows with each.
pub const LAYERS: usize = 4;

const TAG: usize = 16;

/// One cipher with its key.
enum Layer {
    Aes(Box<Aes256GcmSiv>),
    XChaCha(XChaCha20Poly1305),
}

impl Layer {
    fn new(id: u16, key: &[u8; 32]) -> Result<Self> {
        match id {
            AES_256_GCM_SIV => Ok(Self::Aes(Box::new(Aes256GcmSiv::new(key.into())))),
            XCHACHA20_POLY1305 => Ok(Self::XChaCha(XChaCha20Poly1305::new(key.into()))),
            other => Err(Error::new(Kind::UnknownCipher, format!("it is sealed with cipher {other}"))
                .hint("open it with a newer version of stmount")),
        }
    }

    fn nonce(&self) -> usize {
        match self {
            Self::Aes(_) => 12,
            Self::XChaCha(_) => 24,
        }
    }

    /// Encrypts what lies between the nonce and the tag.
    fn seal(&self, aad: &[u8], bytes: &mut [u8]) -> Result<()> {
        let (nonce, rest) = bytes.split_at_mut(self.nonce());
        let (inner, tag) = rest.split_at_mut(rest.len() - TAG);
        match self {
            Self::Aes(cipher) => seal(&**cipher, nonce, aad, inner, tag),
            Self::XChaCha(cipher) => seal(cipher, nonce, aad, inner, tag),
        }
    }

    /// Decrypts what lies between the nonce and the tag.
    fn open<'a>(&self, aad: &[u8], bytes: &'a mut [u8]) -> Result<&'a mut [u8]> {
        let cut = bytes.len() < self.nonce() + TAG;
        if cut {
            return Err(damaged("it is too short to be sealed"));
        }
        let (nonce, rest) = bytes.split_at_mut(self.nonce());
        let (inner, tag) = rest.split_at_mut(rest.len() - TAG);
        match self {
            Self::Aes(cipher) => open(&**cipher, nonce, aad, inner, tag)?,
            Self::XChaCha(cipher) => open(cipher, nonce, aad, inner, tag)?,
        }
        Ok(inner)
    }
}

fn seal<C: AeadInOut>(cipher: &C, nonce: &[u8], aad: &[u8], inner: &mut [u8], tag: &mut [u8]) -> Result<()> {
    let nonce = <&Nonce<C>>::try_from(nonce).expect("a layer knows the length of its nonce");
    let made = cipher.encrypt_inout_detached(nonce, aad, InOutBuf::from(inner));
    let made = made.map_err(|_| Error::new(Kind::TooLarge, "too much to be sealed in one piece"))?;
    tag.copy_from_slice(&made);
    Ok(())
}

fn open<C: AeadInOut>(cipher: &C, nonce: &[u8], aad: &[u8], inner: &mut [u8], tag: &[u8]) -> Result<()> {
    let nonce = <&Nonce<C>>::try_from(nonce).expect("a layer knows the length of its nonce");
    let tag = <&Tag<C>>::try_from(tag).expect("a tag has 16 bytes");
    let opened = cipher.decrypt_inout_detached(nonce, aad, InOutBuf::from(inner), tag);
    opened.map_err(|_| damaged("its seal is broken: it was changed, or belongs elsewhere"))
}

/// Seals and opens pieces of one kind.
pub struct Sealer {
    /// Innermost first.
    layers: Vec<Layer>,
    padded: bool,
}

impl Sealer {
    /// A sealer with these ciphers, innermost first; `key` gives each its key.
    ///
    /// # Errors
    /// `UnknownCipher` for an id that this version does not know; `Damaged` when there are none or too many.
    pub fn new(ciphers: &[u16], padded: bool, key: impl Fn(u16) -> Zeroizing<[u8; 32]>) -> Result<Self> {
        if ciphers.is_empty() || ciphers.len() > LAYERS {
            return Err(damaged(format!("it is sealed with {} ciphers, 1 to {LAYERS} can be", ciphers.len())));
        }
        let layers = ciphers.iter().map(|id| Layer::new(*id, &key(*id))).collect::<Result<_>>()?;
        Ok(Self { layers, padded })
    }

    /// Bytes that sealing adds, without padding.
    pub fn overhead(&self) -> usize {
        self.layers.iter().map(|layer| layer.nonce() + TAG).sum()
    }

    /// Seals some pieces as if they stood in one buffer. `random` fills nonces.
    ///
    /// # Errors
    /// Those of `random`; `TooLarge` beyond 64 GiB.
    pub fn seal(
        &self,
        aad: &[u8],
        parts: &[&[u8]],
        mut random: impl FnMut(&mut [u8]) -> Result<()>,
    ) -> Result<Vec<u8>> {
        let len: usize = parts.iter().map(|part| part.len()).sum();
        let inner = if self.padded { padme(len as u64 + 1) as usize } else { len };
        let nonces: usize = self.layers.iter().map(Layer::nonce).sum();
        let mut out = Vec::with_capacity(inner + self.overhead());
        out.resize(nonces, 0);
        parts.iter().for_each(|part| out.extend_from_slice(part));
        if self.padded {
            out.push(MARK);
        }
        out.resize(inner + self.overhead(), 0);
        random(&mut out[..nonces])?;
        let (mut from, mut to) = (nonces, nonces + inner);
        for layer in &self.layers {
            from -= layer.nonce();
            to += TAG;
            layer.seal(aad, &mut out[from..to])?;
        }
        Ok(out)
    }

    /// What a sealed piece holds; its buffer is used up.
    ///
    /// # Errors
    /// `Damaged` when it is not as it was sealed, or was sealed for something else.
    pub fn open<'a>(&self, aad: &[u8], sealed: &'a mut [u8]) -> Result<&'a [u8]> {
        let mut inner = sealed;
        for layer in self.layers.iter().rev() {
            inner = layer.open(aad, inner)?;
        }
        if !self.padded {
            return Ok(inner);
        }
        let end = inner.iter().rposition(|b| *b != 0).filter(|end| inner[*end] == MARK);
        end.map(|end| &inner[..end]).ok_or_else(|| damaged("its padding is wrong"))
    }
}

/// Ends what is padded; zeros follow.
const MARK: u8 = 0x80;

/// The length to which one is padded: at most 12 % more, and of all lengths only a few
/// ([Padmé](https://www.petsymposium.org/2019/files/papers/issue4/popets-2019-0056.pdf), figure 3).
fn padme(len: u64) -> u64 {
    let Some(e) = len.checked_ilog2().filter(|e| *e > 0) else { return len };
    let bits = e - (e.ilog2() + 1).min(e);
    let mask = (1u64 << bits) - 1;
    (len + mask) & !mask
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Nonces that count: tests need the same each time.
    fn counting(into: &mut [u8]) -> Result<()> {
        into.iter_mut().zip(1..).for_each(|(byte, n)| *byte = n);
        Ok(())
    }

    fn sealer(ciphers: &[u16], padded: bool) -> Sealer {
        Sealer::new(ciphers, padded, |id| Zeroizing::new([id as u8; 32])).unwrap()
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|b| format!("{b:02x}")).collect()
    }

    const BOTH: &[u16] = &[AES_256_GCM_SIV, XCHACHA20_POLY1305];

    #[test]
    fn what_was_sealed_opens_and_nothing_else_does() {
        for ciphers in [&BOTH[..1], &BOTH[1..], BOTH, &[2, 1], &[1, 1, 2, 2]] {
            for padded in [false, true] {
                let sealer = sealer(ciphers, padded);
                for len in [0, 1, 15, 16, 100, 70_000] {
                    let bytes = vec![7; len];
                    let sealed = sealer.seal(b"kind", &[&bytes[..len / 3], &bytes[len / 3..]], counting).unwrap();
                    assert_eq!(sealer.open(b"kind", &mut sealed.clone()).unwrap(), bytes);
                    assert_eq!(sealer.open(b"other", &mut sealed.clone()).unwrap_err().kind(), Kind::Damaged);
                    assert!(padded || sealed.len() == len + sealer.overhead());
                    for at in (0..sealed.len()).step_by(sealed.len() / 90 + 1) {
                        let mut bad = sealed.clone();
                        bad[at] ^= 1;
                        assert!(sealer.open(b"kind", &mut bad).is_err(), "byte {at}");
                    }
                    assert!(sealer.open(b"kind", &mut sealed[1..].to_vec()).is_err());
                }
                assert!(sealer.open(b"kind", &mut [0; 5]).is_err());
            }
        }
    }

    #[test]
    fn known_answers() {
        // Both computed with Python: cryptography's AESGCMSIV, and XChaCha20-Poly1305 by HChaCha20 and ChaCha20Poly1305.
        let aes = sealer(&BOTH[..1], false).seal(b"aad", &[b"stmount"], counting).unwrap();
        assert_eq!(hex(&aes), "0102030405060708090a0b0cb3b6a996e32e29ab41895eee95742151876673bcc4797e");
        let both = sealer(BOTH, false).seal(b"aad", &[b"stmount"], counting).unwrap();
        let expected = "0102030405060708090a0b0c0d0e0f10111213141516171840010812e22c49c8702ff8dbfd2c6be3afed426dc42ed308\
                        fa5da69dc6a9e29a6702770b817f0479a962c6fafaebf3c852ac8a";
        assert_eq!(hex(&both), expected);
    }

    #[test]
    fn lengths_are_padded_to_few() {
        // From the paper: 9 bits of 1000000 stay.
        assert_eq!([0, 1, 2, 3, 9, 17, 1000, 1_000_000].map(padme), [0, 1, 2, 3, 10, 18, 1024, 1_015_808]);
        let lengths: std::collections::BTreeSet<u64> = (1..1 << 16).map(padme).collect();
        assert!(lengths.len() < 200);
        assert!((1..1 << 16).all(|len| padme(len) >= len && padme(len) * 100 <= len * 112));
        let lengths = (0..4000).map(|n| sealer(BOTH, true).seal(b"", &[&vec![1; n]], counting).unwrap().len());
        assert!(lengths.collect::<std::collections::BTreeSet<_>>().len() < 110);
    }

    #[test]
    fn ciphers_that_are_not_known_are_named() {
        let new = |ciphers: &[u16]| Sealer::new(ciphers, false, |_| Zeroizing::default()).err().unwrap();
        assert_eq!(new(&[9]).kind(), Kind::UnknownCipher);
        assert_eq!(new(&[]).kind(), Kind::Damaged);
        assert_eq!(new(&[1; 5]).kind(), Kind::Damaged);
    }
}
