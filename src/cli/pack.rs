//! `pack` and `unpack`.

use super::append;
use super::args::{self, Common, Format};
use super::output::{Output, unnamed_anywhere};
use super::progress::Progress;
use super::writing::{self, Packing, Wrote};
use super::{exit, heap, plan, say, thin};
use crate::error::{Error, Kind, Result};
use crate::formats::folder::Folder;
use crate::formats::{Pack, Packed, Unwatched, Volume, Watch};
use crate::jobs::unpack::{self, Existing};
use crate::open::How;
use crate::remote;
use crate::tree::{Entry, Filter, Forest, Name, Tree, not_found};
use serde_json::json;
use std::fs::File;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What is written at once: compressed segments come in pieces of some 100 KiB.
const WRITE: usize = 1 << 20;

pub fn pack(given: &args::Pack, common: &Common) -> Result<u8> {
    let to_stdout = given.out == Path::new("-");
    if to_stdout && io::stdout().is_terminal() {
        return Err(Error::new(Kind::Usage, "a container is not for a terminal").hint("stmount pack DIR - > game.st"));
    }
    if append::is_wanted(given)? {
        return append::append(given, common);
    }
    let packing = Packing {
        format: writing::format(&given.out, given.writing.format)?,
        level: given.level.number(),
        threads: plan::threads(given.threads),
        filter: filter(given)?,
        segmentation: plan::segment(given.segment.as_deref())?,
        signing: plan::signing(&given.signing)?,
        bases: Vec::new(),
    };
    let how = plan::how_at(&given.passwords, &given.link, Arc::new(Unwatched))?;
    let bases = match packing.format {
        Format::St => thin::unders(&given.passwords.base, &given.out, &how)?,
        _ => Vec::new(),
    };
    let is_over = !bases.is_empty();
    let packing = Packing { bases, ..packing };
    let packer = packing.packer(&given.writing, &how)?;
    let tree = open_sources(&given.sources, given)?.tree;
    packing.tell_lost(&*tree)?;
    let progress = Progress::new("pack", common);
    let to = (given.force, given.writing.part()?);
    let done = writing::write(&*packer, &*tree, &given.out, to, &how, &progress).and_then(|wrote| {
        packing.remember(&given.out, to, &how)?;
        Ok(wrote)
    });
    let words = |wrote: &Wrote| {
        format!("{}{}{}", pack_words(&wrote.packed, &progress), over(&wrote.packed, is_over), wrote.volumes)
    };
    finish(done.map(|wrote| (words(&wrote), pack_json(&wrote.packed), wrote.packed.skipped)), &progress)
}

/// What takes part. The output is not packed into itself, and neither is who writes to it.
pub(super) fn filter(given: &args::Pack) -> Result<Filter> {
    let mut globs = given.globs.clone();
    if given.out != Path::new("-") && remote::is_address(&given.out).is_none() {
        let alone = given.sources.len() == 1;
        let record = crate::open::record_of(&given.out);
        for out in [&given.out, &record] {
            globs.exclude.extend(given.sources.iter().filter_map(|source| plan::without_output(source, out, alone)));
        }
    }
    plan::filter(&globs)
}

/// One folder gives its content, one container what is in it; several sources, or a plain file, are entries of a root.
pub(super) fn open_sources(sources: &[PathBuf], given: &args::Pack) -> Result<Sources> {
    let one_file_system = given.one_file_system;
    if let [source] = sources {
        match open_source(source, given) {
            Err(e) if e.kind() == Kind::NotRecognised => {}
            other => return Ok(Sources { tree: other?, has_root: true }),
        }
    }
    let entries = sources.iter().map(|source| entry(source, one_file_system)).collect::<Result<_>>()?;
    Ok(Sources { tree: Arc::new(Forest::new(entries)?), has_root: false })
}

/// What is packed, and whether its root is one of the sources.
pub(super) struct Sources {
    pub tree: Arc<dyn Tree>,
    pub has_root: bool,
}

fn open_source(source: &Path, given: &args::Pack) -> Result<Arc<dyn Tree>> {
    if source.is_dir() {
        return Ok(Arc::new(Folder::open(source)?.one_file_system(given.one_file_system)));
    }
    if !is_ours(source) {
        return Err(Error::new(Kind::NotRecognised, "not a container"));
    }
    // Archives of other makers are files like any other here; to make them anew is what `convert` does.
    let how = plan::how_with(&given.passwords)?;
    let volume = crate::open::open_as(source, &how)?;
    match volume.format {
        "st" => {
            say::notes(source, &volume.notes);
            Ok(volume.tree)
        }
        _ => Err(Error::new(Kind::NotRecognised, "not a container")),
    }
}

