//! One way to open a container: the master key, locked with what somebody has or knows.
//!
//! ```text
//!   1 passphrase               u32 KiB ‖ u32 passes ‖ u32 lanes ‖ salt 16 ‖ wrapped 48
//!   2 recipient X25519         ephemeral 32 ‖ wrapped 48
//!   3 keyfile                  salt 16 ‖ wrapped 48
//!   4 passphrase and keyfile   as 1
//!   5 recipient ssh-ed25519    as 2
//!   6 for a hybrid with a post-quantum key
//!
//!   associated data of what is wrapped: type ‖ flags ‖ body up to wrapped
//! ```

use super::Random;
use crate::error::{Error, Kind, Result};
use crate::key::{Cost, Family, Identity, Kek, Keyfile, Master, Recipient, Secret, WRAPPED};
use std::fmt;
use zeroize::Zeroizing;

/// A way to open a container that is to be added.
pub enum NewSlot {
    Passphrase {
        passphrase: Secret,
        cost: Cost,
    },
    Recipient(Recipient),
    Keyfile(Keyfile),
    /// Both are needed, at the same time.
    PassphraseAndKeyfile {
        passphrase: Secret,
        keyfile: Keyfile,
        cost: Cost,
    },
}

/// What everybody can see of a slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotInfo {
    /// For programs: `passphrase`, `keyfile`, `passphrase+keyfile`, `age`, `ssh-ed25519`, or `unknown`.
    pub kind: &'static str,
    /// What a guess costs.
    pub cost: Option<Cost>,
    /// All of it, for people.
    pub words: String,
}

impl NewSlot {
    pub(super) fn cost(&self) -> Option<Cost> {
        match self {
            Self::Passphrase { cost, .. } | Self::PassphraseAndKeyfile { cost, .. } => Some(*cost),
            Self::Recipient(_) | Self::Keyfile(_) => None,
        }
    }
}

/// The kinds of slots that this version opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lock {
    Passphrase = 1,
    X25519 = 2,
    Keyfile = 3,
    Both = 4,
    Ssh = 5,
}

const LOCKS: [Lock; 5] = [Lock::Passphrase, Lock::X25519, Lock::Keyfile, Lock::Both, Lock::Ssh];

impl Lock {
    pub(super) fn body_len(self) -> usize {
        let front = match self {
            Self::Passphrase | Self::Both => 12 + 16,
            Self::X25519 | Self::Ssh => 32,
            Self::Keyfile => 16,
        };
        front + WRAPPED
    }
}

/// As it lies in the file. A known type has the length that it should have.
#[derive(Clone)]
pub(super) struct Slot {
    pub kind: u8,
    pub flags: u8,
    pub body: Vec<u8>,
}

impl Slot {
    pub(super) fn info(&self) -> SlotInfo {
        let kind = match self.lock_kind() {
            Some(Lock::Passphrase) => "passphrase",
            Some(Lock::Keyfile) => "keyfile",
            Some(Lock::Both) => "passphrase+keyfile",
            Some(Lock::X25519) => "age",
            Some(Lock::Ssh) => "ssh-ed25519",
            None => "unknown",
        };
        SlotInfo { kind, cost: self.cost(), words: self.to_string() }
    }

    /// Which of the known kinds it is. What is not known, or known with something that is not, is passed over.
    pub(super) fn lock_kind(&self) -> Option<Lock> {
        LOCKS.into_iter().find(|lock| *lock as u8 == self.kind && self.flags == 0)
    }

    pub(super) fn lock(new: NewSlot, master: &Master, random: Random<'_>) -> Result<Self> {
        match new {
            NewSlot::Passphrase { passphrase, cost } => {
                let (front, stretched) = stretched(&passphrase, cost, random)?;
                Ok(Self::made(Lock::Passphrase, front, Kek::of_passphrase(&stretched), master))
            }
            NewSlot::PassphraseAndKeyfile { passphrase, keyfile, cost } => {
                let (front, stretched) = stretched(&passphrase, cost, random)?;
                Ok(Self::made(Lock::Both, front, Kek::of_both(&stretched, &keyfile), master))
            }
            NewSlot::Keyfile(keyfile) => {
                let salt = drawn(random)?;
                Ok(Self::made(Lock::Keyfile, salt.to_vec(), Kek::of_keyfile(&salt, &keyfile), master))
            }
            NewSlot::Recipient(recipient) => {
                let (ephemeral, kek) = recipient.kek(drawn(random)?)?;
                let lock = match recipient.family() {
                    Family::X25519 => Lock::X25519,
                    Family::Ssh => Lock::Ssh,
                };
                Ok(Self::made(lock, ephemeral.to_vec(), kek, master))
            }
        }
    }

