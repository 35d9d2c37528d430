//! Servers of other makers, each started on the loopback: what is read through them is what they serve.

#[path = "common/desk.rs"]
mod desk;
#[path = "common/dress.rs"]
mod dress;

use desk::{Desk, until};
use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

const NOT_LET_IN: i32 = 41;
const UNTRUSTED: i32 = 24;

/// A server, which ends with the test.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        // Its own way to end takes its workers with it.
        let _ = Command::new("kill").arg(self.0.id().to_string()).status();
        let _ = self.0.wait();
    }
}

/// Three ports, one behind the other, that were free a moment ago.
fn ports() -> u16 {
    loop {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let others = (1..3).map(|n| TcpListener::bind(("127.0.0.1", port.saturating_add(n))));
        if others.collect::<Result<Vec<_>, _>>().is_ok() {
            return port;
        }
    }
}

fn start(command: &mut Command, port: u16) -> Server {
    let server = Server(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
    until("the server answers", || TcpStream::connect(("127.0.0.1", port)).is_ok());
    server
}

fn is_installed(program: &str) -> bool {
    let found =
        Command::new("sh").args(["-c", &format!("command -v {program} >/dev/null")]).status().unwrap().success();
    assert!(found || std::env::var_os("CI").is_none(), "{program} is not installed");
    if !found {
        println!("skipped: {program} is not installed");
    }
    found
}

/// A desk with a folder `d` that is also in `root/x.zip` and `root/x.st`.
fn desk() -> Option<Desk> {
    let desk = Desk::new()?;
    desk.has_own_cache();
    fs::create_dir_all(desk.path("d/sub")).unwrap();
    fs::create_dir(desk.path("root")).unwrap();
    let noise: Vec<u8> = (0..2_000_000u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    fs::write(desk.path("d/noise"), noise).unwrap();
    fs::write(desk.path("d/sub/text"), "a line of text\n".repeat(20_000)).unwrap();
    desk.ok(&["pack", "-q", "d", "root/x.st"]);
    desk.ok(&["pack", "-q", "d", "root/x.zip"]);
    Some(desk)
}

/// Mounts what is at an address, and compares all of it.
#[track_caller]
fn assert_mounts(desk: &Desk, options: &str, address: &str) {
    desk.ok(&["-o", options, address, "m"]);
    let diff = Command::new("diff").arg("-r").args([desk.path("d"), desk.path("m")]).output().unwrap();
    assert!(diff.status.success(), "{address}: {}", String::from_utf8_lossy(&diff.stdout));
    desk.ok(&["umount", "m"]);
}

fn code(desk: &Desk, args: &[&str]) -> i32 {
    desk.say(args).status.code().unwrap_or(-1)
}

fn nginx(desk: &Desk) -> Option<(Server, u16)> {
    if !is_installed("nginx") || !is_installed("openssl") {
        return None;
    }
    let (port, script) = (ports(), Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/servers/nginx.sh"));
    let server = start(Command::new(script).arg(desk.path("")).arg(port.to_string()), port);
    Some((server, port))
}

#[test]
fn nginx_in_clear_by_tls_and_for_who_is_let_in() {
    let Some(desk) = desk() else { return };
    let Some((_server, port)) = nginx(&desk) else { return };
    let (clear, tls, strict) = (port, port + 1, port + 2);
    let (ca, client) = (desk.path("tls/ca.pem"), desk.path("tls/client.pem"));
    let (ca, client) = (ca.to_str().unwrap(), client.to_str().unwrap());
    for kind in ["st", "zip"] {
        assert_mounts(&desk, "nocache", &format!("http://127.0.0.1:{clear}/x.{kind}"));
        assert_mounts(&desk, &format!("nocache,ca={ca}"), &format!("https://localhost:{tls}/x.{kind}"));
        assert_mounts(&desk, &format!("nocache,ca={ca}"), &format!("http://127.0.0.1:{clear}/old/x.{kind}"));
        let options = format!("nocache,ca={ca},cert={client}");
        assert_mounts(&desk, &options, &format!("https://localhost:{strict}/x.{kind}"));
    }
    fs::write(desk.path("pw"), "secret\n").unwrap();
    let closed = format!("http://me@127.0.0.1:{clear}/closed/x.st");
    assert_mounts(&desk, "nocache,password-file=pw", &closed);
    assert_eq!(code(&desk, &["ls", "--no-prompt", &closed]), NOT_LET_IN);
    assert_eq!(code(&desk, &["ls", &format!("https://localhost:{tls}/x.st")]), UNTRUSTED);
    // From TLS to clear: who listens there would see it all.
    assert_ne!(code(&desk, &["ls", "--ca", ca, &format!("https://localhost:{tls}/down/x.st")]), 0);
    assert_ne!(code(&desk, &["ls", "--ca", ca, &format!("https://localhost:{strict}/x.st")]), 0);
}

#[test]
fn a_server_of_python_which_knows_no_ranges() {
    let Some(desk) = desk() else { return };
    if !is_installed("python3") {
        return;
    }
    let port = ports();
    let mut command = Command::new("python3");
    command.args(["-m", "http.server", "--bind", "127.0.0.1", &port.to_string()]).current_dir(desk.path("root"));
    let _server = start(&mut command, port);
    for kind in ["st", "zip"] {
        assert_mounts(&desk, "nocache", &format!("http://127.0.0.1:{port}/x.{kind}"));
    }
}

/// A folder with many small files and odd names beside the archives.
fn fill(desk: &Desk) {
    for n in 0..20 {
        let dir = desk.path(&format!("root/tree/dir {n}"));
        fs::create_dir_all(&dir).unwrap();
        for file in 0..10 {
            fs::write(dir.join(format!("file-{file}")), format!("{n} {file}\n").repeat(file * 100)).unwrap();
        }
    }
    for name in [
        "a&b;c",
        "per%20cent",
        "plus+minus",
        "grüße",
        "quote\"'`",
        "hash#tag",
        "ques?tion",
        "[x]{y}",
        "semi;colon",
        "eq=al",
    ] {
        fs::write(desk.path("root/tree").join(name), name).unwrap();
    }
    fs::create_dir(desk.path("root/tree/empty")).unwrap();
}

/// Mounts a folder of a server, and compares all that is in it, and what is in an archive in it.
#[track_caller]
fn assert_shows_root(desk: &Desk, address: &str) {
    desk.ok(&["-r", "-o", "nocache", address, "m"]);
    let only = ["--exclude", "*#"];
    let diff = Command::new("diff").arg("-r").args(only).args([desk.path("root"), desk.path("m")]).output().unwrap();
    assert!(diff.status.success(), "{address}: {}", String::from_utf8_lossy(&[diff.stdout, diff.stderr].concat()));
    let meta = fs::metadata(desk.path("m/x.zip")).unwrap();
    let (was, size) =
        (fs::metadata(desk.path("root/x.zip")).unwrap(), fs::metadata(desk.path("root/x.st")).unwrap().len());
    assert_eq!((meta.len(), fs::metadata(desk.path("m/x.st")).unwrap().len()), (was.len(), size), "{address}");
    let late = was.modified().unwrap().duration_since(meta.modified().unwrap()).unwrap_or_default();
    assert!(late.as_secs() < 61, "{address}: some servers tell minutes");
    let diff = Command::new("diff").arg("-r").args([desk.path("d"), desk.path("m/x.zip#")]).output().unwrap();
    assert!(diff.status.success(), "{address}: {}", String::from_utf8_lossy(&diff.stdout));
    assert!(fs::write(desk.path("m/new"), "").is_err());
    desk.ok(&["umount", "m"]);
}

#[test]
fn folders_of_nginx_with_pages() {
    let Some(desk) = desk() else { return };
    let Some((_server, port)) = nginx(&desk) else { return };
    fill(&desk);
    assert_shows_root(&desk, &format!("http://127.0.0.1:{port}/"));
    assert_shows_root(&desk, &format!("http://127.0.0.1:{port}"));
    assert_eq!(desk.ok(&["ls", &format!("http://127.0.0.1:{port}/tree/dir%203")]).lines().count(), 10);
    // What comes and goes is seen, and a page that is no listing is no folder.
    desk.ok(&["-o", "nocache", &format!("http://127.0.0.1:{port}/"), "m"]);
    assert!(!desk.path("m/later").exists());
    fs::write(desk.path("root/later"), "later").unwrap();
    until("it is seen", || fs::read(desk.path("m/later")).is_ok_and(|read| read == b"later"));
    desk.ok(&["umount", "m"]);
    fs::create_dir(desk.path("root/site")).unwrap();
    fs::write(desk.path("root/site/index.html"), "<h1>Hello</h1>").unwrap();
    assert_eq!(code(&desk, &["ls", &format!("http://127.0.0.1:{port}/site/")]), 33);
    assert_eq!(code(&desk, &["ls", &format!("http://127.0.0.1:{port}/missing/")]), 10);
}

#[test]
fn folders_of_python_which_tells_no_sizes() {
    let Some(desk) = desk() else { return };
    fill(&desk);
    let port = ports();
    let mut command = Command::new("python3");
    command.args(["-m", "http.server", "--bind", "127.0.0.1", &port.to_string()]).current_dir(desk.path("root"));
    let _server = start(&mut command, port);
    assert_shows_root(&desk, &format!("http://127.0.0.1:{port}/"));
}

/// The Python that has the servers of other makers.
fn python(module: &str) -> Option<String> {
    let python = std::env::var("STMOUNT_TEST_PYTHON").unwrap_or_else(|_| "python3".into());
    let found = Command::new(&python).args(["-c", &format!("import {module}")]).stderr(Stdio::null()).status();
    let found = found.is_ok_and(|status| status.success());
    assert!(found || std::env::var_os("CI").is_none(), "{module} is not installed");
    if !found {
        println!("skipped: {module} is not installed");
    }
    found.then_some(python)
}

#[test]
fn folders_of_copyparty_by_its_lists_and_by_webdav() {
    let Some(desk) = desk() else { return };
    let Some(python) = python("copyparty") else { return };
    fill(&desk);
    let port = ports();
    let mut command = Command::new(python);
    command.args(["-m", "copyparty", "-q", "-i", "127.0.0.1", "-p", &port.to_string(), "-v"]);
    command.arg(format!("{}::r", desk.path("root").display())).env("HOME", desk.path(""));
    let _server = start(&mut command, port);
    assert_shows_root(&desk, &format!("http://127.0.0.1:{port}/"));
    assert_shows_root(&desk, &format!("webdav://127.0.0.1:{port}/"));
    assert_mounts(&desk, "nocache", &format!("http://127.0.0.1:{port}/x.zip"));
}

#[test]
fn folders_of_wsgidav() {
    let Some(desk) = desk() else { return };
    let Some(python) = python("wsgidav, cheroot") else { return };
    fill(&desk);
    let port = ports();
    let mut command = Command::new(python);
    command.args(["-c", "from wsgidav.server.server_cli import run; run()", "--host", "127.0.0.1", "--port"]);
    command.args([&port.to_string(), "--auth", "anonymous", "--server", "cheroot", "--root"]).arg(desk.path("root"));
    let _server = start(&mut command, port);
    assert_shows_root(&desk, &format!("webdav://127.0.0.1:{port}/"));
    assert_mounts(&desk, "nocache", &format!("webdav://127.0.0.1:{port}/x.st"));
}
