//! What an overlay knows besides contents, as the bytes of the file `changes`.

use super::{FIRST_NEW, is_inside};
use crate::error::{Error, Kind, Result};
use crate::formats::{Id, decode_changes, encode_changes};
use crate::source::Memory;
use crate::tree::{Changes, Node};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::sync::Arc;

const MAGIC: &[u8; 8] = b"STOVRLY\n";
const VERSION: u32 = 1;
/// Bytes in front of the body: the magic, the version, and the length of the body.
const FRONT: usize = 20;
/// A longer file is refused: that would be some millions of changes.
pub const CHANGES_MAX: u64 = 1 << 30;
/// New inodes have numbers below this.
pub const NUMBERS: u64 = 1 << 47;

/// Which tree an overlay lies over.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Belongs {
    /// The fingerprint of it.
    pub print: [u8; 32],
    /// How it is opened, as far as that changes its names.
    pub how: String,
    /// Where it was, for messages and as the first place to look.
    pub path: Vec<u8>,
}

/// Where contents of a changed file are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Spot {
    /// In a file below `files`, which had this size and time when it was written.
    Clear { path: Vec<u8>, size: u64, mtime: (i64, u32) },
    /// They are those of a file of the base.
    Base { path: Vec<u8> },
}

/// A step on the way from one state to the next. Paths are below `files`, numbers are names below `new`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Move {
    Aside { from: Vec<u8>, to: u64 },
    Gone { path: Vec<u8> },
    Into { from: u64, to: Vec<u8> },
}

/// What is stored.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// One more each time: no two states have the same bytes.
    pub sequence: u64,
    pub belongs: Belongs,
    /// Whether somebody has begun to bring the changes into the base.
    pub is_committing: bool,
    /// Numbers of new inodes are below this.
    pub next: u64,
    /// The inodes of the base that are spoken of, by their paths there, in order.
    pub paths: Vec<Vec<u8>>,
    /// The changes, with inodes of the base by their places among the paths.
    pub(super) record: Vec<u8>,
    pub spots: Vec<(Id, Spot)>,
    /// Places of those inodes of the base of which only the number of links has changed, or of a directory its time.
    pub quiet: Vec<u64>,
    pub moves: Vec<Move>,
}

fn damaged(what: &str) -> Error {
    Error::new(Kind::Damaged, format!("its file `changes` is damaged: {what}"))
        .hint("the contents are in `files`; put `changes` back from a copy, or begin with another directory")
}

/// Changes whose inodes of the base have their places among some paths as numbers: the same wherever they are made.
pub struct Canonical {
    pub changes: Changes,
    pub spots: Vec<(Node, Spot)>,
    pub quiet: Vec<Node>,
}

fn id(node: Node) -> Id {
    node.0.checked_sub(FIRST_NEW).map_or(Id::Base(node.0), Id::New)
}

impl State {
    pub fn new(belongs: Belongs, sequence: u64) -> Self {
        let mut state = Self { sequence, belongs, ..Self::default() };
        state.set(&Canonical { changes: Changes::default(), spots: Vec::new(), quiet: Vec::new() });
        state
    }

    /// Takes changes in, whose paths are there already.
    pub fn set(&mut self, canonical: &Canonical) {
        self.record = encode_changes(&canonical.changes, id).0;
        self.spots = canonical.spots.iter().map(|(node, spot)| (id(*node), spot.clone())).collect();
        self.quiet = canonical.quiet.iter().map(|node| node.0).collect();
    }

    /// The same, which says whether somebody has begun to bring the changes into the base.
    #[must_use]
    pub fn committing(&self, is_committing: bool) -> Self {
        Self { is_committing, sequence: self.sequence + 1, ..self.clone() }
    }

    pub fn is_empty(&self) -> Result<bool> {
        Ok(self.changes()?.changes.is_empty())
    }

    /// The changes. Inodes of the base have as numbers their places among the paths.
    pub fn changes(&self) -> Result<Canonical> {
        let paths = self.paths.len() as u64;
        let node = |id| match id {
            Id::Base(number) if number < paths => Node(number),
            Id::New(number) if number < self.next => Node(FIRST_NEW + number),
            _ => Node(u64::MAX),
        };
        let nothing: Arc<dyn crate::source::ReadAt> = Arc::new(Memory::new(Vec::new()));
        let mut changes =
            decode_changes(&self.record, &nothing, node).map_err(|e| damaged("it cannot be read").caused_by(e))?;
        let leads = changes.names.values().flat_map(|names| names.values().flatten().map(|(node, _)| *node));
        let spots: Vec<_> = self.spots.iter().map(|(id, spot)| (node(*id), spot.clone())).collect();
        let mut all =
            changes.nodes.keys().chain(changes.names.keys()).copied().chain(leads).chain(spots.iter().map(|s| s.0));
        if all.any(|node| node.0 == u64::MAX) {
            return Err(damaged("it speaks of an inode that is not in it"));
        }
        for (node, inode) in &mut changes.nodes {
            if let Some(inode) = inode {
                inode.is_new = node.0 >= FIRST_NEW;
                inode.draft = None;
            }
        }
        let quiet = self.quiet.iter().map(|place| Node(*place)).collect();
        Ok(Canonical { changes, spots, quiet })
    }

