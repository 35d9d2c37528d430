use super::*;
use crate::formats::folder::Folder;
use crate::key::sign::SigningKey;
use std::fs;
use std::sync::Arc;

const UID: [u8; 16] = [5; 16];

fn key(number: u8) -> PublicKey {
    SigningKey::from_seed(&[number; 32]).public()
}

fn root(signer: Signer) -> Root {
    Root { uid: UID, sequence: 7, hash: [7; 32], signer, sealed: false }
}

/// What an outcome and what is to be remembered come to, in a word.
fn word(verdict: &Verdict) -> &'static str {
    match (&verdict.outcome, verdict.remember) {
        (Outcome::Fine, None) => "fine",
        (Outcome::Fine, Some(_)) => "fine, remember",
        (Outcome::Note(_), None) => "note",
        (Outcome::Note(_), Some(_)) => "note, remember",
        (Outcome::Warn(_), None) => "warn",
        (Outcome::Warn(_), Some(_)) => "warn, remember",
        (Outcome::Refuse(e), None) if e.kind() == Kind::Untrusted => "refuse",
        (Outcome::Refuse(_), _) => "another error",
    }
}

#[test]
fn each_level_decides_about_each_signature() {
    // The key 1 is pinned, 2 and 3 are not; the first column is the key that was remembered for the container.
    let cases: &[(Option<u8>, Signer, &str, &str)] = &[
        (None, Signer::None, "refuse", "fine"),
        (None, Signer::Bad, "refuse", "refuse"),
        (None, Signer::By(key(1)), "fine, remember", "fine, remember"),
        (None, Signer::By(key(2)), "refuse", "note, remember"),
        (Some(1), Signer::None, "refuse", "warn"),
        (Some(1), Signer::Bad, "refuse", "refuse"),
        (Some(1), Signer::By(key(1)), "fine", "fine"),
        (Some(1), Signer::By(key(2)), "refuse", "warn"),
        (Some(2), Signer::None, "refuse", "warn"),
        (Some(2), Signer::Bad, "refuse", "refuse"),
        (Some(2), Signer::By(key(1)), "fine, remember", "fine, remember"),
        (Some(2), Signer::By(key(2)), "fine", "fine"),
        (Some(2), Signer::By(key(3)), "refuse", "warn"),
    ];
    for (before, signer, high, standard) in cases {
        let mut store = Store::default();
        store.pin(key(1), "one").unwrap();
        // What is known of another container says nothing.
        store.remember([9; 16], key(3), "2026-11-23");
        before.inspect(|before| store.remember(UID, key(*before), "2026-11-23"));
        for (level, expected) in [(Level::High, *high), (Level::Standard, *standard), (Level::Low, "fine")] {
            for sealed in [false, true] {
                let root = Root { sealed, ..root(*signer) };
                let verdict = decide(level, &store, &root, "a.st");
                assert_eq!(word(&verdict), expected, "{level:?}: {before:?} then {signer:?}");
                assert!(verdict.remember.is_none_or(|key| Signer::By(key) == *signer));
            }
        }
    }
}

#[test]
fn each_level_decides_about_the_age() {
    let (older, forked) = (Standing::Older { known: 9, secs: 0 }, Standing::Forked { secs: 0 });
    for (level, expected) in [(Level::High, "refuse"), (Level::Standard, "warn"), (Level::Low, "fine")] {
        let of = |standing| {
            let outcome = decide_age(level, standing, &root(Signer::None), "a.st");
            word(&Verdict { outcome, remember: None })
        };
        assert_eq!((of(older), of(forked)), (expected, expected));
        assert_eq!((of(Standing::New), of(Standing::Same), of(Standing::Newer)), ("fine", "fine", "fine"));
    }
    let Outcome::Warn(what) = decide_age(Level::Standard, older, &root(Signer::None), "a.st") else { panic!() };
    assert!(what.contains("state 7 is older than the state 9 that was seen on 1970-01-01"), "{what}");
    assert!(what.contains("`stmount trust forget a.st`"), "{what}");
}

/// Nothing is asked of the tree.
fn volume(root: Option<Root>) -> Volume {
    let tree = Arc::new(Folder::open(Path::new("/")).unwrap());
    Volume { root, ..Volume::read_only(tree, "st") }
}

/// A place for what is trusted and seen.
struct Desk(tempfile::TempDir);

impl Desk {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn trust(&self, level: Level) -> Trust {
        Trust::within(level, &self.0.path().join("config"), &self.0.path().join("state"))
    }

    fn open(&self, level: Level, root: Root) -> Result<Vec<String>> {
        self.trust(level).judge("a.st", volume(Some(root))).map(|volume| volume.notes)
    }

    #[track_caller]
    fn quiet(&self, level: Level, root: Root) {
        assert_eq!(self.open(level, root).unwrap(), Vec::<String>::new());
    }

    #[track_caller]
    fn told(&self, root: Root, part: &str) {
        let notes = self.open(Level::Standard, root).unwrap();
        assert!(notes.len() == 1 && notes[0].contains(part), "{notes:?}");
    }

    #[track_caller]
    fn refused(&self, level: Level, root: Root) {
        let e = self.open(level, root).unwrap_err();
        assert!(e.kind() == Kind::Untrusted && e.to_string().starts_with("a.st: "), "{e:?}");
    }

    fn is_empty(&self) -> bool {
        fs::read_dir(self.0.path()).unwrap().count() == 0
    }

    fn store(&self) -> Store {
        Store::load(&self.0.path().join("config")).unwrap()
    }
}

