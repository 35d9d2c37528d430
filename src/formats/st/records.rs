//! Records: writing them one behind the other, reading one, and finding one when the end of the file is torn.

use super::commit::Commit;
use super::layout::{
    ALIGN, FLAG_SEALED, FOOTER_MAGIC, Footer, HEADER_LEN, RECORD_HEADER_LEN, RECORD_MAGIC, RecordHeader, RecordType,
    has_footer, record_len,
};
use super::medium::Medium;
use super::seal::Sealing;
use super::signed;
use crate::codec::damaged;
use crate::codec::id::Id;
use crate::error::{Error, Result, Within};
use crate::key::sign::Signing;
use crate::source::ReadAt;
use std::io::Write;
use zerocopy::{FromBytes, FromZeros, IntoBytes};

/// Appends records to a stream; never seeks.
pub struct Log<'a> {
    out: &'a mut (dyn Write + Send),
    uid: [u8; 16],
    /// Where the next record begins.
    at: u64,
    seq: u64,
    last_commit: u64,
    flags: u8,
}

/// Where a record came to lie.
#[derive(Clone, Copy, Debug)]
pub struct Placed {
    pub record: u64,
    pub payload_len: u64,
    pub hash: [u8; 32],
}

const IN_MEMORY: &str = "a payload in memory is far below 64 bits";

impl<'a> Log<'a> {
    /// Continues at `at`, in transaction `seq`, behind the commit at `last_commit` (0 for none).
    pub fn new(out: &'a mut (dyn Write + Send), uid: [u8; 16], at: u64, seq: u64, last_commit: u64) -> Self {
        Self { out, uid, at, seq, last_commit, flags: 0 }
    }

    /// Says of the records that follow whether their payloads are sealed.
    pub fn sealed(mut self, sealing: &Sealing) -> Self {
        self.flags = if sealing.is_sealed() { FLAG_SEALED } else { 0 };
        self
    }

    pub fn at(&self) -> u64 {
        self.at
    }

    /// Appends a record; the payload is given in pieces. A COMMIT is appended by [`Log::commit`].
    pub fn append(&mut self, kind: RecordType, payload: &[&[u8]]) -> Result<Placed> {
        debug_assert!(!has_footer(kind as u8), "it needs a footer");
        let header = self.put(kind, payload)?;
        let (record, written) = (self.at, self.written(&header));
        self.at += record_len(kind as u8, header.payload_len.get()).expect(IN_MEMORY);
        self.write(&[0; ALIGN as usize][..(self.at - written) as usize])?;
        Ok(Placed { record, payload_len: header.payload_len.get(), hash: header.payload_hash })
    }

    /// Appends a COMMIT with its footer, signed where there is a key. The commit then says by whom.
    pub fn commit(&mut self, commit: &mut Commit, sealing: &Sealing, signing: &Signing) -> Result<Placed> {
        commit.signer = signing.public().map(|key| *key.as_bytes());
        let header = self.put(RecordType::Commit, &[&sealing.commit(commit)?])?;
        let (record, written) = (self.at, self.written(&header));
        self.at += record_len(header.kind, header.payload_len.get()).expect(IN_MEMORY);
        let footer = signed::footer(&header, &self.uid, self.at, signing);
        let padding = vec![0; (self.at - written) as usize - size_of::<Footer>()];
        self.write(&padding)?;
        self.write(footer.as_bytes())?;
        self.last_commit = record;
        Ok(Placed { record, payload_len: header.payload_len.get(), hash: header.payload_hash })
    }

    /// Where the payload of the record that begins here ends.
    fn written(&self, header: &RecordHeader) -> u64 {
        self.at + RECORD_HEADER_LEN + header.payload_len.get()
    }

    /// Writes a header and a payload.
    fn put(&mut self, kind: RecordType, payload: &[&[u8]]) -> Result<RecordHeader> {
        let payload_len = payload.iter().map(|part| part.len() as u64).sum();
        let hash = Id::of_parts(payload).0;
        let header = self.header(kind, payload_len, hash);
        self.write(header.as_bytes())?;
        payload.iter().try_for_each(|part| self.write(part))?;
        Ok(header)
    }

