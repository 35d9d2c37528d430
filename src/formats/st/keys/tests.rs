//! Known answers, all of which tests/keys_vectors.py computes from FORMAT.md alone, and what must not be.

use super::*;
use crate::key::{Cost, Identity, Keyfile, NoKeys, Recipient, Secret, parse_identities};
use proptest::prelude::*;

const RECIPIENT: &str = "age10xnrrmk7r0uunrcjqvkdatwsu7s8jwv0c7rt3rxggmkgntu955dq25yyzj";
const IDENTITY: &str = "AGE-SECRET-KEY-1GPQ5YS6YG4RYWJZFFF95CN2WFAG9Z5JN2324V46CT9D9KHZATE0S5FAZ64";
const SSH_RECIPIENT: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBdFU7RW3d/GkI7KscEB/mqyHiuqBhd5W31DpjSCmT/V";
const SSH_IDENTITY: &str = "-----BEGIN OPENSSH PRIVATE KEY-----\n\
     b3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQAAAAAAAAABAAAAMwAAAAtzc2gtZWQyNTUx\n\
     OQAAACAXRVO0Vt3fxpCOyrHBAf5qsh4rqgYXeVt9Q6Y0gpk/1QAAAIgyKD6BMig+gQAAAAtzc2gt\n\
     ZWQyNTUxOQAAACAXRVO0Vt3fxpCOyrHBAf5qsh4rqgYXeVt9Q6Y0gpk/1QAAAEBgYWJjZGVmZ2hp\n\
     amtsbW5vcHFyc3R1dnd4eXp7fH1+fxdFU7RW3d/GkI7KscEB/mqyHiuqBhd5W31DpjSCmT/VAAAA\n\
     AAECAwQF\n\
     -----END OPENSSH PRIVATE KEY-----\n";
const KEYFILE: &str = "d6425d58c025b355c984641c379fc9aa7f51b8b9dcd330f46c11509e72ba0a72";
const LABELS_KEY: &str = "87b7ac102056d4e1ee5a1369020c17ac399624b293d9a011b7c2473c30126cb6";
const MAC_KEY: &str = "e6c9e7e0227850f77b060f0d4da3d4e9c1eadd5fc5d7955f8303ae9503bc12bc";
const SLOTS: [&str; 5] = [
    // 1
    "01004c004000000003000000020000000102030405060708090a0b0c0d0e0f107766c9240a9c96308caa3b7764329665ae11\
     b0d9b491affff66f535a331de68055019cf4b7584885031d27a1f54acf48",
    // 2
    "020050004d27bcee3135c4944b28d27dd809b07be10c35160d20131caa7e85575498d07cf35978adcd5b9eeaf794ba59f12b\
     4f16b45c49f417beaf581a74f5a6887824181233fa58ca6d4d33460322f475b89515",
    // 3
    "030040003132333435363738393a3b3c3d3e3f401e29b983366077a7a8d48e2c70374c80e90c4fd48f4b0ad1df6ddc29d10f\
     726d5f409cb8563655480ee9d459e0871d1b",
    // 4
    "04004c004000000003000000020000004142434445464748494a4b4c4d4e4f505bea696b28ca4bf845d61ed9efce3d24e936\
     206bc8bf90161161618e98d00479aeafc4dbbde16e1b799bcc768ef1100e",
    // 5
    "050050000233f006ef4bed144ea0a5bb46c7067c7c2acec5f8cc811f3df59fdcd5ac761497f9e79a6b58cffb546b1a95a964\
     aa203143296e73a5eb3d593abc46a39a4993dbbf65e6ae88c9ba7c8606d870feb6e5",
];
/// What stands before the slots, and behind them.
const FRONT: &str = "a0a1a2a3a4a5a6a7a8a9aaabacadaeaf01000102010002000500";
const REST: &str = "6c0000007172737475767778797a7b7cd6396f37a795d8252be6e9399b14c9c7a4c4ca45a6b8f51db5a95866a5416a531bd3\
     b2a18009cc1d701afcce6510cebd7d28638aaaad80c62ff241140faeecfad22e28fdd8435cf8923b56adb82cb497baae0930\
     bd009c4397ce200d2dcae1199184ece075b4a76304a8076b4fa0c01fe724fa5f124c1074a6a619e42e07f8ab";

