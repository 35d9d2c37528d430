//! What stays where it is when a container is packed anew: segments that lie in bases, and those that are decoded with what
//! lies in one, keep their addresses, and files go on consisting of them, so that no base need be there.
//!
//! The same makes a container thin: its own segments become objects of a store, and stay where they are on the tape.

use super::super::generations::History;
use super::super::index::Index;
use super::super::layout::{Base, INCOMPAT_THIN};
use super::super::limits;
use super::super::rows::{ExtentRow, MetaRow, Nodes, Rows, SegmentRow};
use super::super::tree::Container;
use super::under::overlaps;
use super::{Entry, entries};
use crate::error::{Error, Kind, Result};
use crate::formats::Access;
use crate::source::{ReadAt, Stored};
use crate::tree::Draft;
use std::collections::{BTreeMap, HashSet};
use std::ops::Range;
use std::sync::Arc;

/// From so many stretches on those are joined that touch.
const MANY: usize = 1 << 16;

/// Takes over a segment of the container itself: where it is put, nothing of it is needed any more. It is given the payload.
pub type Put<'a> = &'a mut dyn FnMut(&SegmentRow, &[u8]) -> Result<()>;

/// What stays where it is.
#[derive(Clone, Debug, Default)]
pub struct Kept {
    /// Rows of the new container.
    rows: BTreeMap<u64, SegmentRow>,
    pub metas: Vec<MetaRow>,
    /// Where new contents begin: no address is used again.
    pub start: u64,
}

/// A stretch of the tape that is needed, from and to.
type Stretch = (u64, u64);

impl Kept {
    /// What lies in the bases of some states. `None` when nothing does.
    pub fn of(access: &Access, history: &History, states: &[u64]) -> Result<Option<Self>> {
        Self::with(access, history, states, None)
    }

