//! Passwords: from files, a command, the environment, and somebody at the terminal. Identities and keyfiles: from files.
//!
//! A daemon has no terminal. It asks its parent, which has one until the mount is ready:
//!
//! ```text
//!   daemon   {"state":"ask","what":"a.zip","wrong":1}    one line on its stdout            parent
//!            ◄── length (4 bytes), password               through a pipe of their own       asks, answers
//!                length 2^32 - 1: there is no further one
//!            {"state":"keys"}                             the same way                     has read the files
//!            ◄── number (4 bytes), identities of 33 bytes, number, keyfiles of 32 bytes
//! ```
//!
//! So no password is ever in an argument of the daemon, in its environment, or in a file that it leaves; and a key may come
//! from a pipe, which can be read once only.

use super::args::Passwords as Given;
use super::keyring;
use crate::error::{Error, Kind, Result, Within};
use crate::key::{Identity, Keyfile, Keys, Secret, guard, parse_identities};
use crate::pool::lock;
use std::collections::HashSet;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, IsTerminal, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock};
use zeroize::Zeroizing;

/// How often a person is asked for one thing.
const PROMPTS: usize = 3;

/// Bytes that a file of passwords may have.
const MOST: u64 = 1 << 20;

/// Tells a daemon through which descriptor its passwords come.
pub const CHANNEL: &str = "STMOUNT_PASSWORDS_FD";

const NONE: u32 = u32::MAX;

/// Identities, or keyfiles, that may be given at once.
const KEYS: usize = 4096;

/// Everybody who knows passwords, as the command line names them.
pub struct Passwords {
    known: Mutex<Vec<Secret>>,
    identities: Vec<Identity>,
    keyfiles: Vec<Keyfile>,
    may_prompt: bool,
    prompted: Mutex<usize>,
    /// What the keyring was asked for, where it is asked at all.
    keyring: Option<Mutex<HashSet<String>>>,
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
        let file = var("STMOUNT_IDENTITY").map(PathBuf::from);
        let identities = identities(&[&given.identity[..], file.as_slice()].concat())?;
        let keyfiles = given.keyfile.iter().map(|file| keyfile(file)).collect::<Result<Vec<_>>>()?;
        within("identities", identities.len())?;
        within("keyfiles", keyfiles.len())?;
        if !(known.is_empty() && identities.is_empty() && keyfiles.is_empty()) {
            guard::no_core_dumps();
        }
        let may_prompt = !given.no_prompt && io::stderr().is_terminal();
        let is_asked = given.keyring || var("STMOUNT_KEYRING").is_some_and(|value| value != "0");
        let (keyring, prompted) = (is_asked.then(Mutex::default), Mutex::new(0));
        Ok(Self { known: Mutex::new(known), identities, keyfiles, may_prompt, prompted, keyring })
    }

    /// What the keyring has; it is asked once for each thing.
    fn stored(&self, what: &str) -> Option<Secret> {
        let is_new = lock(self.keyring.as_ref()?).insert(what.to_owned());
        if is_new { keyring::lookup(what) } else { None }
    }

    fn prompt(&self, what: &str, wrong: usize) -> Option<Secret> {
        let mut prompted = lock(&self.prompted);
        if !self.may_prompt || *prompted >= PROMPTS {
            return None;
        }
        *prompted += 1;
        guard::no_core_dumps();
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
        if what.is_empty() {
            return None;
        }
        let typed = self.stored(what).or_else(|| self.prompt(what, wrong))?;
        lock(&self.known).push(typed.clone());
        Some(typed)
    }

    fn keyfiles(&self) -> &[Keyfile] {
        &self.keyfiles
    }

    fn identities(&self) -> &[Identity] {
        &self.identities
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
    guard::no_core_dumps();
    let file = File::open(path).map_err(|e| Error::io(e, format!("cannot open the password file {what}")))?;
    read_all(file, &what)
}

/// All identities of these files.
fn identities(files: &[PathBuf]) -> Result<Vec<Identity>> {
    let mut found = Vec::new();
    for file in files {
        let bytes = contents(file, "the identity").within(|| file.display())?;
        found.extend(parse_identities(&bytes).within(|| file.display())?);
    }
    Ok(found)
}

