//! Where an archive begins: at the front, or behind a program that unpacks it.

use super::{ancient, new, old};
use crate::error::Result;
use crate::source::ReadAt;
use memchr::memmem;

/// How much of a program that unpacks itself is looked through.
const FURTHEST: usize = 4 << 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// RAR 1.3 and 1.4.
    Ancient,
    /// RAR 1.5 to 4.
    Old,
    /// RAR 5 and 7.
    New,
}

/// Where the signature stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Start {
    pub at: u64,
    pub version: Version,
}

impl Start {
    /// Where the signature ends.
    pub fn behind(&self) -> u64 {
        let len = match self.version {
            Version::Ancient => ancient::SIGNATURE.len(),
            Version::Old => old::SIGNATURE.len(),
            Version::New => new::SIGNATURE.len(),
        };
        self.at + len as u64
    }
}

/// The version whose signature stands at the front.
fn signed(bytes: &[u8]) -> Option<Version> {
    match bytes {
        _ if bytes.starts_with(new::SIGNATURE) => Some(Version::New),
        _ if bytes.starts_with(old::SIGNATURE) => Some(Version::Old),
        // Nothing in it has a checksum, so more than four bytes must speak for it.
        [b'R', b'E', b'~', b'^', size, 0, ..] if *size >= 7 => Some(Version::Ancient),
        _ => None,
    }
}

/// Where an archive begins in the first bytes of a file. Behind a program a sound header must follow: the program itself has
/// the signature in it, for it looks for it.
pub fn in_bytes(bytes: &[u8]) -> Option<Start> {
    if let Some(version) = signed(bytes) {
        return Some(Start { at: 0, version });
    }
    memmem::find_iter(bytes, &new::SIGNATURE[..6]).find_map(|at| {
        let here = &bytes[at..];
        match signed(here)? {
            Version::New if new::is_sound(&here[new::SIGNATURE.len()..]) => {
                Some(Start { at: at as u64, version: Version::New })
            }
            Version::Old if old::is_sound(&here[old::SIGNATURE.len()..]) => {
                Some(Start { at: at as u64, version: Version::Old })
            }
            _ => None,
        }
    })
}

pub fn find(source: &dyn ReadAt) -> Result<Option<Start>> {
    let mut bytes = vec![0; 16];
    let got = source.read_at(0, &mut bytes)?;
    bytes.truncate(got);
    if let Some(start) = in_bytes(&bytes) {
        return Ok(Some(start));
    }
    // Only behind a program.
    if !(bytes.starts_with(b"MZ") || bytes.starts_with(b"\x7fELF") || bytes.starts_with(b"#!")) {
        return Ok(None);
    }
    bytes.resize(FURTHEST.min(source.len()? as usize), 0);
    source.read_exact_at(0, &mut bytes)?;
    Ok(in_bytes(&bytes))
}

/// The signature of a further volume right at an offset.
pub fn at(source: &dyn ReadAt, at: u64) -> Result<Option<Start>> {
    let mut bytes = [0; 8];
    let got = source.read_at(at, &mut bytes)?;
    Ok(signed(&bytes[..got]).map(|version| Start { at, version }))
}
