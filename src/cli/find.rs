//! `find`: what is inside an archive, by name.

use super::args::{self, Kind as Wanted};
use super::inspect::{self, entries};
use super::{cannot_print, exit, plan, say};
use crate::error::{Error, Kind as ErrorKind, Result};
use crate::tree::{Kind, Node, Tree, find_path, path_display};
use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use std::ffi::OsStr;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::os::unix::ffi::OsStrExt;

/// Directories in each other; archives in archives may go on without end.
const MAX_DEPTH: usize = 4096;

pub fn find(given: &args::Find) -> Result<u8> {
    let (volume, path, source) = inspect::open(&given.source, &plan::how_to_look(&given.opening)?)?;
    let tree = &*volume.tree;
    let start = find_path(tree, &path).map_err(|e| e.within(source))?;
    let out = BufWriter::new(io::stdout());
    let mut search = Search { tree, given, names: names(given)?, out, unread: 0 };
    let base = path.strip_prefix(b"/").unwrap_or(&path).to_vec();
    search.directory(start, base)?;
    search.out.flush().map_err(cannot_print)?;
    Ok(if search.unread > 0 { exit::WARNINGS } else { exit::OK })
}

/// Patterns with a slash are for the path, others for the name.
struct Names {
    names: GlobSet,
    paths: GlobSet,
    all: bool,
}

fn names(given: &args::Find) -> Result<Names> {
    let (mut names, mut paths) = (GlobSetBuilder::new(), GlobSetBuilder::new());
    for text in &given.globs {
        let glob = GlobBuilder::new(text.trim_start_matches('/'))
            .literal_separator(true)
            .case_insensitive(given.ignore_case)
            .build()
            .map_err(|e| Error::new(ErrorKind::Usage, format!("{text:?} is no pattern: {}", e.kind())))?;
        if text.contains('/') {
            paths.add(glob)
        } else {
            names.add(glob)
        };
    }
    let built = |set: GlobSetBuilder| set.build().map_err(|e| Error::new(ErrorKind::Usage, e.to_string()));
    Ok(Names { names: built(names)?, paths: built(paths)?, all: given.globs.is_empty() })
}

struct Search<'a> {
    tree: &'a dyn Tree,
    given: &'a args::Find,
    names: Names,
    out: BufWriter<io::Stdout>,
    unread: u64,
}

impl Search<'_> {
    fn directory(&mut self, dir: Node, base: Vec<u8>) -> Result<()> {
        let mut levels = vec![(base, entries(self.tree, dir)?.into_iter())];
        while let Some((above, rest)) = levels.last_mut() {
            let Some((name, node, kind)) = rest.next() else {
                levels.pop();
                continue;
            };
            let name = name.as_name().bytes();
            let path = if above.is_empty() { name.to_vec() } else { [&above[..], b"/", name].concat() };
            if self.is_wanted(name, &path, kind) {
                self.show(node, &path)?;
            }
            if kind == Kind::Directory && levels.len() < MAX_DEPTH {
                match entries(self.tree, node) {
                    Ok(below) => levels.push((path, below.into_iter())),
                    Err(e) => {
                        self.unread += 1;
                        log::warn!("{}: {e}", path_display(&path));
                    }
                }
            }
        }
        Ok(())
    }

    fn is_wanted(&self, name: &[u8], path: &[u8], kind: Kind) -> bool {
        let is_kind = match self.given.kind {
            None => true,
            Some(Wanted::File) => kind == Kind::File,
            Some(Wanted::Directory) => kind == Kind::Directory,
            Some(Wanted::Link) => kind == Kind::Symlink,
        };
        let (name, path) = (OsStr::from_bytes(name), OsStr::from_bytes(path));
        is_kind && (self.names.all || self.names.names.is_match(name) || self.names.paths.is_match(path))
    }

    fn show(&mut self, node: Node, path: &[u8]) -> Result<()> {
        let terminal = io::stdout().is_terminal() && !self.given.print0;
        let mut line = if self.given.long { inspect::long(self.tree, node)?.into_bytes() } else { Vec::new() };
        line.extend_from_slice(&say::name(path, terminal));
        line.push(if self.given.print0 { 0 } else { b'\n' });
        self.out.write_all(&line).map_err(cannot_print)
    }
}
