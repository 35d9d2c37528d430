//! Archives of other makers that take changes: against a model, with other people's tools as witnesses.

#[allow(dead_code)]
mod common {
    pub mod agree;
    pub mod dice;
    pub mod dress;
    pub mod fs;
    pub mod ops;
}

use common::agree::{agree, comparable};
use common::dice::Dice;
use common::fs::{Dump, Fs, Op, Ours, Plain, dump};
use std::path::Path;
use std::process::Command;
use stmount::cache::Cache;
use stmount::formats::{Holds, Upkeep};
use stmount::open::{self, Claim, How};
use stmount::vfs::{Policy, Vfs};

fn ours(path: &Path) -> Ours {
    let how = How::new(Cache::new(8 << 20));
    Ours::of(open::open_claimed(path, &how, &Claim::default(), Upkeep::default(), true).unwrap())
}

/// What a reader sees of the archive alone.
fn settled(path: &Path) -> Dump {
    let volume = open::open(path, Cache::new(8 << 20)).unwrap();
    dump(&Vfs::new(volume.tree, Policy::default()))
}

/// What is in an archive when GNU tar unpacks it.
fn unpacked(path: &Path) -> Dump {
    let dir = tempfile::tempdir().unwrap();
    let mut tar = Command::new("tar");
    let done = tar
        .arg(compression(kind_of(path)))
        .args(["--xattrs", "--xattrs-include=*", "-xpf"])
        .arg(path)
        .arg("-C")
        .arg(dir.path())
        .output()
        .unwrap();
    assert!(done.status.success(), "{}: {}", path.display(), String::from_utf8_lossy(&done.stderr));
    dump(&Vfs::new(open::open(dir.path(), Cache::new(8 << 20)).unwrap().tree, Policy::default()))
}

/// No other program has anything to say against the archive.
#[track_caller]
fn witnesses(path: &Path) {
    assert_eq!(refusals(path), Vec::<String>::new());
}

/// What other programs say against the archive.
fn refusals(path: &Path) -> Vec<String> {
    let of_zip: &[&[&str]] = &[
        &["unzip", "-tqq"],
        &["7z", "t", "-bso0", "-bsp0"],
        &["bsdtar", "-tf"],
        &["python3", "-c", "import sys, zipfile; assert zipfile.ZipFile(sys.argv[1]).testzip() is None"],
    ];
    let of_tar: &[&[&str]] = &[
        &["tar", "-tf"],
        &["bsdtar", "-tf"],
        &["python3", "-c", "import sys, tarfile; [m for m in tarfile.open(sys.argv[1]) if m.isfile() and m.size < 0]"],
    ];
    let of_7z: &[&[&str]] = &[&["7z", "t", "-bso0", "-bsp0"], &["bsdtar", "-tf"]];
    let commands = match kind_of(path) {
        "zip" => of_zip,
        "7z" => of_7z,
        // The others Python does not know.
        "tar" | "tar.gz" | "tar.bz2" | "tar.xz" => of_tar,
        "tar.lz4" => &of_tar[1..2],
        _ => &of_tar[..2],
    };
    let refused = |command: &&[&str]| -> Option<String> {
        let done = Command::new(command[0]).args(&command[1..]).arg(path).output().unwrap();
        let told = String::from_utf8_lossy(&[done.stdout, done.stderr].concat()).into_owned();
        // Of an archive with nothing in it unzip says that there is nothing in it.
        let is_fine = done.status.success() || told.contains("zipfile is empty");
        (!is_fine).then(|| format!("{}: {told}", command[0]))
    };
    commands.iter().filter_map(refused).collect()
}

/// The ending of its name.
fn kind_of(path: &Path) -> &str {
    path.file_name().unwrap().to_str().unwrap().split_once('.').unwrap().1
}

/// How GNU tar is told what it does not know by itself.
fn compression(kind: &str) -> &'static str {
    if kind == "tar.lz4" { "-Ilz4" } else { "-a" }
}

/// An archive with nothing in it.
fn empty(dir: &Path, kind: &str) -> std::path::PathBuf {
    let path = dir.join(format!("a.{kind}"));
    match kind {
        "zip" => std::fs::write(&path, [&b"PK\x05\x06"[..], &[0; 18]].concat()).unwrap(),
        "7z" => {
            let place = [0; 20];
            let sum = crc32fast::hash(&place).to_le_bytes();
            std::fs::write(&path, [&b"7z\xbc\xaf\x27\x1c\0\x04"[..], &sum, &place].concat()).unwrap();
        }
        _ => {
            let made =
                Command::new("tar").arg(compression(kind)).arg("-cf").arg(&path).args(["-T", "/dev/null"]).status();
            assert!(made.unwrap().success());
        }
    }
    path
}

