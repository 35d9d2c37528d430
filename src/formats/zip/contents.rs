//! The contents of entries.
//!
//! ```text
//!   the archive ─► Span ─► decrypted, where it is encrypted ─► stored:     with its CRC             any part by itself
//!                                                           └► compressed: decoded, with its CRC ─► Forward: any part
//! ```

use super::aes::Sealed;
use super::entry::{Cipher, Member, UNKNOWN};
use super::layout::{LOCAL, Local, flag};
use super::methods;
use super::sealed::{Checked, Seal};
use super::zipcrypto::{self, ZipCrypto};
use crate::cache::Cache;
use crate::error::{Error, Kind, Result};
use crate::formats::{Reading, target_in};
use crate::key::{self, Keys, Secret};
use crate::pool::lock;
use crate::source::{Crc, NoSum, Summed};
use crate::source::{Forward, Memory, ReadAt, Shelf, Span};
use crate::tree::Contents;
use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use zerocopy::FromBytes;

/// What is decoded of an entry to find out whether a password is right, where that is not certain yet.
const TRIED: usize = 1 << 20;

/// An archive with its entries.
pub struct Archive {
    pub source: Arc<dyn ReadAt>,
    pub cache: Arc<Cache>,
    pub name: String,
    pub reading: Arc<Reading>,
    pub members: Vec<Member>,
    pub overlapping: HashSet<u64>,
    pub shelf: Shelf,
    /// The password that was right last.
    pub right: Mutex<Option<Secret>>,
}

/// The packed bytes of an entry without encryption, and what is to be checked when all of them were read.
type Opened = (Arc<dyn ReadAt>, Option<Seal>);

impl Contents for Archive {
    fn open(&self, content: u64) -> Result<Arc<dyn ReadAt>> {
        let member = self.member(content)?;
        // Of nothing, encryption hides nothing.
        if member.is_encrypted() && member.is_empty() {
            return Ok(Arc::new(Memory::new(Vec::new())));
        }
        if member.method == STORED {
            return self.stored(member);
        }
        let stream = || {
            let (packed, seal) = self.unlocked(member)?;
            Forward::new(self.decoded(member, packed, seal)?, self.cache.clone())
        };
        Ok(self.shelf.stream(content, stream)?)
    }

    fn target(&self, content: u64) -> Result<Vec<u8>> {
        target_in(&*self.open(content)?)
    }

    fn place(&self, content: u64) -> u64 {
        self.members.get(content as usize).map_or(u64::MAX, |member| member.header_at)
    }
}

const STORED: u16 = 0;

impl Archive {
    fn member(&self, content: u64) -> Result<&Member> {
        let member = usize::try_from(content).ok().and_then(|at| self.members.get(at));
        let member = member.ok_or_else(|| Error::new(Kind::NotFound, "no such entry"))?;
        if self.overlapping.contains(&content) && !self.reading.force {
            let what = "its data reach into those of another entry, as they do in a zip bomb";
            return Err(Error::new(Kind::Damaged, what).hint("-o force, when it is to be read all the same"));
        }
        Ok(member)
    }

    /// The packed bytes of an entry. One that goes on behind the end of the archive can be read up to there.
    pub fn packed(&self, member: &Member) -> Result<Arc<dyn ReadAt>> {
        let mut bytes = [0; size_of::<Local>()];
        let got = self.source.read_at(member.header_at, &mut bytes)?;
        let local = Local::read_from_bytes(&bytes[..got]).ok().filter(|local| local.signature == LOCAL);
        let at = member.header_at;
        let local = local.ok_or_else(|| {
            self.source.blame(Error::new(Kind::Damaged, format!("no entry begins at {at}, where it should be")))
        })?;
        self.compare(member, &local)?;
        let front = size_of::<Local>() as u64 + u64::from(local.name_len.get()) + u64::from(local.extra_len.get());
        let start = at.saturating_add(front);
        Ok(Arc::new(Span::new(self.source.clone(), start..start.saturating_add(member.packed))))
    }

    /// What the header in front of the data says, against what the list says. The list is right, as for all programs.
    fn compare(&self, member: &Member, local: &Local) -> Result<()> {
        let same_flags = (local.flags.get() ^ member.flags) & (flag::ENCRYPTED | flag::STRONG) == 0;
        let is_streamed = (local.flags.get() | member.flags) & flag::DESCRIPTOR != 0;
        let same_name = local.name_len.get() == member.name_len;
        let same = same_flags && same_name && (is_streamed || local.crc.get() == member.crc);
        if same {
            return Ok(());
        }
        let what = format!("the header at {} says something else than the list of entries", member.header_at);
        match self.reading.strict {
            true => Err(Error::new(Kind::Damaged, what).hint("without --strict it is read all the same")),
            false => {
                log::warn!("{}: {what}", self.name);
                Ok(())
            }
        }
    }

    /// The contents of an entry that is not compressed.
    fn stored(&self, member: &Member) -> Result<Arc<dyn ReadAt>> {
        let (packed, seal) = self.unlocked(member)?;
        let len = packed.len()?;
        if len != member.size {
            let size = member.size;
            return Err(Error::new(Kind::Damaged, format!("it should have {size} bytes, and {len} are stored")));
        }
        // With a check of its own it is checked already.
        let sum = if member.has_crc { Crc::boxed(member.crc) } else { Box::new(NoSum) };
        drop(seal);
        Ok(Arc::new(Summed::new(packed, len, sum)))
    }

