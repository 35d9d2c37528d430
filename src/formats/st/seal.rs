//! The seal of a container: what its pieces are sealed with, and the keys for that.
//!
//! ```text
//!  passphrase, recipient, keyfile ──► slot ──► master key ──► segments   SEG payloads
//!                                     keys.rs             ├─► tables     blocks and fences, each by itself
//!                                                         ├─► commits    COMMIT and STATE payloads, behind their front
//!                                                         ├─► header     MAC of the header
//!                                                         └─► chunks     where contents are cut
//! ```
//!
//! A container without a seal is the same code with pieces that go through as they are.

use super::commit::Commit;
use super::keys::{KeySet, NewSlot};
use super::layout::{Header, INCOMPAT_SEALED, SealedFront};
use crate::codec::cdc::Chunker;
use crate::codec::damaged;
use crate::codec::seal::Sealer;
use crate::error::{Error, Kind, Result};
use crate::key::{self, Master};
use std::fmt;
use std::sync::Arc;
use zerocopy::{FromBytes, IntoBytes};

/// What can be sealed. Each kind opens as nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece {
    Segment,
    Block,
    Fence,
}

impl Piece {
    fn aad(self) -> &'static [u8] {
        match self {
            Self::Segment => b"segment",
            Self::Block => b"block",
            Self::Fence => b"fence",
        }
    }
}

/// The keys of one container.
pub struct Seal {
    keys: KeySet,
    master: Master,
    segments: Sealer,
    tables: Sealer,
    commits: Sealer,
}

impl Seal {
    /// The seal that these keys make, of which the master key was unlocked or drawn.
    pub fn new(keys: KeySet, master: Master) -> Result<Self> {
        let sealer = |what: &str| {
            let key = |cipher| master.derive(&format!("{what} cipher {cipher}"), keys.uid());
            Sealer::new(keys.ciphers(), keys.padded(), key)
        };
        let (segments, tables, commits) = (sealer("segment")?, sealer("table")?, sealer("commit")?);
        Ok(Self { keys, master, segments, tables, commits })
    }

    /// The seal of a new container, which opens in each of these ways; the texts are what the ways are called.
    ///
    /// # Errors
    /// `Usage` without a way, and those of [`KeySet::add`].
    pub fn fresh(ciphers: &[u16], padded: bool, ways: Vec<(NewSlot, String)>) -> Result<Self> {
        Self::fresh_for(key::random()?, (ciphers, padded), ways)
    }

    /// The same, with another master key, for a container that is sealed already: it keeps its identity. That of one in
    /// clear tells of what is in it.
    ///
    /// # Errors
    /// As [`Self::fresh`].
    pub fn again(&self, ciphers: &[u16], padded: bool, ways: Vec<(NewSlot, String)>) -> Result<Self> {
        Self::fresh_for(self.uid(), (ciphers, padded), ways)
    }

    fn fresh_for(uid: [u8; 16], (ciphers, padded): (&[u16], bool), ways: Vec<(NewSlot, String)>) -> Result<Self> {
        let (mut keys, master) = (KeySet::new(uid, ciphers, padded), Master::random()?);
        for (slot, label) in ways {
            keys.add(&master, slot, &label)?;
        }
        if keys.is_empty() {
            return Err(Error::new(Kind::Usage, "without a passphrase, a keyfile or a recipient nobody could open it"));
        }
        Self::new(keys, master)
    }

    /// The same seal with other keys.
    pub fn with_keys(&self, keys: KeySet) -> Result<Self> {
        Self::new(keys, self.master.clone())
    }

    /// The seal of another container that the same passphrases and keys open.
    pub fn heir(&self) -> Result<Self> {
        let (ciphers, padded) = (self.keys.ciphers(), self.keys.padded());
        let keys = self.keys.moved(&self.master, key::random()?, ciphers, padded)?;
        Self::new(keys, self.master.clone())
    }

    pub fn uid(&self) -> [u8; 16] {
        *self.keys.uid()
    }

    pub fn keys(&self) -> &KeySet {
        &self.keys
    }

    pub fn master(&self) -> &Master {
        &self.master
    }

