//! The memory of a model: text from its front up, contexts and states in units of 12 bytes behind it.
//!
//! ```text
//!   │ text → │        │ units, taken from both ends: states → │ free │ ← contexts │
//!            text     units                                 low    high
//! ```
//!
//! What is where decides when a model is full and begins anew, so units must be given out as the other end gave them out.
//! A context is `states: u16, sum: u16, first: u32, suffix: u32`; with a single state, that state is in the place of `sum`
//! and `first`. A state is `symbol: u8, freq: u8, next: u32`, a free unit `stamp: u16, units: u16, next: u32` while free
//! ones are joined, else `next: u32`. Places are offsets, and 0 is none.

pub(super) type Place = u32;

const UNIT: u32 = 12;
pub(super) const STATE: u32 = 6;

/// Sizes that blocks of units come in.
const SIZES: usize = 38;

/// Units of each size, and the size of so many units.
const UNITS: [u8; SIZES] = units();
const SIZE_OF: [u8; 128] = size_of_units();

const fn units() -> [u8; SIZES] {
    let (mut all, mut size, mut units) = ([0; SIZES], 0, 0);
    while size < SIZES {
        units += if size < 12 { size as u8 / 4 + 1 } else { 4 };
        all[size] = units;
        size += 1;
    }
    all
}

const fn size_of_units() -> [u8; 128] {
    let (mut all, mut size, mut n) = ([0; 128], 0, 0);
    while n < 128 {
        if n as u8 >= UNITS[size] {
            size += 1;
        }
        all[n] = size as u8;
        n += 1;
    }
    all
}

#[derive(Default)]
pub(super) struct Heap {
    mem: Vec<u8>,
    free: Vec<Place>,
    /// Failures until free blocks are joined.
    patience: u32,
    text: Place,
    units: Place,
    low: Place,
    high: Place,
}

impl Heap {
    /// Takes memory of this size; what is not used of it costs nothing.
    pub fn resize(&mut self, size: usize) {
        if self.mem.len() != size {
            self.mem = Vec::new();
            self.mem = vec![0; size];
        }
    }

    pub fn restart(&mut self) {
        self.free.clear();
        self.free.resize(SIZES, 0);
        let size = self.mem.len() as u32;
        self.text = 0;
        self.high = size;
        self.units = size - size / 8 / UNIT * 7 * UNIT;
        self.low = self.units;
        self.patience = 0;
    }

    #[inline(always)]
    fn record<const N: usize>(&self, at: Place) -> &[u8; N] {
        self.mem[at as usize..].first_chunk().expect("a place in the model")
    }

    #[inline(always)]
    fn record_mut<const N: usize>(&mut self, at: Place) -> &mut [u8; N] {
        self.mem[at as usize..].first_chunk_mut().expect("a place in the model")
    }

    #[inline(always)]
    fn u16(&self, at: Place) -> u32 {
        u16::from_le_bytes(*self.record(at)).into()
    }

    #[inline(always)]
    fn set_u16(&mut self, at: Place, value: u32) {
        *self.record_mut(at) = (value as u16).to_le_bytes();
    }

    #[inline(always)]
    fn u32(&self, at: Place) -> u32 {
        u32::from_le_bytes(*self.record(at))
    }

    #[inline(always)]
    fn set_u32(&mut self, at: Place, value: u32) {
        *self.record_mut(at) = value.to_le_bytes();
    }

    // Contexts.

    #[inline(always)]
    pub fn count(&self, context: Place) -> u32 {
        self.u16(context)
    }

    #[inline(always)]
    pub fn set_count(&mut self, context: Place, value: u32) {
        self.set_u16(context, value);
    }

    #[inline(always)]
    pub fn sum(&self, context: Place) -> u32 {
        self.u16(context + 2)
    }

    #[inline(always)]
    pub fn set_sum(&mut self, context: Place, value: u32) {
        self.set_u16(context + 2, value);
    }

    /// The first state of more than one.
    #[inline(always)]
    pub fn first(&self, context: Place) -> Place {
        self.u32(context + 4)
    }

