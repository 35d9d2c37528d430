//! What of the changes is none any more: it became again what the base has.

use super::base::Base;
use crate::error::Result;
use crate::source::ReadAt;
use crate::tree::{Attr, Changes, Inode, Kind, Node, Tree};

/// Bytes that are compared at a time.
const PIECE: usize = 1 << 20;

/// Whether both have the same bytes.
pub fn is_same(a: &dyn ReadAt, b: &dyn ReadAt, size: u64) -> Result<bool> {
    if a.len()? != size || b.len()? != size {
        return Ok(false);
    }
    let (mut ours, mut theirs, mut at) = (vec![0; PIECE], vec![0; PIECE], 0);
    while at < size {
        let len = PIECE.min((size - at) as usize);
        a.read_exact_at(at, &mut ours[..len])?;
        b.read_exact_at(at, &mut theirs[..len])?;
        if ours[..len] != theirs[..len] {
            return Ok(false);
        }
        at += len as u64;
    }
    Ok(true)
}

/// Drops what is as in the base. `has_contents` tells which files have contents of their own. Returns those inodes of the base
/// of which only the number of links differs, or of a directory its time.
pub fn drop_equal(changes: &mut Changes, base: &Base, has_contents: impl Fn(Node) -> bool) -> Result<Vec<Node>> {
    drop_names(changes, base)?;
    let (mut quiet, mut dropped) = (Vec::new(), Vec::new());
    for (node, inode) in changes.nodes.iter_mut().filter(|(node, _)| Base::has(**node)) {
        let Some(inode) = inode else { continue };
        if let Some(xattrs) = &inode.xattrs
            && *xattrs == base.xattrs(*node)?
        {
            inode.xattrs = None;
        }
        if has_contents(*node) {
            continue;
        }
        let before = base.attr(*node)?;
        if is_quiet(inode, &before) {
            quiet.push(*node);
            let of = |a: &Attr| (a.nlink, a.mtime, a.atime);
            if of(&inode.attr) == of(&before) {
                dropped.push(*node);
            }
        }
    }
    dropped.iter().for_each(|node| drop(changes.nodes.remove(node)));
    quiet.retain(|node| changes.nodes.contains_key(node));
    Ok(quiet)
}

fn is_quiet(inode: &Inode, before: &Attr) -> bool {
    let of = |a: &Attr| (a.mode, a.uid, a.gid, a.size, a.rdev);
    // The time of a directory changes with its names.
    let is_timed = inode.attr.kind != Kind::Directory && inode.attr.mtime != before.mtime;
    of(&inode.attr) == of(before) && inode.xattrs.is_none() && !is_timed
}

fn drop_names(changes: &mut Changes, base: &Base) -> Result<()> {
    let mut failed = Ok(());
    for (dir, names) in changes.names.iter_mut().filter(|(dir, _)| Base::has(**dir)) {
        names.retain(|name, to| match base.find(*dir, name.as_name()) {
            Ok(found) => found != to.map(|(node, _)| node),
            Err(e) => {
                failed = Err(e);
                true
            }
        });
    }
    for (_, names) in changes.names.iter_mut().filter(|(dir, _)| !Base::has(**dir)) {
        names.retain(|_, to| to.is_some());
    }
    changes.names.retain(|_, names| !names.is_empty());
    failed
}
