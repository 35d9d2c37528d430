//! Places that do as they are told.

use super::*;
use crate::source::{Blocks, Fleet, ReadAt, Ways};
use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, Sender, channel};

const LEN: usize = 3_000_000;
const LONG: Duration = Duration::from_secs(600);

/// What a request to a place comes to.
enum Act {
    Fail(Kind, Again),
    /// So many bytes, and then the connection is cut.
    Cut(usize),
    /// Nothing, until somebody lets go.
    Hang(Receiver<()>),
}

struct Script {
    bytes: Vec<u8>,
    acts: Mutex<VecDeque<Act>>,
    asked: Mutex<Vec<Range<u64>>>,
}

impl Far for Script {
    fn fetch(&self, range: Range<u64>, take: &mut dyn FnMut(&[u8]) -> Go) -> std::result::Result<(), Failure> {
        lock(&self.asked).push(range.clone());
        let act = lock(&self.acts).pop_front();
        let mut end = range.end;
        match act {
            None => {}
            Some(Act::Fail(kind, again)) => return Err(Failure { error: Error::new(kind, "as told"), again }),
            Some(Act::Cut(bytes)) => end = end.min(range.start + bytes as u64),
            Some(Act::Hang(gate)) => drop(gate.recv()),
        }
        for piece in self.bytes[range.start as usize..end as usize].chunks(10_000) {
            if take(piece) == Go::Away {
                break;
            }
        }
        Ok(())
    }
}

fn bytes() -> Vec<u8> {
    (0..LEN).map(|i| (i / 256 * 7 + i % 251) as u8).collect()
}

fn script(bytes: Vec<u8>, acts: Vec<Act>) -> Arc<Script> {
    Arc::new(Script { bytes, acts: Mutex::new(acts.into()), asked: Mutex::default() })
}

fn found(far: &Arc<Script>) -> Found {
    Found { far: far.clone(), len: far.bytes.len() as u64, seed: None, is_stamped: true }
}

/// A first place with its mirrors, all of which have been asked.
fn mirrors(first: &Arc<Script>, others: &[&Arc<Script>], patience: Duration) -> Arc<Mirrors> {
    let open = |(n, far): (usize, &&Arc<Script>)| {
        let far = (*far).clone();
        (format!("mirror {n}"), Box::new(move || Ok(found(&far))) as Opens)
    };
    let all = Mirrors::new("main", found(first), others.iter().enumerate().map(open).collect(), patience);
    // What they are told to do is for later.
    let scripts = || others.iter().copied().chain([first]);
    let acts: Vec<_> = scripts().map(|far| std::mem::take(&mut *lock(&far.acts))).collect();
    (1..=others.len()).for_each(|place| all.0.ask(place));
    for (far, acts) in scripts().zip(acts) {
        lock(&far.asked).clear();
        *lock(&far.acts) = acts;
    }
    Arc::new(all)
}

/// What a place was asked for: begins and ends.
fn asked(far: &Script) -> Vec<(u64, u64)> {
    lock(&far.asked).iter().map(|range| (range.start, range.end)).collect()
}

fn standing(mirrors: &Mirrors, place: usize) -> Standing {
    lock(&mirrors.0.places)[place].standing
}

fn fetch(mirrors: &Mirrors, range: Range<u64>) -> std::result::Result<Vec<u8>, Failure> {
    let mut all = Vec::new();
    mirrors.fetch(range, &mut |piece| {
        all.extend_from_slice(piece);
        Go::On
    })?;
    Ok(all)
}

#[test]
fn a_place_with_other_bytes_or_another_length_is_left_out() {
    let first = script(bytes(), vec![]);
    let (mut head, mut tail) = (bytes(), bytes());
    (head[5], tail[LEN - 5]) = (head[5] ^ 1, tail[LEN - 5] ^ 1);
    let wrong = [script(head, vec![]), script(tail, vec![]), script(bytes()[1..].to_vec(), vec![])];
    let good = script(bytes(), vec![]);
    let all = mirrors(&first, &[&wrong[0], &wrong[1], &wrong[2], &good], LONG);
    assert_eq!([1, 2, 3, 4].map(|n| standing(&all, n)), [Standing::Out, Standing::Out, Standing::Out, Standing::Good]);
    for n in 0..20 {
        assert!(fetch(&all, n * 100_000..(n + 1) * 100_000).is_ok());
    }
    assert!(wrong.iter().all(|far| lock(&far.asked).is_empty()));
}

#[test]
fn nobody_is_asked_before_the_first_bytes_are_wanted() {
    let (first, other) = (script(bytes(), vec![]), script(bytes(), vec![]));
    let (told, asked) = channel();
    let far = other.clone();
    let open = move || {
        let _ = told.send(());
        Ok(found(&far))
    };
    let all = Mirrors::new("main", found(&first), vec![("mirror".into(), Box::new(open) as Opens)], LONG);
    assert!(asked.try_recv().is_err() && lock(&first.asked).is_empty());
    fetch(&all, 0..10).unwrap();
    asked.recv().unwrap();
}

#[test]
fn what_fails_at_one_place_goes_on_at_another_at_once() {
    let cut = [Act::Cut(70_000), Act::Fail(Kind::Unreachable, Again::Soon)];
    let (first, other) = (script(bytes(), cut.into()), script(bytes(), vec![]));
    let all = mirrors(&first, &[&other], LONG);
    assert!(fetch(&all, 0..LEN as u64).unwrap() == bytes());
    assert_eq!((asked(&first), asked(&other)), (vec![(0, 3_000_000)], vec![(70_000, 3_000_000)]));
    // It rests: while it does, the other one is asked alone.
    fetch(&all, 0..100_000).unwrap();
    assert_eq!((lock(&first.asked).len(), lock(&other.asked).len()), (1, 2));
}

