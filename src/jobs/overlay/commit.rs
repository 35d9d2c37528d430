//! The changes of an overlay, brought into its base.
//!
//! ```text
//!   settle ─► noted in the overlay ─► one commit of the base ─► the overlay is emptied
//! ```
//!
//! The base takes all of them or none. Who is interrupted behind that finds an overlay that does not fit any more, which
//! says that a commit was under way.

use crate::error::{Error, Kind, Result, Within};
use crate::formats::overlay::{self, Contents, Dir, FIRST_NEW, Spot, State, renumbered, take_over};
use crate::formats::{Holds, Upkeep, Volume, Watch, Writer};
use crate::open::overlay::{attach, base_of, settled};
use crate::open::{Claim, How, open_claimed};
use crate::source::ReadAt;
use crate::tree::{Changes, Draft, Inode, Kind as NodeKind, Node, find_path, path_display};
use std::path::Path;
use std::sync::Arc;

/// What was brought into a base.
#[derive(Default)]
pub struct Committed {
    pub entries: u64,
    pub bytes: u64,
    /// Why it is only in the journal of the base yet.
    pub later: Option<Error>,
}

/// Brings the changes into the base, and empties the overlay.
pub fn commit(dir: &Path, base: Option<&Path>, how: &How, watch: &dyn Watch) -> Result<Committed> {
    let (place, state) = settled(dir, base, how)?;
    let base = base_of(base, &state);
    // Whether it fits is asked of the base as it is read.
    let over = attach(&base, place, how)?;
    if let Some(path) = over.overlay.missing().first() {
        let what = format!("contents are missing from the overlay: {}", over.overlay.dir().clear(path).display());
        return Err(Error::new(Kind::NotFound, what).hint("put the file back, or `stmount overlay reset DIR PATH`"));
    }
    drop(over);
    let (place, state) = settled(dir, Some(&base), how)?;
    if state.is_empty()? {
        return Ok(Committed::default());
    }
    let volume = open_claimed(&base, how, &Claim::default(), Upkeep::default(), true)?;
    let only_read = || {
        Error::new(Kind::ReadOnly, format!("{} takes no changes", base.display()))
            .hint("stmount convert makes a .st of a mount of both, which takes changes; the overlay is as it was")
    };
    let writer = volume.writer.clone().ok_or_else(only_read)?;
    if writer.unsettled().entries > 0 {
        let what = format!("{} has changes in its journal that the overlay does not know", base.display());
        return Err(Error::new(Kind::Changed, what).hint("mount it with -o rw and unmount it, which brings them in"));
    }
    let changes = replayed(&place.dir, &state, &volume, &*writer).within(|| base.display())?;
    let begun = state.committing(true);
    place.dir.write_changes(&begun.encode())?;
    let done = committed(&changes, &*writer, watch);
    drop((writer, volume));
    match done {
        Ok(done) => {
            overlay::reset_all(&place.dir, &begun, begun.belongs.clone())?;
            Ok(done)
        }
        Err(e) => {
            place.dir.write_changes(&begun.committing(false).encode())?;
            Err(e.within(base.display()))
        }
    }
}

fn committed(changes: &Changes, writer: &dyn Writer, watch: &dyn Watch) -> Result<Committed> {
    let (entries, bytes) = (changes.entries(), changes.touched());
    writer.reserve(bytes, entries)?;
    writer.commit(changes)?;
    // From here on it is in the base, or in the journal of that.
    let later = writer.settle(watch, &mut |_| {}).err();
    Ok(Committed { entries, bytes, later })
}

/// The changes, as a writer of the base takes them.
fn replayed(dir: &Dir, state: &State, volume: &Volume, writer: &dyn Writer) -> Result<Changes> {
    let mut canonical = state.changes()?;
    let (tree, first) = (&*volume.tree, writer.first_new_node());
    let found = state.paths.iter().map(|path| find_path(tree, path)).collect::<Result<Vec<Node>>>()?;
    let number = |node: Node| match node.0.checked_sub(FIRST_NEW) {
        Some(new) => Node(first + new),
        None => found[node.0 as usize],
    };
    for (node, spot) in &canonical.spots {
        take_over(dir, &mut canonical.changes, *node, spot);
    }
    let mut changes = renumbered(canonical.changes, number);
    for (node, spot) in &canonical.spots {
        let Some(Some(inode)) = changes.nodes.get_mut(&number(*node)) else { continue };
        let contents: Arc<dyn ReadAt> = match spot {
            Spot::Clear { path, .. } => {
                Arc::new(Contents { dir: dir.clone(), path: path.clone(), size: inode.attr.size })
            }
            Spot::Base { path } => tree.open(find_path(tree, path)?)?,
        };
        let mut draft = Draft::default();
        draft.copy(0, inode.attr.size, contents, 0);
        inode.draft = Some(Arc::new(draft));
    }
    let root = tree.attr(tree.root())?;
    for (node, inode) in &mut changes.nodes {
        let Some(inode) = inode else { continue };
        let owner = if inode.is_new { root.clone() } else { tree.attr(*node)? };
        fitted(inode, writer.holds(), (owner.uid, owner.gid))?;
    }
    names_fit(&changes, writer.holds())?;
    Ok(changes)
}

fn no_room(holds: &Holds, what: &str) -> Error {
    Error::new(Kind::Unsupported, format!("{} has no room for {what} that the overlay has", holds.format))
        .hint("stmount convert makes a .st of it, which has; the overlay is as it was")
}

/// What a format cannot hold of an inode, as a mount of it would do it.
fn fitted(inode: &mut Inode, holds: &Holds, owner: (u32, u32)) -> Result<()> {
    if !holds.owners {
        (inode.attr.uid, inode.attr.gid) = owner;
    }
    inode.attr.mtime = inode.attr.mtime.rounded(holds.time);
    let xattrs: usize = inode.xattrs.iter().flatten().map(|(name, value)| name.len() + value.len() + 8).sum();
    if xattrs > holds.xattrs {
        return Err(no_room(holds, "the extended attributes"));
    }
    if inode.is_new && !holds.has_place_for(inode.attr.kind) {
        return Err(no_room(holds, "a fifo, a device or a socket"));
    }
    match inode.attr.kind != NodeKind::Directory && inode.attr.nlink > 1 && !holds.hard_links {
        true => Err(no_room(holds, "hard links")),
        false => Ok(()),
    }
}

fn names_fit(changes: &Changes, holds: &Holds) -> Result<()> {
    let names = changes.names.values().flat_map(|names| names.keys());
    let bad = names.map(|name| name.as_name().bytes()).find(|name| std::str::from_utf8(name).is_err());
    match bad.filter(|_| !holds.any_names) {
        Some(name) => Err(no_room(holds, &format!("the name {}, which is not UTF-8,", path_display(name)))),
        None => Ok(()),
    }
}
