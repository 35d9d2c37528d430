//! A container that is open to be written, and that others move, replace or write to meanwhile.
//!
//! ```text
//!   before each commit             the commit goes
//!   it is as it was left           behind the one before
//!   no path leads to it any more   to a copy of it, NAME.conflict-DATE.st
//!   somebody else wrote to it      to a new container of that name, with all that can still be read of the old one
//! ```
//!
//! From then on that file is what the mount stands on. Whatever stands where the container was is not touched: not a byte
//! of it is written, cut off or given back.

use super::append::{Opened, StWriter};
use super::{compact, create};
use crate::cache::Cache;
use crate::error::{Error, Kind, Result, Within};
use crate::formats::{Access, Give, Owners, Root, Watch, Writer};
use crate::key::sign::Signing;
use crate::pool::lock;
use crate::source::{Held, ReadAt, Standing, Store};
use crate::tree::{Changes, Draft, Inode, Kind as NodeKind, Name, NameBuf, Node, Time, Tree};
use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

/// So many files that are lost are named one by one.
const NAMED: u64 = 100;
/// Bytes of a file that are read at a time, to see whether they can be.
const PIECE: usize = 1 << 20;

/// What a container was opened with, to open another one in its place.
pub struct Kept {
    name: String,
    cache: Arc<Cache>,
    owners: Option<Arc<Owners>>,
    signing: Signing,
    held: Arc<Held>,
}

impl Kept {
    pub fn of(opened: &Opened, held: Arc<Held>) -> Self {
        let Opened { name, cache, owners, signing, .. } = opened;
        Self { name: name.clone(), cache: cache.clone(), owners: owners.clone(), signing: signing.clone(), held }
    }
}

/// The writer of a container that knows where it is.
pub struct Keeper {
    name: String,
    cache: Arc<Cache>,
    owners: Option<Arc<Owners>>,
    signing: Signing,
    now: RwLock<Now>,
    /// The tree as of the last commit. Held by whoever commits.
    tree: Mutex<Arc<dyn Tree>>,
}

#[derive(Clone)]
struct Now {
    writer: Arc<StWriter>,
    held: Arc<Held>,
}

impl Keeper {
    pub fn new(kept: Kept, writer: Arc<StWriter>, tree: Arc<dyn Tree>) -> Self {
        let Kept { name, cache, owners, signing, held } = kept;
        Self { name, cache, owners, signing, now: RwLock::new(Now { writer, held }), tree: Mutex::new(tree) }
    }

    fn now(&self) -> Now {
        self.now.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn tree(&self) -> MutexGuard<'_, Arc<dyn Tree>> {
        lock(&self.tree)
    }

    /// Makes sure that what is committed now will be found. False when somebody else has written to the container.
    fn settle(&self) -> Result<bool> {
        let Now { writer, held } = self.now();
        let standing = held.standing()?;
        if standing == Standing::Altered || !writer.is_as_left()? {
            return Ok(false);
        }
        if standing == Standing::Away {
            move_away(&self.name, &writer, &held)?;
        }
        Ok(true)
    }

    /// Makes a new container of what can be read of the old one, and of the changes.
    fn rescue(&self, tree: &mut Arc<dyn Tree>, changes: &Changes) -> Result<Arc<dyn Tree>> {
        let old = self.now();
        let held = Arc::new(old.held.beside(&date())?);
        let root = tree.attr(tree.root()).map_or((0, 0), |attr| (attr.uid, attr.gid));
        let mut empty = Vec::new();
        let heir = old.writer.heir()?;
        create::create(&mut empty, root, heir.as_ref(), (None, &self.signing))?;
        held.write_at(0, &empty)?;
        let mut access = Access::to_write(held.clone(), self.cache.clone(), &*self.name);
        if let Some(heir) = heir {
            access.reading.vault.keep(heir.uid(), heir.master(), None);
        }
        access.owners.clone_from(&self.owners);
        access.signing = self.signing.clone();
        let (_, opened) = super::opened_to_write(access)?
            .map_err(|(.., why)| Error::new(Kind::Changed, format!("what was saved cannot be changed: {why}")))?;
        let writer = Arc::new(StWriter::new(opened)?);
        let mut salvage = Salvage { tree: &**tree, later: changes, found: Changes::default(), lost: 0 };
        salvage.read();
        writer.commit(&salvage.found)?;
        let done = writer.commit(&salvage.fitting())?;
        let lost = salvage.lost;
        let refuge = held.publish()?;
        old.writer.forget_reserved();
        old.held.let_go();
        log::error!(
            "{}: it was changed by somebody else while it was mounted. It was left as it is; what could be read and what \
             was changed is in {} from now on, and {lost} files could not be read",
            self.name,
            refuge.display()
        );
        *self.now.write().unwrap_or_else(PoisonError::into_inner) = Now { writer, held };
        tree.clone_from(&done);
        Ok(done)
    }
}

