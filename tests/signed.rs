//! Signatures of `.st` containers: what anybody may do to one without the key, and what is then said of it.

mod common {
    pub mod listing;
    pub mod memtree;
    pub mod metadata;
}

use common::listing;
use common::memtree::{MemTree, ROOT};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use stmount::cache::Cache;
use stmount::error::{Error, Kind, Result};
use stmount::formats::st::{self, Container, Packer};
use stmount::formats::{self, Access, Pack, Root, Signer, Unwatched, Watch, collect};
use stmount::key::sign::{Signing, SigningKey, hex};
use stmount::open::trust::{Level, Trust};
use stmount::source::{Memory, ReadAt};
use stmount::tree::{Filter, Kind as NodeKind};

/// Where things are in the file: FORMAT.md.
const HEADER: usize = 4096;
const FOOTER: usize = 128;
const KEY: std::ops::Range<usize> = 16..112;

fn signing(number: u8) -> Signing {
    Signing::by(SigningKey::from_seed(&[number; 32]))
}

fn by(number: u8) -> Signer {
    Signer::By(signing(number).public().unwrap())
}

fn tree() -> MemTree {
    let mut tree = MemTree::default();
    let dir = tree.dir(ROOT, "letters");
    tree.file(dir, b"one", b"dear Anna");
    tree.file(ROOT, b"two", &b"yours".repeat(40));
    tree
}

fn packed(signing: Signing) -> Vec<u8> {
    let packer = Packer { level: 1, threads: 1, signing, ..Packer::default() };
    let mut out = Vec::new();
    packer.pack(&tree(), &mut out, &Unwatched).unwrap();
    out
}

fn access(bytes: &[u8]) -> Access {
    Access::to_read(Arc::new(Memory::new(bytes.to_vec())), Cache::new(8 << 20), "test.st")
}

fn root(bytes: &[u8]) -> Result<Root> {
    Ok(formats::root(&access(bytes))?.expect("its format has a root"))
}

fn signer(bytes: &[u8]) -> Signer {
    root(bytes).unwrap().signer
}

/// Every file with what is in it.
fn contents(bytes: &[u8], state: Option<&str>) -> Result<BTreeMap<Vec<u8>, Vec<u8>>> {
    let strict = Strict::default();
    let volume = formats::open(Access { state: state.map(str::to_owned), ..access(bytes) })?;
    let mut found = BTreeMap::new();
    for entry in collect(&*volume.tree, &Filter::default(), &strict)? {
        let mut data = Vec::new();
        if entry.attr.kind == NodeKind::File {
            let file = volume.tree.open(entry.node)?;
            data = vec![0; file.len()? as usize];
            file.read_exact_at(0, &mut data)?;
        }
        found.insert(entry.path, data);
    }
    strict.0.into_inner().unwrap().map_or(Ok(found), Err)
}

/// Takes note of what cannot be read.
#[derive(Default)]
struct Strict(Mutex<Option<Error>>);

impl Watch for Strict {
    fn skipped(&self, _path: &[u8], why: &Error) {
        *self.0.lock().unwrap() = Some(Error::new(why.kind(), why.to_string()));
    }
}

/// The container with one more state, whose name is all that is new.
fn grown(bytes: &[u8], name: &str, signing: Signing) -> Vec<u8> {
    let store = Arc::new(Memory::new(bytes.to_vec()));
    let access = Access { signing, ..Access::to_write(store.clone(), Cache::new(8 << 20), "test.st") };
    let volume = formats::open(access).unwrap();
    volume.writer.unwrap().name_state(name, true).unwrap();
    let mut out = vec![0; store.len().unwrap() as usize];
    store.read_exact_at(0, &mut out).unwrap();
    out
}

fn check(parts: &[&[u8]]) -> [u8; 8] {
    let mut hasher = blake3::Hasher::new();
    parts.iter().for_each(|part| _ = hasher.update(part));
    hasher.finalize().as_bytes()[..8].try_into().unwrap()
}

/// Changes the footer at the end, and makes its check right.
fn with_footer(bytes: &[u8], change: impl FnOnce(&mut [u8])) -> Vec<u8> {
    let (mut bytes, uid) = (bytes.to_vec(), bytes[16..32].to_vec());
    let at = bytes.len() - FOOTER;
    change(&mut bytes[at..]);
    let right = check(&[&uid, &bytes[at..at + 120]]);
    bytes[at + 120..].copy_from_slice(&right);
    bytes
}

