//! Makes a file here what an object at an address is, and fetches of it only what is not here.
//!
//! ```text
//!   object ──► blocks ──► .NAME.sync ──► checked ──► NAME
//!                             ▲
//!   NAME ── the same bytes ───┘     a .st: all of it when that has grown, else its segments
//! ```
//!
//! Of anything else than a `.st` all is fetched, unless length and time are the same. NAME is what it was until all is there.

use crate::cache::Cache;
use crate::error::{Error, Kind, Result, Within};
use crate::formats::st::{self, Likeness};
use crate::formats::{Access, Reading, Watch};
use crate::open::{self, How};
use crate::remote::{self, Asking, Object};
use crate::source::{Arrival, BLOCK, Blocks, FileSource, Kept, Meter, ReadAt, Ways};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Memory for blocks that come, and for tables of containers.
const CACHE: u64 = 64 << 20;

/// Bytes of one read.
const STEP: u64 = 4 << 20;

/// Reads that are asked for before they are waited for.
const AHEAD: usize = 3;

/// What a container begins with.
const FRONT: u64 = 4096;

/// What is to be fetched, and how.
pub struct Fetch<'a> {
    pub address: &'a str,
    pub local: &'a Path,
    pub how: &'a How,
    /// There is something that may open what is sealed. Nobody is asked for it.
    pub has_key: bool,
    /// What is here and was never there goes.
    pub overwrite: bool,
    /// Nothing of what is here is used.
    pub whole: bool,
    /// The same length and time are not enough.
    pub checksum: bool,
}

/// What came of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fetched {
    /// Bytes of the object.
    pub len: u64,
    /// Bytes that came from the server now.
    pub fetched: u64,
    /// Bytes that an earlier call had fetched.
    pub resumed: u64,
    /// It was there already.
    pub was_there: bool,
}

/// The object while it comes.
struct Coming {
    blocks: Arc<Blocks>,
    meter: Arc<Meter>,
    arrival: Arc<Arrival>,
    len: u64,
    /// Bytes that came with the answer that told the length.
    seeded: u64,
}

