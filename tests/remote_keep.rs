//! What is kept of servers: folders that are shown when their server is gone, what is pinned, and what a mount tells of its link.

#[path = "common/desk.rs"]
mod desk;
#[path = "common/dress.rs"]
mod dress;
#[path = "common/servers.rs"]
mod servers;

use desk::{Desk, until};
use serde_json::Value;
use servers::{Server, code, desk, fill, is_installed, ports, start};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

const USAGE: i32 = 1;
const NO_SOURCE: i32 = 10;
const NOT_LET_IN: i32 = 41;
const NETWORK: i32 = 42;

fn nginx(desk: &Desk, port: u16) -> Server {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/servers/nginx.sh");
    start(Command::new(script).arg(desk.path("")).arg(port.to_string()), port)
}

fn has_nginx() -> bool {
    is_installed("nginx") && is_installed("openssl")
}

#[track_caller]
fn assert_same(desk: &Desk, there: &str, what: &str) {
    let diff = Command::new("diff").arg("-r").args([desk.path(there), desk.path("m")]).output().unwrap();
    assert!(diff.status.success(), "{what}: {}", String::from_utf8_lossy(&[diff.stdout, diff.stderr].concat()));
}

fn link(desk: &Desk) -> Value {
    let status: Value = serde_json::from_str(&desk.ok(&["status", "--json", "m"])).unwrap();
    status["link"].clone()
}

#[test]
fn a_folder_shows_what_is_kept_of_it_when_its_server_is_gone() {
    let Some(desk) = desk() else { return };
    if !has_nginx() {
        return;
    }
    fill(&desk);
    let port = ports();
    for scheme in ["http", "webdav"] {
        let dav = if scheme == "webdav" { "dav/" } else { "" };
        let address = format!("{scheme}://127.0.0.1:{port}/{dav}tree/");
        let server = nginx(&desk, port);
        desk.ok(&[&address, "m"]);
        assert_same(&desk, "root/tree", "online");
        let online = link(&desk);
        assert_eq!((&online["state"], &online["error"]), (&"online".into(), &Value::Null));
        assert!(online["requests"].as_u64() > Some(3), "{online}");
        assert!(desk.ok(&["status", "m"]).contains("the server answers"));
        desk.ok(&["umount", "m"]);
        drop(server);

        let said = desk.say(&[&address, "m"]);
        let told = String::from_utf8_lossy(&said.stderr).into_owned();
        assert!(said.status.success() && told.contains("cannot be reached"), "{address}: {told}");
        assert_same(&desk, "root/tree", "the server is gone");
        assert_eq!(link(&desk)["state"], "unreachable");
        assert!(desk.ok(&["list"]).contains("the server does not answer"));
        // What comes later is seen as soon as the server is there again.
        fs::write(desk.path("root/tree/later"), "later").unwrap();
        assert!(!desk.path("m/later").exists());
        let server = nginx(&desk, port);
        until("it is seen", || fs::read(desk.path("m/later")).is_ok_and(|read| read == b"later"));
        assert_eq!(link(&desk)["state"], "online");
        desk.ok(&["umount", "m"]);
        fs::remove_file(desk.path("root/tree/later")).unwrap();

        desk.ok(&["-o", "offline=only", &address, "m"]);
        let offline = link(&desk);
        assert_eq!((&offline["state"], offline["bytes"].as_u64()), (&"offline".into(), Some(0)));
        assert_eq!(fs::read(desk.path("m/grüße")).unwrap(), "grüße".as_bytes());
        desk.ok(&["umount", "m"]);
        drop(server);
        assert_eq!(code(&desk, &["ls", &format!("{scheme}://127.0.0.1:{port}/{dav}never/")]), NETWORK);
    }
}

#[test]
fn an_object_that_is_half_kept_goes_on_when_its_server_is_back() {
    let Some(desk) = desk() else { return };
    if !has_nginx() {
        return;
    }
    let port = ports();
    let address = format!("http://127.0.0.1:{port}/x.st");
    let server = nginx(&desk, port);
    desk.ok(&["cat", &format!("{address}!sub/text")]);
    drop(server);
    desk.ok(&["-o", "deadline=1s", &address, "m"]);
    assert!(fs::read(desk.path("m/noise")).is_err());
    assert_eq!(fs::read(desk.path("m/sub/text")).unwrap(), fs::read(desk.path("d/sub/text")).unwrap());
    let _server = nginx(&desk, port);
    until("it is read", || {
        fs::read(desk.path("m/noise")).is_ok_and(|read| read == fs::read(desk.path("d/noise")).unwrap())
    });
    desk.ok(&["umount", "m"]);
}

