//! A web server on the loopback that does what it should, and anything else when it is told to.

#![allow(dead_code)]

use std::collections::{HashMap, VecDeque};
use std::io::{BufRead, BufReader, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// What it does with one request instead of answering it.
#[derive(Clone, Debug)]
pub enum Fault {
    /// So many bytes of the body, and then the connection is closed.
    Cut(usize),
    /// The same with a reset.
    Reset(usize),
    /// Nothing, for so long.
    Hang(Duration),
    /// An answer whose body comes a byte at a time, with so long between.
    Trickle(Duration),
    /// This status, with these lines in the header.
    Status(u16, &'static str),
    /// All of it, though a part was asked for.
    Whole,
    /// A part that begins so many bytes further on, and says so.
    Shifted(u64),
    /// A part whose header says that it is the one that was asked for, and that is shorter than its length says.
    Short(usize),
    /// A length that is less than what comes.
    Long,
}

#[derive(Clone)]
struct Page {
    bytes: Arc<Vec<u8>>,
    tag: Option<String>,
}

/// One request, as it came.
#[derive(Clone, Debug)]
pub struct Asked {
    pub path: String,
    pub range: Option<String>,
    pub auth: Option<String>,
    /// Bytes of the answer's body.
    pub sent: u64,
}

#[derive(Default)]
struct Shared {
    pages: Mutex<HashMap<String, Page>>,
    faults: Mutex<VecDeque<Fault>>,
    /// Where else pages are.
    moved: Mutex<HashMap<String, String>>,
    asked: Mutex<Vec<Asked>>,
    /// What lets somebody in: `Basic …`, `Bearer …`.
    lets_in: Mutex<Option<String>>,
    knows_no_ranges: AtomicBool,
    is_closed: AtomicBool,
    /// Before each answer.
    latency_ms: AtomicU64,
    /// Of how many requests one is answered in some wrong way, by the dice; 0 for none.
    chaos: AtomicU64,
    dice: AtomicU64,
}

pub struct Web {
    pub port: u16,
    shared: Arc<Shared>,
}

impl Web {
    pub fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (port, shared) = (listener.local_addr().unwrap().port(), Arc::<Shared>::default());
        let theirs = shared.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if theirs.is_closed.load(Relaxed) {
                    return;
                }
                let shared = theirs.clone();
                thread::spawn(move || serve(&stream, &shared));
            }
        });
        Self { port, shared }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}/{path}", self.port)
    }

    /// Puts a page there, in place of one that may be there.
    pub fn put(&self, path: &str, bytes: &[u8]) {
        let tag = Some(format!("\"{}\"", blake3::hash(bytes).to_hex()));
        self.shared.pages.lock().unwrap().insert(format!("/{path}"), Page { bytes: Arc::new(bytes.to_vec()), tag });
    }

    /// The same for one whose version nobody tells.
    pub fn put_without_version(&self, path: &str, bytes: &[u8]) {
        let page = Page { bytes: Arc::new(bytes.to_vec()), tag: None };
        self.shared.pages.lock().unwrap().insert(format!("/{path}"), page);
    }

    /// Leads to another address.
    pub fn move_to(&self, path: &str, address: &str) {
        self.shared.moved.lock().unwrap().insert(format!("/{path}"), address.to_owned());
    }

    /// What it does with the next requests.
    pub fn then(&self, faults: &[Fault]) {
        self.shared.faults.lock().unwrap().extend(faults.iter().cloned());
    }

    pub fn forget_faults(&self) {
        self.shared.faults.lock().unwrap().clear();
    }

    pub fn lets_in(&self, who: &str) {
        *self.shared.lets_in.lock().unwrap() = Some(who.to_owned());
    }

    pub fn knows_no_ranges(&self) {
        self.shared.knows_no_ranges.store(true, Relaxed);
    }

    pub fn is_far(&self, latency: Duration) {
        self.shared.latency_ms.store(latency.as_millis() as u64, Relaxed);
    }

    /// One of so many requests goes wrong.
    pub fn chaos(&self, one_of: u64, seed: u64) {
        self.shared.dice.store(seed, Relaxed);
        self.shared.chaos.store(one_of, Relaxed);
    }

    /// What was asked since this was asked last.
    pub fn asked(&self) -> Vec<Asked> {
        std::mem::take(&mut self.shared.asked.lock().unwrap())
    }
}

impl Drop for Web {
    fn drop(&mut self) {
        self.shared.is_closed.store(true, Relaxed);
        // It waits for somebody who comes.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

fn serve(stream: &TcpStream, shared: &Shared) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    while !shared.is_closed.load(Relaxed) {
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            match reader.read_line(&mut line) {
                Ok(0) | Err(_) => return,
                Ok(_) if line.trim().is_empty() => break,
                Ok(_) => lines.push(line.trim().to_owned()),
            }
        }
        if shared.is_closed.load(Relaxed) || answer(stream, &lines, shared).is_none() {
            let _ = stream.shutdown(Shutdown::Both);
            return;
        }
    }
}

