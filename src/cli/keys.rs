//! `key` and `rekey`: who opens a sealed container.
//!
//! ```text
//!   key list                    slots and labels
//!   key add, remove, change     another KEYS record behind all that is there: one commit
//!   rekey                       all of it packed anew under another master key, in place of the old file
//! ```

use super::amend::{amend, refuse_far};
use super::args::{self, Common, KeyVerb, NewWays, Passwords, Signing};
use super::history::{self, Repacking};
use super::sealing::{self, cost, new_passphrase, new_slots};
use super::{examine, exit, plan, say, text_out};
use crate::error::{Error, Kind, Result, Within};
use crate::formats::st::{self, Container, KeySet, Label, NewSlot, Resealing, Seal, SlotInfo};
use crate::formats::{Access, Unwatched, Upkeep};
use crate::key::{Keyfile, Secret};
use crate::open::{self, How};
use crate::remote;
use serde_json::{Value, json};
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub fn key(given: &args::Key) -> Result<u8> {
    match &given.what {
        KeyVerb::List { file, json, passwords } => list(file, passwords, *json)?,
        KeyVerb::Add { file, new, label, signing, passwords } => {
            add(file, new, label.as_deref(), (passwords, signing))?;
        }
        KeyVerb::Remove { file, which, signing, passwords } => remove(file, which, (passwords, signing))?,
        KeyVerb::Change { file, encrypt, signing, passwords } => change(file, encrypt.as_ref(), (passwords, signing))?,
    }
    Ok(exit::OK)
}

fn list(file: &Path, passwords: &Passwords, as_json: bool) -> Result<()> {
    let (how, file) = (plan::how_with(passwords)?, existing(file)?);
    let container = Container::open(open::access(&file, &how)?)?;
    let seal = container.seal().ok_or_else(|| not_sealed(&file))?;
    let used = how.reading.vault.slot(&seal.uid());
    let keys = seal.keys();
    let slots: Vec<_> = keys.slots().into_iter().zip(keys.labels(seal.master())?).collect();
    if as_json {
        let slots: Vec<_> = slots.iter().enumerate().map(|(n, slot)| slot_json(n, slot, used)).collect();
        let value = json!({"v": 1, "ciphers": keys.cipher_names(), "padded": keys.padded(), "slots": slots});
        return text_out(&format!("{value}\n"));
    }
    let lines = slots.iter().zip(1..).map(|((slot, label), n)| {
        format!("{n:>3}  {}  {}  {}\n", say::date(label.added as i64), slot.words, label.text)
    });
    let text = format!("{}\n{}", sealed_with(keys), lines.collect::<String>());
    text_out(&say::for_terminal(&text, io::stdout().is_terminal()))
}

/// `sealed with AES-256-GCM-SIV; lengths are padded`.
fn sealed_with(keys: &KeySet) -> String {
    keys.describe().into_iter().next().unwrap_or_default()
}

fn slot_json(at: usize, (slot, label): &(SlotInfo, Label), used: Option<usize>) -> Value {
    let mut value = examine::slot_json(slot);
    (value["slot"], value["used"]) = ((at + 1).into(), (used == Some(at)).into());
    (value["label"], value["added"]) = (label.text.as_str().into(), label.added.into());
    value
}

/// What opens a container, and what signs its new keys.
type Given<'a> = (&'a Passwords, &'a Signing);

fn add(file: &Path, new: &NewWays, label: Option<&str>, given: Given<'_>) -> Result<()> {
    if !new.is_any() {
        return Err(Error::new(Kind::Usage, "nothing is said of how it is to open as well")
            .hint("--encrypt, --recipient, -R or --new-keyfile"));
    }
    may_ask(new.encrypt.as_ref(), given.0)?;
    change_keys(file, given, |seal, _| {
        let mut slots = new_slots(&new.ways, new.encrypt.as_ref(), cost)?;
        match (label, &mut slots[..]) {
            (Some(label), [(_, text)]) => *text = label.to_owned(),
            (Some(_), _) => return Err(Error::new(Kind::Usage, "--label is for one way at a time")),
            (None, _) => {}
        }
        let mut keys = seal.keys().clone();
        slots.into_iter().try_for_each(|(slot, label)| keys.add(seal.master(), slot, &label))?;
        Ok(keys)
    })
}

fn remove(file: &Path, which: &str, given: Given<'_>) -> Result<()> {
    change_keys(file, given, |seal, _| {
        let mut keys = seal.keys().clone();
        keys.remove(seal.master(), chosen(seal, which)?)?;
        Ok(keys)
    })?;
    say::notice("stmount: who has kept a copy still opens it with that; `stmount rekey` shuts out for good");
    Ok(())
}

/// The slot that a person names, by its number or by its label.
fn chosen(seal: &Seal, which: &str) -> Result<usize> {
    let labels = seal.keys().labels(seal.master())?;
    let number = which.parse::<usize>().ok().and_then(|n| n.checked_sub(1)).filter(|at| *at < labels.len());
    if let Some(at) = number {
        return Ok(at);
    }
    let mut called = labels.iter().enumerate().filter(|(_, label)| label.text == which);
    match (called.next(), called.next()) {
        (Some((at, _)), None) => Ok(at),
        (Some(_), Some(_)) => {
            Err(Error::new(Kind::Usage, format!("several are called {which:?}")).hint("its number in stmount key list"))
        }
        (None, _) => Err(Error::new(Kind::NotFound, format!("no key is called {which:?}, or has this number"))
            .hint("stmount key list, which shows both")),
    }
}

