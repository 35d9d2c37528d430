//! The keys that are trusted, in a file for people: `trusted_keys`.
//!
//! ```text
//!  # a comment
//!  stpub1…  Anna's backups                          pinned: trusted wherever it signs
//!  ssh-ed25519 AAAA…  work                          the same, as ssh writes it
//!  @first 0123456789abcdef0123456789abcdef stpub1… 2026-11-23
//!                                                   the key that signed this container when it was first seen
//! ```
//!
//! It is written as a whole, under the lock of `trusted_keys.lock`; lines that are not understood are not written over.

use super::places;
use crate::error::{Error, Kind, Result, Within};
use crate::key::sign::{PublicKey, hex, unhex};
use std::collections::{HashMap, HashSet};
use std::path::Path;

/// The name of the file.
pub const NAME: &str = "trusted_keys";

/// Bytes of the file; keys that are pinned; containers of which the first key is remembered, the newest.
const LEN: u64 = 4 << 20;
const PINS: usize = 10_000;
const FIRST_USES: usize = 10_000;
/// Bytes of a name.
const NAME_LEN: usize = 200;

const FIRST: &str = "@first";

const HEAD: &str =
    "# Keys that stmount trusts: KEY NAME, wherever it signs; @first CONTAINER KEY DATE, for that container.\n";

/// A key that is trusted wherever it signs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pinned {
    pub key: PublicKey,
    /// May be empty.
    pub name: String,
}

/// The key that signed a container when it was first seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FirstUse {
    pub uid: [u8; 16],
    pub key: PublicKey,
    pub date: String,
}

#[derive(Clone, Debug)]
enum Line {
    Comment(String),
    Pinned(Pinned),
    First(FirstUse),
}

/// What is trusted.
#[derive(Clone, Debug, Default)]
pub struct Store {
    lines: Vec<Line>,
    pinned: HashSet<PublicKey>,
    first: HashMap<[u8; 16], PublicKey>,
}

/// What was taken out of a store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    pub keys: usize,
    pub containers: usize,
}

impl Store {
    /// Reads the file of a directory for settings; one that is not there trusts nobody.
    ///
    /// # Errors
    /// `Invalid` when it is damaged, too long, or others may write to it.
    pub fn load(dir: &Path) -> Result<Self> {
        let path = dir.join(NAME);
        let Some(bytes) = places::read(&path, LEN)? else { return Ok(Self::default()) };
        let text = String::from_utf8(bytes).map_err(|_| Error::new(Kind::Invalid, "it is no text"));
        text.and_then(|text| Self::parse(&text)).within(|| path.display())
    }

    /// Changes the file, while nobody else does. Nothing is written when `change` fails or changes nothing.
    pub fn change<T>(dir: &Path, change: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        places::make(dir)?;
        let _lock = places::lock(&dir.join(format!("{NAME}.lock")))?;
        let mut store = Self::load(dir)?;
        let before = store.text();
        let done = change(&mut store)?;
        let after = store.text();
        if after.len() as u64 > LEN {
            return Err(Error::new(Kind::Limit, format!("{} would be too long", dir.join(NAME).display())));
        }
        if after != before {
            places::write(&dir.join(NAME), after.as_bytes())?;
        }
        Ok(done)
    }

    pub fn parse(text: &str) -> Result<Self> {
        let mut store = Self::default();
        for (number, line) in text.lines().enumerate() {
            store.take(line).within(|| format!("line {}", number + 1))?;
        }
        Ok(store)
    }

    fn take(&mut self, line: &str) -> Result<()> {
        let trimmed = line.trim();
        if trimmed.is_empty() || trimmed.starts_with('#') {
            self.lines.push(Line::Comment(line.to_owned()));
            return Ok(());
        }
        if trimmed.starts_with('@') {
            let first = first_use(trimmed)?;
            let is_new = self.first.insert(first.uid, first.key).is_none();
            self.lines.push(Line::First(first));
            return if is_new { Ok(()) } else { Err(Error::new(Kind::Invalid, "the container has two keys")) };
        }
        let pinned = pinned(trimmed)?;
        self.pinned.insert(pinned.key);
        self.lines.push(Line::Pinned(pinned));
        if self.pinned.len() > PINS { Err(Error::new(Kind::Limit, "these are too many keys")) } else { Ok(()) }
    }

