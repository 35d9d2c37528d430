//! Signatures of commits: what is signed, where the signature is, and what comes of looking at one.
//!
//! ```text
//!   COMMIT header 96 │ payload: … item 3: key │ footer: key, signature
//!      └─ bytes 0 to 79 ─┐ hash of the payload, place, number
//!   uid ─────────────────┴──► message ──► Ed25519 ──► signature
//!
//!   item    footer                     signer
//!   none    no key, no signature       nobody
//!   key     the same key, and right    By(key)
//!   any other                          Bad
//! ```
//!
//! All of the container follows from the payload of its newest commit. That a signature belongs there stands in the
//! payload too: without that, one that is taken away or damaged would be a commit that was never signed.

use super::commit::{self, Commit};
use super::layout::{FOOTER_LEN, FOOTER_MAGIC, Footer, RecordHeader};
use super::medium::Medium;
use super::records;
use crate::error::Result;
use crate::formats::{Root, Signer};
use crate::key::sign::{PublicKey, ST_COMMIT, Signing, message};
use crate::source::ReadAt;
use zerocopy::{FromZeros, IntoBytes};

/// What is signed of a commit.
fn said(header: &RecordHeader, uid: &[u8; 16]) -> [u8; 32] {
    message(ST_COMMIT, &[uid, &header.as_bytes()[..80]])
}

/// The footer of a commit whose record ends at `end`.
pub fn footer(header: &RecordHeader, uid: &[u8; 16], end: u64, signing: &Signing) -> Footer {
    let mut footer = Footer::new_zeroed();
    footer.record = header.offset;
    footer.logical_end = end.into();
    if let Some(key) = signing.key() {
        footer.public_key = *key.public().as_bytes();
        footer.signature = key.sign(&said(header, uid));
    }
    footer.magic = FOOTER_MAGIC;
    footer.check = footer.expected_check(uid);
    footer
}

/// What a container stands on whose newest commit this is.
pub fn root(medium: &Medium, commit: &Commit) -> Result<Root> {
    let header = records::sound_header(medium, commit.record)?;
    let (uid, sealed) = (commit.head.uid, medium.sealing.is_sealed());
    let signer = signer(medium, commit, &header)?;
    Ok(Root { uid, sequence: commit.head.seq.get(), hash: header.payload_hash, signer, sealed })
}

/// Who signed a commit. A footer that is damaged is read once more through the parity.
fn signer(medium: &Medium, commit: &Commit, header: &RecordHeader) -> Result<Signer> {
    let end = commit::end(medium, commit)?;
    let found = judged(&**medium, commit, header, end);
    if found != Signer::Bad {
        return Ok(found);
    }
    let mender = medium.healing.mender(medium.source(), &commit.head.uid);
    Ok(mender.map_or(found, |mender| judged(&*mender, commit, header, end)))
}

fn judged(source: &dyn ReadAt, commit: &Commit, header: &RecordHeader, end: u64) -> Signer {
    let uid = &commit.head.uid;
    let footer = footer_at(source, commit.record, uid, end);
    match (commit.signer, footer) {
        (None, None) => Signer::None,
        (None, Some(footer)) if footer.public_key == [0; 32] && footer.signature == [0; 64] => Signer::None,
        (Some(key), Some(footer)) if footer.public_key == key => match PublicKey::from_bytes(&key) {
            Ok(key) if key.verify(&said(header, uid), &footer.signature) => Signer::By(key),
            _ => Signer::Bad,
        },
        _ => Signer::Bad,
    }
}

/// The footer that ends there, when it is whole. A commit counts without: where the file is cut off, or cannot be read.
fn footer_at(source: &dyn ReadAt, record: u64, uid: &[u8; 16], end: u64) -> Option<Footer> {
    let is_there = source.len().is_ok_and(|len| end <= len) && end >= record + FOOTER_LEN;
    let footer = if is_there { records::read_footer(source, end).ok()?? } else { return None };
    let place = (footer.record.get(), footer.logical_end.get()) == (record, end);
    (place && footer.check == footer.expected_check(uid)).then_some(footer)
}