macro_rules! of_every_kind {
    ($($name:ident: $kind:literal, $rounds:literal;)*) => {
        mod model {
            $(#[test] fn $name() { super::an_archive_is_what_a_model_is_whenever_it_is_looked_at($kind, $rounds); })*
        }
    };
}

of_every_kind! {
    zip: "zip", 12;
    seven_z: "7z", 6;
    tar: "tar", 6;
    tar_gz: "tar.gz", 4;
    tar_bz2: "tar.bz2", 2;
    tar_xz: "tar.xz", 2;
    tar_zst: "tar.zst", 4;
    tar_lz4: "tar.lz4", 2;
}

fn an_archive_is_what_a_model_is_whenever_it_is_looked_at(kind: &str, rounds: u64) {
    let rounds = std::env::var("STMOUNT_ROUNDS").map_or(rounds, |n| n.parse().unwrap());
    for round in 0..rounds {
        let dir = tempfile::tempdir().unwrap();
        let path = empty(dir.path(), kind);
        let mut dice = Dice(round * 7919 + 5);
        let most = dice.of(&[3000, 100_000]);
        let holds = if kind == "7z" { stmount::formats::sevenz::pack::HOLDS } else { Holds::EVERYTHING };
        let (mut ours_, mut plain) = (ours(&path), Plain::holding(holds));
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
                1 => {
                    ours_.vfs.settle().unwrap();
                    agree(ours_.dump(), &plain.dump(), &format!("{when}, settled"));
                }
                // Dropped without a sync it may lose what was not synced; here nothing was.
                2 | 3 => {
                    (0..3).for_each(|number| {
                        let _ = (ours_.apply(&Op::Release(number)), plain.apply(&Op::Release(number)));
                    });
                    ours_.apply(&Op::Sync).unwrap();
                    if dice.below(2) == 0 {
                        ours_.vfs.settle().unwrap();
                        agree(settled(&path), &plain.dump(), &format!("{when}, read"));
                        witnesses(&path);
                    }
                    drop(ours_);
                    ours_ = ours(&path);
                    agree(ours_.dump(), &plain.dump(), &format!("{when}, mounted again"));
                }
                4 | 5 => agree(ours_.dump(), &plain.dump(), &when),
                _ => {}
            }
        }
        (0..3).for_each(|number| _ = (ours_.apply(&Op::Release(number)), plain.apply(&Op::Release(number))));
        ours_.vfs.settle().unwrap();
        drop(ours_);
        agree(settled(&path), &plain.dump(), &format!("round {round}, at the end"));
        witnesses(&path);
        if kind.starts_with("tar") {
            agree(unpacked(&path), &plain.dump(), &format!("round {round}, unpacked by tar"));
        }
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "nothing else is left beside it");
    }
}