/// The footer of the last commit before an end.
fn footer(bytes: &[u8]) -> &[u8] {
    &bytes[bytes.len() - FOOTER..]
}

#[test]
fn whatever_is_changed_it_is_not_signed_and_different() {
    let whole = packed(signing(1));
    let before = contents(&whole, None).unwrap();
    assert_eq!((signer(&whole), before.len()), (by(1), 4));
    for at in 0..whole.len() {
        let mut changed = whole.clone();
        changed[at] ^= 0x41;
        let signer = root(&changed).map(|root| root.signer);
        if signer.as_ref().is_ok_and(|signer| *signer == by(1)) {
            assert!(contents(&changed, None).map_or(true, |after| after == before), "byte {at}");
        }
        let checked = Container::open(access(&changed)).and_then(|container| container.check(1, &Unwatched));
        let silent = checked.is_ok_and(|found| found.is_whole() && found.strays.is_empty());
        assert!(!(silent && signer.is_ok_and(|signer| signer != Signer::Bad)), "nobody noticed byte {at}");
    }
}

#[test]
fn who_has_no_key_makes_nothing_that_is_signed() {
    let whole = packed(signing(1));
    let later = grown(&whole, "later", Signing::default());
    assert_eq!(signer(&later), Signer::None);
    // The signature of the state before.
    let copied = with_footer(&later, |to| to[KEY].copy_from_slice(&footer(&whole)[KEY]));
    assert_eq!(signer(&copied), Signer::Bad);
    // Of an earlier one of the same key.
    let signed = grown(&whole, "later", signing(1));
    assert_eq!(signer(&signed), by(1));
    let copied = with_footer(&signed, |to| to[KEY].copy_from_slice(&footer(&whole)[KEY]));
    assert_eq!(signer(&copied), Signer::Bad);
    // A signature that is taken away, or damaged, or of somebody else.
    assert_eq!(signer(&with_footer(&signed, |to| to[KEY].fill(0))), Signer::Bad);
    assert_eq!(signer(&with_footer(&signed, |to| to[50] ^= 1)), Signer::Bad);
    assert_eq!(signer(&signed[..signed.len() - 64]), Signer::Bad);
    let other = grown(&whole, "later", signing(2));
    assert_eq!(signer(&other), by(2));
    assert_eq!(signer(&with_footer(&signed, |to| to[KEY].copy_from_slice(&footer(&other)[KEY]))), Signer::Bad);
}

#[test]
fn a_state_that_was_rewritten_is_none_that_the_signature_vouches_for() {
    let whole = grown(&grown(&packed(signing(1)), "one", signing(1)), "two", signing(1));
    assert!(contents(&whole, Some("1")).is_ok() && contents(&whole, Some("one")).is_ok());
    // The time in the first commit, with every hash made right again.
    let (mut forged, uid) = (whole.clone(), whole[16..32].to_vec());
    let is_first = |at: &usize| whole[*at..].starts_with(b"\xabSTR\x04") && whole[at + 24] == 1;
    let at = (HEADER..whole.len()).step_by(64).find(is_first).unwrap();
    let payload = at + 96..at + 96 + u64::from_le_bytes(whole[at + 16..at + 24].try_into().unwrap()) as usize;
    forged[payload.start + 24] ^= 1;
    let hash = *blake3::hash(&forged[payload]).as_bytes();
    forged[at + 48..at + 80].copy_from_slice(&hash);
    let right = check(&[&uid, &forged[at..at + 80]]);
    forged[at + 80..at + 88].copy_from_slice(&right);
    assert_eq!(signer(&forged), by(1));
    assert!(contents(&forged, None).is_ok() && contents(&forged, Some("2")).is_ok());
    assert!(contents(&forged, Some("1")).is_err() && contents(&forged, Some("one")).is_err());
    let log = formats::generations(&access(&forged)).unwrap();
    assert_eq!(log.iter().map(|state| state.sequence).collect::<Vec<_>>(), [3, 2]);
}

