//! A folder of a server that is written to, against a file system in memory: random operations, while the server fails at
//! random, answers are lost, and everything ends in the middle and begins anew. What was made durable is there, and in the end
//! the server has just what the mount showed.

#[allow(dead_code)]
mod common {
    pub mod dice;
    pub mod dress;
    pub mod fs;
    pub mod ops;
}

use common::dice::Dice;
use common::fs::{Dump, Fs, Op, Ours, Plain, dump, with_times_of};
use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;
use stmount::error::{Error, Kind, Result};
use stmount::formats::{Volume, Writer};
use stmount::open::Claim;
use stmount::open::outbox::Outbox;
use stmount::remote::{Holds, Item, Object, Set, Share, ShareTree, Writes};
use stmount::source::{Failure, Far, FileSource, Fleet, Go, Limit, Memory, ReadAt};
use stmount::tree::{Kind as NodeKind, Time};
use stmount::vfs::{Policy, Rename, Vfs};

/// The other end: a folder, and how it fails.
struct Server {
    root: PathBuf,
    faults: AtomicU64,
    /// After so many requests that write it answers no more.
    left: AtomicU64,
    is_dead: AtomicBool,
    /// Files that are sent wait until there are so many of them at once; and how many there are.
    company: AtomicUsize,
    sending: Mutex<usize>,
    came: Condvar,
}

impl Server {
    fn new(root: &Path) -> Arc<Self> {
        fs::create_dir_all(root).unwrap();
        Arc::new(Self {
            root: root.to_owned(),
            faults: AtomicU64::new(0),
            left: AtomicU64::new(u64::MAX),
            is_dead: AtomicBool::new(false),
            company: AtomicUsize::new(0),
            sending: Mutex::new(0),
            came: Condvar::new(),
        })
    }

    /// Waits for company, and gives up where none comes.
    fn meet(&self) {
        let mut sending = self.sending.lock().unwrap();
        *sending += 1;
        self.came.notify_all();
        let company = self.company.load(SeqCst);
        let waited =
            self.came.wait_timeout_while(sending, Duration::from_secs(20), |sending| *sending < company).unwrap();
        assert!(!waited.1.timed_out(), "{} and no more at once", *waited.0);
    }

    fn dies_after(&self, requests: u64) {
        self.left.store(requests, SeqCst);
    }

    fn lives(&self) {
        self.left.store(u64::MAX, SeqCst);
        self.is_dead.store(false, SeqCst);
    }

    /// Does something, unless the server fails before it, or does not get to say that it is done.
    fn does<T>(&self, work: impl FnOnce() -> std::io::Result<T>) -> Result<T> {
        let gone = || Error::new(Kind::Unreachable, "nobody answers");
        if self.left.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1)).is_err() {
            self.is_dead.store(true, SeqCst);
        }
        if self.is_dead.load(SeqCst) {
            return Err(gone());
        }
        let seed = self.faults.load(SeqCst);
        let mut dice = Dice(seed);
        let fault = if seed == 0 { 99 } else { dice.below(8) };
        self.faults.store(if seed == 0 { 0 } else { dice.0 | 1 }, SeqCst);
        if fault == 0 {
            return Err(gone());
        }
        let done = work().map_err(|e| Error::io(e, "it cannot be done"))?;
        if fault == 1 { Err(gone()) } else { Ok(done) }
    }

    fn at(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }
}

struct Link(Arc<Server>);

fn item(path: &Path) -> std::io::Result<Item> {
    let (meta, name) = (path.symlink_metadata()?, path.file_name().unwrap_or_default().to_string_lossy().into_owned());
    let kind = match meta.file_type() {
        kind if kind.is_dir() => NodeKind::Directory,
        kind if kind.is_symlink() => NodeKind::Symlink,
        _ => NodeKind::File,
    };
    let (secs, len) = (meta.mtime(), (kind == NodeKind::File).then_some(meta.len()));
    let (modified, mode) = (Some(Time { secs, nanos: 0 }), Some(meta.mode() & 0o7777));
    Ok(Item { len, modified, mode, ..Item::new(name, kind) })
}

