//! A file in volumes.

use clap::{Args, ValueHint};
use std::path::PathBuf;

#[derive(Args, Debug)]
#[command(after_help = "EXAMPLES\n  \
    stmount split photos.st --volume-size 4G        photos.st.001, photos.st.002 ...; photos.st stays\n  \
    stmount parity add photos.st 12% && stmount split photos.st --volume-size 4G\n\n\
    Of a .st it is told whether any one volume may be lost, or how much parity that would need.")]
pub struct Split {
    /// The file
    #[arg(value_hint = ValueHint::FilePath)]
    pub file: PathBuf,
    /// The size of each volume but the last
    #[arg(long, value_name = "SIZE")]
    pub volume_size: String,
    /// Replace volumes that exist
    #[arg(short, long)]
    pub force: bool,
}

#[derive(Args, Debug)]
#[command(after_help = "EXAMPLES\n  \
    stmount join photos.st.001            makes photos.st; the volumes stay\n  \
    stmount join photos.st.001 /tmp/p.st\n  \
    stmount check --repair photos.st.001  makes volumes anew that are missing, if there is enough parity\n\n\
    A volume that is missing is named; one behind the last that is there is only missed in a .st.")]
pub struct Join {
    /// Any volume
    #[arg(value_hint = ValueHint::FilePath)]
    pub file: PathBuf,
    /// The file to write; without it, the name of the volumes without their number
    #[arg(value_hint = ValueHint::FilePath)]
    pub out: Option<PathBuf>,
    /// Replace OUT if it exists
    #[arg(short, long)]
    pub force: bool,
}
