//! `.st`: the container of this project. [FORMAT.md](https://docs.rs/stmount) is its specification.
#![doc = include_str!("FORMAT.md")]
//!
//! # The code
//!
//! ```text
//!  layout    fixed structures            limits   what a number may be at most
//!  columns   rows as streams             rows     the families of rows
//!  table     blocks and fence            index    all tables as one
//!  records   the log, back and forth     commit   the newest whole state
//!  segment   payload and codecs          tape     address -> decoded bytes
//!  tree      a container as a Tree       pack     a Tree as a container
//!  append    writing in place          generations  earlier states       past  those that are looked into
//!  bases     segments that lie in other containers, or in a store of objects
//!  conflict  a container that others move, replace or change while it is open to be written
//!  check     every hash, with  named    info     what there is, and what reading it costs
//!  keys      who opens a sealed container  signed   who signed a commit
//!  create    an empty container          recover  lost headers, ends and commits
//!  parity    what makes damage good      volumes  what of several files may be lost
//!  likeness  what a container has in common with what it was, or has become, elsewhere
//! ```

mod anchors;
mod append;
mod bases;
mod check;
mod columns;
mod commit;
mod compact;
mod conflict;
mod create;
mod extra;
mod generations;
mod healing;
mod index;
mod info;
mod keys;
mod layout;
mod likeness;
mod limits;
mod locks;
mod medium;
mod named;
mod pack;
mod parity;
mod past;
mod plan;
mod records;
mod recover;
mod rows;
mod scrub;
mod seal;
mod segment;
mod signed;
mod strays;
mod table;
mod tape;
mod tree;
mod volumes;

pub use bases::{Added, BaseInfo, Collected, Under, add, collect};
pub use check::{Checked, DamagedFile, Hurt};
pub use compact::{Compacted, Resealing, Target, compact, fatten};
pub use create::create;
pub use generations::{count, generations, open_at, restore};
pub use info::Info;
pub use keys::{KeySet, Label, NewSlot, SlotInfo};
pub use likeness::{Likeness, has_own_state, is_container, is_whole, likeness, reuse, sound};
pub use named::LostName;
pub use pack::{Packer, Segmentation};
pub use parity::{Policy, Repaired, add_parity, drop_parity, repair};
pub use recover::{Recovered, recover};
pub use seal::Seal;
pub use strays::Strays;
pub use tree::Container;
pub use volumes::{Endurance, Lost, Rebuilt, ends_here, endurance, rebuild, volume_size};

use super::{Access, Format, Generation, Heals, Match, Probe, Root, States, Unwatched, Volume, Writer};
use crate::cache::Cache;
use crate::error::{Error, Kind, Result, Within};
use crate::source::{ReadAt, Span};
use commit::{Commit, Found};
use generations::History;
use index::Index;
use layout::{FOOTER_MAGIC, Footer, HEADER_LEN, MAGIC, RECORD_HEADER_LEN, RECORD_MAGIC, TAPE_START, TableRef};
use locks::Locks;
use medium::Medium;
use past::Past;
use plan::Preset;
use std::sync::Arc;
use table::{Left, Table};
use zerocopy::FromBytes;

/// The format, for the list of formats.
pub struct St;

