//! `overlay`: what is done with the directory that takes the changes of a mount.

use super::args::{self, Common, Format, OverlayVerb};
use super::progress::Progress;
use super::{exit, plan, say, text_out, writing};
use crate::codec::pieces::Codec;
use crate::error::{Error, Kind, Result};
use crate::formats::Unwatched;
use crate::formats::overlay::{Change, What};
use crate::formats::tar::pack::TarPacker;
use crate::jobs::overlay::{self, Status};
use crate::mount::session::absolute;
use crate::open::How;
use crate::tree::{Filter, path_display};
use serde_json::json;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub fn overlay(given: &args::Overlay, common: &Common) -> Result<u8> {
    match &given.what {
        OverlayVerb::Status { of, json } => {
            let status = overlay::status(&of.dir, base(&of.base()).as_deref(), &plan::how_to_look(&of.opening)?)?;
            text_out(&if *json { as_json(&of.dir, &status) } else { words(&of.dir, &status) })?;
        }
        OverlayVerb::Diff { of } => {
            let changes = overlay::diff(&of.dir, base(&of.base()).as_deref(), &how(&of.opening)?)?;
            text_out(&lines(&changes))?;
        }
        OverlayVerb::Commit { dir, base: of, opening } => commit(dir, base(of).as_deref(), &how(opening)?)?,
        OverlayVerb::Reset { of, paths } => reset(of, paths)?,
        OverlayVerb::Export { of, patch, replace, level } => export(of, patch, (*replace, level.number()), common)?,
        OverlayVerb::Apply { patch, of } => {
            let missing = || Error::new(Kind::Usage, "nobody says what the patch is laid over").hint("--base BASE");
            let base = base(&of.base()).ok_or_else(missing)?;
            let count = overlay::apply(patch, &of.dir, &base, &how(&of.opening)?, &Unwatched)?;
            say_unless(common.quiet, &format!("{}: {}", of.dir.display(), say::counted(count, "change", "changes")));
        }
    }
    Ok(exit::OK)
}

fn how(opening: &args::Opening) -> Result<How> {
    plan::how(opening, Arc::new(Unwatched))
}

/// With its full path: it is noted in the overlay.
fn base(given: &Option<PathBuf>) -> Option<PathBuf> {
    given.as_deref().map(|path| if path.exists() { absolute(path) } else { path.to_owned() })
}

fn say_unless(quiet: bool, text: &str) {
    if !quiet {
        say::notice(text);
    }
}

fn shown(path: &[u8]) -> String {
    say::for_terminal(&path_display(path), std::io::stdout().is_terminal()).into_owned()
}

fn line(change: &Change) -> String {
    let letter = change.what.letter();
    match &change.from {
        Some(from) => format!("{letter} {} -> {}\n", shown(from), shown(&change.path)),
        None => format!("{letter} {}\n", shown(&change.path)),
    }
}

fn lines(changes: &[Change]) -> String {
    changes.iter().map(line).collect()
}

fn commit(dir: &Path, base: Option<&Path>, how: &How) -> Result<()> {
    let done = overlay::commit(dir, base, how, &Unwatched)?;
    let entries = say::counted(done.entries, "change", "changes");
    text_out(&format!("{entries} with {} of contents are in the base\n", say::size(done.bytes)))?;
    done.later.map_or(Ok(()), |e| {
        let what = format!("they are durable in its journal, and not in the archive yet: {e}");
        Err(Error::new(Kind::Warnings, what).hint("make room, then mount it with -o rw and unmount it"))
    })
}

fn reset(of: &args::Of, paths: &[String]) -> Result<()> {
    let dropped = match paths {
        [] => overlay::reset(&of.dir)?,
        paths => {
            let paths: Vec<Vec<u8>> = paths.iter().map(|path| path.trim_matches('/').as_bytes().to_vec()).collect();
            overlay::reset_paths(&of.dir, &paths, base(&of.base()).as_deref(), &how(&of.opening)?)?
        }
    };
    let mut text = lines(&dropped.changes);
    if dropped.journal > 0 {
        text.push_str(&format!("and {} of changes that were in its journal\n", say::size(dropped.journal)));
    }
    text_out(&text)
}

