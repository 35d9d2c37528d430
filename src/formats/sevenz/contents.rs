//! The contents of files: parts of blocks, each block decoded once for all who read it.
//!
//! ```text
//!   block ─► Forward: pages in the cache, shared by all ─► Span of one file, with its CRC
//!         └► stored, encrypted or not: any part by itself ─┘
//! ```

use super::cipher::{Key, Lock};
use super::database::{Part, Streams};
use super::entry::EMPTY;
use super::method::{self, Opened, Opening};
use crate::cache::Cache;
use crate::error::{Error, Kind, Result};
use crate::formats::{Reading, target_in};
use crate::key::{self, Secret};
use crate::pool::lock;
use crate::source::streams::Checked;
use crate::source::{Crc, Forward, Memory, NoSum, ReadAt, Shelf, Span, Stream, Summed};
use crate::tree::Contents;
use std::sync::{Arc, Mutex};

/// What is decoded of a block to find out whether a password is right.
const TRIED: u64 = 4 << 20;

/// An archive with what is stored in it.
pub struct Archive {
    pub source: Arc<dyn ReadAt>,
    pub cache: Arc<Cache>,
    pub name: String,
    pub reading: Arc<Reading>,
    pub streams: Streams,
    pub shelf: Shelf,
    pub keyring: Keyring,
}

/// The password that was right last, and the keys that were made of it.
#[derive(Default)]
pub struct Keyring(Mutex<(Option<Secret>, Keys)>);

/// Keys with what they open.
type Keys = Vec<(Lock, Key)>;

impl Contents for Archive {
    fn open(&self, content: u64) -> Result<Arc<dyn ReadAt>> {
        if content == EMPTY || self.part(content)?.len == 0 {
            return Ok(Arc::new(Memory::new(Vec::new())));
        }
        let part = self.part(content)?;
        let bytes: Arc<dyn ReadAt> = match self.plain(part.block)? {
            Some(bytes) => bytes,
            None => self.shelf.stream(part.block.into(), || self.stream(part.block))?,
        };
        let span = Arc::new(Span::new(bytes, part.at..part.at + part.len));
        let sum = part.sum.map_or_else(|| Box::new(NoSum) as Box<_>, Crc::boxed);
        Ok(Arc::new(Summed::new(span, part.len, sum)))
    }

    fn target(&self, content: u64) -> Result<Vec<u8>> {
        target_in(&*self.open(content)?)
    }

    fn place(&self, content: u64) -> u64 {
        // Parts are in the order of their blocks. The first of all lies somewhere as well.
        content.saturating_add(1)
    }
}

impl Archive {
    fn part(&self, content: u64) -> Result<Part> {
        let part = usize::try_from(content).ok().and_then(|at| self.streams.parts.get(at));
        part.copied().ok_or_else(|| Error::new(Kind::NotFound, "no such entry"))
    }

    /// A block that is not compressed.
    fn plain(&self, block: u32) -> Result<Option<Arc<dyn ReadAt>>> {
        let coders = &self.streams.blocks[block as usize].coders;
        if !coders.iter().all(|coder| method::is_plain(coder.method)) {
            return Ok(None);
        }
        match self.opened(block)? {
            Opened::Plain(bytes) => Ok(Some(bytes)),
            Opened::Stream(_) => Ok(None),
        }
    }

    fn stream(&self, block: u32) -> Result<Arc<Forward>> {
        let (len, opened) = (self.streams.blocks[block as usize].len(), self.opened(block)?);
        let checked = Checked::new(method::streamed(opened), len, None);
        Forward::new(Arc::new(checked), self.cache.clone())
    }

    /// The locks of a block, without those that are the same as another one.
    fn locks(&self, block: u32) -> Result<Vec<Lock>> {
        locks_of(&self.streams, block)
    }

    fn opened(&self, block: u32) -> Result<Opened> {
        let locks = self.locks(block)?;
        if locks.is_empty() {
            return self.opened_with(block, &[]);
        }
        self.keyring.fitting(&self.reading, &self.name, &locks, |keys| {
            let opened = self.opened_with(block, keys)?;
            Ok(self.is_plausible(block, keys)?.then_some(opened))
        })
    }

    fn opened_with(&self, block: u32, keys: &[(Lock, Key)]) -> Result<Opened> {
        let Streams { packed, blocks, .. } = &self.streams;
        let (source, cache) = (&self.source, &self.cache);
        Opening { block: &blocks[block as usize], packed, source, cache, keys }.open()
    }

