//! Containers and stores on servers of other makers: made there, added to there, by one writer at a time.

#[path = "common/desk.rs"]
mod desk;
#[path = "common/dress.rs"]
mod dress;
#[path = "common/listing.rs"]
mod listing;
#[path = "common/servers.rs"]
mod servers;

use desk::{Desk, until};
use servers::{Server, code, is_installed, ports, python, start};
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use stmount::cache::Cache;
use stmount::codec::id::Id;
use stmount::error::Kind;
use stmount::open::{Amending, How, bases};
use stmount::source::objects::Hold;
use stmount::source::{ReadAt, Store};

const LOCKED: i32 = 11;
const EXISTS: i32 = 1;
const CHANGED: i32 = 44;
const NOT_UPLOADED: i32 = 61;

/// A server, and a folder of it.
struct Site {
    desk: Desk,
    server: Server,
    /// With a slash at its end.
    address: String,
    /// The words that a verb needs.
    words: Vec<String>,
    /// Where its files are, if they are anywhere.
    files: Option<PathBuf>,
    /// It takes a file only as a whole.
    whole: bool,
}

/// A desk with a folder `d`, and `more` to be added to it, which are `both` together.
fn desk() -> Option<Desk> {
    let desk = Desk::new()?;
    desk.has_own_cache();
    for dir in ["d/sub", "more/sub", "both/sub", "root", "home"] {
        fs::create_dir_all(desk.path(dir)).unwrap();
    }
    let noise = |seed: u32, len: u32| -> Vec<u8> {
        (0..len).flat_map(|n| (n ^ seed).wrapping_mul(2_654_435_761).rotate_left(n % 31).to_le_bytes()).collect()
    };
    for (name, bytes) in [("d/noise", noise(0, 2_000_000)), ("d/sub/text", b"a line of text\n".repeat(20_000))] {
        fs::write(desk.path(name), bytes).unwrap();
    }
    for (name, bytes) in [("more/new", noise(77, 100_000)), ("more/sub/other", b"another\n".to_vec())] {
        fs::write(desk.path(name), bytes).unwrap();
    }
    for from in ["d", "more"] {
        let front = format!("{}/.", desk.path(from).display());
        assert!(Command::new("cp").arg("-a").arg(front).arg(desk.path("both")).status().unwrap().success());
    }
    Some(desk)
}

/// The keys that these servers let in, and which server it is.
fn has_keys(desk: &Desk, port: u16) {
    fs::create_dir_all(desk.path("home/.aws")).unwrap();
    let endpoint = format!("[default]\nendpoint_url = http://127.0.0.1:{port}\n");
    fs::write(desk.path("home/.aws/config"), endpoint).unwrap();
    let keys = "[default]\naws_access_key_id = KEY\naws_secret_access_key = SECRET-OF-THE-KEY\n";
    fs::write(desk.path("home/.aws/credentials"), keys).unwrap();
}

fn s3s() -> Option<Site> {
    if !is_installed("s3s-fs") {
        return None;
    }
    let (desk, port) = (desk()?, ports());
    has_keys(&desk, port);
    fs::create_dir_all(desk.path(&format!("buckets/b{port}"))).unwrap();
    let mut command = Command::new("s3s-fs");
    command.args(["--host", "127.0.0.1", "--access-key", "KEY", "--secret-key", "SECRET-OF-THE-KEY", "--port"]);
    let server = start(command.arg(port.to_string()).arg(desk.path("buckets")), port);
    let files = Some(desk.path(&format!("buckets/b{port}")));
    Some(Site { desk, server, address: format!("s3://b{port}/"), words: Vec::new(), files, whole: false })
}

