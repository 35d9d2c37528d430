//! Servers of other makers, each of which ends with its test, and what they serve.

#![allow(dead_code)]

use super::desk::{Desk, until};
use std::ffi::OsStr;
use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use stmount::error::{Error, Kind};
use stmount::remote::{Set, Share};
use stmount::source::Memory;
use stmount::tree::Time;

/// A server, which ends with the test.
pub struct Server(Child);

impl Server {
    /// Sends it a signal.
    pub fn signal(&self, name: &str) {
        assert!(Command::new("kill").args(["-s", name, &self.0.id().to_string()]).status().unwrap().success());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Its own way to end takes its workers with it.
        let id = self.0.id().to_string();
        for signal in ["TERM", "CONT"] {
            let _ = Command::new("kill").args(["-s", signal, &id]).status();
        }
        let _ = self.0.wait();
    }
}

/// Three ports, one behind the other, that were free a moment ago.
pub fn ports() -> u16 {
    loop {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let others = (1..3).map(|n| TcpListener::bind(("127.0.0.1", port.saturating_add(n))));
        if others.collect::<Result<Vec<_>, _>>().is_ok() {
            return port;
        }
    }
}

pub fn start(command: &mut Command, port: u16) -> Server {
    let server = Server(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
    until("the server answers", || TcpStream::connect(("127.0.0.1", port)).is_ok());
    server
}

pub fn is_installed(program: &str) -> bool {
    let find = format!("PATH=$PATH:/usr/sbin:/usr/local/sbin; command -v {program} >/dev/null");
    let found = Command::new("sh").args(["-c", &find]).status().unwrap().success();
    assert!(found || std::env::var_os("CI").is_none(), "{program} is not installed");
    if !found {
        println!("skipped: {program} is not installed");
    }
    found
}

/// The Python that has the servers of other makers.
pub fn python(module: &str) -> Option<String> {
    let python = std::env::var("STMOUNT_TEST_PYTHON").unwrap_or_else(|_| "python3".into());
    let found = Command::new(&python).args(["-c", &format!("import {module}")]).stderr(Stdio::null()).status();
    let found = found.is_ok_and(|status| status.success());
    assert!(found || std::env::var_os("CI").is_none(), "{module} is not installed");
    if !found {
        println!("skipped: {module} is not installed");
    }
    found.then_some(python)
}

pub fn noise(len: u32) -> Vec<u8> {
    (0..len / 4).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect()
}

/// A desk with a folder `d` that is also in `root/x.zip` and `root/x.st`.
pub fn desk() -> Option<Desk> {
    let desk = Desk::new()?;
    desk.has_own_cache();
    fs::create_dir_all(desk.path("d/sub")).unwrap();
    fs::create_dir(desk.path("root")).unwrap();
    fs::write(desk.path("d/noise"), noise(8_000_000)).unwrap();
    fs::write(desk.path("d/sub/text"), "a line of text\n".repeat(20_000)).unwrap();
    desk.ok(&["pack", "-q", "d", "root/x.st"]);
    desk.ok(&["pack", "-q", "d", "root/x.zip"]);
    Some(desk)
}

/// Mounts what is at an address, and compares all of it.
#[track_caller]
pub fn assert_mounts(desk: &Desk, options: &str, address: &str) {
    desk.ok(&["-o", options, address, "m"]);
    let diff = Command::new("diff").arg("-r").args([desk.path("d"), desk.path("m")]).output().unwrap();
    assert!(diff.status.success(), "{address}: {}", String::from_utf8_lossy(&diff.stdout));
    desk.ok(&["umount", "m"]);
}

pub fn code(desk: &Desk, args: &[&str]) -> i32 {
    desk.say(args).status.code().unwrap_or(-1)
}

/// A folder with many small files and odd names beside the archives.
pub fn fill(desk: &Desk) {
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

/// Writes to a folder of a server in all ways there are, and looks at what became of the directory behind it; of which one
/// file, `kept`, is left. Some servers keep the times of what is sent, and some set them also later.
#[track_caller]
pub fn assert_writes(share: &dyn Share, place: &Path, [keeps_times, sets_times]: [bool; 2]) {
    let writes = share.writes().unwrap();
    let noise = noise(4_000_000);
    let (time, mut gone) = (Time { secs: 1_500_000_000, nanos: 0 }, Vec::new());
    let what = Set { modified: Some(time), mode: Some(0o640) };
    let bytes = Memory::new(noise.clone());
    let mut told = |at| {
        gone.push(at);
        Ok(())
    };
    writes.put("a b", &bytes, &what, &mut told).unwrap();
    assert!(fs::read(place.join("a b")).unwrap() == noise);
    assert!(gone.is_sorted() && gone.last() == Some(&4_000_000), "{gone:?}");
    let look = share.look("a b").unwrap();
    assert_eq!((look.len, look.modified == Some(time)), (Some(4_000_000), keeps_times));
    assert_eq!(writes.holds().mtime, keeps_times);
    // In place of what was there, and nothing in place of anything when it goes wrong.
    writes.put("a b", &Memory::new(b"short".to_vec()), &Set::default(), &mut |_| Ok(())).unwrap();
    assert_eq!(fs::read(place.join("a b")).unwrap(), b"short");
    let stopped = writes.put("a b", &bytes, &what, &mut |at| match at {
        200_000.. => Err(Error::new(Kind::Interrupted, "enough")),
        _ => Ok(()),
    });
    let stopped = stopped.unwrap_err();
    assert_eq!(stopped.kind(), Kind::Interrupted, "{stopped}");
    assert_eq!(fs::read(place.join("a b")).unwrap(), b"short");
    until("nothing is left of it", || fs::read_dir(place).unwrap().count() == 1);
    writes.put("empty", &Memory::new(Vec::new()), &Set::default(), &mut |_| Ok(())).unwrap();
    assert_eq!(fs::read(place.join("empty")).unwrap(), b"");
    writes.make_dir("dir").unwrap();
    writes.make_dir("dir").unwrap();
    assert_eq!(writes.make_dir("empty").unwrap_err().kind(), Kind::Exists);
    writes.rename("a b", "dir/grüße").unwrap();
    assert_eq!(fs::read(place.join("dir/grüße")).unwrap(), b"short");
    writes.rename("dir/grüße", "empty").unwrap();
    assert_eq!(fs::read(place.join("empty")).unwrap(), b"short");
    assert_eq!(writes.rename("missing", "x").unwrap_err().kind(), Kind::NotFound);
    writes.rename("dir", "other").unwrap();
    writes.put("other/x", &bytes, &Set::default(), &mut |_| Ok(())).unwrap();
    let full = writes.remove_dir("other").unwrap_err();
    assert_eq!(full.kind(), Kind::NotEmpty, "{full}");
    assert_eq!(writes.remove("other").unwrap_err().kind(), Kind::IsADirectory);
    writes.remove("other/x").unwrap();
    writes.remove("other/x").unwrap();
    writes.remove_dir("other").unwrap();
    writes.remove_dir("other").unwrap();
    writes.rename("empty", "kept").unwrap();
    writes.set("kept", &what).unwrap();
    assert_eq!(share.look("kept").unwrap().modified == Some(time), sets_times);
    assert_eq!(fs::read_dir(place).unwrap().count(), 1);
}

fn said(output: &std::process::Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr].concat()).into_owned()
}

