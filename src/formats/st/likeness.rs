//! What two containers have in common: how one that was fetched earlier stands to what it has become since.
//!
//! ```text
//!   here    │ header │ records … COMMIT│
//!   there   │ header │ records … COMMIT│ records … COMMIT│      grown: the same commit at the same place, and the newest one
//!                                  ◄───last commit───┘          leads back to it. Nothing before it is ever written again
//!
//!   here    │ SEG a │ SEG b │ SEG c │ COMMIT│
//!   there   │ SEG b'│ SEG d │ SEG c'│ COMMIT│                   written anew: segments are found by their hash; one at another
//!                                                               address of the tape is the same but for its front
//! ```
//!
//! The first needs no key: headers of records are in clear, with the hash of what they hold. For the second the tables of what is
//! there are read, which tell the hashes of its segments.

use super::commit::read_front;
use super::generations::{self, History};
use super::layout::{
    ALIGN, Base, HEADER_LEN, RECORD_HEADER_LEN, RECORD_MAGIC, RecordHeader, RecordType, SegmentHead, record_len,
};
use super::records;
use super::rows::{Rows, SegmentRow};
use super::tree::Container;
use super::{limits, medium::Medium};
use crate::codec::id::Id;
use crate::error::{Error, Kind, Result, Within};
use crate::formats::{Access, Watch};
use crate::source::ReadAt;
use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use zerocopy::{FromBytes, IntoBytes};

/// Commits that are followed back, each of which may be a round trip.
const STEPS: usize = 256;

/// Bytes at the end that are compared, whatever they are.
const END: u64 = 64 << 10;

/// Bytes that are looked through at once where there is no record.
const WINDOW: u64 = 1 << 20;

/// States of a container of which segments are looked for.
const STATES: usize = 16;

/// Segments here of one length that are tried for one there.
const TRIES: usize = 32;

/// How a container here stands to one there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Likeness {
    /// Behind the header, all that is here is there as well, at the same place.
    Grown,
    /// Here are commits that are not there.
    Newer,
    /// The same container, and nobody can tell more without looking into it.
    Rewritten,
    /// Another one, or none.
    Other,
}

/// The newest commit of a container that ends with it.
struct Last {
    uid: [u8; 16],
    commit: RecordHeader,
}

/// Compares the ends of two containers.
pub fn likeness(here: &dyn ReadAt, there: &dyn ReadAt) -> Result<Likeness> {
    let (Some(ours), Some(theirs)) = (last(here)?, last(there)?) else { return Ok(Likeness::Other) };
    if ours.uid != theirs.uid {
        return Ok(Likeness::Other);
    }
    if is_before(&ours, here, &theirs, there)? {
        return Ok(Likeness::Grown);
    }
    let newer = ours.commit.seq.get() > theirs.commit.seq.get() || is_before(&theirs, there, &ours, here)?;
    Ok(if newer { Likeness::Newer } else { Likeness::Rewritten })
}

/// Whether a file begins with the header of a container.
pub fn is_container(source: &dyn ReadAt) -> bool {
    read_front(source).is_ok_and(|header| header.is_some())
}

fn last(source: &dyn ReadAt) -> Result<Option<Last>> {
    let Some(front) = read_front(source)? else { return Ok(None) };
    let Some(footer) = records::read_footer(source, source.len()?)? else { return Ok(None) };
    let Some(record) = header(source, footer.record.get(), &front.uid)? else { return Ok(None) };
    let commit = if record.is_commit() { Some(record) } else { header(source, record.last_commit.get(), &front.uid)? };
    Ok(commit.filter(RecordHeader::is_commit).map(|commit| Last { uid: front.uid, commit }))
}

/// The header of a record, when a sound one of this container is there.
fn header(source: &dyn ReadAt, at: u64, uid: &[u8; 16]) -> Result<Option<RecordHeader>> {
    if at < HEADER_LEN || at.saturating_add(RECORD_HEADER_LEN) > source.len()? {
        return Ok(None);
    }
    match records::read_header(source, at) {
        Ok(header) => Ok(Some(header).filter(|header| header.check == header.expected_check(uid))),
        Err(e) if e.kind() == Kind::Damaged => Ok(None),
        Err(e) => Err(e),
    }
}

