//! The files of an archive in several volumes, by their names.
//!
//! ```text
//!   x.part1.rar  x.part2.rar  ..          since RAR 3; the first may be x.part1.exe
//!   x.rar  x.r00  ..  x.r99  x.s00  ..    before
//! ```

use super::headers::Main;
use crate::error::{Error, Kind, Result};
use crate::formats::Volumes;
use crate::source::ReadAt;
use std::sync::Arc;

/// Volumes that an archive may have: each is an open file.
pub const MOST: usize = 10_000;

/// Endings of a first volume.
const FIRST: [&str; 3] = ["rar", "exe", "sfx"];

/// How the volumes of a set are called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Naming {
    /// What stands around the number, and how many digits it has.
    Numbered { front: String, width: usize, back: String },
    /// The name of the first without its ending.
    Old { stem: String, is_shouted: bool },
}

impl Naming {
    /// How the set of this volume is called, and which of them it is, from 1 on.
    pub fn of(name: &str, main: &Main) -> Option<(Self, usize)> {
        let (stem, ending) = name.rsplit_once('.')?;
        let lower = ending.to_ascii_lowercase();
        if let Some(number) = old_number(&lower) {
            return Some((Self::old(stem, ending), number));
        }
        if !FIRST.contains(&lower.as_str()) {
            return None;
        }
        let digits = stem.len() - stem.trim_end_matches(|c: char| c.is_ascii_digit()).len();
        let (front, number) = stem.split_at(stem.len() - digits);
        let is_part = front.to_ascii_lowercase().ends_with(".part");
        match number.parse() {
            Ok(number) if is_part || main.is_numbered => {
                let (front, back) = (front.to_owned(), format!(".{ending}"));
                Some((Self::Numbered { front, width: digits, back }, number))
            }
            _ => Some((Self::old(stem, ending), 1)),
        }
    }

    fn old(stem: &str, ending: &str) -> Self {
        Self::Old { stem: stem.to_owned(), is_shouted: ending.starts_with(|c: char| c.is_ascii_uppercase()) }
    }

    /// The name of a volume that is not the first.
    pub fn name(&self, number: usize) -> String {
        match self {
            Self::Numbered { front, width, back } => {
                // Only the first is a program.
                let back = match back.to_ascii_lowercase().as_str() {
                    ".rar" => back,
                    _ => ".rar",
                };
                format!("{front}{number:0width$}{back}")
            }
            Self::Old { stem, is_shouted } => {
                let (letter, number) = ((number.saturating_sub(2)) / 100, (number.saturating_sub(2)) % 100);
                let first = if *is_shouted { b'R' } else { b'r' };
                let letter = char::from(first.saturating_add(letter.min(8) as u8));
                format!("{stem}.{letter}{number:02}")
            }
        }
    }

    /// Names that the first volume may have, the likeliest first.
    fn firsts(&self) -> Vec<String> {
        let endings = FIRST.iter().flat_map(|ending| [(*ending).to_owned(), ending.to_uppercase()]);
        match self {
            Self::Numbered { front, width, back } => {
                let endings: Vec<_> = std::iter::once(back[1..].to_owned()).chain(endings).collect();
                let widths = (1..=*width).rev();
                widths.flat_map(|w| endings.iter().map(move |ending| format!("{front}{:0w$}.{ending}", 1))).collect()
            }
            Self::Old { stem, is_shouted: true } => endings.map(|e| format!("{stem}.{}", e.to_uppercase())).collect(),
            Self::Old { stem, is_shouted: false } => endings.map(|ending| format!("{stem}.{ending}")).collect(),
        }
    }
}

/// Which volume has an ending like `r07`.
fn old_number(ending: &str) -> Option<usize> {
    let bytes: &[u8; 3] = ending.as_bytes().try_into().ok()?;
    let [letter @ b'r'..=b'z', tens @ b'0'..=b'9', ones @ b'0'..=b'9'] = *bytes else { return None };
    Some(usize::from(letter - b'r') * 100 + usize::from(tens - b'0') * 10 + usize::from(ones - b'0') + 2)
}

/// The first volume of a set.
pub fn first(beside: &dyn Volumes, naming: &Naming) -> Result<(String, Arc<dyn ReadAt>)> {
    let names = naming.firsts();
    for name in &names {
        if let Some(bytes) = beside.open(name)? {
            return Ok((name.clone(), bytes));
        }
    }
    Err(missing(&names[0]))
}

pub fn missing(name: &str) -> Error {
    Error::new(Kind::MissingVolume, format!("the volume {name} is missing"))
        .hint("all files of the archive must be in one directory")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn naming(name: &str, is_numbered: bool) -> Option<(Naming, usize)> {
        Naming::of(name, &Main { is_volume: true, is_numbered, ..Main::default() })
    }

    #[test]
    fn volumes_are_named_in_two_ways() {
        for (name, is_numbered, number, next, first) in [
            ("x.part1.rar", true, 1, "x.part2.rar", "x.part1.rar"),
            ("x.part09.rar", true, 9, "x.part10.rar", "x.part01.rar"),
            ("X.Part2.RAR", true, 2, "X.Part3.RAR", "X.Part1.RAR"),
            ("x.part1.exe", true, 1, "x.part2.rar", "x.part1.exe"),
            ("x.part01.rar", false, 1, "x.part02.rar", "x.part01.rar"),
            ("vol7.rar", true, 7, "vol8.rar", "vol1.rar"),
            ("vol7.rar", false, 1, "vol7.r00", "vol7.rar"),
            ("x.rar", false, 1, "x.r00", "x.rar"),
            ("x.r00", false, 2, "x.r01", "x.rar"),
            ("x.r99", false, 101, "x.s00", "x.rar"),
            ("X.S05", false, 107, "X.S06", "X.RAR"),
        ] {
            let (naming, found) = naming(name, is_numbered).unwrap();
            assert_eq!((found, naming.name(found + 1).as_str(), naming.firsts()[0].as_str()), (number, next, first));
        }
        let (wide, _) = naming("x.part10.rar", true).unwrap();
        assert!(wide.firsts().contains(&"x.part1.rar".to_owned()));
        assert_eq!(naming("x", true), None);
    }
}
