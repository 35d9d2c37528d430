//! The command line as clap sees it. Nothing is done here; `plan` makes plain options of it.

mod keys;
mod overlay;
mod parity;
mod reading;
mod sealing;
mod trust;
mod volumes;
mod writing;

pub use keys::{Key, KeyVerb, NewWays, Rekey};
pub use overlay::{Of, Overlay, OverlayVerb};
pub use parity::{Code, Parity, ParityAdd, ParityDrop, ParityVerb};
pub use reading::{Opening, Passwords, Reading};
pub use sealing::{Ciphers, Sealing, Ways};
pub use trust::{Keygen, Sign, Signing, Trust, TrustVerb, Verify};
pub use volumes::{Join, Split};
pub use writing::{Convert, Find, Format, Index, Kind, Method, Writing};

use clap::{Args, Parser, Subcommand, ValueEnum, ValueHint};
use std::ffi::OsString;
use std::path::PathBuf;

/// A verb that is not named means `mount`.
pub const DEFAULT_VERB: &str = "mount";

#[derive(Debug, Parser)]
#[command(
    name = "stmount",
    version,
    about = "Shows archives as ordinary folders, and packs folders into small archives that mount at once",
    override_usage = "stmount [OPTIONS] SOURCE [MOUNTPOINT]\n       stmount VERB ...",
    subcommand_value_name = "VERB",
    subcommand_help_heading = "Verbs",
    arg_required_else_help = true,
    disable_help_subcommand = true,
    max_term_width = 100,
    after_help = "EXAMPLES\n  \
        stmount pack Game game.st          pack the folder Game\n  \
        stmount game.st /mnt/game          mount it\n  \
        stmount umount /mnt/game           unmount it\n  \
        stmount run game.st -- ./start.sh  mount, run, unmount\n  \
        stmount ./list                     a source that is called like a verb\n\n\
        `stmount VERB --help` tells more of each verb; exit codes are in stmount(1)."
)]
pub struct Cli {
    #[command(flatten)]
    pub common: Common,
    #[command(subcommand)]
    pub verb: Verb,
}

/// What all verbs know.
#[derive(Args, Clone, Debug)]
pub struct Common {
    /// Print errors only
    #[arg(short, long, global = true, display_order = 900)]
    pub quiet: bool,
    /// Tell more; twice for every step
    #[arg(short, long, global = true, action = clap::ArgAction::Count, display_order = 901)]
    pub verbose: u8,
    /// How to show progress: a bar on a terminal, lines, JSON lines, nothing
    #[arg(long, global = true, value_enum, default_value_t = Progress::Auto, value_name = "HOW", display_order = 902)]
    pub progress: Progress,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Progress {
    /// A bar on a terminal, else a line every ten seconds
    Auto,
    /// A bar
    Bar,
    /// A line every two seconds
    Plain,
    /// JSON lines
    Json,
    /// Nothing
    None,
}

#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Mount an archive or a folder (the verb may be left out)
    Mount(Mount),
    /// Unmount, and wait until it is done
    #[command(alias = "unmount")]
    Umount(Umount),
    /// Make durable what was written to a mount
    Sync(Sync),
    /// Bring what was written to a mount of an archive from its journal into the archive
    Commit(Commit),
    /// Tell what was written to a mount and is not stored yet
    Status(Status),
    /// List the mounts of this user
    #[command(visible_alias = "ps")]
    List(List),
    /// Mount, run a command in it, and unmount when its last process is gone
    Run(Run),
    /// Look at, throw away, take along, or bring in the changes that an overlay has
    Overlay(Overlay),
    /// Make an empty .st container, to be mounted and written to
    Create(Create),
    /// Pack folders into an archive: .st, .zip, .7z, .tar, .tar.gz ...
    Pack(Pack),
    /// Write what is in an archive as an archive of another format
    Convert(Convert),
    /// Unpack an archive into a folder
    #[command(visible_alias = "extract")]
    Unpack(Unpack),
    /// List the earlier states of a container
    Log(Log),
    /// Give the present state of a container or a mount a name
    Snapshot(Snapshot),
    /// Make an earlier state of a container the newest one
    Restore(Restore),
    /// Pack a container anew, so that it holds only what its states need
    Compact(Compact),
    /// List, add, take away or change what opens a sealed container
    Key(Key),
    /// Seal a container anew, for others or not at all any more
    Rekey(Rekey),
    /// List what is inside, without mounting
    Ls(Ls),
    /// Write files from inside to the standard output, without mounting
    Cat(Cat),
    /// Tell what a container is and what reading from it costs
    Info(Info),
    /// Search inside by name, without mounting
    Find(Find),
    /// Make the index of an archive that is slow to open
    Index(Index),
    /// Read everything and verify it
    Check(Check),
    /// Make a damaged container open again
    Recover(Recover),
    /// Give a file parity, which makes damage good
    #[command(subcommand)]
    Parity(ParityVerb),
    /// Cut a file in volumes
    Split(Split),
    /// Put a file together from its volumes
    Join(Join),
    /// Make a key that signs
    Keygen(Keygen),
    /// Tell whose signatures are trusted
    Trust(Trust),
    /// Sign a container
    Sign(Sign),
    /// Tell whether a container is signed by a trusted key
    Verify(Verify),
    /// Write the manual or shell completions
    Generate(Generate),
}

