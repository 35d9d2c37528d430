//! `sign` and `verify`: who vouches for a container.

use super::amend::{existing, hold};
use super::args::{self, Common};
use super::trust::{key_of, say_unless};
use super::{exit, plan, say, text_out};
use crate::error::{Error, Kind, Result, Within};
use crate::formats::{self, Root, Signer, st};
use crate::key::sign::PublicKey;
use crate::open::trust::{self, Level, Trust};
use crate::open::{self, How};
use crate::remote;
use crate::tree::Time;
use serde_json::{Value, json};
use std::path::Path;

pub fn sign(given: &args::Sign, common: &Common) -> Result<u8> {
    let file = existing(&given.file)?;
    refuse_others(&file)?;
    let signing = trust::signing(given.key.as_deref().unwrap_or(Path::new("")))?;
    let how = How { signing, ..plan::how_with(&given.passwords)? };
    let access = hold(&file, &how)?;
    let (key, shown) = (how.signing.public(), given.file.display());
    let before = formats::root(&access)?;
    if let Some(Signer::By(signer)) = before.map(|root| root.signer).filter(|_| key.is_some())
        && Some(signer) == key
    {
        say_unless(common.quiet, &format!("{shown} is signed by {} already", how.trust.called(&signer)));
        return Ok(exit::OK);
    }
    let store = access.store.clone();
    let root = st::sign(access)?;
    store.map_or(Ok(()), |store| store.publish())?;
    how.trust.made(&root)?;
    let by = key.map(|key| how.trust.called(&key)).unwrap_or_default();
    say_unless(common.quiet, &format!("{shown} is signed by {by}: the state {}", root.sequence));
    Ok(exit::OK)
}

fn refuse_others(file: &Path) -> Result<()> {
    if remote::is_address(file).is_some() || open::is_container(file) {
        return Ok(());
    }
    Err(Error::new(Kind::Unsupported, format!("{}: only a .st can be signed", file.display()))
        .hint("stmount convert --sign, which makes one of it"))
}

/// What is known of a signature.
struct Seen {
    root: Root,
    time: Time,
}

pub fn verify(given: &args::Verify) -> Result<u8> {
    let keys = given.key.iter().map(|text| key_of(text)).collect::<Result<Vec<_>>>()?;
    let how = plan::how_with(&given.passwords)?;
    let seen = look(&given.file, &how)?;
    let said = match &keys[..] {
        [] => trusted(&given.file, &seen.root),
        keys => signed_by_one(&seen.root, keys).within(|| given.file.display()),
    };
    match said {
        Err(e) if e.kind() != Kind::Untrusted => Err(e),
        said if given.json => {
            text_out(&format!("{}\n", as_json(&seen, said.as_ref().err())))?;
            Ok(if said.is_ok() { exit::OK } else { exit::UNTRUSTED })
        }
        said => {
            let notes = said?;
            say::notes(&given.file, &notes);
            text_out(&words(&given.file, &seen, &how))?;
            Ok(exit::OK)
        }
    }
}

/// Opens it whoever signed it: that is what is asked.
fn look(file: &Path, how: &How) -> Result<Seen> {
    std::fs::metadata(file).map_err(|e| Error::io(e, format!("cannot open {}", file.display())))?;
    refuse_others(file)?;
    let volume = open::open_as(file, &How { trust: Trust::nobody(), ..how.clone() })?;
    let unknown = || Error::new(Kind::Unsupported, format!("{}: only a .st can be signed", file.display()));
    let root = volume.root.ok_or_else(unknown)?;
    let time = volume.states.map(|states| states.time()).unwrap_or_default();
    Ok(Seen { root, time })
}

fn trusted(file: &Path, root: &Root) -> Result<Vec<String>> {
    let admitted = Trust::of_user(Some(Level::High)).admit(&file.display().to_string(), Some(*root));
    admitted.map_err(|e| match (e.kind(), root.signer) {
        // What opens it all the same makes it no more trusted.
        (Kind::Untrusted, Signer::None | Signer::Bad) => Error::new(Kind::Untrusted, e.to_string()),
        _ => e,
    })
}

fn signed_by_one(root: &Root, keys: &[PublicKey]) -> Result<Vec<String>> {
    let wrong = match root.signer {
        Signer::By(key) if keys.contains(&key) => return Ok(Vec::new()),
        Signer::By(key) => format!("it is signed by {key}, which is another key"),
        Signer::None => "it is not signed".to_owned(),
        Signer::Bad => "its signature is wrong: it was changed without the key, or it is damaged".to_owned(),
    };
    Err(Error::new(Kind::Untrusted, wrong))
}

fn signer(root: &Root) -> Option<PublicKey> {
    match root.signer {
        Signer::By(key) => Some(key),
        _ => None,
    }
}

fn words(file: &Path, seen: &Seen, how: &How) -> String {
    let key = signer(&seen.root);
    let by = key.map(|key| how.trust.called(&key)).unwrap_or_default();
    let print = key.map(|key| key.fingerprint()).unwrap_or_default();
    let (shown, date) = (file.display(), seen.time.date());
    format!("{shown}: signed by {by}\nfingerprint {print}, state {} of {date}\n", seen.root.sequence)
}

fn as_json(seen: &Seen, why: Option<&Error>) -> Value {
    let key = signer(&seen.root);
    json!({
        "v": 1, "verified": why.is_none(), "signer": key.map(|key| key.to_string()),
        "fingerprint": key.map(|key| key.fingerprint()), "sequence": seen.root.sequence,
        "time": {"secs": seen.time.secs, "nanos": seen.time.nanos}, "why": why.map(|e| e.to_string()),
    })
}
