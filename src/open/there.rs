//! A file of a server that is made or changed as a whole: a container, its lease, an object of a store.
//!
//! ```text
//!   address ─► the folder that it is in, and its name ─► make, amend, look, each with the patience of the link
//!
//!   make     sent ─► its length, and its first and last bytes: is it that?      a lost answer is no failure, and half of it is
//!            again, as long as one is willing to wait                            no success
//! ```

use super::lease::{ENDING, Lease};
use super::{How, far};
use crate::error::{Error, Kind, Result, Within};
use crate::remote::{self, Amend, Amended, Object, Seen, Set, Share, Writes};
use crate::source::{Go, Memory, ReadAt};
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The first wait before another try, which doubles with each until the last.
const FIRST_WAIT: Duration = Duration::from_millis(300);
const LAST_WAIT: Duration = Duration::from_secs(5);

/// Bytes of an end that are compared.
const PROBE: u64 = 4096;

/// A place in a folder of a server.
#[derive(Clone)]
pub struct There {
    share: Arc<dyn Share>,
    name: String,
    how: How,
    shown: String,
}

/// Whether a failure may be over in a while.
pub(super) fn may_pass(e: &Error) -> bool {
    matches!(e.kind(), Kind::Unreachable | Kind::TimedOut | Kind::Busy)
}

/// Does something again as long as it is worth it: until it has failed for as long as the patience of the link.
pub(super) fn patiently<T>(patience: Duration, mut work: impl FnMut() -> Result<T>) -> Result<T> {
    let (mut begun, mut wait) = (Instant::now(), FIRST_WAIT);
    loop {
        let tried = Instant::now();
        match work() {
            Err(e) if may_pass(&e) && begun.elapsed() < patience => {
                log::info!("{e}; again in {wait:?}");
                // What went on for long had come further than the last time.
                if tried.elapsed() > patience {
                    begun = Instant::now();
                }
                std::thread::sleep(wait);
                wait = (wait * 2).min(LAST_WAIT);
            }
            done => return done,
        }
    }
}

impl There {
    /// The place that an address is, where something is to be made or changed.
    ///
    /// # Errors
    /// `ReadOnly` where nobody can write; those of the folder.
    pub fn of(address: &str, how: &How) -> Result<Self> {
        let shown = remote::shown(address);
        let odd = || Error::new(Kind::Usage, format!("{shown}: it names no file")).hint("s3://BUCKET/game.st");
        if address.contains('!') || remote::is_folder(address) {
            return Err(odd());
        }
        let (folder, name) = remote::parted(address).ok_or_else(odd)?;
        let share = folder_of(&folder, how)?;
        Ok(Self { share, name, how: how.clone(), shown })
    }

    /// A file of a folder, by its path in it.
    pub(super) fn within(share: &Arc<dyn Share>, path: &str, shown: String, how: &How) -> Self {
        Self { share: share.clone(), name: path.to_owned(), how: how.clone(), shown }
    }

    /// What is called so with something behind its name, in the same folder.
    pub fn beside(&self, ending: &str) -> Self {
        let (name, shown) = (format!("{}{ending}", self.name), format!("{}{ending}", self.shown));
        Self { name, shown, ..self.clone() }
    }

    pub fn shown(&self) -> &str {
        &self.shown
    }

    pub(super) fn patience(&self) -> Duration {
        self.how.far.link.patience
    }

    pub(super) fn writes(&self) -> Result<&dyn Writes> {
        let only_read = || Error::new(Kind::ReadOnly, format!("{}: the server takes nothing there", self.shown));
        self.share.writes().ok_or_else(only_read)
    }

    /// What is there, ready to be read; nothing where nothing is.
    pub(super) fn look(&self) -> Result<Option<(Seen, Arc<dyn ReadAt>)>> {
        let opened = patiently(self.patience(), || match self.share.open(&self.name) {
            Err(e) if e.kind() == Kind::NotFound => Ok(None),
            opened => opened.map(Some),
        })?;
        let Some((address, object)) = opened else { return Ok(None) };
        if object.leads_to_directory {
            return Err(Error::new(Kind::IsADirectory, format!("{}: it is a directory", self.shown)));
        }
        let seen = Seen::of(&object);
        let bytes = far::blocks(&address, object, &self.how).within(|| &self.shown)?;
        Ok(Some((seen, Arc::new(bytes))))
    }

    /// Whether something has the name.
    pub fn is_there(&self) -> Result<bool> {
        Ok(self.look()?.is_some())
    }

    /// What is there, all of it, asked for just now. Nothing where nothing is, or more than so much.
    pub(super) fn read(&self, most: u64) -> Result<Option<(Seen, Vec<u8>)>> {
        let Some((_, object)) = (match self.share.open(&self.name) {
            Err(e) if e.kind() == Kind::NotFound => None,
            opened => Some(opened?),
        }) else {
            return Ok(None);
        };
        if object.len > most {
            return Ok(None);
        }
        let (seen, mut bytes) = (Seen::of(&object), Vec::new());
        if object.len > 0 {
            let come = object.far.fetch(0..object.len, &mut |piece| {
                bytes.extend_from_slice(piece);
                if (bytes.len() as u64) < object.len { Go::On } else { Go::Away }
            });
            come.map_err(|failure| failure.error.within(&self.shown))?;
        }
        Ok(Some((seen, bytes)))
    }

    /// Makes a small file, only where nothing has the name.
    pub(super) fn make_small(&self, bytes: &[u8]) -> Result<()> {
        self.writes()?.create(&self.name, &Memory::new(bytes.to_vec()), &mut |_| Ok(()))
    }

