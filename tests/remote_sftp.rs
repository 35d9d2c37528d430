//! Archives and folders of a server of ssh: sshd of OpenSSH, started on the loopback.

#[path = "common/desk.rs"]
mod desk;
#[path = "common/dress.rs"]
mod dress;
#[path = "common/office.rs"]
mod office;
#[path = "common/servers.rs"]
mod servers;

use desk::until;
use office::Office;
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process};
use servers::noise;
use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime};
use stmount::error::Kind;
use stmount::key::NoKeys;
use stmount::remote::{self, HostKey, Link, Set, Writes};
use stmount::source::Memory;
use stmount::tree::{Kind as NodeKind, Time};

const NOT_FOUND: i32 = 10;
const UNTRUSTED: i32 = 24;
const UNSUPPORTED: i32 = 33;
const NOT_LET_IN: i32 = 41;
const NETWORK: i32 = 42;

const STMOUNT: &str = env!("CARGO_BIN_EXE_stmount");

#[track_caller]
fn assert_same(one: &Path, other: &Path) {
    let diff = Command::new("diff").args(["-r", "--no-dereference"]).args([one, other]).output().unwrap();
    assert!(diff.status.success(), "{}", String::from_utf8_lossy(&[diff.stdout, diff.stderr].concat()));
}

#[test]
fn archives_are_listed_read_unpacked_and_mounted() {
    let Some(office) = Office::new(&[]) else { return };
    office.pack();
    for kind in ["st", "zip"] {
        let address = office.address(&format!("x.{kind}"));
        assert_eq!(office.ok(&["ls", &address]), "noise\nsub\n", "{kind}");
        let read = office.desk.say(&["cat", &format!("{address}!sub/text")]).stdout;
        assert!(read == fs::read(office.path("root/d/sub/text")).unwrap());
        let out = format!("out-{kind}");
        office.ok(&["unpack", "-q", &address, &out]);
        assert_same(&office.path("root/d"), &office.path(&out));
        office.ok(&["-o", "nocache", &address, "m"]);
        assert_same(&office.path("root/d"), &office.path("m"));
        office.ok(&["umount", "m"]);
    }
    assert_eq!(office.fails(&["ls", &office.address("missing.st")]).0, NOT_FOUND);
    assert_eq!(office.fails(&["ls", &office.address("missing/")]).0, NOT_FOUND);
    assert_ne!(office.fails(&["ls", &office.address("x.st/")]).0, 0);
}

/// What `find` tells of a folder: kinds, modes, sizes, times, where links lead.
fn told(dir: &Path) -> Vec<u8> {
    let script =
        "find . -mindepth 1 \\( -type d -printf '%P %M %U %G %Ts\\n' -o -printf '%P %M %U %G %Ts %s %l\\n' \\) | sort";
    Command::new("sh").args(["-c", script]).current_dir(dir).output().unwrap().stdout
}

#[test]
fn folders_are_as_the_server_has_them() {
    let Some(office) = Office::new(&[]) else { return };
    office.pack();
    let root = office.path("root");
    // More than 128 at a time are open at the server.
    fs::create_dir(root.join("many")).unwrap();
    for n in 0..300 {
        fs::write(root.join(format!("many/file-{n}")), format!("{n}\n").repeat(n)).unwrap();
    }
    for name in [
        "a&b;c",
        "per%20cent",
        "grüße",
        "quote\"'`",
        "hash#tag",
        "ques?tion",
        "[x]{y}",
        "line\nfeed",
        "tab\t",
        "~",
        "!",
    ] {
        fs::write(root.join(name), name).unwrap();
    }
    fs::write(root.join("mode"), "x").unwrap();
    fs::set_permissions(root.join("mode"), Permissions::from_mode(0o4751)).unwrap();
    symlink("d/noise", root.join("link")).unwrap();
    symlink(OsStr::from_bytes(b"nowhere \xff"), root.join("dangling")).unwrap();
    symlink("d", root.join("link to dir")).unwrap();
    File::create(root.join("old")).unwrap().set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(7)).unwrap();
    fs::create_dir(root.join("empty")).unwrap();
    for address in [office.address(""), office.address("").trim_end_matches('/').to_owned()] {
        office.ok(&["-o", "nocache", &address, "m"]);
        assert_same(&root, &office.path("m"));
        assert!(told(&root) == told(&office.path("m")));
        assert_eq!(fs::read_link(office.path("m/dangling")).unwrap().as_os_str().as_bytes(), b"nowhere \xff");
        assert_eq!(fs::read_dir(office.path("m/link to dir")).unwrap().count(), 2);
        assert!(fs::write(office.path("m/new"), "").is_err());
        office.ok(&["umount", "m"]);
    }
    // What is not told in letters, and what is neither a file nor a directory nor a link, is left out, and nothing else.
    fs::write(root.join("d").join(OsStr::from_bytes(b"\xff")), "").unwrap();
    assert!(Command::new("mkfifo").arg(root.join("d/fifo")).status().unwrap().success());
    assert_eq!(office.ok(&["ls", &office.address("d")]), "noise\nsub\n");
    assert!(office.desk.say(&["ls", &format!("sftp://{}@127.0.0.1:{}/~/", office.user, office.port)]).status.success());
}

