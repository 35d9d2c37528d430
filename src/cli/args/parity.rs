//! How much parity a container gets.

use clap::{Args, ValueEnum};

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
