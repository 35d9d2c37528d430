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

    /// What is said besides.
    #[track_caller]
    fn notes(&self, args: &[&str]) -> String {
        let said = self.command(args).output().unwrap();
        assert!(said.status.success(), "{args:?}: {}", told(&said));
        told(&said)
    }

    /// A folder to pack, the container `a.st` with it, signed, and the key.
    fn signed(&self) -> String {
        let public = self.ok(&["keygen", "-q"]);
        fs::create_dir(self.path("d")).unwrap();
        fs::write(self.path("d/one"), "hello\n").unwrap();
        self.ok(&["pack", "-q", "--sign", "d", "a.st"]);
        public.trim().to_owned()
    }

    fn verified(&self, args: &[&str]) -> serde_json::Value {
        let said = self.command(&[&["verify", "--json"], args].concat()).output().unwrap();
        serde_json::from_slice(&said.stdout).unwrap()
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
    for level in ["standard", "low"] {
        desk.ok(&["ls", "--trust", level, "a.zip"]);
    }
    assert!(desk.fails(&["ls", "--trust", "high", "a.zip"], 24).contains("carries no signatures"));
    desk.ok(&["ls", "--trust", "high", "empty"]);
    desk.fails(&["ls", "--trust", "none", "a.zip"], 1);
    assert!(desk.fails(&["-o", "trust=none", "a.zip", "m"], 1).contains("none of high, standard, low"));
    // Nothing is signed, and so nothing is written.
    assert!(!desk.path("config").exists() && !desk.path("state").exists());
}

#[test]
fn a_container_is_signed_and_verified() {
    let desk = Desk::new();
    assert!(desk.fails(&["create", "--sign", "c.st"], 10).contains("stmount keygen makes one"));
    let public = desk.signed();
    let said = desk.ok(&["verify", "a.st"]);
    assert!(said.starts_with(&format!("a.st: signed by {public}\nfingerprint ")), "{said}");
    assert!(said.contains(", state 1 of "), "{said}");
    assert!(desk.notes(&["sign", "a.st"]).contains("already"));
    assert!(desk.ok(&["info", "a.st"]).contains(&format!("signed by        {public}\n")));
    assert_eq!(desk.ok(&["cat", "--trust", "high", "a.st:one"]), "hello\n");

    // With another key, of ssh: named, or trusted.
    let mut ssh = Command::new("ssh-keygen");
    ssh.args(["-q", "-t", "ed25519", "-N", "", "-C", "me", "-f"]).arg(desk.path("id"));
    assert!(ssh.status().unwrap().success());
    desk.ok(&["pack", "-q", "d", "b.st"]);
    assert!(desk.fails(&["verify", "b.st"], 24).contains("it is not signed"));
    assert!(desk.notes(&["sign", "--key", "id", "b.st"]).contains("the state 2"));
    desk.ok(&["verify", "b.st"]);
    desk.ok(&["verify", "--key", &public, "--key", "id.pub", "b.st"]);
    assert!(desk.fails(&["verify", "--key", &public, "b.st"], 24).contains("another key"));
    desk.fails(&["verify", "--key", "nonsense", "b.st"], 1);
    let json = desk.verified(&["b.st"]);
    assert_eq!((json["verified"].as_bool(), json["sequence"].as_u64()), (Some(true), Some(2)));
    assert_eq!(json["signer"], desk.ok(&["keygen", "-y", "id.pub"]).trim());
    desk.ok(&["pack", "-q", "d", "a.zip"]);
    desk.fails(&["sign", "a.zip"], 33);
    desk.fails(&["pack", "-q", "--sign", "d", "b.zip"], 1);
    desk.fails(&["verify", "missing.st"], 10);
}

#[test]
fn each_verb_that_writes_signs_or_says_that_it_does_not() {
    let desk = Desk::new();
    desk.signed();
    fs::write(desk.path("d/two"), "more\n").unwrap();
    for args in [
        &["snapshot", "--sign", "a.st", "one"][..],
        &["pack", "-q", "--sign", "--update", "d", "a.st"],
        &["restore", "--sign", "a.st@one"],
        &["compact", "-q", "--sign", "a.st"],
        &["parity", "add", "-q", "--sign", "a.st"],
        &["parity", "drop", "--sign", "a.st"],
        &["sign", "a.st"],
    ] {
        assert!(!desk.notes(args).contains("warning"), "{args:?}");
        let json = desk.verified(&["a.st"]);
        assert_eq!(json["verified"], true, "{args:?}: {json}");
    }
    let before = desk.verified(&["a.st"])["sequence"].as_u64().unwrap();
    for args in [
        &["snapshot", "a.st", "two"][..],
        &["pack", "--append", "d", "a.st"],
        &["restore", "a.st@two"],
        &["compact", "a.st"],
        &["parity", "add", "a.st"],
        &["parity", "drop", "a.st"],
    ] {
        assert!(desk.notes(args).contains("what is written to it is not"), "{args:?}");
        assert!(desk.fails(&["verify", "a.st"], 24).contains("not signed any more"), "{args:?}");
        assert!(desk.notes(&["ls", "a.st"]).contains("not signed any more"));
        desk.fails(&["ls", "--trust", "high", "a.st"], 24);
        desk.ok(&["sign", "a.st"]);
        assert_eq!(desk.notes(&["ls", "--trust", "high", "a.st"]), "");
    }
    assert!(desk.verified(&["a.st"])["sequence"].as_u64().unwrap() > before);
}

