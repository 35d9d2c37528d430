//! Two readers, one specification: `st_ref.py` was written from FORMAT.md alone, and reads what this code packs just as
//! the operating system shows the folder it was packed from.

mod common {
    pub mod dress;
    pub mod listing;
    pub mod metadata;
}

use common::dress;
use common::{listing, metadata};
use std::fs;
use std::path::Path;
use std::sync::Arc;
use stmount::cache::Cache;
use stmount::codec::seal::{AES_256_GCM_SIV, XCHACHA20_POLY1305};
use stmount::formats::folder::Folder;
use stmount::formats::st::{Container, Packer, Segmentation};
use stmount::source::Memory;
use stmount::tree::Filter;
use tempfile::TempDir;

fn pack(source: &Path, packer: &Packer) -> Vec<u8> {
    dress::pack(packer, &Folder::open(source).unwrap())
}

fn open(bytes: Vec<u8>) -> Container {
    Container::open(dress::read(Arc::new(Memory::new(bytes)), Cache::new(64 << 20), "test.st")).unwrap()
}

fn packers() -> Vec<Packer> {
    let of = |level, segmentation, threads| Packer { level, segmentation, threads, ..dress::packer() };
    let plain = [
        of(1, None, 2),
        of(6, None, 1),
        of(9, None, 3),
        of(6, Some(Segmentation::Bytes(4096)), 2),
        of(6, Some(Segmentation::Chunk), 2),
    ];
    let both: &[u16] = &[AES_256_GCM_SIV, XCHACHA20_POLY1305];
    let seals = [(&both[..1], false), (both, false), (both, true)];
    let sealed =
        seals.map(|(ciphers, padded)| Packer { seal: Some(dress::sealed_with(ciphers, padded)), ..of(6, None, 2) });
    plain.into_iter().chain(sealed).collect()
}

/// What the other reader says of a container, with the key that opens those that are sealed.
fn python(dir: &Path, args: &[&Path]) -> String {
    let identity = dir.join("identity");
    fs::write(&identity, dress::IDENTITY).unwrap();
    listing::say("st_ref.py", &[args, &["--identity".as_ref(), &identity]].concat())
}

/// Packs a folder in many ways; both readers must see what the operating system sees.
fn compare(source: &Path) {
    let truth = listing::say("os_list.py", &[source]);
    let dir = TempDir::new().unwrap();
    for packer in packers() {
        let bytes = pack(source, &packer);
        let file = dir.path().join("packed.st");
        fs::write(&file, &bytes).unwrap();
        let what = format!("level {}, {:?}, {:?}", packer.level, packer.segmentation, packer.seal);
        listing::assert_same(&truth, &python(dir.path(), &["list".as_ref(), &file]), &format!("Python, {what}"));
        listing::assert_same(&truth, &listing::of(&open(bytes)).unwrap(), &format!("Rust, {what}"));
        python(dir.path(), &["check".as_ref(), &file]);
    }
}

#[test]
fn everything_posix_knows_is_read_back() {
    let dir = TempDir::new().unwrap();
    metadata::everything(dir.path());
    compare(dir.path());
}

#[test]
fn an_empty_folder_is_read_back() {
    let dir = TempDir::new().unwrap();
    compare(dir.path());
}

#[test]
fn many_files_fill_many_blocks() {
    let dir = TempDir::new().unwrap();
    for i in 0..4000 {
        let below = dir.path().join(format!("dir {}/{}", i % 7, i % 31));
        fs::create_dir_all(&below).unwrap();
        fs::write(below.join(format!("file number {i}")), format!("{} {i}", "text ".repeat(i % 50))).unwrap();
    }
    compare(dir.path());
}

/// Bytes with a structure: they compress, and chunks of them differ.
fn structured(len: usize, seed: u32) -> Vec<u8> {
    let noise = metadata::noise(len / 4 + 1, seed);
    noise.iter().flat_map(|b| [*b, 7, b / 3, 0]).take(len).collect()
}

