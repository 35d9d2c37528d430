//! Tar archives and compressed files as they are met: with holes, attributes, long names, in old charsets, cut off, made to
//! do harm. What whole ones hold is seen in tests/conformance.rs.

#[path = "common/desk.rs"]
mod desk;
#[path = "common/dress.rs"]
mod dress;
#[path = "common/metadata.rs"]
mod metadata;
#[path = "common/reader.rs"]
mod reader;

use desk::Desk;
use reader::{Read, read_all};
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::process::Command;
use stmount::formats::Format;
use stmount::formats::compressed::CompressedFile;
use stmount::formats::tar::Tar;

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
    let said = Command::new("bash").args(["-ec", line]).current_dir(dir.path()).output().unwrap();
    assert!(said.status.success(), "{line}: {}", String::from_utf8_lossy(&said.stderr));
    fs::read(dir.path().join(name)).unwrap()
}

fn opened(format: &dyn Format, name: &str, bytes: &[u8]) -> reader::Files {
    match read_all(format, name, bytes.to_vec(), &[]) {
        Read::Opened(files) => files,
        Read::Refused(kind) => panic!("it is refused: {kind:?}"),
    }
}

// ---- what tar holds ----

#[test]
fn holes_are_holes_in_every_version() {
    let Some(desk) = Desk::new() else { return };
    shell(
        &desk,
        "truncate -s 40M all-hole; truncate -s 30M f; echo middle | dd of=f bs=1M seek=11 conv=notrunc status=none
         for n in $(seq 200); do echo piece $n | dd of=many bs=64k seek=$((n * 2)) conv=notrunc status=none; done
         echo end >> f; tar --sparse --format=oldgnu -cf oldgnu.tar f all-hole many; tar --sparse --format=gnu -cf gnu.tar f all-hole many
         for v in 0.0 0.1 1.0; do tar --sparse --format=pax --sparse-version=$v -cf pax-$v.tar f all-hole many; done
         bsdtar -S --format pax -cf bsd.tar f all-hole many",
    );
    for archive in ["oldgnu.tar", "gnu.tar", "pax-0.0.tar", "pax-0.1.tar", "pax-1.0.tar", "bsd.tar"] {
        assert!(fs::metadata(desk.path(archive)).unwrap().len() < 3 << 20, "{archive} has holes");
        desk.ok(&[archive, "m"]);
        for name in ["f", "all-hole", "many"] {
            let (is, was) = (desk.path("m").join(name), desk.path(name));
            assert!(fs::read(&is).unwrap() == fs::read(&was).unwrap(), "{archive}: {name}");
            assert!(fs::metadata(&is).unwrap().blocks() <= fs::metadata(&was).unwrap().blocks(), "{archive}: {name}");
        }
        desk.umount();
        desk.ok(&["unpack", "-q", archive, "out"]);
        assert!(fs::metadata(desk.path("out/all-hole")).unwrap().blocks() < 100, "{archive}");
        fs::remove_dir_all(desk.path("out")).unwrap();
    }
}

#[test]
fn attributes_devices_and_times_are_kept() {
    let Some(desk) = Desk::new() else { return };
    if !metadata::is_root() {
        println!("skipped: devices and attributes need root");
        return;
    }
    shell(
        &desk,
        "mkdir s; echo x > s/f; setfattr -n user.color -v blue s/f; setfattr -n user.long -v $(head -c 3000 /dev/zero | tr '\\0' y) s/f
         touch -d '1965-02-03 04:05:06.123456789 UTC' s/f; chown 1234:5678 s/f; mkfifo s/pipe; mknod s/null c 1 3; mknod s/disk b 7 9
         tar --xattrs --format=pax -cf gnu.tar s; bsdtar --xattrs --format pax -cf bsd.tar s",
    );
    for archive in ["gnu.tar", "bsd.tar"] {
        desk.ok(&[archive, "m"]);
        let meta = |name: &str| fs::symlink_metadata(desk.path("m/s").join(name)).unwrap();
        let file = meta("f");
        assert_eq!((file.uid(), file.gid()), (1234, 5678));
        // bsdtar writes the fraction as if it were behind the second also before 1970, where it stands before it.
        if archive == "gnu.tar" {
            assert_eq!((file.mtime(), file.mtime_nsec()), (-154_900_494, 123_456_789));
        }
        assert!(meta("pipe").file_type().is_fifo() && meta("disk").file_type().is_block_device());
        assert_eq!(meta("null").rdev(), fs::metadata("/dev/null").unwrap().rdev());
        shell(&desk, "test $(getfattr --only-values -n user.color m/s/f) = blue");
        shell(&desk, "test $(getfattr --only-values -n user.long m/s/f | wc -c) = 3000");
        desk.umount();
    }
}

