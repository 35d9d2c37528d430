//! Headers of RAR 5 and 7.
//!
//! ```text
//!   │ "Rar!␚␇␁␀" │ encryption? │ main │ file │ data ─ ─ │ file │ data ─ ─ │ service │ ─ ─ │ … │ end │
//!
//!   crc  size │ type  flags  extra size?  data size? │ fields of the type │ extra records        sealed: IV in front, AES-256
//! ```

use super::Scan;
use super::bytes::{Bytes, Look, broken};
use super::cipher::{BLOCK, Key, Lock, Sealed, check_of};
use super::headers::{Codec, Ending, File, Found, Host, Link, Main, Member, Name, Owner, Piece, Pieces, Sum, UNKNOWN};
use crate::error::{Error, Kind, Result};
use crate::formats::of_windows;
use crate::tree::Time;

pub const SIGNATURE: &[u8; 8] = b"Rar!\x1a\x07\x01\0";

/// Bytes of a header: RAR itself goes no further.
const MOST: u64 = 2 << 20;

mod kind {
    pub const MAIN: u64 = 1;
    pub const FILE: u64 = 2;
    pub const ENCRYPTION: u64 = 4;
    pub const END: u64 = 5;
}

mod flag {
    pub const EXTRA: u64 = 1;
    pub const DATA: u64 = 2;
    pub const SPLIT_BEFORE: u64 = 8;
    pub const SPLIT_AFTER: u64 = 0x10;
}

/// A header without its frame.
struct Block {
    kind: u64,
    flags: u64,
    fields: Vec<u8>,
    extra: Vec<u8>,
    /// Where its data begin, and how long they are.
    at: u64,
    data: u64,
}

enum Next {
    Block(Block),
    /// The file ends here.
    End,
    /// It ends within a header.
    Cut,
}

/// What stands at the front of a volume.
pub struct Begun {
    pub main: Main,
    next: u64,
    key: Option<Key>,
}

/// Whether a sound header stands at the front of these bytes.
pub fn is_sound(bytes: &[u8]) -> bool {
    let Some(block) = whole_header(bytes) else { return false };
    let Ok(block) = parse(&block, 0) else { return false };
    matches!(block.kind, kind::MAIN | kind::ENCRYPTION)
}

fn whole_header(bytes: &[u8]) -> Option<Vec<u8>> {
    let len = header_len(bytes).ok()?;
    bytes.get(..len).map(<[u8]>::to_vec)
}

/// The length of a header with its frame, from its first bytes.
fn header_len(bytes: &[u8]) -> Result<usize> {
    let mut rest = Bytes(bytes.get(4..).unwrap_or_default());
    let size = rest.number()?;
    if size == 0 || size > MOST {
        return Err(broken("a header has no length that can be"));
    }
    Ok(bytes.len() - rest.0.len() + size as usize)
}

fn parse(header: &[u8], end: u64) -> Result<Block> {
    let mut bytes = Bytes(header);
    let sum = bytes.u32()?;
    if crc32fast::hash(bytes.0) != sum {
        return Err(broken("a header does not fit its checksum"));
    }
    bytes.number()?;
    let (kind, flags) = (bytes.number()?, bytes.number()?);
    let extra = if flags & flag::EXTRA != 0 { bytes.number()? } else { 0 };
    let data = if flags & flag::DATA != 0 { bytes.number()? } else { 0 };
    let fields = bytes.0.len().checked_sub(usize::try_from(extra).unwrap_or(usize::MAX));
    let fields = fields.ok_or_else(|| broken("a header is shorter than what is in it"))?;
    let (fields, extra) = bytes.0.split_at(fields);
    Ok(Block { kind, flags, fields: fields.to_vec(), extra: extra.to_vec(), at: end, data })
}

