//! Inodes, in a short and a long form of each kind.

use super::image::{Cursor, Image};
use crate::codec::damaged;
use crate::error::Result;
use crate::tree::{Kind, device};

/// Targets of links are no longer than this; what is longer nobody could follow.
const MAX_TARGET: u32 = 4096;

/// Stands for no fragment, and for no attributes.
const NONE: u32 = u32::MAX;

/// An inode as it is stored.
pub struct Inode {
    pub kind: Kind,
    pub mode: u32,
    /// Places in the table of owners.
    pub uid: u16,
    pub gid: u16,
    pub mtime: u32,
    pub number: u32,
    pub links: u32,
    /// A place in the table of attributes.
    pub xattrs: Option<u32>,
    pub what: What,
}

/// What only some kinds have.
pub enum What {
    Directory(Listing),
    File(File),
    Target(Vec<u8>),
    Device(u64),
    Nothing,
}

/// Where the entries of a directory are.
#[derive(Clone, Copy)]
pub struct Listing {
    /// A place in the directory table.
    pub place: u64,
    pub size: u32,
}

/// Where the data of a file are.
#[derive(Clone, Copy)]
pub struct File {
    pub start: u64,
    pub size: u64,
    /// Bytes that are holes.
    pub sparse: u64,
    /// The number of the block that it shares with others for its end, and the offset there.
    pub fragment: Option<(u32, u32)>,
}

impl Inode {
    /// The inode at a place of the inode table, and what stands behind it: of a file, the list of its blocks.
    pub fn read(image: &Image, place: u64) -> Result<(Self, Cursor<'_>)> {
        let mut at = image.at(image.head.inode_table, place)?;
        let (form, mode, uid, gid) = (at.u16()?, at.u16()?, at.u16()?, at.u16()?);
        let (mtime, number) = (at.u32()?, at.u32()?);
        let (is_long, kind) = match form {
            1..=7 => (false, form),
            8..=14 => (true, form - 7),
            _ => return Err(damaged("an inode is of no kind that there is")),
        };
        let (kind, links, xattrs, what) = match kind {
            1 => directory(&mut at, is_long)?,
            2 => file(&mut at, is_long)?,
            3 => link(&mut at, is_long)?,
            4 => other(&mut at, is_long, Kind::BlockDevice)?,
            5 => other(&mut at, is_long, Kind::CharDevice)?,
            6 => other(&mut at, is_long, Kind::Fifo)?,
            _ => other(&mut at, is_long, Kind::Socket)?,
        };
        let xattrs = xattrs.filter(|place| *place != NONE);
        Ok((Self { kind, mode: u32::from(mode) & 0o7777, uid, gid, mtime, number, links, xattrs, what }, at))
    }
}

type Parts = (Kind, u32, Option<u32>, What);

fn directory(at: &mut Cursor<'_>, is_long: bool) -> Result<Parts> {
    let (block, offset, size, links, xattrs);
    if is_long {
        (links, size, block) = (at.u32()?, at.u32()?, at.u32()?);
        let _parent = at.u32()?;
        let _indexes = at.u16()?;
        (offset, xattrs) = (at.u16()?, Some(at.u32()?));
    } else {
        (block, links, size, offset, xattrs) = (at.u32()?, at.u32()?, at.u16()?.into(), at.u16()?, None);
    }
    // The size counts the two entries that every directory has, and that are not stored.
    let listing = Listing { place: u64::from(block) << 16 | u64::from(offset), size: size.saturating_sub(3) };
    Ok((Kind::Directory, links, xattrs, What::Directory(listing)))
}

fn file(at: &mut Cursor<'_>, is_long: bool) -> Result<Parts> {
    let (start, size, sparse, links, fragment, offset, xattrs);
    if is_long {
        (start, size, sparse, links) = (at.u64()?, at.u64()?, at.u64()?, at.u32()?);
        (fragment, offset, xattrs) = (at.u32()?, at.u32()?, Some(at.u32()?));
    } else {
        (start, fragment, offset) = (at.u32()?.into(), at.u32()?, at.u32()?);
        (size, sparse, links, xattrs) = (at.u32()?.into(), 0, 1, None);
    }
    let fragment = (fragment != NONE).then_some((fragment, offset));
    Ok((Kind::File, links, xattrs, What::File(File { start, size, sparse, fragment })))
}

fn link(at: &mut Cursor<'_>, is_long: bool) -> Result<Parts> {
    let (links, len) = (at.u32()?, at.u32()?);
    if len > MAX_TARGET {
        return Err(damaged("the target of a link is longer than it can be"));
    }
    let target = at.bytes(len as usize)?;
    let xattrs = if is_long { Some(at.u32()?) } else { None };
    Ok((Kind::Symlink, links, xattrs, What::Target(target)))
}

fn other(at: &mut Cursor<'_>, is_long: bool, kind: Kind) -> Result<Parts> {
    let links = at.u32()?;
    let what = match kind.is_device() {
        true => {
            let rdev = at.u32()?;
            What::Device(device::join(rdev >> 8 & 0xfff, rdev & 0xff | rdev >> 12 & 0xf_ff00))
        }
        false => What::Nothing,
    };
    let xattrs = if is_long { Some(at.u32()?) } else { None };
    Ok((kind, links, xattrs, what))
}
