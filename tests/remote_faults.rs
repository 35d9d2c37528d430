//! Lines that break without a word, servers that go away and come back, and kills in the middle of all that: what is read is
//! right, and what was written comes to the server.

#[path = "common/desk.rs"]
mod desk;
#[path = "common/dice.rs"]
mod dice;
#[path = "common/dress.rs"]
mod dress;
#[path = "common/proxy.rs"]
mod proxy;
#[path = "common/servers.rs"]
mod servers;
#[path = "common/web.rs"]
mod web;

use desk::{Desk, until};
use dice::Dice;
use proxy::Proxy;
use servers::{Server, is_installed, ports, python, start};
use std::fs::{self, File};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};
use web::Web;

const LARGE: usize = 6 << 20;

/// A folder of a server, behind a line that can be broken.
struct Site {
    proxy: Proxy,
    address: String,
    options: String,
    /// What the server serves.
    root: PathBuf,
    _server: Server,
}

fn bytes(seed: u32, len: usize) -> Vec<u8> {
    (0..len as u32 / 4).flat_map(|n| (n ^ seed).wrapping_mul(2_654_435_761).to_le_bytes()).collect()
}

fn desk() -> Option<Desk> {
    let desk = Desk::new()?;
    desk.has_own_cache();
    fs::create_dir_all(desk.path("home/.ssh")).unwrap();
    fs::create_dir_all(desk.path("home/.aws")).unwrap();
    fs::create_dir_all(desk.path("root/up")).unwrap();
    // Without anything in it there is no directory in a bucket.
    fs::write(desk.path("root/up/kept"), "").unwrap();
    for n in 0..4 {
        let path = desk.path(&format!("root/file-{n}"));
        fs::write(&path, bytes(n, LARGE)).unwrap();
        // What was changed just now has no version yet.
        let long_ago = SystemTime::UNIX_EPOCH + Duration::from_secs(1_500_000_000);
        File::options().write(true).open(&path).unwrap().set_modified(long_ago).unwrap();
    }
    Some(desk)
}

fn script(name: &str, desk: &Desk, port: u16, more: &[&str]) -> Server {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/servers").join(name);
    start(Command::new(script).arg(desk.path("")).arg(port.to_string()).args(more), port)
}

/// The servers of all kinds that are installed.
fn sites(desk: &Desk, kinds: &[&str]) -> Vec<Site> {
    kinds.iter().filter_map(|kind| site(desk, kind)).collect()
}

fn site(desk: &Desk, kind: &str) -> Option<Site> {
    let (port, mut root) = (ports(), desk.path("root"));
    let (server, address, options) = match kind {
        "http" | "webdav" => {
            if !is_installed("nginx") || !is_installed("openssl") {
                return None;
            }
            let server = script("nginx.sh", desk, port, &[]);
            (server, if kind == "http" { "http://HOST/" } else { "webdav://HOST/dav/" }, "")
        }
        "s3" => {
            if !is_installed("s3s-fs") {
                return None;
            }
            let keys = "[default]\naws_access_key_id = KEY\naws_secret_access_key = SECRET-OF-THE-KEY\n";
            fs::write(desk.path("home/.aws/credentials"), keys).unwrap();
            fs::create_dir_all(desk.path("buckets")).unwrap();
            assert!(
                Command::new("cp").arg("-a").args([&root, &desk.path("buckets/bucket")]).status().unwrap().success()
            );
            root = desk.path("buckets/bucket");
            let mut command = Command::new("s3s-fs");
            command.args(["--host", "127.0.0.1", "--access-key", "KEY", "--secret-key", "SECRET-OF-THE-KEY", "--port"]);
            command.arg(port.to_string()).arg(desk.path("buckets"));
            (start(&mut command, port), "s3://bucket/", "endpoint=http://HOST")
        }
        "sftp" => {
            if !is_installed("sshd") {
                return None;
            }
            let server = script("sshd.sh", desk, port, &[]);
            fs::copy(desk.path("ssh/client"), desk.path("home/.ssh/id_ed25519")).unwrap();
            (server, "sftp://USER@HOST/ROOT/", "hostkey=accept-new")
        }
        _ => {
            python("pyftpdlib, OpenSSL")?;
            let python = std::env::var("STMOUNT_TEST_PYTHON").unwrap_or_else(|_| "python3".into());
            let mut command = Command::new(python);
            command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/servers/ftpd.py"));
            command.arg(desk.path("")).args([&port.to_string(), "clear"]);
            let netrc = desk.path("home/.netrc");
            fs::write(&netrc, "machine 127.0.0.1 login me password secret\n").unwrap();
            fs::set_permissions(&netrc, fs::Permissions::from_mode(0o600)).unwrap();
            (start(&mut command, port), "ftp://me@HOST/", "")
        }
    };
    let proxy = Proxy::to(port);
    let place = |text: &str| {
        let host = format!("127.0.0.1:{}", proxy.port);
        let user = Command::new("id").arg("-un").output().unwrap().stdout;
        text.replace("HOST", &host)
            .replace("USER", String::from_utf8_lossy(&user).trim())
            .replace("/ROOT", root.to_str().unwrap())
    };
    let (address, options) = (place(address), place(options));
    Some(Site { address, options, root, proxy, _server: server })
}

