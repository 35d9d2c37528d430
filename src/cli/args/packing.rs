//! The words of making an archive, and of taking it apart.

use super::{Link, Opening, Parity, Passwords, Sealing, Signing, Writing};
use clap::{Args, ValueHint};
use std::path::PathBuf;

#[derive(Args, Debug)]
#[command(after_help = "EXAMPLES\n  \
    stmount create disk.st && stmount disk.st /mnt/disk\n  \
    stmount create -f disk.st             replace one that exists\n  \
    stmount create --encrypt safe.st      a passphrase is asked for, now and at each mount\n  \
    stmount create --recipient age1... --parity 5% safe.st\n  \
    stmount create --sign disk.st         signed with your key\n\n\
    It is a directory with the mode 0755 that belongs to you. The container appears under its name when it is complete.")]
pub struct Create {
    /// The container to make
    #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub file: PathBuf,
    /// Replace FILE if it exists
    #[arg(short, long)]
    pub force: bool,
    /// Seal it with the passphrase in the first line of PASSFILE; without a file it is asked for
    #[arg(long, value_name = "PASSFILE", num_args = 0..=1, require_equals = true, value_hint = ValueHint::FilePath)]
    pub encrypt: Option<Option<PathBuf>>,
    #[command(flatten)]
    pub sealing: Sealing,
    #[command(flatten)]
    pub parity: Parity,
    #[command(flatten)]
    pub signing: Signing,
}

#[derive(Args, Debug)]
#[command(after_help = "EXAMPLES\n  \
    stmount pack Game game.st\n  \
    stmount pack -9 Game game.st          smaller, slower\n  \
    stmount pack --sign Game game.st      signed with your key; --sign=release.key with another one\n  \
    stmount pack Game game.zip            by the ending: .st .zip .7z .tar .tar.gz .tar.bz2 .tar.xz .tar.zst .tar.lz4\n  \
    stmount pack --encrypt Game game.st   the password is asked for; also of a .zip and a .7z\n  \
    stmount pack --recipient age1... --cipher cascade Docs docs.st\n  \
    stmount pack --parity 5% Photos photos.st        what rots is made whole again\n  \
    stmount pack --split 700M Game game.zip         game.zip.001, game.zip.002 ...\n  \
    stmount pack --parity 12% --volume-size 4G Photos photos.st   tells whether any volume may be lost\n  \
    stmount pack --exclude '*.log' --exclude /saves Game game.st\n  \
    stmount pack --base engine.st Game game.st       what engine.st holds is left out; so is what a store holds\n  \
    stmount pack Game - | ssh host 'cat > game.st'\n  \
    stmount pack --append Mods game.st    more into one that exists\n  \
    stmount pack Game s3://bucket/game.st      onto a server: s3, webdav(s), https of WebDAV, sftp, ftp\n  \
    stmount pack --update Game s3://bucket/game.st    only what is new goes there, where the server knows a way\n  \
    stmount pack --update --delete ~ backup.st      what has changed since, as of rsync\n\n\
    The container appears under its name when it is complete; until then, and after a failure, there is nothing.\n\n\
    --append and --update add to OUT in place, or pack it if it does not exist. What is in SRC goes to the same place in \
    OUT: directories are merged, anything else replaces what has its name, by what it is now; a directory with something \
    in it is never replaced by a file, except with --delete. Data that OUT has already are not stored again, unless they \
    were packed with -9. All of it is one commit, or several, each of at most about 1 GiB: an interrupted run leaves what \
    was stored until then, the same command with --update goes on, and each state before can be had again (stmount log). \
    OUT must not be mounted for writing.\n\n\
    An OUT at an address is packed in the directory for the state of this user first, and sent when it is whole; when it \
    cannot be sent it stays there (exit code 61). One writer at a time has OUT.lease beside it.")]
pub struct Pack {
    /// What to pack: the content of one folder, or one container anew; several sources go in by their names
    #[arg(required = true, num_args = 1.., value_name = "SRC", value_hint = ValueHint::AnyPath)]
    pub sources: Vec<PathBuf>,
    /// The archive to write, or - for the standard output
    #[arg(value_name = "OUT", value_hint = ValueHint::FilePath)]
    pub out: PathBuf,
    #[command(flatten)]
    pub level: Level,
    /// Raw size of a segment, which is what one random read decodes: 4K to 64M, or `chunk` for each chunk alone
    #[arg(long, value_name = "SIZE")]
    pub segment: Option<String>,
    /// Threads; all cores without it
    #[arg(short = 'j', long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub threads: Option<u16>,
    #[command(flatten)]
    pub globs: Globs,
    /// Do not enter other file systems
    #[arg(long)]
    pub one_file_system: bool,
    /// Replace OUT if it exists
    #[arg(short, long)]
    pub force: bool,
    /// Add to OUT: everything in SRC, in place of what has the same names; nothing is removed
    #[arg(long, conflicts_with_all = ["update", "force", "segment", "threads"])]
    pub append: bool,
    /// Add to OUT what differs from it: files of the same size and time of change are not read, as of rsync
    #[arg(long, conflicts_with_all = ["force", "segment", "threads"])]
    pub update: bool,
    /// Remove from OUT what SRC does not have; what --exclude or --include leave out stays
    #[arg(long, requires = "update", conflicts_with = "append")]
    pub delete: bool,
    #[command(flatten)]
    pub writing: Writing,
    #[command(flatten)]
    pub signing: Signing,
    #[command(flatten)]
    pub link: Link,
    #[command(flatten)]
    pub passwords: Passwords,
}

