//! What an opened volume stands on: the hash from which all of it follows, and who signed it.

use crate::key::sign::PublicKey;

/// The newest commit of a container; so it is also when an earlier state was opened, whose hash follows from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Root {
    /// Which container it is: the same through all its states, and another one in each container.
    pub uid: [u8; 16],
    /// The number of the commit. It only grows.
    pub sequence: u64,
    /// Everything in the container can be verified from this.
    pub hash: [u8; 32],
    pub signer: Signer,
    /// Only who knows a key of the container can have written it.
    pub sealed: bool,
}

/// Who signed it. A format tells what it found and refuses nothing: whether that will do, the person decides who opens it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signer {
    /// Nobody.
    None,
    /// Whoever has the secret half of this key; the signature was verified.
    By(PublicKey),
    /// There is a signature, and it is wrong.
    Bad,
}

impl Root {
    /// Whether its number and its hash are the word of somebody, and not of anybody.
    pub fn is_vouched_for(&self) -> bool {
        self.sealed || matches!(self.signer, Signer::By(_))
    }
}