fn next(look: &mut Look<'_>, at: u64, key: Option<&Key>) -> Result<Next> {
    if at >= look.len() {
        return Ok(Next::End);
    }
    let (header, end) = match key {
        None => {
            let first = look.bytes(at, 4 + 3)?;
            if first.len() < 4 + 3 {
                return Ok(Next::Cut);
            }
            let len = header_len(first)?;
            (look.bytes(at, len)?.to_vec(), at + len as u64)
        }
        Some(key) => {
            let Some(len) = sealed_len(look, at, key)? else { return Ok(Next::Cut) };
            let all = len.next_multiple_of(BLOCK);
            let mut bytes = look.bytes(at, BLOCK + all)?.to_vec();
            if bytes.len() < BLOCK + all {
                return Ok(Next::Cut);
            }
            decrypt(key, &mut bytes);
            (bytes[BLOCK..BLOCK + len].to_vec(), at + (BLOCK + all) as u64)
        }
    };
    if end > look.len() {
        return Ok(Next::Cut);
    }
    parse(&header, end).map(Next::Block)
}

fn sealed_len(look: &mut Look<'_>, at: u64, key: &Key) -> Result<Option<usize>> {
    let mut bytes = look.bytes(at, 2 * BLOCK)?.to_vec();
    if bytes.len() < 2 * BLOCK {
        return Ok(None);
    }
    decrypt(key, &mut bytes);
    header_len(&bytes[BLOCK..]).map(Some)
}

/// Decrypts what stands behind an IV.
fn decrypt(key: &Key, bytes: &mut [u8]) {
    let (iv, rest) = bytes.split_at_mut(BLOCK);
    key.decrypt((&*iv).try_into().expect("a block"), None, rest);
}

/// Reads up to the main header, behind the signature, which ends at `at`.
pub fn begin(look: &mut Look<'_>, at: u64, scan: &Scan<'_>) -> Result<Begun> {
    let cut = || broken("it ends in its first header");
    let Next::Block(first) = next(look, at, None)? else { return Err(cut()) };
    let (block, key) = match first.kind {
        kind::ENCRYPTION => {
            let (key, block) = unlock(look, &first, scan)?;
            (block, Some(key))
        }
        _ => (first, None),
    };
    if block.kind != kind::MAIN {
        return Err(broken("its first header is of another kind"));
    }
    let mut fields = Bytes(&block.fields);
    let flags = fields.number()?;
    let number = if flags & 2 != 0 { fields.number()? } else { 0 };
    let main = Main {
        is_volume: flags & 1 != 0,
        is_solid: flags & 4 != 0,
        has_recovery: flags & 8 != 0,
        is_locked: key.is_some(),
        is_numbered: true,
        is_first: Some(number == 0),
    };
    Ok(Begun { main, next: block.at.saturating_add(block.data), key })
}

/// The key of encrypted headers, and the first of them.
fn unlock(look: &mut Look<'_>, block: &Block, scan: &Scan<'_>) -> Result<(Key, Block)> {
    let mut fields = Bytes(&block.fields);
    let (version, flags, rounds) = (fields.number()?, fields.number()?, fields.byte()?);
    if version != 0 {
        return Err(Error::new(Kind::UnknownCipher, "its headers are encrypted in a way that is not known"));
    }
    let lock = Lock::rar50(rounds, fields.array()?)?;
    let check = if flags & 1 != 0 { check_of(fields.array()?) } else { None };
    let sealed = Sealed { lock, iv: [0; BLOCK], check, is_tweaked: false };
    let at = block.at.saturating_add(block.data);
    let look = std::cell::RefCell::new(look);
    let opened = scan.keyring.fitting(&scan.access.reading, &scan.access.name, &lock, |key| {
        if key.fits(&sealed) == Some(false) {
            return Ok(None);
        }
        match next(&mut look.borrow_mut(), at, Some(key)) {
            Ok(Next::Block(block)) => Ok(Some((key.clone(), block))),
            // With a check that fits, it is not the password.
            Ok(_) if key.fits(&sealed).is_some() => Err(broken("it ends in its first header")),
            Err(e) if e.kind() != Kind::Header || key.fits(&sealed).is_some() => Err(e),
            Ok(_) => Ok(None),
            Err(_) => Ok(None),
        }
    })?;
    scan.keyring.opened_headers();
    Ok(opened)
}

