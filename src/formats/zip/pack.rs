//! Packing a tree as zip, by the crate `zip`: deflate (or zstd, xz, bzip2, stored), Unix modes, owners, times to the
//! second, symbolic links, AES-256 where a password is given.
//!
//! ```text
//!   tree ──► small files: read, compressed by workers ──► out, in order
//!        └─► large files: compressed while they are written
//! ```
//!
//! It is written front to back, so it can go into a pipe; sizes of large files stand behind their contents, as everybody
//! reads them.

use super::layout::extra;
use super::own::Own;
use crate::error::{Error, Kind as ErrorKind, Result};
use crate::formats::{Found, Holds, as_text, collect};
use crate::formats::{Pack, Packed, Watch};
use crate::key::Secret;
use crate::pool::{self, lock};
use crate::source::ReadAt;
use crate::tree::{Filter, Kind, Time, Tree};
use std::io::{self, Write};
use std::sync::Mutex;
use zip::write::{FileOptions, FullFileOptions, PreparedZipFile, StreamWriter, ZipFileBuilder};
use zip::{AesMode, CompressionMethod, DateTime, ZipWriter};

/// What zip holds.
pub const HOLDS: Holds = Holds { format: "zip", owners: true, ..Holds::BASIC };

/// Files up to this size are compressed in memory, by workers.
const SMALL: u64 = 8 << 20;

/// From this size on a file may need numbers of 64 bits, compressed as badly as can be.
const LARGE: u64 = 0xf000_0000;

const PIECE: usize = 1 << 20;

/// The methods that are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Method {
    Store,
    /// What everybody reads.
    #[default]
    Deflate,
    Bzip2,
    Zstd,
    Xz,
}

/// Packs trees as zip.
pub struct ZipPacker {
    pub method: Method,
    /// 1 to 9.
    pub level: u8,
    pub threads: usize,
    pub filter: Filter,
    pub password: Option<Secret>,
    /// Keep in a field of this program what zip has no place for.
    pub is_whole: bool,
}

/// What a worker makes of an entry.
enum Made {
    Ready(Box<PreparedZipFile>),
    /// It is written by whoever has the output.
    Later(usize),
    Failed(usize, Error),
}

enum Job {
    Small(usize, Vec<u8>),
    Other(usize),
    Failed(usize, Error),
}

impl Pack for ZipPacker {
    fn pack(&self, tree: &dyn Tree, out: &mut (dyn Write + Send), watch: &dyn Watch) -> Result<Packed> {
        let all = collect(tree, &self.filter, watch)?;
        let mut packed = Packed { entries: all.len() as u64, ..Packed::default() };
        packed.bytes = all.iter().filter(|f| f.attr.kind == Kind::File).map(|f| f.attr.size).sum();
        packed.unique = packed.bytes;
        watch.total(packed.bytes, packed.entries);
        let counted = Mutex::new(0);
        let mut zip = ZipWriter::new_stream(Counted { out, written: &counted }).set_auto_large_file();
        packed.skipped = self.entries(tree, &all[1..], &mut zip, watch)?;
        zip.finish().map_err(output)?;
        packed.stored = *lock(&counted);
        Ok(packed)
    }
}

impl ZipPacker {
    /// Writes entries, and not yet the list of them. Returns how many could not be read.
    pub fn entries<W: Write + Send>(
        &self,
        tree: &dyn Tree,
        all: &[Found],
        zip: &mut ZipWriter<StreamWriter<W>>,
        watch: &dyn Watch,
    ) -> Result<u64> {
        let mut skipped = 0;
        pool::ordered(
            self.threads,
            self.threads * 2,
            |feed| {
                for (at, found) in all.iter().enumerate() {
                    if watch.is_cancelled() {
                        return Err(Error::new(ErrorKind::Interrupted, "interrupted"));
                    }
                    watch.entry(&found.path);
                    if !feed.push(self.job(tree, at, found)) {
                        break;
                    }
                }
                Ok(())
            },
            |job| self.make(tree, all, job),
            |made| {
                let (at, done) = match made {
                    Made::Ready(ready) => return zip.add_prepared_file(*ready).map_err(output),
                    Made::Later(at) => (at, self.write(tree, &all[at], zip, watch)),
                    Made::Failed(at, e) => (at, Err(e)),
                };
                watch.advance(0, 1);
                match done {
                    Err(e) if e.to_string().starts_with(OUTPUT) || e.kind() == ErrorKind::Interrupted => Err(e),
                    Err(e) => {
                        watch.skipped(&all[at].path, &e);
                        skipped += 1;
                        Ok(())
                    }
                    Ok(()) => Ok(()),
                }
            },
        )?;
        Ok(skipped)
    }
}

