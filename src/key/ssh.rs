//! Keys of OpenSSH, as far as they are of Ed25519.
//!
//! ```text
//!   public    base64( string "ssh-ed25519" ‖ string key 32 )
//!   private   -----BEGIN OPENSSH PRIVATE KEY-----
//!             base64( "openssh-key-v1\0" ‖ string cipher ‖ string kdf ‖ string its options ‖ u32 1 ‖ string public
//!                     ‖ string( u32 n ‖ u32 n ‖ string "ssh-ed25519" ‖ string key 32 ‖ string seed 32 key 32
//!                               ‖ string comment ‖ 1 2 3 … ) )
//!   string    u32 length, big-endian, bytes                    PROTOCOL.key of OpenSSH
//! ```

use crate::error::{Error, Kind, Result};
use base64ct::{Base64, Encoding};
use zeroize::Zeroizing;

const NAME: &[u8] = b"ssh-ed25519";
const BEGIN: &str = "-----BEGIN OPENSSH PRIVATE KEY-----";
const END: &str = "-----END OPENSSH PRIVATE KEY-----";

/// The key of the second word of a public key.
pub(super) fn public_key(base64: &str) -> Option<[u8; 32]> {
    let mut buffer = [0; 64];
    let mut rest = Cut(Base64::decode(base64, &mut buffer).ok()?);
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
    format!("ssh-ed25519 {base64}")
}

pub(super) fn is_private(text: &str) -> bool {
    text.trim_start().starts_with(BEGIN)
}

/// The seed and the public key of a file with a private key.
///
/// # Errors
/// `Unsupported` when it has a passphrase or is of another kind, `Usage` when it is damaged.
pub(super) fn private_key(text: &str) -> Result<(Zeroizing<[u8; 32]>, [u8; 32])> {
    let bytes = armoured(text).ok_or_else(damaged)?;
    let inner = plain_part(&bytes)?;
    key_pair(inner).ok_or_else(damaged)
}

fn armoured(text: &str) -> Option<Zeroizing<Vec<u8>>> {
    let (body, _) = text.trim_start().strip_prefix(BEGIN)?.split_once(END)?;
    let digits: Zeroizing<Vec<u8>> = Zeroizing::new(body.bytes().filter(|b| !b.is_ascii_whitespace()).collect());
    let mut bytes = Zeroizing::new(vec![0; digits.len()]);
    let len = Base64::decode(&*digits, &mut bytes).ok()?.len();
    bytes.truncate(len);
    Some(bytes)
}

/// What lies behind the public part, when it is not encrypted, and the key is of the kind that can be used.
fn plain_part(bytes: &[u8]) -> Result<&[u8]> {
    let mut rest = Cut(bytes.strip_prefix(b"openssh-key-v1\0").ok_or_else(damaged)?);
    let mut string = || rest.string().ok_or_else(damaged);
    let (cipher, _kdf, _options) = (string()?, string()?, string()?);
    let one = rest.u32() == Some(1);
    let public = rest.string().filter(|_| one).ok_or_else(damaged)?;
    if Cut(public).string() != Some(NAME) {
        return Err(Error::new(Kind::Unsupported, "of ssh only keys ssh-ed25519 can be used"));
    }
    if cipher != b"none" {
        return Err(Error::new(Kind::Unsupported, "the ssh key has a passphrase, which cannot be asked for here")
            .hint("cp KEY COPY; ssh-keygen -p -f COPY takes the passphrase from a copy, on a disk that forgets"));
    }
    rest.string().ok_or_else(damaged)
}

fn key_pair(inner: &[u8]) -> Option<(Zeroizing<[u8; 32]>, [u8; 32])> {
    let mut rest = Cut(inner);
    let alike = rest.u32()? == rest.u32()?;
    let named = rest.string()? == NAME;
    let public: [u8; 32] = rest.string()?.try_into().ok()?;
    let (seed, again) = rest.string()?.split_first_chunk::<32>()?;
    rest.string()?;
    let padded = rest.0.iter().zip(1..).all(|(byte, n): (&u8, u8)| *byte == n);
    (alike && named && padded && again == public).then(|| (Zeroizing::new(*seed), public))
}

fn damaged() -> Error {
    Error::new(Kind::Usage, "the ssh key is damaged")
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
