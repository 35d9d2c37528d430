//! The words of a mount, and of those that look after it.

use super::{Opening, Reading};
use clap::{Args, ValueHint};
use std::ffi::OsString;
use std::path::PathBuf;

#[derive(Args, Debug)]
#[command(after_help = "EXAMPLES\n  \
    stmount game.st /mnt/game\n  \
    stmount game.st                       on ./game, made now and removed after the unmount\n  \
    stmount -o cachesize=1G,allow_other game.st /mnt/game\n  \
    stmount https://host/game.st          read over the net, nothing is downloaded first\n  \
    stmount https://host/a.st@monday /mnt an earlier state of it\n  \
    stmount -o mirror=https://b/game.st https://a/game.st /mnt/game\n  \
    stmount webdavs://me@host/files /mnt/files\n  \
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
    /// What to mount: an archive or a folder, an address, or several as A+B, of which the rightmost wins
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

deadline=TIME, connections=N, offline=auto|only, bearer=FILE, ca=FILE, cert=FILE, proxy=URL, endpoint=URL, hostkey=WHICH,
mirror=URL, limit-rate=RATE: as the options of these names

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

record, record=FILE: write down which parts of an object at an address are read, and in which order; the next mount of the same
version has them fetched ahead

profile=FILE, noprofile: fetch ahead what this profile tells, or nothing

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
    stmount sync                          all mounts of this user\n  \
    stmount sync https://host/game.st game.st\n\n\
    With an address, FILE becomes what is there, byte by byte, and of it only what is not here is fetched: of a .st what was\n\
    appended, or what a pack has written anew. FILE is what it was until all has come and is checked; what a call did not\n\
    get done the next one goes on with. Of other files all is fetched, unless length and time are the same.\n\n\
    When it returns 0, everything written before is in the container and on the disk. Without it that takes at most the\n\
    time of -o commit=, five seconds. sync(1) does not reach a FUSE mount, fsync(2) does.")]
pub struct Sync {
    /// Mount points or sources; or an address, and the file that is to become the same
    #[arg(value_name = "MOUNTPOINT|SOURCE|ADDRESS FILE", value_hint = ValueHint::AnyPath)]
    pub named: Vec<PathBuf>,
    /// Of an address: take what is there, though FILE has commits that are not
    #[arg(long)]
    pub overwrite: bool,
    /// Of an address: use nothing of what is in FILE
    #[arg(long)]
    pub whole: bool,
    /// Of an address: fetch it though length and time are the same
    #[arg(long)]
    pub checksum: bool,
    #[command(flatten)]
    pub opening: Opening,
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
    stmount run --record https://host/game.st -- ./start.sh     the next start is faster\n  \
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
    /// Write down what is read of SOURCE, and in which order: the next start has it fetched ahead; in FILE, for other machines
    #[arg(long, value_name = "FILE", num_args = 0..=1, require_equals = true, value_hint = ValueHint::FilePath)]
    pub record: Option<Option<PathBuf>>,
    /// What to run, with the mount as its working directory; without it the shell
    #[arg(last = true, value_name = "CMD", value_hint = ValueHint::CommandWithArguments)]
    pub command: Vec<OsString>,
}
