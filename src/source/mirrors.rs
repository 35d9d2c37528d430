//! One object that can be had at several places, read as if it were at one.
//!
//! ```text
//!   fetch 0..64 ─► the place that brings it soonest ─► 0..20, and then it fails, or nothing comes
//!                  the next one                     ─► 20..64
//!
//!   place 0   the one by which the object was opened: what it says is so
//!   others    unknown ─► asked, in the background ─► the same length, the same first and last block ─► good
//!                                                    anything else                                  ─► out
//! ```
//!
//! A place brings the soonest that has the highest speed left for one more request: what it brought in a second, shared by
//! the requests that it is busy with. So requests at the same time are shared in proportion to the speed of the places. One
//! that fails rests for a while, which doubles, and is asked again only when there is no other. One that has changed since it
//! was opened is out for good, but for the first, whose change is that of the object.

use super::blocks::{Again, BLOCK, Failure, Far, Go};
use crate::error::{Error, Kind, Result};
use crate::pool::lock;
use std::ops::Range;
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// The part of the patience in which a place has to bring a block, where there is another one to turn to.
const SHARE: u32 = 4;

/// The first rest of a place that has failed, which doubles with each failure until the last.
const FIRST_REST: Duration = Duration::from_secs(1);
const LAST_REST: Duration = Duration::from_secs(60);

/// How much the newest request says of the speed of a place, and the fewest bytes that say anything.
const NEWEST: f64 = 0.3;
const TELLING: u64 = 16 << 10;

/// A place that was not asked for so long may be twice as fast by now.
const OLD: Duration = Duration::from_secs(30);

/// Pieces that wait to be taken.
const PIECES: usize = 8;

/// What was found at a place.
pub struct Found {
    pub far: Arc<dyn Far>,
    pub len: u64,
    /// Bytes that came with the answer, and where they are.
    pub seed: Option<(u64, Vec<u8>)>,
    /// Whether the place tells when it changes.
    pub is_stamped: bool,
}

/// Asks for the object at a place.
pub type Opens = Box<dyn Fn() -> Result<Found> + Send + Sync>;

/// A [`Far`] over several.
pub struct Mirrors(Arc<Inner>);

struct Inner {
    len: u64,
    patience: Duration,
    names: Vec<String>,
    /// Of all but the first.
    opens: Vec<Opens>,
    /// What the first place has, by which the others are known.
    witness: Mutex<Vec<(u64, Vec<u8>)>>,
    places: Mutex<Vec<Place>>,
}