/// A zip with a few files in it, as `zip` makes it.
fn some_zip(dir: &Path) -> std::path::PathBuf {
    let from = dir.join("from");
    std::fs::create_dir_all(from.join("d")).unwrap();
    for (name, len) in [("a", 50_000), ("b", 10), ("d/c", 3000)] {
        let bytes: Vec<u8> = (0..len).map(|i: u32| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        std::fs::write(from.join(name), bytes).unwrap();
    }
    let made = Command::new("zip").args(["-q", "../a.zip", "d", "d/c", "a", "b"]).current_dir(&from).status().unwrap();
    assert!(made.success());
    std::fs::remove_dir_all(&from).unwrap();
    dir.join("a.zip")
}

/// The power fails while changes are brought into an archive: after whatever was written of it, the changes are there.
#[test]
fn whatever_was_written_of_an_archive_the_changes_are_there() {
    // What is changed: behind the old archive, or so that all of it is written anew.
    let appended = |ours: &mut Ours| {
        ours.apply(&Op::Create(vec!["new"])).unwrap();
        ours.apply(&Op::Write(vec!["new"], 0, vec![7; 30_000])).unwrap();
        ours.apply(&Op::Rename(vec!["b"], vec!["d", "b"], stmount::vfs::Rename::Replace)).unwrap();
    };
    let dir = tempfile::tempdir().unwrap();
    let path = some_zip(dir.path());
    let (old, seen_before) = (std::fs::read(&path).unwrap(), settled(&path));
    let mut ours_ = ours(&path);
    appended(&mut ours_);
    ours_.apply(&Op::Sync).unwrap();
    let (journal, kept) = (dir.path().join("a.zip.stjournal"), dir.path().join("kept"));
    let before = std::fs::read(&journal).unwrap();
    // The same file, whatever becomes of its name.
    std::fs::hard_link(&journal, &kept).unwrap();
    let want = ours_.dump();
    ours_.vfs.settle().unwrap();
    drop(ours_);
    let (new, after) = (std::fs::read(&path).unwrap(), std::fs::read(&kept).unwrap());
    assert!(new.starts_with(&old) && new.len() > old.len() && !journal.exists());
    let cuts = (old.len()..=new.len()).step_by(977).chain([new.len() - 1, new.len() - 22, new.len()]);
    for cut in cuts {
        let torn = cut > old.len() && cut < new.len();
        std::fs::write(&path, &new[..cut]).unwrap();
        // Before anything is written to the archive, the journal says what it will be.
        std::fs::write(&journal, if cut == old.len() { &before } else { &after }).unwrap();
        if cut < new.len() {
            agree(settled(&path), &seen_before, &format!("cut at {cut}, only read"));
        }
        let ours_ = ours(&path);
        agree(ours_.dump(), &want, &format!("cut at {cut}"));
        assert_eq!(std::fs::read(&path).unwrap().len(), if torn { old.len() } else { cut });
        ours_.vfs.settle().unwrap();
        drop(ours_);
        agree(settled(&path), &want, &format!("cut at {cut}, settled"));
        assert!(!journal.exists());
    }
    witnesses(&path);
}

/// The same with a tar, where what is new begins in the place of the end: until its first block is there, the archive ends
/// where it did.
#[test]
fn a_tar_to_which_something_is_appended_is_the_old_one_or_the_new_one() {
    for kind in ["tar", "tar.gz", "tar.bz2", "tar.xz", "tar.zst", "tar.lz4"] {
        let dir = tempfile::tempdir().unwrap();
        let path = empty(dir.path(), kind);
        let mut ours_ = ours(&path);
        for name in ["a", "b", "c"] {
            ours_.apply(&Op::Create(vec![name])).unwrap();
            ours_.apply(&Op::Write(vec![name], 0, vec![name.as_bytes()[0]; 3000])).unwrap();
        }
        ours_.vfs.settle().unwrap();
        let (old, before) = (std::fs::read(&path).unwrap(), ours_.dump());
        ours_.apply(&Op::Create(vec!["new"])).unwrap();
        ours_.apply(&Op::Write(vec!["new"], 0, (0..60_000u32).map(|i| ((i * i) >> 7) as u8).collect())).unwrap();
        ours_.apply(&Op::Write(vec!["b"], 10, vec![1; 10])).unwrap();
        ours_.apply(&Op::Sync).unwrap();
        let (journal, kept) = (dir.path().join(format!("a.{kind}.stjournal")), dir.path().join("kept"));
        std::fs::hard_link(&journal, &kept).unwrap();
        let want = ours_.dump();
        ours_.vfs.settle().unwrap();
        drop(ours_);
        let (new, after) = (std::fs::read(&path).unwrap(), std::fs::read(&kept).unwrap());
        assert!(!journal.exists());
        let at = old.iter().zip(&new).take_while(|(a, b)| a == b).count();
        let at = if kind == "tar" { at / 512 * 512 } else { at };
        // It was appended, and not written anew.
        assert!(at > 0 && old.len() - at <= if kind == "tar" { 10240 } else { 320 }, "{kind}: {at} of {}", old.len());
        let last = if kind == "tar" { at + 512 } else { old.len() };
        for cut in (last..new.len()).step_by(1531) {
            let torn = [&old[..last], &new[last..cut]].concat();
            std::fs::write(&path, &torn).unwrap();
            // Of xz nothing is shown that is followed by something else than xz at once.
            if kind != "tar.xz" {
                agree(settled(&path), &before, &format!("{kind}, cut at {cut}, as others see it"));
            }
            std::fs::write(&journal, &after).unwrap();
            let ours_ = ours(&path);
            assert!(std::fs::read(&path).unwrap() == old, "{kind}, cut at {cut}: it is what it was");
            agree(ours_.dump(), &want, &format!("{kind}, cut at {cut}"));
            ours_.vfs.settle().unwrap();
            drop(ours_);
            agree(settled(&path), &want, &format!("{kind}, cut at {cut}, settled"));
            witnesses(&path);
        }
        // All is written, and the journal is still there.
        std::fs::write(&path, &new).unwrap();
        std::fs::write(&journal, &after).unwrap();
        agree(ours(&path).dump(), &want, &format!("{kind}, whole"));
        assert!(!journal.exists());
    }
}

/// Who edits a file of a tar that somebody else has made finds all else as it was, byte by byte.
#[test]
fn of_a_tar_of_another_maker_only_what_was_edited_changes() {
    let python =
        "import sys, tarfile; t = tarfile.open(sys.argv[1], 'w', format=tarfile.GNU_FORMAT); t.add('.'); t.close()";
    let makers: [&[&str]; 7] = [
        &["tar", "--format=gnu", "-cf", "../a.tar", "."],
        &["tar", "--format=posix", "--sort=name", "-cf", "../a.tar", "."],
        &["tar", "--format=v7", "-cf", "../a.tar", "a", "b", "d"],
        &["tar", "--format=ustar", "-b", "1", "-cf", "../a.tar", "d", "a", "b"],
        &["bsdtar", "-cf", "../a.tar", "a", "b", "d"],
        &["bsdtar", "--format=pax", "-cf", "../a.tar", "."],
        &["python3", "-c", python, "../a.tar"],
    ];
    for maker in makers {
        let dir = tempfile::tempdir().unwrap();
        let (from, path) = (dir.path().join("from"), dir.path().join("a.tar"));
        std::fs::create_dir_all(from.join("d")).unwrap();
        for (name, len) in [("a", 50_000), ("b", 10), ("d/c", 3000)] {
            std::fs::write(from.join(name), vec![name.as_bytes()[0]; len]).unwrap();
        }
        std::os::unix::fs::symlink("a", from.join("d/link")).unwrap();
        assert!(Command::new(maker[0]).args(&maker[1..]).current_dir(&from).status().unwrap().success());
        let old = std::fs::read(&path).unwrap();
        let mut ours_ = ours(&path);
        let mut want = ours_.dump();
        ours_.apply(&Op::Write(vec!["b"], 5, vec![7; 100])).unwrap();
        ours_.vfs.settle().unwrap();
        let content = [&[b'b'; 5][..], &[7; 100]].concat();
        want.insert("/b".into(), common::fs::Seen { content, ..ours_.dump()["/b"].clone() });
        drop(ours_);
        let new = std::fs::read(&path).unwrap();
        let zeros = old.iter().rev().take_while(|byte| **byte == 0).count();
        let body = (old.len() - zeros).next_multiple_of(512);
        assert!(new[..body] == old[..body] && new.len() > body, "{maker:?}: what was there is there");
        agree(settled(&path), &want, &format!("{maker:?}"));
        // Some have no entry for the root.
        let (mut seen, _) = (unpacked(&path), want.remove(""));
        seen.remove("");
        agree(seen, &want, &format!("{maker:?}, unpacked by tar"));
        witnesses(&path);
    }
}

/// Each time that changes go into a zip it keeps what it was.
#[test]
fn a_zip_has_the_states_that_it_had() {
    use stmount::formats;
    let dir = tempfile::tempdir().unwrap();
    let path = some_zip(dir.path());
    let at = |state: usize| settled(&dir.path().join(format!("a.zip@{state}")));
    let mut ours_ = ours(&path);
    let mut states = vec![ours_.dump()];
    let ops = [
        vec![Op::Create(vec!["x"]), Op::Write(vec!["x"], 0, vec![7; 9000])],
        // A zip in the zip has an end record, too.
        vec![Op::Create(vec!["d", "in.zip"]), Op::Write(vec!["d", "in.zip"], 0, std::fs::read(&path).unwrap())],
        vec![Op::Unlink(vec!["x"]), Op::Chmod(vec!["b"], 0o600)],
        vec![Op::Write(vec!["a"], 5, vec![1; 5])],
    ];
    for step in ops {
        step.iter().for_each(|op| ours_.apply(op).unwrap());
        ours_.vfs.settle().unwrap();
        states.push(ours_.dump());
    }
    drop(ours_);
    let check = |states: &[Dump]| {
        let all = formats::generations(&open::access(&path, &How::new(Cache::new(8 << 20))).unwrap()).unwrap();
        let numbers: Vec<_> = all.iter().rev().map(|generation| generation.sequence as usize).collect();
        assert_eq!(numbers, (1..=states.len()).collect::<Vec<_>>());
        states.iter().enumerate().for_each(|(n, state)| agree(at(n + 1), state, &format!("state {}", n + 1)));
    };
    check(&states);
    let how = How::new(Cache::new(8 << 20));
    open::open_to_change(&path, &how).unwrap().restore("2").unwrap();
    states.push(states[1].clone());
    check(&states);
    witnesses(&path);
    let e = open::open_to_change(&path, &how).unwrap().restore("17").err().unwrap();
    assert_eq!(e.kind(), stmount::error::Kind::NotFound);
    let len = path.metadata().unwrap().len();
    open::open_to_change(&path, &how).unwrap().compact(&formats::Unwatched).unwrap();
    assert!(path.metadata().unwrap().len() < len);
    check(&states[1..2]);
    witnesses(&path);
}

/// What is written anew keeps the old one, as many as are asked for.
#[test]
fn old_archives_are_kept_when_that_is_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let path = some_zip(dir.path());
    let mut had = Vec::new();
    for name in ["a", "b", "d/c"] {
        let how = How { backups: 2, ..How::new(Cache::new(8 << 20)) };
        let mut ours_ = Ours::of(open::open_claimed(&path, &how, &Claim::default(), Upkeep::default(), true).unwrap());
        ours_.apply(&Op::Unlink(name.split('/').collect())).unwrap();
        ours_.vfs.settle().unwrap();
        drop(ours_);
        had.push(std::fs::read(&path).unwrap());
        open::open_to_change(&path, &how).unwrap().compact(&stmount::formats::Unwatched).unwrap();
    }
    let kept = |name: &str| std::fs::read(dir.path().join(name)).unwrap();
    assert!(kept("a.zip.bak") == had[2] && kept("a.zip.bak2") == had[1] && !dir.path().join("a.zip.bak3").exists());
    for name in ["a.zip.bak", "a.zip.bak2"] {
        std::fs::rename(dir.path().join(name), dir.path().join("b.zip")).unwrap();
        witnesses(&dir.path().join("b.zip"));
    }
}

