//! How a model learns: contexts get the symbols that came behind them.

use super::heap::{Heap, Place, STATE};
use super::{MOST_FREQ, Model, ORDERS};

/// The state of a symbol in a context that has it, and more than one state.
fn find(heap: &Heap, context: Place, symbol: u8) -> Place {
    let at = heap.states(context).iter().position(|state| state[0] == symbol).unwrap_or(0);
    heap.first(context) + at as u32 * STATE
}

impl Model {
    /// Learns the symbol that was found, and goes to the next context. A model that is full begins anew.
    #[inline(never)]
    pub(super) fn update(&mut self) {
        self.count_in_suffix();
        if self.try_update().is_none() {
            self.restart();
        }
    }

    fn count_in_suffix(&mut self) {
        let (heap, found) = (&mut self.heap, self.found);
        let context = heap.suffix(self.shortest);
        if heap.freq(found) >= MOST_FREQ / 4 || context == 0 {
            return;
        }
        if heap.count(context) == 1 {
            let freq = heap.freq(context + 2);
            heap.set_freq(context + 2, freq + u32::from(freq < 32));
            return;
        }
        let mut state = heap.first(context);
        let symbol = heap.symbol(found);
        if heap.symbol(state) != symbol {
            state = find(heap, context, symbol);
            if heap.freq(state) >= heap.freq(state - STATE) {
                state = heap.swap_down(state);
            }
        }
        let freq = heap.freq(state);
        if freq < MOST_FREQ - 9 {
            heap.set_freq(state, freq + 2);
            heap.set_sum(context, heap.sum(context) + 2);
        }
    }

    fn try_update(&mut self) -> Option<()> {
        if self.fall == 0 {
            let next = self.create()?;
            (self.shortest, self.longest) = (next, next);
            self.heap.set_next(self.found, next);
            return Some(());
        }
        let symbol = self.heap.symbol(self.found);
        let text = self.heap.write(symbol)?;
        let (mut behind, mut next) = (text, self.heap.next(self.found));
        if next == 0 {
            // Only in the shortest context of all.
            self.heap.set_next(self.found, text);
            next = self.shortest;
        } else {
            if next <= text {
                next = self.create()?;
            }
            self.fall -= 1;
            if self.fall == 0 {
                behind = next;
                if self.longest != self.shortest {
                    self.heap.unwrite();
                }
            }
        }
        let (context, longest) = (self.shortest, self.longest);
        (self.shortest, self.longest) = (next, next);
        self.add_up_to(context, longest, behind)
    }

    /// Gives the symbol that was found to the contexts from the longest on that had it not.
    fn add_up_to(&mut self, context: Place, longest: Place, behind: Place) -> Option<()> {
        if longest == context {
            return Some(());
        }
        let states = self.heap.count(context);
        let [symbol, freq, ..] = self.heap.state(self.found);
        let freq = u32::from(freq);
        let escapes = self.heap.sum(context).wrapping_sub(states).wrapping_sub(freq - 1);
        let mut longer = longest;
        while longer != context {
            let sum = self.room_for_one(longer, states)?;
            let heap = &mut self.heap;
            let count = heap.count(longer);
            let state = heap.first(longer) + count * STATE;
            let (weight, all) = (2 * (sum + 6) * freq, escapes.wrapping_add(sum));
            let more = |n: u32| u32::from(weight >= n.wrapping_mul(all));
            let (freq, sum) = if more(6) == 0 {
                (1 + u32::from(weight > all) + more(4), sum + 3)
            } else {
                let freq = 4 + more(9) + more(12) + more(15);
                (freq, sum + freq)
            };
            let [a, b, c, d] = behind.to_le_bytes();
            heap.set_state(state, [symbol, freq as u8, a, b, c, d]);
            heap.set_count(longer, count + 1);
            heap.set_sum(longer, sum);
            longer = heap.suffix(longer);
        }
        Some(())
    }

    /// Makes room for one more state, and gives what the sum of the context is then. `states` are those of the context that
    /// had the symbol.
    fn room_for_one(&mut self, context: Place, states: u32) -> Option<u32> {
        let heap = &mut self.heap;
        let count = heap.count(context);
        if count == 1 {
            let first = heap.alloc(1)?;
            let mut state = heap.state(context + 2);
            let freq = u32::from(state[1]);
            let freq = if freq < MOST_FREQ / 4 - 1 { freq * 2 } else { MOST_FREQ - 4 };
            state[1] = freq as u8;
            heap.set_state(first, state);
            heap.set_first(context, first);
            return Some(freq + self.escape + u32::from(states > 3));
        }
        if count.is_multiple_of(2) {
            let grown = heap.grow(heap.first(context), count / 2)?;
            heap.set_first(context, grown);
        }
        let sum = heap.sum(context);
        let few = u32::from(4 * count <= states && sum <= 8 * count);
        Some(sum + u32::from(2 * count < states) + 2 * few)
    }

