//! Against rars, whose encoders make what is decoded.

use super::Unpack29;
use rars::codec::rar29::{self as theirs, EncodeOptions, Unpack29Encoder};
use rars::{FilterKind, FilterSpec};

const FILTERS: [FilterKind; 6] = [
    FilterKind::E8,
    FilterKind::E8E9,
    FilterKind::Delta { channels: 4 },
    FilterKind::Itanium,
    FilterKind::Rgb { width: 600, pos_r: 0 },
    FilterKind::Audio { channels: 2 },
];

struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 20) as usize
    }
}

fn noise(len: usize) -> Vec<u8> {
    let mut dice = Dice(7);
    (0..len).map(|_| dice.roll() as u8).collect()
}

fn text(lines: usize) -> Vec<u8> {
    (0..lines).flat_map(|n| format!("line {} of {n}, {}\n", n * n % 977, n % 13).into_bytes()).collect()
}

/// Something like code, samples and pixels.
fn samples(len: usize) -> Vec<u8> {
    let mut dice = Dice(3);
    let wave = |n: usize| ((n as f64 * 0.05).sin() * 90.0) as i8 as u8;
    (0..len).map(|n| if n % 100 < 70 { wave(n) } else { [0xe8, 0xe9, 0, n as u8][dice.roll() % 4] }).collect()
}

fn options() -> EncodeOptions {
    EncodeOptions::new(16)
}

fn lz(data: &[u8]) -> Vec<u8> {
    theirs::unpack29_encode_literals_with_options(data, options()).unwrap()
}

/// Gives a byte now and then.
struct Drops<'a>(&'a [u8]);

impl std::io::Read for Drops<'_> {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        let n = into.len().min(self.0.len()).min(3);
        into[..n].copy_from_slice(&self.0[..n]);
        self.0 = &self.0[n..];
        Ok(n)
    }
}

fn decoded(codec: &mut Unpack29, packed: &[u8], len: usize, goes_on: bool) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    codec.decode_member(&mut Drops(packed), len as u64, goes_on, &mut out).ok().map(|()| out)
}

fn assert_decodes(what: &str, data: &[u8], packed: &[u8]) {
    let out = decoded(&mut Unpack29::new(), packed, data.len(), false);
    assert!(out.as_deref() == Some(data), "{what} of {} bytes", data.len());
}

#[test]
fn members_decode_to_what_was_packed() {
    for data in [Vec::new(), vec![7], text(4000), noise(70_000), samples(90_000), vec![0; 400_000]] {
        assert_decodes("matches", &data, &lz(&data));
        assert_decodes("PPMd", &data, &theirs::unpack29_encode_ppmd_literals(&data).unwrap());
        assert_decodes("PPMd with matches", &data, &theirs::unpack29_encode_ppmd(&data, 1 << 22).unwrap());
    }
}

#[test]
fn filters_are_undone() {
    for data in [text(900), noise(20_000), samples(30_000)] {
        for kind in FILTERS {
            let spec = || FilterSpec::whole(kind);
            let packed = Unpack29Encoder::with_options(options()).encode_member_with_filter(&data, spec()).unwrap();
            assert_decodes(&format!("{kind:?}"), &data, &packed);
            let packed = theirs::unpack29_encode_ppmd_with_filter(&data, spec(), 1 << 22).unwrap();
            assert_decodes(&format!("PPMd, {kind:?}"), &data, &packed);
        }
    }
}

#[test]
fn matches_reach_all_of_the_dictionary() {
    let (far, gap) = (noise(200_000), vec![0; (4 << 20) - 200_000]);
    let data = [&far[..], &gap, &far, &gap, &far].concat();
    let options = options().with_max_match_distance(4 << 20);
    let packed = theirs::unpack29_encode_literals_with_options(&data, options).unwrap();
    assert!(packed.len() < 250_000, "{}", packed.len());
    assert_decodes("far matches", &data, &packed);
}

#[test]
fn solid_members_go_on() {
    let parts = [text(500), noise(5000), text(700), Vec::new(), samples(9000), text(500)];
    let mut encoder = Unpack29Encoder::with_options(options());
    let mut codec = Unpack29::new();
    for (n, part) in parts.iter().enumerate() {
        let packed = match n {
            4 => encoder.encode_member_with_filter(part, FilterSpec::whole(FilterKind::E8)).unwrap(),
            _ => encoder.encode_member(part).unwrap(),
        };
        assert!(decoded(&mut codec, &packed, part.len(), n > 0).as_deref() == Some(&part[..]), "member {n}");
    }
    assert!(decoded(&mut codec, &lz(&parts[0]), parts[0].len(), false).as_deref() == Some(&parts[0][..]));
}

/// Small members of all kinds.
fn small() -> Vec<(Vec<u8>, usize)> {
    let (text, samples) = (text(60), samples(1500));
    let mut all = vec![
        (lz(&text), text.len()),
        (theirs::unpack29_encode_ppmd(&text, 1 << 22).unwrap(), text.len()),
        (theirs::unpack29_encode_ppmd_with_filter(&samples, FILTERS[2].into(), 1 << 22).unwrap(), samples.len()),
    ];
    for kind in FILTERS {
        let mut encoder = Unpack29Encoder::with_options(options());
        all.push((encoder.encode_member_with_filter(&samples, FilterSpec::whole(kind)).unwrap(), samples.len()));
    }
    all
}

fn theirs(packed: &[u8], len: usize) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    theirs::Unpack29::new().decode_member_from_reader(&mut &packed[..], len, &mut out).ok().map(|()| out)
}

#[test]
fn damage_is_an_error_or_other_bytes() {
    let mut dice = Dice(99);
    for (packed, len) in small() {
        for end in (0..packed.len()).step_by(7) {
            assert_eq!(decoded(&mut Unpack29::new(), &packed[..end], len, false), None, "cut at {end}");
        }
        for _ in 0..60 {
            let mut packed = packed.clone();
            for _ in 0..1 + dice.roll() % 3 {
                let at = dice.roll() % packed.len();
                packed[at] ^= 1 << (dice.roll() % 8);
            }
            // They go on behind the end of a member, and let programs change how long it is.
            if let Some(ours) = decoded(&mut Unpack29::new(), &packed, len, false)
                && let Some(other) = theirs(&packed, len)
            {
                assert!(ours == other, "{packed:02x?}");
            }
        }
    }
}

#[test]
fn nothing_is_left_to_go_on_with_after_an_error() {
    let data = text(100);
    let packed = theirs::unpack29_encode_ppmd_literals(&data).unwrap();
    let mut codec = Unpack29::new();
    assert!(decoded(&mut codec, &packed[..packed.len() / 2], data.len(), false).is_none());
    assert!(decoded(&mut codec, &packed, data.len(), true).as_deref() == Some(&data[..]));
}
