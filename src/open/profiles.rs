//! Which profile of what is opened is recorded, and which one is replayed.
//!
//! ```text
//!   record            reads are written down in DIR/profiles/NAME, or in the file that was named
//!   nothing said      the profile of this version that is there is replayed: fetched ahead, in its order
//! ```

use crate::error::Result;
use crate::source::profile::{self, Profile, Recorded, Version};
use crate::source::{Blocks, ReadAt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::UNIX_EPOCH;

/// What a person wishes of profiles.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Wish {
    /// Nothing, but for a mount, which replays.
    #[default]
    Unsaid,
    /// What was recorded is replayed.
    Replay,
    /// From this file.
    From(PathBuf),
    /// A new one is recorded.
    Record,
    /// In this file.
    RecordIn(PathBuf),
    Nothing,
}

/// Where profiles are, and what is to be done with them.
#[derive(Clone, Debug, Default)]
pub struct Profiles {
    dir: Option<PathBuf>,
    wish: Wish,
    /// A file that was named is for what is opened first.
    is_taken: Arc<AtomicBool>,
}

impl Wish {
    /// The same for a daemon, which works in another directory.
    pub fn of_mount(self, absolute: impl Fn(&Path) -> PathBuf) -> Self {
        match self {
            Self::Unsaid => Self::Replay,
            Self::From(path) => Self::From(absolute(&path)),
            Self::RecordIn(path) => Self::RecordIn(absolute(&path)),
            other => other,
        }
    }
}

impl Profiles {
    pub fn new(caches: Option<PathBuf>, wish: Wish) -> Self {
        Self { dir: caches.map(|dir| dir.join("profiles")), wish, is_taken: Arc::default() }
    }

    /// An object at the other end of a link, as it is to be read.
    ///
    /// # Errors
    /// A profile that was named and cannot be read or written.
    pub fn of_object(
        &self,
        blocks: Arc<Blocks>,
        shown: &str,
        stamp: Option<&str>,
        len: u64,
    ) -> Result<Arc<dyn ReadAt>> {
        let Some(stamp) = stamp.filter(|_| self.is_active()) else { return Ok(blocks) };
        let version = Version::new(shown, stamp, len);
        if let Some(profile) = self.known(&version)? {
            profile::replay(&profile, &blocks);
        }
        self.recorded(blocks, version)
    }

    /// The same of a file.
    pub fn of_file(&self, file: Arc<dyn ReadAt>, path: &Path) -> Result<Arc<dyn ReadAt>> {
        let changed = || path.metadata().ok()?.modified().ok()?.duration_since(UNIX_EPOCH).ok();
        let Some(changed) = Some(()).filter(|()| self.is_active()).and_then(|()| changed()) else { return Ok(file) };
        let shown = path.canonicalize().unwrap_or_else(|_| path.to_owned()).display().to_string();
        let version = Version::new(&shown, &changed.as_nanos().to_string(), file.len()?);
        if let Some(profile) = self.known(&version)? {
            profile::expect(&profile, &*file);
        }
        self.recorded(file, version)
    }

    fn is_active(&self) -> bool {
        !matches!(self.wish, Wish::Unsaid | Wish::Nothing)
    }

    fn is_first(&self) -> bool {
        !self.is_taken.swap(true, Relaxed)
    }

    fn known(&self, version: &Version) -> Result<Option<Profile>> {
        match &self.wish {
            Wish::Replay => {
                let Some(dir) = &self.dir else { return Ok(None) };
                Ok(Profile::read(&dir.join(version.file_name()), version).unwrap_or(None))
            }
            Wish::From(path) if self.is_first() => {
                let found = Profile::read(path, version)?;
                if found.is_none() {
                    log::warn!("{}: it is no profile of this version, and is not used", path.display());
                }
                Ok(found)
            }
            _ => Ok(None),
        }
    }

    fn recorded(&self, inner: Arc<dyn ReadAt>, version: Version) -> Result<Arc<dyn ReadAt>> {
        let path = match &self.wish {
            Wish::Record => self.dir.as_ref().map(|dir| dir.join(version.file_name())),
            Wish::RecordIn(path) if self.is_first() => Some(path.clone()),
            _ => None,
        };
        let Some(path) = path else { return Ok(inner) };
        Ok(Arc::new(Recorded::new(inner, version, path)?))
    }
}
