//! An archive of any format that was cut into pieces, as `split` and most packers do it.
//!
//! ```text
//!   x.7z.001  x.7z.002  ..  x.7z.NNN      one behind the other they are x.7z; any of them opens it
//! ```
//!
//! Nobody says how many there are: they end where the next number is not there.

use super::{Access, Volumes, st};
use crate::error::{Error, Kind, Result};
use crate::source::{Joined, ReadAt, VolumeSet};
use std::ops::Range;
use std::sync::Arc;

/// Pieces that an archive may have: each is an open file.
pub const MOST_PARTS: usize = 10_000;

/// Where the pieces of an archive end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parts {
    pub count: usize,
    /// The name of the piece that would follow: when the archive is cut off, this one is missing.
    pub next: String,
    /// Pieces between the others that are missing, and what they would hold.
    pub gone: Vec<String>,
    pub holes: Vec<Range<u64>>,
}

impl Parts {
    /// That an archive goes on where its last piece ends, or has a hole before.
    pub fn missing(&self) -> Error {
        match self.gone.as_slice() {
            [] => missing(&self.next),
            [one] => missing(one),
            more => error(format!("the volumes {} are missing", more.join(", "))),
        }
    }

    /// What is missing, in words.
    pub fn words(&self) -> String {
        match self.gone.as_slice() {
            [] => "a volume is too short".to_owned(),
            [one] => format!("the volume {one} is missing"),
            more => format!("the volumes {} are missing", more.join(", ")),
        }
    }

    /// An error of what is in the pieces, when it is likely to come from one that is not there.
    pub fn blame(&self, e: Error) -> Error {
        match e.kind() {
            Kind::Header | Kind::Damaged | Kind::NotRecognised => self.missing().caused_by(e),
            _ => e,
        }
    }
}

/// The whole archive, where one of its pieces was opened; else what was opened.
///
/// # Errors
/// `MissingVolume` when a piece before the one that was opened is not there, and nothing makes up for it.
pub fn whole(access: Access) -> Result<Access> {
    let Some(beside) = access.volumes.clone() else { return Ok(access) };
    let Some((stem, digits)) = number_of(beside.name()) else { return Ok(access) };
    let width = digits.len();
    let at = |number: usize| format!("{stem}.{number:0width$}");
    let front = pieces(&*beside, at)?;
    if let Some(set) = with_holes(&*beside, stem, &at, &front)? {
        return Ok(joined(access.clone(), digits, set.0, set.1));
    }
    let opened = digits.parse().unwrap_or(usize::MAX);
    if front.len() < opened {
        // A name may end in a number and mean something else by it.
        return if is_part_of_archive(stem) { Err(missing(&at(front.len() + 1))) } else { Ok(access) };
    }
    let parts = Parts { count: front.len(), next: at(front.len() + 1), gone: Vec::new(), holes: Vec::new() };
    Ok(joined(access.clone(), digits, Arc::new(Joined::new(front)?), parts))
}

fn joined(access: Access, digits: &str, bytes: Arc<dyn ReadAt>, parts: Parts) -> Access {
    let name = access.name.strip_suffix(digits).and_then(|name| name.strip_suffix('.'));
    let name = name.map_or_else(|| access.name.clone(), str::to_owned);
    Access { bytes, parts: Some(parts), volumes: None, memory: None, name, ..access }
}

/// A container of which pieces between the others are missing: its parity may make up for them. Nothing where it is none,
/// or where the pieces at the `front` are all of it.
fn with_holes(
    beside: &dyn Volumes,
    stem: &str,
    at: &impl Fn(usize) -> String,
    front: &[Arc<dyn ReadAt>],
) -> Result<Option<(Arc<dyn ReadAt>, Parts)>> {
    let is_numbered = |name: &String| number_of(name).is_some_and(|(of, _)| of == stem);
    let numbers = beside.names().into_iter().filter(is_numbered).filter_map(|name| {
        let number = number_of(&name)?.1.parse().ok()?;
        (at(number) == name).then_some(number)
    });
    let last = numbers.filter(|number| *number <= MOST_PARTS).max().unwrap_or(0);
    let is_even = front.windows(3).all(|three| three[0].len().ok() == three[1].len().ok());
    if (last <= front.len() && is_even) || st::ends_here(&Joined::new(front.to_vec())?) {
        return Ok(None);
    }
    let names = (1..=last).map(at);
    let volumes = names.map(|name| Ok((beside.open(&name)?, name))).collect::<Result<Vec<_>>>()?;
    let there: Vec<_> = volumes.iter().map(|(volume, _)| volume.clone()).collect();
    let is_st = stem.ends_with(".st") || there.iter().flatten().any(|piece| is_container(&**piece));
    let Some(size) = st::volume_size(&there)?.filter(|_| is_st) else { return Ok(None) };
    let gone = volumes.iter().filter(|(volume, _)| volume.is_none()).map(|(_, name)| name.clone()).collect();
    let set = VolumeSet::new(size, volumes.into_iter().map(|(volume, name)| (name, volume)).collect(), None)?;
    let parts = Parts { count: last, next: at(last + 1), gone, holes: set.holes() };
    Ok(Some((Arc::new(set), parts)))
}

