//! Stand-in.
use crate::cache::Cache;
use crate::error::{Error, Result};
use crate::formats::{Access, Volume, folder::Folder};
use crate::source::FileSource;
use std::path::Path;
use std::sync::Arc;
pub fn open(path: &Path, cache: Arc<Cache>) -> Result<Volume> {
    let meta = std::fs::metadata(path).map_err(|e| Error::io(e, format!("cannot open {}", path.display())))?;
    if meta.is_dir() {
        return Ok(Volume::read_only(Arc::new(Folder::open(path)?), "folder"));
    }
    let name = path.display().to_string();
    crate::formats::open(Access { bytes: Arc::new(FileSource::open(path)?), cache, name })
}
