//! Changes of any tree in a directory beside it: the base is only read, and what was changed lies in clear.
//!
//! ```text
//!   mount     Merged { Renumbered { Laid { base, changes, contents in the directory } }, changes in the journal }
//!
//!   DIR/journal     what fsync waits for, batch behind batch        the writer is a `Journaled`, as for archives
//!   DIR/files/…     contents of changed and new files, in clear     what the journal is brought into, when nothing was
//!   DIR/changes     names, attributes, what is gone                 written for a while, at the unmount, by `commit`
//!   DIR/new/…       contents on their way
//! ```
//!
//! What is different from an archive: numbers of inodes stay when changes are brought in, since the tree that comes after is the
//! one before with more laid over it. A base may be a folder, whose numbers are others each time, or have more entries than one
//! would like to look at twice; so nothing is aligned by walking it. And what lasts names inodes of the base by their paths: see
//! `base`. That is also what lets a patch fit the same archive on another machine.
//!
//! The steps of a settling, and why it is whole or not at all: see `roll`. A failure behind the switch is none: what is below
//! `new` is read from there, and the next settling does the steps that are left.
//!
//! ```text
//!  base    the tree below, with paths        state   the file `changes`          dir     the directory
//!  laid    both as one tree                  settle  journal -> directory        roll    from one state to the next
//!  paths   where inodes are now              equal   what is as in the base      spots   names for contents
//!  check   states of others                  diff    what has changed            reset   back to the base, in part
//!  patch   taken along and laid elsewhere
//! ```
#![doc = include_str!("FORMAT.md")]

mod base;
mod check;
mod diff;
mod dir;
mod equal;
mod laid;
mod patch;
mod paths;
mod reset;
mod roll;
mod settle;
mod spots;
mod state;

pub use base::Base;
pub use diff::{Change, What, diff};
pub use dir::{Before, CHANGES, Dir, FILES, JOURNAL, LOCK, NEW};
pub use patch::{Lies as Contents, to_patch};
pub use reset::reset_all;
pub use state::{Belongs, CHANGES_MAX, Canonical, Spot, State};

use super::{Holds, Lasting};
use crate::error::{Error, Kind, Result, Within};
use crate::pool::lock;
use crate::source::{Held, Memory, Stamp};
use crate::tree::{Changes, Kind as NodeKind, Merged, Name, Node, Time, Tree, find_path, path_display};
use laid::{Files, Laid, Lies};
use std::collections::HashMap;
use std::sync::{Arc, Mutex};

/// Inodes of a base have smaller numbers; those that are new begin here.
pub const FIRST_NEW: u64 = 1 << 56;

/// An overlay that is held, over its base.
pub struct Overlay {
    dir: Dir,
    base: Arc<Base>,
    files: Arc<Files>,
    /// The base as it was found this time.
    belongs: Belongs,
    now: Mutex<Now>,
    /// Keeps others out.
    _held: Option<Held>,
}

/// What is stored.
struct Now {
    state: State,
    changes: Changes,
    spots: HashMap<Node, Spot>,
    /// The numbers that new inodes have in the state.
    numbers: HashMap<Node, u64>,
    stamp: Stamp,
    /// Steps that could not be done yet.
    left: Vec<state::Move>,
}

/// Puts a name behind a path.
pub(crate) fn join(path: &mut Vec<u8>, name: &[u8]) {
    if !path.is_empty() {
        path.push(b'/');
    }
    path.extend_from_slice(name);
}

/// Whether a path stays below where it begins.
fn is_inside(path: &[u8]) -> bool {
    path.split(|b| *b == b'/').all(|name| Name::new(name).is_ok())
}

/// The state that a directory has; the one of an overlay that is new when there is nothing in it.
///
/// # Errors
/// `Exists` when something else is in the directory.
pub fn load(dir: &Dir, belongs: &Belongs) -> Result<State> {
    if let Some(state) = stored(dir)? {
        return Ok(state);
    }
    if !dir.is_fresh()? {
        let what = format!("{} is not empty, and is no overlay", dir.path().display());
        return Err(Error::new(Kind::Exists, what).hint("an empty directory, or one that is not there yet"));
    }
    dir.make()?;
    let state = State::new(belongs.clone(), 0);
    dir.write_changes(&state.encode())?;
    Ok(state)
}

