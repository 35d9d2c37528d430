//! The states that an archive had: what is appended to one leaves the one before as it was, with its own end.
//!
//! ```text
//!   entries │ list │ end │ new entries │ list │ end │ new entries │ list │ end
//!                        └ begins where the state before has ended
//! ```
//!
//! So the state before ends where an entry of this one begins, or its list, if an end record stands right before that.

use super::layout::{END, End};
use super::{Opened, end, open_parts};
use crate::error::{Error, Kind, Result, Within};
use crate::formats::{Access, Generation, Reading, Unwatched, collect};
use crate::source::{Part, ReadAt};
use crate::tree::Filter;
use std::sync::Arc;

/// States that are looked for: one for each time that changes went into an archive.
const MOST: usize = 10_000;

/// One state of an archive.
pub(super) struct State {
    /// Bytes of the file at that time.
    pub(super) len: u64,
    pub(super) opened: Opened,
    told: Generation,
}

/// All of them, the newest first; numbered from the oldest.
pub(super) fn states(access: &Access) -> Result<Vec<State>> {
    let (mut all, mut len) = (Vec::new(), Some(access.bytes.len()?));
    while let Some(here) = len {
        // A state that can be read but not written ends it: what is before it was not made by us.
        let Some(state) = at(access, here)? else { break };
        len = before(&*access.bytes, &state.opened)?;
        all.push(state);
        if all.len() == MOST {
            break;
        }
    }
    let count = all.len() as u64;
    all.iter_mut().zip(0..).for_each(|(state, newer)| state.told.sequence = count - newer);
    Ok(all)
}

/// For `log`; with the time of the newest entry, since the archive keeps no other.
pub fn generations(access: &Access) -> Result<Vec<Generation>> {
    let all = states(access).within(|| &access.name)?;
    Ok(all.into_iter().map(|state| state.told).collect())
}

/// The archive as it was in a state that a person names.
pub fn access_to(access: Access, which: &str) -> Result<Access> {
    let len = find(&access, which)?.len;
    Ok(Access { bytes: Arc::new(Part::new(access.bytes.clone(), 0, len)), state: None, volumes: None, ..access })
}

/// # Errors
/// `NotFound` when there is no such state.
pub(super) fn find(access: &Access, which: &str) -> Result<State> {
    let unknown = || {
        Error::new(Kind::NotFound, format!("{}: there is no state {which:?}", access.name))
            .hint("stmount log, which lists those there are, by their numbers")
    };
    let sequence: u64 = which.parse().map_err(|_| unknown())?;
    states(access)?.into_iter().find(|state| state.told.sequence == sequence).ok_or_else(unknown)
}

/// The state of a length.
fn at(access: &Access, len: u64) -> Result<Option<State>> {
    let bytes = Arc::new(Part::new(access.bytes.clone(), 0, len));
    // Names are not encrypted: no password is needed to see them.
    let reading = Arc::new(Reading { asks_late: true, ..(*access.reading).clone() });
    let (volume, opened) = open_parts(Access { bytes, reading, volumes: None, ..access.clone() }, "zip")?;
    let Some(opened) = opened else { return Ok(None) };
    let totals = volume.tree.totals()?;
    let all = collect(&*volume.tree, &Filter::default(), &Unwatched)?;
    let time = all.iter().skip(1).map(|found| found.attr.mtime).max().unwrap_or_default();
    let told = Generation { sequence: 0, time, nodes: totals.nodes, bytes: totals.bytes, names: Vec::new() };
    Ok(Some(State { len, opened, told }))
}

/// Where the state before has ended, if there is one.
fn before(bytes: &dyn ReadAt, now: &Opened) -> Result<Option<u64>> {
    let mut starts: Vec<u64> = now.archive.members.iter().map(|member| member.header_at).collect();
    starts.push(now.list.start);
    starts.sort_unstable_by(|a, b| b.cmp(a));
    starts.dedup();
    // The comment of the archive goes from state to state.
    let behind = (size_of::<End>() + now.comment.len()) as u64;
    for start in starts {
        let mut signature = [0; 4];
        let Some(end_at) = start.checked_sub(behind) else { break };
        bytes.read_exact_at(end_at, &mut signature)?;
        if signature == END && is_end(bytes, start, now)? {
            return Ok(Some(start));
        }
    }
    Ok(None)
}

/// Whether an archive ends there that is this one, and none that is stored in it.
fn is_end(bytes: &dyn ReadAt, at: u64, now: &Opened) -> Result<bool> {
    let front = Front(bytes, at);
    let found = end::find(&front, &[0])?.filter(|found| found.ending.behind == 0);
    Ok(found.and_then(|found| found.place).is_some_and(|place| place.base == now.base))
}

/// The first bytes of something.
struct Front<'a>(&'a dyn ReadAt, u64);

impl ReadAt for Front<'_> {
    fn len(&self) -> Result<u64> {
        Ok(self.1)
    }

    fn read_at(&self, at: u64, into: &mut [u8]) -> Result<usize> {
        let want = usize::try_from(self.1.saturating_sub(at)).unwrap_or(usize::MAX).min(into.len());
        self.0.read_at(at, &mut into[..want])
    }
}