/// Takes all files of a volume into the list.
pub fn walk(look: &mut Look<'_>, begun: &Begun, volume: u32, scan: &mut Scan<'_>) -> Result<Ending> {
    let mut at = begun.next;
    loop {
        let block = match next(look, at, begun.key.as_ref())? {
            Next::Block(block) => block,
            Next::End => return Ok(Ending::Silent),
            Next::Cut => return Ok(Ending::Cut),
        };
        at = block.at.saturating_add(block.data);
        match block.kind {
            kind::FILE => {
                let (found, is_torn) = file(&block, volume)?;
                if is_torn {
                    scan.slips.add("a record of a header is torn, and tells nothing")?;
                }
                scan.list.add(found, scan.access.reading.max_entries)?;
            }
            kind::END => {
                let goes_on = Bytes(&block.fields).number().unwrap_or(0) & 1 != 0;
                return Ok(Ending::Told { goes_on, at });
            }
            _ => {}
        }
        if at > look.len() {
            return Ok(Ending::Cut);
        }
    }
}

mod of_file {
    pub const DIRECTORY: u64 = 1;
    pub const TIME: u64 = 2;
    pub const CRC: u64 = 4;
    pub const UNKNOWN_SIZE: u64 = 8;
}

/// A file, and whether something that stands behind its fields is torn.
fn file(block: &Block, volume: u32) -> Result<(Found, bool)> {
    let mut fields = Bytes(&block.fields);
    let (flags, size, attributes) = (fields.number()?, fields.number()?, fields.number()?);
    let time = if flags & of_file::TIME != 0 { Some(fields.u32()?) } else { None };
    let crc = if flags & of_file::CRC != 0 { Some(fields.u32()?) } else { None };
    let (method, host, name) = (fields.number()?, fields.number()?, fields.counted()?);
    let file = File {
        name: Name { bytes: name_bytes(name), is_text: true },
        host: match host {
            0 => Host::Windows,
            1 => Host::Unix,
            _ => Host::Other,
        },
        attributes,
        is_dir: flags & of_file::DIRECTORY != 0,
        modified: time.map(|secs| Time { secs: secs.into(), nanos: 0 }),
        ..File::default()
    };
    let member = Member {
        pieces: Pieces::One(Piece { volume, at: block.at, len: block.data }),
        packed: block.data,
        size: if flags & of_file::UNKNOWN_SIZE == 0 { size } else { UNKNOWN },
        codec: codec(method),
        dictionary: dictionary(method),
        is_solid: method & 0x40 != 0,
        sum: crc.map_or(Sum::None, Sum::Crc),
        sealed: None,
        is_cut: false,
        run: 0,
        at: 0,
    };
    let (goes_on, began_before) = (block.flags & flag::SPLIT_AFTER != 0, block.flags & flag::SPLIT_BEFORE != 0);
    let mut found = Found { file, member, goes_on, began_before };
    let is_torn = records(&block.extra, &mut found);
    Ok((found, is_torn))
}

fn codec(method: u64) -> Codec {
    match (method >> 7 & 7, method & 0x3f) {
        (0, _) => Codec::Stored,
        (_, 0) => Codec::V50(0),
        // RAR 7 may use the coding of RAR 5, and have only its dictionary.
        (_, 1) => Codec::V50(u8::from(method & 1 << 20 == 0)),
        (_, version) => Codec::Other(50 + version as u8),
    }
}

fn dictionary(method: u64) -> u64 {
    const LEAST: u64 = 128 << 10;
    match method & 0x3f {
        0 => LEAST << (method >> 10 & 15),
        _ => {
            let whole = LEAST << (method >> 10 & 31);
            whole.saturating_add(whole / 32 * (method >> 15 & 31))
        }
    }
}

