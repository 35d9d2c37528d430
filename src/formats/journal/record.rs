//! Changes as bytes, and back. Contents are not among them: they lie in front of the record, and it says where.

use crate::error::{Error, Kind as ErrorKind, Result};
use crate::source::ReadAt;
use crate::tree::{Attr, Changes, Draft, Inode, Kind, Name, Node, PartFrom, Time, Touched, Xattr};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// An inode: one of the archive, by its number there, or one that is new.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Id {
    Base(u64),
    New(u64),
}

#[derive(Serialize, Deserialize)]
pub struct Record {
    nodes: Vec<(Id, Option<InodeRecord>)>,
    names: Vec<(Id, Vec<NameRecord>)>,
}

#[derive(Serialize, Deserialize)]
struct NameRecord {
    name: Vec<u8>,
    to: Option<(Id, u8)>,
}

#[derive(Serialize, Deserialize)]
struct InodeRecord {
    kind: u8,
    mode: u32,
    uid: u32,
    gid: u32,
    size: u64,
    nlink: u32,
    rdev: u64,
    times: [(i64, u32); 3],
    allocated: u64,
    is_new: bool,
    draft: Option<DraftRecord>,
    target: Option<Vec<u8>>,
    xattrs: Option<Vec<Xattr>>,
}

#[derive(Serialize, Deserialize)]
struct DraftRecord {
    size: u64,
    kept: u64,
    pieces: Vec<PieceRecord>,
}

/// Bytes of a file, and where they lie among the contents; nowhere for a hole.
#[derive(Serialize, Deserialize)]
struct PieceRecord {
    at: u64,
    len: u64,
    from: Option<u64>,
}

/// A stretch of contents that a record refers to, in the order in which they are to be written.
pub struct Content {
    pub len: u64,
    pub from: Touched,
}

/// The record of changes, and the contents that belong in front of it.
pub fn encode(changes: &Changes, id: impl Fn(Node) -> Id) -> (Vec<u8>, Vec<Content>) {
    let (mut contents, mut at) = (Vec::new(), 0);
    let nodes = changes.nodes.iter().map(|(node, inode)| {
        let inode = inode.as_ref().map(|inode| InodeRecord::of(inode, &mut at, &mut contents));
        (id(*node), inode)
    });
    let nodes = nodes.collect();
    let name = |(name, to): (&crate::tree::NameBuf, &crate::tree::Named)| NameRecord {
        name: name.as_name().bytes().to_vec(),
        to: to.map(|(node, kind)| (id(node), kind.code())),
    };
    let names = changes.names.iter().map(|(dir, names)| (id(*dir), names.iter().map(name).collect())).collect();
    let record = postcard::to_stdvec(&Record { nodes, names }).expect("a record is plain data");
    (record, contents)
}

/// The changes of a record whose contents are in `source`.
pub fn decode(bytes: &[u8], source: &Arc<dyn ReadAt>, node: impl Fn(Id) -> Node) -> Result<Changes> {
    let record: Record = postcard::from_bytes(bytes).map_err(|e| damaged("its record cannot be read").caused_by(e))?;
    let len = source.len()?;
    let mut changes = Changes::default();
    for (id, inode) in record.nodes {
        let inode = inode.map(|inode| inode.into_inode(source, len)).transpose()?;
        changes.nodes.insert(node(id), inode);
    }
    for (dir, names) in record.names {
        let mut to = BTreeMap::new();
        for NameRecord { name, to: leads } in names {
            let name = Name::new(&name).map_err(|e| damaged("a name in it cannot be one").caused_by(e))?.to_owned();
            let leads = leads.map(|(id, kind)| Ok::<_, Error>((node(id), kind_of(kind)?))).transpose()?;
            to.insert(name, leads);
        }
        changes.names.insert(node(dir), to);
    }
    Ok(changes)
}

/// The paths of inodes of the archive, by their numbers in a record: behind it, where numbers do not last.
pub type Paths = Vec<(u64, Vec<u8>)>;

/// Puts paths behind a record.
pub fn add_paths(record: &mut Vec<u8>, paths: &Paths) {
    record.extend(postcard::to_stdvec(paths).expect("paths are plain data"));
}

