//! A container that is read while somebody else writes to it, or puts a newer one in its place.
//!
//! ```text
//!   every second    the path, its file, its length and times    as they were: nothing
//!                                                               else: opened anew, and then shown
//! ```
//!
//! Who has a file open goes on reading what it opened. A container that cannot be opened just now, half copied or gone, is
//! asked for again, and what was seen last is shown meanwhile.

use super::How;
use crate::error::{Error, Result};
use crate::formats::Volume;
use crate::source::ReadAt;
use crate::tree::{Attr, Name, Node, Owner, Totals, Tree, Visit, Xattr};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock, Weak};
use std::time::Duration;

/// How often is looked.
const EVERY: Duration = Duration::from_secs(1);

/// Opens a container to be read, and moves on with each of its commits. A folder and an earlier state stay what they are.
pub fn follow(path: &Path, how: &How) -> Result<Volume> {
    // Archives inside are not looked into: their folders would begin anew with each commit.
    let how = How { depth: 0, ..how.clone() };
    if path.is_dir() || super::with_state(path).is_some() {
        return super::open_as(path, &how);
    }
    let seen = Seen::of(path);
    let volume = super::open_as(path, &how)?;
    let tree = Arc::new(Following { now: RwLock::new(volume.tree) });
    let follower = Follower { tree: Arc::downgrade(&tree), path: path.to_owned(), how, seen, failed: None };
    std::thread::Builder::new()
        .name("stmount-follow".into())
        .spawn(move || follower.run())
        .map_err(|e| Error::io(e, "cannot start a thread"))?;
    Ok(Volume { tree, states: None, ..volume })
}

/// What tells one state of a file from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Seen {
    file: (u64, u64),
    len: u64,
    mtime: (i64, i64),
}

impl Seen {
    fn of(path: &Path) -> Option<Self> {
        let meta = fs::metadata(path).ok()?;
        Some(Self { file: (meta.dev(), meta.ino()), len: meta.len(), mtime: (meta.mtime(), meta.mtime_nsec()) })
    }
}

struct Follower {
    tree: Weak<Following>,
    path: PathBuf,
    how: How,
    seen: Option<Seen>,
    /// What could not be opened, and was told to be so.
    failed: Option<Seen>,
}

impl Follower {
    fn run(mut self) {
        loop {
            std::thread::sleep(EVERY);
            let Some(tree) = self.tree.upgrade() else { return };
            self.look(&tree);
        }
    }

    fn look(&mut self, tree: &Following) {
        let now = Seen::of(&self.path);
        if now.is_none() || now == self.seen {
            return;
        }
        match super::open_as(&self.path, &self.how) {
            Ok(volume) => {
                volume.notes.iter().for_each(|note| log::warn!("{}: {note}", self.path.display()));
                tree.move_on(volume.tree);
                self.seen = now;
            }
            Err(e) if self.failed != now => {
                log::warn!("{e}; showing the state before");
                self.failed = now;
            }
            Err(_) => {}
        }
    }
}

/// A tree in whose place a newer one may be put.
struct Following {
    now: RwLock<Arc<dyn Tree>>,
}

impl Following {
    fn now(&self) -> Arc<dyn Tree> {
        self.now.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn move_on(&self, tree: Arc<dyn Tree>) {
        *self.now.write().unwrap_or_else(PoisonError::into_inner) = tree;
    }
}

impl Tree for Following {
    fn root(&self) -> Node {
        self.now().root()
    }

    fn find(&self, dir: Node, name: Name<'_>) -> Result<Option<Node>> {
        self.now().find(dir, name)
    }

    fn attr(&self, node: Node) -> Result<Attr> {
        self.now().attr(node)
    }

    fn list(&self, dir: Node, after: Option<Name<'_>>, visit: &mut Visit<'_>) -> Result<()> {
        self.now().list(dir, after, visit)
    }

    fn target(&self, link: Node) -> Result<Vec<u8>> {
        self.now().target(link)
    }

    fn open(&self, file: Node) -> Result<Arc<dyn ReadAt>> {
        self.now().open(file)
    }

    fn xattrs(&self, node: Node) -> Result<Vec<Xattr>> {
        self.now().xattrs(node)
    }

    fn owner(&self, node: Node) -> Result<Owner> {
        self.now().owner(node)
    }

    fn totals(&self) -> Result<Totals> {
        self.now().totals()
    }

    fn is_frozen(&self) -> bool {
        false
    }
}