#[derive(Default)]
struct Place {
    standing: Standing,
    far: Option<Arc<dyn Far>>,
    /// It is asked before that only when there is no other.
    rests_until: Option<Instant>,
    failures: u32,
    /// Bytes in a second, of all its requests together.
    speed: Option<f64>,
    used: Option<Instant>,
    /// Requests that it is busy with.
    flying: u32,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Standing {
    #[default]
    Unknown,
    Asked,
    Good,
    Out,
}

/// What came of a request to one place.
enum Came {
    All,
    /// Nobody wants the rest.
    Enough,
    Failed(Failure),
}

/// What a request brings, one after the other.
enum Piece {
    Bytes(Vec<u8>),
    End(std::result::Result<(), Failure>),
}

impl Mirrors {
    /// The object as it was found at its first place, by this name, and where else it may be. Nobody is asked yet.
    pub fn new(name: &str, found: Found, others: Vec<(String, Opens)>, patience: Duration) -> Self {
        let mut names = vec![name.to_owned()];
        let first = Place { standing: Standing::Good, far: Some(found.far), ..Place::default() };
        let (mut places, mut opens) = (vec![first], Vec::new());
        for (name, open) in others {
            names.push(name);
            opens.push(open);
            places.push(Place::default());
        }
        let witness = Mutex::new(found.seed.into_iter().collect());
        Self(Arc::new(Inner { len: found.len, patience, names, opens, witness, places: Mutex::new(places) }))
    }
}

impl Far for Mirrors {
    fn fetch(&self, range: Range<u64>, take: &mut dyn FnMut(&[u8]) -> Go) -> std::result::Result<(), Failure> {
        let inner = &self.0;
        inner.look_around();
        let (mut at, mut tried, mut failed) = (range.start, Vec::new(), None::<(usize, Failure)>);
        while let Some(place) = inner.choose(&tried) {
            tried.push(place);
            let came = inner.bring(place, at..range.end, &tried, &mut |piece| {
                at += piece.len() as u64;
                take(piece)
            });
            let failure = match came {
                Came::All | Came::Enough => return Ok(()),
                Came::Failed(failure) => failure,
            };
            if failure.error.kind() == Kind::Changed {
                if place == 0 {
                    return Err(failure);
                }
                inner.is_out(place, "it was changed");
                continue;
            }
            inner.rests(place, &failure);
            // The word of the first place counts, and whether any of them has hope.
            let again = failed.as_ref().map_or(failure.again, |(_, before)| sooner(before.again, failure.again));
            let (of, failure) = failed.filter(|(before, _)| *before < place).unwrap_or((place, failure));
            failed = Some((of, Failure { again, ..failure }));
        }
        let Some((of, mut failure)) = failed else { return Err(cut("no place has it any more")) };
        if of > 0 {
            failure.error = failure.error.within(&inner.names[of]);
        }
        if inner.is_asking() {
            failure.again = sooner(failure.again, Again::Soon);
        }
        Err(failure)
    }
}

/// The one that has more hope.
fn sooner(a: Again, b: Again) -> Again {
    match (a, b) {
        (Again::Never, other) | (other, Again::Never) => other,
        (Again::In(a), Again::In(b)) => Again::In(a.min(b)),
        _ => Again::Soon,
    }
}

fn cut(what: &str) -> Failure {
    Failure { error: Error::new(Kind::Io, what), again: Again::Soon }
}

impl Inner {
    /// Has places asked that nobody knows yet.
    fn look_around(self: &Arc<Self>) {
        let now = Instant::now();
        let mut places = lock(&self.places);
        for (n, place) in places.iter_mut().enumerate() {
            if place.standing != Standing::Unknown || place.rests_until.is_some_and(|until| now < until) {
                continue;
            }
            let inner = self.clone();
            let started = thread::Builder::new().name("mirror".into()).spawn(move || inner.ask(n));
            if started.is_ok() {
                place.standing = Standing::Asked;
            }
        }
    }

    fn is_asking(&self) -> bool {
        lock(&self.places).iter().any(|place| place.standing == Standing::Asked)
    }

    /// Asks a place for the object, and whether it is the same.
    fn ask(&self, place: usize) {
        // Whatever becomes of it, a panic included, it may be asked again.
        let _reset = Reset { inner: self, place };
        let opened = self.opens.get(place - 1).map_or_else(|| Err(Error::new(Kind::Io, "it is gone")), |open| open());
        let compared = opened.and_then(|found| Ok((self.is_same(&found)?, found.far)));
        match compared {
            Ok((Ok(()), far)) => {
                log::info!("{}: a good mirror", self.names[place]);
                let mut places = lock(&self.places);
                places[place] = Place { standing: Standing::Good, far: Some(far), ..Place::default() };
            }
            Ok((Err(why), _)) => self.is_out(place, why),
            Err(error) => self.rests(place, &Failure { error, again: Again::Soon }),
        }
    }

    /// Whether what was found is the object, or why it is not.
    fn is_same(&self, found: &Found) -> Result<std::result::Result<(), &'static str>> {
        if found.len != self.len {
            return Ok(Err("it has another length"));
        }
        if !found.is_stamped {
            return Ok(Err("its server does not tell when it changes"));
        }
        if found.far.is_forward() {
            return Ok(Err("its server knows no parts of it"));
        }
        for range in self.ends() {
            let Some(ours) = self.testimony(&range)? else { continue };
            let theirs = match found.seed.as_ref().and_then(|seed| part(seed, &range)) {
                Some(theirs) => theirs,
                None => whole(&*found.far, range)?,
            };
            if ours != theirs {
                return Ok(Err("it has other bytes"));
            }
        }
        Ok(Ok(()))
    }

    /// The first and the last block.
    fn ends(&self) -> Vec<Range<u64>> {
        let (head, tail) = (0..BLOCK.min(self.len), self.len.saturating_sub(BLOCK)..self.len);
        // The last one is mostly known already.
        if head == tail { vec![head] } else { vec![tail, head] }
    }