#[derive(Args, Debug)]
#[command(after_help = "EXAMPLES\n  \
    stmount game.st /mnt/game\n  \
    stmount game.st                       on ./game, made now and removed after the unmount\n  \
    stmount -o cachesize=1G,allow_other game.st /mnt/game\n  \
    stmount -r Downloads /mnt/all         a folder, with the archives in it as folders\n  \
    stmount base.zip+patch.7z /mnt/game   both as one, the rightmost wins\n  \
    stmount --password-file key a.zip     else the password is asked for\n  \
    stmount -o rw photos.zip /mnt/photos  a zip, 7z or tar that takes changes\n  \
    stmount -o overlay=saves game.iso     takes changes, which go to the folder saves\n  \
    stmount -o sign backup.st /mnt/backup sign what is written, with your key\n  \
    stmount -o follow backup.st /mnt/now  read what another process writes, commit by commit\n  \
    stmount -f -d game.st /mnt/game       stay in the foreground and tell everything\n\n\
    The command returns when the mount can be read. The daemon logs to syslog, or to --log-file.")]
pub struct Mount {
    /// What to mount: an archive or a folder, or several as A+B, of which the rightmost wins
    #[arg(value_hint = ValueHint::AnyPath)]
    pub source: PathBuf,
    /// An empty directory; without it ./NAME is made and removed again after the unmount
    #[arg(value_hint = ValueHint::DirPath)]
    pub mountpoint: Option<PathBuf>,
    #[command(flatten)]
    pub options: MountOptions,
    /// Stay in the foreground
    #[arg(short, long)]
    pub foreground: bool,
    /// Tell every step; stays in the foreground
    #[arg(short, long)]
    pub debug: bool,
    /// Let the daemon log to this file
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub log_file: Option<PathBuf>,
}

/// What `--help` and the manual tell of `-o`.
const MOUNT_OPTIONS: &str = "\
Mount options a,b=c as of mount(8); may be repeated; `\\,` is a comma in a value

allow_other, allow_root: others, or root, may enter the mount

uid=N, gid=N: everything belongs to this user, this group

umask=, fmask=, dmask=: permission bits that are taken away, of all, of files, of directories

no_default_permissions: the kernel does not check modes and owners

suid, dev, noexec, atime, sync, dirsync: as in mount(8)

case=sensitive|insensitive|auto: how names are compared

cachesize=SIZE: memory for decoded data; 256M without it

cache=DIR, cache-max=SIZE, nocache: where decoded data are kept that memory has no room for (in a file without a name,
unreadable to others), at most how much, 10G without it, or none; a gigabyte of the disk is always left free

recursive=DEPTH, encoding=CHARSET, strict, max-entries=N, index=WHERE, trust=LEVEL, password-file=FILE, identity=FILE,
keyfile=FILE: as the options of these names

force: mount an archive though a password is missing or wrong, or its list is damaged; what cannot be read is an error of
the one file

ro, rw: nothing can be written; a zip, a 7z or a tar takes changes, too, which a .st does anyway: they are durable in a journal
beside it, and go into it at the unmount, when nothing is written for a minute, and by stmount commit

