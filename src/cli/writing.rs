//! From the words of `pack` and `convert` to whoever packs, and to where.

use super::args::{self, Format, Method, Writing};
use super::output::Output;
use super::progress::Progress;
use super::sealing::new_passphrase;
use super::volumes;
use super::{pack, plan, say, upload};
use crate::codec::pieces::Codec;
use crate::error::{Error, Kind, Result};
use crate::formats::sevenz::pack::SevenzPacker;
use crate::formats::tar::pack::TarPacker;
use crate::formats::zip::pack::ZipPacker;
use crate::formats::{self, Holds, Pack, Packed, Unwatched, collect, st, zip};
use crate::key::sign::Signing;
use crate::open::How;
use crate::remote;
use crate::tree::{Filter, Tree};
use serde_json::json;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, IsTerminal, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Endings, longer ones first.
const ENDINGS: &[(&str, Format)] = &[
    (".tar.gz", Format::TarGz),
    (".tar.bz2", Format::TarBz2),
    (".tar.xz", Format::TarXz),
    (".tar.zst", Format::TarZst),
    (".tar.lz4", Format::TarLz4),
    (".tgz", Format::TarGz),
    (".tbz2", Format::TarBz2),
    (".tbz", Format::TarBz2),
    (".txz", Format::TarXz),
    (".tzst", Format::TarZst),
    (".tar", Format::Tar),
    (".zip", Format::Zip),
    (".jar", Format::Zip),
    (".cbz", Format::Zip),
    (".7z", Format::SevenZ),
    (".cb7", Format::SevenZ),
    (".st", Format::St),
];

/// Endings of what can be read and not written: a container under such a name would surprise everybody.
const ONLY_READ: &[&str] =
    &[".rar", ".iso", ".cpio", ".deb", ".squashfs", ".gz", ".xz", ".zst", ".bz2", ".lz4", ".lz", ".br"];

/// The format to write.
pub fn format(out: &Path, given: Option<Format>) -> Result<Format> {
    let name = out.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
    if let Some(format) = given.or_else(|| ENDINGS.iter().find(|(ending, _)| name.ends_with(ending)).map(|(_, f)| *f)) {
        return Ok(format);
    }
    match ONLY_READ.iter().find(|ending| name.ends_with(**ending)) {
        Some(ending) => Err(Error::new(Kind::Unsupported, format!("{}: {ending} cannot be written", out.display()))
            .hint("one of .st .zip .7z .tar .tar.gz .tar.bz2 .tar.xz .tar.zst .tar.lz4, or --format")),
        None => Ok(Format::St),
    }
}

/// What a format keeps; of the container, everything.
fn holds(format: Format) -> Option<&'static Holds> {
    match format {
        Format::St => None,
        Format::Zip => Some(&zip::pack::HOLDS),
        Format::SevenZ => Some(&formats::sevenz::pack::HOLDS),
        _ => Some(&formats::tar::pack::HOLDS),
    }
}

/// How to pack, whatever the format.
pub struct Packing {
    pub format: Format,
    pub level: u8,
    pub threads: usize,
    pub filter: Filter,
    pub segmentation: Option<st::Segmentation>,
    pub signing: Signing,
    /// What it is packed over.
    pub bases: Vec<Arc<st::Under>>,
}

