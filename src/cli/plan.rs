//! From the words of the command line to plain options: which source, which mount point, which path inside.

use super::args;
use super::ask::Passwords;
use crate::error::{Error, Kind, Result};
use crate::formats::{Reading, Unwatched, Watch, st};
use crate::key::sign::Signing;
use crate::mount::session::absolute;
use crate::mount::{self, Options};
use crate::open::overlay::Overlaying;
use crate::open::{How, trust};
use crate::remote;
use crate::source::parity::{Algorithm, LEAST_SHARE, MOST_SHARE};
use crate::tree::Filter;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Memory for decoded data when nobody says how much.
pub const CACHE: u64 = 256 << 20;

/// A mount that can be made: both paths are absolute, the mount point exists and is empty.
#[derive(Debug)]
pub struct Mounting {
    pub source: PathBuf,
    pub mountpoint: PathBuf,
    pub options: Options,
    /// The mount point was made for this mount and goes with it.
    pub made: bool,
}

impl Mounting {
    /// Takes the mount point away again, if it was made here.
    pub fn undo(&self) {
        if self.made {
            let _ = fs::remove_dir(&self.mountpoint);
        }
    }
}

/// Plans a mount. `made` says that the mount point was made by the parent of this process.
pub fn mounting(source: &Path, mountpoint: Option<&Path>, given: &args::MountOptions, made: bool) -> Result<Mounting> {
    let mut options = mount_options(given)?;
    options.archive.link.mirrors.iter().try_for_each(|mirror| refuse_secret(mirror))?;
    let source = existing(source)?;
    // The uppermost name in `mount`, `df` and `findmnt`.
    options.fsname.get_or_insert_with(|| shown(&source));
    let sources = crate::open::parts(&source).unwrap_or_else(|| vec![source.clone()]);
    if !options.archive.link.mirrors.is_empty() && sources.iter().all(|source| remote::is_address(source).is_none()) {
        let what = format!("{}: mirrors are of an address", source.display());
        return Err(Error::new(Kind::Usage, what).hint("leave mirror= away"));
    }
    if let Some(Overlaying::Dir(dir)) = &mut options.overlay {
        *dir = absolute(dir);
    }
    options.archive.profiling = std::mem::take(&mut options.archive.profiling).of_mount(absolute);
    options.archive.bases.named.iter_mut().for_each(|place| *place = absolute(place));
    let (mountpoint, made) = match mountpoint {
        Some(place) => (checked(place, has_option(given, "nonempty"))?, made),
        None => (made_for(&source)?, true),
    };
    let plan = Mounting { source, mountpoint, options, made };
    match apart(&plan.source, &plan.mountpoint).and_then(|()| overlay_apart(&plan)) {
        Ok(()) => Ok(plan),
        Err(e) => {
            plan.undo();
            Err(e)
        }
    }
}

/// A source without what is secret in it.
fn shown(source: &Path) -> OsString {
    let parts = crate::open::parts(source).unwrap_or_else(|| vec![source.to_owned()]);
    let shown = parts.iter().map(|part| match remote::is_address(part) {
        Some(address) => remote::shown(address).into(),
        None => part.clone().into_os_string(),
    });
    shown.collect::<Vec<_>>().join(OsStr::new("+"))
}

/// The options of `-o` and `-r`.
pub fn mount_options(given: &args::MountOptions) -> Result<Options> {
    let mut list: Vec<&str> = given.option.iter().map(String::as_str).collect();
    if given.read_only {
        list.push("ro");
    }
    if given.break_lock {
        list.push("break-lock");
    }
    let overlay = given.overlay.as_ref().map(|dir| format!("overlay={}", mount::escaped(dir)));
    list.extend(overlay.as_deref());
    let reading = given.reading.options();
    list.extend(reading.iter().map(String::as_str));
    Options::parse(&list)
}

/// How a verb opens an archive that mounts nothing.
pub fn how(given: &args::Opening, watch: Arc<dyn Watch>) -> Result<How> {
    how_kept(given, Vec::new(), watch)
}

/// The same with more options, as `-o` has them.
pub fn how_kept(given: &args::Opening, options: Vec<String>, watch: Arc<dyn Watch>) -> Result<How> {
    let mut options = [options, given.reading.options()].concat();
    options.extend(given.force.then(|| "force".to_owned()));
    options.extend(given.allow_damaged.then(|| "allow-damaged".to_owned()));
    let options = Options::parse(&options.iter().map(String::as_str).collect::<Vec<_>>())?;
    let keys = Arc::new(Passwords::new(&given.reading.passwords)?);
    Ok(options.archive.how(CACHE, keys, watch))
}

