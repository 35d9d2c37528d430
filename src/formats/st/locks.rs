//! Unlocking a container: its KEYS record, and whoever knows passphrases and keys.
//!
//! ```text
//!   COMMIT front ──offset──► KEYS │ KEYS        the same twice, one behind the other: nothing else is as dear
//!                             └──► slots ──► master key ──► Seal
//! ```

use super::keys::KeySet;
use super::layout::{ALIGN, RECORD_HEADER_LEN, RecordHeader, RecordType, SealedFront, record_len};
use super::limits;
use super::records::{Log, header_at};
use super::seal::Seal;
use crate::error::{Error, Kind, Result};
use crate::formats::Reading;
use crate::source::ReadAt;
use std::sync::Arc;

/// Who opens what is locked.
pub struct Locks<'a> {
    pub reading: &'a Reading,
    /// The name of the container, for whoever is asked.
    pub name: &'a str,
}

impl Locks<'_> {
    /// The seal of a container whose newest keys a commit names.
    pub fn unlock(&self, source: &dyn ReadAt, front: &SealedFront) -> Result<Arc<Seal>> {
        let keys = read(source, front.keys.get(), &front.uid)?;
        let known = self.reading.vault.get(&front.uid).filter(|master| keys.is_of(master));
        let master = match known {
            Some(master) => master,
            None => {
                let (master, slot) = keys.unlock_slot(&*self.reading.keys, self.name)?;
                self.reading.vault.keep(front.uid, &master, Some(slot));
                master
            }
        };
        Seal::new(keys, master).map(Arc::new)
    }
}

/// Bytes behind the beginning of a KEYS record in which the second one is.
const NEAR: u64 = 2 * (limits::KEY_PAYLOAD as u64 + ALIGN + RECORD_HEADER_LEN);

/// Bytes from an offset on, in which both copies are.
fn near(source: &dyn ReadAt, at: u64) -> Result<Vec<u8>> {
    let mut near = vec![0; NEAR as usize];
    let got = source.read_at(at, &mut near)?;
    near.truncate(got);
    Ok(near)
}

/// The KEYS records of a container that begin in these bytes, which begin at an offset.
fn copies<'a>(near: &'a [u8], at: u64, uid: &'a [u8; 16]) -> impl Iterator<Item = RecordHeader> + 'a {
    let headers =
        (0..near.len()).step_by(ALIGN as usize).filter_map(move |from| header_at(&near[from..], at + from as u64));
    headers.filter(|header| header.kind == RecordType::Keys as u8 && header.check == header.expected_check(uid))
}

/// Reads the keys at an offset, or their second copy.
pub fn read(source: &dyn ReadAt, at: u64, uid: &[u8; 16]) -> Result<KeySet> {
    let near = near(source, at)?;
    for header in copies(&near, at, uid) {
        let payload = near.get((header.offset.get() - at + RECORD_HEADER_LEN) as usize..);
        let len = header.payload_len.get().min(limits::KEY_PAYLOAD as u64 + 1) as usize;
        let payload = payload.and_then(|rest| rest.get(..len));
        if let Some(payload) = payload.filter(|payload| *blake3::hash(payload).as_bytes() == header.payload_hash) {
            return KeySet::parse(payload);
        }
    }
    Err(Error::new(Kind::Header, "both copies of its keys are damaged")
        .hint("stmount check --repair, if it has parity"))
}

/// Where the keys at an offset end, with their second copy; `None` where no header of them is whole.
pub fn end(source: &dyn ReadAt, at: u64, uid: &[u8; 16]) -> Result<Option<u64>> {
    let near = near(source, at)?;
    let behind =
        |header: &RecordHeader| header.offset.get().checked_add(record_len(header.kind, header.payload_len.get())?);
    let mut copies = copies(&near, at, uid);
    let Some((first, end)) = copies.next().and_then(|first| Some((first, behind(&first)?))) else { return Ok(None) };
    let second = copies.find(|second| second.offset.get() == end && second.payload_hash == first.payload_hash);
    Ok(second.as_ref().and_then(behind).or(Some(end)))
}

/// Appends the keys, twice; where the first copy is.
pub fn append(log: &mut Log<'_>, seal: &Seal) -> Result<u64> {
    let payload = seal.payload()?;
    let placed = log.append(RecordType::Keys, &[&payload])?;
    log.append(RecordType::Keys, &[&payload])?;
    Ok(placed.record)
}
