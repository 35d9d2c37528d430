//! Changes go into a 7z.
//!
//! ```text
//!   old   │ start │ block │ block │ block │ block │ list │
//!                    copied  copied    ╎    copied
//!                                      └ what is left of it is packed anew, with what is new, in small blocks
//!   new   │ start │ block │ block │ block │ new block │ new list │              in a file beside it, renamed over it
//! ```
//!
//! A block is copied, byte by byte, as long as all its files are there with the contents that they had: names, modes and
//! times are in the list alone. What is packed anew is packed by LZMA2, whatever packed it before. What is encrypted stays so,
//! and what is new in an encrypted archive is encrypted by the same password; the list is encrypted when it was.
//!
//! ```text
//!   plan    what becomes of each entry, and so of each block       out      the archive that is written
//!   encode  contents of a block, packed                            header   the list of entries, written
//! ```

mod encode;
mod header;
mod out;
mod plan;

use super::cipher::Lock;
use super::contents::{Keyring, locks_of};
use super::{Opened, opened, pack};
use crate::error::{Error, Kind, Result, Within};
use crate::formats::{Access, Holds, Rebuild, Remake, Settling, Volume, Watch};
use crate::key::Secret;
use crate::pool::lock;
use crate::source::Held;
use crate::tree::{Merged, Renumbered};
use encode::Encoder;
use out::{Origin, Out};
use std::sync::{Arc, Mutex};

/// Level of compression where nobody says one: somebody waits for it.
const LEVEL: u8 = 3;

/// A 7z that takes changes.
struct SevenZFile {
    level: u8,
    /// Of an archive that is encrypted.
    password: Option<Secret>,
    now: Mutex<Arc<Opened>>,
}

/// Opens a 7z to change it.
///
/// # Errors
/// `ReadOnly` when what is written could not be all that was there; `NeedsPassword` when what is new would lie there in clear.
pub fn open(access: Access, format: &'static str) -> Result<Option<Settling>> {
    let Some(held) = access.held.clone() else { return Ok(None) };
    let name = access.name.clone();
    let access = Access { bytes: held.file(), ..access };
    let (volume, opened) =
        opened(access.clone(), format, Keyring::default()).map_err(|e| of_pieces(&name, e)).within(|| &name)?;
    if let Some(flaw) = &opened.flaw {
        return Err(Error::new(Kind::ReadOnly, format!("{name}: it cannot be changed: {flaw}"))
            .hint("without -o rw it is mounted to be read; stmount convert makes a whole one of it"));
    }
    let password = password(&opened).within(|| name)?;
    let first_new = opened.first_new;
    let level = access.level.unwrap_or(LEVEL);
    let file = SevenZFile { level, password: password.clone(), now: Mutex::new(Arc::new(opened)) };
    let settle = Arc::new(Rebuild::new(access, held, file));
    Ok(Some(Settling { volume, settle, first_new, password }))
}

/// The error of an archive of which only the first piece was opened.
fn of_pieces(name: &str, e: Error) -> Error {
    let is_piece =
        name.rsplit_once('.').is_some_and(|(_, end)| !end.is_empty() && end.bytes().all(|b| b.is_ascii_digit()));
    if e.kind() != Kind::Header || !is_piece {
        return e;
    }
    Error::new(Kind::ReadOnly, "it is a piece of an archive, and only whole ones take changes")
        .hint("join the pieces, `cat NAME.7z.* >NAME.7z`; without -o rw they are mounted to be read")
        .caused_by(e)
}

/// The password of an archive that is encrypted.
fn password(opened: &Opened) -> Result<Option<Secret>> {
    if !opened.is_encrypted() {
        return Ok(None);
    }
    let archive = &opened.archive;
    if archive.keyring.last().is_none() && !archive.reading.force {
        archive.try_password()?;
    }
    archive.keyring.last().map(Some).ok_or_else(|| {
        Error::new(Kind::NeedsPassword, "it is encrypted, and its password is not known")
            .hint("--password-file FILE, without -o force")
    })
}

impl SevenZFile {
    fn encoder(&self, now: &Opened) -> Result<Encoder> {
        let Some(password) = &self.password else { return Ok(Encoder { level: self.level, seal: None }) };
        let streams = &now.archive.streams;
        let locks = (0..streams.blocks.len() as u32).map(|block| locks_of(streams, block));
        let known = locks.filter_map(Result::ok).flatten().find(Lock::is_strong);
        let lock = known.or_else(|| now.lock.clone()).map_or_else(Lock::new, Ok)?;
        let key = now.archive.keyring.key(password, &lock);
        Ok(Encoder { level: self.level, seal: Some((lock, key)) })
    }
}

impl Remake for SevenZFile {
    fn holds(&self) -> &'static Holds {
        &pack::HOLDS
    }

    fn write(&self, merged: &Merged, archive: &Renumbered, out: &Held, watch: &dyn Watch) -> Result<()> {
        let now = lock(&self.now).clone();
        let plan = plan::plan(&now, merged, archive, watch)?;
        watch.total(plan.packed.iter().map(|entry| entry.len).sum(), plan.packed.len() as u64);
        let encoder = self.encoder(&now)?;
        let mut out = Out::new(out, &encoder, watch);
        out.copy(&now.archive, &plan.kept)?;
        out.pack(&plan.packed, Origin { merged, archive })?;
        // Nothing else would tell that what comes next is to be encrypted.
        let is_locked = now.is_locked || (self.password.is_some() && !out.has_locks());
        out.finish(&plan, is_locked)
    }

    fn open(&self, access: Access) -> Result<Volume> {
        let name = access.name.clone();
        let keyring = lock(&self.now).archive.keyring.handed_on();
        let (volume, opened) = opened(access, "7z", keyring).within(|| name)?;
        *lock(&self.now) = Arc::new(opened);
        Ok(volume)
    }
}