/// The same for one that changes it.
pub fn how_to_change(passwords: &args::Passwords, watch: Arc<dyn Watch>) -> Result<How> {
    let reading = args::Reading { passwords: passwords.clone(), ..args::Reading::default() };
    how(&args::Opening { reading, ..args::Opening::default() }, watch)
}

/// The same for one that only needs passwords for it.
pub fn how_with(passwords: &args::Passwords) -> Result<How> {
    how_to_change(passwords, Arc::new(Unwatched))
}

/// The same for one that is asked for, or made, on a server.
pub fn how_at(passwords: &args::Passwords, link: &args::Link, watch: Arc<dyn Watch>) -> Result<How> {
    let (passwords, link) = (passwords.clone(), link.clone());
    let reading = args::Reading { passwords, link, ..args::Reading::default() };
    how(&args::Opening { reading, ..args::Opening::default() }, watch)
}

/// The same for one that writes to it, and may sign what it writes.
pub fn how_to_write(passwords: &args::Passwords, signing: &args::Signing, watch: Arc<dyn Watch>) -> Result<How> {
    Ok(How { signing: self::signing(signing)?, ..how_to_change(passwords, watch)? })
}

/// What `--sign` says.
pub fn signing(given: &args::Signing) -> Result<Signing> {
    given.sign.as_ref().map_or_else(|| Ok(Signing::default()), |file| trust::signing(Path::new(file)))
}

/// The same for one that tells of an archive and reads nothing in it: no password is asked for unless there is nothing to
/// tell without it.
pub fn how_to_look(given: &args::Opening) -> Result<How> {
    let how = how(given, Arc::new(Unwatched))?;
    Ok(How { reading: Arc::new(Reading { asks_late: true, ..(*how.reading).clone() }), ..how })
}

fn has_option(given: &args::MountOptions, name: &str) -> bool {
    given.option.iter().flat_map(|o| o.split(',')).any(|o| o == name)
}

/// The source with its full path: the daemon works in `/`.
pub fn existing(source: &Path) -> Result<PathBuf> {
    if let Some(parts) = crate::open::parts(source) {
        let parts = parts.iter().map(|part| existing(part).map(PathBuf::into_os_string)).collect::<Result<Vec<_>>>()?;
        return Ok(parts.join(OsStr::new("+")).into());
    }
    if let Some(address) = remote::is_address(source) {
        refuse_secret(address)?;
        return Ok(source.to_owned());
    }
    if let Some((file, state)) = crate::open::with_state(source) {
        let mut whole = existing(&file)?.into_os_string();
        whole.push(format!("@{state}"));
        return Ok(whole.into());
    }
    source.canonicalize().map_err(|e| {
        let missing = e.kind() == io::ErrorKind::NotFound;
        let error = Error::io(e, format!("cannot open {}", source.display()));
        let is_word = source.as_os_str().as_bytes().iter().all(u8::is_ascii_lowercase);
        if missing && is_word { error.hint("stmount --help, which lists the verbs") } else { error }
    })
}

/// Whoever mounts it stays in the list of processes, with all his words.
fn refuse_secret(address: &str) -> Result<()> {
    if !remote::has_password(address) {
        return Ok(());
    }
    let what = format!("{}: a password in the address of a mount could be read by others", remote::shown(address));
    Err(Error::new(Kind::Usage, what).hint("https://USER@HOST/… asks for it; or a line in ~/.netrc"))
}

/// A mount point that the person named.
fn checked(place: &Path, nonempty: bool) -> Result<PathBuf> {
    let place = crate::mount::place::prepare(place)?;
    let failed = |e| Error::new(Kind::BadMountPoint, format!("{} cannot be read", place.display())).caused_by(e);
    let is_empty = fs::read_dir(&place).map_err(failed)?.next().is_none();
    if is_empty || nonempty {
        return Ok(place);
    }
    Err(Error::new(Kind::BadMountPoint, format!("{} is not empty", place.display()))
        .hint("another directory, or -o nonempty to cover what is in it"))
}

