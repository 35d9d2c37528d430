//! Commands and replies of FTP, and the connections for data.
//!
//! ```text
//!   EPSV ─► a port of the same host, whatever address stands in the reply
//!   REST 1000, RETR dir/x ─► 150 ─► data ... closed by whoever has enough ─► 226 or 426
//! ```
//!
//! What a server sends is read up to a limit and a deadline. No command holds more than one line, whatever a path holds.

use super::super::{Fetched, Login, never, soon};
use super::wire::{Pipe, addresses, failed, of_one_session};
use crate::error::{Error, Kind};
use crate::source::{Again, Failure};
use rustls::ClientConfig;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};
use zeroize::Zeroizing;

/// Bytes of a reply; the longest ones in use are lists of features.
const LONGEST_REPLY: usize = 256 << 10;

/// Who comes without a name.
const ANONYMOUS: &str = "anonymous";

/// How a connection is secured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Security {
    Clear,
    /// TLS from the first byte on.
    Implicit,
    /// TLS after `AUTH TLS`.
    Explicit,
}

/// Where a server is.
pub struct Place {
    pub host: String,
    pub port: u16,
    pub security: Security,
    pub tls: Option<Arc<ClientConfig>>,
}

/// What a server says that it can do.
#[derive(Clone, Copy, Debug, Default)]
pub struct Features {
    /// Exact listings: MLSD and MLST.
    pub mlst: bool,
    pub rest: bool,
    /// Sets times.
    pub mfmt: bool,
}

#[derive(Debug)]
pub struct Reply {
    pub code: u16,
    pub lines: Vec<String>,
}

impl Reply {
    /// Of `Ok`, `File status` and the like.
    pub fn is_done(&self) -> bool {
        self.code / 100 == 2
    }

    /// The command is not known, or not with what was said.
    pub fn is_unknown(&self) -> bool {
        matches!(self.code, 500..=504)
    }

    /// Its last line without the code.
    pub fn text(&self) -> &str {
        self.lines.last().map_or("", |line| line.get(4..).unwrap_or("").trim())
    }
}

/// A connection for commands.
pub struct Control {
    place: Arc<Place>,
    tls: Option<Arc<ClientConfig>>,
    pipe: Pipe,
    peer: IpAddr,
    /// What came and was not taken yet.
    buffer: Vec<u8>,
    pub features: Features,
    /// The directory that paths begin at.
    home: String,
    knows_epsv: bool,
    /// The reply to the end of a transfer is still to come.
    is_owed: bool,
    /// It is of no more use.
    pub is_broken: bool,
    pub used: Instant,
    until: Instant,
}

impl Control {
    pub fn connect(place: &Arc<Place>, login: Option<&Login>, until: Instant) -> Fetched<Self> {
        let mut pipe = Pipe::connect(&addresses(&place.host, place.port, until)?, until)?;
        let peer = pipe.peer()?;
        let tls = place.tls.as_deref().map(of_one_session);
        if let (Security::Implicit, Some(tls)) = (place.security, &tls) {
            pipe = pipe.secured(tls, &place.host)?;
        }
        let mut control = Self {
            place: place.clone(),
            tls,
            pipe,
            peer,
            buffer: Vec::new(),
            features: Features::default(),
            home: "/".to_owned(),
            knows_epsv: true,
            is_owed: false,
            is_broken: false,
            used: Instant::now(),
            until,
        };
        let mut hello = control.reply()?;
        while hello.code == 120 {
            hello = control.reply()?;
        }
        if hello.code != 220 {
            return Err(refused(&hello));
        }
        control = control.secured()?;
        control.log_in(login)?;
        control.prepare()?;
        Ok(control)
    }

    fn secured(mut self) -> Fetched<Self> {
        let Some(tls) = self.tls.clone() else { return Ok(self) };
        if self.place.security == Security::Explicit {
            let reply = self.ask("AUTH", "TLS")?;
            if !matches!(reply.code, 234 | 334) {
                let what = format!("the server knows no TLS: {}", said(&reply));
                return Err(never(Kind::Unsupported, what));
            }
            if !self.buffer.is_empty() {
                // Somebody on the way said it, before anything was secret.
                return Err(never(Kind::Untrusted, "something came in clear behind the begin of TLS"));
            }
            self.pipe = self.pipe.secured(&tls, &self.place.host)?;
        }
        Ok(self)
    }

