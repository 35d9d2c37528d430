//! A connection to a server of ssh, and the channel in it over which files are read and written.
//!
//! ```text
//!   place ─► TCP ─► keys are exchanged: is it who it was? (known_hosts) ─► who are you? (ssh_login) ─► sftp
//!
//!   one connection for all that is asked of one server; one that breaks, or does not answer in time, is made anew
//! ```

use super::{
    Asked, Fault, Fetched, HostConfig, HostKey, KnownHost, Link, Login, Sftp, Verdict, Way, late, let_in, never, shown,
    soon, status, system, wait_for,
};
use crate::error::{Error, Kind, Result};
use crate::key::{Keys, NoKeys, Secret};
use crate::pool::lock;
use crate::source::{Again, Failure};
use futures_util::future::{Either, select};
use russh::client::{self, Handle};
use russh::keys::{PublicKey, PublicKeyOrCertificate};
use std::collections::HashSet;
use std::future::{Future, poll_fn};
use std::net::Shutdown;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, Weak};
use std::task::Poll;
use std::time::{Duration, Instant};
use url::Url;

/// The longest connecting.
const CONNECTING: Duration = Duration::from_secs(10);

/// After so long without a word a server is asked whether it is still there; after three times it is not.
const ALIVE: Duration = Duration::from_secs(20);

/// Bytes that may be on their way to us: of a link with 100 ms and 1 Gbit/s, 12 MiB.
const WINDOW: u32 = 16 << 20;

/// Bytes of a packet: what the protocol asks everybody to take, and as much as others take.
const PACKET: u32 = 32 << 10;

/// Packets that wait to be taken out of the channel.
const PACKETS: usize = 512;

/// Where a server is, and who we are to it.
#[derive(Clone)]
pub struct Place {
    pub host: String,
    pub port: u16,
    pub user: String,
    pub password: Option<Secret>,
    pub config: HostConfig,
    /// For messages.
    pub shown: String,
}

impl Place {
    /// The server of an address, and the address without what is secret.
    pub fn of(text: &str) -> Result<(Self, Url)> {
        let shown = shown(text);
        let wrong = |what: &str| Error::new(Kind::Usage, format!("{shown}: {what}"));
        let mut url = Url::parse(text).map_err(|e| wrong(&e.to_string()))?;
        let user = Some(url.username().to_owned()).filter(|user| !user.is_empty());
        let login = Login::of(&mut url);
        // Who asks is part of the address: what is beside it is asked for by the same user.
        let _ = url.set_username(user.as_deref().unwrap_or_default());
        let named = url.host_str().unwrap_or_default().trim_matches(['[', ']']).to_ascii_lowercase();
        let config = HostConfig::of(&named);
        let host = config.host.as_ref().map_or(&named, |host| host).to_ascii_lowercase();
        // It is written into a file whose lines are of words.
        let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':');
        if host.is_empty() || !host.chars().all(is_plain) {
            return Err(wrong("it names no host"));
        }
        let (user, password) = login.map_or((None, None), |login| (Some(login.user), login.password));
        let user = user.filter(|user| !user.is_empty()).or_else(|| config.user.clone()).or_else(own_name);
        let user = user.ok_or_else(|| wrong("it names no user"))?;
        let port = url.port().or(config.port).unwrap_or(22);
        Ok((Self { host, port, user, password, config, shown }, url))
    }

    fn is_same(&self, other: &Self) -> bool {
        let secret = |place: &Self| place.password.as_ref().map(|secret| secret.expose().to_vec());
        (&self.host, self.port, &self.user) == (&other.host, other.port, &other.user) && secret(self) == secret(other)
    }
}

/// The name of who runs this.
fn own_name() -> Option<String> {
    let of = |name| std::env::var(name).ok().filter(|name: &String| !name.is_empty());
    let told = || nix::unistd::User::from_uid(nix::unistd::getuid()).ok().flatten().map(|user| user.name);
    of("USER").or_else(|| of("LOGNAME")).or_else(told)
}

/// A server.
pub struct Ssh {
    pub place: Place,
    pub link: Link,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    session: Option<Arc<Session>>,
    /// Why there was none when that was tried last, for those that waited meanwhile.
    failed: Option<(Instant, Kind, String, Option<String>)>,
    /// How this user was let in.
    ways: Vec<Way>,
}