#[test]
fn a_mounted_folder_shows_archives_in_it_and_what_comes_and_goes() {
    let Some(office) = Office::new(&[]) else { return };
    office.pack();
    office.ok(&["-r", "-o", "nocache", &office.address(""), "m"]);
    assert_same(&office.path("root/d"), &office.path("m/x.zip#"));
    assert!(!office.path("m/later").exists());
    fs::write(office.path("root/later"), "later").unwrap();
    until("it is seen", || fs::read(office.path("m/later")).is_ok_and(|read| read == b"later"));
    office.ok(&["umount", "m"]);
}

#[test]
fn a_server_is_taken_for_the_one_that_it_says_it_is_only_when_it_is_known() {
    let Some(office) = Office::new(&[]) else { return };
    let (address, known) = (office.address(""), office.path("home/.ssh/known_hosts"));
    let print = office.fingerprint("host.pub");
    fs::remove_dir_all(office.path("home/.ssh")).unwrap();
    let (code, words) = office.fails(&["ls", &address]);
    assert!(code == UNTRUSTED && words.contains(&print) && words.contains("accept-new"), "{code} {words}");
    assert!(!known.exists());
    // The one that is named, and no other.
    let client = office.path("ssh/client");
    fs::create_dir(office.path("home/.ssh")).unwrap();
    fs::write(office.path("home/.ssh/config"), format!("IdentityFile {}\n", client.display())).unwrap();
    office.ok(&["ls", "--hostkey", &print, &address]);
    office.ok(&["-o", &format!("hostkey={print}"), &address, "m"]);
    office.ok(&["umount", "m"]);
    let other = office.fingerprint("client.pub");
    assert_eq!(office.fails(&["ls", "--hostkey", &other, &address]).0, UNTRUSTED);
    assert!(!known.exists());
    assert_eq!(office.fails(&["ls", "--hostkey", "anything", &address]).0, 1);
    // New ones are learnt, and known from then on.
    office.ok(&["ls", "--hostkey", "accept-new", &address]);
    let learnt = fs::read_to_string(&known).unwrap();
    assert!(learnt.starts_with(&format!("[127.0.0.1]:{} ssh-ed25519 ", office.port)), "{learnt}");
    assert_eq!(fs::metadata(&known).unwrap().mode() & 0o777, 0o600);
    office.ok(&["ls", &address]);
    office.ok(&["ls", "--hostkey", "accept-new", &address]);
    assert_eq!(fs::read_to_string(&known).unwrap(), learnt);
    // As OpenSSH reads and hides it.
    assert!(Command::new("ssh-keygen").arg("-qHf").arg(&known).output().unwrap().status.success());
    assert!(fs::read_to_string(&known).unwrap().starts_with("|1|"));
    office.ok(&["ls", &address]);
    // Another key than before, of the same kind or of another one, is refused, whatever is wished.
    for key in ["stranger.pub", "rsa.pub"] {
        office.knows(&office.key(key));
        for wish in ["known", "accept-new"] {
            let (code, words) = office.fails(&["ls", "--hostkey", wish, &address]);
            assert!(code == UNTRUSTED && words.contains("HAS CHANGED") && words.contains(&print), "{code} {words}");
        }
    }
    fs::write(&known, format!("{learnt}@revoked * {}", office.key("host.pub"))).unwrap();
    let (code, words) = office.fails(&["ls", &address]);
    assert!(code == UNTRUSTED && words.contains("revoked"), "{code} {words}");
}