const UID: [u8; 16] = [0xa0, 0xa1, 0xa2, 0xa3, 0xa4, 0xa5, 0xa6, 0xa7, 0xa8, 0xa9, 0xaa, 0xab, 0xac, 0xad, 0xae, 0xaf];
const PASSPHRASE: &[u8] = b"correct horse battery staple";
const COST: Cost = Cost { memory_kib: 64, passes: 3, lanes: 2 };

/// What somebody has and knows.
#[derive(Clone, Default)]
struct Has {
    passphrases: Vec<&'static [u8]>,
    keyfiles: Vec<Keyfile>,
    identities: Vec<Identity>,
}

impl crate::key::Keys for Has {
    fn next(&self, _what: &str, wrong: usize) -> Option<Secret> {
        self.passphrases.get(wrong).map(|known| secret(known))
    }

    fn keyfiles(&self) -> &[Keyfile] {
        &self.keyfiles
    }

    fn identities(&self) -> &[Identity] {
        &self.identities
    }
}

fn has_passphrase(passphrase: &'static [u8]) -> Has {
    Has { passphrases: vec![passphrase], ..Has::default() }
}

fn has_keyfile(keyfile: Keyfile) -> Has {
    Has { keyfiles: vec![keyfile], ..Has::default() }
}

fn has_both(passphrase: &'static [u8], keyfile: Keyfile) -> Has {
    Has { passphrases: vec![passphrase], ..has_keyfile(keyfile) }
}

fn has_identity(text: &str) -> Has {
    Has { identities: parse_identities(text.as_bytes()).unwrap(), ..Has::default() }
}

fn secret(bytes: &[u8]) -> Secret {
    Secret::new(bytes.to_vec())
}

fn bytes<const N: usize>(from: u8) -> [u8; N] {
    std::array::from_fn(|n| from + n as u8)
}

fn master() -> Master {
    Master::new(Zeroizing::new(bytes(0)))
}

fn keyfile() -> Keyfile {
    Keyfile::new(&bytes::<64>(0)).unwrap()
}

fn other_keyfile() -> Keyfile {
    Keyfile::new(&bytes::<64>(1)).unwrap()
}

/// An identity that nothing here is sealed for.
const STRANGER: &str = "AGE-SECRET-KEY-1QYQSZQGPQYQSZQGPQYQSZQGPQYQSZQGPQYQSZQGPQYQSZQGPQYQSZ9K4CN";

