//! Open directories, the few that were used last.
//!
//! Everything in a folder is reached from the directory that holds it, never by a path from the top: a path may be too
//! long for the kernel, and between two calls somebody may put a symbolic link into it.

use crate::pool::lock;
use rustix::fd::OwnedFd;
use std::sync::{Arc, Mutex};

/// How many directories stay open. A walk needs the one it is in and those above it.
const KEPT: usize = 64;

/// Directories by node, the last used in front.
#[derive(Default)]
pub struct Places(Mutex<Vec<(u32, Arc<OwnedFd>)>>);

impl Places {
    pub fn get(&self, dir: u32) -> Option<Arc<OwnedFd>> {
        let mut kept = lock(&self.0);
        let at = kept.iter().position(|(node, _)| *node == dir)?;
        kept[..=at].rotate_right(1);
        Some(kept[0].1.clone())
    }

    pub fn put(&self, dir: u32, fd: Arc<OwnedFd>) {
        let mut kept = lock(&self.0);
        kept.retain(|(node, _)| *node != dir);
        kept.truncate(KEPT - 1);
        kept.insert(0, (dir, fd));
    }
}
