//! Recovering: a container whose header, end or commits are lost becomes one that opens and can be written to again.
//!
//! ```text
//!  what is there        HEADER │ SEG TABLE COMMIT │ SEG TABLE ░░░░░░           scan    records without commits
//!                                         ▲              ▲                     tables  which tables are alive
//!                       the newest whole commit     a table behind it          mend    names and inodes that do not fit
//!  what is written      HEADER │ SEG TABLE COMMIT │ SEG TABLE ░░░░░░ │ TABLE COMMIT
//!                          ▲                                            ▲
//!                          only where it is lost, and last              only what had to be mended
//! ```
//!
//! Whatever is going to be written is first looked at in memory, as if it were there: it must open, and every hash is
//! checked. Only then the file is touched, and nothing in it is overwritten but a lost header and bytes behind the last
//! commit that are no part of any.
//!
//! Memory: what a reader takes for the index (FORMAT.md, Limits), 100 bytes for each of at most 2^20 tables and commits,
//! 42 bytes for each of at most 2^24 inodes, and at most 2^20 rows that are new.

mod mend;
mod plan;
mod scan;
mod tables;

use super::commit::{self, Commit};
use super::index::Index;
use super::layout::{
    COMPAT_PARITY, CommitHead, HEADER_LEN, Header, INCOMPAT_SEALED, INCOMPAT_THIN, RECORD_HEADER_LEN, RecordType,
    SealedFront, TotalsItem,
};
use super::locks::Locks;
use super::medium::Medium;
use super::named;
use super::parity::{self, Repaired, Rescue};
use super::records::{self, Forward};
use super::rows::SegmentRow;
use super::seal::Sealing;
use super::table::{NewTable, Table};
use super::tree::{Container, ROOT};
use super::{Checked, bases, limits, locks, open_tables, pack, without_stub};
use crate::cache::Cache;
use crate::error::{Error, Kind, Result, Within};
use crate::formats::{Access, Watch};
use crate::key;
use crate::source::parity::Surveyed;
use crate::source::{ReadAt, Store};
use crate::tree::Time;
use plan::{Plan, View};
use scan::Identity;
use std::ops::Range;
use std::sync::Arc;
use tables::Tables;
use zerocopy::FromZeros;

/// What was wrong with a container, what was done, and what is still missing.
#[derive(Clone, Debug, Default)]
pub struct Recovered {
    /// What its parity says of it, where it has some: what that makes good is not lost.
    pub repaired: Repaired,
    /// The header was lost: there is a new one.
    pub header: bool,
    /// Nothing told any more which container it was: it is a new one.
    pub identity: bool,
    /// Bytes behind the last commit that were cut off, and zeros that its end was filled up with.
    pub cut: u64,
    pub filled: u64,
    /// There is a new commit, and how many tables it names that no whole commit does.
    pub commit: bool,
    pub tables: u64,
    /// Tables that are damaged, and changes of which no table was found.
    pub damaged: u64,
    pub missing: u64,
    /// The last change was never finished, as far as one can tell, and is left out.
    pub unfinished: bool,
    /// Segments that no table knew, and that are known now. Those that were damaged as well count by themselves.
    pub segments: u64,
    pub lost_segments: u64,
    /// Names that led nowhere and are gone.
    pub names: u64,
    /// Files and directories that have no name any more and are in `lost+found`, and those that found no place there.
    pub found: u64,
    pub unplaced: u64,
    /// The root directory was lost: its attributes are new.
    pub root: bool,
    /// What reading all of it found.
    pub checked: Checked,
}

impl Recovered {
    /// Whether everything is there again, as far as anything tells.
    pub fn is_whole(&self) -> bool {
        let lost = self.damaged + self.missing + self.segments + self.lost_segments + self.names + self.found;
        lost + self.unplaced == 0 && !self.unfinished && !self.root && self.checked.is_whole()
    }

    /// Whether there was anything to do.
    pub fn is_changed(&self) -> bool {
        self.header || self.commit || self.cut > 0 || self.filled > 0 || self.repaired.written
    }
}

