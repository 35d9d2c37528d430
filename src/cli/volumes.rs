//! `split` and `join`, and volumes of a container that are made anew.
//!
//! ```text
//!   x.st ──split──► x.st.001 x.st.002 x.st.003 ──join──► x.st
//!                   x.st.001 ········ x.st.003 ──check --repair──► x.st.002, by parity
//! ```

use super::args;
use super::output::Output;
use super::pack::{self, Told};
use super::parity::Repair;
use super::progress::Progress;
use super::say;
use super::writing::{self, Parts};
use crate::cache::Cache;
use crate::error::{Error, Kind, Result, Within};
use crate::formats::{self, Access, Watch, st};
use crate::pool::lock;
use crate::source::{FileSource, Joined, Make, ReadAt, Store, VolumeSet};
use serde_json::json;
use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

/// What is copied at once.
const STEP: usize = 1 << 20;

pub fn split(given: &args::Split, common: &args::Common) -> Result<u8> {
    let size = writing::part_size("--volume-size", &given.volume_size)?;
    let progress = Progress::new("split", common);
    let done = progress.guard(|| (), || cut(given, size, &*progress));
    pack::finish(done, &progress)
}

fn cut(given: &args::Split, size: u64, watch: &dyn Watch) -> Result<Told> {
    let source = FileSource::open(&given.file)?;
    // Who writes to a container would change it meanwhile.
    let writer = FileSource::open(&given.file)?;
    writer.lock_shared();
    let len = source.len()?;
    if len.div_ceil(size) > formats::MOST_PARTS as u64 {
        let what = format!("--volume-size: that makes more than {} volumes", formats::MOST_PARTS);
        return Err(Error::new(Kind::Usage, what));
    }
    let mut parts = Parts::new(&given.file, given.force, size);
    parts.free(len)?;
    copy(&source, &mut parts, watch).within(|| given.file.display())?;
    if source.is_changed() {
        return Err(Error::new(Kind::Changed, format!("{} was written to meanwhile", given.file.display())));
    }
    let names = parts.commit()?;
    let words = format!("{} in {}{}", say::size(len), volumes(names.len() as u64), endurance(&names, size)?);
    Ok((words, json!({"bytes": len, "volumes": names.len()}), 0))
}

fn copy(source: &dyn ReadAt, out: &mut dyn Write, watch: &dyn Watch) -> Result<()> {
    let (len, mut at, mut bytes) = (source.len()?, 0, vec![0; STEP]);
    watch.total(len, 0);
    while at < len {
        let some = STEP.min((len - at) as usize);
        source.read_exact_at(at, &mut bytes[..some])?;
        out.write_all(&bytes[..some]).map_err(|e| Error::io(e, "cannot write a copy"))?;
        at += some as u64;
        watch.advance(some as u64, 0);
        if watch.is_cancelled() {
            return Err(Error::new(Kind::Interrupted, "interrupted"));
        }
    }
    Ok(())
}

fn volumes(count: u64) -> String {
    say::counted(count, "volume", "volumes")
}

/// What is to be said of volumes that were just written.
pub fn words(names: &[PathBuf], size: u64) -> Result<String> {
    Ok(format!(", {}{}", volumes(names.len() as u64), endurance(names, size)?))
}

/// Whether any one of the volumes of a container may be lost, in words; nothing of any other file.
fn endurance(names: &[PathBuf], size: u64) -> Result<String> {
    let open = |name: &PathBuf| Ok(Arc::new(FileSource::open(name)?) as Arc<dyn ReadAt>);
    let whole: Arc<dyn ReadAt> = Arc::new(Joined::new(names.iter().map(open).collect::<Result<_>>()?)?);
    let Some(endurance) = st::endurance(&whole, size)?.filter(|_| names.len() > 1) else { return Ok(String::new()) };
    Ok(match (endurance.any_one, endurance.share) {
        (true, _) => ", of which any one can be lost".to_owned(),
        (false, Some(share)) => format!("; for any one to be lost: --parity {:.0}%", share * 100.0),
        (false, None) => "; no amount of parity makes up for one of them".to_owned(),
    })
}

