//! A container in volumes: how long they are, what of them may be lost, and what was lost made anew.
//!
//! ```text
//!   x.st.001  x.st.002  ·········  x.st.004      the header tells the length of each, or those that are left do
//!                  groups of parity ──► makes up for the hole?  ──► x.st.003, bit for bit
//! ```

use super::commit::{Found, read_front};
use super::layout::{COMPAT_PARITY, RECORD_HEADER_LEN, RecordType, record_len};
use super::parity::{self, Repaired, Rescue};
use super::records;
use crate::codec::damaged;
use crate::error::{Result, Within};
use crate::formats::{Access, Watch};
use crate::source::ReadAt;
use crate::source::parity::{Algorithm, Group, Placed, Plan, makes_up};
use std::ops::Range;
use std::sync::Arc;

/// The length of all volumes but the last, of those that are there; the last one is among them. `None` when nothing tells.
pub fn volume_size(volumes: &[Option<Arc<dyn ReadAt>>]) -> Result<Option<u64>> {
    let Some((Some(last), before)) = volumes.split_last() else { return Ok(None) };
    let first = volumes[0].as_ref();
    let told = first.and_then(|first| read_front(&**first).ok().flatten()).map(|header| header.volume_size.get());
    let told = told.filter(|size| *size > 0);
    let lens = before.iter().flatten().map(|volume| volume.len()).collect::<Result<Vec<_>>>()?;
    let longest = lens.iter().copied().max().filter(|len| *len > 0);
    // Volumes may be damaged; and the file may have been cut anew since the header was written.
    let is_certain = lens.iter().filter(|len| Some(**len) == longest).count() > 1;
    if let Some(size) = longest.filter(|_| is_certain).or(told).or(longest) {
        return Ok(Some(size));
    }
    let len = last.len()?;
    let all = records::read_footer(&**last, len)?.map_or(len, |footer| footer.logical_end.get());
    let (rest, count) = (all.saturating_sub(len), before.len() as u64);
    Ok((rest > 0 && rest.is_multiple_of(count)).then(|| rest / count))
}

/// Whether a container ends where these bytes end.
pub fn ends_here(source: &dyn ReadAt) -> bool {
    let footer = source.len().and_then(|len| Ok((records::read_footer(source, len)?, len)));
    matches!(footer, Ok((Some(footer), len)) if footer.logical_end.get() == len)
}

/// Refuses a container of which volumes are missing that its parity does not make up for.
pub(super) fn check_holes(access: &Access, found: &Found) -> Result<()> {
    let Some(parts) = access.parts.as_ref().filter(|parts| !parts.holes.is_empty()) else { return Ok(()) };
    let mender = found.medium.healing.mender(found.medium.source(), &found.commit.head.uid);
    let groups = mender.map_or_else(Vec::new, |mender| placed(mender.groups()));
    if !makes_up(&groups, found.end, &parts.holes) {
        return Err(parts.missing());
    }
    log::warn!("{}: {}; what is not there is computed from parity", access.name, parts.words());
    Ok(())
}

fn placed(groups: &[Group]) -> Vec<Placed> {
    let mut placed: Vec<Placed> = groups.iter().map(|group| (*group.plan(), group.body_at())).collect();
    placed.sort_by_key(|(_, body_at)| *body_at);
    placed
}

/// What of a container in volumes may be lost.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Endurance {
    pub volumes: u64,
    /// Whether any one of them can be made anew.
    pub any_one: bool,
    /// How much parity there must be for that; `None` when no amount is enough.
    pub share: Option<f64>,
}

