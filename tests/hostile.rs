//! Damaged and hostile containers: what comes out is right or is an error. Never a panic, never a wait without end, never
//! memory out of proportion, never a byte outside of where one unpacks to.

mod common {
    pub mod dress;
    pub mod listing;
    pub mod metadata;
}

use common::{listing, metadata};
use std::collections::HashMap;
use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, mpsc};
use std::time::Duration;
use stmount::cache::Cache;
use stmount::error::Result;
use stmount::formats::folder::Folder;
use stmount::formats::st::{self, Container, Packer, Segmentation};
use stmount::formats::{Access, Pack, Unwatched};
use stmount::jobs::unpack::{Options, unpack};
use stmount::source::{Memory, ReadAt};
use stmount::tree::{Attr, Kind, Node, Tree};
use tempfile::TempDir;

fn open(bytes: &[u8]) -> Result<Container> {
    let bytes = Arc::new(Memory::new(bytes.to_vec()));
    Container::open(Access::to_read(bytes, Cache::new(4 << 20), "hostile.st"))
}

fn pack(source: &Path, segmentation: Option<Segmentation>) -> Vec<u8> {
    let mut out = Vec::new();
    let packer = Packer { level: 3, segmentation, threads: 2, ..Packer::default() };
    packer.pack(&Folder::open(source).unwrap(), &mut out, &Unwatched).unwrap();
    out
}

/// Longer than anything here takes: who needs it does not end at all.
const PATIENCE: Duration = Duration::from_secs(300);

/// Runs `work` and fails when it does not end.
fn in_time<T: Send + 'static>(what: &str, work: impl FnOnce() -> T + Send + 'static) -> T {
    let (tell, told) = mpsc::channel();
    let worker = std::thread::spawn(move || tell.send(work()).unwrap());
    match told.recv_timeout(PATIENCE) {
        Ok(result) => result,
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("{what}: it hangs"),
        Err(mpsc::RecvTimeoutError::Disconnected) => std::panic::resume_unwind(worker.join().unwrap_err()),
    }
}

fn golden(name: &str) -> (Vec<u8>, String) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    (fs::read(path.with_extension("st")).unwrap(), fs::read_to_string(path.with_extension("jsonl")).unwrap())
}

// ---- cuts -------------------------------------------------------------------------------------------------------------

#[test]
fn a_cut_of_a_pack_is_refused_or_shows_all_of_it() {
    let dir = TempDir::new().unwrap();
    for i in 0..5 {
        fs::write(dir.path().join(format!("file {i}")), "contents\n".repeat(i * 20)).unwrap();
    }
    let whole = pack(dir.path(), Some(Segmentation::Chunk));
    let truth = listing::of(&open(&whole).unwrap()).unwrap();
    let mut opened = 0;
    for len in 0..=whole.len() {
        if let Ok(tree) = open(&whole[..len]) {
            listing::assert_same(&truth, &listing::of(&tree).unwrap(), &format!("cut at {len}"));
            opened += 1;
        }
    }
    // The footer and the padding before it may be missing, nothing else.
    assert!((1..=256).contains(&opened), "{opened} cuts open");
}

#[test]
fn a_cut_behind_the_first_commit_opens_it_or_the_second() {
    let ((one, before), (two, after)) = (golden("one-generation"), golden("two-generations"));
    assert_eq!(two[..one.len()], one);
    let mut seen = HashMap::new();
    for len in one.len()..=two.len() {
        let listed = listing::of(&open(&two[..len]).unwrap()).unwrap();
        assert!(listed == before || listed == after, "cut at {len}: neither state");
        *seen.entry(listed == after).or_insert(0) += 1;
    }
    assert!(seen[&true] <= 256, "{seen:?}");
    listing::assert_same(&after, &listing::of(&open(&two).unwrap()).unwrap(), "whole");
}

