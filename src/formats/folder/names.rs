//! Which node stands for which name: the only thing a folder keeps of what it has listed.
//!
//! ```text
//!   runs, in the order of discovery          one run = the names of one directory, sorted
//!   ┌ parent 0, first 1 ─────────────┐
//!   │ len a  len b  len c ..         │       node 1 = a, node 2 = b, node 3 = c
//!   ├ parent 2, first 4 ─────────────┤
//!   │ len x  len y ..                │       node 4 = b/x, node 5 = b/y
//!   └────────────────────────────────┘
//! ```
//!
//! The nodes of a run are consecutive, so a node costs its name, two bytes of length and a quarter of a byte for a mark
//! at every sixteenth name; a directory costs about 100 bytes more, a hard-linked inode about 40. Ten million files with
//! names of 16 bytes in a million directories: 280 MB. Names that appear after their directory was listed, or that were
//! looked up without listing it, go to `late`, at some 200 bytes each.

use crate::error::{Error, Kind, Result};
use crate::tree::{Name, NameBuf};
use std::collections::{BTreeMap, HashMap};

/// Device and inode number.
pub type Identity = (u64, u64);

/// Names between two marks. A search reads at most so many.
const STEP: usize = 16;

/// The names of one directory, sorted.
struct Run {
    parent: u32,
    first: u32,
    count: u32,
    names: Box<[u8]>,
    /// Where names 16, 32, 48, .. begin.
    marks: Box<[u32]>,
}

impl Run {
    fn new<'a>(parent: u32, first: u32, sorted: impl Iterator<Item = Name<'a>>) -> Self {
        let (mut names, mut marks, mut count) = (Vec::new(), Vec::new(), 0);
        for name in sorted {
            if count > 0 && (count as usize).is_multiple_of(STEP) {
                marks.push(names.len() as u32);
            }
            names.extend_from_slice(&(name.bytes().len() as u16).to_le_bytes());
            names.extend_from_slice(name.bytes());
            count += 1;
        }
        Self { parent, first, count, names: names.into(), marks: marks.into() }
    }

    /// The names from number `block * 16` on.
    fn block(&self, block: usize) -> impl Iterator<Item = &[u8]> {
        self.names_at(block.checked_sub(1).map_or(0, |mark| self.marks[mark]))
    }

    fn names_at(&self, at: u32) -> impl Iterator<Item = &[u8]> {
        let mut rest = &self.names[at as usize..];
        std::iter::from_fn(move || {
            let (len, tail) = rest.split_first_chunk::<2>()?;
            let (name, tail) = tail.split_at(u16::from_le_bytes(*len) as usize);
            rest = tail;
            Some(name)
        })
    }

    fn name(&self, at: usize) -> &[u8] {
        self.block(at / STEP).nth(at % STEP).expect("a run holds all its names")
    }

    fn find(&self, name: &[u8]) -> Option<u32> {
        let block = self.marks.partition_point(|mark| self.names_at(*mark).next().is_some_and(|first| first <= name));
        let within = self.block(block).take(STEP).position(|n| n == name)?;
        Some(self.first + (block * STEP + within) as u32)
    }
}

/// All names seen so far. Node 0 is the root and has no name.
pub struct Names {
    runs: Vec<Run>,
    next: u32,
    /// Directory -> its run.
    listed: HashMap<u32, u32>,
    late: HashMap<u32, BTreeMap<NameBuf, u32>>,
    links: HashMap<Identity, u32>,
}

impl Names {
    pub fn new() -> Self {
        Self { runs: Vec::new(), next: 1, listed: HashMap::new(), late: HashMap::new(), links: HashMap::new() }
    }

    /// Names known, the root among them.
    pub fn count(&self) -> u64 {
        u64::from(self.next)
    }

    /// The directory that holds a node, and its name there; `None` for the root and for what was never handed out.
    pub fn place(&self, node: u32) -> Option<(u32, Name<'_>)> {
        let run = &self.runs[self.runs.partition_point(|r| r.first <= node).checked_sub(1)?];
        let at = node - run.first;
        let name = (at < run.count).then(|| run.name(at as usize))?;
        Some((run.parent, Name::new(name).ok()?))
    }

