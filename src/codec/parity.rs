//! Erasure codes: from k cells of data m cells of parity, and from any k of these k + m all of the data.
//!
//! ```text
//!   data    0   1   2  …  k-1          encode ──►    parity  0 … m-1
//!           ■   ☐   ■      ■                                 ■   ☐       any k of them
//!               └────────────────◄── rebuild ────────────────┘
//! ```
//!
//! All cells of a codeword are equally long, a multiple of [`GRAIN`]. Codewords are independent in each [`GRAIN`] bytes:
//! several of them may be handed over as one with longer cells, and give the same bytes.
//!
//! Two fields. GF(2^16), [`Algorithm::Wide`], takes thousands of cells at the speed of memory, by way of additive Fourier
//! transforms. GF(2^8), [`Algorithm::Narrow`], is the code that every other program has, for at most 255 cells; it is slow.

use crate::error::{Error, Kind, Result};
use reed_solomon_erasure::galois_8::ReedSolomon;
use reed_solomon_simd::engine::DefaultEngine;
use reed_solomon_simd::rate::{HighRateDecoder, HighRateEncoder, RateDecoder, RateEncoder};
use std::fmt;

/// Cells have a length that is a multiple of this, in bytes.
pub const GRAIN: usize = 64;
/// Most cells of data, and most cells of parity, of a codeword of [`Algorithm::Wide`].
pub const MOST_WIDE: usize = 4096;
/// Most cells, data and parity, of a codeword of [`Algorithm::Narrow`].
pub const MOST_NARROW: usize = 255;

/// Which code it is, by its number in files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Algorithm {
    /// Leopard over GF(2^16), high rate.
    Wide = 1,
    /// Systematic Vandermonde over GF(2^8), polynomial 0x11D.
    Narrow = 2,
}

impl Algorithm {
    /// The algorithm with this number.
    ///
    /// # Errors
    /// `Unsupported` for a number that none has.
    pub fn of(number: u8) -> Result<Self> {
        match number {
            1 => Ok(Self::Wide),
            2 => Ok(Self::Narrow),
            _ => Err(Error::new(Kind::Unsupported, format!("parity of the unknown kind {number}"))),
        }
    }

    /// Whether a codeword may have so many cells of data and of parity.
    pub fn takes(self, k: usize, m: usize) -> bool {
        let some = k > 0 && m > 0;
        match self {
            Self::Wide => some && k <= MOST_WIDE && m <= MOST_WIDE,
            Self::Narrow => some && k <= MOST_NARROW && m <= MOST_NARROW && k + m <= MOST_NARROW,
        }
    }
}

/// A code with its working space, to be used again and again by one thread.
pub struct Code {
    k: usize,
    m: usize,
    field: Field,
}

enum Field {
    Wide(Box<Wide>),
    Narrow(Box<ReedSolomon>),
}

struct Wide {
    encoder: HighRateEncoder<DefaultEngine>,
    decoder: HighRateDecoder<DefaultEngine>,
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Code({} + {})", self.k, self.m)
    }
}

impl Code {
    /// The code with `k` cells of data and `m` of parity.
    ///
    /// # Errors
    /// `Limit` when the algorithm does not take so many.
    pub fn new(algorithm: Algorithm, k: usize, m: usize) -> Result<Self> {
        if !algorithm.takes(k, m) {
            return Err(Error::new(Kind::Limit, format!("parity with {k} cells of data and {m} more")));
        }
        let field = match algorithm {
            Algorithm::Wide => Field::Wide(Box::new(Wide {
                encoder: HighRateEncoder::new(k, m, GRAIN, DefaultEngine::new(), None).map_err(refused)?,
                decoder: HighRateDecoder::new(k, m, GRAIN, DefaultEngine::new(), None).map_err(refused)?,
            })),
            Algorithm::Narrow => Field::Narrow(Box::new(ReedSolomon::new(k, m).map_err(refused)?)),
        };
        Ok(Self { k, m, field })
    }

    /// Cells of data of a codeword.
    pub fn data(&self) -> usize {
        self.k
    }

    /// Cells of parity of a codeword.
    pub fn parity(&self) -> usize {
        self.m
    }

