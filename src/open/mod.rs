//! From a location to a [`Volume`]: a folder is a tree by itself, a file is opened by the format that recognises it.
//!
//! ```text
//!   FILE            the format that recognises it            DIR       the folder
//!   FILE@STATE      an earlier state of a container          A+B+C     all of them over each other, the rightmost wins
//!   https://…       an object at the other end of a link, and each of these as well
//!   any of these, with a depth      archives inside are folders too
//!   any of these, with an overlay    takes changes in a directory: see `overlay`
//! ```

pub mod bases;
mod beside;
mod far;
mod follow;
mod nested;
pub mod outbox;
pub mod overlay;
pub mod process;
mod record;
mod remembering;
mod sidecar;
pub mod trust;

pub use far::Far;
pub use follow::follow;
pub use record::{Claim, record_of};

use crate::cache::{Below, Cache};
use crate::error::{Error, Kind, Result, Within};
pub use crate::formats::journal::Standing;
use crate::formats::journal::{self, Journaled, Journals, Replayed};
use crate::formats::{
    self, Access, Reading, Remembered, Signer, Undone, Unwatched, Upkeep, Volume, Volumes, Watch, Writer, folder,
};
use crate::key::Keys;
use crate::key::sign::Signing;
use crate::remote::{self, Link};
use crate::source::{FileSource, Held, ReadAt, Spill};
use crate::tree::{Owner, Time, Union};
use beside::{Beside, Indexes};
use remembering::Remembering;
use sidecar::Sidecar;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use trust::Trust;

/// How something is opened to be read.
#[derive(Clone)]
pub struct How {
    pub cache: Arc<Cache>,
    pub reading: Arc<Reading>,
    pub watch: Arc<dyn Watch>,
    /// Where indexes are kept of what is slow to open.
    pub indexes: Option<PathBuf>,
    /// Where a journal is that can be nowhere else.
    pub caches: Option<PathBuf>,
    /// How deep archives inside of archives are shown as folders; 0 for not at all.
    pub depth: u32,
    /// So many archives that are written anew are kept as they were.
    pub backups: u32,
    /// Whose signatures are trusted.
    pub trust: Trust,
    /// What signs what is written.
    pub signing: Signing,
    /// How what is at an address is read.
    pub far: Far,
    /// Where bases of thin containers are looked for.
    pub bases: bases::Places,
}

/// What a person wishes of opening archives.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wishes {
    pub encoding: Option<String>,
    pub strict: bool,
    pub force: bool,
    /// What is damaged of a file reads as zeros.
    pub allow_damaged: bool,
    /// How deep archives inside of archives are shown as folders.
    pub depth: u32,
    pub max_entries: Option<usize>,
    pub indexes: Indexing,
    /// Where indexes and pages are kept.
    pub cache_dir: Option<PathBuf>,
    /// Bytes of pages on the disk.
    pub cache_max: Option<u64>,
    /// So many archives that are written anew are kept as they were.
    pub backups: u32,
    /// How much trust is asked for; what the environment says without it.
    pub trust: Option<trust::Level>,
    /// How what is at an address is asked for.
    pub link: Link,
    /// Where bases of thin containers are looked for.
    pub bases: bases::Places,
}

/// Where indexes are kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Indexing {
    /// In the directory for caches of the user.
    #[default]
    Auto,
    Nowhere,
    Dir(PathBuf),
}

/// Bytes of decoded pages on the disk, when nobody says how many.
const CACHE_MAX: u64 = 10 << 30;

