//! What is written into an archive of another maker: all entries of a tree in a useful order, and what of them a format
//! cannot hold.

use super::Watch;
use crate::error::{Error, Kind as ErrorKind, Result};
use crate::tree::{Attr, Filter, Kind, Node, Tree};
use std::collections::HashMap;
use std::ops::ControlFlow;

/// Directories below each other.
const MAX_DEPTH: usize = 4096;

/// One entry of a tree.
pub struct Found {
    /// From the root, without a slash at either end; empty for the root itself.
    pub path: Vec<u8>,
    pub node: Node,
    pub attr: Attr,
    /// The path of the first entry that is the same file, for a further name of one.
    pub same_as: Option<Vec<u8>>,
}

/// All entries that take part: directories before what is in them, and everything else in the order in which its contents
/// lie where they come from. The same tree gives the same order.
pub fn collect(tree: &dyn Tree, filter: &Filter, watch: &dyn Watch) -> Result<Vec<Found>> {
    let root = tree.root();
    let mut all = vec![Found { path: Vec::new(), node: root, attr: tree.attr(root)?, same_as: None }];
    let mut todo = vec![(Vec::new(), root, 0)];
    while let Some((path, dir, depth)) = todo.pop() {
        if watch.is_cancelled() {
            return Err(Error::new(ErrorKind::Interrupted, "interrupted"));
        }
        let first = all.len();
        let listed = below(tree, &path, dir, filter, &mut all);
        let too_deep = || Error::new(ErrorKind::Limit, format!("more than {MAX_DEPTH} directories are in each other"));
        match listed {
            Ok(()) if depth < MAX_DEPTH => {}
            Ok(()) => return Err(too_deep()),
            Err(e) => watch.skipped(&path, &e),
        }
        let dirs = all[first..].iter().filter(|found| found.attr.kind == Kind::Directory);
        todo.extend(dirs.map(|found| (found.path.clone(), found.node, depth + 1)));
    }
    order(tree, filter, &mut all);
    Ok(all)
}

fn below(tree: &dyn Tree, path: &[u8], dir: Node, filter: &Filter, all: &mut Vec<Found>) -> Result<()> {
    let mut failed = Ok(());
    tree.list(dir, None, &mut |name, node, _| {
        let path = if path.is_empty() { name.bytes().to_vec() } else { [path, b"/", name.bytes()].concat() };
        if filter.excludes(&path) {
            return ControlFlow::Continue(());
        }
        match tree.attr(node) {
            Ok(attr) => all.push(Found { path, node, attr, same_as: None }),
            Err(e) => {
                failed = Err(e);
                return ControlFlow::Break(());
            }
        }
        ControlFlow::Continue(())
    })?;
    failed
}

fn order(tree: &dyn Tree, filter: &Filter, all: &mut Vec<Found>) {
    all.retain(|found| found.attr.kind == Kind::Directory || filter.includes(&found.path));
    all.sort_by_cached_key(|found| match found.attr.kind {
        Kind::Directory => (0, 0, found.path.clone()),
        Kind::File => (1, tree.place(found.node), found.path.clone()),
        _ => (1, 0, found.path.clone()),
    });
    let mut first: HashMap<Node, Vec<u8>> = HashMap::new();
    for found in all.iter_mut().filter(|found| found.attr.kind != Kind::Directory && found.attr.nlink > 1) {
        match first.get(&found.node) {
            Some(path) => found.same_as = Some(path.clone()),
            None => drop(first.insert(found.node, found.path.clone())),
        }
    }
}

/// What a format can hold besides the names, sizes and contents of files.
#[derive(Clone, Copy, Debug)]
pub struct Holds {
    pub format: &'static str,
    pub hard_links: bool,
    pub symlinks: bool,
    /// Bytes of names and values that the extended attributes of one entry may have together; 0 where there is no room.
    pub xattrs: usize,
    pub owners: bool,
    pub sparse: bool,
    /// Fifos and devices.
    pub specials: bool,
    pub sockets: bool,
    /// The mode and the times of the root.
    pub root: bool,
    /// Names that are not UTF-8.
    pub any_names: bool,
    /// Nanoseconds that it tells apart.
    pub time: u32,
}

impl Holds {
    /// Names in UTF-8, contents, modes, times to the second and symbolic links.
    pub const BASIC: Self = Self {
        format: "it",
        hard_links: false,
        symlinks: true,
        xattrs: 0,
        owners: false,
        sparse: false,
        specials: false,
        sockets: false,
        root: false,
        any_names: false,
        time: 1_000_000_000,
    };

    /// All that there is.
    pub const EVERYTHING: Self = Self {
        format: "it",
        hard_links: true,
        symlinks: true,
        xattrs: usize::MAX,
        owners: true,
        sparse: true,
        specials: true,
        sockets: true,
        root: true,
        any_names: true,
        time: 1,
    };

    /// What of these entries is lost, in words, each with what becomes of it.
    pub fn lost(&self, tree: &dyn Tree, all: &[Found]) -> Vec<String> {
        let count = |what: &dyn Fn(&Found) -> bool| all.iter().filter(|found| what(found)).count();
        let has_xattrs = |found: &Found| tree.xattrs(found.node).is_ok_and(|xattrs| !xattrs.is_empty());
        let is_sparse = |found: &Found| found.attr.kind == Kind::File && found.attr.allocated < found.attr.size;
        let is_special = |f: &Found| matches!(f.attr.kind, Kind::Fifo | Kind::CharDevice | Kind::BlockDevice);
        let is_fine = |f: &Found| !f.attr.mtime.nanos.is_multiple_of(self.time.max(1));
        let root = all.first().map_or((0, 0), |root| (root.attr.uid, root.attr.gid));
        let is_other = |f: &Found| (f.attr.uid, f.attr.gid) != root;
        let table: [(bool, usize, &str); 8] = [
            (self.hard_links, count(&|f| f.same_as.is_some()), "further names of hard links become files of their own"),
            (
                self.xattrs > 0,
                if self.xattrs > 0 { 0 } else { count(&has_xattrs) },
                "entries lose their extended attributes and ACLs",
            ),
            (self.owners, count(&is_other), "entries lose who they belong to"),
            (self.sparse, count(&is_sparse), "sparse files become as long as they seem"),
            (self.specials, count(&is_special), "fifos and devices are left out"),
            (self.sockets, count(&|f| f.attr.kind == Kind::Socket), "sockets are left out"),
            (
                self.any_names,
                count(&|f| std::str::from_utf8(&f.path).is_err()),
                "names that are not UTF-8 are written with %XX",
            ),
            (false, count(&is_fine), "times lose their fractions of a second"),
        ];
        let lost = table.iter().filter(|(held, count, _)| !held && *count > 0);
        lost.map(|(_, count, what)| format!("{}: {count} {what}", self.format)).collect()
    }

    /// Whether there is a place for this kind of entry.
    pub fn has_place_for(&self, kind: Kind) -> bool {
        match kind {
            Kind::Directory | Kind::File => true,
            Kind::Symlink => self.symlinks,
            Kind::Fifo | Kind::CharDevice | Kind::BlockDevice => self.specials,
            Kind::Socket => self.sockets,
        }
    }
}

/// A path as text, where a format holds only that: bytes that are not UTF-8 are written as `%XX`.
pub fn as_text(path: &[u8]) -> String {
    let mut text = String::new();
    for chunk in path.utf8_chunks() {
        text.push_str(chunk.valid());
        chunk.invalid().iter().for_each(|b| text.push_str(&format!("%{b:02X}")));
    }
    text
}
