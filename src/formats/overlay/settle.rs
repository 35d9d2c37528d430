//! What is in the journal, brought into the directory.

use super::base::Base;
use super::dir::BATCH;
use super::equal::{drop_equal, is_same};
use super::laid::{Lies, moved};
use super::paths::Paths;
use super::roll::{self, Rolled};
use super::spots::Names;
use super::state::{Canonical, Spot, State};
use super::{FIRST_NEW, HOLDS, Now, Overlay, is_file, renumbered, stamp_of};
use crate::error::{Error, Kind, Result};
use crate::formats::{Holds, Lasting, Notes, Settle, Task, Watch, nothing_to_compact};
use crate::pool::lock;
use crate::source::{ReadAt, Stamp};
use crate::tree::{Attr, Changes, Kind as NodeKind, Merged, Node, Time, Tree, find_path, path_display};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

/// Bytes that are copied at a time.
const PIECE: u64 = 1 << 20;
/// An inode that is laid out in a file takes so much besides its contents, about.
const ENTRY: u64 = 4096;

/// What an overlay is to become.
pub struct Next {
    pub changes: Changes,
    pub spots: HashMap<Node, Spot>,
    /// Contents that lie below `new`, by their numbers there.
    pub fresh: HashMap<Node, u64>,
    pub belongs: super::Belongs,
    pub is_committing: bool,
}

/// Contents that are to have names, by the paths that they have in the mount.
pub type Wanted = BTreeMap<(Option<Vec<u8>>, Node), Spot>;

/// Contents that are to be written.
pub struct Laying {
    pub node: Node,
    pub path: Option<Vec<u8>>,
    pub mtime: Time,
    pub size: u64,
}

/// A file whose contents are to be written.
struct Fresh {
    node: Node,
    path: Option<Vec<u8>>,
    attr: Attr,
}

impl Settle for Overlay {
    fn stamp(&self) -> Result<Stamp> {
        Ok(lock(&self.now).stamp)
    }

    fn settle(&self, task: &Task<'_>, notes: &mut dyn Notes) -> Result<Arc<dyn Tree>> {
        let Task { merged, anew, watch, .. } = *task;
        if anew {
            return Err(nothing_to_compact());
        }
        let mut now = lock(&self.now);
        self.do_what_is_left(&mut now)?;
        self.dir.sweep()?;
        let journal = merged.changes();
        let changes = together(&self.base, &now.changes, &journal);
        let touched: BTreeSet<Node> = journal
            .nodes
            .iter()
            .filter(|(node, inode)| {
                let is_touched = inode
                    .as_ref()
                    .is_some_and(|inode| inode.draft.is_some() || (inode.is_new && !now.spots.contains_key(node)));
                is_touched && is_file(&changes, **node)
            })
            .map(|(node, _)| *node)
            .collect();
        let next = self.laid_out(&now, changes, &touched, merged, watch)?;
        self.become_next(&mut now, next, Some(notes))?;
        Ok(self.laid(&now.changes))
    }

    fn holds(&self) -> &'static Holds {
        HOLDS
    }

    fn lasting(&self) -> Option<&dyn Lasting> {
        Some(self)
    }

    fn free(&self) -> Result<u64> {
        self.dir.free()
    }
}

/// What was stored with what is in the journal over it. Files without a name are not kept.
fn together(base: &Arc<Base>, stored: &Changes, journal: &Changes) -> Changes {
    let mut later = journal.clone();
    for inode in later.nodes.values_mut() {
        if inode.as_ref().is_some_and(|inode| inode.attr.nlink == 0 && inode.attr.kind != NodeKind::Directory) {
            *inode = None;
        }
    }
    let whole = Merged::new(base.clone(), stored.clone());
    whole.absorb(later);
    let mut changes = (*whole.changes()).clone();
    for (node, inode) in &mut changes.nodes {
        let Some(inode) = inode else { continue };
        (inode.draft, inode.under) = (None, None);
        // One of the base that had lost its last name, and got another.
        inode.is_new = !Base::has(*node);
    }
    changes
}

