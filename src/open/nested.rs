//! Archives inside of a tree, shown as folders beside themselves: next to the file `x.zip` there is the folder `x.zip#`.
//!
//! ```text
//!   number     (number in its tree + 1) << 24 | place in the table of inner archives     0 there: the folder itself
//!                                                the outermost tree has the place 0
//! ```
//!
//! A folder costs nothing until somebody looks into it: then the archive is opened, and what is inside may have such
//! folders again, down to a depth. Of archives that nobody used for long the list of entries is dropped again; it comes back
//! with the same numbers.

use super::How;
use crate::error::{Error, Kind as ErrorKind, Result};
use crate::formats::{self, Access, Reading, Volumes};
use crate::pool::lock;
use crate::source::{POINTS_BUDGET, ReadAt};
use crate::tree::{Attr, Kind, Name, NameBuf, Node, Owner, Time, Totals, Tree, Visit, Xattr, list_as};
use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex};

/// What the name of such a folder ends with.
const MARK: u8 = b'#';

/// Bits of a number that are the place of the archive.
const BITS: u32 = 24;

/// Memory for an entry in the list of an inner archive, with all that is known of it elsewhere. Lists are paid for by the
/// cache, of which they get what it lends; that of the outermost archive is not counted.
const ENTRY: u64 = 280;

/// Archives that are met in one mount; more are not shown as folders.
const MOST: usize = 100_000;

/// Endings of what is shown as a folder.
const ENDINGS: &[&str] = &[
    "st", "zip", "jar", "apk", "cbz", "epub", "7z", "cb7", "rar", "cbr", "tar", "tgz", "tbz", "tbz2", "txz", "tzst",
    "tlz", "gz", "bz2", "xz", "zst", "lz4", "lz", "lzma", "br", "z", "cpio", "deb", "iso", "squashfs", "whl", "war",
    "ear", "xpi", "zipx", "cbt", "img", "sfs", "rpm", "udeb", "snap", "appimage", "001",
];

/// A tree with the insides of archives that are in it.
pub struct Nested {
    how: How,
    state: Mutex<State>,
    outer: Arc<dyn Tree>,
}

#[derive(Default)]
struct State {
    inner: Vec<Arc<Inner>>,
    places: HashMap<(usize, Node), usize>,
    clock: u64,
}

/// An archive in a tree.
struct Inner {
    /// The place of the tree that it is in, the directory there, and its own number.
    parent: usize,
    dir: Node,
    file: Node,
    name: String,
    depth: u32,
    opened: Mutex<Opened>,
}

#[derive(Default)]
struct Opened {
    tree: Option<Arc<dyn Tree>>,
    entries: u64,
    used: u64,
    failed: Option<(ErrorKind, String)>,
    seen: Seen,
}

/// What tells whether a file in a tree that can change is still the same: its length and its time.
type Seen = Option<(u64, Time)>;

impl Nested {
    pub fn new(outer: Arc<dyn Tree>, how: How) -> Self {
        Self { how, state: Mutex::default(), outer }
    }

    fn number(&self, place: usize, node: Option<Node>) -> Result<Node> {
        let number = node.map_or(Some(0), |node| node.0.checked_add(1)).filter(|n| *n < 1 << (64 - BITS));
        let number = number.ok_or_else(|| Error::new(ErrorKind::Limit, "inode numbers are too large to be joined"))?;
        Ok(Node(number << BITS | place as u64))
    }

    /// The tree of a node, and its number there.
    fn inside(&self, node: Node) -> Result<(usize, Arc<dyn Tree>, Node)> {
        let place = (node.0 & ((1 << BITS) - 1)) as usize;
        let tree = self.tree(place)?;
        let inner = match (node.0 >> BITS).checked_sub(1) {
            Some(number) => Node(number),
            None => tree.root(),
        };
        Ok((place, tree, inner))
    }

    fn tree(&self, place: usize) -> Result<Arc<dyn Tree>> {
        let Some(at) = place.checked_sub(1) else { return Ok(self.outer.clone()) };
        let gone = || Error::new(ErrorKind::NotFound, "no such inode");
        let (inner, now) = {
            let mut state = lock(&self.state);
            state.clock += 1;
            (state.inner.get(at).cloned().ok_or_else(gone)?, state.clock)
        };
        // Whoever looks into the same one meanwhile waits for this one opening; others do not.
        let seen = self.seen(&inner)?;
        let mut opened = lock(&inner.opened);
        opened.used = now;
        if std::mem::replace(&mut opened.seen, seen) != seen {
            (opened.tree, opened.failed) = (None, None);
        }
        if let Some(tree) = &opened.tree {
            return Ok(tree.clone());
        }
        if let Some((kind, what)) = &opened.failed {
            return Err(Error::new(*kind, what.clone()));
        }
        match self.open_inner(&inner) {
            Ok(tree) => {
                opened.entries = tree.totals()?.nodes;
                opened.tree = Some(tree.clone());
                drop(opened);
                self.close_some(at);
                Ok(tree)
            }
            Err(e) => {
                log::warn!("{}: it cannot be shown as a folder: {e}", inner.name);
                if !matches!(e.kind(), ErrorKind::Io | ErrorKind::System) {
                    opened.failed = Some((e.kind(), e.to_string()));
                }
                Err(e)
            }
        }
    }

