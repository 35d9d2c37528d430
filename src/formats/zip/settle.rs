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

use super::contents::Archive;
use super::entry::{Cipher, Member};
use super::layout::{
    CENTRAL, Central, DESCRIPTOR, Descriptor, Descriptor64, END, END64, End, End64, IN_ZIP64, IN_ZIP64_SHORT, LOCAL,
    LOCATOR, Local, Locator, dos, extra, flag, host,
};
use super::list::COMMENT_ATTRIBUTE;
use super::own::{self, Own};
use super::pack::{Method, ZipPacker};
use super::records::{Record, Records};
use super::{Opened, open_parts};
use crate::error::{Error, Kind as ErrorKind, Result, Within};
use crate::formats::{Access, Found, Settle, Unwatched, Watch, collect};
use crate::pool::{self, lock};
use crate::source::{Held, Memory, ReadAt, Stamp, Standing, Store};
use crate::tree::{Attr, Changes, Filter, Inode, Kind, Merged, Node, Renumbered, Tree};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use zerocopy::{FromBytes, FromZeros, IntoBytes};
use zip::ZipWriter;

/// Bytes that are gathered before they are written, and copied at a time.
const PIECE: usize = 1 << 20;
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

/// What becomes of the archive.
#[derive(Default)]
struct Plan {
    /// Records that stay as they are, by their numbers.
    kept: Vec<usize>,
    /// The record of the first entry, when only its attributes were changed.
    patched: Option<(usize, Found)>,
    /// Records whose data are copied behind a new header, and what they are now.
    copied: Vec<(usize, Found)>,
    /// Entries that are written from what is in them.
    new: Vec<Found>,
    /// Bytes of the entries that stay.
    needed: u64,
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
        let copies: HashMap<usize, &Found> = plan.copied.iter().map(|(number, found)| (*number, found)).collect();
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
            } else if let Some(found) = copies.get(&number) {
                copied.push((number, copy_of(&record, merged, found)?));
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
        let Split { out, list: own, failed } = shared.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
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
            let extras = super::extra::Extras::parse(record.extra, crate::tree::Time::default());
            let wide = super::entry::Wide::of(record.central, &extras);
            let comment = comments.get(record.name).map_or(&[][..], |comment| comment);
            let record = Record { comment, ..record };
            relocated(&record, (start + wide.header_at).checked_add_signed(-now.base), list)?;
        }
        Ok(())
    }

    fn settle_here(
        &self,
        plan: &Plan,
        merged: &Merged,
        expect: &mut dyn FnMut(&Stamp) -> Result<()>,
        watch: &dyn Watch,
    ) -> Result<()> {
        let now = lock(&self.now).clone();
        let old_len = self.held.len()?;
        let (held, rebuilds) = (self.held.clone(), self.is_rebuilt(&now, plan)?);
        let done = if rebuilds {
            let draft = self.held.sibling()?;
            let mut out = Out { store: &draft, base: 0, pending: Vec::new(), is_new: true };
            let end = self.write(&now, plan, merged, &mut out, watch)?;
            let target = out.finish_but(&end)?;
            expect(&target)?;
            draft.write_at(target.len - end.len() as u64, &end)?;
            draft.sync()?;
            return held.supplant(draft);
        } else {
            let room = plan.new.iter().map(|found| found.attr.size).sum::<u64>() + now.list_len() + (1 << 20);
            held.reserve(old_len..old_len + room)?;
            let mut out = Out { store: &*held, base: old_len, pending: Vec::new(), is_new: false };
            self.write(&now, plan, merged, &mut out, watch).and_then(|end| {
                let target = out.finish_but(&end)?;
                expect(&target)?;
                held.write_at(target.len - end.len() as u64, &end)?;
                held.sync()
            })
        };
        if done.is_err() {
            // The old end record is the last one again.
            held.set_len(old_len)?;
        }
        let end = self.held.len()?;
        // Space that was reserved and not needed.
        held.set_len(end)?;
        done
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

    fn settle(
        &self,
        merged: &Merged,
        archive: &Renumbered,
        expect: &mut dyn FnMut(&Stamp) -> Result<()>,
        watch: &dyn Watch,
    ) -> Result<Arc<dyn Tree>> {
        let name = || self.access.name.clone();
        match self.held.standing().within(name)? {
            Standing::Ours => {}
            Standing::Away => {
                return Err(Error::new(ErrorKind::Changed, format!("{} is not there any more", name()))
                    .hint("the changes are in the journal: put the archive back and mount it again"));
            }
            Standing::Altered => {
                return Err(Error::new(ErrorKind::Changed, format!("{} was changed by somebody else", name()))
                    .hint("the changes are in the journal, and are not written over what others have done"));
            }
        }
        let now = lock(&self.now).clone();
        let plan = plan(&now, merged, archive).within(name)?;
        watch.total(plan.new.iter().map(|found| found.attr.size).sum(), (plan.new.len() + plan.copied.len()) as u64);
        self.settle_here(&plan, merged, expect, watch).within(name)?;
        let access = Access { bytes: self.held.file(), ..self.access.clone() };
        let (volume, opened) = open_parts(access, "zip").within(name)?;
        let opened =
            opened.ok_or_else(|| Error::new(ErrorKind::Damaged, "the archive that was written cannot be read"))?;
        *lock(&opened.archive.right) = lock(&now.archive.right).clone();
        *lock(&self.now) = Arc::new(opened);
        Ok(volume.tree)
    }

    fn xattrs_max(&self) -> usize {
        own::XATTRS_MAX
    }

    fn refuge(&self) -> Option<PathBuf> {
        self.held.refuge()
    }

    fn free(&self) -> Result<u64> {
        self.held.free()
    }
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

/// What is to be done with each entry.
fn plan(now: &Opened, merged: &Merged, archive: &Renumbered) -> Result<Plan> {
    let everything = Filter::default();
    let before = paths(collect(archive, &everything, &Unwatched)?);
    let changes = merged.changes();
    let all = collect(merged, &everything, &Unwatched)?;
    // Directories with something in them.
    let parent = |found: &Found| found.path.iter().rposition(|byte| *byte == b'/').map(|at| found.path[..at].to_vec());
    let full: HashSet<Vec<u8>> = all.iter().filter_map(parent).collect();
    let mut after = paths(all);
    let mut plan = Plan::default();
    // The records of each node, in order.
    let mut records: BTreeMap<Node, Vec<usize>> = BTreeMap::new();
    for (number, node) in now.nodes.iter().enumerate() {
        match node {
            Some(node) => records.entry(archive.number_above(*node)).or_default().push(number),
            // What is not shown stays.
            None => plan.kept.push(number),
        }
    }
    for (node, numbers) in records {
        let there = after.remove(&node);
        let is_same = there.as_ref().is_some_and(|there| {
            before.get(&node).is_some_and(|before| before.iter().map(|f| &f.path).eq(there.iter().map(|f| &f.path)))
        });
        let base = archive.attr(node)?;
        if is_same && is_untouched(&changes, node, &base, true) {
            plan.kept.extend(numbers);
            continue;
        }
        let Some(there) = there else { continue };
        let is_drafted = matches!(changes.nodes.get(&node), Some(Some(Inode { draft: Some(_), .. })));
        let stays = is_same && !is_drafted && numbers.len() == 1 && now.first() == Some(numbers[0]);
        if stays && base.kind != Kind::Symlink {
            plan.patched = there.into_iter().next().map(|found| (numbers[0], found));
            continue;
        }
        for (place, found) in there.into_iter().enumerate() {
            match (base.kind == Kind::File && !is_drafted, numbers.get(place).or(numbers.last())) {
                (true, Some(number)) => plan.copied.push((*number, found)),
                _ => plan.new.push(found),
            }
        }
    }
    // What has no record: new, or a directory that an archive only speaks of.
    let root = merged.root();
    for (node, found) in after.into_iter().filter(|(node, _)| *node != root) {
        let is_implied = archive.number_below(node).is_some() && full.contains(&found[0].path);
        if !is_implied || !is_untouched(&changes, node, &archive.attr(node)?, false) {
            plan.new.extend(found);
        }
    }
    plan.kept.sort_unstable();
    plan.new.sort_by(|a, b| {
        let rank = |found: &Found| (found.attr.kind != Kind::Directory, found.same_as.is_some());
        rank(a).cmp(&rank(b)).then_with(|| a.path.cmp(&b.path))
    });
    for number in &plan.kept {
        let member = &now.archive.members[*number];
        plan.needed += member.packed + size_of::<Local>() as u64 + u64::from(member.name_len);
    }
    Ok(plan)
}

/// The names of each node, in order.
fn paths(all: Vec<Found>) -> BTreeMap<Node, Vec<Found>> {
    let mut paths: BTreeMap<Node, Vec<Found>> = BTreeMap::new();
    for found in all {
        paths.entry(found.node).or_default().push(found);
    }
    paths
        .values_mut()
        .for_each(|all| all.sort_by(|a, b| (a.same_as.is_some(), &a.path).cmp(&(b.same_as.is_some(), &b.path))));
    paths
}

/// Whether nothing of a node was changed that an archive keeps. The times of a directory without an entry are not kept.
fn is_untouched(changes: &Changes, node: Node, base: &Attr, has_times: bool) -> bool {
    let Some(change) = changes.nodes.get(&node) else { return true };
    let Some(inode) = change else { return false };
    let attr = &inode.attr;
    let same = |a: &Attr, b: &Attr| (a.mode, a.uid, a.gid, a.size, a.rdev) == (b.mode, b.uid, b.gid, b.size, b.rdev);
    let same_time = !has_times || (attr.mtime, attr.atime) == (base.mtime, base.atime);
    let untouched = inode.draft.is_none() && inode.target.is_none() && inode.xattrs.is_none() && !inode.is_new;
    untouched && same(attr, base) && same_time
}

fn comments(tree: &dyn Tree, all: &[Found]) -> Result<HashMap<Vec<u8>, Vec<u8>>> {
    let mut comments = HashMap::new();
    for found in all {
        if let Some(comment) = comment(tree, found)? {
            comments.insert(found.path.clone(), comment);
        }
    }
    Ok(comments)
}

fn comment(tree: &dyn Tree, found: &Found) -> Result<Option<Vec<u8>>> {
    let mut xattrs = tree.xattrs(found.node)?.into_iter();
    let fits = |value: &Vec<u8>| value.len() <= usize::from(u16::MAX);
    Ok(xattrs.find(|(name, _)| name == COMMENT_ATTRIBUTE).map(|(_, value)| value).filter(fits))
}

/// An entry whose data are copied: what stands in front of them, and in the list.
struct Copy {
    central: Central,
    name: Vec<u8>,
    extra: Vec<u8>,
    comment: Vec<u8>,
}

/// A record as it is to be, with other names and attributes.
fn copy_of(record: &Record<'_>, tree: &dyn Tree, found: &Found) -> Result<Copy> {
    let attr = &found.attr;
    let mut central = *record.central;
    let (name, is_utf8) = match std::str::from_utf8(&found.path) {
        Ok(path) => (path.as_bytes().to_vec(), !path.is_ascii()),
        Err(_) => (crate::formats::as_text(&found.path).into_bytes(), true),
    };
    let flags = (central.flags.get() & !flag::UTF_8) | if is_utf8 { flag::UTF_8 } else { 0 };
    central.flags = flags.into();
    central.made_by = host::UNIX;
    let of_dos = if attr.kind == Kind::Directory { dos::DIRECTORY } else { 0 };
    central.external = ((attr.kind.mode_bits() | attr.mode) << 16 | of_dos).into();
    // Of ZipCrypto a byte of the time is a check of the password.
    if !(flags & flag::ENCRYPTED != 0 && flags & flag::DESCRIPTOR != 0) {
        let (date, time) = super::pack::dos_date_and_time(attr.mtime);
        (central.date, central.time) = (date.into(), time.into());
    }
    let own = Own { same_as: found.same_as.clone(), ..Own::of(attr, tree.xattrs(found.node)?, &found.path) };
    let mut extra = field_of(record.extra, extra::AES).map(<[u8]>::to_vec).unwrap_or_default();
    if let Ok(secs) = i32::try_from(attr.mtime.secs) {
        put_field(&mut extra, extra::TIMES, &[&[1], &secs.to_le_bytes()[..]].concat());
    }
    let owner = [&[1, 4], &attr.uid.to_le_bytes()[..], &[4], &attr.gid.to_le_bytes()[..]].concat();
    put_field(&mut extra, extra::OWNER, &owner);
    if !own.is_empty() {
        let too_long = || Error::new(ErrorKind::NoSpace, "its extended attributes have more than 60 KiB");
        extra.extend_from_slice(&own.field().ok_or_else(too_long)?);
    }
    let comment = comment(tree, found)?.unwrap_or_default();
    Ok(Copy { central, name, extra, comment })
}

impl Copy {
    /// A new header, and the data as they are.
    fn write(&self, archive: &Archive, member: &Member, out: &mut Out<'_>) -> Result<()> {
        let packed = archive.packed(member)?;
        let is_streamed = self.central.flags.get() & flag::DESCRIPTOR != 0;
        // Whether it is streamed is part of how ZipCrypto checks a password; else there is no need to say it again.
        let stays_streamed = is_streamed && member.cipher == Cipher::ZipCrypto;
        let is_wide = member.size >= IN_ZIP64.into() || member.packed >= IN_ZIP64.into();
        let mut local = Local::new_zeroed();
        local.signature = LOCAL;
        local.needed = self.central.needed.get().max(if is_wide { 45 } else { 0 }).into();
        local.flags = self.flags(stays_streamed).into();
        (local.method, local.time, local.date) = (self.central.method, self.central.time, self.central.date);
        local.crc = self.central.crc;
        let mut extra = Vec::new();
        if is_wide {
            (local.packed, local.size) = (IN_ZIP64.into(), IN_ZIP64.into());
            put_field(&mut extra, extra::ZIP64, [member.size, member.packed].map(u64::to_le_bytes).as_flattened());
        } else {
            (local.packed, local.size) = ((member.packed as u32).into(), (member.size as u32).into());
        }
        extra.extend_from_slice(&self.extra);
        (local.name_len, local.extra_len) = (short(self.name.len())?.into(), short(extra.len())?.into());
        out.write(local.as_bytes())?;
        out.write(&self.name)?;
        out.write(&extra)?;
        out.copy(&*packed, 0..packed.len()?)?;
        if stays_streamed {
            let crc = self.central.crc;
            out.write(&DESCRIPTOR)?;
            match is_wide {
                true => {
                    out.write(Descriptor64 { crc, packed: member.packed.into(), size: member.size.into() }.as_bytes())?
                }
                false => out.write(Descriptor { crc, packed: local.packed, size: local.size }.as_bytes())?,
            }
        }
        Ok(())
    }

    fn record(&self) -> Record<'_> {
        Record { central: &self.central, name: &self.name, extra: &self.extra, comment: &self.comment }
    }

    fn flags(&self, stays_streamed: bool) -> u16 {
        self.central.flags.get() & if stays_streamed { u16::MAX } else { !flag::DESCRIPTOR }
    }

    fn list(&self, header_at: Option<u64>, list: &mut Vec<u8>) -> Result<()> {
        let mut central = self.central;
        let is_zipcrypto = central.flags.get() & flag::ENCRYPTED != 0 && field_of(&self.extra, extra::AES).is_none();
        central.flags = self.flags(is_zipcrypto).into();
        // Sizes of before, which may be in a field of zip64 that is not copied.
        let record = Record { central: &central, name: &self.name, extra: &self.extra, comment: &self.comment };
        relocated(&record, header_at, list)
    }
}

