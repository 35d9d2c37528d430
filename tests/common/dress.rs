//! The same tests over containers that are dressed in another way: sealed, sealed twice and padded, with parity. The
//! variable `STMOUNT_TEST_AS` says how; without it they are plain.

#![allow(dead_code)]

use std::io::Cursor;
use std::process::Command;
use std::sync::{Arc, OnceLock};
use stmount::cache::Cache;
use stmount::codec::seal::{AES_256_GCM_SIV, XCHACHA20_POLY1305};
use stmount::formats::st::{self, NewSlot, Packer, Policy, Seal};
use stmount::formats::{Access, Pack, Reading, Unwatched};
use stmount::key::{Identity, Keys, Recipient, Secret, parse_identities};
use stmount::source::parity::Algorithm;
use stmount::source::{ReadAt, Store};
use stmount::tree::Tree;

/// A recipient for whom everything is sealed, and the identity that opens it.
const RECIPIENT: &str = "age10xnrrmk7r0uunrcjqvkdatwsu7s8jwv0c7rt3rxggmkgntu955dq25yyzj";
pub const IDENTITY: &str = "AGE-SECRET-KEY-1GPQ5YS6YG4RYWJZFFF95CN2WFAG9Z5JN2324V46CT9D9KHZATE0S5FAZ64";

/// How containers are dressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum As {
    Plain,
    /// By AES-256-GCM-SIV.
    Sealed,
    /// By both ciphers, padded.
    Cascade,
    Parity,
    /// Sealed by both ciphers, and with parity.
    All,
}

pub fn wanted() -> As {
    match std::env::var("STMOUNT_TEST_AS").as_deref() {
        Err(_) | Ok("plain") => As::Plain,
        Ok("sealed") => As::Sealed,
        Ok("cascade") => As::Cascade,
        Ok("parity") => As::Parity,
        Ok("all") => As::All,
        Ok(other) => panic!("STMOUNT_TEST_AS={other} is none of plain, sealed, cascade, parity, all"),
    }
}

/// Whether a test that knows how a plain container lies in its file is to run; else it says that it does not.
pub fn only_plain(why: &str) -> bool {
    let plain = wanted() == As::Plain;
    if !plain {
        println!("not of a container that is {:?}: {why}", wanted());
    }
    plain
}

pub fn is_sealed() -> bool {
    matches!(wanted(), As::Sealed | As::Cascade | As::All)
}

fn seal() -> Option<Arc<Seal>> {
    match wanted() {
        As::Plain | As::Parity => None,
        As::Sealed => Some(sealed_with(&[AES_256_GCM_SIV], false)),
        As::Cascade | As::All => Some(sealed_with(&[AES_256_GCM_SIV, XCHACHA20_POLY1305], true)),
    }
}

/// A seal that [`IDENTITY`] opens.
pub fn sealed_with(ciphers: &[u16], padded: bool) -> Arc<Seal> {
    let way = NewSlot::Recipient(Recipient::parse(RECIPIENT).unwrap());
    Arc::new(Seal::fresh(ciphers, padded, vec![(way, "tests".into())]).unwrap())
}

fn parity() -> Option<Policy> {
    let some = Policy { share: 0.05, algorithm: Algorithm::Wide };
    matches!(wanted(), As::Parity | As::All).then_some(some)
}

/// A packer that dresses what it packs.
pub fn packer() -> Packer {
    Packer { seal: seal(), parity: parity(), ..Packer::default() }
}

pub fn pack(packer: &Packer, tree: &dyn Tree) -> Vec<u8> {
    let mut out = Cursor::new(Vec::new());
    let packed = packer.pack_to_file(tree, &mut out, &Unwatched).unwrap();
    assert_eq!(packed.skipped, 0);
    out.into_inner()
}

/// An empty container that belongs to root.
pub fn create() -> Vec<u8> {
    let mut bytes = Vec::new();
    st::create(&mut bytes, (0, 0), seal().as_ref(), parity()).unwrap();
    bytes
}

struct Known(Vec<Identity>);

impl Keys for Known {
    fn next(&self, _what: &str, _wrong: usize) -> Option<Secret> {
        None
    }

    fn identities(&self) -> &[Identity] {
        &self.0
    }
}

pub fn reading() -> Arc<Reading> {
    let keys = Arc::new(Known(parse_identities(IDENTITY.as_bytes()).unwrap()));
    Arc::new(Reading { keys, ..Reading::default() })
}

pub fn read(bytes: Arc<dyn ReadAt>, cache: Arc<Cache>, name: impl Into<String>) -> Access {
    Access { reading: reading(), ..Access::to_read(bytes, cache, name) }
}

pub fn write<S: Store + 'static>(store: Arc<S>, cache: Arc<Cache>, name: impl Into<String>) -> Access {
    Access { reading: reading(), ..Access::to_write(store, cache, name) }
}

/// Lets the program open what is dressed, and dress what it makes: `args` as they are to be given.
pub fn command<'a>(command: &mut Command, args: &[&'a str]) -> Vec<&'a str> {
    static FILE: OnceLock<tempfile::NamedTempFile> = OnceLock::new();
    let file = FILE.get_or_init(|| {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), IDENTITY).unwrap();
        file
    });
    if is_sealed() {
        command.env("STMOUNT_IDENTITY", file.path());
    }
    let mut args = args.to_vec();
    let makes = matches!(args.first(), Some(&("pack" | "create"))) && args.iter().any(|arg| arg.ends_with(".st"));
    // What is added to a container is dressed as that is.
    if makes && !args.iter().any(|arg| matches!(*arg, "--append" | "--update")) {
        let more: &[&str] = match wanted() {
            As::Plain => &[],
            As::Sealed => &["--recipient", RECIPIENT],
            As::Cascade => &["--recipient", RECIPIENT, "--cipher", "cascade", "--pad"],
            As::Parity => &["--parity", "5%"],
            As::All => &["--recipient", RECIPIENT, "--cipher", "cascade", "--pad", "--parity", "5%"],
        };
        args.splice(1..1, more.iter().copied());
    }
    args
}