/// The state that a directory has, if it is an overlay.
pub fn stored(dir: &Dir) -> Result<Option<State>> {
    let decoded = dir.read_changes()?.map(|bytes| State::decode(&bytes)).transpose();
    decoded.within(|| format!("the overlay {}", dir.path().display()))
}

/// Ends what was interrupted. The base need not be there.
pub fn end(dir: &Dir, mut state: State) -> Result<State> {
    let moves = std::mem::take(&mut state.moves);
    match roll::finish(dir, &state, &moves).failed {
        None => Ok(state),
        Some(e) => Err(e.within(format!("the overlay {}", dir.path().display()))),
    }
}

/// The fingerprint of `changes`, by which the journal knows it.
fn stamp_of(state: &State) -> Result<Stamp> {
    Stamp::of(&Memory::new(state.encode()))
}

/// Refuses an overlay of another base.
pub fn fits(dir: &Dir, state: &State, base: &Belongs) -> Result<()> {
    let (name, shown) = (path_display(&base.path), dir.path().display());
    if state.belongs.print != base.print {
        let what = format!("the overlay {shown} belongs to another state of {name}");
        let hint = match state.is_committing {
            true => format!(
                "`stmount overlay commit` was interrupted: if {name} has the changes, `stmount overlay reset {shown}` ends it; \
                 else put {name} back as it was"
            ),
            false => format!("put {name} back as it was; or another directory for the changes; nothing was touched"),
        };
        return Err(Error::new(Kind::Changed, what).hint(hint));
    }
    if state.belongs.how != base.how {
        let words = |how: &str| if how.is_empty() { "without options".to_owned() } else { format!("with {how}") };
        let what = format!("the overlay {shown} was made over {name} {}", words(&state.belongs.how));
        return Err(Error::new(Kind::Changed, what).hint("the same options as then: they change the names of files"));
    }
    Ok(())
}

impl Overlay {
    /// Opens an overlay over a base that it fits. What was interrupted is ended first.
    pub fn open(dir: Dir, held: Option<Held>, found: (State, Belongs), base: Arc<dyn Tree>) -> Result<Self> {
        let (state, belongs) = found;
        dir.make()?;
        let state = end(&dir, state)?;
        let base = Arc::new(Base::new(base));
        let (mut changes, spots) = resolve(&state, &base)?;
        check::check(&changes, &base).within(|| dir.path().display().to_string())?;
        let files = Arc::new(Files::default());
        for (node, spot) in &spots {
            let lies = match spot {
                Spot::Clear { path, .. } => Lies::Clear(path.clone()),
                Spot::Base { path } => Lies::Base(find_path(&*base, path)?),
            };
            files.write().insert(*node, lies);
            take_over(&dir, &mut changes, *node, spot);
        }
        let numbers = (0..state.next).map(|number| (Node(FIRST_NEW + number), number)).collect();
        let now = Now { stamp: stamp_of(&state)?, state, changes, spots, numbers, left: Vec::new() };
        Ok(Self { dir, base, files, belongs, now: Mutex::new(now), _held: held })
    }

    /// The base with all that is in the directory.
    pub fn tree(&self) -> Arc<dyn Tree> {
        self.laid(&lock(&self.now).changes)
    }

    fn laid(&self, changes: &Changes) -> Arc<dyn Tree> {
        let (base, files, dir) = (self.base.clone(), self.files.clone(), self.dir.clone());
        Arc::new(Laid { merged: Merged::new(base.clone(), changes.clone()), base, files, dir })
    }

    /// From this number on, nodes are new.
    pub fn first_new(&self) -> u64 {
        FIRST_NEW + lock(&self.now).state.next
    }

    pub fn dir(&self) -> &Dir {
        &self.dir
    }

    pub fn state(&self) -> State {
        lock(&self.now).state.clone()
    }

    /// Contents of changed files that are not where they should be.
    pub fn missing(&self) -> Vec<Vec<u8>> {
        let now = lock(&self.now);
        let clear = now.spots.values().filter_map(|spot| match spot {
            Spot::Clear { path, .. } => Some(path.clone()),
            Spot::Base { .. } => None,
        });
        clear.filter(|path| self.dir.seen(path).is_none()).collect()
    }
}

