//! Reads an archive from memory as a whole, and whatever becomes of it when it is cut or changed.

#![allow(dead_code)]

use std::collections::HashSet;
use std::ops::ControlFlow;
use std::sync::Arc;
use stmount::cache::Cache;
use stmount::error::{Error, Kind};
use stmount::formats::{Access, Format, Reading};
use stmount::key::{Keys, Secret};
use stmount::source::Memory;
use stmount::tree::{Kind as NodeKind, Node, Tree};

/// Files, as paths, with their contents or what kept them from being read.
pub type Files = Vec<(String, Result<Vec<u8>, Kind>)>;

/// What became of an archive.
#[derive(Debug, PartialEq, Eq)]
pub enum Read {
    Refused(Kind),
    Opened(Files),
}

/// Bytes of one file that are read; a hostile one may claim any number.
const MOST: u64 = 8 << 20;
/// Entries that are looked at.
const ENTRIES: usize = 2000;

struct List(Vec<Secret>);

impl Keys for List {
    fn next(&self, _: &str, wrong: usize) -> Option<Secret> {
        self.0.get(wrong).cloned()
    }
}

/// Opens an archive and reads all files in it.
pub fn read_all(format: &dyn Format, name: &str, bytes: Vec<u8>, passwords: &[&str]) -> Read {
    let keys = Arc::new(List(passwords.iter().map(|word| Secret::new(word.as_bytes().to_vec())).collect()));
    let reading = Arc::new(Reading { keys, max_entries: 100_000, ..Reading::default() });
    let access = Access::to_read(Arc::new(Memory::new(bytes)), Cache::new(16 << 20), name);
    match format.open(Access { reading, ..access }) {
        Ok(volume) => Read::Opened(files(&*volume.tree)),
        Err(e) => Read::Refused(e.kind()),
    }
}

fn files(tree: &dyn Tree) -> Files {
    let (mut files, mut seen) = (Files::new(), HashSet::new());
    let mut todo = vec![(String::new(), tree.root())];
    while let Some((path, dir)) = todo.pop() {
        let mut found: Vec<(String, Node, NodeKind)> = Vec::new();
        let listed = tree.list(dir, None, &mut |name, node, kind| {
            found.push((format!("{path}/{}", name.bytes().escape_ascii()), node, kind));
            if found.len() < ENTRIES { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        });
        if let Err(e) = listed {
            files.push((path, Err(e.kind())));
        }
        for (path, node, kind) in found {
            let _ = (tree.attr(node), tree.xattrs(node));
            match kind {
                NodeKind::Directory if seen.insert(node) && seen.len() < ENTRIES => todo.push((path, node)),
                NodeKind::Symlink => files.push((path, tree.target(node).map_err(|e| e.kind()))),
                NodeKind::File if files.len() < ENTRIES => {
                    files.push((path, contents(tree, node).map_err(|e| e.kind())));
                }
                _ => {}
            }
        }
    }
    files.sort_by(|a, b| a.0.cmp(&b.0));
    files
}

fn contents(tree: &dyn Tree, node: Node) -> Result<Vec<u8>, Error> {
    let file = tree.open(node)?;
    let len = file.len()?.min(MOST);
    let mut bytes = Vec::new();
    // Piece by piece: a length that is a lie is found out before there is memory for it.
    while (bytes.len() as u64) < len {
        let mut piece = vec![0; 64 << 10];
        let want = piece.len().min((len - bytes.len() as u64) as usize);
        match file.read_at(bytes.len() as u64, &mut piece[..want])? {
            0 => return Err(Error::new(Kind::Damaged, "it ends early")),
            got => bytes.extend_from_slice(&piece[..got]),
        }
    }
    Ok(bytes)
}

/// Cuts an archive at every length and flips bytes in it: each time it is refused or opened, and what is read of a file
/// without an error, of a file of the same name, is what it was or, where nothing checks it, what was flipped.
pub fn harm(format: &dyn Format, name: &str, archive: &[u8], passwords: &[&str], whole: &Files, flips: usize) {
    let step = (archive.len() / 1500).max(1);
    let mut opened = 0;
    for len in (0..archive.len()).step_by(step) {
        if let Read::Opened(files) = read_all(format, name, archive[..len].to_vec(), passwords) {
            opened += 1;
            agree(whole, &files, &format!("cut at {len}"));
        }
    }
    println!("{name}: {opened} of {} cuts are opened", archive.len() / step);
    let mut dice = Dice(0x2545_f491_4f6c_dd1d);
    for _ in 0..flips {
        let mut bytes = archive.to_vec();
        dice.change(&mut bytes);
        let _ = read_all(format, name, bytes, passwords);
    }
}

/// The same with the header of a 7z archive, whose checksums are made right, so that somebody reads what is in it.
pub fn harm_header(format: &dyn Format, name: &str, archive: &[u8], flips: usize) {
    let number = |at: usize| u64::from_le_bytes(archive[at..at + 8].try_into().unwrap()) as usize;
    let header = 32 + number(12)..32 + number(12) + number(20);
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    for _ in 0..flips {
        let mut bytes = archive.to_vec();
        dice.change(&mut bytes[header.clone()]);
        let sum = crc32fast::hash(&bytes[header.clone()]);
        bytes[28..32].copy_from_slice(&sum.to_le_bytes());
        let sum = crc32fast::hash(&bytes[12..32]);
        bytes[8..12].copy_from_slice(&sum.to_le_bytes());
        let _ = read_all(format, name, bytes, &[]);
    }
}

struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// Changes up to three bytes.
    fn change(&mut self, bytes: &mut [u8]) {
        for _ in 0..1 + self.roll() % 3 {
            let at = (self.roll() % bytes.len() as u64) as usize;
            let flipped = bytes[at] ^ 1 << (self.roll() % 8);
            bytes[at] = [flipped, 0, 0xff, self.roll() as u8][(self.roll() % 4) as usize];
        }
    }
}

/// What was read of a cut archive is what is in the whole one.
fn agree(whole: &Files, files: &Files, what: &str) {
    for (path, read) in files {
        let (Ok(read), Some((_, Ok(is)))) = (read, whole.iter().find(|(known, _)| known == path)) else { continue };
        assert!(read == is, "{what}: {path} has {} bytes that are not those of the whole", read.len());
    }
}
