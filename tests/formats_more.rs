//! cpio, rpm, ar, iso9660 and squashfs as they are met: with links, devices and attributes, damaged, made to do harm. What
//! whole ones hold is seen in tests/conformance.rs.

#[path = "common/desk.rs"]
mod desk;
#[path = "common/dress.rs"]
mod dress;
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
use stmount::formats::iso9660::Iso9660;
use stmount::formats::squashfs::Squashfs;

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
    let failed: Vec<_> = whole.iter().filter(|(_, read)| read.is_err()).collect();
    assert!(whole.len() > 5 && failed.is_empty(), "{line}: {failed:?}");
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
    let at = archive.windows(5).position(|five| five == b"\n500\n").unwrap() + 1;
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

// ---- iso9660 ----

#[test]
fn rock_ridge_is_shown_before_joliet_and_joliet_before_plain_names() {
    let tree = "mkdir -p s/Sub; echo x > 's/A long Name with Ünicode.text'; echo y > s/Sub/UP.TXT; echo z > s/nodot;";
    let names = |options: &str| -> Vec<String> {
        let line = format!("{tree} genisoimage -quiet {options} -o x.iso s 2>/dev/null");
        let files = opened(&Iso9660, "x.iso", &made("x.iso", &line));
        assert!(files.iter().all(|(_, read)| read.as_ref().is_ok_and(|bytes| bytes.len() == 2)), "{files:?}");
        files.into_iter().map(|(name, _)| name).collect()
    };
    let whole = ["/A long Name with \\xc3\\x9cnicode.text", "/Sub/UP.TXT", "/nodot"];
    assert_eq!(names("-R"), whole);
    assert_eq!(names("-J -input-charset utf-8"), whole);
    assert_eq!(names("-R -J -input-charset utf-8"), whole);
    assert_eq!(names("-input-charset utf-8"), ["/a_long_n.tex", "/nodot", "/sub/up.txt"]);
}

#[test]
fn rock_ridge_keeps_what_unix_knows() {
    let Some(desk) = Desk::new() else { return };
    if !metadata::is_root() {
        println!("skipped: devices need root");
        return;
    }
    shell(
        &desk,
        "mkdir -p s/1/2/3/4/5/6/7/8/9/10/11; cd s; seq 9 > 1/2/3/4/5/6/7/8/9/10/11/deep; echo text > a; ln a b; mkfifo pipe
         mknod null c 1 3; mknod disk b 7 300; ln -s ../../usr/./share/$(printf 'n%.0s' $(seq 70))/$(printf 'm%.0s' $(seq 70))/$(printf 'o%.0s' $(seq 70))/../end link
         ln -s / root; ln -s /usr/lib abs; chown 1234:5678 a; chmod 4751 a; touch -d @1234567890 a
         touch $(printf 'x%.0s' $(seq 240)); cd ..; genisoimage -quiet -R -o geniso.iso s
         xorriso -as mkisofs -quiet -R -o xorriso.iso s 2>/dev/null
         xorriso -as mkisofs -quiet -R -J -D -o deep.iso s 2>/dev/null",
    );
    for image in ["geniso", "xorriso", "deep"] {
        desk.ok(&[&format!("{image}.iso"), "m"]);
        shell(&desk, "diff -r --no-dereference s/1 m/1; test \"$(ls -A m)\" = \"$(ls -A s)\"");
        let meta = |name: &str| fs::symlink_metadata(desk.path("m").join(name)).unwrap();
        for link in ["link", "root", "abs"] {
            let target = |dir: &str| fs::read_link(desk.path(dir).join(link)).unwrap();
            assert_eq!(target("m"), target("s"), "{image}");
        }
        assert_eq!((meta("a").uid(), meta("a").gid(), meta("a").mode()), (1234, 5678, 0o104_751), "{image}");
        assert_eq!(meta("a").mtime(), 1_234_567_890, "{image}");
        assert!(meta("pipe").file_type().is_fifo() && meta("disk").file_type().is_block_device(), "{image}");
        assert_eq!(meta("null").rdev(), fs::metadata("/dev/null").unwrap().rdev(), "{image}");
        assert_eq!(meta("disk").rdev(), fs::symlink_metadata(desk.path("s/disk")).unwrap().rdev(), "{image}");
        assert_eq!(fs::read_to_string(desk.path("m/b")).unwrap(), "text\n", "{image}");
        desk.umount();
    }
}