/// The changes of a state, with the numbers that inodes have in a base.
fn resolve(state: &State, base: &Base) -> Result<(Changes, HashMap<Node, Spot>)> {
    let found = state.paths.iter().map(|path| {
        find_path(base, path).map_err(|e| {
            let what = format!("the overlay has changes to {}, which the base has not", path_display(path));
            Error::new(Kind::Changed, what).caused_by(e)
        })
    });
    let found = found.collect::<Result<Vec<Node>>>()?;
    let number = |node: Node| if Base::has(node) { found[node.0 as usize] } else { node };
    let canonical = state.changes()?;
    let mut changes = renumbered(canonical.changes, number);
    let spots: HashMap<Node, Spot> = canonical.spots.into_iter().map(|(node, spot)| (number(node), spot)).collect();
    if !spots.keys().all(|node| is_file(&changes, *node)) {
        return Err(Error::new(Kind::Damaged, "the overlay has contents of what is no file"));
    }
    for (node, inode) in &mut changes.nodes {
        let Some(inode) = inode else { continue };
        for time in [&mut inode.attr.mtime, &mut inode.attr.atime, &mut inode.attr.ctime] {
            time.nanos %= 1_000_000_000;
        }
        if inode.attr.kind == NodeKind::File && !spots.contains_key(node) {
            inode.attr.size = if Base::has(*node) { base.attr(*node)?.size } else { 0 };
        }
    }
    Ok((changes, spots))
}

/// Changes with other numbers.
pub fn renumbered(changes: Changes, number: impl Fn(Node) -> Node) -> Changes {
    let nodes = changes.nodes.into_iter().map(|(node, inode)| (number(node), inode)).collect();
    let names = changes.names.into_iter().map(|(dir, names)| {
        let names = names.into_iter().map(|(name, to)| (name, to.map(|(node, kind)| (number(node), kind))));
        (number(dir), names.collect())
    });
    Changes { nodes, names: names.collect() }
}

/// Contents that somebody has changed in the directory count as they are.
pub fn take_over(dir: &Dir, changes: &mut Changes, node: Node, spot: &Spot) {
    let Spot::Clear { path, size, mtime } = spot else { return };
    let Some(Some(inode)) = changes.nodes.get_mut(&node) else { return };
    if let Some((now, time)) = dir.seen(path)
        && (now, time) != (*size, *mtime)
    {
        (inode.attr.size, inode.attr.allocated) = (now, now);
        inode.attr.mtime = Time { secs: time.0, nanos: time.1 };
    }
}

/// In a journal, the path of an inode that is new in the state begins so: no other path does.
const NUMBER: u8 = 0;

impl Lasting for Overlay {
    fn paths(&self, nodes: &[Node]) -> Result<Vec<(u64, Vec<u8>)>> {
        let (of_base, new): (Vec<Node>, Vec<Node>) = nodes.iter().partition(|node| Base::has(**node));
        let mut paths = self.base.paths(&of_base)?;
        let now = lock(&self.now);
        let named = new.into_iter().filter_map(|node| {
            let number = now.numbers.get(&node)?;
            Some((node.0, [&[NUMBER], number.to_string().as_bytes()].concat()))
        });
        Ok(of_base.iter().filter_map(|node| Some((node.0, paths.remove(node)?))).chain(named).collect())
    }

    fn find(&self, path: &[u8]) -> Result<Node> {
        let Some((&NUMBER, digits)) = path.split_first() else { return find_path(&*self.base, path) };
        let number = std::str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok());
        let number = number.filter(|number| *number < lock(&self.now).state.next);
        number
            .map(|number: u64| Node(FIRST_NEW + number))
            .ok_or_else(|| Error::new(Kind::Damaged, "the journal speaks of an inode that is not in the overlay"))
    }
}

/// All that a mount can ask for has its place in `changes`.
const HOLDS: &Holds = &Holds::EVERYTHING;

/// Whether an inode is a file that has a name.
fn is_file(changes: &Changes, node: Node) -> bool {
    matches!(changes.nodes.get(&node), Some(Some(inode)) if inode.attr.kind == NodeKind::File)
}
