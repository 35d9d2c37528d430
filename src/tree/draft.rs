//! A file while it is being changed: only what was touched, over what was there before.
//!
//! ```text
//!   size      ├────────────────────────────────────────────┤
//!   pieces         ▓▓▓▓▓▓      ░░░░░            ▓▓▓▓▓▓▓▓        bytes ▓, holes ░
//!   below     ├─────────────────────────┤ kept                  what was there before, as far as it was never cut off
//!   reads     bbbbb▓▓▓▓▓▓bbbbbb00000bbbb00000000▓▓▓▓▓▓▓▓000
//! ```

use crate::source::ReadAt;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

/// Writes that follow each other are gathered in pieces of at most this size.
const PIECE: usize = 1 << 20;

/// Writes up to this size are copied into a piece that is there, if they meet one; larger ones are pieces as they come.
const COPIED: usize = 64 << 10;

/// What was touched.
#[derive(Clone)]
pub enum Touched {
    /// These bytes of a buffer: from here on, as many as the piece is long.
    Bytes(Arc<Vec<u8>>, usize),
    /// Nothing: reads as zeros and needs no space.
    Hole,
    /// What another file has at this offset.
    Copy(Arc<dyn ReadAt>, u64),
}

#[derive(Clone)]
struct Piece {
    len: u64,
    what: Touched,
}

/// A stretch of a file and where its bytes are.
pub struct Part {
    pub at: u64,
    pub len: u64,
    pub from: From,
}

/// Where the bytes of a [`Part`] are.
pub enum From {
    Touched(Touched),
    /// At the same offset in what was there before.
    Below,
    /// Nowhere: zeros.
    Nothing,
}

/// The contents of a changed file.
#[derive(Clone, Default)]
pub struct Draft {
    size: u64,
    /// Bytes at the front that are still those from before, where no piece lies over them.
    kept: u64,
    /// By offset; they do not overlap.
    pieces: BTreeMap<u64, Piece>,
    /// Bytes in buffers.
    held: u64,
}

impl Draft {
    /// A file that has its contents from before.
    pub fn over(size: u64) -> Self {
        Self { size, kept: size, ..Self::default() }
    }

    pub fn size(&self) -> u64 {
        self.size
    }

    /// How much of what was there before may still be seen.
    pub fn kept(&self) -> u64 {
        self.kept
    }

    /// Bytes of memory that it holds on to.
    pub fn held(&self) -> u64 {
        self.held
    }

    /// Whether nothing was touched since it was made from `size` bytes.
    pub fn is_untouched(&self, size: u64) -> bool {
        self.pieces.is_empty() && self.kept == size && self.size == size
    }

    pub fn write(&mut self, at: u64, bytes: Vec<u8>) {
        if bytes.is_empty() {
            return;
        }
        self.size = self.size.max(at + bytes.len() as u64);
        if bytes.len() > COPIED || !self.write_in_place(at, &bytes) {
            self.put(at, bytes.len() as u64, Touched::Bytes(Arc::new(bytes), 0));
        }
    }

    /// Writes into, or at the end of, a buffer that nobody else looks at.
    fn write_in_place(&mut self, at: u64, bytes: &[u8]) -> bool {
        let end = at + bytes.len() as u64;
        let next = self.pieces.range(at.saturating_add(1)..).next().map(|(start, _)| *start);
        let Some((start, piece)) = self.pieces.range_mut(..=at).next_back() else { return false };
        let (from, until) = (*start, *start + piece.len);
        let Touched::Bytes(buffer, offset) = &mut piece.what else { return false };
        if until < at || next.is_some_and(|next| next < end && until < end) {
            return false;
        }
        let Some(buffer) = Arc::get_mut(buffer) else { return false };
        let place = *offset + (at - from) as usize;
        if end <= until {
            buffer[place..place + bytes.len()].copy_from_slice(bytes);
            return true;
        }
        if *offset + piece.len as usize != buffer.len() || place + bytes.len() > PIECE {
            return false;
        }
        buffer.truncate(place);
        buffer.extend_from_slice(bytes);
        self.held += end - until;
        piece.len = end - from;
        true
    }

    /// Cuts off what is behind, or grows by a hole.
    pub fn set_size(&mut self, size: u64) {
        if size < self.size {
            self.clear(size..u64::MAX);
            self.kept = self.kept.min(size);
        }
        self.size = size;
    }

