//! A name of one directory entry: bytes, as POSIX has them.

use crate::error::{Error, Kind, Result};
use std::borrow::Borrow;
use std::fmt;

/// One path component. Holds at least one byte, no `/`, no NUL, and is neither `.` nor `..`: whoever has a `Name`
/// can join it to a directory and stay inside.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name<'a>(&'a [u8]);

impl<'a> Name<'a> {
    /// Longest name a tree may hold. File systems stop at 255; archives of other makers do not.
    pub const MAX: usize = 65_535;

    pub fn new(bytes: &'a [u8]) -> Result<Self> {
        let bad = match bytes {
            [] => "is empty",
            b"." | b".." => "stands for a directory",
            _ if bytes.len() > Self::MAX => "is too long",
            _ if bytes.contains(&b'/') => "contains a slash",
            _ if bytes.contains(&0) => "contains a NUL byte",
            _ => return Ok(Self(bytes)),
        };
        let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(80)]).into_owned();
        Err(Error::new(Kind::Invalid, format!("the name {shown:?} {bad}")))
    }

    pub fn bytes(self) -> &'a [u8] {
        self.0
    }

    pub fn to_owned(self) -> NameBuf {
        NameBuf(self.0.into())
    }
}

impl fmt::Display for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        String::from_utf8_lossy(self.0).fmt(f)
    }
}

impl fmt::Debug for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", String::from_utf8_lossy(self.0))
    }
}

/// A [`Name`] that owns its bytes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NameBuf(Box<[u8]>);

impl NameBuf {
    pub fn as_name(&self) -> Name<'_> {
        Name(&self.0)
    }
}

impl Borrow<[u8]> for NameBuf {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for NameBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_name().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_leave_a_directory_is_no_name() {
        for bad in [&b""[..], b".", b"..", b"a/b", b"/", b"a\0", &[b'x'; 65_536]] {
            assert!(Name::new(bad).is_err(), "{:?}", &bad[..bad.len().min(8)]);
        }
        for good in [&b"a"[..], b"...", b"\xff\xfe", b" ", b"a\nb", &[b'x'; 255]] {
            assert_eq!(Name::new(good).unwrap().bytes(), good);
        }
    }
}
