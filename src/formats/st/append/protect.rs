//! Parity of a container that is written to: brought up to date when nobody writes, and what was found damaged is put
//! right.
//!
//! ```text
//!   … COMMIT │ PARITY │ SEG TABLE COMMIT │ SEG TABLE COMMIT              no fsync waits for it
//!   … COMMIT │ PARITY │ SEG TABLE COMMIT │ SEG TABLE COMMIT │ PARITY     when nothing was written for a while, at the end
//! ```

use super::super::commit;
use super::super::parity::{self, Behind, Policy};
use super::super::rows::meta_key;
use super::{StWriter, State};
use crate::codec::id::Id;
use crate::error::{Error, Kind, Result};
use crate::formats::Watch;
use crate::source::ReadAt;
use crate::source::parity::{Group, Piece, Plan};
use std::ops::Range;
use std::sync::atomic::Ordering::Relaxed;

/// What the descriptors of parity take, or a commit that says how much there is to be, and more.
const SPARE: u64 = 64 << 10;

/// Damage is mended in steps of so many bytes.
const MEND_STEP: u64 = 64 << 10;

impl State {
    /// Where the body of the newest group is, 0 for none.
    pub(super) fn newest_parity(&self) -> u64 {
        self.groups.last().map_or(0, Group::body_at)
    }

    /// Knows only of groups whose records end before a place: what is behind it is written over.
    pub(super) fn forget_parity(&mut self, from: u64) {
        self.groups.retain(|group| group.body().end <= from);
    }
}

impl StWriter {
    /// Says how much parity the container is to have from now on, where somebody says it, and covers all of it.
    pub fn add_parity(&self, given: Option<Policy>, watch: &dyn Watch) -> Result<()> {
        let mut state = self.state();
        let known = self.policy(&state)?;
        let policy = given.or(known).unwrap_or_default();
        if known != Some(policy) {
            // What another amount covers is covered anew, and does not stay.
            self.make_room(&state, policy)?;
            self.cut_parity(&mut state)?;
            drop(state);
            self.commit_names(parity::row(Some(policy)), Vec::new())?;
        } else {
            drop(state);
        }
        self.mend(watch)
    }

    /// Takes all parity away. What of it is at the end of the file is given back.
    pub fn drop_parity(&self) -> Result<()> {
        let mut state = self.state();
        self.cut_parity(&mut state)?;
        let known = self.policy(&state)?.is_some();
        drop(state);
        if known { self.commit_names(Vec::new(), vec![meta_key(parity::POLICY)]) } else { Ok(()) }
    }

    /// Refuses parity that there is no room for, before anything is changed.
    fn make_room(&self, state: &State, policy: Policy) -> Result<()> {
        let (end, commit_end) = (self.end.load(Relaxed), commit::end(&self.medium, &state.commit)?);
        let plan = Plan::of(0..commit_end + SPARE, policy.share, policy.algorithm)?;
        let room = self.store.free()?.saturating_add(end.saturating_sub(commit_end));
        if room < plan.body_len() + SPARE {
            return Err(Error::new(Kind::NoSpace, format!("the parity would take {} bytes", plan.body_len())));
        }
        Ok(())
    }

    /// Takes away the parity behind the last commit, and knows of no other.
    fn cut_parity(&self, state: &mut State) -> Result<()> {
        let (end, commit_end) = (self.end.load(Relaxed), commit::end(&self.medium, &state.commit)?);
        state.groups.clear();
        self.medium.healing.found(0, None);
        if commit_end < end { self.cut_behind(commit_end) } else { Ok(()) }
    }

    fn policy(&self, state: &State) -> Result<Option<Policy>> {
        state.index.meta(parity::POLICY)?.map(|value| Policy::decode(&value)).transpose()
    }

    /// Writes what was found damaged, and what parity covers nothing yet; then all of it is covered.
    pub(super) fn mend(&self, watch: &dyn Watch) -> Result<()> {
        let mut state = self.state();
        self.write_healed()?;
        match self.policy(&state)? {
            Some(policy) => self.cover(&mut state, policy, watch),
            None => Ok(()),
        }
    }

