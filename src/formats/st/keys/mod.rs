//! The payload of a KEYS record: who opens a container, and what it is sealed with.
//!
//! ```text
//!   uid 16 ‖ u16 version 1 ‖ u8 flags ‖ u8 n ‖ u16 cipher … ‖ u16 slots
//!   slot … = u8 type ‖ u8 flags ‖ u16 length ‖ body            `slot`
//!   u32 length ‖ nonce 12 ‖ labels ‖ tag 16                     for who has opened it
//!   MAC 32                                                      over all of the above
//! ```
//!
//! Each slot holds the same master key under a key of its own: any one of them opens. What is wrapped does not know the
//! uid, so that slots go along when a container gets another one; the MAC ties all of it to the uid and to the key.

mod slot;
#[cfg(test)]
mod tests;
mod unlock;

pub use slot::{NewSlot, SlotInfo};

use super::limits::{KEY_BODY, KEY_LABEL, KEY_PAYLOAD, KEY_SLOTS};
use crate::codec::seal::{AES_256_GCM_SIV, LAYERS, XCHACHA20_POLY1305};
use crate::error::{Error, Kind, Result};
use crate::key::{Master, fill_random};
use aes_gcm_siv::aead::inout::InOutBuf;
use aes_gcm_siv::aead::{AeadInOut, KeyInit};
use aes_gcm_siv::{Aes256GcmSiv, Nonce, Tag};
use slot::Slot;
use std::time::SystemTime;
use unlock::affordable;
use zeroize::Zeroizing;

const VERSION: u16 = 1;
/// Everything sealed is padded.
const PADDED: u8 = 1;
const MAC: usize = 32;
const NONCE: usize = 12;
const TAG: usize = 16;
const LABELS: &[u8] = b"labels";

/// Fills a buffer with what nobody can guess; tests know it.
type Random<'a> = &'a mut dyn FnMut(&mut [u8]) -> Result<()>;

/// What is told of a slot to who has opened the container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    /// When it was added, in seconds since 1970.
    pub added: u64,
    /// Whom or what it is for, as the user calls it.
    pub text: String,
}

/// Labels are sealed until somebody changes the slots.
#[derive(Clone)]
enum Labels {
    Sealed(Vec<u8>),
    Open(Vec<Label>),
}

/// Who opens a container, and what it is sealed with.
#[derive(Clone)]
pub struct KeySet {
    uid: [u8; 16],
    flags: u8,
    ciphers: Vec<u16>,
    slots: Vec<Slot>,
    labels: Labels,
    /// As it stood in the file. Nothing is changed or written before a master key has been found to fit it.
    mac: Option<[u8; MAC]>,
}

impl KeySet {
    /// A set without slots, for a container that is sealed with these ciphers, innermost first.
    pub fn new(uid: [u8; 16], ciphers: &[u16], padded: bool) -> Self {
        let flags = if padded { PADDED } else { 0 };
        Self { uid, flags, ciphers: ciphers.to_vec(), slots: Vec::new(), labels: Labels::Open(Vec::new()), mac: None }
    }

    /// Takes a payload apart.
    ///
    /// # Errors
    /// `Header` when it is damaged, `Limit` when a number in it is too large, `Unsupported` for a higher version.
    pub fn parse(payload: &[u8]) -> Result<Self> {
        within("bytes", payload.len(), KEY_PAYLOAD)?;
        let mut rest = Cut(payload);
        let uid = rest.array()?;
        let version = u16::from_le_bytes(rest.array()?);
        if version != VERSION {
            return Err(Error::new(Kind::Unsupported, format!("its list of keys has version {version}"))
                .hint("open it with a newer version of stmount"));
        }
        let [flags, ciphers] = rest.array()?;
        within("ciphers", usize::from(ciphers), LAYERS)?;
        let ciphers = (0..ciphers).map(|_| rest.array().map(u16::from_le_bytes)).collect::<Result<Vec<_>>>()?;
        let slots = usize::from(u16::from_le_bytes(rest.array()?));
        within("slots", slots, KEY_SLOTS)?;
        let slots = (0..slots).map(|_| parse_slot(&mut rest)).collect::<Result<Vec<_>>>()?;
        let labels = u32::from_le_bytes(rest.array()?) as usize;
        let labels = Labels::Sealed(rest.bytes(labels)?.to_vec());
        let mac = Some(rest.array()?);
        if ciphers.is_empty() || !rest.0.is_empty() {
            return Err(damaged());
        }
        Ok(Self { uid, flags, ciphers, slots, labels, mac })
    }

    pub fn uid(&self) -> &[u8; 16] {
        &self.uid
    }

    /// What the container is sealed with, innermost first.
    pub fn ciphers(&self) -> &[u16] {
        &self.ciphers
    }

    /// Whether everything sealed is padded.
    pub fn padded(&self) -> bool {
        self.flags & PADDED != 0
    }

    /// Whether this is its master key, and nothing was changed.
    pub fn is_of(&self, master: &Master) -> bool {
        self.verify(master).is_ok()
    }