#[test]
fn what_stands_behind_the_last_commit_is_nothing() {
    let (two, after) = golden("two-generations");
    for behind in [vec![0; 1], vec![0; 64], vec![0; 5000], metadata::noise(3000, 1), two[4096..].to_vec()] {
        let tree = open(&[&two[..], &behind].concat()).unwrap();
        listing::assert_same(&after, &listing::of(&tree).unwrap(), &format!("{} bytes behind", behind.len()));
    }
}

// ---- flipped bits -----------------------------------------------------------------------------------------------------

/// What a tree holds, by path: attributes and contents.
type Truth = HashMap<Vec<u8>, (Attr, Option<Vec<u8>>)>;

fn truth(tree: &dyn Tree) -> Truth {
    let of = |node: Node| {
        let attr = tree.attr(node).unwrap();
        let data = (attr.kind == Kind::File).then(|| contents(tree, node).unwrap());
        (attr, data)
    };
    listing::paths(tree).unwrap().into_iter().map(|(path, node)| (path, of(node))).collect()
}

fn contents(tree: &dyn Tree, node: Node) -> Result<Vec<u8>> {
    let file = tree.open(node)?;
    let mut bytes = vec![0; file.len()? as usize];
    file.read_exact_at(0, &mut bytes)?;
    Ok(bytes)
}

/// Walks and reads all that can be read; it must be as it was. Gives the number of errors.
fn compare(tree: &dyn Tree, truth: &Truth) -> usize {
    let (mut errors, mut todo) = (0, vec![(Vec::new(), tree.root())]);
    while let Some((path, node)) = todo.pop() {
        let key = if path.is_empty() { b".".to_vec() } else { path.clone() };
        let (attr, data) = truth.get(&key).unwrap_or_else(|| panic!("{} is new", key.escape_ascii()));
        match tree.attr(node) {
            Ok(found) => assert_eq!(&found, attr, "{}", key.escape_ascii()),
            Err(_) => errors += 1,
        }
        match (data, attr.kind) {
            (Some(data), _) => errors += read_in_pieces(tree, node, data),
            (None, Kind::Directory) => errors += children(tree, node, &path, &mut todo),
            _ => {}
        }
    }
    errors
}

fn children(tree: &dyn Tree, node: Node, path: &[u8], todo: &mut Vec<(Vec<u8>, Node)>) -> usize {
    let listed = tree.list(node, None, &mut |name, node, _| {
        let parts = [path, name.bytes()];
        todo.push((if path.is_empty() { name.bytes().to_vec() } else { parts.join(&b'/') }, node));
        ControlFlow::Continue(())
    });
    usize::from(listed.is_err())
}

fn read_in_pieces(tree: &dyn Tree, node: Node, data: &[u8]) -> usize {
    let Ok(file) = tree.open(node) else { return 1 };
    let mut errors = 0;
    for at in (0..data.len()).step_by(40_000) {
        let mut piece = vec![0; 40_000.min(data.len() - at)];
        match file.read_exact_at(at as u64, &mut piece) {
            Ok(()) => assert!(piece == data[at..at + piece.len()], "other bytes were read"),
            Err(_) => errors += 1,
        }
    }
    errors
}

fn mixed_tree(dir: &Path) {
    for i in 0..300 {
        let below = dir.join(format!("dir {}", i % 11));
        fs::create_dir_all(&below).unwrap();
        fs::write(below.join(format!("small {i}")), format!("{i} ").repeat(i)).unwrap();
    }
    let noise = metadata::noise(150_000, 5);
    fs::write(dir.join("noise"), &noise).unwrap();
    fs::write(dir.join("noise again"), [b"shifted", &noise[..]].concat()).unwrap();
    let lines: Vec<String> = (0..30_000).map(|i| format!("{}\n", i * i % 9973)).collect();
    fs::write(dir.join("text"), lines.concat()).unwrap();
}

/// A step of a generator that is the same each time.
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    *state >> 20
}