impl Wishes {
    /// How to open by these wishes, with so many bytes of memory.
    pub fn how(&self, memory: u64, keys: Arc<dyn Keys>, watch: Arc<dyn Watch>) -> How {
        let dir = self.cache_dir.clone().or_else(cache_dir);
        let most = self.cache_max.unwrap_or(CACHE_MAX);
        let spill = dir.as_deref().map(|dir| Spill::new(dir, most) as Arc<dyn Below>);
        let far = Far::new(self.link.clone(), dir.as_deref(), most);
        let caches = dir.clone();
        let indexes = match &self.indexes {
            Indexing::Auto => dir.map(|dir| dir.join("index")),
            Indexing::Nowhere => None,
            Indexing::Dir(dir) => Some(dir.clone()),
        };
        let reading = Reading {
            keys,
            encoding: self.encoding.clone(),
            strict: self.strict,
            force: self.force,
            allow_damaged: self.allow_damaged,
            max_entries: self.max_entries.unwrap_or(formats::MAX_ENTRIES),
            ..Reading::default()
        };
        How {
            cache: Cache::over(memory, spill),
            reading: Arc::new(reading),
            watch,
            indexes,
            caches,
            depth: self.depth,
            backups: self.backups,
            trust: Trust::of_user(self.trust),
            signing: Signing::default(),
            far,
            bases: self.bases.clone(),
        }
    }
}

/// The directory for what can be made again, as the user or the system says.
fn cache_dir() -> Option<PathBuf> {
    let var = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    var("STMOUNT_CACHE_DIR")
        .or_else(|| var("XDG_CACHE_HOME").map(|dir| dir.join("stmount")))
        .or_else(|| var("HOME").map(|home| home.join(".cache/stmount")))
        .or_else(|| rustix::process::geteuid().is_root().then(|| PathBuf::from("/var/cache/stmount")))
}

impl How {
    /// As plain as can be, but with what this user trusts.
    pub fn of_user(cache: Arc<Cache>) -> Self {
        Self { trust: Trust::of_user(None), ..Self::new(cache) }
    }

    /// As plain as can be: whoever signed it, it is opened.
    pub fn new(cache: Arc<Cache>) -> Self {
        Self {
            cache,
            reading: Arc::default(),
            watch: Arc::new(Unwatched),
            indexes: None,
            caches: None,
            depth: 0,
            backups: 0,
            trust: Trust::nobody(),
            signing: Signing::default(),
            far: Far::default(),
            bases: bases::Places::default(),
        }
    }
}

/// Opens a folder or an archive.
pub fn open(path: &Path, cache: Arc<Cache>) -> Result<Volume> {
    open_as(path, &How::new(cache))
}

/// Opens a folder, an archive, or several over each other.
///
/// `FILE@STATE` is an earlier state of a container, by its name or the number of its commit; `A+B` are several, of which
/// the rightmost wins. A file that is called so as a whole comes first.
pub fn open_as(path: &Path, how: &How) -> Result<Volume> {
    let volume = match parts(path) {
        Some(parts) => union(&parts, how)?,
        None => open_one(path, how)?,
    };
    if how.depth == 0 {
        return Ok(volume);
    }
    // Whoever vouches for a container vouches for the archives in it.
    let trust = if volume.root.is_some() { Trust::nobody() } else { how.trust.clone() };
    let tree = nested::Nested::new(volume.tree, How { trust, ..how.clone() });
    Ok(Volume { tree: Arc::new(tree), states: None, writer: None, ..volume })
}

fn union(paths: &[PathBuf], how: &How) -> Result<Volume> {
    let addresses = paths.iter().filter(|path| remote::is_address(path).is_some()).count();
    if addresses > 1 && !how.far.link.mirrors.is_empty() {
        return Err(Error::new(Kind::Usage, "mirrors are of one address, and here are several").hint("leave them away"));
    }
    let mut volumes = paths.iter().map(|path| open_one(path, how)).collect::<Result<Vec<_>>>()?;
    let (mut notes, mut facts) = (Vec::new(), Vec::new());
    for (path, volume) in paths.iter().zip(&mut volumes) {
        let shown = remote::is_address(path).map_or_else(|| path.display().to_string(), remote::shown);
        let named = |note: String| format!("{shown}: {note}");
        notes.extend(std::mem::take(&mut volume.notes).into_iter().map(named));
        facts.push(("part", format!("{shown} ({})", volume.format)));
    }
    let cache = Some(how.cache.clone());
    let layers = volumes.into_iter().map(|volume| volume.tree).collect();
    Ok(Volume { cache, notes, facts, ..Volume::read_only(Arc::new(Union::new(layers)), "union") })
}