impl Fetch<'_> {
    /// Makes the file what the object is.
    ///
    /// # Errors
    /// `Changed` when the file has what the object never had, or when the object changes meanwhile; `Locked` when somebody
    /// writes to the file; `Damaged` when the object itself is; those of links and of disks.
    pub fn run(&self, watch: &dyn Watch) -> Result<Fetched> {
        let shown = remote::shown(self.address);
        self.refuse_odd(&shown)?;
        let place = std::fs::canonicalize(self.local).unwrap_or_else(|_| self.local.to_owned());
        let here = self.here(&place)?;
        let object = self.object()?;
        if object.leads_to_directory {
            return Err(folder(&shown));
        }
        if let Some(here) = here.as_ref().filter(|_| !self.whole)
            && self.is_same(here, &object)?
        {
            return Ok(Fetched { len: object.len, was_there: true, ..Fetched::default() });
        }
        self.bring(here.as_ref(), &place, object, watch).within(|| &shown)
    }

    fn refuse_odd(&self, shown: &str) -> Result<()> {
        if self.address.contains('!') {
            let what = format!("{shown}: only what a server has is fetched, and not what is inside of it");
            return Err(Error::new(Kind::Unsupported, what).hint("stmount cat, or unpack"));
        }
        if remote::is_folder(self.address) {
            return Err(folder(shown));
        }
        if self.local.is_dir() {
            let what = format!("{} is a directory", self.local.display());
            return Err(
                Error::new(Kind::IsADirectory, what).hint("the last operand is the file that is to become the same")
            );
        }
        Ok(())
    }

    /// The file that is there, held so that nobody writes to it meanwhile.
    fn here(&self, place: &Path) -> Result<Option<FileSource>> {
        let file = match FileSource::open_to_write(place) {
            Err(e) if e.kind() == Kind::NotFound => return Ok(None),
            Err(e) if matches!(e.kind(), Kind::Denied | Kind::ReadOnly) => FileSource::open(place)?,
            Err(e) => return Err(e),
            Ok(file) => {
                file.lock().within(|| place.display())?;
                file
            }
        };
        if !self.overwrite
            && !open::is_container(place)
            && let Some((journal, _)) = open::journal_of(place, self.how)?
        {
            let what = format!("{} has changes that are not in {}", journal.display(), place.display());
            return Err(Error::new(Kind::Changed, what).hint("--overwrite gives them up"));
        }
        Ok(Some(file))
    }

    /// Whether it is the same by all that can be told without the bytes. Of a container its own words tell more.
    fn is_same(&self, here: &FileSource, object: &Object) -> Result<bool> {
        if self.checksum || st::is_container(here) {
            return Ok(false);
        }
        let modified = here.file().metadata()?.modified().ok();
        let same_time = object.modified.and_then(system_time).is_some_and(|time| {
            // Servers tell whole seconds.
            modified.and_then(|at| at.duration_since(time).ok()).is_some_and(|off| off < Duration::from_secs(1))
        });
        Ok(here.len()? == object.len && same_time)
    }

    fn bring(&self, here: Option<&FileSource>, place: &Path, object: Object, watch: &dyn Watch) -> Result<Fetched> {
        let shown = remote::shown(self.address);
        let (stamp, modified, len) = (object.stamp.clone(), object.modified, object.len);
        let coming = self.begin(place, &shown, object)?;
        let done = self.complete(here, &coming, stamp.is_none().then_some(modified), watch);
        let Coming { meter, arrival, seeded, .. } = &coming;
        let fetched = seeded + meter.traffic().bytes;
        let fetched = Fetched { len, fetched, resumed: arrival.resumed(), was_there: false };
        match done {
            Ok(true) => {
                arrival.discard();
                Ok(Fetched { was_there: true, ..fetched })
            }
            Ok(false) => arrival.publish(modified.and_then(system_time)).map(|()| fetched),
            Err(e) => {
                let goes_on = stamp.is_some() && e.kind() != Kind::Changed;
                if !goes_on {
                    arrival.discard();
                }
                Err(advised(e, goes_on && arrival.landed() + arrival.resumed() > 0))
            }
        }
    }

    fn begin(&self, place: &Path, shown: &str, object: Object) -> Result<Coming> {
        let len = object.len;
        let arrival = Arc::new(Arrival::begin(place, shown, len, object.stamp.as_deref())?);
        let (fleet, patience) = (self.how.far.fleet.clone(), self.how.far.link.patience);
        let meter = Arc::new(Meter::default());
        let ways =
            Ways { cache: Cache::new(CACHE), fleet, kept: Some(arrival.clone()), patience, meter: meter.clone() };
        let is_forward = object.far.is_forward();
        let blocks = Blocks::new(object.far, len, ways);
        if let Some((at, bytes)) = object.seed.filter(|_| !is_forward) {
            blocks.seed(at, &bytes);
        }
        Ok(Coming { blocks: Arc::new(blocks), meter, seeded: arrival.landed(), arrival, len })
    }

    /// Has all of it come. True when the file here is the same already. `unsure` has the time of an object whose version nobody
    /// tells.
    fn complete(
        &self,
        here: Option<&FileSource>,
        coming: &Coming,
        unsure: Option<Option<crate::tree::Time>>,
        watch: &dyn Watch,
    ) -> Result<bool> {
        let use_here = here.filter(|_| !self.whole && !coming.blocks.is_forward());
        let from_here = match use_here {
            Some(here) if st::is_container(here) => match self.take_over(here, coming, watch)? {
                Taken::All => return Ok(true),
                Taken::Some => true,
                Taken::Nothing => false,
            },
            _ => false,
        };
        coming.fetch(watch)?;
        if from_here && !st::sound(&*coming.arrival, watch)? {
            log::warn!("{}: what is here is damaged: all of it is fetched", self.local.display());
            coming.arrival.unfill();
            coming.fetch(watch)?;
        }
        self.check(coming, watch)?;
        if let Some(modified) = unsure {
            self.still(coming.len, modified)?;
        }
        Ok(false)
    }

    /// A container is whole before it takes its place. One that is sealed is looked into only with its key.
    fn check(&self, coming: &Coming, watch: &dyn Watch) -> Result<()> {
        if !st::is_container(&*coming.arrival) {
            return Ok(());
        }
        match st::is_whole(&self.access(coming.arrival.clone()), watch) {
            Ok(true) => Ok(()),
            Ok(false) => Err(damaged()),
            Err(e) if needs_key(&e) || e.kind() == Kind::Unsupported => Ok(()),
            Err(e) => Err(e),
        }
    }

    /// What is there now, whatever is kept of it.
    fn object(&self) -> Result<Object> {
        remote::open(self.address, &Asking { depot: None, ..self.how.asking() })
    }

    /// Of an object without a version: whether it looks as it did at the beginning.
    fn still(&self, len: u64, modified: Option<crate::tree::Time>) -> Result<()> {
        let now = self.object()?;
        match now.len == len && now.modified == modified {
            true => Ok(()),
            false => Err(Error::new(Kind::Changed, "it was changed while it came")),
        }
    }

    /// Takes over what a container here has of what is there.
    fn take_over(&self, here: &FileSource, coming: &Coming, watch: &dyn Watch) -> Result<Taken> {
        let (there, arrival) = (&*coming.blocks, &*coming.arrival);
        match st::likeness(here, there)? {
            Likeness::Grown if here.len()? == coming.len && same_front(here, there)? => Ok(Taken::All),
            Likeness::Grown => {
                arrival.fill_from(here.file(), FRONT..here.len()?)?;
                Ok(Taken::Some)
            }
            Likeness::Newer if !self.overwrite => Err(newer(self.local)),
            Likeness::Rewritten if !self.overwrite => {
                let own =
                    st::has_own_state(&self.access(Arc::new(reopened(here)?)), &self.access(coming.blocks.clone()));
                match own {
                    Ok(false) => self.segments(here, coming, watch),
                    Ok(true) => Err(newer(self.local)),
                    Err(e) if needs_key(&e) => Err(Error::new(Kind::Changed, "it was written anew, and is sealed: whether the file here has something of its own, nobody can tell")
                        .hint("with its key that is seen; --overwrite takes what is there")),
                    Err(e) => Err(e),
                }
            }
            _ => self.segments(here, coming, watch),
        }
    }

    fn segments(&self, here: &FileSource, coming: &Coming, watch: &dyn Watch) -> Result<Taken> {
        if !st::is_container(&*coming.blocks) {
            return Ok(Taken::Nothing);
        }
        let there = self.access(coming.blocks.clone());
        let mut taken = Taken::Nothing;
        let done = st::reuse(here, &there, watch, &mut |at, record| {
            taken = Taken::Some;
            coming.arrival.fill(at, record)
        });
        match done {
            // Without its tables nothing is found in it, and all of it comes.
            Err(e) if needs_key(&e) || e.kind() == Kind::Unsupported => log::info!("all of it is fetched: {e}"),
            done => done?,
        }
        Ok(taken)
    }

    /// How a container is looked into, by the keys that were given and no others.
    fn access(&self, bytes: Arc<dyn ReadAt>) -> Access {
        let access = Access::to_read(bytes, Cache::new(CACHE), remote::shown(self.address));
        let reading = if self.has_key { self.how.reading.clone() } else { Arc::new(Reading::default()) };
        Access { reading, ..access }
    }
}

