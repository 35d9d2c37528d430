//! Real mounts, looked at through the kernel: by system calls and by the tools people use.
//!
//! These need /dev/fuse and the right to mount; without them they fail, they are not skipped.

mod common;

use common::dress;
use common::memtree::{MemTree, Odd, ROOT};
use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;
use stmount::cache::Cache;
use stmount::error::{Error, Kind as ErrorKind};
use stmount::formats::folder::Folder;
use stmount::formats::st::Packer;
use stmount::formats::{self, Pack, Unwatched, Volume};
use stmount::mount::{self, Mounted, Options};
use stmount::source::Memory;
use stmount::tree::{Kind, Node, device};

/// Longer than anything here takes on the slowest machine.
const LONG: Duration = Duration::from_secs(60);

struct Place {
    mounted: Option<Mounted>,
    dir: tempfile::TempDir,
}

impl Place {
    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join("mnt").join(name)
    }

    fn root(&self) -> PathBuf {
        self.dir.path().join("mnt")
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // Before the directory is removed with all that is in it.
        drop(self.mounted.take());
    }
}

/// Unmounts. A program that another test has just forked has the files of this one open, until it is another program.
#[track_caller]
fn unmount(mounted: &Mounted) {
    for _ in 0..100 {
        match mounted.unmount() {
            Err(e) if e.kind() == ErrorKind::Busy => std::thread::sleep(Duration::from_millis(20)),
            done => return done.unwrap(),
        }
    }
    mounted.unmount().unwrap();
}

fn volume(tree: MemTree) -> Volume {
    Volume::read_only(Arc::new(tree), "memory")
}

fn mounted(tree: MemTree, options: &str) -> Place {
    mounted_volume(volume(tree), options)
}

/// An empty container that takes changes.
fn writable(options: &str) -> Place {
    let (folder, mut bytes) = (tempfile::tempdir().unwrap(), Vec::new());
    Packer::default().pack(&Folder::open(folder.path()).unwrap(), &mut bytes, &Unwatched).unwrap();
    let file = Arc::new(Memory::new(bytes));
    let access = dress::write(file, Cache::new(8 << 20), "test.st");
    mounted_volume(formats::open(access).unwrap(), options)
}

fn mounted_volume(volume: Volume, options: &str) -> Place {
    let dir = tempfile::tempdir().unwrap();
    let point = dir.path().join("mnt");
    fs::create_dir(&point).unwrap();
    let options = Options::parse(&[options]).unwrap();
    let mounted = mount::mount(volume, &point, &options).unwrap();
    Place { mounted: Some(mounted), dir }
}

fn errno<T: std::fmt::Debug>(result: io::Result<T>) -> rustix::io::Errno {
    let e = result.expect_err("this should not have worked");
    rustix::io::Errno::from_io_error(&e).unwrap_or_else(|| panic!("{e} is not of the system"))
}

