//! `parity`, and `check --repair`: what makes damage good, in a container or in a file beside any other.
//!
//! ```text
//!   photos.st                    in the container itself, kept up to date by a mount
//!   photos.zip  photos.zip.stpar of the file as it is: made anew when it changes
//! ```

use super::amend::amend;
use super::args::{ParityAdd, ParityDrop, ParityVerb};
use super::output::Output;
use super::progress::Progress;
use super::{args, daemon, exit, plan, say, volumes};
use crate::error::{Error, Kind, Result, Within};
use crate::formats::{Unwatched, Watch, st};
use crate::open::{self, How};
use crate::remote;
use crate::source::parity::{Piece, Report, Side};
use crate::source::{FileSource, ReadAt, Store};
use serde_json::json;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

pub fn parity(given: &ParityVerb, common: &args::Common) -> Result<u8> {
    match given {
        ParityVerb::Add(given) => add(given, common),
        ParityVerb::Drop(given) => drop_it(given),
    }
}

/// The file beside another that has its parity.
pub fn side_of(file: &Path) -> PathBuf {
    let mut name = OsString::from(file);
    name.push(".stpar");
    name.into()
}

fn add(given: &ParityAdd, common: &args::Common) -> Result<u8> {
    let share = given.share.clone().or_else(|| given.parity_code.map(|_| "5%".to_owned()));
    let policy = plan::parity(&args::Parity { share, parity_code: given.parity_code })?;
    let progress = Progress::new("parity", common);
    let file = &given.file;
    let is_far = remote::is_address(file).is_some();
    let done = if (is_far || open::is_container(file)) && !given.beside {
        let how = plan::how_to_write(&given.passwords, &given.signing, progress.clone())?;
        progress.guard(|| (), || in_container(file, &how, policy, &*progress))
    } else {
        beside(file, policy.unwrap_or_default(), &progress)
    };
    let words = |(len, words): (u64, String)| (format!("{}: {words}", file.display()), json!({"bytes": len}), 0);
    super::pack::finish(done.map(words), &progress)
}

fn in_container(file: &Path, how: &How, policy: Option<st::Policy>, watch: &dyn Watch) -> Result<(u64, String)> {
    let len = || match remote::is_address(file) {
        Some(_) => open::access(file, how)?.bytes.len(),
        None => std::fs::metadata(file).map(|meta| meta.len()).map_err(|e| Error::io(e, "cannot look at it")),
    };
    let before = len()?;
    amend(file, how, |access| st::add_parity(access, policy, watch))?;
    let more = len()?.saturating_sub(before);
    if watch.is_cancelled() {
        return Err(Error::new(Kind::Interrupted, "interrupted"));
    }
    Ok((more, format!("{} of parity more", say::size(more))))
}

fn beside(file: &Path, policy: st::Policy, progress: &Arc<Progress>) -> Result<(u64, String)> {
    let data = FileSource::open(file)?;
    data.lock_shared();
    let side = side_of(file);
    let output = Output::create(&side, true)?;
    let draft = output.draft();
    progress.guard(
        move || drop(draft.as_ref().map(std::fs::remove_file)),
        || {
            let (store, watch) = (output.store()?, Steps::new(&**progress, data.len()?));
            let put = |at: u64, bytes: &[u8]| store.write_at(at, bytes);
            let len = Side::create(&data, policy.share, policy.algorithm, &put, &|done| watch.at(done));
            let len = len.within(|| file.display())?;
            output.commit()?;
            let share = say::percent(len, data.len()?);
            Ok((len, format!("{} of parity ({share} %) in {}", say::size(len), side.display())))
        },
    )
}

/// Tells a watch of steps, of which each is told as a sum.
struct Steps<'a> {
    watch: &'a dyn Watch,
    told: AtomicU64,
}

impl<'a> Steps<'a> {
    fn new(watch: &'a dyn Watch, total: u64) -> Self {
        watch.total(total, 0);
        Self { watch, told: AtomicU64::new(0) }
    }

    fn at(&self, done: u64) -> bool {
        let before = self.told.fetch_max(done, Relaxed);
        self.watch.advance(done.saturating_sub(before), 0);
        !self.watch.is_cancelled()
    }
}

