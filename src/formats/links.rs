//! Targets of symbolic links that stand in the contents of an entry.

use crate::error::{Error, Kind, Result};
use crate::source::ReadAt;

/// Targets are no longer than this; what is longer nobody could follow, and it is not read.
const LONGEST: u64 = 64 << 10;

/// The target that these contents are.
pub fn target_in(contents: &dyn ReadAt) -> Result<Vec<u8>> {
    let len = contents.len()?;
    if len == 0 || len > LONGEST {
        let kind = if len == 0 { Kind::Damaged } else { Kind::NameTooLong };
        return Err(Error::new(kind, format!("a link with a target of {len} bytes")));
    }
    let mut target = vec![0; len as usize];
    contents.read_exact_at(0, &mut target)?;
    Ok(target)
}
