//! Objects of a web server, read by ranges.
//!
//! ```text
//!   open     GET bytes=-262144 ─► 206: the length, the version, and the end, which is where archives keep their index
//!                              ─► 200: it knows no ranges; all of it comes, from its front
//!   list     GET of a directory: a page for people or a list for programs; PROPFIND where it is a WebDAV share
//!   look     HEAD
//!   fetch    GET bytes=a-b, If-Range: the version ─► 206, of just this range of just this version, or it does not count
//! ```

mod client;
mod dav;
mod folder;

use super::{Fetched, Link, Login, Object, deepest, http_date, late, never, shown, soon, system, wait_for};
use crate::error::{Error, Kind, Result};
use crate::key::Keys;
use crate::pool::lock;
use crate::source::{Again, Failure, Far, Go};
pub use client::Lines;
pub use folder::share;
use reqwest::header::{self, HeaderMap, HeaderValue};
use reqwest::{Client, Method, RequestBuilder, Response, StatusCode, Url};
use std::future::Future;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};
use url::Origin;

/// Bytes of the end that come with the first answer.
const END: u64 = 256 << 10;

/// A whole object of so many bytes is taken at once, where its server knows no ranges.
const SMALL: u64 = 4 << 20;

/// The longest listing of a directory.
const LARGEST_PAGE: u64 = 64 << 20;

/// A server, and who we are to it.
struct Server {
    lines: Lines,
    link: Link,
    /// Who is told who we are: nobody to whom he leads.
    origin: Origin,
    login: Mutex<Option<Login>>,
}

/// An object whose version is known.
struct HttpObject {
    server: Arc<Server>,
    /// As it was given.
    url: Url,
    /// Where it was found: what redirects leads elsewhere for some time only.
    found: Mutex<Url>,
    len: u64,
    version: Option<Version>,
    is_forward: bool,
    /// The server takes the version for too new to be told from another, and sends all of it where parts of just this one are
    /// asked for.
    is_new: AtomicBool,
}

/// What a server calls a version of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Version {
    Tag(String),
    Date(String),
}

impl Version {
    /// A weak tag does not say that the bytes are the same.
    fn of(headers: &HeaderMap) -> Option<Self> {
        let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok()).map(str::to_owned);
        let tag = text(header::ETAG).filter(|tag| tag.starts_with('"'));
        tag.map(Self::Tag).or_else(|| text(header::LAST_MODIFIED).map(Self::Date))
    }

    fn text(&self) -> &str {
        match self {
            Self::Tag(text) | Self::Date(text) => text,
        }
    }

    fn header(&self) -> header::HeaderName {
        match self {
            Self::Tag(_) => header::ETAG,
            Self::Date(_) => header::LAST_MODIFIED,
        }
    }

    /// Whether an answer says of which version it is.
    fn is_told(&self, headers: &HeaderMap) -> bool {
        headers.contains_key(self.header())
    }

    /// Whether an answer is of another version. One that says nothing is believed.
    fn differs(&self, headers: &HeaderMap) -> bool {
        headers.get(self.header()).is_some_and(|value| value.as_bytes() != self.text().as_bytes())
    }
}

pub fn open(text: &str, link: &Link, keys: &dyn Keys) -> Result<Object> {
    let shown = shown(text);
    let (server, url) = server(text, link)?;
    let answer = server.first(&url, &format!("bytes=-{END}"), keys, &shown)?;
    Ok(object(server, url, answer))
}

/// The server of an address, and the address without who asks.
fn server(text: &str, link: &Link) -> Result<(Arc<Server>, Url)> {
    let mut url = Url::parse(text).map_err(|e| Error::new(Kind::Usage, format!("{}: {e}", shown(text))))?;
    let login = Mutex::new(Login::of(&mut url));
    Ok((Arc::new(Server { lines: Lines::new(link)?, link: link.clone(), origin: url.origin(), login }), url))
}

impl Server {
    /// A request, with all that says who asks if it goes to the server that was named.
    fn ask(&self, method: Method, url: &Url) -> Result<RequestBuilder> {
        self.ask_by(&self.lines.client(), method, url)
    }

