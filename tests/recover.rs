//! Containers that lost their header, their end, their commits, tables, or anything: what is recovered opens, what is said
//! of it is true, and where nothing but header and commits was lost nothing is missing.

// What is damaged is a list of ranges, also when it is one.
#![allow(clippy::single_range_in_vec_init)]

mod common {
    pub mod dice;
    pub mod dress;
    // Not every test asks all of it.
    #[allow(dead_code)]
    pub mod disk;
    #[allow(dead_code, reason = "the model and the real directory are for other tests")]
    pub mod fs;
    pub mod listing;
    pub mod metadata;
}

use common::dice::Dice;
use common::disk::{Disk, after_power_failure};
use common::dress;
use common::fs::{Fs, Op, Ours, Path};
use common::{listing, metadata};
use std::ops::Range;
use std::sync::Arc;
use stmount::cache::Cache;
use stmount::error::{Kind, Result};
use stmount::formats::Unwatched;
use stmount::formats::folder::Folder;
use stmount::formats::st::{self, Container, Packer, Recovered, Segmentation};
use stmount::source::{Memory, ReadAt, Store};
use stmount::vfs::Rename;

const SEG: u8 = 2;
const TABLE: u8 = 3;
const COMMIT: u8 = 4;
const PARITY: u8 = 5;

// ---- containers -------------------------------------------------------------------------------------------------------

impl Dice {
    fn path(&mut self) -> Path {
        let depth = self.of(&[1, 1, 2, 2, 3]);
        (0..depth).map(|_| self.of(&["a", "b", "c", "d", "e"])).collect()
    }

    fn op(&mut self, most: u64) -> Op {
        let (at, len) = (self.below(most), 1 + self.below(most) as usize);
        match self.below(20) {
            0..=3 => Op::Create(self.path()),
            4 | 5 => Op::Mkdir(self.path()),
            6 => Op::Symlink(self.path(), "somewhere"),
            7 | 8 => Op::Unlink(self.path()),
            9 => Op::Rmdir(self.path()),
            10 => Op::Link(self.path(), self.path()),
            11 => Op::Rename(self.path(), self.path(), Rename::Replace),
            12 => Op::Truncate(self.path(), at),
            13 => Op::Punch(self.path(), at, len as u64),
            14 => Op::Chmod(self.path(), self.of(&[0o600, 0o755])),
            15 => Op::SetXattr(self.path(), "user.x", vec![7; len.min(100)]),
            _ => Op::Write(self.path(), at, metadata::noise(len, self.0 as u32 >> 1)),
        }
    }
}

/// A container and every state it had: its bytes were those up to `end`, and it held what the listing says.
struct Grown {
    bytes: Vec<u8>,
    states: Vec<(usize, String)>,
}

impl Grown {
    fn new(bytes: Vec<u8>) -> Self {
        let states = vec![(bytes.len(), shown(&bytes))];
        Self { bytes, states }
    }

    /// Writes to it, with a commit behind every few operations.
    fn grow(mut self, seed: u64, commits: usize, most: u64) -> Self {
        let mut dice = Dice(seed);
        for _ in 0..commits {
            let store = Arc::new(Memory::new(std::mem::take(&mut self.bytes)));
            let mut ours = Ours::mount(&store);
            // Most operations are on what is not there.
            let (mut left, mut tries) = (dice.of(&[1, 1, 3, 10, 30]), 0);
            while left > 0 && tries < 1000 {
                left -= usize::from(ours.apply(&dice.op(most)).is_ok());
                tries += 1;
            }
            ours.apply(&Op::Sync).unwrap();
            drop(ours);
            self.bytes = contents(&*store);
            self.states.push((self.bytes.len(), shown(&self.bytes)));
        }
        self
    }

    fn last(&self) -> &str {
        &self.states.last().unwrap().1
    }

    /// Whether a listing is one of a state, from one on.
    fn has(&self, listing: &str, from: usize) -> bool {
        self.states[from..].iter().any(|(_, state)| state == listing)
    }
}