#[test]
fn an_earlier_copy_is_noticed_by_who_has_seen_the_later_one() {
    let dir = tempfile::tempdir().unwrap();
    let (config, state) = (dir.path().join("config"), dir.path().join("state"));
    let trust = |level| Trust::within(level, &config, &state);
    let first = packed(signing(1));
    let later = grown(&first, "later", signing(1));
    let admit = |level, bytes: &[u8]| trust(level).admit("test.st", Some(root(bytes).unwrap()));
    assert_eq!(admit(Level::High, &first).unwrap_err().kind(), Kind::Untrusted);
    assert!(admit(Level::Standard, &first).unwrap()[0].contains("which was not known"));
    assert_eq!(admit(Level::High, &first).unwrap(), Vec::<String>::new());
    assert!(admit(Level::High, &later).unwrap().is_empty());
    // Cut off behind the state before: whole, and rightly signed.
    let cut = &later[..first.len()];
    assert_eq!(signer(cut), by(1));
    assert_eq!(admit(Level::High, cut).unwrap_err().kind(), Kind::Untrusted);
    assert!(admit(Level::Standard, cut).unwrap()[0].contains("older than the state 2"));
    // Torn within the newest state, which is the same.
    assert_eq!(admit(Level::High, &later[..later.len() - 200]).unwrap_err().kind(), Kind::Untrusted);
    for forged in [grown(&later, "more", Signing::default()), grown(&later, "more", signing(2))] {
        assert_eq!(admit(Level::High, &forged).unwrap_err().kind(), Kind::Untrusted);
        assert_eq!(admit(Level::Standard, &forged).unwrap().len(), 1);
    }
    let bad = with_footer(&later, |to| to[50] ^= 1);
    assert_eq!(admit(Level::Standard, &bad).unwrap_err().kind(), Kind::Untrusted);
    assert!(admit(Level::Low, &bad).unwrap().is_empty());
    assert_eq!(trust(Level::High).admit("a.zip", None).unwrap_err().kind(), Kind::Untrusted);
    // What this program has made itself is known from then on.
    let made = grown(&later, "own", signing(2));
    trust(Level::Standard).made(&root(&made).unwrap()).unwrap();
    assert!(admit(Level::High, &made).unwrap().is_empty());
    assert!(admit(Level::High, &later).is_err());
}

#[test]
fn a_container_is_signed_without_a_change() {
    let plain = packed(Signing::default());
    assert_eq!(signer(&plain), Signer::None);
    let store = Arc::new(Memory::new(plain.clone()));
    let access = Access::to_write(store.clone(), Cache::new(8 << 20), "test.st");
    assert_eq!(st::sign(access.clone()).unwrap_err().kind(), Kind::Usage);
    let root = st::sign(Access { signing: signing(1), ..access }).unwrap();
    assert_eq!((root.signer, root.sequence), (by(1), 2));
    let mut signed = vec![0; store.len().unwrap() as usize];
    store.read_exact_at(0, &mut signed).unwrap();
    assert_eq!(self::root(&signed).unwrap(), root);
    assert_eq!(contents(&signed, None).unwrap(), contents(&plain, None).unwrap());
    assert!(signed.len() < plain.len() + 1024);
}

#[test]
fn a_container_that_is_signed_stays_the_same_bytes() {
    let bytes = packed(signing(7));
    assert_eq!(packed(signing(7)), bytes);
    assert_ne!(packed(signing(8))[16..32], bytes[16..32], "another key, another container");
    let public = "ea4a6c63e29c520abef5507b132ec5f9954776aebebe7b92421eea691446d22c";
    assert_eq!(hex(&footer(&bytes)[16..48]), public);
    assert_eq!(hex(&footer(&bytes)[48..112]), SIGNATURE);
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("vector.st");
    std::fs::write(&file, &bytes).unwrap();
    assert_eq!(listing::say("st_ref.py", &["verify".as_ref(), &file]), format!("\"{public}\"\n"));
    listing::say("st_ref.py", &["check".as_ref(), &file]);
    std::fs::write(&file, packed(Signing::default())).unwrap();
    assert_eq!(listing::say("st_ref.py", &["verify".as_ref(), &file]), "null\n");
}

/// Of the container above, by the key of 32 bytes 7.
const SIGNATURE: &str = "e9d282c19f6514d46ac9b2a24a2c7a78aff911413d5bffdf7a65756b4d7e9aa8\
                         04314220a4015b06c30cb15433975e6fcb12aa3bd8cbb44b93b1d5f3ad144203";