/// `./NAME`, or the first of `./NAME (1)`, `./NAME (2)` … that is free, made now.
fn made_for(source: &Path) -> Result<PathBuf> {
    let here = std::env::current_dir().map_err(|e| Error::io(e, "the working directory is gone"))?;
    let stem = stem(source);
    for number in 0..10_000 {
        let mut name = stem.clone();
        if number > 0 {
            name.push(format!(" ({number})"));
        }
        let place = here.join(name);
        match fs::create_dir(&place) {
            Ok(()) => return Ok(absolute(&place)),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            Err(e) => {
                let what = format!("cannot make the mount point {}", place.display());
                return Err(Error::new(Kind::BadMountPoint, what).caused_by(e).hint("name a directory to mount on"));
            }
        }
    }
    Err(Error::new(Kind::BadMountPoint, "no name is free for a mount point").hint("name a directory to mount on"))
}

/// The name of an archive without its ending; of a folder, its name.
pub fn stem(source: &Path) -> OsString {
    if let Some(address) = remote::is_address(source) {
        let name = remote::name_of(address).map(PathBuf::from);
        return name.as_ref().and_then(|name| name.file_stem()).map_or_else(|| "mount".into(), OsStr::to_owned);
    }
    let name = if source.is_dir() { source.file_name() } else { source.file_stem() };
    name.map_or_else(|| "mount".into(), OsStr::to_owned)
}

/// A mount that covers its own source would wait for itself.
fn apart(source: &Path, mountpoint: &Path) -> Result<()> {
    if remote::is_address(source).is_some() {
        return Ok(());
    }
    let (source, place) = (source, mountpoint);
    let what = if place.starts_with(source) {
        format!("the mount point {} is inside the source {}", place.display(), source.display())
    } else if source.starts_with(place) {
        format!("the source {} is inside the mount point {}", source.display(), place.display())
    } else {
        return Ok(());
    };
    Err(Error::new(Kind::BadMountPoint, what).hint("a mount point elsewhere"))
}

/// An overlay that is in its own mount would wait for itself, and one in its own source would change that.
fn overlay_apart(plan: &Mounting) -> Result<()> {
    let Some(Overlaying::Dir(dir)) = &plan.options.overlay else { return Ok(()) };
    let parts = crate::open::parts(&plan.source).unwrap_or_else(|| vec![plan.source.clone()]);
    let (place, shown) = (&plan.mountpoint, dir.display());
    let what = if dir.starts_with(place) {
        format!("the overlay {shown} is inside the mount point {}", place.display())
    } else if place.starts_with(dir) {
        format!("the mount point {} is inside the overlay {shown}", place.display())
    } else if let Some(part) = parts.iter().find(|part| dir.starts_with(part) || part.starts_with(dir)) {
        format!("the overlay {shown} and the source {} are inside each other", part.display())
    } else {
        return Ok(());
    };
    Err(Error::new(Kind::BadMountPoint, what).hint("another directory for the changes"))
}

/// `SOURCE:PATH`. A colon may be part of the name of the source: the first split whose left side exists counts.
pub fn source_and_path(operand: &OsStr) -> (PathBuf, Vec<u8>) {
    let bytes = operand.as_bytes();
    let whole = (PathBuf::from(operand), Vec::new());
    // The colons of an address are its own: what is inside of it stands behind a !.
    let parts = crate::open::parts(&whole.0).unwrap_or_else(|| vec![whole.0.clone()]);
    if parts.iter().any(|part| remote::is_address(part).is_some()) {
        let at = bytes.iter().rposition(|b| *b == b'!').unwrap_or(bytes.len());
        let path = bytes.get(at + 1..).unwrap_or_default();
        return (OsStr::from_bytes(&bytes[..at]).into(), path.to_vec());
    }
    if whole.0.exists() {
        return whole;
    }
    let colons = bytes.iter().enumerate().filter(|(_, b)| **b == b':').map(|(at, _)| at);
    let parts = colons.map(|at| (PathBuf::from(OsString::from_vec(bytes[..at].to_vec())), bytes[at + 1..].to_vec()));
    let mut parts: Vec<_> = parts.filter(|(source, _)| !source.as_os_str().is_empty()).collect();
    let exists = |source: &PathBuf| source.exists() || crate::open::with_state(source).is_some();
    match parts.iter().position(|(source, _)| exists(source)) {
        Some(at) => parts.swap_remove(at),
        None => parts.into_iter().next().unwrap_or(whole),
    }
}

pub fn filter(globs: &args::Globs) -> Result<Filter> {
    Filter::new(&globs.include, &globs.exclude)
}

