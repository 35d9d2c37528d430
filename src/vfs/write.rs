//! What programs do to a tree: names, attributes, contents.
//!
//! Each of these is done at once and as a whole, for whoever looks: what is needed of the tree is fetched first, then the
//! change is made under one lock. Who may do what was asked of the kernel (`default_permissions`).

use super::acl;
use super::commit::Committer;
use super::handles::{Open, STATELESS};
use super::live::{Copied, Live, LiveFile};
use super::{ROOT, Stat, Vfs};
use crate::error::{Error, Kind as ErrorKind, Result};
use crate::formats::{Give, Holds, Unwatched};
use crate::source::ReadAt;
use crate::tree::{Attr, Draft, Inode, Kind, Name, NameBuf, Node, Time, Tree, Xattr};
use std::ops::{ControlFlow, Range};
use std::sync::Arc;

/// Longest name that may be made, in bytes: what Linux allows, and everybody else.
pub(super) const NAME_MAX: usize = 255;
/// Longest target of a symbolic link.
const TARGET_MAX: usize = 4095;
/// Largest value of an extended attribute, and all names and values of one file together.
const XATTR_MAX: usize = 64 << 10;
const XATTRS_MAX: usize = 1 << 20;
/// Largest file: what fits a signed offset and the limits of every format.
const SIZE_MAX: u64 = 1 << 60;
/// The set-group-ID bit.
const SETGID: u32 = 0o2000;

/// Who makes something.
#[derive(Clone, Copy, Debug)]
pub struct Maker {
    pub uid: u32,
    pub gid: u32,
    pub umask: u32,
}

/// What to make.
#[derive(Clone, Debug)]
pub enum New<'a> {
    File,
    Directory,
    Symlink(&'a [u8]),
    /// A fifo or a socket, or a device with its number.
    Special(Kind, u64),
}

/// Attributes to set; what is `None` stays.
#[derive(Clone, Copy, Debug, Default)]
pub struct SetAttr {
    pub mode: Option<u32>,
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    pub size: Option<u64>,
    pub atime: Option<Time>,
    pub mtime: Option<Time>,
}

/// How a rename treats what has the new name already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rename {
    Replace,
    NoReplace,
    Exchange,
}

/// What fallocate(2) is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allocate {
    /// Room, and the size if it is smaller.
    Extend,
    /// Room behind the size.
    KeepSize,
    /// A hole.
    Punch,
    /// Zeros; with the size, or without.
    Zero { keep_size: bool },
}

/// How setxattr(2) treats a name that is there, or is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetXattr {
    Any,
    Create,
    Replace,
}

fn error(kind: ErrorKind, what: &str) -> Error {
    Error::new(kind, what)
}

fn checked(name: &[u8]) -> Result<NameBuf> {
    if name.len() > NAME_MAX {
        return Err(error(ErrorKind::NameTooLong, "the name is longer than 255 bytes"));
    }
    Ok(Name::new(name)?.to_owned())
}

impl Vfs {
    /// The tree that takes changes.
    fn live(&self) -> Result<&Arc<Live>> {
        self.live.as_ref().ok_or_else(|| error(ErrorKind::ReadOnly, "the mount is read-only"))
    }

    pub fn is_writable(&self) -> bool {
        self.live.is_some()
    }

    /// Whether a file or a directory can be changed.
    pub fn takes_changes(&self, ino: u64) -> bool {
        self.is_writable() && self.own(ino).is_ok()
    }

    /// A node that can be changed.
    fn own(&self, ino: u64) -> Result<Node> {
        let node = self.numbers.node(ino);
        if self.is_earlier(node) {
            Err(error(ErrorKind::ReadOnly, "an earlier state stays as it is"))
        } else {
            Ok(node)
        }
    }

    /// A directory that can be changed, and a name in it.
    fn name(&self, dir: u64, name: &[u8]) -> Result<(Node, NameBuf)> {
        let (dir, name) = (self.own(dir)?, checked(name)?);
        if let Some(live) = &self.live
            && !live.writer.holds().any_names
            && std::str::from_utf8(name.as_name().bytes()).is_err()
        {
            return Err(no_room(ErrorKind::Invalid, live.writer.holds(), "a name that is not UTF-8"));
        }
        match &self.earlier {
            Some(earlier) if earlier.hides(dir, name.as_name().bytes())? => {
                Err(error(ErrorKind::ReadOnly, "the name stands for the earlier states"))
            }
            _ => Ok((dir, name)),
        }
    }

