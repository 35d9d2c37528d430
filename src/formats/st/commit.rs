//! Commits: one record that names the live tables, and how the newest whole one is found.
//!
//! ```text
//!  clean file:  … SEG TABLE COMMIT|footer◄ end of file        one read of the tail
//!  torn file:   … COMMIT|footer SEG SEG TAB                   go back to a header, follow it to the commit before
//! ```
//!
//! A commit counts only when its own bytes, its check and everything between it and the commit known to be durable
//! (`tail`) are as they were written, and the fences of its tables too. So whatever a crash leaves behind, the newest
//! state that opens is one that was committed.

use super::bases::Stores;
use super::layout::{
    COMPAT_PARITY, CommitHead, HEADER_LEN, Header, INCOMPAT_SEALED, ITEM_CRITICAL, ITEM_PARITY, ITEM_SIGNER,
    ITEM_TOTALS, ItemHead, KNOWN_INCOMPAT, MAGIC, MAJOR, RECORD_HEADER_LEN, RecordHeader, SealedFront, TableRef,
    TotalsItem,
};
use super::locks::Locks;
use super::medium::Medium;
use super::parity::Rescue;
use super::seal::Sealing;
use super::{limits, parity, records, signed};
use crate::codec::damaged;
use crate::codec::id::Id;
use crate::error::{Error, Kind, Result, Within};
use crate::formats::Root;
use crate::source::ReadAt;
use std::cmp::Ordering;
use std::sync::Arc;
use zerocopy::{FromBytes, IntoBytes};

/// A commit that was read, or is to be written.
#[derive(Clone, Debug)]
pub struct Commit {
    /// Where its record begins.
    pub record: u64,
    pub head: CommitHead,
    /// Oldest first.
    pub tables: Vec<TableRef>,
    pub totals: TotalsItem,
    /// Where the body of the newest parity group before it is, 0 for none.
    pub parity: u64,
    /// The key that is said to have signed it. Whether it has, the footer tells: see `signed`.
    pub signer: Option<[u8; 32]>,
}

impl Commit {
    /// The payload of the record.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = self.head.as_bytes().to_vec();
        self.tables.iter().for_each(|table| out.extend_from_slice(table.as_bytes()));
        let len = size_of::<TotalsItem>() as u32;
        out.extend_from_slice(ItemHead { kind: ITEM_TOTALS.into(), zero: 0.into(), len: len.into() }.as_bytes());
        out.extend_from_slice(self.totals.as_bytes());
        if self.parity != 0 {
            out.extend_from_slice(ItemHead { kind: ITEM_PARITY.into(), zero: 0.into(), len: 8.into() }.as_bytes());
            out.extend_from_slice(&self.parity.to_le_bytes());
        }
        if let Some(key) = &self.signer {
            out.extend_from_slice(ItemHead { kind: ITEM_SIGNER.into(), zero: 0.into(), len: 32.into() }.as_bytes());
            out.extend_from_slice(key);
        }
        out
    }

    pub fn decode(record: u64, payload: &[u8]) -> Result<Self> {
        let short = || damaged(format!("the commit at {record} is too short"));
        let (head, rest) = CommitHead::read_from_prefix(payload).map_err(|_| short())?;
        if head.tables.get() > limits::TABLES {
            return Err(damaged(format!("the commit at {record} names {} tables", head.tables)));
        }
        let count = head.tables.get() as usize;
        let (tables, items) = <[TableRef]>::ref_from_prefix_with_elems(rest, count).map_err(|_| short())?;
        let (tables, totals) = (tables.to_vec(), TotalsItem::default());
        let mut commit = Self { record, head, tables, totals, parity: 0, signer: None };
        commit.read_items(items)?;
        Ok(commit)
    }

    fn read_items(&mut self, mut items: &[u8]) -> Result<()> {
        let cut = || damaged(format!("the commit at {} ends inside an item", self.record));
        while !items.is_empty() {
            let (head, rest) = ItemHead::read_from_prefix(items).map_err(|_| cut())?;
            let (value, rest) = rest.split_at_checked(head.len.get() as usize).ok_or_else(cut)?;
            match head.kind.get() {
                ITEM_TOTALS => self.totals = TotalsItem::read_from_bytes(value).map_err(|_| cut())?,
                ITEM_PARITY => self.parity = u64::from_le_bytes(value.try_into().map_err(|_| cut())?),
                ITEM_SIGNER => self.signer = Some(value.try_into().map_err(|_| cut())?),
                kind if kind & ITEM_CRITICAL != 0 => {
                    return Err(Error::new(Kind::Unsupported, format!("the container needs feature {kind:#x}"))
                        .hint("open it with a newer version of stmount"));
                }
                _ => {}
            }
            items = rest;
        }
        Ok(())
    }
}

