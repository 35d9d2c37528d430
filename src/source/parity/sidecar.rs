//! `NAME.stpar`: the parity of any file, in a file beside it.
//!
//! ```text
//!  ┌────────────┬────────┬────────┬─ ─┬────────────┐
//!  │ header 128 │ body 0 │ body 1 │   │ header 128 │     a body for each 2^40 bytes of the file
//!  └────────────┴────────┴────────┴─ ─┴────────────┘
//! ```
//!
//! The header is there twice, and all that it says of a file of one group is in the descriptors as well.

use super::layout::{SIDE_MAGIC, SideHeader, VERSION};
use super::repair::Give;
use super::{
    Algorithm, Group, MOST_GROUPS, Mender, NO_GROUP, Piece, Plan, Put, Report, SIDE_HEADER_LEN, Surveyed, Watch, encode,
};
use super::{fill, go_on, none_here, salvage, scan};
use crate::codec::id::Id;
use crate::error::{Error, Kind, Result};
use crate::source::ReadAt;
use std::sync::Arc;
use zerocopy::little_endian::U64;
use zerocopy::{FromBytes, IntoBytes};

/// A group has at most so many bytes.
pub const GROUP_LEN: u64 = 1 << 40;
/// Of each end of the file so many bytes go into its identity.
const SAMPLE: u64 = 64 << 10;
/// So much is hashed at once.
const STEP: usize = 1 << 20;

/// The side file of a file, opened.
pub struct Side {
    side: Arc<dyn ReadAt>,
    header: SideHeader,
    /// Whether the header says the hash of the file.
    has_hash: bool,
    groups: Vec<Group>,
}

/// How long the side file for so many bytes is going to be.
///
/// # Errors
/// As of [`Plan::of`].
pub fn side_len(len: u64, share: f64, algorithm: Algorithm) -> Result<u64> {
    let bodies: u64 = plans(len, GROUP_LEN, share, algorithm)?.iter().map(Plan::body_len).sum();
    Ok(2 * SIDE_HEADER_LEN + bodies)
}

/// The groups of a file; it has at least one.
fn plans(len: u64, group: u64, share: f64, algorithm: Algorithm) -> Result<Vec<Plan>> {
    if len / group >= MOST_GROUPS as u64 {
        return Err(Error::new(Kind::Limit, "the file is too long for a side file"));
    }
    let starts = (0..len.max(1)).step_by(group as usize);
    starts.map(|at| Plan::of(at..len.min(at + group), share, algorithm).map(Plan::apart)).collect()
}

impl Side {
    /// Makes the side file of a file; `put` gets each of its bytes once, in no order. The watch is told how many bytes of
    /// the file are done. Gives the length of the side file.
    ///
    /// # Errors
    /// As of [`Plan::of`] and [`encode`].
    pub fn create(data: &dyn ReadAt, share: f64, algorithm: Algorithm, put: Put, watch: Watch) -> Result<u64> {
        let plans = plans(data.len()?, GROUP_LEN, share, algorithm)?;
        Self::create_groups(data, &plans, put, watch)
    }

    fn create_groups(data: &dyn ReadAt, plans: &[Plan], put: Put, watch: Watch) -> Result<u64> {
        let len = plans.last().map_or(0, |plan| plan.range().end);
        let identity = identity(data, len)?;
        let (mut at, mut prev, mut hash) = (SIDE_HEADER_LEN, NO_GROUP, [0; 32]);
        for plan in plans {
            let (here, start) = (at, plan.range().start);
            let inside = |offset, bytes: &[u8]| put(here + offset, bytes);
            hash = encode(data, plan, identity, here, prev, &inside, &|done| watch(start + done))?.data_hash;
            (prev, at) = (here, here + plan.body_len());
        }
        if plans.len() > 1 {
            hash = hash_of(data, len, watch)?;
        }
        let header = header(identity, len, hash, at + SIDE_HEADER_LEN, plans.len());
        put(0, header.as_bytes())?;
        put(at, header.as_bytes())?;
        Ok(at + SIDE_HEADER_LEN)
    }

