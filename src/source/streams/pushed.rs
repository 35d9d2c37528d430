//! Codecs that push: they write decoded bytes until they are done, and cannot be asked for the next few.
//!
//! ```text
//!   its own thread:  Push ─► Out ─► pieces, two of which may wait ─► Decoder, who is asked for the next bytes
//! ```
//!
//! The thread begins with the first read, and ends when nobody reads any more: what it writes is refused then. Nobody waits
//! for it. A panic of the codec is an error of its data.

use super::input::{Input, unwrap};
use crate::codec::damaged;
use crate::error::{Error, Kind, Result};
use crate::source::{Decoder, Point, ReadAt, Stream};
use std::io::{self, Read, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

/// Bytes that are handed over at once.
const PIECE: usize = 128 << 10;

/// Pieces that may wait.
const WAITING: usize = 2;

/// Room for a thread: codecs nest little.
const STACK: usize = 2 << 20;

/// What pushes.
pub trait Push: Send + Sync + 'static {
    /// Writes all decoded bytes.
    fn push(&self, out: &mut Out) -> Result<()>;

    /// The decoded length, where it is known.
    fn size(&self) -> Option<u64>;

    /// Bytes of memory that the codec occupies when it has come to this position.
    fn weight(&self, at: u64) -> usize;
}

/// A stream that is pushed.
pub struct Pushed<P>(Arc<P>);

impl<P: Push> Pushed<P> {
    pub fn new(push: P) -> Self {
        Self(Arc::new(push))
    }
}

impl<P: Push> Stream for Pushed<P> {
    fn start(&self, from: Option<&Point>) -> Result<Box<dyn Decoder>> {
        if from.is_some() {
            return Err(damaged("this codec has no points"));
        }
        let (push, gone) = (self.0.clone(), Gone::default());
        let (pieces, piece) = (None, Vec::new());
        Ok(Box::new(PushedDecoder { push, gone, pieces, piece, at: 0, passed: 0, is_over: false }))
    }

    fn len(&self) -> Option<u64> {
        self.0.size()
    }
}

/// Whether the reader has gone.
#[derive(Clone, Default)]
pub struct Gone(Arc<AtomicBool>);

impl Gone {
    fn is_it(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

fn nobody_reads() -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, "nobody reads any more")
}

/// Where decoded bytes are written.
pub struct Out {
    piece: Vec<u8>,
    sender: SyncSender<Result<Vec<u8>>>,
    gone: Gone,
}

impl Out {
    /// For inputs, which end when the reader has gone.
    pub fn gone(&self) -> Gone {
        self.gone.clone()
    }

    fn hand_over(&mut self) -> io::Result<()> {
        if self.piece.is_empty() {
            return Ok(());
        }
        let piece = std::mem::take(&mut self.piece);
        self.sender.send(Ok(piece)).map_err(|_| nobody_reads())
    }
}

impl Write for Out {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.gone.is_it() {
            return Err(nobody_reads());
        }
        if self.piece.capacity() == 0 {
            self.piece.reserve_exact(PIECE);
        }
        let len = bytes.len().min(PIECE - self.piece.len());
        self.piece.extend_from_slice(&bytes[..len]);
        if self.piece.len() == PIECE {
            self.hand_over()?;
        }
        Ok(len)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct PushedDecoder<P> {
    push: Arc<P>,
    gone: Gone,
    pieces: Option<Receiver<Result<Vec<u8>>>>,
    piece: Vec<u8>,
    at: usize,
    /// Bytes that were read.
    passed: u64,
    is_over: bool,
}

impl<P: Push> PushedDecoder<P> {
    fn begin(&self) -> Result<Receiver<Result<Vec<u8>>>> {
        let (sender, receiver) = sync_channel(WAITING);
        let (push, gone) = (self.push.clone(), self.gone.clone());
        let work = move || {
            let mut out = Out { piece: Vec::new(), sender, gone };
            let done = catch_unwind(AssertUnwindSafe(|| push.push(&mut out)));
            let done = done.unwrap_or_else(|_| Err(damaged("the data make the decoder fail")));
            // What came out before an error goes in front of it. Who has gone does not mind.
            let _ = out.hand_over();
            if let Err(e) = done {
                let _ = out.sender.send(Err(e));
            }
        };
        let thread = std::thread::Builder::new().name("decoder".into()).stack_size(STACK);
        thread.spawn(work).map_err(|e| Error::new(Kind::System, "no thread for a decoder").caused_by(e))?;
        Ok(receiver)
    }
}

impl<P: Push> Decoder for PushedDecoder<P> {
    fn read(&mut self, into: &mut [u8]) -> Result<usize> {
        if into.is_empty() {
            return Ok(0);
        }
        if self.at == self.piece.len() {
            if self.is_over {
                return Ok(0);
            }
            if self.pieces.is_none() {
                self.pieces = Some(self.begin()?);
            }
            match self.pieces.as_ref().and_then(|pieces| pieces.recv().ok()) {
                Some(piece) => (self.piece, self.at) = (piece?, 0),
                None => {
                    self.is_over = true;
                    return Ok(0);
                }
            }
        }
        let len = into.len().min(self.piece.len() - self.at);
        into[..len].copy_from_slice(&self.piece[self.at..self.at + len]);
        self.at += len;
        self.passed += len as u64;
        Ok(len)
    }

