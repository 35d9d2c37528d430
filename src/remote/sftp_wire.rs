//! Version 3 of the protocol sftp: requests and their answers over a channel, many at once.
//!
//! ```text
//!   length u32 │ type u8 │ number u32 │ …         strings are a length and bytes, names among them
//!
//!   request ─► writer ─► channel ─► server ─► channel ─► reader ─► who asked with that number
//! ```
//!
//! Numbers and names that come are the server's: a packet is never larger than [`LARGEST`], and what is cut or unknown is an
//! error of the one answer.

use crate::pool::lock;
use bytes::Bytes;
use russh::client::Msg;
use russh::{Channel, ChannelMsg, ChannelReadHalf, ChannelWriteHalf};
use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Instant;
use tokio::sync::{mpsc, oneshot};

/// Bytes of a packet. Servers send 256 KiB at most.
const LARGEST: usize = 320 << 10;

const VERSION: u32 = 3;

/// Types of packets.
mod kind {
    pub const INIT: u8 = 1;
    pub const VERSION: u8 = 2;
    pub const OPEN: u8 = 3;
    pub const CLOSE: u8 = 4;
    pub const READ: u8 = 5;
    pub const WRITE: u8 = 6;
    pub const LSTAT: u8 = 7;
    pub const FSTAT: u8 = 8;
    pub const SETSTAT: u8 = 9;
    pub const FSETSTAT: u8 = 10;
    pub const OPENDIR: u8 = 11;
    pub const READDIR: u8 = 12;
    pub const REMOVE: u8 = 13;
    pub const MKDIR: u8 = 14;
    pub const RMDIR: u8 = 15;
    pub const STAT: u8 = 17;
    pub const RENAME: u8 = 18;
    pub const READLINK: u8 = 19;
    pub const SYMLINK: u8 = 20;
    pub const STATUS: u8 = 101;
    pub const HANDLE: u8 = 102;
    pub const DATA: u8 = 103;
    pub const NAME: u8 = 104;
    pub const ATTRS: u8 = 105;
    pub const EXTENDED: u8 = 200;
}

/// Codes of a status.
pub mod status {
    pub const OK: u32 = 0;
    pub const EOF: u32 = 1;
    pub const NO_SUCH_FILE: u32 = 2;
    pub const PERMISSION_DENIED: u32 = 3;
    pub const CONNECTION: [u32; 2] = [6, 7];
    pub const UNSUPPORTED: u32 = 8;
}

/// How a file is opened.
pub mod flag {
    pub const READ: u32 = 1;
    pub const WRITE: u32 = 2;
    pub const CREATE: u32 = 8;
    pub const TRUNCATE: u32 = 16;
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The server says no: code and words.
    Status(u32, String),
    /// There is no connection any more.
    Broken,
    /// The answer is none to what was asked.
    Odd,
    /// The answer is longer than anybody can use.
    Long,
}

pub type Asked<T> = std::result::Result<T, Fault>;

/// What a server tells of a file, or is to set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attrs {
    pub size: Option<u64>,
    pub owner: Option<(u32, u32)>,
    pub mode: Option<u32>,
    /// Of change, in seconds since 1970.
    pub modified: Option<u32>,
}

/// An entry of a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub name: Vec<u8>,
    pub attrs: Attrs,
}

/// An answer: its type, and what is behind its number.
type Answer = (u8, Vec<u8>);

#[derive(Default)]
struct Waiting {
    asked: HashMap<u32, oneshot::Sender<Answer>>,
    is_closed: bool,
    /// When something came last.
    heard: Option<Instant>,
}

/// The client at one end of a channel.
pub struct Sftp {
    out: mpsc::UnboundedSender<Bytes>,
    waiting: Arc<Mutex<Waiting>>,
    next: AtomicU32,
}

