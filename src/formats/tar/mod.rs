//! Tar archives, to be read: those of GNU tar, BSD, pax, star, Python, Go and everything since version 7 of Unix.
//!
//! ```text
//!   header   the block in front of an entry    numbers  how it writes them      pax     records that say more
//!   scan     from one header to the next       entry    what all of it means    index   kept for the next time
//!   sparse   files with holes                  contents what is in a file       pack    a tree becomes a tar
//!   settle   changes go into an archive
//! ```
//!
//! A tar has no list of its entries: it is gone through from its front once, and what was learnt is kept for the next time.
//! Where it is compressed, going through it decodes all of it; see [`super::compressed`].

mod contents;
mod entry;
mod header;
mod index;
mod numbers;
pub mod pack;
mod pax;
mod scan;
mod settle;
mod sparse;

use super::{Access, Format, Match, Names, Probe, Settling, Volume};
use crate::error::{Error, Kind, Result, Within};
use crate::tree::Catalog;
use contents::Archive;
use header::{BLOCK, Header};
use index::Saved;
use scan::Scan;
use std::sync::Arc;

/// The format, for the list of formats.
pub struct Tar;

impl Format for Tar {
    fn name(&self) -> &'static str {
        "tar"
    }

    fn recognise(&self, probe: &Probe<'_>) -> Match {
        if let Some(header) = probe.head.get(..BLOCK).and_then(Header::read) {
            // Without a magic, the sum could be right by chance; that there is a path is likely then.
            return Match::head(header.has_magic() || !header.path().is_empty());
        }
        let is_called_so = probe.name.to_ascii_lowercase().ends_with(".tar");
        let is_empty = probe.head.len() >= 2 * BLOCK && probe.head.iter().all(|b| *b == 0);
        if is_called_so && is_empty { Match::Weak } else { Match::No }
    }

    fn is_read_forward(&self) -> bool {
        true
    }

    fn open(&self, access: Access) -> Result<Volume> {
        let name = access.name.clone();
        open(&access, self.name()).map(|(volume, _)| volume).within(|| name)
    }

    fn open_to_settle(&self, access: Access) -> Result<Option<Settling>> {
        settle::open(access)
    }
}

/// What is known of an archive besides its tree, to write it.
struct Opened {
    first_new: u64,
    is_clear: bool,
    body: u64,
    end: u64,
}

fn open(access: &Access, format: &'static str) -> Result<(Volume, Opened)> {
    let key = index::key(&access.reading);
    let known = access.memory.as_ref().and_then(|memory| Saved::read(&memory.load(&key)?));
    let saved = match known {
        Some(saved) => saved,
        None => {
            let saved = scanned(access)?;
            if let Some(memory) = access.memory.as_ref().filter(|_| saved.is_worth_keeping()) {
                saved.write().into_iter().for_each(|bytes| memory.save(&key, &bytes));
            }
            saved
        }
    };
    let Saved { tables, members, maps, notes, facts, is_clear, body, end } = saved;
    let opened = Opened { first_new: tables.len() as u64 + 1, is_clear, body, end };
    let stored = access.compressed.as_ref().map_or(end, |compressed| compressed.len);
    let facts = facts.iter().map(|(name, value)| (index::fact(*name), value.clone())).collect();
    let archive = Arc::new(Archive::new(access.bytes.clone(), members, maps));
    let tree = Arc::new(Catalog::new(tables, archive, stored));
    Ok((Volume { notes, facts, ..Volume::read_only(tree, format) }, opened))
}

/// Goes through the archive; twice, where names turn out to be in a charset that has to be guessed from all of them.
fn scanned(access: &Access) -> Result<Saved> {
    let scan = |names| Scan::new(access, names).run();
    let (scan, _) = Names::settled(access.reading.encoding.as_deref(), scan, |scan| &scan.undeclared)?;
    scan.finish()
}

/// The error of what is no tar, or not any more.
fn broken(what: impl Into<String>) -> Error {
    Error::new(Kind::Header, what)
}
