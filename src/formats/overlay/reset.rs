//! Back to the base, for some paths or for all.
//!
//! A path takes with it what hangs together with it: what was moved to it goes back to where it was, what was moved away from
//! it comes back, and what had been in the place of either goes.

use super::base::Base;
use super::paths::Paths;
use super::settle::{Next, Wanted};
use super::state::{Belongs, Move, Spot, State};
use super::{Dir, Overlay, join, roll};
use crate::error::{Error, Result};
use crate::pool::lock;
use crate::tree::{Changes, Kind, Name, NameBuf, Node, Tree, find_path};
use std::collections::HashMap;

/// Throws everything away, and begins anew over a base.
pub fn reset_all(dir: &Dir, state: &State, belongs: Belongs) -> Result<()> {
    let now = State { moves: Vec::new(), ..state.clone() };
    if let Some(e) = roll::finish(dir, &now, &state.moves).failed {
        return Err(e);
    }
    let clear = state.spots.iter().filter_map(|(_, spot)| match spot {
        Spot::Clear { path, .. } => Some(Move::Gone { path: path.clone() }),
        Spot::Base { .. } => None,
    });
    let moves: Vec<Move> = clear.collect();
    let empty = State::new(belongs, state.sequence + 1);
    roll::switch(dir, &empty, &moves)?;
    roll::finish(dir, &empty, &moves).failed.map_or(Ok(()), Err)
}

impl Overlay {
    /// Throws away what was changed at some paths and below them.
    ///
    /// # Errors
    /// `NotFound` when nothing was changed there.
    pub fn reset(&self, paths: &[Vec<u8>]) -> Result<()> {
        let mut now = lock(&self.now);
        self.do_what_is_left(&mut now)?;
        let mut back = Back { base: &self.base, changes: now.changes.clone() };
        for path in paths {
            back.path(path)?;
        }
        back.recount()?;
        let changes = back.changes;
        let mut spots: HashMap<Node, Spot> = now.spots.clone();
        spots
            .retain(|node, _| super::is_file(&changes, *node) && !matches!(changes.nodes.get(node), Some(None) | None));
        self.named_again(&now, &changes, &mut spots)?;
        let (belongs, fresh) = (self.belongs.clone(), HashMap::new());
        self.become_next(&mut now, Next { changes, spots, fresh, belongs, is_committing: false }, None)
    }

    /// What was moved back lies under the name that it has again.
    fn named_again(&self, now: &super::Now, changes: &Changes, spots: &mut HashMap<Node, Spot>) -> Result<()> {
        let mut paths = Paths::new(changes, &self.base);
        let mut wanted = Wanted::new();
        for (node, spot) in spots.iter() {
            if let Spot::Clear { .. } = spot {
                wanted.insert((paths.path(*node)?, *node), spot.clone());
            }
        }
        self.give_names(now, wanted, spots);
        Ok(())
    }
}

struct Back<'a> {
    base: &'a Base,
    changes: Changes,
}