/// Somebody puts another archive in the place of one that is open: that one stays as it is, and the changes go to a copy of
/// what they were made to.
#[test]
fn an_archive_that_was_replaced_is_not_written_over() {
    for kind in ["zip", "tar", "tar.gz", "7z"] {
        let dir = tempfile::tempdir().unwrap();
        let path = empty(dir.path(), kind);
        let mut ours_ = ours(&path);
        ours_.apply(&Op::Create(vec!["one"])).unwrap();
        ours_.vfs.settle().unwrap();
        ours_.apply(&Op::Create(vec!["two"])).unwrap();
        ours_.apply(&Op::Sync).unwrap();
        std::fs::write(dir.path().join("other"), b"another one").unwrap();
        std::fs::rename(dir.path().join("other"), &path).unwrap();
        let want = ours_.dump();
        ours_.vfs.settle().unwrap();
        ours_.apply(&Op::Create(vec!["three"])).unwrap();
        let later = ours_.dump();
        assert!(later.len() > want.len());
        ours_.vfs.settle().unwrap();
        drop(ours_);
        assert_eq!(std::fs::read(&path).unwrap(), b"another one");
        let names = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().path());
        let copies: Vec<_> = names.filter(|name| *name != path).collect();
        assert_eq!(copies.len(), 1, "{copies:?}");
        let name = copies[0].file_name().unwrap().to_str().unwrap().to_owned();
        assert!(name.starts_with("a.") && name.contains("conflict-"), "{name}");
        agree(settled(&copies[0]), &later, &name);
    }
}

