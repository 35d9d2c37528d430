//! Keys of OpenSSH, as far as they are of Ed25519: they sign, and they open what is sealed.
//!
//! ```text
//!   public    ssh-ed25519 BASE64 comment      base64( string "ssh-ed25519" ‖ string key 32 )
//!   private   -----BEGIN OPENSSH PRIVATE KEY-----
//!             base64( "openssh-key-v1\0" ‖ string cipher ‖ string kdf ‖ string its options ‖ u32 1 ‖ string public
//!                     ‖ string( u32 n ‖ u32 n ‖ string "ssh-ed25519" ‖ string key 32 ‖ string seed 32 key 32
//!                               ‖ string comment ‖ 1 2 3 … ) )
//!   string    u32 length, big-endian, bytes                    PROTOCOL.key of OpenSSH
//! ```

use crate::error::{Error, Kind, Result};
use base64ct::{Base64, Encoding};
use zeroize::Zeroizing;

/// What the line of a public key begins with.
pub(super) const KIND: &str = "ssh-ed25519";
const NAME: &[u8] = KIND.as_bytes();
const BEGIN: &str = "-----BEGIN OPENSSH PRIVATE KEY-----";
const END: &str = "-----END OPENSSH PRIVATE KEY-----";

/// The key of the second word of a public key.
pub(super) fn public_key(base64: &str) -> Option<[u8; 32]> {
    let mut buffer = [0; 64];
    public_blob(Base64::decode(base64, &mut buffer).ok()?)
}

fn public_blob(blob: &[u8]) -> Option<[u8; 32]> {
    let mut rest = Cut(blob);
    let key = (rest.string()? == NAME).then(|| rest.string())??;
    key.try_into().ok().filter(|_| rest.0.is_empty())
}

/// A public key as it is written, without a comment.
pub(super) fn public_line(key: &[u8; 32]) -> String {
    let mut blob = [0; 51];
    blob[3] = NAME.len() as u8;
    blob[4..15].copy_from_slice(NAME);
    blob[18] = 32;
    blob[19..].copy_from_slice(key);
    let mut buffer = [0; 68];
    let base64 = Base64::encode(&blob, &mut buffer).expect("51 bytes are 68 digits");
    format!("{KIND} {base64}")
}

pub(super) fn is_private(text: &str) -> bool {
    text.trim_start().starts_with(BEGIN)
}

/// The seed and the public key of a file with a private key. Whether they belong together is for the caller to see, who
/// makes one of the other anyway.
///
/// # Errors
/// `Unsupported` when it has a passphrase or is of another kind, `Usage` when it is damaged.
pub(super) fn private_key(text: &str) -> Result<(Zeroizing<[u8; 32]>, [u8; 32])> {
    let bytes = armoured(text).ok_or_else(damaged)?;
    let (inner, public) = plain_part(&bytes)?;
    key_pair(inner, &public).map(|seed| (seed, public)).ok_or_else(damaged)
}

fn armoured(text: &str) -> Option<Zeroizing<Vec<u8>>> {
    let body = text.trim().strip_prefix(BEGIN)?.strip_suffix(END)?;
    // Room for all of it from the beginning: what grows leaves copies of its bytes behind.
    let mut digits = Zeroizing::new(Vec::with_capacity(body.len()));
    digits.extend(body.bytes().filter(|b| !b.is_ascii_whitespace()));
    let mut bytes = Zeroizing::new(vec![0; digits.len()]);
    let len = Base64::decode(&*digits, &mut bytes).ok()?.len();
    bytes.truncate(len);
    Some(bytes)
}

/// What lies behind the public part, when it is not encrypted, and the key is of the kind that can be used.
fn plain_part(bytes: &[u8]) -> Result<(&[u8], [u8; 32])> {
    let mut rest = Cut(bytes.strip_prefix(b"openssh-key-v1\0").ok_or_else(damaged)?);
    let mut string = || rest.string().ok_or_else(damaged);
    let locks = [string()?, string()?, string()?];
    let one = rest.u32() == Some(1);
    let public = rest.string().filter(|_| one).ok_or_else(damaged)?;
    if Cut(public).string() != Some(NAME) {
        return Err(Error::new(Kind::Unsupported, "of ssh only keys ssh-ed25519 can be used"));
    }
    if locks != [&b"none"[..], b"none", b""] {
        return Err(Error::new(Kind::Unsupported, "the ssh key has a passphrase, which cannot be asked for here")
            .hint("cp KEY COPY; ssh-keygen -p -f COPY takes the passphrase from a copy, on a disk that forgets"));
    }
    let inner = rest.string().filter(|_| rest.0.is_empty());
    inner.zip(public_blob(public)).ok_or_else(damaged)
}

/// The seed, when all that surrounds it fits together.
fn key_pair(inner: &[u8], public: &[u8; 32]) -> Option<Zeroizing<[u8; 32]>> {
    let mut rest = Cut(inner);
    let alike = rest.u32()? == rest.u32()?;
    let named = rest.string()? == NAME && rest.string()? == public;
    let (seed, again) = rest.string()?.split_first_chunk::<32>()?;
    rest.string()?;
    let padded = rest.0.len() < 256 && rest.0.iter().zip(1u8..).all(|(byte, n)| *byte == n);
    (alike && named && padded && again == public).then(|| Zeroizing::new(*seed))
}

fn damaged() -> Error {
    Error::new(Kind::Usage, "the ssh key is damaged").hint("the whole of what ssh-keygen wrote")
}

/// Bytes from which pieces are cut.
struct Cut<'a>(&'a [u8]);

impl<'a> Cut<'a> {
    fn u32(&mut self) -> Option<u32> {
        let (number, rest) = self.0.split_first_chunk::<4>()?;
        self.0 = rest;
        Some(u32::from_be_bytes(*number))
    }

    fn string(&mut self) -> Option<&'a [u8]> {
        let len = self.u32()?;
        let (string, rest) = self.0.split_at_checked(len as usize)?;
        self.0 = rest;
        Some(string)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::sign::{PublicKey, SigningKey};

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
        SigningKey::parse(&file(&(Base64::encode_string(body) + "\n"))).err().unwrap().kind()
    }

    #[test]
    fn keys_that_ssh_keygen_wrote_are_read() {
        let key = SigningKey::parse(&file(PLAIN)).ok().unwrap();
        assert_eq!(key.public(), PUBLIC.parse().unwrap());
        assert_eq!(public_line(key.public().as_bytes()), PUBLIC.rsplit_once(" a ").unwrap().0);
        assert_eq!(SigningKey::parse(&file(LOCKED)).err().unwrap().kind(), Kind::Unsupported);
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
            assert_eq!(wrong.parse::<PublicKey>().unwrap_err().kind(), Kind::Invalid, "{wrong}");
        }
    }
}
