//! What has a cursor, as a [`Store`]: a file that is being written, or the parts of one.

use super::{ReadAt, Store};
use crate::error::{Error, Result};
use crate::pool::lock;
use std::io::{Read, Seek, SeekFrom, Write};
use std::sync::{Mutex, MutexGuard};

/// Bytes behind a cursor. One reads or writes at a time.
pub struct Seeking<'a, T: ?Sized>(Mutex<&'a mut T>);

impl<'a, T: Read + Write + Seek + Send + ?Sized> Seeking<'a, T> {
    pub fn new(inner: &'a mut T) -> Self {
        Self(Mutex::new(inner))
    }

    fn at(&self, at: u64) -> Result<MutexGuard<'_, &'a mut T>> {
        let mut inner = lock(&self.0);
        inner.seek(SeekFrom::Start(at)).map_err(failed)?;
        Ok(inner)
    }
}

fn failed(e: std::io::Error) -> Error {
    Error::io(e, "cannot read or write the new archive")
}

impl<T: Read + Write + Seek + Send + ?Sized> ReadAt for Seeking<'_, T> {
    fn len(&self) -> Result<u64> {
        lock(&self.0).seek(SeekFrom::End(0)).map_err(failed)
    }

    fn read_at(&self, at: u64, into: &mut [u8]) -> Result<usize> {
        let (mut inner, mut got) = (self.at(at)?, 0);
        while got < into.len() {
            match inner.read(&mut into[got..]).map_err(failed)? {
                0 => break,
                n => got += n,
            }
        }
        Ok(got)
    }
}

impl<T: Read + Write + Seek + Send + ?Sized> Store for Seeking<'_, T> {
    fn write_at(&self, at: u64, bytes: &[u8]) -> Result<()> {
        self.at(at)?.write_all(bytes).map_err(failed)
    }

    fn set_len(&self, _len: u64) -> Result<()> {
        Err(Error::new(crate::error::Kind::Unsupported, "what is being written is not cut off"))
    }

    fn sync(&self) -> Result<()> {
        lock(&self.0).flush().map_err(failed)
    }
}
