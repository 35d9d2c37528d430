//! The rows of a table: what the families are, how a row becomes columns, and what a decoded block looks like in memory.
//!
//! A key is one byte of family, then big-endian numbers and raw bytes, so that rows sort as their keys compare. Every
//! family begins with the column `op`: 0 puts the row, 1 deletes what older tables say of the key.

use super::columns::{In, Out};
use super::limits;
use crate::cache::Cached;
use crate::codec::damaged;
use crate::error::Result;
use crate::tree::{Kind, Name, Time};
use std::cmp::Ordering;
use std::ops::Range;

/// A decoded block of one family.
pub trait Block: Cached + Sized {
    const FAMILY: u8;
    /// Streams that a row of this family takes apart into.
    const COLUMNS: usize;

    /// Reads the rows; `input` has been opened with [`Self::COLUMNS`].
    fn decode(input: In<'_>) -> Result<Self>;

    fn rows(&self) -> usize;

    /// The key of a row, with the family in front.
    fn key(&self, row: usize) -> Vec<u8>;

    /// Whether a row deletes its key.
    fn deletes(&self, row: usize) -> bool;

    /// Writes a row again.
    fn copy(&self, row: usize, out: &mut Out);

    /// Writes a row that deletes a key, which is given with its family in front.
    fn delete(key: &[u8], out: &mut Out);

    /// The order of two rows, by key.
    fn compare(a: (&Self, usize), b: (&Self, usize)) -> Ordering;

    /// Fails unless the keys ascend.
    fn ascending(self) -> Result<Self> {
        let ok = (1..self.rows()).all(|i| Self::compare((&self, i - 1), (&self, i)).is_lt());
        if ok { Ok(self) } else { Err(damaged("the rows of a table block are out of order")) }
    }
}

fn op(input: &mut In<'_>) -> Result<bool> {
    input.row();
    match input.u()? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(damaged("a row of a table has an unknown operation")),
    }
}

fn small<T: TryFrom<u64>>(n: u64, what: &str) -> Result<T> {
    T::try_from(n).map_err(|_| damaged(format!("{what} is {n}, which is too large")))
}

fn address(start: u64, len: u64) -> Result<()> {
    if start <= limits::ADDRESS && len <= limits::ADDRESS {
        return Ok(());
    }
    Err(damaged(format!("an address is too large: {start} + {len}")))
}

/// A row as a writer hands it over.
pub trait Row {
    type Block: Block;
    fn key(&self) -> Vec<u8>;
    fn put(&self, out: &mut Out);
}

/// A number of a key: the one at this place behind the family.
fn number(key: &[u8], place: usize) -> u64 {
    let bytes = key.get(1 + place * 8..9 + place * 8).and_then(|bytes| bytes.try_into().ok());
    bytes.map_or(0, u64::from_be_bytes)
}

/// Begins a row that deletes.
fn deletion(out: &mut Out) {
    out.row();
    out.u(1);
}

/// A key of numbers.
pub fn key(family: u8, numbers: &[u64]) -> Vec<u8> {
    let mut key = vec![family];
    numbers.iter().for_each(|n| key.extend_from_slice(&n.to_be_bytes()));
    key
}

// ---- NAME: a directory entry ------------------------------------------------------------------------------------------

/// One name in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameRow {
    pub parent: u64,
    pub name: Box<[u8]>,
    pub ino: u64,
    pub kind: Kind,
}

impl Row for NameRow {
    type Block = Names;

    fn key(&self) -> Vec<u8> {
        name_key(self.parent, &self.name)
    }

    fn put(&self, out: &mut Out) {
        out.row();
        out.u(0);
        out.d(self.parent);
        out.p(&self.name);
        out.d(self.ino);
        out.u(u64::from(self.kind.code()));
    }
}

pub fn name_key(parent: u64, name: &[u8]) -> Vec<u8> {
    let mut key = key(Names::FAMILY, &[parent]);
    key.extend_from_slice(name);
    key
}

/// A block of NAME rows.
pub struct Names {
    entries: Vec<NameEntry>,
    text: Vec<u8>,
}

struct NameEntry {
    parent: u64,
    ino: u64,
    end: u32,
    kind: Option<Kind>,
}

impl Names {
    /// Parent and name of a row.
    pub fn key_of(&self, row: usize) -> (u64, &[u8]) {
        let start = if row == 0 { 0 } else { self.entries[row - 1].end };
        let entry = &self.entries[row];
        (entry.parent, &self.text[start as usize..entry.end as usize])
    }

