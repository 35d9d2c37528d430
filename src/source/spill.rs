//! Decoded pages on the disk, for what memory has no room for and decoding again would be slow.
//!
//! ```text
//!   one file without a name │ slot 0 │ slot 1 │ ...       each holds one page, sealed with a key that only this process has
//! ```
//!
//! The file has no name from the start, so nothing is left of it when the process ends, however it ends. What is in it may
//! be the contents of an encrypted archive: it is written as the key stream of ChaCha20 makes it, and each writing of a slot
//! has its own nonce. When all slots are taken, the one that was not asked for longest goes, about (second chance).
//! Nothing here is ever an error: what cannot be kept is decoded again.
//!
//! Who brings a page does not wait for the disk: it is sealed and written by a thread of its own, and read from memory until
//! then. Only who brings more than that thread writes lends it a hand.

use crate::cache::{Below, Key};
use crate::pool::{Background, lock};
use chacha20::ChaCha20;
use chacha20::cipher::{KeyIvInit, StreamCipher};
use rustix::fs::{Mode, OFlags, fstatvfs, openat};
use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, Weak};
use zeroize::Zeroizing;

/// Bytes of a slot: a page of a stream.
const SLOT: u64 = super::PAGE as u64;

/// Of what is free on the disk, this is left alone.
const LEFT_FREE: u64 = 1 << 30;

/// How often what is free is looked at: once for so many new slots.
const LOOK_EVERY: u64 = 256;

/// Pages that may wait to be written.
const WAITING: usize = 32;

/// A bounded number of pages in a file.
pub struct Spill {
    dir: PathBuf,
    most: u64,
    file: OnceLock<Option<File>>,
    secret: Zeroizing<[u8; 32]>,
    state: Mutex<State>,
    writer: OnceLock<Background>,
    /// Itself, for the writer.
    me: Weak<Spill>,
}

#[derive(Default)]
struct State {
    /// What is not written yet, or just now.
    fresh: HashMap<Key, Arc<Vec<u8>>>,
    /// What of it nobody writes yet, the oldest first.
    waiting: VecDeque<Key>,
    /// The writer is at work.
    is_writing: bool,
    places: HashMap<Key, u64>,
    slots: Vec<Slot>,
    /// The next slot that may have to go.
    hand: usize,
    /// Writings until now: the nonce of the next.
    writings: u64,
    /// The disk has no more room.
    is_full: bool,
}

struct Slot {
    key: Key,
    len: u32,
    nonce: u64,
    was_asked_for: bool,
    /// Somebody writes it just now.
    is_busy: bool,
}

impl Spill {
    /// At most so many bytes in a file in this directory, which is made when the first page comes.
    pub fn new(dir: &Path, bytes: u64) -> Arc<Self> {
        let mut secret = Zeroizing::new([0; 32]);
        let whole = rustix::rand::getrandom(secret.as_mut(), rustix::rand::GetRandomFlags::empty());
        let most = if whole == Ok(32) { bytes / SLOT } else { 0 };
        Arc::new_cyclic(|me| Self {
            dir: dir.to_owned(),
            most,
            file: OnceLock::new(),
            secret,
            state: Mutex::default(),
            writer: OnceLock::new(),
            me: me.clone(),
        })
    }

    fn file(&self) -> Option<&File> {
        self.file.get_or_init(|| nameless(&self.dir)).as_ref()
    }

    fn apply_key_stream(&self, nonce: u64, bytes: &mut [u8]) {
        let mut whole = [0; 12];
        whole[4..].copy_from_slice(&nonce.to_le_bytes());
        ChaCha20::new((&*self.secret).into(), &whole.into()).apply_keystream(bytes);
    }

    /// A slot for a key, marked busy, with the nonce of this writing.
    fn claim(&self, key: Key, len: usize, file: &File) -> Option<(u64, u64)> {
        let mut state = lock(&self.state);
        let nonce = state.writings;
        state.writings += 1;
        let slot = Slot { key, len: len as u32, nonce, was_asked_for: false, is_busy: true };
        let count = state.slots.len() as u64;
        if count.is_multiple_of(LOOK_EVERY) {
            state.is_full |= count < self.most && !has_room(file);
        }
        let at = if count < self.most && !state.is_full {
            state.slots.push(slot);
            count
        } else {
            let at = state.victim()?;
            let old = std::mem::replace(&mut state.slots[at], slot);
            state.forget(old.key, at as u64);
            at as u64
        };
        Some((at, nonce))
    }

