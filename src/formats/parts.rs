//! An archive of any format that was cut into pieces, as `split` and most packers do it.
//!
//! ```text
//!   x.7z.001  x.7z.002  ..  x.7z.NNN      one behind the other they are x.7z; any of them opens it
//! ```
//!
//! Nobody says how many there are: they end where the next number is not there.

use super::{Access, Volumes};
use crate::error::{Error, Kind, Result};
use crate::source::{Joined, ReadAt};
use std::sync::Arc;

/// Pieces that an archive may have: each is an open file.
const MOST: usize = 10_000;

/// Where the pieces of an archive end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parts {
    pub count: usize,
    /// The name of the piece that would follow: when the archive is cut off, this one is missing.
    pub next: String,
}

impl Parts {
    /// That an archive goes on where its last piece ends.
    pub fn missing(&self) -> Error {
        missing(&self.next)
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
/// `MissingVolume` when a piece before the one that was opened is not there.
pub fn whole(access: Access) -> Result<Access> {
    let Some(beside) = access.volumes.clone() else { return Ok(access) };
    let Some((stem, digits)) = number_of(beside.name()) else { return Ok(access) };
    let width = digits.len();
    let at = |number: usize| format!("{stem}.{number:0width$}");
    let pieces = pieces(&*beside, at)?;
    let opened = digits.parse().unwrap_or(usize::MAX);
    if pieces.len() < opened {
        // A name may end in a number and mean something else by it.
        return if is_part_of_archive(stem) { Err(missing(&at(pieces.len() + 1))) } else { Ok(access) };
    }
    let parts = Parts { count: pieces.len(), next: at(pieces.len() + 1) };
    let name = access.name.strip_suffix(digits).and_then(|name| name.strip_suffix('.'));
    let name = name.map_or_else(|| access.name.clone(), str::to_owned);
    Ok(Access {
        bytes: Arc::new(Joined::new(pieces)?),
        parts: Some(parts),
        volumes: None,
        memory: None,
        name,
        ..access
    })
}

fn pieces(beside: &dyn Volumes, at: impl Fn(usize) -> String) -> Result<Vec<Arc<dyn ReadAt>>> {
    let mut pieces = Vec::new();
    while let Some(piece) = beside.open(&at(pieces.len() + 1))? {
        pieces.push(piece);
        if pieces.len() >= MOST {
            return Err(Error::new(Kind::Limit, format!("{} has more than {MOST} volumes", beside.name())));
        }
    }
    Ok(pieces)
}

fn missing(name: &str) -> Error {
    Error::new(Kind::MissingVolume, format!("the volume {name} is missing"))
        .hint("all files of the archive must be in one directory")
}

/// Parts `x.002` at its dot.
fn number_of(name: &str) -> Option<(&str, &str)> {
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
            assert_eq!(access.parts, Some(Parts { count: 3, next: "x.7z.004".into() }));
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
