//! Records of pax: `length key=value`, a line each, which stand in an entry of their own in front of the one they are about.

use super::header::Piece;
use super::numbers::{decimal, seconds};
use crate::tree::Xattr;

/// What records say of an entry. Those of a global header are the same for all entries behind it.
#[derive(Clone, Debug, Default)]
pub struct Pax {
    /// Whether names are bytes, in no charset.
    pub is_binary: Option<bool>,
    pub path: Option<Vec<u8>>,
    pub target: Option<Vec<u8>>,
    pub size: Option<u64>,
    pub mtime: Option<(i64, u32)>,
    pub atime: Option<(i64, u32)>,
    pub ctime: Option<(i64, u32)>,
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    pub user: Option<Vec<u8>>,
    pub group: Option<Vec<u8>>,
    pub device: (Option<u32>, Option<u32>),
    pub xattrs: Vec<Xattr>,
    pub sparse: Sparse,
    /// A record could not be read.
    pub is_torn: bool,
}

/// What records say of a sparse file. Three versions of it were in use.
#[derive(Clone, Debug, Default)]
pub struct Sparse {
    pub size: Option<u64>,
    pub name: Option<Vec<u8>>,
    pub version: (u64, u64),
    /// Versions 0.0 and 0.1 have the pieces here, 1.0 has them in front of the data.
    pub pieces: Vec<Piece>,
    pub is_sparse: bool,
    /// The offset of a piece, whose length is in the next record.
    at: Option<u64>,
}

/// Pieces of one file; each is at least 512 bytes of a real one.
pub const MAX_PIECES: usize = 1 << 20;

/// Bytes of extended attributes of one entry.
const MAX_XATTRS: usize = 1 << 20;

impl Pax {
    /// Adds the records of a header; later ones win.
    pub fn take(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let Some((key, value, rest)) = record(bytes) else {
                // Blanks at the end are from programs that fill up.
                self.is_torn |= bytes.iter().any(|b| *b != 0);
                return;
            };
            self.set(key, value);
            bytes = rest;
        }
    }

    fn set(&mut self, key: &[u8], value: &[u8]) {
        let id = |value| decimal(value).and_then(|id| u32::try_from(id).ok());
        let named = || Some(value.to_vec()).filter(|name| !name.is_empty());
        match key {
            b"hdrcharset" => self.is_binary = Some(value == b"BINARY"),
            b"path" => self.path = named(),
            b"linkpath" => self.target = named(),
            b"size" => self.size = decimal(value),
            b"mtime" => self.mtime = seconds(value),
            b"atime" => self.atime = seconds(value),
            b"ctime" => self.ctime = seconds(value),
            b"uid" => self.uid = id(value),
            b"gid" => self.gid = id(value),
            b"uname" => self.user = named(),
            b"gname" => self.group = named(),
            b"SCHILY.devmajor" => self.device.0 = id(value),
            b"SCHILY.devminor" => self.device.1 = id(value),
            b"SCHILY.realsize" => self.sparse.size = decimal(value),
            b"RHT.security.selinux" => self.xattr(b"security.selinux".to_vec(), value.to_vec()),
            _ => self.set_other(key, value),
        }
    }

    fn set_other(&mut self, key: &[u8], value: &[u8]) {
        if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
            self.xattr(name.to_vec(), value.to_vec());
        } else if let Some(name) = key.strip_prefix(b"LIBARCHIVE.xattr.") {
            // SCHILY's are the same ones, without being encoded twice.
            if let (Some(name), Some(value)) = (unescaped(name), base64(value)) {
                self.xattr(name, value);
            }
        } else if let Some(key) = key.strip_prefix(b"GNU.sparse.") {
            self.sparse.set(key, value);
        }
    }

    fn xattr(&mut self, name: Vec<u8>, value: Vec<u8>) {
        let used: usize = self.xattrs.iter().map(|(name, value)| name.len() + value.len()).sum();
        let is_new = self.xattrs.iter().all(|(known, _)| *known != name);
        let is_name = !name.is_empty() && name.len() < 256 && !name.contains(&0);
        if is_new && is_name && used + name.len() + value.len() <= MAX_XATTRS {
            self.xattrs.push((name, value));
        }
    }
}

