//! ZIP archives, to be read: those of PKZIP, Info-ZIP, 7-Zip, WinZip, Java, Android, Office, and what became of them.
//!
//! ```text
//!  layout    fixed structures            extra    fields of any length behind them
//!  volumes   all files of the archive    end      where the list of entries is
//!  records   the list, piece by piece    rebuild  a new one, where it is lost        window  small looks at large sources
//!  list      entries into a catalog      entry    what one means                     names   in which charset
//!  overlap   who quotes whom             slips    what is slightly wrong     measure  sizes that nobody says
//!  contents  what is in an entry         methods  how it is compressed               summed, sealed   checks on the way
//!  aes, zipcrypto                        facts    what `info` tells               pack      a tree becomes a zip
//!  settle    changes go into an archive     own      what zip has no place for     states   as it was before
//! ```
//!
//! Opening reads the end of the archive and the list of entries in pieces of a megabyte, and no header in between, except
//! for the first few, to see that they are where the list says.

mod aes;
mod contents;
mod end;
mod entry;
mod extra;
mod facts;
mod layout;
mod list;
mod measure;
mod methods;
mod names;
mod old;
mod overlap;
mod own;
pub mod pack;
mod rebuild;
mod records;
mod sealed;
mod settle;
mod states;
mod volumes;
mod window;
mod zipcrypto;

use super::Slips;
use super::{Access, Format, Generation, Match, Probe, Settling, Volume};
use crate::error::{Error, Kind, Result, Within};
use crate::pool::lock;
use crate::source::{ReadAt, Shelf};
use crate::tree::{Catalog, Node};
use contents::Archive;
use end::Found;
use entry::Member;
use layout::{ARCHIVE_EXTRA, DESCRIPTOR, END, LOCAL, SINGLE};
use list::{Entries, List, Survey};
use memchr::memmem;
use std::ops::Range;
use std::sync::{Arc, Mutex};
use volumes::Set;

/// The format, for the list of formats.
pub struct Zip;

/// Endings of files that are zip archives whatever they hold.
const ENDINGS: &[&str] = &[".zip", ".zipx", ".jar", ".apk", ".cbz", ".epub", ".xpi", ".war", ".ear", ".whl"];

impl Format for Zip {
    fn name(&self) -> &'static str {
        "zip"
    }

    fn recognise(&self, probe: &Probe<'_>) -> Match {
        let begins = |marks: &[[u8; 4]]| probe.head.starts_with(marks.as_flattened());
        if [&[LOCAL][..], &[END], &[DESCRIPTOR, LOCAL], &[SINGLE, LOCAL]].into_iter().any(begins) {
            return Match::Head;
        }
        if end::may_end(probe.tail) {
            return Match::Tail;
        }
        let name = probe.name.to_ascii_lowercase();
        let is_called_so = ENDINGS.iter().any(|ending| name.ends_with(ending)) || volumes::is_numbered(&name);
        match is_called_so && (memmem::find(probe.head, &LOCAL).is_some() || volumes::is_numbered(&name)) {
            true => Match::Weak,
            false => Match::No,
        }
    }

    fn open(&self, access: Access) -> Result<Volume> {
        let name = access.name.clone();
        let access = match access.state.clone() {
            Some(which) => states::access_to(access, &which)?,
            None => access,
        };
        open_parts(access, self.name()).map(|(volume, _)| volume).within(|| name)
    }

    fn keeps_states(&self) -> bool {
        true
    }

    fn generations(&self, access: &Access) -> Option<Result<Vec<Generation>>> {
        Some(states::generations(access))
    }

    fn open_to_settle(&self, access: Access) -> Result<Option<Settling>> {
        let Some(held) = access.held.clone() else { return Ok(None) };
        let name = access.name.clone();
        let access = Access { bytes: held.file(), ..access };
        let (volume, opened) = open_parts(access.clone(), self.name()).within(|| name)?;
        let Some(opened) = opened else { return Ok(None) };
        let is_encrypted = opened.archive.members.iter().any(Member::is_encrypted);
        let password = lock(&opened.archive.right).clone().filter(|_| is_encrypted);
        if is_encrypted && password.is_none() {
            // What is new would lie there in clear.
            return Err(Error::new(
                Kind::NeedsPassword,
                format!("{}: it is encrypted, and its password is not known", access.name),
            )
            .hint("--password-file FILE, without -o force"));
        }
        let first_new = opened.first_new;
        let settle = Arc::new(settle::ZipFile::new(access, held, Arc::new(opened)));
        Ok(Some(Settling { volume, settle, first_new, password }))
    }
}

/// What is known of an archive besides its tree, to write it.
struct Opened {
    archive: Arc<Archive>,
    /// Of each entry, where it is shown.
    nodes: Vec<Option<Node>>,
    first_new: u64,
    /// Whether something is said of the root.
    has_root: bool,
    /// Where the list is.
    list: Range<u64>,
    /// What is to be added to offsets.
    base: i64,
    comment: Vec<u8>,
}