    fn weight(&self) -> usize {
        let ahead = (WAITING + 2) * PIECE;
        self.push.weight(self.passed + ahead as u64).saturating_add(ahead + size_of::<Self>())
    }
}

impl<P> Drop for PushedDecoder<P> {
    fn drop(&mut self) {
        self.gone.0.store(true, Ordering::Relaxed);
    }
}

/// A source as a reader for such a codec. It ends when the reader of the decoded bytes has gone.
pub struct PushInput {
    input: Input,
    gone: Gone,
    failed: Option<Error>,
}

impl PushInput {
    pub fn new(source: Arc<dyn ReadAt>, gone: Gone) -> Result<Self> {
        Ok(Self { input: Input::new(source, 0)?, gone, failed: None })
    }

    /// The error of the source, if it had one; else this one of the codec.
    pub fn blame(&mut self, what: String) -> Error {
        self.failed.take().unwrap_or_else(|| self.input.damaged(&what))
    }
}

impl Read for PushInput {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.gone.is_it() {
            return Err(nobody_reads());
        }
        self.input.read(into).map_err(|e| match unwrap(e) {
            Ok(ours) => {
                self.failed = Some(ours);
                io::Error::other("the source failed")
            }
            Err(e) => e,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    /// Pushes so many bytes, then does something else.
    struct Counter(u64, fn() -> Result<()>, Arc<AtomicBool>);

    impl Push for Counter {
        fn push(&self, out: &mut Out) -> Result<()> {
            for n in 0..self.0 {
                if out.write_all(&[n as u8]).is_err() {
                    self.2.store(true, Ordering::SeqCst);
                    return Ok(());
                }
            }
            self.1()
        }

        fn size(&self) -> Option<u64> {
            None
        }

        fn weight(&self, _at: u64) -> usize {
            1000
        }
    }

    fn started(len: u64, end: fn() -> Result<()>) -> (Box<dyn Decoder>, Arc<AtomicBool>) {
        let ended = Arc::new(AtomicBool::new(false));
        (Pushed::new(Counter(len, end, ended.clone())).start(None).unwrap(), ended)
    }

    fn all(mut decoder: Box<dyn Decoder>) -> (usize, Option<Kind>) {
        let (mut piece, mut len) = ([0; 1000], 0);
        loop {
            match decoder.read(&mut piece) {
                Ok(0) => return (len, None),
                Ok(got) => {
                    assert!((0..got).all(|i| piece[i] == (len + i) as u8));
                    len += got;
                }
                Err(e) => return (len, Some(e.kind())),
            }
        }
    }

    #[test]
    fn what_is_pushed_is_read() {
        for len in [0, 1, PIECE as u64 - 1, PIECE as u64, 1_000_000] {
            assert_eq!(all(started(len, || Ok(())).0), (len as usize, None));
        }
    }

    #[test]
    fn errors_and_panics_come_behind_what_was_pushed() {
        let failing = started(200_000, || Err(Error::new(Kind::NeedsPassword, "x")));
        assert_eq!(all(failing.0), (200_000, Some(Kind::NeedsPassword)));
        let panicking = started(200_000, || std::panic::resume_unwind(Box::new(())));
        assert_eq!(all(panicking.0), (200_000, Some(Kind::Damaged)));
    }

    #[test]
    fn the_thread_ends_when_nobody_reads() {
        let (mut decoder, ended) = started(u64::MAX, || Ok(()));
        assert_eq!(decoder.read(&mut [0; 10]).unwrap(), 10);
        drop(decoder);
        let begun = Instant::now();
        while !ended.load(Ordering::SeqCst) {
            assert!(begun.elapsed() < Duration::from_secs(60), "it goes on");
            std::thread::yield_now();
        }
    }
}