impl Share for Link {
    fn list(&self, path: &str) -> Result<Vec<Item>> {
        let listed = fs::read_dir(self.0.at(path)).and_then(|dir| dir.map(|entry| item(&entry?.path())).collect());
        listed.map_err(|e| Error::io(e, "it cannot be listed"))
    }

    fn look(&self, path: &str) -> Result<Item> {
        item(&self.0.at(path)).map_err(|e| Error::io(e, "it is not there"))
    }

    fn open(&self, path: &str) -> Result<(String, Object)> {
        let len = self.look(path)?.len.unwrap_or(0);
        Ok((self.0.at(path).display().to_string(), Object::new(Arc::new(Nothing), len)))
    }

    fn target(&self, path: &str) -> Result<Vec<u8>> {
        let target = fs::read_link(self.0.at(path)).map_err(|e| Error::io(e, "it is no link"))?;
        Ok(target.to_string_lossy().into_owned().into_bytes())
    }

    fn writes(&self) -> Option<&dyn Writes> {
        Some(self)
    }
}

impl Writes for Link {
    fn holds(&self) -> Holds {
        Holds { mtime: true, mode: true, links: true, rename: true }
    }

    fn put(&self, path: &str, bytes: &dyn ReadAt, set: &Set, told: &mut dyn FnMut(u64) -> Result<()>) -> Result<()> {
        let mut all = vec![0; bytes.len()? as usize];
        bytes.read_exact_at(0, &mut all)?;
        told(all.len() as u64 / 2)?;
        self.0.meet();
        self.0.does(|| {
            let between = self.0.at(&format!(".{}.part", path.replace('/', "!")));
            fs::write(&between, &all)?;
            set_on(&between, set)?;
            fs::rename(&between, self.0.at(path))
        })
    }

    fn make_dir(&self, path: &str) -> Result<()> {
        self.0.does(|| match fs::create_dir(self.0.at(path)) {
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
            made => made,
        })
    }

    fn link(&self, path: &str, target: &[u8]) -> Result<()> {
        self.0.does(|| {
            let _ = fs::remove_file(self.0.at(path));
            symlink(std::str::from_utf8(target).unwrap(), self.0.at(path))
        })
    }

    fn set(&self, path: &str, set: &Set) -> Result<()> {
        self.0.does(|| set_on(&self.0.at(path), set))
    }

    fn remove(&self, path: &str) -> Result<()> {
        self.0.does(|| gone_is_fine(fs::remove_file(self.0.at(path))))
    }

    fn remove_dir(&self, path: &str) -> Result<()> {
        self.0.does(|| gone_is_fine(fs::remove_dir(self.0.at(path))))
    }

    fn rename(&self, from: &str, to: &str) -> Result<()> {
        self.0.does(|| fs::rename(self.0.at(from), self.0.at(to)))
    }
}

