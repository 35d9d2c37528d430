//! A server of FTP, and the connections to it.
//!
//! A connection does one thing at a time. So there are several, at most as many as the person wishes and as the server lets
//! in; who finds none waits for one, and one that is given back serves the next.

use super::super::{Fetched, Link, Login, late};
use super::control::{Control, Place, Security};
use super::streams::Parked;
use super::wire;
use crate::error::{Error, Kind, Result};
use crate::key::Keys;
use crate::pool::lock;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Condvar, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

/// A connection that nobody used for so long is asked whether it is still one.
const RESTED: Duration = Duration::from_secs(5);

/// How long one that is asked for that may take.
const ALIVE: Duration = Duration::from_secs(2);

pub struct Server {
    place: Arc<Place>,
    link: Link,
    /// Who the address says that asks.
    named: Option<Login>,
    login: Mutex<Option<Login>>,
    pub(super) pool: Mutex<Pool>,
    pub(super) freed: Condvar,
}

pub struct Pool {
    pub idle: Vec<Control>,
    /// In the middle of a transfer that nobody takes now.
    pub parked: Vec<Parked>,
    /// Objects of which a range is being taken, and the ends of those.
    pub running: Vec<(u64, u64)>,
    /// Those that are at work.
    pub out: usize,
    pub most: usize,
    /// Somebody was let in.
    has_worked: bool,
}

/// A connection at work. It goes back when it is dropped, unless it is broken.
pub struct Held<'a> {
    server: &'a Server,
    control: Option<Control>,
    /// It was made for somebody else, and may have ended since.
    was_idle: bool,
}

impl Server {
    /// The server of that place for that person. All that is read of it shares its connections.
    pub fn at(host: String, port: u16, security: Security, login: Option<Login>, link: &Link) -> Result<Arc<Self>> {
        static KNOWN: Mutex<Vec<Weak<Server>>> = Mutex::new(Vec::new());
        let mut known = lock(&KNOWN);
        known.retain(|server| server.strong_count() > 0);
        let same = known.iter().filter_map(Weak::upgrade).find(|server| {
            let place = &server.place;
            (&place.host, place.port, place.security) == (&host, port, security)
                && server.link == *link
                && is_same(server.named.as_ref(), login.as_ref())
        });
        if let Some(server) = same {
            return Ok(server);
        }
        let tls = if security == Security::Clear { None } else { Some(wire::tls(link)?) };
        let pool = Pool {
            idle: Vec::new(),
            parked: Vec::new(),
            running: Vec::new(),
            out: 0,
            most: link.connections.max(1),
            has_worked: false,
        };
        let server = Arc::new(Self {
            place: Arc::new(Place { host, port, security, tls }),
            link: link.clone(),
            named: login.clone(),
            login: Mutex::new(login),
            pool: Mutex::new(pool),
            freed: Condvar::new(),
        });
        known.push(Arc::downgrade(&server));
        Ok(server)
    }

    pub fn patience(&self) -> Duration {
        self.link.patience
    }

    /// Makes sure that one is let in. Who is not is asked for a password.
    pub fn let_in(&self, keys: &dyn Keys, shown: &str) -> Result<()> {
        let mut wrong = 0;
        loop {
            let failure = match self.take(Instant::now() + self.patience()) {
                Ok(_) => return Ok(()),
                Err(failure) => failure,
            };
            let given = lock(&self.login).clone();
            let (Kind::NotLetIn, Some(Login { user, password })) = (failure.error.kind(), given) else {
                return Err(failure.error.within(shown));
            };
            wrong += usize::from(password.is_some());
            let password = keys.next(&format!("{shown}, user {user:?}"), wrong);
            let Some(password) = password else { return Err(failure.error.within(shown)) };
            *lock(&self.login) = Some(Login { user, password: Some(password) });
        }
    }

    /// Does something that may be done twice.
    pub fn with<T>(&self, work: impl Fn(&mut Control) -> Fetched<T>) -> Fetched<T> {
        self.with_held(|control| work(control)).map(|(_, done)| done)
    }

    /// The same, and tells over which connection. One that turns out to have ended, or to lead nowhere, is made anew, once.
    pub fn with_held<T>(&self, work: impl Fn(&mut Control) -> Fetched<T>) -> Fetched<(Held<'_>, T)> {
        let until = Instant::now() + self.patience();
        let mut held = self.take(until)?;
        if held.was_idle {
            // So that there is time for another.
            held.until(until.min(Instant::now() + self.patience() / 3));
        }
        match work(&mut held) {
            Err(failure) if held.has_ended(&failure.error) => {
                drop(held);
                held = self.take_new(until)?;
                let done = work(&mut held)?;
                Ok((held, done))
            }
            Err(failure) => Err(failure),
            Ok(done) => {
                held.until(until);
                Ok((held, done))
            }
        }
    }

