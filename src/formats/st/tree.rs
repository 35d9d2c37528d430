//! An opened container as a [`Tree`].

use super::extra;
use super::index::{At, Index};
use super::layout::TotalsItem;
use super::medium::Medium;
use super::rows::{ExtentRow, Names, NodeRow, Nodes, Plain, Rows, name_key};
use super::tape::Tape;
use crate::cache::{Cache, Cached, Key as CacheKey};
use crate::codec::damaged;
use crate::error::{Error, Kind as ErrorKind, Result, Within};
use crate::pool::lock;
use crate::source::{ReadAt, Stored};
use crate::tree::{Attr, Kind, Name, Node, Owner, Totals, Tree, Visit, Xattr};
use std::collections::HashMap;
use std::ops::{ControlFlow, Range};
use std::sync::{Arc, Mutex};

/// The inode of the root.
pub const ROOT: u64 = 1;

/// The space of extent lists in the cache.
const EXTENTS: u8 = 3;

/// A container, open for reading.
pub struct Container {
    shared: Arc<Shared>,
    totals: Totals,
    owners: Mutex<HashMap<Vec<u8>, Option<String>>>,
}

struct Shared {
    name: String,
    index: Arc<Index>,
    tape: Arc<Tape>,
    cache: Arc<Cache>,
    owner: u64,
}

impl Container {
    pub(super) fn new(
        name: String,
        index: Arc<Index>,
        tape: Arc<Tape>,
        cache: Arc<Cache>,
        owner: u64,
        (totals, stored): (TotalsItem, u64),
    ) -> Self {
        let totals = Totals { nodes: totals.nodes.get(), bytes: totals.bytes.get(), stored };
        let shared = Arc::new(Shared { name, index, tape, cache, owner });
        Self { shared, totals, owners: Mutex::default() }
    }

    pub(super) fn index(&self) -> &Index {
        &self.shared.index
    }

    pub(super) fn shared_index(&self) -> Arc<Index> {
        self.shared.index.clone()
    }

    pub(super) fn shared_tape(&self) -> Arc<Tape> {
        self.shared.tape.clone()
    }

    pub(super) fn tape(&self) -> &Tape {
        &self.shared.tape
    }

    pub(super) fn medium(&self) -> &Medium {
        self.shared.tape.medium()
    }

    /// The name of a user or group, from `user/ID` or `group/ID`; looked up once.
    fn owner_name(&self, key: String) -> Result<Option<String>> {
        let mut owners = lock(&self.owners);
        if let Some(known) = owners.get(key.as_bytes()) {
            return Ok(known.clone());
        }
        let name = self.shared.index.meta(key.as_bytes())?.map(|name| String::from_utf8_lossy(&name).into_owned());
        owners.insert(key.into_bytes(), name.clone());
        Ok(name)
    }

    /// The row of an inode, if there is one.
    pub(super) fn row(&self, ino: u64) -> Result<Option<NodeRow>> {
        Ok(self.shared.index.node(ino)?.map(|at| at.block.row(at.row)))
    }

    /// What a file consists of: offset, address, length of each piece that is data.
    pub(super) fn pieces(&self, ino: u64) -> Result<Vec<(u64, u64, u64)>> {
        let at = self.shared.node(Node(ino))?;
        let extents = self.shared.extents(&at)?;
        Ok(extents.0.iter().map(|extent| (extent.at, extent.address, extent.len)).collect())
    }
}

impl Shared {
    fn node(&self, node: Node) -> Result<At<Nodes>> {
        let found = self.index.node(node.0).within(|| &self.name)?;
        found.ok_or_else(|| self.tape.medium().blame(damaged(format!("{}: inode {} is missing", self.name, node.0))))
    }

    /// What a file consists of. Long lists are kept in the cache and not with the file.
    fn extents(&self, at: &At<Nodes>) -> Result<Arc<Extents>> {
        let entry = at.block.entry(at.row);
        if entry.data_id == 0 {
            return Ok(Arc::new(Extents::inline(at.block.extents(at.row))));
        }
        let data_id = entry.data_id;
        let key = CacheKey { owner: self.owner, space: EXTENTS, at: data_id };
        self.cache.get_or_load(key, || Extents::rows(&self.index, data_id))
    }
}

