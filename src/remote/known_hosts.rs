//! The keys by which servers of ssh are known: `known_hosts` of this user and of the system.
//!
//! ```text
//!   host,[host]:2222,*.lan ssh-ed25519 AAAA…      names, then the key
//!   |1|salt|hash ssh-ed25519 AAAA…                a name that is not to be read
//!   @revoked * ssh-ed25519 AAAA…                  a key that is never taken
//! ```

use super::{HostKey, small_file};
use crate::error::{Error, Kind, Result};
use base64ct::{Base64, Encoding};
use hmac::{Hmac, KeyInit, Mac};
use russh::keys::{Algorithm, HashAlg, PublicKey};
use sha1::Sha1;
use std::fs::{DirBuilder, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::PathBuf;

/// A file that is longer is not read.
const MOST: u64 = 16 << 20;

/// What is known of one server.
#[derive(Clone, Debug)]
pub struct KnownHost {
    /// As it stands in the files.
    name: String,
    keys: Vec<PublicKey>,
    revoked: Vec<PublicKey>,
}

/// Whether a server is the one that it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Known,
    /// Nothing is known of it, and a person wishes to know it from now on.
    Learnt,
    Unknown,
    /// Another key is known.
    Changed,
    /// A person named the one key that counts, and it is not this one.
    NotNamed,
    Revoked,
}

impl Verdict {
    pub fn is_good(self) -> bool {
        matches!(self, Self::Known | Self::Learnt)
    }
}

impl KnownHost {
    /// What the files know of a server.
    pub fn of(host: &str, port: u16) -> Self {
        let name = if port == 22 { host.to_owned() } else { format!("[{host}]:{port}") };
        let mut known = Self { name: name.to_ascii_lowercase(), keys: Vec::new(), revoked: Vec::new() };
        for path in [user_file(), Some("/etc/ssh/ssh_known_hosts".into())].into_iter().flatten() {
            if let Some(bytes) = small_file(&path, MOST) {
                known.read(&String::from_utf8_lossy(&bytes));
            }
        }
        known
    }

    fn read(&mut self, text: &str) {
        for line in text.lines().filter(|line| !line.trim_start().starts_with('#')) {
            let mut words = line.split_whitespace().peekable();
            let marker = words.next_if(|word| word.starts_with('@'));
            let (Some(names), Some(kind), Some(key)) = (words.next(), words.next(), words.next()) else { continue };
            let key = || PublicKey::from_openssh(&format!("{kind} {key}")).ok();
            match marker {
                // A revoked key is not taken, whatever name its line has.
                Some("@revoked") => self.revoked.extend(key()),
                // Certificates are not asked for.
                Some(_) => {}
                None if is_named(&self.name, names) => self.keys.extend(key()),
                None => {}
            }
        }
    }

    /// Kinds of keys, those that are known first: a server that has several shows one that can be compared.
    pub fn kinds(&self) -> Vec<Algorithm> {
        let is_known = |kind: &Algorithm| self.keys.iter().any(|key| is_same_kind(&key.algorithm(), kind));
        let all = russh::Preferred::DEFAULT.key.iter().filter(|kind| **kind != Algorithm::Rsa { hash: None });
        let (mut first, then): (Vec<_>, Vec<_>) = all.cloned().partition(is_known);
        first.extend(then);
        first
    }

    pub fn judge(&self, key: &PublicKey, wish: &HostKey) -> Verdict {
        let is_in = |keys: &[PublicKey]| keys.iter().any(|known| known.key_data() == key.key_data());
        match wish {
            _ if is_in(&self.revoked) => Verdict::Revoked,
            HostKey::Only(wanted) if *wanted == fingerprint(key) => Verdict::Known,
            HostKey::Only(_) => Verdict::NotNamed,
            _ if is_in(&self.keys) => Verdict::Known,
            // Also a key of another kind: who stands between shows what he has.
            _ if !self.keys.is_empty() => Verdict::Changed,
            HostKey::AcceptNew => Verdict::Learnt,
            HostKey::Known => Verdict::Unknown,
        }
    }

