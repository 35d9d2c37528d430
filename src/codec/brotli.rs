//! Brotli (RFC 7932), decoded in pieces.

use super::damaged;
use crate::error::{Error, Kind, Result};
use brotli_decompressor::{BrotliDecompressStream, BrotliResult, BrotliState, StandardAlloc};

/// The largest window as a power of two: what `brotli --large_window` makes may be larger, the format itself ends at 24.
const WINDOW_LOG: u8 = 27;

/// What a decoder takes besides its window: tables of codes, mostly.
const BESIDES: usize = 256 << 10;

type State = BrotliState<StandardAlloc, StandardAlloc, StandardAlloc>;

/// A decoder of one stream.
pub struct Brotli {
    state: Box<State>,
    window: usize,
}

/// What one run has done.
#[derive(Clone, Copy, Debug)]
pub struct Done {
    pub taken: usize,
    pub made: usize,
    pub ended: bool,
}

impl Brotli {
    /// `head` is what the stream begins with: two bytes, if it has so many.
    pub fn new(head: &[u8]) -> Result<Self> {
        let log = window_log(head);
        if log > WINDOW_LOG {
            let what = format!("brotli data need a window of 2^{log} bytes, 2^{WINDOW_LOG} are allowed");
            return Err(Error::new(Kind::Limit, what).hint("compress it without --large_window, or with a smaller one"));
        }
        let new = || StandardAlloc::default();
        Ok(Self { state: Box::new(BrotliState::new(new(), new(), new())), window: 1 << log })
    }

    pub fn run(&mut self, input: &[u8], out: &mut [u8]) -> Result<Done> {
        let (mut taken, mut made, mut total) = (0, 0, 0);
        let (mut left, mut room) = (input.len(), out.len());
        let state = &mut *self.state;
        let result = BrotliDecompressStream(&mut left, &mut taken, input, &mut room, &mut made, out, &mut total, state);
        match result {
            BrotliResult::ResultFailure => Err(damaged("brotli data cannot be decoded")),
            result => Ok(Done { taken, made, ended: matches!(result, BrotliResult::ResultSuccess) }),
        }
    }

    pub fn weight(&self) -> usize {
        size_of::<State>() + BESIDES + self.window
    }
}

/// The window that a stream asks for: one, four or seven bits, or fourteen of a large one.
fn window_log(head: &[u8]) -> u8 {
    match head {
        [0x11 | 0x91, second, ..] => second & 0x3f,
        [first, ..] if first & 1 == 0 => 16,
        [first, ..] if first & 0xe > 0 => 17 + (first >> 1 & 7),
        [first, ..] if first >> 4 & 7 == 0 => 17,
        [first, ..] => 8 + (first >> 4 & 7),
        [] => 0,
    }
}
