//! What makes requests: whom it trusts, where it is led, and what it shows.

use super::super::Link;
use super::reason;
use crate::error::{Error, Kind, Result};
use reqwest::redirect::Policy;
use reqwest::{Client, ClientBuilder};
use std::path::Path;
use std::time::Duration;

/// Redirections that are followed.
const REDIRECTS: usize = 10;

/// The longest connecting.
const CONNECTING: Duration = Duration::from_secs(10);

/// What makes requests, and waits no longer than the patience for each piece of an answer.
pub fn client(link: &Link) -> Result<Client> {
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
        .pool_idle_timeout(Duration::from_secs(60));
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
