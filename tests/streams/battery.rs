//! What every compressed stream must stand: it is decoded whole, from each of its points, cut anywhere, and with bits that
//! fell over.

use super::dice::Dice;
use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::Arc;
use stmount::error::{Kind, Result};
use stmount::source::{Memory, Point, ReadAt, Stream};

pub type Opened = Result<Arc<dyn Stream>>;

/// A compressed file, what must come out, and how it is opened.
pub struct Case<'a> {
    pub name: &'a str,
    pub packed: Vec<u8>,
    pub plain: &'a [u8],
    pub open: &'a dyn Fn(Arc<dyn ReadAt>) -> Opened,
    /// Whether a check makes sure that wrong bytes are seen.
    pub checked: bool,
    /// Decoded lengths at which the file may end as well: those of whole members.
    pub ends: &'a [usize],
    /// Memory that a decoder may take.
    pub weight: usize,
}

impl Case<'_> {
    fn open(&self, packed: Vec<u8>) -> Opened {
        (self.open)(Arc::new(Memory::new(packed)))
    }

    /// Everything but the cuts, which are for small files.
    pub fn stands(&self) {
        let points = self.whole();
        self.every_point(&points);
        self.fallen_bits(&points);
    }

    /// Decodes it from the front in pieces of all sizes, and gives the points of it.
    pub fn whole(&self) -> Vec<Point> {
        let stream = self.open(self.packed.clone()).unwrap();
        if let Some(len) = stream.len() {
            assert_eq!(len, self.plain.len() as u64, "{}", self.name);
        }
        let mut points = stream.points().unwrap();
        assert!(points.is_sorted_by_key(|p| p.at), "{}: the points are in no order", self.name);
        let mut decoder = stream.start(None).unwrap_or_else(|e| panic!("{}: {e}", self.name));
        let (mut at, mut dice, mut buf) = (0, Dice(7), vec![0; 100_000]);
        loop {
            let size = [1, 2, 3, 700, 40_000, 100_000][dice.below(6) as usize];
            let n = decoder.read(&mut buf[..size]).unwrap_or_else(|e| panic!("{} at {at}: {e}", self.name));
            if n == 0 {
                break;
            }
            assert!(self.plain[at..].starts_with(&buf[..n]), "{}: wrong bytes at {at}", self.name);
            at += n;
            assert!(decoder.weight() <= self.weight, "{}: {} bytes of memory", self.name, decoder.weight());
            let point = decoder.point(1);
            assert!(point.as_ref().is_none_or(|p| p.at > 0 && p.at <= at as u64), "{}: {point:?} at {at}", self.name);
            points.extend(point);
        }
        assert_eq!(at, self.plain.len(), "{}", self.name);
        assert_eq!(decoder.read(&mut buf).unwrap(), 0, "{}: an end that does not last", self.name);
        points
    }

    /// The points that are known without decoding.
    pub fn known(&self) -> Vec<Point> {
        self.open(self.packed.clone()).unwrap().points().unwrap()
    }

    pub fn every_point(&self, points: &[Point]) {
        let stream = self.open(self.packed.clone()).unwrap();
        for point in points {
            let at = point.at as usize;
            let got = decode(&*stream, Some(point), self.plain.len());
            let got = got.unwrap_or_else(|e| panic!("{} from {at}: {e}", self.name));
            assert!(got == self.plain[at..], "{}: wrong bytes from the point at {at}", self.name);
            for cut in [0, 1, point.state.len() / 2, point.state.len().saturating_sub(1)] {
                let torn = Point { at: point.at, state: point.state[..cut.min(point.state.len())].into() };
                let _ = decode(&*stream, Some(&torn), 1000);
            }
        }
    }

    /// Cut anywhere, it is an error or, behind a whole member, shorter.
    pub fn cut_everywhere(&self) {
        for len in 0..self.packed.len() {
            self.judge(self.packed[..len].to_vec(), &[], &format!("cut at {len}"));
        }
    }

    /// The same, at some of the places.
    pub fn cut_at_some(&self, cuts: u64) {
        let mut dice = Dice(5);
        for _ in 0..cuts {
            let len = dice.below(self.packed.len() as u64) as usize;
            self.judge(self.packed[..len].to_vec(), &[], &format!("cut at {len}"));
        }
    }

    /// One bit is wrong: an error, or the right bytes, where there is a check.
    pub fn fallen_bits(&self, points: &[Point]) {
        let mut dice = Dice(11);
        for _ in 0..500 {
            let mut packed = self.packed.clone();
            let at = dice.below(packed.len() as u64) as usize;
            let bit = dice.below(8);
            packed[at] ^= 1 << bit;
            let some = points.get(dice.below(points.len().max(1) as u64) as usize);
            self.judge(packed, some.as_slice(), &format!("bit {bit} of byte {at} fell over"));
        }
    }

    fn judge(&self, packed: Vec<u8>, points: &[&Point], what: &str) {
        let Ok(stream) = self.open(packed) else { return };
        let _ = stream.points();
        for point in points {
            let _ = decode(&*stream, Some(point), self.plain.len() + 1000);
        }
        // A block of bzip2 can be decoded to so much before its check comes.
        match decode(&*stream, None, self.plain.len() + (6 << 20)) {
            Err(e) => assert!(
                matches!(e.kind(), Kind::Damaged | Kind::Limit | Kind::Unsupported),
                "{}: {what}: {e:?}",
                self.name
            ),
            Ok(got) if self.checked => {
                let whole = got.len() == self.plain.len() || self.ends.contains(&got.len());
                assert!(whole && self.plain.starts_with(&got), "{}: {what}: {} wrong bytes", self.name, got.len());
            }
            Ok(_) => {}
        }
    }
}

