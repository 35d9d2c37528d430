//! Zip archives as they are met: with names in old charsets, with passwords, damaged, made to do harm.

#[path = "common/desk.rs"]
mod desk;
#[path = "common/dress.rs"]
mod dress;
#[path = "common/reader.rs"]
mod reader;

use desk::Desk;
use reader::{Read, read_all};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::process::{Command, Stdio};
use stmount::error::Kind;
use stmount::formats::zip::Zip;

/// What all scripts begin with: `z` is the archive to be, `raw` adds an entry whose name is given in bytes.
const BEGIN: &str = r#"
import sys, os, struct, zipfile, zlib
from zipfile import ZipInfo
class Raw(ZipInfo):
    def _encodeFilenameFlags(self):
        return self.raw, self.flag_bits & ~0x800
def raw(z, name, data=b'x', method=zipfile.ZIP_DEFLATED):
    info = Raw('placeholder', (2001, 2, 3, 4, 5, 6))
    info.raw = name
    info.compress_type = method
    info.create_system = 0
    z.writestr(info, data)
"#;

/// Makes an archive by a script in Python, in which `z` is the archive.
#[track_caller]
fn script(desk: &Desk, name: &str, text: &str) {
    let whole = format!("{BEGIN}\nz = zipfile.ZipFile({name:?}, 'w', zipfile.ZIP_DEFLATED)\n{text}\nz.close()\n");
    run_python(desk, &whole);
}

#[track_caller]
fn run_python(desk: &Desk, text: &str) {
    let mut python = Command::new("python3");
    let said = python.args(["-c", text]).current_dir(desk.path(".")).stdin(Stdio::null()).output().unwrap();
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
}

#[track_caller]
fn shell(desk: &Desk, line: &str) {
    let said = Command::new("bash").args(["-ec", line]).current_dir(desk.path(".")).output().unwrap();
    assert!(said.status.success(), "{line}: {}", String::from_utf8_lossy(&said.stderr));
}

fn names(desk: &Desk, args: &[&str]) -> Vec<String> {
    desk.ok(&[&["ls", "-R"], args].concat()).lines().map(str::to_owned).collect()
}

fn stderr(desk: &Desk, args: &[&str]) -> (Option<i32>, String) {
    let said = desk.say(args);
    (said.status.code(), String::from_utf8_lossy(&said.stderr).into_owned())
}

// ---- names ----

#[test]
fn names_in_old_charsets_are_read() {
    let Some(desk) = Desk::new() else { return };
    let cases = [
        ("cp866", "Документы/Отчёт за год.txt"),
        ("koi8-r", "Документы/Годовой отчёт.txt"),
        ("windows-1251", "Фотографии/Летний отдых на море.jpg"),
        ("shift-jis", "新しいフォルダー/読んでください.txt"),
        ("gbk", "新建文件夹/请先阅读说明文档.txt"),
        ("euc-kr", "새 폴더/읽어 주세요 문서.txt"),
        ("cp437", "Übersicht/Größe.txt"),
    ];
    for (charset, name) in cases {
        let python = match charset {
            "windows-1251" => "cp1251",
            other => other,
        };
        script(&desk, "a.zip", &format!("raw(z, {name:?}.encode('{python}'))"));
        assert!(names(&desk, &["--encoding", charset, "a.zip"]).contains(&name.to_owned()), "told {charset}");
    }
    // Much text in a charset tells which it is.
    let many = "for n in range(30): raw(z, f'Документы/Отчёт за {n} неделю, черновик.txt'.encode('cp866'))";
    script(&desk, "a.zip", many);
    assert!(names(&desk, &["a.zip"]).contains(&"Документы/Отчёт за 7 неделю, черновик.txt".to_owned()));
    let many = "for n in range(30): raw(z, f'新しいフォルダー/第{n}章の原稿について.txt'.encode('shift-jis'))";
    script(&desk, "a.zip", many);
    assert!(names(&desk, &["a.zip"]).contains(&"新しいフォルダー/第7章の原稿について.txt".to_owned()));
    let (code, said) = stderr(&desk, &["ls", "--encoding", "klingon", "a.zip"]);
    assert!(code == Some(1) && said.contains("charset"), "{code:?} {said}");
}

