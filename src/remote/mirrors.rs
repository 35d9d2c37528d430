//! What is at several addresses, as if it were at one: an object, or a folder of them.
//!
//! ```text
//!   open     the address; when it cannot be reached, the first of its mirrors that can
//!   object   source/mirrors over what is at all of them; a mirror is asked when the first bytes are fetched
//!   folder   lists and looks by the first address that can be reached; each file is an object as above
//! ```
//!
//! One that cannot be reached is left alone for a while, so that only the first who asks waits for it.

use super::{Item, Link, Object, Share, Writes, is_folder, name_of, shown};
use crate::error::{Error, Kind, Result};
use crate::key::Keys;
use crate::pool::lock;
use crate::source::{Found, Mirrors, Opens};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// How long a folder that could not be reached is left alone.
const REST: Duration = Duration::from_secs(30);

/// Asks for an object, with the mirrors of the link.
pub fn open_mirrored(address: &str, link: &Link, keys: &Arc<dyn Keys>) -> Result<Object> {
    let mut addresses = vec![address.to_owned()];
    addresses.extend(link.mirrors.iter().map(|mirror| mirror_of(mirror, address)));
    let alone = Arc::new((Link { mirrors: Vec::new(), ..link.clone() }, keys.clone()));
    let hurried = hurried(link);
    let (mut object, at) = first(addresses.len(), |n| super::open_now(&addresses[n], &hurried, &**keys))?;
    let others = addresses.iter().enumerate().filter(|(n, _)| *n != at).map(|(_, address)| {
        let (name, address, with) = (shown(address), address.clone(), alone.clone());
        (name, Box::new(move || super::open_now(&address, &with.0, &*with.1)) as Ask)
    });
    if at > 0 {
        let name = shown(&addresses[at]);
        object.notes.push(format!("the server cannot be reached: it is read from its mirror {name}"));
        object.found_at = Some(addresses[at].clone());
    }
    Ok(mirrored(object, &addresses[at], others.collect(), link.patience))
}

/// A mirror that is a folder has the object under its name.
fn mirror_of(mirror: &str, address: &str) -> String {
    if !is_folder(mirror) || is_folder(address) {
        return mirror.to_owned();
    }
    let name = name_of(address);
    name.and_then(|name| super::beside(&format!("{mirror}x"), &name)).unwrap_or_else(|| mirror.to_owned())
}

/// Where there is somebody else to ask, one waits only half as long for the first.
fn hurried(link: &Link) -> Link {
    let patience = if link.mirrors.is_empty() { link.patience } else { link.patience / 2 };
    Link { mirrors: Vec::new(), patience, ..link.clone() }
}

fn is_about_the_path(e: &Error) -> bool {
    matches!(e.kind(), Kind::NotFound | Kind::NotADirectory | Kind::IsADirectory)
}

/// What the first answers that can be reached, and which it is. When none can, what is said of the first counts.
fn first<T>(count: usize, ask: impl Fn(usize) -> Result<T>) -> Result<(T, usize)> {
    let mut failed = None;
    for n in 0..count {
        match ask(n) {
            Ok(answer) => return Ok((answer, n)),
            Err(e) if n == 0 && !e.is_of_link() => return Err(e),
            Err(e) => {
                log::info!("{e}");
                failed = failed.or(Some(e));
            }
        }
    }
    Err(failed.unwrap_or_else(|| Error::new(Kind::Usage, "there is no address")))
}

/// Asks for an object at one of its places.
type Ask = Box<dyn Fn() -> Result<Object> + Send + Sync>;

/// An object with its other places.
fn mirrored(object: Object, address: &str, others: Vec<(String, Ask)>, patience: Duration) -> Object {
    // All of it came with the answer, or only all of it can be had.
    let is_whole = object.seed.as_ref().is_some_and(|(_, bytes)| bytes.len() as u64 == object.len);
    if is_whole || object.far.is_forward() || others.is_empty() {
        return object;
    }
    let others = others.into_iter().map(|(name, ask)| (name, Box::new(move || ask().map(found)) as Opens)).collect();
    let main = Found { far: object.far.clone(), len: object.len, seed: object.seed.clone(), is_stamped: true };
    Object { far: Arc::new(Mirrors::new(&shown(address), main, others, patience)), ..object }
}

fn found(object: Object) -> Found {
    Found { is_stamped: object.stamp.is_some(), far: object.far, len: object.len, seed: object.seed }
}

