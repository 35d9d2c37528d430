//! From the words of a command line to the ways in which a new container opens.
//!
//! ```text
//!   --encrypt[=FILE]                      a passphrase
//!   --new-keyfile FILE                    a keyfile
//!   --encrypt[=FILE] --new-keyfile FILE   both together, and neither alone
//!   --recipient R, -R FILE                the identity of each
//! ```

use super::args::{Ciphers, Sealing, Ways};
use super::ask;
use crate::codec::seal::{AES_256_GCM_SIV, XCHACHA20_POLY1305};
use crate::error::{Error, Kind, Result, Within};
use crate::formats::st::{NewSlot, Seal};
use crate::key::{Cost, Keyfile, Recipient, Secret, recipients_of_file};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// What a guess at a passphrase takes on this machine.
pub const GUESS: Duration = Duration::from_secs(1);

/// `--encrypt`, and the file behind it.
pub type Encrypt<'a> = Option<&'a Option<PathBuf>>;

impl Ciphers {
    /// What the container is sealed with, innermost first.
    pub fn ids(self) -> &'static [u16] {
        match self {
            Self::Aes => &[AES_256_GCM_SIV],
            Self::Cascade => &[AES_256_GCM_SIV, XCHACHA20_POLY1305],
        }
    }
}

impl Ways {
    pub fn is_any(&self) -> bool {
        !(self.recipient.is_empty() && self.recipients_file.is_empty()) || self.new_keyfile.is_some()
    }
}

impl Sealing {
    /// What the container is sealed with, innermost first.
    pub fn ciphers(&self) -> &'static [u16] {
        self.cipher.unwrap_or_default().ids()
    }

    /// The seal of a new container that opens in the ways that are given.
    ///
    /// # Errors
    /// As [`new_slots`].
    pub fn seal(&self, encrypt: Encrypt<'_>) -> Result<Arc<Seal>> {
        Seal::fresh(self.ciphers(), self.pad, new_slots(&self.ways, encrypt, cost)?).map(Arc::new)
    }

    /// Whether something is asked for that only a container of this project has.
    pub fn is_beyond_a_password(&self) -> bool {
        self.ways.is_any() || self.pad || self.cipher.is_some()
    }

    /// Whether the container is to be sealed.
    ///
    /// # Errors
    /// `Usage` for what only a sealed one has, without any way to open it.
    pub fn is_wanted(&self, encrypt: Encrypt<'_>) -> Result<bool> {
        let opens = encrypt.is_some() || self.ways.is_any();
        if !opens && (self.pad || self.cipher.is_some()) {
            let what = if self.pad { "--pad" } else { "--cipher" };
            return Err(Error::new(Kind::Usage, format!("{what} is for a container that is sealed"))
                .hint("--encrypt, --recipient or --new-keyfile seals it"));
        }
        Ok(opens)
    }
}

/// The ways in which a new container opens, each with what it is called in the list of its keys. A new passphrase is asked
/// for twice, unless it is in the first line of the file that `--encrypt` names. `cost` is measured only where there is one.
///
/// # Errors
/// `Usage` for a recipient, a keyfile or a passphrase that cannot be used; what reading their files says.
pub fn new_slots(
    given: &Ways,
    encrypt: Encrypt<'_>,
    cost: impl FnOnce() -> Result<Cost>,
) -> Result<Vec<(NewSlot, String)>> {
    // What can be wrong is found before anybody types a passphrase.
    let recipients = recipients(given)?;
    let named = |file: &Path| ask::keyfile(file).map(|keyfile| (keyfile, name_of(file)));
    let keyfile = given.new_keyfile.as_deref().map(named).transpose()?;
    let passphrase = encrypt.map(|file| new_passphrase(file.as_deref())).transpose()?;
    let mut slots: Vec<_> = by_secret(passphrase, keyfile, cost)?.into_iter().collect();
    slots.extend(recipients.into_iter().map(|recipient| {
        let label = recipient.to_string();
        (NewSlot::Recipient(recipient), label)
    }));
    Ok(slots)
}

fn by_secret(
    passphrase: Option<Secret>,
    keyfile: Option<(Keyfile, String)>,
    cost: impl FnOnce() -> Result<Cost>,
) -> Result<Option<(NewSlot, String)>> {
    Ok(match (passphrase, keyfile) {
        (None, None) => None,
        (Some(passphrase), None) => Some((NewSlot::Passphrase { passphrase, cost: cost()? }, "passphrase".to_owned())),
        (None, Some((keyfile, name))) => Some((NewSlot::Keyfile(keyfile), format!("keyfile {name}"))),
        (Some(passphrase), Some((keyfile, name))) => Some((
            NewSlot::PassphraseAndKeyfile { passphrase, keyfile, cost: cost()? },
            format!("passphrase and keyfile {name}"),
        )),
    })
}

