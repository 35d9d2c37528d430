//! Sealed containers as a person has them: every way to open one, with the programs that make keys, on real mounts; and
//! nothing secret where others could see it.

mod common {
    pub mod desk;
    pub mod dress;
}

use common::desk::Desk;
use common::dress;
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

const PASSPHRASE: &str = "correct horse battery staple";
const IDENTITY: &str = "AGE-SECRET-KEY-";

/// A desk with keys of all kinds and a folder `src`; `None` where nothing can be mounted, or no key can be made.
fn desk() -> Option<Desk> {
    if !dress::only_plain("each of these tests seals for itself") {
        return None;
    }
    let desk = Desk::new()?;
    let made = [
        run(&desk, "age-keygen", &["-o", "me.key"]),
        run(&desk, "age-keygen", &["-o", "other.key"]),
        run(&desk, "ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-C", "ada@home", "-f", "id"]),
    ];
    if made.iter().any(Option::is_none) {
        println!("skipped: age-keygen or ssh-keygen is not installed");
        return None;
    }
    for (name, text) in [
        ("pass", PASSPHRASE),
        ("wrong", "incorrect"),
        ("bin", "sixteen bytes or more"),
        ("bin2", "other sixteen bytes"),
    ] {
        fs::write(desk.path(name), text).unwrap();
    }
    fs::create_dir(desk.path("src")).unwrap();
    fs::write(desk.path("src/letter"), "Dear reader, ".repeat(3000)).unwrap();
    Some(desk)
}

fn run(desk: &Desk, program: &str, args: &[&str]) -> Option<String> {
    let out = Command::new(program).args(args).current_dir(desk.path("")).output().ok()?;
    assert!(out.status.success(), "{program}: {}", String::from_utf8_lossy(&out.stderr));
    Some(String::from_utf8(out.stdout).unwrap().trim().to_owned())
}

fn recipient(desk: &Desk, key: &str) -> String {
    run(desk, "age-keygen", &["-y", key]).unwrap()
}

/// Runs what has to fail with this code, and says something of this.
#[track_caller]
fn fails(desk: &Desk, args: &[&str], code: i32, says: &str) {
    let begun = Instant::now();
    let said = desk.say(args);
    let err = String::from_utf8_lossy(&said.stderr).into_owned();
    assert_eq!(said.status.code(), Some(code), "{args:?}: {err}");
    assert!(err.contains(says), "{args:?}: {err}");
    assert!(begun.elapsed() < Duration::from_secs(20), "{args:?}");
}

fn slots(desk: &Desk, file: &str, by: &[&str]) -> Vec<Value> {
    let listed = desk.ok(&[&["key", "list", "--json", "--no-prompt", file], by].concat());
    serde_json::from_str::<Value>(&listed).unwrap()["slots"].as_array().unwrap().clone()
}

fn labels(desk: &Desk, file: &str, by: &[&str]) -> Vec<String> {
    slots(desk, file, by).iter().map(|slot| slot["label"].as_str().unwrap().to_owned()).collect()
}

const ME: [&str; 2] = ["--identity", "me.key"];