/// As [`super::share()`], with the mirrors of the link, and what is to be told of it.
pub fn share_mirrored(address: &str, link: &Link, keys: &Arc<dyn Keys>) -> Result<(Box<dyn Share>, Vec<String>)> {
    if link.mirrors.is_empty() {
        return Ok((super::open_folder(address, link, &**keys)?, Vec::new()));
    }
    let hurried = Arc::new(hurried(link));
    let addresses = std::iter::once(address).chain(link.mirrors.iter().map(String::as_str));
    let place = |address: &str| {
        let (address, link, keys) = (address.to_owned(), hurried.clone(), keys.clone());
        Arc::new(Place { address, link, keys, state: Mutex::default() })
    };
    let share = MirroredShare { places: addresses.map(place).collect(), patience: link.patience };
    let (_, at) = share.first(|_| Ok(()))?;
    let told =
        |at: usize| format!("the server cannot be reached: its mirror {} is shown", shown(&share.places[at].address));
    let notes = (at > 0).then(|| told(at)).into_iter().collect();
    Ok((Box::new(share), notes))
}

/// A folder that is the same at several addresses.
struct MirroredShare {
    places: Vec<Arc<Place>>,
    patience: Duration,
}

/// One of the addresses of a folder.
struct Place {
    address: String,
    link: Arc<Link>,
    keys: Arc<dyn Keys>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    share: Option<Arc<dyn Share>>,
    /// It is asked before that only when there is no other.
    rests_until: Option<Instant>,
}

impl Place {
    /// The folder, opened when it is asked for first.
    fn share(&self) -> Result<Arc<dyn Share>> {
        if let Some(share) = &lock(&self.state).share {
            return Ok(share.clone());
        }
        let share: Arc<dyn Share> = super::open_folder(&self.address, &self.link, &*self.keys)?.into();
        Ok(lock(&self.state).share.get_or_insert(share).clone())
    }

    fn is_resting(&self) -> bool {
        lock(&self.state).rests_until.is_some_and(|until| Instant::now() < until)
    }
}

impl MirroredShare {
    /// What the first place says that can be reached, and which it is. When none can, the word of the first counts.
    fn first<T>(&self, ask: impl Fn(&dyn Share) -> Result<T>) -> Result<(T, usize)> {
        let mut order: Vec<usize> = (0..self.places.len()).collect();
        order.sort_by_key(|n| self.places[*n].is_resting());
        let mut failed: Option<(usize, Error)> = None;
        for n in order {
            let place = &self.places[n];
            match place.share().and_then(|share| ask(&*share)) {
                Ok(answer) => {
                    lock(&place.state).rests_until = None;
                    return Ok((answer, n));
                }
                // What is not there is not looked for elsewhere.
                Err(e) if (n == 0 && !e.is_of_link()) || is_about_the_path(&e) => return Err(e),
                Err(e) => {
                    lock(&place.state).rests_until = Some(Instant::now() + REST);
                    log::info!("{}: {e}", shown(&place.address));
                    failed = failed.filter(|(before, _)| *before < n).or(Some((n, e)));
                }
            }
        }
        Err(failed.map_or_else(|| Error::new(Kind::Usage, "there is no address"), |(_, e)| e))
    }
}

impl Share for MirroredShare {
    fn list(&self, path: &str) -> Result<Vec<Item>> {
        self.first(|share| share.list(path)).map(|(items, _)| items)
    }

    fn look(&self, path: &str) -> Result<Item> {
        self.first(|share| share.look(path)).map(|(item, _)| item)
    }

    fn open(&self, path: &str) -> Result<(String, Object)> {
        let ((address, object), at) = self.first(|share| share.open(path))?;
        let others = self.places.iter().enumerate().filter(|(n, _)| *n != at).map(|(_, place)| {
            let (name, place, path) = (format!("{}, {path}", shown(&place.address)), place.clone(), path.to_owned());
            (name, Box::new(move || Ok(place.share()?.open(&path)?.1)) as Ask)
        });
        let object = mirrored(object, &address, others.collect(), self.patience);
        Ok((address, object))
    }

    fn target(&self, path: &str) -> Result<Vec<u8>> {
        self.first(|share| share.target(path)).map(|(target, _)| target)
    }

    // What is written would have to be written to all of them.
    fn writes(&self) -> Option<&dyn Writes> {
        None
    }
}