    /// Writes the page that waits longest, if more wait than may.
    fn write_one(&self, may_wait: usize) -> bool {
        let next = {
            let mut state = lock(&self.state);
            let next = if state.waiting.len() > may_wait { state.waiting.pop_front() } else { None };
            next.and_then(|key| Some((key, state.fresh.get(&key)?.clone())))
        };
        let Some((key, bytes)) = next else { return false };
        self.write(key, &bytes);
        lock(&self.state).fresh.remove(&key);
        true
    }

    fn write(&self, key: Key, bytes: &[u8]) {
        let Some(file) = self.file() else { return };
        let Some((at, nonce)) = self.claim(key, bytes.len(), file) else { return };
        let mut sealed = bytes.to_vec();
        self.apply_key_stream(nonce, &mut sealed);
        let written = file.write_all_at(&sealed, at * SLOT);
        let mut state = lock(&self.state);
        state.slots[at as usize].is_busy = false;
        match written {
            Ok(()) => drop(state.places.insert(key, at)),
            Err(_) => state.is_full = true,
        }
    }
}

impl State {
    /// A key is no longer in a slot.
    fn forget(&mut self, key: Key, at: u64) {
        if self.places.get(&key) == Some(&at) {
            self.places.remove(&key);
        }
    }

    fn victim(&mut self) -> Option<usize> {
        for _ in 0..2 * self.slots.len() {
            let at = self.hand;
            self.hand = (at + 1) % self.slots.len();
            let slot = &mut self.slots[at];
            if !slot.is_busy && !std::mem::take(&mut slot.was_asked_for) {
                return Some(at);
            }
        }
        None
    }
}

impl Below for Spill {
    fn keep(&self, key: Key, bytes: Arc<Vec<u8>>) {
        let mut state = lock(&self.state);
        if self.most == 0 || bytes.len() as u64 > SLOT || state.places.contains_key(&key) {
            return;
        }
        if state.fresh.insert(key, bytes).is_none() {
            state.waiting.push_back(key);
        }
    }

    fn settle(&self) {
        while self.write_one(WAITING) {}
        let mut state = lock(&self.state);
        if state.waiting.is_empty() || std::mem::replace(&mut state.is_writing, true) {
            return;
        }
        drop(state);
        let me = self.me.clone();
        let write = move || {
            let Some(me) = me.upgrade() else { return };
            loop {
                while me.write_one(0) {}
                let mut state = lock(&me.state);
                if state.waiting.is_empty() {
                    state.is_writing = false;
                    return;
                }
            }
        };
        if !self.writer.get_or_init(|| Background::new(1, 1)).push(write) {
            lock(&self.state).is_writing = false;
        }
    }

    fn get(&self, key: Key) -> Option<Arc<Vec<u8>>> {
        let (at, len, nonce) = {
            let mut state = lock(&self.state);
            if let Some(fresh) = state.fresh.get(&key) {
                return Some(fresh.clone());
            }
            let at = *state.places.get(&key)?;
            let slot = &mut state.slots[at as usize];
            slot.was_asked_for = true;
            (at, slot.len as usize, slot.nonce)
        };
        let mut bytes = vec![0; len];
        let read = self.file()?.read_exact_at(&mut bytes, at * SLOT);
        self.apply_key_stream(nonce, &mut bytes);
        let mut state = lock(&self.state);
        let slot = &state.slots[at as usize];
        // It may have been given to another page meanwhile.
        if read.is_ok() && slot.key == key && slot.nonce == nonce {
            return Some(Arc::new(bytes));
        }
        state.forget(key, at);
        None
    }

    fn contains(&self, key: Key) -> bool {
        let state = lock(&self.state);
        state.fresh.contains_key(&key) || state.places.contains_key(&key)
    }
}