    /// The file.
    pub fn text(&self) -> String {
        let mut text = String::new();
        if !self.lines.is_empty() && !self.lines.iter().any(|line| matches!(line, Line::Comment(_))) {
            text.push_str(HEAD);
        }
        for line in &self.lines {
            match line {
                Line::Comment(comment) => text.push_str(comment),
                Line::Pinned(Pinned { key, name }) => text.push_str(format!("{key}  {name}").trim_end()),
                Line::First(FirstUse { uid, key, date }) => {
                    text.push_str(&format!("{FIRST} {} {key} {date}", hex(uid)))
                }
            }
            text.push('\n');
        }
        text
    }

    pub fn pinned(&self) -> impl Iterator<Item = &Pinned> {
        self.lines.iter().filter_map(|line| if let Line::Pinned(pinned) = line { Some(pinned) } else { None })
    }

    pub fn first_uses(&self) -> impl Iterator<Item = &FirstUse> {
        self.lines.iter().filter_map(|line| if let Line::First(first) = line { Some(first) } else { None })
    }

    pub fn is_pinned(&self, key: &PublicKey) -> bool {
        self.pinned.contains(key)
    }

    /// The key that signed a container when it was first seen.
    pub fn first(&self, uid: &[u8; 16]) -> Option<PublicKey> {
        self.first.get(uid).copied()
    }

    /// A key as people are told of it: with its name, when it has one.
    pub fn called(&self, key: &PublicKey) -> String {
        match self.pinned().find(|pinned| pinned.key == *key && !pinned.name.is_empty()) {
            Some(pinned) => format!("{} ({key})", pinned.name),
            None => key.to_string(),
        }
    }

    /// Trusts a key wherever it signs, under a name. False when that is so already.
    ///
    /// # Errors
    /// `Invalid` when it cannot be a name, `Exists` when another key has it.
    pub fn pin(&mut self, key: PublicKey, name: &str) -> Result<bool> {
        let name = checked_name(name)?;
        if self.pinned().any(|other| other.name == name && other.key != key && !name.is_empty()) {
            return Err(Error::new(Kind::Exists, format!("another key has the name {name:?}")).hint("another name"));
        }
        if self.pinned().any(|known| known.key == key && (known.name == name || name.is_empty())) {
            return Ok(false);
        }
        self.lines.retain(|line| !matches!(line, Line::Pinned(known) if known.key == key));
        if self.pinned.len() >= PINS && !self.pinned.contains(&key) {
            return Err(Error::new(Kind::Limit, "these are too many keys"));
        }
        self.pinned.insert(key);
        self.lines.push(Line::Pinned(Pinned { key, name: name.to_owned() }));
        Ok(true)
    }

    /// Trusts a key no longer, nowhere: not for the containers either that it signed when they were first seen.
    ///
    /// # Errors
    /// `NotFound` when there is no such key or name.
    pub fn remove(&mut self, which: &str) -> Result<Removed> {
        let keys: HashSet<_> = self.pinned().map(|pinned| pinned.key).chain(self.first.values().copied()).collect();
        let named = |key: &PublicKey| self.pinned().any(|pinned| pinned.key == *key && pinned.name == which.trim());
        let key = which.parse().ok().filter(|key| keys.contains(key));
        let key = key.or_else(|| keys.iter().copied().find(|key| named(key) || key.fingerprint() == which));
        let missing = || Error::new(Kind::NotFound, format!("no key {which:?} is trusted")).hint("stmount trust list");
        let key = key.filter(|_| !which.trim().is_empty()).ok_or_else(missing)?;
        let removed = Removed {
            keys: self.pinned().filter(|pinned| pinned.key == key).count(),
            containers: self.first_uses().filter(|first| first.key == key).count(),
        };
        self.keep(|line| !matches!(line, Line::Pinned(Pinned { key: it, .. }) | Line::First(FirstUse { key: it, .. }) if *it == key));
        Ok(removed)
    }

