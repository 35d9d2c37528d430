//! A store of objects at an address.
//!
//! ```text
//!   read      each object by a request
//!   put       is it in the listing of its directory?  no ─► a few at once ─► under a name of its own, and then under its hash
//!   hold      leases/shared-… for who adds, leases/alone-… for who removes: made, then it is looked who else is there
//! ```
//!
//! A name is never given to half an object, and an object that nobody names does no harm: whatever ends the process leaves a
//! store that is right.

use super::lease::Lease;
use super::there::{There, folder_of, patiently};
use super::{How, far};
use crate::error::{Error, Kind, Result, Within};
use crate::key::{random, sign::hex};
use crate::pool::{Background, lock};
use crate::remote::{self, Set, Share, Writes};
use crate::source::objects::{Drawer, Guard, Hash, Hold, MARK, MARK_MAX, Objects, mark_of, uid_of, unhex};
use crate::source::{Memory, ReadAt};
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// Objects that are sent at once, and how many more wait to be: each has some 100 KiB, and 64 MiB at most.
const SENDERS: usize = 6;
const WAITING: usize = 4;

const LEASES: &str = "leases";

/// The objects at an address.
#[derive(Clone)]
pub struct FarObjects(Arc<Inner>);

struct Inner {
    address: String,
    how: How,
    uid: [u8; 16],
    /// The folder, once it is written to.
    share: Mutex<Option<Arc<dyn Share>>>,
    /// What is in directories that were listed, with lengths, and what is sent there.
    known: Mutex<HashMap<String, HashMap<Hash, u64>>>,
    sending: Mutex<Sending>,
    sent: Condvar,
    senders: Background,
}

#[derive(Default)]
struct Sending {
    on_their_way: usize,
    failed: Option<Error>,
    /// Directories that are there.
    dirs: HashSet<String>,
}

/// Makes a store of a folder of a server, which is made where it is missing.
///
/// # Errors
/// `Exists` when it is one already; `NotEmpty` when something else is in it; `ReadOnly`.
pub fn make(address: &str, uid: [u8; 16], how: &How) -> Result<()> {
    let (address, shown) = (address.trim_end_matches('/'), remote::shown(address));
    if let Some((above, name)) = remote::parted(address).filter(|_| !is_flat(address)) {
        writes(&*folder_of(&above, how)?, &shown)?.make_dir(&name)?;
    }
    let share = folder_of(&format!("{address}/"), how)?;
    let there = match share.list("") {
        Err(e) if e.kind() == Kind::NotFound => Vec::new(),
        listed => listed?,
    };
    if there.iter().any(|item| item.name == MARK) {
        return Err(Error::new(Kind::Exists, format!("{shown} is a store already")));
    }
    if !there.is_empty() {
        return Err(Error::new(Kind::NotEmpty, format!("{shown} is not empty"))
            .hint("a store is a folder of its own: name a new one"));
    }
    writes(&*share, &shown)?.create(MARK, &Memory::new(mark_of(&uid).into_bytes()), &mut |_| Ok(()))
}

/// Whether there are no directories, but names with slashes.
fn is_flat(address: &str) -> bool {
    remote::scheme(address) == Some("s3")
}

fn writes<'a>(share: &'a dyn Share, shown: &str) -> Result<&'a dyn Writes> {
    share.writes().ok_or_else(|| {
        Error::new(Kind::ReadOnly, format!("{shown}: the server takes nothing there, it is only read"))
            .hint("do it where it lies, or by an address that takes things: s3, webdav, sftp, ftp")
    })
}

/// What is below an address of the web, which may be no folder that can be listed.
fn of_web(address: &str, parts: &[&str], how: &How) -> Result<Option<Arc<dyn ReadAt>>> {
    let mut below = address.to_owned();
    for part in parts {
        // What stands beside something that is in it is in it.
        let odd = || Error::new(Kind::Usage, format!("{}: nothing can be below it", remote::shown(address)));
        below = remote::beside(&format!("{below}/x"), part).ok_or_else(odd)?;
    }
    match far::bytes(&below, how) {
        Err(e) if e.kind() == Kind::NotFound => Ok(None),
        bytes => bytes.map(Some),
    }
}