#[test]
fn what_is_pinned_stays_and_needs_no_server() {
    let Some(desk) = desk() else { return };
    if !has_nginx() {
        return;
    }
    fill(&desk);
    let port = ports();
    let server = nginx(&desk, port);
    let at = |path: &str| format!("http://127.0.0.1:{port}/{path}");
    let small = "--cache-max=100k";
    let told = desk.say(&["pin", small, &at("x.st"), &format!("{}!dir 3", at("tree/"))]);
    assert!(told.status.success(), "{}", String::from_utf8_lossy(&told.stderr));
    // A path in a mount is one in what is mounted.
    desk.ok(&["-o", "cache-max=100k", &at("x.zip"), "m"]);
    desk.ok(&["pin", small, desk.path("m/sub").to_str().unwrap()]);
    desk.ok(&["umount", "m"]);
    let pins: Value = serde_json::from_str(&desk.ok(&["pin", "--json"])).unwrap();
    let names: Vec<&str> = pins["pins"].as_array().unwrap().iter().map(|pin| pin["name"].as_str().unwrap()).collect();
    assert_eq!(names, [at("tree/!dir 3"), at("x.st"), at("x.zip!sub")]);
    assert!(desk.ok(&["pin"]).lines().count() == 3);
    // Other things come and go.
    for _ in 0..3 {
        desk.ok(&["prefetch", small, &at("tree/"), &at("x.zip")]);
    }
    drop(server);
    let offline = ["-o", "offline=only,cache-max=100k"];
    desk.ok(&[&offline[..], &[&at("x.st"), "m"]].concat());
    assert_same(&desk, "d", "pinned");
    assert_eq!(link(&desk)["kept"], link(&desk)["total"]);
    assert!(desk.ok(&["status", "m"]).contains("100 % of"));
    desk.ok(&["umount", "m"]);
    desk.ok(&[&offline[..], &[&at("tree/"), "m"]].concat());
    let diff =
        Command::new("diff").arg("-r").args([desk.path("root/tree/dir 3"), desk.path("m/dir 3")]).output().unwrap();
    assert!(diff.status.success(), "{}", String::from_utf8_lossy(&diff.stdout));
    desk.ok(&["umount", "m"]);
    assert_eq!(desk.ok(&["cat", "--offline=only", &format!("{}!sub/text", at("x.zip"))]).len(), 300_000);
    desk.ok(&["unpin", &at("x.st")]);
    assert_eq!(code(&desk, &["unpin", &at("x.st")]), NO_SOURCE);
    desk.ok(&["unpin", "--all"]);
    assert_eq!(desk.ok(&["pin"]), "");
    assert_eq!(code(&desk, &["pin", "root/x.st"]), USAGE);
}

#[test]
fn what_was_prefetched_is_not_asked_for_again() {
    let Some(desk) = desk() else { return };
    if !has_nginx() {
        return;
    }
    let port = ports();
    let _server = nginx(&desk, port);
    let address = format!("http://127.0.0.1:{port}/x.st");
    desk.ok(&["prefetch", &format!("{address}!noise")]);
    desk.ok(&[&address, "m"]);
    assert_eq!(fs::read(desk.path("m/noise")).unwrap(), fs::read(desk.path("d/noise")).unwrap());
    let told = link(&desk);
    assert_eq!((told["requests"].as_u64(), told["bytes"].as_u64()), (Some(1), Some(0)), "that of opening it: {told}");
    // And through the mount.
    desk.ok(&["prefetch", desk.path("m").to_str().unwrap()]);
    assert!(link(&desk)["kept"].as_u64() > Some(0));
    desk.ok(&["umount", "m"]);
}