impl Site {
    fn mount(&self, desk: &Desk, options: &str) {
        let options = [options, &self.options].into_iter().filter(|o| !o.is_empty()).collect::<Vec<_>>().join(",");
        desk.ok(&["-o", &options, &self.address, "m"]);
    }
}

#[track_caller]
fn assert_reads(file: &File, whole: &[u8], at: usize, len: usize) {
    let mut into = vec![0; len];
    file.read_exact_at(&mut into, at as u64).unwrap_or_else(|e| panic!("at {at}: {e}"));
    assert!(into == whole[at..at + len], "other bytes at {at}");
}

const KINDS: [&str; 5] = ["http", "webdav", "s3", "sftp", "ftp"];

#[test]
fn reads_go_on_when_all_connections_fall_silent() {
    let Some(desk) = desk() else { return };
    for site in sites(&desk, &KINDS) {
        site.mount(&desk, "nocache,deadline=9s");
        let before = File::open(desk.path("m/file-0")).unwrap();
        // Several connections are there then.
        assert!(fs::read(desk.path("m/file-1")).unwrap() == bytes(1, LARGE), "{}", site.address);
        assert_reads(&before, &bytes(0, LARGE), 0, 10);
        site.proxy.is_silent();
        assert_reads(&before, &bytes(0, LARGE), LARGE - 5000, 5000);
        site.proxy.is_silent();
        assert!(fs::read(desk.path("m/file-2")).unwrap() == bytes(2, LARGE), "{}", site.address);
        drop(before);
        desk.ok(&["umount", "m"]);
    }
}

#[test]
fn silence_in_the_middle_of_a_read_is_no_end() {
    let Some(desk) = desk() else { return };
    for site in sites(&desk, &KINDS) {
        site.mount(&desk, "nocache,deadline=9s");
        let path = desk.path("m/file-3");
        let reading = std::thread::spawn(move || fs::read(path));
        let begun = site.proxy.count();
        for _ in 0..20 {
            std::thread::sleep(Duration::from_millis(5));
            if site.proxy.count() > begun {
                break;
            }
        }
        site.proxy.is_silent();
        assert!(reading.join().unwrap().unwrap() == bytes(3, LARGE), "{}", site.address);
        desk.ok(&["umount", "m"]);
    }
}

#[test]
fn a_server_that_was_away_for_a_moment_is_found_again() {
    let Some(desk) = desk() else { return };
    for site in sites(&desk, &KINDS) {
        site.mount(&desk, "nocache,deadline=12s");
        let before = File::open(desk.path("m/file-0")).unwrap();
        assert_reads(&before, &bytes(0, LARGE), 0, 10);
        site.proxy.is_away_for(Duration::from_millis(600));
        assert_reads(&before, &bytes(0, LARGE), LARGE - 5000, 5000);
        site.proxy.is_away_for(Duration::from_millis(600));
        assert!(fs::read(desk.path("m/file-1")).unwrap() == bytes(1, LARGE), "{}", site.address);
        drop(before);
        desk.ok(&["umount", "m"]);
    }
}

#[test]
fn what_was_kept_of_it_is_made_whole_when_the_server_is_there_again() {
    let Some(desk) = desk() else { return };
    let whole = bytes(9, LARGE);
    fs::create_dir(desk.path("d")).unwrap();
    fs::write(desk.path("d/noise"), &whole).unwrap();
    desk.ok(&["pack", "-q", "d", "x.st"]);
    let web = Web::new();
    web.put("x.st", &fs::read(desk.path("x.st")).unwrap());
    let proxy = Proxy::to(web.port);
    let address = format!("http://127.0.0.1:{}/x.st", proxy.port);
    let options = format!("deadline=3s,cachesize=1M,cache={}", desk.path("kept").display());
    desk.ok(&["-o", &options, &address, "m"]);
    assert_reads(&File::open(desk.path("m/noise")).unwrap(), &whole, 0, 10);
    desk.ok(&["umount", "m"]);
    proxy.is_away_for(Duration::from_secs(3600));
    desk.ok(&["-o", &options, &address, "m"]);
    let file = File::open(desk.path("m/noise")).unwrap();
    assert_reads(&file, &whole, 0, 10);
    assert!(file.read_exact_at(&mut [0], LARGE as u64 / 2).is_err());
    proxy.is_back();
    until("the rest of it comes", || file.read_exact_at(&mut [0], LARGE as u64 / 2).is_ok());
    assert_reads(&file, &whole, LARGE / 2, LARGE / 2);
    drop(file);
    desk.ok(&["umount", "m"]);
}

