//! The words of the states of a container.

use super::{Level, Link, Passwords, Signing};
use clap::{Args, ValueHint};
use std::path::PathBuf;

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
    pub link: Link,
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
