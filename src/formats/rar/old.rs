//! Headers of RAR 1.5 to 4.
//!
//! ```text
//!   │ "Rar!␚␇␀" │ main │ file │ data ─ ─ │ file │ data ─ ─ │ … │ end?      sealed: salt in front, AES-128
//!
//!   crc (16 bits)  type  flags  size │ data size? │ fields of the type
//! ```

use super::Scan;
use super::bytes::{Bytes, Look, broken};
use super::cipher::{BLOCK, Key, Lock, Sealed};
use super::headers::{Codec, Ending, File, Found, Host, Main, Member, Name, Piece, Pieces, Sum, UNKNOWN};
use crate::error::{Kind, Result};
use crate::formats::of_dos;
use crate::tree::Time;

pub const SIGNATURE: &[u8; 7] = b"Rar!\x1a\x07\0";

/// What all headers begin with.
const FRONT: usize = 7;

const SALT: usize = 8;

mod kind {
    pub const MARK: u8 = 0x72;
    pub const MAIN: u8 = 0x73;
    pub const FILE: u8 = 0x74;
    pub const AUTHENTICITY: u8 = 0x76;
    pub const OLD_SERVICE: u8 = 0x77;
    pub const SIGN: u8 = 0x79;
    pub const SERVICE: u8 = 0x7a;
    pub const END: u8 = 0x7b;
}

/// What an old service header says that tells of an owner.
const OLD_OWNER: [u8; 2] = [1, 1];

mod flag {
    pub const HAS_DATA: u16 = 0x8000;
    pub const COMMENT: u16 = 8;
    pub const SPLIT_BEFORE: u16 = 1;
    pub const SPLIT_AFTER: u16 = 2;
    pub const ENCRYPTED: u16 = 4;
    pub const SOLID: u16 = 0x10;
    pub const DIRECTORY: u16 = 0xe0;
    pub const LARGE: u16 = 0x100;
    pub const UNICODE: u16 = 0x200;
    pub const SALT: u16 = 0x400;
    pub const TIMES: u16 = 0x1000;
}

struct Block {
    kind: u8,
    flags: u16,
    /// The whole header.
    bytes: Vec<u8>,
    /// Where its data begin, and how long they are.
    at: u64,
    data: u64,
}

enum Next {
    Block(Block),
    End,
    Cut,
    /// No header, but something else behind the last one.
    Other,
}

/// What stands at the front of a volume.
pub struct Begun {
    pub main: Main,
    next: u64,
    /// The key of the first salt; others have others.
    is_locked: bool,
}

/// Whether a sound main header stands at the front of these bytes.
pub fn is_sound(bytes: &[u8]) -> bool {
    let len = usize::from(bytes.get(5..7).map_or(0, |size| u16::from_le_bytes([size[0], size[1]])));
    bytes.get(..len).and_then(|bytes| parse(bytes, 0).ok()).is_some_and(|block| block.kind == kind::MAIN)
}

/// Whether the checksum of a header says nothing. Those of authenticity were never right, and the ones of old owners count what
/// stands behind the header.
fn is_unchecked(kind: u8, header: &[u8]) -> bool {
    let is_of_owner = kind == kind::OLD_SERVICE && header.get(11..13) == Some(&OLD_OWNER);
    matches!(kind, kind::AUTHENTICITY | kind::SIGN) || is_of_owner
}

/// A header that is all there.
fn parse(header: &[u8], end: u64) -> Result<Block> {
    let mut bytes = Bytes(header);
    let (sum, kind, flags, _size) = (bytes.u16()?, bytes.byte()?, bytes.u16()?, bytes.u16()?);
    if !is_unchecked(kind, header)
        && !ends(header, kind, flags).any(|end| crc32fast::hash(&header[2..end]) as u16 == sum)
    {
        return Err(broken("a header does not fit its checksum"));
    }
    let data = if flags & flag::HAS_DATA != 0 || is_file(kind) { u64::from(bytes.u32()?) } else { 0 };
    let mut block = Block { kind, flags, bytes: header.to_vec(), at: end, data };
    if is_file(kind) && flags & flag::LARGE != 0 {
        block.data |= u64::from(Bytes(header.get(32..).unwrap_or_default()).u32()?) << 32;
    }
    Ok(block)
}

fn is_file(kind: u8) -> bool {
    matches!(kind, kind::FILE | kind::SERVICE)
}

