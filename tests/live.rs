//! A container that takes changes: against a model and a real directory, through power failures, failing disks and full
//! ones.

mod common {
    pub mod dice;
    pub mod disk;
    pub mod dress;
    pub mod fs;
    pub mod ops;
}

use common::dice::Dice;
use common::disk::{Disk, Event, after_power_failure};
use common::dress;
use common::fs::{Dump, Fs, Op, Ours, Path, Plain, Real, dump, with_times_of};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use stmount::cache::Cache;
use stmount::error::Kind as ErrorKind;
use stmount::formats::folder::Folder;
use stmount::formats::st::Container;
use stmount::formats::{Unwatched, Upkeep};
use stmount::source::Memory;
use stmount::vfs::{New, Policy, ROOT, Rename, Vfs};

impl Dice {
    /// Space is given back often, or never.
    fn upkeep(&mut self) -> Option<Upkeep> {
        let kept = Upkeep { last: self.of(&[0, 1, 5]), ..Upkeep::nothing(0) };
        self.of(&[None, Some(kept), Some(Upkeep { slack: 30_000, ..kept })])
    }

    /// Bytes that do not compress.
    fn noise(&mut self, len: u64) -> Vec<u8> {
        (0..len).map(|_| self.below(256) as u8).collect()
    }
}

fn empty() -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    std::os::unix::fs::PermissionsExt::set_mode(&mut folder.path().metadata().unwrap().permissions(), 0o755);
    std::fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    dress::pack(&dress::packer(), &Folder::open(folder.path()).unwrap())
}

fn without_directory_links(mut dump: Dump) -> Dump {
    let dirs = dump.values_mut().filter(|seen| seen.kind == stmount::tree::Kind::Directory);
    dirs.for_each(|seen| seen.nlink = 0);
    dump
}

#[track_caller]
fn agree(ours: Dump, model: &Dump, when: &str) {
    let ours = with_times_of(ours, model);
    for (path, seen) in model {
        let mine = ours.get(path);
        assert!(mine == Some(seen), "{when}: {path:?} differs: {} instead of {}", short(mine), short(Some(seen)));
    }
    assert_eq!(ours.len(), model.len(), "{when}: there is more: {:?}", ours.keys().collect::<Vec<_>>());
}

fn short(seen: Option<&common::fs::Seen>) -> String {
    let Some(seen) = seen else { return "nothing".into() };
    let mut shown = seen.clone();
    let (len, sum) = (shown.content.len(), shown.content.iter().map(|b| u64::from(*b)).sum::<u64>());
    shown.content.clear();
    format!("{shown:?} with {len} bytes of the sum {sum}")
}

#[test]
fn what_is_done_is_what_a_model_and_a_real_directory_have() {
    let rounds = std::env::var("STMOUNT_ROUNDS").map_or(25, |n| n.parse().unwrap());
    for round in 0..rounds {
        let mut dice = Dice(round * 7919 + 1);
        let most = dice.of(&[3000, 100_000, 600_000]);
        let disk = Arc::new(Disk::new(empty()));
        let upkeep = dice.upkeep();
        let (mut ours, mut plain, mut real) = (Ours::mounted(&disk, upkeep), Plain::default(), Real::new());
        for step in 0..250 {
            let op = dice.op(most);
            let want = plain.apply(&op);
            if std::env::var_os("STMOUNT_STRICT").is_some() {
                eprintln!("{step} {} -> {want:?}", name(&op));
            }
            let when = format!("round {round}, step {step}, {}", name(&op));
            assert_eq!(ours.apply(&op), want, "{when}");
            assert_eq!(real.apply(&op), want, "{when}: the model is wrong");
            for number in 0..3 {
                assert!(ours.held(number) == plain.held(number), "{when}: what is held as {number} differs");
            }
            if dice.below(12) == 0 {
                ours.apply(&Op::Sync).unwrap();
            }
            if dice.below(8) == 0 || std::env::var_os("STMOUNT_STRICT").is_some() {
                agree(ours.dump(), &plain.dump(), &when);
            }
            if dice.below(40) == 0 {
                (0..3).for_each(|number| {
                    let _ = (ours.apply(&Op::Release(number)), plain.apply(&Op::Release(number)));
                    let _ = real.apply(&Op::Release(number));
                });
                ours.apply(&Op::Sync).unwrap();
                drop(ours);
                ours = Ours::mounted(&disk, upkeep);
                agree(ours.dump(), &plain.dump(), &format!("{when}, mounted again"));
            }
        }
        let model = plain.dump();
        agree(ours.dump(), &model, &format!("round {round}, at the end"));
        let real = without_directory_links(real.dump_like(&model));
        assert!(real == without_directory_links(model), "round {round}: the model is wrong");
        drop(ours);
        check(&disk.bytes());
    }
}

