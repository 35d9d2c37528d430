//! Parity: what it promises is kept wherever the damage is, and beyond the promise nothing is made up.

use std::ops::Range;
use std::sync::{Arc, Mutex};
use stmount::error::{Error, Kind, Result};
use stmount::source::parity::{Algorithm, DESCRIPTOR_LEN, Group, Mender, NO_GROUP, Plan, Report, Side};
use stmount::source::parity::{encode, scan, side_len};
use stmount::source::{Memory, ReadAt, Store};

const ID: [u8; 16] = *b"a container's id";
/// What stands before the range.
const BEFORE: usize = 300;

/// Numbers without a pattern, the same each time.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    fn below(&mut self, n: u64) -> u64 {
        (self.next() >> 11) % n.max(1)
    }

    fn bytes(&mut self, len: usize) -> Vec<u8> {
        let mut bytes: Vec<u8> = (0..len.div_ceil(8)).flat_map(|_| self.next().to_le_bytes()).collect();
        bytes.truncate(len);
        bytes
    }
}

fn on(_: u64) -> bool {
    true
}

/// A file with a range and, right behind it, its body.
struct Case {
    plan: Plan,
    body_at: u64,
    whole: Vec<u8>,
}

impl Case {
    fn new(len: usize, share: f64, algorithm: Algorithm) -> Self {
        let mut dice = Dice(len as u64 + 77);
        let mut whole = dice.bytes(BEFORE + len);
        let range = BEFORE as u64..whole.len() as u64;
        let plan = Plan::of(range, share, algorithm).unwrap();
        let body_at = whole.len() as u64;
        let body = body(&Memory::new(whole.clone()), &plan, body_at);
        whole.extend(body);
        whole.extend(dice.bytes(500));
        Self { plan, body_at, whole }
    }

    fn body(&self) -> Range<u64> {
        self.body_at..self.body_at + self.plan.body_len()
    }

    /// The group, from whichever of its descriptors is whole.
    fn group(&self, file: &dyn ReadAt) -> Group {
        let front = Group::read(file, self.body_at, Some(ID));
        front.or_else(|_| Group::read_back(file, self.body().end, Some(ID))).unwrap()
    }

    fn mender(&self, bytes: Vec<u8>) -> (Arc<Memory>, Mender) {
        let file = Arc::new(Memory::new(bytes));
        let group = self.group(&*file);
        (file.clone(), Mender::new(file.clone(), file, vec![group]))
    }

    /// Everything is as it was: read through the mender, and once the pieces are written.
    fn assert_mended(&self, damaged: Vec<u8>, what: &str) {
        let is_damaged = damaged != self.whole;
        let (file, mender) = self.mender(damaged);
        let protected = BEFORE..self.body_at as usize;
        let mut read = vec![0; protected.len()];
        mender.read_exact_at(BEFORE as u64, &mut read).unwrap();
        assert!(read == self.whole[protected], "{what}: reading");
        let report = repair(&mender, &file, &file);
        assert_eq!((report.lost.as_slice(), report.lost_cells), ([].as_slice(), 0), "{what}");
        assert!(all(&file) == self.whole, "{what}: repairing {report:?}");
        assert_eq!(!report.is_whole(), is_damaged, "{what}: {report:?}");
        assert!(mender.verify(&on).unwrap().is_whole(), "{what}: after it");
    }
}

fn body(data: &dyn ReadAt, plan: &Plan, at: u64) -> Vec<u8> {
    let body = Mutex::new(vec![0xEE; plan.body_len() as usize]);
    let put = |at: u64, bytes: &[u8]| {
        body.lock().unwrap()[at as usize..at as usize + bytes.len()].copy_from_slice(bytes);
        Ok(())
    };
    encode(data, plan, ID, at, NO_GROUP, &put, &on).unwrap();
    body.into_inner().unwrap()
}

fn repair(mender: &Mender, data: &Memory, parity: &Memory) -> Report {
    let mut give = |piece: stmount::source::parity::Piece| {
        let file = if piece.to_parity { parity } else { data };
        file.write_at(piece.at, &piece.bytes)
    };
    mender.repairs(&on, &mut give).unwrap()
}

fn all(file: &dyn ReadAt) -> Vec<u8> {
    let mut bytes = vec![0; file.len().unwrap() as usize];
    file.read_exact_at(0, &mut bytes).unwrap();
    bytes
}

/// Changes every byte of a range, in one of three ways.
fn spoil(bytes: &mut [u8], range: Range<u64>, dice: &mut Dice) {
    let range = range.start as usize..(range.end as usize).min(bytes.len());
    let way = dice.below(3);
    for byte in &mut bytes[range] {
        *byte = match way {
            0 => 0,
            1 => dice.next() as u8,
            _ => !*byte,
        };
    }
}

fn cases() -> impl Iterator<Item = Case> {
    let lengths = [0, 1, 63, 64, 65, 1000, 4096, 10_000, 70_000, 300_001, 524_288, 1_500_000, 2_100_000, 5_000_001];
    let kinds = [Algorithm::Wide, Algorithm::Narrow].into_iter().flat_map(|a| [0.01, 0.05, 0.3].map(|s| (a, s)));
    let all = kinds.flat_map(move |kind| lengths.map(|len| (kind, len)));
    // The narrow code is slow: it has the same paths in small.
    all.filter(|((a, _), len)| *a == Algorithm::Wide || *len < 1_600_000).map(|((a, s), len)| Case::new(len, s, a))
}

#[test]
fn what_is_whole_is_left_alone() {
    for case in cases() {
        case.assert_mended(case.whole.clone(), &format!("{:?}", case.plan));
    }
}

#[test]
fn a_burst_of_the_promised_length_is_mended_wherever_it_is() {
    let mut dice = Dice(1);
    for case in cases() {
        let (burst, end) = (case.plan.burst(), case.body().end);
        let first = BEFORE as u64;
        let data_end = case.body_at;
        let lists = case.plan.body_len() - case.plan.parity() * case.plan.rows() * case.plan.cell();
        let places = [
            first,
            data_end.saturating_sub(burst / 2),
            data_end.saturating_sub(1),
            data_end,
            data_end + DESCRIPTOR_LEN / 2,
            data_end + lists / 2,
            end.saturating_sub(burst),
            end.saturating_sub(burst + DESCRIPTOR_LEN),
            end.saturating_sub(burst + lists / 2 + 1),
            first + dice.below(end - first),
        ];
        for at in places.into_iter().map(|at| at.max(first)) {
            let mut damaged = case.whole.clone();
            spoil(&mut damaged, at..(at + burst).min(end), &mut dice);
            case.assert_mended(damaged, &format!("{:?}, {burst} at {at}", case.plan));
        }
    }
}
