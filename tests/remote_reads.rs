//! What is read from every kind of server, by one suite.

#[path = "common/desk.rs"]
mod desk;
#[path = "common/dice.rs"]
mod dice;
#[path = "common/dress.rs"]
mod dress;
#[path = "common/office.rs"]
mod office;
#[path = "common/reads.rs"]
mod reads;
#[path = "common/servers.rs"]
mod servers;

use desk::Desk;
use office::Office;
use reads::{Can, Lens, Links, Noticed, Served, Times, WEB, assert_serves, fill_richly};
use servers::{apache, caddy, copyparty, ftpd, moto, nginx, ports, python_http, s3s, vsftpd, wsgidav};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::process::Command;
use std::time::Duration;
use stmount::key::NoKeys;
use stmount::remote::{self, Link};

/// A desk with a rich folder `root/rich`.
fn rich() -> Option<Desk> {
    let desk = Desk::new()?;
    fill_richly(&desk.path("root/rich"));
    Some(desk)
}

/// One folder of a server that has it from a directory.
#[track_caller]
fn serves(desk: &Desk, address: String, link: Link, can: Can) {
    assert_serves(&Served { address, link, was: desk.path("root/rich"), by: None, can });
}

fn trusting(desk: &Desk) -> Link {
    Link { ca: Some(desk.path("tls/ca.pem")), ..Link::default() }
}

const NGINX: Can =
    Can { times: [Times::Minutes, Times::Seconds], dot_files: false, called: "nginx (`autoindex`)", ..WEB };
const NGINX_JSON: Can = Can { times: [Times::Seconds; 2], called: "nginx (`autoindex_format json`)", ..NGINX };
const DAV: Can = Can { called: "WebDAV: nginx", ..NGINX_JSON };

#[test]
fn nginx_by_its_pages() {
    let Some(desk) = rich() else { return };
    let Some((_server, port)) = nginx(&desk) else { return };
    serves(&desk, format!("http://127.0.0.1:{port}/rich/"), Link::default(), NGINX);
}

#[test]
fn nginx_by_tls() {
    let Some(desk) = rich() else { return };
    let Some((_server, port)) = nginx(&desk) else { return };
    serves(&desk, format!("https://localhost:{}/rich/", port + 1), trusting(&desk), NGINX);
}

#[test]
fn nginx_by_its_lists() {
    let Some(desk) = rich() else { return };
    let Some((_server, port)) = nginx(&desk) else { return };
    serves(&desk, format!("http://127.0.0.1:{port}/json/rich/"), Link::default(), NGINX_JSON);
}

#[test]
fn nginx_by_webdav() {
    let Some(desk) = rich() else { return };
    if !servers::has_nginx_dav() {
        return;
    }
    let Some((_server, port)) = nginx(&desk) else { return };
    // It lists no directory in which a link leads nowhere.
    fs::remove_file(desk.path("root/rich/links/dangling")).unwrap();
    serves(&desk, format!("webdav://127.0.0.1:{port}/dav/rich/"), Link::default(), DAV);
}

const APACHE: Can =
    Can { lens: Lens::About, times: [Times::Minutes, Times::Seconds], called: "Apache (`FancyIndexing`)", ..WEB };

#[test]
fn apache_by_its_long_pages() {
    let Some(desk) = rich() else { return };
    let Some((_server, port)) = apache(&desk) else { return };
    serves(&desk, format!("http://127.0.0.1:{port}/rich/"), Link::default(), APACHE);
}

#[test]
fn apache_by_its_short_pages() {
    let Some(desk) = rich() else { return };
    let Some((_server, port)) = apache(&desk) else { return };
    let can =
        Can { lens: Lens::Untold, times: [Times::Untold, Times::Seconds], called: "Apache, short pages", ..APACHE };
    serves(&desk, format!("http://127.0.0.1:{port}/plain/rich/"), Link::default(), can);
}

#[test]
fn apache_by_webdav() {
    let Some(desk) = rich() else { return };
    let Some((_server, port)) = apache(&desk) else { return };
    let can = Can { links: Links::LeftOut, called: "WebDAV: Apache", ..WEB };
    serves(&desk, format!("webdav://127.0.0.1:{port}/dav/rich/"), Link::default(), can);
}

#[test]
fn the_server_of_python() {
    let Some(desk) = rich() else { return };
    let Some((_server, port)) = python_http(&desk) else { return };
    let can = Can {
        lens: Lens::Untold,
        times: [Times::Untold, Times::Seconds],
        noticed: Noticed::Date,
        ranges: false,
        called: "python `http.server`",
        ..WEB
    };
    serves(&desk, format!("http://127.0.0.1:{port}/rich/"), Link::default(), can);
}

#[test]
fn caddy_by_its_lists() {
    let Some(desk) = rich() else { return };
    let Some((_server, port)) = caddy(&desk) else { return };
    serves(&desk, format!("http://127.0.0.1:{port}/rich/"), Link::default(), Can { called: "caddy", ..WEB });
}

#[test]
fn copyparty_by_its_lists() {
    let Some(desk) = rich() else { return };
    let Some((_server, port)) = copyparty(&desk, "r") else { return };
    let can = Can { dot_files: false, noticed: Noticed::Date, called: "copyparty", ..WEB };
    serves(&desk, format!("http://127.0.0.1:{port}/rich/"), Link::default(), can);
}

