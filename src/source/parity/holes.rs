//! Whether groups make up for stretches of a file that are missing altogether, from their geometry and nothing else.
//!
//! ```text
//!   hole ──► cells of data and of parity, counted column by column ──► how many of each row: more than m are lost
//! ```

use super::{DESCRIPTOR_LEN, Plan};
use std::ops::Range;

/// A group, or one that might be: its geometry, and where its body begins.
pub type Placed = (Plan, u64);

/// Whether everything in these holes can be computed from the rest of the file, which ends at `end`; nothing else is
/// damaged. The groups are those of one file, oldest first, each in the range of the one behind it, or before that range.
/// What is behind the range of the last one follows from its body.
pub fn makes_up(groups: &[Placed], end: u64, holes: &[Range<u64>]) -> bool {
    let Some((last, _)) = groups.last() else { return holes.is_empty() };
    let holes: Vec<Range<u64>> = holes.iter().map(|hole| hole.start..hole.end.min(end)).collect();
    let behind = last.range().end;
    holes.iter().all(|hole| is_covered(groups, hole.start..hole.end.min(behind)))
        && groups.iter().enumerate().all(|(n, group)| {
            let is_needed = n + 1 == groups.len() || holes.iter().any(|hole| overlap(hole, &group.0.range()) > 0);
            !is_needed || bears(group, &holes)
        })
}

/// Whether the ranges of groups have all of these bytes.
fn is_covered(groups: &[Placed], mut bytes: Range<u64>) -> bool {
    while bytes.start < bytes.end {
        let ranges = groups.iter().map(|(plan, _)| plan.range());
        let Some(end) = ranges.filter(|range| range.contains(&bytes.start)).map(|range| range.end).max() else {
            return false;
        };
        bytes.start = end;
    }
    true
}

/// Whether a group gives all of its range when these bytes are missing.
fn bears((plan, body_at): &Placed, holes: &[Range<u64>]) -> bool {
    let front = *body_at..body_at + plan.parity_at();
    let back = body_at + plan.list_b()..body_at + plan.list_b() + plan.list_len() + DESCRIPTOR_LEN;
    let hits = |part: &Range<u64>| holes.iter().any(|hole| overlap(hole, part) > 0);
    !(hits(&front) && hits(&back)) && worst(plan, *body_at, holes) <= plan.parity()
}

/// How many cells of one row are missing, of that row which misses most.
fn worst(plan: &Plan, body_at: u64, holes: &[Range<u64>]) -> u64 {
    let parity_at = body_at + plan.parity_at();
    let parity = parity_at..body_at + plan.list_b();
    let (mut all, mut some) = (0, Vec::new());
    for stretch in [plan.range(), parity] {
        for hole in holes.iter().filter(|hole| overlap(hole, &stretch) > 0) {
            let from = (hole.start.max(stretch.start) - stretch.start) / plan.cell();
            let to = (hole.end.min(stretch.end) - stretch.start).div_ceil(plan.cell());
            // Whole columns, and what is over: it may go on at the top of the next column.
            all += (to - from) / plan.rows();
            let (first, over) = (from % plan.rows(), (to - from) % plan.rows());
            some.push(first..(first + over).min(plan.rows()));
            some.push(0..(first + over).saturating_sub(plan.rows()));
        }
    }
    let at = |row: u64| some.iter().filter(|rows| rows.contains(&row)).count() as u64;
    all + some.iter().map(|rows| at(rows.start)).max().unwrap_or(0)
}

fn overlap(a: &Range<u64>, b: &Range<u64>) -> u64 {
    a.end.min(b.end).saturating_sub(a.start.max(b.start))
}

#[cfg(test)]
#[allow(clippy::single_range_in_vec_init, reason = "one range is meant")]
mod tests {
    use super::*;
    use crate::source::parity::Algorithm;

    /// One group over 1 000 000 bytes with 10 % of parity right behind: 245 cells in one row, and 25 of parity.
    fn one() -> Vec<Placed> {
        vec![(Plan::of(0..1_000_000, 0.1, Algorithm::Wide).unwrap(), 1_000_096)]
    }

    #[test]
    fn as_many_cells_of_a_row_may_be_missing_as_there_are_of_parity() {
        let (groups, cell) = (one(), 4096);
        let end = 1_000_096 + groups[0].0.body_len() + 128;
        assert_eq!((groups[0].0.columns(), groups[0].0.parity(), groups[0].0.rows()), (245, 25, 1));
        assert!(makes_up(&groups, end, &[]));
        assert!(makes_up(&groups, end, &[0..25 * cell]));
        assert!(!makes_up(&groups, end, &[0..25 * cell + 1]));
        assert!(makes_up(&groups, end, &[0..10 * cell, 50 * cell..65 * cell]));
        assert!(!makes_up(&groups, end, &[0..10 * cell, 50 * cell..65 * cell + 1]));
        assert!(makes_up(&groups, end, &[1_000_000..end - 60_000]));
        assert!(!makes_up(&groups, end, &[1_000_000..end]), "both lists of hashes");
        assert!(!makes_up(&[], end, &[0..1]));
    }

    #[test]
    fn what_no_range_has_is_lost() {
        let plan = |range| Plan::of(range, 0.5, Algorithm::Wide).unwrap();
        let groups = vec![(plan(0..100_000), 100_096), (plan(300_000..400_000), 400_096)];
        assert!(!makes_up(&groups, 500_000, &[200_000..200_001]));
        assert!(makes_up(&groups, 500_000, &[50_000..50_001, 350_000..350_001]));
    }

    #[test]
    fn rows_are_counted_over_the_ends_of_columns() {
        let plan = Plan::of(0..1 << 30, 0.05, Algorithm::Wide).unwrap();
        let (rows, m) = (plan.rows(), plan.parity());
        let count = |cells: Range<u64>| worst(&plan, 1 << 31, &[cells.start * 4096..cells.end * 4096]);
        assert_eq!(count(0..rows), 1);
        assert_eq!(count(0..rows + 1), 2);
        assert_eq!(count(rows - 1..rows + 1), 1);
        assert_eq!(count(7..7 + m * rows), m);
        assert_eq!(count(7..8 + m * rows), m + 1);
    }
}