/// What somebody does in a folder: what is there and in a mount of it must be the same.
const FIRST: &str = "mkdir -p a/b 'odd name &%ü'; cp \"$D/noise\" a/noise; printf text >a/b/t; mv a/noise a/b/n2; printf x >>a/b/t; \
    rsync -r \"$D/\" c/; rm -r c/sub; mv a/b/t 'odd name &%ü/grüße'; mv a z; : >empty; cp z/b/n2 z/n3";
const SECOND: &str = "printf patch | dd of=z/n3 bs=1 seek=5000000 conv=notrunc status=none; mv z/b y; truncate -s 100 c/noise; \
    mv y/n2 c/noise; rm -rf 'odd name &%ü'; mkdir -p z/n; mv z/n3 z/n/n3; mv c z/n/c; rm empty; printf new >empty; rmdir y";

/// Writes to a mounted folder with other programs, once more after a kill, and, where it takes signals, once while the server
/// stands still.
#[track_caller]
pub fn assert_takes_changes(desk: &Desk, options: &str, address: &str, signal: Option<&dyn Fn(&str)>) {
    let mirror = desk.path("mirror");
    fs::create_dir_all(&mirror).unwrap();
    let shell = |line: &str, place: &Path| {
        let mut command = Command::new("bash");
        command.args(["-ec", line]).current_dir(place).env("D", desk.path("d"));
        let done = command.output().unwrap();
        assert!(done.status.success(), "{line}: {}", String::from_utf8_lossy(&done.stderr));
    };
    let is_same = |what: &str| {
        desk.ok(&["-o", &format!("{options},nocache"), address, "m"]);
        let diff = Command::new("diff").arg("-r").args([&mirror, &desk.path("m")]).output().unwrap();
        assert!(diff.status.success(), "{address}, {what}: {}", said(&diff));
        desk.ok(&["umount", "m"]);
    };
    let writable = format!("{options},rw");
    desk.ok(&["-o", &writable, address, "m"]);
    [&mirror, &desk.path("m")].iter().for_each(|place| shell(FIRST, place));
    desk.ok(&["umount", "m"]);
    is_same("what was written");
    desk.ok(&["-o", &writable, address, "m"]);
    [&mirror, &desk.path("m")].iter().for_each(|place| shell(SECOND, place));
    desk.ok(&["sync", "m"]);
    desk.kill("-9");
    let _ = Command::new("fusermount3").arg("-u").arg(desk.path("m")).status();
    desk.ok(&["-o", &writable, address, "m"]);
    let diff = Command::new("diff").arg("-r").args([&mirror, &desk.path("m")]).output().unwrap();
    assert!(diff.status.success(), "{address}, after a kill: {}", said(&diff));
    desk.ok(&["umount", "m"]);
    is_same("after a kill");
    let Some(signal) = signal else { return };
    desk.ok(&["-o", &format!("{writable},deadline=1s"), address, "m"]);
    signal("STOP");
    [&mirror, &desk.path("m")].iter().for_each(|place| shell("printf late >late; sync late", place));
    let told = desk.say(&["umount", "m"]);
    assert_eq!(told.status.code(), Some(61), "{}", String::from_utf8_lossy(&told.stderr));
    signal("CONT");
    until("the mount is gone", || !desk.is_mounted());
    desk.ok(&["-o", &writable, address, "m"]);
    desk.ok(&["umount", "m"]);
    is_same("after it stood still");
}

