//! Extended attributes: a table of sets, each with the place of its first attribute.
//!
//! ```text
//!   set   place, count, size      attribute   kind │ length, name without its prefix │ length, value, or its place elsewhere
//! ```

use super::image::Image;
use super::superblock::NONE;
use crate::codec::damaged;
use crate::error::Result;
use crate::tree::Xattr;

/// Attributes of one file, the bytes of all of them, and those of a value: no system takes more.
const MAX_COUNT: u32 = 4096;
const MAX_BYTES: usize = 1 << 20;
const MAX_VALUE: u32 = 64 << 10;

const PREFIXES: [&[u8]; 3] = [b"user.", b"trusted.", b"security."];

/// Of a kind: the value stands elsewhere, because others have the same.
const ELSEWHERE: u16 = 0x100;

/// The attributes of a set.
pub fn read(image: &Image, number: u32) -> Result<Vec<Xattr>> {
    let table = image.head.xattr_table;
    if table == NONE {
        return Err(damaged("there is no table of attributes"));
    }
    let mut head = [0; 16];
    image.source.read_exact_at(table, &mut head)?;
    let start = u64::from_le_bytes(head[..8].try_into().unwrap_or_default());
    let sets = u32::from_le_bytes(head[8..12].try_into().unwrap_or_default());
    if number >= sets {
        return Err(damaged("a set of attributes is not in their table"));
    }
    let mut set = image.entry(table.saturating_add(16), number.into(), 16)?;
    let (place, count) = (set.u64()?, set.u32()?);
    if count > MAX_COUNT {
        return Err(damaged("a file has more attributes than it can have"));
    }
    let (mut at, mut xattrs, mut bytes) = (image.at(start, place)?, Vec::new(), 0);
    for _ in 0..count {
        let (kind, len) = (at.u16()?, at.u16()?);
        let name = at.bytes(len.into())?;
        let len = at.u32()?;
        let value = match kind & ELSEWHERE {
            0 => value(&mut at, len)?,
            _ => {
                let place = at.u64()?;
                let mut there = image.at(start, place)?;
                let len = there.u32()?;
                value(&mut there, len)?
            }
        };
        bytes += name.len() + value.len();
        if bytes > MAX_BYTES {
            return Err(damaged("the attributes of a file are longer than they can be"));
        }
        if let Some(prefix) = PREFIXES.get(usize::from(kind & 0xff)) {
            xattrs.push(([prefix, &name[..]].concat(), value));
        }
    }
    Ok(xattrs)
}

fn value(at: &mut super::image::Cursor<'_>, len: u32) -> Result<Vec<u8>> {
    match len {
        0..=MAX_VALUE => at.bytes(len as usize),
        _ => Err(damaged("the value of an attribute is longer than it can be")),
    }
}
