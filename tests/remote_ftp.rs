//! Servers of FTP, in clear and by TLS: what is read through them is what they serve, and what is written is there.

#[path = "common/desk.rs"]
mod desk;
#[path = "common/dice.rs"]
mod dice;
#[path = "common/dress.rs"]
mod dress;
#[path = "common/servers.rs"]
mod servers;

use desk::{Desk, until};
use dice::Dice;
use servers::{assert_mounts, assert_takes_changes, assert_writes, code, desk, fill, ftpd, ports, vsftpd};
use std::fs::{self, File};
use std::net::TcpListener;
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};
use stmount::error::Kind;
use stmount::key::NoKeys;
use stmount::remote::{self, Link, Set, Share};
use stmount::source::Memory;

const NOT_FOUND: i32 = 10;
const UNTRUSTED: i32 = 24;
const NOT_LET_IN: i32 = 41;
const NETWORK: i32 = 42;

/// Adds names and kinds of files that are hard to tell in a list.
fn fill_oddly(desk: &Desk) {
    fill(desk);
    for name in [" before", "two  blanks", "a -> b", "-la", ".hidden", "x; y", "type=dir; z", "tilde~", "star*"] {
        fs::write(desk.path("root/tree").join(name), name).unwrap();
    }
    symlink("two  blanks", desk.path("root/tree/link")).unwrap();
    fs::set_permissions(desk.path("root/tree/tilde~"), fs::Permissions::from_mode(0o640)).unwrap();
}

/// Mounts a folder, and compares all that is in it, and what is in an archive in it.
#[track_caller]
fn assert_shows_root(desk: &Desk, options: &str, address: &str) {
    desk.ok(&["-r", "-o", options, address, "m"]);
    let mut diff = Command::new("diff");
    diff.args(["-r", "--exclude", "*#"]).args([desk.path("root"), desk.path("m")]);
    let diff = diff.output().unwrap();
    assert!(diff.status.success(), "{address}: {}", String::from_utf8_lossy(&[diff.stdout, diff.stderr].concat()));
    let diff = Command::new("diff").arg("-r").args([desk.path("d"), desk.path("m/x.zip#")]).output().unwrap();
    assert!(diff.status.success(), "{address}: {}", String::from_utf8_lossy(&diff.stdout));
    let (was, is) = (fs::metadata(desk.path("root/x.st")).unwrap(), fs::metadata(desk.path("m/x.st")).unwrap());
    let late = was.modified().unwrap().duration_since(is.modified().unwrap()).unwrap_or_default();
    assert!(late < Duration::from_secs(61) && was.len() == is.len(), "{address}: {late:?}");
    let mode = fs::metadata(desk.path("m/tree/tilde~")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o640, "{address}");
    assert!(fs::write(desk.path("m/new"), "").is_err());
    desk.ok(&["umount", "m"]);
}

#[test]
fn archives_and_folders_in_clear_and_by_tls_of_both_kinds() {
    let Some(desk) = desk() else { return };
    fill_oddly(&desk);
    fs::write(desk.path("pw"), "secret\n").unwrap();
    for (kind, scheme) in [("clear", "ftp"), ("implicit", "ftps"), ("explicit", "ftpes")] {
        let port = ports();
        let Some(_server) = ftpd(&desk, port, &[kind]) else { return };
        let (ca, at) = (desk.path("tls/ca.pem"), format!("{scheme}://localhost:{port}"));
        let trusts = if kind == "clear" { String::new() } else { format!(",ca={}", ca.display()) };
        let options = format!("nocache{trusts}");
        for archive in ["st", "zip"] {
            assert_mounts(&desk, &options, &format!("{at}/x.{archive}"));
        }
        assert_shows_root(&desk, &options, &format!("{at}/"));
        assert_shows_root(&desk, &format!("{options},password-file=pw"), &format!("{scheme}://me@localhost:{port}"));
        if kind != "clear" {
            assert_eq!(code(&desk, &["ls", &format!("{at}/x.st")]), UNTRUSTED, "{kind}");
            assert_eq!(code(&desk, &["ls", &format!("{at}/")]), UNTRUSTED, "{kind}");
        }
    }
}

