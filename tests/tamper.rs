//! Who changes a sealed container without a key changes nothing of what it shows: it is refused, or as it was, and a check
//! never passes over it in silence.

mod common {
    pub mod dice;
    pub mod dress;
    pub mod listing;
}

use common::dice::Dice;
use common::{dress, listing};
use std::fs;
use std::io::Cursor;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use stmount::cache::Cache;
use stmount::codec::seal::{AES_256_GCM_SIV, XCHACHA20_POLY1305};
use stmount::formats::folder::Folder;
use stmount::formats::st::{self, Container, NewSlot, Packer, Policy, Seal};
use stmount::formats::{Access, Pack, Unwatched};
use stmount::key::Recipient;
use stmount::source::Memory;
use stmount::source::parity::Algorithm;
use tempfile::TempDir;

const RECIPIENT: &str = "age10xnrrmk7r0uunrcjqvkdatwsu7s8jwv0c7rt3rxggmkgntu955dq25yyzj";
const CASCADE: &[u16] = &[AES_256_GCM_SIV, XCHACHA20_POLY1305];

fn seal(ciphers: &[u16]) -> Arc<Seal> {
    let way = NewSlot::Recipient(Recipient::parse(RECIPIENT).unwrap());
    Arc::new(Seal::fresh(ciphers, false, vec![(way, String::new())]).unwrap())
}

fn pack(dir: &Path, seal: Option<Arc<Seal>>, parity: bool) -> Vec<u8> {
    let policy = Policy { share: 0.1, algorithm: Algorithm::Wide };
    let packer = Packer { level: 1, seal, parity: parity.then_some(policy), ..Packer::default() };
    let mut out = Cursor::new(Vec::new());
    packer.pack_to_file(&Folder::open(dir).unwrap(), &mut out, &Unwatched).unwrap();
    out.into_inner()
}

fn access(bytes: Vec<u8>) -> Access {
    dress::read(Arc::new(Memory::new(bytes)), Cache::new(4 << 20), "tampered.st")
}

/// All that a container shows, if it shows anything.
fn shown(bytes: Vec<u8>) -> Option<String> {
    listing::of(&Container::open(access(bytes)).ok()?).ok()
}

/// Whether a check has nothing to say.
fn is_silent(bytes: Vec<u8>) -> bool {
    let Ok(container) = Container::open(access(bytes)) else { return false };
    container.check(1, &Unwatched).is_ok_and(|checked| checked.is_whole() && checked.strays.is_empty())
}

/// Changes bytes one by one. `places` are all of them, or some.
fn change_each(whole: &[u8], places: &[usize], checks: bool) {
    let truth = shown(whole.to_vec()).unwrap();
    assert!(!checks || is_silent(whole.to_vec()));
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..stmount::pool::threads() {
            scope.spawn(|| {
                while let Some(at) = places.get(next.fetch_add(1, Relaxed)) {
                    let mut bytes = whole.to_vec();
                    bytes[*at] ^= 1 << (at % 8);
                    let seen = shown(bytes.clone());
                    assert!(seen.is_none_or(|seen| seen == truth), "byte {at}: something else is shown");
                    assert!(!checks || !is_silent(bytes), "byte {at}: the check says nothing");
                }
            });
        }
    });
}

fn small() -> TempDir {
    let dir = TempDir::new().unwrap();
    fs::write(dir.path().join("a"), b"what is in a").unwrap();
    fs::create_dir(dir.path().join("d")).unwrap();
    fs::write(dir.path().join("d/b"), vec![9; 3000]).unwrap();
    dir
}

#[test]
fn every_byte_of_a_small_container_counts() {
    let dir = small();
    for ciphers in [&CASCADE[..1], CASCADE] {
        let whole = pack(dir.path(), Some(seal(ciphers)), false);
        change_each(&whole, &(0..whole.len()).collect::<Vec<_>>(), true);
    }
}

#[test]
fn every_byte_of_a_small_container_with_parity_is_put_right() {
    let dir = small();
    let whole = pack(dir.path(), Some(seal(CASCADE)), true);
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..stmount::pool::threads() {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, Relaxed);
                    if at >= whole.len() {
                        break;
                    }
                    let mut bytes = whole.clone();
                    bytes[at] ^= 0x10;
                    let store = Arc::new(Memory::new(bytes));
                    // No key is needed for it.
                    let access = Access::to_write(store.clone(), Cache::new(4 << 20), "x.st");
                    let done = st::repair(&access, &Unwatched).unwrap().expect("it has parity");
                    assert!(!done.was_whole(), "byte {at}: it was not noticed");
                    let mut after = vec![0; whole.len()];
                    stmount::source::ReadAt::read_exact_at(&*store, 0, &mut after).unwrap();
                    assert!(after == whole, "byte {at}: it is not as it was");
                }
            });
        }
    });
}

#[test]
fn twenty_thousand_bytes_of_a_larger_one() {
    let (dir, mut dice) = (TempDir::new().unwrap(), Dice(77));
    for i in 0..60 {
        let bytes: Vec<u8> = (0..dice.below(9000)).map(|_| dice.below(200) as u8).collect();
        fs::write(dir.path().join(format!("file {i}")), bytes).unwrap();
    }
    let whole = pack(dir.path(), Some(seal(CASCADE)), false);
    let places: Vec<usize> = (0..20_000).map(|_| dice.below(whole.len() as u64) as usize).collect();
    change_each(&whole, &places, false);
}

/// The records of a container, as kind and range.
fn records(bytes: &[u8]) -> Vec<(u8, std::ops::Range<usize>)> {
    let number = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap()) as usize;
    let (mut at, mut all) = (4096, Vec::new());
    while at < bytes.len() {
        let footer = if matches!(bytes[at + 4], 4 | 5) { 128 } else { 0 };
        let end = (at + 96 + number(at + 16) + footer).next_multiple_of(64);
        all.push((bytes[at + 4], at..end));
        at = end;
    }
    all
}

