//! A directory as it was when somebody began to read it.
//!
//! The offset of an entry is its place in the listing, so a rewind, a seek back and a second reader all see the same
//! order, and each page costs as much as it holds, not as much as what precedes it.
//!
//! ```text
//!   offset   0   1    2         3            4
//!            .   ..   listing 0  listing 1   listing 2 ...
//! ```

use crate::error::Result;
use crate::tree::{Kind, Name, Node, Tree};
use std::ops::ControlFlow;

/// Longest name shown, in bytes. A kernel fails the whole directory when it meets a longer one (`FUSE_NAME_MAX`).
const MAX_NAME: usize = 1024;

#[derive(Default)]
pub struct Listing {
    names: Vec<u8>,
    items: Vec<Item>,
}

struct Item {
    /// Where in `names` the name ends; it begins where the one before ends.
    end: usize,
    node: Node,
    kind: Kind,
}

/// One name in a listing.
#[derive(Clone, Copy, Debug)]
pub struct Listed<'a> {
    pub name: &'a [u8],
    pub node: Node,
    pub kind: Kind,
}

impl Listing {
    /// Reads a directory to its end.
    pub fn read(tree: &dyn Tree, dir: Node) -> Result<Self> {
        let mut listing = Self::default();
        tree.list(dir, None, &mut |name, node, kind| {
            listing.push(name, node, kind);
            ControlFlow::Continue(())
        })?;
        listing.names.shrink_to_fit();
        listing.items.shrink_to_fit();
        Ok(listing)
    }

    fn push(&mut self, name: Name<'_>, node: Node, kind: Kind) {
        if name.bytes().len() > MAX_NAME {
            log::warn!("a name of {} bytes is left out, no kernel takes it: {name:.40}", name.bytes().len());
            return;
        }
        self.names.extend_from_slice(name.bytes());
        self.items.push(Item { end: self.names.len(), node, kind });
    }

    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// The entries from the given place on; none behind the end.
    pub fn from(&self, place: usize) -> impl Iterator<Item = Listed<'_>> {
        let place = place.min(self.items.len());
        let mut start = if place == 0 { 0 } else { self.items[place - 1].end };
        self.items[place..].iter().map(move |item| {
            let name = &self.names[start..item.end];
            start = item.end;
            Listed { name, node: item.node, kind: item.kind }
        })
    }

    /// Bytes of memory this takes.
    pub fn weight(&self) -> usize {
        self.names.capacity() + self.items.capacity() * size_of::<Item>() + size_of::<Self>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_place_can_be_the_first() {
        let mut listing = Listing::default();
        for name in [&b"a"[..], b"bcd", b"ef"] {
            listing.push(Name::new(name).unwrap(), Node(name.len() as u64), Kind::File);
        }
        let names = |place| listing.from(place).map(|e| e.name.to_vec()).collect::<Vec<_>>();
        assert_eq!(names(0), [&b"a"[..], b"bcd", b"ef"]);
        assert_eq!(names(1), [&b"bcd"[..], b"ef"]);
        assert!(names(3).is_empty() && names(usize::MAX).is_empty());
        assert_eq!(listing.from(2).next().unwrap().node, Node(2));
    }

    #[test]
    fn a_name_no_kernel_takes_does_not_spoil_the_directory() {
        let mut listing = Listing::default();
        listing.push(Name::new(&[b'x'; 5000]).unwrap(), Node(1), Kind::File);
        listing.push(Name::new(b"y").unwrap(), Node(2), Kind::File);
        assert_eq!(listing.from(0).map(|e| e.node).collect::<Vec<_>>(), [Node(2)]);
    }
}