    #[inline(always)]
    pub fn set_first(&mut self, context: Place, value: Place) {
        self.set_u32(context + 4, value);
    }

    #[inline(always)]
    pub fn suffix(&self, context: Place) -> Place {
        self.u32(context + 8)
    }

    #[inline(always)]
    pub fn set_suffix(&mut self, context: Place, value: Place) {
        self.set_u32(context + 8, value);
    }

    // States.

    /// All states of a context that has more than one.
    #[inline(always)]
    pub fn states(&self, context: Place) -> &[[u8; STATE as usize]] {
        let first = self.first(context) as usize;
        self.mem[first..first + (self.count(context) * STATE) as usize].as_chunks().0
    }

    #[inline(always)]
    pub fn state(&self, state: Place) -> [u8; STATE as usize] {
        *self.record(state)
    }

    #[inline(always)]
    pub fn set_state(&mut self, state: Place, value: [u8; STATE as usize]) {
        *self.record_mut(state) = value;
    }

    #[inline(always)]
    pub fn symbol(&self, state: Place) -> u8 {
        self.record::<1>(state)[0]
    }

    #[inline(always)]
    pub fn freq(&self, state: Place) -> u32 {
        self.record::<2>(state)[1].into()
    }

    #[inline(always)]
    pub fn set_freq(&mut self, state: Place, value: u32) {
        self.record_mut::<2>(state)[1] = value as u8;
    }

    #[inline(always)]
    pub fn next(&self, state: Place) -> Place {
        self.u32(state + 2)
    }

    #[inline(always)]
    pub fn set_next(&mut self, state: Place, value: Place) {
        self.set_u32(state + 2, value);
    }

    /// Swaps a state with the one before it, and gives its new place.
    #[inline(always)]
    pub fn swap_down(&mut self, state: Place) -> Place {
        let (own, before) = (self.state(state), self.state(state - STATE));
        self.set_state(state, before);
        self.set_state(state - STATE, own);
        state - STATE
    }

    // Text.

    /// Puts a symbol behind the text, and gives the place behind it; none when there is no more room.
    pub fn write(&mut self, symbol: u8) -> Option<Place> {
        self.mem[self.text as usize] = symbol;
        self.text += 1;
        (self.text < self.units).then_some(self.text)
    }

    pub fn unwrite(&mut self) {
        self.text -= 1;
    }

    pub fn text_at(&self, place: Place) -> u8 {
        self.mem[place as usize]
    }

    /// Whether a place that follows a state is a context, not a place in the text.
    #[inline(always)]
    pub fn is_context(&self, place: Place) -> bool {
        place >= self.units
    }

    // Units.

    /// A block for so many units.
    pub fn alloc(&mut self, units: u32) -> Option<Place> {
        let size = Self::size(units);
        if self.free[size] != 0 {
            return Some(self.pop(size));
        }
        let bytes = u32::from(UNITS[size]) * UNIT;
        if self.high - self.low >= bytes {
            self.low += bytes;
            return Some(self.low - bytes);
        }
        self.alloc_rare(size)
    }

    pub fn alloc_context(&mut self) -> Option<Place> {
        if self.high != self.low {
            self.high -= UNIT;
            Some(self.high)
        } else if self.free[0] != 0 {
            Some(self.pop(0))
        } else {
            self.alloc_rare(0)
        }
    }

    /// A block with room for one unit more, with what is in this one.
    pub fn grow(&mut self, block: Place, units: u32) -> Option<Place> {
        if Self::size(units) == Self::size(units + 1) {
            return Some(block);
        }
        let larger = self.alloc(units + 1)?;
        self.copy(block, larger, units);
        self.release(block, units);
        Some(larger)
    }

    /// A block of less units, with what is in this one.
    pub fn shrink(&mut self, block: Place, units: u32, now: u32) -> Place {
        let (old, new) = (Self::size(units), Self::size(now));
        if old == new {
            return block;
        }
        if self.free[new] != 0 {
            let smaller = self.pop(new);
            self.copy(block, smaller, now);
            self.push(block, old);
            return smaller;
        }
        self.split(block, old, new);
        block
    }

