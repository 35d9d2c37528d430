//! Hard links: of all names of one inode the first that a worker comes to is written, the others become links to it.
//!
//! A worker that comes to an inode at which another one is writing waits for it. The writer waits for nobody, so nobody
//! waits for ever. If it fails, the next one tries.

use super::dirs::Place;
use crate::pool::lock;
use crate::tree::Node;
use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, PoisonError};

#[derive(Default)]
pub struct Links(Mutex<HashMap<Node, Arc<Inode>>>);

#[derive(Default)]
struct Inode {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    busy: bool,
    made: Option<Place>,
    /// Names that were claimed.
    seen: u32,
}

/// What to do about a name of an inode.
pub enum Claim {
    /// Write it, and say where it is.
    Write(Turn),
    /// Make it a link to this; if that is impossible, write it all the same.
    Link(Place, Turn),
}

/// The right to write an inode. Dropped without [`Turn::made`], it goes to the next.
pub struct Turn(Arc<Inode>);

impl Links {
    /// Claims one more name of an inode that has `names` of them.
    pub fn claim(&self, node: Node, names: u32) -> Claim {
        let inode = lock(&self.0).entry(node).or_default().clone();
        let mut state = lock(&inode.state);
        while state.busy {
            state = inode.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.busy = true;
        state.seen += 1;
        if state.seen >= names {
            // Nobody else will ask.
            lock(&self.0).remove(&node);
        }
        let made = state.made.clone();
        drop(state);
        match made {
            Some(place) => Claim::Link(place, Turn(inode)),
            None => Claim::Write(Turn(inode)),
        }
    }
}

impl Turn {
    /// The inode was written here.
    pub fn made(self, place: Place) {
        lock(&self.0.state).made = Some(place);
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        lock(&self.0.state).busy = false;
        self.0.changed.notify_one();
    }
}