/// Does something while somebody else commits and gives space back all the time.
fn while_committing(disk: &Arc<Disk>, work: impl FnOnce(&mut Ours)) {
    let mut ours = Ours::mounted(disk, Some(Upkeep::nothing(0)));
    let (vfs, over) = (ours.vfs.clone(), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let others = scope.spawn(|| {
            while !over.load(Relaxed) {
                vfs.sync().unwrap();
                vfs.upkeep();
            }
        });
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| work(&mut ours)));
        over.store(true, Relaxed);
        others.join().unwrap();
        done.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
    ours.apply(&Op::Sync).unwrap();
}

#[test]
fn commits_of_others_change_nothing_for_anybody() {
    for round in 0..15 {
        let mut dice = Dice(round * 6271 + 19);
        let (disk, mut plain) = (Arc::new(Disk::new(empty())), Plain::default());
        let most = dice.of(&[3000, 100_000]);
        while_committing(&disk, |ours| {
            for step in 0..1500 {
                let op = dice.op(most);
                assert_eq!(ours.apply(&op), plain.apply(&op), "round {round}, step {step}, {}", name(&op));
            }
            (0..3).for_each(|number| _ = (ours.apply(&Op::Release(number)), plain.apply(&Op::Release(number))));
            agree(ours.dump(), &plain.dump(), &format!("round {round}"));
        });
        agree(reopened(disk.bytes(), false), &plain.dump(), &format!("round {round}, mounted again"));
        check(&disk.bytes());
    }
}

#[test]
fn a_sparse_file_is_told_to_be_sparse_while_it_changes() {
    let mut ours = Ours::mount(&Arc::new(Disk::new(empty())));
    let path = vec!["a"];
    ours.apply(&Op::Create(path.clone())).unwrap();
    ours.apply(&Op::Write(path.clone(), 1 << 40, vec![1; 5000])).unwrap();
    let ino = ours.vfs.lookup(ROOT, b"a").unwrap().unwrap().ino;
    for at in [0, 1 << 20, 1 << 30] {
        ours.apply(&Op::Sync).unwrap();
        let before = ours.vfs.getattr(ino).unwrap().attr.allocated;
        ours.apply(&Op::Write(path.clone(), at, vec![1; 5000])).unwrap();
        let after = ours.vfs.getattr(ino).unwrap().attr.allocated;
        assert!((before + 5000..before + 50_000).contains(&after), "{before} bytes and 5000 are {after}");
    }
}

/// A kernel may still have what has no name any more, without a handle: a fifo, a directory somebody stands in.
#[test]
fn what_is_gone_is_still_known_by_its_number() {
    let disk = Arc::new(Disk::new(empty()));
    let mut ours = Ours::mount(&disk);
    for committed in [false, true] {
        ours.apply(&Op::Mkdir(vec!["a"])).unwrap();
        ours.apply(&Op::Fifo(vec!["b"])).unwrap();
        ours.apply(&Op::Create(vec!["c"])).unwrap();
        ours.apply(&Op::Sync).unwrap();
        let inos = [b"a", b"b", b"c"].map(|name| ours.vfs.lookup(ROOT, name).unwrap().unwrap().ino);
        ours.apply(&Op::Rmdir(vec!["a"])).unwrap();
        ours.apply(&Op::Unlink(vec!["b"])).unwrap();
        ours.apply(&Op::Unlink(vec!["c"])).unwrap();
        if committed {
            ours.apply(&Op::Sync).unwrap();
        }
        assert!(inos.iter().all(|ino| ours.vfs.getattr(*ino).unwrap().attr.nlink == 0));
        let made = ours.vfs.make(inos[0], b"x", 0o644, common::fs::ME, &New::File);
        assert_eq!(made.unwrap_err().kind(), ErrorKind::NotFound);
        // The kernel looks a path up again that leads to something stale.
        assert_eq!(ours.vfs.open(inos[2]).unwrap_err().kind(), ErrorKind::Changed);
        assert_eq!(ours.vfs.write(inos[2], 0, vec![1]).unwrap_err().kind(), ErrorKind::Changed);
    }
    drop(ours);
    check(&disk.bytes());
}

