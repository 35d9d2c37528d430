//! An overlay over some base, for tests.

use super::agree::agree;
use super::fs::{Dump, Fs, Op, Ours, Plain, Real};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use stmount::cache::Cache;
use stmount::formats::overlay::{self as format, Spot};
use stmount::open::{self, Claim, How};
use stmount::vfs::Rename;

pub fn how() -> How {
    How::new(Cache::new(8 << 20))
}

pub fn ours(base: &Path, dir: &Path) -> Ours {
    Ours::of(open::overlay::open_overlaid(base, dir, &how(), &Claim::default()).unwrap())
}

#[track_caller]
pub fn refused(base: &Path, dir: &Path) -> stmount::error::Error {
    open::overlay::open_overlaid(base, dir, &how(), &Claim::default()).err().expect("it is refused")
}

/// What a base has: files, directories, hard links, symbolic ones.
pub fn some_tree() -> (Real, Plain) {
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
pub fn packed(from: &Path, dir: &Path, name: &str) -> PathBuf {
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

pub fn lines(changes: &[format::Change]) -> Vec<String> {
    let text = |path: &[u8]| String::from_utf8(path.to_vec()).unwrap();
    let line = |change: &format::Change| match &change.from {
        Some(from) => format!("{} {} -> {}", change.what.letter(), text(from), text(&change.path)),
        None => format!("{} {}", change.what.letter(), text(&change.path)),
    };
    changes.iter().map(line).collect()
}

/// An overlay with one change of each kind over some base, and the tree as it is with them.
pub fn changed(base: &Path, dir: &Path, plain: &mut Plain) {
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

pub const CHANGED: &[&str] = &["P a/b/a", "M a/b/d", "R d -> b/d", "D c", "A n", "A n/y", "A x"];

pub fn sorted(mut lines: Vec<String>) -> Vec<String> {
    lines.sort();
    lines
}

/// Whoever looks into the directory sees contents in clear: each that the state speaks of, and nothing else.
pub fn lies_in_clear(dir: &Path, model: &Dump) {
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

pub fn copied(from: &Path, to: &Path) {
    assert!(Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap().success());
}
