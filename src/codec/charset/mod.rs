//! Names of archive members: from the bytes of some charset to UTF-8.
//!
//! Old archives hold names in whatever charset their maker's system had, and do not say which. [`Charset::detect`]
//! looks at all such names of an archive at once; a person who knows better names the charset ([`Charset::by_name`]).
//!
//! ```text
//!  raw names of an archive --detect--> Charset --utf8--> the name in UTF-8, or its raw bytes if they do not decode
//! ```
//!
//! Decode a path whole and part it afterwards: in Shift-JIS, GBK and Big5 the second byte of a character may be 0x5C,
//! which is no `\` there. A byte 0x2F is a `/` in every charset here.

mod detect;
mod letters;
mod pages;
#[cfg(test)]
mod samples;

pub use detect::Origin;

use encoding_rs::Encoding;
use std::borrow::Cow;
use std::fmt;

/// A charset in which a byte below 0x80 is ASCII, unless it is the second one of a character.
#[derive(Clone, Copy)]
pub struct Charset {
    name: &'static str,
    table: Table,
}

#[derive(Clone, Copy)]
enum Table {
    Page(&'static pages::Page),
    Standard(&'static Encoding),
}

/// The charsets that `encoding_rs` decodes, with the numbers that Windows gave them. [`pages::PAGES`] has the others.
const STANDARD: &[(u16, &str)] = &[
    (866, "cp866"),
    (874, "windows-874"),
    (932, "shift_jis"),
    (936, "gbk"),
    (949, "euc-kr"),
    (950, "big5"),
    (1250, "windows-1250"),
    (1251, "windows-1251"),
    (1252, "windows-1252"),
    (1253, "windows-1253"),
    (1254, "windows-1254"),
    (1255, "windows-1255"),
    (1256, "windows-1256"),
    (1257, "windows-1257"),
    (1258, "windows-1258"),
    (10000, "macintosh"),
    (10007, "x-mac-cyrillic"),
    (20866, "koi8-r"),
    (21866, "koi8-u"),
    (28592, "iso-8859-2"),
    (28593, "iso-8859-3"),
    (28594, "iso-8859-4"),
    (28595, "iso-8859-5"),
    (28596, "iso-8859-6"),
    (28597, "iso-8859-7"),
    (28598, "iso-8859-8"),
    (28603, "iso-8859-13"),
    (28605, "iso-8859-15"),
    (51932, "euc-jp"),
    (54936, "gb18030"),
    (65001, "utf-8"),
];

/// Spellings of `iconv`, Python and people that `encoding_rs` has not, without the signs between letters and digits.
const ALIASES: &[(&str, &str)] = &[
    ("big5hkscs", "big5-hkscs"),
    ("eucjp", "euc-jp"),
    ("euckr", "euc-kr"),
    ("euccn", "gbk"),
    ("koi8r", "koi8-r"),
    ("koi8u", "koi8-u"),
    ("maccyrillic", "x-mac-cyrillic"),
    ("macroman", "macintosh"),
    ("shiftjis", "shift_jis"),
    ("uhc", "euc-kr"),
];

impl Charset {
    pub const UTF_8: Self = Self { name: "utf-8", table: Table::Standard(encoding_rs::UTF_8) };

    /// The charset that these names are in: UTF-8 if all of them are, else the most plausible. They may be whole paths.
    pub fn detect<'a>(names: impl Iterator<Item = &'a [u8]>, origin: Origin) -> Self {
        detect::detect(names, origin)
    }

    /// By any usual spelling: `cp866`, `IBM866`, `866`, `shift-jis`, `sjis`, `windows-1251`, `latin1`, ….
    pub fn by_name(name: &str) -> Option<Self> {
        let name = name.trim().to_ascii_lowercase();
        if let Some(found) = number(&name).and_then(Self::by_number) {
            return Some(found);
        }
        let plain: String = name.chars().filter(char::is_ascii_alphanumeric).collect();
        let alias = ALIASES.iter().find(|alias| alias.0 == plain).map_or(plain.as_str(), |alias| alias.1);
        let hyphens = name.replace('_', "-");
        let spellings = [name.as_str(), hyphens.as_str(), alias];
        let encoding = spellings.iter().find_map(|name| Encoding::for_label_no_replacement(name.as_bytes()))?;
        // UTF-16 and ISO-2022-JP have slashes inside of characters.
        encoding.is_ascii_compatible().then(|| Self::standard(encoding))
    }

    fn by_number(number: u16) -> Option<Self> {
        if let Some((_, name, page)) = pages::PAGES.iter().find(|page| page.0 == number) {
            return Some(Self { name, table: Table::Page(page) });
        }
        let (_, name) = STANDARD.iter().find(|standard| standard.0 == number)?;
        Encoding::for_label(name.as_bytes()).map(Self::standard)
    }

    fn standard(encoding: &'static Encoding) -> Self {
        let known = STANDARD.iter().map(|standard| standard.1);
        let name = known.into_iter().find(|name| Encoding::for_label(name.as_bytes()) == Some(encoding));
        Self { name: name.unwrap_or(encoding.name()), table: Table::Standard(encoding) }
    }

    /// The names to offer a person who misspelt one.
    pub fn names() -> impl Iterator<Item = &'static str> {
        pages::PAGES.iter().map(|page| page.1).chain(STANDARD.iter().map(|standard| standard.1))
    }