impl Overlay {
    /// Ends what a settling before could not.
    pub(super) fn do_what_is_left(&self, now: &mut Now) -> Result<()> {
        let left = std::mem::take(&mut now.left);
        if left.is_empty() {
            return Ok(());
        }
        let mut all = self.files.write();
        let Rolled { done, again, failed } = roll::finish(&self.dir, &now.state, &left);
        moved(&mut all, &left[..done]);
        match failed {
            None => Ok(()),
            Some(e) => {
                now.left = left[again..].to_vec();
                Err(e)
            }
        }
    }

    /// Writes contents, and decides where all lie.
    fn laid_out(
        &self,
        now: &Now,
        mut changes: Changes,
        touched: &BTreeSet<Node>,
        merged: &Merged,
        watch: &dyn Watch,
    ) -> Result<Next> {
        let of_base: Vec<Node> = changes.nodes.keys().copied().filter(|node| Base::has(*node)).collect();
        self.base.paths(&of_base)?;
        let (mut kept, mut written) = (HashMap::new(), Vec::new());
        let mut paths = Paths::new(&changes, &self.base);
        for node in changes.nodes.keys().copied().filter(|node| is_file(&changes, *node)) {
            if !touched.contains(&node) {
                if let Some(spot) = now.spots.get(&node) {
                    kept.insert(node, (paths.path(node)?, spot.clone()));
                }
                continue;
            }
            let file = Fresh { node, path: paths.path(node)?, attr: merged.attr(node)? };
            match self.same_in_base(&file, merged)? {
                Some(path) if Base::has(node) => drop(path),
                Some(path) => drop(kept.insert(node, (None, Spot::Base { path }))),
                None => written.push(file),
            }
        }
        self.has_room(&written)?;
        let mut spots: HashMap<Node, Spot> = HashMap::new();
        let mut fresh = HashMap::new();
        let mut wanted = Wanted::new();
        let of =
            |file: Fresh| Laying { node: file.node, path: file.path, mtime: file.attr.mtime, size: file.attr.size };
        let contents = |file: &Laying| merged.open(file.node);
        self.lay(written.into_iter().map(of).collect(), &contents, (&mut fresh, &mut wanted), watch)?;
        for (node, (path, spot)) in kept {
            match spot {
                Spot::Base { .. } => drop(spots.insert(node, spot)),
                Spot::Clear { .. } => drop(wanted.insert((path, node), spot)),
            }
        }
        for (node, inode) in &mut changes.nodes {
            if let (Some(inode), Ok(attr)) = (inode, merged.attr(*node)) {
                inode.attr.allocated = attr.allocated;
            }
        }
        self.give_names(now, wanted, &mut spots);
        Ok(Next { changes, spots, fresh, belongs: self.belongs.clone(), is_committing: false })
    }

    /// Writes contents below `new`, with those that they have.
    pub(super) fn lay(
        &self,
        files: Vec<Laying>,
        contents: &dyn Fn(&Laying) -> Result<Arc<dyn ReadAt>>,
        (fresh, wanted): (&mut HashMap<Node, u64>, &mut Wanted),
        watch: &dyn Watch,
    ) -> Result<()> {
        for (batch, files) in files.chunks(BATCH).enumerate() {
            let mut open = Vec::new();
            for (file, number) in files.iter().zip((batch * BATCH) as u64..) {
                if watch.is_cancelled() {
                    return Err(Error::new(Kind::Interrupted, "interrupted"));
                }
                let out = self.dir.create(number)?;
                copy(&*contents(file)?, &out, file.size, watch)?;
                open.push((out, (file.mtime.secs, file.mtime.nanos)));
                fresh.insert(file.node, number);
            }
            for (file, (size, mtime)) in files.iter().zip(self.dir.seal_all(&open)?) {
                wanted.insert((file.path.clone(), file.node), Spot::Clear { path: Vec::new(), size, mtime });
            }
        }
        Ok(())
    }

