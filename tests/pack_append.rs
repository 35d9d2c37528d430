//! `pack --append` and `pack --update`: more into a container that is there, against the folder it comes from.

mod common {
    pub mod dice;
    pub mod disk;
    pub mod dress;
    pub mod listing;
    pub mod metadata;
}

use common::dice::Dice;
use common::disk::{Disk, after_power_failure};
use common::dress;
use common::listing;
use common::metadata::{self, describe, noise, set_time};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use stmount::cache::Cache;
use stmount::error::{Error, Kind as ErrorKind, Result};
use stmount::formats::folder::Folder;
use stmount::formats::st::Container;
use stmount::formats::{self, Access, Unwatched, Watch};
use stmount::jobs::update::{self, Options, Report, Source, Take};
use stmount::source::FileSource;
use stmount::tree::{Filter, Tree, find_path, path_display};
use tempfile::TempDir;

// ---- the program ------------------------------------------------------------------------------------------------------

/// A directory to work in, with a folder `s`.
struct Desk(TempDir);

impl Desk {
    fn new() -> Self {
        let desk = Self(TempDir::new().unwrap());
        fs::create_dir(desk.path("s")).unwrap();
        desk
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().canonicalize().unwrap().join(name)
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        fs::create_dir_all(self.path(name).parent().unwrap()).unwrap();
        fs::write(self.path(name), bytes).unwrap();
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_stmount"));
        let args = dress::command(&mut command, args);
        command.args(args).current_dir(self.0.path()).stdin(Stdio::null()).env("NO_COLOR", "1");
        command
    }

