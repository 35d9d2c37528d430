//! What is to be done on the server, so that it has what a tree with changes shows.
//!
//! ```text
//!   moves away    what is moved leaves its place first, where others are in the way of each other
//!   directories   from the root outwards
//!   moves         to where they belong
//!   contents      files, links, and what is set of them
//!   goners        from the leaves inwards
//!   directories   their modes and times, which all before has changed
//! ```
//!
//! Contents come before anything is taken away. Each step may be done twice: after a crash all of them are done once more.

use crate::error::{Error, Kind, Result};
use crate::remote::{self, ShareTree};
use crate::tree::{Changes, Kind as NodeKind, Merged, Name, NameBuf, Node, Time, Tree};
use std::collections::{HashMap, HashSet};
use std::ops::ControlFlow;

/// One request, or a few that belong together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    Move { node: Node, from: String, to: String },
    MakeDir { path: String },
    Put { node: Node, path: String, size: u64, set: remote::Set },
    Link { path: String, target: Vec<u8> },
    Set { path: String, set: remote::Set },
    Remove { path: String },
    RemoveDir { path: String },
}

impl Step {
    /// What is done, and to what, for messages.
    pub fn words(&self) -> String {
        match self {
            Self::Move { from, to, .. } => format!("renaming {from} to {to}"),
            Self::MakeDir { path } => format!("making the directory {path}"),
            Self::Put { path, .. } => format!("sending {path}"),
            Self::Link { path, .. } => format!("making the link {path}"),
            Self::Set { path, .. } => format!("setting mode and time of {path}"),
            Self::Remove { path } => format!("removing {path}"),
            Self::RemoveDir { path } => format!("removing the directory {path}"),
        }
    }

    /// Whether this may be done at the same time as the step before it: neither needs what the other does. What is large fills
    /// the line by itself, and goes alone.
    pub fn is_apart_from(&self, before: &Self) -> bool {
        match (before, self) {
            (Self::Put { .. }, Self::Put { .. }) => before.bytes() <= SMALL && self.bytes() <= SMALL,
            (Self::Remove { .. }, Self::Remove { .. }) => true,
            // What is set of a directory may keep others from what is in it.
            (Self::MakeDir { path: a }, Self::MakeDir { path: b })
            | (Self::Set { path: a, .. }, Self::Set { path: b, .. }) => depth(a) == depth(b),
            _ => false,
        }
    }

    /// Bytes of contents that go over the link.
    pub fn bytes(&self) -> u64 {
        if let Self::Put { size, .. } = self { *size } else { 0 }
    }
}

/// Files of at most so many bytes are sent several at a time: of a small one most of the time is that of the way.
const SMALL: u64 = 4 << 20;

/// What lies in the root on its way from one place to another begins so.
const ON_THE_WAY: &str = ".stmount-moving-";

/// Of so many moves it is not looked which are in the way of which.
const MANY: usize = 64;

/// Entries that have a name because of changes, with their directory.
pub fn named(changes: &Changes) -> HashMap<Node, (Node, &NameBuf)> {
    let named = changes
        .names
        .iter()
        .flat_map(|(dir, names)| names.iter().filter_map(move |(name, to)| to.map(|(node, _)| (node, (*dir, name)))));
    named.collect()
}

/// Where everything is to be.
struct Planner<'a> {
    base: &'a ShareTree,
    merged: &'a Merged,
    changes: &'a Changes,
    /// Entries that have a name because of the changes, with their directory.
    named: HashMap<Node, (Node, &'a NameBuf)>,
    /// Entries of the server that go to another place.
    moved: HashSet<Node>,
    /// No other plan has the same: what another one has left on its way lies there, too.
    tag: &'a str,
}

/// Steps by the time at which they are done.
#[derive(Default)]
struct Stages {
    away: Vec<(usize, Step)>,
    clear: Vec<Step>,
    dirs: Vec<(usize, Step)>,
    moves: Vec<(usize, Step)>,
    contents: Vec<Step>,
    goners: Vec<Step>,
    last: Vec<(usize, Step)>,
}

/// The steps that bring these changes to the server, in their order.
pub fn plan(base: &ShareTree, merged: &Merged, tag: &str) -> Result<Vec<Step>> {
    let changes = merged.changes();
    let mut planner = Planner { base, merged, changes: &changes, named: named(&changes), moved: HashSet::new(), tag };
    let is_moved = |(node, (dir, name)): (&Node, &(Node, &NameBuf))| {
        let is_elsewhere = base.place(*node).is_some_and(|place| (place.0, &place.1) != (*dir, *name));
        is_elsewhere.then_some(*node)
    };
    planner.moved = planner.named.iter().filter_map(is_moved).collect();
    let mut stages = Stages::default();
    planner.names(&mut stages)?;
    planner.nodes(&mut stages)?;
    Ok(stages.in_order())
}

