//! From a location to a [`Volume`]: a folder is a tree by itself, a file is opened by the format that recognises it.

use crate::cache::Cache;
use crate::error::{Error, Result};
use crate::formats::{self, Access, Volume, folder::Folder};
use crate::source::{FileSource, ReadAt};
use std::path::Path;
use std::sync::Arc;

/// Opens a folder or a container.
pub fn open(path: &Path, cache: Arc<Cache>) -> Result<Volume> {
    let meta = std::fs::metadata(path).map_err(|e| {
        let e = Error::io(e, format!("cannot open {}", path.display()));
        if path == Path::new("-") { e.hint("a file: only unpack reads from a pipe") } else { e }
    })?;
    if meta.is_dir() {
        return Ok(Volume::read_only(Arc::new(Folder::open(path)?), "folder"));
    }
    let bytes = Arc::new(FileSource::open(path)?);
    formats::open(Access { bytes, cache, name: path.display().to_string() })
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
