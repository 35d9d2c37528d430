//! `recover`: what was wrong with a container, what was done, and what is missing.

use super::args::{self, Common};
use super::progress::Progress;
use super::{examine, exit, heap, plan, say, text_out};
use crate::error::{Error, Kind, Result};
use crate::formats::Watch;
use crate::formats::st::{self, Recovered};
use crate::open::{self, Standing};
use crate::tree::{Difference, path_display};
use serde_json::json;
use std::io::{self, IsTerminal};

pub fn recover(given: &args::Recover, common: &Common) -> Result<u8> {
    heap::keep_small();
    if !open::is_container(&given.file) && open::is_archive(&given.file, &plan::how_with(&given.passwords)?) {
        return recover_archive(given, common);
    }
    let progress = Progress::new("recover", common);
    let done = progress.guard(|| (), || run(given, &*progress));
    let found = match done {
        Ok(found) => found,
        Err(e) => return failed(e, &progress),
    };
    let code = if found.is_whole() { exit::OK } else { exit::WARNINGS };
    let lines = [done_lines(&found), missing_lines(&found), damage_lines(&found)].concat();
    text_out(&say::for_terminal(&lines.concat(), io::stdout().is_terminal()))?;
    progress.finish(&words(given, &found), summary(given, &found), code);
    Ok(code)
}

fn failed(e: Error, progress: &Progress) -> Result<u8> {
    let code = progress.signal().map_or_else(|| exit::code(e.kind()), exit::of_signal);
    progress.tell_error(&e);
    progress.finish("", json!({}), code);
    if progress.is_json() || progress.signal().is_some() { Ok(code) } else { Err(e) }
}

/// An archive of another maker: what is in its journal is told, and brought into it.
fn recover_archive(given: &args::Recover, common: &Common) -> Result<u8> {
    let progress = Progress::new("recover", common);
    let done = progress.guard(
        || (),
        || {
            let how = plan::how_to_change(&given.passwords, progress.clone())?;
            let Some((journal, standing)) = open::journal_of(&given.file, &how)? else { return Ok(None) };
            if given.dry_run && matches!(standing, Standing::Torn(_)) {
                return Err(Error::new(
                    Kind::Busy,
                    format!("{}: what is in it is half in the archive", journal.display()),
                )
                .hint("without --dry-run the archive is made what it was, and then what it is to be"));
            }
            let writer = open::open_to_change(&given.file, &how)?;
            let found = writer.differences()?;
            let settled = match given.dry_run {
                true => writer.unsettled(),
                false => writer.settle(&*progress, &mut |_| ())?,
            };
            Ok(Some((found, settled)))
        },
    );
    let told = match done {
        Ok(told) => told,
        Err(e) => return failed(e, &progress),
    };
    let Some((found, settled)) = told else {
        let words = format!("{}: nothing to recover", given.file.display());
        progress.finish(&words, json!({"written": false, "changes": 0}), exit::OK);
        return Ok(exit::OK);
    };
    let lines: String = found.iter().map(|(path, difference)| line_of(path, difference)).collect();
    text_out(&say::for_terminal(&lines, io::stdout().is_terminal()))?;
    let changes = say::counted(settled.entries, "change", "changes");
    let done = if given.dry_run { "would go into the archive (nothing was written)" } else { "are in the archive" };
    let words = format!("{}: {changes} with {} {done}", given.file.display(), say::size(settled.bytes));
    progress.finish(&words, json!({"written": !given.dry_run, "changes": settled.entries}), exit::OK);
    Ok(exit::OK)
}

fn line_of(path: &[u8], difference: &Difference) -> String {
    let path = path_display(path);
    match difference {
        Difference::Added => format!("A {path}\n"),
        Difference::Deleted => format!("D {path}\n"),
        Difference::Modified => format!("M {path}\n"),
        Difference::Attributes => format!("P {path}\n"),
        Difference::Renamed(from) => format!("R {} -> {path}\n", path_display(from)),
    }
}

fn run(given: &args::Recover, watch: &dyn Watch) -> Result<Recovered> {
    let how = plan::how_with(&given.passwords)?;
    let access =
        if given.dry_run { open::access(&given.file, &how)? } else { open::access_to_write(&given.file, &how)? };
    match open::admit(&how, &access) {
        Ok(notes) => say::notes(&given.file, &notes),
        Err(e) if e.kind() == Kind::Untrusted && !given.dry_run => return Err(e),
        // What is so damaged tells nothing of who signed it.
        Err(e) => log::info!("{e}"),
    }
    let store = access.store.clone();
    let found = st::recover(access, plan::threads(given.threads), watch)?;
    store.map_or(Ok(()), |store| store.publish())?;
    Ok(found)
}

