//! An empty container: what a mount that is written to begins with.
//!
//! ```text
//! ┌ HEADER ┬ TABLE: the root ┬ COMMIT 1 ┐
//! └────────┴─────────────────┴──────────┘
//! ```

use super::commit::Commit;
use super::layout::{CommitHead, HEADER_LEN, Header, RecordType, TAPE_START, TotalsItem};
use super::pack::nanoseconds;
use super::records::Log;
use super::rows::NodeRow;
use super::table::NewTable;
use super::tree::ROOT;
use crate::codec::id::Id;
use crate::error::{Error, Result};
use crate::tree::{Kind, Time};
use std::io::Write;
use zerocopy::{FromZeros, IntoBytes};

/// Writes an empty container: a root directory with the mode 0755 that belongs to `owner`, a user and a group by number.
pub fn create(out: &mut (dyn Write + Send), (user, group): (u32, u32)) -> Result<()> {
    let (uid, now) = (random_uid()?, Time::now());
    let header = Header::new(uid);
    out.write_all(header.as_bytes()).map_err(|e| Error::io(e, "cannot write the container"))?;
    let mut log = Log::new(out, uid, HEADER_LEN, 1, 0);
    let table = NewTable { nodes: vec![root(user, group, now)], ..NewTable::default() }.encode(3)?;
    let mut reference = table.reference;
    reference.record = log.append(RecordType::Table, &[&table.payload])?.record.into();
    let mut head = CommitHead::new_zeroed();
    head.uid = uid;
    head.seq = 1.into();
    head.time_ns = nanoseconds(now).into();
    // As of a pack: it is durable as a whole or not there at all.
    head.tail_start = log.at().into();
    head.tail_hash = Id::of(&[]).0;
    head.next_address = TAPE_START.into();
    head.next_ino = (ROOT + 1).into();
    head.tables = 1.into();
    let totals = TotalsItem { nodes: 1.into(), bytes: 0.into() };
    log.append(RecordType::Commit, &[&Commit { record: 0, head, tables: vec![reference], totals }.encode()])?;
    log.flush()
}

/// An identity that nothing else has.
pub(super) fn random_uid() -> Result<[u8; 16]> {
    let mut uid = [0; 16];
    let mut filled = 0;
    while filled < uid.len() {
        match rustix::rand::getrandom(&mut uid[filled..], rustix::rand::GetRandomFlags::empty()) {
            Ok(got) => filled += got,
            Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(Error::io(e.into(), "the system gives no random numbers")),
        }
    }
    Ok(uid)
}

/// The row of a root directory with nothing in it.
pub(super) fn root(user: u32, group: u32, mtime: Time) -> NodeRow {
    directory(ROOT, 0o755, (user, group), mtime)
}

/// The row of an empty directory.
pub(super) fn directory(ino: u64, mode: u32, (uid, gid): (u32, u32), mtime: Time) -> NodeRow {
    let mode = Kind::Directory.mode_bits() | mode;
    NodeRow { ino, mode, uid, gid, mtime, nlink: 2, size: 0, data_id: 0, extents: Vec::new(), extra: Vec::new() }
}
