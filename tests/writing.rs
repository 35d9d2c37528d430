//! What is packed as zip, 7z or tar is what the tools of these formats read.

#[path = "common/desk.rs"]
mod desk;
#[path = "common/dress.rs"]
mod dress;
#[path = "common/metadata.rs"]
mod metadata;

use desk::Desk;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Output};

/// The 7-Zip of this machine: the package 7zip calls it 7zz, others 7z.
fn seven(args: &[&str], dir: &Path) -> Output {
    let run = |name: &str| Command::new(name).args(args).current_dir(dir).output();
    run("7zz").or_else(|_| run("7z")).expect("7-Zip is installed")
}

#[track_caller]
fn ok(said: Output) -> String {
    let (out, err) = (String::from_utf8_lossy(&said.stdout), String::from_utf8_lossy(&said.stderr));
    assert!(said.status.success(), "{out}{err}");
    out.into_owned()
}

/// A folder `src` with what all of these formats hold.
fn with_source() -> Option<Desk> {
    let desk = Desk::new()?;
    let write = |path: &str, bytes: &[u8]| {
        let path = desk.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    };
    let text: Vec<u8> = (0..200_000u32).flat_map(|n| format!("line {}\n", n % 3000).into_bytes()).collect();
    write("src/readme.txt", b"read me\n");
    write("src/deep/er/text", &text);
    write("src/deep/noise.bin", &metadata::noise(9_000_000, 7));
    write("src/empty", b"");
    write("src/Übung 日本.txt", b"names");
    write(&format!("src/{}/long", "d".repeat(150)), b"long path");
    fs::create_dir(desk.path("src/hollow")).unwrap();
    symlink("readme.txt", desk.path("src/link")).unwrap();
    symlink("nowhere", desk.path("src/dangling")).unwrap();
    for (path, mode) in [("src/readme.txt", 0o600), ("src/deep", 0o750), ("src/empty", 0o444)] {
        fs::set_permissions(desk.path(path), fs::Permissions::from_mode(mode)).unwrap();
    }
    Some(desk)
}

/// Paths, kinds, modes, contents and link targets.
fn listing(root: &Path) -> Vec<String> {
    let line = |path: &Path| {
        let meta = path.symlink_metadata().unwrap();
        let name = path.strip_prefix(root).unwrap().display().to_string();
        let what = if meta.is_symlink() {
            format!("-> {}", fs::read_link(path).unwrap().display())
        } else if meta.is_dir() {
            format!("dir {:o}", meta.permissions().mode() & 0o7777)
        } else {
            let bytes = fs::read(path).unwrap();
            format!("file {:o} {} {}", meta.permissions().mode() & 0o7777, bytes.len(), blake3::hash(&bytes))
        };
        format!("{name}: {what}")
    };
    let mut all: Vec<_> = metadata::below(root).iter().filter(|path| *path != root).map(|path| line(path)).collect();
    all.sort();
    all
}

#[test]
fn tar_reads_every_tar() {
    let Some(desk) = with_source() else { return };
    for ending in ["tar", "tar.gz", "tar.bz2", "tar.xz", "tar.zst", "tar.lz4"] {
        let archive = format!("out.{ending}");
        desk.ok(&["pack", "-q", "-j2", "src", &archive]);
        let out = desk.path(&format!("from-{ending}"));
        fs::create_dir(&out).unwrap();
        let mut tar = Command::new("tar");
        if ending == "tar.lz4" {
            tar.args(["-I", "lz4"]);
        }
        ok(tar.args(["-xpf"]).arg(desk.path(&archive)).arg("-C").arg(&out).output().unwrap());
        assert_eq!(listing(&out), listing(&desk.path("src")), "{ending}");
    }
}

