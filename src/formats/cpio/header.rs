//! The header in front of each entry, in four forms.
//!
//! ```text
//!   newc, crc   070701 070702     110 bytes, hexadecimal digits; name and data are filled up to 4 bytes
//!   odc         070707             76 bytes, octal digits; nothing is filled up
//!   bin         0o070707 as u16    26 bytes, in either byte order; filled up to 2 bytes
//! ```

use crate::tree::device;

/// The longest header.
pub const LONGEST: usize = 110;

/// A name is no longer than any system takes.
pub const MAX_NAME: u64 = 64 << 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Form {
    Newc,
    Crc,
    Odc,
    Little,
    Big,
}

impl Form {
    pub fn name(self) -> &'static str {
        match self {
            Self::Newc => "newc",
            Self::Crc => "crc",
            Self::Odc => "odc",
            Self::Little => "bin, little-endian",
            Self::Big => "bin, big-endian",
        }
    }

    /// The form that bytes begin in.
    fn of(bytes: &[u8]) -> Option<Self> {
        match bytes {
            [b'0', b'7', b'0', b'7', b'0', b'1', ..] => Some(Self::Newc),
            [b'0', b'7', b'0', b'7', b'0', b'2', ..] => Some(Self::Crc),
            [b'0', b'7', b'0', b'7', b'0', b'7', ..] => Some(Self::Odc),
            [0xc7, 0x71, ..] => Some(Self::Little),
            [0x71, 0xc7, ..] => Some(Self::Big),
            _ => None,
        }
    }

    /// Whether its magic is long enough to be found among other bytes.
    pub fn is_text(self) -> bool {
        matches!(self, Self::Newc | Self::Crc | Self::Odc)
    }

    fn header(self) -> u64 {
        match self {
            Self::Newc | Self::Crc => LONGEST as u64,
            Self::Odc => 76,
            Self::Little | Self::Big => 26,
        }
    }

    fn fill(self) -> u64 {
        match self {
            Self::Newc | Self::Crc => 4,
            Self::Odc => 1,
            Self::Little | Self::Big => 2,
        }
    }
}

/// A header as it stands in the archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    pub form: Form,
    pub device: u64,
    pub inode: u64,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub links: u32,
    pub mtime: i64,
    pub size: u64,
    /// Of a device node.
    pub rdev: u64,
    /// With the zero at its end.
    pub name_len: u64,
    /// The sum of all bytes of the data.
    pub sum: Option<u32>,
}

impl Header {
    /// The header at the front of bytes, if one is there.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let form = Form::of(bytes)?;
        let bytes = bytes.get(..form.header() as usize)?;
        let header = match form {
            Form::Newc | Form::Crc => newc(form, bytes),
            Form::Odc => odc(bytes),
            Form::Little => binary(form, bytes, u16::from_le_bytes),
            Form::Big => binary(form, bytes, u16::from_be_bytes),
        }?;
        (1..=MAX_NAME).contains(&header.name_len).then(|| header.of_hp())
    }

    /// HP-UX tells the number of a device by the size.
    fn of_hp(self) -> Self {
        let is_special = matches!(self.mode >> 12, 1 | 2 | 6 | 12);
        match is_special && self.rdev == 1 && self.size > 0 {
            true => Self { rdev: old_device(self.size), size: 0, ..self },
            false => self,
        }
    }

    /// The same, where what follows speaks for it as well: kind and name are such that they can be.
    pub fn is_likely(bytes: &[u8]) -> bool {
        let Some(header) = Self::read(bytes) else { return false };
        let start = header.form.header() as usize;
        let end = start + header.name_len as usize;
        let name = bytes.get(start..end.min(bytes.len())).unwrap_or_default();
        let (name, is_ended) = match bytes.len() < end {
            true => (name, true),
            false => (name.strip_suffix(b"\0").unwrap_or_default(), name.ends_with(b"\0")),
        };
        is_ended && !name.is_empty() && !name.contains(&0)
    }

    /// Where the name is, from the beginning of the header.
    pub fn name_at(&self) -> u64 {
        self.form.header()
    }

    /// Where the data are.
    pub fn data_at(&self) -> u64 {
        (self.form.header() + self.name_len).next_multiple_of(self.form.fill())
    }

    /// Where the next header is.
    pub fn next_at(&self) -> u64 {
        self.data_at() + self.size.next_multiple_of(self.form.fill())
    }
}

