//! A folder at the other end of a link, as a tree.
//!
//! ```text
//!   list     one request for a directory, good for a while; an old one rather than none when the other end is gone;
//!            who lists one directory after another finds the next ones there already
//!   attr     what the listing says where that is exact; else one request for the file, and for those beside it at once
//!   open     one request: the length, the version and the front
//! ```
//!
//! A node is a place: the same name in the same directory has the same number as long as the tree is open. What an entry is
//! may change under it, as in any folder.

mod away;
mod followed;

use super::{Object, Writes};
use crate::error::{Error, Kind as ErrorKind, Result};
use crate::pool::lock;
use crate::source::{Fleet, ReadAt};
use crate::tree::{Attr, Kind, Name, NameBuf, Node, Time, Totals, Tree, Visit};
use away::Away;
use followed::Followed;
use lru::LruCache;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::num::NonZeroUsize;
use std::ops::{Bound, ControlFlow};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long what was told is believed.
const FRESH: Duration = Duration::from_secs(10);

/// How long a file is believed to be as it was, where its listing does not tell when it was changed.
const STILL: Duration = Duration::from_secs(60);

/// Files that are asked for at once when their listing told only about how long they are.
const BESIDE: usize = 32;

/// Directories that are asked for ahead of who lists one behind the other, and so many entries are looked at for them.
const AHEAD: usize = 8;
const AHEAD_IN: usize = 512;

/// Files that are kept ready to be read again.
const OPENED: NonZeroUsize = NonZeroUsize::new(256).unwrap();

/// Entries of a directory; more are an error.
const ENTRIES: usize = 2_000_000;

const ROOT: u64 = 0;

/// What is told of an entry of a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    pub name: String,
    /// File, directory or symbolic link; who tells of none of these leaves the entry out.
    pub kind: Kind,
    /// The exact length of a file, where it is told.
    pub len: Option<u64>,
    pub modified: Option<Time>,
    /// The bits of permission, 12 of them, where the server has such.
    pub mode: Option<u32>,
    /// User and group, where the server has such.
    pub owner: Option<(u32, u32)>,
}

impl Item {
    /// An entry of which nothing else is known.
    pub fn new(name: impl Into<String>, kind: Kind) -> Self {
        Self { name: name.into(), kind, len: None, modified: None, mode: None, owner: None }
    }

    pub fn is_dir(&self) -> bool {
        self.kind == Kind::Directory
    }
}

/// A folder of a server. Paths have no slash at either end; the empty one is the folder itself.
pub trait Share: Send + Sync {
    fn list(&self, path: &str) -> Result<Vec<Item>>;

    /// What an entry is, exactly.
    fn look(&self, path: &str) -> Result<Item>;

    /// A file, and its address.
    fn open(&self, path: &str) -> Result<(String, Object)>;

    /// Where a symbolic link leads.
    fn target(&self, path: &str) -> Result<Vec<u8>> {
        Err(Error::new(ErrorKind::Invalid, format!("{path}: it is no symbolic link")))
    }

    /// How it is written to, where that can be done.
    fn writes(&self) -> Option<&dyn Writes> {
        None
    }
}

/// Makes of an object what can be read.
pub type Opener = dyn Fn(&str, Object) -> Result<Arc<dyn ReadAt>> + Send + Sync;

/// A name in a directory, and what is there now.
pub type Place = (Node, NameBuf, Option<(Node, Item)>);

/// The tree of a share.
pub struct ShareTree(Arc<Inner>);

struct Inner {
    share: Box<dyn Share>,
    opener: Box<Opener>,
    fleet: Arc<Fleet>,
    patience: Duration,
    owner: (u32, u32),
    state: Mutex<State>,
    looked: Condvar,
    away: Away,
}

