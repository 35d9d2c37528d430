//! Floor 1, the first noun: whatever has bytes.
//!
//! [`ReadAt`] is a local file, a part of one, a member of an archive, bytes in memory. [`Store`] is one that also takes
//! bytes. Offsets are absolute, there is no cursor, and any number of threads may read at once.

mod arrival;
mod blocks;
mod depot;
mod file;
mod fleet;
mod forward;
mod held;
mod joined;
mod limit;
mod memory;
mod meter;
mod mirrors;
pub mod objects;
pub mod pace;
pub mod parity;
mod patched;
pub mod profile;
mod seeking;
mod shelf;
mod span;
mod spill;
mod stamp;
mod stream;
pub mod streams;
mod summed;
mod volumes;

pub use arrival::Arrival;
pub use blocks::{Again, BLOCK, Blocks, Failure, Far, Go, Kept, Ways};
pub use depot::{Depot, DepotObject, Pin, Version};
pub use file::{FileSource, free_in};
pub use fleet::Fleet;
pub use forward::{Forward, PAGE, POINTS_BUDGET};
pub use held::{Held, Sign, Standing};
pub use joined::Joined;
pub use limit::{Limit, Until};
pub use memory::Memory;
pub use meter::{Meter, Portion, State, Traffic};
pub use mirrors::{Found, Mirrors, Opens};
pub use patched::Patched;
pub use seeking::Seeking;
pub use shelf::Shelf;
pub use span::{Part, Span};
pub use spill::Spill;
pub use stamp::Stamp;
pub use stream::{Decoder, Point, Stream};
pub use summed::{Crc, NoSum, Sum, Summed};
pub use volumes::{Make, VolumeSet};

use crate::error::{Error, Kind, Result};
use std::ops::Range;

/// Bytes that can be read at any offset, by any number of threads.
pub trait ReadAt: Send + Sync {
    /// The length in bytes.
    fn len(&self) -> Result<u64>;

    fn is_empty(&self) -> Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Reads up to `into.len()` bytes at `at`; fewer only at the end, 0 at or behind it.
    fn read_at(&self, at: u64, into: &mut [u8]) -> Result<usize>;

    /// Says that this range is going to be read soon. Whoever can prepare it does so, without blocking the caller.
    fn will_read(&self, _range: Range<u64>) {}

    /// The next range at or after `at` that holds data, or `None` when only a hole (or nothing) follows.
    /// What is between two such ranges reads as zeros and needs no space.
    fn next_data(&self, at: u64) -> Result<Option<Range<u64>>> {
        let len = self.len()?;
        Ok((at < len).then_some(at..len))
    }

    /// Where a range lies in a container that this process has open, when a writer of that container may use the same
    /// bytes again.
    fn stored(&self, _range: Range<u64>) -> Option<Stored> {
        None
    }

    /// Whether somebody else has changed the bytes since they were opened, as far as that can be told.
    fn is_changed(&self) -> bool {
        false
    }

    /// The error of bytes that are not what they should be: of a source that somebody has changed it is no damage.
    fn blame(&self, e: Error) -> Error {
        if e.kind() != Kind::Damaged || !self.is_changed() {
            return e;
        }
        Error::new(Kind::Changed, "it was changed by somebody else while it was open").caused_by(e)
    }

    /// Reads exactly `into.len()` bytes, or says that the source is too short.
    fn read_exact_at(&self, at: u64, into: &mut [u8]) -> Result<()> {
        let got = self.read_at(at, into)?;
        if got == into.len() {
            return Ok(());
        }
        let want = into.len();
        Err(Error::new(
            Kind::Damaged,
            format!("the file ends at {}, {want} bytes were expected at {at}", at + got as u64),
        ))
    }
}

/// Where bytes lie in a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Which container, among those that are open.
    pub owner: u64,
    /// Offset in the file, address in the container, length. What is between them is a hole.
    pub pieces: Vec<(u64, u64, u64)>,
}

/// Bytes that can be written as well: what a container in place and a journal need.
pub trait Store: ReadAt {
    fn write_at(&self, at: u64, bytes: &[u8]) -> Result<()>;
    fn set_len(&self, len: u64) -> Result<()>;
    /// Returns when everything written so far is on the medium.
    fn sync(&self) -> Result<()>;

    /// Brings what is on the medium to where it belongs, where that is another place. Before that nobody else sees it.
    ///
    /// # Errors
    /// `NotUploaded` when it could not be brought there; `Changed` when somebody else has changed what is there.
    fn publish(&self) -> Result<()> {
        Ok(())
    }

    /// Makes sure that the range can be written without running out of space; the length stays.
    ///
    /// # Errors
    /// `NoSpace` when it cannot.
    fn reserve(&self, _range: Range<u64>) -> Result<()> {
        Ok(())
    }

    /// Gives the space of a range back, which then reads as zeros; the length stays. Where the medium cannot do that,
    /// nothing happens, and `false` is returned.
    fn punch(&self, _range: Range<u64>) -> Result<bool> {
        Ok(false)
    }

    /// Bytes that are free on the medium.
    fn free(&self) -> Result<u64> {
        Ok(u64::MAX)
    }

    /// Keeps everybody else from beginning to read, until they are admitted again. `false` when somebody reads already, or
    /// when nobody can tell: then nothing that a commit stands on may be moved or written over.
    fn exclude_readers(&self) -> Result<bool> {
        Ok(true)
    }

    /// Ends what [`Store::exclude_readers`] began.
    fn admit_readers(&self) {}
}
