//! Makes the body of a group: reads the range once, some rows of all columns at a time.
//!
//! ```text
//!   column      0    1    2   …
//!   batch n    ▒▒   ▒▒   ▒▒        is being computed: hashes column by column, parity row by row, in all threads
//!   batch n+1  ░░   ░░   ░░        is being read meanwhile
//! ```
//!
//! Two batches are in memory, whatever the length of the range.

use super::layout::{Descriptor, HASH_LEN, Place, Plan};
use super::{Put, Watch, go_on, hash};
use crate::codec::parity::{Code, GRAIN};
use crate::codec::spread::{self, Column};
use crate::error::Result;
use crate::pool;
use crate::source::ReadAt;
use std::ops::Range;
use std::thread::{ScopedJoinHandle, scope};
use zerocopy::IntoBytes;

/// Bytes of data and parity in a batch: a column of 512 gives 18 rows to it, or 72 KiB.
const BATCH: u64 = 36 << 20;
/// Hashes that wait for being written in the order of columns, in bytes.
const WAITING: usize = 16 << 20;
/// So many bytes of each cell are computed at once: what goes into them stays in the cache of a core.
const SLICE: usize = 16 * GRAIN;

/// Computes the body of a group and hands all its bytes to `put`, each once, the two descriptors last. `body_at` is where
/// the body is going to be in its file, `prev` where the body of the group before is, or [`super::NO_GROUP`]; `identity` is
/// that of the protected file. The watch is told how many bytes of the range are done. It takes about 100 MiB of memory.
///
/// # Errors
/// Those of the source and of `put`; `Damaged` when the source ends before the range; `Interrupted`.
pub fn encode(
    source: &dyn ReadAt,
    plan: &Plan,
    identity: [u8; 16],
    body_at: u64,
    prev: u64,
    put: Put,
    watch: Watch,
) -> Result<Descriptor> {
    let mut work = Work::new(plan)?;
    let mut batches = batches(plan).peekable();
    let mut now = read(source, plan, batches.peek().cloned().unwrap_or(0..0), Vec::new())?;
    let mut spare = Vec::new();
    let range = plan.range();
    while let Some(rows) = batches.next() {
        let next = batches.peek().cloned();
        let (made, read) = scope(|scope| {
            let ahead = scope.spawn(move || next.map_or(Ok(Vec::new()), |rows| read(source, plan, rows, spare)));
            (work.compute(&now, rows.clone()), join(ahead))
        });
        work.write(rows.clone(), made?, put)?;
        spare = std::mem::replace(&mut now, read?);
        go_on(watch, (rows.end * plan.columns() * plan.cell()).min(range.end - range.start))?;
    }
    work.write_waiting(put)?;
    write_fill(plan, put)?;
    let descriptor = plan.describe(body_at, prev, identity, work.data_hash());
    put(0, descriptor.as_bytes())?;
    put(plan.body_len() - super::DESCRIPTOR_LEN, descriptor.as_bytes())?;
    Ok(descriptor)
}

fn batches(plan: &Plan) -> impl Iterator<Item = Range<u64>> + use<> {
    let rows = plan.rows();
    let step = (BATCH / plan.width() / plan.cell()).max(1);
    (0..rows).step_by(step as usize).map(move |row| row..(row + step).min(rows))
}

/// Reads rows of all columns, column behind column, into a buffer that is not needed any more: memory that comes and goes
/// in such pieces is not given back by every allocator.
fn read(source: &dyn ReadAt, plan: &Plan, rows: Range<u64>, mut bytes: Vec<u8>) -> Result<Vec<u8>> {
    let each = ((rows.end - rows.start) * plan.cell()) as usize;
    bytes.resize(each * plan.columns() as usize, 0);
    for (column, into) in (0..).zip(bytes.chunks_exact_mut(each.max(1))) {
        if let Place::Data(at) = plan.place(column, rows.clone()) {
            let (inside, behind) = into.split_at_mut((at.end - at.start) as usize);
            source.read_exact_at(at.start, inside)?;
            behind.fill(0);
        }
    }
    Ok(bytes)
}

/// What zeros fill the lists of hashes up with.
fn write_fill(plan: &Plan, put: Put) -> Result<()> {
    let fill = vec![0; (plan.list_len() - plan.hashes_len()) as usize];
    put(plan.list_a() + plan.hashes_len(), &fill)?;
    put(plan.list_b() + plan.hashes_len(), &fill)
}

/// The working space of the threads, and what waits for being written.
struct Work<'a> {
    plan: &'a Plan,
    codes: Vec<Code>,
    digest: Digest,
    /// Hashes of each column, from this row on.
    waiting: Vec<Vec<u8>>,
    first: u64,
}

/// The hash of the range, while it is being read.
enum Digest {
    Whole([u8; 32]),
    Spread(Vec<Column>),
}

/// Parity and hashes of a batch, both column behind column.
struct Made {
    parity: Vec<u8>,
    hashes: Vec<u8>,
}

impl<'a> Work<'a> {
    fn new(plan: &'a Plan) -> Result<Self> {
        let code = |_| Code::new(plan.algorithm(), plan.columns() as usize, plan.parity() as usize);
        let codes = (0..pool::threads()).map(code).collect::<Result<_>>()?;
        let (len, one) = (plan.range().end - plan.range().start, batches(plan).count() == 1);
        let column = |n| Column::new(n * plan.column_len(), len);
        let digest =
            if one { Digest::Whole([0; 32]) } else { Digest::Spread((0..plan.columns()).map(column).collect()) };
        Ok(Self { plan, codes, digest, waiting: vec![Vec::new(); plan.width() as usize], first: 0 })
    }

