//! Columns: how the rows of a table block lie in bytes.
//!
//! A block stores each field of its rows as a stream of its own, so that like stands with like and zstd has little left to
//! do. [`Out`] collects the streams of a block, [`In`] reads them back; both are driven by the row types in `rows.rs`,
//! which say what each column is.
//!
//! ```text
//! block = u8 codec (0 raw, 1 zstd) ‖ varint raw length ‖ content
//! content = varint rows ‖ varint length of each stream ‖ streams
//! ```

use super::limits;
use crate::codec::varint::{Cursor, put, unzigzag, zigzag};
use crate::codec::{damaged, zstd};
use crate::error::Result;

/// A block being written.
#[derive(Default)]
pub struct Out {
    rows: u64,
    streams: Vec<Vec<u8>>,
    last: Vec<u64>,
    last_bytes: Vec<Vec<u8>>,
    next: usize,
}

impl Out {
    /// Begins a row: columns follow in the same order in every row.
    pub fn row(&mut self) {
        self.rows += 1;
        self.next = 0;
    }

    fn column(&mut self) -> usize {
        let i = self.next;
        self.next += 1;
        if self.streams.len() <= i {
            self.streams.resize(i + 1, Vec::new());
            self.last.resize(i + 1, 0);
            self.last_bytes.resize(i + 1, Vec::new());
        }
        i
    }

    /// `u`: a number.
    pub fn u(&mut self, n: u64) {
        let i = self.column();
        put(&mut self.streams[i], n);
    }

    /// `d`: a number, as the difference to the row before.
    pub fn d(&mut self, n: u64) {
        let i = self.column();
        let delta = n.wrapping_sub(std::mem::replace(&mut self.last[i], n));
        put(&mut self.streams[i], zigzag(delta as i64));
    }

    /// `b`: bytes, their lengths in one stream and they themselves in the next.
    pub fn b(&mut self, bytes: &[u8]) {
        self.u(bytes.len() as u64);
        let i = self.column();
        self.streams[i].extend_from_slice(bytes);
    }

    /// `p`: bytes that share their front with the row before.
    pub fn p(&mut self, bytes: &[u8]) {
        let i = self.column();
        let shared = self.last_bytes[i].iter().zip(bytes).take_while(|(a, b)| a == b).count();
        put(&mut self.streams[i], shared as u64);
        self.last_bytes[i].truncate(shared);
        self.last_bytes[i].extend_from_slice(&bytes[shared..]);
        self.b(&bytes[shared..]);
    }

    /// `h`: 32 bytes.
    pub fn h(&mut self, hash: &[u8; 32]) {
        let i = self.column();
        self.streams[i].extend_from_slice(hash);
    }

    /// `x`: extents; each address as the distance to the end of the extent before, carried on from row to row.
    pub fn x(&mut self, extents: &[(u64, u64)]) {
        self.u(extents.len() as u64);
        let i = self.column();
        let lens = self.column();
        for (address, len) in extents {
            if *address == 0 {
                // A hole leaves the cursor where it is: 0 is the distance of adjacent data, so holes have an escape.
                put(&mut self.streams[i], 1);
            } else {
                let distance = zigzag(address.wrapping_sub(self.last[i]) as i64);
                put(&mut self.streams[i], if distance == 0 { 0 } else { distance + 1 });
                self.last[i] = address + len;
            }
            put(&mut self.streams[lens], *len);
        }
    }

    /// Bytes collected so far, before compression.
    pub fn raw_len(&self) -> usize {
        self.streams.iter().map(Vec::len).sum()
    }

    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// The finished block.
    pub fn finish(self, level: i32) -> Result<Vec<u8>> {
        let mut raw = Vec::with_capacity(self.raw_len() + 64);
        put(&mut raw, self.rows);
        self.streams.iter().for_each(|s| put(&mut raw, s.len() as u64));
        self.streams.iter().for_each(|s| raw.extend_from_slice(s));
        let packed = zstd::encode(&raw, zstd::Effort::level(level), zstd::With::Nothing)?;
        let (codec, content) = if packed.len() < raw.len() { (1, &packed) } else { (0, &raw) };
        let mut block = vec![codec];
        put(&mut block, raw.len() as u64);
        block.extend_from_slice(content);
        Ok(block)
    }
}

/// Takes the content of a block out of its envelope.
pub fn unwrap(block: &[u8], raw_limit: u64) -> Result<Vec<u8>> {
    let mut cursor = Cursor(block);
    let codec = cursor.bytes(1)?[0];
    let raw_len = cursor.number_to(raw_limit, "the size of a table block")?;
    match codec {
        0 if cursor.0.len() as u64 == raw_len => Ok(cursor.0.to_vec()),
        1 => zstd::decode(cursor.0, raw_len as usize, zstd::With::Nothing),
        _ => Err(damaged("a table block is of an unknown codec")),
    }
}

/// A block being read.
pub struct In<'a> {
    rows: u64,
    streams: Vec<Cursor<'a>>,
    last: Vec<u64>,
    last_bytes: Vec<Vec<u8>>,
    /// What the names may still add up to when they are written out.
    text_left: u64,
    next: usize,
}

