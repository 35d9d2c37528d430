//! A connection that keeps to its deadline, in clear or by TLS.

use super::super::{Fetched, Link, late, never, soon, wait_for};
use crate::error::{Error, Kind, Result};
use crate::source::{Again, Failure};
use rustls::client::Resumption;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use std::io::{self, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The longest connecting.
const CONNECTING: Duration = Duration::from_secs(10);

/// Tickets of TLS 1.3 that are kept; each connection takes one, and gets others.
const TICKETS: usize = 8;

/// A socket, none of whose waits goes beyond one point in time, however little comes at a time.
pub struct Wire {
    tcp: TcpStream,
    until: Instant,
}

impl Wire {
    fn left(&self) -> io::Result<Duration> {
        let left = self.until.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
    }
}

impl Read for Wire {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.tcp.set_read_timeout(Some(self.left()?))?;
        self.tcp.read(into).map_err(in_time)
    }
}

impl Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.tcp.set_write_timeout(Some(self.left()?))?;
        self.tcp.write(bytes).map_err(in_time)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A socket says by this kind that its time is over.
fn in_time(e: io::Error) -> io::Error {
    if e.kind() == io::ErrorKind::WouldBlock { io::ErrorKind::TimedOut.into() } else { e }
}

pub enum Pipe {
    Clear(Wire),
    Tls(Box<StreamOwned<ClientConnection, Wire>>),
}

impl Pipe {
    /// Connects to the first of some addresses that answers.
    pub fn connect(to: &[SocketAddr], until: Instant) -> Fetched<Self> {
        let mut last = None;
        for address in to {
            let left = until.saturating_duration_since(Instant::now()).min(CONNECTING);
            if left.is_zero() {
                return Err(late());
            }
            match TcpStream::connect_timeout(address, left) {
                Ok(tcp) => {
                    // Commands are short, and each waits for the answer to the one before.
                    let _ = tcp.set_nodelay(true);
                    return Ok(Self::Clear(Wire { tcp, until }));
                }
                Err(e) => last = Some(e),
            }
        }
        Err(last.map_or_else(|| soon(Kind::Unreachable, "its name leads nowhere"), |e| unreachable(&e)))
    }

    /// Goes on by TLS.
    pub fn secured(self, config: &Arc<ClientConfig>, host: &str) -> Fetched<Self> {
        let Self::Clear(wire) = self else { return Ok(self) };
        let name = ServerName::try_from(host.to_owned())
            .map_err(|_| never(Kind::Usage, "TLS needs a name or an address of the server"))?;
        let session = ClientConnection::new(config.clone(), name).map_err(|e| failed(&io::Error::other(e)))?;
        let mut tls = StreamOwned::new(session, wire);
        while tls.conn.is_handshaking() {
            tls.conn.complete_io(&mut tls.sock).map_err(|e| failed(&e))?;
        }
        Ok(Self::Tls(Box::new(tls)))
    }

    fn wire(&mut self) -> &mut Wire {
        match self {
            Self::Clear(wire) => wire,
            Self::Tls(tls) => &mut tls.sock,
        }
    }

    /// No wait goes beyond this from now on.
    pub fn until(&mut self, until: Instant) {
        self.wire().until = until;
    }

    pub fn peer(&mut self) -> Fetched<IpAddr> {
        self.wire().tcp.peer_addr().map(|peer| peer.ip()).map_err(|e| failed(&e))
    }

    /// Says that no more comes from here, and waits until the other end has taken all.
    pub fn end(mut self) -> io::Result<()> {
        self.flush()?;
        if let Self::Tls(tls) = &mut self {
            tls.conn.send_close_notify();
            tls.flush()?;
        }
        self.wire().tcp.shutdown(Shutdown::Write)?;
        // A socket that is closed with something unread in it takes back what it sent. By TLS that are tickets, of which the
        // next connection needs one.
        let mut rest = [0; 1024];
        while matches!(self.read(&mut rest), Ok(n) if n > 0) {}
        Ok(())
    }
}

