//! Earlier states in a hidden directory of the root: `.stmount/snapshots/`, which no listing shows.
//!
//! ```text
//!   node   the upper bit is not set            a node of the tree
//!          1 │ number of a state │ its node    a node of a state; the node 0 is the link of the number to the name
//!          1 │ 0                 │ 1, 2        .stmount, snapshots
//! ```
//!
//! So a number stands for one inode of one state at every mount, and nothing has to be remembered of those that a kernel
//! knows: a state can be closed at any time, and is opened again by its number.
//!
//! A state is shown once: by its first name, or by its number when it has none. Its other names, and the number of one
//! that has names, are links to it.

use super::paths;
use crate::error::{Error, Kind as ErrorKind, Result};
use crate::formats::{State, States};
use crate::source::ReadAt;
use crate::tree::{Attr, Kind, Name, NameBuf, Node, Owner, Totals, Tree, Visit, Xattr, list_as};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The hidden directory.
pub const HIDDEN: &[u8] = b".stmount";
/// The directory in it that holds the states.
const STATES: &[u8] = b"snapshots";

/// So many states without a name are listed; all others are found by their numbers.
const LISTED: usize = 1000;

/// What all nodes have that are not of the tree.
const MARK: u64 = 1 << 63;
/// Bits of a node in a state: four thousand million, and more where many are taken.
const NODE_BITS: u32 = 32;
/// So many bits a container may have in its nodes for new ones, when it is mounted.
const ROOM: u32 = 4;

/// A tree, and beside it its earlier states.
pub struct Earlier {
    tree: Arc<dyn Tree>,
    states: Arc<dyn States>,
    bits: u32,
}

/// What a node is.
enum Place {
    Tree,
    Hidden,
    States,
    /// The link that the number of a state is when it has a name.
    Link(u64),
    State(u64, Node),
}

impl Earlier {
    /// `None` when the tree has so many nodes that no bits are left for states.
    pub fn new(tree: Arc<dyn Tree>, states: Arc<dyn States>) -> Option<Self> {
        let taken = u64::BITS - states.first_new_node().leading_zeros();
        let bits = (taken + ROOM).max(NODE_BITS);
        (bits <= 48).then_some(Self { tree, states, bits })
    }

    /// Whether a node is of an earlier state or of the hidden directory, where nothing can be changed.
    pub fn is_earlier(&self, node: Node) -> bool {
        node.0 & MARK != 0
    }

    /// Whether what is told of a node, or of a name in it, may not hold for long.
    pub fn is_passing(&self, node: Node) -> bool {
        matches!(self.place(node), Place::Hidden | Place::States | Place::Link(_))
    }

    /// Whether a name is that of the hidden directory.
    pub fn hides(&self, dir: Node, name: &[u8]) -> Result<bool> {
        let hidden = dir == self.tree.root() && name == HIDDEN;
        Ok(hidden && self.tree.find(dir, Name::new(name)?)?.is_none())
    }

    /// Where a node of a state is found.
    pub fn path_of(&self, node: Node) -> Option<Vec<u8>> {
        let Place::State(sequence, node) = self.place(node) else { return None };
        let state = self.states.find(&sequence.to_string()).ok()??;
        let path = paths::path_of(&*self.states.open(sequence).ok()?, node).unwrap_or_default();
        Some([HIDDEN, STATES, shown(&state).as_bytes(), &path].join(&b'/'))
    }

    /// How many states are open just now.
    pub fn open_states(&self) -> usize {
        self.states.held()
    }

    fn place(&self, node: Node) -> Place {
        if node.0 & MARK == 0 {
            return Place::Tree;
        }
        let (sequence, inner) = ((node.0 & !MARK) >> self.bits, node.0 & ((1 << self.bits) - 1));
        match (sequence, inner) {
            (0, 1) => Place::Hidden,
            (0, 2) => Place::States,
            (_, 0) => Place::Link(sequence),
            _ => Place::State(sequence, Node(inner)),
        }
    }

    fn outer(&self, sequence: u64, node: Node) -> Result<Node> {
        // The highest number is left out: all bits together stand for something else to a kernel.
        let fits = sequence > 0 && sequence < (MARK >> self.bits) - 1 && node.0 < 1 << self.bits;
        let what = format!("a number of the state {sequence} is too large to be shown beside others");
        let too_large = || Error::new(ErrorKind::Limit, what).hint("mount it by itself: stmount FILE@STATE DIR");
        fits.then(|| Node(MARK | (sequence << self.bits) | node.0)).ok_or_else(too_large)
    }

    fn hidden(&self) -> Node {
        Node(MARK | 1)
    }

    fn states_dir(&self) -> Node {
        Node(MARK | 2)
    }

    /// What a name of a state leads to.
    fn entry(&self, state: &State, name: &str) -> Result<(Node, Kind)> {
        match shown(state) == name {
            true => Ok((self.outer(state.sequence, self.tree.root())?, Kind::Directory)),
            false => Ok((self.outer(state.sequence, Node(0))?, Kind::Symlink)),
        }
    }

    fn target_of(&self, sequence: u64) -> Result<(State, String)> {
        let gone = || Error::new(ErrorKind::Changed, format!("the state {sequence} is not there any more"));
        let state = self.states.find(&sequence.to_string())?.ok_or_else(gone)?;
        let target = shown(&state);
        Ok((state, target))
    }

