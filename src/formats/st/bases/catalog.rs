//! A store of objects: what becomes of a container that is added, and what is not needed any more.
//!
//! ```text
//!   a.st ──segments──► ab/abcdef…          then a.st is thin: its names, its states, and rows that name objects
//!        ──chunks────► catalogs/0123…      for whoever packs over the store: no names, and nothing of what is sealed
//! ```

use super::super::commit::Commit;
use super::super::compact::{Compacted, Lower, Resealing, Target, compact_with};
use super::super::create;
use super::super::generations::{self, History};
use super::super::layout::{CommitHead, INCOMPAT_THIN, RecordType, TotalsItem};
use super::super::pack::Packer;
use super::super::rows::{ChunkRow, Rows, SegmentRow};
use super::super::seal::Sealing;
use super::super::table::NewTable;
use super::super::tree::{Container, ROOT};
use super::under::{Under, chunks_of, has_chunks};
use super::{Entry, entries};
use crate::cache::Cache;
use crate::codec::id::Id;
use crate::error::{Error, Kind, Result, Within};
use crate::formats::{Access, Upkeep, Watch};
use crate::key::sign::Signing;
use crate::source::objects::{Drawer, Hash, Hold, Objects};
use crate::tree::Time;
use std::collections::HashSet;
use std::sync::Arc;
use zerocopy::FromZeros;

/// zstd level of a catalog.
const LEVEL: i32 = 9;

/// What came of adding a container to a store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Added {
    /// Segments that are objects now, those that were not there before, and their bytes.
    pub objects: u64,
    pub new: u64,
    pub new_bytes: u64,
    pub compacted: Compacted,
}

/// Makes the segments of a container objects of a store, and of the container a thin one, with all its states, in an empty
/// target. When this returns, the objects are durable; the target is what counts only when it is in its place.
///
/// # Errors
/// Whatever cannot be read or written: then the target is to be thrown away, and what is in the store already does no harm.
pub fn add<T: Target + 'static>(
    access: &Access,
    objects: &Arc<dyn Objects>,
    (packer, hints): (&Packer, Vec<String>),
    target: &Arc<T>,
    watch: &dyn Watch,
) -> Result<Added> {
    let (history, before) = History::open(access).within(|| &access.name)?;
    let own_seal = before.seal().is_some();
    let entry = Entry { is_store: true, own_seal, related: false, uid: objects.uid(), shift: 0, hints };
    let mut added = Added::default();
    let mut put = |row: &SegmentRow, payload: &[u8]| {
        if watch.is_cancelled() {
            return Err(Error::new(Kind::Interrupted, "interrupted"));
        }
        added.objects += 1;
        if objects.put(Drawer::Segments, &row.hash, payload)? {
            (added.new, added.new_bytes) = (added.new + 1, added.new_bytes + payload.len() as u64);
        }
        Ok(())
    };
    let all = Access { upkeep: Upkeep::everything(), ..access.clone() };
    let mut lower = Lower::Thin(entry.clone(), &mut put);
    let compacted = compact_with(&all, packer, (&Resealing::AsBefore, &mut lower), target, watch)?;
    if !own_seal {
        let own = Access::to_read(target.clone(), Cache::new(access.cache.budget() / 4), &*access.name);
        let reading = super::under::reading(objects.clone());
        let after = Container::open(Access { reading: Arc::new(reading), ..own })?;
        let catalog = Catalog::of(&before, &after, &entry)?;
        if !catalog.segments.is_empty() {
            let bytes = catalog.encode(history.newest().head.uid, history.newest().head.next_address.get(), &entry)?;
            objects.put(Drawer::Catalogs, &Id::of(&bytes).0, &bytes)?;
        }
    }
    objects.sync()?;
    Ok(Added { compacted, ..added })
}

/// Where chunks lie in the objects of a store.
struct Catalog {
    segments: Vec<SegmentRow>,
    chunks: Vec<ChunkRow>,
}

impl Catalog {
    /// What a container has brought into a store.
    fn of(before: &Container, after: &Container, entry: &Entry) -> Result<Self> {
        let own = entries(after.index())?.into_iter();
        let own: HashSet<u64> = own
            .filter(|(_, other)| other.is_store && other.uid == entry.uid && other.shift == 0)
            .map(|(number, _)| number)
            .collect();
        let (mut segments, mut rows) = (Vec::new(), after.index().all::<Rows<SegmentRow>>()?);
        while let Some(at) = rows.next()? {
            let row = at.block.get(at.row);
            if own.contains(&row.store) {
                segments.push(SegmentRow { store: 1, ..*row });
            }
        }
        let all: Vec<ChunkRow> = match has_chunks(before.index()) {
            false => chunks_of(after)?.into_values().collect(),
            true => {
                let (mut found, mut rows) = (Vec::new(), before.index().all::<Rows<ChunkRow>>()?);
                while let Some(at) = rows.next()? {
                    found.push(*at.block.get(at.row));
                }
                found
            }
        };
        let mut chunks: Vec<ChunkRow> = all.into_iter().filter(|chunk| holds(&segments, chunk)).collect();
        chunks.sort_unstable_by_key(|row| (row.id, row.address));
        Ok(Self { segments, chunks })
    }

