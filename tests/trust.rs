//! `keygen`, `trust` and `--trust` as a person sees them.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

const STMOUNT: &str = env!("CARGO_BIN_EXE_stmount");
const SSH: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHXjvkRVG5gNemgsdLmANlq35uK195Mv7E4XFSEYnWhW";
const ANNA: &str = "stpub16adfsqvzky9t042tlmfujeq88g8wzuhnm2nzxfd0qgdx3ac82ydq4t5r5y";
const UID: &str = "0123456789abcdef0123456789abcdef";

/// A directory to work in, with the settings of its own user.
struct Desk(tempfile::TempDir);

impl Desk {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(STMOUNT);
        command.args(args).current_dir(self.0.path()).stdin(Stdio::null()).env("NO_COLOR", "1");
        command.env("STMOUNT_CONFIG_DIR", self.path("config")).env("STMOUNT_STATE_DIR", self.path("state"));
        command.env_remove("STMOUNT_TRUST");
        command
    }

    #[track_caller]
    fn ok(&self, args: &[&str]) -> String {
        let said = self.command(args).output().unwrap();
        assert!(said.status.success(), "{args:?}: {}", told(&said));
        String::from_utf8(said.stdout).unwrap()
    }

    /// Runs what has to fail with this code, and tells why.
    #[track_caller]
    fn fails(&self, args: &[&str], code: i32) -> String {
        let said = self.command(args).output().unwrap();
        assert_eq!(said.status.code(), Some(code), "{args:?}: {}", told(&said));
        told(&said)
    }

    fn list(&self) -> serde_json::Value {
        serde_json::from_str(&self.ok(&["trust", "list", "--json"])).unwrap()
    }
}

fn told(said: &Output) -> String {
    String::from_utf8_lossy(&said.stderr).into_owned()
}

#[test]
fn a_key_is_made_once_and_is_nobody_elses_business() {
    let desk = Desk::new();
    for (file, args) in [("config/signing.key", vec![]), ("release.key", vec!["release.key"])] {
        let verb = |words: &[&'static str]| [words, &args].concat();
        let public = desk.ok(&verb(&["keygen"]));
        assert!(public.starts_with("stpub1") && public.ends_with('\n'), "{public}");
        assert_eq!(desk.ok(&verb(&["keygen", "--public"])), public);
        assert_eq!(fs::metadata(desk.path(file)).unwrap().permissions().mode() & 0o777, 0o600);
        let text = fs::read_to_string(desk.path(file)).unwrap();
        assert!(text.contains(&format!("# public key: {public}STMOUNT-SIGNING-KEY-1")), "{public}");
        assert!(desk.fails(&verb(&["keygen"]), 1).contains("exists already"));
        assert_eq!(fs::read_to_string(desk.path(file)).unwrap(), text);
    }
    assert_eq!(fs::metadata(desk.path("config")).unwrap().permissions().mode() & 0o777, 0o700);
    desk.fails(&["keygen", "missing/a.key"], 10);
    desk.fails(&["keygen", "-y", "missing.key"], 10);
    fs::write(desk.path("nonsense"), "nonsense\n").unwrap();
    desk.fails(&["keygen", "-y", "nonsense"], 1);
}

#[test]
fn keys_are_added_listed_and_removed() {
    let desk = Desk::new();
    assert_eq!(desk.ok(&["trust", "list"]), "");
    assert!(!desk.path("config").exists());
    desk.ok(&["trust", "add", ANNA, "Anna", "B."]);
    desk.ok(&["trust", "add", SSH, "work"]);
    let own = desk.ok(&["keygen"]);
    fs::write(desk.path("own.pub"), format!("# mine\n{own}")).unwrap();
    desk.ok(&["trust", "add", "own.pub"]);
    let list = desk.list();
    let keys: Vec<_> = list["keys"].as_array().unwrap().iter().map(|key| key["name"].as_str().unwrap()).collect();
    assert_eq!((list["v"].as_u64(), keys), (Some(1), vec!["Anna B.", "work", ""]));
    assert_eq!(list["keys"][0]["fingerprint"], "21fe31dfa154a261626b");
    let ssh = list["keys"][1]["key"].as_str().unwrap().to_owned();
    assert_eq!(desk.ok(&["trust", "list"]), format!("{ANNA}  Anna B.\n{ssh}  work\n{own}"));

    assert!(desk.fails(&["trust", "add", own.trim(), "work"], 1).contains("another key has the name"));
    desk.fails(&["trust", "add", "nonsense"], 1);
    desk.fails(&["trust", "add", &ANNA.replace("adf", "adg")], 1);
    desk.fails(&["trust", "remove", "Berta"], 10);
    desk.ok(&["trust", "remove", "Anna B."]);
    desk.ok(&["trust", "remove", SSH]);
    assert_eq!(desk.ok(&["trust", "list"]), own);
}

#[test]
fn what_was_remembered_of_a_container_is_forgotten() {
    let desk = Desk::new();
    desk.ok(&["trust", "add", ANNA, "Anna"]);
    let file = desk.path("config/trusted_keys");
    let text = fs::read_to_string(&file).unwrap() + &format!("@first {UID} {ANNA} 2026-11-23\n");
    fs::write(&file, &text).unwrap();
    assert!(desk.ok(&["trust", "list"]).contains(&format!("{UID}  Anna ({ANNA})  since 2026-11-23\n")));
    assert_eq!(desk.list()["first_use"][0]["uid"], UID);
    fs::create_dir_all(desk.path("state/seen")).unwrap();
    fs::write(desk.path(&format!("state/seen/{UID}")), "").unwrap();
    desk.ok(&["trust", "forget", UID]);
    assert!(!desk.path(&format!("state/seen/{UID}")).exists());
    assert_eq!(desk.list()["first_use"].as_array().unwrap().len(), 0);
    assert!(desk.fails(&["trust", "forget", UID], 10).contains("nothing is remembered"));
    desk.fails(&["trust", "forget", "missing.st"], 10);
    // With the key goes what it has signed.
    fs::write(&file, &text).unwrap();
    desk.ok(&["trust", "remove", "21fe31dfa154a261626b"]);
    assert_eq!(desk.ok(&["trust", "list"]), "");
}

#[test]
fn a_damaged_store_is_told_and_left_alone() {
    let desk = Desk::new();
    fs::create_dir(desk.path("config")).unwrap();
    let file = desk.path("config/trusted_keys");
    fs::write(&file, format!("{ANNA} Anna\nnonsense\n")).unwrap();
    for args in
        [&["trust", "list"][..], &["trust", "add", SSH], &["trust", "remove", "Anna"], &["trust", "forget", UID]]
    {
        assert!(desk.fails(args, 1).contains("trusted_keys: line 2"));
    }
    fs::write(&file, format!("{ANNA} Anna\n")).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o666)).unwrap();
    assert!(desk.fails(&["trust", "list"], 1).contains("others than you"));
}

#[test]
fn the_level_is_said_by_a_word_by_an_option_or_by_the_environment() {
    let desk = Desk::new();
    fs::create_dir(desk.path("empty")).unwrap();
    desk.ok(&["pack", "-q", "empty", "a.zip"]);
    for level in ["high", "standard", "low"] {
        desk.ok(&["ls", "--trust", level, "a.zip"]);
    }
    desk.fails(&["ls", "--trust", "none", "a.zip"], 1);
    assert!(desk.fails(&["-o", "trust=none", "a.zip", "m"], 1).contains("none of high, standard, low"));
    // Nothing is signed, and so nothing is written.
    assert!(!desk.path("config").exists() && !desk.path("state").exists());
}