    /// Remembers who signed a container, in place of whoever was remembered. Of too many the oldest go.
    pub fn remember(&mut self, uid: [u8; 16], key: PublicKey, date: &str) {
        self.forget(&uid);
        let mut surplus = (self.first.len() + 1).saturating_sub(FIRST_USES);
        self.keep(|line| {
            let goes = surplus > 0 && matches!(line, Line::First(_));
            surplus -= usize::from(goes);
            !goes
        });
        self.first.insert(uid, key);
        self.lines.push(Line::First(FirstUse { uid, key, date: date.to_owned() }));
    }

    /// Forgets who signed a container. False when nobody was remembered.
    pub fn forget(&mut self, uid: &[u8; 16]) -> bool {
        let known = self.first.contains_key(uid);
        if known {
            self.keep(|line| !matches!(line, Line::First(first) if first.uid == *uid));
        }
        known
    }

    fn keep(&mut self, stays: impl FnMut(&Line) -> bool) {
        self.lines.retain(stays);
        self.pinned = self.pinned().map(|pinned| pinned.key).collect();
        self.first = self.first_uses().map(|first| (first.uid, first.key)).collect();
    }
}

fn first_use(line: &str) -> Result<FirstUse> {
    let words: Vec<_> = line.split_whitespace().collect();
    let &[FIRST, uid, key, date] = words.as_slice() else {
        return Err(Error::new(Kind::Invalid, "it is not @first CONTAINER KEY DATE"));
    };
    let uid = unhex(uid).ok_or_else(|| Error::new(Kind::Invalid, "the container is not 32 hexadecimal digits"))?;
    Ok(FirstUse { uid, key: key.parse()?, date: date.chars().take(32).collect() })
}

fn pinned(line: &str) -> Result<Pinned> {
    let words = if line.starts_with("ssh-") { 2 } else { 1 };
    let end =
        line.split_whitespace().nth(words - 1).map(|word| word.as_ptr() as usize - line.as_ptr() as usize + word.len());
    let (key, name) = line.split_at(end.unwrap_or(line.len()));
    Ok(Pinned { key: key.parse()?, name: checked_name(name)?.to_owned() })
}

