//! RAR archives, to be read: those of RAR 1.3 to 7, behind a program or not, in one file or many.
//!
//! ```text
//!   bytes     things in a header     ancient, old, new   the headers of RAR 1.3, 1.5 to 4, 5 and 7
//!   headers   what they tell         find                where an archive begins    volumes   its other files
//!   names     in which charset       entry               what a file is             facts     what `info` tells
//!   cipher    keys and ciphers       unpack              members in runs            contents  files out of them    sum  checks
//! ```
//!
//! There is no list of entries: their headers stand in front of their data, and opening goes from one to the next. Names,
//! places and checks are read here; the codecs are those of `rars`.
//!
//! # Why it is not written
//!
//! `rars` has a writer, and it is left out of the build. It is young, and what it writes was never checked against the program
//! that defines the format, since the only independent readers are of the same descent. The licence of UnRAR forbids to use
//! its code to make the compressor; `rars` is written without it, but whoever ships a RAR compressor has to be able to show
//! that of every line. And what people want of it, changes to a RAR that they have, an overlay does without touching the
//! archive, and `convert` for good. That outweighs one more format to write.

mod ancient;
mod bytes;
mod cipher;
mod contents;
mod entry;
mod facts;
mod find;
mod headers;
mod names;
mod new;
mod old;
mod sum;
mod unpack;
mod volumes;

use super::{Access, Format, Match, Probe, Slips, Volume};
use crate::codec::charset::Charset;
use crate::error::{Error, Kind, Result, Within};
use crate::source::ReadAt;
use crate::tree::{Builder, Catalog, Duplicates, Item, Tables, Time};
use bytes::Look;
use cipher::Keyring;
use contents::Archive;
use find::{Start, Version};
use headers::{Ending, File, Link, List, Main, Member};
use std::collections::HashMap;
use std::sync::Arc;
use unpack::Body;
use volumes::Naming;

/// The format, for the list of formats.
pub struct Rar;

impl Format for Rar {
    fn name(&self) -> &'static str {
        "rar"
    }

    fn recognise(&self, probe: &Probe<'_>) -> Match {
        match find::in_bytes(probe.head) {
            Some(start) if start.at == 0 => Match::Head,
            Some(_) => Match::Weak,
            None => Match::No,
        }
    }

    fn is_further_in(&self, bytes: &dyn ReadAt) -> Result<bool> {
        Ok(find::find(bytes)?.is_some())
    }

    fn open(&self, access: Access) -> Result<Volume> {
        let name = access.name.clone();
        open(access, self.name()).within(|| name)
    }
}

/// What is found while headers are read, and what they are read with.
struct Scan<'a> {
    access: &'a Access,
    keyring: &'a Keyring,
    slips: &'a mut Slips,
    list: &'a mut List,
}

fn open(access: Access, format: &'static str) -> Result<Volume> {
    let keyring = Keyring::default();
    let (mut slips, mut list) = (Slips::new(access.reading.strict), List::default());
    let set = {
        let mut scan = Scan { access: &access, keyring: &keyring, slips: &mut slips, list: &mut list };
        read_volumes(&mut scan)?
    };
    let runs = unpack::runs(&mut list);
    let charset = names::charset(access.reading.encoding.as_deref(), &list.files)?;
    let (tables, shown) = listed(&access, &list, charset, &set, &mut slips)?;
    let mut notes = [slips.notes(), shown].concat();
    notes.extend(set.missing.as_ref().map(|name| format!("the volume {name} is missing: what is in it is not shown")));
    let stored = set.volumes.iter().map(|volume| volume.len()).sum::<Result<u64>>()?;
    let is_guessed = list.files.iter().any(|file| names::is_undeclared(&file.name));
    let Access { cache, name, reading, .. } = access;
    let List { members, .. } = list;
    let body = Body { volumes: set.volumes, members, runs, keyring, reading, cache, name, missing: set.missing };
    let facts = facts::facts(&body, &set.main, &set.start, is_guessed.then(|| charset.name()));
    let archive = Archive::new(body);
    if !archive.reading().force && !archive.reading().asks_late {
        notes.extend(archive.try_password()?);
    }
    let tree = Arc::new(Catalog::new(tables, Arc::new(archive), stored));
    Ok(Volume { notes, facts, ..Volume::read_only(tree, format) })
}