    /// How many slots there are.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Adds one more way to open the container.
    ///
    /// # Errors
    /// `Limit` when there are too many, or it costs too much; `Usage` for a label that is too long, and an empty
    /// passphrase; `Header` when this is not the master key of this set.
    pub fn add(&mut self, master: &Master, new: NewSlot, label: &str) -> Result<()> {
        let added = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
        self.add_with(master, new, Label { added, text: label.to_owned() }, &mut fill_random)
    }

    fn add_with(&mut self, master: &Master, new: NewSlot, label: Label, random: Random<'_>) -> Result<()> {
        if label.text.len() > KEY_LABEL {
            return Err(Error::new(Kind::Usage, format!("a label has at most {KEY_LABEL} bytes")));
        }
        within("slots", self.slots.len() + 1, KEY_SLOTS)?;
        let mut labels = self.labels(master)?;
        affordable(self.slots.iter().filter_map(Slot::cost).chain(new.cost()))?;
        self.slots.push(Slot::lock(new, master, random)?);
        labels.push(label);
        self.changed(labels);
        Ok(())
    }

    /// Takes a way to open the container away. Who used it before may have kept the master key: only sealing anew, with
    /// another one, shuts such a person out.
    ///
    /// # Errors
    /// `NotPermitted` for the last one, `NotFound` for one that is not there; `Header` when this is not the master key.
    pub fn remove(&mut self, master: &Master, index: usize) -> Result<()> {
        let mut labels = self.labels(master)?;
        if index >= self.slots.len() {
            let what = format!("there is no slot {}, only {}", index + 1, self.slots.len());
            return Err(Error::new(Kind::NotFound, what));
        }
        if !self.slots.iter().enumerate().any(|(at, slot)| at != index && slot.lock_kind().is_some()) {
            return Err(Error::new(Kind::NotPermitted, "without its last slot nobody could open it")
                .hint("add another one first"));
        }
        self.slots.remove(index);
        labels.remove(index);
        self.changed(labels);
        Ok(())
    }

    fn changed(&mut self, labels: Vec<Label>) {
        (self.labels, self.mac) = (Labels::Open(labels), None);
    }

    /// The same slots for another container with the same master key.
    ///
    /// # Errors
    /// `Header` when this is not the master key of this set.
    pub fn moved(&self, master: &Master, uid: [u8; 16], ciphers: &[u16], padded: bool) -> Result<Self> {
        let labels = Labels::Open(self.labels(master)?);
        Ok(Self { slots: self.slots.clone(), labels, ..Self::new(uid, ciphers, padded) })
    }

    /// What the slots are for, in their order.
    ///
    /// # Errors
    /// `Header` when this is not the master key of this set.
    pub fn labels(&self, master: &Master) -> Result<Vec<Label>> {
        self.verify(master)?;
        match &self.labels {
            Labels::Open(labels) => Ok(labels.clone()),
            Labels::Sealed(sealed) => self.opened(master, sealed)?.ok_or_else(damaged),
        }
    }

    /// The payload.
    ///
    /// # Errors
    /// Those of the random numbers; `Header` when this is not the master key of this set; `Usage` without any slot.
    pub fn encode(&self, master: &Master) -> Result<Vec<u8>> {
        self.encode_with(master, &mut fill_random)
    }

    fn encode_with(&self, master: &Master, random: Random<'_>) -> Result<Vec<u8>> {
        self.verify(master)?;
        if self.slots.is_empty() {
            return Err(Error::new(Kind::Usage, "without a slot nobody could open it"));
        }
        let sealed = match &self.labels {
            Labels::Sealed(sealed) => sealed.clone(),
            Labels::Open(labels) => self.sealed(master, labels, random)?,
        };
        let mut payload = self.front(&sealed);
        payload.extend(self.mac_of(master, &payload).as_bytes());
        within("bytes", payload.len(), KEY_PAYLOAD)?;
        Ok(payload)
    }

    /// All that the MAC covers.
    fn front(&self, sealed: &[u8]) -> Vec<u8> {
        let mut out = self.uid.to_vec();
        out.extend(VERSION.to_le_bytes());
        out.extend([self.flags, self.ciphers.len() as u8]);
        self.ciphers.iter().for_each(|cipher| out.extend(cipher.to_le_bytes()));
        out.extend((self.slots.len() as u16).to_le_bytes());
        for Slot { kind, flags, body } in &self.slots {
            out.extend([*kind, *flags]);
            out.extend((body.len() as u16).to_le_bytes());
            out.extend(body);
        }
        out.extend((sealed.len() as u32).to_le_bytes());
        out.extend(sealed);
        out
    }

    fn mac_of(&self, master: &Master, front: &[u8]) -> blake3::Hash {
        blake3::keyed_hash(&master.derive("keys mac", &self.uid), front)
    }

