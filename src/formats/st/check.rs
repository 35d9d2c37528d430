//! Checking a container: every hash there is, every file traced to what is damaged, and every name to its inode.

use super::index::Index;
use super::layout::RECORD_HEADER_LEN;
use super::medium::Medium;
use super::named::{self, LostName};
use super::rows::{Block, ChunkRow, ExtentRow, Metas, Names, Nodes, Plain, Rows, SegmentRow};
use super::strays::{self, Strays};
use super::table::Table;
use super::tree::{Container, ROOT};
use super::{records, tape::Tape};
use crate::codec::damaged;
use crate::error::{Error, Kind as ErrorKind, Result, Within};
use crate::formats::Watch;
use crate::pool;
use crate::tree::{Kind, Tree};
use std::collections::{BTreeMap, HashMap};

/// What a check found.
#[derive(Clone, Debug, Default)]
pub struct Checked {
    pub segments: u64,
    /// Raw bytes of all segments.
    pub bytes: u64,
    /// Inodes.
    pub entries: u64,
    /// What fails, in words.
    pub damage: Vec<String>,
    /// Bases that are not there, in words.
    pub lacking: Vec<String>,
    /// Pieces that were damaged and that parity made good.
    pub healed: u64,
    /// Files that cannot be read whole, or that parity made whole.
    pub files: Vec<DamagedFile>,
    /// Names without an inode, and inodes without a name.
    pub names: Vec<LostName>,
    /// What of the file belongs to no whole record. No file needs it.
    pub strays: Strays,
}

/// A file that lost something, or would have without parity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DamagedFile {
    pub path: Vec<u8>,
    pub hurt: Hurt,
}

/// What happened to a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hurt {
    /// Bytes that cannot be read.
    pub lost: u64,
    /// Segments, whole or in part, that these are of.
    pub segments: u64,
    /// Segments that are damaged in the container, and that parity made good.
    pub healed: u64,
    /// Of the segments, those that lie in a base that is not there.
    pub absent: u64,
}

impl Hurt {
    /// Whether all that is lost lies in bases that are not there.
    pub fn is_absent(&self) -> bool {
        self.absent > 0 && self.absent == self.segments
    }
}

impl Checked {
    /// Whether every file can be read.
    pub fn is_whole(&self) -> bool {
        self.damage.is_empty()
            && self.lacking.is_empty()
            && self.names.is_empty()
            && self.files.iter().all(|file| file.hurt.lost == 0)
    }
}

impl Container {
    /// Reads and checks everything, with so many threads. Damage is reported, not an error; an error is only what makes
    /// going on impossible.
    pub fn check(&self, threads: usize, watch: &dyn Watch) -> Result<Checked> {
        let mut checked = self.check_data(threads, watch)?;
        if checked.damage.is_empty() || checked.segments > 0 {
            self.check_strays(watch, &mut checked)?;
            self.check_names(&mut checked)?;
        }
        Ok(checked)
    }

    /// The same of what the newest state needs, by one thread.
    pub(super) fn check_quietly(&self, watch: &dyn Watch) -> Result<Checked> {
        self.check_data(1, watch)
    }

    fn check_data(&self, threads: usize, watch: &dyn Watch) -> Result<Checked> {
        let mut checked = Checked::default();
        check_tables(self.index(), self.medium(), &mut checked);
        if !checked.damage.is_empty() {
            // Rows may be missing: what follows would tell half of it.
            return Ok(checked);
        }
        watch.total(segments(self.index())?.iter().map(|row| row.raw_len).sum(), 0);
        let found = check_segments(self, threads, watch, &mut checked)?;
        let hurt = check_nodes(self.index(), &found, &mut checked)?;
        if !hurt.is_empty() {
            checked.files = name_files(self.index(), hurt)?;
        }
        Ok(checked)
    }

    fn check_strays(&self, watch: &dyn Watch, checked: &mut Checked) -> Result<()> {
        // Whatever is wrong with those was told already.
        let own = segments(self.index())?.into_iter().filter(|row| row.store == 0);
        let known = own.map(|row| (row.record, row.payload_len)).collect();
        let go_on = || !watch.is_cancelled();
        let end = self.totals()?.stored;
        checked.strays = strays::find(&**self.medium(), &self.medium().uid, end, &known, &go_on)?;
        Ok(())
    }

    fn check_names(&self, checked: &mut Checked) -> Result<()> {
        let Some(found) = named::unmatched(self.index())? else {
            log::warn!("inode numbers lie too far apart: names were not compared with them");
            return Ok(());
        };
        checked.names = found.names;
        if found.more > 0 {
            checked.damage.push(format!("{} more names without an inode, or inodes without a name", found.more));
        }
        Ok(())
    }
}