/// A file that never has a name where the file system can do that; else one whose name is taken away at once.
fn nameless(dir: &Path) -> Option<File> {
    std::fs::create_dir_all(dir).ok()?;
    let flags = OFlags::RDWR | OFlags::CLOEXEC;
    let mode = Mode::RUSR | Mode::WUSR;
    if let Ok(file) = openat(rustix::fs::CWD, dir, flags | OFlags::TMPFILE, mode) {
        return Some(file.into());
    }
    let path = dir.join(format!(".spill-{}", std::process::id()));
    let file = openat(rustix::fs::CWD, &path, flags | OFlags::CREATE | OFlags::EXCL, mode).ok()?;
    std::fs::remove_file(&path).ok()?;
    Some(file.into())
}

fn has_room(file: &File) -> bool {
    fstatvfs(file).is_ok_and(|v| v.f_bavail.saturating_mul(v.f_frsize) > LEFT_FREE + LOOK_EVERY * SLOT)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(at: u64) -> Key {
        Key { owner: 1, space: 0, at }
    }

    fn page(at: u64) -> Arc<Vec<u8>> {
        Arc::new(vec![at as u8; if at.is_multiple_of(3) { 1000 } else { SLOT as usize }])
    }

    /// Keeps a page, and is back when it is written.
    fn put(spill: &Spill, key: Key, page: Arc<Vec<u8>>) {
        spill.keep(key, page);
        while spill.write_one(0) {}
        while !lock(&spill.state).fresh.is_empty() {
            std::thread::yield_now();
        }
    }

    #[test]
    fn what_is_kept_is_what_was_put_and_the_oldest_goes() {
        let dir = tempfile::tempdir().unwrap();
        let spill = Spill::new(dir.path(), 10 * SLOT);
        for at in 0..30 {
            put(&spill, key(at), page(at));
            assert_eq!(spill.get(key(at)), Some(page(at)));
        }
        let kept = (0..30).filter(|at| spill.get(key(*at)) == Some(page(*at))).count();
        assert_eq!(kept, 10);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "the file has no name");
    }

    #[test]
    fn on_the_disk_nothing_is_in_clear() {
        let dir = tempfile::tempdir().unwrap();
        let spill = Spill::new(dir.path(), 10 * SLOT);
        let clear = b"attack at dawn ".repeat(1000);
        put(&spill, key(1), clear.clone().into());
        let mut stored = vec![0; clear.len()];
        spill.file().unwrap().read_exact_at(&mut stored, 0).unwrap();
        assert!(!stored.windows(6).any(|six| six == b"attack"));
        assert_eq!(spill.get(key(1)), Some(clear.into()));
    }

    #[test]
    fn threads_never_see_the_page_of_another() {
        let dir = tempfile::tempdir().unwrap();
        let spill = Spill::new(dir.path(), 4 * SLOT);
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let spill = &spill;
                scope.spawn(move || {
                    for n in 0..200 {
                        let at = (n * 7 + thread * 3) % 12;
                        spill.keep(key(at), page(at));
                        spill.settle();
                        assert!(spill.get(key(at)).is_none_or(|got| got == page(at)));
                    }
                });
            }
        });
    }

    #[test]
    fn what_is_kept_is_there_at_once_and_little_of_it_waits_for_the_disk() {
        let dir = tempfile::tempdir().unwrap();
        let spill = Spill::new(dir.path(), 1000 * SLOT);
        for at in 0..500 {
            spill.keep(key(at), page(at));
            assert!(spill.contains(key(at)));
            assert_eq!(spill.get(key(at)), Some(page(at)));
            spill.settle();
            assert!(lock(&spill.state).waiting.len() <= WAITING);
        }
        // On a disk that is nearly full, some may have gone to make room.
        let is_kept = |at| spill.get(key(at)).map_or_else(|| !has_room(spill.file().unwrap()), |kept| kept == page(at));
        assert!((0..500).all(is_kept));
    }

    #[test]
    fn where_nothing_can_be_written_nothing_is_kept() {
        let spill = Spill::new(Path::new("/proc/nowhere"), 10 * SLOT);
        put(&spill, key(1), page(1));
        assert_eq!(spill.get(key(1)), None);
    }
}
