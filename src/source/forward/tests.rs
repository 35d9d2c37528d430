use super::*;

/// Bytes that tell their place, decoded with a count of how many were.
struct Counting {
    len: u64,
    says_len: bool,
    /// Distance of the places where decoding can begin; 0 for none but the front.
    apart: u64,
    broken_at: Option<u64>,
    decoded: Arc<AtomicU64>,
}

struct At {
    at: u64,
    last: u64,
    len: u64,
    apart: u64,
    broken_at: Option<u64>,
    decoded: Arc<AtomicU64>,
}

fn byte(at: u64) -> u8 {
    (at.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8
}

impl Stream for Counting {
    fn start(&self, from: Option<&Point>) -> Result<Box<dyn Decoder>> {
        let (at, decoded) = (from.map_or(0, |point| point.at), self.decoded.clone());
        let (len, apart, broken_at) = (self.len, self.apart, self.broken_at);
        Ok(Box::new(At { at, last: at, len, apart, broken_at, decoded }))
    }

    fn len(&self) -> Option<u64> {
        self.says_len.then_some(self.len)
    }
}

impl Decoder for At {
    fn read(&mut self, into: &mut [u8]) -> Result<usize> {
        if self.broken_at.is_some_and(|at| self.at >= at) {
            return Err(Error::new(Kind::Damaged, "broken"));
        }
        let len = (self.len - self.at).min(into.len() as u64).min(50_000) as usize;
        (0..len).for_each(|n| into[n] = byte(self.at + n as u64));
        self.at += len as u64;
        self.decoded.fetch_add(len as u64, Ordering::Relaxed);
        Ok(len)
    }

    fn weight(&self) -> usize {
        1000
    }

    fn point(&mut self, apart: u64) -> Option<Point> {
        if self.apart == 0 || self.at - self.last < apart {
            return None;
        }
        self.last = self.at;
        Some(Point { at: self.at / self.apart * self.apart, state: [0; 100].into() })
    }
}

const LEN: u64 = (9 << 20) + 77;

fn counting() -> Counting {
    Counting { len: LEN, says_len: true, apart: 0, broken_at: None, decoded: Arc::default() }
}

fn forward(stream: Counting, budget: u64) -> (Arc<Forward>, Arc<AtomicU64>) {
    let decoded = stream.decoded.clone();
    (Forward::new(Arc::new(stream), Cache::new(budget)).unwrap(), decoded)
}

fn check(forward: &Forward, at: u64, len: usize) {
    check_in(forward, LEN, at, len);
}

fn check_in(forward: &Forward, whole: u64, at: u64, len: usize) {
    let mut got = vec![0; len];
    let n = forward.read_at(at, &mut got).unwrap();
    assert_eq!(n as u64, (len as u64).min(whole.saturating_sub(at)));
    assert!(got[..n].iter().enumerate().all(|(i, b)| *b == byte(at + i as u64)), "at {at}");
}

#[test]
fn who_reads_in_sequence_decodes_once_whatever_the_memory() {
    let (forward, decoded) = forward(counting(), 1 << 20);
    (0..=LEN).step_by(70_000).for_each(|at| check(&forward, at, 70_000));
    assert_eq!(decoded.load(Ordering::Relaxed), LEN);
}

#[test]
fn threads_that_read_anywhere_see_the_right_bytes() {
    for apart in [0, 100_000] {
        let (forward, _) = forward(Counting { apart, ..counting() }, 4 << 20);
        std::thread::scope(|scope| {
            for thread in 0..4u64 {
                let forward = &forward;
                scope.spawn(move || {
                    for n in 0..60u64 {
                        let at = (n * 7919 + thread * 104_729) * 1009 % LEN;
                        check(forward, at, 1 + (at % 300_000) as usize);
                    }
                });
            }
        });
    }
}

#[test]
fn what_fits_memory_is_decoded_once_by_all_together() {
    let (forward, decoded) = forward(counting(), 64 << 20);
    std::thread::scope(|scope| {
        for thread in 0..4u64 {
            let forward = &forward;
            scope.spawn(move || (0..95).for_each(|n| check(forward, (n * 31 + thread * 7) % 95 * 100_000, 100_000)));
        }
    });
    assert_eq!(decoded.load(Ordering::Relaxed), LEN);
}

#[test]
fn a_jump_back_begins_at_a_point() {
    let (forward, decoded) = forward(Counting { apart: 1 << 20, ..counting() }, 1 << 20);
    (0..LEN).step_by(1 << 20).for_each(|at| check(&forward, at, 1 << 20));
    let before = decoded.load(Ordering::Relaxed);
    check(&forward, 5 << 20, 10);
    assert!(decoded.load(Ordering::Relaxed) - before <= 2 << 20);
}

#[test]
fn a_length_that_is_not_said_is_found() {
    let (forward, _) = forward(Counting { says_len: false, ..counting() }, 1 << 20);
    assert_eq!(ReadAt::len(&*forward).unwrap(), LEN);
    check(&forward, LEN - 5, 100);
    check(&forward, LEN + 5, 100);
}

#[test]
fn what_lies_before_damage_is_read_and_what_lies_behind_it_is_an_error() {
    let (forward, decoded) = forward(Counting { broken_at: Some(3 << 20), ..counting() }, 1 << 20);
    check(&forward, 100, 200_000);
    let mut byte = [0];
    assert_eq!(forward.read_at(4 << 20, &mut byte).unwrap_err().kind(), Kind::Damaged);
    let before = decoded.load(Ordering::Relaxed);
    // It is known now, and not tried again and again.
    assert_eq!(forward.read_at(5 << 20, &mut byte).unwrap_err().kind(), Kind::Damaged);
    assert_eq!(decoded.load(Ordering::Relaxed), before);
    check(&forward, 100, 200_000);
}

#[test]
fn a_stream_that_is_shorter_or_longer_than_it_says_is_damaged() {
    struct Lies(Counting, u64);
    impl Stream for Lies {
        fn start(&self, from: Option<&Point>) -> Result<Box<dyn Decoder>> {
            self.0.start(from)
        }
        fn len(&self) -> Option<u64> {
            Some(self.1)
        }
    }
    for says in [LEN - 1, LEN + 1] {
        let forward = Forward::new(Arc::new(Lies(counting(), says)), Cache::new(1 << 20)).unwrap();
        assert_eq!(forward.read_at(LEN - 5, &mut [0; 6]).unwrap_err().kind(), Kind::Damaged, "{says}");
        check(&forward, 1000, 1000);
        // What came out before it ended too early is right.
        if says > LEN {
            check(&forward, LEN - 50, 10);
        }
    }
}

/// What was put below, by keys.
#[derive(Default)]
struct Remembering(Mutex<HashMap<Key, Page>>);

impl crate::cache::Below for Remembering {
    fn keep(&self, key: Key, bytes: Page) {
        lock(&self.0).insert(key, bytes);
    }
    fn settle(&self) {}
    fn get(&self, key: Key) -> Option<Page> {
        lock(&self.0).get(&key).cloned()
    }
    fn contains(&self, key: Key) -> bool {
        lock(&self.0).contains_key(&key)
    }
}

#[test]
fn what_memory_has_no_room_for_is_kept_below() {
    let stream = counting();
    let decoded = stream.decoded.clone();
    let cache = Cache::over(1 << 20, Some(Arc::new(Remembering::default())));
    let forward = Forward::new(Arc::new(stream), cache).unwrap();
    let jump = |n: u64| check(&forward, n * 7 % 9 * (1 << 20), 1 << 20);
    (0..9).for_each(jump);
    (0..9).for_each(jump);
    let first = decoded.load(Ordering::Relaxed);
    (0..9).for_each(jump);
    assert_eq!(decoded.load(Ordering::Relaxed), first, "all of it is below by now");
}

#[test]
fn a_stream_without_points_is_decoded_once_though_memory_is_small() {
    let len = FAR + (24 << 20);
    for (apart, keeps) in [(0, true), (0, false), (1 << 20, true)] {
        let stream = Counting { len, apart, ..counting() };
        let decoded = stream.decoded.clone();
        let cache = Cache::over(4 << 20, Some(Arc::new(Remembering::default())));
        if keeps {
            cache.keep_evicted();
        }
        let forward = Forward::new(Arc::new(stream), cache).unwrap();
        let read_all = || (0..len).step_by(1 << 20).for_each(|at| check_in(&forward, len, at, 1 << 20));
        read_all();
        let first = decoded.load(Ordering::Relaxed);
        // From far on, all of it is there, and only there where nothing nearer can be begun from.
        (FAR + (1 << 20)..len).step_by(1 << 20).for_each(|at| check_in(&forward, len, at, 1 << 20));
        let again = decoded.load(Ordering::Relaxed) - first;
        assert_eq!(again == 0, apart == 0 && keeps, "{apart} {keeps}: {again}");
    }
}

/// Like [`Counting`], with decoders that are heavy.
struct Heavy(Counting, usize);

impl Stream for Heavy {
    fn start(&self, from: Option<&Point>) -> Result<Box<dyn Decoder>> {
        Ok(Box::new(HeavyAt(self.0.start(from)?, self.1)))
    }

    fn len(&self) -> Option<u64> {
        self.0.len()
    }
}

struct HeavyAt(Box<dyn Decoder>, usize);

impl Decoder for HeavyAt {
    fn read(&mut self, into: &mut [u8]) -> Result<usize> {
        self.0.read(into)
    }

    fn weight(&self) -> usize {
        self.1
    }
}

#[test]
fn who_reads_on_goes_on_however_large_the_dictionary() {
    for weight in [1 << 20, 64 << 20] {
        let stream = counting();
        let decoded = stream.decoded.clone();
        let forward = Forward::new(Arc::new(Heavy(stream, weight)), Cache::new(4 << 20)).unwrap();
        (0..=LEN).step_by(70_000).for_each(|at| check(&forward, at, 70_000));
        assert_eq!(decoded.load(Ordering::Relaxed), LEN, "{weight}");
    }
}

#[test]
fn who_jumps_back_and_forth_decodes_once_where_pages_go_to_the_disk() {
    let len = 40 << 20;
    let stream = Counting { len, ..counting() };
    let decoded = stream.decoded.clone();
    let cache = Cache::over(4 << 20, Some(Arc::new(Remembering::default())));
    cache.keep_evicted();
    let forward = Forward::new(Arc::new(Heavy(stream, 3 << 20)), cache).unwrap();
    // In an order that has nothing to do with that of the stream; a few at its front are nearer than the disk.
    (4..40u64).map(|n| n * 7 % 36 + 4).for_each(|n| check_in(&forward, len, n << 20, 1 << 20));
    assert_eq!(decoded.load(Ordering::Relaxed), len);
}

#[test]
fn a_far_page_is_left_to_the_decoder_that_is_on_its_way() {
    let len = 40 << 20;
    let stream = Counting { len, ..counting() };
    let decoded = stream.decoded.clone();
    let forward = Forward::new(Arc::new(stream), Cache::new(64 << 20)).unwrap();
    let start = std::sync::Barrier::new(8);
    std::thread::scope(|scope| {
        for thread in 0..8u64 {
            let (forward, start) = (&forward, &start);
            scope.spawn(move || {
                start.wait();
                check_in(forward, len, (thread * 5 + 3) << 20, 1 << 20);
            });
        }
    });
    assert!(decoded.load(Ordering::Relaxed) <= len, "{}", decoded.load(Ordering::Relaxed));
}
