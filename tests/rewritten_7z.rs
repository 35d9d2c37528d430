//! 7z archives that take changes: what is not touched is copied bit by bit, what is encrypted stays so, and 7-Zip reads it.

#[allow(dead_code)]
mod common {
    pub mod dress;
    pub mod fs;
}

use common::fs::{Dump, Fs, Op, Ours, dump};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use stmount::cache::Cache;
use stmount::error::{Error, Kind};
use stmount::formats::{Reading, Upkeep, Volume};
use stmount::key::{OneKey, Secret};
use stmount::open::{self, Claim, How};
use stmount::vfs::{Policy, Rename, Vfs};

const PASSWORD: &str = "correct horse";

fn how(password: Option<&str>) -> How {
    let mut how = How::new(Cache::new(8 << 20));
    if let Some(password) = password {
        let keys = Arc::new(OneKey(Secret::new(password.as_bytes().to_vec())));
        how.reading = Arc::new(Reading { keys, ..Reading::default() });
    }
    how
}

fn claimed(path: &Path, password: Option<&str>) -> Result<Volume, Error> {
    open::open_claimed(path, &how(password), &Claim::default(), Upkeep::default(), true)
}

fn ours(path: &Path, password: Option<&str>) -> Ours {
    Ours::of(claimed(path, password).unwrap())
}

/// What a reader sees of the archive alone.
fn settled(path: &Path, password: Option<&str>) -> Dump {
    let volume = open::open_as(path, &how(password)).unwrap();
    dump(&Vfs::new(volume.tree, Policy::default()))
}

fn names(dump: &Dump) -> Vec<&str> {
    dump.keys().map(String::as_str).collect()
}

/// A folder, and what a line for the shell makes in it.
struct Desk(tempfile::TempDir);

impl Desk {
    fn new(lines: &[&str]) -> Self {
        let desk = Self(tempfile::tempdir().unwrap());
        lines.iter().for_each(|line| drop(desk.shell(line)));
        desk
    }

    fn shell(&self, line: &str) -> String {
        let done = Command::new("bash").args(["-ec", line]).current_dir(self.0.path()).output().unwrap();
        let told = String::from_utf8_lossy(&done.stderr).into_owned();
        assert!(done.status.success(), "{line}: {}{told}", String::from_utf8_lossy(&done.stdout));
        String::from_utf8_lossy(&done.stdout).into_owned()
    }

    fn archive(&self) -> PathBuf {
        self.0.path().join("a.7z")
    }

    fn bytes(&self) -> Vec<u8> {
        std::fs::read(self.archive()).unwrap()
    }

    /// Other programs have nothing to say against it.
    fn is_sound(&self, password: Option<&str>) {
        let secret = password.map_or_else(String::new, |password| format!("'-p{password}'"));
        self.shell(&format!("7z t -bso0 -bsp0 {secret} a.7z"));
        if password.is_none() {
            self.shell("bsdtar -tf a.7z");
        }
    }

    /// What 7-Zip tells of each entry.
    fn listed(&self, password: Option<&str>) -> BTreeMap<String, BTreeMap<String, String>> {
        let secret = password.map_or_else(String::new, |password| format!("'-p{password}'"));
        let told = self.shell(&format!("7z l -slt {secret} a.7z"));
        let entries = told.split_once("----------\n").unwrap().1.split("\n\n");
        let fields = |entry: &str| -> BTreeMap<String, String> {
            let fields = entry.lines().filter_map(|line| line.split_once(" = ").or(line.split_once(" =")));
            fields.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
        };
        let entries = entries.map(fields).filter(|fields| !fields.is_empty());
        entries.map(|fields| (fields["Path"].clone(), fields)).collect()
    }

    /// The packed bytes of each block, and the names of what is in it.
    fn blocks(&self, password: Option<&str>) -> Vec<(Vec<u8>, Vec<String>)> {
        let (listed, bytes) = (self.listed(password), self.bytes());
        let mut blocks: BTreeMap<usize, (usize, Vec<String>)> = BTreeMap::new();
        for (path, fields) in listed {
            let Ok(number) = fields["Block"].parse() else { continue };
            let block = blocks.entry(number).or_default();
            block.0 += fields["Packed Size"].parse().unwrap_or(0);
            block.1.push(path);
        }
        let mut at = 32;
        let block = |(_, (len, names)): (usize, (usize, Vec<String>))| {
            at += len;
            (bytes[at - len..at].to_vec(), names)
        };
        blocks.into_iter().map(block).collect()
    }
}

fn contains(bytes: &[u8], wanted: &[u8]) -> bool {
    memchr::memmem::find(bytes, wanted).is_some()
}

