//! Overlays: changes of anything in a directory beside it, against a model and through crashes.

#[allow(dead_code)]
mod common {
    pub mod agree;
    pub mod dice;
    pub mod dress;
    pub mod fs;
    pub mod ops;
    pub mod overlaid;
}

use common::agree::agree;
use common::dice::Dice;
use common::fs::{Fs, Op, Ours};
use common::overlaid::{copied, how, lies_in_clear, ours, packed, refused, some_tree};
use std::fs::{self};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use stmount::error::Kind as ErrorKind;
use stmount::formats::overlay::{self as format, Before, What};
use stmount::open::overlay::{attach_watched, hold};
use stmount::open::{self, Claim};
use stmount::vfs::Rename;

macro_rules! over_every_base {
    ($($name:ident: $base:literal, $rounds:literal;)*) => {
        mod model {
            $(#[test] fn $name() { super::an_overlay_is_what_a_model_is_whenever_it_is_looked_at($base, $rounds); })*
        }
    };
}

over_every_base! {
    over_a_tar: "a.tar", 25;
    over_a_folder: "folder", 25;
}

fn an_overlay_is_what_a_model_is_whenever_it_is_looked_at(kind: &str, rounds: u64) {
    let rounds = std::env::var("STMOUNT_ROUNDS").map_or(rounds, |n| n.parse().unwrap());
    for round in 0..rounds {
        let (real, mut plain) = some_tree();
        let work = tempfile::tempdir().unwrap();
        let dir = work.path().join("over");
        let base =
            if kind == "folder" { real.root.path().to_owned() } else { packed(real.root.path(), work.path(), kind) };
        let mut dice = Dice(round * 7919 + 11);
        let most = dice.of(&[3000, 100_000]);
        let mut ours_ = ours(&base, &dir);
        agree(ours_.dump(), &plain.dump(), "at the beginning");
        for step in 0..200 {
            let op = dice.op(most);
            let want = plain.apply(&op);
            let when = format!("round {round}, step {step}, {op:.100?}");
            assert_eq!(ours_.apply(&op), want, "{when}");
            for number in 0..3 {
                assert!(ours_.held(number) == plain.held(number), "{when}: what is held as {number} differs");
            }
            match dice.below(40) {
                0 => ours_.apply(&Op::Sync).unwrap(),
                1 | 2 => {
                    ours_.vfs.settle().unwrap();
                    agree(ours_.dump(), &plain.dump(), &format!("{when}, settled"));
                    lies_in_clear(&dir, &plain.dump());
                }
                // Dropped without a sync it may lose what was not synced; here nothing was.
                3 | 4 => {
                    (0..3)
                        .for_each(|number| _ = (ours_.apply(&Op::Release(number)), plain.apply(&Op::Release(number))));
                    ours_.apply(&Op::Sync).unwrap();
                    if dice.below(2) == 0 {
                        ours_.vfs.settle().unwrap();
                    }
                    drop(ours_);
                    ours_ = ours(&base, &dir);
                    agree(ours_.dump(), &plain.dump(), &format!("{when}, mounted again"));
                }
                5 | 6 => agree(ours_.dump(), &plain.dump(), &when),
                _ => {}
            }
        }
        (0..3).for_each(|number| _ = (ours_.apply(&Op::Release(number)), plain.apply(&Op::Release(number))));
        ours_.vfs.settle().unwrap();
        drop(ours_);
        agree(ours(&base, &dir).dump(), &plain.dump(), &format!("round {round}, at the end"));
        lies_in_clear(&dir, &plain.dump());
        format::diff(&format::stored(&format::Dir::new(dir.clone())).unwrap().unwrap()).unwrap();
    }
}

/// The directory as it was before each step that changed it.
fn watched(states: &Path) -> (Arc<AtomicU64>, Arc<Before>) {
    let (count, states) = (Arc::new(AtomicU64::new(0)), states.to_owned());
    fs::create_dir_all(&states).unwrap();
    let number = count.clone();
    let before = move |dir: &Path| {
        copied(dir, &states.join(number.fetch_add(1, Ordering::Relaxed).to_string()));
        Ok(())
    };
    (count, Arc::new(before))
}

fn watched_ours(base: &Path, dir: &Path, before: Arc<Before>) -> Ours {
    let over = attach_watched(base, hold(dir, &Claim::default()).unwrap(), &how(), Some(before)).unwrap();
    let (tree, writer) = (over.writer.tree(), Some(over.writer as Arc<dyn stmount::formats::Writer>));
    Ours::of(stmount::formats::Volume { tree, writer, ..over.volume })
}

/// The power fails while changes are brought into the directory, and again while that is ended: after whatever step, what was
/// acknowledged is there.
#[test]
fn whatever_step_a_settling_has_come_to_the_changes_are_there() {
    let (real, mut plain) = some_tree();
    let work = tempfile::tempdir().unwrap();
    let (base, dir) = (packed(real.root.path(), work.path(), "a.tar"), work.path().join("over"));
    let (count, before) = watched(&work.path().join("states"));
    let mut ours_ = watched_ours(&base, &dir, before);
    let mut both = |ours_: &mut Ours, op: Op| {
        assert_eq!((ours_.apply(&op), plain.apply(&op)), (Ok(()), Ok(())), "{op:?}");
    };
    for (name, len) in [("x", 5000), ("y", 200), ("z", 70_000)] {
        both(&mut ours_, Op::Create(vec![name]));
        both(&mut ours_, Op::Write(vec![name], 0, vec![name.as_bytes()[0]; len]));
    }
    both(&mut ours_, Op::Write(vec!["d"], 10, vec![1; 100]));
    both(&mut ours_, Op::Write(vec!["a", "b", "d"], 10, vec![1; 100]));
    ours_.vfs.settle().unwrap();
    // Contents change places, a file becomes a directory, a directory moves with what is in it.
    both(&mut ours_, Op::Rename(vec!["x"], vec!["y"], Rename::Exchange));
    both(&mut ours_, Op::Rename(vec!["a"], vec!["e"], Rename::Replace));
    both(&mut ours_, Op::Unlink(vec!["z"]));
    both(&mut ours_, Op::Mkdir(vec!["z"]));
    both(&mut ours_, Op::Create(vec!["z", "z"]));
    both(&mut ours_, Op::Write(vec!["z", "z"], 5, vec![9; 2000]));
    both(&mut ours_, Op::Write(vec!["x"], 50, vec![8; 300]));
    both(&mut ours_, Op::Rename(vec!["d"], vec!["b", "d"], Rename::Replace));
    ours_.apply(&Op::Sync).unwrap();
    let first = count.load(Ordering::Relaxed);
    ours_.vfs.settle().unwrap();
    let last = count.load(Ordering::Relaxed);
    drop(ours_);
    assert!(last - first > 15, "{first} {last}");
    let want = plain.dump();
    for step in first..last {
        let torn = work.path().join("states").join(step.to_string());
        let again = work.path().join(format!("again{step}"));
        let (count, before) = watched(&again);
        let kept = work.path().join(format!("kept{step}"));
        copied(&torn, &kept);
        drop(watched_ours(&base, &torn, before));
        for state in (0..count.load(Ordering::Relaxed)).map(|n| again.join(n.to_string())).chain([torn, kept]) {
            let ours_ = ours(&base, &state);
            agree(ours_.dump(), &want, &format!("after step {step}, {}", state.display()));
            ours_.vfs.settle().unwrap();
            lies_in_clear(&state, &want);
            drop(ours_);
            agree(ours(&base, &state).dump(), &want, &format!("after step {step}, settled"));
        }
    }
}

/// A step that fails behind the switch is done later, and until then contents are read from where they are.
#[test]
fn what_fails_behind_the_switch_is_done_later() {
    for fails_at in 0..40 {
        let (real, mut plain) = some_tree();
        let work = tempfile::tempdir().unwrap();
        let (base, dir) = (packed(real.root.path(), work.path(), "a.tar"), work.path().join("over"));
        let left = Arc::new(AtomicU64::new(u64::MAX / 2));
        let own = left.clone();
        let before = move |_: &Path| match own.fetch_sub(1, Ordering::Relaxed) {
            0 => Err(stmount::error::Error::new(ErrorKind::Io, "the disk has a moment")),
            _ => Ok(()),
        };
        let mut ours_ = watched_ours(&base, &dir, Arc::new(before));
        for op in [
            Op::Create(vec!["x"]),
            Op::Write(vec!["x"], 0, vec![7; 5000]),
            Op::Write(vec!["d"], 10, vec![1; 100]),
            Op::Sync,
            Op::Rename(vec!["x"], vec!["a", "x"], Rename::Replace),
            Op::Rename(vec!["d"], vec!["e"], Rename::Replace),
            Op::Create(vec!["d"]),
            Op::Write(vec!["d"], 0, vec![5; 500]),
            Op::Sync,
        ] {
            assert_eq!((ours_.apply(&op), plain.apply(&op)), (Ok(()), Ok(())), "{op:?}");
            if let Op::Sync = op {
                left.store(fails_at, Ordering::Relaxed);
                let _ = ours_.vfs.settle();
                agree(ours_.dump(), &plain.dump(), &format!("failed at {fails_at}"));
            }
        }
        left.store(u64::MAX / 2, Ordering::Relaxed);
        let op = Op::Write(vec!["e"], 0, vec![3; 30]);
        assert_eq!((ours_.apply(&op), plain.apply(&op)), (Ok(()), Ok(())));
        ours_.vfs.settle().unwrap();
        agree(ours_.dump(), &plain.dump(), &format!("failed at {fails_at}, done"));
        lies_in_clear(&dir, &plain.dump());
        drop(ours_);
        agree(ours(&base, &dir).dump(), &plain.dump(), &format!("failed at {fails_at}, mounted again"));
    }
}

/// All that is in a directory, but for the file of the lock.
fn everything(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut all = Vec::new();
    let mut todo = vec![dir.to_owned()];
    while let Some(dir) = todo.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => todo.push(path),
                false => all.push((path.clone(), fs::read(path).unwrap())),
            }
        }
    }
    all.sort();
    all
}