#[test]
fn what_is_at_an_address_is_listed_shown_and_unpacked() {
    let Some(desk) = desk() else { return };
    let port = ports();
    let Some(_server) = ftpd(&desk, port, &["clear"]) else { return };
    let at = format!("ftp://127.0.0.1:{port}");
    assert_eq!(desk.ok(&["ls", &format!("{at}/x.st")]), "noise\nsub\n");
    assert_eq!(desk.ok(&["ls", &format!("{at}/x.zip;type=i")]), "noise\nsub\n");
    assert_eq!(desk.ok(&["ls", &format!("{at}//x.zip")]), "noise\nsub\n", "from the root on");
    assert_eq!(desk.ok(&["ls", &at]), "x.st\nx.zip\n");
    let shown = desk.say(&["cat", &format!("{at}/x.zip!sub/text")]).stdout;
    assert!(shown == fs::read(desk.path("d/sub/text")).unwrap());
    desk.ok(&["unpack", "-q", &format!("{at}/x.st"), "out"]);
    let diff = Command::new("diff").arg("-r").args([desk.path("d"), desk.path("out")]).status().unwrap();
    assert!(diff.success());
    // A directory is one also without a slash behind it.
    fs::create_dir_all(desk.path("root/sub dir/empty")).unwrap();
    assert_eq!(desk.ok(&["ls", &format!("{at}/sub%20dir")]), "empty\n");
    assert_eq!(code(&desk, &["ls", &format!("{at}/missing.zip")]), NOT_FOUND);
    assert_eq!(code(&desk, &["ls", &format!("{at}/missing/")]), NOT_FOUND);
    assert_eq!(code(&desk, &["ls", "ftp://127.0.0.1:1/x.zip"]), NETWORK);
}

#[test]
fn servers_that_know_no_mlsd_and_no_offsets() {
    let Some(desk) = desk() else { return };
    fill_oddly(&desk);
    let port = ports();
    let Some(_server) = ftpd(&desk, port, &["clear", "no-mlsd", "no-rest"]) else { return };
    let at = format!("ftp://127.0.0.1:{port}");
    assert_shows_root(&desk, "nocache", &format!("{at}/"));
    for archive in ["st", "zip"] {
        assert_mounts(&desk, "nocache", &format!("{at}/x.{archive}"));
    }
    desk.ok(&["-o", "nocache", &format!("{at}/tree/"), "m"]);
    assert_eq!(fs::read_link(desk.path("m/link")).unwrap(), Path::new("two  blanks"));
    desk.ok(&["umount", "m"]);
}

#[test]
fn who_is_not_let_in_is_told_so() {
    let Some(desk) = desk() else { return };
    let port = ports();
    let Some(_server) = ftpd(&desk, port, &["clear", "strict"]) else { return };
    let (nobody, me) = (format!("ftp://127.0.0.1:{port}/x.st"), format!("ftp://me@127.0.0.1:{port}/x.st"));
    assert_eq!(code(&desk, &["ls", &nobody]), NOT_LET_IN);
    assert_eq!(code(&desk, &["ls", "--no-prompt", &me]), NOT_LET_IN);
    for (word, is) in [("wrong", NOT_LET_IN), ("secret", 0)] {
        fs::write(desk.path("pw"), format!("{word}\n")).unwrap();
        let said = desk.say(&["ls", "--password-file", "pw", &me]);
        let told = String::from_utf8_lossy(&said.stderr).into_owned();
        assert_eq!(said.status.code(), Some(is), "{told}");
        assert!(!told.contains(word), "{told}");
        assert_eq!(told.contains("in clear"), is == 0, "{told}");
    }
}

#[test]
fn a_line_break_in_a_path_is_no_second_command() {
    let Some(desk) = desk() else { return };
    let port = ports();
    let Some(_server) = ftpd(&desk, port, &["clear"]) else { return };
    for path in ["a%0d%0aDELE%20x.zip", "a%0aDELE%20x.zip", "d/%0d%0aDELE%20x.zip/"] {
        assert_ne!(code(&desk, &["ls", &format!("ftp://me:secret@127.0.0.1:{port}/{path}")]), 0, "{path}");
    }
    let share = share(port);
    for name in ["a\r\nDELE x.zip", "a\nDELE x.zip"] {
        assert_eq!(share.look(name).unwrap_err().kind(), Kind::Invalid);
        assert!(share.writes().unwrap().make_dir(name).is_err());
    }
    assert!(desk.path("root/x.zip").exists());
}