#[test]
fn names_in_old_charsets_are_read() {
    let Some(desk) = Desk::new() else { return };
    let python = "import tarfile, io
for charset in ['koi8-r', 'cp1251', 'shift-jis']:
    t = tarfile.open(charset + '.tar', 'w', format=tarfile.GNU_FORMAT, encoding=charset)
    for n in range(30):
        name = '新しいフォルダー/第%d章の原稿について.txt' if charset == 'shift-jis' else 'Документы/Отчёт за %d неделю, черновик.txt'
        info = tarfile.TarInfo(name % n); info.size = 1; t.addfile(info, io.BytesIO(b'x'))
    t.close()";
    let mut run = Command::new("python3");
    assert!(run.args(["-c", python]).current_dir(desk.path(".")).status().unwrap().success());
    for (charset, name) in [
        ("koi8-r", "Документы/Отчёт за 7 неделю, черновик.txt"),
        ("cp1251", "Документы/Отчёт за 7 неделю, черновик.txt"),
        ("shift-jis", "新しいフォルダー/第7章の原稿について.txt"),
    ] {
        let archive = format!("{charset}.tar");
        for args in [vec!["ls", "-R", &archive], vec!["ls", "-R", "--encoding", charset, &archive]] {
            let listed = desk.ok(&args);
            assert!(listed.lines().any(|line| line == name), "{args:?}: {listed}");
        }
    }
}

#[test]
fn of_several_entries_of_a_path_the_last_one_counts() {
    let files = opened(&Tar, "a.tar", &made("a.tar", "echo old > f; tar -cf a.tar f; echo new > f; tar -rf a.tar f"));
    assert_eq!(files, [("/f".to_owned(), Ok(b"new\n".to_vec()))]);
}

#[test]
fn no_path_leads_out() {
    let python = "import tarfile, io
t = tarfile.open('a.tar', 'w')
def add(name, **more):
    info = tarfile.TarInfo(name); info.size = 1
    for key, value in more.items(): setattr(info, key, value)
    t.addfile(info, io.BytesIO(b'x') if info.type == tarfile.REGTYPE else None)
add('../../up'); add('/abs/olute'); add('a/./b//c'); add('n' * 400); add('d/' * 300 + 'deep')
add('link', type=tarfile.SYMTYPE, linkname='../../../etc/passwd', size=0)
add('hard', type=tarfile.LNKTYPE, linkname='../../../etc/passwd', size=0)
add('one', type=tarfile.LNKTYPE, linkname='two', size=0); add('two', type=tarfile.LNKTYPE, linkname='one', size=0)
add('self', type=tarfile.LNKTYPE, linkname='self', size=0)
add('link/through', size=1)
t.close()";
    let Some(desk) = Desk::new() else { return };
    let mut run = Command::new("python3");
    assert!(run.args(["-c", python]).current_dir(desk.path(".")).status().unwrap().success());
    desk.ok(&["a.tar", "m"]);
    for name in ["hard", "one", "two", "self"] {
        let e = fs::read(desk.path("m").join(name)).unwrap_err();
        assert_eq!(e.raw_os_error(), Some(5), "{name} leads nowhere");
    }
    assert_eq!(fs::read(desk.path("m").join("d/".repeat(300)).join("deep")).unwrap(), b"x");
    desk.umount();
    let said = desk.say(&["unpack", "a.tar", "out/in"]);
    assert_eq!(said.status.code(), Some(3), "{}", String::from_utf8_lossy(&said.stderr));
    assert!(!desk.path("up").exists() && !desk.path("out/up").exists() && desk.path("out/in").exists());
}

// ---- what is not as it should be ----

