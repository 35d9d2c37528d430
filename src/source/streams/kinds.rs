//! The compressions that stand for themselves, as files with an ending of their own: which one it is, and what to decode it
//! with.

use super::{Brotli, Bzip2, Compress, Gzip, Lz4, Lzip, Lzma, Xz, Zstd, lz4, xz};
use crate::codec::zframe;
use crate::error::Result;
use crate::source::{ReadAt, Stream};
use std::sync::Arc;

/// A compression of one file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Compression {
    Gzip,
    Bzip2,
    Xz,
    Lzma,
    Lzip,
    Zstd,
    Lz4,
    Brotli,
    Compress,
}

use Compression as C;

/// The endings of names, without a dot, and what is left instead of them.
const ENDINGS: &[(&str, &str, Compression)] = &[
    ("gz", "", C::Gzip),
    ("tgz", "tar", C::Gzip),
    ("taz", "tar", C::Gzip),
    ("svgz", "svg", C::Gzip),
    ("emz", "emf", C::Gzip),
    ("bgz", "", C::Gzip),
    ("bz2", "", C::Bzip2),
    ("bz", "", C::Bzip2),
    ("tbz2", "tar", C::Bzip2),
    ("tbz", "tar", C::Bzip2),
    ("tb2", "tar", C::Bzip2),
    ("tz2", "tar", C::Bzip2),
    ("xz", "", C::Xz),
    ("txz", "tar", C::Xz),
    ("lzma", "", C::Lzma),
    ("tlz", "tar", C::Lzma),
    ("lz", "", C::Lzip),
    ("zst", "", C::Zstd),
    ("zstd", "", C::Zstd),
    ("tzst", "tar", C::Zstd),
    ("lz4", "", C::Lz4),
    ("tlz4", "tar", C::Lz4),
    ("br", "", C::Brotli),
    ("tbr", "tar", C::Brotli),
    ("Z", "", C::Compress),
];

impl Compression {
    pub const ALL: [Self; 9] = [C::Gzip, C::Bzip2, C::Xz, C::Lzma, C::Lzip, C::Zstd, C::Lz4, C::Brotli, C::Compress];

    pub fn name(self) -> &'static str {
        match self {
            C::Gzip => "gzip",
            C::Bzip2 => "bzip2",
            C::Xz => "xz",
            C::Lzma => "lzma",
            C::Lzip => "lzip",
            C::Zstd => "zstd",
            C::Lz4 => "lz4",
            C::Brotli => "brotli",
            C::Compress => "compress",
        }
    }

    /// The endings of names, without a dot, the usual one first.
    pub fn endings(self) -> impl Iterator<Item = &'static str> {
        ENDINGS.iter().filter(move |(_, _, kind)| *kind == self).map(|(ending, _, _)| *ending)
    }
}

/// The name of what is inside of a compressed file: `a.tar` for `a.tar.gz` and for `a.tgz`; `None` where the ending is not
/// known.
pub fn inner_name(name: &str) -> Option<String> {
    let (stem, _, inner) = ending(name)?;
    Some(if inner.is_empty() { stem.to_owned() } else { format!("{stem}.{inner}") })
}

/// What stands before a known ending, its compression, and the ending of what is inside.
fn ending(name: &str) -> Option<(&str, Compression, &'static str)> {
    let (stem, ending) = name.rsplit_once('.').filter(|(stem, _)| !stem.is_empty() && !stem.ends_with('/'))?;
    // `.z` is of another program.
    let is = |known: &str| if known == "Z" { ending == known } else { ending.eq_ignore_ascii_case(known) };
    ENDINGS.iter().find(|(known, _, _)| is(known)).map(|(_, inner, kind)| (stem, *kind, *inner))
}

/// Bytes of a file by which it is recognised.
pub const HEAD: usize = 64;

/// The compression of a file that begins with these bytes, [`HEAD`] of them or more if there are so many. The name counts
/// where the bytes say too little.
pub fn recognise(head: &[u8], name: &str) -> Option<Compression> {
    let by_name = ending(name).map(|(_, kind, _)| kind);
    let by_head = match head {
        [0x1f, 0x8b, 8, flags, ..] if flags & 0xe0 == 0 => Some(C::Gzip),
        [0x1f, 0x9d, flags, ..] if flags & 0x60 == 0 && (9..=16).contains(&(flags & 0x1f)) => Some(C::Compress),
        [b'B', b'Z', b'h', b'1'..=b'9', rest @ ..] if is_bzip2(rest) => Some(C::Bzip2),
        [b'L', b'Z', b'I', b'P', 0 | 1, size, ..] if (12..=29).contains(&(size & 31)) => Some(C::Lzip),
        _ if is_xz(head) => Some(C::Xz),
        _ => by_frame(head, by_name),
    };
    by_head.or_else(|| match by_name {
        Some(C::Brotli) => Some(C::Brotli),
        _ => is_lzma(head).then_some(C::Lzma),
    })
}

fn is_bzip2(rest: &[u8]) -> bool {
    rest.starts_with(&[0x31, 0x41, 0x59, 0x26, 0x53, 0x59]) || rest.starts_with(&[0x17, 0x72, 0x45, 0x38, 0x50, 0x90])
}

