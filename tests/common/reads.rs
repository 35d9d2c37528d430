//! One suite for all that is read from a server: what `ReadAt` promises of an object, and `Tree` of a folder. What a server cannot
//! tell or hold is said by its [`Can`], held against what it tells, and stands so in the table of README.md.

#![allow(dead_code)]

use super::desk::until;
use super::dice::Dice;
use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File, FileTimes, Metadata, Permissions};
use std::ops::ControlFlow;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use stmount::cache::Cache;
use stmount::error::{Kind as ErrorKind, Result};
use stmount::key::NoKeys;
use stmount::open::{self, Far, How};
use stmount::remote::{self, Asking, Item, Link, Set, Writes, http_date};
use stmount::source::{BLOCK, Memory, ReadAt};
use stmount::tree::{Kind, Name, NameBuf, Node, Time, Tree, find_path};

/// A folder of a server.
pub struct Served<'a> {
    /// With a slash at its end.
    pub address: String,
    pub link: Link,
    /// What the server has there: its own directory, or one with the same in it.
    pub was: PathBuf,
    /// How it comes there, where that is not the directory of the server.
    pub by: Option<&'a dyn Writes>,
    pub can: Can,
}

/// What a server tells of a folder, and what it can hold of one.
#[derive(Clone, Copy)]
pub struct Can {
    /// How README.md calls it.
    pub called: &'static str,
    pub lens: Lens,
    /// By its listing, and once a file was opened.
    pub times: [Times; 2],
    pub modes: bool,
    pub owners: bool,
    pub links: Links,
    pub empty_dirs: bool,
    /// Names that begin with a dot.
    pub dot_files: bool,
    /// Names with a line feed in them.
    pub line_feeds: bool,
    pub noticed: Noticed,
    /// Parts of a file can be had.
    pub ranges: bool,
    /// What is open stays open under whatever name.
    pub handles: bool,
    /// There are no directories: of one that is not there nobody can say so.
    pub prefixes: bool,
}

/// Whether a listing tells the lengths of files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lens {
    Exact,
    /// Those of short files, and about those of others, which are none.
    About,
    Untold,
}

/// How exact times of change are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Times {
    Seconds,
    Minutes,
    /// Or minutes, of what was changed not long ago.
    Days,
    /// When it came to the server.
    Upload,
    Untold,
}

/// What becomes of symbolic links.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Links {
    Told,
    /// They are what they lead to.
    Followed,
    LeftOut,
    /// As files, with a length that is another.
    Mistold,
}

/// By what it is noticed that a file was changed while it is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Noticed {
    Tag,
    Date,
    TimeAndLength,
}

/// A web server that is like most.
pub const WEB: Can = Can {
    called: "",
    lens: Lens::Exact,
    times: [Times::Seconds; 2],
    modes: false,
    owners: false,
    links: Links::Followed,
    empty_dirs: true,
    dot_files: true,
    line_feeds: true,
    noticed: Noticed::Tag,
    ranges: true,
    handles: false,
    prefixes: false,
};

impl Can {
    /// Its row in the table of README.md.
    fn row(&self) -> String {
        let lens = match self.lens {
            Lens::Exact => "exact",
            Lens::About => "exact below 1 KB; else each file is asked for",
            Lens::Untold => "none: each file is asked for",
        };
        let word = |times| match times {
            Times::Seconds => "to the second",
            Times::Minutes => "to the minute",
            Times::Days => "to the minute, old ones to the day",
            Times::Upload => "of the upload",
            Times::Untold => "none",
        };
        let [listed, opened] = self.times.map(word);
        let times =
            if listed == opened { listed.to_owned() } else { format!("{listed}; {opened} once it was asked for") };
        let facts = match (self.modes, self.owners) {
            (true, true) => "modes, owners",
            (true, false) => "modes",
            _ => "",
        };
        let links = match self.links {
            Links::Told => "links",
            Links::Followed => "what they lead to",
            Links::LeftOut => "left out",
            Links::Mistold => "as files of a wrong length",
        };
        let dirs = if self.empty_dirs { "yes" } else { "no" };
        let names = match (self.dot_files, self.line_feeds) {
            (true, true) => "all",
            (true, false) => "without line feeds",
            (false, true) => "without a dot in front",
            (false, false) => "without a dot in front, without line feeds",
        };
        let noticed = match self.noticed {
            Noticed::Tag => "ETag",
            Noticed::Date => "Last-Modified",
            Noticed::TimeAndLength => "time and length",
        };
        format!("| {} | {lens} | {times} | {facts} | {links} | {dirs} | {names} | {noticed} |", self.called)
    }
}