impl Sparse {
    fn set(&mut self, key: &[u8], value: &[u8]) {
        self.is_sparse = true;
        match key {
            b"major" => self.version.0 = decimal(value).unwrap_or_default(),
            b"minor" => self.version.1 = decimal(value).unwrap_or_default(),
            b"name" => self.name = Some(value.to_vec()),
            b"realsize" | b"size" => self.size = decimal(value),
            b"offset" => self.at = decimal(value),
            b"numbytes" => self.piece(self.at.zip(decimal(value))),
            b"map" => {
                let numbers: Vec<_> = value.split(|b| *b == b',').take(2 * MAX_PIECES).map(decimal).collect();
                numbers.chunks_exact(2).for_each(|pair| self.piece(pair[0].zip(pair[1])));
            }
            _ => {}
        }
    }

    fn piece(&mut self, piece: Option<(u64, u64)>) {
        if let Some((at, len)) = piece
            && self.pieces.len() < MAX_PIECES
        {
            self.pieces.push(Piece { at, len });
        }
    }
}

/// The first record, and what is behind it.
fn record(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let blank = bytes.iter().take(12).position(|b| *b == b' ')?;
    let len = usize::try_from(decimal(&bytes[..blank])?).ok()?;
    let text = bytes.get(blank + 1..len)?.strip_suffix(b"\n")?;
    let equals = text.iter().position(|b| *b == b'=')?;
    Some((&text[..equals], &text[equals + 1..], &bytes[len..]))
}

/// `%41` is `A`.
fn unescaped(text: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [first, behind @ ..] = rest {
        rest = match (first, behind) {
            (b'%', [high, low, behind @ ..]) => {
                let digit = |b: u8| char::from(b).to_digit(16);
                out.push((digit(*high)? << 4 | digit(*low)?) as u8);
                behind
            }
            _ => {
                out.push(*first);
                behind
            }
        };
    }
    Some(out)
}

fn base64(text: &[u8]) -> Option<Vec<u8>> {
    let digit = |b: &u8| match b {
        b'A'..=b'Z' => Some(b - b'A'),
        b'a'..=b'z' => Some(b - b'a' + 26),
        b'0'..=b'9' => Some(b - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    };
    let digits: Vec<u8> = text.iter().take_while(|b| **b != b'=').map(digit).collect::<Option<_>>()?;
    let bytes = digits.chunks(4).flat_map(|group| {
        let number = group.iter().fold(0u32, |number, digit| number << 6 | u32::from(*digit));
        let number = number << (6 * (4 - group.len()));
        let [_, bytes @ ..] = number.to_be_bytes();
        bytes.into_iter().take(group.len() * 6 / 8)
    });
    Some(bytes.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Records with the lengths that they must have.
    fn records(all: &[&str]) -> String {
        let record = |text: &&str| {
            let mut len = text.len() + 3;
            while len != format!("{len} {text}\n").len() {
                len = format!("{len} {text}\n").len();
            }
            format!("{len} {text}\n")
        };
        all.iter().map(record).collect()
    }

    fn read(text: &str) -> Pax {
        let mut pax = Pax::default();
        pax.take(text.as_bytes());
        pax
    }

    #[test]
    fn records_are_read_until_one_is_torn() {
        let good = records(&["path=a/b", "mtime=-1.25", "size=77"]);
        let pax = read(&format!("{good}999 uid=5\n"));
        assert_eq!((pax.path.as_deref(), pax.size, pax.uid), (Some(&b"a/b"[..]), Some(77), None));
        assert_eq!((pax.mtime, pax.is_torn), (Some((-2, 750_000_000)), true));
        assert!(!read(&format!("{good}\0\0\0")).is_torn);
        for torn in ["", "x", "5", "1 a=b\n", "99999999999999999999 a=b\n", "6 a=bc", "6 abc\n"] {
            assert!(read(torn).path.is_none());
        }
    }

    #[test]
    fn attributes_are_plain_or_encoded() {
        let pax = read(&records(&["SCHILY.xattr.user.a=value", "LIBARCHIVE.xattr.user.b%41=dmFsdWU="]));
        assert_eq!(pax.xattrs, [(b"user.a".to_vec(), b"value".to_vec()), (b"user.bA".to_vec(), b"value".to_vec())]);
    }

    #[test]
    fn pieces_are_in_a_map_or_in_pairs() {
        let map = read(&records(&["GNU.sparse.map=0,5,100,7"])).sparse.pieces;
        let pairs = ["offset=0", "numbytes=5", "offset=100", "numbytes=7"].map(|pair| format!("GNU.sparse.{pair}"));
        assert_eq!(map, [Piece { at: 0, len: 5 }, Piece { at: 100, len: 7 }]);
        assert_eq!(read(&records(&pairs.each_ref().map(String::as_str))).sparse.pieces, map);
    }
}