#[test]
fn another_base_is_refused_and_nothing_is_touched() {
    let (real, _) = some_tree();
    let work = tempfile::tempdir().unwrap();
    let dir = work.path().join("over");
    for base in [packed(real.root.path(), work.path(), "a.tar"), real.root.path().to_owned()] {
        let mut ours_ = ours(&base, &dir);
        ours_.apply(&Op::Write(vec!["d"], 0, vec![1; 100])).unwrap();
        ours_.vfs.settle().unwrap();
        ours_.apply(&Op::Create(vec!["only in the journal"])).unwrap();
        ours_.apply(&Op::Sync).unwrap();
        drop(ours_);
        let before = everything(&dir);
        if base.is_dir() {
            fs::write(base.join("more"), "more").unwrap();
        } else {
            let mut bytes = fs::read(&base).unwrap();
            bytes[1000] ^= 1;
            fs::write(&base, bytes).unwrap();
        }
        let e = refused(&base, &dir);
        assert!(e.kind() == ErrorKind::Changed && e.to_string().contains("another state"), "{e}");
        assert!(e.advice().is_some());
        assert_eq!(everything(&dir), before);
        // Who has two such directories keeps them apart.
        fs::remove_dir_all(&dir).unwrap();
    }
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("letter"), "dear").unwrap();
    assert_eq!(refused(real.root.path(), &dir).kind(), ErrorKind::Exists);
    assert_eq!(everything(&dir).len(), 1);
}

