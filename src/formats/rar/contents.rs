//! The contents of members.
//!
//! ```text
//!   stored                  ─► pieces of volumes ─► decrypted: any part by itself ─┐
//!   compressed, in its run  ─► Forward: pages in the cache ─► Span of one member  ─┴─► with its checksum
//! ```

use super::cipher::Key;
use super::entry::EMPTY;
use super::headers::{Codec, Member};
use super::sum;
use super::unpack::{Body, Unpacked, is_checked};
use crate::error::{Error, Kind, Result};
use crate::formats::{Reading, target_in};
use crate::pool::lock;
use crate::source::streams::Pushed;
use crate::source::{Forward, Memory, ReadAt, Shelf, Span, Stream, Summed};
use crate::tree::Contents;
use lru::LruCache;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex};

/// What is decoded of a member to find out whether a password is right, where nothing else tells.
const TRIED: u64 = 16 << 20;

/// A member with so many bytes has a checksum that tells whether a password is right.
const TELLING: u64 = 4;

/// Members that are tried to find one that a password opens.
const TRIED_MEMBERS: usize = 16;

/// Members whose keys are remembered.
const KEYS: NonZeroUsize = NonZeroUsize::new(256).unwrap();

/// An archive with what is stored in it.
pub struct Archive {
    body: Arc<Body>,
    shelf: Shelf,
    /// Keys that were found to be right, for where only decoding tells.
    right: Mutex<LruCache<u64, Key>>,
}

impl Contents for Archive {
    fn open(&self, content: u64) -> Result<Arc<dyn ReadAt>> {
        if content == EMPTY {
            return Ok(Arc::new(Memory::default()));
        }
        let member = self.body.member(content)?;
        self.body.check_readable(member)?;
        if member.is_empty() {
            return Ok(Arc::new(Memory::default()));
        }
        let key = self.key(content)?;
        let (bytes, len): (Arc<dyn ReadAt>, _) = match member.is_streamed() {
            false => self.stored(member, key.as_ref())?,
            true => {
                let run = self.run(member.run)?;
                (Arc::new(Span::new(run, member.at..member.at.saturating_add(member.size))), member.size)
            }
        };
        let is_tweaked = member.sealed.as_ref().is_some_and(|sealed| sealed.is_tweaked);
        Ok(Arc::new(Summed::new(bytes, len, sum::check(&member.sum, key.as_ref(), is_tweaked))))
    }

    fn target(&self, content: u64) -> Result<Vec<u8>> {
        target_in(&*self.open(content)?)
    }

    fn place(&self, content: u64) -> u64 {
        // Members are in the order of their data. The first of all lies somewhere as well.
        content.saturating_add(1)
    }
}

impl Archive {
    pub fn new(body: Body) -> Self {
        Self { body: Arc::new(body), shelf: Shelf::default(), right: Mutex::new(LruCache::new(KEYS)) }
    }

    pub fn reading(&self) -> &Reading {
        &self.body.reading
    }

    fn stored(&self, member: &Member, key: Option<&Key>) -> Result<(Arc<dyn ReadAt>, u64)> {
        let size = member.size;
        let there = if member.is_encrypted() { member.packed / 16 * 16 } else { member.packed };
        if size > there || (size < there && !member.is_encrypted()) {
            return Err(Error::new(Kind::Damaged, format!("it should have {size} bytes, and {there} are stored")));
        }
        Ok((self.body.clear(member, key)?, size))
    }

    fn run(&self, run: u32) -> Result<Arc<Forward>> {
        self.shelf.stream(run.into(), || {
            if let Some(locked) = self.body.runs[run as usize].locked {
                self.key(locked.into())?;
            }
            let stream = Pushed::new(Unpacked::new(self.body.clone(), run, None));
            Forward::new(Arc::new(stream), self.body.cache.clone())
        })
    }

    /// The key of a member, where it is encrypted.
    fn key(&self, content: u64) -> Result<Option<Key>> {
        let member = self.body.member(content)?;
        let Some(sealed) = &member.sealed else { return Ok(None) };
        if let Some(key) = lock(&self.right).get(&content) {
            return Ok(Some(key.clone()));
        }
        // Of a run, the first that is encrypted shows whether the password is right.
        if let Some(first) = self.first_locked(member).filter(|first| *first != content && sealed.check.is_none()) {
            self.key(first)?;
        }
        let Body { keyring, reading, name, .. } = &*self.body;
        let fits = |key: &Key| -> Result<bool> {
            match key.fits(sealed) {
                Some(fits) => Ok(fits),
                None if keyring.is_of_headers() => Ok(true),
                None => self.is_plausible(content, key),
            }
        };
        let key = keyring.fitting(reading, name, &sealed.lock, |key| Ok(fits(key)?.then(|| key.clone())))?;
        lock(&self.right).put(content, key.clone());
        Ok(Some(key))
    }