    /// Makes the contexts that follow the symbol that was found, for each context that has only a place in the text for it.
    #[inline(never)]
    fn create(&mut self) -> Option<Place> {
        let (mut states, mut n) = ([0; ORDERS], 0);
        let text = self.heap.next(self.found);
        let symbol = self.heap.symbol(self.found);
        if self.fall != 0 {
            states[0] = self.found;
            n = 1;
        }
        let heap = &self.heap;
        let mut context = self.shortest;
        while heap.suffix(context) != 0 {
            context = heap.suffix(context);
            let state = if heap.count(context) == 1 { context + 2 } else { find(heap, context, symbol) };
            let next = heap.next(state);
            if next != text {
                context = next;
                if n == 0 {
                    return Some(context);
                }
                break;
            }
            states[n] = state;
            n += 1;
        }
        let symbol = heap.text_at(text);
        let freq = self.freq_of_new(context, symbol);
        let [a, b, c, d] = (text + 1).to_le_bytes();
        for state in states[..n].iter().rev() {
            let new = self.heap.alloc_context()?;
            self.heap.set_count(new, 1);
            self.heap.set_state(new + 2, [symbol, freq as u8, a, b, c, d]);
            self.heap.set_suffix(new, context);
            self.heap.set_next(*state, new);
            context = new;
        }
        Some(context)
    }

    /// What a symbol counts in new contexts, by what it counts in the one below.
    fn freq_of_new(&self, context: Place, symbol: u8) -> u32 {
        let heap = &self.heap;
        let states = heap.count(context);
        if states == 1 {
            return heap.freq(context + 2);
        }
        let freq = heap.freq(find(heap, context, symbol)).wrapping_sub(1);
        let others = heap.sum(context).wrapping_sub(states).wrapping_sub(freq);
        if freq.wrapping_mul(2) <= others {
            1 + u32::from(freq.wrapping_mul(5) > others)
        } else {
            let all = freq.wrapping_mul(2).wrapping_add(others).wrapping_sub(1);
            2 + all.checked_div(others.wrapping_mul(2)).unwrap_or(0)
        }
    }

    /// Halves the counts of a context, the symbol that was found first, and drops what counts nothing any more.
    #[inline(never)]
    pub(super) fn rescale(&mut self) {
        let heap = &mut self.heap;
        let (context, first) = (self.shortest, heap.first(self.shortest));
        while self.found != first {
            self.found = heap.swap_down(self.found);
        }
        // Only in the longest contexts a symbol may be dropped.
        let kept = u32::from(self.fall != 0);
        let count = heap.count(context);
        let mut escapes = heap.sum(context).wrapping_sub(heap.freq(first));
        let mut sum = (heap.freq(first) + 4 + kept) >> 1;
        heap.set_freq(first, sum);
        for n in 1..count {
            let mut state = first + n * STATE;
            escapes = escapes.wrapping_sub(heap.freq(state));
            let freq = (heap.freq(state) + kept) >> 1;
            sum += freq;
            heap.set_freq(state, freq);
            while state != first && freq > heap.freq(state - STATE) {
                state = heap.swap_down(state);
            }
        }
        let dropped = (0..count).rev().take_while(|n| heap.freq(first + n * STATE) == 0).count() as u32;
        escapes = escapes.wrapping_add(dropped);
        let left = count - dropped;
        if left == 1 {
            return self.keep_one(escapes, count);
        }
        if dropped > 0 {
            heap.set_count(context, left);
            let block = heap.shrink(first, count.div_ceil(2), left.div_ceil(2));
            heap.set_first(context, block);
        }
        heap.set_sum(context, sum.wrapping_add(escapes.wrapping_sub(escapes >> 1)));
        self.found = heap.first(context);
    }

    /// Makes a context of several states one of a single state.
    fn keep_one(&mut self, mut escapes: u32, count: u32) {
        let (heap, context) = (&mut self.heap, self.shortest);
        let first = heap.first(context);
        let mut freq = heap.freq(first);
        loop {
            escapes >>= 1;
            freq = (freq + 1) >> 1;
            if escapes <= 1 {
                break;
            }
        }
        let mut state = heap.state(first);
        state[1] = freq as u8;
        heap.set_count(context, 1);
        heap.set_state(context + 2, state);
        self.found = context + 2;
        heap.release(first, count.div_ceil(2));
    }
}
