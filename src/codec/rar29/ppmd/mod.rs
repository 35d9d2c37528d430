//! PPMd, variant H, with the range coder that RAR takes for it: one byte after the other, guessed by those before it.
//!
//! After ppmd-rust (CC0-1.0), which is after the Ppmd7 of 7-Zip.

mod heap;
mod learn;
mod range;

use super::bits::Bits;
use crate::codec::damaged;
use crate::error::Result;
use heap::{Heap, Place, STATE};
use range::{Coder, See};
use std::io::Read;

const MOST_FREQ: u32 = 124;

/// The longest order that can be said, and one more.
const ORDERS: usize = 65;

const ESCAPES: [u8; 16] = [25, 14, 9, 7, 5, 5, 4, 4, 4, 3, 3, 3, 2, 2, 2, 2];
const ESCAPES_AT_FIRST: [u16; 8] = [0x3CDD, 0x1F3F, 0x59BF, 0x48F3, 0x64A1, 0x5ABC, 0x6632, 0x6051];

/// A model with the coder that reads by it.
pub(super) struct Model {
    heap: Heap,
    coder: Coder,
    shortest: Place,
    longest: Place,
    /// The state of the last symbol.
    found: Place,
    fall: u32,
    escape: u32,
    /// 1 where the last symbol was the likely one.
    success: u32,
    order: u32,
    high_bits: u32,
    run: i32,
    run_at_first: i32,
    see: [[See; 16]; 25],
    binary: [[u16; 64]; 128],
}

impl Default for Model {
    fn default() -> Self {
        Self {
            heap: Heap::default(),
            coder: Coder::default(),
            shortest: 0,
            longest: 0,
            found: 0,
            fall: 0,
            escape: 0,
            success: 0,
            order: 0,
            high_bits: 0,
            run: 0,
            run_at_first: 0,
            see: [[See::default(); 16]; 25],
            binary: [[0; 64]; 128],
        }
    }
}

/// What a symbol's code began with: its high bits.
fn high_bits(symbol: u8, bit: u32) -> u32 {
    (u32::from(symbol) + 0xc0) >> (8 - bit) & (1 << bit)
}

/// The class of a context by how many states it has.
fn class(states: u32) -> u32 {
    match states {
        0..=1 => 0,
        2 => 2,
        3..=11 => 4,
        _ => 6,
    }
}

/// The row of the escapes by how many states are not masked, less one.
const ROWS: [u8; 256] = {
    let (mut all, mut n, mut row, mut left) = ([0; 256], 0, 0, 1);
    while n < 256 {
        all[n] = row;
        left -= 1;
        if left == 0 {
            row += 1;
            left = if row < 4 { 1 } else { row - 2 };
        }
        n += 1;
    }
    all
};

impl Model {
    /// Begins a block: anew, with an order and bytes of memory, or with what was learnt in the blocks before.
    pub fn start<R: Read>(&mut self, bits: &mut Bits<R>, anew: Option<(u32, usize)>) -> Result<()> {
        self.coder.start(bits)?;
        if let Some((order, size)) = anew {
            self.heap.resize(size);
            self.order = order;
            self.restart();
        } else if self.order == 0 {
            return Err(damaged("a block goes on with a model that is not there"));
        }
        Ok(())
    }

    fn restart(&mut self) {
        let heap = &mut self.heap;
        heap.restart();
        self.fall = self.order;
        self.run_at_first = -(self.order.min(12) as i32) - 1;
        self.run = self.run_at_first;
        self.success = 0;
        let (Some(root), Some(first)) = (heap.alloc_context(), heap.alloc(128)) else { return };
        (self.shortest, self.longest, self.found) = (root, root, first);
        heap.set_count(root, 256);
        heap.set_sum(root, 257);
        heap.set_first(root, first);
        heap.set_suffix(root, 0);
        for symbol in 0..=255 {
            heap.set_state(first + u32::from(symbol) * STATE, [symbol, 1, 0, 0, 0, 0]);
        }
        for (freq, row) in self.binary.iter_mut().enumerate() {
            for (n, slot) in row.iter_mut().enumerate() {
                *slot = (1 << range::SCALE_BITS) - ESCAPES_AT_FIRST[n % 8] / (freq as u16 + 2);
            }
        }
        for (n, row) in self.see.iter_mut().enumerate() {
            row.fill(See { sum: (5 * n as u16 + 10) << 3, shift: 3, count: 4 });
        }
    }

    /// The next byte.
    pub fn symbol<R: Read>(&mut self, bits: &mut Bits<R>) -> Result<u8> {
        let context = self.shortest;
        let decoded = if self.heap.count(context) == 1 { self.of_one() } else { self.of_many()? };
        if let Some(symbol) = decoded {
            self.coder.settle(bits)?;
            return Ok(symbol);
        }
        self.success = 0;
        let mut unmasked = [u8::MAX; 256];
        if self.heap.count(context) == 1 {
            unmasked[usize::from(self.heap.symbol(context + 2))] = 0;
        } else {
            self.heap.states(context).iter().for_each(|state| unmasked[usize::from(state[0])] = 0);
        }
        loop {
            self.coder.settle(bits)?;
            if let Some(symbol) = self.behind_escape(&mut unmasked)? {
                self.coder.settle(bits)?;
                return Ok(symbol);
            }
        }
    }

