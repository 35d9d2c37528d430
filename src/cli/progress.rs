//! Progress of long work, on stderr: a bar, lines, or JSON lines.
//!
//! The work tells numbers from any thread; one ticker shows them, so that telling costs two additions.

use super::args::{Common, Progress as How};
use super::say;
use crate::error::Error;
use crate::formats::Watch;
use crate::pool::lock;
use crate::tree::path_display;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::json;
use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Style {
    Bar,
    Lines(Duration),
    Json(Duration),
    Silent,
}

/// Follows one piece of work and shows it.
pub struct Progress {
    op: &'static str,
    style: Style,
    begun: Instant,
    numbers: Numbers,
    bar: ProgressBar,
    ended: (Mutex<bool>, Condvar),
    /// The signal that ended the work, or 0.
    signal: Arc<AtomicI32>,
    cancelled: Arc<AtomicBool>,
}

#[derive(Default)]
struct Numbers {
    total: AtomicU64,
    total_entries: AtomicU64,
    done: AtomicU64,
    entries: AtomicU64,
    current: Mutex<Vec<u8>>,
}

impl Progress {
    pub fn new(op: &'static str, common: &Common) -> Arc<Self> {
        let terminal = io::stderr().is_terminal();
        let style = match common.progress {
            _ if common.quiet => Style::Silent,
            How::Auto if terminal => Style::Bar,
            How::Auto => Style::Lines(Duration::from_secs(10)),
            How::Bar => Style::Bar,
            How::Plain => Style::Lines(Duration::from_secs(2)),
            How::Json => Style::Json(Duration::from_millis(500)),
            How::None => Style::Silent,
        };
        let progress = Arc::new(Self {
            op,
            style,
            begun: Instant::now(),
            numbers: Numbers::default(),
            bar: bar(style),
            ended: (Mutex::new(false), Condvar::new()),
            signal: Arc::default(),
            cancelled: Arc::default(),
        });
        let ticker = progress.clone();
        // Without a thread for it there is no progress to see; the work itself goes on.
        let _ = std::thread::Builder::new().name("progress".into()).spawn(move || ticker.tick());
        progress
    }

    /// How far somebody else is.
    pub fn set(&self, total: u64, done: u64) {
        self.numbers.total.store(total, Relaxed);
        self.numbers.done.store(done, Relaxed);
    }

    /// Runs work that this progress follows: a signal cancels it, and a second one ends the process at once, after
    /// `clean`.
    pub fn guard<T>(&self, clean: impl Fn() + Send + 'static, work: impl FnOnce() -> T) -> T {
        use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
        let Ok(mut signals) = signal_hook::iterator::Signals::new([SIGINT, SIGTERM, SIGHUP]) else { return work() };
        let handle = signals.handle();
        let (cancelled, got) = (self.cancelled.clone(), self.signal.clone());
        let thread = std::thread::spawn(move || {
            for signal in signals.forever() {
                if cancelled.swap(true, Relaxed) {
                    clean();
                    std::process::exit(i32::from(super::exit::of_signal(signal)));
                }
                got.store(signal, Relaxed);
            }
        });
        let result = work();
        handle.close();
        let _ = thread.join();
        result
    }

    /// The signal that cancelled the work.
    pub fn signal(&self) -> Option<i32> {
        Some(self.signal.load(Relaxed)).filter(|s| *s != 0)
    }

    pub fn took(&self) -> Duration {
        self.begun.elapsed()
    }

    /// Ends the display and writes the last line: words for people, and `summary` with the exit code for programs.
    pub fn finish(&self, words: &str, mut summary: serde_json::Value, exit: u8) {
        *lock(&self.ended.0) = true;
        self.ended.1.notify_all();
        self.bar.finish_and_clear();
        match self.style {
            Style::Json(_) => {
                summary["type"] = "summary".into();
                summary["op"] = self.op.into();
                summary["exit"] = exit.into();
                line(&summary);
            }
            Style::Bar | Style::Lines(_) if !words.is_empty() => say::notice(words),
            Style::Bar | Style::Lines(_) | Style::Silent => {}
        }
    }

