//! Other keys for a container that is written to.
//!
//! ```text
//!   … KEYS KEYS COMMIT … │ KEYS KEYS COMMIT       the COMMIT names the keys before it; until it is durable, the old ones count
//!      ▲─ the old ones stay where they are, for who knows where to look
//! ```

use super::super::keys::KeySet;
use super::super::locks;
use super::super::seal::{Seal, Sealing};
use super::{StWriter, Tail};
use crate::error::{Error, Kind, Result, Within};
use crate::tree::Changes;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

impl StWriter {
    /// What the container is sealed with, by its newest keys.
    pub fn seal(&self) -> Option<Arc<Seal>> {
        self.state().sealing.seal().cloned()
    }

    /// What a new container is sealed with that holds the same: it opens with the same keys.
    pub fn heir(&self) -> Result<Option<Arc<Seal>>> {
        self.seal().map(|seal| seal.heir().map(Arc::new)).transpose()
    }

    /// From this commit on, these keys open the container.
    ///
    /// # Errors
    /// `Usage` when it is not sealed. Whatever fails, the keys of before still count.
    pub fn commit_keys(&self, keys: KeySet) -> Result<()> {
        self.append_keys(keys).within(|| &self.name)
    }

    fn append_keys(&self, keys: KeySet) -> Result<()> {
        let mut state = self.state();
        let before = state.sealing.seal().cloned();
        let before = before.ok_or_else(|| Error::new(Kind::Usage, "it is not sealed, and has no keys"))?;
        let seal = Arc::new(before.with_keys(keys)?);
        let (start, seq, last_commit) = (self.end.load(Relaxed), state.commit.head.seq.get() + 1, state.commit.record);
        self.untidy.store(true, Relaxed);
        let mut commit = self.next_commit(&state, seq, state.commit.totals, &Changes::default())?;
        let mut tail = Tail { store: &*self.store, start, pending: Vec::new(), written: 0 };
        let mut log = self.log(&mut tail, commit.head.uid, start, (seq, last_commit));
        commit.head.keys = locks::append(&mut log, &seal)?.into();
        commit.record = log.at();
        let tables = state.tables.clone();
        let end = self.write_commit(tail, &mut commit, last_commit)?;
        state.sealing = Sealing::of(seal);
        self.take_over(&mut state, commit, tables, end);
        Ok(())
    }
}
