//! Anchors: places that contents choose by themselves, so that two stretches with equal bytes in them choose the same.
//!
//! A rolling hash over the last 64 bytes picks one place of 2^bits. What two stretches share shows in the hashes they have in
//! common, wherever in them it stands.

/// A rolling hash of 64 bytes.
pub struct Anchors {
    gear: Box<[u64; 256]>,
    bits: u32,
}

impl Anchors {
    /// One place of 2^`bits`, 1 to 63.
    pub fn new(bits: u32) -> Self {
        Self { gear: gear(), bits }
    }

    /// The hashes at the places of these bytes, and how many bytes lie before the end of each.
    pub fn of(&self, bytes: &[u8]) -> impl Iterator<Item = (u64, usize)> {
        let (mut hash, silent) = (0u64, 64 - self.bits);
        bytes.iter().enumerate().filter_map(move |(at, byte)| {
            hash = (hash << 1).wrapping_add(self.gear[usize::from(*byte)]);
            (hash >> silent == 0).then_some((hash, at + 1))
        })
    }
}

/// A fixed table of random numbers (splitmix64), one for each byte.
fn gear() -> Box<[u64; 256]> {
    let mut state = 0x5354_4d4f_554e_5431u64;
    let mut table = Box::new([0; 256]);
    for slot in table.iter_mut() {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        *slot = mixed ^ (mixed >> 31);
    }
    table
}