/// What is done; so that it reads the same when it only would be.
fn done_lines(found: &Recovered) -> Vec<String> {
    let mut lines = Vec::new();
    let mut tell = |is: bool, line: String| lines.extend(is.then(|| format!("{line}\n")));
    let report = &found.repaired.report;
    let good = report.bad_cells - report.lost_cells;
    let cells = say::counted(good, "damaged cell", "damaged cells");
    tell(good > 0, format!("{cells}: made good from parity"));
    tell(found.repaired.written && good == 0, "its parity is damaged: it is written as it was".into());
    tell(found.header, "the header is lost: it gets a new one".into());
    tell(found.identity, "nothing tells any more which container it was: it gets a new identity".into());
    tell(found.cut > 0, format!("{} behind the last commit belong to nothing: they are cut off", bytes(found.cut)));
    tell(found.filled > 0, format!("{} are missing at its end: they are filled up", bytes(found.filled)));
    let tables = say::counted(found.tables, "change", "changes");
    tell(found.tables > 0, format!("{tables} without a whole commit: a new one takes them in"));
    tell(found.root, "the root directory is lost: it gets a new one, which belongs to root".into());
    let found_files = say::counted(found.found, "file or directory", "files or directories");
    tell(found.found > 0, format!("{found_files} without a name: in lost+found"));
    let segments = say::counted(found.segments, "segment", "segments");
    tell(found.segments > 0, format!("{segments} of which no table is left: taken in"));
    lines
}

fn missing_lines(found: &Recovered) -> Vec<String> {
    let mut lines = Vec::new();
    let mut tell = |is: bool, line: String| lines.extend(is.then(|| format!("missing: {line}\n")));
    let tables = say::counted(found.damaged, "table is", "tables are");
    tell(found.damaged > 0, format!("{tables} damaged; what they deleted may be back"));
    let changes = say::counted(found.missing, "change", "changes");
    tell(found.missing > 0, format!("of {changes} no table is left; what was deleted there may be back"));
    tell(found.unfinished, "the last change is not whole, and is left out".into());
    let names = say::counted(found.names, "name led", "names led");
    tell(found.names > 0, format!("{names} to nothing"));
    let unplaced = say::counted(found.unplaced, "file", "files");
    tell(found.unplaced > 0, format!("{unplaced} without a name found no place in lost+found"));
    let segments = say::counted(found.lost_segments, "segment", "segments");
    tell(found.lost_segments > 0, format!("{segments} of which no table is left, damaged too"));
    lines
}

fn damage_lines(found: &Recovered) -> Vec<String> {
    let damage = found.checked.damage.iter().chain(&found.checked.lacking).map(|what| format!("{what}\n"));
    let files = found.checked.files.iter();
    let files = files.map(|file| format!("{}: {}\n", path_display(&file.path), examine::hurt(&file.hurt)));
    let names = found.checked.names.iter().map(|name| format!("{}: {}\n", path_display(&name.path), name.what));
    damage.chain(files).chain(names).collect()
}

fn bytes(count: u64) -> String {
    say::counted(count, "byte", "bytes")
}

fn words(given: &args::Recover, found: &Recovered) -> String {
    let files = say::counted(found.checked.entries, "file", "files");
    let state = match (found.is_whole(), found.is_changed()) {
        (true, false) => "nothing to recover",
        (true, true) => "everything is there again",
        (false, false) => "it opens as it is, and something is missing",
        (false, true) => "it opens again, and something is missing",
    };
    let dry = if given.dry_run && found.is_changed() { " (nothing was written)" } else { "" };
    format!("{}: {files}: {state}{dry}", given.file.display())
}

fn summary(given: &args::Recover, found: &Recovered) -> serde_json::Value {
    json!({
        "made_good": found.repaired.report.bad_cells - found.repaired.report.lost_cells,
        "written": found.is_changed() && !given.dry_run, "header": found.header, "identity": found.identity,
        "cut": found.cut, "filled": found.filled, "commit": found.commit, "changes": found.tables,
        "damaged_tables": found.damaged, "missing_changes": found.missing, "unfinished": found.unfinished,
        "segments": found.segments, "lost_segments": found.lost_segments, "names": found.names, "found": found.found,
        "unplaced": found.unplaced, "root": found.root, "files": found.checked.entries,
        "damage": found.checked.damage.len(), "damaged": found.checked.files.len() + found.checked.names.len(),
    })
}
