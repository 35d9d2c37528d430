//! The words of what is stored in the keyring of the desktop.

use clap::{Args, ValueHint};
use std::path::PathBuf;

#[derive(Args, Debug)]
#[command(after_help = "EXAMPLES\n  \
    stmount login https://me@host/                 asks for the password, and stores it for all of that server\n  \
    stmount login /home/me/secret.st               the passphrase of a container\n  \
    stmount --keyring https://me@host/x.st m       asks the keyring\n\n\
    The keyring is that of the desktop, by secret-tool (Debian: libsecret-tools). On macOS `security add-internet-password` stores \
    passwords.")]
pub struct Login {
    /// An address with its user, or an archive by the name by which it is opened
    #[arg(value_name = "URL|FILE", value_hint = ValueHint::AnyPath)]
    pub place: PathBuf,
    /// A file with the password in its first line; - is the standard input
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub password_file: Option<PathBuf>,
}

#[derive(Args, Debug)]
#[command(after_help = "EXAMPLES\n  stmount logout https://me@host/")]
pub struct Logout {
    /// What was given to login
    #[arg(value_name = "URL|FILE", value_hint = ValueHint::AnyPath)]
    pub place: PathBuf,
}
