//! Packing: a tree becomes a container, front to back, without a seek.
//!
//! ```text
//!  walk ──► batch ──► order ──► content ──► [segments] ──► workers ──► log ──► out
//!  names, inodes      similar    chunks,      bounded       all cores    in order
//!  256 Ki entries     together   dedup
//! ```
//!
//! At the end of a batch its rows become a table; when everything is written, one COMMIT names all tables. Until then the
//! file is nothing, so a pack that is cut off cannot be taken for a whole one.
//!
//! The same tree gives the same bytes: the order of everything depends on names and contents, never on time, threads or
//! the directory order of a disk. The identity of the container is a hash of what the first batch looks like.
//!
//! Memory does not grow with the contents: 250 bytes for each entry of a batch, 110 MiB for what dedup remembers, a few
//! segments for each worker, and 64 MiB of segments that may become bases at the levels that have them. At level 9 a worker
//! takes another 200 MiB, for zstd on 16 MiB of text. It grows with hard links (about 200 bytes for each linked inode).

pub(super) mod chunks;
mod content;
mod dict;
mod encode;
mod feed;
mod guess;
mod kin;
mod walk;

use super::bases::{Ground, Kept, Under};
use super::commit::Commit;
use super::index::Index;
use super::layout::{CommitHead, INCOMPAT_THIN, RecordType, TableRef, TotalsItem};
use super::medium::Medium;
use super::parity::{self, Policy};
use super::plan::{self, Class, Preset};
use super::records::Log;
use super::rows::{MetaRow, NodeRow, SegmentRow};
use super::seal::{Seal, Sealing};
use super::table::{Encoded, NewTable};
use super::{create, extra, limits};
use crate::codec::id::Id;
use crate::error::{Error, Kind as ErrorKind, Result};
use crate::formats::{Pack, Packed, Seekable, Watch};
use crate::key::sign::Signing;
use crate::pool;
use crate::source::Seeking;
use crate::tree::{Filter, Kind, Time, Tree, device};
pub(super) use content::{Content, Sink};
use dict::{Dict, Samples};
pub(super) use encode::{Prefix, Raw, Segment, encode};
pub(super) use feed::{append_segment, segments};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::{BufWriter, Write};
use std::sync::Arc;
use walk::{Batch, Item, Walk};
use zerocopy::FromZeros;

/// How the tape is cut into segments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Segmentation {
    /// At so many raw bytes: 4096 to 64 MiB.
    Bytes(u32),
    /// A segment for each chunk.
    Chunk,
}

/// Packs trees as `.st`.
#[derive(Clone, Debug)]
pub struct Packer {
    /// 1 (fast) to 9 (small).
    pub level: u8,
    /// What the level says when it is `None`.
    pub segmentation: Option<Segmentation>,
    pub threads: usize,
    pub filter: Filter,
    /// What the new container is sealed with.
    pub seal: Option<Arc<Seal>>,
    /// How much parity it gets. To a pipe none can be written.
    pub parity: Option<Policy>,
    /// It is going to be cut in volumes of this length, which its header tells; 0 for one file.
    pub volume_size: u64,
    /// What signs it.
    pub signing: Signing,
    /// The tree is a container that is packed again.
    pub again: Option<Again>,
    /// What it is packed over: what these hold is left out.
    pub bases: Vec<Arc<Under>>,
}

/// What stays where it is of a container that is packed again, and the state that is packed.
pub(super) struct Keeping {
    pub kept: Arc<Kept>,
    pub index: Arc<Index>,
    pub medium: Medium,
}

/// What stays of a container that is packed again, besides what its tree shows: inode numbers and all times stay too.
#[derive(Clone, Copy, Debug)]
pub struct Again {
    pub uid: [u8; 16],
    /// Number and time of the state.
    pub seq: u64,
    pub time_ns: u64,
    /// Higher than any inode ever was.
    pub next_ino: u64,
}

