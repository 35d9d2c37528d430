//! A folder with everything POSIX knows, and a way to say what a tree holds.

#![allow(dead_code)]

use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, Timespec, Timestamps, UTIME_OMIT, Uid, XattrFlags, chownat, linkat, lsetxattr,
    makedev, mknodat, utimensat,
};
use std::collections::{BTreeMap, HashMap};
use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::ops::ControlFlow;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use stmount::tree::{Kind, Node, Tree};

pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// What the file system or the user may not allow. As root on ext4 everything is.
struct Fixture<'a> {
    root: &'a Path,
    refused: Vec<String>,
}

/// Fills `root`, an existing directory, with everything; returns what was refused here, after printing it.
pub fn everything(root: &Path) -> Vec<String> {
    let mut fixture = Fixture { root, refused: Vec::new() };
    fixture.contents();
    fixture.names();
    fixture.links();
    fixture.sparse();
    fixture.specials();
    fixture.attributes();
    fixture.modes();
    fixture.times();
    fixture.refused
}

impl Fixture<'_> {
    fn at(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    fn file(&self, path: &str, bytes: &[u8]) -> PathBuf {
        let path = self.at(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        path
    }

    fn may(&mut self, what: &str, done: rustix::io::Result<()>) {
        if let Err(e) = done {
            println!("left out of the fixture: {what}: {e}");
            self.refused.push(format!("{what}: {e}"));
        }
    }

    fn contents(&self) {
        self.file("contents/empty", b"");
        self.file("contents/small", b"a few bytes\n");
        self.file("contents/large", &noise(3 << 20, 7));
        self.file("contents/one more than a buffer", &noise((1 << 20) + 1, 8));
        fs::create_dir_all(self.at("contents/empty directory")).unwrap();
        let mut chain = self.at("contents/chain");
        (0..40).for_each(|i| chain.push(format!("level{i}")));
        fs::create_dir_all(&chain).unwrap();
        fs::write(chain.join("leaf"), b"deep").unwrap();
    }

    fn names(&self) {
        let dir = self.at("names");
        fs::create_dir_all(&dir).unwrap();
        let long = [b'x'; 255];
        let odd: [&[u8]; 9] = [
            b"\xff\xfe not utf-8 \x80",
            &long,
            b"new\nline",
            b"-rf",
            b" spaces ",
            b"back\\slash:colon*star?",
            "\u{fc}ml\u{e4}ut \u{1f4a9}".as_bytes(),
            b"...",
            b"\x01\x1b[31m",
        ];
        for name in odd {
            fs::write(dir.join(OsStr::from_bytes(name)), name).unwrap();
        }
        fs::create_dir(dir.join(OsStr::from_bytes(b"directory \xc3\x28"))).unwrap();
    }

    fn links(&self) {
        let first = self.file("links/first", b"one inode, three names");
        fs::create_dir_all(self.at("links/sub")).unwrap();
        fs::hard_link(&first, self.at("links/second")).unwrap();
        fs::hard_link(&first, self.at("links/sub/third")).unwrap();
        for (target, name) in
            [("first", "relative"), ("/etc/passwd", "absolute"), ("nowhere", "dangling"), (".", "dot")]
        {
            symlink(target, self.at("links").join(name)).unwrap();
        }
        symlink("y".repeat(4000), self.at("links/long target")).unwrap();
        symlink("twice", self.at("links/symlink")).unwrap();
        let (from, to) = (self.at("links/symlink"), self.at("links/symlink again"));
        linkat(CWD, &from, CWD, &to, AtFlags::empty()).unwrap();
    }

    fn sparse(&self) {
        fs::create_dir_all(self.at("sparse")).unwrap();
        let cases: [(&str, u64, &[u64]); 4] = [
            ("all hole", 96 << 20, &[]),
            ("hole in front", 8 << 20, &[(8 << 20) - 4096]),
            ("hole behind", 8 << 20, &[0]),
            ("islands", 64 << 20, &[1 << 20, 20 << 20, 63 << 20]),
        ];
        for (name, len, data) in cases {
            let file = File::create(self.at("sparse").join(name)).unwrap();
            file.set_len(len).unwrap();
            data.iter().for_each(|at| file.write_all_at(&noise(4096, *at as u32), *at).unwrap());
        }
    }

    fn specials(&mut self) {
        fs::create_dir_all(self.at("special")).unwrap();
        let cases = [
            ("fifo", FileType::Fifo, 0o640, 0),
            ("socket", FileType::Socket, 0o755, 0),
            ("null", FileType::CharacterDevice, 0o666, makedev(1, 3)),
            ("large number", FileType::CharacterDevice, 0o600, makedev(300, 70_000)),
            ("block", FileType::BlockDevice, 0o660, makedev(7, 200)),
        ];
        for (name, kind, mode, number) in cases {
            let path = self.at("special").join(name);
            let made = mknodat(CWD, &path, kind, Mode::from_raw_mode(mode), number);
            self.may(name, made);
            if path.symlink_metadata().is_ok() {
                fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            }
        }
        let fifo = self.at("special/fifo");
        fs::hard_link(&fifo, self.at("special/fifo again")).unwrap();
    }

    fn attributes(&mut self) {
        self.file("attributes/file", b"with attributes");
        self.file("attributes/read only", b"a user attribute needs a writable file");
        self.file("attributes/acl", b"acl");
        self.file("attributes/program", b"\x7fELF");
        fs::create_dir_all(self.at("attributes/dir")).unwrap();
        symlink("file", self.at("attributes/link")).unwrap();
        let access = acl(&[(1, 6, NOBODY), (2, 4, 12_345), (4, 4, NOBODY), (16, 6, NOBODY), (32, 0, NOBODY)]);
        let default = acl(&[(1, 7, NOBODY), (2, 5, 12_345), (4, 5, NOBODY), (16, 5, NOBODY), (32, 5, NOBODY)]);
        // Permitted cap_net_bind_service, effective, as `setcap` writes it.
        let capability = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let cases: [(&str, &str, &[u8]); 12] = [
            ("file", "user.comment", b"hello"),
            ("file", "user.empty", b""),
            ("file", "user.bytes", &[0, 255, 1, 10, 0]),
            ("file", "user.large", &[b'v'; 2000]),
            ("file", "trusted.secret", b"for root"),
            ("read only", "user.comment", b"kept"),
            ("dir", "user.comment", b"on a directory"),
            ("link", "trusted.link", b"on a link"),
            ("acl", "system.posix_acl_access", &access),
            ("dir", "system.posix_acl_access", &access),
            ("dir", "system.posix_acl_default", &default),
            ("program", "security.capability", &capability),
        ];
        for (file, name, value) in cases {
            let set = lsetxattr(self.at("attributes").join(file), name, value, XattrFlags::empty());
            self.may(&format!("{name} of {file}"), set);
        }
        let fifo = lsetxattr(self.at("special/fifo"), "trusted.fifo", b"on a fifo", XattrFlags::empty());
        self.may("trusted.fifo", fifo);
    }

    fn modes(&mut self) {
        for mode in [0o0, 0o444, 0o600, 0o644, 0o755, 0o1644, 0o2755, 0o4755, 0o6711, 0o7777] {
            let path = self.file(&format!("modes/file {mode:o}"), b"mode");
            self.own(&path, 12_345, 54_321);
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        }
        for mode in [0o555, 0o700, 0o1777, 0o2775, 0o0] {
            let path = self.at(&format!("modes/dir {mode:o}"));
            fs::create_dir(&path).unwrap();
            fs::write(path.join("inside"), b"inside").unwrap();
            self.own(&path, 12_345, 1);
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        }
        self.own(&self.at("contents/small"), 1, 2);
        self.own(&self.at("links/dangling"), 4_000_000_000, 7);
        if self.at("special/null").symlink_metadata().is_ok() {
            self.own(&self.at("special/null"), 3, 3);
        }
        fs::set_permissions(self.at("attributes/read only"), Permissions::from_mode(0o400)).unwrap();
        fs::set_permissions(self.root, Permissions::from_mode(0o751)).unwrap();
    }

    fn own(&mut self, path: &Path, user: u32, group: u32) {
        let ids = (Some(Uid::from_raw(user)), Some(Gid::from_raw(group)));
        let owned = chownat(CWD, path, ids.0, ids.1, AtFlags::SYMLINK_NOFOLLOW);
        self.may(&format!("the owner of {}", path.display()), owned);
    }

    /// Last of all: directories below first, so that the times of those above stay.
    fn times(&self) {
        let mut all = below(self.root);
        all.sort_by_key(|path| std::cmp::Reverse(path.components().count()));
        for (i, path) in all.iter().enumerate() {
            let secs = if i % 7 == 3 { -(i as i64) - 1 } else { 1_000_000_000 + 86_400 * i as i64 };
            set_time(path, secs, (i as u64 * 123_456_789 % 1_000_000_000) as u32);
        }
    }
}

pub fn set_time(path: &Path, secs: i64, nanos: u32) {
    let last_modification = Timespec { tv_sec: secs, tv_nsec: i64::from(nanos) };
    let times = Timestamps { last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT }, last_modification };
    utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

/// The id of an ACL entry that is nobody's in particular.
pub const NOBODY: u32 = u32::MAX;

/// A POSIX ACL as the kernel keeps it, from (tag, permissions, id).
pub fn acl(entries: &[(u16, u16, u32)]) -> Vec<u8> {
    let mut bytes = 2u32.to_le_bytes().to_vec();
    for (tag, permissions, id) in entries {
        bytes.extend_from_slice(&tag.to_le_bytes());
        bytes.extend_from_slice(&permissions.to_le_bytes());
        bytes.extend_from_slice(&id.to_le_bytes());
    }
    bytes
}

/// Every path in a folder, and the folder.
pub fn below(root: &Path) -> Vec<PathBuf> {
    let mut all = vec![root.to_owned()];
    let mut next = 0;
    while next < all.len() {
        if all[next].symlink_metadata().unwrap().is_dir()
            && let Ok(entries) = fs::read_dir(&all[next])
        {
            all.extend(entries.map(|e| e.unwrap().path()));
        }
        next += 1;
    }
    all
}

/// Bytes that do not compress and are the same each time.
pub fn noise(len: usize, seed: u32) -> Vec<u8> {
    let mut state = u64::from(seed) * 2 + 1;
    let mut step = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as u8
    };
    (0..len).map(|_| step()).collect()
}

