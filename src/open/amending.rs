//! A container on a server that is changed: what is new is kept in a draft here, and goes there all at once.
//!
//! ```text
//!   read       what is new: the draft │ all else: the server, by ranges
//!   write      the draft, a file without a name; nothing is on the server yet
//!   publish    the lease is ours ─► the object is the one that was opened ─► what is new is sent ─► it is there, whole
//!                                                                              └ by the way that the server knows best
//! ```
//!
//! Whatever goes wrong before the last step leaves the object as it was. Where a file is written in its place, which is so
//! with sftp and ftp, the old commit is there until the new one is whole: half of a new one is found out, and written again
//! or cut off by whoever writes next.

use super::bases::From;
use super::lease::{ENDING, Lease};
use super::there::{Marks, There, may_pass, patiently};
use super::trust::{homeless, state_dir};
use super::{How, far, owners};
use crate::error::{Error, Kind, Result};
use crate::formats::{self, Access, Give, Holds, Outgoing, Owners, Root, Settled, Watch, Writer};
use crate::pool::lock;
use crate::remote::{self, Amend, Seen, changed};
use crate::source::{Patched, ReadAt, Store};
use crate::tree::{Changes, Difference, Tree};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::ops::Range;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

/// A container on a server, to be written to.
pub struct Amending {
    patched: Patched,
    place: There,
    lease: Lease,
    seen: Mutex<Seen>,
    watch: Arc<dyn Watch>,
    /// It was said that the server takes nothing but whole files.
    told: AtomicBool,
}

/// The directory for drafts of what goes to a server.
///
/// # Errors
/// `Usage` where this user has no place for such.
pub fn drafts() -> Result<PathBuf> {
    let dir = state_dir().ok_or_else(homeless)?.join("uploads");
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir);
    made.map_err(|e| Error::io(e, format!("cannot make {}", dir.display())).hint("set STMOUNT_STATE_DIR"))?;
    Ok(dir)
}

/// A file without a name.
fn draft() -> Result<File> {
    let path = drafts()?.join(format!(".{}.{:016x}", std::process::id(), rand()?));
    let open = File::options().read(true).write(true).create_new(true).mode(0o600).open(&path);
    let file = open.map_err(|e| Error::io(e, format!("cannot make {}", path.display())))?;
    fs::remove_file(&path).map_err(|e| Error::io(e, format!("cannot remove {}", path.display())))?;
    Ok(file)
}

fn rand() -> Result<u64> {
    Ok(u64::from_le_bytes(crate::key::random()?))
}

/// What is sent.
struct New {
    whole: Marks,
    /// What is in front of it and stays.
    before: Marks,
    from: u64,
}

impl Amending {
    /// Takes the lease of a container, and opens it.
    ///
    /// # Errors
    /// `Locked` when somebody else has it; `NotFound`; those of the link.
    pub fn open(address: &str, how: &How) -> Result<Arc<Self>> {
        let place = There::of(address, how)?;
        let missing = || Error::new(Kind::NotFound, format!("{}: there is nothing of this name", place.shown()));
        place.writes()?;
        if !place.is_there()? {
            return Err(missing());
        }
        let lease = Lease::take(place.beside(ENDING))?;
        // Only now nobody else changes it.
        let (seen, bytes) = place.look()?.ok_or_else(missing)?;
        let patched = Patched::new(bytes, draft()?)?;
        let (seen, watch) = (Mutex::new(seen), how.watch.clone());
        Ok(Arc::new(Self { patched, place, lease, seen, watch, told: AtomicBool::new(false) }))
    }

    /// Sends what is new, over the version that is known; after a failure in the middle what has come of it is told from
    /// what somebody else has done.
    fn send(&self, new: &New, old: &mut Seen) -> Result<Seen> {
        let New { whole, before, from } = new;
        let (len, mut from) = (whole.len, *from);
        let (now, object) = self.place.now()?;
        if now.len == len && whole.are_in(&object)? {
            // All of it had come, and nobody said so.
            return Ok(now);
        }
        let is_ours = before.are_in(&object)?;
        let may_be_torn = is_ours && now.len != old.len && now.len > from && now.len <= len;
        if may_be_torn && Marks::within(&self.patched, from..now.len)?.are_in(&object)? {
            if self.place.is_stream() {
                from = now.len;
            }
            *old = now;
        } else if !is_ours || !now.is_same(old) {
            return Err(changed().within(self.place.shown()));
        }
        let steps = self.patched.steps();
        let amend = Amend { bytes: &self.patched, from: from.min(old.len), old, steps: &steps };
        let amended = self.place.amend(&amend, &mut |gone| {
            self.watch.entry(format!("{gone} bytes to {}", self.place.shown()).as_bytes());
            match self.watch.is_cancelled() {
                true => Err(Error::new(Kind::Interrupted, "interrupted")),
                false => Ok(()),
            }
        })?;
        let seen = self.place.is_it(whole)?;
        if amended.whole && !self.told.swap(true, Relaxed) {
            let (sent, new) = (amended.sent, len.saturating_sub(from));
            log::warn!(
                "{}: the server takes only whole files: {sent} bytes went there, {new} of them new",
                self.place.shown()
            );
        }
        Ok(seen)
    }
}

impl ReadAt for Amending {
    fn len(&self) -> Result<u64> {
        self.patched.len()
    }

    fn read_at(&self, at: u64, into: &mut [u8]) -> Result<usize> {
        match self.patched.read_at(at, into) {
            // It is just being written where it is: once that is done it is the same bytes again.
            Err(e) if e.kind() == Kind::Changed => {
                drop(lock(&self.seen));
                self.patched.read_at(at, into)
            }
            read => read,
        }
    }