fn open_one(path: &Path, how: &How) -> Result<Volume> {
    if let Some(address) = remote::is_address(path) {
        return far::open(address, how);
    }
    if let Some((file, state)) = with_state(path) {
        let name = path.display().to_string();
        let volume = formats::open(Access { state: Some(state), name, ..access(&file, how)? })?;
        return how.trust.judge(&file.display().to_string(), volume);
    }
    let meta = std::fs::metadata(path).map_err(|e| {
        let e = Error::io(e, format!("cannot open {}", path.display()));
        if path == Path::new("-") { e.hint("a file: only unpack reads from a pipe") } else { e }
    })?;
    if meta.is_dir() {
        return Ok(Volume::read_only(Arc::new(folder::Folder::open(path)?), "folder"));
    }
    let (access, note) = beside_journal(path, how, access(path, how)?);
    let mut volume = how.trust.judge(&path.display().to_string(), formats::open(access)?)?;
    volume.notes.extend(note);
    Ok(volume)
}

/// Access to the bytes of a file, which a writer leaves where they are as long as this is open.
pub fn access(path: &Path, how: &How) -> Result<Access> {
    if let Some(address) = remote::is_address(path) {
        return far::access(address, how);
    }
    let file = FileSource::open(path)?;
    file.lock_shared();
    let access = Access::to_read(Arc::new(file), how.cache.clone(), path.display().to_string());
    let indexes = how.indexes.as_deref().and_then(|dir| Indexes::of(dir, path, &*access.bytes));
    let memory = indexes.map(|indexes| Arc::new(indexes) as Arc<dyn Remembered>);
    let volumes = Beside::of(path).map(|beside| Arc::new(beside) as Arc<dyn Volumes>);
    let modified = path.metadata().and_then(|meta| meta.modified()).ok().map(Time::from);
    let reading = how.reading_of(path);
    let access = Access { reading, watch: how.watch.clone(), memory, volumes, modified, ..access };
    formats::whole(access)
}

/// Parts `A+B+C`, when there is no file that is called so as a whole, and each part is there.
///
/// Nobody is asked for what is at an address: a plus in it parts only before another address, or before what is there on this
/// machine. `%2B` never does.
pub fn parts(path: &Path) -> Option<Vec<PathBuf>> {
    let whole = path.as_os_str().as_bytes();
    if !whole.contains(&b'+') || path.symlink_metadata().is_ok() || with_state(path).is_some() {
        return None;
    }
    let (mut parts, mut begin) = (Vec::new(), 0);
    // A plus may be part of a name: each part is the shortest that is there.
    for at in ends(whole) {
        let part = &whole[begin.min(at)..at];
        let is_part = match remote::is_address(as_path(part)) {
            Some(_) => at == whole.len() || begins_part(&whole[at + 1..]),
            None => is_there(part),
        };
        if at > begin && is_part {
            parts.push(as_path(part).to_owned());
            begin = at + 1;
        }
    }
    (parts.len() > 1 && begin > whole.len()).then_some(parts)
}

/// Where a part may end.
fn ends(whole: &[u8]) -> impl Iterator<Item = usize> {
    whole.iter().enumerate().filter(|(_, b)| **b == b'+').map(|(at, _)| at).chain([whole.len()])
}

fn as_path(bytes: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(bytes))
}

fn is_there(part: &[u8]) -> bool {
    !part.is_empty() && (as_path(part).exists() || with_state(as_path(part)).is_some())
}