impl Default for Packer {
    fn default() -> Self {
        Self {
            level: 6,
            segmentation: None,
            threads: pool::threads(),
            filter: Filter::default(),
            seal: None,
            parity: None,
            volume_size: 0,
            signing: Signing::default(),
            again: None,
            bases: Vec::new(),
        }
    }
}

/// Rows that are collected before they become a table of their own, in the middle of a batch: about 24 MiB.
const ROWS_PENDING: usize = 1 << 20;

/// What goes to the workers.
enum Job {
    Segment(Raw),
    Table(NewTable),
}

/// What comes back.
enum Done {
    Segment(Segment),
    Table(Encoded),
}

impl Pack for Packer {
    fn pack(&self, tree: &dyn Tree, out: &mut (dyn Write + Send), watch: &dyn Watch) -> Result<Packed> {
        match self.parity {
            None => self.write(tree, out, watch),
            Some(_) => {
                Err(Error::new(ErrorKind::Usage, "parity is computed from what is written: a pipe cannot be read")
                    .hint("write to a file, or `stmount parity add FILE` when it is one"))
            }
        }
    }

    fn pack_to_file(&self, tree: &dyn Tree, out: &mut dyn Seekable, watch: &dyn Watch) -> Result<Packed> {
        let mut buffered = BufWriter::with_capacity(1 << 20, &mut *out);
        let packed = self.write(tree, &mut buffered, watch)?;
        buffered.flush().map_err(|e| Error::io(e, "cannot write the container"))?;
        drop(buffered);
        let Some(policy) = self.parity else { return Ok(packed) };
        let stored = parity::cover(&Seeking::new(out), policy, &|_| !watch.is_cancelled())?;
        Ok(Packed { stored, ..packed })
    }
}

impl Packer {
    /// The container alone, without the parity that follows it.
    fn write(&self, tree: &dyn Tree, out: &mut (dyn Write + Send), watch: &dyn Watch) -> Result<Packed> {
        self.write_keeping(tree, None, out, watch)
    }

    /// The same, where some of it stays where it is.
    pub(super) fn write_keeping(
        &self,
        tree: &dyn Tree,
        keeping: Option<Keeping>,
        out: &mut (dyn Write + Send),
        watch: &dyn Watch,
    ) -> Result<Packed> {
        self.check()?;
        let ground = Ground::new(&self.bases)?;
        let thin = if ground.is_some() || keeping.is_some() { INCOMPAT_THIN } else { 0 };
        let preset = Preset::of(self.level);
        let mut walk = Walk::new(tree, &self.filter, watch, self.again.is_some())?;
        let first = walk.next()?.expect("the root is always there");
        let sealing = self.seal.clone().map(Sealing::of).unwrap_or_default();
        let again = self.again.map(|again| again.uid);
        let uid = sealing.uid().or(again).unwrap_or_else(|| self.identity(&first));
        let seq = self.again.map_or(1, |again| again.seq);
        let facts = (thin, parity::compat(self.parity), self.volume_size);
        let (log, keys) = create::begin(out, (uid, seq), &sealing, facts)?;
        let mut written = Written { log, keys, sealing, segments: Vec::new(), tables: Vec::new() };
        if let Some(keeping) = &keeping {
            written.copy(keeping)?;
        }
        let mut run = Run::new(self, &preset, &written.sealing, tree, watch);
        run.incompat = thin;
        run.content.lie_over(ground, keeping);
        let mut table = run.batch(first, &mut written)?;
        while let Some(batch) = walk.next()? {
            written.table(table.encode(preset.index, &written.sealing)?)?;
            table = run.batch(batch, &mut written)?;
        }
        run.packed.skipped += walk.skipped;
        run.last_rows(&mut table);
        table.metas.extend(parity::row(self.parity));
        written.table(table.encode(preset.index, &written.sealing)?)?;
        run.commit(written, uid, self.again.map_or(walk.next_ino(), |again| again.next_ino))
    }

