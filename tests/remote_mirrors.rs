//! One source at several addresses, a limit of what goes over the link, and states and unions of what is at addresses.

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
use std::fs::{self, File};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::FileExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use web::{Asked, Fault, Web};

const NOT_FOUND: i32 = 10;
const USAGE: i32 = 1;
const NETWORK: i32 = 42;

/// More than is read ahead.
const LEN: usize = 48_000_000;
const STEP: usize = 500_000;

fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut dice = Dice(seed);
    (0..len).map(|_| dice.below(256) as u8).collect()
}

/// A desk with a container in which there is a file of noise, and servers that have it.
fn desk_and_webs<const N: usize>(len: usize) -> Option<(Desk, [Web; N])> {
    let (desk, webs) = (Desk::new()?, std::array::from_fn(|_| Web::new()));
    desk.has_own_cache();
    fs::create_dir(desk.path("d")).unwrap();
    fs::write(desk.path("d/noise"), noise(len, 1)).unwrap();
    desk.ok(&["pack", "-q", "d", "x.st"]);
    let bytes = fs::read(desk.path("x.st")).unwrap();
    webs.iter().for_each(|web: &Web| web.put("x.st", &bytes));
    Some((desk, webs))
}

fn said(desk: &Desk, args: &[&str]) -> (i32, String) {
    let said = desk.say(args);
    (said.status.code().unwrap_or(-1), String::from_utf8_lossy(&said.stderr).into_owned())
}

fn sent(asked: &[Asked]) -> u64 {
    asked.iter().map(|asked| asked.sent).sum()
}

/// Reads on where `at` is, and compares.
#[track_caller]
fn read_on(file: &File, all: &[u8], at: &mut usize, end: usize) {
    let mut read = vec![0; STEP];
    while *at < end {
        file.read_exact_at(&mut read, *at as u64).unwrap_or_else(|e| panic!("{at}: {e}"));
        assert!(read == all[*at..*at + STEP], "other bytes at {at}");
        *at += STEP;
    }
}

#[test]
fn a_mount_reads_on_when_one_of_its_servers_dies_and_takes_nothing_from_one_with_other_bytes() {
    let Some((desk, [main, good, slow, wrong])) = desk_and_webs(LEN) else { return };
    let mut other = fs::read(desk.path("x.st")).unwrap();
    other[100] ^= 1;
    wrong.put("x.st", &other);
    main.is_far(Duration::from_millis(20));
    good.is_far(Duration::from_millis(20));
    slow.is_far(Duration::from_millis(400));
    let mirrors = [&good, &slow, &wrong].map(|web| format!("mirror={}", web.url("x.st"))).join(",");
    desk.ok(&["-v", "--log-file", "log", "-o", &format!("nocache,{mirrors}"), &main.url("x.st"), "m"]);
    let (file, all, mut at) = (File::open(desk.path("m/noise")).unwrap(), noise(LEN, 1), 0);
    let mut of_good = Vec::new();
    read_on(&file, &all, &mut at, STEP);
    until("the mirrors are known", || {
        let log = fs::read_to_string(desk.path("log")).unwrap_or_default();
        log.matches("a good mirror").count() == 2 && log.contains("it has other bytes")
    });
    read_on(&file, &all, &mut at, LEN / 6);
    of_good.extend(good.asked());
    assert!(sent(&main.asked()) > 0 && sent(&of_good) > 1 << 20, "both are asked");
    drop(main);
    read_on(&file, &all, &mut at, LEN);
    of_good.extend(good.asked());
    assert!(sent(&of_good) > sent(&slow.asked()), "the slow one is asked for less");
    assert!(sent(&wrong.asked()) < 1 << 20, "nothing but what tells that it is another");
    drop(file);
    desk.ok(&["umount", "m"]);
}

#[test]
fn a_server_that_hangs_is_left_for_another_within_the_patience() {
    let Some((desk, [main, good])) = desk_and_webs(4_000_000) else { return };
    let options = format!("nocache,deadline=8s,mirror={}", good.url("x.st"));
    desk.ok(&["-v", "--log-file", "log", "-o", &options, &main.url("x.st"), "m"]);
    let (file, all, mut at) = (File::open(desk.path("m/noise")).unwrap(), noise(4_000_000, 1), 0);
    read_on(&file, &all, &mut at, STEP);
    until("the mirror is known", || fs::read_to_string(desk.path("log")).unwrap_or_default().contains("a good mirror"));
    main.then(&vec![Fault::Hang(Duration::from_secs(600)); 50]);
    read_on(&file, &all, &mut at, 4_000_000);
    drop(file);
    desk.ok(&["umount", "m"]);
}

