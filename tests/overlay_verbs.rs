//! What people do with an overlay: look at it, take it back, take it along, bring it into its base.

#[allow(dead_code)]
mod common {
    pub mod agree;
    pub mod dice;
    pub mod dress;
    pub mod fs;
    pub mod ops;
    pub mod overlaid;
}

use common::agree::{agree, comparable};
use common::dice::Dice;
use common::fs::{Dump, Fs, Op, dump};
use common::overlaid::{CHANGED, changed, copied, how, lies_in_clear, lines, ours, packed, some_tree, sorted};
use std::fs::{self};
use std::path::Path;
use std::process::Command;
use stmount::cache::Cache;
use stmount::error::Kind as ErrorKind;
use stmount::formats::Unwatched;
use stmount::formats::overlay::{self as format, Spot};
use stmount::jobs::overlay as job;
use stmount::open::{self};
use stmount::tree::Kind;
use stmount::vfs::{Policy, Rename, Vfs};

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
