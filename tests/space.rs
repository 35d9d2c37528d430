//! The space of a container that takes changes: what nothing needs is given back, and nobody notices.

mod common {
    pub mod dice;
    #[allow(dead_code)]
    pub mod disk;
    pub mod dress;
    #[allow(dead_code, reason = "the model and the real directory are for other tests")]
    pub mod fs;
}

use common::dice::Dice;
use common::disk::{Disk, after_power_failure};
use common::dress;
use common::fs::{Dump, Fs, Op, Ours, dump};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use stmount::cache::Cache;
use stmount::error::Kind;
use stmount::formats::folder::Folder;
use stmount::formats::st;
use stmount::formats::{self, Access, Unwatched, Upkeep};
use stmount::source::parity::Algorithm;
use stmount::source::{FileSource, Memory, ReadAt};
use stmount::vfs::{Commit, Policy, ROOT, Rename, SNAPSHOT, SetXattr, Vfs};

/// A container with these files.
fn packed(files: &[(&str, &[u8])]) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    files.iter().for_each(|(name, bytes)| std::fs::write(folder.path().join(name), bytes).unwrap());
    dress::pack(&dress::packer(), &Folder::open(folder.path()).unwrap())
}

fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut dice = Dice(seed);
    (0..len).map(|_| dice.below(256) as u8).collect()
}

fn access(bytes: Vec<u8>) -> Access {
    dress::read(Arc::new(Memory::new(bytes)), Cache::new(4 << 20), "x.st")
}

/// What a state shows that has a name or a number.
fn state(bytes: &[u8], which: &str) -> Dump {
    let access = Access { state: Some(which.into()), ..access(bytes.to_vec()) };
    dump(&Vfs::new(formats::open(access).unwrap().tree, Policy::default()))
}

fn check(bytes: &[u8]) {
    let container = st::Container::open(access(bytes.to_vec())).unwrap();
    let checked = container.check(2, &Unwatched).unwrap();
    assert!(checked.is_whole(), "{checked:?}");
}

/// How many inodes were committed.
fn nodes(disk: &Disk) -> u64 {
    formats::open(access(disk.bytes())).unwrap().tree.totals().unwrap().nodes
}

/// One record begins where the other ends, up to the end of the file.
fn records_follow_each_other(bytes: &[u8]) {
    let number = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap()) as usize;
    let mut at = 4096;
    while at < bytes.len() {
        assert!(bytes[at..].starts_with(b"\xabSTR") && number(at + 8) == at, "no record begins at {at}");
        let footer = if matches!(bytes[at + 4], 4 | 5) { 128 } else { 0 };
        let end = (at + 96 + number(at + 16) + footer).next_multiple_of(64);
        assert!(footer == 0 || bytes[end - 16..].starts_with(b"STcf"), "the commit at {at} has no footer");
        at = end;
    }
    assert_eq!(at, bytes.len());
}

fn snapshot(ours: &Ours, name: &str) {
    ours.vfs.setxattr(ROOT, SNAPSHOT, name.as_bytes(), SetXattr::Any).unwrap();
}

const SLACK: u64 = 256 << 10;

#[test]
fn a_storm_of_syncs_does_not_grow_a_container_beyond_its_bound() {
    let first = packed(&[("big", &noise(500_000, 1)), ("log", b"")]);
    let disk = Arc::new(Disk::new(first.clone()));
    let mut ours = Ours::mounted(&disk, Some(Upkeep { last: 3, ..Upkeep::nothing(SLACK) }));
    let (mut log, mut longest, mut written) = (Vec::new(), 0, 0);
    for i in 0..3000u64 {
        let line = format!("{i:08} {}\n", i * i);
        ours.apply(&Op::Write(vec!["log"], log.len() as u64, line.clone().into_bytes())).unwrap();
        log.extend_from_slice(line.as_bytes());
        ours.apply(&Op::Sync).unwrap();
        let len = disk.bytes().len() as u64;
        longest = longest.max(len);
        written += 1000;
    }
    let needed = first.len() as u64 + 3000 * 200;
    assert!(written > needed && longest < 2 * needed + 2 * SLACK, "{longest} bytes, {needed} are needed");
    let seen = ours.dump();
    assert!(seen["/log"].content == log);
    drop(ours);
    let bytes = disk.bytes();
    check(&bytes);
    records_follow_each_other(&bytes);
    assert!(dump(&Vfs::new(formats::open(access(bytes)).unwrap().tree, Policy::default())) == seen);
}