backup, backup=N: an archive that is written anew is kept as it was, or the last N, as NAME.bak, NAME.bak2 ...

overlay=DIR, overlay=tmp: changes go to this directory, where they lie in clear, and the source stays as it is, whatever it is;
tmp is a directory that goes with the mount; see stmount overlay

allow-damaged: what is damaged of a file reads as zeros instead of an error, and is told in the log

scrub, scrub=TIME, scrub-rate=SIZE, noscrub: look for damage in all of a container every week, or every so often (7d, 12h), in
the background, at so many bytes a second, 20M without it; what parity makes good is written

commit=SECONDS: how long a change waits at most before it is stored; 5 without it

slack=SIZE: so many bytes that nothing needs any more may lie in a container, or as many as are needed when that is
more; 64M without it

keep-last=N, keep-hourly=N, keep-daily=N, keep-weekly=N, keep-monthly=N: which earlier states stay when space is given
back, besides those with names; 32, 24, 31, 9 and 12 without it

readahead=SIZE, threads=N: how far to read ahead; threads that take requests

follow: read-only, and moving on with each commit of whoever writes to the container

sign, sign=KEYFILE: what is written to a .st is signed, with your own key or with the one in this file

break_lock: as --break-lock

fsname=, volname=: the names that df and desktops show

nonempty: cover a directory that is not empty";

#[derive(Args, Clone, Debug, Default)]
pub struct MountOptions {
    /// Mount options a,b=c as of mount(8); may be repeated; `\,` is a comma in a value
    #[arg(short = 'o', value_name = "OPTIONS", action = clap::ArgAction::Append, long_help = MOUNT_OPTIONS)]
    pub option: Vec<String>,
    /// Mount read-only
    #[arg(long = "ro", visible_alias = "read-only")]
    pub read_only: bool,
    /// Let changes go to this directory, and leave the source as it is; tmp: away at the unmount
    #[arg(long, value_name = "DIR|tmp", value_hint = ValueHint::DirPath)]
    pub overlay: Option<String>,
    /// Take a container over whose lock record (SOURCE.lock) names a writer on another machine that is gone
    #[arg(long)]
    pub break_lock: bool,
    #[command(flatten)]
    pub reading: Reading,
}

#[derive(Args, Debug)]
#[command(after_help = "EXAMPLES\n  \
    stmount umount /mnt/game\n  \
    stmount umount game.st                by the source\n  \
    stmount -u -z /mnt/game               the name is free at once, the daemon ends with its last user\n  \
    stmount umount --all\n\n\
    A mount that is in use stays (exit code 60), and the processes that use it are named.")]
pub struct Umount {
    /// Mount points or sources
    #[arg(value_name = "MOUNTPOINT|SOURCE", required_unless_present = "all", value_hint = ValueHint::AnyPath)]
    pub named: Vec<PathBuf>,
    /// All mounts of this user
    #[arg(short, long, conflicts_with = "named")]
    pub all: bool,
    /// Detach now, even when it is in use
    #[arg(short = 'z', long)]
    pub lazy: bool,
    /// Do not wait until the daemon is gone
    #[arg(long)]
    pub no_wait: bool,
}

#[derive(Args, Debug)]
#[command(after_help = "EXAMPLES\n  \
    stmount log backup.st\n  \
    stmount backup.st@17 /mnt/then        the state of the commit 17, read-only\n  \
    stmount ls backup.st@monday           each verb that reads takes SOURCE@STATE\n\n\
    Newest first: number of the commit, time, size, files, names. Of a zip that stmount has changed: each state that it had,\n\
    with the time of its newest file. A mount of a container shows the same states in the\n\
    hidden directory .stmount/snapshots of its root.")]
pub struct Log {
    #[arg(value_hint = ValueHint::FilePath)]
    pub source: PathBuf,
    /// JSON: {"v":1,"states":[...]}
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub passwords: Passwords,
}

#[derive(Args, Debug)]
#[command(after_help = "EXAMPLES\n  \
    stmount snapshot /mnt/backup monday\n  \
    stmount snapshot backup.st before-update\n  \
    stmount snapshot --delete backup.st before-update\n\n\
    What was written before is stored first. The state can then be mounted as backup.st@monday, and it is found in the\n\
    mount: cp /mnt/backup/.stmount/snapshots/monday/letter.odt .")]