fn sh(script: &str, place: &Place) -> String {
    let out = Command::new("sh").arg("-ec").arg(script).current_dir(place.root()).output().unwrap();
    assert!(out.status.success(), "{script}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap()
}

#[test]
fn names_of_any_bytes_are_listed_and_found() {
    let long = [b'x'; 255];
    let names: [&[u8]; 7] =
        [b"plain", b"\xff\xfe\x80", b"a b,c:d#e&f", b"line\nbreak", "ünï".as_bytes(), b"-rf", &long];
    let mut tree = MemTree::default();
    for name in names {
        tree.file(ROOT, name, name);
    }
    let place = mounted(tree, "");
    let listed: HashSet<Vec<u8>> =
        fs::read_dir(place.root()).unwrap().map(|e| e.unwrap().file_name().as_bytes().to_vec()).collect();
    assert_eq!(listed, names.iter().map(|n| n.to_vec()).collect());
    for name in names {
        assert_eq!(fs::read(place.root().join(OsStr::from_bytes(name))).unwrap(), name);
    }
    assert_eq!(errno(fs::read(place.path("missing"))), rustix::io::Errno::NOENT);
    assert_eq!(errno(fs::read(place.path("missing"))), rustix::io::Errno::NOENT, "also when the kernel remembers it");
}

#[test]
fn attributes_arrive_as_they_are() {
    let mut tree = MemTree::default();
    let node = tree.file(ROOT, b"f", &[1; 5000]);
    let attr = tree.attr_mut(node);
    (attr.mode, attr.uid, attr.gid) = (0o4751, 1234, 70_000);
    (attr.mtime.secs, attr.mtime.nanos) = (-5, 7);
    attr.allocated = 1025;
    let place = mounted(tree, "");
    let meta = fs::symlink_metadata(place.path("f")).unwrap();
    assert_eq!((meta.mode(), meta.uid(), meta.gid(), meta.len()), (0o104_751, 1234, 70_000, 5000));
    assert_eq!((meta.mtime(), meta.mtime_nsec()), (-5, 7));
    assert_eq!((meta.ctime(), meta.ctime_nsec()), (1_500_000_000, 123_456_789));
    assert_eq!((meta.blocks(), meta.nlink()), (3, 1));
    assert_eq!(fs::metadata(place.root()).unwrap().ino(), 1);
}

#[test]
fn times_are_set_to_the_nanosecond_before_1970_as_well() {
    let place = writable("");
    let file = File::create(place.path("f")).unwrap();
    for (secs, nanos) in [(-86_400, 7), (-1, 999_999_999), (-3, 0), (0, 0), (0, 5), (1_234_567_890, 123_456_789)] {
        let time = rustix::fs::Timespec { tv_sec: secs, tv_nsec: nanos };
        let times = rustix::fs::Timestamps { last_access: time, last_modification: time };
        rustix::fs::futimens(&file, &times).unwrap();
        let meta = file.metadata().unwrap();
        assert_eq!((meta.mtime(), meta.mtime_nsec(), meta.atime(), meta.atime_nsec()), (secs, nanos, secs, nanos));
    }
}

#[test]
fn owners_and_masks_of_the_mount_are_applied() {
    let mut tree = MemTree::default();
    tree.file(ROOT, b"f", b"");
    tree.dir(ROOT, "d");
    let place = mounted(tree, "uid=1000,gid=1001,fmask=0133,dmask=022");
    let (f, d) = (fs::metadata(place.path("f")).unwrap(), fs::metadata(place.path("d")).unwrap());
    assert_eq!((f.uid(), f.gid(), f.mode() & 0o777), (1000, 1001, 0o644));
    assert_eq!((d.uid(), d.mode() & 0o777), (1000, 0o755));
}

#[test]
fn hard_links_are_one_inode_with_a_count() {
    let mut tree = MemTree::default();
    let sub = tree.dir(ROOT, "sub");
    let node = tree.file(ROOT, b"a", b"same");
    tree.link(sub, b"b", node);
    let place = mounted(tree, "");
    let (a, b) = (fs::metadata(place.path("a")).unwrap(), fs::metadata(place.path("sub/b")).unwrap());
    assert_eq!((a.ino(), a.nlink()), (b.ino(), 2));
    assert_eq!(a.ino(), node.0);
    assert_eq!(sh("find . -samefile a | sort", &place), "./a\n./sub/b\n");
}

#[test]
fn special_files_and_links_keep_their_kind_and_numbers() {
    let mut tree = MemTree::default();
    tree.add(ROOT, b"fifo", Kind::Fifo, 0o600);
    tree.add(ROOT, b"socket", Kind::Socket, 0o600);
    for (name, kind, number) in
        [("null", Kind::CharDevice, device::join(1, 3)), ("disk", Kind::BlockDevice, device::join(259, 70_000))]
    {
        let node = tree.add(ROOT, name.as_bytes(), kind, 0o666);
        tree.attr_mut(node).rdev = number;
    }
    tree.symlink(ROOT, "link", b"f\xffr/away");
    let place = mounted(tree, "dev");
    let meta = |name: &str| fs::symlink_metadata(place.path(name)).unwrap();
    assert!(meta("fifo").file_type().is_fifo() && meta("socket").file_type().is_socket());
    assert_eq!(
        sh("stat -c '%t %T %F' null disk", &place),
        "1 3 character special file\n103 11170 block special file\n"
    );
    assert_eq!(fs::read_link(place.path("link")).unwrap().as_os_str().as_bytes(), b"f\xffr/away");
    assert_eq!(meta("link").len(), 8);
    fs::write(place.path("null"), "a device that is mounted with dev works").unwrap();
}

#[test]
fn extended_attributes_are_listed_and_read() {
    let mut tree = MemTree::default();
    let node = tree.file(ROOT, b"f", b"");
    tree.xattr(node, "user.comment", b"hello\0world");
    tree.xattr(node, "user.empty", b"");
    let place = mounted(tree, "");
    let path = place.path("f");
    let mut list = vec![0; 100];
    let n = rustix::fs::listxattr(&path, &mut list).unwrap();
    assert_eq!(&list[..n], b"user.comment\0user.empty\0");
    let mut value = vec![0; 100];
    let n = rustix::fs::getxattr(&path, "user.comment", &mut value).unwrap();
    assert_eq!(&value[..n], b"hello\0world");
    assert_eq!(rustix::fs::getxattr(&path, "user.none", &mut value), Err(rustix::io::Errno::NODATA));
    assert_eq!(rustix::fs::getxattr(&path, "user.comment", &mut [0; 3][..]), Err(rustix::io::Errno::RANGE));
}

#[test]
fn holes_are_found_and_read_as_zeros() {
    let mut source = Odd::new(1 << 20, |_| Ok(()));
    source.data.push(65_536..131_072);
    let mut tree = MemTree::default();
    tree.source(ROOT, b"sparse", Arc::new(source));
    let place = mounted(tree, "");
    let file = File::open(place.path("sparse")).unwrap();
    use rustix::fs::{SeekFrom, seek};
    assert_eq!(seek(&file, SeekFrom::Data(0)), Ok(65_536));
    assert_eq!(seek(&file, SeekFrom::Hole(65_536)), Ok(131_072));
    assert_eq!(seek(&file, SeekFrom::Hole(0)), Ok(0));
    assert_eq!(seek(&file, SeekFrom::Data(131_072)), Err(rustix::io::Errno::NXIO));
    let mut four = [9; 4];
    file.read_exact_at(&mut four, 65_534).unwrap();
    assert_eq!(four, [0, 0, (65_536 % 251) as u8 + 1, (65_537 % 251) as u8 + 1]);
}

#[test]
fn whatever_would_change_something_is_refused_as_read_only() {
    let mut tree = MemTree::default();
    tree.file(ROOT, b"f", b"x");
    tree.dir(ROOT, "d");
    let place = mounted(tree, "");
    let (f, new) = (place.path("f"), place.path("new"));
    let rofs = rustix::io::Errno::ROFS;
    assert_eq!(errno(fs::write(&f, "y")), rofs);
    assert_eq!(errno(File::create(&new)), rofs);
    assert_eq!(errno(fs::create_dir(&new)), rofs);
    assert_eq!(errno(fs::remove_file(&f)), rofs);
    assert_eq!(errno(fs::remove_dir(place.path("d"))), rofs);
    assert_eq!(errno(fs::rename(&f, &new)), rofs);
    assert_eq!(errno(fs::hard_link(&f, &new)), rofs);
    assert_eq!(errno(std::os::unix::fs::symlink("f", &new)), rofs);
    assert_eq!(errno(fs::set_permissions(&f, fs::Permissions::from_mode(0o600))), rofs);
    assert_eq!(errno(std::os::unix::fs::chown(&f, Some(1), None)), rofs);
    assert_eq!(errno(File::options().append(true).open(&f)), rofs);
    assert_eq!(rustix::fs::setxattr(&f, "user.a", b"", rustix::fs::XattrFlags::empty()), Err(rofs));
    assert_eq!(rustix::fs::removexattr(&f, "user.a"), Err(rofs));
    assert_eq!(rustix::fs::access(&f, rustix::fs::Access::WRITE_OK), Err(rofs));
    let now = rustix::fs::Timestamps {
        last_access: rustix::fs::Timespec { tv_sec: 0, tv_nsec: 0 },
        last_modification: rustix::fs::Timespec { tv_sec: 0, tv_nsec: 0 },
    };
    let utimes = rustix::fs::utimensat(rustix::fs::CWD, &f, &now, rustix::fs::AtFlags::empty());
    assert_eq!(utimes, Err(rofs));
    File::open(&f).unwrap().sync_all().unwrap();
}

#[test]
fn a_program_runs_from_the_mount_unless_noexec() {
    let program = fs::read(fs::canonicalize("/bin/true").unwrap()).unwrap();
    for (options, runs) in [("", true), ("noexec", false)] {
        let mut tree = MemTree::default();
        let node = tree.file(ROOT, b"true", &program);
        tree.attr_mut(node).mode = 0o755;
        let place = mounted(tree, options);
        assert_eq!(Command::new(place.path("true")).status().is_ok_and(|s| s.success()), runs, "{options:?}");
    }
}

#[test]
fn a_file_can_be_mapped_shared_and_read_only() {
    let mut tree = MemTree::default();
    tree.source(ROOT, b"f", Arc::new(Odd::new(3 << 20, |_| Ok(()))));
    let place = mounted(tree, "");
    let script = "python3 -c '
import mmap
with open(\"f\", \"rb\") as f:
    m = mmap.mmap(f.fileno(), 0, mmap.MAP_SHARED, mmap.PROT_READ)
    print(len(m), all(m[i] == i % 251 + 1 for i in range(0, len(m), 997)))
'";
    assert_eq!(sh(script, &place), "3145728 True\n");
}

#[test]
fn a_large_directory_is_listed_whole_and_again_after_a_rewind() {
    let mut tree = MemTree::default();
    let dir = tree.dir(ROOT, "many");
    for n in 0..20_000 {
        tree.file(dir, format!("file-{n:06}").as_bytes(), b"");
    }
    let place = mounted(tree, "");
    let mut many = rustix::fs::Dir::new(File::open(place.path("many")).unwrap()).unwrap();
    let mut passes = Vec::new();
    for _ in 0..2 {
        let mut pass = Vec::new();
        while let Some(entry) = many.read() {
            let entry = entry.unwrap();
            assert_ne!(entry.ino(), 0);
            pass.push((entry.file_name().to_owned(), entry.ino()));
        }
        passes.push(pass);
        many.rewind();
    }
    assert_eq!(passes[0].iter().map(|e| &e.0).collect::<HashSet<_>>().len(), 20_002);
    assert_eq!(passes[0], passes[1]);
    assert_eq!(sh("ls -lU many | wc -l; find many -type f -newermt 2001-01-01 | wc -l", &place), "20001\n20000\n");
}

#[test]
fn many_readers_of_many_files_all_get_the_right_bytes() {
    let mut tree = MemTree::default();
    for n in 0..8 {
        tree.source(ROOT, format!("f{n}").as_bytes(), Arc::new(Odd::new(2 << 20, |_| Ok(()))));
    }
    let place = mounted(tree, "");
    std::thread::scope(|scope| {
        for n in 0..16 {
            let path = place.path(&format!("f{}", n % 8));
            scope.spawn(move || {
                let bytes = fs::read(path).unwrap();
                assert_eq!(bytes.len(), 2 << 20);
                assert!(bytes.iter().zip(0u64..).all(|(b, at)| *b == (at % 251) as u8 + 1));
            });
        }
    });
}

#[test]
fn a_slow_read_blocks_nobody_else() {
    let open = Arc::new(AtomicBool::new(false));
    let mut tree = MemTree::default();
    for n in 0..12 {
        let gate = open.clone();
        let slow = Odd::new(4096, move |_| {
            while !gate.load(Ordering::Acquire) {
                std::thread::sleep(Duration::from_millis(5));
            }
            Ok(())
        });
        tree.source(ROOT, format!("slow{n}").as_bytes(), Arc::new(slow));
    }
    tree.file(ROOT, b"fast", b"fast");
    let sub = tree.dir(ROOT, "sub");
    tree.file(sub, b"x", b"x");
    let place = mounted(tree, "");
    std::thread::scope(|scope| {
        for n in 0..12 {
            let path = place.path(&format!("slow{n}"));
            scope.spawn(move || fs::read(path).unwrap());
        }
        std::thread::sleep(Duration::from_millis(200));
        let (done, others) = mpsc::channel();
        let (fast, sub) = (place.path("fast"), place.path("sub"));
        scope.spawn(move || {
            let read = fs::read(fast).unwrap();
            let size = fs::metadata(sub.join("x")).unwrap().len();
            done.send((read, size, fs::read_dir(sub).unwrap().count())).unwrap();
        });
        let others = others.recv_timeout(LONG);
        open.store(true, Ordering::Release);
        assert_eq!(others.expect("the others waited for the slow files"), (b"fast".to_vec(), 1, 1));
    });
}

#[test]
fn damage_and_faults_cost_one_read_and_not_the_mount() {
    let mut tree = MemTree::default();
    tree.source(ROOT, b"panics", Arc::new(Odd::new(9, |_| panic!("on purpose"))));
    tree.source(ROOT, b"damaged", Arc::new(Odd::new(9, |_| Err(Error::new(ErrorKind::Damaged, "on purpose")))));
    let short = tree.file(ROOT, b"short", b"1234");
    tree.attr_mut(short).size = 100;
    tree.file(ROOT, b"fine", b"fine");
    let place = mounted(tree, "");
    for _ in 0..20 {
        for name in ["panics", "damaged", "short"] {
            assert_eq!(errno(fs::read(place.path(name))), rustix::io::Errno::IO, "{name}");
        }
    }
    assert_eq!(fs::read(place.path("fine")).unwrap(), b"fine");
}

#[test]
fn an_entry_whose_attributes_are_damaged_is_still_listed() {
    let mut tree = MemTree::default();
    tree.file(ROOT, b"a", b"");
    tree.broken(ROOT, b"broken");
    tree.file(ROOT, b"z", b"z");
    let place = mounted(tree, "");
    let listed = sh("ls -f; ls -l 2>/dev/null | wc -l || true", &place);
    assert!(["a", "broken", "z"].iter().all(|name| listed.lines().any(|l| l == *name)), "{listed}");
    assert_eq!(errno(fs::metadata(place.path("broken"))), rustix::io::Errno::IO);
    assert_eq!(fs::read(place.path("z")).unwrap(), b"z");
}

#[test]
fn letter_case_can_be_ignored_and_wine_is_told() {
    let mut tree = MemTree::default();
    let dir = tree.dir(ROOT, "Data");
    tree.file(dir, "Größe.TXT".as_bytes(), b"found");
    let place = mounted(tree, "case=insensitive");
    assert_eq!(fs::read(place.path("DATA/gröSSe.txt")).ok(), None);
    assert_eq!(fs::read(place.path("dATA/GRÖßE.txt")).unwrap(), b"found");
    let flags = rustix::fs::ioctl_getflags(File::open(place.path("data")).unwrap()).unwrap();
    assert_ne!(flags.bits() & 0x4000_0000, 0, "{flags:?}");
    let strict = mounted(
        {
            let mut tree = MemTree::default();
            tree.dir(ROOT, "Data");
            tree
        },
        "",
    );
    assert_eq!(errno(fs::metadata(strict.path("data"))), rustix::io::Errno::NOENT);
}

#[test]
fn free_space_is_shown_and_is_never_zero() {
    let mut tree = MemTree::default();
    tree.file(ROOT, b"f", &[0; 10_000]);
    let place = mounted(tree, "");
    let space = rustix::fs::statvfs(place.root()).unwrap();
    assert!(space.f_bavail > 0 && space.f_ffree > 0 && space.f_blocks > space.f_bfree && space.f_namemax == 255);
    assert!(sh("df -k . && df -i .", &place).contains("stmount"));
}

#[test]
fn a_living_tree_mounts_and_reads_as_well() {
    let mut tree = MemTree::default();
    tree.frozen = false;
    let dir = tree.dir(ROOT, "d");
    tree.file(dir, b"f", &[7; 300_000]);
    let place = mounted(tree, "");
    assert_eq!(fs::read(place.path("d/f")).unwrap(), [7; 300_000]);
    assert_eq!(sh("find . | sort; ls -l d | wc -l", &place), ".\n./d\n./d/f\n2\n");
}

#[test]
fn other_users_get_in_only_when_allowed_and_then_modes_count() {
    for (options, public, private) in [("", false, false), ("allow_other", true, false), ("allow_root", false, false)] {
        let mut tree = MemTree::default();
        tree.file(ROOT, b"public", b"x");
        let node = tree.file(ROOT, b"private", b"x");
        tree.attr_mut(node).mode = 0o600;
        let place = mounted(tree, options);
        fs::set_permissions(place.dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let reads = |name: &str| {
            let nobody = ["--reuid=65534", "--regid=65534", "--clear-groups", "cat"];
            Command::new("setpriv").args(nobody).arg(place.path(name)).output().unwrap().status.success()
        };
        assert_eq!((reads("public"), reads("private")), (public, private), "{options:?}");
        assert!(fs::read(place.path("private")).is_ok());
    }
}

#[test]
fn an_unmount_from_outside_ends_the_waiting() {
    let mut place = mounted(MemTree::default(), "");
    let mounted = place.mounted.take().unwrap();
    let (done, waited) = mpsc::channel();
    let point = mounted.mountpoint().to_owned();
    let waiting = std::thread::spawn(move || {
        done.send(mounted.wait()).unwrap();
    });
    assert!(waited.recv_timeout(Duration::from_millis(100)).is_err());
    assert!(Command::new("umount").arg("-i").arg(&point).status().unwrap().success());
    waited.recv_timeout(LONG).expect("wait() did not see the unmount").unwrap();
    waiting.join().unwrap();
}

#[test]
fn a_mount_in_use_is_busy_until_it_is_let_go() {
    let mut tree = MemTree::default();
    tree.file(ROOT, b"f", b"content");
    let mut place = mounted(tree, "");
    let mounted = place.mounted.take().unwrap();
    let mut file = File::open(place.path("f")).unwrap();
    let e = mounted.unmount().unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Busy);
    assert!(e.advice().is_some());
    // Dropped, it goes from its place at once and still serves who has it open.
    drop(mounted);
    assert_eq!(fs::read_dir(place.root()).unwrap().count(), 0);
    let mut text = String::new();
    file.read_to_string(&mut text).unwrap();
    assert_eq!(text, "content");
}

#[test]
fn another_thread_can_unmount() {
    let place = mounted(MemTree::default(), "");
    let mounted = place.mounted.as_ref().unwrap();
    let unmounter = mounted.unmounter();
    std::thread::spawn(move || unmounter.unmount()).join().unwrap().unwrap();
    mounted.wait().unwrap();
    unmount(mounted);
}

#[test]
fn odd_paths_as_mount_point_and_source_work_and_show() {
    for name in [&b"a b,c:d"[..], b"x\\y#z&", b"line\nbreak\ttab", b"\xff\xfe"] {
        let dir = tempfile::tempdir().unwrap();
        let point = dir.path().join(OsStr::from_bytes(name));
        fs::create_dir(&point).unwrap();
        let mut tree = MemTree::default();
        tree.file(ROOT, b"f", b"here");
        let source = dir.path().join(OsStr::from_bytes(name)).with_extension("st");
        let options = Options { fsname: Some(source.into()), ..Options::default() };
        let mounted = mount::mount(volume(tree), &point, &options).unwrap();
        assert_eq!(fs::read(point.join("f")).unwrap(), b"here");
        let shown = fs::read("/proc/self/mountinfo").unwrap();
        let random = dir.path().file_name().unwrap().as_bytes();
        let line = shown.split(|b| *b == b'\n').find(|l| l.windows(random.len()).any(|w| w == random)).unwrap();
        let text = String::from_utf8_lossy(line);
        assert!(text.contains(" - fuse.stmount ") && text.contains(".st ro,"), "{text}");
        unmount(&mounted);
        assert!(!point.join("f").exists());
    }
}

#[test]
fn a_mount_point_that_cannot_be_is_refused_with_advice() {
    let place = mounted(MemTree::default(), "");
    let on = |path: &Path| mount::mount(volume(MemTree::default()), path, &Options::default()).map(drop).unwrap_err();
    for path in [place.dir.path().join("missing"), PathBuf::from("/etc/passwd"), place.root()] {
        let e = on(&path);
        assert_eq!(e.kind(), ErrorKind::BadMountPoint, "{e}");
        assert!(e.advice().is_some());
    }
    assert!(on(&place.root()).to_string().contains("already"));
}

#[test]
fn a_directory_with_files_in_it_can_be_covered() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("old"), "old").unwrap();
    let mut tree = MemTree::default();
    tree.file(ROOT, b"new", b"new");
    let mounted = mount::mount(volume(tree), dir.path(), &Options::default()).unwrap();
    assert!(dir.path().join("new").exists() && !dir.path().join("old").exists());
    unmount(&mounted);
    assert!(dir.path().join("old").exists());
}