impl Read for Pipe {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Clear(wire) => wire.read(into),
            // Many servers of FTP end TLS by hanging up. Whether all came is told by the reply.
            Self::Tls(tls) => match tls.read(into) {
                Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Ok(0),
                read => read,
            },
        }
    }
}

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Clear(wire) => wire.write(bytes),
            Self::Tls(tls) => tls.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Clear(wire) => wire.flush(),
            Self::Tls(tls) => tls.flush(),
        }
    }
}

/// The addresses of a host, in the time that one waits.
pub fn addresses(host: &str, port: u16, until: Instant) -> Fetched<Vec<SocketAddr>> {
    let left = until.saturating_duration_since(Instant::now());
    let found = wait_for(async { tokio::time::timeout(left, tokio::net::lookup_host((host, port))).await });
    match found.map_err(super::super::system)? {
        Ok(found) => found.map(Iterator::collect).map_err(|e| unreachable(&e)),
        Err(_) => Err(late()),
    }
}

fn unreachable(e: &io::Error) -> Failure {
    match e.kind() {
        io::ErrorKind::TimedOut => late(),
        _ => soon(Kind::Unreachable, format!("the server cannot be reached: {e}")),
    }
}

/// What an error on the way means.
pub fn failed(e: &io::Error) -> Failure {
    if e.kind() == io::ErrorKind::TimedOut {
        return late();
    }
    match e.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(why @ rustls::Error::InvalidCertificate(_)) => Failure {
            error: Error::new(Kind::Untrusted, format!("the server is not trusted: {why}"))
                .hint("--ca FILE, or -o ca=FILE: the certificate of who vouches for it"),
            again: Again::Never,
        },
        Some(why) => never(Kind::Io, format!("TLS failed: {why}")),
        None => soon(Kind::Unreachable, format!("the connection broke: {e}")),
    }
}

/// Whom TLS trusts, and what this end shows.
pub fn tls(link: &Link) -> Result<Arc<ClientConfig>> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let wrong = |e: rustls::Error| Error::new(Kind::System, format!("TLS cannot be used: {e}"));
    let roots = link.ca.as_deref().map_or_else(|| Ok(Vec::new()), certificates)?;
    let verifier = rustls_platform_verifier::Verifier::new_with_extra_roots(roots, provider.clone()).map_err(wrong)?;
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().map_err(wrong)?;
    let builder = builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier));
    let config = match &link.client {
        Some(path) => {
            let what = || Error::new(Kind::Usage, format!("{} holds no certificate with its key", path.display()));
            let key = PrivateKeyDer::from_pem_slice(&pem(path)?).map_err(|e| what().caused_by(e))?;
            builder.with_client_auth_cert(certificates(path)?, key).map_err(|e| what().caused_by(e))?
        }
        None => builder.with_no_client_auth(),
    };
    Ok(Arc::new(config))
}

/// The same for one connection for commands and those for its data: servers want to see that they are of one session.
pub fn of_one_session(config: &ClientConfig) -> Arc<ClientConfig> {
    let mut own = config.clone();
    own.resumption = Resumption::in_memory_sessions(TICKETS);
    Arc::new(own)
}

fn pem(path: &Path) -> Result<zeroize::Zeroizing<Vec<u8>>> {
    let read = std::fs::read(path).map(zeroize::Zeroizing::new);
    read.map_err(|e| Error::io(e, format!("cannot read {}", path.display())))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let wrong = || Error::new(Kind::Usage, format!("{} holds no certificate", path.display()));
    let read = CertificateDer::pem_slice_iter(&pem(path)?).collect::<std::result::Result<Vec<_>, _>>();
    read.map_err(|e| wrong().caused_by(e)).and_then(|all| if all.is_empty() { Err(wrong()) } else { Ok(all) })
}
