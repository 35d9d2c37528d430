//! `ls`, `cat`, `info` and `check`: what is inside, without a mount.

use super::args::{self, Common};
use super::parity::Repair;
use super::progress::Progress;
use super::{cannot_print, examine, exit, parity, plan, say, text_out};
use crate::error::{Error, Kind as ErrorKind, Result};
use crate::formats::{Unwatched, Volume};
use crate::open::How;
use crate::source::ReadAt;
use crate::tree::{Attr, Kind, NameBuf, Node, Tree, device, find_path, path_display};
use serde_json::json;
use std::collections::HashSet;
use std::ffi::OsStr;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::ops::ControlFlow;
use std::sync::Arc;

/// Bytes of a file that are in memory at a time.
const PIECE: usize = 1 << 20;

pub(super) fn open(operand: &OsStr, how: &How) -> Result<(Volume, Vec<u8>, String)> {
    let (source, path) = plan::source_and_path(operand);
    let volume = crate::open::open_as(&source, how)?;
    say::notes(&source, &volume.notes);
    Ok((volume, path, source.display().to_string()))
}

pub fn ls(given: &args::Ls) -> Result<u8> {
    let (volume, path, source) = open(&given.source, &plan::how_to_look(&given.opening)?)?;
    let tree = &*volume.tree;
    let node = find_path(tree, &path).map_err(|e| e.within(source))?;
    let out = BufWriter::new(io::stdout());
    let json = given.json;
    let mut listing = Listing { tree, given, terminal: io::stdout().is_terminal() && !json, out, first: true };
    if json {
        listing.write(b"{\"v\":1,\"entries\":[")?;
    }
    let base = trimmed(&path);
    if tree.attr(node)?.kind == Kind::Directory {
        listing.directory(node)?
    } else {
        listing.entry(node, base)?
    }
    if json {
        listing.write(b"]}\n")?;
    }
    listing.out.flush().map_err(cannot_print)?;
    Ok(exit::OK)
}

fn trimmed(path: &[u8]) -> &[u8] {
    let start = path.iter().position(|b| *b != b'/').unwrap_or(path.len());
    &path[start..]
}

struct Listing<'a> {
    tree: &'a dyn Tree,
    given: &'a args::Ls,
    terminal: bool,
    out: BufWriter<io::Stdout>,
    first: bool,
}

impl Listing<'_> {
    /// A directory and, where asked for, what is below it. Those of a hostile container go in circles or down without
    /// end: each is entered once, and the levels do not lie on the stack.
    fn directory(&mut self, dir: Node) -> Result<()> {
        let (mut path, mut entered) = (Vec::new(), HashSet::from([dir]));
        let mut levels = vec![(0, entries(self.tree, dir)?.into_iter())];
        while let Some((above, rest)) = levels.last_mut() {
            path.truncate(*above);
            let Some((name, node, kind)) = rest.next() else {
                levels.pop();
                continue;
            };
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend_from_slice(name.as_name().bytes());
            self.entry(node, &path)?;
            if self.given.recursive && kind == Kind::Directory && entered.insert(node) {
                levels.push((path.len(), entries(self.tree, node)?.into_iter()));
            }
        }
        Ok(())
    }

    fn entry(&mut self, node: Node, path: &[u8]) -> Result<()> {
        if self.given.json {
            let comma = if std::mem::take(&mut self.first) { "\n" } else { ",\n" };
            let value = entry_json(self.tree, node, path)?;
            return self.write(format!("{comma}{value}").as_bytes());
        }
        if self.given.long {
            let line = long(self.tree, node)?;
            self.write(line.as_bytes())?;
        }
        let name = say::name(path, self.terminal).into_owned();
        self.write(&name)?;
        if self.given.long && self.tree.attr(node)?.kind == Kind::Symlink {
            let target = say::name(&self.tree.target(node)?, self.terminal).into_owned();
            self.write(b" -> ")?;
            self.write(&target)?;
        }
        self.write(b"\n")
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.out.write_all(bytes).map_err(cannot_print)
    }
}

/// Mode, owner, size and time, as `ls -l` writes them.
pub(super) fn long(tree: &dyn Tree, node: Node) -> Result<String> {
    let (attr, owner) = (tree.attr(node)?, tree.owner(node)?);
    let user = owner.user.unwrap_or_else(|| attr.uid.to_string());
    let group = owner.group.unwrap_or_else(|| attr.gid.to_string());
    let size = match attr.kind.is_device() {
        true => format!("{}, {}", device::major(attr.rdev), device::minor(attr.rdev)),
        false => attr.size.to_string(),
    };
    let time = say::date(attr.mtime.secs);
    Ok(format!("{} {:>3} {user:<8} {group:<8} {size:>12} {time} ", mode_words(&attr), attr.nlink))
}

/// The entries of a directory, sorted by their bytes.
pub fn entries(tree: &dyn Tree, dir: Node) -> Result<Vec<(NameBuf, Node, Kind)>> {
    let mut found = Vec::new();
    tree.list(dir, None, &mut |name, node, kind| {
        found.push((name.to_owned(), node, kind));
        ControlFlow::Continue(())
    })?;
    found.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(found)
}

