//! Recipients: public keys that a container can be sealed for, without a secret. Whoever has the identity opens it.
//!
//! ```text
//!   age1…                        32 bytes X25519, as age-keygen -y prints it
//!   ssh-ed25519 AAAA… comment    a point of Ed25519, taken to X25519 as age does
//! ```

use super::{Kek, ssh};
use crate::error::{Error, Kind, Result};
use bech32::Bech32;
use bech32::primitives::decode::CheckedHrpstring;
use curve25519_dalek::edwards::CompressedEdwardsY;
use std::fmt;
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::Zeroizing;

/// Where a key comes from. Slots tell it, so that each identity is tried where it can fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// A key of age.
    X25519,
    /// A key of ssh.
    Ssh,
}

/// Whom a container is sealed for.
#[derive(Clone, Debug)]
pub struct Recipient {
    family: Family,
    public: PublicKey,
    text: String,
}

/// Bytes of the comment behind a key of ssh that are kept.
const COMMENT: usize = 80;

impl Recipient {
    /// The recipient that a text names.
    ///
    /// # Errors
    /// `Usage` for one of another kind, for one with a mistake in it, and for a weak one. What is secret is not repeated.
    pub fn parse(text: &str) -> Result<Self> {
        let text = text.trim();
        if is_secret(text) {
            return Err(usage("this is a secret key, not a recipient").hint("age-keygen -y FILE prints the recipient"));
        }
        match text.split_whitespace().next() {
            Some("ssh-ed25519") => Self::of_ssh(text),
            Some(word) if word.starts_with("age1") => Self::of_age(text),
            word => Err(of_other_kind(word.unwrap_or_default())),
        }
    }

    fn of_age(text: &str) -> Result<Self> {
        let hrp = text.rsplit_once('1').map_or("", |(hrp, _)| hrp);
        if hrp != "age" && hrp.starts_with("age1") {
            return Err(of_other_kind(text));
        }
        let key = bech32_key(text, "age").ok_or_else(|| usage("the recipient has a mistake in it").hint(AGE_HINT))?;
        Self::new(Family::X25519, *key, text.to_owned())
    }

    fn of_ssh(text: &str) -> Result<Self> {
        let mut words = text.split_whitespace().skip(1);
        let key = words.next().and_then(ssh::public_key).ok_or_else(|| usage("the ssh key has a mistake in it"))?;
        let comment = words.collect::<Vec<_>>().join(" ");
        let comment: String = comment.chars().filter(|c| !c.is_control()).collect();
        let shown = [&ssh::public_line(&key), shortened(&comment)].join(" ");
        // A point outside of the large subgroup agrees on nothing, or on little.
        let point = CompressedEdwardsY(key).decompress().filter(|point| !point.is_small_order());
        let point = point.ok_or_else(|| usage("the ssh key is no point that can be used"))?;
        Self::new(Family::Ssh, point.to_montgomery().to_bytes(), shown.trim_end().to_owned())
    }

    fn new(family: Family, key: [u8; 32], text: String) -> Result<Self> {
        let public = PublicKey::from(key);
        let probe = StaticSecret::from([8; 32]).diffie_hellman(&public);
        if !is_canonical(&key) || !probe.was_contributory() {
            return Err(usage("this recipient is weak: anybody could open what is sealed for it"));
        }
        Ok(Self { family, public, text })
    }

    pub fn family(&self) -> Family {
        self.family
    }

    /// A key for one slot, from an ephemeral secret that was drawn for it, with its public half, which the slot tells.
    ///
    /// # Errors
    /// `Usage` for a recipient with whom there is no agreement, of which none was made.
    pub fn kek(&self, ephemeral: Zeroizing<[u8; 32]>) -> Result<([u8; 32], Kek)> {
        let ephemeral = StaticSecret::from(*ephemeral);
        let shown = PublicKey::from(&ephemeral).to_bytes();
        let shared = ephemeral.diffie_hellman(&self.public);
        if !shared.was_contributory() {
            return Err(usage("there is no agreement with this recipient"));
        }
        Ok((shown, Kek::agreed(self.family, shared.as_bytes(), &shown, self.public.as_bytes())))
    }
}

impl fmt::Display for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl PartialEq for Recipient {
    fn eq(&self, other: &Self) -> bool {
        (self.family, self.public) == (other.family, other.public)
    }
}

