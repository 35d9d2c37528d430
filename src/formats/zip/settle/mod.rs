//! Changes go into an archive.
//!
//! ```text
//!   appended   old archive, as it is, with its end record │ copies, new entries │ list │ end records
//!                                                           └ nothing of it counts before the very last bytes are there
//!   rebuilt    what is in front │ kept entries, byte by byte │ copies, new entries │ list │ end records       in a new file
//! ```
//!
//! An entry whose contents are as they were is never compressed again: where only its name or its attributes were changed,
//! its data are copied behind a new header. What nobody has touched stays as it is, byte by byte, also in the list.
//!
//! It is appended as long as the first entry stays: some programs (7-Zip) take an archive whose first bytes are no entry of
//! the list for one that is damaged, and show the old list. Of that entry attributes are changed in the list alone, since it
//! is a directory more often than not, whose time changes with whatever is in it. And it is rebuilt when what nothing leads
//! to any more would be more than half.

mod copy;
mod out;
mod plan;

use super::contents::Archive;
use super::entry::{Member, Wide};
use super::extra::Extras;
use super::own;
use super::pack::{Method, ZipPacker};
use super::records::Records;
use super::{Opened, open_parts, states};
use crate::error::{Error, Kind as ErrorKind, Result, Within};
use crate::formats::{Access, First, Found, Holds, Notes, Settle, Task, Undo, Watch, stand_by, verified};
use crate::pool::{self, lock};
use crate::source::{FileSource, Held, Memory, ReadAt, Stamp, Store};
use crate::tree::{Filter, Merged, Time, Tree};
use copy::{comments, copy_of, relocated, with_root};
use out::{Out, Split, SplitWriter, ending, list_len, own_list};
use plan::{Plan, plan};
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use zip::ZipWriter;

/// What nothing leads to any more may always be so much.
const SLACK: u64 = 64 << 20;
/// Level of deflate where nobody says one.
const LEVEL: u8 = 6;

/// A zip that takes changes.
pub struct ZipFile {
    access: Access,
    held: Arc<Held>,
    now: Mutex<Arc<Opened>>,
}

impl ZipFile {
    /// Takes over an archive that is held.
    pub(super) fn new(access: Access, held: Arc<Held>, opened: Arc<Opened>) -> Self {
        Self { access, held, now: Mutex::new(opened) }
    }

    fn packer(&self, archive: &Archive) -> ZipPacker {
        let is_encrypted = archive.members.iter().any(Member::is_encrypted);
        let password = lock(&archive.right).clone().filter(|_| is_encrypted);
        let level = self.access.level.unwrap_or(LEVEL);
        let filter = Filter::default();
        ZipPacker { method: Method::Deflate, level, threads: pool::threads(), filter, password, is_whole: true }
    }

    /// Writes copies, new entries, and the list, and what makes them count in the end.
    fn write(
        &self,
        now: &Opened,
        plan: &Plan,
        merged: &Merged,
        out: &mut Out<'_>,
        watch: &dyn Watch,
    ) -> Result<Vec<u8>> {
        let mut list = Vec::new();
        let mut records = now.records();
        let (mut number, mut kept) = (0, plan.kept.iter().copied().peekable());
        // A file that got further names is copied for each of them.
        let mut copies: HashMap<usize, Vec<&Found>> = HashMap::new();
        plan.copied.iter().for_each(|(number, found)| copies.entry(*number).or_default().push(found));
        let stays = |number: &usize| Some(*number) == plan.patched.as_ref().map(|(number, _)| *number);
        let all: Vec<usize> = plan.kept.iter().copied().chain(plan.patched.iter().map(|(number, _)| *number)).collect();
        let moved = out.is_new.then(|| out.kept_entries(now, &all, watch)).transpose()?;
        let mut copied = Vec::new();
        while let Some(record) = records.next()? {
            if kept.next_if_eq(&number).is_some() {
                match &moved {
                    None => list.extend_from_slice(&record.bytes()),
                    Some(places) => relocated(&record, places[&number].checked_add_signed(-now.base), &mut list)?,
                }
            } else if let Some((_, found)) = plan.patched.as_ref().filter(|_| stays(&number)) {
                let member = &now.archive.members[number];
                let at = moved.as_ref().map_or(member.header_at, |places| places[&number]);
                let mut copy = copy_of(&record, merged, found)?;
                // In front of the data it is called so as well.
                (copy.name, copy.central.flags) = (record.name.to_vec(), record.central.flags);
                relocated(&copy.record(), at.checked_add_signed(-now.base), &mut list)?;
            } else {
                for found in copies.get(&number).into_iter().flatten() {
                    copied.push((number, copy_of(&record, merged, found)?));
                }
            }
            number += 1;
        }
        for (number, copy) in copied {
            let at = out.at();
            copy.write(&now.archive, &now.archive.members[number], out)?;
            copy.list(at.checked_add_signed(-now.base), &mut list)?;
            watch.advance(0, 1);
        }
        self.new_entries(now, plan, merged, out, &mut list, watch)?;
        if now.has_root || is_root_changed(merged)? {
            list = with_root(list, merged)?;
        }
        let count = list_len(&list);
        let list_at = out.at();
        out.write(&list)?;
        Ok(ending(count, list.len() as u64, list_at, now))
    }