    fn encode(self, uid: [u8; 16], next_address: u64, entry: &Entry) -> Result<Vec<u8>> {
        let (mut out, sealing) = (Vec::new(), Sealing::default());
        let (mut log, _) = create::begin(&mut out, (uid, 1), &sealing, (INCOMPAT_THIN, 0, 0))?;
        let table = NewTable {
            nodes: vec![create::root(0, 0, Time::default())],
            // It may be decoded with others, all of which are in it.
            metas: vec![Entry { related: true, hints: Vec::new(), ..entry.clone() }.row(1)],
            segments: self.segments,
            chunks: self.chunks,
            ..NewTable::default()
        };
        let table = table.encode(LEVEL, &sealing)?;
        let mut reference = table.reference;
        reference.record = log.append(RecordType::Table, &[&table.payload])?.record.into();
        let mut head = CommitHead::new_zeroed();
        head.uid = uid;
        (head.incompat, head.seq, head.tables) = (INCOMPAT_THIN.into(), 1.into(), 1.into());
        (head.tail_start, head.tail_hash) = (log.at().into(), Id::of(&[]).0);
        (head.next_address, head.next_ino) = (next_address.into(), (ROOT + 1).into());
        let totals = TotalsItem { nodes: 1.into(), bytes: 0.into() };
        let mut commit = Commit { record: 0, head, tables: vec![reference], totals, parity: 0, signer: None };
        log.commit(&mut commit, &sealing, &Signing::default())?;
        log.flush()?;
        Ok(out)
    }
}

/// Whether all of a chunk lies in segments, which are in order.
fn holds(segments: &[SegmentRow], chunk: &ChunkRow) -> bool {
    let (mut at, end) = (chunk.address, chunk.address.saturating_add(chunk.len));
    while at < end {
        let behind = segments.partition_point(|row| row.address <= at);
        let row = behind.checked_sub(1).and_then(|i| segments.get(i)).filter(|row| at < row.address + row.raw_len);
        let Some(row) = row else { return false };
        at = row.address + row.raw_len;
    }
    true
}

/// What was found that nothing needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Collected {
    /// Objects that are needed, and their bytes.
    pub kept: u64,
    pub kept_bytes: u64,
    /// Objects that are not, and are removed, or would be.
    pub removed: u64,
    pub removed_bytes: u64,
    /// Objects that are needed and are not there.
    pub missing: u64,
}

/// Removes the objects from a store that none of these containers needs in any of its states; `dry` only counts them.
///
/// # Errors
/// `Locked` when somebody adds to the store; whatever cannot be read of the containers. Then nothing is removed.
pub fn collect(objects: &Arc<dyn Objects>, containers: &[Access], dry: bool, watch: &dyn Watch) -> Result<Collected> {
    let _held = objects.hold(if dry { Hold::Shared } else { Hold::Alone })?;
    let mut needed = HashSet::new();
    for access in containers {
        if !needed_by(access, &objects.uid(), &mut needed).within(|| &access.name)? {
            log::warn!("{}: it does not lie over {}", access.name, objects.place());
        }
    }
    let (mut found, mut surplus, mut there) = (Collected::default(), Vec::new(), 0u64);
    objects.list(Drawer::Segments, &mut |hash, len| {
        if needed.contains(&hash) {
            (found.kept, found.kept_bytes, there) = (found.kept + 1, found.kept_bytes + len, there + 1);
        } else {
            (found.removed, found.removed_bytes) = (found.removed + 1, found.removed_bytes + len);
            surplus.push(hash);
        }
        Ok(())
    })?;
    found.missing = (needed.len() as u64).saturating_sub(there);
    if dry {
        return Ok(found);
    }
    for hash in surplus {
        if watch.is_cancelled() {
            return Err(Error::new(Kind::Interrupted, "interrupted"));
        }
        objects.remove(Drawer::Segments, &hash)?;
    }
    let mut catalogs = Vec::new();
    objects.list(Drawer::Catalogs, &mut |hash, _| {
        catalogs.push(hash);
        Ok(())
    })?;
    for hash in catalogs {
        // One that cannot be read is of no use either, and is made again when its container is added again.
        if !Under::is_of_use(objects, &hash, &needed).unwrap_or(false) {
            objects.remove(Drawer::Catalogs, &hash)?;
        }
    }
    Ok(found)
}

/// The objects that a container needs in any of its states. Whether it lies over the store at all.
fn needed_by(access: &Access, uid: &[u8; 16], needed: &mut HashSet<Hash>) -> Result<bool> {
    let mut lies_over = false;
    let (history, newest) = History::open(access)?;
    let mut records: Vec<u64> = generations::recorded(access)?.into_iter().map(|(record, _)| record).collect();
    records.push(history.newest().record);
    records.dedup();
    drop(newest);
    for record in records {
        let state = history.state(access, record)?;
        let all = entries(state.index())?.into_iter();
        let stores: HashSet<u64> =
            all.filter(|(_, entry)| entry.is_store && entry.uid == *uid).map(|(number, _)| number).collect();
        lies_over |= !stores.is_empty();
        let mut rows = state.index().all::<Rows<SegmentRow>>()?;
        while let Some(at) = rows.next()? {
            let row = at.block.get(at.row);
            if stores.contains(&row.store) {
                needed.insert(row.hash);
            }
        }
    }
    Ok(lies_over)
}
