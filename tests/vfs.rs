//! The file system without a kernel: what it answers, and what it asks of a tree.

mod common;

use common::memtree::{MemTree, Odd, ROOT};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use stmount::error::Kind as ErrorKind;
use stmount::source::ReadAt;
use stmount::tree::{Kind, Tree};
use stmount::vfs::{self, DirEntry, Policy, STATELESS, Vfs};

fn shown(tree: MemTree, policy: Policy) -> (Arc<MemTree>, Vfs) {
    let tree = Arc::new(tree);
    (tree.clone(), Vfs::new(tree, policy))
}

fn names(vfs: &Vfs, handle: u64, offset: u64, max: usize) -> Vec<(String, u64)> {
    let mut seen = Vec::new();
    let visit = &mut |e: DirEntry<'_>| {
        assert_ne!(e.ino, 0);
        seen.push((String::from_utf8_lossy(e.name).into_owned(), e.next));
        if seen.len() == max { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    vfs.readdir(vfs::ROOT, handle, offset, visit).unwrap();
    seen
}

#[test]
fn a_large_directory_is_listed_once_however_many_pages_it_has() {
    let mut tree = MemTree::default();
    for n in 0..5000 {
        tree.file(ROOT, format!("{n:05}").as_bytes(), b"");
    }
    let (tree, vfs) = shown(tree, Policy::default());
    let (mut all, mut offset) = (Vec::new(), 0);
    loop {
        let page = names(&vfs, STATELESS, offset, 37);
        let Some(last) = page.last() else { break };
        offset = last.1;
        all.extend(page.into_iter().map(|p| p.0));
    }
    assert_eq!(all.len(), 5002);
    assert_eq!(&all[..3], [".", "..", "00000"]);
    assert!(all[2..].is_sorted() && all.last().unwrap() == "04999");
    assert_eq!(tree.lists.load(Ordering::Relaxed), 1);
}

#[test]
fn a_living_directory_is_read_again_at_a_rewind_and_not_between_pages() {
    let mut tree = MemTree::default();
    tree.frozen = false;
    for name in ["a", "b", "c"] {
        tree.file(ROOT, name.as_bytes(), b"");
    }
    let (tree, vfs) = shown(tree, Policy::default());
    let handle = vfs.opendir(vfs::ROOT).unwrap();
    let first = names(&vfs, handle, 0, 3);
    assert_eq!(names(&vfs, handle, first[2].1, 9).iter().map(|e| e.0.as_str()).collect::<Vec<_>>(), ["b", "c"]);
    assert_eq!(tree.lists.load(Ordering::Relaxed), 1);
    names(&vfs, handle, 0, 3);
    assert_eq!(tree.lists.load(Ordering::Relaxed), 2);
    vfs.release(handle);
    assert!(vfs.readdir(vfs::ROOT, handle, 0, &mut |_| ControlFlow::Continue(())).is_err());
}

#[test]
fn an_exact_name_wins_over_one_that_differs_in_case() {
    let mut tree = MemTree::default();
    for name in ["Data", "data", "ÄPFEL"] {
        tree.file(ROOT, name.as_bytes(), name.as_bytes());
    }
    let found = |vfs: &Vfs, name: &str| vfs.lookup(vfs::ROOT, name.as_bytes()).unwrap().map(|s| s.ino);
    let (tree, vfs) = shown(tree, Policy { ignore_case: true, ..Policy::default() });
    let (upper, lower) = (found(&vfs, "Data").unwrap(), found(&vfs, "data").unwrap());
    assert_ne!(upper, lower);
    assert_eq!(found(&vfs, "DATA"), Some(upper), "the first in the order of the directory counts");
    assert!(found(&vfs, "äpfel").is_some() && found(&vfs, "apfel").is_none());
    assert_eq!(tree.lists.load(Ordering::Relaxed), 1, "the folded names are kept");
    let strict = Vfs::new(tree, Policy::default());
    assert_eq!(found(&strict, "DATA"), None);
}

#[test]
fn a_sequential_read_is_announced_ahead_and_no_range_twice() {
    for frozen in [true, false] {
        let source = Arc::new(Odd::new(20 << 20, |_| Ok(())));
        let mut tree = MemTree::default();
        tree.frozen = frozen;
        tree.source(ROOT, b"f", source.clone());
        let (_, vfs) = shown(tree, Policy::default());
        let ino = vfs.lookup(vfs::ROOT, b"f").unwrap().unwrap().ino;
        let handle = vfs.open(ino).unwrap();
        let mut buffer = vec![0; 128 << 10];
        for at in (0..20 << 20).step_by(buffer.len()) {
            assert_eq!(vfs.read(ino, handle, at, &mut buffer).unwrap(), buffer.len());
            let end = source.announced.lock().unwrap().last().map_or(0, |r| r.end);
            assert!(at == 0 || end >= (at + 2 * buffer.len() as u64).min(20 << 20), "{at} {end}");
        }
        let announced = source.announced.lock().unwrap();
        assert!(announced.len() < 20, "{} announcements", announced.len());
        assert!(announced.windows(2).all(|w| w[0].end == w[1].start));
    }
}

#[test]
fn no_announcement_when_the_mount_was_told_so() {
    let source = Arc::new(Odd::new(2 << 20, |_| Ok(())));
    let mut tree = MemTree::default();
    let node = tree.source(ROOT, b"f", source.clone());
    let (_, vfs) = shown(tree, Policy { read_ahead: 0, ..Policy::default() });
    assert_eq!(node.0, 1);
    let ino = vfs.lookup(vfs::ROOT, b"f").unwrap().unwrap().ino;
    for at in (0..2 << 20).step_by(4096) {
        vfs.read(ino, STATELESS, at, &mut [0; 4096]).unwrap();
    }
    assert!(source.announced.lock().unwrap().is_empty());
}

#[test]
fn holes_and_data_are_found_from_any_place() {
    let mut source = Odd::new(10_000, |_| Ok(()));
    // The middle one is told in two parts that touch.
    source.data = vec![1000..2000, 4000..5000, 5000..6000];
    let mut tree = MemTree::default();
    tree.source(ROOT, b"f", Arc::new(source));
    let (_, vfs) = shown(tree, Policy::default());
    let ino = vfs.lookup(vfs::ROOT, b"f").unwrap().unwrap().ino;
    let seek = |at, hole| vfs.seek(ino, STATELESS, at, hole).unwrap();
    for (at, data, hole) in [
        (0, Some(1000), Some(0)),
        (1500, Some(1500), Some(2000)),
        (2000, Some(4000), Some(2000)),
        (4500, Some(4500), Some(6000)),
        (6000, None, Some(6000)),
        (9999, None, Some(9999)),
        (10_000, None, None),
    ] {
        assert_eq!((seek(at, false), seek(at, true)), (data, hole), "at {at}");
    }
}

#[test]
fn a_file_without_holes_ends_with_one() {
    let mut tree = MemTree::default();
    tree.file(ROOT, b"f", &[1; 100]);
    let (_, vfs) = shown(tree, Policy::default());
    let ino = vfs.lookup(vfs::ROOT, b"f").unwrap().unwrap().ino;
    assert_eq!(vfs.seek(ino, STATELESS, 10, true).unwrap(), Some(100));
    assert_eq!(vfs.seek(ino, STATELESS, 100, true).unwrap(), None);
}

#[test]
fn reading_a_directory_or_a_dead_handle_is_an_error() {
    let mut tree = MemTree::default();
    tree.frozen = false;
    tree.file(ROOT, b"f", b"x");
    let (tree, vfs) = shown(tree, Policy::default());
    assert!(!tree.is_frozen());
    let dir = vfs.opendir(vfs::ROOT).unwrap();
    assert_eq!(vfs.read(vfs::ROOT, dir, 0, &mut [0; 4]).unwrap_err().kind(), ErrorKind::IsADirectory);
    assert_eq!(vfs.read(vfs::ROOT, 99, 0, &mut [0; 4]).unwrap_err().kind(), ErrorKind::Invalid);
}

#[test]
fn names_that_cannot_be_are_simply_not_there() {
    let (_, vfs) = shown(MemTree::default(), Policy::default());
    for name in [&b""[..], b".", b"a/b"] {
        assert_eq!(vfs.lookup(vfs::ROOT, name).unwrap(), None);
    }
    assert_eq!(vfs.getattr(vfs::ROOT).unwrap().attr.kind, Kind::Directory);
    assert_eq!(Odd::new(1, |_| Ok(())).len().unwrap(), 1);
}

#[test]
fn a_message_about_a_file_can_name_its_path() {
    let mut tree = MemTree::default();
    let dir = tree.dir(ROOT, "maps");
    let deep = tree.dir(dir, "north");
    let node = tree.file(deep, b"a\xff.bin", b"");
    for n in 0..100 {
        tree.dir(dir, &format!("other{n}"));
    }
    let (_, vfs) = shown(tree, Policy::default());
    assert_eq!(vfs.describe(node.0), "maps/north/a\u{fffd}.bin");
    assert_eq!(vfs.describe(9999), "inode 9999");
}
