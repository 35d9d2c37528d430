//! Whether bytes are those that somebody saw before: a fingerprint that is taken in no time, however many there are.

use super::ReadAt;
use crate::error::Result;

/// A fingerprint of bytes: their length, both ends, and samples from in between.
///
/// It tells archives apart, and states of one. Who changes a few bytes in the middle on purpose may go unseen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    pub len: u64,
    pub hash: [u8; blake3::OUT_LEN],
}

/// Bytes at either end that are part of it.
const END: u64 = 64 << 10;
/// Samples in between, and their length.
const SAMPLES: u64 = 64;
const SAMPLE: u64 = 512;

impl Stamp {
    pub fn of(bytes: &dyn ReadAt) -> Result<Self> {
        Self::of_front(bytes, bytes.len()?)
    }

    /// That of the first `len` bytes alone.
    pub fn of_front(bytes: &dyn ReadAt, len: u64) -> Result<Self> {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&len.to_le_bytes());
        let mut add = |at: u64, most: u64| -> Result<()> {
            let mut piece = vec![0; most.min(len - at) as usize];
            bytes.read_exact_at(at, &mut piece)?;
            hasher.update(&piece);
            Ok(())
        };
        add(0, END)?;
        add(len - END.min(len), END)?;
        if len > 2 * END {
            let step = (len - 2 * END) / SAMPLES;
            (0..SAMPLES).try_for_each(|n| add(END + n * step, SAMPLE))?;
        }
        Ok(Self { len, hash: hasher.finalize().into() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Memory;

    #[test]
    fn other_bytes_have_another_stamp() {
        let bytes = |len: usize| (0..len).map(|i| (i * 7 % 251) as u8).collect::<Vec<_>>();
        for len in [0, 1, 5000, 200_000, 2_000_000] {
            let all = bytes(len);
            let stamp = Stamp::of(&Memory::new(all.clone())).unwrap();
            assert_eq!(Stamp::of(&Memory::new(all.clone())).unwrap(), stamp);
            assert_eq!(Stamp::of_front(&Memory::new([all.clone(), bytes(9)].concat()), len as u64).unwrap(), stamp);
            assert_ne!(Stamp::of(&Memory::new([all.clone(), vec![0]].concat())).unwrap(), stamp);
            for at in [0, len.saturating_sub(1)].into_iter().filter(|at| *at < len) {
                let mut other = all.clone();
                other[at] ^= 1;
                assert_ne!(Stamp::of(&Memory::new(other)).unwrap(), stamp, "{len} {at}");
            }
        }
    }
}
