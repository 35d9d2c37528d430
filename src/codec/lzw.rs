//! The LZW of `compress`: codes of 9 to 16 bits that get wider as the table grows.
//!
//! Codes come in groups of eight, which fill as many bytes as a code has bits. Where the width changes, the rest of a group
//! is not used; compress wrote whole groups.

use super::bits::Low;
use super::{Supply, damaged};
use crate::error::{Error, Kind, Result};

pub const MAGIC: [u8; 2] = [0x1f, 0x9d];

/// Codes of the widest table.
const CODES: usize = 1 << 16;

const FIRST_WIDTH: u32 = 9;

/// Decoded bytes after which they are handed out. One code can stand for nearly as many as there are codes.
const PIECE: usize = 16 << 10;

/// In block mode, the code that empties the table.
const CLEAR: usize = 256;

/// A decoder.
pub struct Lzw {
    bits: Low,
    widest: u32,
    blocks: bool,
    width: u32,
    /// Codes read at this width.
    read: u32,
    /// Bits that are left out before the next code.
    skip: u32,
    /// The next code to be given.
    next: usize,
    before: Option<usize>,
    table: Vec<Entry>,
    made: Vec<u8>,
    fetched: usize,
    cleared: bool,
}

/// What a code stands for: what another one stands for, and a byte.
#[derive(Clone, Copy, Default)]
struct Entry {
    before: u16,
    len: u16,
    first: u8,
    last: u8,
}

impl Lzw {
    /// Reads the third byte of the header.
    pub fn new(flags: u8) -> Result<Self> {
        let widest = u32::from(flags & 0x1f);
        if flags & 0x60 != 0 || !(9..=16).contains(&widest) {
            return Err(Error::new(Kind::Unsupported, "data of compress of a kind that is not known"));
        }
        let mut table = vec![Entry::default(); CODES];
        for (byte, entry) in table[..256].iter_mut().enumerate() {
            *entry = Entry { before: 0, len: 1, first: byte as u8, last: byte as u8 };
        }
        let mut new = Self {
            bits: Low::default(),
            // As compress reads what it wrote: 9 bits become 10.
            widest: widest.max(10),
            blocks: flags & 0x80 != 0,
            width: FIRST_WIDTH,
            read: 0,
            skip: 0,
            next: 0,
            before: None,
            table,
            made: Vec::new(),
            fetched: 0,
            cleared: false,
        };
        new.clear();
        Ok(new)
    }

    fn clear(&mut self) {
        self.next = if self.blocks { CLEAR + 1 } else { CLEAR };
        self.before = None;
        self.widen(FIRST_WIDTH);
    }

    fn widen(&mut self, width: u32) {
        self.skip = (8 - self.read % 8) % 8 * self.width;
        (self.read, self.width) = (0, width);
    }

    /// What is decoded and was not fetched yet.
    pub fn ready(&self) -> &[u8] {
        &self.made[self.fetched..]
    }

    pub fn fetched(&mut self, n: usize) {
        self.fetched = (self.fetched + n).min(self.made.len());
    }

    /// Bits that were taken from the bytes and not used.
    pub fn held(&self) -> u32 {
        self.bits.held()
    }

    /// Whether the table is as at the beginning: the data could begin here.
    pub fn is_cleared(&self) -> bool {
        self.cleared
    }

    pub fn weight(&self) -> usize {
        size_of::<Self>() + self.table.len() * size_of::<Entry>() + self.made.capacity()
    }

    /// Decodes some more, when all was fetched; `false` at the end. Stops behind each clearing of the table.
    pub fn run(&mut self, from: &mut impl Supply) -> Result<bool> {
        self.made.clear();
        self.fetched = 0;
        self.cleared = false;
        while self.made.len() < PIECE {
            if self.next >= 1 << self.width && self.width < self.widest {
                self.widen(self.width + 1);
            }
            let Some(code) = self.code(from)? else { return Ok(!self.made.is_empty()) };
            if code == CLEAR && self.blocks {
                self.clear();
                self.leave_out(from)?;
                self.cleared = true;
                return Ok(true);
            }
            self.put(code)?;
        }
        Ok(true)
    }

    /// The next code, or `None` at the end: a last group need not be full.
    fn code(&mut self, from: &mut impl Supply) -> Result<Option<usize>> {
        if !self.leave_out(from)? || !self.bits.gather(from, self.width)? {
            return Ok(None);
        }
        let code = self.bits.peek(self.width);
        self.bits.skip(self.width);
        self.read = self.read.wrapping_add(1);
        Ok(Some(code as usize))
    }

    fn leave_out(&mut self, from: &mut impl Supply) -> Result<bool> {
        while self.skip > 0 {
            let n = self.skip.min(32);
            if !self.bits.gather(from, n)? {
                return Ok(false);
            }
            self.bits.skip(n);
            self.skip -= n;
        }
        Ok(true)
    }

    fn put(&mut self, code: usize) -> Result<()> {
        let Some(before) = self.before.replace(code) else {
            if code > 255 {
                return Err(damaged("a code that was not given yet"));
            }
            self.made.push(code as u8);
            return Ok(());
        };
        if code > self.next || (code == self.next && code >= CODES) {
            return Err(damaged("a code that was not given yet"));
        }
        let known = self.table[before];
        // The code that is just being given stands for what came before and its first byte again.
        let first = if code == self.next { known.first } else { self.table[code].first };
        if self.next < 1 << self.widest {
            let len = known.len.saturating_add(1);
            self.table[self.next] = Entry { before: before as u16, len, first: known.first, last: first };
            self.next += 1;
        } else if code == self.next {
            return Err(damaged("a code that was not given yet"));
        }
        self.write(code);
        Ok(())
    }

    /// Writes what a code stands for, from its end to its front.
    fn write(&mut self, mut code: usize) {
        let from = self.made.len();
        let len = usize::from(self.table[code].len);
        self.made.resize(from + len, 0);
        for slot in self.made[from..].iter_mut().rev() {
            let entry = self.table[code];
            *slot = entry.last;
            code = usize::from(entry.before);
        }
    }
}
