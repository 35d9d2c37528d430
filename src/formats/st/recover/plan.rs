//! What is going to be written: looked at in memory first, as if it were there, and then written.

use super::super::commit::Commit;
use super::super::index::Index;
use super::super::layout::{ALIGN, HEADER_LEN, Header, RecordType, TableRef};
use super::super::limits;
use super::super::records::Log;
use super::super::table::NewTable;
use crate::codec::id::Id;
use crate::error::{Error, Kind, Result};
use crate::key::sign::Signing;
use crate::source::{ReadAt, Store};
use std::sync::Arc;
use zerocopy::IntoBytes;

/// What is going to be written.
pub struct Plan {
    /// The length of the file.
    pub end: u64,
    /// Where the tail begins.
    pub at: u64,
    pub tail: Vec<u8>,
    /// Where, in the file, the commit at the end of the tail begins.
    pub commit_at: u64,
    pub header: Option<Box<Header>>,
}

impl Plan {
    pub fn append(len: u64, mut commit: Commit, table: NewTable, nothing: &Index) -> Result<Self> {
        let at = len.max(HEADER_LEN).next_multiple_of(ALIGN);
        let (uid, seq, prev) = (commit.head.uid, commit.head.seq.get(), commit.head.prev.get());
        let mut tail = Vec::new();
        let sealing = nothing.sealing();
        let mut log = Log::new(&mut tail, uid, at, seq, prev).sealed(sealing);
        if table.len() > 0 {
            // Merged with nothing: that keeps the rows that delete.
            let encoded = table.merge(nothing, false, 3)?;
            let record = log.append(RecordType::Table, &[&encoded.payload])?.record;
            commit.tables.push(TableRef { record: record.into(), ..encoded.reference });
        }
        if commit.tables.len() as u32 > limits::TABLES {
            return Err(Error::new(Kind::Limit, "it has more tables than a commit may name"));
        }
        let commit_at = log.at();
        // All before it is synced first.
        commit.head.tail_start = commit_at.into();
        commit.head.tail_hash = Id::of(&[]).0;
        commit.head.tables = (commit.tables.len() as u32).into();
        log.commit(&mut commit, sealing, &Signing::default())?;
        let end = log.at();
        Ok(Self { end, at, tail, commit_at, header: None })
    }

    /// Appends, then the header. What fails on the way leaves what was there.
    pub fn write(&self, store: &dyn Store) -> Result<()> {
        let len = store.len()?;
        if let Err(e) = self.write_tail(store, len) {
            if store.len().is_ok_and(|now| now > len) {
                let _ = store.set_len(len);
            }
            return Err(e);
        }
        if let Some(header) = &self.header {
            store.write_at(0, header.as_bytes())?;
            store.sync()?;
        }
        Ok(())
    }

    fn write_tail(&self, store: &dyn Store, len: u64) -> Result<()> {
        let (records, commit) = self.tail.split_at((self.commit_at - self.at) as usize);
        if !self.tail.is_empty() {
            store.reserve(len..self.end)?;
            store.write_at(self.at, records)?;
            store.sync()?;
            store.write_at(self.commit_at, commit)?;
            store.sync()?;
        }
        if store.len()? != self.end {
            store.set_len(self.end)?;
            store.sync()?;
        }
        Ok(())
    }
}

/// The file as it is going to be.
pub struct View {
    source: Arc<dyn ReadAt>,
    /// Bytes of the file that stay.
    kept: u64,
    end: u64,
    at: u64,
    tail: Vec<u8>,
    header: Option<Box<Header>>,
}

impl View {
    pub fn of(source: &Arc<dyn ReadAt>, len: u64, plan: &Plan) -> Self {
        let (tail, header) = (plan.tail.clone(), plan.header.clone());
        Self { source: source.clone(), kept: len.min(plan.end), end: plan.end, at: plan.at, tail, header }
    }
}

/// Copies what of `bytes`, which begin at `start`, lies in the range that begins at `at`.
fn lay(bytes: &[u8], start: u64, at: u64, into: &mut [u8]) {
    let (from, to) = (start.max(at), (start + bytes.len() as u64).min(at + into.len() as u64));
    if from < to {
        into[(from - at) as usize..(to - at) as usize]
            .copy_from_slice(&bytes[(from - start) as usize..(to - start) as usize]);
    }
}

impl ReadAt for View {
    fn len(&self) -> Result<u64> {
        Ok(self.end)
    }

    fn read_at(&self, at: u64, into: &mut [u8]) -> Result<usize> {
        let len = into.len().min(self.end.saturating_sub(at).try_into().unwrap_or(usize::MAX));
        let into = &mut into[..len];
        into.fill(0);
        let below = len.min(self.kept.saturating_sub(at).try_into().unwrap_or(usize::MAX));
        self.source.read_at(at, &mut into[..below])?;
        lay(&self.tail, self.at, at, into);
        if let Some(header) = &self.header {
            lay(header.as_bytes(), 0, at, into);
        }
        Ok(len)
    }

    fn will_read(&self, range: std::ops::Range<u64>) {
        self.source.will_read(range);
    }
}
