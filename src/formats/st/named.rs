//! Whether names and inodes refer to each other: every name leads to an inode, every inode has a name.

use super::append::orphans;
use super::check::Paths;
use super::index::Index;
use super::rows::{Names, Nodes};
use super::tree::ROOT;
use crate::error::Result;

/// A name that leads nowhere, or an inode that no name leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LostName {
    /// Of an inode without a name, its number.
    pub path: Vec<u8>,
    pub what: &'static str,
}

/// What was found of them.
#[derive(Clone, Debug, Default)]
pub struct Unmatched {
    pub names: Vec<LostName>,
    /// How many there are beside these.
    pub more: u64,
}

/// So many are told one by one.
const TOLD: usize = 1000;
/// Stretches of inode numbers, of 24 bytes each; a container whose inodes lie apart more than that is hostile.
const RUNS: usize = 1 << 22;

const NO_INODE: &str = "the name leads to no inode";
const NO_DIRECTORY: &str = "the name is in a directory that is not there";
const NO_NAME: &str = "no name leads to it";

/// Compares all names with all inodes. `None` when there are too many inodes with gaps in between.
pub fn unmatched(index: &Index) -> Result<Option<Unmatched>> {
    let Some(mut inodes) = Inodes::of(index)? else { return Ok(None) };
    inodes.name(ROOT);
    orphans(index)?.into_iter().for_each(|orphan| _ = inodes.name(orphan.0));
    let mut found = Found::default();
    let mut names = index.all::<Names>()?;
    while let Some(at) = names.next()? {
        let (parent, name) = at.block.key_of(at.row);
        let Some((ino, _)) = at.block.value(at.row) else { continue };
        if !inodes.name(ino) {
            found.name(parent, name, NO_INODE);
        } else if inodes.place(parent).is_none() {
            found.name(parent, name, NO_DIRECTORY);
        }
    }
    inodes.nameless(|ino| found.inode(ino));
    found.told(index).map(Some)
}

/// What was found, without paths.
#[derive(Default)]
struct Found {
    names: Vec<(u64, Vec<u8>, &'static str)>,
    inodes: Vec<u64>,
    more: u64,
}

impl Found {
    fn is_full(&mut self) -> bool {
        let full = self.names.len() + self.inodes.len() >= TOLD;
        self.more += u64::from(full);
        full
    }

    fn name(&mut self, parent: u64, name: &[u8], what: &'static str) {
        if !self.is_full() {
            self.names.push((parent, name.to_vec(), what));
        }
    }

    fn inode(&mut self, ino: u64) {
        if !self.is_full() {
            self.inodes.push(ino);
        }
    }

    fn told(self, index: &Index) -> Result<Unmatched> {
        let mut names = Vec::new();
        if !self.names.is_empty() {
            let paths = Paths::of(index)?;
            let told = |(parent, name, what)| LostName { path: paths.path(parent, name), what };
            names.extend(self.names.into_iter().map(told));
        }
        let told = |ino: u64| LostName { path: format!("inode {ino}").into_bytes(), what: NO_NAME };
        names.extend(self.inodes.into_iter().map(told));
        Ok(Unmatched { names, more: self.more })
    }
}

/// All inodes, with a bit for each that has a name. Most follow one another, so that little is to be remembered of them.
#[derive(Default)]
struct Inodes {
    runs: Vec<Run>,
    named: Vec<u64>,
    count: u64,
}

/// Inodes that follow one another.
struct Run {
    first: u64,
    len: u64,
    /// How many are in the runs before.
    before: u64,
}

impl Inodes {
    fn of(index: &Index) -> Result<Option<Self>> {
        let (mut all, mut nodes) = (Self::default(), index.all::<Nodes>()?);
        while let Some(at) = nodes.next()? {
            let entry = at.block.entry(at.row);
            // What says that it has no name needs none.
            all.push(entry.ino, entry.nlink == 0);
            if all.runs.len() > RUNS {
                return Ok(None);
            }
        }
        Ok(Some(all))
    }

    /// Takes one in that is behind all others.
    fn push(&mut self, ino: u64, named: bool) {
        match self.runs.last_mut() {
            Some(run) if ino - run.first == run.len => run.len += 1,
            _ => self.runs.push(Run { first: ino, len: 1, before: self.count }),
        }
        if self.count.is_multiple_of(64) {
            self.named.push(0);
        }
        if let Some(word) = self.named.last_mut() {
            *word |= u64::from(named) << (self.count % 64);
        }
        self.count += 1;
    }

    /// Which of all inodes it is.
    fn place(&self, ino: u64) -> Option<u64> {
        let run = self.runs[..self.runs.partition_point(|run| run.first <= ino)].last()?;
        (ino - run.first < run.len).then(|| run.before + (ino - run.first))
    }

    /// Notes that an inode has a name; false when it is not there.
    fn name(&mut self, ino: u64) -> bool {
        let Some(place) = self.place(ino) else { return false };
        self.named[(place / 64) as usize] |= 1 << (place % 64);
        true
    }

    fn nameless(&self, mut tell: impl FnMut(u64)) {
        for run in &self.runs {
            let places = run.before..run.before + run.len;
            let nameless = places.filter(|place| self.named[(place / 64) as usize] & (1 << (place % 64)) == 0);
            nameless.for_each(|place| tell(run.first + (place - run.before)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inodes_are_known_with_gaps_and_at_both_ends() {
        let mut inodes = Inodes::default();
        let all: Vec<u64> = (1..=130).chain(200..=201).chain([u64::MAX - 1, u64::MAX]).collect();
        all.iter().for_each(|ino| inodes.push(*ino, *ino == 5));
        assert_eq!((inodes.runs.len(), inodes.count), (3, 134));
        for missing in [0, 131, 199, 202, u64::MAX - 2] {
            assert!(!inodes.name(missing), "{missing}");
        }
        assert!(all.iter().filter(|ino| **ino % 2 == 0).all(|ino| inodes.name(*ino)));
        let mut nameless = Vec::new();
        inodes.nameless(|ino| nameless.push(ino));
        let odd: Vec<u64> = all.into_iter().filter(|ino| *ino % 2 == 1 && *ino != 5).collect();
        assert_eq!(nameless, odd);
    }
}
