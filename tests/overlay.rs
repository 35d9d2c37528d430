//! Overlays: changes of anything in a directory beside it, against a model, through crashes, and in the hands of people.

#[allow(dead_code)]
mod common {
    pub mod desk;
    pub mod dice;
    pub mod fs;
    pub mod ops;
}

use common::desk::{Desk, until};
use common::dice::Dice;
use common::fs::{Dump, Fs, Op, Ours, Plain, Real, dump, with_times_of};
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use stmount::cache::Cache;
use stmount::error::Kind as ErrorKind;
use stmount::formats::Unwatched;
use stmount::formats::overlay::{self as format, Before, Spot, What};
use stmount::jobs::overlay as job;
use stmount::open::overlay::{attach_watched, hold};
use stmount::open::{self, Claim, How};
use stmount::tree::Kind;
use stmount::vfs::{Policy, Rename, Vfs};

fn how() -> How {
    How::new(Cache::new(8 << 20))
}

fn ours(base: &Path, dir: &Path) -> Ours {
    Ours::of(open::overlay::open_overlaid(base, dir, &how(), &Claim::default()).unwrap())
}

#[track_caller]
fn refused(base: &Path, dir: &Path) -> stmount::error::Error {
    open::overlay::open_overlaid(base, dir, &how(), &Claim::default()).err().expect("it is refused")
}

/// How many directories are in a directory no archive tells; nor the mode of its root.
fn comparable(mut dump: Dump) -> Dump {
    let dirs = dump.values_mut().filter(|seen| seen.kind == Kind::Directory);
    dirs.for_each(|seen| seen.nlink = 0);
    if let Some(root) = dump.get_mut("") {
        (root.mode, root.mtime) = (0, None);
    }
    dump
}

#[track_caller]
fn agree(ours: Dump, model: &Dump, when: &str) {
    let (ours, model) = (comparable(with_times_of(ours, model)), comparable(model.clone()));
    for (path, seen) in &model {
        let mine = ours.get(path);
        assert!(mine == Some(seen), "{when}: {path:?} differs: {mine:.300?} instead of {seen:.300?}");
    }
    assert_eq!(ours.len(), model.len(), "{when}: there is more: {:?}", ours.keys().collect::<Vec<_>>());
}

/// What a base has: files, directories, hard links, symbolic ones.
fn some_tree() -> (Real, Plain) {
    let (mut real, mut plain) = (Real::new(), Plain::default());
    let bytes = |len: u32| (0..len).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect::<Vec<u8>>();
    for op in [
        Op::Mkdir(vec!["a"]),
        Op::Mkdir(vec!["a", "b"]),
        Op::Create(vec!["a", "c"]),
        Op::Write(vec!["a", "c"], 0, bytes(50_000)),
        Op::Create(vec!["a", "b", "d"]),
        Op::Write(vec!["a", "b", "d"], 0, bytes(300)),
        Op::Link(vec!["a", "c"], vec!["a", "b", "a"]),
        Op::Create(vec!["d"]),
        Op::Write(vec!["d"], 0, bytes(3000)),
        Op::Symlink(vec!["c"], "../nowhere/at all"),
        Op::Mkdir(vec!["b"]),
        Op::Mtime(vec!["d"], 1_000_000_000),
    ] {
        assert_eq!(real.apply(&op), Ok(()));
        assert_eq!(plain.apply(&op), Ok(()));
    }
    (real, plain)
}

/// Makes an archive of a folder with the program whose format it is.
fn packed(from: &Path, dir: &Path, name: &str) -> PathBuf {
    let path = dir.join(name);
    let mut command = match name.rsplit_once('.').unwrap().1 {
        "zip" => {
            let mut zip = Command::new("zip");
            zip.args(["-qry"]).arg(&path).arg(".");
            zip
        }
        "7z" => {
            let mut sevenz = Command::new("7z");
            sevenz.args(["a", "-bso0", "-bsp0", "-snl"]).arg(&path).arg(".");
            sevenz
        }
        "sqfs" => {
            let mut squash = Command::new("mksquashfs");
            squash.arg(".").arg(&path).args(["-quiet", "-no-progress"]);
            squash
        }
        _ => {
            let mut tar = Command::new("tar");
            tar.arg("-cf").arg(&path).arg(".");
            tar
        }
    };
    assert!(command.current_dir(from).status().unwrap().success());
    path
}