/// Opens an archive. One of several files, and one that is damaged, cannot be written.
fn open_parts(access: Access, format: &'static str) -> Result<(Volume, Option<Opened>)> {
    let mut set = volumes::gather(&access)?;
    let mut slips = Slips::new(access.reading.strict);
    if let Some(slip) = set.slip {
        slips.add(slip)?;
    }
    let found = set.found.take();
    let told = found.as_ref().map(|found| told(&set, found, &access, &mut slips)).transpose()?.flatten();
    let (list, survey, list_at, base) = match told {
        Some((list, survey, list_at, base)) => (list, survey, list_at, Some(base).filter(|_| set.files == 1)),
        None => {
            let (list, survey, list_at) = rebuilt(&set, &access, &mut slips)?;
            (list, survey, list_at, None)
        }
    };
    let is_clear = slips.is_empty();
    let mut entries = list.entries(&survey, &access.reading, list_at, slips)?;
    drop(list);
    let facts = facts::facts(&set, found.as_ref(), &entries);
    let (mut notes, tables) = (std::mem::take(&mut entries.notes), std::mem::take(&mut entries.tables));
    let stored = set.bytes.len()?;
    let (nodes, overlapping) = (std::mem::take(&mut entries.nodes), !entries.overlapping.is_empty());
    let has_root = entries.has_root;
    let ending = found.map(|found| found.ending).unwrap_or_default();
    let archive = Arc::new(archive(&access, set, entries));
    if !access.reading.force && !access.reading.asks_late {
        notes.extend(archive.try_password()?);
    }
    let opened = base.filter(|_| !overlapping && is_clear).map(|base| Opened {
        archive: archive.clone(),
        nodes,
        first_new: tables.len() as u64 + 1,
        has_root,
        list: list_at..ending.at.max(list_at),
        base,
        comment: ending.comment,
    });
    let tree = Arc::new(Catalog::new(tables, archive, stored));
    Ok((Volume { notes, facts, ..Volume::read_only(tree, format) }, opened))
}

fn archive(access: &Access, set: Set, entries: Entries) -> Archive {
    Archive {
        source: set.bytes,
        cache: access.cache.clone(),
        name: access.name.clone(),
        reading: access.reading.clone(),
        members: entries.members,
        overlapping: entries.overlapping,
        shelf: Shelf::default(),
        right: Mutex::default(),
    }
}

/// The list that the end record leads to, unless it is damaged.
fn told(set: &Set, found: &Found, access: &Access, slips: &mut Slips) -> Result<Option<(List, Survey, u64, i64)>> {
    let Some(place) = found.place else { return Ok(None) };
    let ending = &found.ending;
    if place.is_empty() {
        let nothing = List::new(&set.bytes, ending.at..ending.at, &set.starts, 0)?;
        let survey = nothing.survey(access.reading.max_entries)?;
        return Ok(Some((nothing, survey, ending.at, 0)));
    }
    is_clear(&*set.bytes, place.start)?;
    let list = List::new(&set.bytes, place.start..ending.at, &set.starts, place.base)?;
    let survey = list.survey(access.reading.max_entries)?;
    let Some(base) = settled(set, &survey, place.base)? else { return Ok(None) };
    if survey.entries < ending.entries && survey.len < ending.list_len {
        return Ok(None);
    }
    compare(found, &survey, base, slips)?;
    Ok(Some((list.with_base(base), survey, place.start, base)))
}

fn is_clear(bytes: &dyn ReadAt, list_at: u64) -> Result<()> {
    let mut signature = [0; 4];
    bytes.read_exact_at(list_at, &mut signature)?;
    match signature == ARCHIVE_EXTRA {
        true => Err(Error::new(Kind::UnknownCipher, "the list of entries is encrypted in PKWARE's own way")),
        false => Ok(()),
    }
}

/// What is to be added to offsets so that the first entries are where it leads; nothing if they are nowhere.
fn settled(set: &Set, survey: &Survey, base: i64) -> Result<Option<i64>> {
    for base in [base, 0] {
        for wide in &survey.first {
            let start = set.starts.get(wide.disk as usize).copied().unwrap_or_default();
            let at = start.checked_add(wide.header_at).and_then(|at| at.checked_add_signed(base));
            let mut signature = [0; 4];
            if let Some(at) = at
                && set.bytes.read_at(at, &mut signature)? == signature.len()
                && signature == LOCAL
            {
                return Ok(Some(base));
            }
        }
    }
    Ok(survey.first.is_empty().then_some(base))
}

/// What the end record says, against what is there.
fn compare(found: &Found, survey: &Survey, base: i64, slips: &mut Slips) -> Result<()> {
    let ending = &found.ending;
    if survey.entries != ending.entries {
        slips.add(match survey.entries & 0xffff == ending.entries && !ending.is_zip64 {
            true => "there are more than 65535 entries, and no record of zip64 that says so",
            false => "the end record has a wrong number of entries",
        })?;
    }
    if survey.len != ending.list_len {
        slips.add("the end record has a wrong length of the list of entries")?;
    }
    if base < 0 {
        slips.add("what stands in front of the archive was cut off, or its offsets are wrong")?;
    }
    if ending.behind > 0 {
        slips.add("something stands behind the end of the archive")?;
    }
    if found.candidates > 1 {
        slips.add("there are several end records; the last one that leads to a list is taken")?;
    }
    Ok(())
}

fn rebuilt(set: &Set, access: &Access, slips: &mut Slips) -> Result<(List, Survey, u64)> {
    slips.add("the list of entries is missing or damaged; it was made anew from what is in front of the entries")?;
    let list = List::rebuilt(rebuild::rebuild(&*set.bytes, access.reading.max_entries)?, &set.bytes);
    let survey = list.survey(access.reading.max_entries)?;
    if survey.entries == 0 {
        return Err(Error::new(Kind::Header, "there is neither a list of entries nor any entry"));
    }
    // Where an entry was cut off, what is there can be read.
    Ok((list, survey, u64::MAX))
}