    /// A connection that is ready, all of whose waits end at a point in time.
    pub fn take(&self, until: Instant) -> Fetched<Held<'_>> {
        let mut pool = lock(&self.pool);
        loop {
            pool.give_up_old();
            if let Some(control) = pool.idle.pop() {
                pool.out += 1;
                drop(pool);
                let mut held = Held { server: self, control: Some(control), was_idle: true };
                if held.is_alive(until) {
                    return Ok(held);
                }
                drop(held);
                pool = lock(&self.pool);
                // What happened to one most likely happened to all.
                pool.idle.clear();
                continue;
            }
            if pool.out + pool.parked.len() >= pool.most && pool.give_up_oldest() {
                continue;
            }
            if pool.out < pool.most {
                pool.out += 1;
                drop(pool);
                let login = lock(&self.login).clone();
                let failure = match Control::connect(&self.place, login.as_ref(), until) {
                    Ok(control) => {
                        self.is_let_in(login.as_ref());
                        return Ok(Held { server: self, control: Some(control), was_idle: false });
                    }
                    Err(failure) => failure,
                };
                pool = lock(&self.pool);
                pool.out -= 1;
                self.freed.notify_all();
                // Others are let in: it is not who asks, but how many.
                let is_refused = matches!(failure.error.kind(), Kind::Unreachable | Kind::NotLetIn);
                if !is_refused || !pool.has_worked || pool.out == 0 {
                    return Err(failure);
                }
                log::debug!("{}: {} connections at a time: {}", self.place.host, pool.out, failure.error);
                pool.most = pool.out;
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(late());
            }
            pool = self.freed.wait_timeout(pool, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn is_let_in(&self, login: Option<&Login>) {
        let is_first = !std::mem::replace(&mut lock(&self.pool).has_worked, true);
        let is_told = login.is_some_and(|login| login.password.is_some()) && self.place.security == Security::Clear;
        if is_first && is_told {
            log::warn!("{}: the password went in clear, for all on the way to see; ftpes:// hides it", self.place.host);
        }
    }

    /// A new connection.
    pub fn take_new(&self, until: Instant) -> Fetched<Held<'_>> {
        self.are_silent();
        self.take(until)
    }

    /// Connections may have ended all at once, or lead nowhere any more: those that wait are not used again.
    pub fn are_silent(&self) {
        let mut pool = lock(&self.pool);
        pool.idle.clear();
        pool.parked.clear();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        for control in &mut lock(&self.pool).idle {
            control.quit();
        }
    }
}

fn is_same(a: Option<&Login>, b: Option<&Login>) -> bool {
    let parts = |login: &Login| (login.user.clone(), login.password.as_ref().map(|secret| secret.expose().to_vec()));
    match (a, b) {
        (Some(a), Some(b)) => {
            zeroize::Zeroizing::new(parts(a).1) == zeroize::Zeroizing::new(parts(b).1) && a.user == b.user
        }
        (a, b) => a.is_none() && b.is_none(),
    }
}

impl<'a> Held<'a> {
    /// One that goes on with what it did.
    pub fn again(server: &'a Server, control: Control) -> Self {
        Self { server, control: Some(control), was_idle: false }
    }

    /// Takes the connection, which is at work no more.
    pub fn into_control(mut self) -> Option<Control> {
        self.control.take()
    }
}

impl Held<'_> {
    fn is_alive(&mut self, until: Instant) -> bool {
        let soon = until.min(Instant::now() + ALIVE);
        self.until(soon);
        let is_rested = self.used.elapsed() > RESTED;
        let is_alive = self.settle().is_ok() && (!is_rested || self.ask("NOOP", "").is_ok_and(|reply| reply.is_done()));
        self.is_broken |= !is_alive;
        self.until(until);
        is_alive
    }

    /// Whether what went wrong is that it had ended while it waited, or leads nowhere.
    pub fn has_ended(&self, error: &Error) -> bool {
        self.was_idle && self.is_broken && error.is_of_link()
    }
}

impl Deref for Held<'_> {
    type Target = Control;

    fn deref(&self) -> &Control {
        self.control.as_ref().expect("it is there until it is dropped")
    }
}

impl DerefMut for Held<'_> {
    fn deref_mut(&mut self) -> &mut Control {
        self.control.as_mut().expect("it is there until it is dropped")
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        let mut pool = lock(&self.server.pool);
        pool.out -= 1;
        match self.control.take() {
            Some(mut control) if !control.is_broken => {
                control.used = Instant::now();
                pool.idle.push(control);
            }
            broken => {
                drop(pool);
                drop(broken);
            }
        }
        self.server.freed.notify_all();
    }
}
