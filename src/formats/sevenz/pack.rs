//! Packing a tree as 7z, by the crate `sevenz-rust2`: LZMA2 in solid blocks of some MiB, so that a file in the middle costs
//! one block and not all before it; Unix modes as p7zip writes them, times to 100 ns, AES-256 with an encrypted header where
//! a password is given.
//!
//! The header of 7z stands at the front and is written last: it cannot go into a pipe.

use crate::error::{Error, Kind as ErrorKind, Result};
use crate::formats::{Found, Holds, as_text, collect};
use crate::formats::{Pack, Packed, Seekable, Watch};
use crate::key::Secret;
use crate::pool::{self, lock};
use crate::source::ReadAt;
use crate::tree::{Filter, Kind, Time, Tree};
use sevenz_rust2::encoder_options::{AesEncoderOptions, Lzma2Options};
use sevenz_rust2::{
    ArchiveEntry, ArchiveWriter, EncoderConfiguration, NtTime, Password, PreparedBlock, SourceReader, prepare_block,
};
use std::io::{self, Read, Write};
use std::sync::{Arc, Mutex};

/// What 7z holds.
pub const HOLDS: Holds = Holds { format: "7z", time: 100, ..Holds::BASIC };

/// Raw bytes of a solid block.
pub const BLOCK: u64 = 8 << 20;

/// A file from this size on is a block of its own, compressed while it is written.
pub const LARGE: u64 = 64 << 20;

/// The rounds of key derivation, as a power of two: as many as 7-Zip makes.
const ROUNDS: u8 = 19;

/// Packs trees as 7z.
pub struct SevenzPacker {
    /// 1 to 9.
    pub level: u8,
    pub threads: usize,
    pub filter: Filter,
    pub password: Option<Secret>,
}

/// Entries that become a block, with their bytes.
type Batch = (Vec<ArchiveEntry>, Vec<Vec<u8>>);

enum Job {
    Block(Batch),
    Large(usize),
    /// Without contents.
    Bare(Box<ArchiveEntry>),
}

enum Made {
    Block(Result<PreparedBlock>),
    Large(usize),
    Bare(Box<ArchiveEntry>),
}

impl Pack for SevenzPacker {
    fn pack(&self, _: &dyn Tree, _: &mut (dyn Write + Send), _: &dyn Watch) -> Result<Packed> {
        Err(Error::new(ErrorKind::Unsupported, "7z cannot be written to a pipe")
            .hint("a file; or tar.xz, which is as small"))
    }

    fn pack_to_file(&self, tree: &dyn Tree, out: &mut dyn Seekable, watch: &dyn Watch) -> Result<Packed> {
        let all = collect(tree, &self.filter, watch)?;
        let mut packed = Packed { entries: all.len() as u64, ..Packed::default() };
        packed.bytes = all.iter().filter(|f| f.attr.kind == Kind::File).map(|f| f.attr.size).sum();
        packed.unique = packed.bytes;
        watch.total(packed.bytes, packed.entries);
        let skipped = Mutex::new(0);
        let skip = |at: usize, e: &Error| {
            watch.skipped(&all[at].path, e);
            *lock(&skipped) += 1;
        };
        let mut writer = ArchiveWriter::new(&mut *out).map_err(output)?;
        let methods = Arc::new(self.methods());
        writer.set_content_methods(methods.to_vec());
        writer.set_encrypt_header(self.password.is_some());
        pool::ordered(
            self.threads,
            self.threads + 1,
            |feed| {
                let mut batches = Batches { batch: Batch::default(), bytes: 0, push: &mut |job| feed.push(job) };
                for (at, found) in all.iter().enumerate().skip(1) {
                    if watch.is_cancelled() {
                        return Err(Error::new(ErrorKind::Interrupted, "interrupted"));
                    }
                    watch.entry(&found.path);
                    match take(tree, at, found, &mut batches) {
                        Ok(true) => {}
                        Ok(false) => return Ok(()),
                        Err(e) => skip(at, &e),
                    }
                    watch.advance(found.attr.size, 1);
                }
                batches.flush();
                Ok(())
            },
            |job| match job {
                Job::Block((entries, contents)) => {
                    let readers = contents.into_iter().map(|bytes| SourceReader::new(io::Cursor::new(bytes))).collect();
                    Made::Block(prepare_block(methods.clone(), entries, readers).map_err(failed))
                }
                Job::Large(at) => Made::Large(at),
                Job::Bare(entry) => Made::Bare(entry),
            },
            |made| {
                match made {
                    Made::Block(block) => drop(writer.push_prepared_block(block?).map_err(output)?),
                    Made::Bare(entry) => drop(writer.push_archive_entry::<&[u8]>(*entry, None).map_err(output)?),
                    Made::Large(at) => {
                        let file = tree.open(all[at].node)?;
                        let reader = Reading { file: &*file, at: 0 };
                        // A large file that cannot be read ends it all: what is written of it cannot be taken back.
                        writer.push_archive_entry(entry(&all[at]), Some(reader)).map_err(output)?;
                    }
                }
                Ok(())
            },
        )?;
        writer.finish().map_err(|e| Error::io(e, OUTPUT))?;
        packed.skipped = *lock(&skipped);
        packed.stored = out.stream_position().map_err(|e| Error::io(e, OUTPUT))?;
        let end = out.seek(io::SeekFrom::End(0)).map_err(|e| Error::io(e, OUTPUT))?;
        packed.stored = packed.stored.max(end);
        Ok(packed)
    }
}