fn is_ours(source: &Path) -> bool {
    let (file, _) = crate::open::with_state(source).unwrap_or_else(|| (source.to_owned(), String::new()));
    crate::open::is_container(&file)
}

/// A source by its own name: a folder with what is in it, anything else as an entry of the folder that it is in.
fn entry(source: &Path, one_file_system: bool) -> Result<Entry> {
    let path = source.canonicalize().map_err(|e| Error::io(e, format!("cannot open {}", source.display())))?;
    let name = path.file_name().ok_or_else(|| Error::new(Kind::Usage, format!("{} has no name", source.display())))?;
    let name = Name::new(name.as_bytes())?;
    let is_dir = path.is_dir();
    let above = if is_dir { &path } else { path.parent().expect("what has a name is in a directory") };
    let tree = Folder::open(above)?.one_file_system(one_file_system);
    let node =
        if is_dir { tree.root() } else { tree.find(tree.root(), name)?.ok_or_else(|| not_found(source.display()))? };
    Ok(Entry { name: name.to_owned(), tree: Arc::new(tree), node })
}

pub(super) fn to_pipe(packer: &dyn Pack, tree: &dyn Tree, watch: &dyn Watch) -> Result<Packed> {
    let mut out = BufWriter::with_capacity(WRITE, io::stdout());
    let packed = packer.pack(tree, &mut out, watch)?;
    out.flush().map_err(|e| Error::io(e, "cannot write to the standard output"))?;
    Ok(packed)
}

pub(super) fn to_file(
    packer: &dyn Pack,
    tree: &dyn Tree,
    to: &Path,
    force: bool,
    progress: &Progress,
) -> Result<Packed> {
    let output = Output::create(to, force)?;
    let draft = output.draft();
    let clean = move || drop(draft.as_ref().map(std::fs::remove_file));
    progress.guard(clean, || {
        let packed = packer.pack_to_file(tree, &mut &output.file, progress).map_err(|e| match e.kind() {
            Kind::NoSpace | Kind::Io | Kind::TooLarge => e.within(to.display()),
            _ => e,
        })?;
        cancelled(progress)?;
        output.commit()?;
        Ok(packed)
    })
}

pub(super) fn cancelled(progress: &Progress) -> Result<()> {
    if progress.is_cancelled() { Err(Error::new(Kind::Interrupted, "interrupted")) } else { Ok(()) }
}

/// Words, numbers and the count of what was skipped.
pub(super) type Told = (String, serde_json::Value, u64);

pub(super) fn finish(done: Result<Told>, progress: &Progress) -> Result<u8> {
    match done {
        Ok((words, json, skipped)) => {
            let code = if skipped > 0 { exit::WARNINGS } else { exit::OK };
            progress.finish(&words, json, code);
            Ok(code)
        }
        Err(e) => {
            let code = match progress.signal() {
                Some(signal) => exit::of_signal(signal),
                None => exit::code(e.kind()),
            };
            progress.tell_error(&e);
            progress.finish("", json!({}), code);
            if !progress.is_json() {
                say::error(&e);
            }
            Ok(code)
        }
    }
}

/// `41.2 GiB in 18 312 files → 17.9 GiB (43 %), 12 % shared, 1 min 2 s`
fn pack_words(packed: &Packed, progress: &Progress) -> String {
    let files = say::counted(packed.entries, "file", "files");
    let shared = 100 - say::percent(packed.unique.min(packed.bytes), packed.bytes);
    let (from, to) = (say::size(packed.bytes), say::size(packed.stored));
    let ratio = say::percent(packed.stored, packed.bytes);
    let skipped = skipped_words(packed.skipped);
    format!("{from} in {files} → {to} ({ratio} %), {shared} % shared, {}{skipped}", say::time(progress.took()))
}

/// `, 812 MiB of it in its bases`
fn over(packed: &Packed, is_over: bool) -> String {
    if is_over { format!(", {} left out: it lies in its bases", say::size(packed.in_bases)) } else { String::new() }
}

pub(super) fn skipped_words(skipped: u64) -> String {
    if skipped == 0 { String::new() } else { format!(", {} skipped", say::count(skipped)) }
}

pub(super) fn pack_json(p: &Packed) -> serde_json::Value {
    json!({"entries": p.entries, "bytes": p.bytes, "unique": p.unique, "in_bases": p.in_bases, "stored": p.stored,
        "skipped": p.skipped})
}