fn gone_is_fine(done: std::io::Result<()>) -> std::io::Result<()> {
    match done {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

fn set_on(path: &Path, set: &Set) -> std::io::Result<()> {
    if let Some(mode) = set.mode {
        fs::set_permissions(path, fs::Permissions::from_mode(mode & 0o7777))?;
    }
    if let Some(time) = set.modified {
        let time = std::time::UNIX_EPOCH + Duration::from_secs(time.secs.max(0) as u64);
        File::open(path)?.set_modified(time)?;
    }
    Ok(())
}

/// Files are read from the disk of the server.
struct Nothing;

impl Far for Nothing {
    fn fetch(&self, _: std::ops::Range<u64>, _: &mut dyn FnMut(&[u8]) -> Go) -> std::result::Result<(), Failure> {
        unreachable!("it is read from the disk")
    }
}

/// A mount of the server, with its queue.
fn mounted(server: &Arc<Server>, states: &Path) -> (Ours, Arc<Outbox>) {
    mounted_with(server, states, Fleet::new(2))
}

/// The same with limits of what is sent.
fn mounted_with(server: &Arc<Server>, states: &Path, fleet: Fleet) -> (Ours, Arc<Outbox>) {
    // What is open goes on being what it was.
    let opener = |path: &str, _: Object| {
        let bytes = fs::read(path).map_err(|e| Error::io(e, "it cannot be read"))?;
        Ok(Arc::new(Memory::new(bytes)) as Arc<dyn ReadAt>)
    };
    let (fleet, patience) = (Arc::new(fleet), Duration::from_secs(5));
    let tree = ShareTree::new(Box::new(Link(server.clone())), Box::new(opener), fleet.clone(), patience).unwrap();
    let (outbox, tree, _) = Outbox::open("test://server/", Arc::new(tree), fleet, states, &Claim::default()).unwrap();
    let outbox = Arc::new(outbox);
    let volume = Volume { writer: Some(outbox.clone()), ..Volume::read_only(tree, "remote folder") };
    (Ours::of(volume), outbox)
}

/// Without what a server does not keep: the times of directories, which change with all that is in them.
fn kept(dump: Dump, model: &Dump) -> Dump {
    let mut dump = with_times_of(dump, model);
    for (path, seen) in &mut dump {
        seen.nlink = 0;
        if seen.kind != NodeKind::File || path.is_empty() {
            seen.mtime = None;
        }
        if path.is_empty() || seen.kind == NodeKind::Symlink {
            seen.mode = 0;
        }
        if let Some(time) = &mut seen.mtime {
            *time = (*time).max(0);
        }
    }
    dump
}

#[track_caller]
fn assert_same(found: Dump, model: &Plain, what: &str) {
    let model = model.dump();
    let (found, wanted) = (kept(found, &model), kept(model.clone(), &model));
    if found != wanted {
        let paths = found.keys().chain(wanted.keys()).filter(|path| found.get(*path) != wanted.get(*path));
        let brief = |dump: &Dump, path: &str| {
            dump.get(path).map(|s| (s.kind, s.mode, s.mtime, s.content.len(), s.xattrs.len()))
        };
        let told: Vec<_> = paths.map(|path| (path, brief(&found, path), brief(&wanted, path))).collect();
        panic!("{what}: found and wanted differ: {told:?}");
    }
}

/// What is on the disk of the server.
fn on_disk(server: &Server) -> Dump {
    let folder = stmount::formats::folder::Folder::open(&server.root).unwrap();
    dump(&Vfs::new(Arc::new(folder), Policy::default()))
}

fn server_paths(dir: &Path) -> Vec<String> {
    let mut all = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        all.push(path.display().to_string());
        if path.is_dir() && !path.is_symlink() {
            all.extend(server_paths(&path));
        }
    }
    all
}

#[track_caller]
fn flushed(server: &Server, ours: &Ours, what: &str) {
    ours.vfs.sync().unwrap();
    let mut last = None;
    for _ in 0..400 {
        match ours.vfs.settle() {
            Ok(()) => return,
            Err(e) => last = Some(e),
        }
        assert!(!server.is_dead.load(SeqCst), "it does not come to an end");
    }
    panic!("{what}: it fails again and again: {last:?}");
}

#[test]
fn random_operations_come_to_a_server_that_fails_and_after_ends_in_the_middle() {
    let only = std::env::var("STMOUNT_SEED").ok().and_then(|seed| seed.parse::<u64>().ok());
    for seed in only.map_or(1..40, |seed| seed..seed + 1) {
        let dir = tempfile::tempdir().unwrap();
        let (server, states) = (Server::new(&dir.path().join("server")), dir.path().join("states"));
        server.faults.store(if seed % 3 == 0 { seed * 2 + 1 } else { 0 }, SeqCst);
        let mut dice = Dice(seed);
        let (mut ours, mut outbox) = mounted(&server, &states);
        let mut model = Plain::holding(*outbox.holds());
        for round in 0..8 {
            for _ in 0..1 + dice.below(40) {
                let op = dice.op(30_000);
                // Who has a file open that nobody can find any more loses it when it all ends.
                if matches!(op, Op::Hold(..) | Op::WriteHeld(..) | Op::Release(_)) {
                    continue;
                }
                if only.is_some() {
                    println!("{}", format!("{op:?}").chars().take(100).collect::<String>());
                }
                let (found, wanted) = (ours.apply(&op), model.apply(&op));
                if found != wanted {
                    for path in server_paths(&server.root) {
                        println!("on the disk: {path}");
                    }
                    for name in ["a", "b", "c", "d"] {
                        println!(
                            "{name}: {:?}",
                            ours.vfs.lookup(1, name.as_bytes()).map(|s| s.map(|s| (s.ino, s.attr.kind)))
                        );
                    }
                    println!("{:?}", ours.vfs.getattr(1).map(|s| s.attr));
                }
                assert_eq!(found, wanted, "seed {seed}, round {round}: {op:?}");
            }
            let what = format!("seed {seed}, round {round}");
            ours.vfs.sync().unwrap();
            assert_same(ours.dump(), &model, &what);
            match dice.below(4) {
                0 => {
                    flushed(&server, &ours, &what);
                    assert_same(on_disk(&server), &model, &format!("{what}, on the disk"));
                    assert_same(ours.dump(), &model, &format!("{what}, when it is there"));
                }
                1 => {
                    // It goes up behind, while it goes on here.
                    let _ = outbox.settle(&stmount::formats::Unwatched, &mut |_| {});
                }
                _ => {
                    server.dies_after(dice.below(12));
                    let is_there = ours.vfs.settle().is_ok();
                    (ours, outbox) = {
                        drop((ours, outbox));
                        server.lives();
                        mounted(&server, &states)
                    };
                    assert_same(ours.dump(), &model, &format!("{what}, after the end (all there: {is_there})"));
                }
            }
        }
        flushed(&server, &ours, &format!("seed {seed}, at last"));
        assert_same(on_disk(&server), &model, &format!("seed {seed}, at last, on the disk"));
        assert_same(ours.dump(), &model, &format!("seed {seed}, at last"));
        let left: Vec<_> = fs::read_dir(&server.root).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert!(left.iter().all(|name| !name.to_string_lossy().starts_with(".stmount")), "{left:?}");
    }
}

#[test]
fn what_is_sent_is_held_by_the_limit_and_comes() {
    let dir = tempfile::tempdir().unwrap();
    let (server, states) = (Server::new(&dir.path().join("server")), dir.path().join("states"));
    let limit = Arc::new(Limit::new(1000));
    let (mut ours, _outbox) = mounted_with(&server, &states, Fleet::limited(2, Some(limit.clone())));
    ours.apply(&Op::Create(vec!["a"])).unwrap();
    ours.apply(&Op::Write(vec!["a"], 0, vec![7; 3000])).unwrap();
    flushed(&server, &ours, "");
    assert_eq!(fs::read(server.at("a")).unwrap(), [7; 3000]);
    // The first half leaves a debt of more than a second.
    assert!(limit.held() >= Duration::from_millis(500), "{:?}", limit.held());
}

#[test]
fn small_files_are_sent_several_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let (server, states) = (Server::new(&dir.path().join("server")), dir.path().join("states"));
    let (mut ours, _outbox) = mounted_with(&server, &states, Fleet::new(4));
    for name in ["a", "b", "c", "d", "e"] {
        ours.apply(&Op::Create(vec![name])).unwrap();
        ours.apply(&Op::Write(vec![name], 0, name.repeat(100).into_bytes())).unwrap();
    }
    // The fifth comes when one of the four is there; by then four were counted.
    server.company.store(4, SeqCst);
    flushed(&server, &ours, "");
    for name in ["a", "b", "c", "d", "e"] {
        assert_eq!(fs::read(server.at(name)).unwrap(), name.repeat(100).as_bytes());
    }
}

