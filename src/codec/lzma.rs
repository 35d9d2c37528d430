//! LZMA in all its clothes, decoded in pieces by liblzma: xz, lzip, the old `.lzma`, bare LZMA2.

use super::damaged;
use crate::error::{Error, Kind, Result};
use liblzma::stream::{Action, CONCATENATED, Error as Cause, Filters, Status, Stream};

/// The largest dictionary. xz makes none that is larger; that is also what most memory a decoder can be made to take.
pub const DICTIONARY: u64 = 1536 << 20;

/// What a decoder takes besides its dictionary.
pub const BESIDES: usize = 128 << 10;

/// For liblzma, which counts a little of its own.
const MEMORY: u64 = DICTIONARY + (32 << 20);

/// The smallest dictionary that liblzma makes.
const SMALLEST: u64 = 4096;

/// A decoder of one of the formats.
pub struct Coder(Stream);

/// What one run has done.
#[derive(Clone, Copy, Debug)]
pub struct Done {
    pub taken: usize,
    pub made: usize,
    pub ended: bool,
}

impl Coder {
    /// One stream of xz, or as many as there are.
    pub fn xz(all: bool) -> Result<Self> {
        Stream::new_stream_decoder(MEMORY, if all { CONCATENATED } else { 0 }).map(Self).map_err(error)
    }

    /// Members of lzip.
    pub fn lzip() -> Result<Self> {
        Stream::new_lzip_decoder(MEMORY, CONCATENATED).map(Self).map_err(error)
    }

    /// The old format, which begins with [`alone_header`].
    pub fn alone() -> Result<Self> {
        Stream::new_lzma_decoder(MEMORY).map(Self).map_err(error)
    }

    /// LZMA2 without anything around it, whose dictionary [`lzma2_dictionary`] tells.
    pub fn lzma2(property: u8) -> Result<Self> {
        check_dictionary(lzma2_dictionary(property)?)?;
        let mut filters = Filters::new();
        filters.lzma2_properties(&[property]).map_err(error)?;
        Stream::new_raw_decoder(&filters).map(Self).map_err(error)
    }

    /// Decodes on. `last` says that nothing follows the input, which is empty then.
    pub fn run(&mut self, input: &[u8], out: &mut [u8], last: bool) -> Result<Done> {
        let (taken, made) = (self.0.total_in(), self.0.total_out());
        let action = if last { Action::Finish } else { Action::Run };
        let status = self.0.process(input, out, action).map_err(error)?;
        let (taken, made) = (self.0.total_in() - taken, self.0.total_out() - made);
        Ok(Done { taken: taken as usize, made: made as usize, ended: status == Status::StreamEnd })
    }
}

fn error(cause: Cause) -> Error {
    match cause {
        Cause::MemLimit => too_large(),
        Cause::Mem => Error::new(Kind::System, "there is not enough memory for the dictionary of LZMA"),
        Cause::Options => Error::new(Kind::Unsupported, "LZMA with options that are not known"),
        Cause::Format => damaged("no header of LZMA"),
        _ => damaged("LZMA cannot be decoded"),
    }
}

fn too_large() -> Error {
    let most = DICTIONARY >> 20;
    Error::new(Kind::Limit, format!("a dictionary of LZMA is larger than {most} MiB"))
        .hint("compress it with a smaller dictionary; it would not be decoded slower")
}

/// Refuses a dictionary that is larger than anybody needs.
pub fn check_dictionary(len: u64) -> Result<()> {
    if len > DICTIONARY { Err(too_large()) } else { Ok(()) }
}

/// Whether the first property asks for more bits of context than the usual decoder takes.
pub fn is_wide(property: u8) -> bool {
    property < 225 && property % 9 + property / 9 % 5 > 4
}

/// Bytes of the model of such data.
pub fn wide_model(property: u8) -> usize {
    (0x600 << (property % 9 + property / 9 % 5)) * size_of::<u16>()
}

/// The dictionary that the property of LZMA2 stands for.
pub fn lzma2_dictionary(property: u8) -> Result<u64> {
    match property {
        0..40 => Ok((2 | u64::from(property & 1)) << (property / 2 + 11)),
        40 => Ok(u64::from(u32::MAX)),
        _ => Err(Error::new(Kind::Unsupported, "LZMA2 with options that are not known")),
    }
}