impl Tree for Container {
    fn root(&self) -> Node {
        Node(ROOT)
    }

    fn find(&self, dir: Node, name: Name<'_>) -> Result<Option<Node>> {
        let found = self.shared.index.name(dir.0, name.bytes()).within(|| &self.shared.name)?;
        Ok(found.and_then(|at| at.block.value(at.row)).map(|(ino, _)| Node(ino)))
    }

    fn attr(&self, node: Node) -> Result<Attr> {
        let at = self.shared.node(node)?;
        let entry = at.block.entry(at.row);
        let extra = at.block.extra(at.row);
        let data: u64 = at.block.extents(at.row).iter().filter(|(address, _)| *address != 0).map(|(_, len)| len).sum();
        let allocated = match (entry.kind, entry.data_id) {
            (Kind::File, 0) => data,
            (Kind::File, _) => extra::allocated(extra)?.unwrap_or(entry.size),
            _ => 0,
        };
        Ok(Attr {
            kind: entry.kind,
            mode: entry.mode,
            uid: entry.uid,
            gid: entry.gid,
            size: entry.size,
            nlink: entry.nlink,
            rdev: if entry.kind.is_device() { extra::rdev(extra)? } else { 0 },
            mtime: entry.mtime,
            atime: extra::time(extra, extra::ATIME, entry.mtime)?,
            ctime: extra::time(extra, extra::CTIME, entry.mtime)?,
            allocated,
        })
    }

    fn list(&self, dir: Node, after: Option<Name<'_>>, visit: &mut Visit<'_>) -> Result<()> {
        let after = after.map_or(&b""[..], |name| name.bytes());
        let key = name_key(dir.0, after);
        // The name `after` itself is passed over; no name is empty.
        let mut rows = self.shared.index.from(&key, |block: &Names, row| block.key_of(row) <= (dir.0, after))?;
        while let Some(at) = rows.next().within(|| &self.shared.name)? {
            let (parent, name) = at.block.key_of(at.row);
            if parent != dir.0 {
                break;
            }
            let Some((ino, kind)) = at.block.value(at.row) else { continue };
            if let ControlFlow::Break(()) = visit(Name::new(name)?, Node(ino), kind) {
                break;
            }
        }
        Ok(())
    }

    fn target(&self, link: Node) -> Result<Vec<u8>> {
        let at = self.shared.node(link)?;
        let target = extra::find(at.block.extra(at.row), extra::SYMLINK)?;
        target.ok_or_else(|| Error::new(ErrorKind::Invalid, format!("inode {} is no symbolic link", link.0)))
    }

    fn open(&self, file: Node) -> Result<Arc<dyn ReadAt>> {
        let at = self.shared.node(file)?;
        let entry = at.block.entry(at.row);
        if entry.kind != Kind::File {
            return Err(Error::new(ErrorKind::Invalid, format!("inode {} is no regular file", file.0)));
        }
        let extents = self.shared.extents(&at).within(|| &self.shared.name)?;
        Ok(Arc::new(StFile { shared: self.shared.clone(), size: entry.size, extents }))
    }

    fn xattrs(&self, node: Node) -> Result<Vec<Xattr>> {
        let at = self.shared.node(node)?;
        extra::xattrs(at.block.extra(at.row))
    }

    fn owner(&self, node: Node) -> Result<Owner> {
        let at = self.shared.node(node)?;
        let entry = at.block.entry(at.row);
        let (user, group) = (format!("user/{}", entry.uid), format!("group/{}", entry.gid));
        Ok(Owner { user: self.owner_name(user)?, group: self.owner_name(group)? })
    }

    fn totals(&self) -> Result<Totals> {
        Ok(self.totals)
    }

    fn is_frozen(&self) -> bool {
        true
    }
}

/// A stretch of a file that is data.
#[derive(Clone, Copy, Debug)]
struct Extent {
    at: u64,
    address: u64,
    len: u64,
}

impl Extent {
    /// Nor is an extent of no length data, which would be a range that ends where it begins.
    fn is_data(&self) -> bool {
        self.address != 0 && self.len != 0
    }
}