    pub fn name(self) -> &'static str {
        self.name
    }

    /// The text, if every byte is one of this charset.
    pub fn decode(self, raw: &[u8]) -> Option<Cow<'_, str>> {
        match self.table {
            Table::Standard(encoding) => encoding.decode_without_bom_handling_and_without_replacement(raw),
            Table::Page(page) => decode_page(page, raw),
        }
    }

    /// A name in UTF-8. One that does not decode stays as it is, all of it: so its bytes can be had back.
    pub fn utf8(self, raw: &[u8]) -> Cow<'_, [u8]> {
        match self.decode(raw) {
            Some(Cow::Owned(text)) => Cow::Owned(text.into_bytes()),
            _ => Cow::Borrowed(raw),
        }
    }
}

impl PartialEq for Charset {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Charset {}

impl fmt::Display for Charset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl fmt::Debug for Charset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// The number of a code page: of `cp866`, `ibm-866`, `windows_1251`, `866`.
fn number(name: &str) -> Option<u16> {
    let prefixes = ["cp", "ibm", "oem", "dos", "windows", "win", "ms", ""];
    prefixes.iter().find_map(|prefix| name.strip_prefix(prefix)?.trim_start_matches(['-', '_']).parse().ok())
}

fn decode_page<'a>(page: &pages::Page, raw: &'a [u8]) -> Option<Cow<'a, str>> {
    if raw.is_ascii() {
        return std::str::from_utf8(raw).ok().map(Cow::Borrowed);
    }
    let character = |byte: &u8| match byte.checked_sub(0x80).map(|high| page[usize::from(high)]) {
        None => Some(char::from(*byte)),
        Some(pages::NONE) => None,
        Some(code) => char::from_u32(code.into()),
    };
    raw.iter().map(character).collect::<Option<String>>().map(Cow::Owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &str) -> Charset {
        Charset::by_name(name).unwrap_or_else(|| panic!("{name} is unknown"))
    }

    #[test]
    fn the_usual_spellings_are_known() {
        for (name, spellings) in [
            ("cp437", "437 IBM437 cp437 ibm-437 oem437 dos-437"),
            ("cp850", "850 ibm850 CP850"),
            ("cp852", "852 ibm852 cp_852"),
            ("cp866", "866 cp866 ibm866 IBM-866 csibm866"),
            ("shift_jis", "sjis shift-jis Shift_JIS shiftjis cp932 932 ms932 windows-31j x-sjis"),
            ("gbk", "gbk GB2312 cp936 936 euc-cn euccn x-gbk"),
            ("gb18030", "gb18030 GB18030 cp54936 54936"),
            ("big5", "big5 Big5 big5-hkscs big5hkscs cp950 950"),
            ("euc-jp", "euc-jp eucjp EUC_JP x-euc-jp"),
            ("euc-kr", "euc-kr euckr cp949 949 uhc ks_c_5601-1987 windows-949"),
            ("koi8-r", "koi8-r KOI8_R koi8r koi8 cp20866"),
            ("koi8-u", "koi8-u koi8u cp21866"),
            ("windows-1251", "windows-1251 cp1251 1251 win1251 win-1251 Windows_1251"),
            ("windows-1252", "windows-1252 iso-8859-1 latin1 latin-1 iso8859-1 ISO_8859-1 l1"),
            ("iso-8859-2", "iso-8859-2 latin2 cp28592 iso88592"),
            ("iso-8859-15", "iso-8859-15 iso8859_15"),
            ("macintosh", "macintosh macroman mac-roman cp10000"),
            ("utf-8", "utf-8 utf8 UTF8 utf_8 cp65001 65001"),
        ] {
            for spelling in spellings.split(' ') {
                assert_eq!(Charset::by_name(spelling).map(Charset::name), Some(name), "{spelling}");
            }
        }
        for unknown in ["", "cp", "klingon", "utf-16", "utf-16le", "iso-2022-jp", "replacement", "cp1", "99999"] {
            assert_eq!(Charset::by_name(unknown), None, "{unknown}");
        }
        assert!(Charset::names().all(|name| named(name).name() == name));
    }

    #[test]
    fn names_become_utf8() {
        for (charset, raw, text) in [
            ("cp437", &b"caf\x82-\x81.txt"[..], "café-ü.txt"),
            ("cp850", b"\xb5\xd2\xe3.txt", "ÁÊÒ.txt"),
            ("cp852", b"\x97\x82\x88\xa5\x98.txt", "Śéłąś.txt"),
            ("cp855", b"\xdd\xe1\xb7\xeb\xa8\xe5", "Привет"),
            ("cp866", b"\x8f\xe0\xa8\xa2\xa5\xe2", "Привет"),
            ("cp1125", b"\xf6\xf8\xf3\xf5", "ІЇґє"),
            ("cp737", b"\x89\x98\xa2\x9e\xa3\xe2\xa8\x98", "Καλημέρα"),
            ("koi8-r", b"\xf0\xd2\xc9\xd7\xc5\xd4", "Привет"),
            ("windows-1251", b"\xcf\xf0\xe8\xe2\xe5\xf2", "Привет"),
            ("shift_jis", b"\x95\\\x8e\xa6/\x83\\\x81[\x83X", "表示/ソース"),
            ("euc-jp", b"\xc9\xbd\xbc\xa8", "表示"),
            ("gbk", b"\xd6\xd0\xce\xc4/\x81\\\x81|", "中文/乗亅"),
            ("big5", b"\xa5\\.txt", "功.txt"),
            ("euc-kr", b"\xb9\xae\xbc\xad", "문서"),
        ] {
            assert_eq!(named(charset).decode(raw).as_deref(), Some(text), "{charset}");
            assert_eq!(&*named(charset).utf8(raw), text.as_bytes());
        }
    }

    #[test]
    fn a_name_that_does_not_decode_keeps_its_bytes() {
        for (charset, raw) in [
            ("utf-8", &b"ok/\xff\xfe\xfd"[..]),
            ("shift_jis", b"\x83X\x83"),
            ("gbk", b"\xd6\xd0\xff"),
            ("euc-kr", b"\xb9\xae\x80\x80"),
            ("cp857", b"a\xd5b"),
            ("big5", b"\xff\xff"),
        ] {
            assert_eq!(named(charset).decode(raw), None);
            assert_eq!(&*named(charset).utf8(raw), raw);
        }
    }

    #[test]
    fn no_charset_makes_or_swallows_a_slash_or_a_nul() {
        for charset in Charset::names().map(named) {
            for pair in 0x7f00..=u16::MAX {
                let raw = pair.to_be_bytes();
                let Some(text) = charset.decode(&raw) else { continue };
                for special in ['/', '\0'] {
                    let (before, after) = (raw.iter().filter(|b| **b == special as u8), text.matches(special));
                    assert_eq!(before.count(), after.count(), "{charset}: {raw:02x?}");
                }
            }
        }
    }
}