/// All a tree holds, by path: two trees with equal descriptions are equal. Says of a further name of an inode which
/// name came first. Owners are numbers; directory sizes and link counts are left out, they belong to the file system.
pub fn describe(tree: &dyn Tree) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    let mut first = HashMap::new();
    let mut todo = vec![(String::new(), tree.root())];
    while let Some((path, node)) = todo.pop() {
        let attr = tree.attr(node).unwrap();
        let same = match attr.kind {
            Kind::Directory => path.clone(),
            _ => first.entry(node).or_insert_with(|| path.clone()).clone(),
        };
        let mut xattrs = tree.xattrs(node).unwrap();
        xattrs.sort();
        let text = format!(
            "{:?} {:o} {}:{} {}.{:09} rdev {:x} same {same:?} xattrs {xattrs:?} {}",
            attr.kind,
            attr.mode,
            attr.uid,
            attr.gid,
            attr.mtime.secs,
            attr.mtime.nanos,
            attr.rdev,
            inside(tree, node, attr.kind)
        );
        if attr.kind == Kind::Directory {
            let mut entries = Vec::new();
            tree.list(node, None, &mut |name, node, _| {
                entries.push((format!("{path}/{}", name.bytes().escape_ascii()), node));
                ControlFlow::Continue(())
            })
            .unwrap();
            entries.reverse();
            todo.extend(entries);
        }
        all.insert(path, text);
    }
    all
}

fn inside(tree: &dyn Tree, node: Node, kind: Kind) -> String {
    match kind {
        Kind::Symlink => format!("-> {}", tree.target(node).unwrap().escape_ascii()),
        Kind::File => {
            let file = tree.open(node).unwrap();
            let len = file.len().unwrap();
            let (mut hash, mut at) = (blake3::Hasher::new(), 0);
            while let Some(range) = file.next_data(at).unwrap() {
                let mut bytes = vec![0; (range.end - range.start) as usize];
                file.read_exact_at(range.start, &mut bytes).unwrap();
                // Zeros as data and zeros as a hole are the same contents.
                if bytes.iter().any(|b| *b != 0) {
                    hash.update(&range.start.to_le_bytes()).update(&bytes);
                }
                at = range.end;
            }
            format!("{len} bytes {}", hash.finalize().to_hex())
        }
        _ => String::new(),
    }
}