/// Whether an address, or what is there on this machine, begins here.
fn begins_part(rest: &[u8]) -> bool {
    remote::is_address(as_path(rest)).is_some() || ends(rest).any(|at| is_there(&rest[..at]))
}

/// Access to the bytes of a file, to change them, with its lock.
///
/// # Errors
/// `Locked` when somebody else has it open to change it.
pub fn access_to_write(path: &Path, how: &How) -> Result<Access> {
    claimed(path, how, &Claim::default())
}

fn claimed(path: &Path, how: &How, claim: &Claim) -> Result<Access> {
    far::refuse_to_write(path)?;
    if is_piece(path) {
        return Err(Error::new(
            Kind::ReadOnly,
            format!("{}: an archive in several files is only read", path.display()),
        )
        .hint("stmount join, which makes one file of them"));
    }
    let held = Held::open(path).map_err(|e| record::named(path, e)).within(|| path.display())?;
    record::claim(&held, claim).within(|| path.display())?;
    let held = Arc::new(held);
    let access = Access::to_write(held.clone(), how.cache.clone(), path.display().to_string());
    let (reading, watch) = (how.reading_of(path), how.watch.clone());
    let (owners, signing) = (Some(Arc::new(owners) as Arc<formats::Owners>), how.signing.clone());
    Ok(Access { held: Some(held), owners, reading, watch, signing, ..access })
}

/// Opens a container to change it, and holds its lock from then on. What can only be read is opened to be read; then the
/// volume has no writer.
///
/// # Errors
/// `Locked` when somebody else has it open to change it.
pub fn open_to_write(path: &Path, how: &How) -> Result<Volume> {
    open_claimed(path, how, &Claim::default(), Upkeep::default(), false)
}

/// Opens an archive of any format to change it, with its journal.
///
/// # Errors
/// As [`open_to_write`]; `ReadOnly` when it can only be read.
pub fn open_to_change(path: &Path, how: &How) -> Result<Arc<dyn Writer>> {
    let volume = open_claimed(path, how, &Claim::default(), Upkeep::default(), true)?;
    volume
        .writer
        .ok_or_else(|| Error::new(Kind::ReadOnly, format!("{}: this user may not write to it", path.display())))
}

/// The journal of an archive that has changes which are not in it.
///
/// # Errors
/// `Changed` when it belongs to another archive, or to another state of it.
pub fn journal_of(path: &Path, how: &How) -> Result<Option<(PathBuf, journal::Standing)>> {
    let journals = Sidecar::of(path, how.caches.as_deref());
    let archive: Arc<dyn ReadAt> = Arc::new(FileSource::open(path)?);
    Ok(match journal::standing(&journals, &archive)? {
        journal::Standing::Clean => None,
        standing => Some((journals.path(), standing)),
    })
}

/// The same, for a mount. Of all formats only the container of this project is changed in place; others are opened to be
/// read, unless it is `wanted` that they take changes.
pub fn open_claimed(path: &Path, how: &How, claim: &Claim, upkeep: Upkeep, wanted: bool) -> Result<Volume> {
    if let Some(address) = remote::is_address(path).filter(|_| wanted && parts(path).is_none()) {
        return far::open_to_write(address, how, claim);
    }
    if how.depth > 0 || !is_container(path) {
        if how.signing.key().is_some() {
            let what = format!("{}: only what is written to a .st can be signed", path.display());
            return Err(Error::new(Kind::Unsupported, what));
        }
        return if wanted { open_journaled(path, how, claim) } else { open_as(path, how) };
    }
    match claimed(path, how, claim) {
        Ok(access) => open_admitted(path, how, Access { upkeep, ..access }),
        Err(e) if matches!(e.kind(), Kind::Denied | Kind::ReadOnly) => open_as(path, how),
        Err(e) => Err(e),
    }
}