impl Sftp {
    /// Greets the server; also tells what it knows besides the protocol.
    pub async fn start(channel: Channel<Msg>) -> Asked<(Self, HashSet<String>)> {
        let (read, write) = channel.split();
        let (out, packets) = mpsc::unbounded_channel();
        let waiting = Arc::new(Mutex::new(Waiting::default()));
        tokio::spawn(send_all(write, packets, waiting.clone()));
        tokio::spawn(take_all(read, waiting.clone()));
        let sftp = Self { out, waiting, next: AtomicU32::new(1) };
        let (kind, body) = sftp.exchange(0, packet(kind::INIT, VERSION, &[])).await?;
        let mut fields = Fields(&body);
        if kind != kind::VERSION || fields.number()? < VERSION {
            return Err(Fault::Odd);
        }
        let mut knows = HashSet::new();
        while !fields.0.is_empty() {
            knows.insert(String::from_utf8_lossy(fields.string()?).into_owned());
            fields.string()?;
        }
        Ok((sftp, knows))
    }

    /// When something came last.
    pub fn heard(&self) -> Option<Instant> {
        lock(&self.waiting).heard
    }

    async fn exchange(&self, number: u32, packet: Bytes) -> Asked<Answer> {
        let (answer, asked) = oneshot::channel();
        {
            let mut waiting = lock(&self.waiting);
            if waiting.is_closed {
                return Err(Fault::Broken);
            }
            waiting.asked.insert(number, answer);
        }
        self.out.send(packet).map_err(|_| Fault::Broken)?;
        asked.await.map_err(|_| Fault::Broken)
    }

