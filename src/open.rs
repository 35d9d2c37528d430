//! From a location to a [`Volume`]: a folder is a tree by itself, a file is opened by the format that recognises it.

use crate::cache::Cache;
use crate::error::{Error, Result};
use crate::formats::{self, Access, Volume, folder::Folder};
use crate::source::FileSource;
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