    fn log_in(&mut self, login: Option<&Login>) -> Fetched<()> {
        let user = login.map_or(ANONYMOUS, |login| &login.user);
        let mut reply = self.ask("USER", user)?;
        if reply.code == 331 {
            let password = match login {
                Some(login) => login.password.as_ref().map(|secret| secret.expose()),
                None => Some(&b"anonymous@"[..]),
            };
            let password = password.ok_or_else(|| never(Kind::NotLetIn, "the server asks for a password"))?;
            self.send("PASS", password)?;
            reply = self.reply()?;
        }
        match reply.code {
            230 | 202 | 232 => Ok(()),
            332 => Err(never(Kind::Unsupported, "the server asks for an account, and there is no way to tell one")),
            421 => Err(refused(&reply)),
            _ => Err(Failure {
                error: Error::new(Kind::NotLetIn, format!("the server says {}", said(&reply)))
                    .hint("ftp://USER@HOST/…, or a line in ~/.netrc; ftpes:// where it asks for encryption"),
                again: Again::Never,
            }),
        }
    }

    /// What is to be said and asked before all else.
    fn prepare(&mut self) -> Fetched<()> {
        if self.place.tls.is_some() {
            self.ask("PBSZ", "0")?;
            let reply = self.ask("PROT", "P")?;
            if !reply.is_done() {
                return Err(never(Kind::Unsupported, format!("the server does not secure data: {}", said(&reply))));
            }
        }
        let reply = self.ask("FEAT", "")?;
        let mut facts = String::new();
        for line in reply.lines.iter().filter(|_| reply.is_done()) {
            let line = line.trim().to_ascii_uppercase();
            let (word, rest) = line.split_once(' ').unwrap_or((&line, ""));
            match word {
                "MLST" => (self.features.mlst, facts) = (true, rest.to_owned()),
                "REST" => self.features.rest = true,
                "MFMT" => self.features.mfmt = true,
                "UTF8" => drop(self.ask("OPTS", "UTF8 ON")?),
                _ => {}
            }
        }
        let wanted = ["TYPE", "SIZE", "MODIFY", "UNIX.MODE"];
        let known: Vec<_> = facts.split(';').map(|fact| fact.trim_end_matches('*')).collect();
        if wanted.iter().any(|fact| facts.split(';').any(|known| known == *fact)) {
            let asked: String =
                wanted.iter().filter(|fact| known.contains(fact)).map(|fact| format!("{fact};")).collect();
            self.ask("OPTS", &format!("MLST {asked}"))?;
        }
        let reply = self.ask("TYPE", "I")?;
        if !reply.is_done() {
            return Err(refused(&reply));
        }
        let reply = self.ask("PWD", "")?;
        if let (257, Some(home)) = (reply.code, quoted(reply.text())) {
            self.home = home;
        }
        Ok(())
    }

    /// No wait goes beyond this from now on.
    pub fn until(&mut self, until: Instant) {
        self.until = until;
        self.pipe.until(until);
    }

    /// The path that a server is told: one that does not begin at its root begins where who is let in begins.
    pub fn path(&self, path: &str) -> String {
        match path {
            "" => self.home.clone(),
            path if path.starts_with('/') => path.to_owned(),
            path => format!("{}/{path}", self.home.trim_end_matches('/')),
        }
    }

    /// Sends a command, and waits for its reply.
    pub fn ask(&mut self, verb: &str, argument: &str) -> Fetched<Reply> {
        self.settle()?;
        self.send(verb, argument.as_bytes())?;
        loop {
            let reply = self.reply()?;
            // Some servers say twice how a transfer ended that was not taken to its end.
            if !matches!(reply.code, 225 | 226 | 426) {
                return Ok(reply);
            }
        }
    }

    /// Takes the reply to a transfer that was given up.
    pub fn settle(&mut self) -> Fetched<()> {
        if std::mem::take(&mut self.is_owed) {
            self.reply()?;
        }
        Ok(())
    }

