//! Archives at an address, read and mounted as if they were here, whatever the server and the line do.

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
use std::os::unix::fs::FileExt;
use std::process::Command;
use std::time::Duration;
use web::{Fault, Web};

const NOT_LET_IN: i32 = 41;
const NETWORK: i32 = 42;

fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut dice = Dice(seed);
    (0..len).map(|_| dice.below(256) as u8).collect()
}

/// A desk with a small folder `d`, packed in the ways that are asked for, and a server that has the archives.
fn desk_and_web(kinds: &[&str]) -> Option<(Desk, Web)> {
    let (desk, web) = (Desk::new()?, Web::new());
    desk.has_own_cache();
    fs::create_dir_all(desk.path("d/sub")).unwrap();
    fs::write(desk.path("d/noise"), noise(3_000_000, 1)).unwrap();
    fs::write(desk.path("d/sub/text"), "a line of text\n".repeat(20_000)).unwrap();
    for kind in kinds {
        let name = format!("x.{kind}");
        desk.ok(&["pack", "-q", "d", &name]);
        web.put(&name, &fs::read(desk.path(&name)).unwrap());
    }
    Some((desk, web))
}

/// What is in a directory is what is in `d`.
#[track_caller]
fn assert_same(desk: &Desk, place: &str) {
    let diff = Command::new("diff").arg("-r").args([desk.path("d"), desk.path(place)]).output().unwrap();
    assert!(
        diff.status.success(),
        "{}{}",
        String::from_utf8_lossy(&diff.stdout),
        String::from_utf8_lossy(&diff.stderr)
    );
}

fn said(desk: &Desk, args: &[&str]) -> (i32, String) {
    let said = desk.say(args);
    (said.status.code().unwrap_or(-1), String::from_utf8_lossy(&said.stderr).into_owned())
}

#[test]
fn archives_of_every_kind_are_listed_read_unpacked_and_mounted() {
    let kinds = ["st", "zip", "7z", "tar", "tar.gz", "tar.zst"];
    let Some((desk, web)) = desk_and_web(&kinds) else { return };
    for kind in kinds {
        let url = web.url(&format!("x.{kind}"));
        assert_eq!(desk.ok(&["ls", &url]), "noise\nsub\n", "{kind}");
        assert!(desk.say(&["cat", &format!("{url}!sub/text")]).stdout == fs::read(desk.path("d/sub/text")).unwrap());
        assert!(desk.ok(&["info", &url]).contains(&url), "{kind}");
        desk.ok(&["unpack", "-q", &url, &format!("out-{kind}")]);
        assert_same(&desk, &format!("out-{kind}"));
        desk.ok(&[&url, "m"]);
        assert_same(&desk, "m");
        desk.ok(&["umount", "m"]);
    }
    desk.ok(&["convert", "-q", &web.url("x.zip"), "y.st"]);
    desk.ok(&["unpack", "-q", "y.st", "y"]);
    assert_same(&desk, "y");
    desk.ok(&["check", "-q", &web.url("x.st")]);
}

#[test]
fn a_mount_is_made_found_and_ended_by_its_address() {
    let Some((desk, web)) = desk_and_web(&["zip"]) else { return };
    let url = web.url("x.zip");
    desk.ok(&[&url]);
    assert_same(&desk, "x");
    assert!(desk.ok(&["status", &url]).contains("read-only"));
    desk.ok(&["umount", &url]);
    assert!(!desk.path("x").exists());
    assert_eq!(desk.ok(&["run", &url, "--", "ls"]), "noise\nsub\n");
}

#[test]
fn an_archive_in_an_archive_stands_behind_its_address() {
    let Some((desk, web)) = desk_and_web(&["7z"]) else { return };
    fs::create_dir(desk.path("outer")).unwrap();
    fs::rename(desk.path("x.7z"), desk.path("outer/in ner.7z")).unwrap();
    desk.ok(&["pack", "-q", "outer", "o.zip"]);
    web.put("o.zip", &fs::read(desk.path("o.zip")).unwrap());
    desk.ok(&[&format!("{}!in ner.7z", web.url("o.zip")), "m"]);
    assert_same(&desk, "m");
    desk.ok(&["umount", "m"]);
}

#[test]
fn volumes_are_found_beside_the_first() {
    let Some((desk, web)) = desk_and_web(&[]) else { return };
    desk.ok(&["pack", "-q", "--volume-size", "1M", "d", "v.st"]);
    for n in 1..=3 {
        let name = format!("v.st.{n:03}");
        web.put(&name, &fs::read(desk.path(&name)).unwrap());
    }
    desk.ok(&["unpack", "-q", &web.url("v.st.001"), "out"]);
    assert_same(&desk, "out");
}

