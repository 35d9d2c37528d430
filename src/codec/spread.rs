//! BLAKE3 of a text whose pieces do not come in their order.
//!
//! ```text
//!   text      │ column 0      │ column 1      │ column 2   │      each grows at its own end
//!   subtrees  │ [      ][  ][]│[][  ][      ] │[  ][  ][]  │      joined in pairs as soon as both are there
//! ```
//!
//! The tree of BLAKE3 has subtrees of 1024 · 2^n bytes at multiples of their length. The value of one depends on its bytes
//! and on where they are, so columns can be hashed apart, and by several threads.

use blake3::Hasher;
use blake3::hazmat::{HasherExt, Mode, merge_subtrees_non_root, merge_subtrees_root};

/// Columns begin at multiples of this, and what is added to one has such a length, but for the last bytes of the text.
const CHUNK: u64 = blake3::CHUNK_LEN as u64;

/// Bytes `at..at + len` of the text, as a node of the tree.
#[derive(Clone, Copy)]
struct Subtree {
    at: u64,
    len: u64,
    value: [u8; 32],
}

/// A stretch of the text that grows at its end.
pub struct Column {
    at: u64,
    total: u64,
    nodes: Vec<Subtree>,
}

impl Column {
    /// The stretch that begins at `at`, a multiple of 1024, of a text of `total` bytes, which are more than 1024.
    pub fn new(at: u64, total: u64) -> Self {
        Self { at, total, nodes: Vec::new() }
    }

    /// Adds bytes at the end: a multiple of 1024, or the last ones of the text.
    pub fn update(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let (now, rest) = bytes.split_at(self.step(bytes.len() as u64) as usize);
            let value = Hasher::new().set_input_offset(self.at).update(now).finalize_non_root();
            push(&mut self.nodes, Subtree { at: self.at, len: now.len() as u64, value }, self.total);
            self.at += now.len() as u64;
            bytes = rest;
        }
    }

    /// The length of the largest subtree that begins here and is there in full.
    fn step(&self, there: u64) -> u64 {
        if there < CHUNK {
            return there;
        }
        let full = 1 << there.ilog2();
        let aligned = if self.at == 0 { full } else { full.min(1 << self.at.trailing_zeros()) };
        // The root is made last, of its two halves.
        if aligned >= self.total { aligned / 2 } else { aligned }
    }
}

/// Puts a node behind the others, and joins it with those whose other half it is.
fn push(nodes: &mut Vec<Subtree>, mut node: Subtree, total: u64) {
    while let Some(left) = nodes.last().copied() {
        let pair = left.len == node.len && left.len.is_power_of_two() && left.len >= CHUNK;
        if !pair || !left.at.is_multiple_of(2 * left.len) || 2 * left.len >= total {
            break;
        }
        nodes.pop();
        let value = merge_subtrees_non_root(&left.value, &node.value, Mode::Hash);
        node = Subtree { at: left.at, len: 2 * left.len, value };
    }
    nodes.push(node);
}

/// The hash of the text, from columns that are one behind the other and leave nothing out. `None` for a text of one chunk.
pub fn finish(columns: &[Column]) -> Option<[u8; 32]> {
    let mut nodes = Vec::new();
    for column in columns {
        column.nodes.iter().for_each(|node| push(&mut nodes, *node, column.total));
    }
    let mut right = nodes.pop()?.value;
    let first = nodes.first()?.value;
    for left in nodes[1..].iter().rev() {
        right = merge_subtrees_non_root(&left.value, &right, Mode::Hash);
    }
    Some(merge_subtrees_root(&first, &right, Mode::Hash).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(len: usize) -> Vec<u8> {
        (0..len).map(|i| (i * i / 13 + i) as u8).collect()
    }

    /// Columns of this length, which grow in turns by so many bytes.
    fn spread(text: &[u8], column: usize, piece: usize) -> Option<[u8; 32]> {
        let total = text.len() as u64;
        let mut parts: Vec<_> = text.chunks(column).map(|part| part.chunks(piece)).collect();
        let mut columns: Vec<_> = (0..parts.len()).map(|n| Column::new((n * column) as u64, total)).collect();
        for _ in 0..column.div_ceil(piece) {
            for (column, part) in columns.iter_mut().zip(&mut parts) {
                part.next().into_iter().for_each(|bytes| column.update(bytes));
            }
        }
        finish(&columns)
    }

    #[test]
    fn columns_in_turns_give_the_hash_of_the_whole() {
        for len in [1025, 2048, 4096, 5000, 65536, 65537, 100_000, 131_072, 1 << 18, (1 << 18) + 1] {
            let text = text(len);
            for (column, piece) in [(1024, 1024), (4096, 4096), (12288, 4096), (53248, 8192), (1 << 20, 1 << 20)] {
                let want = blake3::hash(&text).into();
                assert_eq!(spread(&text, column, piece), Some(want), "{len} in columns of {column} by {piece}");
            }
        }
    }

    #[test]
    fn one_chunk_is_none_of_its_business() {
        assert_eq!(spread(&text(0), 1024, 1024), None);
    }
}