    pub fn encode(&self) -> Vec<u8> {
        let body = postcard::to_stdvec(self).expect("a state is plain data");
        let mut bytes = Vec::with_capacity(FRONT + body.len() + 32);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&(body.len() as u64).to_le_bytes());
        bytes.extend_from_slice(&body);
        let hash = blake3::hash(&bytes);
        bytes.extend_from_slice(hash.as_bytes());
        bytes
    }

    pub fn decode(bytes: &[u8]) -> Result<Self> {
        if bytes.len() < FRONT + 32 || !bytes.starts_with(MAGIC) {
            return Err(damaged("it does not begin as one"));
        }
        let version = u32::from_le_bytes(bytes[8..12].try_into().expect("four bytes"));
        if version > VERSION {
            return Err(Error::new(Kind::Unsupported, "the overlay is of a later version"));
        }
        let (front, hash) = bytes.split_at(bytes.len() - 32);
        let len = u64::from_le_bytes(bytes[12..FRONT].try_into().expect("eight bytes"));
        if version != VERSION || len != (front.len() - FRONT) as u64 || blake3::hash(front).as_bytes() != hash {
            return Err(damaged("its hash is not right"));
        }
        let state: Self =
            postcard::from_bytes(&front[FRONT..]).map_err(|e| damaged("it cannot be read").caused_by(e))?;
        state.check()?;
        Ok(state)
    }

    /// Numbers and paths meet their limits: nothing leads out of the directory.
    fn check(&self) -> Result<()> {
        let below = self.spots.iter().filter_map(|(_, spot)| match spot {
            Spot::Clear { path, .. } => Some(path),
            Spot::Base { .. } => None,
        });
        let moved = self.moves.iter().map(|step| match step {
            Move::Aside { from: path, .. } | Move::Gone { path } | Move::Into { to: path, .. } => path,
        });
        if !below.chain(moved).all(|path| is_inside(path)) {
            return Err(damaged("a path in it leads out of the directory"));
        }
        if self.next > NUMBERS || self.paths.windows(2).any(|pair| pair[0] >= pair[1]) {
            return Err(Error::new(Kind::Limit, "a number in the overlay is too large, or its paths are in no order"));
        }
        Ok(())
    }

    /// Where contents lie, by inode.
    pub fn spots_of(canonical: &Canonical) -> HashMap<Node, Spot> {
        canonical.spots.iter().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> State {
        let spot = Spot::Clear { path: b"a/b".to_vec(), size: 3, mtime: (1, 2) };
        let mut state = State::new(Belongs { path: b"/x.zip".to_vec(), ..Belongs::default() }, 7);
        state.next = 1;
        state.spots = vec![(Id::New(0), spot)];
        state
    }

    #[test]
    fn a_state_comes_back_and_a_damaged_one_does_not() {
        let bytes = state().encode();
        assert_eq!(State::decode(&bytes).unwrap(), state());
        for at in 0..bytes.len() {
            let mut other = bytes.clone();
            other[at] ^= 4;
            assert!(State::decode(&other).is_err(), "{at}");
            assert!(State::decode(&bytes[..at]).is_err(), "{at}");
        }
    }

    #[test]
    fn what_leads_out_of_the_directory_is_refused() {
        for path in [&b"../x"[..], b"/etc/passwd", b"a/../../b", b"", b"a//b", b"a/.", b"a\0b"] {
            let spot = Spot::Clear { path: path.to_vec(), size: 0, mtime: (0, 0) };
            let bad = State { spots: vec![(Id::New(0), spot)], ..state() };
            assert!(State::decode(&bad.encode()).is_err(), "{path:?}");
            let bad = State { moves: vec![Move::Gone { path: path.to_vec() }], ..state() };
            assert!(State::decode(&bad.encode()).is_err(), "{path:?}");
        }
        let other = State { spots: vec![(Id::Base(0), state().spots[0].1.clone())], ..state() };
        assert!(State::decode(&other.encode()).unwrap().changes().is_err(), "there is no such inode");
    }
}
