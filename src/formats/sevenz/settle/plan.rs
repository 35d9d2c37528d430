//! What becomes of each entry, and so of each block.
//!
//! ```text
//!   all files of a block are there, with the contents they had    the block is copied, its entries may say other things
//!   one of them is gone, or has other contents                    the others are packed anew
//! ```

use super::super::database::{File, Streams};
use super::super::{Opened, entry, listed};
use crate::error::{Error, Kind as ErrorKind, Result};
use crate::formats::{First, Found, Slips, Unwatched, Watch, collect};
use crate::tree::{Attr, Catalog, Changes, Filter, Inode, Merged, Node, Renumbered, Tree};
use std::collections::{HashMap, HashSet};

/// What becomes of the archive.
#[derive(Default)]
pub struct Plan {
    /// Blocks that are copied.
    pub kept: Vec<usize>,
    /// Entries in these blocks, in their order, and such without contents.
    pub still: Vec<Entry>,
    /// Entries whose contents are packed: those of blocks that are not copied, in their order, then others.
    pub packed: Vec<Entry>,
}

/// An entry of the archive that is written.
pub struct Entry {
    pub file: File,
    pub node: Node,
    pub path: Vec<u8>,
    pub len: u64,
}

/// What becomes of an entry that is there.
enum Fate {
    Gone,
    /// Its contents are what they were.
    Still(Entry),
    Changed(Entry),
}

/// What is to be done with each entry.
pub fn plan(now: &Opened, merged: &Merged, archive: &Renumbered, watch: &dyn Watch) -> Result<Plan> {
    let before = all_of(archive, watch)?.into_iter().map(|found| (found.node, found.path)).collect();
    let all = all_of(merged, watch)?;
    let known: HashSet<Node> = now.nodes.iter().flatten().map(|node| archive.number_above(*node)).collect();
    let after: HashMap<Node, &Found> = all.iter().map(|found| (found.node, found)).collect();
    let changes = merged.changes();
    let fates = now.files.iter().zip(&now.nodes).map(|(file, node)| match node {
        Some(node) => fate(file, archive.number_above(*node), archive, &before, &after, &changes),
        None => Ok(Fate::Gone),
    });
    let fates = fates.collect::<Result<Vec<_>>>()?;
    let mut plan = sorted(&now.archive.streams, fates);
    let is_new = |found: &&Found| !known.contains(&found.node) && found.node != merged.root();
    let full = full(&all);
    for found in all.iter().filter(is_new) {
        if !is_implied(found, archive, &changes, &full)? {
            plan.add(Entry { file: entry::new(&found.path, &found.attr), ..placed(found) });
        }
    }
    plan.tell_apart(now)?;
    Ok(plan)
}

/// All entries of a tree. Nothing may be missing, since what is missing is taken for deleted.
fn all_of(tree: &dyn Tree, watch: &dyn Watch) -> Result<Vec<Found>> {
    let first = First::new(watch);
    let all = collect(tree, &Filter::default(), &first)?;
    first.done().map(|()| all)
}

fn placed(found: &Found) -> Entry {
    Entry { file: File::default(), node: found.node, path: found.path.clone(), len: found.attr.size }
}

fn fate(
    file: &File,
    node: Node,
    archive: &Renumbered,
    before: &HashMap<Node, Vec<u8>>,
    after: &HashMap<Node, &Found>,
    changes: &Changes,
) -> Result<Fate> {
    let Some(found) = after.get(&node) else { return Ok(Fate::Gone) };
    let mut entry = Entry { file: file.clone(), ..placed(found) };
    // The attributes of the root are not kept.
    if node == archive.root() {
        return Ok(Fate::Still(entry));
    }
    if changes.nodes.contains_key(&node) {
        entry.file = entry::adapted(file, &archive.attr(node)?, &found.attr);
    }
    if before.get(&node) != Some(&found.path) {
        entry.file.name = entry::name(&found.path);
    }
    let is_changed = matches!(changes.nodes.get(&node), Some(Some(Inode { draft: Some(_), .. })));
    Ok(if is_changed { Fate::Changed(entry) } else { Fate::Still(entry) })
}

/// Entries by what is to be done with their blocks.
fn sorted(streams: &Streams, fates: Vec<Fate>) -> Plan {
    let block_of = |file: &File| Some(streams.parts.get(file.part? as usize)?.block as usize);
    let mut missing = vec![0; streams.blocks.len()];
    streams.parts.iter().for_each(|part| missing[part.block as usize] += 1);
    for fate in &fates {
        if let Fate::Still(entry) = fate
            && let Some(block) = block_of(&entry.file)
        {
            missing[block] -= 1;
        }
    }
    let mut plan = Plan { kept: (0..missing.len()).filter(|block| missing[*block] == 0).collect(), ..Plan::default() };
    for fate in fates {
        match fate {
            Fate::Gone => {}
            Fate::Still(entry) if block_of(&entry.file).is_none_or(|block| missing[block] == 0) => {
                plan.still.push(entry)
            }
            Fate::Still(entry) | Fate::Changed(entry) => plan.add(entry),
        }
    }
    plan
}

impl Plan {
    /// Adds an entry whose contents, if it has any, are packed.
    fn add(&mut self, mut entry: Entry) {
        if entry.file.is_dir || entry.len == 0 {
            entry.file.part = None;
            self.still.push(entry);
        } else {
            entry.file.part = Some(0);
            self.packed.push(entry);
        }
    }

    /// All entries, in the order in which they are written.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.still.iter().chain(&self.packed)
    }

    /// An archive may have several files of one name, which are shown with numbers. When one of them is gone, the others
    /// would be shown with other ones: then they get the names that they are shown under.
    fn tell_apart(&mut self, now: &Opened) -> Result<()> {
        let most = now.archive.reading.max_entries;
        if self.entries().count() > most {
            return Err(Error::new(ErrorKind::Limit, format!("it would have more than {most} entries"))
                .hint("-o max-entries=N, when it is to have them all the same"));
        }
        if self.entries().all(|entry| entry::path(&entry.file) == entry.path) {
            return Ok(());
        }
        let files: Vec<File> = self.entries().map(|entry| entry.file.clone()).collect();
        let listed = listed((most, None), &Streams::default(), &files, &mut Slips::new(false))?;
        let tree = Catalog::new(listed.tables, now.archive.clone(), 0);
        let all = all_of(&tree, &Unwatched)?;
        let shown: HashMap<Node, Vec<u8>> = all.into_iter().map(|found| (found.node, found.path)).collect();
        for (entry, node) in self.still.iter_mut().chain(&mut self.packed).zip(listed.nodes) {
            if node.and_then(|node| shown.get(&node)) != Some(&entry.path) {
                entry.file.name = entry::name(&entry.path);
            }
        }
        Ok(())
    }
}

/// Directories with something in them.
fn full(all: &[Found]) -> HashSet<&[u8]> {
    let parent = |found: &'_ Found| found.path.iter().rposition(|byte| *byte == b'/');
    all.iter().filter_map(|found| parent(found).map(|at| &found.path[..at])).collect()
}

/// Whether it is a directory that the archive only speaks of, by what is in it; times of such are not kept.
fn is_implied(found: &Found, archive: &Renumbered, changes: &Changes, full: &HashSet<&[u8]>) -> Result<bool> {
    if archive.number_below(found.node).is_none() || !full.contains(&found.path[..]) {
        return Ok(false);
    }
    let base: Attr = archive.attr(found.node)?;
    let change = changes.nodes.get(&found.node);
    Ok(change.is_none_or(|inode| inode.as_ref().is_some_and(|inode| inode.is_still(&base, false))))
}