/// All volumes that are there.
struct Set {
    volumes: Vec<Arc<dyn ReadAt>>,
    main: Main,
    start: Start,
    /// The name of the one that would follow.
    missing: Option<String>,
}

/// A volume, read up to its main header.
enum Begun {
    Ancient(ancient::Begun),
    Old(old::Begun),
    New(new::Begun),
}

impl Begun {
    fn new(look: &mut Look<'_>, start: &Start, scan: &Scan<'_>) -> Result<Self> {
        Ok(match start.version {
            Version::Ancient => Self::Ancient(ancient::begin(look, start.behind())?),
            Version::Old => Self::Old(old::begin(look, start.behind())?),
            Version::New => Self::New(new::begin(look, start.behind(), scan)?),
        })
    }

    fn main(&self) -> Main {
        match self {
            Self::Ancient(begun) => begun.main,
            Self::Old(begun) => begun.main,
            Self::New(begun) => begun.main,
        }
    }

    /// Takes the files of the volume into the list. A damaged header ends it, where that is allowed.
    fn walk(&self, look: &mut Look<'_>, volume: u32, scan: &mut Scan<'_>) -> Result<Ending> {
        let ended = match self {
            Self::Ancient(begun) => ancient::walk(look, begun, volume, scan),
            Self::Old(begun) => old::walk(look, begun, volume, scan),
            Self::New(begun) => new::walk(look, begun, volume, scan),
        };
        match ended {
            Err(e) if e.kind() == Kind::Header && scan.access.reading.force => {
                scan.slips.add("a header is damaged; what was behind it is not shown")?;
                Ok(Ending::Silent)
            }
            Err(e) if e.kind() == Kind::Header => Err(e.hint("-o force, to see what stands in front of the damage")),
            ended => ended,
        }
    }
}

fn not_rar() -> Error {
    Error::new(Kind::Header, "it does not begin as a RAR archive")
}

/// The volume to begin with.
struct First {
    bytes: Arc<dyn ReadAt>,
    start: Start,
    main: Main,
    /// How its set is called, and which of them it is.
    naming: Option<(Naming, usize)>,
}

impl First {
    fn new(bytes: Arc<dyn ReadAt>, name: Option<&str>, scan: &Scan<'_>) -> Result<Self> {
        let start = find::find(&*bytes)?.ok_or_else(not_rar)?;
        let main = Begun::new(&mut Look::new(&*bytes)?, &start, scan)?.main();
        let naming = name.filter(|_| main.is_volume).and_then(|name| Naming::of(name, &main));
        Ok(Self { bytes, start, main, naming })
    }

    /// What was opened, or the first volume of its set.
    fn find(scan: &Scan<'_>) -> Result<Self> {
        let beside = scan.access.volumes.as_deref();
        let opened = Self::new(scan.access.bytes.clone(), beside.map(|beside| beside.name()), scan)?;
        let (Some(beside), Some((naming, number))) = (beside, &opened.naming) else { return Ok(opened) };
        if opened.main.is_first == Some(true) || *number == 1 {
            return Ok(opened);
        }
        match volumes::first(beside, naming) {
            Ok((name, bytes)) => Self::new(bytes, Some(&name), scan).within(|| name),
            Err(_) if scan.access.reading.force => Ok(opened),
            Err(e) => Err(e),
        }
    }
}

fn read_volumes(scan: &mut Scan<'_>) -> Result<Set> {
    let First { mut bytes, mut start, main, naming } = First::find(scan)?;
    let mut set = Set { volumes: Vec::new(), main, start, missing: None };
    loop {
        let ending = walk_all(&mut set, &bytes, start, scan)?;
        let read = set.volumes.len();
        let name = naming.as_ref().map(|(naming, first)| naming.name(first + read));
        let goes_on = match ending {
            Ending::Told { goes_on, .. } => goes_on,
            // The end was not always told.
            Ending::Silent | Ending::Cut => main.is_volume,
        };
        let next = match (&scan.access.volumes, &name) {
            (Some(beside), Some(name)) if goes_on && read < volumes::MOST => beside.open(name)?,
            _ => None,
        };
        let Some(next) = next else {
            end(&mut set, ending, name, scan)?;
            return Ok(set);
        };
        start = find::find(&*next)?.ok_or_else(not_rar).within(|| name.unwrap_or_default())?;
        bytes = next;
    }
}