fn short(len: usize) -> Result<u16> {
    u16::try_from(len)
        .map_err(|_| Error::new(ErrorKind::NameTooLong, "a name or what belongs to it is longer than 64 KiB"))
}

fn put_field(extra: &mut Vec<u8>, id: u16, body: &[u8]) {
    extra.extend_from_slice(&id.to_le_bytes());
    extra.extend_from_slice(&(body.len() as u16).to_le_bytes());
    extra.extend_from_slice(body);
}

/// A field with its head.
fn field_of(mut extra: &[u8], id: u16) -> Option<&[u8]> {
    while let Some((head, rest)) = extra.split_first_chunk::<4>() {
        let len = usize::from(u16::from_le_bytes([head[2], head[3]]));
        let whole = extra.get(..4 + len)?;
        if u16::from_le_bytes([head[0], head[1]]) == id {
            return Some(whole);
        }
        extra = &rest[len..];
    }
    None
}

/// A record whose header is at another place.
fn relocated(record: &Record<'_>, header_at: Option<u64>, list: &mut Vec<u8>) -> Result<()> {
    let header_at =
        header_at.ok_or_else(|| Error::new(ErrorKind::Damaged, "an entry would be in front of the archive"))?;
    let extras = super::extra::Extras::parse(record.extra, crate::tree::Time::default());
    let wide = super::entry::Wide::of(record.central, &extras);
    let mut central = *record.central;
    let mut body = Vec::new();
    let mut narrow = |number: u64| match u32::try_from(number) {
        Ok(narrow) if narrow != IN_ZIP64 => narrow,
        _ => {
            body.extend_from_slice(&number.to_le_bytes());
            IN_ZIP64
        }
    };
    central.size = narrow(wide.size).into();
    central.packed = narrow(wide.packed).into();
    central.header_at = narrow(header_at).into();
    central.disk = 0.into();
    let mut extra = Vec::new();
    if !body.is_empty() {
        central.needed = central.needed.get().max(45).into();
        put_field(&mut extra, extra::ZIP64, &body);
    }
    let mut rest = record.extra;
    while let Some((head, behind)) = rest.split_first_chunk::<4>() {
        let len = usize::from(u16::from_le_bytes([head[2], head[3]]));
        let Some(whole) = rest.get(..4 + len) else { break };
        if u16::from_le_bytes([head[0], head[1]]) != extra::ZIP64 {
            extra.extend_from_slice(whole);
        }
        rest = &behind[len..];
    }
    extra.extend_from_slice(rest);
    central.signature = CENTRAL;
    (central.name_len, central.extra_len) = (short(record.name.len())?.into(), short(extra.len())?.into());
    central.comment_len = short(record.comment.len())?.into();
    for bytes in [central.as_bytes(), record.name, &extra, record.comment] {
        list.extend_from_slice(bytes);
    }
    Ok(())
}

