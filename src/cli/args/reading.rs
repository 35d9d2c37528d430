//! How archives are opened: the same words for every verb that reads one.

use crate::mount::escaped;
use crate::mount::session::absolute;
use clap::{Args, ValueHint};
use std::ffi::OsString;
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
    pub link: Link,
    #[command(flatten)]
    pub passwords: Passwords,
}

/// The same for verbs that read an archive without a mount.
#[derive(Args, Clone, Debug, Default)]
pub struct Opening {
    /// Open it though a password is missing or wrong, or the list of its entries is damaged
    #[arg(long = "force", help_heading = "Archives")]
    pub force: bool,
    /// Let what is damaged of a file in a .st read as zeros, instead of an error; the log tells where
    #[arg(long, help_heading = "Archives")]
    pub allow_damaged: bool,
    #[command(flatten)]
    pub reading: Reading,
}

/// How what is at an address is asked for. Each is also an option of `-o`.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Addresses")]
pub struct Link {
    /// How long to wait for a server, which is asked again meanwhile; 30s without it
    #[arg(long, value_name = "TIME")]
    pub deadline: Option<String>,
    /// Requests at a time; 8 without it
    #[arg(long, value_name = "N")]
    pub connections: Option<u16>,
    /// Certificates of who vouches for servers, besides those of the system: a file in PEM
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub ca: Option<PathBuf>,
    /// The certificate and the key that a server asks for: a file in PEM
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub cert: Option<PathBuf>,
    /// A file with a token that lets this user in
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub bearer: Option<PathBuf>,
    /// http://, https:// or socks5h://HOST:PORT; what the environment says without it
    #[arg(long, value_name = "URL", value_hint = ValueHint::Url)]
    pub proxy: Option<String>,
    /// The server of s3://, where it is not that of AWS; AWS_ENDPOINT_URL without it
    #[arg(long, value_name = "URL", value_hint = ValueHint::Url)]
    pub endpoint: Option<String>,
    /// At most so many bytes a second over the net, down and up together: 500K, 2M
    #[arg(long, value_name = "RATE")]
    pub limit_rate: Option<String>,
    /// Where the source is as well, at another server: it is read from the one that brings it sooner, and goes on at another
    /// when one fails (repeatable)
    #[arg(long, value_name = "URL", value_hint = ValueHint::Url)]
    pub mirror: Vec<String>,
    /// Which servers of ssh are good: known, those in known_hosts; accept-new, also new ones, which are added to it; or the one
    /// whose key has this fingerprint: SHA256:...
    #[arg(long, value_name = "WHICH")]
    pub hostkey: Option<String>,
    /// auto: what is kept is shown when the server cannot be reached; only: it is not asked at all
    #[arg(long, value_name = "WHEN", value_parser = ["auto", "only"], hide_possible_values = true)]
    pub offline: Option<String>,
}

impl Link {
    fn options(&self) -> impl Iterator<Item = String> {
        let file = |path: &Option<PathBuf>| path.as_ref().map(|path| path.display().to_string());
        let words = [
            ("deadline", self.deadline.clone()),
            ("connections", self.connections.map(|n| n.to_string())),
            ("ca", file(&self.ca)),
            ("cert", file(&self.cert)),
            ("bearer", file(&self.bearer)),
            ("proxy", self.proxy.clone()),
            ("endpoint", self.endpoint.clone()),
            ("limit-rate", self.limit_rate.clone()),
            ("hostkey", self.hostkey.clone()),
            ("offline", self.offline.clone()),
        ];
        let words = words.into_iter().filter_map(|(name, value)| Some((name, value?)));
        let mirrors = self.mirror.iter().map(|mirror| ("mirror", mirror.clone()));
        words.chain(mirrors).map(|(name, value)| format!("{name}={}", escaped(&value)))
    }
}

/// What opens what is encrypted, and whose signatures count. All that are given are tried, keys before passwords; then
/// somebody at the terminal is asked.
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
    /// A secret key of age (age-keygen) or ssh (ssh-ed25519), for a .st that is sealed for its recipient; - is the standard
    /// input (repeatable)
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub identity: Vec<PathBuf>,
    /// A keyfile, for a .st that opens with one, or with one and a passphrase together (repeatable)
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub keyfile: Vec<PathBuf>,
    /// Ask the keyring of the desktop, before anybody at the terminal; see stmount login
    #[arg(long)]
    pub keyring: bool,
    /// Never ask for a password
    #[arg(long)]
    pub no_prompt: bool,
    /// What a thin .st lies over: a container, a store, a folder with some, an address (repeatable). Of the verbs of
    /// overlay it is first of all what the overlay lies over, where that is not where it was
    #[arg(long, value_name = "PATH|URL", value_hint = ValueHint::AnyPath)]
    pub base: Vec<PathBuf>,
    /// Ask the addresses that a thin .st itself names for what it lies over
    #[arg(long)]
    pub base_hints: bool,
}

impl Passwords {
    /// Whether there is anything that opens what is encrypted, without asking.
    pub fn opens(&self) -> bool {
        let given = [&self.password_file, &self.identity, &self.keyfile];
        given.iter().any(|files| !files.is_empty())
            || self.password_command.is_some()
            || self.password_env.is_some()
            || self.password_fd.is_some()
            || self.password.is_some()
    }

    /// The same as words for a program that is started, but for the password itself: others could read it there.
    pub fn words(&self) -> Vec<OsString> {
        let files =
            [("--password-file", &self.password_file), ("--identity", &self.identity), ("--keyfile", &self.keyfile)];
        let mut words: Vec<OsString> = files
            .iter()
            .flat_map(|(name, files)| files.iter().flat_map(|f| [OsString::from(*name), f.into()]))
            .collect();
        let fd = self.password_fd.map(|fd| fd.to_string());
        let others = [
            ("--password-command", &self.password_command),
            ("--password-env", &self.password_env),
            ("--password-fd", &fd),
        ];
        words.extend(others.iter().filter_map(|(name, value)| Some(format!("{name}={}", value.as_ref()?).into())));
        words.extend(self.keyring.then(|| "--keyring".into()));
        words.extend(self.no_prompt.then(|| "--no-prompt".into()));
        words
    }
}

impl Reading {
    /// The same as options of `-o`.
    pub fn options(&self) -> Vec<String> {
        let mut options = Vec::new();
        options.extend(self.recursive.map(|depth| format!("recursive={depth}")));
        options.extend(self.encoding.as_deref().map(|charset| format!("encoding={}", escaped(charset))));
        options.extend(self.strict.then(|| "strict".to_owned()));
        options.extend(self.max_entries.map(|most| format!("max-entries={most}")));
        options.extend(self.index.as_deref().map(|place| format!("index={}", escaped(place))));
        options.extend(self.link.options());
        let bases = self.passwords.base.iter().map(|place| absolute(place).display().to_string());
        options.extend(bases.map(|place| format!("base={}", escaped(&place))));
        options.extend(self.passwords.base_hints.then(|| "base-hints".to_owned()));
        options.extend(self.passwords.trust.as_deref().map(|level| format!("trust={level}")));
        options
    }
}