pub fn join(given: &args::Join, common: &args::Common) -> Result<u8> {
    let progress = Progress::new("join", common);
    let found = Found::of(&given.file)?.ok_or_else(|| {
        let what = format!("{} is no volume: its name does not end in a number", given.file.display());
        Error::new(Kind::Usage, what).hint("stmount join FILE.001")
    })?;
    let out = given.out.clone().unwrap_or_else(|| found.whole());
    let output = Output::create(&out, given.force)?;
    let draft = output.draft();
    let clean = move || drop(draft.as_ref().map(std::fs::remove_file));
    let done = progress.guard(clean, || put_together(&found, output, &out, &*progress));
    pack::finish(done, &progress)
}

fn put_together(found: &Found, output: Output, out: &Path, watch: &dyn Watch) -> Result<Told> {
    let pieces = found.open_all()?;
    let source = Joined::new(pieces)?;
    if found.is_container()? && !st::ends_here(&source) {
        return Err(found.missing(&[found.last + 1]));
    }
    copy(&source, &mut &output.file, watch)?;
    output.commit()?;
    let len = source.len()?;
    let words = format!("{} from {} → {}", say::size(len), volumes(found.last as u64), out.display());
    Ok((words, json!({"bytes": len, "volumes": found.last}), 0))
}

/// The volumes of a file that are there.
struct Found {
    dir: PathBuf,
    /// The name of the file, without a number.
    stem: String,
    width: usize,
    /// The highest number.
    last: usize,
}

impl Found {
    /// The volumes beside one, of which this may be missing itself; nothing where the name has no number, or none is there.
    fn of(file: &Path) -> Result<Option<Self>> {
        let name = file.file_name().and_then(|name| name.to_str());
        let Some((stem, digits)) = name.and_then(formats::number_of) else { return Ok(None) };
        let dir = file.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let mut found = Self { dir: dir.to_owned(), stem: stem.to_owned(), width: digits.len(), last: 0 };
        let entries = std::fs::read_dir(dir).map_err(|e| Error::io(e, format!("cannot read {}", dir.display())))?;
        for name in entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()) {
            let number = formats::number_of(&name).filter(|(of, _)| *of == found.stem);
            let number = number.and_then(|(_, digits)| digits.parse().ok()).filter(|n| *n <= formats::MOST_PARTS);
            if let Some(number) = number.filter(|number| found.name(*number) == name) {
                found.last = found.last.max(number);
            }
        }
        Ok(Some(found).filter(|found| found.last > 0))
    }

    fn name(&self, number: usize) -> String {
        format!("{}.{number:0width$}", self.stem, width = self.width)
    }

    fn path(&self, number: usize) -> PathBuf {
        self.dir.join(self.name(number))
    }

    fn whole(&self) -> PathBuf {
        self.dir.join(&self.stem)
    }

    fn is_there(&self, number: usize) -> bool {
        self.path(number).is_file()
    }

    fn is_container(&self) -> Result<bool> {
        if self.stem.ends_with(".st") {
            return Ok(true);
        }
        let first = (1..=self.last).find(|number| self.is_there(*number));
        let format = first.map(|number| formats::recognise(&FileSource::open(&self.path(number))?, ""));
        Ok(format.transpose()?.flatten() == Some("st"))
    }

    /// All volumes, of one length but for the last.
    fn open_all(&self) -> Result<Vec<Arc<dyn ReadAt>>> {
        let gone: Vec<usize> = (1..=self.last).filter(|number| !self.is_there(*number)).collect();
        if !gone.is_empty() {
            return Err(self.missing(&gone));
        }
        let mut pieces: Vec<Arc<dyn ReadAt>> = Vec::new();
        for number in 1..=self.last {
            let piece = FileSource::open(&self.path(number))?;
            piece.lock_shared();
            pieces.push(Arc::new(piece));
        }
        let size = pieces[0].len()?;
        for (number, piece) in (1..).zip(&pieces) {
            let (len, is_last) = (piece.len()?, number == self.last);
            if (!is_last && len != size) || len > size {
                return Err(Error::new(
                    Kind::Damaged,
                    format!("{} has another length than the first", self.name(number)),
                ));
            }
        }
        Ok(pieces)
    }

    fn missing(&self, gone: &[usize]) -> Error {
        let names: Vec<String> = gone.iter().map(|number| self.name(*number)).collect();
        let what = match names.as_slice() {
            [one] => format!("the volume {one} is missing"),
            more => format!("the volumes {} are missing", more.join(", ")),
        };
        Error::new(Kind::MissingVolume, what).hint("all files of the archive must be in one directory")
    }
}