#[test]
fn what_stands_before_a_cut_is_read() {
    let Some(desk) = Desk::new() else { return };
    shell(
        &desk,
        "for n in 1 2 3; do head -c 50000 /dev/urandom > f$n; done; tar -cf whole.tar f1 f2 f3; head -c 120000 whole.tar > cut.tar
         gzip -k whole.tar; head -c 120000 whole.tar.gz > cut.tar.gz; xz -k whole.tar; head -c 120000 whole.tar.xz > cut.tar.xz",
    );
    for archive in ["cut.tar", "cut.tar.gz"] {
        let (code, said) = stderr(&desk, &[archive, "m"]);
        assert!(code == Some(0) && (said.contains("cut off") || said.contains("missing")), "{archive}: {said}");
        for n in 1..=2 {
            let name = format!("f{n}");
            assert!(fs::read(desk.path("m").join(&name)).unwrap() == fs::read(desk.path(&name)).unwrap(), "{archive}");
        }
        if desk.path("m/f3").exists() {
            assert_eq!(fs::read(desk.path("m/f3")).unwrap_err().raw_os_error(), Some(5), "{archive}");
        }
        desk.umount();
        let (code, said) = stderr(&desk, &["--strict", archive, "m"]);
        assert!(code != Some(0) && said.contains("strict"), "{archive}: {said}");
    }
}

#[test]
fn a_damaged_header_hides_no_more_than_its_entry() {
    let mut archive = made("a.tar", "for n in 1 2 3; do seq $n 500 > f$n; done; tar -cf a.tar f1 f2 f3");
    let second = archive.windows(2).position(|pair| pair == b"f2").unwrap();
    archive[second + 100] ^= 0x55;
    let names: Vec<_> = opened(&Tar, "a.tar", &archive).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["/f1", "/f3"]);
}

#[test]
fn an_archive_behind_the_end_is_shown_when_it_is_asked_for() {
    let Some(desk) = Desk::new() else { return };
    shell(&desk, "echo 1 > a; echo 2 > b; tar -cf a.tar a; tar -cf b.tar b; cat a.tar b.tar > both.tar");
    let (code, said) = stderr(&desk, &["both.tar", "m"]);
    assert!(code == Some(0) && said.contains("-o force"), "{said}");
    assert!(!desk.path("m/b").exists());
    desk.umount();
    desk.ok(&["-o", "force", "both.tar", "m"]);
    assert_eq!(fs::read(desk.path("m/b")).unwrap(), b"2\n");
    desk.umount();
}

// ---- compressed files ----

#[test]
fn a_compressed_file_is_a_folder_with_the_file() {
    let Some(desk) = Desk::new() else { return };
    shell(
        &desk,
        "seq 300000 > seq.txt; for c in gzip bzip2 xz zstd lzip brotli; do $c -k seq.txt 2>/dev/null; done; lz4 -q seq.txt seq.txt.lz4
         xz -k --format=lzma seq.txt; compress -c seq.txt > seq.txt.Z; cat seq.txt.gz seq.txt.gz > twice.gz; gzip -c < /dev/null > empty.gz",
    );
    let text = fs::read(desk.path("seq.txt")).unwrap();
    for ending in ["gz", "bz2", "xz", "zst", "lz4", "lz", "br", "lzma", "Z"] {
        desk.ok(&[&format!("seq.txt.{ending}"), "m"]);
        let names: Vec<_> = fs::read_dir(desk.path("m")).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(names, ["seq.txt"]);
        assert!(fs::read(desk.path("m/seq.txt")).unwrap() == text, "{ending}");
        desk.umount();
    }
    assert!(desk.ok(&["cat", "twice.gz:twice"]).as_bytes() == [&text[..], &text].concat());
    assert_eq!(desk.ok(&["cat", "empty.gz:empty"]), "");
    let last = (text.len() - 7, text.len());
    desk.ok(&["seq.txt.gz", "m"]);
    assert_eq!(&fs::read(desk.path("m/seq.txt")).unwrap()[last.0..last.1], b"300000\n");
    desk.umount();
}

#[test]
fn a_damaged_file_is_read_up_to_the_damage() {
    let Some(desk) = Desk::new() else { return };
    shell(&desk, "head -c 3000000 /dev/urandom > noise; gzip -k noise; head -c 2000000 noise.gz > cut.gz");
    let (code, said) = stderr(&desk, &["cut.gz", "m"]);
    assert!(code == Some(0) && said.contains("damaged"), "{said}");
    shell(&desk, "head -c 1900000 m/cut | cmp - <(head -c 1900000 noise); ! cat m/cut > /dev/null");
    desk.umount();
}

