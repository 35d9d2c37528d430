//! What each format has room for: the table in the README, cell by cell, by what a mount says and what is there afterwards.

#[allow(dead_code)]
mod common {
    pub mod dice;
    pub mod dress;
    pub mod fs;
    pub mod ops;
}

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use stmount::cache::Cache;
use stmount::error::{Kind as ErrorKind, Result};
use stmount::formats::Upkeep;
use stmount::open::{self, Claim, How};
use stmount::tree::{Attr, Kind, Time, find_path};
use stmount::vfs::{Allocate, Commit, Maker, New, Policy, ROOT, SetAttr, SetXattr, Stat, Vfs};

const FORMATS: [&str; 4] = ["st", "zip", "7z", "tar"];

/// A mount of an archive with one file, `f`.
struct Mount {
    _dir: tempfile::TempDir,
    path: PathBuf,
    vfs: Arc<Vfs>,
}

fn opened(path: &Path) -> Arc<Vfs> {
    let how = How::new(Cache::new(8 << 20));
    let volume = open::open_claimed(path, &how, &Claim::default(), Upkeep::default(), true).unwrap();
    let writer = volume.writer.expect("it can be written");
    Arc::new(Vfs::writable(volume.tree, writer, Policy::default(), Commit::default()))
}

impl Mount {
    fn of(format: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (from, path) = (dir.path().join("from"), dir.path().join(format!("a.{format}")));
        std::fs::create_dir(&from).unwrap();
        std::fs::write(from.join("f"), b"contents").unwrap();
        let packed = Command::new(env!("CARGO_BIN_EXE_stmount")).args(["pack", "-q"]).arg(&from).arg(&path).status();
        assert!(packed.unwrap().success());
        let vfs = opened(&path);
        Self { _dir: dir, path, vfs }
    }

    fn stat(&self, name: &[u8]) -> Option<Stat> {
        self.vfs.lookup(ROOT, name).unwrap()
    }

    fn ino(&self, name: &[u8]) -> u64 {
        self.stat(name).unwrap().ino
    }

    /// What is there when everything is in the archive, and that is opened again.
    fn again(mut self) -> Self {
        self.vfs.sync().unwrap();
        self.vfs.settle().unwrap();
        let path = self.path.clone();
        // The lock goes first.
        self.vfs = opened_after(self.vfs, &path);
        self
    }

    fn make(&self, name: &[u8], new: &New<'_>) -> Result<Stat> {
        self.vfs.make(ROOT, name, 0o644, Maker { uid: 0, gid: 0, umask: 0 }, new)
    }

    fn attr(&self, name: &[u8]) -> Attr {
        self.stat(name).unwrap().attr
    }

    fn root(&self) -> Attr {
        self.vfs.getattr(ROOT).unwrap().attr
    }
}

fn opened_after(vfs: Arc<Vfs>, path: &Path) -> Arc<Vfs> {
    drop(vfs);
    opened(path)
}

/// What is in a cell: that it was refused, or what became of it.
fn of(done: Result<()>, mount: Mount, kept: impl FnOnce(&Mount) -> bool) -> String {
    match done {
        Ok(()) => {
            let again = mount.again();
            if kept(&again) { "kept".into() } else { "not kept".into() }
        }
        Err(e) => match e.kind() {
            ErrorKind::NotPermitted => "EPERM".into(),
            ErrorKind::Unsupported => "EOPNOTSUPP".into(),
            ErrorKind::Invalid => "EINVAL".into(),
            other => panic!("{other:?}: {e}"),
        },
    }
}

fn set(mount: &Mount, ino: u64, set: SetAttr) -> Result<()> {
    mount.vfs.setattr(ino, &set).map(drop)
}

fn special(format: &str, kind: Kind, rdev: u64) -> String {
    let mount = Mount::of(format);
    let done = mount.make(b"x", &New::Special(kind, rdev)).map(drop);
    of(done, mount, |mount| (mount.attr(b"x").kind, mount.attr(b"x").rdev) == (kind, rdev))
}

/// How many nanoseconds a time is told apart by.
fn grain(format: &str) -> String {
    let mount = Mount::of(format);
    let time = Time { secs: 1_234_567_890, nanos: 123_456_789 };
    set(&mount, mount.ino(b"f"), SetAttr { mtime: Some(time), ..SetAttr::default() }).unwrap();
    let shown = mount.attr(b"f").mtime;
    let kept = mount.again().attr(b"f").mtime;
    assert_eq!(shown, kept, "{format}: what is shown is what is kept");
    match kept.nanos {
        123_456_789 => "1".into(),
        123_456_700 => "100".into(),
        other => format!("? {other}"),
    }
}

