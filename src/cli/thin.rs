//! Thin containers and stores: what `pack --base` leaves out, `fat`, and `store init`, `add` and `gc`.

use super::amend::hold;
use super::args::{self, Common, StoreVerb};
use super::history::keep_owner;
use super::output::Output;
use super::pack::{Told, finish};
use super::progress::Progress;
use super::{plan, say};
use crate::error::{Error, Kind, Result};
use crate::formats::{Access, Unwatched, st};
use crate::mount::session::absolute;
use crate::open::{self, How, bases};
use crate::source::objects::Objects;
use crate::{key, remote};
use serde_json::json;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

/// What a new container is packed over.
pub(super) fn unders(named: &[PathBuf], out: &Path, how: &How) -> Result<Vec<Arc<st::Under>>> {
    let mut all = Vec::new();
    for place in named {
        refuse_itself(place, out)?;
        let hints = hints(place, out);
        match bases::objects(place, how) {
            Ok(Some(objects)) => {
                let found = st::Under::store(objects, &hints, &how.cache)?;
                if found.is_empty() {
                    say::notice(&format!("stmount: {}: nothing is in this store yet", place.display()));
                }
                all.extend(found);
            }
            Ok(None) if place.is_dir() => {
                return Err(Error::new(Kind::Usage, format!("{} is a folder and no store", place.display()))
                    .hint("name the containers in it: --base DIR/lib.st; or stmount store init DIR"));
            }
            Ok(None) if remote::is_address(place).is_none() && is_other(place) => {
                let what = format!("{}: only a .st or a store is packed over", place.display());
                return Err(Error::new(Kind::Unsupported, what).hint("stmount convert, which makes a .st of it"));
            }
            Err(e) if remote::is_address(place).is_none() => return Err(e),
            // At an address it is a container where no store is.
            _ => {
                let is_near = remote::is_address(place).is_none();
                all.push(st::Under::container(&open::access(place, how)?, hints, is_near)?);
            }
        }
    }
    Ok(all.into_iter().map(Arc::new).collect())
}

/// Whether it is there and no container, nor a volume of one.
fn is_other(place: &Path) -> bool {
    place.exists() && !open::is_container(place) && !open::is_piece(place)
}

/// A container that took the place of its own base would have lost what it left out.
fn refuse_itself(base: &Path, out: &Path) -> Result<()> {
    let same = base.canonicalize().is_ok_and(|base| out.canonicalize().is_ok_and(|out| out == base));
    if remote::is_address(base).is_some() || !same {
        return Ok(());
    }
    Err(Error::new(Kind::Usage, format!("{} cannot take the place of its own base", out.display()))
        .hint("another name for the new container"))
}

/// Where a base is found again: an address, or the way to it from where the container is going to be.
fn hints(place: &Path, out: &Path) -> Vec<String> {
    if let Some(address) = remote::is_address(place) {
        return vec![remote::shown(address)];
    }
    let is_far = remote::is_address(out).is_some();
    let (place, out) = (absolute(place), absolute(out));
    let name = place.file_name().and_then(|name| name.to_str()).map(str::to_owned);
    let way = out.parent().filter(|_| !is_far).and_then(|dir| way(dir, &place));
    let mut hints: Vec<String> = name.into_iter().chain(way).collect();
    hints.dedup();
    hints
}

/// The way from a folder to something.
fn way(from: &Path, to: &Path) -> Option<String> {
    let (mut from, mut to) = (from.components().peekable(), to.components().peekable());
    while from.peek().is_some() && from.peek() == to.peek() {
        from.next();
        to.next();
    }
    let up = from.map(|_| Component::ParentDir);
    up.chain(to).collect::<PathBuf>().to_str().map(str::to_owned)
}

