//! From a path to a node, and through a whole tree.

use super::{Kind, Name, NameBuf, Node, Tree, not_found};
use crate::error::{Error, Kind as ErrorKind, Result};
use std::collections::BTreeMap;
use std::ops::ControlFlow;

/// Follows a slash-separated path from the root. Symbolic links are not followed: what they mean depends on where the
/// tree is mounted. Empty components and `.` are skipped, `..` is refused.
pub fn find_path(tree: &dyn Tree, path: &[u8]) -> Result<Node> {
    let mut node = tree.root();
    for part in path.split(|b| *b == b'/').filter(|p| !p.is_empty() && *p != b".") {
        if tree.attr(node)?.kind != Kind::Directory {
            return Err(Error::new(
                ErrorKind::NotADirectory,
                format!("{}: not a directory on the way", path_display(path)),
            ));
        }
        node = tree.find(node, Name::new(part)?)?.ok_or_else(|| not_found(path_display(path)))?;
    }
    Ok(node)
}

/// A path for people: bytes that are not UTF-8 are shown as the replacement character.
pub fn path_display(path: &[u8]) -> String {
    if path.is_empty() { "/".to_owned() } else { String::from_utf8_lossy(path).into_owned() }
}

/// The first path at which two trees have not the same: names, kinds, sizes of files, targets of links. Their contents are
/// not looked at.
pub fn first_difference(one: &dyn Tree, other: &dyn Tree) -> Result<Option<Vec<u8>>> {
    let mut todo = vec![(Vec::new(), one.root(), other.root())];
    while let Some((path, here, there)) = todo.pop() {
        let names = names_of(one, here)?;
        let below = |name: &NameBuf| match path.is_empty() {
            true => name.as_name().bytes().to_vec(),
            false => [&path, &b"/"[..], name.as_name().bytes()].concat(),
        };
        let mut same = names_of(other, there)?;
        for (name, node) in names {
            let Some(other_node) = same.remove(&name) else { return Ok(Some(below(&name))) };
            let (a, b) = (one.attr(node)?, other.attr(other_node)?);
            let is_same = a.kind == b.kind
                && match a.kind {
                    Kind::Directory => true,
                    Kind::Symlink => one.target(node)? == other.target(other_node)?,
                    _ => a.size == b.size,
                };
            if !is_same {
                return Ok(Some(below(&name)));
            }
            if a.kind == Kind::Directory {
                todo.push((below(&name), node, other_node));
            }
        }
        if let Some(name) = same.keys().next() {
            return Ok(Some(below(name)));
        }
    }
    Ok(None)
}

fn names_of(tree: &dyn Tree, dir: Node) -> Result<BTreeMap<NameBuf, Node>> {
    let mut names = BTreeMap::new();
    tree.list(dir, None, &mut |name, node, _| {
        names.insert(name.to_owned(), node);
        ControlFlow::Continue(())
    })?;
    Ok(names)
}
