//! Any source with an overlay over it: opens what is below to be read, and the directory that takes the changes.
//!
//! ```text
//!   the directory is                        the base is             then
//!   empty, not there, or without changes    anything                it becomes an overlay of that
//!   an overlay                              the one it is of        what was interrupted is ended, the journal replayed
//!   an overlay                              another one             refused, and nothing is touched
//!   an overlay that somebody else has open  …                       refused, and told who that is
//! ```

use super::sidecar::At;
use super::{Claim, How, open_as, parts, record, with_state};
use crate::error::{Error, Kind, Result, Within};
use crate::formats::journal::{self, Journaled, Journals, Replayed};
use crate::formats::overlay::{self, Before, Belongs, Dir, JOURNAL, LOCK, Overlay, State};
use crate::formats::{Unwatched, Volume, Writer};
use crate::source::{FileSource, Held, Memory, ReadAt, Stamp};
use crate::tree::{Kind as NodeKind, Tree};
use std::fs::{self, File};
use std::io::ErrorKind;
use std::ops::ControlFlow;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Which directory takes the changes of a mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Overlaying {
    Dir(PathBuf),
    /// One that is made for the mount and goes with it.
    Tmp,
}

/// An overlay that is open with its base.
pub struct Overlaid {
    pub overlay: Arc<Overlay>,
    pub writer: Arc<Journaled>,
    pub replayed: Replayed,
    /// Of the base.
    pub volume: Volume,
}

/// Opens a source with the overlay in a directory, to be changed.
pub fn open_overlaid(source: &Path, dir: &Path, how: &How, claim: &Claim) -> Result<Volume> {
    let Overlaid { writer, replayed, volume, overlay } = attach(source, hold(dir, claim)?, how)?;
    let mut notes = volume.notes;
    if replayed.batches > 0 {
        let Replayed { entries, bytes, .. } = replayed;
        notes.push(format!("{entries} changes with {bytes} bytes came from the journal of the overlay"));
    }
    for path in overlay.missing() {
        notes.push(format!("contents are missing from the overlay: {}", overlay.dir().clear(&path).display()));
    }
    Ok(Volume {
        tree: writer.tree(),
        notes,
        writer: Some(writer),
        states: None,
        cache: Some(how.cache.clone()),
        ..volume
    })
}

/// A directory with its lock.
pub struct HeldDir {
    pub dir: Dir,
    held: Held,
}

/// Takes the directory of an overlay; it is made if it is not there.
///
/// # Errors
/// `Locked` when somebody else has it; `Exists` when it is something else.
pub fn hold(dir: &Path, claim: &Claim) -> Result<HeldDir> {
    let failed = |e| Error::io(e, format!("cannot make the overlay {}", dir.display()));
    fs::create_dir_all(dir).map_err(failed)?;
    let place = Dir::new(fs::canonicalize(dir).map_err(failed)?);
    if overlay::stored(&place).is_ok_and(|state| state.is_none()) && !place.is_fresh()? {
        let what = format!("{} is not empty, and is no overlay", dir.display());
        return Err(Error::new(Kind::Exists, what).hint("an empty directory, or one that is not there yet"));
    }
    let path = place.of(LOCK);
    File::options().write(true).create(true).truncate(false).mode(0o600).open(&path).map_err(failed)?;
    let held = Held::open(&path).map_err(|e| record::named(&path, e)).map_err(as_overlay).within(|| dir.display())?;
    record::claim(&held, claim).map_err(as_overlay).within(|| dir.display())?;
    Ok(HeldDir { dir: place, held })
}

/// Takes the directory of an overlay that is there.
pub fn hold_existing(dir: &Path) -> Result<HeldDir> {
    let missing = || Error::new(Kind::NotFound, format!("{} is no overlay", dir.display()));
    match dir.is_dir() && overlay::stored(&Dir::new(dir.to_owned()))?.is_some() {
        true => hold(dir, &Claim::default()),
        false => Err(missing().hint("stmount -o overlay=DIR SOURCE makes one")),
    }
}

/// What can be done about it is something else than with an archive.
fn as_overlay(e: Error) -> Error {
    match e.kind() {
        Kind::Locked => Error::new(Kind::Locked, e.to_string())
            .hint("unmount it first (`stmount list` shows what is mounted), or use another directory"),
        _ => e,
    }
}

/// Opens a source and lays an overlay over it.
pub fn attach(source: &Path, place: HeldDir, how: &How) -> Result<Overlaid> {
    attach_watched(source, place, how, None)
}

/// The same, for a test that looks at the directory before each step.
pub fn attach_watched(source: &Path, place: HeldDir, how: &How, before: Option<Arc<Before>>) -> Result<Overlaid> {
    let HeldDir { dir, held } = place;
    let mut volume = open_as(source, how)?;
    let belongs = belongs(source, &*volume.tree, how)?;
    let mut state = overlay::load(&dir, &belongs)?;
    if (state.belongs.print != belongs.print || state.belongs.how != belongs.how)
        && !has_journal(&dir)
        && state.is_empty()?
    {
        // Without changes it may lie over anything.
        overlay::reset_all(&dir, &state, belongs.clone())?;
        state = overlay::load(&dir, &belongs)?;
    }
    overlay::fits(&dir, &state, &belongs)?;
    let overlay =
        Arc::new(Overlay::open(dir.clone().watched(before), Some(held), (state, belongs), volume.tree.clone())?);
    let journals = At(dir.of(JOURNAL));
    let bytes = overlay.dir().read_changes()?.unwrap_or_default();
    let changes: Arc<dyn ReadAt> = Arc::new(Memory::new(bytes));
    match journal::standing(&journals, &changes)? {
        journal::Standing::Torn(_) => {
            return Err(Error::new(Kind::Damaged, "the journal of the overlay is of an archive"));
        }
        journal::Standing::Clean | journal::Standing::Pending => {}
    }
    let (writer, replayed) =
        Journaled::new(overlay.tree(), overlay.first_new(), overlay.clone(), Box::new(journals), None)?;
    volume.writer = None;
    Ok(Overlaid { overlay, writer: Arc::new(writer), replayed, volume })
}

