//! What two trees have differently, of which one is the other with changes: inodes of both have the same numbers.

use super::{Attr, Inode, Kind, Merged, Name, Node, Tree};
use crate::error::Result;
use std::collections::{BTreeMap, HashMap};
use std::ops::ControlFlow;

/// What has become of a path.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Difference {
    Added,
    Deleted,
    /// What is in it.
    Modified,
    /// Its mode, its owner, its times or its extended attributes.
    Attributes,
    /// It had this path before.
    Renamed(Vec<u8>),
}

/// All paths of a tree that are not as in its base. The times of directories do not count: they change with whatever is in
/// them.
pub fn differences(merged: &Merged) -> Result<BTreeMap<Vec<u8>, Difference>> {
    let (before, after) = (paths(&**merged.base())?, paths(merged)?);
    let mut was: HashMap<Node, Vec<&Vec<u8>>> = HashMap::new();
    before.iter().for_each(|(path, node)| was.entry(*node).or_default().push(path));
    let changes = merged.changes();
    let mut found = BTreeMap::new();
    for (path, node) in &after {
        let difference = match (before.get(path) == Some(node), was.get(node)) {
            (true, _) => match changes.nodes.get(node) {
                Some(Some(inode)) => changed(inode, &merged.base().attr(*node)?),
                _ => None,
            },
            (false, Some(old)) => match old.iter().find(|old| after.get(**old) != Some(node)) {
                Some(old) => Some(Difference::Renamed((*old).clone())),
                None => Some(Difference::Added),
            },
            (false, None) if before.contains_key(path) => Some(Difference::Modified),
            (false, None) => Some(Difference::Added),
        };
        found.extend(difference.map(|difference| (path.clone(), difference)));
    }
    let renamed: Vec<Vec<u8>> = found
        .values()
        .filter_map(|difference| if let Difference::Renamed(from) = difference { Some(from.clone()) } else { None })
        .collect();
    for path in before.keys().filter(|path| !after.contains_key(*path) && !renamed.contains(path)) {
        found.insert(path.clone(), Difference::Deleted);
    }
    Ok(found)
}

fn changed(inode: &Inode, before: &Attr) -> Option<Difference> {
    if inode.draft.is_some() || inode.target.is_some() {
        return Some(Difference::Modified);
    }
    (!inode.is_still(before, before.kind != Kind::Directory)).then_some(Difference::Attributes)
}

fn paths(tree: &dyn Tree) -> Result<BTreeMap<Vec<u8>, Node>> {
    let (mut paths, mut todo) = (BTreeMap::new(), vec![(Vec::new(), tree.root())]);
    while let Some((path, dir)) = todo.pop() {
        tree.list(dir, None, &mut |name: Name<'_>, node, kind| {
            let below = if path.is_empty() { name.bytes().to_vec() } else { [&path, &b"/"[..], name.bytes()].concat() };
            if kind == Kind::Directory {
                todo.push((below.clone(), node));
            }
            paths.insert(below, node);
            ControlFlow::Continue(())
        })?;
    }
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::{Changes, Draft, Time};
    use std::sync::Arc;

    #[test]
    fn each_path_is_told_as_what_happened_to_it() {
        let mut builder = crate::tree::Builder::new(crate::tree::Duplicates::Numbered, 100, Time::default());
        for path in ["a", "b", "d/c", "d/e", "f"] {
            builder
                .add(path.as_bytes(), crate::tree::Item::new(Attr::new(Kind::File, 0o644, Time::default()), 0))
                .unwrap();
        }
        struct Nothing;
        impl crate::tree::Contents for Nothing {
            fn open(&self, _: u64) -> Result<Arc<dyn crate::source::ReadAt>> {
                Ok(Arc::new(crate::source::Memory::new(Vec::new())))
            }
        }
        let base: Arc<dyn Tree> = Arc::new(crate::tree::Catalog::new(builder.finish().0, Arc::new(Nothing), 0));
        let at = |path: &str| crate::tree::find_path(&*base, path.as_bytes()).unwrap();
        let name = |name: &str| Name::new(name.as_bytes()).unwrap().to_owned();
        let mut changes = Changes::default();
        let new = Node(1000);
        let attr = |node| base.attr(node).unwrap();
        changes.nodes.insert(new, Some(Inode::new(Attr::new(Kind::File, 0o600, Time::default()), true)));
        changes.set_name(base.root(), name("new"), Some((new, Kind::File)));
        changes.set_name(base.root(), name("a"), None);
        changes.nodes.insert(at("a"), None);
        changes.set_name(at("d"), name("c"), None);
        changes.set_name(base.root(), name("moved"), Some((at("d/c"), Kind::File)));
        let drafted = Inode { draft: Some(Arc::new(Draft::over(0))), ..Inode::new(attr(at("b")), false) };
        changes.nodes.insert(at("b"), Some(drafted));
        changes.nodes.insert(at("f"), Some(Inode::new(Attr { mode: 0o600, ..attr(at("f")) }, false)));
        let told = differences(&Merged::new(base.clone(), changes)).unwrap();
        let told: Vec<_> = told.into_iter().map(|(path, what)| (String::from_utf8(path).unwrap(), what)).collect();
        let want = [
            ("a", Difference::Deleted),
            ("b", Difference::Modified),
            ("f", Difference::Attributes),
            ("moved", Difference::Renamed(b"d/c".to_vec())),
            ("new", Difference::Added),
        ];
        assert_eq!(told, want.map(|(path, what)| (path.to_owned(), what)));
    }
}
