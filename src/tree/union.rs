//! Several trees laid over each other: directories of the same path are one, and of everything else the rightmost wins.
//!
//! ```text
//!   number     a directory that several trees have   2 * place in the table of such directories
//!              anything else                         2 * (number in its tree * trees + its tree) + 1
//! ```
//!
//! A directory that only one tree has, with all below it, is just that of this tree.

use super::{Attr, Kind, Name, NameBuf, Node, Owner, Totals, Tree, Visit, Xattr};
use crate::error::{Error, Kind as ErrorKind, Result};
use crate::pool::lock;
use crate::source::ReadAt;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};

/// The trees, the one that wins last.
pub struct Union {
    layers: Vec<Arc<dyn Tree>>,
    shared: Mutex<Shared>,
}

/// Directories that several trees have.
#[derive(Default)]
struct Shared {
    dirs: Vec<Arc<Dir>>,
    numbers: HashMap<Dir, u64>,
    /// The directory that was listed last: it is asked for in pages.
    listed: Option<(Node, Arc<Listing>)>,
}

type Listing = BTreeMap<NameBuf, (Node, Kind)>;

/// The same directory in each tree that has it, the one that wins first.
type Dir = Vec<(usize, Node)>;

const ROOT: Node = Node(0);

enum Place {
    Shared(Arc<Dir>),
    Single(usize, Node),
}

impl Union {
    pub fn new(layers: Vec<Arc<dyn Tree>>) -> Self {
        let roots: Dir = layers.iter().enumerate().rev().map(|(at, tree)| (at, tree.root())).collect();
        let shared = Shared { dirs: vec![Arc::new(roots.clone())], numbers: HashMap::from([(roots, 0)]), listed: None };
        Self { layers, shared: Mutex::new(shared) }
    }

    fn place(&self, node: Node) -> Result<Place> {
        let gone = || Error::new(ErrorKind::NotFound, "no such inode");
        if node.0.is_multiple_of(2) {
            let shared = lock(&self.shared);
            return shared.dirs.get((node.0 / 2) as usize).cloned().map(Place::Shared).ok_or_else(gone);
        }
        let (number, count) = (node.0 / 2, self.layers.len() as u64);
        Ok(Place::Single((number % count) as usize, Node(number / count)))
    }

    /// The tree that answers for a node, and its number there.
    fn top(&self, node: Node) -> Result<(&dyn Tree, Node)> {
        let (layer, node) = match self.place(node)? {
            Place::Shared(dir) => dir[0],
            Place::Single(layer, node) => (layer, node),
        };
        Ok((&*self.layers[layer], node))
    }

    fn single(&self, layer: usize, node: Node) -> Result<Node> {
        let number = node.0.checked_mul(self.layers.len() as u64).and_then(|n| n.checked_add(layer as u64));
        let number = number.and_then(|n| n.checked_mul(2)).and_then(|n| n.checked_add(1));
        number.map(Node).ok_or_else(|| Error::new(ErrorKind::Limit, "inode numbers are too large to be joined"))
    }

    /// What several trees have under one name, the one that wins first: the winner alone, or directories together.
    fn joined(&self, found: &[(usize, Node, Kind)]) -> Result<Option<(Node, Kind)>> {
        let Some((layer, node, kind)) = found.first().copied() else { return Ok(None) };
        // A file of a tree below ends what is joined: what is under it is hidden by it.
        let dirs: Dir =
            found.iter().take_while(|(.., kind)| *kind == Kind::Directory).map(|(at, node, _)| (*at, *node)).collect();
        if dirs.len() < 2 {
            return Ok(Some((self.single(layer, node)?, kind)));
        }
        let mut shared = lock(&self.shared);
        let next = shared.dirs.len() as u64;
        let number = *shared.numbers.entry(dirs.clone()).or_insert(next);
        if number == next {
            shared.dirs.push(Arc::new(dirs));
        }
        Ok(Some((Node(number * 2), Kind::Directory)))
    }

    fn listing(&self, node: Node, dir: &Dir, goes_on: bool) -> Result<Arc<Listing>> {
        let known = lock(&self.shared).listed.clone().filter(|(listed, _)| goes_on && *listed == node);
        if let Some((_, listing)) = known {
            return Ok(listing);
        }
        let mut found: BTreeMap<NameBuf, Vec<(usize, Node, Kind)>> = BTreeMap::new();
        for (layer, inner) in dir {
            self.layers[*layer].list(*inner, None, &mut |name, node, kind| {
                found.entry(name.to_owned()).or_default().push((*layer, node, kind));
                std::ops::ControlFlow::Continue(())
            })?;
        }
        let mut listing = Listing::new();
        for (name, all) in found {
            if let Some(one) = self.joined(&all)? {
                listing.insert(name, one);
            }
        }
        let listing = Arc::new(listing);
        lock(&self.shared).listed = Some((node, listing.clone()));
        Ok(listing)
    }
}

impl Tree for Union {
    fn root(&self) -> Node {
        ROOT
    }

    fn find(&self, dir: Node, name: Name<'_>) -> Result<Option<Node>> {
        let dir = match self.place(dir)? {
            Place::Single(layer, node) => {
                return self.layers[layer].find(node, name)?.map(|found| self.single(layer, found)).transpose();
            }
            Place::Shared(dir) => dir,
        };
        let mut found = Vec::new();
        for (layer, node) in dir.iter() {
            if let Some(node) = self.layers[*layer].find(*node, name)? {
                found.push((*layer, node, self.layers[*layer].attr(node)?.kind));
            }
        }
        Ok(self.joined(&found)?.map(|(node, _)| node))
    }