/// The property of LZMA2 with the smallest dictionary in which all of `len` bytes are within reach: at most this one.
pub fn lzma2_property(property: u8, len: Option<u64>) -> u8 {
    let enough = |p: &u8| len.is_some_and(|len| lzma2_dictionary(*p).is_ok_and(|dict| dict >= len));
    (0..property).find(enough).unwrap_or(property)
}

/// The header of the old format, from the five properties of LZMA and the decoded length. The dictionary need not be larger
/// than what is decoded.
pub fn alone_header(properties: [u8; 5], len: Option<u64>) -> [u8; 13] {
    let [first, dictionary @ ..] = properties;
    let dictionary = u32::from_le_bytes(dictionary);
    let reach = len.unwrap_or(u64::MAX).max(SMALLEST);
    let dictionary = dictionary.min(u32::try_from(reach).unwrap_or(u32::MAX));
    let mut header = [first; 13];
    header[1..5].copy_from_slice(&dictionary.to_le_bytes());
    header[5..].copy_from_slice(&len.unwrap_or(u64::MAX).to_le_bytes());
    header
}

/// What follows a place in LZMA2 data.
enum Next {
    Control,
    /// Bytes of a chunk header, of which so many are still to come.
    Header {
        control: u8,
        bytes: [u8; 4],
        have: usize,
        want: usize,
    },
    /// Bytes of a chunk.
    Body(u32),
}

/// Follows the chunks of LZMA2 without decoding them, and tells where the dictionary is emptied: there decoding can begin.
pub struct Chunks {
    next: Next,
    /// Offset of the next byte, and position in what the chunks before decode to.
    offset: u64,
    at: u64,
}

impl Chunks {
    pub fn new(offset: u64, at: u64) -> Self {
        Self { next: Next::Control, offset, at }
    }

    /// Goes over some more bytes: `reset` is given the offset and the position of each such chunk.
    pub fn follow(&mut self, mut bytes: &[u8], mut reset: impl FnMut(u64, u64)) {
        while let Some(first) = bytes.first() {
            let mut used = 1;
            match &mut self.next {
                Next::Control => {
                    if *first == 1 || *first >= 0xe0 {
                        reset(self.offset, self.at);
                    }
                    // Size, size of what is stored, properties; or the size alone; or the end, with nothing behind it.
                    let want = match *first {
                        0xc0.. => 5,
                        0x80.. => 4,
                        1 | 2 => 2,
                        _ => return,
                    };
                    self.next = Next::Header { control: *first, bytes: [0; 4], have: 0, want };
                }
                Next::Header { control, bytes, have, want } => {
                    if *have < 4 {
                        bytes[*have] = *first;
                    }
                    *have += 1;
                    if have == want {
                        let (stored, len) = sizes(*control, *bytes);
                        self.at = self.at.saturating_add(u64::from(len));
                        self.next = Next::Body(stored);
                    }
                }
                Next::Body(left) => {
                    used = bytes.len().min(*left as usize);
                    *left -= used as u32;
                    if *left == 0 {
                        self.next = Next::Control;
                    }
                }
            }
            self.offset += used as u64;
            bytes = &bytes[used..];
        }
    }
}

/// Stored and decoded bytes of a chunk, both at least 1.
fn sizes(control: u8, [a, b, c, d]: [u8; 4]) -> (u32, u32) {
    let len = u32::from(u16::from_be_bytes([a, b])) + 1;
    if control < 0x80 {
        return (len, len);
    }
    (u32::from(u16::from_be_bytes([c, d])) + 1, len + (u32::from(control & 0x1f) << 16))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dictionary_is_as_large_as_it_need_be() {
        assert_eq!(lzma2_dictionary(0).unwrap(), 4096);
        assert_eq!(lzma2_dictionary(22).unwrap(), 8 << 20);
        assert_eq!(lzma2_property(22, None), 22);
        assert_eq!(lzma2_property(22, Some(100)), 0);
        assert_eq!(lzma2_property(22, Some(1 << 20)), 16);
        assert_eq!(lzma2_property(22, Some(1 << 40)), 22);
        assert!(lzma2_dictionary(41).is_err());
        assert_eq!(Coder::lzma2(40).err().map(|e| e.kind()), Some(Kind::Limit));
        assert_eq!(alone_header([0x5d, 0, 0, 0x80, 0], Some(5)), [0x5d, 0, 0x10, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(alone_header([0x5d, 0, 0, 0x80, 0], None)[..5], [0x5d, 0, 0, 0x80, 0]);
    }
}
