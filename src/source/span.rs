//! A range of another source, seen as a source of its own.

use super::ReadAt;
use crate::error::Result;
use std::ops::Range;
use std::sync::Arc;

/// The bytes `start..start + len` of another source.
pub struct Span {
    inner: Arc<dyn ReadAt>,
    start: u64,
    len: u64,
}

impl Span {
    /// The range must lie inside the source.
    pub fn new(inner: Arc<dyn ReadAt>, range: Range<u64>) -> Self {
        Self { inner, start: range.start, len: range.end.saturating_sub(range.start) }
    }
}

impl ReadAt for Span {
    fn len(&self) -> Result<u64> {
        Ok(self.len)
    }

    fn read_at(&self, at: u64, into: &mut [u8]) -> Result<usize> {
        let rest = usize::try_from(self.len.saturating_sub(at)).unwrap_or(usize::MAX);
        let len = into.len().min(rest);
        self.inner.read_at(self.start.saturating_add(at), &mut into[..len])
    }

    fn is_changed(&self) -> bool {
        self.inner.is_changed()
    }

    fn will_read(&self, range: Range<u64>) {
        self.inner
            .will_read(self.start.saturating_add(range.start)..self.start.saturating_add(range.end.min(self.len)));
    }
}

/// The same as an archive tells it, which may be wrong: where the other source ends before, it is an error and not the end.
pub struct Part {
    inner: Arc<dyn ReadAt>,
    start: u64,
    len: u64,
}

impl Part {
    pub fn new(inner: Arc<dyn ReadAt>, start: u64, len: u64) -> Self {
        Self { inner, start, len }
    }
}

impl ReadAt for Part {
    fn len(&self) -> Result<u64> {
        Ok(self.len)
    }

    fn read_at(&self, at: u64, into: &mut [u8]) -> Result<usize> {
        let want = usize::try_from(self.len.saturating_sub(at)).unwrap_or(usize::MAX).min(into.len());
        if want == 0 {
            return Ok(0);
        }
        let start = self.start.saturating_add(at);
        self.inner.read_exact_at(start, &mut into[..want]).map_err(|e| self.inner.blame(e))?;
        Ok(want)
    }

    fn is_changed(&self) -> bool {
        self.inner.is_changed()
    }

    fn will_read(&self, range: Range<u64>) {
        let end = self.start.saturating_add(range.end.min(self.len));
        self.inner.will_read(self.start.saturating_add(range.start).min(end)..end);
    }
}
