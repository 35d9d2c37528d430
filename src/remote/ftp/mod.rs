//! Objects and folders of a server of FTP.
//!
//! ```text
//!   ftp://me@host/dir/x.7z     in clear; the path begins where `me` is let in, and at the root of the server behind //
//!   ftps://host/…              TLS from the first byte on, port 990
//!   ftpes://host/…             TLS after AUTH TLS, port 21
//!
//!   open     SIZE, MDTM ─► the length, and a version of both
//!   fetch    SIZE, MDTM ─► still that version?   REST, RETR ─► bytes, until there are enough of them; the next range goes on
//!            there
//!   list     MLSD, or LIST where that is not known
//! ```
//!
//! `control` has the commands, `server` the connections, `streams` transfers that go on, `list` the listings, `write` what changes something there.

mod control;
mod list;
mod server;
mod streams;
mod wire;
mod write;

use super::{Fetched, Item, Link, Login, Object, Share, Writes, go_down, never, scheme, shown};
use crate::error::{Error, Kind, Result};
use crate::key::Keys;
use crate::source::{Failure, Far, Go};
use crate::tree::{Kind as NodeKind, Time};
use control::{Control, Security, refused};
use list::Entry;
use server::{Held, Server};
use std::io::{self, Read};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::sync_channel;
use std::time::Instant;
use streams::Running;
use url::Url;

/// The longest listing of a directory.
const LARGEST_LISTING: usize = 64 << 20;

/// Bytes that are taken at once.
const PIECE: usize = 64 << 10;

struct FtpObject {
    server: Arc<Server>,
    path: String,
    facts: Facts,
    is_forward: bool,
    /// By which transfers of it are known.
    number: u64,
}

impl Drop for FtpObject {
    fn drop(&mut self) {
        self.server.is_left(self.number);
    }
}

/// What a server tells of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Facts {
    len: u64,
    /// When it was changed, in the words of the server.
    changed: Option<String>,
}

pub fn open(text: &str, link: &Link, keys: &dyn Keys) -> Result<Object> {
    let (server, _, path) = server(text, link)?;
    let shown = shown(text);
    server.let_in(keys, &shown)?;
    object(&server, &path).map_err(|failure| failure.error.within(&shown))
}

/// Opens a folder.
pub fn share(text: &str, link: &Link, keys: &dyn Keys) -> Result<Box<dyn Share>> {
    let (server, root, path) = server(text, link)?;
    server.let_in(keys, &shown(text))?;
    let base = match path.trim_end_matches('/') {
        "" if !path.is_empty() => "/".to_owned(),
        trimmed => trimmed.to_owned(),
    };
    Ok(Box::new(FtpShare { server, root, base, sets: write::Sets::default() }))
}

/// The server of an address, the address without who asks, and the path in it.
fn server(text: &str, link: &Link) -> Result<(Arc<Server>, Url, String)> {
    let wrong = |why: &str| Error::new(Kind::Usage, format!("{}: {why}", shown(text)));
    let mut url = Url::parse(text).map_err(|e| wrong(&e.to_string()))?;
    let login = Login::of(&mut url);
    let (security, usual) = match scheme(text) {
        Some("ftps") => (Security::Implicit, 990),
        Some("ftpes") => (Security::Explicit, 21),
        _ => (Security::Clear, 21),
    };
    let host = url.host_str().filter(|host| !host.is_empty()).ok_or_else(|| wrong("it names no host"))?;
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let path = url.path().strip_prefix('/').unwrap_or_default();
    let path = path.rsplit_once(";type=").map_or(path, |(path, _)| path);
    let path = percent_encoding::percent_decode_str(path).decode_utf8().map_err(|_| wrong("its path is not UTF-8"))?;
    if path.contains(['\r', '\n', '\0']) {
        return Err(Error::new(Kind::Invalid, format!("{}: a line break in a path", shown(text))));
    }
    let path = path.into_owned();
    url.set_query(None);
    url.set_fragment(None);
    let server = Server::at(host, url.port().unwrap_or(usual), security, login, link)?;
    Ok((server, url, path))
}