    /// Inode and kind of a row; `None` where it deletes.
    pub fn value(&self, row: usize) -> Option<(u64, Kind)> {
        let entry = &self.entries[row];
        entry.kind.map(|kind| (entry.ino, kind))
    }
}

impl Cached for Names {
    fn weight(&self) -> usize {
        self.entries.capacity() * size_of::<NameEntry>() + self.text.capacity()
    }
}

impl Block for Names {
    const FAMILY: u8 = 1;
    const COLUMNS: usize = 7;

    fn decode(mut input: In<'_>) -> Result<Self> {
        let mut this = Self { entries: Vec::with_capacity(input.rows()), text: Vec::new() };
        for _ in 0..input.rows() {
            let deleted = op(&mut input)?;
            let parent = input.d()?;
            let name = input.p(Name::MAX)?;
            Name::new(name).map_err(|e| damaged("a directory entry").caused_by(e))?;
            this.text.extend_from_slice(name);
            let end = small(this.text.len() as u64, "the text of a block of names")?;
            let (ino, code) = (input.d()?, input.u()?);
            let kind =
                Kind::from_code(code).ok_or_else(|| damaged(format!("an entry is of the unknown kind {code}")))?;
            this.entries.push(NameEntry { parent, ino, end, kind: (!deleted).then_some(kind) });
        }
        this.text.shrink_to_fit();
        this.ascending()
    }

    fn rows(&self) -> usize {
        self.entries.len()
    }

    fn key(&self, row: usize) -> Vec<u8> {
        let (parent, name) = self.key_of(row);
        name_key(parent, name)
    }

    fn deletes(&self, row: usize) -> bool {
        self.entries[row].kind.is_none()
    }

    fn copy(&self, row: usize, out: &mut Out) {
        let (parent, name) = self.key_of(row);
        match self.value(row) {
            Some((ino, kind)) => NameRow { parent, name: name.into(), ino, kind }.put(out),
            None => Self::delete(&name_key(parent, name), out),
        }
    }

    fn delete(key: &[u8], out: &mut Out) {
        deletion(out);
        out.d(number(key, 0));
        out.p(&key[9..]);
        out.d(0);
        out.u(u64::from(Kind::File.code()));
    }

    fn compare(a: (&Self, usize), b: (&Self, usize)) -> Ordering {
        a.0.key_of(a.1).cmp(&b.0.key_of(b.1))
    }
}

// ---- NODE: an inode ---------------------------------------------------------------------------------------------------

/// One inode, as a packer hands it over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeRow {
    pub ino: u64,
    /// Kind and permission bits, as `st_mode` has them.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub mtime: Time,
    pub nlink: u32,
    pub size: u64,
    /// Which EXTENT rows hold the contents; 0 when they stand inline.
    pub data_id: u64,
    /// Address (0 for a hole) and length, from the beginning of the file; what they do not cover is a hole.
    pub extents: Vec<(u64, u64)>,
    pub extra: Vec<u8>,
}

impl Row for NodeRow {
    type Block = Nodes;

    fn key(&self) -> Vec<u8> {
        key(Nodes::FAMILY, &[self.ino])
    }

    fn put(&self, out: &mut Out) {
        out.row();
        out.u(0);
        self.columns(out);
    }
}

impl NodeRow {
    fn columns(&self, out: &mut Out) {
        out.d(self.ino);
        out.u(u64::from(self.mode));
        out.u(u64::from(self.uid));
        out.u(u64::from(self.gid));
        out.d(self.mtime.secs as u64);
        out.u(u64::from(self.mtime.nanos));
        out.u(u64::from(self.nlink));
        out.u(self.size);
        out.u(self.data_id);
        out.x(&self.extents);
        out.b(&self.extra);
    }
}

/// An inode in a decoded block.
#[derive(Clone, Debug)]
pub struct NodeEntry {
    pub ino: u64,
    pub mtime: Time,
    pub size: u64,
    pub data_id: u64,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub nlink: u32,
    pub kind: Kind,
    deleted: bool,
    extents: Range<u32>,
    extra: Range<u32>,
}

/// A block of NODE rows.
pub struct Nodes {
    entries: Vec<NodeEntry>,
    extents: Vec<(u64, u64)>,
    extra: Vec<u8>,
}