/// What the front of the file says, if it can be read.
pub fn read_front(source: &dyn ReadAt) -> Result<Option<Header>> {
    let mut bytes = vec![0; HEADER_LEN as usize];
    let got = source.read_at(0, &mut bytes)?;
    if got < bytes.len() {
        return Ok(None);
    }
    let header = Header::read_from_bytes(&bytes).expect("the buffer has the size of a header");
    if header.magic != MAGIC || header.check != header.expected_check() {
        return Ok(None);
    }
    if header.major.get() > MAJOR {
        let what = format!("the container is of version {}, this program reads up to {MAJOR}", header.major);
        return Err(Error::new(Kind::Unsupported, what).hint("open it with a newer version of stmount"));
    }
    check_features(header.incompat.get())?;
    Ok(Some(header))
}

fn check_features(incompat: u64) -> Result<()> {
    match incompat & !KNOWN_INCOMPAT {
        0 => Ok(()),
        unknown => Err(Error::new(Kind::Unsupported, format!("the container needs the features {unknown:#x}"))
            .hint("open it with a newer version of stmount")),
    }
}

/// The newest whole commit of a container.
pub struct Found {
    pub commit: Commit,
    /// What it was found in, unlocked.
    pub medium: Medium,
    /// Where the commit ends, and the parity that follows it.
    pub end: u64,
    /// Its end or its beginning are damaged: it is read through its parity.
    pub mended: Option<Rescue>,
    /// What all of it stands on, and who signed that.
    pub root: Root,
    /// Bytes behind it that belong to nothing.
    pub torn: u64,
    /// False when the header of the file is lost; it is not needed.
    pub has_header: bool,
}

/// What makes a commit a state: opens its tables.
pub type Open<'a, T> = &'a dyn Fn(&Medium, &Commit) -> Result<T>;

/// Finds the newest whole commit that opens. Where the end or the beginning of the file is damaged, and parity makes it
/// whole, it is found as it was.
pub fn newest<T>(source: &Arc<dyn ReadAt>, locks: &Locks<'_>, open: Open<'_, T>) -> Result<(Found, T)> {
    let mut search = Search::new(source, locks, open)?;
    let at_end = match search.ending_at(source.len()?) {
        // Parity may make up for it.
        Err(e) if e.kind() == Kind::MissingVolume => None,
        found => found?,
    };
    if let Some((commit, opened)) = at_end.filter(|_| search.header.is_some()) {
        return Ok((search.found(commit, None)?, opened));
    }
    let has_parity = search.header.is_some_and(|header| header.compat.get() & COMPAT_PARITY != 0);
    let rescue = parity::rescue(source, search.uid(), has_parity)?;
    let mended = rescue.map(|rescue| mended(rescue, locks, open)).transpose()?.flatten();
    // Once more: what was tried stands in the way of what it is now.
    let plain = Search::new(source, locks, open).and_then(|mut search| {
        let (commit, opened) = match search.ending_at(source.len()?)? {
            Some(found) => found,
            None => search.backward()?,
        };
        Ok((search.found(commit, None)?, opened))
    });
    match (mended, plain) {
        (Some(mended), Ok(plain)) => Ok(if is_more(&mended.0, &plain.0) { mended } else { plain }),
        // Of a sealed container, the keys may be in a volume that is missing.
        (Some(mended), Err(e)) if is_no_commit(&e) || e.kind() == Kind::MissingVolume => Ok(mended),
        (_, plain) => plain,
    }
}

/// What is found through parity.
fn mended<T>(rescue: Rescue, locks: &Locks<'_>, open: Open<'_, T>) -> Result<Option<(Found, T)>> {
    let source = rescue.mender.clone() as Arc<dyn ReadAt>;
    let mut search = Search::new(&source, locks, open)?;
    let found = search.ending_at(rescue.end)?;
    found.map(|(commit, opened)| Ok((search.found(commit, Some(rescue))?, opened))).transpose()
}

