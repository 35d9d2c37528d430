//! From a path to a node.

use super::{Kind, Name, Node, Tree, not_found};
use crate::error::{Error, Kind as ErrorKind, Result};

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