/// Whoever looks into the directory sees contents in clear: each that the state speaks of, and nothing else.
fn lies_in_clear(dir: &Path, model: &Dump) {
    let place = format::Dir::new(dir.to_owned());
    let state = format::stored(&place).unwrap().expect("it is an overlay");
    let known: Vec<PathBuf> = state
        .spots
        .iter()
        .filter_map(|(_, spot)| if let Spot::Clear { path, .. } = spot { Some(place.clear(path)) } else { None })
        .collect();
    let all = place.clear_below(Vec::new()).unwrap();
    assert_eq!(all.len(), known.len(), "{all:?}");
    for (path, _) in all {
        let name = format!("/{}", String::from_utf8(path.clone()).unwrap());
        // A file of the base that lost the name by which it was found, and has others that nobody has asked for.
        if name.starts_with("/~stmount/") {
            let bytes = fs::read(place.clear(&path)).unwrap();
            assert!(model.values().any(|seen| seen.content == bytes), "{name}");
            continue;
        }
        let seen = model.get(&name).unwrap_or_else(|| panic!("{name} is in the directory and not in the mount"));
        assert_eq!(fs::read(place.clear(&path)).unwrap(), seen.content, "{name}");
    }
    assert!(state.moves.is_empty());
    assert_eq!(fs::read_dir(dir.join("new")).unwrap().count(), 0);
}

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

fn copied(from: &Path, to: &Path) {
    assert!(Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap().success());
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

fn lines(changes: &[format::Change]) -> Vec<String> {
    let text = |path: &[u8]| String::from_utf8(path.to_vec()).unwrap();
    let line = |change: &format::Change| match &change.from {
        Some(from) => format!("{} {} -> {}", change.what.letter(), text(from), text(&change.path)),
        None => format!("{} {}", change.what.letter(), text(&change.path)),
    };
    changes.iter().map(line).collect()
}

/// An overlay with one change of each kind over some base, and the tree as it is with them.
fn changed(base: &Path, dir: &Path, plain: &mut Plain) {
    let mut ours_ = ours(base, dir);
    for op in [
        Op::Create(vec!["x"]),
        Op::Write(vec!["x"], 0, b"new".to_vec()),
        Op::Mkdir(vec!["n"]),
        Op::Create(vec!["n", "y"]),
        Op::Write(vec!["n", "y"], 3, vec![4; 9000]),
        Op::SetXattr(vec!["n", "y"], "user.x", b"kept".to_vec()),
        Op::Write(vec!["a", "b", "d"], 10, vec![1; 100]),
        Op::Chmod(vec!["a", "c"], 0o600),
        Op::Unlink(vec!["c"]),
        Op::Rename(vec!["d"], vec!["b", "d"], Rename::Replace),
        Op::Sync,
    ] {
        assert_eq!((ours_.apply(&op), plain.apply(&op)), (Ok(()), Ok(())), "{op:?}");
    }
    ours_.vfs.settle().unwrap();
    agree(ours_.dump(), &plain.dump(), "changed");
}

const CHANGED: &[&str] = &["P a/b/a", "M a/b/d", "R d -> b/d", "D c", "A n", "A n/y", "A x"];

fn sorted(mut lines: Vec<String>) -> Vec<String> {
    lines.sort();
    lines
}

#[test]
fn a_diff_names_each_path_once() {
    let (real, mut plain) = some_tree();
    let work = tempfile::tempdir().unwrap();
    let (base, dir) = (packed(real.root.path(), work.path(), "a.tar"), work.path().join("over"));
    changed(&base, &dir, &mut plain);
    // The base is not needed for it.
    fs::rename(&base, work.path().join("away")).unwrap();
    let diff = lines(&job::diff(&dir, None, &how()).unwrap());
    let want: Vec<String> = CHANGED.iter().map(|line| line.to_string()).collect();
    let same = |lines: Vec<String>| sorted(lines.into_iter().map(|line| line.replace("a/b/a", "a/c")).collect());
    assert_eq!(same(diff), same(want));
    let status = job::status(&dir, None, &how()).unwrap();
    assert!(status.fits.is_err() && status.held.is_none() && status.missing.is_empty());
    fs::rename(work.path().join("away"), &base).unwrap();
    assert!(job::status(&dir, None, &how()).unwrap().fits.unwrap());
    let busy = ours(&base, &dir);
    let told = job::status(&dir, None, &how()).unwrap().held.unwrap();
    assert!(told.contains(&format!("(pid {})", std::process::id())), "{told}");
    let e = job::diff(&dir, None, &how()).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Locked, "{e}");
    drop(busy);
}

