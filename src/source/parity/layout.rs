//! The fixed structures of parity, byte by byte as they lie in the file, and the geometry of a group.
//!
//! ```text
//!  the range, cut in k columns of `rows` cells                    the body
//!  ┌─────────┬─────────┬─ ─┬─────────┐   ┌────────────┬──────────┬────────┬─ ─┬──────────┬──────────┬────────────┐
//!  │ row 0   │ row 0   │   │ row 0   │   │ descriptor │ hashes A │ parity │   │ parity   │ hashes B │ descriptor │
//!  │ row 1   │ row 1   │   │ row 1   │   │    192     │          │ col. 0 │   │ col. m-1 │          │    192     │
//!  └─────────┴─────────┴─ ─┴─────────┘   └────────────┴──────────┴────────┴─ ─┴──────────┴──────────┴────────────┘
//! ```
//!
//! A codeword is one row: a cell of each column. A burst hits neighbours in a column, and so many codewords, each once.

use crate::codec::id::Id;
use crate::codec::parity::{Algorithm, GRAIN};
use crate::error::{Error, Kind, Result};
use std::ops::Range;
use zerocopy::little_endian::{U16, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// First bytes of a descriptor.
pub const MAGIC: [u8; 8] = *b"\xabSTPAR\x1a\n";
/// First bytes of the header of a side file.
pub const SIDE_MAGIC: [u8; 8] = *b"\x89STPAR\r\n";
/// Version of the layout that this code writes, and the highest that it reads.
pub const VERSION: u8 = 1;
pub const DESCRIPTOR_LEN: u64 = 192;
pub const SIDE_HEADER_LEN: u64 = 128;
/// Says in a descriptor that there is no group before.
pub const NO_GROUP: u64 = u64::MAX;
/// Flag of a descriptor: the range is in another file than the body.
pub const APART: u8 = 1;

/// Length of a hash of a cell in bytes.
pub const HASH_LEN: u64 = 8;
/// Cells have at least so many bytes, and at most these: both are powers of two, and so is what is between them.
pub const LEAST_CELL: u64 = GRAIN as u64;
pub const MOST_CELL: u64 = 4096;
/// Most rows of a group: with 512 columns of cells of 4 KiB that is 32 TiB.
pub const MOST_ROWS: u64 = 1 << 24;
/// No range ends behind this, in bytes.
pub const MOST_OFFSET: u64 = 1 << 62;

/// At both ends of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Descriptor {
    pub magic: [u8; 8],
    pub version: u8,
    pub algorithm: u8,
    pub log2_cell: u8,
    pub flags: u8,
    pub columns: U16,
    pub parity: U16,
    pub rows: U64,
    pub start: U64,
    pub end: U64,
    /// Where the body begins in its file: a copy elsewhere is none.
    pub body_at: U64,
    pub body_len: U64,
    /// Where the body of the group before begins, [`NO_GROUP`] for none.
    pub prev: U64,
    pub identity: [u8; 16],
    pub data_hash: [u8; 32],
    pub reserved: [u8; 64],
    pub check: [u8; 16],
}

impl Descriptor {
    /// The check that these bytes must carry.
    pub fn expected_check(&self) -> [u8; 16] {
        check(&self.identity, &self.as_bytes()[..176])
    }
}

/// At both ends of a side file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct SideHeader {
    pub magic: [u8; 8],
    pub version: u8,
    pub reserved: [u8; 7],
    pub identity: [u8; 16],
    /// Length of the protected file.
    pub len: U64,
    /// BLAKE3 of the protected file.
    pub hash: [u8; 32],
    /// Length of the side file.
    pub side_len: U64,
    pub groups: U64,
    pub more: [u8; 24],
    pub check: [u8; 16],
}

impl SideHeader {
    /// The check that these bytes must carry.
    pub fn expected_check(&self) -> [u8; 16] {
        check(&self.identity, &self.as_bytes()[..112])
    }
}

fn check(identity: &[u8; 16], bytes: &[u8]) -> [u8; 16] {
    let mut check = [0; 16];
    check.copy_from_slice(&Id::of_parts(&[identity, bytes]).0[..16]);
    check
}

/// The share of parity: at least and at most so much of the data.
pub const LEAST_SHARE: f64 = 0.005;
pub const MOST_SHARE: f64 = 1.0;

