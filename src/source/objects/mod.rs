//! Objects that are named by their hash: a folder, or anything else that can put, get, list and remove by a name.
//!
//! ```text
//!   stmount-store            what it is, and its identity
//!   ab/abcdef…               payloads of segments, each under the BLAKE3 of its bytes
//!   catalogs/0123…           what chunks they hold, for whoever packs over them; named in the same way
//!   tmp/…                    what is being written
//! ```
//!
//! An object never changes, so a store needs no trust: whoever reads one compares its hash. What is not needed any more
//! goes when somebody says which containers count, and then nobody may be adding: [`Objects::hold`].

mod folder;

pub use folder::FolderObjects;

use crate::codec::id::Id;
use crate::error::{Error, Kind, Result};
use crate::key::sign;
pub use crate::key::sign::hex;

/// The file of a store that tells what it is.
pub const MARK: &str = "stmount-store";
/// Its first line.
const FIRST_LINE: &str = "stmount store 1";
/// Bytes of the mark at most.
pub const MARK_MAX: u64 = 4096;

/// The hash that an object is named by.
pub type Hash = [u8; 32];

/// What kind of object it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drawer {
    Segments,
    Catalogs,
}

impl Drawer {
    /// The parts of the path of an object.
    pub fn path(self, hash: &Hash) -> [String; 2] {
        let name = hex(hash);
        match self {
            Self::Segments => [name[..2].to_owned(), name],
            Self::Catalogs => ["catalogs".to_owned(), name],
        }
    }
}

/// Kept as long as nobody else may do what does not go together with it.
pub type Guard = Box<dyn Send + Sync>;

/// Who does not go together with whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// With others: objects are added, or named by a container that is not complete yet.
    Shared,
    /// Alone: objects are removed.
    Alone,
}

/// A store of objects.
pub trait Objects: Send + Sync {
    /// The identity of the store.
    fn uid(&self) -> [u8; 16];

    /// Where it is, for messages.
    fn place(&self) -> String;

    /// The bytes of an object of at most `most` bytes; `None` when there is none. They may be damaged: see [`sound`].
    fn get(&self, drawer: Drawer, hash: &Hash, most: u64) -> Result<Option<Vec<u8>>>;

    /// Whether an object is there.
    fn has(&self, drawer: Drawer, hash: &Hash) -> Result<bool>;

    /// Adds an object, whole or not at all. Whether it was not there before. It lasts after [`Self::sync`].
    fn put(&self, drawer: Drawer, hash: &Hash, bytes: &[u8]) -> Result<bool>;

    /// Returns when all that was put is on the medium.
    fn sync(&self) -> Result<()>;

    /// All objects of a kind, with their lengths, in no order.
    fn list(&self, drawer: Drawer, visit: &mut dyn FnMut(Hash, u64) -> Result<()>) -> Result<()>;

    fn remove(&self, drawer: Drawer, hash: &Hash) -> Result<()>;

    /// Holds the store.
    ///
    /// # Errors
    /// `Locked` when somebody else holds it in a way that does not go together with this.
    fn hold(&self, how: Hold) -> Result<Guard>;
}

/// An object whose bytes have its hash.
///
/// # Errors
/// `Damaged` when they have not.
pub fn sound(objects: &dyn Objects, drawer: Drawer, hash: &Hash, most: u64) -> Result<Option<Vec<u8>>> {
    let Some(bytes) = objects.get(drawer, hash, most)? else { return Ok(None) };
    match Id::of(&bytes).0 == *hash {
        true => Ok(Some(bytes)),
        false => Err(Error::new(Kind::Damaged, format!("the object {} in {} is damaged", hex(hash), objects.place()))),
    }
}

/// The identity of a store, from its mark.
pub fn uid_of(mark: &[u8]) -> Option<[u8; 16]> {
    let mut lines = std::str::from_utf8(mark).ok()?.lines();
    (lines.next()? == FIRST_LINE).then_some(())?;
    unhex(lines.find_map(|line| line.strip_prefix("uid "))?)
}

/// The mark of a store.
pub fn mark_of(uid: &[u8; 16]) -> String {
    format!("{FIRST_LINE}\nuid {}\n", hex(uid))
}

/// As many bytes as there are, from hexadecimal as it is written here.
pub fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    sign::unhex(text).filter(|_| !text.contains(|c: char| c.is_ascii_uppercase()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_tells_which_store_it_is_and_nothing_else_does() {
        let uid = [0xa5; 16];
        assert_eq!(uid_of(mark_of(&uid).as_bytes()), Some(uid));
        for other in ["", "stmount store 2\nuid a5", "stmount store 1\nuid zz\n", "stmount store 1\nuid A5\n"] {
            assert_eq!(uid_of(other.as_bytes()), None, "{other:?}");
        }
    }
}
