//! An overlay on its way: what is in it as a tree to be packed, and what was packed laid over the same base elsewhere.

use super::dir::Dir;
use super::settle::{Laying, Next, Wanted};
use super::state::{Belongs, Spot, State};
use super::{CHANGES, FILES, Overlay, check, is_file, join, resolve, take_over};
use crate::error::{Error, Kind as ErrorKind, Result, Within};
use crate::formats::Watch;
use crate::pool::lock;
use crate::source::{Memory, ReadAt};
use crate::tree::{
    Attr, Changes, Draft, Inode, Kind, Merged, Name, NameBuf, Node, Time, Totals, Tree, Visit, find_path, path_display,
};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// Contents in the directory, that are opened when they are read: there may be more than files can be open.
pub struct Lies {
    pub dir: Dir,
    pub path: Vec<u8>,
    pub size: u64,
}

impl ReadAt for Lies {
    fn len(&self) -> Result<u64> {
        Ok(self.size)
    }

    fn read_at(&self, at: u64, into: &mut [u8]) -> Result<usize> {
        self.dir.open(&self.dir.clear(&self.path))?.read_at(at, into)
    }

    fn next_data(&self, at: u64) -> Result<Option<std::ops::Range<u64>>> {
        self.dir.open(&self.dir.clear(&self.path))?.next_data(at)
    }
}

/// An empty directory.
struct Nothing;

impl Tree for Nothing {
    fn root(&self) -> Node {
        Node(0)
    }
    fn find(&self, _: Node, _: Name<'_>) -> Result<Option<Node>> {
        Ok(None)
    }
    fn attr(&self, node: Node) -> Result<Attr> {
        match node.0 {
            0 => Ok(Attr { nlink: 2, ..Attr::new(Kind::Directory, 0o755, Time::default()) }),
            _ => Err(Error::new(ErrorKind::NotFound, "there is no such inode")),
        }
    }
    fn list(&self, _: Node, _: Option<Name<'_>>, _: &mut Visit<'_>) -> Result<()> {
        Ok(())
    }
    fn target(&self, _: Node) -> Result<Vec<u8>> {
        Err(Error::new(ErrorKind::Invalid, "it is no link"))
    }
    fn open(&self, _: Node) -> Result<Arc<dyn ReadAt>> {
        Err(Error::new(ErrorKind::Invalid, "it is no file"))
    }
    fn totals(&self) -> Result<Totals> {
        Ok(Totals::default())
    }
    fn is_frozen(&self) -> bool {
        true
    }
}

/// A tree that is made of files by their paths.
#[derive(Default)]
struct Sheaf {
    changes: Changes,
    dirs: BTreeMap<Vec<u8>, Node>,
    next: u64,
}

impl Sheaf {
    fn node(&mut self, attr: Attr) -> Node {
        self.next += 1;
        self.changes.nodes.insert(Node(self.next), Some(Inode::new(attr, true)));
        Node(self.next)
    }

    fn put(&mut self, path: &[u8], node: Node, kind: Kind) -> Result<()> {
        let (dir, name) = match path.iter().rposition(|b| *b == b'/') {
            Some(at) => (self.dir(&path[..at])?, &path[at + 1..]),
            None => (Node(0), path),
        };
        let name: NameBuf = Name::new(name)?.to_owned();
        self.changes.set_name(dir, name, Some((node, kind)));
        Ok(())
    }

    fn dir(&mut self, path: &[u8]) -> Result<Node> {
        if let Some(node) = self.dirs.get(path) {
            return Ok(*node);
        }
        let node = self.node(Attr { nlink: 2, ..Attr::new(Kind::Directory, 0o755, Time::default()) });
        self.dirs.insert(path.to_vec(), node);
        self.put(path, node, Kind::Directory)?;
        Ok(node)
    }

    fn file(&mut self, path: &[u8], (size, mtime): (u64, Time), contents: Arc<dyn ReadAt>) -> Result<()> {
        let node = self.node(Attr { size, allocated: size, ..Attr::new(Kind::File, 0o644, mtime) });
        let mut draft = Draft::default();
        draft.copy(0, size, contents, 0);
        if let Some(Some(inode)) = self.changes.nodes.get_mut(&node) {
            inode.draft = Some(Arc::new(draft));
        }
        self.put(path, node, Kind::File)
    }
}

