//! Filters: bytes rearranged so that a compressor sees what is alike side by side. Each is exact both ways and keeps the
//! length.
//!
//! ```text
//! split 4|4    e e e e i i i i  e e e e i i i i   ->   e e e e e e e e …  i i i i i i i i …     (textures, tables)
//! delta        s0 s1 s2 s3 …                      ->   s0 s1-s0 s2-s1 s3-s2 …                   (sound)
//! ```

use super::damaged;
use crate::error::Result;

/// Fields of a record, at most.
const FIELDS: usize = 32;

/// Cuts what follows the first `skip` bytes into records and gathers each field of all records. Bytes behind the last
/// whole record stay behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Split {
    /// Bytes in front that stay as they are.
    pub skip: u32,
    /// Widths of the fields, 1 to 255 bytes each.
    pub widths: Vec<u8>,
}

impl Split {
    /// `u32 skip ‖ u8 width …`
    pub fn params(&self) -> Vec<u8> {
        [&self.skip.to_le_bytes()[..], &self.widths].concat()
    }

    pub fn from_params(params: &[u8]) -> Result<Self> {
        let (skip, widths) = params.split_first_chunk().ok_or_else(|| damaged("a filter lacks its parameters"))?;
        if widths.is_empty() || widths.len() > FIELDS || widths.contains(&0) {
            return Err(damaged("a filter has fields that cannot be"));
        }
        Ok(Self { skip: u32::from_le_bytes(*skip), widths: widths.to_vec() })
    }

    /// Records, and where in the gathered bytes each field begins.
    fn shape(&self, len: usize) -> (usize, usize, usize) {
        let skip = (self.skip as usize).min(len);
        let record: usize = self.widths.iter().map(|w| usize::from(*w)).sum();
        (skip, record, (len - skip) / record)
    }

    pub fn encode(&self, bytes: &[u8]) -> Vec<u8> {
        let (skip, record, records) = self.shape(bytes.len());
        let mut out = Vec::with_capacity(bytes.len());
        out.extend_from_slice(&bytes[..skip]);
        let body = &bytes[skip..skip + records * record];
        let mut at = 0;
        for width in self.widths.iter().map(|w| usize::from(*w)) {
            body.chunks_exact(record).for_each(|one| out.extend_from_slice(&one[at..at + width]));
            at += width;
        }
        out.extend_from_slice(&bytes[out.len()..]);
        out
    }

    /// Undoes [`encode`](Self::encode), into a buffer that is used again.
    pub fn decode(&self, bytes: &[u8], out: &mut Vec<u8>) {
        let (skip, record, records) = self.shape(bytes.len());
        out.clear();
        out.extend_from_slice(bytes);
        let (mut at, mut from) = (0, skip);
        for width in self.widths.iter().map(|w| usize::from(*w)) {
            let fields = &bytes[from..from + records * width];
            let body = &mut out[skip..skip + records * record];
            scatter(fields, body, record, at, width);
            from += records * width;
            at += width;
        }
    }
}

/// Puts fields back into their records; widths of one, two and four bytes are told apart so that each is a plain move.
fn scatter(fields: &[u8], body: &mut [u8], record: usize, at: usize, width: usize) {
    fn of<const W: usize>(fields: &[u8], body: &mut [u8], record: usize, at: usize) {
        for (field, one) in fields.chunks_exact(W).zip(body.chunks_exact_mut(record)) {
            one[at..at + W].copy_from_slice(field);
        }
    }
    match width {
        1 => of::<1>(fields, body, record, at),
        2 => of::<2>(fields, body, record, at),
        4 => of::<4>(fields, body, record, at),
        _ => {
            for (field, one) in fields.chunks_exact(width).zip(body.chunks_exact_mut(record)) {
                one[at..at + width].copy_from_slice(field);
            }
        }
    }
}

/// Replaces 16-bit little-endian numbers by their difference to the one `distance` numbers before, zigzag: small steps of
/// either sign become small numbers. A last odd byte stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delta16 {
    /// Bytes in front that stay as they are.
    pub skip: u32,
    /// Numbers from one to its predecessor: the channels of a sound. At least 1.
    pub distance: u8,
}

impl Delta16 {
    /// `u32 skip ‖ u8 distance`
    pub fn params(&self) -> Vec<u8> {
        [&self.skip.to_le_bytes()[..], &[self.distance]].concat()
    }

    pub fn from_params(params: &[u8]) -> Result<Self> {
        match params {
            [a, b, c, d, distance] if *distance > 0 => {
                Ok(Self { skip: u32::from_le_bytes([*a, *b, *c, *d]), distance: *distance })
            }
            _ => Err(damaged("a filter has wrong parameters")),
        }
    }

    pub fn encode(&self, bytes: &[u8]) -> Vec<u8> {
        let mut out = bytes.to_vec();
        self.each(&mut out, |now, before| {
            let step = now.wrapping_sub(*before) as i16;
            *before = now;
            ((step << 1) ^ (step >> 15)) as u16
        });
        out
    }

    /// Undoes [`encode`](Self::encode) in place.
    pub fn decode(&self, bytes: &mut [u8]) {
        self.each(bytes, |code, before| {
            let step = (code >> 1) ^ (code & 1).wrapping_neg();
            *before = before.wrapping_add(step);
            *before
        });
    }

    /// Replaces each number but the first ones; `step` is given the number and what it remembers of its channel.
    fn each(&self, bytes: &mut [u8], step: impl Fn(u16, &mut u16) -> u16) {
        let skip = (self.skip as usize).min(bytes.len());
        let body = &mut bytes[skip..];
        let head = (usize::from(self.distance) * 2).min(body.len());
        let (first, rest) = body.split_at_mut(head);
        let mut before: Vec<u16> = first.chunks_exact(2).map(|n| u16::from_le_bytes([n[0], n[1]])).collect();
        for frame in rest.chunks_mut(first.len().max(2)) {
            for (number, before) in frame.chunks_exact_mut(2).zip(&mut before) {
                let value = step(u16::from_le_bytes([number[0], number[1]]), before);
                number.copy_from_slice(&value.to_le_bytes());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_was_split_comes_together(
            bytes in prop::collection::vec(any::<u8>(), 0..500),
            skip in 0u32..600,
            widths in prop::collection::vec(1u8..9, 1..6),
        ) {
            let split = Split { skip, widths };
            let coded = split.encode(&bytes);
            prop_assert_eq!(coded.len(), bytes.len());
            let mut back = vec![1; 7];
            split.decode(&coded, &mut back);
            prop_assert_eq!(back, bytes);
            prop_assert_eq!(Split::from_params(&split.params()).unwrap(), split);
        }

        #[test]
        fn differences_add_up_again(bytes in prop::collection::vec(any::<u8>(), 0..300), skip in 0u32..400, distance in 1u8..9) {
            let delta = Delta16 { skip, distance };
            let mut back = delta.encode(&bytes);
            delta.decode(&mut back);
            prop_assert_eq!(back, bytes);
            prop_assert_eq!(Delta16::from_params(&delta.params()).unwrap(), delta);
        }
    }

    #[test]
    fn a_split_puts_fields_side_by_side() {
        let split = Split { skip: 1, widths: vec![1, 2] };
        assert_eq!(split.encode(b"_aBBaBBaBBx"), b"_aaaBBBBBBx");
        assert!(Split::from_params(&[0, 0, 0, 0]).is_err() && Split::from_params(&[0, 0, 0, 0, 2, 0]).is_err());
        assert!(Delta16::from_params(&[0, 0, 0, 0, 0]).is_err());
    }
}