/// A connection.
pub struct Session {
    pub sftp: Sftp,
    /// What the server knows besides the protocol.
    knows: HashSet<String>,
    handle: Handle<Client>,
    _line: Line,
}

impl Session {
    pub fn knows(&self, extension: &str) -> bool {
        self.knows.contains(extension)
    }
}

/// The socket of a connection, which is shut when nobody needs it: whoever still waits for it goes on.
struct Line(std::net::TcpStream);

impl Drop for Line {
    fn drop(&mut self) {
        let _ = self.0.shutdown(Shutdown::Both);
    }
}

impl Ssh {
    /// One for all that is asked of the same server by the same user.
    pub fn of(place: Place, link: &Link) -> Arc<Self> {
        static SERVERS: Mutex<Vec<Weak<Ssh>>> = Mutex::new(Vec::new());
        let mut servers = lock(&SERVERS);
        servers.retain(|server| server.strong_count() > 0);
        let is_same = |server: &Arc<Self>| server.place.is_same(&place) && server.link == *link;
        if let Some(server) = servers.iter().filter_map(Weak::upgrade).find(is_same) {
            return server;
        }
        let server = Arc::new(Self { place, link: link.clone(), state: Mutex::default() });
        servers.push(Arc::downgrade(&server));
        server
    }

    /// The connection, made where there is none; and whether it was made just now. Who waited `since` while another tried in
    /// vain does not try once more.
    pub fn session(&self, keys: &dyn Keys, since: Instant) -> Fetched<(Arc<Session>, bool)> {
        let mut state = lock(&self.state);
        if let Some(session) = state.session.as_ref().filter(|session| !session.handle.is_closed()) {
            return Ok((session.clone(), false));
        }
        if let Some((_, kind, what, hint)) = state.failed.as_ref().filter(|(at, ..)| *at > since) {
            let error = Error::new(*kind, what.clone());
            let error = hint.iter().fold(error, |e, hint| e.hint(hint.clone()));
            return Err(Failure { error, again: Again::Soon });
        }
        match self.connect(keys, &mut state.ways) {
            Ok(session) => {
                let session = Arc::new(session);
                (state.session, state.failed) = (Some(session.clone()), None);
                Ok((session, true))
            }
            Err(failure) => {
                let error = &failure.error;
                let hint = error.advice().map(str::to_owned);
                (state.session, state.failed) = (None, Some((Instant::now(), error.kind(), error.to_string(), hint)));
                Err(failure)
            }
        }
    }

    /// A connection that did not answer is not used again.
    pub fn forget(&self, session: &Arc<Session>) {
        let mut state = lock(&self.state);
        if state.session.as_ref().is_some_and(|known| Arc::ptr_eq(known, session)) {
            state.session = None;
        }
    }

    /// Waits for an answer, and no longer than one is willing to. When nothing at all comes, the server is asked whether it is
    /// there: however busy it is with files, that it answers, unless the connection leads nowhere any more.
    pub fn wait<T>(&self, session: &Session, work: impl Future<Output = Asked<T>>) -> Fetched<T> {
        self.wait_until(Instant::now() + self.link.patience, session, work)
    }