#[test]
fn new_keys_are_signed_or_it_is_told_that_they_are_not() {
    let desk = Desk::new();
    desk.signed();
    fs::write(desk.path("one"), "0123456789abcdef0123456789ABCDEF").unwrap();
    fs::write(desk.path("two"), "another keyfile of some length...").unwrap();
    desk.ok(&["pack", "-q", "--sign", "--new-keyfile", "one", "d", "s.st"]);
    let open = ["--keyfile", "one", "s.st"];
    for args in
        [&["key", "add", "--sign", "--new-keyfile", "two"][..], &["rekey", "-q", "--sign", "--new-keyfile", "one"]]
    {
        assert!(!desk.notes(&[args, &open].concat()).contains("is not"), "{args:?}");
        assert_eq!(desk.verified(&open)["verified"], true, "{args:?}");
    }
    // An earlier copy, put back before the one with new keys was opened.
    fs::copy(desk.path("s.st"), desk.path("old.st")).unwrap();
    desk.ok(&[&["rekey", "-q", "--sign", "--new-keyfile", "one"], &open[..]].concat());
    fs::rename(desk.path("s.st"), desk.path("new.st")).unwrap();
    fs::rename(desk.path("old.st"), desk.path("s.st")).unwrap();
    assert!(desk.notes(&[&["ls"], &open[..]].concat()).contains("older than the state"));
    fs::rename(desk.path("new.st"), desk.path("s.st")).unwrap();
    assert!(
        desk.notes(&[&["key", "add", "--new-keyfile", "two"], &open[..]].concat()).contains("written to it is not")
    );
    assert!(desk.fails(&[&["verify"], &open[..]].concat(), 24).contains("not signed any more"));
}

#[test]
fn what_is_not_trusted_is_not_written_to() {
    let desk = Desk::new();
    desk.signed();
    fs::copy(desk.path("a.st"), desk.path("old.st")).unwrap();
    desk.ok(&["snapshot", "--sign", "a.st", "one"]);
    fs::copy(desk.path("old.st"), desk.path("a.st")).unwrap();
    assert!(desk.notes(&["ls", "a.st"]).contains("older than the state 2"));
    assert!(desk.fails(&["verify", "a.st"], 24).contains("older than the state 2"));
    let mut bad = fs::read(desk.path("old.st")).unwrap();
    let at = bad.len() - 60;
    bad[at] ^= 1;
    fs::write(desk.path("bad.st"), &bad).unwrap();
    fs::create_dir(desk.path("m")).unwrap();
    for file in ["a.st", "bad.st"] {
        let (state, before) = (format!("{file}@1"), fs::read(desk.path(file)).unwrap());
        for args in [
            &["snapshot", "--trust", "high", file, "two"][..],
            &["pack", "-q", "--trust", "high", "--append", "d", file],
            &["restore", "--trust", "high", &state],
            &["compact", "-q", "--trust", "high", file],
            &["recover", "-q", "--trust", "high", file],
            &["sign", "--trust", "high", file],
            &["-o", "trust=high", file, "m"],
        ] {
            desk.fails(args, 24);
            assert_eq!(fs::read(desk.path(file)).unwrap(), before, "{args:?}");
        }
    }
    // A wrong signature is refused at any level but low, and told by who looks for damage.
    assert!(desk.fails(&["ls", "bad.st"], 24).contains("its signature is wrong"));
    assert_eq!(desk.ok(&["ls", "--trust", "low", "bad.st"]), "one\n");
    assert!(desk.ok(&["info", "bad.st"]).contains("the signature is wrong"));
    let said = desk.command(&["check", "-q", "bad.st"]).output().unwrap();
    assert_eq!(said.status.code(), Some(50));
    assert!(String::from_utf8_lossy(&said.stdout).contains("its signature is wrong"));
    desk.ok(&["trust", "forget", "a.st"]);
    assert!(desk.notes(&["ls", "a.st"]).contains("which was not known"));
}

#[test]
fn a_mount_signs_what_is_written_to_it() {
    if !std::path::Path::new("/dev/fuse").exists() {
        return;
    }
    let desk = Desk::new();
    desk.signed();
    fs::create_dir(desk.path("m")).unwrap();
    assert_eq!(desk.notes(&["-o", "sign", "a.st", "m"]), "");
    fs::write(desk.path("m/new"), "new").unwrap();
    desk.ok(&["umount", "m"]);
    let json = desk.verified(&["a.st"]);
    assert_eq!((json["verified"].as_bool(), json["sequence"].as_u64().is_some_and(|n| n > 1)), (Some(true), true));
    // What was written is known: an earlier copy is noticed.
    assert_eq!(desk.notes(&["ls", "--trust", "high", "a.st"]), "");
    fs::copy(desk.path("a.st"), desk.path("old.st")).unwrap();
    desk.ok(&["-o", "sign=config/signing.key", "a.st", "m"]);
    fs::write(desk.path("m/new"), "newer").unwrap();
    desk.ok(&["umount", "m"]);
    fs::copy(desk.path("old.st"), desk.path("a.st")).unwrap();
    assert!(desk.notes(&["ls", "a.st"]).contains("is older than"));
    desk.ok(&["trust", "forget", "a.st"]);
    assert!(desk.notes(&["a.st", "m"]).contains("what is written to it is not: -o sign"));
    desk.ok(&["umount", "m"]);
    // Nothing was written, so it is signed still.
    desk.ok(&["verify", "a.st"]);
    desk.ok(&["pack", "-q", "d", "a.zip"]);
    assert!(desk.fails(&["-o", "rw,sign", "a.zip", "m"], 33).contains("can be signed"));
    desk.fails(&["-o", "sign=missing.key", "a.st", "m"], 10);
}
