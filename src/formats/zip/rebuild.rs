//! A list of entries made anew, where the archive has lost its own: from local headers, one behind the other, and from what
//! is left of the list.
//!
//! A header says how long the data behind it are, so that most of the archive need not be read. Where it does not (the
//! lengths stand in a descriptor behind the data), and where there is nothing at the place that it says, the next header is
//! looked for, byte by byte.

use super::layout::{
    CENTRAL, Central, DESCRIPTOR, Descriptor, Descriptor64, IN_ZIP64, LOCAL, Local, extra, flag, host,
};
use super::records::record;
use super::window::{FEW, Window};
use crate::error::{Error, Kind, Result};
use crate::source::ReadAt;
use memchr::memmem;
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, IntoBytes};

/// Names in local headers that were found byte by byte are no longer than this: what looks like a header may be none.
const LONGEST_NAME: u16 = 4096;

/// Signatures that led nowhere while descriptors were looked for. After these, none is looked for any more.
const DOUBTS: u32 = 1 << 20;

/// A list as it would be in the archive, and for each of its entries what has no room there.
pub struct Rebuilt {
    pub list: Vec<u8>,
    pub exact: Vec<Exact>,
}

/// Where an entry is, and how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exact {
    pub header_at: u64,
    pub packed: u64,
    /// Nothing where nobody says it.
    pub size: Option<u64>,
}

struct Rebuild<'a> {
    window: Window<'a>,
    len: u64,
    most: usize,
    found: Vec<Exact>,
    /// Of each entry, its place in `list`.
    places: Vec<usize>,
    list: Vec<u8>,
    /// What is to be added to the offsets in what is left of the list.
    base: Option<u64>,
    doubts: u32,
}

/// Makes the list of at most so many entries.
pub fn rebuild(source: &dyn ReadAt, most: usize) -> Result<Rebuilt> {
    let len = source.len()?;
    let window = Window::new(source, len, FEW);
    let (found, places, list) = (Vec::new(), Vec::new(), Vec::new());
    let mut rebuild = Rebuild { window, len, most, found, places, list, base: None, doubts: 0 };
    let mut at = 0;
    while let Some((next, signature)) = rebuild.next_header(at)? {
        at = match signature {
            CENTRAL => rebuild.take_central(next)?,
            _ => rebuild.take_local(next)?,
        };
    }
    Ok(Rebuilt { list: rebuild.list, exact: rebuild.found })
}