#[test]
fn a_mount_asks_for_little() {
    let Some(desk) = Desk::new() else { return };
    for n in 0..100 {
        fs::create_dir_all(desk.path(&format!("many/dir-{n}"))).unwrap();
        for file in 0..1000 {
            fs::write(desk.path(&format!("many/dir-{n}/file-{file:04}")), format!("{n} {file}\n").repeat(20)).unwrap();
        }
    }
    let web = Web::new();
    for (kind, requests, bytes) in [("st", 6, 1 << 20), ("zip", 10, 64 << 20)] {
        let name = format!("many.{kind}");
        desk.ok(&["pack", "-q", "-1", "many", &name]);
        web.put(&name, &fs::read(desk.path(&name)).unwrap());
        desk.ok(&[&web.url(&name), "m"]);
        assert_eq!(fs::read_dir(desk.path("m")).unwrap().count(), 100);
        let read = fs::read_to_string(desk.path("m/dir-77/file-0500")).unwrap();
        assert!(read.starts_with("77 500\n"));
        let asked = web.asked();
        let sum: u64 = asked.iter().map(|asked| asked.sent).sum();
        assert!(asked.len() <= requests && sum <= bytes, "{kind}: {} requests, {sum} bytes: {asked:?}", asked.len());
        desk.ok(&["umount", "m"]);
    }
}

#[test]
fn what_was_fetched_is_kept_until_it_changes() {
    let Some((desk, web)) = desk_and_web(&["zip"]) else { return };
    let url = web.url("x.zip");
    let cache = format!("cache={}", desk.path("kept").display());
    desk.ok(&["-o", &cache, &url, "m"]);
    assert_same(&desk, "m");
    desk.ok(&["umount", "m"]);
    web.asked();
    desk.ok(&["-o", &cache, &url, "m"]);
    assert_same(&desk, "m");
    desk.ok(&["umount", "m"]);
    assert_eq!(web.asked().len(), 1, "it is asked for its version, and for nothing else");
    // Damaged by whomever: it is fetched again.
    let blocks =
        Command::new("find").arg(desk.path("kept/remote/blocks")).args(["-type", "f"]).output().unwrap().stdout;
    for path in String::from_utf8(blocks).unwrap().lines().step_by(3) {
        File::options().write(true).open(path).unwrap().write_all_at(b"damage", 100).unwrap();
    }
    desk.ok(&["-o", &cache, &url, "m"]);
    assert_same(&desk, "m");
    desk.ok(&["umount", "m"]);
    // Another version.
    fs::write(desk.path("d/more"), noise(500_000, 7)).unwrap();
    desk.ok(&["pack", "-q", "-f", "d", "x.zip"]);
    web.put("x.zip", &fs::read(desk.path("x.zip")).unwrap());
    desk.ok(&["-o", &cache, &url, "m"]);
    assert_same(&desk, "m");
    desk.ok(&["umount", "m"]);
    // Nobody is asked, and then nobody is there.
    web.asked();
    desk.ok(&["-o", &format!("{cache},offline=only"), &url, "m"]);
    assert_same(&desk, "m");
    desk.ok(&["umount", "m"]);
    assert_eq!(web.asked().len(), 0);
    drop(web);
    let told = desk.say(&["-o", &format!("{cache},deadline=2s"), &url, "m"]);
    assert!(told.status.success(), "{told:?}");
    assert!(String::from_utf8_lossy(&told.stderr).contains("cannot be reached"), "{told:?}");
    assert_same(&desk, "m");
    desk.ok(&["umount", "m"]);
    assert_eq!(said(&desk, &["-o", "nocache,deadline=2s", &url, "m"]).0, NETWORK);
}