    /// Makes something under a name that is free.
    pub fn make(&self, dir: u64, name: &[u8], mode: u32, maker: Maker, new: &New<'_>) -> Result<Stat> {
        let live = self.live()?;
        let (dir, name) = self.name(dir, name)?;
        let _names_stay = live.naming();
        let parent = directory(live, dir)?;
        let kind = match new {
            New::Special(kind, _) => *kind,
            New::Symlink(_) => Kind::Symlink,
            _ => Kind::File,
        };
        if !live.writer.holds().has_place_for(kind) {
            return Err(no_room(ErrorKind::NotPermitted, live.writer.holds(), "it"));
        }
        if live.find(dir, name.as_name())?.is_some() {
            return Err(error(ErrorKind::Exists, "the name exists"));
        }
        let mut inode = self.inode_of(live, dir, &parent, mode, maker, new)?;
        let held = inode.target.as_ref().map_or(0, Vec::len) as u64;
        let _room = live.reserve(held)?;
        let (node, kind) = (live.new_node(), inode.attr.kind);
        let attr = inode.attr.clone();
        live.edit(&[dir], |state| {
            live.add_dirty(held);
            let parent = state.touch(dir)?;
            count(parent, 0, u32::from(kind == Kind::Directory));
            inode.attr.nlink = if kind == Kind::Directory { 2 } else { 1 };
            state.insert(node, inode);
            state.set_name(dir, name, Some((node, kind)));
            Ok(())
        })?;
        let nlink = if kind == Kind::Directory { 2 } else { 1 };
        Ok(Stat { ino: self.numbers.ino(node), attr: self.policy.apply(Attr { nlink, ..attr }) })
    }

    fn inode_of(&self, live: &Live, dir: Node, parent: &Attr, mode: u32, maker: Maker, new: &New<'_>) -> Result<Inode> {
        let (kind, rdev, target) = match new {
            New::File => (Kind::File, 0, None),
            New::Directory => (Kind::Directory, 0, None),
            New::Special(kind, rdev) => (*kind, *rdev, None),
            New::Symlink(target) if target.is_empty() || target.len() > TARGET_MAX || target.contains(&0) => {
                return Err(error(ErrorKind::NameTooLong, "the target of a link has 1 to 4095 bytes, and no NUL"));
            }
            New::Symlink(target) => (Kind::Symlink, 0, Some(target.to_vec())),
        };
        let inherits = parent.mode & SETGID != 0;
        let (uid, gid) = (maker.uid, if inherits { parent.gid } else { maker.gid });
        let holds = live.writer.holds();
        // Where nobody is told apart, all belongs to whom the archive belongs.
        let (uid, gid) = if holds.owners { (uid, gid) } else { (parent.uid, parent.gid) };
        let size = target.as_ref().map_or(0, |target| target.len() as u64);
        let attr = Attr { uid, gid, size, rdev, ..Attr::new(kind, mode & 0o7777, Time::now().rounded(holds.time)) };
        let mut inode = Inode::new(attr, true);
        inode.target = target;
        if kind == Kind::Symlink {
            inode.attr.mode = 0o777;
            return Ok(inode);
        }
        let xattrs = live.xattrs(dir)?;
        let inherited = acl::inherit(&xattrs, &mut inode.attr.mode, maker.umask, kind == Kind::Directory);
        inode.xattrs = (!inherited.is_empty()).then_some(inherited);
        if inherits && kind == Kind::Directory {
            inode.attr.mode |= SETGID;
        }
        Ok(inode)
    }

    /// Opens a file for reading and writing.
    pub(super) fn open_live(&self, ino: u64) -> Result<u64> {
        let live = self.live()?;
        let node = self.own(ino)?;
        live.note_open(node)?;
        let file = LiveFile::new(live.clone(), node);
        match super::handles::OpenFile::new(Arc::new(file), None) {
            Ok(file) => Ok(self.handles.insert(Open::Living(node, file))),
            Err(e) => {
                live.note_close(node)?;
                Err(e)
            }
        }
    }

