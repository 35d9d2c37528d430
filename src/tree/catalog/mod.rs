//! The tree of an archive that is a list of paths: zip, tar, 7z, rar and their like.
//!
//! ```text
//!   names    (parent, name) -> node      sorted when the list is complete, so that looking up is a binary search
//!   rows     node -> mode, owner, size, time, number of its contents
//!   extras   of the few nodes that have more: link targets, further times, attributes, the path as the archive has it
//! ```
//!
//! About 70 bytes and its name for an entry. A [`Builder`] takes the paths as they are, whatever they are, and the
//! catalog shows them so that no name leaves its directory and none hides another: see [`Builder::add`]. Contents belong
//! to the format, which is asked for them by the number that it gave.

mod build;
mod names;
#[cfg(test)]
mod tests;

pub use build::{Builder, Duplicates, Item};

use super::{Attr, Kind, Name, Node, Owner, Time, Totals, Tree, Visit, Xattr};
use crate::error::{Error, Kind as ErrorKind, Result};
use crate::source::ReadAt;
use serde::{Deserialize, Serialize};
use std::ops::Range;
use std::sync::Arc;

/// What is inside the entries of an archive. The numbers are those of [`Item::content`].
pub trait Contents: Send + Sync {
    fn open(&self, content: u64) -> Result<Arc<dyn ReadAt>>;

    /// The target of a link that stands in the contents, where the list of entries does not have it.
    fn target(&self, _content: u64) -> Result<Vec<u8>> {
        Err(Error::new(ErrorKind::Damaged, "the link has no target"))
    }

    /// Where the contents lie: who reads many reads them in this order.
    fn place(&self, content: u64) -> u64 {
        content
    }
}

/// The attribute that holds the path of an entry as the archive has it, where it is shown under another one.
pub const PATH_ATTRIBUTE: &[u8] = b"user.stmount.path";

/// The content number of an entry whose contents are missing in the archive.
pub const MISSING: u64 = u64::MAX;

/// Tables of a complete list.
#[derive(Clone, Default, Serialize, Deserialize)]
pub struct Tables {
    rows: Vec<Row>,
    classes: Vec<Class>,
    extras: Vec<Extra>,
    /// Sorted by parent and name.
    names: Vec<Named>,
    text: Vec<u8>,
}

/// A node. Of a directory, `content` and `size` are the place and the number of its names.
#[derive(Clone, Copy, Serialize, Deserialize)]
struct Row {
    class: u32,
    nlink: u32,
    size: u64,
    content: u64,
    secs: i64,
    nanos: u32,
    /// One more than the place in `extras`, or 0.
    extra: u32,
}

/// What many nodes have in common.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct Class {
    kind: u8,
    mode: u32,
    uid: u32,
    gid: u32,
    user: Option<String>,
    group: Option<String>,
}

#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Extra {
    atime: Option<(i64, u32)>,
    ctime: Option<(i64, u32)>,
    rdev: u64,
    /// Where it is less than the size: the rest is holes.
    allocated: Option<u64>,
    xattrs: Vec<Xattr>,
    target: Option<Vec<u8>>,
    /// The path as the archive has it.
    path: Option<Vec<u8>>,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
struct Named {
    parent: u32,
    node: u32,
    at: u32,
    len: u16,
}

/// A complete list with its contents.
pub struct Catalog {
    tables: Tables,
    contents: Arc<dyn Contents>,
    /// Bytes of the archive.
    stored: u64,
}

const ROOT: Node = Node(1);

fn node_of(row: u32) -> Node {
    Node(u64::from(row) + 1)
}

impl Tables {
    fn name(&self, named: &Named) -> &[u8] {
        &self.text[named.at as usize..][..usize::from(named.len)]
    }

    /// Whether tables from a file are what a builder could have made: nothing in them leads outside of them.
    pub fn are_sound(&self) -> bool {
        let rows = self.rows.len();
        let sound_row = |row: &Row| {
            let Some(class) = self.classes.get(row.class as usize) else { return false };
            let Some(kind) = Kind::from_code(class.kind.into()) else { return false };
            let names = row.content.checked_add(row.size);
            (row.extra as usize) <= self.extras.len()
                && (kind != Kind::Directory || names.is_some_and(|end| end <= self.names.len() as u64))
        };
        let sound_name = |named: &Named| {
            let end = named.at as usize + usize::from(named.len);
            let name = self.text.get(named.at as usize..end);
            (named.node as usize) < rows && named.node > 0 && name.is_some_and(|name| Name::new(name).is_ok())
        };
        let is_dir = |row: &Row| self.classes.get(row.class as usize).is_some_and(|c| c.kind == Kind::Directory.code());
        self.rows.first().is_some_and(is_dir)
            && self.rows.iter().all(sound_row)
            && self.names.iter().all(sound_name)
            && self.names.windows(2).all(|pair| self.order(&pair[0]) < self.order(&pair[1]))
    }

    fn order(&self, named: &Named) -> (u32, &[u8]) {
        (named.parent, self.name(named))
    }

    fn row(&self, node: Node) -> Result<&Row> {
        let at = node.0.checked_sub(1).and_then(|at| usize::try_from(at).ok());
        at.and_then(|at| self.rows.get(at)).ok_or_else(|| Error::new(ErrorKind::NotFound, "no such inode"))
    }

    fn class(&self, row: &Row) -> &Class {
        &self.classes[row.class as usize]
    }