    fn will_read(&self, range: Range<u64>) {
        self.patched.will_read(range);
    }

    fn is_changed(&self) -> bool {
        self.patched.is_changed()
    }
}

impl Store for Amending {
    fn write_at(&self, at: u64, bytes: &[u8]) -> Result<()> {
        self.patched.write_at(at, bytes)
    }

    fn set_len(&self, len: u64) -> Result<()> {
        self.patched.set_len(len)
    }

    fn sync(&self) -> Result<()> {
        self.patched.sync()
    }

    fn free(&self) -> Result<u64> {
        self.patched.free()
    }

    fn exclude_readers(&self) -> Result<bool> {
        self.patched.exclude_readers()
    }

    fn publish(&self) -> Result<()> {
        let Some(from) = self.patched.from() else { return Ok(()) };
        let mut seen = lock(&self.seen);
        let mut old = seen.clone();
        // Once it is written where it is, nobody can read any more what it was.
        let before = Marks::within(&self.patched, 0..old.len.min(from))?;
        // What lies between two places that are new would have to be read meanwhile: then all of it is sent.
        let from = if self.place.is_in_place() && self.patched.is_patched() { 0 } else { from };
        let new = New { whole: Marks::of(&self.patched)?, before, from };
        let sent = patiently(self.place.patience(), || {
            self.lease.check()?;
            self.send(&new, &mut old)
        });
        let sent = sent.map_err(|e| match may_pass(&e) {
            true => e.hint("the server has what it had; the same once more when it answers"),
            false if e.kind() == Kind::Changed => {
                e.hint("open it anew; what is new in a mount can be copied elsewhere")
            }
            false => e,
        })?;
        *seen = sent;
        let (now, bytes) = self.place.look()?.ok_or_else(changed)?;
        if !now.is_same(&seen) && now.stamp.is_some() && seen.stamp.is_some() {
            return Err(changed().within(self.place.shown()));
        }
        *seen = now;
        self.patched.rebase(bytes)
    }
}

/// Access to a container on a server, to change it, with its lease.
///
/// # Errors
/// As [`Amending::open`].
pub fn access(address: &str, how: &How) -> Result<Access> {
    let store = Amending::open(address, how)?;
    let access = Access::to_write(store, how.cache.clone(), remote::shown(address));
    let (reading, watch) = (how.reading_from(From::Address(address.to_owned())), how.watch.clone());
    let (owners, signing) = (Some(Arc::new(owners) as Arc<Owners>), how.signing.clone());
    Ok(Access { owners, reading, watch, signing, ..access })
}

/// Whether what is at an address is a container of this project.
pub fn is_container(address: &str, how: &How) -> Result<bool> {
    let bytes = far::bytes(address, how)?;
    Ok(formats::recognise(&*bytes, &remote::shown(address))? == Some("st"))
}

/// A writer whose commits are durable when they are on the server.
pub struct Published {
    inner: Arc<dyn Writer>,
    store: Arc<dyn Store>,
}

impl Published {
    pub fn new(inner: Arc<dyn Writer>, store: Arc<dyn Store>) -> Self {
        Self { inner, store }
    }

    fn publish<T>(&self, done: T) -> Result<T> {
        self.store.publish().map(|()| done)
    }
}

impl Writer for Published {
    fn first_new_node(&self) -> u64 {
        self.inner.first_new_node()
    }

    fn reserve(&self, bytes: u64, entries: u64) -> Result<()> {
        self.inner.reserve(bytes, entries)
    }

    fn commit(&self, changes: &Changes) -> Result<Arc<dyn Tree>> {
        self.publish(self.inner.commit(changes)?)
    }

    fn name_state(&self, name: &str, keep: bool) -> Result<()> {
        self.publish(self.inner.name_state(name, keep)?)
    }

    fn upkeep(&self, when: Give, show: &mut dyn FnMut(Arc<dyn Tree>)) -> Result<u64> {
        self.inner.upkeep(when, show)
    }

    fn settle(&self, watch: &dyn Watch, show: &mut dyn FnMut(Arc<dyn Tree>)) -> Result<Settled> {
        self.inner.settle(watch, show)
    }

    fn protect(&self, watch: &dyn Watch) -> Result<()> {
        self.publish(self.inner.protect(watch)?)
    }

    fn flush(&self, watch: &dyn Watch) -> Result<()> {
        self.inner.flush(watch)?;
        self.store.publish()
    }

    fn outgoing(&self) -> Option<Outgoing> {
        self.inner.outgoing()
    }

    fn unsettled(&self) -> Settled {
        self.inner.unsettled()
    }

    fn restore(&self, state: &str) -> Result<()> {
        self.publish(self.inner.restore(state)?)
    }

    fn differences(&self) -> Result<BTreeMap<Vec<u8>, Difference>> {
        self.inner.differences()
    }

    fn settling(&self) -> Option<(u64, u64)> {
        self.inner.settling()
    }

    fn compact(&self, watch: &dyn Watch) -> Result<()> {
        self.inner.compact(watch)
    }

    fn holds(&self) -> &'static Holds {
        self.inner.holds()
    }

    fn root(&self) -> Option<Root> {
        self.inner.root()
    }

    fn sequence(&self) -> u64 {
        self.inner.sequence()
    }

    fn refuge(&self) -> Option<PathBuf> {
        self.inner.refuge()
    }

    fn free(&self) -> Result<u64> {
        self.inner.free()
    }
}