    /// The nodes of a directory's names, which come sorted; new names get new nodes.
    pub fn nodes(&mut self, dir: u32, sorted: &[Name<'_>]) -> Result<Vec<u32>> {
        if let Some(run) = self.listed.get(&dir).map(|r| *r as usize) {
            return sorted.iter().map(|name| self.node_beside(run, dir, *name)).collect();
        }
        let first = self.take(sorted.len())?;
        self.listed.insert(dir, self.runs.len() as u32);
        self.runs.push(Run::new(dir, first, sorted.iter().copied()));
        let late = self.late.get(&dir);
        let node = |(i, name): (usize, &Name<'_>)| match late.and_then(|late| late.get(name.bytes())) {
            Some(node) => *node,
            None => first + i as u32,
        };
        Ok(sorted.iter().enumerate().map(node).collect())
    }

    /// The node of one name.
    pub fn node(&mut self, dir: u32, name: Name<'_>) -> Result<u32> {
        match self.listed.get(&dir) {
            Some(run) => self.node_beside(*run as usize, dir, name),
            None => self.late_node(dir, name),
        }
    }

    /// Which node stands for this inode; `node` if it is the first with it.
    pub fn link(&mut self, inode: Identity, node: u32) -> u32 {
        *self.links.entry(inode).or_insert(node)
    }

    /// From now on `node` stands for this inode, because the name that did is gone.
    pub fn relink(&mut self, inode: Identity, node: u32) {
        self.links.insert(inode, node);
    }

    /// The names on the way from the root to a node, its own last.
    pub fn path(&self, mut node: u32) -> Vec<Name<'_>> {
        let mut names = Vec::new();
        while let Some((parent, name)) = self.place(node) {
            names.push(name);
            node = parent;
        }
        names.reverse();
        names
    }

    fn node_beside(&mut self, run: usize, dir: u32, name: Name<'_>) -> Result<u32> {
        // A name looked up before its directory was listed keeps the node it got then.
        if let Some(node) = self.late.get(&dir).and_then(|late| late.get(name.bytes())) {
            return Ok(*node);
        }
        match self.runs[run].find(name.bytes()) {
            Some(node) => Ok(node),
            None => self.late_node(dir, name),
        }
    }

    fn late_node(&mut self, dir: u32, name: Name<'_>) -> Result<u32> {
        if let Some(node) = self.late.get(&dir).and_then(|late| late.get(name.bytes())) {
            return Ok(*node);
        }
        let node = self.take(1)?;
        self.runs.push(Run::new(dir, node, std::iter::once(name)));
        self.late.entry(dir).or_default().insert(name.to_owned(), node);
        Ok(node)
    }

    fn take(&mut self, count: usize) -> Result<u32> {
        let first = self.next;
        let next = u32::try_from(count).ok().and_then(|count| first.checked_add(count));
        self.next =
            next.ok_or_else(|| Error::new(Kind::Limit, "the folder holds more than four thousand million names"))?;
        Ok(first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbered(count: usize) -> Vec<String> {
        (0..count).map(|i| format!("name{i:05}")).collect()
    }

    fn names(of: &[String]) -> Vec<Name<'_>> {
        of.iter().map(|n| Name::new(n.as_bytes()).unwrap()).collect()
    }

    #[test]
    fn every_name_leads_to_its_node_and_back() {
        for count in [0, 1, 15, 16, 17, 32, 1000] {
            let (texts, mut table) = (numbered(count), Names::new());
            let nodes = table.nodes(0, &names(&texts)).unwrap();
            for (text, node) in texts.iter().zip(&nodes) {
                let name = Name::new(text.as_bytes()).unwrap();
                assert_eq!(table.place(*node).unwrap(), (0, name));
                assert_eq!(table.node(0, name).unwrap(), *node);
            }
            assert_eq!(table.nodes(0, &names(&texts)).unwrap(), nodes, "listing again changes nothing");
            assert_eq!(table.count(), 1 + count as u64);
        }
    }

    #[test]
    fn names_that_come_later_or_were_looked_up_first_keep_their_nodes() {
        let (texts, mut table) = (numbered(40), Names::new());
        let all = names(&texts);
        let early = table.node(0, all[7]).unwrap();
        let nodes = table.nodes(0, &all[..30]).unwrap();
        assert_eq!(nodes[7], early);
        let more = table.nodes(0, &all).unwrap();
        assert_eq!(&more[..30], &nodes[..]);
        assert_eq!(table.node(0, all[35]).unwrap(), more[35]);
        assert_eq!(table.place(more[35]).unwrap(), (0, all[35]));
    }

    #[test]
    fn a_path_is_the_names_from_the_root_down() {
        let (texts, mut table) = (numbered(3), Names::new());
        let all = names(&texts);
        let dir = table.nodes(0, &all).unwrap()[2];
        let leaf = table.nodes(dir, &all[..1]).unwrap()[0];
        assert_eq!(table.path(leaf), [all[2], all[0]]);
        assert!(table.path(0).is_empty());
    }
}