    /// Puts right in the file what was made good in memory when it was read.
    fn write_healed(&self) -> Result<()> {
        let healing = &self.medium.healing;
        let (noted, repair_all, mut written) = (healing.noted(), healing.take_repair_all(), 0);
        if noted.is_empty() && !repair_all {
            return Ok(());
        }
        let Some(mender) = healing.mender(self.medium.source(), &self.medium.uid) else { return Ok(()) };
        if repair_all {
            let mut write = |piece: Piece| self.store.write_at(piece.at, &piece.bytes);
            let found = mender.survey_all(&|_| true)?;
            mender.repairs(&found, &|_| true, &mut write)?;
            log::info!(
                "{}: {} damaged cells were written as they were",
                self.name,
                found.report.bad_cells - found.report.lost_cells
            );
        }
        for (at, piece) in noted {
            let mut bytes = vec![0; piece.len as usize];
            // What it was part of may have been given back since.
            if mender.read_exact_at(at, &mut bytes).is_ok() && Id::of(&bytes).0 == piece.hash {
                self.store.write_at(at, &bytes)?;
                self.mend_around(&*mender, at..at + piece.len)?;
                written += 1;
            }
            healing.written(at);
        }
        self.store.sync()?;
        if written > 0 {
            log::info!("{}: {written} damaged pieces were written as they were", self.name);
        }
        Ok(())
    }

    /// Writes also what is damaged around a stretch that was: the header before it, what no read has asked for.
    fn mend_around(&self, mender: &dyn ReadAt, stretch: Range<u64>) -> Result<()> {
        let (mut first, mut behind) = (stretch.start / MEND_STEP, stretch.end.div_ceil(MEND_STEP));
        for step in first..behind {
            self.mend_step(mender, step)?;
        }
        while first > 0 && self.mend_step(mender, first - 1)? {
            first -= 1;
        }
        while self.mend_step(mender, behind)? {
            behind += 1;
        }
        Ok(())
    }

    /// Writes a step as it was; whether it was not so. Where it cannot be read, the parity may not know all of it either.
    fn mend_step(&self, mender: &dyn ReadAt, step: u64) -> Result<bool> {
        let at = step * MEND_STEP;
        let len = self.end.load(Relaxed).saturating_sub(at).min(MEND_STEP) as usize;
        let (mut is, mut was) = (vec![0; len], vec![0; len]);
        let known = self.medium.read_exact_at(at, &mut is).and_then(|()| mender.read_exact_at(at, &mut was));
        let differs = known.is_ok() && is != was;
        if differs {
            self.store.write_at(at, &was)?;
        }
        Ok(differs)
    }

    fn cover(&self, state: &mut State, policy: Policy, watch: &dyn Watch) -> Result<()> {
        let at = self.end.load(Relaxed);
        let commit_end = commit::end(&self.medium, &state.commit)?;
        let Some((kept, start)) = parity::next(&state.groups, commit_end) else { return Ok(()) };
        let plan = Plan::of(start..commit_end, policy.share, policy.algorithm)?;
        let prev = kept.checked_sub(1).map(|last| state.groups[last].body_at());
        let (uid, seq) = (state.commit.head.uid, state.commit.head.seq.get());
        let behind = Behind { uid, seq, commit: state.commit.record };
        self.untidy.store(true, Relaxed);
        let go_on = |_| !watch.is_cancelled();
        let written = self
            .make_way(plan.body_len() + SPARE)
            .and_then(|()| parity::write(&*self.store, (&plan, prev), behind, at, &go_on));
        let (group, end) = match written {
            Ok(written) => written,
            Err(e) => {
                // What was begun stands behind the last commit, and counts for nothing.
                self.cut_behind(at)?;
                return match e.kind() {
                    Kind::Interrupted => Ok(()),
                    _ => Err(e.within("no parity was written for what is new")),
                };
            }
        };
        state.groups.truncate(kept);
        state.groups.push(group);
        self.medium.healing.found(state.newest_parity(), None);
        self.end.store(end, Relaxed);
        if self.store.len()? > end {
            self.cut_behind(end)?;
        }
        self.untidy.store(false, Relaxed);
        Ok(())
    }
}