struct State {
    nodes: HashMap<u64, Known>,
    /// The next number that a place gets.
    next: u64,
    places: HashMap<(u64, NameBuf), u64>,
    listings: HashMap<u64, Listing>,
    /// In which order the directories in a directory are listed: which was the last, and when.
    walks: HashMap<u64, (Instant, NameBuf)>,
    /// Directories that are listed just now ahead of who will ask for them.
    listing: HashSet<u64>,
    /// Where entries lie on the server that are shown at another place until all is done.
    lies: HashMap<u64, String>,
    /// What is renamed there just now: nobody knows under which name it can be had.
    moving: HashSet<u64>,
    /// Where entries may lie of which nobody has said whether they were renamed.
    unsure: HashMap<u64, String>,
    /// When somebody here changed a directory: what the server told of it before does not count.
    changed: HashMap<u64, Instant>,
    /// Files that are asked for just now.
    looking: HashSet<u64>,
    opened: LruCache<u64, (Instant, Arc<dyn ReadAt>)>,
}

struct Known {
    parent: u64,
    item: Item,
    /// When its listing says that it was changed, which may be less than exact.
    listed: Option<Time>,
    /// When it was asked for by itself.
    looked: Option<Instant>,
    /// Why it could not be looked at when that was tried last.
    failed: Option<(Instant, ErrorKind, String)>,
}

impl Known {
    fn new(parent: u64, item: Item) -> Self {
        Self { parent, listed: item.modified, item, looked: None, failed: None }
    }

    /// Whether another change would have had its listing tell another time: a minute that was not over when the file was looked
    /// at may have seen one.
    fn is_settled(&self, listed: Option<Time>) -> bool {
        let ends = listed.map(|time| time.secs.saturating_add(STILL.as_secs() as i64));
        let ago = self.looked.map_or(0, |at| at.elapsed().as_secs() as i64);
        ends.is_some_and(|ends| self.item.len.is_none() || self.looked.is_none() || ends < Time::now().secs - ago)
    }

    /// Takes note of what the server said of the file itself.
    fn is_now(&mut self, len: u64, modified: Option<Time>) {
        self.looked = Some(Instant::now());
        (self.item.len, self.item.modified) = (Some(len), modified.or(self.item.modified));
    }
}

#[derive(Clone)]
struct Listing {
    at: Instant,
    entries: Arc<BTreeMap<NameBuf, u64>>,
}

impl ShareTree {
    /// The root is listed at once: what cannot be listed is no folder.
    ///
    /// # Errors
    /// Those of the share.
    pub fn new(share: Box<dyn Share>, opener: Box<Opener>, fleet: Arc<Fleet>, patience: Duration) -> Result<Self> {
        let root = Item::new("", Kind::Directory);
        let (places, listings, looking) = (HashMap::new(), HashMap::new(), HashSet::new());
        let nodes = HashMap::from([(ROOT, Known::new(ROOT, root))]);
        let (lies, moving, unsure) = (HashMap::new(), HashSet::new(), HashMap::new());
        let (changed, opened) = (HashMap::new(), LruCache::new(OPENED));
        let (walks, listing) = (HashMap::new(), HashSet::new());
        let state = State {
            nodes,
            next: ROOT + 1,
            places,
            listings,
            walks,
            listing,
            lies,
            moving,
            unsure,
            changed,
            looking,
            opened,
        };
        let owner = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
        let (state, looked, away) = (Mutex::new(state), Condvar::new(), Away::default());
        let inner = Arc::new(Inner { share, opener, fleet, patience, owner, state, looked, away });
        inner.listing(ROOT)?;
        Ok(Self(inner))
    }

    pub fn share(&self) -> &dyn Share {
        &*self.0.share
    }

    /// Where an entry is on the server.
    ///
    /// # Errors
    /// `NotFound` for what is not there.
    pub fn path(&self, node: Node) -> Result<String> {
        lock(&self.0.state).path(node.0)
    }

    /// Directory and name of an entry; nothing for the root, and for what is not there.
    pub fn place(&self, node: Node) -> Option<(Node, NameBuf)> {
        let state = lock(&self.0.state);
        let known = state.nodes.get(&node.0).filter(|_| node.0 != ROOT)?;
        let name = Name::new(known.item.name.as_bytes()).ok()?.to_owned();
        let is_there = state.places.get(&(known.parent, name.clone())) == Some(&node.0);
        is_there.then_some((Node(known.parent), name))
    }

