//! Taking a tree into a container that is there: what is new is added, what differs is replaced, the rest stays.
//!
//! ```text
//!  walk ──► steps ──► sheet ──► commit ──► the next steps
//!  names,   up to     Changes   contents are read now, front to back, from the source to the tape
//!  inodes   256 Ki
//! ```
//!
//! A tree that is not large is one commit; of a large one, each commit is a state that is whole in itself, and what is
//! stored stays stored. Memory does not grow with the contents: a file on its way is a place where its bytes can be read.
//!
//! A file that cannot be read, or gets shorter, is found out in the middle of a commit. The commit then fails and leaves
//! nothing, and the same steps are made into changes again: without that file, or with it as it is now.

mod compose;
mod sheet;
mod source;
mod walk;

pub use source::Source;

use crate::error::{Error, Kind as ErrorKind, Result};
use crate::formats::Volume;
use crate::tree::Filter;
use compose::Compose;
use std::sync::Arc;
use walk::Walk;

/// Steps that are remembered until they are stored: about 250 bytes each.
const STEPS: usize = 256 << 10;
/// Changed entries of a commit: about 1 KiB of memory each, until its table is written.
const CHANGED: u64 = 64 << 10;
/// Contents of a commit, in bytes. What an interruption costs at most, and what is read again when a file fails.
const CONTENTS: u64 = 1 << 30;

/// Which files are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Take {
    /// All.
    All,
    /// Those whose size or time differs from what is stored; the others are not read.
    Changed,
}

#[derive(Clone, Debug)]
pub struct Options {
    pub take: Take,
    /// Whether what the tree does not have is removed, unless the filter leaves it out.
    pub delete: bool,
    /// Whether the root is taken too, with its attributes, and not only what is in it.
    pub root: bool,
    pub filter: Filter,
}

/// What was done. Directories, files, links and the rest count alike, by their names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    pub added: u64,
    /// Contents, or what it is, differed.
    pub replaced: u64,
    /// Only attributes differed.
    pub changed: u64,
    pub unchanged: u64,
    pub removed: u64,
    /// Sum of the sizes of the files that were taken.
    pub bytes: u64,
    /// By so much the container has grown.
    pub stored: u64,
    /// What could not be read or not be put in its place; each was told.
    pub skipped: u64,
    pub commits: u64,
}

/// Takes a tree into the container of a volume.
///
/// # Errors
/// `ReadOnly` when the volume has no writer; `Interrupted` when whoever watches wants so. What was committed before an
/// error stays.
pub fn update(source: &Arc<Source>, volume: &Volume, options: &Options) -> Result<Report> {
    let Some(writer) = &volume.writer else {
        return Err(Error::new(ErrorKind::ReadOnly, "nothing can be added to it")
            .hint("stmount check tells what is wrong with a container"));
    };
    let stored = volume.tree.totals()?.stored;
    let mut walk = Walk::new(source)?;
    let mut compose = Compose::new(source, volume.tree.clone(), &**writer, options);
    let done = run(&mut walk, &mut compose, source, options);
    let mut report = compose.report();
    report.skipped += walk.skipped;
    match done {
        Ok(()) => {
            report.stored = compose.stored()?.saturating_sub(stored);
            Ok(report)
        }
        Err(e) if report.commits > 0 && e.advice().is_none() => {
            Err(e.hint("what was stored until then stays; the same command with --update goes on"))
        }
        Err(e) => Err(e),
    }
}

fn run(walk: &mut Walk, compose: &mut Compose<'_>, source: &Arc<Source>, options: &Options) -> Result<()> {
    while let Some(step) = walk.next(source, options)? {
        source.check()?;
        compose.step(step)?;
        if compose.is_full() {
            compose.commit()?;
        }
    }
    source.check()?;
    compose.commit()
}
