//! Changes go into a tar.
//!
//! ```text
//!   appended   entries │ zeros            what is there stays; a later entry counts for an earlier one of the same name
//!              entries │ new entries │ zeros         the first block of what is new is written last: until then it ends there
//!   written anew     where something was deleted, renamed or linked, or when half of it would be of no use any more
//! ```
//!
//! It is the same where it is compressed piece by piece, and the zeros at the end are a piece of their own, as this project
//! writes it: that piece is what is written over last. What others compressed in one piece is compressed anew.

use super::pack::{END, HOLDS, TarPacker};
use super::{BLOCK, Opened};
use crate::codec::pieces::{Codec, compressed};
use crate::error::{Error, Kind as ErrorKind, Result, Within};
use crate::formats::{
    Access, First, Found, Holds, Notes, Onto, Patched, Rebuild, Remake, Settling, Undo, Unwatched, Volume, Watch,
    collect, inside,
};
use crate::pool::{self, lock};
use crate::source::{Held, ReadAt, Stamp, Store};
use crate::tree::{Filter, Kind, Merged, Node, Renumbered, Tree};
use std::collections::BTreeSet;
use std::io::{self, BufWriter, Write};
use std::sync::{Arc, Mutex};

/// What no name leads to any more may always be so much.
const SLACK: u64 = 64 << 20;
/// Level of compression where nobody says one.
const LEVEL: u8 = 6;
/// Bytes that are gathered before they are written.
const PIECE: usize = 1 << 20;

/// A tar that takes changes.
struct TarFile {
    codec: Option<Codec>,
    level: u8,
    now: Mutex<Arc<Opened>>,
}

/// Opens a tar to change it; one that is compressed is given with what it is decoded from.
///
/// # Errors
/// `ReadOnly` when something is wrong with it: what cannot be read of it would not be in what is written.
pub fn open(access: Access) -> Result<Option<Settling>> {
    let (Some(held), name) = (access.held.clone(), access.name.clone()) else { return Ok(None) };
    let codec = match &access.compressed {
        None => None,
        Some(compressed) => match Codec::called(compressed.by) {
            Some(codec) => Some(codec),
            None => return Ok(None),
        },
    };
    let (volume, opened) = super::open(&access, "tar").within(|| name)?;
    if !opened.is_clear {
        let what = format!("{}: {}", access.name, volume.notes.join("; "));
        return Err(Error::new(ErrorKind::ReadOnly, what)
            .hint("without -o rw it is mounted to be read; stmount convert makes a whole one of it"));
    }
    let first_new = opened.first_new;
    let file = TarFile { codec, level: access.level.unwrap_or(LEVEL), now: Mutex::new(Arc::new(opened)) };
    // It is opened again from the bytes of the file.
    let access = Access { compressed: None, ..access };
    let settle = Arc::new(Rebuild::new(access, held, file));
    Ok(Some(Settling { volume, settle, first_new, password: None }))
}

impl TarFile {
    fn packer(&self, codec: Option<Codec>) -> TarPacker {
        TarPacker { codec, level: self.level, threads: pool::threads(), filter: Filter::default() }
    }

    /// Where what is new can begin, and how much there is written over last.
    fn place(&self, held: &Held) -> Result<Option<(u64, usize)>> {
        let (now, len) = (lock(&self.now).clone(), held.len()?);
        let Some(codec) = self.codec else { return Ok((now.body <= len).then_some((now.body, BLOCK))) };
        if now.end != now.body + END.len() as u64 {
            return Ok(None);
        }
        // The piece with the end, at whatever level it was made.
        for level in 1..=9 {
            let end = compressed(codec, level, &END)?;
            let mut there = vec![0; end.len()];
            if end.len() as u64 <= len && end.len() <= Undo::TAIL {
                held.read_exact_at(len - end.len() as u64, &mut there)?;
                if there == end {
                    return Ok(Some((len - end.len() as u64, end.len())));
                }
            }
        }
        Ok(None)
    }

    fn is_worth(&self, merged: &Merged) -> Result<bool> {
        let entry = |found: Found| match found.attr.kind {
            Kind::File => found.attr.size.next_multiple_of(BLOCK as u64) + BLOCK as u64,
            _ => BLOCK as u64,
        };
        let needed: u64 = collect(merged, &Filter::default(), &Unwatched)?.into_iter().map(entry).sum();
        Ok(lock(&self.now).body.saturating_sub(needed) <= needed.max(SLACK))
    }
}