/// Whether one container is what another one was at an earlier time.
fn is_before(early: &Last, earlier: &dyn ReadAt, late: &Last, later: &dyn ReadAt) -> Result<bool> {
    let (at, end) = (early.commit.offset.get(), earlier.len()?);
    if later.len()? < end || !leads_back(later, late, at)? {
        return Ok(false);
    }
    let Some(len) = record_len(early.commit.kind, early.commit.payload_len.get()).filter(|_| is_small(&early.commit))
    else {
        return Ok(false);
    };
    Ok(same(earlier, later, at..at.saturating_add(len).min(end))?
        && same(earlier, later, end.saturating_sub(END).max(at)..end)?)
}

fn is_small(commit: &RecordHeader) -> bool {
    commit.payload_len.get() <= limits::COMMIT
}

/// Whether the newest commit leads back to the one at an offset.
fn leads_back(source: &dyn ReadAt, last: &Last, to: u64) -> Result<bool> {
    let mut commit = last.commit;
    for _ in 0..STEPS {
        let (at, before) = (commit.offset.get(), commit.last_commit.get());
        if at == to {
            return Ok(true);
        }
        if before < to || before >= at {
            return Ok(false);
        }
        match header(source, before, &last.uid)? {
            Some(earlier) if earlier.is_commit() => commit = earlier,
            _ => return Ok(false),
        }
    }
    Ok(false)
}

fn same(a: &dyn ReadAt, b: &dyn ReadAt, range: Range<u64>) -> Result<bool> {
    let (mut here, mut there) =
        (vec![0; (range.end - range.start) as usize], vec![0; (range.end - range.start) as usize]);
    a.read_exact_at(range.start, &mut here)?;
    b.read_exact_at(range.start, &mut there)?;
    Ok(here == there)
}

/// Whether the newest state of a container here is none that another one has had, as far as that one still tells.
///
/// # Errors
/// Those of opening them; what is sealed needs its key.
pub fn has_own_state(here: &Access, there: &Access) -> Result<bool> {
    let ours = History::open(here).within(|| &here.name)?.0;
    let (seq, time) = (ours.newest().head.seq.get(), generations::time_of(ours.newest()));
    let states = generations::generations(there)?;
    let newest = states.iter().map(|state| state.sequence).max().unwrap_or(0);
    Ok(match states.iter().find(|state| state.sequence == seq) {
        Some(state) => state.time != time,
        // It was not kept there, or never was there.
        None => seq > newest || states.iter().all(|state| state.time < time),
    })
}

/// Whether the newest state of a container is as its tables tell.
///
/// # Errors
/// What cannot be read; `Interrupted`; those of keys where it is sealed.
pub fn is_whole(access: &Access, watch: &dyn Watch) -> Result<bool> {
    let (history, newest) = match History::open(access) {
        Err(e) if matches!(e.kind(), Kind::Damaged | Kind::Header) => return Ok(false),
        opened => opened.within(|| &access.name)?,
    };
    let mut rows = BTreeMap::new();
    own_segments(&newest, &mut rows)?;
    for row in rows.values() {
        cancelled(watch)?;
        let (payload, len) = (row.record.saturating_add(RECORD_HEADER_LEN), history.medium().len()?);
        let end = payload.saturating_add(row.payload_len);
        if end > len || records::hash(&**history.medium(), payload, end)? != row.hash {
            return Ok(false);
        }
    }
    Ok(true)
}

fn cancelled(watch: &dyn Watch) -> Result<()> {
    match watch.is_cancelled() {
        true => Err(Error::new(Kind::Interrupted, "interrupted")),
        false => Ok(()),
    }
}

/// Whether every record that a container has holds what its header tells; no key is needed for that.
///
/// # Errors
/// What cannot be read; `Interrupted`.
pub fn sound(source: &dyn ReadAt, watch: &dyn Watch) -> Result<bool> {
    let mut all = true;
    walk(source, watch, &mut |header, _, is_whole| {
        // Parity tells of its own damage, and makes good that of others.
        all &= is_whole || header.kind == RecordType::Parity as u8;
    })?;
    Ok(all)
}

