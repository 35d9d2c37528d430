//! What servers of FTP tell of a directory.
//!
//! ```text
//!   MLSD   type=file;size=357049288;modify=20261130001230;UNIX.mode=0644; name         exact
//!   LIST   -rw-r--r--   1 me   users  357049288 Nov 30 00:12 name                      Unix: to the minute, or to the day
//!          11-30-26  12:12AM       <DIR>          name                                  Windows
//! ```

use super::super::Item;
use crate::tree::{Kind, Time};

/// An entry, and where it leads if it is a link and that is told.
pub type Entry = (Item, Option<String>);

/// Entries of a listing for programs. What has a name that is none is left out.
pub fn of_mlsd(text: &str) -> Vec<Entry> {
    lines(text).filter_map(fact_line).collect()
}

/// Entries of a listing for people. Times without a year are the last ones before `now`, at the server's own clock.
pub fn of_list(text: &str, now: Time) -> Vec<Entry> {
    let entries = lines(text).filter_map(|line| unix_line(line, now).or_else(|| windows_line(line)));
    entries.filter(|(item, _)| is_name(&item.name)).collect()
}

fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.split('\n').map(|line| line.strip_suffix('\r').unwrap_or(line)).filter(|line| !line.is_empty())
}

/// A name that leads nowhere else, and can be told in a command.
fn is_name(name: &str) -> bool {
    !matches!(name, "" | "." | "..") && !name.contains(['/', '\r', '\n', '\0'])
}

/// A line of MLSD or MLST.
pub fn fact_line(line: &str) -> Option<Entry> {
    let (facts, name) = if let Some(name) = line.strip_prefix(' ') { ("", name) } else { line.split_once("; ")? };
    if !is_name(name) {
        return None;
    }
    let mut item = Item::new(name, Kind::File);
    let mut target = None;
    for fact in facts.split(';') {
        let Some((fact, value)) = fact.split_once('=') else { continue };
        match fact.to_ascii_lowercase().as_str() {
            "type" => (item.kind, target) = kind(value)?,
            "size" => item.len = value.parse().ok(),
            "modify" => item.modified = time(value),
            // pyftpdlib has a sign of Python in front of it.
            "unix.mode" => {
                item.mode = u32::from_str_radix(value.trim_start_matches("0o"), 8).ok().map(|mode| mode & 0o7777)
            }
            _ => {}
        }
    }
    if item.kind != Kind::File {
        item.len = None;
    }
    Some((item, target))
}

/// Nothing for the directory itself and the one above, and for what is neither file nor directory nor link.
fn kind(value: &str) -> Option<(Kind, Option<String>)> {
    let lower = value.to_ascii_lowercase();
    match lower.as_str() {
        "file" => Some((Kind::File, None)),
        "dir" => Some((Kind::Directory, None)),
        _ if lower.starts_with("os.unix=slink:") => Some((
            Kind::Symlink,
            value.get("os.unix=slink:".len()..).filter(|target| !target.is_empty()).map(str::to_owned),
        )),
        // Where it leads is not told: it is shown as what is behind it, which mostly is a file.
        "os.unix=symlink" | "os.unix=slink" => Some((Kind::File, None)),
        _ => None,
    }
}

/// `20261130001230.5`, in UTC.
pub fn time(text: &str) -> Option<Time> {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    if whole.len() != 14 || !whole.bytes().chain(part.bytes()).all(|b| b.is_ascii_digit()) {
        return None;
    }
    let number = |range: std::ops::Range<usize>| whole.get(range)?.parse::<i64>().ok();
    let (day, clock) =
        (days(number(0..4)?, number(4..6)?, number(6..8)?)?, (number(8..10)?, number(10..12)?, number(12..14)?));
    let secs = seconds(clock.0, clock.1, clock.2)?;
    let nanos = format!("{part:0<9}").get(..9)?.parse().ok()?;
    Some(Time { secs: day * 86_400 + secs, nanos })
}

/// A time as servers take it.
pub fn told(time: Time) -> String {
    time.date().chars().filter(char::is_ascii_digit).collect()
}

