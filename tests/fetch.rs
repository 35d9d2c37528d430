//! `sync ADDRESS FILE`: a file becomes what is at an address, and of it only what is not here is fetched.

#[path = "common/desk.rs"]
mod desk;
#[path = "common/dice.rs"]
mod dice;
#[path = "common/dress.rs"]
mod dress;
#[path = "common/web.rs"]
mod web;

use desk::Desk;
use dice::Dice;
use std::fs;
use std::process::Stdio;
use std::time::{Duration, Instant};
use web::{Fault, Web};

const LOCKED: i32 = 11;
const CHANGED: i32 = 44;

fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut dice = Dice(seed);
    (0..len).map(|_| dice.below(256) as u8).collect()
}

/// A desk with a folder `d` of a few megabytes that nothing makes smaller, packed as `x.st`, and a server that has it.
fn desk_and_web() -> Option<(Desk, Web)> {
    let (desk, web) = (Desk::new()?, Web::new());
    desk.has_own_cache();
    fs::create_dir(desk.path("d")).unwrap();
    for i in 0..8 {
        fs::write(desk.path(&format!("d/{i}")), noise(1 << 20, i)).unwrap();
    }
    desk.ok(&["pack", "-q", "d", "x.st"]);
    show(&desk, &web);
    Some((desk, web))
}

/// The server has `x.st` as it is now.
fn show(desk: &Desk, web: &Web) {
    web.put("x.st", &bytes(desk, "x.st"));
}

fn bytes(desk: &Desk, name: &str) -> Vec<u8> {
    fs::read(desk.path(name)).unwrap()
}

fn said(desk: &Desk, args: &[&str]) -> (i32, String) {
    let said = desk.say(args);
    (said.status.code().unwrap_or(-1), String::from_utf8_lossy(&said.stderr).into_owned())
}

/// Bytes that the server has sent since it was asked last.
fn sent(web: &Web) -> u64 {
    web.asked().iter().map(|asked| asked.sent).sum()
}

/// The file is what the server has, and nothing is left beside it.
#[track_caller]
fn assert_there(desk: &Desk, name: &str) {
    assert!(bytes(desk, name) == bytes(desk, "x.st"), "{name} is another one");
    let left: Vec<_> = fs::read_dir(desk.path(".")).unwrap().flatten().map(|entry| entry.file_name()).collect();
    assert!(!left.iter().any(|left| left.to_string_lossy().contains(".sync")), "{left:?}");
}

#[test]
fn a_file_that_is_not_there_is_fetched_whole_and_the_second_time_nothing_of_it() {
    let Some((desk, web)) = desk_and_web() else { return };
    let (code, words) = said(&desk, &["sync", &web.url("x.st"), "y.st"]);
    assert_eq!((code, words.contains("of 8.0 MiB fetched")), (0, true), "{words}");
    assert_there(&desk, "y.st");
    sent(&web);
    let (code, words) = said(&desk, &["sync", &web.url("x.st"), "y.st"]);
    assert_eq!((code, words.contains("nothing has changed")), (0, true), "{words}");
    assert!(sent(&web) < 400_000);
    assert_there(&desk, "y.st");
    let json = desk.say(&["sync", "--progress=json", "--whole", &web.url("x.st"), "y.st"]);
    let json = String::from_utf8_lossy(&json.stderr).into_owned() + &String::from_utf8_lossy(&json.stdout);
    let len = bytes(&desk, "x.st").len();
    assert!(json.contains(&format!("\"bytes\":{len}")) && json.contains("\"fetched\":"), "{json}");
}

#[test]
fn of_what_was_appended_only_that_is_fetched() {
    let Some((desk, web)) = desk_and_web() else { return };
    desk.ok(&["sync", "-q", &web.url("x.st"), "y.st"]);
    fs::create_dir(desk.path("e")).unwrap();
    fs::write(desk.path("e/more"), noise(500_000, 77)).unwrap();
    desk.ok(&["pack", "-q", "--append", "e", "x.st"]);
    show(&desk, &web);
    sent(&web);
    desk.ok(&["sync", "-q", &web.url("x.st"), "y.st"]);
    let sent = sent(&web);
    assert!((500_000..1_000_000).contains(&sent), "{sent}");
    assert_there(&desk, "y.st");
}

