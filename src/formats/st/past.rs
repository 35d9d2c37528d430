//! The states of a container, to be looked into while it is open.
//!
//! ```text
//!   a name    ──META tag/──────────────────────────► COMMIT ──► tables ──► a tree
//!   a number  ──from the next place that is known──► COMMIT     those of the newest state are shared
//! ```
//!
//! A state is opened when it is asked for, and kept for a moment: whoever looks into it asks many times. All that keeps
//! one here is in one place, so that whoever wants to tidy the container up can have the idle ones dropped, and see
//! whether any is held elsewhere: by a file that is open.

use super::commit::Commit;
use super::generations::{History, Tagged, time_of};
use super::index::Index;
use super::medium::Medium;
use super::open_table;
use super::table::{Left, Table};
use super::tape::Tape;
use super::tree::Container;
use crate::error::{Error, Kind, Result, Within};
use crate::formats::{State, States};
use crate::pool::lock;
use crate::tree::{Time, Tree};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::time::{Duration, Instant};

/// States that are kept open.
const KEPT: usize = 8;
/// After so long without a use, a state is dropped at the next occasion.
const IDLE: Duration = Duration::from_secs(30);
/// Of so many commits on the way back, the place of one is remembered,
const STRIDE: u64 = 64;
/// and of so many at most: with more of them, every second one is forgotten.
const PLACES: usize = 16 << 10;

/// The states of one open container.
pub struct Past {
    name: String,
    tape: Arc<Tape>,
    now: Mutex<Arc<Now>>,
    /// Numbers and records of some commits.
    places: Mutex<BTreeMap<u64, u64>>,
    opened: Mutex<Opened>,
}

/// The newest state.
struct Now {
    history: History,
    index: Arc<Index>,
    tags: OnceLock<Tags>,
}

/// Names of states.
struct Tags {
    by_name: BTreeMap<String, Tagged>,
    /// Names of each record, in order.
    of_record: HashMap<u64, Vec<String>>,
}

#[derive(Default)]
struct Opened {
    kept: Vec<Kept>,
    /// The index of each state that somebody may hold.
    given: Vec<Weak<Index>>,
}

struct Kept {
    sequence: u64,
    tree: Arc<Container>,
    used: Instant,
}

impl Now {
    fn tags(&self) -> Result<&Tags> {
        if let Some(known) = self.tags.get() {
            return Ok(known);
        }
        let by_name = self.history.tags(&self.index)?;
        let mut of_record: HashMap<u64, Vec<String>> = HashMap::new();
        for (name, tagged) in &by_name {
            of_record.entry(tagged.record).or_default().push(name.clone());
        }
        Ok(self.tags.get_or_init(|| Tags { by_name, of_record }))
    }

    fn state(&self, commit: &Commit) -> Result<State> {
        let names = self.tags()?.of_record.get(&commit.record).cloned().unwrap_or_default();
        Ok(State { sequence: commit.head.seq.get(), time: time_of(commit), names })
    }

    /// The tables of a commit; those that the newest has as well are not read again.
    fn tables(&self, commit: &Commit) -> Result<Vec<Arc<Table>>> {
        let newest = &self.history.newest().tables;
        let mut left = Left::default();
        let shared = |reference| self.index.tables().get(newest.iter().position(|known| known == reference)?);
        let open = |reference| match shared(reference) {
            Some(table) => Ok(table.clone()),
            None => open_table(self.history.medium(), reference, commit.record, &mut left).map(Arc::new),
        };
        commit.tables.iter().map(open).collect()
    }
}

impl Past {
    pub fn new(name: String, newest: Commit, index: Arc<Index>, tape: Arc<Tape>) -> Self {
        let now = Now { history: History::new(tape.medium().clone(), newest), index, tags: OnceLock::new() };
        let (places, opened) = (Mutex::default(), Mutex::default());
        Self { name, tape, now: Mutex::new(Arc::new(now)), places, opened }
    }

    pub fn medium(&self) -> &Medium {
        self.tape.medium()
    }

    /// The newest state.
    pub fn newest(&self) -> Container {
        let (now, cache) = (self.now(), self.tape.shared_cache());
        let owner = cache.new_owner();
        let newest = now.history.newest();
        let facts = (newest.totals, newest.record);
        Container::new(self.name.clone(), now.index.clone(), self.tape.clone(), cache, owner, facts)
    }

