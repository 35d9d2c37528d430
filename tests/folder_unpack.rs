//! A folder as a tree, and a tree as a folder.

#[path = "common/fake.rs"]
mod fake;
#[path = "common/metadata.rs"]
mod metadata;

use fake::Fake;
use metadata::{describe, everything, is_root, noise};
use proptest::prelude::*;
use std::collections::HashMap;
use std::fs;
use std::ops::ControlFlow;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use stmount::error::{Error, Kind as ErrorKind};
use stmount::formats::folder::Folder;
use stmount::formats::{Unwatched, Watch};
use stmount::jobs::unpack::{Existing, MAX_DEPTH, Options, Report, unpack};
use stmount::tree::{Filter, Kind, Name, Node, Time, Tree};
use tempfile::{TempDir, tempdir};

/// Remembers what it was told.
#[derive(Default)]
struct Ears {
    skipped: Mutex<Vec<(String, ErrorKind, String)>>,
    bytes: AtomicU64,
    /// Wants the work to end after so many bytes.
    patience: Option<u64>,
}

impl Ears {
    fn heard(&self) -> Vec<(String, ErrorKind)> {
        let mut all: Vec<_> = self.skipped.lock().unwrap().iter().map(|(p, k, _)| (p.clone(), *k)).collect();
        all.sort_by(|a, b| a.0.cmp(&b.0));
        all
    }
}