    /// Makes a hole; the size stays.
    pub fn punch(&mut self, range: Range<u64>) {
        let range = range.start..range.end.min(self.size);
        if !range.is_empty() {
            self.put(range.start, range.end - range.start, Touched::Hole);
        }
    }

    /// Makes a stretch read as another file does from `from` on.
    pub fn copy(&mut self, at: u64, len: u64, source: Arc<dyn ReadAt>, from: u64) {
        if len > 0 {
            self.size = self.size.max(at + len);
            self.put(at, len, Touched::Copy(source, from));
        }
    }

    fn put(&mut self, at: u64, len: u64, what: Touched) {
        self.clear(at..at + len);
        if let Touched::Bytes(..) = what {
            self.held += len;
        }
        self.pieces.insert(at, Piece { len, what });
    }

    /// Takes away what pieces have in a range, which is then as if never touched.
    fn clear(&mut self, range: Range<u64>) {
        if let Some((start, piece)) = self.pieces.range(..range.start).next_back() {
            let (start, piece) = (*start, piece.clone());
            let end = start + piece.len;
            if end > range.start {
                self.remove(start);
                self.insert(start, piece.cut(0..range.start - start));
                if end > range.end {
                    self.insert(range.end, piece.cut(range.end - start..piece.len));
                }
            }
        }
        while let Some((start, piece)) = self.pieces.range(range.start..range.end).next() {
            let (start, piece) = (*start, piece.clone());
            self.remove(start);
            if start + piece.len > range.end {
                self.insert(range.end, piece.cut(range.end - start..piece.len));
            }
        }
    }

    fn remove(&mut self, start: u64) {
        if let Some(Piece { len, what: Touched::Bytes(..) }) = self.pieces.remove(&start) {
            self.held -= len;
        }
    }

    fn insert(&mut self, start: u64, piece: Piece) {
        if let Touched::Bytes(..) = piece.what {
            self.held += piece.len;
        }
        self.pieces.insert(start, piece);
    }

    /// What a range, up to the size, consists of: parts that follow each other without a gap.
    pub fn parts(&self, range: Range<u64>) -> Vec<Part> {
        let end = range.end.min(self.size);
        let mut at = range.start;
        let mut parts = Vec::new();
        let first = self.pieces.range(..at).next_back().filter(|(start, piece)| *start + piece.len > at);
        for (start, piece) in first.into_iter().chain(self.pieces.range(at..)) {
            if *start >= end {
                break;
            }
            self.untouched(at..*start, &mut parts);
            let from = (*start).max(at);
            let until = (*start + piece.len).min(end);
            let cut = piece.cut(from - *start..until - *start);
            parts.push(Part { at: from, len: cut.len, from: From::Touched(cut.what) });
            at = until;
        }
        self.untouched(at..end, &mut parts);
        parts
    }

    fn untouched(&self, range: Range<u64>, parts: &mut Vec<Part>) {
        let kept = self.kept.clamp(range.start, range.end.max(range.start));
        if kept > range.start {
            parts.push(Part { at: range.start, len: kept - range.start, from: From::Below });
        }
        if range.end > kept {
            parts.push(Part { at: kept, len: range.end - kept, from: From::Nothing });
        }
    }

    /// The stretches that were touched, in order.
    pub fn touched(&self) -> impl Iterator<Item = Part> + '_ {
        self.pieces.iter().map(|(at, piece)| Part { at: *at, len: piece.len, from: From::Touched(piece.what.clone()) })
    }

    /// Takes over what a later draft, made over this one, has touched.
    pub fn absorb(&mut self, later: &Draft) {
        if later.kept < self.size {
            self.set_size(later.kept);
        }
        self.set_size(later.size);
        for (at, piece) in &later.pieces {
            self.put(*at, piece.len, piece.what.clone());
        }
        self.size = later.size;
    }
}

impl Piece {
    fn cut(&self, range: Range<u64>) -> Piece {
        let what = match &self.what {
            Touched::Bytes(buffer, offset) => slice(buffer, *offset + range.start as usize, range.end - range.start),
            Touched::Hole => Touched::Hole,
            Touched::Copy(source, at) => Touched::Copy(source.clone(), at + range.start),
        };
        Piece { len: range.end - range.start, what }
    }
}

