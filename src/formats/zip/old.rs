//! The methods of the eighties, before deflate: shrink, reduce, implode. The library `zip` undoes them.
//!
//! ```text
//!   header made here │ packed bytes      is an archive of one entry, which the library reads from its front
//! ```

use super::entry::Member;
use super::layout::{LOCAL, Local};
use crate::error::{Error, Kind, Result};
use crate::source::{Decoder, Point, ReadAt, Stream};
use std::io::{Cursor, Read};
use std::sync::Arc;
use zerocopy::IntoBytes;
use zerocopy::little_endian::{U16, U32};

/// Packed and unpacked bytes of an entry: it is decoded as a whole, and its makers had disks of 32 MiB.
const MOST: u64 = 64 << 20;

/// Two bits of the flags that tell of implode how it is to be undone.
const IMPLODE_FLAGS: u16 = 6;

/// Whether a method is one of these.
pub fn is_old(method: u16) -> bool {
    (1..=6).contains(&method)
}

/// An entry that is compressed so.
pub struct Old {
    packed: Arc<dyn ReadAt>,
    header: Local,
    size: u64,
}

impl Old {
    /// # Errors
    /// `Limit` when it is larger than anybody made one.
    pub fn new(member: &Member, packed: Arc<dyn ReadAt>, size: u64) -> Result<Self> {
        let len = packed.len()?;
        if len.max(size) > MOST {
            let what = format!("a file of {} bytes in a method of the eighties", len.max(size));
            return Err(Error::new(Kind::Limit, what));
        }
        let header = Local {
            signature: LOCAL,
            needed: U16::new(11),
            flags: U16::new(member.flags & IMPLODE_FLAGS),
            method: U16::new(member.method),
            time: U16::ZERO,
            date: U16::ZERO,
            crc: U32::new(member.crc),
            packed: U32::new(len as u32),
            size: U32::new(size as u32),
            name_len: U16::new(NAME.len() as u16),
            extra_len: U16::ZERO,
        };
        Ok(Self { packed, header, size })
    }
}

const NAME: &[u8] = b"x";

impl Stream for Old {
    fn start(&self, _from: Option<&Point>) -> Result<Box<dyn Decoder>> {
        let mut packed = vec![0; self.header.packed.get() as usize];
        self.packed.read_exact_at(0, &mut packed)?;
        let mut archive = Cursor::new([self.header.as_bytes(), NAME, &packed].concat());
        let damaged = |e: &dyn std::fmt::Display| Error::new(Kind::Damaged, e.to_string());
        let mut bytes = Vec::new();
        if let Some(entry) = zip::read::read_zipfile_from_stream(&mut archive).map_err(|e| damaged(&e))? {
            entry.take(self.size + 1).read_to_end(&mut bytes).map_err(|e| damaged(&e))?;
        }
        Ok(Box::new(Whole(Cursor::new(bytes))))
    }

    fn len(&self) -> Option<u64> {
        Some(self.size)
    }
}

/// All of it, decoded.
struct Whole(Cursor<Vec<u8>>);

impl Decoder for Whole {
    fn read(&mut self, into: &mut [u8]) -> Result<usize> {
        self.0.read(into).map_err(|e| Error::io(e, "cannot read memory"))
    }

    fn weight(&self) -> usize {
        self.0.get_ref().len()
    }
}