    /// The same, and all other segments go to a store.
    pub fn with(
        access: &Access,
        history: &History,
        states: &[u64],
        mut own: Option<(Entry, Put<'_>)>,
    ) -> Result<Option<Self>> {
        let is_thin = history.newest().head.incompat.get() & INCOMPAT_THIN != 0;
        if !is_thin && own.is_none() {
            return Ok(None);
        }
        let mut kept = Self { start: history.newest().head.next_address.get(), ..Self::default() };
        let mut known: BTreeMap<u64, Entry> = BTreeMap::new();
        let mut moved: BTreeMap<u64, u64> = BTreeMap::new();
        // The newest first: where states differ in what a place of the tape is stored as, it counts.
        let opened = || states.iter().rev().map(|record| history.state(access, *record));
        for container in opened() {
            known.extend(entries(container?.index())?);
        }
        let mut related = false;
        let number = known.keys().next_back().map_or(1, |last| last + 1);
        if known.len() >= limits::STORES && own.is_some() {
            return Err(Error::new(Kind::Limit, "it lies over too many bases"));
        }
        for container in opened() {
            let container = &container?;
            let (live, leaning) = Self::live(container, own.is_some())?;
            let mut rows = container.index().all::<Rows<SegmentRow>>()?;
            while let Some(at) = rows.next()? {
                let row = *at.block.get(at.row);
                let is_kept = match known.get(&row.store) {
                    _ if row.store == 0 => leaning.contains(&row.record) || own.is_some() && is_live(&live, &row),
                    Some(entry) => entry.related || is_live(&live, &row),
                    None => false,
                };
                if is_kept && (row.store != 0 || own.is_none()) {
                    kept.add(row);
                } else if let (true, Some((_, put))) = (is_kept, &mut own) {
                    if moved.get(&row.record) == Some(&row.address) {
                        continue;
                    }
                    let new = SegmentRow { record: 0, store: number, ..row };
                    if kept.add(new) {
                        let bytes = container.medium().payload(&row)?;
                        related |= !container.medium().bases(&row)?.is_empty();
                        put(&row, &bytes)?;
                        moved.insert(row.record, row.address);
                    }
                }
            }
        }
        let used = |number: &u64| kept.rows.values().any(|row| row.store == *number);
        let mut metas: Vec<MetaRow> =
            known.iter().filter(|(number, _)| used(number)).map(|(number, entry)| entry.row(*number)).collect();
        if let Some((entry, _)) = own {
            metas.extend((!moved.is_empty()).then(|| Entry { related, ..entry }.row(number)));
        }
        kept.metas = metas;
        // No address is used again, also where the container says that it would be free.
        let behind = kept.rows.values().next_back().map_or(0, |row| row.address + row.raw_len);
        kept.start = kept.start.max(behind);
        Ok((!kept.rows.is_empty()).then_some(kept))
    }

    /// What of the tape a state needs, and records of own segments that cannot be written anew when no base is there: those
    /// that are decoded with what lies in one. Of `all` own segments that stay, what they are decoded with is needed as well.
    fn live(container: &Container, all: bool) -> Result<(Vec<Stretch>, HashSet<u64>)> {
        let mut live = Vec::new();
        mark_files(container.index(), &mut live)?;
        let leaning = if all { HashSet::new() } else { leaning(container, &mut live)? };
        while all && mark_related(container, &mut live)? {}
        Ok((live, leaning))
    }

    /// Adds a row; false when another one lies there.
    fn add(&mut self, row: SegmentRow) -> bool {
        match self.rows.get(&row.address) {
            Some(there) => there.hash == row.hash && there.raw_len == row.raw_len,
            None if overlaps(&self.rows, &row) => false,
            None => {
                self.rows.insert(row.address, row);
                true
            }
        }
    }

    /// Rows of what lies in bases.
    pub fn foreign(&self) -> impl Iterator<Item = &SegmentRow> {
        self.rows.values().filter(|row| row.store != 0)
    }

    /// Rows of what lies in the container itself, and is copied as it is.
    pub fn own(&self) -> impl Iterator<Item = &SegmentRow> {
        self.rows.values().filter(|row| row.store == 0)
    }

    /// How far a stretch of the tape goes that is kept as a whole, or not kept as a whole, from its beginning on; `index`
    /// is that of the state that sees it.
    pub fn run(&self, index: &Index, address: u64, len: u64) -> Result<(bool, u64)> {
        let Some(row) = index.segment(address)? else { return Ok((false, len)) };
        let is_kept = self.rows.get(&row.address).is_some_and(|kept| kept.hash == row.hash);
        Ok((is_kept, (row.address + row.raw_len - address).min(len)))
    }

    /// The parts of a stretch of a file: those that are kept, with their addresses, and those that are not.
    pub fn parts(&self, index: &Index, file: &dyn ReadAt, range: Range<u64>) -> Result<Vec<(Range<u64>, Option<u64>)>> {
        let mut parts: Vec<(Range<u64>, Option<u64>)> = Vec::new();
        let Some(stored) = file.stored(range.clone()) else { return Ok(vec![(range, None)]) };
        for (mut at, mut address, mut len) in stored.pieces {
            while len > 0 {
                let (is_kept, some) = self.run(index, address, len)?;
                let to = is_kept.then_some(address);
                match parts.last_mut() {
                    Some((last, None)) if to.is_none() && last.end == at => last.end += some,
                    _ => parts.push((at..at + some, to)),
                }
                (at, address, len) = (at + some, address + some, len - some);
            }
        }
        Ok(parts)
    }

    /// The contents of a file as a copy of those of another state; what is kept is not copied.
    pub fn copy(&self, index: &Index, file: &Arc<dyn ReadAt>, size: u64, owner: u64) -> Result<Draft> {
        let mut draft = Draft::default();
        draft.set_size(size);
        let same: Arc<dyn ReadAt> = Arc::new(Same { file: file.clone(), owner });
        let mut at = 0;
        while let Some(data) = file.next_data(at)?.filter(|data| data.start < size) {
            at = data.end;
            for (range, kept) in self.parts(index, &**file, data.start..data.end.min(size))? {
                let source = if kept.is_some() { &same } else { file };
                draft.copy(range.start, range.end - range.start, source.clone(), range.start);
            }
        }
        Ok(draft)
    }
}

/// A file whose contents lie in another container at the same addresses.
struct Same {
    file: Arc<dyn ReadAt>,
    owner: u64,
}

impl ReadAt for Same {
    fn len(&self) -> Result<u64> {
        self.file.len()
    }

