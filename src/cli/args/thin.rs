//! The words of thin containers and of stores.

use super::{Level, Link, Opening, Passwords, Signing};
use clap::{Args, Subcommand, ValueHint};
use std::path::PathBuf;

#[derive(Args, Debug)]
#[command(after_help = "EXAMPLES\n  \
    stmount fat game.st whole.st\n  \
    stmount fat --base /srv/libs game.st whole.st\n\n\
    All that lies in bases becomes part of OUT, with all states; what sealed the container seals OUT. `stmount check OUT` then needs nothing else.")]
pub struct Fat {
    /// The thin container
    #[arg(value_name = "SRC", value_hint = ValueHint::FilePath)]
    pub source: PathBuf,
    /// The container to write
    #[arg(value_name = "OUT", value_hint = ValueHint::FilePath)]
    pub out: PathBuf,
    /// Replace OUT if it exists; it may be SRC itself
    #[arg(long)]
    pub overwrite: bool,
    #[command(flatten)]
    pub level: Level,
    #[command(flatten)]
    pub signing: Signing,
    #[command(flatten)]
    pub opening: Opening,
}

#[derive(Args, Debug)]
#[command(after_help = "EXAMPLES\n  \
    stmount store init /srv/store\n  \
    stmount store add /srv/store a.st b.st      their segments go there, and they become thin\n  \
    stmount pack --base /srv/store Game game.st what is in the store is left out\n  \
    stmount store gc -n /srv/store a.st b.st game.st\n  \
    stmount store init s3://bucket/store && stmount pack --base s3://bucket/store Game game.st\n\n\
    A store is a folder of objects that are named by their hash: any number of containers on any number of machines may lie \
    over it, and nothing in it ever changes. It may be on a server: s3, webdav(s), sftp, ftp; at an http(s) address it can be \
    read.")]
pub struct Store {
    #[command(subcommand)]
    pub what: StoreVerb,
}

#[derive(Debug, Subcommand)]
pub enum StoreVerb {
    /// Make a store of an empty folder
    #[command(after_help = "EXAMPLES\n  stmount store init /srv/store\n  stmount store init s3://bucket/store")]
    Init {
        /// The folder, which is made where it is missing, or an address
        #[arg(value_name = "STORE", value_hint = ValueHint::DirPath)]
        store: PathBuf,
        #[command(flatten)]
        link: Link,
        #[command(flatten)]
        passwords: Passwords,
    },
    /// Bring the segments of containers into a store; the containers become thin and stay as they are otherwise
    #[command(after_help = "EXAMPLES\n  \
        stmount store add /srv/store a.st b.st\n  \
        stmount store add /srv/store a.st --to a-thin.st    a.st stays\n\n\
        A container is replaced by the thin one when all of its objects are durable. It must not be mounted for writing. \
        What is sealed goes there sealed, and nobody can pack over it. Equal data in containers that were packed apart are \
        not found: `stmount pack --base STORE` finds them.")]
    Add(StoreAdd),
    /// Remove the objects that no container needs any more
    #[command(after_help = "EXAMPLES\n  \
        stmount store gc -n /srv/store *.st         only tells what would be removed\n  \
        stmount store gc /srv/store *.st\n\n\
        Only what the containers that are named need in any of their states stays: name all that lie over the store. When one \
        cannot be read, nothing is removed.")]
    Gc(StoreGc),
}

#[derive(Args, Debug)]
pub struct StoreAdd {
    /// The store
    #[arg(value_name = "STORE", value_hint = ValueHint::DirPath)]
    pub store: PathBuf,
    /// Containers
    #[arg(value_name = "FILE", required = true, value_hint = ValueHint::FilePath)]
    pub files: Vec<PathBuf>,
    /// Write the thin container there, and leave FILE as it is
    #[arg(long, value_name = "OUT", value_hint = ValueHint::FilePath)]
    pub to: Option<PathBuf>,
    #[command(flatten)]
    pub signing: Signing,
    #[command(flatten)]
    pub link: Link,
    #[command(flatten)]
    pub passwords: Passwords,
}

#[derive(Args, Debug)]
pub struct StoreGc {
    /// The store
    #[arg(value_name = "STORE", value_hint = ValueHint::DirPath)]
    pub store: PathBuf,
    /// All containers that lie over it
    #[arg(value_name = "CONTAINER", required = true, value_hint = ValueHint::FilePath)]
    pub containers: Vec<PathBuf>,
    /// Only tell what would be removed
    #[arg(short = 'n', long)]
    pub dry_run: bool,
    #[command(flatten)]
    pub link: Link,
    #[command(flatten)]
    pub passwords: Passwords,
}
