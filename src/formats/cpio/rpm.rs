//! A package of rpm: a cpio that is compressed, behind what rpm itself wants to know.
//!
//! ```text
//!   │ lead, 96 bytes │ signature ┊to 8│ header │ compressed cpio
//!                      └ each: magic, number of entries, bytes of their data; entries of 16 bytes; data ┘
//! ```

use super::{broken, open};
use crate::error::{Error, Kind, Result, Within};
use crate::formats::{Access, Compressed, Format, Match, Probe, Volume};
use crate::source::{Forward, ReadAt, Span, streams};
use std::sync::Arc;

const LEAD: u64 = 96;
const LEAD_MAGIC: [u8; 4] = [0xed, 0xab, 0xee, 0xdb];
const HEADER_MAGIC: [u8; 3] = [0x8e, 0xad, 0xe8];

/// The format, for the list of formats.
pub struct Rpm;

impl Format for Rpm {
    fn name(&self) -> &'static str {
        "rpm"
    }

    fn recognise(&self, probe: &Probe<'_>) -> Match {
        Match::head(probe.head.starts_with(&LEAD_MAGIC))
    }

    fn open(&self, access: Access) -> Result<Volume> {
        let name = access.name.clone();
        open_package(access).within(|| name)
    }
}

fn open_package(access: Access) -> Result<Volume> {
    let signature = behind_header(&*access.bytes, LEAD)?;
    let start = behind_header(&*access.bytes, signature.next_multiple_of(8))?;
    let payload: Arc<dyn ReadAt> = Arc::new(Span::new(access.bytes.clone(), start..access.bytes.len()?));
    let mut head = [0; streams::HEAD];
    let got = payload.read_at(0, &mut head)?;
    let Some(kind) = streams::recognise(&head[..got], "") else {
        return open(&access, payload, "rpm");
    };
    let forward = Forward::new(streams::stream(kind, payload)?, access.cache.clone())?;
    let mut first = [0; 6];
    let got = forward.read_at(0, &mut first)?;
    if first[..got] == *b"07070X" {
        let what = "its files are larger than 4 GiB, and their list is in a form that is not read yet";
        return Err(Error::new(Kind::Unsupported, what));
    }
    let compressed = Compressed { by: kind.name(), len: access.bytes.len()? };
    let access = Access { compressed: Some(compressed), ..access };
    let volume = open(&access, forward, "rpm")?;
    let more = [
        ("compression", kind.name().to_owned()),
        ("random access", "a jump decodes all that is before it, what was decoded lately excepted".to_owned()),
    ];
    Ok(Volume { facts: volume.facts.into_iter().chain(more).collect(), ..volume })
}

/// Where a header ends.
fn behind_header(bytes: &dyn ReadAt, at: u64) -> Result<u64> {
    let mut head = [0; 16];
    let got = bytes.read_at(at, &mut head)?;
    if got < head.len() || !head.starts_with(&HEADER_MAGIC) {
        return Err(broken("a header of the package is missing"));
    }
    let number = |at: usize| u64::from(u32::from_be_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]));
    Ok(at + 16 + number(8) * 16 + number(12))
}