#[test]
fn what_is_changed_while_it_is_open_is_never_mixed() {
    let Some((desk, web)) = desk_and_web(&["st"]) else { return };
    desk.ok(&["-o", "nocache", &web.url("x.st"), "m"]);
    let file = File::open(desk.path("m/noise")).unwrap();
    let mut first = vec![0; 1000];
    file.read_exact_at(&mut first, 0).unwrap();
    assert!(first == noise(3_000_000, 1)[..1000]);
    fs::write(desk.path("d/noise"), noise(3_000_000, 2)).unwrap();
    desk.ok(&["pack", "-q", "-f", "d", "x.st"]);
    web.put("x.st", &fs::read(desk.path("x.st")).unwrap());
    let (mut read, want) = (vec![0; 100_000], noise(3_000_000, 1));
    let mut stale = 0;
    for at in (0..3_000_000).step_by(100_000) {
        match file.read_exact_at(&mut read, at as u64) {
            Ok(()) => assert!(read == want[at..at + 100_000], "{at}"),
            Err(e) => {
                assert_eq!(e.raw_os_error(), Some(rustix::io::Errno::STALE.raw_os_error()), "{at}: {e}");
                stale += 1;
            }
        }
    }
    assert!(stale > 0);
    drop(file);
    desk.ok(&["umount", "m"]);
}

#[test]
fn whatever_one_answer_is_the_next_one_makes_it_good() {
    let Some((desk, web)) = desk_and_web(&["st"]) else { return };
    let faults = [
        Fault::Cut(0),
        Fault::Cut(70_000),
        Fault::Reset(10_000),
        Fault::Status(500, ""),
        Fault::Status(502, ""),
        Fault::Status(503, "Retry-After: 0\r\n"),
        Fault::Status(429, "Retry-After: Thu, 01 Jan 1970 00:00:00 GMT\r\n"),
        Fault::Whole,
        Fault::Shifted(1),
        Fault::Short(100),
        Fault::Long,
    ];
    for fault in faults {
        desk.ok(&["-o", "nocache", &web.url("x.st"), "m"]);
        web.then(&[fault.clone(), fault.clone()]);
        assert_same(&desk, "m");
        web.forget_faults();
        assert!(desk.ok(&["umount", "m"]).is_empty(), "{fault:?}");
    }
}

#[test]
fn a_server_that_hangs_or_trickles_gives_an_error_and_hangs_nobody() {
    let Some((desk, web)) = desk_and_web(&["st"]) else { return };
    for fault in [Fault::Hang(Duration::from_secs(600)), Fault::Trickle(Duration::from_millis(100))] {
        desk.ok(&["-o", "nocache,deadline=1s,connections=2", &web.url("x.st"), "m"]);
        web.then(&vec![fault.clone(); 20]);
        let e = fs::read(desk.path("m/noise")).err().unwrap();
        assert_eq!(e.raw_os_error(), Some(rustix::io::Errno::TIMEDOUT.raw_os_error()), "{fault:?}");
        // Who is killed while he waits is gone, and the mount answers all others meanwhile.
        let mut reader = Command::new("cat").arg(desk.path("m/noise")).spawn().unwrap();
        assert_eq!(fs::read_dir(desk.path("m")).unwrap().count(), 2);
        reader.kill().unwrap();
        reader.wait().unwrap();
        web.forget_faults();
        until("it is read again", || fs::read(desk.path("m/noise")).is_ok_and(|read| read == noise(3_000_000, 1)));
        desk.ok(&["umount", "m"]);
    }
}

#[test]
fn opening_fails_in_the_time_that_was_given() {
    let Some((desk, web)) = desk_and_web(&["st"]) else { return };
    let url = web.url("x.st");
    // Once would be asked again.
    web.then(&vec![Fault::Hang(Duration::from_secs(600)); 8]);
    let (code, words) = said(&desk, &["ls", "--deadline", "1s", &url]);
    assert_eq!(code, NETWORK, "{words}");
    web.forget_faults();
    assert!(words.contains("did not answer in time") && words.contains(&url), "{words}");
    let (code, words) = said(&desk, &["ls", &web.url("gone.st")]);
    assert!(code == 10 && words.contains("404"), "{words}");
    drop(web);
    assert_eq!(said(&desk, &["ls", &url]).0, NETWORK);
}

#[test]
fn a_server_without_ranges_is_read_from_the_front() {
    let Some((desk, web)) = desk_and_web(&["zip", "tar"]) else { return };
    web.knows_no_ranges();
    // A small one is taken at once.
    desk.ok(&["unpack", "-q", &web.url("x.zip"), "small"]);
    assert_same(&desk, "small");
    assert_eq!(web.asked().len(), 1);
    fs::write(desk.path("d/large"), noise(9_000_000, 3)).unwrap();
    desk.ok(&["pack", "-q", "-f", "d", "x.zip"]);
    web.put("x.zip", &fs::read(desk.path("x.zip")).unwrap());
    let told = desk.say(&[&web.url("x.zip"), "m"]);
    assert!(told.status.success() && String::from_utf8_lossy(&told.stderr).contains("from its front"), "{told:?}");
    assert_same(&desk, "m");
    desk.ok(&["umount", "m"]);
}