pub fn fat(given: &args::Fat, common: &Common) -> Result<u8> {
    let progress = Progress::new("fat", common);
    let how = plan::how(&given.opening, progress.clone())?;
    let how = How { signing: plan::signing(&given.signing)?, ..how };
    // In its own place, nobody may write to it meanwhile.
    let in_place =
        given.source.canonicalize().ok().filter(|source| given.out.canonicalize().is_ok_and(|out| out == *source));
    let access = match &in_place {
        Some(source) => hold(source, &how)?,
        None => open::access(&given.source, &how)?,
    };
    if in_place.is_none() {
        say::notes(&given.source, &open::admit(&how, &access)?);
    }
    let bases = st::Container::open(access.clone())?.bases()?;
    if let Some(lost) = bases.iter().find(|base| base.place.is_none() && base.segments > 0) {
        let what = format!("{}: it lies over {}, which is not there", given.source.display(), lost.words);
        return Err(Error::new(Kind::MissingBase, what).hint("--base PATH names it"));
    }
    if bases.is_empty() {
        return Err(Error::new(Kind::Usage, format!("{} lies over nothing: it is whole", given.source.display())));
    }
    let access = Access { signing: how.signing.clone(), ..access };
    let packer = st::Packer { level: given.level.number(), ..st::Packer::default() };
    let done = write(&given.out, given.overwrite, in_place.as_deref(), &progress, |target| {
        st::fatten(&access, &packer, target, &*progress)
    });
    let done = done.and_then(|done| open::remember(&given.out, &how, true).map(|()| done));
    let words = |done: st::Compacted| {
        let states = say::counted(done.states, "state", "states");
        let words = format!("{} → {}, {states}", say::size(done.before), say::size(done.after));
        (words, json!({"before": done.before, "after": done.after, "states": done.states}), 0)
    };
    finish(done.map(words), &progress)
}

/// Writes a container that appears when it is complete; in place of one it belongs to whom that does.
fn write<T>(
    out: &Path,
    force: bool,
    before: Option<&Path>,
    progress: &Progress,
    make: impl FnOnce(&Arc<super::output::FileTarget>) -> Result<T>,
) -> Result<T> {
    let output = Output::create(out, force)?;
    if let Some(before) = before {
        keep_owner(before, &output)?;
    }
    let target = Arc::new(output.store()?);
    let draft = output.draft();
    let clean = move || drop(draft.as_ref().map(std::fs::remove_file));
    progress.guard(clean, || {
        let done = make(&target)?;
        super::pack::cancelled(progress)?;
        output.commit()?;
        Ok(done)
    })
}

pub fn store(given: &args::Store, common: &Common) -> Result<u8> {
    match &given.what {
        StoreVerb::Init { store, link, passwords } => {
            let how = plan::how_at(passwords, link, Arc::new(Unwatched))?;
            bases::make_store(store, key::random()?, &how)?;
            Ok(super::exit::OK)
        }
        StoreVerb::Add(given) => add(given, common),
        StoreVerb::Gc(given) => gc(given, common),
    }
}

fn opened(store: &Path, how: &How) -> Result<Arc<dyn Objects>> {
    let shown = remote::is_address(store).map_or_else(|| store.display().to_string(), remote::shown);
    let nothing =
        || Error::new(Kind::NotFound, format!("{shown} is no store")).hint(format!("stmount store init {shown}"));
    bases::objects(store, how)?.ok_or_else(nothing)
}

fn add(given: &args::StoreAdd, common: &Common) -> Result<u8> {
    if given.to.is_some() && given.files.len() > 1 {
        return Err(Error::new(Kind::Usage, "--to is for one container"));
    }
    let progress = Progress::new("add", common);
    let how = plan::how_at(&given.passwords, &given.link, progress.clone())?;
    let how = How { signing: plan::signing(&given.signing)?, ..how };
    let objects = opened(&given.store, &how)?;
    let held = objects.hold(crate::source::objects::Hold::Shared)?;
    let mut sum = st::Added::default();
    let mut done = Ok(());
    for file in &given.files {
        done = add_one(file, given, &objects, &how, &progress).map(|added| {
            (sum.objects, sum.new) = (sum.objects + added.objects, sum.new + added.new);
            sum.new_bytes += added.new_bytes;
            sum.compacted.before += added.compacted.before;
            sum.compacted.after += added.compacted.after;
        });
        if done.is_err() {
            break;
        }
    }
    drop(held);
    finish(done.map(|()| added_words(&sum, given.files.len() as u64)), &progress)
}