    fn decoded(&self, member: &Member, packed: Arc<dyn ReadAt>, seal: Option<Seal>) -> Result<Arc<Checked>> {
        let size = Some(member.size).filter(|size| *size != UNKNOWN);
        let crc = member.has_crc.then_some(member.crc);
        Ok(Arc::new(Checked::new(methods::decoded(member, packed, size)?, size, crc, seal)))
    }

    fn unlocked(&self, member: &Member) -> Result<Opened> {
        let packed = self.packed(member)?;
        match member.cipher {
            Cipher::None => Ok((packed, None)),
            Cipher::Other => {
                let what = format!("the entry at {} is encrypted in a way that is not known here", member.header_at);
                Err(Error::new(Kind::UnknownCipher, what))
            }
            Cipher::ZipCrypto => self.with_password(member, |secret| self.zipcrypto(member, &packed, secret)),
            Cipher::Aes(strength) => {
                let sealed = Sealed::read(packed, strength)?;
                self.with_password(member, |secret| {
                    let Some(aes) = sealed.unlock(secret) else { return Ok(None) };
                    let seal = Some(aes.check());
                    Ok(Some((Arc::new(aes) as Arc<dyn ReadAt>, seal)))
                })
            }
        }
    }

    /// Tries the password that was right last, then all that are known.
    fn with_password(&self, member: &Member, open: impl Fn(&Secret) -> Result<Option<Opened>>) -> Result<Opened> {
        let last = lock(&self.right).clone();
        if let Some(secret) = last
            && let Some(opened) = open(&secret)?
            && self.is_plausible(member, &opened)?
        {
            return Ok(opened);
        }
        let keys: &dyn Keys = &*self.reading.keys;
        key::fitting(keys, &self.name, |secret| {
            let opened = open(secret)?;
            let is_right = opened.as_ref().map_or(Ok(false), |opened| self.is_plausible(member, opened))?;
            if is_right {
                *lock(&self.right) = Some(secret.clone());
            }
            Ok(opened.filter(|_| is_right))
        })
    }

    /// Of 256 wrong passwords, one seems right to ZipCrypto: what it makes of the data tells.
    fn is_plausible(&self, member: &Member, opened: &Opened) -> Result<bool> {
        if member.cipher != Cipher::ZipCrypto {
            return Ok(true);
        }
        let packed = opened.0.clone();
        if member.method == STORED {
            let is_small = member.size <= TRIED as u64;
            return Ok(!is_small || Summed::new(packed, member.size, Crc::boxed(member.crc)).check().is_ok());
        }
        let stream = match self.decoded(member, packed, None) {
            Ok(stream) => stream,
            // With a method that is not known, nobody can tell.
            Err(e) if e.kind() == Kind::Unsupported => return Ok(true),
            Err(_) => return Ok(false),
        };
        Ok(stream.begins_well(TRIED))
    }

    fn zipcrypto(&self, member: &Member, packed: &Arc<dyn ReadAt>, secret: &Secret) -> Result<Option<Opened>> {
        let mut header = [0; zipcrypto::HEADER];
        packed.read_exact_at(0, &mut header)?;
        let is_streamed = member.flags & flag::DESCRIPTOR != 0;
        let check = if is_streamed { (member.time >> 8) as u8 } else { (member.crc >> 24) as u8 };
        let Some(cipher) = zipcrypto::Cipher::new(secret.expose()).behind(header, check) else { return Ok(None) };
        let data = Span::new(packed.clone(), header.len() as u64..packed.len()?);
        let stream = Arc::new(ZipCrypto::new(Arc::new(data), cipher)?);
        Ok(Some((Forward::new(stream, self.cache.clone())?, None)))
    }

    /// Whether there is a password for what is encrypted: tried on the smallest of the first entries. Returns what a
    /// person is to be told, where a part of the archive can be read without.
    pub fn try_password(&self) -> Result<Option<String>> {
        let has_data = || self.members.iter().filter(|member| member.packed > 0 && !member.is_empty());
        let Some(member) = self.member_to_try() else { return Ok(None) };
        let e = match self.unlocked(member) {
            // What is wrong with that one member is told to whoever reads it.
            Err(e) if e.kind() == Kind::Damaged => return Ok(None),
            Err(e) => e,
            Ok(_) => return Ok(None),
        };
        let is_mixed = !has_data().all(Member::is_encrypted);
        match e.kind() {
            Kind::NeedsPassword | Kind::UnknownCipher if is_mixed => {
                let locked = has_data().filter(|member| member.is_encrypted()).count();
                Ok(Some(format!("{locked} entries cannot be read: {e}")))
            }
            _ => Err(e),
        }
    }

    fn member_to_try(&self) -> Option<&Member> {
        let has_data = |member: &&Member| member.packed > 0 && !member.is_empty();
        let encrypted = || self.members.iter().filter(|member| member.is_encrypted()).filter(has_data);
        let known = encrypted().filter(|member| member.cipher != Cipher::Other);
        known.take(TRIED_MEMBERS).min_by_key(|member| member.packed).or_else(|| encrypted().next())
    }
}

/// Entries of which the smallest is tried.
const TRIED_MEMBERS: usize = 256;
