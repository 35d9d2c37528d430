//! 7z archives as they are met: empty, with passwords, damaged, made to do harm. What whole ones hold is seen in
//! tests/conformance.rs.

#[path = "common/desk.rs"]
mod desk;
#[path = "common/dress.rs"]
mod dress;
#[path = "common/reader.rs"]
mod reader;

use desk::Desk;
use reader::{Read, read_all};
use std::fs;
use std::process::Command;
use stmount::error::Kind;
use stmount::formats::sevenz::SevenZ;

const SEVEN: &str = "seven() { if command -v 7zz >/dev/null; then 7zz \"$@\"; else 7z \"$@\"; fi >/dev/null; };";

/// What a line for the shell makes of `a.7z`.
fn made(line: &str) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let line = format!("{SEVEN} {line}");
    let said = Command::new("bash").args(["-ec", &line]).current_dir(dir.path()).output().unwrap();
    assert!(said.status.success(), "{line}: {}", String::from_utf8_lossy(&said.stderr));
    fs::read(dir.path().join("a.7z")).unwrap()
}

fn opened(bytes: &[u8], passwords: &[&str]) -> reader::Files {
    match read_all(&SevenZ, "a.7z", bytes.to_vec(), passwords) {
        Read::Opened(files) => files,
        Read::Refused(kind) => panic!("it is refused: {kind:?}"),
    }
}

fn refused(bytes: &[u8], passwords: &[&str]) -> Kind {
    match read_all(&SevenZ, "a.7z", bytes.to_vec(), passwords) {
        Read::Refused(kind) => kind,
        Read::Opened(files) => panic!("it opens: {files:?}"),
    }
}

#[test]
fn an_archive_with_nothing_in_it_is_an_empty_folder() {
    // As 7-Zip writes it: the signature, and no header.
    let mut empty = b"7z\xbc\xaf\x27\x1c\0\x04".to_vec();
    let start = [0; 20];
    empty.extend(crc32fast::hash(&start).to_le_bytes());
    empty.extend(start);
    assert_eq!(opened(&empty, &[]), []);
    let files = opened(&made("mkdir d; touch e; seven a a.7z d e"), &[]);
    assert_eq!(files, [("/e".to_owned(), Ok(Vec::new()))]);
}

#[test]
fn an_archive_whose_writer_was_cut_off_is_read() {
    for how in ["-mhc=off", "-mhc=on"] {
        let mut archive = made(&format!("seq 999 > f; seq 99 > g; seven a {how} a.7z f g"));
        let whole = opened(&archive, &[]);
        // What is known at last, and written into the front then.
        archive[8..32].fill(0);
        assert_eq!(opened(&archive, &[]), whole);
        archive.truncate(archive.len() - 20);
        assert_eq!(refused(&archive, &[]), Kind::Header);
    }
}

#[test]
fn properties_of_later_versions_are_passed_over() {
    let archive = made("seq 999 > f; seven a -mhc=off a.7z f");
    let number = |at: usize| u64::from_le_bytes(archive[at..at + 8].try_into().unwrap()) as usize;
    let (at, len) = (32 + number(12), number(20));
    let properties = b"\x02\xff\x01\0\x9a\x78\x56\x34\x12\x3f\x03\x01\x02\x03\x21\0\0";
    let header = [&archive[at..at + 1], properties, &archive[at + 1..at + len]].concat();
    let start = [&archive[12..20], &header.len().to_le_bytes(), &crc32fast::hash(&header).to_le_bytes()].concat();
    let front = [&archive[..8], &crc32fast::hash(&start).to_le_bytes(), &start].concat();
    let changed = [&front, &archive[32..at], &header].concat();
    assert_eq!(opened(&changed, &[]), opened(&archive, &[]));
}

#[test]
fn passwords_are_tried_at_once_and_one_after_the_other() {
    let data = made("seq 9999 > f; seven a -psecret a.7z f");
    let hidden = made("seq 9999 > f; seven a -psecret -mhe=on a.7z f");
    for archive in [&data, &hidden] {
        assert_eq!(opened(archive, &["wrong", "secret", "other"]).len(), 1);
        assert_eq!(refused(archive, &["wrong"]), Kind::WrongPassword);
        assert_eq!(refused(archive, &[]), Kind::NeedsPassword);
    }
    let umlaut = made("seq 99 > f; seven a -ppäßwörd😀 -mhe=on a.7z f");
    assert_eq!(opened(&umlaut, &["päßwörd😀"]).len(), 1);
}

