//! Segments on their way: to the workers, and from them into the file.

use super::super::layout::RecordType;
use super::super::plan::Preset;
use super::super::records::Log;
use super::super::rows::SegmentRow;
use super::super::seal::Sealing;
use super::content::Sink;
use super::encode::{self, Raw, Segment};
use crate::error::Result;
use crate::pool;
use std::cell::RefCell;

/// Appends a segment; its row.
pub fn append_segment(log: &mut Log<'_>, segment: &Segment) -> Result<SegmentRow> {
    let placed = log.append(RecordType::Segment, &[&segment.front, &segment.data])?;
    Ok(SegmentRow {
        address: segment.address,
        raw_len: segment.raw_len,
        record: placed.record,
        payload_len: placed.payload_len,
        store: 0,
        hash: placed.hash,
    })
}

/// Compresses what `feed` sends and hands it to `drain` in that order: on all cores, or, when there is little of it, at
/// once.
pub fn segments(
    preset: &Preset,
    sealing: &Sealing,
    many: bool,
    feed: impl FnOnce(&Sink<'_>) -> Result<()>,
    mut drain: impl FnMut(Segment) -> Result<()> + Send,
) -> Result<()> {
    if many {
        let threads = pool::threads();
        let feed = |feeder: &pool::Feed<Raw, Result<Segment>>| feed(&|raw| feeder.push(raw));
        return pool::ordered(
            threads,
            threads + 1,
            feed,
            |raw| encode::encode(&raw, preset, sealing),
            |done| drain(done?),
        );
    }
    let drain = RefCell::new(drain);
    let failed = RefCell::new(Ok(()));
    let fed = feed(&|raw| {
        let done = encode::encode(&raw, preset, sealing).and_then(|segment| (*drain.borrow_mut())(segment));
        let went = done.is_ok();
        *failed.borrow_mut() = done;
        went
    });
    failed.into_inner().and(fed)
}
