//! cpio, rpm, ar, iso9660 and squashfs as they are met: with links, devices and attributes, damaged, made to do harm. What
//! whole ones hold is seen in tests/conformance.rs.

#[path = "common/desk.rs"]
mod desk;
#[path = "common/metadata.rs"]
mod metadata;
#[path = "common/reader.rs"]
mod reader;

use desk::Desk;
use reader::{Files, Read, read_all};
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::process::Command;
use stmount::error::Kind;
use stmount::formats::Format;
use stmount::formats::ar::Ar;
use stmount::formats::cpio::{Cpio, Rpm};

#[track_caller]
fn shell(desk: &Desk, line: &str) {
    let mut bash = Command::new("bash");
    let said = bash.args(["-ec", line]).env("LC_ALL", "C.UTF-8").current_dir(desk.path(".")).output().unwrap();
    assert!(said.status.success(), "{line}: {}", String::from_utf8_lossy(&said.stderr));
}

fn stderr(desk: &Desk, args: &[&str]) -> (Option<i32>, String) {
    let said = desk.say(args);
    (said.status.code(), String::from_utf8_lossy(&said.stderr).into_owned())
}

/// What a line for the shell makes of the file of this name.
fn made(name: &str, line: &str) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let mut bash = Command::new("bash");
    let said = bash.args(["-ec", line]).env("LC_ALL", "C.UTF-8").current_dir(dir.path()).output().unwrap();
    assert!(said.status.success(), "{line}: {}", String::from_utf8_lossy(&said.stderr));
    fs::read(dir.path().join(name)).unwrap()
}

fn opened(format: &dyn Format, name: &str, bytes: &[u8]) -> Files {
    match read_all(format, name, bytes.to_vec(), &[]) {
        Read::Opened(files) => files,
        Read::Refused(kind) => panic!("it is refused: {kind:?}"),
    }
}

/// A small tree with a bit of everything, to be harmed.
const SMALL: &str =
    "mkdir s; cd s; seq 300 > text; cp text t2; ln -s text link; ln text hard; mkdir -p d/e; echo x > d/e/y;
    head -c 9000 /dev/zero > zeros; touch $(printf 'n%.0s' $(seq 60)); touch -d @1600000000 $(find . -type f); cd ..;";

/// Whole, all is read; harmed, nothing is made up.
fn withstands(format: &dyn Format, name: &str, line: &str, flips: usize) {
    let archive = made(name, &format!("{SMALL} {line}"));
    let whole = opened(format, name, &archive);
    assert!(whole.len() > 5 && whole.iter().all(|(_, read)| read.is_ok()), "{line}: {whole:?}");
    reader::harm(format, name, &archive, &[], &whole, flips);
}

// ---- cpio ----

#[test]
fn cpio_keeps_devices_and_hard_links() {
    let Some(desk) = Desk::new() else { return };
    if !metadata::is_root() {
        println!("skipped: devices need root");
        return;
    }
    shell(
        &desk,
        "mkdir s; cd s; echo text > a; ln a b; ln a c; ln -s a link; mkfifo pipe; mknod null c 1 3; mknod disk b 7 9
         chown 1234:5678 a; touch -d @1234567890 a
         for h in newc crc odc bin hpbin; do find . | cpio -o -H $h 2>/dev/null > ../$h.cpio; done
         bsdtar --format newc -cf ../bsd-newc.cpio .; bsdtar --format odc -cf ../bsd-odc.cpio .
         find . | cpio -o -H bin --swap 2>/dev/null > /dev/null || true",
    );
    for archive in ["newc", "crc", "odc", "bin", "hpbin", "bsd-newc", "bsd-odc"] {
        desk.ok(&[&format!("{archive}.cpio"), "m"]);
        let meta = |name: &str| fs::symlink_metadata(desk.path("m").join(name)).unwrap();
        for name in ["a", "b", "c"] {
            assert_eq!(fs::read_to_string(desk.path("m").join(name)).unwrap(), "text\n", "{archive}: {name}");
            assert_eq!((meta(name).nlink(), meta(name).ino()), (3, meta("a").ino()), "{archive}: {name}");
        }
        assert_eq!((meta("a").uid(), meta("a").gid(), meta("a").mtime()), (1234, 5678, 1_234_567_890));
        assert!(meta("pipe").file_type().is_fifo() && meta("disk").file_type().is_block_device(), "{archive}");
        assert_eq!(meta("null").rdev(), fs::metadata("/dev/null").unwrap().rdev(), "{archive}");
        desk.umount();
    }
}