    /// Opens a side file, which may be damaged itself.
    ///
    /// # Errors
    /// `NotRecognised` when it is none, or when nothing of use is left; `Unsupported` for a later version; `Interrupted`.
    pub fn open(side: Arc<dyn ReadAt>, watch: Watch) -> Result<Self> {
        let Some(header) = read_header(&*side)? else { return Self::open_bare(side, watch) };
        let mut groups = chain(&*side, &header);
        if groups.len() as u64 != header.groups.get() {
            groups = scan(&*side, 0, Some(header.identity), watch)?;
        }
        groups.retain(|group| group.plan().is_apart());
        if groups.is_empty() { Err(none_here()) } else { Ok(Self { side, header, has_hash: true, groups }) }
    }

    /// Without any header: what the groups say that are found.
    fn open_bare(side: Arc<dyn ReadAt>, watch: Watch) -> Result<Self> {
        let mut groups = scan(&*side, 0, None, watch)?;
        groups.retain(|group| group.plan().is_apart());
        let identity = groups.first().ok_or_else(none_here)?.identity();
        groups.retain(|group| group.identity() == identity);
        let len = groups.iter().map(|group| group.plan().range().end).max().unwrap_or(0);
        let end = groups.iter().map(|group| group.body().end).max().unwrap_or(0);
        let has_hash = groups.len() == 1 && groups[0].plan().range().start == 0 && len < GROUP_LEN;
        let hash = if has_hash { groups[0].data_hash() } else { [0; 32] };
        let header = header(identity, len, hash, end + SIDE_HEADER_LEN, groups.len());
        Ok(Self { side, header, has_hash, groups })
    }