/// What comes out from a point on, up to `most` bytes and a little more.
pub fn decode(stream: &dyn Stream, from: Option<&Point>, most: usize) -> Result<Vec<u8>> {
    let mut decoder = stream.start(from)?;
    let (mut all, mut buf) = (Vec::new(), vec![0; 50_000]);
    while all.len() <= most {
        match decoder.read(&mut buf)? {
            0 => break,
            n => all.extend_from_slice(&buf[..n]),
        }
    }
    Ok(all)
}

/// What a program makes of its standard input.
pub fn through(program: &str, args: &[&str], input: &[u8]) -> Vec<u8> {
    let mut child = Command::new(program)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|e| panic!("{program} is needed for this test: {e}"));
    let mut stdin = child.stdin.take().unwrap();
    let out = std::thread::scope(|scope| {
        scope.spawn(move || stdin.write_all(input).unwrap());
        child.wait_with_output().unwrap()
    });
    assert!(out.status.success(), "{program} {args:?}: {}", out.status);
    out.stdout
}

/// The same, by a few lines of Python that turn the bytes `d` into the bytes `o`.
pub fn python(lines: &str, input: &[u8]) -> Vec<u8> {
    let python = std::env::var("STMOUNT_TEST_PYTHON").unwrap_or_else(|_| "python3".into());
    let script = format!("import sys\nd = sys.stdin.buffer.read()\n{lines}\nsys.stdout.buffer.write(o)");
    through(&python, &["-c", &script], input)
}

/// The compressed bytes of the first member of a zip archive that tells its lengths in front.
pub fn member(zip: &[u8]) -> Vec<u8> {
    let number = |at: usize, n: usize| zip[at..at + n].iter().rev().fold(0, |sum, b| sum << 8 | usize::from(*b));
    let start = 30 + number(26, 2) + number(28, 2);
    zip[start..start + number(18, 4)].to_vec()
}

/// Bytes with words, numbers, noise, and long runs.
pub fn mixed(len: usize) -> Vec<u8> {
    let mut dice = Dice(len as u64);
    let mut bytes = Vec::with_capacity(len + 3000);
    while bytes.len() < len {
        match dice.below(8) {
            0 => bytes.extend((0..dice.below(2000)).map(|_| dice.below(256) as u8).collect::<Vec<_>>()),
            1 => bytes.resize(bytes.len() + dice.below(3000) as usize, dice.below(3) as u8),
            2 => (0..dice.below(300) as u32).for_each(|n| bytes.extend((n * 40_503).to_le_bytes())),
            3 if bytes.len() > 100 => {
                let from = dice.below(bytes.len() as u64 - 50) as usize;
                let to = bytes.len().min(from + dice.below(2000) as usize);
                bytes.extend_from_within(from..to);
            }
            _ => (0..dice.below(300)).for_each(|_| {
                let word = dice.below(50) * dice.below(50);
                bytes.extend(format!("{} w{:x} ", word % 17, word * 7919).bytes());
            }),
        }
    }
    bytes.truncate(len);
    bytes
}
