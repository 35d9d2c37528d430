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
    let header = records::read_header(&**medium, commit.record)?;
    let (uid, sealed) = (commit.head.uid, medium.sealing.is_sealed());
    let signer = signer(medium, commit, &header)?;
    Ok(Root { uid, sequence: commit.head.seq.get(), hash: header.payload_hash, signer, sealed })
}

/// Who signed a commit. A footer that is damaged is read once more through the parity.
fn signer(medium: &Medium, commit: &Commit, header: &RecordHeader) -> Result<Signer> {
    let end = commit::end(&**medium, commit)?;
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
