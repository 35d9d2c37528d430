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
use stmount::key::sign::{Signing, SigningKey};
use stmount::key::{Identities, Recipient, parse_identities};
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
    /// With the signature of a key, whenever it is written.
    Signed,
    /// Sealed by both ciphers, signed, and with parity.
    All,
}

pub fn wanted() -> As {
    match std::env::var("STMOUNT_TEST_AS").as_deref() {
        Err(_) | Ok("plain") => As::Plain,
        Ok("sealed") => As::Sealed,
        Ok("cascade") => As::Cascade,
        Ok("parity") => As::Parity,
        Ok("signed") => As::Signed,
        Ok("all") => As::All,
        Ok(other) => panic!("STMOUNT_TEST_AS={other} is none of plain, sealed, cascade, parity, signed, all"),
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

/// Whether containers have parity, which makes good what is lost.
pub fn mends() -> bool {
    matches!(wanted(), As::Parity | As::All)
}

/// Arguments of the reference reader, which open what is sealed.
pub fn of_reader<'a>(args: &[&'a std::path::Path]) -> Vec<&'a std::path::Path> {
    let identity: &'static std::path::Path = Box::leak(Files::all().path("identity").into_boxed_path());
    [args, &["--identity".as_ref(), identity]].concat()
}

pub fn is_sealed() -> bool {
    matches!(wanted(), As::Sealed | As::Cascade | As::All)
}

fn seal() -> Option<Arc<Seal>> {
    match wanted() {
        As::Plain | As::Parity | As::Signed => None,
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
    mends().then_some(some)
}

/// What signs.
pub fn signing() -> Signing {
    match wanted() {
        As::Signed | As::All => Signing::by(SigningKey::from_seed(&[7; 32])),
        _ => Signing::default(),
    }
}

/// A packer that dresses what it packs.
pub fn packer() -> Packer {
    Packer { seal: seal(), parity: parity(), signing: signing(), ..Packer::default() }
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
    st::create(&mut bytes, (0, 0), seal().as_ref(), (parity(), &signing())).unwrap();
    bytes
}

pub fn reading() -> Arc<Reading> {
    let keys = Arc::new(Identities(parse_identities(IDENTITY.as_bytes()).unwrap()));
    Arc::new(Reading { keys, ..Reading::default() })
}

pub fn read(bytes: Arc<dyn ReadAt>, cache: Arc<Cache>, name: impl Into<String>) -> Access {
    Access { reading: reading(), ..Access::to_read(bytes, cache, name) }
}

pub fn write<S: Store + 'static>(store: Arc<S>, cache: Arc<Cache>, name: impl Into<String>) -> Access {
    Access { reading: reading(), signing: signing(), ..Access::to_write(store, cache, name) }
}

/// Files of the tests: an identity, a key that signs, and what the program remembers.
struct Files {
    dir: tempfile::TempDir,
}

impl Files {
    fn all() -> &'static Self {
        static FILES: OnceLock<Files> = OnceLock::new();
        FILES.get_or_init(|| {
            let dir = tempfile::tempdir().unwrap();
            std::fs::write(dir.path().join("identity"), IDENTITY).unwrap();
            let key = SigningKey::from_seed(&[7; 32]);
            std::fs::write(dir.path().join("key"), key.to_file("2026-01-01 00:00:00").as_bytes()).unwrap();
            Self { dir }
        })
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.dir.path().join(name)
    }
}

/// Lets the program open what is dressed, and dress what it makes: `args` as they are to be given. What it remembers of
/// containers is nobody's business.
pub fn command(command: &mut Command, args: &[&str]) -> Vec<String> {
    let files = Files::all();
    command.env("STMOUNT_CONFIG_DIR", files.path("config")).env("STMOUNT_STATE_DIR", files.path("state"));
    if is_sealed() {
        command.env("STMOUNT_IDENTITY", files.path("identity"));
    }
    let mut args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
    let makes = args.first().is_some_and(|verb| verb == "pack" || verb == "create");
    let adds = args.iter().any(|arg| arg == "--append" || arg == "--update");
    // What is added to a container is dressed as that is.
    if makes && !adds && args.iter().any(|arg| arg.ends_with(".st")) {
        let sign = format!("--sign={}", files.path("key").display());
        let cascade = ["--recipient", RECIPIENT, "--cipher", "cascade", "--pad"];
        let (seal, parity, sign): (&[&str], &[&str], &[&str]) = match wanted() {
            As::Plain => (&[], &[], &[]),
            As::Sealed => (&cascade[..2], &[], &[]),
            As::Cascade => (&cascade, &[], &[]),
            As::Parity => (&[], &["--parity", "5%"], &[]),
            As::Signed => (&[], &[], &[&sign]),
            As::All => (&cascade, &["--parity", "5%"], &[&sign]),
        };
        // What a test asks for itself stays as it asks.
        let asks = |option: &str| args.iter().any(|arg| arg.starts_with(option));
        let seal = if asks("--encrypt") || asks("--recipient") { &[] } else { seal };
        let parity = if asks("--parity") { &[] } else { parity };
        let more = [seal, parity, sign].concat();
        args.splice(1..1, more.iter().map(|word| (*word).to_owned()));
    }
    args
}
