//! Where inodes are in a base with changes laid over it.

use super::base::Base;
use super::join;
use crate::error::Result;
use crate::tree::{Changes, NameBuf, Node, Tree};
use std::collections::HashMap;

/// The paths of inodes, as they are with the changes.
pub struct Paths<'a> {
    changes: &'a Changes,
    base: &'a Base,
    /// The names that changes give to an inode.
    links: HashMap<Node, Vec<(Node, &'a NameBuf)>>,
    known: HashMap<Node, Option<Vec<u8>>>,
}

impl<'a> Paths<'a> {
    pub fn new(changes: &'a Changes, base: &'a Base) -> Self {
        let mut links: HashMap<Node, Vec<(Node, &NameBuf)>> = HashMap::new();
        for (dir, names) in &changes.names {
            for (name, to) in names {
                if let Some((node, _)) = to {
                    links.entry(*node).or_default().push((*dir, name));
                }
            }
        }
        Self { changes, base, links, known: HashMap::new() }
    }

    /// The path of an inode: the first of several. Nothing for one that has no name, or none that is known.
    pub fn path(&mut self, node: Node) -> Result<Option<Vec<u8>>> {
        if node == self.base.root() {
            return Ok(Some(Vec::new()));
        }
        if let Some(known) = self.known.get(&node) {
            return Ok(known.clone());
        }
        // Whoever comes back here goes round in a circle.
        self.known.insert(node, None);
        let mut places: Vec<(Node, Vec<u8>)> = Vec::new();
        places.extend(
            self.links.get(&node).into_iter().flatten().map(|(dir, name)| (*dir, name.as_name().bytes().to_vec())),
        );
        places.extend(self.place_below(node)?);
        let mut best: Option<Vec<u8>> = None;
        for (dir, name) in places {
            let Some(mut path) = self.path(dir)? else { continue };
            join(&mut path, &name);
            best = Some(best.map_or(path.clone(), |best| best.min(path)));
        }
        self.known.insert(node, best.clone());
        Ok(best)
    }

    /// The place that an inode has in the base, if it still has it.
    fn place_below(&self, node: Node) -> Result<Option<(Node, Vec<u8>)>> {
        if !Base::has(node) {
            return Ok(None);
        }
        let Some((dir, name)) = self.base.link(node)? else { return Ok(None) };
        let bytes = name.as_name().bytes();
        let is_there = self.changes.name(dir, bytes).is_none() && !matches!(self.changes.nodes.get(&dir), Some(None));
        Ok(is_there.then(|| (dir, bytes.to_vec())))
    }
}