    /// Renames an entry on the server; it is shown where it was. Who reads it meanwhile waits.
    ///
    /// # Errors
    /// Those of `rename`.
    pub fn moves(&self, node: Node, to: &str, rename: impl FnOnce() -> Result<()>) -> Result<()> {
        lock(&self.0.state).moving.insert(node.0);
        let renamed = rename();
        let mut state = lock(&self.0.state);
        state.moving.remove(&node.0);
        match &renamed {
            Ok(()) => {
                state.unsure.remove(&node.0);
                state.lies.insert(node.0, to.to_owned());
            }
            Err(_) => drop(state.unsure.insert(node.0, to.to_owned())),
        }
        drop(state);
        self.0.looked.notify_all();
        renamed
    }

    /// Takes note of what somebody here has put under names on the server: entries with the numbers that they have had here,
    /// or nothing any more. All of it at once: half of it would lead nowhere.
    pub fn are_now(&self, places: Vec<Place>) {
        let mut state = lock(&self.0.state);
        for (dir, name, to) in places {
            state.is_now(dir.0, name, to);
        }
    }
}

impl State {
    fn is_now(&mut self, dir: u64, name: NameBuf, to: Option<(Node, Item)>) {
        self.changed.insert(dir, Instant::now());
        let listing = self.listings.get_mut(&dir).map(|listing| Arc::make_mut(&mut listing.entries));
        let Some((node, item)) = to else {
            listing.map(|entries| entries.remove(&name));
            self.places.remove(&(dir, name));
            return;
        };
        listing.map(|entries| entries.insert(name.clone(), node.0));
        self.places.insert((dir, name), node.0);
        self.lies.remove(&node.0);
        self.opened.pop(&node.0);
        let known = Known { looked: Some(Instant::now()), ..Known::new(dir, item) };
        self.nodes.insert(node.0, known);
    }

    fn known(&self, node: u64) -> Result<&Known> {
        self.nodes.get(&node).ok_or_else(|| Error::new(ErrorKind::NotFound, format!("there is no node {node}")))
    }

    /// Whether an entry, or one in which it is, is being renamed.
    fn is_moving(&self, node: u64) -> bool {
        let mut at = node;
        while !self.moving.is_empty() && at != ROOT {
            if self.moving.contains(&at) {
                return true;
            }
            let Some(known) = self.nodes.get(&at) else { break };
            at = known.parent;
        }
        false
    }

    fn path(&self, node: u64) -> Result<String> {
        self.path_with(node, &HashMap::new())
    }

    /// The path on the server, if what is said of some entries is true.
    fn path_with(&self, node: u64, said: &HashMap<u64, String>) -> Result<String> {
        let (mut parts, mut at) = (Vec::new(), node);
        while at != ROOT {
            let known = self.known(at)?;
            if let Some(path) = said.get(&at).or_else(|| self.lies.get(&at)) {
                parts.push(path.as_str());
                break;
            }
            parts.push(known.item.name.as_str());
            at = known.parent;
        }
        parts.reverse();
        Ok(parts.join("/"))
    }

    /// Takes note of an entry, and tells its number.
    fn node(&mut self, parent: u64, name: NameBuf, item: Item) -> u64 {
        let fresh = self.next;
        let node = *self.places.entry((parent, name)).or_insert(fresh);
        self.next += u64::from(node == fresh);
        match self.nodes.get_mut(&node) {
            Some(known) => {
                // What it was told to be exactly it still is, as long as the listing says the same as before.
                let is_same = known.item.kind == item.kind && known.listed == item.modified;
                let is_told = known.is_settled(item.modified) || known.looked.is_some_and(|at| at.elapsed() < STILL);
                let stays = is_same && is_told && item.len.is_none_or(|len| known.item.len == Some(len));
                known.listed = item.modified;
                if !stays {
                    (known.item, known.looked) = (item, None);
                }
                known.failed = None;
            }
            None => drop(self.nodes.insert(node, Known::new(parent, item))),
        }
        node
    }
}