#[test]
fn damage_here_is_found_and_made_good_from_there() {
    let Some((desk, web)) = desk_and_web() else { return };
    let mut old = bytes(&desk, "x.st");
    old[2_000_000] ^= 1;
    fs::write(desk.path("y.st"), old).unwrap();
    fs::create_dir(desk.path("e")).unwrap();
    fs::write(desk.path("e/more"), noise(100_000, 77)).unwrap();
    desk.ok(&["pack", "-q", "--append", "e", "x.st"]);
    show(&desk, &web);
    desk.ok(&["sync", "-q", &web.url("x.st"), "y.st"]);
    assert_there(&desk, "y.st");
}

#[test]
fn of_a_container_that_was_packed_anew_segments_that_are_here_are_not_fetched() {
    let Some((desk, web)) = desk_and_web() else { return };
    fs::copy(desk.path("x.st"), desk.path("y.st")).unwrap();
    fs::copy(desk.path("x.st"), desk.path("z.st")).unwrap();
    // A shorter one in the middle: all that follow lie elsewhere, in the file and on its tape. Segments end where chunks do: some
    // go by before they are cut as they were.
    fs::write(desk.path("d/3"), noise(768 << 10, 99)).unwrap();
    desk.ok(&["pack", "-q", "--force", "d", "x.st"]);
    show(&desk, &web);
    sent(&web);
    desk.ok(&["sync", "-q", &web.url("x.st"), "y.st"]);
    let packed = sent(&web);
    assert_there(&desk, "y.st");
    assert!(packed < 3_500_000, "{packed}");
    // The same container, without its earlier states.
    fs::copy(desk.path("z.st"), desk.path("x.st")).unwrap();
    desk.ok(&["pack", "-q", "--update", "--delete", "d", "x.st"]);
    desk.ok(&["compact", "-q", "x.st"]);
    show(&desk, &web);
    sent(&web);
    desk.ok(&["sync", "-q", &web.url("x.st"), "z.st"]);
    let compacted = sent(&web);
    assert_there(&desk, "z.st");
    assert!(compacted < 3_500_000, "{compacted}");
}

#[test]
fn a_sealed_container_that_was_appended_to_needs_no_key() {
    let Some((desk, web)) = desk_and_web() else { return };
    fs::write(desk.path("pw"), "secret\n").unwrap();
    desk.ok(&["pack", "-q", "--force", "--encrypt=pw", "d", "x.st"]);
    fs::copy(desk.path("x.st"), desk.path("y.st")).unwrap();
    fs::create_dir(desk.path("e")).unwrap();
    fs::write(desk.path("e/more"), noise(300_000, 77)).unwrap();
    desk.ok(&["pack", "-q", "--append", "--password-file", "pw", "e", "x.st"]);
    show(&desk, &web);
    sent(&web);
    desk.ok(&["sync", "-q", &web.url("x.st"), "y.st"]);
    let sent = sent(&web);
    assert!(sent < 1_000_000, "{sent}");
    assert_there(&desk, "y.st");
}

#[test]
fn what_was_committed_here_and_never_was_there_stays_unless_it_is_given_up() {
    let Some((desk, web)) = desk_and_web() else { return };
    fs::create_dir(desk.path("e")).unwrap();
    fs::write(desk.path("e/own"), noise(100_000, 5)).unwrap();
    fs::copy(desk.path("x.st"), desk.path("y.st")).unwrap();
    desk.ok(&["pack", "-q", "--append", "e", "y.st"]);
    let own = bytes(&desk, "y.st");
    // There is less, and then something else.
    for _ in 0..2 {
        let (code, words) = said(&desk, &["sync", &web.url("x.st"), "y.st"]);
        assert_eq!((code, words.contains("--overwrite")), (CHANGED, true), "{words}");
        assert!(bytes(&desk, "y.st") == own);
        fs::write(desk.path("e/own"), noise(200_000, 6)).unwrap();
        desk.ok(&["pack", "-q", "--append", "e", "x.st"]);
        show(&desk, &web);
    }
    desk.ok(&["sync", "-q", "--overwrite", &web.url("x.st"), "y.st"]);
    assert_there(&desk, "y.st");
}

#[test]
fn a_file_that_somebody_writes_to_is_refused() {
    let Some((desk, web)) = desk_and_web() else { return };
    fs::copy(desk.path("x.st"), desk.path("y.st")).unwrap();
    desk.ok(&["-o", "rw", "y.st", "m"]);
    let (code, words) = said(&desk, &["sync", "--whole", &web.url("x.st"), "y.st"]);
    desk.ok(&["umount", "m"]);
    assert_eq!((code, words.contains("is mounted on")), (LOCKED, true), "{words}");
}

