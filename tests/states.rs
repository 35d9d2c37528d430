//! Earlier states in a mount: `.stmount/snapshots`, by the real program and a real kernel.

use rustix::io::Errno;
use std::collections::{BTreeMap, HashSet};
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const STMOUNT: &str = env!("CARGO_BIN_EXE_stmount");

/// A directory to work in, which unmounts what was left mounted in it.
struct Desk {
    dir: tempfile::TempDir,
    mounts: Vec<&'static str>,
}

impl Desk {
    /// A container of a small folder, mounted on `mnt`, with a state `monday` and changes since.
    fn new() -> Self {
        let mut desk = Self { dir: tempfile::tempdir().unwrap(), mounts: Vec::new() };
        fs::create_dir_all(desk.path("src/dir/deep")).unwrap();
        fs::write(desk.path("src/file"), b"as it was\n").unwrap();
        fs::write(desk.path("src/dir/deep/other"), vec![7; 300_000]).unwrap();
        fs::set_permissions(desk.path("src/file"), fs::Permissions::from_mode(0o640)).unwrap();
        fs::hard_link(desk.path("src/file"), desk.path("src/dir/link")).unwrap();
        symlink("file", desk.path("src/soft")).unwrap();
        let sparse = File::create(desk.path("src/sparse")).unwrap();
        sparse.write_all_at(b"end", 1 << 20).unwrap();
        desk.ok(&["pack", "-q", "src", "x.st"]);
        desk.mount(&["x.st"], "mnt");
        desk.ok(&["snapshot", "mnt", "monday"]);
        fs::write(desk.path("mnt/file"), b"as it is now\n").unwrap();
        fs::remove_dir_all(desk.path("mnt/dir")).unwrap();
        fs::create_dir(desk.path("mnt/new")).unwrap();
        desk.ok(&["sync", "mnt"]);
        desk
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Below the directory of the states.
    fn state(&self, name: &str) -> PathBuf {
        self.path("mnt/.stmount/snapshots").join(name)
    }

    fn mount(&mut self, what: &[&str], place: &'static str) {
        fs::create_dir_all(self.path(place)).unwrap();
        self.ok(&[what, &[place]].concat());
        self.mounts.push(place);
    }

    fn ok(&self, args: &[&str]) -> String {
        let mut command = Command::new(STMOUNT);
        let out = command.args(args).current_dir(self.dir.path()).stdin(Stdio::null()).output().unwrap();
        assert!(out.status.success(), "{args:?}: {}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8(out.stdout).unwrap()
    }

    fn names(&self, dir: &Path) -> Vec<String> {
        let mut names: Vec<_> =
            fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        for place in &self.mounts {
            let _ = Command::new(STMOUNT).args(["umount", "-z"]).arg(self.path(place)).status();
        }
    }
}

fn errno<T: std::fmt::Debug>(done: io::Result<T>) -> Errno {
    Errno::from_io_error(&done.expect_err("this should not have worked")).expect("of the system")
}

/// All that can be seen of a directory, by path; for an inode number, the first path that has it.
fn seen(root: &Path) -> BTreeMap<PathBuf, String> {
    let (mut all, mut firsts, mut todo) = (BTreeMap::new(), BTreeMap::new(), vec![PathBuf::new()]);
    while let Some(path) = todo.pop() {
        let full = root.join(&path);
        let m = full.symlink_metadata().unwrap();
        let content = match (m.is_file(), m.is_symlink()) {
            (true, _) => blake3::hash(&fs::read(&full).unwrap()).to_hex().to_string(),
            (_, true) => fs::read_link(&full).unwrap().display().to_string(),
            _ => String::new(),
        };
        let times = (m.mtime(), m.mtime_nsec(), m.ctime(), m.ctime_nsec());
        let facts = (m.mode(), m.uid(), m.gid(), m.nlink(), m.len(), m.blocks());
        firsts
            .entry(m.ino())
            .and_modify(|first: &mut PathBuf| *first = path.clone().min(first.clone()))
            .or_insert(path.clone());
        all.insert(path.clone(), (m.ino(), format!("{facts:?} {times:?} {content}")));
        if m.is_dir() {
            let mut names: Vec<_> = fs::read_dir(&full).unwrap().map(|e| path.join(e.unwrap().file_name())).collect();
            todo.append(&mut names);
        }
    }
    all.into_iter().map(|(path, (ino, facts))| (path, format!("{facts} as {}", firsts[&ino].display()))).collect()
}

fn inodes(root: &Path) -> HashSet<u64> {
    let (mut all, mut todo) = (HashSet::new(), vec![root.to_owned()]);
    while let Some(path) = todo.pop() {
        let meta = path.symlink_metadata().unwrap();
        all.insert(meta.ino());
        if meta.is_dir() {
            todo.extend(fs::read_dir(path).unwrap().map(|e| e.unwrap().path()));
        }
    }
    all
}

#[test]
fn a_state_looks_as_it_does_when_it_is_mounted_by_itself() {
    let mut desk = Desk::new();
    desk.mount(&["x.st@monday"], "then");
    let then = seen(&desk.path("then"));
    assert_eq!(then.len(), 8, "{then:?}");
    assert_eq!(seen(&desk.state("monday")), then);
    assert_ne!(seen(&desk.path("mnt")), then);
    assert_eq!(fs::read(desk.state("monday/file")).unwrap(), b"as it was\n");
    assert_eq!(fs::read(desk.path("mnt/file")).unwrap(), b"as it is now\n");
    // There, and in a mount that is read-only, the states are found as well.
    assert_eq!(seen(&desk.path("then/.stmount/snapshots/monday")), then);
    desk.mount(&["-o", "ro", "x.st"], "ro");
    assert_eq!(seen(&desk.path("ro/.stmount/snapshots/monday")), then);
    assert_eq!(errno(File::create(desk.path("ro/.stmount/snapshots/monday/new"))), Errno::ROFS);
    assert_eq!(errno(fs::metadata(desk.path("ro/.stmount/snapshots/tuesday"))), Errno::NOENT);
}

#[test]
fn no_listing_shows_the_states_and_no_inode_number_is_used_twice() {
    let desk = Desk::new();
    assert_eq!(desk.names(&desk.path("mnt")), ["file", "new", "soft", "sparse"]);
    assert_eq!(seen(&desk.path("mnt")).len(), 5);
    let out = Command::new("find").arg(desk.path("mnt")).output().unwrap();
    assert_eq!(String::from_utf8(out.stdout).unwrap().lines().count(), 5);
    assert_eq!(desk.names(&desk.path("mnt/.stmount")), ["snapshots"]);
    assert_eq!(desk.names(&desk.state("")), ["2", "3", "monday"]);
    let all = [desk.path("mnt"), desk.state("monday"), desk.state("3")];
    let inodes: Vec<HashSet<u64>> = all.iter().map(|root| inodes(root)).collect();
    let sum: usize = inodes.iter().map(HashSet::len).sum();
    assert_eq!(inodes.iter().flatten().collect::<HashSet<_>>().len(), sum);
    // The same at the next mount.
    desk.ok(&["umount", "mnt"]);
    desk.ok(&["x.st", "mnt"]);
    assert_eq!(all.iter().map(|root| self::inodes(root)).collect::<Vec<_>>(), inodes);
}

#[test]
fn nothing_in_a_state_can_be_changed() {
    let desk = Desk::new();
    let before = seen(&desk.state("monday"));
    let file = desk.state("monday/file");
    for dir in [desk.path("mnt/.stmount"), desk.state(""), desk.state("monday"), desk.state("monday/dir")] {
        assert_eq!(errno(fs::create_dir(dir.join("new"))), Errno::ROFS, "{dir:?}");
        assert_eq!(errno(File::create(dir.join("new"))), Errno::ROFS, "{dir:?}");
        assert_eq!(errno(symlink("x", dir.join("new"))), Errno::ROFS, "{dir:?}");
        assert_eq!(errno(fs::rename(desk.path("mnt/file"), dir.join("new"))), Errno::ROFS, "{dir:?}");
        assert_eq!(errno(fs::set_permissions(&dir, fs::Permissions::from_mode(0o777))), Errno::ROFS, "{dir:?}");
        assert_eq!(errno(fs::remove_dir(&dir)), Errno::ROFS, "{dir:?}");
    }
    assert_eq!(errno(File::options().write(true).open(&file)), Errno::ROFS);
    assert_eq!(errno(File::options().write(true).truncate(true).open(&file)), Errno::ROFS);
    assert_eq!(errno(fs::remove_file(&file)), Errno::ROFS);
    assert_eq!(errno(fs::rename(&file, desk.path("mnt/stolen"))), Errno::ROFS);
    assert_eq!(errno(fs::hard_link(&file, desk.path("mnt/stolen"))), Errno::ROFS);
    let flags = rustix::fs::XattrFlags::empty();
    assert_eq!(rustix::fs::setxattr(&file, "user.x", b"y", flags), Err(Errno::ROFS));
    assert_eq!(errno(fs::rename(desk.path("mnt/.stmount"), desk.path("mnt/shown"))), Errno::ROFS);
    assert_eq!(errno(fs::create_dir(desk.path("mnt/.stmount"))), Errno::EXIST);
    assert_eq!(seen(&desk.state("monday")), before);
}

#[test]
fn states_come_and_go_while_it_is_mounted() {
    let desk = Desk::new();
    assert_eq!(errno(fs::metadata(desk.state("tuesday"))), Errno::NOENT);
    desk.ok(&["snapshot", "mnt", "tuesday"]);
    assert_eq!(fs::read(desk.state("tuesday/file")).unwrap(), b"as it is now\n");
    fs::write(desk.path("mnt/file"), b"and later\n").unwrap();
    assert_eq!(fs::read(desk.state("tuesday/file")).unwrap(), b"as it is now\n");
    // A number of a state that has a name leads to it, and to itself when the name is gone.
    assert_eq!(fs::read_link(desk.state("1")).unwrap(), Path::new("monday"));
    let mut open = File::open(desk.state("monday/dir/deep/other")).unwrap();
    desk.ok(&["snapshot", "--delete", "mnt", "monday"]);
    assert_eq!(errno(fs::metadata(desk.state("monday"))), Errno::NOENT);
    let names = desk.names(&desk.state(""));
    assert!(names.contains(&"1".to_owned()) && !names.contains(&"monday".to_owned()), "{names:?}");
    assert_eq!(fs::read(desk.state("1/file")).unwrap(), b"as it was\n");
    let mut bytes = Vec::new();
    open.read_to_end(&mut bytes).unwrap();
    assert_eq!(bytes, vec![7; 300_000], "who has it open goes on reading");
    // The name may be used again, for another state.
    desk.ok(&["snapshot", "mnt", "monday"]);
    assert_eq!(fs::read(desk.state("monday/file")).unwrap(), b"and later\n");
}

#[test]
fn what_was_lost_is_copied_back_with_its_holes() {
    let desk = Desk::new();
    let (from, to) = (File::open(desk.state("monday/sparse")).unwrap(), File::create(desk.path("mnt/again")).unwrap());
    let mut left = from.metadata().unwrap().len() as usize;
    while left > 0 {
        left -= rustix::fs::copy_file_range(&from, None, &to, None, left).unwrap();
    }
    let out = Command::new("cp").args(["-a"]).args([desk.state("monday/dir"), desk.path("mnt/dir")]).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    drop((from, to));
    desk.ok(&["umount", "mnt"]);
    desk.ok(&["x.st", "mnt"]);
    assert_eq!(fs::read(desk.path("mnt/again")).unwrap(), fs::read(desk.path("src/sparse")).unwrap());
    assert!(fs::metadata(desk.path("mnt/again")).unwrap().blocks() <= 8);
    assert_eq!(fs::read(desk.path("mnt/dir/deep/other")).unwrap(), vec![7; 300_000]);
    desk.ok(&["check", "x.st"]);
}

#[test]
fn an_entry_of_the_tree_comes_before_the_hidden_directory() {
    let mut desk = Desk { dir: tempfile::tempdir().unwrap(), mounts: Vec::new() };
    fs::create_dir_all(desk.path("src/.stmount")).unwrap();
    fs::write(desk.path("src/.stmount/own"), b"mine").unwrap();
    desk.ok(&["pack", "-q", "src", "x.st"]);
    desk.mount(&["x.st"], "mnt");
    assert_eq!(desk.names(&desk.path("mnt")), [".stmount"]);
    assert_eq!(desk.names(&desk.path("mnt/.stmount")), ["own"]);
    fs::write(desk.path("mnt/.stmount/own"), b"changed").unwrap();
    assert_eq!(errno(fs::metadata(desk.state("1"))), Errno::NOENT);
}