    /// From a context of several states; none if it is an escape.
    fn of_many(&mut self) -> Result<Option<u8>> {
        let (context, sum) = (self.shortest, self.heap.sum(self.shortest));
        let threshold = self.coder.threshold(sum)?;
        let first = self.heap.first(context);
        let mut start = 0;
        for (n, [symbol, freq, ..]) in self.heap.states(context).iter().enumerate() {
            let freq = u32::from(*freq);
            if threshold < start + freq {
                let symbol = *symbol;
                self.coder.part(start, freq);
                self.found = first + n as u32 * STATE;
                if n == 0 {
                    self.found_first()
                } else {
                    self.found_other()
                }
                return Ok(Some(symbol));
            }
            start += freq;
        }
        self.coder.part(start, sum.wrapping_sub(start));
        self.high_bits = high_bits(self.heap.symbol(self.found), 3);
        Ok(None)
    }

    /// From a context of one state; none if it is an escape.
    fn of_one(&mut self) -> Option<u8> {
        let state = self.shortest + 2;
        let symbol = self.heap.symbol(state);
        self.high_bits = high_bits(self.heap.symbol(self.found), 3);
        let freq = self.heap.freq(state);
        let kind = self.success
            + (self.run as u32 >> 26 & 0x20)
            + class(self.heap.count(self.heap.suffix(self.shortest)))
            + high_bits(symbol, 4)
            + self.high_bits;
        let slot = &mut self.binary[freq as usize - 1][kind as usize];
        let probability = *slot;
        *slot -= (probability + 32) >> 7;
        if !self.coder.is_likely(probability.into()) {
            self.escape = ESCAPES[usize::from(*slot >> 10)].into();
            return None;
        }
        *slot += 1 << 7;
        self.found = state;
        self.success = 1;
        self.run += 1;
        self.heap.set_freq(state, freq + u32::from(freq < 128));
        self.go_on();
        Some(symbol)
    }

    /// From the next shorter context that has more states; none if it is an escape once more.
    fn behind_escape(&mut self, unmasked: &mut [u8; 256]) -> Result<Option<u8>> {
        let masked = self.heap.count(self.shortest);
        let mut context = self.shortest;
        while self.heap.count(context) == masked {
            self.fall += 1;
            context = self.heap.suffix(context);
            if context == 0 {
                return Err(damaged("the model has no such symbol"));
            }
        }
        self.shortest = context;
        let freq_of = |state: &[u8; 6], unmasked: &[u8; 256]| u32::from(state[1] & unmasked[usize::from(state[0])]);
        let states = self.heap.states(context);
        let known: u32 = states.iter().map(|state| freq_of(state, unmasked)).sum();
        // The shortest context of all has its own measure.
        let kind = (states.len() != 256).then(|| self.kind_of_escape(masked));
        let escape = kind.map_or(1, |(row, n)| self.see[row][n].mean());
        let sum = known + escape;
        let threshold = self.coder.threshold(sum)?;
        let states = self.heap.states(context);
        if threshold >= known {
            self.coder.part(known, escape);
            if let Some((row, n)) = kind {
                let see = &mut self.see[row][n];
                see.sum = see.sum.wrapping_add(sum as u16);
            }
            states.iter().for_each(|state| unmasked[usize::from(state[0])] = 0);
            return Ok(None);
        }
        let (mut start, mut at, mut freq) = (0, 0, 0);
        for (n, state) in states.iter().enumerate() {
            (at, freq) = (n, freq_of(state, unmasked));
            if threshold < start + freq {
                break;
            }
            start += freq;
        }
        let symbol = states[at][0];
        self.coder.part(start, freq);
        if let Some((row, n)) = kind {
            self.see[row][n].hit();
        }
        self.found = self.heap.first(context) + at as u32 * STATE;
        self.found_behind_escape();
        Ok(Some(symbol))
    }

    fn kind_of_escape(&self, masked: u32) -> (usize, usize) {
        let (heap, context) = (&self.heap, self.shortest);
        let states = heap.count(context);
        let left = states - masked;
        let longer = heap.count(heap.suffix(context)).wrapping_sub(states);
        let kind = u32::from(left < longer)
            + 2 * u32::from(heap.sum(context) < 11 * states)
            + 4 * u32::from(masked > left)
            + self.high_bits;
        (ROWS[left as usize - 1].into(), kind as usize)
    }

    /// Counts the symbol that was found, and gives its new count.
    fn count_found(&mut self) -> u32 {
        let freq = self.heap.freq(self.found) + 4;
        self.heap.set_sum(self.shortest, self.heap.sum(self.shortest) + 4);
        self.heap.set_freq(self.found, freq);
        freq
    }

    fn found_first(&mut self) {
        self.success = u32::from(2 * self.heap.freq(self.found) > self.heap.sum(self.shortest));
        self.run += self.success as i32;
        if self.count_found() > MOST_FREQ {
            self.rescale();
        }
        self.go_on();
    }

    fn found_other(&mut self) {
        self.success = 0;
        let freq = self.count_found();
        if freq > self.heap.freq(self.found - STATE) {
            self.found = self.heap.swap_down(self.found);
            if freq > MOST_FREQ {
                self.rescale();
            }
        }
        self.go_on();
    }

    fn found_behind_escape(&mut self) {
        self.run = self.run_at_first;
        if self.count_found() > MOST_FREQ {
            self.rescale();
        }
        self.update();
    }

    /// The next context, where it is known; else the model learns.
    fn go_on(&mut self) {
        let next = self.heap.next(self.found);
        if self.fall == 0 && self.heap.is_context(next) {
            (self.shortest, self.longest) = (next, next);
        } else {
            self.update();
        }
    }
}
