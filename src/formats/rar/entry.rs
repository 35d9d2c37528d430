//! What an entry is: its kind, its mode, its owner, its times.

use super::headers::{File, Host, Link, Member, UNKNOWN};
use super::names::slashed;
use crate::tree::{Attr, Item, Kind, Owner, Time};

/// Attributes of Windows.
const READ_ONLY: u64 = 1;

/// The content number of what has none.
pub const EMPTY: u64 = u64::MAX - 1;

/// The entry as it is shown.
pub fn item(file: &File, member: &Member, default: Time, (uid, gid): (u32, u32)) -> Item {
    let (kind, mode) = kind_and_mode(file);
    let mut attr = Attr::new(kind, mode, file.modified.unwrap_or(default));
    attr.atime = file.read.unwrap_or(attr.mtime);
    let id = |id: Option<u64>, default| id.and_then(|id| u32::try_from(id).ok()).unwrap_or(default);
    (attr.uid, attr.gid) = (id(file.owner.uid, uid), id(file.owner.gid, gid));
    let target = target(file);
    let len = match &target {
        Some(target) => target.len() as u64,
        None if member.size == UNKNOWN => 0,
        None => member.size,
    };
    if matches!(kind, Kind::File | Kind::Symlink) {
        (attr.size, attr.allocated) = (len, len);
    }
    let text = |name: &Option<Vec<u8>>| name.as_ref().and_then(|name| String::from_utf8(name.clone()).ok());
    let owner = Owner { user: text(&file.owner.user), group: text(&file.owner.group) };
    let content = if kind == Kind::Directory { EMPTY } else { file.member.into() };
    Item { owner, target, ..Item::new(attr, content) }
}

/// The target of a symbolic link, where the headers have it.
fn target(file: &File) -> Option<Vec<u8>> {
    let Some(Link::Symbolic(target, has_backslashes)) = &file.link else { return None };
    let mut target = target.clone();
    if *has_backslashes {
        slashed(&mut target);
    }
    Some(target)
}

fn kind_and_mode(file: &File) -> (Kind, u32) {
    let unix = match file.host {
        Host::Unix => (file.attributes & 0xffff) as u32,
        _ => 0,
    };
    let kind = match (Kind::from_mode(unix), &file.link) {
        (_, Some(Link::Symbolic(..))) => Kind::Symlink,
        _ if file.is_dir => Kind::Directory,
        (Some(Kind::Symlink), None) => Kind::Symlink,
        (Some(kind), None) if kind != Kind::File => kind,
        _ => Kind::File,
    };
    let is_writable = file.host != Host::Windows || file.attributes & READ_ONLY == 0;
    let writable = if is_writable { 0o200 } else { 0 };
    let mode = match (unix & 0o7777, kind) {
        (_, Kind::Symlink) => 0o777,
        (0, Kind::Directory) if unix == 0 => 0o555 | writable,
        (0, _) if unix == 0 => 0o444 | writable,
        (mode, _) => mode,
    };
    (kind, mode)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_those_of_unix_where_there_are_any() {
        let file = |host, attributes, is_dir| File { host, attributes, is_dir, ..File::default() };
        assert_eq!(kind_and_mode(&file(Host::Unix, 0o100_640, false)), (Kind::File, 0o640));
        assert_eq!(kind_and_mode(&file(Host::Unix, 0o120_777, false)), (Kind::Symlink, 0o777));
        assert_eq!(kind_and_mode(&file(Host::Unix, 0o40_700, true)), (Kind::Directory, 0o700));
        assert_eq!(kind_and_mode(&file(Host::Windows, 0x21, false)), (Kind::File, 0o444));
        assert_eq!(kind_and_mode(&file(Host::Windows, 0x10, true)), (Kind::Directory, 0o755));
        assert_eq!(kind_and_mode(&file(Host::Other, 0xffff, false)), (Kind::File, 0o644));
    }
}