/// Where the list begins in what a packer writes at last.
fn own_list(last: &[u8]) -> Result<usize> {
    let wrong = || Error::new(ErrorKind::System, "the list of new entries is not where it should be");
    let end_at = last.len().checked_sub(size_of::<End>()).ok_or_else(wrong)?;
    let end = End::read_from_bytes(&last[end_at..]).map_err(|_| wrong())?;
    let locator_at = end_at.saturating_sub(size_of::<Locator>());
    let wide = if last[locator_at..].starts_with(&LOCATOR) { size_of::<End64>() + size_of::<Locator>() } else { 0 };
    let list = (end_at - wide).checked_sub(end.list_len.get() as usize).ok_or_else(wrong)?;
    if last[list..].starts_with(&CENTRAL) { Ok(list) } else { Err(wrong()) }
}

/// Entries of a list.
fn list_len(list: &[u8]) -> u64 {
    let (mut count, mut rest) = (0, list);
    while let Ok((central, behind)) = Central::ref_from_prefix(rest) {
        let lens = [central.name_len, central.extra_len, central.comment_len].map(|len| usize::from(len.get()));
        rest = &behind[lens.iter().sum()..];
        count += 1;
    }
    count
}

/// What stands behind the list.
fn ending(entries: u64, list_len: u64, list_abs: u64, now: &Opened) -> Vec<u8> {
    let list_at = list_abs.wrapping_add_signed(-now.base);
    let mut out = Vec::new();
    let is_wide = entries >= IN_ZIP64_SHORT.into() || list_len >= IN_ZIP64.into() || list_at >= IN_ZIP64.into();
    if is_wide {
        let end64 = End64 {
            signature: END64,
            len: (size_of::<End64>() as u64 - 12).into(),
            made_by: (u16::from(host::UNIX) << 8 | 45).into(),
            needed: 45.into(),
            disk: 0.into(),
            list_disk: 0.into(),
            entries_here: entries.into(),
            entries: entries.into(),
            list_len: list_len.into(),
            list_at: list_at.into(),
        };
        let end64_at = (list_at + list_len).into();
        out.extend_from_slice(end64.as_bytes());
        out.extend_from_slice(Locator { signature: LOCATOR, disk: 0.into(), end64_at, disks: 1.into() }.as_bytes());
    }
    let narrow = |number: u64| u32::try_from(number).unwrap_or(IN_ZIP64);
    let count = u16::try_from(entries).unwrap_or(IN_ZIP64_SHORT);
    let end = End {
        signature: END,
        disk: 0.into(),
        list_disk: 0.into(),
        entries_here: count.into(),
        entries: count.into(),
        list_len: narrow(list_len).into(),
        list_at: narrow(list_at).into(),
        comment_len: (now.comment.len() as u16).into(),
    };
    out.extend_from_slice(end.as_bytes());
    out.extend_from_slice(&now.comment);
    out
}

