//! Parity: what it promises is kept wherever the damage is, and beyond the promise nothing is made up.

use std::ops::Range;
use std::sync::{Arc, Mutex};
use stmount::error::{Error, Kind, Result};
use stmount::source::parity::{Algorithm, DESCRIPTOR_LEN, Group, Mender, NO_GROUP, Plan, Report, Side};
use stmount::source::parity::{Piece, encode, scan, side_len};
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
        assert!(all(&*file) == self.whole, "{what}: repairing {report:?}");
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
    let mut give = |piece: Piece| {
        let file = if piece.to_parity { parity } else { data };
        file.write_at(piece.at, &piece.bytes)
    };
    let found = mender.survey_all(&on).unwrap();
    mender.repairs(&found, &on, &mut give).unwrap();
    found.report
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
    let lengths = [0, 1, 63, 64, 65, 1000, 4096, 10_000, 70_000, 300_001, 1_500_000, 5_000_001];
    let kinds = [Algorithm::Wide, Algorithm::Narrow].into_iter().flat_map(|a| [0.01, 0.05, 0.3].map(|s| (a, s)));
    let all = kinds.flat_map(move |kind| lengths.map(|len| (kind, len)));
    // The narrow code is slow: it has the same paths in small. And several rows are several rows with any share.
    let most = |(algorithm, share)| match algorithm {
        Algorithm::Wide if share == 0.05 => usize::MAX,
        Algorithm::Narrow if share != 0.05 => 400_000,
        _ => 1_600_000,
    };
    all.filter(move |(kind, len)| *len < most(*kind)).map(|((a, s), len)| Case::new(len, s, a))
}