    /// The length of the protected file in bytes. What a file has behind it was not there.
    pub fn len(&self) -> u64 {
        self.header.len.get()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The length of the side file itself.
    pub fn side_len(&self) -> u64 {
        self.header.side_len.get()
    }

    /// BLAKE3 of the protected file; `None` when all places that had it are lost.
    pub fn hash(&self) -> Option<[u8; 32]> {
        self.has_hash.then_some(self.header.hash)
    }

    pub fn groups(&self) -> &[Group] {
        &self.groups
    }

    /// Reads the protected file through its parity.
    pub fn mender(&self, data: Arc<dyn ReadAt>) -> Mender {
        Mender::new(data, self.side.clone(), self.groups.clone())
    }

    /// Gives everything that is to be written to the file and to the side file, as [`Mender::repairs`] does, with the
    /// headers.
    ///
    /// # Errors
    /// As of [`Mender::repairs`].
    pub fn repairs(&self, mender: &Mender, found: Surveyed, watch: Watch, give: Give) -> Result<Report> {
        mender.repairs(&found, watch, give)?;
        let mut report = found.report;
        for at in [0, self.side_len() - SIDE_HEADER_LEN] {
            let mut found = [0; SIDE_HEADER_LEN as usize];
            let is_absent = !salvage(&*self.side, at, &mut found).is_empty();
            if self.has_hash && (is_absent || found != self.header.as_bytes()) {
                report.bad_descriptors += 1;
                give(Piece { to_parity: true, at, bytes: self.header.as_bytes().to_vec() })?;
            }
        }
        Ok(report)
    }
}

fn header(identity: [u8; 16], len: u64, hash: [u8; 32], side_len: u64, groups: usize) -> SideHeader {
    let mut header = SideHeader {
        magic: SIDE_MAGIC,
        version: VERSION,
        reserved: [0; 7],
        identity,
        len: U64::new(len),
        hash,
        side_len: U64::new(side_len),
        groups: U64::new(groups as u64),
        more: [0; 24],
        check: [0; 16],
    };
    header.check = header.expected_check();
    header
}

/// The header from the front, or from the end.
fn read_header(side: &dyn ReadAt) -> Result<Option<SideHeader>> {
    for at in [Some(0), side.len()?.checked_sub(SIDE_HEADER_LEN)].into_iter().flatten() {
        let mut bytes = [0; SIDE_HEADER_LEN as usize];
        salvage(side, at, &mut bytes);
        let Ok(header) = SideHeader::read_from_bytes(&bytes) else { continue };
        if header.magic != SIDE_MAGIC || header.check != header.expected_check() {
            continue;
        }
        if header.version > VERSION {
            return Err(Error::new(Kind::Unsupported, format!("a side file of version {}", header.version)));
        }
        return Ok(Some(header).filter(is_sound));
    }
    Ok(None)
}

/// Whether the numbers of a header go together.
fn is_sound(header: &SideHeader) -> bool {
    let least = super::DESCRIPTOR_LEN.saturating_mul(header.groups.get()).saturating_add(2 * SIDE_HEADER_LEN);
    header.side_len.get() >= least && (1..=MOST_GROUPS as u64).contains(&header.groups.get())
}

/// The groups one behind the other: from the front as far as their first descriptors are whole, then from the end.
fn chain(side: &dyn ReadAt, header: &SideHeader) -> Vec<Group> {
    let identity = Some(header.identity);
    let (mut front, mut back) = (SIDE_HEADER_LEN, header.side_len.get() - SIDE_HEADER_LEN);
    let mut groups = Vec::new();
    while let Some(group) = (front < back).then(|| Group::read(side, front, identity).ok()).flatten() {
        front = group.body().end;
        groups.push(group);
    }
    let kept = groups.len();
    while let Some(group) = (front < back).then(|| Group::read_back(side, back, identity).ok()).flatten() {
        back = group.body_at();
        groups.insert(kept, group);
    }
    groups
}

/// What tells the side file of one file from that of another: a hash of the length and of both ends.
fn identity(data: &dyn ReadAt, len: u64) -> Result<[u8; 16]> {
    let mut sample = vec![0; (2 * SAMPLE).min(len) as usize];
    let half = sample.len() / 2;
    data.read_exact_at(0, &mut sample[..half])?;
    data.read_exact_at(len - (sample.len() - half) as u64, &mut sample[half..])?;
    let mut identity = [0; 16];
    identity.copy_from_slice(&Id::of_parts(&[b"stpar", &len.to_le_bytes(), &sample]).0[..16]);
    Ok(identity)
}

/// BLAKE3 of all bytes.
fn hash_of(data: &dyn ReadAt, len: u64, watch: Watch) -> Result<[u8; 32]> {
    let (mut hasher, mut bytes) = (blake3::Hasher::new(), vec![0; STEP]);
    for at in (0..len).step_by(STEP) {
        go_on(watch, len)?;
        let some = fill(data, at, &mut bytes)?;
        hasher.update(&bytes[..some]);
    }
    Ok(hasher.finalize().into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::{Memory, Store};

    #[test]
    fn a_side_file_of_several_groups_is_opened_whichever_of_its_descriptors_are_left() {
        let text: Vec<u8> = (0..100_000u64).map(|n| (n * n / 7) as u8).collect();
        let (data, side) = (Arc::new(Memory::new(text.clone())), Memory::default());
        let plans = plans(100_000, 30_000, 0.1, Algorithm::Wide).unwrap();
        let len = Side::create_groups(&*data, &plans, &|at, bytes| side.write_at(at, bytes), &|_| true).unwrap();
        let mut whole = vec![0; len as usize];
        side.read_exact_at(0, &mut whole).unwrap();

        let known = Side::open(Arc::new(Memory::new(whole.clone())), &|_| true).unwrap();
        assert_eq!((known.groups.len(), known.side_len()), (4, len));
        assert_eq!(known.hash(), Some(Id::of(&text).0));
        let fronts: Vec<usize> = known.groups.iter().map(|group| group.body_at() as usize).collect();
        let backs: Vec<usize> = known.groups.iter().map(|group| group.body().end as usize - 100).collect();
        for spoiled in [vec![], vec![fronts[0]], vec![fronts[2], backs[3]], vec![backs[1], fronts[2], backs[3], 0]] {
            let mut bad = whole.clone();
            spoiled.iter().for_each(|at| bad[*at] ^= 1);
            let bad = Arc::new(Memory::new(bad));
            let opened = Side::open(bad.clone(), &|_| true).unwrap();
            assert_eq!(opened.groups, known.groups);
            let mut pieces = 0;
            let mut give = |piece: Piece| {
                pieces += 1;
                bad.write_at(piece.at, &piece.bytes)
            };
            let mender = opened.mender(data.clone());
            let found = mender.survey_all(&|_| true).unwrap();
            opened.repairs(&mender, found, &|_| true, &mut give).unwrap();
            assert_eq!(pieces, spoiled.len());
            let mut repaired = vec![0; whole.len()];
            bad.read_exact_at(0, &mut repaired).unwrap();
            assert!(repaired == whole);
        }
    }
}