/// Of a directory without an entry of its own, an archive only speaks as long as there is something in it.
#[test]
fn a_directory_stays_when_the_last_file_in_it_goes() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.zip");
    let script = "import sys, zipfile; z = zipfile.ZipFile(sys.argv[1], 'w'); z.writestr('a', 'a'); z.writestr('d/e/f', 'f'); z.close()";
    assert!(Command::new("python3").args(["-c", script]).arg(&path).status().unwrap().success());
    let mut ours_ = ours(&path);
    ours_.apply(&Op::Mtime(vec!["d"], 1000)).unwrap();
    ours_.apply(&Op::Chmod(vec!["a"], 0o600)).unwrap();
    ours_.vfs.settle().unwrap();
    // Its time alone is no reason to give it an entry.
    let listed = Command::new("unzip").arg("-Z1").arg(&path).output().unwrap();
    assert_eq!(String::from_utf8(listed.stdout).unwrap(), "a\nd/e/f\n");
    ours_.apply(&Op::Unlink(vec!["d", "e", "f"])).unwrap();
    ours_.vfs.settle().unwrap();
    drop(ours_);
    let names: Vec<_> = settled(&path).into_keys().collect();
    assert_eq!(names, ["", "/a", "/d", "/d/e"]);
    witnesses(&path);
}