impl Format for St {
    fn name(&self) -> &'static str {
        "st"
    }

    fn recognise(&self, probe: &Probe<'_>) -> Match {
        // The header may be lost: a record behind it, or the footer at the end, tells as much.
        let record = probe.head.get(HEADER_LEN as usize..).is_some_and(|rest| rest.starts_with(&RECORD_MAGIC));
        match probe.head.starts_with(&MAGIC) || record {
            true => Match::Head,
            false if footer_of(probe.tail).is_some() => Match::Tail,
            // Both ends may be damaged: parity makes that good, or it is told what can be done.
            false if probe.name.ends_with(".st") && probe.head.len() as u64 > HEADER_LEN => Match::Weak,
            false => Match::No,
        }
    }

    fn open(&self, access: Access) -> Result<Volume> {
        if access.store.is_some() {
            return open_to_write(access, self.name());
        }
        let name = access.name.clone();
        open_to_read(access, self.name()).within(|| name)
    }

    fn volume_size(&self, volumes: &[Option<Arc<dyn ReadAt>>]) -> Result<Option<u64>> {
        volumes::volume_size(volumes)
    }

    fn ends_here(&self, bytes: &dyn ReadAt) -> bool {
        volumes::ends_here(bytes)
    }

    fn keeps_states(&self) -> bool {
        true
    }

    fn generations(&self, access: &Access) -> Option<Result<Vec<Generation>>> {
        Some(generations(access))
    }

    fn root(&self, access: &Access) -> Result<Option<Root>> {
        let found = || -> Result<Root> {
            let source = without_stub(access.bytes.clone())?;
            Ok(commit::newest(&source, &locks(access), &open_tables)?.0.root)
        };
        found().map(Some).within(|| &access.name)
    }

    fn uid(&self, access: &Access) -> Result<Option<[u8; 16]>> {
        uid(access).within(|| &access.name)
    }
}

fn footer_of(tail: &[u8]) -> Option<Footer> {
    let footer = Footer::read_from_bytes(tail.get(tail.len().checked_sub(size_of::<Footer>())?..)?).ok()?;
    (footer.magic == FOOTER_MAGIC).then_some(footer)
}

/// The identity of a container, told without its keys. `None` when its header is lost, and its end.
fn uid(access: &Access) -> Result<Option<[u8; 16]>> {
    let source = without_stub(access.bytes.clone())?;
    if let Some(header) = commit::read_front(&*source)? {
        return Ok(Some(header.uid));
    }
    let Some(footer) = records::read_footer(&*source, source.len()?)? else { return Ok(None) };
    // It stands first in every COMMIT, sealed or not.
    let (record, mut uid) = (footer.record.get(), [0; 16]);
    let Ok(header) = records::read_header(&*source, record) else { return Ok(None) };
    source.read_exact_at(record + RECORD_HEADER_LEN, &mut uid)?;
    let is_right = header.is_commit() && header.check == header.expected_check(&uid);
    Ok(is_right.then_some(uid))
}

/// The container in a file that may have something in front of it, such as a program that unpacks it.
fn without_stub(bytes: Arc<dyn ReadAt>) -> Result<Arc<dyn ReadAt>> {
    let len = bytes.len()?;
    let mut magic = [0; MAGIC.len()];
    match bytes.read_at(0, &mut magic) {
        Ok(got) if got == magic.len() && magic == MAGIC => return Ok(bytes),
        // What begins with a volume of a container begins with nothing else.
        Err(e) if e.kind() == Kind::MissingVolume => return Ok(bytes),
        read => drop(read?),
    }
    let Some(footer) = records::read_footer(&*bytes, len)? else { return Ok(bytes) };
    let Some(start) = len.checked_sub(footer.logical_end.get()).filter(|start| *start > 0) else { return Ok(bytes) };
    let inner: Arc<dyn ReadAt> = Arc::new(Span::new(bytes.clone(), start..len));
    // A footer may be damaged itself. Where it is right, a container is where it says.
    let begins = inner.read_at(0, &mut magic)? == magic.len() && magic == MAGIC;
    if begins || records::read_header(&*inner, footer.record.get()).is_ok() { Ok(inner) } else { Ok(bytes) }
}

impl Container {
    /// Opens the newest whole state of a container.
    pub fn open(access: Access) -> Result<Self> {
        let name = access.name.clone();
        Self::open_bytes(access).within(|| name)
    }

    /// What it is sealed with, and who opens it; `None` for one in clear.
    pub fn seal(&self) -> Option<&Arc<Seal>> {
        self.index().sealing().seal()
    }

    fn open_bytes(access: Access) -> Result<Self> {
        let source = without_stub(access.bytes.clone())?;
        Ok(open_source(&access, source)?.0)
    }
}