#[test]
fn the_second_time_nothing_is_decoded_to_open_it() {
    let Some(desk) = Desk::new() else { return };
    shell(
        &desk,
        "mkdir s; for n in $(seq 40); do seq $n 90000 > s/$n; done; head -c 3000000 /dev/urandom > s/noise; tar -czf a.tar.gz s",
    );
    let cache = desk.path("cache");
    let run = |args: &[&str]| {
        let mut program = Command::new(env!("CARGO_BIN_EXE_stmount"));
        let said = program.args(args).current_dir(desk.path(".")).env("STMOUNT_CACHE_DIR", &cache).output().unwrap();
        assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
        String::from_utf8(said.stdout).unwrap()
    };
    run(&["index", "a.tar.gz"]);
    let kept = || fs::read_dir(cache.join("index")).unwrap().map(|e| e.unwrap().path()).collect::<Vec<_>>();
    assert!(!kept().is_empty());
    let first = run(&["ls", "-lR", "a.tar.gz"]);
    // What is damaged in the index is found out, and it is made again.
    for index in kept() {
        let mut bytes = fs::read(&index).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 0xff;
        fs::write(&index, bytes).unwrap();
    }
    assert_eq!(run(&["ls", "-lR", "a.tar.gz"]), first);
    // The archive is no more what it was: its index is not used.
    shell(&desk, "echo more > s/more; tar -czf a.tar.gz s");
    assert!(run(&["ls", "-R", "a.tar.gz"]).contains("s/more"));
    desk.ok(&["a.tar.gz", "m"]);
    shell(&desk, "diff -r s m/s");
    desk.umount();
}

// ---- hostile ----

#[test]
fn nothing_that_is_cut_or_flipped_does_harm() {
    let tree =
        "seq 300 > text; cp text t2; ln -s text link; ln text hard; mkdir -p d/e; echo x > d/e/y; truncate -s 1M hole;
        echo z >> hole; touch $(printf 'n%.0s' $(seq 150));";
    for format in ["gnu", "pax", "oldgnu", "ustar", "v7"] {
        let line = format!(
            "{tree} tar --sparse --format={format} -cf ../a.tar . || tar --format={format} -cf ../a.tar text t2 d; mv ../a.tar ."
        );
        let line = if format == "v7" || format == "ustar" {
            line.replace("--sparse ", "").replace("touch", "true")
        } else {
            line
        };
        let archive = made("a.tar", &line);
        let whole = opened(&Tar, "a.tar", &archive);
        assert!(whole.iter().all(|(_, read)| read.is_ok()), "{format}: {whole:?}");
        reader::harm(&Tar, "a.tar", &archive, &[], &whole, 500);
    }
    for (name, pack) in [
        ("a.tar.gz", "gzip"),
        ("a.tar.xz", "xz"),
        ("a.tar.zst", "zstd -q"),
        ("a.tar.bz2", "bzip2"),
        ("a.tar.lz4", "lz4 -q"),
        ("a.txt.gz", "cat text | gzip -c; true"),
    ] {
        let line = match name.contains("tar") {
            true => format!("{tree} tar --sparse -cf - . | {pack} > ../{name}; mv ../{name} ."),
            false => format!("{tree} ({pack}) > {name}"),
        };
        let archive = made(name, &line);
        let whole = opened(&CompressedFile, name, &archive);
        assert!(!whole.is_empty() && whole.iter().all(|(_, read)| read.is_ok()), "{name}: {whole:?}");
        reader::harm(&CompressedFile, name, &archive, &[], &whole, 300);
    }
}

#[test]
fn headers_that_lie_cost_nothing() {
    let tar = made("a.tar", "echo x > f; tar --format=pax --pax-option=a:=b -cf a.tar f");
    let with = |at: usize, field: &[u8]| {
        let mut bytes = tar.clone();
        bytes[at..at + field.len()].copy_from_slice(field);
        bytes[148..156].copy_from_slice(b"        ");
        let sum: u32 = bytes[..512].iter().map(|b| u32::from(*b)).sum();
        bytes[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        read_all(&Tar, "a.tar", bytes, &[])
    };
    assert_eq!(tar[156], b'x', "the first header is one of pax");
    // Records of 8 GiB, of nearly all numbers, and of less than nothing.
    for size in [&b"77777777777\0"[..], &[0x80, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], &[0xff; 12]] {
        with(124, size);
    }
    // Any kind of entry in front of the file.
    for kind in 0..=255 {
        with(156, &[kind]);
    }
}