#[test]
fn a_flipped_bit_gives_an_error_or_does_not_matter() {
    let dir = TempDir::new().unwrap();
    mixed_tree(dir.path());
    let packed = pack(dir.path(), Some(Segmentation::Bytes(8192)));
    let containers = [(packed, 1500), (golden("codecs").0, 500)];
    for (whole, flips) in containers {
        let truth = truth(&open(&whole).unwrap());
        let (mut state, mut errors) = (7, 0);
        for _ in 0..flips {
            let mut damaged = whole.clone();
            let bit = next(&mut state) as usize % (whole.len() * 8);
            damaged[bit / 8] ^= 1 << (bit % 8);
            errors += open(&damaged).map_or(1, |tree| compare(&tree, &truth));
        }
        assert!(errors > flips / 4, "only {errors} errors: are the hashes compared?");
    }
}

#[test]
fn a_flipped_bit_of_two_generations_shows_one_of_them_or_an_error() {
    let ((_, before), (two, after)) = (golden("one-generation"), golden("two-generations"));
    for bit in 0..two.len() * 8 {
        if bit % 7 != 0 {
            continue;
        }
        let mut damaged = two.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        if let Ok(listed) = open(&damaged).and_then(|tree| listing::of(&tree)) {
            assert!(listed == before || listed == after, "bit {bit}: neither state");
        }
    }
}

// ---- numbers that lie, with hashes that do not ------------------------------------------------------------------------

fn hostile(dir: &Path) -> Vec<PathBuf> {
    listing::say("hostile.py", &[dir]);
    let mut all: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    all.sort();
    assert!(all.len() > 70);
    all
}

/// Does all that can be done with a tree, in small measure where it claims to be large. The first error ends it.
fn exercise(container: &Container) -> Result<()> {
    for (_, node) in listing::paths(container)? {
        let attr = container.attr(node)?;
        container.xattrs(node)?;
        container.owner(node)?;
        match attr.kind {
            Kind::File => exercise_file(&*container.open(node)?)?,
            Kind::Symlink => drop(container.target(node)?),
            _ => {}
        }
    }
    Ok(())
}

fn exercise_file(file: &dyn ReadAt) -> Result<()> {
    let (len, mut bytes) = (file.len()?, vec![0; 70_000]);
    for at in [0, 1, len / 2, len.saturating_sub(1), len.saturating_sub(50_000), len, len.saturating_add(9), u64::MAX] {
        file.will_read(at..at.saturating_add(100_000));
        file.read_at(at, &mut bytes)?;
        file.next_data(at)?;
    }
    let mut at = 0;
    for _ in 0..1000 {
        let Some(range) = file.next_data(at)? else { break };
        assert!(range.start >= at && range.start < range.end && range.end <= len, "{range:?} at {at} of {len}");
        at = range.end;
    }
    Ok(())
}

/// Opens and does everything, checking and unpacking too. Whether there was an error.
fn endure(path: &Path) -> Result<()> {
    let bytes = fs::read(path).unwrap();
    let container = open(&bytes)?;
    let result = exercise(&container);
    let dir = TempDir::new().unwrap();
    fs::write(dir.path().join("out"), b"untouched").unwrap();
    let _ = unpack(&container, &dir.path().join("target/below"), &Options::default(), &Unwatched);
    only_the_target_changed(dir.path());
    let _ = container.info();
    let whole = container.check(2, &Unwatched).is_ok_and(|checked| checked.is_whole());
    assert!(!whole || result.is_ok() || !path.to_string_lossy().contains("segment"), "{path:?} is said to be whole");
    result
}

fn only_the_target_changed(dir: &Path) {
    let mut found: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    found.sort();
    assert_eq!(found, ["out", "target"], "something was written outside of the target");
    assert_eq!(fs::read(dir.join("out")).unwrap(), b"untouched");
    assert_eq!(fs::read_dir(dir.join("target")).unwrap().count(), 1);
}