/// How far a checksum goes: a comment in a header has its own.
fn ends(header: &[u8], kind: u8, flags: u16) -> impl Iterator<Item = usize> {
    let number = |at: usize| header.get(at..at + 2).map_or(0, |n| usize::from(u16::from_le_bytes([n[0], n[1]])));
    let extra = |bit: u16| if flags & bit != 0 { 8 } else { 0 };
    let before_comment = match kind {
        kind::MAIN if flags & 2 != 0 => Some(13),
        kind::FILE if flags & flag::COMMENT != 0 => Some(32 + extra(flag::LARGE) + number(26) + extra(flag::SALT)),
        0x75 => Some(13),
        _ => None,
    };
    before_comment.filter(|end| *end < header.len()).into_iter().chain([header.len()])
}

fn next(look: &mut Look<'_>, at: u64) -> Result<Next> {
    let front = look.bytes(at, FRONT)?;
    if front.is_empty() {
        return Ok(Next::End);
    }
    let Some([_, _, kind, _, _, low, high]) = front.first_chunk::<FRONT>().copied() else { return Ok(Next::Cut) };
    let len = usize::from(u16::from_le_bytes([low, high]));
    if !(kind::MARK..=kind::END).contains(&kind) {
        return Ok(Next::Other);
    }
    if len < FRONT {
        return Err(broken("a header has no length that can be"));
    }
    let header = look.bytes(at, len)?;
    if header.len() < len {
        return Ok(Next::Cut);
    }
    parse(header, at + len as u64).map(Next::Block)
}

/// A header that is encrypted, all but its salt.
fn next_sealed(look: &mut Look<'_>, at: u64, scan: &Scan<'_>) -> Result<Next> {
    let front = look.bytes(at, SALT + BLOCK)?;
    if front.is_empty() {
        return Ok(Next::End);
    }
    if front.len() < SALT + BLOCK {
        return Ok(Next::Cut);
    }
    let lock = Lock::Rar30(Some(*front.first_chunk().expect("so many are there")));
    let look = std::cell::RefCell::new(look);
    let open = |key: &Key| unsealed(&mut look.borrow_mut(), at, key);
    // Once a header was opened, what cannot be opened is damaged.
    if scan.keyring.is_of_headers()
        && let Some(key) = scan.keyring.last(&lock)?
    {
        return open(&key);
    }
    let opened = scan.keyring.fitting(&scan.access.reading, &scan.access.name, &lock, |key| match open(key) {
        // One of 128 wrong keys makes something of it that no checksum vouches for.
        Ok(Next::Block(block)) if !is_unchecked(block.kind, &block.bytes) => Ok(Some(Next::Block(block))),
        // By a wrong key it has any length.
        Ok(_) => Ok(None),
        Err(e) if e.kind() == Kind::Header => Ok(None),
        Err(e) => Err(e),
    })?;
    scan.keyring.opened_headers();
    Ok(opened)
}

fn unsealed(look: &mut Look<'_>, at: u64, key: &Key) -> Result<Next> {
    let decrypted = |bytes: &[u8]| {
        let mut bytes = bytes[SALT..].to_vec();
        key.decrypt([0; BLOCK], None, &mut bytes);
        bytes
    };
    let front = decrypted(look.bytes(at, SALT + BLOCK)?);
    let len = usize::from(u16::from_le_bytes([front[5], front[6]]));
    if len < FRONT || !(kind::MARK..=kind::END).contains(&front[2]) {
        return Err(broken("an encrypted header is none"));
    }
    let all = len.next_multiple_of(BLOCK);
    let sealed = look.bytes(at, SALT + all)?;
    if sealed.len() < SALT + all {
        return Ok(Next::Cut);
    }
    parse(&decrypted(sealed)[..len], at + (SALT + all) as u64).map(Next::Block)
}

/// Reads the main header, behind the signature, which ends at `at`.
pub fn begin(look: &mut Look<'_>, at: u64) -> Result<Begun> {
    let Next::Block(block) = next(look, at)? else { return Err(broken("it ends in its first header")) };
    if block.kind != kind::MAIN {
        return Err(broken("its first header is of another kind"));
    }
    let has = |bit: u16| block.flags & bit != 0;
    let main = Main {
        is_volume: has(1),
        is_solid: has(8),
        has_recovery: has(0x40),
        is_locked: has(0x80),
        is_numbered: has(0x10),
        is_first: has(0x100).then_some(true),
    };
    Ok(Begun { main, next: block.at.saturating_add(block.data), is_locked: main.is_locked })
}

