//! What is in the directory of an overlay. Also of one that is mounted: nothing is held, and nothing is changed.

use crate::error::{Error, Kind, Result};
use crate::formats::overlay::{self, Dir, Spot, What};
use crate::open::overlay::{base_of, belongs, has_journal, hold_existing};
use crate::open::{How, open_as};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What there is to tell.
pub struct Status {
    pub base: PathBuf,
    /// Whether the base is the one that it belongs to; or why nobody can tell.
    pub fits: Result<bool>,
    /// Who has it.
    pub held: Option<String>,
    pub counts: BTreeMap<What, u64>,
    /// Bytes of contents in clear.
    pub bytes: u64,
    /// Bytes of a journal with changes that are nowhere else.
    pub journal: u64,
    /// Contents that are not there, that somebody has changed, that belong to nothing.
    pub missing: Vec<Vec<u8>>,
    pub altered: Vec<Vec<u8>>,
    pub unknown: Vec<Vec<u8>>,
    pub is_committing: bool,
}

/// Looks at an overlay.
pub fn status(dir: &Path, base: Option<&Path>, how: &How) -> Result<Status> {
    let held = match hold_existing(dir) {
        Err(e) if e.kind() == Kind::Locked => Some(e.to_string()),
        held => held.map(|_| None)?,
    };
    let place = Dir::new(dir.to_owned());
    let gone = || Error::new(Kind::NotFound, format!("{} is no overlay", dir.display()));
    let state = overlay::stored(&place)?.ok_or_else(gone)?;
    let mut counts = BTreeMap::new();
    for change in overlay::diff(&state)? {
        *counts.entry(change.what).or_insert(0) += 1;
    }
    let base = base_of(base, &state);
    let journal = if has_journal(&place) { super::journal_len(&place) } else { 0 };
    // Without changes it fits whatever it is opened with.
    let fits_all = counts.is_empty() && journal == 0 && state.is_empty()?;
    let fits = open_as(&base, how).and_then(|volume| belongs(&base, &*volume.tree, how));
    let fits = fits.map(|now| fits_all || now.print == state.belongs.print);
    let (missing, altered, unknown) = (Vec::new(), Vec::new(), Vec::new());
    let is_committing = state.is_committing;
    let mut status = Status { base, fits, held, counts, bytes: 0, journal, missing, altered, unknown, is_committing };
    let mut there: BTreeMap<Vec<u8>, u64> = place.clear_below(Vec::new())?.into_iter().collect();
    for (_, spot) in &state.spots {
        let Spot::Clear { path, size, mtime } = spot else { continue };
        status.bytes += there.remove(path).unwrap_or(0);
        match place.seen(path) {
            None => status.missing.push(path.clone()),
            Some(seen) if seen != (*size, *mtime) => status.altered.push(path.clone()),
            Some(_) => {}
        }
    }
    status.unknown = there.into_keys().collect();
    Ok(status)
}
