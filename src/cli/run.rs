//! `run`: mount, run a command in it, unmount when its last process is gone.
//!
//! ```text
//!  run ──► stmount mount ──► daemon         the daemon unmounts when `run` dies, by the end of its standard input
//!   │
//!   ├─ becomes the reaper of its descendants: a launcher that starts the game and exits hands it over to us
//!   └─► CMD ──► its children ...             waited for until none is left
//! ```

use super::args;
use super::{daemon, exit, plan, say, unmount};
use crate::error::{Error, Kind, Result};
use crate::mount::session::{self, Register, absolute};
use crate::mount::{self, place};
use rustix::process::{Pid, Signal, WaitOptions, WaitStatus};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::{SignalsInfo, exfiltrator::WithOrigin};
use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// So long others may take to leave the mount after the command has ended.
const PATIENCE: Duration = Duration::from_secs(3);

/// Where to mount, and what to remove afterwards, innermost first.
struct Place {
    at: PathBuf,
    made: Vec<PathBuf>,
}

impl Drop for Place {
    fn drop(&mut self) {
        for dir in &self.made {
            let _ = std::fs::remove_dir(dir);
        }
    }
}

pub fn run(given: &args::Run) -> Result<u8> {
    let options = options_of(given);
    plan::mount_options(&options)?;
    let source = plan::existing(&given.source)?;
    let place = place_for(&source, given.mountpoint.as_deref())?;
    let lifeline = match daemon::mount_for(&source, &place.at, &options)? {
        Ok(lifeline) => lifeline,
        Err(code) => return Ok(code),
    };
    let code = run_inside(&place.at, &given.command);
    let taken = take_away(&place.at);
    drop(lifeline);
    taken?;
    code
}

/// The options of the mount, with what is recorded.
fn options_of(given: &args::Run) -> args::MountOptions {
    let mut options = given.options.clone();
    options.option.extend(given.record.as_ref().map(|file| match file {
        None => "record".to_owned(),
        Some(file) => format!("record={}", mount::escaped(&absolute(file).display().to_string())),
    }));
    options
}

fn place_for(source: &Path, named: Option<&Path>) -> Result<Place> {
    if let Some(named) = named {
        let at = place::prepare(named).map_err(|e| match is_program(named) {
            true => e.hint(format!("stmount run SOURCE -- {}, if that is the command", named.display())),
            false => e,
        })?;
        return Ok(Place { at, made: Vec::new() });
    }
    let private = session::private_dir("run")?;
    let at = private.join(super::plan::stem(source));
    let place = Place { at: at.clone(), made: vec![at.clone(), private] };
    std::fs::create_dir(&at).map_err(|e| Error::io(e, format!("cannot make {}", at.display())))?;
    Ok(place)
}

/// A path that was meant as the command: a file, or something that is relative to a mount which is not there yet.
fn is_program(path: &Path) -> bool {
    path.is_file() || path.starts_with(".")
}

fn run_inside(place: &Path, command: &[OsString]) -> Result<u8> {
    // Orphans of the command come to this process, not to init.
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
        .map_err(|e| Error::io(e.into(), "cannot look after the processes of the command"))?;
    let signals = SignalsInfo::<WithOrigin>::new([SIGINT, SIGTERM, SIGHUP]);
    let signals = signals.map_err(|e| Error::io(e, "cannot handle signals"))?;
    let main = match start(place, command) {
        Ok(pid) => pid,
        Err(code) => return Ok(code),
    };
    std::thread::spawn(move || pass_on(signals, main));
    wait_for_all(main)
}

fn start(place: &Path, command: &[OsString]) -> Result<Pid, u8> {
    let shell = || vec![std::env::var_os("SHELL").unwrap_or_else(|| "/bin/sh".into())];
    let words = if command.is_empty() { shell() } else { command.to_vec() };
    let mut child = Command::new(&words[0]);
    child.args(&words[1..]).current_dir(place).env("PWD", place).env("STMOUNT_MOUNTPOINT", place);
    match child.spawn() {
        Ok(child) => Ok(Pid::from_child(&child)),
        Err(e) => {
            let (code, hint) = not_run(&e, place, &words[0]);
            say::problem(&format!("cannot run {}: {e}", Path::new(&words[0]).display()), hint.as_deref());
            Err(code)
        }
    }
}

/// The codes of a shell: 127 for what is not there, 126 for what cannot be run.
fn not_run(e: &std::io::Error, place: &Path, word: &OsString) -> (u8, Option<String>) {
    let inside = place.join(word);
    let is_file = std::fs::metadata(&inside).is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0);
    match e.kind() {
        std::io::ErrorKind::NotFound if is_file => (127, Some(format!("./{}", Path::new(word).display()))),
        std::io::ErrorKind::NotFound => (127, None),
        _ => (126, None),
    }
}

/// Signals that a process sent go to the command, or to what is left of it. Those of the terminal reach it anyway.
fn pass_on(mut signals: SignalsInfo<WithOrigin>, main: Pid) {
    for origin in signals.forever() {
        let Some(signal) = Signal::from_named_raw(origin.signal).filter(|_| origin.process.is_some()) else { continue };
        let own = rustix::process::getpid();
        let children = children_of(own.as_raw_pid());
        let main_lives = children.contains(&main.as_raw_pid());
        for child in children.into_iter().filter(|c| !main_lives || *c == main.as_raw_pid()) {
            if let Some(pid) = Pid::from_raw(child) {
                let _ = rustix::process::kill_process(pid, signal);
            }
        }
    }
}

/// The children of a process that run, by the fourth field of `/proc/PID/stat`.
fn children_of(parent: i32) -> Vec<i32> {
    let pids = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let parent_of = |pid: i32| -> Option<i32> {
        let stat = std::fs::read(format!("/proc/{pid}/stat")).ok()?;
        let behind = stat.iter().rposition(|b| *b == b')')? + 2;
        std::str::from_utf8(&stat[behind..]).ok()?.split(' ').nth(1)?.parse().ok()
    };
    pids.filter_map(|e| e.file_name().to_str()?.parse().ok()).filter(|pid| parent_of(*pid) == Some(parent)).collect()
}

/// Waits until no descendant is left; the code is that of the command itself.
fn wait_for_all(main: Pid) -> Result<u8> {
    let mut code = exit::SYSTEM;
    loop {
        match rustix::process::wait(WaitOptions::empty()) {
            Ok(Some((pid, status))) if pid == main => code = code_of(status),
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(rustix::io::Errno::CHILD) => return Ok(code),
            Err(e) => return Err(Error::io(e.into(), "cannot wait for the command")),
        }
    }
}

fn code_of(status: WaitStatus) -> u8 {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => code as u8,
        (_, Some(signal)) => exit::of_signal(signal),
        _ => exit::SYSTEM,
    }
}

/// Unmounts. Somebody else may have looked in meanwhile, a file manager for instance: it gets a moment to leave.
fn take_away(place: &Path) -> Result<()> {
    let (register, begun) = (Register::of_user(), Instant::now());
    loop {
        match unmount::one(&register, place, false, true, None) {
            Err(e) if e.kind() == Kind::Busy && begun.elapsed() < PATIENCE => {
                std::thread::sleep(Duration::from_millis(50));
            }
            Err(e) if e.kind() == Kind::Busy => {
                say::notice(&format!("stmount: {e}\n  detached; it ends with the last of them"));
                return unmount::one(&register, place, true, false, None);
            }
            // Somebody unmounted it already.
            Err(e) if e.kind() == Kind::NotFound => return Ok(()),
            other => return other,
        }
    }
}
