//! RAR archives as they are met: of all versions, with passwords, in volumes, behind programs, damaged. What whole ones hold
//! is seen in tests/conformance.rs, too.

#[path = "common/desk.rs"]
mod desk;
#[path = "common/dress.rs"]
mod dress;
#[path = "common/rar.rs"]
mod maker;
#[path = "common/reader.rs"]
mod reader;

use desk::Desk;
use maker::{Rar, VERSIONS, rar};
use rars::ArchiveVersion::{self, Rar14, Rar15, Rar20, Rar29, Rar40, Rar50, Rar70};
use reader::{Read, read_all};
use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use stmount::cache::Cache;
use stmount::error::{Error, Kind, Result};
use stmount::formats::{self, Access, Reading, Volume, Volumes};
use stmount::key::OneKey;
use stmount::key::Secret;
use stmount::source::{Memory, ReadAt};
use stmount::tree::{Name, find_path};

fn opened(bytes: &[u8], passwords: &[&str]) -> reader::Files {
    match read_all(&formats::rar::Rar, "a.rar", bytes.to_vec(), passwords) {
        Read::Opened(files) => files,
        Read::Refused(kind) => panic!("it is refused: {kind:?}"),
    }
}

fn refused(bytes: &[u8], passwords: &[&str]) -> Kind {
    match read_all(&formats::rar::Rar, "a.rar", bytes.to_vec(), passwords) {
        Read::Refused(kind) => kind,
        Read::Opened(files) => panic!("it opens: {files:?}"),
    }
}

/// Text, noise, nothing, and much of one kind.
fn samples() -> Vec<(&'static str, Vec<u8>)> {
    let text: Vec<u8> = (0..9000u32).flat_map(|n| format!("line {} of {n}\n", n % 97).into_bytes()).collect();
    let mut dice = 7u64;
    let mut noise = || {
        dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (dice >> 56) as u8
    };
    let noise: Vec<u8> = (0..40_000).map(|_| noise()).collect();
    let zeros = vec![0; 300_000];
    vec![
        ("text", text.clone()),
        ("empty", Vec::new()),
        ("noise.bin", noise.clone()),
        ("again", [&text[..], &noise[..9000]].concat()),
        ("zeros", zeros),
        ("short", b"a".to_vec()),
    ]
}

/// Few of them, where keys take long to make.
fn samples_for(how: &Rar) -> Vec<(&'static str, Vec<u8>)> {
    let is_slow = how.password.is_some() && matches!(how.version, Rar29 | Rar40);
    samples().into_iter().filter(|(name, _)| !is_slow || ["again", "short"].contains(name)).collect()
}

fn made(how: &Rar) -> Vec<u8> {
    let samples = samples_for(how);
    how.of(&samples.iter().map(|(name, bytes)| (*name, &bytes[..])).collect::<Vec<_>>())
}

#[track_caller]
fn is_all(how: &Rar, files: &reader::Files) {
    let mut expected: Vec<_> =
        samples_for(how).into_iter().map(|(name, bytes)| (format!("/{name}"), Ok(bytes))).collect();
    expected.sort_by(|a: &(String, _), b| a.0.cmp(&b.0));
    let brief = |files: &reader::Files| -> Vec<_> {
        files.iter().map(|(name, read)| (name.clone(), read.as_ref().map(Vec::len).map_err(|e| *e))).collect()
    };
    assert!(*files == expected, "{:?} instead of {:?}", brief(files), brief(&expected));
}

/// What can be asked of the writer for a version.
fn ways(version: ArchiveVersion) -> Vec<Rar> {
    let plain = rar(version);
    let solid = [plain.solid()].into_iter().filter(|_| version != Rar14);
    [plain, plain.stored()].into_iter().chain(solid).collect()
}

#[test]
fn every_version_is_read_stored_compressed_and_solid() {
    for version in VERSIONS {
        for how in ways(*version) {
            println!("{version:?}, solid {}, stored {}", how.is_solid, how.is_stored);
            is_all(&how, &opened(&made(&how), &[]));
        }
    }
}

