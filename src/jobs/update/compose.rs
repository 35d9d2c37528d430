//! Steps become changes, and changes commits.

use super::sheet::{Sheet, Stored};
use super::walk::{Entry, Step};
use super::{CHANGED, CONTENTS, Options, Report, STEPS, Source, Take};
use crate::error::{Error, Kind as ErrorKind, Result};
use crate::formats::Writer;
use crate::tree::{Attr, Inode, Kind, NameBuf, Node, Time, Tree, Xattr};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// What has been done and what is on its way.
pub struct Compose<'a> {
    source: &'a Arc<Source>,
    writer: &'a dyn Writer,
    options: &'a Options,
    sheet: Sheet,
    /// Of the next commit.
    steps: Vec<Step>,
    now: Tally,
    /// Of those that are done.
    done: Report,
    /// Where the directories of the source are stored, by their numbers; `None` when they are not.
    places: Vec<Option<Node>>,
    /// Where an inode of the source that has several names is stored, and the other way round.
    links: HashMap<Node, Node>,
    claims: HashMap<Node, Node>,
    /// What cannot be read, and was told.
    lost: HashSet<Node>,
    /// What changed while it was read, and was looked at again.
    retried: HashSet<Node>,
}

/// What the steps of one commit have come to.
#[derive(Default)]
struct Tally {
    report: Report,
    /// Entries that are changed.
    entries: u64,
    links: Vec<Node>,
    claims: Vec<Node>,
}

/// What is known of an entry of the source besides its attributes.
struct Seen {
    xattrs: Vec<Xattr>,
    /// Of a symbolic link.
    target: Option<Vec<u8>>,
}

/// An error that concerns one entry, which is then left as it is, or one that ends the work.
enum Trouble {
    Entry(Error),
    End(Error),
}

/// What belongs to the container ends the work when it fails; what belongs to the source says so itself.
impl From<Error> for Trouble {
    fn from(e: Error) -> Self {
        Self::End(e)
    }
}

impl<'a> Compose<'a> {
    pub fn new(source: &'a Arc<Source>, base: Arc<dyn Tree>, writer: &'a dyn Writer, options: &'a Options) -> Self {
        Self {
            source,
            writer,
            options,
            sheet: Sheet::new(base, writer.first_new_node()),
            steps: Vec::new(),
            now: Tally::default(),
            done: Report::default(),
            places: Vec::new(),
            links: HashMap::new(),
            claims: HashMap::new(),
            lost: HashSet::new(),
            retried: HashSet::new(),
        }
    }

    pub fn report(&self) -> Report {
        self.done
    }

    /// Bytes that the container takes.
    pub fn stored(&self) -> Result<u64> {
        Ok(self.sheet.base().totals()?.stored)
    }

    pub fn is_full(&self) -> bool {
        self.steps.len() >= STEPS || self.now.entries >= CHANGED || self.now.report.bytes >= CONTENTS
    }

    pub fn step(&mut self, step: Step) -> Result<()> {
        self.apply(&step)?;
        if let Step::Entry(_) = step {
            self.source.watch().advance(0, 1);
        }
        self.steps.push(step);
        Ok(())
    }

    /// Stores what the steps since the last commit have changed.
    pub fn commit(&mut self) -> Result<()> {
        while !self.sheet.changes().is_empty() {
            self.source.take_fault();
            let stored = self.writer.commit(self.sheet.changes());
            self.source.close();
            match stored {
                Ok(tree) => {
                    self.sheet.stored(tree);
                    self.done.commits += 1;
                }
                Err(e) if e.kind() == ErrorKind::Interrupted => return Err(self.source.check().err().unwrap_or(e)),
                Err(e) => self.without_fault(e)?,
            }
        }
        self.steps.clear();
        let new = std::mem::take(&mut self.now).report;
        self.done.added += new.added;
        self.done.replaced += new.replaced;
        self.done.changed += new.changed;
        self.done.unchanged += new.unchanged;
        self.done.removed += new.removed;
        self.done.bytes += new.bytes;
        Ok(())
    }

    /// After a commit that a file of the source made fail: takes all steps again, with the file as it is now, or without
    /// it.
    fn without_fault(&mut self, e: Error) -> Result<()> {
        let Some(fault) = self.source.take_fault() else { return Err(e) };
        let again = fault.error.kind() == ErrorKind::Changed && self.retried.insert(fault.node);
        let attr = again.then(|| self.source.tree().attr(fault.node)).transpose();
        match attr {
            Ok(Some(attr)) => self.renew(fault.node, &attr),
            Ok(None) => self.lose(fault.node, &fault.path, &fault.error),
            Err(e) => self.lose(fault.node, &fault.path, &e),
        }
        self.sheet.clear();
        let now = std::mem::take(&mut self.now);
        now.links.iter().for_each(|node| _ = self.links.remove(node));
        now.claims.iter().for_each(|node| _ = self.claims.remove(node));
        let steps = std::mem::take(&mut self.steps);
        steps.iter().try_for_each(|step| self.apply(step))?;
        self.steps = steps;
        Ok(())
    }