    fn check(&self) -> Result<()> {
        let usage = |what: String| Err(Error::new(ErrorKind::Usage, what));
        match self.segmentation {
            _ if !(1..=9).contains(&self.level) => usage(format!("the level is 1 to 9, not {}", self.level)),
            Some(Segmentation::Bytes(n)) if n < 4096 || u64::from(n) > limits::SEGMENT_RAW => {
                usage(format!("a segment has 4096 to {} bytes, not {n}", limits::SEGMENT_RAW))
            }
            _ => Ok(()),
        }
    }

    /// The identity of the container: a hash of how it is packed and of what the first batch looks like.
    fn identity(&self, batch: &Batch) -> [u8; 16] {
        let mut text = format!("st v1 {} {:?}\n", self.level, self.segmentation).into_bytes();
        self.bases.iter().for_each(|base| text.extend_from_slice(&base.uid()));
        // What is remembered of one that is signed must not be taken for one of somebody else.
        text.extend(self.signing.public().iter().flat_map(|key| *key.as_bytes()));
        for item in &batch.items {
            let attr = &item.attr;
            text.extend_from_slice(&item.path);
            let line = format!("\0{:?} {} {} {} {:?}\n", attr.kind, attr.mode, attr.uid, attr.size, attr.mtime);
            text.extend_from_slice(line.as_bytes());
        }
        let mut uid = [0; 16];
        uid.copy_from_slice(&Id::of(&text).0[..16]);
        uid
    }
}

/// What has been written, and what the next table will say of it.
struct Written<'a> {
    log: Log<'a>,
    /// Where the KEYS record is, 0 for none.
    keys: u64,
    sealing: Sealing,
    segments: Vec<SegmentRow>,
    tables: Vec<TableRef>,
}

impl Written<'_> {
    /// Takes over the segments that stay as they are.
    fn copy(&mut self, keeping: &Keeping) -> Result<()> {
        for row in keeping.kept.own() {
            let payload = keeping.medium.payload(row)?;
            let placed = self.log.append(RecordType::Segment, &[&payload])?;
            self.segments.push(SegmentRow { record: placed.record, ..*row });
        }
        Ok(())
    }

    fn take(&mut self, done: Done, index_level: i32) -> Result<()> {
        match done {
            Done::Segment(segment) => self.segment(segment, index_level),
            Done::Table(encoded) => self.table(encoded),
        }
    }

    fn segment(&mut self, segment: Segment, index_level: i32) -> Result<()> {
        self.segments.push(append_segment(&mut self.log, &segment)?);
        if self.segments.len() < ROWS_PENDING {
            return Ok(());
        }
        let segments = std::mem::take(&mut self.segments);
        self.table(NewTable { segments, ..NewTable::default() }.encode(index_level, &self.sealing)?)
    }

    fn table(&mut self, encoded: Encoded) -> Result<()> {
        let placed = self.log.append(RecordType::Table, &[&encoded.payload])?;
        let mut reference = encoded.reference;
        reference.record = placed.record.into();
        if self.tables.len() as u32 >= limits::TABLES {
            return Err(Error::new(ErrorKind::Limit, "the tree is too large for one container"));
        }
        self.tables.push(reference);
        Ok(())
    }
}

/// One pack.
struct Run<'a> {
    packer: &'a Packer,
    preset: &'a Preset,
    tree: &'a dyn Tree,
    watch: &'a dyn Watch,
    incompat: u64,
    content: Content,
    /// Inodes with several names: their rows wait until all names are known. `None` when the contents could not be read.
    linked: HashMap<u64, (u32, Option<NodeRow>)>,
    /// `user/ID` and `group/ID` to name.
    owners: BTreeMap<String, Option<String>>,
    newest: Time,
    packed: Packed,
    /// Inodes, and the sum of the sizes of files.
    totals: (u64, u64),
    /// Bytes and entries that the watch was told of.
    announced: (u64, u64),
}

