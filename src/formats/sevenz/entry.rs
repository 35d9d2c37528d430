//! What a file of the list is: its path, its kind, its times.

use super::database::{File, Part};
use crate::tree::{Attr, Item, Kind, Time};

/// Attributes of Windows, and the one by which Unix modes are told.
mod attribute {
    pub const READ_ONLY: u32 = 1;
    pub const DIRECTORY: u32 = 0x10;
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
}