/// A name that is one line, and nothing that could be meant for a key.
fn checked_name(name: &str) -> Result<&str> {
    let name = name.trim();
    let is_key = name.starts_with('@') || name.parse::<PublicKey>().is_ok() || unhex::<10>(name).is_some();
    let is_wrong = is_key || name.len() > NAME_LEN || name.chars().any(char::is_control);
    let wrong = || Error::new(Kind::Invalid, format!("{name:?} cannot be the name of a key"));
    if is_wrong { Err(wrong().hint("a few words, up to 200 bytes")) } else { Ok(name) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::sign::SigningKey;

    fn key(number: u8) -> PublicKey {
        SigningKey::from_seed(&[number; 32]).public()
    }

    const SSH: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHXjvkRVG5gNemgsdLmANlq35uK195Mv7E4XFSEYnWhW";

    #[test]
    fn what_people_wrote_stays_and_is_understood() {
        let (one, two) = (key(1), key(2));
        let text = format!(
            "# mine\n\n{one}  Anna's  backups\n{SSH} work\n{two}\n@first {} {two} 2026-11-23\n",
            "0a".repeat(16)
        );
        let store = Store::parse(&text).unwrap();
        assert_eq!(store.text(), text.replace(SSH, &format!("{} ", SSH.parse::<PublicKey>().unwrap())));
        let names: Vec<_> = store.pinned().map(|pinned| pinned.name.as_str()).collect();
        assert_eq!(names, ["Anna's  backups", "work", ""]);
        assert_eq!((store.first(&[10; 16]), store.first(&[11; 16])), (Some(two), None));
        assert_eq!((store.called(&one), store.called(&two)), (format!("Anna's  backups ({one})"), two.to_string()));
        assert!(store.is_pinned(&one) && store.is_pinned(&SSH.parse().unwrap()) && !store.is_pinned(&key(3)));
    }

    #[test]
    fn a_damaged_line_is_named_and_nothing_is_written_over() {
        let (dir, uid) = (tempfile::tempdir().unwrap(), "0a".repeat(16));
        let first = format!("@first {uid} {} 2026-11-23", key(1));
        for wrong in [
            "nonsense",
            "stpub1xyz",
            "@later 1",
            "@first 0a",
            &format!("{first}\n{first}"),
            &format!("{} \u{1b}[0m", key(1)),
        ] {
            let text = format!("# mine\n{wrong}\n");
            assert_eq!(Store::parse(&text).unwrap_err().kind(), Kind::Invalid, "{wrong}");
            places::write(&dir.path().join(NAME), text.as_bytes()).unwrap();
            assert!(Store::change(dir.path(), |store| store.pin(key(2), "two")).is_err());
            assert_eq!(std::fs::read_to_string(dir.path().join(NAME)).unwrap(), text);
        }
        places::write(&dir.path().join(NAME), b"\xff").unwrap();
        let e = Store::load(dir.path()).unwrap_err();
        assert!(e.kind() == Kind::Invalid && e.to_string().contains(NAME), "{e}");
    }

    #[test]
    fn keys_are_pinned_named_anew_and_removed() {
        let (dir, one, two) = (tempfile::tempdir().unwrap(), key(1), key(2));
        let change = |change: &dyn Fn(&mut Store) -> Result<bool>| Store::change(&dir.path().join("new"), change);
        assert!(change(&|store| store.pin(one, "one")).unwrap());
        assert!(!change(&|store| store.pin(one, "one")).unwrap());
        assert!(!change(&|store| store.pin(one, "")).unwrap());
        assert_eq!(change(&|store| store.pin(two, "one")).unwrap_err().kind(), Kind::Exists);
        assert!(change(&|store| store.pin(one, "first")).unwrap());
        assert!(change(&|store| store.pin(two, "")).unwrap());
        for wrong in ["a\nb", "@first", &one.to_string(), SSH, &one.fingerprint(), &"x".repeat(201)] {
            assert_eq!(change(&|store| store.pin(one, wrong)).unwrap_err().kind(), Kind::Invalid, "{wrong}");
        }
        let text = std::fs::read_to_string(dir.path().join("new").join(NAME)).unwrap();
        assert_eq!(text, format!("{HEAD}{one}  first\n{two}\n"));
        let mut store = Store::parse(&text).unwrap();
        store.remember([1; 16], one, "2026-11-23");
        store.remember([2; 16], two, "2026-11-23");
        for missing in ["second", "", &key(3).to_string()] {
            assert_eq!(store.remove(missing).unwrap_err().kind(), Kind::NotFound);
        }
        assert_eq!(store.remove("first").unwrap(), Removed { keys: 1, containers: 1 });
        assert_eq!(store.remove(&two.fingerprint()).unwrap(), Removed { keys: 1, containers: 1 });
        assert_eq!(store.text(), HEAD);
    }

    #[test]
    fn the_oldest_containers_are_forgotten_when_there_are_too_many() {
        let mut store = Store::default();
        for number in 0..FIRST_USES as u32 {
            let mut uid = [0; 16];
            uid[..4].copy_from_slice(&number.to_le_bytes());
            store.first.insert(uid, key(1));
            store.lines.push(Line::First(FirstUse { uid, key: key(1), date: "d".into() }));
        }
        store.pin(key(2), "two").unwrap();
        store.remember([0xff; 16], key(1), "d");
        assert_eq!((store.first_uses().count(), store.first(&[0; 16])), (FIRST_USES, None));
        assert!(store.first(&[0xff; 16]).is_some() && store.is_pinned(&key(2)));
        store.remember([0xff; 16], key(2), "d");
        assert_eq!((store.first_uses().count(), store.first(&[0xff; 16])), (FIRST_USES, Some(key(2))));
        assert!(store.forget(&[0xff; 16]) && !store.forget(&[0xff; 16]));
    }

    #[test]
    fn several_at_once_lose_nothing() {
        let dir = tempfile::tempdir().unwrap();
        std::thread::scope(|scope| {
            for number in 0..8u8 {
                let dir = dir.path();
                scope.spawn(move || {
                    Store::change(dir, |store| {
                        store.remember([number; 16], key(1), "2026-11-23");
                        Ok(())
                    })
                    .unwrap();
                });
            }
        });
        assert_eq!(Store::load(dir.path()).unwrap().first_uses().count(), 8);
    }
}