#[test]
fn old_cpio_of_the_other_byte_order_is_read() {
    let archive = made("a.cpio", &format!("{SMALL} cd s; find . | cpio -o -H bin > ../a.cpio"));
    let plain = opened(&Cpio, "a.cpio", &archive);
    let mut swapped = archive.clone();
    let mut at = 0;
    while archive.get(at..at + 2) == Some(&[0xc7, 0x71]) {
        let number = |field: usize| usize::from(u16::from_le_bytes([archive[at + field], archive[at + field + 1]]));
        let (name, size) = (number(20), number(22) << 16 | number(24));
        swapped[at..at + 26].chunks_exact_mut(2).for_each(|pair| pair.swap(0, 1));
        at += 26 + name.next_multiple_of(2) + size.next_multiple_of(2);
    }
    assert_eq!(opened(&Cpio, "a.cpio", &swapped), plain);
    assert!(plain.iter().all(|(_, read)| read.is_ok()));
}

#[test]
fn archives_behind_each_other_are_laid_over_each_other() {
    let Some(desk) = Desk::new() else { return };
    shell(
        &desk,
        "pack() { (cd $1 && find . | cpio -o -H newc 2>/dev/null); }; mkdir -p one/kernel two/etc three/etc
         echo microcode > one/kernel/x; echo two > two/etc/f; echo only > two/etc/g; echo three > three/etc/f
         (pack one; head -c 1024 /dev/zero; pack two | gzip) > gzip.img; (pack one; pack two | zstd -q) > zstd.img
         (pack one; pack two; head -c 512 /dev/zero; pack three) > plain.img; (pack one; pack two | xz; ) > xz.img
         (pack two; pack three) | zstd -q > both.cpio.zst; (pack two | gzip; pack three | gzip) > members.cpio.gz
         (pack one; pack two | lz4 -q -l) > lz4.img",
    );
    let read = |name: &str| fs::read_to_string(desk.path("m").join(name)).ok();
    for (image, f) in [
        ("gzip.img", "two\n"),
        ("zstd.img", "two\n"),
        ("xz.img", "two\n"),
        ("lz4.img", "two\n"),
        ("plain.img", "three\n"),
        ("both.cpio.zst", "three\n"),
        ("members.cpio.gz", "three\n"),
    ] {
        let (code, said) = stderr(&desk, &[image, "m"]);
        assert!(code == Some(0), "{image}: {said}");
        assert_eq!(read("etc/f").as_deref(), Some(f), "{image}");
        assert_eq!(read("etc/g").as_deref(), Some("only\n"), "{image}");
        assert_eq!(read("kernel/x").is_some(), image.ends_with(".img"), "{image}");
        desk.umount();
    }
}

#[test]
fn a_wrong_sum_of_cpio_is_told() {
    let mut archive = made("a.cpio", "seq 1000 > f; echo f | cpio -o -H crc > a.cpio");
    let at = archive.windows(3).position(|three| three == b"500").unwrap();
    archive[at] ^= 1;
    assert_eq!(opened(&Cpio, "a.cpio", &archive), [("/f".to_owned(), Err(Kind::Damaged))]);
}

#[test]
fn a_damaged_header_of_cpio_hides_no_more_than_its_entry() {
    for form in ["newc", "odc"] {
        let line = format!("for n in 1 2 3; do seq $n 500 > f$n; done; ls f? | cpio -o -H {form} > a.cpio");
        let mut archive = made("a.cpio", &line);
        let second = archive.windows(2).position(|pair| pair == b"f2").unwrap();
        archive[second - 60] = b'!';
        let names: Vec<_> = opened(&Cpio, "a.cpio", &archive).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["/f1", "/f3"], "{form}");
    }
}

#[test]
fn what_is_harmed_of_cpio_does_no_harm() {
    for form in ["newc", "crc", "odc", "bin"] {
        withstands(&Cpio, "a.cpio", &format!("cd s; find . | cpio -o -H {form} > ../a.cpio"), 1000);
    }
    let image = "cd s; (ls text | cpio -o -H newc; find . | cpio -o -H newc | gzip) > ../a.img";
    withstands(&Cpio, "a.img", image, 1000);
}

#[test]
fn the_payload_of_a_package_is_shown() {
    let spec =
        "Name: x\nVersion: 1\nRelease: 1\nSummary: x\nLicense: x\nBuildArch: noarch\n%%description\n%%files\n/s\n";
    for (payload, name) in [("w6.gzdio", "gzip"), ("w2.xzdio", "xz"), ("w3.zstdio", "zstd"), ("w6.bzdio", "bzip2")] {
        let line = format!(
            "{SMALL} printf '{spec}' > x.spec; mkdir root; cp -a s root/s
             rpmbuild -bb --quiet --define \"_topdir $PWD/top\" --define \"_binary_payload {payload}\" --buildroot $PWD/root \
               --define '__spec_install_pre true' --nodeps x.spec >/dev/null; mv top/RPMS/noarch/*.rpm x.rpm",
        );
        let package = made("x.rpm", &line);
        let files = opened(&Rpm, "x.rpm", &package);
        let find = |name: &str| files.iter().find(|(path, _)| path == name).unwrap().1.clone().unwrap();
        assert_eq!((find("/s/d/e/y"), find("/s/link")), (b"x\n".to_vec(), b"text".to_vec()), "{name}");
        assert_eq!(find("/s/hard"), find("/s/text"), "{name}");
        reader::harm(&Rpm, "x.rpm", &package, &[], &files, 200);
    }
}

