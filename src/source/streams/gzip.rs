//! gzip (RFC 1952): members one behind the other, each a deflate stream with a header and a check.
//!
//! Behind a whole member there may be another one, or zeros up to a full block of a tape, or bytes that have nothing to do
//! with it: these are left alone, as gzip(1) does. Each member is a point for free; files of bgzip have one for every
//! 64 KiB.

use super::deflate::{Blocks, Check, Place};
use super::input::Input;
use crate::error::{Error, Kind, Result};
use crate::source::{Decoder, Point, ReadAt, Stream};
use crc32fast::Hasher;
use std::sync::Arc;

const MAGIC: [u8; 2] = [0x1f, 0x8b];

/// Bytes of a name or a comment in a header.
const TEXT: usize = 64 << 10;

const HEADER_CRC: u8 = 2;
const EXTRA: u8 = 4;
const NAME: u8 = 8;
const COMMENT: u8 = 16;
const ENCRYPTED: u8 = 32;
const RESERVED: u8 = 0xc0;

/// A file of gzip.
pub struct Gzip {
    source: Arc<dyn ReadAt>,
    header: Header,
}

impl Gzip {
    /// # Errors
    /// `Damaged` when it does not begin with a member.
    pub fn new(source: Arc<dyn ReadAt>) -> Result<Self> {
        let header = Header::read(&mut Input::new(source.clone(), 0)?)?;
        Ok(Self { source, header })
    }

    /// What the file was called before, as the first member says. It may be anything, a path as well.
    pub fn name(&self) -> Option<&[u8]> {
        self.header.name.as_deref()
    }

    /// When it was last changed, in seconds since 1970, as the first member says.
    pub fn mtime(&self) -> Option<u32> {
        Some(self.header.mtime).filter(|seconds| *seconds != 0)
    }
}

impl Stream for Gzip {
    fn start(&self, from: Option<&Point>) -> Result<Box<dyn Decoder>> {
        let place = from.map(Place::read).transpose()?;
        let inside = place.as_ref().is_some_and(|p| !p.front);
        let blocks = Blocks::new(self.source.clone(), 0, Check::Crc(Hasher::new()), place)?;
        Ok(Box::new(GzipDecoder { blocks, state: if inside { State::Member } else { State::Header } }))
    }

    fn len(&self) -> Option<u64> {
        None
    }
}

enum State {
    Header,
    Member,
    End,
}

struct GzipDecoder {
    blocks: Blocks<false>,
    state: State,
}

impl Decoder for GzipDecoder {
    fn read(&mut self, into: &mut [u8]) -> Result<usize> {
        while !into.is_empty() {
            match self.state {
                State::Header => self.header()?,
                State::Member => match self.blocks.read(into)? {
                    0 => self.trailer()?,
                    n => return Ok(n),
                },
                State::End => break,
            }
        }
        Ok(0)
    }

    fn weight(&self) -> usize {
        self.blocks.weight()
    }

    fn point(&mut self, apart: u64) -> Option<Point> {
        self.blocks.point(apart)
    }
}

impl GzipDecoder {
    fn header(&mut self) -> Result<()> {
        self.blocks.mark_front();
        Header::read(&mut self.blocks.input)?;
        self.blocks.restart();
        self.state = State::Member;
        Ok(())
    }

    fn trailer(&mut self) -> Result<()> {
        let crc = u32::from_le_bytes(self.blocks.input.array()?);
        let len = u32::from_le_bytes(self.blocks.input.array()?);
        self.blocks.expect(crc)?;
        if len != self.blocks.len as u32 {
            return Err(self.blocks.input.damaged("a member has not the length that it says"));
        }
        let rest = self.blocks.input.ahead(2)?;
        if rest.starts_with(&MAGIC) {
            self.state = State::Header;
            return Ok(());
        }
        if rest.iter().any(|b| *b != 0) {
            log::warn!("what stands behind the gzip data, from byte {} on, is ignored", self.blocks.input.offset());
        }
        self.state = State::End;
        Ok(())
    }
}

/// What a member says of itself.
struct Header {
    name: Option<Vec<u8>>,
    mtime: u32,
}

impl Header {
    fn read(input: &mut Input) -> Result<Self> {
        let mut bytes = Bytes { input, crc: Hasher::new() };
        let [m0, m1, method, flags, t0, t1, t2, t3, _, _] = bytes.array()?;
        if [m0, m1] != MAGIC {
            return Err(bytes.input.damaged("this is no gzip data"));
        }
        if method != 8 || flags & (ENCRYPTED | RESERVED) != 0 {
            return Err(Error::new(Kind::Unsupported, "gzip data of a kind that is not known"));
        }
        if flags & EXTRA != 0 {
            let len = u16::from_le_bytes(bytes.array()?);
            for _ in 0..len {
                bytes.array::<1>()?;
            }
        }
        let name = if flags & NAME != 0 { Some(bytes.text()?) } else { None };
        if flags & COMMENT != 0 {
            bytes.text()?;
        }
        let found = bytes.crc.clone().finalize() as u16;
        if flags & HEADER_CRC != 0 && u16::from_le_bytes(bytes.array()?) != found {
            return Err(bytes.input.damaged("a header of gzip fails its check"));
        }
        Ok(Self { name: name.filter(|n| !n.is_empty()), mtime: u32::from_le_bytes([t0, t1, t2, t3]) })
    }
}

/// The bytes of a header, with the sum over them.
struct Bytes<'a> {
    input: &'a mut Input,
    crc: Hasher,
}

impl Bytes<'_> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let bytes = self.input.array()?;
        self.crc.update(&bytes);
        Ok(bytes)
    }

    /// What stands before a zero.
    fn text(&mut self) -> Result<Vec<u8>> {
        let mut text = Vec::new();
        loop {
            match self.array()? {
                [0] => return Ok(text),
                [_] if text.len() == TEXT => {
                    return Err(Error::new(
                        Kind::Limit,
                        format!("a name in a gzip header is longer than {TEXT} bytes"),
                    ));
                }
                [byte] => text.push(byte),
            }
        }
    }
}