    /// What the first place has at a range. When it is gone, what came of it before has to do; without any it is an error.
    fn testimony(&self, range: &Range<u64>) -> Result<Option<Vec<u8>>> {
        let mut witness = lock(&self.witness);
        if let Some(bytes) = witness.iter().find_map(|seed| part(seed, range)) {
            return Ok(Some(bytes));
        }
        let first = lock(&self.places).first().and_then(|place| place.far.clone());
        let first = first.ok_or_else(|| Error::new(Kind::Io, "it is gone"))?;
        match whole(&*first, range.clone()) {
            Ok(bytes) => {
                witness.push((range.start, bytes.clone()));
                Ok(Some(bytes))
            }
            Err(e) if e.kind() != Kind::Changed && self.ends().iter().any(|end| knows(&witness, end)) => Ok(None),
            Err(e) => Err(e),
        }
    }

    fn is_out(&self, place: usize, why: &str) {
        log::warn!("{}: it is left out: {why}", self.names[place]);
        let mut places = lock(&self.places);
        (places[place].standing, places[place].far) = (Standing::Out, None);
    }

    fn rests(&self, place: usize, failure: &Failure) {
        let mut places = lock(&self.places);
        let resting = &mut places[place];
        let rest = (FIRST_REST * 2u32.pow(resting.failures)).min(LAST_REST);
        let rest = if let Again::In(time) = failure.again { rest.max(time) } else { rest };
        resting.rests_until = Some(Instant::now() + rest);
        resting.failures = (resting.failures + 1).min(8);
        log::info!("{}: it rests for {} s: {}", self.names[place], rest.as_secs(), failure.error);
    }

    /// The place that brings the next request soonest, of those that were not tried.
    fn choose(&self, tried: &[usize]) -> Option<usize> {
        choose(&lock(&self.places), tried, Instant::now())
    }

    /// Brings a range from one place. Where it brings nothing for too long, and there is another one that was not tried, it is
    /// left.
    fn bring(
        self: &Arc<Self>,
        place: usize,
        range: Range<u64>,
        tried: &[usize],
        take: &mut dyn FnMut(&[u8]) -> Go,
    ) -> Came {
        let (sent, pieces) = sync_channel(PIECES);
        let wanted = range.end - range.start;
        let crowd = match self.send(place, range, sent) {
            Ok(crowd) => crowd,
            Err(error) => return Came::Failed(Failure { error, again: Again::Soon }),
        };
        let share = self.patience / SHARE;
        // Time that was spent with waiting, in all and for the next block: who takes the pieces may take his time.
        let (mut got, mut waited, mut waited_now, mut since) = (0, Duration::ZERO, Duration::ZERO, 0);
        let came = loop {
            let begun = Instant::now();
            let came = pieces.recv_timeout(share.saturating_sub(waited_now));
            (waited, waited_now) = (waited + begun.elapsed(), waited_now + begun.elapsed());
            match came {
                Ok(Piece::Bytes(piece)) => {
                    let piece = &piece[..piece.len().min(usize::try_from(wanted - got).unwrap_or(usize::MAX))];
                    (got, since) = (got + piece.len() as u64, since + piece.len() as u64);
                    if since >= BLOCK {
                        (since, waited_now) = (0, Duration::ZERO);
                    }
                    let go = take(piece);
                    if got == wanted {
                        break Came::All;
                    }
                    if go == Go::Away {
                        break Came::Enough;
                    }
                }
                Ok(Piece::End(Err(failure))) => break Came::Failed(failure),
                Ok(Piece::End(Ok(()))) => break Came::Failed(cut("the connection was cut")),
                Err(RecvTimeoutError::Disconnected) => break Came::Failed(cut("the request was given up")),
                Err(RecvTimeoutError::Timeout) if self.is_better(tried) => {
                    let error = Error::new(Kind::TimedOut, "it comes too slowly");
                    break Came::Failed(Failure { error, again: Again::Soon });
                }
                Err(RecvTimeoutError::Timeout) => waited_now = Duration::ZERO,
            }
        };
        self.note(place, got, waited, crowd, matches!(came, Came::All | Came::Enough));
        came
    }

    /// Whether there is a place that was not tried and does not rest.
    fn is_better(&self, tried: &[usize]) -> bool {
        let places = lock(&self.places);
        let now = Instant::now();
        choose(&places, tried, now).is_some_and(|place| !places[place].is_resting(now))
    }

