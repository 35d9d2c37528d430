//! One suite for every archive that can be opened: real tools make it from one tree, it is mounted for real, and what is
//! seen there is compared with the tree. Then it is unpacked, listed, checked and read by four readers at random offsets.

#[path = "common/desk.rs"]
mod desk;
#[path = "common/dress.rs"]
mod dress;
#[path = "common/rar.rs"]
mod maker;
#[path = "common/metadata.rs"]
mod metadata;

use desk::Desk;
use maker::{Rar, rar};
use rars::ArchiveVersion::{Rar20, Rar40, Rar50, Rar70};
use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// What an archive keeps of a tree. Names, contents and empty directories all of them keep.
#[derive(Clone, Copy)]
struct Keeps {
    modes: bool,
    links: bool,
    hard_links: bool,
    /// How coarse times are, in seconds.
    times: i64,
}

const ALL: Keeps = Keeps { modes: true, links: true, hard_links: true, times: 1 };
const UNIX: Keeps = Keeps { hard_links: false, ..ALL };

/// How an archive is made: by a line for the shell, in the directory `src` of what is packed; `$A` is the archive.
struct Made {
    by: &'static str,
    /// Or by a library.
    rar: Option<Rar>,
    name: &'static str,
    keeps: Keeps,
    password: Option<&'static str>,
}

const fn made(name: &'static str, by: &'static str, keeps: Keeps) -> Made {
    Made { by, rar: None, name, keeps, password: None }
}

const fn locked(name: &'static str, by: &'static str, keeps: Keeps) -> Made {
    Made { by, rar: None, name, keeps, password: Some("secret") }
}

const fn made_rar(name: &'static str, rar: Rar, keeps: Keeps) -> Made {
    Made { by: ":", rar: Some(rar), name, keeps, password: rar.password }
}

const SEVEN: &str = "seven() { if command -v 7zz >/dev/null; then 7zz \"$@\"; else 7z \"$@\"; fi; };";

#[track_caller]
fn succeeded(what: &str, said: Output) -> String {
    let (out, err) = (String::from_utf8_lossy(&said.stdout), String::from_utf8_lossy(&said.stderr));
    assert!(said.status.success(), "{what}: {out}{err}");
    out.into_owned()
}