#[test]
fn every_kind_of_key_opens_a_mount() {
    let Some(desk) = desk() else { return };
    let age = recipient(&desk, "me.key");
    let ways = ["--encrypt=pass", "--recipient", &age, "-R", "id.pub", "--cipher", "cascade", "--pad"];
    desk.ok(&[&["pack", "-q", "src", "all.st"], &ways[..]].concat());
    desk.ok(&["pack", "-q", "--new-keyfile", "bin", "src", "key.st"]);
    desk.ok(&["pack", "-q", "--encrypt=pass", "--new-keyfile", "bin", "src", "both.st"]);
    for (file, by) in [
        ("all.st", &["--password-file", "pass"][..]),
        ("all.st", &ME),
        ("all.st", &["--identity", "id"]),
        ("key.st", &["--keyfile", "bin"]),
        ("both.st", &["--keyfile", "bin", "--password-file", "pass"]),
    ] {
        desk.ok(&[&["mount", "--no-prompt"], by, &[file, "m"]].concat());
        assert!(fs::read_to_string(desk.path("m/letter")).unwrap().ends_with("Dear reader, "));
        fs::write(desk.path("m/written"), file).unwrap();
        desk.ok(&["umount", "m"]);
        assert_eq!(desk.ok(&[&["cat", &format!("{file}:written")], by].concat()), file);
    }
    // What opens it, and what it costs, are told to who has opened it.
    let info: Value = serde_json::from_str(&desk.ok(&["info", "--json", "--identity", "id", "all.st"])).unwrap();
    let kinds: Vec<_> = info["sealed"]["slots"].as_array().unwrap().iter().map(|slot| &slot["kind"]).collect();
    assert_eq!(kinds, ["passphrase", "age", "ssh-ed25519"]);
    assert!(info["sealed"]["slots"][0]["memory_kib"].as_u64().unwrap() >= 8192 && info["sealed"]["padded"] == true);
    let words = desk.ok(&["info", "--identity", "id", "all.st"]);
    assert!(words.contains("AES-256-GCM-SIV, then XChaCha20-Poly1305; lengths are padded"), "{words}");
    assert!(words.contains("passphrase (Argon2id, "), "{words}");
    for mode in [&["-f"][..], &[]] {
        let mount = |by: &[&'static str], file: &'static str| [mode, &["--no-prompt"], by, &[file, "m"]].concat();
        fails(&desk, &mount(&["--password-file", "wrong"], "all.st"), 12, "password is wrong");
        fails(&desk, &mount(&[], "key.st"), 21, "--keyfile FILE");
        fails(&desk, &mount(&["--keyfile", "bin2"], "key.st"), 21, "another keyfile");
        fails(&desk, &mount(&["--identity", "other.key"], "all.st"), 23, "no identity that was given opens it");
        fails(&desk, &mount(&[], "all.st"), 20, "it opens with: a passphrase");
        assert!(!desk.is_mounted());
    }
    nothing_secret_is_seen(&desk);
}

/// Of a daemon that was given all secrets in all ways that there are.
fn nothing_secret_is_seen(desk: &Desk) {
    let log = desk.path("log");
    let mut mount = Command::new(env!("CARGO_BIN_EXE_stmount"));
    mount.args([
        "-v",
        "-v",
        "mount",
        "--no-prompt",
        "-p",
        PASSPHRASE,
        "--password-env",
        "HIDDEN",
        "--password-file",
        "pass",
    ]);
    mount.args(["--keyfile", "bin", "--identity", "me.key", "--log-file"]).arg(&log).args(["all.st", "m"]);
    let said = mount.current_dir(desk.path("")).env("HIDDEN", PASSPHRASE).output().unwrap();
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    let pid = desk.daemon();
    let list = Command::new("ps").args(["-eww", "-o", "args"]).output().map(|out| out.stdout).unwrap_or_default();
    let proc = |name: &str| fs::read(format!("/proc/{pid}/{name}")).unwrap();
    let limits = String::from_utf8(proc("limits")).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().skip(4).take(2).collect::<Vec<_>>(), ["0", "0"], "{core}");
    let seen = [("cmdline", proc("cmdline")), ("environ", proc("environ"))];
    desk.ok(&["umount", "m"]);
    for (what, bytes) in
        seen.into_iter().chain([("ps", list), ("log", fs::read(&log).unwrap()), ("stderr", said.stderr)])
    {
        let text = String::from_utf8_lossy(&bytes);
        for secret in [PASSPHRASE, IDENTITY, "sixteen bytes or more"] {
            assert!(!text.contains(secret), "{what}: {text}");
        }
    }
}

