//! Checking a container: every hash there is, every file traced to what is damaged, and every name to its inode.

use super::index::Index;
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
use std::collections::HashMap;

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
    /// Files that cannot be read whole.
    pub files: Vec<DamagedFile>,
    /// Names without an inode, and inodes without a name.
    pub names: Vec<LostName>,
    /// What of the file belongs to no whole record. No file needs it.
    pub strays: Strays,
}

/// A file that lost something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DamagedFile {
    pub path: Vec<u8>,
    /// Bytes that cannot be read.
    pub lost: u64,
}

impl Checked {
    /// Whether every file can be read.
    pub fn is_whole(&self) -> bool {
        self.damage.is_empty() && self.files.is_empty() && self.names.is_empty()
    }
}

impl Container {
    /// Reads and checks everything, with so many threads. Damage is reported, not an error; an error is only what makes
    /// going on impossible.
    pub fn check(&self, threads: usize, watch: &dyn Watch) -> Result<Checked> {
        let mut checked = Checked::default();
        check_tables(self.index(), self.medium(), &mut checked);
        if !checked.damage.is_empty() {
            // Rows may be missing: what follows would tell half of it.
            return Ok(checked);
        }
        watch.total(segments(self.index())?.iter().map(|row| row.raw_len).sum(), 0);
        let good = check_segments(self, threads, watch, &mut checked)?;
        self.check_strays(watch, &mut checked)?;
        let lost = check_nodes(self.index(), &good, &mut checked)?;
        if !lost.is_empty() {
            checked.files = name_files(self.index(), lost)?;
        }
        self.check_names(&mut checked)?;
        Ok(checked)
    }

    fn check_strays(&self, watch: &dyn Watch, checked: &mut Checked) -> Result<()> {
        // Whatever is wrong with those was told already.
        let known = segments(self.index())?.into_iter().map(|row| (row.record, row.payload_len)).collect();
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

/// Tape ranges that can be read, as address and length, in order; adjacent ones are one.
type Good = Vec<(u64, u64)>;

fn check_segments(of: &Container, threads: usize, watch: &dyn Watch, checked: &mut Checked) -> Result<Good> {
    let rows = segments(of.index())?;
    let mut good: Good = Vec::new();
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
            Err(e) => checked.damage.push(e.to_string()),
            Ok(()) => match good.last_mut() {
                // Segments of different tables may overlap.
                Some(last) if row.address <= last.0 + last.1 => last.1 = last.1.max(row.address + row.raw_len - last.0),
                _ => good.push((row.address, row.raw_len)),
            },
        }
        Ok(())
    })?;
    Ok(good)
}

/// The record in the log must say what the index says, and its payload must decode.
fn check_segment(tape: &Tape, row: &SegmentRow) -> Result<()> {
    tape.decode(row, 0)?;
    let header = records::read_header(&**tape.medium(), row.record)?;
    if header.payload_hash == row.hash && header.payload_len.get() == row.payload_len {
        return Ok(());
    }
    Err(damaged(format!("the header of the record at {} is damaged", row.record)))
}

/// Inodes that lost data, and how many bytes.
fn check_nodes(index: &Index, good: &Good, checked: &mut Checked) -> Result<HashMap<u64, u64>> {
    let mut lost = HashMap::new();
    let mut owners = HashMap::new();
    let mut nodes = index.all::<Nodes>()?;
    while let Some(at) = nodes.next()? {
        let entry = at.block.entry(at.row);
        checked.entries += 1;
        if entry.data_id != 0 {
            owners.insert(entry.data_id, entry.ino);
        }
        let missing: u64 = at.block.extents(at.row).iter().map(|(address, len)| missing(good, *address, *len)).sum();
        if missing > 0 {
            lost.insert(entry.ino, missing);
        }
    }
    let mut extents = index.all::<Rows<ExtentRow>>()?;
    while let Some(at) = extents.next()? {
        let row = at.block.get(at.row);
        let missing = missing(good, row.address, row.len);
        if let Some(ino) = owners.get(&row.data_id).filter(|_| missing > 0) {
            // Rows that overlap, in a hostile container, can come to more than 64 bits hold.
            let sum: &mut u64 = lost.entry(*ino).or_default();
            *sum = sum.saturating_add(missing);
        }
    }
    Ok(lost)
}

/// Bytes of a tape range that cannot be read.
fn missing(good: &Good, address: u64, len: u64) -> u64 {
    if address == 0 {
        return 0;
    }
    let end = address + len;
    let first = good.partition_point(|(start, len)| start + len <= address);
    let overlaps = good[first..].iter().take_while(|(start, _)| *start < end);
    len - overlaps.map(|(start, len)| (start + len).min(end) - (*start).max(address)).sum::<u64>()
}

/// Gives each damaged inode its paths.
fn name_files(index: &Index, lost: HashMap<u64, u64>) -> Result<Vec<DamagedFile>> {
    let (mut found, mut names) = (Vec::new(), index.all::<Names>()?);
    while let Some(at) = names.next()? {
        let (parent, name) = at.block.key_of(at.row);
        let Some((ino, kind)) = at.block.value(at.row) else { continue };
        if let Some(bytes) = lost.get(&ino).filter(|_| kind != Kind::Directory) {
            found.push((parent, name.to_vec(), *bytes));
        }
    }
    let paths = Paths::of(index)?;
    let mut files: Vec<_> =
        found.into_iter().map(|(parent, name, lost)| DamagedFile { path: paths.path(parent, name), lost }).collect();
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