/// Takes all files of a volume into the list.
pub fn walk(look: &mut Look<'_>, begun: &Begun, volume: u32, scan: &mut Scan<'_>) -> Result<Ending> {
    let mut at = begun.next;
    loop {
        let found = if begun.is_locked { next_sealed(look, at, scan)? } else { next(look, at)? };
        let block = match found {
            Next::Block(block) => block,
            Next::End => return Ok(Ending::Silent),
            Next::Cut => return Ok(Ending::Cut),
            Next::Other => {
                scan.slips.add("what stands behind the last entry is no header, and is not read")?;
                return Ok(Ending::Silent);
            }
        };
        at = block.at.saturating_add(block.data);
        match block.kind {
            kind::FILE => {
                let found = file(&block, volume, begun.main.is_solid, scan.list.members.is_empty())?;
                scan.list.add(found, scan.access.reading.max_entries)?;
            }
            kind::END => return Ok(Ending::Told { goes_on: block.flags & 1 != 0, at }),
            _ => {}
        }
        if at > look.len() {
            return Ok(Ending::Cut);
        }
    }
}

fn file(block: &Block, volume: u32, is_solid: bool, is_first: bool) -> Result<Found> {
    let has = |bit: u16| block.flags & bit != 0;
    let mut bytes = Bytes(&block.bytes[FRONT..]);
    let (_packed, size, host, crc) = (bytes.u32()?, bytes.u32()?, bytes.byte()?, bytes.u32()?);
    let (time, version, method, name_len) = (bytes.u32()?, bytes.byte()?, bytes.byte()?, bytes.u16()?);
    let attributes = bytes.u32()?;
    let high = if has(flag::LARGE) { Some([bytes.u32()?, bytes.u32()?][1]) } else { None };
    let name = bytes.take(name_len.into())?;
    let salt = if has(flag::SALT) { Some(bytes.array()?) } else { None };
    let dos = of_dos((time >> 16) as u16, time as u16);
    let (modified, read) = if has(flag::TIMES) { times(bytes, dos, time) } else { (dos, None) };
    let is_dir = block.flags & flag::DIRECTORY == flag::DIRECTORY;
    let file = File {
        name: name_of(name, has(flag::UNICODE)),
        host: match host {
            0..=2 => Host::Windows,
            3 => Host::Unix,
            _ => Host::Other,
        },
        attributes: attributes.into(),
        is_dir: is_dir || (host < 3 && attributes & 0x10 != 0),
        modified: Some(modified),
        read,
        ..File::default()
    };
    let lock = match version {
        ..14 => Lock::Rar13,
        14..20 => Lock::Rar15,
        20..29 => Lock::Rar20,
        _ => Lock::Rar30(salt),
    };
    let member = Member {
        pieces: Pieces::One(Piece { volume, at: block.at, len: block.data }),
        packed: block.data,
        size: match (size, high) {
            (u32::MAX, None | Some(u32::MAX)) => UNKNOWN,
            (low, high) => u64::from(high.unwrap_or(0)) << 32 | u64::from(low),
        },
        codec: codec(version, method),
        dictionary: if is_dir { 0 } else { (64 << 10) << (block.flags >> 5 & 7) },
        // Before RAR 2, files do not say it themselves.
        is_solid: if version < 20 { is_solid && !is_first } else { has(flag::SOLID) },
        sum: Sum::Crc(crc),
        sealed: has(flag::ENCRYPTED).then(|| Box::new(Sealed::old(lock))),
        is_cut: false,
        run: 0,
        at: 0,
    };
    Ok(Found { file, member, goes_on: has(flag::SPLIT_AFTER), began_before: has(flag::SPLIT_BEFORE) })
}

fn codec(version: u8, method: u8) -> Codec {
    match (method, version) {
        (0x30, _) => Codec::Stored,
        (_, 13 | 15) => Codec::V15,
        (_, 20 | 26) => Codec::V20,
        (_, 29 | 36) => Codec::V29,
        _ => Codec::Other(version),
    }
}