    /// Puts a small file in place of what is still as it was seen.
    pub(super) fn replace_small(&self, bytes: &[u8], old: &Seen) -> Result<()> {
        let bytes = Memory::new(bytes.to_vec());
        let amend = Amend { bytes: &bytes, from: 0, old, steps: &[] };
        self.writes()?.amend(&self.name, &amend, &mut |_| Ok(())).map(drop)
    }

    pub(super) fn remove(&self) -> Result<()> {
        self.writes()?.remove(&self.name)
    }

    pub(super) fn amend(&self, amend: &Amend<'_>, told: &mut dyn FnMut(u64) -> Result<()>) -> Result<Amended> {
        self.writes()?.amend(&self.name, amend, told)
    }

    /// Takes the lease of what is going to have the name.
    ///
    /// # Errors
    /// `Locked` when somebody else writes to it; `Exists` when something has the name that is not to be replaced; `ReadOnly`.
    pub fn claim(&self, over: bool) -> Result<Lease> {
        self.writes()?;
        let refuse_taken = || match over || !self.is_there()? {
            true => Ok(()),
            false => Err(Error::new(Kind::Exists, format!("{} exists already", self.shown))
                .hint("another name; --force, or --overwrite of convert, replaces it")),
        };
        refuse_taken()?;
        let lease = Lease::take(self.beside(ENDING))?;
        refuse_taken().map(|()| lease)
    }

    /// Sends a whole file, in place of what has the name or only where nothing has it, until it is there.
    ///
    /// # Errors
    /// `Exists` when the name is taken; those of the link once it has failed for too long.
    pub fn send(&self, bytes: &dyn ReadAt, over: bool, told: &mut dyn FnMut(u64) -> Result<()>) -> Result<Seen> {
        let (mut is_again, marks) = (false, Marks::of(bytes)?);
        patiently(self.patience(), || {
            let writes = self.writes()?;
            let sent = match over {
                true => writes.put(&self.name, bytes, &Set::default(), told),
                false => writes.create(&self.name, bytes, told),
            };
            match sent {
                // The answer of the time before was lost.
                Err(e) if is_again && e.kind() == Kind::Exists => self.is_it(&marks).map_err(|_| e),
                Err(e) => {
                    is_again = may_pass(&e);
                    Err(e)
                }
                Ok(()) => self.is_it(&marks),
            }
        })
    }

    /// Whether what the server has is what was sent: the length, and both ends.
    ///
    /// # Errors
    /// `Io` when it is something else.
    pub(super) fn is_it(&self, marks: &Marks) -> Result<Seen> {
        let (seen, object) = self.now()?;
        if seen.len == marks.len && marks.are_in(&object)? {
            return Ok(seen);
        }
        Err(Error::new(Kind::Io, format!("{}: the server has other bytes than were sent", self.shown)))
    }

    /// What the server says of it now.
    pub(super) fn now(&self) -> Result<(Seen, Object)> {
        let (_, object) = self.share.open(&self.name)?;
        Ok((Seen::of(&object), object))
    }

    /// Whether a file is written where it is, so that what it was cannot be read any more meanwhile.
    pub(super) fn is_in_place(&self) -> bool {
        matches!(remote::scheme(&self.shown), Some("sftp" | "ftp" | "ftps" | "ftpes"))
    }

    /// Whether what is there of what was broken off is all that was sent until then.
    pub(super) fn is_stream(&self) -> bool {
        self.is_in_place() && remote::scheme(&self.shown) != Some("sftp")
    }
}

/// Pieces of a file by which it is known again.
pub(super) struct Marks {
    pub len: u64,
    pieces: Vec<(u64, Vec<u8>)>,
}

impl Marks {
    /// Both ends.
    pub fn of(bytes: &dyn ReadAt) -> Result<Self> {
        let len = bytes.len()?;
        let back = Self::within(bytes, 0..len)?;
        let mut front = Self::within(bytes, 0..PROBE.min(len))?;
        front.pieces.extend(back.pieces);
        Ok(Self { len, ..front })
    }

    /// The end of a range.
    pub fn within(bytes: &dyn ReadAt, range: Range<u64>) -> Result<Self> {
        let at = range.start.max(range.end.saturating_sub(PROBE));
        let mut piece = vec![0; range.end.saturating_sub(at) as usize];
        bytes.read_exact_at(at, &mut piece)?;
        Ok(Self { len: range.end, pieces: vec![(at, piece)] })
    }

    /// Whether an object has these pieces.
    pub fn are_in(&self, object: &Object) -> Result<bool> {
        for (at, wanted) in self.pieces.iter().filter(|(_, piece)| !piece.is_empty()) {
            let (end, mut there) = (at + wanted.len() as u64, Vec::new());
            if end > object.len {
                return Ok(false);
            }
            let come = object.far.fetch(*at..end, &mut |piece| {
                there.extend_from_slice(piece);
                if there.len() < wanted.len() { Go::On } else { Go::Away }
            });
            come.map_err(|failure| failure.error)?;
            if there != *wanted {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// A folder of a server, to be written to. A server of the web is one of WebDAV then, or it takes nothing.
pub(super) fn folder_of(address: &str, how: &How) -> Result<Arc<dyn Share>> {
    let share = remote::share(&remote::to_write(address), &how.far.link, &*how.reading.keys);
    let share = share.map_err(|e| match e.kind() {
        Kind::Unsupported | Kind::Io if address.starts_with("http") => {
            let what = format!("{}: the server takes nothing there: {e}", remote::shown(address));
            Error::new(Kind::ReadOnly, what).hint("it must be a share of WebDAV")
        }
        _ => e,
    })?;
    Ok(Arc::from(share))
}