    /// The payload of a KEYS record.
    pub fn payload(&self) -> Result<Vec<u8>> {
        self.keys.encode(&self.master)
    }

    /// The header of a container with this seal, whose first KEYS record is at this offset.
    pub fn header(&self, mut header: Header, keys: u64) -> Header {
        (header.suite, header.keys) = (1, keys.into());
        header.incompat = (header.incompat.get() | INCOMPAT_SEALED).into();
        header.mac = self.mac(&header);
        header.check = header.expected_check();
        header
    }

    /// The MAC that the header must carry.
    pub fn mac(&self, header: &Header) -> [u8; 32] {
        let key = self.master.derive("header mac", self.keys.uid());
        *blake3::keyed_hash(&key, &header.as_bytes()[..80]).as_bytes()
    }

    fn sealer(&self, piece: Piece) -> &Sealer {
        match piece {
            Piece::Segment => &self.segments,
            Piece::Block | Piece::Fence => &self.tables,
        }
    }
}

/// Shown without any key.
impl fmt::Debug for Seal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Seal").field("ciphers", &self.keys.ciphers()).finish_non_exhaustive()
    }
}

/// The seal of a container, or none.
#[derive(Clone, Default)]
pub struct Sealing(Option<Arc<Seal>>);

impl Sealing {
    pub fn of(seal: Arc<Seal>) -> Self {
        Self(Some(seal))
    }

    pub fn seal(&self) -> Option<&Arc<Seal>> {
        self.0.as_ref()
    }

    pub fn uid(&self) -> Option<[u8; 16]> {
        self.0.as_ref().map(|seal| seal.uid())
    }

    /// The features that it brings.
    pub fn incompat(&self) -> u64 {
        if self.is_sealed() { INCOMPAT_SEALED } else { 0 }
    }

    pub fn is_sealed(&self) -> bool {
        self.0.is_some()
    }

    /// A piece as it is stored; `None` when that is as it is.
    pub fn close(&self, piece: Piece, parts: &[&[u8]]) -> Result<Option<Vec<u8>>> {
        let close = |seal: &Arc<Seal>| seal.sealer(piece).seal(piece.aad(), parts, key::fill_random);
        self.0.as_ref().map(close).transpose()
    }

    /// What a stored piece says.
    pub fn open<'a>(&self, piece: Piece, stored: &'a mut [u8]) -> Result<&'a [u8]> {
        match &self.0 {
            Some(seal) => seal.sealer(piece).open(piece.aad(), stored),
            None => Ok(stored),
        }
    }

    /// The payload of a COMMIT or a STATE. In front of what is sealed stands what a reader needs to find the keys.
    pub fn commit(&self, commit: &Commit) -> Result<Vec<u8>> {
        let plain = commit.encode();
        let Some(seal) = &self.0 else { return Ok(plain) };
        let front = SealedFront { uid: commit.head.uid, keys: commit.head.keys };
        let sealed = seal.commits.seal(&commit_aad(&front), &[&plain], key::fill_random)?;
        Ok([front.as_bytes(), &sealed].concat())
    }

    /// What such a payload says. Its front is compared with what was sealed.
    pub fn open_commit(&self, record: u64, mut payload: Vec<u8>) -> Result<Commit> {
        let Some(seal) = &self.0 else { return Commit::decode(record, &payload) };
        let other = || damaged(format!("the commit at {record} is sealed in another way"));
        let (front, rest) = SealedFront::mut_from_prefix(&mut payload).map_err(|_| other())?;
        let aad = commit_aad(front);
        let commit = Commit::decode(record, seal.commits.open(&aad, rest)?)?;
        let right = (commit.head.uid, commit.head.keys) == (front.uid, front.keys);
        if right { Ok(commit) } else { Err(other()) }
    }

    /// Where contents are cut.
    pub fn chunker(&self) -> Chunker {
        match &self.0 {
            Some(seal) => Chunker::keyed(&seal.master.derive("chunks", seal.keys.uid())),
            None => Chunker::default(),
        }
    }
}

fn commit_aad(front: &SealedFront) -> Vec<u8> {
    [b"commit", front.as_bytes()].concat()
}