#[test]
fn keys_come_and_go() {
    let Some(desk) = desk() else { return };
    let (me, other) = (recipient(&desk, "me.key"), recipient(&desk, "other.key"));
    desk.ok(&["create", "--recipient", &me, "k.st"]);
    let [by_me, by_other] = [ME, ["--identity", "other.key"]];
    fails(&desk, &["key", "list", "--no-prompt", "k.st", "--identity", "other.key"], 23, "no identity");
    desk.ok(&["key", "add", "--recipient", &other, "--label", "Ada", "k.st", "--identity", "me.key"]);
    desk.ok(&["key", "add", "--new-keyfile", "bin", "-R", "id.pub", "k.st", "--identity", "other.key"]);
    let ssh = fs::read_to_string(desk.path("id.pub")).unwrap().trim().to_owned();
    assert_eq!(labels(&desk, "k.st", &["--keyfile", "bin"]), [me.as_str(), "Ada", "keyfile bin", ssh.as_str()]);
    let used: Vec<_> = slots(&desk, "k.st", &by_other).iter().map(|slot| slot["used"] == true).collect();
    assert_eq!(used, [false, true, false, false]);
    let said = desk.ok(&["key", "list", "k.st", "--identity", "id"]);
    assert!(
        said.starts_with("sealed with AES-256-GCM-SIV\n  1  20") && said.contains("  recipient age1…  Ada\n"),
        "{said}"
    );

    let removed = desk.say(&["key", "remove", "k.st", "Ada", "--identity", "me.key"]);
    assert!(String::from_utf8_lossy(&removed.stderr).contains("rekey"), "{removed:?}");
    fails(&desk, &["key", "list", "--no-prompt", "k.st", "--identity", "other.key"], 23, "no identity");
    desk.ok(&["key", "remove", "k.st", "3", "--identity", "me.key"]);
    desk.ok(&["key", "remove", "k.st", "2", "--identity", "me.key"]);
    fails(&desk, &["key", "remove", "k.st", "1", "--identity", "me.key"], 1, "last slot");
    fails(&desk, &["key", "remove", "k.st", "Bob", "--identity", "me.key"], 10, "no key is called");
    fails(&desk, &["key", "add", "k.st", "--identity", "me.key"], 1, "--recipient");
    fails(&desk, &["key", "add", "--encrypt", "--no-prompt", "k.st", "--identity", "me.key"], 1, "--encrypt=FILE");
    fails(&desk, &["key", "change", "--encrypt=pass", "k.st", "--identity", "me.key"], 1, "not with the passphrase");
    fails(&desk, &["key", "list", "a.st"], 1, "not sealed");
    fails(&desk, &["key", "add", "--recipient", &me, "a.st"], 1, "not sealed");

    desk.ok(&["--identity", "me.key", "k.st", "m"].map(|word| word));
    fs::write(desk.path("m/a"), "written").unwrap();
    for args in [
        &["key", "add", "--recipient", other.as_str()][..],
        &["rekey", "--recipient", other.as_str()],
        &["rekey", "--plain"],
    ] {
        fails(&desk, &[args, &["k.st"], &by_me].concat(), 11, "is mounted on");
    }
    desk.ok(&["umount", "m"]);
    desk.ok(&["check", "-q", "k.st", "--identity", "me.key"]);
}

#[test]
fn a_passphrase_is_changed_in_place() {
    let Some(desk) = desk() else { return };
    desk.ok(&["create", "--encrypt=pass", "p.st"]);
    fs::write(desk.path("new"), "another one").unwrap();
    desk.ok(&["key", "change", "--no-prompt", "--encrypt=new", "--password-file", "pass", "p.st"]);
    fails(&desk, &["log", "--no-prompt", "--password-file", "pass", "p.st"], 12, "the password is wrong");
    let slots = slots(&desk, "p.st", &["--password-file", "new"]);
    assert_eq!((slots.len(), &slots[0]["kind"], &slots[0]["label"]), (1, &"passphrase".into(), &"passphrase".into()));
    assert!(slots[0]["memory_kib"].as_u64() >= Some(8192) && slots[0]["used"] == true);
}

