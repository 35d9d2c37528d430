//! Images of ISO 9660, to be read: those of CDs and DVDs, with what extends them.
//!
//! ```text
//!   volume     descriptors ─► which tree is shown: Rock Ridge, else Joliet, else plain names
//!   record     one line of a directory      rockridge  what Unix knows of a file
//!   walk       through all directories      names      what is shown instead of README.TXT;1
//!   contents   what is in a file            zisofs     files that are compressed
//! ```
//!
//! Images from which a computer begins are outside of all directories, and are not shown.

mod contents;
mod names;
mod record;
mod rockridge;
mod volume;
mod walk;
mod zisofs;

use super::{Access, Format, Match, Names as Charset, Probe};
use crate::error::{Error, Kind, Result, Within};
use crate::tree::Catalog;
use contents::Archive;
use std::sync::Arc;
use volume::{Names, Volume};
use walk::Walk;
use zisofs::Blocks;

/// The format, for the list of formats.
pub struct Iso9660;

impl Format for Iso9660 {
    fn name(&self) -> &'static str {
        "iso9660"
    }

    fn recognise(&self, probe: &Probe<'_>) -> Match {
        Match::head(volume::is_one(probe.head))
    }

    fn open(&self, access: Access) -> Result<super::Volume> {
        let name = access.name.clone();
        open(&access, self.name()).within(|| name)
    }
}

fn open(access: &Access, format: &'static str) -> Result<super::Volume> {
    let volume = Volume::read(&*access.bytes)?;
    let told = access.reading.encoding.as_deref().map(Charset::by_name).transpose()?;
    let first = Walk::new(access, &volume, told.unwrap_or_default())?.run()?;
    let charset = match told {
        None if first.undeclared.any() => Charset::detected(&first.undeclared),
        told => told.unwrap_or_default(),
    };
    let walk = match told.is_none() && charset.changes(&first.undeclared) {
        true => Walk::new(access, &volume, charset)?.run()?,
        false => first,
    };
    let facts = facts(&volume, walk.entries, charset.charset());
    let (tables, shown) = walk.builder.finish();
    let mut notes = [walk.slips.notes(), shown].concat();
    if volume.has_udf {
        notes.push("there is UDF in it, too, which is not read; files may be there that are not shown".into());
    }
    let archive = Archive { image: access.bytes.clone(), files: walk.files, zisofs: Blocks::new(access.cache.clone()) };
    let tree = Arc::new(Catalog::new(tables, Arc::new(archive), access.bytes.len()?));
    Ok(super::Volume { notes, facts, ..super::Volume::read_only(tree, format) })
}

/// What `info` tells.
fn facts(volume: &Volume, entries: u64, charset: Option<&'static str>) -> Vec<(&'static str, String)> {
    let names = match volume.names {
        Names::RockRidge(_) if volume.has_joliet => "Rock Ridge; those of Joliet are not shown",
        Names::RockRidge(_) => "Rock Ridge",
        Names::Joliet => "Joliet",
        Names::Plain => "plain, shown in small letters",
    };
    let mut facts = vec![("entries", entries.to_string()), ("names", names.to_owned())];
    if !volume.label.is_empty() {
        facts.push(("label", volume.label.clone()));
    }
    facts.extend(charset.map(|charset| ("names in", charset.to_owned())));
    if volume.has_boot {
        facts.push(("boots by", "El Torito".to_owned()));
    }
    facts.push(("random access", "not compressed: a jump costs nothing".to_owned()));
    facts
}

/// The error of what is no such image.
fn broken(what: impl Into<String>) -> Error {
    Error::new(Kind::Header, what)
}
