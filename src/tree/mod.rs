//! Floor 1, the second noun: whatever has names.
//!
//! A [`Tree`] is a `.st` container, an archive, a plain folder. It answers questions about nodes; who asks (a kernel, a
//! packer, a file browser) it does not know. A [`Node`] is an inode: two names of one hard-linked file lead to one node.

mod attr;
mod catalog;
mod changes;
mod differences;
mod draft;
mod filter;
mod forest;
mod merged;
mod name;
mod renumbered;
mod union;
mod walk;

pub use attr::{Attr, Kind, Owner, Time, device};
pub use catalog::{Builder, Catalog, Contents, Duplicates, Item, MISSING, PATH_ATTRIBUTE, Tables};
pub use changes::{Changes, Inode, Named};
pub use differences::{Difference, differences};
pub use draft::{Draft, From as PartFrom, Part, Touched};
pub use filter::Filter;
pub use forest::{Entry, Forest, list_as};
pub use merged::{Drafted, Merged, list_over};
pub use name::{Name, NameBuf};
pub use renumbered::Renumbered;
pub use union::Union;
pub use walk::{find_path, first_difference, path_display};

use crate::error::{Error, Kind as ErrorKind, Result};
use crate::source::ReadAt;
use std::ops::ControlFlow;
use std::sync::Arc;

/// An inode number inside one tree. Stable as long as the tree is open; for a container, for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Node(pub u64);

/// One extended attribute: name (`user.comment`, `system.posix_acl_access`) and value.
pub type Xattr = (Vec<u8>, Vec<u8>);

/// What a directory listing calls for each entry.
pub type Visit<'a> = dyn FnMut(Name<'_>, Node, Kind) -> ControlFlow<()> + 'a;

/// How much a tree holds. For `df` and for messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Inodes.
    pub nodes: u64,
    /// Sum of the sizes of all files, as the user sees them.
    pub bytes: u64,
    /// Bytes that the tree occupies where it is stored.
    pub stored: u64,
}

/// Names, attributes and contents, read only. Every method may be called from any thread.
pub trait Tree: Send + Sync {
    fn root(&self) -> Node;

    /// Looks a name up in a directory.
    fn find(&self, dir: Node, name: Name<'_>) -> Result<Option<Node>>;

    fn attr(&self, node: Node) -> Result<Attr>;

    /// Visits the entries of a directory behind the name `after`, in an order that does not change while the tree is
    /// open. `.` and `..` are not among them.
    fn list(&self, dir: Node, after: Option<Name<'_>>, visit: &mut Visit<'_>) -> Result<()>;

    /// Where a symbolic link points.
    fn target(&self, link: Node) -> Result<Vec<u8>>;

    fn open(&self, file: Node) -> Result<Arc<dyn ReadAt>>;

    /// All extended attributes, POSIX ACLs among them (`system.posix_acl_access`, `system.posix_acl_default`).
    fn xattrs(&self, _node: Node) -> Result<Vec<Xattr>> {
        Ok(Vec::new())
    }

    /// The names of user and group, where the tree knows more than the numbers.
    fn owner(&self, _node: Node) -> Result<Owner> {
        Ok(Owner::default())
    }

    fn totals(&self) -> Result<Totals>;

    /// True when nothing in this tree can change while it is open, so that a kernel may cache all of it for ever.
    fn is_frozen(&self) -> bool;

    /// Where the contents of a file lie among those of others: who reads many of them does so in this order.
    fn place(&self, _file: Node) -> u64 {
        0
    }
}

/// The error of a name that is not there.
pub fn not_found(path: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::NotFound, format!("{path}: no such file or directory"))
}