fn is_container(piece: &dyn ReadAt) -> bool {
    super::recognise(piece, "").is_ok_and(|format| format == Some("st"))
}

fn pieces(beside: &dyn Volumes, at: impl Fn(usize) -> String) -> Result<Vec<Arc<dyn ReadAt>>> {
    let mut pieces = Vec::new();
    while let Some(piece) = beside.open(&at(pieces.len() + 1))? {
        pieces.push(piece);
        if pieces.len() >= MOST_PARTS {
            return Err(Error::new(Kind::Limit, format!("{} has more than {MOST_PARTS} volumes", beside.name())));
        }
    }
    Ok(pieces)
}

fn missing(name: &str) -> Error {
    error(format!("the volume {name} is missing"))
}

fn error(what: String) -> Error {
    Error::new(Kind::MissingVolume, what).hint("all files of the archive must be in one directory")
}

/// Whether a name is that of a piece of an archive.
pub fn is_piece(name: &str) -> bool {
    number_of(name).is_some_and(|(stem, _)| is_part_of_archive(stem))
}

/// Parts `x.002` at its dot.
pub fn number_of(name: &str) -> Option<(&str, &str)> {
    let (stem, digits) = name.rsplit_once('.')?;
    (digits.len() >= 3 && digits.bytes().all(|b| b.is_ascii_digit())).then_some((stem, digits))
}

/// Endings of archives that are cut in pieces.
const ENDINGS: &[&str] = &[
    "st", "zip", "zipx", "jar", "7z", "rar", "tar", "tgz", "tbz", "tbz2", "txz", "tzst", "gz", "bz2", "xz", "zst",
    "lz4", "lz", "br", "cpio", "iso", "img", "squashfs",
];

fn is_part_of_archive(stem: &str) -> bool {
    let ending = stem.rsplit_once('.').map(|(_, ending)| ending.to_ascii_lowercase());
    ending.is_some_and(|ending| ENDINGS.contains(&ending.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::Cache;
    use crate::source::Memory;

    struct Files(&'static str, &'static [(&'static str, &'static [u8])]);

    impl Volumes for Files {
        fn name(&self) -> &str {
            self.0
        }

        fn open(&self, name: &str) -> Result<Option<Arc<dyn ReadAt>>> {
            let found = self.1.iter().find(|(known, _)| *known == name);
            Ok(found.map(|(_, bytes)| Arc::new(Memory::new(bytes.to_vec())) as Arc<dyn ReadAt>))
        }
    }

    fn opened(files: Files) -> Result<Access> {
        let bytes = files.open(files.0).unwrap().unwrap();
        let access = Access::to_read(bytes, Cache::new(1 << 20), format!("dir/{}", files.0));
        whole(Access { volumes: Some(Arc::new(files)), ..access })
    }

    #[test]
    fn pieces_are_joined_whichever_is_opened() {
        let files: &[(&str, &[u8])] = &[("x.7z.001", b"ab"), ("x.7z.002", b"c"), ("x.7z.003", b"de")];
        for name in ["x.7z.001", "x.7z.002", "x.7z.003"] {
            let access = opened(Files(name, files)).unwrap();
            let mut bytes = vec![0; 5];
            access.bytes.read_exact_at(0, &mut bytes).unwrap();
            assert_eq!((&bytes[..], access.name.as_str()), (&b"abcde"[..], "dir/x.7z"));
            assert_eq!(access.parts, Some(Parts { count: 3, next: "x.7z.004".into(), gone: vec![], holes: vec![] }));
        }
    }

    #[test]
    fn a_piece_that_is_not_there_is_named() {
        let files: &[(&str, &[u8])] = &[("x.zip.001", b"ab"), ("x.zip.003", b"de")];
        let e = opened(Files("x.zip.003", files)).err().unwrap();
        assert_eq!((e.kind(), e.to_string().contains("x.zip.002")), (Kind::MissingVolume, true));
    }

    #[test]
    fn a_number_at_the_end_of_a_name_may_mean_anything() {
        let files: &[(&str, &[u8])] = &[("backup.2024", b"ab")];
        assert_eq!(opened(Files("backup.2024", files)).unwrap().parts, None);
    }
}