impl Watch for Ears {
    fn advance(&self, bytes: u64, _: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    fn skipped(&self, path: &[u8], why: &Error) {
        self.skipped.lock().unwrap().push((path.escape_ascii().to_string(), why.kind(), why.to_string()));
    }

    fn is_cancelled(&self) -> bool {
        self.patience.is_some_and(|p| self.bytes.load(Ordering::Relaxed) > p)
    }
}

fn plain(tree: &dyn Tree, to: &Path) -> Report {
    let ears = Ears::default();
    let report = unpack(tree, to, &Options::default(), &ears).unwrap();
    assert_eq!(ears.skipped.into_inner().unwrap(), [], "nothing is missing");
    assert!(report.is_clean());
    report
}

fn rsync_sees_no_difference(a: &Path, b: &Path) {
    let slash = |p: &Path| format!("{}/", p.display());
    let out = Command::new("rsync")
        .args(["-aHAXn", "--checksum", "--delete", "--itemize-changes"])
        .args([slash(a), slash(b)])
        .output()
        .unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    assert_eq!(String::from_utf8_lossy(&out.stdout), "");
}

// ---- everything is kept ----

#[test]
fn a_folder_with_everything_is_the_same_after_unpacking() {
    let tmp = tempdir().unwrap();
    let (from, to) = (tmp.path().join("from"), tmp.path().join("to"));
    fs::create_dir(&from).unwrap();
    let refused = everything(&from);
    if !is_root() {
        println!("skipped: owners, devices and files that nobody may read need root");
        return;
    }
    assert_eq!(refused, Vec::<String>::new());
    let report = plain(&Folder::open(&from).unwrap(), &to);
    assert!(report.files > 35 && report.dirs > 50 && report.bytes > 128 << 20, "{report:?}");
    rsync_sees_no_difference(&from, &to);
    assert_eq!(describe(&Folder::open(&from).unwrap()), describe(&Folder::open(&to).unwrap()));
    details(&from, &to);
}

/// What rsync does not compare.
fn details(from: &Path, to: &Path) {
    for name in ["all hole", "hole in front", "hole behind", "islands"] {
        let (a, b) = (fs::metadata(from.join("sparse").join(name)), fs::metadata(to.join("sparse").join(name)));
        let (a, b) = (a.unwrap(), b.unwrap());
        assert_eq!((a.len(), a.blocks()), (b.len(), b.blocks()), "{name}");
    }
    let meta = |path: &str| fs::symlink_metadata(to.join(path)).unwrap();
    let ino = |path: &str| (meta(path).ino(), meta(path).nlink());
    assert_eq!(ino("links/first"), ino("links/sub/third"));
    assert_eq!(ino("links/first").1, 3);
    assert_eq!(ino("links/symlink"), ino("links/symlink again"));
    assert_eq!(ino("special/fifo"), ino("special/fifo again"));
    assert!(meta("special/socket").file_type().is_socket());
    for path in ["special/null", "special/large number", "special/block"] {
        assert_eq!(meta(path).rdev(), fs::symlink_metadata(from.join(path)).unwrap().rdev());
    }
    for path in metadata::below(from) {
        let there = to.join(path.strip_prefix(from).unwrap());
        let time = |p: &Path| fs::symlink_metadata(p).map(|m| (m.mtime(), m.mtime_nsec())).unwrap();
        assert_eq!(time(&path), time(&there), "{}", path.display());
    }
}

#[test]
fn one_thread_and_many_give_the_same() {
    let tmp = tempdir().unwrap();
    let from = tmp.path().join("from");
    fs::create_dir(&from).unwrap();
    everything(&from);
    for threads in [1, 9] {
        let to = tmp.path().join(format!("to{threads}"));
        unpack(&Folder::open(&from).unwrap(), &to, &Options { threads, ..Options::default() }, &Unwatched).unwrap();
        if is_root() {
            rsync_sees_no_difference(&from, &to);
        }
    }
}

#[test]
fn a_path_longer_than_the_kernel_takes_comes_through() {
    let tmp = tempdir().unwrap();
    let mut tree = Fake::new();
    let mut dir = 0;
    for _ in 0..150 {
        dir = tree.dir(dir, &[b'd'; 200]);
    }
    tree.file(dir, b"leaf", b"at the bottom");
    let (a, b) = (tmp.path().join("a"), tmp.path().join("b"));
    plain(&tree, &a);
    plain(&Folder::open(&a).unwrap(), &b);
    assert_eq!(describe(&tree), describe(&Folder::open(&b).unwrap()));
}

#[test]
fn an_inherited_acl_is_not_left_on_what_is_unpacked() {
    let tmp = tempdir().unwrap();
    let (from, to) = (tmp.path().join("from"), tmp.path().join("to"));
    fs::create_dir_all(from.join("dir")).unwrap();
    fs::create_dir(&to).unwrap();
    fs::write(from.join("dir/file"), b"x").unwrap();
    let acl = metadata::acl(&[
        (1, 7, metadata::NOBODY),
        (2, 7, 12_345),
        (4, 5, metadata::NOBODY),
        (16, 7, metadata::NOBODY),
        (32, 0, metadata::NOBODY),
    ]);
    let flags = rustix::fs::XattrFlags::empty();
    if let Err(e) = rustix::fs::lsetxattr(&to, "system.posix_acl_default", &acl, flags) {
        println!("skipped: no ACLs here: {e}");
        return;
    }
    plain(&Folder::open(&from).unwrap(), &to);
    let got = describe(&Folder::open(&to).unwrap());
    let mut want = describe(&Folder::open(&from).unwrap());
    want.insert(String::new(), got[""].clone());
    assert_eq!(got, want);
}

// ---- choices ----

fn three() -> (TempDir, Fake) {
    let mut tree = Fake::new();
    tree.file(0, b"a", b"new a");
    tree.file(0, b"b", b"new b");
    let dir = tree.dir(0, b"dir");
    tree.file(dir, b"c", b"new c");
    (tempdir().unwrap(), tree)
}

fn read(dir: &Path, name: &str) -> String {
    fs::read_to_string(dir.join(name)).unwrap()
}

#[test]
fn what_exists_is_refused_kept_or_replaced() {
    for (existing, a, kept) in
        [(Existing::Refuse, "old a", 0), (Existing::Keep, "old a", 1), (Existing::Replace, "new a", 0)]
    {
        let (to, tree) = three();
        fs::write(to.path().join("a"), "old a").unwrap();
        fs::create_dir(to.path().join("dir")).unwrap();
        let ears = Ears::default();
        let report = unpack(&tree, to.path(), &Options { existing, ..Options::default() }, &ears).unwrap();
        let told = if existing == Existing::Refuse { vec![("a".to_owned(), ErrorKind::Exists)] } else { vec![] };
        assert_eq!(ears.heard(), told);
        assert_eq!((report.kept, report.skipped), (kept, told.len() as u64));
        assert_eq!([read(to.path(), "a"), read(to.path(), "dir/c")], [a, "new c"]);
        assert_eq!(fs::read_dir(to.path()).unwrap().count(), 3, "no temporary file is left");
    }
}

#[test]
fn replacing_puts_links_over_links_and_never_touches_where_they_lead() {
    let tmp = tempdir().unwrap();
    let (from, to) = (tmp.path().join("from"), tmp.path().join("to"));
    fs::create_dir(&from).unwrap();
    everything(&from);
    let options = Options { existing: Existing::Replace, ..Options::default() };
    unpack(&Folder::open(&from).unwrap(), &to, &options, &Unwatched).unwrap();
    let again = unpack(&Folder::open(&from).unwrap(), &to, &options, &Unwatched).unwrap();
    assert!(!is_root() || again.is_clean());
    if is_root() {
        rsync_sees_no_difference(&from, &to);
    }
}

#[test]
fn a_filter_and_a_subdir_choose_what_is_unpacked() {
    let (_, tree) = three();
    let run = |include: &[&str], exclude: &[&str], subdir: Option<&str>| {
        let to = tempdir().unwrap();
        let own = |s: &[&str]| s.iter().map(|s| s.to_string()).collect::<Vec<_>>();
        let filter = Filter::new(&own(include), &own(exclude)).unwrap();
        let subdir = subdir.map(|s| s.as_bytes().to_vec());
        unpack(&tree, to.path(), &Options { filter, subdir, ..Options::default() }, &Unwatched).unwrap();
        let all = metadata::below(to.path());
        let mut names: Vec<_> =
            all[1..].iter().map(|p| p.strip_prefix(to.path()).unwrap().display().to_string()).collect();
        names.sort();
        names.join(" ")
    };
    assert_eq!(run(&[], &["dir"], None), "a b");
    assert_eq!(run(&["a"], &[], None), "a", "no empty directories for what is left out");
    assert_eq!(run(&["dir/c"], &[], None), "dir dir/c");
    assert_eq!(run(&["dir"], &["c"], None), "dir");
    assert_eq!(run(&[], &[], Some("dir")), "c");
    assert_eq!(run(&[], &[], Some("/dir/c")), "c");
}

#[test]
fn setuid_bits_need_the_owner() {
    let mut tree = Fake::new();
    let file = tree.file(0, b"setuid", b"#!");
    tree.nodes[file].attr.mode = 0o6755;
    for (same_owner, mode) in [(true, if is_root() { 0o6755 } else { 0o755 }), (false, 0o755)] {
        let to = tempdir().unwrap();
        let options = Options { same_owner: Some(same_owner && is_root()), ..Options::default() };
        unpack(&tree, to.path(), &options, &Unwatched).unwrap();
        assert_eq!(fs::metadata(to.path().join("setuid")).unwrap().permissions().mode() & 0o7777, mode);
    }
}

#[test]
fn an_interrupted_unpacking_leaves_no_half_file() {
    let mut tree = Fake::new();
    let bytes = noise(8 << 20, 1);
    tree.file(0, b"large", &bytes);
    let to = tempdir().unwrap();
    let ears = Ears { patience: Some(2 << 20), ..Ears::default() };
    let e = unpack(&tree, to.path(), &Options::default(), &ears).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Interrupted);
    assert_eq!(fs::read_dir(to.path()).unwrap().count(), 0);
}