    fn seen(&self, inner: &Inner) -> Result<Seen> {
        if inner.parent > 0 || self.outer.is_frozen() {
            return Ok(None);
        }
        self.outer.attr(inner.file).map(|attr| Some((attr.size, attr.mtime)))
    }

    fn open_inner(&self, inner: &Inner) -> Result<Arc<dyn Tree>> {
        let parent = self.tree(inner.parent)?;
        let bytes = parent.open(inner.file)?;
        let beside = Beside { tree: parent, dir: inner.dir, name: inner.name.clone() };
        // A listing needs no password, and there is nobody to ask for one any more.
        let reading = Reading { asks_late: true, ..(*self.how.reading).clone() };
        let access = Access {
            reading: Arc::new(reading),
            volumes: Some(Arc::new(beside)),
            ..Access::to_read(bytes, self.how.cache.clone(), inner.name.clone())
        };
        let volume = self.how.trust.judge(&inner.name, formats::open(access)?)?;
        volume.notes.iter().for_each(|note| log::info!("{}: {note}", inner.name));
        Ok(volume.tree)
    }

    /// Drops the lists that were not used for longest, when all together are too long.
    fn close_some(&self, but: usize) {
        let all = lock(&self.state).inner.clone();
        // One that somebody is at is not looked at: it is in use.
        let read =
            |inner: &Arc<Inner>| inner.opened.try_lock().ok().filter(|o| o.tree.is_some()).map(|o| (o.used, o.entries));
        let mut open: Vec<_> = all.iter().enumerate().filter_map(|(at, inner)| Some((read(inner)?, at))).collect();
        let mut entries: u64 = open.iter().map(|((_, entries), _)| entries).sum();
        open.sort_unstable();
        let cache = &self.how.cache;
        for ((_, of_this), at) in open {
            if entries * ENTRY > cache.lendable() && at != but {
                lock(&all[at].opened).tree = None;
                entries -= of_this;
            }
        }
        // Many archives have many points, which are in no cache.
        cache.lend(entries * ENTRY + POINTS_BUDGET);
    }

    /// The place of an archive in a tree, which it gets when it is met first.
    fn place_of(&self, parent: usize, dir: Node, name: Name<'_>, file: Node) -> Option<usize> {
        let mut state = lock(&self.state);
        if let Some(place) = state.places.get(&(parent, file)) {
            return Some(*place);
        }
        let depth = parent.checked_sub(1).map_or(0, |at| state.inner[at].depth) + 1;
        if depth > self.how.depth || state.inner.len() >= MOST {
            return None;
        }
        let name = String::from_utf8_lossy(name.bytes()).into_owned();
        state.inner.push(Arc::new(Inner { parent, dir, file, name, depth, opened: Mutex::default() }));
        let place = state.inner.len();
        state.places.insert((parent, file), place);
        Some(place)
    }

    /// The folder of an archive with this name, where the tree has none such itself.
    fn folder(&self, place: usize, tree: &dyn Tree, dir: Node, name: Name<'_>) -> Result<Option<Node>> {
        let Some(file) = unmarked(name) else { return Ok(None) };
        let Some(node) = tree.find(dir, file.as_name())? else { return Ok(None) };
        if tree.attr(node)?.kind != Kind::File {
            return Ok(None);
        }
        let inner = self.place_of(place, dir, file.as_name(), node);
        inner.map(|inner| self.number(inner, None)).transpose()
    }

    fn is_folder(node: Node) -> bool {
        node.0 >> BITS == 0 && node.0 != 0
    }

    /// The attributes of the folder of an archive, without a look into it.
    fn folder_attr(&self, node: Node) -> Result<Attr> {
        let at = (node.0 as usize).wrapping_sub(1);
        let gone = || Error::new(ErrorKind::NotFound, "no such inode");
        let inner = lock(&self.state).inner.get(at).cloned().ok_or_else(gone)?;
        let file = self.tree(inner.parent)?.attr(inner.file)?;
        // Whoever may read the file may look into it.
        let mode = file.mode & 0o444;
        let attr = Attr { uid: file.uid, gid: file.gid, ..Attr::new(Kind::Directory, mode | mode >> 2, file.mtime) };
        Ok(attr)
    }
}

fn looks_like_archive(name: &[u8]) -> bool {
    let Some(dot) = name.iter().rposition(|b| *b == b'.').filter(|at| *at > 0) else { return false };
    let ending = name[dot + 1..].to_ascii_lowercase();
    ENDINGS.iter().any(|known| known.as_bytes() == ending) || ending == b"001"
}