#[test]
fn a_server_that_lets_few_in_gives_all_the_same() {
    let Some(desk) = desk() else { return };
    fill(&desk);
    let port = ports();
    let Some(_server) = ftpd(&desk, port, &["clear", "few"]) else { return };
    assert_mounts(&desk, "nocache,connections=8", &format!("ftp://127.0.0.1:{port}/x.zip"));
    desk.ok(&["-r", "-o", "nocache,connections=8", &format!("ftp://127.0.0.1:{port}/"), "m"]);
    let mut diff = Command::new("diff");
    diff.args(["-r", "--exclude", "*#"]).args([desk.path("root"), desk.path("m")]);
    assert!(diff.status().unwrap().success());
    desk.ok(&["umount", "m"]);
}

/// A zip that is too long to be on its way as a whole when its front is read.
fn long_archive(desk: &Desk) -> u64 {
    let len: u64 = 48 << 20;
    let mut dice = Dice(1);
    let noise: Vec<u8> = (0..len / 8).flat_map(|_| dice.below(u64::MAX).to_le_bytes()).collect();
    fs::create_dir(desk.path("long")).unwrap();
    fs::write(desk.path("long/noise"), noise).unwrap();
    desk.ok(&["pack", "-q", "-1", "long", "root/long.zip"]);
    len
}

#[test]
fn a_server_that_stands_still_is_an_error_in_time_and_then_it_goes_on() {
    let Some(desk) = desk() else { return };
    let len = long_archive(&desk);
    let port = ports();
    let Some(server) = ftpd(&desk, port, &["clear"]) else { return };
    desk.ok(&["-o", "nocache,deadline=2s", &format!("ftp://127.0.0.1:{port}/long.zip"), "m"]);
    let file = File::open(desk.path("m/noise")).unwrap();
    let mut front = [0; 4096];
    file.read_exact_at(&mut front, 0).unwrap();
    server.signal("STOP");
    let begun = Instant::now();
    let failed = file.read_exact_at(&mut front, len - 8192).unwrap_err();
    assert_eq!(failed.raw_os_error(), Some(110), "{failed}");
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
    assert_eq!(code(&desk, &["ls", "--deadline", "1s", &format!("ftp://127.0.0.1:{port}/x.st")]), NETWORK);
    server.signal("CONT");
    until("it goes on", || file.read_exact_at(&mut [0; 4096], len - 8192).is_ok());
    file.read_exact_at(&mut front, len - 8192).unwrap();
    let was = File::open(desk.path("long/noise")).unwrap();
    let mut own = [0; 4096];
    was.read_exact_at(&mut own, len - 8192).unwrap();
    assert!(own == front);
    drop(file);
    desk.ok(&["umount", "m"]);
}

#[test]
fn a_connection_that_ended_is_made_anew() {
    let Some(desk) = desk() else { return };
    fill(&desk);
    let port = ports();
    let Some(server) = ftpd(&desk, port, &["clear"]) else { return };
    let share = share(port);
    let read = |path: &str| share.open(path).map(|(_, object)| object.len);
    assert_eq!((read("tree/a&b;c").unwrap(), share.list("tree").unwrap().len()), (5, 31));
    drop(server);
    let Some(_server) = ftpd(&desk, port, &["clear"]) else { return };
    assert_eq!((read("tree/a&b;c").unwrap(), share.list("tree").unwrap().len()), (5, 31));
}

#[test]
fn what_is_changed_while_it_is_open_is_not_mixed() {
    let Some(desk) = desk() else { return };
    let len = long_archive(&desk);
    let port = ports();
    let Some(_server) = ftpd(&desk, port, &["clear"]) else { return };
    desk.ok(&["-o", "nocache", &format!("ftp://127.0.0.1:{port}/long.zip"), "m"]);
    let file = File::open(desk.path("m/noise")).unwrap();
    let mut front = [0; 4096];
    file.read_exact_at(&mut front, 0).unwrap();
    fs::copy(desk.path("root/x.zip"), desk.path("root/long.zip")).unwrap();
    let failed = file.read_exact_at(&mut front, len - 8192).unwrap_err();
    assert_eq!(failed.raw_os_error(), Some(116), "{failed}");
    drop(file);
    desk.ok(&["umount", "m"]);
}

