//! Makes the hashes of a container right, bottom up, in place: what a mutation changed passes them and is looked at.
//!
//! ```text
//!  SEG payload -> SEG row -> block -> fence -> COMMIT -> record, footer
//! ```
//!
//! Rows are reached where blocks and fences are stored uncompressed, as `model` writes them. What makes no sense is left.

use std::ops::Range;
use stmount::codec::id::Id;
use stmount::codec::varint::{Cursor, unzigzag};

pub const HEADER: usize = 4096;
pub const RECORD: usize = 96;
pub const FOOTER: usize = 128;
pub const COMMIT_HEAD: usize = 168;
pub const TABLE_REF: usize = 64;
pub const MAGIC: &[u8] = b"\x89STF\r\n\x1a\n";
pub const RECORD_MAGIC: &[u8] = b"\xabSTR";
pub const SEGMENT: u8 = 2;
pub const TABLE: u8 = 3;
pub const COMMIT: u8 = 4;
/// The family of SEG rows.
pub const SEGMENTS: u8 = 4;

/// Streams of the rows of a family.
pub fn streams_of(family: u8) -> Option<usize> {
    [7, 15, 6, 7, 4, 6].get(usize::from(family).checked_sub(1)?).copied()
}

pub const FENCE_STREAMS: usize = 7;

pub fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at.checked_add(8)?)?.try_into().ok()?))
}

/// A range inside the bytes, from numbers that may be any.
pub fn range_in(bytes: &[u8], at: u64, len: u64) -> Option<Range<usize>> {
    let end = at.checked_add(len).filter(|end| *end <= bytes.len() as u64)?;
    Some(at as usize..end as usize)
}

fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    bytes[at..at + value.len()].copy_from_slice(value);
}

/// A record that was found in a container: its type, where it begins, and its payload.
#[derive(Clone, Debug)]
pub struct Found {
    pub kind: u8,
    pub at: usize,
    pub payload: Range<usize>,
}

/// All that looks like a record. What claims to be longer than the file is passed over.
pub fn records(bytes: &[u8]) -> Vec<Found> {
    let (mut all, mut at) = (Vec::new(), HEADER);
    while at + RECORD <= bytes.len() {
        let payload = u64_at(bytes, at + 16).and_then(|len| range_in(bytes, (at + RECORD) as u64, len));
        match payload.filter(|_| bytes[at..].starts_with(RECORD_MAGIC)) {
            Some(payload) => {
                let footer = if bytes[at + 4] == COMMIT { FOOTER } else { 0 };
                let next = (payload.end + footer).next_multiple_of(64);
                all.push(Found { kind: bytes[at + 4], at, payload });
                at = next;
            }
            None => at += 64,
        }
    }
    all
}

/// Where the content of an uncompressed block begins, and its rows and streams.
pub fn streams(bytes: &[u8], block: Range<usize>, count: usize) -> Option<(u64, Vec<Range<usize>>)> {
    let mut cursor = Cursor(&bytes[block.clone()]);
    if cursor.bytes(1).ok()? != [0] {
        return None;
    }
    cursor.number().ok()?;
    let rows = cursor.number().ok()?;
    let lens: Vec<u64> = (0..count).map(|_| cursor.number().ok()).collect::<Option<_>>()?;
    let mut at = (block.end - cursor.0.len()) as u64;
    let inside = |len: u64| {
        let range = range_in(&bytes[..block.end], at, len)?;
        at += len;
        Some(range)
    };
    Some((rows, lens.into_iter().map(inside).collect::<Option<_>>()?))
}

pub fn seal(file: &mut [u8]) {
    let start = match u64_at(file, file.len().wrapping_sub(FOOTER - 8)) {
        Some(end) if !file.starts_with(MAGIC) => file.len().saturating_sub(end as usize),
        _ => 0,
    };
    container(&mut file[start..]);
}

fn container(bytes: &mut [u8]) {
    let records = records(bytes);
    let Some(uid) = uid_of(bytes, &records) else { return };
    if bytes.len() >= HEADER && bytes.starts_with(MAGIC) {
        let check = Id::of(&bytes[..HEADER - 32]);
        put(bytes, HEADER - 32, &check.0);
    }
    for record in &records {
        match record.kind {
            TABLE => drop(table(bytes, record)),
            COMMIT => commit(bytes, record, &uid),
            _ => {}
        }
        let hash = Id::of(&bytes[record.payload.clone()]);
        put(bytes, record.at + 48, &hash.0);
        let check = Id::of_parts(&[&uid, &bytes[record.at..record.at + 80]]).short();
        put(bytes, record.at + 80, &check);
    }
}