fn object(server: &Arc<Server>, path: &str) -> Fetched<Object> {
    let asked = server.with(|control| {
        let told = control.path(path);
        match facts(control, &told) {
            Ok(facts) => Ok(Some((facts, has_rest(control)?))),
            Err(failure) if failure.error.kind() == Kind::NotFound && is_directory(control, &told)? => Ok(None),
            Err(failure) => Err(failure),
        }
    })?;
    let leads_to_directory = asked.is_none();
    let (facts, has_rest) = asked.unwrap_or((Facts { len: 0, changed: None }, true));
    let mut notes = Vec::new();
    if !has_rest {
        notes.push(
            "the server knows no parts of it: it is fetched from its front, and what is far behind comes late".into(),
        );
    }
    if facts.changed.is_none() {
        notes.push(
            "the server does not tell its version: a change while it is open may go unseen, and nothing is kept".into(),
        );
    }
    let stamp = facts.changed.as_ref().map(|changed| format!("{changed} {}", facts.len));
    let (len, modified) = (facts.len, facts.modified());
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Relaxed);
    let far = FtpObject { server: server.clone(), path: path.to_owned(), facts, is_forward: !has_rest, number };
    Ok(Object { stamp, modified, notes, leads_to_directory, ..Object::new(Arc::new(far), len) })
}

impl Facts {
    fn modified(&self) -> Option<Time> {
        self.changed.as_deref().and_then(list::time)
    }
}

/// The length of a file, and when it was changed; by a listing where there are no commands for that.
fn facts(control: &mut Control, path: &str) -> Fetched<Facts> {
    let size = control.ask("SIZE", path)?;
    let len = match size.code {
        213 => size.text().parse().map_err(|_| never(Kind::Io, "the server tells no length"))?,
        _ if size.is_unknown() => return listed(control, path),
        _ => return Err(refused(&size)),
    };
    let time = control.ask("MDTM", path)?;
    let changed = (time.code == 213 && list::time(time.text()).is_some()).then(|| time.text().to_owned());
    Ok(Facts { len, changed })
}

fn listed(control: &mut Control, path: &str) -> Fetched<Facts> {
    let missing = || never(Kind::NotFound, "there is no such file");
    let (dir, name) = path.rsplit_once('/').ok_or_else(missing)?;
    let entries = entries(control, if dir.is_empty() { "/" } else { dir })?;
    let (item, _) = entries.into_iter().find(|(item, _)| item.name == name && !item.is_dir()).ok_or_else(missing)?;
    let len = item.len.ok_or_else(|| never(Kind::Unsupported, "the server does not tell its length"))?;
    Ok(Facts { len, changed: item.modified.map(list::told) })
}

fn has_rest(control: &mut Control) -> Fetched<bool> {
    if control.features.rest {
        return Ok(true);
    }
    Ok(control.ask("REST", "1")?.code == 350 && control.ask("REST", "0")?.code == 350)
}

fn is_directory(control: &mut Control, path: &str) -> Fetched<bool> {
    Ok(control.ask("CWD", path)?.is_done())
}

/// Bytes that are kept while nobody knows yet whether they are of the same version.
const UNSURE: usize = 16 << 20;

impl Far for FtpObject {
    fn fetch(&self, range: Range<u64>, take: &mut dyn FnMut(&[u8]) -> Go) -> Fetched<()> {
        let from = if self.is_forward { 0 } else { range.start };
        let running = self.server.runs(self.number, range.end);
        let (held, data, goes_on) = self.transfer(from)?;
        if !goes_on {
            return self.read((held, data), from..range.end, running, take);
        }
        // What comes is asked for without a pause, and given to nobody before it is known to be of the same version.
        std::thread::scope(|scope| {
            let (told, answer) = sync_channel(1);
            let ask = move || drop(told.send(self.is_still_the_same()));
            let asker = std::thread::Builder::new().name("stmount-ftp".into()).spawn_scoped(scope, ask);
            asker.map_err(|e| never(Kind::System, format!("cannot start a thread: {e}")))?;
            let mut waiting = Some(answer);
            let (mut before, mut said) = (Vec::new(), Ok(()));
            let mut give = |piece: &[u8], is_last: bool| {
                if let Some(answer) = &waiting {
                    let has_enough = is_last || before.len() >= UNSURE;
                    let heard = if has_enough { answer.recv().ok() } else { answer.try_recv().ok() };
                    let Some(heard) = heard else {
                        before.extend_from_slice(piece);
                        return Go::On;
                    };
                    (waiting, said) = (None, heard);
                    if said.is_err() || take(&std::mem::take(&mut before)) == Go::Away {
                        return Go::Away;
                    }
                }
                if piece.is_empty() { Go::On } else { take(piece) }
            };
            let read = self.read((held, data), from..range.end, running, &mut |piece| give(piece, false));
            give(&[], true);
            said.and(read)
        })
    }