fn moto() -> Option<Site> {
    let (python, desk, port) = (python("moto.server")?, desk()?, ports());
    has_keys(&desk, port);
    let server =
        start(Command::new(python).args(["-m", "moto.server", "-H", "127.0.0.1", "-p", &port.to_string()]), port);
    let made = Command::new("curl").args(["-sf", "-X", "PUT", &format!("http://127.0.0.1:{port}/b{port}")]).status();
    assert!(made.unwrap().success());
    Some(Site { desk, server, address: format!("s3://b{port}/"), words: Vec::new(), files: None, whole: false })
}

fn wsgidav() -> Option<Site> {
    let (python, desk, port) = (python("wsgidav, cheroot")?, desk()?, ports());
    let mut command = Command::new(python);
    command.args(["-c", "from wsgidav.server.server_cli import run; run()", "--host", "127.0.0.1", "--port"]);
    command.args([&port.to_string(), "--auth", "anonymous", "--server", "cheroot", "--root"]).arg(desk.path("root"));
    let (server, files) = (start(&mut command, port), Some(desk.path("root")));
    Some(Site { desk, server, address: format!("http://127.0.0.1:{port}/"), words: Vec::new(), files, whole: true })
}

fn nginx() -> Option<Site> {
    let module = Path::new("/usr/lib/nginx/modules/ngx_http_dav_ext_module.so");
    if !is_installed("nginx") || !is_installed("openssl") {
        return None;
    }
    assert!(module.exists() || std::env::var_os("CI").is_none(), "nginx has no module for all of WebDAV");
    if !module.exists() {
        println!("skipped: nginx has no module for all of WebDAV");
        return None;
    }
    let (desk, port) = (desk()?, ports());
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/servers/nginx.sh");
    let server = start(Command::new(script).arg(desk.path("")).arg(port.to_string()), port);
    let (address, files) = (format!("webdav://127.0.0.1:{port}/dav/"), Some(desk.path("root")));
    Some(Site { desk, server, address, words: Vec::new(), files, whole: true })
}

/// Apache, which takes parts of files.
fn apache() -> Option<Site> {
    let modules = Path::new("/usr/lib/apache2/modules");
    if !is_installed("apache2") {
        return None;
    }
    let (desk, port) = (desk()?, ports());
    fs::create_dir_all(desk.path("apache")).unwrap();
    let at = |name: &str| desk.path(name).display().to_string();
    let mut lines = vec![
        format!("ServerRoot {0}\nPidFile {0}/pid\nErrorLog {0}/errors\nDavLockDB {0}/locks", at("apache")),
        format!("Listen 127.0.0.1:{port}\nServerName localhost\nDocumentRoot {}", at("root")),
        format!("<Directory {}>\nDav On\nRequire all granted\n</Directory>", at("root")),
    ];
    if rustix::process::geteuid().is_root() {
        lines.push("User nobody\nGroup nogroup".into());
        for dir in ["root", "apache"] {
            fs::set_permissions(desk.path(dir), fs::Permissions::from_mode(0o777)).unwrap();
        }
        fs::set_permissions(desk.path(""), fs::Permissions::from_mode(0o755)).unwrap();
    }
    let module = |name: &str| format!("LoadModule {name}_module {}/mod_{name}.so", modules.display());
    let loaded: Vec<_> = ["mpm_event", "authz_core", "dav", "dav_fs"].into_iter().map(module).collect();
    fs::write(desk.path("apache.conf"), [&loaded[..], &lines].concat().join("\n")).unwrap();
    let mut command = Command::new("sh");
    command.args(["-c", "PATH=$PATH:/usr/sbin exec apache2 -X -f \"$0\""]).arg(desk.path("apache.conf"));
    let (server, files) = (start(&mut command, port), Some(desk.path("root")));
    Some(Site { desk, server, address: format!("webdav://127.0.0.1:{port}/"), words: Vec::new(), files, whole: false })
}