    /// Why a server is not taken for the one that was named.
    pub fn refusal(&self, verdict: Verdict, key: &PublicKey) -> Error {
        let (kind, print) = (key.algorithm(), fingerprint(key));
        let untrusted = |what: String| Error::new(Kind::Untrusted, what);
        match verdict {
            Verdict::Revoked => untrusted(format!("the key of the server is revoked: {kind} {print}")),
            Verdict::NotNamed => untrusted(format!("the server has another key than the one that was named: {print}")),
            Verdict::Changed => untrusted(format!(
                "THE KEY OF THE SERVER HAS CHANGED: somebody may stand between, or it was set up anew; it shows {kind} \
                 {print}, which is not the one in known_hosts"
            ))
            .hint(format!("ask who runs it; if that is the new key: ssh-keygen -R '{}'", self.name)),
            _ => untrusted(format!("the server is not known: its key is {kind} {print}")).hint(format!(
                "if that is its key: --hostkey {print}, or -o hostkey={print}, takes it; --hostkey accept-new also \
                 adds it to known_hosts, as `ssh` does once it was asked"
            )),
        }
    }

    /// Adds a key to the file of this user.
    pub fn learn(&self, key: &PublicKey) -> Result<()> {
        let path = user_file().ok_or_else(|| Error::new(Kind::Usage, "without a home directory no key can be kept"))?;
        let wrong = |e| Error::io(e, format!("cannot write {}", path.display()));
        if let Some(dir) = path.parent() {
            DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(wrong)?;
        }
        let line = key.to_openssh().map_err(|e| Error::new(Kind::Io, "the key cannot be written").caused_by(e))?;
        let mut file = File::options().read(true).append(true).create(true).mode(0o600).open(&path).map_err(wrong)?;
        let mut last = [b'\n'];
        if file.seek(SeekFrom::End(-1)).is_ok() {
            file.read_exact(&mut last).map_err(wrong)?;
        }
        let begin = if last == *b"\n" { "" } else { "\n" };
        file.write_all(format!("{begin}{} {line}\n", self.name).as_bytes()).map_err(wrong)
    }
}

/// What a person compares: `SHA256:…`.
pub fn fingerprint(key: &PublicKey) -> String {
    key.fingerprint(HashAlg::Sha256).to_string()
}

fn user_file() -> Option<PathBuf> {
    std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".ssh/known_hosts"))
}

fn is_same_kind(a: &Algorithm, b: &Algorithm) -> bool {
    a == b || matches!((a, b), (Algorithm::Rsa { .. }, Algorithm::Rsa { .. }))
}

/// Whether a name is one of those of a line.
fn is_named(name: &str, names: &str) -> bool {
    let mut is_named = false;
    for pattern in names.split(',') {
        match (pattern.strip_prefix("|1|"), pattern.strip_prefix('!')) {
            (Some(hashed), _) => is_named |= is_hash_of(hashed, name),
            (_, Some(not)) if matches(not, name) => return false,
            (_, Some(_)) => {}
            _ => is_named |= matches(pattern, name),
        }
    }
    is_named
}

/// `salt|hash`: HMAC-SHA1 of the name.
fn is_hash_of(text: &str, name: &str) -> bool {
    let Some((salt, hash)) = text.split_once('|') else { return false };
    let (Ok(salt), Ok(hash)) = (Base64::decode_vec(salt), Base64::decode_vec(hash)) else { return false };
    let Ok(mut mac) = Hmac::<Sha1>::new_from_slice(&salt) else { return false };
    mac.update(name.as_bytes());
    mac.verify_slice(&hash).is_ok()
}

