//! Passwords: from files, a command, the environment, and somebody at the terminal.
//!
//! A daemon has no terminal. It asks its parent, which has one until the mount is ready:
//!
//! ```text
//!   daemon   {"state":"ask","what":"a.zip","wrong":1}    one line on its stdout            parent
//!            ◄── length (4 bytes), password               through a pipe of their own       asks, answers
//!                length 2^32 - 1: there is no further one
//! ```
//!
//! So no password is ever in an argument of the daemon, in its environment, or in a file that it leaves.

use super::args::Passwords as Given;
use crate::error::{Error, Kind, Result};
use crate::key::{Keys, Secret};
use crate::pool::lock;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, IsTerminal, Read, Write};
use std::path::Path;
use std::sync::Mutex;
use zeroize::Zeroizing;

/// How often a person is asked for one thing.
const PROMPTS: usize = 3;

/// Bytes that a file of passwords may have.
const MOST: u64 = 1 << 20;

/// Tells a daemon through which descriptor its passwords come.
pub const CHANNEL: &str = "STMOUNT_PASSWORDS_FD";

const NONE: u32 = u32::MAX;

/// Everybody who knows passwords, as the command line names them.
pub struct Passwords {
    known: Mutex<Vec<Secret>>,
    may_prompt: bool,
    prompted: Mutex<usize>,
}

impl Passwords {
    /// Reads what is given. The environment may name a file and a command as well.
    pub fn new(given: &Given) -> Result<Self> {
        let mut known = Vec::new();
        if let Some(password) = &given.password {
            log::warn!("a password on the command line can be seen by others; --password-file keeps it from them");
            known.push(Secret::new(password.clone().into_bytes()));
        }
        let var = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        let file = var("STMOUNT_PASSWORD_FILE").map(std::path::PathBuf::from);
        for file in given.password_file.iter().chain(&file) {
            known.extend(from_file(file)?);
        }
        let command = var("STMOUNT_PASSWORD_COMMAND").and_then(|command| command.into_string().ok());
        for command in given.password_command.iter().chain(&command) {
            known.extend(from_command(command)?);
        }
        if let Some(name) = &given.password_env {
            known.push(from_variable(name)?);
        }
        if let Some(fd) = given.password_fd {
            known.extend(from_descriptor(fd)?);
        }
        let may_prompt = !given.no_prompt && io::stderr().is_terminal();
        Ok(Self { known: Mutex::new(known), may_prompt, prompted: Mutex::new(0) })
    }

    fn prompt(&self, what: &str, wrong: usize) -> Option<Secret> {
        let mut prompted = lock(&self.prompted);
        if !self.may_prompt || *prompted >= PROMPTS {
            return None;
        }
        *prompted += 1;
        let again = if wrong > 0 { "wrong password; " } else { "" };
        let what = super::say::for_terminal(what, true).into_owned();
        // Without a terminal there is nobody to ask.
        let typed = rpassword::prompt_password(format!("{again}password for {what}: ")).ok()?;
        let secret = Secret::new(typed.into_bytes());
        (!secret.expose().is_empty()).then_some(secret)
    }
}

impl Keys for Passwords {
    fn next(&self, what: &str, wrong: usize) -> Option<Secret> {
        if let Some(known) = lock(&self.known).get(wrong) {
            return Some(known.clone());
        }
        // An empty name asks for those that are known already.
        let typed = if what.is_empty() { None } else { self.prompt(what, wrong) }?;
        lock(&self.known).push(typed.clone());
        Some(typed)
    }
}

