//! Ed25519 keys in the files of ssh.
//!
//! ```text
//!  public     ssh-ed25519 BASE64 comment      BASE64: "ssh-ed25519" ‖ key             each behind its length, 4 bytes
//!  secret     -----BEGIN OPENSSH PRIVATE KEY-----
//!             BASE64: "openssh-key-v1\0" ‖ cipher ‖ kdf ‖ its options ‖ 1 ‖ public ‖ private
//!                     private: check ‖ check ‖ "ssh-ed25519" ‖ key ‖ seed and key ‖ comment ‖ 1 2 3 …
//! ```

use super::sign::{PublicKey, SigningKey};
use crate::error::{Error, Kind, Result};
use base64ct::{Base64, Encoding};
use zeroize::Zeroizing;

/// Of the keys of ssh, this kind is read.
pub const KIND: &str = "ssh-ed25519";
pub const BEGIN: &str = "-----BEGIN OPENSSH PRIVATE KEY-----";
const END: &str = "-----END OPENSSH PRIVATE KEY-----";
const MAGIC: &[u8] = b"openssh-key-v1\0";

/// The line of a public key.
pub fn public(line: &str) -> Result<PublicKey> {
    let mut words = line.split_whitespace();
    let text = words.next().filter(|kind| *kind == KIND).and_then(|_| words.next());
    let blob = text.and_then(|text| Base64::decode_vec(text).ok());
    let key = blob.and_then(|blob| public_blob(&blob)).ok_or_else(|| broken("public"))?;
    PublicKey::from_bytes(&key)
}

/// The file of a secret key without a passphrase.
pub fn secret(text: &str) -> Result<SigningKey> {
    let wrong = || broken("secret");
    let inner = text.trim().strip_prefix(BEGIN).and_then(|rest| rest.strip_suffix(END)).ok_or_else(wrong)?;
    // Room for all of it from the beginning: a text that grows leaves copies of its bytes behind.
    let mut lines = Zeroizing::new(String::with_capacity(inner.len()));
    inner.split_whitespace().for_each(|line| lines.push_str(line));
    let blob = Zeroizing::new(Base64::decode_vec(&lines).map_err(|_| wrong())?);
    let mut rest = Fields(blob.strip_prefix(MAGIC).ok_or_else(wrong)?);
    let (cipher, kdf, options) =
        rest.next().zip(rest.next()).zip(rest.next()).map(|((a, b), c)| (a, b, c)).ok_or_else(wrong)?;
    if (cipher, kdf, options) != (b"none", b"none", b"") {
        let what = "the key has a passphrase, and such a key of ssh cannot be read here";
        return Err(Error::new(Kind::Unsupported, what).hint("a key for this alone: stmount keygen"));
    }
    if rest.number() != Some(1) {
        return Err(wrong());
    }
    let (public, private) = rest.next().zip(rest.next()).filter(|_| rest.0.is_empty()).ok_or_else(wrong)?;
    let of_kind = Fields(public).next().is_some_and(|kind| kind == KIND.as_bytes());
    if !of_kind {
        return Err(Error::new(Kind::Unsupported, "of the keys of ssh, only those of ssh-ed25519 can be used"));
    }
    let key = public_blob(public).and_then(|public| private_part(private, &public)).ok_or_else(wrong)?;
    Ok(key)
}

fn broken(which: &str) -> Error {
    Error::new(Kind::Invalid, format!("it is no whole {which} key of ssh")).hint("the whole of what ssh-keygen wrote")
}

fn public_blob(blob: &[u8]) -> Option<[u8; 32]> {
    let mut fields = Fields(blob);
    let (kind, key) = fields.next().zip(fields.next())?;
    let key = key.try_into().ok()?;
    (kind == KIND.as_bytes() && fields.0.is_empty()).then_some(key)
}

/// The key of a private part, when all of it fits together.
fn private_part(bytes: &[u8], public: &[u8; 32]) -> Option<SigningKey> {
    let mut fields = Fields(bytes);
    let is_whole = fields.number()? == fields.number()? && fields.next()? == KIND.as_bytes();
    let (own, pair, _comment) = (fields.next()?, fields.next()?, fields.next()?);
    let is_padding = fields.0.len() < 256 && fields.0.iter().zip(1u8..).all(|(byte, number)| *byte == number);
    let (seed, behind) = pair.split_first_chunk::<32>()?;
    let key = SigningKey::from_seed(seed);
    let fits = own == public && behind == public && key.public().as_bytes() == public;
    (is_whole && is_padding && fits).then_some(key)
}

