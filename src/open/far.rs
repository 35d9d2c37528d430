//! Addresses, opened as files are: an object at the other end of a link is bytes like any other.
//!
//! ```text
//!   https://host/dir/game.st            the object                         source/blocks over remote/http
//!   https://host/dir/game.st@monday     an earlier state of it, when nothing is called so as a whole
//!   https://host/dir/                   the folder, as its server lists it
//!   https://host/dir/all.zip!disk.7z    a file inside of what is there, opened as an archive, and so on
//! ```

use super::amending;
use super::bases::From;
use super::beside::Indexes;
use super::outbox::{Left, Outbox};
use super::trust::{homeless, state_dir};
use super::{Claim, How};
use crate::error::{Error, Kind, Result, Within};
use crate::formats::{self, Access, Remembered, Volume, Volumes, Writer};
use crate::remote::{self, Asking, KeptShare, Link, Object, ShareTree};
use crate::source::{Blocks, Depot, Fleet, Kept, Limit, Meter, ReadAt, Ways};
use crate::tree::find_path;
use std::path::Path;
use std::sync::Arc;

/// How objects at the other end of a link are read.
#[derive(Clone)]
pub struct Far {
    pub link: Link,
    pub depot: Option<Arc<Depot>>,
    pub fleet: Arc<Fleet>,
    pub meter: Arc<Meter>,
}

impl Far {
    /// With what is kept below a directory, at most so many bytes of it, or nothing.
    pub fn new(link: Link, caches: Option<&Path>, most: u64) -> Self {
        let limit = link.rate.map(|rate| Arc::new(Limit::new(rate)));
        let fleet = Arc::new(Fleet::limited(link.connections, limit));
        let caches = caches.filter(|_| most > 0);
        Self { link, depot: caches.map(|dir| Depot::new(&dir.join("remote"), most)), fleet, meter: Arc::default() }
    }
}

impl Default for Far {
    fn default() -> Self {
        Self::new(Link::default(), None, 0)
    }
}

/// Opens what is at an address.
pub fn open(address: &str, how: &How) -> Result<Volume> {
    if !address.contains('!') && remote::is_folder(address) {
        return folder(address, how);
    }
    let mut parts = address.split('!');
    let named = parts.next().unwrap_or_default();
    let (outer, object, state) = object_of(named, how)?;
    if object.leads_to_directory && outer == address {
        return folder(address, how);
    }
    let (access, mut notes) = access_to(&outer, object, how)?;
    let (file, shown) = (access.name.clone(), remote::shown(named));
    let mut volume = formats::open(Access { state, name: shown.clone(), ..access })?;
    for inner in parts {
        let file = find_path(&*volume.tree, inner.as_bytes()).within(|| &shown)?;
        let bytes = volume.tree.open(file).within(|| &shown)?;
        let access = Access::to_read(bytes, how.cache.clone(), format!("{shown}!{inner}"));
        volume = formats::open(Access { reading: how.reading.clone(), watch: how.watch.clone(), ..access })?;
    }
    volume.notes.append(&mut notes);
    how.trust.judge(&file, volume)
}

/// The object at an address; or, when nothing is called so as a whole, that of `ADDRESS@STATE` and the state. The mirrors of such
/// an address are those of the file.
fn object_of(address: &str, how: &How) -> Result<(String, Object, Option<String>)> {
    let Some((file, state)) = remote::with_state(address) else {
        return Ok((address.to_owned(), object(address, how)?, None));
    };
    let missing = match other_object(address, how) {
        // What is kept, and the mirrors, may tell of the file when its server is gone.
        Err(e) if matches!(e.kind(), Kind::NotFound | Kind::Unreachable) => e,
        Err(e) if e.kind() == Kind::TimedOut && !how.far.link.mirrors.is_empty() => e,
        opened => return Ok((address.to_owned(), opened?, None)),
    };
    match object(&file, how) {
        Err(e) if e.kind() == Kind::NotFound => Err(missing),
        opened => Ok((file, opened?, Some(state))),
    }
}

/// Access to the bytes of an object, and what is to be told of it.
pub fn access(address: &str, how: &How) -> Result<Access> {
    access_to(address, object(address, how)?, how).map(|(access, _)| access)
}

impl How {
    /// How the servers of addresses are asked.
    pub fn asking(&self) -> Asking {
        let Far { link, depot, meter, .. } = self.far.clone();
        Asking { link, keys: self.reading.keys.clone(), depot, meter }
    }
}

/// The source itself, which may have mirrors.
fn object(address: &str, how: &How) -> Result<Object> {
    remote::open(address, &how.asking())
}

/// Anything else: the mirrors are not of it.
fn other_object(address: &str, how: &How) -> Result<Object> {
    let asking = how.asking();
    let link = Link { mirrors: Vec::new(), ..asking.link };
    remote::open(address, &Asking { link, ..asking })
}