/// Opens a container to be read, with all its states.
fn open_to_read(access: Access, format: &'static str) -> Result<Volume> {
    let (history, newest) = History::open(&access)?;
    let asked = access.state.as_ref().map(|which| history.named(&newest, which));
    let tree = asked.transpose()?.map(|commit| history.state(&access, commit.record)).transpose()?;
    let past = Past::new(access.name, history.newest().clone(), newest.shared_index(), newest.shared_tape());
    let (root, tree, past) = (history.root(), Arc::new(tree.unwrap_or(newest)), Arc::new(past));
    Ok(Volume { heals: Some(past.clone()), states: Some(past), root, ..Volume::read_only(tree, format) })
}

/// Opens a container to change it. One that cannot be changed is opened to be read, and said so.
fn open_to_write(access: Access, format: &'static str) -> Result<Volume> {
    let (name, held) = (access.name.clone(), access.held.clone());
    match opened_to_write(access).within(|| &name)? {
        Ok((container, opened)) => {
            let root = Some(signed::root(&opened.medium, &opened.commit)?);
            let kept = held.map(|held| conflict::Kept::of(&opened, held));
            let writer = Arc::new(append::StWriter::new(opened)?);
            let tree = writer.tidy_up(Arc::new(container))?;
            let (states, heals) = (Some(writer.past() as Arc<dyn States>), Some(writer.past() as Arc<dyn Heals>));
            let writer: Arc<dyn Writer> = match kept {
                Some(kept) => Arc::new(conflict::Keeper::new(kept, writer, tree.clone())),
                None => writer,
            };
            Ok(Volume { states, heals, writer: Some(writer), root, ..Volume::read_only(tree, format) })
        }
        Err((container, commit, why)) => {
            log::warn!("{name}: it is read-only: {why}");
            let root = Some(signed::root(container.medium(), &commit)?);
            let past = Arc::new(Past::new(name, commit, container.shared_index(), container.shared_tape()));
            Ok(Volume {
                heals: Some(past.clone()),
                states: Some(past),
                root,
                ..Volume::read_only(Arc::new(container), format)
            })
        }
    }
}

/// Gives a sealed container other keys, which `change` makes of its seal. They are written behind all that is there: who
/// had a key before may have kept a copy of it.
///
/// # Errors
/// `Usage` when it is not sealed; `ReadOnly` when it cannot be changed; those of `change`, and then nothing is written.
pub fn change_keys(access: Access, change: &mut dyn FnMut(&Seal) -> Result<KeySet>) -> Result<()> {
    let name = access.name.clone();
    let writer = writer(access, LIVE_LEVEL)?;
    let seal = writer.seal().ok_or_else(|| {
        Error::new(Kind::Usage, format!("{name} is not sealed, and has no keys"))
            .hint(format!("stmount rekey --encrypt {name}"))
    })?;
    writer.commit_keys(change(&seal)?)?;
    // The keys count already. What covers them too is more than was asked for.
    if let Err(e) = writer.protect(&Unwatched) {
        log::warn!("{name}: no parity covers its new keys: {e}");
    }
    Ok(())
}

/// The writer of a container.
fn writer(access: Access, level: u8) -> Result<append::StWriter> {
    let name = access.name.clone();
    match opened_to_write(access).within(|| &name)? {
        Ok((_, opened)) => append::StWriter::new(append::Opened { preset: Preset::of(level), ..opened }),
        Err((.., why)) => Err(Error::new(Kind::ReadOnly, format!("{name}: it cannot be changed: {why}"))),
    }
}

/// Makes a state of a container that is signed, and is else the same as the newest one. What it stands on then.
///
/// # Errors
/// `Usage` when nothing signs.
pub fn sign(access: Access) -> Result<Root> {
    let nothing = || Error::new(Kind::Usage, format!("{}: there is no key to sign it with", access.name));
    access.signing.key().ok_or_else(nothing)?;
    let writer = writer(access, LIVE_LEVEL)?;
    writer.commit_names(Vec::new(), Vec::new())?;
    writer.root().ok_or_else(|| Error::new(Kind::Io, "what was signed cannot be read"))
}