impl Inner {
    /// The state when an entry, and all in which it is, has a path on the server.
    fn when_still(&self, node: u64) -> Result<MutexGuard<'_, State>> {
        let until = Instant::now() + self.patience;
        let mut state = lock(&self.state);
        while state.is_moving(node) {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Error::new(ErrorKind::TimedOut, "it is being renamed on the server"));
            }
            state = self.looked.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        Ok(state)
    }

    /// Asks for something at the path of an entry; once more, when it was renamed while it was asked for.
    fn at_path<T>(&self, node: u64, path: String, ask: impl Fn(&str) -> Result<T>) -> Result<T> {
        let ask = |path: &str| self.away.ask(self.patience / 6, || ask(path));
        let mut path = path;
        loop {
            let asked = ask(&path);
            if !asked.as_ref().is_err_and(|e| matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)) {
                return asked;
            }
            let (now, perhaps) = {
                let state = self.when_still(node)?;
                (state.path(node)?, state.path_with(node, &state.unsure)?)
            };
            if now == path {
                return if perhaps == now { asked } else { ask(&perhaps) };
            }
            path = now;
        }
    }

    /// A file, and the path by which it was found.
    fn open_at(&self, node: u64, path: String) -> Result<(String, String, Object)> {
        self.at_path(node, path, |path| {
            let (address, object) = self.share.open(path)?;
            Ok((path.to_owned(), address, object))
        })
    }

    /// The entries of a directory; those that are on their way already are waited for.
    fn listing(&self, dir: u64) -> Result<Listing> {
        let until = Instant::now() + self.patience / 6;
        let mut state = lock(&self.state);
        while state.listing.contains(&dir) {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            state = self.looked.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        drop(state);
        self.fresh_listing(dir)
    }

    fn fresh_listing(&self, dir: u64) -> Result<Listing> {
        let (path, old) = {
            let state = self.when_still(dir)?;
            if !state.known(dir)?.item.is_dir() {
                return Err(Error::new(ErrorKind::NotADirectory, format!("{}: no directory", state.path(dir)?)));
            }
            (state.path(dir)?, state.listings.get(&dir).cloned())
        };
        if let Some(old) = old.as_ref().filter(|old| old.at.elapsed() < FRESH) {
            return Ok(old.clone());
        }
        let begun = Instant::now();
        let items = match (self.at_path(dir, path.clone(), |path| self.share.list(path)), old) {
            (Err(e), Some(old)) if e.is_of_link() => {
                log::warn!("{path}: it is shown as it was: {e}");
                return Ok(old);
            }
            (items, _) => items?,
        };
        if items.len() > ENTRIES {
            return Err(Error::new(ErrorKind::Limit, format!("{path}: more than {ENTRIES} entries")));
        }
        let mut state = lock(&self.state);
        if state.changed.get(&dir).is_some_and(|at| *at >= begun)
            && let Some(newer) = state.listings.get(&dir)
        {
            return Ok(newer.clone());
        }
        let mut entries = BTreeMap::new();
        for item in items {
            match Name::new(item.name.as_bytes()).map(Name::to_owned) {
                Ok(name) => drop(entries.insert(name.clone(), state.node(dir, name, item))),
                Err(e) => log::debug!("{path}: an entry is left out: {e}"),
            }
        }
        let listing = Listing { at: Instant::now(), entries: Arc::new(entries) };
        state.listings.insert(dir, listing.clone());
        Ok(listing)
    }

    /// Takes note of who lists a directory. One behind another is a walk through all of them: the next ones are asked for
    /// meanwhile.
    fn walks(self: &Arc<Self>, dir: u64) {
        let mut state = lock(&self.state);
        let Some(known) = state.nodes.get(&dir).filter(|_| dir != ROOT) else { return };
        let Ok(name) = Name::new(known.item.name.as_bytes()).map(Name::to_owned) else { return };
        let parent = known.parent;
        let before = state.walks.insert(parent, (Instant::now(), name.clone()));
        let is_walk = before.is_some_and(|(at, before)| at.elapsed() < FRESH && before < name);
        let Some(listing) = state.listings.get(&parent).filter(|_| is_walk) else { return };
        let is_dir = |dir: &u64| state.known(*dir).is_ok_and(|known| known.item.is_dir());
        let is_wanted = |dir: &u64| {
            let is_fresh = state.listings.get(dir).is_some_and(|listing| listing.at.elapsed() < FRESH);
            !is_fresh && !state.listing.contains(dir)
        };
        let behind = listing.entries.range((Bound::Excluded(name), Bound::Unbounded)).map(|(_, dir)| *dir);
        let next: Vec<u64> = behind.take(AHEAD_IN).filter(is_dir).take(AHEAD).filter(is_wanted).collect();
        state.listing.extend(&next);
        drop(state);
        for dir in next {
            let ahead = Ahead { inner: self.clone(), dir };
            self.fleet.send(true, move || {
                // Who asks for it himself is told what is wrong with it.
                let _ = ahead.inner.fresh_listing(ahead.dir);
            });
        }
    }

    /// What a file is, exactly. Those beside it that are not known either are asked for at once: who asks for one of them
    /// mostly asks for all.
    fn exact(self: &Arc<Self>, node: u64) -> Result<Item> {
        let until = Instant::now() + self.patience;
        let is_told =
            |state: &State| state.known(node).map(|known| known.item.kind != Kind::File || known.item.len.is_some());
        let mut state = lock(&self.state);
        if !is_told(&state)? {
            drop(state);
            state = self.when_still(node)?;
        }
        loop {
            let known = state.known(node)?;
            if known.item.kind != Kind::File || known.item.len.is_some() {
                return Ok(known.item.clone());
            }
            if let Some((_, kind, what)) = known.failed.as_ref().filter(|(at, ..)| at.elapsed() < FRESH) {
                return Err(Error::new(*kind, what.clone()));
            }
            if !state.looking.contains(&node) {
                self.look(&mut state, node)?;
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Error::new(ErrorKind::TimedOut, "the server did not answer in time"));
            }
            state = self.looked.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn look(self: &Arc<Self>, state: &mut State, node: u64) -> Result<()> {
        let parent = state.known(node)?.parent;
        let mut wanted = vec![node];
        if let Some(listing) = state.listings.get(&parent) {
            let is_unknown = |n: &u64| {
                let known = state.known(*n).ok();
                let is_open =
                    known.is_some_and(|k| k.item.kind == Kind::File && k.item.len.is_none() && k.failed.is_none());
                is_open && *n != node && !state.looking.contains(n)
            };
            let behind = Name::new(state.known(node)?.item.name.as_bytes())?.to_owned();
            let others = listing.entries.range((Bound::Excluded(behind), Bound::Unbounded)).map(|(_, n)| *n);
            wanted.extend(others.take(BESIDE * 4).filter(is_unknown).take(BESIDE - 1));
        }
        for node in wanted {
            state.looking.insert(node);
            let (inner, path) = (self.clone(), state.path(node)?);
            self.fleet.send(false, move || {
                let looked = inner.at_path(node, path.clone(), |path| inner.share.look(path));
                let mut state = lock(&inner.state);
                state.looking.remove(&node);
                if let Some(known) = state.nodes.get_mut(&node) {
                    match looked {
                        Ok(Item { len: Some(len), modified, .. }) => known.is_now(len, modified),
                        Ok(_) => {
                            let what = format!("{path}: the server does not tell its length");
                            known.failed = Some((Instant::now(), ErrorKind::Unsupported, what));
                        }
                        Err(e) => known.failed = Some((Instant::now(), e.kind(), e.to_string())),
                    }
                }
                drop(state);
                inner.looked.notify_all();
            });
        }
        Ok(())
    }
}

/// A directory that is listed ahead. However that ends, nobody waits for it any longer.
struct Ahead {
    inner: Arc<Inner>,
    dir: u64,
}

impl Drop for Ahead {
    fn drop(&mut self) {
        lock(&self.inner.state).listing.remove(&self.dir);
        self.inner.looked.notify_all();
    }
}

impl Tree for ShareTree {
    fn root(&self) -> Node {
        Node(ROOT)
    }

    fn find(&self, dir: Node, name: Name<'_>) -> Result<Option<Node>> {
        Ok(self.0.listing(dir.0)?.entries.get(name.bytes()).copied().map(Node))
    }

    fn attr(&self, node: Node) -> Result<Attr> {
        let item = self.0.exact(node.0)?;
        let mode = match (item.mode, item.kind) {
            (Some(mode), _) => mode & 0o7777,
            (None, Kind::Directory) => 0o755,
            (None, Kind::Symlink) => 0o777,
            (None, _) => 0o644,
        };
        let ((uid, gid), size) = (item.owner.unwrap_or(self.0.owner), item.len.unwrap_or(0));
        let attr = Attr::new(item.kind, mode, item.modified.unwrap_or_default());
        Ok(Attr { uid, gid, size, allocated: size, ..attr })
    }

    fn list(&self, dir: Node, after: Option<Name<'_>>, visit: &mut Visit<'_>) -> Result<()> {
        self.0.walks(dir.0);
        let listing = self.0.listing(dir.0)?;
        let begin = after.map_or(Bound::Unbounded, |name| Bound::Excluded(name.to_owned()));
        for (name, node) in listing.entries.range((begin, Bound::Unbounded)) {
            let kind = lock(&self.0.state).known(*node)?.item.kind;
            if let ControlFlow::Break(()) = visit(name.as_name(), Node(*node), kind) {
                break;
            }
        }
        Ok(())
    }

    fn target(&self, link: Node) -> Result<Vec<u8>> {
        let path = {
            let state = self.0.when_still(link.0)?;
            if state.known(link.0)?.item.kind != Kind::Symlink {
                return Err(Error::new(ErrorKind::Invalid, format!("{}: it is no symbolic link", state.path(link.0)?)));
            }
            state.path(link.0)?
        };
        self.0.at_path(link.0, path, |path| self.0.share.target(path))
    }

    fn open(&self, file: Node) -> Result<Arc<dyn ReadAt>> {
        let path = {
            let mut state = self.0.when_still(file.0)?;
            if state.known(file.0)?.item.is_dir() {
                return Err(Error::new(ErrorKind::IsADirectory, format!("{}: a directory", state.path(file.0)?)));
            }
            if let Some((at, bytes)) = state.opened.get(&file.0)
                && at.elapsed() < FRESH
                && !bytes.is_changed()
            {
                return Ok(bytes.clone());
            }
            state.path(file.0)?
        };
        let (at, address, object) = self.0.open_at(file.0, path)?;
        let (len, modified) = (object.len, object.modified);
        let bytes = (self.0.opener)(&address, object)?;
        let bytes: Arc<dyn ReadAt> = match self.0.share.writes() {
            Some(_) => Arc::new(Followed::new(self, file, bytes, len, at)),
            None => bytes,
        };
        let mut state = lock(&self.0.state);
        if let Some(known) = state.nodes.get_mut(&file.0) {
            known.is_now(len, modified);
        }
        state.opened.put(file.0, (Instant::now(), bytes.clone()));
        Ok(bytes)
    }

    fn totals(&self) -> Result<Totals> {
        let state = lock(&self.0.state);
        let bytes = state.nodes.values().filter_map(|known| known.item.len).sum();
        Ok(Totals { nodes: state.nodes.len() as u64, bytes, stored: bytes })
    }

    fn is_frozen(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests;
