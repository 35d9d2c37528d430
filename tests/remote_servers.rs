//! Servers of other makers, each started on the loopback: what is read through them is what they serve.

#[path = "common/desk.rs"]
mod desk;
#[path = "common/dress.rs"]
mod dress;
#[path = "common/servers.rs"]
mod servers;

use desk::{Desk, until};
use servers::{
    apache, assert_mounts, assert_takes_changes, assert_writes, code, copyparty, desk, fill, has_nginx_dav, nginx,
    python_http, wsgidav,
};
use std::fs;
use std::process::Command;
use stmount::key::NoKeys;
use stmount::remote::{self, Link};

const NOT_LET_IN: i32 = 41;
const UNTRUSTED: i32 = 24;

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
    let Some((_server, port)) = python_http(&desk) else { return };
    for kind in ["st", "zip"] {
        assert_mounts(&desk, "nocache", &format!("http://127.0.0.1:{port}/x.{kind}"));
    }
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
    let Some((_server, port)) = python_http(&desk) else { return };
    assert_shows_root(&desk, &format!("http://127.0.0.1:{port}/"));
}

#[test]
fn folders_of_copyparty_by_its_lists_and_by_webdav() {
    let Some(desk) = desk() else { return };
    fill(&desk);
    let Some((_server, port)) = copyparty(&desk, "r") else { return };
    assert_shows_root(&desk, &format!("http://127.0.0.1:{port}/"));
    assert_shows_root(&desk, &format!("webdav://127.0.0.1:{port}/"));
    assert_mounts(&desk, "nocache", &format!("http://127.0.0.1:{port}/x.zip"));
}

#[test]
fn folders_of_wsgidav() {
    let Some(desk) = desk() else { return };
    fill(&desk);
    let Some((_server, port)) = wsgidav(&desk, &[]) else { return };
    assert_shows_root(&desk, &format!("webdav://127.0.0.1:{port}/"));
    assert_mounts(&desk, "nocache", &format!("webdav://127.0.0.1:{port}/x.st"));
}

/// Writes to a folder of a server.
#[track_caller]
fn assert_takes(desk: &Desk, address: &str, times: [bool; 2]) {
    let share = remote::share(address, &Link::default(), &NoKeys).unwrap();
    assert_writes(&*share, &desk.path("root/up"), times);
}

#[test]
fn wsgidav_is_written_to() {
    let Some(desk) = desk() else { return };
    ["root/up", "root/tree"].iter().for_each(|dir| fs::create_dir_all(desk.path(dir)).unwrap());
    // Without it times are those of when something was sent.
    let config = desk.path("wsgidav.json");
    fs::write(&config, r#"{"mutable_live_props": ["{DAV:}getlastmodified"]}"#).unwrap();
    let options = ["--config".as_ref(), config.as_os_str()];
    let Some((server, port)) = wsgidav(&desk, &options) else { return };
    assert_takes(&desk, &format!("webdav://127.0.0.1:{port}/up/"), [true; 2]);
    let signal = |name: &str| server.signal(name);
    assert_takes_changes(&desk, "deadline=20s", &format!("webdav://127.0.0.1:{port}/tree/"), Some(&signal));
}

#[test]
fn copyparty_is_written_to() {
    let Some(desk) = desk() else { return };
    ["root/up", "root/tree"].iter().for_each(|dir| fs::create_dir_all(desk.path(dir)).unwrap());
    let Some((server, port)) = copyparty(&desk, "rwmd:c,daw") else { return };
    assert_takes(&desk, &format!("webdav://127.0.0.1:{port}/up/"), [true, false]);
    let signal = |name: &str| server.signal(name);
    assert_takes_changes(&desk, "deadline=20s", &format!("webdav://127.0.0.1:{port}/tree/"), Some(&signal));
}

#[test]
fn nginx_is_written_to() {
    let Some(desk) = desk() else { return };
    if !has_nginx_dav() {
        return;
    }
    let Some((_server, port)) = nginx(&desk) else { return };
    fs::create_dir_all(desk.path("root/up")).unwrap();
    assert_takes(&desk, &format!("webdav://127.0.0.1:{port}/dav/up/"), [false; 2]);
    fs::create_dir_all(desk.path("root/tree")).unwrap();
    assert_takes_changes(&desk, "deadline=20s", &format!("webdav://127.0.0.1:{port}/dav/tree/"), None);
}

#[test]
fn apache_is_written_to() {
    let Some(desk) = desk() else { return };
    ["root/up", "root/tree"].iter().for_each(|dir| fs::create_dir_all(desk.path(dir)).unwrap());
    let Some((_server, port)) = apache(&desk) else { return };
    assert_takes(&desk, &format!("webdav://127.0.0.1:{port}/dav/up/"), [false; 2]);
    assert_takes_changes(&desk, "deadline=20s", &format!("webdav://127.0.0.1:{port}/dav/tree/"), None);
}
