//! The words of what keeps things here.

use super::Opening;
use crate::mount::escaped;
use clap::{Args, ValueHint};
use std::ffi::OsString;
use std::path::PathBuf;

#[derive(Args, Debug)]
#[command(after_help = "EXAMPLES\n  \
    stmount prefetch https://host/game.st              all of it\n  \
    stmount prefetch 'https://host/game.st!data/maps'  what this folder in it needs\n  \
    stmount prefetch sftp://host/dir/                  every file of a folder\n  \
    stmount prefetch /mnt/game/data                    through a mount\n\n\
    It goes to the directory for caches, from where every later mount takes it, and may have to make room for newer things \
    there: `stmount pin` keeps it.")]
pub struct Prefetch {
    /// Addresses, with or without a path inside, or what is in a mount
    #[arg(value_name = "SRC!PATH", required = true, value_hint = ValueHint::AnyPath)]
    pub sources: Vec<OsString>,
    #[command(flatten)]
    pub place: CachePlace,
    #[command(flatten)]
    pub opening: Opening,
}

#[derive(Args, Debug)]
#[command(after_help = "EXAMPLES\n  \
    stmount pin https://host/game.st                   all of it, for times without a network\n  \
    stmount pin 'https://host/game.st!data/maps'       what this folder in it needs\n  \
    stmount pin /mnt/share/photos                      the same of a folder in a mount of an address\n  \
    stmount pin                                        what is pinned\n  \
    stmount unpin https://host/game.st\n\n\
    What is pinned is fetched, and stays in the directory for caches beyond what --cache-max allows there; it shows also when the \
    server cannot be reached. When it was changed on the server, pin it again.")]
pub struct Pin {
    /// Addresses, with or without a path inside, or what is in a mount of one; without any, what is pinned is listed
    #[arg(value_name = "SRC!PATH", value_hint = ValueHint::AnyPath)]
    pub sources: Vec<OsString>,
    /// List what is pinned, as JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub place: CachePlace,
    #[command(flatten)]
    pub opening: Opening,
}

#[derive(Args, Debug)]
#[command(after_help = "EXAMPLES\n  \
    stmount unpin https://host/game.st\n  \
    stmount unpin --all\n\n\
    What was pinned stays as long as there is room for it.")]
pub struct Unpin {
    /// What is pinned, as `stmount pin` lists it
    #[arg(value_name = "SRC!PATH", required_unless_present = "all", value_hint = ValueHint::AnyPath)]
    pub sources: Vec<OsString>,
    /// All that is pinned
    #[arg(long, conflicts_with = "sources")]
    pub all: bool,
    #[command(flatten)]
    pub place: CachePlace,
    #[command(flatten)]
    pub opening: Opening,
}

/// Where it is kept.
#[derive(Args, Clone, Debug, Default)]
pub struct CachePlace {
    /// The directory for caches, as -o cache= of the mounts that are to find it there
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub cache: Option<PathBuf>,
    /// The most that is kept there besides what is pinned; 10G without it
    #[arg(long, value_name = "SIZE")]
    pub cache_max: Option<String>,
}

impl CachePlace {
    /// The same as options of `-o`.
    pub fn options(&self) -> Vec<String> {
        let dir = self.cache.as_ref().map(|dir| format!("cache={}", escaped(&dir.display().to_string())));
        let most = self.cache_max.as_ref().map(|most| format!("cache-max={}", escaped(most)));
        dir.into_iter().chain(most).collect()
    }
}