/// A small file, or the standard input, that may be secret.
pub(super) fn contents(path: &Path, what: &str) -> Result<Zeroizing<Vec<u8>>> {
    let failed = |e| Error::io(e, format!("cannot read {what}"));
    // With room for all there may be: growing would leave copies behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(MOST as usize + 64));
    let from: Box<dyn Read> = match path == Path::new("-") {
        true => Box::new(io::stdin().lock()),
        false => Box::new(File::open(path).map_err(failed)?),
    };
    from.take(MOST + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > MOST {
        return Err(Error::new(Kind::Usage, format!("more than {MOST} bytes cannot be {what}")));
    }
    Ok(bytes)
}

/// What a keyfile says.
pub(super) fn keyfile(path: &Path) -> Result<Keyfile> {
    let read = match path == Path::new("-") {
        true => Keyfile::read(io::stdin().lock()),
        false => File::open(path).map_err(|e| Error::io(e, "cannot open the keyfile")).and_then(Keyfile::read),
    };
    read.within(|| path.display())
}

fn within(what: &str, number: usize) -> Result<()> {
    if number <= KEYS {
        return Ok(());
    }
    Err(Error::new(Kind::Usage, format!("{number} {what} are too many: {KEYS} can be given")))
}

/// A password for something new, typed twice.
pub fn new_password() -> Result<Secret> {
    let refused = |e| Error::new(Kind::Usage, "there is no terminal to ask for the new password").caused_by(e);
    let typed = |prompt: &str| rpassword::prompt_password(prompt).map(Zeroizing::new).map_err(refused);
    guard::no_core_dumps();
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

/// What a daemon asks its parent.
pub enum Question<'a> {
    Password { what: &'a str, wrong: usize },
    Keys,
}

/// Identities and keyfiles, as the parent has read them.
type Files = (Vec<Identity>, Vec<Keyfile>);

/// Asks the parent of a daemon, until it is gone. What it said once is known from then on.
pub struct AskParent<F> {
    known: Mutex<Vec<Secret>>,
    files: OnceLock<Files>,
    channel: Mutex<Option<File>>,
    ask: F,
}

impl<F: Fn(Question<'_>) -> io::Result<()> + Send + Sync> AskParent<F> {
    /// With the descriptor that the environment names; `ask` sends a question.
    pub fn new(ask: F) -> Self {
        let fd = std::env::var(CHANNEL).ok().and_then(|fd| fd.parse::<i32>().ok());
        Self::by(fd.and_then(inherited), ask)
    }

    fn by(channel: Option<File>, ask: F) -> Self {
        Self { known: Mutex::default(), files: OnceLock::new(), channel: Mutex::new(channel), ask }
    }

    /// Learns all that the parent knows, and lets go of it.
    pub fn learn_all(&self) {
        let known = lock(&self.known).len();
        (known..).take_while(|wrong| self.next("", *wrong).is_some()).for_each(drop);
        self.files();
        *lock(&self.channel) = None;
    }

    fn heard(&self, what: &str, wrong: usize) -> io::Result<Option<Secret>> {
        let mut channel = lock(&self.channel);
        let Some(file) = channel.as_mut() else { return Ok(None) };
        (self.ask)(Question::Password { what, wrong })?;
        let len = number(file)?;
        if len == NONE || u64::from(len) > MOST {
            return Ok(None);
        }
        guard::no_core_dumps();
        let mut bytes = Zeroizing::new(vec![0; len as usize]);
        file.read_exact(&mut bytes)?;
        Ok(Some(Secret::new(std::mem::take(&mut *bytes))))
    }

    fn files(&self) -> &Files {
        self.files.get_or_init(|| self.heard_files().unwrap_or_default())
    }

    fn heard_files(&self) -> io::Result<Files> {
        let mut channel = lock(&self.channel);
        let Some(file) = channel.as_mut() else { return Ok(Files::default()) };
        (self.ask)(Question::Keys)?;
        let identities = several(file)?.iter().filter_map(|bytes| Identity::carried(bytes)).collect::<Vec<_>>();
        let keyfiles = several(file)?.into_iter().map(Keyfile::of_digest).collect::<Vec<_>>();
        if !(identities.is_empty() && keyfiles.is_empty()) {
            guard::no_core_dumps();
        }
        Ok((identities, keyfiles))
    }
}

impl<F: Fn(Question<'_>) -> io::Result<()> + Send + Sync> Keys for AskParent<F> {
    fn next(&self, what: &str, wrong: usize) -> Option<Secret> {
        if let Some(known) = lock(&self.known).get(wrong) {
            return Some(known.clone());
        }
        let heard = self.heard(what, wrong).ok().flatten()?;
        lock(&self.known).push(heard.clone());
        Some(heard)
    }

    fn keyfiles(&self) -> &[Keyfile] {
        &self.files().1
    }

    fn identities(&self) -> &[Identity] {
        &self.files().0
    }
}

fn number(from: &mut impl Read) -> io::Result<u32> {
    let mut bytes = [0; 4];
    from.read_exact(&mut bytes)?;
    Ok(u32::from_le_bytes(bytes))
}

/// A number, and so many secrets of one length.
fn several<const N: usize>(from: &mut impl Read) -> io::Result<Vec<Zeroizing<[u8; N]>>> {
    let one = |from: &mut _| {
        let mut bytes = Zeroizing::new([0; N]);
        Read::read_exact(from, &mut *bytes).map(|()| bytes)
    };
    let many = usize::try_from(number(from)?).unwrap_or(KEYS).min(KEYS);
    (0..many).map(|_| one(from)).collect()
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

/// Answers a daemon that wants the identities and the keyfiles.
pub fn answer_keys(keys: &dyn Keys, mut to: impl Write) -> io::Result<()> {
    let (identities, keyfiles) = (keys.identities(), keys.keyfiles());
    to.write_all(&(identities.len() as u32).to_le_bytes())?;
    identities.iter().try_for_each(|identity| to.write_all(&*identity.carry()))?;
    to.write_all(&(keyfiles.len() as u32).to_le_bytes())?;
    keyfiles.iter().try_for_each(|keyfile| to.write_all(keyfile.expose()))
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

    const IDENTITY: &str = "AGE-SECRET-KEY-1GPQ5YS6YG4RYWJZFFF95CN2WFAG9Z5JN2324V46CT9D9KHZATE0S5FAZ64";

    #[test]
    fn keys_are_read_from_their_files_and_a_bad_one_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            std::fs::write(dir.path().join(name), text).unwrap();
            dir.path().join(name)
        };
        let (good, bad) = (file("good", &format!("# me\n{IDENTITY}\n")), file("bad", "nothing"));
        let (key, weak) = (file("key", "sixteen bytes or more"), file("weak", "short"));
        let given = Given { identity: vec![good], keyfile: vec![key], no_prompt: true, ..Given::default() };
        let read = Passwords::new(&given).unwrap();
        assert_eq!((read.identities().len(), read.keyfiles().len()), (1, 1));
        let missing = dir.path().join("missing");
        for given in [
            Given { identity: vec![bad.clone()], ..Given::default() },
            Given { identity: vec![missing.clone()], ..Given::default() },
            Given { keyfile: vec![weak.clone()], ..Given::default() },
            Given { keyfile: vec![missing.clone()], ..Given::default() },
        ] {
            let named = given.identity.iter().chain(&given.keyfile).next().unwrap().display().to_string();
            let said = Passwords::new(&given).err().unwrap().to_string();
            assert!(said.starts_with(&named), "{said}");
        }
    }

    #[test]
    fn a_daemon_hears_the_keys_of_its_parent_once() {
        struct Known(Files);
        impl Keys for Known {
            fn next(&self, _: &str, wrong: usize) -> Option<Secret> {
                (wrong == 0).then(|| Secret::new(b"password".to_vec()))
            }
            fn keyfiles(&self) -> &[Keyfile] {
                &self.0.1
            }
            fn identities(&self) -> &[Identity] {
                &self.0.0
            }
        }
        let keyfile = Keyfile::new(b"sixteen bytes or more").unwrap();
        let parent = Known((parse_identities(IDENTITY.as_bytes()).unwrap(), vec![keyfile]));
        let (from, to) = rustix::pipe::pipe().unwrap();
        let to = File::from(to);
        let asked = Mutex::new(0);
        let daemon = AskParent::by(Some(from.into()), |question: Question<'_>| {
            *lock(&asked) += 1;
            match question {
                Question::Password { what, wrong } => answer(&parent, what, wrong, &to),
                Question::Keys => answer_keys(&parent, &to),
            }
        });
        assert_eq!(*daemon.identities()[0].carry(), *parent.0.0[0].carry());
        daemon.learn_all();
        assert_eq!(daemon.keyfiles()[0].expose(), parent.0.1[0].expose());
        assert_eq!(all(&daemon, "x"), ["password"]);
        assert_eq!((daemon.identities().len(), *lock(&asked)), (1, 3));
    }
}
