//! The dictionary: what was decoded last, as a ring.

/// How far back a match can reach.
pub(super) const WINDOW: usize = 4 << 20;

/// Bytes that are decoded at once before they are given out.
pub(super) const ROOM: usize = 256 << 10;

/// Behind these there are two pieces more than the longest match, so nothing that a match can reach is overwritten.
const SLACK: usize = 1 << 10;

const RING: usize = WINDOW + ROOM + SLACK;

/// Bytes that a match is copied in.
const PIECE: usize = 16;

pub(super) struct Window {
    ring: Vec<u8>,
    /// Where in the ring the next byte goes.
    at: usize,
    /// How many bytes there were in all.
    end: u64,
}

impl Window {
    pub fn new() -> Self {
        Self { ring: vec![0; RING], at: 0, end: 0 }
    }

    #[inline(always)]
    pub fn end(&self) -> u64 {
        self.end
    }

    #[inline(always)]
    pub fn push(&mut self, byte: u8) {
        self.ring[self.at] = byte;
        self.moved(1);
    }

    #[inline(always)]
    fn moved(&mut self, n: usize) {
        self.at += n;
        if self.at >= RING {
            self.at -= RING;
        }
        self.end += n as u64;
    }

    /// Copies a match, of 300 bytes at most; `false` when it is from farther than the window reaches. What was before the
    /// first byte is zeros, for all of the match: as of the others that read these.
    #[inline(always)]
    pub fn copy(&mut self, distance: usize, length: usize) -> bool {
        if distance > self.end.min(WINDOW as u64) as usize {
            return self.copy_zeros(distance, length);
        }
        let to = self.at;
        let from = if distance <= to { to - distance } else { to + RING - distance };
        if to.max(from) + length + PIECE > RING {
            self.copy_around(from, length);
        } else if distance >= PIECE {
            let mut done = 0;
            while done < length {
                self.ring.copy_within(from + done..from + done + PIECE, to + done);
                done += PIECE;
            }
        } else if distance == 1 {
            let byte = self.ring[from];
            self.ring[to..to + length].fill(byte);
        } else {
            let part = &mut self.ring[from..to + length];
            for n in 0..length {
                part[distance + n] = part[n];
            }
        }
        self.moved(length);
        true
    }

    /// Where the ring closes.
    #[cold]
    fn copy_around(&mut self, from: usize, length: usize) {
        for n in 0..length {
            self.ring[(self.at + n) % RING] = self.ring[(from + n) % RING];
        }
    }

    #[cold]
    fn copy_zeros(&mut self, distance: usize, length: usize) -> bool {
        if (distance as u64) <= self.end {
            return false;
        }
        (0..length).for_each(|_| self.push(0));
        true
    }

    /// The last bytes from this place on, in two parts, of which the second may be empty.
    pub fn range(&self, from: u64, to: u64) -> [&[u8]; 2] {
        let back = (self.end.saturating_sub(from) as usize).min(RING);
        let len = (to.saturating_sub(from) as usize).min(back);
        let from = if back <= self.at { self.at - back } else { self.at + RING - back };
        let first = len.min(RING - from);
        [&self.ring[from..from + first], &self.ring[..len - first]]
    }
}
