//! The file of a journal: batch behind batch, each whole or not there.
//!
//! A batch is written behind the last one, its front at last, and is there when its hash is right. So one sync is enough,
//! and a torn batch is none: the next one is written over it.

use super::layout::{BATCH, BATCH_LEN, Batch, HEADER_LEN, Header, MAGIC, SEALED, VERSION};
use super::record::Content;
use crate::error::{Error, Kind, Result};
use crate::formats::Undo;
use crate::key::{Secret, random};
use crate::source::{ReadAt, Stamp, Store};
use crate::tree::Touched;
use chacha20::XChaCha20;
use chacha20::cipher::{KeyIvInit, StreamCipher, StreamCipherSeek};
use hmac::Hmac;
use sha2::Sha256;
use std::sync::Arc;
use zerocopy::{FromBytes, FromZeros, IntoBytes};
use zeroize::Zeroizing;

/// Bytes that are written, or looked at, at a time.
const PIECE: usize = 1 << 20;
/// A record is no longer than this: some millions of entries.
const RECORD_MAX: u64 = 1 << 30;
/// Rounds of PBKDF2-HMAC-SHA256, as OWASP's Password Storage Cheat Sheet has them.
const ROUNDS: u32 = 600_000;

/// The key of a journal, if it has one.
#[derive(Clone)]
struct Key(Zeroizing<[u8; 32]>);

impl Key {
    fn new(password: &Secret, salt: &[u8; 16]) -> Self {
        let mut key = Zeroizing::new([0; 32]);
        pbkdf2::pbkdf2::<Hmac<Sha256>>(password.expose(), salt, ROUNDS, key.as_mut_slice())
            .expect("any key has a length");
        Self(key)
    }

    fn derived(&self, what: &str) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(blake3::derive_key(&format!("stmount journal {what}"), self.0.as_slice()))
    }

    fn check(&self) -> [u8; 16] {
        self.derived("check")[..16].try_into().expect("it has 32 bytes")
    }

    fn stream(&self, nonce: &[u8; 24]) -> XChaCha20 {
        XChaCha20::new((&*self.derived("contents")).into(), nonce.into())
    }
}

/// A journal that is open to be written.
pub struct Journal {
    store: Arc<dyn Store>,
    header: Header,
    key: Option<Key>,
    /// Where the next batch begins.
    end: u64,
    sequence: u64,
    last: [u8; 32],
}

/// The contents of a batch. The record is behind them.
struct Stored {
    store: Arc<dyn Store>,
    key: Option<Key>,
    nonce: [u8; 24],
    start: u64,
    len: u64,
}

impl ReadAt for Stored {
    fn len(&self) -> Result<u64> {
        Ok(self.len)
    }

    fn read_at(&self, at: u64, into: &mut [u8]) -> Result<usize> {
        let len = into.len().min(self.len.saturating_sub(at).try_into().unwrap_or(usize::MAX));
        self.store.read_exact_at(self.start + at, &mut into[..len])?;
        if let Some(key) = &self.key {
            let mut stream = key.stream(&self.nonce);
            stream.seek(at);
            stream.apply_keystream(&mut into[..len]);
        }
        Ok(len)
    }
}

/// One batch that was read: its record, and the contents that it speaks of.
pub struct Read {
    pub record: Vec<u8>,
    pub contents: Arc<dyn ReadAt>,
}

impl Journal {
    /// Begins a journal over an archive, sealed with a key made of a password where one is given.
    pub fn create(store: Arc<dyn Store>, base: &Stamp, password: Option<&Secret>) -> Result<Self> {
        let mut header = Header::new_zeroed();
        (header.magic, header.version) = (MAGIC, VERSION.into());
        (header.base_len, header.base) = (base.len.into(), base.hash);
        header.salt = random()?;
        let key = password.map(|password| Key::new(password, &header.salt));
        if let Some(key) = &key {
            (header.flags, header.key_check) = (SEALED.into(), key.check());
        }
        let mut journal = Self { store, header, key, end: HEADER_LEN, sequence: 0, last: [0; 32] };
        journal.store.set_len(0)?;
        journal.write_header()?;
        journal.last = journal.header.hash;
        Ok(journal)
    }

    /// The header of a journal that is there.
    ///
    /// # Errors
    /// `Header` when it is none, `Unsupported` when it is of a later version.
    pub fn header(store: &dyn ReadAt) -> Result<Header> {
        let mut bytes = [0; HEADER_LEN as usize];
        let torn = || Error::new(Kind::Header, "it is no journal, or its front is damaged");
        if store.read_at(0, &mut bytes)? < bytes.len() {
            return Err(torn());
        }
        let header = Header::read_from_bytes(&bytes).expect("it has the length");
        match (header.magic == MAGIC, header.version.get()) {
            (true, VERSION) if header.hash == hash_of(&header) => Ok(header),
            (true, later) if later > VERSION => Err(Error::new(Kind::Unsupported, "it is of a later version")),
            _ => Err(torn()),
        }
    }