    fn send(&mut self, verb: &str, argument: &[u8]) -> Fetched<()> {
        if argument.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)) {
            return Err(never(Kind::Invalid, "a line break cannot be told to a server of FTP"));
        }
        // A password is left nowhere in memory.
        let mut line = Zeroizing::new(Vec::with_capacity(verb.len() + argument.len() + 3));
        line.extend_from_slice(verb.as_bytes());
        if !argument.is_empty() {
            line.push(b' ');
            line.extend_from_slice(argument);
        }
        line.extend_from_slice(b"\r\n");
        let sent = self.pipe.write_all(&line).and_then(|()| self.pipe.flush());
        sent.map_err(|e| self.broke(failed(&e)))
    }

    fn broke(&mut self, failure: Failure) -> Failure {
        self.is_broken = true;
        failure
    }

    /// A reply of one line, or of all up to the one that begins with the same code and a space.
    fn reply(&mut self) -> Fetched<Reply> {
        let (mut lines, mut sum) = (Vec::new(), 0);
        loop {
            let line = self.line(&mut sum)?;
            let code = line.get(..3).and_then(|code| code.parse::<u16>().ok()).filter(|code| (100..600).contains(code));
            let goes_on = line.as_bytes().get(3) == Some(&b'-');
            let Some(first) = lines.first().map(|first: &String| first[..3].to_owned()) else {
                let Some(code) = code else {
                    return Err(self.broke(never(Kind::Io, "this is no server of FTP")));
                };
                lines.push(line);
                if !goes_on {
                    return Ok(Reply { code, lines });
                }
                continue;
            };
            let is_last =
                line.get(..3) == Some(&first) && !goes_on && matches!(line.as_bytes().get(3), None | Some(b' '));
            lines.push(line);
            if let Some(code) = code.filter(|_| is_last) {
                return Ok(Reply { code, lines });
            }
        }
    }

    fn line(&mut self, sum: &mut usize) -> Fetched<String> {
        let end = loop {
            if let Some(end) = memchr::memchr(b'\n', &self.buffer) {
                break end;
            }
            if *sum + self.buffer.len() > LONGEST_REPLY {
                return Err(self.broke(never(Kind::Limit, "the server says too much")));
            }
            let mut piece = [0; 4096];
            match self.pipe.read(&mut piece) {
                Ok(0) => return Err(self.broke(soon(Kind::Unreachable, "the server hung up"))),
                Ok(n) => self.buffer.extend_from_slice(&piece[..n]),
                Err(e) => return Err(self.broke(failed(&e))),
            }
        };
        let line: Vec<u8> = self.buffer.drain(..=end).collect();
        *sum += line.len();
        Ok(String::from_utf8_lossy(&line).trim_end_matches(['\r', '\n']).to_owned())
    }

    /// A port of the server for data.
    fn passive(&mut self) -> Fetched<u16> {
        if self.knows_epsv {
            let reply = self.ask("EPSV", "")?;
            match (reply.code, extended_port(reply.text())) {
                (229, Some(port)) => return Ok(port),
                (229, None) => return Err(never(Kind::Io, "the server does not say where data are to be had")),
                (421, _) => return Err(refused(&reply)),
                _ => self.knows_epsv = false,
            }
        }
        let reply = self.ask("PASV", "")?;
        match (reply.code, passive_port(reply.text())) {
            (227, Some(port)) => Ok(port),
            (227, None) => Err(never(Kind::Io, "the server does not say where data are to be had")),
            _ => Err(refused(&reply)),
        }
    }

    /// Begins a transfer, at an offset of the file.
    pub fn transfer(&mut self, verb: &str, argument: &str, at: u64) -> Fetched<Pipe> {
        let port = self.passive()?;
        // The address that the server says is not believed: it could be that of anybody.
        let data = Pipe::connect(&[SocketAddr::new(self.peer, port)], self.until)?;
        if at > 0 {
            let reply = self.ask("REST", &at.to_string())?;
            if reply.code != 350 {
                return Err(refused(&reply));
            }
        }
        let reply = self.ask(verb, argument)?;
        if reply.code / 100 != 1 {
            return Err(refused(&reply));
        }
        self.is_owed = true;
        match &self.tls {
            Some(tls) => data.secured(tls, &self.place.host).map_err(|failure| self.broke(failure)),
            None => Ok(data),
        }
    }

    /// Leaves: who waits for a place is let in the sooner.
    pub fn quit(&mut self) {
        self.until(Instant::now() + Duration::from_millis(100));
        let _ = self.send("QUIT", b"");
    }

    /// Ends a transfer that was taken to its end.
    pub fn finish(&mut self, data: Pipe) -> Fetched<()> {
        drop(data);
        self.finished()
    }

    /// Whether the server has it all, once the connection for data is closed.
    pub fn finished(&mut self) -> Fetched<()> {
        self.is_owed = false;
        let reply = self.reply()?;
        match reply.code {
            200..300 => Ok(()),
            // It has no ticket left that shows of which session it is; another connection has.
            522 => Err(self.broke(soon(Kind::Unreachable, format!("the server says {}", said(&reply))))),
            _ => Err(refused(&reply)),
        }
    }
}