/// A file that is in the archive already gets further names, and none of them is lost.
#[test]
fn a_file_of_the_archive_gets_further_names() {
    let dir = tempfile::tempdir().unwrap();
    let path = some_zip(dir.path());
    let mut ours_ = ours(&path);
    for (from, to) in [(vec!["a"], vec!["a2"]), (vec!["a"], vec!["d", "a3"]), (vec!["d", "c"], vec!["c2"])] {
        ours_.apply(&Op::Link(from, to)).unwrap();
    }
    let want = ours_.dump();
    for _ in 0..2 {
        ours_.vfs.settle().unwrap();
        agree(ours_.dump(), &want, "settled");
    }
    drop(ours_);
    agree(settled(&path), &want, "read");
    assert_eq!(settled(&path)["/d/a3"].nlink, 3);
    witnesses(&path);
}

/// A journal belongs to one state of one archive.
#[test]
fn a_journal_of_another_archive_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = some_zip(dir.path());
    let mut ours_ = ours(&path);
    ours_.apply(&Op::Create(vec!["new"])).unwrap();
    ours_.apply(&Op::Sync).unwrap();
    drop(ours_);
    let journal = dir.path().join("a.zip.stjournal");
    let kept = std::fs::read(&journal).unwrap();
    let mut other = std::fs::read(&path).unwrap();
    other[100] ^= 1;
    std::fs::write(&path, &other).unwrap();
    let how = How::new(Cache::new(8 << 20));
    let opened = open::open_claimed(&path, &how, &Claim::default(), Upkeep::default(), true);
    let e = opened.err().expect("it is another archive");
    assert_eq!(e.kind(), stmount::error::Kind::Changed, "{e}");
    assert_eq!(std::fs::read(&journal).unwrap(), kept);
    assert_eq!(std::fs::read(&path).unwrap(), other);
}

/// Whatever is wrong with a journal: what is whole of it is there, and nothing else.
#[test]
fn a_torn_or_damaged_journal_ends_where_it_is_torn() {
    let dir = tempfile::tempdir().unwrap();
    let path = some_zip(dir.path());
    let mut ours_ = ours(&path);
    let (mut states, mut ends) = (vec![ours_.dump()], vec![0]);
    let journal = dir.path().join("a.zip.stjournal");
    for name in ["x", "y", "z"] {
        ours_.apply(&Op::Create(vec![name])).unwrap();
        ours_.apply(&Op::Write(vec![name], 100, vec![5; 2000])).unwrap();
        ours_.apply(&Op::Sync).unwrap();
        states.push(ours_.dump());
        ends.push(0);
    }
    drop(ours_);
    let whole = std::fs::read(&journal).unwrap();
    // Where each batch ends: the shortest front that shows its state.
    for cut in (0..=whole.len()).step_by(41).chain([whole.len()]) {
        std::fs::write(&journal, &whole[..cut]).unwrap();
        let how = How::new(Cache::new(8 << 20));
        match open::open_claimed(&path, &how, &Claim::default(), Upkeep::default(), true) {
            Ok(volume) => {
                let seen = comparable(Ours::of(volume).dump());
                let state = states.iter().position(|state| comparable(state.clone()) == seen);
                let state = state.unwrap_or_else(|| panic!("cut at {cut}: it is none of the states"));
                ends[state] = cut;
                assert!(ends[state + 1..].iter().all(|end| *end == 0), "a longer journal has less in it");
            }
            Err(e) => panic!("cut at {cut}: {e}"),
        }
    }
    assert_eq!(ends[3], whole.len());
    assert!(ends[1] > 0 && ends[2] > ends[1]);
    for at in (0..whole.len()).step_by(89) {
        let mut damaged = whole.clone();
        damaged[at] ^= 0x10;
        std::fs::write(&journal, &damaged).unwrap();
        let how = How::new(Cache::new(8 << 20));
        if let Ok(volume) = open::open_claimed(&path, &how, &Claim::default(), Upkeep::default(), true) {
            let seen = comparable(Ours::of(volume).dump());
            assert!(states[..3].iter().any(|state| comparable(state.clone()) == seen), "damaged at {at}");
        }
    }
}