    /// From now on this commit is the newest.
    pub fn renew(&self, newest: &Commit, index: Arc<Index>) {
        let history = History::new(self.tape.medium().clone(), newest.clone());
        let next = Arc::new(Now { history, index, tags: OnceLock::new() });
        let before = std::mem::replace(&mut *lock(&self.now), next);
        if newest.head.prev.get() != before.history.newest().record {
            // Not one more commit: what led back may lie elsewhere now.
            lock(&self.places).clear();
        }
        self.drop_idle();
    }

    /// Drops the states that nobody has asked for lately.
    pub fn drop_idle(&self) {
        self.drop_unused_for(IDLE);
    }

    fn drop_unused_for(&self, idle: Duration) {
        let mut opened = lock(&self.opened);
        let all = std::mem::take(&mut opened.kept);
        let (unused, used): (Vec<Kept>, _) = all.into_iter().partition(|kept| kept.used.elapsed() >= idle);
        opened.kept = used;
        drop(opened);
        drop(unused);
    }

    fn now(&self) -> Arc<Now> {
        lock(&self.now).clone()
    }

    /// The commit with a number.
    fn commit(&self, now: &Now, sequence: u64) -> Result<Option<Commit>> {
        let tags = now.tags()?;
        let tagged = tags.by_name.values().find(|tagged| tagged.sequence == sequence);
        if let Some(commit) = tagged.and_then(|tagged| now.history.commit(tagged.record).ok()) {
            return Ok(Some(commit).filter(|commit| commit.head.seq.get() == sequence));
        }
        for commit in now.history.back_from(self.from(now, sequence)) {
            let at = commit.head.seq.get();
            if at <= sequence {
                return Ok((at == sequence).then_some(commit));
            }
            if at % STRIDE == 0 {
                self.note_place(at, commit.record);
            }
        }
        Ok(None)
    }

    /// The oldest known commit that has this number or a later one.
    fn from(&self, now: &Now, sequence: u64) -> Commit {
        let known = lock(&self.places).range(sequence..).next().map(|(at, record)| (*at, *record));
        let commit = known.and_then(|(at, record)| {
            let commit = now.history.commit(record).ok()?;
            (commit.head.seq.get() == at).then_some(commit)
        });
        commit.unwrap_or_else(|| now.history.newest().clone())
    }

    fn note_place(&self, sequence: u64, record: u64) {
        let mut places = lock(&self.places);
        places.insert(sequence, record);
        if places.len() > PLACES {
            let mut keep = false;
            places.retain(|_, _| {
                keep = !keep;
                keep
            });
        }
    }

    fn kept(&self, sequence: u64) -> Option<Arc<Container>> {
        let mut opened = lock(&self.opened);
        let kept = opened.kept.iter_mut().find(|kept| kept.sequence == sequence)?;
        kept.used = Instant::now();
        Some(kept.tree.clone())
    }

    fn keep(&self, sequence: u64, tree: &Arc<Container>) {
        let mut opened = lock(&self.opened);
        opened.given.retain(|index| index.strong_count() > 0);
        opened.given.push(Arc::downgrade(&tree.shared_index()));
        let oldest = (0..opened.kept.len()).min_by_key(|at| opened.kept[*at].used);
        let surplus = oldest.filter(|_| opened.kept.len() >= KEPT).map(|at| opened.kept.swap_remove(at));
        opened.kept.push(Kept { sequence, tree: tree.clone(), used: Instant::now() });
        drop(opened);
        drop(surplus);
    }

    fn open_state(&self, sequence: u64) -> Result<Arc<Container>> {
        let now = self.now();
        let gone = || Error::new(Kind::Changed, format!("the state {sequence} is not there any more"));
        let commit = self.commit(&now, sequence)?.ok_or_else(gone)?;
        let (cache, medium) = (self.tape.shared_cache(), self.tape.medium().clone());
        let owner = cache.new_owner();
        let index = Arc::new(Index::new(now.tables(&commit)?, medium, cache.clone(), owner));
        let tape = Arc::new(self.tape.beside(index.clone(), owner));
        let facts = (commit.totals, commit.record);
        let tree = Arc::new(Container::new(self.name.clone(), index, tape, cache, owner, facts));
        self.keep(sequence, &tree);
        Ok(tree)
    }
}