fn export(of: &args::Of, patch: &Path, (replace, level): (bool, u8), common: &Common) -> Result<()> {
    let codec = match writing::format(patch, None) {
        Ok(Format::Tar) => None,
        Ok(Format::TarGz) => Some(Codec::Gzip),
        Ok(Format::TarBz2) => Some(Codec::Bzip2),
        Ok(Format::TarXz) => Some(Codec::Xz),
        Ok(Format::TarLz4) => Some(Codec::Lz4),
        _ => Some(Codec::Zstd),
    };
    let (tree, _place) = overlay::to_export(&of.dir, base(&of.base()).as_deref(), &how(&of.opening)?)?;
    let packer = TarPacker { codec, level, threads: plan::threads(None), filter: Filter::default() };
    let progress = Progress::new("export", common);
    let done = super::pack::to_file(&packer, &*tree, patch, replace, &progress);
    let code = done.as_ref().map_or_else(|e| exit::code(e.kind()), |_| exit::OK);
    progress.finish("", json!({}), code);
    let packed = done?;
    match packed.skipped {
        0 => Ok(()),
        skipped => {
            Err(Error::new(Kind::Warnings, format!("{skipped} files could not be read, and are not in the patch")))
        }
    }
}

const COUNTS: [(What, &str, &str); 5] = [
    (What::Added, "added", "added"),
    (What::Modified, "modified", "modified"),
    (What::Deleted, "deleted", "deleted"),
    (What::Renamed, "renamed", "renamed"),
    (What::Attributes, "attributes", "with other attributes"),
];

fn words(dir: &Path, status: &Status) -> String {
    let shown_base = status.base.display();
    let fits = match &status.fits {
        Ok(true) => format!("over {shown_base}, which it fits\n"),
        Ok(false) => format!("over {shown_base}, which is ANOTHER STATE: it does not fit\n"),
        Err(e) => format!("over {shown_base}, which cannot be opened: {e}\n"),
    };
    let counts =
        COUNTS.iter().filter_map(|(what, _, words)| status.counts.get(what).map(|count| format!("{count} {words}")));
    let counts = counts.collect::<Vec<_>>().join(", ");
    let counts = if counts.is_empty() { "no changes".to_owned() } else { counts };
    let mut told = format!("{}: {fits}{counts}; {} of contents\n", dir.display(), say::size(status.bytes));
    if let Some(held) = &status.held {
        told.push_str(&format!("in use: {held}\n"));
    }
    if status.journal > 0 {
        told.push_str(&format!(
            "{} of changes are in its journal only: a mount brings them in\n",
            say::size(status.journal)
        ));
    }
    if status.is_committing {
        told.push_str("a commit was interrupted: see the base; `stmount overlay reset` ends it when that has all\n");
    }
    for (all, what) in [
        (&status.missing, "contents are missing"),
        (&status.altered, "changed by hand, and counts as it is"),
        (&status.unknown, "belongs to nothing, and is left alone"),
    ] {
        all.iter().for_each(|path| told.push_str(&format!("files/{}: {what}\n", shown(path))));
    }
    told
}

fn as_json(dir: &Path, status: &Status) -> String {
    let text = |all: &[Vec<u8>]| all.iter().map(|path| String::from_utf8_lossy(path).into_owned()).collect::<Vec<_>>();
    let mut value = json!({
        "v": 1, "dir": dir.display().to_string(), "base": status.base.display().to_string(),
        "fits": status.fits.as_ref().ok(), "held": status.held, "bytes": status.bytes, "journal": status.journal,
        "committing": status.is_committing, "missing": text(&status.missing), "altered": text(&status.altered),
        "unknown": text(&status.unknown),
    });
    for (what, name, _) in COUNTS {
        value[name] = status.counts.get(&what).copied().unwrap_or(0).into();
    }
    format!("{value}\n")
}