fn added_words(sum: &st::Added, files: u64) -> Told {
    let (files, objects) =
        (say::counted(files, "container", "containers"), say::counted(sum.objects, "object", "objects"));
    let (before, after) = (say::size(sum.compacted.before), say::size(sum.compacted.after));
    let new = format!("{} of them new, {}", say::count(sum.new), say::size(sum.new_bytes));
    let words = format!("{files}: {before} → {after}, {objects}, {new}");
    let json = json!({"before": sum.compacted.before, "after": sum.compacted.after, "objects": sum.objects,
        "new": sum.new, "new_bytes": sum.new_bytes});
    (words, json, 0)
}

fn add_one(
    file: &Path,
    given: &args::StoreAdd,
    objects: &Arc<dyn Objects>,
    how: &How,
    progress: &Arc<Progress>,
) -> Result<st::Added> {
    let source = file.canonicalize().map_err(|e| Error::io(e, format!("cannot open {}", file.display())))?;
    if !open::is_container(&source) {
        return Err(Error::new(Kind::Unsupported, format!("{}: only a .st can lie over a store", file.display()))
            .hint("stmount convert, which makes one of it"));
    }
    let out = given.to.as_deref().unwrap_or(&source);
    let hints = hints(&given.store, out);
    let packer = st::Packer::default();
    // It is held until the thin one is in its place: nobody writes to it meanwhile.
    let access = hold(&source, how)?;
    let in_place = given.to.is_none();
    let added = write(out, in_place, Some(&source), progress, |target| {
        st::add(&access, objects, (&packer, hints), target, &**progress)
    })?;
    open::remember(out, how, true)?;
    Ok(added)
}

fn gc(given: &args::StoreGc, common: &Common) -> Result<u8> {
    let progress = Progress::new("gc", common);
    let how = plan::how_at(&given.passwords, &given.link, Arc::new(Unwatched))?;
    let objects = opened(&given.store, &how)?;
    let done = progress.guard(
        || (),
        || {
            let open = |file: &PathBuf| open::access(file, &how);
            let all = given.containers.iter().map(open).collect::<Result<Vec<_>>>()?;
            st::collect(&objects, &all, given.dry_run, &*progress)
        },
    );
    finish(done.map(|found| collected_words(&found, given.dry_run)), &progress)
}

fn collected_words(found: &st::Collected, dry: bool) -> Told {
    let would = if dry { "would be removed" } else { "removed" };
    let (gone, stay) =
        (say::counted(found.removed, "object", "objects"), say::counted(found.kept, "object", "objects"));
    let (gone_size, stay_size) = (say::size(found.removed_bytes), say::size(found.kept_bytes));
    let missing = match found.missing {
        0 => String::new(),
        n => format!("; {} that are needed are not there", say::count(n)),
    };
    let words = format!("{gone} {would}, {gone_size}; {stay} kept, {stay_size}{missing}");
    let json = json!({"removed": found.removed, "removed_bytes": found.removed_bytes, "kept": found.kept,
        "kept_bytes": found.kept_bytes, "missing": found.missing, "dry_run": dry});
    (words, json, found.missing)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hint_is_the_way_from_the_container_to_its_base() {
        for (from, to, is) in [
            ("/a/b", "/a/b/lib.st", "lib.st"),
            ("/a/b", "/a/libs/lib.st", "../libs/lib.st"),
            ("/a", "/x/lib.st", "../x/lib.st"),
        ] {
            assert_eq!(way(Path::new(from), Path::new(to)).as_deref(), Some(is));
        }
    }
}