// ---- hostile trees ----

/// A target beside a directory that must stay as it is.
struct Arena {
    tmp: TempDir,
    before: std::collections::BTreeMap<String, String>,
}

impl Arena {
    fn new() -> Self {
        let tmp = tempdir().unwrap();
        fs::create_dir(tmp.path().join("outside")).unwrap();
        fs::write(tmp.path().join("outside/precious"), "precious").unwrap();
        fs::create_dir(tmp.path().join("target")).unwrap();
        let before = describe(&Folder::open(&tmp.path().join("outside")).unwrap());
        Self { tmp, before }
    }

    fn outside(&self) -> std::path::PathBuf {
        self.tmp.path().join("outside")
    }

    fn target(&self) -> std::path::PathBuf {
        self.tmp.path().join("target")
    }

    /// Unpacks by every policy, and returns what was told under the last.
    fn survives(&self, tree: &dyn Tree) -> Vec<(String, ErrorKind)> {
        let mut told = Vec::new();
        for existing in [Existing::Refuse, Existing::Keep, Existing::Replace] {
            let ears = Ears::default();
            unpack(tree, &self.target(), &Options { existing, threads: 4, ..Options::default() }, &ears).unwrap();
            assert_eq!(describe(&Folder::open(&self.outside()).unwrap()), self.before);
            assert_eq!(fs::read_dir(self.tmp.path()).unwrap().count(), 2, "nothing was made beside the target");
            told = ears.heard();
        }
        told
    }
}

