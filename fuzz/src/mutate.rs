//! Changes a container where it is interesting: numbers in columns, blocks and tables, the fronts of segments. Most of what
//! comes out has right hashes and right offsets, and is wrong in one or two places below them.

use crate::model::{Block, Model, numbers, stream_of};
use crate::seal;
use libfuzzer_sys::fuzzer_mutate;
use stmount::codec::varint::zigzag;
use stmount::codec::{xz, zstd};

/// Numbers at which limits stand or types end.
const NUMBERS: &[u64] = &[
    0,
    1,
    2,
    3,
    4,
    5,
    8,
    255,
    256,
    4095,
    4096,
    4097,
    65535,
    65536,
    1 << 20,
    32 << 20,
    64 << 20,
    (64 << 20) + 1,
    999_999_999,
    1_000_000_000,
    (1 << 32) - 1,
    1 << 32,
    (1 << 62) - 1,
    1 << 62,
    (1 << 62) + 1,
    (1 << 63) - 1,
    1 << 63,
    u64::MAX - 95,
    u64::MAX - 1,
    u64::MAX,
];

/// Rows that a segment may be made longer to.
const LONGEST: usize = 4096;

struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let x = self.0 ^ (self.0 >> 29);
        x.wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 16
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    fn pick<'a, T>(&mut self, of: &'a mut [T]) -> Option<&'a mut T> {
        let i = self.below(of.len());
        of.get_mut(i)
    }
}

pub fn mutate(data: &mut [u8], size: usize, max_size: usize, seed: u32) -> usize {
    let mut rng = Rng(u64::from(seed));
    let way = rng.below(16);
    if way >= 3 {
        if let Some(mut model) = Model::parse(&data[..size]) {
            for _ in 0..=rng.below(3) {
                edit(&mut model, &mut rng);
            }
            model.agree = !rng.one_in(16);
            let mut out = model.write();
            if out.len() <= max_size.min(data.len()) {
                seal::seal(&mut out);
                data[..out.len()].copy_from_slice(&out);
                return out.len();
            }
        }
    }
    let size = fuzzer_mutate(data, size, max_size);
    if way > 0 {
        seal::seal(&mut data[..size]);
    }
    size
}

/// Any change of some bytes.
fn scramble(bytes: &mut Vec<u8>) {
    let len = bytes.len();
    bytes.resize(len + 24, 0);
    let len = fuzzer_mutate(bytes, len, len + 24);
    bytes.truncate(len);
}

fn edit(model: &mut Model, rng: &mut Rng) {
    match rng.below(16) {
        0 => scramble(&mut model.items),
        1 => {
            let at = rng.below(model.head.len() / 8) * 8;
            let number = NUMBERS[rng.below(NUMBERS.len())];
            model.head[at..at + 8].copy_from_slice(&number.to_le_bytes());
        }
        2 => tables(model, rng),
        3..6 => segment(model, rng),
        _ => {
            let tape = model.tape();
            let Some(block) = rng.pick(&mut model.tables).and_then(|table| rng.pick(table)) else { return };
            rows(block, &tape, rng);
        }
    }
}

/// A number that means something somewhere.
fn number(old: u64, tape: &[(u64, u64)], rng: &mut Rng) -> u64 {
    let (address, len) = tape.get(rng.below(tape.len())).copied().unwrap_or_default();
    let number = match rng.below(8) {
        0 => old.wrapping_add(1),
        1 => old.wrapping_sub(1),
        2 => old.wrapping_add(rng.next() % 4096),
        3 => address.wrapping_add(rng.next() % len.max(1)),
        4 => len,
        5 => rng.next() >> rng.below(48),
        _ => NUMBERS[rng.below(NUMBERS.len())],
    };
    if rng.one_in(4) { zigzag(number as i64) } else { number }
}