/// Reads a volume, and others that stand behind it in the same file.
fn walk_all(set: &mut Set, bytes: &Arc<dyn ReadAt>, mut start: Start, scan: &mut Scan<'_>) -> Result<Ending> {
    let volume = set.volumes.len() as u32;
    set.volumes.push(bytes.clone());
    let mut look = Look::new(&**bytes)?;
    loop {
        let ending = Begun::new(&mut look, &start, scan)?.walk(&mut look, volume, scan)?;
        let Ending::Told { goes_on: true, at } = ending else { return Ok(ending) };
        match find::at(&**bytes, at)? {
            Some(next) => start = next,
            None => return Ok(ending),
        }
    }
}

/// Takes note of how the last volume ended, and which would be `next`.
fn end(set: &mut Set, ending: Ending, next: Option<String>, scan: &mut Scan<'_>) -> Result<()> {
    let is_missing = scan.list.is_open || matches!(ending, Ending::Told { goes_on: true, .. });
    if scan.list.is_open {
        scan.list.give_up();
    }
    let last = set.volumes.last().map_or(Ok(0), |volume| volume.len())?;
    match ending {
        Ending::Cut => scan.slips.add("it is cut off: what was behind is missing")?,
        Ending::Told { at, .. } if at < last => scan.slips.add("something stands behind the end of the archive")?,
        Ending::Silent if set.start.version == Version::New => scan.slips.add("it is cut off: its end is missing")?,
        _ => {}
    }
    let piece = scan.access.parts.as_ref().map(|parts| parts.next.clone());
    set.missing = match ending {
        Ending::Cut => piece,
        _ if is_missing => next.or(piece),
        _ => None,
    };
    if is_missing && set.missing.is_none() {
        scan.slips.add("it goes on in another volume, which is missing")?;
    }
    if scan.list.cut > 0 {
        scan.slips.add("a part of an entry is in a volume that is missing")?;
    }
    Ok(())
}

fn listed(
    access: &Access,
    list: &List,
    charset: Charset,
    set: &Set,
    slips: &mut Slips,
) -> Result<(Tables, Vec<String>)> {
    let time = list.files.iter().filter_map(|file| file.modified).max().or(access.modified).unwrap_or_default();
    let most = access.reading.max_entries;
    let mut builder = Builder::new(Duplicates::Numbered, most, time);
    builder.reserve(list.files.len().min(most), 0);
    let has_backslashes = set.start.version != Version::New;
    let copies = Copies::new(list);
    for file in &list.files {
        let (item, path) = (copies.item(file, list, time), names::path(file, charset, has_backslashes));
        let added = match &file.link {
            Some(Link::Hard(to)) => builder.link(&path, to, item),
            _ => builder.add(&path, item).map(drop),
        };
        match added {
            Err(e) if e.kind() == Kind::Limit && builder.len() <= most => {
                slips.add("an entry lies too deep to be shown")?;
            }
            added => added?,
        }
    }
    Ok(builder.finish())
}

/// Files by their names, where there are copies of some.
struct Copies<'a>(HashMap<&'a [u8], u32>);

impl<'a> Copies<'a> {
    fn new(list: &'a List) -> Self {
        let is_copy = |file: &File| matches!(file.link, Some(Link::Copy(_)));
        let all = if list.files.iter().any(is_copy) { &list.files[..] } else { &[] };
        let named = all.iter().filter(|file| file.link.is_none());
        Self(named.map(|file| (&file.name.bytes[..], file.member)).collect())
    }

    fn item(&self, file: &File, list: &List, time: Time) -> Item {
        let mut file = file.clone();
        let mut member: &Member = &list.members[file.member as usize];
        let mut content = None;
        if let Some(Link::Copy(of)) = &file.link {
            match self.0.get(&of[..]) {
                Some(found) => {
                    file.member = *found;
                    member = &list.members[*found as usize];
                }
                None => content = Some(crate::tree::MISSING),
            }
        }
        let item = entry::item(&file, member, time, ids());
        Item { content: content.unwrap_or(item.content), ..item }
    }
}

/// Whoever opens an archive owns what nobody else does.
fn ids() -> (u32, u32) {
    #[cfg(unix)]
    return (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
    #[cfg(not(unix))]
    (0, 0)
}
