//! Thin containers over what has changed everywhere a little since: no chunk is in the base, and most of the bytes are.

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

use desk::Desk;
use dice::Dice;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};
use verbs::{assert_holds, ends, len, noise};

const MISSING: i32 = 34;

/// No chunk is smaller.
const CHUNK: usize = 8 << 10;

/// The next version: in each chunk there is something new.
fn later(bytes: &[u8], seed: u64) -> Vec<u8> {
    let mut dice = Dice(seed);
    let mut new = bytes.to_vec();
    for piece in new.chunks_mut(CHUNK) {
        let at = dice.below(piece.len() as u64) as usize;
        piece[at] ^= 1 + dice.below(255) as u8;
    }
    new
}

/// Two versions of a game, `one` and `two`. What is the same in no version is `own`.
fn desk() -> Option<Desk> {
    if dress::is_sealed() {
        println!("not of containers that are sealed: nothing can be packed over those");
        return None;
    }
    let desk = Desk::new()?;
    desk.has_own_cache();
    let (level, lines) = (noise(900_000, 1), "draws a wall, and a door in it\n".repeat(40_000));
    for dir in ["one", "two"] {
        fs::create_dir(desk.path(dir)).unwrap();
        fs::write(desk.path(dir).join("script"), &lines).unwrap();
    }
    fs::write(desk.path("one/levels.wad"), &level).unwrap();
    // Not even the name is the same, and half of it is in another place.
    let moved = [&level[450_000..], &noise(5_000, 3), &level[..450_000]].concat();
    fs::write(desk.path("two/levels-2.wad"), later(&moved, 2)).unwrap();
    fs::write(desk.path("two/own"), noise(60_000, 4)).unwrap();
    Some(desk)
}

#[test]
fn what_has_changed_a_little_is_packed_against_what_it_was() {
    let Some(desk) = desk() else { return };
    for base in ["-1", "-7", "-9"] {
        desk.ok(&["pack", "-q", "-f", base, "one", "one.st"]);
        for level in ["-4", "-6", "-7", "-9"] {
            desk.ok(&["pack", "-q", "-f", level, "--base", "one.st", "two", "two.st"]);
            let thin = len(&desk, "two.st");
            assert!(thin < 110_000, "{base} {level}: {thin} bytes, where 65 KB are new");
            assert_holds(&desk, &["two.st"], "two");
            desk.ok(&["check", "-q", "two.st"]);
            let (two, one) = (desk.path("two.st"), desk.path("one.st"));
            let told = listing::say("st_ref.py", &[Path::new("list"), &two, Path::new("--base"), &one]);
            desk.ok(&["pack", "-q", "-f", "-1", "two", "whole.st"]);
            let whole = listing::say("st_ref.py", &[Path::new("list"), &desk.path("whole.st")]);
            assert!(told == whole, "{base} {level}: the other reader does not agree");
        }
        // Fast is fast.
        desk.ok(&["pack", "-q", "-f", "-1", "--base", "one.st", "two", "two.st"]);
        assert!(len(&desk, "two.st") > 900_000);
    }
}

#[test]
fn the_same_over_the_same_gives_the_same_bytes() {
    let Some(desk) = desk() else { return };
    if !dress::only_plain("what is sealed or signed is not the same twice") {
        return;
    }
    desk.ok(&["pack", "-q", "one", "one.st"]);
    desk.ok(&["pack", "-q", "--base", "one.st", "two", "a1.st"]);
    desk.ok(&["pack", "-q", "-j", "1", "--base", "one.st", "two", "a2.st"]);
    assert!(fs::read(desk.path("a1.st")).unwrap() == fs::read(desk.path("a2.st")).unwrap());
}

