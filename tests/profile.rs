//! Profiles: what a start needs of an object is written down, and the next start has it fetched ahead.

#[path = "common/desk.rs"]
mod desk;
#[path = "common/dice.rs"]
mod dice;
#[path = "common/dress.rs"]
mod dress;
#[path = "common/web.rs"]
mod web;

use desk::{Desk, until};
use dice::Dice;
use std::cell::RefCell;
use std::fs;
use std::time::{Duration, Instant};
use web::Web;

const BLOCK: u64 = 64 << 10;
/// What the start reads, in this order.
const START: &str = "cat 20 3 11 7 > /dev/null";

/// A desk with a folder of files that nothing makes smaller, packed as `x.st` and as a zip, and a server that has them.
fn desk_and_web() -> Option<(Desk, Web)> {
    let (desk, web) = (Desk::new()?, Web::new());
    desk.has_own_cache();
    fs::create_dir(desk.path("d")).unwrap();
    for i in 0..24 {
        let mut dice = Dice(i);
        let noise: Vec<u8> = (0..400_000).map(|_| dice.below(256) as u8).collect();
        fs::write(desk.path(&format!("d/{i}")), noise).unwrap();
    }
    for name in ["x.st", "x.zip"] {
        desk.ok(&["pack", "-q", "d", name]);
        web.put(name, &fs::read(desk.path(name)).unwrap());
    }
    Some((desk, web))
}

/// Nothing is kept of the objects, as on another machine; profiles are.
fn forget(desk: &Desk) {
    for what in ["remote", "index"] {
        let _ = fs::remove_dir_all(desk.path("own-cache").join(what));
    }
}

/// The whole blocks that were asked for, in this order, of an object of so many bytes.
fn blocks(web: &Web, len: u64) -> Vec<u64> {
    let ranges = web.asked().into_iter().filter(|asked| asked.sent > 0).filter_map(|asked| asked.range);
    let parsed = ranges.filter_map(|range| {
        let (first, last) = range.strip_prefix("bytes=")?.split_once('-')?;
        let last: u64 = last.parse().ok()?;
        Some(first.parse::<u64>().map_or((len - last.min(len), len), |first| (first, last + 1)))
    });
    let whole =
        |(first, end): (u64, u64)| first.div_ceil(BLOCK)..if end >= len { len.div_ceil(BLOCK) } else { end / BLOCK };
    parsed.flat_map(whole).collect()
}

/// The blocks that a profile names, in its order.
fn recorded(text: &str) -> Vec<u64> {
    let numbers = |line: &str| line.split_once(' ').map(|(a, b)| (a.parse().unwrap(), b.parse::<u64>().unwrap()));
    text.lines().skip(1).filter_map(numbers).flat_map(|(first, count): (u64, u64)| first..first + count).collect()
}

#[test]
fn the_second_start_has_fetched_what_the_first_one_needed_before_anything_reads_it() {
    let Some((desk, web)) = desk_and_web() else { return };
    for name in ["x.st", "x.zip"] {
        let (url, len) = (web.url(name), fs::metadata(desk.path(name)).unwrap().len());
        desk.ok(&["run", "--record", &url, "--", "sh", "-c", START]);
        let profiles: Vec<_> = fs::read_dir(desk.path("own-cache/profiles")).unwrap().flatten().collect();
        assert_eq!(profiles.len(), 1);
        let wanted = recorded(&fs::read_to_string(profiles[0].path()).unwrap());
        assert!(wanted.len() > 20, "{wanted:?}");
        forget(&desk);
        web.asked();
        desk.ok(&[&url, "m"]);
        let came = RefCell::new(Vec::new());
        until("all that was recorded was asked for", || {
            came.borrow_mut().extend(blocks(&web, len));
            wanted.iter().all(|block| came.borrow().contains(block))
        });
        let came = came.into_inner();
        // Only that, what lies between, and what opening it asked for.
        assert!(came.len() < wanted.len() + 40, "{} of {}", came.len(), wanted.len());
        // What is on its way is waited for, and not asked for once more.
        desk.ok(&["-q", "umount", "m"]);
        forget(&desk);
        web.asked();
        desk.ok(&["run", &url, "--", "sh", "-c", START]);
        let mut all = blocks(&web, len);
        let count = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), count, "some of it came twice");
        fs::remove_dir_all(desk.path("own-cache/profiles")).unwrap();
        forget(&desk);
    }
}

#[test]
fn a_profile_is_named_left_alone_and_of_one_version_only() {
    let Some((desk, web)) = desk_and_web() else { return };
    let (url, len) = (web.url("x.zip"), fs::metadata(desk.path("x.zip")).unwrap().len());
    desk.ok(&["run", "--record=start", &url, "--", "sh", "-c", START]);
    let wanted = recorded(&fs::read_to_string(desk.path("start")).unwrap());
    assert!(!desk.path("own-cache/profiles").exists());
    let asks_for_it = |options: &str| {
        forget(&desk);
        web.asked();
        desk.ok(&["-o", options, &url, "m"]);
        let mut came = blocks(&web, len);
        let begun = Instant::now();
        let all = |came: &[u64]| wanted.iter().all(|block| came.contains(block));
        while !all(&came) && begun.elapsed() < Duration::from_secs(if options.contains("start") { 30 } else { 1 }) {
            std::thread::sleep(Duration::from_millis(20));
            came.extend(blocks(&web, len));
        }
        desk.ok(&["umount", "m"]);
        all(&came)
    };
    assert!(asks_for_it("ro,profile=start"));
    assert!(!asks_for_it("ro"));
    desk.ok(&["-o", "record", &url, "m"]);
    desk.ok(&["umount", "m"]);
    assert!(!asks_for_it("noprofile"));
    // Of another version it is of no use.
    let mut other = fs::read(desk.path("x.zip")).unwrap();
    let at = other.len() / 2;
    other[at] ^= 1;
    web.put("x.zip", &other);
    let log = desk.path("log");
    let log = log.to_str().unwrap();
    desk.ok(&["--log-file", log, "-o", "ro,profile=start", &url, "m"]);
    desk.ok(&["umount", "m"]);
    assert!(fs::read_to_string(log).unwrap().contains("no profile of this version"));
}

#[test]
fn an_archive_that_is_here_has_a_profile_too() {
    let Some((desk, _web)) = desk_and_web() else { return };
    desk.ok(&["run", "--record=start", "x.zip", "--", "sh", "-c", START]);
    assert!(recorded(&fs::read_to_string(desk.path("start")).unwrap()).len() > 20);
    desk.ok(&["run", "-o", "profile=start", "x.zip", "--", "sh", "-c", START]);
}