    fn header(&self, kind: RecordType, payload_len: u64, payload_hash: [u8; 32]) -> RecordHeader {
        let mut header = RecordHeader::new_zeroed();
        header.magic = RECORD_MAGIC;
        header.kind = kind as u8;
        header.flags = if kind == RecordType::Keys { 0 } else { self.flags };
        header.offset = self.at.into();
        header.payload_len = payload_len.into();
        header.seq = self.seq.into();
        header.last_commit = self.last_commit.into();
        header.uid.copy_from_slice(&self.uid[..8]);
        header.payload_hash = payload_hash;
        header.check = header.expected_check(&self.uid);
        header
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.out.write_all(bytes).map_err(|e| Error::io(e, "cannot write the container"))
    }

    pub fn flush(&mut self) -> Result<()> {
        self.out.flush().map_err(|e| Error::io(e, "cannot write the container"))
    }
}

/// Reads the header of the record at `at`. What it says is checked for shape only: the check needs the uid.
pub fn read_header(source: &dyn ReadAt, at: u64) -> Result<RecordHeader> {
    let mut bytes = [0; RECORD_HEADER_LEN as usize];
    source.read_exact_at(at, &mut bytes)?;
    let header = RecordHeader::read_from_bytes(&bytes).expect("the buffer has the size of a header");
    if header.magic != RECORD_MAGIC || header.offset.get() != at {
        return Err(damaged(format!("there is no record at {at}")));
    }
    Ok(header)
}

/// The header of the record at `at` of a container that is open: one that is damaged is made good by parity. Where that
/// cannot help, it is as it was read: in a container that was recovered with another identity, the checks of old records
/// are wrong.
pub fn sound_header(medium: &Medium, at: u64) -> Result<RecordHeader> {
    let there = read_header(&**medium, at);
    let is_right = |bytes: &[u8]| header_at(bytes, at).is_some_and(|h| h.check == h.expected_check(&medium.uid));
    if medium.healing.newest() == 0 || there.as_ref().is_ok_and(|header| is_right(header.as_bytes())) {
        return there;
    }
    let mut bytes = [0; RECORD_HEADER_LEN as usize];
    match medium.read_right(at, &mut bytes, &is_right) {
        Ok(()) => Ok(RecordHeader::read_from_bytes(&bytes).expect("the buffer has the size of a header")),
        Err(_) => there,
    }
}

/// The header that `bytes` begin with, if it says of itself that it is at `at`.
pub fn header_at(bytes: &[u8], at: u64) -> Option<RecordHeader> {
    if !bytes.starts_with(&RECORD_MAGIC) {
        return None;
    }
    let (header, _) = RecordHeader::read_from_prefix(bytes).ok()?;
    (header.offset.get() == at).then_some(header)
}

/// Reads the payload of a record of at most `limit` bytes, as it is stored, and compares it with its hash.
pub fn read_payload(medium: &Medium, header: &RecordHeader, limit: u64) -> Result<Vec<u8>> {
    let (at, len) = (header.offset.get(), header.payload_len.get());
    if len > limit {
        return Err(damaged(format!("the record at {at} claims {len} bytes, over the limit of {limit}")));
    }
    let mut payload = vec![0; len as usize];
    let place = || format!("the record at {at}");
    medium.read_checked(at + RECORD_HEADER_LEN, &mut payload, &header.payload_hash).within(place)?;
    Ok(payload)
}

/// The hash of a stretch of the file, of any length.
pub fn hash(source: &dyn ReadAt, mut at: u64, end: u64) -> Result<[u8; 32]> {
    let (mut hasher, mut piece) = (blake3::Hasher::new(), vec![0; (end - at).min(1 << 20) as usize]);
    while at < end {
        let len = piece.len().min((end - at) as usize);
        source.read_exact_at(at, &mut piece[..len])?;
        hasher.update(&piece[..len]);
        at += len as u64;
    }
    Ok(*hasher.finalize().as_bytes())
}

