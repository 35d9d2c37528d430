//! What a file of the list is: its path, its kind, its times; and how it is told.

use super::database::{File, Part};
use crate::formats::as_text;
use crate::tree::{Attr, Item, Kind, Time};

/// Attributes of Windows, and the one by which Unix modes are told.
mod attribute {
    pub const READ_ONLY: u32 = 1;
    pub const DIRECTORY: u32 = 0x10;
    pub const ARCHIVE: u32 = 0x20;
    pub const UNIX: u32 = 0x8000;
}

/// The content number of files with nothing in them: they are in no block.
pub const EMPTY: u64 = u64::MAX - 1;

/// Seconds from 1601, as Windows counts, to 1970.
const TO_UNIX: i64 = 11_644_473_600;

/// The path, `/` between its names. Units that are no character become what Windows shows.
pub fn path(file: &File) -> Vec<u8> {
    char::decode_utf16(file.name.iter().copied())
        .map(|unit| unit.unwrap_or(char::REPLACEMENT_CHARACTER))
        .collect::<String>()
        .into_bytes()
}

/// The entry as it is shown.
pub fn item(file: &File, part: Option<&Part>, default: Time, (uid, gid): (u32, u32)) -> Item {
    let (kind, mode) = kind_and_mode(file);
    let mut attr = Attr::new(kind, mode, file.written.map_or(default, time));
    (attr.uid, attr.gid) = (uid, gid);
    attr.atime = file.read.map_or(attr.mtime, time);
    let len = part.map_or(0, |part| part.len);
    if matches!(kind, Kind::File | Kind::Symlink) {
        (attr.size, attr.allocated) = (len, len);
    }
    Item::new(attr, file.part.map_or(EMPTY, u64::from))
}

fn kind_and_mode(file: &File) -> (Kind, u32) {
    let attributes = file.attributes.unwrap_or_default();
    let unix = if attributes & attribute::UNIX != 0 { attributes >> 16 } else { 0 };
    let is_dir = file.is_dir || (file.part.is_none() && attributes & attribute::DIRECTORY != 0);
    let kind = match Kind::from_mode(unix) {
        _ if is_dir => Kind::Directory,
        Some(kind) if kind != Kind::Directory => kind,
        _ => Kind::File,
    };
    let writable = if attributes & attribute::READ_ONLY == 0 { 0o200 } else { 0 };
    let mode = match (unix & 0o7777, kind) {
        (0, Kind::Directory) if unix == 0 => 0o555 | writable,
        (0, _) if unix == 0 => 0o444 | writable,
        (mode, _) => mode,
    };
    (kind, mode)
}

/// The time that Windows counts in steps of 100 ns.
pub fn time(ticks: u64) -> Time {
    let secs = (ticks / 10_000_000) as i64 - TO_UNIX;
    Time { secs, nanos: (ticks % 10_000_000) as u32 * 100 }
}

/// The other way round, as far as there are such times: none is before 1601.
pub fn ticks(time: Time) -> u64 {
    let secs = u64::try_from(time.secs.saturating_add(TO_UNIX));
    secs.map_or(0, |secs| secs.saturating_mul(10_000_000).saturating_add(u64::from(time.nanos / 100)))
}

/// The name of a path.
pub fn name(path: &[u8]) -> Vec<u16> {
    as_text(path).encode_utf16().collect()
}

/// The attributes of what is new.
pub fn attributes(kind: Kind, mode: u32) -> u32 {
    let of_windows = if kind == Kind::Directory { attribute::DIRECTORY } else { attribute::ARCHIVE };
    (kind.mode_bits() | mode) << 16 | attribute::UNIX | of_windows
}

/// A file with what was changed of it; what else it has stays.
pub fn adapted(file: &File, before: &Attr, now: &Attr) -> File {
    let mut file = file.clone();
    if now.mode != before.mode {
        let known = file.attributes.unwrap_or(attributes(now.kind, now.mode)) & 0x7fff & !attribute::READ_ONLY;
        let read_only = if now.mode & 0o200 == 0 { attribute::READ_ONLY } else { 0 };
        file.attributes = Some((now.kind.mode_bits() | now.mode) << 16 | attribute::UNIX | known | read_only);
    }
    if now.mtime != before.mtime {
        file.written = Some(ticks(now.mtime));
    }
    // Who has none is shown with the time of its last change.
    if now.atime != before.atime && (file.read.is_some() || now.atime != now.mtime) {
        file.read = Some(ticks(now.atime));
    }
    file
}