#[test]
fn files_that_are_compressed_in_an_image_are_read() {
    let Some(desk) = Desk::new() else { return };
    shell(
        &desk,
        "mkdir s; seq 200000 > s/text; head -c 300000 /dev/zero > s/zeros; head -c 100000 /dev/urandom > s/noise; seq 3 > s/little
         xorriso -outdev x.iso -map s / -set_filter_r --zisofs / -- -commit 2>/dev/null",
    );
    assert!(fs::metadata(desk.path("x.iso")).unwrap().len() < 1_200_000, "it is compressed");
    desk.ok(&["x.iso", "m"]);
    shell(&desk, "diff -r s m; tail -c 70000 s/text | cmp - <(tail -c 70000 m/text)");
    desk.umount();
}

#[test]
fn a_file_of_several_extents_is_one_file() {
    let mut image = made("x.iso", "mkdir s; seq 500 > s/aa; seq 9 > s/ab; genisoimage -quiet -o x.iso s");
    let data =
        |image: &[u8]| opened(&Iso9660, "x.iso", image).into_iter().map(|(_, read)| read.unwrap()).collect::<Vec<_>>();
    let parts = data(&image);
    let at = |image: &[u8], name: &[u8]| image.windows(name.len()).position(|w| w == name).unwrap();
    // The flags stand 8 bytes before the name.
    let (first, second) = (at(&image, b"AA.;1"), at(&image, b"AB.;1"));
    image[first - 8] |= 0x80;
    image[second + 1] = b'A';
    assert_eq!(data(&image), [parts.concat()]);
}

#[test]
fn what_is_no_image_that_can_be_read_is_told() {
    let mut udf = vec![0; 40 * 2048];
    for (sector, name) in [(16, b"BEA01"), (17, b"NSR02"), (18, b"TEA01")] {
        udf[sector * 2048 + 1..sector * 2048 + 6].copy_from_slice(name);
    }
    assert_eq!(read_all(&Iso9660, "x.iso", udf, &[]), Read::Refused(Kind::Unsupported));
    let mut image = made("x.iso", "mkdir s s/d; echo x > s/d/f; genisoimage -quiet -o x.iso s");
    // A directory that is in itself: the record of `d` leads to the root.
    let root = image[16 * 2048 + 156 + 2..][..8].to_vec();
    let name = image.windows(2).rposition(|w| w == [1, b'D']).unwrap() + 1;
    image[name - 31..name - 23].copy_from_slice(&root);
    assert_eq!(opened(&Iso9660, "x.iso", &image), []);
}

#[test]
fn what_is_harmed_of_an_image_does_no_harm() {
    for options in ["-R", "-J", "-R -J", ""] {
        withstands(&Iso9660, "x.iso", &format!("genisoimage -quiet {options} -o x.iso s 2>/dev/null"), 1000);
    }
    let zisofs = "xorriso -outdev x.iso -map s / -set_filter_r --zisofs / -- -commit 2>/dev/null";
    withstands(&Iso9660, "x.iso", zisofs, 300);
}

// ---- squashfs ----