    fn is_stream(&self) -> bool {
        true
    }

    fn is_forward(&self) -> bool {
        self.is_forward
    }
}

impl FtpObject {
    /// Takes a stretch from a transfer, and leaves that for whoever goes on there.
    fn read(
        &self,
        (mut held, mut data): (Held<'_>, wire::Pipe),
        range: Range<u64>,
        running: Running<'_>,
        take: &mut dyn FnMut(&[u8]) -> Go,
    ) -> Fetched<()> {
        let (mut at, mut piece) = (range.start, vec![0; PIECE]);
        while at < range.end {
            // So that there is time for another try, over another connection.
            data.until(Instant::now() + self.server.patience() / 3);
            // What is taken behind the end would be missing to who goes on there.
            let most = piece.len().min(usize::try_from(range.end - at).unwrap_or(PIECE));
            let read = match data.read(&mut piece[..most]) {
                Ok(read) => read,
                Err(e) => {
                    held.is_broken = true;
                    if e.kind() == io::ErrorKind::TimedOut {
                        self.server.are_silent();
                    }
                    return Err(wire::failed(&e));
                }
            };
            if read == 0 {
                break;
            }
            at += read as u64;
            if take(&piece[..read]) == Go::Away {
                break;
            }
        }
        if at == range.end && at < self.facts.len && !self.is_forward {
            self.server.park(held, data, (self.number, at));
            // Not before it is there: whoever waits for it finds it.
            drop(running);
        }
        // Else the server sends all the rest; hanging up is how it is told that there is enough of it.
        Ok(())
    }

    /// A transfer from there on. One that goes on was begun when the file was what it was; nobody has asked since.
    fn transfer(&self, from: u64) -> Fetched<(Held<'_>, wire::Pipe, bool)> {
        let until = Instant::now() + self.server.patience() / 3;
        if let Some((held, data)) = self.server.goes_on(self.number, from, until)
            && self.server.has_room()
        {
            return Ok((held, data, true));
        }
        let (held, data) = self.server.with_held(|control| self.begin(control, from))?;
        Ok((held, data, false))
    }

    fn is_still_the_same(&self) -> Fetched<()> {
        let now = self.server.with(|control| {
            let path = control.path(&self.path);
            facts(control, &path)
        })?;
        if now == self.facts { Ok(()) } else { Err(changed()) }
    }

    /// Begins to take it, if it is still what it was.
    fn begin(&self, control: &mut Control, at: u64) -> Fetched<wire::Pipe> {
        let path = control.path(&self.path);
        if facts(control, &path)? != self.facts {
            return Err(changed());
        }
        control.transfer("RETR", &path, at)
    }
}

fn changed() -> Failure {
    never(Kind::Changed, "it was changed on the server while it was open")
}

/// A folder of a server.
struct FtpShare {
    server: Arc<Server>,
    root: Url,
    base: String,
    /// What of an entry can be set.
    sets: write::Sets,
}

impl FtpShare {
    /// The path of an entry, as the server is told it once it is known where one begins.
    fn path(&self, path: &str) -> String {
        match (self.base.as_str(), path) {
            ("", path) => path.to_owned(),
            (base, "") => base.to_owned(),
            (base, path) => format!("{}/{path}", base.trim_end_matches('/')),
        }
    }

    fn shown(&self, path: &str) -> String {
        shown(self.url(path).as_str())
    }

    fn url(&self, path: &str) -> Url {
        let mut url = self.root.clone();
        go_down(&mut url, path);
        url
    }

