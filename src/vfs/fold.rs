//! Names without regard to case.
//!
//! Two names are the same when they differ only in case, as Windows programs expect. The folding is that of single
//! characters (Unicode simple case folding): up and down again, so that `ς`, `σ` and `Σ`, or `K` and the Kelvin sign,
//! fall together. `ß` and `ss` stay apart, as they do on NTFS. Bytes that are not UTF-8 stand for themselves.

use super::listing::Listing;
use crate::tree::Node;
use std::collections::HashMap;

/// The folded names of one directory. Of names that fold together, the first in the order of the directory counts.
pub struct FoldedNames(HashMap<Box<[u8]>, Node>);

impl FoldedNames {
    pub fn new(listing: &Listing) -> Self {
        let mut names = HashMap::with_capacity(listing.len());
        for entry in listing.from(0) {
            names.entry(fold(entry.name).into()).or_insert(entry.node);
        }
        Self(names)
    }

    pub fn find(&self, name: &[u8]) -> Option<Node> {
        self.0.get(fold(name).as_slice()).copied()
    }

    /// Roughly the bytes of memory this takes.
    pub fn weight(&self) -> usize {
        self.0.keys().map(|name| name.len() + 48).sum()
    }
}

/// The folded form of a name. Two names that differ only in case have the same.
pub fn fold(name: &[u8]) -> Vec<u8> {
    let mut folded = Vec::with_capacity(name.len());
    for chunk in name.utf8_chunks() {
        for c in chunk.valid().chars().map(fold_char) {
            folded.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
        }
        folded.extend_from_slice(chunk.invalid());
    }
    folded
}

fn fold_char(c: char) -> char {
    if c.is_ascii() {
        return c.to_ascii_lowercase();
    }
    let upper = single(c.to_uppercase()).unwrap_or(c);
    single(upper.to_lowercase()).unwrap_or(upper)
}

/// The character, if the mapping gives exactly one.
fn single(mut mapping: impl Iterator<Item = char>) -> Option<char> {
    let first = mapping.next();
    if mapping.next().is_some() { None } else { first }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_differ_in_case_fold_together() {
        for (a, b) in [
            ("README.TXT", "readme.txt"),
            ("Ärger", "äRGER"),
            ("ΟΔΟΣ", "οδος"),
            ("\u{212a}", "k"),
            ("Straße", "STRAẞE"),
        ] {
            assert_eq!(fold(a.as_bytes()), fold(b.as_bytes()), "{a} {b}");
        }
    }

    #[test]
    fn names_that_differ_in_more_stay_apart() {
        for (a, b) in [("strasse", "straße"), ("a", "ä"), ("i", "\u{130}")] {
            assert_ne!(fold(a.as_bytes()), fold(b.as_bytes()), "{a} {b}");
        }
        assert_ne!(fold(b"\xff"), fold(b"\xfe"));
        assert_eq!(fold(b"A\xffB"), b"a\xffb");
    }
}