#[test]
fn without_the_base_what_is_like_it_is_an_error_that_names_it_and_all_else_is_read() {
    let Some(desk) = desk() else { return };
    desk.ok(&["pack", "-q", "one", "one.st"]);
    desk.ok(&["pack", "-q", "--segment", "64K", "--base", "one.st", "two", "two.st"]);
    fs::create_dir(desk.path("away")).unwrap();
    fs::rename(desk.path("one.st"), desk.path("away/one.st")).unwrap();
    let words = ends(&desk, &["check", "two.st"], MISSING);
    assert!(words.contains("levels-2.wad") && words.contains("the container one.st ("), "{words}");
    ends(&desk, &["cat", "two.st:levels-2.wad"], MISSING);
    desk.ok(&["two.st", "m"]);
    let lost = fs::read(desk.path("m/levels-2.wad")).unwrap_err();
    assert_eq!(lost.raw_os_error(), Some(5), "EIO: {lost}");
    assert_eq!(fs::metadata(desk.path("m/levels-2.wad")).unwrap().len(), 905_000);
    desk.umount();
    assert_holds(&desk, &["--base", "away", "two.st"], "two");
}

#[test]
fn what_lies_over_what_lies_over_something_is_read_whatever_each_was_packed_against() {
    let Some(desk) = desk() else { return };
    let mut level = fs::read(desk.path("two/levels-2.wad")).unwrap();
    desk.ok(&["pack", "-q", "-8", "one", "v1.st"]);
    for version in 2..6 {
        level = later(&level, version);
        fs::write(desk.path("two/levels-2.wad"), &level).unwrap();
        let (before, now) = (format!("v{}.st", version - 1), format!("v{version}.st"));
        desk.ok(&["pack", "-q", "-8", "--base", &before, "two", &now]);
        assert_holds(&desk, &[&now], "two");
        // Over all that came before it is thin again.
        let all: Vec<String> = (1..version).map(|n| format!("v{n}.st")).collect();
        let bases: Vec<&str> = all.iter().flat_map(|name| ["--base", name]).collect();
        desk.ok(&[&["pack", "-q", "-f", "-8"], &bases[..], &["two", "all.st"]].concat());
        assert!(len(&desk, "all.st") < 110_000);
        assert_holds(&desk, &["all.st"], "two");
    }
}

#[test]
fn it_stays_thin_when_it_is_packed_anew_and_needs_no_base_for_that() {
    let Some(desk) = desk() else { return };
    desk.ok(&["pack", "-q", "one", "one.st"]);
    desk.ok(&["pack", "-q", "-f", "--base", "one.st", "two", "a.st"]);
    desk.mount();
    desk.ok(&["snapshot", "m", "first"]);
    fs::write(desk.path("m/later"), noise(40_000, 30)).unwrap();
    fs::remove_file(desk.path("m/own")).unwrap();
    desk.umount();
    fs::write(desk.path("two/later"), noise(40_000, 30)).unwrap();
    fs::rename(desk.path("two/own"), desk.path("own")).unwrap();
    fs::create_dir(desk.path("away")).unwrap();
    fs::rename(desk.path("one.st"), desk.path("away/one.st")).unwrap();
    for level in ["-1", "-7", "-9"] {
        desk.ok(&["compact", "-q", level, "a.st"]);
        assert!(len(&desk, "a.st") < 200_000, "{level}: {} bytes", len(&desk, "a.st"));
        assert_holds(&desk, &["--base", "away", "a.st"], "two");
    }
    fs::rename(desk.path("two/later"), desk.path("later")).unwrap();
    fs::rename(desk.path("own"), desk.path("two/own")).unwrap();
    assert_holds(&desk, &["--base", "away", "a.st@first"], "two");
    desk.ok(&["check", "-q", "--base", "away", "a.st"]);
    // And whole again.
    desk.ok(&["fat", "-q", "--base", "away", "a.st", "fat.st"]);
    fs::remove_dir_all(desk.path("away")).unwrap();
    assert_holds(&desk, &["fat.st@first"], "two");
    assert!(len(&desk, "fat.st") > 900_000);
}

