//! Whether an opened container is trusted: who signed it, and whether it is older than what was seen of it.
//!
//! ```text
//!                                          high        standard                     low
//!   signed by a key that is pinned         fine        fine                         -
//!   by the key that signed it at first     fine        fine                         -
//!   by any other, and never seen before    refused     told, and remembered         -
//!   by another one than before             refused     told                         -
//!   signed by nobody                       refused     told, if it was signed       -
//!   signed, and the signature is wrong     refused     refused                      -
//!   older than it was, or another branch   refused     told                         -
//! ```
//!
//! At the level `high` an archive of a format that carries no signatures is refused as well; a folder never is.
//!
//! Keys are pinned by `stmount trust add` ([`Store`]). At the level `low` nothing is looked at and nothing is written; else
//! only of a container that is signed or sealed something is remembered.

mod places;
mod seen;
mod signing;
mod store;

pub use places::{config_dir, homeless, state_dir};
pub use seen::{Seen, Standing};
pub use signing::{default_key, read_key, read_public_key, signing, write_default_key, write_key};
pub use store::{FirstUse, NAME, Pinned, Removed, Store};

use crate::error::{Error, Kind, Result, Within};
use crate::formats::{Root, Signer, Volume};
use crate::key::sign::PublicKey;
use crate::tree::Time;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// How much trust is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Level {
    /// Refuse what nobody vouches for who is known.
    High,
    /// Tell, and refuse only what is wrong.
    #[default]
    Standard,
    /// Look at nothing.
    Low,
}

impl FromStr for Level {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "high" => Ok(Self::High),
            "standard" => Ok(Self::Standard),
            "low" => Ok(Self::Low),
            _ => Err(Error::new(Kind::Usage, format!("{text:?} is none of high, standard, low"))),
        }
    }
}

/// What is to be done with what was opened.
#[derive(Debug)]
pub enum Outcome {
    Fine,
    /// Nothing is wrong, and it is worth to be known.
    Note(String),
    /// Something may be wrong.
    Warn(String),
    Refuse(Error),
}

impl Outcome {
    /// The same as something that is refused, where so much trust is asked for.
    fn at(level: Level, what: String, hint: String) -> Self {
        match level {
            Level::High => Self::Refuse(Error::new(Kind::Untrusted, what).hint(hint)),
            Level::Standard => Self::Warn(format!("{what}; {hint}")),
            Level::Low => Self::Fine,
        }
    }
}

/// What comes of looking at a signature.
#[derive(Debug)]
pub struct Verdict {
    pub outcome: Outcome,
    /// The key to be remembered for this container.
    pub remember: Option<PublicKey>,
}

/// Decides about a signature. `name` is what the container is called, for messages.
pub fn decide(level: Level, store: &Store, root: &Root, name: &str) -> Verdict {
    let just = |outcome| Verdict { outcome, remember: None };
    match (level, root.signer) {
        (Level::Low, _) => just(Outcome::Fine),
        (_, Signer::Bad) => just(Outcome::Refuse(
            Error::new(Kind::Untrusted, "its signature is wrong: it was changed without the key, or it is damaged")
                .hint("another copy of it; --trust low opens it all the same"),
        )),
        (_, Signer::None) => just(unsigned(level, store, root, name)),
        (_, Signer::By(key)) => signed(level, store, root, key, name),
    }
}

fn unsigned(level: Level, store: &Store, root: &Root, name: &str) -> Outcome {
    match store.first(&root.uid) {
        Some(before) => {
            let what = format!("it is not signed any more, and was signed by {} before", store.called(&before));
            Outcome::at(level, what, format!("`stmount trust forget {name}`, if that is meant to be so"))
        }
        None if level == Level::High => {
            let hint = "--trust standard, which opens what is not signed".to_owned();
            Outcome::at(level, "it is not signed".to_owned(), hint)
        }
        None => Outcome::Fine,
    }
}

fn signed(level: Level, store: &Store, root: &Root, key: PublicKey, name: &str) -> Verdict {
    let (before, remember) = (store.first(&root.uid), Some(key));
    if before == remember {
        return Verdict { outcome: Outcome::Fine, remember: None };
    }
    if store.is_pinned(&key) {
        // Remembered all the same: it must not lose its signature unnoticed.
        return Verdict { outcome: Outcome::Fine, remember };
    }
    let outcome = match before {
        Some(before) => {
            let what = format!("it is signed by {key}, and was signed by {} before", store.called(&before));
            let hint = format!(
                "`stmount trust forget {name}`, if you know from its owner that this is so, or `stmount trust add` the key"
            );
            return Verdict { outcome: Outcome::at(level, what, hint), remember: None };
        }
        None if level == Level::High => {
            let hint = format!("`stmount trust add {key} NAME`, if you know from its owner that it is that key");
            return Verdict {
                outcome: Outcome::at(level, format!("it is signed by {key}, which is not trusted"), hint),
                remember: None,
            };
        }
        None => Outcome::Note(format!("it is signed by {key}, which was not known; from now on it must be that key")),
    };
    Verdict { outcome, remember }
}