/// The moment as a part of a name.
fn date() -> String {
    Time::now().stamp()
}

fn move_away(name: &str, writer: &StWriter, held: &Held) -> Result<()> {
    let refuge = held.move_away(writer.end(), &date())?;
    writer.forget_reserved();
    log::error!(
        "{name}: it was replaced or deleted while it was mounted. All of it, and what is changed, is in {} from now on",
        refuge.display()
    );
    Ok(())
}

impl Writer for Keeper {
    fn first_new_node(&self) -> u64 {
        self.now().writer.first_new_node()
    }

    fn reserve(&self, bytes: u64, entries: u64) -> Result<()> {
        self.now().writer.reserve(bytes, entries)
    }

    fn commit(&self, changes: &Changes) -> Result<Arc<dyn Tree>> {
        let mut tree = self.tree();
        if !self.settle().within(|| &self.name)? {
            return self.rescue(&mut tree, changes).within(|| &self.name);
        }
        let Now { writer, held } = self.now();
        let done = writer.commit(changes)?;
        tree.clone_from(&done);
        // Durable is what can be found again.
        if held.standing()? == Standing::Away {
            move_away(&self.name, &writer, &held).within(|| &self.name)?;
        }
        Ok(done)
    }

    fn upkeep(&self, when: Give, show: &mut dyn FnMut(Arc<dyn Tree>)) -> Result<u64> {
        let mut tree = self.tree();
        let Now { writer, held } = self.now();
        // What is not where it was left is left alone: the next commit sees to that.
        if held.standing()? != Standing::Ours || !writer.is_as_left()? {
            return Ok(0);
        }
        writer.upkeep(when, &mut |newer| {
            tree.clone_from(&newer);
            show(newer);
        })
    }

    fn protect(&self, watch: &dyn Watch) -> Result<()> {
        let _no_commit_meanwhile = self.tree();
        let Now { writer, held } = self.now();
        if held.standing()? != Standing::Ours || !writer.is_as_left()? {
            return Ok(());
        }
        writer.protect(watch)
    }

    fn name_state(&self, name: &str, keep: bool) -> Result<()> {
        let _no_commit_meanwhile = self.tree();
        if !self.settle()? {
            return Err(Error::new(Kind::Changed, format!("{}: it was changed by somebody else", self.name)));
        }
        self.now().writer.name_state(name, keep)
    }

    fn root(&self) -> Option<Root> {
        self.now().writer.root()
    }

    fn sequence(&self) -> u64 {
        self.now().writer.sequence()
    }

    fn refuge(&self) -> Option<PathBuf> {
        self.now().held.refuge()
    }

    fn free(&self) -> Result<u64> {
        self.now().writer.free()
    }
}

impl Drop for Keeper {
    /// In a file that is somebody else's now there is no space to be given back.
    fn drop(&mut self) {
        let Now { writer, held } = self.now();
        let is_ours = held.standing().is_ok_and(|standing| standing != Standing::Altered);
        if !is_ours || !writer.is_as_left().unwrap_or(false) {
            writer.forget_reserved();
        }
    }
}

/// What can still be read of a tree, as changes that make an empty one the same, and other changes that fit to it.
struct Salvage<'a> {
    tree: &'a dyn Tree,
    later: &'a Changes,
    found: Changes,
    lost: u64,
}

