//! Sealed containers: what is in them comes out for who has a key, and nothing of it for anybody else.

mod common {
    pub mod listing;
    pub mod metadata;
}

use common::{listing, metadata};
use std::fs;
use std::sync::Arc;
use stmount::cache::Cache;
use stmount::codec::seal::{AES_256_GCM_SIV, XCHACHA20_POLY1305};
use stmount::error::Kind;
use stmount::formats::folder::Folder;
use stmount::formats::st::{self, Container, NewSlot, Packer, Seal};
use stmount::formats::{Access, Pack, Reading, Unwatched};
use stmount::key::sign::Signing;
use stmount::key::{Cost, OneKey, Secret};
use stmount::source::Memory;
use tempfile::TempDir;

const CASCADE: &[u16] = &[AES_256_GCM_SIV, XCHACHA20_POLY1305];

fn secret(text: &str) -> Secret {
    Secret::new(text.as_bytes().to_vec())
}

/// A seal that opens with the passphrase `open sesame`.
fn seal(ciphers: &[u16], padded: bool) -> Arc<Seal> {
    let way = NewSlot::Passphrase { passphrase: secret("open sesame"), cost: Cost::LEAST };
    Arc::new(Seal::fresh(ciphers, padded, vec![(way, "test".into())]).unwrap())
}

fn reading(passphrase: &str) -> Arc<Reading> {
    Arc::new(Reading { keys: Arc::new(OneKey(secret(passphrase))), ..Reading::default() })
}

fn access(bytes: &[u8], passphrase: &str) -> Access {
    let access = Access::to_read(Arc::new(Memory::new(bytes.to_vec())), Cache::new(64 << 20), "sealed.st");
    Access { reading: reading(passphrase), ..access }
}

fn pack(dir: &std::path::Path, seal: Arc<Seal>) -> Vec<u8> {
    let mut out = Vec::new();
    let packer = Packer { seal: Some(seal), level: 3, ..Packer::default() };
    packer.pack(&Folder::open(dir).unwrap(), &mut out, &Unwatched).unwrap();
    out
}

/// The three ways in which containers are sealed.
fn seals() -> [Arc<Seal>; 3] {
    [seal(&CASCADE[..1], false), seal(CASCADE, false), seal(CASCADE, true)]
}

#[test]
fn everything_comes_out_again_for_who_has_the_passphrase() {
    let dir = TempDir::new().unwrap();
    metadata::everything(dir.path());
    let truth = listing::of(&Folder::open(dir.path()).unwrap()).unwrap();
    for seal in seals() {
        let bytes = pack(dir.path(), seal);
        let container = Container::open(access(&bytes, "open sesame")).unwrap();
        listing::assert_same(&truth, &listing::of(&container).unwrap(), "sealed");
        let checked = container.check(2, &Unwatched).unwrap();
        assert!(checked.is_whole() && checked.strays.is_empty(), "{:?}", checked.strays);
    }
}

#[test]
fn without_the_passphrase_nothing_comes_out() {
    let dir = TempDir::new().unwrap();
    fs::write(dir.path().join("a name that is found at once"), b"contents that are found at once, too".repeat(9))
        .unwrap();
    for seal in seals() {
        let bytes = pack(dir.path(), seal);
        for clear in [&b"found at once"[..], b"contents", b"that is"] {
            assert!(!bytes.windows(clear.len()).any(|window| window == clear), "{clear:?}");
        }
        let e = Container::open(access(&bytes, "open barley")).err().unwrap();
        assert_eq!(e.kind(), Kind::WrongPassword, "{e}");
        let nobody = Access { reading: Arc::default(), ..access(&bytes, "") };
        assert_eq!(Container::open(nobody).err().unwrap().kind(), Kind::NeedsPassword);
    }
}

#[test]
fn two_packs_of_the_same_have_nothing_in_common() {
    let dir = TempDir::new().unwrap();
    fs::write(dir.path().join("a"), vec![7; 300_000]).unwrap();
    let (one, other) = (pack(dir.path(), seal(CASCADE, false)), pack(dir.path(), seal(CASCADE, false)));
    let same = one.iter().zip(&other).skip(4096).filter(|(a, b)| a == b && **a != 0).count();
    assert!(same < one.len() / 20, "{same} of {}", one.len());
}

#[test]
fn an_empty_container_is_sealed_as_well() {
    for seal in seals() {
        let mut bytes = Vec::new();
        st::create(&mut bytes, (0, 0), Some(&seal), (None, &Signing::default())).unwrap();
        assert!(Container::open(access(&bytes, "open sesame")).is_ok());
        assert_eq!(Container::open(access(&bytes, "")).err().unwrap().kind(), Kind::WrongPassword);
    }
}