    /// Takes a name away that is no directory.
    pub fn unlink(&self, dir: u64, name: &[u8]) -> Result<()> {
        let live = self.live()?;
        let (dir, name) = self.name(dir, name)?;
        let _names_stay = live.naming();
        let (node, attr) = named(live, dir, name.as_name())?;
        if attr.kind == Kind::Directory {
            return Err(error(ErrorKind::IsADirectory, "it is a directory"));
        }
        let had = live.had(dir, name.as_name())?;
        live.edit(&[dir, node], |state| {
            state.touch(dir)?;
            state.take_name(dir, name, had);
            drop_link(live, state, node)
        })
    }

    /// Takes an empty directory away.
    pub fn rmdir(&self, dir: u64, name: &[u8]) -> Result<()> {
        let live = self.live()?;
        let (dir, name) = self.name(dir, name)?;
        let _names_stay = live.naming();
        let (node, attr) = named(live, dir, name.as_name())?;
        if attr.kind != Kind::Directory {
            return Err(error(ErrorKind::NotADirectory, "it is no directory"));
        }
        empty(live, node)?;
        let had = live.had(dir, name.as_name())?;
        live.edit(&[dir, node], |state| {
            let parent = state.touch(dir)?;
            count(parent, 1, 0);
            state.take_name(dir, name, had);
            state.remove(node);
            Ok(())
        })
    }

    /// Gives a file one more name.
    pub fn link(&self, ino: u64, dir: u64, name: &[u8]) -> Result<Stat> {
        let live = self.live()?;
        let (node, (dir, name)) = (self.own(ino)?, self.name(dir, name)?);
        if !live.writer.holds().hard_links {
            return Err(no_room(ErrorKind::NotPermitted, live.writer.holds(), "hard links"));
        }
        let _names_stay = live.naming();
        directory(live, dir)?;
        let attr = live.attr(node)?;
        if attr.kind == Kind::Directory {
            return Err(error(ErrorKind::NotPermitted, "a directory has one name"));
        }
        if live.find(dir, name.as_name())?.is_some() {
            return Err(error(ErrorKind::Exists, "the name exists"));
        }
        let _room = live.reserve(0)?;
        live.edit(&[dir, node], |state| {
            let inode = state.inode(node)?;
            inode.attr.nlink += 1;
            inode.attr.ctime = Time::now();
            live.note_name(node);
            state.touch(dir)?;
            state.set_name(dir, name, Some((node, attr.kind)));
            Ok(())
        })?;
        self.stat(node)
    }

    /// Renames; see rename(2) for what may replace what.
    pub fn rename(&self, dir: u64, name: &[u8], new_dir: u64, new_name: &[u8], how: Rename) -> Result<()> {
        let live = self.live()?;
        let ((from, name), (to, new_name)) = (self.name(dir, name)?, self.name(new_dir, new_name)?);
        let _names_stay = live.naming();
        let (node, attr) = named(live, from, name.as_name())?;
        directory(live, to)?;
        let there = match live.find(to, new_name.as_name())? {
            Some(there) => Some((there, live.attr(there)?)),
            None => None,
        };
        match (&there, how) {
            (None, Rename::Exchange) => return Err(error(ErrorKind::NotFound, "there is nothing to exchange it with")),
            (Some(_), Rename::NoReplace) => return Err(error(ErrorKind::Exists, "the new name exists")),
            (Some((there, _)), _) if *there == node => return Ok(()),
            (Some((there, over)), Rename::Replace) => replaceable(live, &attr, *there, over)?,
            _ => {}
        }
        let _room = live.reserve(0)?;
        if let (Some((other, over)), Rename::Exchange) = (&there, how) {
            return exchange(live, (from, name, node, &attr), (to, new_name, *other, over));
        }
        let had = live.had(from, name.as_name())?;
        let mut nodes = vec![from, to, node];
        nodes.extend(there.as_ref().map(|(there, _)| *there));
        live.edit(&nodes, |state| {
            let is_dir = attr.kind == Kind::Directory;
            let old = state.touch(from)?;
            count(old, u32::from(is_dir), 0);
            let new = state.touch(to)?;
            count(new, 0, u32::from(is_dir));
            if let Some((there, over)) = &there {
                if over.kind == Kind::Directory {
                    count(&mut state.inode(to)?.attr, 1, 0);
                    state.remove(*there);
                } else {
                    drop_link(live, state, *there)?;
                }
            }
            state.inode(node)?.attr.ctime = Time::now();
            state.take_name(from, name, had);
            state.set_name(to, new_name, Some((node, attr.kind)));
            Ok(())
        })
    }

