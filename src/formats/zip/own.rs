//! The extra field of this program: what Unix has and zip has no place for.
//!
//! ```text
//!   "st"  length │ version 1 │ tag, length (u16), value │ tag, length, value │ ...          all numbers little-endian
//!
//!   tag  value
//!    1   time of the last change:      seconds since 1970 (i64), nanoseconds (u32)
//!    2   time of the last access:      the same
//!    3   time of the last change of attributes: the same
//!    4   device: major (u32), minor (u32)
//!    5   an extended attribute: length of the name (u8), name, value
//!    6   the path, where it is not UTF-8
//!    7   this is a further name of the file of this path; its contents are here once more
//!    8   there are further names of this file
//! ```
//!
//! It stands in the list and in front of the contents. Who does not know it sees seconds, and files instead of links.
//!
//! A zip has no entry for its root. What belongs to that stands in the list alone, in a field of the last
//! entry that has room for it:
//!
//! ```text
//!   "sr"  length │ version 1 │ mode (u32) │ user (u32) │ group (u32) │ then as in "st": version, tags
//! ```

use super::layout::extra;
use super::list::COMMENT_ATTRIBUTE;
use crate::formats::Holds;
use crate::tree::{Attr, Kind, PATH_ATTRIBUTE, Time, Xattr, device};

const VERSION: u8 = 1;

mod tag {
    pub const MTIME: u8 = 1;
    pub const ATIME: u8 = 2;
    pub const CTIME: u8 = 3;
    pub const DEVICE: u8 = 4;
    pub const XATTR: u8 = 5;
    pub const PATH: u8 = 6;
    pub const SAME_AS: u8 = 7;
    pub const HAS_LINKS: u8 = 8;
}

/// Bytes that a field may have: an entry has others as well.
pub const MOST: usize = 60 << 10;

/// What a zip has room for with such fields. Bytes of attributes fit whatever else is in one: a path twice, times, and
/// three bytes more for each attribute.
pub const HOLDS: Holds = Holds { format: "zip", xattrs: 40 << 10, sparse: false, ..Holds::EVERYTHING };

/// What is in the field.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Own {
    pub mtime: Option<Time>,
    pub atime: Option<Time>,
    pub ctime: Option<Time>,
    pub device: Option<u64>,
    pub xattrs: Vec<Xattr>,
    pub path: Option<Vec<u8>>,
    pub same_as: Option<Vec<u8>>,
    pub has_links: bool,
}

impl Own {
    /// What zip has no place for, of an entry.
    pub fn of(attr: &Attr, mut xattrs: Vec<Xattr>, path: &[u8]) -> Self {
        // They tell of what has a place in a zip.
        xattrs.retain(|(name, _)| name != PATH_ATTRIBUTE && name != COMMENT_ATTRIBUTE);
        let is_whole = |time: Time| time.nanos == 0 && i32::try_from(time.secs).is_ok();
        let differs = |time: Time| (time != attr.mtime).then_some(time);
        Self {
            mtime: (!is_whole(attr.mtime)).then_some(attr.mtime),
            atime: differs(attr.atime),
            ctime: differs(attr.ctime),
            device: attr.kind.is_device().then_some(attr.rdev),
            xattrs,
            path: std::str::from_utf8(path).is_err().then(|| path.to_vec()),
            same_as: None,
            has_links: attr.nlink > 1 && attr.kind != Kind::Directory,
        }
    }

    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The body of the field; nothing when it would be too long.
    pub fn encode(&self) -> Option<Vec<u8>> {
        let mut out = vec![VERSION];
        let mut put = |tag: u8, value: &[u8]| {
            out.push(tag);
            out.extend_from_slice(&u16::try_from(value.len()).ok()?.to_le_bytes());
            out.extend_from_slice(value);
            Some(())
        };
        for (tag, time) in [(tag::MTIME, self.mtime), (tag::ATIME, self.atime), (tag::CTIME, self.ctime)] {
            if let Some(time) = time {
                put(tag, &[&time.secs.to_le_bytes()[..], &time.nanos.to_le_bytes()].concat())?;
            }
        }
        if let Some(number) = self.device {
            let numbers = [device::major(number), device::minor(number)];
            put(tag::DEVICE, numbers.map(u32::to_le_bytes).as_flattened())?;
        }
        for (name, value) in &self.xattrs {
            put(tag::XATTR, &[&[u8::try_from(name.len()).ok()?], &name[..], &value[..]].concat())?;
        }
        for (tag, path) in [(tag::PATH, &self.path), (tag::SAME_AS, &self.same_as)] {
            if let Some(path) = path {
                put(tag, path)?;
            }
        }
        if self.has_links {
            put(tag::HAS_LINKS, &[])?;
        }
        (out.len() <= MOST).then_some(out)
    }

    /// The field with its head.
    pub fn field(&self) -> Option<Vec<u8>> {
        let body = self.encode()?;
        Some([&extra::OWN.to_le_bytes()[..], &(body.len() as u16).to_le_bytes(), &body].concat())
    }