fn is_xz(head: &[u8]) -> bool {
    let Some((flags, rest)) = head.strip_prefix(&xz::MAGIC).and_then(<[u8]>::split_first_chunk::<2>) else {
        return false;
    };
    flags[0] == 0 && flags[1] < 16 && rest.starts_with(&crc32fast::hash(flags).to_le_bytes())
}

/// zstd and lz4, which share the frames that are to be left out.
fn by_frame(mut head: &[u8], by_name: Option<Compression>) -> Option<Compression> {
    loop {
        let (magic, rest) = head.split_first_chunk()?;
        match u32::from_le_bytes(*magic) {
            zframe::MAGIC if rest.first().is_some_and(|flags| flags & 8 == 0) => return Some(C::Zstd),
            lz4::MAGIC if matches!(rest, [0x40..=0x7f, 0x40..=0x7f, ..]) => return Some(C::Lz4),
            lz4::LEGACY => return Some(C::Lz4),
            magic if zframe::is_skippable(magic) => {
                let (len, rest) = rest.split_first_chunk()?;
                match rest.get(u32::from_le_bytes(*len) as usize..) {
                    Some(next) if !next.is_empty() => head = next,
                    // What follows is out of sight.
                    _ => return by_name.filter(|kind| matches!(kind, C::Zstd | C::Lz4)),
                }
            }
            _ => return None,
        }
    }
}

/// LZMA alone has no magic: its properties, a dictionary as people make them, a length that can be, and the first byte of
/// the data, which is zero.
fn is_lzma(head: &[u8]) -> bool {
    let Some((header, data)) = head.split_first_chunk::<13>() else { return false };
    let [properties, d0, d1, d2, d3, len @ ..] = *header;
    let (lc, lp) = (properties % 9, properties / 9 % 5);
    let dictionary = u32::from_le_bytes([d0, d1, d2, d3]);
    let (high, low) = (dictionary & !(dictionary >> 1), dictionary & (dictionary >> 1));
    let usual = dictionary.is_power_of_two() || (dictionary.count_ones() == 2 && high.is_power_of_two() && low > 0);
    let len = u64::from_le_bytes(len);
    properties < 225
        && lc + lp <= 4
        && (dictionary == u32::MAX || (usual && dictionary >= 4096))
        && (len == u64::MAX || len < 1 << 38)
        && data.first() == Some(&0)
}

/// The stream of a compressed file.
pub fn stream(kind: Compression, source: Arc<dyn ReadAt>) -> Result<Arc<dyn Stream>> {
    Ok(match kind {
        C::Gzip => Arc::new(Gzip::new(source)?),
        C::Bzip2 => Arc::new(Bzip2::new(source, None)),
        C::Xz => Arc::new(Xz::new(source)),
        C::Lzma => Arc::new(Lzma::alone(source)?),
        C::Lzip => Arc::new(Lzip::new(source)),
        C::Zstd => Arc::new(Zstd::new(source)),
        C::Lz4 => Arc::new(Lz4::new(source)),
        C::Brotli => Arc::new(Brotli::new(source, None)),
        C::Compress => Arc::new(Compress::new(source)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endings_tell_what_is_inside() {
        let inner = inner_name;
        assert_eq!(inner("a/b.tar.gz").as_deref(), Some("a/b.tar"));
        assert_eq!(inner("b.TGZ").as_deref(), Some("b.tar"));
        assert_eq!((inner("b.Z").as_deref(), inner("b.z")), (Some("b"), None));
        assert_eq!((inner("b.txt"), inner(".xz"), inner("a/.xz")), (None, None, None));
        for kind in C::ALL {
            assert_eq!(inner(&format!("x.{}", kind.endings().next().unwrap())).as_deref(), Some("x"));
        }
    }

    #[test]
    fn a_weak_magic_needs_the_rest_to_fit() {
        let lzma = |dictionary: u32, len: u64, first: u8| {
            let head = [&[0x5d][..], &dictionary.to_le_bytes(), &len.to_le_bytes(), &[first, 1, 2, 3]].concat();
            recognise(&head, "x")
        };
        assert_eq!(lzma(8 << 20, u64::MAX, 0), Some(C::Lzma));
        assert_eq!(lzma(12 << 20, 5, 0), Some(C::Lzma));
        assert_eq!((lzma(10 << 20, 5, 0), lzma(8 << 20, 5, 1), lzma(8 << 20, 1 << 40, 0)), (None, None, None));
        assert_eq!((lzma(5 << 20, 5, 0), lzma(0, 5, 0), recognise(&[0; 64], "a.lzma")), (None, None, None));
        assert_eq!(recognise(b"BZh9 is a text", "x.bz2"), None);
        assert_eq!(recognise(b"anything", "x.br"), Some(C::Brotli));
        assert_eq!(recognise(b"anything", "x"), None);
        // A frame to be left out in front of one that tells.
        let skipped = [&[0x50, 0x2a, 0x4d, 0x18, 2, 0, 0, 0, 9, 9][..], &[0x04, 0x22, 0x4d, 0x18, 0x64, 0x40]].concat();
        assert_eq!(recognise(&skipped, "x"), Some(C::Lz4));
        assert_eq!(recognise(&skipped[..8], "x.zst"), Some(C::Zstd));
        assert_eq!(recognise(&skipped[..8], "x"), None);
    }
}