/// Not a test of its own: the process that dies in the next one.
#[test]
fn helper_that_mounts_and_waits() {
    let Some(point) = std::env::var_os("STMOUNT_TEST_MOUNT_AND_WAIT") else { return };
    let mounted = mount::mount(volume(MemTree::default()), Path::new(&point), &Options::default()).unwrap();
    mounted.wait().unwrap();
}

#[test]
fn what_a_killed_process_left_mounted_is_cleared_away() {
    let dir = tempfile::tempdir().unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "helper_that_mounts_and_waits"])
        .env("STMOUNT_TEST_MOUNT_AND_WAIT", dir.path())
        .spawn()
        .unwrap();
    let own = fs::metadata(dir.path().parent().unwrap()).unwrap().dev();
    let begin = std::time::Instant::now();
    while fs::metadata(dir.path()).is_ok_and(|m| m.dev() == own) {
        assert!(begin.elapsed() < LONG, "the helper does not mount");
        std::thread::sleep(Duration::from_millis(20));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    // The kernel goes on answering what it remembers of an unchanging tree: a stat is no sign of life.
    assert_eq!(rustix::fs::statfs(dir.path()).map(|_| ()), Err(rustix::io::Errno::NOTCONN));
    let mut tree = MemTree::default();
    tree.file(ROOT, b"f", b"alive");
    let mounted = mount::mount(volume(tree), dir.path(), &Options::default()).unwrap();
    assert_eq!(fs::read(dir.path().join("f")).unwrap(), b"alive");
    unmount(&mounted);
    assert_eq!(fs::metadata(dir.path()).unwrap().dev(), own, "the dead mount is still below");
}

#[test]
fn the_numbers_one_and_root_are_exchanged_and_all_others_kept() {
    let mut tree = MemTree::default();
    let nodes: Vec<Node> = (0..4).map(|n| tree.file(ROOT, format!("{n}").as_bytes(), b"")).collect();
    assert_eq!(nodes[0], Node(1));
    let place = mounted(tree, "");
    let ino = |name: &str| fs::metadata(place.path(name)).unwrap().ino();
    assert_eq!((ino(""), ino("0"), ino("1"), ino("2")), (1, ROOT.0, nodes[1].0, nodes[2].0));
}
