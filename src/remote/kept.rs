//! What is kept of a server, shown as it was as long as the server cannot be reached.
//!
//! ```text
//!   folder   list ──► the server ──► its answer, which is kept as a page
//!                         └─ away ──► the page; the server is tried again later
//!   object   open ──► the server ──► as it is
//!                         └─ away ──► the version that was kept, with its blocks; what is missing comes when the server is
//!                                     back, if it is the same version there
//! ```
//!
//! A server that did not answer is left alone for a while where something is kept: who lists a hundred directories of one
//! that is gone does not wait a hundred times.

use super::{Item, Link, Object, Offline, Share, Writes, below, never, open_mirrored, open_now, share_mirrored, shown};
use crate::error::{Error, Kind, Result};
use crate::key::Keys;
use crate::pool::lock;
use crate::source::{Again, Depot, Failure, Far, Go, Meter, Version};
use crate::tree::{Kind as NodeKind, Time};
use std::ops::Range;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

/// How long a server is left alone that did not answer, at first and in the end, where something is kept.
const FIRST_WAIT: Duration = Duration::from_secs(5);
const LAST_WAIT: Duration = Duration::from_secs(60);

/// The same where nothing is, and somebody waits for it.
const REST: Duration = Duration::from_secs(1);

/// Bytes of a page; what would be longer is not kept.
const PAGE: usize = 64 << 20;

/// Whom to ask, and what is kept of him.
#[derive(Clone)]
pub struct Asking {
    pub link: Link,
    pub keys: Arc<dyn Keys>,
    pub depot: Option<Arc<Depot>>,
    pub meter: Arc<Meter>,
}

impl Asking {
    /// Makes a request, and takes note of whether it was answered.
    fn ask<T>(&self, away: &Away, ask: impl FnOnce() -> Result<T>) -> Result<T> {
        if self.link.offline == Offline::Only {
            self.meter.is_offline();
            return Err(Error::new(Kind::Unreachable, "it is not kept, and nobody is to be asked"));
        }
        let came = ask();
        self.meter.note(came.as_ref().err());
        away.note(came.as_ref().is_err_and(Error::is_of_link));
        came
    }

    /// What was kept of an object, without asking for any of it.
    fn kept(&self, address: &str) -> Option<Object> {
        let version = self.depot.as_ref()?.version(&shown(address))?;
        let (stamp, len) = (version.stamp.clone(), version.len);
        let (to, far) = (address.to_owned(), Mutex::default());
        let far = Returning { address: to, version, asking: self.clone(), away: Away::default(), far };
        Some(Object { stamp: Some(stamp), ..Object::new(Arc::new(far), len) })
    }
}

/// Since when a server does not answer.
#[derive(Default)]
struct Away(Mutex<Option<(Instant, Duration)>>);

impl Away {
    fn note(&self, is_away: bool) {
        let mut state = lock(&self.0);
        let wait = state.map_or(FIRST_WAIT, |(_, wait)| (wait * 2).min(LAST_WAIT));
        *state = is_away.then(|| (Instant::now() + wait, wait));
    }

    fn is_left_alone(&self) -> bool {
        lock(&self.0).is_some_and(|(until, _)| Instant::now() < until)
    }
}

/// Asks for an object.
///
/// # Errors
/// `NotFound`, `Denied`, `Unreachable`, `TimedOut`, `Unsupported` for a scheme this build does not know.
pub fn open(address: &str, asking: &Asking) -> Result<Object> {
    let away = Away::default();
    let opened = asking.ask(&away, || {
        asking.meter.asked();
        open_mirrored(address, &asking.link, &asking.keys)
    });
    match opened {
        Err(e) if e.is_of_link() => {
            let is_only = asking.link.offline == Offline::Only;
            let mut object = asking.kept(address).ok_or_else(|| match is_only {
                true => Error::new(Kind::Unreachable, format!("{}: nothing of it is kept", shown(address)))
                    .hint("open it once without -o offline=only"),
                false => e,
            })?;
            if !is_only {
                object.notes.push(UNREACHED.to_owned());
            }
            Ok(object)
        }
        opened => opened,
    }
}

/// What is told of a server that cannot be reached.
const UNREACHED: &str = "the server cannot be reached: what is kept of it is shown as it was";

/// An object as it was kept, until its server is there again.
struct Returning {
    address: String,
    version: Version,
    asking: Asking,
    away: Away,
    far: Mutex<Option<Arc<dyn Far>>>,
}

