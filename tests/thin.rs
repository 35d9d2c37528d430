//! Thin containers, whose segments lie in other containers or in a store of objects: whatever becomes of these, what is
//! shown is what was packed, or an error that names what is missing.

#[path = "common/desk.rs"]
mod desk;
#[path = "common/dice.rs"]
mod dice;
#[path = "common/dress.rs"]
mod dress;
#[path = "common/listing.rs"]
mod listing;
#[path = "common/verbs.rs"]
mod verbs;
#[path = "common/web.rs"]
mod web;

use desk::Desk;
use dice::Dice;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use stmount::source::objects::{FolderObjects, Hold, Objects};
use verbs::{assert_holds, assert_same, ends, len, noise, said};
use web::Web;

const USAGE: i32 = 1;
const LOCKED: i32 = 11;
const UNSUPPORTED: i32 = 33;
const MISSING: i32 = 34;
const DAMAGED: i32 = 50;

fn text(lines: usize, seed: u64) -> Vec<u8> {
    let mut dice = Dice(seed);
    let mut text = String::new();
    for _ in 0..lines {
        text.push_str(&format!("the engine draws {} triangles in {} ms\n", dice.below(9000), dice.below(90)));
    }
    text.into_bytes()
}

/// A desk with an engine in `lib` and a game in `game` that has most of it, and more.
fn desk() -> Option<Desk> {
    if dress::is_sealed() {
        println!("not of containers that are sealed: nothing can be packed over those");
        return None;
    }
    let desk = Desk::new()?;
    desk.has_own_cache();
    for dir in ["lib/data", "game/engine/data", "game/levels"] {
        fs::create_dir_all(desk.path(dir)).unwrap();
    }
    let (engine, words) = (noise(1_500_000, 1), text(30_000, 2));
    for dir in ["lib", "game/engine"] {
        fs::write(desk.path(dir).join("engine.bin"), &engine).unwrap();
        fs::write(desk.path(dir).join("data/words.txt"), &words).unwrap();
        fs::write(desk.path(dir).join("small.cfg"), "width=3\n".repeat(100)).unwrap();
    }
    // A part of the engine inside of something else, and what is in no base.
    let patched = [&noise(70_000, 3)[..], &engine[200_000..900_000], &noise(10_000, 4)].concat();
    fs::write(desk.path("game/levels/patched.bin"), patched).unwrap();
    fs::write(desk.path("game/levels/one.map"), noise(200_000, 5)).unwrap();
    fs::write(desk.path("game/readme"), "read me\n").unwrap();
    Some(desk)
}

fn info(desk: &Desk, args: &[&str]) -> serde_json::Value {
    serde_json::from_str(&desk.ok(&[&["info", "--json"], args].concat())).unwrap()
}

/// Where its bases were found.
fn found(desk: &Desk, args: &[&str]) -> Vec<Option<String>> {
    let told = info(desk, args);
    let bases = told["bases"].as_array().unwrap();
    bases.iter().map(|base| base["found"].as_str().map(str::to_owned)).collect()
}

fn objects(desk: &Desk, store: &str) -> Vec<PathBuf> {
    let dirs = fs::read_dir(desk.path(store)).unwrap().map(|entry| entry.unwrap().path());
    let dirs = dirs.filter(|dir| dir.is_dir() && dir.file_name().unwrap().len() == 2);
    let mut all: Vec<_> = dirs.flat_map(|dir| fs::read_dir(dir).unwrap().map(|e| e.unwrap().path())).collect();
    all.sort();
    all
}

// ---- over a container -------------------------------------------------------------------------------------------------

#[test]
fn what_a_base_holds_is_left_out_and_read_from_it() {
    let Some(desk) = desk() else { return };
    for ways in [&["-1"][..], &["-3", "--segment", "64K"], &["-6"], &["-7"], &["-9"], &["-3", "--segment", "chunk"]] {
        desk.ok(&[&["pack", "-q", "-f"], ways, &["lib", "lib.st"]].concat());
        let words = ends(&desk, &[&["pack", "-f", "--base", "lib.st"], ways, &["game", "game.st"]].concat(), 0);
        assert!(words.contains("left out: it lies in its bases"), "{words}");
        let thin = len(&desk, "game.st");
        assert!((280_000..480_000).contains(&thin), "{ways:?}: {thin} bytes, and about 280 KB are in no base");
        assert_holds(&desk, &["game.st"], "game");
        desk.ok(&["check", "-q", "game.st"]);
        let (thin, lib) = (desk.path("game.st"), desk.path("lib.st"));
        let args = |verb: &'static str| [Path::new(verb), &thin, Path::new("--base"), &lib].map(Path::to_owned);
        let told = args("list");
        let told = listing::say("st_ref.py", &told.each_ref().map(|arg| &**arg));
        desk.ok(&["pack", "-q", "-f", "-1", "game", "whole.st"]);
        let whole = listing::say("st_ref.py", &[Path::new("list"), &desk.path("whole.st")]);
        assert!(told == whole, "{ways:?}: the other reader does not agree");
        let check = args("check");
        listing::say("st_ref.py", &check.each_ref().map(|arg| &**arg));
    }
}