    fn ask_by(&self, client: &Client, method: Method, url: &Url) -> Result<RequestBuilder> {
        let mut request = client.request(method, url.clone()).header(header::ACCEPT_ENCODING, "identity");
        if url.origin() != self.origin {
            return Ok(request);
        }
        if let Some(path) = &self.link.bearer {
            let token = std::fs::read_to_string(path).map(zeroize::Zeroizing::new);
            let token = token.map_err(|e| Error::io(e, format!("cannot read {}", path.display())))?;
            return Ok(request.bearer_auth(token.trim()));
        }
        if let Some(login) = &*lock(&self.login)
            && let Some(password) = &login.password
        {
            request = request.basic_auth(&login.user, Some(String::from_utf8_lossy(password.expose())));
        }
        Ok(request)
    }

    /// Asks for a part, which tells the rest; once more, where it breaks on the way.
    fn first(&self, url: &Url, range: &str, keys: &dyn Keys, shown: &str) -> Result<Answer> {
        let begun = Instant::now();
        match self.first_once(url, range, keys, shown, begun) {
            Err(e) if e.is_of_link() && begun.elapsed() < self.link.patience / 2 => {
                self.first_once(url, range, keys, shown, begun)
            }
            answer => answer,
        }
    }

    fn first_once(&self, url: &Url, range: &str, keys: &dyn Keys, shown: &str, begun: Instant) -> Result<Answer> {
        let with_range = || Ok(self.ask(Method::GET, url)?.header(header::RANGE, range));
        let mut response = self.let_in(with_range, keys, shown)?;
        // It is empty, or shorter than was asked for; some send no part of it as a part.
        let is_none = response.status() == StatusCode::PARTIAL_CONTENT && response.content_length() == Some(0);
        if is_none || response.status() == StatusCode::RANGE_NOT_SATISFIABLE {
            response = self.let_in(|| self.ask(Method::GET, url), keys, shown)?;
        }
        match response.status().is_success() {
            true => self.answer(response, begun).map_err(|failure| failure.error.within(shown)),
            false => Err(refused(&response).error.within(shown)),
        }
    }

    /// Makes a request. Who is not let in is asked for a password.
    fn let_in(&self, ask: impl Fn() -> Result<RequestBuilder>, keys: &dyn Keys, shown: &str) -> Result<Response> {
        let mut wrong = 0;
        loop {
            // A connection that was kept open may be closed just when it is used again, or lead nowhere.
            let response = match self.send(ask()?) {
                Err(failure) if failure.error.is_of_link() => self.send(ask()?),
                sent => sent,
            };
            let response = response.map_err(|failure| failure.error.within(shown))?;
            match response.status() {
                StatusCode::UNAUTHORIZED if self.link.bearer.is_none() => {
                    let given = lock(&self.login).take();
                    wrong += usize::from(given.as_ref().is_some_and(|login| login.password.is_some()));
                    let user = given.map(|login| login.user).unwrap_or_default();
                    let password = keys.next(&format!("{shown}, user {user:?}"), wrong).ok_or_else(|| {
                        Error::new(Kind::NotLetIn, format!("{shown}: the server asks who you are"))
                            .hint("https://USER@HOST/… asks for the password; or a line in ~/.netrc")
                    })?;
                    *lock(&self.login) = Some(Login { user, password: Some(password) });
                }
                _ => return Ok(response),
            }
        }
    }

    /// Sends what may be sent twice.
    fn send(&self, request: RequestBuilder) -> Fetched<Response> {
        self.hear(self.lines.quiet(), async { request.send().await })
    }

    /// Sends what is waited for as long as there is patience: nobody knows whether it was done, if no answer comes.
    fn send_once(&self, request: RequestBuilder) -> Fetched<Response> {
        self.hear(self.link.patience, async { request.send().await })
    }

    /// The next piece of what comes.
    fn piece(&self, response: &mut Response) -> Fetched<Option<bytes::Bytes>> {
        self.hear(self.lines.quiet(), response.chunk())
    }