/// A codeword of the wide code, with the parity filled up to a power of two, has at most so many cells. It must be a power
/// of two, so that a decoder has no more to transform than there is.
///
/// With 1 GiB and a share of 5 %, on two cores that others used as well: encoding, about 550 MB/s, and the repair of a burst,
/// about 500 MB/s, differ by less than from one run to the next. With more columns a single cell costs more to rebuild
/// (measured); with fewer, scattered damage fills a row sooner (computed: the share of cells that may be lost at random,
/// so that with a probability of 99 % no row has lost too many):
///
/// | cells | one cell | lost at random |
/// |---:|---:|---:|
/// | 256 | 2.1 ms | 1.1 % |
/// | 512 | 4.7 ms | 1.9 % |
/// | 1024 | 10 ms | 2.6 % |
const WIDE_TOTAL: u64 = 512;
/// Most columns of the narrow code.
const NARROW_COLUMNS: u64 = 200;
/// A range is cut in at least so many cells, as long as they have [`LEAST_CELL`] bytes: with fewer columns the parity
/// would be coarse, with smaller cells the hashes would take more room than the parity.
const FINE: u64 = 128;

/// The geometry of a group: which range, how it is cut, and where everything is in its body. The numbers are within their
/// limits, whoever made it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    algorithm: Algorithm,
    cell: u64,
    columns: u64,
    parity: u64,
    rows: u64,
    start: u64,
    end: u64,
    apart: bool,
}

impl Plan {
    /// The geometry for a range of bytes and a share of parity, 0.005 to 1, in a body of the same file.
    ///
    /// # Errors
    /// `Usage` for another share, `Limit` for a range that one group cannot hold.
    pub fn of(range: Range<u64>, share: f64, algorithm: Algorithm) -> Result<Self> {
        if !(LEAST_SHARE..=MOST_SHARE).contains(&share) {
            return Err(Error::new(Kind::Usage, "the share of parity is 0.5 to 100 per cent"));
        }
        let len = range.end.checked_sub(range.start).ok_or_else(|| limit("a range that ends before it begins"))?;
        let most = most_columns(algorithm, share);
        let mut cell = MOST_CELL;
        while cell > LEAST_CELL && len.div_ceil(cell) < FINE.min(most) {
            cell /= 2;
        }
        let cells = len.div_ceil(cell).max(1);
        let rows = cells.div_ceil(most);
        let columns = cells.div_ceil(rows);
        let parity = parity_for(columns, share);
        let (start, end) = (range.start, range.end);
        Self { algorithm, cell, columns, parity, rows, start, end, apart: false }.checked()
    }

    /// The same with the body in another file.
    pub fn apart(mut self) -> Self {
        self.apart = true;
        self
    }

    /// The geometry that a descriptor tells.
    pub(super) fn read(d: &Descriptor) -> Result<Self> {
        if !(LEAST_CELL.ilog2()..=MOST_CELL.ilog2()).contains(&u32::from(d.log2_cell)) {
            return Err(limit("the length of a cell"));
        }
        let plan = Self {
            algorithm: Algorithm::of(d.algorithm)?,
            cell: 1 << d.log2_cell,
            columns: d.columns.get().into(),
            parity: d.parity.get().into(),
            rows: d.rows.get(),
            start: d.start.get(),
            end: d.end.get(),
            apart: d.flags & APART != 0,
        };
        let plan = plan.checked()?;
        if plan.body_len() != d.body_len.get() {
            return Err(Error::new(Kind::Damaged, "a description of parity contradicts itself"));
        }
        Ok(plan)
    }

    /// The same, if all numbers are within their limits and go together.
    fn checked(self) -> Result<Self> {
        if !self.algorithm.takes(self.columns as usize, self.parity as usize) {
            return Err(limit("the number of columns"));
        }
        if self.rows == 0 || self.rows > MOST_ROWS {
            return Err(limit("the number of rows"));
        }
        if self.start > self.end || self.end > MOST_OFFSET {
            return Err(limit("the range"));
        }
        // There is no row and no column without data, but for a range without any.
        let cells = (self.end - self.start).div_ceil(self.cell).max(1);
        if cells.div_ceil(self.columns) != self.rows || cells.div_ceil(self.rows) != self.columns {
            return Err(limit("the number of rows"));
        }
        Ok(self)
    }