#[test]
fn who_is_let_in_is_asked_for_or_known_and_shown_nowhere() {
    let Some((desk, web)) = desk_and_web(&["st"]) else { return };
    let url = web.url("x.st");
    let named = url.replace("//", "//me@");
    web.lets_in("Basic bWU6c2VjcmV0LXdvcmQ=");
    let (code, words) = said(&desk, &["ls", "--no-prompt", &url]);
    assert!(code == NOT_LET_IN && words.contains("netrc"), "{code} {words}");
    fs::write(desk.path("pw"), "wrong\nsecret-word\n").unwrap();
    assert_eq!(desk.ok(&["ls", "--password-file", "pw", &named]), "noise\nsub\n");
    assert_eq!(desk.ok(&["ls", &url.replace("//", "//me:secret-word@")]), "noise\nsub\n");
    fs::write(desk.path("netrc"), "machine 127.0.0.1\nlogin me\npassword secret-word\n").unwrap();
    let by_netrc = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_stmount"));
        command.args(args).current_dir(desk.path("")).env("NETRC", desk.path("netrc")).output().unwrap()
    };
    assert!(by_netrc(&["ls", &url]).status.success());
    let (code, words) = said(&desk, &[&url.replace("//", "//me:secret-word@"), "m"]);
    assert!(code == 1 && words.contains("netrc") && !words.contains("secret-word"), "{code} {words}");
    // A mount asks in the foreground, and its daemon goes on with what it was told.
    let mounted = desk.say(&["-v", "--log-file", "log", "-o", "nocache,password-file=pw", &named, "m"]);
    assert!(mounted.status.success(), "{mounted:?}");
    assert_same(&desk, "m");
    let pid = desk.daemon();
    let shown = [
        fs::read_to_string("/proc/self/mountinfo").unwrap(),
        String::from_utf8_lossy(&fs::read(format!("/proc/{pid}/cmdline")).unwrap()).into_owned(),
        desk.ok(&["list", "--json"]),
        fs::read_to_string(desk.path("log")).unwrap(),
    ];
    assert!(shown.iter().all(|text| !text.contains("secret-word")), "{shown:?}");
    desk.ok(&["umount", "m"]);
    web.lets_in("Bearer token");
    fs::write(desk.path("token"), "token\n").unwrap();
    assert_eq!(desk.ok(&["ls", "--bearer", "token", &url]), "noise\nsub\n");
    fs::write(desk.path("token"), "another\n").unwrap();
    assert_eq!(said(&desk, &["ls", "--bearer", "token", &url]).0, NOT_LET_IN);
}

#[test]
fn who_somebody_is_is_told_to_the_server_that_was_named_and_to_no_other() {
    let Some((desk, web)) = desk_and_web(&["st"]) else { return };
    let other = Web::new();
    other.put("x.st", &fs::read(desk.path("x.st")).unwrap());
    web.move_to("moved.st", &other.url("x.st"));
    web.lets_in("Basic bWU6c2VjcmV0LXdvcmQ=");
    fs::write(desk.path("pw"), "secret-word\n").unwrap();
    let named = web.url("moved.st").replace("//", "//me@");
    desk.ok(&["-o", "nocache,password-file=pw", &named, "m"]);
    assert_same(&desk, "m");
    desk.ok(&["umount", "m"]);
    web.lets_in("Bearer token");
    fs::write(desk.path("token"), "token").unwrap();
    desk.ok(&["unpack", "-q", "--bearer", "token", &web.url("moved.st"), "out"]);
    assert_same(&desk, "out");
    assert!(web.asked().iter().any(|asked| asked.auth.is_some()));
    let asked = other.asked();
    assert!(asked.len() > 2 && asked.iter().all(|asked| asked.auth.is_none()), "{asked:?}");
}

#[test]
fn a_version_that_nobody_tells_is_told_and_not_kept() {
    let Some((desk, web)) = desk_and_web(&["st"]) else { return };
    web.put_without_version("y.st", &fs::read(desk.path("x.st")).unwrap());
    let told = desk.say(&["-o", "cache=kept", &web.url("y.st"), "m"]);
    assert!(told.status.success() && String::from_utf8_lossy(&told.stderr).contains("version"), "{told:?}");
    assert_same(&desk, "m");
    desk.ok(&["umount", "m"]);
    assert!(!desk.path("kept/remote").exists());
}

