//! Sees who reads a file from front to back, and says ahead what comes next.
//!
//! ```text
//!             next                ahead
//!   ──────────┼───────────────────┼───────────────►
//!    read     │ announced already │ announced when less than half a window is left
//! ```
//!
//! Several readers may go through one file at different places, and a kernel sends its requests in parallel, so they
//! come a little out of order: each file has a small table of streams, and a read belongs to the stream whose end is
//! near. A range is announced once.

use std::ops::Range;

/// Streams seen in one file at a time. More readers than this push each other out, and read without hints.
const STREAMS: usize = 8;
/// How far from the end of a stream a read may be and still belong to it: eight requests of 128 KiB in flight.
const SLACK: u64 = 1 << 20;
/// The first announcement. Doubles with each further one.
pub const FIRST_WINDOW: u64 = 512 << 10;
/// The largest announcement, unless the mount was told another.
pub const LAST_WINDOW: u64 = 4 << 20;

/// The streams of one file.
#[derive(Debug, Default)]
pub struct Pace {
    streams: Vec<Stream>,
    clock: u64,
}

#[derive(Debug)]
struct Stream {
    /// End of the furthest read.
    next: u64,
    /// End of what was announced.
    ahead: u64,
    window: u64,
    used: u64,
}

impl Pace {
    /// Takes note of a read, and tells what to announce now. `len` is the length of the file, `limit` the largest window.
    pub fn note(&mut self, read: Range<u64>, len: u64, limit: u64) -> Option<Range<u64>> {
        self.clock += 1;
        let near = |s: &&mut Stream| read.start.abs_diff(s.next) <= SLACK;
        let Some(stream) = self.streams.iter_mut().filter(near).min_by_key(|s| read.start.abs_diff(s.next)) else {
            self.begin(read, limit);
            return None;
        };
        stream.used = self.clock;
        stream.advance(read.end, len, limit)
    }

    fn begin(&mut self, read: Range<u64>, limit: u64) {
        if self.streams.len() == STREAMS {
            let oldest = (0..STREAMS).min_by_key(|i| self.streams[*i].used).unwrap_or(0);
            self.streams.swap_remove(oldest);
        }
        let window = FIRST_WINDOW.min(limit);
        self.streams.push(Stream { next: read.end, ahead: read.end, window, used: self.clock });
    }
}

impl Stream {
    fn advance(&mut self, end: u64, len: u64, limit: u64) -> Option<Range<u64>> {
        // The same place again is no progress.
        if end <= self.next {
            return None;
        }
        self.next = end;
        self.ahead = self.ahead.max(end);
        if self.ahead >= len || self.ahead - end > self.window / 2 {
            return None;
        }
        let range = self.ahead..(end + self.window).clamp(self.ahead, len);
        self.ahead = range.end;
        self.window = (self.window * 2).min(limit);
        (!range.is_empty()).then_some(range)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEP: u64 = 128 << 10;
    const LEN: u64 = 64 << 20;

    fn read(pace: &mut Pace, at: u64) -> Option<Range<u64>> {
        pace.note(at..at + STEP, LEN, LAST_WINDOW)
    }

    /// Everything was announced before it was read, but for the first two requests; nothing was announced twice.
    fn check(announced: &[(u64, Range<u64>)], from: u64, to: u64) {
        let mut end = from;
        for (at, range) in announced {
            assert!(range.start >= end && range.start >= *at, "{range:?} begins before {end}");
            assert!(range.end - range.start <= LAST_WINDOW);
            end = range.end;
        }
        assert_eq!(end, to);
    }

    #[test]
    fn a_sequential_reader_is_announced_ahead_and_once() {
        let (mut pace, mut announced, mut ahead) = (Pace::default(), Vec::new(), 2 * STEP);
        for at in (0..LEN).step_by(STEP as usize) {
            assert!(at < ahead, "the reader at {at} overtook the announcements");
            if let Some(range) = read(&mut pace, at) {
                ahead = range.end;
                announced.push((at, range));
            }
        }
        check(&announced, 0, LEN);
        assert!(announced.len() < 40, "{} announcements for {} reads", announced.len(), LEN / STEP);
    }

    #[test]
    fn two_readers_at_different_places_do_not_disturb_each_other() {
        let (mut pace, mut low, mut high) = (Pace::default(), Vec::new(), Vec::new());
        for at in (0..LEN / 2).step_by(STEP as usize) {
            low.extend(read(&mut pace, at).map(|r| (at, r)));
            high.extend(read(&mut pace, LEN / 2 + at).map(|r| (LEN / 2 + at, r)));
        }
        check(&high, LEN / 2, LEN);
        assert!(low.last().unwrap().1.end >= LEN / 2);
        assert!(low.len() < 40 && high.len() < 40);
    }

    #[test]
    fn requests_a_little_out_of_order_are_one_stream() {
        let (mut pace, mut announced) = (Pace::default(), Vec::new());
        for pair in (0..LEN).step_by(2 * STEP as usize) {
            for at in [pair + STEP, pair] {
                announced.extend(read(&mut pace, at).map(|r| (at, r)));
            }
        }
        check(&announced, 0, LEN);
        assert_eq!(pace.streams.len(), 1);
    }

    #[test]
    fn reads_here_and_there_announce_nothing() {
        let mut pace = Pace::default();
        for n in 0..1000u64 {
            assert_eq!(read(&mut pace, n * 7919 * STEP % LEN), None);
            assert!(pace.streams.len() <= STREAMS);
        }
    }

    #[test]
    fn reading_one_place_again_and_again_announces_nothing() {
        let mut pace = Pace::default();
        assert!((0..100).all(|_| read(&mut pace, 5 * STEP).is_none()));
    }
}
