//! What RAR does to bytes before it packs them, undone. An archive brings each filter as a program; these are the programs
//! that RAR has, known by their length and sum.

use crate::codec::damaged;
use crate::error::Result;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Filter {
    E8,
    E8E9,
    Itanium,
    Delta,
    Rgb,
    Audio,
}

/// More channels are a mistake.
const MOST_CHANNELS: u32 = 1024;
const MOST_AUDIO_CHANNELS: u32 = 128;

impl Filter {
    pub fn known(code: &[u8]) -> Option<Self> {
        match (code.len(), crc32fast::hash(code)) {
            (53, 0xad57_6887) => Some(Self::E8),
            (57, 0x3cd7_e57e) => Some(Self::E8E9),
            (120, 0x3769_893f) => Some(Self::Itanium),
            (29, 0x0e06_077d) => Some(Self::Delta),
            (149, 0x1c2c_5dc8) => Some(Self::Rgb),
            (216, 0xbc85_e701) => Some(Self::Audio),
            _ => None,
        }
    }

    /// Undoes it; `at` is where in the member the data begin.
    pub fn undo(self, data: &mut Vec<u8>, at: u32, [first, second, ..]: [u32; 7]) -> Result<()> {
        match self {
            Self::E8 => calls(data, at, 0xe8),
            Self::E8E9 => calls(data, at, 0xe9),
            Self::Itanium => itanium(data, at),
            Self::Delta if (1..=MOST_CHANNELS).contains(&first) => *data = delta(data, first as usize),
            Self::Audio if (1..=MOST_AUDIO_CHANNELS).contains(&first) => *data = audio(data, first as usize),
            Self::Rgb => {
                let width = (first as usize).wrapping_sub(3);
                let fits =
                    width != 0 && width.is_multiple_of(3) && width <= data.len() && second <= 2 && data.len() >= 3;
                if !fits {
                    return Err(damaged("a filter of pictures with values that cannot be"));
                }
                *data = rgb(data, width, second as usize);
            }
            Self::Delta | Self::Audio => return Err(damaged("a filter with a number of channels that cannot be")),
        }
        Ok(())
    }
}

/// Targets of calls, and with 0xe9 of jumps, were made absolute.
fn calls(data: &mut [u8], at: u32, other: u8) {
    const SPAN: u32 = 1 << 24;
    let end = data.len().saturating_sub(4);
    let mut n = 0;
    while let Some(found) = data.get(n..end).and_then(|rest| memchr::memchr2(0xe8, other, rest)) {
        n += found + 1;
        let Some(bytes) = data[n..].first_chunk_mut() else { return };
        let (target, offset) = (u32::from_le_bytes(*bytes), at.wrapping_add(n as u32));
        if target < SPAN {
            *bytes = target.wrapping_sub(offset).to_le_bytes();
        } else if target >> 31 == 1 && target.wrapping_add(offset) >> 31 == 0 {
            *bytes = target.wrapping_add(SPAN).to_le_bytes();
        }
        n += 4;
    }
}

/// The same for the bundles of three instructions of Itanium.
fn itanium(data: &mut [u8], at: u32) {
    let bundles = data.len().saturating_sub(21).div_ceil(16);
    for n in 0..bundles {
        let bundle = &mut data[n * 16..];
        let first = (0x334b_0000u32 >> (bundle[0] & 0x1e)) & 3;
        if first == 0 {
            continue;
        }
        for slot in first + 1..=4 {
            let Some(bytes) = bundle[slot as usize * 5 - 8..].first_chunk_mut() else { return };
            let raw = u32::from_le_bytes(*bytes);
            if raw >> (24 + slot) & 15 == 5 {
                let value = (raw >> slot).wrapping_sub((at >> 4).wrapping_add(n as u32)) & 0xf_ffff;
                *bytes = (raw & !(0xf_ffff << slot) | value << slot).to_le_bytes();
            }
        }
    }
}

