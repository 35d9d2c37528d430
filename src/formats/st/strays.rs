//! Every byte of a container: each belongs to its header, to a record that is whole, or to nothing.
//!
//! ```text
//!   HEADER │ SEG SEG TABLE COMMIT │ ░░░░░░ │ SEG TABLE COMMIT|footer
//!      ▲      ▲                       ▲                         ▲
//!      hash   the check of segments   no record: told           check
//!             looks at those that
//!             are in use
//! ```
//!
//! What a state needs is found by its hashes, wherever it lies. This looks at all the rest: at records that no state needs
//! any more, at the zeros between records, at fields that nobody reads.

use super::commit::read_front;
use super::layout::{
    ALIGN, FOOTER_LEN, FOOTER_MAGIC, Footer, HEADER_LEN, RECORD_HEADER_LEN, RecordHeader, has_footer, record_len,
};
use super::records::{Forward, header_at};
use crate::error::{Error, Kind, Result};
use crate::source::ReadAt;
use std::collections::HashMap;
use std::ops::Range;
use zerocopy::FromBytes;

/// Stretches that are told of one by one.
const TOLD: usize = 1000;
/// Bytes that are hashed at a time.
const PIECE: usize = 1 << 20;

/// What was found.
#[derive(Clone, Debug, Default)]
pub struct Strays {
    /// Stretches that belong to no whole record, in order; adjacent ones are one.
    pub ranges: Vec<Range<u64>>,
    /// How many more there are.
    pub more: u64,
    /// Whether the header of the file is damaged.
    pub header: bool,
}

/// Looks at everything up to `end` in the container `uid`. The payloads of `known` records, at these offsets and of these
/// lengths, were verified already.
pub fn find(
    source: &dyn ReadAt,
    uid: &[u8; 16],
    end: u64,
    known: &HashMap<u64, u64>,
    go_on: &dyn Fn() -> bool,
) -> Result<Strays> {
    let header = read_front(source)?.is_none_or(|header| header.uid != *uid);
    let mut strays = Strays { header, ..Strays::default() };
    let (mut at, mut piece) = (HEADER_LEN, vec![0; PIECE]);
    while at < end {
        if !go_on() {
            return Err(Error::new(Kind::Interrupted, "interrupted"));
        }
        match whole(source, uid, at, known, &mut piece)?.filter(|next| *next <= end) {
            Some(next) => at = next,
            None => {
                let next = next_record(source, uid, at + ALIGN)?.unwrap_or(end).min(end);
                strays.add(at..next);
                at = next;
            }
        }
    }
    let len = source.len()?;
    if len > end {
        strays.add(end..len);
    }
    Ok(strays)
}

impl Strays {
    fn add(&mut self, range: Range<u64>) {
        match self.ranges.last_mut() {
            Some(last) if last.end == range.start => last.end = range.end,
            Some(_) if self.more > 0 => self.more += 1,
            _ => self.ranges.push(range),
        }
        if self.ranges.len() > TOLD {
            self.ranges.truncate(TOLD);
            self.more = 1;
        }
    }

    /// Forgets what of them is in a range.
    pub fn leave_out(&mut self, range: &Range<u64>) {
        let parts =
            |stray: &Range<u64>| [stray.start..stray.end.min(range.start), stray.start.max(range.end)..stray.end];
        self.ranges = self.ranges.iter().flat_map(parts).filter(|part| !part.is_empty()).collect();
    }

    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty() && !self.header
    }

    /// What is wrong, in words.
    pub fn lines(&self) -> Vec<String> {
        let mut lines: Vec<String> =
            self.header.then(|| "the header of the file is damaged".to_owned()).into_iter().collect();
        let line = |range: &Range<u64>| {
            format!(
                "{} bytes at {} are no record: nothing in the container needs them",
                range.end - range.start,
                range.start
            )
        };
        lines.extend(self.ranges.iter().map(line));
        lines.extend((self.more > 0).then(|| format!("{} more stretches that are no record", self.more)));
        lines
    }
}

/// Where the next record begins whose header is right.
fn next_record(source: &dyn ReadAt, uid: &[u8; 16], from: u64) -> Result<Option<u64>> {
    let mut forward = Forward::new(source, from)?;
    while let Some(header) = forward.next()? {
        if header.check == header.expected_check(uid) {
            return Ok(Some(header.offset.get()));
        }
    }
    Ok(None)
}

/// Where the record at an offset ends, when every byte of it is as it was written.
fn whole(
    source: &dyn ReadAt,
    uid: &[u8; 16],
    at: u64,
    known: &HashMap<u64, u64>,
    piece: &mut [u8],
) -> Result<Option<u64>> {
    let mut bytes = [0; RECORD_HEADER_LEN as usize];
    let got = source.read_at(at, &mut bytes)?;
    let Some(header) = header_at(&bytes[..got], at) else { return Ok(None) };
    let right = header.check == header.expected_check(uid) && header.reserved == [0; 8] && header.zero.get() == 0;
    let len = record_len(header.kind, header.payload_len.get()).filter(|_| right);
    let Some(end) = len.and_then(|len| at.checked_add(len)) else { return Ok(None) };
    let payload = at + RECORD_HEADER_LEN..at + RECORD_HEADER_LEN + header.payload_len.get();
    if known.get(&at) != Some(&header.payload_len.get()) && !has_hash(source, &payload, &header, piece)? {
        return Ok(None);
    }
    Ok(ends_right(source, uid, &header, payload.end, end)?.then_some(end))
}

fn has_hash(source: &dyn ReadAt, payload: &Range<u64>, header: &RecordHeader, piece: &mut [u8]) -> Result<bool> {
    let (mut hasher, mut at) = (blake3::Hasher::new(), payload.start);
    while at < payload.end {
        let want = piece.len().min((payload.end - at) as usize);
        let got = source.read_at(at, &mut piece[..want])?;
        if got == 0 {
            return Ok(false);
        }
        hasher.update(&piece[..got]);
        at += got as u64;
    }
    Ok(*hasher.finalize().as_bytes() == header.payload_hash)
}

/// Whether what follows a payload is zeros, and the footer of a commit.
fn ends_right(source: &dyn ReadAt, uid: &[u8; 16], header: &RecordHeader, from: u64, end: u64) -> Result<bool> {
    let mut rest = vec![0; (end - from) as usize];
    if source.read_at(from, &mut rest)? < rest.len() {
        return Ok(false);
    }
    if !has_footer(header.kind) {
        return Ok(rest.iter().all(|b| *b == 0));
    }
    let (padding, footer) = rest.split_at(rest.len() - FOOTER_LEN as usize);
    let footer = Footer::read_from_bytes(footer).expect("the rest has the size of a footer");
    let right = footer.magic == FOOTER_MAGIC && footer.check == footer.expected_check(uid);
    // What stands behind a commit names it, and is signed by nobody.
    let is_commit = header.is_commit();
    let named = if is_commit { header.offset.get() } else { header.last_commit.get() };
    let place = (footer.record.get(), footer.logical_end.get()) == (named, end);
    let is_clean = is_commit || (footer.public_key == [0; 32] && footer.signature == [0; 64]);
    Ok(padding.iter().all(|b| *b == 0) && right && place && is_clean && footer.flags.get() == 0)
}
