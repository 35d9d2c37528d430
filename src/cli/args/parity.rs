//! How much parity a container gets.

use super::{Passwords, Signing};
use clap::{Args, Subcommand, ValueEnum, ValueHint};
use std::path::PathBuf;

#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Parity of a .st: it makes damage good by itself")]
pub struct Parity {
    /// Room for parity, 0.5% to 100% of the container: a burst of damage of nearly that size is made good, wherever it is
    #[arg(long = "parity", value_name = "SHARE")]
    pub share: Option<String>,
    /// The code: reed-solomon-simd is fast and fine, reed-solomon-erasure is of GF(2^8), with 255 blocks at most
    #[arg(long, value_enum, value_name = "CODE", requires = "share")]
    pub parity_code: Option<Code>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Code {
    #[default]
    #[value(name = "reed-solomon-simd")]
    Simd,
    #[value(name = "reed-solomon-erasure")]
    Erasure,
}

/// The work of `stmount parity`.
#[derive(Debug, Subcommand)]
pub enum ParityVerb {
    /// Give a container parity, or make it as it was meant after writing; of any other file, in a file beside it
    Add(ParityAdd),
    /// Take the parity of a container away, or the file with that of any other file
    Drop(ParityDrop),
}

#[derive(Args, Debug)]
#[command(after_help = "EXAMPLES\n  \
    stmount parity add photos.st\n  \
    stmount parity add photos.zip         writes photos.zip.stpar\n  \
    stmount parity add photos.zip 10%\n  \
    stmount check --repair photos.zip     when it is damaged")]
pub struct ParityAdd {
    /// The container, or any other file
    #[arg(value_hint = ValueHint::FilePath)]
    pub file: PathBuf,
    /// Room for parity, 0.5% to 100% of the file; without it as much as the container has, or 5%
    pub share: Option<String>,
    /// The code
    #[arg(long, value_enum, value_name = "CODE")]
    pub parity_code: Option<Code>,
    /// Of a container as well: in a file beside it
    #[arg(long)]
    pub beside: bool,
    #[command(flatten)]
    pub signing: Signing,
    #[command(flatten)]
    pub passwords: Passwords,
}

#[derive(Args, Debug)]
pub struct ParityDrop {
    /// The container, or any other file
    #[arg(value_hint = ValueHint::FilePath)]
    pub file: PathBuf,
    #[command(flatten)]
    pub signing: Signing,
    #[command(flatten)]
    pub passwords: Passwords,
}