impl Back<'_> {
    fn path(&mut self, path: &[u8]) -> Result<()> {
        let gone = || {
            Error::new(
                crate::error::Kind::NotFound,
                format!("nothing was changed at {}", crate::tree::path_display(path)),
            )
        };
        let (dir, name) = match path.iter().rposition(|b| *b == b'/') {
            Some(at) => (&path[..at], &path[at + 1..]),
            None => (&b""[..], path),
        };
        if name.is_empty() {
            self.changes = Changes::default();
            return Ok(());
        }
        let name = Name::new(name)?.to_owned();
        let mut any = false;
        // It may be a path of the mount, or one of the base, of what was moved away.
        let is_dir = |node: &Node| self.base.attr(*node).is_ok_and(|attr| attr.kind == Kind::Directory);
        let places = [self.find_changed(dir)?, find_path(self.base, dir).ok().filter(is_dir)];
        for dir in places.into_iter().flatten() {
            any |= self.changes.name(dir, name.as_name().bytes()).is_some();
            any |= Base::has(dir) && self.base.find(dir, name.as_name())?.is_some_and(|node| self.is_touched(node));
            self.name(dir, &name)?;
        }
        if any { Ok(()) } else { Err(gone()) }
    }

    /// The directory of a path of the mount.
    fn find_changed(&self, path: &[u8]) -> Result<Option<Node>> {
        let mut at = self.base.root();
        for part in path.split(|b| *b == b'/').filter(|part| !part.is_empty()) {
            let found = match self.changes.name(at, part) {
                Some(to) => to.map(|(node, _)| node),
                None if Base::has(at) => self.base.find(at, Name::new(part)?)?,
                None => None,
            };
            let Some(node) = found else { return Ok(None) };
            let kind = match self.changes.nodes.get(&node) {
                Some(Some(inode)) => inode.attr.kind,
                _ => self.base.attr(node)?.kind,
            };
            if kind != Kind::Directory {
                return Ok(None);
            }
            at = node;
        }
        Ok(Some(at))
    }

    /// Whether anything at or below an inode of the base was changed.
    fn is_touched(&self, node: Node) -> bool {
        self.below(node).is_ok_and(|all| !all.is_empty())
    }

    /// The inodes of the base with changes, that are at or below one of it.
    fn below(&self, node: Node) -> Result<Vec<Node>> {
        let all: Vec<Node> = self
            .changes
            .nodes
            .keys()
            .chain(self.changes.names.keys())
            .copied()
            .filter(|node| Base::has(*node))
            .collect();
        let paths = self.base.paths(&[all.as_slice(), &[node]].concat())?;
        let top = paths[&node].clone();
        let mut front = top.clone();
        join(&mut front, b"");
        let is_below = |path: &Vec<u8>| *path == top || top.is_empty() || path.starts_with(&front);
        let mut below: Vec<Node> = all.into_iter().filter(|node| is_below(&paths[node])).collect();
        below.sort();
        below.dedup();
        Ok(below)
    }

    /// Makes a name what it is in the base, with all below it.
    fn name(&mut self, dir: Node, name: &NameBuf) -> Result<()> {
        let over = self.changes.names.get_mut(&dir).and_then(|names| names.remove(name.as_name().bytes()));
        if let Some(Some((node, kind))) = over {
            self.let_go(node, kind)?;
        }
        let is_gone = matches!(self.changes.nodes.get(&dir), Some(None));
        let before = if Base::has(dir) && !is_gone { self.base.find(dir, name.as_name())? } else { None };
        let Some(before) = before else { return Ok(()) };
        // A directory has one name, and so has what it was moved to lost it.
        let elsewhere: Vec<(Node, NameBuf)> = self.links_to(before);
        elsewhere.iter().try_for_each(|(dir, name)| self.name(*dir, name))?;
        for node in self.below(before)? {
            self.changes.nodes.remove(&node);
            let names: Vec<NameBuf> =
                self.changes.names.get(&node).into_iter().flat_map(|names| names.keys().cloned()).collect();
            names.iter().try_for_each(|name| self.name(node, name))?;
        }
        Ok(())
    }

    fn links_to(&self, node: Node) -> Vec<(Node, NameBuf)> {
        let all =
            self.changes.names.iter().flat_map(|(dir, names)| names.iter().map(move |(name, to)| (*dir, name, to)));
        all.filter(|(_, _, to)| to.is_some_and(|(to, _)| to == node))
            .map(|(dir, name, _)| (dir, name.clone()))
            .collect()
    }

    /// What had a name of the overlay has it no more.
    fn let_go(&mut self, node: Node, kind: Kind) -> Result<()> {
        if Base::has(node) {
            // It goes back to where it was, with whatever is in that place now.
            return match self.base.link(node)? {
                Some((dir, name)) if self.changes.name(dir, name.as_name().bytes()).is_some() => self.name(dir, &name),
                _ => Ok(()),
            };
        }
        if kind != Kind::Directory && !self.links_to(node).is_empty() {
            return Ok(());
        }
        self.changes.nodes.remove(&node);
        for (_, to) in self.changes.names.remove(&node).into_iter().flatten() {
            to.map_or(Ok(()), |(node, kind)| self.let_go(node, kind))?;
        }
        Ok(())
    }

    /// Counts links and subdirectories anew.
    fn recount(&mut self) -> Result<()> {
        let mut more: HashMap<Node, i64> = HashMap::new();
        for (dir, names) in &self.changes.names {
            for (name, to) in names {
                let before = if Base::has(*dir) { self.base.find(*dir, name.as_name())? } else { None };
                if let Some((node, kind)) = to {
                    *more.entry(if *kind == Kind::Directory { *dir } else { *node }).or_default() += 1;
                }
                if let Some(node) = before {
                    let is_dir = self.base.attr(node)?.kind == Kind::Directory;
                    *more.entry(if is_dir { *dir } else { node }).or_default() -= 1;
                }
            }
        }
        for (node, inode) in &mut self.changes.nodes {
            let Some(inode) = inode else { continue };
            let begin = match (Base::has(*node), inode.attr.kind) {
                (true, _) => i64::from(self.base.attr(*node)?.nlink),
                (false, Kind::Directory) => 2,
                (false, _) => 0,
            };
            let links = begin + more.get(node).copied().unwrap_or(0);
            inode.attr.nlink = u32::try_from(links).unwrap_or(0);
        }
        self.forget_times()
    }

    /// A directory in which no name is changed any more has its time again.
    fn forget_times(&mut self) -> Result<()> {
        let (base, names) = (self.base, &self.changes.names);
        for (node, inode) in self.changes.nodes.iter_mut().filter(|(node, _)| Base::has(**node)) {
            let Some(inode) = inode else { continue };
            if inode.attr.kind == Kind::Directory && names.get(node).is_none_or(|names| names.is_empty()) {
                let before = base.attr(*node)?;
                (inode.attr.mtime, inode.attr.atime) = (before.mtime, before.atime);
            }
        }
        Ok(())
    }
}