pub fn unpack(given: &args::Unpack, common: &Common) -> Result<u8> {
    let from_stdin = given.source == Path::new("-");
    if from_stdin && io::stdin().is_terminal() {
        return Err(Error::new(Kind::Usage, "no archive is named").hint("stmount unpack game.st"));
    }
    heap::keep_small();
    let mut options = unpack_options(given)?;
    let target = target(given, from_stdin);
    let progress = Progress::new("unpack", common);
    let how = plan::how(&given.opening, progress.clone())?;
    let done = progress.guard(
        || (),
        || {
            let volume = if from_stdin { open_pipe(&target, &how)? } else { open_archive(&given.source, &how)? };
            outside(&given.source, &target)?;
            make_dir(&target)?;
            options.most = most(&volume, given.max_ratio)?;
            let hint = |e: Error| match e.kind() {
                Kind::Limit => e.hint(ENDLESS).within(given.source.display()),
                _ => e,
            };
            unpack::unpack(&*volume.tree, &target, &options, &*progress).map_err(hint)
        },
    );
    let told = done.map(|report| {
        let entries = report.files + report.dirs + report.others;
        let skipped = report.skipped + report.incomplete;
        let files = say::counted(entries, "file", "files");
        let (size, took) = (say::size(report.bytes), say::time(progress.took()));
        let words = format!("{size} in {files} → {} ({took}){}", target.display(), skipped_words(skipped));
        let json = json!({
            "entries": entries, "files": report.files, "directories": report.dirs, "bytes": report.bytes,
            "kept": report.kept, "skipped": report.skipped, "incomplete": report.incomplete,
        });
        (words, json, skipped)
    });
    finish(told, &progress)
}

/// What to do about an archive that becomes too large.
const ENDLESS: &str = "when that is no trick: --max-ratio N, or 0 for no limit";

/// What an archive may become without being suspected, however small it is.
const HARMLESS: u64 = 1 << 30;

/// Bytes that are written at most. A container of our own shares equal contents, so it may be any times smaller.
fn most(volume: &Volume, ratio: u64) -> Result<Option<u64>> {
    if ratio == 0 || matches!(volume.format, "st" | "folder") {
        return Ok(None);
    }
    Ok(Some(volume.tree.totals()?.stored.saturating_mul(ratio).max(HARMLESS)))
}

fn unpack_options(given: &args::Unpack) -> Result<unpack::Options> {
    let existing = match (given.overwrite, given.skip_existing) {
        (true, _) => Existing::Replace,
        (_, true) => Existing::Keep,
        _ => Existing::Refuse,
    };
    Ok(unpack::Options {
        existing,
        strip: given.strip,
        numeric_owner: given.numeric_owner,
        same_owner: given.no_same_owner.then_some(false),
        filter: plan::filter(&given.globs)?,
        ..unpack::Options::default()
    })
}

fn target(given: &args::Unpack, from_stdin: bool) -> PathBuf {
    match given.directory.as_ref().or(given.target.as_ref()) {
        Some(dir) => dir.clone(),
        None if from_stdin => PathBuf::from("."),
        None => Path::new(".").join(plan::stem(&given.source)),
    }
}

fn open_archive(source: &Path, how: &How) -> Result<Volume> {
    let volume = crate::open::open_as(source, how)?;
    say::notes(source, &volume.notes);
    Ok(volume)
}

fn make_dir(target: &Path) -> Result<()> {
    std::fs::create_dir_all(target).map_err(|e| Error::io(e, format!("cannot make {}", target.display())))
}

/// A folder that is unpacked into itself would never end.
fn outside(source: &Path, target: &Path) -> Result<()> {
    let target = std::path::absolute(target).map_err(|e| Error::io(e, format!("{}", target.display())))?;
    let there = target.ancestors().find_map(|path| std::fs::canonicalize(path).ok());
    match (std::fs::canonicalize(source), there) {
        (Ok(from), Some(to)) if to.starts_with(&from) => {
            let words = format!("{} cannot be unpacked into itself, to {}", source.display(), target.display());
            Err(Error::new(Kind::Usage, words).hint("name a folder that is elsewhere"))
        }
        _ => Ok(()),
    }
}

/// The index of a container is at its end: what comes out of a pipe is kept first, in a file that has no name.
fn open_pipe(target: &Path, how: &How) -> Result<Volume> {
    make_dir(target)?;
    let failed = |e| Error::io(e, format!("cannot keep the standard input in {}", target.display()));
    let mut spool = unnamed_anywhere(target).map_err(failed)?;
    io::copy(&mut io::stdin().lock(), &mut spool).map_err(failed)?;
    let spool: Arc<File> = Arc::new(spool);
    // Opened by its number, so that one way of opening serves files and pipes.
    let volume = open_archive(Path::new(&format!("/proc/self/fd/{}", spool.as_raw_fd())), how);
    volume.map_err(|e| e.within("the standard input"))
}
