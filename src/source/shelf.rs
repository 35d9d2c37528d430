//! The streams of an archive that were opened lately: what is decoded of one serves whoever opens it next.

use super::{Forward, ReadAt, Span};
use crate::error::Result;
use crate::pool::lock;
use lru::LruCache;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex};

/// Streams that are remembered. Their pages and decoders are in the cache and cost nothing here.
const STREAMS: NonZeroUsize = NonZeroUsize::new(256).unwrap();

/// Streams by the number that the format gives them.
pub struct Shelf(Mutex<LruCache<u64, Arc<Forward>>>);

impl Default for Shelf {
    fn default() -> Self {
        Self(Mutex::new(LruCache::new(STREAMS)))
    }
}

impl Shelf {
    /// The stream of a number, opened if it is not there.
    pub fn stream(&self, number: u64, open: impl FnOnce() -> Result<Arc<Forward>>) -> Result<Arc<Forward>> {
        if let Some(known) = lock(&self.0).get(&number) {
            return Ok(known.clone());
        }
        // Opening may read, so nothing is locked. Of two who do it at once, the first is right for both.
        let opened = open()?;
        let mut shelf = lock(&self.0);
        if let Some(known) = shelf.get(&number) {
            return Ok(known.clone());
        }
        shelf.put(number, opened.clone());
        Ok(opened)
    }

    /// A part of a stream, as the member of a solid block is.
    pub fn part(
        &self,
        number: u64,
        range: std::ops::Range<u64>,
        open: impl FnOnce() -> Result<Arc<Forward>>,
    ) -> Result<Arc<dyn ReadAt>> {
        Ok(Arc::new(Span::new(self.stream(number, open)?, range)))
    }
}