/// Names are in UTF-8. One that was not has a mark in it, and its bytes above 0x7f as characters from U+E080 on.
fn name_bytes(name: &[u8]) -> Vec<u8> {
    const MARK: char = '\u{fffe}';
    let Some(text) = std::str::from_utf8(name).ok().filter(|text| text.contains(MARK)) else { return name.to_vec() };
    let mut bytes = Vec::with_capacity(name.len());
    for letter in text.chars().filter(|letter| *letter != MARK) {
        match u32::from(letter) {
            mapped @ 0xe080..=0xe0ff => bytes.push(mapped as u8),
            _ => bytes.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    bytes
}

/// What stands behind the fields of a file. Returns whether any of it is torn.
fn records(extra: &[u8], found: &mut Found) -> bool {
    let (mut rest, mut is_torn) = (Bytes(extra), false);
    while !rest.0.is_empty() {
        let Ok(record) = rest.counted() else { return true };
        is_torn |= take(&mut Bytes(record), found).is_err();
    }
    is_torn
}

fn take(record: &mut Bytes<'_>, found: &mut Found) -> Result<()> {
    match record.number()? {
        1 => {
            // Whatever is wrong with it: the entry is encrypted.
            let unknown = Sealed::old(Lock::Other);
            found.member.sealed = Some(Box::new(sealed(record).unwrap_or(unknown)));
        }
        2 => hash(record, &mut found.member)?,
        3 => times(record, &mut found.file)?,
        4 => {
            record.number()?;
            found.file.version = Some(record.number()?);
        }
        5 => found.file.link = link(record)?,
        6 => found.file.owner = owner(record)?,
        _ => {}
    }
    Ok(())
}

fn sealed(record: &mut Bytes<'_>) -> Result<Sealed> {
    let (version, flags, rounds) = (record.number()?, record.number()?, record.byte()?);
    if version != 0 {
        return Err(broken("an unknown cipher"));
    }
    let (lock, iv) = (Lock::rar50(rounds, record.array()?)?, record.array()?);
    let check = if flags & 1 != 0 { check_of(record.array()?) } else { None };
    Ok(Sealed { lock, iv, check, is_tweaked: flags & 2 != 0 })
}

fn hash(record: &mut Bytes<'_>, member: &mut Member) -> Result<()> {
    if record.number()? == 0 {
        member.sum = Sum::Blake2sp(Box::new(record.array()?));
    }
    Ok(())
}

fn times(record: &mut Bytes<'_>, file: &mut File) -> Result<()> {
    let flags = record.number()?;
    let is_unix = flags & 1 != 0;
    let mut time = |bit: u64| -> Result<Option<Time>> {
        Ok(match (flags & bit != 0, is_unix) {
            (false, _) => None,
            (true, true) => Some(Time { secs: record.u32()?.into(), nanos: 0 }),
            (true, false) => Some(of_windows(record.u64()?)),
        })
    };
    let (mut modified, mut created, mut read) = (time(2)?, time(4)?, time(8)?);
    if is_unix && flags & 0x10 != 0 {
        for time in [&mut modified, &mut created, &mut read].into_iter().flatten() {
            time.nanos = record.u32()? % 1_000_000_000;
        }
    }
    file.modified = modified.or(file.modified);
    file.read = read;
    Ok(())
}

fn link(record: &mut Bytes<'_>) -> Result<Option<Link>> {
    let (kind, _flags, target) = (record.number()?, record.number()?, record.counted()?);
    let target = name_bytes(target);
    Ok(match kind {
        1 => Some(Link::Symbolic(target, false)),
        2 | 3 => Some(Link::Symbolic(target, true)),
        4 => Some(Link::Hard(target)),
        5 => Some(Link::Copy(target)),
        _ => None,
    })
}

fn owner(record: &mut Bytes<'_>) -> Result<Owner> {
    let flags = record.number()?;
    let mut name = |bit: u64| if flags & bit != 0 { record.counted().map(|n| Some(n.to_vec())) } else { Ok(None) };
    let (user, group) = (name(1)?, name(2)?);
    let mut id = |bit: u64| if flags & bit != 0 { record.number().map(Some) } else { Ok(None) };
    Ok(Owner { user, group, uid: id(4)?, gid: id(8)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dictionaries_are_of_two_kinds() {
        assert_eq!(dictionary(0), 128 << 10);
        assert_eq!(dictionary(15 << 10), 4 << 30);
        assert_eq!(dictionary(1 | 19 << 10), 64 << 30);
        assert_eq!(dictionary(1 | 16 << 15), 192 << 10);
        assert_eq!(codec(1 | 3 << 7 | 1 << 20), Codec::V50(0));
        assert_eq!(codec(1 | 3 << 7), Codec::V50(1));
        assert_eq!(codec(2 | 3 << 7), Codec::Other(52));
    }

    #[test]
    fn names_of_bytes_that_are_no_text_are_those_bytes() {
        assert_eq!(name_bytes("a/ä".as_bytes()), "a/ä".as_bytes());
        assert_eq!(name_bytes("\u{fffe}x\u{e0ff}\u{e080}".as_bytes()), b"x\xff\x80");
    }
}
