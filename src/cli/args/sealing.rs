//! For whom a new container is sealed, and how.

use clap::{Args, ValueEnum, ValueHint};
use std::path::PathBuf;

/// Each way that is given opens the container alone, but for a passphrase and a keyfile that are made together.
#[derive(Args, Clone, Debug, Default)]
pub struct Ways {
    /// Whoever has the identity of this recipient opens it: age1..., or an ssh-ed25519 key in quotes (repeatable)
    #[arg(long, value_name = "RECIPIENT")]
    pub recipient: Vec<String>,
    /// The same for all recipients of a file, one in each line; - is the standard input (repeatable)
    #[arg(short = 'R', long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub recipients_file: Vec<PathBuf>,
    /// Whoever has this file opens it, whatever is in it; with --encrypt: only who has the file AND knows the passphrase
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub new_keyfile: Option<PathBuf>,
}

#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Sealing of a .st: any ONE of the ways that are given opens it")]
pub struct Sealing {
    #[command(flatten)]
    pub ways: Ways,
    /// The cipher: AES-256-GCM-SIV, or this and XChaCha20-Poly1305 over it, which both would have to be broken
    #[arg(long, value_enum, value_name = "CIPHER")]
    pub cipher: Option<Ciphers>,
    /// Make lengths tell less, for up to 12 % more room
    #[arg(long)]
    pub pad: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Ciphers {
    /// AES-256-GCM-SIV
    #[default]
    Aes,
    /// AES-256-GCM-SIV, then XChaCha20-Poly1305
    Cascade,
}