fn days(year: i64, month: i64, day: i64) -> Option<i64> {
    let is_one = (1..=9999).contains(&year) && (1..=12).contains(&month) && (1..=31).contains(&day);
    is_one.then(|| Time::days_to(year, month, day))
}

fn seconds(hour: i64, minute: i64, second: i64) -> Option<i64> {
    ((0..24).contains(&hour) && (0..60).contains(&minute) && (0..61).contains(&second))
        .then_some(hour * 3600 + minute * 60 + second)
}

/// The next word, and what is behind it.
fn word(text: &str) -> Option<(&str, &str)> {
    let text = text.trim_start_matches(' ');
    let end = text.find(' ')?;
    Some((&text[..end], &text[end..]))
}

fn unix_line(line: &str, now: Time) -> Option<Entry> {
    const MONTHS: [&str; 12] = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
    let (bits, mut rest) = word(line)?;
    let kind = match bits.bytes().next()? {
        b'-' => Kind::File,
        b'd' => Kind::Directory,
        b'l' => Kind::Symlink,
        _ => return None,
    };
    let mode = mode(bits.get(1..10)?)?;
    // Links, user, group and size, some of which some servers leave out: the size stands before the month.
    let (mut before, mut month) = ("", None);
    for _ in 0..5 {
        let (next, behind) = word(rest)?;
        rest = behind;
        month =
            MONTHS.iter().position(|name| next.eq_ignore_ascii_case(name)).filter(|_| before.parse::<u64>().is_ok());
        if month.is_some() {
            break;
        }
        before = next;
    }
    let month = month? as i64 + 1;
    let (day, behind) = word(rest)?;
    let (when, behind) = word(behind)?;
    let name = behind.strip_prefix(' ')?;
    let day = day.parse().ok()?;
    let modified = match when.split_once(':') {
        Some((hour, minute)) => {
            let clock = seconds(hour.parse().ok()?, minute.parse().ok()?, 0)?;
            let of = |year| Some(days(year, month, day)? * 86_400 + clock);
            let year = now.civil().0;
            // A clock may be ahead, or of another zone.
            if of(year)? > now.secs + 86_400 { of(year - 1)? } else { of(year)? }
        }
        None => days(when.parse().ok()?, month, day)? * 86_400,
    };
    let (name, target) = match name.split_once(" -> ").filter(|_| kind == Kind::Symlink) {
        Some((name, target)) => (name, Some(target.to_owned())),
        None => (name, None),
    };
    let len = before.parse().ok().filter(|_| kind == Kind::File);
    let modified = Some(Time { secs: modified, nanos: 0 });
    Some((Item { len, modified, mode: Some(mode), ..Item::new(name, kind) }, target))
}

/// `rwxr-sr-t`
fn mode(bits: &str) -> Option<u32> {
    let mut mode = 0;
    for (at, bit) in bits.bytes().enumerate() {
        let own = 1 << (8 - at);
        let extra = [0o4000, 0o2000, 0o1000][at / 3];
        match (bit, at % 3) {
            (b'-', _) => {}
            (b'r', 0) | (b'w', 1) | (b'x', 2) => mode |= own,
            (b's' | b't', 2) => mode |= own | extra,
            (b'S' | b'T', 2) => mode |= extra,
            _ => return None,
        }
    }
    Some(mode)
}