#[test]
fn a_link_followed_by_a_directory_of_its_name_is_not_written_through() {
    let arena = Arena::new();
    for target in [arena.outside().to_str().unwrap().to_owned(), "../outside".to_owned()] {
        let mut tree = Fake::new();
        tree.link(0, b"door", target.as_bytes());
        let dir = tree.dir(0, b"door");
        tree.file(dir, b"precious", b"overwritten");
        tree.file(dir, b"new", b"planted");
        assert_eq!(arena.survives(&tree), [("door".to_owned(), ErrorKind::Damaged)]);
    }
}

#[test]
fn a_link_followed_by_a_file_of_its_name_is_not_written_through() {
    let arena = Arena::new();
    let mut tree = Fake::new();
    tree.link(0, b"door", b"../outside/precious");
    tree.file(0, b"door", b"overwritten");
    assert_eq!(arena.survives(&tree), [("door".to_owned(), ErrorKind::Damaged)]);
}

#[test]
fn links_that_are_in_the_target_already_are_not_followed() {
    let arena = Arena::new();
    symlink("../outside", arena.target().join("dir")).unwrap();
    symlink("../outside/precious", arena.target().join("file")).unwrap();
    symlink("../outside/planted", arena.target().join("dangling")).unwrap();
    let mut tree = Fake::new();
    let dir = tree.dir(0, b"dir");
    tree.file(dir, b"precious", b"overwritten");
    tree.file(0, b"file", b"overwritten");
    tree.file(0, b"dangling", b"planted");
    assert_eq!(arena.survives(&tree), []);
    assert_eq!(read(&arena.target(), "dir/precious"), "overwritten", "replaced by a directory of its own");
    assert!(!arena.target().join("dir").is_symlink());
}

#[test]
fn without_leave_to_replace_a_link_in_the_place_of_a_directory_costs_that_directory() {
    let arena = Arena::new();
    symlink("../outside", arena.target().join("dir")).unwrap();
    let mut tree = Fake::new();
    let dir = tree.dir(0, b"dir");
    tree.file(dir, b"precious", b"overwritten");
    tree.file(0, b"file", b"fine");
    let ears = Ears::default();
    let report = unpack(&tree, &arena.target(), &Options::default(), &ears).unwrap();
    assert_eq!(ears.heard(), [("dir".to_owned(), ErrorKind::Exists)]);
    assert_eq!((report.skipped, report.files), (1, 1));
}

#[test]
fn a_hard_link_to_a_symbolic_link_links_the_link() {
    let arena = Arena::new();
    let mut tree = Fake::new();
    let link = tree.link(0, b"one", b"../outside/precious");
    tree.again(0, b"two", link);
    assert_eq!(arena.survives(&tree), []);
    assert!(arena.target().join("two").is_symlink());
}

#[test]
fn a_directory_that_is_in_itself_is_entered_once() {
    let mut tree = Fake::new();
    let dir = tree.dir(0, b"dir");
    tree.again(dir, b"self", dir);
    tree.again(dir, b"root", 0);
    tree.again(0, b"twin", dir);
    tree.file(dir, b"file", b"fine");
    let (to, ears) = (tempdir().unwrap(), Ears::default());
    unpack(&tree, to.path(), &Options::default(), &ears).unwrap();
    let told: Vec<_> = ["dir/root", "dir/self", "twin"].map(|p| (p.to_owned(), ErrorKind::Damaged)).into();
    assert_eq!(ears.heard(), told);
    assert_eq!(read(to.path(), "dir/file"), "fine");
}

#[test]
fn a_tree_without_a_bottom_ends_at_the_limit() {
    let to = tempdir().unwrap();
    let mut tree = Fake::new();
    let mut dir = 0;
    (0..MAX_DEPTH + 10).for_each(|_| dir = tree.dir(dir, b"d"));
    let ears = Ears::default();
    let report = unpack(&tree, to.path(), &Options::default(), &ears).unwrap();
    assert_eq!(report.dirs, MAX_DEPTH as u64);
    assert_eq!(ears.heard().iter().map(|h| h.1).collect::<Vec<_>>(), [ErrorKind::Limit]);
}