impl Times {
    fn is_right(self, told: Option<Time>, was: i64) -> bool {
        let now = Time::now().secs;
        let part = match self {
            Self::Untold => return told.is_none(),
            Self::Upload => return told.is_some_and(|told| (now - told.secs).abs() < 3600),
            Self::Seconds => 1,
            Self::Days if now - was > 200 * 86_400 => 86_400,
            Self::Minutes | Self::Days => 60,
        };
        told.is_some_and(|told| told.secs == was - was.rem_euclid(part))
    }
}

/// Names that are hard to tell in an address, in a page, or in a line.
const NAMES: &[&str] = &[
    "a&b;c",
    "&amp;",
    "&#35;",
    "per%20cent",
    "100%",
    "plus+minus",
    "grüße",
    "gru\u{308}ße",
    "日本 ☃",
    "quote\"'`",
    "hash#tag",
    "ques?tion",
    "[x]{y}",
    "semi;colon",
    "eq=al",
    "<b>tag",
    "back\\slash",
    "a:b",
    "c:",
    "~tilde",
    "star*",
    "two  blanks",
    " before",
    "behind ",
    "-la",
    "...",
    "a -> b",
    "type=dir; z",
    "a|b^c",
    "comma,$x@y!",
    "Index of",
    "http:x",
    "..x",
    "x@",
    "(1)",
];

fn write(path: &Path, bytes: &[u8]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut dice = Dice(seed);
    (0..len.div_ceil(4)).flat_map(|_| (dice.below(1 << 32) as u32).to_le_bytes()).take(len).collect()
}

fn set_time(path: &Path, secs: i64) {
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(secs as u64) + Duration::from_millis(250);
    File::open(path).unwrap().set_times(FileTimes::new().set_modified(time).set_accessed(time)).unwrap();
}

/// Everything below a directory, what is in a directory before it.
fn below(dir: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    let mut entries: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() && !path.is_symlink() {
            all.extend(below(&path));
        }
        all.push(path);
    }
    all
}

/// Fills a directory with what a folder can hold, and what is hard to hold.
pub fn fill_richly(root: &Path) {
    for name in NAMES {
        write(&root.join("names").join(name), name.as_bytes());
        write(&root.join("dirs").join(name).join("in it"), name.as_bytes());
    }
    write(&root.join("names").join("n".repeat(200)), b"long");
    write(&root.join("names").join("ü".repeat(100)), b"long, too");
    for n in 0..150 {
        write(&root.join(format!("many/file-{n}")), format!("{n}\n").repeat(n).as_bytes());
    }
    for name in [&b"plain"[..], b"tab\there", b"line\nfeed", b"\xff none"] {
        write(&root.join("odd").join(std::ffi::OsStr::from_bytes(name)), name);
    }
    write(&root.join("deep/er/and/deeper/text"), "a line of text\n".repeat(20_000).as_bytes());
    fs::create_dir_all(root.join("hollow/hollow too")).unwrap();
    write(&root.join(".hidden"), b"hidden");
    write(&root.join(".hidden too/in it"), b"hidden, too");
    let block = BLOCK as usize;
    for (name, len) in [("empty", 0), ("one", 1), ("block", block), ("over", block + 1), ("large", 5_000_003)] {
        write(&root.join(name), &noise(len, len as u64));
    }
    write(&root.join("goes"), b"goes");
    fs::create_dir(root.join("links")).unwrap();
    symlink("../large", root.join("links/to a file")).unwrap();
    symlink("../deep", root.join("links/to a directory")).unwrap();
    symlink("../nowhere", root.join("links/dangling")).unwrap();
    for (path, mode) in
        [("names/a:b", 0o444), ("names/c:", 0o755), ("one", 0o664), ("names/star*", 0o606), ("deep/er", 0o555)]
    {
        fs::set_permissions(root.join(path), Permissions::from_mode(mode)).unwrap();
    }
    for (n, path) in below(root).iter().filter(|path| !path.is_symlink()).enumerate() {
        set_time(path, 1_600_000_037 + 86_401 * n as i64);
    }
    set_time(&root.join("empty"), Time::now().secs - 5 * 86_400);
}

