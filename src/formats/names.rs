//! In which charset the names of an archive are that does not say it. Nearly all are in UTF-8.

use crate::codec::charset::{Charset, Origin};
use crate::error::{Error, Kind, Result};
use std::borrow::Cow;

/// Names that are looked at to find out what they are in: so many bytes of them.
const SAMPLE: usize = 256 << 10;

/// The charset that a person names.
pub fn charset_called(name: &str) -> Result<Charset> {
    Charset::by_name(name).ok_or_else(|| Error::new(Kind::Usage, format!("{name}: no such charset")))
}

/// Names that are not in UTF-8.
#[derive(Default)]
pub struct Undeclared {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Undeclared {
    pub fn see(&mut self, name: &[u8]) {
        if self.bytes.len() < SAMPLE && std::str::from_utf8(name).is_err() {
            self.bytes.extend_from_slice(name);
            self.ends.push(self.bytes.len());
        }
    }

    pub fn any(&self) -> bool {
        !self.ends.is_empty()
    }

    fn names(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, end)| &self.bytes[start..*end])
    }
}

/// How names are decoded.
#[derive(Clone, Copy, Default)]
pub struct Names(Option<Charset>);

impl Names {
    pub fn by_name(name: &str) -> Result<Self> {
        Ok(Self(Some(charset_called(name)?)))
    }

    /// A scan with its names in the charset that a person tells, or that all of them look like, and how they are decoded.
    /// They are all known only when it is done, so it is made once more where that changes any.
    pub fn settled<S>(
        told: Option<&str>,
        scan: impl Fn(Self) -> Result<S>,
        undeclared: impl Fn(&S) -> &Undeclared,
    ) -> Result<(S, Self)> {
        let told = told.map(Self::by_name).transpose()?;
        let first = scan(told.unwrap_or_default())?;
        let seen = undeclared(&first);
        if told.is_some() || !seen.any() {
            return Ok((first, told.unwrap_or_default()));
        }
        let names = Self::detected(seen);
        let settled = if names.changes(seen) { scan(names)? } else { first };
        Ok((settled, names))
    }

    /// What all of these look like.
    pub fn detected(undeclared: &Undeclared) -> Self {
        Self(Some(Charset::detect(undeclared.names(), Origin::Unix)))
    }

    /// Whether any of these becomes something else.
    pub fn changes(&self, undeclared: &Undeclared) -> bool {
        undeclared.names().any(|name| *self.decoded(name) != *name)
    }

    pub fn decoded<'a>(&self, name: &'a [u8]) -> Cow<'a, [u8]> {
        match self.0 {
            Some(charset) if std::str::from_utf8(name).is_err() => charset.utf8(name),
            _ => Cow::Borrowed(name),
        }
    }

    pub fn charset(&self) -> Option<&'static str> {
        self.0.map(Charset::name)
    }
}
