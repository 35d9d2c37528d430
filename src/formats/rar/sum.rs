//! What decoded bytes are checked by: CRC-32, BLAKE2sp, and the sum of RAR 1.3.

use super::cipher::Key;
use super::headers::Sum;
use crate::source::{self, NoSum};
use rars::crypto::rar50::Rar50Keys;

/// The sum of a member, mixed with its key where that is asked for.
pub fn check(sum: &Sum, key: Option<&Key>, is_tweaked: bool) -> Box<dyn source::Sum> {
    let keys = match key {
        Some(Key::Rar50(keys)) if is_tweaked => Some(keys.clone()),
        _ => None,
    };
    match sum {
        Sum::None => Box::new(NoSum),
        Sum::Old(wanted) => Box::new(Old { sum: 0, wanted: *wanted }),
        Sum::Crc(wanted) => Box::new(Crc { hasher: crc32fast::Hasher::new(), wanted: *wanted, keys }),
        Sum::Blake2sp(wanted) => {
            Box::new(Blake { state: Box::new(blake2s_simd::blake2sp::State::new()), wanted: **wanted, keys })
        }
    }
}

struct Crc {
    hasher: crc32fast::Hasher,
    wanted: u32,
    keys: Option<Rar50Keys>,
}

impl source::Sum for Crc {
    fn update(&mut self, bytes: &[u8]) {
        self.hasher.update(bytes);
    }

    fn is_right(&self) -> bool {
        let found = self.hasher.clone().finalize();
        self.keys.as_ref().map_or(found, |keys| keys.mac_crc32(found)) == self.wanted
    }
}

struct Blake {
    state: Box<blake2s_simd::blake2sp::State>,
    wanted: [u8; 32],
    keys: Option<Rar50Keys>,
}

impl source::Sum for Blake {
    fn update(&mut self, bytes: &[u8]) {
        self.state.update(bytes);
    }

    fn is_right(&self) -> bool {
        let found = *self.state.finalize().as_array();
        self.keys.as_ref().map_or(found, |keys| keys.mac_hash32(found)) == self.wanted
    }
}

/// The sum of RAR 1.3: each byte is added, and all is turned by a bit.
struct Old {
    sum: u16,
    wanted: u16,
}

impl source::Sum for Old {
    fn update(&mut self, bytes: &[u8]) {
        self.sum = bytes.iter().fold(self.sum, |sum, byte| sum.wrapping_add(u16::from(*byte)).rotate_left(1));
    }

    fn is_right(&self) -> bool {
        self.sum == self.wanted
    }
}