    fn say(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    #[track_caller]
    fn ok(&self, args: &[&str]) -> String {
        let said = self.say(args);
        assert!(said.status.success(), "{args:?}: {}", String::from_utf8_lossy(&said.stderr));
        String::from_utf8_lossy(&said.stdout).into_owned()
    }

    /// Runs what has to end with this code; what it said.
    #[track_caller]
    fn ends(&self, args: &[&str], code: i32) -> String {
        let said = self.say(args);
        let err = String::from_utf8_lossy(&said.stderr).into_owned();
        assert_eq!(said.status.code(), Some(code), "{args:?}: {err}");
        err
    }

    /// Adds, and returns the numbers of the summary.
    #[track_caller]
    fn adds(&self, args: &[&str]) -> Value {
        let err = self.ends(&[&["pack", "--progress=json"], args].concat(), 0);
        serde_json::from_str(err.lines().last().unwrap()).unwrap()
    }

    fn tree(&self, name: &str) -> Container {
        let how = stmount::open::How { reading: dress::reading(), ..stmount::open::How::new(Cache::new(32 << 20)) };
        let access = stmount::open::access(&self.path(name), &how).unwrap();
        Container::open(access).unwrap()
    }

    /// The container holds what the folder does, for every reader.
    #[track_caller]
    fn same(&self, folder: &str, container: &str) {
        let (folder, file) = (self.path(folder), self.path(container));
        agree(&describe(&self.tree(container)), &describe(&Folder::open(&folder).unwrap()), container);
        self.ok(&["check", "-q", container]);
        let truth = listing::say("os_list.py", &[&folder]);
        listing::assert_same(&truth, &python("list", &file), "Python");
        python("check", &file);
    }

    fn sequence(&self, name: &str) -> u64 {
        let log: Value = serde_json::from_str(&self.ok(&["log", "--json", name])).unwrap();
        log["states"][0]["sequence"].as_u64().unwrap()
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        let _ = Command::new("umount").args(["-l", "-q"]).arg(self.path("m")).stderr(Stdio::null()).status();
    }
}

#[track_caller]
fn agree(ours: &BTreeMap<String, String>, truth: &BTreeMap<String, String>, what: &str) {
    for (path, seen) in truth {
        assert_eq!(ours.get(path), Some(seen), "{what}: {path}");
    }
    let more: Vec<_> = ours.keys().filter(|path| !truth.contains_key(*path)).collect();
    assert!(more.is_empty(), "{what}: there is more: {more:?}");
}

#[test]
fn everything_posix_knows_is_added_as_a_pack_keeps_it() {
    for how in ["--append", "--update"] {
        let desk = Desk::new();
        metadata::everything(&desk.path("s"));
        desk.ok(&["create", "c.st"]);
        let summary = desk.adds(&[how, "s", "c.st"]);
        assert_eq!((summary["commits"].as_u64(), summary["skipped"].as_u64()), (Some(1), Some(0)), "{summary}");
        desk.same("s", "c.st");
        let tree = desk.tree("c.st");
        let hole = tree.attr(find_path(&tree, b"sparse/islands").unwrap()).unwrap();
        assert!(hole.size == 64 << 20 && hole.allocated < 1 << 20, "a hole stays a hole: {hole:?}");
        // Names of owners are kept too.
        let owner = tree.owner(tree.root()).unwrap();
        assert_eq!(owner, Folder::open(&desk.path("s")).unwrap().owner(stmount::tree::Node(0)).unwrap());
    }
}

#[test]
fn rsync_finds_no_difference_in_the_mount() {
    let can = Path::new("/dev/fuse").exists();
    assert!(can || std::env::var("CI").as_deref() != Ok("true"), "no /dev/fuse");
    if !can {
        return;
    }
    let desk = Desk::new();
    metadata::everything(&desk.path("s"));
    desk.ok(&["pack", "-q", "s", "c.st"]);
    let rsync = |when: &str| {
        desk.ok(&["-o", "ro", "c.st", "m"]);
        let all = if metadata::is_root() { "-aHAXnci" } else { "-aHXnci" };
        let rsync = Command::new("rsync").args([all, "--delete", "s/", "m/"]).current_dir(desk.path("")).output();
        desk.ok(&["umount", "m"]);
        let rsync = rsync.unwrap();
        assert!(rsync.status.success(), "{}", String::from_utf8_lossy(&rsync.stderr));
        assert_eq!(String::from_utf8_lossy(&rsync.stdout), "", "{when}");
    };
    fs::create_dir(desk.path("m")).unwrap();
    rsync("packed");
    change(&desk);
    desk.adds(&["--update", "--delete", "s", "c.st"]);
    rsync("updated");
    desk.adds(&["--append", "s", "c.st"]);
    rsync("appended");
}

/// Something of everything.
fn change(desk: &Desk) {
    let at = |name: &str| desk.path("s").join(name);
    fs::write(at("contents/small"), b"others").unwrap();
    fs::remove_file(at("contents/empty")).unwrap();
    fs::write(at("contents/new"), noise(100_000, 5)).unwrap();
    fs::remove_dir_all(at("contents/chain/level0/level1")).unwrap();
    fs::rename(at("contents/large"), at("names/moved")).unwrap();
    // The group of three loses one and gets another.
    fs::remove_file(at("links/second")).unwrap();
    fs::write(at("links/second"), b"alone").unwrap();
    fs::hard_link(at("links/first"), at("links/fourth")).unwrap();
    apart(&at("links/sub/third")).unwrap();
    fs::remove_file(at("links/dangling")).unwrap();
    symlink("elsewhere", at("links/dangling")).unwrap();
    File::options().write(true).open(at("sparse/islands")).unwrap().write_all_at(&noise(5000, 9), 40 << 20).unwrap();
    fs::set_permissions(at("modes"), fs::Permissions::from_mode(0o711)).unwrap();
    let _ = rustix::fs::lsetxattr(at("contents"), "user.new", b"value", rustix::fs::XattrFlags::empty());
    // A directory becomes a file and a file a directory.
    fs::remove_dir(at("contents/empty directory")).unwrap();
    fs::write(at("contents/empty directory"), b"not any more").unwrap();
    fs::remove_file(at("attributes/acl")).unwrap();
    fs::create_dir(at("attributes/acl")).unwrap();
    fs::write(at("attributes/acl/below"), b"").unwrap();
    set_time(&at("attributes"), 77, 123_456_789);
}

#[test]
fn a_second_update_writes_nothing() {
    let desk = Desk::new();
    metadata::everything(&desk.path("s"));
    desk.ok(&["pack", "-q", "s", "c.st"]);
    let (bytes, first) = (fs::read(desk.path("c.st")).unwrap(), desk.sequence("c.st"));
    let summary = desk.adds(&["--update", "--delete", "s", "c.st"]);
    assert_eq!((summary["commits"].as_u64(), summary["bytes"].as_u64()), (Some(0), Some(0)), "{summary}");
    assert_eq!(fs::read(desk.path("c.st")).unwrap(), bytes, "what was packed is up to date");
    change(&desk);
    let summary = desk.adds(&["--update", "--delete", "s", "c.st"]);
    assert!(summary["removed"].as_u64().unwrap() >= 40, "the chain of directories: {summary}");
    assert_eq!(desk.sequence("c.st"), first + 1, "all of it is one commit");
    let bytes = fs::read(desk.path("c.st")).unwrap();
    desk.adds(&["--update", "--delete", "s", "c.st"]);
    assert_eq!(fs::read(desk.path("c.st")).unwrap(), bytes);
    desk.same("s", "c.st");
}

#[test]
fn what_looks_as_it_is_stored_is_not_read() {
    let desk = Desk::new();
    for name in ["s/one", "s/other"] {
        desk.write(name, b"before");
        set_time(&desk.path(name), 1000, 5);
    }
    desk.ok(&["pack", "-q", "s", "c.st"]);
    // Same size and time, other contents: only who reads it can know.
    desk.write("s/one", b"after!");
    set_time(&desk.path("s/one"), 1000, 5);
    desk.write("s/other", b"after!");
    set_time(&desk.path("s/other"), 1000, 6);
    let summary = desk.adds(&["--update", "s", "c.st"]);
    assert_eq!((summary["replaced"].as_u64(), summary["bytes"].as_u64()), (Some(1), Some(6)), "{summary}");
    assert_eq!(desk.ok(&["cat", "c.st:one", "c.st:other"]), "beforeafter!");
    // A change of the mode alone reads nothing either.
    fs::set_permissions(desk.path("s/other"), fs::Permissions::from_mode(0o600)).unwrap();
    let summary = desk.adds(&["--update", "s", "c.st"]);
    assert_eq!((summary["changed"].as_u64(), summary["bytes"].as_u64()), (Some(1), Some(0)), "{summary}");
    desk.adds(&["--append", "s", "c.st"]);
    assert_eq!(desk.ok(&["cat", "c.st:one", "c.st:other"]), "after!after!");
    desk.same("s", "c.st");
}

#[test]
fn directories_are_merged_and_nothing_is_removed() {
    for how in ["--append", "--update"] {
        let desk = Desk::new();
        for name in ["old/dir/a", "old/dir/b", "old/full/x", "old/file", "old/alone"] {
            desk.write(name, b"old");
        }
        fs::create_dir(desk.path("old/empty")).unwrap();
        for name in ["s/dir/b", "s/dir/c", "s/full", "s/file/y", "s/empty"] {
            desk.write(name, b"newer");
        }
        desk.ok(&["pack", "-q", "old", "c.st"]);
        let err = desk.ends(&["pack", how, "s", "c.st"], 3);
        assert!(err.contains("skipped full: a directory that is not empty"), "{err}");
        assert!(err.contains("--update --delete") && err.contains("1 skipped"), "{err}");
        assert_eq!(
            desk.ok(&["ls", "-R", "c.st"]),
            "alone\ndir\ndir/a\ndir/b\ndir/c\nempty\nfile\nfile/y\nfull\nfull/x\n"
        );
        assert_eq!(desk.ok(&["cat", "c.st:dir/a", "c.st:dir/b", "c.st:empty", "c.st:full/x"]), "oldnewernewerold");
        desk.ok(&["check", "-q", "c.st"]);
        desk.adds(&["--update", "--delete", "s", "c.st"]);
        desk.same("s", "c.st");
    }
}

#[test]
fn deleting_spares_what_the_patterns_leave_out() {
    let desk = Desk::new();
    for name in ["old/a.log", "old/gone/b.log", "old/gone/c", "old/gone/deep/d", "old/saves/slot", "old/e", "s/f"] {
        desk.write(name, b"x");
    }
    desk.ok(&["pack", "-q", "old", "c.st"]);
    desk.adds(&["--update", "s", "c.st"]);
    assert!(desk.ok(&["ls", "c.st"]).contains("gone\nsaves\n"), "without --delete everything stays");
    desk.write("s/new.log", b"left out");
    let args = ["--update", "--delete", "--exclude", "*.log", "--exclude", "/saves", "s", "c.st"];
    let summary = desk.adds(&args);
    assert_eq!(summary["removed"].as_u64(), Some(4), "c, deep, d, e: {summary}");
    assert_eq!(desk.ok(&["ls", "-R", "c.st"]), "a.log\nf\ngone\ngone/b.log\nsaves\nsaves/slot\n");
    assert_eq!(desk.adds(&args)["commits"].as_u64(), Some(0));
    // Only what is included is compared.
    desk.adds(&["--update", "--delete", "--include", "f", "--include", "/gone", "s", "c.st"]);
    assert_eq!(desk.ok(&["ls", "-R", "c.st"]), "a.log\nf\nsaves\nsaves/slot\n");
    desk.ok(&["check", "-q", "c.st"]);
    // What was removed is in the state before.
    assert!(desk.ok(&["ls", "-R", "c.st@1"]).contains("gone/deep/d"));
}

#[test]
fn equal_data_are_not_stored_again() {
    let data = noise(3_000_000, 3);
    for level in ["-1", "-6", "-8", "-9"] {
        let desk = Desk::new();
        desk.write("old/first", &data);
        desk.write("s/second", &data);
        desk.ok(&["pack", "-q", "old", "c.st"]);
        let mut grown = desk.adds(&["--append", level, "s", "c.st"])["stored"].as_u64().unwrap();
        assert!(grown < 20_000, "{level}: {grown} bytes for what is there");
        // What was added with this level is found as well, and so is what was added before under the same name.
        desk.write("s/third", &noise(1_000_000, 4));
        desk.adds(&["--append", level, "s", "c.st"]);
        desk.write("s/fourth", &noise(1_000_000, 4));
        grown = desk.adds(&["--append", level, "s", "c.st"])["stored"].as_u64().unwrap();
        assert!(grown < 20_000, "{level}: {grown} bytes for what was added");
        desk.ok(&["check", "-q", "c.st"]);
    }
}

#[test]
fn levels_are_those_of_a_pack() {
    let desk = Desk::new();
    let text: Vec<u8> = (0..150_000u32).flat_map(|i| format!("{} ", i.wrapping_mul(i) % 7919).into_bytes()).collect();
    desk.write("s/text", &text);
    let grown = |level: &str| {
        desk.ok(&["create", "-f", "c.st"]);
        desk.adds(&["--append", level, "s", "c.st"])["stored"].as_u64().unwrap()
    };
    let (fast, small) = (grown("-1"), grown("-9"));
    assert!(small < fast * 19 / 20, "{small} bytes at -9, {fast} at -1");
    assert_eq!(desk.ok(&["cat", "c.st:text"]).as_bytes(), text);
}

#[test]
fn a_container_that_does_not_exist_is_packed() {
    let desk = Desk::new();
    metadata::everything(&desk.path("s"));
    for how in ["--append", "--update"] {
        desk.ok(&["pack", "-q", how, "s", "new.st"]);
        desk.same("s", "new.st");
        desk.ok(&["pack", "-q", "s", "packed.st"]);
        let same = fs::read(desk.path("new.st")).unwrap() == fs::read(desk.path("packed.st")).unwrap();
        // What is added to a container that is not there is not dressed.
        assert!(same || dress::wanted() != dress::As::Plain);
        desk.same("s", "packed.st");
        fs::remove_file(desk.path("new.st")).unwrap();
        fs::remove_file(desk.path("packed.st")).unwrap();
    }
}

#[test]
fn several_sources_and_containers_go_in_as_they_are_packed() {
    let desk = Desk::new();
    desk.write("s/file", b"of s");
    desk.write("more/notes", b"notes");
    desk.write("one.txt", b"one");
    fs::set_permissions(desk.path("s"), fs::Permissions::from_mode(0o700)).unwrap();
    desk.ok(&["pack", "-q", "s", "c.st"]);
    desk.adds(&["--append", "more", "one.txt", "c.st"]);
    assert_eq!(desk.ok(&["ls", "-R", "c.st"]), "file\nmore\nmore/notes\none.txt\n");
    let mode = |tree: &Container| tree.attr(tree.root()).unwrap().mode;
    assert_eq!(mode(&desk.tree("c.st")), 0o700, "the root stays what it was");
    assert_eq!(desk.adds(&["--update", "more", "one.txt", "c.st"])["commits"].as_u64(), Some(0));
    // What a container holds comes with its owners; an earlier state of the same one comes back.
    desk.write("s/file", b"changed");
    desk.adds(&["--update", "s", "c.st"]);
    desk.adds(&["--append", "c.st@1", "c.st"]);
    assert_eq!(desk.ok(&["cat", "c.st:file", "c.st:one.txt"]), "of sone");
    desk.ok(&["create", "d.st"]);
    desk.adds(&["--append", "c.st", "d.st"]);
    agree(&describe(&desk.tree("d.st")), &describe(&desk.tree("c.st")), "container to container");
    desk.ok(&["check", "-q", "d.st"]);
}

#[test]
fn the_container_may_lie_in_the_folder() {
    let desk = Desk::new();
    desk.write("s/file", b"x");
    desk.ok(&["pack", "-q", "s", "s/own.st"]);
    for _ in 0..2 {
        desk.ok(&["pack", "-q", "--update", "--delete", "s", "s/own.st"]);
        assert_eq!(desk.ok(&["ls", "s/own.st"]), "file\n");
    }
}

#[test]
fn what_makes_no_sense_is_told() {
    let desk = Desk::new();
    desk.write("s/file", b"x");
    desk.write("notes.txt", b"no archive");
    desk.ok(&["pack", "-q", "s", "c.st"]);
    let before = fs::read(desk.path("c.st")).unwrap();
    let told = [
        (&["--append", "s", "-"][..], 1, "nothing can be added to a pipe"),
        (&["--update", "s", "c.st@1"], 1, "c.st@1 is a state that was: it does not change"),
        (&["--append", "c.st", "s"], 1, "s is a directory"),
        (&["--append", "c.st", "./c.st"], 1, "./c.st cannot be added to itself"),
        (&["--append", "s", "notes.txt"], 30, "notes.txt: not an archive of a known format"),
        (&["--append", "gone", "c.st"], 10, "cannot open gone"),
        (&["--append", "--update", "s", "c.st"], 1, "cannot be used with"),
        (&["--append", "--force", "s", "c.st"], 1, "cannot be used with"),
        (&["--update", "--segment", "1M", "s", "c.st"], 1, "cannot be used with"),
        (&["--append", "-j", "2", "s", "c.st"], 1, "cannot be used with"),
        (&["--append", "--delete", "s", "c.st"], 1, "cannot be used with"),
        (&["--delete", "s", "c.st"], 1, "--update"),
    ];
    for (args, code, words) in told {
        let err = desk.ends(&[&["pack"], args].concat(), code);
        assert!(err.starts_with("stmount: ") && err.contains(words), "{args:?}: {err}");
    }
    assert_eq!(fs::read(desk.path("c.st")).unwrap(), before);
    assert_eq!(fs::read(desk.path("notes.txt")).unwrap(), b"no archive");
}

#[test]
fn a_container_that_somebody_writes_to_is_left_alone() {
    let desk = Desk::new();
    desk.write("s/file", b"x");
    desk.ok(&["pack", "-q", "s", "c.st"]);
    let other = FileSource::open_to_write(&desk.path("c.st")).unwrap();
    other.lock().unwrap();
    assert!(desk.ends(&["pack", "--append", "s", "c.st"], 11).contains("another process has it open to write"));
    drop(other);
    if !Path::new("/dev/fuse").exists() {
        return;
    }
    fs::create_dir(desk.path("m")).unwrap();
    desk.ok(&["c.st", "m"]);
    let err = desk.ends(&["pack", "--update", "s", "c.st"], 11);
    assert!(err.contains(" is mounted on ") && err.contains("/m (pid "), "{err}");
    desk.ok(&["umount", "m"]);
    desk.adds(&["--update", "s", "c.st"]);
}

/// What the reference reader says.
fn python(verb: &str, file: &Path) -> String {
    listing::say("st_ref.py", &dress::of_reader(&[verb.as_ref(), file]))
}

/// Data and a level that take their time, so that a signal comes in the middle.
#[test]
fn an_interrupted_run_leaves_what_was_there() {
    let desk = Desk::new();
    desk.write("old/kept", &noise(300_000, 1));
    for i in 0..20 {
        let slow: Vec<u8> = noise(2_000_000, 100 + i).into_iter().map(|byte| byte & 15).collect();
        desk.write(&format!("s/{i}"), &slow);
    }
    desk.ok(&["pack", "-q", "old", "c.st"]);
    let before = fs::read(desk.path("c.st")).unwrap();
    for signal in ["TERM", "KILL"] {
        let mut command = desk.command(&["pack", "--append", "-9", "--progress=json", "s", "c.st"]);
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(|line| line.ok());
        // What is written to a signed container is not signed, which is told in words.
        let mut lines = lines.filter(|line| !line.starts_with("stmount: warning"));
        let mut lines = lines.by_ref().map(|line| serde_json::from_str::<Value>(&line).unwrap());
        assert!(lines.any(|line| line["done"].as_u64() > Some(0)), "it reads");
        let kill = format!("kill -{signal} {}", child.id());
        assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
        let left: Vec<_> = lines.collect();
        let code = child.wait().unwrap().code();
        assert_eq!(desk.sequence("c.st"), 1, "{signal}: {left:?}");
        assert_eq!(desk.ok(&["ls", "c.st"]), "kept\n");
        if signal == "TERM" {
            assert_eq!(code, Some(143));
            assert!(fs::read(desk.path("c.st")).unwrap() == before, "not a byte is left behind");
        } else {
            assert_eq!(code, None);
            assert!(fs::read(desk.path("c.st")).unwrap().starts_with(&before));
        }
    }
    desk.adds(&["--append", "-1", "s", "c.st"]);
    desk.adds(&["--update", "--delete", "s", "c.st"]);
    desk.same("s", "c.st");
}

// ---- the work itself --------------------------------------------------------------------------------------------------

/// Makes the container what the folder is.
fn mirror(disk: &Arc<Disk>, from: &Path, watch: Arc<dyn Watch>) -> Result<Report> {
    mirror_at(3, disk, from, watch)
}

fn mirror_at(level: u8, disk: &Arc<Disk>, from: &Path, watch: Arc<dyn Watch>) -> Result<Report> {
    let options = Options { take: Take::Changed, delete: true, root: true, filter: Filter::default() };
    let access = dress::write(disk.clone(), Cache::new(8 << 20), "test.st");
    let volume = formats::open(Access { level: Some(level), ..access })?;
    update::update(&Arc::new(Source::new(Arc::new(Folder::open(from)?), watch)), &volume, &options)
}

fn opened(bytes: Vec<u8>) -> Container {
    let source = Arc::new(stmount::source::Memory::new(bytes));
    Container::open(dress::read(source, Cache::new(8 << 20), "test.st")).unwrap()
}

fn empty() -> Arc<Disk> {
    Arc::new(Disk::new(dress::create()))
}

/// Does something to a folder of few names, so that everything meets everything.
fn step(dice: &mut Dice, root: &Path) {
    let mut path = || {
        let depth = dice.of(&[1, 1, 2, 2, 3]);
        (0..depth).fold(root.to_owned(), |path, _| path.join(dice.of(&["a", "b", "c", "d"])))
    };
    let (one, other) = (path(), path());
    // What cannot be done is not done.
    let _ = match dice.below(14) {
        0..=2 => fs::write(&one, noise(dice.below(60_000) as usize, dice.below(9) as u32)),
        3 | 4 => fs::create_dir(&one),
        5 => symlink(dice.of(&["x", "y"]), &one),
        6 | 7 => fs::hard_link(&one, &other),
        8 => fs::rename(&one, &other),
        9 => fs::remove_file(&one).or_else(|_| fs::remove_dir_all(&one)),
        10 | 11 => apart(&one),
        12 if one.symlink_metadata().is_ok_and(|meta| !meta.is_symlink()) => {
            fs::set_permissions(&one, fs::Permissions::from_mode(dice.of(&[0o600, 0o755, 0o644])))
        }
        _ => match one.symlink_metadata() {
            Ok(_) => {
                set_time(&one, dice.below(1_000_000) as i64, dice.below(1000) as u32);
                Ok(())
            }
            Err(e) => Err(e),
        },
    };
}

/// Makes a name of several a file of its own that looks the same, as a copy that keeps the time does.
fn apart(path: &Path) -> std::io::Result<()> {
    let meta = path.symlink_metadata()?;
    if meta.is_file() {
        let bytes = fs::read(path)?;
        fs::remove_file(path)?;
        fs::write(path, bytes)?;
        fs::set_permissions(path, meta.permissions())?;
        set_time(path, meta.mtime(), meta.mtime_nsec() as u32);
    }
    Ok(())
}

#[test]
fn whatever_happens_to_a_folder_the_container_follows() {
    let rounds = std::env::var("STMOUNT_ROUNDS").map_or(40, |n| n.parse().unwrap());
    for round in 0..rounds {
        let (mut dice, folder, disk) = (Dice(round * 6007 + 5), TempDir::new().unwrap(), empty());
        for turn in 0..12 {
            (0..15).for_each(|_| step(&mut dice, folder.path()));
            let before = disk.bytes();
            let events = disk.count();
            let report = mirror(&disk, folder.path(), Arc::new(Unwatched)).unwrap();
            let when = format!("round {round}, turn {turn}, {report:?}");
            assert!(report.skipped == 0 && report.commits <= 1, "{when}");
            let after = opened(disk.bytes());
            let truth = Folder::open(folder.path()).unwrap();
            agree(&describe(&after), &describe(&truth), &when);
            let checked = after.check(1, &Unwatched).unwrap();
            assert!(checked.is_whole(), "{when}: {checked:?}");
            links_agree(&after, folder.path(), &when);
            // A power failure leaves the state before or the one after.
            let (old, new) = (describe(&opened(before.clone())), describe(&after));
            let cut = events + dice.below((disk.count() - events + 1) as u64) as usize;
            let left =
                after_power_failure(&before, &disk.events()[events..cut], cut - events, &mut || dice.below(2) == 0);
            let left = describe(&opened(left));
            assert!(left == old || left == new, "{when}: a power failure left something between");
            let again = mirror(&disk, folder.path(), Arc::new(Unwatched)).unwrap();
            assert_eq!((again.commits, again.bytes), (0, 0), "{when}");
        }
    }
}

/// Link counts, which `describe` leaves out.
fn links_agree(tree: &Container, folder: &Path, when: &str) {
    for path in metadata::below(folder) {
        let meta = path.symlink_metadata().unwrap();
        let inside = path.strip_prefix(folder).unwrap();
        let node = find_path(tree, inside.as_os_str().as_encoded_bytes()).unwrap();
        let want = match meta.is_dir() {
            true => {
                2 + fs::read_dir(&path).unwrap().filter(|e| e.as_ref().unwrap().file_type().unwrap().is_dir()).count()
            }
            false => meta.nlink() as usize,
        };
        assert_eq!(tree.attr(node).unwrap().nlink as usize, want, "{when}: {inside:?}");
    }
}

/// Does something when a file begins to be read, and notes what is skipped.
#[derive(Default)]
struct Meddler {
    at: BTreeMap<Vec<u8>, Box<dyn Fn() + Send + Sync>>,
    skipped: Mutex<Vec<String>>,
    /// Bytes that may be read before the person has enough.
    patience: Option<u64>,
    read: AtomicU64,
}

impl Watch for Meddler {
    fn entry(&self, path: &[u8]) {
        if let Some(act) = self.at.get(path) {
            act();
        }
    }

