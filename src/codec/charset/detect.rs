//! Which charset the names of an archive are in, when the archive does not say.
//!
//! Each candidate reads all names, and each reading is weighed in bits: what somebody who knows the writing would need
//! to write it down. A frequent letter is cheap, a rare one dear, a box-drawing sign or a control code very dear; so is
//! a capital behind a small letter, or two alphabets in one word. The true charset gives words, so its reading is the
//! cheapest. A name is short, but bits add up over the archive: three names are nearly always enough.
//!
//! ```text
//!  cf e0 ef ea e0    windows-1251  Папка      small frequent letters of Russian         cheap
//!                    koi8-r        оЮОЙЮ      capitals behind a small letter            dear
//!                    cp866         ╧ряър      a sign that no name has                   dear
//!                    windows-1252  Ïàïêà      five accents in a row                     dear
//!                    gb18030       -          does not decode                           very dear
//! ```

use super::{Charset, letters};
use std::collections::{BTreeSet, HashMap};
use std::ops::RangeInclusive;
use std::sync::LazyLock;

/// Where an archive was made, as far as it tells: some charsets are likelier there, before a name was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// DOS or Windows, which write zip names in an OEM code page.
    Dos,
    Unix,
    Unknown,
}

/// So many bytes of names are weighed, each part of a path once. More does not change the answer and takes time.
const WEIGHED: usize = 32 << 10;

/// So many bytes above 0x7F that are valid UTF-8 are no accident, nor is any sequence of three of them. Fewer may be
/// one: some words of three Chinese characters are valid UTF-8 when they are written in GBK.
const SURE: usize = 12;

/// What a part of a name costs that a charset cannot decode, by the byte: more than any reading of it.
const UNDECODABLE: (f32, f32) = (8.0, 32.0);

/// A charset that may be the answer.
struct Candidate {
    charset: &'static str,
    /// Of each language written in it: the letters, frequent ones first.
    languages: &'static [&'static str],
    /// Of a charset with thousands of characters: the codes of those that its makers held for usual.
    usual: Option<RangeInclusive<u16>>,
    /// Bits that it costs before a name was read: in an archive of DOS, of Unix, of anything.
    before: [f32; 3],
}

const WEST: &[&str] = &[letters::FRENCH, letters::GERMAN, letters::IBERIAN, letters::NORDIC];
const CENTRAL: &[&str] = &[letters::POLISH, letters::CZECH, letters::HUNGARIAN];
const RUSSIAN: &[&str] = &[letters::RUSSIAN];
const UKRAINIAN: &[&str] = &[letters::UKRAINIAN];
const CYRILLIC: &[&str] = &[letters::RUSSIAN, letters::UKRAINIAN];
const GREEK: &[&str] = &[letters::GREEK];

const CANDIDATES: &[Candidate] = &[
    alphabet("utf-8", WEST, [-12.0; 3]),
    alphabet("utf-8", CENTRAL, [-12.0; 3]),
    alphabet("utf-8", CYRILLIC, [-12.0; 3]),
    alphabet("utf-8", GREEK, [-12.0; 3]),
    alphabet("cp437", WEST, [0.0, 6.0, 2.0]),
    alphabet("cp850", WEST, [0.5, 6.0, 2.0]),
    alphabet("cp852", CENTRAL, [2.0, 8.0, 4.0]),
    alphabet("cp866", RUSSIAN, [0.0, 6.0, 2.0]),
    alphabet("cp1125", UKRAINIAN, [2.0, 8.0, 4.0]),
    alphabet("cp737", GREEK, [3.0, 9.0, 5.0]),
    alphabet("windows-1252", WEST, [5.0, 2.0, 1.0]),
    alphabet("windows-1250", CENTRAL, [7.0, 4.0, 3.0]),
    alphabet("windows-1251", CYRILLIC, [4.0, 2.0, 1.0]),
    alphabet("windows-1253", GREEK, [7.0, 5.0, 4.0]),
    alphabet("koi8-r", RUSSIAN, [8.0, 0.0, 2.0]),
    alphabet("koi8-u", UKRAINIAN, [9.0, 1.0, 3.0]),
    characters("shift_jis", &[letters::JAPANESE], 0x889f..=0x9872, [0.0, 3.0, 1.0]),
    characters("euc-jp", &[letters::JAPANESE], 0xb0a1..=0xcfd3, [8.0, 1.0, 4.0]),
    characters("gb18030", &[letters::CHINESE_SIMPLIFIED], 0xb0a1..=0xd7f9, [0.0, 2.0, 1.0]),
    characters("big5", &[letters::CHINESE_TRADITIONAL], 0xa440..=0xc67e, [1.0, 3.0, 2.0]),
    characters("euc-kr", &[letters::KOREAN], 0xb0a1..=0xc8fe, [1.0, 2.0, 1.0]),
];