    fn wait_until<T>(&self, until: Instant, session: &Session, work: impl Future<Output = Asked<T>>) -> Fetched<T> {
        let quiet = self.link.patience / 6;
        let answered = wait_for(async {
            let mut work = pin!(work);
            loop {
                let left = until.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    return Err(late());
                }
                if let Ok(done) = tokio::time::timeout(left.min(quiet), &mut work).await {
                    return done.map_err(refused);
                }
                let asked = Instant::now();
                let pong = pin!(tokio::time::timeout(quiet, session.handle.send_ping()));
                match select(&mut work, pong).await {
                    Either::Left((done, _)) => return done.map_err(refused),
                    Either::Right((Err(_), _)) if session.sftp.heard() < Some(asked) => {
                        return Err(soon(Kind::Unreachable, "nothing comes over the connection any more"));
                    }
                    Either::Right(_) => {}
                }
            }
        });
        answered.map_err(system)?
    }

    /// Asks for something, once more over a new connection where the old one turns out to be broken. `work` is told whether it
    /// is asked again: the first time it may have been done.
    pub fn ask<T>(&self, work: impl AsyncFn(&Session, bool) -> Asked<T>) -> Fetched<T> {
        let since = Instant::now();
        let mut is_again = false;
        loop {
            let (session, is_new) = self.session(&NoKeys, since)?;
            // Some time is left for it, however long it took to connect.
            let until = (since + self.link.patience).max(Instant::now() + self.link.patience / 3);
            match self.wait_until(until, &session, work(&session, is_again)) {
                Err(failure) if is_broken(&failure) => {
                    self.forget(&session);
                    if is_new || is_again || failure.error.kind() == Kind::TimedOut {
                        return Err(failure);
                    }
                    is_again = true;
                }
                done => return done,
            }
        }
    }

    fn connect(&self, keys: &dyn Keys, ways: &mut Vec<Way>) -> Fetched<Session> {
        if self.link.proxy.is_some() {
            return Err(never(Kind::Unsupported, "what is asked for by ssh goes through no proxy"));
        }
        let until = Instant::now() + self.link.patience;
        let left = || until.saturating_duration_since(Instant::now()).max(self.link.patience / 6);
        let known = KnownHost::of(&self.place.host, self.place.port);
        let judged = Arc::new(Mutex::new(None));
        let client = Client { known: known.clone(), wish: self.link.hostkey.clone(), judged: judged.clone() };
        let connected = wait_for(async { tokio::time::timeout(left(), self.greet(&known, client)).await });
        let judged = lock(&judged).take();
        if let Some((verdict, key)) = judged.as_ref().filter(|(verdict, _)| !verdict.is_good()) {
            return Err(Failure { error: known.refusal(*verdict, key), again: Again::Never });
        }
        let (mut handle, line) = connected.map_err(system)?.map_err(|_| late())??;
        if let Some((Verdict::Learnt, key)) = &judged {
            known.learn(key).map_err(|error| Failure { error, again: Again::Never })?;
        }
        let_in(&mut handle, &self.place, left(), keys, ways)?;
        let started = wait_for(async { tokio::time::timeout(left(), start(&handle)).await });
        let (sftp, knows) = started.map_err(system)?.map_err(|_| late())??;
        Ok(Session { sftp, knows, handle, _line: line })
    }

    /// Up to where the server has shown its key.
    async fn greet(&self, known: &KnownHost, client: Client) -> Fetched<(Handle<Client>, Line)> {
        let place = &self.place;
        let unreachable = |what: String| {
            let mut failure = soon(Kind::Unreachable, format!("the server cannot be reached: {what}"));
            if place.config.is_behind_another() {
                let hint = "~/.ssh/config says how to get there over another host (ProxyJump), which is not done here";
                failure.error = failure.error.hint(hint);
            }
            failure
        };
        let connecting = tokio::net::TcpStream::connect((place.host.as_str(), place.port));
        let connected = tokio::time::timeout(self.link.patience.min(CONNECTING), connecting).await;
        let stream = connected.map_err(|_| unreachable("it does not answer".into()))?;
        let stream = stream.map_err(|e| unreachable(e.to_string()))?;
        let _ = stream.set_nodelay(true);
        let stream = stream.into_std().map_err(system)?;
        let line = Line(stream.try_clone().map_err(system)?);
        let stream = tokio::net::TcpStream::from_std(stream).map_err(system)?;
        let preferred =
            russh::Preferred { key: known.kinds().into(), cipher: ciphers().into(), ..russh::Preferred::DEFAULT };
        let config = client::Config {
            window_size: WINDOW,
            maximum_packet_size: PACKET,
            channel_buffer_size: PACKETS,
            keepalive_interval: Some(ALIVE),
            preferred,
            ..client::Config::default()
        };
        let greeted = client::connect_stream(Arc::new(config), stream, client).await;
        Ok((greeted.map_err(|e| unreachable(words(&e.to_string())))?, line))
    }
}

/// The ciphers, the fastest first: a processor that knows AES is faster with it, at both ends.
fn ciphers() -> Vec<russh::cipher::Name> {
    #[cfg(target_arch = "x86_64")]
    let knows_aes = std::arch::is_x86_feature_detected!("aes") && std::arch::is_x86_feature_detected!("pclmulqdq");
    #[cfg(target_arch = "aarch64")]
    let knows_aes = std::arch::is_aarch64_feature_detected!("aes") && std::arch::is_aarch64_feature_detected!("pmull");
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let knows_aes = false;
    let mut all = russh::Preferred::DEFAULT.cipher.to_vec();
    if knows_aes {
        all.sort_by_key(|name| *name != russh::cipher::AES_256_GCM);
    }
    all
}