/// Whether nginx has its module for all of WebDAV.
pub fn has_nginx_dav() -> bool {
    let is_there = Path::new("/usr/lib/nginx/modules/ngx_http_dav_ext_module.so").exists();
    assert!(is_there || std::env::var_os("CI").is_none(), "nginx has no module for all of WebDAV");
    if !is_there {
        println!("skipped: nginx has no module for all of WebDAV");
    }
    is_there
}

/// nginx: in clear, by TLS, and by TLS for who shows a certificate, on three ports.
pub fn nginx(desk: &Desk) -> Option<(Server, u16)> {
    if !is_installed("nginx") || !is_installed("openssl") {
        return None;
    }
    let (port, script) = (ports(), Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/servers/nginx.sh"));
    let server = start(Command::new(script).arg(desk.path("")).arg(port.to_string()), port);
    Some((server, port))
}

/// Apache, whose folder `/dav/` is one of WebDAV; its pages are long ones, and below `/plain/` short ones.
pub fn apache(desk: &Desk) -> Option<(Server, u16)> {
    if !is_installed("apache2") {
        return None;
    }
    let (port, script) = (ports(), Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/servers/apache.sh"));
    Some((start(Command::new(script).arg(desk.path("")).arg(port.to_string()), port), port))
}

/// The server of Python, which knows no ranges.
pub fn python_http(desk: &Desk) -> Option<(Server, u16)> {
    if !is_installed("python3") {
        return None;
    }
    let port = ports();
    let mut command = Command::new("python3");
    command.args(["-m", "http.server", "--bind", "127.0.0.1", &port.to_string()]).current_dir(desk.path("root"));
    Some((start(&mut command, port), port))
}

pub fn caddy(desk: &Desk) -> Option<(Server, u16)> {
    if !is_installed("caddy") {
        return None;
    }
    let port = ports();
    let mut command = Command::new("caddy");
    command.args(["file-server", "--browse", "--listen", &format!("127.0.0.1:{port}"), "--root"]);
    command.arg(desk.path("root")).env("HOME", desk.path(""));
    Some((start(&mut command, port), port))
}

/// copyparty, with what its volume lets everybody do.
pub fn copyparty(desk: &Desk, lets: &str) -> Option<(Server, u16)> {
    let python = python("copyparty")?;
    let port = ports();
    let mut command = Command::new(python);
    command.args(["-m", "copyparty", "-q", "-i", "127.0.0.1", "-p", &port.to_string(), "-v"]);
    command.arg(format!("{}::{lets}", desk.path("root").display())).env("HOME", desk.path(""));
    Some((start(&mut command, port), port))
}

/// wsgidav, with more options.
pub fn wsgidav(desk: &Desk, options: &[&OsStr]) -> Option<(Server, u16)> {
    let python = python("wsgidav, cheroot")?;
    let port = ports();
    let mut command = Command::new(python);
    command.args(["-c", "from wsgidav.server.server_cli import run; run()"]).args(options);
    command.args(["--host", "127.0.0.1", "--port", &port.to_string(), "--auth", "anonymous", "--server", "cheroot"]);
    command.arg("--root").arg(desk.path("root"));
    Some((start(&mut command, port), port))
}

/// A file with the keys that these servers let in.
pub fn has_keys(desk: &Desk) {
    fs::create_dir_all(desk.path("home/.aws")).unwrap();
    let keys = "[default]\naws_access_key_id = KEY\naws_secret_access_key = SECRET-OF-THE-KEY\n";
    fs::write(desk.path("home/.aws/credentials"), keys).unwrap();
}

/// s3s-fs, which has its buckets in a directory.
pub fn s3s(desk: &Desk) -> Option<(Server, u16)> {
    if !is_installed("s3s-fs") {
        return None;
    }
    has_keys(desk);
    fs::create_dir_all(desk.path("buckets")).unwrap();
    let port = ports();
    let mut command = Command::new("s3s-fs");
    command.args(["--host", "127.0.0.1", "--access-key", "KEY", "--secret-key", "SECRET-OF-THE-KEY", "--port"]);
    command.arg(port.to_string()).arg(desk.path("buckets"));
    Some((start(&mut command, port), port))
}

/// moto, which keeps all in memory and lets everybody in.
pub fn moto(desk: &Desk) -> Option<(Server, u16)> {
    let python = python("moto.server")?;
    has_keys(desk);
    let port = ports();
    let mut command = Command::new(python);
    command.args(["-m", "moto.server", "-H", "127.0.0.1", "-p", &port.to_string()]);
    Some((start(&mut command, port), port))
}

/// Starts pyftpdlib: `clear`, `implicit` or `explicit`, and its switches.
pub fn ftpd(desk: &Desk, port: u16, how: &[&str]) -> Option<Server> {
    let python = python("pyftpdlib, OpenSSL")?;
    if !is_installed("openssl") {
        return None;
    }
    let mut command = Command::new(python);
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/servers/ftpd.py"));
    command.arg(desk.path("")).arg(port.to_string()).args(how);
    Some(start(&mut command, port))
}

/// Starts vsftpd: `clear` or `explicit`.
pub fn vsftpd(desk: &Desk, port: u16, how: &[&str]) -> Option<Server> {
    if !is_installed("vsftpd") || !is_installed("openssl") {
        return None;
    }
    if !rustix::process::geteuid().is_root() {
        println!("skipped: vsftpd has to be started by root");
        return None;
    }
    let mut command = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/servers/vsftpd.sh"));
    command.arg(desk.path("")).arg(port.to_string()).args(how);
    Some(start(&mut command, port))
}