    fn made(lock: Lock, front: Vec<u8>, kek: Kek, master: &Master) -> Self {
        let mut slot = Self { kind: lock as u8, flags: 0, body: front };
        let wrapped = kek.wrap(&slot.bound(slot.body.len()), master);
        slot.body.extend(wrapped);
        slot
    }

    /// The associated data: all that is said of the slot, with so much of its body.
    fn bound(&self, front: usize) -> Vec<u8> {
        [&[self.kind, self.flags], &self.body[..front]].concat()
    }

    fn open(&self, kek: &Kek) -> Option<Master> {
        let (_, wrapped) = self.body.split_last_chunk()?;
        kek.unwrap(&self.bound(self.body.len() - WRAPPED), wrapped)
    }

    /// The master key, when the slot is for this identity.
    pub(super) fn open_for(&self, identity: &Identity) -> Option<Master> {
        let family = match self.lock_kind()? {
            Lock::X25519 => Family::X25519,
            Lock::Ssh => Family::Ssh,
            _ => return None,
        };
        let ephemeral = self.body.first_chunk()?;
        (family == identity.family()).then(|| self.open(&identity.kek(ephemeral)?))?
    }

    /// The master key, when the slot is for this keyfile alone.
    pub(super) fn open_by(&self, keyfile: &Keyfile) -> Option<Master> {
        let salt = self.body.first_chunk().filter(|_| self.lock_kind() == Some(Lock::Keyfile))?;
        self.open(&Kek::of_keyfile(salt, keyfile))
    }

    /// What a guess costs, where a passphrase opens it.
    pub(super) fn cost(&self) -> Option<Cost> {
        self.lock_kind().filter(|lock| matches!(lock, Lock::Passphrase | Lock::Both))?;
        let number = |at: usize| Some(u32::from_le_bytes(*self.body.get(at..)?.first_chunk()?));
        Some(Cost { memory_kib: number(0)?, passes: number(4)?, lanes: number(8)? })
    }

    /// The master key, when the passphrase fits, alone or with one of the keyfiles, as the slot wants it.
    pub(super) fn open_with(&self, passphrase: &Secret, keyfiles: &[Keyfile]) -> Result<Option<Master>> {
        let (Some(cost), Some(salt)) = (self.cost(), self.body.get(12..).and_then(|rest| rest.first_chunk())) else {
            return Ok(None);
        };
        let stretched = cost.stretch(passphrase, salt)?;
        Ok(match self.lock_kind() {
            Some(Lock::Both) => keyfiles.iter().find_map(|keyfile| self.open(&Kek::of_both(&stretched, keyfile))),
            _ => self.open(&Kek::of_passphrase(&stretched)),
        })
    }
}

/// For people: `passphrase (Argon2id, 512 MiB, 2 passes)`.
impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.lock_kind() {
            Some(Lock::Passphrase) => f.write_str("passphrase")?,
            Some(Lock::Both) => f.write_str("passphrase together with a keyfile")?,
            Some(Lock::Keyfile) => f.write_str("keyfile")?,
            Some(Lock::X25519) => f.write_str("recipient age1…")?,
            Some(Lock::Ssh) => f.write_str("recipient ssh-ed25519")?,
            None => write!(f, "of kind {}, which this version does not know", self.kind)?,
        }
        let Some(Cost { memory_kib, passes, lanes }) = self.cost() else { return Ok(()) };
        write!(f, " (Argon2id, {} MiB, passes: {passes}, lanes: {lanes})", memory_kib.div_ceil(1 << 10))
    }
}

/// The parameters of a slot with a passphrase, and what the passphrase gives with them.
fn stretched(passphrase: &Secret, cost: Cost, random: Random<'_>) -> Result<(Vec<u8>, Zeroizing<[u8; 32]>)> {
    if passphrase.expose().is_empty() {
        return Err(Error::new(Kind::Usage, "an empty passphrase protects nothing"));
    }
    let salt = drawn(random)?;
    let numbers = [cost.memory_kib, cost.passes, cost.lanes].map(u32::to_le_bytes).concat();
    Ok(([numbers, salt.to_vec()].concat(), cost.stretch(passphrase, &salt)?))
}

fn drawn<const N: usize>(random: Random<'_>) -> Result<Zeroizing<[u8; N]>> {
    let mut bytes = Zeroizing::new([0; N]);
    random(&mut *bytes)?;
    Ok(bytes)
}