#[test]
fn nothing_is_written_of_what_nobody_vouches_for_and_at_the_level_low() {
    let desk = Desk::new();
    desk.quiet(Level::Standard, root(Signer::None));
    for signer in [Signer::None, Signer::Bad, Signer::By(key(1))] {
        desk.quiet(Level::Low, Root { sealed: true, ..root(signer) });
        desk.trust(Level::Low).made(&Root { sealed: true, ..root(signer) }).unwrap();
    }
    desk.refused(Level::Standard, root(Signer::Bad));
    desk.refused(Level::High, root(Signer::By(key(1))));
    desk.trust(Level::Standard).judge("a.zip", volume(None)).unwrap();
    let e = desk.trust(Level::High).judge("a.zip", volume(None)).err().unwrap();
    assert!(e.kind() == Kind::Untrusted && e.to_string().contains("carries no signatures"), "{e}");
    assert!(desk.is_empty());
}

#[test]
fn the_key_of_the_first_use_is_asked_for_from_then_on() {
    let desk = Desk::new();
    desk.told(root(Signer::By(key(2))), "which was not known");
    desk.quiet(Level::Standard, root(Signer::By(key(2))));
    desk.quiet(Level::High, root(Signer::By(key(2))));
    desk.told(root(Signer::By(key(3))), "was signed by");
    desk.told(root(Signer::None), "not signed any more");
    desk.refused(Level::High, root(Signer::By(key(3))));
    assert_eq!(desk.store().first(&UID), Some(key(2)));
    // A pinned key may take over.
    Store::change(&desk.0.path().join("config"), |store| store.pin(key(3), "three")).unwrap();
    desk.quiet(Level::High, root(Signer::By(key(3))));
    assert_eq!(desk.store().first(&UID), Some(key(3)));
}

#[test]
fn an_earlier_copy_is_noticed_of_what_is_signed_and_of_what_is_sealed() {
    for (signer, sealed) in [(Signer::By(key(2)), false), (Signer::None, true)] {
        let (desk, at) = (Desk::new(), |sequence, hash| Root { sequence, hash: [hash; 32], sealed, ..root(signer) });
        desk.open(Level::Standard, at(7, 1)).unwrap();
        desk.quiet(Level::Standard, at(9, 2));
        desk.told(at(8, 3), "the state 8 is older than the state 9");
        desk.told(at(9, 3), "two copies of it were changed");
        desk.refused(Level::High, at(9, 3));
        desk.trust(Level::Standard).made(&at(10, 1)).unwrap();
        desk.told(at(9, 2), "the state 9 is older than the state 10");
        desk.quiet(Level::Low, at(1, 1));
    }
}

#[test]
fn whoever_is_not_trusted_cannot_make_a_container_look_old() {
    let desk = Desk::new();
    let at = |sequence, signer| Root { sequence, ..root(signer) };
    desk.open(Level::Standard, at(7, Signer::By(key(2)))).unwrap();
    desk.told(at(u64::MAX, Signer::By(key(3))), "was signed by");
    desk.quiet(Level::Standard, at(8, Signer::By(key(2))));
}

#[test]
fn a_store_that_cannot_be_read_is_told_or_refused_and_never_written_over() {
    let desk = Desk::new();
    let (config, state) = (desk.0.path().join("config"), desk.0.path().join("state"));
    places::make(&config).unwrap();
    let path = config.join(NAME);
    places::write(&path, b"nonsense\n").unwrap();
    let notes = desk.open(Level::Standard, root(Signer::By(key(2)))).unwrap();
    assert!(notes[0].contains("nobody is trusted") && notes[0].contains("line 1"), "{notes:?}");
    assert_eq!(desk.open(Level::High, root(Signer::By(key(2)))).unwrap_err().kind(), Kind::Invalid);
    assert_eq!(fs::read(&path).unwrap(), b"nonsense\n");
    assert!(!state.exists());
    fs::remove_file(&path).unwrap();

    desk.open(Level::Standard, root(Signer::By(key(2)))).unwrap();
    let seen = state.join("seen").join("05".repeat(16));
    fs::write(&seen, "nonsense").unwrap();
    desk.told(root(Signer::By(key(2))), "is not known");
    assert_eq!(desk.open(Level::High, root(Signer::By(key(2)))).unwrap_err().kind(), Kind::Invalid);
    assert_eq!(fs::read(&seen).unwrap(), b"nonsense");
}

#[test]
fn where_nothing_can_be_written_that_is_told_and_no_reason_to_refuse() {
    let desk = Desk::new();
    // A file where the directories should be.
    for dir in ["config", "state"] {
        fs::write(desk.0.path().join(dir), "").unwrap();
    }
    let notes = desk.open(Level::Standard, root(Signer::By(key(2)))).unwrap();
    assert!(notes.len() == 3 && notes[1].contains("is not remembered"), "{notes:?}");
    let nowhere = Trust { level: Ok(Level::Standard), config: None, state: None };
    assert_eq!(nowhere.judge("a.st", volume(Some(root(Signer::By(key(2)))))).unwrap().notes.len(), 1);
}

#[test]
fn a_level_that_is_no_level_opens_nothing_that_has_a_root() {
    let wrong = Trust { level: Err("STMOUNT_TRUST: nonsense".into()), ..Trust::nobody() };
    assert_eq!(wrong.judge("a.st", volume(Some(root(Signer::None)))).err().unwrap().kind(), Kind::Usage);
    assert_eq!(("low".parse::<Level>().unwrap(), Level::default()), (Level::Low, Level::Standard));
    assert!("LOW".parse::<Level>().is_err());
}
