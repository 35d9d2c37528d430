//! Changed names and inodes as rows.

use super::super::index::Index;
use super::super::layout::TotalsItem;
use super::super::pack::Sink;
use super::super::rows::{Block, ExtentRow, MetaRow, Metas, NameRow, NodeRow, Nodes, Plain, key, meta_key, name_key};
use super::super::table::NewTable;
use super::super::tree::Container;
use super::super::{extra, limits};
use super::contents::{Contents, Piece};
use crate::error::{Error, Kind as ErrorKind, Result};
use crate::tree::{Changes, Inode, Kind, Node, Time, Tree, device};

/// Rows of a commit.
pub struct Rows<'a> {
    before: &'a Container,
    table: NewTable,
    totals: TotalsItem,
}

/// The name under which an inode stands that has no name, but was open at a commit.
pub fn orphan(ino: u64) -> Vec<u8> {
    format!("orphan/{ino}").into_bytes()
}

/// Inodes that had no name at the last commit.
pub fn orphans(index: &Index) -> Result<Vec<Node>> {
    const FRONT: &[u8] = b"orphan/";
    let mut rows = index.from(&meta_key(FRONT), |block: &Metas, row| block.get(row).name.as_slice() < FRONT)?;
    let mut found = Vec::new();
    while let Some(at) = rows.next()? {
        let Some(ino) = at.block.get(at.row).name.strip_prefix(FRONT) else { break };
        found.extend(std::str::from_utf8(ino).ok().and_then(|ino| ino.parse().ok()).map(Node));
    }
    Ok(found)
}

impl<'a> Rows<'a> {
    pub fn new(before: &'a Container, totals: TotalsItem) -> Self {
        Self { before, table: NewTable::default(), totals }
    }

    pub fn finish(self) -> (NewTable, TotalsItem) {
        (self.table, self.totals)
    }

    pub fn collect(&mut self, changes: &Changes, contents: &mut Contents, send: &Sink<'_>) -> Result<()> {
        for (dir, names) in &changes.names {
            for (name, to) in names {
                let name = name.as_name().bytes();
                match to {
                    Some((node, kind)) => {
                        let (parent, ino) = (dir.0, node.0);
                        self.table.names.push(NameRow { parent, name: name.into(), ino, kind: *kind });
                    }
                    None => self.table.gone.push(name_key(dir.0, name)),
                }
            }
        }
        for (node, inode) in &changes.nodes {
            let old = self.before.row(node.0)?;
            self.count(old.as_ref(), inode.as_ref());
            match (inode, old) {
                (Some(inode), old) => self.inode(*node, inode, old, contents, send)?,
                (None, Some(old)) => self.gone(&old)?,
                (None, None) => {}
            }
        }
        Ok(())
    }

    fn count(&mut self, old: Option<&NodeRow>, new: Option<&Inode>) {
        let is_file = |row: &&NodeRow| Kind::from_mode(row.mode) == Some(Kind::File);
        let before = (u64::from(old.is_some()), old.filter(is_file).map_or(0, |row| row.size));
        let file = new.filter(|inode| inode.attr.kind == Kind::File);
        let after = (u64::from(new.is_some()), file.map_or(0, |inode| inode.attr.size));
        self.totals.nodes = (self.totals.nodes.get() + after.0).saturating_sub(before.0).into();
        self.totals.bytes = (self.totals.bytes.get().saturating_add(after.1)).saturating_sub(before.1).into();
    }

    fn gone(&mut self, old: &NodeRow) -> Result<()> {
        self.table.gone.push(key(Nodes::FAMILY, &[old.ino]));
        if old.nlink == 0 {
            self.table.gone.push(meta_key(&orphan(old.ino)));
        }
        // Rows of another number may be those of another inode too, in a container that somebody else has made.
        if old.data_id == old.ino {
            let pieces = self.before.pieces(old.ino)?;
            self.table.gone.extend(pieces.iter().map(|(at, ..)| key(ExtentRow::FAMILY, &[old.ino, *at])));
        }
        Ok(())
    }