fn sshd() -> Option<Site> {
    if !is_installed("sshd") {
        return None;
    }
    let (desk, port) = (desk()?, ports());
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/servers/sshd.sh");
    let server = start(Command::new(script).arg(desk.path("")).arg(port.to_string()), port);
    fs::create_dir_all(desk.path("home/.ssh")).unwrap();
    let key = |name: &str| fs::read_to_string(desk.path("ssh").join(name)).unwrap();
    fs::write(desk.path("home/.ssh/known_hosts"), format!("[127.0.0.1]:{port} {}", key("host.pub"))).unwrap();
    fs::write(desk.path("home/.ssh/id_ed25519"), key("client")).unwrap();
    let user = String::from_utf8(Command::new("id").arg("-un").output().unwrap().stdout).unwrap();
    let address = format!("sftp://{}@127.0.0.1:{port}{}/", user.trim(), desk.path("root").display());
    let files = Some(desk.path("root"));
    Some(Site { desk, server, address, words: Vec::new(), files, whole: false })
}

fn ftpd() -> Option<Site> {
    let python = python("pyftpdlib, OpenSSL")?;
    if !is_installed("openssl") {
        return None;
    }
    let (desk, port) = (desk()?, ports());
    let mut command = Command::new(python);
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/servers/ftpd.py"));
    let server = start(command.arg(desk.path("")).arg(port.to_string()).arg("clear"), port);
    fs::write(desk.path("pw"), "secret\n").unwrap();
    let (address, files) = (format!("ftp://me@127.0.0.1:{port}/"), Some(desk.path("root")));
    Some(Site { desk, server, address, words: vec!["--password-file=pw".into()], files, whole: false })
}

impl Site {
    fn at(&self, name: &str) -> String {
        format!("{}{name}", self.address)
    }

    fn words<'a>(&'a self, verb: &[&'a str], rest: &[&'a str]) -> Vec<&'a str> {
        [verb, &self.words.iter().map(String::as_str).collect::<Vec<_>>(), rest].concat()
    }

    /// What a verb says that has to do with the server.
    #[track_caller]
    fn ok(&self, verb: &[&str], rest: &[&str]) -> String {
        let said = self.desk.say(&self.words(verb, rest));
        let told = String::from_utf8_lossy(&[said.stdout, said.stderr].concat()).into_owned();
        assert!(said.status.success(), "{verb:?} {rest:?}: {told}");
        told
    }

    /// The exit code, and what was said.
    fn fails(&self, verb: &[&str], rest: &[&str]) -> (i32, String) {
        let said = self.desk.say(&self.words(verb, rest));
        (said.status.code().unwrap_or(-1), String::from_utf8_lossy(&said.stderr).into_owned())
    }

    /// How this process asks the server.
    fn how(&self) -> How {
        How::new(Cache::new(64 << 20))
    }

    /// The names of the files of the server.
    fn names(&self) -> Vec<String> {
        let listed = fs::read_dir(self.files.as_ref().unwrap()).unwrap();
        let mut names: Vec<_> = listed.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// All that is in a container, seen by a verb and by a mount.
    #[track_caller]
    fn has(&self, name: &str, folder: &str) {
        let at = self.at(name);
        let _ = fs::remove_dir_all(self.desk.path("out"));
        self.ok(&["unpack", "-q"], &[&at, "out"]);
        self.same(folder, "out");
        self.ok(&["mount", "-o", "nocache"], &[&at, "m"]);
        self.same(folder, "m");
        self.desk.ok(&["umount", "m"]);
    }

    /// A copy of a container, made or brought up to date here.
    #[track_caller]
    fn comes_here(&self, name: &str, folder: &str) {
        self.ok(&["sync", "-q"], &[&self.at(name), "copy.st"]);
        if let Some(files) = &self.files {
            assert!(fs::read(files.join(name)).unwrap() == fs::read(self.desk.path("copy.st")).unwrap());
        }
        let _ = fs::remove_dir_all(self.desk.path("out"));
        self.desk.ok(&["unpack", "-q", "copy.st", "out"]);
        self.same(folder, "out");
    }

    #[track_caller]
    fn same(&self, one: &str, other: &str) {
        let diff = Command::new("diff").arg("-r").args([self.desk.path(one), self.desk.path(other)]).output().unwrap();
        assert!(diff.status.success(), "{}", String::from_utf8_lossy(&[diff.stdout, diff.stderr].concat()));
    }
}