/// Decides about the age of a container.
pub fn decide_age(level: Level, standing: Standing, root: &Root, name: &str) -> Outcome {
    let date = |secs| Time { secs, nanos: 0 }.date();
    let what = match standing {
        Standing::New | Standing::Same | Standing::Newer => return Outcome::Fine,
        Standing::Older { known, secs } => format!(
            "the state {} is older than the state {known} that was seen on {}: it was replaced by an earlier copy, or restored \
             from a backup",
            root.sequence,
            date(secs)
        ),
        Standing::Forked { secs } => format!(
            "the state {} is another one than was seen on {} under this number: two copies of it were changed, each without \
             the other",
            root.sequence,
            date(secs)
        ),
    };
    Outcome::at(level, what, format!("`stmount trust forget {name}`, if you did that"))
}

/// What a person trusts, and how much trust is asked for.
#[derive(Clone, Debug)]
pub struct Trust {
    /// What the environment says, if it says nonsense.
    level: Result<Level, String>,
    config: Option<PathBuf>,
    state: Option<PathBuf>,
}

impl Trust {
    /// Looks at nothing and writes nothing.
    pub fn nobody() -> Self {
        Self { level: Ok(Level::Low), config: None, state: None }
    }

    /// As this user wishes: what was said, else what `STMOUNT_TRUST` says.
    pub fn of_user(level: Option<Level>) -> Self {
        let from_env = || match std::env::var_os("STMOUNT_TRUST").filter(|value| !value.is_empty()) {
            Some(text) => {
                let text = text.to_string_lossy();
                text.parse::<Level>().map_err(|e| format!("STMOUNT_TRUST: {e}"))
            }
            None => Ok(Level::default()),
        };
        Self { level: level.map_or_else(from_env, Ok), config: config_dir(), state: state_dir() }
    }

    /// With these directories.
    pub fn within(level: Level, config: &Path, state: &Path) -> Self {
        Self { level: Ok(level), config: Some(config.to_owned()), state: Some(state.to_owned()) }
    }

    /// Lets an opened volume pass, with what is to be told of it, or refuses it. `name` is what it is called.
    ///
    /// # Errors
    /// As [`Trust::admit`].
    pub fn judge(&self, name: &str, mut volume: Volume) -> Result<Volume> {
        let mut notes = self.admit(name, volume.root)?;
        volume.notes.append(&mut notes);
        Ok(volume)
    }

    /// Lets an archive pass that stands on this, or on nothing that its format knows. What is to be told of it.
    ///
    /// # Errors
    /// `Untrusted` when it is refused; `Usage` when nobody can tell how much trust is asked for.
    pub fn admit(&self, name: &str, root: Option<Root>) -> Result<Vec<String>> {
        let level = self.level.clone().map_err(|what| Error::new(Kind::Usage, what))?;
        let root = match (level, root) {
            (Level::Low, _) | (Level::Standard, None) => return Ok(Vec::new()),
            (Level::High, None) => return Err(no_signatures(name)),
            (_, Some(root)) => root,
        };
        let judging = Judging { trust: self, level, root, name };
        let mut notes = Vec::new();
        let is_doubtful = judging.signature(&mut notes).within(|| name)?;
        judging.age(is_doubtful, &mut notes).within(|| name)?;
        Ok(notes)
    }

    /// Remembers a state that this program has made itself, and the key that it was signed with.
    pub fn made(&self, root: &Root) -> Result<()> {
        if self.looks_at_nothing() || !root.is_vouched_for() {
            return Ok(());
        }
        if let (Signer::By(key), Some(dir)) = (root.signer, &self.config) {
            remember_key(dir, root, key, None)?;
        }
        self.state.as_ref().map_or(Ok(()), |dir| Seen::below(dir).remember(root, Time::now().secs))
    }

    /// Remembers a container that was made in place of one that may have been seen.
    pub fn made_anew(&self, root: &Root) -> Result<()> {
        if let Some(dir) = self.state.as_ref().filter(|_| !self.looks_at_nothing() && root.is_vouched_for()) {
            Seen::below(dir).forget(&root.uid)?;
        }
        self.made(root)
    }

