//! How a verb writes to a container that is not mounted.
//!
//! ```text
//!   hold        its lock; who signed it is trusted; what is to be told of it
//!   amend       the same, then what the verb does, then the new state is remembered as seen
//! ```

use super::{daemon, say};
use crate::error::Result;
use crate::formats::Access;
use crate::open::{self, How};
use std::path::Path;

/// Takes a container to write to it. One that is mounted is named with its mount.
pub(super) fn hold(file: &Path, how: &How) -> Result<Access> {
    let access = daemon::locking(file, || open::access_to_write(file, how))?;
    say::notes(file, &open::admit(file, how, &access)?);
    Ok(access)
}

/// Takes a container, writes to it, and remembers what it is then.
pub(super) fn amend<T>(file: &Path, how: &How, act: impl FnOnce(Access) -> Result<T>) -> Result<T> {
    let done = act(hold(file, how)?)?;
    open::remember(file, how, false)?;
    Ok(done)
}