/// Makes a container, refuses to make it again, adds to it, and reads it with all there is.
#[track_caller]
fn assert_takes_a_container(site: &Site) {
    let at = site.at("x.st");
    site.ok(&["pack", "-q"], &["d", &at]);
    site.has("x.st", "d");
    site.comes_here("x.st", "d");
    let (code, told) = site.fails(&["pack", "-q"], &["more", &at]);
    assert!(code == EXISTS && told.contains("--force"), "{code}: {told}");
    let told = site.ok(&["pack", "--append"], &["more", &at]);
    assert_eq!(told.contains("only whole files"), site.whole, "{told}");
    site.has("x.st", "both");
    site.comes_here("x.st", "both");
    let states = site.ok(&["log"], &[&at]).lines().filter(|line| line.contains(" files")).count();
    assert_eq!(states, 2, "both states are there");
    if let Some(files) = &site.files {
        assert_eq!(site.names(), ["x.st"], "nothing is left beside it");
        listing::say("st_ref.py", &["check".as_ref(), &files.join("x.st")]);
    }
    let told = site.ok(&["pack", "--update"], &["both", &at]);
    assert!(told.contains("nothing is new"), "{told}");
    // Some servers take a small one only as a whole.
    let (small, tiny) = (site.at("small.st"), site.desk.path("tiny"));
    fs::create_dir(&tiny).unwrap();
    for n in 0..3 {
        fs::write(tiny.join(format!("{n}")), format!("{n}\n")).unwrap();
        site.ok(&["pack", "-q", if n == 0 { "-1" } else { "--update" }], &["tiny", &small]);
        site.has("small.st", "tiny");
    }
    // Anything else is made there as well, and replaced.
    site.ok(&["pack", "-q", "--encrypt=pass", "--force"], &["more", &at]);
    site.has("x.st", "more");
    site.ok(&["convert", "-q"], &[&at, &site.at("x.zip")]);
    site.has("x.zip", "more");
    let left = fs::read_dir(site.desk.path("state/uploads")).unwrap().count();
    assert_eq!(left, 0, "no draft is left");
}

/// A passphrase for what is sealed, which opens it again.
fn has_passphrase(site: &mut Site) {
    fs::write(site.desk.path("pass"), "secret\n").unwrap();
    if !site.words.iter().any(|word| word.starts_with("--password-file")) {
        site.words.push("--password-file=pass".into());
    }
}

fn takes_a_container(site: Option<Site>) {
    let Some(mut site) = site else { return };
    has_passphrase(&mut site);
    assert_takes_a_container(&site);
}

#[test]
fn s3s_takes_a_container() {
    takes_a_container(s3s());
}

#[test]
fn moto_takes_a_container() {
    takes_a_container(moto());
}

#[test]
fn wsgidav_takes_a_container() {
    takes_a_container(wsgidav());
}

#[test]
fn nginx_takes_a_container() {
    takes_a_container(nginx());
}

#[test]
fn apache_takes_a_container_and_only_what_is_new_of_it_later() {
    takes_a_container(apache());
}

#[test]
fn sshd_takes_a_container() {
    takes_a_container(sshd());
}

#[test]
fn a_server_of_ftp_takes_a_container() {
    takes_a_container(ftpd());
}

/// The three kinds of servers that leases are tried with.
fn three() -> impl Iterator<Item = Site> {
    [s3s, wsgidav, sshd].into_iter().filter_map(|site| site())
}

