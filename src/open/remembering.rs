//! A writer whose states are remembered as seen: what this program has written itself must not look like a later copy of
//! somebody else, and an earlier copy must not pass for it.
//!
//! ```text
//!   commit, commit, commit      nothing: no fsync waits for it
//!   when nobody writes          the newest state is remembered, if it is signed or sealed
//!   when it is let go           the same
//! ```

use super::trust::Trust;
use crate::error::Result;
use crate::formats::{Give, Holds, Root, Settled, Watch, Writer};
use crate::tree::{Changes, Difference, Tree};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

/// A writer, and who remembers what it wrote.
pub struct Remembering {
    inner: Arc<dyn Writer>,
    trust: Trust,
}

impl Remembering {
    pub fn new(inner: Arc<dyn Writer>, trust: Trust) -> Self {
        Self { inner, trust }
    }

    fn remember(&self) {
        if let Some(root) = self.inner.root() {
            self.trust.made(&root).unwrap_or_else(|e| log::warn!("the newest state is not remembered: {e}"));
        }
    }
}

impl Drop for Remembering {
    fn drop(&mut self) {
        self.remember();
    }
}

impl Writer for Remembering {
    fn first_new_node(&self) -> u64 {
        self.inner.first_new_node()
    }

    fn reserve(&self, bytes: u64, entries: u64) -> Result<()> {
        self.inner.reserve(bytes, entries)
    }

    fn commit(&self, changes: &Changes) -> Result<Arc<dyn Tree>> {
        self.inner.commit(changes)
    }

    fn name_state(&self, name: &str, keep: bool) -> Result<()> {
        self.inner.name_state(name, keep)
    }

    fn upkeep(&self, when: Give, show: &mut dyn FnMut(Arc<dyn Tree>)) -> Result<u64> {
        self.inner.upkeep(when, show)
    }

    fn settle(&self, watch: &dyn Watch, show: &mut dyn FnMut(Arc<dyn Tree>)) -> Result<Settled> {
        self.inner.settle(watch, show)
    }

    fn protect(&self, watch: &dyn Watch) -> Result<()> {
        let protected = self.inner.protect(watch);
        self.remember();
        protected
    }

    fn unsettled(&self) -> Settled {
        self.inner.unsettled()
    }

    fn restore(&self, state: &str) -> Result<()> {
        self.inner.restore(state)
    }

    fn differences(&self) -> Result<BTreeMap<Vec<u8>, Difference>> {
        self.inner.differences()
    }

    fn settling(&self) -> Option<(u64, u64)> {
        self.inner.settling()
    }

    fn compact(&self, watch: &dyn Watch) -> Result<()> {
        self.inner.compact(watch)
    }

    fn holds(&self) -> &'static Holds {
        self.inner.holds()
    }

    fn root(&self) -> Option<Root> {
        self.inner.root()
    }

    fn sequence(&self) -> u64 {
        self.inner.sequence()
    }

    fn refuge(&self) -> Option<PathBuf> {
        self.inner.refuge()
    }

    fn free(&self) -> Result<u64> {
        self.inner.free()
    }
}