#[test]
fn a_reset_brings_back_all_or_some() {
    let (real, fresh) = some_tree();
    let work = tempfile::tempdir().unwrap();
    let (base, dir) = (packed(real.root.path(), work.path(), "a.tar"), work.path().join("over"));
    let mut plain = fresh.clone();
    changed(&base, &dir, &mut plain);
    let paths = |all: &[&str]| all.iter().map(|path| path.as_bytes().to_vec()).collect::<Vec<_>>();
    let left = || lines(&job::diff(&dir, None, &how()).unwrap());
    let has = |lines: &[String], what: &str| lines.iter().any(|line| line == what);
    // What was moved comes back with either of its names.
    let dropped = lines(&job::reset_paths(&dir, &paths(&["d"]), None, &how()).unwrap().changes);
    assert_eq!(dropped, ["R d -> b/d"]);
    let dump = ours(&base, &dir).dump();
    assert!(dump["/d"] == fresh.dump()["/d"] && !dump.contains_key("/b/d"));
    job::reset_paths(&dir, &paths(&["n", "a"]), None, &how()).unwrap();
    assert_eq!(sorted(left()), ["A x", "D c"]);
    assert_eq!(fs::read_dir(dir.join("files")).unwrap().count(), 1);
    assert_eq!(job::reset_paths(&dir, &paths(&["nothing"]), None, &how()).err().unwrap().kind(), ErrorKind::NotFound);
    // Of all of it, what is in the journal alone goes as well.
    let mut ours_ = ours(&base, &dir);
    ours_.apply(&Op::Create(vec!["later"])).unwrap();
    ours_.apply(&Op::Sync).unwrap();
    drop(ours_);
    let dropped = job::reset(&dir).unwrap();
    assert!(has(&lines(&dropped.changes), "D c") && dropped.journal > 0);
    agree(ours(&base, &dir).dump(), &fresh.dump(), "reset");
    assert_eq!((left(), fs::read_dir(dir.join("files")).unwrap().count()), (Vec::new(), 0));
    // Without changes it may lie over another base.
    fs::write(real.root.path().join("more"), "more").unwrap();
    assert!(ours(real.root.path(), &dir).dump().contains_key("/more"));
}

