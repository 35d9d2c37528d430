//! A container packed anew: only what the states need that are kept, in the order and with the strength of
//! a pack. Inode numbers, times and the numbers of the states stay.
//!
//! ```text
//!   oldest state that is kept ──pack──► new container
//!   each later one            ──what differs──► a commit behind it
//!   names                     ──► one more commit
//!   parity                    ──► over all of it, where the container is to have any
//! ```
//!
//! What is sealed stays sealed for the same keys, unless it is to be sealed anew, with another master key.

use super::bases::{Entry, Kept, Put};
use super::commit;
use super::generations::{self, History, Tagged};
use super::index::At;
use super::pack::{Again, Keeping, Packer};
use super::parity::{POLICY, Policy};
use super::rows::{Block, MetaRow, Names, NodeRow, Nodes};
use super::seal::{Seal, Sealing};
use super::tree::Container;
use crate::cache::Cache;
use crate::error::{Error, Kind as ErrorKind, Result, Within};
use crate::formats::{Access, Reading, Upkeep, Watch, Writer};
use crate::source::{ReadAt, Store};
use crate::tree::{Changes, Draft, Inode, Kind, Name, Node, Time, Tree};
use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::io::Write;
use std::sync::Arc;

/// What came of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Compacted {
    /// Bytes of the container before and after.
    pub before: u64,
    pub after: u64,
    /// States that were kept, the present one among them.
    pub states: u64,
}

/// What the new container is sealed with.
#[derive(Clone, Debug)]
pub enum Resealing {
    /// As the old one is, for the same keys.
    AsBefore,
    With(Arc<Seal>),
    /// With nothing.
    Plain,
}

impl Resealing {
    fn seal(&self, before: &Sealing) -> Option<Arc<Seal>> {
        match self {
            Self::AsBefore => before.seal().cloned(),
            Self::With(seal) => Some(seal.clone()),
            Self::Plain => None,
        }
    }
}

/// What can be written front to back, and then as a store.
pub trait Target: Store {
    fn stream(&self) -> Result<Box<dyn Write + Send + '_>>;
}

/// Packs a container anew into an empty target.
///
/// # Errors
/// Whatever cannot be read: nothing is left out, and then the target is to be thrown away.
pub fn compact<T: Target + 'static>(
    access: &Access,
    packer: &Packer,
    resealing: &Resealing,
    target: &Arc<T>,
    watch: &dyn Watch,
) -> Result<Compacted> {
    compact_with(access, packer, (resealing, &mut Lower::Stay), target, watch)
}

/// What becomes of segments that lie elsewhere.
pub enum Lower<'a> {
    /// They stay there.
    Stay,
    /// All of it becomes part of the container.
    Fat,
    /// All others go to a store as well.
    Thin(Entry, Put<'a>),
}