/// All data of a file, in order; what they do not cover is a hole.
struct Extents(Vec<Extent>);

impl Cached for Extents {
    fn weight(&self) -> usize {
        self.0.capacity() * size_of::<Extent>()
    }
}

impl Extents {
    fn inline(extents: &[(u64, u64)]) -> Self {
        let mut at = 0;
        let all = extents.iter().map(|(address, len)| {
            let extent = Extent { at, address: *address, len: *len };
            at += len;
            extent
        });
        Self(all.filter(Extent::is_data).collect())
    }

    fn rows(index: &Index, data_id: u64) -> Result<Self> {
        let key = super::rows::key(ExtentRow::FAMILY, &[data_id, 0]);
        let mut rows = index.from(&key, |block: &Rows<ExtentRow>, row| block.get(row).data_id < data_id)?;
        let mut all: Vec<Extent> = Vec::new();
        while let Some(found) = rows.next()? {
            let row = found.block.get(found.row);
            if row.data_id != data_id {
                break;
            }
            if all.last().is_some_and(|last| last.at + last.len > row.at) {
                return Err(damaged(format!("the extents of file data {data_id} overlap")));
            }
            all.push(Extent { at: row.at, address: row.address, len: row.len });
        }
        all.retain(Extent::is_data);
        all.shrink_to_fit();
        Ok(Self(all))
    }

    /// The extents that reach into a range, and what of them lies in it.
    fn within(&self, range: Range<u64>) -> impl Iterator<Item = Extent> + '_ {
        let first = self.0.partition_point(|extent| extent.at + extent.len <= range.start);
        // An extent may go on behind the end of its file: a range from there on is empty, and not one of negative length.
        let end = if range.is_empty() { 0 } else { range.end };
        self.0[first..].iter().take_while(move |extent| extent.at < end).map(move |extent| {
            let start = extent.at.max(range.start);
            let end = (extent.at + extent.len).min(range.end);
            Extent { at: start, address: extent.address + (start - extent.at), len: end - start }
        })
    }
}

/// A file of a container.
struct StFile {
    shared: Arc<Shared>,
    size: u64,
    extents: Arc<Extents>,
}

impl ReadAt for StFile {
    fn len(&self) -> Result<u64> {
        Ok(self.size)
    }

    fn read_at(&self, at: u64, into: &mut [u8]) -> Result<usize> {
        let len = into.len().min(self.size.saturating_sub(at).try_into().unwrap_or(usize::MAX));
        let into = &mut into[..len];
        let mut filled = 0;
        for extent in self.extents.within(at..at + len as u64) {
            let start = (extent.at - at) as usize;
            into[filled..start].fill(0);
            filled = start + extent.len as usize;
            self.shared.tape.read(extent.address, &mut into[start..filled]).within(|| &self.shared.name)?;
        }
        into[filled..].fill(0);
        Ok(len)
    }

    fn will_read(&self, range: Range<u64>) {
        // More than a part of the budget would push out what was prepared before it is read.
        let most = self.shared.cache.budget() / 4;
        let mut rows = Vec::new();
        for extent in self.extents.within(range.start..range.end.min(self.size)) {
            match self.shared.tape.missing(extent.address..extent.address + extent.len, most) {
                Ok(missing) => rows.extend(missing),
                Err(_) => return,
            }
        }
        for row in rows {
            self.shared.tape.prepare(row);
        }
    }

    fn stored(&self, range: Range<u64>) -> Option<Stored> {
        let within = self.extents.within(range.start..range.end.min(self.size));
        let pieces = within.map(|extent| (extent.at, extent.address, extent.len)).collect();
        Some(Stored { owner: self.shared.tape.owner(), pieces })
    }

    fn next_data(&self, at: u64) -> Result<Option<Range<u64>>> {
        let mut found: Option<Range<u64>> = None;
        for extent in self.extents.within(at..self.size) {
            match &mut found {
                None => found = Some(extent.at..extent.at + extent.len),
                Some(range) if range.end == extent.at => range.end += extent.len,
                Some(_) => break,
            }
        }
        Ok(found)
    }
}
