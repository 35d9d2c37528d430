//! How a verb writes to a container that is not mounted.
//!
//! ```text
//!   hold        its lock; who signed it is trusted; what is to be told of it
//!   amend       the same, then what the verb does, then it is brought to its server, where it is on one, and the new state
//!               is remembered as seen
//! ```

use super::{daemon, say};
use crate::error::{Error, Kind, Result};
use crate::formats::Access;
use crate::open::{self, How};
use crate::remote;
use std::path::{Path, PathBuf};

/// A container by its full path; an address is one already.
pub(super) fn existing(file: &Path) -> Result<PathBuf> {
    match remote::is_address(file) {
        Some(_) => Ok(file.to_owned()),
        None => file.canonicalize().map_err(|e| Error::io(e, format!("cannot open {}", file.display()))),
    }
}

/// Refuses to write a container anew where it is, on a server.
pub(super) fn refuse_far(file: &Path, verb: &str) -> Result<()> {
    let Some(address) = remote::is_address(file) else { return Ok(()) };
    let what = format!("{}: {verb} writes it anew, which is not done on a server", remote::shown(address));
    Err(Error::new(Kind::Unsupported, what).hint("fetch it, do it here, and send it: stmount put --force"))
}

/// Takes a container to write to it. One that is mounted is named with its mount.
pub(super) fn hold(file: &Path, how: &How) -> Result<Access> {
    let access = daemon::locking(file, || open::access_to_write(file, how))?;
    say::notes(file, &open::admit(how, &access)?);
    Ok(access)
}

/// Takes a container, writes to it, and remembers what it is then.
pub(super) fn amend<T>(file: &Path, how: &How, act: impl FnOnce(Access) -> Result<T>) -> Result<T> {
    let access = hold(file, how)?;
    let store = access.store.clone();
    let done = act(access)?;
    if let Some(store) = store {
        store.publish()?;
    }
    open::remember(file, how, false)?;
    Ok(done)
}
