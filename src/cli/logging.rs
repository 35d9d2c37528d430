//! Where log lines go: to stderr in the foreground, to syslog (which journald reads too) or a file from a daemon.

use crate::pool::lock;
use log::{Level, LevelFilter, Log, Metadata, Record};
use std::collections::HashSet;
use std::fs::File;
use std::io::Write;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::sync::{LazyLock, Mutex, OnceLock};

enum Sink {
    Stderr,
    Syslog(UnixDatagram),
    File(Mutex<File>),
    Nowhere,
}

static SINK: OnceLock<Sink> = OnceLock::new();

struct Logger;

static LOGGER: Logger = Logger;

/// Begins with stderr: warnings, or more of it.
pub fn start(verbose: u8, debug: bool, quiet: bool) {
    let level = match verbose {
        _ if debug => LevelFilter::Debug,
        _ if quiet => LevelFilter::Error,
        0 => LevelFilter::Warn,
        1 => LevelFilter::Info,
        2 => LevelFilter::Debug,
        _ => LevelFilter::Trace,
    };
    log::set_max_level(level);
    // Fails only when there is a logger already.
    let _ = log::set_logger(&LOGGER);
}

/// A daemon has no stderr for long: from now on lines go to this file, or to syslog.
pub fn start_daemon(file: Option<&Path>) {
    log::set_max_level(log::max_level().max(LevelFilter::Info));
    let _ = SINK.set(file.map_or_else(syslog, to_file));
}

fn to_file(path: &Path) -> Sink {
    let file = File::options().append(true).create(true).open(path);
    file.map_or(Sink::Nowhere, |file| Sink::File(Mutex::new(file)))
}

fn syslog() -> Sink {
    let connected = UnixDatagram::unbound().and_then(|socket| {
        socket.connect("/dev/log")?;
        // A syslog that hangs must not hold up a read.
        socket.set_nonblocking(true)?;
        Ok(socket)
    });
    connected.map_or(Sink::Nowhere, Sink::Syslog)
}

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        // What the crates below tell is of use only when everything is told.
        metadata.target().starts_with("stmount") || log::max_level() == LevelFilter::Trace
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let text = record.args().to_string().replace('\n', "\\n");
        if record.level() == Level::Warn && is_repeated(&text) {
            return;
        }
        match SINK.get().unwrap_or(&Sink::Stderr) {
            Sink::Stderr => super::say::notice(&format!("stmount: {}", prefixed(record.level(), &text))),
            Sink::Syslog(socket) => {
                let line = format!("<{}>stmount[{}]: {text}", priority(record.level()), std::process::id());
                let _ = socket.send(line.as_bytes());
            }
            Sink::File(file) => {
                let now = super::say::date(crate::tree::Time::now().secs);
                let mut file = lock(file);
                let _ = writeln!(file, "{now} {} {text}", record.level());
            }
            Sink::Nowhere => {}
        }
    }

    fn flush(&self) {}
}

/// Warnings that are remembered, so that each is told once.
const REMEMBERED: usize = 1000;

/// Whether this warning was told already: a reader of damaged data asks for them again and again.
fn is_repeated(text: &str) -> bool {
    static TOLD: LazyLock<Mutex<HashSet<String>>> = LazyLock::new(Mutex::default);
    let mut told = lock(&TOLD);
    if told.len() >= REMEMBERED {
        told.clear();
    }
    !told.insert(text.to_owned())
}

fn prefixed(level: Level, text: &str) -> String {
    match level {
        Level::Error => text.to_owned(),
        Level::Warn => format!("warning: {text}"),
        Level::Info | Level::Debug | Level::Trace => text.to_owned(),
    }
}

/// The facility `daemon` (3) and the severity, as syslog(3) counts them.
fn priority(level: Level) -> u8 {
    let severity = match level {
        Level::Error => 3,
        Level::Warn => 4,
        Level::Info => 6,
        Level::Debug | Level::Trace => 7,
    };
    (3 << 3) | severity
}