/// `-1` to `-9`. Nine flags, of which the last one counts.
#[derive(Args, Clone, Copy, Debug, Default)]
pub struct Level {
    /// Fastest
    #[arg(short = '1', overrides_with_all = LEVELS)]
    l1: bool,
    #[arg(short = '2', overrides_with_all = LEVELS, hide = true)]
    l2: bool,
    #[arg(short = '3', overrides_with_all = LEVELS, hide = true)]
    l3: bool,
    #[arg(short = '4', overrides_with_all = LEVELS, hide = true)]
    l4: bool,
    #[arg(short = '5', overrides_with_all = LEVELS, hide = true)]
    l5: bool,
    /// The default; 2 to 5, 7 and 8 lie between
    #[arg(short = '6', overrides_with_all = LEVELS)]
    l6: bool,
    #[arg(short = '7', overrides_with_all = LEVELS, hide = true)]
    l7: bool,
    #[arg(short = '8', overrides_with_all = LEVELS, hide = true)]
    l8: bool,
    /// Smallest
    #[arg(short = '9', overrides_with_all = LEVELS)]
    l9: bool,
}

const LEVELS: [&str; 9] = ["l1", "l2", "l3", "l4", "l5", "l6", "l7", "l8", "l9"];

impl Level {
    pub fn number(self) -> u8 {
        let flags = [self.l1, self.l2, self.l3, self.l4, self.l5, self.l6, self.l7, self.l8, self.l9];
        flags.iter().position(|set| *set).map_or(6, |at| at as u8 + 1)
    }
}

#[derive(Args, Clone, Debug, Default)]
pub struct Globs {
    /// Take only what matches (repeatable): `*.cfg` at any depth, `/saves` at the top, `a/**/b`
    #[arg(long, value_name = "GLOB")]
    pub include: Vec<String>,
    /// Leave out what matches, with all below it (repeatable); wins over --include
    #[arg(long, value_name = "GLOB")]
    pub exclude: Vec<String>,
}

#[derive(Args, Debug)]
#[command(after_help = "EXAMPLES\n  \
    stmount unpack game.st                into ./game\n  \
    stmount unpack game.st /srv/game\n  \
    stmount unpack --include /saves game.st backup\n  \
    stmount unpack --strip 1 linux-6.9.tar.xz src\n  \
    ssh host cat game.st | stmount unpack - game\n\n\
    From a pipe, the compressed bytes are first kept in a file without a name in the target directory: the index of a \
    container is at its end.")]
pub struct Unpack {
    /// The archive, or - for the standard input
    #[arg(value_name = "SRC", default_value = "-", hide_default_value = true, value_hint = ValueHint::FilePath)]
    pub source: PathBuf,
    /// Where to; without it ./NAME, and the working directory for the standard input
    #[arg(value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub target: Option<PathBuf>,
    /// The same as DIR
    #[arg(short = 'C', long = "directory", value_name = "DIR", conflicts_with = "target", value_hint = ValueHint::DirPath)]
    pub directory: Option<PathBuf>,
    /// Replace files that exist
    #[arg(long, conflicts_with = "skip_existing")]
    pub overwrite: bool,
    /// Leave files that exist as they are
    #[arg(long)]
    pub skip_existing: bool,
    /// Leave so many leading directories out of every path
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true, alias = "strip-components")]
    pub strip: usize,
    /// Stop when more than N times the size of the archive was written; 1100 without it, which deflate cannot reach; 0
    /// for no limit
    #[arg(long, value_name = "N", default_value_t = 1100, hide_default_value = true)]
    pub max_ratio: u64,
    /// Take owners by number, not by name
    #[arg(long)]
    pub numeric_owner: bool,
    /// Let everything belong to whoever unpacks (the default for everybody but root)
    #[arg(long)]
    pub no_same_owner: bool,
    #[command(flatten)]
    pub globs: Globs,
    #[command(flatten)]
    pub opening: Opening,
}