#[test]
fn encrypted_data_and_headers_are_read() {
    for version in VERSIONS {
        for how in ways(*version) {
            println!("{version:?}, solid {}, stored {}", how.is_solid, how.is_stored);
            let how = how.locked("secret");
            let archive = made(&how);
            is_all(&how, &opened(&archive, &["wrong", "secret", "other"]));
            assert_eq!(refused(&archive, &["wrong"]), Kind::WrongPassword);
            assert_eq!(refused(&archive, &[]), Kind::NeedsPassword);
        }
    }
    for version in [Rar40, Rar50, Rar70] {
        for how in ways(version) {
            let how = how.locked("päß😀").hidden();
            let archive = made(&how);
            is_all(&how, &opened(&archive, &["wrong", "päß😀"]));
            assert_eq!(refused(&archive, &["wrong"]), Kind::WrongPassword);
            assert_eq!(refused(&archive, &[]), Kind::NeedsPassword);
        }
    }
}

/// One byte out of 256 passwords is the right one by chance.
#[test]
fn a_file_of_one_byte_does_not_let_a_wrong_password_pass() {
    let archive = rar(Rar20).stored().locked("secret").of(&[("short", b"a"), ("text", b"some more of them")]);
    for n in 0..1500 {
        assert_eq!(refused(&archive, &[&format!("wrong {n}")]), Kind::WrongPassword, "wrong {n}");
    }
}

/// Nor do headers that have no checksum.
#[test]
fn hidden_headers_let_no_wrong_password_pass() {
    let archive = rar(Rar40).stored().locked("secret").hidden().of(&[("noise", &[7; 70_000])]);
    for n in 0..300 {
        assert_eq!(refused(&archive, &[&format!("wrong {n}")]), Kind::WrongPassword, "wrong {n}");
    }
}

#[test]
fn each_entry_may_have_a_password_of_its_own() {
    for version in [Rar20, Rar40, Rar50] {
        let mut builder = rar(version).builder();
        for (name, password) in [("clear", None), ("one", Some("first")), ("two", Some("second"))] {
            let text = name.repeat(1000).into_bytes();
            builder.add_bytes(name.as_bytes().to_vec(), text, None, None).unwrap();
            builder.set_entry_encryption(name.as_bytes(), password.map(|p| p.as_bytes().to_vec()), None).unwrap();
        }
        let archive = builder.to_bytes().unwrap();
        let seen = |passwords: &[&str]| -> Vec<_> {
            opened(&archive, passwords).into_iter().map(|(_, read)| read.err()).collect()
        };
        assert_eq!(seen(&["first", "second"]), [None, None, None]);
        assert_eq!(seen(&["second"]), [None, Some(Kind::WrongPassword), None]);
        assert_eq!(seen(&[]), [None, Some(Kind::NeedsPassword), Some(Kind::NeedsPassword)]);
        assert_eq!(seen(&["other"]), [None, Some(Kind::WrongPassword), Some(Kind::WrongPassword)]);
    }
}

/// Files beside each other in memory.
struct Files {
    opened: String,
    all: HashMap<String, Vec<u8>>,
}

impl Volumes for Files {
    fn name(&self) -> &str {
        &self.opened
    }

    fn open(&self, name: &str) -> Result<Option<Arc<dyn ReadAt>>> {
        let bytes = self.all.get(name);
        Ok(bytes.map(|bytes| Arc::new(Memory::new(bytes.clone())) as Arc<dyn ReadAt>))
    }
}

fn open_set(all: &HashMap<String, Vec<u8>>, name: &str, password: Option<&str>) -> Result<Volume> {
    let access = Access::to_read(Arc::new(Memory::new(all[name].clone())), Cache::new(16 << 20), name);
    let mut reading = Reading::default();
    if let Some(password) = password {
        reading.keys = Arc::new(OneKey(Secret::new(password.as_bytes().to_vec())));
    }
    let files = Files { opened: name.to_owned(), all: all.clone() };
    formats::open(Access { volumes: Some(Arc::new(files)), reading: Arc::new(reading), ..access })
}

fn read(volume: &Volume, path: &str) -> Result<Vec<u8>> {
    let node = find_path(&*volume.tree, path.as_bytes())?;
    let file = volume.tree.open(node)?;
    let mut bytes = vec![0; file.len()? as usize];
    file.read_exact_at(0, &mut bytes)?;
    Ok(bytes)
}

fn volume_name(version: ArchiveVersion, number: usize) -> String {
    match (version, number) {
        (Rar50 | Rar70, _) => format!("x.part{number:02}.rar"),
        (_, 1) => "x.rar".into(),
        _ => format!("x.r{:02}", number - 2),
    }
}