    fn compute(&mut self, bytes: &[u8], rows: Range<u64>) -> Result<Made> {
        self.digest(bytes, rows.clone());
        let cell = self.plan.cell() as usize;
        let parity = self.parity(bytes, (rows.end - rows.start) as usize)?;
        let mut hashes = hash_cells(bytes, cell, self.codes.len());
        hashes.extend(hash_cells(&parity, cell, self.codes.len()));
        Ok(Made { parity, hashes })
    }

    /// Adds a batch to the hash of the range.
    fn digest(&mut self, bytes: &[u8], rows: Range<u64>) {
        let (plan, threads) = (self.plan, self.codes.len());
        let columns = match &mut self.digest {
            Digest::Whole(hash) => {
                let len = plan.range().end - plan.range().start;
                return *hash = blake3::hash(&bytes[..len as usize]).into();
            }
            Digest::Spread(columns) => columns,
        };
        let each = bytes.len() / columns.len();
        let share = columns.len().div_ceil(threads);
        let update = |n: usize, column: &mut Column| {
            if let Place::Data(at) = plan.place(n as u64, rows.clone()) {
                column.update(&bytes[n * each..n * each + (at.end - at.start) as usize]);
            }
        };
        scope(|scope| {
            for (part, columns) in columns.chunks_mut(share).enumerate() {
                scope.spawn(move || (part * share..).zip(columns).for_each(|(n, column)| update(n, column)));
            }
        });
    }

    /// The parity of a batch: each thread takes some of its rows.
    fn parity(&mut self, bytes: &[u8], rows: usize) -> Result<Vec<u8>> {
        let cell = self.plan.cell() as usize;
        let share = rows.div_ceil(self.codes.len()) * cell;
        let parts: Vec<_> = (0..rows * cell).step_by(share).map(|at| at..(at + share).min(rows * cell)).collect();
        let each = rows * cell;
        let made = scope(|scope| {
            let spawn = |(code, part): (_, &Range<usize>)| {
                let part = part.clone();
                scope.spawn(move || encode_part(code, bytes, each, part))
            };
            let threads: Vec<_> = self.codes.iter_mut().zip(&parts).map(spawn).collect();
            threads.into_iter().map(join).collect::<Result<Vec<_>>>()
        })?;
        let mut parity = vec![0; each * self.plan.parity() as usize];
        for (column, into) in parity.chunks_exact_mut(each).enumerate() {
            for (part, made) in parts.iter().zip(&made) {
                into[part.clone()].copy_from_slice(&made[column * part.len()..][..part.len()]);
            }
        }
        Ok(parity)
    }

    fn write(&mut self, rows: Range<u64>, made: Made, put: Put) -> Result<()> {
        let (plan, count) = (self.plan, (rows.end - rows.start) as usize);
        for (n, column) in (0..).zip(made.parity.chunks_exact(count * plan.cell() as usize)) {
            put(plan.parity_at() + n * plan.column_len() + rows.start * plan.cell(), column)?;
        }
        let each = count * HASH_LEN as usize;
        for (wait, hashes) in self.waiting.iter_mut().zip(made.hashes.chunks_exact(each)) {
            wait.extend_from_slice(hashes);
        }
        if self.waiting.len() * self.waiting[0].len() < WAITING { Ok(()) } else { self.write_waiting(put) }
    }

    fn write_waiting(&mut self, put: Put) -> Result<()> {
        let count = self.waiting[0].len() as u64 / HASH_LEN;
        for (column, hashes) in (0..).zip(&mut self.waiting) {
            put(self.plan.hash_a(column, self.first), hashes)?;
            put(self.plan.hash_b(column, self.first), hashes)?;
            hashes.clear();
        }
        self.first += count;
        Ok(())
    }

    fn data_hash(&self) -> [u8; 32] {
        match &self.digest {
            Digest::Whole(hash) => *hash,
            // A range of several batches has more than one chunk.
            Digest::Spread(columns) => spread::finish(columns).unwrap_or_default(),
        }
    }
}

/// The parity of a part of each column, in slices.
fn encode_part(code: &mut Code, bytes: &[u8], each: usize, part: Range<usize>) -> Result<Vec<u8>> {
    let mut made = vec![0; code.parity() * part.len()];
    for from in part.clone().step_by(SLICE) {
        let len = SLICE.min(part.end - from);
        let data: Vec<&[u8]> = bytes.chunks_exact(each).map(|column| &column[from..from + len]).collect();
        let at = from - part.start;
        let mut parity: Vec<_> = made.chunks_exact_mut(part.len()).map(|column| &mut column[at..at + len]).collect();
        code.encode(&data, &mut parity)?;
    }
    Ok(made)
}

/// The hashes of cells, in their order.
fn hash_cells(bytes: &[u8], cell: usize, threads: usize) -> Vec<u8> {
    let share = (bytes.len() / cell).div_ceil(threads) * cell;
    let some = |bytes: &[u8]| bytes.chunks_exact(cell).flat_map(hash).collect::<Vec<u8>>();
    scope(|scope| {
        let threads: Vec<_> = bytes.chunks(share).map(|part| scope.spawn(move || some(part))).collect();
        threads.into_iter().flat_map(join).collect()
    })
}

fn join<T>(thread: ScopedJoinHandle<T>) -> T {
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}
