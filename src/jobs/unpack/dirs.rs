//! The directories being filled.
//!
//! ```text
//!   root ◄── a ◄── b          a directory holds the one above it; jobs hold the directory they write into
//!            ▲     ▲ ▲
//!           job  job job      when the last of them lets go, the directory is finished, then the one above, and so on
//! ```
//!
//! Each is open while it is needed, except those far above the walker, which are opened again from the root: a tree may
//! be deeper than the number of files a process may have open. Chains are taken apart in loops, never by recursion.

use super::{Existing, Work, one_more};
use crate::error::{Error, Kind, Result};
use crate::formats::folder::beneath;
use crate::pool::lock;
use crate::tree::{Name, NameBuf, Node};
use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, Mode, OFlags, mkdirat, unlinkat};
use rustix::io::Errno;
use std::sync::{Arc, Mutex, MutexGuard};

const READ: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// The names on the way to a directory, shared among all that are below it.
pub struct Trail {
    above: Option<Arc<Trail>>,
    name: NameBuf,
}

impl Drop for Trail {
    fn drop(&mut self) {
        let mut next = self.above.take();
        while let Some(mut trail) = next.and_then(Arc::into_inner) {
            next = trail.above.take();
        }
    }
}

/// Where an entry is: its directory, `None` for the root, and its name there.
#[derive(Clone)]
pub struct Place {
    pub dir: Option<Arc<Trail>>,
    pub name: NameBuf,
}

/// The names from the root down.
fn names(trail: &Option<Arc<Trail>>) -> Vec<Name<'_>> {
    let mut names: Vec<_> =
        std::iter::successors(trail.as_ref(), |t| t.above.as_ref()).map(|t| t.name.as_name()).collect();
    names.reverse();
    names
}

/// Opens the directory of a trail, from the root.
pub fn open(root: &Arc<OwnedFd>, trail: &Option<Arc<Trail>>, flags: OFlags) -> Result<Arc<OwnedFd>, Errno> {
    match trail {
        None => Ok(root.clone()),
        Some(_) => Ok(Arc::new(beneath::open_path(&**root, names(trail).into_iter(), flags)?)),
    }
}

/// A directory of the target.
pub struct Dir {
    above: Option<Arc<Dir>>,
    trail: Option<Arc<Trail>>,
    /// Whose attributes it gets at the end.
    node: Option<Node>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    fd: Option<Arc<OwnedFd>>,
    made: Option<Made>,
}

/// How a directory came to be.
#[derive(Clone, Copy)]
struct Made {
    is_new: bool,
    /// What is made inside inherits ACLs, which the tree knows nothing of.
    bequeaths: bool,
}

impl Drop for Dir {
    fn drop(&mut self) {
        let mut next = self.above.take();
        while let Some(mut dir) = next.and_then(Arc::into_inner) {
            next = dir.above.take();
        }
    }
}

impl Dir {
    /// The target itself.
    pub fn root(work: &Work<'_>, node: Option<Node>, is_new: bool) -> Arc<Self> {
        let made = Some(Made { is_new, bequeaths: has_default_acl(&work.root) });
        let state = Mutex::new(State { fd: Some(work.root.clone()), made });
        Arc::new(Self { above: None, trail: None, node, state })
    }

    /// A directory in this one. It is made when it is first asked for.
    pub fn below(self: &Arc<Self>, name: NameBuf, node: Node) -> Arc<Self> {
        let trail = Some(Arc::new(Trail { above: self.trail.clone(), name }));
        Arc::new(Self { above: Some(self.clone()), trail, node: Some(node), state: Mutex::default() })
    }

    pub fn place(&self, name: NameBuf) -> Place {
        Place { dir: self.trail.clone(), name }
    }

