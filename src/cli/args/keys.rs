//! The words of `key` and `rekey`.

use super::{Ciphers, Level, Passwords, Signing, Ways};
use clap::{Args, Subcommand, ValueHint};
use std::path::PathBuf;

#[derive(Args, Debug)]
#[command(after_help = "EXAMPLES\n  \
    stmount key list safe.st\n  \
    stmount key add --recipient age1... --label Ada safe.st\n  \
    stmount key add --encrypt --identity me.key safe.st     a passphrase as well\n  \
    stmount key change safe.st                              another passphrase in place of the one that opened it\n  \
    stmount key remove safe.st Ada\n\n\
    A container is sealed with one master key, which each of its keys opens: no file in it is written anew. Earlier lists of \
    keys stay in the file. So who had a key before, and has kept a copy of the file or of the master key, still reads it with \
    that: `stmount rekey` shuts out for good.")]
pub struct Key {
    #[command(subcommand)]
    pub what: KeyVerb,
}

#[derive(Debug, Subcommand)]
pub enum KeyVerb {
    /// List what opens a container, and what it is sealed with
    #[command(after_help = "EXAMPLES\n  \
        stmount key list safe.st\n  \
        stmount key list --json --identity me.key safe.st | jq '.slots[].label'")]
    List {
        /// The container
        #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
        file: PathBuf,
        /// JSON: {"v":1,"ciphers":[],"padded":BOOL,"slots":[{"slot":N,"kind","label","added":SECONDS,"used":BOOL,
        /// "memory_kib","passes","lanes"}]}
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        passwords: Passwords,
    },
    /// Add a way to open a container
    #[command(after_help = "EXAMPLES\n  \
        stmount key add --recipient age1... safe.st\n  \
        stmount key add --recipient \"$(cat ada.pub)\" --label Ada safe.st\n  \
        stmount key add --encrypt=new-passphrase --password-file old-passphrase safe.st")]
    Add {
        /// The container
        #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
        file: PathBuf,
        #[command(flatten)]
        new: NewWays,
        /// What it is called in the list: only who opens the container reads that
        #[arg(long, value_name = "TEXT")]
        label: Option<String>,
        #[command(flatten)]
        signing: Signing,
        #[command(flatten)]
        passwords: Passwords,
    },
    /// Take a way to open a container away, but for the last one
    #[command(after_help = "EXAMPLES\n  \
        stmount key remove safe.st 2\n  \
        stmount key remove safe.st Ada\n\n\
        Who had it, and has kept a copy of the file or of the master key, still reads with that what the container holds, and \
        what is written to it later: see stmount rekey.")]
    Remove {
        /// The container
        #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
        file: PathBuf,
        /// Which one: its number in the list, or its label
        #[arg(value_name = "N|LABEL")]
        which: String,
        #[command(flatten)]
        signing: Signing,
        #[command(flatten)]
        passwords: Passwords,
    },
    /// Put another passphrase in the place of the one that opens a container
    #[command(after_help = "EXAMPLES\n  \
        stmount key change safe.st\n  \
        stmount key change --password-file old --encrypt=new safe.st\n\n\
        Both happen at once, or nothing. Who knew the old one, and has kept a copy of the file, still reads with that: see \
        stmount rekey.")]
    Change {
        /// The container
        #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
        file: PathBuf,
        /// The new passphrase is in the first line of PASSFILE; without it, it is asked for twice
        #[arg(long, value_name = "PASSFILE", num_args = 0..=1, require_equals = true, value_hint = ValueHint::FilePath)]
        encrypt: Option<Option<PathBuf>>,
        #[command(flatten)]
        signing: Signing,
        #[command(flatten)]
        passwords: Passwords,
    },
}

/// Ways to open a container that are to be made.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "New ways to open it: any ONE of them does")]
pub struct NewWays {
    /// The passphrase in the first line of PASSFILE; without a file it is asked for
    #[arg(long, value_name = "PASSFILE", num_args = 0..=1, require_equals = true, value_hint = ValueHint::FilePath)]
    pub encrypt: Option<Option<PathBuf>>,
    #[command(flatten)]
    pub ways: Ways,
}

#[derive(Args, Debug)]
#[command(after_help = "EXAMPLES\n  \
    stmount rekey safe.st                             a new passphrase is asked for\n  \
    stmount rekey --recipient age1... --identity me.key safe.st\n  \
    stmount rekey --encrypt plain.st                  seal one that was in clear\n  \
    stmount rekey --plain safe.st                     what was sealed lies in clear from now on\n\n\
    The container is packed anew, as by stmount compact, under another master key: whoever had a key, or a copy of the file, \
    opens the new one no more. All its states stay. It opens in the ways that are given here and in no other: none of the old \
    ones is taken over, since a passphrase cannot be without being known. `stmount key list` shows the recipients there were.\n\n\
    The new container takes the place of the old one when it is complete; until then there must be room for both. The old data \
    may still be on the disk for some time, in backups, and in snapshots of the file system: what they are sealed with opens \
    them as before, and what was in clear is so there.")]
pub struct Rekey {
    /// The container
    #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub file: PathBuf,
    #[command(flatten)]
    pub new: NewWays,
    /// The cipher, as of pack; without it the one that it has
    #[arg(long, value_enum, value_name = "CIPHER")]
    pub cipher: Option<Ciphers>,
    /// Make lengths tell less, for up to 12 % more room; what is padded stays so without it
    #[arg(long)]
    pub pad: bool,
    /// Do not seal it any more: everybody can read it then
    #[arg(long, conflicts_with_all = ["encrypt", "recipient", "recipients_file", "new_keyfile", "cipher", "pad"])]
    pub plain: bool,
    #[command(flatten)]
    pub level: Level,
    #[command(flatten)]
    pub signing: Signing,
    #[command(flatten)]
    pub passwords: Passwords,
}