/// What a zip has no room for is refused when it is asked for: what was taken is kept.
#[test]
fn attributes_that_do_not_fit_are_refused_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let path = some_zip(dir.path());
    let mut ours_ = ours(&path);
    ours_.apply(&Op::SetXattr(vec!["a"], "user.large", vec![1; 39 << 10])).unwrap();
    let more = ours_.apply(&Op::SetXattr(vec!["a"], "user.more", vec![1; 2 << 10]));
    assert_eq!(more, Err(stmount::error::Kind::NoSpace));
    let want = ours_.dump();
    ours_.vfs.settle().unwrap();
    drop(ours_);
    agree(settled(&path), &want, "settled");
    witnesses(&path);
}

/// A program has a file open that has no name any more, and goes on with it, whatever becomes of the archive.
#[test]
fn a_file_without_a_name_goes_on_when_the_archive_is_another_one() {
    let dir = tempfile::tempdir().unwrap();
    let path = some_zip(dir.path());
    let mut ours_ = ours(&path);
    for (number, name) in ["a", "new"].into_iter().enumerate() {
        if name == "new" {
            ours_.apply(&Op::Create(vec![name])).unwrap();
            ours_.apply(&Op::Write(vec![name], 0, vec![9; 5000])).unwrap();
        }
        ours_.apply(&Op::Hold(vec![name], number)).unwrap();
        ours_.apply(&Op::WriteHeld(number, 100, vec![3; 50])).unwrap();
        ours_.apply(&Op::Sync).unwrap();
        ours_.apply(&Op::Unlink(vec![name])).unwrap();
    }
    let before = [ours_.held(0), ours_.held(1)];
    for round in 0..3u8 {
        ours_.vfs.settle().unwrap();
        assert!([ours_.held(0), ours_.held(1)] == before, "round {round}");
        ours_.vfs.statfs().unwrap();
        ours_.apply(&Op::Create(vec![["x", "y", "z"][usize::from(round)]])).unwrap();
    }
    ours_.apply(&Op::WriteHeld(0, 40, vec![0x5a; 9000])).unwrap();
    ours_.apply(&Op::Sync).unwrap();
    let changed = ours_.held(0).unwrap();
    assert!(changed[40..9040].iter().all(|b| *b == 0x5a));
    // What is in the journal of them is nobody's any more.
    let again = std::fs::read(dir.path().join("a.zip.stjournal")).unwrap();
    ours_.vfs.settle().unwrap();
    (0..2).for_each(|number| ours_.apply(&Op::Release(number)).unwrap());
    ours_.apply(&Op::Sync).unwrap();
    ours_.vfs.statfs().unwrap();
    drop(ours_);
    assert!(!again.is_empty());
    assert!(!dir.path().join("a.zip.stjournal").exists());
    let names: Vec<_> = settled(&path).into_keys().collect();
    assert_eq!(names, ["", "/b", "/d", "/d/c", "/x", "/y", "/z"]);
}

/// A file without a name was in an archive of before: its number there is none that anything new may get.
#[test]
fn what_is_new_is_never_taken_for_a_file_that_was_there_before() {
    let dir = tempfile::tempdir().unwrap();
    let path = some_zip(dir.path());
    let mut ours_ = ours(&path);
    for op in [Op::Hold(vec!["a"], 0), Op::Unlink(vec!["a"])] {
        ours_.apply(&op).unwrap();
    }
    ours_.vfs.settle().unwrap();
    for op in [Op::Release(0), Op::Chmod(vec!["b"], 0o600), Op::Sync] {
        ours_.apply(&op).unwrap();
    }
    drop(ours_);
    ours_ = ours(&path);
    ours_.apply(&Op::Create(vec!["new"])).unwrap();
    ours_.apply(&Op::Write(vec!["new"], 0, b"new".to_vec())).unwrap();
    let want = ours_.dump();
    ours_.apply(&Op::Sync).unwrap();
    agree(ours_.dump(), &want, "synced");
    ours_.vfs.settle().unwrap();
    agree(ours_.dump(), &want, "settled");
    drop(ours_);
    assert_eq!(settled(&path)["/new"].content, b"new");
    assert_eq!(settled(&path).len(), want.len());
}

