//! Reads everything that groups protect, and their bodies, and says what is not as it was.
//!
//! ```text
//!   cells, in the order of the file, in all threads ──► bad cells ──┬─► merged ranges
//!                                                                   └─► how many of each row: more than m are lost
//!   the two lists of hashes, rows by rows ──► rows where they differ
//! ```

use super::layout::{HASH_LEN, Place};
use super::mend::Mender;
use super::{Group, Watch, go_on, hash};
use crate::error::Result;
use crate::pool;
use std::ops::Range;
use zerocopy::IntoBytes;

/// Most ranges that a report lists; what is behind is counted.
pub const MOST_RANGES: usize = 1 << 16;
/// A thread reads so many bytes of cells at once.
const STEP: u64 = 1 << 20;
/// Of the lists of hashes so many bytes are compared at once.
const TILE: u64 = 4 << 20;

/// What is not as it was.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Ranges of the protected file that are bad, in the order of the groups.
    pub bad: Vec<Range<u64>>,
    /// Those of them that cannot be rebuilt.
    pub lost: Vec<Range<u64>>,
    /// How many cells of data are bad.
    pub bad_cells: u64,
    /// How many of these are lost.
    pub lost_cells: u64,
    /// How many cells of parity are bad.
    pub bad_parity: u64,
    /// How many rows have hashes that are bad in one of the lists.
    pub bad_hashes: u64,
    /// How many descriptors are bad.
    pub bad_descriptors: u64,
    /// Whether there are more ranges than are listed.
    pub is_cut: bool,
}

impl Report {
    /// Whether all is as it was.
    pub fn is_whole(&self) -> bool {
        let body = self.bad_parity + self.bad_hashes + self.bad_descriptors;
        self.bad_cells + body == 0
    }

    pub(super) fn add(&mut self, survey: &Survey, group: &Group) {
        self.bad_cells += survey.bad.cells;
        self.lost_cells += survey.lost.cells;
        self.bad_parity += survey.bad_parity;
        self.bad_hashes += survey.bad_hashes;
        self.bad_descriptors += survey.bad_descriptors.len() as u64;
        self.is_cut |= survey.bad.is_cut || survey.lost.is_cut;
        let range = group.plan().range();
        let place = |cell: u64| (range.start + cell * group.plan().cell()).min(range.end);
        let bytes = |cells: &Range<u64>| place(cells.start)..place(cells.end);
        for (into, runs) in [(&mut self.bad, &survey.bad), (&mut self.lost, &survey.lost)] {
            let room = MOST_RANGES.saturating_sub(into.len());
            self.is_cut |= runs.ranges.len() > room;
            into.extend(runs.ranges.iter().take(room).map(bytes));
        }
    }
}

/// Ascending numbers as ranges.
#[derive(Debug, Default)]
struct Runs {
    ranges: Vec<Range<u64>>,
    cells: u64,
    is_cut: bool,
}

impl Runs {
    fn push(&mut self, n: u64) {
        self.cells += 1;
        let room = self.ranges.len() < MOST_RANGES;
        match self.ranges.last_mut() {
            Some(last) if last.end == n && !self.is_cut => last.end += 1,
            _ if room => self.ranges.push(n..n + 1),
            _ => self.is_cut = true,
        }
    }
}

/// What is wrong with a group.
pub(super) struct Survey {
    bad: Runs,
    lost: Runs,
    bad_parity: u64,
    bad_hashes: u64,
    /// Where in the body.
    pub bad_descriptors: Vec<u64>,
    /// How many cells of each row are not what they were.
    counts: Vec<u16>,
    /// Rows that have anything to be repaired.
    touched: Vec<bool>,
}

impl Survey {
    /// The rows that have anything to be repaired, as ranges of at most so many.
    pub fn rows(&self, most: u64) -> impl Iterator<Item = Range<u64>> + '_ {
        let mut at = 0;
        std::iter::from_fn(move || {
            let first = at + self.touched[at..].iter().position(|t| *t)?;
            let count = self.touched[first..].iter().take(most as usize).take_while(|t| **t).count();
            at = first + count;
            Some(first as u64..at as u64)
        })
    }
}

/// Some cells of a column that were read.
struct Seen {
    column: u64,
    /// Row, and whether the hash is wrong: else the file has not all of its bytes, and these are zeros.
    faults: Vec<(u64, bool)>,
}

impl Mender {
    /// Reads all groups in full, and their bodies. The watch is told how many bytes of cells have been read.
    ///
    /// # Errors
    /// `Interrupted`. What cannot be read is bad, and no error.
    pub fn verify(&self, watch: Watch) -> Result<Report> {
        let (mut report, mut done) = (Report::default(), 0);
        for (n, group) in self.groups.iter().enumerate() {
            let survey = self.survey(n, &|part| watch(done + part))?;
            done += group.plan().cells() * group.plan().cell();
            report.add(&survey, group);
        }
        Ok(report)
    }

    /// The same of one group.
    pub(super) fn survey(&self, n: usize, watch: Watch) -> Result<Survey> {
        let group = &self.groups[n];
        let rows = group.plan().rows() as usize;
        let mut survey = Survey {
            bad: Runs::default(),
            lost: Runs::default(),
            bad_parity: 0,
            bad_hashes: 0,
            bad_descriptors: self.bad_descriptors(group),
            counts: vec![0; rows],
            touched: vec![false; rows],
        };
        let wrong = self.survey_cells(group, &mut survey, watch)?;
        self.survey_hashes(group, &mut survey, watch)?;
        self.find_lost(n, &wrong, &mut survey);
        Ok(survey)
    }