#[test]
fn what_became_equal_to_the_base_is_dropped() {
    let (real, plain) = some_tree();
    let work = tempfile::tempdir().unwrap();
    let (base, dir) = (packed(real.root.path(), work.path(), "a.tar"), work.path().join("over"));
    let place = format::Dir::new(dir.clone());
    let mut ours_ = ours(&base, &dir);
    let before = plain.dump()["/d"].content.clone();
    ours_.apply(&Op::Write(vec!["d"], 5, vec![1; 100])).unwrap();
    ours_.apply(&Op::Unlink(vec!["a", "b", "d"])).unwrap();
    ours_.apply(&Op::Rename(vec!["a"], vec!["e"], Rename::Replace)).unwrap();
    ours_.vfs.settle().unwrap();
    assert_eq!(place.clear_below(Vec::new()).unwrap().len(), 1);
    ours_.apply(&Op::Write(vec!["d"], 0, before.clone())).unwrap();
    ours_.apply(&Op::Rename(vec!["e"], vec!["a"], Rename::Replace)).unwrap();
    // As most programs save: a new file in the place of the old one.
    ours_.apply(&Op::Create(vec!["a", "b", "d"])).unwrap();
    ours_.apply(&Op::Write(vec!["a", "b", "d"], 0, plain.dump()["/a/b/d"].content.clone())).unwrap();
    ours_.vfs.settle().unwrap();
    assert_eq!(place.clear_below(Vec::new()).unwrap(), []);
    // With its time as well nothing is left of it.
    ours_.apply(&Op::Mtime(vec!["d"], 1_000_000_000)).unwrap();
    ours_.vfs.settle().unwrap();
    agree(ours_.dump(), &plain.dump(), "settled");
    drop(ours_);
    let diff = format::diff(&format::stored(&place).unwrap().unwrap()).unwrap();
    assert!(diff.iter().all(|change| change.path != b"d" || change.what == What::Attributes), "{diff:?}");
    assert!(diff.iter().all(|change| change.what != What::Renamed && change.what != What::Deleted), "{diff:?}");
    agree(ours(&base, &dir).dump(), &plain.dump(), "mounted again");
}