struct Counted<'a> {
    out: &'a mut (dyn Write + Send),
    written: &'a Mutex<u64>,
}

impl Write for Counted<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        *lock(self.written) += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Errors of the output end everything; they are marked by their words.
const OUTPUT: &str = "cannot write the archive";

fn output(e: zip::result::ZipError) -> Error {
    Error::io(e.into(), OUTPUT)
}

impl ZipPacker {
    fn job(&self, tree: &dyn Tree, at: usize, found: &Found) -> Job {
        // Of all others the kind is in the mode.
        if self.is_whole && !matches!(found.attr.kind, Kind::File | Kind::Directory | Kind::Symlink) {
            return Job::Small(at, Vec::new());
        }
        let is_small = found.attr.kind == Kind::File && found.attr.size <= SMALL && self.password.is_none();
        if !is_small {
            return Job::Other(at);
        }
        let mut bytes = vec![0; found.attr.size as usize];
        match tree.open(found.node).and_then(|file| file.read_exact_at(0, &mut bytes)) {
            Ok(()) => Job::Small(at, bytes),
            Err(e) => Job::Failed(at, e),
        }
    }

    /// What can be done aside.
    fn make(&self, tree: &dyn Tree, all: &[Found], job: Job) -> Made {
        let (at, bytes) = match job {
            Job::Small(at, bytes) => (at, bytes),
            Job::Other(at) => return Made::Later(at),
            Job::Failed(at, e) => return Made::Failed(at, e),
        };
        let made = self.options(tree, &all[at]).and_then(|options| {
            let mut builder = ZipFileBuilder::new(as_text(&all[at].path), options).map_err(refused)?;
            builder.write_all(&bytes)?;
            builder.finish().map_err(refused)
        });
        made.map_or_else(|e| Made::Failed(at, e), |ready| Made::Ready(Box::new(ready)))
    }

    fn write<W: Write>(
        &self,
        tree: &dyn Tree,
        found: &Found,
        zip: &mut ZipWriter<StreamWriter<W>>,
        watch: &dyn Watch,
    ) -> Result<()> {
        let name = as_text(&found.path);
        let options = self.options(tree, found)?;
        match found.attr.kind {
            Kind::Directory => zip.add_directory(format!("{name}/"), self.locked(options)).map_err(output),
            Kind::Symlink => {
                let target = tree.target(found.node)?;
                let stored = options.compression_method(CompressionMethod::Stored).compression_level(None);
                zip.start_file(name, self.locked(stored)).map_err(output)?;
                zip.write_all(&target).map_err(|e| Error::io(e, OUTPUT))
            }
            Kind::File => {
                let file = tree.open(found.node)?;
                zip.start_file(name, self.locked(options)).map_err(output)?;
                let copied = copy(&*file, found.attr.size, zip, watch);
                if copied.as_ref().is_err_and(|e| !e.to_string().starts_with(OUTPUT)) {
                    zip.abort_file().map_err(output)?;
                }
                copied
            }
            _ => Err(Error::new(ErrorKind::Unsupported, "zip has no place for it")),
        }
    }