#[test]
fn of_two_writers_one_is_told_who_the_other_is() {
    for site in three() {
        let at = site.at("x.st");
        site.ok(&["pack", "-q"], &["d", &at]);
        site.ok(&["mount", "-o", "rw"], &[&at, "m"]);
        let lease: serde_json::Value =
            serde_json::from_slice(&fs::read(site.files.as_ref().unwrap().join("x.st.lease")).unwrap()).unwrap();
        // Another machine knows nothing of the mounts of this one.
        let mut other = site.desk.command(&site.words(&["pack", "-q", "--append"], &["more", &at]));
        let told = other.env("XDG_RUNTIME_DIR", site.desk.path("home")).env("TMPDIR", site.desk.path("home")).output();
        let told = told.unwrap();
        let words = String::from_utf8_lossy(&told.stderr).into_owned();
        assert_eq!(told.status.code(), Some(LOCKED), "{words}");
        let pid = format!("pid {}", lease["pid"]);
        assert!(words.contains(&pid), "{words}");
        site.desk.ok(&["umount", "m"]);
        assert_eq!(site.names(), ["x.st"]);
        site.ok(&["pack", "-q", "--append"], &["more", &at]);
        site.has("x.st", "both");
    }
}

#[test]
fn of_many_who_come_at_once_one_makes_it() {
    for site in three() {
        let at = site.at("x.st");
        let words = site.words(&["pack", "-q"], &["d", &at]);
        let come = || site.desk.command(&words).stderr(Stdio::null()).spawn().unwrap();
        let all: Vec<_> = (0..4).map(|_| come()).collect();
        let codes = all.into_iter().map(|mut child| child.wait().unwrap().code().unwrap());
        let (made, refused): (Vec<_>, Vec<_>) = codes.partition(|code| *code == 0);
        assert!(made.len() == 1 && refused.iter().all(|code| [LOCKED, EXISTS].contains(code)), "{refused:?}");
        assert_eq!(site.names(), ["x.st"]);
        site.has("x.st", "d");
    }
}

#[test]
fn a_lease_that_nobody_holds_any_more_is_taken_over() {
    for site in three() {
        let (at, files) = (site.at("x.st"), site.files.clone().unwrap());
        site.ok(&["pack", "-q"], &["d", &at]);
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
        let lease = |until: u64| {
            format!(
                r#"{{"id":"00","user":"u","host":"elsewhere","boot":"b","pid":7,"start":1,"since":{},"until":{until}}}"#,
                now - 100
            )
        };
        // Of another machine: until it runs out.
        fs::write(files.join("x.st.lease"), lease(now + 1000)).unwrap();
        let (code, told) = site.fails(&["pack", "-q", "--append"], &["more", &at]);
        assert!(code == LOCKED && told.contains("elsewhere"), "{code}: {told}");
        assert!(fs::read_to_string(files.join("x.st.lease")).unwrap().contains("elsewhere"));
        fs::write(files.join("x.st.lease"), lease(now - 1)).unwrap();
        site.ok(&["pack", "-q", "--append"], &["more", &at]);
        assert_eq!(site.names(), ["x.st"]);
        // Of this one: as soon as the process is gone.
        site.ok(&["mount", "-o", "rw"], &[&at, "m"]);
        site.desk.kill("-9");
        let _ = Command::new("fusermount3").arg("-u").arg(site.desk.path("m")).status();
        assert_eq!(site.names(), ["x.st", "x.st.lease"]);
        let told = site.ok(&["pack", "--update"], &["both", &at]);
        assert!(told.contains("nothing is new"), "{told}");
        assert_eq!(site.names(), ["x.st"]);
        site.has("x.st", "both");
    }
}