#[test]
fn the_containers_are_of_many_commits_and_tables_were_merged() {
    let all = all();
    let commits: usize = all.iter().map(|(_, grown)| of_kind(&grown.bytes, COMMIT).len()).sum();
    let states: usize = all.iter().map(|(_, grown)| grown.states.len()).sum();
    assert!(commits * 10 > states * 9, "{commits} commits, {states} states");
    if !dress::only_plain("what a commit names is sealed") {
        return;
    }
    // What the newest commit names: some have all of it in one table, some in several.
    let named = |bytes: &[u8]| {
        let commit = of_kind(bytes, COMMIT).pop().unwrap().range.start + 96;
        u32::from_le_bytes(bytes[commit + 160..commit + 164].try_into().unwrap()) as usize
    };
    let several = all.iter().filter(|(_, grown)| named(&grown.bytes) > 1).count();
    let one = all.iter().filter(|(_, g)| named(&g.bytes) == 1 && of_kind(&g.bytes, TABLE).len() > 1).count();
    assert!(several > 2 && one > 2, "{several} with several tables, {one} with one");
}

fn created() -> Vec<u8> {
    dress::create()
}

fn packed(files: usize) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    for i in 0..files {
        let below = dir.path().join(["a", "b", "other", "a/deep"][i % 4]);
        std::fs::create_dir_all(&below).unwrap();
        std::fs::write(below.join(format!("file {i}")), metadata::noise(i * 37 % 9000, i as u32 + 1)).unwrap();
    }
    std::fs::hard_link(dir.path().join("a/file 0"), dir.path().join("again")).unwrap();
    let packer = Packer { level: 3, segmentation: Some(Segmentation::Bytes(16384)), threads: 2, ..dress::packer() };
    dress::pack(&packer, &Folder::open(dir.path()).unwrap())
}

/// Containers of every kind: packed only, packed and written to, written to from nothing, with small and large files.
fn all() -> Vec<(String, Grown)> {
    let mut all = vec![("packed".to_owned(), Grown::new(packed(60)))];
    all.push(("created".to_owned(), Grown::new(created())));
    for seed in 0..rounds(12) {
        all.push((format!("created, seed {seed}"), Grown::new(created()).grow(seed + 1, 12, 3000)));
    }
    for seed in 0..rounds(4) {
        all.push((format!("packed, seed {seed}"), Grown::new(packed(100)).grow(seed + 100, 10, 3000)));
        all.push((format!("large, seed {seed}"), Grown::new(created()).grow(seed + 200, 5, 900_000)));
    }
    all
}

fn rounds(usual: u64) -> u64 {
    usual * std::env::var("STMOUNT_ROUNDS").map_or(1, |n| n.parse::<u64>().unwrap())
}

fn contents(store: &dyn ReadAt) -> Vec<u8> {
    let mut bytes = vec![0; store.len().unwrap() as usize];
    store.read_exact_at(0, &mut bytes).unwrap();
    bytes
}

fn open(bytes: &[u8]) -> Result<Container> {
    let bytes = Arc::new(Memory::new(bytes.to_vec()));
    Container::open(dress::read(bytes, Cache::new(8 << 20), "x.st"))
}

fn shown(bytes: &[u8]) -> String {
    listing::of(&open(bytes).unwrap()).unwrap()
}

/// A record: where it is and what it is.
#[derive(Clone, Debug)]
struct Record {
    range: Range<usize>,
    kind: u8,
}

/// The records of a whole container, one behind the other.
fn records(bytes: &[u8]) -> Vec<Record> {
    let (mut at, mut all) = (4096, Vec::new());
    while at < bytes.len() {
        assert_eq!(bytes[at..at + 4], *b"\xabSTR", "no record at {at}");
        let kind = bytes[at + 4];
        let len = u64::from_le_bytes(bytes[at + 16..at + 24].try_into().unwrap()) as usize;
        let footer = if matches!(kind, COMMIT | PARITY) { 128 } else { 0 };
        let end = at + (96 + len + footer).next_multiple_of(64);
        all.push(Record { range: at..end, kind });
        at = end;
    }
    all
}

fn of_kind(bytes: &[u8], kind: u8) -> Vec<Record> {
    records(bytes).into_iter().filter(|record| record.kind == kind).collect()
}

// ---- recovering -------------------------------------------------------------------------------------------------------

fn recover<S: Store + 'static>(store: &Arc<S>, dry_run: bool) -> Result<Recovered> {
    let cache = Cache::new(8 << 20);
    let access =
        if dry_run { dress::read(store.clone(), cache, "x.st") } else { dress::write(store.clone(), cache, "x.st") };
    st::recover(access, 2, &Unwatched)
}

