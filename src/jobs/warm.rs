//! Reads what is in a tree, or a whole object, so that it is here when it is needed.

use crate::error::{Error, Kind as ErrorKind, Result};
use crate::formats::Watch;
use crate::pool::lock;
use crate::source::ReadAt;
use crate::tree::{Kind, Node, Tree};
use std::collections::HashSet;
use std::ops::ControlFlow;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread;

/// Bytes that a thread reads at a time.
const PIECE: usize = 1 << 20;

/// What was read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Warmed {
    pub files: u64,
    pub bytes: u64,
    /// Files that could not be read.
    pub failed: u64,
}

/// Reads all files at and below an entry, by so many threads. What fails is told to `watch`, and the rest goes on.
///
/// # Errors
/// Those of listing; `Interrupted` when it is cancelled.
pub fn tree(tree: &dyn Tree, from: Node, path: &[u8], threads: usize, watch: &dyn Watch) -> Result<Warmed> {
    let files = Mutex::new(files(tree, from, path, watch)?.into_iter());
    let (count, bytes, failed) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(|| {
                while !watch.is_cancelled() {
                    let Some((path, node)) = lock(&files).next() else { return };
                    watch.entry(&path);
                    let read = tree.open(node).and_then(|file| whole(&*file, watch));
                    watch.advance(0, 1);
                    match read {
                        Ok(len) => {
                            count.fetch_add(1, Relaxed);
                            bytes.fetch_add(len, Relaxed);
                        }
                        Err(e) => {
                            failed.fetch_add(1, Relaxed);
                            watch.skipped(&path, &e);
                        }
                    }
                }
            });
        }
    });
    go_on(watch)?;
    Ok(Warmed { files: count.into_inner(), bytes: bytes.into_inner(), failed: failed.into_inner() })
}

fn go_on(watch: &dyn Watch) -> Result<()> {
    match watch.is_cancelled() {
        true => Err(Error::new(ErrorKind::Interrupted, "interrupted")),
        false => Ok(()),
    }
}

/// Reads all bytes, from the front. How many they were.
///
/// # Errors
/// Those of reading; `Interrupted` when it is cancelled.
pub fn whole(bytes: &dyn ReadAt, watch: &dyn Watch) -> Result<u64> {
    let (mut at, mut into) = (0, vec![0; PIECE]);
    loop {
        go_on(watch)?;
        match bytes.read_at(at, &mut into)? {
            0 => return Ok(at),
            got => {
                at += got as u64;
                watch.advance(got as u64, 0);
            }
        }
    }
}

/// All files at and below an entry. Each directory is entered once: those of a hostile container go in circles.
fn files(tree: &dyn Tree, from: Node, path: &[u8], watch: &dyn Watch) -> Result<Vec<(Vec<u8>, Node)>> {
    let first = tree.attr(from)?;
    let mut found = Vec::new();
    let (mut bytes, mut entered) = (0, HashSet::from([from]));
    match first.kind {
        Kind::Directory => {
            let mut rest = vec![(path.to_vec(), from)];
            while let Some((path, dir)) = rest.pop() {
                go_on(watch)?;
                tree.list(dir, None, &mut |name, node, kind| {
                    let mut path = path.clone();
                    if !path.is_empty() {
                        path.push(b'/');
                    }
                    path.extend_from_slice(name.bytes());
                    match kind {
                        Kind::Directory if entered.insert(node) => rest.push((path, node)),
                        Kind::File => found.push((path, node)),
                        _ => {}
                    }
                    ControlFlow::Continue(())
                })?;
            }
            // How long files are may cost a request each: that is asked while they are read.
            if tree.is_frozen() {
                for (_, node) in &found {
                    bytes += tree.attr(*node)?.size;
                }
            }
        }
        Kind::File => {
            bytes = first.size;
            found.push((path.to_vec(), from));
        }
        _ => return Err(Error::new(ErrorKind::Invalid, "it is neither a file nor a directory")),
    }
    watch.total(bytes, found.len() as u64);
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::{Unwatched, folder::Folder};

    #[test]
    fn all_of_it_is_read_and_nothing_twice() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("a/b")).unwrap();
        for (name, len) in [("a/b/x", 3_000_000), ("a/y", 0), ("z", 5)] {
            std::fs::write(dir.path().join(name), vec![1; len]).unwrap();
        }
        std::os::unix::fs::symlink("..", dir.path().join("a/up")).unwrap();
        let folder = Folder::open(dir.path()).unwrap();
        let read = tree(&folder, folder.root(), b"", 3, &Unwatched).unwrap();
        assert_eq!(read, Warmed { files: 3, bytes: 3_000_005, failed: 0 });
        let node = crate::tree::find_path(&folder, b"a/y").unwrap();
        assert_eq!(tree(&folder, node, b"a/y", 1, &Unwatched).unwrap(), Warmed { files: 1, ..Warmed::default() });
    }
}