fn write(path: &Path, bytes: &[u8]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

/// The tree that is packed: text and noise, nothing and much, deep and with names of all kinds.
fn make_tree(root: &Path) {
    let text: Vec<u8> = (0..150_000u32).flat_map(|n| format!("line {} of {n}\n", n % 977).into_bytes()).collect();
    write(&root.join("readme.txt"), b"read me\n");
    write(&root.join("deep/er/and/deeper/text"), &text);
    write(&root.join("noise.bin"), &metadata::noise(1_500_000, 7));
    write(&root.join("program"), &fs::read("/bin/true").unwrap());
    write(&root.join("empty"), b"");
    write(&root.join("Übung 日本 ☃.txt"), b"names");
    write(&root.join("with space/it's \"quoted\""), b"quotes");
    write(&root.join(format!("{}/{}", "d".repeat(120), "f".repeat(150))), b"long");
    for n in 0..200u32 {
        write(&root.join(format!("many/{}/{n:04}.txt", n % 7)), format!("file {n}\n").repeat(n as usize).as_bytes());
    }
    fs::create_dir(root.join("hollow")).unwrap();
    symlink("readme.txt", root.join("link")).unwrap();
    symlink("../nowhere/at all", root.join("many/dangling")).unwrap();
    fs::hard_link(root.join("readme.txt"), root.join("same")).unwrap();
    let modes = [("readme.txt", 0o600), ("program", 0o755), ("empty", 0o444), ("deep", 0o750), ("many/0", 0o700)];
    for (path, mode) in modes {
        fs::set_permissions(root.join(path), fs::Permissions::from_mode(mode)).unwrap();
    }
    let all = metadata::below(root);
    for (n, path) in all.iter().enumerate().filter(|(_, path)| !path.is_symlink()) {
        metadata::set_time(path, 1_600_000_000 + 86_400 * n as i64, 0);
    }
}

/// A line for each entry, of what an archive can keep.
fn listing(root: &Path, keeps: Keeps) -> Vec<String> {
    let line = |path: &Path| {
        let meta = path.symlink_metadata().unwrap();
        let name = path.strip_prefix(root).unwrap().display().to_string();
        if meta.is_symlink() {
            return keeps.links.then(|| format!("{name} -> {}", fs::read_link(path).unwrap().display()));
        }
        let mode = if keeps.modes { meta.mode() & 0o7777 } else { 0 };
        let links = if keeps.hard_links && meta.is_file() { meta.nlink() } else { 1 };
        let what = match meta.is_dir() {
            true => "dir".to_owned(),
            false => {
                let bytes = fs::read(path).unwrap();
                assert_eq!(bytes.len() as u64, meta.len(), "{name}");
                format!("{} bytes {}", bytes.len(), blake3::hash(&bytes))
            }
        };
        Some(format!("{name}: {what} {mode:o} links {links} time {}", meta.mtime() / keeps.times))
    };
    let below = metadata::below(root);
    let mut all: Vec<_> = below.iter().filter(|path| *path != root).filter_map(|path| line(path)).collect();
    all.sort();
    all
}

/// Four readers at once, each at places of its own.
fn read_at_random(root: &Path, mounted: &Path) {
    let files = ["deep/er/and/deeper/text", "noise.bin", "program", "many/3/0199.txt"];
    std::thread::scope(|scope| {
        for reader in 0..4u64 {
            scope.spawn(move || {
                let mut dice = 0x9e37_79b9_7f4a_7c15u64.wrapping_mul(reader + 1);
                let mut roll = |below: u64| {
                    dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    (dice >> 33) % below
                };
                for _ in 0..60 {
                    let name = files[roll(files.len() as u64) as usize];
                    let (is, seen) = (File::open(root.join(name)).unwrap(), File::open(mounted.join(name)).unwrap());
                    let at = roll(is.metadata().unwrap().len() + 100);
                    let (mut want, mut got) = (vec![0; 1 + roll(70_000) as usize], vec![0; 0]);
                    let read = |file: &File, into: &mut [u8]| {
                        let mut done = 0;
                        while done < into.len() {
                            match file.read_at(&mut into[done..], at + done as u64).unwrap() {
                                0 => break,
                                n => done += n,
                            }
                        }
                        done
                    };
                    let len = read(&is, &mut want);
                    got.resize(want.len(), 0);
                    assert_eq!(read(&seen, &mut got), len, "{name} at {at}");
                    assert!(got == want, "{name} differs from {at} on");
                }
            });
        }
    });
}

/// All that is expected of an archive.
fn conforms(desk: &Desk, case: &Made) {
    let (source, archive) = (desk.path("src"), desk.path(case.name));
    let script = format!("set -e; {SEVEN} {}", case.by);
    let mut shell = Command::new("bash");
    shell
        .env("STMOUNT", env!("CARGO_BIN_EXE_stmount"))
        .args(["-c", &script])
        .current_dir(&source)
        .env("A", &archive)
        .env("LC_ALL", "C.UTF-8")
        .env("TZ", "UTC");
    succeeded(case.by, shell.stdin(Stdio::null()).output().unwrap());
    if let Some(rar) = case.rar {
        fs::write(&archive, rar.pack(&source, &metadata::below(&source))).unwrap();
    }
    println!("{}: {}", case.name, case.by);

    write(&desk.path("password"), case.password.unwrap_or("none").as_bytes());
    let with = |args: &[&'static str]| -> Vec<&str> {
        let password = case.password.map_or(&[][..], |_| &["--password-file", "password"]);
        [args, password].concat()
    };
    let of_archive = |args: &[&'static str]| desk.ok(&[&with(args)[..], &[case.name]].concat());
    let expected = listing(&source, case.keeps);

    desk.ok(&[&with(&[])[..], &[case.name, "m"]].concat());
    compare(case, "mounted", &expected, &listing(&desk.path("m"), case.keeps));
    read_at_random(&source, &desk.path("m"));
    desk.umount();

    let out = format!("out-{}", case.name);
    desk.ok(&[&with(&["unpack", "-q"])[..], &[case.name, &out]].concat());
    compare(case, "unpacked", &expected, &listing(&desk.path(&out), case.keeps));
    fs::remove_dir_all(desk.path(&out)).unwrap();

    of_archive(&["check", "-q"]);
    assert!(of_archive(&["info"]).contains("random access"), "{}", case.name);
    assert!(of_archive(&["ls"]).contains("readme.txt"), "{}", case.name);
    let found = desk.ok(&[&with(&["find"])[..], &[case.name, "01?9.txt"]].concat());
    assert_eq!(found.lines().count(), 10, "{}: {found}", case.name);
    if case.password.is_some() {
        refuses_wrong_passwords(desk, case);
    }
    fs::remove_file(&archive).unwrap();
}

#[track_caller]
fn compare(case: &Made, how: &str, expected: &[String], seen: &[String]) {
    let (name, by) = (case.name, case.by);
    let missing: Vec<_> = expected.iter().filter(|line| !seen.contains(line)).take(10).collect();
    let strange: Vec<_> = seen.iter().filter(|line| !expected.contains(line)).take(10).collect();
    assert!(missing.is_empty() && strange.is_empty(), "{name} ({by}), {how}: without {missing:#?}, with {strange:#?}");
}

fn refuses_wrong_passwords(desk: &Desk, case: &Made) {
    write(&desk.path("wrong"), b"wrong");
    let code = |args: &[&str]| desk.say(&[args, &[case.name, "m"]].concat()).status.code();
    assert_eq!(code(&["--password-file", "wrong"]), Some(12), "{}: a wrong password", case.name);
    assert_eq!(code(&[]), Some(20), "{}: no password", case.name);
    assert!(!desk.is_mounted());
}

fn all_conform(cases: &[Made]) {
    let Some(desk) = Desk::new() else { return };
    make_tree(&desk.path("src"));
    cases.iter().for_each(|case| conforms(&desk, case));
}

/// The same by Python's zipfile, with a method.
macro_rules! zipfile {
    ($method:literal) => {
        concat!(
            "python3 -c \"import zipfile, os, sys\nz = zipfile.ZipFile(sys.argv[1], 'w', zipfile.ZIP_",
            $method,
            ")\nfor d, ds, fs in os.walk('.'):\n  if d != '.': z.write(d)\n  for f in fs:\n    p = os.path.join(d, f)\n    ",
            "if not os.path.islink(p): z.write(p)\nz.close()\" $A"
        )
    };
}

#[test]
fn zip_archives() {
    let no_links = Keeps { links: false, times: 2, ..UNIX };
    all_conform(&[
        made("info-zip.zip", "zip -qry $A .", UNIX),
        made("stored.zip", "zip -qry0 $A .", UNIX),
        made("bzip2.zip", "zip -qry -Z bzip2 $A .", UNIX),
        made("streamed.zip", "zip -qry - . > $A", UNIX),
        made("sfx.exe", "zip -qry $A.zip . && (cat /bin/true $A.zip) > $A && rm $A.zip", UNIX),
        made("7zz.zip", "seven a -snl -tzip $A . >/dev/null", Keeps { times: 2, ..UNIX }),
        made("deflate64.zip", "seven a -snl -tzip -mm=deflate64 $A . >/dev/null", Keeps { times: 2, ..UNIX }),
        made("lzma.zip", "seven a -snl -tzip -mm=lzma $A . >/dev/null", Keeps { times: 2, ..UNIX }),
        made("ppmd.zip", "seven a -snl -tzip -mm=ppmd $A . >/dev/null", Keeps { times: 2, ..UNIX }),
        made("xz.zip", "seven a -snl -tzip -mm=xz $A . >/dev/null", Keeps { times: 2, ..UNIX }),
        made("bsdtar.zip", "bsdtar -cf $A --format zip .", UNIX),
        made("python.zip", zipfile!("DEFLATED"), no_links),
        made("python-lzma.zip", zipfile!("LZMA"), no_links),
        made("split.zip", "zip -qry -s 500k $A .", UNIX),
    ]);
}

#[test]
fn locked_zip_archives() {
    all_conform(&[
        locked("zipcrypto.zip", "zip -qry -P secret $A .", UNIX),
        locked("aes.zip", "seven a -snl -tzip -psecret -mem=AES256 $A . >/dev/null", Keeps { times: 2, ..UNIX }),
        locked(
            "aes128.zip",
            "seven a -snl -tzip -psecret -mem=AES128 -mm=bzip2 $A . >/dev/null",
            Keeps { times: 2, ..UNIX },
        ),
    ]);
}

#[test]
fn sevenz_archives() {
    let solid = |how: &str| -> &'static str { format!("seven a -snl {how} $A . >/dev/null").leak() };
    all_conform(&[
        made("solid.7z", solid("-mx=5"), UNIX),
        made("single.7z", solid("-ms=off"), UNIX),
        made("blocks.7z", solid("-ms=300k"), UNIX),
        made("stored.7z", solid("-mx=0"), UNIX),
        made("lzma.7z", solid("-m0=lzma"), UNIX),
        made("wide.7z", solid("-m0=lzma:lc=8:lp=0:pb=4"), UNIX),
        made("ppmd.7z", solid("-m0=ppmd"), UNIX),
        made("bzip2.7z", solid("-m0=bzip2"), UNIX),
        made("deflate.7z", solid("-m0=deflate"), UNIX),
        made("deflate64.7z", solid("-m0=deflate64"), UNIX),
        made("bcj.7z", solid("-m0=bcj -m1=lzma2"), UNIX),
        made("bcj2.7z", solid("-m0=bcj2 -m1=lzma:d=22 -m2=lzma:d=19 -m3=lzma:d=19 -mb0:1 -mb0s1:2 -mb0s2:3"), UNIX),
        made("arm.7z", solid("-m0=arm -m1=lzma2"), UNIX),
        made("delta.7z", solid("-m0=delta:4 -m1=lzma2"), UNIX),
        made("sfx.exe", "seven a -snl $A.7z . >/dev/null && cat /bin/true $A.7z > $A && rm $A.7z", UNIX),
        made("bsdtar.7z", "bsdtar -cf $A --format 7zip .", UNIX),
        made("split.7z.001", "seven a -snl -v300k ${A%.001} . >/dev/null", UNIX),
    ]);
}

#[test]
fn locked_sevenz_archives() {
    all_conform(&[
        locked("locked.7z", "seven a -snl -psecret $A . >/dev/null", UNIX),
        locked("hidden.7z", "seven a -snl -psecret -mhe=on $A . >/dev/null", UNIX),
        locked("copy.7z", "seven a -snl -psecret -mx=0 $A . >/dev/null", UNIX),
    ]);
}

#[test]
fn rar_archives() {
    let old = Keeps { links: false, times: 2, ..UNIX };
    all_conform(&[
        made_rar("5.rar", rar(Rar50), UNIX),
        made_rar("solid.rar", rar(Rar50).solid(), UNIX),
        made_rar("stored.rar", rar(Rar50).stored(), UNIX),
        made_rar("7.rar", rar(Rar70).solid(), UNIX),
        made_rar("4.rar", rar(Rar40).solid(), old),
        made_rar("2.rar", rar(Rar20).solid(), old),
        made_rar("hidden.rar", rar(Rar50).solid().locked("secret").hidden(), UNIX),
        made_rar("locked-4.rar", rar(Rar40).solid().locked("secret"), old),
    ]);
}

#[test]
fn tar_archives() {
    let python = "python3 -c \"import tarfile, sys; t = tarfile.open(sys.argv[1], 'w', format=FORMAT); t.add('.'); t.close()\" $A";
    let by_python = |format: &str| -> &'static str { python.replace("FORMAT", format).leak() };
    all_conform(&[
        made("gnu.tar", "tar --format=gnu -cf $A .", ALL),
        made("pax.tar", "tar --format=pax -cf $A .", ALL),
        made("oldgnu.tar", "tar --format=oldgnu -cf $A .", ALL),
        made("python-gnu.tar", by_python("1"), ALL),
        made("python-pax.tar", by_python("2"), ALL),
        made("bsd.tar", "bsdtar --format pax -cf $A .", ALL),
        made("bsd-gnu.tar", "bsdtar --format gnutar -cf $A .", ALL),
        made("split.tar.001", "tar -cf - . | split -b 700000 -d -a 3 --numeric-suffixes=1 - ${A%001}", ALL),
    ]);
}

#[test]
fn compressed_tar_archives() {
    all_conform(&[
        made("a.tar.gz", "tar -cf - . | gzip > $A", ALL),
        made("many.tar.gz", "tar -cf - . | split -b 100000 --filter=gzip > $A", ALL),
        made("a.tgz", "tar -czf $A .", ALL),
        made("a.tar.bz2", "tar -cf - . | bzip2 > $A", ALL),
        made("a.tar.xz", "tar -cf - . | xz > $A", ALL),
        made("blocks.tar.xz", "tar -cf - . | xz --block-size=200000 > $A", ALL),
        made("a.tar.zst", "tar -cf - . | zstd -q > $A", ALL),
        made("a.tar.lz4", "tar -cf - . | lz4 -q > $A", ALL),
        made("a.tar.lz", "tar -cf - . | lzip > $A", ALL),
        made("a.tar.lzma", "tar -cf - . | xz --format=lzma > $A", ALL),
        made("a.tar.br", "tar -cf - . | brotli -q 5 > $A", ALL),
        made("a.tar.Z", "tar -cf - . | compress > $A", ALL),
    ]);
}

#[test]
fn cpio_archives() {
    all_conform(&[
        made("newc.cpio", "find . -depth | cpio -o -H newc > $A", ALL),
        made("crc.cpio", "find . | cpio -o -H crc > $A", ALL),
        made("odc.cpio", "find . | cpio -o -H odc > $A", ALL),
        made("bin.cpio", "find . | cpio -o -H bin > $A", ALL),
        made("bsd-newc.cpio", "bsdtar --format newc -cf $A .", ALL),
        made("bsd-odc.cpio", "bsdtar --format odc -cf $A .", ALL),
        made("a.cpio.gz", "find . | cpio -o -H newc | gzip > $A", ALL),
        made("a.cpio.zst", "find . | cpio -o -H newc | zstd -q > $A", ALL),
        made("a.cpio.xz", "find . | cpio -o -H odc | xz > $A", ALL),
    ]);
}

#[test]
fn disc_images() {
    all_conform(&[
        made("geniso.iso", "genisoimage -quiet -R -o $A . 2>/dev/null", UNIX),
        made("joliet.iso", "genisoimage -quiet -R -J -joliet-long -o $A . 2>/dev/null", UNIX),
        made("xorriso.iso", "xorriso -as mkisofs -quiet -R -o $A . 2>/dev/null", UNIX),
        made("zisofs.iso", "xorriso -outdev $A -map . / -set_filter_r --zisofs / -- -commit 2>/dev/null", UNIX),
        made("bsd.iso", "bsdtar --format iso9660 --options rockridge=strict -cf $A .", UNIX),
    ]);
}

#[test]
fn squashfs_images() {
    let with = |options: &str| -> &'static str {
        format!("mksquashfs . $A -noappend -quiet -no-progress {options} >/dev/null").leak()
    };
    all_conform(&[
        made("gzip.squashfs", with(""), ALL),
        made("xz.squashfs", with("-comp xz"), ALL),
        made("bcj.squashfs", with("-comp xz -Xbcj x86 -b 1M"), ALL),
        made("lzma.squashfs", with("-comp lzma"), ALL),
        made("lz4.squashfs", with("-comp lz4"), ALL),
        made("lz4hc.squashfs", with("-comp lz4 -Xhc"), ALL),
        made("zstd.squashfs", with("-comp zstd -b 4096"), ALL),
        made("plain.squashfs", with("-noI -noD -noF -noX"), ALL),
        made("whole.squashfs", with("-no-fragments"), ALL),
        made("ends.squashfs", with("-always-use-fragments -nopad -no-exports -no-xattrs"), ALL),
    ]);
}

#[test]
fn what_stmount_writes_it_reads() {
    all_conform(&[
        made("own.zip", "$STMOUNT pack -q . $A", UNIX),
        made("own.7z", "$STMOUNT pack -q . $A", UNIX),
        made("own.tar", "$STMOUNT pack -q . $A", ALL),
        made("own.tar.gz", "$STMOUNT pack -q . $A", ALL),
        made("own.tar.zst", "$STMOUNT pack -q . $A", ALL),
        made("own.tar.xz", "$STMOUNT pack -q . $A", ALL),
    ]);
}