#[test]
fn a_damaged_file_costs_only_itself_and_replaces_nothing() {
    for existing in [Existing::Refuse, Existing::Replace] {
        let mut tree = Fake::new();
        for i in 0..20 {
            tree.file(0, format!("file{i:02}").as_bytes(), &noise(3 << 20, i));
        }
        tree.nodes[10].breaks_at = Some(2 << 20);
        let (to, ears) = (tempdir().unwrap(), Ears::default());
        if existing == Existing::Replace {
            fs::write(to.path().join("file09"), "the last good one").unwrap();
        }
        let report = unpack(&tree, to.path(), &Options { existing, ..Options::default() }, &ears).unwrap();
        assert_eq!(ears.heard(), [("file09".to_owned(), ErrorKind::Damaged)]);
        assert_eq!((report.files, report.skipped), (19, 1));
        let left = fs::read_to_string(to.path().join("file09")).ok();
        assert_eq!(left.as_deref(), (existing == Existing::Replace).then_some("the last good one"));
        assert_eq!(fs::read_dir(to.path()).unwrap().count(), if left.is_some() { 20 } else { 19 });
    }
}

#[test]
fn when_the_first_of_two_names_fails_the_second_is_tried() {
    let mut tree = Fake::new();
    let file = tree.file(0, b"a", b"contents");
    tree.again(0, b"b", file);
    let (to, ears) = (tempdir().unwrap(), Ears::default());
    fs::write(to.path().join("a"), "in the way").unwrap();
    unpack(&tree, to.path(), &Options { threads: 1, ..Options::default() }, &ears).unwrap();
    assert_eq!(ears.heard(), [("a".to_owned(), ErrorKind::Exists)]);
    assert_eq!([read(to.path(), "a"), read(to.path(), "b")], ["in the way", "contents"]);
}

#[test]
fn absurd_sizes_are_a_hole_or_a_clean_error() {
    let mut tree = Fake::new();
    let (large, absurd) = (tree.file(0, b"large", b""), tree.file(0, b"absurd", b""));
    tree.nodes[large].hole = 1 << 40;
    tree.nodes[absurd].hole = i64::MAX as u64;
    tree.file(0, b"small", b"fine");
    let (to, ears) = (tempdir().unwrap(), Ears::default());
    unpack(&tree, to.path(), &Options::default(), &ears).unwrap();
    assert_eq!(read(to.path(), "small"), "fine");
    let large = fs::metadata(to.path().join("large")).unwrap();
    assert_eq!((large.len(), large.blocks()), (1 << 40, 0));
    match fs::metadata(to.path().join("absurd")) {
        Ok(m) => assert_eq!((m.len(), m.blocks()), (i64::MAX as u64, 0)),
        Err(_) => assert_eq!(ears.heard(), [("absurd".to_owned(), ErrorKind::TooLarge)]),
    }
}

#[test]
fn numbers_that_mean_something_else_to_the_kernel_are_told() {
    let mut tree = Fake::new();
    let file = tree.file(0, b"file", b"x");
    let attr = &mut tree.nodes[file].attr;
    (attr.uid, attr.mtime) = (u32::MAX, Time { secs: 5, nanos: 0x3fff_ffff });
    let (to, ears) = (tempdir().unwrap(), Ears::default());
    let options = Options { same_owner: Some(true), ..Options::default() };
    let report = unpack(&tree, to.path(), &options, &ears).unwrap();
    assert!(report.incomplete > 0);
    let meta = fs::metadata(to.path().join("file")).unwrap();
    assert_eq!((meta.mtime(), meta.mtime_nsec()), (5, 999_999_999));
}

// ---- the folder ----