/// Fields, each behind its length.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn number(&mut self) -> Option<u32> {
        let (number, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u32::from_be_bytes(*number))
    }

    fn next(&mut self) -> Option<&'a [u8]> {
        let len = self.number()? as usize;
        let (field, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(field)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `ssh-keygen -t ed25519` wrote, without a passphrase and with one. They open nothing.
    const PLAIN: &str = "b3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQAAAAAAAAABAAAAMwAAAAtzc2gtZW\n\
         QyNTUxOQAAACB1475EVRuYDXpoLHS5gDZat+bitfeTL+xOFxUhGJ1oVgAAAJCQ4YSgkOGE\n\
         oAAAAAtzc2gtZWQyNTUxOQAAACB1475EVRuYDXpoLHS5gDZat+bitfeTL+xOFxUhGJ1oVg\n\
         AAAECsJ0on+K9RdN2EsWl/9IvUaKjpaQnc8GqVngtQ7im53nXjvkRVG5gNemgsdLmANlq3\n\
         5uK195Mv7E4XFSEYnWhWAAAABmEgdGVzdAECAwQFBgc=\n";
    const LOCKED: &str = "b3BlbnNzaC1rZXktdjEAAAAACmFlczI1Ni1jdHIAAAAGYmNyeXB0AAAAGAAAABA5vftsrY\n\
         oKsLuxMnFti9b9AAAAEAAAAAEAAAAzAAAAC3NzaC1lZDI1NTE5AAAAIA3Q3rSP/mDE/tCr\n\
         jiJ3Yi9OxS3tGzCHb4SQcMaTwFwCAAAAkN2oeAn20s6Vyq2L33B7M+ButC4RQTrFBC0Edm\n\
         6WCkmGrdGr2rXIfvUb6YhOLM0mL5VPYpDvP+uKsgntlklmDM1cYFAmmctCmEVoyo9XruQB\n\
         iwNucYZh+40bVUoDDTY+eIzRz0wfiNnyTgMgt1YkDLtCx4E7kiN4bqG1f093zMcNZjGJBm\n\
         3hGEmMzZq2DVqUPA==\n";
    const PUBLIC: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHXjvkRVG5gNemgsdLmANlq35uK195Mv7E4XFSEYnWhW a test";

    fn file(body: &str) -> String {
        format!("{BEGIN}\n{body}{END}\n")
    }

    fn refused(body: &[u8]) -> Kind {
        secret(&file(&(Base64::encode_string(body) + "\n"))).err().unwrap().kind()
    }

    #[test]
    fn keys_that_ssh_keygen_wrote_are_read() {
        let key = SigningKey::parse(&file(PLAIN)).ok().unwrap();
        assert_eq!(key.public(), PUBLIC.parse().unwrap());
        assert_eq!(key.public(), public(PUBLIC.rsplit_once(" a ").unwrap().0).unwrap());
        assert_eq!(secret(&file(LOCKED)).err().unwrap().kind(), Kind::Unsupported);
    }

    #[test]
    fn a_secret_key_of_which_anything_is_changed_is_refused() {
        let whole = Base64::decode_vec(&PLAIN.replace('\n', "")).unwrap();
        for len in 0..whole.len() {
            refused(&whole[..len]);
        }
        // All but the comment, which is for people.
        let comment = whole.len() - 7 - 6..whole.len() - 7;
        for at in (0..whole.len()).filter(|at| !comment.contains(at)) {
            let mut changed = whole.clone();
            changed[at] ^= 0x41;
            refused(&changed);
        }
    }

    #[test]
    fn what_is_no_public_key_is_refused() {
        let cut = PUBLIC.split(' ').nth(1).unwrap();
        for wrong in [
            "ssh-ed25519",
            "ssh-ed25519 ",
            "ssh-ed25519 AAAA",
            "ssh-ed25519-cert AAAA",
            "ssh-ed25519 ====",
            &format!("ssh-ed25519 {}", &cut[..64]),
            &format!("ssh-ed25519 {cut}AAAA"),
            &format!("ssh-rsa {cut}"),
        ] {
            assert_eq!(public(wrong).unwrap_err().kind(), Kind::Invalid, "{wrong}");
        }
    }
}