/// The name of the archive that a folder stands for.
fn unmarked(name: Name<'_>) -> Option<NameBuf> {
    let file = name.bytes().strip_suffix(&[MARK])?;
    looks_like_archive(file).then(|| Name::new(file).map(Name::to_owned).ok()).flatten()
}

fn marked(name: Name<'_>) -> Option<NameBuf> {
    let marked = [name.bytes(), &[MARK]].concat();
    (looks_like_archive(name.bytes()) && marked.len() <= 255)
        .then(|| Name::new(&marked).map(Name::to_owned).ok())
        .flatten()
}

impl Tree for Nested {
    fn root(&self) -> Node {
        // The root of the outermost tree; small trees have small numbers.
        self.number(0, Some(self.outer.root())).unwrap_or(Node(1 << BITS))
    }

    fn find(&self, dir: Node, name: Name<'_>) -> Result<Option<Node>> {
        let (place, tree, inner) = self.inside(dir)?;
        match tree.find(inner, name)? {
            Some(found) => Ok(Some(self.number(place, Some(found))?)),
            None => self.folder(place, &*tree, inner, name),
        }
    }

    fn attr(&self, node: Node) -> Result<Attr> {
        if Self::is_folder(node) {
            return self.folder_attr(node);
        }
        let (_, tree, inner) = self.inside(node)?;
        tree.attr(inner)
    }

    fn list(&self, dir: Node, after: Option<Name<'_>>, visit: &mut Visit<'_>) -> Result<()> {
        let (place, tree, inner) = self.inside(dir)?;
        // Behind the folder of an archive comes what is behind the archive, and behind the archive its folder.
        let folder_of = match after {
            Some(after) if tree.find(inner, after)?.is_none() => unmarked(after),
            _ => None,
        };
        let behind = folder_of.as_ref().map(NameBuf::as_name).or(after);
        let owed = after.filter(|_| folder_of.is_none()).and_then(marked);
        if let Some(name) = owed {
            let folder = self.shown_folder(place, &*tree, inner, &name)?;
            if folder.is_some_and(|node| visit(name.as_name(), node, Kind::Directory).is_break()) {
                return Ok(());
            }
        }
        let mut failed = Ok(());
        let numbered = |node| self.number(place, Some(node));
        list_as(&*tree, inner, behind, numbered, &mut |name, node, kind| {
            visit(name, node, kind)?;
            let Some(folder) = marked(name).filter(|_| kind == Kind::File) else { return ControlFlow::Continue(()) };
            match self.shown_folder(place, &*tree, inner, &folder) {
                Ok(Some(node)) => visit(folder.as_name(), node, Kind::Directory),
                Ok(None) => ControlFlow::Continue(()),
                Err(e) => {
                    failed = Err(e);
                    ControlFlow::Break(())
                }
            }
        })?;
        failed
    }

    fn target(&self, link: Node) -> Result<Vec<u8>> {
        let (_, tree, node) = self.inside(link)?;
        tree.target(node)
    }

    fn open(&self, file: Node) -> Result<Arc<dyn ReadAt>> {
        let (_, tree, node) = self.inside(file)?;
        tree.open(node)
    }

    fn xattrs(&self, node: Node) -> Result<Vec<Xattr>> {
        if Self::is_folder(node) {
            return Ok(Vec::new());
        }
        let (_, tree, node) = self.inside(node)?;
        tree.xattrs(node)
    }

    fn owner(&self, node: Node) -> Result<Owner> {
        if Self::is_folder(node) {
            return Ok(Owner::default());
        }
        let (_, tree, node) = self.inside(node)?;
        tree.owner(node)
    }

    /// Those of the outermost tree: to count what is inside of archives would open them all.
    fn totals(&self) -> Result<Totals> {
        self.outer.totals()
    }

    fn is_frozen(&self) -> bool {
        self.outer.is_frozen()
    }

    fn place(&self, file: Node) -> u64 {
        self.inside(file).map_or(u64::MAX, |(_, tree, node)| tree.place(node))
    }
}

impl Nested {
    /// The folder of this name, unless the tree has an entry that is called so.
    fn shown_folder(&self, place: usize, tree: &dyn Tree, dir: Node, name: &NameBuf) -> Result<Option<Node>> {
        if tree.find(dir, name.as_name())?.is_some() {
            return Ok(None);
        }
        self.folder(place, tree, dir, name.as_name())
    }
}

/// The files in the same directory of the same tree.
struct Beside {
    tree: Arc<dyn Tree>,
    dir: Node,
    name: String,
}

impl Volumes for Beside {
    fn name(&self) -> &str {
        &self.name
    }

    fn open(&self, name: &str) -> Result<Option<Arc<dyn ReadAt>>> {
        let Ok(name) = Name::new(name.as_bytes()) else { return Ok(None) };
        let Some(node) = self.tree.find(self.dir, name)? else { return Ok(None) };
        match self.tree.attr(node)?.kind {
            Kind::File => self.tree.open(node).map(Some),
            _ => Ok(None),
        }
    }
}
