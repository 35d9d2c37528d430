//! A source over a damaged one that gives the bytes as they were.
//!
//! ```text
//!   read ──► whole cells of the file ──► hash right? ──► served
//!                                            │ no
//!                      kept rows ◄── all cells of the rows, rebuilt ──► served
//!                                            │ too many are bad
//!                                   another group with these bytes, or as they are in the file, and noted
//! ```

use super::layout::{HASH_LEN, Plan};
use super::slab::{Files, Slab, State, batch};
use super::{Group, fill, hash, salvage};
use crate::codec::parity::{Algorithm, Code};
use crate::error::Result;
use crate::pool::{self, lock};
use crate::source::ReadAt;
use lru::LruCache;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// Rebuilt cells that are kept, in bytes: who reads a damaged stretch of many rows finds the rows again.
const KEPT: u64 = 64 << 20;
/// So many bytes are compared at once.
const STEP: u64 = 1 << 20;

/// Reads through the parity of some groups. See the head of the module.
pub struct Mender {
    pub(super) files: Files,
    /// In the order of their ranges.
    pub(super) groups: Vec<Group>,
    /// The greatest end of the ranges up to each group.
    reach: Vec<u64>,
    codes: Mutex<Vec<(Algorithm, Code)>>,
    kept: Mutex<Kept>,
    rebuilt: AtomicU64,
    lost: AtomicU64,
}

/// The rows that were rebuilt last.
struct Kept {
    rows: LruCache<(usize, u64), Arc<Row>>,
    weight: u64,
}

/// What has been found out of one row.
struct Row {
    /// Cells of data that were computed, and one that was asked for and is good when it is read alone: a bad sector may
    /// take more with it when it is read together with others.
    cells: Vec<(u64, Vec<u8>)>,
    /// Columns of cells that are bad and could not be computed.
    lost: Vec<u64>,
}

impl Row {
    fn get(&self, column: u64) -> Option<&[u8]> {
        self.cells.iter().find(|(c, _)| *c == column).map(|(_, bytes)| bytes.as_slice())
    }

    fn of(slab: &Slab, plan: &Plan, row: u64, asked: u64) -> Arc<Self> {
        let wanted = |column: &u64| match slab.state(*column, row) {
            State::Made => true,
            State::Good => *column == asked,
            State::Bad => false,
        };
        let cells = (0..plan.columns()).filter(wanted).map(|column| (column, slab.cell(column, row).to_vec()));
        Arc::new(Self { cells: cells.collect(), lost: slab.bad(row).collect() })
    }

    /// Whether it tells everything of a cell that can be told.
    fn knows(&self, column: u64) -> bool {
        self.lost.contains(&column) || self.get(column).is_some()
    }

    fn weight(&self) -> u64 {
        // What an entry takes besides its cells.
        256 + self.cells.iter().map(|(_, bytes)| bytes.len() as u64 + 32).sum::<u64>()
    }
}

impl Kept {
    fn put(&mut self, at: (usize, u64), row: Arc<Row>) {
        self.weight += row.weight();
        self.weight -= self.rows.put(at, row).map_or(0, |old| old.weight());
        while self.weight > KEPT && self.rows.len() > 1 {
            self.weight -= self.rows.pop_lru().map_or(0, |(_, old)| old.weight());
        }
    }
}

impl Mender {
    /// Reads `data` through the groups whose bodies are in `parity`: the same file, or another one.
    pub fn new(data: Arc<dyn ReadAt>, parity: Arc<dyn ReadAt>, mut groups: Vec<Group>) -> Self {
        groups.sort_by_key(|group| group.plan().range().start);
        let mut end = 0;
        let reach = groups.iter().map(|group| {
            end = group.plan().range().end.max(end);
            end
        });
        Self {
            reach: reach.collect(),
            files: Files { data, parity },
            groups,
            codes: Mutex::default(),
            kept: Mutex::new(Kept { rows: LruCache::unbounded(), weight: 0 }),
            rebuilt: AtomicU64::new(0),
            lost: AtomicU64::new(0),
        }
    }

    pub fn groups(&self) -> &[Group] {
        &self.groups
    }

    /// Cells that reads found bad and that were rebuilt, so far.
    pub fn rebuilt(&self) -> u64 {
        self.rebuilt.load(Ordering::Relaxed)
    }

