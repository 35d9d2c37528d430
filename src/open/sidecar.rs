//! Where the journal of an archive lies: beside it, `NAME.stjournal`, or among the caches of the user where nobody may write
//! to its directory.

use crate::error::{Error, Kind, Result};
use crate::formats::journal::Journals;
use crate::source::{FileSource, Store};
use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const ENDING: &str = ".stjournal";

/// The journal of one archive.
pub struct Sidecar {
    places: Vec<PathBuf>,
}

impl Sidecar {
    /// That of an archive; `caches` is the directory for what can be written nowhere else.
    pub fn of(archive: &Path, caches: Option<&Path>) -> Self {
        let archive = archive.canonicalize().unwrap_or_else(|_| archive.to_owned());
        let mut beside = archive.clone().into_os_string();
        beside.push(ENDING);
        let key = blake3::hash(archive.as_os_str().as_bytes()).to_hex();
        let aside = caches.map(|dir| dir.join("journal").join(format!("{key}{ENDING}")));
        Self { places: [beside.into()].into_iter().chain(aside).collect() }
    }

    fn there(&self) -> Option<&PathBuf> {
        self.places.iter().find(|place| place.symlink_metadata().is_ok())
    }
}

/// A journal with a place of its own.
pub(super) struct At(pub PathBuf);

impl Journals for At {
    fn open(&self) -> Result<Option<Arc<dyn Store>>> {
        match FileSource::open_to_write(&self.0) {
            Ok(file) => Ok(Some(Arc::new(file))),
            Err(e) if e.kind() == Kind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }

    fn create(&self) -> Result<Arc<dyn Store>> {
        let made = create_at(&self.0);
        let made = made.map_err(|e| Error::io(e, format!("cannot make the journal {}", self.0.display())))?;
        Ok(Arc::new(FileSource::new(made)))
    }

    fn remove(&self) -> Result<()> {
        match std::fs::remove_file(&self.0) {
            Err(e) if e.kind() != ErrorKind::NotFound => Err(Error::io(e, "cannot remove the journal")),
            _ => Ok(()),
        }
    }

    fn path(&self) -> PathBuf {
        self.0.clone()
    }
}

/// A new empty file for a journal, in place of what is there.
fn create_at(place: &Path) -> std::io::Result<File> {
    let dir = place.parent().unwrap_or(Path::new("/"));
    if let Err(e) = std::fs::remove_file(place)
        && e.kind() != ErrorKind::NotFound
    {
        return Err(e);
    }
    // Nobody else's business, whoever may read the archive.
    let file = File::options().read(true).write(true).create_new(true).mode(0o600).open(place)?;
    File::open(dir)?.sync_all()?;
    Ok(file)
}

impl Journals for Sidecar {
    fn open(&self) -> Result<Option<Arc<dyn Store>>> {
        let Some(place) = self.there() else { return Ok(None) };
        Ok(Some(Arc::new(FileSource::open_to_write(place)?)))
    }

    fn create(&self) -> Result<Arc<dyn Store>> {
        let mut failed = None;
        for (number, place) in self.places.iter().enumerate() {
            if number > 0 {
                use std::os::unix::fs::DirBuilderExt;
                let dir = place.parent().unwrap_or(Path::new("/"));
                let _ = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir);
            }
            match create_at(place) {
                Ok(file) => return Ok(Arc::new(FileSource::new(file))),
                Err(e) if e.kind() == ErrorKind::StorageFull => return Err(Error::io(e, "cannot make the journal")),
                Err(e) => failed = failed.or(Some((e, place))),
            }
        }
        let (e, place) = failed.expect("there is a place");
        Err(Error::io(e, format!("cannot make the journal {}", place.display())))
    }

    fn remove(&self) -> Result<()> {
        let Some(place) = self.there() else { return Ok(()) };
        std::fs::remove_file(place).map_err(|e| Error::io(e, "cannot remove the journal"))
    }

    fn path(&self) -> PathBuf {
        self.there().unwrap_or(&self.places[0]).clone()
    }
}