/// The footer that ends at an offset, if the source ends with one. Its check is left to whoever knows the uid.
pub fn read_footer(source: &dyn ReadAt, end: u64) -> Result<Option<Footer>> {
    let Some(at) = end.checked_sub(size_of::<Footer>() as u64) else { return Ok(None) };
    let mut bytes = [0; size_of::<Footer>()];
    source.read_exact_at(at, &mut bytes)?;
    let footer = Footer::read_from_bytes(&bytes).expect("the buffer has the size of a footer");
    Ok((footer.magic == FOOTER_MAGIC).then_some(footer))
}

/// Goes backward over the file and gives what looks like the header of a record, newest first.
pub struct Backward<'a> {
    source: &'a dyn ReadAt,
    /// Headers begin before this.
    end: u64,
    window: Vec<u8>,
    window_at: u64,
}

/// Bytes that are read at once on the way back.
const WINDOW: u64 = 1 << 20;

impl<'a> Backward<'a> {
    pub fn new(source: &'a dyn ReadAt, end: u64) -> Self {
        Self { source, end, window: Vec::new(), window_at: end }
    }

    /// The next header on the way back, or `None` at the beginning.
    pub fn next(&mut self) -> Result<Option<RecordHeader>> {
        let mut at = self.end.saturating_sub(1) / ALIGN * ALIGN;
        while at >= HEADER_LEN {
            if at < self.window_at {
                self.load(at)?;
            }
            // Less than was asked for, where the file has shrunk meanwhile.
            let bytes = self.window.get((at - self.window_at) as usize..).unwrap_or_default();
            if let Some(header) = header_at(bytes, at) {
                self.end = at;
                return Ok(Some(header));
            }
            at -= ALIGN;
        }
        self.end = 0;
        Ok(None)
    }

    /// Loads a window whose last header begins at `last`.
    fn load(&mut self, last: u64) -> Result<()> {
        let start = (last + ALIGN).saturating_sub(WINDOW).max(HEADER_LEN) / ALIGN * ALIGN;
        let mut window = vec![0; (last - start + RECORD_HEADER_LEN) as usize];
        let got = self.source.read_at(start, &mut window)?;
        window.truncate(got);
        (self.window, self.window_at) = (window, start);
        Ok(())
    }
}

/// Bytes that are read at once behind a jump, and on the way through what is damaged.
const NEAR: u64 = 4 << 10;
const FAR: u64 = 1 << 20;
/// Goes forward over the file and gives what looks like the header of a record.
pub struct Forward<'a> {
    source: &'a dyn ReadAt,
    at: u64,
    len: u64,
    ahead: u64,
    window: Vec<u8>,
    window_at: u64,
}

impl<'a> Forward<'a> {
    pub fn new(source: &'a dyn ReadAt, from: u64) -> Result<Self> {
        let at = from.max(HEADER_LEN).next_multiple_of(ALIGN);
        Ok(Self { source, at, len: source.len()?, ahead: FAR, window: Vec::new(), window_at: 0 })
    }

    pub fn next(&mut self) -> Result<Option<RecordHeader>> {
        while self.at < self.len {
            let at = self.at;
            if let Some(header) = self.header(at)? {
                self.at = self.behind(&header)?;
                return Ok(Some(header));
            }
            self.ahead = FAR;
            self.at += ALIGN;
        }
        Ok(None)
    }

    /// Where to look on. What a record says of its length is believed only when another record, or the end, is there.
    fn behind(&mut self, header: &RecordHeader) -> Result<u64> {
        let at = header.offset.get();
        let end = record_len(header.kind, header.payload_len.get()).and_then(|len| at.checked_add(len));
        if let Some(end) = end.filter(|end| *end <= self.len) {
            self.ahead = NEAR;
            if end == self.len || self.header(end)?.is_some() {
                return Ok(end);
            }
            self.ahead = FAR;
        }
        Ok(at + ALIGN)
    }

    fn header(&mut self, at: u64) -> Result<Option<RecordHeader>> {
        let end = (at + RECORD_HEADER_LEN).min(self.len);
        if at < self.window_at || end > self.window_at + self.window.len() as u64 {
            let mut window = vec![0; self.ahead.min(self.len - at) as usize];
            let got = self.source.read_at(at, &mut window)?;
            window.truncate(got);
            (self.window, self.window_at) = (window, at);
        }
        Ok(header_at(self.window.get((at - self.window_at) as usize..).unwrap_or_default(), at))
    }
}
