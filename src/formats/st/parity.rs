//! PARITY records: a container that makes itself whole again.
//!
//! ```text
//!   HEADER SEG SEG TABLE COMMIT │ PARITY of all of that │ SEG TABLE COMMIT │ PARITY of what came since │
//!                               └ footer, names COMMIT  ┘                  └ footer, names COMMIT      ┘
//!                                        ▲─────────────── prev ──────────────────────┘
//! ```
//!
//! The payload of a PARITY record is the body of a group ([`crate::source::parity`]) over a range before it, record headers,
//! padding and earlier parity and all. It ends with a footer as a COMMIT does, so a container with parity at its end opens
//! with the same one read.
//!
//! A new group covers what no other does, and takes in those before it that are not much larger: there are few, and what
//! they covered is covered once more as often as the container doubles.

use super::layout::{
    FOOTER_LEN, FOOTER_MAGIC, Footer, HEADER_LEN, RECORD_HEADER_LEN, RECORD_MAGIC, RecordHeader, RecordType, record_len,
};
use super::records::{self, Backward};
use crate::codec::damaged;
use crate::error::Result;
use crate::source::parity::{self, Algorithm, Group, Mender, NO_GROUP, Plan, Watch};
use crate::source::{ReadAt, Store};
use std::sync::Arc;
use zerocopy::{FromZeros, IntoBytes};

/// The row in META that says how much parity a container is to have.
pub const POLICY: &[u8] = b"policy/parity";

/// How much parity there is to be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Policy {
    /// Of the data, 0.005 to 1.
    pub share: f64,
    pub algorithm: Algorithm,
}

impl Policy {
    /// As it stands in META: millionths, then the algorithm.
    pub fn encode(self) -> Vec<u8> {
        let millionths = (self.share * 1e6).round() as u32;
        [&millionths.to_le_bytes()[..], &[self.algorithm as u8]].concat()
    }

    pub fn decode(value: &[u8]) -> Result<Self> {
        let (millionths, rest) = value.split_first_chunk().ok_or_else(|| damaged("the amount of parity is cut off"))?;
        let share = f64::from(u32::from_le_bytes(*millionths)) / 1e6;
        let algorithm = rest.first().ok_or_else(|| damaged("the amount of parity is cut off"))?;
        let share = share.clamp(parity::LEAST_SHARE, parity::MOST_SHARE);
        Ok(Self { share, algorithm: Algorithm::of(*algorithm)? })
    }
}

/// What a PARITY record belongs to.
#[derive(Clone, Copy, Debug)]
pub struct Behind {
    pub uid: [u8; 16],
    pub seq: u64,
    /// Where the COMMIT is that was the newest then.
    pub commit: u64,
}

/// A group that takes in those of `groups`, oldest first, that are not much larger than what none of them covers yet, up
/// to `end`. How many of them stay; `None` when all is covered.
pub fn next(groups: &[Group], end: u64) -> Option<(usize, u64)> {
    let mut kept = groups.len();
    let mut start = groups.last().map_or(0, |group| group.plan().range().end);
    if start >= end {
        return None;
    }
    while let Some(before) = kept.checked_sub(1).map(|at| groups[at].plan().range()) {
        if before.end - before.start > 2 * (end - start) {
            break;
        }
        (kept, start) = (kept - 1, before.start);
    }
    Some((kept, start))
}

/// Writes a PARITY record at `at` and makes it durable; the group, and where its record ends. Until the end is there, it
/// counts for nothing.
pub fn write(
    store: &dyn Store,
    (plan, prev): (&Plan, Option<u64>),
    behind: Behind,
    at: u64,
    watch: Watch<'_>,
) -> Result<(Group, u64)> {
    let end = at + record_len(RecordType::Parity as u8, plan.body_len()).ok_or_else(|| damaged("too much parity"))?;
    let body = at + RECORD_HEADER_LEN;
    store.reserve(at..end)?;
    let put = |offset: u64, bytes: &[u8]| store.write_at(body + offset, bytes);
    parity::encode(store, plan, behind.uid, body, prev.unwrap_or(NO_GROUP), &put, watch)?;
    let body_end = body + plan.body_len();
    let padding = vec![0; (end - FOOTER_LEN - body_end) as usize];
    store.write_at(body_end, &padding)?;
    store.write_at(at, header(store, behind, at, plan.body_len())?.as_bytes())?;
    store.sync()?;
    store.write_at(end - FOOTER_LEN, footer(behind, end).as_bytes())?;
    store.sync()?;
    Ok((Group::read(store, body, Some(behind.uid))?, end))
}

