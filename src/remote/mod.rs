//! Floor 2: what is at the other end of a link.
//!
//! ```text
//!   address ─► scheme ─► object     bytes, by ranges: source/blocks reads it as if it were here
//!   http https   http.rs            GET with Range
//!   s3           s3.rs              the same, signed
//!   sftp         sftp.rs            READ, many at once, over one connection (ssh.rs)
//!   ftp(e)s      ftp/               REST and RETR
//!
//!   address/ ─► scheme ─► share     a folder: listed, read and, where `Writes` says so, written to
//! ```
//!
//! A remote knows neither formats nor kernels. This is the one place with a runtime for requests; whoever asks waits for the
//! answer, and never longer than he is willing to.

mod address;
mod credentials;
mod failures;
mod ftp;
mod http;
mod kept;
mod known_hosts;
mod listing;
mod mirrors;
mod parts;
mod put;
mod runtime;
mod s3;
mod sftp;
mod sftp_wire;
mod sftp_writes;
mod share;
mod ssh;
mod ssh_config;
mod ssh_login;

use address::below;
pub use address::{
    beside, go_down, has_password, is_address, is_folder, is_same_server, name_of, parted, scheme, shown, to_write,
    with_state,
};
pub use credentials::{Login, Netrc, small_file};
pub use failures::{Fetched, deepest, late, never, soon, system};
pub use http::Lines;
pub use kept::{Asking, KeptShare, open};
pub use listing::{asks_for_list, http_date, of_dav, of_html, of_json};
use mirrors::{open_mirrored, share_mirrored};
pub use parts::{call_parts_by, part_of};
pub use put::{Amend, Amended, Holds, Rest, Seen, Set, Writes, changed, taken};
pub use runtime::wait_for;
pub use share::{Item, Opener, Share, ShareTree};

use known_hosts::{KnownHost, Verdict, fingerprint, matches};
use sftp::{SftpShare, checked, of_time};
use sftp_wire::{Asked, Attrs, Entry, Fault, Part, Sftp, flag, status};
use ssh::{Client, Place, Sent, Session, Ssh, is_broken, send};
use ssh_config::HostConfig;
use ssh_login::{Way, let_in};

use crate::error::{Error, Kind, Result};
use crate::key::Keys;
use crate::source::Far;
use crate::tree::Time;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// How long one waits for the other end, unless somebody says otherwise.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// What a person wishes of links.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// The longest wait for an answer, or for more of it.
    pub patience: Duration,
    /// Requests at a time.
    pub connections: usize,
    /// Certificates of who is trusted, besides those of the system: a file in PEM.
    pub ca: Option<PathBuf>,
    /// What this end shows: certificate and key, a file in PEM.
    pub client: Option<PathBuf>,
    /// A file with a token.
    pub bearer: Option<PathBuf>,
    /// As the environment says, without it.
    pub proxy: Option<String>,
    /// Of a server of S3, where it is not that of AWS.
    pub endpoint: Option<String>,
    /// Bytes in a second, of all requests together.
    pub rate: Option<u64>,
    /// Where else the source is.
    pub mirrors: Vec<String>,
    /// Which servers of ssh are taken for those that they say they are.
    pub hostkey: HostKey,
    pub offline: Offline,
}

/// Which keys of servers of ssh are good.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum HostKey {
    /// Those in `known_hosts`.
    #[default]
    Known,
    /// Also those of servers of which none is known; they are known then.
    AcceptNew,
    /// The one with this fingerprint, `SHA256:…`.
    Only(String),
}

/// Whether anything is asked of the other end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Offline {
    /// When it cannot be reached, what is kept is shown as it was.
    #[default]
    Auto,
    /// Nothing is asked.
    Only,
}

impl Default for Link {
    fn default() -> Self {
        Self {
            patience: PATIENCE,
            connections: 8,
            ca: None,
            client: None,
            bearer: None,
            proxy: None,
            endpoint: None,
            rate: None,
            mirrors: Vec::new(),
            hostkey: HostKey::default(),
            offline: Offline::Auto,
        }
    }
}

/// An object at the other end, ready to be read.
pub struct Object {
    pub far: Arc<dyn Far>,
    pub len: u64,
    /// What the other end calls this version; without it nobody can tell whether it was changed.
    pub stamp: Option<String>,
    pub modified: Option<Time>,
    /// What came with the answer that told all this.
    pub seed: Option<(u64, Vec<u8>)>,
    /// What a person is to be told.
    pub notes: Vec<String>,
    /// It is the page of a directory, and no file.
    pub leads_to_directory: bool,
    /// Its address, where that is not the one that was asked.
    pub found_at: Option<String>,
}

impl Object {
    /// One of which nothing else is known.
    pub fn new(far: Arc<dyn Far>, len: u64) -> Self {
        let (stamp, modified, seed, notes, found_at) = (None, None, None, Vec::new(), None);
        Self { far, len, stamp, modified, seed, notes, leads_to_directory: false, found_at }
    }
}

/// Opens a folder of a server that can be reached.
///
/// # Errors
/// As [`open`].
pub fn share(address: &str, link: &Link, keys: &dyn Keys) -> Result<Box<dyn Share>> {
    open_folder(address, link, keys)
}

fn open_folder(address: &str, link: &Link, keys: &dyn Keys) -> Result<Box<dyn Share>> {
    let (over_http, is_dav) = address::over_http(address);
    match address::scheme(address) {
        Some("http" | "https" | "webdav" | "webdavs") => http::share(&over_http, is_dav, link, keys),
        Some("s3") => s3::share(address, link, keys),
        Some("sftp") => sftp::share(address, link, keys),
        Some("ftp" | "ftps" | "ftpes") => ftp::share(address, link, keys),
        _ => Err(unknown(address)),
    }
}

fn open_now(address: &str, link: &Link, keys: &dyn Keys) -> Result<Object> {
    match address::scheme(address) {
        Some("http" | "https" | "webdav" | "webdavs") => http::open(&address::over_http(address).0, link, keys),
        Some("s3") => s3::open(address, link, keys),
        Some("sftp") => sftp::open(address, link, keys),
        Some("ftp" | "ftps" | "ftpes") => ftp::open(address, link, keys),
        _ => Err(unknown(address)),
    }
}

fn unknown(address: &str) -> Error {
    Error::new(Kind::Unsupported, format!("{}: addresses of this kind are not known", address::shown(address)))
}