    async fn ask(&self, kind: u8, parts: &[Part<'_>]) -> Asked<Answer> {
        // Not 0, which is that of the greeting. Nobody has so many on their way that a number comes back while it is used.
        let number = self.next.fetch_add(1, Relaxed).max(1);
        let answer = self.exchange(number, packet(kind, number, parts)).await?;
        match answer {
            (kind::STATUS, body) => {
                let mut fields = Fields(&body);
                match fields.number()? {
                    status::OK => Ok((kind::STATUS, Vec::new())),
                    code => Err(Fault::Status(code, words(fields.string().unwrap_or_default()))),
                }
            }
            answer => Ok(answer),
        }
    }

    /// A request that is done, or not.
    async fn bid(&self, kind: u8, parts: &[Part<'_>]) -> Asked<()> {
        match self.ask(kind, parts).await? {
            (kind::STATUS, _) => Ok(()),
            _ => Err(Fault::Odd),
        }
    }

    async fn ask_attrs(&self, kind: u8, part: Part<'_>) -> Asked<Attrs> {
        match self.ask(kind, &[part]).await? {
            (kind::ATTRS, body) => Fields(&body).attrs(),
            _ => Err(Fault::Odd),
        }
    }

    async fn ask_handle(&self, kind: u8, parts: &[Part<'_>]) -> Asked<Vec<u8>> {
        match self.ask(kind, parts).await? {
            (kind::HANDLE, body) => Ok(Fields(&body).string()?.to_vec()),
            _ => Err(Fault::Odd),
        }
    }

    async fn ask_names(&self, kind: u8, part: Part<'_>) -> Asked<Vec<Entry>> {
        match self.ask(kind, &[part]).await? {
            (kind::NAME, body) => Fields(&body).entries(),
            _ => Err(Fault::Odd),
        }
    }

    pub async fn open(&self, path: &str, flags: u32, attrs: Attrs) -> Asked<Vec<u8>> {
        self.ask_handle(kind::OPEN, &[path.into(), Part::Number(flags), Part::Attrs(attrs)]).await
    }

    pub async fn close(&self, handle: &[u8]) -> Asked<()> {
        self.bid(kind::CLOSE, &[handle.into()]).await
    }

    /// What there is of so many bytes; nothing at the end.
    pub async fn read(&self, handle: &[u8], at: u64, len: u32) -> Asked<Vec<u8>> {
        match self.ask(kind::READ, &[handle.into(), Part::Long(at), Part::Number(len)]).await {
            Ok((kind::DATA, mut body)) => {
                let len = Fields(&body).string()?.len();
                body.drain(..4);
                body.truncate(len);
                Ok(body)
            }
            Ok(_) => Err(Fault::Odd),
            Err(Fault::Status(status::EOF, _)) => Ok(Vec::new()),
            Err(fault) => Err(fault),
        }
    }

    pub async fn write(&self, handle: &[u8], at: u64, bytes: &[u8]) -> Asked<()> {
        self.bid(kind::WRITE, &[handle.into(), Part::Long(at), bytes.into()]).await
    }

    pub async fn fstat(&self, handle: &[u8]) -> Asked<Attrs> {
        self.ask_attrs(kind::FSTAT, handle.into()).await
    }

    pub async fn stat(&self, path: &str) -> Asked<Attrs> {
        self.ask_attrs(kind::STAT, path.into()).await
    }

    pub async fn lstat(&self, path: &str) -> Asked<Attrs> {
        self.ask_attrs(kind::LSTAT, path.into()).await
    }

    pub async fn setstat(&self, path: &str, attrs: Attrs) -> Asked<()> {
        self.bid(kind::SETSTAT, &[path.into(), Part::Attrs(attrs)]).await
    }

    pub async fn fsetstat(&self, handle: &[u8], attrs: Attrs) -> Asked<()> {
        self.bid(kind::FSETSTAT, &[handle.into(), Part::Attrs(attrs)]).await
    }

    pub async fn opendir(&self, path: &str) -> Asked<Vec<u8>> {
        self.ask_handle(kind::OPENDIR, &[path.into()]).await
    }

    /// Some entries; none at the end.
    pub async fn readdir(&self, handle: &[u8]) -> Asked<Vec<Entry>> {
        match self.ask_names(kind::READDIR, handle.into()).await {
            Err(Fault::Status(status::EOF, _)) => Ok(Vec::new()),
            entries => entries,
        }
    }

    pub async fn readlink(&self, path: &str) -> Asked<Vec<u8>> {
        let first = self.ask_names(kind::READLINK, path.into()).await?.into_iter().next();
        first.map(|entry| entry.name).filter(|name| !name.is_empty()).ok_or(Fault::Odd)
    }

    pub async fn remove(&self, path: &str) -> Asked<()> {
        self.bid(kind::REMOVE, &[path.into()]).await
    }

    pub async fn mkdir(&self, path: &str) -> Asked<()> {
        self.bid(kind::MKDIR, &[path.into(), Part::Attrs(Attrs::default())]).await
    }

    pub async fn rmdir(&self, path: &str) -> Asked<()> {
        self.bid(kind::RMDIR, &[path.into()]).await
    }

    pub async fn rename(&self, from: &str, to: &str) -> Asked<()> {
        self.bid(kind::RENAME, &[from.into(), to.into()]).await
    }

    /// Where it leads comes first, other than the draft says: so does OpenSSH, and others do as it does.
    pub async fn symlink(&self, target: &[u8], path: &str) -> Asked<()> {
        self.bid(kind::SYMLINK, &[target.into(), path.into()]).await
    }

    /// What is not in the protocol.
    pub async fn extended(&self, name: &str, parts: &[Part<'_>]) -> Asked<()> {
        let all: Vec<Part<'_>> = std::iter::once(name.into()).chain(parts.iter().copied()).collect();
        self.bid(kind::EXTENDED, &all).await
    }
}

/// What a server says, of which nothing reaches a terminal but letters.
fn words(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).chars().filter(|c| !c.is_control()).take(200).collect()
}

/// A part of a request.
#[derive(Clone, Copy)]
pub enum Part<'a> {
    Bytes(&'a [u8]),
    Number(u32),
    Long(u64),
    Attrs(Attrs),
}

impl<'a> From<&'a str> for Part<'a> {
    fn from(text: &'a str) -> Self {
        Self::Bytes(text.as_bytes())
    }
}

impl<'a> From<&'a [u8]> for Part<'a> {
    fn from(bytes: &'a [u8]) -> Self {
        Self::Bytes(bytes)
    }
}

fn packet(kind: u8, number: u32, parts: &[Part<'_>]) -> Bytes {
    let mut packet = vec![0, 0, 0, 0, kind];
    packet.extend_from_slice(&number.to_be_bytes());
    for part in parts {
        match part {
            Part::Bytes(bytes) => {
                packet.extend_from_slice(&(bytes.len() as u32).to_be_bytes());
                packet.extend_from_slice(bytes);
            }
            Part::Number(number) => packet.extend_from_slice(&number.to_be_bytes()),
            Part::Long(number) => packet.extend_from_slice(&number.to_be_bytes()),
            Part::Attrs(attrs) => attrs.pack(&mut packet),
        }
    }
    let len = (packet.len() - 4) as u32;
    packet[..4].copy_from_slice(&len.to_be_bytes());
    packet.into()
}

impl Attrs {
    const SIZE: u32 = 1;
    const OWNER: u32 = 2;
    const MODE: u32 = 4;
    const TIMES: u32 = 8;
    const EXTENDED: u32 = 1 << 31;

    /// Whether nothing is told.
    pub fn is_nothing(&self) -> bool {
        *self == Self::default()
    }

    /// Of what is set, the time of access is that of change.
    fn pack(&self, into: &mut Vec<u8>) {
        let mode = self.mode.map(|mode| (Self::MODE, vec![mode]));
        let times = self.modified.map(|time| (Self::TIMES, vec![time, time]));
        let parts: Vec<_> = mode.into_iter().chain(times).collect();
        let flags = parts.iter().fold(0, |flags, (flag, _)| flags | flag);
        for number in std::iter::once(flags).chain(parts.into_iter().flat_map(|(_, numbers)| numbers)) {
            into.extend_from_slice(&number.to_be_bytes());
        }
    }
}

/// What is left of an answer.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, len: usize) -> Asked<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len).ok_or(Fault::Odd)?;
        self.0 = rest;
        Ok(taken)
    }