fn ssh_identity() -> Has {
    has_identity(SSH_IDENTITY)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn passphrase_slot() -> NewSlot {
    NewSlot::Passphrase { passphrase: secret(PASSPHRASE), cost: COST }
}

fn both_slot() -> NewSlot {
    NewSlot::PassphraseAndKeyfile { passphrase: secret(PASSPHRASE), keyfile: keyfile(), cost: COST }
}

fn recipient_slot(text: &str) -> NewSlot {
    NewSlot::Recipient(Recipient::parse(text).unwrap())
}

fn all_slots() -> Vec<NewSlot> {
    let keyfile = NewSlot::Keyfile(keyfile());
    vec![passphrase_slot(), recipient_slot(RECIPIENT), keyfile, both_slot(), recipient_slot(SSH_RECIPIENT)]
}

/// The payload of the vectors.
fn payload() -> Vec<u8> {
    let mut count = 0;
    let mut random = |into: &mut [u8]| {
        into.iter_mut().for_each(|byte| (count, *byte) = (count + 1, count + 1));
        Ok(())
    };
    let mut set = KeySet::new(UID, &[AES_256_GCM_SIV, XCHACHA20_POLY1305], true);
    for (n, slot) in all_slots().into_iter().enumerate() {
        let label = Label { added: 1_700_000_000 + n as u64, text: format!("slot {n}") };
        set.add_with(&master(), slot, label, &mut random).unwrap();
    }
    set.encode_with(&master(), &mut random).unwrap()
}

/// A set with these slots, as it is read.
fn set_of(slots: Vec<NewSlot>) -> KeySet {
    let mut set = KeySet::new(UID, &[AES_256_GCM_SIV], false);
    slots.into_iter().for_each(|slot| set.add(&master(), slot, "one").unwrap());
    KeySet::parse(&set.encode(&master()).unwrap()).unwrap()
}

fn refused(slots: Vec<NewSlot>, has: &dyn crate::key::Keys) -> Error {
    set_of(slots).unlock(has, "a.st").err().unwrap()
}

#[test]
fn known_answers() {
    assert_eq!(hex(keyfile().expose()), KEYFILE);
    assert_eq!(hex(&*master().derive("labels", &UID)), LABELS_KEY);
    assert_eq!(hex(&*master().derive("keys mac", &UID)), MAC_KEY);
    let whole = hex(&payload());
    SLOTS.iter().for_each(|slot| assert!(whole.contains(slot), "{slot}"));
    assert_eq!(whole, format!("{FRONT}{}{REST}", SLOTS.concat()));
}

#[test]
fn each_way_opens_and_tells_the_same() {
    let set = KeySet::parse(&payload()).unwrap();
    let (both, ssh) = (has_both(PASSPHRASE, keyfile()), ssh_identity());
    for has in [has_passphrase(PASSPHRASE), has_identity(IDENTITY), has_keyfile(keyfile()), both, ssh] {
        let opened = set.unlock(&has, "a.st").unwrap();
        assert_eq!(opened.expose(), master().expose());
        let labels = set.labels(&opened).unwrap();
        assert_eq!((labels.len(), labels[4].text.as_str(), labels[4].added), (5, "slot 4", 1_700_000_004));
    }
    assert_eq!((set.ciphers(), set.padded(), set.len()), (&[1, 2][..], true, 5));
    // Passphrase and keyfile open where only both do.
    let only_both = set_of(vec![both_slot()]);
    assert!(only_both.unlock(&has_both(PASSPHRASE, keyfile()), "").is_ok());
}

#[test]
fn what_is_missing_has_an_error_of_its_own() {
    let kind = |slots: fn() -> Vec<NewSlot>, has: &dyn crate::key::Keys| refused(slots(), has).kind();
    let passphrase: fn() -> Vec<NewSlot> = || vec![passphrase_slot()];
    assert_eq!(kind(passphrase, &NoKeys), Kind::NeedsPassword);
    assert_eq!(kind(passphrase, &has_passphrase(b"wrong")), Kind::WrongPassword);
    assert_eq!(kind(passphrase, &has_identity(STRANGER)), Kind::NeedsPassword);
    assert_eq!(kind(passphrase, &has_keyfile(keyfile())), Kind::NeedsPassword);
    let recipient: fn() -> Vec<NewSlot> = || vec![recipient_slot(RECIPIENT)];
    assert_eq!(kind(recipient, &NoKeys), Kind::UnknownRecipient);
    assert_eq!(kind(recipient, &has_passphrase(PASSPHRASE)), Kind::UnknownRecipient);
    assert_eq!(kind(recipient, &has_identity(STRANGER)), Kind::UnknownRecipient);
    assert_eq!(kind(recipient, &ssh_identity()), Kind::UnknownRecipient);
    let by_keyfile: fn() -> Vec<NewSlot> = || vec![NewSlot::Keyfile(keyfile())];
    assert_eq!(kind(by_keyfile, &NoKeys), Kind::MissingKeyfile);
    assert_eq!(kind(by_keyfile, &has_keyfile(other_keyfile())), Kind::MissingKeyfile);
    let both: fn() -> Vec<NewSlot> = || vec![both_slot()];
    assert_eq!(kind(both, &has_passphrase(PASSPHRASE)), Kind::MissingKeyfile);
    assert_eq!(kind(both, &has_keyfile(keyfile())), Kind::NeedsPassword);
    assert_eq!(kind(both, &has_both(b"wrong", keyfile())), Kind::WrongPassword);
    assert_eq!(kind(both, &has_both(PASSPHRASE, other_keyfile())), Kind::WrongPassword);
    assert_eq!(kind(all_slots, &has_identity(STRANGER)), Kind::UnknownRecipient);
    assert_eq!(kind(all_slots, &NoKeys), Kind::NeedsPassword);
}

#[test]
fn a_refusal_says_what_would_open_it() {
    let advice = |slots| refused(slots, &NoKeys).advice().unwrap().to_owned();
    assert!(
        advice(all_slots())
            .contains("a passphrase; a passphrase together with a keyfile; a keyfile; the identity of one of 2")
    );
    assert_eq!(advice(vec![recipient_slot(RECIPIENT)]), "--identity FILE; it opens with: the identity of a recipient");
    let wrong = refused(vec![passphrase_slot()], &has_passphrase(b"wrong"));
    assert_eq!(wrong.advice(), Some("it opens with: a passphrase"));
}

#[test]
fn nobody_is_asked_for_a_passphrase_that_cannot_help() {
    struct Nosy;
    impl crate::key::Keys for Nosy {
        fn next(&self, _: &str, _: usize) -> Option<Secret> {
            panic!("asked for a passphrase")
        }
    }
    for slots in [vec![recipient_slot(RECIPIENT)], vec![NewSlot::Keyfile(keyfile())], vec![both_slot()]] {
        refused(slots, &Nosy);
    }
    // A cost that is not paid is refused before as well.
    let mut set = set_of(vec![passphrase_slot()]);
    set.slots[0].body[4..8].copy_from_slice(&65u32.to_le_bytes());
    assert_eq!(set.unlock(&Nosy, "").err().unwrap().kind(), Kind::Limit);
    let dear = set_of(vec![passphrase_slot(), passphrase_slot(), passphrase_slot()]);
    let mut dear = KeySet { slots: dear.slots, ..dear };
    for slot in &mut dear.slots {
        slot.body[..8].copy_from_slice(&[(2u32 << 20).to_le_bytes(), 64u32.to_le_bytes()].concat());
    }
    assert_eq!(dear.unlock(&Nosy, "").err().unwrap().kind(), Kind::Limit);
}

#[test]
fn a_list_that_was_changed_is_not_believed() {
    let whole = payload();
    for at in 0..whole.len() {
        let mut bad = whole.clone();
        bad[at] ^= 1;
        let opened = KeySet::parse(&bad).and_then(|set| set.unlock(&has_identity(IDENTITY), ""));
        assert!(opened.is_err(), "byte {at}");
    }
    // A slot is not taken away, or taken over from another container, without the key.
    let mut set = KeySet::parse(&whole).unwrap();
    set.slots.pop();
    let changed = set.unlock(&has_identity(IDENTITY), "").err().unwrap();
    assert_eq!((changed.kind(), changed.to_string().as_str()), (Kind::Header, "the list of keys was changed"));
    let mut set = KeySet::parse(&whole).unwrap();
    set.uid[0] ^= 1;
    assert_eq!(set.unlock(&has_passphrase(PASSPHRASE), "").err().unwrap().kind(), Kind::Header);
    // Nor does another master key write it anew.
    let other = Master::new(Zeroizing::new([1; 32]));
    let mut set = KeySet::parse(&whole).unwrap();
    assert!(set.encode(&other).is_err() && set.labels(&other).is_err());
    assert!(set.add(&other, passphrase_slot(), "").is_err() && set.remove(&other, 0).is_err());
    assert!(set.moved(&other, UID, &[1], false).is_err());
}

#[test]
fn slots_come_and_go_but_for_the_last() {
    let mut set = KeySet::parse(&payload()).unwrap();
    let master = set.unlock(&has_identity(IDENTITY), "").unwrap();
    set.remove(&master, 1).unwrap();
    set.add(&master, recipient_slot(RECIPIENT), "back again").unwrap();
    assert_eq!(set.remove(&master, 5).unwrap_err().kind(), Kind::NotFound);
    let texts: Vec<_> = set.labels(&master).unwrap().into_iter().map(|label| label.text).collect();
    assert_eq!(texts, ["slot 0", "slot 2", "slot 3", "slot 4", "back again"]);
    let again = KeySet::parse(&set.encode(&master).unwrap()).unwrap();
    assert_eq!(again.unlock(&has_identity(IDENTITY), "").unwrap().expose(), master.expose());
    for _ in 0..4 {
        set.remove(&master, 0).unwrap();
    }
    assert_eq!(set.remove(&master, 0).unwrap_err().kind(), Kind::NotPermitted);
    assert_eq!(KeySet::new(UID, &[1], false).encode(&master).unwrap_err().kind(), Kind::Usage);
}

#[test]
fn slots_move_to_another_container() {
    let set = KeySet::parse(&payload()).unwrap();
    let moved = set.moved(&master(), [7; 16], &[AES_256_GCM_SIV], false).unwrap();
    let moved = KeySet::parse(&moved.encode(&master()).unwrap()).unwrap();
    assert_eq!(moved.unlock(&ssh_identity(), "").unwrap().expose(), master().expose());
    assert_eq!(moved.labels(&master()).unwrap(), set.labels(&master()).unwrap());
    assert_eq!((moved.uid(), moved.padded()), (&[7; 16], false));
}

#[test]
fn what_is_not_known_is_kept_and_passed_over() {
    let mut set = KeySet::parse(&payload()).unwrap();
    let mut labels = set.labels(&master()).unwrap();
    set.slots.push(Slot { kind: 6, flags: 3, body: vec![1; 1000] });
    set.slots.push(Slot { flags: 1, ..set.slots[0].clone() });
    labels.extend([labels[0].clone(), labels[0].clone()]);
    set.flags |= 0x80;
    set.changed(labels);
    let bytes = set.encode(&master()).unwrap();
    let set = KeySet::parse(&bytes).unwrap();
    let master = set.unlock(&has_identity(IDENTITY), "").unwrap();
    assert_eq!(set.encode(&master).unwrap(), bytes);
    assert!(set.accepts().ends_with("2 ways that this version does not know"), "{}", set.accepts());
    assert!(set.describe()[6].contains("of kind 6"), "{:?}", set.describe());
    // Alone, they open nothing.
    let mut alone = set.clone();
    alone.slots.drain(..5);
    assert_eq!(alone.unlock(&has_passphrase(PASSPHRASE), "").err().unwrap().kind(), Kind::UnknownCipher);
}

#[test]
fn numbers_over_the_limits_are_refused() {
    let whole = payload();
    let kind = |at: usize, bytes: &[u8]| {
        let mut bad = whole.clone();
        bad[at..at + bytes.len()].copy_from_slice(bytes);
        KeySet::parse(&bad).err().unwrap().kind()
    };
    assert_eq!(kind(16, &[2]), Kind::Unsupported);
    assert_eq!(kind(19, &[5]), Kind::Limit);
    assert_eq!(kind(24, &[65, 0]), Kind::Limit);
    assert_eq!(kind(28, &[1, 4]), Kind::Limit);
    assert_eq!(kind(28, &[75, 0]), Kind::Header);
    assert_eq!(KeySet::parse(&vec![0; (128 << 10) + 1]).err().unwrap().kind(), Kind::Limit);
    for len in 0..whole.len() {
        assert_eq!(KeySet::parse(&whole[..len]).err().unwrap().kind(), Kind::Header, "{len}");
    }
    let mut set = set_of(vec![recipient_slot(RECIPIENT)]);
    let too_long = set.add(&master(), recipient_slot(RECIPIENT), &"x".repeat(201));
    assert_eq!(too_long.unwrap_err().kind(), Kind::Usage);
    for _ in 1..64 {
        set.add(&master(), recipient_slot(RECIPIENT), &"x".repeat(200)).unwrap();
    }
    assert_eq!(set.add(&master(), recipient_slot(RECIPIENT), "").unwrap_err().kind(), Kind::Limit);
    assert_eq!(KeySet::parse(&set.encode(&master()).unwrap()).unwrap().len(), 64);
}

#[test]
fn a_passphrase_that_nobody_would_wait_for_is_not_added() {
    let slot = |passphrase: &[u8], cost| NewSlot::Passphrase { passphrase: secret(passphrase), cost };
    let mut set = set_of(vec![recipient_slot(RECIPIENT)]);
    assert_eq!(set.add(&master(), slot(b"", Cost::LEAST), "").unwrap_err().kind(), Kind::Usage);
    let too_dear = Cost { memory_kib: 1 << 20, passes: 65, lanes: 1 };
    assert_eq!(set.add(&master(), slot(b"x", too_dear), "").unwrap_err().kind(), Kind::Limit);
    assert_eq!(set.len(), 1);
}

#[test]
fn people_are_told_what_it_is() {
    let said = KeySet::parse(&payload()).unwrap().describe();
    assert_eq!(said[0], "sealed with AES-256-GCM-SIV, then XChaCha20-Poly1305; lengths are padded");
    assert_eq!(said[1], "slot 1: passphrase (Argon2id, 1 MiB, passes: 3, lanes: 2)");
    assert_eq!(said[5], "slot 5: recipient ssh-ed25519");
}

proptest! {
    #[test]
    fn any_bytes_are_parsed_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = KeySet::parse(&bytes);
    }

    #[test]
    fn what_is_parsed_is_written_as_it_was(at in 0usize..700, byte in any::<u8>()) {
        let mut bytes = payload();
        if let Some(into) = bytes.get_mut(at) {
            *into = byte;
        }
        if let Ok(set) = KeySet::parse(&bytes) {
            let Labels::Sealed(sealed) = &set.labels else { unreachable!() };
            prop_assert_eq!(&set.front(sealed)[..], &bytes[..bytes.len() - MAC]);
        }
    }
}