/// Recovers bytes, and looks whether what is said is true: the result opens, to write as well, and has the damage that was
/// told; a second time there is nothing to do; a dry run says the same and writes nothing. `None` when nothing was found.
#[track_caller]
fn recovered(bytes: &[u8], what: &str) -> Option<(Vec<u8>, Recovered)> {
    let dry = Arc::new(Memory::new(bytes.to_vec()));
    let said = recover(&dry, true);
    assert!(contents(&*dry) == bytes, "{what}: a dry run wrote something");
    let store = Arc::new(Memory::new(bytes.to_vec()));
    let found = match recover(&store, false) {
        Ok(found) => found,
        Err(e) => {
            assert!(matches!(e.kind(), Kind::Header | Kind::Limit), "{what}: {e:?}");
            assert_eq!(said.unwrap_err().to_string(), e.to_string(), "{what}");
            assert!(contents(&*store) == bytes, "{what}: something was written");
            return None;
        }
    };
    assert_eq!(format!("{:?}", said.unwrap()), format!("{found:?}"), "{what}: the dry run");
    let after = contents(&*store);
    let checked = open(&after).unwrap().check(2, &Unwatched).unwrap();
    let mut told = found.checked.clone();
    if found.repaired.report.lost_cells > 0 {
        // What is left then of the parity itself is only known when it is written.
        told.strays = checked.strays.clone();
    }
    assert_eq!(format!("{checked:?}"), format!("{told:?}"), "{what}: the check");
    assert_eq!(found.is_changed(), after != bytes, "{what}: {found:?}");
    let again = recover(&Arc::new(Memory::new(after.clone())), false).unwrap();
    let same = !again.is_changed() && again.checked.is_whole() == checked.is_whole();
    // With what was made anew, such as the header, parity may make up for more.
    assert!(same || found.repaired.report.lost_cells > 0, "{what}: again: {again:?}");
    Some((after, found))
}

/// Recovers what lost nothing but header and commits.
#[track_caller]
fn all_is_there(bytes: &[u8], truth: &str, what: &str) -> (Vec<u8>, Recovered) {
    let (after, found) = recovered(bytes, what).unwrap_or_else(|| panic!("{what}: nothing was recovered"));
    listing::assert_same(truth, &shown(&after), what);
    assert!(found.is_whole() && found.is_changed(), "{what}: {found:?}");
    goes_on(&after, what);
    (after, found)
}

/// Writes to a container and reads it back.
#[track_caller]
fn goes_on(bytes: &[u8], what: &str) {
    let store = Arc::new(Memory::new(bytes.to_vec()));
    let mut ours = Ours::mount(&store);
    let _ = ours.apply(&Op::Unlink(vec!["new file"]));
    ours.apply(&Op::Create(vec!["new file"])).unwrap_or_else(|e| panic!("{what}: {e:?}"));
    ours.apply(&Op::Write(vec!["new file"], 0, b"new contents".to_vec())).unwrap();
    ours.apply(&Op::Sync).unwrap();
    let dump = ours.dump();
    drop(ours);
    assert!(Ours::mount(&store).dump() == dump, "{what}: written to, it is another");
    assert_eq!(dump["/new file"].content, b"new contents");
}

fn zeroed(bytes: &[u8], ranges: impl IntoIterator<Item = Range<usize>>) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    ranges.into_iter().for_each(|range| bytes[range].fill(0));
    bytes
}

fn ranges(records: &[Record]) -> impl Iterator<Item = Range<usize>> + '_ {
    records.iter().map(|record| record.range.clone())
}

#[test]
fn what_is_whole_stays_as_it_is() {
    for (name, grown) in all() {
        let (after, found) = recovered(&grown.bytes, &name).unwrap();
        assert!(found.is_whole() && !found.is_changed() && after == grown.bytes, "{name}: {found:?}");
    }
}

#[test]
fn a_header_is_written_again_as_it_was() {
    for (name, grown) in all() {
        for lost in [0..4096, 0..1, 20..30, 4095..4096] {
            let mut damaged = zeroed(&grown.bytes, [lost.clone()]);
            if damaged == grown.bytes {
                damaged[lost.start] = 1;
            }
            let (after, found) = all_is_there(&damaged, grown.last(), &format!("{name}, {lost:?}"));
            let made = found.header || dress::mends() && found.repaired.written;
            assert!(after == grown.bytes && made && !found.commit, "{name}: {found:?}");
        }
    }
}