    fn directory(&self, nlink: u32) -> Result<Attr> {
        let root = self.tree.attr(self.tree.root())?;
        let attr = Attr::new(Kind::Directory, root.mode & 0o555, self.states.time());
        Ok(Attr { uid: root.uid, gid: root.gid, nlink, ..attr })
    }

    fn list_states(&self, after: Option<Name<'_>>, visit: &mut Visit<'_>) -> Result<()> {
        let mut names: BTreeMap<NameBuf, (Node, Kind)> = BTreeMap::new();
        for state in self.states.list(LISTED)? {
            let number = state.names.is_empty().then(|| state.sequence.to_string());
            for name in state.names.iter().chain(&number) {
                // What no path can name, or no number stands for, is not shown.
                if let (Ok(name), Ok(entry)) = (Name::new(name.as_bytes()), self.entry(&state, name)) {
                    names.insert(name.to_owned(), entry);
                }
            }
        }
        let behind = names.iter().filter(|(name, _)| after.is_none_or(|after| name.as_name() > after));
        for (name, (node, kind)) in behind {
            if visit(name.as_name(), *node, *kind).is_break() {
                break;
            }
        }
        Ok(())
    }
}

/// The name that a state is shown by.
fn shown(state: &State) -> String {
    state.names.first().cloned().unwrap_or_else(|| state.sequence.to_string())
}

fn no_directory() -> Error {
    Error::new(ErrorKind::NotADirectory, "it is no directory")
}

fn is_directory() -> Error {
    Error::new(ErrorKind::IsADirectory, "it is a directory")
}

impl Tree for Earlier {
    fn root(&self) -> Node {
        self.tree.root()
    }

    fn find(&self, dir: Node, name: Name<'_>) -> Result<Option<Node>> {
        match self.place(dir) {
            Place::Tree => match self.tree.find(dir, name)? {
                None if dir == self.tree.root() && name.bytes() == HIDDEN => Ok(Some(self.hidden())),
                found => Ok(found),
            },
            Place::Hidden => Ok((name.bytes() == STATES).then(|| self.states_dir())),
            Place::States => {
                let Ok(name) = std::str::from_utf8(name.bytes()) else { return Ok(None) };
                let state = self.states.find(name)?;
                state.map(|state| Ok(self.entry(&state, name)?.0)).transpose()
            }
            Place::Link(_) => Err(no_directory()),
            Place::State(sequence, dir) => {
                self.states.open(sequence)?.find(dir, name)?.map(|found| self.outer(sequence, found)).transpose()
            }
        }
    }

    fn attr(&self, node: Node) -> Result<Attr> {
        match self.place(node) {
            Place::Tree => self.tree.attr(node),
            Place::Hidden => self.directory(3),
            Place::States => self.directory(2),
            Place::Link(sequence) => {
                let (state, target) = self.target_of(sequence)?;
                Ok(Attr { size: target.len() as u64, ..Attr::new(Kind::Symlink, 0o777, state.time) })
            }
            Place::State(sequence, node) => self.states.open(sequence)?.attr(node),
        }
    }

    fn list(&self, dir: Node, after: Option<Name<'_>>, visit: &mut Visit<'_>) -> Result<()> {
        let (sequence, dir) = match self.place(dir) {
            Place::Tree => return self.tree.list(dir, after, visit),
            Place::States => return self.list_states(after, visit),
            Place::Link(_) => return Err(no_directory()),
            Place::Hidden => {
                let name = Name::new(STATES)?;
                if after.is_none_or(|after| name > after) {
                    let _ = visit(name, self.states_dir(), Kind::Directory);
                }
                return Ok(());
            }
            Place::State(sequence, dir) => (sequence, dir),
        };
        list_as(&*self.states.open(sequence)?, dir, after, |node| self.outer(sequence, node), visit)
    }

    fn target(&self, link: Node) -> Result<Vec<u8>> {
        match self.place(link) {
            Place::Tree => self.tree.target(link),
            Place::Hidden | Place::States => Err(is_directory()),
            Place::Link(sequence) => Ok(self.target_of(sequence)?.1.into_bytes()),
            Place::State(sequence, link) => self.states.open(sequence)?.target(link),
        }
    }

    fn open(&self, file: Node) -> Result<Arc<dyn ReadAt>> {
        match self.place(file) {
            Place::Tree => self.tree.open(file),
            Place::Hidden | Place::States | Place::Link(_) => Err(is_directory()),
            Place::State(sequence, file) => self.states.open(sequence)?.open(file),
        }
    }

    fn xattrs(&self, node: Node) -> Result<Vec<Xattr>> {
        match self.place(node) {
            Place::Tree => self.tree.xattrs(node),
            Place::Hidden | Place::States | Place::Link(_) => Ok(Vec::new()),
            Place::State(sequence, node) => self.states.open(sequence)?.xattrs(node),
        }
    }

    fn owner(&self, node: Node) -> Result<Owner> {
        match self.place(node) {
            Place::Tree => self.tree.owner(node),
            Place::Hidden | Place::States | Place::Link(_) => self.tree.owner(self.tree.root()),
            Place::State(sequence, node) => self.states.open(sequence)?.owner(node),
        }
    }

    fn totals(&self) -> Result<Totals> {
        self.tree.totals()
    }

    fn is_frozen(&self) -> bool {
        self.tree.is_frozen()
    }
}
