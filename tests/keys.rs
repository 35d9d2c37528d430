//! Who opens a sealed container, with the programs that make keys, and with a reader in Python that was written from
//! FORMAT.md alone.

#[path = "common/listing.rs"]
mod listing;

use std::fs;
use std::path::Path;
use std::process::Command;
use stmount::error::Kind;
use stmount::formats::st::{KeySet, NewSlot};
use stmount::key::{Cost, Identities, Keyfile, Keys, Master, NoKeys, Recipient, Secret, parse_identities};
use zeroize::Zeroizing;

const UID: [u8; 16] = [3; 16];

/// Runs a program in a directory; `None` where it is not installed.
fn run(dir: &Path, program: &str, args: &[&str]) -> Option<String> {
    let out = match Command::new(program).args(args).current_dir(dir).output() {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            println!("skipped: {program} is not installed");
            return None;
        }
        out => out.unwrap(),
    };
    assert!(out.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&out.stderr));
    Some(String::from_utf8(out.stdout).unwrap())
}

fn sealed_for(recipients: &[&str]) -> (Master, Vec<u8>) {
    let master = Master::random().unwrap();
    let mut set = KeySet::new(UID, &[1], false);
    for text in recipients {
        let recipient = Recipient::parse(text).unwrap();
        let label = recipient.to_string();
        set.add(&master, NewSlot::Recipient(recipient), &label).unwrap();
    }
    let payload = set.encode(&master).unwrap();
    (master, payload)
}

fn identities(dir: &Path, name: &str) -> Identities {
    Identities(parse_identities(&fs::read(dir.join(name)).unwrap()).unwrap())
}

/// Opens with the identity, and with no other.
fn assert_opens(recipient: &str, right: &Identities, wrong: &Identities) {
    let (master, payload) = sealed_for(&[recipient]);
    let set = KeySet::parse(&payload).unwrap();
    let opened = set.unlock(right, "a.st").unwrap();
    assert_eq!(opened.expose(), master.expose());
    assert_eq!(set.labels(&opened).unwrap()[0].text, recipient.trim());
    for keys in [wrong as &dyn Keys, &NoKeys] {
        assert_eq!(set.unlock(keys, "a.st").err().unwrap().kind(), Kind::UnknownRecipient);
    }
}

#[test]
fn keys_of_age_open() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["one", "other"] {
        if run(dir.path(), "age-keygen", &["-o", name]).is_none() {
            return;
        }
    }
    let recipient = run(dir.path(), "age-keygen", &["-y", "one"]).unwrap();
    assert_opens(&recipient, &identities(dir.path(), "one"), &identities(dir.path(), "other"));
    // A file of identities that age has encrypted: age decrypts it.
    if run(dir.path(), "age", &["-r", recipient.trim(), "-o", "locked", "one"]).is_some() {
        let refused = parse_identities(&fs::read(dir.path().join("locked")).unwrap()).err().unwrap();
        assert!(refused.advice().unwrap().contains("age -d"), "{refused}");
    }
}

#[test]
fn keys_of_ssh_open() {
    let dir = tempfile::tempdir().unwrap();
    for (name, comment) in [("one", "ada@home"), ("other", "")] {
        if run(dir.path(), "ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", name]).is_none() {
            return;
        }
    }
    let recipient = fs::read_to_string(dir.path().join("one.pub")).unwrap();
    assert_opens(&recipient, &identities(dir.path(), "one"), &identities(dir.path(), "other"));
    run(dir.path(), "ssh-keygen", &["-q", "-p", "-P", "", "-N", "secret", "-f", "one"]);
    let refused = parse_identities(&fs::read(dir.path().join("one")).unwrap()).err().unwrap();
    assert_eq!(refused.kind(), Kind::Unsupported);
    assert!(refused.advice().unwrap().contains("ssh-keygen -p"), "{refused}");
}

#[test]
fn a_key_of_another_kind_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let rsa = ["-q", "-t", "rsa", "-b", "2048", "-N", "", "-f", "rsa"];
    if run(dir.path(), "ssh-keygen", &rsa).is_none() {
        return;
    }
    let refused = Recipient::parse(&fs::read_to_string(dir.path().join("rsa.pub")).unwrap()).err().unwrap();
    assert!(refused.to_string().contains("ssh-rsa"), "{refused}");
    let identity = parse_identities(&fs::read(dir.path().join("rsa")).unwrap()).err().unwrap();
    assert_eq!(identity.kind(), Kind::Unsupported);
}

#[test]
fn python_opens_what_is_sealed_here() {
    let cost = Cost { memory_kib: 64, passes: 2, lanes: 2 };
    let passphrase = || Secret::new("Grüße, 世界".into());
    let keyfile = || Keyfile::new(b"sixteen bytes or more").unwrap();
    let age = "age10xnrrmk7r0uunrcjqvkdatwsu7s8jwv0c7rt3rxggmkgntu955dq25yyzj";
    let ssh = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBdFU7RW3d/GkI7KscEB/mqyHiuqBhd5W31DpjSCmT/V";
    let master = Master::new(Zeroizing::new([9; 32]));
    let mut set = KeySet::new(UID, &[2, 1], true);
    for (slot, label) in [
        (NewSlot::Passphrase { passphrase: passphrase(), cost }, "Grüße"),
        (NewSlot::PassphraseAndKeyfile { passphrase: passphrase(), keyfile: keyfile(), cost }, "both"),
        (NewSlot::Keyfile(keyfile()), "keyfile"),
        (NewSlot::Recipient(Recipient::parse(age).unwrap()), age),
        (NewSlot::Recipient(Recipient::parse(ssh).unwrap()), ssh),
    ] {
        set.add(&master, slot, label).unwrap();
    }
    let payload = hex(&set.encode(&master).unwrap());
    let range = |from: u8| hex(&(from..from + 32).collect::<Vec<_>>());
    let contents = hex(b"sixteen bytes or more");
    for how in [
        &["passphrase", "Grüße, 世界"][..],
        &["both", "Grüße, 世界", &contents],
        &["keyfile", &contents],
        &["x25519", &range(0x40)],
        &["ssh", &range(0x60)],
    ] {
        let words = ["open", &payload].into_iter().chain(how.iter().copied()).map(Path::new);
        let said = listing::say("keys_vectors.py", &words.collect::<Vec<_>>());
        assert_eq!(said, format!("{}\nGrüße\nboth\nkeyfile\n{age}\n{ssh}\n", "09".repeat(32)), "{how:?}");
    }
}

#[test]
fn the_vectors_are_those_of_the_specification() {
    let vectors = listing::say("keys_vectors.py", &[]);
    let in_code = concat!(include_str!("../src/formats/st/keys/tests.rs"), include_str!("../src/key/kdf.rs"));
    let code: String = in_code.chars().filter(|c| !c.is_whitespace() && *c != '\\').collect();
    for line in vectors.lines().filter(|line| !line.starts_with("payload") && !line.starts_with("argon2id")) {
        let (name, value) = line.split_once(": ").unwrap();
        let value: String = value.split_whitespace().collect();
        assert!(code.contains(&value), "{name}");
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