    /// Sets attributes.
    pub fn setattr(&self, ino: u64, set: &SetAttr) -> Result<Stat> {
        let live = self.live()?;
        let node = self.own(ino)?;
        if let Some(size) = set.size {
            self.resize(live, node, size)?;
        }
        let xattrs = if set.mode.is_some() { acl::after_chmod(live.xattrs(node)?, set.mode) } else { None };
        let times = (set.atime, set.mtime);
        let holds = live.writer.holds();
        if !holds.root
            && ino == ROOT
            && set.mode.is_some_and(|mode| live.attr(node).is_ok_and(|attr| attr.mode != mode & 0o7777))
        {
            return Err(no_room(ErrorKind::NotPermitted, holds, "the mode of its root"));
        }
        if !holds.owners && (set.uid.is_some() || set.gid.is_some()) {
            let attr = live.attr(node)?;
            if set.uid.is_some_and(|uid| uid != attr.uid) || set.gid.is_some_and(|gid| gid != attr.gid) {
                return Err(no_room(ErrorKind::NotPermitted, holds, "owners"));
            }
        }
        if (set.mode, set.uid, set.gid) != (None, None, None) || times != (None, None) {
            live.edit(&[node], |state| {
                let inode = state.inode(node)?;
                let attr = &mut inode.attr;
                attr.mode = set.mode.map_or(attr.mode, |mode| mode & 0o7777);
                attr.uid = set.uid.unwrap_or(attr.uid);
                attr.gid = set.gid.unwrap_or(attr.gid);
                attr.atime = set.atime.map_or(attr.atime, |time| time.rounded(holds.time));
                attr.mtime = set.mtime.map_or(attr.mtime, |time| time.rounded(holds.time));
                attr.ctime = Time::now();
                inode.xattrs = xattrs.or(inode.xattrs.take());
                Ok(())
            })?;
        }
        self.stat(node)
    }

    fn resize(&self, live: &Live, node: Node, size: u64) -> Result<()> {
        if size > SIZE_MAX {
            return Err(error(ErrorKind::TooLarge, "a file has at most 2^60 bytes"));
        }
        file(live, node)?;
        live.edit(&[node], |state| {
            state.draft(node)?.set_size(size);
            state.inode(node)?.attr.size = size;
            state.touch(node)?;
            Ok(())
        })
    }

    /// Writes into a file. Returns when a commit is certain to find room for it.
    pub fn write(&self, ino: u64, at: u64, bytes: Vec<u8>) -> Result<()> {
        let live = self.live()?;
        let node = self.own(ino)?;
        let len = bytes.len() as u64;
        if at.checked_add(len).is_none_or(|end| end > SIZE_MAX) {
            return Err(error(ErrorKind::TooLarge, "a file has at most 2^60 bytes"));
        }
        if len == 0 {
            return Ok(());
        }
        self.make_room()?;
        let _room = live.reserve(len)?;
        live.edit(&[node], |state| {
            live.add_dirty(len);
            state.redraft(node, |draft| draft.write(at, bytes))
        })
    }