    fn read_at(&self, at: u64, into: &mut [u8]) -> Result<usize> {
        self.file.read_at(at, into)
    }

    fn stored(&self, range: Range<u64>) -> Option<Stored> {
        Some(Stored { owner: self.owner, ..self.file.stored(range)? })
    }
}

/// The own segments of which something is needed that are decoded with what lies in a base, and those that these are decoded
/// with; what that is, is needed as well.
fn leaning(container: &Container, live: &mut Vec<Stretch>) -> Result<HashSet<u64>> {
    let (index, medium) = (container.index(), container.medium());
    let lies_elsewhere = |base: &Base| Ok(index.segment(base.address.get())?.is_some_and(|row| row.store != 0));
    let (mut found, mut with) = (HashSet::new(), Vec::new());
    loop {
        let mut new = Vec::new();
        let before = found.len();
        let mut rows = index.all::<Rows<SegmentRow>>()?;
        while let Some(at) = rows.next()? {
            let row = at.block.get(at.row);
            let (is_needed, is_base) = (is_live(live, row), is_live(&with, row));
            if row.store != 0 || found.contains(&row.record) || !(is_needed || is_base) {
                continue;
            }
            let bases = medium.bases(row)?;
            let leans = bases.iter().map(lies_elsewhere).collect::<Result<Vec<_>>>()?.contains(&true);
            if leans || is_base {
                found.insert(row.record);
                new.extend(bases.iter().map(stretch));
            }
        }
        with.append(&mut new);
        join(&mut with);
        if found.len() == before {
            live.append(&mut with);
            join(live);
            return Ok(found);
        }
    }
}

fn stretch(base: &Base) -> Stretch {
    (base.address.get(), base.address.get().saturating_add(base.len.get()))
}

/// Marks what the own segments are decoded with of which something is needed. Whether that is more than before.
fn mark_related(container: &Container, live: &mut Vec<Stretch>) -> Result<bool> {
    let before = live.clone();
    let mut rows = container.index().all::<Rows<SegmentRow>>()?;
    while let Some(at) = rows.next()? {
        let row = at.block.get(at.row);
        if row.store == 0 && is_live(&before, row) {
            let bases = container.medium().bases(row)?;
            live.extend(bases.iter().map(stretch));
        }
    }
    join(live);
    Ok(*live != before)
}

fn mark_files(index: &Index, live: &mut Vec<Stretch>) -> Result<()> {
    let mut most = MANY;
    let mut mark = |address: u64, len: u64| {
        if address == 0 || len == 0 {
            return;
        }
        match live.last_mut() {
            Some(last) if last.1 == address => last.1 = address.saturating_add(len),
            _ => live.push((address, address.saturating_add(len))),
        }
        if live.len() >= most {
            join(live);
            most = (live.len() * 2).max(MANY);
        }
    };
    let mut nodes = index.all::<Nodes>()?;
    while let Some(at) = nodes.next()? {
        at.block.extents(at.row).iter().for_each(|(address, len)| mark(*address, *len));
    }
    let mut extents = index.all::<Rows<ExtentRow>>()?;
    while let Some(at) = extents.next()? {
        let row = at.block.get(at.row);
        mark(row.address, row.len);
    }
    join(live);
    Ok(())
}

fn join(live: &mut Vec<Stretch>) {
    live.sort_unstable();
    live.dedup_by(|later, kept| {
        let joined = later.0 <= kept.1;
        if joined {
            kept.1 = kept.1.max(later.1);
        }
        joined
    });
}

fn is_live(live: &[Stretch], row: &SegmentRow) -> bool {
    let first = live.partition_point(|stretch| stretch.1 <= row.address);
    live.get(first).is_some_and(|stretch| stretch.0 < row.address + row.raw_len)
}
