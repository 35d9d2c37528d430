//! Archives that take changes by being written anew.
//!
//! ```text
//!   the archive with its changes ─► a file beside it without a name ─► sync ─► noted ─► renamed over the archive
//! ```
//!
//! Until the rename the archive is what it was; who reads the old one reads on in it. Where a format can take what is new at
//! its end, and nothing else has changed, it is done there.

use super::{Access, Holds, Notes, Settle, Task, Undo, Volume, Watch};
use crate::error::{Error, Kind, Result, Within};
use crate::pool::lock;
use crate::source::{FileSource, Held, ReadAt, Stamp, Standing, Store};
use crate::tree::{Merged, Renumbered, Time, Tree, first_difference, path_display};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

/// How archives of one format are written.
pub trait Remake: Send + Sync {
    /// What there is room for in it.
    fn holds(&self) -> &'static Holds;

    /// Writes the archive with its changes, whole, into an empty file.
    fn write(&self, merged: &Merged, archive: &Renumbered, out: &Held, watch: &dyn Watch) -> Result<()>;

    /// Writes the changes behind what is there, when that is all there is to do, and tells how that is undone. After an error
    /// the archive is as it was.
    fn append(
        &self,
        _held: &Held,
        _merged: &Merged,
        _archive: &Renumbered,
        _notes: &mut dyn Notes,
        _watch: &dyn Watch,
    ) -> Result<Option<Undo>> {
        Ok(None)
    }

    /// Opens what was written, and goes on with that.
    fn open(&self, access: Access) -> Result<Volume>;
}

/// An archive that takes changes by being written anew.
pub struct Rebuild<R> {
    access: Access,
    held: Arc<Held>,
    remake: R,
}

impl<R: Remake> Rebuild<R> {
    /// Takes over an archive that is held.
    pub fn new(access: Access, held: Arc<Held>, remake: R) -> Self {
        Self { access, held, remake }
    }

    fn settled(&self, task: &Task<'_>, notes: &mut dyn Notes) -> Result<Arc<dyn Tree>> {
        let Task { merged, archive, anew, watch } = *task;
        stand_by(&self.held)?;
        let appended = if anew { None } else { self.remake.append(&self.held, merged, archive, notes, watch)? };
        let Some(undo) = appended else { return self.anew(task, notes) };
        let opened = self.open(self.held.file()).and_then(|tree| verified(merged, tree));
        opened.or_else(|e| {
            undo.apply(&*self.held)?;
            self.open(self.held.file())?;
            Err(e)
        })
    }

    fn anew(&self, task: &Task<'_>, notes: &mut dyn Notes) -> Result<Arc<dyn Tree>> {
        let Task { merged, archive, watch, .. } = *task;
        self.has_room(merged)?;
        let draft = self.held.sibling()?;
        self.remake.write(merged, archive, &draft, watch)?;
        draft.sync()?;
        let opened = self.open(draft.file()).and_then(|tree| verified(merged, tree));
        let done = opened.and_then(|tree| {
            notes.expect(&Stamp::of(&draft)?)?;
            self.held.supplant(draft)?;
            Ok(tree)
        });
        // It stays with the archive that is there.
        done.inspect_err(|_| drop(self.open(self.held.file())))
    }

    fn open(&self, bytes: Arc<FileSource>) -> Result<Arc<dyn Tree>> {
        Ok(self.remake.open(Access { bytes, ..self.access.clone() })?.tree)
    }

    /// Looks for room first: not for all that it could take at the worst, but for what it most likely will.
    fn has_room(&self, merged: &Merged) -> Result<()> {
        let needed = self.held.len()?.saturating_add(merged.changes().touched());
        let free = self.held.free()?;
        if needed <= free {
            return Ok(());
        }
        let mib = |bytes: u64| bytes.div_ceil(1 << 20);
        let what = format!("it is written anew beside the old one: {} MiB are needed, {} free", mib(needed), mib(free));
        Err(Error::new(Kind::NoSpace, what).hint("the changes are in the journal: make room, then `stmount commit`"))
    }
}

/// Makes sure that an archive may be written to. One that somebody else has put another in the place of goes on as a copy
/// beside that, `NAME.conflict-DATE`.
///
/// # Errors
/// `Changed` when somebody else has written to it.
pub fn stand_by(held: &Held) -> Result<()> {
    match held.standing()? {
        Standing::Ours => Ok(()),
        Standing::Away => {
            let refuge = held.move_away(held.len()?, &Time::now().stamp())?;
            log::error!("another file is where the archive was: the changes go to {}", refuge.display());
            Ok(())
        }
        Standing::Altered => Err(Error::new(Kind::Changed, "it was changed by somebody else")
            .hint("the changes are in the journal, and are not written over what others have done")),
    }
}