impl Packing {
    /// Whoever packs by these words. What is sealed can be opened again by `how`, without that its key is asked for.
    pub fn packer(&self, given: &Writing, how: &How) -> Result<Box<dyn Pack>> {
        let (format, level, threads, filter) = (self.format, self.level, self.threads, self.filter.clone());
        let is_lockable = matches!(format, Format::Zip | Format::SevenZ);
        let (encrypt, parity) = (given.encrypt.as_ref(), plan::parity(&given.parity)?);
        let is_sealed = given.sealing.is_wanted(encrypt)?;
        if format != Format::St && (parity.is_some() || (is_sealed && !is_lockable)) {
            let hint = "convert it to a .st, or `stmount parity add` a file beside it";
            let what = "--encrypt is for .st, zip and 7z, --parity for .st";
            return Err(Error::new(Kind::Usage, what).hint(hint));
        }
        if is_lockable && given.sealing.is_beyond_a_password() {
            return Err(Error::new(Kind::Usage, "a zip or a 7z is encrypted with a password and nothing else"));
        }
        if given.method.is_some() && format != Format::Zip {
            return Err(Error::new(Kind::Usage, "--method is for zip"));
        }
        if given.volume_size.is_some() && format != Format::St {
            return Err(Error::new(Kind::Usage, "--volume-size is for .st").hint("--split"));
        }
        if self.segmentation.is_some() && format != Format::St {
            return Err(Error::new(Kind::Usage, "--segment is for .st"));
        }
        let seal = if is_sealed && format == Format::St { Some(given.sealing.seal(encrypt)?) } else { None };
        if let Some(seal) = &seal {
            how.reading.vault.keep(seal.uid(), seal.master(), None);
        }
        let password = encrypt.filter(|_| is_lockable).map(|file| new_passphrase(file.as_deref())).transpose()?;
        if self.signing.key().is_some() && format != Format::St {
            return Err(Error::new(Kind::Usage, "--sign is for .st"));
        }
        let tar = |codec| Box::new(TarPacker { codec, level, threads, filter: self.filter.clone() });
        Ok(match format {
            Format::St => Box::new(st::Packer {
                level,
                segmentation: self.segmentation,
                threads,
                filter,
                seal,
                parity,
                volume_size: given.part()?.unwrap_or(0),
                signing: self.signing.clone(),
                again: None,
                bases: self.bases.clone(),
            }),
            Format::Zip => {
                let method = given.method.map_or(zip::pack::Method::Deflate, method);
                Box::new(ZipPacker { method, level, threads, filter, password, is_whole: false })
            }
            Format::SevenZ => Box::new(SevenzPacker { level, threads, filter, password }),
            Format::Tar => tar(None),
            Format::TarGz => tar(Some(Codec::Gzip)),
            Format::TarBz2 => tar(Some(Codec::Bzip2)),
            Format::TarXz => tar(Some(Codec::Xz)),
            Format::TarZst => tar(Some(Codec::Zstd)),
            Format::TarLz4 => tar(Some(Codec::Lz4)),
        })
    }

    /// Remembers what was signed, so that it is known when it is opened.
    pub fn remember(&self, out: &Path, (_, split): (bool, Option<u64>), how: &How) -> Result<()> {
        match self.signing.key() {
            Some(_) if split.is_none() && out != Path::new("-") => crate::open::remember(out, how, true),
            _ => Ok(()),
        }
    }

    /// Tells what of a tree the format cannot hold.
    pub fn tell_lost(&self, tree: &dyn Tree) -> Result<()> {
        let Some(holds) = holds(self.format) else { return Ok(()) };
        let all = collect(tree, &self.filter, &Unwatched)?;
        holds.lost(tree, &all).iter().for_each(|lost| say::notice(&format!("stmount: {lost}")));
        Ok(())
    }
}

fn method(given: Method) -> zip::pack::Method {
    match given {
        Method::Store => zip::pack::Method::Store,
        Method::Deflate => zip::pack::Method::Deflate,
        Method::Bzip2 => zip::pack::Method::Bzip2,
        Method::Zstd => zip::pack::Method::Zstd,
        Method::Xz => zip::pack::Method::Xz,
    }
}

/// Where an archive is written to: a pipe, a file that appears when it is complete, or parts that do.
pub fn write(
    packer: &dyn Pack,
    tree: &dyn Tree,
    out: &Path,
    (force, part): (bool, Option<u64>),
    how: &How,
    progress: &Progress,
) -> Result<Wrote> {
    let alone = |packed| Wrote { packed, volumes: String::new() };
    if let Some(address) = remote::is_address(out) {
        if part.is_some() {
            let what = format!("{}: nothing is sent in parts", remote::shown(address));
            return Err(Error::new(Kind::Unsupported, what).hint("write the parts here, and send each: stmount put"));
        }
        return upload::pack(packer, tree, address, (force, how), progress).map(alone);
    }
    if out == Path::new("-") {
        return progress.guard(|| (), || pack::to_pipe(packer, tree, progress)).map(alone);
    }
    let Some(size) = part else { return pack::to_file(packer, tree, out, force, progress).map(alone) };
    progress.guard(
        || (),
        || {
            let mut parts = Parts::new(out, force, size);
            let packed = packer.pack_to_file(tree, &mut parts, progress)?;
            pack::cancelled(progress)?;
            let names = parts.commit()?;
            Ok(Wrote { packed, volumes: volumes::words(&names, size)? })
        },
    )
}

