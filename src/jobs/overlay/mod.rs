//! What is done with the directory of an overlay that nobody has mounted.
//!
//! ```text
//!   status   what is in it, and whether it fits        commit   into the base            export   as one file
//!   diff     path by path                              reset    back to the base         apply    that file, elsewhere
//! ```

mod commit;
mod patch;
mod status;

pub use commit::{Committed, commit};
pub use patch::{apply, to_export};
pub use status::{Status, status};

use crate::error::Result;
use crate::formats::overlay::{self, Change, Dir};
use crate::open::How;
use crate::open::overlay::{attach, base_of, drop_journal, hold_existing, settled};
use std::path::Path;

/// What an overlay changes.
pub fn diff(dir: &Path, base: Option<&Path>, how: &How) -> Result<Vec<Change>> {
    let (_place, state) = settled(dir, base, how)?;
    overlay::diff(&state)
}

/// What was thrown away.
pub struct Dropped {
    pub changes: Vec<Change>,
    /// Bytes of a journal whose changes were nowhere else.
    pub journal: u64,
}

/// Throws away all changes.
pub fn reset(dir: &Path) -> Result<Dropped> {
    let place = hold_existing(dir)?;
    let state = overlay::stored(&place.dir)?.unwrap_or_default();
    let changes = overlay::diff(&state)?;
    let journal = journal_len(&place.dir);
    // The journal first: alone it would belong to nothing.
    drop_journal(&place.dir)?;
    overlay::reset_all(&place.dir, &state, state.belongs.clone())?;
    Ok(Dropped { changes, journal })
}

/// Throws away what was changed at some paths and below them.
pub fn reset_paths(dir: &Path, paths: &[Vec<u8>], base: Option<&Path>, how: &How) -> Result<Dropped> {
    let (place, state) = settled(dir, base, how)?;
    let before = overlay::diff(&state)?;
    let over = attach(&base_of(base, &state), place, how)?;
    over.overlay.reset(paths)?;
    let after = overlay::diff(&over.overlay.state())?;
    Ok(Dropped { changes: before.into_iter().filter(|change| !after.contains(change)).collect(), journal: 0 })
}

fn journal_len(dir: &Dir) -> u64 {
    dir.of(overlay::JOURNAL).metadata().map_or(0, |meta| meta.len())
}