    pub(super) fn describe(&self, body_at: u64, prev: u64, identity: [u8; 16], data_hash: [u8; 32]) -> Descriptor {
        let mut d = Descriptor {
            magic: MAGIC,
            version: VERSION,
            algorithm: self.algorithm as u8,
            log2_cell: self.cell.ilog2() as u8,
            flags: if self.apart { APART } else { 0 },
            columns: U16::new(self.columns as u16),
            parity: U16::new(self.parity as u16),
            rows: U64::new(self.rows),
            start: U64::new(self.start),
            end: U64::new(self.end),
            body_at: U64::new(body_at),
            body_len: U64::new(self.body_len()),
            prev: U64::new(prev),
            identity,
            data_hash,
            reserved: [0; 64],
            check: [0; 16],
        };
        d.check = d.expected_check();
        d
    }

    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The bytes that are protected, in their file.
    pub fn range(&self) -> Range<u64> {
        self.start..self.end
    }

    /// Whether the body is in another file than the range.
    pub fn is_apart(&self) -> bool {
        self.apart
    }

    /// The length of a cell in bytes.
    pub fn cell(&self) -> u64 {
        self.cell
    }

    /// Columns of data.
    pub fn columns(&self) -> u64 {
        self.columns
    }

    /// Columns of parity.
    pub fn parity(&self) -> u64 {
        self.parity
    }

    /// Cells in a column, and codewords.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Bytes of one burst that are made good for certain, wherever it is in the range or the body.
    pub fn burst(&self) -> u64 {
        // Between the last cell of the data and the first one of the parity there may be less than a cell.
        let between = (DESCRIPTOR_LEN + self.list_len()).min(self.cell);
        (self.parity - 1) * self.column_len() - (self.cell - between)
    }

    /// The length of a body in bytes, a multiple of 64.
    pub fn body_len(&self) -> u64 {
        2 * (DESCRIPTOR_LEN + self.list_len()) + self.parity * self.column_len()
    }

    /// Columns of data and of parity.
    pub(super) fn width(&self) -> u64 {
        self.columns + self.parity
    }

    /// Cells of data and of parity.
    pub(super) fn cells(&self) -> u64 {
        self.width() * self.rows
    }

    pub(super) fn column_len(&self) -> u64 {
        self.rows * self.cell
    }

    /// The length of a list of hashes without what fills it up.
    pub(super) fn hashes_len(&self) -> u64 {
        self.cells() * HASH_LEN
    }

    pub(super) fn list_len(&self) -> u64 {
        self.hashes_len().next_multiple_of(LEAST_CELL)
    }

    /// Where the hashes are in the body, column after column: what is damaged of a list is one hash of many rows each, and not
    /// many of one.
    pub(super) fn list_a(&self) -> u64 {
        DESCRIPTOR_LEN
    }

    /// Where they are once more.
    pub(super) fn list_b(&self) -> u64 {
        self.parity_at() + self.parity * self.column_len()
    }

    /// Where the first column of parity is in the body.
    pub(super) fn parity_at(&self) -> u64 {
        DESCRIPTOR_LEN + self.list_len()
    }

    /// Where a hash is in the body, in the first list.
    pub(super) fn hash_a(&self, column: u64, row: u64) -> u64 {
        self.list_a() + (column * self.rows + row) * HASH_LEN
    }

    /// Where it is in the second one.
    pub(super) fn hash_b(&self, column: u64, row: u64) -> u64 {
        self.list_b() + (column * self.rows + row) * HASH_LEN
    }

    /// Whether all of a cell is behind the end of the range: it is zeros, whatever happens to the file.
    pub(super) fn is_behind(&self, column: u64, row: u64) -> bool {
        matches!(self.place(column, row..row + 1), Place::Data(at) if at.is_empty())
    }

    /// Where so many cells of a column are: in the range, cut off at its end, or in the body.
    pub(super) fn place(&self, column: u64, rows: Range<u64>) -> Place {
        let from = column * self.column_len() + rows.start * self.cell;
        let to = column * self.column_len() + rows.end * self.cell;
        let data = self.columns * self.column_len();
        if column < self.columns {
            let at = |n: u64| (self.start + n).min(self.end);
            Place::Data(at(from)..at(to))
        } else {
            Place::Body(self.parity_at() + from - data..self.parity_at() + to - data)
        }
    }
}