    /// Computes all cells of parity from all cells of data.
    ///
    /// # Errors
    /// `Invalid` when it is not k cells and m cells, or when not all have one length that is a multiple of [`GRAIN`].
    pub fn encode(&mut self, data: &[&[u8]], parity: &mut [&mut [u8]]) -> Result<()> {
        let len = data.first().map_or(0, |cell| cell.len());
        let even = data.iter().all(|c| c.len() == len) && parity.iter().all(|c| c.len() == len);
        if data.len() != self.k || parity.len() != self.m || !even || !fits(len) {
            return Err(uneven());
        }
        match &mut self.field {
            Field::Wide(wide) => wide.encode(self.k, self.m, data, parity),
            Field::Narrow(code) => code.encode_sep(data, parity).map_err(refused),
        }
    }

    /// Rebuilds the cells of data that are `None`; first come the k cells of data, then the m of parity. `give` gets each
    /// with its number.
    ///
    /// # Errors
    /// `Damaged` when fewer than k cells are there, `Invalid` when these are not of one length.
    pub fn rebuild(&mut self, cells: &[Option<&[u8]>], mut give: impl FnMut(usize, &[u8])) -> Result<()> {
        let mut there = cells.iter().flatten();
        let len = there.clone().next().map_or(0, |cell| cell.len());
        if cells.len() != self.k + self.m || there.clone().count() < self.k {
            return Err(Error::new(Kind::Damaged, "more is lost than the parity makes up for"));
        }
        if !fits(len) || there.any(|cell| cell.len() != len) {
            return Err(uneven());
        }
        if cells[..self.k].iter().all(Option::is_some) {
            return Ok(());
        }
        match &mut self.field {
            Field::Wide(wide) => wide.rebuild(self.k, self.m, len, cells, &mut give),
            Field::Narrow(code) => rebuild_narrow(code, self.k, cells, &mut give),
        }
    }
}

impl Wide {
    fn encode(&mut self, k: usize, m: usize, data: &[&[u8]], parity: &mut [&mut [u8]]) -> Result<()> {
        self.encoder.reset(k, m, data[0].len()).map_err(refused)?;
        for cell in data {
            self.encoder.add_original_shard(cell).map_err(refused)?;
        }
        let made = self.encoder.encode().map_err(refused)?;
        for (into, cell) in parity.iter_mut().zip(made.recovery_iter()) {
            into.copy_from_slice(cell);
        }
        Ok(())
    }

    fn rebuild(
        &mut self,
        k: usize,
        m: usize,
        len: usize,
        cells: &[Option<&[u8]>],
        give: &mut impl FnMut(usize, &[u8]),
    ) -> Result<()> {
        self.decoder.reset(k, m, len).map_err(refused)?;
        let (data, parity) = cells.split_at(k);
        for (n, cell) in there(data) {
            self.decoder.add_original_shard(n, cell).map_err(refused)?;
        }
        for (n, cell) in there(parity) {
            self.decoder.add_recovery_shard(n, cell).map_err(refused)?;
        }
        let made = self.decoder.decode().map_err(refused)?;
        made.restored_original_iter().for_each(|(n, cell)| give(n, cell));
        Ok(())
    }
}

fn rebuild_narrow(
    code: &ReedSolomon,
    k: usize,
    cells: &[Option<&[u8]>],
    give: &mut impl FnMut(usize, &[u8]),
) -> Result<()> {
    let mut all: Vec<Option<Vec<u8>>> = cells.iter().map(|cell| cell.map(<[u8]>::to_vec)).collect();
    code.reconstruct_data(&mut all).map_err(refused)?;
    let missing = (0..k).filter(|n| cells[*n].is_none());
    missing.filter_map(|n| Some((n, all[n].as_deref()?))).for_each(|(n, cell)| give(n, cell));
    Ok(())
}

fn there<'a>(cells: &[Option<&'a [u8]>]) -> impl Iterator<Item = (usize, &'a [u8])> {
    cells.iter().enumerate().filter_map(|(n, cell)| Some((n, (*cell)?)))
}

fn fits(len: usize) -> bool {
    len > 0 && len.is_multiple_of(GRAIN)
}

fn uneven() -> Error {
    Error::new(Kind::Invalid, "the cells of a codeword are not of one length")
}

