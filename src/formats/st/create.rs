//! An empty container: what a mount that is written to begins with.
//!
//! ```text
//! ┌ HEADER ┬ TABLE: the root ┬ COMMIT 1 ┐
//! └────────┴─────────────────┴──────────┘
//! ```

use super::commit::Commit;
use super::layout::{CommitHead, HEADER_LEN, Header, RecordType, TAPE_START, TotalsItem};
use super::locks;
use super::pack::nanoseconds;
use super::parity::{self, Policy};
use super::records::Log;
use super::rows::NodeRow;
use super::seal::{Seal, Sealing};
use super::table::NewTable;
use super::tree::ROOT;
use crate::codec::id::Id;
use crate::error::{Error, Result};
use crate::key::{self, sign::Signing};
use crate::tree::{Kind, Time};
use std::io::Write;
use std::sync::Arc;
use zerocopy::{FromZeros, IntoBytes};

/// Writes an empty container: a root directory with the mode 0755 that belongs to `owner`, a user and a group by number.
pub fn create(
    out: &mut (dyn Write + Send),
    (user, group): (u32, u32),
    seal: Option<&Arc<Seal>>,
    (policy, signing): (Option<Policy>, &Signing),
) -> Result<()> {
    let sealing = seal.cloned().map(Sealing::of).unwrap_or_default();
    let (uid, now) = (sealing.uid().map_or_else(key::random, Ok)?, Time::now());
    let (mut log, keys) = begin(out, (uid, 1), &sealing, (0, parity::compat(policy), 0))?;
    let table = NewTable { nodes: vec![root(user, group, now)], metas: parity::row(policy), ..NewTable::default() }
        .encode(3, &sealing)?;
    let mut reference = table.reference;
    reference.record = log.append(RecordType::Table, &[&table.payload])?.record.into();
    let mut head = CommitHead::new_zeroed();
    head.uid = uid;
    head.keys = keys.into();
    (head.incompat, head.compat) = (sealing.incompat().into(), parity::compat(policy).into());
    head.seq = 1.into();
    head.time_ns = nanoseconds(now).into();
    // As of a pack: it is durable as a whole or not there at all.
    head.tail_start = log.at().into();
    head.tail_hash = Id::of(&[]).0;
    head.next_address = TAPE_START.into();
    head.next_ino = (ROOT + 1).into();
    head.tables = 1.into();
    let totals = TotalsItem { nodes: 1.into(), bytes: 0.into() };
    let mut commit = Commit { record: 0, head, tables: vec![reference], totals, parity: 0, signer: None };
    log.commit(&mut commit, &sealing, signing)?;
    log.flush()
}

/// Begins a container: its header, and its keys where it is sealed. Returns where the keys are, 0 for none. The length of
/// its volumes is 0 for one file; that it is sealed need not be among its features.
pub(super) fn begin<'a>(
    out: &'a mut (dyn Write + Send),
    (uid, seq): ([u8; 16], u64),
    sealing: &Sealing,
    (incompat, compat, volume_size): (u64, u64, u64),
) -> Result<(Log<'a>, u64)> {
    let mut header = Header::new(uid);
    (header.incompat, header.compat, header.volume_size) = (incompat.into(), compat.into(), volume_size.into());
    header.check = header.expected_check();
    if let Some(seal) = sealing.seal() {
        header = seal.header(header, HEADER_LEN);
    }
    out.write_all(header.as_bytes()).map_err(|e| Error::io(e, "cannot write the container"))?;
    let mut log = Log::new(out, uid, HEADER_LEN, seq, 0).sealed(sealing);
    let keys = sealing.seal().map_or(Ok(0), |seal| locks::append(&mut log, seal))?;
    Ok((log, keys))
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
