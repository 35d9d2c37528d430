//! Which filter helps a segment: found by trying each on a few samples, whatever the names of the files are. So textures are
//! found inside an archive as well as beside it.

use super::super::segment::Stage;
use crate::codec::filter::{Delta16, Split};
use crate::codec::zstd;
use crate::error::Result;
use std::borrow::Cow;

/// A filter, or none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Filter {
    None,
    Split(Split),
    /// 16-bit sound: differences, then the low and the high bytes apart.
    Sound(Delta16, Split),
}

impl Filter {
    fn split(skip: u32, widths: &[u8]) -> Self {
        Self::Split(Split { skip, widths: widths.to_vec() })
    }

    fn sound(skip: u32, distance: u8) -> Self {
        Self::Sound(Delta16 { skip, distance }, Split { skip, widths: vec![1, 1] })
    }

    pub fn apply<'a>(&self, bytes: &'a [u8]) -> Cow<'a, [u8]> {
        match self {
            Self::None => Cow::Borrowed(bytes),
            Self::Split(split) => Cow::Owned(split.encode(bytes)),
            Self::Sound(delta, split) => Cow::Owned(split.encode(&delta.encode(bytes))),
        }
    }

    pub fn stages(&self) -> Vec<Stage> {
        match self {
            Self::None => Vec::new(),
            Self::Split(split) => vec![Stage::split(split)],
            Self::Sound(delta, split) => vec![Stage::delta(delta), Stage::split(split)],
        }
    }

    /// The same filter for bytes that begin `at` bytes later.
    fn from(&self, at: usize) -> Self {
        let shift = |skip: u32, period: usize| ((skip as usize + period - at % period) % period) as u32;
        match self {
            Self::None => Self::None,
            Self::Split(s) => {
                let period = s.widths.iter().map(|w| usize::from(*w)).sum();
                Self::Split(Split { skip: shift(s.skip, period), widths: s.widths.clone() })
            }
            Self::Sound(d, s) => {
                let skip = shift(d.skip, 2 * usize::from(d.distance));
                Self::Sound(Delta16 { skip, ..*d }, Split { skip, widths: s.widths.clone() })
            }
        }
    }
}

/// Samples of a segment, and the bytes of each.
const SAMPLES: usize = 4;
const SAMPLE: usize = 8 << 10;

/// Pieces of some bytes, spread evenly.
pub fn sample(bytes: &[u8], count: usize, len: usize) -> Cow<'_, [u8]> {
    if bytes.len() <= count * len {
        return Cow::Borrowed(bytes);
    }
    Cow::Owned(places(bytes.len(), count, len).flat_map(|at| &bytes[at..at + len]).copied().collect())
}

fn places(total: usize, count: usize, len: usize) -> impl Iterator<Item = usize> {
    let step = total.saturating_sub(len) / count.saturating_sub(1).max(1);
    (0..count).map(move |i| i * step)
}

/// The filter that makes the samples smallest, if it saves at least 3 %.
pub fn filter(bytes: &[u8]) -> Result<Filter> {
    if bytes.len() < SAMPLES * SAMPLE {
        return Ok(Filter::None);
    }
    let plain = cost(&Filter::None, bytes)?;
    if plain > SAMPLES * SAMPLE - SAMPLES * SAMPLE / 50 {
        // Packed already.
        return Ok(Filter::None);
    }
    let mut best = (plain - plain / 32, Filter::None);
    for candidate in candidates(bytes)? {
        let cost = cost(&candidate, bytes)?;
        if cost < best.0 {
            best = (cost, candidate);
        }
    }
    Ok(best.1)
}

/// Bytes that zstd leaves of the samples.
fn cost(filter: &Filter, bytes: &[u8]) -> Result<usize> {
    let mut sum = 0;
    for at in places(bytes.len(), SAMPLES, SAMPLE) {
        let sample = &bytes[at..at + SAMPLE];
        let filtered = filter.from(at).apply(sample).into_owned();
        sum += zstd::encode(&filtered, zstd::Effort::level(1), zstd::With::Nothing)?.len();
    }
    Ok(sum)
}

/// Filters worth trying: byte planes of 2, 3, 4 and 8 bytes, sound of one and two channels, and block-compressed textures
/// (BC1: colours and indices; BC2, BC3: alpha, its indices, colours, indices) at the best of their phases.
fn candidates(bytes: &[u8]) -> Result<Vec<Filter>> {
    let mut all = vec![Filter::split(0, &[1; 4]), Filter::split(0, &[1; 8]), Filter::split(0, &[1; 2])];
    all.extend([Filter::split(0, &[1; 3]), Filter::sound(0, 1), Filter::sound(0, 2)]);
    all.push(best_phase(bytes, &[4, 4])?);
    all.push(best_phase(bytes, &[2, 6, 4, 4])?);
    Ok(all)
}

/// The phase of records that makes one sample smallest.
fn best_phase(bytes: &[u8], widths: &[u8]) -> Result<Filter> {
    let period: u32 = widths.iter().map(|w| u32::from(*w)).sum();
    let at = bytes.len() / 2;
    let sample = &bytes[at..(at + SAMPLE).min(bytes.len())];
    let mut best = (usize::MAX, Filter::None);
    for skip in (0..period).step_by(if period == 16 { 4 } else { 1 }) {
        let filter = Filter::split(skip, widths);
        let filtered = filter.from(at).apply(sample).into_owned();
        let cost = zstd::encode(&filtered, zstd::Effort::level(1), zstd::With::Nothing)?.len();
        if cost < best.0 {
            best = (cost, filter);
        }
    }
    Ok(best.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(mut state: u32) -> impl FnMut() -> u32 {
        move || {
            state = state.wrapping_mul(1664525).wrapping_add(1013904223);
            state >> 8
        }
    }

    #[test]
    fn a_table_of_numbers_is_split_and_sound_is_differenced() {
        let mut next = noise(1);
        let table: Vec<u8> = (0..40_000u32).flat_map(|n| (0x4100_0000 + n * 3 + next() % 256).to_le_bytes()).collect();
        assert!(matches!(filter(&table).unwrap(), Filter::Split(_)));
        let mut level = 0i16;
        let wave = (0..100_000).flat_map(|_| {
            level = level.wrapping_add((next() % 200) as i16 - 100);
            level.to_le_bytes()
        });
        assert!(matches!(filter(&wave.collect::<Vec<u8>>()).unwrap(), Filter::Sound(..)));
    }

    #[test]
    fn noise_and_text_are_left_alone() {
        let mut next = noise(2);
        let noise: Vec<u8> = (0..100_000).map(|_| next() as u8).collect();
        assert_eq!(filter(&noise).unwrap(), Filter::None);
        let text: Vec<u8> = (0..9000).flat_map(|n| format!("word{} ", n * 7 % 113).into_bytes()).collect();
        assert_eq!(filter(&text).unwrap(), Filter::None);
    }
}