    pub fn allocate(&self, ino: u64, range: Range<u64>, how: Allocate) -> Result<()> {
        let live = self.live()?;
        let node = self.own(ino)?;
        if range.end > SIZE_MAX || range.end <= range.start {
            return Err(error(ErrorKind::TooLarge, "a file has at most 2^60 bytes"));
        }
        file(&**live, node)?;
        if matches!(how, Allocate::Extend | Allocate::KeepSize) {
            // That there is room now is all that can be told: what is written may need less, or more.
            drop(live.reserve(range.end - range.start)?);
        }
        let work = |draft: &mut Draft| {
            if matches!(how, Allocate::Punch | Allocate::Zero { .. }) {
                draft.punch(range.clone());
            }
            if matches!(how, Allocate::Extend | Allocate::Zero { keep_size: false }) && range.end > draft.size() {
                draft.set_size(range.end);
            }
        };
        live.edit(&[node], |state| state.redraft(node, work))
    }

    /// Makes a stretch of a file read as one of another file, or of the same; returns its length.
    pub fn copy(&self, from: u64, from_at: u64, to: u64, to_at: u64, len: u64) -> Result<u64> {
        let live = self.live()?;
        let (from, to) = (self.numbers.node(from), self.own(to)?);
        let len = len.min(file(&*self.tree, from)?.size.saturating_sub(from_at));
        if to_at.checked_add(len).is_none_or(|end| end > SIZE_MAX) {
            return Err(error(ErrorKind::TooLarge, "a file has at most 2^60 bytes"));
        }
        file(&**live, to)?;
        if len == 0 {
            return Ok(0);
        }
        self.make_room()?;
        let mut copies = Vec::new();
        let mut copy = |at: u64, copied| {
            copies.push((at - from_at + to_at, copied));
            Ok(())
        };
        match self.is_earlier(from) {
            true => copy_earlier(self.tree.open(from)?, from_at..from_at + len, &mut copy)?,
            false => LiveFile::new(live.clone(), from).copy_to(from_at..from_at + len, &mut copy)?,
        }
        let held = copies.iter().map(|(_, c)| if let Copied::Bytes(bytes) = c { bytes.len() as u64 } else { 0 }).sum();
        let _room = live.reserve(held)?;
        let work = |draft: &mut Draft| {
            for (at, copied) in copies {
                match copied {
                    Copied::Bytes(bytes) => draft.write(at, bytes),
                    Copied::Shared(source, from, len) => draft.copy(at, len, source, from),
                    Copied::Hole(len) => {
                        if at + len > draft.size() {
                            draft.set_size(at + len);
                        }
                        draft.punch(at..at + len);
                    }
                }
            }
        };
        live.edit(&[to], |state| {
            live.add_dirty(held);
            state.redraft(to, work)
        })?;
        Ok(len)
    }

    pub fn setxattr(&self, ino: u64, name: &[u8], value: &[u8], how: SetXattr) -> Result<()> {
        let live = self.live()?;
        let node = self.own(ino)?;
        if let (ROOT, super::SETTLE) = (ino, name) {
            return self.settle();
        }
        if let (ROOT, super::SNAPSHOT | super::FORGET) = (ino, name) {
            let state =
                std::str::from_utf8(value).map_err(|_| error(ErrorKind::Invalid, "a name of a state is text"))?;
            live.sync()?;
            return live.writer.name_state(state, name == super::SNAPSHOT);
        }
        if name.is_empty() || name.len() > NAME_MAX || value.len() > XATTR_MAX {
            return Err(error(ErrorKind::TooLarge, "an attribute has a name of 1 to 255 bytes and at most 64 KiB"));
        }
        let _one_at_a_time = live.naming();
        let mut xattrs = live.xattrs(node)?;
        let place = xattrs.iter().position(|(known, _)| known == name);
        match (place, how) {
            (Some(_), SetXattr::Create) => return Err(error(ErrorKind::Exists, "the attribute exists")),
            (None, SetXattr::Replace) => return Err(error(ErrorKind::NoAttribute, "there is no such attribute")),
            _ => {}
        }
        let mode = acl::mode_of(name, value)?;
        let new = (name.to_vec(), value.to_vec());
        match place {
            Some(place) => xattrs[place] = new,
            None => xattrs.push(new),
        }
        acl::tidy(&mut xattrs, name, mode);
        set_xattrs(live, node, xattrs, mode)
    }