    /// Gives contents the names under which they lie.
    pub(super) fn give_names(&self, now: &Now, wanted: Wanted, spots: &mut HashMap<Node, Spot>) {
        let ours = now
            .spots
            .values()
            .filter_map(|spot| if let Spot::Clear { path, .. } = spot { Some(path.clone()) } else { None });
        let mut names = Names::new(&self.dir, ours);
        let has = |node: &Node, wanted: &[u8]| matches!(now.spots.get(node), Some(Spot::Clear { path, .. }) if path == wanted);
        let (mut other, mut same) = (Vec::new(), Vec::new());
        for ((path, node), spot) in wanted {
            let Spot::Clear { size, mtime, .. } = spot else { continue };
            match path {
                Some(path) if has(&node, &path) => same.push((path, node, size, mtime)),
                path => other.push((path, node, size, mtime)),
            }
        }
        for (path, node, size, mtime) in same {
            names.take(&path);
            spots.insert(node, Spot::Clear { path, size, mtime });
        }
        for (path, node, size, mtime) in other {
            // Of an inode of the base the number would not last.
            let path = names.give(path.as_deref(), node.0.checked_sub(FIRST_NEW).unwrap_or(node.0 | FIRST_NEW));
            spots.insert(node, Spot::Clear { path, size, mtime });
        }
    }

    /// The path of the file of the base that has the same contents under the same name.
    fn same_in_base(&self, file: &Fresh, merged: &Merged) -> Result<Option<Vec<u8>>> {
        let same = match &file.path {
            _ if Base::has(file.node) => Some((file.node, Vec::new())),
            Some(path) => find_path(&*self.base, path).ok().map(|node| (node, path.clone())),
            None => None,
        };
        let Some((node, path)) = same else { return Ok(None) };
        let before = self.base.attr(node)?;
        if before.kind != NodeKind::File || before.size != file.attr.size {
            return Ok(None);
        }
        // What cannot be read there is no reason to keep nothing here.
        let contents = merged.open(file.node)?;
        let same = self.base.open(node).and_then(|below| is_same(&*contents, &*below, before.size));
        Ok(same.unwrap_or(false).then_some(path))
    }

    fn has_room(&self, written: &[Fresh]) -> Result<()> {
        let needed = written.iter().map(|file| file.attr.size.min(file.attr.allocated.max(ENTRY)) + ENTRY).sum::<u64>();
        let free = self.dir.free()?;
        if needed <= free {
            return Ok(());
        }
        let mib = |bytes: u64| bytes.div_ceil(1 << 20);
        let what =
            format!("the overlay {} needs {} MiB, and {} are free", self.dir.path().display(), mib(needed), mib(free));
        Err(Error::new(Kind::NoSpace, what).hint("the changes are in its journal: make room, then `stmount commit`"))
    }

    /// Makes the overlay what is next: all of it, or nothing.
    pub(super) fn become_next(&self, now: &mut Now, mut next: Next, notes: Option<&mut dyn Notes>) -> Result<()> {
        let has = |node: Node| next.spots.contains_key(&node);
        let quiet = drop_equal(&mut next.changes, &self.base, has)?;
        next.spots.retain(|node, _| is_file(&next.changes, *node));
        let (state, numbers) = self.stored(now, &next, &quiet)?;
        let stamp = stamp_of(&state)?;
        let names = Names::new(&self.dir, std::iter::empty());
        let moves = roll::moves(&now.spots, &next.spots, &next.fresh, |path| names.folded(path));
        if let Some(notes) = notes {
            notes.expect(&stamp)?;
        }
        self.dir.sync_new();
        roll::switch(&self.dir, &state, &moves)?;
        // From here on it is what is next, whatever happens.
        let mut all = self.files.write();
        *all = self.lies(now, &next)?;
        let Rolled { done, again, failed } = roll::finish(&self.dir, &state, &moves);
        moved(&mut all, &moves[..done]);
        drop(all);
        if let Some(e) = failed {
            log::warn!("{}: some contents are not at their places yet: {e}", self.dir.path().display());
            now.left = moves[again..].to_vec();
        }
        (now.state, now.changes, now.spots, now.stamp) = (state, next.changes, next.spots, stamp);
        now.numbers = numbers;
        Ok(())
    }