#[test]
fn a_part_in_clear_is_read_without_a_password() {
    let mixed = made("seq 9999 > f; seq 999 > g; seven a a.7z f; seven a -psecret a.7z g");
    let files = opened(&mixed, &[]);
    assert!(files[0].1.is_ok(), "{files:?}");
    assert_eq!(files[1].1, Err(Kind::NeedsPassword));
    assert!(opened(&mixed, &["secret"]).iter().all(|(_, read)| read.is_ok()));
}

#[test]
fn names_are_shown_whatever_they_are() {
    let archive =
        made("touch 'Ж☃' 'a b' \"it's\"; mkdir -p deep/er; seq 9 > deep/er/f; ln -s deep link; seven a -snl a.7z .");
    let names: Vec<_> = opened(&archive, &[]).into_iter().map(|(name, _)| name).collect();
    let snow = format!("/{}", "Ж☃".as_bytes().escape_ascii());
    for name in ["/a b", "/it\\'s", "/deep/er/f", "/link", &snow] {
        assert!(names.iter().any(|known| known == name), "{name} in {names:?}");
    }
}

#[test]
fn a_damaged_block_is_an_error_and_the_others_are_read() {
    let mut archive =
        made("for n in 1 2 3; do head -c 20000 /dev/urandom > f$n; done; seven a -ms=off -mx=1 a.7z f1 f2 f3");
    archive[32 + 30_000] ^= 0x10;
    let files = opened(&archive, &[]);
    let bad: Vec<_> = files.iter().filter(|(_, read)| read.is_err()).collect();
    assert_eq!((files.len(), bad.len(), bad[0].1.clone()), (3, 1, Err(Kind::Damaged)));
}

#[test]
fn a_volume_that_is_missing_is_named() {
    let Some(desk) = Desk::new() else { return };
    let line = format!("{SEVEN} head -c 300000 /dev/urandom > f; seven a -v100k a.7z f; rm f a.7z.003");
    let said = Command::new("bash").args(["-ec", &line]).current_dir(desk.path(".")).output().unwrap();
    assert!(said.status.success());
    let said = desk.say(&["a.7z.001", "m"]);
    let text = String::from_utf8_lossy(&said.stderr).into_owned();
    assert!(!said.status.success() && text.contains("a.7z.003"), "{text}");
}

#[test]
fn info_tells_what_a_jump_costs() {
    let Some(desk) = Desk::new() else { return };
    let line = format!("{SEVEN} seq 99999 > f; seq 88888 > g; seven a a.7z f g");
    assert!(Command::new("bash").args(["-ec", &line]).current_dir(desk.path(".")).status().unwrap().success());
    let told = desk.ok(&["info", "a.7z"]);
    assert!(told.contains("solid: a jump decodes up to 2 MiB"), "{told}");
    assert!(told.contains("LZMA2"), "{told}");
}

#[test]
fn nothing_that_is_cut_or_flipped_does_harm() {
    let tree = "seq 300 > text; cp text t2; cp /bin/true exe; ln -s text link; mkdir d; echo x > d/y; touch e;";
    for (what, passwords) in [
        ("seven a -snl -mhc=off a.7z .", &[][..]),
        ("seven a -snl -ms=off -m0=ppmd -mhc=off a.7z .", &[]),
        (
            "seven a -snl -m0=bcj2 -m1=lzma:d=22 -m2=lzma:d=19 -m3=lzma:d=19 -mb0:1 -mb0s1:2 -mb0s2:3 -mhc=off a.7z .",
            &[],
        ),
        ("seven a -snl -m0=bzip2 -mhc=off a.7z text t2 d e", &[]),
        ("seven a -snl -m0=deflate64 a.7z text t2", &[]),
    ] {
        let archive = made(&format!("{tree} {what}"));
        let whole = opened(&archive, passwords);
        assert!(whole.iter().all(|(_, read)| read.is_ok()), "{what}: {whole:?}");
        reader::harm(&SevenZ, "a.7z", &archive, passwords, &whole, 400);
        reader::harm_header(&SevenZ, "a.7z", &archive, 1000);
    }
}
