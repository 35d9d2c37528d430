//! Containers that were written once and must open for ever. `golden/make.py` shows how they came to be; the listings
//! beside them were written from the same plain values and not by reading the containers. Those that are sealed are
//! `plain.st` once more, as the last test here makes them: with `STMOUNT_GOLDEN=DIR` it leaves its containers there.

#[path = "common/listing.rs"]
mod listing;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use stmount::cache::Cache;
use stmount::codec::seal::{AES_256_GCM_SIV, XCHACHA20_POLY1305};
use stmount::formats::st::{self, Container, NewSlot, Packer, Seal};
use stmount::formats::{Access, Pack, Reading, Unwatched};
use stmount::key::{Cost, Keyfile, OneKey, Recipient, Secret};
use stmount::source::{Memory, ReadAt};

fn golden() -> Vec<PathBuf> {
    let dir = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden")).unwrap();
    let mut all: Vec<_> = dir.map(|entry| entry.unwrap().path()).collect();
    all.retain(|path| path.extension().is_some_and(|e| e == "st"));
    all.sort();
    assert!(all.len() >= 16, "golden containers are missing: {all:?}");
    all
}

/// What opens those that are sealed.
const PASSPHRASE: &str = "open sesame";

fn secret() -> Secret {
    Secret::new(PASSPHRASE.as_bytes().to_vec())
}

fn access(bytes: Vec<u8>, name: &str) -> Access {
    let reading = Reading { keys: Arc::new(OneKey(secret())), ..Reading::default() };
    let access = Access::to_read(Arc::new(Memory::new(bytes)), Cache::new(1 << 20), name);
    Access { reading: Arc::new(reading), ..access }
}

/// What the other reader says.
fn python(verb: &str, path: &Path) -> String {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(PASSPHRASE.as_bytes()).unwrap();
    listing::say("st_ref.py", &[verb.as_ref(), path, "--password-file".as_ref(), file.path()])
}

#[test]
fn every_golden_container_opens_and_holds_what_it_held() {
    for path in golden() {
        let expected = std::fs::read_to_string(path.with_extension("jsonl")).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        let name = path.display().to_string();
        let container = Container::open(access(bytes, &name)).unwrap();
        listing::assert_same(&expected, &listing::of(&container).unwrap(), &name);
        let checked = container.check(2, &Unwatched).unwrap();
        assert!(checked.is_whole(), "{name}: {checked:?}");
    }
}

#[test]
fn the_other_reader_agrees() {
    for path in golden() {
        let expected = std::fs::read_to_string(path.with_extension("jsonl")).unwrap();
        listing::assert_same(&expected, &python("list", &path), &path.to_string_lossy());
        python("check", &path);
    }
}

/// A passphrase, which costs next to nothing to try here, and a keyfile.
fn ways() -> Vec<(NewSlot, String)> {
    let cost = Cost { memory_kib: 64, passes: 3, lanes: 2 };
    let keyfile = Keyfile::new(b"sixteen bytes or more").unwrap();
    vec![
        (NewSlot::Keyfile(keyfile), "keyfile".to_owned()),
        (NewSlot::Passphrase { passphrase: secret(), cost }, "Grüße".to_owned()),
    ]
}

/// `plain.st`, sealed with these ciphers.
fn sealed(ciphers: &[u16], padded: bool) -> Arc<Memory> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let plain = Container::open(access(std::fs::read(dir.join("plain.st")).unwrap(), "plain.st")).unwrap();
    let seal = Some(Arc::new(Seal::fresh(ciphers, padded, ways()).unwrap()));
    let mut bytes = Vec::new();
    Packer { seal, ..Packer::default() }.pack(&plain, &mut bytes, &Unwatched).unwrap();
    Arc::new(Memory::new(bytes))
}

#[test]
fn what_is_sealed_today_holds_what_the_golden_ones_hold() {
    let own = tempfile::tempdir().unwrap();
    let dir = std::env::var_os("STMOUNT_GOLDEN").map_or_else(|| own.path().to_owned(), PathBuf::from);
    let expected = include_str!("golden/plain.jsonl");
    let cascade = sealed(&[AES_256_GCM_SIV, XCHACHA20_POLY1305], true);
    another_key(&cascade);
    for (name, file) in [("sealed", sealed(&[AES_256_GCM_SIV], false)), ("sealed-cascade", cascade)] {
        let mut bytes = vec![0; file.len().unwrap() as usize];
        file.read_exact_at(0, &mut bytes).unwrap();
        let path = dir.join(name).with_extension("st");
        std::fs::write(&path, &bytes).unwrap();
        std::fs::write(path.with_extension("jsonl"), expected).unwrap();
        let container = Container::open(access(bytes, name)).unwrap();
        listing::assert_same(expected, &listing::of(&container).unwrap(), name);
        listing::assert_same(expected, &python("list", &path), name);
    }
}

/// Keys that came later: the first list of them is not the one that counts.
fn another_key(file: &Arc<Memory>) {
    let to_write = Access::to_write(file.clone(), Cache::new(1 << 20), "sealed-cascade.st");
    let to_write = Access { reading: access(Vec::new(), "").reading, ..to_write };
    let age = "age10xnrrmk7r0uunrcjqvkdatwsu7s8jwv0c7rt3rxggmkgntu955dq25yyzj";
    st::change_keys(to_write, &mut |seal| {
        let mut keys = seal.keys().clone();
        keys.add(seal.master(), NewSlot::Recipient(Recipient::parse(age).unwrap()), age)?;
        Ok(keys)
    })
    .unwrap();
}