#[test]
fn what_is_at_an_address_is_only_read_but_takes_changes_in_an_overlay() {
    let Some((desk, web)) = desk_and_web(&["zip"]) else { return };
    let url = web.url("x.zip");
    let (code, words) = said(&desk, &["-o", "rw", &url, "m"]);
    assert!(code == 1 && words.contains("overlay"), "{code} {words}");
    for args in [&["snapshot", &url, "x"][..], &["compact", &url], &["pack", "--append", "d", &url]] {
        assert_ne!(said(&desk, args).0, 0, "{args:?}");
    }
    desk.ok(&["--overlay", "over", &url, "m"]);
    fs::write(desk.path("m/new"), "new").unwrap();
    fs::remove_file(desk.path("m/noise")).unwrap();
    desk.ok(&["umount", "m"]);
    desk.ok(&["--overlay", "over", &url, "m"]);
    assert!(fs::read(desk.path("m/new")).unwrap() == b"new" && !desk.path("m/noise").exists());
    desk.ok(&["umount", "m"]);
}

#[test]
fn random_faults_under_load_give_no_wrong_byte() {
    let Some((desk, web)) = desk_and_web(&["st"]) else { return };
    desk.ok(&["-o", "nocache,deadline=20s", &web.url("x.st"), "m"]);
    web.chaos(3, 42);
    let want = noise(3_000_000, 1);
    std::thread::scope(|scope| {
        for reader in 0..4u64 {
            let (desk, want) = (&desk, &want);
            scope.spawn(move || {
                let file = File::open(desk.path("m/noise")).unwrap();
                let (mut dice, mut read) = (Dice(reader), vec![0; 200_000]);
                for _ in 0..30 {
                    let at = dice.below(2_800_000) as usize;
                    file.read_exact_at(&mut read, at as u64).unwrap();
                    assert!(read == want[at..at + read.len()], "{at}");
                }
            });
        }
    });
    desk.ok(&["umount", "m"]);
}

#[test]
fn a_long_way_is_filled_by_many_requests() {
    let Some((desk, web)) = desk_and_web(&["tar"]) else { return };
    web.is_far(Duration::from_millis(20));
    desk.ok(&["-o", "nocache", &web.url("x.tar"), "m"]);
    assert_same(&desk, "m");
    desk.ok(&["umount", "m"]);
}

/// A folder of three files, as a page for people.
fn put_folder(web: &Web) {
    web.put("dir/", b"<h1>Index of /dir/</h1><a href=\"../\">../</a>\n<a href=\"a\">a</a>\n<a href=\"b\">b</a>\n<a href=\"c\">c</a>\n");
    for name in ["a", "b", "c"] {
        web.put(&format!("dir/{name}"), name.repeat(100_000).as_bytes());
    }
}

#[test]
fn a_folder_whose_server_hangs_trickles_or_is_gone() {
    let Some((desk, web)) = desk_and_web(&[]) else { return };
    put_folder(&web);
    let url = web.url("dir/");
    for fault in [Fault::Hang(Duration::from_secs(600)), Fault::Trickle(Duration::from_millis(100))] {
        // Once would be asked again.
        web.then(&vec![fault.clone(); 8]);
        let (code, words) = said(&desk, &["ls", "--deadline", "1s", &url]);
        assert!(code == NETWORK && words.contains("in time"), "{fault:?}: {code} {words}");
        web.forget_faults();
    }
    assert_eq!(desk.ok(&["ls", &url]), "a\nb\nc\n");
    desk.ok(&["-o", "nocache,deadline=1s", &url, "m"]);
    assert_eq!(fs::read_to_string(desk.path("m/b")).unwrap(), "b".repeat(100_000));
    // Sizes are not in the page: each is asked for, and that may fail.
    web.then(&vec![Fault::Status(403, ""); 3]);
    let names: Vec<_> = fs::read_dir(desk.path("m")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names.len(), 3);
    let _ = fs::metadata(desk.path("m/c"));
    web.forget_faults();
    until("it is looked at again", || fs::metadata(desk.path("m/c")).is_ok_and(|meta| meta.len() == 100_000));
    drop(web);
    // What it was is still shown; what was not read is not there.
    std::thread::sleep(Duration::from_secs(11));
    assert_eq!(fs::read_dir(desk.path("m")).unwrap().count(), 3);
    let e = fs::read(desk.path("m/a")).err().unwrap();
    assert_eq!(e.raw_os_error(), Some(rustix::io::Errno::HOSTUNREACH.raw_os_error()), "{e}");
    desk.ok(&["umount", "m"]);
}