    fn hear<T>(&self, time: Duration, work: impl Future<Output = reqwest::Result<T>>) -> Fetched<T> {
        let since = Instant::now();
        let heard = wait_for(async { tokio::time::timeout(time, work).await }).map_err(system)?;
        let heard = heard.map_or_else(|_| Err(late()), |heard| heard.map_err(|e| failed(&e)));
        match &heard {
            Err(failure) if failure.error.kind() == Kind::TimedOut => self.lines.are_silent(since),
            _ => self.lines.are_heard(since),
        }
        heard
    }

    /// What comes of a body in the time that one waits, or until there is more than so much; and whether that is all of it.
    /// The time is counted from when all this began, but some is left for the body in any case.
    fn body(&self, response: &mut Response, most: u64, begun: Instant) -> Fetched<(Vec<u8>, bool)> {
        let until = (begun + self.link.patience).max(Instant::now() + self.link.patience / 3);
        let mut bytes = Vec::new();
        while let Some(piece) = self.piece(response)? {
            bytes.extend_from_slice(&piece);
            if bytes.len() as u64 > most || Instant::now() > until {
                return Ok((bytes, false));
            }
        }
        Ok((bytes, true))
    }

    fn answer(&self, mut response: Response, begun: Instant) -> Fetched<Answer> {
        let headers = response.headers().clone();
        encoded(&headers)?;
        let (part, url) = (content_range(&headers), response.url().clone());
        let is_part = response.status() == StatusCode::PARTIAL_CONTENT;
        let (at, len) = match part.filter(|_| is_part) {
            Some((range, Some(len))) if range.end == len || range.start == 0 => (range.start, Some(len)),
            Some(_) => return Err(never(Kind::Io, "the server sends another part than was asked for")),
            None if is_part => return Err(never(Kind::Io, "the server does not say which part it sends")),
            None => (0, response.content_length()),
        };
        // Where ranges are not known, a small object is taken as a whole, and of a large one only the head of the answer.
        let takes = is_part || len.is_none_or(|len| len <= SMALL);
        let most = if is_part { END } else { SMALL };
        let bytes = if takes { self.body(&mut response, most, begun)?.0 } else { Vec::new() };
        let is_whole =
            !is_part && takes && len.is_none_or(|len| bytes.len() as u64 == len) && bytes.len() as u64 <= most;
        if len.is_none() && !is_whole {
            return Err(never(Kind::Unsupported, "the server tells neither its length nor parts of it"));
        }
        let len = len.unwrap_or(bytes.len() as u64);
        if is_part && bytes.len() as u64 > len - at {
            return Err(never(Kind::Io, "the server sends more than it says"));
        }
        Ok(Answer { headers, url, at, len, bytes, is_part, is_whole })
    }
}

/// What the first answer tells.
struct Answer {
    headers: HeaderMap,
    url: Url,
    at: u64,
    len: u64,
    bytes: Vec<u8>,
    is_part: bool,
    /// Up to its end.
    is_whole: bool,
}

fn object(server: Arc<Server>, asked: Url, answer: Answer) -> Object {
    let Answer { headers, url, at, len, bytes, is_part, is_whole } = answer;
    let version = Version::of(&headers);
    let mut notes = Vec::new();
    let is_forward = !is_part && !is_whole && len > 0;
    if is_forward {
        notes.push(
            "the server knows no parts of it: it is fetched from its front, and what is far behind comes late".into(),
        );
    }
    if version.is_none() {
        notes.push(
            "the server does not tell its version: a change while it is open may go unseen, and nothing is kept".into(),
        );
    }
    let modified = headers.get(header::LAST_MODIFIED).and_then(|value| http_date(value.to_str().ok()?));
    let stamp = version.as_ref().map(|version| version.text().to_owned());
    let leads_to_directory = url.path().ends_with('/');
    let far = HttpObject {
        server,
        url: asked,
        found: Mutex::new(url),
        len,
        version,
        is_forward,
        is_new: AtomicBool::new(false),
    };
    let seed = (!bytes.is_empty() && (is_part || is_whole)).then_some((at, bytes));
    Object { stamp, modified, seed, notes, leads_to_directory, ..Object::new(Arc::new(far), len) }
}