/// Walks over the records of a container. What is between them that is none is stepped over; a record whose payload has not
/// the hash that its header tells is told by its range.
///
/// # Errors
/// What cannot be read; `Interrupted`.
fn walk(source: &dyn ReadAt, watch: &dyn Watch, found: &mut dyn FnMut(&RecordHeader, Range<u64>, bool)) -> Result<()> {
    let Some(front) = read_front(source)? else { return Ok(()) };
    let (len, mut at) = (source.len()?, HEADER_LEN);
    while at.saturating_add(RECORD_HEADER_LEN) <= len {
        cancelled(watch)?;
        let sound = header(source, at, &front.uid)?;
        let end = sound.and_then(|header| record_len(header.kind, header.payload_len.get()));
        let end = end.and_then(|record| at.checked_add(record)).filter(|end| *end <= len);
        let (Some(header), Some(end)) = (sound, end) else {
            at = next_record(source, at + ALIGN, len)?;
            continue;
        };
        let payload = at + RECORD_HEADER_LEN;
        let is_whole = records::hash(source, payload, payload + header.payload_len.get())? == header.payload_hash;
        found(&header, at..end, is_whole);
        at = end;
    }
    Ok(())
}

/// Where the next record may begin.
fn next_record(source: &dyn ReadAt, mut at: u64, len: u64) -> Result<u64> {
    let mut window = vec![0; WINDOW.min(len.saturating_sub(at)) as usize];
    while at < len {
        let got = source.read_at(at, &mut window)?;
        let found = window[..got].chunks(ALIGN as usize).position(|piece| piece.starts_with(&RECORD_MAGIC));
        match found {
            Some(found) => return Ok(at + found as u64 * ALIGN),
            None if got == 0 => break,
            None => at += (got as u64).next_multiple_of(ALIGN),
        }
    }
    Ok(len)
}

/// Gives every record of a segment there that can be made of what is here, as it is there, whole.
///
/// # Errors
/// Those of opening what is there, and of `put`.
pub fn reuse(
    here: &dyn ReadAt,
    there: &Access,
    watch: &dyn Watch,
    put: &mut dyn FnMut(u64, &[u8]) -> Result<()>,
) -> Result<()> {
    let (history, newest) = History::open(there).within(|| &there.name)?;
    let wanted = wanted(there, &history, &newest)?;
    let stock = Stock::of(here, watch)?;
    let is_sealed = history.medium().sealing.is_sealed();
    let rows: Vec<&SegmentRow> = wanted.values().collect();
    let mut left = &rows[..];
    while !left.is_empty() {
        let (run, rest) = left.split_at(run(left));
        left = rest;
        let Some(like) = like(history.medium(), run)? else { continue };
        for row in run {
            if let Some(payload) = stock.payload(here, row, is_sealed)? {
                put(row.record, &record(row, &payload, &like, &history.medium().uid)?)?;
            }
        }
    }
    Ok(())
}

/// The segments of a container, by their places: those of its newest states.
fn wanted(access: &Access, history: &History, newest: &Container) -> Result<BTreeMap<u64, SegmentRow>> {
    let mut found = BTreeMap::new();
    own_segments(newest, &mut found)?;
    for (record, _) in generations::recorded(access)?.into_iter().take(STATES) {
        if record != history.newest().record {
            own_segments(&history.state(access, record)?, &mut found)?;
        }
    }
    Ok(found)
}

fn own_segments(container: &Container, found: &mut BTreeMap<u64, SegmentRow>) -> Result<()> {
    let mut rows = container.index().all::<Rows<SegmentRow>>()?;
    while let Some(at) = rows.next()? {
        let row = *at.block.get(at.row);
        if row.store == 0 && row.payload_len <= limits::segment_payload(row.raw_len.min(limits::SEGMENT_RAW)) {
            found.insert(row.record, row);
        }
    }
    Ok(())
}

/// How many segments lie one directly behind the other.
fn run(rows: &[&SegmentRow]) -> usize {
    let ends = |row: &SegmentRow| row.record.checked_add(record_len(RecordType::Segment as u8, row.payload_len)?);
    let breaks = rows.windows(2).position(|pair| ends(pair[0]) != Some(pair[1].record));
    breaks.map_or(rows.len(), |at| at + 1)
}

/// A header as all of a run have it: between two that were written in the same transaction lies none of another. `None` when they
/// were not.
fn like(there: &Medium, run: &[&SegmentRow]) -> Result<Option<RecordHeader>> {
    let (Some(first), Some(last)) = (run.first(), run.last()) else { return Ok(None) };
    let first = header(&**there, first.record, &there.uid)?;
    let last = header(&**there, last.record, &there.uid)?;
    let (Some(first), Some(last)) = (first, last) else { return Ok(None) };
    let words = |header: &RecordHeader| (header.kind, header.flags, header.seq, header.last_commit);
    let is_segment = first.kind == RecordType::Segment as u8;
    Ok((is_segment && words(&first) == words(&last)).then_some(first))
}

