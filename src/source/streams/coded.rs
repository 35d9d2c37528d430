//! What liblzma decodes from a source.

use super::input::Input;
use crate::codec::lzma::Coder;
use crate::error::Result;

/// Bytes that are given to a decoder besides those of the source.
#[derive(Default)]
struct Apart {
    bytes: Vec<u8>,
    used: usize,
}

impl Apart {
    fn left(&self) -> &[u8] {
        &self.bytes[self.used..]
    }
}

enum Part {
    Head,
    Source,
    Tail,
    Nowhere,
}

/// A decoder that is given a head, then the source as far as it is to go, then a tail.
pub(super) struct Coded {
    coder: Coder,
    head: Apart,
    pub input: Input,
    tail: Apart,
    ended: bool,
}

impl Coded {
    pub fn new(coder: Coder, input: Input) -> Self {
        Self { coder, head: Apart::default(), input, tail: Apart::default(), ended: false }
    }

    /// Sets what comes before and behind the source.
    pub fn between(mut self, head: Vec<u8>, tail: Vec<u8>) -> Self {
        self.head.bytes = head;
        self.tail.bytes = tail;
        self
    }

    /// The next decoded bytes, 0 at the end of what the format is.
    pub fn read(&mut self, into: &mut [u8]) -> Result<usize> {
        self.read_and(into, |_| {})
    }

    /// The same, and `see` is shown what is taken of the source.
    pub fn read_and(&mut self, into: &mut [u8], mut see: impl FnMut(&[u8])) -> Result<usize> {
        while !self.ended && !into.is_empty() {
            let part = self.part()?;
            let bytes = match part {
                Part::Head => self.head.left(),
                Part::Source => self.input.at_hand(),
                Part::Tail => self.tail.left(),
                Part::Nowhere => &[],
            };
            let last = matches!(part, Part::Nowhere);
            let done = self.coder.run(bytes, into, last).map_err(|e| self.input.blame(e))?;
            match part {
                Part::Head => self.head.used += done.taken,
                Part::Tail => self.tail.used += done.taken,
                Part::Source => {
                    see(&self.input.at_hand()[..done.taken]);
                    self.input.used(done.taken);
                }
                Part::Nowhere if done.made == 0 && !done.ended => return Err(self.input.torn()),
                Part::Nowhere => {}
            }
            self.ended = done.ended;
            if done.made > 0 {
                return Ok(done.made);
            }
        }
        Ok(0)
    }

    fn part(&mut self) -> Result<Part> {
        Ok(match () {
            () if !self.head.left().is_empty() => Part::Head,
            () if !self.input.some()?.is_empty() => Part::Source,
            () if !self.tail.left().is_empty() => Part::Tail,
            () => Part::Nowhere,
        })
    }

    pub fn weight(&self) -> usize {
        self.input.weight() + self.head.bytes.capacity() + self.tail.bytes.capacity()
    }
}

/// What a dictionary occupies when so many bytes are decoded with it: all of it is asked for, and no more than that is used.
pub(super) fn occupied(dictionary: u64, len: Option<u64>) -> usize {
    let used = dictionary.min(len.unwrap_or(u64::MAX));
    usize::try_from(used).unwrap_or(usize::MAX)
}