#[test]
fn without_the_last_commits_nothing_is_missing() {
    for (name, grown) in all() {
        let commits = of_kind(&grown.bytes, COMMIT);
        for lost in 1..=commits.len() {
            let damaged = zeroed(&grown.bytes, ranges(&commits[commits.len() - lost..]));
            let what = format!("{name}, {lost} of {} commits", commits.len());
            let (_, found) = all_is_there(&damaged, grown.last(), &what);
            let anew = found.commit && !found.header && found.tables as usize >= lost;
            assert!(anew || dress::mends(), "{what}: {found:?}");
        }
    }
}

#[test]
fn without_header_and_commits_nothing_is_missing() {
    for (name, grown) in all() {
        let commits = of_kind(&grown.bytes, COMMIT);
        let damaged = zeroed(&grown.bytes, ranges(&commits).chain([0..4096]));
        let (_, found) = all_is_there(&damaged, grown.last(), &name);
        // The keys of one that is sealed tell whose it is.
        let anew = found.header && found.commit && found.identity != dress::is_sealed();
        assert!(anew || dress::mends(), "{name}: {found:?}");
        // One that is only damaged still tells whose it is.
        let mut damaged = zeroed(&grown.bytes, [0..4096]);
        commits.iter().for_each(|commit| damaged[commit.range.start + 96 + 40] ^= 1);
        let (after, found) = all_is_there(&damaged, grown.last(), &name);
        assert!(dress::mends() || found.header && found.commit && !found.identity, "{name}: {found:?}");
        assert_eq!(after[..4096], grown.bytes[..4096], "{name}");
    }
}

#[test]
fn half_a_footer_is_not_taken_for_something_before_the_container() {
    let grown = Grown::new(packed(30));
    let len = grown.bytes.len();
    for lost in [len - 128..len - 112, len - 120..len - 119, len - 128..len - 120] {
        let damaged = zeroed(&grown.bytes, [0..4096, lost]);
        assert_eq!(shown(&damaged), grown.last());
        all_is_there(&damaged, grown.last(), "header and half a footer");
    }
}

#[test]
fn a_commit_with_a_wrong_bit_is_made_again() {
    let grown = Grown::new(packed(30)).grow(5, 4, 3000);
    let commit = of_kind(&grown.bytes, COMMIT).pop().unwrap();
    for at in commit.range.clone().step_by(3) {
        let mut damaged = grown.bytes.clone();
        damaged[at] ^= 4;
        let (after, found) = recovered(&damaged, &format!("byte {at}")).unwrap();
        listing::assert_same(grown.last(), &shown(&after), &format!("byte {at}"));
        assert!(found.is_whole(), "{found:?}");
    }
}

#[test]
fn what_stands_behind_the_last_commit_is_cut_off() {
    for (name, grown) in all() {
        for behind in [vec![1; 1], vec![0; 64], metadata::noise(5000, 3), grown.bytes[4096..].to_vec()] {
            let damaged = [&grown.bytes[..], &behind].concat();
            let (after, found) = all_is_there(&damaged, grown.last(), &name);
            assert!(after == grown.bytes && found.cut as usize == behind.len(), "{name}: {found:?}");
        }
    }
}

#[test]
fn a_cut_loses_what_is_behind_it_and_no_more() {
    for (name, grown) in all() {
        let mut dice = Dice(9);
        let edges = records(&grown.bytes).into_iter().map(|record| record.range.end);
        let near = edges.flat_map(|end| [end.saturating_sub(129), end - 64, end - 1, end, end + 1, end + 95]);
        let mut cuts: Vec<usize> = near.filter(|cut| *cut <= grown.bytes.len()).collect();
        cuts.extend((0..60).map(|_| dice.below(grown.bytes.len() as u64) as usize));
        for cut in cuts {
            let what = format!("{name}, cut at {cut}");
            // The footer of a commit and the padding before it are not needed.
            let whole = grown.states.iter().filter(|(end, _)| *end <= cut).count();
            let Some((after, found)) = recovered(&grown.bytes[..cut], &what) else {
                assert_eq!(whole, 0, "{what}: nothing was found");
                continue;
            };
            let listed = shown(&after);
            assert!(!found.is_whole() || grown.has(&listed, whole.saturating_sub(1)), "{what}: {found:?}");
            assert!(whole == 0 || grown.has(&listed, whole - 1), "{what}: no state: {found:?}");
            goes_on(&after, &what);
        }
    }
}