#[test]
fn no_name_leads_out_and_none_is_hidden() {
    let Some(desk) = Desk::new() else { return };
    script(
        &desk,
        "a.zip",
        "for name in [b'../../etc/passwd', b'/root/.ssh/key', b'a/./b//c', b'twice', b'twice', b'dir\\\\file', b'',\n\
         b'x' * 300, b'con/aux.txt', b'a/b']: raw(z, name, name)",
    );
    desk.ok(&["a.zip", "m"]);
    let mut found = Vec::new();
    let mut todo = vec![desk.path("m")];
    while let Some(dir) = todo.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                todo.push(path);
            } else {
                found.push(path);
            }
        }
    }
    assert_eq!(found.len(), 10, "{found:#?}");
    let contents: Vec<_> = found.iter().map(|path| fs::read(path).unwrap()).collect();
    for content in [&b"../../etc/passwd"[..], b"/root/.ssh/key", b"a/./b//c", b"dir\\file", b"", &[b'x'; 300]] {
        assert!(contents.iter().any(|c| c == content), "{content:?} in {found:#?}");
    }
    assert_eq!(contents.iter().filter(|c| *c == b"twice").count(), 2);
    desk.umount();
    desk.ok(&["unpack", "-q", "a.zip", "out"]);
    assert!(!desk.path("etc").exists() && !desk.path("../etc/passwd").exists());
}

// ---- passwords ----

#[test]
fn each_entry_may_have_a_password_of_its_own() {
    let Some(desk) = Desk::new() else { return };
    shell(
        &desk,
        "echo one > 1; echo two > 2; echo three > 3; zip -q a.zip 1; zip -q -P first a.zip 2; zip -q -P second a.zip 3",
    );
    fs::write(desk.path("both"), "wrong\nsecond\nfirst\n").unwrap();
    fs::write(desk.path("first"), "first\n").unwrap();
    desk.ok(&["--password-file", "both", "a.zip", "m"]);
    for (name, text) in [("1", "one\n"), ("2", "two\n"), ("3", "three\n")] {
        assert_eq!(fs::read_to_string(desk.path("m").join(name)).unwrap(), text);
    }
    desk.umount();
    desk.ok(&["--password-file", "first", "a.zip", "m"]);
    assert_eq!(fs::read_to_string(desk.path("m/2")).unwrap(), "two\n");
    let e = fs::read(desk.path("m/3")).unwrap_err();
    assert_eq!(e.kind(), io::ErrorKind::PermissionDenied);
    desk.umount();
}

