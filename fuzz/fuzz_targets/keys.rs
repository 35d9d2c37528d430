//! Bytes are the payload of a KEYS record: parsed, told of, and tried with a key that opens none of them. Slots of passphrases are
//! left alone: what they ask for is memory and time, within their limits.

#![no_main]

use libfuzzer_sys::fuzz_target;
use std::sync::LazyLock;
use stmount::formats::st::KeySet;
use stmount::key::{Identities, parse_identities};

const IDENTITY: &str = "AGE-SECRET-KEY-1GPQ5YS6YG4RYWJZFFF95CN2WFAG9Z5JN2324V46CT9D9KHZATE0S5FAZ64";

static KNOWN: LazyLock<Identities> = LazyLock::new(|| Identities(parse_identities(IDENTITY.as_bytes()).unwrap()));

fuzz_target!(|bytes: &[u8]| {
    let Ok(keys) = KeySet::parse(bytes) else { return };
    assert_eq!(keys.slots().len(), keys.len());
    let _ = (keys.describe(), keys.cipher_names(), keys.accepts());
    if let Ok(master) = keys.unlock(&*KNOWN, "fuzz") {
        let _ = keys.labels(&master);
        // What opens is what is written again.
        assert_eq!(KeySet::parse(&keys.encode(&master).unwrap()).unwrap().len(), keys.len());
    }
});