impl FarObjects {
    /// Opens the store at an address; `None` when there is none.
    pub fn open(address: &str, how: &How) -> Result<Option<Self>> {
        let address = address.trim_end_matches('/').to_owned();
        let (known, sending, sent) = (Mutex::default(), Mutex::default(), Condvar::new());
        let (share, senders, how) = (Mutex::default(), Background::new(SENDERS, WAITING), how.clone());
        let mut inner = Inner { address, how, uid: [0; 16], share, known, sending, sent, senders };
        let mark = match inner.get(&[MARK], MARK_MAX) {
            Err(e) if matches!(e.kind(), Kind::NotFound | Kind::NotADirectory) => None,
            mark => mark?,
        };
        let Some(uid) = mark.and_then(|mark| uid_of(&mark)) else { return Ok(None) };
        inner.uid = uid;
        Ok(Some(Self(Arc::new(inner))))
    }
}

impl Inner {
    fn shown(&self) -> String {
        remote::shown(&self.address)
    }

    /// What is below it, of at most so many bytes; nothing where nothing is.
    fn get(&self, parts: &[&str], most: u64) -> Result<Option<Vec<u8>>> {
        let bytes = if matches!(remote::scheme(&self.address), Some("http" | "https")) {
            of_web(&self.address, parts, &self.how)?
        } else {
            self.within(&parts.join("/"))?.look()?.map(|(_, bytes)| bytes)
        };
        let Some(bytes) = bytes else { return Ok(None) };
        let len = bytes.len()?;
        if len > most {
            return Err(Error::new(Kind::Damaged, format!("{}/{} is too long", self.shown(), parts.join("/"))));
        }
        let mut all = vec![0; len as usize];
        bytes.read_exact_at(0, &mut all)?;
        Ok(Some(all))
    }

    /// A file in it.
    fn within(&self, path: &str) -> Result<There> {
        Ok(There::within(&self.share()?, path, format!("{}/{path}", self.shown()), &self.how))
    }

    /// The folder, to be listed and written to.
    fn share(&self) -> Result<Arc<dyn Share>> {
        let mut share = lock(&self.share);
        if let Some(share) = &*share {
            return Ok(share.clone());
        }
        let opened = folder_of(&format!("{}/", self.address), &self.how)?;
        Ok(share.insert(opened).clone())
    }

    fn sending(&self) -> MutexGuard<'_, Sending> {
        lock(&self.sending)
    }

    /// What is in a directory of the store.
    fn listed(&self, dir: &str) -> Result<Vec<(Hash, u64)>> {
        let share = self.share()?;
        let items = patiently(self.how.far.link.patience, || match share.list(dir) {
            Err(e) if e.kind() == Kind::NotFound => Ok(None),
            listed => listed.map(Some),
        })?;
        if items.is_some() {
            self.sending().dirs.insert(dir.to_owned());
        }
        let named = |item: &remote::Item| Some((unhex(&item.name)?, item.len.unwrap_or(0)));
        Ok(items.unwrap_or_default().iter().filter(|item| !item.is_dir()).filter_map(named).collect())
    }

    /// Whether an object of this length is there, or on its way; it is noted that it is from then on.
    fn note(&self, dir: &str, hash: &Hash, len: u64) -> Result<bool> {
        if !lock(&self.known).contains_key(dir) {
            let listed = self.listed(dir)?.into_iter().collect();
            lock(&self.known).entry(dir.to_owned()).or_insert(listed);
        }
        let mut known = lock(&self.known);
        Ok(known.entry(dir.to_owned()).or_default().insert(*hash, len) == Some(len))
    }

    fn forget(&self, dir: &str, hash: &Hash) {
        if let Some(known) = lock(&self.known).get_mut(dir) {
            known.remove(hash);
        }
    }

    fn make_dir(&self, share: &dyn Share, dir: &str) -> Result<()> {
        if is_flat(&self.address) || self.sending().dirs.contains(dir) {
            return Ok(());
        }
        writes(share, &self.shown())?.make_dir(dir)?;
        self.sending().dirs.insert(dir.to_owned());
        Ok(())
    }

    fn send(&self, [dir, name]: &[String; 2], bytes: &Memory) -> Result<()> {
        let share = self.share()?;
        patiently(self.how.far.link.patience, || {
            self.make_dir(&*share, dir)?;
            let path = format!("{dir}/{name}");
            writes(&*share, &self.shown())?.put(&path, bytes, &Set::default(), &mut |_| Ok(()))
        })
    }

    /// Sends an object, and tells those who wait.
    fn send_one(&self, path: &[String; 2], hash: &Hash, bytes: &Memory) {
        let sent = self.send(path, bytes);
        let mut sending = self.sending();
        sending.on_their_way -= 1;
        if let Err(e) = sent {
            self.forget(&path[0], hash);
            sending.failed.get_or_insert(e);
        }
        drop(sending);
        self.sent.notify_all();
    }

    fn failed(&self) -> Result<()> {
        self.sending().failed.take().map_or(Ok(()), |e| Err(e.within(self.shown())))
    }

    /// Refuses to go on when somebody is there who does not go together with this.
    fn alone_enough(&self, how: Hold, own: &str) -> Result<()> {
        for item in self.share()?.list(LEASES)?.iter().filter(|item| !item.is_dir() && item.name != own) {
            let is_alone = item.name.starts_with("alone-");
            if !is_alone && (how == Hold::Shared || !item.name.starts_with("shared-")) {
                continue;
            }
            let place = self.within(&format!("{LEASES}/{}", item.name))?;
            match Lease::holder(&place)? {
                Some(words) => {
                    let hint = format!("again, a bit later; when nobody does any more, remove {}", place.shown());
                    return Err(Error::new(Kind::Locked, format!("the store {}: {words}", self.shown())).hint(hint));
                }
                None => place.remove().unwrap_or_else(|e| log::info!("{}: {e}", place.shown())),
            }
        }
        Ok(())
    }
}

