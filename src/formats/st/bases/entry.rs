//! `store/N` in META: what the segments with the store N lie in.
//!
//! ```text
//!   u8 kind ‖ u8 flags ‖ u16 0 ‖ 16 uid ‖ u64 shift ‖ hints: (vi length ‖ UTF-8) …
//! ```

use super::super::index::Index;
use super::super::limits;
use super::super::rows::{Block, MetaRow, Metas, meta_key};
use crate::codec::damaged;
use crate::error::{Error, Kind, Result};
use crate::formats::Wanted;
use crate::source::objects::hex;

/// What the names in META begin with.
pub const PREFIX: &str = "store/";

const CONTAINER: u8 = 1;
const OBJECTS: u8 = 2;

/// Payloads are sealed as this container is, with its key.
const OWN_SEAL: u8 = 1;
/// Some segments are decoded with others: those must be kept as well.
const RELATED: u8 = 2;

/// Fixed bytes in front of the hints.
const FIXED: usize = 28;
/// Hints of one base, and bytes of one.
const HINTS: usize = 16;
const HINT_LEN: usize = 4096;

/// A base of a container, as the container tells of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub is_store: bool,
    pub own_seal: bool,
    pub related: bool,
    pub uid: [u8; 16],
    /// What is added to the addresses of its tape on the tape of this container.
    pub shift: u64,
    pub hints: Vec<String>,
}

impl Entry {
    pub fn encode(&self) -> Vec<u8> {
        let flags = if self.own_seal { OWN_SEAL } else { 0 } | if self.related { RELATED } else { 0 };
        let mut out = vec![if self.is_store { OBJECTS } else { CONTAINER }, flags, 0, 0];
        out.extend_from_slice(&self.uid);
        out.extend_from_slice(&self.shift.to_le_bytes());
        for hint in self.hints.iter().filter(|hint| hint.len() <= HINT_LEN).take(HINTS) {
            put_vi(hint.len() as u64, &mut out);
            out.extend_from_slice(hint.as_bytes());
        }
        out
    }

    pub fn decode(value: &[u8]) -> Result<Self> {
        let cut = || damaged("what tells of a base is cut off");
        let (fixed, mut rest) = value.split_first_chunk::<FIXED>().ok_or_else(cut)?;
        let is_store = match fixed[0] {
            CONTAINER => false,
            OBJECTS => true,
            other => {
                return Err(Error::new(
                    Kind::Unsupported,
                    format!("it lies over something of the unknown kind {other}"),
                )
                .hint("open it with a newer version of stmount"));
            }
        };
        let (uid, shift) = fixed[4..].split_first_chunk::<16>().ok_or_else(cut)?;
        let shift = u64::from_le_bytes(*shift.first_chunk().ok_or_else(cut)?);
        if shift > limits::ADDRESS {
            return Err(damaged("a base lies too far out on the tape"));
        }
        let mut hints = Vec::new();
        while !rest.is_empty() && hints.len() < HINTS {
            let len = take_vi(&mut rest).filter(|len| *len <= HINT_LEN as u64).ok_or_else(cut)?;
            let (hint, behind) = rest.split_at_checked(len as usize).ok_or_else(cut)?;
            hints.push(String::from_utf8_lossy(hint).into_owned());
            rest = behind;
        }
        let (own_seal, related) = (fixed[1] & OWN_SEAL != 0, fixed[1] & RELATED != 0);
        Ok(Self { is_store, own_seal, related, uid: *uid, shift, hints })
    }

    pub fn row(&self, number: u64) -> MetaRow {
        MetaRow { name: name(number), value: self.encode() }
    }

    /// `the store …` or `the container lib.st`, for messages.
    pub fn words(&self) -> String {
        let kind = if self.is_store { "the store" } else { "the container" };
        match self.hints.first() {
            Some(hint) => format!("{kind} {} ({})", shown(hint), hex(&self.uid)),
            None => format!("{kind} {}", hex(&self.uid)),
        }
    }

    pub fn wanted(&self) -> Wanted {
        Wanted { uid: self.uid, is_store: self.is_store, hints: self.hints.clone() }
    }
}

/// A hint is somebody else's text.
fn shown(hint: &str) -> String {
    hint.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

pub fn name(number: u64) -> Vec<u8> {
    format!("{PREFIX}{number}").into_bytes()
}

/// All bases that an index tells of, by their numbers.
pub fn entries(index: &Index) -> Result<Vec<(u64, Entry)>> {
    let key = meta_key(PREFIX.as_bytes());
    let mut rows = index.from(&key, |block: &Metas, row| block.key(row) < key)?;
    let mut found = Vec::new();
    while let Some(at) = rows.next()? {
        let row = at.block.get(at.row);
        let Some(number) = row.name.strip_prefix(PREFIX.as_bytes()) else { break };
        if found.len() >= limits::STORES {
            return Err(Error::new(Kind::Limit, "it lies over too many bases"));
        }
        let number = std::str::from_utf8(number).ok().and_then(|number| number.parse().ok());
        let number = number.ok_or_else(|| damaged("a base has no number"))?;
        found.push((number, Entry::decode(&row.value)?));
    }
    found.sort_unstable_by_key(|(number, _)| *number);
    Ok(found)
}

fn put_vi(mut n: u64, out: &mut Vec<u8>) {
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

fn take_vi(bytes: &mut &[u8]) -> Option<u64> {
    let mut n = 0u64;
    for shift in (0..63).step_by(7) {
        let (first, rest) = bytes.split_first()?;
        *bytes = rest;
        n |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return Some(n);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_reads_as_it_was_written() {
        let hints = vec!["lib.st".to_owned(), "../libs/lib.st".to_owned(), "x".repeat(300)];
        let entry = Entry { is_store: false, own_seal: true, related: false, uid: [3; 16], shift: 1 << 40, hints };
        assert_eq!(Entry::decode(&entry.encode()).unwrap(), entry);
        let other = Entry { is_store: true, own_seal: false, related: true, hints: vec![], ..entry };
        assert_eq!(Entry::decode(&other.encode()).unwrap(), other);
    }

    #[test]
    fn what_is_cut_off_or_too_large_is_damage() {
        let hints = vec!["lib.st".to_owned()];
        let entry = Entry { is_store: false, own_seal: false, related: false, uid: [3; 16], shift: 0, hints };
        let whole = entry.encode();
        for len in (0..28).chain([29, 34]) {
            assert_eq!(Entry::decode(&whole[..len]).unwrap_err().kind(), Kind::Damaged, "{len}");
        }
        let far = Entry { shift: u64::MAX, ..entry };
        assert_eq!(Entry::decode(&far.encode()).unwrap_err().kind(), Kind::Damaged);
        assert_eq!(Entry::decode(&[9; 40]).unwrap_err().kind(), Kind::Unsupported);
    }

    #[test]
    fn a_hint_puts_nothing_on_a_terminal_but_its_letters() {
        let hints = vec!["a\x1b[2Jb".to_owned()];
        let entry = Entry { is_store: true, own_seal: false, related: false, uid: [0xab; 16], shift: 0, hints };
        assert!(entry.words().starts_with("the store a?[2Jb (abab"));
    }
}