/// Channels were put one behind the other, each byte less the one before.
fn delta(data: &[u8], channels: usize) -> Vec<u8> {
    let mut out = vec![0; data.len()];
    let mut from = data.iter();
    for channel in 0..channels.min(data.len()) {
        let mut last = 0u8;
        for (to, byte) in out[channel..].iter_mut().step_by(channels).zip(&mut from) {
            last = last.wrapping_sub(*byte);
            *to = last;
        }
    }
    out
}

/// Pixels of three channels were guessed from those around them.
fn rgb(data: &[u8], width: usize, red: usize) -> Vec<u8> {
    let mut out = vec![0u8; data.len()];
    let mut from = data.iter();
    for channel in 0..3 {
        let mut last = 0u8;
        for at in (channel..data.len()).step_by(3) {
            let guess = match at.checked_sub(width + 3) {
                Some(corner) => paeth(last, out[at - width], out[corner]),
                None => last,
            };
            last = guess.wrapping_sub(from.next().copied().unwrap_or(0));
            out[at] = last;
        }
    }
    for pixel in out[red.min(data.len())..].chunks_exact_mut(3) {
        pixel[0] = pixel[0].wrapping_add(pixel[1]);
        pixel[2] = pixel[2].wrapping_add(pixel[1]);
    }
    out
}

/// Which of three neighbours is the nearest to their plane.
fn paeth(left: u8, above: u8, corner: u8) -> u8 {
    let [l, a, c] = [left, above, corner].map(i32::from);
    let (of_left, of_above, of_corner) = ((a - c).abs(), (l - c).abs(), (l + a - 2 * c).abs());
    if of_left <= of_above && of_left <= of_corner {
        left
    } else if of_above <= of_corner {
        above
    } else {
        corner
    }
}

/// Samples were guessed from those before, by weights that learn.
fn audio(data: &[u8], channels: usize) -> Vec<u8> {
    let mut out = vec![0; data.len()];
    let mut from = data.iter();
    for channel in 0..channels.min(data.len()) {
        let mut voice = Voice::default();
        for (to, byte) in out[channel..].iter_mut().step_by(channels).zip(&mut from) {
            *to = voice.next(*byte);
        }
    }
    out
}

/// A channel of sound.
#[derive(Default)]
struct Voice {
    last: u8,
    /// Its last step.
    step: i32,
    deltas: [i32; 3],
    weights: [i32; 3],
    /// How wrong the guesses would have been without a change, and with each weight one less or one more.
    faults: [u32; 7],
    count: u32,
}

impl Voice {
    fn next(&mut self, coded: u8) -> u8 {
        let [d1, d2, _] = self.deltas;
        self.deltas = [self.step, self.step - d1, d2];
        let pairs = self.weights.iter().zip(&self.deltas);
        let guess = (8 * i32::from(self.last) + pairs.map(|(weight, delta)| weight * delta).sum::<i32>()) >> 3;
        let byte = (guess as u8).wrapping_sub(coded);
        self.step = byte.wrapping_sub(self.last).cast_signed().into();
        self.last = byte;
        let fault = i32::from(coded.cast_signed()) << 3;
        self.faults[0] += fault.unsigned_abs();
        for (n, delta) in self.deltas.iter().enumerate() {
            self.faults[2 * n + 1] += (fault - delta).unsigned_abs();
            self.faults[2 * n + 2] += (fault + delta).unsigned_abs();
        }
        if self.count.is_multiple_of(32) {
            self.learn();
        }
        self.count = self.count.wrapping_add(1);
        byte
    }

    fn learn(&mut self) {
        let faults = std::mem::take(&mut self.faults);
        let best = (0..7).min_by_key(|n| faults[*n]).unwrap_or(0);
        let Some(change) = best.checked_sub(1) else { return };
        let weight = &mut self.weights[change / 2];
        match change % 2 {
            0 if *weight >= -16 => *weight -= 1,
            1 if *weight < 16 => *weight += 1,
            _ => {}
        }
    }
}