impl Eq for Recipient {}

/// The recipients of a file: one in each line, but for empty ones and those that begin with `#`.
///
/// # Errors
/// As [`Recipient::parse`], with the number of the line; `Usage` when there are none.
pub fn recipients_of_file(text: &str) -> Result<Vec<Recipient>> {
    let lines = text.lines().map(str::trim).zip(1..).filter(|(line, _)| !line.is_empty() && !line.starts_with('#'));
    let parse = |(line, n)| Recipient::parse(line).map_err(|e: Error| e.within(format!("line {n}")));
    let found = lines.map(parse).collect::<Result<Vec<_>>>()?;
    if found.is_empty() {
        return Err(usage("there is no recipient in it"));
    }
    Ok(found)
}

const AGE_HINT: &str = "a recipient is age1… (age-keygen -y FILE prints it) or ssh-ed25519 AAAA…";

/// 32 bytes in Bech32 as age writes it: in one case, with no bit to spare.
pub(super) fn bech32_key(text: &str, hrp: &str) -> Option<Zeroizing<[u8; 32]>> {
    let parsed = CheckedHrpstring::new::<Bech32>(text).ok().filter(|parsed| parsed.hrp().as_str() == hrp)?;
    let mut key = Zeroizing::new([0; 32]);
    let mut bytes = parsed.byte_iter();
    key.iter_mut().try_for_each(|into| bytes.next().map(|byte| *into = byte))?;
    let upper = hrp.bytes().all(|b| !b.is_ascii_lowercase());
    let encode = if upper { bech32::encode_upper::<Bech32> } else { bech32::encode_lower::<Bech32> };
    let again = Zeroizing::new(encode(parsed.hrp(), &*key).ok()?);
    (*again == text).then_some(key)
}

/// Whether a number of the field is written as all write it: an identity knows its public key, and not what was written.
fn is_canonical(key: &[u8; 32]) -> bool {
    let is_top = key[31] == 0x7f && key[1..31].iter().all(|b| *b == 0xff);
    key[31] < 0x80 && !(is_top && key[0] >= 0xed)
}

fn shortened(comment: &str) -> &str {
    &comment[..comment.floor_char_boundary(COMMENT)]
}

pub(super) fn is_secret(text: &str) -> bool {
    let begins = text.get(..4).unwrap_or_default();
    begins.eq_ignore_ascii_case("AGE-") || text.starts_with("-----BEGIN")
}

fn of_other_kind(word: &str) -> Error {
    let plugin = word.strip_prefix("age1").and_then(|rest| rest.rsplit_once('1')).map(|(name, _)| name);
    let what = match (word, plugin) {
        (_, Some("pq" | "tagpq" | "tag")) => "recipients age1pq… and age1tag… are not known yet".to_owned(),
        (_, Some(name)) => format!("recipients of age plugins ({name}) cannot be used"),
        ("ssh-rsa", _) => "keys ssh-rsa cannot be used".to_owned(),
        ("ssh-dss", _) => "keys ssh-dss cannot be used".to_owned(),
        (word, _) if word.starts_with("ecdsa-") => "keys ecdsa of ssh cannot be used".to_owned(),
        (word, _) if word.starts_with("sk-") => "keys of ssh that a token holds (sk-…) cannot be used".to_owned(),
        _ => "this is no recipient".to_owned(),
    };
    usage(what).hint(AGE_HINT)
}