fn drop_it(given: &ParityDrop) -> Result<u8> {
    let side = side_of(&given.file);
    if side.symlink_metadata().is_ok() {
        std::fs::remove_file(&side).map_err(|e| Error::io(e, format!("cannot remove {}", side.display())))?;
        return Ok(exit::OK);
    }
    if remote::is_address(&given.file).is_none() && !open::is_container(&given.file) {
        return Err(Error::new(Kind::NotFound, format!("there is no parity {}", side.display())));
    }
    let how = plan::how_to_write(&given.passwords, &given.signing, Arc::new(Unwatched))?;
    amend(&given.file, &how, st::drop_parity)?;
    Ok(exit::OK)
}

/// What a repair found and did.
#[derive(Debug, Default)]
pub struct Repair {
    pub report: Report,
    /// Whether anything was written.
    pub written: bool,
    /// Volumes that were missing.
    pub made: Vec<String>,
}

/// Writes what is damaged of a file as it was, by its parity; `None` where it has none.
pub fn repair(file: &Path, how: &How, force: bool, watch: &dyn Watch) -> Result<Option<Repair>> {
    let side = side_of(file);
    if side.exists() {
        return by_side(file, &side, force, watch).map(Some);
    }
    if let Some(done) = volumes::repair(file, watch)? {
        return Ok(Some(done));
    }
    if open::is_piece(file) {
        return Ok(None);
    }
    // A container may be too damaged to be known as one.
    let access = daemon::locking(file, || open::access_to_write(file, how))?;
    let done = st::repair(&access, watch)?;
    Ok(done.map(|done| Repair { written: done.written, report: done.report, made: Vec::new() }))
}

/// The exit code of a repair whose file cannot be read then, since it is no archive, or for want of a key; `None` where that
/// is no excuse.
pub fn unread(done: &Repair, e: &Error) -> Option<u8> {
    let keys = [Kind::NeedsPassword, Kind::MissingKeyfile, Kind::UnknownRecipient];
    if keys.contains(&e.kind()) {
        say::notice("stmount: it is sealed: what is in it was not looked at");
    } else if e.kind() != Kind::NotRecognised {
        return None;
    }
    Some(match done.report.lost_cells {
        0 if done.written => exit::REPAIRED,
        0 => exit::OK,
        _ => exit::DAMAGED,
    })
}

/// All or nothing: a file that was changed on purpose must not become half of what it was.
fn by_side(file: &Path, side: &Path, force: bool, watch: &dyn Watch) -> Result<Repair> {
    let modified = |path: &Path| path.metadata().and_then(|meta| meta.modified()).ok();
    let (before, is_newer) = (modified(file), modified(file) > modified(side));
    let (data, parity) = (FileSource::open_to_write(file)?, FileSource::open_to_write(side)?);
    data.lock()?;
    let (data, parity) = (Arc::new(data), Arc::new(parity));
    let go_on = |_: u64| !watch.is_cancelled();
    let known = Side::open(parity.clone(), &go_on).within(|| side.display())?;
    let mender = known.mender(data.clone());
    let found = mender.survey_all(&go_on)?;
    let is_long = data.len()? > known.len();
    if !force && is_newer && (found.report.bad_cells > 0 || is_long) {
        let what = format!("{} was written to after its parity was made", file.display());
        return Err(Error::new(Kind::Changed, what)
            .hint("stmount parity add, if that is how it is to be; check --repair --force, to make it what it was"));
    }
    if !found.report.lost.is_empty() {
        return Ok(Repair { report: found.report, ..Repair::default() });
    }
    let mut write = |piece: Piece| match piece.to_parity {
        true => parity.write_at(piece.at, &piece.bytes),
        false => data.write_at(piece.at, &piece.bytes),
    };
    let report = known.repairs(&mender, found, &go_on, &mut write)?;
    if is_long {
        data.set_len(known.len())?;
    }
    // It is what it was then.
    if let Some(before) = before.filter(|_| is_long || report.bad_cells > 0) {
        let _ = data.file().set_modified(before);
    }
    data.sync()?;
    parity.sync()?;
    Ok(Repair { written: is_long || !report.is_whole(), report, made: Vec::new() })
}