#[test]
fn pages_of_a_listing_join_and_names_lead_to_the_same_nodes() {
    let tmp = tempdir().unwrap();
    for i in 0..100 {
        fs::write(tmp.path().join(format!("{i:03}")), b"").unwrap();
    }
    fs::hard_link(tmp.path().join("005"), tmp.path().join("077")).unwrap_err();
    fs::remove_file(tmp.path().join("077")).unwrap();
    fs::hard_link(tmp.path().join("005"), tmp.path().join("077")).unwrap();
    let folder = Folder::open(tmp.path()).unwrap();
    let mut all: Vec<(Vec<u8>, Node)> = Vec::new();
    loop {
        let after = all.last().map(|(name, _)| name.clone());
        let mut page = Vec::new();
        let after = after.as_deref().map(|a| Name::new(a).unwrap());
        folder
            .list(folder.root(), after, &mut |name, node, _| {
                page.push((name.bytes().to_vec(), node));
                if page.len() < 7 { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            })
            .unwrap();
        if page.is_empty() {
            break;
        }
        all.extend(page);
    }
    assert_eq!(all.len(), 100);
    assert!(all.is_sorted());
    for (name, node) in &all {
        assert_eq!(folder.find(folder.root(), Name::new(name).unwrap()).unwrap(), Some(*node));
    }
    assert_eq!(all[5].1, all[77].1);
    assert_eq!(folder.find(folder.root(), Name::new(b"none").unwrap()).unwrap(), None);
}

#[test]
fn what_is_swapped_or_vanishes_during_a_walk_is_not_followed() {
    let tmp = tempdir().unwrap();
    let at = |name: &str| tmp.path().join(name);
    for name in ["swapped", "gone", "fifo"] {
        fs::write(at(name), b"harmless").unwrap();
    }
    fs::create_dir(at("dir")).unwrap();
    fs::write(at("dir/file"), b"x").unwrap();
    let folder = Folder::open(tmp.path()).unwrap();
    let node = |name: &str| folder.find(folder.root(), Name::new(name.as_bytes()).unwrap()).unwrap().unwrap();
    let [swapped, gone, fifo, dir] = ["swapped", "gone", "fifo", "dir"].map(node);
    for name in ["swapped", "gone", "fifo"] {
        fs::remove_file(at(name)).unwrap();
    }
    fs::remove_dir_all(at("dir")).unwrap();
    symlink("/etc/passwd", at("swapped")).unwrap();
    symlink("/etc", at("dir")).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, at("fifo"), rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0).unwrap();
    let kind = |e: Option<Error>| e.map(|e| e.kind());
    assert_eq!(kind(folder.open(swapped).err()), Some(ErrorKind::Changed));
    assert_eq!(kind(folder.open(gone).err()), Some(ErrorKind::NotFound));
    assert_eq!(kind(folder.open(fifo).err()), Some(ErrorKind::Invalid));
    let listed = folder.list(dir, None, &mut |_, _, _| ControlFlow::Continue(()));
    assert_eq!(kind(listed.err()), Some(ErrorKind::Changed));
}

#[test]
fn other_file_systems_can_be_left_out() {
    let proc = Path::new("/proc/self");
    let has_other = fs::metadata("/proc").unwrap().dev() != fs::metadata("/").unwrap().dev();
    if !proc.exists() || !has_other {
        println!("skipped: no second file system is mounted at /proc");
        return;
    }
    let count = |folder: Folder| {
        let dir = folder.find(folder.root(), Name::new(b"proc").unwrap()).unwrap().unwrap();
        let mut count = 0;
        folder
            .list(dir, None, &mut |_, _, _| {
                count += 1;
                ControlFlow::Continue(())
            })
            .unwrap();
        count
    };
    assert_eq!(count(Folder::open(Path::new("/")).unwrap().one_file_system(true)), 0);
    assert!(count(Folder::open(Path::new("/")).unwrap()) > 10);
}

// ---- any tree ----

#[derive(Clone, Debug)]
enum Thing {
    Dir(Vec<(u8, Thing)>),
    File(Vec<u8>, u16),
    Link(u8),
    Fifo,
    Again,
}

fn thing() -> impl Strategy<Value = Thing> {
    let leaf = prop_oneof![
        4 => (prop::collection::vec(any::<u8>(), 0..200), any::<u16>()).prop_map(|(b, m)| Thing::File(b, m)),
        1 => (1..255u8).prop_map(Thing::Link),
        1 => Just(Thing::Fifo),
        1 => Just(Thing::Again),
    ];
    leaf.prop_recursive(4, 40, 8, |inner| prop::collection::vec((1..255u8, inner), 0..8).prop_map(Thing::Dir))
}