/// When it was changed and read last, from a record that is more exact than the time of DOS: up to three bytes count steps of
/// 100 ns, and a bit the odd second. What is torn tells nothing.
fn times(mut bytes: Bytes<'_>, dos: Time, raw: u32) -> (Time, Option<Time>) {
    let Ok(flags) = bytes.u16() else { return (dos, None) };
    let (mut modified, mut read) = (dos, None);
    for which in 0..4 {
        let mode = flags >> ((3 - which) * 4);
        if mode & 8 == 0 {
            continue;
        }
        let coarse = if which == 0 { Ok(raw) } else { bytes.u32() };
        let (Ok(coarse), Ok(fine)) = (coarse, bytes.take(usize::from(mode & 3))) else { break };
        let mut time = of_dos((coarse >> 16) as u16, coarse as u16);
        time.secs += i64::from(mode >> 2 & 1);
        // The highest bytes are there, and the lowest are left out.
        let steps = fine.iter().rev().fold(0u32, |steps, byte| steps << 8 | u32::from(*byte));
        let steps = steps << (8 * (3 - fine.len()));
        time.nanos = (steps * 100).min(999_999_999);
        match which {
            0 => modified = time,
            2 => read = Some(time),
            _ => {}
        }
    }
    (modified, read)
}

/// A name, from what RAR itself compresses it to, where it does.
fn name_of(name: &[u8], is_unicode: bool) -> Name {
    let raw = |bytes: &[u8]| Name { bytes: bytes.to_vec(), is_text: false };
    if !is_unicode {
        return raw(name);
    }
    let Some(zero) = name.iter().position(|byte| *byte == 0) else {
        return Name { bytes: name.to_vec(), is_text: true };
    };
    let (plain, packed) = (&name[..zero], &name[zero + 1..]);
    match unpacked(plain, packed) {
        Some(text) if !text.is_empty() => Name { bytes: text.into_bytes(), is_text: true },
        _ => raw(plain),
    }
}

/// A name in UTF-16, told as a difference to its letters in another charset.
fn unpacked(plain: &[u8], packed: &[u8]) -> Option<String> {
    let mut packed = packed.iter().copied();
    let high = u16::from(packed.next()?) << 8;
    let mut units: Vec<u16> = Vec::new();
    'all: while let Some(modes) = packed.next() {
        for shift in [6, 4, 2, 0] {
            match modes >> shift & 3 {
                3 => {
                    let Some(len) = packed.next() else { break 'all };
                    let (shift, high) = if len & 0x80 != 0 { (packed.next()?, high) } else { (0, 0) };
                    for _ in 0..usize::from(len & 0x7f) + 2 {
                        let low = plain.get(units.len())?.wrapping_add(shift);
                        units.push(high | u16::from(low));
                    }
                }
                mode => {
                    let Some(low) = packed.next() else { break 'all };
                    let high = match mode {
                        0 => 0,
                        1 => high,
                        _ => u16::from(packed.next()?) << 8,
                    };
                    units.push(high | u16::from(low));
                }
            }
        }
    }
    let text = char::decode_utf16(units).map(|unit| unit.unwrap_or(char::REPLACEMENT_CHARACTER));
    Some(text.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unpacked() {
        // High byte 0x04; two units with it, one with its own, one below 0x100.
        let packed = [&[4, 0b0101_1000][..], &[0x16, 0x17], &[0x03, 0x26], b"x"].concat();
        assert_eq!(unpacked(b"????", &packed).unwrap(), "ЖЗ☃x");
        // A run of letters as they are, and one shifted.
        let packed = [4, 0b1111_0000, 2, 0x80 | 1, 0xcf];
        assert_eq!(unpacked(b"abcdABC", &packed).unwrap(), "abcdАБВ");
        assert_eq!(unpacked(b"ab", &[4, 0b1100_0000, 9]), None);
        for cut in 0..packed.len() {
            drop(unpacked(b"abcdABC", &packed[..cut]));
        }
        assert_eq!(name_of("ä\\b".as_bytes(), true), Name { bytes: "ä\\b".as_bytes().to_vec(), is_text: true });
    }

    #[test]
    fn times_are_exact_to_100_ns() {
        let dos = (2020 - 1980) << 25 | 1 << 21 | 1 << 16;
        let coarse = of_dos((dos >> 16) as u16, dos as u16);
        let with = |bytes: &[u8]| times(Bytes(bytes), coarse, dos);
        assert_eq!(with(&[0, 0xf0, 0x39, 0x30, 0]).0, Time { secs: coarse.secs + 1, nanos: 1_234_500 });
        assert_eq!(with(&[0, 0x90, 0x96]).0.nanos, 0x96_0000 * 100);
        assert_eq!(with(&[0]).0, coarse);
        assert_eq!(with(&[0, 0xf0, 1]).0, coarse);
    }
}
