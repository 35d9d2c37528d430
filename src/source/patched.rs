//! What is written to bytes that cannot be written to: kept in a draft until all of it is brought there at once.
//!
//! ```text
//!   base    ├───────────────────────────────────┤
//!   draft          ▒▒ (over it)          ▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒   at the same offsets, with holes between them
//!   reads   ├ base ┤▒▒├───── base ───────┤▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒┤
//!                  └ `from`: before it nothing is new
//! ```

use super::{FileSource, ReadAt, Store};
use crate::error::{Error, Kind, Result};
use crate::pool::lock;
use std::collections::BTreeMap;
use std::fs::File;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard};

/// Bytes with what was written over them and behind them.
pub struct Patched {
    draft: FileSource,
    state: RwLock<State>,
    /// Where writing began after each time that all before it was to be on the medium first.
    steps: Mutex<Steps>,
}

struct State {
    base: Arc<dyn ReadAt>,
    /// So much of the base is there still.
    kept: u64,
    len: u64,
    /// What was written: begin and end, apart from each other.
    written: BTreeMap<u64, u64>,
}

#[derive(Default)]
struct Steps {
    /// The lowest place that was written to since the last sync.
    lowest: Option<u64>,
    all: Vec<u64>,
}

impl Patched {
    /// Over a base, with a file that is empty and belongs to nobody else.
    ///
    /// # Errors
    /// Those of the length of the base.
    pub fn new(base: Arc<dyn ReadAt>, draft: File) -> Result<Self> {
        let len = base.len()?;
        let state = State { base, kept: len, len, written: BTreeMap::new() };
        Ok(Self { draft: FileSource::new(draft), state: RwLock::new(state), steps: Mutex::default() })
    }

    fn state(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// From here on it is another than its base; `None` when it is the same.
    pub fn from(&self) -> Option<u64> {
        let state = self.state();
        let first = state.written.keys().next().copied().unwrap_or(state.kept).min(state.kept);
        let base = state.base.len().unwrap_or(state.kept);
        (first < state.len || state.len != base).then_some(first.min(state.len))
    }

    /// Whether something of its base lies behind what is new.
    pub fn is_patched(&self) -> bool {
        let state = self.state();
        state.written.keys().next().is_some_and(|first| *first < state.kept)
    }

    /// The places before which all is to be on the medium, before what is behind them is written. In order.
    pub fn steps(&self) -> Vec<u64> {
        let mut steps = lock(&self.steps).all.clone();
        steps.sort_unstable();
        steps.dedup();
        steps
    }

    /// The base is another one, which has all that was written. The draft is empty then.
    ///
    /// # Errors
    /// `Changed` when the base is not as long as this.
    pub fn rebase(&self, base: Arc<dyn ReadAt>) -> Result<()> {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        if base.len()? != state.len {
            return Err(Error::new(Kind::Changed, "it is not as long as what was written"));
        }
        (state.base, state.kept) = (base, state.len);
        state.written.clear();
        *lock(&self.steps) = Steps::default();
        self.draft.set_len(0)
    }
}

impl State {
    /// Notes that a range was written.
    fn note(&mut self, range: Range<u64>) {
        let (mut start, mut end) = (range.start, range.end);
        while let Some((&begin, &till)) = self.written.range(..=end).next_back().filter(|(_, till)| **till >= start) {
            (start, end) = (start.min(begin), end.max(till));
            self.written.remove(&begin);
        }
        self.written.insert(start, end);
        self.len = self.len.max(range.end);
    }

    /// Where the bytes at a place are, and up to where.
    fn place(&self, at: u64) -> (Place, u64) {
        if let Some((_, &end)) = self.written.range(..=at).next_back().filter(|(_, end)| **end > at) {
            return (Place::Draft, end);
        }
        let next = self.written.range(at..).next().map_or(self.len, |(&begin, _)| begin).min(self.len);
        match at < self.kept {
            true => (Place::Base, next.min(self.kept)),
            false => (Place::Nowhere, next),
        }
    }
}

enum Place {
    Base,
    Draft,
    /// Nobody has written there: zeros.
    Nowhere,
}

impl ReadAt for Patched {
    fn len(&self) -> Result<u64> {
        Ok(self.state().len)
    }