fn header(source: &dyn ReadAt, behind: Behind, at: u64, payload_len: u64) -> Result<RecordHeader> {
    let payload = at + RECORD_HEADER_LEN;
    let mut header = RecordHeader::new_zeroed();
    header.magic = RECORD_MAGIC;
    header.kind = RecordType::Parity as u8;
    header.offset = at.into();
    header.payload_len = payload_len.into();
    header.seq = behind.seq.into();
    header.last_commit = behind.commit.into();
    header.uid.copy_from_slice(&behind.uid[..8]);
    header.payload_hash = records::hash(source, payload, payload + payload_len)?;
    header.check = header.expected_check(&behind.uid);
    Ok(header)
}

fn footer(behind: Behind, end: u64) -> Footer {
    let mut footer = Footer::new_zeroed();
    footer.record = behind.commit.into();
    footer.logical_end = end.into();
    footer.magic = FOOTER_MAGIC;
    footer.check = footer.expected_check(&behind.uid);
    footer
}

/// The PARITY records that follow each other from an offset on: where the last one begins, if there is any, and where they
/// end.
pub fn follow(source: &dyn ReadAt, uid: &[u8; 16], commit: u64, mut at: u64) -> Result<(Option<u64>, u64)> {
    let (len, mut last) = (source.len()?, None);
    while at + RECORD_HEADER_LEN <= len {
        let Ok(header) = records::read_header(source, at) else { break };
        let ours = header.kind == RecordType::Parity as u8 && header.check == header.expected_check(uid);
        let end = record_len(header.kind, header.payload_len.get()).and_then(|record| at.checked_add(record));
        let Some(end) = end.filter(|end| ours && header.last_commit.get() == commit && *end <= len) else { break };
        let Some(footer) = records::read_footer(source, end)? else { break };
        if footer.check != footer.expected_check(uid) {
            break;
        }
        (last, at) = (Some(at), end);
    }
    Ok((last, at))
}

/// A group and those before it, oldest first, as far as they lead back.
pub fn chain(source: &dyn ReadAt, uid: Option<[u8; 16]>, newest: Group) -> Vec<Group> {
    let mut chain = vec![newest];
    while let Some(before) = chain.last().and_then(Group::prev) {
        let last = chain.last().expect("it begins with one").body_at();
        match Group::read(source, before, uid) {
            Ok(group) if before < last && chain.len() < parity::MOST_GROUPS => chain.push(group),
            _ => break,
        }
    }
    chain.reverse();
    chain
}

/// The groups whose newest body is at an offset.
pub fn groups(source: &dyn ReadAt, uid: [u8; 16], body: u64) -> Vec<Group> {
    match Group::read(source, body, Some(uid)) {
        Ok(newest) => chain(source, Some(uid), newest),
        Err(e) => {
            log::info!("the parity at {body}: {e}");
            Vec::new()
        }
    }
}

/// Bytes at the end in which the second description of the last group is, if it is there.
const NEAR: u64 = 1 << 20;

/// A container whose end or beginning is damaged, and what its parity makes of it.
#[derive(Clone)]
pub struct Rescue {
    pub mender: Arc<Mender>,
    /// The newest of its groups.
    pub newest: Group,
    /// Where the commit ends that this group covers.
    pub end: u64,
}

/// Looks for the parity of such a container, in all of it if it is to look `far`. Nothing where it has none.
pub fn rescue(source: &Arc<dyn ReadAt>, uid: Option<[u8; 16]>, far: bool) -> Result<Option<Rescue>> {
    let len = source.len()?;
    let go_on = |_| true;
    let mut found = parity::scan(&**source, len.saturating_sub(NEAR), uid, &go_on)?;
    if found.is_empty() {
        found.extend(nearest(&**source, uid)?);
    }
    if found.is_empty() && far {
        found = parity::scan(&**source, HEADER_LEN, uid, &go_on)?;
    }
    let Some(newest) = found.pop() else { return Ok(None) };
    let groups = chain(&**source, uid, newest.clone());
    let mender = Arc::new(Mender::new(source.clone(), source.clone(), groups));
    let end = newest.plan().range().end;
    Ok(Some(Rescue { mender, newest, end }))
}

/// The group of the last record, when that is a PARITY record.
fn nearest(source: &dyn ReadAt, uid: Option<[u8; 16]>) -> Result<Option<Group>> {
    let last = Backward::new(source, source.len()?).next()?;
    let last = last.filter(|header| header.kind == RecordType::Parity as u8);
    Ok(last.and_then(|header| Group::read(source, header.offset.get() + RECORD_HEADER_LEN, uid).ok()))
}