    fn number(&mut self) -> Asked<u32> {
        Ok(u32::from_be_bytes(self.take(4)?.try_into().map_err(|_| Fault::Odd)?))
    }

    fn long(&mut self) -> Asked<u64> {
        Ok(u64::from_be_bytes(self.take(8)?.try_into().map_err(|_| Fault::Odd)?))
    }

    fn string(&mut self) -> Asked<&'a [u8]> {
        let len = self.number()?;
        self.take(len as usize)
    }

    fn attrs(&mut self) -> Asked<Attrs> {
        let flags = self.number()?;
        let mut attrs = Attrs::default();
        if flags & Attrs::SIZE != 0 {
            attrs.size = Some(self.long()?);
        }
        if flags & Attrs::OWNER != 0 {
            attrs.owner = Some((self.number()?, self.number()?));
        }
        if flags & Attrs::MODE != 0 {
            attrs.mode = Some(self.number()?);
        }
        if flags & Attrs::TIMES != 0 {
            self.number()?;
            attrs.modified = Some(self.number()?);
        }
        if flags & Attrs::EXTENDED != 0 {
            // It ends where there is no more, whatever is said of how many there are.
            for _ in 0..self.number()? {
                self.string()?;
                self.string()?;
            }
        }
        Ok(attrs)
    }

    fn entries(&mut self) -> Asked<Vec<Entry>> {
        let mut entries = Vec::new();
        for _ in 0..self.number()? {
            let name = self.string()?.to_vec();
            // The same for people.
            self.string()?;
            entries.push(Entry { name, attrs: self.attrs()? });
        }
        Ok(entries)
    }
}

async fn send_all(
    channel: ChannelWriteHalf<Msg>,
    mut packets: mpsc::UnboundedReceiver<Bytes>,
    waiting: Arc<Mutex<Waiting>>,
) {
    while let Some(packet) = packets.recv().await {
        if channel.data_bytes(packet).await.is_err() {
            return close(&waiting);
        }
    }
    let _ = channel.close().await;
}

async fn take_all(mut channel: ChannelReadHalf, waiting: Arc<Mutex<Waiting>>) {
    let mut came = Vec::new();
    while let Some(message) = channel.wait().await {
        lock(&waiting).heard = Some(Instant::now());
        match message {
            ChannelMsg::Data { data } => came.extend_from_slice(&data),
            ChannelMsg::Eof | ChannelMsg::Close => break,
            _ => continue,
        }
        let Some(used) = deliver(&came, &waiting) else { break };
        came.drain(..used);
    }
    close(&waiting);
}