/// What is needed for long is committed together with what is not.
#[test]
fn a_line_of_a_log_does_not_keep_what_was_committed_with_it() {
    let disk = Arc::new(Disk::new(packed(&[("log", b""), ("other", b"")])));
    let mut ours = Ours::mounted(&disk, Some(Upkeep { last: 2, ..Upkeep::nothing(SLACK) }));
    let (mut log, mut longest) = (Vec::new(), 0);
    for i in 0..800u64 {
        let line = noise(70, i);
        ours.apply(&Op::Write(vec!["log"], log.len() as u64, line.clone())).unwrap();
        log.extend_from_slice(&line);
        ours.apply(&Op::Write(vec!["other"], 0, noise(20_000, i))).unwrap();
        ours.apply(&Op::Sync).unwrap();
        longest = longest.max(disk.bytes().len() as u64);
    }
    // 56 KB of lines, 20 KB, and the tables.
    assert!(longest < 2 * SLACK + 600_000, "{longest} bytes");
    let seen = ours.dump();
    assert!(seen["/log"].content == log && seen["/other"].content == noise(20_000, 799));
    drop(ours);
    let bytes = disk.bytes();
    check(&bytes);
    records_follow_each_other(&bytes);
    assert!(dump(&Vfs::new(formats::open(access(bytes)).unwrap().tree, Policy::default())) == seen);
}

/// Files of many pieces have rows of their own for them, which go with the file.
#[test]
fn nothing_of_a_file_of_many_pieces_stays_when_it_is_deleted() {
    let disk = Arc::new(Disk::new(packed(&[])));
    let mut ours = Ours::mounted(&disk, Some(Upkeep::nothing(SLACK)));
    let mut longest = 0;
    for i in 0..60u64 {
        ours.apply(&Op::Create(vec!["a"])).unwrap();
        for piece in 0..30 {
            ours.apply(&Op::Write(vec!["a"], piece * 20_000, noise(10_000, i * 100 + piece))).unwrap();
        }
        ours.apply(&Op::Sync).unwrap();
        longest = longest.max(disk.bytes().len() as u64);
        ours.apply(&Op::Unlink(vec!["a"])).unwrap();
        ours.apply(&Op::Sync).unwrap();
    }
    // 300 KB in each, 18 MB together.
    assert!(longest < 2 * (SLACK + 400_000), "{longest} bytes");
    drop(ours);
    check(&disk.bytes());
}

#[test]
fn a_file_without_a_name_goes_with_its_last_handle_also_when_it_was_committed_meanwhile() {
    let disk = Arc::new(Disk::new(packed(&[])));
    let mut ours = Ours::mounted(&disk, None);
    ours.apply(&Op::Create(vec!["a"])).unwrap();
    ours.apply(&Op::Write(vec!["a"], 0, noise(SLACK as usize, 1))).unwrap();
    ours.apply(&Op::Hold(vec!["a"], 0)).unwrap();
    ours.apply(&Op::Unlink(vec!["a"])).unwrap();
    ours.apply(&Op::Sync).unwrap();
    assert_eq!(nodes(&disk), 2);
    ours.apply(&Op::Release(0)).unwrap();
    ours.apply(&Op::Sync).unwrap();
    assert_eq!(nodes(&disk), 1);
}