    pub fn release(&mut self, block: Place, units: u32) {
        self.push(block, Self::size(units));
    }

    fn size(units: u32) -> usize {
        SIZE_OF[units as usize - 1].into()
    }

    fn copy(&mut self, from: Place, to: Place, units: u32) {
        let from = from as usize;
        self.mem.copy_within(from..from + (units * UNIT) as usize, to as usize);
    }

    fn push(&mut self, block: Place, size: usize) {
        self.set_u32(block, self.free[size]);
        self.free[size] = block;
    }

    fn pop(&mut self, size: usize) -> Place {
        let block = self.free[size];
        self.free[size] = self.u32(block);
        block
    }

    /// Frees what a block has beyond a smaller size.
    fn split(&mut self, block: Place, old: usize, new: usize) {
        let left = UNITS[old] - UNITS[new];
        self.push_units(block + u32::from(UNITS[new]) * UNIT, left.into());
    }

    /// Frees 128 units at most, as one block or two.
    fn push_units(&mut self, block: Place, units: u32) {
        let mut size = Self::size(units);
        if u32::from(UNITS[size]) != units {
            size -= 1;
            let kept = u32::from(UNITS[size]);
            self.push(block + kept * UNIT, (units - kept - 1) as usize);
        }
        self.push(block, size);
    }

    #[inline(never)]
    fn alloc_rare(&mut self, size: usize) -> Option<Place> {
        if self.patience == 0 {
            self.join();
            if self.free[size] != 0 {
                return Some(self.pop(size));
            }
        }
        let Some(larger) = (size + 1..SIZES).find(|size| self.free[*size] != 0) else {
            let bytes = u32::from(UNITS[size]) * UNIT;
            self.patience -= 1;
            let fits = self.units - self.text > bytes;
            if fits {
                self.units -= bytes;
            }
            return fits.then_some(self.units);
        };
        let block = self.pop(larger);
        self.split(block, larger, size);
        Some(block)
    }

    /// Joins free blocks that lie side by side.
    fn join(&mut self) {
        self.patience = 255;
        // What is in use has no 0 where the stamp of a free unit is; a guard is needed only where the units in use end.
        if self.low != self.high {
            self.set_u16(self.low, 1);
        }
        let mut head = 0;
        for (size, units) in UNITS.iter().enumerate() {
            let mut block = std::mem::take(&mut self.free[size]);
            while block != 0 {
                let next = self.u32(block);
                self.set_u16(block, 0);
                self.set_u16(block + 2, (*units).into());
                self.set_u32(block + 4, head);
                (head, block) = (block, next);
            }
        }
        let head = self.join_list(head);
        self.free_list(head);
    }

    /// Joins in the order of a list, and gives its head without the blocks that others took in.
    fn join_list(&mut self, mut head: Place) -> Place {
        let (mut block, mut before) = (head, 0);
        while block != 0 {
            let (mut units, next) = (self.u16(block + 2), self.u32(block + 4));
            if units == 0 {
                match before {
                    0 => head = next,
                    _ => self.set_u32(before + 4, next),
                }
            } else {
                before = block;
                loop {
                    let behind = block + units * UNIT;
                    units += self.u16(behind + 2);
                    if self.u16(behind) != 0 || units >= 0x10000 {
                        break;
                    }
                    self.set_u16(block + 2, units);
                    self.set_u16(behind + 2, 0);
                }
            }
            block = next;
        }
        head
    }

    fn free_list(&mut self, mut block: Place) {
        while block != 0 {
            let (mut units, next) = (self.u16(block + 2), self.u32(block + 4));
            while units > 128 {
                self.push(block, SIZES - 1);
                block += 128 * UNIT;
                units -= 128;
            }
            if units > 0 {
                self.push_units(block, units);
            }
            block = next;
        }
    }
}
