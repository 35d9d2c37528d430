//! What a thin container lies over, and who finds it.

use crate::error::Result;
use crate::source::ReadAt;
use crate::source::objects::Objects;
use std::sync::Arc;

/// What is looked for.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// The identity of the container, or of the store.
    pub uid: [u8; 16],
    pub is_store: bool,
    /// Where it may be, as whoever packed said it: file names, paths from the container on, addresses.
    pub hints: Vec<String>,
}

/// A base.
pub enum Base {
    Container(Arc<dyn ReadAt>),
    Objects(Arc<dyn Objects>),
}

/// A base that was found, and where.
pub struct FoundBase {
    pub base: Base,
    pub place: String,
    /// Who finds what a container lies over that is thin itself.
    pub below: Option<Arc<dyn Bases>>,
}

/// Finds bases. What it finds need not be trusted: all that is read there is compared with its hash.
pub trait Bases: Send + Sync {
    /// `None` when it is nowhere.
    fn find(&self, wanted: &Wanted) -> Result<Option<FoundBase>>;

    /// How many containers lie over each other above those that this finds.
    fn depth(&self) -> u32 {
        0
    }
}
