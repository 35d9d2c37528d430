//! Inode numbers as a kernel sees them.
//!
//! They are the numbers of the tree, so that they are the same at every mount. Two numbers have a meaning of their own
//! in FUSE: 1 is the root and 0 is nothing at all.
//!
//! ```text
//!   tree     root   1     0          everything else
//!   kernel   1      root  u64::MAX   the same
//! ```

use crate::tree::Node;

/// The inode number of the root, to every kernel.
pub const ROOT: u64 = 1;

/// The exchange between the numbers of one tree and those of the kernel; each is the other's inverse.
#[derive(Clone, Copy, Debug)]
pub struct Numbers {
    root: Node,
}

impl Numbers {
    pub fn new(root: Node) -> Self {
        Self { root }
    }

    pub fn ino(self, node: Node) -> u64 {
        match node.0 {
            _ if node == self.root => ROOT,
            ROOT => self.stand_in(),
            0 => u64::MAX,
            n => n,
        }
    }

    pub fn node(self, ino: u64) -> Node {
        match ino {
            ROOT => self.root,
            _ if ino == self.stand_in() => Node(ROOT),
            u64::MAX => Node(0),
            n => Node(n),
        }
    }

    /// Where the node 1 went whose number the root took: to the number of the root, if a kernel takes that.
    fn stand_in(self) -> u64 {
        if self.root.0 == 0 { u64::MAX } else { self.root.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_node_has_a_number_of_its_own_and_comes_back_from_it() {
        for root in [0, 1, 2, 77] {
            let numbers = Numbers::new(Node(root));
            let inos: Vec<u64> = (0..100).map(|n| numbers.ino(Node(n))).collect();
            assert_eq!(inos[root as usize], ROOT);
            assert!(!inos.contains(&0));
            assert_eq!(inos.iter().collect::<std::collections::HashSet<_>>().len(), 100, "root {root}");
            assert!((0..100).all(|n| numbers.node(inos[n as usize]) == Node(n)), "root {root}");
        }
    }

    #[test]
    fn all_but_root_and_one_keep_the_number_of_the_tree() {
        let numbers = Numbers::new(Node(5));
        assert!((6..50).all(|n| numbers.ino(Node(n)) == n));
        assert_eq!(numbers.ino(Node(1)), 5);
    }
}