impl<'a> In<'a> {
    /// Takes the content of a block apart; `columns` is the number of streams of its kind of rows.
    pub fn new(raw: &'a [u8], columns: usize, row_limit: u64) -> Result<Self> {
        let mut cursor = Cursor(raw);
        let rows = cursor.number_to(row_limit, "the number of rows of a block")?;
        let lens = (0..columns).map(|_| cursor.number()).collect::<Result<Vec<_>>>()?;
        let streams = lens.into_iter().map(|len| cursor.bytes(len).map(Cursor)).collect::<Result<Vec<_>>>()?;
        let (last, last_bytes) = (vec![0; columns], vec![Vec::new(); columns]);
        Ok(Self { rows, streams, last, last_bytes, text_left: limits::BLOCK_TEXT, next: 0 })
    }

    /// Sets another limit to what the names add up to.
    pub fn with_text(self, text_left: u64) -> Self {
        Self { text_left, ..self }
    }

    pub fn text_left(&self) -> u64 {
        self.text_left
    }

    pub fn rows(&self) -> usize {
        self.rows as usize
    }

    pub fn row(&mut self) {
        self.next = 0;
    }

    #[inline]
    fn column(&mut self) -> usize {
        self.next += 1;
        self.next - 1
    }

    #[inline]
    pub fn u(&mut self) -> Result<u64> {
        let i = self.column();
        self.streams[i].number()
    }

    #[inline]
    pub fn d(&mut self) -> Result<u64> {
        let i = self.column();
        let delta = unzigzag(self.streams[i].number()?) as u64;
        self.last[i] = self.last[i].wrapping_add(delta);
        Ok(self.last[i])
    }

    pub fn b(&mut self) -> Result<&'a [u8]> {
        let len = self.u()?;
        let i = self.column();
        self.streams[i].bytes(len)
    }

    /// Valid until the next row.
    pub fn p(&mut self, limit: usize) -> Result<&[u8]> {
        let i = self.column();
        let shared = self.streams[i].number()? as usize;
        let rest = self.b()?;
        let whole = &mut self.last_bytes[i];
        if shared > whole.len() || shared.saturating_add(rest.len()) > limit {
            return Err(damaged("a name in a table block is too long or shares more than there is"));
        }
        // A few bytes for each row can stand for names of gigabytes that share all but their ends.
        let len = (shared + rest.len()) as u64;
        let left = self.text_left.checked_sub(len);
        self.text_left = left.ok_or_else(|| damaged("the names in a table block are too long together"))?;
        whole.truncate(shared);
        whole.extend_from_slice(rest);
        Ok(whole)
    }

    pub fn h(&mut self) -> Result<[u8; 32]> {
        let i = self.column();
        let bytes = self.streams[i].bytes(32)?;
        Ok(bytes.try_into().expect("32 bytes were asked for"))
    }

    /// Hands each extent on as address (0 for a hole) and length.
    pub fn x(&mut self, mut each: impl FnMut(u64, u64)) -> Result<()> {
        let count = self.u()?;
        let (i, lens) = (self.column(), self.column());
        if count > limits::EXTENTS_INLINE {
            return Err(damaged("a row has more extents than may stand inline"));
        }
        for _ in 0..count {
            let code = self.streams[i].number()?;
            let len = self.streams[lens].number()?;
            if code == 1 {
                each(0, len);
                continue;
            }
            let distance = unzigzag(code.saturating_sub(1)) as u64;
            let address = self.last[i].wrapping_add(distance);
            self.last[i] = address.checked_add(len).ok_or_else(|| damaged("an extent ends beyond 64 bits"))?;
            each(address, len);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_column_comes_back() {
        let mut out = Out::default();
        let names: [&[u8]; 4] = [b"alpha", b"alphabet", b"", b"beta"];
        let extents: [&[(u64, u64)]; 4] =
            [&[(4096, 10)], &[(4106, 5), (0, 100), (4111, 1)], &[], &[(5000, 7), (4096, 4)]];
        for (i, name) in names.iter().enumerate() {
            out.row();
            out.u(i as u64 * 1000);
            out.d(u64::MAX - i as u64);
            out.p(name);
            out.b(name);
            out.h(&[i as u8; 32]);
            out.x(extents[i]);
        }
        let raw = unwrap(&out.finish(3).unwrap(), 1 << 20).unwrap();
        let mut input = In::new(&raw, 11, 100).unwrap();
        assert_eq!(input.rows(), 4);
        for (i, name) in names.iter().enumerate() {
            input.row();
            assert_eq!(input.u().unwrap(), i as u64 * 1000);
            assert_eq!(input.d().unwrap(), u64::MAX - i as u64);
            assert_eq!(input.p(100).unwrap(), *name);
            assert_eq!(input.b().unwrap(), *name);
            assert_eq!(input.h().unwrap(), [i as u8; 32]);
            let mut got = Vec::new();
            input.x(|a, l| got.push((a, l))).unwrap();
            assert_eq!(got, extents[i]);
        }
    }
}
