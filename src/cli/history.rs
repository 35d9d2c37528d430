//! `log`, `snapshot`, `restore` and `compact`: the states of a container.

use super::amend::{amend, existing, refuse_far};
use super::output::Output;
use super::progress::Progress;
use super::{args, exit, plan, say, text_out};
use crate::error::{Error, Kind, Result};
use crate::formats::st::Resealing;
use crate::formats::{self, Access, Unwatched, Upkeep, Watch, st};
use crate::mount::session::Register;
use crate::open;
use crate::vfs::{FORGET, SNAPSHOT};
use serde_json::json;
use std::path::Path;
use std::sync::Arc;

pub fn log(given: &args::Log) -> Result<u8> {
    let reading =
        args::Reading { link: given.link.clone(), passwords: given.passwords.clone(), ..args::Reading::default() };
    let how = plan::how(&args::Opening { reading, ..args::Opening::default() }, quiet())?;
    let all = formats::generations(&open::access(&given.source, &how)?)?;
    if given.json {
        let states: Vec<_> = all
            .iter()
            .map(|g| {
                let time = json!({"secs": g.time.secs, "nanos": g.time.nanos});
                json!({"sequence": g.sequence, "time": time, "files": g.nodes, "bytes": g.bytes, "names": g.names})
            })
            .collect();
        text_out(&format!("{}\n", json!({"v": 1, "states": states})))?;
        return Ok(exit::OK);
    }
    let mut text = String::new();
    for g in all {
        let files = say::counted(g.nodes, "file", "files");
        let names = g.names.join(", ");
        let line =
            format!("{:>8}  {}  {:>10}  {files:<16}  {names}", g.sequence, say::date(g.time.secs), say::size(g.bytes));
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text_out(&text)?;
    Ok(exit::OK)
}

/// Of a mount by the mount, else of the container.
pub fn snapshot(given: &args::Snapshot) -> Result<u8> {
    let keep = !given.delete;
    let live = Register::of_user().find(&given.named)?.filter(|live| live.served && live.session.mode == "rw");
    let Some(live) = live else {
        let source = existing(&given.named)?;
        let volume = open::open_to_write(&source, &plan::how_to_write(&given.passwords, &given.signing, quiet())?)?;
        say::notes(&source, &volume.notes);
        let writer = volume
            .writer
            .ok_or_else(|| Error::new(Kind::ReadOnly, format!("{} cannot be written to", given.named.display())))?;
        writer.name_state(&given.name, keep)?;
        return Ok(exit::OK);
    };
    let name = if keep { SNAPSHOT } else { FORGET };
    let flags = rustix::fs::XattrFlags::empty();
    rustix::fs::setxattr(live.mountpoint(), name, given.name.as_bytes(), flags).map_err(|e| match e {
        rustix::io::Errno::EXIST => Error::new(Kind::Exists, format!("there is a state {:?} already", given.name))
            .hint("another name, or take the old one away: stmount snapshot --delete"),
        rustix::io::Errno::NOENT => Error::new(Kind::NotFound, format!("there is no state {:?}", given.name))
            .hint("stmount log, which lists those there are"),
        rustix::io::Errno::INVAL => {
            Error::new(Kind::Invalid, format!("{:?} cannot be the name of a state", given.name))
                .hint("1 to 200 bytes, not a number alone, without / and @: a date, a version, a word")
        }
        e => Error::io(e.into(), format!("{}: no state was kept", live.mountpoint().display())),
    })?;
    Ok(exit::OK)
}

pub fn restore(given: &args::Restore) -> Result<u8> {
    let (file, state) = crate::open::with_state(&given.state).ok_or_else(|| {
        Error::new(Kind::NotFound, format!("{} is no FILE@STATE", given.state.display()))
            .hint("stmount restore backup.st@before-update; stmount log backup.st lists the states")
    })?;
    let how = plan::how_to_write(&given.passwords, &given.signing, quiet())?;
    match open::is_container(&file) {
        true => amend(&file, &how, |access| st::restore(access, &state))?,
        false => open::open_to_change(&file, &how)?.restore(&state)?,
    }
    Ok(exit::OK)
}

fn quiet() -> Arc<dyn Watch> {
    Arc::new(Unwatched)
}

pub fn compact(given: &args::Compact, common: &args::Common) -> Result<u8> {
    refuse_far(&given.source, "compact")?;
    let source = given.source.canonicalize();
    let source = source.map_err(|e| Error::io(e, format!("cannot open {}", given.source.display())))?;
    if !open::is_container(&source) {
        return compact_archive(&source, given, common);
    }
    let how = plan::how_to_write(&given.passwords, &given.signing, quiet())?;
    let upkeep = if given.named { Upkeep::nothing(0) } else { Upkeep { last: 1, ..Upkeep::default() } };
    let repacking = Repacking { verb: "compact", level: given.level.number(), resealing: Resealing::AsBefore };
    amend(&source, &how, |access| repack(&source, &Access { upkeep, ..access }, &repacking, common))
}

/// How a container is packed anew in its place.
pub(super) struct Repacking {
    pub verb: &'static str,
    pub level: u8,
    pub resealing: Resealing,
}

pub(super) fn repack(source: &Path, access: &Access, how: &Repacking, common: &args::Common) -> Result<u8> {
    let output = Output::create(source, true)?;
    keep_owner(source, &output)?;
    let target = Arc::new(output.store()?);
    let packer = st::Packer { level: how.level, ..st::Packer::default() };
    let progress = Progress::new(how.verb, common);
    let draft = output.draft();
    let clean = move || drop(draft.as_ref().map(std::fs::remove_file));
    let done = progress.guard(clean, || {
        let done = st::compact(access, &packer, &how.resealing, &target, &*progress)?;
        if progress.is_cancelled() {
            return Err(Error::new(Kind::Interrupted, "interrupted"));
        }
        output.commit()?;
        Ok(done)
    });
    let words = |done: st::Compacted| {
        let states = say::counted(done.states, "state", "states");
        let words = format!("{} → {}, {states}", say::size(done.before), say::size(done.after));
        (words, json!({"before": done.before, "after": done.after, "states": done.states}), 0)
    };
    super::pack::finish(done.map(words), &progress)
}

/// An archive of another maker: what is in its journal goes into it first.
fn compact_archive(source: &Path, given: &args::Compact, common: &args::Common) -> Result<u8> {
    let progress = Progress::new("compact", common);
    let len = || std::fs::metadata(source).map(|meta| meta.len()).map_err(|e| Error::io(e, "cannot look at it"));
    let done = progress.guard(
        || (),
        || {
            let (before, how) = (len()?, plan::how_to_change(&given.passwords, progress.clone())?);
            let writer = open::open_to_change(source, &how)?;
            writer.settle(&*progress, &mut |_| ())?;
            writer.compact(&*progress)?;
            Ok((before, len()?))
        },
    );
    let words = |(before, after)| {
        let words = format!("{} → {}", say::size(before), say::size(after));
        (words, json!({"before": before, "after": after}), 0)
    };
    super::pack::finish(done.map(words), &progress)
}

/// The new file belongs to whom the old one does, as far as this user may say so.
pub(super) fn keep_owner(source: &Path, output: &Output) -> Result<()> {
    use std::os::unix::fs::MetadataExt;
    let failed = |e| Error::io(e, format!("cannot write beside {}", source.display()));
    let meta = std::fs::metadata(source).map_err(failed)?;
    let _ = std::os::unix::fs::fchown(&output.file, Some(meta.uid()), Some(meta.gid()));
    output.file.set_permissions(meta.permissions()).map_err(failed)
}
