//! `keygen` and `trust`: keys that sign, and keys that are trusted.

use super::args::{self, Common, TrustVerb};
use super::{exit, say, text_out};
use crate::error::{Error, Kind, Result, Within};
use crate::key::sign::{PublicKey, SigningKey, hex, unhex};
use crate::open;
use crate::open::trust::{self, Store};
use crate::tree::Time;
use serde_json::json;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};

pub fn keygen(given: &args::Keygen, common: &Common) -> Result<u8> {
    if given.public {
        let file = given.file.clone().map_or_else(trust::default_key, Ok)?;
        text_out(&format!("{}\n", trust::read_public_key(&file)?))?;
        return Ok(exit::OK);
    }
    let (key, date) = (SigningKey::generate()?, Time::now().date());
    let file = match &given.file {
        Some(file) => trust::write_key(file, &key, &date).map(|()| file.clone())?,
        None => trust::write_default_key(&key, &date)?,
    };
    text_out(&format!("{}\n", key.public()))?;
    say_unless(common.quiet, &format!("{} has the secret key: keep a copy of it where nobody else is", file.display()));
    Ok(exit::OK)
}

pub fn trust(given: &args::Trust, common: &Common) -> Result<u8> {
    match &given.what {
        TrustVerb::Add { key, name } => add(key, &name.join(" "), common)?,
        TrustVerb::List { json } => list(*json)?,
        TrustVerb::Remove { which } => remove(which, common)?,
        TrustVerb::Forget { which } => forget(which, common)?,
    }
    Ok(exit::OK)
}

fn settings() -> Result<PathBuf> {
    trust::config_dir().ok_or_else(trust::homeless)
}

pub(super) fn say_unless(quiet: bool, text: &str) {
    if !quiet {
        say::notice(text);
    }
}

fn add(key: &str, name: &str, common: &Common) -> Result<()> {
    let key = key_of(key)?;
    Store::change(&settings()?, |store| store.pin(key, name))?;
    let name = if name.is_empty() { String::new() } else { format!(" as {name}") };
    say_unless(common.quiet, &format!("{key} is trusted{name}"));
    Ok(())
}

/// A key as it is, or the one in a file.
pub(super) fn key_of(text: &str) -> Result<PublicKey> {
    let file = Path::new(text);
    match text.parse::<PublicKey>() {
        Err(_) if file.exists() => trust::read_public_key(file),
        key => key.within(|| format!("{text:?}")),
    }
}

fn list(as_json: bool) -> Result<()> {
    let store = Store::load(&settings()?)?;
    if as_json {
        let keys: Vec<_> = store
            .pinned()
            .map(|it| json!({"key": it.key.to_string(), "fingerprint": it.key.fingerprint(), "name": it.name}))
            .collect();
        let first: Vec<_> = store
            .first_uses()
            .map(|it| {
                let (key, print) = (it.key.to_string(), it.key.fingerprint());
                json!({"uid": hex(&it.uid), "key": key, "fingerprint": print, "date": it.date})
            })
            .collect();
        return text_out(&format!("{}\n", json!({"v": 1, "keys": keys, "first_use": first})));
    }
    let mut text = String::new();
    for it in store.pinned() {
        text.push_str(format!("{}  {}", it.key, it.name).trim_end());
        text.push('\n');
    }
    for it in store.first_uses() {
        text.push_str(&format!("{}  {}  since {}\n", hex(&it.uid), store.called(&it.key), it.date));
    }
    text_out(&say::for_terminal(&text, std::io::stdout().is_terminal()))
}

fn remove(which: &str, common: &Common) -> Result<()> {
    let removed = Store::change(&settings()?, |store| store.remove(which))?;
    let containers = say::counted(removed.containers as u64, "container", "containers");
    say_unless(common.quiet, &format!("{which} is trusted no longer; {containers} forgotten that it has signed"));
    Ok(())
}

fn forget(which: &Path, common: &Common) -> Result<()> {
    let shown = which.display();
    let digits = which.to_str().and_then(unhex).filter(|_| !which.exists());
    let nothing = || Error::new(Kind::NotFound, format!("{shown}: nothing is remembered of it"));
    let uid = digits.map_or_else(|| open::uid_of(which), |uid| Ok(Some(uid)))?.ok_or_else(nothing)?;
    if !trust::forget(&uid)? {
        return Err(nothing());
    }
    say_unless(common.quiet, &format!("{shown}: who signed it, and which state was seen, is forgotten"));
    Ok(())
}