#[test]
fn a_damaged_table_is_told() {
    for (name, grown) in all() {
        let (tables, commits) = (of_kind(&grown.bytes, TABLE), of_kind(&grown.bytes, COMMIT));
        for (i, table) in tables.iter().enumerate() {
            for without_commits in [false, true] {
                let mut damaged = grown.bytes.clone();
                if without_commits {
                    damaged = zeroed(&damaged, ranges(&commits));
                }
                damaged[table.range.start + 96 + (table.range.len() - 96) / 2] ^= 1;
                let what = format!("{name}, table {i} of {}, {without_commits}", tables.len());
                let Some((after, found)) = recovered(&damaged, &what) else {
                    assert!(tables.len() == 1, "{what}: nothing was found");
                    continue;
                };
                let told = found.damaged == 1 && !found.is_whole() || dress::mends();
                assert!(!without_commits || told, "{what}: {found:?}");
                let whole = found.is_whole();
                assert!(!whole || grown.has(&shown(&after), 0), "{what}: {found:?}");
            }
        }
    }
}

#[test]
fn whatever_is_lost_what_is_said_is_true() {
    for (name, grown) in all() {
        for seed in 0..rounds(25) {
            let mut dice = Dice(seed * 31 + 7);
            let blocks = grown.bytes.len().div_ceil(4096) as u64;
            let mut damaged = grown.bytes.clone();
            for _ in 0..dice.of(&[1, 1, 2, 4, 8]) {
                let at = dice.below(blocks) as usize * 4096;
                let end = (at + 4096).min(damaged.len());
                match dice.below(3) {
                    0 => damaged[at..end].copy_from_slice(&metadata::noise(end - at, seed as u32)),
                    _ => damaged[at..end].fill(0),
                }
            }
            let what = format!("{name}, seed {seed}");
            let Some((after, found)) = recovered(&damaged, &what) else { continue };
            let whole = found.is_whole();
            assert!(!whole || grown.has(&shown(&after), 0), "{what}: it is no state, and said to be whole: {found:?}");
            if found.checked.damage.is_empty() {
                listing_of_the_readable(&after, &what);
            }
        }
    }
}

/// Walks what was recovered: every name leads to an inode.
fn listing_of_the_readable(bytes: &[u8], what: &str) {
    let container = open(bytes).unwrap();
    assert!(!listing::paths(&container).unwrap_or_else(|e| panic!("{what}: {e}")).is_empty());
}

#[test]
fn files_without_names_are_in_lost_and_found() {
    let grown = Grown::new(packed(200));
    let store = Arc::new(Memory::new(grown.bytes.clone()));
    let mut ours = Ours::mount(&store);
    ours.apply(&Op::Create(vec!["a", "later"])).unwrap();
    ours.apply(&Op::Write(vec!["a", "later"], 0, b"written later".to_vec())).unwrap();
    ours.apply(&Op::Mkdir(vec!["b", "dir"])).unwrap();
    ours.apply(&Op::Create(vec!["b", "dir", "inside"])).unwrap();
    ours.apply(&Op::Sync).unwrap();
    drop(ours);
    let bytes = contents(&*store);
    let lost = of_kind(&bytes, TABLE)[0].range.clone();
    let damaged = zeroed(&bytes, ranges(&of_kind(&bytes, COMMIT)).chain([lost]));
    let (after, found) = recovered(&damaged, "without the first table").unwrap();
    if dress::mends() {
        return goes_on(&after, "parity makes it good");
    }
    assert!(found.root && found.found > 0 && found.missing == 1 && !found.is_whole(), "{found:?}");
    assert!(found.segments as usize >= of_kind(&grown.bytes, SEG).len(), "{found:?}");
    let dump = Ours::mount(&Arc::new(Memory::new(after.clone()))).dump();
    let later = dump.iter().find(|(_, seen)| seen.content == b"written later").unwrap();
    // Its directory was changed with it, so that its inode is there, and only the name of the directory is lost.
    assert!(later.0.starts_with("/lost+found/ino-") && later.0.ends_with("/later"), "{}", later.0);
    assert!(dump.keys().any(|path| path.ends_with("/dir/inside")), "{:?}", dump.keys());
    goes_on(&after, "without the first table");
}