/// How the program opens what is at an address, with nothing that was kept.
fn how(link: &Link) -> How {
    How { far: Far::new(link.clone(), None, 0), ..How::new(Cache::new(128 << 20)) }
}

fn object(address: &str, link: &Link) -> Result<std::sync::Arc<dyn ReadAt>> {
    Ok(open::access(Path::new(address), &how(link))?.bytes)
}

#[track_caller]
fn assert_reads(bytes: &dyn ReadAt, want: &[u8], at: u64, len: usize) {
    let mut into = vec![0xA5; len];
    let got = bytes.read_at(at, &mut into).unwrap_or_else(|e| panic!("{len} at {at}: {e}"));
    let from = usize::try_from(at).unwrap_or(usize::MAX).min(want.len());
    let want = &want[from..from.saturating_add(len).min(want.len())];
    assert!(got == want.len() && into[..got] == *want, "{len} at {at}: {got} bytes came");
}

#[track_caller]
fn assert_reads_by_chance(bytes: &dyn ReadAt, want: &[u8], seed: u64, times: usize) {
    let mut dice = Dice(seed);
    for _ in 0..times {
        let at = dice.below(want.len() as u64 + 2);
        let most = dice.of(&[10, 1000, BLOCK, 3 * BLOCK, 1 << 20]);
        assert_reads(bytes, want, at, dice.below(most) as usize);
    }
}

/// What an object promises to who reads it.
#[track_caller]
pub fn assert_reads_object(address: &str, link: &Link, want: &[u8]) {
    let len = want.len() as u64;
    let bytes = object(address, link).unwrap();
    assert_eq!((bytes.len().unwrap(), bytes.is_empty().unwrap()), (len, len == 0), "{address}");
    for at in [len.saturating_sub(1), len, len + 1, len + BLOCK, u64::MAX - 1, u64::MAX] {
        for n in [0, 1, 10, BLOCK as usize] {
            assert_reads(&*bytes, want, at, n);
        }
    }
    let edges = (0..=len / BLOCK).step_by(7).chain([len / BLOCK]).map(|block| block * BLOCK);
    for edge in edges {
        for (back, n) in [(1, 2), (0, 1), (1, 1), (100, BLOCK as usize + 200)] {
            assert_reads(&*bytes, want, edge.saturating_sub(back), n);
        }
    }
    assert!(bytes.read_exact_at(len, &mut [0]).is_err() && bytes.read_exact_at(0, &mut []).is_ok());
    // Of what is not here yet, by many at once.
    let again = object(address, link).unwrap();
    std::thread::scope(|scope| {
        for seed in 0..8 {
            let again = &*again;
            scope.spawn(move || assert_reads_by_chance(again, want, seed, 10));
        }
    });
    assert_reads(&*object(address, link).unwrap(), want, 0, want.len() + 1);
    assert!(!bytes.is_changed() && !again.is_changed());
}

impl Served<'_> {
    fn at(&self, name: &str) -> String {
        format!("{}{name}", self.address)
    }

    fn tree(&self) -> std::sync::Arc<dyn Tree> {
        open::open_as(Path::new(&self.address), &how(&self.link)).unwrap().tree
    }

    /// Puts a file there, behind the back of who reads. Where what is open stays what it was, it is changed in place.
    fn put(&self, name: &str, bytes: &[u8], secs: i64) {
        let there = self.was.join(name);
        let new = if self.can.handles { there.clone() } else { self.was.with_extension("new") };
        fs::write(&new, bytes).unwrap();
        set_time(&new, secs);
        fs::rename(new, there).unwrap();
        if let Some(by) = self.by {
            by.put(name, &Memory::new(bytes.to_vec()), &Set::default(), &mut |_| Ok(())).unwrap();
        }
    }

    fn remove(&self, name: &str) {
        fs::remove_file(self.was.join(name)).unwrap();
        if let Some(by) = self.by {
            by.remove(name).unwrap();
        }
    }

    /// Brings all of the directory to where it is served.
    fn bring(&self, by: &dyn Writes) {
        for path in below(&self.was).iter().filter(|path| !path.is_symlink()) {
            let name = path.strip_prefix(&self.was).unwrap().to_str();
            let Some(name) = name.filter(|name| self.can.line_feeds || !name.contains('\n')) else { continue };
            match path.is_dir() {
                true if below(path).iter().all(|path| path.is_symlink()) => by.make_dir(name).unwrap(),
                true => {}
                false => {
                    let bytes = Memory::new(fs::read(path).unwrap());
                    by.put(name, &bytes, &Set::default(), &mut |_| Ok(())).unwrap();
                }
            }
        }
    }

    /// What is to be seen of a directory.
    fn expected(&self, dir: &str) -> BTreeMap<String, Metadata> {
        let entries = fs::read_dir(self.was.join(dir)).unwrap().map(|entry| entry.unwrap());
        let seen = entries.filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let meta = match (entry.metadata().unwrap(), self.can.links) {
                (meta, Links::LeftOut | Links::Mistold) if meta.is_symlink() => return None,
                (meta, Links::Followed) if meta.is_symlink() => fs::metadata(entry.path()).ok()?,
                (meta, _) => meta,
            };
            let is_there = (self.can.dot_files || !name.starts_with('.'))
                && (self.can.line_feeds || !name.contains('\n'))
                && (self.can.empty_dirs || !meta.is_dir() || below(&entry.path()).iter().any(|path| path.is_file()));
            is_there.then_some((name, meta))
        });
        seen.collect()
    }
}