/// `drwxr-sr-x`.
fn mode_words(attr: &Attr) -> String {
    let kind = match attr.kind {
        Kind::Fifo => 'p',
        Kind::CharDevice => 'c',
        Kind::Directory => 'd',
        Kind::BlockDevice => 'b',
        Kind::File => '-',
        Kind::Symlink => 'l',
        Kind::Socket => 's',
    };
    let mut out = String::from(kind);
    for (shift, special, letter) in [(6, 0o4000, 's'), (3, 0o2000, 's'), (0, 0o1000, 't')] {
        let bits = attr.mode >> shift;
        out.push(if bits & 4 != 0 { 'r' } else { '-' });
        out.push(if bits & 2 != 0 { 'w' } else { '-' });
        out.push(match (attr.mode & special != 0, bits & 1 != 0) {
            (true, true) => letter,
            (true, false) => letter.to_ascii_uppercase(),
            (false, true) => 'x',
            (false, false) => '-',
        });
    }
    out
}

fn kind_word(kind: Kind) -> &'static str {
    match kind {
        Kind::Fifo => "fifo",
        Kind::CharDevice => "char",
        Kind::Directory => "directory",
        Kind::BlockDevice => "block",
        Kind::File => "file",
        Kind::Symlink => "symlink",
        Kind::Socket => "socket",
    }
}

/// Text where it is UTF-8, else its bytes: no name is lost on the way through JSON.
fn json_bytes(bytes: &[u8]) -> serde_json::Value {
    std::str::from_utf8(bytes).map_or_else(|_| json!(bytes), |text| json!(text))
}

fn entry_json(tree: &dyn Tree, node: Node, path: &[u8]) -> Result<serde_json::Value> {
    let (attr, owner) = (tree.attr(node)?, tree.owner(node)?);
    let mut value = json!({
        "path": json_bytes(path), "type": kind_word(attr.kind), "mode": format!("{:04o}", attr.mode), "size": attr.size,
        "uid": attr.uid, "gid": attr.gid, "user": owner.user, "group": owner.group, "nlink": attr.nlink, "inode": node.0,
        "mtime": attr.mtime.secs, "mtime_ns": attr.mtime.nanos,
    });
    if attr.kind == Kind::Symlink {
        value["target"] = json_bytes(&tree.target(node)?);
    }
    Ok(value)
}

pub fn cat(given: &args::Cat) -> Result<u8> {
    let mut out = io::stdout();
    let how = plan::how(&given.opening, Arc::new(Unwatched))?;
    for operand in &given.sources {
        let (volume, path, source) = open(operand, &how)?;
        let place = format!("{source}:{}", path_display(&path));
        if path.is_empty() {
            return Err(Error::new(ErrorKind::Usage, format!("{source}: no file inside is named"))
                .hint(format!("stmount cat {source}:PATH, or `stmount ls -R {source}` to see the paths")));
        }
        let node = find_path(&*volume.tree, &path).map_err(|e| e.within(&source))?;
        let file = file_of(&*volume.tree, node, &place)?;
        copy(&*file, &mut out, &place)?;
    }
    out.flush().map_err(cannot_print)?;
    Ok(exit::OK)
}

fn file_of(tree: &dyn Tree, node: Node, place: &str) -> Result<Arc<dyn ReadAt>> {
    let attr = tree.attr(node)?;
    match attr.kind {
        Kind::File => tree.open(node),
        Kind::Directory => {
            Err(Error::new(ErrorKind::IsADirectory, format!("{place} is a directory"))
                .hint(format!("stmount ls {place}")))
        }
        Kind::Symlink => {
            let target = path_display(&tree.target(node)?);
            Err(Error::new(ErrorKind::Invalid, format!("{place} is a symbolic link to {target}")).hint("that path"))
        }
        other => Err(Error::new(ErrorKind::Invalid, format!("{place} is a {}, it has no content", kind_word(other)))),
    }
}

fn copy(file: &dyn ReadAt, out: &mut dyn Write, place: &str) -> Result<()> {
    let (len, mut at) = (file.len()?, 0);
    let mut piece = vec![0; PIECE.min(len as usize)];
    while at < len {
        let got = file.read_at(at, &mut piece).map_err(|e| e.within(place))?;
        if got == 0 {
            return Err(Error::new(ErrorKind::Damaged, format!("{place} ends at {at} of {len} bytes")));
        }
        out.write_all(&piece[..got]).map_err(cannot_print)?;
        at += got as u64;
    }
    Ok(())
}

pub fn info(given: &args::Info) -> Result<u8> {
    let facts = examine::info(&given.source, &plan::how_to_look(&given.opening)?)?;
    if given.json {
        let mut value = facts.json;
        value["v"] = 1.into();
        text_out(&format!("{value}\n"))?;
        return Ok(exit::OK);
    }
    let width = facts.rows.iter().map(|(label, _)| label.chars().count()).max().unwrap_or(0);
    let lines: Vec<String> = facts.rows.iter().map(|(label, value)| format!("{label:width$}  {value}\n")).collect();
    text_out(&say::for_terminal(&lines.concat(), io::stdout().is_terminal()))?;
    Ok(exit::OK)
}