/// The same, where it is said what becomes of what lies in bases.
pub fn compact_with<T: Target + 'static>(
    access: &Access,
    packer: &Packer,
    (resealing, lower): (&Resealing, &mut Lower<'_>),
    target: &Arc<T>,
    watch: &dyn Watch,
) -> Result<Compacted> {
    let (history, newest) = History::open(access).within(|| &access.name)?;
    let tags = history.tags(newest.index())?;
    let recorded = generations::recorded(access)?;
    let times: Vec<Time> = recorded.iter().map(|(_, state)| state.time).collect();
    let kept = recorded.iter().zip(access.upkeep.kept(&times));
    let kept = kept.filter(|((_, state), keep)| *keep || !state.names.is_empty());
    let mut records: BTreeSet<u64> = kept.map(|((record, _), _)| *record).collect();
    records.insert(history.newest().record);
    let states = records.len() as u64;
    let all: Vec<u64> = records.iter().copied().collect();
    let kept = match lower {
        Lower::Stay => Kept::of(access, &history, &all)?,
        Lower::Fat => None,
        Lower::Thin(entry, put) => Kept::with(access, &history, &all, Some((entry.clone(), &mut **put)))?,
    };
    if kept.is_some() && !matches!(resealing, Resealing::AsBefore) {
        let what = format!("{}: what lies in its bases keeps the seal that it has there", access.name);
        return Err(Error::new(ErrorKind::Unsupported, what)
            .hint("stmount fat, which makes it whole; then rekey that, and pack or add it again"));
    }
    let kept = kept.map(Arc::new);
    let mut records = records.into_iter();
    let first = records.next().expect("the newest is among them");

    let mut before = history.state(access, first)?;
    let head = history.commit(first)?.head;
    let again = Again {
        uid: head.uid,
        seq: head.seq.get(),
        time_ns: head.time_ns.get(),
        next_ino: history.newest().head.next_ino.get(),
    };
    let seal = resealing.seal(&history.medium().sealing);
    let root = history.root();
    let (signing, is_vouched_for) = (access.signing.clone(), root.is_some_and(|root| root.is_vouched_for()));
    let policy = newest.index().meta(POLICY)?.map(|value| Policy::decode(&value)).transpose()?;
    let packer = Packer { again: Some(again), seal: seal.clone(), signing, parity: policy, ..packer.clone() };
    let mut stream = target.stream()?;
    let keeping =
        kept.clone().map(|kept| Keeping { kept, index: before.shared_index(), medium: before.medium().clone() });
    let packed = packer.write_keeping(&before, keeping, &mut *stream, watch)?;
    stream.flush().map_err(|e| Error::io(e, "cannot write the new container"))?;
    drop(stream);
    if packed.skipped > 0 {
        return Err(Error::new(ErrorKind::Damaged, format!("{}: some of it cannot be read", access.name))
            .hint("stmount check, which names the files; stmount pack leaves them out"));
    }

    let own = Access::to_write(target.clone(), Cache::new(access.cache.budget() / 4), &*access.name);
    let own = Access { reading: reading(access, seal.as_deref()), signing: access.signing.clone(), ..own };
    let writer = super::writer(own, packer.level)?;
    let mut moved = vec![(first, writer.last_commit())];
    for record in records {
        let after = history.state(access, record)?;
        let head = history.commit(record)?.head;
        let kept = kept.as_deref().map(|kept| (kept, writer.owner()));
        writer.replay(&differences(&before, &after, kept)?, head.seq.get(), head.time_ns.get())?;
        moved.push((record, writer.last_commit()));
        before = after;
    }
    let place = |record: u64| moved.iter().find(|(old, _)| *old == record).map(|(_, new)| *new);
    let names =
        tags.into_iter().filter_map(|(name, tagged)| Some((name, Tagged { record: place(tagged.record)?, ..tagged })));
    let names = names.map(|(name, tagged)| Ok(MetaRow { name: generations::tag_key(&name)?, value: tagged.encode() }));
    let names = names.collect::<Result<Vec<_>>>()?;
    // A state with a number that was seen must not come back as another one.
    if !names.is_empty() || is_vouched_for {
        writer.commit_names(names, Vec::new())?;
    }
    writer.protect(watch)?;
    drop(writer);
    let old_end = commit::end(history.medium(), history.newest())?;
    Ok(Compacted { before: old_end, after: target.len()?, states })
}

/// Packs a thin container into one that needs no base, with all its states.
pub fn fatten<T: Target + 'static>(
    access: &Access,
    packer: &Packer,
    target: &Arc<T>,
    watch: &dyn Watch,
) -> Result<Compacted> {
    let access = Access { upkeep: Upkeep::everything(), ..access.clone() };
    compact_with(&access, packer, (&Resealing::AsBefore, &mut Lower::Fat), target, watch)
}

/// How the new container is read: its key is known, whoever knows the passphrases for it.
fn reading(access: &Access, seal: Option<&Seal>) -> Arc<Reading> {
    let reading = Reading { vault: Arc::default(), ..(*access.reading).clone() };
    if let Some(seal) = seal {
        reading.vault.keep(seal.uid(), seal.master(), None);
    }
    Arc::new(reading)
}

