//! Files of a server of ssh, read by ranges.
//!
//! ```text
//!   open     STAT, OPEN ─► how long it is and when it was changed, which is its version
//!   fetch    READ READ … FSTAT │ READ READ … FSTAT │ …   all on their way at once; what was read counts when the FSTAT behind
//!                                                       it says that it is still this version
//!   list     OPENDIR, READDIR …, many at once
//!   look     LSTAT
//! ```

use super::{
    Asked, Attrs, Entry, Fault, Fetched, Item, Link, Object, Place, Sent, Session, Share, Ssh, Writes, flag, go_down,
    is_broken, never, send, shown, system, wait_for,
};
use crate::error::{Error, Kind, Result, Within};
use crate::key::{Keys, NoKeys};
use crate::pool::lock;
use crate::source::{Far, Go};
use crate::tree::{Kind as NodeKind, Time};
use percent_encoding::percent_decode_str;
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::time::Instant;
use url::Url;

/// Bytes of one READ: what every server answers at once.
const PIECE: u32 = 32 << 10;

/// The least that a server may answer before it is asked for the rest piece by piece.
const LEAST_PIECE: u32 = 512;

/// READs with one FSTAT behind them.
const READS: usize = 8;

/// So many of these are on their way for one range: 2 MiB.
const BATCHES: usize = 8;

/// READDIRs on their way.
const LISTS: usize = 8;

/// Entries of a directory; more are an error.
const ENTRIES: usize = 2_000_000;

/// A file that was changed so short a time ago may be changed again in the same second, and nobody could tell.
const SETTLED: i64 = 2;

/// The bits of a mode that say what it is.
const TYPE: u32 = 0o170_000;

pub fn open(text: &str, link: &Link, keys: &dyn Keys) -> Result<Object> {
    let (ssh, url) = server(text, link, keys)?;
    object(ssh, path_of(&url)?).map_err(|failure| failure.error.within(shown(text)))
}

pub fn share(text: &str, link: &Link, keys: &dyn Keys) -> Result<Box<dyn Share>> {
    let (ssh, url) = server(text, link, keys)?;
    let root = path_of(&url)?;
    let attrs = ssh.ask(async |session, _| session.sftp.stat(&root).await);
    let attrs = attrs.map_err(|failure| failure.error.within(shown(text)))?;
    match kind_of(&attrs) {
        Some(NodeKind::Directory) | None => Ok(Box::new(SftpShare { ssh, root, url })),
        Some(_) => Err(Error::new(Kind::NotADirectory, format!("{}: it is no directory", shown(text)))),
    }
}

/// The server of an address, which has let this user in.
fn server(text: &str, link: &Link, keys: &dyn Keys) -> Result<(Arc<Ssh>, Url)> {
    let (place, url) = Place::of(text)?;
    let ssh = Ssh::of(place, link);
    let session = ssh.session(keys, Instant::now());
    session.map_err(|failure| failure.error.within(shown(text)))?;
    Ok((ssh, url))
}

/// The path of an address: below the root, or behind `/~/` below the home directory.
fn path_of(url: &Url) -> Result<String> {
    let wrong = || Error::new(Kind::Usage, format!("{}: it is no path", shown(url.as_str())));
    let mut parts = Vec::new();
    for part in url.path().split('/').filter(|part| !part.is_empty()) {
        let part = percent_decode_str(part).decode_utf8().map_err(|_| wrong())?;
        if part == "." || part == ".." || part.contains(['/', '\0']) {
            return Err(wrong());
        }
        parts.push(part);
    }
    Ok(match parts.split_first() {
        Some((first, [])) if first == "~" => ".".to_owned(),
        Some((first, rest)) if first == "~" => rest.join("/"),
        _ => format!("/{}", parts.join("/")),
    })
}

/// A path below a folder. Nothing leads out of it.
pub(super) fn checked(root: &str, path: &str) -> Fetched<String> {
    let is_bad = |part: &str| part.is_empty() || part == "." || part == ".." || part.contains('\0');
    match path {
        "" => Ok(root.to_owned()),
        path if path.split('/').any(is_bad) => Err(never(Kind::Invalid, "it is no path of an entry")),
        path if root == "." => Ok(path.to_owned()),
        path => Ok(format!("{}/{path}", root.trim_end_matches('/'))),
    }
}