#[test]
fn who_has_a_key_is_let_in_and_nobody_else() {
    let Some(office) = Office::new(&[]) else { return };
    let (address, id) = (office.address(""), office.path("home/.ssh/id_ed25519"));
    fs::write(office.path("root/it"), "").unwrap();
    assert_eq!(office.ok(&["ls", &address]), "it\n");
    office.has_key("stranger");
    let (code, words) = office.fails(&["ls", &address]);
    assert!(code == NOT_LET_IN && words.contains("tried: ") && words.contains("id_ed25519"), "{code} {words}");
    // The next one is tried, too.
    fs::write(office.path("home/.ssh/id_rsa"), office.key("rsa")).unwrap();
    assert_eq!(office.ok(&["ls", &address]), "it\n");
    fs::remove_file(office.path("home/.ssh/id_rsa")).unwrap();
    // A key with a passphrase.
    office.has_key("locked");
    fs::write(office.path("pw"), "wrong\nsecret\n").unwrap();
    fs::write(office.path("bad"), "wrong\n").unwrap();
    assert_eq!(office.ok(&["ls", "--password-file", "pw", &address]), "it\n");
    let (code, words) = office.fails(&["ls", "--password-file", "bad", &address]);
    assert!(
        code == NOT_LET_IN && words.contains("passphrase is another") && !words.contains("wrong"),
        "{code} {words}"
    );
    assert_eq!(office.fails(&["ls", "--no-prompt", &address]).0, NOT_LET_IN);
    // A mount was asked in the foreground, and its daemon makes the connection anew without asking.
    office.ok(&["-o", "nocache,password-file=pw", &address, "m"]);
    let sessions: Vec<Pid> =
        office.processes().into_iter().filter(|pid| pid.as_raw_pid() != office.server.id() as i32).collect();
    assert!(!sessions.is_empty());
    sessions.iter().for_each(|pid| {
        let _ = kill_process(*pid, Signal::KILL);
    });
    assert!(fs::read(office.path("m/it")).is_ok());
    office.ok(&["umount", "m"]);
    // What the configuration says of a name.
    fs::remove_file(&id).unwrap();
    let config = format!(
        "Host office\n HostName 127.0.0.1\n Port {}\n User {}\n IdentityFile {}\n IdentitiesOnly yes\nHost *\n User nobody\n",
        office.port,
        office.user,
        office.path("ssh/client").display()
    );
    fs::write(office.path("home/.ssh/config"), config).unwrap();
    assert_eq!(
        office.ok(&["ls", &format!("sftp://office{}/root/", office.path("").display()).replace("//root", "/root")]),
        "it\n"
    );
    let (code, words) = office.fails(&["ls", &address.replace(&format!("{}@", office.user), "")]);
    assert!(code == NOT_LET_IN && words.contains("nobody"), "{code} {words}");
}

#[test]
fn keys_of_an_agent_let_in() {
    let Some(office) = Office::new(&[]) else { return };
    fs::write(office.path("root/it"), "").unwrap();
    fs::remove_file(office.path("home/.ssh/id_ed25519")).unwrap();
    let socket = office.path("agent");
    let mut agent = Command::new("ssh-agent").args(["-D", "-a"]).arg(&socket).stdout(Stdio::null()).spawn().unwrap();
    until("the agent answers", || socket.exists());
    let by_agent = |program: &str, args: &[&str]| {
        let mut command = if program == STMOUNT { office.desk.command(args) } else { Command::new(program) };
        if program != STMOUNT {
            command.args(args).current_dir(office.path("ssh")).stderr(Stdio::null());
        }
        command.env("SSH_AUTH_SOCK", &socket).output().unwrap()
    };
    let address = office.address("");
    assert_eq!(by_agent(STMOUNT, &["ls", &address]).status.code(), Some(NOT_LET_IN));
    assert!(by_agent("ssh-add", &["stranger"]).status.success());
    let said = by_agent(STMOUNT, &["ls", &address]);
    assert!(String::from_utf8_lossy(&said.stderr).contains("of the agent"), "{said:?}");
    for key in ["rsa", "client"] {
        assert!(by_agent("ssh-add", &[key]).status.success());
        assert_eq!(String::from_utf8_lossy(&by_agent(STMOUNT, &["ls", &address]).stdout), "it\n", "{key}");
        assert!(by_agent("ssh-add", &["-d", key]).status.success());
    }
    agent.kill().unwrap();
    agent.wait().unwrap();
    assert_eq!(by_agent(STMOUNT, &["ls", &address]).status.code(), Some(NOT_LET_IN));
}