/// A tree as it was written, which shows what it should.
///
/// # Errors
/// `Damaged` when it does not: then it must not take the place of anything.
pub fn verified(wanted: &dyn Tree, written: Arc<dyn Tree>) -> Result<Arc<dyn Tree>> {
    match first_difference(wanted, &*written)? {
        None => Ok(written),
        Some(path) => {
            let what = format!("{}: it would not be in the archive as it is", path_display(&path));
            Err(Error::new(Kind::Damaged, what).hint("the archive stays as it was, and the changes in the journal"))
        }
    }
}

impl<R: Remake> Settle for Rebuild<R> {
    fn stamp(&self) -> Result<Stamp> {
        Stamp::of(&*self.held)
    }

    fn settle(&self, task: &Task<'_>, notes: &mut dyn Notes) -> Result<Arc<dyn Tree>> {
        self.settled(task, notes).within(|| &self.access.name)
    }

    fn holds(&self) -> &'static Holds {
        self.remake.holds()
    }

    fn refuge(&self) -> Option<PathBuf> {
        self.held.refuge()
    }

    fn free(&self) -> Result<u64> {
        self.held.free()
    }
}

/// Remembers the first entry that could not be read: nothing may be missing.
pub struct First<'a> {
    watch: &'a dyn Watch,
    error: Mutex<Option<(Kind, String)>>,
}

impl<'a> First<'a> {
    pub fn new(watch: &'a dyn Watch) -> Self {
        Self { watch, error: Mutex::default() }
    }

    /// Nothing, when all could be read.
    pub fn done(self) -> Result<()> {
        let is_whole = lock(&self.error).is_none();
        if is_whole { Ok(()) } else { Err(self.into_error()) }
    }

    pub fn into_error(self) -> Error {
        let (kind, what) = lock(&self.error).take().unwrap_or((Kind::Damaged, "an entry cannot be read".into()));
        Error::new(kind, what)
    }
}

impl Watch for First<'_> {
    fn advance(&self, bytes: u64, entries: u64) {
        self.watch.advance(bytes, entries);
    }
    fn entry(&self, path: &[u8]) {
        self.watch.entry(path);
    }
    fn skipped(&self, path: &[u8], why: &Error) {
        lock(&self.error).get_or_insert_with(|| (why.kind(), format!("{}: {why}", path_display(path))));
    }
    fn is_cancelled(&self) -> bool {
        self.watch.is_cancelled()
    }
}

/// Bytes with others in the place of some of them.
pub struct Patched<'a> {
    pub under: &'a dyn ReadAt,
    pub at: u64,
    pub bytes: &'a [u8],
}

impl ReadAt for Patched<'_> {
    fn len(&self) -> Result<u64> {
        Ok(self.under.len()?.max(self.at + self.bytes.len() as u64))
    }

    fn read_at(&self, at: u64, into: &mut [u8]) -> Result<usize> {
        let want = into.len().min(usize::try_from(self.len()?.saturating_sub(at)).unwrap_or(usize::MAX));
        let got = self.under.read_at(at, &mut into[..want])?;
        into[got..want].fill(0);
        let (start, end) = (at.max(self.at), (at + want as u64).min(self.at + self.bytes.len() as u64));
        if start < end {
            let from = (start - self.at) as usize;
            into[(start - at) as usize..(end - at) as usize]
                .copy_from_slice(&self.bytes[from..from + (end - start) as usize]);
        }
        Ok(want)
    }
}

/// A place in a file, as somewhere to write to.
pub struct Onto<'a> {
    pub store: &'a dyn Store,
    pub at: u64,
}

impl Write for Onto<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.store.write_at(self.at, bytes).map_err(as_io)?;
        self.at += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for Onto<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let moved = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
            SeekFrom::End(by) => self.store.len().map_err(as_io)?.checked_add_signed(by),
        };
        self.at = moved.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.at)
    }
}

/// That a disk is full stays known.
fn as_io(e: Error) -> io::Error {
    match e.kind() {
        Kind::NoSpace => io::ErrorKind::StorageFull.into(),
        _ => io::Error::other(e),
    }
}