/// Files of which three make a block, in six blocks; and an empty one, an empty folder, a link.
const TREE: &str = "mkdir -p from/d from/void; cd from; for i in {10..27}; do seq ${i}00 3${i}0 | shuf --random-source=<(yes $i) >d/$i; done; \
                    : >empty; ln -s d/10 link; chmod 640 d/12; touch -d '2011-11-11 11:11:11.1234567' d/*";

fn edit(ours: &mut Ours, mark: &[u8]) {
    let ops = [
        Op::Write(vec!["d", "10"], 100, mark.to_vec()),
        Op::Unlink(vec!["d", "14"]),
        Op::Rename(vec!["d", "17"], vec!["moved"], Rename::Replace),
        Op::Chmod(vec!["d", "20"], 0o755),
        Op::Mtime(vec!["d", "21"], 1_234_567_890),
        Op::Create(vec!["void", "new"]),
        Op::Write(vec!["void", "new"], 0, mark.to_vec()),
    ];
    ops.iter().for_each(|op| ours.apply(op).unwrap());
}

/// What is expected of an archive after these edits.
fn edited(before: &Dump, mark: &[u8]) -> BTreeMap<String, Vec<u8>> {
    let files = before.iter().filter(|(_, seen)| seen.kind != stmount::tree::Kind::Directory);
    let mut contents: BTreeMap<_, _> = files.map(|(path, seen)| (path.clone(), seen.content.clone())).collect();
    contents.get_mut("/d/10").unwrap()[100..100 + mark.len()].copy_from_slice(mark);
    contents.remove("/d/14");
    let moved = contents.remove("/d/17").unwrap();
    contents.insert("/moved".into(), moved);
    contents.insert("/void/new".into(), mark.to_vec());
    contents
}

fn contents(dump: &Dump) -> BTreeMap<String, Vec<u8>> {
    let files = dump.iter().filter(|(_, seen)| seen.kind != stmount::tree::Kind::Directory);
    files.map(|(path, seen)| (path.clone(), seen.content.clone())).collect()
}

const MARK: &[u8] = b"nobody may see this in clear, says the test";

#[test]
fn of_blocks_only_those_with_changed_contents_are_packed_anew() {
    let desk = Desk::new(&[TREE, "cd from; 7z a -bso0 -bsp0 -ms=24k -mtc=on -mta=on ../a.7z ."]);
    let (before, blocks, listed) = (settled(&desk.archive(), None), desk.blocks(None), desk.listed(None));
    assert!(blocks.len() > 5, "{}", blocks.len());
    let mut ours_ = ours(&desk.archive(), None);
    edit(&mut ours_, MARK);
    ours_.vfs.settle().unwrap();
    assert_eq!(contents(&ours_.dump()), edited(&before, MARK));
    drop(ours_);
    desk.is_sound(None);
    let (after, now) = (settled(&desk.archive(), None), desk.bytes());
    assert_eq!(contents(&after), edited(&before, MARK));
    assert_eq!((after["/d/20"].mode, after["/d/12"].mode, after["/d/10"].mode), (0o755, 0o640, before["/d/10"].mode));
    let mut kept = 0;
    for (packed, names) in &blocks {
        let is_touched = names.iter().any(|name| name == "d/10" || name == "d/14");
        assert_eq!(contains(&now, packed), !is_touched, "{names:?}");
        kept += usize::from(!is_touched);
    }
    assert_eq!(kept, blocks.len() - 2);
    // Of the others all stays that 7-Zip tells, but for where they are.
    let (mut was, mut is) = (listed, desk.listed(None));
    assert_eq!(is["d/21"]["Modified"].split('.').next().map(str::len), Some(19));
    for gone in ["d/10", "d/14", "d/17", "d/20", "d/21", "d", "void", "moved", "void/new"] {
        was.remove(gone);
        is.remove(gone);
    }
    for fields in was.values_mut().chain(is.values_mut()) {
        for moved in ["Block", "Packed Size", "Offset", "Method"] {
            fields.remove(moved);
        }
    }
    assert!(was.values().all(|fields| fields.contains_key("Created")));
    assert_eq!(is, was);
    assert!(is["d/13"]["Modified"].contains("11:11:11.1234567"), "{:?}", is["d/13"]);
}

#[test]
fn names_and_attributes_alone_leave_every_block_as_it_is() {
    let desk = Desk::new(&[TREE, "cd from; 7z a -bso0 -bsp0 ../a.7z ."]);
    let before = desk.bytes();
    let [(packed, _)] = &desk.blocks(None)[..] else { panic!("it is solid") };
    let mut ours_ = ours(&desk.archive(), None);
    for op in [
        Op::Rename(vec!["d"], vec!["e"], Rename::Replace),
        Op::Chmod(vec!["e", "12"], 0o600),
        Op::Unlink(vec!["empty"]),
        Op::Mkdir(vec!["dir"]),
        Op::Create(vec!["dir", "empty"]),
    ] {
        ours_.apply(&op).unwrap();
    }
    ours_.vfs.settle().unwrap();
    drop(ours_);
    desk.is_sound(None);
    let now = desk.bytes();
    assert!(now[32..].starts_with(packed) && now.len() < before.len() + 200);
    let after = settled(&desk.archive(), None);
    assert_eq!((after["/e/12"].mode, after["/e/11"].content.len() > 1000), (0o600, true));
    assert!(after.contains_key("/dir/empty") && !after.contains_key("/empty") && !after.contains_key("/d"));
}