    /// Cells that reads found bad and that could not be rebuilt, so far; each as often as it was met.
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// The groups whose ranges have this byte.
    fn covering(&self, at: u64) -> impl Iterator<Item = usize> + '_ {
        let behind = self.groups.partition_point(|group| group.plan().range().start <= at);
        let near = (0..behind).rev().take_while(move |n| self.reach[*n] > at);
        near.filter(move |n| self.groups[*n].plan().range().end > at)
    }

    /// Where the next group begins behind this byte.
    fn next_start(&self, at: u64) -> u64 {
        let behind = self.groups.partition_point(|group| group.plan().range().start <= at);
        self.groups.get(behind).map_or(u64::MAX, |group| group.plan().range().start)
    }

    /// Reads bytes of the range of a group.
    fn read_group(&self, n: usize, at: u64, into: &mut [u8]) {
        let plan = self.groups[n].plan();
        let from = at - plan.range().start;
        let cells = from / plan.cell()..(from + into.len() as u64).div_ceil(plan.cell());
        let step = (STEP / plan.cell()) as usize;
        for first in cells.clone().step_by(step) {
            let part = first..cells.end.min(first + step as u64);
            let bytes = self.checked(n, part.clone());
            copy_part(plan.range().start + part.start * plan.cell(), &bytes, at, into);
        }
    }

    /// Cells of data, counted through all columns, as they were; what is lost, as it is.
    fn checked(&self, n: usize, cells: Range<u64>) -> Vec<u8> {
        let group = &self.groups[n];
        let (plan, count) = (group.plan(), (cells.end - cells.start) as usize);
        let (cell, range) = (plan.cell() as usize, plan.range());
        let mut bytes = vec![0; count * cell];
        let start = range.start + cells.start * plan.cell();
        let there = (range.end - start.min(range.end)).min(bytes.len() as u64);
        salvage(&*self.files.data, start, &mut bytes[..there as usize]);
        // In the second list, the hashes of the data are in the order of the file.
        let mut list = vec![0; count * HASH_LEN as usize];
        self.files.body(group, plan.list_b() + cells.start * HASH_LEN, &mut list);
        let right = |i: usize| {
            let found = hash(&bytes[i * cell..][..cell]);
            let (column, row) = place_of(plan, cells.start + i as u64);
            list[i * HASH_LEN as usize..].starts_with(&found)
                || self.files.entry(group, plan.hash_a(column, row)) == found
        };
        let bad: Vec<u64> = (0..count).filter(|i| !right(*i)).map(|i| cells.start + i as u64).collect();
        self.replace(n, &bad, cells.start, &mut bytes);
        bytes
    }

    /// Puts in the place of bad cells what they were.
    fn replace(&self, n: usize, bad: &[u64], first: u64, bytes: &mut [u8]) {
        let plan = self.groups[n].plan();
        let cell = plan.cell() as usize;
        for (i, at) in bad.iter().enumerate() {
            let (column, row) = place_of(plan, *at);
            let into = &mut bytes[(at - first) as usize * cell..][..cell];
            let kept = lock(&self.kept).rows.get(&(n, row)).cloned().filter(|row| row.knows(column));
            let found = kept.unwrap_or_else(|| self.rebuild_rows(n, column, row..row + run(plan, &bad[i..])));
            match found.get(column) {
                Some(made) => into.copy_from_slice(made),
                None => self.replace_lost(n, *at, into),
            }
        }
    }

    /// Puts in the place of a cell that its group has lost what other groups say.
    fn replace_lost(&self, n: usize, at: u64, into: &mut [u8]) {
        let plan = self.groups[n].plan();
        let start = plan.range().start + at * plan.cell();
        let there = (plan.range().end - start).min(plan.cell());
        match self.from_others(n, start..start + there) {
            Some(known) => into[..known.len()].copy_from_slice(&known),
            None => drop(self.lost.fetch_add(1, Ordering::Relaxed)),
        }
    }

    /// Rebuilds some rows, of which this column was asked for, and keeps them; gives the first of them.
    fn rebuild_rows(&self, n: usize, column: u64, rows: Range<u64>) -> Arc<Row> {
        let slab = self.rebuilt_slab(n, rows.clone());
        let made: Vec<_> = rows.clone().map(|row| Row::of(&slab, self.groups[n].plan(), row, column)).collect();
        self.rebuilt.fetch_add(slab.made(), Ordering::Relaxed);
        let mut kept = lock(&self.kept);
        rows.zip(&made).for_each(|(row, made)| kept.put((n, row), made.clone()));
        made[0].clone()
    }

    /// Some rows of a group with what can be computed of them.
    fn rebuilt_slab(&self, n: usize, rows: Range<u64>) -> Slab {
        let group = &self.groups[n];
        let mut slab = Slab::load(&self.files, group, rows);
        if let Err(e) = self.with_code(group.plan(), |code| slab.rebuild(code, false)) {
            log::warn!("cells are lost that could be rebuilt: {e}");
        }
        slab
    }

    /// What groups other than this one say of a range; all of it or nothing.
    pub(super) fn from_others(&self, n: usize, range: Range<u64>) -> Option<Vec<u8>> {
        let mut known = Vec::new();
        while (known.len() as u64) < range.end - range.start {
            let at = range.start + known.len() as u64;
            let others = self.covering(at).filter(|other| *other != n);
            let cell = others.into_iter().find_map(|other| self.known_from(other, at))?;
            let rest = (range.end - at) as usize;
            known.extend_from_slice(&cell[..rest.min(cell.len())]);
        }
        Some(known)
    }

    /// What a group says of the bytes from here to the end of their cell, if it is certain.
    fn known_from(&self, n: usize, at: u64) -> Option<Vec<u8>> {
        let plan = self.groups[n].plan();
        let from = at - plan.range().start;
        let (column, row) = place_of(plan, from / plan.cell());
        let slab = self.rebuilt_slab(n, row..row + 1);
        let end = (plan.range().end - plan.range().start - from / plan.cell() * plan.cell()).min(plan.cell());
        let known = &slab.cell(column, row)[(from % plan.cell()) as usize..end as usize];
        (slab.state(column, row) != State::Bad).then(|| known.to_vec())
    }

    /// Runs with a code for this geometry, and keeps it for the next one who needs such a one.
    pub(super) fn with_code<T>(&self, plan: &Plan, run: impl FnOnce(&mut Code) -> Result<T>) -> Result<T> {
        let (k, m) = (plan.columns() as usize, plan.parity() as usize);
        let fits = |c: &(Algorithm, Code)| (c.0, c.1.data(), c.1.parity()) == (plan.algorithm(), k, m);
        let found = {
            let mut codes = lock(&self.codes);
            codes.iter().position(fits).map(|n| codes.swap_remove(n).1)
        };
        let mut code = found.map_or_else(|| Code::new(plan.algorithm(), k, m), Ok)?;
        let done = run(&mut code);
        let mut codes = lock(&self.codes);
        codes.push((plan.algorithm(), code));
        if codes.len() > pool::threads() {
            codes.remove(0);
        }
        done
    }

    /// Reads bytes that no group has.
    fn read_bare(&self, at: u64, into: &mut [u8]) -> Result<()> {
        let got = fill(&*self.files.data, at, into)?;
        into[got..].fill(0);
        Ok(())
    }
}