/// The example of the specification: byte `i` is `(31 i + i² div 7) mod 256`.
#[test]
fn the_body_of_the_specification_comes_out() {
    let data: Vec<u8> = (0..1000u64).map(|i| (31 * i + i * i / 7) as u8).collect();
    for (algorithm, want) in [
        (Algorithm::Wide, "9864459db6987dcdfd76d77176c79648cfb250c472ce4ab45a00246fda181cb0"),
        (Algorithm::Narrow, "a66cf1aafa84a6e44ac9c75bf4f0ada125bda692f16e6ad157421786c9605c0b"),
    ] {
        let plan = Plan::of(0..1000, 0.2, algorithm).unwrap();
        assert_eq!((plan.cell(), plan.columns(), plan.parity(), plan.rows()), (64, 16, 4, 1));
        let body = body(&Memory::new(data.clone()), &plan, 1024);
        assert_eq!((body.len(), blake3::hash(&body).to_hex().as_str()), (1024, want));
    }
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

#[test]
fn scattered_sectors_are_mended() {
    let mut dice = Dice(2);
    for (len, sector) in [(60_000, 64), (200_000, 512), (3_000_000, 4096), (20_000_000, 4096)] {
        for algorithm in [Algorithm::Wide, Algorithm::Narrow].into_iter().take(if len > 1_000_000 { 1 } else { 2 }) {
            let case = Case::new(len, 0.05, algorithm);
            let mut damaged = case.whole.clone();
            let sectors = (case.body().end - BEFORE as u64) / sector;
            // Of one per cent of all sectors; a descriptor of the two must be left.
            for _ in 0..sectors / 100 {
                let at = BEFORE as u64 + dice.below(sectors - 1) * sector;
                spoil(&mut damaged, at..(at + sector).min(case.body().end - DESCRIPTOR_LEN), &mut dice);
            }
            case.assert_mended(damaged, &format!("{:?}", case.plan));
        }
    }
}

#[test]
fn a_range_of_several_batches_is_hashed_and_mended() {
    let mut dice = Dice(3);
    let case = Case::new(40 << 20, 0.05, Algorithm::Wide);
    let want = blake3::hash(&case.whole[BEFORE..case.body_at as usize]);
    assert_eq!(case.group(&Memory::new(case.whole.clone())).data_hash(), *want.as_bytes());
    let at = BEFORE as u64 + dice.below(case.body_at - case.plan.burst());
    let mut damaged = case.whole.clone();
    spoil(&mut damaged, at..at + case.plan.burst(), &mut dice);
    case.assert_mended(damaged, "40 MiB");
}

#[test]
fn what_is_beyond_the_promise_is_lost_exactly_and_the_rest_is_served() {
    let mut dice = Dice(4);
    for algorithm in [Algorithm::Wide, Algorithm::Narrow] {
        let case = Case::new(3_000_000, 0.02, algorithm);
        let (cell, rows, m) = (case.plan.cell(), case.plan.rows(), case.plan.parity());
        assert!(rows > 1);
        let mut damaged = case.whole.clone();
        // One cell more than can be rebuilt, all in the first row; and one in the second row.
        let cells: Vec<u64> = (0..=m).map(|n| BEFORE as u64 + 2 * n * rows * cell).collect();
        let other = BEFORE as u64 + (3 * rows + 1) * cell;
        cells.iter().chain([&other]).for_each(|at| spoil(&mut damaged, *at..*at + 10, &mut dice));
        let lost: Vec<_> = cells.iter().map(|at| *at..*at + cell).collect();

        let (file, mender) = case.mender(damaged.clone());
        let report = mender.verify(&on).unwrap();
        assert_eq!((report.lost.clone(), report.lost_cells), (lost.clone(), m + 1));
        assert_eq!((report.bad_cells, report.bad_parity, report.bad_hashes), (m + 2, 0, 0));

        let mut want = case.whole.clone();
        lost.iter().for_each(|r| copy(&damaged, &mut want, r));
        assert!(all(&mender) == want);
        assert_eq!((mender.lost(), mender.rebuilt()), (m + 1, 1));
        assert_eq!(repair(&mender, &file, &file), report);
        assert!(all(&*file) == want, "the rest is repaired, and nothing is made up");
    }
}

fn copy(from: &[u8], into: &mut [u8], range: &Range<u64>) {
    let range = range.start as usize..range.end as usize;
    into[range.clone()].copy_from_slice(&from[range]);
}

#[test]
fn another_group_with_the_same_bytes_helps() {
    let mut dice = Dice(5);
    let first = Case::new(300_000, 0.02, Algorithm::Wide);
    let end = first.whole.len() as u64;
    // The second group has half of the range of the first, the body of that, and cells that lie otherwise.
    let plan = Plan::of(150_001..end, 0.2, Algorithm::Narrow).unwrap();
    let mut whole = first.whole.clone();
    whole.extend(body(&Memory::new(whole.clone()), &plan, end));
    let mut damaged = whole.clone();
    let burst = first.plan.burst() + 2 * first.plan.cell();
    assert!(plan.burst() > burst);
    spoil(&mut damaged, 200_000..200_000 + burst, &mut dice);

    let file = Arc::new(Memory::new(damaged));
    let groups = scan(&*file, 0, Some(ID), &on).unwrap();
    assert_eq!(groups.len(), 2);
    let mender = Mender::new(file.clone(), file.clone(), groups);
    assert!(all(&mender) == whole);
    let report = repair(&mender, &file, &file);
    assert_eq!(report.lost, []);
    assert!(all(&*file) == whole);
}

#[test]
fn a_search_finds_groups_by_either_end_and_no_copies() {
    let case = Case::new(100_000, 0.05, Algorithm::Wide);
    let body = case.body();
    let find = |bytes: &[u8], id| scan(&Memory::new(bytes.to_vec()), 0, id, &on).unwrap();
    let known = find(&case.whole, Some(ID));
    assert_eq!(known.iter().map(Group::body).collect::<Vec<_>>(), std::slice::from_ref(&body));
    for spoiled in [body.start, body.end - DESCRIPTOR_LEN] {
        let mut bytes = case.whole.clone();
        bytes[spoiled as usize + 60] ^= 1;
        assert_eq!(find(&bytes, None), known);
    }
    assert_eq!(find(&case.whole, Some([9; 16])), []);
    assert_eq!(find(&case.whole[1..], None), []);
    assert_eq!(find(&[b"x".as_slice(), &case.whole].concat(), None), []);
    let stopped = scan(&Memory::new(case.whole.clone()), 0, None, &|_| false);
    assert_eq!(stopped.unwrap_err().kind(), Kind::Interrupted);
}

#[test]
fn hostile_descriptors_are_refused() {
    let case = Case::new(100_000, 0.05, Algorithm::Wide);
    let at = case.body_at as usize;
    // Offset in the descriptor, length, value.
    let fields: &[(usize, usize, u64)] = &[
        (8, 1, 9),   // version
        (9, 1, 0),   // algorithm
        (9, 1, 2),   // an algorithm with other limits: k + m stays below, the group is another code
        (10, 1, 5),  // cells too small
        (10, 1, 13), // and too large
        (10, 1, 255),
        (12, 2, 0),      // no columns
        (12, 2, 0xFFFF), // too many
        (14, 2, 0),
        (14, 2, 0xFFFF),
        (16, 8, 0), // rows
        (16, 8, 2),
        (16, 8, u64::MAX),
        (24, 8, u64::MAX), // start behind the end
        (24, 8, case.body_at - 1),
        (32, 8, u64::MAX),         // end
        (32, 8, case.body_at + 1), // overlaps the body
        (32, 8, 1 << 50),
        (40, 8, 0), // body elsewhere
        (40, 8, u64::MAX - 100),
        (48, 8, u64::MAX), // length of the body
        (48, 8, 0),
    ];
    for (offset, len, value) in fields {
        let mut bytes = case.whole.clone();
        bytes[at + offset..at + offset + len].copy_from_slice(&value.to_le_bytes()[..*len]);
        let check = blake3::hash(&[&ID, &bytes[at..at + 176]].concat());
        bytes[at + 176..at + 192].copy_from_slice(&check.as_bytes()[..16]);
        let read = Group::read(&Memory::new(bytes), case.body_at, Some(ID));
        // Of the same shape in the other code there is a whole description: its parity is wrong, and nothing else.
        assert!(read.is_err() || (*offset, *value) == (9, 2), "{offset}: {value}");
    }
    // Rows and columns that go together, of a range that the file has no hashes for.
    let plan = Plan::of(1 << 20..1 << 42, 0.05, Algorithm::Wide).unwrap();
    let sparse = Memory::new(forged(&plan));
    assert_eq!(Group::read(&sparse, 0, None).unwrap_err().kind(), Kind::Limit);
    assert_eq!(scan(&sparse, 0, None, &on).unwrap(), []);
}

/// The front of a body of a range that nobody has read.
fn forged(plan: &Plan) -> Vec<u8> {
    let small = Plan::of(1000..1001, 0.05, Algorithm::Wide).unwrap();
    let mut d = body(&Memory::new(vec![0; 1001]), &small, 0);
    d[10] = plan.cell().ilog2() as u8;
    d[12..14].copy_from_slice(&(plan.columns() as u16).to_le_bytes());
    d[14..16].copy_from_slice(&(plan.parity() as u16).to_le_bytes());
    for (at, n) in [(16, plan.rows()), (24, plan.range().start), (32, plan.range().end), (48, plan.body_len())] {
        d[at..at + 8].copy_from_slice(&n.to_le_bytes());
    }
    let check = blake3::hash(&[&ID, &d[..176]].concat());
    d[176..192].copy_from_slice(&check.as_bytes()[..16]);
    d.truncate(DESCRIPTOR_LEN as usize);
    d
}

/// A file on a disk with bad sectors of 512 bytes: a read that touches one fails.
struct Rotten {
    file: Memory,
    bad: Vec<Range<u64>>,
}

impl ReadAt for Rotten {
    fn len(&self) -> Result<u64> {
        self.file.len()
    }

    fn read_at(&self, at: u64, into: &mut [u8]) -> Result<usize> {
        let end = at + into.len() as u64;
        if self.bad.iter().any(|bad| bad.start < end && at < bad.end) {
            return Err(Error::io(std::io::Error::from_raw_os_error(5), "cannot read"));
        }
        self.file.read_at(at, into)
    }
}

#[test]
fn sectors_that_cannot_be_read_are_mended() {
    let case = Case::new(3_000_000, 0.05, Algorithm::Wide);
    let body = case.body();
    let sector = |at: u64| at / 512 * 512..at / 512 * 512 + 512;
    let places = [BEFORE as u64, 500_000, 500_600, 1_234_567, body.start, body.start + 2000, body.start + 200_000];
    let bad: Vec<_> = places.into_iter().chain([body.end - 300]).map(sector).collect();
    let rotten = Rotten { file: Memory::new(case.whole.clone()), bad: bad.clone() };
    // The sector with the front of the body ends in it, so that it is found from its end only where that is whole.
    let rotten = Arc::new(Rotten { bad: bad[..bad.len() - 1].to_vec(), ..rotten });
    let group = case.group(&*rotten);
    let mender = Mender::new(rotten.clone(), rotten.clone(), vec![group]);
    let mut read = vec![0; case.body_at as usize - BEFORE];
    mender.read_exact_at(BEFORE as u64, &mut read).unwrap();
    assert!(read == case.whole[BEFORE..case.body_at as usize]);

    let written = Mutex::new(Vec::new());
    let found = mender.survey_all(&on).unwrap();
    let repaired = mender.repairs(&found, &on, &mut |piece| {
        assert_eq!(piece.bytes, case.whole[piece.at as usize..][..piece.bytes.len()]);
        written.lock().unwrap().push(piece.at..piece.at + piece.bytes.len() as u64);
        Ok(())
    });
    repaired.unwrap();
    assert_eq!(found.report.lost, []);
    // A disk gives a bad sector up when it is written over.
    let written = written.into_inner().unwrap();
    let protected = BEFORE as u64..body.end;
    for sector in &rotten.bad {
        let inside = sector.start.max(protected.start)..sector.end.min(protected.end);
        assert!(inside.into_iter().all(|b| written.iter().any(|w| w.contains(&b))), "{sector:?}");
    }
}

#[test]
fn work_ends_when_the_watch_says_so() {
    let case = Case::new(100_000, 0.05, Algorithm::Wide);
    let (_, mender) = case.mender(case.whole.clone());
    assert_eq!(mender.verify(&|_| false).unwrap_err().kind(), Kind::Interrupted);
    let mut bytes = case.whole.clone();
    bytes[BEFORE..BEFORE + 3000].fill(0);
    let (_, rotten) = case.mender(bytes);
    let found = rotten.survey_all(&on).unwrap();
    assert_eq!(rotten.repairs(&found, &|_| false, &mut |_| Ok(())).unwrap_err().kind(), Kind::Interrupted);
    let data = Memory::new(case.whole.clone());
    let stopped = encode(&data, &case.plan, ID, case.body_at, NO_GROUP, &|_, _| Ok(()), &|_| false);
    assert_eq!(stopped.unwrap_err().kind(), Kind::Interrupted);
    let short = Plan::of(0..1 << 20, 0.05, Algorithm::Wide).unwrap();
    let torn = encode(&Memory::new(vec![1; 1000]), &short, ID, 0, NO_GROUP, &|_, _| Ok(()), &on);
    assert_eq!(torn.unwrap_err().kind(), Kind::Damaged);
}

#[test]
fn of_any_damage_what_is_not_told_to_be_lost_is_right() {
    let mut dice = Dice(7);
    for round in 0..60 {
        let len = dice.below(1 << (8 + round % 14)) as usize;
        let algorithm = if round % 4 == 3 { Algorithm::Narrow } else { Algorithm::Wide };
        let case = Case::new(len, [0.01, 0.05, 0.3][round % 3], algorithm);
        let (first, end) = (BEFORE as u64, case.body().end - DESCRIPTOR_LEN);
        let mut damaged = case.whole.clone();
        for _ in 0..dice.below(6) {
            let at = first + dice.below(end - first);
            let hit = at + dice.below(2 * case.plan.burst());
            spoil(&mut damaged, at..hit.min(end), &mut dice);
        }
        let (file, mender) = case.mender(damaged);
        let read = all(&mender);
        let report = repair(&mender, &file, &file);
        let repaired = all(&*file);
        let lost = |at: usize| report.lost.iter().any(|r| r.contains(&(at as u64)));
        for at in (BEFORE..case.body_at as usize).filter(|at| !lost(*at)) {
            assert!(case.whole[at] == read[at] && case.whole[at] == repaired[at], "{round}: {at}");
        }
        let left = mender.verify(&on).unwrap();
        assert_eq!((&left.lost, &left.bad), (&report.lost, &report.lost), "{round}");
    }
}

#[test]
fn descriptions_of_nothing_do_no_harm() {
    let mut dice = Dice(8);
    for round in 0..60 {
        let start = 1_000_000 + dice.below(1000);
        let plan = Plan::of(start..start + dice.below(1 << (round % 22)), 0.1, Algorithm::Wide).unwrap();
        let mut bytes = forged(&plan);
        let more = dice.below(1_500_000) as usize;
        bytes.extend(dice.bytes(more));
        let file = Arc::new(Memory::new(bytes.clone()));
        let Ok(group) = Group::read(&*file, 0, None) else { continue };
        let mender = Mender::new(file.clone(), file.clone(), vec![group]);
        let report = mender.verify(&on).unwrap();
        assert!(!report.is_whole() && report.bad_cells == report.lost_cells);
        assert!(all(&mender).starts_with(&bytes));
        repair(&mender, &Memory::default(), &Memory::default());
    }
}

/// A file and its side file.
fn beside(len: usize, share: f64, algorithm: Algorithm) -> (Vec<u8>, Vec<u8>) {
    let data = Dice(len as u64 + 1).bytes(len);
    let side = Memory::default();
    let made = Side::create(&Memory::new(data.clone()), share, algorithm, &|at, b| side.write_at(at, b), &on).unwrap();
    assert_eq!((made, made), (side_len(len as u64, share, algorithm).unwrap(), side.len().unwrap()));
    (data, all(&side))
}

fn assert_restored(data: &[u8], side: &[u8], bad_data: Vec<u8>, bad_side: Vec<u8>, what: &str) {
    let (file, other) = (Arc::new(Memory::new(bad_data)), Arc::new(Memory::new(bad_side)));
    let opened = Side::open(other.clone(), &on).unwrap_or_else(|e| panic!("{what}: {e}"));
    assert_eq!((opened.len(), opened.hash()), (data.len() as u64, Some(*blake3::hash(data).as_bytes())), "{what}");
    let mender = opened.mender(file.clone());
    assert!(all(&mender)[..data.len()] == *data, "{what}: reading");
    let mut give = |piece: Piece| {
        let to: &Memory = if piece.to_parity { &other } else { &file };
        to.write_at(piece.at, &piece.bytes)
    };
    let found = mender.survey_all(&on).unwrap();
    opened.repairs(&mender, found, &on, &mut give).unwrap();
    file.set_len(opened.len()).unwrap();
    other.set_len(opened.side_len()).unwrap();
    assert!(all(&*file) == data && all(&*other) == side, "{what}: repairing");
}

#[test]
fn a_side_file_restores_its_file_and_itself() {
    let mut dice = Dice(6);
    for algorithm in [Algorithm::Wide, Algorithm::Narrow] {
        for len in [0, 1, 5000, 123_456, 1_400_000] {
            let (data, side) = beside(len, 0.05, algorithm);
            let burst = Plan::of(0..len as u64, 0.05, algorithm).unwrap().burst();
            let what = format!("{algorithm:?}, {len}");
            assert_restored(&data, &side, data.clone(), side.clone(), &what);
            // The file has lost its end, as far as is promised; all of it, if that is more than it has.
            let kept = len.saturating_sub(burst as usize);
            assert_restored(&data, &side, data[..kept].to_vec(), side.clone(), &format!("{what}, cut"));
            assert_restored(&data, &side, [&data, &side].map(|b| &b[..]).concat(), side.clone(), "more behind it");
            for at in [0, 100, 128, 300, side.len() / 2, side.len() - 100, dice.below(side.len() as u64) as usize] {
                let mut bad = side.clone();
                spoil(&mut bad, at as u64..at as u64 + burst, &mut dice);
                assert_restored(&data, &side, data.clone(), bad, &format!("{what}, side at {at}"));
            }
            let short = side[..side.len() - burst as usize].to_vec();
            assert_restored(&data, &side, data.clone(), short, &format!("{what}, side cut"));
        }
    }
}

#[test]
fn a_side_file_without_headers_is_found_by_its_groups() {
    let (data, side) = beside(50_000, 0.1, Algorithm::Wide);
    let mut bad = side.clone();
    let n = bad.len();
    bad[5] ^= 1;
    bad[n - 5] ^= 1;
    bad[128 + 3] ^= 1;
    assert_restored(&data, &side, data[..data.len() - 100].to_vec(), bad, "no header");
    for nothing in [Vec::new(), vec![0; 100], vec![7; 5000], data.clone()] {
        let none = Side::open(Arc::new(Memory::new(nothing)), &on);
        assert_eq!(none.err().unwrap().kind(), Kind::NotRecognised);
    }
}