/// What was written.
pub struct Wrote {
    pub packed: Packed,
    /// What is to be said of its volumes.
    pub volumes: String,
}

impl Writing {
    /// The length of the parts, where there are to be any.
    pub fn part(&self) -> Result<Option<u64>> {
        let given = self.volume_size.as_ref().map(|size| ("--volume-size", size));
        let given = given.or(self.split.as_ref().map(|size| ("--split", size)));
        given.map(|(option, size)| part_size(option, size)).transpose()
    }
}

/// The length of parts as a person gives it.
pub fn part_size(option: &str, text: &str) -> Result<u64> {
    match crate::mount::size(text).map_err(|e| e.within(option))? {
        size if size < 64 << 10 => Err(Error::new(Kind::Usage, format!("{option}: {text} is less than 64K"))),
        size => Ok(size),
    }
}

/// One file in parts. They appear one after the other when all are complete.
pub struct Parts {
    out: PathBuf,
    force: bool,
    size: u64,
    parts: Vec<Output>,
    at: u64,
}

impl Parts {
    pub fn new(out: &Path, force: bool, size: u64) -> Self {
        Self { out: out.to_owned(), force, size, parts: Vec::new(), at: 0 }
    }

    fn name(&self, number: usize) -> PathBuf {
        let mut name = OsString::from(&self.out);
        name.push(format!(".{:03}", number + 1));
        name.into()
    }

    fn part(&mut self, number: usize) -> io::Result<&File> {
        while self.parts.len() <= number {
            if self.parts.len() >= formats::MOST_PARTS {
                return Err(io::Error::other(format!("there are more than {} parts", formats::MOST_PARTS)));
            }
            let part = Output::create(&self.name(self.parts.len()), self.force).map_err(io::Error::other)?;
            self.parts.push(part);
        }
        Ok(&self.parts[number].file)
    }

    /// Whether the names of so many bytes are free.
    pub fn free(&self, len: u64) -> Result<()> {
        let names = (0..len.div_ceil(self.size) as usize).map(|number| self.name(number));
        match names.into_iter().find(|name| !self.force && name.symlink_metadata().is_ok()) {
            Some(name) => {
                Err(Error::new(Kind::Exists, format!("{} exists already", name.display())).hint("--force replaces it"))
            }
            None => Ok(()),
        }
    }

    /// Gives the parts their names, and tells them. What is left of more parts that are replaced would be taken for the end
    /// of these.
    pub fn commit(self) -> Result<Vec<PathBuf>> {
        let names = (0..self.parts.len()).map(|number| self.name(number)).collect();
        let behind = (self.parts.len()..).map(|number| self.name(number));
        let old: Vec<PathBuf> = behind.take_while(|name| self.force && name.is_file()).collect();
        self.parts.into_iter().try_for_each(Output::commit)?;
        for name in old {
            std::fs::remove_file(&name).map_err(|e| Error::io(e, format!("cannot remove {}", name.display())))?;
        }
        Ok(names)
    }
}

impl Write for Parts {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let (number, at) = ((self.at / self.size) as usize, self.at % self.size);
        let len = bytes.len().min(usize::try_from(self.size - at).unwrap_or(usize::MAX));
        self.part(number)?.write_all_at(&bytes[..len], at)?;
        self.at += len as u64;
        Ok(len)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for Parts {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let end = match self.parts.last() {
            Some(last) => (self.parts.len() as u64 - 1) * self.size + last.file.metadata()?.len(),
            None => 0,
        };
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => end.checked_add_signed(by),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
        };
        self.at = at.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.at)
    }
}

impl Read for Parts {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let (number, at) = ((self.at / self.size) as usize, self.at % self.size);
        let len = into.len().min(usize::try_from(self.size - at).unwrap_or(usize::MAX));
        let got = match self.parts.get(number) {
            Some(part) => part.file.read_at(&mut into[..len], at)?,
            None => 0,
        };
        self.at += got as u64;
        Ok(got)
    }
}