#[test]
fn the_same_folder_over_the_same_base_gives_the_same_bytes() {
    let Some(desk) = desk() else { return };
    if !dress::only_plain("what is sealed or signed is not the same twice") {
        return;
    }
    desk.ok(&["pack", "-q", "lib", "lib.st"]);
    desk.ok(&["pack", "-q", "--base", "lib.st", "game", "a1.st"]);
    desk.ok(&["pack", "-q", "-j", "1", "--base", "lib.st", "game", "a2.st"]);
    assert!(fs::read(desk.path("a1.st")).unwrap() == fs::read(desk.path("a2.st")).unwrap());
}

#[test]
fn several_bases_lie_side_by_side() {
    let Some(desk) = desk() else { return };
    desk.ok(&["pack", "-q", "lib", "lib.st"]);
    desk.ok(&["pack", "-q", "game/levels", "levels.st"]);
    desk.ok(&["pack", "-q", "--base", "lib.st", "--base", "levels.st", "game", "game.st"]);
    assert!(len(&desk, "game.st") < 20_000, "nothing but the names is left");
    assert_eq!(found(&desk, &["game.st"]).len(), 2);
    assert_holds(&desk, &["game.st"], "game");
    // A base that is thin itself serves with what is its own.
    fs::write(desk.path("game/more.bin"), noise(400_000, 9)).unwrap();
    desk.ok(&["pack", "-q", "--base", "lib.st", "game", "middle.st"]);
    desk.ok(&["pack", "-q", "--base", "middle.st", "game", "top.st"]);
    assert_holds(&desk, &["top.st"], "game");
    fs::remove_file(desk.path("lib.st")).unwrap();
    assert_holds(&desk, &["top.st"], "game");
}