#[test]
fn what_is_in_clear_is_read_without_a_password() {
    let Some(desk) = Desk::new() else { return };
    shell(&desk, "echo one > 1; echo two > 2; zip -q a.zip 1; zip -q -P secret a.zip 2; zip -q -P secret all.zip 1 2");
    let (code, said) = stderr(&desk, &["a.zip", "m"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("cannot be read"), "{said}");
    assert_eq!(fs::read_to_string(desk.path("m/1")).unwrap(), "one\n");
    assert_eq!(fs::read(desk.path("m/2")).unwrap_err().kind(), io::ErrorKind::PermissionDenied);
    desk.umount();
    assert_eq!(stderr(&desk, &["all.zip", "m"]).0, Some(20), "all of it is encrypted");
    desk.ok(&["-o", "force", "all.zip", "m"]);
    assert_eq!(fs::read_dir(desk.path("m")).unwrap().count(), 2);
    desk.umount();
}

// ---- what is slightly wrong ----

#[test]
fn what_is_slightly_wrong_is_read_with_a_note() {
    let Some(desk) = Desk::new() else { return };
    shell(
        &desk,
        "for n in 1 2 3; do seq $n 9999 > f$n; done; zip -q good.zip f1 f2 f3
         (head -c 5000 /bin/true; cat good.zip) > front.zip; (cat good.zip; head -c 3000 /bin/true) > behind.zip
         head -c -100 good.zip > cut.zip; head -c 30000 good.zip > torn.zip",
    );
    for name in ["front.zip", "behind.zip", "cut.zip"] {
        let (code, _) = stderr(&desk, &[name, "m"]);
        assert_eq!(code, Some(0), "{name}");
        for n in 1..=3 {
            let file = fs::read(desk.path(&format!("m/f{n}"))).unwrap();
            assert_eq!(file, fs::read(desk.path(&format!("f{n}"))).unwrap(), "{name}");
        }
        desk.umount();
    }
    let (code, said) = stderr(&desk, &["torn.zip", "m"]);
    assert!(code == Some(0) && said.contains("made anew"), "{code:?} {said}");
    assert_eq!(fs::read(desk.path("m/f1")).unwrap(), fs::read(desk.path("f1")).unwrap());
    assert!(fs::read(desk.path("m/f2")).is_ok() || fs::read(desk.path("m/f2")).unwrap_err().raw_os_error() == Some(5));
    desk.umount();
    for name in ["behind.zip", "cut.zip", "torn.zip"] {
        let (code, said) = stderr(&desk, &["--strict", name, "m"]);
        assert!(code != Some(0) && said.contains("strict"), "{name}: {said}");
    }
    desk.ok(&["--strict", "good.zip", "m"]);
    desk.umount();
}

#[test]
fn a_damaged_entry_is_an_error_and_the_others_are_read() {
    let Some(desk) = Desk::new() else { return };
    script(
        &desk,
        "a.zip",
        "for n in range(5): z.writestr(f'{n}', os.urandom(3000), zipfile.ZIP_STORED)\n\
         for n in range(5, 9): z.writestr(f'{n}', bytes(range(256)) * 99)",
    );
    let mut bytes = fs::read(desk.path("a.zip")).unwrap();
    bytes[3100 * 2] ^= 1;
    let packed = bytes.len() - 700;
    bytes[packed] ^= 0x55;
    fs::write(desk.path("a.zip"), bytes).unwrap();
    desk.ok(&["a.zip", "m"]);
    let bad: Vec<_> = (0..9).filter(|n| fs::read(desk.path(&format!("m/{n}"))).is_err()).collect();
    assert!((1..=2).contains(&bad.len()), "{bad:?}");
    for n in &bad {
        assert_eq!(fs::read(desk.path(&format!("m/{n}"))).unwrap_err().raw_os_error(), Some(5));
    }
    desk.umount();
    let (code, said) = stderr(&desk, &["check", "a.zip"]);
    assert!(code.is_some_and(|code| code != 0), "{said}");
    assert_eq!(desk.say(&["unpack", "a.zip", "out"]).status.code(), Some(3), "what is whole is unpacked");
    assert_eq!(fs::read_dir(desk.path("out")).unwrap().count(), 9 - bad.len());
}

/// Nothing that still runs writes these methods: each is made by hand, of letters alone.
#[test]
fn the_methods_of_the_eighties_are_undone() {
    let Some(desk) = Desk::new() else { return };
    let text = r"
def bits(pairs):
    n = at = 0
    for value, width in pairs: n |= value << at; at += width
    return n.to_bytes((at + 7) // 8, 'little')
text = b'a stream of letters, nothing else\n' * 30
shrunk = bits((b, 9) for b in text)
reduced = bits([(0, 6)] * 256 + [(b, 8) for b in text])
imploded = b'\x03\xf5\xf5\xf5\xf5' * 2 + bits(p for b in text for p in ((1, 1), (b, 8)))
entries, out = b'', b''
for name, method, data in ((b'shrunk', 1, shrunk), (b'reduced', 2, reduced), (b'imploded', 6, imploded)):
    fields = struct.pack('<HHHHIIIHH', 0, method, 0, 0x21, zlib.crc32(text), len(data), len(text), len(name), 0)
    entries += b'PK\1\2' + struct.pack('<HH', 11, 11) + fields + bytes(10) + struct.pack('<I', len(out)) + name
    out += b'PK\3\4' + struct.pack('<H', 11) + fields + name + data
end = b'PK\5\6' + bytes(4) + struct.pack('<HHIIH', 3, 3, len(entries), len(out), 0)
open('old.zip', 'wb').write(out + entries + end)
open('text', 'wb').write(text)";
    run_python(&desk, &format!("{BEGIN}\n{text}"));
    let whole = fs::read(desk.path("old.zip")).unwrap();
    let wanted = Ok(fs::read(desk.path("text")).unwrap());
    let Read::Opened(files) = read_all(&Zip, "old.zip", whole.clone(), &[]) else { panic!("it does not open") };
    assert_eq!(files.len(), 3);
    assert!(files.iter().all(|(_, read)| *read == wanted), "{files:?}");
    for at in 0..whole.len() {
        let mut flipped = whole.clone();
        flipped[at] ^= 1 << (at % 8);
        if let Read::Opened(files) = read_all(&Zip, "old.zip", flipped, &[]) {
            let is_right = |read: &Result<Vec<u8>, Kind>| read.is_err() || *read == wanted;
            assert!(files.iter().all(|(_, read)| is_right(read)), "{at}: {files:?}");
        }
    }
}

#[test]
fn entries_that_quote_each_other_are_refused() {
    let Some(desk) = Desk::new() else { return };
    // All entries of the list lead to the same data, as in a bomb.
    script(&desk, "a.zip", "z.writestr('first', b'0' * 100000); z.writestr('second', b'1' * 10)");
    let text = "
z = open('a.zip', 'rb').read()
end = z.rindex(b'PK\\5\\6'); n, size, at = struct.unpack('<HII', z[end + 10:end + 20])
one = z[at:z.index(b'PK\\1\\2', at + 4)]; rest = z[at + len(one):end]
more = b''.join(one.replace(b'first', b'f%04d' % k) for k in range(1000))
end = z[end:end + 8] + struct.pack('<HHII', 1001, 1001, len(more) + len(rest), at) + b'\\0\\0'
open('b.zip', 'wb').write(z[:at] + more + rest + end)";
    run_python(&desk, &format!("{BEGIN}\n{text}"));
    let (code, said) = stderr(&desk, &["b.zip", "m"]);
    assert!(code == Some(0) && said.contains("of another one"), "{said}");
    assert_eq!(fs::read(desk.path("m/second")).unwrap(), b"1111111111");
    assert_eq!(fs::read(desk.path("m/f0500")).unwrap_err().raw_os_error(), Some(5));
    desk.umount();
    desk.ok(&["-o", "force", "b.zip", "m"]);
    assert_eq!(fs::read(desk.path("m/f0500")).unwrap().len(), 100_000);
    desk.umount();
}

#[test]
fn sizes_that_lie_are_errors() {
    let mut zip = made_small();
    let at = rfind(&zip, b"PK\x01\x02") + 24;
    for size in [0u32, 1, 5, 1 << 20, u32::MAX - 1] {
        zip[at..at + 4].copy_from_slice(&size.to_le_bytes());
        let read = read_all(&Zip, "a.zip", zip.clone(), &["secret"]);
        let Read::Opened(files) = read else { panic!("it opens: {read:?}") };
        assert!(files.iter().any(|(_, read)| matches!(read, Err(Kind::Damaged | Kind::Limit))), "{size}: {files:?}");
    }
}

#[test]
fn too_many_entries_are_refused() {
    let Some(desk) = Desk::new() else { return };
    script(&desk, "a.zip", "for n in range(2000): z.writestr(f'{n}', b'')");
    let (code, said) = stderr(&desk, &["--max-entries", "1000", "a.zip", "m"]);
    assert!(code == Some(31) && said.contains("max-entries"), "{code:?} {said}");
    desk.ok(&["--max-entries", "2000", "a.zip", "m"]);
    desk.umount();
}

// ---- sizes and sets ----

#[test]
fn more_than_65535_entries_and_zip64_are_read() {
    let Some(desk) = Desk::new() else { return };
    script(
        &desk,
        "a.zip",
        "for n in range(70000): z.writestr(f'{n % 100}/{n}', b'')\n\
         with z.open('wide', 'w', force_zip64=True) as f: f.write(b'w' * 70000)",
    );
    desk.ok(&["a.zip", "m"]);
    let count: usize = (0..100).map(|n| fs::read_dir(desk.path(&format!("m/{n}"))).unwrap().count()).sum();
    assert_eq!(count, 70_000);
    assert_eq!(fs::read(desk.path("m/wide")).unwrap(), vec![b'w'; 70_000]);
    desk.umount();
}

#[test]
fn a_split_archive_is_opened_by_any_of_its_files() {
    let Some(desk) = Desk::new() else { return };
    shell(
        &desk,
        "mkdir src; head -c 300000 /dev/urandom > src/noise; seq 50000 > src/text; (cd src && zip -qr -s 100k ../s.zip .)
         (cd src && zip -qr ../w.zip .); split -b 100000 -d -a 3 --numeric-suffixes=1 w.zip w.zip.; rm w.zip",
    );
    for name in ["s.zip", "s.z01", "s.z02", "w.zip.001", "w.zip.002"] {
        desk.ok(&[name, "m"]);
        for file in ["noise", "text"] {
            assert_eq!(fs::read(desk.path("m").join(file)).unwrap(), fs::read(desk.path("src").join(file)).unwrap());
        }
        desk.umount();
    }
    fs::remove_file(desk.path("s.z02")).unwrap();
    let (code, said) = stderr(&desk, &["s.zip", "m"]);
    assert!(code != Some(0) && said.contains("s.z02"), "{said}");
    let last = (1..9).rev().map(|n| desk.path(&format!("w.zip.00{n}"))).find(|path| path.exists()).unwrap();
    fs::remove_file(&last).unwrap();
    let (code, said) = stderr(&desk, &["w.zip.001", "m"]);
    assert!(code != Some(0) && said.contains(last.file_name().unwrap().to_str().unwrap()), "{said}");
}

#[test]
fn owners_and_times_are_those_of_unix() {
    let Some(desk) = Desk::new() else { return };
    shell(&desk, "echo x > f; touch -d '2003-04-05 06:07:09 UTC' f; chmod 4751 f; zip -q a.zip f");
    desk.ok(&["a.zip", "m"]);
    let (is, was) = (fs::metadata(desk.path("m/f")).unwrap(), fs::metadata(desk.path("f")).unwrap());
    assert_eq!((is.mtime(), is.mode(), is.uid(), is.gid()), (was.mtime(), was.mode(), was.uid(), was.gid()));
    desk.umount();
}

// ---- hostile ----

/// A small archive with all methods that tools here write.
fn made_small() -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let line = "seq 300 > text; cp text t2; cp text t3; cp text t4; ln -s text link; mkdir d; echo x > d/y; zip -qry a.zip d link text
        zip -q -P secret a.zip t2; zip -q -Z bzip2 a.zip t3; zip -q0 a.zip t4";
    let said = Command::new("bash").args(["-ec", line]).current_dir(dir.path()).output().unwrap();
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    fs::read(dir.path().join("a.zip")).unwrap()
}

fn rfind(bytes: &[u8], what: &[u8]) -> usize {
    bytes.windows(what.len()).rposition(|window| window == what).unwrap()
}

#[test]
fn nothing_that_is_cut_or_flipped_does_harm() {
    let zip = made_small();
    let Read::Opened(whole) = read_all(&Zip, "a.zip", zip.clone(), &["secret"]) else { panic!("it opens") };
    assert!(whole.iter().all(|(_, read)| read.is_ok()), "{whole:?}");
    reader::harm(&Zip, "a.zip", &zip, &["secret"], &whole, 2000);
}