fn refused(e: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::new(Kind::Invalid, "the parity cannot be computed").caused_by(e)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::id::Id;

    /// Cells of the test vectors: byte `i` of cell `j` is `(17 j + 31 i + i² div 7) mod 256`.
    fn cells(k: usize, len: usize) -> Vec<Vec<u8>> {
        (0..k).map(|j| (0..len).map(|i| (17 * j + 31 * i + i * i / 7) as u8).collect()).collect()
    }

    fn parity(algorithm: Algorithm, m: usize, data: &[Vec<u8>]) -> Vec<Vec<u8>> {
        let mut parity = vec![vec![0; data[0].len()]; m];
        let data: Vec<&[u8]> = data.iter().map(Vec::as_slice).collect();
        let mut out: Vec<&mut [u8]> = parity.iter_mut().map(Vec::as_mut_slice).collect();
        Code::new(algorithm, data.len(), m).unwrap().encode(&data, &mut out).unwrap();
        parity
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|b| format!("{b:02x}")).collect()
    }

    fn assert_vector(algorithm: Algorithm, k: usize, m: usize, want: &[(&str, &str)]) {
        let made = parity(algorithm, m, &cells(k, 64));
        let shown: Vec<_> = made.iter().map(|c| (hex(&c[..16]), hex(&Id::of(c).0[..16]))).collect();
        let want: Vec<_> = want.iter().map(|(a, b)| (a.to_string(), b.to_string())).collect();
        assert_eq!(shown, want);
    }

    #[test]
    fn the_bytes_of_the_specification_come_out() {
        let wide = [
            ("858ddb003dff9898a1bc756e26fa5453", "5e04ce53a8a4c494ddcb1fd332578132"),
            ("b6e3cab16c0e168b91e902f79d20b5b3", "e6a88ab5342f4a9851f7addfe2f9f9e4"),
        ];
        assert_vector(Algorithm::Wide, 3, 2, &wide);
        let wide = [
            ("5782680f81ea5ce1d06ed2507e906ee7", "8ee455d9ad414ba3f26937a8b0202312"),
            ("13d2aaab58a46c64117cc638454aef4e", "c17dc2c02d3b1d5a16d89b158fb03a27"),
            ("82a713adb3991067576ea6285f1e6594", "a4e5520c356c810f4bed968dfffeef8d"),
        ];
        assert_vector(Algorithm::Wide, 5, 3, &wide);
        let narrow = [
            ("336e11b151f18e1330557799bbdae1e0", "c042ab836f5afdaab8b8908fb1bc169f"),
            ("44a348355bd2391e55e300b0cc5ac24c", "288ae468d6efb26d9feaff42aef64b95"),
        ];
        assert_vector(Algorithm::Narrow, 3, 2, &narrow);
    }

    /// The field of the wide code, from its definition and nothing else.
    struct Gf {
        log: Vec<u32>,
        exp: Vec<u16>,
    }

    impl Gf {
        fn new() -> Self {
            const BASIS: [u16; 16] = [
                0x0001, 0xACCA, 0x3C0E, 0x163E, 0xC582, 0xED2E, 0x914C, 0x4012, 0x6C98, 0x10D8, 0x6A72, 0xB900, 0xFDB8,
                0xFB34, 0xFF38, 0x991E,
            ];
            let mut power = vec![0; 65536];
            let mut state = 1usize;
            for n in 0..65535 {
                power[state] = n;
                state <<= 1;
                state ^= if state > 65535 { 0x1002D } else { 0 };
            }
            let element = |x: usize| (0..16).filter(|b| x >> b & 1 == 1).fold(0, |sum, b| sum ^ BASIS[b]);
            let log: Vec<u32> = (0..65536).map(|x| power[usize::from(element(x))]).collect();
            let mut exp = vec![0; 65535];
            (1..65536usize).for_each(|x| exp[log[x] as usize] = x as u16);
            Self { log, exp }
        }

        fn mul(&self, a: u16, b: u16) -> u16 {
            let sum = self.log[usize::from(a)] + self.log[usize::from(b)];
            if a == 0 || b == 0 { 0 } else { self.exp[sum as usize % 65535] }
        }

        fn div(&self, a: u16, b: u16) -> u16 {
            let sum = self.log[usize::from(a)] + 65535 - self.log[usize::from(b)];
            if a == 0 { 0 } else { self.exp[sum as usize % 65535] }
        }

        /// By how much cell `j` of the data counts in cell `i` of the parity: Lagrange in blocks of `s` points.
        fn factor(&self, s: usize, i: usize, j: usize) -> u16 {
            let block = s + j / s * s;
            let (x, own) = (i as u16, (s + j) as u16);
            let others = (block..block + s).map(|l| l as u16).filter(|l| *l != own);
            others.fold(1, |product, l| self.mul(product, self.div(x ^ l, own ^ l)))
        }
    }

    fn symbol(cell: &[u8], n: usize) -> u16 {
        let at = n / 32 * 64 + n % 32;
        u16::from_le_bytes([cell[at], cell[at + 32]])
    }

    #[test]
    fn the_wide_code_is_what_the_specification_says_in_formulas() {
        let gf = Gf::new();
        for (k, m) in [(1, 2), (3, 2), (5, 3), (9, 2), (11, 5), (4, 7)] {
            let data = cells(k, 128);
            let s = usize::next_power_of_two(m);
            for (i, made) in parity(Algorithm::Wide, m, &data).iter().enumerate() {
                let sum = |n| {
                    let terms = data.iter().enumerate().map(|(j, c)| gf.mul(gf.factor(s, i, j), symbol(c, n)));
                    terms.fold(0, |a, b| a ^ b)
                };
                (0..64).for_each(|n| assert_eq!(symbol(made, n), sum(n), "{k}+{m}, cell {i}, symbol {n}"));
            }
        }
    }

    #[test]
    fn long_cells_give_the_same_as_their_parts() {
        for algorithm in [Algorithm::Wide, Algorithm::Narrow] {
            let long = cells(21, 5 * 192);
            let whole = parity(algorithm, 4, &long);
            for part in 0..15 {
                let range = part * 64..part * 64 + 64;
                let short: Vec<Vec<u8>> = long.iter().map(|c| c[range.clone()].to_vec()).collect();
                let made = parity(algorithm, 4, &short);
                made.iter().zip(&whole).for_each(|(a, b)| assert_eq!(a, &b[range.clone()]));
            }
        }
    }

    fn rebuilt(code: &mut Code, all: &[Vec<u8>], lost: &[usize]) -> Result<Vec<(usize, Vec<u8>)>> {
        let cells: Vec<_> = all.iter().enumerate().map(|(n, c)| (!lost.contains(&n)).then_some(c.as_slice())).collect();
        let mut given = Vec::new();
        code.rebuild(&cells, |n, cell| given.push((n, cell.to_vec()))).map(|()| given)
    }

    #[test]
    fn any_k_cells_give_all_data() {
        for algorithm in [Algorithm::Wide, Algorithm::Narrow] {
            for (k, m) in [(1, 2), (2, 2), (7, 3), (100, 20)] {
                let mut all = cells(k, 128);
                all.extend(parity(algorithm, m, &all));
                let mut code = Code::new(algorithm, k, m).unwrap();
                for first in 0..k {
                    let lost: Vec<_> = (0..m).map(|n| (first + n * 5) % (k + m)).collect();
                    let data = rebuilt(&mut code, &all, &lost).unwrap();
                    assert!(data.iter().all(|(n, cell)| *cell == all[*n] && lost.contains(n)));
                    assert!(lost.iter().filter(|n| **n < k).all(|n| data.iter().any(|(d, _)| d == n)));
                }
            }
        }
    }

    #[test]
    fn too_few_cells_and_uneven_ones_are_refused() {
        let mut all = cells(4, 64);
        all.extend(parity(Algorithm::Wide, 2, &all));
        let mut code = Code::new(Algorithm::Wide, 4, 2).unwrap();
        assert_eq!(rebuilt(&mut code, &all, &[0, 1, 4]).unwrap_err().kind(), Kind::Damaged);
        all[3].truncate(63);
        assert_eq!(rebuilt(&mut code, &all, &[0]).unwrap_err().kind(), Kind::Invalid);
        assert_eq!(code.encode(&[[0; 64].as_slice(); 4], &mut []).unwrap_err().kind(), Kind::Invalid);
    }

    #[test]
    fn numbers_over_the_limits_are_refused() {
        for (algorithm, k, m) in [
            (Algorithm::Wide, 0, 1),
            (Algorithm::Wide, 1, 0),
            (Algorithm::Wide, 4097, 1),
            (Algorithm::Wide, 1, usize::MAX),
            (Algorithm::Narrow, 250, 6),
            (Algorithm::Narrow, usize::MAX, 2),
        ] {
            assert_eq!(Code::new(algorithm, k, m).unwrap_err().kind(), Kind::Limit);
        }
        assert!(Code::new(Algorithm::Wide, 4096, 4096).is_ok() && Code::new(Algorithm::Narrow, 253, 2).is_ok());
        assert_eq!(Algorithm::of(3).unwrap_err().kind(), Kind::Unsupported);
    }
}