impl<'a> Run<'a> {
    fn new(
        packer: &'a Packer,
        preset: &'a Preset,
        sealing: &Sealing,
        tree: &'a dyn Tree,
        watch: &'a dyn Watch,
    ) -> Self {
        Self {
            packer,
            preset,
            tree,
            watch,
            incompat: 0,
            content: Content::new(packer.segmentation, preset, sealing),
            linked: HashMap::new(),
            owners: BTreeMap::new(),
            newest: Time::default(),
            packed: Packed::default(),
            totals: (0, 0),
            announced: (0, 0),
        }
    }

    /// Packs a batch: the contents of its files are written, its rows are returned.
    fn batch(&mut self, mut batch: Batch, written: &mut Written<'_>) -> Result<NewTable> {
        self.announce(&batch);
        plan_order(&mut batch.items);
        let mut table = NewTable { names: batch.names, ..NewTable::default() };
        let mut lost = HashSet::new();
        self.contents(batch.items, &mut table, &mut lost, written)?;
        self.count_names(&mut table, &lost);
        table.extents = std::mem::take(&mut self.content.extents);
        table.chunks = std::mem::take(&mut self.content.chunks);
        table.segments = std::mem::take(&mut written.segments);
        Ok(table)
    }

    fn announce(&mut self, batch: &Batch) {
        let files = batch.items.iter().filter(|item| item.attr.kind == Kind::File);
        self.announced.0 += files.map(|item| item.attr.size).sum::<u64>();
        self.announced.1 += batch.items.len() as u64;
        self.watch.total(self.announced.0, self.announced.1);
    }

    /// Feeds the contents of the files to the workers and collects a row for each item.
    fn contents(
        &mut self,
        items: Vec<Item>,
        table: &mut NewTable,
        lost: &mut HashSet<u64>,
        written: &mut Written<'_>,
    ) -> Result<()> {
        let (preset, threads, sealing) = (self.preset, self.packer.threads, written.sealing.clone());
        let work = |job| match job {
            Job::Segment(raw) => encode::encode(&raw, preset, &sealing).map(Done::Segment),
            Job::Table(rows) => rows.encode(preset.index, &sealing).map(Done::Table),
        };
        let feed = |feed: &pool::Feed<Job, Result<Done>>| {
            let send = |raw| feed.push(Job::Segment(raw));
            self.dictionaries(&items, &send)?;
            for item in items {
                self.item(item, table, lost, &send)?;
                self.flush_rows(|table| feed.push(Job::Table(table)))?;
            }
            self.content.close(&send)
        };
        pool::ordered(threads, threads + 1, feed, work, |done| written.take(done?, preset.index))
    }

    /// Trains a dictionary for each class that has enough data, from pieces of the files of the first batch.
    fn dictionaries(&mut self, items: &[Item], send: &content::Sink<'_>) -> Result<()> {
        // Over a base nobody knows yet how much is left for one.
        if !self.preset.dicts || self.content.unique() > 0 || self.content.is_thin() {
            return Ok(());
        }
        let files: Vec<_> = items.iter().filter(|item| item.attr.kind == Kind::File && item.attr.size > 0).collect();
        let (mut text, mut binary) = (Samples::default(), Samples::default());
        let mut totals = [0u64; 2];
        for item in files.iter().step_by((files.len() / dict::FILES).max(1)) {
            let Some(piece) = self.piece(item) else { continue };
            let class = Class::of(&piece);
            totals[usize::from(class == Class::Binary)] += item.attr.size;
            if class == Class::Text { text.add(&piece) } else { binary.add(&piece) }
        }
        // The totals are of the sampled files alone.
        let scale = (files.len() / dict::FILES).max(1) as u64;
        self.content.dicts.text = self.dictionary(&text, Class::Text, totals[0] * scale, send)?;
        self.content.dicts.binary = self.dictionary(&binary, Class::Binary, totals[1] * scale, send)?;
        Ok(())
    }