/// Opens a container that is held, once it is known that it may be written to: opening it may change it already.
pub fn open_admitted(path: &Path, how: &How, access: Access) -> Result<Volume> {
    let mut notes = admit(path, how, &access)?;
    let mut volume = formats::open(access)?;
    volume.notes.append(&mut notes);
    let is_vouched_for = volume.root.is_some_and(|root| root.is_vouched_for()) || how.signing.key().is_some();
    if let Some(writer) = volume.writer.take_if(|_| is_vouched_for) {
        volume.writer = Some(Arc::new(Remembering::new(writer, how.trust.clone())));
    }
    Ok(volume)
}

/// Lets a container pass that is going to be written to, before anything is written. What is to be told of it.
///
/// # Errors
/// `Untrusted` when whoever signed it, or did not, is not trusted.
pub fn admit(path: &Path, how: &How, access: &Access) -> Result<Vec<String>> {
    let root = formats::root(access)?;
    let mut notes = how.trust.admit(&path.display().to_string(), root)?;
    let is_signed = root.is_some_and(|root| matches!(root.signer, Signer::By(_)));
    if is_signed && how.signing.key().is_none() {
        notes.push("it is signed, and what is written to it is not: -o sign, or --sign, with the key".to_owned());
    }
    Ok(notes)
}

/// Remembers what a container stands on that this program has just written; `anew` when it stands in place of another one.
pub fn remember(path: &Path, how: &How, anew: bool) -> Result<()> {
    match formats::root(&access(path, how)?)? {
        Some(root) if anew => how.trust.made_anew(&root),
        Some(root) => how.trust.made(&root),
        None => Ok(()),
    }
}

/// An archive as it was before somebody began to write to it, and what is to be told of changes that are not in it.
fn beside_journal(path: &Path, how: &How, access: Access) -> (Access, Option<String>) {
    let (journal, standing) = match journal_of(path, how) {
        Ok(Some(found)) => found,
        Ok(None) => return (access, None),
        Err(e) => return (access, Some(e.to_string())),
    };
    let journal = journal.display();
    let note = format!(
        "{journal} has changes that are not in the archive: -o rw shows them, `stmount recover` brings them in"
    );
    let access = match standing {
        Standing::Torn(undo) => {
            let undone = Undone { archive: access.bytes.clone(), undo };
            Access { bytes: Arc::new(undone), memory: None, ..access }
        }
        _ => access,
    };
    (access, Some(note))
}

/// Opens an archive with a journal beside it.
///
/// # Errors
/// `ReadOnly` when its format, or this archive, can only be read.
fn open_journaled(path: &Path, how: &How, claim: &Claim) -> Result<Volume> {
    let only_read = |why: &str| {
        Error::new(Kind::ReadOnly, format!("{}: {why}", path.display()))
            .hint("-o overlay=DIR takes changes and keeps them beside it; stmount convert makes a .st or a 7z of it")
    };
    if how.depth > 0 || !path.is_file() {
        return Err(only_read("only a single archive takes changes"));
    }
    // No format with a journal has signatures; what is not trusted is not even put back to what it was.
    how.trust.admit(&path.display().to_string(), None)?;
    let access = claimed(path, how, claim)?;
    let journals = Sidecar::of(path, how.caches.as_deref());
    let held = access.held.clone().expect("what is claimed is held");
    held.keep_backups(how.backups);
    if let journal::Standing::Torn(undo) = journal::standing(&journals, &(held.clone() as Arc<dyn ReadAt>))? {
        log::info!("{}: what an attempt to write it has left is taken away", path.display());
        undo.apply(&*held)?;
    }
    let settling = formats::open_to_settle(access)?.ok_or_else(|| only_read(why_not(path)))?;
    let formats::Settling { volume, settle, first_new, password } = settling;
    let (writer, replayed) = Journaled::new(volume.tree, first_new, settle, Box::new(journals), password)?;
    let mut notes = volume.notes;
    if replayed.batches > 0 {
        let Replayed { entries, bytes, .. } = replayed;
        notes.push(format!(
            "{entries} changes with {bytes} bytes came from its journal, and are not in the archive yet"
        ));
    }
    let tree = writer.tree();
    Ok(Volume { tree, notes, writer: Some(Arc::new(writer)), cache: Some(how.cache.clone()), ..volume })
}