/// Hands packets to those who asked, and tells how much that was. `None` for what is no packet.
fn deliver(came: &[u8], waiting: &Mutex<Waiting>) -> Option<usize> {
    let mut fields = Fields(came);
    loop {
        let left = fields.0;
        let Ok(packet) = fields.string() else {
            let len = left.first_chunk().map_or(0, |len| u32::from_be_bytes(*len));
            return (len as usize <= LARGEST).then_some(came.len() - left.len());
        };
        let (&kind, rest) = packet.split_first().filter(|_| packet.len() <= LARGEST)?;
        let (number, body) = match kind {
            kind::VERSION => (0, rest),
            _ => {
                let (number, body) = rest.split_first_chunk()?;
                (u32::from_be_bytes(*number), body)
            }
        };
        // Who does not wait any more is told nothing.
        if let Some(asked) = lock(waiting).asked.remove(&number) {
            let _ = asked.send((kind, body.to_vec()));
        }
    }
}

/// Whoever still waits goes on.
fn close(waiting: &Mutex<Waiting>) {
    let mut waiting = lock(waiting);
    waiting.is_closed = true;
    waiting.asked.clear();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_its_length_its_type_its_number_and_its_parts() {
        let attrs = Attrs { mode: Some(0o644), modified: Some(7), ..Attrs::default() };
        let packet = packet(9, 5, &["ab".into(), Part::Attrs(attrs)]);
        let want: &[&[u8]] =
            &[&[0, 0, 0, 27, 9, 0, 0, 0, 5, 0, 0, 0, 2], b"ab", &[0, 0, 0, 12, 0, 0, 1, 0xa4, 0, 0, 0, 7, 0, 0, 0, 7]];
        assert_eq!(&packet[..], want.concat());
        assert_eq!(Fields(&packet[15..]).attrs().unwrap(), attrs);
    }

    #[test]
    fn what_is_cut_or_claims_too_much_is_an_error() {
        let mut names = vec![0, 0, 0, 1, 0, 0, 0, 1, b'x', 0, 0, 0, 0, 0x80, 0, 0, 15];
        names.extend_from_slice(&[0; 8]);
        names.extend_from_slice(&[0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0x41, 0xed, 0, 0, 0, 3, 0, 0, 0, 4]);
        names.extend_from_slice(&[0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0]);
        let attrs = Attrs { size: Some(0), owner: Some((1, 2)), mode: Some(0o40755), modified: Some(4) };
        let entry = Entry { name: b"x".to_vec(), attrs };
        assert_eq!(Fields(&names).entries().unwrap(), [entry]);
        for len in 0..names.len() {
            assert_eq!(Fields(&names[..len]).entries(), Err(Fault::Odd), "{len}");
        }
        names[..4].copy_from_slice(&u32::MAX.to_be_bytes());
        assert_eq!(Fields(&names).entries(), Err(Fault::Odd));
    }

    #[test]
    fn packets_are_taken_when_they_are_whole_and_one_that_is_too_long_is_none() {
        let waiting = Mutex::new(Waiting::default());
        let (answer, mut asked) = oneshot::channel();
        lock(&waiting).asked.insert(7, answer);
        let whole = [0, 0, 0, 6, 101, 0, 0, 0, 7, 9, 0, 0, 0, 5, 103, 0, 0, 0, 8];
        assert_eq!(deliver(&whole[..9], &waiting), Some(0));
        assert_eq!(deliver(&whole[..12], &waiting), Some(10));
        assert_eq!(asked.try_recv(), Ok((101, vec![9])));
        assert_eq!(deliver(&whole, &waiting), Some(whole.len()));
        for bad in [&[0x7f, 0, 0, 0, 1][..], &[0, 0, 0, 0], &[0, 0, 0, 2, 101, 1]] {
            assert_eq!(deliver(bad, &waiting), None, "{bad:?}");
        }
    }
}