/// Bytes on their way to a file.
struct Out<'a> {
    store: &'a dyn Store,
    base: u64,
    pending: Vec<u8>,
    /// It is another file than the archive.
    is_new: bool,
}

impl Out<'_> {
    fn at(&self) -> u64 {
        self.base + self.pending.len() as u64
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.pending.extend_from_slice(bytes);
        if self.pending.len() >= PIECE { self.write_out() } else { Ok(()) }
    }

    fn write_out(&mut self) -> Result<()> {
        self.store.write_at(self.base, &self.pending)?;
        self.base += self.pending.len() as u64;
        self.pending.clear();
        Ok(())
    }

    fn copy(&mut self, from: &dyn ReadAt, range: std::ops::Range<u64>) -> Result<()> {
        let mut at = range.start;
        while at < range.end {
            let mut piece = vec![0; PIECE.min((range.end - at) as usize)];
            from.read_exact_at(at, &mut piece)?;
            self.write(&piece)?;
            at += piece.len() as u64;
        }
        Ok(())
    }

    /// Copies what stands in front of all entries, and the entries that stay. Returns where they are now.
    fn kept_entries(&mut self, now: &Opened, kept: &[usize], watch: &dyn Watch) -> Result<HashMap<usize, u64>> {
        let (archive, members) = (&now.archive, &now.archive.members);
        let front = members.iter().map(|member| member.header_at).min().unwrap_or(0).min(now.list.start);
        self.copy(&*archive.source, 0..front)?;
        let mut order = kept.to_vec();
        order.sort_by_key(|number| members[*number].header_at);
        let mut places = HashMap::new();
        for number in order {
            places.insert(number, self.at());
            let member = &members[number];
            self.copy(&*archive.source, member.header_at..end_of(archive, member)?)?;
            watch.advance(0, 1);
            if watch.is_cancelled() {
                return Err(Error::new(ErrorKind::Interrupted, "interrupted"));
            }
        }
        Ok(places)
    }

    /// Brings all to the medium, and tells what the file will be with a last piece behind it.
    fn finish_but(&mut self, last: &[u8]) -> Result<Stamp> {
        self.write_out()?;
        self.store.sync()?;
        Stamp::of(&Ahead { store: self.store, at: self.base, last })
    }
}