#[test]
fn copyparty_by_webdav() {
    let Some(desk) = rich() else { return };
    let Some((_server, port)) = copyparty(&desk, "r") else { return };
    let can = Can { dot_files: false, noticed: Noticed::Date, called: "WebDAV: copyparty", ..WEB };
    serves(&desk, format!("webdav://127.0.0.1:{port}/rich/"), Link::default(), can);
}

#[test]
fn wsgidav_by_webdav() {
    let Some(desk) = rich() else { return };
    let Some((_server, port)) = wsgidav(&desk, &[]) else { return };
    // It lists no directory with a name that is not UTF-8.
    fs::remove_file(desk.path("root/rich/odd").join(OsStr::from_bytes(b"\xff none"))).unwrap();
    let can = Can { links: Links::LeftOut, called: "WebDAV: wsgidav", ..WEB };
    serves(&desk, format!("webdav://127.0.0.1:{port}/rich/"), Link::default(), can);
}

fn endpoint(port: u16) -> Link {
    Link { endpoint: Some(format!("http://127.0.0.1:{port}")), ..Link::default() }
}

const S3: Can = Can { empty_dirs: false, prefixes: true, links: Links::Mistold, called: "S3: s3s-fs", ..WEB };

#[test]
fn s3s_with_its_buckets_in_directories() {
    let Some(desk) = rich() else { return };
    let Some((_server, port)) = s3s(&desk) else { return };
    fs::create_dir(desk.path("buckets/bucket")).unwrap();
    fs::rename(desk.path("root/rich"), desk.path("buckets/bucket/rich")).unwrap();
    fs::remove_dir_all(desk.path("buckets/bucket/rich/links")).unwrap();
    // The library for S3 takes a blank at an end for no part of a key.
    fs::remove_file(desk.path("buckets/bucket/rich/names/behind ")).unwrap();
    let address = "s3://KEY:SECRET-OF-THE-KEY@bucket/rich/".to_owned();
    let was = desk.path("buckets/bucket/rich");
    assert_serves(&Served { address, link: endpoint(port), was, by: None, can: S3 });
}

#[test]
fn moto_with_its_buckets_in_memory() {
    let Some(desk) = rich() else { return };
    let Some((_server, port)) = moto(&desk) else { return };
    let made = Command::new("curl").args(["-sf", "-X", "PUT", &format!("http://127.0.0.1:{port}/bucket")]).status();
    assert!(made.unwrap().success());
    let address = "s3://KEY:SECRET-OF-THE-KEY@bucket/rich/".to_owned();
    // The library for S3 takes a blank at an end for no part of a key.
    fs::remove_file(desk.path("root/rich/names/behind ")).unwrap();
    let share = remote::share(&address, &endpoint(port), &NoKeys).unwrap();
    let can = Can { times: [Times::Upload; 2], links: Links::LeftOut, empty_dirs: true, called: "S3: moto", ..S3 };
    let can = Can { line_feeds: false, ..can };
    let was = desk.path("root/rich");
    assert_serves(&Served { address, link: endpoint(port), was, by: share.writes(), can });
}

const FTP: Can = Can { modes: true, links: Links::Told, noticed: Noticed::TimeAndLength, line_feeds: false, ..WEB };

#[test]
fn pyftpdlib_in_clear_and_by_tls() {
    for (kind, scheme) in [("clear", "ftp"), ("implicit", "ftps"), ("explicit", "ftpes")] {
        let Some(desk) = rich() else { return };
        let port = ports();
        let Some(_server) = ftpd(&desk, port, &[kind]) else { return };
        let link = if kind == "clear" { Link::default() } else { trusting(&desk) };
        let can = Can { links: Links::Followed, called: "FTP with MLSD", ..FTP };
        serves(&desk, format!("{scheme}://me:secret@localhost:{port}/rich/"), link, can);
    }
}

#[test]
fn vsftpd_which_knows_no_mlsd() {
    let Some(desk) = rich() else { return };
    let port = ports();
    let Some(_server) = vsftpd(&desk, port, &["clear"]) else { return };
    let can = Can { times: [Times::Days, Times::Seconds], called: "FTP without it (vsftpd)", ..FTP };
    serves(&desk, format!("ftp://localhost:{port}/rich/"), Link::default(), can);
}

const AS_READER: &str = "STMOUNT_TEST_READS_FROM";

/// The keys of a user are found by the environment of a process, and so this is one of its own.
#[test]
fn sshd_of_openssh() {
    let can = Can {
        modes: true,
        owners: true,
        links: Links::Told,
        noticed: Noticed::TimeAndLength,
        handles: true,
        called: "sftp",
        ..WEB
    };
    if let Ok(address) = std::env::var(AS_READER) {
        let was = format!("/{}", address.splitn(4, '/').nth(3).unwrap().trim_end_matches('/')).into();
        let link = Link { patience: Duration::from_secs(20), ..Link::default() };
        return assert_serves(&Served { address, link, was, by: None, can });
    }
    let Some(office) = Office::new(&[]) else { return };
    fill_richly(&office.path("root/rich"));
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "sshd_of_openssh", "--nocapture"]).env(AS_READER, office.address("rich/"));
    command.env("HOME", office.path("home")).env_remove("SSH_AUTH_SOCK");
    let said = command.output().unwrap();
    let told = String::from_utf8_lossy(&[said.stdout, said.stderr].concat()).into_owned();
    assert!(said.status.success() && told.contains("1 passed"), "{told}");
}