/// All of the suite, over a folder that is filled here.
#[track_caller]
pub fn assert_serves(served: &Served<'_>) {
    if let Some(by) = served.by {
        served.bring(by);
    }
    for name in ["empty", "one", "block", "over", "large"] {
        assert_reads_object(&served.at(name), &served.link, &fs::read(served.was.join(name)).unwrap());
    }
    for missing in ["missing", "missing/x", "names/missing"] {
        let e = object(&served.at(missing), &served.link).err().unwrap_or_else(|| panic!("{missing} is there"));
        assert_eq!(e.kind(), ErrorKind::NotFound, "{missing}: {e}");
    }
    for none in ["missing/", "one/"] {
        let opened = open::open_as(Path::new(&served.at(none)), &how(&served.link));
        assert_eq!(opened.is_ok(), served.can.prefixes, "{none}");
    }
    assert_notices(served);
    assert_is_tree(served);
    let readme = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    let row = served.can.row();
    assert!(readme.lines().any(|line| line == row), "README.md has no row {row}");
}

/// What is changed while it is open is told, and never mixed with what it was.
#[track_caller]
fn assert_notices(served: &Served<'_>) {
    let [old, new] = [1, 2].map(|seed| noise(24 << 20, seed));
    served.put("changes", &old, 1_500_000_000);
    let address = served.at("changes");
    let told = remote::open(&address, &asking(&served.link)).unwrap();
    assert_eq!(told.far.is_forward(), !served.can.ranges);
    let stamp = told.stamp.expect("its version is told");
    let is_so = match served.can.noticed {
        Noticed::Tag => stamp.contains('"'),
        Noticed::Date => http_date(&stamp).is_some(),
        Noticed::TimeAndLength => stamp.ends_with(&format!(" {}", old.len())),
    };
    assert!(is_so, "a version is called {stamp}");
    let bytes = object(&address, &served.link).unwrap();
    assert_reads(&*bytes, &old, 0, 1000);
    served.put("changes", &new, 1_500_086_400);
    let mut stale = 0;
    let mut into = vec![0; 5000];
    for at in (0..old.len()).step_by(1 << 19) {
        let len = into.len().min(old.len() - at);
        match bytes.read_at(at as u64, &mut into[..len]) {
            Ok(got) => assert!(got == len && into[..len] == old[at..at + len], "{at}"),
            Err(e) => {
                assert_eq!(e.kind(), ErrorKind::Changed, "{at}: {e}");
                stale += 1;
            }
        }
    }
    // Of who is read from the front all may have come before that.
    assert!(stale > 0 && bytes.is_changed() || !served.can.ranges, "{stale} reads told that it was changed");
    assert_reads(&*object(&address, &served.link).unwrap(), &new, 12 << 20, 100_000);
    served.remove("changes");
    assert_eq!(object(&address, &served.link).err().unwrap().kind(), ErrorKind::NotFound);
}

type Listed = Vec<(NameBuf, Node, Kind)>;

