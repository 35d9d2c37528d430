//! Parity over a range of a file: finds which cells are damaged, and makes them whole.
//!
//! ```text
//!   encode   range ──► body: descriptor, hashes, parity, hashes, descriptor
//!   Group    a body that was found: by its place, from its end, or by searching a damaged file
//!   Mender   a source over the damaged one: every cell that is read is compared, and rebuilt if it is not what it was
//!            verify      what is damaged, and what of it is lost
//!            survey_all  the same, for
//!            repairs     the pieces to be written, so that every byte is as it was
//!   Side     the bodies of any file, in a file beside it
//! ```
//!
//! A cell that cannot be read counts as zeros, as does what is missing at the end: whether that is right says its hash. The
//! hashes are there twice. They find damage that happens, and no forgery.

mod encode;
mod holes;
mod layout;
mod mend;
mod repair;
mod sidecar;
mod slab;
mod verify;

pub use crate::codec::parity::Algorithm;
pub use encode::encode;
pub use holes::{Placed, makes_up};
pub use layout::{DESCRIPTOR_LEN, Descriptor, LEAST_SHARE, MOST_SHARE, NO_GROUP, Plan, SIDE_HEADER_LEN};
pub use mend::Mender;
pub use repair::{Give, Piece};
pub use sidecar::{GROUP_LEN, Side, side_len};
pub use verify::{Report, Surveyed};

use super::ReadAt;
use crate::codec::id::Id;
use crate::error::{Error, Kind, Result};
use std::ops::Range;
use zerocopy::FromBytes;

/// Writes bytes at an offset, counted from the beginning of a body or of a side file.
pub type Put<'a> = &'a dyn Fn(u64, &[u8]) -> Result<()>;
/// Is told after each step how many bytes have been done, and answers whether to go on.
pub type Watch<'a> = &'a dyn Fn(u64) -> bool;

/// Most groups that are looked for in a file.
pub const MOST_GROUPS: usize = 1 << 16;
/// A search reads so many bytes at once.
const WINDOW: usize = 1 << 20;
/// What cannot be read in one piece is read in pieces of this length.
const SECTOR: usize = 4096;

/// The parity of one range: its geometry, and where its body is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    plan: Plan,
    descriptor: Descriptor,
}

impl Group {
    /// Reads the descriptor at the front of a body. The identity is that of the file, if it is known.
    ///
    /// # Errors
    /// `NotRecognised` when there is no whole descriptor of this file, `Limit` and `Damaged` when it says what cannot be,
    /// `Unsupported` when it is of a later version.
    pub fn read(source: &dyn ReadAt, body_at: u64, identity: Option<[u8; 16]>) -> Result<Self> {
        let mut bytes = [0; DESCRIPTOR_LEN as usize];
        salvage(source, body_at, &mut bytes);
        let group = Self::parse(&bytes, identity)?;
        if group.body_at() != body_at { Err(none_here()) } else { group.plausible(source) }
    }

    /// Reads the descriptor at the end of a body that ends at `body_end`.
    ///
    /// # Errors
    /// As of [`Group::read`].
    pub fn read_back(source: &dyn ReadAt, body_end: u64, identity: Option<[u8; 16]>) -> Result<Self> {
        let at = body_end.checked_sub(DESCRIPTOR_LEN).ok_or_else(none_here)?;
        let mut bytes = [0; DESCRIPTOR_LEN as usize];
        salvage(source, at, &mut bytes);
        let group = Self::parse(&bytes, identity)?;
        if group.body().end != body_end { Err(none_here()) } else { group.plausible(source) }
    }

    fn parse(bytes: &[u8], identity: Option<[u8; 16]>) -> Result<Self> {
        let (descriptor, _) = Descriptor::read_from_prefix(bytes).map_err(|_| none_here())?;
        let ours = identity.is_none_or(|id| id == descriptor.identity);
        if descriptor.magic != layout::MAGIC || !ours || descriptor.check != descriptor.expected_check() {
            return Err(none_here());
        }
        if descriptor.version > layout::VERSION {
            return Err(Error::new(Kind::Unsupported, format!("parity of version {}", descriptor.version)));
        }
        Ok(Self { plan: Plan::read(&descriptor)?, descriptor })
    }

    /// The same, unless the range and the body cannot be where they are said to be. A file that has lost its end still has
    /// the first list of hashes, or nothing can be done with the group: so all work with it is bounded by what there is.
    fn plausible(self, source: &dyn ReadAt) -> Result<Self> {
        let body_at = self.body_at();
        let list_end = body_at.checked_add(self.plan.parity_at());
        let body_end = body_at.checked_add(self.plan.body_len()).filter(|end| *end <= layout::MOST_OFFSET);
        let (Some(list_end), Some(body_end)) = (list_end, body_end) else { return Err(misplaced()) };
        let range = self.plan.range();
        let overlaps = range.start < body_end && body_at < range.end;
        if list_end > source.len()? || (overlaps && !self.plan.is_apart()) {
            return Err(misplaced());
        }
        Ok(self)
    }

    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    pub fn descriptor(&self) -> &Descriptor {
        &self.descriptor
    }

