//! From a location to a [`Volume`]: a folder is a tree by itself, a file is opened by the format that recognises it.

mod follow;
pub mod process;
mod record;

pub use follow::follow;
pub use record::{Claim, record_of};

use crate::cache::Cache;
use crate::error::{Error, Kind, Result, Within};
use crate::formats::{self, Access, Upkeep, Volume, folder};
use crate::source::{FileSource, Held, ReadAt};
use crate::tree::Owner;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Opens a folder or a container.
///
/// `FILE@STATE` is an earlier state of a container, by its name or the number of its commit; a file of that name comes
/// first.
pub fn open(path: &Path, cache: Arc<Cache>) -> Result<Volume> {
    if let Some((file, state)) = with_state(path) {
        let name = path.display().to_string();
        return formats::open(Access { state: Some(state), name, ..access(&file, cache)? });
    }
    let meta = std::fs::metadata(path).map_err(|e| {
        let e = Error::io(e, format!("cannot open {}", path.display()));
        if path == Path::new("-") { e.hint("a file: only unpack reads from a pipe") } else { e }
    })?;
    if meta.is_dir() {
        return Ok(Volume::read_only(Arc::new(folder::Folder::open(path)?), "folder"));
    }
    formats::open(access(path, cache)?)
}

/// Access to the bytes of a file, which a writer leaves where they are as long as this is open.
pub fn access(path: &Path, cache: Arc<Cache>) -> Result<Access> {
    let file = FileSource::open(path)?;
    file.lock_shared();
    Ok(Access::to_read(Arc::new(file), cache, path.display().to_string()))
}

/// Access to the bytes of a file, to change them, with its lock.
///
/// # Errors
/// `Locked` when somebody else has it open to change it.
pub fn access_to_write(path: &Path, cache: Arc<Cache>) -> Result<Access> {
    claimed(path, cache, &Claim::default())
}

fn claimed(path: &Path, cache: Arc<Cache>, claim: &Claim) -> Result<Access> {
    let held = Held::open(path).map_err(|e| record::named(path, e)).within(|| path.display())?;
    record::claim(&held, claim).within(|| path.display())?;
    let held = Arc::new(held);
    let access = Access::to_write(held.clone(), cache, path.display().to_string());
    Ok(Access { held: Some(held), owners: Some(Arc::new(owners)), ..access })
}

/// Opens a container to change it, and holds its lock from then on. What can only be read is opened to be read; then the
/// volume has no writer.
///
/// # Errors
/// `Locked` when somebody else has it open to change it.
pub fn open_to_write(path: &Path, cache: Arc<Cache>) -> Result<Volume> {
    open_claimed(path, cache, &Claim::default(), Upkeep::default())
}

/// The same, for a mount.
pub fn open_claimed(path: &Path, cache: Arc<Cache>, claim: &Claim, upkeep: Upkeep) -> Result<Volume> {
    if path.is_dir() || with_state(path).is_some() {
        return open(path, cache);
    }
    match claimed(path, cache.clone(), claim) {
        Ok(access) => formats::open(Access { upkeep, ..access }),
        Err(e) if matches!(e.kind(), Kind::Denied | Kind::ReadOnly) => open(path, cache),
        Err(e) => Err(e),
    }
}

/// Parts `FILE@STATE`, when there is no file that is called so as a whole.
pub fn with_state(path: &Path) -> Option<(PathBuf, String)> {
    if path.symlink_metadata().is_ok() {
        return None;
    }
    let name = path.file_name()?.to_str()?;
    let (file, state) = name.rsplit_once('@')?;
    let file = path.with_file_name(file);
    file.is_file().then(|| (file, state.to_owned()))
}

fn owners(uid: u32, gid: u32) -> Owner {
    Owner { user: folder::user_name(uid), group: folder::group_name(gid) }
}

/// What a container is opened by is at its ends.
const ENDS: u64 = 512 << 10;

/// Asks the system to fetch what [`open`] will read, without waiting for it.
pub fn expect(path: &Path) {
    // Opening anything else than a file may wait. Whoever opens it for good tells what is wrong with it.
    if !path.is_file() {
        return;
    }
    let Ok(file) = FileSource::open(path) else { return };
    if let Ok(len) = file.len() {
        file.will_read(0..ENDS.min(len) / 8);
        file.will_read(len.saturating_sub(ENDS)..len);
    }
}
