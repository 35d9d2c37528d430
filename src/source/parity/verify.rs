//! Reads everything that groups protect, and their bodies, and says what is not as it was.
//!
//! ```text
//!   cells, in the order of the file, in all threads ──► bad cells ──┬─► merged ranges
//!                                                                   └─► how many of each row: more than m are lost
//!   the two lists of hashes, side by side ──► rows where they differ
//! ```

use super::layout::{HASH_LEN, Place, Plan};
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

/// What a look at everything found, and all that a repair goes by.
pub struct Surveyed {
    pub report: Report,
    pub(super) surveys: Vec<Survey>,
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
    /// How many cells of each row are not what they were, and which: a bit for each, column after column. The lists of
    /// hashes, which the file has, are 64 times as long.
    counts: Vec<u16>,
    wrong: Vec<u64>,
    /// Rows in which the lists of hashes differ.
    differ: Vec<bool>,
    /// Rows that have anything to be repaired.
    touched: Vec<bool>,
}

impl Survey {
    fn new(plan: &Plan, bad_descriptors: Vec<u64>) -> Self {
        let rows = plan.rows() as usize;
        Self {
            bad: Runs::default(),
            lost: Runs::default(),
            bad_parity: 0,
            bad_hashes: 0,
            bad_descriptors,
            counts: vec![0; rows],
            wrong: vec![0; plan.cells().div_ceil(64) as usize],
            differ: vec![false; rows],
            touched: vec![false; rows],
        }
    }

    /// Notes a cell that is not as it was.
    fn note(&mut self, plan: &Plan, column: u64, row: u64, is_wrong: bool) {
        let cell = column * plan.rows() + row;
        self.touched[row as usize] = true;
        if plan.is_behind(column, row) {
            // The cell cannot be bad: both of its hashes are.
            self.bad_hashes += u64::from(!self.differ[row as usize]);
            self.differ[row as usize] = true;
            return;
        }
        self.counts[row as usize] += u16::from(is_wrong);
        self.wrong[(cell / 64) as usize] |= u64::from(is_wrong) << (cell % 64);
        if column < plan.columns() {
            self.bad.push(cell);
        } else {
            self.bad_parity += 1;
        }
    }

    /// Whether a cell, counted through all columns, has not the hash that it should have.
    pub fn is_wrong(&self, cell: u64) -> bool {
        self.wrong[(cell / 64) as usize] >> (cell % 64) & 1 == 1
    }

    /// Whether all that is bad in these rows is cells, and few enough.
    pub fn is_plain(&self, plan: &Plan, rows: Range<u64>) -> bool {
        let rows = rows.start as usize..rows.end as usize;
        let few = |count: &u16| u64::from(*count) <= plan.parity();
        self.counts[rows.clone()].iter().all(few) && !self.differ[rows].contains(&true)
    }

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
        self.survey_all(watch).map(|found| found.report)
    }

    /// The same for who may repair it then: a bit for each cell is kept, and 4 bytes for each row.
    ///
    /// # Errors
    /// As of [`Mender::verify`].
    pub fn survey_all(&self, watch: Watch) -> Result<Surveyed> {
        let (mut report, mut surveys, mut done) = (Report::default(), Vec::new(), 0);
        for (n, group) in self.groups.iter().enumerate() {
            let survey = self.survey(n, &|part| watch(done + part))?;
            done += group.plan().cells() * group.plan().cell();
            report.add(&survey, group);
            surveys.push(survey);
        }
        Ok(Surveyed { report, surveys })
    }

    /// The same of one group.
    fn survey(&self, n: usize, watch: Watch) -> Result<Survey> {
        let group = &self.groups[n];
        let mut survey = Survey::new(group.plan(), self.bad_descriptors(group));
        self.survey_cells(group, &mut survey, watch)?;
        self.survey_hashes(group, &mut survey, watch)?;
        self.find_lost(n, &mut survey);
        Ok(survey)
    }

    /// Reads all cells.
    fn survey_cells(&self, group: &Group, survey: &mut Survey, watch: Watch) -> Result<()> {
        let plan = group.plan();
        let step = (STEP / plan.cell()).min(plan.rows());
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
                survey.note(plan, seen.column, row, is_wrong);
            }
            Ok(())
        };
        let threads = pool::threads();
        pool::ordered(threads, threads * 2, feed, |(column, rows)| self.see(group, column, rows), drain)
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

    /// Finds the rows in which the two lists differ.
    fn survey_hashes(&self, group: &Group, survey: &mut Survey, watch: Watch) -> Result<()> {
        let (plan, each) = (group.plan(), HASH_LEN as usize);
        let step = TILE / HASH_LEN;
        for first in (0..plan.cells()).step_by(step as usize) {
            go_on(watch, plan.cells() * plan.cell())?;
            let len = step.min(plan.cells() - first) as usize * each;
            let (mut a, mut b) = (vec![0; len], vec![0; len]);
            self.files.body(group, plan.list_a() + first * HASH_LEN, &mut a);
            self.files.body(group, plan.list_b() + first * HASH_LEN, &mut b);
            let both = a.chunks_exact(each).zip(b.chunks_exact(each)).enumerate();
            for (i, _) in both.filter(|(_, (a, b))| a != b) {
                let row = ((first + i as u64) % plan.rows()) as usize;
                survey.bad_hashes += u64::from(!survey.differ[row]);
                survey.differ[row] = true;
                survey.touched[row] = true;
            }
        }
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
    fn find_lost(&self, n: usize, survey: &mut Survey) {
        let plan = self.groups[n].plan();
        let too_many = |row: u64| u64::from(survey.counts[row as usize]) > plan.parity();
        let rows: Vec<u64> = (0..plan.rows()).filter(|row| too_many(*row)).collect();
        for column in 0..plan.columns() {
            for row in &rows {
                let cell = column * plan.rows() + row;
                let Place::Data(at) = plan.place(column, *row..row + 1) else { continue };
                if survey.is_wrong(cell) && self.ask_others(n, at).is_none() {
                    survey.lost.push(cell);
                }
            }
        }
    }
}