/// Volumes that are being made, by their place.
type Drafts = Arc<Mutex<BTreeMap<usize, Output>>>;

/// Writes what is damaged of a container in volumes as it was, and makes those anew that are missing; `None` where it is no
/// such container, or has no parity. Where anything is missing for good, nothing is written.
pub fn repair(file: &Path, watch: &dyn Watch) -> Result<Option<Repair>> {
    let Some(found) = Found::of(file)? else { return Ok(None) };
    if !found.is_container()? {
        return Ok(None);
    }
    let drafts = Drafts::default();
    let Some(set) = found.set(drafts.clone())? else { return Ok(None) };
    let (set, cache) = (Arc::new(set), Cache::new(1 << 20));
    let access = Access::to_write(set.clone(), cache, found.whole().display().to_string());
    let gone: Vec<usize> = (1..=found.last).filter(|number| !found.is_there(*number)).collect();
    let rebuilt = match st::rebuild(&access, &set.holes(), watch)? {
        Some(Ok(rebuilt)) => rebuilt,
        None if gone.is_empty() => return Ok(None),
        // What stands behind the last one that is there is not known by number.
        Some(Err(st::Lost)) if gone.is_empty() => return Err(found.too_much(&[found.last + 1])),
        _ => return Err(found.too_much(&gone)),
    };
    let made: Vec<String> = lock(&drafts).keys().map(|place| found.name(place + 1)).collect();
    found.finish(&set, &drafts, rebuilt.len)?;
    let written = !made.is_empty() || !rebuilt.repaired.was_whole();
    Ok(Some(Repair { written, made, report: rebuilt.repaired.report }))
}

impl Found {
    fn too_much(&self, gone: &[usize]) -> Error {
        let what = format!("{}, and its parity does not make up for that: nothing was written", self.missing(gone));
        Error::new(Kind::MissingVolume, what).hint("all files of the archive must be in one directory")
    }

    fn set(&self, drafts: Drafts) -> Result<Option<VolumeSet<dyn Store>>> {
        let mut volumes: Vec<(String, Option<Arc<dyn Store>>)> = Vec::new();
        let mut readers: Vec<Option<Arc<dyn ReadAt>>> = Vec::new();
        for number in 1..=self.last {
            let volume = if self.is_there(number) { Some(Arc::new(self.to_write(number)?)) } else { None };
            readers.push(volume.clone().map(|volume| volume as Arc<dyn ReadAt>));
            volumes.push((self.name(number), volume.map(|volume| volume as Arc<dyn Store>)));
        }
        let Some(size) = st::volume_size(&readers)? else { return Ok(None) };
        let paths: Vec<PathBuf> = (1..=formats::MOST_PARTS).map(|number| self.path(number)).collect();
        let make: Make<dyn Store> = Box::new(move |place| {
            let path = paths.get(place).ok_or_else(|| Error::new(Kind::Limit, "there are too many volumes"))?;
            let output = Output::create(path, false)?;
            let store = output.store()?;
            lock(&drafts).insert(place, output);
            Ok(Arc::new(store))
        });
        VolumeSet::new(size, volumes, Some(make)).map(Some)
    }

    fn to_write(&self, number: usize) -> Result<FileSource> {
        let volume = FileSource::open_to_write(&self.path(number))?;
        volume.lock().within(|| self.name(number))?;
        Ok(volume)
    }

    /// Gives volumes that were made their length and their names, and takes away what others have behind theirs.
    fn finish(&self, set: &VolumeSet<dyn Store>, drafts: &Drafts, len: u64) -> Result<()> {
        let size = set.size();
        for (place, output) in std::mem::take(&mut *lock(drafts)) {
            output.store()?.set_len(size.min(len.saturating_sub(place as u64 * size)))?;
            output.commit()?;
        }
        for number in (1..self.last).filter(|number| self.is_there(*number)) {
            let volume = FileSource::open_to_write(&self.path(number))?;
            if volume.len()? > size {
                volume.set_len(size)?;
            }
        }
        Ok(())
    }
}
