//! Space that nothing needs any more is given back: what is needed at the end of the file is written together once more, and
//! the file is cut off behind it. No medium needs holes for that.
//!
//! ```text
//!   found   │ needed, mostly │░ live ░░░ live ░░░ COMMIT│
//!   up      │ needed, mostly │░░░░░░░░░░░░░░░░░░░░░░░░░░│ live live COMMIT │     appended, as every commit is; segments
//!           │                                                                     only when there is no room for `down`
//!   down    │ needed, mostly │ live live COMMIT │░░░░░░░│ live live COMMIT │     over what nobody needs
//!           │ needed, mostly │ live live COMMIT │                                cut off
//! ```
//!
//! Each step leaves a file whose last commit is whole, and all of them are the same state. What is needed is what the
//! newest state needs, and the earlier ones that are kept: their records are written anew as well, since segments and
//! tables change their places, and tables say where segments are.
//!
//! A part is only written anew when it holds more that is not needed than that is. So at most two
//! bytes are copied for each that was thrown away, and a file is at most twice what it needs, and the slack.

mod copy;
mod needed;

use super::super::past::Past;
use super::room::RESERVE;
use super::{StWriter, State};
use crate::error::Result;
use crate::formats::{Give, States, Upkeep, Writer};
use crate::tree::Tree;
use needed::{Plan, Step};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

pub(super) use needed::STATES;

/// How often, and how long each time, it is waited for those who still read what is to be overwritten.
const WAITS: u32 = 100;
const WAIT: Duration = Duration::from_millis(1);

impl State {
    fn is_due(&self, end: u64) -> bool {
        let commit = &self.commit;
        end >= self.check_at || commit.head.seq.get() >= self.check_seq || commit.totals.bytes.get() < self.check_below
    }

    /// Looks again when so many bytes more are written, or fewer are in files, or when there are many more states.
    fn look_later(&mut self, end: u64, bytes: u64) {
        self.check_at = end + bytes;
        self.check_seq = self.commit.head.seq.get() + STATES as u64 / 2;
        self.check_below = self.commit.totals.bytes.get().saturating_sub(bytes);
    }
}

impl StWriter {
    /// Gives space back, see [`Writer::upkeep`](crate::formats::Writer::upkeep).
    pub(super) fn clean(&self, when: Give, show: &mut dyn FnMut(Arc<dyn Tree>)) -> Result<u64> {
        let before = self.end.load(Relaxed);
        let mut state = self.state();
        if state.commit.signer.is_some() && self.signing.key().is_none() {
            // The newest state would be written anew, and lose its signature.
            return Ok(0);
        }
        let full = match when {
            Give::Worthwhile => false,
            Give::Tight if before < state.tight_at || !self.is_tight() => return Ok(0),
            Give::Tight | Give::All => true,
        };
        let upkeep = if full { Upkeep::nothing(0) } else { self.upkeep };
        let sequence = state.commit.head.seq.get();
        if full && std::mem::replace(&mut state.looked_full, sequence) == sequence {
            return Ok(0);
        }
        if !full && !state.is_due(before) {
            return Ok(0);
        }
        if !self.store.exclude_readers()? {
            state.look_later(before, upkeep.slack / 16);
            return Ok(0);
        }
        let cleaned = self.steps(&mut state, &upkeep, show);
        self.store.admit_readers();
        if cleaned.is_err() {
            // Not at each commit anew.
            state.look_later(self.end.load(Relaxed), upkeep.slack / 2);
        }
        state.tight_at = self.end.load(Relaxed) + RESERVE / 8;
        cleaned.map(|()| before.saturating_sub(self.end.load(Relaxed)))
    }

    /// Whether not much is left of what is kept free, and no more can be had.
    fn is_tight(&self) -> bool {
        self.promised(0) < RESERVE / 4 * 3 && self.reserve(0, 0).is_err()
    }

    fn steps(&self, state: &mut State, upkeep: &Upkeep, show: &mut dyn FnMut(Arc<dyn Tree>)) -> Result<()> {
        // One step up and one down, and what is left then.
        let mut begun = None;
        for _ in 0..4 {
            state.forget();
            if !all_gone(state, &self.past) {
                state.look_later(self.end.load(Relaxed), upkeep.slack / 16);
                break;
            }
            let Some(plan) = self.plan(state, upkeep, begun)? else { break };
            let step = plan.step();
            log::debug!("{}: {step:?}: {} bytes from {} on", self.name, plan.len, plan.start);
            match step {
                Step::Down => self.move_down(state, &plan, show)?,
                _ => self.move_up(state, &plan, step == Step::Up, show)?,
            }
            // What was made room for is written there.
            begun = (step != Step::Down).then_some(plan.start);
        }
        Ok(())
    }

    fn move_up(
        &self,
        state: &mut State,
        plan: &Plan,
        segments: bool,
        show: &mut dyn FnMut(Arc<dyn Tree>),
    ) -> Result<()> {
        state.forget_parity(plan.start);
        let (commit, tables, end) = self.write_anew(state, plan, self.end.load(Relaxed), u64::MAX, segments)?;
        show(self.take_over(state, commit, tables, end));
        Ok(())
    }

    fn move_down(&self, state: &mut State, plan: &Plan, show: &mut dyn FnMut(Arc<dyn Tree>)) -> Result<()> {
        state.forget_parity(plan.start);
        self.medium.healing.found(state.newest_parity(), None);
        let (commit, tables, end) = self.write_anew(state, plan, plan.start, plan.first, true)?;
        let _nobody_reserves = self.reserving();
        let promised = self.promised(0);
        let before = (state.commit.clone(), state.tables.clone(), self.end.load(Relaxed));
        // Places of before are used again: what is cached of them is not theirs.
        state.blocks = self.cache.new_owner();
        show(self.take_over(state, commit, tables, end));
        let cut = match all_gone(state, &self.past) {
            true => self.store.set_len(end).map(|()| true),
            false => Ok(false),
        };
        if !matches!(cut, Ok(true)) {
            // The file still ends with the commit of before.
            let (commit, tables, end) = before;
            state.blocks = self.cache.new_owner();
            show(self.take_over(state, commit, tables, end));
            return cut.map(drop);
        }
        // Both are the same state. Which of them a power failure leaves does not matter.
        self.store.sync().unwrap_or_else(|e| log::warn!("{}: {e}", self.name));
        self.promise_again(end, promised);
        Ok(())
    }
}

/// Waits a moment for those who still read by an earlier index.
fn all_gone(state: &mut State, past: &Past) -> bool {
    for _ in 0..WAITS {
        let own = Arc::as_ptr(&state.index);
        state.former.retain(|index| index.strong_count() > 0 && index.as_ptr() != own);
        if state.former.is_empty() && past.held() == 0 {
            return true;
        }
        std::thread::sleep(WAIT);
    }
    false
}