/// A commit may begin between the look at a name and its end.
#[test]
fn a_name_is_gone_whenever_a_commit_began() {
    let disk = Arc::new(Disk::new(empty()));
    let (a, b) = (vec!["a"], vec!["b"]);
    while_committing(&disk, |ours| {
        for step in 0..30_000 {
            ours.apply(&Op::Create(a.clone())).unwrap();
            ours.apply(&Op::Rename(a.clone(), b.clone(), Rename::Replace)).unwrap();
            assert_eq!(ours.vfs.lookup(ROOT, b"a").unwrap(), None, "step {step}");
            ours.apply(&Op::Unlink(b.clone())).unwrap();
            assert_eq!(ours.vfs.lookup(ROOT, b"b").unwrap(), None, "step {step}");
        }
    });
    assert_eq!(reopened(disk.bytes(), false).len(), 1);
}

fn name(op: &Op) -> String {
    let text = format!("{op:?}");
    text.chars().take(120).collect()
}

fn open(bytes: Vec<u8>) -> Container {
    Container::open(dress::read(Arc::new(Memory::new(bytes)), Cache::new(4 << 20), "after.st")).unwrap()
}

/// Every hash is right, and every file can be read.
fn check(bytes: &[u8]) {
    let container = open(bytes.to_vec());
    let checked = container.check(2, &Unwatched).unwrap();
    assert!(checked.is_whole(), "{checked:?}");
}

/// What somebody sees who opens these bytes, to read them or to go on writing.
fn reopened(bytes: Vec<u8>, to_write: bool) -> Dump {
    if to_write {
        return Ours::mount(&Arc::new(Disk::new(bytes))).dump();
    }
    dump(&Vfs::new(Arc::new(open(bytes)), Policy::default()))
}

/// A state that was committed: what was seen then, between which events the commit was made.
struct Committed {
    dump: Dump,
    began: usize,
    acknowledged: usize,
}

/// Works on a disk, with commits, and tells what each of them must leave.
fn work(dice: &mut Dice, disk: &Arc<Disk>, steps: usize, most: u64) -> Vec<Committed> {
    let mut ours = Ours::mounted(disk, dice.upkeep());
    let mut committed = vec![Committed { dump: ours.dump(), began: 0, acknowledged: 0 }];
    for _ in 0..steps {
        let _ = ours.apply(&dice.op(most));
        if dice.below(5) == 0 {
            // Without handles: what is open and has no name is gone after a failure.
            (0..3).for_each(|number| _ = ours.apply(&Op::Release(number)));
            let began = disk.count();
            let seen = ours.dump();
            ours.apply(&Op::Sync).unwrap();
            committed.push(Committed { dump: seen, began, acknowledged: disk.count() });
        }
    }
    committed
}

/// At each event, with nothing, all, and some of what was not synced.
#[test]
fn a_power_failure_leaves_the_last_acknowledged_state_or_the_one_under_way() {
    let rounds = std::env::var("STMOUNT_ROUNDS").map_or(6, |n| n.parse().unwrap());
    let mut cuts = 0;
    for round in 0..rounds {
        let mut dice = Dice(round * 104_729 + 3);
        let first = empty();
        let disk = Arc::new(Disk::new(first.clone()));
        let most = dice.of(&[2000, 40_000, 3_000_000]);
        let committed = work(&mut dice, &disk, 80, most);
        let events = disk.events();
        for count in 0..=events.len() {
            for way in 0..5 {
                let mut keeps = || match way {
                    0 => true,
                    1 => false,
                    2 => dice.below(8) != 0,
                    3 => dice.below(8) == 0,
                    _ => dice.below(2) == 0,
                };
                let bytes = after_power_failure(&first, &events, count, &mut keeps);
                let seen = reopened(bytes, cuts % 2 == 0);
                let last = committed.iter().rposition(|c| c.acknowledged <= count).unwrap();
                let under_way = committed.iter().skip(last + 1).take_while(|c| c.began < count).count();
                assert!(under_way <= 1);
                let right = committed[last..=last + under_way].iter().any(|c| c.dump == seen);
                assert!(right, "round {round}: event {count} of {}, way {way}: a third state", events.len());
                cuts += 1;
            }
        }
    }
    println!("{cuts} power failures");
}

