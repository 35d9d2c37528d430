//! What becomes of each entry.

use super::super::Opened;
use super::super::layout::Local;
use crate::error::Result;
use crate::formats::{Found, Unwatched, collect};
use crate::tree::{Attr, Changes, Filter, Inode, Kind, Merged, Node, Renumbered, Tree};
use std::collections::{BTreeMap, HashSet};

/// What becomes of the archive.
#[derive(Default)]
pub(super) struct Plan {
    /// Records that stay as they are, by their numbers.
    pub(super) kept: Vec<usize>,
    /// The record of the first entry, when only its attributes were changed.
    pub(super) patched: Option<(usize, Found)>,
    /// Records whose data are copied behind a new header, and what they are now.
    pub(super) copied: Vec<(usize, Found)>,
    /// Entries that are written from what is in them.
    pub(super) new: Vec<Found>,
    /// Bytes of the entries that stay.
    pub(super) needed: u64,
}

/// What is to be done with each entry.
pub(super) fn plan(now: &Opened, merged: &Merged, archive: &Renumbered) -> Result<Plan> {
    let everything = Filter::default();
    let before = paths(collect(archive, &everything, &Unwatched)?);
    let changes = merged.changes();
    let all = collect(merged, &everything, &Unwatched)?;
    // Directories with something in them.
    let parent = |found: &Found| found.path.iter().rposition(|byte| *byte == b'/').map(|at| found.path[..at].to_vec());
    let full: HashSet<Vec<u8>> = all.iter().filter_map(parent).collect();
    let mut after = paths(all);
    let mut plan = Plan::default();
    // The records of each node, in order.
    let mut records: BTreeMap<Node, Vec<usize>> = BTreeMap::new();
    for (number, node) in now.nodes.iter().enumerate() {
        match node {
            Some(node) => records.entry(archive.number_above(*node)).or_default().push(number),
            // What is not shown stays.
            None => plan.kept.push(number),
        }
    }
    for (node, numbers) in records {
        let there = after.remove(&node);
        let is_same = there.as_ref().is_some_and(|there| {
            before.get(&node).is_some_and(|before| before.iter().map(|f| &f.path).eq(there.iter().map(|f| &f.path)))
        });
        let base = archive.attr(node)?;
        if is_same && is_untouched(&changes, node, &base, true) {
            plan.kept.extend(numbers);
            continue;
        }
        let Some(there) = there else { continue };
        let is_drafted = matches!(changes.nodes.get(&node), Some(Some(Inode { draft: Some(_), .. })));
        let stays = is_same && !is_drafted && numbers.len() == 1 && now.first() == Some(numbers[0]);
        if stays && base.kind != Kind::Symlink {
            plan.patched = there.into_iter().next().map(|found| (numbers[0], found));
            continue;
        }
        for (place, found) in there.into_iter().enumerate() {
            match (base.kind == Kind::File && !is_drafted, numbers.get(place).or(numbers.last())) {
                (true, Some(number)) => plan.copied.push((*number, found)),
                _ => plan.new.push(found),
            }
        }
    }
    // What has no record: new, or a directory that an archive only speaks of.
    let root = merged.root();
    for (node, found) in after.into_iter().filter(|(node, _)| *node != root) {
        let is_implied = archive.number_below(node).is_some() && full.contains(&found[0].path);
        if !is_implied || !is_untouched(&changes, node, &archive.attr(node)?, false) {
            plan.new.extend(found);
        }
    }
    plan.kept.sort_unstable();
    plan.new.sort_by(|a, b| {
        let rank = |found: &Found| (found.attr.kind != Kind::Directory, found.same_as.is_some());
        rank(a).cmp(&rank(b)).then_with(|| a.path.cmp(&b.path))
    });
    for number in &plan.kept {
        let member = &now.archive.members[*number];
        plan.needed += member.packed + size_of::<Local>() as u64 + u64::from(member.name_len);
    }
    Ok(plan)
}

/// The names of each node, in order.
fn paths(all: Vec<Found>) -> BTreeMap<Node, Vec<Found>> {
    let mut paths: BTreeMap<Node, Vec<Found>> = BTreeMap::new();
    for found in all {
        paths.entry(found.node).or_default().push(found);
    }
    paths
        .values_mut()
        .for_each(|all| all.sort_by(|a, b| (a.same_as.is_some(), &a.path).cmp(&(b.same_as.is_some(), &b.path))));
    paths
}

/// Whether nothing of a node was changed that an archive keeps. The times of a directory without an entry are not kept.
fn is_untouched(changes: &Changes, node: Node, base: &Attr, has_times: bool) -> bool {
    let Some(change) = changes.nodes.get(&node) else { return true };
    change.as_ref().is_some_and(|inode| inode.is_still(base, has_times))
}
