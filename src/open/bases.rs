//! Where bases are looked for, in this order:
//!
//! ```text
//!   --base, -o base=     files, folders, stores and addresses that somebody names
//!   STMOUNT_BASES        folders, with : between them: the containers and stores in them
//!   beside the file      under the name that it knows, and then every .st and every store in the same folder
//!   hints                paths from the file on; addresses, where somebody allows that, or at the server of the file itself
//! ```
//!
//! What is found has the right identity, and nothing more: what is read there is compared with its hash. Only regular files
//! and folders are looked at, since a hint is the word of whoever made the container.

use super::store::{self, FarObjects};
use super::{How, far};
use crate::cache::Cache;
use crate::error::{Error, Kind, Result};
use crate::formats::{self, Access, Base, Bases, FoundBase, Reading, Wanted};
use crate::remote;
use crate::source::ReadAt;
use crate::source::objects::{FolderObjects, Objects};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Files of a folder that are looked at.
const MOST: usize = 4096;

/// The variable with folders.
const FOLDERS: &str = "STMOUNT_BASES";

/// Where somebody says that bases are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Places {
    /// Files, folders, and addresses.
    pub named: Vec<PathBuf>,
    /// Addresses that a container names are asked, whatever server that is.
    pub follows_hints: bool,
}

/// Where a container is that lies over something.
#[derive(Clone)]
pub enum From {
    Dir(PathBuf),
    Address(String),
}

impl How {
    /// How a container is read that is there.
    pub(super) fn reading_from(&self, from: From) -> Arc<Reading> {
        let bases = Finder { how: self.clone(), from };
        Arc::new(Reading { bases: Some(Arc::new(bases)), ..(*self.reading).clone() })
    }

    /// The same for a file.
    pub(super) fn reading_of(&self, path: &Path) -> Arc<Reading> {
        let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
        self.reading_from(From::Dir(dir.to_owned()))
    }
}

struct Finder {
    how: How,
    from: From,
}

impl Bases for Finder {
    fn find(&self, wanted: &Wanted) -> Result<Option<FoundBase>> {
        let mut failed = None;
        for place in self.places(wanted) {
            match self.try_place(&place, wanted) {
                Ok(Some(found)) => return Ok(Some(found)),
                Ok(None) => {}
                Err(e) => {
                    log::info!("{}: {e}", place.display());
                    // Another place may have it: what cannot be asked counts only when none has.
                    failed = failed.or(Some(e).filter(is_worth_telling));
                }
            }
        }
        failed.map_or(Ok(None), Err)
    }
}

/// Whether a place that fails so may have had the base.
fn is_worth_telling(e: &Error) -> bool {
    matches!(e.kind(), Kind::Unreachable | Kind::TimedOut | Kind::NotLetIn | Kind::Locked)
}

impl Finder {
    fn places(&self, wanted: &Wanted) -> Vec<PathBuf> {
        let mut places = self.how.bases.named.clone();
        let folders = std::env::var_os(FOLDERS).unwrap_or_default();
        places.extend(std::env::split_paths(&folders).filter(|dir| !dir.as_os_str().is_empty()));
        match &self.from {
            From::Dir(dir) => {
                let local = wanted.hints.iter().filter(|hint| remote::is_address(Path::new(hint)).is_none());
                places.extend(local.map(|hint| dir.join(hint)));
                places.push(dir.clone());
            }
            From::Address(address) => {
                let names = wanted.hints.iter().filter_map(|hint| remote::beside(address, hint));
                places.extend(names.map(PathBuf::from));
            }
        }
        let far = wanted.hints.iter().filter(|hint| self.may_ask(hint));
        places.extend(far.map(PathBuf::from));
        places
    }

    /// Whether a hint is an address that is asked.
    fn may_ask(&self, hint: &str) -> bool {
        let Some(address) = remote::is_address(Path::new(hint)) else { return false };
        let is_same = match &self.from {
            From::Address(from) => remote::is_same_server(from, address),
            From::Dir(_) => false,
        };
        is_same || self.how.bases.follows_hints
    }