pub struct Snapshot {
    /// Mount point, or container
    #[arg(value_name = "MOUNTPOINT|SOURCE", value_hint = ValueHint::AnyPath)]
    pub named: PathBuf,
    /// The name: anything but a number alone, without / and @
    pub name: String,
    /// Take the name away again
    #[arg(short, long)]
    pub delete: bool,
    #[command(flatten)]
    pub signing: Signing,
    #[command(flatten)]
    pub passwords: Passwords,
}

#[derive(Args, Debug)]
#[command(after_help = "EXAMPLES\n  \
    stmount compact backup.st\n  \
    stmount compact -9 backup.st          as small as it gets, for a container that is kept\n  \
    stmount compact a.zip                 without its earlier states, and what was deleted from it\n\n\
    The present state stays, and those with names (stmount snapshot), and the newest of each of the last 24 hours, 31 days,\n\
    9 weeks and 12 months that have any; all others go, and their space is given back. The new container takes the place of the old one when it is complete: until then there must be room for both. It must not be\n\
    mounted for writing; who has it mounted to read goes on with the old one.")]
pub struct Compact {
    #[arg(value_hint = ValueHint::FilePath)]
    pub source: PathBuf,
    /// Keep only the present state and those with names
    #[arg(long)]
    pub named: bool,
    #[command(flatten)]
    pub level: Level,
    #[command(flatten)]
    pub signing: Signing,
    #[command(flatten)]
    pub passwords: Passwords,
}

#[derive(Args, Debug)]
#[command(after_help = "EXAMPLES\n  \
    stmount restore backup.st@monday\n  \
    stmount restore backup.st@17\n  \
    stmount restore a.zip@1               a zip as it was before stmount changed it for the first time\n\n\
    It must not be mounted for writing. What came after that state is not lost: it is an earlier state now.")]
pub struct Restore {
    /// Container and state
    #[arg(value_name = "SOURCE@STATE", value_hint = ValueHint::FilePath)]
    pub state: PathBuf,
    #[command(flatten)]
    pub signing: Signing,
    #[command(flatten)]
    pub passwords: Passwords,
}

#[derive(Args, Debug)]
#[command(after_help = "EXAMPLES\n  \
    stmount status /mnt/backup\n  \
    stmount status --json /mnt/backup | jq .dirty_bytes\n\n\
    Tells what is not stored yet, what the cache holds and how often it had what was asked for, and the newest errors:\n\
    files that could not be read, commits that failed.")]
pub struct Status {
    /// Mount point or source
    #[arg(value_name = "MOUNTPOINT|SOURCE", value_hint = ValueHint::AnyPath)]
    pub named: PathBuf,
    /// JSON: {"sequence":N|null,"dirty_bytes":N,"pending":N,"waiting":SECONDS,"last_error":TEXT|null,
    /// "refuge":PATH|null,"states_open":N,"cache":{"hits","misses","bytes","budget"},
    /// "errors":[{"time","times","file","what"}]}
    #[arg(long)]
    pub json: bool,
}

#[derive(Args, Debug)]
#[command(after_help = "EXAMPLES\n  \
    stmount sync /mnt/backup\n  \
    stmount sync                          all mounts of this user\n\n\
    When it returns 0, everything written before is in the container and on the disk. Without it that takes at most the\n\
    time of -o commit=, five seconds. sync(1) does not reach a FUSE mount, fsync(2) does.")]
pub struct Sync {
    /// Mount points or sources
    #[arg(value_name = "MOUNTPOINT|SOURCE", value_hint = ValueHint::AnyPath)]
    pub named: Vec<PathBuf>,
}

#[derive(Args, Debug)]
#[command(after_help = "EXAMPLES\n  \
    stmount commit /mnt/photos\n  \
    stmount commit                        all mounts of this user\n\n\
    What is written to a mount of a zip is durable in a journal beside it, and goes into the archive when the mount is\n\
    unmounted, when nothing was written for a minute, and now. A .st needs no journal: for it this is `sync`.")]
pub struct Commit {
    /// Mount points or sources
    #[arg(value_name = "MOUNTPOINT|SOURCE", value_hint = ValueHint::AnyPath)]
    pub named: Vec<PathBuf>,
}