impl ReadAt for Mender {
    /// The length of the file, or where the last group ends, if that is behind.
    fn len(&self) -> Result<u64> {
        let bodies = self.groups.iter().filter(|group| !group.plan().is_apart()).map(|group| group.body().end);
        let covered = self.reach.last().copied().into_iter().chain(bodies).max();
        Ok(self.files.data.len()?.max(covered.unwrap_or(0)))
    }

    fn read_at(&self, at: u64, into: &mut [u8]) -> Result<usize> {
        let n = (self.len()?.saturating_sub(at)).min(into.len() as u64) as usize;
        let (mut at, mut into) = (at, &mut into[..n]);
        while !into.is_empty() {
            let group = self.covering(at).next();
            let until = group.map_or_else(|| self.next_start(at), |n| self.groups[n].plan().range().end);
            let (part, rest) = into.split_at_mut((until - at).min(into.len() as u64) as usize);
            match group {
                Some(n) => self.read_group(n, at, part),
                None => self.read_bare(at, part)?,
            }
            at += part.len() as u64;
            into = rest;
        }
        Ok(n)
    }

    fn will_read(&self, range: Range<u64>) {
        self.files.data.will_read(range);
    }

    fn is_changed(&self) -> bool {
        self.files.data.is_changed()
    }
}

/// Column and row of a cell of data.
fn place_of(plan: &Plan, cell: u64) -> (u64, u64) {
    (cell / plan.rows(), cell % plan.rows())
}

/// How many of these cells, from the first on, follow each other in one column and go in a slab.
fn run(plan: &Plan, cells: &[u64]) -> u64 {
    let (column, _) = place_of(plan, cells[0]);
    let next = (cells[0]..).zip(cells).take_while(|(a, b)| a == *b && place_of(plan, **b).0 == column);
    (next.count() as u64).min(batch(plan))
}

/// Copies what two stretches of a file have in common.
fn copy_part(from_at: u64, from: &[u8], into_at: u64, into: &mut [u8]) {
    let start = from_at.max(into_at);
    let end = (from_at + from.len() as u64).min(into_at + into.len() as u64);
    let (a, b, len) = ((start - from_at) as usize, (start - into_at) as usize, (end - start) as usize);
    into[b..b + len].copy_from_slice(&from[a..a + len]);
}
