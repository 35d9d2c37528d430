//! An object whose server is not asked, or was not there when it was to be opened: what is kept of it is shown.
//!
//! ```text
//!   a part that is kept ─► from the disk      another ─► is the server there again, and has it this version? ─► from there
//! ```

use super::{Fetched, Link, Object, never, open_now};
use crate::error::Kind;
use crate::key::NoKeys;
use crate::pool::lock;
use crate::source::{Again, Failure, Far, Go};
use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Nobody asks again sooner than this.
const REST: Duration = Duration::from_secs(1);

/// The other end when nobody is asked.
pub struct Nobody;

impl Far for Nobody {
    fn fetch(&self, _: Range<u64>, _: &mut dyn FnMut(&[u8]) -> Go) -> Fetched<()> {
        Err(never(Kind::Unreachable, "this part of it is not kept, and the server is not asked"))
    }
}

/// The other end when it was away.
pub struct Absent {
    address: String,
    link: Link,
    len: u64,
    stamp: String,
    found: Mutex<Found>,
}

#[derive(Default)]
struct Found {
    far: Option<Arc<dyn Far>>,
    tried: Option<Instant>,
}

impl Absent {
    /// Of which this version is kept.
    pub fn new(address: &str, link: &Link, len: u64, stamp: &str) -> Self {
        let found = Mutex::default();
        Self { address: address.to_owned(), link: link.clone(), len, stamp: stamp.to_owned(), found }
    }

    /// The object at the server, once it is there again.
    fn found(&self) -> Fetched<Arc<dyn Far>> {
        let mut found = lock(&self.found);
        if let Some(far) = &found.far {
            return Ok(far.clone());
        }
        let rest = found.tried.and_then(|tried| REST.checked_sub(tried.elapsed()));
        if let Some(rest) = rest {
            let error = never(Kind::Unreachable, "this part of it is not kept, and the server cannot be reached").error;
            return Err(Failure { error, again: Again::In(rest) });
        }
        let opened = open_now(&self.address, &self.link, &NoKeys);
        found.tried = Some(Instant::now());
        match opened {
            Ok(Object { far, len, stamp, .. }) if len == self.len && stamp.as_ref() == Some(&self.stamp) => {
                found.far = Some(far.clone());
                Ok(far)
            }
            Ok(_) => Err(never(Kind::Changed, "it was changed on the server since it was kept")),
            Err(error) => {
                let again = if error.is_of_link() { Again::Soon } else { Again::Never };
                Err(Failure { error, again })
            }
        }
    }
}

impl Far for Absent {
    fn fetch(&self, range: Range<u64>, take: &mut dyn FnMut(&[u8]) -> Go) -> Fetched<()> {
        let far = self.found()?;
        // It is read by ranges, whatever the server knows.
        let mut skip = if far.is_forward() { range.start } else { 0 };
        let from = if far.is_forward() { 0 } else { range.start };
        far.fetch(from..range.end, &mut |piece| {
            let skipped = skip.min(piece.len() as u64);
            skip -= skipped;
            take(&piece[skipped as usize..])
        })
    }
}