#[test]
fn what_is_encrypted_stays_so() {
    for (options, hides_names) in [("-mhe=on", true), ("", false), ("-mhc=off", false)] {
        let make = format!("cd from; 7z a -bso0 -bsp0 -ms=24k '-p{PASSWORD}' {options} ../a.7z .");
        let desk = Desk::new(&[TREE, &make]);
        let password = Some(PASSWORD);
        let (before, blocks) = (settled(&desk.archive(), password), desk.blocks(password));
        assert_eq!(claimed(&desk.archive(), None).err().unwrap().kind(), Kind::NeedsPassword);
        assert_eq!(claimed(&desk.archive(), Some("wrong")).err().unwrap().kind(), Kind::WrongPassword);
        let mut ours_ = ours(&desk.archive(), password);
        edit(&mut ours_, MARK);
        ours_.apply(&Op::Sync).unwrap();
        let journal = std::fs::read(desk.0.path().join("a.7z.stjournal")).unwrap();
        assert!(!contains(&journal, MARK) && !contains(&journal, b"moved") && !contains(&journal, &MARK[20..]));
        ours_.vfs.settle().unwrap();
        assert_eq!(contents(&ours_.dump()), edited(&before, MARK));
        // Once more, over what was written itself.
        ours_.apply(&Op::Write(vec!["void", "new"], 7, b"!".to_vec())).unwrap();
        ours_.vfs.settle().unwrap();
        drop(ours_);
        desk.is_sound(password);
        let (after, now) = (settled(&desk.archive(), password), desk.bytes());
        assert_eq!((after["/void/new"].content[7], after["/moved"].content.len() > 1000), (b'!', true));
        assert!(!contains(&now, MARK) && !contains(&now, &MARK[20..]));
        let moved: Vec<u8> = "moved".encode_utf16().flat_map(u16::to_le_bytes).collect();
        assert!(!contains(&now, &moved) || !hides_names);
        let kept = blocks.iter().filter(|(packed, _)| contains(&now, packed)).count();
        assert_eq!(kept, blocks.len() - 2);
        let listed = desk.listed(password);
        assert!(listed.values().all(|entry| entry["Encrypted"] == "+" || entry["Size"] == "0"), "{listed:?}");
        assert_eq!(settled_without(&desk), if hides_names { None } else { Some(after.len()) });
    }
}

/// How many entries are seen without a password, if the list can be read.
fn settled_without(desk: &Desk) -> Option<usize> {
    let how = How { reading: Arc::new(Reading { force: true, ..Reading::default() }), ..how(None) };
    let tree = open::open_as(&desk.archive(), &how).ok()?.tree;
    Some(tree.totals().unwrap().nodes as usize)
}

/// When all that was encrypted is gone, the list tells that what comes is to be encrypted.
#[test]
fn an_encrypted_archive_that_becomes_empty_is_still_encrypted() {
    let desk = Desk::new(&[&format!("seq 99 >f; 7z a -bso0 -bsp0 '-p{PASSWORD}' a.7z f")]);
    let mut ours_ = ours(&desk.archive(), Some(PASSWORD));
    ours_.apply(&Op::Unlink(vec!["f"])).unwrap();
    ours_.vfs.settle().unwrap();
    drop(ours_);
    desk.is_sound(Some(PASSWORD));
    assert_eq!(claimed(&desk.archive(), None).err().unwrap().kind(), Kind::NeedsPassword);
    let mut ours_ = ours(&desk.archive(), Some(PASSWORD));
    ours_.apply(&Op::Create(vec!["new"])).unwrap();
    ours_.apply(&Op::Write(vec!["new"], 0, MARK.to_vec())).unwrap();
    ours_.vfs.settle().unwrap();
    drop(ours_);
    desk.is_sound(Some(PASSWORD));
    assert!(!contains(&desk.bytes(), MARK));
    assert_eq!(settled(&desk.archive(), Some(PASSWORD))["/new"].content, MARK);
}