#[test]
fn what_somebody_else_has_changed_is_not_written_over() {
    for site in [s3s, wsgidav, sshd, ftpd].into_iter().filter_map(|site| site()) {
        let (at, file) = (site.at("x.st"), site.files.as_ref().unwrap().join("x.st"));
        site.ok(&["pack", "-q"], &["d", &at]);
        site.ok(&["mount", "-o", "rw,commit=1h"], &[&at, "m"]);
        fs::write(site.desk.path("m/mine"), "mine").unwrap();
        // Somebody who asks for no lease.
        site.desk.ok(&["pack", "-q", "more", "theirs.st"]);
        fs::copy(site.desk.path("theirs.st"), &file).unwrap();
        let synced = File::open(site.desk.path("m/mine")).unwrap().sync_all();
        assert_eq!(synced.unwrap_err().raw_os_error(), Some(rustix::io::Errno::STALE.raw_os_error()), "{at}");
        assert!(fs::read(&file).unwrap() == fs::read(site.desk.path("theirs.st")).unwrap(), "{at}: it is theirs");
        assert_eq!(fs::read(site.desk.path("m/mine")).unwrap(), b"mine", "nothing is lost");
        assert_eq!(code(&site.desk, &["umount", "m"]), CHANGED);
        site.desk.kill("-9");
        let _ = Command::new("fusermount3").arg("-u").arg(site.desk.path("m")).status();
        site.has("x.st", "more");
    }
}

#[test]
fn what_changes_between_the_opening_and_the_commit_is_seen_by_the_library_too() {
    let Some(site) = wsgidav() else { return };
    let (at, file) = (site.at("x.st"), site.files.as_ref().unwrap().join("x.st"));
    site.ok(&["pack", "-q"], &["d", &at]);
    let old = fs::read(&file).unwrap();
    let amending = Amending::open(&at, &site.how()).unwrap();
    let end = amending.len().unwrap();
    amending.write_at(end, b"behind").unwrap();
    amending.sync().unwrap();
    assert!(fs::read(&file).unwrap() == old, "nothing is there before all is");
    amending.publish().unwrap();
    assert!(fs::read(&file).unwrap() == [&old[..], b"behind"].concat());
    amending.write_at(3, b"over").unwrap();
    amending.set_len(1000).unwrap();
    amending.publish().unwrap();
    let front = [&old[..3], b"over", &old[7..1000]].concat();
    assert!(fs::read(&file).unwrap() == front);
    // As long, and of another time.
    fs::write(&file, vec![9; 1000]).unwrap();
    File::options().write(true).open(&file).unwrap().set_modified(std::time::UNIX_EPOCH).unwrap();
    amending.write_at(1000, b"more").unwrap();
    assert_eq!(amending.publish().unwrap_err().kind(), Kind::Changed);
    assert_eq!(fs::read(&file).unwrap(), vec![9; 1000]);
}

#[test]
fn what_a_broken_line_has_left_of_a_commit_is_no_commit() {
    let Some(site) = sshd() else { return };
    let (at, file) = (site.at("x.st"), site.files.as_ref().unwrap().join("x.st"));
    site.ok(&["pack", "-q"], &["d", &at]);
    let old = fs::read(&file).unwrap();
    site.ok(&["pack", "-q", "--append"], &["more", &at]);
    let new = fs::read(&file).unwrap();
    for cut in [old.len() + 1, (old.len() + new.len()) / 2, new.len() - 512] {
        fs::write(&file, &new[..cut]).unwrap();
        site.has("x.st", "d");
        site.ok(&["pack", "-q", "--append"], &["more", &at]);
        site.has("x.st", "both");
        listing::say("st_ref.py", &["check".as_ref(), &file]);
    }
}

