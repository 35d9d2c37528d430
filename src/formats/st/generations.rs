//! Earlier states of a container: every commit is one, and names are given to those that are to be found again.
//!
//! ```text
//!   newest COMMIT ──prev──► COMMIT ──prev──► COMMIT ──prev──► …        until one is not there any more
//!        │ META tag/NAME ────────────────────────┘
//! ```

use super::commit::{self, Commit};
use super::index::Index;
use super::layout::HEADER_LEN;
use super::medium::Medium;
use super::rows::{Block, Metas, meta_key};
use super::tape::Tape;
use super::tree::Container;
use super::{locks, open_tables, records, tell, without_stub};
use crate::codec::damaged;
use crate::error::{Error, Kind, Result, Within};
use crate::formats::{Access, Generation, Root};
use crate::tree::Time;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, OnceLock};

/// What names of states begin with in META.
const TAG: &str = "tag/";

/// A commit that has a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tagged {
    pub record: u64,
    pub sequence: u64,
}

impl Tagged {
    pub fn encode(self) -> Vec<u8> {
        [self.record.to_le_bytes(), self.sequence.to_le_bytes()].concat()
    }

    fn decode(value: &[u8]) -> Result<Self> {
        let (record, rest) = value.split_first_chunk().ok_or_else(|| damaged("a name of a state is cut off"))?;
        let sequence = rest.first_chunk().ok_or_else(|| damaged("a name of a state is cut off"))?;
        Ok(Self { record: u64::from_le_bytes(*record), sequence: u64::from_le_bytes(*sequence) })
    }
}

/// The name in META of a state that people call so.
///
/// # Errors
/// `Invalid` when nobody could write it behind an `@`, or when it is a number, which stands for a commit.
pub(super) fn tag_key(name: &str) -> Result<Vec<u8>> {
    let odd = |c: char| c == '/' || c == '@' || c.is_control();
    if name.is_empty() || name.len() > 200 || name.contains(odd) || name.bytes().all(|b| b.is_ascii_digit()) {
        let what = format!("{name:?} cannot be the name of a state");
        return Err(Error::new(Kind::Invalid, what)
            .hint("1 to 200 bytes, not a number alone, without / and @: a date, a version, a word"));
    }
    Ok(format!("{TAG}{name}").into_bytes())
}

/// All states that have names.
pub(super) fn tags(index: &Index) -> Result<BTreeMap<String, Tagged>> {
    let key = meta_key(TAG.as_bytes());
    let mut rows = index.from(&key, |block: &Metas, row| block.key(row) < key)?;
    let mut found = BTreeMap::new();
    while let Some(at) = rows.next()? {
        let row = at.block.get(at.row);
        let Some(name) = row.name.strip_prefix(TAG.as_bytes()) else { break };
        found.insert(String::from_utf8_lossy(name).into_owned(), Tagged::decode(&row.value)?);
    }
    Ok(found)
}

/// The states of a container that are still there, newest first.
pub fn generations(access: &Access) -> Result<Vec<Generation>> {
    Ok(recorded(access)?.into_iter().map(|(_, generation)| generation).collect())
}

/// The same, each with the place of its COMMIT.
pub(super) fn recorded(access: &Access) -> Result<Vec<(u64, Generation)>> {
    let (history, container) = History::open(access).within(|| &access.name)?;
    let tags = history.tags(container.index())?;
    let mut all = Vec::new();
    let named = tags.values().map(|tagged| tagged.record);
    let mut records: Vec<u64> = history.chain().chain(named).collect();
    records.sort_unstable_by(|a, b| b.cmp(a));
    records.dedup();
    for record in records {
        let Ok(commit) = history.commit(record) else { continue };
        let generation = Generation {
            sequence: commit.head.seq.get(),
            time: time_of(&commit),
            nodes: commit.totals.nodes.get(),
            bytes: commit.totals.bytes.get(),
            names: tags.iter().filter(|(_, t)| t.record == record).map(|(name, _)| name.clone()).collect(),
        };
        all.push((record, generation));
    }
    Ok(all)
}

/// How many states of a container are still there; `None` when there are more than `most`.
pub fn count(access: &Access, most: usize) -> Result<Option<u64>> {
    let (history, container) = History::open(access).within(|| &access.name)?;
    let mut records: HashSet<u64> = history.chain().take(most.saturating_add(1)).collect();
    let named = tags(container.index())?.into_values().map(|tagged| tagged.record);
    records.extend(named.filter(|record| history.commit(*record).is_ok()));
    Ok((records.len() <= most).then_some(records.len() as u64))
}

/// When a commit was made.
pub(super) fn time_of(commit: &Commit) -> Time {
    let time = commit.head.time_ns.get();
    Time { secs: (time / 1_000_000_000) as i64, nanos: (time % 1_000_000_000) as u32 }
}

/// A container and the way back from its newest commit.
pub(super) struct History {
    medium: Medium,
    newest: Commit,
    root: Option<Root>,
    /// The records that the hashes lead to from the newest commit, where that matters.
    led_to: OnceLock<HashSet<u64>>,
}

impl History {
    pub fn new(medium: Medium, newest: Commit) -> Self {
        Self { medium, newest, root: None, led_to: OnceLock::new() }
    }

    pub fn newest(&self) -> &Commit {
        &self.newest
    }

    /// What the container stands on, when it was opened from its file.
    pub fn root(&self) -> Option<Root> {
        self.root
    }

