//! The list of entries, read in few large pieces.

use super::layout::{CENTRAL, Central};
use super::window::{MOST, Window};
use crate::error::Result;
use crate::source::ReadAt;
use std::ops::Range;
use zerocopy::{FromBytes, IntoBytes};

/// An entry of the list, as it lies there.
pub struct Record<'a> {
    pub central: &'a Central,
    pub name: &'a [u8],
    pub extra: &'a [u8],
    pub comment: &'a [u8],
}

/// Entry after entry, as long as there is one behind the last.
pub struct Records<'a> {
    window: Window<'a>,
    at: u64,
}

impl<'a> Records<'a> {
    pub fn new(source: &'a dyn ReadAt, range: Range<u64>) -> Self {
        Self { window: Window::new(source, range.end, MOST), at: range.start }
    }

    /// Where the next entry would begin.
    pub fn at(&self) -> u64 {
        self.at
    }

    /// The next entry; nothing where none begins, or where it goes on behind the end.
    pub fn next(&mut self) -> Result<Option<Record<'_>>> {
        let record = record(&mut self.window, self.at)?;
        if let Some(record) = &record {
            self.at += record.len() as u64;
        }
        Ok(record)
    }
}

/// The entry at an offset, if it is whole.
pub fn record<'a>(window: &'a mut Window<'_>, at: u64) -> Result<Option<Record<'a>>> {
    let Ok((central, _)) = Central::read_from_prefix(window.bytes(at, size_of::<Central>())?) else { return Ok(None) };
    if central.signature != CENTRAL {
        return Ok(None);
    }
    let lens = [&central.name_len, &central.extra_len, &central.comment_len].map(|len| usize::from(len.get()));
    Ok(parse(window.bytes(at, size_of::<Central>() + lens.iter().sum::<usize>())?))
}

/// An entry at the front of some bytes, if it is whole.
fn parse(bytes: &[u8]) -> Option<Record<'_>> {
    let (central, rest) = Central::ref_from_prefix(bytes).ok()?;
    let (name, rest) = rest.split_at_checked(central.name_len.get().into())?;
    let (extra, rest) = rest.split_at_checked(central.extra_len.get().into())?;
    let comment = rest.get(..central.comment_len.get().into())?;
    Some(Record { central, name, extra, comment })
}

impl Record<'_> {
    /// The record as it lies there.
    pub fn bytes(&self) -> Vec<u8> {
        [self.central.as_bytes(), self.name, self.extra, self.comment].concat()
    }

    /// Bytes that it takes in the list.
    pub fn len(&self) -> usize {
        size_of::<Central>() + self.name.len() + self.extra.len() + self.comment.len()
    }
}
