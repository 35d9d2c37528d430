//! A master key under another key: what a slot holds.
//!
//! ```text
//!   passphrase               derive_key("… slot passphrase", argon2id)
//!   keyfile                  derive_key("… slot keyfile", salt 16 ‖ keyfile)
//!   passphrase and keyfile   derive_key("… slot passphrase and keyfile", argon2id ‖ keyfile)      │
//!   recipient                derive_key("… slot x25519", shared ‖ ephemeral ‖ recipient)           ├─► Kek
//!   recipient of ssh         derive_key("… slot ssh-ed25519", shared ‖ ephemeral ‖ recipient)      │
//!
//!   wrapped 48 = AES-256-GCM-SIV(Kek, nonce 0, the slot up to here as associated data, master 32)
//! ```
//!
//! The nonce is zero because no key wraps twice: each comes from a salt or an ephemeral key that was drawn for this slot
//! alone, and [`Kek::wrap`] takes it away. Even a second time would tell no more than that both are the same
//! master key.
//!
//! AES-256-GCM-SIV does not commit to its key: bytes can be made that open under two passphrases, to two master keys. So
//! who unwraps a master key checks, before using it, a MAC with it over all slots.

use super::{Family, Keyfile, Master, derive};
use aes_gcm_siv::aead::inout::InOutBuf;
use aes_gcm_siv::aead::{AeadInOut, KeyInit};
use aes_gcm_siv::{Aes256GcmSiv, Nonce, Tag};
use zeroize::Zeroizing;

/// Length of a wrapped master key.
pub const WRAPPED: usize = 32 + 16;

/// The key that wraps a master key in one slot.
pub struct Kek(Zeroizing<[u8; 32]>);

impl Kek {
    /// Of what [`super::Cost::stretch`] made of a passphrase.
    pub fn of_passphrase(stretched: &[u8; 32]) -> Self {
        Self(derive("stmount st v1 slot passphrase", &[stretched]))
    }

    pub fn of_keyfile(salt: &[u8; 16], keyfile: &Keyfile) -> Self {
        Self(derive("stmount st v1 slot keyfile", &[salt, keyfile.expose()]))
    }

    /// Of a passphrase and a keyfile together: neither alone tells anything.
    pub fn of_both(stretched: &[u8; 32], keyfile: &Keyfile) -> Self {
        Self(derive("stmount st v1 slot passphrase and keyfile", &[stretched, keyfile.expose()]))
    }

    /// Of what two keys agreed on. Both public keys go in, so that the key belongs to this agreement and to no other.
    pub(super) fn agreed(family: Family, shared: &[u8; 32], ephemeral: &[u8; 32], recipient: &[u8; 32]) -> Self {
        let context = match family {
            Family::X25519 => "stmount st v1 slot x25519",
            Family::Ssh => "stmount st v1 slot ssh-ed25519",
        };
        Self(derive(context, &[shared, ephemeral, recipient]))
    }

    /// Locks the master key in a slot; `slot` is all that is said of it.
    pub fn wrap(self, slot: &[u8], master: &Master) -> [u8; WRAPPED] {
        let mut wrapped = [0; WRAPPED];
        let (key, tag) = wrapped.split_at_mut(32);
        key.copy_from_slice(master.expose());
        let made = self.cipher().encrypt_inout_detached(&Nonce::default(), slot, InOutBuf::from(key));
        tag.copy_from_slice(&made.expect("32 bytes are not too many"));
        wrapped
    }

    /// The master key of a slot, when this is the key to it and nothing in it was changed.
    pub fn unwrap(&self, slot: &[u8], wrapped: &[u8; WRAPPED]) -> Option<Master> {
        let (locked, tag) = wrapped.split_at(32);
        let mut key = Zeroizing::new([0; 32]);
        key.copy_from_slice(locked);
        let tag = <&Tag>::try_from(tag).expect("a tag has 16 bytes");
        let opened = self.cipher().decrypt_inout_detached(&Nonce::default(), slot, InOutBuf::from(&mut key[..]), tag);
        opened.is_ok().then(|| Master::new(key))
    }

    fn cipher(&self) -> Aes256GcmSiv {
        Aes256GcmSiv::new((&*self.0).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_master_key_opens_with_its_key_in_its_slot_only() {
        let master = Master::new(Zeroizing::new([9; 32]));
        let kek = |byte| Kek::of_passphrase(&[byte; 32]);
        let wrapped = kek(1).wrap(b"slot", &master);
        assert_eq!(kek(1).unwrap(b"slot", &wrapped).unwrap().expose(), master.expose());
        assert!(kek(2).unwrap(b"slot", &wrapped).is_none());
        assert!(kek(1).unwrap(b"other", &wrapped).is_none());
        for at in 0..WRAPPED {
            let mut bad = wrapped;
            bad[at] ^= 1;
            assert!(kek(1).unwrap(b"slot", &bad).is_none(), "{at}");
        }
    }

    #[test]
    fn each_way_has_a_key_of_its_own() {
        let keyfile = Keyfile::of_digest(Zeroizing::new([1; 32]));
        let keks = [
            Kek::of_passphrase(&[1; 32]),
            Kek::of_keyfile(&[1; 16], &keyfile),
            Kek::of_both(&[1; 32], &keyfile),
            Kek::agreed(Family::X25519, &[1; 32], &[1; 32], &[1; 32]),
            Kek::agreed(Family::Ssh, &[1; 32], &[1; 32], &[1; 32]),
        ];
        let all: std::collections::BTreeSet<_> = keks.iter().map(|kek| *kek.0).collect();
        assert_eq!(all.len(), 5);
    }
}