    /// Whether errors are to be told as JSON lines too.
    pub fn is_json(&self) -> bool {
        matches!(self.style, Style::Json(_))
    }

    /// An error as a JSON line.
    pub fn tell_error(&self, e: &Error) {
        if self.is_json() {
            line(&json!({"type": "error", "op": self.op, "message": e.to_string(), "hint": e.advice()}));
        }
    }

    fn tick(&self) {
        let every = match self.style {
            Style::Bar => Duration::from_millis(100),
            Style::Lines(every) | Style::Json(every) => every,
            Style::Silent => return,
        };
        let mut ended = lock(&self.ended.0);
        loop {
            ended = self.ended.1.wait_timeout(ended, every).unwrap_or_else(PoisonError::into_inner).0;
            if *ended {
                return;
            }
            self.show();
        }
    }

    fn show(&self) {
        let n = &self.numbers;
        let (done, total, entries) = (n.done.load(Relaxed), n.total.load(Relaxed), n.entries.load(Relaxed));
        match self.style {
            Style::Bar => {
                self.bar.set_length(total.max(done));
                self.bar.set_position(done);
                self.bar.set_message(shown(&path_display(&lock(&n.current))));
            }
            Style::Lines(_) => say::notice(&self.words(done, total, entries)),
            Style::Json(_) => line(&json!({
                "type": "progress", "op": self.op, "done": done, "total": total, "entries": entries,
                "total_entries": n.total_entries.load(Relaxed), "file": path_display(&lock(&n.current)),
            })),
            Style::Silent => {}
        }
    }

    fn words(&self, done: u64, total: u64, entries: u64) -> String {
        let rate = done as f64 / self.took().as_secs_f64().max(0.001);
        let left = if done > 0 { total.saturating_sub(done) as f64 / rate.max(1.0) } else { 0.0 };
        let of = if total > 0 {
            format!(" of {} ({} %)", say::size(total), say::percent(done, total))
        } else {
            String::new()
        };
        let (done, rate, left) = (say::size(done), say::size(rate as u64), say::time(Duration::from_secs_f64(left)));
        format!("{}: {done}{of}, {}, {rate}/s, {left} left", self.op, say::counted(entries, "entry", "entries"))
    }
}

impl Watch for Progress {
    fn total(&self, bytes: u64, entries: u64) {
        self.numbers.total.store(bytes, Relaxed);
        self.numbers.total_entries.store(entries, Relaxed);
    }

    fn advance(&self, bytes: u64, entries: u64) {
        self.numbers.done.fetch_add(bytes, Relaxed);
        self.numbers.entries.fetch_add(entries, Relaxed);
    }

    fn entry(&self, path: &[u8]) {
        if self.style != Style::Silent {
            let mut current = lock(&self.numbers.current);
            current.clear();
            current.extend_from_slice(path);
        }
    }

    fn skipped(&self, path: &[u8], why: &Error) {
        match self.style {
            Style::Json(_) => {
                line(&json!({"type": "error", "op": self.op, "file": path_display(path), "message": why.to_string()}))
            }
            Style::Bar => self.bar.suspend(|| tell_skipped(path, why)),
            Style::Lines(_) | Style::Silent => tell_skipped(path, why),
        }
    }

    fn is_cancelled(&self) -> bool {
        self.cancelled.load(Relaxed)
    }
}

fn tell_skipped(path: &[u8], why: &Error) {
    say::problem(&format!("skipped {}: {why}", path_display(path)), why.advice());
}

fn bar(style: Style) -> ProgressBar {
    if style != Style::Bar {
        return ProgressBar::hidden();
    }
    let look = "{percent:>3} % [{bar:30}] {binary_bytes} of {binary_total_bytes}  {binary_bytes_per_sec}  {eta} left  {wide_msg}";
    let style = ProgressStyle::with_template(look).expect("the template is constant").progress_chars("=> ");
    ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr()).with_style(style)
}

fn shown(path: &str) -> String {
    say::for_terminal(path, true).replace('\n', "\\n")
}

fn line(value: &serde_json::Value) {
    let _ = writeln!(io::stderr().lock(), "{value}");
}
