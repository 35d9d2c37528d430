//! WebDAV: how a share is listed and written to.
//!
//! ```text
//!   put    PUT stmount-5f3a….part, X-OC-Mtime ─► HEAD: all of it, and its time? ─► PROPPATCH ─► MOVE, Overwrite: T
//! ```
//!
//! ```text
//!   amend  COPY x.st to the part ─► PUT Content-Range: what is new ─► HEAD, GET: is it that? ─► MOVE, If: x.st is the old one
//!                                                                   or else all of it by PUT
//! ```
//!
//! A file is sent under a name of its own: there are servers that write what comes over what was there, and a line that breaks
//! would leave half of it. To give it its name is one step for the server.

use super::super::{
    Amend, Amended, Fetched, Holds, Item, Rest, Seen, Set, Share, Writes, changed, late, never, part_of, soon, system,
    taken, wait_for,
};
use super::client::builder;
use super::folder::HttpShare;
use super::{failed, refused};
use crate::error::{Error, Kind, Result};
use crate::pool::lock;
use crate::source::{Again, Failure, Go, ReadAt};
use crate::tree::Time;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use reqwest::{Client, Method, RequestBuilder, Response, Url, header};
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::OnceLock;
use std::task::{Context, Poll};
use std::time::{Duration, UNIX_EPOCH};
use tokio::sync::mpsc::{self, Receiver, Sender};

/// What is asked of an entry.
const PROPFIND: &str = r#"<?xml version="1.0"?><propfind xmlns="DAV:"><prop><resourcetype/><getcontentlength/><getlastmodified/></prop></propfind>"#;

/// Bytes that are sent at once, and how many such pieces wait to be sent.
const PIECE: usize = 256 << 10;
const WAITING: usize = 4;

/// Bytes on either side that are looked at where a part begins.
const PROBE: u64 = 64;

/// Tries to take away what was broken off.
const CLEANING: usize = 5;

/// What writing needs, and what was learnt by it.
#[derive(Default)]
pub(super) struct Dav {
    client: OnceLock<Client>,
    /// A file keeps the time that it is given.
    mtime: OnceLock<bool>,
    /// It takes a part of a file.
    parts: OnceLock<bool>,
}

/// What a file takes the place of.
#[derive(Clone, Copy)]
enum Over<'a> {
    Anything,
    Nothing,
    /// What is still as it was seen.
    Only(&'a Seen),
}

impl Dav {
    /// A client for what takes long to be sent: its answer is waited for once all of it has gone. It keeps no connection, as
    /// one that ended meanwhile would be found out only on the way.
    fn client(&self, share: &HttpShare) -> Result<&Client> {
        if let Some(client) = self.client.get() {
            return Ok(client);
        }
        let client = builder(&share.server.link)?.pool_max_idle_per_host(0).build();
        let client = client.map_err(|e| Error::new(Kind::System, "no request can be made").caused_by(e))?;
        Ok(self.client.get_or_init(|| client))
    }
}

fn method(name: &str) -> Method {
    Method::from_bytes(name.as_bytes()).expect("it is a word")
}

/// Makes of a request one for what is in a directory.
pub(super) fn propfind(share: &HttpShare, url: &Url) -> Result<RequestBuilder> {
    Ok(share.server.ask(method("PROPFIND"), url)?.header("Depth", "1").body(PROPFIND))
}

/// The body of a request, as it comes from the thread that reads it.
struct Sent {
    pieces: Receiver<Bytes>,
    left: u64,
}

