//! Whether changes that somebody else may have written make a tree: every name leads somewhere, no directory is in itself.

use super::base::Base;
use crate::error::{Error, Kind as ErrorKind, Result};
use crate::tree::{Changes, Kind, Node, Tree};
use std::collections::{HashMap, HashSet};

/// Directories in each other.
const DEPTH_MAX: usize = 4096;

fn wrong(what: &str) -> Error {
    Error::new(ErrorKind::Damaged, format!("the changes in the overlay make no tree: {what}"))
}

/// Looks whether changes fit a base.
pub fn check(changes: &Changes, base: &Base) -> Result<()> {
    let mut above: HashMap<Node, Node> = HashMap::new();
    for (node, inode) in &changes.nodes {
        match inode {
            Some(inode) if Base::has(*node) && base.attr(*node)?.kind != inode.attr.kind => {
                return Err(wrong("a file has become another kind of file"));
            }
            Some(inode) if !Base::has(*node) && inode.attr.kind == Kind::Symlink && inode.target.is_none() => {
                return Err(wrong("a link leads nowhere"));
            }
            None if *node == base.root() || !Base::has(*node) => return Err(wrong("what is gone was never there")),
            _ => {}
        }
    }
    for (dir, names) in &changes.names {
        if kind(changes, base, *dir)? != Kind::Directory {
            return Err(wrong("there are names in something that is no directory"));
        }
        for (node, said) in names.values().flatten() {
            if kind(changes, base, *node)? != *said || *node == base.root() {
                return Err(wrong("a name leads to something else than it says"));
            }
            if *said == Kind::Directory && above.insert(*node, *dir).is_some() {
                return Err(wrong("a directory has two names"));
            }
        }
    }
    let mut fine = HashSet::from([base.root()]);
    above.keys().try_for_each(|dir| climb(*dir, changes, base, &above, &mut fine))
}

fn kind(changes: &Changes, base: &Base, node: Node) -> Result<Kind> {
    match changes.nodes.get(&node) {
        Some(Some(inode)) => Ok(inode.attr.kind),
        None if Base::has(node) => Ok(base.attr(node)?.kind),
        _ => Err(wrong("a name leads to what is not there")),
    }
}

/// Goes up from a directory to the root.
fn climb(
    dir: Node,
    changes: &Changes,
    base: &Base,
    above: &HashMap<Node, Node>,
    fine: &mut HashSet<Node>,
) -> Result<()> {
    let (mut at, mut way) = (dir, Vec::new());
    while !fine.contains(&at) {
        if way.len() > DEPTH_MAX {
            return Err(wrong("directories are in each other"));
        }
        way.push(at);
        let below = if Base::has(at) { base.link(at)? } else { None };
        at = match (above.get(&at), below) {
            (Some(_), Some((dir, name)))
                if changes.name(dir, name.as_name().bytes()).is_none() && !is_gone(changes, dir) =>
            {
                return Err(wrong("a directory has two names"));
            }
            (Some(dir), _) => *dir,
            (None, Some((dir, _))) => dir,
            (None, None) => return Err(wrong("a directory has no name")),
        };
    }
    fine.extend(way);
    Ok(())
}

fn is_gone(changes: &Changes, node: Node) -> bool {
    matches!(changes.nodes.get(&node), Some(None))
}