    pub fn medium(&self) -> &Medium {
        &self.medium
    }

    /// The state of a commit, as a tree.
    pub fn state(&self, access: &Access, record: u64) -> Result<Container> {
        let commit = self.commit(record)?;
        let tables = open_tables(&self.medium, &commit)?;
        Ok(self.container(access, &commit, tables))
    }

    pub fn open(access: &Access) -> Result<(Self, Container)> {
        let source = without_stub(access.bytes.clone())?;
        let (found, tables) = commit::newest(&source, &locks(access), &open_tables)?;
        tell(access, &found)?;
        let history = Self { root: Some(found.root), ..Self::new(found.medium, found.commit) };
        let container = history.container(access, &history.newest, tables);
        Ok((history, container))
    }

    pub fn commit(&self, record: u64) -> Result<Commit> {
        if record == self.newest.record {
            return Ok(self.newest.clone());
        }
        if !self.is_led_to(record) {
            return Err(damaged(format!("the commit at {record} is none that the signature vouches for")));
        }
        self.earlier(record)
    }

    fn earlier(&self, record: u64) -> Result<Commit> {
        let commit = commit::read(&self.medium, record)?;
        let ours = commit.head.uid == self.newest.head.uid && commit.head.seq.get() < self.newest.head.seq.get();
        if ours { Ok(commit) } else { Err(damaged(format!("the commit at {record} is of another container"))) }
    }

    /// Whether a signature of the newest commit, if it has one, vouches for an earlier one as well: its hash stands in the
    /// commit behind it. In a container in clear anybody can write another one with a hash of its own.
    fn is_led_to(&self, record: u64) -> bool {
        let all = || self.chain().collect();
        self.newest.signer.is_none() || self.led_to.get_or_init(all).contains(&record)
    }

    /// The commit before one, when its hash is the one that stands there.
    fn before(&self, commit: &Commit) -> Option<Commit> {
        let prev = commit.head.prev.get();
        let leads_back = prev >= HEADER_LEN && prev < commit.record;
        let header = leads_back.then(|| records::sound_header(&self.medium, prev).ok()).flatten()?;
        let is_that = header.payload_hash == commit.head.prev_hash;
        is_that.then(|| self.earlier(prev).ok()).flatten()
    }

    /// All states that have names, each where the way back from the newest commit leads to its number. At the place that a
    /// name tells there may still be the commit as it was before it was moved, over what is not whole any more.
    pub fn tags(&self, index: &Index) -> Result<BTreeMap<String, Tagged>> {
        let mut tags = tags(index)?;
        let Some(lowest) = tags.values().map(|tagged| tagged.sequence).min() else { return Ok(tags) };
        let mut places = HashMap::new();
        for commit in self.back_from(self.newest.clone()) {
            let sequence = commit.head.seq.get();
            places.insert(sequence, commit.record);
            if sequence <= lowest {
                break;
            }
        }
        for tagged in tags.values_mut() {
            tagged.record = places.get(&tagged.sequence).copied().unwrap_or(tagged.record);
        }
        Ok(tags)
    }

    /// The records of the commits, newest first, as far as they lead back.
    fn chain(&self) -> impl Iterator<Item = u64> + '_ {
        self.back_from(self.newest.clone()).map(|commit| commit.record)
    }

    /// A commit and those before it, as far as they lead back. Each lies before the one that names it.
    pub fn back_from(&self, commit: Commit) -> impl Iterator<Item = Commit> + '_ {
        std::iter::successors(Some(commit), |commit| self.before(commit))
    }

    fn container(&self, access: &Access, commit: &Commit, tables: Vec<Arc<super::table::Table>>) -> Container {
        let (cache, owner) = (access.cache.clone(), access.cache.new_owner());
        let index = Arc::new(Index::new(tables, self.medium.clone(), cache.clone(), owner));
        let tape = Arc::new(Tape::new(index.clone(), self.medium.clone(), cache.clone(), owner));
        Container::new(access.name.clone(), index, tape, cache, owner, (commit.totals, commit.record))
    }

    /// The commit that a person names, by its name or by its number.
    pub fn named(&self, container: &Container, which: &str) -> Result<Commit> {
        let gone = || {
            Error::new(Kind::NotFound, format!("there is no state {which:?}"))
                .hint("stmount log, which lists those there are")
        };
        if let Some(tagged) = self.tags(container.index())?.get(which) {
            return self.commit(tagged.record);
        }
        let sequence: u64 = which.parse().map_err(|_| gone())?;
        let mut back = self.back_from(self.newest.clone());
        back.find(|commit| commit.head.seq.get() == sequence).ok_or_else(gone)
    }
}

/// Opens the state of a container that a person names, by its name or by its number, to be read.
pub fn open_at(access: &Access, which: &str) -> Result<Container> {
    let open = || -> Result<Container> {
        let (history, newest) = History::open(access)?;
        history.state(access, history.named(&newest, which)?.record)
    };
    open().within(|| &access.name)
}

/// Makes the state that a person names the newest one. What came later stays, as earlier states.
pub fn restore(access: Access, which: &str) -> Result<()> {
    let (history, newest) = History::open(&access).within(|| &access.name)?;
    let record = history.named(&newest, which).within(|| &access.name)?.record;
    drop((history, newest));
    super::writer(access, super::LIVE_LEVEL)?.restore(record).map(drop)
}