    fn try_place(&self, place: &Path, wanted: &Wanted) -> Result<Option<FoundBase>> {
        if let Some(address) = remote::is_address(place) {
            return self.far(address, wanted);
        }
        if place.is_dir() {
            return self.in_folder(place, wanted);
        }
        if wanted.is_store || !place.is_file() {
            return Ok(None);
        }
        of_file(place, &self.how, wanted)
    }

    /// A store, or what lies in a folder.
    fn in_folder(&self, dir: &Path, wanted: &Wanted) -> Result<Option<FoundBase>> {
        if let Some(store) = FolderObjects::open(dir)? {
            let is_it = wanted.is_store && store.uid() == wanted.uid;
            return Ok(is_it.then(|| of_objects(store)));
        }
        let listed = std::fs::read_dir(dir).map_err(|e| Error::io(e, format!("cannot list {}", dir.display())))?;
        let mut paths: Vec<PathBuf> = listed.filter_map(|entry| Some(entry.ok()?.path())).take(MOST).collect();
        paths.sort();
        for path in paths {
            let found = match wanted.is_store {
                true => {
                    FolderObjects::open(&path).unwrap_or(None).filter(|store| store.uid() == wanted.uid).map(of_objects)
                }
                false if is_st(&path) && path.is_file() => of_file(&path, &self.how, wanted).unwrap_or(None),
                false => None,
            };
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    fn far(&self, address: &str, wanted: &Wanted) -> Result<Option<FoundBase>> {
        let place = remote::shown(address);
        if wanted.is_store {
            let store = FarObjects::open(address, &self.how)?.filter(|store| store.uid() == wanted.uid);
            return Ok(store.map(|store| FoundBase { base: Base::Objects(Arc::new(store)), place, below: None }));
        }
        let bytes = match far::bytes(address, &self.how) {
            Err(e) if e.kind() == Kind::NotFound => return Ok(None),
            bytes => bytes?,
        };
        let is_it = uid(bytes.clone(), &place)? == Some(wanted.uid);
        let below = self.how.reading_from(From::Address(address.to_owned())).bases.clone();
        Ok(is_it.then(|| FoundBase { base: Base::Container(bytes), place, below }))
    }
}

fn is_st(path: &Path) -> bool {
    path.extension().is_some_and(|ending| ending == "st")
}

fn of_objects(objects: FolderObjects) -> FoundBase {
    let place = objects.place();
    FoundBase { base: Base::Objects(Arc::new(objects)), place, below: None }
}

fn of_file(path: &Path, how: &How, wanted: &Wanted) -> Result<Option<FoundBase>> {
    // As whatever is opened to be read: of several volumes it is all of them, and a writer leaves segments where they are.
    let access = super::access(path, &How { indexes: None, ..how.clone() })?;
    let is_it = formats::uid(&access)? == Some(wanted.uid);
    let below = access.reading.bases.clone();
    Ok(is_it.then(|| FoundBase { base: Base::Container(access.bytes), place: access.name, below }))
}

fn uid(bytes: Arc<dyn ReadAt>, place: &str) -> Result<Option<[u8; 16]>> {
    formats::uid(&Access::to_read(bytes, Cache::new(0), place))
}

/// Opens a store of objects, in a folder or at an address; `None` when there is none.
pub fn objects(place: &Path, how: &How) -> Result<Option<Arc<dyn Objects>>> {
    if let Some(address) = remote::is_address(place) {
        let store = FarObjects::open(address, how)?;
        return Ok(store.map(|store| Arc::new(store) as Arc<dyn Objects>));
    }
    Ok(FolderObjects::open(place)?.map(|store| Arc::new(store) as Arc<dyn Objects>))
}

/// Makes a store of objects of an empty folder, which may be at an address.
///
/// # Errors
/// `Exists` when it is one already; `NotEmpty` when something else is in it.
pub fn make_store(place: &Path, uid: [u8; 16], how: &How) -> Result<()> {
    match remote::is_address(place) {
        Some(address) => store::make(address, uid, how),
        None => FolderObjects::init(place, uid).map(drop),
    }
}