#[test]
fn a_file_that_is_open_and_has_no_name_goes_on_while_the_rest_goes_up() {
    let dir = tempfile::tempdir().unwrap();
    let (server, states) = (Server::new(&dir.path().join("server")), dir.path().join("states"));
    let (mut ours, _outbox) = mounted(&server, &states);
    let ops = [
        Op::Create(vec!["a"]),
        Op::Write(vec!["a"], 0, b"contents".to_vec()),
        Op::Hold(vec!["a"], 0),
        Op::Sync,
        Op::Unlink(vec!["a"]),
        Op::Create(vec!["b"]),
        Op::Sync,
        Op::WriteHeld(0, 3, b"TENT".to_vec()),
    ];
    ops.iter().for_each(|op| ours.apply(op).unwrap());
    flushed(&server, &ours, "");
    assert_eq!(ours.held(0).unwrap(), b"conTENTs");
    ours.apply(&Op::WriteHeld(0, 0, b"C".to_vec())).unwrap();
    flushed(&server, &ours, "");
    assert_eq!(ours.held(0).unwrap(), b"ConTENTs");
    assert!(server.at("b").exists() && !server.at("a").exists());
}

#[test]
fn a_file_of_the_server_that_is_open_goes_on_without_a_name() {
    let dir = tempfile::tempdir().unwrap();
    let (server, states) = (Server::new(&dir.path().join("server")), dir.path().join("states"));
    fs::write(server.at("a"), "of the server").unwrap();
    fs::write(server.at("b"), "never read").unwrap();
    let (mut ours, _outbox) = mounted(&server, &states);
    let ops = [
        Op::Hold(vec!["a"], 0),
        Op::WriteHeld(0, 0, b"O".to_vec()),
        Op::Hold(vec!["b"], 1),
        Op::Sync,
        Op::Unlink(vec!["a"]),
        Op::Unlink(vec!["b"]),
    ];
    ops.iter().for_each(|op| ours.apply(op).unwrap());
    // Somebody else takes it away before it can be had.
    fs::remove_file(server.at("b")).unwrap();
    flushed(&server, &ours, "");
    assert_eq!(ours.held(0).unwrap(), b"Of the server");
    assert!(!server.at("a").exists());
}