/// What is measured on this machine.
pub fn cost() -> Result<Cost> {
    Cost::calibrated(GUESS)
}

/// All recipients, each once.
fn recipients(given: &Ways) -> Result<Vec<Recipient>> {
    let mut all: Vec<Recipient> = Vec::new();
    let mut add = |recipient| {
        if !all.contains(&recipient) {
            all.push(recipient)
        }
    };
    for text in &given.recipient {
        add(Recipient::parse(text).within(|| "--recipient")?);
    }
    for file in &given.recipients_file {
        let bytes = ask::contents(file, "the recipients").within(|| file.display())?;
        let text = std::str::from_utf8(&bytes).map_err(|_| Error::new(Kind::Usage, "there is no recipient in it"));
        text.and_then(recipients_of_file).within(|| file.display())?.into_iter().for_each(&mut add);
    }
    Ok(all)
}

/// The name of a keyfile, short enough for a label; its path is nobody's business.
fn name_of(file: &Path) -> String {
    let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
    name[..name.floor_char_boundary(100)].to_owned()
}

/// The passphrase of something new: the first line of a file, or one that is typed twice.
pub(super) fn new_passphrase(file: Option<&Path>) -> Result<Secret> {
    let Some(file) = file else { return ask::new_password() };
    let first = ask::from_file(file)?.into_iter().next();
    first.ok_or_else(|| Error::new(Kind::Usage, format!("there is no password in {}", file.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    const AGE: &str = "age10xnrrmk7r0uunrcjqvkdatwsu7s8jwv0c7rt3rxggmkgntu955dq25yyzj";
    const SSH: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBdFU7RW3d/GkI7KscEB/mqyHiuqBhd5W31DpjSCmT/V";

    fn cheap() -> Result<Cost> {
        Ok(Cost::LEAST)
    }

    /// A file that is gone with its directory.
    fn file(text: &str) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, text).unwrap();
        (dir, path)
    }

    #[test]
    fn each_way_is_a_slot_and_a_passphrase_with_a_keyfile_is_one() {
        let (_kept, passphrase) = file("a passphrase\nanother\n");
        let (_kept, keyfile) = file("sixteen bytes or more");
        let (_kept, list) = file(&format!("# us\n{AGE}\n{SSH} ada\n"));
        let recipients = Ways { recipient: vec![AGE.into()], recipients_file: vec![list], ..Ways::default() };
        let labels = |given: &Ways, encrypt| -> Vec<String> {
            new_slots(given, encrypt, cheap).unwrap().into_iter().map(|(_, label)| label).collect()
        };
        let encrypt = Some(passphrase);
        assert_eq!(labels(&recipients, None), [AGE.to_owned(), format!("{SSH} ada")]);
        assert_eq!(labels(&Ways::default(), Some(&encrypt)), ["passphrase"]);
        let both = Ways { new_keyfile: Some(keyfile), ..recipients };
        assert_eq!(labels(&both, None)[0], "keyfile file");
        let slots = new_slots(&both, Some(&encrypt), cheap).unwrap();
        assert_eq!((slots.len(), slots[0].1.as_str()), (3, "passphrase and keyfile file"));
        assert!(matches!(&slots[0].0, NewSlot::PassphraseAndKeyfile { .. }));
    }

    #[test]
    fn the_cost_is_not_measured_where_there_is_no_passphrase() {
        let given = Ways { recipient: vec![AGE.into()], ..Ways::default() };
        new_slots(&given, None, || panic!("measured")).unwrap();
    }

    #[test]
    fn what_cannot_be_used_is_named() {
        let said = |given: Ways| new_slots(&given, None, cheap).err().unwrap().to_string();
        let wrong = Ways { recipient: vec!["ssh-rsa AAAA".into()], ..Ways::default() };
        assert!(said(wrong).contains("ssh-rsa"));
        let (_kept, list) = file("age1nonsense");
        let shown = list.display().to_string();
        let wrong = said(Ways { recipients_file: vec![list], ..Ways::default() });
        assert!(wrong.starts_with(&shown) && wrong.contains("line 1"), "{wrong}");
        let (_kept, empty) = file("\n");
        assert!(new_slots(&Ways::default(), Some(&Some(empty)), cheap).is_err());
    }

    #[test]
    fn what_belongs_to_sealing_is_refused_without_it() {
        let padded = Sealing { pad: true, ..Sealing::default() };
        let cascade = Sealing { cipher: Some(Ciphers::Cascade), ..Sealing::default() };
        assert_eq!(padded.is_wanted(None).unwrap_err().kind(), Kind::Usage);
        assert_eq!(cascade.is_wanted(None).unwrap_err().kind(), Kind::Usage);
        assert!(padded.is_wanted(Some(&None)).unwrap() && !Sealing::default().is_wanted(None).unwrap());
        assert_eq!((padded.ciphers(), cascade.ciphers()), (&[1][..], &[1, 2][..]));
    }
}
