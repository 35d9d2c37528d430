//! The words of `keygen` and `trust`.

use super::Passwords;
use clap::{Args, Subcommand, ValueHint};
use std::ffi::OsString;
use std::path::PathBuf;

#[derive(Args, Debug)]
#[command(after_help = "EXAMPLES\n  \
    stmount keygen                        to ~/.config/stmount/signing.key\n  \
    stmount keygen release.key            to a file of its own\n  \
    stmount keygen --public release.key   print the public key of one that is there\n\n\
    The public key is printed: give it to those who are to trust what you sign, who say stmount trust add. The file is \
    secret, only you can read it; a file that is there is never written over.")]
pub struct Keygen {
    /// The file to write; ~/.config/stmount/signing.key without it
    #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub file: Option<PathBuf>,
    /// Make no key, and print the public one of FILE, which may be a key of ssh
    #[arg(short = 'y', long)]
    pub public: bool,
}

#[derive(Args, Debug)]
#[command(after_help = "EXAMPLES\n  \
    stmount trust add stpub16adfsqvzky9t042tlmfujeq88g8wzuhnm2nzxfd0qgdx3ac82ydq4t5r5y Anna\n  \
    stmount trust add ~/.ssh/id_ed25519.pub work\n  \
    stmount trust list\n  \
    stmount trust remove Anna\n  \
    stmount trust forget backup.st        it was restored from a backup, or has another key now\n  \
    stmount --trust high game.st          refuse it unless a trusted key has signed it\n\n\
    A key that was added is trusted wherever it signs. Of every other container, the key that signed it when it was first \
    seen is remembered, and another one later is told. Of a container that is signed or sealed the newest state that was \
    seen is remembered, so that an earlier copy in its place is told.\n\n\
    --trust high refuses what no trusted key has signed, and what is older than it was (exit code 24); standard, as it is \
    without a word, refuses only a wrong signature, and tells the rest; low looks at nothing. The variable STMOUNT_TRUST \
    says so for all. The keys are in ~/.config/stmount/trusted_keys, a text.")]
pub struct Trust {
    #[command(subcommand)]
    pub what: TrustVerb,
}

#[derive(Debug, Subcommand)]
pub enum TrustVerb {
    /// Trust a key wherever it signs
    #[command(after_help = "EXAMPLES\n  \
        stmount trust add stpub16adfsqvzky9t042tlmfujeq88g8wzuhnm2nzxfd0qgdx3ac82ydq4t5r5y Anna\n  \
        stmount trust add 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHXjvkRVG5gNemgsdLmANlq35uK195Mv7E4XFSEYnWhW' work\n  \
        stmount trust add release.pub")]
    Add {
        /// The key, stpub1... or ssh-ed25519 ..., or a file with one
        #[arg(value_name = "KEY", value_hint = ValueHint::FilePath)]
        key: String,
        /// What it is called, in a few words
        #[arg(value_name = "NAME")]
        name: Vec<String>,
    },
    /// List the keys that are trusted, and the containers whose first key is remembered
    #[command(after_help = "EXAMPLES\n  \
        stmount trust list\n  \
        stmount trust list --json | jq -r '.keys[].name'")]
    List {
        /// JSON: {"v":1,"keys":[{"key","fingerprint","name"}],"first_use":[{"uid","key","fingerprint","date"}]}
        #[arg(long)]
        json: bool,
    },
    /// Trust a key no longer, nor any container for having been signed by it
    #[command(after_help = "EXAMPLES\n  \
        stmount trust remove Anna\n  \
        stmount trust remove 21fe31dfa154a261626b")]
    Remove {
        /// The key, its name, or its fingerprint
        #[arg(value_name = "KEY|NAME")]
        which: String,
    },
    /// Forget who signed a container first, and which state of it was seen last
    #[command(after_help = "EXAMPLES\n  \
        stmount trust forget backup.st\n  \
        stmount trust forget 0123456789abcdef0123456789abcdef")]
    Forget {
        /// The container, or its number as list tells it
        #[arg(value_name = "CONTAINER|UID", value_hint = ValueHint::FilePath)]
        which: PathBuf,
    },
}

/// What signs what is written.
#[derive(Args, Clone, Debug, Default)]
pub struct Signing {
    /// Sign it, with the key in KEYFILE, or with your own (stmount keygen)
    #[arg(long, value_name = "KEYFILE", num_args = 0..=1, require_equals = true, default_missing_value = "",
        value_hint = ValueHint::FilePath)]
    pub sign: Option<OsString>,
}

#[derive(Args, Debug)]
#[command(after_help = "EXAMPLES\n  \
    stmount sign game.st                  with the key that stmount keygen made\n  \
    stmount sign --key ~/.ssh/id_ed25519 game.st\n  \
    stmount pack --sign Game game.st      signed from the beginning\n  \
    stmount -o sign backup.st /mnt/b      each commit is signed\n\n\
    A small commit is added that is signed and changes nothing. All of the container follows from it: every name, every \
    byte, and the states before. Who changes any of it needs the key. It must not be mounted for writing.")]
pub struct Sign {
    /// The container
    #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub file: PathBuf,
    /// The secret key: of stmount keygen, or one of ssh-ed25519 without a passphrase
    #[arg(long, value_name = "KEYFILE", value_hint = ValueHint::FilePath)]
    pub key: Option<PathBuf>,
    #[command(flatten)]
    pub passwords: Passwords,
}

#[derive(Args, Debug)]
#[command(after_help = "EXAMPLES\n  \
    stmount verify game.st                signed by a key that you trust?\n  \
    stmount verify --key release.pub game.st\n  \
    stmount verify --json game.st | jq -r .signer\n\n\
    Exit code 0: the newest state is signed by one of these keys, or, without --key, by one that is trusted (stmount trust) \
    and is not older than it was; else 24. It looks at the signature and at the index of every table, which is what opening \
    does; whatever is read later is compared with them. stmount check reads everything.")]
pub struct Verify {
    /// The container
    #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub file: PathBuf,
    /// A key that may have signed it, stpub1... or ssh-ed25519 ..., or a file with one (repeatable)
    #[arg(long, value_name = "KEY|FILE", value_hint = ValueHint::FilePath)]
    pub key: Vec<String>,
    /// JSON: {"v":1,"verified":BOOL,"signer":KEY|null,"fingerprint":TEXT|null,"sequence":N|null,"time":{...}|null,
    /// "why":TEXT|null}
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub passwords: Passwords,
}