impl Nodes {
    pub fn entry(&self, row: usize) -> &NodeEntry {
        &self.entries[row]
    }

    pub fn extents(&self, row: usize) -> &[(u64, u64)] {
        let range = &self.entries[row].extents;
        &self.extents[range.start as usize..range.end as usize]
    }

    pub fn extra(&self, row: usize) -> &[u8] {
        let range = &self.entries[row].extra;
        &self.extra[range.start as usize..range.end as usize]
    }

    /// A row, to be changed or written again.
    pub fn row(&self, row: usize) -> NodeRow {
        let entry = self.entry(row);
        NodeRow {
            ino: entry.ino,
            mode: entry.kind.mode_bits() | entry.mode,
            uid: entry.uid,
            gid: entry.gid,
            mtime: entry.mtime,
            nlink: entry.nlink,
            size: entry.size,
            data_id: entry.data_id,
            extents: self.extents(row).to_vec(),
            extra: self.extra(row).to_vec(),
        }
    }

    fn read_entry(&mut self, input: &mut In<'_>) -> Result<NodeEntry> {
        let deleted = op(input)?;
        let ino = input.d()?;
        let mode = small(input.u()?, "a mode")?;
        let kind = Kind::from_mode(mode).filter(|_| mode <= 0xffff);
        let (uid, gid) = (small(input.u()?, "a user id")?, small(input.u()?, "a group id")?);
        let (secs, nanos) = (input.d()? as i64, input.u()?);
        if nanos >= 1_000_000_000 {
            return Err(damaged("a time has more nanoseconds than a second"));
        }
        let nlink = small(input.u()?, "a link count")?;
        let (size, data_id) = (input.u()?, input.u()?);
        let first = self.extents.len() as u32;
        input.x(|address, len| self.extents.push((address, len)))?;
        let last = self.extents.len() as u32;
        self.extents[first as usize..].iter().try_for_each(|(start, len)| address(*start, *len))?;
        // Each is within the limit and there are few, but all together may be more than 64 bits hold.
        let all = self.extents[first as usize..].iter().try_fold(0u64, |sum, (_, len)| sum.checked_add(*len));
        address(all.unwrap_or(u64::MAX), 0)?;
        address(size, 0)?;
        let before = self.extra.len() as u32;
        self.extra.extend_from_slice(input.b()?);
        Ok(NodeEntry {
            ino,
            mtime: Time { secs, nanos: nanos as u32 },
            size,
            data_id,
            mode: mode & 0o7777,
            uid,
            gid,
            nlink,
            kind: kind.ok_or_else(|| damaged(format!("inode {ino} is of an unknown kind (mode {mode:o})")))?,
            deleted,
            extents: first..last,
            extra: before..self.extra.len() as u32,
        })
    }
}

impl Cached for Nodes {
    fn weight(&self) -> usize {
        self.entries.capacity() * size_of::<NodeEntry>() + self.extents.capacity() * 16 + self.extra.capacity()
    }
}

impl Block for Nodes {
    const FAMILY: u8 = 2;
    const COLUMNS: usize = 15;

    fn decode(mut input: In<'_>) -> Result<Self> {
        let mut this = Self { entries: Vec::with_capacity(input.rows()), extents: Vec::new(), extra: Vec::new() };
        for _ in 0..input.rows() {
            let entry = this.read_entry(&mut input)?;
            this.entries.push(entry);
        }
        this.extents.shrink_to_fit();
        this.extra.shrink_to_fit();
        this.ascending()
    }

    fn rows(&self) -> usize {
        self.entries.len()
    }

    fn key(&self, row: usize) -> Vec<u8> {
        key(Self::FAMILY, &[self.entries[row].ino])
    }

    fn deletes(&self, row: usize) -> bool {
        self.entries[row].deleted
    }

    fn copy(&self, row: usize, out: &mut Out) {
        match self.deletes(row) {
            true => Self::delete(&self.key(row), out),
            false => self.row(row).put(out),
        }
    }

    fn delete(key: &[u8], out: &mut Out) {
        let mtime = Time::default();
        let (ino, mode) = (number(key, 0), Kind::File.mode_bits());
        deletion(out);
        NodeRow { ino, mode, uid: 0, gid: 0, mtime, nlink: 0, size: 0, data_id: 0, extents: vec![], extra: vec![] }
            .columns(out);
    }

    fn compare(a: (&Self, usize), b: (&Self, usize)) -> Ordering {
        a.0.entries[a.1].ino.cmp(&b.0.entries[b.1].ino)
    }
}