fn windows_line(line: &str) -> Option<Entry> {
    let (date, rest) = word(line)?;
    let (clock, rest) = word(rest)?;
    let (size, rest) = word(rest)?;
    let parts: Vec<i64> = date.split('-').map(|part| part.parse().ok()).collect::<Option<_>>()?;
    let [month, day, year] = parts[..] else { return None };
    let year = match year {
        0..70 => year + 2000,
        70..100 => year + 1900,
        year => year,
    };
    let upper = clock.to_ascii_uppercase();
    let (hours, half) = match (upper.strip_suffix("AM"), upper.strip_suffix("PM")) {
        (Some(hours), _) => (hours, Some(0)),
        (_, Some(hours)) => (hours, Some(12)),
        _ => (&upper[..], None),
    };
    let (hour, minute) = hours.split_once(':')?;
    let hour: i64 = hour.parse().ok()?;
    let hour = half.map_or(hour, |half| hour % 12 + half);
    let secs = days(year, month, day)? * 86_400 + seconds(hour, minute.parse().ok()?, 0)?;
    let (kind, len) = match size {
        "<DIR>" => (Kind::Directory, None),
        size => (Kind::File, Some(size.parse().ok()?)),
    };
    // A directory has its name in the column of those of files; names do not begin with spaces there.
    let name = rest.trim_start_matches(' ');
    Some((Item { len, modified: Some(Time { secs, nanos: 0 }), ..Item::new(name, kind) }, None))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Time = Time { secs: 1_796_000_000, nanos: 0 }; // 2026-11-30

    fn shown(entries: &[Entry]) -> Vec<String> {
        let of = |(item, target): &Entry| {
            let date = item.modified.map_or_else(|| "-".to_owned(), Time::date);
            let mode = item.mode.map_or_else(|| "-".to_owned(), |mode| format!("{mode:o}"));
            let target = target.as_ref().map_or_else(String::new, |target| format!(" > {target}"));
            format!("{:?} {:?} {date} {mode} {}{target}", item.kind, item.len, item.name)
        };
        entries.iter().map(of).collect()
    }

    #[test]
    fn facts_are_exact() {
        let text = "type=cdir;modify=20261130001230; .\r\ntype=file;size=5;modify=20261130001230.5;UNIX.mode=0644; a; b \r\n\
            Type=dir;Modify=20200229235959;unix.mode=0o755; d\r\ntype=OS.unix=slink:../x;size=3; l\r\n name only\r\n\
            type=file;size=1; a/b\r\ntype=file;size=1; ..\r\ntype=file;size=1;\r\ngarbage\r\n";
        assert_eq!(
            shown(&of_mlsd(text)),
            [
                "File Some(5) 2026-11-30 00:12:30 644 a; b ",
                "Directory None 2020-02-29 23:59:59 755 d",
                "Symlink None - - l > ../x",
                "File None - - name only",
            ]
        );
    }

    #[test]
    fn lists_of_unix_in_all_their_ways() {
        let text = "total 12\r\ndrwxr-sr-t   2 me users     4096 Nov 30 00:12 dir\r\n\
            -rw-r--r--   1 1000     1000            5 Feb 29  2020  a  b\r\n-rwsr-xr-x   1 me 357049288 Dec 31 23:59 x -> y\r\n\
            lrwxrwxrwx   1 me users 3 Nov 30 2019 l -> ../x\r\ncrw-rw-rw- 1 root root 1, 3 Nov 30 00:12 null\r\n\
            -rw-r--r--   1 me users 1 Nov 30 00:12 ..\r\n-rw-r--r-- 1 me users 1 Foo 30 00:12 x\r\n";
        assert_eq!(
            shown(&of_list(text, NOW)),
            [
                "Directory None 2026-11-30 00:12:00 3755 dir",
                "File Some(5) 2020-02-29 00:00:00 644  a  b",
                "File Some(357049288) 2025-12-31 23:59:00 4755 x -> y",
                "Symlink None 2019-11-30 00:00:00 777 l > ../x",
            ]
        );
    }

    #[test]
    fn lists_of_windows() {
        let text = "11-30-26  12:12AM       <DIR>          My Games\r\n02-29-2020  03:15PM            357049288 a b.iso\r\n\
            13-30-26  12:12AM  1 x\r\n";
        assert_eq!(
            shown(&of_list(text, NOW)),
            ["Directory None 2026-11-30 00:12:00 - My Games", "File Some(357049288) 2020-02-29 15:15:00 - a b.iso"]
        );
    }

    #[test]
    fn a_time_is_told_as_it_is_read() {
        let read = time("20261130001230").unwrap();
        assert_eq!((told(read).as_str(), time("20261130001230.25").unwrap().nanos), ("20261130001230", 250_000_000));
        for bad in ["2026113000123", "20261330001230", "20261130251230", "2026113000123x", "20261130001230.x", ""] {
            assert_eq!(time(bad), None, "{bad}");
        }
    }
}
