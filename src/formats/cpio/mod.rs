//! cpio archives, to be read: those of GNU cpio, BSD, the images that Linux boots from, and what is in an rpm.
//!
//! ```text
//!   │ header name data │ header name data │ ─ ─ │ TRAILER!!! │ zeros │ another archive, or one that is compressed
//!
//!   header   in front of an entry, in four forms     scan      from one to the next
//!   contents what is in a file                       rpm       where the archive in a package begins
//! ```
//!
//! A cpio has no list of its entries: it is gone through from its front. Of archives one behind the other the later ones
//! are laid over those before, as the kernel does it with an initramfs.

mod contents;
mod header;
mod rpm;
mod scan;

pub use rpm::Rpm;

use super::{Access, Format, Match, Names, Probe, Volume};
use crate::error::{Error, Kind, Result, Within};
use crate::source::ReadAt;
use header::Header;
use scan::Scan;
use std::sync::Arc;

/// The format, for the list of formats.
pub struct Cpio;

impl Format for Cpio {
    fn name(&self) -> &'static str {
        "cpio"
    }

    fn recognise(&self, probe: &Probe<'_>) -> Match {
        Match::head(Header::is_likely(probe.head))
    }

    fn is_read_forward(&self) -> bool {
        true
    }

    fn open(&self, access: Access) -> Result<Volume> {
        let name = access.name.clone();
        open(&access, access.bytes.clone(), self.name()).within(|| name)
    }
}

/// Goes through the archive that a source begins with; twice, where names turn out to be in a charset that has to be guessed
/// from all of them.
fn open(access: &Access, source: Arc<dyn ReadAt>, format: &'static str) -> Result<Volume> {
    let scan = |names| Scan::new(access, source.clone(), names).run();
    let (scan, _) = Names::settled(access.reading.encoding.as_deref(), scan, |scan| &scan.undeclared)?;
    scan.finish(format)
}

/// The error of what is no cpio.
fn broken(what: impl Into<String>) -> Error {
    Error::new(Kind::Header, what)
}
