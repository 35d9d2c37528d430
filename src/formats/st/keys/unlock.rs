//! From what somebody has or knows to the master key.
//!
//! ```text
//!   identities   every slot for recipients     at once
//!   keyfiles     every slot for a keyfile      at once
//!   passphrases  every slot for one            a second each; asked for only where one could help
//! ```
//!
//! A master key is believed when the MAC over the whole list fits it, not before.

use super::KeySet;
use super::slot::{Lock, Slot};
use crate::error::{Error, Kind, Result};
use crate::key::{Cost, Keys, Master, Secret, WORK_LIMIT, fitting};

impl KeySet {
    /// The master key, by what `keys` knows. `what` names the container to who is asked for a passphrase.
    ///
    /// # Errors
    /// `NeedsPassword`, `WrongPassword`, `MissingKeyfile`, `UnknownRecipient` for what is missing or does not fit;
    /// `Limit` when a guess costs too much; `UnknownCipher` when nothing here is known; `Header` when a key fits and the
    /// list was changed.
    pub fn unlock(&self, keys: &dyn Keys, what: &str) -> Result<Master> {
        self.unlock_slot(keys, what).map(|(master, _)| master)
    }

    /// The same, and which slot gave it.
    pub fn unlock_slot(&self, keys: &dyn Keys, what: &str) -> Result<(Master, usize)> {
        let slots = || self.slots.iter().enumerate();
        let by_identity =
            keys.identities().iter().flat_map(|id| slots().filter_map(|(n, s)| Some((s.open_for(id)?, n))));
        let by_keyfile = keys.keyfiles().iter().flat_map(|k| slots().filter_map(|(n, s)| Some((s.open_by(k)?, n))));
        if let Some(opened) = by_identity.chain(by_keyfile).next() {
            return self.believed(opened);
        }
        let askable = self.askable(keys);
        let opened = match askable.is_empty() {
            true => Err(self.missing(keys)),
            false => self.by_passphrase(&askable, keys, what),
        };
        opened.map_err(|e| if e.advice().is_none() { e.hint(self.accepts()) } else { e })
    }

    fn believed(&self, opened: (Master, usize)) -> Result<(Master, usize)> {
        self.verify(&opened.0)?;
        Ok(opened)
    }

    /// The slots that a passphrase could open now.
    fn askable(&self, keys: &dyn Keys) -> Vec<(usize, &Slot)> {
        let fits = |(_, slot): &(usize, &Slot)| match slot.lock_kind() {
            Some(Lock::Passphrase) => true,
            Some(Lock::Both) => !keys.keyfiles().is_empty(),
            _ => false,
        };
        self.slots.iter().enumerate().filter(fits).collect()
    }

    fn by_passphrase(&self, slots: &[(usize, &Slot)], keys: &dyn Keys, what: &str) -> Result<(Master, usize)> {
        affordable(slots.iter().filter_map(|(_, slot)| slot.cost()))?;
        let open = |passphrase: &Secret| {
            for (n, slot) in slots {
                if let Some(master) = slot.open_with(passphrase, keys.keyfiles())? {
                    return self.believed((master, *n)).map(Some);
                }
            }
            Ok(None)
        };
        fitting(keys, what, open).map_err(|e| self.without_passphrase(e, keys))
    }

    /// What to say when no passphrase fitted: one who brought something else is told about that.
    fn without_passphrase(&self, e: Error, keys: &dyn Keys) -> Error {
        let brought = (!keys.identities().is_empty() && self.recipients() > 0)
            || (!keys.keyfiles().is_empty() && self.count(Lock::Keyfile) > 0);
        match e.kind() {
            Kind::NeedsPassword if brought => self.missing(keys),
            Kind::NeedsPassword => Error::new(Kind::NeedsPassword, e.to_string())
                .hint(format!("--password-file FILE, or a terminal on which it can be asked for; {}", self.accepts())),
            Kind::WrongPassword if self.count(Lock::Passphrase) == 0 => {
                Error::new(Kind::WrongPassword, "the passphrase is wrong, or the keyfile is another one")
            }
            _ => e,
        }
    }

    /// Why it does not open, when no passphrase helps.
    fn missing(&self, keys: &dyn Keys) -> Error {
        let keyfiles = self.count(Lock::Keyfile) + self.count(Lock::Both);
        let (with_keyfile, with_identity) = (!keys.keyfiles().is_empty(), !keys.identities().is_empty());
        let kind = match self.recipients() {
            0 if keyfiles == 0 => Kind::UnknownCipher,
            0 => Kind::MissingKeyfile,
            _ if keyfiles > 0 && !with_identity => Kind::MissingKeyfile,
            _ => Kind::UnknownRecipient,
        };
        let what = match kind {
            Kind::MissingKeyfile if with_keyfile => "it opens with another keyfile",
            Kind::MissingKeyfile => "it opens with a keyfile, and none was given",
            Kind::UnknownRecipient if with_identity => "it is sealed for others: no identity that was given opens it",
            Kind::UnknownRecipient => "it is sealed for recipients, and no identity was given",
            _ => "it opens in ways only that this version does not know",
        };
        let how = match kind {
            Kind::MissingKeyfile => "--keyfile FILE; ",
            Kind::UnknownRecipient => "--identity FILE; ",
            _ => "",
        };
        Error::new(kind, what).hint(format!("{how}{}", self.accepts()))
    }

    fn count(&self, lock: Lock) -> usize {
        self.slots.iter().filter(|slot| slot.lock_kind() == Some(lock)).count()
    }

    fn recipients(&self) -> usize {
        self.count(Lock::X25519) + self.count(Lock::Ssh)
    }

    /// What opens it, for people: `it opens with: a passphrase; one of 2 recipients`.
    pub fn accepts(&self) -> String {
        let known = [
            (self.count(Lock::Passphrase), "a passphrase", "one of N passphrases"),
            (
                self.count(Lock::Both),
                "a passphrase together with a keyfile",
                "one of N passphrases with their keyfiles",
            ),
            (self.count(Lock::Keyfile), "a keyfile", "one of N keyfiles"),
            (self.recipients(), "the identity of a recipient", "the identity of one of N recipients"),
        ];
        let unknown = self.slots.iter().filter(|slot| slot.lock_kind().is_none()).count();
        let unknown = (unknown, "a way that this version does not know", "N ways that this version does not know");
        let said = known.into_iter().chain([unknown]).filter(|(n, ..)| *n > 0);
        let say = |(n, one, many): (usize, &str, &str)| match n {
            1 => one.to_owned(),
            n => many.replace('N', &n.to_string()),
        };
        format!("it opens with: {}", said.map(say).collect::<Vec<_>>().join("; "))
    }
}

/// Refuses, before anybody is asked, what nobody wants to wait for: all these slots are tried with each passphrase.
pub(super) fn affordable(costs: impl Iterator<Item = Cost>) -> Result<()> {
    let mut work = 0;
    for cost in costs {
        cost.check()?;
        work += cost.work();
    }
    if work > WORK_LIMIT {
        let what = format!("a passphrase for it costs {} GiB of memory, counted over its passes", work >> 20);
        return Err(Error::new(Kind::Limit, what).hint(format!("at most {} GiB are paid", WORK_LIMIT >> 20)));
    }
    Ok(())
}
