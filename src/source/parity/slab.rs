//! Some codewords in memory: all cells of some rows, and what is known of each.
//!
//! ```text
//!            data            parity
//!   row 7    ■ ■ ■ ☐ ■ ■     ■ ■        ☐ bad: no list has its hash
//!   row 8    ■ ■ ■ ☐ ■ ■     ■ ■
//!   row 9    ■ ☐ ■ ■ ■ ■     ■ ☐        rows with the same cells missing are rebuilt together
//! ```

use super::layout::{HASH_LEN, Place, Plan};
use super::{Group, hash, salvage};
use crate::codec::parity::Code;
use crate::error::Result;
use crate::pool;
use crate::source::ReadAt;
use std::ops::Range;
use std::sync::Arc;

/// Bytes of a slab, unless one row has more,
const SLAB: u64 = 16 << 20;
/// and of the slabs of all threads together. A decoder needs twice as much again.
const SLABS: u64 = 64 << 20;

/// Where cells are read from.
#[derive(Clone)]
pub(super) struct Files {
    pub data: Arc<dyn ReadAt>,
    pub parity: Arc<dyn ReadAt>,
}

impl Files {
    /// Reads cells of a column, as they count: zeros for what is not there. Gives the ranges of what is not there.
    pub fn cells(&self, group: &Group, column: u64, rows: Range<u64>, into: &mut [u8]) -> Vec<Range<usize>> {
        match group.plan().place(column, rows) {
            Place::Body(at) => salvage(&*self.parity, group.body_at() + at.start, into),
            Place::Data(at) => {
                let (inside, behind) = into.split_at_mut((at.end - at.start) as usize);
                behind.fill(0);
                salvage(&*self.data, at.start, inside)
            }
        }
    }

    /// Reads bytes of a body.
    pub fn body(&self, group: &Group, at: u64, into: &mut [u8]) -> Vec<Range<usize>> {
        salvage(&*self.parity, group.body_at() + at, into)
    }

    /// Reads one hash of the body.
    pub fn entry(&self, group: &Group, at: u64) -> [u8; 8] {
        let mut entry = [0; 8];
        self.body(group, at, &mut entry);
        entry
    }
}

/// What is known of a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// It is what it was.
    Good,
    /// It is not, and what it was is not known.
    Bad,
    /// It was not, and has been computed.
    Made,
}

/// Cells of some rows, column behind column.
pub(super) struct Slab {
    plan: Plan,
    rows: Range<u64>,
    bytes: Vec<u8>,
    state: Vec<State>,
    hashes: Vec<[u8; 8]>,
    absent: Vec<bool>,
}

/// How many rows a slab takes.
pub(super) fn batch(plan: &Plan) -> u64 {
    let each = (SLABS / pool::threads() as u64).min(SLAB);
    (each / plan.width() / plan.cell()).max(1)
}

impl Slab {
    fn new(plan: Plan, rows: Range<u64>) -> Self {
        let cells = (rows.end - rows.start) as usize * plan.width() as usize;
        let bytes = vec![0; cells * plan.cell() as usize];
        let (state, hashes) = (vec![State::Bad; cells], vec![[0; 8]; cells]);
        Self { plan, rows, bytes, state, hashes, absent: vec![false; cells] }
    }

    /// Reads all cells of some rows, no more than [`batch`] says, and compares them with their hashes.
    pub fn load(files: &Files, group: &Group, rows: Range<u64>) -> Self {
        let mut slab = Self::new(*group.plan(), rows);
        for column in 0..slab.plan.width() {
            slab.load_column(files, group, column);
            for (row, listed) in slab.rows().zip(slab.list(files, group, column)) {
                let found = hash(slab.cell(column, row));
                let place = slab.plan.hash_b(column, row);
                let sure = listed == found || slab.plan.is_behind(column, row);
                let good = sure || files.entry(group, place) == found;
                let at = slab.index(column, row);
                slab.hashes[at] = found;
                slab.state[at] = if good { State::Good } else { State::Bad };
            }
        }
        slab
    }

    /// Reads the same cells when it is known which are bad, rebuilds these, and compares nothing but them. `None` when one
    /// of them does not come out as its hash says: then something is otherwise than was known.
    pub fn load_known(
        files: &Files,
        group: &Group,
        rows: Range<u64>,
        is_bad: impl Fn(u64, u64) -> bool,
        code: &mut Code,
    ) -> Result<Option<Self>> {
        let mut slab = Self::new(*group.plan(), rows);
        for column in 0..slab.plan.width() {
            slab.load_column(files, group, column);
            for row in slab.rows() {
                let at = slab.index(column, row);
                slab.state[at] = if is_bad(column, row) { State::Bad } else { State::Good };
            }
        }
        slab.rebuild(code, true)?;
        let is_right = |column: u64| {
            let first = slab.index(column, slab.rows.start);
            let of = first..first + slab.count();
            let (states, hashes) = (&slab.state[of.clone()], &slab.hashes[of]);
            let is_good = |state: &State| *state == State::Good;
            states.iter().all(is_good) || {
                let list = slab.list(files, group, column);
                states.iter().zip(hashes).zip(&list).all(|((state, hash), listed)| is_good(state) || hash == listed)
            }
        };
        Ok((0..slab.plan.width()).all(is_right).then_some(slab))
    }

