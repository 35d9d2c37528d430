//! In what an archive is written: `pack` and `convert` know the same words.

use super::{Globs, Level, Link, Opening, Parity, Passwords, Sealing, Signing};
use clap::{Args, ValueEnum, ValueHint};
use std::path::PathBuf;

/// The format and what belongs to it.
#[derive(Args, Clone, Debug, Default)]
pub struct Writing {
    /// The format; without it the ending of OUT tells, and what has no known one becomes .st
    #[arg(long, value_enum, value_name = "FORMAT")]
    pub format: Option<Format>,
    /// How files are compressed in a zip
    #[arg(long, value_enum, value_name = "METHOD")]
    pub method: Option<Method>,
    /// Encrypt a .st, a zip or a 7z, with the password in the first line of FILE; without a file it is asked for
    #[arg(long, value_name = "FILE", num_args = 0..=1, require_equals = true, value_hint = ValueHint::FilePath)]
    pub encrypt: Option<Option<PathBuf>>,
    #[command(flatten)]
    pub sealing: Sealing,
    #[command(flatten)]
    pub parity: Parity,
    /// Write parts of this size: OUT.001, OUT.002 ...
    #[arg(long, value_name = "SIZE")]
    pub split: Option<String>,
    /// The same for a .st, whose header then tells the size: with enough --parity lost volumes are made anew
    #[arg(long, value_name = "SIZE", conflicts_with = "split")]
    pub volume_size: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    St,
    Zip,
    #[value(name = "7z")]
    SevenZ,
    Tar,
    #[value(name = "tar.gz", alias = "tgz")]
    TarGz,
    #[value(name = "tar.bz2")]
    TarBz2,
    #[value(name = "tar.xz", alias = "txz")]
    TarXz,
    #[value(name = "tar.zst")]
    TarZst,
    #[value(name = "tar.lz4")]
    TarLz4,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Method {
    Store,
    Deflate,
    Bzip2,
    Zstd,
    Xz,
}

#[derive(Args, Debug)]
#[command(after_help = "EXAMPLES\n  \
    stmount convert game.7z game.st       from now on it opens at once and each file costs only itself\n  \
    stmount convert old.rar new.zip\n  \
    stmount convert backup.tar.gz backup.tar.zst -9\n  \
    stmount convert --encrypt a.zip b.7z\n\n\
    SRC is anything that can be mounted. What the format of OUT cannot hold is told before the work begins.")]
pub struct Convert {
    /// The archive, the folder, or several as A+B
    #[arg(value_name = "SRC", value_hint = ValueHint::AnyPath)]
    pub source: PathBuf,
    /// The archive to write, or - for the standard output
    #[arg(value_name = "OUT", value_hint = ValueHint::FilePath)]
    pub out: PathBuf,
    #[command(flatten)]
    pub level: Level,
    #[command(flatten)]
    pub writing: Writing,
    /// Threads; all cores without it
    #[arg(short = 'j', long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub threads: Option<u16>,
    #[command(flatten)]
    pub globs: Globs,
    /// Replace OUT if it exists
    #[arg(short = 'f', long)]
    pub overwrite: bool,
    #[command(flatten)]
    pub signing: Signing,
    #[command(flatten)]
    pub opening: Opening,
}

#[derive(Args, Debug)]
#[command(after_help = "EXAMPLES\n  \
    stmount put game.st s3://bucket/games/        under its own name\n  \
    stmount put --force game.st sftp://host/srv/game.st\n\n\
    The file appears on the server when all of it is there, where the server knows a way; a name that is taken is refused \
    before anything is sent.")]
pub struct Put {
    /// The file
    #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub file: PathBuf,
    /// Where it is to be: an address, or that of a folder, with a slash at its end
    #[arg(value_name = "URL", value_hint = ValueHint::Url)]
    pub to: PathBuf,
    /// Replace what has the name
    #[arg(short, long)]
    pub force: bool,
    /// Remove FILE when it is there
    #[arg(long = "move")]
    pub move_it: bool,
    #[command(flatten)]
    pub link: Link,
    #[command(flatten)]
    pub passwords: Passwords,
}

#[derive(Args, Debug)]
#[command(after_help = "EXAMPLES\n  \
    stmount find backup.tar.zst '*.odt'\n  \
    stmount find -l -r Downloads 'readme*'   also in archives inside of archives\n  \
    stmount find game.zip --type d")]
pub struct Find {
    /// The archive, or SRC:PATH for a part of it
    #[arg(value_name = "SRC[:PATH]", value_hint = ValueHint::AnyPath)]
    pub source: std::ffi::OsString,
    /// What the name matches, `*.cfg`, or the path, `data/**/map*`; everything without it (repeatable)
    #[arg(value_name = "GLOB")]
    pub globs: Vec<String>,
    /// Only files, directories, or links
    #[arg(long = "type", value_enum, value_name = "KIND")]
    pub kind: Option<Kind>,
    /// Upper and lower case are the same
    #[arg(short, long)]
    pub ignore_case: bool,
    /// Mode, owner, size and time as well
    #[arg(short)]
    pub long: bool,
    /// End each path with a NUL, for xargs -0
    #[arg(short = '0', long = "print0")]
    pub print0: bool,
    #[command(flatten)]
    pub opening: Opening,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    #[value(name = "f")]
    File,
    #[value(name = "d")]
    Directory,
    #[value(name = "l")]
    Link,
}

#[derive(Args, Debug)]
#[command(after_help = "EXAMPLES\n  \
    stmount index backup.tar.gz           so that the next mount is ready at once\n  \
    stmount index --index /srv/index /srv/*.tar.gz\n\n\
    A mount makes the index as well, when it comes first. Only what is slow to open needs one: compressed tars above all.")]
pub struct Index {
    /// The archives
    #[arg(value_name = "SRC", required = true, value_hint = ValueHint::FilePath)]
    pub sources: Vec<PathBuf>,
    #[command(flatten)]
    pub opening: Opening,
}