    fn read_at(&self, at: u64, into: &mut [u8]) -> Result<usize> {
        let (mut done, state) = (0, self.state());
        let most = usize::try_from(state.len.saturating_sub(at)).unwrap_or(usize::MAX).min(into.len());
        while done < most {
            let here = at + done as u64;
            let (place, end) = state.place(here);
            let piece = usize::try_from(end - here).unwrap_or(usize::MAX).min(most - done);
            let piece = &mut into[done..done + piece];
            match place {
                Place::Base => state.base.read_exact_at(here, piece)?,
                Place::Draft => self.draft.read_exact_at(here, piece)?,
                Place::Nowhere => piece.fill(0),
            }
            done += piece.len();
        }
        Ok(done)
    }

    fn will_read(&self, range: Range<u64>) {
        let state = self.state();
        state.base.will_read(range.start.min(state.kept)..range.end.min(state.kept));
    }

    fn is_changed(&self) -> bool {
        self.state().base.is_changed()
    }
}

impl Store for Patched {
    fn write_at(&self, at: u64, bytes: &[u8]) -> Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        self.draft.write_at(at, bytes)?;
        self.state.write().unwrap_or_else(PoisonError::into_inner).note(at..at + bytes.len() as u64);
        let mut steps = lock(&self.steps);
        steps.lowest = Some(steps.lowest.map_or(at, |lowest| lowest.min(at)));
        Ok(())
    }

    fn set_len(&self, len: u64) -> Result<()> {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        if len < state.len {
            state.written.split_off(&len);
            if let Some(mut last) = state.written.last_entry()
                && *last.get() > len
            {
                last.insert(len);
            }
            state.kept = state.kept.min(len);
            lock(&self.steps).all.retain(|step| *step < len);
            if self.draft.len()? > len {
                self.draft.set_len(len)?;
            }
        }
        state.len = len;
        Ok(())
    }

    /// What was written is in the draft; where it belongs it is later.
    fn sync(&self) -> Result<()> {
        let mut steps = lock(&self.steps);
        let lowest = steps.lowest.take();
        steps.all.extend(lowest);
        Ok(())
    }

    fn free(&self) -> Result<u64> {
        self.draft.free()
    }

    /// Nobody can tell who reads the base.
    fn exclude_readers(&self) -> Result<bool> {
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Memory;

    fn all(bytes: &dyn ReadAt) -> Vec<u8> {
        let mut all = vec![0; bytes.len().unwrap() as usize];
        bytes.read_exact_at(0, &mut all).unwrap();
        all
    }

    fn patched(base: &[u8]) -> Patched {
        Patched::new(Arc::new(Memory::new(base.to_vec())), tempfile::tempfile().unwrap()).unwrap()
    }

    #[test]
    fn it_is_what_a_file_would_be() {
        let (mut seed, patched, file) = (7u64, patched(&[9; 300]), Memory::new(vec![9; 300]));
        let mut number = |most: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) % most
        };
        for _ in 0..2000 {
            let at = number(600);
            match number(8) {
                0 => [&patched as &dyn Store, &file].iter().for_each(|store| store.set_len(at).unwrap()),
                _ => {
                    let bytes = vec![number(256) as u8; 1 + number(80) as usize];
                    [&patched as &dyn Store, &file].iter().for_each(|store| store.write_at(at, &bytes).unwrap());
                }
            }
            // A file that grew by a write far behind its end has zeros there.
            assert_eq!(all(&patched), all(&file));
        }
    }

    #[test]
    fn before_where_it_is_another_it_is_its_base() {
        let patched = patched(b"0123456789");
        assert_eq!(patched.from(), None);
        patched.write_at(10, b"ab").unwrap();
        assert_eq!(patched.from(), Some(10));
        patched.set_len(8).unwrap();
        assert_eq!((patched.from(), all(&patched)), (Some(8), b"01234567".to_vec()));
        patched.write_at(8, b"xyz").unwrap();
        assert_eq!(patched.from(), Some(8));
        patched.write_at(2, b"..").unwrap();
        assert_eq!((patched.from(), all(&patched)), (Some(2), b"01..4567xyz".to_vec()));
        patched.rebase(Arc::new(Memory::new(all(&patched)))).unwrap();
        assert_eq!((patched.from(), all(&patched)), (None, b"01..4567xyz".to_vec()));
        assert_eq!(patched.rebase(Arc::new(Memory::new(vec![1]))).unwrap_err().kind(), Kind::Changed);
    }

    #[test]
    fn what_comes_behind_a_sync_is_a_step_of_its_own() {
        let patched = patched(b"0123456789");
        patched.write_at(10, b"segments").unwrap();
        patched.sync().unwrap();
        patched.write_at(18, b"commit").unwrap();
        patched.sync().unwrap();
        assert_eq!(patched.steps(), [10, 18]);
        patched.set_len(12).unwrap();
        assert_eq!(patched.steps(), [10]);
    }
}