fn check_tables(index: &Index, medium: &Medium, checked: &mut Checked) {
    for table in index.tables() {
        for block in 0..table.fences.len() {
            if let Err(e) = check_block(table, block, medium) {
                checked.damage.push(e.to_string());
            }
        }
    }
}

fn check_block(table: &Table, block: usize, medium: &Medium) -> Result<()> {
    let fence = &table.fences[block];
    match fence.family {
        Names::FAMILY => table.load::<Names>(block, medium).map(drop),
        Nodes::FAMILY => table.load::<Nodes>(block, medium).map(drop),
        ExtentRow::FAMILY => table.load::<Rows<ExtentRow>>(block, medium).map(drop),
        SegmentRow::FAMILY => table.load::<Rows<SegmentRow>>(block, medium).map(drop),
        ChunkRow::FAMILY => table.load::<Rows<ChunkRow>>(block, medium).map(drop),
        Metas::FAMILY => table.load::<Metas>(block, medium).map(drop),
        _ => fence.read(medium).map(drop).within(|| format!("the table block at {}", fence.at)),
    }
}

fn segments(index: &Index) -> Result<Vec<SegmentRow>> {
    let (mut all, mut rows) = (Vec::new(), index.all::<Rows<SegmentRow>>()?);
    while let Some(at) = rows.next()? {
        all.push(*at.block.get(at.row));
    }
    Ok(all)
}

/// What the tape was found to be like.
#[derive(Default)]
struct Found {
    /// Ranges that can be read, as address and length, in order; adjacent ones are one.
    good: Vec<(u64, u64)>,
    /// Segments that cannot, and segments that can by parity, in order.
    bad: Vec<(u64, u64)>,
    healed: Vec<(u64, u64)>,
    absent: Vec<(u64, u64)>,
}

impl Found {
    fn good(&mut self, row: &SegmentRow) {
        match self.good.last_mut() {
            // Segments of different tables may overlap.
            Some(last) if row.address <= last.0 + last.1 => last.1 = last.1.max(row.address + row.raw_len - last.0),
            _ => self.good.push((row.address, row.raw_len)),
        }
    }

    /// What happened to a stretch of a file.
    fn add(&self, address: u64, len: u64, hurt: &mut Hurt) {
        // Rows that overlap, in a hostile container, can come to more than 64 bits hold.
        hurt.lost = hurt.lost.saturating_add(missing(&self.good, address, len));
        hurt.segments += touched(&self.bad, address, len);
        hurt.healed += touched(&self.healed, address, len);
        hurt.absent += touched(&self.absent, address, len);
    }
}

/// How many of these ranges a stretch touches.
fn touched(ranges: &[(u64, u64)], address: u64, len: u64) -> u64 {
    if address == 0 || ranges.is_empty() {
        return 0;
    }
    let first = ranges.partition_point(|(start, len)| start + len <= address);
    ranges[first..].iter().take_while(|(start, _)| *start < address + len).count() as u64
}

fn check_segments(of: &Container, threads: usize, watch: &dyn Watch, checked: &mut Checked) -> Result<Found> {
    let rows = segments(of.index())?;
    let (mut found, mut lacking) = (Found::default(), BTreeMap::new());
    let feed = |feed: &pool::Feed<SegmentRow, (SegmentRow, Result<()>)>| {
        if rows.into_iter().all(|row| !watch.is_cancelled() && feed.push(row)) {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Interrupted, "interrupted"))
    };
    let work = |row: SegmentRow| (row, check_segment(of.tape(), &row));
    pool::ordered(threads, threads * 2, feed, work, |(row, result): (SegmentRow, Result<()>)| {
        checked.segments += 1;
        checked.bytes += row.raw_len;
        watch.advance(row.raw_len, 0);
        match result {
            Err(e) => {
                found.bad.push((row.address, row.raw_len));
                if e.kind() == ErrorKind::MissingBase {
                    found.absent.push((row.address, row.raw_len));
                    lacking.entry(row.store).or_insert((e, 0u64)).1 += 1;
                } else {
                    checked.damage.push(e.to_string());
                }
            }
            Ok(()) => {
                found.good(&row);
                let healing = &of.medium().healing;
                if row.store != 0 {
                    return Ok(());
                }
                if healing.is_noted(row.record) || healing.is_noted(row.record + RECORD_HEADER_LEN) {
                    found.healed.push((row.address, row.raw_len));
                }
            }
        }
        Ok(())
    })?;
    for (e, segments) in lacking.into_values() {
        // One line for a base, and not for each segment in it.
        let more = if segments > 1 { format!("; {} more segments lie there", segments - 1) } else { String::new() };
        checked.lacking.push(format!("{e}{more}"));
    }
    checked.healed = of.medium().healing.told().healed;
    Ok(found)
}