    /// What the first list has of one column of these rows.
    fn list(&self, files: &Files, group: &Group, column: u64) -> Vec<[u8; 8]> {
        let mut list = vec![0; self.count() * HASH_LEN as usize];
        files.body(group, self.plan.hash_a(column, self.rows.start), &mut list);
        list.as_chunks().0.to_vec()
    }

    fn load_column(&mut self, files: &Files, group: &Group, column: u64) {
        let (cell, count) = (self.plan.cell() as usize, self.count());
        let first = column as usize * count;
        let into = &mut self.bytes[first * cell..(first + count) * cell];
        for gap in files.cells(group, column, self.rows.clone(), into) {
            self.absent[first + gap.start / cell..first + gap.end.div_ceil(cell)].fill(true);
        }
    }

    fn count(&self) -> usize {
        (self.rows.end - self.rows.start) as usize
    }

    fn index(&self, column: u64, row: u64) -> usize {
        column as usize * self.count() + (row - self.rows.start) as usize
    }

    pub fn rows(&self) -> Range<u64> {
        self.rows.clone()
    }

    pub fn cell(&self, column: u64, row: u64) -> &[u8] {
        let cell = self.plan.cell() as usize;
        &self.bytes[self.index(column, row) * cell..][..cell]
    }

    /// The hash of a cell, unless it is bad.
    pub fn hash(&self, column: u64, row: u64) -> Option<[u8; 8]> {
        let at = self.index(column, row);
        (self.state[at] != State::Bad).then(|| self.hashes[at])
    }

    pub fn state(&self, column: u64, row: u64) -> State {
        self.state[self.index(column, row)]
    }

    /// Whether the file does not have all bytes of the cell.
    pub fn is_absent(&self, column: u64, row: u64) -> bool {
        self.absent[self.index(column, row)]
    }

    /// Puts a cell in its place that somebody else knows.
    pub fn set(&mut self, column: u64, row: u64, bytes: &[u8]) {
        let mut cell = bytes.to_vec();
        cell.resize(self.plan.cell() as usize, 0);
        self.put(column, row..row + 1, &cell);
    }

    /// The bad cells of a row.
    pub fn bad(&self, row: u64) -> impl Iterator<Item = u64> + '_ {
        (0..self.plan.width()).filter(move |column| self.state(*column, row) == State::Bad)
    }

    /// How many cells have been computed.
    pub fn made(&self) -> u64 {
        self.state.iter().filter(|state| **state == State::Made).count() as u64
    }

    /// Whether more of a row is bad than the parity makes up for.
    pub fn is_lost(&self, row: u64) -> bool {
        self.bad(row).count() as u64 > self.plan.parity()
    }

    /// Computes the bad cells of data, and, if wanted, those of parity, of all rows that have enough good ones.
    pub fn rebuild(&mut self, code: &mut Code, parity_too: bool) -> Result<()> {
        let mut from = self.rows.start;
        while from < self.rows.end {
            let bad: Vec<u64> = self.bad(from).collect();
            let alike = |row: &u64| self.bad(*row).eq(bad.iter().copied());
            let to = from + 1 + (from + 1..self.rows.end).take_while(alike).count() as u64;
            if !bad.is_empty() && bad.len() as u64 <= self.plan.parity() {
                self.rebuild_alike(code, from..to)?;
                if parity_too && bad.iter().any(|column| *column >= self.plan.columns()) {
                    self.encode_alike(code, from..to)?;
                }
            }
            from = to;
        }
        Ok(())
    }

    /// Rebuilds the data of rows that lack the same cells.
    fn rebuild_alike(&mut self, code: &mut Code, rows: Range<u64>) -> Result<()> {
        let there = |column| (self.state(column, rows.start) != State::Bad).then(|| self.stretch(column, rows.clone()));
        let cells: Vec<Option<&[u8]>> = (0..self.plan.width()).map(there).collect();
        let mut made = Vec::new();
        code.rebuild(&cells, |column, bytes| made.push((column as u64, bytes.to_vec())))?;
        made.iter().for_each(|(column, bytes)| self.put(*column, rows.clone(), bytes));
        Ok(())
    }

    /// Computes the parity of rows whose data are there.
    fn encode_alike(&mut self, code: &mut Code, rows: Range<u64>) -> Result<()> {
        let data: Vec<&[u8]> = (0..self.plan.columns()).map(|column| self.stretch(column, rows.clone())).collect();
        let mut made = vec![vec![0; data[0].len()]; self.plan.parity() as usize];
        let mut parity: Vec<&mut [u8]> = made.iter_mut().map(Vec::as_mut_slice).collect();
        code.encode(&data, &mut parity)?;
        for (column, bytes) in (self.plan.columns()..).zip(&made) {
            if self.state(column, rows.start) == State::Bad {
                self.put(column, rows.clone(), bytes);
            }
        }
        Ok(())
    }

    /// Cells of one column that lie one behind the other.
    fn stretch(&self, column: u64, rows: Range<u64>) -> &[u8] {
        let (at, cell) = (self.index(column, rows.start), self.plan.cell() as usize);
        &self.bytes[at * cell..][..(rows.end - rows.start) as usize * cell]
    }

    fn put(&mut self, column: u64, rows: Range<u64>, bytes: &[u8]) {
        let (at, cell) = (self.index(column, rows.start), self.plan.cell() as usize);
        self.bytes[at * cell..][..bytes.len()].copy_from_slice(bytes);
        for (at, cell) in (at..).zip(bytes.chunks_exact(cell)) {
            self.state[at] = State::Made;
            self.hashes[at] = hash(cell);
        }
    }
}
