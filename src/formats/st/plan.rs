//! What the packer decides before it compresses: which kind of data a file holds, in which order files go on the tape, and
//! what each level means.
//!
//! Figures are of three corpora: GS, 486 MB of game data (textures, sound, models, a 230 MB archive of textures); RS, 375 MB
//! in 13 versions of three packages; SS, 32 MB in 21 000 small files.

use crate::codec::zstd::Effort;

/// The kind of data, as far as it matters for how they are cut into segments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Class {
    /// Text, markup, source: long matches far apart, no fixed records.
    Text,
    #[default]
    Binary,
}

/// Bytes of a file that are looked at.
const HEAD: usize = 4096;

impl Class {
    /// Judges by the first bytes of a file.
    pub fn of(head: &[u8]) -> Self {
        let head = &head[..head.len().min(HEAD)];
        let odd = head.iter().filter(|b| matches!(**b, 0..=8 | 14..=26 | 28..=31 | 127)).count();
        if !head.contains(&0) && odd * 50 <= head.len() { Self::Text } else { Self::Binary }
    }
}

/// The place of a file in the order of packing: by extension, name, magnitude of the size, and then by the directories
/// from the innermost to the outermost. The same file of several versions of a directory comes side by side, and so does
/// what has the same name anywhere. Against path order this leaves 41.0 MB where it was 43.4 on RS, 4.50 where it was
/// 5.09 on SS (zstd -3).
pub fn sort_key(path: &[u8], size: u64) -> Vec<u8> {
    let mut parts = path.rsplit(|b| *b == b'/');
    let name = parts.next().unwrap_or(path);
    let dot = name.iter().rposition(|b| *b == b'.').filter(|dot| *dot > 0);
    let mut key = Vec::with_capacity(path.len() + 16);
    key.extend(name[dot.map_or(name.len(), |dot| dot + 1)..].to_ascii_lowercase());
    key.push(0);
    key.extend_from_slice(name);
    key.extend([0, size.checked_ilog2().unwrap_or(0) as u8]);
    for part in parts {
        key.push(0);
        key.extend_from_slice(part);
    }
    key
}

/// How a segment is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coder {
    Zstd(Effort),
    /// LZMA2 of this preset, for archives: 50 to 75 MB/s to decode game data, against 500 to 1000 of zstd.
    Xz(u32),
}

impl Coder {
    /// The zstd level, where there is one.
    pub fn level(self) -> Option<i32> {
        match self {
            Self::Zstd(effort) => Some(effort.level),
            Self::Xz(_) => None,
        }
    }

    fn zstd(level: i32) -> Self {
        Self::Zstd(Effort::level(level))
    }
}

/// What a level means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Preset {
    /// Raw bytes of a segment of text, and of anything else.
    pub text_segment: u32,
    pub segment: u32,
    pub text_coder: Coder,
    pub coder: Coder,
    /// Whether records in binary data are looked for, to put their fields side by side.
    pub filters: bool,
    /// Whether a segment may be packed against an earlier one that it resembles. Reading it then takes both.
    pub bases: bool,
    /// Whether what resembles something in a base of the container is packed against that.
    pub over: bool,
    /// Whether dictionaries are trained and tried.
    pub dicts: bool,
    /// zstd level of the index.
    pub index: i32,
    /// Whether the index lists chunks, for a writer that adds to the container later. It can be made anew.
    pub chunk_rows: bool,
}

const KIB: u32 = 1 << 10;
const MIB: u32 = 1 << 20;

impl Preset {
    pub fn coder_of(&self, class: Class) -> Coder {
        if class == Class::Text { self.text_coder } else { self.coder }
    }

    /// The preset of a level from 1 to 9.
    pub fn of(level: u8) -> Self {
        let fast = Self {
            text_segment: 256 * KIB,
            segment: 256 * KIB,
            text_coder: Coder::zstd(1),
            coder: Coder::zstd(1),
            filters: false,
            bases: false,
            over: false,
            dicts: false,
            index: 9,
            chunk_rows: true,
        };
        let helped = Self { filters: true, dicts: true, over: true, ..fast };
        let related = Self { bases: true, ..helped };
        let by = |level, preset| Self { text_coder: Coder::zstd(level), coder: Coder::zstd(level), ..preset };
        match level {
            0 | 1 => fast,
            2 => by(2, fast),
            3 => by(3, fast),
            // Levels 4 to 6 of zstd leave more than 3 on game data: they look for longer matches only.
            4 => by(3, helped),
            5 => by(7, helped),
            6 => by(9, helped),
            // A base makes a cold random read decode two segments: not before size matters more than that.
            7 => by(13, related),
            8 => Self { text_segment: MIB, segment: MIB, ..by(18, related) },
            _ => Self {
                // Text in large segments leaves little for LZMA to gain, and zstd decodes 16 MiB in 15 ms.
                text_segment: 16 * MIB,
                text_coder: Coder::Zstd(Effort { level: 19, window_log: 24 }),
                segment: MIB,
                coder: Coder::Xz(6),
                index: 19,
                dicts: false,
                chunk_rows: false,
                ..helped
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_told_from_the_rest() {
        for text in [&b"fn main() {}\n"[..], "Gr\u{fc}\u{df}e".as_bytes(), b"\xef\xbb\xbf<svg/>", b""] {
            assert_eq!(Class::of(text), Class::Text, "{text:?}");
        }
        for binary in [&b"\x7fELF\x02\x01\x01\0"[..], b"RIFF\x24\x08\0\0WAVEfmt ", &[1, 2, 3, 4, 200, 5, 6]] {
            assert_eq!(Class::of(binary), Class::Binary, "{binary:?}");
        }
    }

    #[test]
    fn versions_of_a_file_come_side_by_side() {
        let mut paths = ["a-1.0/x/main.js", "a-1.0/x/util.js", "a-1.1/x/main.js", "a-1.1/README", "a-1.0/y/main.CSS"];
        paths.sort_by_key(|path| sort_key(path.as_bytes(), 1000));
        let want = ["a-1.1/README", "a-1.0/y/main.CSS", "a-1.0/x/main.js", "a-1.1/x/main.js", "a-1.0/x/util.js"];
        assert_eq!(paths, want);
    }
}