    /// Where contents lie before any step is done.
    fn lies(&self, now: &Now, next: &Next) -> Result<HashMap<Node, Lies>> {
        let lies = next.spots.iter().map(|(node, spot)| {
            let lies = match (next.fresh.get(node), now.spots.get(node), spot) {
                (_, _, Spot::Base { path }) => Lies::Base(find_path(&*self.base, path)?),
                (Some(number), ..) => Lies::New(*number),
                (None, Some(Spot::Clear { path, .. }), _) | (None, _, Spot::Clear { path, .. }) => {
                    Lies::Clear(path.clone())
                }
            };
            Ok((*node, lies))
        });
        lies.collect()
    }

    /// What is stored of what is next, and the numbers that new inodes have there.
    fn stored(&self, now: &Now, next: &Next, quiet: &[Node]) -> Result<(State, HashMap<Node, u64>)> {
        let leads = next.changes.names.values().flat_map(|names| names.values().flatten().map(|(node, _)| *node));
        let all: BTreeSet<Node> =
            next.changes.nodes.keys().chain(next.changes.names.keys()).copied().chain(leads).collect();
        let of_base: Vec<Node> = all.iter().copied().filter(|node| Base::has(*node)).collect();
        let known = self.base.paths(&of_base)?;
        let mut paths: Vec<(&Vec<u8>, Node)> = of_base.iter().map(|node| (&known[node], *node)).collect();
        paths.sort();
        let places: HashMap<Node, u64> =
            paths.iter().enumerate().map(|(place, (_, node))| (*node, place as u64)).collect();
        let new: HashMap<Node, u64> = all.iter().copied().filter(|node| !Base::has(*node)).zip(0..).collect();
        let number = |node: Node| match (places.get(&node), new.get(&node)) {
            (Some(place), _) => Node(*place),
            (None, Some(number)) => Node(FIRST_NEW + number),
            (None, None) => node,
        };
        let mut spots: Vec<_> = next.spots.iter().map(|(node, spot)| (number(*node), spot.clone())).collect();
        spots.sort_by_key(|(node, _)| *node);
        let mut state = State::new(next.belongs.clone(), now.state.sequence + 1);
        (state.next, state.is_committing) = (new.len() as u64, next.is_committing);
        state.paths = paths.iter().map(|(path, _)| (*path).clone()).collect();
        if let Some(path) = state.paths.windows(2).find(|pair| pair[0] == pair[1]).map(|pair| path_display(&pair[0])) {
            return Err(Error::new(Kind::Changed, format!("the base has two files under the name {path}")));
        }
        let changes = renumbered(next.changes.clone(), number);
        let mut quiet: Vec<Node> = quiet.iter().map(|node| number(*node)).collect();
        quiet.sort();
        state.set(&Canonical { changes, spots, quiet });
        Ok((state, new))
    }
}

/// Copies contents, holes as holes.
pub fn copy(from: &dyn ReadAt, to: &File, size: u64, watch: &dyn Watch) -> Result<()> {
    let failed = |e| Error::io(e, "cannot write to the overlay");
    to.set_len(size).map_err(failed)?;
    let mut at = 0;
    while let Some(data) = from.next_data(at)?.filter(|data| data.start < size) {
        at = data.start.max(at);
        let end = data.end.min(size);
        while at < end {
            let mut piece = vec![0; PIECE.min(end - at) as usize];
            from.read_exact_at(at, &mut piece)?;
            to.write_all_at(&piece, at).map_err(failed)?;
            at += piece.len() as u64;
            watch.advance(piece.len() as u64, 0);
        }
    }
    Ok(())
}