#[test]
fn a_password_that_does_not_let_in_is_shown_nowhere() {
    let Some(office) = Office::new(&["PasswordAuthentication yes"]) else { return };
    fs::remove_file(office.path("home/.ssh/id_ed25519")).unwrap();
    fs::write(office.path("pw"), "not-this-one\n").unwrap();
    let (code, words) = office.fails(&["ls", "--password-file", "pw", &office.address("")]);
    assert!(code == NOT_LET_IN && words.contains("a password") && !words.contains("not-this-one"), "{code} {words}");
    let named = office.address("").replace('@', ":not-this-one@");
    let (code, words) = office.fails(&["ls", "--no-prompt", &named]);
    assert!(code == NOT_LET_IN && words.contains("the password") && !words.contains("not-this-one"), "{code} {words}");
}

#[test]
fn a_server_that_stops_hangs_nobody_and_is_read_again_when_it_goes_on() {
    let Some(office) = Office::new(&[]) else { return };
    office.pack();
    office.ok(&["-o", "nocache,deadline=1s", &office.address("x.st"), "m"]);
    assert_eq!(fs::read_dir(office.path("m")).unwrap().count(), 2);
    office.signal(Signal::STOP);
    let begun = Instant::now();
    let e = fs::read(office.path("m/noise")).err().unwrap();
    assert_eq!(e.raw_os_error(), Some(Errno::TIMEDOUT.raw_os_error()), "{e}");
    assert!(begun.elapsed() < Duration::from_secs(20));
    assert_eq!(office.fails(&["ls", "--deadline", "1s", &office.address("")]).0, NETWORK);
    office.signal(Signal::CONT);
    until("it is read again", || fs::read(office.path("m/noise")).is_ok_and(|read| read == noise(3_000_000)));
    office.ok(&["umount", "m"]);
}

#[test]
fn a_mounted_folder_takes_changes() {
    let Some(office) = Office::new(&[]) else { return };
    office.pack();
    fs::rename(office.path("root/d"), office.path("d")).unwrap();
    fs::create_dir(office.path("root/tree")).unwrap();
    let signal = |name: &str| office.signal(if name == "STOP" { Signal::STOP } else { Signal::CONT });
    servers::assert_takes_changes(&office.desk, "deadline=20s", &office.address("tree/"), Some(&signal));
}

#[test]
fn a_connection_that_is_cut_is_made_anew() {
    let Some(office) = Office::new(&[]) else { return };
    office.pack();
    office.ok(&["-o", "nocache", &office.address(""), "m"]);
    let file = File::open(office.path("m/d/noise")).unwrap();
    let (mut read, want) = (vec![0; 1000], noise(3_000_000));
    for at in [0, 2_500_000, 1_200_000] {
        let sessions = office.processes().into_iter().filter(|pid| pid.as_raw_pid() != office.server.id() as i32);
        sessions.for_each(|pid| {
            let _ = kill_process(pid, Signal::KILL);
        });
        file.read_exact_at(&mut read, at).unwrap();
        assert!(read == want[at as usize..at as usize + 1000], "{at}");
    }
    assert_same(&office.path("root"), &office.path("m"));
    drop(file);
    office.signal(Signal::KILL);
    assert_eq!(office.fails(&["ls", "--deadline", "2s", &office.address("")]).0, NETWORK);
    office.ok(&["umount", "m"]);
}