impl HttpObject {
    fn ask(&self, range: &Range<u64>) -> Fetched<Response> {
        let url = lock(&self.found).clone();
        let request = self.server.ask(Method::GET, &url).map_err(|error| Failure { error, again: Again::Never })?;
        let mut request = request.header(header::RANGE, format!("bytes={}-{}", range.start, range.end - 1));
        match &self.version {
            Some(Version::Tag(tag)) if !self.is_new.load(Relaxed) => request = request.header(header::IF_RANGE, tag),
            // By the standard a date that is less than a minute ago proves nothing, and all of it would come. What comes
            // tells its date.
            Some(Version::Date(date)) => request = request.header(header::IF_UNMODIFIED_SINCE, date),
            _ => {}
        }
        let response = self.server.send(request)?;
        let may_move = url != self.url && matches!(response.status().as_u16(), 401 | 403 | 404 | 410);
        if may_move {
            // Where it was found it is no more: the address that was given leads to where it is now.
            *lock(&self.found) = self.url.clone();
            return Err(Failure { error: refused(&response).error, again: Again::In(Duration::ZERO) });
        }
        if url == self.url && response.url() != &url {
            *lock(&self.found) = response.url().clone();
        }
        Ok(response)
    }

    /// Where in the object the body begins; only that counts which is of this version.
    fn begins(&self, range: &Range<u64>, response: &Response) -> Fetched<u64> {
        let headers = response.headers();
        let changed = || never(Kind::Changed, "it was changed on the server while it was open");
        match response.status() {
            StatusCode::PARTIAL_CONTENT => {}
            // Of a server that knows ranges, this is how it says that the version is another.
            StatusCode::OK => {
                encoded(headers)?;
                let is_same = self.version.as_ref().is_none_or(|version| !version.differs(headers))
                    && response.content_length().is_none_or(|len| len == self.len);
                return match (is_same, self.is_forward || range.start == 0) {
                    (true, true) => Ok(0),
                    (true, false) => {
                        let what = "the server sends all of it, and not the part that was asked for";
                        let is_first = self.version.is_some() && !self.is_new.swap(true, Relaxed);
                        let again = if is_first { Again::In(Duration::ZERO) } else { Again::Soon };
                        Err(Failure { error: Error::new(Kind::Io, what), again })
                    }
                    (false, _) => Err(changed()),
                };
            }
            StatusCode::RANGE_NOT_SATISFIABLE | StatusCode::PRECONDITION_FAILED => return Err(changed()),
            _ => return Err(refused(response)),
        }
        encoded(headers)?;
        match &self.version {
            Some(version) if version.differs(headers) => return Err(changed()),
            Some(version) if self.is_new.load(Relaxed) && !version.is_told(headers) => {
                return Err(never(Kind::Io, "the server does not say of which version the part is that it sends"));
            }
            _ => {}
        }
        match content_range(headers) {
            Some((_, Some(len))) if len != self.len => Err(changed()),
            Some((part, _)) if part.start == range.start && part.end <= range.end => Ok(range.start),
            _ => Err(soon(Kind::Io, "the server sends another part than was asked for")),
        }
    }
}

impl Far for HttpObject {
    fn fetch(&self, range: Range<u64>, take: &mut dyn FnMut(&[u8]) -> Go) -> Fetched<()> {
        let mut response = self.ask(&range)?;
        let mut at = self.begins(&range, &response)?;
        while let Some(piece) = self.server.piece(&mut response)? {
            let piece = &piece[..piece.len().min((range.end - at) as usize)];
            at += piece.len() as u64;
            if take(piece) == Go::Away || at == range.end {
                break;
            }
        }
        Ok(())
    }

    fn is_forward(&self) -> bool {
        self.is_forward
    }
}