    pub fn identity(&self) -> [u8; 16] {
        self.descriptor.identity
    }

    /// BLAKE3 of the range.
    pub fn data_hash(&self) -> [u8; 32] {
        self.descriptor.data_hash
    }

    /// Where the body begins in its file.
    pub fn body_at(&self) -> u64 {
        self.descriptor.body_at.get()
    }

    /// Where the body is in its file.
    pub fn body(&self) -> Range<u64> {
        self.body_at()..self.body_at() + self.plan.body_len()
    }

    /// Where the body of the group before begins.
    pub fn prev(&self) -> Option<u64> {
        Some(self.descriptor.prev.get()).filter(|prev| *prev != NO_GROUP)
    }
}

/// Looks for the groups of a file in all of it from an offset on, however damaged it is: each that has one of its two
/// descriptors, in the order of their bodies. At most [`MOST_GROUPS`].
///
/// # Errors
/// `Interrupted` when the watch says so, which is told how many bytes have been looked through.
pub fn scan(source: &dyn ReadAt, from: u64, identity: Option<[u8; 16]>, watch: Watch) -> Result<Vec<Group>> {
    let finder = memchr::memmem::Finder::new(&layout::MAGIC);
    let mut found = Vec::new();
    let len = source.len()?;
    let mut window = vec![0; WINDOW + DESCRIPTOR_LEN as usize];
    for at in (from..len).step_by(WINDOW) {
        go_on(watch, at - from)?;
        salvage(source, at, &mut window);
        for hit in finder.find_iter(&window).filter(|hit| *hit < WINDOW) {
            let group = Group::parse(&window[hit..], identity).and_then(|group| group.plausible(source));
            let here = at + hit as u64;
            let belongs = |g: &Group| g.body_at() == here || g.body().end == here + DESCRIPTOR_LEN;
            found.extend(group.ok().filter(belongs));
        }
        found.sort_unstable_by_key(Group::body_at);
        found.dedup();
        found.truncate(MOST_GROUPS);
    }
    Ok(found)
}

/// The hash of a cell.
fn hash(cell: &[u8]) -> [u8; 8] {
    Id::of(cell).short()
}

/// Reads what can be read; the rest is zeros. Gives the ranges, counted from the first byte, that the source has not or
/// fails to read.
fn salvage(source: &dyn ReadAt, at: u64, into: &mut [u8]) -> Vec<Range<usize>> {
    let mut absent = Vec::new();
    match fill(source, at, into) {
        Ok(got) if got == into.len() => {}
        Ok(got) => absent.push(got..into.len()),
        Err(_) => absent = salvage_sectors(source, at, into),
    }
    absent.iter().for_each(|range| into[range.clone()].fill(0));
    absent
}

/// The same, sector by sector: what one of them keeps back does not take its neighbours with it.
fn salvage_sectors(source: &dyn ReadAt, at: u64, into: &mut [u8]) -> Vec<Range<usize>> {
    let mut absent: Vec<Range<usize>> = Vec::new();
    let (mut from, all) = (0, into.len());
    while from < all {
        // Sectors are counted from the beginning of the file.
        let to = all.min(from + SECTOR - ((at + from as u64) % SECTOR as u64) as usize);
        let got = fill(source, at + from as u64, &mut into[from..to]).unwrap_or(0);
        match absent.last_mut() {
            _ if from + got == to => {}
            Some(last) if last.end == from + got => last.end = to,
            _ => absent.push(from + got..to),
        }
        from = to;
    }
    absent
}

/// Reads until the buffer is full or the source ends.
fn fill(source: &dyn ReadAt, at: u64, into: &mut [u8]) -> Result<usize> {
    let mut got = 0;
    while got < into.len() {
        match source.read_at(at + got as u64, &mut into[got..])? {
            0 => break,
            n => got += n,
        }
    }
    Ok(got)
}

fn go_on(watch: Watch, done: u64) -> Result<()> {
    if watch(done) { Ok(()) } else { Err(Error::new(Kind::Interrupted, "interrupted")) }
}

fn none_here() -> Error {
    Error::new(Kind::NotRecognised, "there is no parity of this file here")
}

fn misplaced() -> Error {
    Error::new(Kind::Limit, "a description of parity names places that the file cannot have")
}