/// A machine that loses power again and again goes on from whatever was left.
#[test]
fn work_goes_on_after_a_power_failure() {
    for round in 0..8 {
        let mut dice = Dice(round * 31 + 5);
        let mut first = empty();
        for life in 0..6 {
            let disk = Arc::new(Disk::new(first.clone()));
            let committed = work(&mut dice, &disk, 40, 30_000);
            let events = disk.events();
            let count = dice.below(events.len() as u64 + 1) as usize;
            let bytes = after_power_failure(&first, &events, count, &mut || dice.below(2) == 0);
            let last = committed.iter().rposition(|c| c.acknowledged <= count).unwrap();
            let seen = reopened(bytes.clone(), true);
            assert!(committed[last..].iter().take(2).any(|c| c.dump == seen), "round {round}, life {life}");
            check(&bytes);
            first = bytes;
        }
    }
}

#[test]
fn a_disk_that_fails_costs_nothing_but_time() {
    let mut failures = 0;
    for round in 0..40 {
        let mut dice = Dice(round * 17 + 11);
        let disk = Arc::new(Disk::new(empty()));
        let (mut ours, mut plain) = (Ours::mount(&disk), Plain::default());
        for step in 0..120 {
            let op = dice.op(50_000);
            assert_eq!(ours.apply(&op), plain.apply(&op));
            if dice.below(4) == 0 {
                disk.fail_in((dice.below(2) == 0).then(|| dice.below(3) as u32));
                let before = reopened(disk.bytes(), false);
                if let Err(kind) = ours.apply(&Op::Sync) {
                    assert_eq!(kind, ErrorKind::Io);
                    failures += 1;
                    disk.fail_in(None);
                    let now = reopened(disk.bytes(), false);
                    let whole = with_times_of(now.clone(), &plain.dump()) == plain.dump();
                    assert!(now == before || whole, "round {round}, step {step}: half a commit");
                }
                disk.fail_in(None);
                agree(ours.dump(), &plain.dump(), &format!("round {round}, step {step}"));
            }
        }
        (0..3).for_each(|number| _ = (ours.apply(&Op::Release(number)), plain.apply(&Op::Release(number))));
        ours.apply(&Op::Sync).unwrap();
        drop(ours);
        agree(reopened(disk.bytes(), false), &plain.dump(), "at the end");
        check(&disk.bytes());
    }
    assert!(failures > 100, "{failures} failures");
}

#[test]
fn a_commit_that_failed_is_told_until_it_is_pushed_out() {
    let disk = Arc::new(Disk::new(empty()));
    let ours = Ours::mount(&disk);
    let me = common::fs::ME;
    ours.vfs.make(ROOT, b"file", 0o644, me, &New::File).unwrap();
    disk.fail_in(Some(0));
    assert!(ours.vfs.sync().is_err());
    let status = ours.vfs.status();
    assert!(status.last_error.unwrap().contains("the disk fails") && status.pending > 0);
    assert_eq!((status.errors.len(), status.errors[0].file.as_ref()), (1, None));
    assert!(status.errors[0].what.contains("the disk fails"));
    ours.vfs.sync().unwrap();
    let status = ours.vfs.status();
    assert_eq!((status.last_error, status.pending, status.errors.len()), (None, 0, 1));
}