    fn locked<'a>(&'a self, options: FullFileOptions<'a, 'a>) -> FullFileOptions<'a, 'a> {
        match &self.password {
            Some(password) => options.with_aes_encryption_bytes(AesMode::Aes256, password.expose()),
            None => options,
        }
    }

    fn options(&self, tree: &dyn Tree, found: &Found) -> Result<FullFileOptions<'static, 'static>> {
        let attr = &found.attr;
        let mode = attr.kind.mode_bits() | attr.mode;
        // The DOS attribute of directories beside the Unix mode.
        let dos = if attr.kind == Kind::Directory { 0x10 } else { 0 };
        // Of nothing there is nothing to compress, and some programs refuse a compressed nothing.
        let (method, level) = if attr.size == 0 { (CompressionMethod::Stored, None) } else { self.method_and_level() };
        let mut options: FullFileOptions<'static, 'static> = FileOptions::default()
            .compression_method(method)
            .compression_level(level)
            .last_modified_time(dos_time(attr.mtime))
            .external_attributes(mode << 16 | dos)
            .system(zip::System::Unix)
            .large_file(attr.size >= LARGE);
        // Extra field "UT": seconds in 32 bits, in both headers.
        if let Ok(secs) = i32::try_from(attr.mtime.secs) {
            options.add_extra_field(0x5455, [&[1], &secs.to_le_bytes()[..]].concat(), false).map_err(refused)?;
        }
        // Extra field "ux": the owner.
        let owner = [&[1, 4], &attr.uid.to_le_bytes()[..], &[4], &attr.gid.to_le_bytes()[..]].concat();
        options.add_extra_field(0x7875, owner, false).map_err(refused)?;
        if self.is_whole {
            let own = Own { same_as: found.same_as.clone(), ..Own::of(attr, tree.xattrs(found.node)?, &found.path) };
            if !own.is_empty() {
                let too_long = || Error::new(ErrorKind::NoSpace, "its extended attributes have more than 60 KiB");
                let field = own.encode().ok_or_else(too_long)?;
                options.add_extra_field(extra::OWN, field, false).map_err(refused)?;
            }
        }
        Ok(options)
    }

    fn method_and_level(&self) -> (CompressionMethod, Option<i64>) {
        let level = i64::from(self.level.clamp(1, 9));
        match self.method {
            Method::Store => (CompressionMethod::Stored, None),
            Method::Deflate => (CompressionMethod::Deflated, Some(level)),
            Method::Bzip2 => (CompressionMethod::Bzip2, Some(level)),
            Method::Zstd => (CompressionMethod::Zstd, Some([1, 3, 5, 7, 9, 11, 15, 17, 19][level as usize - 1])),
            Method::Xz => (CompressionMethod::Xz, None),
        }
    }
}

fn refused(e: zip::result::ZipError) -> Error {
    Error::new(ErrorKind::Unsupported, "zip cannot hold it").caused_by(e)
}

/// Date and time as DOS has them.
pub fn dos_date_and_time(time: Time) -> (u16, u16) {
    let time = dos_time(time);
    (time.datepart(), time.timepart())
}

/// The time as DOS has it: from 1980 to 2107, in UTC as all times here. The extra field has the right one.
fn dos_time(time: Time) -> DateTime {
    let ((year, month, day), secs) = (time.civil(), time.secs.rem_euclid(86_400));
    let clock = |unit: i64, most: i64| (secs / unit % most) as u8;
    let year = u16::try_from(year).unwrap_or(0);
    DateTime::from_date_and_time(year, month as u8, day as u8, clock(3600, 24), clock(60, 60), clock(1, 60))
        .unwrap_or_default()
}

fn copy(file: &dyn ReadAt, size: u64, out: &mut dyn Write, watch: &dyn Watch) -> Result<()> {
    let (mut at, mut piece) = (0, vec![0; PIECE]);
    while at < size {
        if watch.is_cancelled() {
            return Err(Error::new(ErrorKind::Interrupted, "interrupted"));
        }
        let want = (size - at).min(PIECE as u64) as usize;
        file.read_exact_at(at, &mut piece[..want])?;
        out.write_all(&piece[..want]).map_err(|e| Error::io(e, OUTPUT))?;
        at += want as u64;
        watch.advance(want as u64, 0);
    }
    Ok(())
}
