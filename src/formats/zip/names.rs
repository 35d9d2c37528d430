//! Names and comments of entries, as UTF-8 where it is known what they are in.

use super::entry::is_of_dos;
use super::extra::{Extras, Text};
use super::layout::flag;
use super::records::Record;
use crate::codec::charset::{Charset, Origin};
use crate::error::Result;
use crate::formats::charset_called;
use std::borrow::Cow;

/// Names that are looked at to find out what they are in: so many bytes of them.
const SAMPLE: usize = 256 << 10;

/// Names that do not say what they are in.
#[derive(Default)]
pub struct Undeclared {
    bytes: Vec<u8>,
    ends: Vec<usize>,
    /// How many of them are of DOS or Windows.
    of_dos: usize,
}

impl Undeclared {
    pub fn see(&mut self, record: &Record<'_>) {
        if self.bytes.len() < SAMPLE && !is_declared(record, record.name) && !record.name.is_ascii() {
            self.bytes.extend_from_slice(record.name);
            self.ends.push(self.bytes.len());
            self.of_dos += usize::from(is_of_dos(record.central.made_by));
        }
    }

    pub fn any(&self) -> bool {
        !self.ends.is_empty()
    }

    fn names(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, end)| &self.bytes[start..*end])
    }

    fn origin(&self) -> Origin {
        match self.of_dos {
            0 => Origin::Unix,
            all if all == self.ends.len() => Origin::Dos,
            _ => Origin::Unknown,
        }
    }
}

/// Whether a text says that it is in UTF-8, and is.
fn is_declared(record: &Record<'_>, text: &[u8]) -> bool {
    record.central.flags.get() & flag::UTF_8 != 0 && std::str::from_utf8(text).is_ok()
}

/// How names are decoded.
pub struct Names(Charset);

impl Names {
    /// By what a person says they are in, or by what all of them look like.
    pub fn new(encoding: Option<&str>, undeclared: &Undeclared) -> Result<Self> {
        let Some(encoding) = encoding else {
            return Ok(Self(Charset::detect(undeclared.names(), undeclared.origin())));
        };
        charset_called(encoding).map(Self)
    }

    pub fn charset(&self) -> &'static str {
        self.0.name()
    }

    /// The path of an entry, with `/` between its names.
    pub fn path<'a>(&self, record: &Record<'a>, extras: &Extras<'a>) -> Cow<'a, [u8]> {
        if let Some(path) = extras.own.as_ref().and_then(|own| own.path.clone()) {
            return Cow::Owned(path);
        }
        let path = self.text(record, record.name, extras.path.as_ref());
        // Of a program on Windows a backslash can be nothing else; of one on Unix it is a letter.
        if is_of_dos(record.central.made_by) && path.contains(&b'\\') && !path.contains(&b'/') {
            return Cow::Owned(path.iter().map(|byte| if *byte == b'\\' { b'/' } else { *byte }).collect());
        }
        path
    }

    pub fn comment<'a>(&self, record: &Record<'a>, extras: &Extras<'a>) -> Cow<'a, [u8]> {
        self.text(record, record.comment, extras.comment.as_ref())
    }

    fn text<'a>(&self, record: &Record<'a>, raw: &'a [u8], instead: Option<&Text<'a>>) -> Cow<'a, [u8]> {
        if raw.is_ascii() || is_declared(record, raw) {
            return Cow::Borrowed(raw);
        }
        match instead.and_then(|text| text.instead_of(raw)) {
            Some(text) => Cow::Borrowed(text.as_bytes()),
            None => self.0.utf8(raw),
        }
    }
}