/// `*` is any characters, `?` is one. Letters are of no case.
pub fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.to_ascii_lowercase().into_bytes(), text.to_ascii_lowercase().into_bytes());
    // Where the last star stands, and how much of the text it takes: it takes one more where the rest does not fit.
    let (mut p, mut t, mut star) = (0, 0, None);
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(c) if *c == b'?' || *c == text[t] => (p, t) = (p + 1, t + 1),
            _ => match star {
                Some((at, taken)) => {
                    star = Some((at, taken + 1));
                    (p, t) = (at + 1, taken + 1);
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|c| *c == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ";
    const TWO: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILIG2T/B0l0gaqj3puu510tu9N1OkQ4znY3LYuEm5zCF";

    fn judged(text: &str, name: &str, key: &str, wish: &HostKey) -> Verdict {
        let mut known = KnownHost { name: name.into(), keys: Vec::new(), revoked: Vec::new() };
        known.read(text);
        known.judge(&PublicKey::from_openssh(key).unwrap(), wish)
    }

    #[test]
    fn a_server_is_known_by_its_name_and_its_key() {
        let hashed = format!("|1|O33ESRMWPVkMYIwJ1Uw+n877jTo=|nuuC5vEqXlEZ/8BXQR7m619W6Ak= {TWO}\n");
        for (text, name, key, verdict) in [
            (format!("a.lan {ONE}\n"), "a.lan", ONE, Verdict::Known),
            (format!("a.lan {ONE}\n"), "a.lan", TWO, Verdict::Changed),
            (format!("a.lan {ONE}\n"), "b.lan", ONE, Verdict::Unknown),
            (format!("# a.lan {ONE}\n"), "a.lan", ONE, Verdict::Unknown),
            (format!("[a.lan]:2222 {ONE}\n"), "[a.lan]:2222", ONE, Verdict::Known),
            (format!("[a.lan]:2222 {ONE}\n"), "a.lan", ONE, Verdict::Unknown),
            (format!("*.lan,!b.lan {ONE} comment\n"), "a.lan", ONE, Verdict::Known),
            (format!("*.lan,!b.lan {ONE}\n"), "b.lan", ONE, Verdict::Unknown),
            (format!("a.lan {ONE}\na.lan {TWO}\n"), "a.lan", TWO, Verdict::Known),
            (format!("a.lan {ONE}\n@revoked * {ONE}\n"), "a.lan", ONE, Verdict::Revoked),
            (format!("@cert-authority * {ONE}\n"), "a.lan", ONE, Verdict::Unknown),
            (hashed.clone(), "example.com", TWO, Verdict::Known),
            (hashed, "example.org", TWO, Verdict::Unknown),
            ("a.lan ssh-ed25519 damaged\n|1|x\n|1||| y z\na\n".into(), "a.lan", ONE, Verdict::Unknown),
        ] {
            assert_eq!(judged(&text, name, key, &HostKey::Known), verdict, "{text} {name}");
        }
    }

    #[test]
    fn a_wish_takes_new_keys_or_one_and_never_one_that_changed() {
        let print = fingerprint(&PublicKey::from_openssh(ONE).unwrap());
        let (known, only) = (format!("a {TWO}\n"), HostKey::Only(print));
        assert_eq!(judged("", "a", ONE, &HostKey::AcceptNew), Verdict::Learnt);
        assert_eq!(judged(&known, "a", ONE, &HostKey::AcceptNew), Verdict::Changed);
        assert_eq!(judged("", "a", ONE, &only), Verdict::Known);
        assert_eq!(judged("", "a", TWO, &only), Verdict::NotNamed);
        assert_eq!(judged(&format!("@revoked a {ONE}"), "a", ONE, &only), Verdict::Revoked);
    }

    #[test]
    fn kinds_that_are_known_are_asked_for_first() {
        let rsa = "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAAgQC0";
        let known = KnownHost { name: "a".into(), keys: Vec::new(), revoked: Vec::new() };
        assert_eq!(known.kinds().first(), Some(&Algorithm::Ed25519));
        assert!(!known.kinds().contains(&Algorithm::Rsa { hash: None }) && PublicKey::from_openssh(rsa).is_err());
    }

    #[test]
    fn patterns_end_also_where_stars_are_many() {
        assert!(matches("a*b*c", "aXbYbc") && !matches("a*b*c", "aXbYb"));
        assert!(matches("?.LAN", "a.lan") && !matches("?", "") && matches("*", ""));
        assert!(!matches(&"*a".repeat(50), &"b".repeat(5000)));
    }
}