impl Body for Sent {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<std::result::Result<Frame<Bytes>, Infallible>>> {
        let piece = self.pieces.poll_recv(cx);
        if let Poll::Ready(Some(piece)) = &piece {
            self.left = self.left.saturating_sub(piece.len() as u64);
        }
        piece.map(|piece| piece.map(|piece| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

impl HttpShare {
    /// Makes a request, and takes what is no success for an error.
    fn command(
        &self,
        name: &str,
        url: &Url,
        dress: impl FnOnce(RequestBuilder) -> RequestBuilder,
    ) -> Fetched<Response> {
        let request = self.server.ask(method(name), url).map_err(ours)?;
        let response = self.server.send_once(dress(request))?;
        if response.status().is_success() { Ok(response) } else { Err(unwilling(&response)) }
    }

    fn within<T>(&self, path: &str, done: Fetched<T>) -> Result<T> {
        done.map_err(|failure| failure.error.within(super::shown(self.url(path, false).as_str())))
    }

    /// Whether there is a directory of that name, or anything else; nothing where there is neither.
    fn is_directory(&self, path: &str) -> Result<Option<bool>> {
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
        // What was listed when the share was opened is of then.
        lock(&self.first).take();
        match self.list(parent) {
            Ok(items) => Ok(items.iter().find(|item| item.name == name).map(Item::is_dir)),
            Err(e) if e.kind() == Kind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Sends a file, a few pieces ahead of the line, and waits for the answer.
    fn send_all(
        &self,
        url: &Url,
        (bytes, part): (&dyn ReadAt, Option<String>),
        what: &Set,
        told: &mut dyn FnMut(u64) -> Result<()>,
    ) -> Fetched<u64> {
        let (len, patience) = (bytes.len().map_err(ours)?, self.server.link.patience);
        let (sender, pieces) = mpsc::channel(WAITING);
        let asked = self.server.ask_by(self.dav.client(self).map_err(ours)?, Method::PUT, url).map_err(ours)?;
        let body = reqwest::Body::wrap(Sent { pieces, left: len });
        let mut request =
            asked.header(header::CONTENT_TYPE, "application/octet-stream").header(header::CONTENT_LENGTH, len);
        if let Some(time) = what.modified {
            request = request.header("X-OC-Mtime", time.secs);
        }
        if let Some(part) = part {
            request = request.header(header::CONTENT_RANGE, part);
        }
        let request = request.body(body);
        // It is begun, and not waited for.
        let (answer,) = wait_for(async { (tokio::spawn(request.send()),) }).map_err(system)?;
        let fed = feed(&sender, bytes, patience, told);
        drop(sender);
        if let Err(Some(failure)) = fed {
            answer.abort();
            return Err(failure);
        }
        // Without a failure of our own the answer says why no more was taken.
        let abort = answer.abort_handle();
        let answered = wait_for(async { tokio::time::timeout(patience, answer).await }).map_err(system)?;
        match answered {
            Ok(Ok(Ok(response))) if response.status().is_success() => Ok(len),
            Ok(Ok(Ok(response))) => Err(unwilling(&response)),
            Ok(Ok(Err(e))) => Err(failed(&e)),
            Ok(Err(_)) => Err(never(Kind::Io, "the request was given up")),
            Err(_) => {
                abort.abort();
                Err(late())
            }
        }
    }

    /// Sends it under a name of its own, and gives it the other one when all of it is there.
    fn put_as(
        &self,
        own: &str,
        path: &str,
        bytes: &dyn ReadAt,
        (what, over): (&Set, Over<'_>),
        told: &mut dyn FnMut(u64) -> Result<()>,
    ) -> Result<()> {
        let url = self.url(own, false);
        let len = self.within(path, self.send_all(&url, (bytes, None), what, told))?;
        let look = self.look(own)?;
        if look.len.is_some_and(|there| there != len) {
            let what = format!("{path}: the server has not all of its {len} bytes");
            return Err(Error::new(Kind::Io, what));
        }
        if let Some(time) = what.modified {
            let is_set = is_at(look.modified, time) || self.set_time(own, time)?;
            self.dav.mtime.get_or_init(|| is_set);
        }
        self.name(own, path, over)
    }

    /// Gives what was sent its name.
    fn name(&self, own: &str, path: &str, over: Over<'_>) -> Result<()> {
        let (from, to) = (self.url(own, false), self.url(path, false));
        let only = match over {
            Over::Anything => return self.within(path, self.move_to(&from, &to)),
            Over::Nothing => return self.name_new(path, &from, &to),
            Over::Only(old) => old,
        };
        // What comes between this and the next step is seen only by servers that heed the condition.
        self.is_still(path, only)?;
        let condition = only.stamp.as_ref().filter(|stamp| stamp.starts_with('"'));
        let condition = condition.map(|tag| format!("<{to}> ([{tag}])"));
        let moved = self.command("MOVE", &from, |request| {
            let request = request.header("Destination", to.as_str()).header("Overwrite", "T");
            condition.iter().fold(request, |request, condition| request.header("If", condition))
        });
        match moved {
            Err(failure) if condition.is_some() && failure.error.kind() == Kind::Changed => {
                // Some do not know such a condition, and say that it does not hold.
                self.is_still(path, only)?;
                self.within(path, self.move_to(&from, &to))
            }
            moved => self.within(path, moved.map(drop)),
        }
    }

    fn is_still(&self, path: &str, old: &Seen) -> Result<()> {
        let shown = super::shown(self.url(path, false).as_str());
        old.is_still(&self.open(path)?.1).map_err(|e| e.within(shown))
    }

    fn name_new(&self, path: &str, from: &Url, to: &Url) -> Result<()> {
        let is_there = match self.look(path) {
            Ok(_) => true,
            Err(e) if e.kind() == Kind::NotFound => false,
            Err(e) => return Err(e),
        };
        let moved = match is_there {
            true => Err(never(Kind::Changed, "there is something of this name")),
            false => self
                .command("MOVE", from, |request| request.header("Destination", to.as_str()).header("Overwrite", "F")),
        };
        match moved {
            Err(failure) if failure.error.kind() == Kind::Changed => Err(taken().within(super::shown(to.as_str()))),
            moved => self.within(path, moved.map(drop)),
        }
    }

    /// Makes a copy on the server what the file is going to be, by what is new alone; whether that could be done.
    fn amend_copy(
        &self,
        own: &str,
        path: &str,
        amend: &Amend<'_>,
        told: &mut dyn FnMut(u64) -> Result<()>,
    ) -> Result<bool> {
        let (from, len) = (amend.from, amend.bytes.len()?);
        // What is shorter than it was cannot be told so.
        if from == 0 || len <= from || len < amend.old.len || self.dav.parts.get() == Some(&false) {
            return Ok(false);
        }
        let (url, source) = (self.url(own, false), self.url(path, false));
        let copied = self
            .command("COPY", &source, |request| request.header("Destination", url.as_str()).header("Overwrite", "T"));
        if let Err(failure) = copied {
            log::debug!("{path}: no copy of it is made: {}", failure.error);
            return Ok(false);
        }
        let rest = Rest { bytes: amend.bytes, from };
        let part = format!("bytes {from}-{}/{len}", len - 1);
        let done = match self.send_all(&url, (&rest, Some(part)), &Set::default(), told) {
            Ok(_) => self.is_sound(own, amend, len)?,
            Err(failure) if matches!(failure.error.kind(), Kind::Unreachable | Kind::TimedOut | Kind::Interrupted) => {
                return self.within(path, Err(failure));
            }
            Err(_) => false,
        };
        if !done {
            let _ = self.dav.parts.set(false);
        }
        Ok(done)
    }

    /// Whether the server has put a part where it belongs: nobody says so but the bytes around where it begins and its end.
    fn is_sound(&self, own: &str, amend: &Amend<'_>, len: u64) -> Result<bool> {
        let (_, object) = self.open(own)?;
        if object.len != len {
            return Ok(false);
        }
        for at in [amend.from.saturating_sub(PROBE), len.saturating_sub(PROBE)] {
            let end = (at + 2 * PROBE).min(len);
            let (mut wanted, mut there) = (vec![0; (end - at) as usize], Vec::new());
            amend.bytes.read_exact_at(at, &mut wanted)?;
            let come = object.far.fetch(at..end, &mut |piece| {
                there.extend_from_slice(piece);
                if there.len() < wanted.len() { Go::On } else { Go::Away }
            });
            if come.is_err() || there != wanted {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Takes away what was broken off. A server may begin with it only after it was told so.
    fn clean(&self, own: &str) {
        for _ in 0..CLEANING {
            match self.command("DELETE", &self.url(own, false), |request| request) {
                Ok(_) => break,
                Err(failure) => log::debug!("{own}: {}", failure.error),
            }
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    fn put_over(
        &self,
        path: &str,
        bytes: &dyn ReadAt,
        what: (&Set, Over<'_>),
        told: &mut dyn FnMut(u64) -> Result<()>,
    ) -> Result<()> {
        let own = part(path)?;
        self.put_as(&own, path, bytes, what, told).inspect_err(|_| self.clean(&own))
    }

    fn move_to(&self, from: &Url, to: &Url) -> Fetched<()> {
        self.command("MOVE", from, |request| request.header("Destination", to.as_str()).header("Overwrite", "T"))
            .map(drop)
    }

    /// Whether the server took the time.
    fn set_time(&self, path: &str, time: Time) -> Result<bool> {
        let Ok(secs) = u64::try_from(time.secs) else { return Ok(false) };
        let date = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(secs.min(253_402_300_799)));
        let body = format!(
            r#"<?xml version="1.0"?><propertyupdate xmlns="DAV:"><set><prop><getlastmodified>{date}</getlastmodified></prop></set></propertyupdate>"#
        );
        let done = self.command("PROPPATCH", &self.url(path, false), |request| request.body(body));
        match done {
            // What it says of a property is believed less than what it shows of it.
            Ok(_) => Ok(is_at(self.look(path)?.modified, time)),
            Err(failure) if failure.error.is_of_link() => self.within(path, Err(failure)),
            Err(_) => Ok(false),
        }
    }
}

fn is_at(modified: Option<Time>, time: Time) -> bool {
    modified.is_some_and(|modified| modified.secs == time.secs)
}

fn ours(error: Error) -> Failure {
    Failure { error, again: Again::Never }
}

/// Hands over what is to be sent. `Err(None)` where the other end takes no more of it.
fn feed(
    to: &Sender<Bytes>,
    bytes: &dyn ReadAt,
    patience: Duration,
    told: &mut dyn FnMut(u64) -> Result<()>,
) -> std::result::Result<(), Option<Failure>> {
    let mut at = 0;
    loop {
        let mut piece = vec![0; PIECE];
        let read = bytes.read_at(at, &mut piece).map_err(|e| Some(ours(e)))?;
        if read == 0 {
            return Ok(());
        }
        piece.truncate(read);
        let sent = wait_for(async { tokio::time::timeout(patience, to.send(piece.into())).await });
        match sent.map_err(|e| Some(system(e)))? {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return Err(None),
            Err(_) => return Err(Some(late())),
        }
        at += read as u64;
        told(at).map_err(|e| Some(ours(e)))?;
    }
}

/// What an answer to something that was to change means.
fn unwilling(response: &Response) -> Failure {
    let what = format!("the server says {}", response.status());
    match response.status().as_u16() {
        403 => never(Kind::Denied, what),
        405 | 501 => never(Kind::ReadOnly, what),
        // A directory on the way to it is not there.
        409 => never(Kind::NotFound, what),
        412 => never(Kind::Changed, changed().to_string()),
        413 => never(Kind::TooLarge, what),
        423 => soon(Kind::Busy, what),
        507 => never(Kind::NoSpace, what),
        _ => refused(response),
    }
}

/// What a file is called before all of it is there.
fn part(path: &str) -> Result<String> {
    let name = format!("stmount-{:016x}.part", part_of(path)?);
    Ok(path.rsplit_once('/').map_or_else(|| name.clone(), |(dir, _)| format!("{dir}/{name}")))
}

impl Writes for HttpShare {
    fn holds(&self) -> Holds {
        // A time is known to be kept once one was.
        Holds { mtime: self.dav.mtime.get() == Some(&true), rename: true, ..Holds::default() }
    }

    fn put(&self, path: &str, bytes: &dyn ReadAt, what: &Set, told: &mut dyn FnMut(u64) -> Result<()>) -> Result<()> {
        self.put_over(path, bytes, (what, Over::Anything), told)
    }

    fn create(&self, path: &str, bytes: &dyn ReadAt, told: &mut dyn FnMut(u64) -> Result<()>) -> Result<()> {
        self.put_over(path, bytes, (&Set::default(), Over::Nothing), told)
    }

    fn amend(&self, path: &str, amend: &Amend<'_>, told: &mut dyn FnMut(u64) -> Result<()>) -> Result<Amended> {
        let (own, over, len) = (part(path)?, Over::Only(amend.old), amend.bytes.len()?);
        match self.amend_copy(&own, path, amend, told) {
            Ok(true) => {
                self.name(&own, path, over).inspect_err(|_| self.clean(&own))?;
                Ok(Amended { sent: len.saturating_sub(amend.from), whole: false })
            }
            Ok(false) => {
                self.put_over(path, amend.bytes, (&Set::default(), over), told)?;
                Ok(Amended { sent: len, whole: amend.from > 0 })
            }
            Err(e) => {
                self.clean(&own);
                Err(e)
            }
        }
    }

    fn make_dir(&self, path: &str) -> Result<()> {
        match self.command("MKCOL", &self.url(path, true), |request| request) {
            // Servers say in many ways that the name is taken.
            Err(failure) => match self.is_directory(path)? {
                Some(true) => Ok(()),
                Some(false) => Err(Error::new(Kind::Exists, format!("{path}: a file has the name"))),
                None => self.within(path, Err(failure)),
            },
            made => self.within(path, made.map(drop)),
        }
    }

    fn set(&self, path: &str, what: &Set) -> Result<()> {
        if let Some(time) = what.modified {
            let is_set = self.set_time(path, time)?;
            self.dav.mtime.get_or_init(|| is_set);
        }
        Ok(())
    }

    /// A directory is not taken away so: with it would go all that is in it.
    fn remove(&self, path: &str) -> Result<()> {
        match self.is_directory(path)? {
            None => return Ok(()),
            Some(true) => return Err(Error::new(Kind::IsADirectory, format!("{path}: it is a directory"))),
            Some(false) => {}
        }
        self.within(path, gone(self.command("DELETE", &self.url(path, false), |request| request)))
    }

    fn remove_dir(&self, path: &str) -> Result<()> {
        match self.is_directory(path)? {
            None => return Ok(()),
            Some(false) => return Err(Error::new(Kind::NotADirectory, format!("{path}: it is no directory"))),
            Some(true) => {}
        }
        if !self.list(path)?.is_empty() {
            return Err(Error::new(Kind::NotEmpty, format!("{path}: there is something in it")));
        }
        self.within(path, gone(self.command("DELETE", &self.url(path, true), |request| request)))
    }

    fn rename(&self, from: &str, to: &str) -> Result<()> {
        let is_dir = match self.is_directory(from)? {
            Some(is_dir) => is_dir,
            None => return Err(Error::new(Kind::NotFound, format!("{from}: there is no such entry"))),
        };
        self.within(from, self.move_to(&self.url(from, is_dir), &self.url(to, is_dir)))
    }
}

/// What is not there any more need not be taken away.
fn gone(done: Fetched<Response>) -> Fetched<()> {
    match done {
        Err(failure) if failure.error.kind() == Kind::NotFound => Ok(()),
        done => done.map(drop),
    }
}