    /// Whether what keys make of a block is what it should be: its first files, as far as is worth the time.
    fn is_plausible(&self, block: u32, keys: &[(Lock, Key)]) -> Result<bool> {
        let stream = Checked::new(
            method::streamed(self.opened_with(block, keys)?),
            self.streams.blocks[block as usize].len(),
            None,
        );
        let first = self.streams.parts.partition_point(|part| part.block < block);
        let parts = self.streams.parts[first..].iter().take_while(|part| part.block == block);
        let Ok(mut decoder) = stream.start(None) else { return Ok(false) };
        let (mut piece, mut at) = (vec![0; 64 << 10], 0);
        for part in parts {
            let (mut hasher, end) = (crc32fast::Hasher::new(), part.at + part.len);
            while at < end {
                let want = piece.len().min(usize::try_from(end - at).unwrap_or(usize::MAX));
                match decoder.read(&mut piece[..want]) {
                    Ok(0) | Err(_) => return Ok(false),
                    Ok(got) => {
                        hasher.update(&piece[..got]);
                        at += got as u64;
                    }
                }
                if at >= TRIED {
                    return Ok(true);
                }
            }
            if part.len > 0 && part.sum.is_some() {
                return Ok(part.sum == Some(hasher.finalize()));
            }
        }
        Ok(true)
    }

    /// Whether there is a password for what is encrypted. Returns what a person is to be told, where a part of the archive
    /// can be read without.
    pub fn try_password(&self) -> Result<Option<String>> {
        let is_locked = |block: &u32| self.locks(*block).map_or(true, |locks| !locks.is_empty());
        let (locked, clear): (Vec<u32>, Vec<u32>) = (0..self.streams.blocks.len() as u32).partition(is_locked);
        let size = |block: &u32| self.streams.blocks[*block as usize].len();
        let Some(block) = locked.into_iter().min_by_key(size) else { return Ok(None) };
        match self.opened(block) {
            Err(e) if e.kind() == Kind::NeedsPassword && !clear.is_empty() => {
                Ok(Some(format!("a part of its entries cannot be read: {e}")))
            }
            // What is wrong with that one block is told to whoever reads it.
            Err(e) if !matches!(e.kind(), Kind::NeedsPassword | Kind::WrongPassword) => Ok(None),
            tried => tried.map(|_| None),
        }
    }
}

/// The locks of the encrypted streams of a block.
pub fn locks_of(streams: &Streams, block: u32) -> Result<Vec<Lock>> {
    let coders = streams.blocks[block as usize].coders.iter().filter(|coder| coder.method == method::AES);
    coders.map(|coder| Lock::read(&coder.properties)).collect()
}

impl Keyring {
    /// Opens something by the keys of the first password that fits.
    pub fn fitting<T>(
        &self,
        reading: &Reading,
        name: &str,
        locks: &[Lock],
        open: impl Fn(&[(Lock, Key)]) -> Result<Option<T>>,
    ) -> Result<T> {
        let last = lock(&self.0).0.clone();
        if let Some(secret) = last
            && let Some(opened) = open(&self.keys(&secret, locks, true))?
        {
            return Ok(opened);
        }
        key::fitting(&*reading.keys, name, |secret| {
            let keys = self.keys(secret, locks, false);
            let opened = open(&keys)?;
            if opened.is_some() {
                *lock(&self.0) = (Some(secret.clone()), keys);
            }
            Ok(opened)
        })
    }

    /// The password that was right last.
    pub fn last(&self) -> Option<Secret> {
        lock(&self.0).0.clone()
    }

    /// The key that a password has for a lock.
    pub fn key(&self, secret: &Secret, wanted: &Lock) -> Key {
        let is_last = self.last().is_some_and(|last| last.expose() == secret.expose());
        let keys = self.keys(secret, std::slice::from_ref(wanted), is_last);
        let known = keys.iter().find(|(known, _)| known.has_key_of(wanted));
        known.map_or_else(|| wanted.key(secret), |(_, key)| key.clone())
    }

    /// What it knows, for the archive that comes after this one.
    pub fn handed_on(&self) -> Self {
        Self(Mutex::new(lock(&self.0).clone()))
    }

    /// The keys that a password has for these locks. To make one takes a tenth of a second: those of the last password are
    /// remembered.
    fn keys(&self, secret: &Secret, locks: &[Lock], is_last: bool) -> Keys {
        let mut keys = if is_last { lock(&self.0).1.clone() } else { Vec::new() };
        for new in locks {
            if !keys.iter().any(|(known, _)| known.has_key_of(new)) {
                let key = new.key(secret);
                keys.push((new.clone(), key));
            }
        }
        if is_last {
            lock(&self.0).1.clone_from(&keys);
        }
        keys
    }
}
