//! 7z archives: those of 7-Zip and p7zip, with all their methods, and those of their relatives. They take changes.
//!
//! ```text
//!   │ "7z¼¯'␜" version │ where the header is │ packed streams ─ ─ ─ │ header │         (behind a program, perhaps)
//!
//!   bytes     things in a header      database  the header itself: blocks, parts, files
//!   method    what coders do          cipher    AES                  contents  files out of blocks
//!   entry     what a file is          find      where it begins      pack      a tree becomes a 7z
//!   settle    changes go into an archive
//! ```
//!
//! What others call solid is a block with many files: it is decoded from its front, once for all who read in it.

mod bytes;
mod cipher;
mod contents;
mod database;
mod entry;
mod find;
mod method;
pub mod pack;
mod settle;

use super::{Access, Format, Match, Probe, Settling, Slips, Volume};
use crate::error::{Error, Kind, Result, Within};
use crate::source::streams::Checked;
use crate::source::{ReadAt, Shelf, Stream};
use crate::tree::{Builder, Catalog, Duplicates, Node, Tables, Time};
use bytes::broken;
use cipher::Lock;
use contents::{Archive, Keyring, locks_of};
use database::{File, Header, Streams};
use find::Start;
use method::Opening;
use std::collections::BTreeSet;
use std::sync::Arc;

/// The format, for the list of formats.
pub struct SevenZ;

/// Bytes of a header, packed or not: ten million entries have about so much.
const MAX_HEADER: u64 = 1 << 30;

/// How often a header may be packed again.
const MAX_NESTING: usize = 4;

impl Format for SevenZ {
    fn name(&self) -> &'static str {
        "7z"
    }

    fn recognise(&self, probe: &Probe<'_>) -> Match {
        if find::is_at_front(probe.head) {
            return Match::Head;
        }
        find::in_bytes(probe.head).map_or(Match::No, |_| Match::Weak)
    }

    fn is_further_in(&self, bytes: &dyn ReadAt) -> Result<bool> {
        Ok(find::find(bytes)?.is_some())
    }

    fn open(&self, access: Access) -> Result<Volume> {
        let name = access.name.clone();
        opened(access, self.name(), Keyring::default()).map(|(volume, _)| volume).within(|| name)
    }

    fn open_to_settle(&self, access: Access) -> Result<Option<Settling>> {
        settle::open(access, self.name())
    }
}

/// What is known of an archive besides its tree, to write it.
struct Opened {
    archive: Arc<Archive>,
    files: Vec<File>,
    /// Of each file, where it is shown.
    nodes: Vec<Option<Node>>,
    first_new: u64,
    /// Whether the list of entries is encrypted, and how.
    is_locked: bool,
    lock: Option<Lock>,
    /// Why it cannot be changed.
    flaw: Option<String>,
}

impl Opened {
    fn is_encrypted(&self) -> bool {
        self.is_locked || has_locks(&self.archive.streams)
    }
}

/// Whether any block is encrypted.
fn has_locks(streams: &Streams) -> bool {
    streams.blocks.iter().any(|block| block.coders.iter().any(|coder| coder.method == method::AES))
}

fn opened(access: Access, format: &'static str, keyring: Keyring) -> Result<(Volume, Opened)> {
    let start = find::find(&*access.bytes)?.ok_or_else(|| broken("nothing leads to it"))?;
    let Listing { streams, files, is_locked, lock } = match start.header {
        None => Listing::default(),
        Some(_) => read_header(&access, &start, &keyring)?,
    };
    let mut slips = Slips::new(access.reading.strict);
    if start.end < access.bytes.len()? {
        slips.add("something stands behind the end of the archive")?;
    }
    let facts = facts(&streams, &files, &start, is_locked);
    let Listed { tables, nodes, notes: shown } =
        listed((access.reading.max_entries, access.modified), &streams, &files, &mut slips)?;
    let slips = slips.notes();
    let flaw = flaw(&start, &streams, &slips);
    let mut notes = [slips, shown].concat();
    let stored = access.bytes.len()?;
    let Access { bytes: source, cache, name, reading, .. } = access;
    let archive = Arc::new(Archive { source, cache, name, reading, streams, shelf: Shelf::default(), keyring });
    if !archive.reading.force && !archive.reading.asks_late {
        notes.extend(archive.try_password()?);
    }
    let first_new = tables.len() as u64 + 1;
    let tree = Arc::new(Catalog::new(tables, archive.clone(), stored));
    let volume = Volume { notes, facts, ..Volume::read_only(tree, format) };
    Ok((volume, Opened { archive, files, nodes, first_new, is_locked, lock, flaw }))
}

