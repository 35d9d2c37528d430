//! The command line as clap sees it. Nothing is done here; `plan` makes plain options of it.

mod keep;
mod keyring;
mod keys;
mod looking;
mod mount;
mod overlay;
mod packing;
mod parity;
mod reading;
mod sealing;
mod states;
mod thin;
mod trust;
mod volumes;
mod writing;

pub use keep::{Pin, Prefetch, Unpin};
pub use keyring::{Login, Logout};
pub use keys::{Key, KeyVerb, NewWays, Rekey};
pub use looking::{Cat, Check, Info, Ls, Recover};
pub use mount::{Commit, List, Mount, MountOptions, Run, Status, Sync, Umount};
pub use overlay::{Of, Overlay, OverlayVerb};
pub use packing::{Create, Globs, Level, Pack, Unpack};
pub use parity::{Code, Parity, ParityAdd, ParityDrop, ParityVerb};
pub use reading::{Link, Opening, Passwords, Reading};
pub use sealing::{Ciphers, Sealing, Ways};
pub use states::{Compact, Log, Restore, Snapshot};
pub use thin::{Fat, Store, StoreAdd, StoreGc, StoreVerb};
pub use trust::{Keygen, Sign, Signing, Trust, TrustVerb, Verify};
pub use volumes::{Join, Split};
pub use writing::{Convert, Find, Format, Index, Kind, Method, Put, Writing};

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
    /// Make durable what was written to a mount; or make a file what is at an address
    Sync(Sync),
    /// Bring what was written to a mount of an archive from its journal into the archive
    Commit(Commit),
    /// Tell what was written to a mount and is not stored yet
    Status(Status),
    /// Store a password in the keyring of the desktop
    Login(Login),
    /// Remove a password from the keyring of the desktop
    Logout(Logout),
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
    /// Bring a file to a server as it is
    Put(Put),
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
    /// Make a thin container whole: what lies in its bases becomes part of it
    Fat(Fat),
    /// Make a store of objects, bring containers into it, remove what none needs
    Store(Store),
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
    /// Fetch what is at an address before it is needed
    Prefetch(Prefetch),
    /// Keep what is at an address here, or list what is kept so
    Pin(Pin),
    /// Need it here no longer
    Unpin(Unpin),
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
