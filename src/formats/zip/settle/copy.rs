//! Entries whose contents stay: their data behind a new header, and what the list says of them.

use super::super::contents::Archive;
use super::super::entry::{Cipher, Member, Wide};
use super::super::extra::Extras;
use super::super::layout::{
    CENTRAL, Central, DESCRIPTOR, Descriptor, Descriptor64, IN_ZIP64, LOCAL, Local, dos, extra, flag, host,
};
use super::super::list::COMMENT_ATTRIBUTE;
use super::super::own::{Own, Root};
use super::super::pack::dos_date_and_time;
use super::super::records::{Record, Records};
use super::out::Out;
use crate::error::{Error, Kind as ErrorKind, Result};
use crate::formats::{Found, as_text};
use crate::source::{Memory, ReadAt};
use crate::tree::{Kind, Time, Tree};
use std::collections::HashMap;
use std::sync::Arc;
use zerocopy::{FromZeros, IntoBytes};

pub(super) fn comments(tree: &dyn Tree, all: &[Found]) -> Result<HashMap<Vec<u8>, Vec<u8>>> {
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
pub(super) struct Copy {
    pub(super) central: Central,
    pub(super) name: Vec<u8>,
    pub(super) extra: Vec<u8>,
    pub(super) comment: Vec<u8>,
}

/// A record as it is to be, with other names and attributes.
pub(super) fn copy_of(record: &Record<'_>, tree: &dyn Tree, found: &Found) -> Result<Copy> {
    let attr = &found.attr;
    let mut central = *record.central;
    let (name, is_utf8) = match std::str::from_utf8(&found.path) {
        Ok(path) => (path.as_bytes().to_vec(), !path.is_ascii()),
        Err(_) => (as_text(&found.path).into_bytes(), true),
    };
    let flags = (central.flags.get() & !flag::UTF_8) | if is_utf8 { flag::UTF_8 } else { 0 };
    central.flags = flags.into();
    central.made_by = host::UNIX;
    let of_dos = if attr.kind == Kind::Directory { dos::DIRECTORY } else { 0 };
    central.external = ((attr.kind.mode_bits() | attr.mode) << 16 | of_dos).into();
    // Of ZipCrypto a byte of the time is a check of the password.
    if !(flags & flag::ENCRYPTED != 0 && flags & flag::DESCRIPTOR != 0) {
        let (date, time) = dos_date_and_time(attr.mtime);
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
    pub(super) fn write(&self, archive: &Archive, member: &Member, out: &mut Out<'_>) -> Result<()> {
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

    pub(super) fn record(&self) -> Record<'_> {
        Record { central: &self.central, name: &self.name, extra: &self.extra, comment: &self.comment }
    }

    fn flags(&self, stays_streamed: bool) -> u16 {
        self.central.flags.get() & if stays_streamed { u16::MAX } else { !flag::DESCRIPTOR }
    }

    pub(super) fn list(&self, header_at: Option<u64>, list: &mut Vec<u8>) -> Result<()> {
        let mut central = self.central;
        let is_zipcrypto = central.flags.get() & flag::ENCRYPTED != 0 && field_of(&self.extra, extra::AES).is_none();
        central.flags = self.flags(is_zipcrypto).into();
        // Sizes of before, which may be in a field of zip64 that is not copied.
        relocated(&Record { central: &central, ..self.record() }, header_at, list)
    }
}

/// A list of which one entry tells of the root, and no other one.
pub(super) fn with_root(list: Vec<u8>, tree: &dyn Tree) -> Result<Vec<u8>> {
    let root = tree.root();
    let too_long = || Error::new(ErrorKind::NoSpace, "the extended attributes of the root have more than 60 KiB");
    let field = Root::of(&tree.attr(root)?, tree.xattrs(root)?).field().ok_or_else(too_long)?;
    let list: Arc<dyn ReadAt> = Arc::new(Memory::new(list));
    let records = || Ok::<_, Error>(Records::new(&*list, 0..list.len()?));
    // The last that has room for it.
    let (mut all, mut number, mut place) = (records()?, 0, None);
    while let Some(record) = all.next()? {
        number += 1;
        place = if record.extra.len() + field.len() <= usize::from(u16::MAX) { Some(number) } else { place };
    }
    let (mut records, mut number, mut out) = (records()?, 0, Vec::new());
    while let Some(record) = records.next()? {
        number += 1;
        let others = fields(record.extra).filter(|(id, _)| *id != Some(extra::ROOT));
        let mut extra: Vec<u8> = others.flat_map(|(_, whole)| whole).copied().collect();
        if Some(number) == place {
            extra.extend_from_slice(&field);
        }
        let mut central = *record.central;
        central.extra_len = short(extra.len())?.into();
        for bytes in [central.as_bytes(), record.name, &extra, record.comment] {
            out.extend_from_slice(bytes);
        }
    }
    Ok(out)
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

/// Extra fields, each with its number and its head; what is left behind them, torn or padding, has none.
fn fields(mut extra: &[u8]) -> impl Iterator<Item = (Option<u16>, &[u8])> {
    std::iter::from_fn(move || {
        let whole = extra.split_first_chunk::<4>().and_then(|(head, _)| {
            let whole = extra.get(..4 + usize::from(u16::from_le_bytes([head[2], head[3]])))?;
            Some((Some(u16::from_le_bytes([head[0], head[1]])), whole))
        });
        let (id, bytes) = whole.unwrap_or((None, extra));
        extra = &extra[bytes.len()..];
        (!bytes.is_empty()).then_some((id, bytes))
    })
}

/// A field with its head.
fn field_of(extra: &[u8], id: u16) -> Option<&[u8]> {
    fields(extra).find(|(found, _)| *found == Some(id)).map(|(_, whole)| whole)
}

/// A record whose header is at another place.
pub(super) fn relocated(record: &Record<'_>, header_at: Option<u64>, list: &mut Vec<u8>) -> Result<()> {
    let header_at =
        header_at.ok_or_else(|| Error::new(ErrorKind::Damaged, "an entry would be in front of the archive"))?;
    let extras = Extras::parse(record.extra, Time::default());
    let wide = Wide::of(record.central, &extras);
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
    let others = fields(record.extra).filter(|(id, _)| *id != Some(extra::ZIP64));
    others.for_each(|(_, whole)| extra.extend_from_slice(whole));
    central.signature = CENTRAL;
    (central.name_len, central.extra_len) = (short(record.name.len())?.into(), short(extra.len())?.into());
    central.comment_len = short(record.comment.len())?.into();
    for bytes in [central.as_bytes(), record.name, &extra, record.comment] {
        list.extend_from_slice(bytes);
    }
    Ok(())
}