impl Rebuild<'_> {
    /// The next place at or behind `from` with the header of an entry, or with an entry of the list.
    fn next_header(&mut self, from: u64) -> Result<Option<(u64, [u8; 4])>> {
        let mut at = from;
        while let Some((next, signature)) = self.next_signature(at, &[LOCAL, CENTRAL])? {
            if signature == CENTRAL || self.local(next)?.is_some() {
                return Ok(Some((next, signature)));
            }
            at = next + 1;
        }
        Ok(None)
    }

    /// The next place at or behind `from` with one of these signatures.
    fn next_signature(&mut self, from: u64, wanted: &[[u8; 4]]) -> Result<Option<(u64, [u8; 4])>> {
        let mut at = from;
        loop {
            let bytes = self.window.at_hand(at, 4)?;
            let hit = memmem::find_iter(bytes, b"PK").find_map(|hit| {
                let signature: [u8; 4] = bytes.get(hit..hit + 4)?.try_into().ok()?;
                wanted.contains(&signature).then_some((at + hit as u64, signature))
            });
            match hit {
                None if bytes.len() < 4 => return Ok(None),
                // A signature may begin in these bytes and end in the next.
                None => at += bytes.len() as u64 - 3,
                hit => return Ok(hit),
            }
        }
    }

    fn read<T: FromBytes>(&mut self, at: u64) -> Result<Option<T>> {
        Ok(T::read_from_bytes(self.window.bytes(at, size_of::<T>())?).ok())
    }

    /// A local header that may be one.
    fn local(&mut self, at: u64) -> Result<Option<Local>> {
        let is_likely = |local: &Local| {
            let name_len = local.name_len.get();
            local.signature == LOCAL && (1..=LONGEST_NAME).contains(&name_len) && local.needed.get() & 0xff < 100
        };
        Ok(self.read::<Local>(at)?.filter(is_likely))
    }

    fn take_local(&mut self, at: u64) -> Result<u64> {
        let Some(local) = self.local(at)? else { return Ok(at + 1) };
        let (name_len, extra_len) = (usize::from(local.name_len.get()), usize::from(local.extra_len.get()));
        let text = self.window.bytes(at + size_of::<Local>() as u64, name_len + extra_len)?.to_vec();
        if text.len() < name_len + extra_len {
            return Ok(at + 1);
        }
        if self.found.len() >= self.most {
            let what = format!("the archive has more than {} entries", self.most);
            return Err(Error::new(Kind::Limit, what).hint("-o max-entries=N, when it is to be opened all the same"));
        }
        let data_at = at + (size_of::<Local>() + text.len()) as u64;
        let (name, extra) = text.split_at(name_len);
        let (exact, crc, end) = self.extent(at, &local, extra, data_at)?;
        self.push(&local, crc, name, extra, exact);
        Ok(end)
    }

    /// How long the data of an entry are, their CRC, and where to go on.
    fn extent(&mut self, at: u64, local: &Local, extra: &[u8], data_at: u64) -> Result<(Exact, u32, u64)> {
        let (packed, size) = told(local, extra);
        let exact = Exact { header_at: at, packed, size: Some(size) };
        let is_told = local.flags.get() & flag::DESCRIPTOR == 0 || packed > 0;
        let end = data_at.checked_add(packed).filter(|end| is_told && *end <= self.len);
        if let Some(end) = end
            && self.goes_on(end)?
        {
            return Ok((exact, local.crc.get(), end));
        }
        if let Some((end, descriptor)) = self.descriptor(data_at)? {
            let exact = Exact { packed: descriptor.packed.get(), size: Some(descriptor.size.get()), ..exact };
            return Ok((exact, descriptor.crc.get(), end));
        }
        if is_told {
            return Ok((exact, local.crc.get(), data_at));
        }
        // As long as there is room for it: how it is compressed tells where it ends.
        let end = self.next_header(data_at)?.map_or(self.len, |(next, _)| next);
        Ok((Exact { packed: end - data_at, size: None, ..exact }, 0, end))
    }

    /// Whether something that belongs to an archive is at an offset, or the end of the file.
    fn goes_on(&mut self, at: u64) -> Result<bool> {
        let bytes = self.window.bytes(at, 24)?;
        let is_signature = |at: usize| bytes.get(at..).is_some_and(|rest| rest.starts_with(b"PK"));
        // A descriptor without a signature has 12 or 20 bytes.
        Ok(is_signature(0) || is_signature(12) || is_signature(20) || bytes.iter().all(|byte| *byte == 0))
    }

    /// The descriptor behind data that begin at an offset: the next one that says that they are as long as they are.
    fn descriptor(&mut self, data_at: u64) -> Result<Option<(u64, Descriptor64)>> {
        let mut at = data_at;
        while self.doubts < DOUBTS {
            let Some((next, signature)) = self.next_signature(at, &[DESCRIPTOR, LOCAL, CENTRAL])? else {
                // To look for each of many in vain would take for ever.
                self.doubts = DOUBTS;
                break;
            };
            if let Some(found) = self.descriptor_at(data_at, next, signature == DESCRIPTOR)? {
                return Ok(Some(found));
            }
            self.doubts += 1;
            at = next + 1;
        }
        Ok(None)
    }

    /// A descriptor with its signature at an offset, or one without just before the header that is there.
    fn descriptor_at(&mut self, data_at: u64, at: u64, is_signed: bool) -> Result<Option<(u64, Descriptor64)>> {
        for len in [size_of::<Descriptor>() as u64, size_of::<Descriptor64>() as u64] {
            let Some(start) = (if is_signed { Some(at + 4) } else { at.checked_sub(len) }) else { continue };
            let found = match len == size_of::<Descriptor>() as u64 {
                true => self.read::<Descriptor>(start)?.map(widened),
                false => self.read::<Descriptor64>(start)?,
            };
            let data_end = if is_signed { at } else { start };
            let fits = |found: &Descriptor64| data_end.checked_sub(data_at) == Some(found.packed.get());
            let Some(found) = found.filter(fits) else { continue };
            if self.goes_on(start + len)? {
                return Ok(Some((start + len, found)));
            }
        }
        Ok(None)
    }

    fn push(&mut self, local: &Local, crc: u32, name: &[u8], extra: &[u8], exact: Exact) {
        let central = Central {
            signature: CENTRAL,
            version: 0,
            made_by: host::DOS,
            needed: local.needed,
            flags: local.flags,
            method: local.method,
            time: local.time,
            date: local.date,
            crc: U32::new(crc),
            // The exact numbers are beside it.
            packed: U32::ZERO,
            size: U32::ZERO,
            name_len: local.name_len,
            extra_len: local.extra_len,
            comment_len: U16::ZERO,
            disk: U16::ZERO,
            internal: U16::ZERO,
            external: U32::ZERO,
            header_at: U32::ZERO,
        };
        self.places.push(self.list.len());
        self.found.push(exact);
        [central.as_bytes(), name, extra].into_iter().for_each(|part| self.list.extend_from_slice(part));
    }

    /// What is left of the list tells more of an entry than its header does. Returns where to go on.
    fn take_central(&mut self, at: u64) -> Result<u64> {
        let Some(record) = record(&mut self.window, at)? else { return Ok(at + 1) };
        let (told, name, end) = (*record.central, record.name.to_vec(), at + record.len() as u64);
        let header_at = u64::from(told.header_at.get());
        if self.base.is_none() {
            let is_it = |number: &usize| self.name(*number) == Some(&name);
            let first = (0..self.found.len()).find(is_it);
            self.base = Some(first.map_or(0, |number| self.found[number].header_at.wrapping_sub(header_at)));
        }
        let header_at = header_at.wrapping_add(self.base.unwrap_or_default());
        if let Ok(number) = self.found.binary_search_by_key(&header_at, |found| found.header_at)
            && self.name(number) == Some(&name)
        {
            self.adopt(number, &told);
        }
        Ok(end)
    }

    fn name(&self, number: usize) -> Option<&[u8]> {
        let (central, rest) = Central::ref_from_prefix(self.list.get(self.places[number]..)?).ok()?;
        rest.get(..central.name_len.get().into())
    }

    fn adopt(&mut self, number: usize, told: &Central) {
        let (exact, place) = (&mut self.found[number], self.places[number]);
        let Ok((central, _)) = Central::mut_from_prefix(&mut self.list[place..]) else { return };
        (central.version, central.made_by) = (told.version, told.made_by);
        (central.external, central.internal) = (told.external, told.internal);
        if exact.size.is_none() && told.size.get() != IN_ZIP64 && told.packed.get() != IN_ZIP64 {
            central.crc = told.crc;
            (exact.packed, exact.size) = (told.packed.get().into(), Some(told.size.get().into()));
        }
    }
}

fn widened(narrow: Descriptor) -> Descriptor64 {
    let wide = |n: U32| U64::new(n.get().into());
    Descriptor64 { crc: narrow.crc, packed: wide(narrow.packed), size: wide(narrow.size) }
}

/// The lengths in a local header, packed and not, or in its field of zip64, which has both.
fn told(local: &Local, mut extras: &[u8]) -> (u64, u64) {
    let (packed, size) = (local.packed.get(), local.size.get());
    while let Some((head, rest)) = extras.split_at_checked(4) {
        let (id, len) = (u16::from_le_bytes([head[0], head[1]]), u16::from_le_bytes([head[2], head[3]]));
        let Some((body, rest)) = rest.split_at_checked(len.into()) else { break };
        if id == extra::ZIP64 {
            let mut numbers = body.chunks_exact(8).map(|eight| U64::read_from_bytes(eight).map_or(0, |n| n.get()));
            let mut wide = |n: u32| if n == IN_ZIP64 { numbers.next().unwrap_or(n.into()) } else { n.into() };
            let size = wide(size);
            return (wide(packed), size);
        }
        extras = rest;
    }
    (packed.into(), size.into())
}