/// All verbs that change a container, or look into its states.
#[test]
fn every_verb_opens_what_is_sealed_and_leaves_it_sealed() {
    let Some(desk) = desk() else { return };
    let me = recipient(&desk, "me.key");
    for (file, more) in
        [("aes.st", &[][..]), ("both.st", &["--cipher", "cascade"]), ("pad.st", &["--cipher", "cascade", "--pad"])]
    {
        let with = |args: &[&str]| desk.ok(&[args, &ME].concat());
        desk.ok(&[&["pack", "-q", "--parity", "20%", "--recipient", me.as_str(), "src", file], more].concat());
        with(&["snapshot", file, "first"]);
        fs::write(desk.path("src/more"), "more of it").unwrap();
        with(&["pack", "-q", "--append", "src", file]);
        fs::remove_file(desk.path("src/more")).unwrap();
        with(&["pack", "-q", "--update", "--delete", "src", file]);
        let log: Value = serde_json::from_str(&with(&["log", "--json", file])).unwrap();
        assert!(log["states"].as_array().unwrap().len() >= 4, "{log}");
        assert_eq!(with(&["ls", file]), "letter\n");
        with(&["-q", "compact", file]);
        assert_eq!(with(&["ls", &format!("{file}@first")]), "letter\n");
        with(&["restore", &format!("{file}@first")]);
        is_sealed_and_whole(&desk, file, &ME);
        torn_and_recovered(&desk, file);
        is_sealed_and_whole(&desk, file, &ME);
    }
}

fn is_sealed_and_whole(desk: &Desk, file: &str, by: &[&str]) {
    assert!(!contains(&desk.path(file), b"Dear reader") && !contains(&desk.path(file), b"letter"));
    desk.ok(&[&["check", "-q", file], by].concat());
    fails(desk, &["ls", "--no-prompt", "--identity", "other.key", file], 23, "no identity");
}

fn contains(file: &Path, text: &[u8]) -> bool {
    fs::read(file).unwrap().windows(text.len()).any(|window| window == text)
}

/// Its header is gone, and garbage stands behind it.
fn torn_and_recovered(desk: &Desk, file: &str) {
    let mut bytes = fs::read(desk.path(file)).unwrap();
    bytes[..4096].fill(0);
    bytes.extend([7; 1000]);
    fs::write(desk.path(file), bytes).unwrap();
    desk.ok(&[&["recover", "-q", file][..], &ME].concat());
}

#[test]
fn a_container_is_sealed_anew_for_others_or_for_nobody() {
    let Some(desk) = desk() else { return };
    let (me, other) = (recipient(&desk, "me.key"), recipient(&desk, "other.key"));
    let by_other = ["--identity", "other.key"];
    // In clear at first.
    desk.ok(&["pack", "-q", "src", "r.st"]);
    desk.ok(&["snapshot", "r.st", "clear"]);
    let clear = fs::read(desk.path("r.st")).unwrap();
    desk.ok(&["-q", "rekey", "--recipient", &me, "--cipher", "cascade", "r.st"]);
    is_sealed_and_whole(&desk, "r.st", &ME);
    let sealed = fs::read(desk.path("r.st")).unwrap();
    // The identity of one in clear is a hash of what is in it.
    assert!(clear[16..32] != sealed[16..32]);
    let said = desk.say(&["rekey", "--recipient", &other, "r.st", "--identity", "me.key"]);
    assert!(String::from_utf8_lossy(&said.stderr).contains("backups"), "{said:?}");
    fails(&desk, &["ls", "--no-prompt", "--identity", "me.key", "r.st"], 23, "no identity");
    let again = fs::read(desk.path("r.st")).unwrap();
    assert!(again[16..32] == sealed[16..32]);
    let info: Value = serde_json::from_str(&desk.ok(&[&["info", "--json", "r.st"][..], &by_other].concat())).unwrap();
    assert_eq!(info["sealed"]["ciphers"].as_array().unwrap().len(), 2, "{info}");
    assert_eq!(desk.ok(&[&["ls", "r.st@clear"][..], &by_other].concat()), "letter\n");
    // What was sealed is so for the old key where a copy was kept.
    fs::write(desk.path("kept.st"), sealed).unwrap();
    is_sealed_and_whole(&desk, "kept.st", &ME);
    fails(&desk, &["rekey", "--plain", "--recipient", &me, "r.st"], 1, "--plain");
    fails(&desk, &["rekey", "--no-prompt", "r.st"], 1, "--encrypt=FILE");
    desk.ok(&[&["-q", "rekey", "--plain", "r.st"][..], &by_other].concat());
    assert_eq!(desk.ok(&["ls", "r.st"]), "letter\n");
    desk.ok(&["check", "-q", "r.st"]);
    fails(&desk, &["rekey", "--plain", "r.st"], 1, "not sealed");
}