#[test]
fn a_base_is_found_by_its_name_beside_the_file_in_folders_and_by_its_hint() {
    let Some(desk) = desk() else { return };
    fs::create_dir_all(desk.path("libs")).unwrap();
    fs::create_dir_all(desk.path("far/away")).unwrap();
    desk.ok(&["pack", "-q", "lib", "libs/lib.st"]);
    desk.ok(&["pack", "-q", "--base", "libs/lib.st", "game", "game.st"]);
    let at = |place: Option<String>| place.map(|place| fs::canonicalize(desk.path(".").join(place)).unwrap());
    let here = |args: &[&str]| at(found(&desk, args).remove(0));
    // By the hint: the way from the one to the other.
    assert_eq!(here(&["game.st"]), Some(desk.path("libs/lib.st")));
    // Both moved together.
    fs::rename(desk.path("libs"), desk.path("far/away/libs")).unwrap();
    fs::rename(desk.path("game.st"), desk.path("far/away/game.st")).unwrap();
    assert_eq!(here(&["far/away/game.st"]), Some(desk.path("far/away/libs/lib.st")));
    // Under another name beside the file, told by its identity among others.
    fs::rename(desk.path("far/away/libs/lib.st"), desk.path("far/away/z.st")).unwrap();
    desk.ok(&["pack", "-q", "game", "far/away/another.st"]);
    fs::write(desk.path("far/away/broken.st"), "no container").unwrap();
    assert_eq!(here(&["far/away/game.st"]), Some(desk.path("far/away/z.st")));
    // Where somebody says, as a file or as a folder.
    fs::rename(desk.path("far/away/z.st"), desk.path("lib/hidden.st")).unwrap();
    assert_eq!(found(&desk, &["far/away/game.st"]), [None]);
    assert_eq!(here(&["--base", "lib/hidden.st", "far/away/game.st"]), Some(desk.path("lib/hidden.st")));
    assert_eq!(here(&["--base", "lib", "far/away/game.st"]), Some(desk.path("lib/hidden.st")));
    let mut program = Command::new(env!("CARGO_BIN_EXE_stmount"));
    let args = dress::command(&mut program, &["check", "-q", "far/away/game.st"]);
    let folders = std::env::join_paths([desk.path("libs"), desk.path("lib")]).unwrap();
    let done = program.args(args).current_dir(desk.path(".")).env("STMOUNT_BASES", folders).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

#[test]
fn without_its_base_some_files_are_an_error_and_all_others_are_there() {
    let Some(desk) = desk() else { return };
    desk.ok(&["pack", "-q", "lib", "lib.st"]);
    // From level 4 on more files need it: what lies in one segment with something that resembles what is in the base.
    desk.ok(&["pack", "-q", "-3", "--base", "lib.st", "game", "game.st"]);
    desk.ok(&["game.st", "m"]);
    assert_same(&desk, "m", "game");
    desk.umount();
    fs::create_dir(desk.path("elsewhere")).unwrap();
    fs::rename(desk.path("lib.st"), desk.path("elsewhere/lib.st")).unwrap();
    desk.ok(&["game.st", "m"]);
    let lost = fs::read(desk.path("m/engine/engine.bin")).unwrap_err();
    assert_eq!(lost.raw_os_error(), Some(5), "EIO: {lost}");
    assert_eq!(fs::read(desk.path("m/levels/one.map")).unwrap(), noise(200_000, 5));
    assert_eq!(fs::read_to_string(desk.path("m/readme")).unwrap(), "read me\n");
    assert_eq!(fs::read_dir(desk.path("m/engine")).unwrap().count(), 3, "names and sizes are its own");
    desk.umount();

    let words = ends(&desk, &["check", "game.st"], MISSING);
    for told in ["the container lib.st (", "is not there", "engine/engine.bin: ", "levels/patched.bin: ", "files lack"]
    {
        assert!(words.contains(told), "{told:?} is not in: {words}");
    }
    assert!(!words.contains("one.map") && !words.contains("readme"), "{words}");
    let words = ends(&desk, &["cat", "game.st:engine/engine.bin"], MISSING);
    assert!(words.contains("the container lib.st (") && words.contains("--base"), "{words}");
    assert!(desk.ok(&["info", "game.st"]).contains("NOT FOUND"));

    desk.ok(&["-o", "base=elsewhere/lib.st", "game.st", "m"]);
    assert_same(&desk, "m", "game");
    desk.umount();
    desk.ok(&["--base", "elsewhere", "game.st", "m"]);
    assert_same(&desk, "m", "game");
    desk.umount();
}

#[test]
fn a_base_that_is_damaged_or_another_one_shows_nothing_wrong() {
    let Some(desk) = desk() else { return };
    if !dress::only_plain("who seals or mends it meets other errors") {
        return;
    }
    desk.ok(&["pack", "-q", "-1", "lib", "lib.st"]);
    desk.ok(&["pack", "-q", "-1", "--base", "lib.st", "game", "game.st"]);
    let whole = fs::read(desk.path("lib.st")).unwrap();
    for at in (5_000..whole.len() - 5_000).step_by(whole.len() / 6) {
        let mut damaged = whole.clone();
        damaged[at..at + 4_000].iter_mut().for_each(|byte| *byte ^= 0x55);
        fs::write(desk.path("lib.st"), damaged).unwrap();
        let (code, _) = said(&desk, &["unpack", "-q", "-C", "out", "game.st"]);
        assert_ne!(code, 0, "damage at {at} passed");
        for file in ["engine/engine.bin", "engine/data/words.txt", "engine/small.cfg", "levels/patched.bin"] {
            let (there, is) = (desk.path("out").join(file), desk.path("game").join(file));
            if there.exists() && fs::metadata(&there).unwrap().len() == fs::metadata(&is).unwrap().len() {
                assert!(fs::read(there).unwrap() == fs::read(is).unwrap(), "{file} is wrong");
            }
        }
        let _ = fs::remove_dir_all(desk.path("out"));
    }
    // Another container that calls itself the same.
    let mut other = fs::read(desk.path("game.st")).unwrap();
    other[16..32].copy_from_slice(&whole[16..32]);
    let hash = blake3::hash(&other[..4064]);
    other[4064..4096].copy_from_slice(hash.as_bytes());
    fs::write(desk.path("lib.st"), other).unwrap();
    let words = ends(&desk, &["cat", "game.st:engine/small.cfg"], MISSING);
    assert!(words.contains("lib.st"), "{words}");
}

#[test]
fn a_base_that_grew_and_gave_space_back_still_serves() {
    let Some(desk) = desk() else { return };
    desk.ok(&["pack", "-q", "lib", "a.st", "-f"]);
    desk.ok(&["pack", "-q", "--base", "a.st", "game", "game.st"]);
    desk.mount_with("slack=0,keep-last=1,keep-hourly=0,keep-daily=0,keep-weekly=0,keep-monthly=0,commit=200ms");
    for round in 0..20u64 {
        fs::write(desk.path("m/new.bin"), noise(100_000, 100 + round)).unwrap();
        desk.ok(&["sync", "m"]);
    }
    desk::until("space is given back", || len(&desk, "a.st") < 4_500_000);
    desk.umount();
    assert_holds(&desk, &["--base", "a.st", "game.st"], "game");
}

#[test]
fn parity_of_a_base_makes_it_good_for_what_lies_over_it() {
    let Some(desk) = desk() else { return };
    if !dress::only_plain("a base is one in clear") {
        return;
    }
    desk.ok(&["pack", "-q", "-1", "--parity", "10%", "lib", "lib.st"]);
    desk.ok(&["pack", "-q", "-1", "--base", "lib.st", "game", "game.st"]);
    let base = File::options().write(true).open(desk.path("lib.st")).unwrap();
    base.write_all_at(&[0x77; 3000], 300_000).unwrap();
    assert_holds(&desk, &["game.st"], "game");
}

/// Written by hand: its only segment lies in a container with its own identity.
const OVER_ITSELF: &str = r#"
import struct, sys
from st_craft import Writer, meta, name, node, root
w = Writer()
row = w.segment(4096, bytes(100), store=1, at=int(sys.argv[2]))
base = bytes([1, 0, 0, 0]) + w.uid + struct.pack("<Q", 0)
w.table([root(), name(1, b"file", 2), node(2, size=100, extents=[(4096, 100)]), row, meta(b"store/1", base)])
w.commit(totals=(2, 100), incompat=2)
open(sys.argv[1], "wb").write(w.data)
"#;

#[test]
fn a_container_that_lies_over_itself_leads_nowhere() {
    let Some(desk) = desk() else { return };
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    for (place, is_there) in [("4096", true), ("4160", false), ("1000000000", false)] {
        let made = Command::new(listing::python())
            .args(["-B", "-c", OVER_ITSELF])
            .args([desk.path("circle.st").as_os_str(), place.as_ref()])
            .env("PYTHONPATH", &tests)
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let (code, words) = said(&desk, &["check", "circle.st"]);
        assert_eq!(code, if is_there { 0 } else { MISSING }, "{place}: {words}");
    }
}

// ---- what is done to a thin container ---------------------------------------------------------------------------------

/// A thin container `a.st` over `lib.st` that was written to: some states, with names.
fn written(desk: &Desk) {
    desk.ok(&["pack", "-q", "-f", "lib", "lib.st"]);
    desk.ok(&["pack", "-q", "-f", "--base", "lib.st", "game", "a.st"]);
    desk.mount();
    desk.ok(&["snapshot", "m", "first"]);
    fs::write(desk.path("m/own.bin"), noise(300_000, 20)).unwrap();
    let file = File::options().write(true).open(desk.path("m/engine/engine.bin")).unwrap();
    file.write_all_at(b"a few bytes in the middle", 700_000).unwrap();
    file.write_all_at(&noise(200_000, 21), 100_000).unwrap();
    drop(file);
    fs::copy(desk.path("m/engine/data/words.txt"), desk.path("m/words-again.txt")).unwrap();
    fs::rename(desk.path("m/levels/patched.bin"), desk.path("m/patched.bin")).unwrap();
    desk.ok(&["snapshot", "m", "second"]);
    fs::remove_file(desk.path("m/engine/small.cfg")).unwrap();
    desk.umount();
}

/// What its states hold, as listings of the other reader or of this one.
fn states(desk: &Desk, name: &str, base: &[&str]) -> Vec<String> {
    let mut all = Vec::new();
    for state in ["", "@first", "@second"] {
        let _ = fs::remove_dir_all(desk.path("out"));
        desk.ok(&[&["unpack", "-q", "-C", "out"], base, &[&format!("{name}{state}")]].concat());
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/os_list.py");
        let out = Command::new(listing::python()).arg("-B").arg(script).arg(desk.path("out")).output().unwrap();
        assert!(out.status.success());
        all.push(String::from_utf8(out.stdout).unwrap());
    }
    fs::remove_dir_all(desk.path("out")).unwrap();
    all
}

#[test]
fn a_thin_container_takes_writes_and_stays_thin() {
    let Some(desk) = desk() else { return };
    written(&desk);
    assert!(len(&desk, "a.st") < 1_500_000, "what it lies over was not stored again");
    let mut expected = fs::read(desk.path("game/engine/engine.bin")).unwrap();
    expected[700_000..700_025].copy_from_slice(b"a few bytes in the middle");
    expected[100_000..300_000].copy_from_slice(&noise(200_000, 21));
    assert!(desk.say(&["cat", "a.st:engine/engine.bin"]).stdout == expected);
    assert_holds(&desk, &["a.st@first"], "game");
    desk.ok(&["check", "-q", "a.st"]);
    let told = [Path::new("check"), &desk.path("a.st"), Path::new("--base"), &desk.path("lib.st")].map(Path::to_owned);
    if dress::wanted() == dress::As::Plain {
        listing::say("st_ref.py", &told.each_ref().map(|arg| &**arg));
    }
}

#[test]
fn a_thin_container_takes_writes_where_its_base_is_not_there() {
    let Some(desk) = desk() else { return };
    written(&desk);
    fs::rename(desk.path("lib.st"), desk.path("lib/lib.st")).unwrap();
    desk.mount();
    // Into the middle of what cannot be read, as much as would be cut anew from before it.
    let file = File::options().write(true).open(desk.path("m/engine/data/words.txt")).unwrap();
    file.write_all_at(&noise(300_000, 30), 400_000).unwrap();
    drop(file);
    fs::write(desk.path("m/written.txt"), "without the base\n").unwrap();
    desk.ok(&["sync", "m"]);
    desk.umount();
    let mut expected = fs::read(desk.path("game/engine/data/words.txt")).unwrap();
    expected[400_000..700_000].copy_from_slice(&noise(300_000, 30));
    assert!(desk.say(&["cat", "--base", "lib", "a.st:engine/data/words.txt"]).stdout == expected);
    assert_eq!(desk.ok(&["cat", "a.st:written.txt"]), "without the base\n");
}

#[test]
fn what_is_packed_anew_lies_over_the_same_base_and_needs_it_not_for_that() {
    let Some(desk) = desk() else { return };
    written(&desk);
    let before = states(&desk, "a.st", &[]);
    fs::rename(desk.path("lib.st"), desk.path("lib/lib.st")).unwrap();
    for level in ["-1", "-9", "-7"] {
        desk.ok(&["compact", "-q", level, "a.st"]);
        assert!(len(&desk, "a.st") < 1_500_000, "it stays thin");
        assert_eq!(states(&desk, "a.st", &["--base", "lib"]), before, "{level}");
    }
    desk.ok(&["check", "-q", "--base", "lib", "a.st"]);
    // It goes on taking writes.
    desk.mount();
    fs::write(desk.path("m/later"), noise(100_000, 40)).unwrap();
    desk.umount();
    assert!(desk.say(&["cat", "a.st:later"]).stdout == noise(100_000, 40));
    desk.ok(&["check", "-q", "--base", "lib", "a.st"]);
}

#[test]
fn space_is_given_back_and_what_lies_over_the_base_stays() {
    let Some(desk) = desk() else { return };
    written(&desk);
    desk.mount_with("slack=0,keep-last=1,keep-hourly=0,keep-daily=0,keep-weekly=0,keep-monthly=0,commit=200ms");
    for round in 0..20u64 {
        fs::write(desk.path("m/own.bin"), noise(200_000, 50 + round)).unwrap();
        desk.ok(&["sync", "m"]);
    }
    desk::until("space is given back", || len(&desk, "a.st") < 3_000_000);
    desk.umount();
    desk.ok(&["check", "-q", "a.st"]);
    assert_holds(&desk, &["a.st@first"], "game");
}

#[test]
fn fat_makes_it_whole_with_all_its_states() {
    let Some(desk) = desk() else { return };
    written(&desk);
    let before = states(&desk, "a.st", &[]);
    desk.ok(&["fat", "-q", "a.st", "fat.st"]);
    let (log, of_fat) = (desk.ok(&["log", "a.st"]), desk.ok(&["log", "fat.st"]));
    assert!(log.lines().all(|line| of_fat.contains(line)), "{log}{of_fat}");
    fs::remove_file(desk.path("lib.st")).unwrap();
    desk.ok(&["check", "-q", "fat.st"]);
    assert_eq!(states(&desk, "fat.st", &[]), before);
    assert!(found(&desk, &["fat.st"]).is_empty());
    let words = ends(&desk, &["fat", "fat.st", "again.st"], USAGE);
    assert!(words.contains("it is whole"), "{words}");
    // Without the base there is nothing to make it whole with.
    let words = ends(&desk, &["fat", "a.st", "no.st"], MISSING);
    assert!(words.contains("the container lib.st ("), "{words}");
    assert!(!desk.path("no.st").exists());
}

#[test]
fn a_thin_container_is_recovered_as_any_other() {
    let Some(desk) = desk() else { return };
    if !dress::only_plain("what is sealed has keys where this writes") {
        return;
    }
    written(&desk);
    fs::copy(desk.path("a.st"), desk.path("sound.st")).unwrap();
    let whole = fs::read(desk.path("a.st")).unwrap();
    // The header; then the header and the last commit.
    for end in [whole.len(), whole.len() - 200] {
        let mut bytes = whole[..end].to_vec();
        bytes[..4096].fill(0);
        fs::write(desk.path("a.st"), &bytes).unwrap();
        let (code, words) = said(&desk, &["recover", "a.st"]);
        assert!(matches!(code, 0 | 3 | 51), "{code}: {words}");
        // What is left of a commit that was cut off belongs to nothing.
        let (code, words) = said(&desk, &["check", "a.st"]);
        assert!(matches!(code, 0 | 3), "{code}: {words}");
        assert_holds(&desk, &["a.st@first"], "game");
        let header = fs::read(desk.path("a.st")).unwrap()[32..40].to_vec();
        assert_eq!(header, 2u64.to_le_bytes(), "that it is thin stands in its new header");
    }
}

#[test]
fn a_thin_container_in_volumes_is_one() {
    let Some(desk) = desk() else { return };
    desk.ok(&["pack", "-q", "lib", "lib.st"]);
    desk.ok(&["pack", "-q", "--volume-size", "64K", "--base", "lib.st", "game", "v.st"]);
    assert_holds(&desk, &["v.st.001"], "game");
    // And so is a base.
    desk.ok(&["pack", "-q", "--volume-size", "300K", "lib", "parts.st"]);
    desk.ok(&["pack", "-q", "--base", "parts.st.001", "game", "over.st"]);
    assert!(len(&desk, "over.st") < 480_000);
    assert_holds(&desk, &["over.st"], "game");
}

#[test]
fn what_cannot_be_done_is_refused_and_says_why() {
    let Some(desk) = desk() else { return };
    desk.ok(&["pack", "-q", "lib", "lib.st"]);
    desk.ok(&["pack", "-q", "-f", "--base", "lib.st", "game", "a.st"]);
    let words = ends(&desk, &["pack", "--force", "--base", "lib.st", "game", "lib.st"], USAGE);
    assert!(words.contains("its own base"), "{words}");
    let words = ends(&desk, &["pack", "--append", "--base", "lib.st", "lib", "a.st"], USAGE);
    assert!(words.contains("--append"), "{words}");
    let words = ends(&desk, &["pack", "--base", "lib", "game", "x.st"], USAGE);
    assert!(words.contains("no store"), "{words}");
    ends(&desk, &["pack", "--base", "nowhere.st", "game", "x.st"], 10);
    desk.ok(&["pack", "-q", "lib", "lib.zip"]);
    let words = ends(&desk, &["pack", "--base", "lib.zip", "game", "x.st"], UNSUPPORTED);
    assert!(words.contains("only a .st"), "{words}");
    if dress::wanted() == dress::As::Plain {
        fs::write(desk.path("pass"), "word\n").unwrap();
        let words = ends(&desk, &["rekey", "--encrypt=pass", "a.st"], UNSUPPORTED);
        assert!(words.contains("stmount fat"), "{words}");
        desk.ok(&["check", "-q", "a.st"]);
        desk.ok(&["pack", "-q", "--encrypt=pass", "lib", "sealed.st"]);
        let args = ["pack", "--password-file", "pass", "--base", "sealed.st", "game", "x.st"];
        let words = ends(&desk, &args, UNSUPPORTED);
        assert!(words.contains("sealed"), "{words}");
    }
    assert!(!desk.path("x.st").exists());
}

#[test]
fn a_sealed_container_over_a_base_in_clear_tells_nothing_of_what_it_uses() {
    let Some(desk) = desk() else { return };
    if !dress::only_plain("a base is one in clear") {
        return;
    }
    fs::write(desk.path("pass"), "word\n").unwrap();
    desk.ok(&["pack", "-q", "lib", "lib.st"]);
    desk.ok(&["pack", "-q", "--encrypt=pass", "--base", "lib.st", "game", "game.st"]);
    assert!(len(&desk, "game.st") < 500_000, "{}", len(&desk, "game.st"));
    let word = ["--password-file", "pass"];
    assert_holds(&desk, &[&word[..], &["game.st"]].concat(), "game");
    desk.ok(&[&["check", "-q"], &word[..], &["game.st"]].concat());
    let (bytes, base) = (fs::read(desk.path("game.st")).unwrap(), fs::read(desk.path("lib.st")).unwrap());
    let has = |what: &[u8]| bytes.windows(what.len()).any(|window| window == what);
    assert!(!has(&base[16..32]) && !has(b"lib.st"), "which base it is stands in what is sealed");
    // Nor does the hash of any segment of it.
    let magic = b"\xabSTR\x02";
    let heads = base.windows(5).enumerate().filter(|(at, window)| at % 64 == 0 && window == magic);
    assert!(heads.map(|(at, _)| &base[at + 48..at + 80]).all(|hash| !has(hash)));
    let told = [Path::new("check"), &desk.path("game.st"), Path::new("--base"), &desk.path("lib.st")];
    let pass = desk.path("pass");
    listing::say("st_ref.py", &[&told[..], &[Path::new("--password-file"), &pass]].concat());
    // Packed anew, and made whole, it stays sealed.
    desk.ok(&[&["compact", "-q"], &word[..], &["game.st"]].concat());
    assert_holds(&desk, &[&word[..], &["game.st"]].concat(), "game");
    desk.ok(&[&["fat", "-q"], &word[..], &["game.st", "fat.st"]].concat());
    fs::remove_file(desk.path("lib.st")).unwrap();
    assert_holds(&desk, &[&word[..], &["fat.st"]].concat(), "game");
    ends(&desk, &["ls", "--no-prompt", "fat.st"], 20);
}

#[test]
fn a_reader_that_knows_no_bases_refuses_it() {
    let Some(desk) = desk() else { return };
    if !dress::only_plain("the bits of what is sealed are others") {
        return;
    }
    desk.ok(&["pack", "-q", "lib", "lib.st"]);
    desk.ok(&["pack", "-q", "--base", "lib.st", "game", "game.st"]);
    let bytes = fs::read(desk.path("game.st")).unwrap();
    assert_eq!(bytes[32..40], 2u64.to_le_bytes(), "bit 1 of incompat");
    let lib = fs::read(desk.path("lib.st")).unwrap();
    assert_eq!(lib[32..40], [0; 8], "and no bit in what needs nothing");
    let told = listing::run("st_ref.py", &[Path::new("check"), &desk.path("game.st")]);
    let words = String::from_utf8_lossy(&told.stderr).into_owned();
    assert!(!told.status.success() && words.contains("it is thin, and needs the container"), "{words}");
}

// ---- over a store -----------------------------------------------------------------------------------------------------

#[test]
fn a_container_that_is_added_to_a_store_becomes_thin_and_stays_what_it_is() {
    let Some(desk) = desk() else { return };
    for level in ["-1", "-7", "-9"] {
        let _ = fs::remove_dir_all(desk.path("store"));
        desk.ok(&["store", "init", "store"]);
        written(&desk);
        desk.ok(&["fat", "-q", "--overwrite", level, "a.st", "a.st"]);
        let (before, size) = (states(&desk, "a.st", &[]), len(&desk, "a.st"));
        desk.ok(&["store", "add", "-q", "store", "a.st"]);
        assert!(len(&desk, "a.st") < size / 20, "{} of {size}", len(&desk, "a.st"));
        desk.ok(&["check", "-q", "a.st"]);
        assert_eq!(states(&desk, "a.st", &[]), before, "{level}");
        let there = objects(&desk, "store");
        for object in &there {
            let name = object.file_name().unwrap().to_str().unwrap();
            let hash = blake3::hash(&fs::read(object).unwrap()).to_hex();
            assert_eq!(
                (name, &name[..2]),
                (hash.as_str(), object.parent().unwrap().file_name().unwrap().to_str().unwrap())
            );
        }
        // Once more brings nothing new.
        desk.ok(&["store", "add", "-q", "store", "a.st"]);
        assert_eq!(objects(&desk, "store"), there);
        // It takes writes, and those can be brought there as well.
        desk.mount();
        fs::write(desk.path("m/later"), noise(100_000, 40)).unwrap();
        desk.umount();
        desk.ok(&["store", "add", "-q", "store", "a.st"]);
        assert!(objects(&desk, "store").len() > there.len());
        assert!(desk.say(&["cat", "a.st:later"]).stdout == noise(100_000, 40));
        desk.ok(&["fat", "-q", "a.st", "--overwrite", "whole.st"]);
        fs::remove_dir_all(desk.path("store")).unwrap();
        assert!(desk.say(&["cat", "whole.st:later"]).stdout == noise(100_000, 40));
        ends(&desk, &["check", "-q", "a.st"], MISSING);
    }
}

#[test]
fn what_is_packed_over_a_store_takes_from_it_what_is_there() {
    let Some(desk) = desk() else { return };
    for level in ["-1", "-7", "-9"] {
        let _ = fs::remove_dir_all(desk.path("store"));
        desk.ok(&["store", "init", "store"]);
        desk.ok(&["pack", "-q", "-f", level, "lib", "lib.st"]);
        desk.ok(&["store", "add", "-q", "store", "lib.st"]);
        let there = objects(&desk, "store");
        desk.ok(&["pack", "-q", "-f", level, "--base", "store", "game", "game.st"]);
        let thin = len(&desk, "game.st");
        if dress::wanted() == dress::As::Plain {
            assert!((280_000..480_000).contains(&thin), "{level}: {thin} bytes");
        }
        assert_eq!(objects(&desk, "store"), there, "packing puts nothing there");
        assert_holds(&desk, &["game.st"], "game");
        desk.ok(&["store", "add", "-q", "store", "game.st"]);
        assert!(len(&desk, "game.st") < 20_000);
        assert_holds(&desk, &["game.st"], "game");
        let told =
            [Path::new("check"), &desk.path("game.st"), Path::new("--base"), &desk.path("store")].map(Path::to_owned);
        if dress::wanted() == dress::As::Plain {
            listing::say("st_ref.py", &told.each_ref().map(|arg| &**arg));
        }
    }
}

#[test]
fn gc_removes_what_no_named_container_needs_in_any_state_and_nothing_else() {
    let Some(desk) = desk() else { return };
    if !dress::only_plain("the number of objects is another one") {
        return;
    }
    desk.ok(&["store", "init", "store"]);
    written(&desk);
    desk.ok(&["pack", "-q", "game/levels", "levels.st"]);
    desk.ok(&["store", "add", "-q", "store", "lib.st", "a.st", "levels.st"]);
    let all = objects(&desk, "store");
    desk.ok(&["store", "gc", "-q", "store", "a.st", "levels.st", "lib.st"]);
    assert_eq!(objects(&desk, "store"), all, "everything is needed");
    let words = ends(&desk, &["store", "gc", "-n", "store", "a.st", "lib.st"], 0);
    assert!(words.contains("would be removed") && objects(&desk, "store") == all, "{words}");
    desk.ok(&["store", "gc", "-q", "store", "a.st", "lib.st"]);
    assert!(objects(&desk, "store").len() < all.len());
    ends(&desk, &["check", "-q", "levels.st"], MISSING);
    desk.ok(&["check", "-q", "a.st"]);
    assert_holds(&desk, &["a.st@first"], "game");
    // What is gone is not packed over any more.
    desk.ok(&["pack", "-q", "--base", "store", "game", "over.st"]);
    assert_holds(&desk, &["over.st"], "game");
    // Nobody is named, or somebody who cannot be read: nothing is removed.
    let left = objects(&desk, "store");
    ends(&desk, &["store", "gc", "store"], USAGE);
    fs::write(desk.path("broken.st"), noise(10_000, 7)).unwrap();
    for bad in ["broken.st", "nowhere.st"] {
        assert_ne!(said(&desk, &["store", "gc", "store", "a.st", bad]).0, 0);
        assert_eq!(objects(&desk, "store"), left, "{bad}");
    }
}

#[test]
fn nobody_removes_while_somebody_adds() {
    let Some(desk) = desk() else { return };
    desk.ok(&["store", "init", "store"]);
    desk.ok(&["pack", "-q", "-f", "game", "a.st"]);
    let store = FolderObjects::open(&desk.path("store")).unwrap().unwrap();
    let adding = store.hold(Hold::Shared).unwrap();
    desk.ok(&["store", "add", "-q", "store", "a.st"]);
    let words = ends(&desk, &["store", "gc", "store", "a.st"], LOCKED);
    assert!(words.contains("somebody adds"), "{words}");
    drop(adding);
    let _removing = store.hold(Hold::Alone).unwrap();
    ends(&desk, &["store", "add", "store", "a.st"], LOCKED);
    ends(&desk, &["pack", "--base", "store", "game", "x.st"], LOCKED);
    // Who only reads is kept out by nobody.
    assert_holds(&desk, &["a.st"], "game");
}

#[test]
fn an_add_that_is_killed_at_any_time_loses_nothing() {
    let Some(desk) = desk() else { return };
    desk.ok(&["pack", "-q", "-f", "--segment", "4K", "-1", "game", "a.st"]);
    desk.ok(&["store", "init", "store"]);
    // As strace would: each time it dies at a later write into the store, until none is left.
    let mut dies = 0;
    for after in [1u64, 2, 5, 20, 60, 140, 300, 5_000] {
        let mut program = Command::new(env!("CARGO_BIN_EXE_stmount"));
        let args = dress::command(&mut program, &["store", "add", "-q", "store", "a.st"]);
        let mut child = program.args(args).current_dir(desk.path(".")).spawn().unwrap();
        let put = || objects(&desk, "store").len() as u64;
        let before = put();
        while child.try_wait().unwrap().is_none() && put() < before + after {}
        let _ = child.kill();
        dies += u32::from(!child.wait().unwrap().success());
        desk.ok(&["check", "-q", "a.st"]);
        assert_holds(&desk, &["a.st"], "game");
    }
    assert!(dies > 0, "it was never killed in time");
    desk.ok(&["store", "add", "-q", "store", "a.st"]);
    assert!(len(&desk, "a.st") < 200_000);
    desk.ok(&["store", "gc", "-q", "store", "a.st"]);
    assert_holds(&desk, &["a.st"], "game");
    assert_eq!(fs::read_dir(desk.path("store/tmp")).unwrap().count(), 0, "nothing half written is left");
}

#[test]
fn an_object_that_rots_is_an_error_of_its_files_and_can_be_put_again() {
    let Some(desk) = desk() else { return };
    if !dress::only_plain("what is sealed anew has other objects") {
        return;
    }
    desk.ok(&["store", "init", "store"]);
    desk.ok(&["pack", "-q", "-f", "game", "a.st"]);
    fs::copy(desk.path("a.st"), desk.path("copy.st")).unwrap();
    desk.ok(&["store", "add", "-q", "store", "a.st"]);
    let object = objects(&desk, "store").remove(0);
    let mut bytes = fs::read(&object).unwrap();
    bytes[30] ^= 1;
    fs::write(&object, bytes).unwrap();
    let words = ends(&desk, &["check", "a.st"], DAMAGED);
    assert!(words.contains("is damaged"), "{words}");
    desk.ok(&["store", "add", "-q", "store", "copy.st"]);
    desk.ok(&["check", "-q", "a.st"]);
}

#[test]
fn what_is_sealed_goes_to_a_store_sealed() {
    let Some(desk) = desk() else { return };
    if !dress::only_plain("it seals by itself") {
        return;
    }
    fs::write(desk.path("pass"), "word\n").unwrap();
    let word = ["--password-file", "pass"];
    desk.ok(&["store", "init", "store"]);
    desk.ok(&["pack", "-q", "--encrypt=pass", "game", "s.st"]);
    desk.ok(&[&["store", "add", "-q"], &word[..], &["store", "s.st"]].concat());
    assert!(len(&desk, "s.st") < 20_000);
    assert_holds(&desk, &[&word[..], &["s.st"]].concat(), "game");
    for object in objects(&desk, "store") {
        let bytes = fs::read(object).unwrap();
        assert!(
            !bytes.windows(20).any(|window| window == b"the engine draws 100" || window == b"width=3\nwidth=3\nwidt")
        );
    }
    assert!(!desk.path("store/catalogs").exists(), "what is sealed is in no catalog");
    // Other keys for it open it as well; another master key would not open what is in the store.
    fs::write(desk.path("k"), noise(64, 8)).unwrap();
    desk.ok(&["key", "add", "-q", "--new-keyfile", "k", "--password-file", "pass", "s.st"]);
    assert_holds(&desk, &["--keyfile", "k", "s.st"], "game");
    ends(&desk, &[&["rekey"], &word[..], &["--encrypt=pass", "s.st"]].concat(), UNSUPPORTED);
    desk.ok(&[&["fat", "-q"], &word[..], &["s.st", "fat.st"]].concat());
    fs::remove_dir_all(desk.path("store")).unwrap();
    assert_holds(&desk, &[&word[..], &["fat.st"]].concat(), "game");
}

// ---- at an address ----------------------------------------------------------------------------------------------------

#[test]
fn bases_and_stores_at_an_address_are_read_from_there() {
    let Some(desk) = desk() else { return };
    let web = Web::new();
    desk.ok(&["pack", "-q", "lib", "lib.st"]);
    desk.ok(&["store", "init", "store"]);
    desk.ok(&["pack", "-q", "--base", "lib.st", "game", "game.st"]);
    desk.ok(&["pack", "-q", "-f", "game", "a.st"]);
    desk.ok(&["store", "add", "-q", "store", "a.st"]);
    web.put("lib.st", &fs::read(desk.path("lib.st")).unwrap());
    web.put("game.st", &fs::read(desk.path("game.st")).unwrap());
    web.put("store/stmount-store", &fs::read(desk.path("store/stmount-store")).unwrap());
    for object in objects(&desk, "store") {
        let name = object.strip_prefix(desk.path(".")).unwrap().to_str().unwrap().to_owned();
        web.put(&name, &fs::read(object).unwrap());
    }
    let packed = fs::read(desk.path("lib.st")).unwrap();
    // Beside it, on the same server.
    assert_holds(&desk, &[&web.url("game.st")], "game");
    fs::remove_file(desk.path("lib.st")).unwrap();
    fs::rename(desk.path("store"), desk.path("gone")).unwrap();
    ends(&desk, &["check", "-q", "game.st"], MISSING);
    assert_holds(&desk, &["--base", &web.url("lib.st"), "game.st"], "game");
    assert_holds(&desk, &["--base", &web.url("store"), "a.st"], "game");
    // Packed over an address, it knows that address; but it is asked only when somebody allows it.
    desk.ok(&["pack", "-q", "--base", &web.url("lib.st"), "game", "far.st"]);
    assert!(len(&desk, "far.st") < 480_000);
    let words = ends(&desk, &["cat", "far.st:engine/engine.bin"], MISSING);
    assert!(words.contains(&web.url("lib.st")), "{words}");
    assert_holds(&desk, &["--base-hints", "far.st"], "game");
    fs::write(desk.path("lib.st"), packed).unwrap();
    assert_holds(&desk, &["far.st"], "game");
}

// ---- golden -----------------------------------------------------------------------------------------------------------

#[test]
fn golden_thin_containers_open_and_hold_what_they_held() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/thin");
    let how = stmount::open::How::new(stmount::cache::Cache::new(1 << 20));
    let expected = fs::read_to_string(dir.join("thin.jsonl")).unwrap();
    for (name, base) in [("over-a-container.st", "base.st"), ("over-a-store.st", "store")] {
        let path = dir.join(name);
        let volume = stmount::open::open_as(&path, &how).unwrap();
        listing::assert_same(&expected, &listing::of(&*volume.tree).unwrap(), name);
        let told = listing::say("st_ref.py", &[Path::new("list"), &path, Path::new("--base"), &dir.join(base)]);
        listing::assert_same(&expected, &told, name);
    }
}