    fn inode(
        &mut self,
        node: Node,
        inode: &Inode,
        old: Option<NodeRow>,
        contents: &mut Contents,
        send: &Sink<'_>,
    ) -> Result<()> {
        let attr = &inode.attr;
        let mut row = NodeRow {
            ino: node.0,
            mode: attr.kind.mode_bits() | attr.mode,
            uid: attr.uid,
            gid: attr.gid,
            mtime: attr.mtime,
            nlink: attr.nlink,
            size: if attr.kind == Kind::Directory { 0 } else { attr.size },
            data_id: old.as_ref().map_or(0, |old| old.data_id),
            extents: old.as_ref().map_or_else(Vec::new, |old| old.extents.clone()),
            extra: Vec::new(),
        };
        let mut allocated = old.as_ref().map(|old| extra::allocated(&old.extra)).transpose()?.flatten();
        if let Some(draft) = &inode.draft {
            let below = old.is_some().then(|| self.before.open(node)).transpose()?;
            let was = if old.is_some() { self.before.pieces(node.0)? } else { Vec::new() };
            let was: Vec<Piece> = was.into_iter().map(|(at, address, len)| Piece { at, address, len }).collect();
            let pieces = contents.file(draft, below.as_ref(), was.clone(), self.before.tape().owner(), send)?;
            allocated = self.settle(&mut row, &was, &pieces);
        }
        let old_extra = old.as_ref().map_or(&[][..], |old| &old.extra);
        row.extra = extra_of(inode, old_extra, allocated)?;
        let (was_orphan, is_orphan) = (old.as_ref().is_some_and(|old| old.nlink == 0), row.nlink == 0);
        if is_orphan {
            self.table.metas.push(MetaRow { name: orphan(node.0), value: Vec::new() });
        } else if was_orphan {
            self.table.gone.push(meta_key(&orphan(node.0)));
        }
        self.table.nodes.push(row);
        Ok(())
    }

    /// Writes into the row where the contents are: inline when they are few pieces, else as rows of their own, of which
    /// only those are written that differ. Returns how many bytes are data, when that must be said.
    fn settle(&mut self, row: &mut NodeRow, was: &[Piece], pieces: &[Piece]) -> Option<u64> {
        let had_rows = row.data_id == row.ino;
        let mut inline = Vec::new();
        let mut at = 0;
        for piece in pieces {
            if piece.at > at {
                inline.push((0, piece.at - at));
            }
            inline.push((piece.address, piece.len));
            at = piece.end();
        }
        let few = inline.len() as u64 <= limits::EXTENTS_INLINE;
        row.extents = if few { inline } else { Vec::new() };
        row.data_id = if few { 0 } else { row.ino };
        let now = if few { &[][..] } else { pieces };
        let was = if had_rows { was } else { &[] };
        let (mut old, mut new) = (was.iter().peekable(), now.iter().peekable());
        let data_id = row.ino;
        loop {
            match (old.peek(), new.peek()) {
                (None, None) => break,
                (Some(a), Some(b)) if a == b => {
                    old.next();
                    new.next();
                }
                (Some(a), b) if b.is_none_or(|b| a.at < b.at) => {
                    self.table.gone.push(key(ExtentRow::FAMILY, &[data_id, a.at]));
                    old.next();
                }
                (a, Some(b)) => {
                    if a.is_some_and(|a| a.at == b.at) {
                        old.next();
                    }
                    let row = ExtentRow { data_id, at: b.at, address: b.address, len: b.len };
                    self.table.extents.push(row);
                    new.next();
                }
                (Some(_), None) => unreachable!("the arm before takes it"),
            }
        }
        let data: u64 = pieces.iter().map(|piece| piece.len).sum();
        (!few && data < row.size).then_some(data)
    }
}

/// The fields that few inodes have: those that changed, those that stay, and those that a newer program has written.
fn extra_of(inode: &Inode, old: &[u8], allocated: Option<u64>) -> Result<Vec<u8>> {
    let attr = &inode.attr;
    let mut out = Vec::new();
    if let Some(target) = &inode.target {
        extra::add(&mut out, extra::SYMLINK, target);
    }
    if inode.is_new && attr.kind.is_device() {
        extra::add_numbers(
            &mut out,
            extra::DEVICE,
            &[device::major(attr.rdev).into(), device::minor(attr.rdev).into()],
        );
    }
    if let Some(xattrs) = &inode.xattrs {
        let mut sorted: Vec<_> = xattrs.iter().collect();
        sorted.sort_unstable();
        sorted.into_iter().for_each(|xattr| extra::add_xattr(&mut out, xattr));
    }
    let mtime: Time = attr.mtime;
    extra::add_time(&mut out, extra::CTIME, attr.ctime, mtime);
    extra::add_time(&mut out, extra::ATIME, attr.atime, mtime);
    if let Some(allocated) = allocated {
        extra::add_numbers(&mut out, extra::ALLOCATED, &[allocated]);
    }
    extra::each(old, |tag, value| {
        let replaced = match tag {
            extra::SYMLINK => inode.target.is_some(),
            extra::DEVICE => false,
            extra::XATTR => inode.xattrs.is_some(),
            extra::CTIME | extra::ATIME | extra::ALLOCATED => true,
            _ => false,
        };
        if !replaced {
            extra::add(&mut out, tag, value);
        }
        Ok(())
    })?;
    if out.len() > limits::EXTRA {
        return Err(Error::new(ErrorKind::NoSpace, "the extended attributes of a file are larger than 16 MiB"));
    }
    Ok(out)
}
