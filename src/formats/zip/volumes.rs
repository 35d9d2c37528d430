//! The files of an archive that the packer cut into several.
//!
//! ```text
//!   x.z01  x.z02  ..  x.zip       offsets count from the front of the file that they name; the list is in the last
//! ```

use super::end::{self, Found};
use super::layout::{DESCRIPTOR, LOCAL};
use crate::error::{Error, Kind, Result};
use crate::formats::{Access, Volumes};
use crate::source::{Joined, ReadAt};
use std::sync::Arc;

/// Volumes that a set may have: each is an open file.
const MOST: u32 = 10_000;

/// All bytes of an archive.
pub struct Set {
    pub bytes: Arc<dyn ReadAt>,
    /// Where each volume begins.
    pub starts: Vec<u64>,
    /// How many files it is.
    pub files: usize,
    pub found: Option<Found>,
    /// What is not as it should be.
    pub slip: Option<&'static str>,
}

/// Finds all files of an archive by any of them, and its end record.
///
/// # Errors
/// `MissingVolume` when one of them is not there.
pub fn gather(access: &Access) -> Result<Set> {
    let beside = access.volumes.as_deref();
    let last = match beside.map(last_of).transpose()?.flatten() {
        Some((name, bytes)) => Last { name: Some(name), bytes },
        None => Last { name: beside.map(|beside| beside.name().to_owned()), bytes: access.bytes.clone() },
    };
    let found = end::find(&*last.bytes, &[0])?;
    // Without an end, the last piece of it is not there.
    if let Some(parts) = access.parts.as_ref().filter(|_| found.as_ref().is_none_or(|found| found.place.is_none())) {
        return Err(parts.missing());
    }
    let disks = found.as_ref().map_or(0, |found| found.ending.disk);
    if disks == 0 || found.as_ref().is_some_and(|found| found.ending.needs_zip64()) {
        return Ok(Set { bytes: last.bytes, starts: vec![0], files: 1, found, slip: None });
    }
    last.with_the_others(beside, disks)
}

/// The file with the list.
struct Last {
    name: Option<String>,
    bytes: Arc<dyn ReadAt>,
}

impl Last {
    fn with_the_others(self, beside: Option<&dyn Volumes>, disks: u32) -> Result<Set> {
        let pieces = match (beside, &self.name) {
            _ if disks >= MOST => Err(missing("volumes are missing")),
            (Some(beside), Some(name)) => (1..=disks).map(|number| piece(beside, name, number)).collect(),
            _ => Err(missing("it is the last file of several")),
        };
        let mut pieces: Vec<Arc<dyn ReadAt>> = match pieces {
            Ok(pieces) => pieces,
            // All of them one behind the other in one file: only the first begins with this.
            Err(_) if begins_as_first(&*self.bytes) => {
                let slip = Some("its volumes were put together without changing what it says of them");
                return Ok(Set { bytes: self.bytes, starts: vec![0], files: 1, found: None, slip });
            }
            Err(e) => return Err(e),
        };
        pieces.push(self.bytes);
        joined(pieces)
    }
}

fn joined(pieces: Vec<Arc<dyn ReadAt>>) -> Result<Set> {
    let files = pieces.len();
    let joined = Joined::new(pieces)?;
    let starts = joined.starts().to_vec();
    let bytes: Arc<dyn ReadAt> = Arc::new(joined);
    let found = end::find(&*bytes, &starts)?;
    Ok(Set { bytes, starts, files, found, slip: None })
}

fn begins_as_first(bytes: &dyn ReadAt) -> bool {
    let mut front = [0; 8];
    bytes.read_exact_at(0, &mut front).is_ok() && front[..4] == DESCRIPTOR && front[4..] == LOCAL
}

fn missing(what: impl Into<String>) -> Error {
    Error::new(Kind::MissingVolume, what).hint("all files of the archive must be in one directory")
}

/// A volume before the last one: `x.z01` for `x.zip`, `x.zx01` for `x.zipx`.
fn piece(beside: &dyn Volumes, last: &str, number: u32) -> Result<Arc<dyn ReadAt>> {
    let (stem, ending) = last.rsplit_once('.').unwrap_or((last, "zip"));
    let z = if ending.eq_ignore_ascii_case("zipx") { "zx" } else { "z" };
    let name = format!("{stem}.{z}{number:02}");
    let shouted = format!("{stem}.{}{number:02}", z.to_uppercase());
    let is_shouted = ending.starts_with('Z');
    let (first, second) = if is_shouted { (shouted, name) } else { (name, shouted) };
    if let Some(found) = beside.open(&first)? {
        return Ok(found);
    }
    beside.open(&second)?.ok_or_else(|| missing(format!("the volume {first} is missing")))
}

/// The last file of a set of which another one was opened, by the name of that.
fn last_of(beside: &dyn Volumes) -> Result<Option<(String, Arc<dyn ReadAt>)>> {
    let Some((stem, last)) = piece_of(beside.name()) else { return Ok(None) };
    for last in [format!("{stem}.{last}"), format!("{stem}.{}", last.to_uppercase())] {
        if let Some(bytes) = beside.open(&last)? {
            return Ok(Some((last, bytes)));
        }
    }
    Err(missing(format!("the volume {stem}.{last} is missing, which has the list of entries")))
}

/// Whether a file is called as one of several.
pub fn is_numbered(name: &str) -> bool {
    piece_of(name).is_some()
}

/// Parts `x.z02` into `x` and the ending of the last file of its set.
fn piece_of(name: &str) -> Option<(&str, &'static str)> {
    let (stem, ending) = name.rsplit_once('.')?;
    let lower = ending.to_ascii_lowercase();
    let digits = lower.trim_start_matches(['z', 'x']);
    let is_piece = digits.len() >= 2 && digits.bytes().all(|b| b.is_ascii_digit());
    match lower.strip_suffix(digits) {
        Some("z") if is_piece => Some((stem, "zip")),
        Some("zx") if is_piece => Some((stem, "zipx")),
        _ => None,
    }
}