    /// Opens a journal that is there and reads all of its batches. What is behind the last whole one is written over.
    ///
    /// # Errors
    /// `NeedsPassword`, `WrongPassword`.
    pub fn open(store: Arc<dyn Store>, password: Option<&Secret>) -> Result<(Self, Vec<Read>)> {
        let header = Self::header(&*store)?;
        let key = match (header.flags.get() & SEALED != 0, password) {
            (false, _) => None,
            (true, None) => {
                return Err(Error::new(Kind::NeedsPassword, "it is sealed with the password of the archive")
                    .hint("--password-file FILE, or a terminal on which it can be asked for"));
            }
            (true, Some(password)) => Some(Key::new(password, &header.salt)),
        };
        if key.as_ref().is_some_and(|key| key.check() != header.key_check) {
            return Err(Error::new(Kind::WrongPassword, "the password is wrong"));
        }
        let mut journal = Self { store, header, key, end: HEADER_LEN, sequence: 0, last: hash_of(&at_first(&header)) };
        let mut all = Vec::new();
        while let Some(read) = journal.read_next()? {
            all.push(read);
        }
        Ok((journal, all))
    }

    /// Makes a batch durable. Returns its contents.
    pub fn append(&mut self, record: &[u8], contents: &[Content]) -> Result<Arc<dyn ReadAt>> {
        let record_len = u64::try_from(record.len()).unwrap_or(u64::MAX);
        if record_len > RECORD_MAX {
            return Err(Error::new(Kind::Limit, "more entries were changed at once than a journal takes"));
        }
        let mut batch = Batch::new_zeroed();
        (batch.magic, batch.record_len) = (BATCH, (record_len as u32).into());
        batch.contents_len = contents.iter().map(|content| content.len).sum::<u64>().into();
        batch.sequence = (self.sequence + 1).into();
        batch.nonce = random()?;
        let mut out = Out::new(self, &batch);
        for content in contents {
            out.content(content)?;
        }
        out.bytes(record)?;
        batch.hash = out.finish()?;
        self.store.write_at(self.end, batch.as_bytes())?;
        self.store.sync()?;
        let contents = Arc::new(self.stored(&batch));
        self.accept(&batch);
        Ok(contents)
    }

    /// Notes what the archive will be when all of this is in it, before it becomes so.
    pub fn expect(&mut self, target: &Stamp) -> Result<()> {
        (self.header.target_len, self.header.target) = (target.len.into(), target.hash);
        self.write_header()?;
        self.store.sync()
    }

    /// Notes what the archive is from some place on, before it is written to there.
    pub fn begin(&mut self, undo: &Undo) -> Result<()> {
        let too_long = || Error::new(Kind::Limit, "more would be overwritten than can be noted");
        let place = self.header.undo.get_mut(..undo.tail.len()).ok_or_else(too_long)?;
        place.copy_from_slice(&undo.tail);
        self.header.undo_len = (undo.tail.len() as u32).into();
        (self.header.is_begun, self.header.undo_at) = (1.into(), undo.at.into());
        self.write_header()?;
        self.store.sync()
    }

    /// Bytes in the file.
    pub fn len(&self) -> u64 {
        self.end
    }

    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    fn write_header(&mut self) -> Result<()> {
        self.header.hash = hash_of(&self.header);
        self.store.write_at(0, self.header.as_bytes())
    }

    fn stored(&self, batch: &Batch) -> Stored {
        let (store, key, nonce) = (self.store.clone(), self.key.clone(), batch.nonce);
        Stored { store, key, nonce, start: self.end + BATCH_LEN, len: batch.contents_len.get() }
    }

    fn accept(&mut self, batch: &Batch) {
        self.end += BATCH_LEN + batch.contents_len.get() + u64::from(batch.record_len.get());
        (self.sequence, self.last) = (batch.sequence.get(), batch.hash);
    }

    /// The hash of a batch, before what is stored of it is added.
    fn hasher(&self, batch: &Batch) -> blake3::Hasher {
        let mut hasher = match &self.key {
            Some(key) => blake3::Hasher::new_keyed(&key.derived("hash")),
            None => blake3::Hasher::new(),
        };
        hasher.update(&batch.as_bytes()[..size_of::<Batch>() - 32]).update(&self.last);
        hasher
    }