/// `bytes 0-99/1000`: the part, and the length of the whole where it is told.
fn content_range(headers: &HeaderMap) -> Option<(Range<u64>, Option<u64>)> {
    let text = headers.get(header::CONTENT_RANGE)?.to_str().ok()?;
    let (part, len) = text.trim().strip_prefix("bytes")?.trim_start().split_once('/')?;
    let (first, last) = part.split_once('-')?;
    let (first, last) = (first.trim().parse::<u64>().ok()?, last.trim().parse::<u64>().ok()?);
    let len = match len.trim() {
        "*" => None,
        len => Some(len.parse::<u64>().ok()?),
    };
    let end = last.checked_add(1)?;
    (first < end && len.is_none_or(|len| end <= len)).then_some((first..end, len))
}

/// Refuses what is packed for the way: its parts are not those of the object.
fn encoded(headers: &HeaderMap) -> Fetched<()> {
    match headers.get(header::CONTENT_ENCODING) {
        Some(value) if value != "identity" => {
            Err(never(Kind::Unsupported, "the server compresses it though it was asked not to"))
        }
        _ => Ok(()),
    }
}

/// What an answer other than the bytes means.
fn refused(response: &Response) -> Failure {
    let status = response.status();
    let what = format!("the server says {status}");
    match status.as_u16() {
        401 | 403 | 407 => Failure {
            error: Error::new(Kind::NotLetIn, what).hint("a line in ~/.netrc, or -o bearer=FILE"),
            again: Again::Never,
        },
        404 | 410 => never(Kind::NotFound, what),
        429 | 503 => {
            let after = response.headers().get(header::RETRY_AFTER).and_then(|value| waits(value.to_str().ok()?));
            let again = after.map_or(Again::Soon, Again::In);
            Failure { error: Error::new(Kind::Unreachable, what), again }
        }
        408 | 425 | 500 | 502 | 504 => soon(Kind::Unreachable, what),
        _ => never(Kind::Io, what),
    }
}

/// `Retry-After`: seconds, or a date.
fn waits(text: &str) -> Option<Duration> {
    let secs = text.trim().parse::<u64>().ok().map(Duration::from_secs);
    secs.or_else(|| Some(httpdate::parse_http_date(text).ok()?.duration_since(SystemTime::now()).unwrap_or_default()))
}

fn failed(e: &reqwest::Error) -> Failure {
    let why = reason(e);
    if e.is_timeout() {
        return late();
    }
    if e.is_redirect() || e.is_builder() {
        return never(Kind::Io, why);
    }
    let is_tls = why.contains("certificate") || why.contains("CertificateError") || why.contains("UnknownIssuer");
    match e.is_connect() {
        true if is_tls => Failure {
            error: Error::new(Kind::Untrusted, format!("the server is not trusted: {why}"))
                .hint("--ca FILE, or -o ca=FILE: the certificate of who vouches for it"),
            again: Again::Never,
        },
        true => soon(Kind::Unreachable, format!("the server cannot be reached: {why}")),
        false => soon(Kind::Unreachable, format!("the connection broke: {why}")),
    }
}

/// Why a request failed. The error itself names the address, with all its query.
fn reason(e: &reqwest::Error) -> String {
    deepest(e).unwrap_or_else(|| "the request failed".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: header::HeaderName, value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(name, HeaderValue::from_static(value))])
    }

    #[test]
    fn a_content_range_is_of_whole_numbers_in_order() {
        let of = |text| content_range(&headers(header::CONTENT_RANGE, text));
        assert_eq!(of("bytes 0-99/1000"), Some((0..100, Some(1000))));
        assert_eq!(of("bytes 5-5/*"), Some((5..6, None)));
        for bad in [
            "bytes */1000",
            "bytes 9-5/10",
            "bytes 0-10/10",
            "items 0-1/2",
            "bytes 0-18446744073709551615/*",
            "bytes -5-6/7",
            "bytes",
            "",
        ] {
            assert_eq!(of(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_weak_tag_is_no_version() {
        assert_eq!(Version::of(&headers(header::ETAG, "W/\"x\"")), None);
        let tag = Version::of(&headers(header::ETAG, "\"x\"")).unwrap();
        assert!(tag.differs(&headers(header::ETAG, "\"y\"")) && !tag.differs(&headers(header::ETAG, "\"x\"")));
        assert!(!tag.differs(&HeaderMap::new()));
    }
}