#[test]
fn what_is_written_comes_to_the_server_though_all_connections_fall_silent() {
    let Some(desk) = desk() else { return };
    for site in sites(&desk, &["webdav", "s3", "sftp", "ftp"]) {
        site.mount(&desk, "rw,nocache,deadline=6s");
        fs::write(desk.path("m/up/one"), bytes(7, 100_000)).unwrap();
        desk.ok(&["commit", "m"]);
        site.proxy.is_silent();
        fs::write(desk.path("m/up/two"), bytes(8, 100_000)).unwrap();
        fs::rename(desk.path("m/up/one"), desk.path("m/up/three")).unwrap();
        let said = desk.say(&["commit", "m"]);
        println!("{}: {}", site.address, String::from_utf8_lossy(&said.stderr));
        let is_there =
            |name: &str, seed| fs::read(site.root.join("up").join(name)).is_ok_and(|read| read == bytes(seed, 100_000));
        until("it is on the server", || is_there("two", 8) && is_there("three", 7));
        desk.ok(&["umount", "m"]);
        for name in ["two", "three"] {
            fs::remove_file(site.root.join("up").join(name)).unwrap();
        }
    }
}

/// Something happens to a file of the cache: a flipped bit, an end that is gone, or another file's contents.
fn harm(dir: &Path, dice: &mut Dice) {
    let mut files = Vec::new();
    let mut dirs = vec![dir.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(dir).unwrap().flatten() {
            match entry.file_type().unwrap().is_dir() {
                true => dirs.push(entry.path()),
                false => files.push(entry.path()),
            }
        }
    }
    files.sort();
    for _ in 0..3.min(files.len()) {
        let path = &files[dice.below(files.len() as u64) as usize];
        let len = fs::metadata(path).unwrap().len();
        let file = File::options().read(true).write(true).open(path).unwrap();
        match dice.below(3) {
            0 => file.set_len(dice.below(len + 1)).unwrap(),
            1 if len > 0 => {
                let (at, mut byte) = (dice.below(len), [0]);
                file.read_exact_at(&mut byte, at).unwrap();
                file.write_all_at(&[byte[0] ^ 1 << dice.below(8)], at).unwrap();
            }
            _ => drop(fs::copy(&files[dice.below(files.len() as u64) as usize], path)),
        }
    }
}

/// Reads some places of the mount: right bytes or, where that is allowed, an error.
#[track_caller]
fn assert_never_wrong(desk: &Desk, whole: &[u8], dice: &mut Dice, may_fail: bool) -> (usize, usize) {
    let (mut right, mut failed) = (0, 0);
    for _ in 0..10 {
        let (at, mut into) = (dice.below(whole.len() as u64 - 100_000), vec![0; 100_000]);
        let read = File::open(desk.path("m/noise")).and_then(|file| file.read_exact_at(&mut into, at));
        match read {
            Ok(()) => {
                assert!(into == whole[at as usize..at as usize + into.len()], "other bytes at {at}");
                right += 1;
            }
            Err(e) => {
                assert!(may_fail, "at {at}: {e}");
                failed += 1;
            }
        }
    }
    (right, failed)
}

#[test]
fn a_cache_that_was_being_filled_when_the_process_was_killed_never_gives_wrong_bytes() {
    let Some(desk) = desk() else { return };
    let whole = bytes(9, LARGE);
    fs::create_dir(desk.path("d")).unwrap();
    fs::write(desk.path("d/noise"), &whole).unwrap();
    desk.ok(&["pack", "-q", "d", "x.st"]);
    let web = Web::new();
    web.put("x.st", &fs::read(desk.path("x.st")).unwrap());
    let (mut dice, address, cache) = (Dice(7), web.url("x.st"), desk.path("filled"));
    let options = format!("deadline=20s,cachesize=1M,cache={}", cache.display());
    let (mut right, mut failed) = (0, 0);
    for round in 0..20 {
        desk.ok(&["-o", &options, &address, "m"]);
        let path = desk.path("m/noise");
        let reader = std::thread::spawn(move || drop(fs::read(path)));
        std::thread::sleep(Duration::from_millis(dice.below(60)));
        desk.kill("-9");
        reader.join().unwrap();
        desk.ok(&["umount", "-z", "m"]);
        if round % 2 == 1 {
            harm(&cache, &mut dice);
        }
        desk.ok(&["-o", &options, &address, "m"]);
        assert_never_wrong(&desk, &whole, &mut dice, false);
        desk.ok(&["umount", "m"]);
        if round % 4 == 3 {
            harm(&cache, &mut dice);
        }
        let mounted = desk.say(&["-o", &format!("{options},offline=only"), &address, "m"]);
        if mounted.status.success() {
            let (more, without) = assert_never_wrong(&desk, &whole, &mut dice, true);
            (right, failed) = (right + more, failed + without);
            desk.ok(&["umount", "m"]);
        }
        if round % 5 == 4 {
            fs::remove_dir_all(&cache).unwrap();
        }
    }
    println!("{right} reads of what was kept, {failed} of what was not");
    assert!(right > 0, "nothing was kept");
}