fn kind_of(attrs: &Attrs) -> Option<NodeKind> {
    match attrs.mode? & TYPE {
        0o100_000 => Some(NodeKind::File),
        0o040_000 => Some(NodeKind::Directory),
        0o120_000 => Some(NodeKind::Symlink),
        _ => None,
    }
}

/// An entry, where it is of a kind that is shown.
fn item(name: &str, attrs: &Attrs) -> Option<Item> {
    let kind = kind_of(attrs)?;
    let len = attrs.size.filter(|_| kind != NodeKind::Directory);
    let modified = attrs.modified.map(|secs| Time { secs: secs.into(), nanos: 0 });
    let mode = attrs.mode.map(|mode| mode & 0o7777);
    Some(Item { len, modified, mode, owner: attrs.owner, ..Item::new(name, kind) })
}

/// A time as the protocol tells it: whole seconds from 1970 to 2106.
pub(super) fn of_time(time: Time) -> Option<u32> {
    u32::try_from(time.secs).ok()
}

/// What a server tells of a version of a file.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Version {
    len: u64,
    modified: Option<u32>,
}

impl Version {
    fn of(attrs: &Attrs) -> Option<Self> {
        Some(Self { len: attrs.size?, modified: attrs.modified })
    }

    /// Where it tells versions apart.
    fn stamp(self) -> Option<String> {
        let modified = self.modified?;
        let is_settled = Time::now().secs.saturating_sub(modified.into()) >= SETTLED;
        is_settled.then(|| format!("{modified} {}", self.len))
    }
}

/// A file whose version is known.
struct SftpObject {
    ssh: Arc<Ssh>,
    path: String,
    version: Version,
    opened: Mutex<Option<Arc<Opened>>>,
}

/// A file that is open at the server.
struct Opened {
    session: Arc<Session>,
    handle: Vec<u8>,
}

impl Drop for Opened {
    fn drop(&mut self) {
        let _ = wait_for(async { drop(send(self.session.sftp.close(&self.handle)).await) });
    }
}

fn object(ssh: Arc<Ssh>, path: String) -> Fetched<Object> {
    let attrs = ssh.ask(async |session, _| session.sftp.stat(&path).await)?;
    let is_dir = match kind_of(&attrs) {
        Some(kind) => kind == NodeKind::Directory,
        None if attrs.mode.is_some_and(|mode| mode & TYPE != 0) => {
            return Err(never(Kind::Unsupported, "it is neither a file nor a directory"));
        }
        None => false,
    };
    let version = match Version::of(&attrs) {
        _ if is_dir => Version { len: 0, modified: attrs.modified },
        Some(version) => version,
        None => return Err(never(Kind::Unsupported, "the server does not tell its length")),
    };
    let modified = version.modified.map(|secs| Time { secs: secs.into(), nanos: 0 });
    let mut notes = Vec::new();
    if modified.is_none() {
        notes.push("the server does not tell when it was changed: a change while it is open may go unseen".to_owned());
    }
    let far = SftpObject { ssh, path, version, opened: Mutex::default() };
    if !is_dir {
        // Who may not read it is told so now.
        far.opened(Instant::now()).map_err(|failure| match failure.error.kind() {
            Kind::Changed => never(Kind::NotFound, "the server has no such file"),
            _ => failure,
        })?;
    }
    Ok(Object {
        stamp: version.stamp().filter(|_| !is_dir),
        modified,
        notes,
        leads_to_directory: is_dir,
        ..Object::new(Arc::new(far), version.len)
    })
}

impl SftpObject {
    /// The file, opened where it is not; and whether the connection was made just now.
    fn opened(&self, since: Instant) -> Fetched<(Arc<Opened>, bool)> {
        if let Some(opened) = &*lock(&self.opened) {
            return Ok((opened.clone(), false));
        }
        let (session, is_new) = self.ssh.session(&NoKeys, since)?;
        let asked = self.ssh.wait(&session, session.sftp.open(&self.path, flag::READ, Attrs::default()));
        let handle = asked.map_err(|failure| {
            if is_broken(&failure) {
                self.ssh.forget(&session);
            }
            match failure.error.kind() {
                Kind::NotFound => never(Kind::Changed, "it is gone from the server"),
                _ => failure,
            }
        })?;
        let opened = Arc::new(Opened { session, handle });
        let kept = lock(&self.opened).get_or_insert_with(|| opened.clone()).clone();
        Ok((kept, is_new))
    }