fn usage(what: impl Into<String>) -> Error {
    Error::new(Kind::Usage, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    const AGE: &str = "age10xnrrmk7r0uunrcjqvkdatwsu7s8jwv0c7rt3rxggmkgntu955dq25yyzj";
    const SSH: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBdFU7RW3d/GkI7KscEB/mqyHiuqBhd5W31DpjSCmT/V";

    fn said(text: &str) -> String {
        Recipient::parse(text).err().unwrap().to_string()
    }

    #[test]
    fn a_recipient_is_shown_as_it_was_given() {
        assert_eq!(Recipient::parse(&format!(" {AGE}\n")).unwrap().to_string(), AGE);
        let ssh = Recipient::parse(&format!("{SSH}  ada@home \u{1b}[2J")).unwrap();
        assert_eq!(ssh.to_string(), format!("{SSH} ada@home [2J"));
        let long = Recipient::parse(&format!("{SSH} {}", "ä".repeat(500))).unwrap().to_string();
        assert!(long.len() > 150 && long.len() <= 200, "{}", long.len());
        assert_eq!(Recipient::parse(SSH).unwrap(), ssh);
        assert!(Recipient::parse(AGE).unwrap() != ssh);
    }

    #[test]
    fn what_cannot_be_used_is_refused_by_name() {
        assert!(said("ssh-rsa AAAAB3NzaC1yc2E").contains("ssh-rsa"));
        assert!(said("ecdsa-sha2-nistp256 AAAA").contains("ecdsa"));
        assert!(said("sk-ssh-ed25519@openssh.com AAAA").contains("token"));
        assert!(said("age1yubikey1qwt50d05nh5vutpdzmlg5wn80xq5negm4uj9ghv0snvdd3yysf5yw3rhl3t").contains("yubikey"));
        assert!(said("age1pq1qqqq").contains("age1pq") && said("age1tag1qqqq").contains("age1tag"));
        assert!(said("ada@example.org").contains("no recipient") && said("").contains("no recipient"));
    }

    #[test]
    fn a_secret_key_is_no_recipient_and_is_not_repeated() {
        let said = said("AGE-SECRET-KEY-1GPQ5YS6YG4RYWJZFFF95CN2WFAG9Z5JN2324V46CT9D9KHZATE0S5FAZ64");
        assert!(said.contains("secret key") && !said.contains("GPQ5"), "{said}");
    }

    #[test]
    fn mistakes_are_found() {
        for at in 4..AGE.len() {
            let mut bad = AGE.to_owned().into_bytes();
            bad[at] = if bad[at] == b'q' { b'p' } else { b'q' };
            assert!(Recipient::parse(std::str::from_utf8(&bad).unwrap()).is_err(), "{at}");
        }
        let m = bech32::encode_lower::<bech32::Bech32m>(bech32::Hrp::parse("age").unwrap(), &[7; 32]).unwrap();
        let short = bech32::encode_lower::<Bech32>(bech32::Hrp::parse("age").unwrap(), &[7; 31]).unwrap();
        let long = bech32::encode_lower::<Bech32>(bech32::Hrp::parse("age").unwrap(), &[7; 33]).unwrap();
        for bad in [&m, &short, &long, &AGE.to_uppercase(), &format!("{AGE} x"), &SSH[..60], "ssh-ed25519", &SSH[..77]]
        {
            assert!(Recipient::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn points_that_agree_on_nothing_are_refused() {
        let of = |key: [u8; 32]| {
            let hrp = bech32::Hrp::parse("age").unwrap();
            Recipient::parse(&bech32::encode_lower::<Bech32>(hrp, &key).unwrap())
        };
        let number = |low: u8, middle: u8, top: u8| {
            let mut key = [middle; 32];
            (key[0], key[31]) = (low, top);
            key
        };
        // 0, 1, p - 1; then p, p + 1 and a set top bit, which are 0, 1 and 9 written otherwise.
        for weak in [(0, 0, 0), (1, 0, 0), (0xec, 0xff, 0x7f), (0xed, 0xff, 0x7f), (0xee, 0xff, 0x7f), (9, 0, 0x80)] {
            assert!(of(number(weak.0, weak.1, weak.2)).is_err(), "{weak:?}");
        }
        of(number(9, 0, 0)).unwrap();
        // The neutral point of Ed25519, one of order 2, and what is no point.
        for weak in [number(1, 0, 0), number(0xec, 0xff, 0x7f), number(0, 0, 0), number(2, 0, 0)] {
            assert!(Recipient::parse(&ssh::public_line(&weak)).is_err(), "{weak:?}");
        }
    }

    #[test]
    fn a_file_has_one_in_each_line() {
        let file = format!("# all of us\n\n{AGE}\n  {SSH} ada\r\n");
        let all: Vec<_> = recipients_of_file(&file).unwrap().iter().map(Recipient::to_string).collect();
        assert_eq!(all, [AGE.to_owned(), format!("{SSH} ada")]);
        let refused = recipients_of_file(&format!("{AGE}\nssh-rsa AAAA")).err().unwrap().to_string();
        assert!(refused.starts_with("line 2: "), "{refused}");
        assert!(recipients_of_file("# nobody").is_err());
    }
}