impl Remake for TarFile {
    fn holds(&self) -> &'static Holds {
        &HOLDS
    }

    fn write(&self, merged: &Merged, _: &Renumbered, out: &Held, watch: &dyn Watch) -> Result<()> {
        let all = collect(merged, &Filter::default(), watch)?;
        let mut out = BufWriter::with_capacity(PIECE, Onto { store: out, at: 0 });
        self.entries(&self.packer(self.codec), merged, &all, &mut out, watch)?;
        out.flush().map_err(|e| Error::io(e, "cannot write the archive"))
    }

    fn append(
        &self,
        held: &Held,
        merged: &Merged,
        archive: &Renumbered,
        notes: &mut dyn Notes,
        watch: &dyn Watch,
    ) -> Result<Option<Undo>> {
        let Some(touched) = touched(merged, archive)? else { return Ok(None) };
        let Some((at, last)) = self.place(held)? else { return Ok(None) };
        if !self.is_worth(merged)? {
            return Ok(None);
        }
        let mut all = collect(merged, &Filter::default(), watch)?;
        all.retain(|found| touched.contains(&found.node));
        let len = held.len()?;
        let mut tail = vec![0; if self.codec.is_some() { last } else { 0 }];
        held.read_exact_at(at, &mut tail)?;
        let undo = Undo { at, tail, len };
        notes.begin(&undo)?;
        let done = self.behind(held, (at, last), merged, &all, notes, watch);
        match done {
            Ok(()) => Ok(Some(undo)),
            Err(e) => undo.apply(held).and(Err(e)),
        }
    }

    fn open(&self, access: Access) -> Result<Volume> {
        let name = access.name.clone();
        let access = match self.codec {
            Some(_) => inside(&access).within(|| name.clone())?,
            None => access,
        };
        let (volume, opened) = super::open(&access, "tar").within(|| name)?;
        *lock(&self.now) = Arc::new(opened);
        Ok(volume)
    }
}

impl TarFile {
    fn entries(
        &self,
        packer: &TarPacker,
        merged: &Merged,
        all: &[Found],
        out: &mut (dyn Write + Send),
        watch: &dyn Watch,
    ) -> Result<()> {
        let first = First::new(watch);
        match packer.entries(merged, all, out, &first)?.skipped {
            0 => Ok(()),
            _ => Err(first.into_error()),
        }
    }

    /// Writes entries from a place on, its first bytes at last.
    fn behind(
        &self,
        held: &Held,
        (at, last): (u64, usize),
        merged: &Merged,
        all: &[Found],
        notes: &mut dyn Notes,
        watch: &dyn Watch,
    ) -> Result<()> {
        let mut out = Behind {
            front: Vec::new(),
            last,
            rest: BufWriter::with_capacity(PIECE, Onto { store: held, at: at + last as u64 }),
        };
        self.entries(&self.packer(self.codec), merged, all, &mut out, watch)?;
        out.rest.flush().map_err(|e| Error::io(e, "cannot write the archive"))?;
        let (front, end) = (out.front, out.rest.get_ref().at);
        drop(out.rest);
        // What was there may have had more zeros at its end.
        if held.len()? > end {
            held.set_len(end)?;
        }
        held.sync()?;
        notes.expect(&Stamp::of(&Patched { under: held, at, bytes: &front })?)?;
        held.write_at(at, &front)?;
        held.sync()
    }
}

/// Keeps the first bytes back.
struct Behind<'a> {
    front: Vec<u8>,
    last: usize,
    rest: BufWriter<Onto<'a>>,
}

impl Write for Behind<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let front = bytes.len().min(self.last - self.front.len());
        self.front.extend_from_slice(&bytes[..front]);
        self.rest.write_all(&bytes[front..])?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The inodes that are to be written again, when nothing is changed but these: new ones, and such with one name that have
/// it still.
fn touched(merged: &Merged, archive: &Renumbered) -> Result<Option<BTreeSet<Node>>> {
    let changes = merged.changes();
    let mut touched = BTreeSet::new();
    for (dir, names) in &changes.names {
        let dir_is_old = archive.number_below(*dir).is_some();
        for (name, named) in names {
            let before = if dir_is_old { archive.find(*dir, name.as_name())? } else { None };
            match (named, before) {
                (None, None) => {}
                (Some((node, _)), Some(before)) if *node == before => {}
                (Some((node, _)), None) if archive.number_below(*node).is_none() => {}
                (Some((node, kind)), Some(before)) if archive.number_below(*node).is_none() => {
                    let old = archive.attr(before)?;
                    if old.kind == Kind::Directory || *kind == Kind::Directory || old.nlink > 1 {
                        return Ok(None);
                    }
                }
                _ => return Ok(None),
            }
        }
    }
    for (node, inode) in &changes.nodes {
        let Some(inode) = inode else { continue };
        if archive.number_below(*node).is_none() {
            touched.insert(*node);
            continue;
        }
        let before = archive.attr(*node)?;
        if inode.is_still(&before, true) || inode.attr.nlink == 0 {
            continue;
        }
        if before.kind != Kind::Directory && (before.nlink > 1 || inode.attr.nlink > 1) {
            return Ok(None);
        }
        touched.insert(*node);
    }
    Ok(Some(touched))
}