/// What is put into volumes: the writer takes but one file before RAR 5.
fn split_samples(version: ArchiveVersion) -> Vec<(&'static str, Vec<u8>)> {
    let is_new = matches!(version, Rar50 | Rar70);
    samples().into_iter().rev().filter(|(name, _)| is_new || *name == "again").collect()
}

#[test]
fn any_volume_opens_the_whole_set() {
    for version in [Rar15, Rar20, Rar29, Rar40, Rar50, Rar70] {
        for how in [rar(version), rar(version).stored(), rar(version).locked("secret")] {
            let samples = split_samples(version);
            let files: Vec<_> = samples.iter().map(|(name, bytes)| (*name, &bytes[..])).collect();
            let volumes = match how.volumes(4000).try_volumes_of(&files) {
                Ok(volumes) => volumes,
                Err(e) => {
                    println!("{version:?}: the writer makes no such volumes: {e}");
                    continue;
                }
            };
            assert!(volumes.len() > 2, "{version:?}: {}", volumes.len());
            let last = volumes.len();
            let all: HashMap<_, _> =
                volumes.into_iter().enumerate().map(|(n, bytes)| (volume_name(version, n + 1), bytes)).collect();
            for number in [1, 2, last] {
                let volume = open_set(&all, &volume_name(version, number), how.password).unwrap();
                assert!(volume.notes.is_empty(), "{:?}", volume.notes);
                for (name, bytes) in &files {
                    assert!(read(&volume, name).unwrap() == *bytes, "{version:?} from {number}: {name}");
                }
            }
        }
    }
}

#[test]
fn a_volume_that_is_missing_is_named() {
    for version in [Rar40, Rar50] {
        let samples = split_samples(version);
        let files: Vec<_> = samples.iter().map(|(name, bytes)| (*name, &bytes[..])).collect();
        let volumes = rar(version).stored().volumes(60_000).volumes_of(&files);
        let all: HashMap<_, _> =
            volumes.into_iter().enumerate().map(|(n, bytes)| (volume_name(version, n + 1), bytes)).collect();
        let without = |number: usize| {
            let mut some = all.clone();
            some.remove(&volume_name(version, number));
            some
        };
        let refused: Error = open_set(&without(1), &volume_name(version, 3), None).err().unwrap();
        assert_eq!(refused.kind(), Kind::MissingVolume);
        assert!(refused.to_string().contains(&volume_name(version, 1)), "{refused}");

        // Up to the one that is missing all is there.
        let volume = open_set(&without(3), &volume_name(version, 1), None).unwrap();
        assert!(volume.notes.iter().any(|note| note.contains(&volume_name(version, 3))), "{:?}", volume.notes);
        if version == Rar50 {
            assert_eq!(read(&volume, "short").unwrap(), b"a");
            assert_eq!(read(&volume, "text").err().map(|e| e.kind()), Some(Kind::NotFound));
        }
        let errors: Vec<_> = samples.iter().map(|(name, _)| read(&volume, name).err().map(|e| e.kind())).collect();
        assert!(errors.contains(&Some(Kind::MissingVolume)), "{errors:?}");
    }
}

#[test]
fn an_archive_behind_a_program_is_found_though_the_program_has_the_signature() {
    for version in [Rar20, Rar40, Rar50] {
        let stub = [b"MZ".to_vec(), vec![0x90; 70_000], b"Rar!\x1a\x07\0".to_vec(), vec![1; 500]].concat();
        let stub = [stub, b"Rar!\x1a\x07\x01\0".to_vec(), vec![2; 500]].concat();
        let archive = [stub, made(&rar(version))].concat();
        assert_eq!(formats::recognise(&Memory::new(archive.clone()), "x.exe").unwrap(), Some("rar"));
        is_all(&rar(version), &opened(&archive, &[]));
    }
    let text = b"#!/bin/sh\n# begins with Rar!\x1a\x07\0 or Rar!\x1a\x07\x01\0 and is no archive\n".repeat(99);
    assert_eq!(formats::recognise(&Memory::new(text), "x.sh").unwrap(), None);
}