#[test]
fn what_cannot_be_reached_is_opened_at_its_first_mirror_that_can() {
    let Some((desk, [main, gone, good])) = desk_and_webs(1_000_000) else { return };
    let url = main.url("x.st");
    // A folder of a mirror has it under its name.
    let mirrors = ["--mirror", &gone.url("x.st"), "--mirror", &good.url("")];
    let with = |verb: &str, source: &str| {
        let args: Vec<_> = [verb].into_iter().chain(mirrors).chain([source]).collect();
        desk.say(&args)
    };
    drop(main);
    drop(gone);
    let (ls, cat) = (with("ls", &url), with("cat", &format!("{url}!noise")));
    assert_eq!(String::from_utf8_lossy(&ls.stdout), "noise\n", "{ls:?}");
    assert!(cat.stdout == noise(1_000_000, 1));
    let mirror = format!("mirror={}", good.url("x.st"));
    let (code, words) = said(&desk, &["-o", &mirror, &url, "m"]);
    assert!(code == 0 && words.contains(&format!("its mirror {}", good.url("x.st"))), "{code} {words}");
    assert!(fs::read(desk.path("m/noise")).unwrap() == noise(1_000_000, 1));
    desk.ok(&["umount", "m"]);
    // What is not there at all is not looked for elsewhere, and the word of the main one counts.
    let (code, words) = said(&desk, &["ls", "--mirror", &url, &good.url("gone.st")]);
    assert!(code == NOT_FOUND && words.contains("404"), "{code} {words}");
    let good_url = good.url("x.st");
    drop(good);
    let (code, words) = said(&desk, &["ls", "--mirror", &good_url, "--deadline", "2s", &url]);
    assert!(code == NETWORK && words.contains(&url), "{code} {words}");
    for bad in ["mirror=x.st", "mirror=https://me:secret@host/x.st"] {
        let (code, words) = said(&desk, &["-o", bad, &url, "m"]);
        assert!(code == USAGE && !words.contains("secret"), "{bad}: {code} {words}");
    }
    assert_eq!(said(&desk, &["-o", &format!("mirror={url}"), "x.st", "m"]).0, USAGE);
}

#[test]
fn a_mirror_that_changes_is_left_out_and_its_bytes_are_never_mixed_in() {
    let Some((desk, [main, other])) = desk_and_webs(16_000_000) else { return };
    let options = format!("nocache,mirror={}", other.url("x.st"));
    desk.ok(&["-v", "--log-file", "log", "-o", &options, &main.url("x.st"), "m"]);
    let (file, all, mut at) = (File::open(desk.path("m/noise")).unwrap(), noise(16_000_000, 1), 0);
    read_on(&file, &all, &mut at, STEP);
    until("the mirror is known", || fs::read_to_string(desk.path("log")).unwrap_or_default().contains("a good mirror"));
    // The same length, and the same ends: only its version tells.
    let mut bytes = fs::read(desk.path("x.st")).unwrap();
    let len = bytes.len();
    bytes[100_000..len - 400_000].fill(7);
    other.put("x.st", &bytes);
    read_on(&file, &all, &mut at, 16_000_000);
    drop(file);
    desk.ok(&["umount", "m"]);
}

#[test]
fn mirrors_cost_no_time_at_the_opening() {
    let Some((desk, [main, other])) = desk_and_webs(4_000_000) else { return };
    other.is_far(Duration::from_secs(60));
    let begun = Instant::now();
    desk.ok(&["ls", "--mirror", &other.url("x.st"), &main.url("x.st")]);
    assert!(begun.elapsed() < Duration::from_secs(25), "it was waited for the mirror");
    assert!(main.asked().len() <= 3);
}

/// A server of the folder `at` on the desk.
fn python(desk: &Desk, at: &str) -> (Child, String) {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut server = Command::new("python3");
    server.args(["-m", "http.server", "--bind", "127.0.0.1", &port.to_string(), "--directory"]).arg(desk.path(at));
    let child = server.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    until("the server is there", || TcpStream::connect(("127.0.0.1", port)).is_ok());
    (child, format!("http://127.0.0.1:{port}/"))
}

#[test]
fn a_folder_is_shown_by_a_mirror_when_its_server_is_gone() {
    let Some(desk) = Desk::new() else { return };
    fs::create_dir_all(desk.path("d/sub")).unwrap();
    for n in 0..20 {
        fs::write(desk.path(&format!("d/sub/file-{n}")), noise(1000 * n + 1, n as u64)).unwrap();
    }
    let ((mut main, url), (mut other, mirror)) = (python(&desk, "d"), python(&desk, "d"));
    let options = format!("nocache,deadline=4s,mirror={mirror}");
    desk.ok(&["-o", &options, &url, "m"]);
    assert!(fs::read(desk.path("m/sub/file-3")).unwrap() == noise(3001, 3));
    main.kill().unwrap();
    main.wait().unwrap();
    for n in 0..20 {
        let read = fs::read(desk.path(&format!("m/sub/file-{n}"))).unwrap_or_else(|e| panic!("{n}: {e}"));
        assert!(read == noise(1000 * n + 1, n as u64), "{n}");
    }
    desk.ok(&["umount", "m"]);
    let (code, words) = said(&desk, &["-o", &options, &url, "m"]);
    assert!(code == 0 && words.contains(&mirror), "{code} {words}");
    assert_eq!(fs::read_dir(desk.path("m/sub")).unwrap().count(), 20);
    desk.ok(&["umount", "m"]);
    let (code, words) = said(&desk, &["-o", &format!("rw,{options}"), &mirror, "m"]);
    assert!(code != 0, "{words}");
    other.kill().unwrap();
    other.wait().unwrap();
}