    pub fn removexattr(&self, ino: u64, name: &[u8]) -> Result<()> {
        let live = self.live()?;
        let node = self.own(ino)?;
        let _one_at_a_time = live.naming();
        let mut xattrs = live.xattrs(node)?;
        let place = xattrs.iter().position(|(known, _)| known == name);
        let place = place.ok_or_else(|| error(ErrorKind::NoAttribute, "there is no such attribute"))?;
        xattrs.remove(place);
        set_xattrs(live, node, xattrs, None)
    }

    /// Makes everything durable that was done before: here, or where it goes in the end, as the policy says.
    ///
    /// # Errors
    /// `NotUploaded` when it is durable here and not there yet.
    pub fn sync(&self) -> Result<()> {
        match &self.live {
            Some(live) if self.policy.fsync_remote => live.flush(&Unwatched),
            Some(live) => live.sync(),
            None => Ok(()),
        }
    }

    /// Brings into the archive what is in its journal.
    pub fn settle(&self) -> Result<()> {
        let Some(live) = &self.live else { return Ok(()) };
        // What has gone over a link is read from there by the settled tree.
        live.flush(&Unwatched)?;
        live.settle(&Unwatched)?;
        live.protect(&Unwatched);
        Ok(())
    }

    /// Whether something is to be done when this inode is forgotten.
    pub fn is_nameless(&self, ino: u64) -> bool {
        self.live.as_ref().is_some_and(|live| live.is_nameless(self.numbers.node(ino)))
    }

    /// Nobody knows this inode any more, but for those who have it open.
    pub fn forget(&self, ino: u64) {
        if let Some(live) = &self.live {
            live.forget(self.numbers.node(ino)).unwrap_or_else(|e| log::warn!("the inode {ino} stays for now: {e}"));
        }
    }

    /// Nobody knows any inode any more.
    pub fn forget_all(&self) {
        if let Some(live) = &self.live {
            live.forget_all().unwrap_or_else(|e| log::warn!("files without a name stay for now: {e}"));
        }
    }

    /// Gives space of the container back that nothing needs any more, when it is worth it.
    pub fn upkeep(&self) {
        if let Some(live) = &self.live {
            live.upkeep(Give::Worthwhile);
        }
    }

    fn make_room(&self) -> Result<()> {
        self.committer.as_ref().map_or(Ok(()), Committer::make_room)
    }

    pub(super) fn release_live(&self, handle: u64) {
        if handle == STATELESS {
            return;
        }
        let open = self.handles.get(handle);
        self.handles.remove(handle);
        if let (Ok(open), Some(live)) = (open, &self.live)
            && let Open::Living(node, _) = &*open
            && let Err(e) = live.note_close(*node)
        {
            log::warn!("{}: {e}", self.describe(self.numbers.ino(*node)));
        }
    }
}

fn set_xattrs(live: &Live, node: Node, xattrs: Vec<Xattr>, mode: Option<u32>) -> Result<()> {
    let holds = live.writer.holds();
    if holds.xattrs == 0 && !xattrs.is_empty() {
        return Err(no_room(ErrorKind::Unsupported, holds, "extended attributes"));
    }
    let sum: usize = xattrs.iter().map(|(name, value)| name.len() + value.len()).sum();
    // Each costs something besides.
    let most = XATTRS_MAX.min(holds.xattrs);
    if sum + 8 * xattrs.len() > most {
        let what = format!("the attributes of one file have at most {} KiB together here", most >> 10);
        return Err(error(ErrorKind::NoSpace, &what));
    }
    let _room = live.reserve(sum as u64)?;
    live.edit(&[node], |state| {
        live.add_dirty(sum as u64);
        let inode = state.inode(node)?;
        inode.attr.mode = mode.map_or(inode.attr.mode, |bits| (inode.attr.mode & !0o777) | bits);
        inode.attr.ctime = Time::now();
        inode.xattrs = Some(xattrs);
        Ok(())
    })
}

/// The error of what a format has no room for.
fn no_room(kind: ErrorKind, holds: &Holds, what: &str) -> Error {
    Error::new(kind, format!("{} has no room for {what}", holds.format))
}