#[test]
fn space_is_given_back_around_what_is_packed_against_a_base_that_is_not_there() {
    let Some(desk) = desk() else { return };
    desk.ok(&["pack", "-q", "one", "one.st"]);
    // Of each segment of the second version only a small part is going to be needed.
    fs::create_dir(desk.path("parts")).unwrap();
    let level = later(&fs::read(desk.path("one/levels.wad")).unwrap(), 7);
    for (at, part) in (0..).zip(level.chunks(30_000)) {
        let part = [part, &noise(15_000, 100 + at)].concat();
        fs::write(desk.path(&format!("parts/{at:03}")), part).unwrap();
    }
    desk.ok(&["pack", "-q", "-f", "--base", "one.st", "parts", "a.st"]);
    let thin = len(&desk, "a.st");
    assert!((450_000..550_000).contains(&thin), "{thin}");
    fs::create_dir(desk.path("away")).unwrap();
    fs::rename(desk.path("one.st"), desk.path("away/one.st")).unwrap();
    let none = "keep-last=0,keep-hourly=0,keep-daily=0,keep-weekly=0,keep-monthly=0";
    desk.ok(&["-o", &format!("rw,commit=1s,slack=16K,{none}"), "a.st", "m"]);
    for round in 0..3 {
        fs::write(desk.path("m/big"), noise(700_000, 50 + round)).unwrap();
        desk.ok(&["sync", "m"]);
        fs::remove_file(desk.path("m/big")).unwrap();
        for at in (0..30).filter(|at| at % 8 != 0 && at % 3 == round) {
            fs::remove_file(desk.path(&format!("m/{at:03}"))).unwrap();
            fs::remove_file(desk.path(&format!("parts/{at:03}"))).unwrap();
        }
        let due = Instant::now() + Duration::from_secs(60);
        while len(&desk, "a.st") > 900_000 {
            assert!(Instant::now() < due, "nothing is given back");
            std::thread::sleep(Duration::from_millis(100));
        }
    }
    desk.umount();
    assert_holds(&desk, &["--base", "away", "a.st"], "parts");
    desk.ok(&["check", "-q", "--base", "away", "a.st"]);
}

#[test]
fn in_a_store_it_is_what_it_was() {
    let Some(desk) = desk() else { return };
    desk.ok(&["pack", "-q", "one", "one.st"]);
    desk.ok(&["pack", "-q", "--base", "one.st", "two", "two.st"]);
    desk.ok(&["store", "init", "store"]);
    desk.ok(&["store", "add", "-q", "store", "two.st"]);
    assert_holds(&desk, &["two.st"], "two");
    desk.ok(&["store", "add", "-q", "store", "one.st"]);
    assert_holds(&desk, &["two.st"], "two");
    desk.ok(&["store", "gc", "-q", "store", "one.st", "two.st"]);
    assert_holds(&desk, &["two.st"], "two");
    assert_holds(&desk, &["one.st"], "one");
    // Over the store, which is not looked through: chunks only.
    desk.ok(&["pack", "-q", "--base", "store", "two", "three.st"]);
    assert_holds(&desk, &["three.st"], "two");
}

#[test]
fn what_is_sealed_is_packed_against_a_base_in_clear() {
    let Some(desk) = desk() else { return };
    if !dress::only_plain("it is sealed here") {
        return;
    }
    fs::write(desk.path("pass"), "a passphrase of some length\n").unwrap();
    let key = ["--password-file", "pass"];
    desk.ok(&["pack", "-q", "one", "one.st"]);
    desk.ok(&["pack", "-q", "-f", "--encrypt=pass", "--base", "one.st", "two", "a.st"]);
    assert!(len(&desk, "a.st") < 110_000, "{}", len(&desk, "a.st"));
    assert_holds(&desk, &[&key[..], &["a.st"]].concat(), "two");
    let told = [Path::new("check"), &desk.path("a.st"), Path::new("--base"), &desk.path("one.st")];
    let key_of = [Path::new("--password-file"), &desk.path("pass")];
    listing::say("st_ref.py", &[&told[..], &key_of].concat());
    fs::create_dir(desk.path("away")).unwrap();
    fs::rename(desk.path("one.st"), desk.path("away/one.st")).unwrap();
    desk.ok(&[&["compact", "-q"], &key[..], &["a.st"]].concat());
    assert!(len(&desk, "a.st") < 110_000, "{}", len(&desk, "a.st"));
    assert_holds(&desk, &[&key[..], &["--base", "away", "a.st"]].concat(), "two");
}