#[test]
fn a_full_disk_refuses_at_the_write_and_keeps_what_it_took() {
    for round in 0..20 {
        let mut dice = Dice(round * 13 + 7);
        let disk = Arc::new(Disk::new(empty()));
        let (mut ours, mut plain) = (Ours::mount(&disk), Plain::default());
        disk.set_room(Some(disk.bytes().len() as u64 + (9 << 20) + dice.below(2 << 20)));
        for _ in 0..1500 {
            let op = match dice.below(3) {
                0 => dice.op(200_000),
                _ => {
                    let (path, at, len) = (dice.path(), dice.at(1 << 20), dice.below(400_000));
                    Op::Write(path, at, dice.noise(len))
                }
            };
            is_refused(&mut ours, &mut plain, op);
            if dice.below(10) == 0 {
                assert_eq!(ours.apply(&Op::Sync), Ok(()), "what was taken must be stored");
            }
        }
        // What is deleted gives its room back, so it need not be full by now.
        let path = files(&plain).pop().expect("some file is left");
        let mut at = 0;
        while !is_refused(&mut ours, &mut plain, Op::Write(path.clone(), at, dice.noise(200_000))) {
            at += 200_000;
            assert!(at < 20 << 20, "round {round}: the disk is never full");
        }
        agree(ours.dump(), &plain.dump(), "on a full disk");
        // Deleting needs no room.
        for path in files(&plain) {
            let op = Op::Unlink(path);
            assert_eq!((ours.apply(&op), plain.apply(&op)), (Ok(()), Ok(())));
        }
        assert_eq!(ours.apply(&Op::Sync), Ok(()));
        (0..3).for_each(|number| _ = (ours.apply(&Op::Release(number)), plain.apply(&Op::Release(number))));
        assert_eq!(ours.apply(&Op::Sync), Ok(()));
        drop(ours);
        agree(reopened(disk.bytes(), false), &plain.dump(), "at the end");
        check(&disk.bytes());
    }
}

fn files(plain: &Plain) -> Vec<Path> {
    let dump = plain.dump();
    let paths = dump.iter().filter(|(_, seen)| seen.kind == stmount::tree::Kind::File).map(|(path, _)| path);
    let known = |name: &str| ["a", "b", "c", "d"].into_iter().find(|known| *known == name).unwrap();
    paths.map(|path| path.split('/').skip(1).map(known).collect()).collect()
}

/// Does it to both, unless the disk is too full for it.
fn is_refused(ours: &mut Ours, plain: &mut Plain, op: Op) -> bool {
    let mut tried = plain.clone();
    let want = tried.apply(&op);
    let done = ours.apply(&op);
    let refused = done == Err(ErrorKind::NoSpace);
    if !refused {
        assert_eq!(done, want, "{}", name(&op));
        *plain = tried;
    }
    refused
}

#[test]
fn what_was_deleted_before_a_commit_gives_its_room_back() {
    let disk = Arc::new(Disk::new(empty()));
    let mut ours = Ours::mount(&disk);
    disk.set_room(Some(disk.bytes().len() as u64 + (10 << 20)));
    let mut dice = Dice(1);
    let bytes = dice.noise(6 << 20);
    for _ in 0..5 {
        ours.apply(&Op::Create(vec!["a"])).unwrap();
        assert_eq!(ours.apply(&Op::Write(vec!["a"], 0, bytes.clone())), Ok(()));
        ours.apply(&Op::Unlink(vec!["a"])).unwrap();
    }
    assert_eq!(ours.apply(&Op::Sync), Ok(()));
}

/// Nothing of it is to be stored, but a commit is: what came before must be durable with it.
#[test]
fn what_was_made_and_unmade_between_commits_leaves_a_container_that_opens() {
    let disk = Arc::new(Disk::new(empty()));
    let mut ours = Ours::mount(&disk);
    disk.fail_in(Some(0));
    ours.apply(&Op::Create(vec!["a"])).unwrap();
    ours.apply(&Op::Sync).unwrap_err();
    ours.apply(&Op::Unlink(vec!["a"])).unwrap();
    ours.apply(&Op::Sync).unwrap();
    ours.apply(&Op::Sync).unwrap();
    drop(ours);
    assert_eq!(reopened(disk.bytes(), true).len(), 1);
    check(&disk.bytes());
}

#[test]
fn a_small_commit_is_one_write_and_one_sync() {
    let disk = Arc::new(Disk::new(empty()));
    let mut ours = Ours::mount(&disk);
    ours.apply(&Op::Create(vec!["a"])).unwrap();
    ours.apply(&Op::Sync).unwrap();
    let before = disk.count();
    ours.apply(&Op::Write(vec!["a"], 0, vec![1; 1000])).unwrap();
    ours.apply(&Op::Sync).unwrap();
    let events: Vec<_> = disk.events()[before..].to_vec();
    assert!(matches!(&events[..], [Event::Write(..), Event::Sync]), "{} events", events.len());
    ours.apply(&Op::Sync).unwrap();
    assert_eq!(disk.count(), before + 2, "nothing to commit, nothing written");
}