    /// Whether this is the master key, and all is as it was written.
    fn verify(&self, master: &Master) -> Result<()> {
        let (Some(mac), Labels::Sealed(sealed)) = (self.mac, &self.labels) else { return Ok(()) };
        // The comparison takes the same time wherever they differ.
        if self.mac_of(master, &self.front(sealed)) == mac {
            return Ok(());
        }
        Err(Error::new(Kind::Header, "the list of keys was changed").hint(
            "somebody without a key to it has written to the container; a copy of it, or an earlier list in it, may be whole",
        ))
    }

    fn cipher(&self, master: &Master) -> Aes256GcmSiv {
        Aes256GcmSiv::new((&*master.derive("labels", &self.uid)).into())
    }

    fn sealed(&self, master: &Master, labels: &[Label], random: Random<'_>) -> Result<Vec<u8>> {
        let mut out = vec![0; NONCE];
        random(&mut out)?;
        for Label { added, text } in labels {
            out.extend(added.to_le_bytes());
            out.extend((text.len() as u16).to_le_bytes());
            out.extend(text.as_bytes());
        }
        let (nonce, inner) = out.split_at_mut(NONCE);
        let nonce = <&Nonce>::try_from(&*nonce).expect("a nonce has 12 bytes");
        let tag = self.cipher(master).encrypt_inout_detached(nonce, LABELS, InOutBuf::from(inner));
        out.extend(tag.map_err(|_| damaged())?);
        Ok(out)
    }

    fn opened(&self, master: &Master, sealed: &[u8]) -> Result<Option<Vec<Label>>> {
        let mut rest = Cut(sealed);
        let inner = sealed.len().checked_sub(NONCE + TAG).ok_or_else(damaged)?;
        let nonce: [u8; NONCE] = rest.array()?;
        let mut clear = Zeroizing::new(rest.bytes(inner)?.to_vec());
        let tag: [u8; TAG] = rest.array()?;
        let (nonce, tag, clear_bytes) = (Nonce::from(nonce), Tag::from(tag), InOutBuf::from(&mut clear[..]));
        if self.cipher(master).decrypt_inout_detached(&nonce, LABELS, clear_bytes, &tag).is_err() {
            return Ok(None);
        }
        let mut rest = Cut(&clear);
        let labels = self.slots.iter().map(|_| parse_label(&mut rest)).collect::<Result<Vec<_>>>()?;
        Ok(rest.0.is_empty().then_some(labels))
    }

    /// What it is sealed with, and each slot, for people. Nothing in it is secret.
    pub fn describe(&self) -> Vec<String> {
        let padded = if self.padded() { "; lengths are padded" } else { "" };
        let first = format!("sealed with {}{padded}", self.cipher_names().join(", then "));
        let slots = self.slots.iter().zip(1..).map(|(slot, n)| format!("slot {n}: {slot}"));
        std::iter::once(first).chain(slots).collect()
    }

    /// Each slot, in their order.
    pub fn slots(&self) -> Vec<SlotInfo> {
        self.slots.iter().map(Slot::info).collect()
    }

    /// The names of what the container is sealed with, innermost first.
    pub fn cipher_names(&self) -> Vec<String> {
        self.ciphers.iter().map(|id| cipher_name(*id)).collect()
    }
}

fn cipher_name(id: u16) -> String {
    match id {
        AES_256_GCM_SIV => "AES-256-GCM-SIV".to_owned(),
        XCHACHA20_POLY1305 => "XChaCha20-Poly1305".to_owned(),
        other => format!("cipher {other}, which this version does not know"),
    }
}

fn parse_slot(rest: &mut Cut<'_>) -> Result<Slot> {
    let [kind, flags] = rest.array()?;
    let len = usize::from(u16::from_le_bytes(rest.array()?));
    within("bytes in a slot", len, KEY_BODY)?;
    let slot = Slot { kind, flags, body: rest.bytes(len)?.to_vec() };
    if slot.lock_kind().is_some_and(|lock| lock.body_len() != len) {
        return Err(damaged());
    }
    Ok(slot)
}

fn parse_label(rest: &mut Cut<'_>) -> Result<Label> {
    let added = u64::from_le_bytes(rest.array()?);
    let len = usize::from(u16::from_le_bytes(rest.array()?));
    within("bytes in a label", len, KEY_LABEL)?;
    let text = std::str::from_utf8(rest.bytes(len)?).map_err(|_| damaged())?;
    Ok(Label { added, text: text.to_owned() })
}

fn within(what: &str, number: usize, most: usize) -> Result<()> {
    if number <= most {
        return Ok(());
    }
    Err(Error::new(Kind::Limit, format!("a list of keys with {number} {what}, {most} can be")))
}

fn damaged() -> Error {
    Error::new(Kind::Header, "the list of keys is damaged")
}

/// Bytes from which pieces are cut.
struct Cut<'a>(&'a [u8]);

impl<'a> Cut<'a> {
    fn bytes(&mut self, len: usize) -> Result<&'a [u8]> {
        let (bytes, rest) = self.0.split_at_checked(len).ok_or_else(damaged)?;
        self.0 = rest;
        Ok(bytes)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let (array, rest) = self.0.split_first_chunk().ok_or_else(damaged)?;
        self.0 = rest;
        Ok(*array)
    }
}
