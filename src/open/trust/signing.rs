//! The files with keys: secret ones, which are nobody else's business, and public ones.

use super::places;
use crate::error::{Error, Kind, Result, Within};
use crate::key::sign::{PublicKey, Signing, SigningKey};
use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// Bytes of a file with a key.
const LEN: u64 = 64 << 10;

/// Where the secret key of this user is, when nobody says another place.
pub fn default_key() -> Result<PathBuf> {
    Ok(places::config_dir().ok_or_else(places::homeless)?.join("signing.key"))
}

/// Writes the secret key of this user, as [`write_key`].
pub fn write_default_key(key: &SigningKey, date: &str) -> Result<PathBuf> {
    let path = default_key()?;
    places::make(path.parent().unwrap_or(Path::new("/")))?;
    write_key(&path, key, date).map(|()| path)
}

/// Reads a secret key: one that `stmount keygen` wrote, or one of ssh without a passphrase.
pub fn read_key(path: &Path) -> Result<SigningKey> {
    let (text, mode) = read(path)?;
    if mode & 0o077 != 0 {
        log::warn!("{}: others may read this secret key; chmod 600 keeps it from them", path.display());
    }
    SigningKey::parse(&text).within(|| path.display())
}

/// What signs with the key in a file; with an empty name, with that of this user.
pub fn signing(path: &Path) -> Result<Signing> {
    let own = path.as_os_str().is_empty();
    let key = if own { read_key(&default_key()?) } else { read_key(path) };
    let hint = |e: Error| match e.kind() {
        Kind::NotFound if own => e.hint("stmount keygen makes one"),
        _ => e,
    };
    key.map(Signing::by).map_err(hint)
}

/// Reads a public key; of a secret key, its public half.
pub fn read_public_key(path: &Path) -> Result<PublicKey> {
    let (text, _) = read(path)?;
    if let Ok(key) = SigningKey::parse(&text) {
        return Ok(key.public());
    }
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    match (lines.next(), lines.next()) {
        (Some(line), None) => line.parse().within(|| path.display()),
        _ => Err(Error::new(Kind::Invalid, format!("{}: there is not one public key in it", path.display()))),
    }
}

fn read(path: &Path) -> Result<(Zeroizing<String>, u32)> {
    let failed = |e| Error::io(e, format!("cannot read {}", path.display()));
    let mut file = File::open(path).map_err(failed)?.take(LEN + 1);
    let mode = file.get_ref().metadata().map_err(failed)?.mode();
    // Room for all of it from the beginning: bytes that grow leave copies behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(LEN as usize + 64));
    file.read_to_end(&mut bytes).map_err(failed)?;
    let wrong = || Error::new(Kind::Invalid, format!("{} is no file with a key", path.display()));
    let text = str::from_utf8(&bytes).ok().filter(|text| text.len() as u64 <= LEN).ok_or_else(wrong)?;
    Ok((Zeroizing::new(text.to_owned()), mode))
}

/// Writes a new secret key to a file of its own, that only this user can read. What is there is never written over.
///
/// # Errors
/// `Exists` when there is such a file.
pub fn write_key(path: &Path, key: &SigningKey, date: &str) -> Result<()> {
    let failed = |e: std::io::Error| match e.kind() {
        ErrorKind::AlreadyExists => Error::new(Kind::Exists, format!("{} exists already", path.display()))
            .hint("another name: what was signed with the key in it needs that key"),
        _ => Error::io(e, format!("cannot write {}", path.display())),
    };
    let mut file = File::options().write(true).create_new(true).mode(0o600).open(path).map_err(failed)?;
    let written = file.write_all(key.to_file(date).as_bytes()).and_then(|()| file.sync_all());
    written.inspect_err(|_| drop(fs::remove_file(path))).map_err(failed)?;
    let dir = path.parent().filter(|dir| *dir != Path::new("")).unwrap_or(Path::new("."));
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_key_is_written_once_for_this_user_alone() {
        let dir = tempfile::tempdir().unwrap();
        let (path, key) = (dir.path().join("a.key"), SigningKey::generate().unwrap());
        write_key(&path, &key, "2026-11-23 08:20:08").unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(write_key(&path, &SigningKey::generate().unwrap(), "").unwrap_err().kind(), Kind::Exists);
        assert_eq!(read_key(&path).ok().unwrap().public(), key.public());
        assert_eq!(read_public_key(&path).unwrap(), key.public());
        fs::write(&path, format!("# mine\n{}\n", key.public())).unwrap();
        assert_eq!(read_public_key(&path).unwrap(), key.public());
        for wrong in [&b""[..], b"\xff", b"one\ntwo\n", &vec![b' '; LEN as usize + 1]] {
            fs::write(&path, wrong).unwrap();
            assert!(read_key(&path).is_err() && read_public_key(&path).is_err());
        }
    }
}