/// A file as it will be.
struct Ahead<'a> {
    store: &'a dyn Store,
    at: u64,
    last: &'a [u8],
}

impl ReadAt for Ahead<'_> {
    fn len(&self) -> Result<u64> {
        Ok(self.at + self.last.len() as u64)
    }

    fn read_at(&self, at: u64, into: &mut [u8]) -> Result<usize> {
        let front = into.len().min(self.at.saturating_sub(at).try_into().unwrap_or(usize::MAX));
        self.store.read_exact_at(at, &mut into[..front])?;
        let skip = usize::try_from(at.saturating_sub(self.at)).unwrap_or(usize::MAX).min(self.last.len());
        let rest = (into.len() - front).min(self.last.len() - skip);
        into[front..front + rest].copy_from_slice(&self.last[skip..skip + rest]);
        Ok(front + rest)
    }
}

/// Where an entry ends, with a descriptor where it has one.
fn end_of(archive: &Archive, member: &Member) -> Result<u64> {
    let source = &archive.source;
    let mut bytes = [0; size_of::<Local>()];
    source.read_exact_at(member.header_at, &mut bytes)?;
    let local = Local::read_from_bytes(&bytes).expect("it has the length");
    if local.signature != LOCAL {
        return Err(Error::new(ErrorKind::Damaged, format!("no entry begins at {}", member.header_at)));
    }
    let front = size_of::<Local>() as u64 + u64::from(local.name_len.get()) + u64::from(local.extra_len.get());
    let end = member.header_at + front + member.packed;
    if local.flags.get() & flag::DESCRIPTOR == 0 {
        return Ok(end);
    }
    let mut behind = [0; 24];
    let got = source.read_at(end, &mut behind)?;
    let is_descriptor = |bytes: &[u8]| -> Option<u64> {
        let wide = Descriptor64::ref_from_prefix(bytes).ok().map(|(wide, _)| wide);
        if wide.is_some_and(|wide| (wide.packed.get(), wide.size.get()) == (member.packed, member.size)) {
            return Some(size_of::<Descriptor64>() as u64);
        }
        let (narrow, _) = Descriptor::ref_from_prefix(bytes).ok()?;
        let same = narrow.packed.get() == member.packed as u32 && narrow.size.get() == member.size as u32;
        same.then_some(size_of::<Descriptor>() as u64)
    };
    let behind = &behind[..got];
    let signed = behind.strip_prefix(&DESCRIPTOR).and_then(is_descriptor).map(|len| len + 4);
    Ok(end + signed.or_else(|| is_descriptor(behind)).unwrap_or(0))
}