impl Salvage<'_> {
    fn read(&mut self) {
        let root = self.tree.root();
        if let Ok(inode) = self.inode(root) {
            self.found.nodes.insert(root, Some(Inode { is_new: false, ..inode }));
        }
        let (mut dirs, mut lost) = (vec![root], BTreeSet::new());
        while let Some(dir) = dirs.pop() {
            for (name, node, kind) in self.names(dir) {
                if !self.found.nodes.contains_key(&node) && !lost.contains(&node) {
                    match self.inode(node) {
                        Ok(inode) => {
                            self.found.nodes.insert(node, Some(inode));
                            dirs.extend((kind == NodeKind::Directory).then_some(node));
                        }
                        Err(e) => {
                            lost.insert(node);
                            self.tell(&format!("{} (inode {})", name.as_name(), node.0), &e);
                        }
                    }
                }
                if self.found.nodes.contains_key(&node) {
                    self.found.set_name(dir, name, Some((node, kind)));
                }
            }
        }
    }

    fn tell(&mut self, what: &str, e: &Error) {
        self.lost += 1;
        if self.lost <= NAMED {
            log::error!("{what} is lost: {e}");
        }
    }

    fn names(&mut self, dir: Node) -> Vec<(NameBuf, Node, NodeKind)> {
        let mut names = Vec::new();
        let listed = self.tree.list(dir, None, &mut |name, node, kind| {
            names.push((name.to_owned(), node, kind));
            ControlFlow::Continue(())
        });
        if let Err(e) = listed {
            self.tell(&format!("what else is in the directory of inode {}", dir.0), &e);
        }
        names
    }

    /// A node with all that it holds, which was read once.
    fn inode(&self, node: Node) -> Result<Inode> {
        let attr = self.tree.attr(node)?;
        let (kind, size) = (attr.kind, attr.size);
        let mut inode = Inode::new(attr, true);
        inode.xattrs = Some(self.tree.xattrs(node)?);
        inode.target = (kind == NodeKind::Symlink).then(|| self.tree.target(node)).transpose()?;
        if kind != NodeKind::File {
            return Ok(inode);
        }
        // What was written anew as a whole is not missed.
        let later = self.later.nodes.get(&node).and_then(Option::as_ref).and_then(|inode| inode.draft.as_ref());
        if later.is_some_and(|draft| draft.kept() == 0) {
            inode.attr.size = 0;
            inode.draft = Some(Arc::new(Draft::default()));
            return Ok(inode);
        }
        let file = self.tree.open(node)?;
        readable(&*file, size)?;
        inode.draft = Some(Arc::new(compact::copy(&file, size)?));
        Ok(inode)
    }

    /// The later changes, without those that stand on something lost. A directory that nobody knows the place of any more
    /// gets a name in the root.
    fn fitting(&mut self) -> Changes {
        let (mut fitting, mut dropped) = (self.later.clone(), BTreeSet::new());
        let root = self.tree.root();
        for (node, inode) in &self.later.nodes {
            let Some(inode) = inode.as_ref().filter(|inode| !inode.is_new && !self.found.nodes.contains_key(node))
            else {
                continue;
            };
            if inode.attr.kind == NodeKind::Directory {
                let name = format!("found-{}", node.0);
                if let Ok(name) = Name::new(name.as_bytes()) {
                    fitting.set_name(root, name.to_owned(), Some((*node, NodeKind::Directory)));
                }
            } else if inode.draft.as_ref().is_none_or(|draft| draft.kept() > 0) {
                dropped.insert(*node);
            }
        }
        for node in &dropped {
            let e = Error::new(Kind::Changed, "what they were made to cannot be read any more");
            self.tell(&format!("what was changed in inode {}", node.0), &e);
            fitting.nodes.remove(node);
        }
        for names in fitting.names.values_mut() {
            names.retain(|_, to| to.is_none_or(|(node, _)| !dropped.contains(&node)));
        }
        fitting
    }
}

/// Reads all data of a file.
fn readable(file: &dyn ReadAt, size: u64) -> Result<()> {
    let (mut at, mut piece) = (0, vec![0; PIECE.min(size as usize)]);
    while let Some(data) = file.next_data(at)?.filter(|data| data.start < size) {
        at = data.start;
        while at < data.end.min(size) {
            let len = (data.end.min(size) - at).min(PIECE as u64) as usize;
            file.read_exact_at(at, &mut piece[..len])?;
            at += len as u64;
        }
    }
    Ok(())
}