#[test]
fn what_is_changed_while_it_is_open_is_never_mixed() {
    let Some(office) = Office::new(&[]) else { return };
    let (path, old) = (office.path("root/file"), noise(40_000_000));
    fs::write(&path, &old).unwrap();
    File::options()
        .write(true)
        .open(&path)
        .unwrap()
        .set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(9))
        .unwrap();
    office.ok(&["-o", "nocache", &office.address(""), "m"]);
    let file = File::open(office.path("m/file")).unwrap();
    let mut read = vec![0; 100_000];
    file.read_exact_at(&mut read, 0).unwrap();
    assert!(read == old[..100_000]);
    // In place, with the same length.
    File::options().write(true).open(&path).unwrap().write_all_at(&vec![0; 40_000_000], 0).unwrap();
    let mut stale = 0;
    for at in (0..40_000_000).step_by(100_000) {
        match file.read_exact_at(&mut read, at as u64) {
            Ok(()) => assert!(read == old[at..at + 100_000], "{at}"),
            Err(e) => {
                assert_eq!(e.raw_os_error(), Some(Errno::STALE.raw_os_error()), "{at}: {e}");
                stale += 1;
            }
        }
    }
    assert!(stale > 0);
    drop(file);
    until("the new one is read", || fs::read(office.path("m/file")).is_ok_and(|read| read == vec![0; 40_000_000]));
    office.ok(&["umount", "m"]);
}

#[test]
fn a_server_without_files_says_so() {
    let Some(office) = Office::new(&["Subsystem sftp /bin/false"]) else { return };
    let (code, words) = office.fails(&["ls", &office.address("")]);
    assert!(code == UNSUPPORTED && words.contains("knows no sftp"), "{code} {words}");
}

/// Bytes that end before their end.
struct Short;

impl stmount::source::ReadAt for Short {
    fn len(&self) -> stmount::error::Result<u64> {
        Ok(1_000_000)
    }

    fn read_at(&self, at: u64, into: &mut [u8]) -> stmount::error::Result<usize> {
        Ok(into.len().min(500_000_u64.saturating_sub(at) as usize))
    }
}

const AS_WRITER: &str = "STMOUNT_TEST_WRITES_TO";

/// The keys of a user are found by the environment of a process, and so this is one of its own.
#[test]
fn what_is_written_is_on_the_disk_of_the_server() {
    if let Ok(address) = std::env::var(AS_WRITER) {
        return writes(&address);
    }
    // Once as OpenSSH is, and once as if it knew nothing besides the protocol.
    for options in [&[][..], &["Subsystem sftp internal-sftp -P posix-rename,lsetstat,fsync"]] {
        let Some(office) = Office::new(options) else { return };
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "what_is_written_is_on_the_disk_of_the_server", "--nocapture"]);
        command.env("HOME", office.path("home")).env_remove("SSH_AUTH_SOCK").env(AS_WRITER, office.address(""));
        let said = command.output().unwrap();
        let told = String::from_utf8_lossy(&[said.stdout, said.stderr].concat()).into_owned();
        assert!(said.status.success() && told.contains("1 passed"), "{options:?}: {told}");
    }
}