/// A kernel looks a name up, another program takes the name away, and then the kernel opens what it has found.
#[test]
fn a_file_that_was_looked_up_can_be_opened_until_it_is_forgotten() {
    let disk = Arc::new(Disk::new(packed(&[("a", b"one"), ("b", b"two"), ("c", b"three")])));
    let volume = formats::open(dress::write(disk.clone(), Cache::new(8 << 20), "x.st")).unwrap();
    let vfs = Vfs::writable(volume.tree, volume.writer.unwrap(), Policy::default(), Commit::default()).with_forgets();
    let [a, b, c] = [b"a", b"b", b"c"].map(|name| vfs.lookup(ROOT, name).unwrap().unwrap().ino);
    vfs.rename(ROOT, b"a", ROOT, b"b", Rename::Replace).unwrap();
    vfs.unlink(ROOT, b"c").unwrap();
    vfs.forget(a);
    for round in 0..2 {
        for (ino, content) in [(a, &b"one"[..]), (b, b"two"), (c, b"three")] {
            let handle = vfs.open(ino).unwrap();
            let mut bytes = [0; 10];
            let got = vfs.read(ino, handle, 0, &mut bytes).unwrap();
            assert_eq!(&bytes[..got], content, "round {round}");
            vfs.release(handle);
        }
        vfs.sync().unwrap();
        assert_eq!(nodes(&disk), 4);
    }
    vfs.forget(b);
    assert!(vfs.open(b).is_err());
    // It has a handle, and goes with it.
    let handle = vfs.open(c).unwrap();
    vfs.forget_all();
    assert_eq!(vfs.read(c, handle, 0, &mut [0; 10]).unwrap(), 5);
    vfs.release(handle);
    assert!(vfs.open(c).is_err());
    vfs.sync().unwrap();
    assert_eq!(nodes(&disk), 2);
    drop(vfs);
    check(&disk.bytes());
}

/// Who wrote before may have been killed each time before it came to it.
#[test]
fn what_a_writer_did_not_give_back_the_next_one_does() {
    let disk = Arc::new(Disk::new(packed(&[])));
    for i in 0..9 {
        let mut ours = Ours::mounted(&disk, None);
        ours.apply(&Op::Create(vec!["a"])).unwrap();
        ours.apply(&Op::Write(vec!["a"], 0, noise(SLACK as usize / 4, i))).unwrap();
        ours.apply(&Op::Sync).unwrap();
        ours.apply(&Op::Unlink(vec!["a"])).unwrap();
        ours.apply(&Op::Sync).unwrap();
    }
    assert!(disk.bytes().len() as u64 > 2 * SLACK);
    let mut ours = Ours::mounted(&disk, Some(Upkeep::nothing(SLACK)));
    ours.apply(&Op::Create(vec!["b"])).unwrap();
    ours.apply(&Op::Sync).unwrap();
    assert!((disk.bytes().len() as u64) < SLACK / 4);
    drop(ours);
    check(&disk.bytes());
}

#[test]
fn states_that_are_kept_stay_what_they_were() {
    for round in 0..6 {
        let mut dice = Dice(round * 41 + 3);
        let disk = Arc::new(Disk::new(packed(&[("a", &noise(90_000, 5)), ("b", b"bees")])));
        let upkeep = Upkeep { last: dice.below(4) as u32, ..Upkeep::nothing(dice.of(&[0, 20_000])) };
        let mut ours = Ours::mounted(&disk, Some(upkeep));
        let mut named: Vec<(String, Dump)> = Vec::new();
        let mut shortened = 0;
        for i in 0..60u64 {
            let (name, len) = (dice.of(&["a", "b"]), dice.below(60_000) as usize);
            let _ = ours.apply(&Op::Create(vec![name]));
            ours.apply(&Op::Write(vec![name], dice.below(50_000), noise(len, i + round * 1000))).unwrap();
            if dice.below(4) == 0 {
                let _ = ours.apply(&Op::Unlink(vec![dice.of(&["a", "b"])]));
            }
            if dice.below(9) == 0 {
                ours.apply(&Op::Sync).unwrap();
                snapshot(&ours, &format!("state-{i}"));
                named.push((format!("state-{i}"), ours.dump()));
            }
            let before = disk.bytes().len();
            ours.apply(&Op::Sync).unwrap();
            shortened += u32::from(disk.bytes().len() < before);
        }
        let now = ours.dump();
        drop(ours);
        let bytes = disk.bytes();
        check(&bytes);
        records_follow_each_other(&bytes);
        assert!(shortened > 0, "round {round}: nothing was given back");
        for (name, seen) in &named {
            assert!(state(&bytes, name) == *seen, "round {round}: {name} is another one");
        }
        let log = st::generations(&access(bytes.clone())).unwrap();
        for generation in &log {
            state(&bytes, &generation.sequence.to_string());
        }
        let found = named.iter().filter(|(name, _)| log.iter().any(|g| g.names.contains(name))).count();
        assert_eq!(found, named.len());
        assert!(dump(&Vfs::new(formats::open(access(bytes)).unwrap().tree, Policy::default())) == now);
    }
}