#[test]
fn tar_keeps_links_holes_attributes_and_nanoseconds() {
    let Some(desk) = Desk::new() else { return };
    fs::create_dir(desk.path("src")).unwrap();
    let file = |name: &str| desk.path("src").join(name);
    fs::write(file("a"), b"linked").unwrap();
    fs::hard_link(file("a"), file("b")).unwrap();
    let sparse = fs::File::create(file("sparse")).unwrap();
    sparse.set_len(10 << 20).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&sparse, b"data", 5 << 20).unwrap();
    metadata::set_time(&file("a"), -5, 250_000_000);
    ok(Command::new("setfattr").args(["-n", "user.note", "-v", "of mine"]).arg(file("a")).output().unwrap());
    ok(Command::new("mkfifo").arg(file("pipe")).output().unwrap());
    desk.ok(&["pack", "-q", "src", "out.tar"]);
    fs::create_dir(desk.path("back")).unwrap();
    let tar = ["--xattrs", "--xattrs-include=*", "-xpf"];
    ok(Command::new("tar").args(tar).arg(desk.path("out.tar")).arg("-C").arg(desk.path("back")).output().unwrap());
    let rsync = ["-aHXSn", "-i", "--checksum", "--delete"];
    let from = |name: &str| format!("{}/", desk.path(name).display());
    let said = ok(Command::new("rsync").args(rsync).args([from("src"), from("back")]).output().unwrap());
    assert_eq!(said, "");
    assert!(desk.path("out.tar").metadata().unwrap().len() < 1 << 20, "the holes are not stored");
}

#[test]
fn seven_zip_reads_zip_and_7z() {
    let Some(desk) = with_source() else { return };
    let methods: [&[&str]; 6] = [
        &["out.7z"],
        &["out.zip"],
        &["--method=store", "store.zip"],
        &["--method=bzip2", "bzip2.zip"],
        &["--method=xz", "xz.zip"],
        &["-9", "nine.zip"],
    ];
    for given in methods {
        let (options, archive) = (&given[..given.len() - 1], given[given.len() - 1]);
        desk.ok(&[&["pack", "-q", "-j2"], options, &["src", archive]].concat());
        let out = desk.path(&format!("from-{archive}"));
        fs::create_dir(&out).unwrap();
        ok(seven(&["x", "-y", "-snld", desk.path(archive).to_str().unwrap()], &out));
        assert_eq!(listing(&out), listing(&desk.path("src")), "{given:?}");
    }
}

#[test]
fn what_is_encrypted_opens_with_its_password_alone() {
    let Some(desk) = with_source() else { return };
    fs::write(desk.path("key"), "open sesame\n").unwrap();
    for archive in ["out.zip", "out.7z"] {
        desk.ok(&["pack", "-q", "--encrypt=key", "src", archive]);
        let path = desk.path(archive);
        let path = path.to_str().unwrap();
        assert!(!seven(&["t", "-pwrong", path], &desk.path("m")).status.success(), "{archive}");
        let out = desk.path(&format!("from-{archive}"));
        fs::create_dir(&out).unwrap();
        ok(seven(&["x", "-y", "-snld", "-popen sesame", path], &out));
        assert_eq!(listing(&out), listing(&desk.path("src")), "{archive}");
    }
    let refused = desk.say(&["pack", "--encrypt=key", "src", "out.tar"]);
    assert!(!refused.status.success() && !desk.path("out.tar").exists());
}

#[test]
fn parts_are_read_as_one_archive() {
    let Some(desk) = with_source() else { return };
    for archive in ["out.zip", "out.7z"] {
        desk.ok(&["pack", "-q", "--split=1M", "src", archive]);
        let first = format!("{archive}.001");
        assert_eq!(desk.path(&first).metadata().unwrap().len(), 1 << 20);
        let out = desk.path(&format!("from-{archive}"));
        fs::create_dir(&out).unwrap();
        ok(seven(&["x", "-y", "-snld", desk.path(&first).to_str().unwrap()], &out));
        assert_eq!(listing(&out), listing(&desk.path("src")), "{archive}");
    }
}

#[test]
fn what_a_format_cannot_hold_is_told_before_the_work() {
    let Some(desk) = Desk::new() else { return };
    fs::create_dir(desk.path("src")).unwrap();
    fs::write(desk.path("src/a"), b"a").unwrap();
    fs::hard_link(desk.path("src/a"), desk.path("src/b")).unwrap();
    ok(Command::new("mkfifo").arg(desk.path("src/pipe")).output().unwrap());
    let said = desk.say(&["pack", "src", "out.zip"]);
    let told = String::from_utf8_lossy(&said.stderr);
    assert!(told.contains("zip: 1 further names of hard links become files of their own"), "{told}");
    assert!(told.contains("zip: 1 fifos and devices are left out"), "{told}");
    assert_eq!(said.status.code(), Some(3), "{told}");
}

#[test]
fn an_archive_whose_format_cannot_be_written_is_refused() {
    let Some(desk) = with_source() else { return };
    let said = desk.say(&["pack", "src", "out.rar"]);
    assert!(String::from_utf8_lossy(&said.stderr).contains(".rar cannot be written"));
    assert!(!said.status.success() && !desk.path("out.rar").exists());
}