/// What is between quotation marks, of which two stand for one: `257 "/a ""b""" is where you are`.
fn quoted(text: &str) -> Option<String> {
    let rest = text.split_once('"')?.1;
    let (mut out, mut signs) = (String::new(), rest.chars().peekable());
    while let Some(sign) = signs.next() {
        match sign {
            '"' if signs.peek() == Some(&'"') => drop(signs.next()),
            '"' => return Some(out).filter(|path| path.starts_with('/')),
            _ => {}
        }
        out.push(sign);
    }
    None
}

/// `229 Entering Extended Passive Mode (|||6446|)`
fn extended_port(text: &str) -> Option<u16> {
    let inside = text.rsplit_once('(')?.1.split_once(')')?.0;
    let mark = inside.chars().next()?;
    let [_, _, _, port, _] = inside.split(mark).collect::<Vec<_>>()[..] else { return None };
    port.parse().ok().filter(|port| *port != 0)
}

/// `227 Entering Passive Mode (10,0,0,1,25,46)`, with or without the brackets.
fn passive_port(text: &str) -> Option<u16> {
    let numbers = text.split(|c: char| !c.is_ascii_digit() && c != ',').find(|word| word.matches(',').count() == 5)?;
    let numbers: Vec<u8> = numbers.split(',').map(|number| number.parse().ok()).collect::<Option<_>>()?;
    let port = u16::from_be_bytes([*numbers.get(4)?, *numbers.get(5)?]);
    (port != 0).then_some(port)
}

/// What the server said, fit to be shown.
pub fn said(reply: &Reply) -> String {
    let text: String = reply.text().chars().map(|c| if c.is_control() { '?' } else { c }).take(200).collect();
    format!("{} {text}", reply.code)
}

/// What a reply other than the one that was hoped for means.
pub fn refused(reply: &Reply) -> Failure {
    let what = format!("the server says {}", said(reply));
    let text = reply.text().to_ascii_lowercase();
    let is_denied = ["denied", "permission", "not allowed", "privilege"].iter().any(|word| text.contains(word));
    match reply.code {
        421 | 425 | 426 | 434 | 450 | 451 => soon(Kind::Unreachable, what),
        430 | 530 | 532 => never(Kind::NotLetIn, what),
        452 | 552 => never(Kind::NoSpace, what),
        550 if !is_denied => never(Kind::NotFound, what),
        550 | 553 | 521 | 533 => never(Kind::Denied, what),
        500..=504 | 522 | 534 => never(Kind::Unsupported, what),
        _ => never(Kind::Io, what),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_for_data_are_numbers_and_no_addresses() {
        assert_eq!(extended_port("Entering Extended Passive Mode (|||6446|)"), Some(6446));
        assert_eq!(extended_port("ok (!!!65535!)"), Some(65535));
        for bad in ["(|||0|)", "(|||65536|)", "(|1|10.0.0.1|x|)", "|||6446|", "(||6446|)", "()", ""] {
            assert_eq!(extended_port(bad), None, "{bad}");
        }
        assert_eq!(passive_port("Entering Passive Mode (10,0,0,1,25,46)."), Some(25 * 256 + 46));
        assert_eq!(passive_port("Entering Passive Mode 10,0,0,1,25,46"), Some(25 * 256 + 46));
        for bad in ["(10,0,0,1,0,0)", "(10,0,0,1,256,1)", "(10,0,0,1,1)", "(,,,,,)", ""] {
            assert_eq!(passive_port(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_directory_stands_between_quotation_marks() {
        assert_eq!(quoted(r#""/a ""b""" is the current directory"#).as_deref(), Some(r#"/a "b""#));
        assert_eq!(quoted(r#""/""#).as_deref(), Some("/"));
        for bad in ["/", "\"/", "\"C:\\\"", ""] {
            assert_eq!(quoted(bad), None, "{bad}");
        }
    }
}
