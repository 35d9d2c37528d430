//! Keys that come and go in a container that is there: nothing of it is lost, whenever the power fails and however much space
//! is given back.

mod common {
    pub mod dice;
    #[allow(dead_code)]
    pub mod disk;
    pub mod dress;
    #[allow(dead_code)]
    pub mod fs;
}

use common::dice::Dice;
use common::disk::{Disk, after_power_failure};
use common::fs::{Fs, Op, Ours, dump};
use std::sync::Arc;
use stmount::cache::Cache;
use stmount::codec::seal::{AES_256_GCM_SIV, XCHACHA20_POLY1305};
use stmount::error::{Kind, Result};
use stmount::formats::st::{self, Container, KeySet, NewSlot, Policy, Resealing, Seal};
use stmount::formats::{self, Access, Reading, Unwatched, Upkeep};
use stmount::key::sign::Signing;
use stmount::key::{Keyfile, Keys, Secret};
use stmount::source::parity::Algorithm;
use stmount::source::{Memory, ReadAt, Store};
use stmount::vfs::{ROOT, SNAPSHOT, SetXattr, Vfs};

const CASCADE: &[u16] = &[AES_256_GCM_SIV, XCHACHA20_POLY1305];
const SLACK: u64 = 64 << 10;

/// Who has the keyfile of this number.
struct Has([Keyfile; 1]);

impl Keys for Has {
    fn next(&self, _: &str, _: usize) -> Option<Secret> {
        None
    }

    fn keyfiles(&self) -> &[Keyfile] {
        &self.0
    }
}

fn keyfile(number: u8) -> Keyfile {
    Keyfile::new(format!("the keyfile of number {number}").as_bytes()).unwrap()
}

fn way(number: u8) -> (NewSlot, String) {
    (NewSlot::Keyfile(keyfile(number)), format!("keyfile {number}"))
}

fn reading(number: u8) -> Arc<Reading> {
    Arc::new(Reading { keys: Arc::new(Has([keyfile(number)])), ..Reading::default() })
}

/// An empty container that the keyfile 1 opens.
fn sealed() -> Vec<u8> {
    sealed_with(None)
}

fn sealed_with(policy: Option<Policy>) -> Vec<u8> {
    let seal = Arc::new(Seal::fresh(CASCADE, true, vec![way(1)]).unwrap());
    let mut bytes = Vec::new();
    st::create(&mut bytes, (0, 0), Some(&seal), (policy, &Signing::default())).unwrap();
    bytes
}

fn to_write<S: Store + 'static>(disk: &Arc<S>, number: u8) -> Access {
    let access = Access::to_write(disk.clone(), Cache::new(8 << 20), "x.st");
    Access { reading: reading(number), upkeep: Upkeep { last: 2, ..Upkeep::nothing(SLACK) }, ..access }
}

fn to_read(bytes: &[u8], number: u8) -> Access {
    let access = Access::to_read(Arc::new(Memory::new(bytes.to_vec())), Cache::new(8 << 20), "x.st");
    Access { reading: reading(number), ..access }
}

fn opens(bytes: &[u8], number: u8) -> bool {
    match Container::open(to_read(bytes, number)) {
        Ok(_) => true,
        Err(e) => {
            assert_eq!(e.kind(), Kind::MissingKeyfile, "{e}");
            false
        }
    }
}

fn change(disk: &Arc<Disk>, by: u8, change: impl Fn(&mut KeySet, &Seal) -> Result<()>) -> Result<()> {
    st::change_keys(to_write(disk, by), &mut |seal| {
        let mut keys = seal.keys().clone();
        change(&mut keys, seal).map(|()| keys)
    })
}

fn add(disk: &Arc<Disk>, by: u8, number: u8) {
    let (slot, label) = way(number);
    let slot = std::cell::Cell::new(Some(slot));
    change(disk, by, |keys, seal| keys.add(seal.master(), slot.take().unwrap(), &label)).unwrap();
}

fn mounted(disk: &Arc<Disk>, by: u8) -> Ours {
    let mut ours = Ours::of(formats::open(to_write(disk, by)).unwrap());
    ours.gives_back = true;
    ours
}

fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut dice = Dice(seed);
    (0..len).map(|_| dice.below(256) as u8).collect()
}

fn check(bytes: &[u8], by: u8) {
    let checked = Container::open(to_read(bytes, by)).unwrap().check(2, &Unwatched).unwrap();
    assert!(checked.is_whole() && checked.strays.is_empty(), "{checked:?}");
}

