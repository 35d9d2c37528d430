//! The bits of an input, lowest first.

use super::table::{EXCEPTION, SUB};

/// An input and up to 64 bits of it that were taken.
#[derive(Clone, Copy)]
pub(super) struct Feed<'a> {
    input: &'a [u8],
    at: usize,
    bits: u64,
    /// How many of `bits` count. Those above hold what comes next in the input, or nothing.
    count: u32,
}

impl<'a> Feed<'a> {
    pub fn new(input: &'a [u8], held: u8, held_bits: u32) -> Self {
        Self { input, at: 0, bits: u64::from(held), count: held_bits }
    }

    /// Puts whole bytes back: how much of the input was taken, and what is left of the last byte of it.
    pub fn give_back(self) -> (usize, u8, u32) {
        let left = self.count % 8;
        (self.at - (self.count / 8) as usize, (self.bits & ((1 << left) - 1)) as u8, left)
    }

    /// Bytes that were not taken yet.
    pub fn left(&self) -> usize {
        self.input.len() - self.at
    }

    /// Takes 56 bits or more if 16 bytes are left: enough for one turn, with [`refill_again`](Self::refill_again).
    #[inline(always)]
    pub fn refill(&mut self) -> bool {
        let Some(bytes) = self.input.get(self.at..self.at + 16) else { return false };
        self.put(bytes);
        true
    }

    #[inline(always)]
    pub fn refill_again(&mut self) {
        if let Some(bytes) = self.input.get(self.at..self.at + 8) {
            self.put(bytes);
        }
    }

    #[inline(always)]
    fn put(&mut self, bytes: &[u8]) {
        let Some(word) = bytes.first_chunk() else { return };
        self.bits |= u64::from_le_bytes(*word) << (self.count & 63);
        self.at += ((63 - self.count) >> 3) as usize;
        self.count |= 56;
    }

    /// The next `n` bits.
    #[inline(always)]
    pub fn low(&self, n: u32) -> usize {
        (self.bits & ((1 << n) - 1)) as usize
    }

    /// Drops the code of an entry.
    #[inline(always)]
    pub fn drop(&mut self, entry: u32) {
        let n = entry & 31;
        self.bits >>= n;
        self.count = self.count.wrapping_sub(n);
    }

    /// Drops the code of an entry and the bits behind it, and gives what they mean together.
    #[inline(always)]
    pub fn value(&mut self, entry: u32) -> u32 {
        let extra = (self.bits & ((1 << (entry & 31)) - 1)) >> (entry >> 8 & 15);
        self.drop(entry);
        (entry >> 16) + extra as u32
    }

    /// The entry in the table that another entry leads to.
    #[inline(always)]
    pub fn second(&mut self, table: &[u32], entry: u32) -> u32 {
        self.drop(entry);
        let slot = (entry >> 16) as usize + self.low(entry >> 8 & 15);
        table.get(slot).copied().unwrap_or(EXCEPTION)
    }

    /// Takes bytes until there are `n` bits, of 56 at most.
    fn gather(&mut self, n: u32) -> bool {
        if self.count < 64 {
            self.bits &= (1 << self.count) - 1;
        }
        while self.count < n {
            let Some(byte) = self.input.get(self.at) else { return false };
            self.bits |= u64::from(*byte) << self.count;
            (self.at, self.count) = (self.at + 1, self.count + 8);
        }
        true
    }

    /// The next `n` bits, of 32 at most, if they are there.
    pub fn take(&mut self, n: u32) -> Option<u32> {
        if !self.gather(n) {
            return None;
        }
        let value = self.bits & ((1 << n) - 1);
        self.bits >>= n;
        self.count -= n;
        Some(value as u32)
    }

    /// Drops the rest of a byte.
    pub fn align(&mut self) {
        self.bits >>= self.count % 8;
        self.count -= self.count % 8;
    }

    /// One symbol with its extra bits, if they are there, else nothing is taken: its entry, and what it means.
    pub fn symbol(&mut self, table: &[u32], first: u32) -> Option<(u32, u32)> {
        let before = *self;
        // The longest code and its extra bits are 31 bits.
        self.gather(32);
        let whole = self.count;
        let mut entry = table[self.low(first)];
        if entry & SUB != 0 {
            entry = self.second(table, entry);
        }
        let value = self.value(entry);
        // Where bits were missing it took more than there were, and the count went below zero.
        if self.count > whole {
            *self = before;
            return None;
        }
        Some((entry, value))
    }

    /// Up to `n` whole bytes; the rest of a byte must have been dropped.
    pub fn bytes(&mut self, n: usize) -> &'a [u8] {
        self.at -= (self.count / 8) as usize;
        (self.bits, self.count) = (0, 0);
        let bytes = &self.input[self.at..self.input.len().min(self.at + n)];
        self.at += bytes.len();
        bytes
    }
}