/// A record as it is there.
fn record(row: &SegmentRow, payload: &[u8], like: &RecordHeader, uid: &[u8; 16]) -> Result<Vec<u8>> {
    let too_long = || Error::new(Kind::Limit, "a segment is too long");
    let len = record_len(RecordType::Segment as u8, row.payload_len).ok_or_else(too_long)?;
    let mut header = *like;
    header.offset = row.record.into();
    header.payload_len = row.payload_len.into();
    header.payload_hash = row.hash;
    header.check = header.expected_check(uid);
    let mut out = header.as_bytes().to_vec();
    out.extend_from_slice(payload);
    out.resize(len as usize, 0);
    Ok(out)
}

/// The segments that are here.
struct Stock {
    /// Where a payload with a hash begins.
    by_hash: HashMap<[u8; 32], u64>,
    /// Where payloads of a length begin, in their order.
    by_len: HashMap<u64, Vec<u64>>,
    /// The last one that was of use: what follows it there follows it here.
    last: std::cell::Cell<u64>,
}

impl Stock {
    fn of(here: &dyn ReadAt, watch: &dyn Watch) -> Result<Self> {
        let mut stock = Self { by_hash: HashMap::new(), by_len: HashMap::new(), last: std::cell::Cell::new(0) };
        walk(here, watch, &mut |header, range, is_whole| {
            if is_whole && header.kind == RecordType::Segment as u8 {
                let (payload, len) = (range.start + RECORD_HEADER_LEN, header.payload_len.get());
                stock.by_hash.insert(header.payload_hash, payload);
                stock.by_len.entry(len).or_default().push(payload);
            }
        })?;
        Ok(stock)
    }

    /// The payload of a segment there. What is given has the hash that its row tells.
    fn payload(&self, here: &dyn ReadAt, row: &SegmentRow, is_sealed: bool) -> Result<Option<Vec<u8>>> {
        let mut payload = vec![0; row.payload_len as usize];
        if let Some(at) = self.by_hash.get(&row.hash) {
            here.read_exact_at(*at, &mut payload)?;
            self.last.set(*at);
            return Ok((Id::of(&payload).0 == row.hash).then_some(payload));
        }
        let Some(places) = self.by_len.get(&row.payload_len).filter(|_| !is_sealed) else { return Ok(None) };
        let begin = places.partition_point(|at| *at <= self.last.get());
        for at in places[begin..].iter().chain(&places[..begin]).take(TRIES) {
            here.read_exact_at(*at, &mut payload)?;
            if move_to(&mut payload, row.address) && Id::of(&payload).0 == row.hash {
                self.last.set(*at);
                return Ok(Some(payload));
            }
        }
        Ok(None)
    }
}

/// Makes of a payload the one of the same segment at another address. Whether it is that, the hash tells.
fn move_to(payload: &mut [u8], address: u64) -> bool {
    let Ok((head, rest)) = SegmentHead::mut_from_prefix(payload) else { return false };
    let by = address.wrapping_sub(head.address.get());
    head.address = address.into();
    let bases = usize::from(head.bases.get().min(limits::BASES));
    let Ok((bases, _)) = <[Base]>::mut_from_prefix_with_elems(rest, bases) else { return false };
    bases.iter_mut().for_each(|base| base.address = base.address.get().wrapping_add(by).into());
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use zerocopy::FromZeros;

    #[test]
    fn a_segment_is_moved_with_all_that_it_is_decoded_with() {
        let mut head = SegmentHead::new_zeroed();
        (head.address, head.bases) = (5000.into(), 2.into());
        let base = |address: u64| Base { address: address.into(), len: 7.into() };
        let payload = |head: &SegmentHead, bases: [Base; 2]| {
            [head.as_bytes(), bases[0].as_bytes(), bases[1].as_bytes(), b"data"].concat()
        };
        let mut moved = payload(&head, [base(4096), base(4500)]);
        assert!(move_to(&mut moved, 6000));
        head.address = 6000.into();
        assert_eq!(moved, payload(&head, [base(5096), base(5500)]));
        assert!(!move_to(&mut moved[..30], 6000));
    }
}
