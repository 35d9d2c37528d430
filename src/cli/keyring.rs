//! The keyring of the desktop: passwords that somebody stored once, with this program or with another.
//!
//! ```text
//!   an address       server HOST, protocol SCHEME, user USER      as git and file managers name them
//!   anything else    application stmount, path PATH
//!
//!   Linux, BSD       secret-tool lookup NAME VALUE ...            of libsecret
//!   macOS            security find-internet-password ...
//! ```
//!
//! The programs are told what is asked for, and passwords go through pipes. A keyring that is locked asks by itself.

use super::args::{self, Common};
use super::{ask, exit, say};
use crate::error::{Error, Kind, Result};
use crate::key::{Secret, guard};
use crate::mount::session::absolute;
use crate::remote;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use url::Url;
use zeroize::Zeroizing;

/// How long somebody may take to unlock it.
const PATIENCE: Duration = Duration::from_secs(120);

/// Bytes of a password.
const MOST: u64 = 64 << 10;

/// What a password is for.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Entry {
    Server { host: String, protocol: String, user: Option<String> },
    Path(String),
}

impl Entry {
    /// By the words in which a password is asked for: `ADDRESS`, `ADDRESS, user "USER"`, or the name of an archive.
    fn of(what: &str) -> Self {
        let (place, user) = match what.split_once(", user ") {
            Some((place, user)) => (place, serde_json::from_str::<String>(user).ok()),
            None => (what, None),
        };
        let server = Url::parse(place).ok().filter(|_| remote::scheme(place).is_some()).and_then(|url| {
            let named = Some(url.username()).filter(|user| !user.is_empty()).map(str::to_owned);
            let user = user.filter(|user| !user.is_empty()).or(named);
            Some(Self::Server { host: url.host_str()?.to_owned(), protocol: url.scheme().to_owned(), user })
        });
        server.unwrap_or_else(|| Self::of_path(what))
    }

    /// A file that is there goes by the whole of its path.
    fn of_path(text: &str) -> Self {
        let path = Path::new(text);
        Self::Path(if path.exists() { absolute(path).display().to_string() } else { text.to_owned() })
    }

    fn attributes(&self) -> Vec<&str> {
        match self {
            Self::Server { host, protocol, user } => {
                let mut all = vec!["server", host, "protocol", protocol];
                all.extend(user.iter().flat_map(|user| ["user", user.as_str()]));
                all
            }
            Self::Path(path) => vec!["application", "stmount", "path", path],
        }
    }

    fn words(&self) -> String {
        match self {
            Self::Server { host, protocol, user: Some(user) } => format!("{protocol}://{user}@{host}"),
            Self::Server { host, protocol, user: None } => format!("{protocol}://{host}"),
            Self::Path(path) => path.clone(),
        }
    }

    fn to_look_up(&self) -> Command {
        if !cfg!(target_os = "macos") {
            let mut command = Command::new("secret-tool");
            command.arg("lookup").args(self.attributes());
            return command;
        }
        let mut command = Command::new("security");
        match self {
            Self::Server { host, user, .. } => {
                command.args(["find-internet-password", "-s", host]);
                if let Some(user) = user {
                    command.args(["-a", user]);
                }
            }
            Self::Path(path) => {
                command.args(["find-generic-password", "-s", "stmount", "-a", path]);
            }
        }
        command.arg("-w");
        command
    }
}

/// The password for something, where the keyring has one.
pub fn lookup(what: &str) -> Option<Secret> {
    let entry = Entry::of(what);
    let mut command = entry.to_look_up();
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(e) => {
            log::info!("the keyring cannot be asked: {}: {e}", command.get_program().display());
            return None;
        }
    };
    guard::no_core_dumps();
    let mut bytes = Zeroizing::new(Vec::with_capacity(MOST as usize));
    let mut out = child.stdout.take()?;
    let reader = std::thread::spawn(move || {
        let read = out.by_ref().take(MOST).read_to_end(&mut bytes);
        read.map(|_| bytes).ok()
    });
    let is_done = wait(&mut child).is_some_and(|code| code == 0);
    let bytes = reader.join().ok().flatten().filter(|_| is_done)?;
    let text = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
    (!text.is_empty()).then(|| Secret::new(text.to_vec()))
}

