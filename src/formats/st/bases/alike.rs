//! What new contents resemble in the bases: what has changed a little is packed against what it was.
//!
//! ```text
//!   tapes of the bases ──► anchors, and where they are          looked through once, when the first new segment comes
//!                               │
//!   new segment ──► its anchors ┴─► places ──► stretches ──► bytes that it is packed behind
//! ```
//!
//! A chunk is found in a base when all of it is there. Of one in which some bytes differ, most of the others are there still,
//! and zstd leaves them out when it sees them. Stretches with many anchors in common are what it is shown.

use super::super::anchors::Anchors;
use super::super::layout::Base;
use super::super::limits;
use super::super::pack::Prefix;
use super::under::{Ground, Placed};
use crate::error::Result;
use crate::pool;
use std::cmp::Reverse;
use std::sync::Arc;

/// Anchors that are remembered, of 16 bytes each. Where bases have more, fewer places are anchors.
const MOST: u64 = 2 << 20;

/// One place of 128 is an anchor at most: what is remembered of a small base finds what 200 bytes have in common.
const LEAST_BITS: u32 = 7;

/// Anchors in common that make a stretch: fewer would save less than the row and the base cost.
const FEWEST: usize = 4;

/// Anchors farther from each other belong to different stretches. What lies between is alike as well, if less: of one version
/// of a game over another, 16 KiB leave 8.4 MB, these 7.7.
const JOINED: u64 = 256 << 10;

/// Where stretches would be too long, this is how near it gets.
const NEAREST: u64 = 4 << 10;

/// So large a part of that distance before and behind the outermost anchors is likely to be alike.
const MARGIN: u64 = 8;

/// Stretches are at most so many times as long as what is packed against them, since reading it decodes them.
const TIMES: u64 = 4;

/// What is packed against them, at least, for that.
const LEAST: u64 = 256 << 10;

/// What is known of the bases, by addresses on the tape of the new container.
#[derive(Default)]
pub struct Alike {
    /// `None` where nothing is near enough to be looked through.
    anchors: Option<Anchors>,
    /// Where anchors are, sorted by their hashes.
    places: Vec<(u64, u64)>,
    /// What of the tape is there.
    runs: Vec<Stretch>,
}

/// A part of the tape of one base.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Stretch {
    base: usize,
    from: u64,
    to: u64,
}

impl Alike {
    /// Looks through the bases.
    pub fn of(bases: &[Placed]) -> Result<Self> {
        let (mut rows, mut runs) = (Vec::new(), Vec::<Stretch>::new());
        for (base, placed) in bases.iter().enumerate().filter(|(_, placed)| placed.under.is_near) {
            for row in placed.under.segments()? {
                let (from, to) = (row.address + placed.shift, row.address + row.raw_len + placed.shift);
                match runs.last_mut() {
                    Some(last) if last.base == base && last.to == from => last.to = to,
                    _ => runs.push(Stretch { base, from, to }),
                }
                rows.push((placed, row));
            }
        }
        let bytes: u64 = rows.iter().map(|(_, row)| row.raw_len).sum();
        if bytes == 0 {
            return Ok(Self::default());
        }
        let bits = bytes.div_ceil(MOST).next_power_of_two().ilog2().max(LEAST_BITS);
        let (anchors, mut places) = (Anchors::new(bits), Vec::new());
        let threads = pool::threads();
        let feed = |feed: &pool::Feed<usize, Result<Vec<(u64, u64)>>>| {
            (0..rows.len()).all(|i| feed.push(i));
            Ok(())
        };
        let work = |i: usize| {
            let (placed, row) = &rows[i];
            let bytes = placed.under.read(row.address, row.raw_len)?;
            let start = row.address + placed.shift;
            let mut found: Vec<_> = anchors.of(&bytes).map(|(hash, at)| (hash, start + at as u64)).collect();
            // Where one byte is repeated, every place may be one.
            found.sort_unstable();
            found.dedup_by_key(|(hash, _)| *hash);
            Ok(found)
        };
        let drain = |found: Result<Vec<_>>| {
            match found {
                Ok(found) => places.extend(found),
                // A base that is damaged there is as good as ever elsewhere.
                Err(e) => log::warn!("a base: {e}"),
            }
            Ok(())
        };
        pool::ordered(threads, threads + 1, feed, work, drain)?;
        places.sort_unstable();
        places.dedup_by_key(|(hash, _)| *hash);
        Ok(Self { anchors: Some(anchors), places, runs })
    }

    /// Stretches of the tape that have much in common with these bytes, the best first; none is longer than `most`, about.
    fn stretches(&self, bytes: &[u8], most: u64) -> Vec<Stretch> {
        let place = |hash| Some(self.places[self.places.binary_search_by_key(&hash, |(hash, _)| *hash).ok()?].1);
        let anchors = self.anchors.iter().flat_map(|anchors| anchors.of(bytes));
        let mut hits: Vec<u64> = anchors.filter_map(|(hash, _)| place(hash)).collect();
        hits.sort_unstable();
        hits.dedup();
        let mut found = Vec::new();
        self.gather(&hits, JOINED, most, &mut found);
        found.sort_by_key(|(hits, _)| Reverse(*hits));
        found.into_iter().map(|(_, stretch)| stretch).collect()
    }

    /// Makes stretches of what is near each other; of too long ones, those of what is nearer.
    fn gather(&self, hits: &[u64], joined: u64, most: u64, found: &mut Vec<(usize, Stretch)>) {
        let run = |hit: u64| self.runs.partition_point(|run| run.to < hit);
        let near = hits.chunk_by(|one, next| next - one <= joined && run(*one) == run(*next));
        for near in near.filter(|near| near.len() >= FEWEST) {
            let (run, margin) = (self.runs[run(near[0])], joined / MARGIN);
            let (from, to) = (near[0].saturating_sub(margin), near[near.len() - 1] + margin);
            let stretch = Stretch { base: run.base, from: from.max(run.from), to: to.min(run.to) };
            if stretch.to - stretch.from <= most || joined <= NEAREST {
                found.push((near.len(), stretch));
            } else {
                self.gather(near, joined / 4, most, found);
            }
        }
    }
}

impl Ground {
    /// What these contents resemble, to be packed against it.
    pub fn alike(&mut self, bytes: &[u8]) -> Option<Prefix> {
        if self.alike.is_none() {
            let found = Alike::of(self.placed()).inspect_err(|e| log::warn!("a base: {e}"));
            self.alike = Some(found.unwrap_or_default());
        }
        let room = (TIMES * (bytes.len() as u64).max(LEAST)).min(limits::BASE_LEN);
        let stretches = self.alike.as_ref()?.stretches(bytes, room);
        let (mut taken, mut total) = (Vec::new(), 0);
        for Stretch { base, from, to } in stretches {
            if taken.len() >= usize::from(limits::BASES) {
                break;
            }
            if total + (to - from) > room {
                continue;
            }
            match self.use_of(base, from, to) {
                Ok(Some(bytes)) => taken.push((from, bytes)),
                Ok(None) => continue,
                Err(e) => log::warn!("a base: {e}"),
            }
            total += to - from;
        }
        taken.sort_unstable();
        let base = |(at, bytes): &(u64, Vec<u8>)| Base { address: (*at).into(), len: (bytes.len() as u64).into() };
        let bases: Vec<Base> = taken.iter().map(base).collect();
        let bytes = taken.into_iter().flat_map(|(_, bytes)| bytes).collect();
        (!bases.is_empty()).then(|| Prefix { bases, bytes: Arc::new(bytes), elsewhere: true })
    }
}
