//! Keyfiles: any file whose contents others do not know.

use crate::error::{Error, Kind, Result};
use std::io::Read;
use zeroize::{Zeroize, Zeroizing};

/// What a keyfile says: `BLAKE3 derive_key("stmount st v1 keyfile", contents)`. The contents themselves are not kept.
#[derive(Clone)]
pub struct Keyfile(Zeroizing<[u8; 32]>);

const CONTEXT: &str = "stmount st v1 keyfile";

/// Bytes below which a file can be guessed, and is rather a passphrase.
const LEAST: u64 = 16;
const MOST: u64 = 64 << 20;

impl Keyfile {
    /// # Errors
    /// `Usage` for contents that can be guessed.
    pub fn new(contents: &[u8]) -> Result<Self> {
        Self::read(contents)
    }

    /// Reads all there is, up to 64 MiB.
    ///
    /// # Errors
    /// `Usage` for contents that can be guessed: fewer than 16 bytes, or one byte again and again; `TooLarge` for more than
    /// 64 MiB; what reading says.
    pub fn read(mut from: impl Read) -> Result<Self> {
        let mut hasher = blake3::Hasher::new_derive_key(CONTEXT);
        let mut buffer = Zeroizing::new(vec![0; 64 << 10]);
        let (mut len, mut first, mut alike) = (0, None, true);
        loop {
            let got = match from.read(&mut buffer) {
                Ok(got) => &buffer[..got],
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(Error::io(e, "cannot read the keyfile")),
            };
            let Some(byte) = got.first() else { break };
            alike &= got.iter().all(|b| b == first.get_or_insert(*byte));
            len += got.len() as u64;
            if len > MOST {
                return Err(Error::new(Kind::TooLarge, format!("a keyfile has at most {} MiB", MOST >> 20)));
            }
            hasher.update(got);
        }
        Self::judged(len, alike)?;
        let mut digest = Zeroizing::new([0; 32]);
        hasher.finalize_xof().fill(&mut *digest);
        hasher.zeroize();
        Ok(Self(digest))
    }

    fn judged(len: u64, alike: bool) -> Result<()> {
        let guessed = if len < LEAST {
            format!("a keyfile of {len} bytes can be guessed")
        } else if alike {
            "a keyfile in which all bytes are the same can be guessed".to_owned()
        } else {
            return Ok(());
        };
        Err(Error::new(Kind::Usage, guessed).hint("head -c 64 /dev/urandom > FILE makes a good one"))
    }

    /// The keyfile that another process has read.
    pub fn of_digest(digest: Zeroizing<[u8; 32]>) -> Self {
        Self(digest)
    }

    /// What it says, for who makes a key of it, or tells another process.
    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::super::derive;
    use super::*;

    #[test]
    fn a_keyfile_is_what_is_in_it() {
        let bytes: Vec<u8> = (0..200_000u32).map(|n| (n ^ (n >> 7)) as u8).collect();
        let keyfile = Keyfile::new(&bytes).unwrap();
        assert_eq!(*keyfile.expose(), *derive(CONTEXT, &[&bytes]));
        assert_eq!(Keyfile::of_digest(Zeroizing::new(*keyfile.expose())).expose(), keyfile.expose());
    }

    #[test]
    fn what_can_be_guessed_or_has_no_end_is_refused() {
        let kind = |from: &mut dyn Read| Keyfile::read(from).err().unwrap().kind();
        assert_eq!(kind(&mut &b""[..]), Kind::Usage);
        assert_eq!(kind(&mut &b"fifteen bytes.."[..]), Kind::Usage);
        assert_eq!(kind(&mut std::io::repeat(0).take(100_000)), Kind::Usage);
        assert_eq!(kind(&mut std::io::repeat(0)), Kind::TooLarge);
        assert!(Keyfile::new(b"sixteen bytes...").is_ok());
    }
}