/// A part of a buffer; a small part of a large one is copied, so that it does not keep all of it.
fn slice(buffer: &Arc<Vec<u8>>, at: usize, len: u64) -> Touched {
    let len = len as usize;
    if len < buffer.len() / 4 {
        return Touched::Bytes(Arc::new(buffer[at..at + len].to_vec()), 0);
    }
    Touched::Bytes(buffer.clone(), at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Memory;
    use proptest::prelude::*;

    /// Reads all of a draft over `below`.
    fn all(draft: &Draft, below: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        for part in draft.parts(0..draft.size()) {
            assert_eq!(part.at, out.len() as u64, "a gap or an overlap");
            let len = part.len as usize;
            match part.from {
                From::Touched(Touched::Bytes(bytes, at)) => out.extend_from_slice(&bytes[at..at + len]),
                From::Touched(Touched::Hole) | From::Nothing => out.resize(out.len() + len, 0),
                From::Touched(Touched::Copy(source, at)) => {
                    let mut bytes = vec![0; len];
                    source.read_exact_at(at, &mut bytes).unwrap();
                    out.extend_from_slice(&bytes);
                }
                From::Below => out.extend_from_slice(&below[out.len()..out.len() + len]),
            }
        }
        assert_eq!(out.len() as u64, draft.size());
        out
    }

    #[derive(Clone, Debug)]
    enum Op {
        Write(usize, Vec<u8>),
        Size(usize),
        Punch(usize, usize),
        Copy(usize, usize, usize),
        /// Somebody else looks at the buffers from here on.
        Share,
    }

    fn op() -> impl Strategy<Value = Op> {
        let bytes = prop::collection::vec(1u8.., 0..40);
        prop_oneof![
            4 => (0..300usize, bytes).prop_map(|(at, bytes)| Op::Write(at, bytes)),
            1 => (0..300usize).prop_map(Op::Size),
            1 => (0..300usize, 0..60usize).prop_map(|(at, len)| Op::Punch(at, len)),
            1 => (0..300usize, 0..60usize, 0..40usize).prop_map(|(at, len, from)| Op::Copy(at, len, from)),
            1 => Just(Op::Share),
        ]
    }

    fn apply(op: &Op, draft: &mut Draft, plain: &mut Vec<u8>, other: &[u8], shared: &mut Vec<Draft>) {
        match op {
            Op::Write(at, bytes) => {
                draft.write(*at as u64, bytes.clone());
                if !bytes.is_empty() {
                    plain.resize(plain.len().max(at + bytes.len()), 0);
                    plain[*at..at + bytes.len()].copy_from_slice(bytes);
                }
            }
            Op::Size(size) => {
                draft.set_size(*size as u64);
                plain.resize(*size, 0);
            }
            Op::Punch(at, len) => {
                draft.punch(*at as u64..(at + len) as u64);
                let end = (at + len).min(plain.len());
                plain[(*at).min(end)..end].fill(0);
            }
            Op::Copy(at, len, from) => {
                draft.copy(*at as u64, *len as u64, Arc::new(Memory::new(other.to_vec())), *from as u64);
                if *len > 0 {
                    plain.resize(plain.len().max(at + len), 0);
                    plain[*at..at + len].copy_from_slice(&other[*from..from + len]);
                }
            }
            Op::Share => shared.push(draft.clone()),
        }
    }

    proptest! {
        #[test]
        fn a_draft_reads_as_a_file_that_was_written(
            below in prop::collection::vec(any::<u8>(), 0..200),
            early in prop::collection::vec(op(), 0..40),
            late in prop::collection::vec(op(), 0..40),
        ) {
            let other: Vec<u8> = (0..120).collect();
            let (mut plain, mut shared) = (below.clone(), Vec::new());
            let mut draft = Draft::over(below.len() as u64);
            for op in &early {
                apply(op, &mut draft, &mut plain, &other, &mut shared);
                prop_assert_eq!(&all(&draft, &below), &plain);
            }
            let held: u64 = draft.touched().map(|p| if let From::Touched(Touched::Bytes(..)) = p.from { p.len } else { 0 }).sum();
            prop_assert_eq!(draft.held(), held);

            let before = plain.clone();
            let mut later = Draft::over(before.len() as u64);
            for op in &late {
                apply(op, &mut later, &mut plain, &other, &mut shared);
                prop_assert_eq!(&all(&later, &before), &plain);
            }
            draft.absorb(&later);
            prop_assert_eq!(&all(&draft, &below), &plain);
        }
    }

    #[test]
    fn writes_that_follow_each_other_become_few_pieces() {
        let mut draft = Draft::default();
        for i in 0..1000u64 {
            draft.write(i * 4096, vec![7; 4096]);
        }
        assert_eq!(draft.touched().count(), 4);
        assert_eq!(draft.held(), 4096 * 1000);
    }
}