    fn attr(&self, node: Node) -> Result<Attr> {
        let (tree, inner) = self.top(node)?;
        let attr = tree.attr(inner)?;
        // How many directories are in one that is joined is not counted.
        Ok(if node.0.is_multiple_of(2) { Attr { nlink: 1, ..attr } } else { attr })
    }

    fn list(&self, dir: Node, after: Option<Name<'_>>, visit: &mut Visit<'_>) -> Result<()> {
        match self.place(dir)? {
            Place::Single(layer, node) => {
                super::list_as(&*self.layers[layer], node, after, |node| self.single(layer, node), visit)
            }
            Place::Shared(inner) => {
                let listing = self.listing(dir, &inner, after.is_some())?;
                use std::ops::Bound;
                let from = after.map_or(Bound::Unbounded, |after| Bound::Excluded(after.to_owned()));
                for (name, (node, kind)) in listing.range((from, Bound::Unbounded)) {
                    if visit(name.as_name(), *node, *kind).is_break() {
                        break;
                    }
                }
                Ok(())
            }
        }
    }

    fn target(&self, link: Node) -> Result<Vec<u8>> {
        let (tree, node) = self.top(link)?;
        tree.target(node)
    }

    fn open(&self, file: Node) -> Result<Arc<dyn ReadAt>> {
        let (tree, node) = self.top(file)?;
        tree.open(node)
    }

    fn xattrs(&self, node: Node) -> Result<Vec<Xattr>> {
        let (tree, node) = self.top(node)?;
        tree.xattrs(node)
    }

    fn owner(&self, node: Node) -> Result<Owner> {
        let (tree, node) = self.top(node)?;
        tree.owner(node)
    }

    /// The sum of all, also of what is hidden.
    fn totals(&self) -> Result<Totals> {
        self.layers.iter().try_fold(Totals::default(), |sum, tree| {
            let t = tree.totals()?;
            let bytes = sum.bytes.saturating_add(t.bytes);
            Ok(Totals { nodes: sum.nodes + t.nodes, bytes, stored: sum.stored.saturating_add(t.stored) })
        })
    }

    fn is_frozen(&self) -> bool {
        self.layers.iter().all(|tree| tree.is_frozen())
    }

    fn place(&self, file: Node) -> u64 {
        self.top(file).map_or(u64::MAX, |(tree, node)| tree.place(node))
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Builder, Catalog, Contents, Duplicates, Item, Time};
    use super::*;
    use crate::source::Memory;

    struct Letter(u8);

    impl Contents for Letter {
        fn open(&self, _: u64) -> Result<Arc<dyn ReadAt>> {
            Ok(Arc::new(Memory::new(vec![self.0])))
        }
    }

    fn tree(letter: u8, paths: &[&str]) -> Arc<dyn Tree> {
        let mut builder = Builder::new(Duplicates::Numbered, 100, Time::default());
        for path in paths {
            let attr = Attr { size: 1, ..Attr::new(Kind::File, 0o644, Time::default()) };
            builder.add(path.as_bytes(), Item::new(attr, 0)).unwrap();
        }
        Arc::new(Catalog::new(builder.finish().0, Arc::new(Letter(letter)), 1))
    }

    fn all(tree: &dyn Tree, dir: Node, path: &str, out: &mut Vec<String>) {
        let mut dirs = Vec::new();
        tree.list(dir, None, &mut |name, node, kind| {
            assert_eq!(tree.find(dir, name).unwrap(), Some(node));
            let path = format!("{path}/{}", String::from_utf8_lossy(name.bytes()));
            match kind {
                Kind::Directory => dirs.push((node, path)),
                _ => {
                    let mut byte = [0];
                    tree.open(node).unwrap().read_exact_at(0, &mut byte).unwrap();
                    out.push(format!("{path}={}", byte[0] as char));
                }
            }
            std::ops::ControlFlow::Continue(())
        })
        .unwrap();
        dirs.into_iter().for_each(|(node, path)| all(tree, node, &path, out));
    }

    #[test]
    fn directories_are_joined_and_the_rightmost_file_wins() {
        let layers = vec![
            tree(b'a', &["both/one", "both/same", "only-a/x", "file-then-dir", "dir-then-file/hidden"]),
            tree(b'b', &["both/two", "both/same", "only-b/y", "file-then-dir/z", "dir-then-file"]),
        ];
        let union = Union::new(layers);
        let mut found = Vec::new();
        all(&union, union.root(), "", &mut found);
        found.sort();
        let want = ["/both/one=a", "/both/same=b", "/both/two=b", "/dir-then-file=b", "/file-then-dir/z=b"];
        assert_eq!(found[..5], want);
        assert_eq!(found[5..], ["/only-a/x=a", "/only-b/y=b"]);
    }

    #[test]
    fn a_listing_goes_on_behind_a_name() {
        let union = Union::new(vec![tree(b'a', &["a", "c"]), tree(b'b', &["b", "d"])]);
        let mut names = Vec::new();
        union
            .list(union.root(), Some(Name::new(b"b").unwrap()), &mut |name, _, _| {
                names.push(name.bytes().to_vec());
                std::ops::ControlFlow::Continue(())
            })
            .unwrap();
        assert_eq!(names, [b"c", b"d"]);
    }
}