/// Archives of other makers, one entry of which is edited: all others are what they were, bit by bit, in front of their data,
/// in the data, and in the list.
#[test]
fn of_an_archive_of_another_maker_only_what_was_edited_changes() {
    const TREE: &str = "mkdir -p from/d from/META-INF && cd from && seq 9000 >a && seq 50 >d/c && printf x >d/empty-not && : >d/empty && \
                        echo Manifest-Version: 1.0 >META-INF/MANIFEST.MF && ln -s a link";
    const MAKERS: &[(&str, &str)] = &[
        ("zip", "cd from && zip -qry ../a.zip ."),
        ("zip to a pipe", "cd from && zip -qr - . | cat >../a.zip"),
        ("7-Zip", "cd from && 7z a -bso0 -bsp0 ../a.zip ."),
        ("bsdtar", "cd from && bsdtar -cf ../a.zip --format zip *"),
        (
            "self-extracting",
            "cd from && zip -qr ../b.zip . && cd .. && (head -c 5000 /dev/urandom; cat b.zip) >a.zip && zip -qA a.zip",
        ),
        ("with a prefix", "cd from && zip -qr ../b.zip . && cd .. && (printf '#!/bin/sh\\nexit\\n'; cat b.zip) >a.zip"),
        (
            "java",
            "cd from && python3 -c \"
import zipfile
z = zipfile.ZipFile('../a.zip', 'w', zipfile.ZIP_DEFLATED)
i = zipfile.ZipInfo('META-INF/MANIFEST.MF'); i.extra = b'\\xfe\\xca\\0\\0'; i.create_system = 0; i.flag_bits = 0x808
z.writestr(i, open('META-INF/MANIFEST.MF').read())
for n in ['a', 'd/c', 'd/empty']: z.write(n)
z.comment = b'made by a test'
z.close()\"",
        ),
        (
            "macOS",
            "cd from && python3 -c \"
import zipfile
z = zipfile.ZipFile('../a.zip', 'w', zipfile.ZIP_DEFLATED)
for n in ['a', 'd/c']:
    z.write(n); z.writestr('__MACOSX/._' + n, b'\\0\\5\\x16\\7' + b'x' * 100)
z.close()\"",
        ),
    ];
    const LOOK: &str = "
import sys, zipfile, hashlib
z = zipfile.ZipFile(sys.argv[1]); f = open(sys.argv[1], 'rb')
for i in z.infolist():
    if i.filename == 'd/c': continue
    f.seek(i.header_offset); head = f.read(30)
    rest = f.read(int.from_bytes(head[26:28], 'little') + int.from_bytes(head[28:30], 'little') + i.compress_size)
    print(i.filename, i.flag_bits, i.compress_type, i.CRC, i.file_size, i.compress_size, i.external_attr, i.create_system, i.create_version,
          i.extract_version, i.date_time, i.extra.hex(), i.comment, hashlib.md5(head + rest).hexdigest())
print(z.comment)";
    for (maker, script) in MAKERS {
        let dir = tempfile::tempdir().unwrap();
        let shell = |script: &str| {
            let done = Command::new("sh").args(["-c", script]).current_dir(dir.path()).output().unwrap();
            assert!(done.status.success(), "{maker}: {}", String::from_utf8_lossy(&done.stderr));
        };
        shell(TREE);
        shell(script);
        let path = dir.path().join("a.zip");
        let look = || {
            let done = Command::new("python3").args(["-c", LOOK]).arg(&path).output().unwrap();
            assert!(done.status.success(), "{maker}: {}", String::from_utf8_lossy(&done.stderr));
            let mut lines: Vec<_> = String::from_utf8(done.stdout).unwrap().lines().map(str::to_owned).collect();
            // The time of the directory it is in is another one.
            lines.retain(|line| !line.starts_with("d/ "));
            lines.sort();
            lines
        };
        let (before, refused) = (look(), refusals(&path));
        let mut ours_ = ours(&path);
        ours_.apply(&Op::Write(vec!["d", "c"], 10, b"edited".to_vec())).unwrap();
        ours_.vfs.settle().unwrap();
        drop(ours_);
        assert_eq!(look(), before, "{maker}");
        let edited = &settled(&path)["/d/c"].content;
        assert_eq!((&edited[10..16], edited.len()), (&b"edited"[..], 141), "{maker}");
        assert_eq!(refusals(&path), refused, "{maker}");
        assert!(refused.is_empty() || *maker == "with a prefix", "{refused:?}");
    }
}