    fn new_entries(
        &self,
        now: &Opened,
        plan: &Plan,
        merged: &Merged,
        out: &mut Out<'_>,
        list: &mut Vec<u8>,
        watch: &dyn Watch,
    ) -> Result<()> {
        if plan.new.is_empty() {
            return Ok(());
        }
        let start = out.at();
        let shared = Mutex::new(Split { out, list: None, failed: None });
        let mut zip = ZipWriter::new_stream(SplitWriter(&shared)).set_auto_large_file();
        let first = First::new(watch);
        let skipped = self.packer(&now.archive).entries(merged, &plan.new, &mut zip, &first)?;
        if skipped > 0 {
            return Err(first.into_error());
        }
        // What comes now is the end of the last entry, and the list of these entries alone.
        lock(&shared).list = Some(Vec::new());
        zip.finish().map_err(|e| Error::io(e.into(), "cannot write the archive"))?;
        let Split { out, list: own, failed } = shared.into_inner().unwrap_or_else(PoisonError::into_inner);
        if let Some(e) = failed {
            return Err(e);
        }
        let mut last = own.unwrap_or_default();
        let own = last.split_off(own_list(&last)?);
        out.write(&last)?;
        let own: Arc<dyn ReadAt> = Arc::new(Memory::new(own));
        let mut records = Records::new(&*own, 0..own.len()?);
        let comments = comments(merged, &plan.new)?;
        while let Some(record) = records.next()? {
            let extras = Extras::parse(record.extra, Time::default());
            let wide = Wide::of(record.central, &extras);
            let comment = comments.get(record.name).map_or(&[][..], |comment| comment);
            let record = super::records::Record { comment, ..record };
            relocated(&record, (start + wide.header_at).checked_add_signed(-now.base), list)?;
        }
        Ok(())
    }

    /// A new file takes the place of the archive.
    fn rebuilt(
        &self,
        plan: &Plan,
        merged: &Merged,
        notes: &mut dyn Notes,
        watch: &dyn Watch,
    ) -> Result<(Arc<dyn Tree>, Opened)> {
        let now = lock(&self.now).clone();
        let draft = self.held.sibling()?;
        let mut out = Out { store: &draft, base: 0, pending: Vec::new(), is_new: true };
        let end = self.write(&now, plan, merged, &mut out, watch)?;
        let target = out.finish_but(&end)?;
        draft.write_at(target.len - end.len() as u64, &end)?;
        draft.sync()?;
        let opened = self.opened(draft.file(), merged)?;
        notes.expect(&target)?;
        self.held.supplant(draft)?;
        Ok(opened)
    }

    /// All that is new goes behind what is there.
    fn appended(
        &self,
        plan: &Plan,
        merged: &Merged,
        notes: &mut dyn Notes,
        watch: &dyn Watch,
    ) -> Result<(Arc<dyn Tree>, Opened)> {
        let (now, held) = (lock(&self.now).clone(), &*self.held);
        let old_len = held.len()?;
        let room = plan.new.iter().map(|found| found.attr.size).sum::<u64>() + now.list_len() + (1 << 20);
        notes.begin(&Undo::longer(old_len))?;
        held.reserve(old_len..old_len + room)?;
        let mut out = Out { store: held, base: old_len, pending: Vec::new(), is_new: false };
        let written = self.write(&now, plan, merged, &mut out, watch).and_then(|end| {
            let target = out.finish_but(&end)?;
            notes.expect(&target)?;
            held.write_at(target.len - end.len() as u64, &end)?;
            held.sync()
        });
        let done = written.and_then(|()| self.opened(held.file(), merged));
        if done.is_err() {
            // The old end record is the last one again.
            held.set_len(old_len)?;
        }
        // Space that was reserved and not needed.
        held.set_len(held.len()?)?;
        done
    }

