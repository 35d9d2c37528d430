//! What is written of an archive: behind the old one or into a new file, and what makes it count.

use super::super::Opened;
use super::super::contents::Archive;
use super::super::entry::Member;
use super::super::layout::{
    CENTRAL, Central, DESCRIPTOR, Descriptor, Descriptor64, END, END64, End, End64, IN_ZIP64, IN_ZIP64_SHORT, LOCAL,
    LOCATOR, Local, Locator, flag, host,
};
use crate::error::{Error, Kind as ErrorKind, Result};
use crate::formats::{Patched, Watch};
use crate::pool::lock;
use crate::source::{ReadAt, Stamp, Store};
use std::collections::HashMap;
use std::io::{self, Write};
use std::ops::Range;
use std::sync::Mutex;
use zerocopy::{FromBytes, IntoBytes};

/// Bytes that are gathered before they are written, and copied at a time.
const PIECE: usize = 1 << 20;

/// Bytes on their way to a file.
pub(super) struct Out<'a> {
    pub(super) store: &'a dyn Store,
    pub(super) base: u64,
    pub(super) pending: Vec<u8>,
    /// It is another file than the archive.
    pub(super) is_new: bool,
}

impl Out<'_> {
    pub(super) fn at(&self) -> u64 {
        self.base + self.pending.len() as u64
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.pending.extend_from_slice(bytes);
        if self.pending.len() >= PIECE { self.write_out() } else { Ok(()) }
    }

    pub(super) fn write_out(&mut self) -> Result<()> {
        self.store.write_at(self.base, &self.pending)?;
        self.base += self.pending.len() as u64;
        self.pending.clear();
        Ok(())
    }

    pub(super) fn copy(&mut self, from: &dyn ReadAt, range: Range<u64>) -> Result<()> {
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
    pub(super) fn kept_entries(
        &mut self,
        now: &Opened,
        kept: &[usize],
        watch: &dyn Watch,
    ) -> Result<HashMap<usize, u64>> {
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
    pub(super) fn finish_but(&mut self, last: &[u8]) -> Result<Stamp> {
        self.write_out()?;
        self.store.sync()?;
        Stamp::of(&Patched { under: self.store, at: self.base, bytes: last })
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
pub(super) struct Split<'a, 'b> {
    pub(super) out: &'a mut Out<'b>,
    pub(super) list: Option<Vec<u8>>,
    pub(super) failed: Option<Error>,
}

pub(super) struct SplitWriter<'m, 'a, 'b>(pub(super) &'m Mutex<Split<'a, 'b>>);

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

/// Where the list begins in what a packer writes at last.
pub(super) fn own_list(last: &[u8]) -> Result<usize> {
    let wrong = || Error::new(ErrorKind::System, "the list of new entries is not where it should be");
    let end_at = last.len().checked_sub(size_of::<End>()).ok_or_else(wrong)?;
    let end = End::read_from_bytes(&last[end_at..]).map_err(|_| wrong())?;
    let locator_at = end_at.saturating_sub(size_of::<Locator>());
    let wide = if last[locator_at..].starts_with(&LOCATOR) { size_of::<End64>() + size_of::<Locator>() } else { 0 };
    let list = (end_at - wide).checked_sub(end.list_len.get() as usize).ok_or_else(wrong)?;
    if last[list..].starts_with(&CENTRAL) { Ok(list) } else { Err(wrong()) }
}

/// Entries of a list.
pub(super) fn list_len(list: &[u8]) -> u64 {
    let (mut count, mut rest) = (0, list);
    while let Ok((central, behind)) = Central::ref_from_prefix(rest) {
        let lens = [central.name_len, central.extra_len, central.comment_len].map(|len| usize::from(len.get()));
        rest = &behind[lens.iter().sum()..];
        count += 1;
    }
    count
}

/// What stands behind the list.
pub(super) fn ending(entries: u64, list_len: u64, list_abs: u64, now: &Opened) -> Vec<u8> {
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