// ---- EXTENT, SEG, CHUNK: small rows of numbers ------------------------------------------------------------------------

/// A family whose rows are small and of one size.
pub trait Plain: Row<Block = Rows<Self>> + Copy + Send + Sync + 'static {
    const FAMILY: u8;
    const COLUMNS: usize;
    type Key: Ord;
    fn sort_key(&self) -> Self::Key;
    fn take(input: &mut In<'_>) -> Result<Self>;
    fn delete(key: &[u8], out: &mut Out);
}

/// A block of such rows.
pub struct Rows<R> {
    rows: Vec<R>,
    deleted: Vec<bool>,
}

impl<R: Plain> Rows<R> {
    pub fn get(&self, row: usize) -> &R {
        &self.rows[row]
    }
}

impl<R: Plain> Cached for Rows<R> {
    fn weight(&self) -> usize {
        self.rows.capacity() * size_of::<R>() + self.deleted.capacity()
    }
}

impl<R: Plain> Block for Rows<R> {
    const FAMILY: u8 = R::FAMILY;
    const COLUMNS: usize = R::COLUMNS;

    fn decode(mut input: In<'_>) -> Result<Self> {
        let count = input.rows();
        let mut this = Self { rows: Vec::with_capacity(count), deleted: Vec::with_capacity(count) };
        for _ in 0..count {
            this.deleted.push(op(&mut input)?);
            this.rows.push(R::take(&mut input)?);
        }
        this.ascending()
    }

    fn rows(&self) -> usize {
        self.rows.len()
    }

    fn key(&self, row: usize) -> Vec<u8> {
        self.rows[row].key()
    }

    fn deletes(&self, row: usize) -> bool {
        self.deleted[row]
    }

    fn copy(&self, row: usize, out: &mut Out) {
        if self.deleted[row] { R::delete(&self.rows[row].key(), out) } else { self.rows[row].put(out) }
    }

    fn delete(key: &[u8], out: &mut Out) {
        R::delete(key, out);
    }

    fn compare(a: (&Self, usize), b: (&Self, usize)) -> Ordering {
        a.0.rows[a.1].sort_key().cmp(&b.0.rows[b.1].sort_key())
    }
}

/// A piece of a file's contents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExtentRow {
    pub data_id: u64,
    /// Offset in the file.
    pub at: u64,
    pub address: u64,
    pub len: u64,
}

impl Row for ExtentRow {
    type Block = Rows<Self>;

    fn key(&self) -> Vec<u8> {
        key(Self::FAMILY, &[self.data_id, self.at])
    }

    fn put(&self, out: &mut Out) {
        out.row();
        out.u(0);
        out.d(self.data_id);
        out.d(self.at);
        out.x(&[(self.address, self.len)]);
    }
}

impl Plain for ExtentRow {
    const FAMILY: u8 = 3;
    const COLUMNS: usize = 6;
    type Key = (u64, u64);

    fn sort_key(&self) -> (u64, u64) {
        (self.data_id, self.at)
    }

    fn take(input: &mut In<'_>) -> Result<Self> {
        let (data_id, at) = (input.d()?, input.d()?);
        let mut row = Self { data_id, at, address: 0, len: 0 };
        input.x(|address, len| (row.address, row.len) = (address, len))?;
        address(row.address, row.len)?;
        address(at, 0)?;
        Ok(row)
    }

    fn delete(key: &[u8], out: &mut Out) {
        deletion(out);
        out.d(number(key, 0));
        out.d(number(key, 1));
        out.x(&[(0, 1)]);
    }
}

/// A stretch of the tape and the record that holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentRow {
    pub address: u64,
    pub raw_len: u64,
    /// Offset of the record.
    pub record: u64,
    pub payload_len: u64,
    /// Which container holds the record: 0 is this one.
    pub store: u64,
    pub hash: [u8; 32],
}

impl Row for SegmentRow {
    type Block = Rows<Self>;

    fn key(&self) -> Vec<u8> {
        key(Self::FAMILY, &[self.address])
    }

    fn put(&self, out: &mut Out) {
        out.row();
        out.u(0);
        out.d(self.address);
        out.u(self.raw_len);
        out.d(self.record);
        out.u(self.payload_len);
        out.u(self.store);
        out.h(&self.hash);
    }
}