/// A directory that still has a name.
fn directory(live: &Live, dir: Node) -> Result<Attr> {
    let attr = live.attr(dir).map_err(|e| if e.kind() == ErrorKind::Changed { not_found() } else { e })?;
    match attr.kind {
        Kind::Directory if attr.nlink == 0 => Err(not_found()),
        Kind::Directory => Ok(attr),
        _ => Err(error(ErrorKind::NotADirectory, "it is no directory")),
    }
}

fn not_found() -> Error {
    error(ErrorKind::NotFound, "there is no such name")
}

/// A stretch of a file that does not change: data by reference, and holes.
fn copy_earlier(
    source: Arc<dyn ReadAt>,
    range: Range<u64>,
    to: &mut dyn FnMut(u64, Copied) -> Result<()>,
) -> Result<()> {
    let mut at = range.start;
    while at < range.end {
        let data = source.next_data(at)?.filter(|data| data.start < range.end);
        let data = data.map_or(range.end..range.end, |data| data.start.max(at)..data.end.min(range.end));
        if data.start > at {
            to(at, Copied::Hole(data.start - at))?;
        }
        if !data.is_empty() {
            to(data.start, Copied::Shared(source.clone(), data.start, data.end - data.start))?;
        }
        at = data.end;
    }
    Ok(())
}

fn file(tree: &dyn Tree, node: Node) -> Result<Attr> {
    let attr = tree.attr(node)?;
    match attr.kind {
        Kind::File => Ok(attr),
        Kind::Directory => Err(error(ErrorKind::IsADirectory, "it is a directory")),
        _ => Err(error(ErrorKind::Invalid, "it is no regular file")),
    }
}

fn named(live: &Live, dir: Node, name: Name<'_>) -> Result<(Node, Attr)> {
    let node = live.find(dir, name)?.ok_or_else(not_found)?;
    Ok((node, live.attr(node)?))
}

fn empty(live: &Live, dir: Node) -> Result<()> {
    let mut empty = true;
    live.list(dir, None, &mut |_, _, _| {
        empty = false;
        ControlFlow::Break(())
    })?;
    if empty { Ok(()) } else { Err(error(ErrorKind::NotEmpty, "the directory is not empty")) }
}

fn replaceable(live: &Live, attr: &Attr, there: Node, over: &Attr) -> Result<()> {
    match (attr.kind == Kind::Directory, over.kind == Kind::Directory) {
        (true, false) => Err(error(ErrorKind::NotADirectory, "a directory cannot replace a file")),
        (false, true) => Err(error(ErrorKind::IsADirectory, "a file cannot replace a directory")),
        (true, true) => empty(live, there),
        (false, false) => Ok(()),
    }
}

/// Counts the directories in a directory, of which some go and some come. One that has a single link is of a file system that
/// does not count them, such as btrfs, or of a server.
fn count(dir: &mut Attr, less: u32, more: u32) {
    if dir.nlink > 1 {
        dir.nlink = dir.nlink.saturating_add(more).saturating_sub(less).max(2);
    }
}

/// One name less; a file without a name lives as long as it is open, or known.
fn drop_link(live: &Live, state: &mut super::live::State, node: Node) -> Result<()> {
    let attr = &mut state.inode(node)?.attr;
    attr.nlink = attr.nlink.saturating_sub(1);
    attr.ctime = Time::now();
    if attr.nlink == 0 && !live.keep_nameless(node) {
        state.remove(node);
    }
    Ok(())
}

type Place<'a> = (Node, NameBuf, Node, &'a Attr);

fn exchange(live: &Live, (from, name, node, attr): Place<'_>, (to, new_name, other, over): Place<'_>) -> Result<()> {
    let dirs = |attr: &Attr| u32::from(attr.kind == Kind::Directory);
    live.edit(&[from, to, node, other], |state| {
        let old = state.touch(from)?;
        count(old, dirs(attr), dirs(over));
        let new = state.touch(to)?;
        count(new, dirs(over), dirs(attr));
        state.inode(node)?.attr.ctime = Time::now();
        state.inode(other)?.attr.ctime = Time::now();
        state.set_name(from, name, Some((other, over.kind)));
        state.set_name(to, new_name, Some((node, attr.kind)));
        Ok(())
    })
}