    /// The path in the tree, for people.
    pub fn path(&self, work: &Work<'_>, name: Option<Name<'_>>) -> Vec<u8> {
        let mut path = work.prefix.clone();
        for name in names(&self.trail).into_iter().chain(name) {
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend_from_slice(name.bytes());
        }
        path
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Whether entries made in it get ACLs that were not asked for.
    pub fn bequeaths(&self) -> bool {
        self.state().made.is_some_and(|made| made.bequeaths)
    }

    /// Closes the directory; it is opened again when somebody asks.
    pub fn let_go(&self) {
        if self.trail.is_some() {
            self.state().fd = None;
        }
    }

    /// The open directory, made first if it is not there, with those above it.
    pub fn fd(self: &Arc<Self>, work: &Work<'_>) -> Result<Arc<OwnedFd>> {
        let is_missing = |dir: &&Arc<Self>| dir.state().made.is_none();
        let missing: Vec<_> =
            std::iter::successors(Some(self), |dir| dir.above.as_ref()).take_while(is_missing).collect();
        for dir in missing.into_iter().rev() {
            let above = dir.above.as_ref().expect("the root is made");
            let fd = above.open(work)?;
            dir.make(work, &fd, above.bequeaths())?;
        }
        self.open(work)
    }

    fn open(&self, work: &Work<'_>) -> Result<Arc<OwnedFd>> {
        let mut state = self.state();
        if let Some(fd) = &state.fd {
            return Ok(fd.clone());
        }
        let fd = open(&work.root, &self.trail, READ).map_err(|e| Error::io(e.into(), "cannot open its directory"))?;
        state.fd = Some(fd.clone());
        Ok(fd)
    }

    fn make(&self, work: &Work<'_>, above: &OwnedFd, inherits: bool) -> Result<()> {
        let mut state = self.state();
        if state.made.is_some() {
            return Ok(());
        }
        let name = self.trail.as_ref().expect("the root is made").name.as_name();
        let (fd, is_new) = make(above, name, work.options.existing)?;
        if is_new && inherits {
            super::metadata::disinherit(&fd);
        }
        let bequeaths = !is_new && has_default_acl(&fd);
        *state = State { fd: Some(Arc::new(fd)), made: Some(Made { is_new, bequeaths }) };
        one_more(&work.tally.dirs);
        work.watch.advance(0, 1);
        Ok(())
    }

    /// Everything is in it: gives it its attributes.
    fn finish(&self, work: &Work<'_>) {
        let made = self.state().made;
        let (Some(made), Some(node)) = (made, self.node) else { return };
        if work.is_over() || (!made.is_new && work.options.existing == Existing::Keep) {
            return;
        }
        let lacks = match (self.open(work), work.tree.attr(node)) {
            (Ok(fd), Ok(attr)) => super::metadata::dress_fd(work, &fd, node, &attr),
            (Err(e), _) | (_, Err(e)) => vec![format!("all attributes ({e})")],
        };
        work.lacks(&self.path(work, None), &lacks);
    }
}

/// Makes a directory or, if one is there, shares it. What is there and no directory is a case for the policy.
fn make(above: &OwnedFd, name: Name<'_>, existing: Existing) -> Result<(OwnedFd, bool)> {
    let cannot = |e: Errno| Error::io(e.into(), "cannot make the directory, so what is in it is missing as well");
    let is_new = match mkdirat(above, name.bytes(), Mode::RWXU) {
        Err(Errno::EXIST) => false,
        made => made.map(|()| true).map_err(cannot)?,
    };
    match beneath::open(above, name, READ, Mode::empty()) {
        Err(Errno::NOTDIR | Errno::LOOP) if !is_new && existing == Existing::Replace => {
            unlinkat(above, name.bytes(), AtFlags::empty()).map_err(cannot)?;
            mkdirat(above, name.bytes(), Mode::RWXU).map_err(cannot)?;
            Ok((beneath::open(above, name, READ, Mode::empty()).map_err(cannot)?, true))
        }
        Err(Errno::NOTDIR | Errno::LOOP) => Err(Error::new(
            Kind::Exists,
            "something that is no directory is in the place of this one, so what is in it is missing as well",
        )
        .hint("replace it with --overwrite, or unpack into another folder")),
        opened => Ok((opened.map_err(cannot)?, is_new)),
    }
}

fn has_default_acl(fd: &OwnedFd) -> bool {
    rustix::fs::fgetxattr_query(fd, "system.posix_acl_default").is_ok()
}

/// Lets go of a directory; whoever is the last finishes it, and those above that only waited for it.
pub fn release(work: &Work<'_>, dir: Arc<Dir>) {
    let mut next = Some(dir);
    while let Some(mut dir) = next.and_then(Arc::into_inner) {
        dir.finish(work);
        next = dir.above.take();
    }
}
