//! Where a person keeps what is trusted and what was seen, and how such a small file is written.
//!
//! ```text
//!   settings   $STMOUNT_CONFIG_DIR   $XDG_CONFIG_HOME/stmount   ~/.config/stmount        root without a home: /etc/stmount
//!   state      $STMOUNT_STATE_DIR    $XDG_STATE_HOME/stmount    ~/.local/state/stmount        /var/lib/stmount
//! ```

use crate::error::{Error, Kind, Result};
use std::fs::{self, DirBuilder, File};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};

/// The directory for settings.
pub fn config_dir() -> Option<PathBuf> {
    place("STMOUNT_CONFIG_DIR", "XDG_CONFIG_HOME", ".config", "/etc/stmount")
}

/// The directory for what is remembered.
pub fn state_dir() -> Option<PathBuf> {
    place("STMOUNT_STATE_DIR", "XDG_STATE_HOME", ".local/state", "/var/lib/stmount")
}

/// With its full path: a daemon works in another directory.
fn place(own: &str, xdg: &str, in_home: &str, of_root: &str) -> Option<PathBuf> {
    let var = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let dir = var(own)
        .or_else(|| var(xdg).filter(|dir| dir.is_absolute()).map(|dir| dir.join("stmount")))
        .or_else(|| var("HOME").map(|home| home.join(in_home).join("stmount")))
        .or_else(|| rustix::process::geteuid().is_root().then(|| PathBuf::from(of_root)))?;
    std::path::absolute(dir).ok()
}

/// The error of somebody who has no such directory.
pub fn homeless() -> Error {
    Error::new(Kind::Usage, "there is no directory for the settings of this user").hint("set STMOUNT_CONFIG_DIR")
}

/// Reads a small file; nothing when it is not there.
///
/// # Errors
/// `Invalid` when it is longer than so many bytes, or when others than this user may have written it.
pub fn read(path: &Path, most: u64) -> Result<Option<Vec<u8>>> {
    let failed = |e| Error::io(e, format!("cannot read {}", path.display()));
    let file = match File::open(path) {
        Ok(file) => file,
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(None),
        Err(e) => return Err(failed(e)),
    };
    let meta = file.metadata().map_err(failed)?;
    let (me, wrong) = (rustix::process::geteuid().as_raw(), |what: &str| Error::new(Kind::Invalid, what));
    let is_ours = me == 0 || [me, 0].contains(&meta.uid());
    if !is_ours || meta.mode() & 0o022 != 0 {
        return Err(wrong(&format!("{}: others than you may have written it", path.display()))
            .hint("look whether it is what you wrote; then chmod go-w"));
    }
    let mut bytes = Vec::with_capacity(meta.len().min(most) as usize);
    file.take(most + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > most {
        return Err(wrong(&format!("{} is too long", path.display())));
    }
    Ok(Some(bytes))
}

/// Makes a directory that is nobody else's business.
pub fn make(dir: &Path) -> Result<()> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(dir);
    made.map_err(|e| Error::io(e, format!("cannot make {}", dir.display())))
}

/// Keeps all others who do the same waiting until the file is dropped. Where the file system has no locks, each does as if
/// it were alone.
pub fn lock(path: &Path) -> Result<File> {
    let open = File::options().append(true).create(true).mode(0o600).open(path);
    let file = open.map_err(|e| Error::io(e, format!("cannot lock {}", path.display())))?;
    if let Err(e) = file.lock() {
        log::debug!("{}: {e}", path.display());
    }
    Ok(file)
}

/// Puts bytes in the place of a file, all of them or none, for good. Who writes has the lock.
pub fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let failed = |e| Error::io(e, format!("cannot write {}", path.display()));
    // A link to a file elsewhere stays one.
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let dir = path.parent().unwrap_or(Path::new("/"));
    let mut draft = path.clone().into_os_string();
    draft.push(".new");
    let draft = PathBuf::from(draft);
    let written = drafted(&draft, dir, bytes).and_then(|()| fs::rename(&draft, &path));
    written.inspect_err(|_| drop(fs::remove_file(&draft))).map_err(failed)?;
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(failed)
}

fn drafted(draft: &Path, dir: &Path, bytes: &[u8]) -> std::io::Result<()> {
    // What a crash has left.
    let _ = fs::remove_file(draft);
    let mut file = File::options().write(true).create_new(true).mode(0o600).open(draft)?;
    let owner = fs::metadata(dir)?;
    if rustix::process::geteuid().is_root() && owner.uid() != 0 {
        // Root, in the home of somebody who wants to read it later.
        fchown(&file, Some(owner.uid()), Some(owner.gid()))?;
    }
    file.write_all(bytes)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_file_is_replaced_as_a_whole_and_belongs_to_nobody_else() {
        let dir = tempfile::tempdir().unwrap();
        let (path, link) = (dir.path().join("a"), dir.path().join("link"));
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert_eq!(read(&path, 10).unwrap(), None);
        fs::write(dir.path().join("a.new"), b"left by a crash").unwrap();
        for text in [&b"one"[..], b"two"] {
            write(&path, text).unwrap();
            assert_eq!(read(&path, 3).unwrap().unwrap(), text);
        }
        write(&link, b"three").unwrap();
        assert_eq!((read(&path, 5).unwrap().unwrap().as_slice(), link.is_symlink()), (&b"three"[..], true));
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
    }

    #[test]
    fn what_others_may_write_or_is_too_long_is_not_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        write(&path, b"1234").unwrap();
        assert_eq!(read(&path, 3).unwrap_err().kind(), Kind::Invalid);
        for mode in [0o620, 0o602] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(read(&path, 10).unwrap_err().kind(), Kind::Invalid, "{mode:o}");
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(read(&path, 10).unwrap().is_some());
    }
}