/// Recovers a container. Without a store in `access` it is only said what would be done.
///
/// # Errors
/// `Header` when nothing is there to be recovered, `Limit` when it is more than this can do; then nothing is written.
pub fn recover(access: Access, threads: usize, watch: &dyn Watch) -> Result<Recovered> {
    let name = access.name.clone();
    recover_bytes(&access, threads, watch).within(|| name)
}

fn recover_bytes(access: &Access, threads: usize, watch: &dyn Watch) -> Result<Recovered> {
    let source = access.bytes.clone();
    if !Arc::ptr_eq(&without_stub(source.clone())?, &source) {
        return Err(Error::new(Kind::Unsupported, "something stands before the container in its file")
            .hint("cut it off, or `stmount unpack` what can be read"));
    }
    let front = commit::read_front(&*source)?;
    can_write(front.as_ref().map_or(0, |header| header.ro_compat.get()))?;
    let mended = Mended::of(&source, front.as_ref(), watch)?;
    let source = mended.as_ref().map_or(source, |mended| mended.rescue.mender.clone());
    let front = commit::read_front(&*source)?;
    let (cache, locks) = (access.cache.clone(), locks(access));
    let len = source.len()?.max(mended.as_ref().and_then(Mended::record).map_or(0, |record| record.end));
    let medium = Medium::new(source, Sealing::default());
    let repaired = mended.as_ref().map(|mended| mended.would.clone()).unwrap_or_default();
    let found = Recovered { repaired, ..Recovered::default() };
    let mut work = Work { medium, len, keys: 0, compat: 0, thin: 0, locks, cache, front, found };
    let plan = work.plan()?;
    let view = Arc::new(View::of(work.medium.source(), len, &plan));
    let seen = Access::to_read(view, access.cache.clone(), &*access.name);
    let seen = Access { reading: access.reading.clone(), ..seen };
    let container = Container::open_bytes(seen).map_err(|e| nothing().caused_by(e))?;
    work.found.checked = container.check(threads, watch)?;
    if let Some(parity) = mended.as_ref().and_then(Mended::record) {
        // It is written as it was, as far as that is known.
        work.found.checked.strays.leave_out(&parity);
    }
    if let Some(store) = &access.store {
        if let Some(mended) = mended {
            mended.write(&**store, watch)?;
        }
        plan.write(&**store)?;
    }
    Ok(work.found)
}

/// What parity makes good, first of all.
struct Mended {
    rescue: Rescue,
    surveyed: Surveyed,
    would: Repaired,
}

impl Mended {
    fn of(source: &Arc<dyn ReadAt>, front: Option<&Header>, watch: &dyn Watch) -> Result<Option<Self>> {
        let Some(rescue) = parity::rescue(source, front.map(|header| header.uid), true)? else { return Ok(None) };
        let surveyed = rescue.mender.survey_all(&|_| !watch.is_cancelled())?;
        let would = rescue.would(&surveyed, &**source)?;
        Ok(Some(Self { rescue, surveyed, would }))
    }

    /// The record of the newest parity, when it is written anew.
    fn record(&self) -> Option<Range<u64>> {
        let end = self.rescue.record_end().filter(|_| self.would.written)?;
        Some(self.rescue.newest.body_at() - RECORD_HEADER_LEN..end)
    }

    fn write(self, store: &dyn Store, watch: &dyn Watch) -> Result<()> {
        self.rescue.repair_by(self.surveyed, store, &|_| !watch.is_cancelled()).map(drop)
    }
}

fn can_write(ro_compat: u64) -> Result<()> {
    match ro_compat {
        0 => Ok(()),
        _ => Err(Error::new(Kind::Unsupported, "it has features that this version can only read")
            .hint("recover it with a newer version of stmount")),
    }
}

/// The newest whole commit, where it ends, where its parity does, and its tables.
struct Newest {
    commit: Commit,
    end: u64,
    covered: u64,
    tables: Vec<Arc<Table>>,
}

