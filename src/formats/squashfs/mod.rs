//! Images of squashfs 4.0, to be read: those of live systems, snaps, routers, and of `mksquashfs`.
//!
//! ```text
//!   │ superblock │ blocks of data, ends of files │ inodes │ directories │ fragments │ owners │ attributes │
//!
//!   superblock  how it is compressed, where tables are     image   blocks out of it, through the cache
//!   inode       all kinds of them                          xattr   extended attributes
//!   walk        through all directories                    contents   files out of blocks
//!   program     what may stand in front: an AppImage
//! ```
//!
//! Directories are gone through when it is opened; of a file, only the blocks are decoded that somebody reads.

mod contents;
mod image;
mod inode;
mod program;
mod superblock;
mod walk;
mod xattr;

use super::{Access, Format, Match, Names, Probe, Volume};
use crate::error::{Error, Kind, Result, Within};
use crate::source::{ReadAt, Span};
use crate::tree::Catalog;
use contents::Files;
use image::Image;
use std::sync::Arc;
use superblock::Superblock;
use walk::Walk;

/// The format, for the list of formats.
pub struct Squashfs;

impl Format for Squashfs {
    fn name(&self) -> &'static str {
        "squashfs"
    }

    fn recognise(&self, probe: &Probe<'_>) -> Match {
        Match::head(superblock::is_one(probe.head))
    }

    fn is_further_in(&self, bytes: &dyn ReadAt) -> Result<bool> {
        let Some(start) = program::end(bytes)? else { return Ok(false) };
        let mut head = [0; superblock::LEN];
        let got = bytes.read_at(start, &mut head)?;
        Ok(superblock::is_one(&head[..got]))
    }

    fn open(&self, access: Access) -> Result<Volume> {
        let name = access.name.clone();
        open(&access, self.name()).within(|| name)
    }
}

fn open(access: &Access, format: &'static str) -> Result<Volume> {
    let cache = access.cache.clone();
    let source: Arc<dyn ReadAt> = match program::end(&*access.bytes)? {
        Some(start) => Arc::new(Span::new(access.bytes.clone(), start..access.bytes.len()?)),
        None => access.bytes.clone(),
    };
    let (head, len) = (Superblock::read(&*source)?, source.len()?);
    if head.used > len {
        let what = format!("it is cut off: {len} bytes of {} are there, and its tables are at the end", head.used);
        return Err(Error::new(Kind::Header, what));
    }
    let owner = cache.new_owner();
    let image = Arc::new(Image { source, cache, owner, head });
    let torn = |e: Error| match e.kind() {
        Kind::Damaged => broken("its tables are damaged").caused_by(e),
        _ => e,
    };
    let ids = ids(&image).map_err(torn)?;
    let (walk, names) = walked(access, &image, &ids).map_err(torn)?;
    let mut facts = vec![
        ("entries", walk.entries.to_string()),
        ("compression", head.codec_name.to_owned()),
        ("blocks", format!("{} KiB", head.block_size >> 10)),
    ];
    facts.extend(names.charset().map(|charset| ("names in", charset.to_owned())));
    facts.push(("random access", format!("a jump decodes at most {} KiB", head.block_size >> 10)));
    let (tables, shown) = walk.builder.finish();
    let notes = [walk.slips.notes(), shown].concat();
    let tree = Arc::new(Catalog::new(tables, Arc::new(Files(image)), len));
    Ok(Volume { notes, facts, ..Volume::read_only(tree, format) })
}

/// Goes through all directories; twice, where names turn out to be in a charset that has to be guessed from all of them.
fn walked<'a>(access: &'a Access, image: &'a Image, ids: &'a [u32]) -> Result<(Walk<'a>, Names)> {
    let walk = |names| Walk::new(access, image, ids, names).run();
    Names::settled(access.reading.encoding.as_deref(), walk, |walk| &walk.undeclared)
}

/// The owners of all files: at most 65536.
fn ids(image: &Image) -> Result<Vec<u32>> {
    (0..image.head.ids).map(|number| image.entry(image.head.id_table, number.into(), 4)?.u32()).collect()
}

/// The error of what is no such image.
fn broken(what: impl Into<String>) -> Error {
    Error::new(Kind::Header, what)
}
