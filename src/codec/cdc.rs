//! Content-defined chunks: FastCDC (the 2020 variant), so that the same bytes are cut at the same places wherever they
//! stand in a file.

use fastcdc::v2020::{MASKS, cut_gear, get_gear_with_seed};
use zeroize::Zeroizing;

/// Smallest chunk in bytes, save for the end of a file.
pub const MIN: usize = 8 * 1024;
/// Typical chunk in bytes. Smaller ones find a little more that is equal and cost more index: on four versions of kernel
/// headers 16, 32 and 64 KiB leave 18.7, 19.0 and 19.4 MB.
pub const AVERAGE: usize = 32 * 1024;
/// Largest chunk in bytes.
pub const MAX: usize = 256 * 1024;

/// Cuts bytes into chunks.
pub struct Chunker {
    gear: Box<[u64; 256]>,
    /// The same, shifted by one: two bytes are taken at a time.
    gear_ls: Box<[u64; 256]>,
}

/// Where a cut is likely before and behind the typical length: FastCDC's masks of two more and two fewer bits.
const MASK_SMALL: u64 = MASKS[AVERAGE.ilog2() as usize + 1];
const MASK_LARGE: u64 = MASKS[AVERAGE.ilog2() as usize - 1];

impl Default for Chunker {
    fn default() -> Self {
        let (gear, gear_ls) = get_gear_with_seed(0);
        Self { gear, gear_ls }
    }
}

impl Chunker {
    /// A chunker whose cuts tell nothing to who does not know the key: of the published attacks on keyed chunkers most
    /// find a seed that all of the gear table is combined with, so the whole table is drawn from the key.
    pub fn keyed(key: &[u8; 32]) -> Self {
        let mut bytes = Zeroizing::new([0; 2048]);
        blake3::Hasher::new_keyed(key).finalize_xof().fill(&mut *bytes);
        let (mut gear, mut gear_ls) = (Box::new([0; 256]), Box::new([0; 256]));
        for (at, value) in bytes.chunks_exact(8).enumerate() {
            gear[at] = u64::from_le_bytes(value.try_into().expect("eight bytes"));
            gear_ls[at] = gear[at] << 1;
        }
        Self { gear, gear_ls }
    }

    /// The length of the first chunk of `bytes`. When `bytes` may go on (`at_end` is false), at least [`MAX`] bytes are
    /// needed, so that the cut does not depend on how a file happened to be read.
    pub fn first(&self, bytes: &[u8], at_end: bool) -> usize {
        debug_assert!(at_end || bytes.len() >= MAX);
        if bytes.len() <= MIN {
            return bytes.len();
        }
        let window = &bytes[..bytes.len().min(MAX)];
        let (small, large) = (MASK_SMALL, MASK_LARGE);
        let (gear, gear_ls) = (&self.gear, &self.gear_ls);
        cut_gear(window, MIN, AVERAGE, MAX, small, large, small << 1, large << 1, gear, gear_ls).1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(len: usize, mut state: u64) -> Vec<u8> {
        let mut next = || {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 33) as u8
        };
        (0..len).map(|_| next()).collect()
    }

    fn cuts(bytes: &[u8]) -> Vec<usize> {
        cuts_by(&Chunker::default(), bytes)
    }

    fn cuts_by(chunker: &Chunker, mut bytes: &[u8]) -> Vec<usize> {
        let (mut out, mut at) = (Vec::new(), 0);
        while !bytes.is_empty() {
            let len = chunker.first(bytes, true);
            at += len;
            out.push(at);
            bytes = &bytes[len..];
        }
        out
    }

    #[test]
    fn chunks_keep_their_limits() {
        for len in [0, 1, MIN, MIN + 1, 3_000_000] {
            let bytes = noise(len, 7);
            let ends = cuts(&bytes);
            assert_eq!(ends.last().copied().unwrap_or(0), len);
            let starts = std::iter::once(&0).chain(&ends);
            assert!(starts.zip(&ends).all(|(a, b)| b - a <= MAX && (b - a >= MIN || *b == len)));
        }
    }

    #[test]
    fn an_insertion_moves_only_the_cuts_beside_it() {
        let old = noise(2_000_000, 3);
        let mut new = old.clone();
        new.splice(1_000_000..1_000_000, *b"inserted");
        let (old, new) = (cuts(&old), cuts(&new));
        let same = old.iter().filter(|cut| new.contains(cut) || new.contains(&(*cut + 8))).count();
        assert!(same + 3 >= old.len(), "{same} of {} cuts stayed", old.len());
    }

    #[test]
    fn without_a_key_the_cuts_are_those_of_fastcdc() {
        let bytes = noise(3_000_000, 5);
        let theirs = fastcdc::v2020::FastCDC::new(&bytes, MIN as u32, AVERAGE as u32, MAX as u32);
        let theirs: Vec<usize> = theirs.map(|chunk| chunk.offset + chunk.length).collect();
        assert_eq!(cuts(&bytes), theirs);
    }

    #[test]
    fn with_a_key_they_are_others_and_as_long() {
        let bytes = noise(3_000_000, 5);
        let keyed = |key: u8| cuts_by(&Chunker::keyed(&[key; 32]), &bytes);
        let (one, other, plain) = (keyed(1), keyed(2), cuts(&bytes));
        assert_eq!(one, keyed(1));
        let common = |a: &[usize], b: &[usize]| a.iter().filter(|cut| b.contains(cut)).count();
        assert!(common(&one, &other) < 5 && common(&one, &plain) < 5);
        assert!(one.len() * 2 > plain.len() && one.len() < plain.len() * 2);
    }
}