fn rows(block: &mut Block, tape: &[(u64, u64)], rng: &mut Rng) {
    if rng.one_in(24) {
        let rows = if rng.one_in(2) { &mut block.rows } else { &mut block.rows_inside };
        *rows = number(*rows, tape, rng);
        return;
    }
    let Some(stream) = rng.pick(&mut block.streams) else { return };
    if rng.one_in(3) {
        return scramble(stream);
    }
    let mut all = numbers(stream);
    let i = rng.below(all.len());
    let Some(old) = all.get(i).copied() else { return };
    match rng.below(8) {
        0 => all.insert(i, old),
        1 => drop(all.remove(i)),
        2 => {
            let other = rng.below(all.len());
            all.swap(i, other);
        }
        _ => all[i] = number(old, tape, rng),
    }
    *stream = stream_of(&all);
}

/// Blocks and tables as a whole: one twice, one gone, one in a newer table, its rows deleting ones.
fn tables(model: &mut Model, rng: &mut Rng) {
    let count = model.tables.len();
    let Some(table) = rng.pick(&mut model.tables) else { return };
    let i = rng.below(table.len());
    let Some(block) = table.get(i).cloned() else { return };
    match rng.below(7) {
        0 => drop(table.remove(i)),
        1 => table.insert(i, block),
        2 => {
            let other = rng.below(table.len());
            table.swap(i, other);
        }
        3 => table[i].family = rng.below(9) as u8,
        4 => scramble(&mut table[i].first),
        _ if count < 8 => {
            let mut newer = block;
            if rng.one_in(2) {
                newer.streams[0].iter_mut().for_each(|op| *op = u8::from(rng.one_in(2)));
            }
            model.tables.push(vec![newer]);
        }
        _ => drop(model.tables.remove(0)),
    }
}

fn segment(model: &mut Model, rng: &mut Rng) {
    let tape = model.tape();
    let count = model.segments.len();
    let Some(segment) = rng.pick(&mut model.segments) else { return };
    let payload = &mut segment.payload;
    match rng.below(6) {
        0 => scramble(payload),
        1 if payload.len() > 80 => {
            let mut front = payload[..80].to_vec();
            scramble(&mut front);
            payload.splice(..80, front);
        }
        2 if count > 1 && rng.one_in(4) => {
            let i = rng.below(count);
            model.segments.remove(i);
        }
        _ => *payload = packed(payload, &tape, rng).unwrap_or_default(),
    }
}

/// A segment of the same place with other stages and bases, whose data mostly decode.
fn packed(payload: &[u8], tape: &[(u64, u64)], rng: &mut Rng) -> Option<Vec<u8>> {
    let raw_len = (seal::u64_at(payload, 8)? as usize).min(LONGEST);
    let raw: Vec<u8> = payload.iter().copied().cycle().take(raw_len).collect();
    let codec = [0, 0, 1, 2, 2, 3, 3, 4][rng.below(8)];
    let bases = if matches!(codec, 2 | 3) || rng.one_in(8) { 1 + rng.below(3) } else { 0 };
    let filters = if rng.one_in(2) { rng.below(3) } else { 0 };
    let mut out =
        [&payload[..8], &(raw_len as u64).to_le_bytes(), &[filters as u8 + 1, 0, bases as u8, 0, 0, 0, 0, 0]].concat();
    for _ in 0..bases {
        let (address, len) = tape.get(rng.below(tape.len())).copied().unwrap_or_default();
        let len = if rng.one_in(2) { len } else { number(len, tape, rng) };
        out.extend([address, len].map(u64::to_le_bytes).concat());
    }
    for _ in 0..filters {
        let skip = (rng.next() as u32 >> rng.below(32)).to_le_bytes();
        let (filter, params) = if rng.one_in(2) { (17u16, 1) } else { (18, 1 + rng.below(6)) };
        out.extend([filter.to_le_bytes(), (4 + params as u16).to_le_bytes()].concat());
        out.extend(skip);
        out.extend((0..params).map(|_| rng.next() as u8 >> rng.below(8)));
    }
    out.extend([codec, 0].map(u16::to_le_bytes).concat());
    out.extend(match codec {
        0 => raw,
        4 => xz::encode(&raw, xz::Effort { preset: 0, lc_lp_pb: (3, 0, 2) }).ok()?,
        _ => zstd::encode(&raw, zstd::Effort::level(1), zstd::With::Nothing).ok()?,
    });
    Some(out)
}
