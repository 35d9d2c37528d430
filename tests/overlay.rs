//! Overlays: changes of anything in a directory beside it, against a model, through crashes, and in the hands of people.

#[allow(dead_code)]
mod common {
    pub mod dice;
    pub mod fs;
    pub mod ops;
}

use common::dice::Dice;
use common::fs::{Dump, Fs, Op, Ours, Plain, Real, dump, with_times_of};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use stmount::cache::Cache;
use stmount::error::Kind as ErrorKind;
use stmount::formats::overlay::{self as format, Before, Spot, What};
use stmount::open::overlay::{attach, attach_watched, hold};
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
        assert!(mine == Some(seen), "{when}: {path:?} differs: {mine:?} instead of {seen:?}");
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
        let base = if kind == "folder" { real.root().to_owned() } else { packed(real.root(), work.path(), kind) };
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
                    (0..3).for_each(|number| _ = (ours_.apply(&Op::Release(number)), plain.apply(&Op::Release(number))));
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