#[test]
fn equal_and_shifted_contents_are_read_back() {
    let dir = TempDir::new().unwrap();
    let (one, other) = (structured(900_000, 1), metadata::noise(400_000, 2));
    let files: [(&str, Vec<u8>); 8] = [
        ("one", one.clone()),
        ("one again", one.clone()),
        ("shifted", [b"in front", &one[..]].concat()),
        ("cut", one[123_456..800_000].to_vec()),
        ("around noise", [&one[..300_000], &other, &one[300_000..]].concat()),
        ("noise", other.clone()),
        ("noise twice", [&other[..], &other].concat()),
        ("zeros", vec![0; 700_000]),
    ];
    files.iter().for_each(|(name, bytes)| fs::write(dir.path().join(name), bytes).unwrap());
    compare(dir.path());
}

#[test]
fn files_with_many_holes_are_read_back() {
    use std::os::unix::fs::FileExt;
    let dir = TempDir::new().unwrap();
    for (name, step) in [("few", 3 << 20), ("many", 64 << 10)] {
        let file = fs::File::create(dir.path().join(name)).unwrap();
        file.set_len(8 << 20).unwrap();
        for at in (0..8u64 << 20).step_by(step) {
            file.write_all_at(&structured(5000, at as u32), at).unwrap();
        }
    }
    compare(dir.path());
}

/// The batch of the walk has 256 Ki names: more than that make a second table.
#[test]
fn a_tree_of_several_tables_is_read_back() {
    let dir = TempDir::new().unwrap();
    // Hard links make many names fast.
    for name in ["a", "b", "c", "d", "e"] {
        fs::create_dir(dir.path().join(name)).unwrap();
        let first = dir.path().join(name).join("0");
        fs::write(&first, name).unwrap();
        (1..53_000).for_each(|i| fs::hard_link(&first, dir.path().join(name).join(format!("{i:x}"))).unwrap());
    }
    fs::create_dir(dir.path().join("z")).unwrap();
    fs::write(dir.path().join("z/last"), b"in the second table").unwrap();
    let bytes = pack(dir.path(), &Packer { level: 1, ..dress::packer() });
    let file = dir.path().join("packed.st");
    fs::write(&file, &bytes).unwrap();
    let check = python(dir.path(), &["check".as_ref(), &file]);
    assert!(check.contains("\"tables\": 2"), "{check}");
    let listed = python(dir.path(), &["list".as_ref(), &file]);
    listing::assert_same(&listed, &listing::of(&open(bytes)).unwrap(), "Python and Rust");
    let names: Vec<_> = listed.lines().filter(|line| line.contains("\"type\": \"file\"")).collect();
    assert_eq!(names.len(), 5 * 53_000 + 1);
}

/// The number of links of a directory is that of the container, where some subdirectories were left out.
#[test]
fn link_counts_of_directories_are_those_of_what_was_packed() {
    let dir = TempDir::new().unwrap();
    ["a", "b", "c"].iter().for_each(|name| fs::create_dir(dir.path().join(name)).unwrap());
    let filter = Filter::new(&[], &["b".to_owned()]).unwrap();
    let tree = open(pack(dir.path(), &Packer { filter, ..dress::packer() }));
    let listed = listing::of(&tree).unwrap();
    let root = listed.lines().next().unwrap();
    assert!(root.contains("\"nlink\": 4"), "{root}");
}

#[test]
fn one_file_is_printed() {
    let dir = TempDir::new().unwrap();
    fs::create_dir(dir.path().join("below")).unwrap();
    fs::write(dir.path().join("below/file"), b"its contents\n").unwrap();
    let file = dir.path().join("x.st");
    let bytes = pack(dir.path(), &dress::packer());
    fs::write(&file, bytes).unwrap();
    assert_eq!(python(dir.path(), &["cat".as_ref(), &file, "below/file".as_ref()]), "its contents\n");
}