    fn advance(&self, bytes: u64, _: u64) {
        self.read.fetch_add(bytes, Relaxed);
    }

    fn skipped(&self, path: &[u8], why: &Error) {
        self.skipped.lock().unwrap().push(format!("{}: {why}", path_display(path)));
    }

    fn is_cancelled(&self) -> bool {
        self.patience.is_some_and(|bytes| self.read.load(Relaxed) > bytes)
    }
}

/// Bytes that resemble those of other versions, and share no chunk with them.
fn version(len: usize, number: usize) -> Vec<u8> {
    let mut bytes = noise(len, 1);
    bytes.iter_mut().step_by(4096).for_each(|byte| *byte = number as u8);
    bytes
}

/// A log that is rotated while it is packed must not cost the rest of the backup, and what is stored of it must be
/// something it once was. At the levels that pack a segment against another one, what a failed attempt has laid is none.
#[test]
fn a_file_that_changes_while_it_is_read_costs_nothing_else() {
    let folder = TempDir::new().unwrap();
    let at = |name: &str| folder.path().join(name);
    for name in ["a", "gone", "shorter", "shrinking", "z"] {
        fs::write(at(name), version(2_000_000, name.len())).unwrap();
    }
    fs::hard_link(at("gone"), at("gone too")).unwrap();
    let disk = empty();
    mirror(&disk, folder.path(), Arc::new(Unwatched)).unwrap();
    for name in ["a", "gone", "shorter", "shrinking", "z"] {
        fs::write(at(name), version(2_100_000, 50 + name.len())).unwrap();
    }
    let mut meddler = Meddler::default();
    let gone = (at("gone"), at("gone too"));
    meddler.at.insert(
        b"gone".to_vec(),
        Box::new(move || {
            let _ = (fs::remove_file(&gone.0), fs::remove_file(&gone.1));
        }),
    );
    let shorter = at("shorter");
    meddler.at.insert(b"shorter".to_vec(), Box::new(move || fs::write(&shorter, b"rotated").unwrap()));
    let shrinking = at("shrinking");
    let shrink = move || {
        let file = File::options().write(true).open(&shrinking).unwrap();
        file.set_len(file.metadata().unwrap().len() / 2).unwrap();
    };
    meddler.at.insert(b"shrinking".to_vec(), Box::new(shrink));
    let meddler = Arc::new(meddler);
    let report = mirror_at(8, &disk, folder.path(), meddler.clone()).unwrap();
    let skipped = meddler.skipped.lock().unwrap().clone();
    assert_eq!((report.skipped, report.replaced, report.commits), (2, 3, 1), "{report:?} {skipped:?}");
    assert!(skipped[0].starts_with("gone: ") && skipped[1].starts_with("shrinking: it got shorter"), "{skipped:?}");
    let tree = opened(disk.bytes());
    let contents = |name: &str| {
        let file = tree.open(find_path(&tree, name.as_bytes()).unwrap()).unwrap();
        let mut bytes = vec![0; file.len().unwrap() as usize];
        file.read_exact_at(0, &mut bytes).unwrap();
        bytes
    };
    for name in ["a", "z"] {
        assert!(contents(name) == version(2_100_000, 51), "{name} is taken");
    }
    assert!(contents("shorter") == b"rotated");
    // What could not be read is what it was, as a whole.
    assert!(contents("gone") == version(2_000_000, 4) && contents("gone too") == contents("gone"));
    assert!(contents("shrinking") == version(2_000_000, 9));
    assert!(tree.check(1, &Unwatched).unwrap().is_whole());
}

#[test]
fn who_has_enough_gets_nothing_half() {
    let folder = TempDir::new().unwrap();
    (0..8).for_each(|i| fs::write(folder.path().join(i.to_string()), noise(900_000, i)).unwrap());
    let disk = empty();
    let before = disk.bytes();
    let meddler = Arc::new(Meddler { patience: Some(3_000_000), ..Meddler::default() });
    let done = mirror(&disk, folder.path(), meddler);
    assert_eq!(done.unwrap_err().kind(), ErrorKind::Interrupted);
    assert!(disk.bytes() == before);
    let full = Arc::new(Disk::new(before.clone()));
    full.set_room(Some(4_000_000));
    let done = mirror(&full, folder.path(), Arc::new(Unwatched));
    assert_eq!(done.unwrap_err().kind(), ErrorKind::NoSpace);
    assert!(full.bytes() == before, "a full disk leaves what there was");
    // Nor is it the source that is to blame when the disk fails, at whichever call.
    for call in 0..4 {
        disk.fail_in(Some(call));
        assert_eq!(mirror(&disk, folder.path(), Arc::new(Unwatched)).unwrap_err().kind(), ErrorKind::Io);
        assert_eq!(describe(&opened(disk.bytes())), describe(&opened(before.clone())), "call {call}");
    }
    disk.fail_in(None);
    assert_eq!(mirror(&disk, folder.path(), Arc::new(Unwatched)).unwrap().added, 8);
}

/// Some 64 Ki changed entries are a commit: more than that are several, which must fit together.
#[test]
fn a_large_tree_is_several_commits() {
    let folder = TempDir::new().unwrap();
    let at = |name: &str, i: usize| folder.path().join(format!("{name}/{i:x}"));
    // Hard links make many names fast. Those of one inode are in several commits.
    for name in ["a", "b", "c"] {
        fs::create_dir(folder.path().join(name)).unwrap();
        for i in 0..30_000 {
            match name == "a" && i < 3 {
                true => fs::write(at(name, i), [i as u8]).unwrap(),
                false => fs::hard_link(at("a", i % 3), at(name, i)).unwrap(),
            }
        }
    }
    fs::create_dir_all(folder.path().join("c/z/y")).unwrap();
    let disk = empty();
    let report = mirror(&disk, folder.path(), Arc::new(Unwatched)).unwrap();
    assert_eq!((report.commits, report.added), (2, 90_005), "{report:?}");
    let tree = opened(disk.bytes());
    agree(&describe(&tree), &describe(&Folder::open(folder.path()).unwrap()), "large");
    assert_eq!(tree.attr(find_path(&tree, b"b/7").unwrap()).unwrap().nlink, 30_000);
    assert!(tree.check(2, &Unwatched).unwrap().is_whole());
    let report = mirror(&disk, folder.path(), Arc::new(Unwatched)).unwrap();
    assert_eq!((report.commits, report.unchanged), (0, 90_005), "{report:?}");
    fs::remove_dir_all(folder.path().join("b")).unwrap();
    let report = mirror(&disk, folder.path(), Arc::new(Unwatched)).unwrap();
    assert_eq!(report.removed, 30_001);
    agree(&describe(&opened(disk.bytes())), &describe(&Folder::open(folder.path()).unwrap()), "smaller");
}
