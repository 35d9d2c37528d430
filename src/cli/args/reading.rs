//! How archives are opened: the same words for every verb that reads one.

use clap::{Args, ValueHint};
use std::path::PathBuf;

/// What verbs know that read an archive. Each but the passwords is also an option of `-o`.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Archives")]
pub struct Reading {
    /// Show archives inside as folders, too: beside x.zip stands x.zip#; DEPTH levels deep, 8 without a number
    #[arg(short = 'r', long, value_name = "DEPTH", num_args = 0..=1, require_equals = true, default_missing_value = "8")]
    pub recursive: Option<u32>,
    /// The charset of names that do not say theirs: cp437, cp866, shift-jis, gbk ...; guessed without it
    #[arg(long, value_name = "CHARSET")]
    pub encoding: Option<String>,
    /// Refuse an archive that is slightly wrong, instead of reading it with a warning
    #[arg(long)]
    pub strict: bool,
    /// More entries than this are refused; 10000000 without it
    #[arg(long, value_name = "N")]
    pub max_entries: Option<usize>,
    /// Where the index of what is slow to open is kept: auto, none, or a directory
    #[arg(long = "index", value_name = "WHERE", value_hint = ValueHint::DirPath)]
    pub index: Option<String>,
    #[command(flatten)]
    pub passwords: Passwords,
}

/// The same for verbs that read an archive without a mount.
#[derive(Args, Clone, Debug, Default)]
pub struct Opening {
    /// Open it though a password is missing or wrong, or the list of its entries is damaged
    #[arg(long = "force", help_heading = "Archives")]
    pub force: bool,
    #[command(flatten)]
    pub reading: Reading,
}

/// Who knows passwords, and whose signatures count. All passwords that are given are tried, in this order; then somebody
/// at the terminal is asked.
#[derive(Args, Clone, Debug, Default)]
pub struct Passwords {
    /// Refuse what no trusted key has signed (high), tell of it (standard), or do not look (low); see stmount trust
    #[arg(long, value_name = "LEVEL", value_parser = ["high", "standard", "low"], hide_possible_values = true)]
    pub trust: Option<String>,
    /// Passwords, one in each line, that are tried in turn; - is the standard input (repeatable)
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub password_file: Vec<PathBuf>,
    /// A command that prints a password
    #[arg(long, value_name = "CMD", value_hint = ValueHint::CommandString)]
    pub password_command: Option<String>,
    /// A variable of the environment that holds a password
    #[arg(long, value_name = "VAR")]
    pub password_env: Option<String>,
    /// A file descriptor from which passwords are read, one in each line
    #[arg(long, value_name = "N")]
    pub password_fd: Option<i32>,
    /// The password itself: others can see it in the list of processes
    #[arg(short = 'p', value_name = "PASSWORD", hide_short_help = true)]
    pub password: Option<String>,
    /// Never ask for a password
    #[arg(long)]
    pub no_prompt: bool,
}

impl Reading {
    /// The same as options of `-o`.
    pub fn options(&self) -> Vec<String> {
        let escaped = |value: &str| value.replace('\\', "\\\\").replace(',', "\\,");
        let mut options = Vec::new();
        options.extend(self.recursive.map(|depth| format!("recursive={depth}")));
        options.extend(self.encoding.as_deref().map(|charset| format!("encoding={}", escaped(charset))));
        options.extend(self.strict.then(|| "strict".to_owned()));
        options.extend(self.max_entries.map(|most| format!("max-entries={most}")));
        options.extend(self.index.as_deref().map(|place| format!("index={}", escaped(place))));
        options.extend(self.passwords.trust.as_deref().map(|level| format!("trust={level}")));
        options
    }
}