fn grow(tree: &mut Fake, dir: usize, things: &[(u8, Thing)], last: &mut Option<usize>) {
    for (i, (byte, thing)) in things.iter().enumerate() {
        let name = [format!("{i:02}").as_bytes(), &[if *byte == b'/' { b'-' } else { *byte }]].concat();
        match thing {
            Thing::Dir(inner) => {
                let made = tree.dir(dir, &name);
                tree.nodes[made].attr.mtime = Time { secs: i64::from(*byte) - 99, nanos: u32::from(*byte) };
                grow(tree, made, inner, last);
            }
            Thing::File(bytes, mode) => {
                let made = tree.file(dir, &name, bytes);
                tree.nodes[made].attr.mode = u32::from(*mode & 0o777) | 0o400;
                tree.nodes[made].xattrs = vec![(b"user.x".to_vec(), bytes.iter().take(9).copied().collect())];
                *last = Some(made);
            }
            Thing::Link(byte) => _ = tree.link(dir, &name, &[*byte]),
            Thing::Fifo => _ = tree.add(dir, &name, Kind::Fifo),
            Thing::Again => {
                if let Some(node) = *last {
                    tree.again(dir, &name, node);
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn any_tree_is_the_same_in_a_folder_and_in_its_copy(things in prop::collection::vec((1..255u8, thing()), 0..10)) {
        let (mut tree, mut last) = (Fake::new(), None);
        grow(&mut tree, 0, &things, &mut last);
        let tmp = tempdir().unwrap();
        let (a, b) = (tmp.path().join("a"), tmp.path().join("b"));
        plain(&tree, &a);
        plain(&Folder::open(&a).unwrap(), &b);
        let want = describe(&tree);
        prop_assert_eq!(&describe(&Folder::open(&a).unwrap()), &want);
        prop_assert_eq!(&describe(&Folder::open(&b).unwrap()), &want);
    }
}

#[test]
fn the_fixture_says_what_a_hard_link_is() {
    let mut tree = Fake::new();
    let file = tree.file(0, b"a", b"x");
    tree.again(0, b"b", file);
    let said: HashMap<_, _> = describe(&tree).into_iter().collect();
    assert_eq!(said["/a"], said["/b"]);
}

// ---- leading directories, and the order of contents ----

#[test]
fn leading_directories_are_left_out() {
    let tmp = tempdir().unwrap();
    let (from, to) = (tmp.path().join("from"), tmp.path().join("to"));
    for path in ["top/readme", "top/src/main.c", "top/src/deep/er.c", "other/src/more.c", "alone"] {
        fs::create_dir_all(from.join(path).parent().unwrap()).unwrap();
        fs::write(from.join(path), path).unwrap();
    }
    let ears = Ears::default();
    let options = Options { strip: 1, ..Options::default() };
    unpack(&Folder::open(&from).unwrap(), &to, &options, &ears).unwrap();
    assert_eq!(ears.heard(), []);
    let mut found: Vec<_> = metadata::below(&to).iter().map(|p| p.strip_prefix(&to).unwrap().to_owned()).collect();
    found.sort();
    let expected = ["", "readme", "src", "src/deep", "src/deep/er.c", "src/main.c", "src/more.c"];
    assert_eq!(found, expected.map(std::path::PathBuf::from));
    assert_eq!(fs::read_to_string(to.join("src/main.c")).unwrap(), "top/src/main.c");
}

#[test]
fn what_becomes_too_large_is_stopped() {
    let tmp = tempdir().unwrap();
    let (from, to) = (tmp.path().join("from"), tmp.path().join("to"));
    fs::create_dir(&from).unwrap();
    for n in 0..10 {
        fs::write(from.join(format!("{n}")), noise(100_000, n)).unwrap();
    }
    let with = |most| unpack(&Folder::open(&from).unwrap(), &to, &Options { most, ..Options::default() }, &Unwatched);
    assert_eq!(with(Some(450_000)).unwrap_err().kind(), ErrorKind::Limit);
    let sizes: Vec<_> = fs::read_dir(&to).unwrap().map(|e| e.unwrap().metadata().unwrap().len()).collect();
    assert!(sizes.len() <= 4 && sizes.iter().all(|len| *len == 100_000), "whole files only: {sizes:?}");
    fs::remove_dir_all(&to).unwrap();
    assert_eq!(with(Some(1_000_000)).unwrap().files, 10);
}