#[test]
fn what_a_person_does_in_the_directory_counts() {
    let (real, _) = some_tree();
    let work = tempfile::tempdir().unwrap();
    let (base, dir) = (packed(real.root.path(), work.path(), "a.tar"), work.path().join("over"));
    let mut ours_ = ours(&base, &dir);
    for name in ["x", "y"] {
        ours_.apply(&Op::Create(vec![name])).unwrap();
        ours_.apply(&Op::Write(vec![name], 0, vec![1; 100])).unwrap();
    }
    ours_.vfs.settle().unwrap();
    drop(ours_);
    fs::write(dir.join("files/x"), "written by hand").unwrap();
    fs::remove_file(dir.join("files/y")).unwrap();
    fs::write(dir.join("files/unknown"), "left alone").unwrap();
    let volume = open::overlay::open_overlaid(&base, &dir, &how(), &Claim::default()).unwrap();
    assert!(volume.notes.iter().any(|note| note.contains("files/y")), "{:?}", volume.notes);
    let mut ours_ = Ours::of(volume);
    let x = ours_.vfs.lookup(stmount::vfs::ROOT, b"x").unwrap().unwrap();
    assert_eq!(x.attr.size, 15);
    let read = |ours_: &Ours, name: &[u8]| {
        let stat = ours_.vfs.lookup(stmount::vfs::ROOT, name).unwrap().unwrap();
        let handle = ours_.vfs.open(stat.ino)?;
        let mut bytes = vec![0; stat.attr.size as usize];
        let done = ours_.vfs.read(stat.ino, handle, 0, &mut bytes).map(|_| bytes);
        ours_.vfs.release(handle);
        done
    };
    assert_eq!(read(&ours_, b"x").unwrap(), b"written by hand");
    let e = read(&ours_, b"y").unwrap_err();
    assert!(e.to_string().contains("missing"), "{e}");
    // What is in the way is nobody's to write over.
    ours_.apply(&Op::Create(vec!["unknown"])).unwrap();
    ours_.apply(&Op::Write(vec!["unknown"], 0, vec![2; 10])).unwrap();
    ours_.vfs.settle().unwrap();
    assert_eq!(fs::read(dir.join("files/unknown")).unwrap(), b"left alone");
    assert_eq!(read(&ours_, b"unknown").unwrap(), [2; 10]);
    drop(ours_);
    assert_eq!(read(&ours(&base, &dir), b"unknown").unwrap(), [2; 10]);
}