#[test]
fn what_cannot_be_sent_stays_here_and_can_be_sent_later() {
    let Some(site) = s3s() else { return };
    let mut big = Vec::new();
    for n in 0..6_000_000u32 {
        big.extend_from_slice(&n.wrapping_mul(2_654_435_761).rotate_left(n % 31).to_le_bytes());
    }
    fs::write(site.desk.path("d/big"), big).unwrap();
    let at = site.at("x.st");
    let words = site.words(&["pack", "-q", "--deadline=1s"], &["d", &at]);
    let mut packing = site.desk.command(&words).stderr(Stdio::piped()).spawn().unwrap();
    let draft = site.desk.path("state/uploads/x.st");
    until("it is packed", || draft.exists());
    site.server.signal("STOP");
    let told = packing.wait_with_output_of();
    assert_eq!(told.0, NOT_UPLOADED, "{}", told.1);
    assert!(told.1.contains(&format!("stmount put --move {}", draft.display())), "{}", told.1);
    site.server.signal("CONT");
    site.desk.ok(&["check", "-q", draft.to_str().unwrap()]);
    // What it had of the lease runs out, or is left by a process that is gone.
    site.ok(&["put", "-q", "--move"], &[draft.to_str().unwrap(), &at]);
    assert!(!draft.exists());
    site.has("x.st", "d");
    let (code, told) = site.fails(&["put", "-q"], &[site.desk.path("d/sub/text").to_str().unwrap(), &at]);
    assert_eq!(code, EXISTS, "{told}");
}

/// The exit code of a process, and what it said.
trait Told {
    fn wait_with_output_of(&mut self) -> (i32, String);
}

impl Told for std::process::Child {
    fn wait_with_output_of(&mut self) -> (i32, String) {
        let mut text = String::new();
        std::io::Read::read_to_string(&mut self.stderr.take().unwrap(), &mut text).unwrap();
        (self.wait().unwrap().code().unwrap_or(-1), text)
    }
}

#[test]
fn a_mounted_container_takes_changes_that_are_on_the_server_when_fsync_returns() {
    for site in three() {
        let (at, file) = (site.at("x.st"), site.files.as_ref().unwrap().join("x.st"));
        site.ok(&["pack", "-q"], &["d", &at]);
        site.ok(&["mount", "-o", "rw,commit=1h"], &[&at, "m"]);
        for (n, name) in ["new", "sub/other"].iter().enumerate() {
            fs::copy(site.desk.path("more").join(name), site.desk.path("m").join(name)).unwrap();
            File::open(site.desk.path("m").join(name))
                .unwrap()
                .sync_all()
                .unwrap_or_else(|e| panic!("{at}: {e}: {}", site.desk.ok(&["status", "m"])));
            let there = site.ok(&["ls", "-R"], &[&at]);
            assert!(there.contains(if n == 0 { "new" } else { "other" }), "{there}");
        }
        site.same("both", "m");
        site.desk.ok(&["umount", "m"]);
        assert_eq!(site.names(), ["x.st"]);
        site.has("x.st", "both");
        listing::say("st_ref.py", &["check".as_ref(), &file]);
    }
}

/// Each object of a store has the bytes that its name says.
#[track_caller]
fn assert_objects(store: &Path) -> usize {
    let mut count = 0;
    for dir in fs::read_dir(store).unwrap().map(|dir| dir.unwrap().path()).filter(|dir| dir.is_dir()) {
        for file in fs::read_dir(dir).unwrap().map(|file| file.unwrap().path()) {
            let name = file.file_name().unwrap().to_str().unwrap().to_owned();
            if name.len() == 64 {
                let hash: String = Id::of(&fs::read(&file).unwrap()).0.iter().map(|b| format!("{b:02x}")).collect();
                assert_eq!(name, hash, "{}", file.display());
                count += 1;
            }
        }
    }
    count
}

fn removes_nothing(told: &str) -> bool {
    told.lines().any(|line| line.starts_with("0 objects removed"))
}

