//! One set of operations, three file systems that do them: ours, one in memory that is too simple to be wrong, and a real
//! directory. They must agree about every result and every byte.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::PathBuf;
use std::sync::Arc;
use stmount::cache::Cache;
use stmount::error::Kind as ErrorKind;
use stmount::formats::{self, Access, Holds, Upkeep, Volume};
use stmount::source::Store;
use stmount::tree::Kind;
use stmount::vfs::{Allocate, Commit, Maker, New, Policy, ROOT, Rename, SetAttr, SetXattr, Vfs};

pub type Path = Vec<&'static str>;

#[derive(Clone, Debug)]
pub enum Op {
    Create(Path),
    Mkdir(Path),
    Symlink(Path, &'static str),
    Fifo(Path),
    Unlink(Path),
    Rmdir(Path),
    Link(Path, Path),
    Rename(Path, Path, Rename),
    Write(Path, u64, Vec<u8>),
    Truncate(Path, u64),
    Punch(Path, u64, u64),
    Extend(Path, u64, u64),
    Copy(Path, u64, Path, u64, u64),
    Chmod(Path, u32),
    Mtime(Path, i64),
    SetXattr(Path, &'static str, Vec<u8>),
    RemoveXattr(Path, &'static str),
    /// Opens a file and keeps it open, under a number.
    Hold(Path, usize),
    WriteHeld(usize, u64, Vec<u8>),
    Release(usize),
    Sync,
}

/// What can be seen of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    pub kind: Kind,
    pub mode: u32,
    pub nlink: u32,
    pub content: Vec<u8>,
    pub mtime: Option<i64>,
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// The same for names of one inode, in the order of paths.
    pub same_as: String,
}

pub type Dump = BTreeMap<String, Seen>;

pub trait Fs {
    fn apply(&mut self, op: &Op) -> Result<(), ErrorKind>;
    fn dump(&self) -> Dump;
    fn held(&self, number: usize) -> Option<Vec<u8>>;
}

fn joined(path: &[&str]) -> String {
    path.join("/")
}

// ---- in memory --------------------------------------------------------------------------------------------------------

#[derive(Clone)]
struct Node {
    kind: Kind,
    mode: u32,
    nlink: u32,
    content: Vec<u8>,
    mtime: Option<i64>,
    entries: BTreeMap<&'static str, usize>,
    xattrs: BTreeMap<&'static str, Vec<u8>>,
}

#[derive(Clone)]
pub struct Plain {
    nodes: Vec<Node>,
    held: BTreeMap<usize, usize>,
    holds: Holds,
}

impl Default for Plain {
    fn default() -> Self {
        Self::holding(Holds::EVERYTHING)
    }
}

impl Node {
    fn new(kind: Kind, mode: u32) -> Self {
        let nlink = if kind == Kind::Directory { 2 } else { 1 };
        Self { kind, mode, nlink, content: vec![], mtime: None, entries: BTreeMap::new(), xattrs: BTreeMap::new() }
    }
}

type Done<T = ()> = Result<T, ErrorKind>;

/// What there is no room for is refused.
fn held_by(is_held: bool, refusal: ErrorKind) -> Done {
    if is_held { Ok(()) } else { Err(refusal) }
}

/// What is on the way to a name. All symbolic links lead nowhere.
fn is_dir(kind: Kind) -> Done {
    match kind {
        Kind::Directory => Ok(()),
        Kind::Symlink => Err(ErrorKind::NotFound),
        _ => Err(ErrorKind::NotADirectory),
    }
}

impl Plain {
    /// One that refuses what a format has no room for.
    pub fn holding(holds: Holds) -> Self {
        Self { nodes: vec![Node::new(Kind::Directory, 0o755)], held: BTreeMap::new(), holds }
    }

    fn find(&self, path: &[&'static str]) -> Done<usize> {
        path.iter().try_fold(0, |dir, name| {
            let node = &self.nodes[dir];
            is_dir(node.kind)?;
            node.entries.get(name).copied().ok_or(ErrorKind::NotFound)
        })
    }

    fn parent<'a>(&self, path: &'a [&'static str]) -> Done<(usize, &'a &'static str)> {
        let (name, dir) = path.split_last().expect("no operation is on the root");
        let dir = self.find(dir)?;
        is_dir(self.nodes[dir].kind)?;
        Ok((dir, name))
    }

    fn make(&mut self, path: &[&'static str], node: Node) -> Done {
        let (dir, name) = self.parent(path)?;
        if self.nodes[dir].entries.contains_key(name) {
            return Err(ErrorKind::Exists);
        }
        self.nodes[dir].nlink += u32::from(node.kind == Kind::Directory);
        self.nodes.push(node);
        let id = self.nodes.len() - 1;
        self.nodes[dir].entries.insert(name, id);
        self.touch(dir);
        Ok(())
    }

    fn touch(&mut self, id: usize) {
        self.nodes[id].mtime = None;
    }

    fn file(&self, path: &[&'static str]) -> Done<usize> {
        let id = self.find(path)?;
        match self.nodes[id].kind {
            Kind::File => Ok(id),
            Kind::Directory => Err(ErrorKind::IsADirectory),
            _ => Err(ErrorKind::Invalid),
        }
    }

    fn write(&mut self, id: usize, at: u64, bytes: &[u8]) {
        let content = &mut self.nodes[id].content;
        let end = at as usize + bytes.len();
        if !bytes.is_empty() {
            content.resize(content.len().max(end), 0);
            content[at as usize..end].copy_from_slice(bytes);
            self.touch(id);
        }
    }

    fn rename(&mut self, from: &[&'static str], to: &[&'static str], how: Rename) -> Done {
        let (from_dir, name) = self.parent(from)?;
        let (to_dir, new_name) = self.parent(to)?;
        let id = *self.nodes[from_dir].entries.get(name).ok_or(ErrorKind::NotFound)?;
        let there = self.nodes[to_dir].entries.get(new_name).copied();
        let is_dir = |this: &Self, id: usize| this.nodes[id].kind == Kind::Directory;
        match (there, how) {
            (Some(_), Rename::NoReplace) => return Err(ErrorKind::Exists),
            (None, Rename::Exchange) => return Err(ErrorKind::NotFound),
            _ => {}
        }
        // The kernel refuses these before a file system hears of them.
        if to.starts_with(from) && to.len() > from.len() {
            return Err(ErrorKind::Invalid);
        }
        if from.starts_with(to) && from.len() > to.len() {
            return Err(if how == Rename::Exchange { ErrorKind::Invalid } else { ErrorKind::NotEmpty });
        }
        if there == Some(id) {
            return Ok(());
        }
        if let (Some(other), Rename::Replace) = (there, how) {
            match (is_dir(self, id), is_dir(self, other)) {
                (true, false) => return Err(ErrorKind::NotADirectory),
                (false, true) => return Err(ErrorKind::IsADirectory),
                (true, true) if !self.nodes[other].entries.is_empty() => return Err(ErrorKind::NotEmpty),
                _ => {}
            }
            if is_dir(self, other) {
                self.nodes[to_dir].nlink -= 1;
            }
            self.nodes[other].nlink = self.nodes[other].nlink.saturating_sub(1);
        }
        self.nodes[from_dir].entries.remove(name);
        self.nodes[from_dir].nlink -= u32::from(is_dir(self, id));
        self.nodes[to_dir].nlink += u32::from(is_dir(self, id));
        if let (Some(other), Rename::Exchange) = (there, how) {
            self.nodes[to_dir].nlink -= u32::from(is_dir(self, other));
            self.nodes[from_dir].nlink += u32::from(is_dir(self, other));
            self.nodes[from_dir].entries.insert(name, other);
        }
        self.nodes[to_dir].entries.insert(new_name, id);
        self.touch(from_dir);
        self.touch(to_dir);
        Ok(())
    }

    fn walk(&self, id: usize, path: String, firsts: &mut BTreeMap<usize, String>, dump: &mut Dump) {
        let node = &self.nodes[id];
        let same_as = firsts.entry(id).or_insert_with(|| path.clone()).clone();
        let xattrs = node.xattrs.iter().map(|(name, value)| (name.as_bytes().to_vec(), value.clone())).collect();
        let Node { kind, mode, nlink, content, mtime, .. } = node.clone();
        dump.insert(path.clone(), Seen { kind, mode, nlink, content, mtime, xattrs, same_as });
        for (name, child) in &node.entries {
            self.walk(*child, format!("{path}/{name}"), firsts, dump);
        }
    }
}

impl Fs for Plain {
    fn apply(&mut self, op: &Op) -> Done {
        match op {
            Op::Create(path) => self.make(path, Node::new(Kind::File, 0o640)),
            Op::Mkdir(path) => self.make(path, Node::new(Kind::Directory, 0o750)),
            Op::Symlink(path, target) => {
                self.make(path, Node { content: target.as_bytes().to_vec(), ..Node::new(Kind::Symlink, 0o777) })
            }
            Op::Fifo(path) => {
                self.parent(path)?;
                held_by(self.holds.specials, ErrorKind::NotPermitted)?;
                self.make(path, Node::new(Kind::Fifo, 0o600))
            }
            Op::Unlink(path) => {
                let (dir, name) = self.parent(path)?;
                let id = *self.nodes[dir].entries.get(name).ok_or(ErrorKind::NotFound)?;
                if self.nodes[id].kind == Kind::Directory {
                    return Err(ErrorKind::IsADirectory);
                }
                self.nodes[dir].entries.remove(name);
                self.nodes[id].nlink -= 1;
                self.touch(dir);
                Ok(())
            }
            Op::Rmdir(path) => {
                let (dir, name) = self.parent(path)?;
                let id = *self.nodes[dir].entries.get(name).ok_or(ErrorKind::NotFound)?;
                if self.nodes[id].kind != Kind::Directory {
                    return Err(ErrorKind::NotADirectory);
                }
                if !self.nodes[id].entries.is_empty() {
                    return Err(ErrorKind::NotEmpty);
                }
                self.nodes[dir].entries.remove(name);
                self.nodes[dir].nlink -= 1;
                self.touch(dir);
                Ok(())
            }
            Op::Link(from, to) => {
                let id = self.find(from)?;
                let (dir, name) = self.parent(to)?;
                if self.nodes[dir].entries.contains_key(name) {
                    return Err(ErrorKind::Exists);
                }
                held_by(self.holds.hard_links, ErrorKind::NotPermitted)?;
                if self.nodes[id].kind == Kind::Directory {
                    return Err(ErrorKind::NotPermitted);
                }
                self.nodes[dir].entries.insert(name, id);
                self.nodes[id].nlink += 1;
                self.touch(dir);
                Ok(())
            }
            Op::Rename(from, to, how) => self.rename(from, to, *how),
            Op::Write(path, at, bytes) => {
                let id = self.file(path)?;
                self.write(id, *at, bytes);
                Ok(())
            }
            Op::Truncate(path, size) => {
                let id = self.file(path)?;
                self.nodes[id].content.resize(*size as usize, 0);
                self.touch(id);
                Ok(())
            }
            Op::Punch(path, at, len) => {
                let id = self.file(path)?;
                let content = &mut self.nodes[id].content;
                let end = ((at + len) as usize).min(content.len());
                content[(*at as usize).min(end)..end].fill(0);
                self.touch(id);
                Ok(())
            }
            Op::Extend(path, at, len) => {
                let id = self.file(path)?;
                let content = &mut self.nodes[id].content;
                content.resize(content.len().max((at + len) as usize), 0);
                self.touch(id);
                Ok(())
            }
            Op::Copy(from, from_at, to, to_at, len) => {
                let (from, to) = (self.file(from)?, self.file(to)?);
                let content = &self.nodes[from].content;
                let start = (*from_at as usize).min(content.len());
                let bytes = content[start..(start + *len as usize).min(content.len())].to_vec();
                self.write(to, *to_at, &bytes);
                Ok(())
            }
            Op::Chmod(path, mode) => {
                let id = self.find(path)?;
                if self.nodes[id].kind == Kind::Symlink {
                    return Err(ErrorKind::NotFound);
                }
                self.nodes[id].mode = *mode;
                Ok(())
            }
            Op::Mtime(path, secs) => {
                let id = self.find(path)?;
                self.nodes[id].mtime = Some(*secs);
                Ok(())
            }
            Op::SetXattr(path, name, value) => {
                let id = self.file(path)?;
                held_by(self.holds.xattrs > 0, ErrorKind::Unsupported)?;
                self.nodes[id].xattrs.insert(name, value.clone());
                Ok(())
            }
            Op::RemoveXattr(path, name) => {
                let id = self.file(path)?;
                self.nodes[id].xattrs.remove(name).map(drop).ok_or(ErrorKind::NoAttribute)
            }
            Op::Hold(path, number) => {
                let id = self.file(path)?;
                self.held.insert(*number, id);
                Ok(())
            }
            Op::WriteHeld(number, at, bytes) => {
                let id = *self.held.get(number).ok_or(ErrorKind::Invalid)?;
                self.write(id, *at, bytes);
                Ok(())
            }
            Op::Release(number) => self.held.remove(number).map(drop).ok_or(ErrorKind::Invalid),
            Op::Sync => Ok(()),
        }
    }

    fn dump(&self) -> Dump {
        let mut dump = Dump::new();
        self.walk(0, String::new(), &mut BTreeMap::new(), &mut dump);
        same_firsts(dump)
    }

    fn held(&self, number: usize) -> Option<Vec<u8>> {
        self.held.get(&number).map(|id| self.nodes[*id].content.clone())
    }
}

// ---- a real directory -------------------------------------------------------------------------------------------------

pub struct Real {
    pub root: tempfile::TempDir,
    held: BTreeMap<usize, File>,
}

impl Real {
    pub fn new() -> Self {
        // Of the system's own disk: extended attributes and holes are not everywhere.
        let root = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        fs::set_permissions(root.path(), fs::Permissions::from_mode(0o755)).unwrap();
        Self { root, held: BTreeMap::new() }
    }

    fn path(&self, path: &[&str]) -> PathBuf {
        self.root.path().join(joined(path))
    }

    fn regular(&self, path: &[&str]) -> io::Result<File> {
        let path = self.path(path);
        match fs::symlink_metadata(&path)?.file_type() {
            t if t.is_file() => OpenOptions::new().read(true).write(true).open(path),
            t if t.is_dir() => Err(io::ErrorKind::IsADirectory.into()),
            _ => Err(io::ErrorKind::InvalidInput.into()),
        }
    }

    fn done(&mut self, op: &Op) -> io::Result<()> {
        use rustix::fs::{CWD, FallocateFlags as F, RenameFlags, XattrFlags, fallocate};
        match op {
            Op::Create(path) => {
                let path = self.path(path);
                OpenOptions::new().write(true).create_new(true).mode(0o640).open(&path)?;
                fs::set_permissions(path, fs::Permissions::from_mode(0o640))
            }
            Op::Mkdir(path) => {
                fs::create_dir(self.path(path))?;
                fs::set_permissions(self.path(path), fs::Permissions::from_mode(0o750))
            }
            Op::Symlink(path, target) => symlink(target, self.path(path)),
            Op::Fifo(path) => {
                let mode = rustix::fs::Mode::from_raw_mode(0o600);
                Ok(rustix::fs::mknodat(CWD, self.path(path), rustix::fs::FileType::Fifo, mode, 0)?)
            }
            Op::Unlink(path) => fs::remove_file(self.path(path)),
            Op::Rmdir(path) => fs::remove_dir(self.path(path)),
            Op::Link(from, to) => fs::hard_link(self.path(from), self.path(to)),
            Op::Rename(from, to, how) => {
                let flags = match how {
                    Rename::Replace => RenameFlags::empty(),
                    Rename::NoReplace => RenameFlags::NOREPLACE,
                    Rename::Exchange => RenameFlags::EXCHANGE,
                };
                Ok(rustix::fs::renameat_with(CWD, self.path(from), CWD, self.path(to), flags)?)
            }
            Op::Write(path, at, bytes) => self.regular(path)?.write_all_at(bytes, *at),
            Op::Truncate(path, size) => self.regular(path)?.set_len(*size),
            Op::Punch(path, at, len) => Ok(fallocate(self.regular(path)?, F::PUNCH_HOLE | F::KEEP_SIZE, *at, *len)?),
            Op::Extend(path, at, len) => Ok(fallocate(self.regular(path)?, F::empty(), *at, *len)?),
            Op::Copy(from, from_at, to, to_at, len) => {
                let (from, to) = (self.regular(from)?, self.regular(to)?);
                let mut bytes = vec![0; *len as usize];
                let got = from.read_at(&mut bytes, *from_at)?;
                to.write_all_at(&bytes[..got], *to_at)
            }
            Op::Chmod(path, mode) => fs::set_permissions(self.path(path), fs::Permissions::from_mode(*mode)),
            Op::Mtime(path, secs) => {
                let time = |tv_sec| rustix::fs::Timespec { tv_sec, tv_nsec: 0 };
                let times = rustix::fs::Timestamps { last_access: time(*secs), last_modification: time(*secs) };
                let flags = rustix::fs::AtFlags::SYMLINK_NOFOLLOW;
                Ok(rustix::fs::utimensat(CWD, self.path(path), &times, flags)?)
            }
            Op::SetXattr(path, name, value) => {
                Ok(rustix::fs::fsetxattr(self.regular(path)?, *name, value, XattrFlags::empty())?)
            }
            Op::RemoveXattr(path, name) => Ok(rustix::fs::fremovexattr(self.regular(path)?, *name)?),
            Op::Hold(path, number) => {
                let file = self.regular(path)?;
                self.held.insert(*number, file);
                Ok(())
            }
            Op::WriteHeld(number, at, bytes) => {
                self.held.get(number).ok_or(io::ErrorKind::InvalidInput)?.write_all_at(bytes, *at)
            }
            Op::Release(number) => self.held.remove(number).map(drop).ok_or(io::ErrorKind::InvalidInput.into()),
            Op::Sync => Ok(()),
        }
    }

    fn walk(&self, path: &str, firsts: &mut BTreeMap<u64, String>, times: &Dump, dump: &mut Dump) {
        let full = self.root.path().join(path.trim_start_matches('/'));
        let meta = fs::symlink_metadata(&full).unwrap();
        let kind = Kind::from_mode(meta.mode()).unwrap();
        let content = match kind {
            Kind::File => fs::read(&full).unwrap(),
            Kind::Symlink => fs::read_link(&full).unwrap().into_os_string().into_encoded_bytes(),
            _ => Vec::new(),
        };
        let mut xattrs = Vec::new();
        if kind == Kind::File {
            let mut names = vec![0; 4096];
            let len = rustix::fs::listxattr(&full, &mut names).unwrap();
            for name in names[..len].split(|b| *b == 0).filter(|n| n.starts_with(b"user.")) {
                let mut value = vec![0; 4096];
                let len = rustix::fs::getxattr(&full, name, &mut value).unwrap();
                xattrs.push((name.to_vec(), value[..len].to_vec()));
            }
            xattrs.sort();
        }
        let same_as = firsts.entry(meta.ino()).or_insert_with(|| path.to_owned()).clone();
        let known = times.get(path).and_then(|seen| seen.mtime);
        let mtime = known.map(|_| meta.mtime());
        let (mode, nlink) = (meta.mode() & 0o7777, meta.nlink() as u32);
        dump.insert(path.to_owned(), Seen { kind, mode, nlink, content, mtime, xattrs, same_as });
        if kind == Kind::Directory {
            for entry in fs::read_dir(&full).unwrap() {
                let name = entry.unwrap().file_name().into_string().unwrap();
                self.walk(&format!("{path}/{name}"), firsts, times, dump);
            }
        }
    }

    /// As [`Fs::dump`]; a time of modification is told where `times` has one, which says that somebody has set it.
    pub fn dump_like(&self, times: &Dump) -> Dump {
        let mut dump = Dump::new();
        self.walk("", &mut BTreeMap::new(), times, &mut dump);
        same_firsts(dump)
    }
}

/// Names of one inode refer to the first of them in order, however they were walked.
fn same_firsts(mut dump: Dump) -> Dump {
    let mut first: BTreeMap<String, String> = BTreeMap::new();
    for (path, seen) in &mut dump {
        seen.same_as = first.entry(seen.same_as.clone()).or_insert_with(|| path.clone()).clone();
    }
    dump
}

impl Fs for Real {
    fn apply(&mut self, op: &Op) -> Done {
        self.done(op).map_err(|e| match rustix::io::Errno::from_io_error(&e) {
            Some(rustix::io::Errno::PERM) => ErrorKind::NotPermitted,
            Some(rustix::io::Errno::NODATA) => ErrorKind::NoAttribute,
            _ => stmount::error::Error::io(e, "").kind(),
        })
    }

    fn dump(&self) -> Dump {
        self.dump_like(&Dump::new())
    }

    fn held(&self, number: usize) -> Option<Vec<u8>> {
        let file = self.held.get(&number)?;
        let mut bytes = vec![0; file.metadata().unwrap().len() as usize];
        file.read_exact_at(&mut bytes, 0).unwrap();
        Some(bytes)
    }
}

// ---- ours -------------------------------------------------------------------------------------------------------------

pub struct Ours {
    pub vfs: Arc<Vfs>,
    pub gives_back: bool,
    held: BTreeMap<usize, (u64, u64)>,
}

pub const ME: Maker = Maker { uid: 0, gid: 0, umask: 0 };

impl Ours {
    /// Mounts what is on a store. Nothing is committed but by `Op::Sync`.
    pub fn mount<S: Store + 'static>(store: &Arc<S>) -> Self {
        Self::mounted(store, None)
    }

    /// As [`mount`](Self::mount); after each commit space is given back.
    pub fn mounted<S: Store + 'static>(store: &Arc<S>, upkeep: Option<Upkeep>) -> Self {
        let access = super::dress::write(store.clone(), Cache::new(8 << 20), "test.st");
        let volume = formats::open(Access { upkeep: upkeep.unwrap_or_default(), ..access }).unwrap();
        Self { gives_back: upkeep.is_some(), ..Self::of(volume) }
    }

    /// Mounts what was opened to be written.
    pub fn of(volume: Volume) -> Self {
        let never = std::time::Duration::from_secs(1_000_000);
        let when = Commit { after: never, settle: never, dirty: 1 << 40 };
        let writer = volume.writer.expect("it can be written");
        let vfs = Arc::new(Vfs::writable(volume.tree, writer, Policy::default(), when));
        Self { vfs, gives_back: false, held: BTreeMap::new() }
    }

    fn find(&self, path: &[&str]) -> stmount::error::Result<u64> {
        let gone = || stmount::error::Error::new(ErrorKind::NotFound, "");
        path.iter().try_fold(ROOT, |dir, name| {
            self.is_dir(dir)?;
            Ok(self.vfs.lookup(dir, name.as_bytes())?.ok_or_else(gone)?.ino)
        })
    }

    fn parent<'a>(&self, path: &[&'a str]) -> stmount::error::Result<(u64, &'a [u8])> {
        let (name, dir) = path.split_last().unwrap();
        let dir = self.find(dir)?;
        self.is_dir(dir)?;
        Ok((dir, name.as_bytes()))
    }

    /// What a kernel checks before it asks.
    fn is_dir(&self, ino: u64) -> stmount::error::Result<()> {
        is_dir(self.vfs.getattr(ino)?.attr.kind).map_err(|kind| stmount::error::Error::new(kind, ""))
    }

    fn make(&self, path: &[&str], mode: u32, new: &New<'_>) -> stmount::error::Result<()> {
        let (dir, name) = self.parent(path)?;
        self.vfs.make(dir, name, mode, ME, new).map(drop)
    }

    fn file(&self, path: &[&str]) -> stmount::error::Result<u64> {
        let ino = self.find(path)?;
        match self.vfs.getattr(ino)?.attr.kind {
            Kind::File => Ok(ino),
            Kind::Directory => Err(stmount::error::Error::new(ErrorKind::IsADirectory, "")),
            _ => Err(stmount::error::Error::new(ErrorKind::Invalid, "")),
        }
    }

    fn done(&mut self, op: &Op) -> stmount::error::Result<()> {
        let invalid = || stmount::error::Error::new(ErrorKind::Invalid, "");
        match op {
            Op::Create(path) => self.make(path, 0o640, &New::File),
            Op::Mkdir(path) => self.make(path, 0o750, &New::Directory),
            Op::Symlink(path, target) => self.make(path, 0o777, &New::Symlink(target.as_bytes())),
            Op::Fifo(path) => self.make(path, 0o600, &New::Special(Kind::Fifo, 0)),
            Op::Unlink(path) => {
                let (dir, name) = self.parent(path)?;
                self.vfs.unlink(dir, name)
            }
            Op::Rmdir(path) => {
                let (dir, name) = self.parent(path)?;
                self.vfs.rmdir(dir, name)
            }
            Op::Link(from, to) => {
                let from = self.find(from)?;
                let (dir, name) = self.parent(to)?;
                // A kernel looks whether the name is free before it asks.
                if self.vfs.lookup(dir, name)?.is_some() {
                    return Err(stmount::error::Error::new(ErrorKind::Exists, ""));
                }
                self.vfs.link(from, dir, name).map(drop)
            }
            Op::Rename(from, to, how) => {
                let ((dir, name), (to_dir, to_name)) = (self.parent(from)?, self.parent(to)?);
                let source = self.vfs.lookup(dir, name)?;
                let target = self.vfs.lookup(to_dir, to_name)?;
                // What a kernel refuses before it asks: a directory into itself, and over one that it is in.
                let kind = match (&source, &target, how) {
                    (None, ..) => Some(ErrorKind::NotFound),
                    (_, Some(_), Rename::NoReplace) => Some(ErrorKind::Exists),
                    (_, None, Rename::Exchange) => Some(ErrorKind::NotFound),
                    _ if to.starts_with(from) && to.len() > from.len() => Some(ErrorKind::Invalid),
                    _ if from.starts_with(to) && from.len() > to.len() => {
                        Some(if *how == Rename::Exchange { ErrorKind::Invalid } else { ErrorKind::NotEmpty })
                    }
                    _ => None,
                };
                match kind {
                    Some(kind) => Err(stmount::error::Error::new(kind, "")),
                    None => self.vfs.rename(dir, name, to_dir, to_name, *how),
                }
            }
            Op::Write(path, at, bytes) => self.vfs.write(self.file(path)?, *at, bytes.clone()),
            Op::Truncate(path, size) => {
                let set = SetAttr { size: Some(*size), ..SetAttr::default() };
                self.vfs.setattr(self.file(path)?, &set).map(drop)
            }
            Op::Punch(path, at, len) => self.vfs.allocate(self.file(path)?, *at..at + len, Allocate::Punch),
            Op::Extend(path, at, len) => self.vfs.allocate(self.file(path)?, *at..at + len, Allocate::Extend),
            Op::Copy(from, from_at, to, to_at, len) => {
                let (from, to) = (self.file(from)?, self.file(to)?);
                self.vfs.copy(from, *from_at, to, *to_at, *len).map(drop)
            }
            Op::Chmod(path, mode) => {
                let set = SetAttr { mode: Some(*mode), ..SetAttr::default() };
                let ino = self.find(path)?;
                if self.vfs.getattr(ino)?.attr.kind == Kind::Symlink {
                    return Err(stmount::error::Error::new(ErrorKind::NotFound, ""));
                }
                self.vfs.setattr(ino, &set).map(drop)
            }
            Op::Mtime(path, secs) => {
                let time = Some(stmount::tree::Time { secs: *secs, nanos: 0 });
                let set = SetAttr { mtime: time, atime: time, ..SetAttr::default() };
                self.vfs.setattr(self.find(path)?, &set).map(drop)
            }
            Op::SetXattr(path, name, value) => {
                self.vfs.setxattr(self.file(path)?, name.as_bytes(), value, SetXattr::Any)
            }
            Op::RemoveXattr(path, name) => self.vfs.removexattr(self.file(path)?, name.as_bytes()),
            Op::Hold(path, number) => {
                let ino = self.file(path)?;
                let handle = self.vfs.open(ino)?;
                if let Some((_, old)) = self.held.insert(*number, (ino, handle)) {
                    self.vfs.release(old);
                }
                Ok(())
            }
            Op::WriteHeld(number, at, bytes) => {
                let (ino, _) = *self.held.get(number).ok_or_else(invalid)?;
                self.vfs.write(ino, *at, bytes.clone())
            }
            Op::Release(number) => {
                let (_, handle) = self.held.remove(number).ok_or_else(invalid)?;
                self.vfs.release(handle);
                Ok(())
            }
            Op::Sync => {
                self.vfs.sync()?;
                if self.gives_back {
                    self.vfs.upkeep();
                }
                Ok(())
            }
        }
    }
}

impl Fs for Ours {
    fn apply(&mut self, op: &Op) -> Done {
        self.done(op).map_err(|e| e.kind())
    }