#[test]
fn a_power_failure_leaves_the_keys_of_before_or_those_that_came() {
    let first = sealed();
    let disk = Arc::new(Disk::new(first.clone()));
    add(&disk, 1, 2);
    let added = disk.count();
    change(&disk, 2, |keys, seal| keys.remove(seal.master(), 0)).unwrap();
    let (events, mut dice) = (disk.events(), Dice(3));
    for count in 0..=events.len() {
        for _ in 0..6 {
            let bytes = after_power_failure(&first, &events, count, &mut || dice.below(2) == 0);
            let (one, two) = (opens(&bytes, 1), opens(&bytes, 2));
            assert!(if count <= added { one } else { two }, "event {count} of {}: {one} {two}", events.len());
        }
    }
    let bytes = disk.bytes();
    assert!(!opens(&bytes, 1) && opens(&bytes, 2));
    check(&bytes, 2);
}

#[test]
fn a_disk_that_fails_leaves_the_keys_of_before() {
    for calls in 0..5 {
        let disk = Arc::new(Disk::new(sealed()));
        disk.fail_in(Some(calls));
        let (slot, label) = way(2);
        let slot = std::cell::Cell::new(Some(slot));
        let done = change(&disk, 1, |keys, seal| keys.add(seal.master(), slot.take().unwrap(), &label));
        disk.fail_in(None);
        assert!(opens(&disk.bytes(), 1) && (done.is_err() || opens(&disk.bytes(), 2)), "{calls}");
    }
}

#[test]
fn what_cannot_be_changed_leaves_all_as_it_was() {
    let before = sealed();
    let disk = Arc::new(Disk::new(before.clone()));
    let refused = change(&disk, 1, |keys, seal| keys.remove(seal.master(), 0)).unwrap_err();
    assert!(refused.kind() == Kind::NotPermitted && disk.bytes() == before, "{refused}");
    let mut plain = Vec::new();
    st::create(&mut plain, (0, 0), None, (None, &Signing::default())).unwrap();
    let disk = Arc::new(Disk::new(plain));
    assert_eq!(change(&disk, 1, |_, _| Ok(())).unwrap_err().kind(), Kind::Usage);
}

#[test]
fn keys_stay_when_space_is_given_back() {
    let disk = Arc::new(Disk::new(sealed()));
    let (mut longest, mut written) = (0, 0);
    for round in 0..6u8 {
        let by = round + 1;
        let mut ours = mounted(&disk, by);
        for i in 0..40 {
            let path = vec![["a", "b", "c"][i % 3]];
            let _ = ours.apply(&Op::Create(path.clone()));
            ours.apply(&Op::Write(path, 0, noise(30_000, i as u64))).unwrap();
            ours.apply(&Op::Sync).unwrap();
            written += 30_000;
            longest = longest.max(disk.bytes().len());
        }
        ours.vfs.setxattr(ROOT, SNAPSHOT, format!("round {round}").as_bytes(), SetXattr::Any).unwrap();
        drop(ours);
        // In turn: both the first keys and those that came later are what the newest commit names.
        add(&disk, by, by + 1);
        assert!(opens(&disk.bytes(), 1) && opens(&disk.bytes(), by + 1));
    }
    assert!(written > 6_000_000 && longest < 2_000_000, "{longest} bytes of {written}");
    let mut ours = mounted(&disk, 1);
    for i in 0..30 {
        ours.apply(&Op::Write(vec!["a"], 0, noise(30_000, i))).unwrap();
        ours.apply(&Op::Sync).unwrap();
    }
    let seen = ours.dump();
    drop(ours);
    let bytes = disk.bytes();
    check(&bytes, 7);
    for number in 1..8 {
        let tree = formats::open(to_read(&bytes, number)).unwrap().tree;
        assert!(dump(&Vfs::new(tree, Default::default())) == seen, "{number}");
    }
    for round in 0..6 {
        let state = Access { state: Some(format!("round {round}")), ..to_read(&bytes, 7) };
        assert!(formats::open(state).is_ok(), "{round}");
    }
}