const NO_FILES: &str = "the server lets this user in, but knows no sftp";

/// The files of a server that has let this user in.
async fn start(handle: &Handle<Client>) -> Fetched<(Sftp, HashSet<String>)> {
    let broke = |e: russh::Error| soon(Kind::Unreachable, format!("the connection broke: {}", words(&e.to_string())));
    let mut channel = handle.channel_open_session().await.map_err(broke)?;
    channel.request_subsystem(true, "sftp").await.map_err(broke)?;
    loop {
        match channel.wait().await {
            Some(russh::ChannelMsg::Success) => break,
            Some(russh::ChannelMsg::Failure) => return Err(never(Kind::Unsupported, NO_FILES)),
            Some(_) => {}
            None => return Err(soon(Kind::Unreachable, "the connection was cut")),
        }
    }
    match Sftp::start(channel).await {
        // If it is the line that broke, nothing else goes over it either.
        Err(Fault::Broken) if handle.channel_open_session().await.is_err() => Err(refused(Fault::Broken)),
        Err(_) => Err(never(Kind::Unsupported, NO_FILES)),
        Ok(started) => Ok(started),
    }
}

/// What is answered to a server while keys are exchanged.
pub struct Client {
    known: KnownHost,
    wish: HostKey,
    judged: Arc<Mutex<Option<(Verdict, PublicKey)>>>,
}

impl client::Handler for Client {
    type Error = russh::Error;

    async fn check_server_key(&mut self, key: &PublicKeyOrCertificate) -> std::result::Result<bool, Self::Error> {
        let PublicKeyOrCertificate::PublicKey { key, .. } = key else { return Ok(false) };
        let verdict = self.known.judge(key, &self.wish);
        *lock(&self.judged) = Some((verdict, key.clone()));
        // Keys are exchanged again now and then, and it is still the same server.
        self.wish = HostKey::Only(super::fingerprint(key));
        Ok(verdict.is_good())
    }
}

/// Whether there is no connection any more, or none that answers.
pub fn is_broken(failure: &Failure) -> bool {
    failure.error.is_of_link()
}

/// What an answer means that is none of those that were asked for.
pub fn refused(fault: Fault) -> Failure {
    let (code, told) = match fault {
        Fault::Status(code, told) => (code, told),
        Fault::Broken => return soon(Kind::Unreachable, "the connection was cut"),
        Fault::Odd => return never(Kind::Io, "the server answers something else than was asked"),
        Fault::Long => return never(Kind::Limit, "the server tells more than anybody can use"),
    };
    match code {
        status::NO_SUCH_FILE => never(Kind::NotFound, "the server has no such file"),
        status::PERMISSION_DENIED => never(Kind::Denied, "the server does not let this user do that"),
        status::UNSUPPORTED => never(Kind::Unsupported, "the server does not know how to do that"),
        code if status::CONNECTION.contains(&code) => soon(Kind::Unreachable, "the connection was cut"),
        _ => never(Kind::Io, format!("the server could not do it: {told}")),
    }
}

/// What a server says, of which nothing reaches a terminal but letters.
fn words(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(200).collect()
}

/// A request that is on its way.
pub enum Sent<'a, T> {
    Done(T),
    Waiting(Pin<Box<dyn Future<Output = T> + 'a>>),
}

/// Sends a request, whose answer is waited for later. What is sent first is answered first.
pub async fn send<'a, T>(work: impl Future<Output = T> + 'a) -> Sent<'a, T> {
    let mut work: Pin<Box<dyn Future<Output = T> + 'a>> = Box::pin(work);
    match poll_fn(|context| Poll::Ready(work.as_mut().poll(context))).await {
        Poll::Ready(done) => Sent::Done(done),
        Poll::Pending => Sent::Waiting(work),
    }
}

impl<T> Sent<'_, T> {
    pub async fn answer(self) -> T {
        match self {
            Self::Done(done) => done,
            Self::Waiting(work) => work.await,
        }
    }
}