/// Opens a folder of a server, to write to it.
///
/// # Errors
/// `ReadOnly` where nobody can write there.
pub fn open_to_write(address: &str, how: &How, claim: &Claim) -> Result<Volume> {
    let shown = remote::shown(address);
    let is_folder = !address.contains('!')
        && how.depth == 0
        && (remote::is_folder(address) || object(address, how).is_ok_and(|object| object.leads_to_directory));
    if !is_folder && !address.contains('!') && how.depth == 0 && amending::is_container(address, how)? {
        return container(address, how);
    }
    if !is_folder {
        return Err(Error::new(
            Kind::ReadOnly,
            format!("{shown}: of what is at an address, only folders and containers are written to"),
        )
        .hint("-o overlay=DIR takes changes and keeps them here"));
    }
    if !how.far.link.mirrors.is_empty() {
        return Err(
            Error::new(Kind::Usage, format!("{shown}: what has mirrors is only read")).hint("leave mirror= away")
        );
    }
    let states = state_dir().ok_or_else(homeless)?;
    let tree = Arc::new(share_tree(KeptShare::to_write(address, &how.asking())?, how)?);
    let (outbox, tree, left) = Outbox::open(&shown, tree, how.far.fleet.clone(), &states, claim)?;
    let mut notes = Vec::new();
    if left.entries > 0 {
        let Left { entries, bytes } = left;
        notes.push(format!("{entries} changes with {bytes} bytes of an earlier mount are going to the server"));
    }
    let (writer, cache) = (Some(Arc::new(outbox) as Arc<dyn Writer>), Some(how.cache.clone()));
    Ok(Volume { cache, writer, notes, ..Volume::read_only(tree, "remote folder") })
}

/// A container on a server, which is written to there.
fn container(address: &str, how: &How) -> Result<Volume> {
    super::open_admitted(how, amending::access(address, how)?)
}

/// A folder of a server, as a volume.
fn folder(address: &str, how: &How) -> Result<Volume> {
    let share = KeptShare::open(address, &how.asking())?;
    let notes = share.notes();
    let tree = Arc::new(share_tree(share, how)?);
    Ok(Volume { cache: Some(how.cache.clone()), notes, ..Volume::read_only(tree, "remote folder") })
}

/// A folder of a server, as a tree.
fn share_tree(share: KeptShare, how: &How) -> Result<ShareTree> {
    let (reading, far) = (how.clone(), &how.far);
    let opener = move |address: &str, object| Ok(Arc::new(blocks(address, object, &reading)?) as Arc<dyn ReadAt>);
    ShareTree::new(Box::new(share), Box::new(opener), far.fleet.clone(), far.link.patience)
}

fn access_to(address: &str, object: Object, how: &How) -> Result<(Access, Vec<String>)> {
    let shown = remote::shown(address);
    let (modified, notes, stamp) = (object.modified, object.notes.clone(), object.stamp.clone());
    let len = object.len;
    let bytes = Arc::new(blocks(address, object, how).within(|| &shown)?);
    let bytes = how.profiles.of_object(bytes, &shown, stamp.as_deref(), len)?;
    let dir = how.indexes.as_deref();
    let indexes = dir.zip(stamp).map(|(dir, stamp)| Indexes::called(dir, &[&shown, &stamp]));
    let memory = indexes.map(|indexes| Arc::new(indexes) as Arc<dyn Remembered>);
    let beside =
        remote::name_of(address).map(|name| Arc::new(Beside { address: address.to_owned(), name, how: how.clone() }));
    let volumes = beside.map(|beside| beside as Arc<dyn Volumes>);
    let access = Access::to_read(bytes, how.cache.clone(), shown);
    let reading = how.reading_from(From::Address(address.to_owned()));
    let access = Access { reading, watch: how.watch.clone(), memory, volumes, modified, ..access };
    Ok((formats::whole(access)?, notes))
}

/// The bytes of an object.
pub fn bytes(address: &str, how: &How) -> Result<Arc<dyn ReadAt>> {
    Ok(Arc::new(blocks(address, other_object(address, how)?, how)?))
}

pub(super) fn blocks(address: &str, object: Object, how: &How) -> Result<Blocks> {
    let Far { link, depot, fleet, meter } = &how.far;
    let address = object.found_at.as_deref().unwrap_or(address);
    let shelf = depot.as_ref().zip(object.stamp.as_ref()).and_then(|(depot, stamp)| {
        let shelf = depot.object(&remote::shown(address), object.len, stamp);
        shelf.inspect_err(|e| log::info!("nothing of {} is kept: {e}", remote::shown(address))).ok()
    });
    let kept = shelf.map(|shelf| Arc::new(shelf) as Arc<dyn Kept>);
    if object.far.is_forward() && kept.is_none() && object.len > how.cache.budget() / 2 {
        let what = "the server knows no parts of it, and there is nowhere to keep it while it comes";
        return Err(Error::new(Kind::Unsupported, what).hint("download it first; or leave nocache away"));
    }
    let (cache, patience) = (how.cache.clone(), link.patience);
    let ways = Ways { cache, fleet: fleet.clone(), kept, patience, meter: meter.clone() };
    let blocks = Blocks::new(object.far, object.len, ways);
    if let Some((at, bytes)) = object.seed {
        blocks.seed(at, &bytes);
        fleet.limit().inspect(|limit| limit.spend(bytes.len()));
    }
    Ok(blocks)
}

/// What is beside an object: the other files of an archive of several.
struct Beside {
    address: String,
    name: String,
    how: How,
}

impl Volumes for Beside {
    fn name(&self) -> &str {
        &self.name
    }

    fn open(&self, name: &str) -> Result<Option<Arc<dyn ReadAt>>> {
        let Some(address) = remote::beside(&self.address, name) else { return Ok(None) };
        let mirrors = self.how.far.link.mirrors.iter().filter_map(|mirror| remote::beside(mirror, name)).collect();
        let link = Link { mirrors, ..self.how.far.link.clone() };
        match object(&address, &How { far: Far { link, ..self.how.far.clone() }, ..self.how.clone() }) {
            Ok(object) => Ok(Some(Arc::new(blocks(&address, object, &self.how)?))),
            Err(e) if e.kind() == Kind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }
}