#[test]
fn squashfs_keeps_attributes_holes_and_devices() {
    let Some(desk) = Desk::new() else { return };
    if !metadata::is_root() {
        println!("skipped: devices and attributes need root");
        return;
    }
    shell(
        &desk,
        "mkdir s; cd s; echo text > a; ln a b; ln a c; truncate -s 40M hole; echo end >> hole; mkfifo pipe; mknod null c 1 3
         mknod disk b 7 300; python3 -c \"import socket; socket.socket(socket.AF_UNIX).bind('sock')\"
         setfattr -n user.color -v blue a; setfattr -n user.long -v $(head -c 3000 /dev/zero | tr '\\0' y) a; ln -s a link
         cp --preserve=xattr a d; mkdir dir; setfattr -n user.color -v red dir; chown 1234:5678 a; touch -d @1234567890 a
         cd ..; mksquashfs s x.squashfs -quiet -no-progress -noappend >/dev/null",
    );
    desk.ok(&["x.squashfs", "m"]);
    let meta = |name: &str| fs::symlink_metadata(desk.path("m").join(name)).unwrap();
    assert_eq!((meta("a").uid(), meta("a").gid(), meta("a").mtime()), (1234, 5678, 1_234_567_890));
    assert_eq!((meta("a").nlink(), meta("b").ino(), meta("c").ino()), (3, meta("a").ino(), meta("a").ino()));
    let (pipe, disk, sock) = (meta("pipe").file_type(), meta("disk").file_type(), meta("sock").file_type());
    assert!(pipe.is_fifo() && disk.is_block_device() && sock.is_socket());
    assert_eq!(meta("disk").rdev(), fs::symlink_metadata(desk.path("s/disk")).unwrap().rdev());
    assert!(meta("hole").blocks() < 1000, "{} blocks", meta("hole").blocks());
    shell(
        &desk,
        "cmp s/hole m/hole; cmp s/a m/c; test $(getfattr --only-values -n user.color m/a) = blue
         test $(getfattr --only-values -n user.color m/dir) = red; test $(readlink m/link) = a
         test $(getfattr --only-values -n user.long m/d | wc -c) = 3000",
    );
    desk.umount();
}

#[test]
fn an_image_behind_its_program_is_found() {
    let Some(desk) = Desk::new() else { return };
    shell(&desk, "mkdir s; seq 50000 > s/text; mksquashfs s x.sfs -quiet -no-progress >/dev/null");
    // A program of nothing but a header, and three sections of nothing.
    let mut program = vec![0u8; 64 + 3 * 64];
    program[..11].copy_from_slice(b"\x7fELF\x02\x01\x01\0AI\x02");
    (program[0x28], program[0x3a], program[0x3c]) = (64, 64, 3);
    program.extend(fs::read(desk.path("x.sfs")).unwrap());
    fs::write(desk.path("x.AppImage"), program).unwrap();
    desk.ok(&["x.AppImage", "m"]);
    shell(&desk, "diff -r s m");
    desk.umount();
}

#[test]
fn versions_of_squashfs_that_are_not_read_are_named() {
    let image = made("x.sfs", &format!("{SMALL} mksquashfs s x.sfs -quiet -no-progress >/dev/null"));
    let with = |at: usize, bytes: &[u8]| {
        let mut image = image.clone();
        image[at..at + bytes.len()].copy_from_slice(bytes);
        read_all(&Squashfs, "x.sfs", image, &[])
    };
    assert_eq!(with(0, b"sqsh"), Read::Refused(Kind::Unsupported));
    assert_eq!(with(28, &[3]), Read::Refused(Kind::Unsupported));
    assert_eq!(with(20, &[3]), Read::Refused(Kind::Unsupported));
    assert_eq!(with(12, &[0, 0, 0, 0x40]), Read::Refused(Kind::Header));
    let cut = read_all(&Squashfs, "x.sfs", image[..300].to_vec(), &[]);
    assert_eq!(cut, Read::Refused(Kind::Header));
}

#[test]
fn what_is_harmed_of_squashfs_does_no_harm() {
    for comp in ["gzip", "xz", "lzma", "lz4", "zstd"] {
        let line = format!("mksquashfs s x.sfs -comp {comp} -quiet -no-progress -no-tailends -all-root >/dev/null");
        withstands(&Squashfs, "x.sfs", &line, 600);
    }
    // Where nothing is compressed, what is flipped is what is read.
    let plain = "mksquashfs s x.sfs -noI -noD -noF -noX -quiet -no-progress >/dev/null";
    withstands(&Squashfs, "x.sfs", plain, 4000);
}