/// At each event while space is given back: the newest state and those with names are what they were.
#[test]
fn a_power_failure_meanwhile_costs_nothing() {
    for round in 0..3 {
        let mut dice = Dice(round * 977 + 1);
        let first = packed(&[("a", &noise(30_000, 5))]);
        let disk = Arc::new(Disk::new(first.clone()));
        let mut ours = Ours::mounted(&disk, Some(Upkeep { last: 1, ..Upkeep::nothing(0) }));
        let (mut states, mut named) = (vec![(0, ours.dump())], None);
        for i in 0..14u64 {
            ours.apply(&Op::Write(vec!["a"], dice.below(20_000), noise(9000, i + round * 100))).unwrap();
            let seen = ours.dump();
            ours.apply(&Op::Sync).unwrap();
            states.push((disk.count(), seen.clone()));
            if i == 4 {
                snapshot(&ours, "four");
                named = Some((disk.count(), seen));
            }
        }
        let events = disk.events();
        let (since, named) = named.unwrap();
        for count in 0..=events.len() {
            for way in 0..4 {
                let mut keeps = || match way {
                    0 => true,
                    1 => false,
                    2 => dice.below(6) == 0,
                    _ => dice.below(2) == 0,
                };
                let bytes = after_power_failure(&first, &events, count, &mut keeps);
                let seen = dump(&Vfs::new(formats::open(access(bytes.clone())).unwrap().tree, Policy::default()));
                let last = states.iter().rposition(|(acknowledged, _)| *acknowledged <= count).unwrap();
                let right = states[last..].iter().take(2).any(|(_, state)| *state == seen);
                assert!(right, "round {round}: event {count} of {}, way {way}", events.len());
                if count >= since {
                    assert!(state(&bytes, "four") == named, "round {round}: event {count}, way {way}: the named state");
                }
                check(&bytes);
            }
        }
    }
}

#[test]
fn who_reads_meanwhile_reads_what_is_there() {
    let (a, b) = (noise(700_000, 1), noise(300_000, 2));
    let disk = Arc::new(Disk::new(packed(&[("a", &a)])));
    let mut ours = Ours::mounted(&disk, Some(Upkeep { last: 2, ..Upkeep::nothing(0) }));
    ours.apply(&Op::Create(vec!["b"])).unwrap();
    ours.apply(&Op::Write(vec!["b"], 0, b.clone())).unwrap();
    ours.apply(&Op::Create(vec!["c"])).unwrap();
    ours.apply(&Op::Sync).unwrap();
    let (vfs, over) = (ours.vfs.clone(), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..3u64)
            .map(|i| {
                let (vfs, over, a, b) = (&vfs, &over, &a, &b);
                scope.spawn(move || {
                    let mut dice = Dice(i);
                    while !over.load(Relaxed) {
                        let (name, bytes) = dice.of(&[(&b"a"[..], a), (&b"b"[..], b)]);
                        let ino = vfs.lookup(ROOT, name).unwrap().unwrap().ino;
                        let handle = vfs.open(ino).unwrap();
                        for _ in 0..20 {
                            let at = dice.below(bytes.len() as u64);
                            let mut piece = vec![0; 5000];
                            let got = vfs.read(ino, handle, at, &mut piece).unwrap();
                            assert!(piece[..got] == bytes[at as usize..][..got], "{at}");
                        }
                        vfs.release(handle);
                    }
                })
            })
            .collect();
        for i in 0..150u64 {
            ours.apply(&Op::Write(vec!["c"], 0, noise(40_000, i))).unwrap();
            ours.apply(&Op::Sync).unwrap();
        }
        over.store(true, Relaxed);
        readers.into_iter().for_each(|reader| reader.join().unwrap());
    });
    assert!(disk.bytes().len() < 2_600_000, "{} bytes", disk.bytes().len());
    drop(ours);
    check(&disk.bytes());
}

