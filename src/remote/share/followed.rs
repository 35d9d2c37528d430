//! A file of a server that is open while it is renamed there.

use super::{Inner, ShareTree};
use crate::error::{Kind as ErrorKind, Result};
use crate::pool::lock;
use crate::source::ReadAt;
use crate::tree::Node;
use std::ops::Range;
use std::sync::{Arc, Mutex};

/// A file that is open, and is found again when somebody here has renamed it or a directory in which it is.
pub struct Followed {
    inner: Arc<Inner>,
    node: u64,
    len: u64,
    /// Where it was found, and how it is read there.
    found: Mutex<(String, Arc<dyn ReadAt>)>,
}

impl Followed {
    /// A file that was found at this path.
    pub fn new(tree: &ShareTree, node: Node, bytes: Arc<dyn ReadAt>, len: u64, path: String) -> Self {
        Self { inner: tree.0.clone(), node: node.0, len, found: Mutex::new((path, bytes)) }
    }

    fn bytes(&self) -> Arc<dyn ReadAt> {
        lock(&self.found).1.clone()
    }

    /// The same file where it is now. Nothing when it was not renamed, or is another one.
    fn elsewhere(&self) -> Result<Option<Arc<dyn ReadAt>>> {
        let path = self.inner.when_still(self.node)?.path(self.node)?;
        let (path, address, object) = self.inner.open_at(self.node, path)?;
        if lock(&self.found).0 == path || object.len != self.len {
            return Ok(None);
        }
        let bytes = (self.inner.opener)(&address, object)?;
        *lock(&self.found) = (path, bytes.clone());
        Ok(Some(bytes))
    }
}

impl ReadAt for Followed {
    fn len(&self) -> Result<u64> {
        Ok(self.len)
    }

    fn read_at(&self, at: u64, into: &mut [u8]) -> Result<usize> {
        match self.bytes().read_at(at, into) {
            Err(e) if e.kind() == ErrorKind::NotFound => match self.elsewhere()? {
                Some(bytes) => bytes.read_at(at, into),
                None => Err(e),
            },
            read => read,
        }
    }

    fn will_read(&self, range: Range<u64>) {
        self.bytes().will_read(range);
    }

    fn is_changed(&self) -> bool {
        self.bytes().is_changed()
    }
}