#[test]
fn what_is_exported_is_the_same_over_a_copy_elsewhere() {
    let (real, mut plain) = some_tree();
    let (work, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (base, dir) = (packed(real.root.path(), work.path(), "a.tar"), work.path().join("over"));
    changed(&base, &dir, &mut plain);
    let program = |args: &[&str], at: &Path| {
        let said = Command::new(env!("CARGO_BIN_EXE_stmount")).args(args).current_dir(at).output().unwrap();
        (said.status.code().unwrap(), String::from_utf8_lossy(&[said.stdout, said.stderr].concat()).into_owned())
    };
    for name in ["p.tar.zst", "q.tar.zst"] {
        assert_eq!(program(&["overlay", "export", "over", name], work.path()).0, 0);
    }
    let patch = fs::read(work.path().join("p.tar.zst")).unwrap();
    assert_eq!(fs::read(work.path().join("q.tar.zst")).unwrap(), patch);
    let listed = Command::new("tar").arg("-tf").arg(work.path().join("p.tar.zst")).output().unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    assert!(listed.contains("files/n/y") && listed.contains("changes"), "{listed}");
    // Another machine: the same bytes, and nothing else of this one.
    fs::copy(&base, other.path().join("copy.tar")).unwrap();
    fs::write(other.path().join("p"), &patch).unwrap();
    let apply = ["overlay", "apply", "p", "mine", "--base", "copy.tar"];
    let said = program(&apply, other.path());
    assert_eq!(said.0, 0, "{}", said.1);
    let (copy, mine) = (other.path().join("copy.tar"), other.path().join("mine"));
    agree(ours(&copy, &mine).dump(), &plain.dump(), "applied");
    lies_in_clear(&mine, &plain.dump());
    let said = program(&apply, other.path());
    assert!(said.0 != 0 && said.1.contains("has changes already"), "{}", said.1);
    fs::write(other.path().join("copy.tar"), [fs::read(&base).unwrap(), vec![0; 512]].concat()).unwrap();
    let said = program(&["overlay", "apply", "p", "third", "--base", "copy.tar"], other.path());
    assert!(said.0 == 44 && said.1.contains("another state") && !other.path().join("third").exists(), "{}", said.1);
}

/// Whoever makes a patch gets nothing out of the directory, and no tree that never ends.
#[test]
fn a_hostile_patch_is_refused() {
    let (real, mut plain) = some_tree();
    let work = tempfile::tempdir().unwrap();
    let (base, dir) = (packed(real.root.path(), work.path(), "a.tar"), work.path().join("over"));
    changed(&base, &dir, &mut plain);
    let state = format::stored(&format::Dir::new(dir.clone())).unwrap().unwrap();
    let tried = |name: &str, state: &format::State, links: bool| {
        let from = work.path().join(format!("{name}.d"));
        fs::create_dir(&from).unwrap();
        fs::write(from.join("changes"), state.encode()).unwrap();
        if links {
            std::os::unix::fs::symlink("/etc", from.join("files")).unwrap();
        } else {
            copied(&dir.join("files"), &from.join("files"));
        }
        let patch = packed(&from, work.path(), &format!("{name}.tar"));
        job::apply(&patch, &work.path().join(name), &base, &how(), &Unwatched)
    };
    assert!(tried("fine", &state, false).is_ok());
    assert!(tried("links", &state, true).is_err());
    let mut canonical = state.changes().unwrap();
    let dirs: Vec<_> =
        canonical.changes.nodes.iter().filter_map(|(node, inode)| Some((*node, inode.as_ref()?.attr.kind))).collect();
    let new = dirs.iter().find(|(node, kind)| *kind == Kind::Directory && node.0 >= format::FIRST_NEW).unwrap().0;
    // A directory in itself, and one with two names.
    let name = stmount::tree::Name::new(b"loop").unwrap().to_owned();
    canonical.changes.set_name(new, name.clone(), Some((new, Kind::Directory)));
    let mut bad = state.clone();
    bad.set(&canonical);
    assert!(tried("twice", &bad, false).is_err());
    let tops: Vec<_> = canonical
        .changes
        .names
        .iter()
        .filter(|(dir, _)| **dir != new)
        .map(|(dir, names)| (*dir, names.clone()))
        .collect();
    for (top, names) in tops {
        for (known, _) in names.iter().filter(|(_, to)| to.is_some_and(|(node, _)| node == new)) {
            canonical.changes.set_name(top, known.clone(), None);
        }
    }
    bad.set(&canonical);
    assert!(tried("loop", &bad, false).is_err());
    let mut canonical = state.changes().unwrap();
    let spot = Spot::Clear { path: b"x".to_vec(), size: 1, mtime: (0, 0) };
    canonical.spots.push((stmount::tree::Node(format::FIRST_NEW + 7000), spot));
    bad.set(&canonical);
    assert!(tried("unknown", &bad, false).is_err());
}

/// Whatever was done, and whatever path of it is taken back: it is what the base has there, and the rest is a tree.
#[test]
fn any_path_can_be_taken_back() {
    let (real, fresh) = some_tree();
    let work = tempfile::tempdir().unwrap();
    let base = packed(real.root.path(), work.path(), "a.tar");
    for round in 0..std::env::var("STMOUNT_ROUNDS").map_or(40, |n| n.parse().unwrap()) {
        let dir = work.path().join(format!("over{round}"));
        let mut dice = Dice(round * 6007 + 3);
        let mut ours_ = ours(&base, &dir);
        for _ in 0..60 {
            let _ = ours_.apply(&dice.op(2000));
        }
        (0..3).for_each(|number| _ = ours_.apply(&Op::Release(number)));
        ours_.vfs.settle().unwrap();
        drop(ours_);
        for _ in 0..4 {
            let path = dice.path();
            let name = path.join("/");
            let before = lines(&job::diff(&dir, None, &how()).unwrap());
            match job::reset_paths(&dir, &[name.clone().into_bytes()], None, &how()) {
                Err(e) => {
                    assert_eq!(e.kind(), ErrorKind::NotFound, "round {round}, {name}: {e}");
                    continue;
                }
                Ok(dropped) => drop(dropped),
            }
            let after = lines(&job::diff(&dir, None, &how()).unwrap());
            let when = format!("round {round}, {name}: {before:?} became {after:?}");
            let dump = ours(&base, &dir).dump();
            let below = |dump: &Dump| {
                let is_at = |path: &str| path == format!("/{name}") || path.starts_with(&format!("/{name}/"));
                let seen = dump.iter().filter(|(path, _)| is_at(path));
                seen.map(|(path, seen)| (path.clone(), (seen.kind, seen.mode, seen.content.clone())))
                    .collect::<Vec<_>>()
            };
            // What the base has there is only there if the directories above are.
            let parent = format!("/{}", path[..path.len() - 1].join("/"));
            let has_parent = path.len() == 1 || dump.get(&parent).is_some_and(|seen| seen.kind == Kind::Directory);
            let is_base = has_parent
                && path[..path.len() - 1].iter().enumerate().all(|(at, _)| {
                    let above = path[..=at].join("/");
                    !after.iter().any(|line| line.ends_with(&format!(" {above}")) && !line.starts_with('P'))
                });
            if is_base {
                // A hard link of it may have been changed under its other name.
                if !below(&fresh.dump())
                    .iter()
                    .any(|(path, _)| fresh.dump()[path].nlink > 1 && fresh.dump()[path].kind == Kind::File)
                {
                    assert_eq!(below(&dump), below(&fresh.dump()), "{when}");
                }
            }
            for (path, seen) in dump.iter().filter(|(_, seen)| seen.kind != Kind::Directory) {
                let names = dump.values().filter(|other| other.same_as == seen.same_as).count();
                assert_eq!(seen.nlink as usize, names, "{path} {when}");
            }
        }
        job::reset(&dir).unwrap();
        agree(ours(&base, &dir).dump(), &fresh.dump(), "all of it");
    }
}

/// A file that is open and has lost its name goes on, and no crash makes anything else of its number.
#[test]
fn a_file_without_a_name_goes_on_as_long_as_it_is_open() {
    let (real, _) = some_tree();
    let work = tempfile::tempdir().unwrap();
    let (base, dir) = (packed(real.root.path(), work.path(), "a.tar"), work.path().join("over"));
    let mut ours_ = ours(&base, &dir);
    ours_.apply(&Op::Create(vec!["x"])).unwrap();
    ours_.apply(&Op::Write(vec!["x"], 0, vec![6; 3000])).unwrap();
    ours_.vfs.settle().unwrap();
    drop(ours_);
    let mut ours_ = ours(&base, &dir);
    for (number, name) in ["d", "x"].into_iter().enumerate() {
        ours_.apply(&Op::Hold(vec![name], number)).unwrap();
        let before = ours_.held(number).unwrap();
        ours_.apply(&Op::Unlink(vec![name])).unwrap();
        ours_.vfs.settle().unwrap();
        assert_eq!(ours_.held(number).unwrap(), before);
        ours_.apply(&Op::WriteHeld(number, 5, vec![9; 20])).unwrap();
        ours_.apply(&Op::Create(vec![["0", "1"][number]])).unwrap();
        ours_.apply(&Op::Write(vec![["0", "1"][number]], 0, vec![number as u8; 50])).unwrap();
        ours_.apply(&Op::Sync).unwrap();
        assert_eq!(ours_.held(number).unwrap()[5..25], [9; 20]);
    }
    let want = ours_.dump();
    for round in 0..4 {
        let crashed = work.path().join(format!("crashed{round}"));
        copied(&dir, &crashed);
        let mut ours_ = ours(&base, &crashed);
        agree(ours_.dump(), &want, &format!("round {round}, crashed"));
        for name in ["later", "last"] {
            ours_.apply(&Op::Create(vec![name])).unwrap();
            ours_.apply(&Op::Write(vec![name], 0, vec![1; 10])).unwrap();
            match round {
                0 => ours_.vfs.settle().unwrap(),
                _ => ours_.apply(&Op::Sync).unwrap(),
            }
        }
        let more = ours_.dump();
        assert_eq!(more.len(), want.len() + 2);
        drop(ours_);
        agree(ours(&base, &crashed).dump(), &more, &format!("round {round}, mounted again"));
    }
}

#[test]
fn a_commit_brings_everything_into_the_base() {
    for name in ["a.zip", "a.st", "a.tar"] {
        let (real, mut plain) = some_tree();
        let work = tempfile::tempdir().unwrap();
        let dir = work.path().join("over");
        let base = match name {
            "a.st" => {
                let mut pack = Command::new(env!("CARGO_BIN_EXE_stmount"));
                assert!(
                    pack.args(["pack", "-q"])
                        .arg(real.root.path())
                        .arg(work.path().join(name))
                        .status()
                        .unwrap()
                        .success()
                );
                work.path().join(name)
            }
            _ => packed(real.root.path(), work.path(), name),
        };
        let shown =
            |path: &Path| dump(&Vfs::new(open::open(path, Cache::new(8 << 20)).unwrap().tree, Policy::default()));
        let mut both = plain.clone();
        if name == "a.zip" {
            // `zip` keeps no hard links: with what is in one of them, the other is as it was.
            let mut ours_ = ours(&base, &dir);
            for op in
                [Op::Create(vec!["x"]), Op::Write(vec!["x"], 0, vec![3; 5000]), Op::Write(vec!["d"], 7, vec![2; 50])]
            {
                assert_eq!((ours_.apply(&op), both.apply(&op)), (Ok(()), Ok(())));
            }
            for op in [Op::Unlink(vec!["c"]), Op::Rename(vec!["b"], vec!["e"], Rename::Replace)] {
                assert_eq!((ours_.apply(&op), both.apply(&op)), (Ok(()), Ok(())));
            }
            ours_.vfs.settle().unwrap();
        } else {
            changed(&base, &dir, &mut both);
        }
        let want = ours(&base, &dir).dump();
        let done = job::commit(&dir, None, &how(), &Unwatched).unwrap();
        assert!(done.entries > 3 && done.bytes > 0 && done.later.is_none());
        let got = comparable(shown(&base));
        let want = comparable(want);
        assert_eq!(got.keys().collect::<Vec<_>>(), want.keys().collect::<Vec<_>>(), "{name}");
        for (path, seen) in &got {
            let (mine, theirs) = (&want[path], seen);
            assert!(
                (mine.kind, mine.mode, &mine.content, &mine.xattrs)
                    == (theirs.kind, theirs.mode, &theirs.content, &theirs.xattrs),
                "{name} {path}"
            );
        }
        assert_eq!(fs::read_dir(dir.join("files")).unwrap().count(), 0);
        assert_eq!(lines(&job::diff(&dir, None, &how()).unwrap()), Vec::<String>::new());
        assert!(job::status(&dir, None, &how()).unwrap().fits.unwrap());
        // And it goes on from there.
        let mut ours_ = ours(&base, &dir);
        ours_.apply(&Op::Create(vec!["again"])).unwrap();
        ours_.vfs.settle().unwrap();
        drop(ours_);
        assert!(ours(&base, &dir).dump().contains_key("/again"));
        plain = both;
        drop(plain);
    }
    // What takes no changes says what does.
    let (real, mut plain) = some_tree();
    let work = tempfile::tempdir().unwrap();
    let dir = work.path().join("over");
    changed(real.root.path(), &dir, &mut plain);
    let e = job::commit(&dir, None, &how(), &Unwatched).err().unwrap();
    assert!(e.kind() == ErrorKind::ReadOnly && e.advice().unwrap().contains("convert"), "{e}");
    agree(ours(real.root.path(), &dir).dump(), &plain.dump(), "after a commit that was refused");
}

// ---- in the hands of people -------------------------------------------------------------------------------------------

fn desk_with(name: &'static str) -> Option<Desk> {
    let desk = Desk::new()?;
    let from = desk.path("from");
    fs::create_dir_all(from.join("data")).unwrap();
    fs::write(from.join("data/level"), vec![7; 50_000]).unwrap();
    fs::write(from.join("keys.cfg"), "jump=space\n").unwrap();
    packed(&from, &desk.path(""), name);
    Some(desk)
}

#[test]
fn a_game_saves_into_a_folder_and_the_archive_stays_as_it_was() {
    let Some(desk) = desk_with("game.zip") else { return };
    let archive = fs::read(desk.path("game.zip")).unwrap();
    let run = |script: &str| desk.say(&["run", "--overlay", "saves", "game.zip", "--", "sh", "-c", script]);
    let said = run("echo x > save && echo jump=w > keys.cfg && rm data/level");
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    assert_eq!(fs::read(desk.path("game.zip")).unwrap(), archive);
    assert_eq!(fs::read_to_string(desk.path("saves/files/save")).unwrap(), "x\n");
    assert_eq!(fs::read_to_string(desk.path("saves/files/keys.cfg")).unwrap(), "jump=w\n");
    assert!(run("test \"$(cat save)$(cat keys.cfg)\" = xjump=w && test ! -e data/level").status.success());
    assert_eq!(desk.ok(&["overlay", "diff", "saves"]), "D data/level\nM keys.cfg\nA save\n");
    let status: serde_json::Value = serde_json::from_str(&desk.ok(&["overlay", "status", "--json", "saves"])).unwrap();
    assert_eq!((&status["fits"], &status["added"], &status["journal"]), (&true.into(), &1.into(), &0.into()));
    // The archive is replaced: never mixed.
    let mut other = archive.clone();
    other.truncate(archive.len() - 1);
    other.push(archive[archive.len() - 1]);
    other[40] ^= 1;
    fs::write(desk.path("game.zip"), &other).unwrap();
    let said = run("true");
    assert_eq!(said.status.code(), Some(44));
    assert!(String::from_utf8_lossy(&said.stderr).contains("another state"));
    fs::write(desk.path("game.zip"), &archive).unwrap();
    desk.ok(&["overlay", "export", "saves", "mine.tar.zst"]);
    assert_eq!(desk.ok(&["overlay", "reset", "saves"]), "D data/level\nM keys.cfg\nA save\n");
    assert!(run("test ! -e save && test -e data/level").status.success());
    // On another machine.
    fs::create_dir(desk.path("elsewhere")).unwrap();
    fs::copy(desk.path("game.zip"), desk.path("elsewhere/g.zip")).unwrap();
    desk.ok(&["overlay", "apply", "mine.tar.zst", "elsewhere/saves", "--base", "elsewhere/g.zip"]);
    let said = desk.say(&["run", "--overlay", "elsewhere/saves", "elsewhere/g.zip", "--", "cat", "save"]);
    assert_eq!(said.stdout, b"x\n");
    desk.ok(&["overlay", "commit", "elsewhere/saves", "elsewhere/g.zip"]);
    assert_eq!(desk.ok(&["cat", "elsewhere/g.zip:save"]), "x\n");
    assert_eq!(fs::read(desk.path("game.zip")).unwrap(), archive);
}

#[test]
fn what_fsync_acknowledged_survives_kill_9() {
    for name in ["game.7z", "game.sqfs", "game.tar"] {
        let Some(desk) = desk_with(name) else { return };
        let archive = fs::read(desk.path(name)).unwrap();
        let mount = || drop(desk.ok(&["-o", "overlay=saves,commit=1h", name, "m"]));
        mount();
        let mut file = File::create(desk.path("m/data/save")).unwrap();
        file.write_all(b"acknowledged").unwrap();
        file.sync_all().unwrap();
        fs::write(desk.path("m/later"), "never synced").unwrap();
        drop(file);
        let said = desk.say(&["-o", "overlay=saves", name, "m2"]);
        assert_eq!(said.status.code(), Some(11), "{}", String::from_utf8_lossy(&said.stderr));
        let said = desk.say(&["overlay", "reset", "saves"]);
        assert!(said.status.code() == Some(11) && String::from_utf8_lossy(&said.stderr).contains("mounted on"));
        desk.kill("-9");
        assert!(desk.ok(&["overlay", "status", "saves"]).contains("journal"));
        mount();
        assert_eq!(fs::read(desk.path("m/data/save")).unwrap(), b"acknowledged");
        assert_eq!(fs::read(desk.path("m/data/level")).unwrap(), vec![7; 50_000]);
        desk.ok(&["commit", "m"]);
        assert_eq!(fs::read(desk.path("saves/files/data/save")).unwrap(), b"acknowledged");
        desk.kill("-9");
        mount();
        assert_eq!(fs::read(desk.path("m/data/save")).unwrap(), b"acknowledged");
        desk.umount();
        assert_eq!(fs::read(desk.path(name)).unwrap(), archive);
    }
}

#[test]
fn changes_lie_in_clear_some_seconds_later() {
    let Some(desk) = desk_with("game.zip") else { return };
    desk.ok(&["-o", "overlay=saves,commit=100ms", "game.zip", "m"]);
    fs::write(desk.path("m/save"), "soon").unwrap();
    until("it lies there", || fs::read(desk.path("saves/files/save")).is_ok_and(|bytes| bytes == b"soon"));
    desk.umount();
}

#[test]
fn a_temporary_overlay_leaves_nothing() {
    let Some(desk) = desk_with("game.zip") else { return };
    let tmp = desk.path("tmp");
    fs::create_dir(&tmp).unwrap();
    let mut mount = Command::new(env!("CARGO_BIN_EXE_stmount"));
    mount.args(["-o", "overlay=tmp", "game.zip", "m"]).current_dir(desk.path("")).env("TMPDIR", &tmp);
    let said = mount.output().unwrap();
    assert!(said.status.success());
    assert!(String::from_utf8_lossy(&said.stderr).contains("gone then"), "{}", String::from_utf8_lossy(&said.stderr));
    fs::write(desk.path("m/save"), "for now").unwrap();
    assert_eq!(fs::read_dir(&tmp).unwrap().count(), 1);
    desk.umount();
    assert_eq!(fs::read_dir(&tmp).unwrap().count(), 0);
    desk.ok(&["game.zip", "m"]);
    assert!(!desk.path("m/save").exists());
    desk.umount();
}

#[test]
fn an_overlay_is_not_where_it_would_see_itself() {
    let Some(desk) = desk_with("game.zip") else { return };
    for (options, source, place) in
        [("overlay=m/in", "game.zip", "m"), ("overlay=from/in", "from", "m"), ("overlay=.", "game.zip", "m")]
    {
        let said = desk.say(&["-o", options, source, place]);
        assert_eq!(said.status.code(), Some(14), "{options}: {}", String::from_utf8_lossy(&said.stderr));
    }
    let said = desk.say(&["-o", "ro,overlay=saves", "game.zip", "m"]);
    assert_eq!(said.status.code(), Some(1));
    assert!(!desk.path("saves").exists());
}

/// Archives inside of a folder as folders, several over each other: what a base is made of, an overlay does not ask.
#[test]
fn what_is_mounted_as_several_takes_changes_as_one() {
    let Some(desk) = desk_with("game.zip") else { return };
    fs::create_dir(desk.path("all")).unwrap();
    fs::copy(desk.path("game.zip"), desk.path("all/inner.zip")).unwrap();
    for (options, source, file) in [
        ("recursive,overlay=o1", "all", "inner.zip#/data/level"),
        ("overlay=o2", "game.zip+all", "data/level"),
        ("overlay=o3", "all", "inner.zip"),
    ] {
        for round in ["first", "second"] {
            desk.ok(&["-o", options, source, "m"]);
            let path = desk.path("m").join(file);
            if round == "first" {
                fs::write(&path, "changed").unwrap();
                fs::rename(&path, path.with_file_name("moved")).unwrap();
            }
            assert_eq!(fs::read(path.with_file_name("moved")).unwrap(), b"changed");
            assert!(!path.exists());
            desk.umount();
        }
    }
    let said = desk.say(&["-o", "overlay=o1", "all", "m"]);
    assert_eq!(said.status.code(), Some(44), "other options are another base");
}