    /// The first encrypted member of the run of a member.
    fn first_locked(&self, member: &Member) -> Option<u64> {
        let run = member.is_streamed().then(|| self.body.runs.get(member.run as usize)).flatten()?;
        run.locked.map(u64::from)
    }

    /// Whether what a key makes of a member is what it should be, as far as is worth the time.
    fn is_plausible(&self, content: u64, key: &Key) -> Result<bool> {
        let member = self.body.member(content)?;
        if member.is_empty() || self.body.check_readable(member).is_err() {
            return Ok(true);
        }
        if !member.is_streamed() {
            let Ok((bytes, len)) = self.stored(member, Some(key)) else { return Ok(true) };
            if len > TRIED || !is_checked(member) {
                return Ok(true);
            }
            let is_tweaked = member.sealed.as_ref().is_some_and(|sealed| sealed.is_tweaked);
            return Ok(Summed::new(bytes, len, sum::check(&member.sum, Some(key), is_tweaked)).check().is_ok());
        }
        // In a run that goes on, what is wrong with a later member shows when it is read.
        if self.first_locked(member) != Some(content) {
            return Ok(true);
        }
        self.is_decodable(member, key)
    }

    fn is_decodable(&self, member: &Member, key: &Key) -> Result<bool> {
        let stream = Pushed::new(Unpacked::new(self.body.clone(), member.run, Some(key.clone())));
        let mut decoder = stream.start(None)?;
        let is_tweaked = member.sealed.as_ref().is_some_and(|sealed| sealed.is_tweaked);
        let mut check = sum::check(&member.sum, Some(key), is_tweaked);
        let (mut piece, mut at, end) = (vec![0; 64 << 10], 0, member.at.saturating_add(member.size));
        while at < end {
            let border = if at < member.at { member.at } else { end };
            let want = piece.len().min(usize::try_from(border - at).unwrap_or(usize::MAX));
            match decoder.read(&mut piece[..want]) {
                Ok(0) | Err(_) => return Ok(false),
                Ok(got) => {
                    if at >= member.at {
                        check.update(&piece[..got]);
                    }
                    at += got as u64;
                }
            }
            if at >= TRIED + member.at {
                return Ok(true);
            }
        }
        Ok(check.is_right())
    }

    /// Whether there is a password for what is encrypted. Returns what a person is to be told, where a part of the archive
    /// can be read without.
    pub fn try_password(&self) -> Result<Option<String>> {
        // Links have a length and no data.
        let has_data = |member: &Member| !member.is_empty() && member.packed > 0;
        let members = || self.body.members.iter().enumerate().filter(|(_, member)| has_data(member));
        let mut locked: Vec<_> = members().filter(|(_, member)| member.is_encrypted()).collect();
        let is_all = locked.len() == members().count();
        // Of very few bytes, a wrong password gives the right ones too often.
        let tells = |member: &Member| {
            member.size >= TELLING || member.sealed.as_ref().is_some_and(|sealed| sealed.check.is_some())
        };
        if locked.iter().any(|(_, member)| tells(member)) {
            locked.retain(|(_, member)| tells(member));
        }
        // Stored ones are tried in less time, and so are small ones.
        locked.sort_by_key(|(_, member)| (member.codec != Codec::Stored, member.size));
        let mut refused = None;
        for (content, _) in locked.into_iter().take(TRIED_MEMBERS) {
            match self.key(content as u64) {
                Err(e) if matches!(e.kind(), Kind::NeedsPassword | Kind::WrongPassword) => {
                    let is_missing = e.kind() == Kind::NeedsPassword;
                    refused = refused.or(Some(e));
                    if is_missing {
                        break;
                    }
                }
                // What is wrong with that one is told to whoever reads it.
                _ => return Ok(None),
            }
        }
        match refused {
            Some(e) if is_all => Err(e),
            Some(e) => Ok(Some(format!("a part of its entries cannot be read: {e}"))),
            None => Ok(None),
        }
    }
}
