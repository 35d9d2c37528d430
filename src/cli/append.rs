//! `pack --append` and `pack --update`: more into a container that exists.

use super::amend::existing;
use super::pack::{self, Told};
use super::progress::Progress;
use super::{args, daemon, plan, say};
use crate::cache::Cache;
use crate::error::{Error, Kind, Result};
use crate::formats::{Access, Unwatched};
use crate::jobs::update::{self, Options, Report, Source, Take};
use crate::open::{self, How};
use crate::remote;
use serde_json::json;
use std::path::Path;
use std::sync::Arc;

/// Whether a container is to be added to. One that does not exist is packed.
pub fn is_wanted(given: &args::Pack) -> Result<bool> {
    if !given.append && !given.update {
        return Ok(false);
    }
    let usage = |what: String, hint: String| Err(Error::new(Kind::Usage, what).hint(hint));
    if !given.passwords.base.is_empty() {
        let what = "--base leaves data out of a container that is packed; what is added to one is stored in it";
        return usage(what.into(), "without --append and --update; or without --base".into());
    }
    if given.out == Path::new("-") {
        return usage("nothing can be added to a pipe".into(), "stmount pack --append DIR game.st".into());
    }
    if let Some(address) = remote::is_address(&given.out) {
        let how = plan::how_at(&given.passwords, &given.link, Arc::new(Unwatched))?;
        return open::There::of(address, &how)?.is_there();
    }
    let out = given.out.display();
    if let Some((file, _)) = open::with_state(&given.out) {
        let hint = format!("stmount restore {out}, and then --append to {}", file.display());
        return usage(format!("{out} is a state that was: it does not change"), hint);
    }
    if given.out.is_dir() {
        let hint = "the last operand is the container to add to: stmount pack --append DIR OUT.st";
        return usage(format!("{out} is a directory"), hint.into());
    }
    Ok(given.out.exists())
}

pub fn append(given: &args::Pack, common: &args::Common) -> Result<u8> {
    let out = existing(&given.out)?;
    if given.sources.iter().any(|source| source.canonicalize().is_ok_and(|source| source == out)) {
        return Err(Error::new(Kind::Usage, format!("{} cannot be added to itself", given.out.display())));
    }
    let sources = pack::open_sources(&given.sources, given)?;
    let take = if given.update { Take::Changed } else { Take::All };
    let options = Options { take, delete: given.delete, root: sources.has_root, filter: pack::filter(given)? };
    let progress = Progress::new(if given.update { "update" } else { "append" }, common);
    let source = Arc::new(Source::new(sources.tree, progress.clone()));
    let how = plan::how_at(&given.passwords, &given.link, progress.clone())?;
    let how = How { signing: plan::signing(&given.signing)?, ..how };
    let how = How { cache: Cache::new(plan::CACHE / 4), ..how };
    let done = progress.guard(|| (), || into(&out, &how, given.level.number(), &source, &options));
    pack::finish(done.map(|report| told(&report, &progress)), &progress)
}

fn into(out: &Path, how: &How, level: u8, source: &Arc<Source>, options: &Options) -> Result<Report> {
    let access = daemon::locking(out, || open::access_to_write(out, how))?;
    let names = source.clone();
    let owners = Arc::new(move |uid, gid| names.owner(uid, gid));
    let access = Access { level: Some(level), owners: Some(owners), ..access };
    let store = access.store.clone();
    let volume = open::open_admitted(how, access)?;
    say::notes(out, &volume.notes);
    let done = update::update(source, &volume, options)?;
    drop(volume);
    store.map_or(Ok(()), |store| store.publish())?;
    Ok(done)
}

/// `1.2 GiB in 16 files → 400 MiB more, 18 296 as they were, 2 removed, 3 s`
fn told(done: &Report, progress: &Progress) -> Told {
    let taken = done.added + done.replaced + done.changed;
    let files = say::counted(taken, "file", "files");
    let mut words = match taken + done.removed {
        0 => "nothing is new".to_owned(),
        _ => format!("{} in {files} → {} more", say::size(done.bytes), say::size(done.stored)),
    };
    if done.unchanged > 0 {
        words.push_str(&format!(", {} as they were", say::count(done.unchanged)));
    }
    if done.removed > 0 {
        words.push_str(&format!(", {} removed", say::count(done.removed)));
    }
    words.push_str(&format!(", {}{}", say::time(progress.took()), pack::skipped_words(done.skipped)));
    let json = json!({
        "added": done.added, "replaced": done.replaced, "changed": done.changed, "unchanged": done.unchanged,
        "removed": done.removed, "bytes": done.bytes, "stored": done.stored, "skipped": done.skipped,
        "commits": done.commits,
    });
    (words, json, done.skipped)
}