type ToWrite = Result<(Container, append::Opened), (Container, Commit, &'static str)>;

/// A container and what its writer needs, or its newest commit and why it can have none.
fn opened_to_write(access: Access) -> Result<ToWrite> {
    let source = without_stub(access.bytes.clone())?;
    let (mut container, mut found) = open_source(&access, source.clone())?;
    let store = access.store.clone().filter(|_| Arc::ptr_eq(&source, &access.bytes));
    if let (Some(store), Some(rescue)) = (&store, &found.mended) {
        log::warn!("{}: its beginning or its end is damaged: it is made whole from parity", access.name);
        rescue.repair(&**store, &|_| !access.watch.is_cancelled())?;
        (container, found) = open_source(&access, source.clone())?;
    }
    let why = match (&store, found.has_header) {
        (None, _) => Some("something stands before it in its file"),
        (_, false) => Some("its header is damaged: `stmount recover` makes a new one"),
        _ if found.commit.head.ro_compat.get() != 0 => Some("it has features that this version can only read"),
        _ => None,
    };
    let (Some(store), None) = (store, why) else {
        return Ok(Err((container, found.commit, why.unwrap_or_default())));
    };
    let (end, medium) = (found.end, found.medium);
    let (index, tape) = (container.shared_index(), container.shared_tape());
    let Access { cache, owners, upkeep, name, level, signing, .. } = access;
    let (owner, commit) = (tape.owner(), found.commit);
    // Who adds to a container will do so again, and look for what is there.
    let preset = Preset { chunk_rows: true, ..Preset::of(level.unwrap_or(LIVE_LEVEL)) };
    #[rustfmt::skip]
    let opened = append::Opened {
        name, store, medium, cache, owner, owners, upkeep, tape, index, commit, end, preset, signing,
    };
    Ok(Ok((container, opened)))
}

/// How what is written is compressed when nobody says how: to a mount, at its pace.
const LIVE_LEVEL: u8 = 3;

fn open_source(access: &Access, source: Arc<dyn ReadAt>) -> Result<(Container, Found)> {
    let (found, tables) = commit::newest(&source, &locks(access), &open_tables)?;
    tell(access, &found)?;
    let owner = access.cache.new_owner();
    let cache: Arc<Cache> = access.cache.clone();
    let index = Arc::new(Index::new(tables, found.medium.clone(), cache.clone(), owner));
    let tape = Arc::new(tape::Tape::new(index.clone(), found.medium.clone(), cache.clone(), owner));
    let stored = source.len()? - found.torn;
    let name = access.name.clone();
    let container = Container::new(name, index, tape, cache, owner, (found.commit.totals, stored));
    match container.index().node(tree::ROOT)? {
        Some(_) => Ok((container, found)),
        None => Err(Error::new(Kind::Header, "the container has no root directory")),
    }
}

fn tell(access: &Access, found: &Found) -> Result<()> {
    let name = &access.name;
    volumes::check_holes(access, found)?;
    if found.mended.is_some() {
        log::warn!("{name}: its beginning or its end is damaged or missing; it is read through its parity");
        return Ok(());
    }
    if found.torn > 0 {
        log::warn!("{name}: the last {} bytes are not a complete commit; showing the state before them", found.torn);
    }
    if !found.has_header {
        log::warn!("{name}: the header of the file is damaged; the container is read without it");
    }
    Ok(())
}

/// Who unlocks a container that is opened so.
fn locks(access: &Access) -> Locks<'_> {
    Locks { reading: &access.reading, name: &access.name }
}

fn open_tables(medium: &Medium, commit: &Commit) -> Result<Vec<Arc<Table>>> {
    let mut left = Left::default();
    let open = |reference: &TableRef| open_table(medium, reference, commit.record, &mut left).map(Arc::new);
    commit.tables.iter().map(open).collect()
}

/// Opens a table that lies before `end`.
fn open_table(medium: &Medium, reference: &TableRef, end: u64, left: &mut Left) -> Result<Table> {
    let payload_at = reference.record.get().checked_add(RECORD_HEADER_LEN).filter(|at| *at < end);
    let payload_at = payload_at.ok_or_else(|| Error::new(Kind::Header, "a table lies outside the container"))?;
    Table::open(medium, payload_at, reference, left)
}