    fn dump(&self) -> Dump {
        dump(&self.vfs)
    }

    fn held(&self, number: usize) -> Option<Vec<u8>> {
        let (ino, handle) = *self.held.get(&number)?;
        Some(read(&self.vfs, ino, handle))
    }
}

fn read(vfs: &Vfs, ino: u64, handle: u64) -> Vec<u8> {
    let mut bytes = vec![0; vfs.getattr(ino).unwrap().attr.size as usize];
    assert_eq!(vfs.read(ino, handle, 0, &mut bytes).unwrap(), bytes.len());
    bytes
}

/// Everything that a file system shows.
pub fn dump(vfs: &Vfs) -> Dump {
    let mut dump = Dump::new();
    walk(vfs, ROOT, String::new(), &mut BTreeMap::new(), &mut dump);
    same_firsts(dump)
}

fn walk(vfs: &Vfs, ino: u64, path: String, firsts: &mut BTreeMap<u64, String>, dump: &mut Dump) {
    let attr = vfs.getattr(ino).unwrap().attr;
    let content = match attr.kind {
        Kind::File => {
            let handle = vfs.open(ino).unwrap();
            let bytes = read(vfs, ino, handle);
            vfs.release(handle);
            bytes
        }
        Kind::Symlink => vfs.readlink(ino).unwrap(),
        _ => Vec::new(),
    };
    let mut xattrs = Vec::new();
    for name in vfs.listxattr(ino).unwrap().split(|b| *b == 0).filter(|n| !n.is_empty()) {
        xattrs.push((name.to_vec(), vfs.getxattr(ino, name).unwrap().unwrap()));
    }
    xattrs.sort();
    let same_as = firsts.entry(ino).or_insert_with(|| path.clone()).clone();
    let (mode, nlink, mtime) = (attr.mode, attr.nlink, Some(attr.mtime.secs));
    dump.insert(path.clone(), Seen { kind: attr.kind, mode, nlink, content, mtime, xattrs, same_as });
    if attr.kind != Kind::Directory {
        return;
    }
    let handle = vfs.opendir(ino).unwrap();
    let mut entries = Vec::new();
    vfs.readdir(ino, handle, 2, &mut |entry| {
        entries.push((entry.name.to_vec(), entry.ino, entry.kind));
        std::ops::ControlFlow::Continue(())
    })
    .unwrap();
    vfs.release(handle);
    for (name, child, kind) in entries {
        assert_eq!(vfs.getattr(child).unwrap().attr.kind, kind);
        let name = String::from_utf8(name).unwrap();
        walk(vfs, child, format!("{path}/{name}"), firsts, dump);
    }
}

/// Takes the times out that nobody has set: `model` knows which.
pub fn with_times_of(mut dump: Dump, model: &Dump) -> Dump {
    for (path, seen) in &mut dump {
        if model.get(path).is_none_or(|known| known.mtime.is_none()) {
            seen.mtime = None;
        }
    }
    dump
}