    fn read_next(&mut self) -> Result<Option<Read>> {
        let mut bytes = [0; BATCH_LEN as usize];
        if self.store.read_at(self.end, &mut bytes)? < bytes.len() {
            return Ok(None);
        }
        let batch = Batch::read_from_bytes(&bytes).expect("it has the length");
        let (contents, record) = (batch.contents_len.get(), u64::from(batch.record_len.get()));
        let room = self.store.len()?.saturating_sub(self.end + BATCH_LEN);
        let fits = contents.checked_add(record).is_some_and(|len| len <= room) && record <= RECORD_MAX;
        if batch.magic != BATCH || batch.sequence.get() != self.sequence + 1 || !fits {
            return Ok(None);
        }
        let mut hasher = self.hasher(&batch);
        let (start, mut piece) = (self.end + BATCH_LEN, vec![0; PIECE]);
        let mut at = 0;
        while at < contents + record {
            let want = piece.len().min((contents + record - at) as usize);
            self.store.read_exact_at(start + at, &mut piece[..want])?;
            hasher.update(&piece[..want]);
            at += want as u64;
        }
        if hasher.finalize().as_bytes() != &batch.hash {
            return Ok(None);
        }
        let all = Stored { len: contents + record, ..self.stored(&batch) };
        let mut record = vec![0; record as usize];
        all.read_exact_at(contents, &mut record)?;
        let read = Read { record, contents: Arc::new(self.stored(&batch)) };
        self.accept(&batch);
        Ok(Some(read))
    }
}

/// Whether a header says what was to be: the stamp of the archive with all changes in it.
pub fn target(header: &Header) -> Option<Stamp> {
    let target = Stamp { len: header.target_len.get(), hash: header.target };
    (target.hash != [0; 32]).then_some(target)
}

/// What the archive is to be made again, if it was written to.
pub fn undo(header: &Header) -> Option<Undo> {
    let (at, len) = (header.undo_at.get(), header.base_len.get());
    let tail = header.undo.get(..header.undo_len.get() as usize)?;
    let fits = at.checked_add(tail.len() as u64).is_some_and(|end| end <= len);
    (header.is_begun.get() == 1 && fits).then(|| Undo { at, tail: tail.to_vec(), len })
}

/// A header as it was when nobody had begun to bring the changes in.
fn at_first(header: &Header) -> Header {
    let (target_len, target, undo) = (0.into(), [0; 32], [0; Undo::TAIL]);
    Header { target_len, target, is_begun: 0.into(), undo_len: 0.into(), undo_at: 0.into(), undo, ..*header }
}

/// The stamp of the archive that the changes are made to.
pub fn base(header: &Header) -> Stamp {
    Stamp { len: header.base_len.get(), hash: header.base }
}

fn hash_of(header: &Header) -> [u8; 32] {
    blake3::hash(&header.as_bytes()[..size_of::<Header>() - 32]).into()
}

/// What a batch holds, on its way to the file.
struct Out<'a> {
    store: &'a dyn Store,
    at: u64,
    pending: Vec<u8>,
    stream: Option<XChaCha20>,
    hasher: blake3::Hasher,
}

impl<'a> Out<'a> {
    fn new(journal: &'a Journal, batch: &Batch) -> Self {
        let stream = journal.key.as_ref().map(|key| key.stream(&batch.nonce));
        let (at, hasher) = (journal.end + BATCH_LEN, journal.hasher(batch));
        Self { store: &*journal.store, at, pending: Vec::new(), stream, hasher }
    }

    fn content(&mut self, content: &Content) -> Result<()> {
        match &content.from {
            Touched::Bytes(bytes, at) => self.bytes(&bytes[*at..*at + content.len as usize]),
            Touched::Copy(source, at) => {
                let mut done = 0;
                while done < content.len {
                    let mut piece = vec![0; PIECE.min((content.len - done) as usize)];
                    source.read_exact_at(at + done, &mut piece)?;
                    self.bytes(&piece)?;
                    done += piece.len() as u64;
                }
                Ok(())
            }
            Touched::Hole => Ok(()),
        }
    }

    fn bytes(&mut self, bytes: &[u8]) -> Result<()> {
        for piece in bytes.chunks(PIECE) {
            self.pending.extend_from_slice(piece);
            if self.pending.len() >= PIECE {
                self.write_out()?;
            }
        }
        Ok(())
    }

    fn write_out(&mut self) -> Result<()> {
        if let Some(stream) = &mut self.stream {
            stream.apply_keystream(&mut self.pending);
        }
        self.hasher.update(&self.pending);
        self.store.write_at(self.at, &self.pending)?;
        self.at += self.pending.len() as u64;
        self.pending.clear();
        Ok(())
    }

    fn finish(mut self) -> Result<[u8; 32]> {
        self.write_out()?;
        Ok(self.hasher.finalize().into())
    }
}
