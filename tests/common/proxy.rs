//! A line between two programs on the loopback, which can be broken in the ways that lines break.

#![allow(dead_code)]

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// Passes on what comes at its port to another one.
pub struct Proxy {
    pub port: u16,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    /// Connections so far.
    count: AtomicU64,
    /// Those before this one are silent.
    first_heard: AtomicU64,
    is_away: AtomicBool,
    is_closed: AtomicBool,
    lines: Mutex<Vec<TcpStream>>,
}

impl Proxy {
    pub fn to(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (own, shared) = (listener.local_addr().unwrap().port(), Arc::<Shared>::default());
        let theirs = shared.clone();
        thread::spawn(move || {
            for near in listener.incoming().flatten() {
                if theirs.is_closed.load(SeqCst) {
                    return;
                }
                pass_on(near, port, &theirs);
            }
        });
        Self { port: own, shared }
    }

    /// From now on nothing comes through the connections that there are, and nobody says so. New ones are good.
    pub fn is_silent(&self) {
        self.shared.first_heard.store(self.shared.count.load(SeqCst), SeqCst);
    }

    /// Connections so far.
    pub fn count(&self) -> u64 {
        self.shared.count.load(SeqCst)
    }

    /// The other end goes away for some time: all connections are reset, and new ones, too.
    pub fn is_away_for(&self, time: Duration) {
        self.shared.is_away.store(true, SeqCst);
        for line in self.shared.lines.lock().unwrap().drain(..) {
            reset(&line);
        }
        let shared = self.shared.clone();
        thread::spawn(move || {
            thread::sleep(time);
            shared.is_away.store(false, SeqCst);
        });
    }
}

impl Proxy {
    /// Before its time.
    pub fn is_back(&self) {
        self.shared.is_away.store(false, SeqCst);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.is_closed.store(true, SeqCst);
        for line in self.shared.lines.lock().unwrap().drain(..) {
            let _ = line.shutdown(Shutdown::Both);
        }
        // It waits for somebody who comes.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

fn reset(line: &TcpStream) {
    let _ = rustix::net::sockopt::set_socket_linger(line, Some(Duration::ZERO));
    let _ = line.shutdown(Shutdown::Both);
}

fn pass_on(near: TcpStream, port: u16, shared: &Arc<Shared>) {
    let far = TcpStream::connect(("127.0.0.1", port)).ok().filter(|_| !shared.is_away.load(SeqCst));
    let Some(far) = far else { return reset(&near) };
    let number = shared.count.fetch_add(1, SeqCst);
    shared.lines.lock().unwrap().extend([near.try_clone().unwrap(), far.try_clone().unwrap()]);
    for (from, to, is_answer) in [(&near, &far, false), (&far, &near, true)] {
        let (from, to, shared) = (from.try_clone().unwrap(), to.try_clone().unwrap(), shared.clone());
        thread::spawn(move || pump(&from, &to, number, is_answer, &shared));
    }
}

fn pump(mut from: &TcpStream, mut to: &TcpStream, number: u64, is_answer: bool, shared: &Arc<Shared>) {
    let mut piece = vec![0; 64 << 10];
    loop {
        let read = from.read(&mut piece).unwrap_or(0);
        // What comes is taken, as by a router that forgets it.
        let is_silent = number < shared.first_heard.load(SeqCst);
        match read {
            0 if is_silent => return,
            0 => return drop(to.shutdown(Shutdown::Write)),
            _ if is_silent => continue,
            _ => {}
        }
        let own = if is_answer { port_for_data(&piece[..read], shared) } else { None };
        if to.write_all(own.as_deref().unwrap_or(&piece[..read])).is_err() {
            return drop(from.shutdown(Shutdown::Both));
        }
    }
}

/// A server of FTP names a port for data: it goes the same way.
fn port_for_data(reply: &[u8], shared: &Arc<Shared>) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(reply).ok().filter(|text| text.starts_with("229 "))?;
    let port: u16 = text.split("|||").nth(1)?.split('|').next()?.parse().ok()?;
    let listener = TcpListener::bind("127.0.0.1:0").ok()?;
    let own = listener.local_addr().ok()?.port();
    let shared = shared.clone();
    thread::spawn(move || {
        if let Ok((near, _)) = listener.accept() {
            pass_on(near, port, &shared);
        }
    });
    Some(text.replace(&port.to_string(), &own.to_string()).into_bytes())
}