/// Where cells are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// In the file with the range.
    Data(Range<u64>),
    /// In the body, counted from its beginning.
    Body(Range<u64>),
}

/// Columns of a large range. Wide: of 512 cells the parity, filled up to a power of two, is taken off.
fn most_columns(algorithm: Algorithm, share: f64) -> u64 {
    match algorithm {
        Algorithm::Wide => {
            let fits = |filled: &u64| parity_for(WIDE_TOTAL - filled, share) <= *filled;
            let filled = [2, 4, 8, 16, 32, 64, 128].into_iter().find(fits).unwrap_or(WIDE_TOTAL / 2);
            WIDE_TOTAL - filled
        }
        Algorithm::Narrow => {
            let fits = |columns: &u64| columns + parity_for(*columns, share) <= 255;
            (1..=NARROW_COLUMNS).rev().find(fits).unwrap_or(1)
        }
    }
}

/// Columns of parity: never one alone, which would promise no burst.
fn parity_for(columns: u64, share: f64) -> u64 {
    // Not the ceiling of what rounding has left over.
    ((columns as f64 * share - 1e-9).ceil() as u64).max(2)
}

fn limit(what: &str) -> Error {
    Error::new(Kind::Limit, format!("{what} of parity is beyond its limit"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn structures_have_the_sizes_of_the_specification() {
        assert_eq!(size_of::<Descriptor>() as u64, DESCRIPTOR_LEN);
        assert_eq!(size_of::<SideHeader>() as u64, SIDE_HEADER_LEN);
    }

    #[test]
    fn the_geometry_fits_the_length_and_the_share() {
        let of = |len: u64, share, algorithm| {
            let plan = Plan::of(100..100 + len, share, algorithm).unwrap();
            (plan.cell(), plan.columns(), plan.parity(), plan.rows())
        };
        assert_eq!(of(0, 0.05, Algorithm::Wide), (64, 1, 2, 1));
        assert_eq!(of(65, 0.05, Algorithm::Wide), (64, 2, 2, 1));
        assert_eq!(of(32 << 10, 0.05, Algorithm::Wide), (256, 128, 7, 1));
        assert_eq!(of(1 << 20, 0.05, Algorithm::Wide), (4096, 256, 13, 1));
        assert_eq!(of(1 << 30, 0.05, Algorithm::Wide), (4096, 480, 24, 547));
        assert_eq!(of(1 << 30, 1.0, Algorithm::Wide), (4096, 256, 256, 1024));
        assert_eq!(of(1 << 30, 0.005, Algorithm::Wide), (4096, 508, 3, 517));
        assert_eq!(of(1 << 30, 0.05, Algorithm::Narrow), (4096, 200, 10, 1311));
        assert_eq!(of(1 << 30, 1.0, Algorithm::Narrow), (4096, 127, 127, 2065));
    }

    #[test]
    fn every_plan_promises_a_burst_and_is_read_as_it_was_described() {
        for algorithm in [Algorithm::Wide, Algorithm::Narrow] {
            for share in [0.005, 0.01, 0.05, 0.3, 1.0] {
                for len in (0..42).map(|n| (1u64 << n) - 1 + n) {
                    let plan = Plan::of(7..7 + len, share, algorithm).unwrap().apart();
                    assert!(plan.burst() > 0 && plan.body_len().is_multiple_of(64));
                    assert_eq!(Plan::read(&plan.describe(64, NO_GROUP, [1; 16], [2; 32])).unwrap(), plan);
                }
            }
        }
    }

    #[test]
    fn shares_and_ranges_beyond_their_limits_are_refused() {
        for share in [0.0, 0.004, 1.01, -1.0, f64::NAN, f64::INFINITY] {
            assert_eq!(Plan::of(0..1000, share, Algorithm::Wide).unwrap_err().kind(), Kind::Usage);
        }
        #[allow(clippy::reversed_empty_ranges, reason = "that is what must be refused")]
        let backward = 5..4;
        for range in [backward, 0..u64::MAX, 0..1 << 60] {
            assert_eq!(Plan::of(range, 0.05, Algorithm::Wide).unwrap_err().kind(), Kind::Limit);
        }
    }
}
