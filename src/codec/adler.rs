//! Adler-32, the check of zlib.

const MODULUS: u32 = 65521;

/// Bytes after which the sums are reduced: with more of them the second one could overflow.
const PIECE: usize = 5552;

/// A sum over the bytes so far.
#[derive(Clone, Copy, Debug)]
pub struct Adler(u32, u32);

impl Default for Adler {
    fn default() -> Self {
        Self(1, 0)
    }
}

impl From<u32> for Adler {
    /// Goes on from a sum.
    fn from(value: u32) -> Self {
        Self((value & 0xffff) % MODULUS, (value >> 16) % MODULUS)
    }
}

impl Adler {
    pub fn update(&mut self, bytes: &[u8]) {
        for piece in bytes.chunks(PIECE) {
            let len = piece.len() as u32;
            let sum: u32 = piece.iter().map(|b| u32::from(*b)).sum();
            // Byte by byte the second sum adds up the first one; all at once each byte counts as often as there are bytes
            // from it to the end.
            let weighed: u32 = piece.iter().enumerate().map(|(n, b)| (len - n as u32) * u32::from(*b)).sum();
            self.1 = (self.1 + len * self.0 % MODULUS + weighed % MODULUS) % MODULUS;
            self.0 = (self.0 + sum) % MODULUS;
        }
    }

    pub fn value(self) -> u32 {
        self.1 << 16 | self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_sums_come_out() {
        let sum = |bytes: &[u8]| {
            let mut adler = Adler::default();
            adler.update(bytes);
            adler.value()
        };
        assert_eq!(sum(b""), 1);
        assert_eq!(sum(b"Wikipedia"), 0x11e6_0398);
        // The largest sums that can be.
        let mut parts = Adler::default();
        vec![255; 100_000].chunks(7001).for_each(|part| parts.update(part));
        let (a, b) = (0..100_000).fold((1u64, 0u64), |(a, b), _| ((a + 255) % 65521, (b + a + 255) % 65521));
        assert_eq!(u64::from(parts.value()), b << 16 | a);
        assert_eq!(u64::from(sum(&[255; 100_000])), b << 16 | a);
    }
}
