//! From a location to a [`Volume`]: a folder is a tree by itself, a file is opened by the format that recognises it.

use crate::cache::Cache;
use crate::error::{Error, Kind, Result, Within};
use crate::formats::{self, Access, Volume, folder::Folder};
use crate::source::{FileSource, ReadAt};
use crate::tree::Owner;
use nix::unistd::{Gid, Group, Uid, User};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Opens a folder or a container.
///
/// `FILE@STATE` is an earlier state of a container, by its name or the number of its commit; a file of that name comes
/// first.
pub fn open(path: &Path, cache: Arc<Cache>) -> Result<Volume> {
    if let Some((file, state)) = with_state(path) {
        let bytes = Arc::new(FileSource::open(&file)?);
        let name = path.display().to_string();
        return formats::open(Access { bytes, store: None, owners: None, state: Some(state), cache, name });
    }
    let meta = std::fs::metadata(path).map_err(|e| {
        let e = Error::io(e, format!("cannot open {}", path.display()));
        if path == Path::new("-") { e.hint("a file: only unpack reads from a pipe") } else { e }
    })?;
    if meta.is_dir() {
        return Ok(Volume::read_only(Arc::new(Folder::open(path)?), "folder"));
    }
    let bytes = Arc::new(FileSource::open(path)?);
    formats::open(Access { bytes, store: None, owners: None, state: None, cache, name: path.display().to_string() })
}

/// Opens a container to change it, and holds its lock from then on. What can only be read is opened to be read; then the
/// volume has no writer.
///
/// # Errors
/// `Locked` when somebody else has it open to change it.
pub fn open_to_write(path: &Path, cache: Arc<Cache>) -> Result<Volume> {
    if path.is_dir() || with_state(path).is_some() {
        return open(path, cache);
    }
    let file = match FileSource::open_to_write(path) {
        Ok(file) => Arc::new(file),
        Err(e) if matches!(e.kind(), Kind::Denied | Kind::ReadOnly) => return open(path, cache),
        Err(e) => return Err(e),
    };
    file.lock().within(|| path.display())?;
    let name = path.display().to_string();
    formats::open(Access {
        bytes: file.clone(),
        store: Some(file),
        owners: Some(Arc::new(owners)),
        state: None,
        cache,
        name,
    })
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

/// What this system calls a user and a group.
fn owners(uid: u32, gid: u32) -> Owner {
    let user = User::from_uid(Uid::from_raw(uid)).ok().flatten();
    let group = Group::from_gid(Gid::from_raw(gid)).ok().flatten();
    Owner { user: user.map(|user| user.name), group: group.map(|group| group.name) }
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