const fn alphabet(charset: &'static str, languages: &'static [&'static str], before: [f32; 3]) -> Candidate {
    Candidate { charset, languages, usual: None, before }
}

const fn characters(
    charset: &'static str,
    languages: &'static [&'static str],
    usual: RangeInclusive<u16>,
    before: [f32; 3],
) -> Candidate {
    Candidate { charset, languages, usual: Some(usual), before }
}

pub fn detect<'a>(names: impl Iterator<Item = &'a [u8]>, origin: Origin) -> Charset {
    let mut parts = BTreeSet::new();
    let (mut weighed, mut high, mut long, mut all_utf8) = (0, 0, false, true);
    for name in names.filter(|name| !name.is_ascii()) {
        all_utf8 &= std::str::from_utf8(name).is_ok();
        long |= name.iter().any(|byte| *byte >= 0xe0);
        high += name.iter().filter(|byte| !byte.is_ascii()).count();
        // No charset here has a `/` inside of a character. A folder counts once, however many names begin with it.
        for part in name.split(|byte| *byte == b'/').filter(|part| !part.is_ascii()) {
            if weighed + part.len() <= WEIGHED && parts.insert(part) {
                weighed += part.len();
            }
        }
    }
    if all_utf8 && (long || high == 0 || high >= SURE) { Charset::UTF_8 } else { cheapest(&parts, origin) }
}

fn cheapest(parts: &BTreeSet<&[u8]>, origin: Origin) -> Charset {
    let weigh = |model: &Model| model.before[origin as usize] + parts.iter().map(|part| model.name(part)).sum::<f32>();
    let readings = MODELS.iter().map(|model| (weigh(model), model.charset));
    readings.min_by(|a, b| a.0.total_cmp(&b.0)).map_or(Charset::UTF_8, |(_, charset)| charset)
}

/// One for each language of each candidate, made when they are first needed: a quarter of a megabyte.
static MODELS: LazyLock<Vec<Model>> = LazyLock::new(|| {
    let of = |candidate: &'static Candidate| candidate.languages.iter().map(|letters| Model::new(candidate, letters));
    CANDIDATES.iter().flat_map(of).collect()
});

/// What a candidate spends on names.
struct Model {
    charset: Charset,
    before: [f32; 3],
    bits: HashMap<char, f32>,
}

impl Model {
    fn new(candidate: &Candidate, letters: &str) -> Self {
        let charset = Charset::by_name(candidate.charset).unwrap_or(Charset::UTF_8);
        let mut bits = HashMap::new();
        for code in candidate.usual.iter().cloned().flatten() {
            let c = charset.decode(&code.to_be_bytes()).and_then(|text| text.chars().next());
            bits.extend(c.map(|c| (c, 13.0)));
        }
        // Frequencies fall so, about: from 1/8 to 1/3000 over an alphabet, from 1/64 to 1/2500 over 600 characters.
        let of_rank = |rank: f32| match candidate.usual {
            None => 3.0 + 0.1 * rank + 0.003 * rank * rank,
            Some(_) => 6.0 + (1.0 + rank / 16.0).log2(),
        };
        bits.extend(letters.chars().enumerate().map(|(rank, c)| (c, of_rank(rank as f32))));
        Self { charset, before: candidate.before, bits }
    }

    fn name(&self, raw: &[u8]) -> f32 {
        let Some(text) = self.charset.decode(raw) else {
            return raw.iter().map(|byte| if byte.is_ascii() { UNDECODABLE.0 } else { UNDECODABLE.1 }).sum();
        };
        let (mut bits, mut before, mut letter) = (0.0, ' ', Script::None);
        for c in text.chars() {
            bits += self.character(c) + turn(before, c) + joint(script(before), script(c), letter);
            before = c;
            if !matches!(script(c), Script::None | Script::Sign) {
                letter = script(c);
            }
        }
        bits
    }

    fn character(&self, c: char) -> f32 {
        let listed = self.bits.get(&c).or_else(|| self.bits.get(&c.to_lowercase().next()?));
        listed.copied().unwrap_or_else(|| unlisted(c))
    }
}

