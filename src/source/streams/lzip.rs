//! lzip: members one behind the other. Each tells its length at its end, so all of them are found from the end of the file,
//! without decoding anything.

use super::coded::{Coded, occupied};
use super::input::Input;
use super::lzma::{Plain, offset_of, point_of};
use crate::codec::lzma::Coder;
use crate::error::Result;
use crate::source::{Decoder, Point, ReadAt, Stream};
use std::sync::{Arc, OnceLock};

/// `LZIP` and the version.
pub(super) const MAGIC: [u8; 5] = *b"LZIP\x01";

const HEADER: u64 = 6;
const TRAILER: u64 = 20;

/// Members that are looked for: each costs two reads.
const MEMBERS: usize = 1 << 16;

/// A file of lzip.
pub struct Lzip {
    source: Arc<dyn ReadAt>,
    members: OnceLock<Option<Vec<Member>>>,
}

#[derive(Clone, Copy)]
struct Member {
    offset: u64,
    at: u64,
    len: u64,
}

impl Lzip {
    pub fn new(source: Arc<dyn ReadAt>) -> Self {
        Self { source, members: OnceLock::new() }
    }

    /// All members, if they follow each other up to the end of the file.
    fn members(&self) -> Result<&[Member]> {
        if self.members.get().is_none() {
            let found = members(&*self.source)?;
            let _ = self.members.set(found);
        }
        Ok(self.members.get().and_then(|m| m.as_deref()).unwrap_or_default())
    }
}

impl Stream for Lzip {
    fn start(&self, from: Option<&Point>) -> Result<Box<dyn Decoder>> {
        let offset = from.map_or(Ok(0), offset_of)?;
        let mut input = Input::new(self.source.clone(), offset)?;
        let code = input.ahead(HEADER as usize)?.get(5).copied().unwrap_or(0);
        let known = self.members.get().and_then(|m| m.as_deref());
        let largest = known.and_then(|m| m.iter().map(|m| m.len).max());
        let dictionary = occupied(dictionary(code), largest);
        Ok(Box::new(Plain { coded: Coded::new(Coder::lzip()?, input), dictionary }))
    }

    fn len(&self) -> Option<u64> {
        let last = self.members().ok()?.last()?;
        last.at.checked_add(last.len)
    }

    fn points(&self) -> Result<Vec<Point>> {
        let inner = self.members()?.iter().filter(|m| m.at > 0 && m.len > 0);
        Ok(inner.map(|m| point_of(m.at, m.offset)).collect())
    }
}

/// A power of two, less some sixteenths of it.
fn dictionary(code: u8) -> u64 {
    let base = 1u64 << (code & 31);
    base - base / 16 * u64::from(code >> 5)
}

/// The members from the last to the first, or `None` when something else stands between them or there are too many.
fn members(source: &dyn ReadAt) -> Result<Option<Vec<Member>>> {
    let mut end = source.len()?;
    let mut found = Vec::new();
    while end > 0 {
        let Some(member) = member_before(source, end)? else { return Ok(None) };
        if found.len() == MEMBERS {
            log::debug!("more than {MEMBERS} members of lzip: it is read from its front");
            return Ok(None);
        }
        end = member.offset;
        found.push(member);
    }
    found.reverse();
    let mut at = 0u64;
    for member in &mut found {
        member.at = at;
        at = at.saturating_add(member.len);
    }
    Ok(Some(found))
}

fn member_before(source: &dyn ReadAt, end: u64) -> Result<Option<Member>> {
    let Some(at) = end.checked_sub(TRAILER) else { return Ok(None) };
    let mut trailer = [0; TRAILER as usize];
    source.read_exact_at(at, &mut trailer)?;
    let number = |at: usize| u64::from_le_bytes(std::array::from_fn(|n| trailer[at + n]));
    let (len, size) = (number(4), number(12));
    let Some(offset) = end.checked_sub(size).filter(|_| size >= HEADER + TRAILER) else { return Ok(None) };
    let mut header = [0; MAGIC.len()];
    source.read_exact_at(offset, &mut header)?;
    Ok((header == MAGIC).then_some(Member { offset, at: 0, len }))
}
