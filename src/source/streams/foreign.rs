//! Decoders of other libraries that read by themselves, and what they read from when that is a decoder of ours.

use super::input::unwrap;
use crate::error::{Error, Kind, Result};
use crate::source::Decoder;
use std::io::{self, Read};

/// A reader as a decoder.
pub(super) struct Foreign<R> {
    reader: R,
    what: &'static str,
    weight: usize,
}

impl<R: Read + Send> Foreign<R> {
    /// `what` is its name for messages, `weight` the memory that it takes.
    pub fn new(reader: R, what: &'static str, weight: usize) -> Self {
        Self { reader, what, weight }
    }
}

impl<R: Read + Send> Decoder for Foreign<R> {
    fn read(&mut self, into: &mut [u8]) -> Result<usize> {
        self.reader.read(into).map_err(|e| error(e, self.what))
    }

    fn weight(&self) -> usize {
        self.weight
    }
}

/// The error of such a reader: of what it reads from, if that is ours, else of the data.
pub(super) fn error(e: io::Error, what: &str) -> Error {
    match unwrap(e) {
        Ok(ours) => ours,
        Err(e) if e.kind() == io::ErrorKind::OutOfMemory => Error::new(Kind::Limit, format!("{what}: {e}")),
        Err(e) => Error::new(Kind::Damaged, format!("{what}: {e}")),
    }
}

/// A decoder as a reader.
pub(super) struct Feed(pub Box<dyn Decoder>);

impl Read for Feed {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.0.read(into).map_err(io::Error::other)
    }
}