fn seen(row: &str, format: &str) -> String {
    let mount = Mount::of(format);
    let file = mount.ino(b"f");
    let time = Time { secs: 1_000_000_007, nanos: 0 };
    match row {
        "mode, also set-user-ID and sticky" => {
            let done = set(&mount, file, SetAttr { mode: Some(0o5741), ..SetAttr::default() });
            of(done, mount, |mount| mount.attr(b"f").mode == 0o5741)
        }
        "time of the last change, in ns" => grain(format),
        "time of the last access" => {
            let done = set(&mount, file, SetAttr { atime: Some(time), ..SetAttr::default() });
            of(done, mount, |mount| mount.attr(b"f").atime == time)
        }
        "owner and group" => {
            let done = set(&mount, file, SetAttr { uid: Some(12345), gid: Some(54321), ..SetAttr::default() });
            of(done, mount, |mount| (mount.attr(b"f").uid, mount.attr(b"f").gid) == (12345, 54321))
        }
        "symbolic links" => {
            let done = mount.make(b"l", &New::Symlink(b"../some/where")).map(drop);
            of(done, mount, |mount| mount.vfs.readlink(mount.ino(b"l")).unwrap() == b"../some/where")
        }
        "hard links" => {
            let done = mount.vfs.link(file, ROOT, b"second").map(drop);
            of(done, mount, |mount| mount.ino(b"f") == mount.ino(b"second") && mount.attr(b"f").nlink == 2)
        }
        "fifos" => special(format, Kind::Fifo, 0),
        "sockets" => special(format, Kind::Socket, 0),
        "devices" => {
            let (block, char) = (special(format, Kind::BlockDevice, 0x0801), special(format, Kind::CharDevice, 0x0103));
            assert_eq!(block, char);
            char
        }
        "extended attributes, ACLs" => {
            let done = mount.vfs.setxattr(file, b"user.note", b"hello", SetXattr::Any);
            of(done, mount, |mount| {
                mount.vfs.getxattr(mount.ino(b"f"), b"user.note").unwrap().as_deref() == Some(&b"hello"[..])
            })
        }
        "names that are not UTF-8" => {
            let done = mount.make(b"odd\xff", &New::File).map(drop);
            of(done, mount, |mount| mount.stat(b"odd\xff").is_some())
        }
        "mode of the root" => {
            let done = set(&mount, ROOT, SetAttr { mode: Some(0o1750), ..SetAttr::default() });
            of(done, mount, |mount| mount.root().mode == 0o1750)
        }
        "time of the root" => {
            let done = set(&mount, ROOT, SetAttr { mtime: Some(time), ..SetAttr::default() });
            of(done, mount, |mount| mount.root().mtime == time)
        }
        "holes in files" => {
            mount.vfs.allocate(file, 8..(4 << 20), Allocate::Extend).unwrap();
            let again = mount.again();
            assert_eq!(again.attr(b"f").size, 4 << 20);
            let tree = open::open(&again.path, Cache::new(8 << 20)).unwrap().tree;
            let file = tree.open(find_path(&*tree, b"f").unwrap()).unwrap();
            if file.next_data(1 << 20).unwrap().is_none() { "kept".into() } else { "as zeros".into() }
        }
        other => panic!("nobody knows how to look at {other:?}"),
    }
}

#[test]
fn every_cell_of_the_table_in_the_readme_is_so() {
    let readme = include_str!("../README.md");
    let table = readme.split_once("<!-- tests/holds.rs reads this table -->").unwrap().1;
    let rows: Vec<Vec<&str>> = table
        .lines()
        .skip(1)
        .take_while(|line| line.starts_with('|'))
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
        .collect();
    assert_eq!(rows[0][1..], [".st", "zip", "7z", "tar"]);
    let mut wrong = Vec::new();
    for row in &rows[2..] {
        for (format, told) in FORMATS.iter().zip(&row[1..]) {
            let seen = seen(row[0], format);
            if seen != told.trim_end_matches(" *") {
                wrong.push(format!("{}, {format}: {told} is told, and it is {seen}", row[0]));
            }
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
    assert_eq!(rows.len(), 16);
}