// ---- ar ----

/// An ar of BSD with these members.
fn bsd_ar(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut archive = b"!<arch>\n".to_vec();
    for (name, data) in members {
        let padded = name.len().next_multiple_of(4) + 4;
        let size = padded + data.len();
        archive.extend(format!("{:<16}5           1     2     100640  {size:<10}`\n", format!("#1/{padded}")).bytes());
        archive.extend(name.bytes().chain(std::iter::repeat(0)).take(padded).chain(data.iter().copied()));
        archive.resize(archive.len().next_multiple_of(2), b'\n');
    }
    archive
}

#[test]
fn names_of_ar_are_long_short_and_twice_there() {
    let files = "seq 9 > a; seq 50 > 'with space'; cp a quite-a-long-name-for-a-member.o; mkdir d; seq 5 > d/a;";
    for how in ["qS", "q", "qc"] {
        let line = format!("{files} ar {how} x.a a 'with space' quite* 2>/dev/null; ar q x.a d/a");
        let archive = made("x.a", &line);
        let files = opened(&Ar, "x.a", &archive);
        let names: Vec<_> = files.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["/a", "/a (1)", "/quite-a-long-name-for-a-member.o", "/with space"], "{how}");
        assert_eq!(files[1].1, Ok(b"1\n2\n3\n4\n5\n".to_vec()));
        assert_eq!(files[0].1, files[2].1);
    }
    let bsd = bsd_ar(&[("__.SYMDEF", &[0; 12]), ("short", b"x"), ("a long name of a member.o", b"yz")]);
    let expected = [("/a long name of a member.o".into(), Ok(b"yz".to_vec())), ("/short".into(), Ok(b"x".to_vec()))];
    assert_eq!(opened(&Ar, "x.a", &bsd), expected);
    assert_eq!(opened(&Ar, "x.a", b"!<arch>\n"), []);
}

#[test]
fn the_index_of_a_library_is_not_shown_and_a_thin_one_is_refused() {
    let Some(desk) = Desk::new() else { return };
    shell(
        &desk,
        "echo 'int f(void) { return 1; }' > f.c; gcc -c f.c; ar rcs lib.a f.o; ar rcsT thin.a f.o; ar rcs empty.a",
    );
    assert_eq!(desk.ok(&["ls", "lib.a"]), "f.o\n");
    assert_eq!(desk.ok(&["ls", "empty.a"]), "");
    let (code, said) = stderr(&desk, &["ls", "thin.a"]);
    assert!(code != Some(0) && said.contains("thin archive"), "{said}");
}

#[test]
fn a_package_of_debian_is_a_folder_with_archives() {
    let Some(desk) = Desk::new() else { return };
    shell(
        &desk,
        "mkdir -p p/DEBIAN p/usr/share; seq 5000 > p/usr/share/text; ln -s text p/usr/share/link
         printf 'Package: x\nVersion: 1\nArchitecture: all\nMaintainer: x <x@x>\nDescription: x\n' > p/DEBIAN/control
         for z in gzip xz zstd none; do dpkg-deb --root-owner-group -Z$z -b p $z.deb >/dev/null; done",
    );
    for (package, ending) in [("gzip", ".gz"), ("xz", ".xz"), ("zstd", ".zst"), ("none", "")] {
        let name = format!("{package}.deb");
        assert!(desk.ok(&["info", &name]).contains("deb"));
        desk.ok(&["-r", &name, "m"]);
        shell(
            &desk,
            &format!(
                "test $(cat m/debian-binary) = 2.0; test -f m/data.tar{ending}; diff -r p/usr m/data.tar{ending}#/usr
                 diff p/DEBIAN/control m/control.tar{ending}#/control"
            ),
        );
        desk.umount();
    }
}

#[test]
fn what_is_harmed_of_ar_does_no_harm() {
    let members = "d/e/y hard link t2 text zeros n*";
    withstands(&Ar, "x.a", &format!("cd s; cp text quite-a-long-name-of-a-member; ar q ../x.a {members} quite*"), 1000);
    let bsd = bsd_ar(&[("short", &[b'x'; 300]), ("a long name of a member.o", &[b'y'; 301]), ("z", b"")]);
    reader::harm(&Ar, "x.a", &bsd, &[], &opened(&Ar, "x.a", &bsd), 1000);
}