    /// A piece from the middle of a file; `None` where it cannot be read, which is told when it is packed.
    fn piece(&self, item: &Item) -> Option<Vec<u8>> {
        let file = self.tree.open(item.node).ok()?;
        let mut piece = vec![0; dict::PIECE];
        let at = (item.attr.size / 2).saturating_sub(dict::PIECE as u64 / 2);
        let got = file.read_at(at, &mut piece).ok()?;
        piece.truncate(got);
        Some(piece)
    }

    fn dictionary(
        &mut self,
        samples: &Samples,
        class: Class,
        total: u64,
        send: &content::Sink<'_>,
    ) -> Result<Option<Dict>> {
        let Some(level) = self.preset.coder_of(class).level() else { return Ok(None) };
        let Some(bytes) = samples.train(level, self.content.limit_of(class), total)? else { return Ok(None) };
        self.content.add_dict(&bytes, class, level, send).map(Some)
    }

    /// Packs one inode; what cannot be read is told and left out.
    fn item(
        &mut self,
        item: Item,
        table: &mut NewTable,
        lost: &mut HashSet<u64>,
        send: &content::Sink<'_>,
    ) -> Result<()> {
        self.watch.entry(&item.path);
        if self.watch.is_cancelled() {
            return Err(walk::cancelled());
        }
        let row = match self.row(&item, send) {
            Ok(row) => Some(row),
            Err(e) if e.kind() == ErrorKind::Interrupted => return Err(e),
            Err(e) => {
                self.packed.skipped += 1;
                self.watch.skipped(&item.path, &e);
                lost.insert(item.ino);
                None
            }
        };
        self.watch.advance(0, 1);
        if item.linked {
            self.linked.insert(item.ino, (0, row));
        } else if let Some(row) = row {
            self.count(&row);
            table.nodes.push(row);
        }
        Ok(())
    }

    /// Turns the rows of chunks and extents into a table of their own when there are many.
    fn flush_rows(&mut self, send: impl FnOnce(NewTable) -> bool) -> Result<()> {
        if self.content.chunks.len() + self.content.extents.len() < ROWS_PENDING {
            return Ok(());
        }
        let (chunks, extents) = (std::mem::take(&mut self.content.chunks), std::mem::take(&mut self.content.extents));
        let table = NewTable { chunks, extents, ..NewTable::default() };
        if send(table) { Ok(()) } else { Err(walk::cancelled()) }
    }

    fn row(&mut self, item: &Item, send: &content::Sink<'_>) -> Result<NodeRow> {
        let attr = &item.attr;
        let mut row = NodeRow {
            ino: item.ino,
            mode: attr.kind.mode_bits() | attr.mode,
            uid: attr.uid,
            gid: attr.gid,
            mtime: attr.mtime,
            nlink: if attr.kind == Kind::Directory { attr.nlink } else { 1 },
            size: 0,
            data_id: 0,
            extents: Vec::new(),
            extra: Vec::new(),
        };
        self.extras(item, &mut row)?;
        self.owner(item)?;
        self.newest = self.newest.max(attr.mtime);
        if attr.kind == Kind::File && attr.size > 0 {
            row.size = attr.size;
            let file = self.tree.open(item.node)?;
            let dense = attr.allocated >= attr.size;
            self.content.file(&*file, dense, &mut row, (send, self.watch))?;
        }
        Ok(row)
    }

    fn extras(&self, item: &Item, row: &mut NodeRow) -> Result<()> {
        match item.attr.kind {
            Kind::Symlink => {
                let target = self.tree.target(item.node)?;
                row.size = target.len() as u64;
                extra::add(&mut row.extra, extra::SYMLINK, &target);
            }
            kind if kind.is_device() => {
                let rdev = item.attr.rdev;
                let numbers = [device::major(rdev).into(), device::minor(rdev).into()];
                extra::add_numbers(&mut row.extra, extra::DEVICE, &numbers);
            }
            _ => {}
        }
        if self.packer.again.is_some() {
            let attr = &item.attr;
            extra::add_time(&mut row.extra, extra::CTIME, attr.ctime, attr.mtime);
            extra::add_time(&mut row.extra, extra::ATIME, attr.atime, attr.mtime);
        }
        let mut xattrs = self.tree.xattrs(item.node)?;
        xattrs.sort_unstable();
        xattrs.iter().for_each(|xattr| extra::add_xattr(&mut row.extra, xattr));
        if row.extra.len() > limits::EXTRA {
            return Err(Error::new(ErrorKind::Limit, "its extended attributes are larger than 16 MiB"));
        }
        Ok(())
    }