impl Objects for FarObjects {
    fn uid(&self) -> [u8; 16] {
        self.0.uid
    }

    fn place(&self) -> String {
        self.0.shown()
    }

    fn get(&self, drawer: Drawer, hash: &Hash, most: u64) -> Result<Option<Vec<u8>>> {
        let [dir, name] = drawer.path(hash);
        self.0.get(&[&dir, &name], most)
    }

    fn has(&self, drawer: Drawer, hash: &Hash) -> Result<bool> {
        let [dir, name] = drawer.path(hash);
        Ok(self.0.get(&[&dir, &name], u64::MAX)?.is_some())
    }

    fn put(&self, drawer: Drawer, hash: &Hash, bytes: &[u8]) -> Result<bool> {
        self.0.failed()?;
        let path = drawer.path(hash);
        if self.0.note(&path[0], hash, bytes.len() as u64)? {
            return Ok(false);
        }
        self.0.sending().on_their_way += 1;
        let job = Arc::new((path, *hash, Memory::new(bytes.to_vec())));
        let (inner, sent) = (self.0.clone(), job.clone());
        let is_taken = self.0.senders.push(move || inner.send_one(&sent.0, &sent.1, &sent.2));
        if !is_taken {
            // All of them have enough to do.
            self.0.send_one(&job.0, &job.1, &job.2);
        }
        self.0.failed().map(|()| true)
    }

    fn sync(&self) -> Result<()> {
        let mut sending = self.0.sending();
        while sending.on_their_way > 0 {
            sending = self.0.sent.wait(sending).unwrap_or_else(PoisonError::into_inner);
        }
        drop(sending);
        self.0.failed()
    }

    fn list(&self, drawer: Drawer, visit: &mut dyn FnMut(Hash, u64) -> Result<()>) -> Result<()> {
        let dirs = match drawer {
            Drawer::Catalogs => vec!["catalogs".to_owned()],
            Drawer::Segments => {
                let there = self.0.share()?.list("").within(|| self.place())?;
                there.into_iter().filter(|item| item.is_dir()).map(|item| item.name).collect()
            }
        };
        for dir in dirs.iter().filter(|dir| drawer == Drawer::Catalogs || unhex::<1>(dir).is_some()) {
            self.0.listed(dir)?.into_iter().try_for_each(|(hash, len)| visit(hash, len))?;
        }
        Ok(())
    }

    fn remove(&self, drawer: Drawer, hash: &Hash) -> Result<()> {
        let [dir, name] = drawer.path(hash);
        let share = self.0.share()?;
        self.0.forget(&dir, hash);
        let path = format!("{dir}/{name}");
        patiently(self.0.how.far.link.patience, || writes(&*share, &self.place())?.remove(&path))
    }

    fn hold(&self, how: Hold) -> Result<Guard> {
        let share = self.0.share()?;
        self.0.make_dir(&*share, LEASES)?;
        let name = match how {
            Hold::Shared => format!("shared-{}", hex(&random::<8>()?)),
            Hold::Alone => format!("alone-{}", hex(&random::<8>()?)),
        };
        // Of two who come at once each sees the other one.
        let lease = Lease::take(self.0.within(&format!("{LEASES}/{name}"))?)?;
        self.0.alone_enough(how, &name)?;
        Ok(Box::new(lease))
    }
}
