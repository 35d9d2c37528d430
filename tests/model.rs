//! A container against the folder it was made of: random trees, packed at random, read at random. The folder is the model.

mod common {
    pub mod dice;
    pub mod dress;
    pub mod metadata;
}

use common::dice::Dice;
use common::dress;
use common::metadata::noise;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use stmount::cache::Cache;
use stmount::formats::Unwatched;
use stmount::formats::folder::Folder;
use stmount::formats::st::{Container, Packer, Segmentation};
use stmount::source::{Memory, ReadAt};
use stmount::tree::{Name, Tree};
use tempfile::TempDir;

impl Dice {
    /// A length at or near where a chunk, a segment or a buffer ends, or any.
    fn len(&mut self) -> usize {
        let edge = self.of(&[0, 1, 4096, 8192, 32 << 10, 256 << 10, 512 << 10, 1 << 20]);
        match self.below(3) {
            0 => self.below(700_000) as usize,
            _ => (edge + self.below(5)).saturating_sub(2) as usize,
        }
    }

    fn contents(&mut self, earlier: &[Vec<u8>]) -> Vec<u8> {
        let (len, seed) = (self.len(), self.0 as u32 >> 1);
        match self.below(6) {
            0 => noise(len, seed),
            1 => vec![0; len],
            2 => noise(len / 16 + 1, seed).iter().flat_map(|b| [*b & 15; 16]).take(len).collect(),
            3 => (0..len).map(|i| (i / 64 % 251) as u8).collect(),
            4 if !earlier.is_empty() => earlier[self.below(earlier.len() as u64) as usize].clone(),
            _ => self.patchwork(earlier, len),
        }
    }

    /// Pieces of what was before, shifted, with zeros and news between them.
    fn patchwork(&mut self, earlier: &[Vec<u8>], len: usize) -> Vec<u8> {
        let mut out = Vec::new();
        while out.len() < len {
            let piece = 1 + self.below(90_000) as usize;
            match earlier.get(self.below(earlier.len() as u64 + 2) as usize) {
                Some(other) => {
                    let at = self.below(other.len() as u64 + 1) as usize;
                    out.extend_from_slice(&other[at..(at + piece).min(other.len())]);
                    out.push(7);
                }
                None if self.below(2) == 0 => out.resize(out.len() + piece, 0),
                None => out.extend(noise(piece, self.0 as u32 >> 1)),
            }
        }
        out.truncate(len);
        out
    }

    fn packer(&mut self, threads: usize) -> Packer {
        let level = self.of(&[1, 2, 4, 6, 9]);
        let bytes = self.of(&[4096, 5000, 64 << 10, 1 << 20]);
        let segmentation = self.of(&[None, Some(Segmentation::Chunk), Some(Segmentation::Bytes(bytes))]);
        Packer { level, segmentation, threads, ..dress::packer() }
    }
}

/// Writes a file; in some, stretches of zeros are holes.
fn write(path: &Path, bytes: &[u8], sparse: bool) {
    let file = File::create(path).unwrap();
    if !sparse {
        return file.write_all_at(bytes, 0).unwrap();
    }
    file.set_len(bytes.len() as u64).unwrap();
    for (i, block) in bytes.chunks(4096).enumerate().filter(|(_, block)| block.iter().any(|b| *b != 0)) {
        file.write_all_at(block, i as u64 * 4096).unwrap();
    }
}

fn random_tree(dice: &mut Dice, root: &Path) -> Vec<(String, Vec<u8>)> {
    let (mut files, mut earlier) = (Vec::new(), Vec::new());
    for i in 0..2 + dice.below(9) {
        let bytes = dice.contents(&earlier);
        let name = format!("file {i}.{}", dice.of(&["txt", "bin", "wav"]));
        write(&root.join(&name), &bytes, dice.below(3) == 0);
        earlier.push(bytes.clone());
        files.push((name, bytes));
    }
    files
}

fn pack(root: &Path, packer: &Packer) -> Vec<u8> {
    dress::pack(packer, &Folder::open(root).unwrap())
}

fn file_of(tree: &dyn Tree, name: &str) -> Arc<dyn ReadAt> {
    let node = tree.find(tree.root(), Name::new(name.as_bytes()).unwrap()).unwrap().unwrap();
    tree.open(node).unwrap()
}