/// At most so many entries behind a name.
fn list(tree: &dyn Tree, dir: Node, after: Option<Name<'_>>, most: usize) -> Listed {
    let mut listed = Vec::new();
    tree.list(dir, after, &mut |name, node, kind| {
        listed.push((name.to_owned(), node, kind));
        if listed.len() == most { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })
    .unwrap();
    listed
}

fn find(tree: &dyn Tree, dir: Node, name: &str) -> Result<Option<Node>> {
    tree.find(dir, Name::new(name.as_bytes()).unwrap())
}

/// A walk through a tree, and the numbers of what it has met.
struct Walk<'a> {
    served: &'a Served<'a>,
    tree: &'a dyn Tree,
    nodes: HashMap<String, Node>,
}

impl Walk<'_> {
    fn over<'a>(served: &'a Served<'a>, tree: &'a dyn Tree) -> HashMap<String, Node> {
        let mut walk = Walk { served, tree, nodes: HashMap::new() };
        walk.directory("", tree.root());
        walk.nodes
    }

    fn directory(&mut self, path: &str, dir: Node) {
        let (tree, expected) = (self.tree, self.served.expected(path));
        let listed = list(tree, dir, None, usize::MAX);
        let mut names: Vec<_> = listed.iter().map(|(name, ..)| name.as_name().to_string()).collect();
        names.sort();
        // What leads nowhere may be told, and what is before a line feed, and something else for what is no text. There is
        // nothing to be had of it.
        let can = &self.served.can;
        names.retain(|name| match &name[..] {
            "dangling" => can.links == Links::Told,
            "line" => false,
            name => !name.ends_with(" none"),
        });
        assert!(names.iter().eq(expected.keys()), "{path:?}: {names:#?} instead of {:#?}", expected.keys());
        for at in (0..listed.len()).step_by(1 + listed.len() / 10) {
            let after = Some(listed[at].0.as_name());
            assert_eq!(list(tree, dir, after, usize::MAX), listed[at + 1..], "{path}, behind {:?}", names.get(at));
            assert_eq!(list(tree, dir, after, 2), listed[at + 1..(at + 3).min(listed.len())]);
        }
        for (name, node, kind) in &listed {
            assert_eq!(tree.find(dir, name.as_name()).unwrap(), Some(*node), "{path}/{name:?}");
            let path = format!("{path}/{}", name.as_name()).trim_start_matches('/').to_owned();
            assert!(self.nodes.insert(path.clone(), *node).is_none());
            match expected.get(&name.as_name().to_string()) {
                Some(meta) => self.entry(&path, *node, *kind, meta),
                None => assert_eq!(tree.open(*node).err().unwrap().kind(), ErrorKind::NotFound, "{path}"),
            }
        }
        assert_eq!(find(tree, dir, "not there").unwrap(), None);
        assert_eq!(tree.open(dir).err().unwrap().kind(), ErrorKind::IsADirectory);
    }

    fn entry(&mut self, path: &str, node: Node, kind: Kind, meta: &Metadata) {
        let (tree, can) = (self.tree, &self.served.can);
        let attr = tree.attr(node).unwrap_or_else(|e| panic!("{path}: {e}"));
        assert_eq!((attr.kind, Kind::from_mode(meta.mode())), (kind, Some(kind)), "{path}");
        let usual = if kind == Kind::Directory { 0o755 } else { 0o644 };
        let mode = if can.modes { meta.mode() & 0o7777 } else { usual };
        assert_eq!(attr.mode & 0o7777, mode, "{path}: {:o} instead of {mode:o}", attr.mode);
        let own = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
        assert_eq!((attr.uid, attr.gid), if can.owners { (meta.uid(), meta.gid()) } else { own }, "{path}");
        match kind {
            Kind::Directory => return self.directory(path, node),
            Kind::Symlink => {
                let target = fs::read_link(self.served.was.join(path)).unwrap();
                return assert!(tree.target(node).unwrap() == target.as_os_str().as_bytes(), "{path}");
            }
            _ => assert_eq!(attr.size, meta.len(), "{path}"),
        }
        let want = fs::read(self.served.was.join(path)).unwrap();
        let bytes = tree.open(node).unwrap_or_else(|e| panic!("{path}: {e}"));
        assert_eq!(bytes.len().unwrap(), meta.len(), "{path}");
        assert_reads(&*bytes, &want, 0, want.len() + 1);
        let time = tree.attr(node).unwrap().mtime;
        assert!(can.times[1].is_right(Some(time), meta.mtime()), "{path}: changed at {time:?}, not {}", meta.mtime());
        assert_eq!(tree.target(node).unwrap_err().kind(), ErrorKind::Invalid);
        let e = tree.list(node, None, &mut |_, _, _| ControlFlow::Continue(())).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::NotADirectory, "{path}");
    }
}