#[test]
fn what_is_deleted_on_a_full_disk_makes_room() {
    let disk = Arc::new(Disk::new(packed(&[])));
    disk.set_room(Some(disk.bytes().len() as u64 + (12 << 20)));
    let mut ours = Ours::mount(&disk);
    for round in 0..4u64 {
        let bytes = noise(8 << 20, round);
        ours.apply(&Op::Create(vec!["a"])).unwrap();
        assert_eq!(ours.apply(&Op::Write(vec!["a"], 0, bytes.clone())), Ok(()), "round {round}");
        assert_eq!(ours.apply(&Op::Sync), Ok(()), "round {round}");
        assert!(ours.dump()["/a"].content == bytes);
        ours.apply(&Op::Unlink(vec!["a"])).unwrap();
        assert_eq!(ours.apply(&Op::Sync), Ok(()), "round {round}");
    }
    drop(ours);
    check(&disk.bytes());
}

/// What lies behind has to be moved, and there is no room for a copy of it.
#[test]
fn what_is_deleted_before_something_else_makes_room_too() {
    let disk = Arc::new(Disk::new(packed(&[])));
    disk.set_room(Some(disk.bytes().len() as u64 + (16 << 20)));
    let mut ours = Ours::mount(&disk);
    let write = |ours: &mut Ours, name, len: usize, seed| {
        ours.apply(&Op::Create(vec![name])).unwrap();
        assert_eq!(ours.apply(&Op::Write(vec![name], 0, noise(len, seed))), Ok(()), "{name}");
        assert_eq!(ours.apply(&Op::Sync), Ok(()));
    };
    write(&mut ours, "a", 8 << 20, 1);
    write(&mut ours, "b", 5 << 20, 2);
    ours.apply(&Op::Unlink(vec!["a"])).unwrap();
    write(&mut ours, "c", 7 << 20, 3);
    ours.apply(&Op::Unlink(vec!["c"])).unwrap();
    write(&mut ours, "d", 7 << 20, 4);
    let seen = ours.dump();
    assert!(seen["/b"].content == noise(5 << 20, 2) && seen["/d"].content == noise(7 << 20, 4));
    drop(ours);
    check(&disk.bytes());
    records_follow_each_other(&disk.bytes());
}

#[test]
fn a_disk_without_a_byte_left_takes_any_number_of_small_changes() {
    let disk = Arc::new(Disk::new(packed(&[("a", b"")])));
    disk.set_room(Some(disk.bytes().len() as u64 + (2 << 20)));
    let mut ours = Ours::mount(&disk);
    let mut taken = 0;
    while ours.apply(&Op::Write(vec!["a"], taken, noise(60_000, taken))).is_ok() {
        taken += 60_000;
    }
    for i in 0..6000u32 {
        ours.apply(&Op::Chmod(vec!["a"], 0o600 + i % 8)).unwrap();
        assert_eq!(ours.apply(&Op::Sync), Ok(()), "change {i}");
    }
    ours.apply(&Op::Unlink(vec!["a"])).unwrap();
    assert_eq!(ours.apply(&Op::Sync), Ok(()));
    drop(ours);
    check(&disk.bytes());
}

#[test]
fn what_fills_its_disk_is_mounted_and_read_and_deleted_from() {
    let (first, second) = (noise(2 << 20, 1), noise(300_000, 2));
    for room in [0, 20_000, 400_000] {
        let disk = Arc::new(Disk::new(packed(&[("a", &first), ("b", &second)])));
        disk.set_room(Some(disk.bytes().len() as u64 + room));
        let mut ours = Ours::mount(&disk);
        assert!(ours.dump()["/a"].content == first);
        assert_eq!(ours.apply(&Op::Create(vec!["c"])), Err(Kind::NoSpace));
        ours.apply(&Op::Unlink(vec!["a"])).unwrap();
        // Where there is not a byte not even that can be stored.
        if room > 0 {
            assert_eq!(ours.apply(&Op::Sync), Ok(()), "{room} bytes");
            ours.apply(&Op::Create(vec!["c"])).unwrap();
            assert_eq!(ours.apply(&Op::Write(vec!["c"], 0, noise(50_000, 3))), Ok(()), "{room} bytes");
        }
        let stored = ours.apply(&Op::Sync);
        assert_eq!(stored.is_ok(), room > 0, "{room} bytes");
        drop(ours);
        check(&disk.bytes());
        let seen = dump(&Vfs::new(formats::open(access(disk.bytes())).unwrap().tree, Policy::default()));
        assert_eq!((seen.contains_key("/a"), seen.contains_key("/c")), (room == 0, room > 0));
        assert!(seen["/b"].content == second);
    }
}

