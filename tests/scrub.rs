//! Containers that look for damage in themselves while they are mounted; and what a power failure leaves of one whose parity is
//! just being written, or whose damage is.

mod common {
    pub mod dice;
    #[allow(dead_code)]
    pub mod disk;
    pub mod dress;
    #[allow(dead_code)]
    pub mod fs;
}

use common::dice::Dice;
use common::disk::{Disk, Event, after_power_failure};
use common::dress;
use common::fs::{Dump, Fs, Op, Ours, dump};
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;
use stmount::cache::Cache;
use stmount::formats::folder::Folder;
use stmount::formats::st::{self, Packer, Policy};
use stmount::formats::{self, Access, Unwatched};
use stmount::source::parity::Algorithm;
use stmount::source::{Memory, ReadAt, Store};
use stmount::vfs::{Commit, Schedule, Vfs};

/// A container with parity, of a file of noise.
fn container(len: usize) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let mut dice = Dice(3);
    let noise: Vec<u8> = (0..len).map(|_| dice.below(256) as u8).collect();
    std::fs::write(folder.path().join("noise"), noise).unwrap();
    let parity = Some(Policy { share: 0.1, algorithm: Algorithm::Wide });
    dress::pack(&Packer { parity, ..dress::packer() }, &Folder::open(folder.path()).unwrap())
}

fn write<S: Store + 'static>(store: &Arc<S>) -> Access {
    dress::write(store.clone(), Cache::new(4 << 20), "x.st")
}

fn seen(bytes: Vec<u8>) -> Dump {
    let access = dress::read(Arc::new(Memory::new(bytes)), Cache::new(4 << 20), "x.st");
    dump(&Vfs::new(formats::open(access).unwrap().tree, Default::default()))
}

fn contents(store: &dyn ReadAt) -> Vec<u8> {
    let mut bytes = vec![0; store.len().unwrap() as usize];
    store.read_exact_at(0, &mut bytes).unwrap();
    bytes
}

fn schedule(told: Sender<()>) -> Schedule {
    let done = Box::new(move || told.send(()).unwrap());
    Schedule { first: Duration::ZERO, every: Duration::from_secs(3600), rate: u64::MAX, last: None, done }
}

/// Also of what no state needs, such as the parity itself; and what is written is synced.
#[test]
fn damage_is_looked_for_in_the_background_and_written_as_it_was() {
    let whole = container(300_000);
    for places in [vec![100_000], vec![whole.len() - 9000], vec![50, 200_000, whole.len() - 5000]] {
        let mut rotten = whole.clone();
        places.iter().for_each(|at| rotten[*at..*at + 100].fill(7));
        let disk = Arc::new(Disk::new(rotten));
        let volume = formats::open(write(&disk)).unwrap();
        let never = Commit { after: Duration::from_secs(3600), settle: Duration::from_secs(3600), dirty: 1 << 40 };
        let vfs = Vfs::writable(volume.tree, volume.writer.unwrap(), Default::default(), never);
        let (tell, told) = channel();
        let vfs = vfs.with_heals(volume.heals.unwrap(), Some(schedule(tell)));
        told.recv_timeout(Duration::from_secs(60)).expect("the look ends");
        assert!(disk.bytes()[..whole.len()] == whole, "{places:?}");
        let events = disk.events();
        let last_write = events.iter().rposition(|event| matches!(event, Event::Write(..))).unwrap();
        assert!(events[last_write..].iter().any(|event| matches!(event, Event::Sync)), "{places:?}: it is synced");
        drop(vfs);
    }
}

/// Whatever is left: all that was stored is there, and a repair makes nothing worse.
#[test]
fn a_power_failure_while_parity_is_written_costs_nothing() {
    let disk = Arc::new(Disk::new(container(50_000)));
    let first = disk.bytes();
    let mut ours = Ours::mount(&disk);
    let mut committed = vec![(0, ours.dump())];
    let mut dice = Dice(8);
    for round in 0..4u64 {
        let bytes = (0..2000 << (round * 2)).map(|_| dice.below(256) as u8).collect();
        ours.apply(&Op::Write(vec!["noise"], round * 3000, bytes)).unwrap();
        ours.apply(&Op::Sync).unwrap();
        committed.push((disk.count(), ours.dump()));
        ours.vfs.settle().unwrap();
    }
    drop(ours);
    let events = disk.events();
    for count in 0..=events.len() {
        let way = count % 3;
        let mut keeps = || match way {
            0 => true,
            1 => false,
            _ => dice.below(2) == 0,
        };
        let left = after_power_failure(&first, &events, count, &mut keeps);
        let now = seen(left.clone());
        let last = committed.iter().rposition(|(acknowledged, _)| *acknowledged <= count).unwrap();
        let right = |now: &Dump| committed[last..].iter().take(2).any(|(_, dump)| dump == now);
        assert!(right(&now), "event {count} of {}, way {way}: a third state", events.len());
        let store = Arc::new(Memory::new(left));
        st::repair(&write(&store), &Unwatched).unwrap();
        assert!(
            right(&seen(contents(&*store))),
            "event {count} of {}, way {way}: repaired it is another",
            events.len()
        );
    }
}

/// What is damaged is written in place: half of that leaves no more damage than there was.
#[test]
fn a_power_failure_while_damage_is_mended_leaves_what_can_be_mended() {
    let whole = container(300_000);
    let mut rotten = whole.clone();
    rotten[100_000..112_000].fill(1);
    let disk = Arc::new(Disk::new(rotten.clone()));
    let ours = Ours::mount(&disk);
    assert!(ours.dump() == seen(whole.clone()));
    ours.vfs.settle().unwrap();
    drop(ours);
    assert!(disk.bytes() == whole);
    let (events, mut dice) = (disk.events(), Dice(4));
    for count in 0..=events.len() {
        let left = after_power_failure(&rotten, &events, count, &mut || dice.below(2) == 0);
        let store = Arc::new(Memory::new(left));
        st::repair(&write(&store), &Unwatched).unwrap().expect("it has parity");
        assert!(contents(&*store) == whole, "event {count}");
    }
}