fn lines(bytes: &[u8]) -> Vec<Secret> {
    let lines = bytes.split(|b| *b == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    lines.filter(|line| !line.is_empty()).map(|line| Secret::new(line.to_vec())).collect()
}

fn read_all(mut from: impl Read, what: &str) -> Result<Vec<Secret>> {
    let mut bytes = Zeroizing::new(Vec::new());
    let failed = |e| Error::io(e, format!("cannot read passwords from {what}"));
    from.by_ref().take(MOST + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > MOST {
        return Err(Error::new(Kind::Usage, format!("{what}: more than {MOST} bytes cannot be passwords")));
    }
    Ok(lines(&bytes))
}

pub(super) fn from_file(path: &Path) -> Result<Vec<Secret>> {
    if path == Path::new("-") {
        return read_all(io::stdin().lock(), "the standard input");
    }
    let what = path.display().to_string();
    let file = File::open(path).map_err(|e| Error::io(e, format!("cannot open the password file {what}")))?;
    read_all(file, &what)
}

/// A password for something new, typed twice.
pub fn new_password() -> Result<Secret> {
    let refused = |e| Error::new(Kind::Usage, "there is no terminal to ask for the new password").caused_by(e);
    let typed = |prompt: &str| rpassword::prompt_password(prompt).map(Zeroizing::new).map_err(refused);
    let first = typed("new password: ").map_err(|e| e.hint("--encrypt=FILE"))?;
    if first.is_empty() {
        return Err(Error::new(Kind::Usage, "an empty password protects nothing"));
    }
    if typed("once more: ")? != first {
        return Err(Error::new(Kind::Usage, "these are two different passwords"));
    }
    Ok(Secret::new(first.as_bytes().to_vec()))
}

fn from_command(command: &str) -> Result<Vec<Secret>> {
    use std::process::{Command, Stdio};
    let failed = |e| Error::io(e, "cannot run the password command");
    let out = Command::new("/bin/sh").arg("-c").arg(command).stderr(Stdio::inherit()).output().map_err(failed)?;
    let printed = Zeroizing::new(out.stdout);
    if !out.status.success() {
        return Err(Error::new(Kind::Usage, format!("the password command failed ({})", out.status)));
    }
    Ok(lines(&printed))
}

fn from_variable(name: &str) -> Result<Secret> {
    use std::os::unix::ffi::OsStringExt;
    let value = std::env::var_os(name);
    let missing = || Error::new(Kind::Usage, format!("there is no variable {name} in the environment"));
    value.map(|value| Secret::new(value.into_vec())).ok_or_else(missing)
}

fn from_descriptor(fd: i32) -> Result<Vec<Secret>> {
    let path = format!("/proc/self/fd/{fd}");
    let file = File::open(&path).map_err(|e| Error::io(e, format!("there is no file descriptor {fd}")))?;
    read_all(file, &format!("file descriptor {fd}"))
}

/// Asks the parent of a daemon, until it is gone. What it said once is known from then on.
pub struct AskParent<F> {
    known: Mutex<Vec<Secret>>,
    channel: Mutex<Option<File>>,
    ask: F,
}

impl<F: Fn(&str, usize) -> io::Result<()> + Send + Sync> AskParent<F> {
    /// With the descriptor that the environment names; `ask` sends a question.
    pub fn new(ask: F) -> Self {
        let fd = std::env::var(CHANNEL).ok().and_then(|fd| fd.parse::<i32>().ok());
        Self { known: Mutex::default(), channel: Mutex::new(fd.and_then(inherited)), ask }
    }

    /// Learns all that the parent knows, and lets go of it.
    pub fn learn_all(&self) {
        let known = lock(&self.known).len();
        (known..).take_while(|wrong| self.next("", *wrong).is_some()).for_each(drop);
        *lock(&self.channel) = None;
    }

    fn heard(&self, what: &str, wrong: usize) -> io::Result<Option<Secret>> {
        let mut channel = lock(&self.channel);
        let Some(file) = channel.as_mut() else { return Ok(None) };
        (self.ask)(what, wrong)?;
        let mut len = [0; 4];
        file.read_exact(&mut len)?;
        let len = u32::from_le_bytes(len);
        if len == NONE || u64::from(len) > MOST {
            return Ok(None);
        }
        let mut bytes = vec![0; len as usize];
        file.read_exact(&mut bytes)?;
        Ok(Some(Secret::new(bytes)))
    }
}

impl<F: Fn(&str, usize) -> io::Result<()> + Send + Sync> Keys for AskParent<F> {
    fn next(&self, what: &str, wrong: usize) -> Option<Secret> {
        if let Some(known) = lock(&self.known).get(wrong) {
            return Some(known.clone());
        }
        let heard = self.heard(what, wrong).ok().flatten()?;
        lock(&self.known).push(heard.clone());
        Some(heard)
    }
}

/// The words of a command line without the password that stands among them.
pub fn without_password(argv: impl Iterator<Item = OsString>, password: Option<&str>) -> Vec<OsString> {
    let Some(password) = password else { return argv.collect() };
    let whole = [format!("-p{password}"), format!("-p={password}")];
    let mut kept: Vec<OsString> = Vec::new();
    for word in argv {
        if word == password && kept.last().is_some_and(|before| before == "-p") {
            kept.pop();
        } else if !whole.iter().any(|whole| word == **whole) {
            kept.push(word);
        }
    }
    kept
}

/// Answers a question of a daemon.
pub fn answer(keys: &dyn Keys, what: &str, wrong: usize, mut to: impl Write) -> io::Result<()> {
    match keys.next(what, wrong) {
        Some(secret) => {
            to.write_all(&(secret.expose().len() as u32).to_le_bytes())?;
            to.write_all(secret.expose())
        }
        None => to.write_all(&NONE.to_le_bytes()),
    }
}

/// A descriptor that the parent left open for this process.
fn inherited(fd: i32) -> Option<File> {
    // It is opened anew by its number, which needs no trust in the number.
    let file = File::open(format!("/proc/self/fd/{fd}")).ok()?;
    Some(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(keys: &dyn Keys, what: &str) -> Vec<String> {
        (0..).map_while(|n| keys.next(what, n)).map(|s| String::from_utf8(s.expose().to_vec()).unwrap()).collect()
    }

    #[test]
    fn every_source_is_asked_and_empty_lines_are_no_passwords() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("keys");
        std::fs::write(&file, "one\n\nzwei \r\n").unwrap();
        let given = Given {
            password_file: vec![file],
            password_command: Some("echo three; echo four".into()),
            password_env: Some("HOME".into()),
            no_prompt: true,
            ..Given::default()
        };
        let found = all(&Passwords::new(&given).unwrap(), "x");
        assert_eq!(found[..4], ["one", "zwei ", "three", "four"]);
        assert_eq!(found[4], std::env::var("HOME").unwrap());
    }

    #[test]
    fn no_daemon_has_the_password_in_its_arguments() {
        for line in ["mount -psecret a m", "mount -p secret a m", "mount -p=secret a m"] {
            let argv = line.split(' ').map(OsString::from);
            assert_eq!(without_password(argv, Some("secret")), ["mount", "a", "m"], "{line}");
        }
        assert_eq!(without_password(["-p", "x"].map(OsString::from).into_iter(), None), ["-p", "x"]);
    }

    #[test]
    fn what_is_not_there_is_said() {
        let kind = |given: Given| Passwords::new(&given).err().unwrap().kind();
        assert_eq!(kind(Given { password_file: vec!["/no/such".into()], ..Given::default() }), Kind::NotFound);
        assert_eq!(kind(Given { password_command: Some("exit 3".into()), ..Given::default() }), Kind::Usage);
        assert_eq!(kind(Given { password_env: Some("NO_SUCH_VARIABLE".into()), ..Given::default() }), Kind::Usage);
        assert_eq!(kind(Given { password_fd: Some(987), ..Given::default() }), Kind::NotFound);
    }
}