struct Work<'a> {
    medium: Medium,
    /// The length of the file, as parity makes it.
    len: u64,
    /// Where the newest keys are that can be read.
    keys: u64,
    /// Features that the tables tell of.
    compat: u64,
    thin: u64,
    locks: Locks<'a>,
    cache: Arc<Cache>,
    front: Option<Header>,
    found: Recovered,
}

impl Work<'_> {
    fn plan(&mut self) -> Result<Plan> {
        let newest = self.newest()?;
        if newest.is_none() {
            self.unlock()?;
        }
        let known = self.front.map(|header| header.uid).or(newest.as_ref().map(|newest| newest.commit.head.uid));
        let identity = match known {
            Some(uid) => Some(Identity::Known(uid)),
            None => scan::identify(&*self.medium)?,
        };
        let identity = identity.ok_or_else(nothing)?;
        let records = scan::records(&*self.medium, &identity, newest.as_ref().map_or(HEADER_LEN, |newest| newest.end))?;
        let mut tables = Tables::new(self.medium.clone(), self.cache.clone());
        let before = newest.as_ref().map_or(0, |newest| newest.commit.head.seq.get());
        if let Some(newest) = &newest {
            tables.resume(&newest.commit, newest.tables.clone());
        }
        self.take(&mut tables, &records, before)?;
        let uid = self.uid(identity)?;
        let mut plan = match &newest {
            Some(newest) if self.found.tables == 0 && self.names_meet(newest)? => self.end_at(newest.covered)?,
            Some(newest) => self.commit(uid, &identity, tables, &records, Some(newest))?,
            None if self.found.tables == 0 => return Err(nothing()),
            None => self.commit(uid, &identity, tables, &records, None)?,
        };
        plan.header = self.header(uid, newest.as_ref())?;
        Ok(plan)
    }

    /// The newest state that opens.
    fn newest(&mut self) -> Result<Option<Newest>> {
        let open = |medium: &Medium, commit: &Commit| {
            let tables = open_tables(medium, commit)?;
            let owner = self.cache.new_owner();
            let root = Index::new(tables.clone(), medium.clone(), self.cache.clone(), owner).node(ROOT)?;
            root.map(|_| tables).ok_or_else(|| Error::new(Kind::Header, "it has no root directory"))
        };
        match commit::newest(self.medium.source(), &self.locks, &open) {
            Ok((found, tables)) => {
                can_write(found.commit.head.ro_compat.get())?;
                (self.medium, self.keys) = (found.medium, found.commit.head.keys.get());
                let end = commit::end(&self.medium, &found.commit)?;
                Ok(Some(Newest { commit: found.commit, end, covered: found.end, tables }))
            }
            Err(e) if matches!(e.kind(), Kind::Header | Kind::Damaged) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Unlocks a container of which no commit is whole, by the newest of its keys that are.
    fn unlock(&mut self) -> Result<()> {
        let sealed = self.front.is_some_and(|front| front.incompat.get() & INCOMPAT_SEALED != 0);
        let mut failure = None;
        let all = scan::keys(&*self.medium)?;
        for header in all.iter().rev() {
            let Some(uid) = scan::uid_of(&*self.medium, header)? else { continue };
            if self.front.is_some_and(|front| front.uid != uid) {
                continue;
            }
            let front = SealedFront { uid, keys: header.offset };
            match self.locks.unlock(&*self.medium, &front) {
                Ok(seal) => {
                    // They are there twice: the first copy is the one that is named.
                    let first = all.iter().find(|first| first.payload_hash == header.payload_hash).unwrap_or(header);
                    (self.medium.sealing, self.keys) = (Sealing::of(seal), first.offset.get());
                    return Ok(());
                }
                Err(e) if matches!(e.kind(), Kind::Header | Kind::Damaged) => failure = Some(e),
                Err(e) => return Err(e),
            }
        }
        match failure {
            Some(e) => Err(nothing().caused_by(e)),
            None if sealed => {
                Err(Error::new(Kind::Header, "it is sealed, and its keys are lost: nothing opens it again"))
            }
            None => Ok(()),
        }
    }

    /// Adds the tables that no whole commit names, oldest first.
    fn take(&mut self, tables: &mut Tables, records: &scan::Records, before: u64) -> Result<()> {
        // What has a commit and no table needed none, or has lost it.
        let mut there: Vec<u64> = records.adjoining.iter().copied().filter(|seq| *seq > before).collect();
        for header in records.tables.iter().filter(|header| header.seq.get() > before) {
            let seq = header.seq.get();
            there.push(seq);
            let table = match tables.read(header) {
                Ok(table) => table,
                Err(e) if matches!(e.kind(), Kind::Damaged | Kind::Header) => {
                    log::info!("{e}");
                    self.found.damaged += 1;
                    continue;
                }
                Err(e) => return Err(e),
            };
            // What never had a commit may be half of a change. Where there is a state before it, that one is whole.
            let is_last = seq == records.seq && !tables.is_empty() && records.committed.binary_search(&seq).is_err();
            if is_last && !tables.is_finished(&table)? {
                self.found.unfinished = true;
                continue;
            }
            tables.add(table)?;
            self.found.tables += 1;
        }
        there.sort_unstable();
        there.dedup();
        let last = there.last().max(records.committed.last()).filter(|last| **last > before);
        let highest = last.map_or(0, |last| last - before);
        self.found.missing = highest - there.len() as u64;
        Ok(())
    }

    fn uid(&mut self, identity: Identity) -> Result<[u8; 16]> {
        match identity {
            Identity::Known(uid) => Ok(uid),
            Identity::Half(half) => {
                self.found.identity = true;
                let mut uid: [u8; 16] = key::random()?;
                uid[..8].copy_from_slice(&half);
                Ok(uid)
            }
        }
    }

    /// A new header, where the old one is lost and nothing else is in its place.
    fn header(&mut self, uid: [u8; 16], newest: Option<&Newest>) -> Result<Option<Box<Header>>> {
        if self.front.is_some() {
            return Ok(None);
        }
        let mut there = vec![0; HEADER_LEN as usize];
        let got = self.medium.read_at(0, &mut there)?;
        if scan::has_record(&there[..got]) {
            return Err(Error::new(Kind::Header, "a record stands where its header belongs"));
        }
        let mut header = Box::new(Header::new(uid));
        (header.incompat, header.compat) = (self.thin.into(), self.compat.into());
        if let Some(newest) = newest {
            let head = &newest.commit.head;
            (header.incompat, header.ro_compat, header.compat) = (head.incompat, head.ro_compat, head.compat);
        }
        header.check = header.expected_check();
        if let Some(seal) = self.medium.sealing.seal() {
            *header = seal.header(*header, self.keys);
        }
        self.found.header = true;
        Ok(Some(header))
    }

    /// Nothing that counts is behind the newest commit.
    fn end_at(&mut self, end: u64) -> Result<Plan> {
        let len = self.len;
        (self.found.cut, self.found.filled) = (len.saturating_sub(end), end.saturating_sub(len));
        Ok(Plan { end, at: end, tail: Vec::new(), commit_at: end, header: None })
    }

    /// Whether names and inodes of a state refer to each other. What cannot be read is not mended.
    fn names_meet(&self, newest: &Newest) -> Result<bool> {
        let cache = self.cache.clone();
        let owner = cache.new_owner();
        let index = Index::new(newest.tables.clone(), self.medium.clone(), cache, owner);
        match named::unmatched(&index) {
            Ok(unmatched) => Ok(unmatched.is_none_or(|unmatched| unmatched.names.is_empty())),
            Err(e) if e.kind() == Kind::Damaged => Ok(true),
            Err(e) => Err(e),
        }
    }

    /// A new commit behind all that is there.
    fn commit(
        &mut self,
        uid: [u8; 16],
        identity: &Identity,
        mut tables: Tables,
        records: &scan::Records,
        newest: Option<&Newest>,
    ) -> Result<Plan> {
        let index = tables.index();
        let segments = self.segments(identity, &index, &mut tables.next)?;
        self.compat = if index.meta(parity::POLICY).is_ok_and(|policy| policy.is_some()) { COMPAT_PARITY } else { 0 };
        let lossy = self.found.damaged + self.found.missing > 0;
        let mended = match mend::mend(&index, &mut tables.next, lossy) {
            Ok(mended) => mended,
            // Damage in what a whole commit names: it is read around as before, and the check tells of it.
            Err(e) if newest.is_some() && e.kind() == Kind::Damaged => mend::Mended::default(),
            Err(e) if e.kind() == Kind::Damaged => return Err(nothing().caused_by(e)),
            Err(e) => return Err(e),
        };
        self.tell(&mended);
        self.thin = if bases::entries(&index).is_ok_and(|bases| bases.is_empty()) { 0 } else { INCOMPAT_THIN };
        let before = newest.map_or(0, |newest| newest.commit.head.seq.get());
        let seq = records.seq.max(before).checked_add(1).filter(|_| tables.next.ino <= limits::ADDRESS);
        let seq = seq.filter(|_| tables.next.address <= limits::ADDRESS);
        let seq = seq.ok_or_else(|| Error::new(Kind::Limit, "its numbers are used up"))?;
        let totals = if mended.totals == TotalsItem::default() {
            newest.map_or(mended.totals, |newest| newest.commit.totals)
        } else {
            mended.totals
        };
        let mut head = self.head(uid, seq, newest)?;
        (head.next_address, head.next_ino) = (tables.next.address.into(), tables.next.ino.into());
        let parity = if newest.is_some() { self.medium.healing.newest() } else { 0 };
        let commit = Commit { record: 0, head, tables: tables.references(), totals, parity, signer: None };
        let table = NewTable { segments, ..mended.table };
        self.found.commit = true;
        Plan::append(self.len, commit, table, &tables.index_of(Vec::new()))
    }

    fn head(&self, uid: [u8; 16], seq: u64, newest: Option<&Newest>) -> Result<CommitHead> {
        let mut head = CommitHead::new_zeroed();
        head.compat = self.front.map_or(self.compat.into(), |front| front.compat);
        if let Some(newest) = newest {
            head = newest.commit.head;
            head.prev = newest.commit.record.into();
            head.prev_hash = records::sound_header(&self.medium, newest.commit.record)?.payload_hash;
        }
        head.uid = uid;
        (head.incompat, head.keys) = ((self.medium.sealing.incompat() | self.thin).into(), self.keys.into());
        head.seq = seq.into();
        let before = newest.map_or(0, |newest| newest.commit.head.time_ns.get());
        head.time_ns = pack::nanoseconds(Time::now()).max(before.saturating_add(1)).into();
        Ok(head)
    }

    fn tell(&mut self, mended: &mend::Mended) {
        let found = &mut self.found;
        (found.names, found.found, found.unplaced) = (mended.dropped, mended.found, mended.unplaced);
        found.root = mended.new_root;
    }

    /// Rows for the segments that no row names.
    fn segments(&mut self, identity: &Identity, index: &Index, next: &mut tables::Next) -> Result<Vec<SegmentRow>> {
        let (mut rows, mut forward) = (Vec::new(), Forward::new(&*self.medium, HEADER_LEN)?);
        while let Some(header) = forward.next()? {
            if header.kind != RecordType::Segment as u8 || !identity.accepts(&header) {
                continue;
            }
            let Some(head) = scan::segment_head(&self.medium, &header)? else { continue };
            let (address, raw_len) = (head.address.get(), head.raw_len.get());
            next.address(address + raw_len);
            if !matches!(index.segment(address), Ok(None)) {
                continue;
            }
            if !scan::is_whole(&self.medium, &header) || rows.len() >= limits::FENCE_ROWS as usize {
                self.found.lost_segments += 1;
                continue;
            }
            let (record, payload_len) = (header.offset.get(), header.payload_len.get());
            rows.push(SegmentRow { address, raw_len, record, payload_len, store: 0, hash: header.payload_hash });
        }
        self.found.segments = rows.len() as u64;
        Ok(rows)
    }
}

fn nothing() -> Error {
    Error::new(
        Kind::Header,
        "nothing is in it that can be recovered: not enough of the tables of a .st container is whole",
    )
    .hint("fetch it again, or pack it again")
}
