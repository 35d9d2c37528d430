//! How long entries are of which nobody says it: their list is lost, and so is what stood behind their data.

use super::entry::Member;
use super::layout::Local;
use super::methods;
use crate::error::Result;
use crate::source::{ReadAt, Span};
use std::sync::Arc;
use zerocopy::FromBytes;

/// Decoded bytes that are looked at for all entries of an archive.
pub const PATIENCE: u64 = 256 << 20;

/// Decodes an entry to see how long it is. Of one that is torn, what can be read and one byte more: so that who reads it
/// gets all that is there, and is told that it is not all.
pub fn size(archive: &Arc<dyn ReadAt>, member: &Member, patience: &mut u64) -> Result<u64> {
    let mut bytes = [0; size_of::<Local>()];
    let got = archive.read_at(member.header_at, &mut bytes)?;
    let Ok(local) = Local::read_from_bytes(&bytes[..got]) else { return Ok(0) };
    let start =
        member.header_at + (bytes.len() as u64) + u64::from(local.name_len.get()) + u64::from(local.extra_len.get());
    let packed = Arc::new(Span::new(archive.clone(), start..start.saturating_add(member.packed)));
    if member.is_encrypted() {
        return Ok(member.packed);
    }
    let Ok(stream) = methods::decoded(member, packed, None) else { return Ok(member.packed) };
    let Ok(mut decoder) = stream.start(None) else { return Ok(1) };
    let (mut piece, mut size) = (vec![0; 64 << 10], 0);
    while *patience > 0 {
        match decoder.read(&mut piece) {
            Ok(0) => return Ok(size),
            Ok(more) => {
                size += more as u64;
                *patience = patience.saturating_sub(more as u64);
            }
            Err(_) => break,
        }
    }
    Ok(size + 1)
}
