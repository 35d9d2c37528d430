//! The `extra` field of an inode: what few inodes have. A list of `u8 tag ‖ varint length ‖ bytes`; unknown tags are
//! passed over by readers and kept by writers.

use super::limits;
use crate::codec::damaged;
use crate::codec::varint::{Cursor, put, unzigzag, zigzag};
use crate::error::Result;
use crate::tree::{Time, Xattr, device};

pub const SYMLINK: u8 = 1;
/// Major and minor number, as varints.
pub const DEVICE: u8 = 2;
/// One extended attribute: varint length of the name, name, value.
pub const XATTR: u8 = 3;
/// Time of the last change of attributes, when it is not mtime: zigzag varint of the difference in seconds, varint of the
/// nanoseconds.
pub const CTIME: u8 = 5;
/// Bytes that are data and not holes, as a varint; without it all of the size is.
pub const ALLOCATED: u8 = 10;
/// Time of the last access, when somebody has set one; as [`CTIME`].
pub const ATIME: u8 = 11;

/// Appends a field.
pub fn add(extra: &mut Vec<u8>, tag: u8, value: &[u8]) {
    extra.push(tag);
    put(extra, value.len() as u64);
    extra.extend_from_slice(value);
}

pub fn add_numbers(extra: &mut Vec<u8>, tag: u8, numbers: &[u64]) {
    let mut value = Vec::new();
    numbers.iter().for_each(|n| put(&mut value, *n));
    add(extra, tag, &value);
}

pub fn add_xattr(extra: &mut Vec<u8>, (name, value): &Xattr) {
    let mut field = Vec::new();
    put(&mut field, name.len() as u64);
    field.extend_from_slice(name);
    field.extend_from_slice(value);
    add(extra, XATTR, &field);
}

/// Visits each field as tag and value.
pub fn each(extra: &[u8], mut visit: impl FnMut(u8, &[u8]) -> Result<()>) -> Result<()> {
    let mut cursor = Cursor(extra);
    while !cursor.is_empty() {
        let tag = cursor.bytes(1)?[0];
        let len = cursor.number()?;
        visit(tag, cursor.bytes(len)?)?;
    }
    Ok(())
}

/// The first field of a tag.
pub fn find(extra: &[u8], tag: u8) -> Result<Option<Vec<u8>>> {
    let mut found = None;
    each(extra, |t, value| {
        if t == tag && found.is_none() {
            found = Some(value.to_vec());
        }
        Ok(())
    })?;
    Ok(found)
}

pub fn rdev(extra: &[u8]) -> Result<u64> {
    let Some(value) = find(extra, DEVICE)? else { return Ok(0) };
    let mut cursor = Cursor(&value);
    let major = cursor.number_to(u32::MAX.into(), "a device number")?;
    let minor = cursor.number_to(u32::MAX.into(), "a device number")?;
    Ok(device::join(major as u32, minor as u32))
}

/// Adds a time that is kept as its difference to mtime.
pub fn add_time(extra: &mut Vec<u8>, tag: u8, time: Time, mtime: Time) {
    if time != mtime {
        add_numbers(extra, tag, &[zigzag(time.secs.wrapping_sub(mtime.secs)), time.nanos.into()]);
    }
}

/// A time, or mtime where there is no such field.
pub fn time(extra: &[u8], tag: u8, mtime: Time) -> Result<Time> {
    let Some(value) = find(extra, tag)? else { return Ok(mtime) };
    let mut cursor = Cursor(&value);
    let secs = mtime.secs.wrapping_add(unzigzag(cursor.number()?));
    let nanos = cursor.number_to(999_999_999, "the nanoseconds of a time")? as u32;
    Ok(Time { secs, nanos })
}

pub fn allocated(extra: &[u8]) -> Result<Option<u64>> {
    let number = |value: Vec<u8>| Cursor(&value).number_to(limits::ADDRESS, "the data of a file");
    find(extra, ALLOCATED)?.map(number).transpose()
}

pub fn xattrs(extra: &[u8]) -> Result<Vec<Xattr>> {
    let mut out = Vec::new();
    each(extra, |tag, field| {
        if tag == XATTR {
            let mut cursor = Cursor(field);
            let len = cursor.number()?;
            let name = cursor.bytes(len)?;
            if name.is_empty() || name.len() > 255 || name.contains(&0) {
                return Err(damaged("an extended attribute has a name that cannot be"));
            }
            out.push((name.to_vec(), cursor.0.to_vec()));
        }
        Ok(())
    })?;
    Ok(out)
}