/// What of a whole container may be lost, if it is cut in volumes of this length. `None` when it is no container.
pub fn endurance(source: &Arc<dyn ReadAt>, size: u64) -> Result<Option<Endurance>> {
    let Some(header) = read_front(&**source)?.filter(|_| ends_here(&**source)) else { return Ok(None) };
    let far = header.compat.get() & COMPAT_PARITY != 0;
    let (len, rescue) = (source.len()?, parity::rescue(source, Some(header.uid), far)?);
    let groups = rescue.as_ref().map_or_else(Vec::new, |rescue| placed(rescue.mender.groups()));
    let end = rescue.as_ref().and_then(Rescue::record_end);
    let any_one = end == Some(len) && any_one(&groups, len, size);
    let data = rescue.as_ref().map_or(len, |rescue| rescue.end);
    let share = (1..=100u32).map(|percent| f64::from(percent) / 100.0).find(|share| is_enough(data, *share, size));
    Ok(Some(Endurance { volumes: len.div_ceil(size), any_one, share }))
}

fn any_one(groups: &[Placed], end: u64, size: u64) -> bool {
    (0..end.div_ceil(size)).all(|n| makes_up(groups, end, std::slice::from_ref(&(n * size..end.min((n + 1) * size)))))
}

/// Whether one group over so many bytes would do.
fn is_enough(data: u64, share: f64, size: u64) -> bool {
    let Ok(plan) = Plan::of(0..data, share, Algorithm::Wide) else { return false };
    let end = record_len(RecordType::Parity as u8, plan.body_len()).map(|len| data + len);
    end.is_some_and(|end| any_one(&[(plan, data + RECORD_HEADER_LEN)], end, size))
}

/// What was made of a container of which volumes may be missing.
#[derive(Clone, Debug)]
pub struct Rebuilt {
    pub repaired: Repaired,
    /// The length of the container.
    pub len: u64,
}

/// Writes everything that is damaged or missing as it was: no key is needed. `None` where there is no parity; and where
/// anything is missing for good, nothing is written.
///
/// # Errors
/// Those of reading and writing.
pub fn rebuild(access: &Access, holes: &[Range<u64>], watch: &dyn Watch) -> Result<Option<Result<Rebuilt, Lost>>> {
    let (source, go_on) = (access.bytes.clone(), |_| !watch.is_cancelled());
    let Some(store) = access.store.clone() else { return Ok(None) };
    let uid = read_front(&*source).ok().flatten().map(|header| header.uid);
    let Some(rescue) = parity::rescue(&source, uid, true).within(|| &access.name)? else { return Ok(None) };
    let (len, end) = (source.len()?, rescue.record_end().ok_or_else(|| damaged("too much parity"))?);
    let holes: Vec<Range<u64>> = holes.iter().cloned().chain((len < end).then_some(len..end)).collect();
    if !holes.is_empty() && !makes_up(&placed(rescue.mender.groups()), end, &holes) {
        return Ok(Some(Err(Lost)));
    }
    let found = rescue.mender.survey_all(&go_on)?;
    if !holes.is_empty() && !found.report.lost.is_empty() {
        return Ok(Some(Err(Lost)));
    }
    let repaired = rescue.repair_by(found, &*store, &go_on).within(|| &access.name)?;
    Ok(Some(Ok(Rebuilt { repaired, len: end })))
}

/// More is missing than parity makes up for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lost;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Memory;

    fn volumes(lens: &[Option<usize>]) -> Vec<Option<Arc<dyn ReadAt>>> {
        let memory = |len: usize| Arc::new(Memory::new(vec![1; len])) as Arc<dyn ReadAt>;
        lens.iter().map(|len| len.map(memory)).collect()
    }

    #[test]
    fn the_length_of_the_volumes_is_that_of_most() {
        let size = |lens: &[Option<usize>]| volume_size(&volumes(lens)).unwrap();
        assert_eq!(size(&[Some(500), Some(500), Some(20)]), Some(500));
        assert_eq!(size(&[None, Some(500), Some(20)]), Some(500));
        assert_eq!(size(&[Some(30), None, Some(500), Some(20)]), Some(500));
        assert_eq!(size(&[None, Some(200)]), None);
        assert_eq!(size(&[Some(500), None]), None, "the last is missing");
    }
}