    fn forget(&self, opened: &Arc<Opened>) {
        self.ssh.forget(&opened.session);
        let mut kept = lock(&self.opened);
        let gone = if kept.as_ref().is_some_and(|kept| Arc::ptr_eq(kept, opened)) { kept.take() } else { None };
        drop(kept);
        drop(gone);
    }

    /// Hands over what comes of a range, and moves its start to where that ends.
    fn flow(&self, from: &Opened, range: &mut Range<u64>, take: &mut dyn FnMut(&[u8]) -> Go) -> Fetched<()> {
        let mut piece = PIECE;
        while range.start < range.end {
            let mut batches: VecDeque<Batch<'_>> = VecDeque::new();
            let mut next = range.start;
            loop {
                while batches.len() < BATCHES && next < range.end {
                    let end = range.end.min(next.saturating_add(u64::from(piece) * READS as u64));
                    batches.push_back(wait_for(Batch::send(from, next..end, piece)).map_err(system)?);
                    next = end;
                }
                let Some(batch) = batches.pop_front() else { return Ok(()) };
                let (pieces, attrs) = self.ssh.wait(&from.session, batch.answer())?;
                if Version::of(&attrs) != Some(self.version) {
                    return Err(never(Kind::Changed, "it was changed on the server while it was open"));
                }
                let mut is_short = false;
                for (bytes, wanted) in pieces {
                    let bytes = &bytes[..bytes.len().min(wanted as usize)];
                    range.start += bytes.len() as u64;
                    if take(bytes) == Go::Away {
                        return Ok(());
                    }
                    if bytes.len() < wanted as usize {
                        // It gives less at once than it is asked for, and is asked for less from now on.
                        piece = piece.min((bytes.len() as u32).max(LEAST_PIECE));
                        is_short = true;
                        break;
                    }
                }
                if is_short {
                    break;
                }
            }
        }
        Ok(())
    }
}

impl Far for SftpObject {
    fn fetch(&self, range: Range<u64>, take: &mut dyn FnMut(&[u8]) -> Go) -> Fetched<()> {
        let (since, mut left, mut is_again) = (Instant::now(), range, false);
        loop {
            let (opened, is_new) = self.opened(since)?;
            match self.flow(&opened, &mut left, take) {
                Err(failure) if is_broken(&failure) => {
                    self.forget(&opened);
                    if is_new || is_again || failure.error.kind() == Kind::TimedOut {
                        return Err(failure);
                    }
                    is_again = true;
                }
                done => return done,
            }
        }
    }
}

/// A few READs, and the FSTAT behind them.
struct Batch<'a> {
    reads: Vec<(Sent<'a, Asked<Vec<u8>>>, u32)>,
    stat: Sent<'a, Asked<Attrs>>,
}

impl<'a> Batch<'a> {
    async fn send(from: &'a Opened, range: Range<u64>, piece: u32) -> Self {
        let (sftp, mut reads, mut at) = (&from.session.sftp, Vec::new(), range.start);
        while at < range.end {
            let len = u64::from(piece).min(range.end - at) as u32;
            reads.push((send(sftp.read(&from.handle, at, len)).await, len));
            at += u64::from(len);
        }
        Self { reads, stat: send(sftp.fstat(&from.handle)).await }
    }

    /// The pieces with the lengths that were asked for, up to the first that is none, and what the file was then.
    async fn answer(self) -> Asked<(Vec<(Vec<u8>, u32)>, Attrs)> {
        let mut pieces = Vec::new();
        let mut is_end = false;
        for (read, wanted) in self.reads {
            let bytes = read.answer().await?;
            is_end = bytes.is_empty();
            if is_end {
                break;
            }
            pieces.push((bytes, wanted));
        }
        let mut attrs = self.stat.answer().await?;
        if is_end {
            // It ends before its end: it is another than it was, whatever is said of it.
            attrs.size = None;
        }
        Ok((pieces, attrs))
    }
}

/// A folder of a server.
pub struct SftpShare {
    pub ssh: Arc<Ssh>,
    pub root: String,
    url: Url,
}

impl SftpShare {
    /// Asks for something of an entry.
    pub fn ask<T>(&self, path: &str, work: impl AsyncFn(&Session, &str, bool) -> Asked<T>) -> Result<T> {
        let asked = checked(&self.root, path)
            .and_then(|full| self.ssh.ask(async |session, is_again| work(session, &full, is_again).await));
        asked.map_err(|failure| failure.error).within(|| shown(self.address(path).as_str()))
    }