#[test]
fn vsftpd_in_clear_and_with_one_session_for_all_connections() {
    let Some(desk) = desk() else { return };
    fill_oddly(&desk);
    for (kind, scheme) in [("clear", "ftp"), ("explicit", "ftpes")] {
        let port = ports();
        let Some(_server) = vsftpd(&desk, port, &[kind]) else { return };
        let at = format!("{scheme}://localhost:{port}");
        let ca = desk.path("tls/ca.pem");
        let options = if kind == "clear" { "nocache".to_owned() } else { format!("nocache,ca={}", ca.display()) };
        assert_mounts(&desk, &options, &format!("{at}/x.zip"));
        assert_mounts(&desk, &options, &format!("{at}/x.st"));
        // It lets nobody read by its name what only its group may.
        fs::set_permissions(desk.path("root/tree/tilde~"), fs::Permissions::from_mode(0o644)).unwrap();
        desk.ok(&["-r", "-o", &options, &format!("{at}/"), "m"]);
        let mut diff = Command::new("diff");
        diff.args(["-r", "--exclude", "*#"]).args([desk.path("root"), desk.path("m")]);
        let diff = diff.output().unwrap();
        assert!(diff.status.success(), "{kind}: {}", String::from_utf8_lossy(&[diff.stdout, diff.stderr].concat()));
        desk.ok(&["umount", "m"]);
        let link = Link { ca: Some(ca).filter(|_| kind != "clear"), ..Link::default() };
        let share = remote::share(&format!("{at}/up/"), &link, &NoKeys).unwrap();
        assert_writes(&*share, &desk.path("root/up"), [true; 2]);
        fs::remove_file(desk.path("root/up/kept")).unwrap();
    }
}

fn share(port: u16) -> Box<dyn Share> {
    remote::share(&format!("ftp://me:secret@127.0.0.1:{port}/"), &Link::default(), &NoKeys).unwrap()
}

#[test]
fn what_is_written_is_there() {
    let Some(desk) = desk() else { return };
    for (kind, scheme) in [("clear", "ftp"), ("implicit", "ftps"), ("explicit", "ftpes")] {
        let port = ports();
        let Some(server) = ftpd(&desk, port, &[kind]) else { return };
        fs::create_dir_all(desk.path("root/up")).unwrap();
        let link = Link { ca: Some(desk.path("tls/ca.pem")).filter(|_| kind != "clear"), ..Link::default() };
        let at = format!("{scheme}://me:secret@localhost:{port}/up/");
        let share = remote::share(&at, &link, &NoKeys).unwrap();
        let holds = share.writes().unwrap().holds();
        assert!(holds.mtime && holds.mode && holds.rename && !holds.links, "{holds:?}");
        assert_writes(&*share, &desk.path("root/up"), [true; 2]);
        let (bytes, what) = (Memory::new(b"x".to_vec()), Set::default());
        assert!(share.writes().unwrap().put("no/such", &bytes, &what, &mut |_| Ok(())).is_err());
        let mode = fs::metadata(desk.path("root/up/kept")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o640);
        fs::remove_dir_all(desk.path("root/up")).unwrap();
        fs::create_dir_all(desk.path("root/tree")).unwrap();
        let ca = if kind == "clear" { String::new() } else { format!(",ca={}", desk.path("tls/ca.pem").display()) };
        let (at, signal) = (at.replace("/up/", "/tree/"), |name: &str| server.signal(name));
        fs::write(desk.path("pw"), "secret\n").unwrap();
        let options = format!("deadline=20s,password-file=pw{ca}");
        assert_takes_changes(&desk, &options, &at.replace(":secret", ""), Some(&signal));
        fs::remove_dir_all(desk.path("root/tree")).unwrap();
        fs::remove_dir_all(desk.path("mirror")).unwrap();
    }
}

#[test]
fn a_server_that_says_nothing_or_too_much_is_an_error_in_time() {
    let Some(desk) = Desk::new() else { return };
    for hello in [&b""[..], b"hello\r\n", b"220-"] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let talks = std::thread::spawn(move || {
            let (mut socket, _) = listener.accept().unwrap();
            use std::io::{Read, Write};
            socket.write_all(hello).unwrap();
            // On and on, where a reply is begun and not ended.
            while hello == b"220-" && socket.write_all(&[b'x'; 65536]).is_ok() {}
            let _ = socket.read(&mut [0; 64]);
            let _ = socket.read(&mut [0; 64]);
        });
        let begun = Instant::now();
        let said = desk.say(&["ls", "--deadline", "2s", &format!("ftp://127.0.0.1:{port}/x.zip")]);
        assert!(!said.status.success() && begun.elapsed() < Duration::from_secs(8));
        talks.join().unwrap();
    }
}