/// The paths behind a record, if there are any.
pub fn paths_of(bytes: &[u8]) -> Result<Paths> {
    let unreadable = |e| damaged("its record cannot be read").caused_by(e);
    let (_, rest) = postcard::take_from_bytes::<Record>(bytes).map_err(unreadable)?;
    if rest.is_empty() { Ok(Vec::new()) } else { postcard::from_bytes(rest).map_err(unreadable) }
}

/// The inodes that a record names.
pub fn named(changes: &Changes) -> impl Iterator<Item = Node> {
    let leads = changes.names.values().flat_map(|names| names.values().flatten().map(|(node, _)| *node));
    changes.nodes.keys().chain(changes.names.keys()).copied().chain(leads)
}

fn damaged(what: &str) -> Error {
    Error::new(ErrorKind::Damaged, what)
}

fn kind_of(code: u8) -> Result<Kind> {
    Kind::from_code(code.into()).ok_or_else(|| damaged("a kind of entry in it is unknown"))
}

impl InodeRecord {
    fn of(inode: &Inode, at: &mut u64, contents: &mut Vec<Content>) -> Self {
        let Attr { kind, mode, uid, gid, size, nlink, rdev, mtime, atime, ctime, allocated } = inode.attr.clone();
        let times = [mtime, atime, ctime].map(|time| (time.secs, time.nanos));
        let draft = inode.draft.as_ref().map(|draft| DraftRecord::of(draft, at, contents));
        let (target, xattrs, is_new) = (inode.target.clone(), inode.xattrs.clone(), inode.is_new);
        let kind = kind.code();
        Self { kind, mode, uid, gid, size, nlink, rdev, times, allocated, is_new, draft, target, xattrs }
    }

    fn into_inode(self, source: &Arc<dyn ReadAt>, len: u64) -> Result<Inode> {
        let [mtime, atime, ctime] = self.times.map(|(secs, nanos)| Time { secs, nanos });
        let (mode, uid, gid, size, nlink, rdev) =
            (self.mode & 0o7777, self.uid, self.gid, self.size, self.nlink, self.rdev);
        let (kind, allocated) = (kind_of(self.kind)?, self.allocated);
        let attr = Attr { kind, mode, uid, gid, size, nlink, rdev, mtime, atime, ctime, allocated };
        let draft = self.draft.map(|draft| draft.into_draft(source, len)).transpose()?.map(Arc::new);
        let (target, xattrs, is_new) = (self.target, self.xattrs, self.is_new);
        Ok(Inode { attr, draft, under: None, target, xattrs, is_new })
    }
}

impl DraftRecord {
    fn of(draft: &Draft, next: &mut u64, contents: &mut Vec<Content>) -> Self {
        let mut pieces = Vec::new();
        for part in draft.touched() {
            let from = match part.from {
                PartFrom::Touched(Touched::Hole) | PartFrom::Below | PartFrom::Nothing => None,
                PartFrom::Touched(from) => {
                    contents.push(Content { len: part.len, from });
                    *next += part.len;
                    Some(*next - part.len)
                }
            };
            pieces.push(PieceRecord { at: part.at, len: part.len, from });
        }
        Self { size: draft.size(), kept: draft.kept(), pieces }
    }

    fn into_draft(self, source: &Arc<dyn ReadAt>, len: u64) -> Result<Draft> {
        if self.kept > self.size {
            return Err(damaged("a file in it is shorter than what is kept of it"));
        }
        let mut draft = Draft::over(self.kept);
        draft.set_size(self.size);
        for PieceRecord { at, len: piece, from } in self.pieces {
            let fits = |at: u64, end: u64| at.checked_add(piece).is_some_and(|to| to <= end);
            if !fits(at, self.size) || from.is_some_and(|from| !fits(from, len)) {
                return Err(damaged("contents in it are not where they should be"));
            }
            match from {
                Some(from) => draft.copy(at, piece, source.clone(), from),
                None => draft.punch(at..at + piece),
            }
        }
        Ok(draft)
    }
}