/// An entry that no archive has yet.
pub fn new(path: &[u8], attr: &Attr) -> File {
    File {
        name: name(path),
        is_dir: attr.kind == Kind::Directory,
        written: Some(ticks(attr.mtime)),
        read: (attr.atime != attr.mtime).then(|| ticks(attr.atime)),
        attributes: Some(attributes(attr.kind, attr.mode)),
        ..File::default()
    }
}

/// Either all files have attributes, or none: libarchive takes a list with both for damaged. Those that say nothing but what
/// each is change nothing.
pub fn with_attributes(files: &mut [File]) {
    if files.iter().all(|file| file.attributes.is_none()) {
        return;
    }
    for file in files {
        let nothing = if file.is_dir { attribute::DIRECTORY } else { attribute::ARCHIVE };
        file.attributes.get_or_insert(nothing);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_those_of_unix_where_there_are_any() {
        let file = |attributes, part| File { attributes, part, ..File::default() };
        assert_eq!(kind_and_mode(&file(Some(0o100_640 << 16 | 0x8000), Some(0))), (Kind::File, 0o640));
        assert_eq!(kind_and_mode(&file(Some(0o120_777 << 16 | 0x8000), Some(0))), (Kind::Symlink, 0o777));
        assert_eq!(kind_and_mode(&file(Some(1), Some(0))), (Kind::File, 0o444));
        assert_eq!(kind_and_mode(&file(None, None)), (Kind::File, 0o644));
        assert_eq!(kind_and_mode(&file(Some(0x10), None)), (Kind::Directory, 0o755));
        assert_eq!(time(116_444_736_000_000_000 + 15), Time { secs: 0, nanos: 1500 });
    }

    #[test]
    fn attributes_that_nobody_gave_show_the_same() {
        let mut files = vec![File { is_dir: true, ..File::default() }, File { part: Some(0), ..File::default() }];
        let shown: Vec<_> = files.iter().map(kind_and_mode).collect();
        with_attributes(&mut files);
        assert!(files.iter().all(|file| file.attributes.is_none()));
        files.push(File { attributes: Some(1), ..File::default() });
        with_attributes(&mut files);
        assert!(files.iter().all(|file| file.attributes.is_some()));
        assert_eq!(files[..2].iter().map(kind_and_mode).collect::<Vec<_>>(), shown);
        assert_eq!(files[2].attributes, Some(1));
    }

    #[test]
    fn times_are_told_as_they_are_read() {
        for secs in [-TO_UNIX, -1, 0, 1_700_000_000, 400_000_000_000] {
            let told = Time { secs, nanos: 123_456_700 };
            assert_eq!(time(ticks(told)), told);
        }
        assert_eq!(ticks(Time { secs: i64::MIN, nanos: 5 }), 0);
    }

    #[test]
    fn what_was_not_changed_of_a_file_stays() {
        let file =
            File { created: Some(5), written: Some(7), attributes: Some(0x2021), part: Some(3), ..File::default() };
        let before = Attr::new(Kind::File, 0o444, time(7));
        assert_eq!(adapted(&file, &before, &before), file);
        let now = Attr { mode: 0o640, ..before.clone() };
        let told = adapted(&file, &before, &now);
        assert_eq!((told.attributes, told.created, told.written), (Some(0o100_640 << 16 | 0xa020), Some(5), Some(7)));
        assert_eq!(kind_and_mode(&told), (Kind::File, 0o640));
        let now = Attr { mtime: time(9), atime: time(8), ..before.clone() };
        let told = adapted(&file, &before, &now);
        assert_eq!((told.attributes, told.read, told.written), (Some(0x2021), Some(8), Some(9)));
    }
}