    /// What a key is called: by the name that it has in the store, where it has one.
    pub fn called(&self, key: &PublicKey) -> String {
        let store = self.config.as_deref().and_then(|dir| Store::load(dir).ok());
        store.map_or_else(|| key.to_string(), |store| store.called(key))
    }

    fn looks_at_nothing(&self) -> bool {
        !matches!(self.level, Ok(Level::High | Level::Standard))
    }
}

fn no_signatures(name: &str) -> Error {
    Error::new(Kind::Untrusted, format!("{name}: nobody has signed it: its format carries no signatures"))
        .hint("--trust standard, which opens it; stmount convert --sign makes a .st of it that carries one")
}

/// Remembers who signed a container; where that may only be somebody new, unless it is known `before` to be another one.
fn remember_key(dir: &Path, root: &Root, key: PublicKey, before: Option<Option<PublicKey>>) -> Result<()> {
    if before.is_none() && Store::load(dir)?.first(&root.uid) == Some(key) {
        return Ok(());
    }
    let date = Time::now().date();
    let day = date.split(' ').next().unwrap_or_default();
    Store::change(dir, |store| {
        // Somebody else may have seen it meanwhile, with another key.
        if before.is_none_or(|before| store.first(&root.uid) == before) {
            store.remember(root.uid, key, day);
        }
        Ok(())
    })
}

struct Judging<'a> {
    trust: &'a Trust,
    level: Level,
    root: Root,
    name: &'a str,
}

impl Judging<'_> {
    /// Whether something may be wrong with who signed it.
    fn signature(&self, notes: &mut Vec<String>) -> Result<bool> {
        let Some(dir) = &self.trust.config else {
            return follow(decide(self.level, &Store::default(), &self.root, self.name).outcome, notes);
        };
        let (store, is_whole) = match Store::load(dir) {
            Ok(store) => (store, true),
            Err(e) if self.level == Level::High => return Err(e),
            Err(e) => {
                notes.push(format!("nobody is trusted: {e}"));
                (Store::default(), false)
            }
        };
        let Verdict { outcome, remember } = decide(self.level, &store, &self.root, self.name);
        let is_doubtful = follow(outcome, notes)?;
        let before = store.first(&self.root.uid);
        let remembered = remember.filter(|_| is_whole).map(|key| remember_key(dir, &self.root, key, Some(before)));
        if let Some(Err(e)) = remembered {
            notes.push(format!("who signed it is not remembered: {e}"));
        }
        Ok(is_doubtful || !is_whole)
    }

    fn age(&self, is_doubtful: bool, notes: &mut Vec<String>) -> Result<()> {
        let Some(dir) = self.trust.state.as_ref().filter(|_| self.root.is_vouched_for()) else { return Ok(()) };
        let seen = Seen::below(dir);
        let standing = match seen.check(&self.root) {
            Ok(standing) => standing,
            Err(e) if self.level == Level::High => return Err(e),
            Err(e) => {
                notes.push(format!("whether it is older than it was is not known: {e}"));
                return Ok(());
            }
        };
        follow(decide_age(self.level, standing, &self.root, self.name), notes)?;
        // A number that somebody unknown has signed must not make the true container look old.
        if !is_doubtful && matches!(standing, Standing::New | Standing::Newer) {
            let remembered = seen.remember(&self.root, Time::now().secs);
            remembered.unwrap_or_else(|e| notes.push(format!("that it was seen is not remembered: {e}")));
        }
        Ok(())
    }
}

/// Tells what is to be told. Whether an outcome leaves doubts.
fn follow(outcome: Outcome, notes: &mut Vec<String>) -> Result<bool> {
    let (what, is_doubtful) = match outcome {
        Outcome::Fine => return Ok(false),
        Outcome::Refuse(e) => return Err(e),
        Outcome::Note(what) => (what, false),
        Outcome::Warn(what) => (what, true),
    };
    notes.push(what);
    Ok(is_doubtful)
}

/// Forgets all that is remembered of a container: who signed it first, and which state was seen last. False when that is
/// nothing.
pub fn forget(uid: &[u8; 16]) -> Result<bool> {
    let config = config_dir().filter(|dir| dir.join(NAME).exists());
    let key = config.map_or(Ok(false), |dir| Store::change(&dir, |store| Ok(store.forget(uid))))?;
    let state = state_dir().map_or(Ok(false), |dir| Seen::below(&dir).forget(uid))?;
    Ok(key || state)
}

#[cfg(test)]
mod tests;