#[derive(Args, Debug)]
#[command(after_help = "EXAMPLES\n  \
    stmount list\n  \
    stmount list --json | jq -r '.mounts[].mountpoint'")]
pub struct List {
    /// JSON: {"v":1,"mounts":[...]}
    #[arg(long)]
    pub json: bool,
}

#[derive(Args, Debug)]
#[command(after_help = "EXAMPLES\n  \
    stmount run game.st -- ./start.sh --fullscreen\n  \
    stmount run game.st                   a shell in it\n  \
    stmount run game.st /mnt/game -- ./start.sh\n  \
    stmount run --overlay saves game.zip -- ./start.sh     what it saves is in saves/files\n\n\
    The exit code is that of the command, or 128+N when the signal N ended it. SIGINT, SIGTERM and SIGHUP are passed on.")]
pub struct Run {
    /// What to mount
    #[arg(value_hint = ValueHint::AnyPath)]
    pub source: PathBuf,
    /// Where to mount; without it a private directory that is removed afterwards
    #[arg(value_hint = ValueHint::DirPath)]
    pub mountpoint: Option<PathBuf>,
    #[command(flatten)]
    pub options: MountOptions,
    /// What to run, with the mount as its working directory; without it the shell
    #[arg(last = true, value_name = "CMD", value_hint = ValueHint::CommandWithArguments)]
    pub command: Vec<OsString>,
}

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
    stmount pack Game - | ssh host 'cat > game.st'\n  \
    stmount pack --append Mods game.st    more into one that exists\n  \
    stmount pack --update --delete ~ backup.st      what has changed since, as of rsync\n\n\
    The container appears under its name when it is complete; until then, and after a failure, there is nothing.\n\n\
    --append and --update add to OUT in place, or pack it if it does not exist. What is in SRC goes to the same place in \
    OUT: directories are merged, anything else replaces what has its name, by what it is now; a directory with something \
    in it is never replaced by a file, except with --delete. Data that OUT has already are not stored again, unless they \
    were packed with -9. All of it is one commit, or several, each of at most about 1 GiB: an interrupted run leaves what \
    was stored until then, the same command with --update goes on, and each state before can be had again (stmount log). \
    OUT must not be mounted for writing.")]
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
    What parity makes good is written as it was. A lost header is written anew, bytes behind the last commit are cut off, and changes whose commit is damaged are \
    committed again. Files that lost their names are in lost+found. Nothing else in the file is overwritten, but make a \
    copy of what is dear to you. Exit code 0 if everything is there again, 3 if something is missing, 31 if nothing can be \
    recovered; then nothing is written.\n\n\
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

#[derive(Args, Debug)]
#[command(after_help = "EXAMPLES\n  \
    stmount generate man - | man -l -\n  \
    stmount generate man /usr/local/share/man/man1\n  \
    stmount generate completions bash > /etc/bash_completion.d/stmount")]
pub struct Generate {
    #[command(subcommand)]
    pub what: What,
}

#[derive(Debug, Subcommand)]
pub enum What {
    /// Manual pages, one for each verb
    Man {
        /// The directory to write them to, or - for the main page on the standard output
        #[arg(value_hint = ValueHint::DirPath)]
        dir: PathBuf,
    },
    /// Completions for a shell
    Completions {
        /// The shell
        #[arg(value_parser = ["bash", "zsh", "fish"])]
        shell: String,
    },
}

/// The words of mount(8) are its own: these two are taken before clap sees them.
pub const MOUNT_HELPER: &str = "mount-helper";
pub const UMOUNT_HELPER: &str = "umount-helper";