#[test]
fn names_that_change_places_do_so_on_the_server() {
    let dir = tempfile::tempdir().unwrap();
    let (server, states) = (Server::new(&dir.path().join("server")), dir.path().join("states"));
    for (name, text) in [("a/x", "x in a"), ("b/y", "y in b"), ("c", "c")] {
        fs::create_dir_all(server.at(name).parent().unwrap()).unwrap();
        fs::write(server.at(name), text).unwrap();
    }
    let (mut ours, _outbox) = mounted(&server, &states);
    let ops = [
        Op::Rename(vec!["a"], vec!["b"], Rename::Exchange),
        Op::Rename(vec!["b", "x"], vec!["c"], Rename::Exchange),
        Op::Rename(vec!["a"], vec!["b", "a"], Rename::Replace),
    ];
    ops.iter().for_each(|op| ours.apply(op).unwrap());
    flushed(&server, &ours, "");
    let read = |path: &str| fs::read_to_string(server.at(path)).unwrap();
    assert_eq!((read("b/a/y"), read("b/x"), read("c")), ("y in b".into(), "c".into(), "x in a".into()));
    assert!(!server.at("a").exists());
}

#[test]
fn one_mount_at_a_time_and_a_folder_that_is_only_read_says_so() {
    struct ReadOnly(Link);
    impl Share for ReadOnly {
        fn list(&self, path: &str) -> Result<Vec<Item>> {
            self.0.list(path)
        }
        fn look(&self, path: &str) -> Result<Item> {
            self.0.look(path)
        }
        fn open(&self, path: &str) -> Result<(String, Object)> {
            self.0.open(path)
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let (server, states) = (Server::new(&dir.path().join("server")), dir.path().join("states"));
    let tree = |share: Box<dyn Share>| {
        let opener = |path: &str, _: Object| Ok(Arc::new(FileSource::open(Path::new(path))?) as Arc<dyn ReadAt>);
        Arc::new(ShareTree::new(share, Box::new(opener), Arc::new(Fleet::new(2)), Duration::from_secs(5)).unwrap())
    };
    let open = |share: Box<dyn Share>| {
        let fleet = Arc::new(Fleet::new(2));
        Outbox::open("test://server/", tree(share), fleet, &states, &Claim::default())
    };
    let first = open(Box::new(Link(server.clone()))).map(|(outbox, ..)| outbox).unwrap();
    assert_eq!(open(Box::new(Link(server.clone()))).err().unwrap().kind(), Kind::Locked);
    drop(first);
    assert!(open(Box::new(Link(server.clone()))).is_ok());
    assert_eq!(open(Box::new(ReadOnly(Link(server.clone())))).err().unwrap().kind(), Kind::ReadOnly);
}