pub fn check(given: &args::Check, common: &Common) -> Result<u8> {
    let progress = Progress::new("check", common);
    let how = plan::how(&given.opening, progress.clone())?;
    let repairs = |report: &mut Option<Repair>| -> Result<examine::Checked> {
        if given.repair {
            *report = parity::repair(&given.source, &how, given.opening.force, &*progress)?;
        }
        examine::check(&given.source, &how, plan::threads(given.threads), &*progress)
    };
    let mut repaired = None;
    let report = progress.guard(|| (), || repairs(&mut repaired));
    if let Some(lines) = repaired.as_ref().map(repair_lines).filter(|_| !given.json) {
        text_out(&lines)?;
    }
    let report = match report {
        Ok(report) => report,
        Err(e) => {
            if let Some(code) = repaired.as_ref().and_then(|done| parity::unread(done, &e)) {
                progress.finish("", json!({}), code);
                return Ok(code);
            }
            let code = progress.signal().map_or_else(|| exit::code(e.kind()), exit::of_signal);
            progress.tell_error(&e);
            progress.finish("", json!({}), code);
            return if progress.is_json() || progress.signal().is_some() { Ok(code) } else { Err(e) };
        }
    };
    let code = match report.is_whole() {
        true if report.strays.is_empty() && repaired.as_ref().is_some_and(|done| done.written) => exit::REPAIRED,
        true if report.strays.is_empty() => exit::OK,
        true => exit::WARNINGS,
        false if report.is_incomplete() => exit::MISSING_VOLUME,
        false => exit::DAMAGED,
    };
    progress.finish(&check_words(&report, &progress), check_json(&report), code);
    if given.json {
        let mut value = check_json(&report);
        value["v"] = 1.into();
        text_out(&format!("{value}\n"))?;
    } else {
        let damage = report.damage.iter().chain(&report.lacking).chain(&report.strays).map(|what| format!("{what}\n"));
        let files = report.damaged.iter().map(|(path, why)| format!("{}: {why}\n", path_display(path)));
        text_out(&say::for_terminal(&damage.chain(files).collect::<String>(), io::stdout().is_terminal()))?;
    }
    Ok(code)
}

fn repair_lines(done: &Repair) -> String {
    let report = &done.report;
    let cells = |n: u64| say::counted(n, "damaged cell", "damaged cells");
    let rest = report.bad_parity + report.bad_hashes + report.bad_descriptors;
    let made: String = done.made.iter().map(|name| format!("{name} was missing, and is made anew\n")).collect();
    let cells = match (report.bad_cells, report.lost_cells) {
        (0, _) if rest == 0 && !done.written => String::new(),
        (0, _) if !done.made.is_empty() => String::new(),
        (0, _) => "the parity was damaged, and is as it was\n".to_owned(),
        (bad, 0) => format!("{}: all is as it was\n", cells(bad)),
        (bad, lost) if done.written => format!("{}: {} lost, all else is as it was\n", cells(bad), say::count(lost)),
        (bad, lost) => format!("{}: {} cannot be made good, and nothing was written\n", cells(bad), say::count(lost)),
    };
    made + &cells
}

fn check_words(report: &examine::Checked, progress: &Progress) -> String {
    let files = say::counted(report.files, "file", "files");
    let (size, took) = (say::size(report.bytes), say::time(progress.took()));
    match report.damaged.len() as u64 {
        0 if report.is_whole() && report.strays.is_empty() => format!("{size} in {files}: no damage ({took})"),
        0 if report.is_whole() => format!("{size} in {files}: every file is whole, the container is not ({took})"),
        n if report.is_incomplete() => {
            format!(
                "{size} in {files}: {} a base that is not there ({took})",
                say::counted(n, "file lacks", "files lack")
            )
        }
        n => format!("{size} in {files}: damaged, {} ({took})", say::counted(n, "file", "files")),
    }
}

fn check_json(report: &examine::Checked) -> serde_json::Value {
    let damaged: Vec<_> =
        report.damaged.iter().map(|(path, why)| json!({"path": json_bytes(path), "reason": why})).collect();
    json!({"files": report.files, "segments": report.segments, "bytes": report.bytes, "damage": report.damage, "lacking": report.lacking,
        "strays": report.strays, "damaged": damaged})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_read_as_ls_writes_them() {
        let time = crate::tree::Time::default();
        let attr = |kind, mode| Attr::new(kind, mode, time);
        assert_eq!(mode_words(&attr(Kind::Directory, 0o1777)), "drwxrwxrwt");
        assert_eq!(mode_words(&attr(Kind::File, 0o4755)), "-rwsr-xr-x");
        assert_eq!(mode_words(&attr(Kind::File, 0o2640)), "-rw-r-S---");
        assert_eq!(mode_words(&attr(Kind::Symlink, 0o777)), "lrwxrwxrwx");
    }
}