/// Why an archive cannot be changed.
fn flaw(start: &Start, streams: &Streams, slips: &[String]) -> Option<String> {
    if start.base > find::START as u64 {
        return Some("something stands in front of the archive, such as a program that unpacks it".into());
    }
    if start.is_lost {
        return Some("whoever wrote it was cut off before it was whole".into());
    }
    if !slips.is_empty() {
        return Some(slips.join("; "));
    }
    let mut coders = streams.blocks.iter().flat_map(|block| &block.coders);
    let unknown = coders.find(|coder| !method::is_known(coder.method))?;
    Some(format!("a part of it is compressed by {}, which this build cannot undo", method::name(unknown.method)))
}

/// What a header says.
#[derive(Default)]
struct Listing {
    streams: Streams,
    files: Vec<File>,
    /// Whether it is encrypted, and how.
    is_locked: bool,
    lock: Option<Lock>,
}

/// The header, unpacked if it is packed.
fn read_header(access: &Access, start: &Start, keyring: &Keyring) -> Result<Listing> {
    let range = start.header.clone().unwrap_or_default();
    if range.end > access.bytes.len()? {
        let what = format!("it is cut off: the list of its entries should be at {}", range.start);
        return Err(Error::new(Kind::Header, what).hint("the rest of the file, or its next volume, is missing"));
    }
    if range.end - range.start > MAX_HEADER {
        return Err(Error::new(Kind::Limit, "the list of its entries is too large"));
    }
    let mut bytes = vec![0; (range.end - range.start) as usize];
    access.bytes.read_exact_at(range.start, &mut bytes)?;
    if crc32fast::hash(&bytes) != start.sum {
        return Err(broken("it does not fit its checksum"));
    }
    let (mut is_locked, mut lock) = (false, None);
    for _ in 0..MAX_NESTING {
        match Header::read(&bytes, start.base, range.end)? {
            Header::Plain(streams, files) => return Ok(Listing { streams, files, is_locked, lock }),
            Header::Encoded(streams) => {
                is_locked |= has_locks(&streams);
                bytes = unpacked(access, &streams, keyring)?;
                lock = locks_of(&streams, 0)?.pop().or(lock);
            }
        }
    }
    Err(broken("it is packed again and again"))
}

/// A packed header.
fn unpacked(access: &Access, streams: &Streams, keyring: &Keyring) -> Result<Vec<u8>> {
    let block = streams.blocks.first().ok_or_else(|| broken("it is packed, and nothing is there"))?;
    if block.len() > MAX_HEADER {
        return Err(Error::new(Kind::Limit, "the list of its entries is too large"));
    }
    let locks = locks_of(streams, 0)?;
    let open = |keys: &[_]| {
        let (packed, source, cache) = (&streams.packed[..], &access.bytes, &access.cache);
        let opened = Opening { block, packed, source, cache, keys }.open()?;
        read_all(&Checked::new(method::streamed(opened), block.len(), block.sum))
    };
    if locks.is_empty() {
        return open(&[]);
    }
    keyring.fitting(&access.reading, &access.name, &locks, |keys| match open(keys) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(e) if e.kind() == Kind::Damaged => Ok(None),
        Err(e) => Err(e),
    })
}

