//! Space behind the end of a container that its medium has promised, so that what a mount has taken can be stored.
//!
//! ```text
//!   … COMMIT │ PARITY │ promised: what is taken and not yet written, and a reserve │ free, or somebody else's
//!                     └ `end`                                           `reserved` ┘
//! ```
//!
//! The promise is of a range behind the end of the file, and goes with it when the file is cut: it is asked for again.
//! Whoever has the state may take this lock, and nobody who has it takes the state.

use super::StWriter;
use crate::error::{Kind, Result};
use crate::pool::lock;
use std::sync::MutexGuard;
use std::sync::atomic::Ordering::Relaxed;

/// Space that is kept for changes that need none for contents, such as deleting on a full disk.
pub(super) const RESERVE: u64 = 1 << 20;
/// Space is asked for in steps of so many bytes.
const RESERVE_STEP: u64 = 8 << 20;
/// What an entry needs in a table and a record, at most, without what its attributes hold.
const ENTRY: u64 = 512;

impl StWriter {
    pub(super) fn reserving(&self) -> MutexGuard<'_, ()> {
        lock(&self.reserving)
    }

    /// See [`Writer::reserve`](crate::formats::Writer::reserve).
    pub(super) fn promise(&self, bytes: u64, entries: u64) -> Result<()> {
        let need = self.end.load(Relaxed) + RESERVE + bytes + bytes / 64 + entries * ENTRY;
        if need <= self.reserved.load(Relaxed) {
            return Ok(());
        }
        let _one_at_a_time = self.reserving();
        let from = self.reserved.load(Relaxed).max(self.end.load(Relaxed));
        if need <= from {
            return Ok(());
        }
        let ample = need.next_multiple_of(RESERVE_STEP);
        let granted = match self.store.reserve(from..ample) {
            Ok(()) => ample,
            Err(e) if e.kind() == Kind::NoSpace => {
                self.store.reserve(from..need)?;
                need
            }
            Err(e) => return Err(e),
        };
        self.reserved.store(granted, Relaxed);
        Ok(())
    }

    /// Makes sure that a commit which takes more than it has to leaves room for small changes on a full disk.
    pub(super) fn keep_free(&self, end: u64) -> Result<()> {
        let need = end + RESERVE / 2;
        let _one_at_a_time = self.reserving();
        let reserved = self.reserved.load(Relaxed);
        if need > reserved {
            self.store.reserve(reserved..need)?;
            self.reserved.store(need, Relaxed);
        }
        Ok(())
    }

    /// Makes sure that so many bytes can be written at the end and all that was promised is still to be had behind them.
    pub(super) fn make_way(&self, bytes: u64) -> Result<()> {
        let _one_at_a_time = self.reserving();
        let from = self.reserved.load(Relaxed).max(self.end.load(Relaxed));
        self.store.reserve(from..from + bytes)?;
        self.reserved.store(from + bytes, Relaxed);
        Ok(())
    }

    /// Cuts the file off behind a place; as much is promised behind it as was behind the end, and the end of what counts
    /// is not behind it.
    pub(super) fn cut_behind(&self, end: u64) -> Result<()> {
        let _one_at_a_time = self.reserving();
        let promised = self.promised(end);
        self.store.set_len(end)?;
        self.end.fetch_min(end, Relaxed);
        self.promise_again(end, promised);
        Ok(())
    }

    /// Bytes that are promised behind the end, or behind a place that is further.
    pub(super) fn promised(&self, at: u64) -> u64 {
        self.reserved.load(Relaxed).saturating_sub(self.end.load(Relaxed).max(at))
    }

    /// Asks for space again that went with the end of the file, or for as much of it as nobody else has taken meanwhile.
    /// The caller has the lock.
    pub(super) fn promise_again(&self, end: u64, mut promised: u64) {
        while promised > 0 && self.store.reserve(end..end + promised).is_err() {
            promised /= 2;
        }
        self.reserved.store(end + promised, Relaxed);
    }

    /// Knows of no reserved space any more: the file is another one, or somebody else's.
    pub fn forget_reserved(&self) {
        let _one_at_a_time = self.reserving();
        self.reserved.store(self.end(), Relaxed);
        self.untidy.store(false, Relaxed);
    }
}