fn writes(address: &str) {
    let root = PathBuf::from(address.split_once("127.0.0.1:").unwrap().1.split_once('/').unwrap().1);
    let root = Path::new("/").join(root);
    let share =
        remote::share(address, &Link { patience: Duration::from_secs(20), ..Link::default() }, &NoKeys).unwrap();
    let to: &dyn Writes = share.writes().unwrap();
    let holds = to.holds();
    assert!(holds.mtime && holds.mode && holds.links && holds.rename);
    let put = |path: &str, bytes: &[u8], what: &Set| -> stmount::error::Result<Vec<u64>> {
        let mut told = Vec::new();
        to.put(path, &Memory::new(bytes.to_vec()), what, &mut |gone| {
            told.push(gone);
            Ok(())
        })?;
        Ok(told)
    };
    // A file: its bytes, its mode, its time.
    let (large, time) = (noise(5_000_000), Time { secs: 1_000_000_007, nanos: 0 });
    let set = Set { modified: Some(time), mode: Some(0o640) };
    let told = put("a b", &large, &set).unwrap();
    assert!(told.is_sorted() && told.last() == Some(&5_000_000));
    let meta = fs::metadata(root.join("a b")).unwrap();
    assert!(fs::read(root.join("a b")).unwrap() == large);
    assert_eq!((meta.mode() & 0o7777, meta.mtime()), (0o640, time.secs));
    // In its place another one, which has its mode where nothing else is said; who reads the old one goes on with it.
    let reader = File::open(root.join("a b")).unwrap();
    put("a b", b"short", &Set::default()).unwrap();
    let mut read = vec![0; 5_000_000];
    reader.read_exact_at(&mut read, 0).unwrap();
    assert!(read == large && fs::read(root.join("a b")).unwrap() == b"short");
    assert_eq!(fs::metadata(root.join("a b")).unwrap().mode() & 0o7777, 0o640);
    put("empty", b"", &Set::default()).unwrap();
    assert_eq!(fs::metadata(root.join("empty")).unwrap().len(), 0);
    // What fails leaves the old one, and nothing else.
    let e = to.put("a b", &Short, &Set::default(), &mut |_| Ok(())).unwrap_err();
    assert_eq!(e.kind(), Kind::Changed);
    let mut stop = |_: u64| Err(stmount::error::Error::new(Kind::Interrupted, "enough"));
    assert_eq!(to.put("a b", &Memory::new(large.clone()), &set, &mut stop).unwrap_err().kind(), Kind::Interrupted);
    assert_eq!(fs::read(root.join("a b")).unwrap(), b"short");
    assert_eq!(put("no/where", b"x", &set).unwrap_err().kind(), Kind::NotFound);
    let mut names: Vec<_> = fs::read_dir(&root).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["a b", "empty"]);
    // Directories.
    to.make_dir("dir").unwrap();
    to.make_dir("dir").unwrap();
    assert_eq!(to.make_dir("empty").unwrap_err().kind(), Kind::Exists);
    assert_eq!(put("dir", b"x", &set).unwrap_err().kind(), Kind::IsADirectory);
    put("dir/in", b"in", &set).unwrap();
    assert_eq!(to.remove_dir("dir").unwrap_err().kind(), Kind::NotEmpty);
    assert_eq!(to.remove("dir").unwrap_err().kind(), Kind::IsADirectory);
    // Names.
    to.rename("dir", "moved").unwrap();
    to.rename("moved/in", "empty").unwrap();
    assert_eq!(fs::read(root.join("empty")).unwrap(), b"in");
    assert_eq!(to.rename("missing", "x").unwrap_err().kind(), Kind::NotFound);
    assert_eq!(fs::read(root.join("empty")).unwrap(), b"in");
    to.remove_dir("moved").unwrap();
    to.remove_dir("moved").unwrap();
    assert!(!root.join("moved").exists());
    // Links, and what is set of them is not set of what they lead to.
    to.link("link", b"a b").unwrap();
    to.link("link", b"empty").unwrap();
    assert_eq!(fs::read_link(root.join("link")).unwrap(), Path::new("empty"));
    assert_eq!(share.target("link").unwrap(), b"empty");
    assert_eq!(share.look("link").unwrap().kind, NodeKind::Symlink);
    to.link("empty", b"\xff nowhere").unwrap();
    assert_eq!(share.target("empty").unwrap(), b"\xff nowhere");
    to.link("link", b"a b").unwrap();
    let later = Time { secs: 1_100_000_000, nanos: 0 };
    to.set("link", &Set { modified: Some(later), mode: Some(0o600) }).unwrap();
    assert_eq!(fs::metadata(root.join("a b")).unwrap().mode() & 0o7777, 0o640);
    assert_ne!(fs::metadata(root.join("a b")).unwrap().mtime(), later.secs);
    to.set("a b", &Set { modified: Some(later), mode: Some(0o4711) }).unwrap();
    let item = share.look("a b").unwrap();
    assert_eq!((item.mode, item.modified, item.len), (Some(0o4711), Some(later), Some(5)));
    assert_eq!(to.set("missing", &set).unwrap_err().kind(), Kind::NotFound);
    // Away.
    for name in ["link", "empty", "a b", "a b"] {
        to.remove(name).unwrap();
    }
    assert_eq!(fs::read_dir(&root).unwrap().count(), 0);
    // Nothing leads out of it.
    for bad in ["", "..", "../x", "a/../../x", "/etc/x", "a//b", "a\0b"] {
        assert_eq!(put(bad, b"x", &set).unwrap_err().kind(), Kind::Invalid, "{bad}");
        assert!(to.remove_dir(bad).is_err() && to.rename("a", bad).is_err() && to.link(bad, b"x").is_err());
    }
    // A server that is not known is not written to either.
    let named = Link { hostkey: HostKey::Only("SHA256:x".into()), ..Link::default() };
    assert_eq!(remote::share(address, &named, &NoKeys).err().unwrap().kind(), Kind::Untrusted);
}