/// Takes the entries that a packer writes, and keeps its list apart.
struct Split<'a, 'b> {
    out: &'a mut Out<'b>,
    list: Option<Vec<u8>>,
    failed: Option<Error>,
}

struct SplitWriter<'m, 'a, 'b>(&'m Mutex<Split<'a, 'b>>);

impl Write for SplitWriter<'_, '_, '_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut split = lock(self.0);
        if let Some(list) = &mut split.list {
            list.extend_from_slice(bytes);
            return Ok(bytes.len());
        }
        match split.out.write(bytes) {
            Ok(()) => Ok(bytes.len()),
            Err(e) => {
                let full = e.kind() == ErrorKind::NoSpace;
                split.failed = Some(e);
                Err(if full { io::ErrorKind::StorageFull.into() } else { io::Error::other("it cannot be written") })
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Remembers the first entry that could not be read: nothing may be missing.
struct First<'a> {
    watch: &'a dyn Watch,
    error: Mutex<Option<(ErrorKind, String)>>,
}

impl<'a> First<'a> {
    fn new(watch: &'a dyn Watch) -> Self {
        Self { watch, error: Mutex::default() }
    }

    fn into_error(self) -> Error {
        let (kind, what) = lock(&self.error).take().unwrap_or((ErrorKind::Damaged, "an entry cannot be read".into()));
        Error::new(kind, what)
    }
}

impl Watch for First<'_> {
    fn advance(&self, bytes: u64, entries: u64) {
        self.watch.advance(bytes, entries);
    }
    fn entry(&self, path: &[u8]) {
        self.watch.entry(path);
    }
    fn skipped(&self, path: &[u8], why: &Error) {
        lock(&self.error).get_or_insert_with(|| (why.kind(), format!("{}: {why}", crate::tree::path_display(path))));
    }
    fn is_cancelled(&self) -> bool {
        self.watch.is_cancelled()
    }
}