impl SevenzPacker {
    fn methods(&self) -> Vec<EncoderConfiguration> {
        let mut methods = Vec::new();
        if let Some(password) = &self.password {
            // 7z takes the password as UTF-16.
            let text = String::from_utf8_lossy(password.expose());
            let mut options = AesEncoderOptions::new(Password::from(&*text));
            options.num_cycles_power = ROUNDS;
            methods.push(options.into());
        }
        let mut lzma = Lzma2Options::from_level(u32::from(self.level.clamp(1, 9)));
        lzma.set_dictionary_size(BLOCK as u32);
        methods.push(lzma.into());
        methods
    }
}

/// Gathers small files to blocks.
struct Batches<'a> {
    batch: Batch,
    bytes: u64,
    push: &'a mut dyn FnMut(Job) -> bool,
}

impl Batches<'_> {
    fn flush(&mut self) -> bool {
        self.bytes = 0;
        let batch = std::mem::take(&mut self.batch);
        batch.0.is_empty() || (self.push)(Job::Block(batch))
    }
}

/// Takes an entry in; false when nobody wants more.
fn take(tree: &dyn Tree, at: usize, found: &Found, batches: &mut Batches<'_>) -> Result<bool> {
    let bytes = match found.attr.kind {
        Kind::File if found.attr.size >= LARGE => return Ok(batches.flush() && (batches.push)(Job::Large(at))),
        Kind::File => {
            let mut bytes = vec![0; found.attr.size as usize];
            tree.open(found.node)?.read_exact_at(0, &mut bytes)?;
            bytes
        }
        Kind::Symlink => tree.target(found.node)?,
        Kind::Directory => Vec::new(),
        _ => return Err(Error::new(ErrorKind::Unsupported, "7z has no place for it")),
    };
    if bytes.is_empty() {
        return Ok((batches.push)(Job::Bare(Box::new(ArchiveEntry { has_stream: false, ..entry(found) }))));
    }
    if batches.bytes > 0 && batches.bytes + bytes.len() as u64 > BLOCK && !batches.flush() {
        return Ok(false);
    }
    batches.bytes += bytes.len() as u64;
    batches.batch.0.push(entry(found));
    batches.batch.1.push(bytes);
    Ok(true)
}

fn entry(found: &Found) -> ArchiveEntry {
    let (attr, name) = (&found.attr, as_text(&found.path));
    let is_dir = attr.kind == Kind::Directory;
    let made = if is_dir { ArchiveEntry::new_directory(&name) } else { ArchiveEntry::new_file(&name) };
    let time = nt_time(attr.mtime);
    ArchiveEntry {
        has_windows_attributes: true,
        windows_attributes: super::entry::attributes(attr.kind, attr.mode),
        has_last_modified_date: time.is_some(),
        last_modified_date: time.unwrap_or_default(),
        ..made
    }
}

/// 100 ns since 1601.
fn nt_time(time: Time) -> Option<NtTime> {
    let secs = time.secs.checked_add(11_644_473_600)?;
    let ticks = u64::try_from(secs).ok()?.checked_mul(10_000_000)?.checked_add(u64::from(time.nanos / 100))?;
    Some(NtTime::new(ticks))
}

const OUTPUT: &str = "cannot write the archive";

fn output(e: sevenz_rust2::Error) -> Error {
    Error::io(io::Error::other(e), OUTPUT)
}

fn failed(e: sevenz_rust2::Error) -> Error {
    Error::new(ErrorKind::System, "cannot compress").caused_by(io::Error::other(e))
}

/// A file as a stream.
struct Reading<'a> {
    file: &'a dyn ReadAt,
    at: u64,
}

impl Read for Reading<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let got = self.file.read_at(self.at, into).map_err(io::Error::other)?;
        self.at += got as u64;
        Ok(got)
    }
}