#[test]
fn passwords_come_from_the_keyring() {
    let Some(desk) = desk() else { return };
    if !has_nginx() {
        return;
    }
    let port = ports();
    let _server = nginx(&desk, port);
    // What secret-tool does, with a file for a keyring.
    fs::create_dir(desk.path("bin")).unwrap();
    let tool = desk.path("bin/secret-tool");
    let script = "#!/bin/sh\nverb=$1; shift; case $1 in --label=*) shift;; esac; file=\"$RING/$(echo \"$*\" | tr '/ :' '___')\"\n\
        case $verb in store) cat >\"$file\";; lookup) cat \"$file\" 2>/dev/null;; clear) rm \"$file\";; esac\n";
    fs::write(&tool, script).unwrap();
    fs::set_permissions(&tool, fs::Permissions::from_mode(0o755)).unwrap();
    fs::create_dir(desk.path("ring")).unwrap();
    let path = format!("{}:{}", desk.path("bin").display(), std::env::var("PATH").unwrap());
    let say = |args: &[&str]| {
        let mut command = desk.command(args);
        command.env("PATH", &path).env("RING", desk.path("ring")).output().unwrap()
    };
    let closed = format!("http://me@127.0.0.1:{port}/closed/");
    fs::write(desk.path("pw"), "secret\n").unwrap();
    assert_eq!(say(&["ls", "--keyring", "--no-prompt", &closed]).status.code(), Some(NOT_LET_IN));
    let stored = say(&["login", "--password-file", "pw", &closed]);
    assert!(stored.status.success(), "{}", String::from_utf8_lossy(&stored.stderr));
    assert_eq!(say(&["ls", "--no-prompt", &closed]).status.code(), Some(NOT_LET_IN), "nobody asks it unless told");
    assert!(say(&["ls", "--keyring", "--no-prompt", &closed]).status.success());
    let mounted = say(&["-o", "nocache,keyring", &format!("{closed}x.st"), "m"]);
    assert!(mounted.status.success(), "{}", String::from_utf8_lossy(&mounted.stderr));
    assert_same(&desk, "d", "by the keyring");
    desk.ok(&["umount", "m"]);
    assert!(say(&["logout", &closed]).status.success());
    assert_eq!(say(&["logout", &closed]).status.code(), Some(NO_SOURCE));
    assert_eq!(say(&["ls", "--keyring", "--no-prompt", &closed]).status.code(), Some(NOT_LET_IN));
    // The passphrase of a container, by whatever name it is opened.
    desk.ok(&["pack", "-q", "--encrypt=pw", "d", "sealed.st"]);
    assert!(say(&["login", "--password-file", "pw", "sealed.st"]).status.success());
    assert!(say(&["ls", "--keyring", "--no-prompt", desk.path("sealed.st").to_str().unwrap()]).status.success());
}

#[test]
fn fsync_may_wait_for_the_server() {
    let Some(desk) = desk() else { return };
    let module = Path::new("/usr/lib/nginx/modules/ngx_http_dav_ext_module.so");
    if !has_nginx() || !module.exists() {
        assert!(std::env::var_os("CI").is_none(), "nginx has no module for WebDAV");
        return println!("skipped: nginx has no module for WebDAV");
    }
    fs::create_dir(desk.path("root/up")).unwrap();
    let port = ports();
    let server = nginx(&desk, port);
    let address = format!("webdav://127.0.0.1:{port}/dav/up/");
    desk.ok(&["-o", "rw,fsync=remote,deadline=2s", &address, "m"]);
    let write = |text: &str| {
        let line = format!("printf {text} >m/file; sync m/file");
        Command::new("bash").args(["-ec", &line]).current_dir(desk.path("")).output().unwrap().status.success()
    };
    assert!(write("one"));
    assert_eq!(fs::read(desk.path("root/up/file")).unwrap(), b"one");
    drop(server);
    assert!(!write("two"), "it is not on the server");
    assert_eq!(fs::read(desk.path("m/file")).unwrap(), b"two");
    let server = nginx(&desk, port);
    assert!(write("three"));
    assert_eq!(fs::read(desk.path("root/up/file")).unwrap(), b"three");
    desk.ok(&["umount", "m"]);
    // What is kept of it is shown, and nothing is written to that.
    assert_eq!(desk.ok(&["cat", &format!("{address}!file")]), "three");
    drop(server);
    assert_eq!(desk.ok(&["cat", &format!("{address}!file")]), "three");
    assert_eq!(code(&desk, &["-o", "rw,deadline=2s", &address, "m"]), NETWORK);
}