impl Stages {
    fn in_order(mut self) -> Vec<Step> {
        // What is inside leaves before that in which it is.
        self.away.sort_by_key(|(depth, _)| std::cmp::Reverse(*depth));
        self.dirs.sort_by_key(|(depth, _)| *depth);
        self.moves.sort_by_key(|(depth, _)| *depth);
        self.last.sort_by_key(|(depth, _)| std::cmp::Reverse(*depth));
        let steps = |deep: Vec<(usize, Step)>| deep.into_iter().map(|(_, step)| step);
        // Directories and moves have to be done from the root outwards, together.
        let mut outwards: Vec<_> = self.dirs.into_iter().chain(self.moves).collect();
        outwards.sort_by_key(|(depth, _)| *depth);
        steps(self.away)
            .chain(self.clear)
            .chain(steps(outwards))
            .chain(self.contents)
            .chain(self.goners)
            .chain(steps(self.last))
            .collect()
    }
}

fn depth(path: &str) -> usize {
    path.matches('/').count()
}

fn joined(dir: &str, name: &NameBuf) -> Result<String> {
    let name = std::str::from_utf8(name.as_name().bytes())
        .map_err(|_| Error::new(Kind::Invalid, "a name that is not UTF-8 has no place on a server"))?;
    Ok(if dir.is_empty() { name.to_owned() } else { format!("{dir}/{name}") })
}