/// What makes one state of a container another one.
fn differences(before: &Container, after: &Container, kept: Option<(&Kept, u64)>) -> Result<Changes> {
    let mut changes = Changes::default();
    let (mut old, mut new) = (before.index().all::<Nodes>()?, after.index().all::<Nodes>()?);
    let (mut a, mut b) = (old.next()?, new.next()?);
    while let Some(order) = order(&a, &b) {
        let was = a.as_ref().filter(|_| order.is_le()).map(|at| at.block.row(at.row));
        let is = b.as_ref().filter(|_| order.is_ge()).map(|at| at.block.row(at.row));
        // What is open and has no name stays in no state that is kept.
        let is = is.filter(|is| is.nlink > 0);
        match (was, is) {
            (Some(was), None) => _ = changes.nodes.insert(Node(was.ino), None),
            (was, Some(is)) if was.as_ref() != Some(&is) || differ(before, after, &is)? => {
                changes.nodes.insert(Node(is.ino), Some(inode((after, kept), &is, was.as_ref(), before)?));
            }
            _ => {}
        }
        if order.is_le() {
            a = old.next()?;
        }
        if order.is_ge() {
            b = new.next()?;
        }
    }
    names(before, after, &mut changes)?;
    Ok(changes)
}

/// Which of two rows comes first; `None` at the end of both.
fn order<B: Block>(a: &Option<At<B>>, b: &Option<At<B>>) -> Option<Ordering> {
    match (a, b) {
        (None, None) => None,
        (Some(_), None) => Some(Ordering::Less),
        (None, Some(_)) => Some(Ordering::Greater),
        (Some(a), Some(b)) => Some(B::compare((&a.block, a.row), (&b.block, b.row))),
    }
}

/// Whether the contents of a file lie elsewhere in the other state. Its row tells unless they stand in rows of their own.
fn differ(before: &Container, after: &Container, is: &NodeRow) -> Result<bool> {
    Ok(is.data_id != 0 && before.pieces(is.ino)? != after.pieces(is.ino)?)
}

fn names(before: &Container, after: &Container, changes: &mut Changes) -> Result<()> {
    let (mut old, mut new) = (before.index().all::<Names>()?, after.index().all::<Names>()?);
    let (mut a, mut b) = (old.next()?, new.next()?);
    while let Some(order) = order(&a, &b) {
        if let (Some(at), true) = (&a, order.is_lt()) {
            let (parent, name) = at.block.key_of(at.row);
            changes.set_name(Node(parent), Name::new(name)?.to_owned(), None);
        }
        if let (Some(at), true) = (&b, order.is_ge()) {
            let (parent, name) = at.block.key_of(at.row);
            let is = at.block.value(at.row);
            let was = a.as_ref().filter(|_| order.is_eq()).and_then(|at| at.block.value(at.row));
            if is != was {
                let to = is.map(|(ino, kind)| (Node(ino), kind));
                changes.set_name(Node(parent), Name::new(name)?.to_owned(), to);
            }
        }
        if order.is_le() {
            a = old.next()?;
        }
        if order.is_ge() {
            b = new.next()?;
        }
    }
    Ok(())
}

/// An inode as it is in a state; its contents as a copy of what the old container has, when they differ.
fn inode(
    (after, kept): (&Container, Option<(&Kept, u64)>),
    is: &NodeRow,
    was: Option<&NodeRow>,
    before: &Container,
) -> Result<Inode> {
    let node = Node(is.ino);
    let attr = after.attr(node)?;
    let kind = attr.kind;
    let mut inode = Inode::new(attr, was.is_none());
    inode.xattrs = Some(after.xattrs(node)?);
    inode.target = (kind == Kind::Symlink).then(|| after.target(node)).transpose()?;
    let same = match was {
        Some(was) => was.size == is.size && was.extents == is.extents && !differ(before, after, is)?,
        None => false,
    };
    if kind == Kind::File && !same {
        let file = after.open(node)?;
        let draft = match kept {
            Some((kept, owner)) => kept.copy(after.index(), &file, is.size, owner)?,
            None => copy(&file, is.size)?,
        };
        inode.draft = Some(Arc::new(draft));
    }
    Ok(inode)
}

/// The contents of a file as those of another.
pub(super) fn copy(file: &Arc<dyn ReadAt>, size: u64) -> Result<Draft> {
    let mut draft = Draft::default();
    draft.set_size(size);
    let mut at = 0;
    while let Some(data) = file.next_data(at)?.filter(|data| data.start < size) {
        draft.copy(data.start, data.end.min(size) - data.start, file.clone(), data.start);
        at = data.end;
    }
    Ok(draft)
}