#[test]
fn archives_of_every_method_survive_an_edit() {
    const METHODS: &[&str] = &[
        "-m0=LZMA2",
        "-m0=LZMA",
        "-m0=PPMd",
        "-m0=BZip2",
        "-m0=Deflate",
        "-m0=Deflate64",
        "-m0=Copy",
        "-mf=BCJ2 -m0=LZMA",
        "-m0=BCJ -m1=LZMA2",
        "-m0=Delta:4 -m1=LZMA",
    ];
    for method in METHODS {
        let tree = "mkdir from; cd from; cp $(command -v ls) program; seq 20000 >a; seq 500 >b; seq 30000 40000 >c";
        // Solid, and so that the program and one other file stay in a block that nobody touches.
        let make =
            format!("cd from; 7z a -bso0 -bsp0 {method} ../a.7z a b c; 7z a -bso0 -bsp0 {method} ../a.7z program");
        let desk = Desk::new(&[tree, &make]);
        let (before, blocks) = (settled(&desk.archive(), None), desk.blocks(None));
        for round in 0..2 {
            let mut ours_ = ours(&desk.archive(), None);
            ours_.apply(&Op::Write(vec!["b"], 10, b"edited".to_vec())).unwrap();
            if round == 1 {
                ours_.apply(&Op::Write(vec!["program"], 10, b"edited".to_vec())).unwrap();
            }
            ours_.vfs.settle().unwrap();
            drop(ours_);
            desk.is_sound(None);
            let after = settled(&desk.archive(), None);
            assert_eq!(&after["/b"].content[10..16], b"edited", "{method}");
            for name in ["/a", "/c"] {
                assert!(after[name] == before[name], "{method}: {name}");
            }
            assert_eq!(after["/program"].content[16..], before["/program"].content[16..], "{method}");
            let is_kept = blocks.iter().any(|(packed, names)| names == &["program"] && contains(&desk.bytes(), packed));
            assert_eq!(is_kept, round == 0, "{method}");
        }
    }
}

/// What cannot be written as it was is refused before anything is changed.
#[test]
fn archives_that_are_not_whole_are_only_read() {
    const MAKERS: &[(&str, &str)] = &[
        ("behind a program", "(printf '#!/bin/sh\\nexit\\n'; cat b.7z) >a.7z"),
        ("with something behind it", "(cat b.7z; printf more) >a.7z"),
        ("cut off by its writer", "(head -c 8 b.7z; head -c 24 /dev/zero; tail -c +33 b.7z) >a.7z"),
        ("in pieces", "7z a -bso0 -bsp0 -v1k -mx0 a.7z from && mv a.7z.001 a.7z.1"),
    ];
    for (what, make) in MAKERS {
        let desk =
            Desk::new(&["mkdir from; seq 9999 >from/f; seq 99 >from/g; 7z a -bso0 -bsp0 -mhc=off b.7z from", make]);
        let path = desk.0.path().join(if *what == "in pieces" { "a.7z.1" } else { "a.7z" });
        let before = std::fs::read(&path).unwrap();
        let e = claimed(&path, None).err().unwrap_or_else(|| panic!("{what}: it can be changed"));
        assert_eq!(e.kind(), Kind::ReadOnly, "{what}: {e}");
        assert_eq!(std::fs::read(&path).unwrap(), before, "{what}");
    }
}

/// Several files of one name, names that are shown otherwise, folders without an entry: each is shown as it was.
#[test]
fn what_is_shown_under_another_name_keeps_it() {
    use sevenz_rust2::{ArchiveEntry, ArchiveWriter};
    let desk = Desk::new(&[]);
    let mut writer = ArchiveWriter::create(desk.archive()).unwrap();
    for (name, content) in
        [("a", "1"), ("a", "2"), ("a", "3"), ("../up", "4"), ("/etc/x", "5"), ("d/e/f", "6"), ("a/b", "7")]
    {
        writer.push_archive_entry(ArchiveEntry::new_file(name), Some(content.as_bytes())).unwrap();
    }
    writer.finish().unwrap();
    desk.is_sound(None);
    let before = settled(&desk.archive(), None);
    let stored = desk.listed(None);
    let mut ours_ = ours(&desk.archive(), None);
    ours_.apply(&Op::Unlink(vec!["a (1)"])).unwrap();
    ours_.apply(&Op::Unlink(vec!["d", "e", "f"])).unwrap();
    ours_.vfs.settle().unwrap();
    drop(ours_);
    let after = settled(&desk.archive(), None);
    let mut want: Vec<&str> = names(&before);
    want.retain(|name| !["/a (1)", "/d/e/f"].contains(name));
    assert_eq!(names(&after), want);
    want.retain(|name| after[*name].kind == stmount::tree::Kind::File);
    want.iter().for_each(|name| assert_eq!(after[*name].content, before[*name].content, "{name}"));
    // What nobody has touched keeps the name that it has in the archive.
    let now = desk.listed(None);
    assert!(stored.contains_key("../up") && now.contains_key("../up"), "{:?}", now.keys());
    desk.is_sound(None);
}