impl Returning {
    fn far(&self) -> std::result::Result<Arc<dyn Far>, Failure> {
        let mut far = lock(&self.far);
        if let Some(far) = &*far {
            return Ok(far.clone());
        }
        if self.asking.link.offline == Offline::Only {
            return Err(never(Kind::Unreachable, "this part of it is not kept, and nobody is to be asked"));
        }
        let Asking { link, keys, .. } = &self.asking;
        let opened = self.asking.ask(&self.away, || open_now(&self.address, link, &**keys));
        let object = opened.map_err(|error| {
            let again = if error.is_of_link() { Again::In(REST) } else { Again::Never };
            Failure { error, again }
        })?;
        if object.len != self.version.len || object.stamp.as_ref() != Some(&self.version.stamp) {
            return Err(never(Kind::Changed, "it was changed on the server since it was kept"));
        }
        Ok(far.insert(object.far).clone())
    }
}

impl Far for Returning {
    fn is_stream(&self) -> bool {
        lock(&self.far).as_ref().is_some_and(|far| far.is_stream())
    }

    fn fetch(&self, range: Range<u64>, take: &mut dyn FnMut(&[u8]) -> Go) -> std::result::Result<(), Failure> {
        let far = self.far()?;
        if !far.is_forward() {
            return far.fetch(range, take);
        }
        let mut skip = range.start;
        far.fetch(0..range.end, &mut |piece| {
            let skipped = skip.min(piece.len() as u64) as usize;
            skip -= skipped as u64;
            take(&piece[skipped..])
        })
    }
}

/// A folder of a server, with what is kept of it.
pub struct KeptShare {
    /// That of the folder, as far as it may be shown: what is kept is called by it.
    name: String,
    address: String,
    asking: Asking,
    share: OnceLock<(Box<dyn Share>, Vec<String>)>,
    away: Away,
    /// What is kept stands in for the server. Who writes there has to know what is true.
    shows_kept: bool,
}

impl KeptShare {
    /// Opens a folder; one that is kept opens also when its server cannot be reached.
    ///
    /// # Errors
    /// As [`open`].
    pub fn open(address: &str, asking: &Asking) -> Result<Self> {
        let name = shown(address).trim_end_matches('/').to_owned();
        let (address, asking) = (address.to_owned(), asking.clone());
        let kept = Self { name, address, asking, share: OnceLock::new(), away: Away::default(), shows_kept: true };
        match kept.share() {
            Err(e) if e.is_of_link() && kept.page("").is_none() => Err(match kept.asking.link.offline {
                Offline::Only => Error::new(Kind::Unreachable, format!("{}: nothing of it is kept", kept.name))
                    .hint("open it once without -o offline=only"),
                Offline::Auto => e,
            }),
            Err(e) if !e.is_of_link() => Err(e),
            _ => Ok(kept),
        }
    }

    /// Opens a folder that is written to: its server has to be there.
    ///
    /// # Errors
    /// As [`open`].
    pub fn to_write(address: &str, asking: &Asking) -> Result<Self> {
        let opened = Self::open(address, asking)?;
        opened.share()?;
        Ok(Self { shows_kept: false, ..opened })
    }

    /// What is to be told of how it was opened.
    pub fn notes(&self) -> Vec<String> {
        match self.share.get() {
            None if self.asking.link.offline == Offline::Auto => vec![UNREACHED.to_owned()],
            None => Vec::new(),
            Some((_, notes)) => notes.clone(),
        }
    }

    fn share(&self) -> Result<&dyn Share> {
        if let Some((share, _)) = self.share.get() {
            return Ok(&**share);
        }
        let Asking { link, keys, .. } = &self.asking;
        let opened = self.asking.ask(&self.away, || share_mirrored(&self.address, link, keys))?;
        Ok(&*self.share.get_or_init(|| opened).0)
    }

    fn ask<T>(&self, ask: impl FnOnce(&dyn Share) -> Result<T>) -> Result<T> {
        let share = self.share()?;
        self.asking.ask(&self.away, || ask(share))
    }

    /// What the server says; what is kept where it says nothing, at once where it said nothing just before.
    fn or_kept<T>(&self, kept: impl Fn() -> Option<T>, ask: impl FnOnce(&dyn Share) -> Result<T>) -> Result<T> {
        if !self.shows_kept {
            return self.ask(ask);
        }
        if self.away.is_left_alone()
            && let Some(kept) = kept()
        {
            return Ok(kept);
        }
        self.ask(ask).or_else(|e| if e.is_of_link() { kept().ok_or(e) } else { Err(e) })
    }