    fn renew(&mut self, node: Node, attr: &Attr) {
        for step in &mut self.steps {
            match step {
                Step::Entry(entry) if entry.node == node => entry.attr = attr.clone(),
                _ => {}
            }
        }
    }

    fn lose(&mut self, node: Node, path: &[u8], why: &Error) {
        self.done.skipped += 1;
        self.source.watch().skipped(path, why);
        self.lost.insert(node);
    }

    fn apply(&mut self, step: &Step) -> Result<()> {
        match step {
            Step::Root(attr) => self.root(attr),
            Step::Entry(entry) if self.lost.contains(&entry.node) => {
                if entry.attr.kind == Kind::Directory {
                    self.set_place(entry.own, None);
                }
                Ok(())
            }
            Step::Entry(entry) => match self.entry(entry) {
                Ok(()) => Ok(()),
                Err(Trouble::Entry(e)) => {
                    self.lose(entry.node, &entry.path, &e);
                    self.apply(step)
                }
                Err(Trouble::End(e)) => Err(e),
            },
            Step::Rest { dir, path, names } => self.rest(*dir, path, names),
        }
    }

    fn set_place(&mut self, number: usize, place: Option<Node>) {
        if self.places.len() <= number {
            self.places.resize(number + 1, None);
        }
        self.places[number] = place;
    }

    fn root(&mut self, attr: &Attr) -> Result<()> {
        let (from, to) = (self.source.tree().root(), self.sheet.base().root());
        self.set_place(0, Some(to));
        if self.options.root {
            let seen = self.seen(from, attr)?;
            if self.attributes(to, attr, &seen)? {
                self.now.report.changed += 1;
            }
        }
        Ok(())
    }

    fn seen(&self, node: Node, attr: &Attr) -> Result<Seen> {
        let tree = self.source.tree();
        let mut xattrs = tree.xattrs(node)?;
        xattrs.sort_unstable();
        let target = (attr.kind == Kind::Symlink).then(|| tree.target(node)).transpose()?;
        self.source.learn(node, attr)?;
        Ok(Seen { xattrs, target })
    }

    fn entry(&mut self, entry: &Entry) -> Result<(), Trouble> {
        let Some(dir) = self.places.get(entry.dir).copied().flatten() else { return Ok(()) };
        let name = entry.name()?;
        let there = match self.sheet.find(dir, name)? {
            Some(node) => Some((node, self.sheet.attr(node)?)),
            None => None,
        };
        if let Some(first) = self.links.get(&entry.node).copied() {
            return self.link(entry, dir, first, there);
        }
        let seen = self.seen(entry.node, &entry.attr).map_err(Trouble::Entry)?;
        let node = match there {
            Some((old, attr)) if self.is_kept(entry, &seen, old, &attr)? => {
                let changed = self.attributes(old, &entry.attr, &seen)?;
                *(if changed { &mut self.now.report.changed } else { &mut self.now.report.unchanged }) += 1;
                self.claim(entry.node, old, &attr);
                old
            }
            there => self.take(entry, seen, dir, there)?,
        };
        match entry.attr.kind {
            Kind::Directory => self.set_place(entry.own, Some(node)),
            _ if entry.attr.nlink > 1 => {
                self.links.insert(entry.node, node);
                self.now.links.push(entry.node);
            }
            _ => {}
        }
        Ok(())
    }

    /// A further name of what is stored already.
    fn link(&mut self, entry: &Entry, dir: Node, first: Node, there: Option<(Node, Attr)>) -> Result<(), Trouble> {
        if there.as_ref().is_some_and(|(node, _)| *node == first) {
            self.now.report.unchanged += 1;
            return Ok(());
        }
        self.make_way(entry, dir, there)?;
        let inode = self.sheet.inode(first)?;
        inode.attr.nlink += 1;
        if !inode.is_new {
            inode.attr.ctime = Time::now();
        }
        self.name(entry, dir, first)
    }

    /// Whether what is stored under the name stays, perhaps with other attributes.
    fn is_kept(&self, entry: &Entry, seen: &Seen, old: Node, there: &Attr) -> Result<bool> {
        let new = &entry.attr;
        if new.kind != there.kind {
            return Ok(false);
        }
        if new.kind == Kind::Directory {
            return Ok(true);
        }
        // What is another file in the source has to become one.
        let claimed = self.claims.get(&old).is_some_and(|by| *by != entry.node);
        if self.options.take == Take::All || claimed {
            return Ok(false);
        }
        Ok(match new.kind {
            Kind::File => (new.size, new.mtime) == (there.size, there.mtime),
            Kind::Symlink => seen.target.as_ref() == Some(&self.sheet.base().target(old)?),
            kind if kind.is_device() => new.rdev == there.rdev,
            _ => true,
        })
    }

    fn claim(&mut self, by: Node, node: Node, attr: &Attr) {
        if attr.kind != Kind::Directory && attr.nlink > 1 {
            self.claims.insert(node, by);
            self.now.claims.push(node);
        }
    }