impl Shared {
    fn fault(&self) -> Option<Fault> {
        if let Some(fault) = self.faults.lock().unwrap().pop_front() {
            return Some(fault);
        }
        let one_of = self.chaos.load(Relaxed);
        let roll = || {
            let next = |x: u64| x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            next(self.dice.fetch_update(Relaxed, Relaxed, |x| Some(next(x))).unwrap()) >> 33
        };
        if one_of == 0 || roll() % one_of > 0 {
            return None;
        }
        Some(match roll() % 9 {
            0 => Fault::Cut((roll() % 100_000) as usize),
            1 => Fault::Reset((roll() % 100_000) as usize),
            2 => Fault::Hang(Duration::from_millis(300)),
            3 => Fault::Status(503, "Retry-After: 0\r\n"),
            4 => Fault::Status(500, ""),
            5 => Fault::Whole,
            6 => Fault::Shifted(roll() % 1000 + 1),
            7 => Fault::Short((roll() % 100_000) as usize),
            _ => Fault::Status(429, ""),
        })
    }
}

/// `bytes=a-b`, `bytes=a-`, `bytes=-n`
fn part(text: &str, len: u64) -> Option<(u64, u64)> {
    let (first, last) = text.strip_prefix("bytes=")?.split_once('-')?;
    let (first, end) = match (first, last) {
        ("", last) => (len.saturating_sub(last.parse().ok()?), len),
        (first, "") => (first.parse().ok()?, len),
        (first, last) => (first.parse().ok()?, (last.parse::<u64>().ok()? + 1).min(len)),
    };
    (first < end).then_some((first, end))
}

/// `None` when the connection ends with it.
fn answer(mut stream: &TcpStream, lines: &[String], shared: &Shared) -> Option<()> {
    let header = |name: &str| {
        lines.iter().skip(1).find_map(|line| {
            let (is, value) = line.split_once(':')?;
            is.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
        })
    };
    thread::sleep(Duration::from_millis(shared.latency_ms.load(Relaxed)));
    let path = lines.first()?.split(' ').nth(1)?.split('?').next()?.to_owned();
    let (range, auth) = (header("range"), header("authorization"));
    let note = |sent: u64| {
        let asked = Asked { path: path.clone(), range: range.clone(), auth: auth.clone(), sent };
        shared.asked.lock().unwrap().push(asked);
    };
    let mut say = |status: &str, more: &str, body: &[u8]| {
        let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n{more}\r\n", body.len());
        stream.write_all(head.as_bytes()).ok()?;
        stream.write_all(body).ok()
    };
    if shared.lets_in.lock().unwrap().as_ref().is_some_and(|who| Some(who) != auth.as_ref()) {
        note(0);
        return say("401 Unauthorized", "WWW-Authenticate: Basic realm=\"x\"\r\n", b"");
    }
    if let Some(address) = shared.moved.lock().unwrap().get(&path) {
        note(0);
        return say("302 Found", &format!("Location: {address}\r\n"), b"");
    }
    let fault = shared.fault();
    let page = shared.pages.lock().unwrap().get(&path).cloned();
    let Some(page) = page else {
        note(0);
        return say("404 Not Found", "", b"no such page");
    };
    let len = page.bytes.len() as u64;
    let is_old = header("if-range").is_some_and(|tag| page.tag.as_ref() != Some(&tag));
    let takes_ranges = !shared.knows_no_ranges.load(Relaxed) && !is_old && !matches!(fault, Some(Fault::Whole));
    let wanted = range.as_deref().filter(|_| takes_ranges).map(|range| part(range, len));
    let (mut first, mut end, is_part) = match wanted {
        Some(Some((first, end))) => (first, end, true),
        Some(None) => {
            note(0);
            return say("416 Range Not Satisfiable", &format!("Content-Range: bytes */{len}\r\n"), b"");
        }
        None => (0, len, false),
    };
    if let Some(Fault::Shifted(by)) = fault {
        (first, end) = ((first + by).min(len - 1), (end + by).min(len));
    }
    let mut body = &page.bytes[first as usize..end as usize];
    let mut length = body.len();
    let mut status = if is_part { "206 Partial Content" } else { "200 OK" }.to_owned();
    let mut more = page.tag.iter().map(|tag| format!("ETag: {tag}\r\n")).collect::<String>();
    if is_part {
        more.push_str(&format!("Content-Range: bytes {first}-{}/{len}\r\n", end - 1));
    }
    let mut ends = false;
    match &fault {
        Some(Fault::Hang(time)) => {
            note(0);
            thread::sleep(*time);
            return None;
        }
        Some(Fault::Status(code, lines)) => {
            status = format!("{code} As Told");
            more.push_str(lines);
            (body, length) = (b"", 0);
        }
        Some(Fault::Cut(bytes) | Fault::Reset(bytes) | Fault::Short(bytes)) => {
            body = &body[..body.len().min(*bytes)];
            ends = true;
        }
        Some(Fault::Long) => length /= 2,
        _ => {}
    }
    note(body.len() as u64);
    stream.write_all(format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\n{more}\r\n").as_bytes()).ok()?;
    match &fault {
        Some(Fault::Trickle(time)) => {
            for byte in body {
                stream.write_all(&[*byte]).ok()?;
                thread::sleep(*time);
            }
        }
        _ => stream.write_all(body).ok()?,
    }
    if let Some(Fault::Reset(_)) = fault {
        // What is not read when it is closed makes a reset of it.
        let _ = rustix::net::sockopt::set_socket_linger(stream, Some(Duration::ZERO));
    }
    let is_long = matches!(fault, Some(Fault::Long));
    if ends || is_long { None } else { Some(()) }
}
