//! The pieces to be written so that every byte of the ranges and of the bodies is as it was.
//!
//! ```text
//!   survey ──► rows with anything bad ──► slabs, rebuilt in all threads ──► pieces: cells, hashes of both lists
//!          └─► descriptors ───────────────────────────────────────────────► pieces
//! ```

use super::layout::{HASH_LEN, Place, Plan};
use super::mend::Mender;
use super::slab::{Slab, State, batch};
use super::verify::{Survey, Surveyed};
use super::{Group, Watch, go_on};
use crate::error::Result;
use crate::pool;
use std::ops::Range;
use zerocopy::IntoBytes;

/// Bytes to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Whether they go to the file with the bodies; else to that with the ranges. In a container these are one.
    pub to_parity: bool,
    /// Offset in the file.
    pub at: u64,
    pub bytes: Vec<u8>,
}

/// Who takes the pieces.
pub type Give<'a> = &'a mut (dyn FnMut(Piece) -> Result<()> + Send);

impl Mender {
    /// Gives everything that is to be written so that all bytes are as they were, of the ranges and of the bodies, by a look
    /// that was just taken; what is lost is left as it is. Pieces may be written at once, while others are still to come.
    ///
    /// # Errors
    /// `Interrupted`, and those of `give`.
    pub fn repairs(&self, found: &Surveyed, watch: Watch, give: Give) -> Result<()> {
        let mut all = 0;
        for (n, (group, survey)) in self.groups.iter().zip(&found.surveys).enumerate() {
            all += group.plan().cells() * group.plan().cell();
            self.repair_group(n, survey, &|_| watch(all), give)?;
        }
        Ok(())
    }

    fn repair_group(&self, n: usize, survey: &Survey, watch: Watch, give: Give) -> Result<()> {
        let group = &self.groups[n];
        let feed = |feed: &pool::Feed<Range<u64>, Result<Vec<Piece>>>| {
            for rows in survey.rows(batch(group.plan())) {
                go_on(watch, 0)?;
                feed.push(rows);
            }
            Ok(())
        };
        let drain = |pieces: Result<Vec<Piece>>| pieces?.into_iter().try_for_each(&mut *give);
        pool::ordered(pool::threads(), 1, feed, |rows| self.repair_rows(n, rows, survey), drain)?;
        for at in &survey.bad_descriptors {
            let bytes = group.descriptor().as_bytes().to_vec();
            give(Piece { to_parity: true, at: group.body_at() + at, bytes })?;
        }
        self.repair_fill(group).into_iter().try_for_each(give)
    }

    /// The pieces of some rows.
    fn repair_rows(&self, n: usize, rows: Range<u64>, survey: &Survey) -> Result<Vec<Piece>> {
        let group = &self.groups[n];
        let mut pieces = Pieces(Vec::new());
        if survey.is_plain(group.plan(), rows.clone()) {
            let is_bad = |column, row| survey.is_wrong(column * group.plan().rows() + row);
            let load = |code: &mut _| Slab::load_known(&self.files, group, rows.clone(), is_bad, code);
            if let Some(slab) = self.with_code(group.plan(), load)? {
                pieces.cells(group, &slab);
                return Ok(pieces.0);
            }
        }
        let mut slab = Slab::load(&self.files, group, rows);
        self.borrow_lost(n, &mut slab);
        self.with_code(group.plan(), |code| slab.rebuild(code, true))?;
        pieces.cells(group, &slab);
        self.repair_hashes(group, &slab, &mut pieces);
        Ok(pieces.0)
    }

    /// Takes from other groups what rows have lost.
    fn borrow_lost(&self, n: usize, slab: &mut Slab) {
        let plan = self.groups[n].plan();
        for row in slab.rows().filter(|row| slab.is_lost(*row)).collect::<Vec<_>>() {
            for column in slab.bad(row).filter(|c| *c < plan.columns()).collect::<Vec<_>>() {
                let Place::Data(at) = plan.place(column, row..row + 1) else { continue };
                if let Some(known) = self.ask_others(n, at) {
                    slab.set(column, row, &known);
                }
            }
        }
    }

    /// Entries of the lists that are not the hashes of their cells.
    fn repair_hashes(&self, group: &Group, slab: &Slab, pieces: &mut Pieces) {
        let (plan, rows) = (group.plan(), slab.rows());
        let mut list = vec![0; ((rows.end - rows.start) * HASH_LEN) as usize];
        for place in [Plan::hash_a, Plan::hash_b] {
            for column in 0..plan.width() {
                self.files.body(group, place(plan, column, rows.start), &mut list);
                rows.clone().zip(list.chunks_exact(HASH_LEN as usize)).for_each(|(row, old)| {
                    pieces.entry(group, slab, (column, row), old, place);
                });
            }
        }
    }

    /// What fills the lists up, if it is not zeros.
    fn repair_fill(&self, group: &Group) -> Vec<Piece> {
        let plan = group.plan();
        let mut pieces = Vec::new();
        for list in [plan.list_a(), plan.list_b()] {
            let mut bytes = vec![0; (plan.list_len() - plan.hashes_len()) as usize];
            let at = list + plan.hashes_len();
            let is_absent = !self.files.body(group, at, &mut bytes).is_empty();
            if is_absent || bytes.iter().any(|b| *b != 0) {
                bytes.fill(0);
                pieces.push(Piece { to_parity: true, at: group.body_at() + at, bytes });
            }
        }
        pieces
    }
}

/// Whether the file has not what the cell was, and it is known.
fn is_to_write(slab: &Slab, column: u64, row: u64) -> bool {
    match slab.state(column, row) {
        State::Good => slab.is_absent(column, row),
        State::Made => true,
        State::Bad => false,
    }
}

/// Pieces in the order of their making, joined where one follows the other.
struct Pieces(Vec<Piece>);

impl Pieces {
    fn cells(&mut self, group: &Group, slab: &Slab) {
        for column in 0..group.plan().width() {
            for row in slab.rows().filter(|row| is_to_write(slab, column, *row)) {
                self.cell(group, column, row, slab.cell(column, row));
            }
        }
    }

    fn cell(&mut self, group: &Group, column: u64, row: u64, cell: &[u8]) {
        match group.plan().place(column, row..row + 1) {
            Place::Data(at) => self.push(false, at.start, &cell[..(at.end - at.start) as usize]),
            Place::Body(at) => self.push(true, group.body_at() + at.start, cell),
        }
    }

    fn entry(
        &mut self,
        group: &Group,
        slab: &Slab,
        (column, row): (u64, u64),
        old: &[u8],
        place: fn(&Plan, u64, u64) -> u64,
    ) {
        if let Some(right) = slab.hash(column, row).filter(|right| old != right) {
            self.push(true, group.body_at() + place(group.plan(), column, row), &right);
        }
    }

    fn push(&mut self, to_parity: bool, at: u64, bytes: &[u8]) {
        match self.0.last_mut() {
            _ if bytes.is_empty() => {}
            Some(last) if last.to_parity == to_parity && last.at + last.bytes.len() as u64 == at => {
                last.bytes.extend_from_slice(bytes);
            }
            _ => self.0.push(Piece { to_parity, at, bytes: bytes.to_vec() }),
        }
    }
}