#[test]
fn links_modes_and_times_are_shown() {
    let mut builder = rar(Rar50).builder();
    builder.add_directory(b"dir".to_vec(), Some(1_600_000_000), Some(0o750)).unwrap();
    builder.add_bytes(b"dir/file".to_vec(), b"data".to_vec(), Some(1_600_000_001), Some(0o640)).unwrap();
    builder.set_mtime_nanoseconds(b"dir/file", 123_456_700).unwrap();
    builder.add_unix_symlink(b"link".to_vec(), b"dir/file".to_vec(), false, Some(5), Some(0o777)).unwrap();
    let access = Access::to_read(Arc::new(Memory::new(builder.to_bytes().unwrap())), Cache::new(1 << 20), "a.rar");
    let volume = formats::open(access).unwrap();
    let attr = |path: &str| volume.tree.attr(find_path(&*volume.tree, path.as_bytes()).unwrap()).unwrap();
    assert_eq!((attr("dir").mode, attr("dir").mtime.secs), (0o750, 1_600_000_000));
    let file = attr("dir/file");
    assert_eq!((file.mode, file.mtime.secs, file.mtime.nanos), (0o640, 1_600_000_001, 123_456_700));
    let link = volume.tree.find(volume.tree.root(), Name::new(b"link").unwrap()).unwrap().unwrap();
    assert_eq!(volume.tree.target(link).unwrap(), b"dir/file");
}

#[test]
fn a_damaged_member_does_not_hide_those_before_it() {
    for version in [Rar29, Rar50] {
        let text = |n: u32| -> Vec<u8> {
            let mut dice = n;
            let mut roll = || {
                dice = dice.wrapping_mul(1_103_515_245).wrapping_add(12_345);
                b'a' + (dice >> 16) as u8 % 20
            };
            (0..200_000).map(|_| roll()).collect()
        };
        let texts: Vec<_> = (0..4).map(text).collect();
        let files: Vec<_> = ["1", "2", "3", "4"].into_iter().zip(texts.iter().map(|text| &text[..])).collect();
        for how in [rar(version), rar(version).solid()] {
            let mut archive = how.of(&files);
            let place = archive.len() * 5 / 8;
            archive[place] ^= 0x10;
            let read = opened(&archive, &[]);
            assert!(read[..2].iter().zip(&texts).all(|((_, read), text)| read.as_ref() == Ok(text)), "{version:?}");
            assert_eq!(read[2].1, Err(Kind::Damaged), "{version:?}");
            assert!(how.is_solid || read[3].1.as_ref() == Ok(&texts[3]), "{version:?}");
        }
    }
}

#[test]
fn a_cut_archive_shows_what_is_there_and_says_so() {
    for version in [Rar40, Rar50] {
        let archive = made(&rar(version).stored());
        let access = |reading: Reading| {
            let bytes = Arc::new(Memory::new(archive[..archive.len() / 2].to_vec()));
            let access = Access::to_read(bytes, Cache::new(1 << 20), "a.rar");
            formats::open(Access { reading: Arc::new(reading), ..access })
        };
        let volume = access(Reading::default()).unwrap();
        assert!(volume.notes.iter().any(|note| note.contains("cut off")), "{:?}", volume.notes);
        assert!(read(&volume, "text").unwrap() == samples()[0].1);
        assert!(access(Reading { strict: true, ..Reading::default() }).is_err());
    }
}

#[test]
fn a_damaged_header_is_refused_and_with_force_all_before_it_is_shown() {
    for version in [Rar40, Rar50] {
        let mut archive = rar(version).stored().of(&[("first", b"1"), ("second", b"2"), ("third", b"3")]);
        let place = archive.windows(6).position(|window| window == b"second").unwrap();
        archive[place] ^= 1;
        assert_eq!(refused(&archive, &[]), Kind::Header);
        let access = Access::to_read(Arc::new(Memory::new(archive)), Cache::new(1 << 20), "a.rar");
        let reading = Arc::new(Reading { force: true, ..Reading::default() });
        let volume = formats::open(Access { reading, ..access }).unwrap();
        assert_eq!(read(&volume, "first").unwrap(), b"1");
        assert!(read(&volume, "third").is_err());
    }
}

#[test]
fn nothing_that_is_cut_or_flipped_does_harm() {
    let samples = samples();
    let small: Vec<_> = samples[..4].iter().map(|(name, bytes)| (*name, &bytes[..bytes.len().min(1000)])).collect();
    for version in VERSIONS {
        for how in ways(*version) {
            let archive = how.of(&small);
            let whole = opened(&archive, &[]);
            assert!(whole.iter().all(|(_, read)| read.is_ok()), "{version:?}: {whole:?}");
            reader::harm(&formats::rar::Rar, "a.rar", &archive, &[], &whole, 100);
        }
    }
    let locked = rar(Rar50).locked("x").of(&small[..2]);
    reader::harm(&formats::rar::Rar, "a.rar", &locked, &["x"], &opened(&locked, &["x"]), 20);
}