impl States for Past {
    fn list(&self, most: usize) -> Result<Vec<State>> {
        let now = self.now();
        let tags = now.tags().within(|| &self.name)?;
        let named: HashSet<u64> = tags.of_record.keys().copied().collect();
        let others = now.history.back_from(now.history.newest().clone());
        let others = others.filter(|commit| !named.contains(&commit.record)).take(most);
        let named = named.iter().filter_map(|record| now.history.commit(*record).ok());
        named.chain(others).map(|commit| now.state(&commit)).collect()
    }

    fn find(&self, which: &str) -> Result<Option<State>> {
        let now = self.now();
        let commit = match now.tags().within(|| &self.name)?.by_name.get(which) {
            Some(tagged) => now.history.commit(tagged.record).ok(),
            None => match which.parse::<u64>().ok().filter(|number| number.to_string() == which) {
                Some(number) => self.commit(&now, number).within(|| &self.name)?,
                None => None,
            },
        };
        commit.map(|commit| now.state(&commit)).transpose()
    }

    fn open(&self, sequence: u64) -> Result<Arc<dyn Tree>> {
        self.drop_idle();
        match self.kept(sequence) {
            Some(tree) => Ok(tree),
            None => Ok(self.open_state(sequence).within(|| &self.name)?),
        }
    }

    fn time(&self) -> Time {
        time_of(self.now().history.newest())
    }

    fn first_new_node(&self) -> u64 {
        self.now().history.newest().head.next_ino.get()
    }

    fn held(&self) -> usize {
        self.drop_idle();
        lock(&self.opened).given.iter().filter(|index| index.strong_count() > 0).count()
    }
}

#[cfg(test)]
mod tests {
    use super::super::append::StWriter;
    use super::super::{create, opened_to_write};
    use super::*;
    use crate::cache::Cache;
    use crate::formats::{Access, Writer};
    use crate::key::sign::Signing;
    use crate::source::Memory;

    /// The writer of an empty container.
    fn writer() -> StWriter {
        let mut bytes = Vec::new();
        create(&mut bytes, (0, 0), None, (None, &Signing::default())).unwrap();
        let access = Access::to_write(Arc::new(Memory::new(bytes)), Cache::new(8 << 20), "test.st");
        let Ok((_, opened)) = opened_to_write(access).unwrap() else { panic!("it can be written to") };
        StWriter::new(opened).unwrap()
    }

    /// So many commits.
    fn commit(writer: &StWriter, times: usize) {
        for number in 0..times {
            writer.name_state("passing", number % 2 == 0).unwrap();
        }
    }

    #[test]
    fn every_commit_is_found_by_its_number_and_the_newest_are_listed() {
        let writer = writer();
        commit(&writer, 300);
        writer.name_state("kept", true).unwrap();
        let past = writer.past();
        for number in [1, 2, 63, 64, 65, 127, 200, 301, 302] {
            let found = past.find(&number.to_string()).unwrap();
            assert_eq!(found.map(|state| state.sequence), Some(number));
        }
        for nothing in ["0", "303", "01", "+1", "-1", "", "passing", "99999999999999999999"] {
            assert_eq!(past.find(nothing).unwrap(), None, "{nothing:?}");
        }
        let mut listed: Vec<(u64, Vec<String>)> =
            past.list(3).unwrap().into_iter().map(|state| (state.sequence, state.names)).collect();
        listed.sort();
        let none = Vec::new;
        assert_eq!(listed, [(299, none()), (300, none()), (301, vec!["kept".to_owned()]), (302, none())]);
        assert!(!lock(&past.places).is_empty() && lock(&past.places).len() <= 5);
    }

    #[test]
    fn few_states_are_kept_open_and_idle_ones_are_dropped() {
        let writer = writer();
        commit(&writer, 40);
        let past = writer.past();
        for number in 1..=40 {
            past.open(number).unwrap();
        }
        assert_eq!(past.held(), KEPT);
        let held = past.open(7).unwrap();
        past.drop_unused_for(Duration::ZERO);
        assert_eq!(past.held(), 1, "somebody still has it");
        drop(held);
        assert_eq!(past.held(), 0);
        assert_eq!(past.open(4711).err().map(|e| e.kind()), Some(Kind::Changed));
    }

    #[test]
    fn places_that_are_no_longer_right_are_not_believed() {
        let writer = writer();
        commit(&writer, 200);
        let past = writer.past();
        assert!(past.find("3").unwrap().is_some());
        let wrong = lock(&past.places).values().copied().max().unwrap();
        lock(&past.places).values_mut().for_each(|record| *record = wrong);
        assert_eq!(past.find("3").unwrap().map(|state| state.sequence), Some(3));
    }
}