    /// Opens what was written, if it is what it should be.
    fn opened(&self, bytes: Arc<FileSource>, merged: &Merged) -> Result<(Arc<dyn Tree>, Opened)> {
        let (volume, opened) = open_parts(Access { bytes, ..self.access.clone() }, "zip")?;
        let unreadable = || Error::new(ErrorKind::Damaged, "the archive that was written cannot be read");
        Ok((verified(merged, volume.tree)?, opened.ok_or_else(unreadable)?))
    }

    fn settled(&self, task: &Task<'_>, notes: &mut dyn Notes) -> Result<Arc<dyn Tree>> {
        let Task { merged, archive, anew, watch } = *task;
        stand_by(&self.held)?;
        let now = lock(&self.now).clone();
        let plan = plan(&now, merged, archive)?;
        watch.total(plan.new.iter().map(|found| found.attr.size).sum(), (plan.new.len() + plan.copied.len()) as u64);
        let (tree, opened) = match anew || self.is_rebuilt(&now, &plan)? {
            true => self.rebuilt(&plan, merged, notes, watch),
            false => self.appended(&plan, merged, notes, watch),
        }?;
        *lock(&opened.archive.right) = lock(&now.archive.right).clone();
        *lock(&self.now) = Arc::new(opened);
        Ok(tree)
    }

    fn is_rebuilt(&self, now: &Opened, plan: &Plan) -> Result<bool> {
        let first_stays = now.first().is_some_and(|first| {
            plan.kept.binary_search(&first).is_ok() || plan.patched.as_ref().is_some_and(|(number, _)| *number == first)
        });
        let garbage = self.held.len()?.saturating_sub(plan.needed);
        Ok(!first_stays || garbage > plan.needed.max(SLACK))
    }
}

impl Settle for ZipFile {
    fn stamp(&self) -> Result<Stamp> {
        Stamp::of(&*self.held)
    }

    fn settle(&self, task: &Task<'_>, notes: &mut dyn Notes) -> Result<Arc<dyn Tree>> {
        self.settled(task, notes).within(|| &self.access.name)
    }

    /// The list of that state once more, behind all that is there: nothing is lost.
    fn restore(&self, which: &str, notes: &mut dyn Notes) -> Result<()> {
        let name = || self.access.name.clone();
        stand_by(&self.held).within(name)?;
        let (held, old_len) = (&*self.held, self.held.len()?);
        let state = states::find(&Access { bytes: held.file(), ..self.access.clone() }, which)?.opened;
        notes.begin(&Undo::longer(old_len))?;
        let mut out = Out { store: held, base: old_len, pending: Vec::new(), is_new: false };
        let mut list = vec![0; usize::try_from(state.list_len()).unwrap_or(usize::MAX)];
        state.archive.source.read_exact_at(state.list.start, &mut list)?;
        let end = ending(list_len(&list), list.len() as u64, old_len, &state);
        let done = out.write(&list).and_then(|()| {
            let target = out.finish_but(&end)?;
            notes.expect(&target)?;
            held.write_at(target.len - end.len() as u64, &end)?;
            held.sync()
        });
        done.or_else(|e| held.set_len(old_len).and(Err(e))).within(name)
    }

    fn holds(&self) -> &'static Holds {
        &own::HOLDS
    }

    fn refuge(&self) -> Option<PathBuf> {
        self.held.refuge()
    }

    fn free(&self) -> Result<u64> {
        self.held.free()
    }
}

fn is_root_changed(merged: &Merged) -> Result<bool> {
    let (root, changes) = (merged.root(), merged.changes());
    let Some(Some(inode)) = changes.nodes.get(&root) else { return Ok(false) };
    Ok(!inode.is_still(&merged.base().attr(root)?, true))
}

impl Opened {
    fn records(&self) -> Records<'_> {
        Records::new(&*self.archive.source, self.list.clone())
    }

    /// The record of the entry at the front.
    fn first(&self) -> Option<usize> {
        let all = self.archive.members.iter().enumerate();
        all.min_by_key(|(_, member)| member.header_at).map(|(number, _)| number)
    }

    fn list_len(&self) -> u64 {
        self.list.end - self.list.start
    }
}