/// The header of the first file: all that its checksum is over, and where that stands.
fn first_header(version: ArchiveVersion, archive: &[u8]) -> std::ops::Range<usize> {
    match version {
        Rar50 | Rar70 => {
            let at = 8 + 5 + usize::from(archive[12]);
            at + 4..at + 5 + usize::from(archive[at + 4])
        }
        // Behind the signature and a main header of 13 bytes.
        _ => 22..20 + usize::from(u16::from_le_bytes([archive[25], archive[26]])),
    }
}

#[test]
fn headers_that_lie_do_no_harm() {
    let samples = samples();
    let small: Vec<_> = samples[..3].iter().map(|(name, bytes)| (*name, &bytes[..bytes.len().min(1000)])).collect();
    for version in [Rar20, Rar40, Rar50, Rar70] {
        for how in ways(version) {
            let archive = how.of(&small);
            let header = first_header(version, &archive);
            let mut dice = 0x9e37_79b9_7f4a_7c15u64;
            for _ in 0..300 {
                let mut lie = archive.clone();
                for _ in 0..3 {
                    dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    let at = header.start + 1 + (dice >> 33) as usize % (header.len() - 1);
                    lie[at] = [0, 0xff, lie[at] ^ 1, (dice >> 20) as u8][(dice >> 29) as usize % 4];
                }
                let sum = crc32fast::hash(&lie[header.clone()]).to_le_bytes();
                let len = if how.is_new() { 4 } else { 2 };
                lie[header.start - len..header.start].copy_from_slice(&sum[..len]);
                let _ = read_all(&formats::rar::Rar, "a.rar", lie, &["x"]);
            }
        }
    }
}

/// An independent program unpacks the same.
#[test]
fn other_programs_read_the_same() {
    let there = |program: &str| Command::new(program).arg("--version").output().is_ok();
    if !there("unar") {
        assert!(std::env::var_os("CI").is_none(), "no unar");
        println!("skipped: no unar");
        return;
    }
    for how in [rar(Rar20), rar(Rar29).solid(), rar(Rar40), rar(Rar50).solid(), rar(Rar50).locked("secret")] {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("a.rar"), made(&how)).unwrap();
        let mut unar = Command::new("unar");
        unar.args(["-o", "out", "-D"]).current_dir(dir.path());
        how.password.iter().for_each(|password| {
            unar.args(["-p", password]);
        });
        let said = unar.arg("a.rar").output().unwrap();
        let text = [&said.stdout[..], &said.stderr].concat();
        assert!(said.status.success(), "{:?}: {}", how.version, String::from_utf8_lossy(&text));
        let ours = opened(&made(&how), how.password.as_slice());
        for (name, read) in ours {
            let theirs = fs::read(dir.path().join(format!("out{name}"))).unwrap();
            assert!(read.unwrap() == theirs, "{:?}: {name}", how.version);
        }
    }
}

#[test]
fn info_tells_version_volumes_and_what_a_jump_costs() {
    let Some(desk) = Desk::new() else { return };
    let write = |name: &str, bytes: &[u8]| fs::write(desk.path(name), bytes).unwrap();
    write("new.rar", &made(&rar(Rar50).solid()));
    write("old.rar", &made(&rar(Rar20).stored()));
    let told = desk.ok(&["info", "new.rar"]);
    assert!(told.contains("solid: a jump decodes up to 1 MiB") && told.contains("RAR 5"), "{told}");
    let told = desk.ok(&["info", "old.rar"]);
    assert!(told.contains("a jump costs nothing") && told.contains("RAR 4"), "{told}");
    for (n, bytes) in rar(Rar50).volumes(20_000).volumes_of(&[("zeros", &samples()[2].1)]).iter().enumerate() {
        write(&format!("v.part{}.rar", n + 1), bytes);
    }
    assert!(Path::new(&desk.path("v.part2.rar")).exists());
    assert!(desk.ok(&["info", "v.part2.rar"]).contains("volumes"), "a set is opened by its second volume");
    fs::remove_file(desk.path("v.part1.rar")).unwrap();
    let said = desk.say(&["v.part2.rar", "m"]);
    let text = String::from_utf8_lossy(&said.stderr).into_owned();
    assert!(said.status.code() == Some(34) && text.contains("v.part1.rar"), "{text}");
}
