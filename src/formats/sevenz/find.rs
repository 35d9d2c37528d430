//! Where an archive begins, and where its header is.

use crate::error::Result;
use crate::source::ReadAt;
use memchr::memmem;
use std::ops::Range;

pub const SIGNATURE: &[u8; 6] = b"7z\xbc\xaf\x27\x1c";

/// Bytes in front of the packed streams.
pub const START: usize = 32;

/// How much of a program that unpacks itself is looked through.
const FURTHEST: usize = 4 << 20;

/// What stands at the beginning.
pub struct Start {
    /// Where packed streams count from.
    pub base: u64,
    /// Nothing when the archive is empty.
    pub header: Option<Range<u64>>,
    pub sum: u32,
    /// Where the archive ends.
    pub end: u64,
    /// Nothing leads to the header: it was looked for.
    pub is_lost: bool,
}

/// Whether bytes begin as an archive, whatever comes then.
pub fn is_at_front(bytes: &[u8]) -> bool {
    bytes.starts_with(SIGNATURE)
}

/// Where an archive begins in the first bytes of a file, if it does.
pub fn in_bytes(bytes: &[u8]) -> Option<usize> {
    memmem::find_iter(bytes, SIGNATURE).find(|at| start(&bytes[*at..], *at as u64).is_some())
}

pub fn find(source: &dyn ReadAt) -> Result<Option<Start>> {
    let mut bytes = vec![0; START];
    let got = source.read_at(0, &mut bytes)?;
    bytes.truncate(got);
    if let Some(start) = start(&bytes, 0) {
        return Ok(Some(start));
    }
    if is_unfinished(&bytes) {
        return lost(source);
    }
    // Only behind a program.
    if !(bytes.starts_with(b"MZ") || bytes.starts_with(b"\x7fELF") || bytes.starts_with(b"#!")) {
        return Ok(None);
    }
    bytes.resize(FURTHEST.min(source.len()? as usize), 0);
    source.read_exact_at(0, &mut bytes)?;
    Ok(in_bytes(&bytes).and_then(|at| start(&bytes[at..], at as u64)))
}

/// Whether the place for what is known at last was left empty: whoever wrote it was cut off, or wrote to a pipe.
fn is_unfinished(bytes: &[u8]) -> bool {
    bytes.starts_with(SIGNATURE) && bytes.len() == START && bytes[8..].iter().all(|byte| *byte == 0)
}

/// How much of the end is looked through for a header that nothing leads to, as 7-Zip does it.
const LOST: u64 = 512;

/// How headers begin: packed, or with blocks.
const BEGINNINGS: [[u8; 2]; 2] = [[0x17, 0x06], [0x01, 0x04]];

/// A header at the end that nothing leads to. Whether it is one, whoever reads it sees.
fn lost(source: &dyn ReadAt) -> Result<Option<Start>> {
    let (base, end) = (START as u64, source.len()?);
    let from = end.saturating_sub(LOST).max(base);
    let mut tail = vec![0; (end - from) as usize];
    source.read_exact_at(from, &mut tail)?;
    let found = tail.windows(2).rposition(|pair| BEGINNINGS.iter().any(|begin| pair == begin));
    Ok(found.map(|at| {
        let (header, sum) = (from + at as u64..end, crc32fast::hash(&tail[at..]));
        Start { base, header: Some(header), sum, end, is_lost: true }
    }))
}

/// The beginning at the front of these bytes, which are at `at` in the file, if its checksum is right.
fn start(bytes: &[u8], at: u64) -> Option<Start> {
    let bytes: &[u8; START] = bytes.first_chunk()?;
    let number = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
    let sum = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
    if !bytes.starts_with(SIGNATURE) || crc32fast::hash(&bytes[12..]) != sum(8) {
        return None;
    }
    let (offset, len, base) = (number(12), number(20), at + START as u64);
    let first = base.checked_add(offset)?;
    let end = first.checked_add(len)?;
    Some(Start { base, header: (len > 0).then_some(first..end), sum: sum(28), end, is_lost: false })
}