/// All of a stream, whatever length it claims.
fn read_all(stream: &dyn Stream) -> Result<Vec<u8>> {
    let mut decoder = stream.start(None)?;
    let (mut all, mut piece) = (Vec::new(), vec![0; 64 << 10]);
    loop {
        match decoder.read(&mut piece)? {
            0 => return Ok(all),
            got if all.len() + got > MAX_HEADER as usize => {
                return Err(Error::new(Kind::Limit, "the list of its entries is too large"));
            }
            got => all.extend_from_slice(&piece[..got]),
        }
    }
}

/// The entries as a tree.
struct Listed {
    tables: Tables,
    /// Of each file, where it is shown.
    nodes: Vec<Option<Node>>,
    notes: Vec<String>,
}

/// Makes a tree of entries, of `most` at most. Directories that the archive only speaks of get the newest time that it knows,
/// or that of the archive.
fn listed(
    (most, modified): (usize, Option<Time>),
    streams: &Streams,
    files: &[File],
    slips: &mut Slips,
) -> Result<Listed> {
    let newest = files.iter().filter_map(|file| file.written).max().map(entry::time).or(modified);
    let time = newest.unwrap_or_default();
    let mut nodes = Vec::with_capacity(files.len());
    let mut builder = Builder::new(Duplicates::Numbered, most, time);
    builder.reserve(files.len().min(most), 0);
    for file in files {
        if file.is_anti {
            slips.add("an entry says that a file is to be deleted, and is not shown")?;
            nodes.push(None);
            continue;
        }
        let part = file.part.and_then(|part| streams.parts.get(part as usize));
        let item = entry::item(file, part, time, ids());
        match builder.add(&entry::path(file), item) {
            Err(e) if e.kind() == Kind::Limit && builder.len() <= most => {
                slips.add("an entry lies too deep to be shown")?;
                nodes.push(None);
            }
            added => nodes.push(Some(Node(u64::from(added?) + 1))),
        }
    }
    let (tables, notes) = builder.finish();
    Ok(Listed { tables, nodes, notes })
}

/// Whoever opens an archive owns what nobody else does.
fn ids() -> (u32, u32) {
    #[cfg(unix)]
    return (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
    #[cfg(not(unix))]
    (0, 0)
}

/// What `info` tells.
fn facts(streams: &Streams, files: &[File], start: &Start, is_locked: bool) -> Vec<(&'static str, String)> {
    let coders = || streams.blocks.iter().flat_map(|block| &block.coders);
    let methods: BTreeSet<_> = coders().map(|coder| method::name(coder.method)).collect();
    let mut facts = vec![("entries", files.len().to_string())];
    facts.push(("methods", methods.into_iter().collect::<Vec<_>>().join(", ")));
    facts.push(("blocks", streams.blocks.len().to_string()));
    if coders().any(|coder| coder.method == method::AES) || is_locked {
        let what = if is_locked { "AES-256, the list of entries too" } else { "AES-256" };
        facts.push(("encryption", what.to_owned()));
    }
    if start.base > find::START as u64 {
        facts.push(("in front", format!("{} bytes", start.base - find::START as u64)));
    }
    facts.push(("random access", cost(streams)));
    facts
}

fn cost(streams: &Streams) -> String {
    let compressed = |block: &&database::Block| !block.coders.iter().all(|coder| method::is_plain(coder.method));
    let Some(largest) = streams.blocks.iter().filter(compressed).map(database::Block::len).max() else {
        return "stored: a jump costs nothing".into();
    };
    let mib = largest.div_ceil(1 << 20);
    let is_solid = streams.parts.len() > streams.blocks.len();
    let what = if is_solid { "solid" } else { "one file a block" };
    let advice = if mib > 64 { "; `stmount convert` to .st makes it instant" } else { "" };
    format!("{what}: a jump decodes up to {mib} MiB, the largest block, what was decoded lately excepted{advice}")
}