/// A record as it would be at another place, of another container: all that stands in clear is made to fit.
fn forged(mut record: Vec<u8>, at: usize, uid: &[u8; 16]) -> Vec<u8> {
    record[8..16].copy_from_slice(&(at as u64).to_le_bytes());
    record[40..48].copy_from_slice(&uid[..8]);
    let check = blake3::hash(&[&uid[..], &record[..80]].concat());
    record[80..88].copy_from_slice(&check.as_bytes()[..8]);
    record
}

fn uid(bytes: &[u8]) -> [u8; 16] {
    bytes[16..32].try_into().unwrap()
}

#[test]
fn records_that_change_places_are_refused() {
    let dir = TempDir::new().unwrap();
    // Two segments of one length.
    for (name, mut dice) in [("a.bin", Dice(1)), ("b.bin", Dice(2))] {
        let noise: Vec<u8> = (0..262_144).map(|_| dice.below(256) as u8).collect();
        fs::write(dir.path().join(name), noise).unwrap();
    }
    let whole = pack(dir.path(), Some(seal(CASCADE)), false);
    let truth = shown(whole.clone()).unwrap();
    let segments: Vec<_> = records(&whole).into_iter().filter(|(kind, _)| *kind == 2).map(|(_, range)| range).collect();
    let (one, other) = (segments[0].clone(), segments[1].clone());
    assert_eq!(one.len(), other.len());
    let mut swapped = whole.clone();
    swapped[one.clone()].copy_from_slice(&forged(whole[other.clone()].to_vec(), one.start, &uid(&whole)));
    swapped[other.clone()].copy_from_slice(&forged(whole[one].to_vec(), other.start, &uid(&whole)));
    assert!(shown(swapped.clone()).is_none_or(|seen| seen == truth));
    assert!(!is_silent(swapped));
}

/// Of a container that was copied both have the same key. What of one is put into the other is refused.
#[test]
fn records_of_a_copy_with_the_same_key_are_refused() {
    let dir = small();
    let seal = seal(CASCADE);
    let one = pack(dir.path(), Some(seal.clone()), false);
    fs::write(dir.path().join("a"), b"what is on a").unwrap();
    let other = pack(dir.path(), Some(seal.clone()), false);
    let truths = [shown(one.clone()).unwrap(), shown(other.clone()).unwrap()];
    for (kind, range) in records(&one) {
        if other.len() < range.end || kind == 1 {
            continue;
        }
        let mut spliced = one.clone();
        spliced[range.clone()].copy_from_slice(&other[range.clone()]);
        let seen = shown(spliced);
        // The whole of the other is the other; anything between is neither.
        assert!(seen.is_none_or(|seen| truths.contains(&seen)), "a record of type {kind}");
    }
    // The same slots and master key under another identity: other keys.
    let heir = Arc::new(seal.heir().unwrap());
    let foreign = pack(dir.path(), Some(heir), false);
    for (kind, range) in records(&one).into_iter().filter(|(kind, _)| *kind != 1) {
        let from = records(&foreign).into_iter().find(|(k, r)| *k == kind && r.len() == range.len());
        let Some((_, from)) = from else { continue };
        let mut spliced = one.clone();
        spliced[range.clone()].copy_from_slice(&forged(foreign[from].to_vec(), range.start, &uid(&one)));
        assert!(shown(spliced).is_none_or(|seen| seen == truths[0]), "a record of type {kind}");
    }
}

/// The commit of an older state, put behind the newest one, is not taken for the newest.
#[test]
fn an_old_commit_behind_the_newest_one_is_refused() {
    let dir = small();
    let whole = pack(dir.path(), Some(seal(CASCADE)), false);
    let store = Arc::new(Memory::new(whole.clone()));
    let opened = dress::write(store.clone(), Cache::new(4 << 20), "x.st");
    let volume = stmount::formats::open(opened).unwrap();
    volume.writer.as_ref().unwrap().name_state("second", true).unwrap();
    drop(volume);
    let mut grown = vec![0; stmount::source::ReadAt::len(&*store).unwrap() as usize];
    stmount::source::ReadAt::read_exact_at(&*store, 0, &mut grown).unwrap();
    let commits: Vec<_> = records(&grown).into_iter().filter(|(kind, _)| *kind == 4).map(|(_, range)| range).collect();
    assert_eq!(commits.len(), 2);
    let old = forged(grown[commits[0].clone()].to_vec(), grown.len(), &uid(&grown));
    let states = |bytes: Vec<u8>| st::generations(&access(bytes)).map(|all| all[0].sequence).ok();
    assert_eq!(states(grown.clone()), Some(2));
    let replayed = [&grown[..], &old].concat();
    assert_ne!(states(replayed.clone()), Some(1), "the older state is shown as the newest");
    assert!(!is_silent(replayed));
}

/// A commit in clear, behind a sealed container: it needs no key to be made.
#[test]
fn a_commit_in_clear_is_none_of_a_sealed_container() {
    let dir = small();
    let whole = pack(dir.path(), Some(seal(CASCADE)), false);
    let truth = shown(whole.clone()).unwrap();
    fs::write(dir.path().join("evil"), b"not of the owner").unwrap();
    let plain = pack(dir.path(), None, false);
    // All records of the plain one, moved behind the sealed one.
    let mut forgery = whole.clone();
    for (_, range) in records(&plain) {
        let at = forgery.len();
        forgery.extend(forged(plain[range].to_vec(), at, &uid(&whole)));
    }
    assert!(shown(forgery).is_none_or(|seen| seen == truth));
}
