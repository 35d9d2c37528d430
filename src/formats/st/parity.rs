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

use super::commit::read_front;
use super::layout::{
    COMPAT_PARITY, FOOTER_LEN, FOOTER_MAGIC, Footer, HEADER_LEN, RECORD_HEADER_LEN, RECORD_MAGIC, RecordHeader,
    RecordType, record_len,
};
use super::records::{self, Backward};
use super::rows::MetaRow;
use crate::codec::damaged;
use crate::error::{Error, Kind, Result, Within};
use crate::formats::Access;
use crate::source::parity::{self, Algorithm, Group, Mender, NO_GROUP, Piece, Plan, Report, Surveyed, Watch};
use crate::source::{ReadAt, Store};
use std::ops::Range;
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

impl Default for Policy {
    fn default() -> Self {
        Self { share: 0.05, algorithm: Algorithm::Wide }
    }
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

/// The row in META that says so.
pub fn row(policy: Option<Policy>) -> Vec<MetaRow> {
    policy.map(|policy| MetaRow { name: POLICY.to_vec(), value: policy.encode() }).into_iter().collect()
}

/// The features that it brings.
pub fn compat(policy: Option<Policy>) -> u64 {
    if policy.is_some() { COMPAT_PARITY } else { 0 }
}

/// Covers a container that was just packed, all of it; how long it is then.
pub fn cover(store: &dyn Store, policy: Policy, watch: Watch<'_>) -> Result<u64> {
    let lost = || damaged("the container is not as it was packed");
    let end = store.len()?;
    let footer = records::read_footer(store, end)?.ok_or_else(lost)?;
    let commit = records::read_header(store, footer.record.get())?;
    let uid = read_front(store)?.ok_or_else(lost)?.uid;
    let behind = Behind { uid, seq: commit.seq.get(), commit: commit.offset.get() };
    let plan = Plan::of(0..end, policy.share, policy.algorithm)?;
    write(store, (&plan, None), behind, end, watch).map(|(_, end)| end)
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
    let frame = Frame::new(behind, body..body + plan.body_len(), end);
    let (padding, footer) = frame.tail.split_at(frame.tail.len() - FOOTER_LEN as usize);
    store.write_at(frame.body.end, padding)?;
    store.write_at(at, frame.header(store)?.as_bytes())?;
    store.sync()?;
    store.write_at(end - FOOTER_LEN, footer)?;
    store.sync()?;
    Ok((Group::read(store, body, Some(behind.uid))?, end))
}

/// What stands around the body of a group, which nothing covers: a header before it, padding and a footer behind it.
struct Frame {
    behind: Behind,
    body: Range<u64>,
    tail: Vec<u8>,
}

impl Frame {
    fn new(behind: Behind, body: Range<u64>, end: u64) -> Self {
        let mut footer = Footer::new_zeroed();
        footer.record = behind.commit.into();
        footer.logical_end = end.into();
        footer.magic = FOOTER_MAGIC;
        footer.check = footer.expected_check(&behind.uid);
        let padding = vec![0; (end - FOOTER_LEN - body.end) as usize];
        Self { behind, body, tail: [&padding, footer.as_bytes()].concat() }
    }

    fn at(&self) -> u64 {
        self.body.start - RECORD_HEADER_LEN
    }

    /// The header over a body that is there.
    fn header(&self, source: &dyn ReadAt) -> Result<RecordHeader> {
        Ok(self.header_of(records::hash(source, self.body.start, self.body.end)?))
    }

