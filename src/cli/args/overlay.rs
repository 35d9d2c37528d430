//! The words of `overlay`.

use super::{Level, Opening};
use clap::{Args, Subcommand, ValueHint};
use std::path::PathBuf;

#[derive(Args, Debug)]
#[command(after_help = "EXAMPLES\n  \
    stmount run --overlay saves game.zip -- ./start.sh   changes go to the folder saves\n  \
    stmount overlay diff saves                           what has changed, path by path\n  \
    stmount overlay reset saves                          as it was in the beginning\n  \
    stmount overlay export saves my-saves.tar.zst        all of it as one file\n  \
    stmount overlay apply my-saves.tar.zst saves --base game.zip     and that on another machine\n  \
    stmount overlay commit saves game.zip                into the archive, for good\n\n\
    The folder has changed and new files in clear below `files`. It belongs to one state of one archive or folder: over \
    another one it is refused. It must not be mounted meanwhile, but for `status`.")]
pub struct Overlay {
    #[command(subcommand)]
    pub what: OverlayVerb,
}

#[derive(Debug, Subcommand)]
pub enum OverlayVerb {
    /// Tell what is in it, whether it fits its base, and what is missing
    #[command(after_help = "EXAMPLES\n  \
        stmount overlay status saves\n  \
        stmount overlay status --json saves | jq .fits")]
    Status {
        #[command(flatten)]
        of: Of,
        /// JSON: {"v":1,"base","fits":true|false|null,"held","added","modified","deleted","renamed","attributes","bytes",
        /// "journal","missing":[],"altered":[],"unknown":[]}
        #[arg(long)]
        json: bool,
    },
    /// Tell what has changed: A added, M modified, D deleted, R renamed, P attributes
    #[command(after_help = "EXAMPLES\n  \
        stmount overlay diff saves\n  \
        stmount overlay diff saves | grep ^M")]
    Diff {
        #[command(flatten)]
        of: Of,
    },
    /// Bring the changes into the base, all or none of them, and empty the overlay
    #[command(after_help = "EXAMPLES\n  \
        stmount overlay commit saves game.zip\n\n\
        The base must be of a format that takes changes (-o rw): of another one, stmount convert makes a .st.")]
    Commit {
        /// The directory of the overlay
        #[arg(value_name = "DIR", value_hint = ValueHint::DirPath)]
        dir: PathBuf,
        /// The base; without it, where it was when it was mounted last
        #[arg(id = "onto", value_name = "BASE", value_hint = ValueHint::AnyPath)]
        base: Option<PathBuf>,
        #[command(flatten)]
        opening: Opening,
    },
    /// Throw changes away: all of them, or those at and below some paths
    #[command(after_help = "EXAMPLES\n  \
        stmount overlay reset saves\n  \
        stmount overlay reset saves config/keys.cfg levels\n\n\
        Nothing is asked; what was thrown away is told.")]
    Reset {
        #[command(flatten)]
        of: Of,
        /// Paths in the mount
        #[arg(value_name = "PATH")]
        paths: Vec<String>,
    },
    /// Write all changes as one file, a tar
    #[command(after_help = "EXAMPLES\n  \
        stmount overlay export saves my-saves.tar.zst\n\n\
        The same changes give the same bytes.")]
    Export {
        #[command(flatten)]
        of: Of,
        /// The file to write: .tar.zst, .tar.gz, .tar.xz, .tar.bz2, .tar.lz4 or .tar
        #[arg(value_name = "PATCH", value_hint = ValueHint::FilePath)]
        patch: PathBuf,
        /// Replace PATCH if it exists
        #[arg(short = 'f', long = "replace")]
        replace: bool,
        #[command(flatten)]
        level: Level,
    },
    /// Lay what was exported over the same base
    #[command(after_help = "EXAMPLES\n  \
        stmount overlay apply my-saves.tar.zst saves --base game.zip")]
    Apply {
        /// What export has written
        #[arg(value_name = "PATCH", value_hint = ValueHint::FilePath)]
        patch: PathBuf,
        #[command(flatten)]
        of: Of,
    },
}

/// Which overlay, over what.
#[derive(Args, Debug)]
pub struct Of {
    /// The directory of the overlay
    #[arg(value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub dir: PathBuf,
    #[command(flatten)]
    pub opening: Opening,
}

impl Of {
    /// What it lies over; nothing where it was when it was mounted last.
    pub fn base(&self) -> Option<PathBuf> {
        self.opening.reading.passwords.base.first().cloned()
    }
}
