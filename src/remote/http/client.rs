//! What makes requests: whom it trusts, where it is led, and what it shows.

use super::super::Link;
use super::reason;
use crate::error::{Error, Kind, Result};
use crate::pool::lock;
use reqwest::redirect::Policy;
use reqwest::{Client, ClientBuilder};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// Redirections that are followed.
const REDIRECTS: usize = 10;

/// The longest connecting.
const CONNECTING: Duration = Duration::from_secs(10);

/// The connections to one server. When nothing comes over one of them, all are given up: after the network has changed, or the
/// machine has slept, those that are open lead nowhere, and nobody says so.
pub struct Lines {
    link: Link,
    client: Mutex<(Client, Instant)>,
    /// Nothing came in the time after which something should: now it is waited for longer.
    is_slow: AtomicBool,
}

impl Lines {
    pub fn new(link: &Link) -> Result<Self> {
        let client = Mutex::new((client(link)?, Instant::now()));
        Ok(Self { link: link.clone(), client, is_slow: AtomicBool::new(false) })
    }

    pub fn client(&self) -> Client {
        lock(&self.client).0.clone()
    }

    /// How long to wait for a sign of the other end: a third of the patience, so that there is time for another try over another
    /// connection, which waits for the rest.
    pub fn quiet(&self) -> Duration {
        let third = self.link.patience / 3;
        if self.is_slow.load(Relaxed) { third * 2 } else { third }
    }

    /// There was a sign.
    pub fn are_heard(&self, since: Instant) {
        if self.is_slow.load(Relaxed) && since.elapsed() < self.link.patience / 3 {
            self.is_slow.store(false, Relaxed);
        }
    }

    /// There was none since then. Connections that were made later are left.
    pub fn are_silent(&self, since: Instant) {
        self.is_slow.store(true, Relaxed);
        let mut known = lock(&self.client);
        if known.1 < since
            && let Ok(fresh) = client(&self.link)
        {
            *known = (fresh, Instant::now());
        }
    }
}

/// What makes requests, and waits no longer than the patience for each piece of an answer.
fn client(link: &Link) -> Result<Client> {
    let built = builder(link)?.read_timeout(link.patience).build();
    built.map_err(|e| Error::new(Kind::System, format!("no request can be made: {}", reason(&e))))
}

/// All but how long one waits for an answer.
pub(super) fn builder(link: &Link) -> Result<ClientBuilder> {
    // Of several makers of TLS one is chosen, once.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let safe = Policy::custom(|attempt| {
        let downgraded =
            attempt.previous().last().is_some_and(|from| from.scheme() == "https") && attempt.url().scheme() != "https";
        if downgraded {
            return attempt.error("it leads from https to http, which is not followed");
        }
        if attempt.previous().len() > REDIRECTS {
            return attempt.error("it leads on and on");
        }
        attempt.follow()
    });
    let mut builder = Client::builder()
        .user_agent(concat!("stmount/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(link.patience.min(CONNECTING))
        .redirect(safe)
        .http2_adaptive_window(true)
        .pool_idle_timeout(Duration::from_secs(60))
        .tcp_keepalive(link.patience / 4)
        .tcp_keepalive_interval(link.patience / 8)
        .tcp_keepalive_retries(3);
    let read = |path: &Path| std::fs::read(path).map_err(|e| Error::io(e, format!("cannot read {}", path.display())));
    if let Some(path) = &link.ca {
        let wrong = |e| Error::new(Kind::Usage, format!("{} holds no certificate", path.display())).caused_by(e);
        for one in reqwest::Certificate::from_pem_bundle(&read(path)?).map_err(wrong)? {
            builder = builder.add_root_certificate(one);
        }
    }
    if let Some(path) = &link.client {
        let what = format!("{} holds no certificate with its key", path.display());
        let pem = zeroize::Zeroizing::new(read(path)?);
        let identity = reqwest::Identity::from_pem(&pem).map_err(|e| Error::new(Kind::Usage, what).caused_by(e))?;
        builder = builder.identity(identity);
    }
    if let Some(proxy) = &link.proxy {
        let proxy =
            reqwest::Proxy::all(proxy).map_err(|e| Error::new(Kind::Usage, "the proxy is none").caused_by(e))?;
        builder = builder.proxy(proxy);
    }
    Ok(builder)
}