#[test]
fn a_container_that_lies_is_refused_or_does_no_harm() {
    let dir = TempDir::new().unwrap();
    let mut wrong = Vec::new();
    for path in hostile(dir.path()) {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let result = in_time(&name, move || endure(&path));
        match (name.starts_with("refused"), result) {
            (true, Ok(())) => wrong.push(format!("{name} was accepted")),
            (false, Err(e)) => wrong.push(format!("{name}: {e}")),
            _ => {}
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn directories_in_circles_are_listed_once() {
    let dir = TempDir::new().unwrap();
    hostile(dir.path());
    let mut command = Command::new(env!("CARGO_BIN_EXE_stmount"));
    let out = command.args(["ls", "-R"]).arg(dir.path().join("survives-directories-in-circles.st")).output().unwrap();
    assert!(out.status.success(), "{:?}: {}", out.status, String::from_utf8_lossy(&out.stderr));
    assert_eq!(String::from_utf8_lossy(&out.stdout), "dir\ndir/again\ndir/root\n");
}

#[test]
fn names_without_an_inode_and_inodes_without_a_name_are_told() {
    let dir = TempDir::new().unwrap();
    hostile(dir.path());
    let bytes = fs::read(dir.path().join("refused-names-and-inodes-that-do-not-meet.st")).unwrap();
    let checked = open(&bytes).unwrap().check(2, &Unwatched).unwrap();
    let told: Vec<String> =
        checked.names.iter().map(|name| format!("{}: {}", String::from_utf8_lossy(&name.path), name.what)).collect();
    let expected = [
        "no dir: the name leads to no inode",
        "dir/nothing: the name leads to no inode",
        "(inode 77)/outside: the name is in a directory that is not there",
        "inode 5: no name leads to it",
        "inode 6: no name leads to it",
    ];
    assert_eq!(told, expected);
    assert!(checked.damage.is_empty() && checked.files.is_empty() && !checked.is_whole());
    // And they are mended, though nothing else is wrong with the container.
    let file = Arc::new(Memory::new(bytes));
    let access = || Access::to_write(file.clone(), Cache::new(8 << 20), "x.st");
    let found = st::recover(access(), 2, &Unwatched).unwrap();
    assert!(found.is_changed() && !found.is_whole() && found.checked.is_whole(), "{found:?}");
    let again = st::recover(access(), 2, &Unwatched).unwrap();
    assert!(!again.is_changed() && again.is_whole(), "{again:?}");
    let mended = Container::open(access()).unwrap();
    let paths: Vec<String> =
        listing::paths(&mended).unwrap().into_keys().map(|path| String::from_utf8(path).unwrap()).collect();
    let found = ["", "/ino-4", "/ino-5", "/ino-6", "/ino-6/below"].map(|name| format!("lost+found{name}"));
    assert_eq!(paths, [&[".".to_owned(), "dir".to_owned(), "dir/file".to_owned()][..], &found].concat());
}

/// Memory above that of a container of nothing, which a hostile one may cost.
const MEMORY: u64 = 300 << 20;

/// Each case in a process of its own, which is this test again with one case: so that none hides behind what another left.
#[test]
fn a_container_that_lies_costs_little_memory() {
    if let Some(path) = std::env::var_os("STMOUNT_HOSTILE") {
        let _ = endure(Path::new(&path));
        println!("peak {}", peak_memory());
        return;
    }
    let dir = TempDir::new().unwrap();
    let run = |path: &Path| {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "a_container_that_lies_costs_little_memory", "--nocapture"]);
        command.env("STMOUNT_HOSTILE", path);
        let out = command.output().unwrap();
        let text = String::from_utf8_lossy(&out.stdout).into_owned();
        let peak = text.lines().find_map(|line| line.split_once("peak ")?.1.trim().parse::<u64>().ok());
        peak.unwrap_or_else(|| panic!("{}: {text} {}", path.display(), String::from_utf8_lossy(&out.stderr)))
    };
    let all = hostile(dir.path());
    let (plain, _) = golden("one-generation");
    let usual = dir.path().join("usual.st");
    fs::write(&usual, plain).unwrap();
    let limit = run(&usual) + MEMORY;
    for path in all {
        let peak = run(&path);
        assert!(peak < limit, "{}: {} MiB", path.display(), peak >> 20);
    }
}

/// The most memory that this process has had, in bytes.
fn peak_memory() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let kib: u64 = peak.trim().trim_end_matches("kB").trim().parse().unwrap();
    kib << 10
}