/// Bits of a character that is not among the letters of the language.
fn unlisted(c: char) -> f32 {
    match c {
        '\0'..='\x1f' | '\x7f' => 30.0,
        '\x20'..='\x7e' => 4.5,
        '\u{80}'..='\u{9f}' | '\u{e000}'..='\u{f8ff}' => 24.0,
        // Quotes, dashes and the like, which some names do have.
        '«' | '»' | '°' | '§' | '·' | '№' | '×' | '€' | '\u{a0}' | '\u{2010}'..='\u{203a}' => 12.0,
        '\u{a1}'..='\u{bf}' | '\u{2000}'..='\u{2fff}' => 18.0,
        '\u{c0}'..='\u{52f}' if c.is_alphabetic() => 17.0,
        // Armenian, Hebrew, Arabic and Syriac: of the candidates, UTF-8 alone has them.
        '\u{530}'..='\u{7ff}' if c.is_alphabetic() => 8.0,
        // Punctuation and full-width letters of the East; half-width kana.
        '\u{3000}'..='\u{3020}' | '\u{ff01}'..='\u{ff5e}' => 11.0,
        '\u{ff61}'..='\u{ff9f}' => 7.0,
        '\u{3021}'..='\u{9fff}' | '\u{ac00}'..='\u{d7a3}' => 17.0,
        _ => 28.0,
    }
}

