//! What a mount changes about the tree it shows: owners, modes, letter case, read-ahead.

use crate::source::pace;
use crate::tree::{Attr, Kind};

/// How a tree is shown. The default shows it as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Owner of everything, in place of what the tree says.
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    /// Permission bits taken away from everything that is no symbolic link: `0o777` at most.
    pub umask: u32,
    /// Taken away from what is neither directory nor link, besides `umask`.
    pub fmask: u32,
    /// Taken away from directories, besides `umask`.
    pub dmask: u32,
    /// Whether a name that is not found is looked for without regard to case.
    pub ignore_case: bool,
    /// The furthest that a sequential reader is announced ahead, in bytes. 0 announces nothing.
    pub read_ahead: u64,
    /// fsync waits until what goes to a server is there.
    pub fsync_remote: bool,
}

impl Default for Policy {
    fn default() -> Self {
        let read_ahead = pace::LAST_WINDOW;
        Self { uid: None, gid: None, umask: 0, fmask: 0, dmask: 0, ignore_case: false, read_ahead, fsync_remote: false }
    }
}

impl Policy {
    /// The attributes as they are shown.
    pub fn apply(&self, mut attr: Attr) -> Attr {
        attr.uid = self.uid.unwrap_or(attr.uid);
        attr.gid = self.gid.unwrap_or(attr.gid);
        attr.mode &= !self.taken_from(attr.kind) & 0o7777;
        attr
    }

    fn taken_from(&self, kind: Kind) -> u32 {
        match kind {
            // The mode of a link means nothing, and a link that is not 0777 looks broken.
            Kind::Symlink => 0,
            Kind::Directory => self.umask | self.dmask,
            _ => self.umask | self.fmask,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::Time;

    fn attr(kind: Kind, mode: u32) -> Attr {
        Attr { uid: 5, gid: 6, ..Attr::new(kind, mode, Time::default()) }
    }

    #[test]
    fn masks_take_from_files_and_directories_what_they_name() {
        let policy = Policy { umask: 0o002, fmask: 0o111, dmask: 0o050, ..Policy::default() };
        assert_eq!(policy.apply(attr(Kind::File, 0o4777)).mode, 0o4664);
        assert_eq!(policy.apply(attr(Kind::Fifo, 0o777)).mode, 0o664);
        assert_eq!(policy.apply(attr(Kind::Directory, 0o1777)).mode, 0o1725);
        assert_eq!(policy.apply(attr(Kind::Symlink, 0o777)).mode, 0o777);
    }

    #[test]
    fn owners_change_only_where_one_is_given() {
        let policy = Policy { uid: Some(1000), ..Policy::default() };
        let shown = policy.apply(attr(Kind::File, 0o644));
        assert_eq!((shown.uid, shown.gid, shown.mode), (1000, 6, 0o644));
    }
}