fn change(file: &Path, encrypt: Option<&Option<PathBuf>>, given: Given<'_>) -> Result<()> {
    let asked = Some(encrypt.unwrap_or(&None));
    may_ask(asked, given.0)?;
    change_keys(file, given, |seal, how| {
        let at = how.reading.vault.slot(&seal.uid());
        let old = at.and_then(|at| seal.keys().slots().into_iter().nth(at)).filter(|slot| slot.cost.is_some());
        let (Some(at), Some(old)) = (at, old) else {
            return Err(Error::new(
                Kind::Usage,
                "it was opened with a key, and not with the passphrase that is to change",
            )
            .hint("open it with that alone, or: stmount key add, and stmount key remove"));
        };
        let label = seal.keys().labels(seal.master())?.swap_remove(at).text;
        let with = if old.kind == "passphrase" { None } else { Some(one_keyfile(how)?) };
        let slot = slot_of(new_passphrase(asked.and_then(Option::as_deref))?, with)?;
        let mut keys = seal.keys().clone();
        keys.add(seal.master(), slot, &label)?;
        keys.remove(seal.master(), at)?;
        Ok(keys)
    })?;
    say::notice(
        "stmount: who knew the old one and has kept a copy still opens that; `stmount rekey` shuts out for good",
    );
    Ok(())
}

/// The keyfile that belongs to a passphrase.
fn one_keyfile(how: &How) -> Result<Keyfile> {
    match how.reading.keys.keyfiles() {
        [one] => Ok(one.clone()),
        _ => Err(Error::new(Kind::Usage, "its keyfile stays: give that one and no other").hint("--keyfile FILE")),
    }
}

fn slot_of(passphrase: Secret, keyfile: Option<Keyfile>) -> Result<NewSlot> {
    let cost = cost()?;
    Ok(match keyfile {
        Some(keyfile) => NewSlot::PassphraseAndKeyfile { passphrase, keyfile, cost },
        None => NewSlot::Passphrase { passphrase, cost },
    })
}

/// Opens a container to change its keys.
fn change_keys(file: &Path, given: Given<'_>, mut change: impl FnMut(&Seal, &How) -> Result<KeySet>) -> Result<()> {
    let (how, file) = (plan::how_to_write(given.0, given.1, Arc::new(Unwatched))?, existing(file)?);
    amend(&file, &how, |access| st::change_keys(access, &mut |seal| change(seal, &how)))
}

/// The container with its full path.
fn existing(file: &Path) -> Result<PathBuf> {
    let whole = super::amend::existing(file)?;
    if remote::is_address(&whole).is_some() || open::is_container(&whole) {
        return Ok(whole);
    }
    Err(Error::new(Kind::Usage, format!("{} is no .st container, and has no keys of its own", file.display()))
        .hint("stmount convert --encrypt FILE NEW.st"))
}

fn not_sealed(file: &Path) -> Error {
    Error::new(Kind::Usage, format!("{} is not sealed, and has no keys", file.display()))
        .hint("stmount rekey --encrypt FILE, which seals it")
}

/// Refuses to wait for a passphrase that nobody may be asked for.
fn may_ask(encrypt: sealing::Encrypt<'_>, passwords: &Passwords) -> Result<()> {
    if passwords.no_prompt && encrypt.is_some_and(Option::is_none) {
        return Err(Error::new(Kind::Usage, "a new passphrase has to be asked for, and --no-prompt forbids it")
            .hint("--encrypt=FILE"));
    }
    Ok(())
}

impl NewWays {
    fn is_any(&self) -> bool {
        self.encrypt.is_some() || self.ways.is_any()
    }
}

pub fn rekey(given: &args::Rekey, common: &Common) -> Result<u8> {
    refuse_far(&given.file, "rekey")?;
    let source = existing(&given.file)?;
    // Without any way it is a passphrase, which is asked for.
    let encrypt = if given.new.is_any() { given.new.encrypt.as_ref() } else { Some(&None) };
    if !given.plain {
        may_ask(encrypt, &given.passwords)?;
    }
    let how = plan::how_to_write(&given.passwords, &given.signing, Arc::new(Unwatched))?;
    let code = amend(&source, &how, |access| {
        let before = Container::open(access.clone())?.seal().cloned();
        let resealing = match (given.plain, before) {
            (true, None) => return Err(not_sealed(&given.file)),
            (true, Some(_)) => Resealing::Plain,
            (false, before) => {
                Resealing::With(seal(given, encrypt, before.as_deref()).within(|| given.file.display())?)
            }
        };
        // Nothing is lost by it but who had a key.
        let access = Access { upkeep: Upkeep { last: u32::MAX, ..Upkeep::default() }, ..access };
        let repacking = Repacking { verb: "rekey", level: given.level.number(), resealing };
        let code = history::repack(&source, &access, &repacking, common)?;
        if let (exit::OK, Resealing::With(seal)) = (code, &repacking.resealing) {
            how.reading.vault.keep(seal.uid(), seal.master(), None);
        }
        Ok(code)
    })?;
    if code == exit::OK {
        say::notice("stmount: the old data may still be on the disk, and in backups: this does not reach them");
    }
    Ok(code)
}

fn seal(given: &args::Rekey, encrypt: sealing::Encrypt<'_>, before: Option<&Seal>) -> Result<Arc<Seal>> {
    let ways = new_slots(&given.new.ways, encrypt, cost)?;
    let old = before.map(Seal::keys);
    let ciphers = match (given.cipher, old) {
        (None, Some(old)) => old.ciphers().to_vec(),
        (cipher, _) => cipher.unwrap_or_default().ids().to_vec(),
    };
    let padded = given.pad || old.is_some_and(KeySet::padded);
    let seal = match before {
        Some(before) => before.again(&ciphers, padded, ways),
        None => Seal::fresh(&ciphers, padded, ways),
    };
    seal.map(Arc::new)
}