/// Puts the verb where clap expects it: in front of the first argument when there is none. Called under a name of the
/// mount helpers, the program is that helper.
pub fn with_verb(mut argv: Vec<OsString>) -> Vec<OsString> {
    let helper = argv.first().and_then(|name| helper_of(name));
    if let Some(verb) = helper {
        argv.insert(1, verb.into());
        return argv;
    }
    let is_common = |arg: &str| matches!(arg, "-q" | "--quiet" | "--verbose") || arg.starts_with("--progress=");
    let is_common = |arg: &str| is_common(arg) || (arg.starts_with("-v") && arg[1..].bytes().all(|b| b == b'v'));
    let at = argv.iter().skip(1).position(|arg| !arg.to_str().is_some_and(is_common)).map_or(argv.len(), |at| at + 1);
    match argv.get(at).and_then(|arg| arg.to_str()) {
        None if argv.len() <= at => {}
        Some("-h" | "--help" | "-V" | "--version") => {}
        // `stmount help pack` is `stmount pack --help`.
        Some("help") => {
            argv.remove(at);
            argv.push("--help".into());
        }
        Some("-u" | "--unmount") => argv[at] = "umount".into(),
        Some("-uz" | "-zu") => {
            argv[at] = "-z".into();
            argv.insert(at, "umount".into());
        }
        Some("-z") if argv.get(at + 1).is_some_and(|next| next == "-u") => {
            argv[at] = "umount".into();
            argv[at + 1] = "-z".into();
        }
        Some(verb) if is_verb(verb) => {}
        _ => argv.insert(at, DEFAULT_VERB.into()),
    }
    argv
}

fn is_verb(word: &str) -> bool {
    use clap::CommandFactory;
    if [MOUNT_HELPER, UMOUNT_HELPER].contains(&word) {
        return true;
    }
    Cli::command().get_subcommands().any(|c| c.get_name() == word || c.get_all_aliases().any(|a| a == word))
}

/// The first word, if it looks like a verb, is none, and is no file either.
pub fn unknown_verb(argv: &[OsString]) -> Option<&str> {
    let word = argv.get(1)?.to_str()?;
    let looks_like_one = word.bytes().all(|b| b.is_ascii_lowercase());
    (looks_like_one && !is_verb(word) && !PathBuf::from(word).exists()).then_some(word)
}

fn helper_of(argv0: &OsString) -> Option<&'static str> {
    let name = PathBuf::from(argv0);
    match name.file_name()?.to_str()? {
        "mount.stmount" | "mount.fuse.stmount" => Some(MOUNT_HELPER),
        "umount.stmount" | "umount.fuse.stmount" => Some(UMOUNT_HELPER),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn words(line: &str) -> Vec<String> {
        let argv = line.split(' ').map(OsString::from).collect();
        with_verb(argv).into_iter().map(|w| w.into_string().unwrap()).collect()
    }

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_missing_verb_is_mount() {
        for (given, meant) in [
            ("stmount x.st /mnt", "stmount mount x.st /mnt"),
            ("stmount ./list", "stmount mount ./list"),
            ("stmount list", "stmount list"),
            ("stmount ps --json", "stmount ps --json"),
            ("stmount -f x.st m", "stmount mount -f x.st m"),
            ("stmount -q pack a b", "stmount -q pack a b"),
            ("stmount -vv x.st", "stmount -vv mount x.st"),
            ("stmount -u m", "stmount umount m"),
            ("stmount -z -u m", "stmount umount -z m"),
            ("stmount -uz m", "stmount umount -z m"),
            ("stmount --help", "stmount --help"),
            ("stmount help", "stmount --help"),
            ("stmount help pack", "stmount pack --help"),
            ("stmount", "stmount"),
            ("/sbin/mount.fuse.stmount x m -o ro", "/sbin/mount.fuse.stmount mount-helper x m -o ro"),
            ("umount.stmount m", "umount.stmount umount-helper m"),
        ] {
            assert_eq!(words(given).join(" "), meant, "{given}");
        }
    }

    #[test]
    fn the_last_level_counts() {
        let level = |line: &str| match Cli::try_parse_from(words(line)).unwrap().verb {
            Verb::Pack(pack) => pack.level.number(),
            other => panic!("{other:?}"),
        };
        assert_eq!(level("stmount pack a b"), 6);
        assert_eq!(level("stmount pack -1 -9 a b"), 9);
        assert_eq!(level("stmount pack -9 -3 a b"), 3);
    }

    #[test]
    fn what_stands_behind_two_dashes_is_the_command() {
        let argv = words("stmount run x.st m -- ./game -f");
        let Verb::Run(run) = Cli::try_parse_from(argv).unwrap().verb else { panic!() };
        assert_eq!(run.command, ["./game", "-f"]);
        assert_eq!(run.mountpoint, Some("m".into()));
    }
}
