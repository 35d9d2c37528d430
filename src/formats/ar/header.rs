//! The header in front of each member: 60 bytes of text, decimal but for the mode.
//!
//! ```text
//!   0 name │ 16 mtime │ 28 uid │ 34 gid │ 40 mode, octal │ 48 size │ 58 "`\n"
//! ```

/// Bytes of a header.
pub const LEN: usize = 60;

const END: &[u8; 2] = b"`\n";

/// A header as it stands in the archive.
#[derive(Debug, PartialEq, Eq)]
pub struct Header {
    pub name: Vec<u8>,
    pub mtime: i64,
    pub uid: u32,
    pub gid: u32,
    pub mode: u32,
    pub size: u64,
}

/// How a member is called.
#[derive(Debug, PartialEq, Eq)]
pub enum Called {
    Name(Vec<u8>),
    /// GNU: it stands in the table of long names.
    InTable(u64),
    /// BSD: it is the first so many bytes of the data.
    InData(u64),
    /// GNU: this is the table of long names.
    Table,
    /// What linkers look up where a symbol is defined.
    Index,
}

impl Header {
    /// The header in some bytes, if one is there.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        if bytes.get(LEN - END.len()..LEN)? != END {
            return None;
        }
        let field = |from: usize, to: usize, base| number(&bytes[from..to], base);
        Some(Self {
            name: bytes[..16].trim_ascii_end().to_vec(),
            mtime: field(16, 28, 10).and_then(|secs| i64::try_from(secs).ok()).unwrap_or_default(),
            uid: id(field(28, 34, 10)),
            gid: id(field(34, 40, 10)),
            mode: id(field(40, 48, 8)),
            size: field(48, 58, 10)?,
        })
    }

    pub fn called(&self) -> Called {
        let name = &self.name[..];
        match name {
            b"//" => Called::Table,
            b"/" | b"/SYM64/" | b"/<ECSYMBOLS>/" => Called::Index,
            _ => match (name.strip_prefix(b"#1/"), name.strip_prefix(b"/")) {
                (Some(len), _) if number(len, 10).is_some() => Called::InData(number(len, 10).unwrap_or_default()),
                (_, Some(at)) if number(at, 10).is_some() => Called::InTable(number(at, 10).unwrap_or_default()),
                _ if is_index(name) => Called::Index,
                _ => Called::Name(name.strip_suffix(b"/").unwrap_or(name).to_vec()),
            },
        }
    }
}

/// BSD calls the index so.
pub fn is_index(name: &[u8]) -> bool {
    matches!(name, b"__.SYMDEF" | b"__.SYMDEF SORTED" | b"__.SYMDEF_64" | b"__.SYMDEF_64 SORTED")
}

/// Digits with blanks behind them; nothing at all is 0.
fn number(field: &[u8], base: u32) -> Option<u64> {
    field.trim_ascii().iter().try_fold(0u64, |number, digit| {
        let digit = char::from(*digit).to_digit(base)?;
        number.checked_mul(base.into())?.checked_add(digit.into())
    })
}

fn id(number: Option<u64>) -> u32 {
    number.and_then(|number| u32::try_from(number).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn called(name: &str) -> Called {
        Header::read(format!("{name:<16}1600000000  1     2     100644  12        `\n").as_bytes()).unwrap().called()
    }

    #[test]
    fn names_are_told_in_many_ways() {
        assert_eq!(called("a.o/"), Called::Name(b"a.o".into()));
        assert_eq!(called("debian-binary"), Called::Name(b"debian-binary".into()));
        assert_eq!(called("with space.o/"), Called::Name(b"with space.o".into()));
        assert_eq!((called("/18"), called("#1/20")), (Called::InTable(18), Called::InData(20)));
        assert_eq!((called("//"), called("/"), called("__.SYMDEF")), (Called::Table, Called::Index, Called::Index));
        let header =
            Header::read(format!("{:<16}5           1     2     100644  12        `\n", "x").as_bytes()).unwrap();
        assert_eq!((header.mtime, header.uid, header.gid, header.mode, header.size), (5, 1, 2, 0o100_644, 12));
        assert_eq!(Header::read(&[b' '; LEN]), None);
    }
}
