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
use crate::source::ReadAt;
use std::ops::Range;
use std::sync::Arc;

/// Bytes of a slab, unless one row has more.
const SLAB: u64 = 16 << 20;

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
    absent: Vec<bool>,
}

/// How many rows a slab takes.
pub(super) fn batch(plan: &Plan) -> u64 {
    (SLAB / plan.width() / plan.cell()).max(1)
}

impl Slab {
    /// Reads all cells of some rows, no more than [`batch`] says, and compares them with their hashes.
    pub fn load(files: &Files, group: &Group, rows: Range<u64>) -> Self {
        let plan = *group.plan();
        let count = (rows.end - rows.start) as usize;
        let (cells, cell) = (count * plan.width() as usize, plan.cell() as usize);
        let (bytes, state, absent) = (vec![0; cells * cell], vec![State::Bad; cells], vec![false; cells]);
        let mut slab = Self { plan, rows, bytes, state, absent };
        let mut list = vec![0; cells * HASH_LEN as usize];
        files.body(group, plan.hash_a(0, slab.rows.start), &mut list);
        for column in 0..plan.width() {
            slab.load_column(files, group, column, &list);
        }
        slab
    }

    fn load_column(&mut self, files: &Files, group: &Group, column: u64, list: &[u8]) {
        let (cell, count) = (self.plan.cell() as usize, self.count());
        let first = column as usize * count;
        let into = &mut self.bytes[first * cell..(first + count) * cell];
        for gap in files.cells(group, column, self.rows.clone(), into) {
            self.absent[first + gap.start / cell..first + gap.end.div_ceil(cell)].fill(true);
        }
        for n in 0..count {
            let row = self.rows.start + n as u64;
            let found = hash(&self.bytes[(first + n) * cell..][..cell]);
            let at = (n * self.plan.width() as usize + column as usize) * HASH_LEN as usize;
            let good = list[at..].starts_with(&found) || files.entry(group, self.plan.hash_b(column, row)) == found;
            self.state[first + n] = if good { State::Good } else { State::Bad };
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

    pub fn state(&self, column: u64, row: u64) -> State {
        self.state[self.index(column, row)]
    }

    /// Whether the file does not have all bytes of the cell.
    pub fn is_absent(&self, column: u64, row: u64) -> bool {
        self.absent[self.index(column, row)]
    }

    /// Puts a cell in its place that somebody else knows.
    pub fn set(&mut self, column: u64, row: u64, bytes: &[u8]) {
        let (at, cell) = (self.index(column, row), self.plan.cell() as usize);
        self.bytes[at * cell..][..bytes.len()].copy_from_slice(bytes);
        self.bytes[at * cell + bytes.len()..(at + 1) * cell].fill(0);
        self.state[at] = State::Made;
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
        self.state[at..at + (rows.end - rows.start) as usize].fill(State::Made);
    }
}