/// Whether parity shows more than there is without it: a newer state, the header, or itself, when it is what is damaged.
/// What was committed after it was written is newer than what it shows.
fn is_more(mended: &Found, plain: &Found) -> bool {
    let seq = |found: &Found| found.commit.head.seq.get();
    match seq(mended).cmp(&seq(plain)) {
        Ordering::Greater => true,
        Ordering::Less => false,
        Ordering::Equal => !plain.has_header || mended.end > plain.end,
    }
}

/// Reads the commit of a record, or of an earlier state, and nothing that it stands on.
pub fn read(medium: &Medium, record: u64) -> Result<Commit> {
    read_if(medium, records::sound_header(medium, record)?, RecordHeader::is_state)
}

fn read_if(medium: &Medium, header: RecordHeader, is_one: fn(&RecordHeader) -> bool) -> Result<Commit> {
    let record = header.offset.get();
    if !is_one(&header) {
        return Err(damaged(format!("the record at {record} is no commit")));
    }
    if header.is_sealed() != medium.sealing.is_sealed() {
        return Err(damaged(format!("the commit at {record} is not sealed as its container is")));
    }
    let payload = records::read_payload(medium, &header, limits::COMMIT)?;
    let commit = medium.sealing.open_commit(record, payload).within(|| format!("the commit at {record}"))?;
    if header.check != header.expected_check(&commit.head.uid) {
        return Err(damaged(format!("the commit at {record} is of another container")));
    }
    check_features(commit.head.incompat.get())?;
    Ok(commit)
}

/// Where the record of a commit ends.
pub fn end(medium: &Medium, commit: &Commit) -> Result<u64> {
    let header = records::sound_header(medium, commit.record)?;
    let len = super::layout::record_len(header.kind, header.payload_len.get());
    Ok(commit.record + len.ok_or_else(|| damaged("the commit is too long"))?)
}

struct Search<'a, T> {
    medium: Medium,
    locks: &'a Locks<'a>,
    header: Option<Header>,
    open: Open<'a, T>,
    /// Commits at or above this have been tried.
    below: u64,
    tries: u32,
}

/// Whether a commit that fails so is as good as not there. A source that cannot be read, or a state that needs a newer
/// program, must not show an older state instead.
fn is_no_commit(e: &Error) -> bool {
    matches!(e.kind(), Kind::Damaged | Kind::Header)
}

impl<'a, T> Search<'a, T> {
    fn new(source: &Arc<dyn ReadAt>, locks: &'a Locks<'a>, open: Open<'a, T>) -> Result<Self> {
        let header = match read_front(&**source) {
            Err(e) if e.kind() == Kind::MissingVolume => None,
            header => header?,
        };
        let forgives = locks.reading.allow_damaged;
        let stores = Arc::new(Stores::new(locks.reading.bases.clone()));
        let medium = Medium { forgives, stores, ..Medium::new(source.clone(), Sealing::default()) };
        Ok(Self { medium, locks, header, open, below: u64::MAX, tries: 0 })
    }

    /// All that is to be known of a commit that was found.
    fn found(self, commit: Commit, mended: Option<Rescue>) -> Result<Found> {
        let (medium, has_header) = (self.medium, self.header.is_some());
        let (len, uid) = (medium.len()?, commit.head.uid);
        // The end of the record may be missing itself: its payload is all that a state needs.
        let commit_end = end(&medium, &commit)?;
        let (last, end) = parity::follow(&*medium, &uid, commit.record, commit_end)?;
        // What stands around the last parity is damaged where that is not followed.
        let behind = mended.as_ref().filter(|rescue| rescue.end == commit_end).and_then(Rescue::record_end);
        let end = behind.unwrap_or(end).max(end);
        let parity = last.map_or(commit.parity, |record| record + RECORD_HEADER_LEN);
        medium.healing.found(parity, mended.as_ref().map(|rescue| rescue.mender.clone()));
        let root = signed::root(&medium, &commit)?;
        Ok(Found { commit, medium, end, mended, root, torn: len.saturating_sub(end), has_header })
    }