/// Bits of capitals where words do not have them.
fn turn(before: char, c: char) -> f32 {
    match c.is_uppercase() {
        false => 0.0,
        true if before.is_lowercase() => 9.0,
        true if before.is_uppercase() => 0.5,
        true => 1.0,
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Script {
    Latin,
    Greek,
    Cyrillic,
    /// Kana, Chinese characters, Hangul.
    Eastern,
    /// Above ASCII, and no letter.
    Sign,
    /// Digits, blanks, dots.
    None,
}

fn script(c: char) -> Script {
    match c {
        'a'..='z' | 'A'..='Z' => Script::Latin,
        '\0'..='\x7f' => Script::None,
        '\u{c0}'..='\u{24f}' if c.is_alphabetic() => Script::Latin,
        '\u{370}'..='\u{3ff}' => Script::Greek,
        '\u{400}'..='\u{52f}' => Script::Cyrillic,
        '\u{3040}'..='\u{9fff}' | '\u{ac00}'..='\u{d7a3}' | '\u{ff66}'..='\u{ff9f}' => Script::Eastern,
        _ => Script::Sign,
    }
}

/// Bits of two characters that stand together, with the script of the last letter before them.
fn joint(before: Script, now: Script, letter: Script) -> f32 {
    match (before, now) {
        (Script::Latin, Script::Sign) | (Script::Sign, Script::Latin) => 4.0,
        (_, Script::None | Script::Sign) => 0.0,
        // A word begins: mostly in the script of the one before it.
        (Script::None | Script::Sign, _) => {
            if letter == Script::None || letter == now {
                0.0
            } else {
                3.0
            }
        }
        _ if before == now => 0.0,
        _ => 10.0,
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples::{SAMPLES, encode};
    use super::*;
    use Origin::{Dos, Unix, Unknown};

    fn named(name: &str) -> Charset {
        Charset::by_name(name).unwrap_or_else(|| panic!("{name} is unknown"))
    }

    fn read(names: &[Vec<u8>], origin: Origin) -> Vec<Vec<u8>> {
        let charset = Charset::detect(names.iter().map(Vec::as_slice), origin);
        names.iter().map(|name| charset.utf8(name).into_owned()).collect()
    }

    /// How many archives of so many names are read rightly, of how many; and the worst of the languages, in percent.
    fn score(size: usize) -> (usize, usize, (usize, String)) {
        let (mut right, mut all, mut worst) = (0, 0, (100, String::new()));
        for sample in SAMPLES {
            let names: Vec<&str> = sample.names.split('|').collect();
            for (charset, origin) in sample.charsets {
                let raw: Vec<_> = names.iter().map(|name| encode(named(charset), name)).collect();
                let is_right = |at: &usize| {
                    let read = read(&raw[*at..*at + size], *origin);
                    read.iter().zip(&names[*at..]).all(|(read, name)| read == name.as_bytes())
                };
                let archives = names.len() + 1 - size;
                let good = (0..archives).filter(is_right).count();
                worst = worst.min((100 * good / archives, format!("{} in {charset}", sample.language)));
                (right, all) = (right + good, all + archives);
            }
        }
        (right, all, worst)
    }

    #[test]
    fn names_of_many_languages_are_read_rightly() {
        // Measured: 752 of 773 and 84 %; 691 of 691; 404 of 404.
        for (size, floor, worst_floor) in [(1, 96, 80), (3, 99, 95), (10, 100, 100)] {
            let (right, all, worst) = score(size);
            let told = format!("{right} of {all} archives of {size} names; {} % of {}", worst.0, worst.1);
            assert!(right * 100 >= floor * all && worst.0 >= worst_floor, "{told}");
        }
    }

    #[test]
    fn short_names_in_utf8_are_no_accident() {
        let names = "é ü ß ñ Ł ů Ж ёж Ω µ № ø.txt Müller.doc café naïve 10×15.jpg Łódź Привет нет.doc \
            Ελλάδα צבע صور ğ.txt 日 本.txt 한 中文.doc “x” x–y ½ 😀.png";
        for name in names.split(' ') {
            for origin in [Dos, Unix, Unknown] {
                let charset = Charset::detect([name.as_bytes()].into_iter(), origin);
                assert_eq!(charset, Charset::UTF_8, "{name} {origin:?}");
            }
        }
    }

    #[test]
    fn an_accident_is_no_utf8() {
        let raw = encode(named("gbk"), "通讯录.xls");
        assert!(std::str::from_utf8(&raw).is_ok());
        assert_eq!(read(&[raw], Dos), ["通讯录.xls".as_bytes()]);
    }

    #[test]
    fn the_script_of_few_letters_is_told_by_their_case_and_company() {
        for (charset, origin, name) in [
            ("cp437", Dos, "café-ü.txt"),
            ("cp866", Unix, "ПРИВЕТ"),
            ("koi8-r", Unix, "ПРИВЕТ"),
            ("windows-1251", Dos, "привет"),
            ("gbk", Dos, "中文/测试.txt"),
            ("big5", Dos, "你好.txt"),
            ("shift_jis", Dos, "表示.txt"),
            ("shift_jis", Unix, "ソース.txt"),
            ("shift_jis", Dos, "ﾊﾞｯｸｱｯﾌﾟ.txt"),
            ("euc-kr", Dos, "한글.txt"),
        ] {
            let raw = encode(named(charset), name);
            assert_eq!(read(&[raw], origin), [name.as_bytes()], "{name} in {charset}");
        }
    }

    #[test]
    fn a_strange_name_among_others_does_not_sway_them() {
        let names = ["写真/京都旅行.jpg", "議事録.doc", "はじめにお読みください.txt"];
        for (charset, origin) in [("utf-8", Dos), ("shift_jis", Dos), ("euc-jp", Unix)] {
            let mut raw: Vec<_> = names.iter().map(|name| encode(named(charset), name)).collect();
            raw.push(b"caf\x82".to_vec());
            let read = read(&raw, origin);
            assert_eq!(read[..3], names.map(|name| name.as_bytes().to_vec()), "{charset}");
            assert_eq!(read[3], b"caf\x82", "its bytes stay");
        }
    }

    #[test]
    fn nothing_to_go_by_is_utf8_and_noise_is_no_panic() {
        for names in [&[][..], &[&b""[..]], &[b"readme.txt", b"a/b/c"]] {
            assert_eq!(Charset::detect(names.iter().copied(), Dos), Charset::UTF_8);
        }
        let mut seed = 1u32;
        let mut byte = || {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (seed >> 24) as u8
        };
        for len in (0..400).chain([WEIGHED, WEIGHED + 1, 4 * WEIGHED]) {
            let noise: Vec<u8> = (0..len).map(|_| byte()).collect();
            for names in [vec![noise.clone()], noise.chunks(7).map(<[u8]>::to_vec).collect()] {
                assert_eq!(read(&names, Unknown).len(), names.len());
            }
        }
    }

    #[test]
    fn every_letter_stands_once_and_every_candidate_is_known() {
        for candidate in CANDIDATES {
            assert!(Charset::by_name(candidate.charset).is_some(), "{}", candidate.charset);
            for letters in candidate.languages {
                let twice: Vec<char> =
                    letters.char_indices().filter(|(at, c)| letters[..*at].contains(*c)).map(|(_, c)| c).collect();
                assert!(twice.is_empty(), "{twice:?} stand twice");
            }
        }
    }
}
