//! Frames of zstd: what their headers say, and their contents in pieces.

use super::damaged;
use crate::error::{Error, Kind, Result};
use zstd::zstd_safe::{DCtx, DParameter, InBuffer, OutBuffer, get_error_name};

pub const MAGIC: u32 = 0xfd2f_b528;

/// Frames that hold something else: any of sixteen numbers, then a length. lz4 has the same.
pub fn is_skippable(magic: u32) -> bool {
    magic & 0xffff_fff0 == 0x184d_2a50
}

/// Bytes of the longest header.
pub const HEADER: usize = 18;

/// Largest window as a power of two that is decoded unless more is asked for: as of zstd itself, 128 MiB.
pub const WINDOW_LOG: u32 = 27;
/// The largest that there is.
pub const WINDOW_LOG_MAX: u32 = 31;

/// What the header of a frame says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Its own length.
    pub size: usize,
    pub window: u64,
    pub content: Option<u64>,
    pub checksum: bool,
}

impl Header {
    /// Reads the bytes that a frame begins with; `None` when there are too few of them.
    pub fn read(bytes: &[u8]) -> Result<Option<Self>> {
        let Some((magic, rest)) = bytes.split_first_chunk() else { return Ok(None) };
        if u32::from_le_bytes(*magic) != MAGIC {
            return Err(damaged("this is no frame of zstd"));
        }
        let Some(flags) = rest.first() else { return Ok(None) };
        if flags & 8 != 0 {
            return Err(Error::new(Kind::Unsupported, "a frame of zstd of a kind that is not known"));
        }
        let single = flags & 0x20 != 0;
        let dictionary = [0, 1, 2, 4][usize::from(flags & 3)];
        let content = [usize::from(single), 2, 4, 8][usize::from(flags >> 6)];
        let size = 5 + usize::from(!single) + dictionary + content;
        let Some(fields) = bytes.get(5..size) else { return Ok(None) };
        let number = |bytes: &[u8]| bytes.iter().rev().fold(0, |sum, b| sum << 8 | u64::from(*b));
        let (window, fields) = fields.split_at(usize::from(!single));
        let (dictionary, content) = fields.split_at(dictionary);
        if number(dictionary) != 0 {
            return Err(Error::new(Kind::Unsupported, "zstd data need a dictionary that stands elsewhere"));
        }
        let content = match content.len() {
            0 => None,
            // Two bytes begin where one byte ends.
            2 => Some(number(content) + 256),
            _ => Some(number(content)),
        };
        let window = window.first().map_or(content.unwrap_or(0), |code| {
            let base = 1u64 << (10 + (code >> 3));
            base + base / 8 * u64::from(code & 7)
        });
        Ok(Some(Self { size, window, content, checksum: flags & 4 != 0 }))
    }
}

/// A decoder of one frame after another.
pub struct Frames {
    context: DCtx<'static>,
    window_log: u32,
}

/// What one run has done.
#[derive(Clone, Copy, Debug)]
pub struct Done {
    pub taken: usize,
    pub made: usize,
    /// All of a frame is decoded.
    pub ended: bool,
}

impl Frames {
    pub fn new(window_log: u32) -> Result<Self> {
        let window_log = window_log.clamp(10, WINDOW_LOG_MAX);
        let mut context = DCtx::create();
        context.set_parameter(DParameter::WindowLogMax(window_log)).map_err(error)?;
        Ok(Self { context, window_log })
    }

    /// Refuses a frame that takes too much memory.
    pub fn admit(&self, header: &Header) -> Result<()> {
        if header.window <= 1 << self.window_log {
            return Ok(());
        }
        let most = (1u64 << self.window_log) >> 20;
        let what = format!("zstd data need a window of {} bytes, {most} MiB are allowed", header.window);
        Err(Error::new(Kind::Limit, what).hint("compress it without --ultra and --long, or with --long=27"))
    }

    pub fn run(&mut self, input: &[u8], out: &mut [u8]) -> Result<Done> {
        let (mut input, mut out) = (InBuffer::around(input), OutBuffer::around(out));
        let hint = self.context.decompress_stream(&mut out, &mut input).map_err(error)?;
        Ok(Done { taken: input.pos(), made: out.pos(), ended: hint == 0 })
    }

    pub fn weight(&self) -> usize {
        self.context.sizeof()
    }
}

fn error(code: usize) -> Error {
    match get_error_name(code) {
        "Allocation error : not enough memory" => Error::new(Kind::System, "not enough memory for the window of zstd"),
        name => damaged(format!("zstd: {name}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_says_what_it_says() {
        let read = |bytes: &[u8]| Header::read(bytes).unwrap();
        let single = [0x28, 0xb5, 0x2f, 0xfd, 0x24, 5];
        let header = Header { size: 6, window: 5, content: Some(5), checksum: true };
        assert_eq!(read(&single), Some(header));
        assert_eq!((read(&single[..5]), read(&single[..3])), (None, None));
        let two = [0x28, 0xb5, 0x2f, 0xfd, 0x40, 0x59, 1, 0];
        let header = Header { size: 8, window: (1 << 21) + (1 << 18), content: Some(257), checksum: false };
        assert_eq!(read(&two), Some(header));
        let none = [0x28, 0xb5, 0x2f, 0xfd, 0, 0xa8];
        assert_eq!(read(&none).map(|h| (h.window, h.content)), Some((1 << 31, None)));
        let with_dictionary = [0x28, 0xb5, 0x2f, 0xfd, 1, 0, 7];
        assert_eq!(Header::read(&with_dictionary).unwrap_err().kind(), Kind::Unsupported);
        assert_eq!(Header::read(b"abcdefgh").unwrap_err().kind(), Kind::Damaged);
    }
}