impl Overlaid {
    /// Brings what is in the journal into the directory.
    pub fn settle(&self) -> Result<()> {
        self.writer.settle(&Unwatched, &mut |_| {}).map(drop)
    }
}

/// An overlay with all of its changes in its state: what is in its journal is brought there, for which the base is needed.
pub fn settled(dir: &Path, base: Option<&Path>, how: &How) -> Result<(HeldDir, State)> {
    let place = hold_existing(dir)?;
    let state = overlay::load(&place.dir, &Belongs::default())?;
    if !has_journal(&place.dir) {
        let state = overlay::end(&place.dir, state)?;
        return Ok((place, state));
    }
    let base = base_of(base, &state);
    let over = attach(&base, place, how).map_err(|e| {
        let hint = e.advice().map_or("name it by --base".to_owned(), str::to_owned);
        Error::new(e.kind(), format!("{} has changes in its journal, for which its base is needed: {e}", dir.display()))
            .hint(hint)
    })?;
    over.settle()?;
    drop(over);
    let place = hold_existing(dir)?;
    let state = overlay::load(&place.dir, &Belongs::default())?;
    Ok((place, state))
}

/// The base of an overlay: the one that is named, or where it was.
pub fn base_of(named: Option<&Path>, state: &State) -> PathBuf {
    named.map_or_else(|| std::ffi::OsStr::from_bytes(&state.belongs.path).into(), Path::to_owned)
}

/// Whether changes are in a journal only.
pub fn has_journal(dir: &Dir) -> bool {
    let is_longer = |meta: fs::Metadata| meta.len() > journal::HEADER_LEN;
    dir.of(JOURNAL).symlink_metadata().is_ok_and(is_longer)
}

/// Throws the journal away, and all that is only there.
pub fn drop_journal(dir: &Dir) -> Result<()> {
    At(dir.of(JOURNAL)).remove()
}

/// Which base a source is, for its overlays.
pub fn belongs(source: &Path, tree: &dyn Tree, how: &How) -> Result<Belongs> {
    let mut words = Vec::new();
    if how.depth > 0 {
        words.push(format!("recursive={}", how.depth));
    }
    words.extend(how.reading.encoding.as_ref().map(|charset| format!("encoding={charset}")));
    let path = source.as_os_str().as_bytes().to_vec();
    Ok(Belongs { print: print(source, tree, how)?, how: words.join(","), path })
}

/// The fingerprint of a source.
fn print(source: &Path, tree: &dyn Tree, how: &How) -> Result<[u8; 32]> {
    let mut hasher = blake3::Hasher::new();
    if let Some(parts) = parts(source) {
        hasher.update(&[3]);
        for part in parts {
            let flat = How { depth: 0, ..how.clone() };
            // Of a file nothing is asked of its tree.
            let part_tree = if part.is_file() { None } else { Some(open_as(&part, &flat)?.tree) };
            hasher.update(&print(&part, part_tree.as_deref().unwrap_or(tree), &flat)?);
        }
    } else if source.is_file() && with_state(source).is_none() {
        let stamp = Stamp::of(&FileSource::open(source)?)?;
        hasher.update(&[1]).update(&stamp.len.to_le_bytes()).update(&stamp.hash);
    } else {
        hasher.update(&[2]);
        // Archives inside are files there.
        match how.depth {
            0 => walk(tree, &mut hasher)?,
            _ => walk(&*open_as(source, &How { depth: 0, ..how.clone() })?.tree, &mut hasher)?,
        }
    }
    Ok(hasher.finalize().into())
}

/// All paths of a tree, with what tells whether a file is the same.
fn walk(tree: &dyn Tree, hasher: &mut blake3::Hasher) -> Result<()> {
    let mut todo = vec![(Vec::new(), tree.root())];
    while let Some((dir, node)) = todo.pop() {
        let mut all = Vec::new();
        tree.list(node, None, &mut |name, node, kind| {
            all.push((name.to_owned(), node, kind));
            ControlFlow::Continue(())
        })?;
        all.sort_by(|a, b| a.0.cmp(&b.0));
        for (name, node, kind) in all {
            let path = [dir.as_slice(), b"/", name.as_name().bytes()].concat();
            hasher.update(&path).update(&[0, kind.code()]);
            match kind {
                NodeKind::File => {
                    let attr = tree.attr(node)?;
                    hasher.update(&attr.size.to_le_bytes());
                    hasher.update(&attr.mtime.secs.to_le_bytes()).update(&attr.mtime.nanos.to_le_bytes());
                }
                NodeKind::Symlink => drop(hasher.update(&tree.target(node)?)),
                NodeKind::Directory => todo.push((path, node)),
                _ => {}
            }
        }
    }
    Ok(())
}

/// A directory for the changes of one mount, which nobody else may enter.
pub fn temporary() -> Result<PathBuf> {
    use std::os::unix::fs::DirBuilderExt;
    let base = std::env::temp_dir();
    for number in 0..1000 {
        let path = base.join(format!("stmount-overlay-{}-{number}", std::process::id()));
        match fs::DirBuilder::new().mode(0o700).create(&path) {
            Ok(()) => return Ok(path),
            Err(e) if e.kind() == ErrorKind::AlreadyExists => {}
            Err(e) => return Err(Error::io(e, format!("cannot make {}", path.display()))),
        }
    }
    Err(Error::new(Kind::Exists, format!("no name is free in {}", base.display())))
}