/// What is told of a directory by its listing alone.
#[track_caller]
fn assert_tells(served: &Served<'_>, dir: &str) {
    let can = &served.can;
    let share = remote::share(&served.address, &served.link, &NoKeys).unwrap();
    let items: HashMap<String, Item> =
        share.list(dir).unwrap().into_iter().map(|item| (item.name.clone(), item)).collect();
    for (name, meta) in served.expected(dir) {
        let item = items.get(&name).unwrap_or_else(|| panic!("{name:?} is not told of {:?}", items.keys()));
        if meta.is_file() {
            let is_right = match can.lens {
                Lens::Exact => item.len == Some(meta.len()),
                Lens::About => item.len == Some(meta.len()).filter(|len| *len < 973),
                Lens::Untold => item.len.is_none(),
            };
            assert!(is_right, "{name}: {item:?}, and there are {} bytes", meta.len());
        }
        if meta.is_file() || item.modified.is_some() {
            assert!(can.times[0].is_right(item.modified, meta.mtime()), "{name}: {item:?}, it was {}", meta.mtime());
        }
        assert_eq!(item.mode, can.modes.then_some(meta.mode() & 0o7777), "{name}");
        assert_eq!(item.owner, can.owners.then_some((meta.uid(), meta.gid())), "{name}");
    }
}

/// What a folder promises to who goes through it.
#[track_caller]
pub fn assert_is_tree(served: &Served<'_>) {
    for dir in ["", "names", "many"] {
        assert_tells(served, dir);
    }
    let tree = served.tree();
    let (tree, root) = (&*tree, tree.root());
    let first = Walk::over(served, tree);
    assert!(first.len() > 250);
    // By many at once.
    std::thread::scope(|scope| {
        for seed in 0..8 {
            let paths: Vec<_> = first.iter().collect();
            scope.spawn(move || {
                let mut dice = Dice(seed);
                for _ in 0..30 {
                    let (path, node) = dice.of(&paths);
                    assert_eq!(find_path(tree, path.as_bytes()).unwrap(), *node, "{path}");
                    let was = served.was.join(path);
                    if was.is_file() && !was.is_symlink() {
                        assert_reads_by_chance(&*tree.open(*node).unwrap(), &fs::read(was).unwrap(), seed, 3);
                    }
                }
            });
        }
    });
    assert_eq!(tree.attr(Node(u64::MAX)).unwrap_err().kind(), ErrorKind::NotFound);
    for outside in ["..", "names/../one", "/../x"] {
        assert!(find_path(tree, outside.as_bytes()).is_err(), "{outside}");
    }
    assert_sees_changes(served, tree, root);
    let later = Walk::over(served, tree);
    for (path, node) in later.iter().filter(|(path, _)| first.contains_key(*path)) {
        assert_eq!(first[path], *node, "{path}: it has another number");
    }
    assert_eq!(later.len(), first.len() + 1, "one has gone, and two have come");
}

#[track_caller]
fn assert_sees_changes(served: &Served<'_>, tree: &dyn Tree, root: Node) {
    let one = find(tree, root, "one").unwrap().unwrap();
    let before = tree.open(one).unwrap();
    let secs = Time::now().secs - 86_400;
    served.put("later", b"later", secs);
    served.put("late", b"late", secs);
    served.put("one", b"another one", secs);
    served.remove("goes");
    until("what has come is there", || find(tree, root, "later").unwrap().is_some());
    assert_eq!(find(tree, root, "goes").unwrap(), None);
    // Who had read as far as that goes on behind it.
    let listed = list(tree, root, Some(Name::new(b"goes").unwrap()), usize::MAX);
    assert!(listed.iter().all(|(name, ..)| name.as_name().bytes() > &b"goes"[..]) && listed.len() > 5);
    until("another one is there", || tree.open(one).unwrap().len().unwrap() == 11);
    assert_reads(&*tree.open(one).unwrap(), b"another one", 0, 100);
    assert_eq!(tree.attr(one).unwrap().size, 11);
    assert_eq!(before.len().unwrap(), 1);
}

fn asking(link: &Link) -> Asking {
    Asking { link: link.clone(), keys: Arc::new(NoKeys), depot: None, meter: Arc::default() }
}