#[test]
fn a_store_on_a_server_is_made_filled_packed_over_and_cleaned() {
    for site in three() {
        let (store, files) = (site.at("store"), site.files.as_ref().unwrap().join("store"));
        site.ok(&["store", "init"], &[&store]);
        assert_eq!(site.fails(&["store", "init"], &[&store]).0, EXISTS);
        site.desk.ok(&["pack", "-q", "d", "one.st"]);
        let whole = fs::metadata(site.desk.path("one.st")).unwrap().len();
        site.ok(&["store", "add"], &[&store, "one.st"]);
        let count = assert_objects(&files);
        assert!(fs::metadata(site.desk.path("one.st")).unwrap().len() < whole / 100 && count > 10, "{count}");
        let told = site.ok(&["store", "add"], &[&store, "one.st", "--to", "again.st"]);
        assert!(told.contains("0 of them new"), "{told}");
        // One that is on the server itself lies over it there.
        let thin = site.at("thin.st");
        let told = site.ok(&["pack", "--base", &store], &["both", &thin]);
        assert!(told.contains("left out"), "{told}");
        assert!(fs::metadata(site.files.as_ref().unwrap().join("thin.st")).unwrap().len() < whole / 4);
        site.ok(&["mount", "-o", "nocache", "--base", &store], &[&thin, "m"]);
        site.same("both", "m");
        site.desk.ok(&["umount", "m"]);
        listing::say(
            "st_ref.py",
            &["check".as_ref(), &site.files.as_ref().unwrap().join("thin.st"), "--base".as_ref(), &files],
        );
        // Nothing is removed that is needed, and all that is not.
        let told = site.ok(&["store", "gc"], &[&store, &thin, "one.st"]);
        assert!(removes_nothing(&told), "{told}");
        site.desk.ok(&["pack", "-q", "more", "small.st"]);
        site.ok(&["store", "add"], &[&store, "small.st"]);
        assert!(assert_objects(&files) > count);
        let told = site.ok(&["store", "gc"], &[&store, &thin, "one.st"]);
        assert!(!removes_nothing(&told), "{told}");
        assert_eq!(fs::read_dir(files.join("leases")).unwrap().count(), 0);
    }
}

#[test]
fn who_removes_from_a_store_on_a_server_is_alone() {
    let Some(site) = wsgidav() else { return };
    let store = site.at("store");
    site.ok(&["store", "init"], &[&store]);
    site.desk.ok(&["pack", "-q", "more", "one.st"]);
    let objects = bases::objects(Path::new(&store), &site.how()).unwrap().unwrap();
    let adding = [objects.hold(Hold::Shared).unwrap(), objects.hold(Hold::Shared).unwrap()];
    assert_eq!(site.fails(&["store", "gc"], &[&store, "one.st"]).0, LOCKED);
    site.ok(&["store", "add"], &[&store, "one.st"]);
    drop(adding);
    let removing = objects.hold(Hold::Alone).unwrap();
    let (code, told) = site.fails(&["store", "add"], &[&store, "one.st", "--to", "b.st"]);
    assert!(code == LOCKED && told.contains("pid"), "{code}: {told}");
    assert_eq!(objects.hold(Hold::Alone).err().unwrap().kind(), Kind::Locked);
    drop(removing);
    site.ok(&["store", "gc"], &[&store, "one.st"]);
}

#[test]
fn who_is_killed_while_adding_leaves_no_wrong_object() {
    for site in three() {
        let (store, files) = (site.at("store"), site.files.as_ref().unwrap().join("store"));
        site.ok(&["store", "init"], &[&store]);
        site.desk.ok(&["pack", "-q", "both", "one.st"]);
        for wanted in [1, 8] {
            let words = site.words(&["store", "add", "-q"], &[&store, "one.st"]);
            let mut adding = site.desk.command(&words).spawn().unwrap();
            let count = || {
                let dirs = fs::read_dir(&files).unwrap().flatten().filter(|dir| dir.path().is_dir());
                dirs.filter(|dir| dir.file_name() != "leases")
                    .filter_map(|dir| fs::read_dir(dir.path()).ok())
                    .flatten()
                    .count()
            };
            until("some of them are there", || count() >= wanted);
            adding.kill().unwrap();
            adding.wait().unwrap();
            assert_objects(&files);
        }
        site.desk.ok(&["check", "-q", "one.st"]);
        site.ok(&["store", "add", "-q"], &[&store, "one.st"]);
        assert_objects(&files);
        listing::say("st_ref.py", &["check".as_ref(), &site.desk.path("one.st"), "--base".as_ref(), &files]);
    }
}