    fn with<T>(&self, path: &str, work: impl Fn(&mut Control, &str) -> Fetched<T>) -> Result<T> {
        let own = self.path(path);
        let done = self.server.with(|control| {
            let told = control.path(&own);
            work(control, &told)
        });
        done.map_err(|failure| failure.error.within(self.shown(path)))
    }
}

impl Share for FtpShare {
    fn list(&self, path: &str) -> Result<Vec<Item>> {
        let entries = self.with(path, entries)?;
        Ok(entries.into_iter().map(|(item, _)| item).collect())
    }

    fn look(&self, path: &str) -> Result<Item> {
        let name = path.rsplit('/').next().unwrap_or(path);
        self.with(path, |control, told| match facts(control, told) {
            Ok(facts) => {
                Ok(Item { len: Some(facts.len), modified: facts.modified(), ..Item::new(name, NodeKind::File) })
            }
            Err(failure) if failure.error.kind() == Kind::NotFound && is_directory(control, told)? => {
                Ok(Item::new(name, NodeKind::Directory))
            }
            Err(failure) => Err(failure),
        })
    }

    fn open(&self, path: &str) -> Result<(String, Object)> {
        let opened = object(&self.server, &self.path(path));
        let object = opened.map_err(|failure| failure.error.within(self.shown(path)))?;
        Ok((self.url(path).into(), object))
    }

    fn target(&self, path: &str) -> Result<Vec<u8>> {
        let (dir, name) = path.rsplit_once('/').unwrap_or(("", path));
        let entries = self.with(dir, entries)?;
        let target = entries.into_iter().find(|(item, _)| item.name == name).and_then(|(_, target)| target);
        let missing = || Error::new(Kind::Unsupported, format!("{}: where it leads is not told", self.shown(path)));
        target.map(String::into_bytes).ok_or_else(missing)
    }

    fn writes(&self) -> Option<&dyn Writes> {
        Some(self)
    }
}

/// What is in a directory.
fn entries(control: &mut Control, path: &str) -> Fetched<Vec<Entry>> {
    if control.features.mlst {
        return match listing(control, "MLSD", path) {
            // By the standard this is how a server says that it is no directory.
            Err(failure) if failure.error.kind() == Kind::Unsupported && !is_directory(control, path)? => {
                Err(never(Kind::NotFound, failure.error.to_string()))
            }
            text => text.map(|text| list::of_mlsd(&text)),
        };
    }
    // A path in LIST would be cut at its spaces by some, and be an option for others.
    let reply = control.ask("CWD", path)?;
    if !reply.is_done() {
        return Err(refused(&reply));
    }
    let of = |text: &str| list::of_list(text, Time::now());
    match listing(control, "LIST", "-a") {
        Ok(text) if !text.trim().is_empty() => Ok(of(&text)),
        Err(failure) if control.is_broken => Err(failure),
        // It knows no options, and looks for what is called so.
        _ => Ok(of(&listing(control, "LIST", "")?)),
    }
}

fn listing(control: &mut Control, verb: &str, argument: &str) -> Fetched<String> {
    let mut data = control.transfer(verb, argument, 0)?;
    let (mut bytes, mut piece) = (Vec::new(), vec![0; PIECE]);
    loop {
        match data.read(&mut piece) {
            Ok(0) => break,
            Ok(read) => bytes.extend_from_slice(&piece[..read]),
            Err(e) => {
                control.is_broken = true;
                return Err(wire::failed(&e));
            }
        }
        if bytes.len() > LARGEST_LISTING {
            control.is_broken = true;
            return Err(never(Kind::Limit, "its listing is too long"));
        }
    }
    control.finish(data)?;
    // Names of other character sets could not be told in a command again.
    let is_text = |line: &&[u8]| std::str::from_utf8(line).is_ok();
    let (text, other): (Vec<&[u8]>, Vec<&[u8]>) = bytes.split(|byte| *byte == b'\n').partition(is_text);
    if !other.is_empty() {
        log::warn!("{} entries of a directory are left out: their names are not UTF-8", other.len());
    }
    Ok(String::from_utf8_lossy(&text.join(&b'\n')).into_owned())
}