/// The record in the log must say what the index says, and its payload must decode.
fn check_segment(tape: &Tape, row: &SegmentRow) -> Result<()> {
    tape.decode(row, 0)?;
    if row.store != 0 {
        return Ok(());
    }
    let header = records::sound_header(tape.medium(), row.record)?;
    if header.payload_hash == row.hash && header.payload_len.get() == row.payload_len {
        return Ok(());
    }
    Err(damaged(format!("the header of the record at {} is damaged", row.record)))
}

/// Inodes that damage is in, and how much.
fn check_nodes(index: &Index, found: &Found, checked: &mut Checked) -> Result<HashMap<u64, Hurt>> {
    let mut hurt: HashMap<u64, Hurt> = HashMap::new();
    let mut owners = HashMap::new();
    let mut nodes = index.all::<Nodes>()?;
    while let Some(at) = nodes.next()? {
        let entry = at.block.entry(at.row);
        checked.entries += 1;
        if entry.data_id != 0 {
            owners.insert(entry.data_id, entry.ino);
        }
        let mut own = Hurt::default();
        at.block.extents(at.row).iter().for_each(|(address, len)| found.add(*address, *len, &mut own));
        if own != Hurt::default() {
            hurt.insert(entry.ino, own);
        }
    }
    let mut extents = index.all::<Rows<ExtentRow>>()?;
    while let Some(at) = extents.next()? {
        let row = at.block.get(at.row);
        let mut own = Hurt::default();
        found.add(row.address, row.len, &mut own);
        if let Some(ino) = owners.get(&row.data_id).filter(|_| own != Hurt::default()) {
            let sum = hurt.entry(*ino).or_default();
            sum.lost = sum.lost.saturating_add(own.lost);
            (sum.segments, sum.healed) = (sum.segments + own.segments, sum.healed + own.healed);
            sum.absent += own.absent;
        }
    }
    Ok(hurt)
}

/// Bytes of a tape range that cannot be read.
fn missing(good: &[(u64, u64)], address: u64, len: u64) -> u64 {
    if address == 0 {
        return 0;
    }
    let end = address + len;
    let first = good.partition_point(|(start, len)| start + len <= address);
    let overlaps = good[first..].iter().take_while(|(start, _)| *start < end);
    len - overlaps.map(|(start, len)| (start + len).min(end) - (*start).max(address)).sum::<u64>()
}

/// Gives each damaged inode its paths.
fn name_files(index: &Index, hurt: HashMap<u64, Hurt>) -> Result<Vec<DamagedFile>> {
    let (mut found, mut names) = (Vec::new(), index.all::<Names>()?);
    while let Some(at) = names.next()? {
        let (parent, name) = at.block.key_of(at.row);
        let Some((ino, kind)) = at.block.value(at.row) else { continue };
        if let Some(hurt) = hurt.get(&ino).filter(|_| kind != Kind::Directory) {
            found.push((parent, name.to_vec(), *hurt));
        }
    }
    let paths = Paths::of(index)?;
    let mut files: Vec<_> =
        found.into_iter().map(|(parent, name, hurt)| DamagedFile { path: paths.path(parent, name), hurt }).collect();
    files.sort_unstable_by(|a, b| a.path.cmp(&b.path));
    Ok(files)
}

/// Bytes above a name after which its path is cut off.
const LONGEST_PATH: usize = 1 << 16;

/// The way up from each directory.
pub(super) struct Paths {
    dirs: HashMap<u64, (u64, Vec<u8>)>,
}

impl Paths {
    pub fn of(index: &Index) -> Result<Self> {
        let (mut dirs, mut names) = (HashMap::new(), index.all::<Names>()?);
        while let Some(at) = names.next()? {
            let (parent, name) = at.block.key_of(at.row);
            if let Some((ino, Kind::Directory)) = at.block.value(at.row) {
                dirs.insert(ino, (parent, name.to_vec()));
            }
        }
        Ok(Self { dirs })
    }

    /// The path of a name in a directory. A container whose directories go in circles gets a path that is cut off, and
    /// one that does not begin in the root begins with an inode.
    pub fn path(&self, mut parent: u64, name: Vec<u8>) -> Vec<u8> {
        let mut parts = vec![name];
        let mut len = 0;
        while parent != ROOT && parts.len() < 1000 && len < LONGEST_PATH {
            let Some((above, name)) = self.dirs.get(&parent) else {
                parts.push(format!("(inode {parent})").into_bytes());
                break;
            };
            parts.push(name.clone());
            len += name.len();
            parent = *above;
        }
        parts.reverse();
        parts.join(&b'/')
    }
}
