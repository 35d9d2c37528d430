//! A local file, read with pread. Never mapped: a mapped file on a failing disk or a lost share kills the process with
//! SIGBUS, a pread returns an error for the one read.

use super::{ReadAt, Store};
use crate::error::{Error, Result};
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// A file of the local system, at whatever offset one likes.
#[derive(Debug)]
pub struct FileSource {
    file: File,
}

impl FileSource {
    pub fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(|e| Error::io(e, format!("cannot open {}", path.display())))?;
        Ok(Self { file })
    }

    pub fn new(file: File) -> Self {
        Self { file }
    }
}

impl ReadAt for FileSource {
    fn len(&self) -> Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn read_at(&self, at: u64, into: &mut [u8]) -> Result<usize> {
        let mut done = 0;
        while done < into.len() {
            match self.file.read_at(&mut into[done..], at + done as u64) {
                Ok(0) => break,
                Ok(n) => done += n,
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) => return Err(Error::io(e, format!("cannot read at {at}"))),
            }
        }
        Ok(done)
    }

    fn will_read(&self, range: Range<u64>) {
        let len = std::num::NonZeroU64::new(range.end.saturating_sub(range.start));
        // A hint: a file system that has no use for it says so, and nothing is lost.
        let _ = rustix::fs::fadvise(&self.file, range.start, len, rustix::fs::Advice::WillNeed);
    }

    fn next_data(&self, at: u64) -> Result<Option<Range<u64>>> {
        let len = self.len()?;
        if at >= len {
            return Ok(None);
        }
        let start = match rustix::fs::seek(&self.file, rustix::fs::SeekFrom::Data(at)) {
            Ok(start) => start,
            Err(rustix::io::Errno::NXIO) => return Ok(None),
            // A file system without SEEK_DATA has no holes to tell of.
            Err(_) => return Ok(Some(at..len)),
        };
        let end = rustix::fs::seek(&self.file, rustix::fs::SeekFrom::Hole(start)).unwrap_or(len);
        Ok(Some(start..end))
    }
}

impl Store for FileSource {
    fn write_at(&self, at: u64, bytes: &[u8]) -> Result<()> {
        Ok(self.file.write_all_at(bytes, at)?)
    }

    fn set_len(&self, len: u64) -> Result<()> {
        Ok(self.file.set_len(len)?)
    }

    fn sync(&self) -> Result<()> {
        Ok(self.file.sync_data()?)
    }
}