    fn page_name(&self, path: &str) -> String {
        format!("{}/\n{path}", self.name)
    }

    fn page(&self, path: &str) -> Option<Vec<Item>> {
        items(&self.asking.depot.as_ref()?.page(&self.page_name(path), PAGE)?)
    }

    fn keep(&self, path: &str, items: &[Item]) {
        let Some(depot) = &self.asking.depot else { return };
        match page(items) {
            Some(bytes) if bytes.len() <= PAGE => depot.keep_page(&self.page_name(path), &bytes),
            _ => log::debug!("{path}: its list is not kept"),
        }
    }

    /// An entry, as the list of its directory had it, with what is kept of its contents.
    fn kept_item(&self, path: &str) -> Option<Item> {
        let (dir, name) = path.rsplit_once('/').unwrap_or(("", path));
        let item = self.page(dir)?.into_iter().find(|item| item.name == name)?;
        let len = item.len.or_else(|| self.kept_file(path).map(|(_, object)| object.len));
        Some(Item { len, ..item })
    }

    fn kept_file(&self, path: &str) -> Option<(String, Object)> {
        let address = below(&self.address, path)?;
        let object = self.asking.kept(&address)?;
        Some((address, object))
    }
}

impl Share for KeptShare {
    fn list(&self, path: &str) -> Result<Vec<Item>> {
        self.or_kept(|| self.page(path), |share| share.list(path).inspect(|items| self.keep(path, items)))
    }

    fn look(&self, path: &str) -> Result<Item> {
        self.or_kept(|| self.kept_item(path), |share| share.look(path))
    }

    fn open(&self, path: &str) -> Result<(String, Object)> {
        self.or_kept(
            || self.kept_file(path),
            |share| {
                self.asking.meter.asked();
                share.open(path)
            },
        )
    }

    fn target(&self, path: &str) -> Result<Vec<u8>> {
        self.ask(|share| share.target(path))
    }

    fn writes(&self) -> Option<&dyn Writes> {
        self.share.get()?.0.writes()
    }
}

/// An entry in a page: name, kind, length, seconds and nanoseconds, mode, user and group.
type Row = (String, char, Option<u64>, Option<(i64, u32)>, Option<u32>, Option<(u32, u32)>);

fn page(items: &[Item]) -> Option<Vec<u8>> {
    let row = |item: &Item| -> Option<Row> {
        let kind = match item.kind {
            NodeKind::File => 'f',
            NodeKind::Directory => 'd',
            NodeKind::Symlink => 'l',
            _ => return None,
        };
        let time = item.modified.map(|time| (time.secs, time.nanos));
        Some((item.name.clone(), kind, item.len, time, item.mode, item.owner))
    };
    serde_json::to_vec(&items.iter().filter_map(row).collect::<Vec<_>>()).ok()
}

fn items(page: &[u8]) -> Option<Vec<Item>> {
    let rows: Vec<Row> = serde_json::from_slice(page).ok()?;
    let item = |(name, kind, len, time, mode, owner): Row| {
        let kind = match kind {
            'd' => NodeKind::Directory,
            'l' => NodeKind::Symlink,
            _ => NodeKind::File,
        };
        let modified = time.map(|(secs, nanos)| Time { secs, nanos });
        Item { name, kind, len, modified, mode, owner }
    };
    Some(rows.into_iter().map(item).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_gives_back_what_it_was_given() {
        let time = Some(Time { secs: -5, nanos: 7 });
        let all = [
            Item::new("a \"b\"\nü", NodeKind::Directory),
            Item { len: Some(1 << 60), modified: time, mode: Some(0o4755), ..Item::new("x", NodeKind::File) },
            Item { owner: Some((0, u32::MAX)), ..Item::new("l", NodeKind::Symlink) },
        ];
        assert_eq!(items(&page(&all).unwrap()).unwrap(), all);
        assert_eq!(items(b"[[1]]"), None);
    }

    #[test]
    fn who_did_not_answer_is_left_alone_for_longer_and_longer() {
        let away = Away::default();
        assert!(!away.is_left_alone());
        away.note(true);
        assert!(away.is_left_alone());
        (0..10).for_each(|_| away.note(true));
        assert_eq!(lock(&away.0).unwrap().1, LAST_WAIT);
        away.note(false);
        assert!(!away.is_left_alone());
    }
}