#[test]
fn nothing_is_moved_while_somebody_else_reads() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.st");
    std::fs::write(&path, packed(&[("a", b"")])).unwrap();
    let store = Arc::new(FileSource::open_to_write(&path).unwrap());
    let mut ours = Ours::mounted(&store, Some(Upkeep::nothing(0)));
    let storm = |ours: &mut Ours| {
        for i in 0..20 {
            ours.apply(&Op::Write(vec!["a"], 0, noise(30_000, i))).unwrap();
            ours.apply(&Op::Sync).unwrap();
        }
        store.len().unwrap()
    };
    let reader = FileSource::open(&path).unwrap();
    reader.lock_shared();
    assert!(storm(&mut ours) > 20 * 30_000);
    drop(reader);
    assert!(storm(&mut ours) < 5 * 30_000);
    drop(ours);
    check(&std::fs::read(&path).unwrap());
}

/// Four write until the disk is full, while something else is done again and again.
fn fill(disk: &Arc<Disk>, round: u64, meanwhile: &(dyn Fn(&Vfs) + Sync)) {
    let mut ours = Ours::mount(disk);
    let names = ["a", "b", "c", "d"];
    names.iter().for_each(|name| ours.apply(&Op::Create(vec![name])).unwrap());
    let (vfs, done) = (&ours.vfs, AtomicBool::new(false));
    let fill = |i: u64| {
        let ino = vfs.lookup(ROOT, names[i as usize].as_bytes()).unwrap().unwrap().ino;
        let mut taken = Vec::new();
        loop {
            let piece = noise(300_000, taken.len() as u64 * 4 + i);
            if vfs.write(ino, taken.len() as u64, piece.clone()).is_err() {
                return taken;
            }
            taken.extend_from_slice(&piece);
        }
    };
    let taken: Vec<Vec<u8>> = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Relaxed) {
                meanwhile(vfs);
            }
        });
        let writers: Vec<_> = (0..4).map(|i| scope.spawn(move || fill(i))).collect();
        let taken = writers.into_iter().map(|writer| writer.join().unwrap()).collect();
        done.store(true, Relaxed);
        taken
    });
    assert_eq!(ours.apply(&Op::Sync), Ok(()), "round {round}: what was taken must be stored");
    drop(ours);
    let seen = dump(&Vfs::new(formats::open(access(disk.bytes())).unwrap().tree, Policy::default()));
    for (name, taken) in names.iter().zip(&taken) {
        assert!(seen[&format!("/{name}")].content == *taken, "round {round}: {name}");
    }
}

#[test]
fn what_several_take_at_once_on_a_disk_that_gets_full_can_be_stored() {
    for round in 0..10 {
        let disk = Arc::new(Disk::new(packed(&[])));
        disk.set_room(Some(disk.bytes().len() as u64 + (9 << 20) + round * 100_000));
        fill(&disk, round, &|_| std::thread::yield_now());
    }
}

/// The parity takes none of the space that was promised to what is not stored yet.
#[test]
fn what_is_taken_while_parity_is_written_can_be_stored() {
    for round in 0..10 {
        let parity = st::Policy { share: 0.3, algorithm: Algorithm::Wide };
        let packer = st::Packer { parity: Some(parity), ..dress::packer() };
        let empty = dress::pack(&packer, &Folder::open(tempfile::tempdir().unwrap().path()).unwrap());
        let disk = Arc::new(Disk::new(empty));
        disk.set_room(Some(disk.bytes().len() as u64 + (9 << 20) + round * 100_000));
        fill(&disk, round, &|vfs| {
            // When there is no room for parity any more, that is told, and costs nothing.
            vfs.sync().unwrap();
            vfs.settle().unwrap();
        });
    }
}
