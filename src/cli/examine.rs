//! What `info` and `check` find out. For any tree by reading all of it; a container knows more of itself.

use super::inspect::entries;
use super::{plan, say};
use crate::cache::Cache;
use crate::error::{Error, Kind as ErrorKind, Result};
use crate::formats::Watch;
use crate::tree::{Kind, Node, Tree, path_display};
use serde_json::{Value, json};
use std::collections::HashSet;
use std::path::Path;

/// What `info` shows: rows for people, an object for programs.
#[derive(Debug)]
pub struct Facts {
    pub rows: Vec<(String, String)>,
    pub json: Value,
}

/// What `check` found.
#[derive(Debug, Default)]
pub struct Checked {
    pub files: u64,
    pub segments: u64,
    /// Bytes that were read and verified.
    pub bytes: u64,
    /// Every file that cannot be read as it was packed, and why.
    pub damaged: Vec<(Vec<u8>, String)>,
}

pub fn info(source: &Path) -> Result<Facts> {
    let volume = crate::open::open(source, Cache::new(plan::CACHE))?;
    let totals = volume.tree.totals()?;
    let ratio = say::percent(totals.stored, totals.bytes);
    let row = |label: &str, value: String| (label.to_owned(), value);
    let rows = vec![
        row("source", source.display().to_string()),
        row("format", volume.format.to_owned()),
        row("files", say::count(totals.nodes)),
        row("size", say::size(totals.bytes)),
        row("stored", format!("{} ({ratio} %)", say::size(totals.stored))),
    ];
    let json = json!({
        "source": source.display().to_string(), "format": volume.format,
        "files": totals.nodes, "bytes": totals.bytes, "stored": totals.stored,
    });
    Ok(Facts { rows, json })
}

/// Reads every byte of every file once: whatever a format verifies when it reads is verified.
pub fn check(source: &Path, _threads: usize, watch: &dyn Watch) -> Result<Checked> {
    let volume = crate::open::open(source, Cache::new(plan::CACHE))?;
    let totals = volume.tree.totals()?;
    watch.total(totals.bytes, totals.nodes);
    let mut walk =
        Walk { tree: &*volume.tree, watch, seen: HashSet::new(), found: Checked::default(), piece: vec![0; 1 << 20] };
    walk.directory(volume.tree.root(), b"")?;
    Ok(walk.found)
}

struct Walk<'a> {
    tree: &'a dyn Tree,
    watch: &'a dyn Watch,
    /// Inodes with several names, of which one is enough.
    seen: HashSet<Node>,
    found: Checked,
    piece: Vec<u8>,
}

impl Walk<'_> {
    fn directory(&mut self, dir: Node, path: &[u8]) -> Result<()> {
        let listed = entries(self.tree, dir);
        let Some(listed) = self.note(path, listed)? else { return Ok(()) };
        for (name, node, kind) in listed {
            let name = name.as_name().bytes();
            let path = if path.is_empty() { name.to_vec() } else { [path, b"/", name].concat() };
            if kind == Kind::Directory {
                self.directory(node, &path)?;
            } else {
                let read = self.entry(node, kind, &path);
                self.note(&path, read)?;
            }
        }
        Ok(())
    }

    fn entry(&mut self, node: Node, kind: Kind, path: &[u8]) -> Result<()> {
        if self.watch.is_cancelled() {
            return Err(Error::new(ErrorKind::Interrupted, "interrupted"));
        }
        self.watch.entry(path);
        let attr = self.tree.attr(node)?;
        self.tree.xattrs(node)?;
        self.watch.advance(0, 1);
        match kind {
            Kind::Symlink => drop(self.tree.target(node)?),
            Kind::File if attr.nlink < 2 || self.seen.insert(node) => self.file(node)?,
            _ => {}
        }
        Ok(())
    }

    /// The rest of a file is read behind a damaged piece as well: each byte counts once.
    fn file(&mut self, node: Node) -> Result<()> {
        self.found.files += 1;
        let file = self.tree.open(node)?;
        let (len, mut at) = (file.len()?, 0);
        while at < len {
            let got = file.read_at(at, &mut self.piece)?;
            if got == 0 {
                return Err(Error::new(ErrorKind::Damaged, format!("ends at {at} of {len} bytes")));
            }
            at += got as u64;
            self.found.bytes += got as u64;
            self.watch.advance(got as u64, 0);
        }
        Ok(())
    }

    /// Damage is noted and the walk goes on; what concerns the whole ends it.
    fn note<T>(&mut self, path: &[u8], result: Result<T>) -> Result<Option<T>> {
        match result {
            Ok(value) => Ok(Some(value)),
            Err(e) if e.kind() == ErrorKind::Interrupted => Err(e),
            Err(e) => {
                log::debug!("{}: {e}", path_display(path));
                self.found.damaged.push((path.to_owned(), e.to_string()));
                Ok(None)
            }
        }
    }
}