    /// The commit that the footer at the end of the container names.
    fn ending_at(&mut self, len: u64) -> Result<Option<(Commit, T)>> {
        let Some(footer) = records::read_footer(&*self.medium, len)? else { return Ok(None) };
        if footer.logical_end.get() != len {
            return Ok(None);
        }
        match self.attempt(footer.record.get()) {
            Ok(found) => Ok((footer.check == footer.expected_check(&found.0.head.uid)).then_some(found)),
            Err(e) if is_no_commit(&e) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Goes back from the end, from header to header.
    fn backward(&mut self) -> Result<(Commit, T)> {
        let len = self.medium.len()?;
        self.below = u64::MAX;
        let source = self.medium.source().clone();
        let mut headers = records::Backward::new(&*source, len);
        let mut failure = None;
        while let Some(header) = headers.next()? {
            let Some(record) = self.candidate(&header) else { continue };
            match self.attempt(record) {
                Ok(found) => return Ok(found),
                Err(e) if is_no_commit(&e) => failure = Some(e),
                Err(e) => return Err(e),
            }
            if self.tries >= limits::COMMIT_TRIES {
                break;
            }
        }
        let e = Error::new(Kind::Header, "no complete commit is in the file: it is cut off or damaged");
        let e = e.hint("fetch it again, or pack it again");
        Err(match failure {
            Some(cause) => e.caused_by(cause),
            None => e,
        })
    }

    fn uid(&self) -> Option<[u8; 16]> {
        self.header.map(|header| header.uid)
    }

    /// The commit that a header stands for or points back to, unless it was tried before.
    fn candidate(&self, header: &RecordHeader) -> Option<u64> {
        if self.uid().is_some_and(|uid| header.check != header.expected_check(&uid)) {
            return None;
        }
        let record = if header.is_commit() { header.offset.get() } else { header.last_commit.get() };
        (record >= HEADER_LEN && record < self.below).then_some(record)
    }

    fn attempt(&mut self, record: u64) -> Result<(Commit, T)> {
        self.below = record;
        self.tries += 1;
        self.unlock(record)?;
        let header = records::read_header(&*self.medium, record)?;
        let commit = read_if(&self.medium, header, RecordHeader::is_commit)?;
        if self.uid().is_some_and(|known| known != commit.head.uid) {
            return Err(damaged(format!("the commit at {record} is of another container")));
        }
        self.medium.uid = commit.head.uid;
        self.check_tail(&commit).within(|| format!("the commit at {record}"))?;
        let opened = (self.open)(&self.medium, &commit).within(|| format!("the commit at {record}"))?;
        Ok((commit, opened))
    }

    /// Unlocks a container with the keys that a commit leads to. What its header says of being sealed counts: a commit in
    /// clear that somebody adds to a sealed container is none of its.
    fn unlock(&mut self, record: u64) -> Result<()> {
        let header = records::read_header(&*self.medium, record)?;
        let says = self.header.map(|header| header.incompat.get() & INCOMPAT_SEALED != 0);
        if says.is_some_and(|sealed| sealed != header.is_sealed()) {
            return Err(damaged(format!("the commit at {record} is not sealed as its container is")));
        }
        if !header.is_sealed() || self.medium.sealing.is_sealed() {
            return Ok(());
        }
        let payload = records::read_payload(&self.medium, &header, limits::COMMIT)?;
        let (front, _) = SealedFront::read_from_prefix(&payload).map_err(|_| damaged("the commit is too short"))?;
        if header.check != header.expected_check(&front.uid) || self.uid().is_some_and(|uid| uid != front.uid) {
            return Err(damaged(format!("the commit at {record} is of another container")));
        }
        let seal = self.locks.unlock(&*self.medium, &front)?;
        if self.header.is_some_and(|header| header.mac != seal.mac(&header)) {
            return Err(damaged("the header of the file was changed"));
        }
        self.medium.sealing = Sealing::of(seal);
        Ok(())
    }

    /// Everything since the commit that was known to be durable must have arrived.
    fn check_tail(&self, commit: &Commit) -> Result<()> {
        let start = commit.head.tail_start.get();
        let len = commit.record.checked_sub(start).filter(|len| *len <= limits::TAIL);
        let len = len.ok_or_else(|| damaged("what it builds on is out of bounds"))?;
        let mut tail = vec![0; len as usize];
        self.medium.read_exact_at(start, &mut tail)?;
        if Id::of(&tail).0 == commit.head.tail_hash { Ok(()) } else { Err(damaged("what it builds on is not whole")) }
    }
}