impl Planner<'_> {
    /// Where an entry is to be; nothing for one that has no name any more.
    fn path(&self, node: Node) -> Result<Option<String>> {
        let (mut names, mut at) = (Vec::new(), node);
        while at != self.base.root() {
            let named = self.named.get(&at).map(|(dir, name)| (*dir, (*name).clone()));
            let is_gone = matches!(self.changes.nodes.get(&at), Some(None));
            let Some((dir, name)) = named.or_else(|| self.base.place(at)).filter(|_| !is_gone) else { return Ok(None) };
            let is_named_so =
                self.changes.name(dir, name.as_name().bytes()).is_none_or(|to| to.is_some_and(|to| to.0 == at));
            if !is_named_so || names.len() > 4096 {
                return Ok(None);
            }
            names.push(name);
            at = dir;
        }
        names.iter().rev().try_fold(String::new(), |path, name| joined(&path, name)).map(Some)
    }

    fn names(&self, stages: &mut Stages) -> Result<()> {
        for (dir, names) in &self.changes.names {
            // A directory that is gone takes what is in it along.
            let Some(place) = self.path(*dir)? else { continue };
            for (name, to) in names {
                let path = joined(&place, name)?;
                let occupant = match self.changes.is_new(*dir) {
                    true => None,
                    false => self.base.find(*dir, name.as_name())?.filter(|node| !self.moved.contains(node)),
                };
                match to {
                    Some((node, _)) if occupant == Some(*node) => {}
                    Some((node, kind)) => self.arrives(stages, *node, *kind, path, occupant)?,
                    None => {
                        if let Some(node) = occupant {
                            self.take_away(&mut stages.goners, node, &path)?;
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// An entry comes to a place where another one may have been.
    fn arrives(&self, stages: &mut Stages, node: Node, kind: NodeKind, path: String, old: Option<Node>) -> Result<()> {
        let old_kind = old.map(|old| self.base.attr(old).map(|attr| attr.kind)).transpose()?;
        // Contents take the place of contents at once; anything else is taken away before.
        let is_in_the_way = old_kind.is_some_and(|old| old != kind || kind == NodeKind::Directory);
        if let Some(old) = old.filter(|_| is_in_the_way) {
            self.take_away(&mut stages.clear, old, &path)?;
        }
        if self.moved.contains(&node) {
            let from = self.base.path(node)?;
            // What an attempt before has brought half of the way goes on from there.
            if from.starts_with(ON_THE_WAY) || self.is_simple(node, &path)? {
                stages.moves.push((depth(&path), Step::Move { node, from, to: path }));
            } else {
                let between = format!("{ON_THE_WAY}{}-{:x}", self.tag, node.0);
                stages.away.push((depth(&from), Step::Move { node, from, to: between.clone() }));
                stages.moves.push((depth(&path), Step::Move { node, from: between, to: path }));
            }
            return Ok(());
        }
        let attr = self.merged.attr(node)?;
        match kind {
            NodeKind::Directory => stages.dirs.push((depth(&path), Step::MakeDir { path })),
            NodeKind::Symlink => stages.contents.push(Step::Link { path, target: self.merged.target(node)? }),
            NodeKind::File => {
                let set = remote::Set { modified: Some(attr.mtime), mode: Some(attr.mode) };
                stages.contents.push(Step::Put { node, path, size: attr.size, set });
            }
            _ => return Err(Error::new(Kind::Unsupported, format!("{path}: a server has no place for it"))),
        }
        Ok(())
    }

    /// Whether a move goes from a place to another without anything in between that moves as well.
    fn is_simple(&self, node: Node, to: &str) -> Result<bool> {
        let Some((dir, name)) = self.base.place(node) else { return Ok(false) };
        // Nobody comes to where it was, and what it was in stays.
        let is_left_free = self.changes.name(dir, name.as_name().bytes()) == Some(None);
        if !is_left_free || self.path(dir)?.as_ref() != Some(&self.base.path(dir)?) || self.moved.len() > MANY {
            return Ok(false);
        }
        let from = self.base.path(node)?;
        let touches = |other: &str, path: &str| path == other || path.starts_with(&format!("{other}/"));
        for other in self.moved.iter().filter(|other| **other != node) {
            let (there, here) = (self.base.path(*other)?, self.path(*other)?.unwrap_or_default());
            if touches(&there, &from) || touches(&there, to) || touches(&here, &from) || touches(to, &there) {
                return Ok(false);
            }
        }
        Ok(!touches(&from, to))
    }

    /// An entry of the server goes, with all that is known to be in it.
    fn take_away(&self, steps: &mut Vec<Step>, node: Node, path: &str) -> Result<()> {
        if self.base.attr(node)?.kind != NodeKind::Directory {
            steps.push(Step::Remove { path: path.to_owned() });
            return Ok(());
        }
        let mut inside = Vec::new();
        self.base.list(node, None, &mut |name, child, _| {
            inside.push((name.to_owned(), child));
            ControlFlow::Continue(())
        })?;
        for (name, child) in inside.into_iter().filter(|(_, child)| !self.moved.contains(child)) {
            self.take_away(steps, child, &joined(path, &name)?)?;
        }
        steps.push(Step::RemoveDir { path: path.to_owned() });
        Ok(())
    }

    /// What becomes of entries where they are.
    fn nodes(&self, stages: &mut Stages) -> Result<()> {
        for (node, inode) in &self.changes.nodes {
            let Some(inode) =
                inode.as_ref().filter(|inode| inode.attr.nlink > 0 || inode.attr.kind == NodeKind::Directory)
            else {
                continue;
            };
            let Some(path) = self.path(*node)?.filter(|path| !path.is_empty()) else { continue };
            let set = remote::Set { modified: Some(inode.attr.mtime), mode: Some(inode.attr.mode) };
            match inode.attr.kind {
                NodeKind::Directory => stages.last.push((depth(&path), Step::Set { path, set })),
                NodeKind::File if !inode.is_new => stages.contents.push(match inode.draft.is_some() {
                    true => Step::Put { node: *node, path, size: inode.attr.size, set },
                    false => Step::Set { path, set },
                }),
                _ => {}
            }
        }
        Ok(())
    }
}

/// What an attempt before has left on its way: the names that it has in the root.
pub fn on_the_way(moves: &[(String, String)]) -> impl Iterator<Item = NameBuf> + '_ {
    let names = moves.iter().filter(|(_, to)| to.starts_with(ON_THE_WAY));
    names.filter_map(|(_, to)| Name::new(to.as_bytes()).ok().map(Name::to_owned))
}

/// Tells the tree of the server what has become of it: the same entries under the same numbers.
pub fn take_note(base: &ShareTree, merged: &Merged, moves: &[(String, String)], holds: remote::Holds) -> Result<()> {
    let changes = merged.changes();
    let mut places: Vec<_> = on_the_way(moves).map(|name| (base.root(), name, None)).collect();
    let mut arrived = HashSet::new();
    let all = || changes.names.iter().flat_map(|(dir, names)| names.iter().map(move |(name, to)| (*dir, name, to)));
    // What leaves a place must not take away what has come to it meanwhile.
    places.extend(all().filter(|(_, _, to)| to.is_none()).map(|(dir, name, _)| (dir, name.clone(), None)));
    for (dir, name, to) in all() {
        if let Some((node, _)) = *to {
            places.push((dir, name.clone(), Some((node, item(merged, node, name, holds)?))));
            arrived.insert(node);
        }
    }
    let there = changes.nodes.iter().filter_map(|(node, inode)| inode.as_ref().map(|_| *node));
    for node in there.filter(|node| !arrived.contains(node)) {
        if let Some((dir, name)) = base.place(node) {
            let item = item(merged, node, &name, holds)?;
            places.push((dir, name, Some((node, item))));
        }
    }
    base.are_now(places);
    Ok(())
}

/// What is told of an entry that is on the server now.
fn item(merged: &Merged, node: Node, name: &NameBuf, holds: remote::Holds) -> Result<remote::Item> {
    let attr = merged.attr(node)?;
    let text = String::from_utf8_lossy(name.as_name().bytes()).into_owned();
    let is_file = attr.kind == NodeKind::File;
    Ok(remote::Item {
        len: is_file.then_some(attr.size),
        modified: Some(if holds.mtime { Time { nanos: 0, ..attr.mtime } } else { Time::now() }),
        mode: if holds.mode { Some(attr.mode) } else { None },
        ..remote::Item::new(text, attr.kind)
    })
}