/// The exit code, unless it takes too long: then it is ended.
fn wait(child: &mut Child) -> Option<i32> {
    let begun = Instant::now();
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return status.code(),
            Ok(None) if begun.elapsed() < PATIENCE => std::thread::sleep(Duration::from_millis(5)),
            _ => {
                let _ = child.kill();
                let _ = child.wait();
                return None;
            }
        }
    }
}

/// What an operand names: an address, or a file here.
fn named(operand: &Path) -> Entry {
    match remote::is_address(operand) {
        Some(address) => Entry::of(address),
        None => Entry::of_path(&operand.display().to_string()),
    }
}

fn only_linux() -> Result<()> {
    match cfg!(target_os = "macos") {
        true => Err(Error::new(Kind::Unsupported, "passwords are stored by macOS itself")
            .hint("security add-internet-password -s HOST -a USER -w")),
        false => Ok(()),
    }
}

fn run(command: &mut Command, password: Option<&Secret>) -> Result<i32> {
    let stdin = if password.is_some() { Stdio::piped() } else { Stdio::null() };
    let mut child = command
        .stdin(stdin)
        .stdout(Stdio::null())
        .spawn()
        .map_err(|e| Error::io(e, "cannot run secret-tool").hint("it is in the package libsecret-tools"))?;
    if let (Some(password), Some(mut pipe)) = (password, child.stdin.take()) {
        pipe.write_all(password.expose()).map_err(|e| Error::io(e, "secret-tool takes nothing"))?;
    }
    wait(&mut child).ok_or_else(|| Error::new(Kind::TimedOut, "the keyring did not answer"))
}

/// Stores a password.
pub fn login(given: &args::Login, _: &Common) -> Result<u8> {
    only_linux()?;
    let entry = named(&given.place);
    let password = match &given.password_file {
        Some(file) => ask::from_file(file)?.into_iter().next(),
        None => Some(ask::new_password()?),
    };
    let password = password.ok_or_else(|| Error::new(Kind::Usage, "there is no password in the file"))?;
    let mut command = Command::new("secret-tool");
    command.args(["store", &format!("--label=stmount: {}", entry.words())]).args(entry.attributes());
    match run(&mut command, Some(&password))? {
        0 => {
            say::notice(&format!("the keyring has the password for {} now: --keyring asks it", entry.words()));
            Ok(exit::OK)
        }
        code => Err(Error::new(Kind::System, format!("the keyring does not take it (secret-tool ended with {code})"))
            .hint("is a keyring running, and unlocked?")),
    }
}

/// Removes a password.
pub fn logout(given: &args::Logout) -> Result<u8> {
    only_linux()?;
    let entry = named(&given.place);
    let mut lookup = entry.to_look_up();
    if run(&mut lookup, None)? != 0 {
        return Err(Error::new(Kind::NotFound, format!("the keyring has no password for {}", entry.words())));
    }
    let mut command = Command::new("secret-tool");
    command.arg("clear").args(entry.attributes());
    match run(&mut command, None)? {
        0 => Ok(exit::OK),
        code => Err(Error::new(Kind::System, format!("the keyring keeps it (secret-tool ended with {code})"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_is_named_as_others_name_it() {
        let server = |host: &str, protocol: &str, user: Option<&str>| Entry::Server {
            host: host.to_owned(),
            protocol: protocol.to_owned(),
            user: user.map(str::to_owned),
        };
        for (what, entry) in [
            ("https://host/dir/x.st, user \"me\"", server("host", "https", Some("me"))),
            ("https://host/x, user \"\"", server("host", "https", None)),
            ("sftp://me@host:2222/~/x, user \"m, user \\\"e\"", server("host", "sftp", Some("m, user \"e"))),
            ("ftp://me@host/", server("host", "ftp", Some("me"))),
            ("/home/me/secret.st", Entry::Path("/home/me/secret.st".to_owned())),
            ("the key /home/me/.ssh/id_rsa", Entry::Path("the key /home/me/.ssh/id_rsa".to_owned())),
        ] {
            assert_eq!(Entry::of(what), entry, "{what}");
        }
        let entry = server("host", "https", Some("me"));
        assert_eq!(entry.attributes(), ["server", "host", "protocol", "https", "user", "me"]);
    }
}
