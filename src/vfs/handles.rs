//! Open files and directories.
//!
//! A tree that cannot change needs no handles: whoever reads node 7 reads the same bytes, so what is open is kept by
//! node, in a bounded table, and the handle is always [`STATELESS`]. A kernel that is told so stops sending open and
//! release at all. In a tree that can change, each open has its own entry, and keeps what it saw at open.
//!
//! ```text
//!   frozen tree    node   ──► Recent<Node, OpenFile>       the last 1024, made again when needed
//!   living tree    handle ──► HashMap<u64, Arc<Open>>      until release
//! ```

use super::listing::Listing;
use crate::error::{Error, Kind, Result};
use crate::pool::lock;
use crate::source::ReadAt;
use crate::source::pace::Pace;
use crate::tree::Node;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

/// The handle of everything in a tree that cannot change.
pub const STATELESS: u64 = 0;

/// One file, opened: its bytes are chosen once.
pub struct OpenFile {
    pub bytes: Arc<dyn ReadAt>,
    /// The size that was told to the kernel, where that cannot change.
    pub promised: Option<u64>,
    /// Length of `bytes` at open, where read-ahead ends.
    len: u64,
    pace: Mutex<Pace>,
}

impl OpenFile {
    pub fn new(bytes: Arc<dyn ReadAt>, promised: Option<u64>) -> Result<Self> {
        let len = bytes.len()?;
        Ok(Self { bytes, promised, len, pace: Mutex::default() })
    }

    /// Reads, and announces what comes next. Fewer bytes than asked for mean the end of the file.
    ///
    /// # Errors
    /// `Damaged` when the bytes end before the promised size: a kernel would show zeros instead of what is missing.
    pub fn read(&self, at: u64, into: &mut [u8], read_ahead: u64) -> Result<usize> {
        self.announce(at, into.len() as u64, read_ahead);
        let got = self.bytes.read_at(at, into)?;
        let Some(size) = self.promised else { return Ok(got) };
        let rest = size.saturating_sub(at).min(into.len() as u64) as usize;
        if got < rest {
            let end = at + got as u64;
            return Err(Error::new(Kind::Damaged, format!("the file ends at {end} and should have {size} bytes")));
        }
        Ok(rest)
    }

    fn announce(&self, at: u64, len: u64, read_ahead: u64) {
        if read_ahead == 0 {
            return;
        }
        let read = at..at.saturating_add(len).min(self.len).max(at);
        let next = lock(&self.pace).note(read, self.len, read_ahead);
        if let Some(range) = next {
            self.bytes.will_read(range);
        }
    }
}

/// What a handle stands for.
pub enum Open {
    File(OpenFile),
    /// A file of a tree that takes changes.
    Living(Node, OpenFile),
    /// The listing is read at the first page, and again at each rewind.
    Dir(Mutex<Option<Arc<Listing>>>),
}

/// Handles of a tree that can change.
#[derive(Default)]
pub struct Handles {
    open: RwLock<Table>,
}

#[derive(Default)]
struct Table {
    last: u64,
    entries: HashMap<u64, Arc<Open>>,
}

impl Handles {
    pub fn insert(&self, open: Open) -> u64 {
        let mut table = self.open.write().unwrap_or_else(PoisonError::into_inner);
        table.last += 1;
        let handle = table.last;
        table.entries.insert(handle, Arc::new(open));
        handle
    }

    pub fn get(&self, handle: u64) -> Result<Arc<Open>> {
        let table = self.open.read().unwrap_or_else(PoisonError::into_inner);
        table
            .entries
            .get(&handle)
            .cloned()
            .ok_or_else(|| Error::new(Kind::Invalid, format!("handle {handle} is not open")))
    }

    pub fn remove(&self, handle: u64) {
        self.open.write().unwrap_or_else(PoisonError::into_inner).entries.remove(&handle);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Memory;

    #[test]
    fn bytes_that_end_too_early_are_an_error_and_not_zeros() {
        let file = OpenFile::new(Arc::new(Memory::new(vec![7; 100])), Some(150)).unwrap();
        let mut into = [0; 64];
        assert_eq!(file.read(0, &mut into, 0).unwrap(), 64);
        assert_eq!(file.read(90, &mut into, 0).unwrap_err().kind(), Kind::Damaged);
    }

    #[test]
    fn bytes_behind_the_promised_size_are_not_shown() {
        let file = OpenFile::new(Arc::new(Memory::new(vec![7; 100])), Some(50)).unwrap();
        assert_eq!(file.read(0, &mut [0; 64], 0).unwrap(), 50);
        assert_eq!(file.read(60, &mut [0; 64], 0).unwrap(), 0);
    }

    #[test]
    fn a_released_handle_is_gone_and_its_number_not_given_again() {
        let handles = Handles::default();
        let first = handles.insert(Open::Dir(Mutex::default()));
        handles.remove(first);
        assert!(handles.get(first).is_err());
        assert!(handles.insert(Open::Dir(Mutex::default())) > first && first != STATELESS);
    }
}