#[test]
fn a_failure_on_the_way_leaves_what_can_be_recovered() {
    let grown = Grown::new(packed(20)).grow(3, 5, 3000);
    let commits = of_kind(&grown.bytes, COMMIT);
    let header = zeroed(&grown.bytes, [0..4096]);
    let both = zeroed(&grown.bytes, ranges(&commits[2..]).chain([0..4096]));
    let torn = [&grown.bytes[..], &[1; 100]].concat();
    for damaged in [header, both, torn] {
        for calls in 0..8 {
            let disk = Arc::new(Disk::new(damaged.clone()));
            disk.fail_in(Some(calls));
            let done = recover(&disk, false);
            disk.fail_in(None);
            assert!(done.is_ok() || calls < 7, "{calls}");
            let again = Arc::new(Memory::new(disk.bytes()));
            recover(&again, false).unwrap();
            listing::assert_same(grown.last(), &shown(&contents(&*again)), &format!("the call {calls} failed"));
            let (events, mut dice) = (disk.events(), Dice(calls.into()));
            for count in 0..=events.len() {
                let left = after_power_failure(&damaged, &events, count, &mut || dice.below(2) == 0);
                let left = Arc::new(Memory::new(left));
                recover(&left, false).unwrap();
                listing::assert_same(grown.last(), &shown(&contents(&*left)), &format!("power failed at {count}"));
            }
        }
    }
}

#[test]
fn what_is_no_container_is_left_alone() {
    for bytes in [vec![], vec![0; 100], metadata::noise(70_000, 1), packed(3)[..4096].to_vec(), b"text".to_vec()] {
        assert!(recovered(&bytes, "no container").is_none());
    }
    // The beginning of the file is missing: all records are elsewhere than they say.
    assert!(recovered(&packed(9)[4096..], "without its beginning").is_none());
    // Something stands before it.
    let bytes = std::fs::read(golden("behind-a-program.st")).unwrap();
    let store = Arc::new(Memory::new(bytes.clone()));
    assert_eq!(recover(&store, false).unwrap_err().kind(), Kind::Unsupported);
    assert!(contents(&*store) == bytes);
}

fn golden(name: &str) -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

#[test]
fn another_reader_reads_what_was_recovered() {
    let dir = tempfile::tempdir().unwrap();
    // With the identity lost, the checks of old records cannot be right, which this reader asks for.
    for (seed, header) in [(1, false), (2, true), (3, true)] {
        let grown = Grown::new(packed(40)).grow(seed, 6, 3000);
        let commits = of_kind(&grown.bytes, COMMIT);
        let lost = if header { &commits[seed as usize..] } else { &commits[..] };
        let damaged = zeroed(&grown.bytes, ranges(lost).chain(header.then_some(0..4096)));
        let (after, _) = all_is_there(&damaged, grown.last(), "another reader");
        let file = dir.path().join("x.st");
        std::fs::write(&file, after).unwrap();
        let said = listing::say("st_ref.py", &dress::of_reader(&["list".as_ref(), &file]));
        listing::assert_same(grown.last(), &said, "the reference reader");
    }
}

#[test]
fn a_container_that_lies_does_no_harm() {
    let dir = tempfile::tempdir().unwrap();
    listing::say("hostile.py", &[dir.path()]);
    let mut count = 0;
    for entry in std::fs::read_dir(dir.path()).unwrap() {
        let path = entry.unwrap().path();
        let bytes = std::fs::read(&path).unwrap();
        // As it is, and so that nothing but its records can be asked. Its end may be anything.
        let at = (4096..bytes.len().saturating_sub(96)).step_by(64);
        let is_commit = |at: &usize| bytes[*at..*at + 5] == *b"\xabSTR\x04";
        let without = zeroed(&bytes, at.filter(is_commit).map(|at| at..at + 96));
        for bytes in [bytes, without] {
            let store = Arc::new(Memory::new(bytes.clone()));
            if let Ok(found) = recover(&store, false) {
                let opened = open(&contents(&*store)).unwrap_or_else(|e| panic!("{path:?}: {found:?}: {e}"));
                let _ = opened.check(2, &Unwatched);
            } else {
                assert!(contents(&*store) == bytes, "{path:?}: something was written");
            }
            count += 1;
        }
    }
    assert!(count > 140);
}