    /// Gives a node that is there the attributes of the source. Returns whether they differ.
    fn attributes(&mut self, node: Node, new: &Attr, seen: &Seen) -> Result<bool> {
        let old = self.sheet.attr(node)?;
        let mut xattrs = self.sheet.xattrs(node)?;
        xattrs.sort_unstable();
        let same_xattrs = xattrs == seen.xattrs;
        let key = |attr: &Attr| (attr.mode, attr.uid, attr.gid, attr.mtime);
        if same_xattrs && key(&old) == key(new) {
            return Ok(false);
        }
        // A time of access that nobody has set is that of the contents.
        let atime = if old.atime == old.mtime { new.mtime } else { old.atime };
        let Attr { mode, uid, gid, mtime, .. } = *new;
        let inode = self.sheet.inode(node)?;
        inode.attr = Attr { mode, uid, gid, mtime, atime, ctime: Time::now(), ..old };
        if !same_xattrs {
            inode.xattrs = Some(seen.xattrs.clone());
        }
        self.now.entries += 1;
        Ok(true)
    }

    /// Takes an entry as something new, in place of what has its name.
    fn take(&mut self, entry: &Entry, seen: Seen, dir: Node, there: Option<(Node, Attr)>) -> Result<Node, Trouble> {
        let new = &entry.attr;
        let is_dir = new.kind == Kind::Directory;
        let has_contents = new.kind == Kind::File && new.size > 0;
        let draft = has_contents.then(|| self.source.draft(entry.node, new, &entry.path)).transpose();
        let draft = draft.map_err(Trouble::Entry)?;
        self.make_way(entry, dir, there)?;
        let size = match new.kind {
            Kind::File => new.size,
            _ => seen.target.as_ref().map_or(0, |target| target.len() as u64),
        };
        // Times are as a pack keeps them.
        let (atime, ctime, nlink) = (new.mtime, new.mtime, if is_dir { 2 } else { 1 });
        let mut inode = Inode::new(Attr { size, nlink, atime, ctime, ..new.clone() }, true);
        inode.target = seen.target;
        inode.xattrs = (!seen.xattrs.is_empty()).then_some(seen.xattrs);
        if has_contents {
            self.now.report.bytes += new.size;
            self.source.announce(new.size, 0);
        }
        inode.draft = draft.map(Arc::new);
        let node = self.sheet.add(inode);
        self.name(entry, dir, node)?;
        Ok(node)
    }

    fn name(&mut self, entry: &Entry, dir: Node, node: Node) -> Result<(), Trouble> {
        self.sheet.name(dir, entry.name()?, node, entry.attr.kind)?;
        self.now.entries += 1;
        Ok(self.touch_root(dir)?)
    }

    /// The root has its times from the source, or of what happens to it.
    fn touch_root(&mut self, dir: Node) -> Result<()> {
        if dir == self.sheet.base().root() && !self.options.root { self.sheet.touch(dir) } else { Ok(()) }
    }

    /// Takes away what has the name of an entry.
    fn make_way(&mut self, entry: &Entry, dir: Node, there: Option<(Node, Attr)>) -> Result<(), Trouble> {
        let Some((node, attr)) = there else {
            self.now.report.added += 1;
            return Ok(());
        };
        let name = entry.name()?;
        if attr.kind != Kind::Directory {
            self.sheet.drop(dir, name, node, attr.kind)?;
        } else {
            let path = entry.path.clone();
            self.clear_directory(Stored { dir, name: name.to_owned(), node, kind: attr.kind, path })?;
        }
        self.now.report.replaced += 1;
        Ok(())
    }

    /// Takes a directory away that has the name of something else.
    fn clear_directory(&mut self, directory: Stored) -> Result<(), Trouble> {
        let is_empty = self.sheet.stored_names(directory.node)?.is_empty();
        let in_the_way = |hint: &str| {
            let what = "a directory that is not empty has its name in the container";
            Trouble::Entry(Error::new(ErrorKind::NotEmpty, what).hint(hint))
        };
        if !is_empty && !self.options.delete {
            return Err(in_the_way("--update --delete, which removes what is in it"));
        }
        let (count, went) = self.sheet.remove(directory, &self.options.filter)?;
        self.now.report.removed += count.saturating_sub(1);
        self.now.entries += count;
        if went { Ok(()) } else { Err(in_the_way("what the patterns leave out is in it")) }
    }

    /// Removes what the source does not have.
    fn rest(&mut self, number: usize, path: &[u8], names: &HashSet<NameBuf>) -> Result<()> {
        let Some(dir) = self.places.get(number).copied().flatten() else { return Ok(()) };
        for (name, node, kind) in self.sheet.stored_names(dir)? {
            if names.contains(&name) {
                continue;
            }
            let path = super::walk::join(path, name.as_name().bytes());
            let (count, _) = self.sheet.remove(Stored { dir, name, node, kind, path }, &self.options.filter)?;
            self.now.report.removed += count;
            self.now.entries += count;
            if count > 0 {
                self.touch_root(dir)?;
            }
        }
        Ok(())
    }
}