/// Which container it is, where its format tells one from another: that of [`formats::Root`].
pub fn uid_of(path: &Path) -> Result<Option<[u8; 16]>> {
    let file = with_state(path).map_or_else(|| path.to_owned(), |(file, _)| file);
    formats::uid(&access(&file, &How::new(Cache::new(0)))?)
}

/// Whether it is a container of this project, or cannot be read at all, which is told by whoever opens it.
pub fn is_container(path: &Path) -> bool {
    let name = path.display().to_string();
    let format = || formats::recognise(&FileSource::open(path)?, &name);
    let is_one = path.is_file() && with_state(path).is_none() && !is_piece(path);
    is_one && !matches!(format(), Ok(found) if found != Some("st"))
}

/// Whether it is known to be an archive of another maker, or has a journal as such have. What is too damaged to be known is
/// neither that nor a container.
pub fn is_archive(path: &Path, how: &How) -> bool {
    let name = path.display().to_string();
    let found = FileSource::open(path).and_then(|file| formats::recognise(&file, &name));
    matches!(found, Ok(Some(format)) if format != "st") || journal_of(path, how).is_ok_and(|journal| journal.is_some())
}

/// Whether a file is one of several that are an archive together, by its name.
pub fn is_piece(path: &Path) -> bool {
    path.file_name().and_then(|name| name.to_str()).is_some_and(formats::is_piece)
}

/// Why an archive takes no changes.
fn why_not(path: &Path) -> &'static str {
    let found = FileSource::open(path).and_then(|file| formats::recognise(&file, &path.display().to_string()));
    match found {
        Ok(Some("rar")) => "RAR is only read: nothing but the program of its maker is known to write it rightly",
        Ok(Some("zip")) => "a zip in several files, or with which something is wrong, is only read",
        _ => "its format is only read",
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plus_parts_only_what_is_there() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for name in ["a.st", "b.st", "c+d.st", "x+y"] {
            std::fs::write(at(name), b"").unwrap();
        }
        let joined = |parts: &[&str]| {
            let parts: Vec<_> = parts.iter().map(|part| at(part).into_os_string().into_string().unwrap()).collect();
            PathBuf::from(parts.join("+"))
        };
        assert_eq!(parts(&joined(&["a.st", "c+d.st", "b.st"])), Some(vec![at("a.st"), at("c+d.st"), at("b.st")]));
        assert_eq!(parts(&at("x+y")), None);
        assert_eq!(parts(&joined(&["a.st", "gone.st"])), None);
        assert_eq!(parts(&at("a.st")), None);
    }

    #[test]
    fn a_plus_in_an_address_parts_before_another_one_and_before_what_is_here() {
        let dir = tempfile::tempdir().unwrap();
        let (here, odd) = (dir.path().join("a.st"), dir.path().join("b+c.st"));
        let (here, odd) = (here.to_str().unwrap(), odd.to_str().unwrap());
        [here, odd].iter().for_each(|path| std::fs::write(path, b"").unwrap());
        let far = ["https://me@host/c++.st", "s3://b/x+y@3", "http://host/z"];
        for expected in
            [vec![far[0], far[1]], vec![far[0], here, far[1], odd, far[2]], vec![here, far[0]], vec![odd, far[2], here]]
        {
            let found = parts(Path::new(&expected.join("+"))).unwrap();
            assert_eq!(found, expected.iter().map(PathBuf::from).collect::<Vec<_>>());
        }
        for whole in [far[0].to_owned(), far[1].to_owned(), format!("{}+gone", far[2]), format!("gone+{}", far[2])] {
            assert_eq!(parts(Path::new(&whole)), None, "{whole}");
        }
    }
}
