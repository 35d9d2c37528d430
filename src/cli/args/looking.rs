//! The words of looking into an archive, and of making it whole.

use super::{Opening, Passwords};
use clap::{Args, ValueHint};
use std::ffi::OsString;
use std::path::PathBuf;

#[derive(Args, Debug)]
#[command(after_help = "EXAMPLES\n  \
    stmount ls game.st\n  \
    stmount ls -l game.st:data/maps\n  \
    stmount ls -R game.st | grep '\\.ogg$'")]
pub struct Ls {
    /// SRC or SRC:PATH
    #[arg(value_name = "SRC[:PATH]", value_hint = ValueHint::FilePath)]
    pub source: OsString,
    /// Mode, owner, size and time as well
    #[arg(short)]
    pub long: bool,
    /// Everything below, with its path
    #[arg(id = "everything", short = 'R')]
    pub recursive: bool,
    /// JSON: {"v":1,"entries":[...]}
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub opening: Opening,
}

#[derive(Args, Debug)]
#[command(after_help = "EXAMPLES\n  \
    stmount cat game.st:readme.txt\n  \
    stmount cat game.st:data/intro.ogg | ogg123 -")]
pub struct Cat {
    /// Files inside
    #[arg(value_name = "SRC:PATH", required = true, value_hint = ValueHint::FilePath)]
    pub sources: Vec<OsString>,
    #[command(flatten)]
    pub opening: Opening,
}

#[derive(Args, Debug)]
#[command(after_help = "EXAMPLES\n  \
    stmount info game.st\n  \
    stmount info --json game.st")]
pub struct Info {
    /// The archive
    #[arg(value_name = "SRC", value_hint = ValueHint::FilePath)]
    pub source: PathBuf,
    /// JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub opening: Opening,
}

#[derive(Args, Debug)]
#[command(after_help = "EXAMPLES\n  \
    stmount check game.st\n  \
    stmount check --repair game.st        make good what parity can\n  \
    stmount check --repair photos.zip     by photos.zip.stpar: stmount parity add photos.zip\n\n\
    Every damaged file is named; exit code 50 if there is one, 51 if all that was damaged is repaired, 3 if only bytes are\n\
    damaged that nothing needs. Of a container, names that lead to nothing and files without a name are named as well.")]
pub struct Check {
    /// The archive
    #[arg(value_name = "SRC", value_hint = ValueHint::FilePath)]
    pub source: PathBuf,
    /// JSON
    #[arg(long)]
    pub json: bool,
    /// Write what is damaged as it was, first: needs parity, and no key
    #[arg(long)]
    pub repair: bool,
    /// Threads; all cores without it
    #[arg(short = 'j', long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub threads: Option<u16>,
    #[command(flatten)]
    pub opening: Opening,
}

#[derive(Args, Debug)]
#[command(after_help = "EXAMPLES\n  \
    stmount recover --dry-run disk.st     what is wrong, and what would be done\n  \
    stmount recover disk.st\n  \
    stmount recover a.zip                 bring in what a crash has left in its journal\n\n\
    What parity makes good is written as it was. A lost header is written anew, bytes behind the last commit are cut off, \
    and changes whose commit is damaged are committed again. Files that lost their names are in lost+found. Nothing else in \
    the file is overwritten, but make a copy of what is dear to you. Exit code 0 if everything is there again, 3 if \
    something is missing, 31 if nothing can be recovered; then nothing is written.\n\n\
    Of a zip, 7z or tar: what was stored beside it, in NAME.stjournal, and is not in it yet is told and brought into it: A is \
    added, D deleted, M modified, P has other attributes, R has another name. A mount with -o rw does the same.")]
pub struct Recover {
    /// The container
    #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub file: PathBuf,
    /// Only tell what would be done
    #[arg(short = 'n', long)]
    pub dry_run: bool,
    /// Threads; all cores without it
    #[arg(short = 'j', long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub threads: Option<u16>,
    #[command(flatten)]
    pub passwords: Passwords,
}