#[test]
fn one_that_brings_nothing_is_left_for_another() {
    let (go, gate): (Sender<()>, _) = channel();
    let (first, other) = (script(bytes(), vec![Act::Hang(gate)]), script(bytes(), vec![]));
    let all = mirrors(&first, &[&other], Duration::from_millis(200));
    assert!(fetch(&all, 0..LEN as u64).unwrap() == bytes());
    assert_eq!(asked(&other), [(0, LEN as u64)]);
    // It is busy with that request still.
    assert_eq!(lock(&all.0.places)[0].flying, 1);
    drop(go);
}

#[test]
fn when_all_fail_it_is_the_word_of_the_first_that_counts_and_the_hope_of_any() {
    let first = script(bytes(), vec![Act::Fail(Kind::NotFound, Again::Never)]);
    let other = script(bytes(), vec![Act::Fail(Kind::TimedOut, Again::In(Duration::from_secs(3)))]);
    let failure = fetch(&mirrors(&first, &[&other], LONG), 0..10).unwrap_err();
    assert_eq!((failure.error.kind(), failure.again), (Kind::NotFound, Again::In(Duration::from_secs(3))));
}

#[test]
fn a_mirror_that_changes_is_out_and_a_first_place_that_changes_ends_it() {
    let changed = || vec![Act::Fail(Kind::Changed, Again::Never)];
    let (first, other) = (script(bytes(), vec![Act::Cut(0)]), script(bytes(), vec![]));
    let all = mirrors(&first, &[&other], LONG);
    *lock(&other.acts) = changed().into();
    assert!(fetch(&all, 0..10).is_err());
    assert_eq!(standing(&all, 1), Standing::Out);
    assert!(fetch(&all, 0..10).unwrap() == bytes()[..10]);
    let first = script(bytes(), vec![]);
    let all = mirrors(&first, &[&script(bytes(), vec![])], LONG);
    *lock(&first.acts) = changed().into();
    assert_eq!(fetch(&all, 0..10).unwrap_err().error.kind(), Kind::Changed);
}

#[test]
fn requests_at_the_same_time_share_the_places_by_their_speed() {
    let now = Instant::now();
    let place = |speed| Place { standing: Standing::Good, speed, used: Some(now), ..Place::default() };
    let mut places =
        vec![place(Some(1.0e6)), place(Some(6.0e6)), Place { rests_until: Some(now + LONG), ..place(None) }];
    for _ in 0..14 {
        let chosen = choose(&places, &[], now).unwrap();
        places[chosen].flying += 1;
    }
    assert_eq!(places.iter().map(|place| place.flying).collect::<Vec<_>>(), [2, 12, 0]);
    // One that rests comes last, and is asked when there is no other.
    assert_eq!(choose(&places, &[0, 1], now), Some(2));
    assert_eq!(choose(&places, &[0, 1, 2], now), None);
    // One that nobody has measured is tried, and so is one that was slow long ago.
    places[2].rests_until = None;
    assert_eq!(choose(&places, &[], now), Some(2));
    places[2].flying = 20;
    assert_eq!(choose(&places, &[], now + OLD * 3), Some(0));
}

#[test]
fn blocks_are_read_over_several_places_and_each_byte_once() {
    let first = script(bytes(), vec![]);
    let other = script(bytes(), vec![]);
    let all = mirrors(&first, &[&other], LONG);
    let (cache, fleet) = (crate::cache::Cache::new(64 << 20), Arc::new(Fleet::new(4)));
    let blocks = Blocks::new(all, LEN as u64, Ways { cache, fleet, kept: None, patience: LONG, meter: Arc::default() });
    let mut read = vec![0; LEN];
    blocks.read_exact_at(0, &mut read).unwrap();
    assert!(read == bytes());
    let sum = |far: &Script| lock(&far.asked).iter().map(|range| range.end - range.start).sum::<u64>();
    assert_eq!(sum(&first) + sum(&other), LEN as u64);
}

#[test]
fn a_mirror_is_known_by_what_came_of_the_first_place_when_that_is_gone() {
    let gone = || Act::Fail(Kind::Unreachable, Again::Soon);
    let first = script(bytes(), (0..9).map(|_| gone()).collect());
    let (other, wrong) = (script(bytes(), vec![]), script(bytes().into_iter().map(|b| b ^ 1).collect(), vec![]));
    let opens = |far: &Arc<Script>| {
        let far = far.clone();
        ("mirror".to_owned(), Box::new(move || Ok(found(&far))) as Opens)
    };
    let seed = Some((LEN as u64 - 100_000, bytes()[LEN - 100_000..].to_vec()));
    let all = Mirrors::new("main", Found { seed, ..found(&first) }, vec![opens(&other), opens(&wrong)], LONG);
    (1..=2).for_each(|place| all.0.ask(place));
    assert_eq!([1, 2].map(|n| standing(&all, n)), [Standing::Good, Standing::Out]);
    assert!(fetch(&all, 0..1000).unwrap() == bytes()[..1000]);
    // Without anything to know it by nobody is a mirror.
    let all = Mirrors::new("main", found(&first), vec![opens(&other)], LONG);
    all.0.ask(1);
    assert_eq!(standing(&all, 1), Standing::Unknown);
}