/// `stmount convert`.
pub fn convert(given: &args::Convert, common: &args::Common) -> Result<u8> {
    if given.out == Path::new("-") && io::stdout().is_terminal() {
        return Err(Error::new(Kind::Usage, "an archive is not for a terminal").hint("stmount convert SRC OUT"));
    }
    super::heap::keep_small();
    let packing = Packing {
        format: format(&given.out, given.writing.format)?,
        level: given.level.number(),
        threads: plan::threads(given.threads),
        filter: plan::filter(&given.globs)?,
        segmentation: None,
        signing: plan::signing(&given.signing)?,
        bases: Vec::new(),
    };
    let progress = Progress::new("convert", common);
    let how = plan::how(&given.opening, progress.clone())?;
    let packer = packing.packer(&given.writing, &how)?;
    let volume = crate::open::open_as(&given.source, &how)?;
    say::notes(&given.source, &volume.notes);
    packing.tell_lost(&*volume.tree)?;
    let to = (given.overwrite, given.writing.part()?);
    let done = write(&*packer, &*volume.tree, &given.out, to, &how, &progress).and_then(|wrote| {
        packing.remember(&given.out, to, &how)?;
        Ok(wrote)
    });
    let words = |wrote: &Wrote| format!("{}{}", words(&wrote.packed, &progress), wrote.volumes);
    let told = done.map(|wrote| (words(&wrote), pack::pack_json(&wrote.packed), wrote.packed.skipped));
    pack::finish(told, &progress)
}

/// `stmount index`.
pub fn index(given: &args::Index, common: &args::Common) -> Result<u8> {
    for source in &given.sources {
        let progress = Progress::new("index", common);
        let how = plan::how(&given.opening, progress.clone())?;
        let opened = progress.guard(|| (), || crate::open::open_as(source, &how)).and_then(|volume| {
            say::notes(source, &volume.notes);
            let totals = volume.tree.totals()?;
            let (files, size) = (say::counted(totals.nodes, "file", "files"), say::size(totals.bytes));
            let words = format!("{}: {files}, {size} ({})", source.display(), say::time(progress.took()));
            Ok((words, json!({"files": totals.nodes, "bytes": totals.bytes}), 0))
        });
        let code = pack::finish(opened, &progress)?;
        if code != super::exit::OK {
            return Ok(code);
        }
    }
    Ok(super::exit::OK)
}

fn words(packed: &Packed, progress: &Progress) -> String {
    let files = say::counted(packed.entries, "file", "files");
    let (from, to) = (say::size(packed.bytes), say::size(packed.stored));
    let skipped = pack::skipped_words(packed.skipped);
    let ratio = say::percent(packed.stored, packed.bytes);
    format!("{from} in {files} → {to} ({ratio} %), {}{skipped}", say::time(progress.took()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ending_tells_the_format() {
        let of = |name: &str| format(Path::new(name), None);
        for (name, want) in [
            ("a.TAR.GZ", Format::TarGz),
            ("a.tgz", Format::TarGz),
            ("a.7z", Format::SevenZ),
            ("a", Format::St),
            ("a.img", Format::St),
        ] {
            assert_eq!(of(name).unwrap(), want, "{name}");
        }
        assert_eq!(of("a.rar").unwrap_err().kind(), Kind::Unsupported);
        assert_eq!(format(Path::new("a.rar"), Some(Format::Zip)).unwrap(), Format::Zip);
    }

    #[test]
    fn parts_are_one_file() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("x.7z");
        let mut parts = Parts::new(&out, false, 10);
        parts.seek(SeekFrom::Start(4)).unwrap();
        parts.write_all(&[1; 25]).unwrap();
        parts.seek(SeekFrom::Start(0)).unwrap();
        parts.write_all(&[2; 4]).unwrap();
        assert_eq!(parts.seek(SeekFrom::End(0)).unwrap(), 29);
        parts.commit().unwrap();
        let part = |n: u32| std::fs::read(dir.path().join(format!("x.7z.{n:03}"))).unwrap();
        assert_eq!([part(1), part(2), part(3)].concat(), [vec![2; 4], vec![1; 25]].concat());
        assert_eq!(part(1).len(), 10);
    }
}