#[test]
fn the_power_may_fail_while_keys_change_their_place() {
    let disk = Arc::new(Disk::new(sealed()));
    let mut ours = mounted(&disk, 1);
    ours.apply(&Op::Create(vec!["a"])).unwrap();
    ours.apply(&Op::Sync).unwrap();
    drop(ours);
    add(&disk, 1, 2);
    let first = disk.bytes();
    let disk = Arc::new(Disk::new(first.clone()));
    let mut ours = mounted(&disk, 2);
    for i in 0..20 {
        ours.apply(&Op::Write(vec!["a"], 0, noise(20_000, i))).unwrap();
        ours.apply(&Op::Sync).unwrap();
    }
    drop(ours);
    assert!(disk.bytes().len() < 250_000);
    let (events, mut dice) = (disk.events(), Dice(5));
    for count in 0..=events.len() {
        let bytes = after_power_failure(&first, &events, count, &mut || dice.below(2) == 0);
        assert!(opens(&bytes, 1) && opens(&bytes, 2), "event {count} of {}", events.len());
    }
}

/// A file in memory that can also be written front to back.
struct Target(Memory);

impl ReadAt for Target {
    fn len(&self) -> Result<u64> {
        self.0.len()
    }
    fn read_at(&self, at: u64, into: &mut [u8]) -> Result<usize> {
        self.0.read_at(at, into)
    }
}

impl Store for Target {
    fn write_at(&self, at: u64, bytes: &[u8]) -> Result<()> {
        self.0.write_at(at, bytes)
    }
    fn set_len(&self, len: u64) -> Result<()> {
        self.0.set_len(len)
    }
    fn sync(&self) -> Result<()> {
        Ok(())
    }
}

impl st::Target for Target {
    fn stream(&self) -> Result<Box<dyn std::io::Write + Send + '_>> {
        Ok(Box::new(Stream(self, 0)))
    }
}

struct Stream<'a>(&'a Target, u64);

impl std::io::Write for Stream<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.write_at(self.1, bytes).map_err(std::io::Error::other)?;
        self.1 += bytes.len() as u64;
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn repacked(disk: &Arc<Disk>, by: u8, resealing: &Resealing) -> Vec<u8> {
    let target = Arc::new(Target(Memory::default()));
    let access = Access { upkeep: Upkeep { last: 99, ..Upkeep::default() }, ..to_write(disk, by) };
    st::compact(&access, &st::Packer::default(), resealing, &target, &Unwatched).unwrap();
    let mut bytes = vec![0; target.len().unwrap() as usize];
    target.read_exact_at(0, &mut bytes).unwrap();
    bytes
}

#[test]
fn what_is_packed_anew_has_its_states_its_parity_and_the_keys_that_it_shall_have() {
    let policy = Policy { share: 0.1, algorithm: Algorithm::Wide };
    let disk = Arc::new(Disk::new(sealed_with(Some(policy))));
    let mut ours = mounted(&disk, 1);
    ours.apply(&Op::Create(vec!["a"])).unwrap();
    ours.apply(&Op::Write(vec!["a"], 0, b"one".to_vec())).unwrap();
    ours.vfs.setxattr(ROOT, SNAPSHOT, b"first", SetXattr::Any).unwrap();
    ours.apply(&Op::Write(vec!["a"], 0, b"two".to_vec())).unwrap();
    ours.apply(&Op::Sync).unwrap();
    let seen = ours.dump();
    drop(ours);
    add(&disk, 1, 2);
    let old = Container::open(to_read(&disk.bytes(), 1)).unwrap().seal().unwrap().clone();
    let anew = Arc::new(old.again(&CASCADE[..1], false, vec![way(3)]).unwrap());
    for (resealing, openers) in
        [(Resealing::AsBefore, &[1, 2][..]), (Resealing::With(anew), &[3]), (Resealing::Plain, &[1, 2, 3])]
    {
        let bytes = repacked(&disk, 1, &resealing);
        let who: Vec<u8> = (1..4).filter(|n| opens(&bytes, *n)).collect();
        assert_eq!(who, openers, "{resealing:?}");
        check(&bytes, who[0]);
        let tree = formats::open(to_read(&bytes, who[0])).unwrap().tree;
        assert!(dump(&Vfs::new(tree, Default::default())) == seen, "{resealing:?}");
        let first = formats::open(Access { state: Some("first".into()), ..to_read(&bytes, who[0]) }).unwrap().tree;
        assert!(dump(&Vfs::new(first, Default::default()))["/a"].content == b"one");
        // The last record is one of parity.
        let parity = bytes.windows(5).rposition(|w| w == b"\xabSTR\x05").unwrap();
        assert!(bytes.windows(5).rposition(|w| w == b"\xabSTR\x04").unwrap() < parity, "{resealing:?}");
        assert!(bytes[16..32] == disk.bytes()[16..32], "it is another container");
    }
}