fn newc(form: Form, bytes: &[u8]) -> Option<Header> {
    let mut fields = [0; 13];
    for (field, digits) in fields.iter_mut().zip(bytes[6..].chunks_exact(8)) {
        *field = number(digits, 16)? as u32;
    }
    let [inode, mode, uid, gid, links, mtime, size, major, minor, r_major, r_minor, name_len, sum] = fields;
    Some(Header {
        form,
        device: device::join(major, minor),
        inode: inode.into(),
        mode,
        uid,
        gid,
        links,
        mtime: mtime.into(),
        size: size.into(),
        rdev: device::join(r_major, r_minor),
        name_len: name_len.into(),
        sum: (form == Form::Crc).then_some(sum),
    })
}

fn odc(bytes: &[u8]) -> Option<Header> {
    let mut rest = &bytes[6..];
    let mut next = |len| {
        let (digits, behind) = rest.split_at(len);
        rest = behind;
        number(digits, 8)
    };
    let (device, inode, mode, uid, gid) = (next(6)?, next(6)?, next(6)?, next(6)?, next(6)?);
    let (links, rdev, mtime, name_len, size) = (next(6)?, next(6)?, next(11)?, next(6)?, next(11)?);
    Some(Header {
        form: Form::Odc,
        device,
        inode,
        mode: mode as u32,
        uid: uid as u32,
        gid: gid as u32,
        links: links as u32,
        mtime: mtime as i64,
        size,
        rdev: old_device(rdev),
        name_len,
        sum: None,
    })
}

fn binary(form: Form, bytes: &[u8], number: fn([u8; 2]) -> u16) -> Option<Header> {
    let mut fields = [0; 13];
    for (field, bytes) in fields.iter_mut().zip(bytes.chunks_exact(2)) {
        *field = u64::from(number(bytes.try_into().ok()?));
    }
    let [_, device, inode, mode, uid, gid, links, rdev, t_high, t_low, name_len, s_high, s_low] = fields;
    Some(Header {
        form,
        device,
        inode,
        mode: mode as u32,
        uid: uid as u32,
        gid: gid as u32,
        links: links as u32,
        mtime: (t_high << 16 | t_low) as i64,
        size: s_high << 16 | s_low,
        rdev: old_device(rdev),
        name_len,
        sum: None,
    })
}

fn old_device(rdev: u64) -> u64 {
    device::join((rdev >> 8) as u32, (rdev & 0xff) as u32)
}

/// Digits and nothing else, but for blanks in front of them.
fn number(digits: &[u8], base: u32) -> Option<u64> {
    let digits = digits.trim_ascii_start();
    digits.iter().try_fold(0u64, |number, digit| {
        let digit = char::from(*digit).to_digit(base)?;
        Some(number * u64::from(base) + u64::from(digit))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_digits() {
        assert_eq!((number(b"00001F", 16), number(b"   17", 8), number(b"0x1", 16)), (Some(31), Some(15), None));
        assert_eq!((number(b"+12", 8), number(b"77777777777", 8)), (None, Some(0x1_ffff_ffff)));
    }

    #[test]
    fn a_header_of_either_byte_order_is_the_same() {
        let fields: [u16; 13] = [0o70707, 1, 2, 0o100_644, 3, 4, 1, 0x0103, 5, 6, 3, 0, 9];
        let little: Vec<u8> = fields.iter().flat_map(|n| n.to_le_bytes()).chain(*b"ab\0").collect();
        let big: Vec<u8> = fields.iter().flat_map(|n| n.to_be_bytes()).chain(*b"ab\0").collect();
        let (one, other) = (Header::read(&little).unwrap(), Header::read(&big).unwrap());
        assert_eq!(Header { form: Form::Big, ..one }, other);
        assert_eq!((one.mtime, one.size, one.rdev), (5 << 16 | 6, 9, 1 << 32 | 3));
        assert_eq!((one.data_at(), one.next_at()), (30, 40));
        assert!(Header::is_likely(&little) && !Header::is_likely(&little[..28].iter().map(|_| 0).collect::<Vec<_>>()));
    }
}