/// How much the file here was good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Taken {
    All,
    Some,
    Nothing,
}

impl Coming {
    /// Has everything come that is not there yet.
    fn fetch(&self, watch: &dyn Watch) -> Result<()> {
        let missing = self.arrival.missing(STEP);
        let left: u64 = missing.iter().map(|range| range.end - range.start).sum();
        watch.total(self.len, 0);
        watch.advance(self.len - left, 0);
        let mut buffer = Vec::new();
        for (i, range) in missing.iter().enumerate() {
            // The first one is asked for by reading it.
            let ahead = if i == 0 { 1..AHEAD + 1 } else { i + AHEAD..i + AHEAD + 1 };
            buffer.resize((range.end - range.start) as usize, 0);
            for next in missing.get(ahead.start..ahead.end.min(missing.len())).into_iter().flatten() {
                self.blocks.will_read(next.clone());
            }
            self.read(range.start, &mut buffer, watch)?;
            // Whoever fetched it may have told that it is there before it is in the file.
            for (at, piece) in (range.start / BLOCK..).zip(buffer.chunks(BLOCK as usize)) {
                self.arrival.put(at, piece);
            }
            self.arrival.check()?;
            watch.advance(range.end - range.start, 0);
        }
        match self.arrival.missing(STEP).is_empty() {
            true => self.arrival.check(),
            false => Err(Error::new(Kind::Io, "some of it did not come")),
        }
    }

    /// Reads a range, for as long as anything comes at all.
    fn read(&self, at: u64, into: &mut [u8], watch: &dyn Watch) -> Result<()> {
        loop {
            if watch.is_cancelled() {
                return Err(Error::new(Kind::Interrupted, "interrupted"));
            }
            let before = self.meter.traffic().bytes;
            match self.blocks.read_exact_at(at, into) {
                Err(e) if e.kind() == Kind::TimedOut && self.meter.traffic().bytes > before => {}
                done => return done,
            }
        }
    }
}

fn same_front(here: &dyn ReadAt, there: &dyn ReadAt) -> Result<bool> {
    let (mut a, mut b) = (vec![0; FRONT as usize], vec![0; FRONT as usize]);
    here.read_exact_at(0, &mut a)?;
    there.read_exact_at(0, &mut b)?;
    Ok(a == b)
}

fn reopened(file: &FileSource) -> Result<FileSource> {
    Ok(FileSource::new(file.file().try_clone()?))
}

fn needs_key(e: &Error) -> bool {
    use Kind::{MissingKeyfile, NeedsPassword, UnknownRecipient, WrongPassword};
    matches!(e.kind(), NeedsPassword | WrongPassword | MissingKeyfile | UnknownRecipient)
}

fn newer(local: &Path) -> Error {
    Error::new(Kind::Changed, format!("{} has commits that are not there", local.display()))
        .hint("another name for what is there; or --overwrite, which gives them up")
}

fn damaged() -> Error {
    Error::new(Kind::Damaged, "what came fails its check, all of it from there")
        .hint("stmount check, with the same address, tells what is damaged there")
}

fn folder(shown: &str) -> Error {
    Error::new(Kind::Unsupported, format!("{shown} is a folder: only a single file is fetched"))
        .hint("stmount unpack ADDRESS DIR")
}

fn advised(e: Error, goes_on: bool) -> Error {
    match (e.kind(), e.advice()) {
        (Kind::Changed, None) => e.hint("the same once more, which begins anew"),
        (_, None) if goes_on => e.hint("the same once more, which goes on where this ended"),
        _ => e,
    }
}

fn system_time(time: crate::tree::Time) -> Option<SystemTime> {
    let secs = u64::try_from(time.secs).ok()?;
    UNIX_EPOCH.checked_add(Duration::new(secs, time.nanos.min(999_999_999)))
}