/// How much parity is wanted: `5%`.
pub fn parity(given: &args::Parity) -> Result<Option<st::Policy>> {
    let Some(text) = &given.share else { return Ok(None) };
    let number = text.strip_suffix('%').unwrap_or(text).trim().parse::<f64>().ok();
    let share = number.map(|percent| percent / 100.0).filter(|share| (LEAST_SHARE..=MOST_SHARE).contains(share));
    let share =
        share.ok_or_else(|| Error::new(Kind::Usage, format!("--parity: {text:?} is not between 0.5% and 100%")))?;
    let algorithm = match given.parity_code.unwrap_or_default() {
        args::Code::Simd => Algorithm::Wide,
        args::Code::Erasure => Algorithm::Narrow,
    };
    Ok(Some(st::Policy { share, algorithm }))
}

/// `--segment`: a size, or each chunk alone (`None` is the default of the format).
pub fn segment(text: Option<&str>) -> Result<Option<st::Segmentation>> {
    match text {
        None => Ok(None),
        Some("chunk") => Ok(Some(st::Segmentation::Chunk)),
        Some(text) => {
            let bytes = mount::size(text).map_err(|e| e.within("--segment"))?;
            let allowed = 4 << 10..=64 << 20;
            let fits = u32::try_from(bytes).ok().filter(|b| allowed.contains(b));
            let wrong = || Error::new(Kind::Usage, format!("--segment: {text} is not between 4K and 64M"));
            Ok(Some(st::Segmentation::Bytes(fits.ok_or_else(wrong)?)))
        }
    }
}

pub fn threads(given: Option<u16>) -> usize {
    given.map_or_else(crate::pool::threads, usize::from)
}

/// The pattern that keeps the file being written out of the folder being packed. `alone`: the content of the folder is
/// packed, and not the folder by its name.
pub fn without_output(source: &Path, out: &Path, alone: bool) -> Option<String> {
    let (source, out) = (absolute(source), absolute(out));
    let base = if alone { &source } else { source.parent()? };
    let inside = out.strip_prefix(&source).and_then(|_| out.strip_prefix(base)).ok()?.to_str()?;
    let escaped: String =
        inside.chars().flat_map(|c| if "*?[]{}!\\".contains(c) { vec!['\\', c] } else { vec![c] }).collect();
    Some(format!("/{escaped}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_colon_parts_only_behind_a_source_that_exists() {
        let dir = tempfile::tempdir().unwrap();
        let odd = dir.path().join("a:b.st");
        fs::write(&odd, b"").unwrap();
        let operand = |tail: &str| OsString::from(format!("{}{tail}", odd.display()));
        assert_eq!(source_and_path(&operand("")), (odd.clone(), vec![]));
        assert_eq!(source_and_path(&operand(":c/d:e")), (odd.clone(), b"c/d:e".to_vec()));
        assert_eq!(source_and_path(OsStr::new("/no/x.st:y")), ("/no/x.st".into(), b"y".to_vec()));
        assert_eq!(source_and_path(OsStr::new("/no/x.st")), ("/no/x.st".into(), vec![]));
        let mixed = format!("{}+https://host/y.st", odd.display());
        assert_eq!(source_and_path(OsStr::new(&format!("{mixed}!c/d:e"))), (mixed.into(), b"c/d:e".to_vec()));
    }

    #[test]
    fn a_mount_and_its_source_are_apart() {
        let apart = |s: &str, m: &str| apart(Path::new(s), Path::new(m)).is_ok();
        assert!(apart("/a/x.st", "/a/x") && apart("/a/x.st", "/a/x.st2"));
        assert!(!apart("/a/x.st", "/a") && !apart("/a", "/a/mnt") && !apart("/a", "/a"));
    }

    #[test]
    fn segments_have_limits() {
        assert_eq!(segment(None).unwrap(), None);
        assert_eq!(segment(Some("chunk")).unwrap(), Some(st::Segmentation::Chunk));
        assert_eq!(segment(Some("256K")).unwrap(), Some(st::Segmentation::Bytes(256 << 10)));
        for bad in ["1K", "1G", "x", ""] {
            assert_eq!(segment(Some(bad)).unwrap_err().kind(), Kind::Usage, "{bad}");
        }
    }

    #[test]
    fn the_container_does_not_pack_itself() {
        let dir = tempfile::tempdir().unwrap();
        let pattern = without_output(dir.path(), &dir.path().join("a[1].st"), true).unwrap();
        let filter = Filter::new(&[], &[pattern]).unwrap();
        assert!(filter.excludes(b"a[1].st") && !filter.excludes(b"a1.st") && !filter.excludes(b"b/a[1].st"));
        assert_eq!(without_output(dir.path(), Path::new("/elsewhere/x.st"), true), None);
    }
}