    fn owner(&mut self, item: &Item) -> Result<()> {
        let (user, group) = (format!("user/{}", item.attr.uid), format!("group/{}", item.attr.gid));
        if self.owners.contains_key(&user) && self.owners.contains_key(&group) {
            return Ok(());
        }
        let names = self.tree.owner(item.node)?;
        self.owners.insert(user, names.user);
        self.owners.insert(group, names.group);
        Ok(())
    }

    fn count(&mut self, row: &NodeRow) {
        self.totals.0 += 1;
        if Kind::from_mode(row.mode) == Some(Kind::File) {
            self.totals.1 += row.size;
        }
    }

    /// Drops the names of what could not be read and counts the names of what has several.
    fn count_names(&mut self, table: &mut NewTable, lost: &HashSet<u64>) {
        let linked = &mut self.linked;
        table.names.retain(|name| match linked.get_mut(&name.ino) {
            Some((names, row)) => {
                *names += 1;
                row.is_some()
            }
            None => !lost.contains(&name.ino),
        });
        self.packed.entries += table.names.len() as u64;
    }

    /// The rows that were not known before the end: inodes with several names, and the names of owners.
    fn last_rows(&mut self, table: &mut NewTable) {
        for (names, row) in std::mem::take(&mut self.linked).into_values() {
            if let Some(row) = row {
                self.count(&row);
                table.nodes.push(NodeRow { nlink: names, ..row });
            }
        }
        let owners = std::mem::take(&mut self.owners);
        let named = owners.into_iter().filter_map(|(id, name)| Some((id.into_bytes(), name?.into_bytes())));
        table.metas.extend(named.map(|(name, value)| MetaRow { name, value }));
        self.content.foreign(table);
    }

    fn commit(mut self, mut written: Written<'_>, uid: [u8; 16], next_ino: u64) -> Result<Packed> {
        let mut head = CommitHead::new_zeroed();
        head.uid = uid;
        head.keys = written.keys.into();
        (head.incompat, head.compat) =
            ((written.sealing.incompat() | self.incompat).into(), parity::compat(self.packer.parity).into());
        let again = self.packer.again;
        head.seq = again.map_or(1, |again| again.seq).into();
        head.time_ns = again.map_or_else(|| nanoseconds(self.newest), |again| again.time_ns).into();
        // Everything before is on its way already: a pack is durable as a whole or not there at all.
        head.tail_start = written.log.at().into();
        head.tail_hash = Id::of(&[]).0;
        head.next_address = self.content.address().into();
        head.next_ino = next_ino.into();
        head.tables = (written.tables.len() as u32).into();
        let totals = TotalsItem { nodes: self.totals.0.into(), bytes: self.totals.1.into() };
        let tables = std::mem::take(&mut written.tables);
        let mut commit = Commit { record: 0, head, tables, totals, parity: 0, signer: None };
        written.log.commit(&mut commit, &written.sealing, &self.packer.signing)?;
        written.log.flush()?;
        self.packed.bytes = self.totals.1;
        self.packed.unique = self.content.unique();
        self.packed.in_bases = self.content.in_bases();
        self.packed.stored = written.log.at();
        Ok(self.packed)
    }
}

/// Nanoseconds since 1970, as a commit has them; times before are 0.
pub(super) fn nanoseconds(time: Time) -> u64 {
    u64::try_from(time.secs).unwrap_or(0).saturating_mul(1_000_000_000).saturating_add(time.nanos.into())
}

fn plan_order(items: &mut [Item]) {
    items.sort_by_cached_key(|item| plan::sort_key(&item.path, item.attr.size));
}