    /// What a body says. Of a later version, and of one that is torn, nothing.
    pub fn decode(body: &[u8]) -> Option<Self> {
        let (version, mut rest) = body.split_first()?;
        let mut own = Self::default();
        while let Some((head, behind)) = rest.split_first_chunk::<3>() {
            let len = u16::from_le_bytes([head[1], head[2]]);
            let (value, behind) = behind.split_at_checked(len.into())?;
            own.take(head[0], value)?;
            rest = behind;
        }
        (*version == VERSION && rest.is_empty()).then_some(own)
    }

    fn take(&mut self, tag: u8, value: &[u8]) -> Option<()> {
        match tag {
            tag::MTIME => self.mtime = Some(time(value)?),
            tag::ATIME => self.atime = Some(time(value)?),
            tag::CTIME => self.ctime = Some(time(value)?),
            tag::DEVICE => {
                let (major, minor) = value.split_first_chunk::<4>()?;
                let number = |bytes: &[u8]| Some(u32::from_le_bytes(bytes.try_into().ok()?));
                self.device = Some(device::join(number(major)?, number(minor)?));
            }
            tag::XATTR => {
                let (len, rest) = value.split_first()?;
                let (name, value) = rest.split_at_checked(usize::from(*len))?;
                self.xattrs.push((name.to_vec(), value.to_vec()));
            }
            tag::PATH => self.path = Some(value.to_vec()),
            tag::SAME_AS => self.same_as = Some(value.to_vec()),
            tag::HAS_LINKS => self.has_links = true,
            // Of a later time.
            _ => {}
        }
        Some(())
    }
}

/// What belongs to the root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Root {
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub own: Own,
}

impl Root {
    pub fn of(attr: &Attr, xattrs: Vec<Xattr>) -> Self {
        let own = Own { mtime: Some(attr.mtime), ..Own::of(attr, xattrs, b"") };
        Self { mode: attr.mode, uid: attr.uid, gid: attr.gid, own }
    }

    /// The field with its head; nothing when it would be too long.
    pub fn field(&self) -> Option<Vec<u8>> {
        let ids = [self.mode, self.uid, self.gid].map(u32::to_le_bytes);
        let body = [&[VERSION][..], ids.as_flattened(), &self.own.encode()?].concat();
        let len = u16::try_from(body.len()).ok()?;
        Some([&extra::ROOT.to_le_bytes()[..], &len.to_le_bytes(), &body].concat())
    }

    /// What a body says.
    pub fn decode(body: &[u8]) -> Option<Self> {
        let (head, own) = body.split_first_chunk::<13>()?;
        let number = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        let root = Self { mode: number(1) & 0o7777, uid: number(5), gid: number(9), own: Own::decode(own)? };
        (head[0] == VERSION).then_some(root)
    }

    pub fn attr(&self) -> Attr {
        let mut attr = Attr::new(Kind::Directory, self.mode, self.own.mtime.unwrap_or_default());
        (attr.uid, attr.gid) = (self.uid, self.gid);
        (attr.atime, attr.ctime) = (self.own.atime.unwrap_or(attr.mtime), self.own.ctime.unwrap_or(attr.mtime));
        attr
    }
}

fn time(value: &[u8]) -> Option<Time> {
    let (secs, nanos) = value.split_first_chunk::<8>()?;
    let nanos = u32::from_le_bytes(nanos.try_into().ok()?);
    (nanos < 1_000_000_000).then_some(Time { secs: i64::from_le_bytes(*secs), nanos })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_what_is_cut_is_nothing() {
        let time = |secs| Some(Time { secs, nanos: 123_456_789 });
        let own = Own {
            mtime: time(-5),
            atime: time(1 << 40),
            ctime: time(7),
            device: Some(device::join(8, 1)),
            xattrs: vec![(b"user.a".to_vec(), vec![0; 300]), (b"user.b".to_vec(), Vec::new())],
            path: Some(b"\xff/x".to_vec()),
            same_as: Some(b"dir/first".to_vec()),
            has_links: true,
        };
        let body = own.encode().unwrap();
        assert_eq!(Own::decode(&body), Some(own.clone()));
        let whole = (0..body.len()).filter(|len| Own::decode(&body[..*len]) == Some(own.clone())).count();
        assert_eq!(whole, 0);
        let root = Root { mode: 0o1777, uid: 7, gid: 1 << 31, own: own.clone() };
        let field = root.field().unwrap();
        assert_eq!(Root::decode(&field[4..]), Some(root.clone()));
        assert!((4..field.len() - 1).all(|len| Root::decode(&field[4..len]) != Some(root.clone())));
        let large = Own { xattrs: vec![(b"user.a".to_vec(), vec![0; 61 << 10])], ..Own::default() };
        assert_eq!(large.encode(), None);
    }
}