impl Plain for SegmentRow {
    const FAMILY: u8 = 4;
    const COLUMNS: usize = 7;
    type Key = u64;

    fn sort_key(&self) -> u64 {
        self.address
    }

    fn take(input: &mut In<'_>) -> Result<Self> {
        let (address, raw_len) = (input.d()?, input.u()?);
        let (record, payload_len) = (input.d()?, input.u()?);
        let row = Self { address, raw_len, record, payload_len, store: input.u()?, hash: input.h()? };
        self::address(address, raw_len)?;
        if raw_len > limits::SEGMENT_RAW || payload_len > limits::segment_payload(raw_len) {
            return Err(damaged(format!("the segment at {record} claims {payload_len} bytes for {raw_len}")));
        }
        Ok(row)
    }

    fn delete(key: &[u8], out: &mut Out) {
        deletion(out);
        out.d(number(key, 0));
        out.u(0);
        out.d(0);
        out.u(0);
        out.u(0);
        out.h(&[0; 32]);
    }
}

/// A hint to where a chunk with this beginning of its id lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkRow {
    /// First eight bytes of the id, big-endian.
    pub id: u64,
    pub address: u64,
    pub len: u64,
}

impl Row for ChunkRow {
    type Block = Rows<Self>;

    fn key(&self) -> Vec<u8> {
        key(Self::FAMILY, &[self.id])
    }

    fn put(&self, out: &mut Out) {
        out.row();
        out.u(0);
        out.d(self.id);
        out.d(self.address);
        out.u(self.len);
    }
}

impl Plain for ChunkRow {
    const FAMILY: u8 = 5;
    const COLUMNS: usize = 4;
    type Key = u64;

    fn sort_key(&self) -> u64 {
        self.id
    }

    fn take(input: &mut In<'_>) -> Result<Self> {
        let row = Self { id: input.d()?, address: input.d()?, len: input.u()? };
        address(row.address, row.len)?;
        Ok(row)
    }

    fn delete(key: &[u8], out: &mut Out) {
        deletion(out);
        out.d(number(key, 0));
        out.d(0);
        out.u(0);
    }
}

// ---- META: everything else --------------------------------------------------------------------------------------------

/// A named value of the container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetaRow {
    pub name: Vec<u8>,
    pub value: Vec<u8>,
}

impl Row for MetaRow {
    type Block = Metas;

    fn key(&self) -> Vec<u8> {
        meta_key(&self.name)
    }

    fn put(&self, out: &mut Out) {
        out.row();
        out.u(0);
        out.p(&self.name);
        out.b(&self.value);
    }
}

pub fn meta_key(name: &[u8]) -> Vec<u8> {
    let mut key = vec![Metas::FAMILY];
    key.extend_from_slice(name);
    key
}

/// A block of META rows.
pub struct Metas(Vec<(MetaRow, bool)>);

impl Metas {
    pub fn get(&self, row: usize) -> &MetaRow {
        &self.0[row].0
    }
}

impl Cached for Metas {
    fn weight(&self) -> usize {
        self.0.iter().map(|(row, _)| row.name.capacity() + row.value.capacity() + size_of::<(MetaRow, bool)>()).sum()
    }
}

impl Block for Metas {
    const FAMILY: u8 = 6;
    const COLUMNS: usize = 6;

    fn decode(mut input: In<'_>) -> Result<Self> {
        let mut rows = Vec::with_capacity(input.rows());
        for _ in 0..input.rows() {
            let deleted = op(&mut input)?;
            let name = input.p(Name::MAX)?.to_vec();
            rows.push((MetaRow { name, value: input.b()?.to_vec() }, deleted));
        }
        Self(rows).ascending()
    }

    fn rows(&self) -> usize {
        self.0.len()
    }

    fn key(&self, row: usize) -> Vec<u8> {
        self.0[row].0.key()
    }

    fn deletes(&self, row: usize) -> bool {
        self.0[row].1
    }

    fn copy(&self, row: usize, out: &mut Out) {
        let (kept, deleted) = &self.0[row];
        if *deleted { Self::delete(&kept.key(), out) } else { kept.put(out) }
    }

    fn delete(key: &[u8], out: &mut Out) {
        deletion(out);
        out.p(&key[1..]);
        out.b(&[]);
    }

    fn compare(a: (&Self, usize), b: (&Self, usize)) -> Ordering {
        a.0.0[a.1].0.name.cmp(&b.0.0[b.1].0.name)
    }
}