    fn header_of(&self, payload_hash: [u8; 32]) -> RecordHeader {
        let mut header = RecordHeader::new_zeroed();
        header.magic = RECORD_MAGIC;
        header.kind = RecordType::Parity as u8;
        header.offset = self.at().into();
        header.payload_len = (self.body.end - self.body.start).into();
        header.seq = self.behind.seq.into();
        header.last_commit = self.behind.commit.into();
        header.uid.copy_from_slice(&self.behind.uid[..8]);
        header.payload_hash = payload_hash;
        header.check = header.expected_check(&self.behind.uid);
        header
    }
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
pub fn chain(source: &Arc<dyn ReadAt>, uid: Option<[u8; 16]>, newest: Group) -> Vec<Group> {
    let mut chain = vec![newest];
    while let Some(before) = chain.last().and_then(Group::prev) {
        let last = chain.last().expect("it begins with one").body_at();
        // A group covers the record of the one before it.
        let group = Group::read(&**source, before, uid).or_else(|_| {
            let mender = Mender::new(source.clone(), source.clone(), chain.clone());
            Group::read(&mender, before, uid)
        });
        match group {
            Ok(group) if before < last && chain.len() < parity::MOST_GROUPS => chain.push(group),
            _ => break,
        }
    }
    chain.reverse();
    chain
}

/// The groups whose newest body is at an offset.
pub fn groups(source: &Arc<dyn ReadAt>, uid: [u8; 16], body: u64) -> Vec<Group> {
    match Group::read(&**source, body, Some(uid)) {
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
        // What cannot be read may be made good by what is found elsewhere.
        found.extend(nearest(&**source, uid).unwrap_or_default());
    }
    if found.is_empty() && far {
        found = parity::scan(&**source, HEADER_LEN, uid, &go_on)?;
    }
    let Some(newest) = found.pop() else { return Ok(None) };
    let groups = chain(source, uid, newest.clone());
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

/// What was done to a container that is damaged.
#[derive(Clone, Debug, Default)]
pub struct Repaired {
    /// What was found, of all that parity covers.
    pub report: Report,
    /// Whether anything was written.
    pub written: bool,
}

impl Repaired {
    /// Whether nothing was damaged.
    pub fn was_whole(&self) -> bool {
        self.report.is_whole() && !self.written
    }
}

impl Rescue {
    /// Where the record of the newest group ends.
    pub fn record_end(&self) -> Option<u64> {
        let body = self.newest.body();
        let at = body.start.checked_sub(RECORD_HEADER_LEN)?;
        at.checked_add(record_len(RecordType::Parity as u8, body.end - body.start)?)
    }

    /// Writes everything that is damaged as it was.
    pub fn repair(&self, store: &dyn Store, watch: Watch<'_>) -> Result<Repaired> {
        self.repair_by(self.mender.survey_all(watch)?, store, watch)
    }

    /// The same by a look that was just taken.
    pub fn repair_by(&self, found: Surveyed, store: &dyn Store, watch: Watch<'_>) -> Result<Repaired> {
        let mut written = false;
        let mut write = |piece: Piece| {
            written = true;
            store.write_at(piece.at, &piece.bytes)
        };
        self.mender.repairs(&found, watch, &mut write)?;
        if !self.is_framed(store)? {
            self.write_frame(store)?;
            written = true;
        }
        if written {
            store.sync()?;
        }
        Ok(Repaired { report: found.report, written })
    }

    /// What would be done by a look that was just taken.
    pub fn would(&self, found: &Surveyed, source: &dyn ReadAt) -> Result<Repaired> {
        let mut written = !self.is_framed(source)?;
        // The first piece is enough to know.
        let mut stop = |_: Piece| {
            written = true;
            Err(Error::new(Kind::Interrupted, "there is something to be written"))
        };
        match self.mender.repairs(found, &|_| true, &mut stop) {
            Err(e) if e.kind() != Kind::Interrupted => Err(e),
            _ => Ok(Repaired { report: found.report.clone(), written }),
        }
    }

    /// What is around the newest group; nothing where it is lost to which commit that belongs.
    fn frame(&self) -> Result<Option<Frame>> {
        let (uid, end) = (self.newest.identity(), self.record_end());
        let footer = records::read_footer(&*self.mender, self.end)?.filter(|f| f.check == f.expected_check(&uid));
        let (Some(footer), Some(end)) = (footer, end) else { return Ok(None) };
        let commit = records::read_header(&*self.mender, footer.record.get()).ok();
        let commit = commit.filter(|header| header.check == header.expected_check(&uid));
        let behind = commit.map(|commit| Behind { uid, seq: commit.seq.get(), commit: commit.offset.get() });
        Ok(behind.map(|behind| Frame::new(behind, self.newest.body(), end)))
    }

    /// Whether that is there.
    fn is_framed(&self, source: &dyn ReadAt) -> Result<bool> {
        let Some(frame) = self.frame()? else { return Ok(true) };
        let has_header = records::read_header(source, frame.at())
            .is_ok_and(|there| there.as_bytes() == frame.header_of(there.payload_hash).as_bytes());
        let mut tail = vec![0; frame.tail.len()];
        let got = source.read_at(frame.body.end, &mut tail).unwrap_or(0);
        Ok(has_header && got == tail.len() && tail == frame.tail)
    }

    /// Writes it around the body, which is whole.
    fn write_frame(&self, store: &dyn Store) -> Result<()> {
        let Some(frame) = self.frame()? else { return Ok(()) };
        store.write_at(frame.at(), frame.header(store)?.as_bytes())?;
        store.write_at(frame.body.end, &frame.tail)
    }
}

/// Makes every byte of a container what it was, as far as its parity can: no key is needed for that. `None` when it has no
/// parity.
pub fn repair(access: &Access, watch: &dyn crate::formats::Watch) -> Result<Option<Repaired>> {
    let store = access.store.clone();
    let store = store.ok_or_else(|| Error::new(Kind::ReadOnly, "a container is repaired where it can be written"))?;
    let source = access.bytes.clone();
    let uid = read_front(&*source)?.map(|header| header.uid);
    let Some(rescue) = rescue(&source, uid, true).within(|| &access.name)? else { return Ok(None) };
    rescue.repair(&*store, &|_| !watch.is_cancelled()).within(|| &access.name).map(Some)
}

/// Gives a container parity, or brings it up to date, so that all of it is covered: as much as it is to have where nobody
/// says how much.
pub fn add_parity(access: Access, policy: Option<Policy>, watch: &dyn crate::formats::Watch) -> Result<()> {
    super::writer(access, super::LIVE_LEVEL)?.add_parity(policy, watch)
}

/// Takes the parity of a container away.
pub fn drop_parity(access: Access) -> Result<()> {
    super::writer(access, super::LIVE_LEVEL)?.drop_parity()
}
