//! Bytes are a side file, the parity of a file of noise: opened, read through, surveyed, and repaired by. The checks of headers and
//! descriptors are made right, so that what they say is looked at.

#![no_main]

use libfuzzer_sys::fuzz_target;
use std::sync::{Arc, LazyLock};
use stmount::codec::id::Id;
use stmount::source::parity::{DESCRIPTOR_LEN, SIDE_HEADER_LEN, Side};
use stmount::source::{Memory, ReadAt};

/// What the side files are of.
static DATA: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut bytes = vec![0; 100_000];
    blake3::Hasher::new().finalize_xof().fill(&mut bytes);
    bytes
});

/// Makes the check of a structure right whose last 16 bytes it is, and whose identity is at an offset.
fn seal(bytes: &mut [u8], identity: usize) {
    let (said, check) = bytes.split_at_mut(bytes.len() - 16);
    let id = Id::of_parts(&[&said[identity..identity + 16].to_vec(), said]);
    check.copy_from_slice(&id.0[..16]);
}

fuzz_target!(|bytes: &[u8]| {
    let mut side = bytes.to_vec();
    let (header, descriptor) = (SIDE_HEADER_LEN as usize, DESCRIPTOR_LEN as usize);
    for at in 0..side.len() {
        if side[at..].starts_with(b"\xabSTPAR\x1a\n") && at + descriptor <= side.len() {
            seal(&mut side[at..at + descriptor], 64);
        } else if side[at..].starts_with(b"\x89STPAR\r\n") && at + header <= side.len() {
            seal(&mut side[at..at + header], 16);
        }
    }
    let Ok(side) = Side::open(Arc::new(Memory::new(side)), &|_| true) else { return };
    let mut rotten = DATA.clone();
    rotten[20_000..22_000].fill(0);
    let mender = side.mender(Arc::new(Memory::new(rotten)));
    let mut piece = vec![0; 10_000];
    for at in [0, 15_000, 21_000, 95_000, u64::MAX - 5000] {
        let _ = mender.read_at(at, &mut piece);
    }
    // Work is bounded by what the side file has: its lists of hashes must be there.
    let Ok(found) = mender.survey_all(&|_| true) else { return };
    let _ = side.repairs(&mender, found, &|_| true, &mut |_| Ok(()));
});