    pub fn address(&self, path: &str) -> Url {
        let mut url = self.url.clone();
        go_down(&mut url, path);
        url
    }
}

/// All entries of a directory, but for itself and the one above it.
async fn entries(session: &Session, path: &str) -> Asked<Vec<Entry>> {
    let sftp = &session.sftp;
    let handle = sftp.opendir(path).await?;
    let mut entries = Vec::new();
    let mut asked: VecDeque<Sent<'_, Asked<Vec<Entry>>>> = VecDeque::new();
    let ended = loop {
        while asked.len() < LISTS {
            asked.push_back(send(sftp.readdir(&handle)).await);
        }
        let Some(answer) = asked.pop_front() else { break Ok(()) };
        match answer.answer().await {
            Ok(some) if some.is_empty() => break Ok(()),
            Ok(some) => entries.extend(some.into_iter().filter(|entry| entry.name != b"." && entry.name != b"..")),
            Err(fault) => break Err(fault),
        }
        if entries.len() > ENTRIES {
            break Err(Fault::Long);
        }
    };
    drop(send(sftp.close(&handle)).await);
    ended.map(|()| entries)
}

impl Share for SftpShare {
    fn list(&self, path: &str) -> Result<Vec<Item>> {
        let entries = self.ask(path, async |session, full, _| entries(session, full).await)?;
        let mut items = Vec::with_capacity(entries.len());
        for Entry { name, attrs } in entries {
            match std::str::from_utf8(&name).ok().and_then(|name| item(name, &attrs)) {
                Some(item) => items.push(item),
                None => log::debug!("{path}: {:?} is left out", String::from_utf8_lossy(&name)),
            }
        }
        Ok(items)
    }

    fn look(&self, path: &str) -> Result<Item> {
        let attrs = self.ask(path, async |session, full, _| session.sftp.lstat(full).await)?;
        let name = path.rsplit('/').next().unwrap_or(path);
        item(name, &attrs).ok_or_else(|| {
            Error::new(Kind::Unsupported, format!("{path}: it is neither a file, nor a directory, nor a symbolic link"))
        })
    }

    fn open(&self, path: &str) -> Result<(String, Object)> {
        let address = self.address(path);
        let opened = checked(&self.root, path).and_then(|full| object(self.ssh.clone(), full));
        let opened = opened.map_err(|failure| failure.error).within(|| shown(address.as_str()))?;
        Ok((address.into(), opened))
    }

    fn target(&self, path: &str) -> Result<Vec<u8>> {
        self.ask(path, async |session, full, _| session.sftp.readlink(full).await)
    }

    fn writes(&self) -> Option<&dyn Writes> {
        Some(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> Result<String> {
        path_of(&Url::parse(text).unwrap())
    }

    #[test]
    fn paths_are_below_the_root_or_below_the_home_directory() {
        for (text, is) in [
            ("sftp://h", "/"),
            ("sftp://h/", "/"),
            ("sftp://h/a%20b/c.st", "/a b/c.st"),
            ("sftp://h/a//b/", "/a/b"),
            ("sftp://h/~", "."),
            ("sftp://h/~/", "."),
            ("sftp://h/~/x/y", "x/y"),
            ("sftp://h/~me/x", "/~me/x"),
            ("sftp://h/a/../b", "/b"),
        ] {
            assert_eq!(path(text).unwrap(), is, "{text}");
        }
        for bad in ["sftp://h/a%2F..%2Fb", "sftp://h/%00", "sftp://h/%ff"] {
            assert!(path(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn nothing_leads_out_of_a_folder() {
        assert_eq!(checked("/d", "a/b").unwrap(), "/d/a/b");
        assert_eq!(checked("/", "a").unwrap(), "/a");
        assert_eq!(checked(".", "a").unwrap(), "a");
        assert_eq!(checked("/d", "").unwrap(), "/d");
        for bad in ["..", "a/../b", "/a", "a/", "a//b", ".", "a\0"] {
            assert!(checked("/d", bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_version_that_may_change_within_its_second_is_none() {
        let now = of_time(Time::now()).unwrap();
        assert_eq!(Version { len: 1, modified: Some(now) }.stamp(), None);
        assert_eq!(Version { len: 1, modified: Some(now + 100) }.stamp(), None);
        assert_eq!(Version { len: 1, modified: Some(7) }.stamp().as_deref(), Some("7 1"));
        assert_eq!(Version { len: 1, modified: None }.stamp(), None);
    }
}
