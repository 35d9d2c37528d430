//! What people read: errors, notices, sizes and times in words, names that cannot play tricks on a terminal.

use crate::error::Error;
use crate::tree::Time;
use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};
use std::time::Duration;

/// `stmount: WHAT`, and below it what to try.
pub fn error(e: &Error) {
    problem(&e.to_string(), e.advice());
}

/// An error in its parts, as a daemon hands it to its parent.
pub fn problem(what: &str, hint: Option<&str>) {
    let err = io::stderr();
    let (on, off) = if colours(&err) { ("\x1b[1;31m", "\x1b[0m") } else { ("", "") };
    let mut text = format!("{on}stmount:{off} {}\n", for_terminal(what, err.is_terminal()));
    if let Some(hint) = hint {
        let _ = writeln!(text, "  try: {}", for_terminal(hint, err.is_terminal()));
    }
    let _ = err.lock().write_all(text.as_bytes());
}

/// What a person is to be told of an archive that was opened.
pub fn notes(source: &std::path::Path, notes: &[String]) {
    notes.iter().for_each(|note| log::warn!("{}: {note}", source.display()));
}

/// A line that is neither an error nor the result: it goes to stderr.
pub fn notice(text: &str) {
    let err = io::stderr();
    let _ = writeln!(err.lock(), "{}", for_terminal(text, err.is_terminal()));
}

fn colours(stream: &impl IsTerminal) -> bool {
    stream.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty())
}

/// On a terminal, control characters are shown as escapes; a pipe gets the text as it is.
pub fn for_terminal(text: &str, terminal: bool) -> Cow<'_, str> {
    let harmful = |c: char| c.is_control() && c != '\n';
    if !terminal || !text.chars().any(harmful) {
        return Cow::Borrowed(text);
    }
    let escape = |c: char| if harmful(c) { c.escape_default().to_string() } else { c.to_string() };
    Cow::Owned(text.chars().map(escape).collect())
}

/// The bytes of a name as one line: unchanged into a pipe, escaped on a terminal.
pub fn name(bytes: &[u8], terminal: bool) -> Cow<'_, [u8]> {
    let harmful = |b: &u8| *b < 0x20 || *b == 0x7f;
    if !terminal || (std::str::from_utf8(bytes).is_ok_and(|t| !t.chars().any(char::is_control))) {
        return Cow::Borrowed(bytes);
    }
    match std::str::from_utf8(bytes) {
        Ok(text) => Cow::Owned(text.chars().flat_map(escaped_char).collect::<String>().into_bytes()),
        Err(_) => Cow::Owned(
            bytes
                .iter()
                .map(|b| if harmful(b) || *b >= 0x80 { format!("\\x{b:02x}") } else { char::from(*b).to_string() })
                .collect::<String>()
                .into_bytes(),
        ),
    }
}

fn escaped_char(c: char) -> Vec<char> {
    if c.is_control() { c.escape_default().collect() } else { vec![c] }
}

/// `912 B`, `41.2 GiB`: three digits at most before the unit.
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1000 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if value < 99.95 { format!("{value:.1} {}", UNITS[unit]) } else { format!("{value:.0} {}", UNITS[unit]) }
}

/// `18 312`.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(' ');
        }
        out.push(digit);
    }
    out
}

/// `18 312 files`, `1 file`.
pub fn counted(number: u64, one: &str, many: &str) -> String {
    format!("{} {}", count(number), if number == 1 { one } else { many })
}

/// `0.02 s`, `1 min 2 s`, `2 h 5 min`.
pub fn time(took: Duration) -> String {
    let secs = took.as_secs();
    match secs {
        0..=9 => format!("{:.2} s", took.as_secs_f64()),
        10..=59 => format!("{:.1} s", took.as_secs_f64()),
        60..=3599 => format!("{} min {} s", secs / 60, secs % 60),
        _ => format!("{} h {} min", secs / 3600, secs / 60 % 60),
    }
}

/// `43 %`; of nothing it is 100.
pub fn percent(part: u64, whole: u64) -> u64 {
    if whole == 0 { 100 } else { (u128::from(part) * 100 / u128::from(whole)) as u64 }
}

/// `2026-11-23 08:20:08`, in UTC.
pub fn date(secs: i64) -> String {
    Time { secs, nanos: 0 }.date()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_three_digits() {
        let cases = [(0, "0 B"), (999, "999 B"), (1000, "1.0 KiB"), (1536, "1.5 KiB"), (1023 * 1024, "1.0 MiB")];
        for (bytes, text) in cases {
            assert_eq!(size(bytes), text);
        }
        assert_eq!(size(u64::MAX), "16.0 EiB");
        assert_eq!(size(300 << 20), "300 MiB");
    }

    #[test]
    fn numbers_are_grouped_and_times_readable() {
        assert_eq!((count(7), count(1000), count(18312)), ("7".into(), "1 000".into(), "18 312".into()));
        assert_eq!(counted(1, "file", "files"), "1 file");
        assert_eq!(time(Duration::from_millis(20)), "0.02 s");
        assert_eq!(time(Duration::from_secs(62)), "1 min 2 s");
        assert_eq!(time(Duration::from_secs(7500)), "2 h 5 min");
        assert_eq!((percent(43, 100), percent(0, 0)), (43, 100));
    }

    #[test]
    fn a_name_cannot_play_tricks_on_a_terminal() {
        assert_eq!(&*name(b"a\x1b[31m", true), b"a\\u{1b}[31m");
        assert_eq!(&*name(b"a\x1b[31m", false), b"a\x1b[31m");
        assert_eq!(&*name(b"\xff\n", true), b"\\xff\\x0a");
        assert_eq!(&*name("Größe".as_bytes(), true), "Größe".as_bytes());
        assert_eq!(for_terminal("a\rb\n", true), "a\\rb\n");
    }
}