#[test]
fn a_call_that_is_killed_is_gone_on_with() {
    let Some((desk, web)) = desk_and_web() else { return };
    // The first requests are answered, and then nothing comes any more.
    web.then(&vec![Fault::Cut(300_000); 4]);
    web.then(&vec![Fault::Hang(Duration::from_secs(20)); 40]);
    let mut child = desk.command(&["sync", "-q", &web.url("x.st"), "y.st"]).stderr(Stdio::null()).spawn().unwrap();
    let map = desk.path(".y.st.sync.map");
    let begun = Instant::now();
    while fs::metadata(&map).map_or(0, |meta| meta.len()) < 300 {
        assert!(begun.elapsed() < Duration::from_secs(60), "nothing came");
        std::thread::sleep(Duration::from_millis(20));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(!desk.path("y.st").exists());
    web.forget_faults();
    sent(&web);
    let (code, words) = said(&desk, &["sync", &web.url("x.st"), "y.st"]);
    assert_eq!((code, words.contains("of it before")), (0, true), "{words}");
    let sent = sent(&web);
    assert!(sent < bytes(&desk, "x.st").len() as u64, "{sent}");
    assert_there(&desk, "y.st");
}

#[test]
fn an_object_that_is_changed_in_the_middle_never_becomes_a_mixed_file() {
    let Some((desk, web)) = desk_and_web() else { return };
    fs::write(desk.path("y.bin"), "as it was").unwrap();
    web.is_far(Duration::from_millis(300));
    web.put("x.bin", &noise(9_000_000, 1));
    let url = web.url("x.bin");
    let mut child = desk.command(&["sync", "-q", "--connections=2", &url, "y.bin"]).spawn().unwrap();
    let map = desk.path(".y.bin.sync.map");
    while fs::metadata(&map).map_or(0, |meta| meta.len()) < 200 && child.try_wait().unwrap().is_none() {
        std::thread::sleep(Duration::from_millis(5));
    }
    let second = noise(9_000_000, 2);
    web.put("x.bin", &second);
    let code = child.wait().unwrap().code();
    assert_eq!(code, Some(CHANGED));
    assert_eq!(bytes(&desk, "y.bin"), b"as it was");
    web.is_far(Duration::ZERO);
    desk.ok(&["sync", "-q", &url, "y.bin"]);
    assert!(bytes(&desk, "y.bin") == second);
}

#[test]
fn a_server_that_dies_leaves_the_file_as_it_was_and_what_came_for_the_next_time() {
    let Some((desk, web)) = desk_and_web() else { return };
    fs::write(desk.path("y.st"), "as it was").unwrap();
    web.then(&[Fault::Cut(usize::MAX)]);
    web.then(&vec![Fault::Cut(200_000); 6]);
    web.then(&vec![Fault::Status(500, ""); 200]);
    let (code, words) = said(&desk, &["sync", "--deadline=2s", &web.url("x.st"), "y.st"]);
    assert_eq!((code, words.contains("goes on where this ended")), (42, true), "{words}");
    assert_eq!(bytes(&desk, "y.st"), b"as it was");
    web.forget_faults();
    let (code, words) = said(&desk, &["sync", &web.url("x.st"), "y.st"]);
    assert_eq!((code, words.contains("of it before")), (0, true), "{words}");
    assert_there(&desk, "y.st");
}

#[test]
fn servers_that_know_no_parts_or_no_versions_will_do() {
    let Some((desk, web)) = desk_and_web() else { return };
    web.put_without_version("x.st", &bytes(&desk, "x.st"));
    desk.ok(&["sync", "-q", &web.url("x.st"), "y.st"]);
    assert_there(&desk, "y.st");
    web.knows_no_ranges();
    desk.ok(&["sync", "-q", "--whole", &web.url("x.st"), "y.st"]);
    assert_there(&desk, "y.st");
}

#[test]
fn odd_operands_are_refused_with_what_to_do() {
    let Some((desk, web)) = desk_and_web() else { return };
    let url = web.url("x.st");
    for (args, words) in [
        (vec!["sync", &url], "which file"),
        (vec!["sync", &url, "d"], "is a directory"),
        (vec!["sync", "--whole"], "are for an address"),
        (vec!["sync", &web.url("none"), "y.st"], "none"),
        (vec!["sync", &web.url(""), "y.st"], "folder"),
    ] {
        let (code, told) = said(&desk, &args);
        assert!(code != 0 && told.contains(words), "{args:?}: {code} {told}");
    }
    assert!(!desk.path("y.st").exists());
    assert_there(&desk, "x.st");
}