    /// Reads all cells. Gives those of data that have a wrong hash.
    fn survey_cells(&self, group: &Group, survey: &mut Survey, watch: Watch) -> Result<Runs> {
        let plan = group.plan();
        let step = (STEP / plan.cell()).min(plan.rows());
        let mut wrong = Runs::default();
        let feed = |feed: &pool::Feed<(u64, Range<u64>), Seen>| {
            for column in 0..plan.width() {
                for row in (0..plan.rows()).step_by(step as usize) {
                    go_on(watch, (column * plan.rows() + row) * plan.cell())?;
                    feed.push((column, row..plan.rows().min(row + step)));
                }
            }
            Ok(())
        };
        let drain = |seen: Seen| {
            for (row, is_wrong) in seen.faults {
                note(group, survey, &mut wrong, seen.column, row, is_wrong);
            }
            Ok(())
        };
        let threads = pool::threads();
        pool::ordered(threads, threads * 4, feed, |(column, rows)| self.see(group, column, rows), drain)?;
        Ok(wrong)
    }

    /// Reads cells of one column.
    fn see(&self, group: &Group, column: u64, rows: Range<u64>) -> Seen {
        let (plan, cell) = (group.plan(), group.plan().cell() as usize);
        let count = (rows.end - rows.start) as usize;
        let mut bytes = vec![0; count * cell];
        let absent = self.files.cells(group, column, rows.clone(), &mut bytes);
        let mut list = vec![0; count * HASH_LEN as usize];
        self.files.body(group, plan.hash_b(column, rows.start), &mut list);
        let mut faults = Vec::new();
        for (i, row) in rows.enumerate() {
            let found = hash(&bytes[i * cell..][..cell]);
            let is_right = list[i * HASH_LEN as usize..].starts_with(&found)
                || self.files.entry(group, plan.hash_a(column, row)) == found;
            let is_absent = absent.iter().any(|gap| gap.start < (i + 1) * cell && i * cell < gap.end);
            if !is_right || is_absent {
                faults.push((row, !is_right));
            }
        }
        Seen { column, faults }
    }

    /// Finds the rows in which the two lists differ, and what fills them up if it is not zeros.
    fn survey_hashes(&self, group: &Group, survey: &mut Survey, watch: Watch) -> Result<()> {
        let plan = group.plan();
        let (width, each) = (plan.width() as usize, HASH_LEN as usize);
        let step = (TILE / plan.width() / HASH_LEN).max(1);
        for first in (0..plan.rows()).step_by(step as usize) {
            go_on(watch, plan.cells() * plan.cell())?;
            let count = step.min(plan.rows() - first) as usize;
            let (mut a, mut b) = (vec![0; count * width * each], vec![0; count * each]);
            self.files.body(group, plan.hash_a(0, first), &mut a);
            for column in 0..width {
                self.files.body(group, plan.hash_b(column as u64, first), &mut b);
                let of_a = a.chunks_exact(each).skip(column).step_by(width);
                for (row, _) in of_a.zip(b.chunks_exact(each)).enumerate().filter(|(_, (a, b))| a != b) {
                    let row = first as usize + row;
                    survey.bad_hashes += u64::from(survey.counts[row] & HASHES == 0);
                    survey.counts[row] |= HASHES;
                    survey.touched[row] = true;
                }
            }
        }
        survey.counts.iter_mut().for_each(|count| *count &= !HASHES);
        Ok(())
    }

    /// Which descriptors of a body are not whole.
    fn bad_descriptors(&self, group: &Group) -> Vec<u64> {
        let is_bad = |at: &u64| {
            let mut found = [0; super::DESCRIPTOR_LEN as usize];
            !self.files.body(group, *at, &mut found).is_empty() || found != group.descriptor().as_bytes()
        };
        let plan = group.plan();
        [0, plan.body_len() - super::DESCRIPTOR_LEN].into_iter().filter(is_bad).collect()
    }

    /// Of the wrong cells, those that neither their row nor another group makes good.
    fn find_lost(&self, n: usize, wrong: &Runs, survey: &mut Survey) {
        let plan = self.groups[n].plan();
        for cell in wrong.ranges.iter().cloned().flatten() {
            let row = cell % plan.rows();
            if u64::from(survey.counts[row as usize]) <= plan.parity() {
                continue;
            }
            let Place::Data(at) = plan.place(cell / plan.rows(), row..row + 1) else { continue };
            if self.from_others(n, at).is_none() {
                survey.lost.push(cell);
            }
        }
        survey.lost.is_cut |= wrong.is_cut;
    }
}

/// Marks rows whose hashes differ, beside the count, which is never so high.
const HASHES: u16 = 1 << 15;

/// Notes a cell that is not as it was.
fn note(group: &Group, survey: &mut Survey, wrong: &mut Runs, column: u64, row: u64, is_wrong: bool) {
    let plan = group.plan();
    let cell = column * plan.rows() + row;
    survey.touched[row as usize] = true;
    survey.counts[row as usize] += u16::from(is_wrong);
    if column >= plan.columns() {
        survey.bad_parity += 1;
        return;
    }
    survey.bad.push(cell);
    if is_wrong {
        wrong.push(cell);
    }
}
