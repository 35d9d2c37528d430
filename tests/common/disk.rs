//! A disk in memory that remembers what was written and synced, so that a test can ask what a power failure would leave.

use std::ops::Range;
use std::sync::Mutex;
use stmount::error::{Error, Kind, Result};
use stmount::source::{ReadAt, Store};

/// What a power failure keeps or loses as a whole.
pub const SECTOR: usize = 512;

#[derive(Clone, Debug)]
pub enum Event {
    Write(u64, Vec<u8>),
    SetLen(u64),
    Punch(Range<u64>),
    Sync,
}

#[derive(Default)]
pub struct Disk {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    bytes: Vec<u8>,
    events: Vec<Event>,
    /// Bytes that the disk has room for; unlimited without.
    room: Option<u64>,
    reserved: u64,
    /// Calls until one fails with an input or output error.
    fails_in: Option<u32>,
}

impl Disk {
    pub fn new(bytes: Vec<u8>) -> Self {
        Self { inner: Mutex::new(Inner { bytes, ..Inner::default() }) }
    }

    pub fn events(&self) -> Vec<Event> {
        self.inner.lock().unwrap().events.clone()
    }

    pub fn count(&self) -> usize {
        self.inner.lock().unwrap().events.len()
    }

    pub fn bytes(&self) -> Vec<u8> {
        self.inner.lock().unwrap().bytes.clone()
    }

    pub fn set_room(&self, room: Option<u64>) {
        self.inner.lock().unwrap().room = room;
    }

    /// The call of that number from now on that writes, sets the length or syncs fails.
    pub fn fail_in(&self, calls: Option<u32>) {
        self.inner.lock().unwrap().fails_in = calls;
    }
}

impl Inner {
    fn call(&mut self) -> Result<()> {
        match &mut self.fails_in {
            Some(0) => {
                self.fails_in = None;
                Err(Error::new(Kind::Io, "the disk fails"))
            }
            Some(calls) => {
                *calls -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn grow(&mut self, to: u64) -> Result<()> {
        if self.room.is_some_and(|room| to > room.max(self.reserved)) {
            return Err(Error::new(Kind::NoSpace, "the disk is full"));
        }
        Ok(())
    }
}

pub fn apply(bytes: &mut Vec<u8>, event: &Event) {
    match event {
        Event::Write(at, new) => {
            let end = *at as usize + new.len();
            if bytes.len() < end {
                bytes.resize(end, 0);
            }
            bytes[*at as usize..end].copy_from_slice(new);
        }
        Event::SetLen(len) => bytes.resize(*len as usize, 0),
        Event::Punch(range) => {
            let end = (range.end as usize).min(bytes.len());
            bytes[(range.start as usize).min(end)..end].fill(0);
        }
        Event::Sync => {}
    }
}

/// What may be on the disk when the power fails behind `count` events: all that was synced, and of what came later any
/// sectors. `keeps` is asked for each of them.
pub fn after_power_failure(first: &[u8], events: &[Event], count: usize, keeps: &mut dyn FnMut() -> bool) -> Vec<u8> {
    let synced = events[..count].iter().rposition(|e| matches!(e, Event::Sync)).map_or(0, |i| i + 1);
    let mut bytes = first.to_vec();
    events[..synced].iter().for_each(|event| apply(&mut bytes, event));
    for event in &events[synced..count] {
        let Event::Write(at, new) = event else {
            if keeps() {
                apply(&mut bytes, event);
            }
            continue;
        };
        let mut from = 0;
        while from < new.len() {
            let place = *at as usize + from;
            let len = (SECTOR - place % SECTOR).min(new.len() - from);
            if keeps() {
                apply(&mut bytes, &Event::Write(place as u64, new[from..from + len].to_vec()));
            }
            from += len;
        }
    }
    bytes
}

impl ReadAt for Disk {
    fn len(&self) -> Result<u64> {
        Ok(self.inner.lock().unwrap().bytes.len() as u64)
    }

    fn read_at(&self, at: u64, into: &mut [u8]) -> Result<usize> {
        let inner = self.inner.lock().unwrap();
        let rest = inner.bytes.get(at as usize..).unwrap_or(&[]);
        let len = rest.len().min(into.len());
        into[..len].copy_from_slice(&rest[..len]);
        Ok(len)
    }
}

impl Store for Disk {
    fn write_at(&self, at: u64, bytes: &[u8]) -> Result<()> {
        let mut inner = self.inner.lock().unwrap();
        inner.call()?;
        inner.grow(at + bytes.len() as u64)?;
        let event = Event::Write(at, bytes.to_vec());
        apply(&mut inner.bytes, &event);
        inner.events.push(event);
        Ok(())
    }

    fn set_len(&self, len: u64) -> Result<()> {
        let mut inner = self.inner.lock().unwrap();
        inner.call()?;
        let event = Event::SetLen(len);
        apply(&mut inner.bytes, &event);
        inner.reserved = inner.reserved.min(len);
        inner.events.push(event);
        Ok(())
    }

    fn sync(&self) -> Result<()> {
        let mut inner = self.inner.lock().unwrap();
        inner.call()?;
        inner.events.push(Event::Sync);
        Ok(())
    }

    fn reserve(&self, range: Range<u64>) -> Result<()> {
        let mut inner = self.inner.lock().unwrap();
        inner.grow(range.end)?;
        inner.reserved = inner.reserved.max(range.end);
        Ok(())
    }

    fn free(&self) -> Result<u64> {
        let inner = self.inner.lock().unwrap();
        Ok(inner.room.map_or(u64::MAX, |room| room.saturating_sub(inner.reserved.max(inner.bytes.len() as u64))))
    }

    fn punch(&self, range: Range<u64>) -> Result<bool> {
        let mut inner = self.inner.lock().unwrap();
        inner.call()?;
        let event = Event::Punch(range);
        apply(&mut inner.bytes, &event);
        inner.events.push(event);
        Ok(true)
    }
}