#[cfg(test)]
mod tests {
    use super::super::append::StWriter;
    use super::super::layout::HEADER_LEN;
    use super::super::parity::Policy;
    use super::super::seal::Seal;
    use super::super::{Container, KeySet, NewSlot, create, opened_to_write};
    use super::*;
    use crate::cache::Cache;
    use crate::formats::{self, Access, Reading, Unwatched, Writer};
    use crate::key::sign::SigningKey;
    use crate::key::{Keyfile, Master};
    use crate::source::parity::Algorithm;
    use crate::source::{Memory, Store};
    use std::sync::Arc;

    fn signing() -> Signing {
        Signing::by(SigningKey::from_seed(&[7; 32]))
    }

    fn by_us() -> Signer {
        Signer::By(signing().public().unwrap())
    }

    fn access(store: &Arc<Memory>) -> Access {
        Access { signing: signing(), ..Access::to_write(store.clone(), Cache::new(8 << 20), "test.st") }
    }

    fn writer(access: Access) -> StWriter {
        let Ok((_, opened)) = opened_to_write(access).unwrap() else { panic!("it can be written to") };
        StWriter::new(opened).unwrap()
    }

    #[test]
    fn a_footer_that_is_damaged_is_read_through_the_parity() {
        let mut bytes = Vec::new();
        let policy = Policy { share: 0.5, algorithm: Algorithm::of(1).unwrap() };
        create(&mut bytes, (0, 0), None, (Some(policy), &signing())).unwrap();
        let store = Arc::new(Memory::new(bytes));
        let writer = writer(access(&store));
        let end = writer.end();
        writer.protect(&Unwatched).unwrap();
        drop(writer);
        let found = Container::open(access(&store)).unwrap().check(1, &Unwatched).unwrap();
        assert!(found.is_whole() && found.strays.is_empty(), "{:?}", found.strays);
        assert_eq!(formats::root(&access(&store)).unwrap().unwrap().signer, by_us());
        store.write_at(end - 100, b"damage").unwrap();
        assert_eq!(formats::root(&access(&store)).unwrap().unwrap().signer, by_us());
        let found = Container::open(access(&store)).unwrap().check(1, &Unwatched).unwrap();
        assert!(!found.strays.is_empty());
    }

    #[test]
    fn a_sealed_container_is_signed_as_well() {
        let (master, uid) = (Master::random().unwrap(), [5; 16]);
        let mut keys = KeySet::new(uid, &[1, 2], false);
        let keyfile = Keyfile::new(&std::array::from_fn::<u8, 64, _>(|n| n as u8)).unwrap();
        keys.add(&master, NewSlot::Keyfile(keyfile), "one").unwrap();
        let seal = Arc::new(Seal::new(keys, master.clone()).unwrap());
        let mut bytes = Vec::new();
        create(&mut bytes, (0, 0), Some(&seal), (None, &signing())).unwrap();
        let store = Arc::new(Memory::new(bytes));
        let reading = Reading::default();
        reading.vault.keep(uid, &master, None);
        let access = Access { reading: Arc::new(reading), ..access(&store) };
        let root = formats::root(&access).unwrap().unwrap();
        assert_eq!((root.signer, root.sealed, root.uid, root.sequence), (by_us(), true, uid, 1));
        writer(Access { signing: Signing::default(), ..access.clone() }).name_state("one", true).unwrap();
        let root = formats::root(&access).unwrap().unwrap();
        assert_eq!((root.signer, root.sealed, root.sequence), (Signer::None, true, 2));
        writer(access.clone()).name_state("two", true).unwrap();
        let root = formats::root(&access).unwrap().unwrap();
        assert_eq!((root.signer, root.sequence), (by_us(), 3));
        // Whose it is can be told without its keys.
        let locked = Access { reading: Arc::default(), ..access };
        assert_eq!(formats::uid(&locked).unwrap(), Some(uid));
        store.write_at(0, &[0; HEADER_LEN as usize]).unwrap();
        assert_eq!(formats::uid(&locked).unwrap(), Some(uid));
    }
}