#[test]
fn a_limit_holds_and_is_no_reason_to_be_late() {
    let Some((desk, [web])) = desk_and_webs(1_500_000) else { return };
    let begun = Instant::now();
    desk.ok(&["-o", "nocache,deadline=1s,limit-rate=400k", &web.url("x.st"), "m"]);
    assert!(fs::read(desk.path("m/noise")).unwrap() == noise(1_500_000, 1));
    let (sent, took) = (sent(&web.asked()) as f64, begun.elapsed().as_secs_f64());
    // What is under way may be a little ahead of it.
    assert!(took > sent / f64::from(400 << 10) / 2.0, "{sent} bytes in {took} s");
    desk.ok(&["umount", "m"]);
    assert_eq!(said(&desk, &["ls", "--limit-rate", "0", &web.url("x.st")]).0, USAGE);
}

#[test]
fn earlier_states_are_read_by_address() {
    let Some((desk, [web])) = desk_and_webs(300_000) else { return };
    desk.ok(&["snapshot", "x.st", "monday"]);
    fs::write(desk.path("d/more"), "more\n").unwrap();
    desk.ok(&["pack", "-q", "--update", "d", "x.st"]);
    web.put("x.st", &fs::read(desk.path("x.st")).unwrap());
    let url = web.url("x.st");
    let then = format!("{url}@monday");
    assert_eq!(desk.ok(&["ls", &url]), "more\nnoise\n");
    assert_eq!(desk.ok(&["ls", &then]), "noise\n");
    assert!(desk.say(&["cat", &format!("{then}!noise")]).stdout == noise(300_000, 1));
    assert!(desk.ok(&["log", &url]).contains("monday"));
    web.asked();
    desk.ok(&[&then, "m"]);
    assert_eq!(fs::read_dir(desk.path("m")).unwrap().count(), 1);
    assert!(web.asked().len() <= 4, "one request more than without a state");
    desk.ok(&["umount", "m"]);
    desk.ok(&["unpack", "-q", &then, "out"]);
    assert_eq!(fs::read_dir(desk.path("out")).unwrap().count(), 1);
    let (code, words) = said(&desk, &["ls", &format!("{url}@tuesday")]);
    assert!(code != 0 && words.contains("tuesday"), "{code} {words}");
    assert_eq!(said(&desk, &["ls", &web.url("gone.st@monday")]).0, NOT_FOUND);
    // What is called so as a whole comes first.
    web.put("x.st@monday", &fs::read(desk.path("a.st")).unwrap());
    assert_eq!(desk.ok(&["ls", &then]), "");
}

#[test]
fn what_is_at_addresses_and_here_lies_over_each_other() {
    let Some((desk, [web])) = desk_and_webs(300_000) else { return };
    fs::create_dir(desk.path("mods")).unwrap();
    fs::write(desk.path("mods/noise"), "quiet\n").unwrap();
    fs::write(desk.path("mods/mod"), "a mod\n").unwrap();
    fs::write(desk.path("d/patch"), "a patch\n").unwrap();
    desk.ok(&["pack", "-q", "d", "p.zip"]);
    web.put("p.zip", &fs::read(desk.path("p.zip")).unwrap());
    let (base, patch) = (web.url("x.st"), web.url("p.zip"));
    desk.ok(&[&format!("{base}+{patch}+mods"), "m"]);
    assert_eq!(fs::read_to_string(desk.path("m/noise")).unwrap(), "quiet\n");
    assert_eq!(fs::read_dir(desk.path("m")).unwrap().count(), 3);
    assert!(desk.ok(&["list"]).contains("p.zip"));
    desk.ok(&["umount", "m"]);
    let mixed = format!("mods+{base}");
    assert_eq!(desk.ok(&["ls", &mixed]), "mod\nnoise\n");
    assert!(desk.say(&["cat", &format!("{mixed}!noise")]).stdout == noise(300_000, 1));
    desk.ok(&["-o", "overlay=saves", &mixed, "m"]);
    fs::write(desk.path("m/mod"), "another\n").unwrap();
    desk.ok(&["umount", "m"]);
    assert_eq!(fs::read_to_string(desk.path("saves/files/mod")).unwrap(), "another\n");
    assert_eq!(said(&desk, &["ls", "--mirror", &patch, &format!("{base}+{patch}")]).0, USAGE);
}