fn read_at_random(file: &dyn ReadAt, bytes: &[u8], dice: &mut Dice) {
    for _ in 0..25 {
        let at = dice.below(bytes.len() as u64 + 3000) as usize;
        let len = dice.of(&[0, 1, 7, 4096, 70_000, 300_000]);
        let mut into = vec![0xaa; len];
        if dice.below(4) == 0 {
            file.will_read(at as u64..(at + len) as u64);
        }
        let got = file.read_at(at as u64, &mut into).unwrap();
        let expected = bytes.get(at..).map_or(&[][..], |rest| &rest[..len.min(rest.len())]);
        assert_eq!(got, expected.len(), "the length of a read of {len} at {at}");
        assert!(&into[..got] == expected, "a read of {len} at {at}");
    }
}

/// The data of a file: its ranges, joined.
fn data(file: &dyn ReadAt) -> Vec<(u64, u64)> {
    let (mut all, mut at): (Vec<(u64, u64)>, u64) = (Vec::new(), 0);
    while let Some(range) = file.next_data(at).unwrap() {
        assert!(range.start >= at && range.start < range.end, "{range:?} behind {at}");
        at = range.end;
        match all.last_mut() {
            Some(last) if last.1 == range.start => last.1 = range.end,
            _ => all.push((range.start, range.end)),
        }
    }
    all
}

fn compare_holes(file: &dyn ReadAt, source: &dyn ReadAt, bytes: &[u8]) {
    let (found, known) = (data(file), data(source));
    let mut at = 0;
    for (start, end) in found.iter().copied().chain([(bytes.len() as u64, bytes.len() as u64)]) {
        assert!(end <= bytes.len() as u64, "data behind the end");
        assert!(bytes[at..start as usize].iter().all(|b| *b == 0), "bytes that are not zero became a hole");
        at = end as usize;
    }
    let inside = |(start, end): &(u64, u64)| known.iter().any(|k| k.0 <= *start && *end <= k.1);
    assert!(found.iter().all(inside), "a hole became data: {found:?}, the source has {known:?}");
}

#[test]
fn whatever_is_packed_reads_back_anywhere_by_anyone() {
    let mut dice = Dice(1);
    for round in 0..40 {
        let dir = TempDir::new().unwrap();
        let files = random_tree(&mut dice, dir.path());
        let packer = dice.packer(1 + round % 4);
        let cache = Cache::new(dice.of(&[1 << 20, 64 << 20]));
        let bytes = Arc::new(Memory::new(pack(dir.path(), &packer)));
        let container = Container::open(dress::read(bytes, cache, format!("round {round}"))).unwrap();
        let source = Folder::open(dir.path()).unwrap();
        std::thread::scope(|threads| {
            for thread in 0..3 {
                let (files, container) = (&files, &container);
                threads.spawn(move || {
                    let mut dice = Dice(thread);
                    files.iter().for_each(|(name, b)| read_at_random(&*file_of(container, name), b, &mut dice));
                });
            }
        });
        for (name, bytes) in &files {
            compare_holes(&*file_of(&container, name), &*file_of(&source, name), bytes);
        }
        assert!(container.check(2, &Unwatched).unwrap().is_whole());
    }
}

#[test]
fn the_same_tree_gives_the_same_bytes_whatever_the_threads() {
    if dress::is_sealed() {
        return println!("sealing draws nonces: the bytes differ each time");
    }
    let mut dice = Dice(2);
    for _ in 0..8 {
        let dir = TempDir::new().unwrap();
        random_tree(&mut dice, dir.path());
        let packer = dice.packer(1);
        let one = pack(dir.path(), &packer);
        let four = pack(dir.path(), &Packer { threads: 4, ..packer.clone() });
        assert!(one == four, "{packer:?}: other bytes with more threads");
    }
}

/// The order in which a directory lists its names, and where it lies, are not in the container.
#[test]
fn a_copy_of_a_tree_gives_the_same_bytes() {
    if dress::is_sealed() {
        return println!("sealing draws nonces: the bytes differ each time");
    }
    let (one, other) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let names: Vec<_> = (0..200).map(|i| format!("name {}", i * 7919 % 200)).collect();
    let time = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_700_000_000);
    let make = |dir: &Path, names: &mut dyn Iterator<Item = &String>| {
        for name in names {
            let file = File::create(dir.join(name)).unwrap();
            file.write_all_at(name.repeat(100).as_bytes(), 0).unwrap();
            file.set_modified(time).unwrap();
        }
        File::open(dir).unwrap().set_modified(time).unwrap();
        fs::read_dir(dir).unwrap().count()
    };
    assert_eq!(make(one.path(), &mut names.iter()), make(other.path(), &mut names.iter().rev()));
    assert!(pack(one.path(), &Packer::default()) == pack(other.path(), &Packer::default()));
}