    fn kind(&self, row: &Row) -> Kind {
        Kind::from_code(self.class(row).kind.into()).unwrap_or(Kind::File)
    }

    fn extra(&self, row: &Row) -> Option<&Extra> {
        self.extras.get((row.extra as usize).checked_sub(1)?)
    }

    fn names_of(&self, dir: Node) -> Result<Range<usize>> {
        let row = self.row(dir)?;
        match self.kind(row) {
            Kind::Directory => Ok(row.content as usize..(row.content + row.size) as usize),
            _ => Err(Error::new(ErrorKind::NotADirectory, "not a directory")),
        }
    }

    /// How many entries there are, the root and directories without an entry of their own among them.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    pub fn is_empty(&self) -> bool {
        self.rows.len() <= 1
    }
}

impl Catalog {
    /// `stored` is the length of the archive.
    pub fn new(tables: Tables, contents: Arc<dyn Contents>, stored: u64) -> Self {
        Self { tables, contents, stored }
    }

    pub fn tables(&self) -> &Tables {
        &self.tables
    }

    /// The number of the contents of a file, as the format gave it.
    pub fn content(&self, file: Node) -> Result<u64> {
        let row = self.tables.row(file)?;
        match self.tables.kind(row) {
            Kind::File | Kind::Symlink => Ok(row.content),
            Kind::Directory => Err(Error::new(ErrorKind::IsADirectory, "a directory has no contents")),
            _ => Err(Error::new(ErrorKind::Invalid, "it has no contents")),
        }
    }
}

fn time((secs, nanos): (i64, u32)) -> Time {
    Time { secs, nanos }
}

impl Tree for Catalog {
    fn root(&self) -> Node {
        ROOT
    }

    fn find(&self, dir: Node, name: Name<'_>) -> Result<Option<Node>> {
        let names = &self.tables.names[self.tables.names_of(dir)?];
        let found = names.binary_search_by(|named| self.tables.name(named).cmp(name.bytes()));
        Ok(found.ok().map(|at| node_of(names[at].node)))
    }

    fn attr(&self, node: Node) -> Result<Attr> {
        let row = self.tables.row(node)?;
        let (class, extra) = (self.tables.class(row), self.tables.extra(row));
        let mtime = time((row.secs, row.nanos));
        let mut attr = Attr::new(self.tables.kind(row), class.mode, mtime);
        (attr.uid, attr.gid, attr.nlink) = (class.uid, class.gid, row.nlink);
        attr.size = match attr.kind {
            Kind::File | Kind::Symlink => row.size,
            _ => 0,
        };
        attr.allocated = if attr.kind == Kind::File { attr.size } else { 0 };
        if let Some(extra) = extra {
            attr.atime = extra.atime.map_or(mtime, time);
            attr.ctime = extra.ctime.map_or(mtime, time);
            attr.rdev = extra.rdev;
            attr.allocated = extra.allocated.unwrap_or(attr.allocated);
        }
        Ok(attr)
    }

    fn list(&self, dir: Node, after: Option<Name<'_>>, visit: &mut Visit<'_>) -> Result<()> {
        let names = &self.tables.names[self.tables.names_of(dir)?];
        let first = after.map_or(0, |after| names.partition_point(|n| self.tables.name(n) <= after.bytes()));
        for named in &names[first..] {
            let kind = self.tables.kind(&self.tables.rows[named.node as usize]);
            if visit(Name::new(self.tables.name(named))?, node_of(named.node), kind).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn target(&self, link: Node) -> Result<Vec<u8>> {
        let row = self.tables.row(link)?;
        if self.tables.kind(row) != Kind::Symlink {
            return Err(Error::new(ErrorKind::Invalid, "not a symbolic link"));
        }
        match self.tables.extra(row).and_then(|extra| extra.target.clone()) {
            Some(target) => Ok(target),
            None => self.contents.target(row.content),
        }
    }

    fn open(&self, file: Node) -> Result<Arc<dyn ReadAt>> {
        match self.content(file)? {
            MISSING => Err(Error::new(ErrorKind::Damaged, "what it is a link to is not in the archive")),
            content => self.contents.open(content),
        }
    }

    fn xattrs(&self, node: Node) -> Result<Vec<Xattr>> {
        let Some(extra) = self.tables.extra(self.tables.row(node)?) else { return Ok(Vec::new()) };
        let mut all = extra.xattrs.clone();
        all.extend(extra.path.clone().map(|path| (PATH_ATTRIBUTE.to_vec(), path)));
        Ok(all)
    }

    fn owner(&self, node: Node) -> Result<Owner> {
        let class = self.tables.class(self.tables.row(node)?);
        Ok(Owner { user: class.user.clone(), group: class.group.clone() })
    }

    fn totals(&self) -> Result<Totals> {
        let named = self.tables.rows.iter().filter(|row| row.nlink > 0);
        let mut totals = Totals { stored: self.stored, ..Totals::default() };
        for row in named {
            totals.nodes += 1;
            if self.tables.kind(row) == Kind::File {
                totals.bytes = totals.bytes.saturating_add(row.size);
            }
        }
        Ok(totals)
    }

    fn is_frozen(&self) -> bool {
        true
    }

    fn place(&self, file: Node) -> u64 {
        self.content(file).map_or(u64::MAX, |content| self.contents.place(content))
    }
}
