//! What an overlay changes, path by path. The base need not be there.

use super::state::{Canonical, State};
use super::{FIRST_NEW, Spot, join};
use crate::error::Result;
use crate::tree::{NameBuf, Node};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// How a path differs from the base.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum What {
    Added,
    Modified,
    Deleted,
    Renamed,
    /// Only attributes.
    Attributes,
}

impl What {
    pub fn letter(self) -> char {
        match self {
            Self::Added => 'A',
            Self::Modified => 'M',
            Self::Deleted => 'D',
            Self::Renamed => 'R',
            Self::Attributes => 'P',
        }
    }
}

/// One difference.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Change {
    /// Where it is in the mount; of what is deleted, where it was.
    pub path: Vec<u8>,
    pub what: What,
    /// The path that it had.
    pub from: Option<Vec<u8>>,
}

struct Seen<'a> {
    state: &'a State,
    canonical: &'a Canonical,
    /// The places of paths of the base.
    places: HashMap<&'a [u8], Node>,
    links: HashMap<Node, (Node, &'a NameBuf)>,
}

/// All differences, sorted by path.
pub fn diff(state: &State) -> Result<Vec<Change>> {
    let canonical = state.changes()?;
    let places = state.paths.iter().enumerate().map(|(place, path)| (path.as_slice(), Node(place as u64))).collect();
    let mut links = HashMap::new();
    for (dir, names) in &canonical.changes.names {
        for (name, to) in names {
            if let Some((node, _)) = to {
                links.entry(*node).or_insert((*dir, name));
            }
        }
    }
    let seen = Seen { state, canonical: &canonical, places, links };
    let mut all = BTreeSet::new();
    seen.names(&mut all);
    seen.nodes(&mut all);
    Ok(all.into_iter().collect())
}

impl Seen<'_> {
    fn below(&self, node: Node) -> Option<&Vec<u8>> {
        self.state.paths.get(node.0 as usize)
    }

    /// Where a path of the base is now.
    fn now(&self, path: &[u8]) -> Vec<u8> {
        if let Some(link) = self.places.get(path).and_then(|node| self.links.get(node)) {
            return self.at(link.0, link.1);
        }
        match path.iter().rposition(|b| *b == b'/') {
            Some(at) => {
                let mut now = self.now(&path[..at]);
                join(&mut now, &path[at + 1..]);
                now
            }
            None => path.to_vec(),
        }
    }

    /// Where an inode is now.
    fn place(&self, node: Node) -> Vec<u8> {
        match (self.links.get(&node), self.below(node)) {
            (Some((dir, name)), _) => self.at(*dir, name),
            (None, Some(path)) => self.now(path),
            (None, None) => Vec::new(),
        }
    }

    fn at(&self, dir: Node, name: &NameBuf) -> Vec<u8> {
        let mut path = self.place(dir);
        join(&mut path, name.as_name().bytes());
        path
    }

    /// What the base had under a name.
    fn had(&self, dir: Node, name: &NameBuf) -> Option<(Node, Vec<u8>)> {
        let mut path = self.below(dir)?.clone();
        join(&mut path, name.as_name().bytes());
        self.places.get(path.as_slice()).map(|node| (*node, path))
    }

    fn names(&self, all: &mut BTreeSet<Change>) {
        let names: &BTreeMap<_, BTreeMap<_, _>> = &self.canonical.changes.names;
        for (dir, name, to) in
            names.iter().flat_map(|(dir, names)| names.iter().map(move |(name, to)| (*dir, name, to)))
        {
            let path = self.at(dir, name);
            let had = self.had(dir, name);
            match to {
                Some((node, _)) if node.0 >= FIRST_NEW => {
                    let is_moved = had.as_ref().is_some_and(|(node, _)| self.links.contains_key(node));
                    let what = if had.is_some() && !is_moved { What::Modified } else { What::Added };
                    all.insert(Change { path, what, from: None });
                }
                Some((node, _)) => {
                    let from = self.below(*node).cloned().unwrap_or_default();
                    let is_away = self.is_away(&from);
                    let what = if is_away { What::Renamed } else { What::Added };
                    all.insert(Change { path, what, from: is_away.then_some(from) });
                }
                None => {
                    // What has another name now is told there.
                    if !had.as_ref().is_some_and(|(node, _)| self.links.contains_key(node)) {
                        let mut path = self.below(dir).cloned().unwrap_or_default();
                        join(&mut path, name.as_name().bytes());
                        all.insert(Change { path, what: What::Deleted, from: None });
                    }
                }
            }
        }
    }

    /// Whether a path of the base leads to something else now, or nowhere.
    fn is_away(&self, path: &[u8]) -> bool {
        let (dir, name) = match path.iter().rposition(|b| *b == b'/') {
            Some(at) => (&path[..at], &path[at + 1..]),
            None => (&b""[..], path),
        };
        self.places.get(dir).is_some_and(|dir| self.canonical.changes.name(*dir, name).is_some())
    }

    fn nodes(&self, all: &mut BTreeSet<Change>) {
        let spots: HashMap<Node, Spot> = State::spots_of(self.canonical);
        let quiet: BTreeSet<Node> = self.canonical.quiet.iter().copied().collect();
        for (node, _) in
            self.canonical.changes.nodes.iter().filter(|(node, inode)| node.0 < FIRST_NEW && inode.is_some())
        {
            let what = match spots.contains_key(node) {
                true => What::Modified,
                false if quiet.contains(node) => continue,
                false => What::Attributes,
            };
            all.insert(Change { path: self.place(*node), what, from: None });
        }
    }
}