    /// Has a thread make the request, which may outlast the one who waits for it. How many are on their way then.
    fn send(self: &Arc<Self>, place: usize, range: Range<u64>, sent: SyncSender<Piece>) -> Result<u32> {
        let mut places = lock(&self.places);
        let far = places[place].far.clone().ok_or_else(|| Error::new(Kind::Io, "it is gone"))?;
        let flying = Flying { inner: self.clone(), place };
        places[place].flying += 1;
        let crowd = places[place].flying;
        drop(places);
        let fly = move || {
            let flying = flying;
            let done = far.fetch(range, &mut |piece| match sent.send(Piece::Bytes(piece.to_vec())) {
                Ok(()) => Go::On,
                Err(_) => Go::Away,
            });
            // Who chooses next sees it free.
            drop(flying);
            let _ = sent.send(Piece::End(done));
        };
        let started = thread::Builder::new().name("fetch".into()).spawn(fly);
        started.map(|_| crowd).map_err(|e| Error::io(e, "cannot start a thread"))
    }

    /// Takes note of how a request went.
    fn note(&self, place: usize, bytes: u64, time: Duration, crowd: u32, is_good: bool) {
        let mut places = lock(&self.places);
        let place = &mut places[place];
        place.used = Some(Instant::now());
        if is_good {
            (place.failures, place.rests_until) = (0, None);
        }
        if bytes >= TELLING {
            let crowd = f64::from(crowd + place.flying.max(1)) / 2.0;
            let speed = bytes as f64 / time.as_secs_f64().max(1e-6) * crowd;
            place.speed = Some(place.speed.map_or(speed, |before| before + (speed - before) * NEWEST));
        }
    }
}

impl Place {
    fn is_resting(&self, now: Instant) -> bool {
        self.rests_until.is_some_and(|until| now < until)
    }

    /// What it may bring in a second by now; the best there is of one that nobody has measured.
    fn speed(&self, best: f64, now: Instant) -> f64 {
        let Some(speed) = self.speed else { return best };
        let idle = self.used.map_or(Duration::ZERO, |used| now.saturating_duration_since(used));
        (speed * (idle.as_secs_f64() / OLD.as_secs_f64()).exp2()).min(best)
    }
}

fn choose(places: &[Place], tried: &[usize], now: Instant) -> Option<usize> {
    let best = places.iter().filter_map(|place| place.speed).fold(1.0, f64::max);
    let left = |n: usize| places[n].speed(best, now) / f64::from(places[n].flying + 1);
    let good = (0..places.len()).filter(|n| places[*n].standing == Standing::Good && !tried.contains(n));
    // Of two that are the same the first.
    good.rev().max_by(|a, b| {
        let is_up = |n: &usize| !places[*n].is_resting(now);
        is_up(a).cmp(&is_up(b)).then(left(*a).total_cmp(&left(*b)))
    })
}

/// A range out of bytes that begin somewhere, if it is in them.
fn part((at, bytes): &(u64, Vec<u8>), range: &Range<u64>) -> Option<Vec<u8>> {
    let begin = usize::try_from(range.start.checked_sub(*at)?).ok()?;
    let end = usize::try_from(range.end.checked_sub(*at)?).ok()?;
    bytes.get(begin..end).map(<[u8]>::to_vec)
}

fn knows(witness: &[(u64, Vec<u8>)], range: &Range<u64>) -> bool {
    witness.iter().any(|seed| part(seed, range).is_some())
}

/// All of a range, which is at most a block.
fn whole(far: &dyn Far, range: Range<u64>) -> Result<Vec<u8>> {
    let len = usize::try_from(range.end - range.start).unwrap_or(usize::MAX);
    let mut bytes = Vec::new();
    let fetched = far.fetch(range, &mut |piece| {
        bytes.extend_from_slice(&piece[..piece.len().min(len - bytes.len())]);
        if bytes.len() < len { Go::On } else { Go::Away }
    });
    fetched.map_err(|failure| failure.error)?;
    if bytes.len() < len {
        return Err(Error::new(Kind::Io, "the connection was cut"));
    }
    Ok(bytes)
}

/// A request on its way.
struct Flying {
    inner: Arc<Inner>,
    place: usize,
}

impl Drop for Flying {
    fn drop(&mut self) {
        lock(&self.inner.places)[self.place].flying -= 1;
    }
}

/// A place that was asked and of which nothing else is known then is unknown.
struct Reset<'a> {
    inner: &'a Inner,
    place: usize,
}

impl Drop for Reset<'_> {
    fn drop(&mut self) {
        let mut places = lock(&self.inner.places);
        if places[self.place].standing == Standing::Asked {
            places[self.place].standing = Standing::Unknown;
        }
    }
}

#[cfg(test)]
mod tests;