/// What is in an overlay, as a tree: the same for the same overlay, wherever it lies.
pub fn to_patch(dir: &Dir, state: &State) -> Result<Arc<dyn Tree>> {
    let mut canonical = state.changes()?;
    let mut sheaf = Sheaf::default();
    for (node, spot) in &mut canonical.spots {
        take_over(dir, &mut canonical.changes, *node, spot);
        let Spot::Clear { path, size, mtime } = spot else { continue };
        let Some(seen) = dir.seen(path) else {
            let what = format!("contents are missing from the overlay: {}", dir.clear(path).display());
            return Err(
                Error::new(ErrorKind::NotFound, what).hint("put the file back, or `stmount overlay reset DIR PATH`")
            );
        };
        // What a file system makes of times is none of the overlay.
        let inode = canonical.changes.nodes.get(node).and_then(Option::as_ref);
        let time = inode.map_or(Time::default(), |inode| inode.attr.mtime);
        (*size, *mtime) = (seen.0, (time.secs, time.nanos));
        let mut name = FILES.as_bytes().to_vec();
        join(&mut name, path);
        let contents = Arc::new(Lies { dir: dir.clone(), path: path.clone(), size: *size });
        sheaf.file(&name, (*size, time), contents)?;
    }
    let belongs = Belongs { path: Vec::new(), ..state.belongs.clone() };
    let mut alone = State { belongs, sequence: 0, is_committing: false, moves: Vec::new(), ..state.clone() };
    alone.set(&canonical);
    let bytes = alone.encode();
    let size = bytes.len() as u64;
    sheaf.file(CHANGES.as_bytes(), (size, Time::default()), Arc::new(Memory::new(bytes)))?;
    Ok(Arc::new(Merged::new(Arc::new(Nothing), sheaf.changes)))
}

impl Overlay {
    /// Takes in what a patch has, in place of nothing. `patch` is what was packed.
    pub fn adopt(&self, state: &State, patch: &dyn Tree, watch: &dyn Watch) -> Result<()> {
        let mut now = lock(&self.now);
        let (mut changes, found) = resolve(state, &self.base)?;
        check::check(&changes, &self.base)?;
        let (mut spots, mut fresh, mut wanted) = (HashMap::new(), HashMap::new(), Wanted::new());
        let mut files = Vec::new();
        self.dir.sweep()?;
        for (node, spot) in found {
            let path = match spot {
                Spot::Base { ref path } => {
                    let same = find_path(&*self.base, path)?;
                    if self.base.attr(same)?.kind != Kind::File {
                        return Err(Error::new(ErrorKind::Damaged, "the patch has contents of what is no file"));
                    }
                    spots.insert(node, spot);
                    continue;
                }
                Spot::Clear { path, .. } => path,
            };
            let contents = in_patch(patch, &path).within(|| path_display(&path))?;
            let Some(Some(inode)) = changes.nodes.get_mut(&node) else { continue };
            inode.attr.size = contents.len()?;
            files.push(Laying { node, path: Some(path), mtime: inode.attr.mtime, size: inode.attr.size });
        }
        let contents = |file: &Laying| in_patch(patch, file.path.as_deref().unwrap_or_default());
        self.lay(files, &contents, (&mut fresh, &mut wanted), watch)?;
        debug_assert!(fresh.keys().all(|node| is_file(&changes, *node)));
        self.give_names(&now, wanted, &mut spots);
        let belongs = self.belongs.clone();
        self.become_next(&mut now, Next { changes, spots, fresh, belongs, is_committing: false }, None)
    }
}

/// The contents that a patch has for a path.
fn in_patch(patch: &dyn Tree, path: &[u8]) -> Result<Arc<dyn ReadAt>> {
    let mut name = FILES.as_bytes().to_vec();
    join(&mut name, path);
    let node = find_path(patch, &name)?;
    match patch.attr(node)?.kind {
        Kind::File => patch.open(node),
        _ => Err(Error::new(ErrorKind::Damaged, "it is no file in the patch")),
    }
}
