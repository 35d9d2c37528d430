//! Records, found without any commit.
//!
//! ```text
//!  HEADER │ SEG ─► SEG ─► TABLE ─► ░░░░░░░░░░░░ ─► SEG ─► …     from record to record; where one is damaged, every multiple
//!                                  64 64 64 64                  of 64 until the next
//! ```

use super::super::layout::{
    ALIGN, HEADER_LEN, RECORD_HEADER_LEN, RECORD_MAGIC, RecordHeader, RecordType, SegmentHead, record_len,
};
use super::super::medium::Medium;
use super::super::records::Forward;
use super::super::seal::Piece;
use super::super::{limits, records};
use crate::error::{Error, Kind, Result};
use crate::source::ReadAt;
use std::collections::HashMap;
use zerocopy::FromBytes;

/// Tables, and commits, that are remembered: 100 MiB for each.
const RECORDS: usize = 1 << 20;
/// Containers that a file may have records of, before it is one that cannot be told apart.
const IDENTITIES: usize = 16;

/// Which records are those of the container.
#[derive(Clone, Copy, Debug)]
pub enum Identity {
    Known([u8; 16]),
    /// Nothing is left but its first half, which stands in every record: their checks cannot be computed.
    Half([u8; 8]),
}

impl Identity {
    pub fn accepts(&self, header: &RecordHeader) -> bool {
        match self {
            Self::Known(uid) => header.check == header.expected_check(uid),
            Self::Half(half) => header.uid == *half,
        }
    }
}

/// Finds out whose records there are: most of those that vote. Commits that are damaged may still tell it.
pub fn identify(source: &dyn ReadAt) -> Result<Option<Identity>> {
    let (mut uids, mut halves) = (Vec::new(), HashMap::<[u8; 8], u64>::new());
    let mut records = Forward::new(source, HEADER_LEN)?;
    while let Some(header) = records.next()? {
        if halves.len() < IDENTITIES || halves.contains_key(&header.uid) {
            *halves.entry(header.uid).or_default() += 1;
        }
        if let Some(uid) = uid_of(source, &header)?.filter(|uid| uids.len() < IDENTITIES && !uids.contains(uid)) {
            uids.push(uid);
        }
    }
    let half = halves.into_iter().max_by_key(|(half, votes)| (*votes, *half)).map(|(half, _)| Identity::Half(half));
    Ok(most(source, &uids)?.map(Identity::Known).or(half))
}

/// What a commit, or keys, say of whose they are, when their header says the same.
pub fn uid_of(source: &dyn ReadAt, header: &RecordHeader) -> Result<Option<[u8; 16]>> {
    let mut uid = [0; 16];
    if !header.is_commit() && header.kind != RecordType::Keys as u8 {
        return Ok(None);
    }
    let got = source.read_at(header.offset.get() + RECORD_HEADER_LEN, &mut uid)?;
    Ok((got == uid.len() && header.check == header.expected_check(&uid)).then_some(uid))
}

fn most(source: &dyn ReadAt, uids: &[[u8; 16]]) -> Result<Option<[u8; 16]>> {
    if uids.len() < 2 {
        return Ok(uids.first().copied());
    }
    let mut votes = vec![0u64; uids.len()];
    let mut records = Forward::new(source, HEADER_LEN)?;
    while let Some(header) = records.next()? {
        if let Some(i) = uids.iter().position(|uid| header.check == header.expected_check(uid)) {
            votes[i] += 1;
        }
    }
    let most = (0..uids.len()).max_by_key(|i| votes[*i]);
    Ok(most.map(|i| uids[i]))
}

/// The records from some place on.
#[derive(Default)]
pub struct Records {
    /// By transaction, then by place.
    pub tables: Vec<RecordHeader>,
    /// Transactions that have a commit, whole or not.
    pub committed: Vec<u64>,
    /// Those of which nothing is lost before the commit: it begins where another record ends.
    pub adjoining: Vec<u64>,
    /// The highest transaction of all records.
    pub seq: u64,
}

pub fn records(source: &dyn ReadAt, identity: &Identity, from: u64) -> Result<Records> {
    let mut found = Records::default();
    let (mut records, mut behind) = (Forward::new(source, from)?, Some(from));
    while let Some(header) = records.next()? {
        if !identity.accepts(&header) {
            continue;
        }
        let (seq, at) = (header.seq.get(), header.offset.get());
        found.seq = found.seq.max(seq);
        if header.kind == RecordType::Table as u8 {
            found.tables.push(header);
        } else if header.kind == RecordType::Commit as u8 {
            found.committed.push(seq);
            found.adjoining.extend((behind == Some(at)).then_some(seq));
        }
        behind = record_len(header.kind, header.payload_len.get()).and_then(|len| at.checked_add(len));
        if found.tables.len() > RECORDS || found.committed.len() > RECORDS {
            return Err(Error::new(Kind::Limit, "it has more commits than can be recovered"));
        }
    }
    found.tables.sort_by_key(|header| (header.seq.get(), header.offset.get()));
    found.committed.sort_unstable();
    Ok(found)
}

/// What a segment says of itself, if that can be. One that is sealed only tells when all of it is whole.
pub fn segment_head(medium: &Medium, header: &RecordHeader) -> Result<Option<SegmentHead>> {
    let head = if medium.sealing.is_sealed() {
        let Ok(mut payload) = records::read_payload(medium, header, SEGMENT) else { return Ok(None) };
        medium.sealing.open(Piece::Segment, &mut payload).ok().and_then(head_of)
    } else {
        let mut bytes = [0; size_of::<SegmentHead>()];
        let got = medium.read_at(header.offset.get() + RECORD_HEADER_LEN, &mut bytes)?;
        head_of(&bytes[..got])
    };
    let fits = |head: &SegmentHead| {
        let (address, raw) = (head.address.get(), head.raw_len.get());
        let fits = address <= limits::ADDRESS && raw <= limits::SEGMENT_RAW && raw > 0;
        fits && header.payload_len.get() <= limits::segment_payload(raw)
    };
    Ok(head.filter(fits))
}

fn head_of(payload: &[u8]) -> Option<SegmentHead> {
    SegmentHead::read_from_prefix(payload).ok().map(|(head, _)| head)
}

/// The longest payload of a segment.
const SEGMENT: u64 = limits::segment_payload(limits::SEGMENT_RAW);

/// Whether the payload of a segment is as it was written.
pub fn is_whole(medium: &Medium, header: &RecordHeader) -> bool {
    records::read_payload(medium, header, SEGMENT).is_ok()
}

/// Where the keys are, oldest first, when a container is sealed; nothing else tells that so surely.
pub fn keys(source: &dyn ReadAt) -> Result<Vec<RecordHeader>> {
    let (mut found, mut records) = (Vec::new(), Forward::new(source, HEADER_LEN)?);
    while let Some(header) = records.next()? {
        if header.kind == RecordType::Keys as u8 && found.len() < IDENTITIES * 64 {
            found.push(header);
        }
    }
    Ok(found)
}

/// Whether something in these bytes begins as a record does.
pub fn has_record(bytes: &[u8]) -> bool {
    bytes.chunks(ALIGN as usize).any(|chunk| chunk.starts_with(&RECORD_MAGIC))
}