/// From the header, or without it from the last commit.
fn uid_of(bytes: &[u8], records: &[Found]) -> Option<[u8; 16]> {
    let at = match bytes.starts_with(MAGIC) {
        true => 16,
        false => records.iter().rfind(|record| record.kind == COMMIT)?.payload.start,
    };
    bytes.get(at..at + 16)?.try_into().ok()
}

/// The hashes in the rows of segments and in the fence.
fn table(bytes: &mut [u8], record: &Found) -> Option<()> {
    let tail = record.payload.end.checked_sub(16).filter(|at| *at >= record.payload.start)?;
    let (blocks, fence) = (u64_at(bytes, tail)?, u64_at(bytes, tail + 8)?);
    let fence = range_in(&bytes[..tail], (record.payload.start as u64).checked_add(blocks)?, fence)?;
    let (rows, streams) = streams(bytes, fence, FENCE_STREAMS)?;
    let mut block_at = record.payload.start as u64;
    let (mut family_at, mut len_at) = (streams[0].clone(), streams[5].clone());
    for row in 0..(rows as usize).min(streams[6].len() / 32) {
        let family = take(bytes, &mut family_at)?;
        let len = take(bytes, &mut len_at)?;
        let block = range_in(bytes, block_at, len)?;
        if family == u64::from(SEGMENTS) {
            segment_rows(bytes, block.clone());
        }
        let hash = Id::of(&bytes[block]);
        put(bytes, streams[6].start + 32 * row, &hash.0);
        block_at += len;
    }
    Some(())
}

/// The next number of a stream.
fn take(bytes: &[u8], stream: &mut Range<usize>) -> Option<u64> {
    let mut cursor = Cursor(&bytes[stream.clone()]);
    let number = cursor.number().ok()?;
    stream.start = stream.end - cursor.0.len();
    Some(number)
}

fn segment_rows(bytes: &mut [u8], block: Range<usize>) -> Option<()> {
    let (rows, streams) = streams(bytes, block, 7)?;
    let (mut record_at, mut len_at, mut record) = (streams[3].clone(), streams[4].clone(), 0u64);
    for row in 0..(rows as usize).min(streams[6].len() / 32) {
        record = record.wrapping_add(unzigzag(take(bytes, &mut record_at)?) as u64);
        let len = take(bytes, &mut len_at)?;
        if let Some(payload) = record.checked_add(RECORD as u64).and_then(|at| range_in(bytes, at, len)) {
            let hash = Id::of(&bytes[payload]);
            put(bytes, streams[6].start + 32 * row, &hash.0);
        }
    }
    Some(())
}

fn commit(bytes: &mut [u8], record: &Found, uid: &[u8; 16]) {
    let at = record.payload.start;
    if record.payload.len() < COMMIT_HEAD {
        return;
    }
    let number = |bytes: &[u8], at| u64_at(bytes, at).unwrap_or(u64::MAX);
    let tables = number(bytes, at + 160) as u32 as usize;
    for reference in
        (at + COMMIT_HEAD..record.payload.end.saturating_sub(TABLE_REF - 1)).step_by(TABLE_REF).take(tables)
    {
        let (table, blocks) = (number(bytes, reference), number(bytes, reference + 16));
        let fence_at = table.saturating_add(RECORD as u64).saturating_add(blocks);
        if let Some(fence) = range_in(bytes, fence_at, number(bytes, reference + 24)) {
            let hash = Id::of(&bytes[fence]);
            put(bytes, reference + 32, &hash.0);
        }
    }
    let previous = number(bytes, at + 32);
    let payload = u64_at(bytes, previous.saturating_add(16) as usize)
        .and_then(|len| range_in(bytes, previous.saturating_add(RECORD as u64), len));
    if let Some(payload) = payload {
        let hash = Id::of(&bytes[payload]);
        put(bytes, at + 40, &hash.0);
    }
    let start = number(bytes, at + 72);
    if let Some(tail) = (record.at as u64).checked_sub(start).and_then(|len| range_in(bytes, start, len)) {
        let hash = Id::of(&bytes[tail]);
        put(bytes, at + 80, &hash.0);
    }
    let footer = (record.payload.end + FOOTER).next_multiple_of(64) - FOOTER;
    if bytes.len() >= footer + FOOTER {
        let check = Id::of_parts(&[uid, &bytes[footer..footer + 120]]).short();
        put(bytes, footer + 120, &check);
    }
}
