//! The life of a mount: a parent that returns when the mount can be read, a daemon that serves it.
//!
//! ```text
//!  parent                                  daemon: the same program, the same words on its command line
//!    plan, make the mount point
//!    start ──────────────────────────────► setsid, open, read the root, enter the register, mount
//!    answer what it asks              ◄──── {"state":"ask",...}     for a password, or {"state":"keys"}, see `ask`
//!    show how far it is               ◄──── {"state":"progress",...}
//!    wait for the last line           ◄──── {"state":"ready",...}   or   {"state":"failed",...}
//!    list the mount, print, exit           stdin, stdout, stderr := /dev/null, cwd := /
//!                                          serve until unmounted or signalled; leave the register
//! ```
//!
//! The program is started anew instead of forked: a fork takes one thread of many with it. Whoever captures the output
//! of the parent gets it at once, since the daemon closes its copies.
//!
//! The daemon never looks at its own mount: killed while it waits for an answer of its own, it could not end, and the mount
//! would hang for everybody.

use super::args::{self, Common};
use super::ask::{self, AskParent, Passwords};
use super::plan::{self, Mounting};
use super::progress::Progress;
use super::{exit, heap, logging, say};
use crate::error::{Error, Kind, Result};
use crate::formats::Watch;
use crate::key::Keys;
use crate::mount::session::{Entry, Register};
use crate::mount::{self, Mounted, place};
use crate::open::overlay::{self, Overlaying};
use crate::open::{Claim, How, trust};
use crate::pool::lock;
use crate::tree::Totals;
use serde::{Deserialize, Serialize};
use serde_json::json;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::ops::ControlFlow;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Tells a process that it is the daemon: `given` or `made`, which is said of its mount point.
const ROLE: &str = "STMOUNT_DAEMON";

/// Tells a daemon to unmount when its standard input ends, which is when the one who started it is gone.
pub const LIFELINE: &str = "STMOUNT_LIFELINE";

/// A line that the daemon sends. The last one is that it is ready or has failed.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "lowercase")]
enum Report {
    Ask {
        what: String,
        wrong: usize,
    },
    /// Wants the identities and the keyfiles.
    Keys,
    Progress {
        total: u64,
        done: u64,
    },
    Ready(Ready),
    Failed {
        exit: u8,
        message: String,
        hint: Option<String>,
    },
}

/// What can be told of a mount that is ready.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Ready {
    pub format: String,
    pub mode: String,
    pub bytes: u64,
    pub nodes: u64,
    pub notes: Vec<String>,
}

/// How the work of a parent or a daemon ended: an exit code, with everything said already.
pub type Code = u8;

/// Mounts, in the foreground or by a daemon.
pub fn mount(given: &args::Mount, common: &Common) -> Result<Code> {
    let role = std::env::var(ROLE).ok();
    let planned =
        plan::mounting(&given.source, given.mountpoint.as_deref(), &given.options, role.as_deref() == Some("made"));
    match role {
        Some(_) => Ok(be_daemon(planned, given)),
        None if given.foreground || given.debug => {
            let plan = planned?;
            let (begun, progress) = (Instant::now(), Progress::new("open", common));
            let how = keys(&plan, given).and_then(|keys| how(&plan, Arc::new(keys), progress.clone()));
            let how = how.inspect_err(|_| plan.undo())?;
            serve(&plan, &how, |ready, plan| {
                progress.finish("", json!({}), exit::OK);
                announce(ready, plan, given, common.quiet, begun);
                Ok(())
            })
            .map(|()| exit::OK)
        }
        None => start(&planned?, given, common),
    }
}

fn keys(plan: &Mounting, given: &args::Mount) -> Result<Passwords> {
    let mut passwords = given.options.reading.passwords.clone();
    passwords.password_file.extend(plan.options.password_files.iter().cloned());
    passwords.keyring |= plan.options.keyring;
    passwords.identity.extend(plan.options.identities.iter().cloned());
    passwords.keyfile.extend(plan.options.keyfiles.iter().cloned());
    Passwords::new(&passwords)
}

fn how(plan: &Mounting, keys: Arc<dyn Keys>, watch: Arc<dyn Watch>) -> Result<How> {
    let signing = plan.options.sign.as_deref().map(trust::signing).transpose()?.unwrap_or_default();
    let how = plan.options.archive.how(plan.options.cachesize.unwrap_or(plan::CACHE), keys, watch);
    how.cache.keep_evicted();
    Ok(How { signing, ..how })
}

fn start(plan: &Mounting, given: &args::Mount, common: &Common) -> Result<Code> {
    let begun = Instant::now();
    let keys = keys(plan, given).inspect_err(|_| plan.undo())?;
    // The disk works while the daemon starts.
    crate::open::expect(&plan.source);
    let (channel, answers) = channel()?;
    let mut child = command(plan, given, &channel)?.spawn().map_err(|e| Error::io(e, "cannot start the daemon"))?;
    drop(channel);
    let out = BufReader::new(child.stdout.take().expect("its stdout is a pipe"));
    match last_report(out, &keys, answers, common) {
        Some(Report::Ready(ready)) => {
            readable(&plan.mountpoint).inspect_err(|_| plan.undo())?;
            say::notes(&given.source, &ready.notes);
            announce(&ready, plan, given, common.quiet, begun);
            Ok(exit::OK)
        }
        Some(Report::Failed { exit, message, hint }) => {
            let _ = child.wait();
            plan.undo();
            say::problem(&message, hint.as_deref());
            Ok(exit)
        }
        _ => {
            let ended = child.wait().map(|s| s.to_string()).unwrap_or_default();
            plan.undo();
            Err(Error::new(Kind::System, format!("the daemon ended before the mount was ready ({ended})"))
                .hint("stmount -f -d, which stays in the foreground and tells more"))
        }
    }
}

/// Listens to a daemon until it is ready, has failed, or is gone.
fn last_report(out: impl BufRead, keys: &dyn Keys, mut answers: File, common: &Common) -> Option<Report> {
    let mut shown: Option<Arc<Progress>> = None;
    for line in out.lines() {
        match serde_json::from_str(&line.ok()?).ok()? {
            Report::Ask { what, wrong } => {
                // One who is gone will not miss the answer.
                let _ = ask::answer(keys, &what, wrong, &mut answers);
            }
            Report::Keys => {
                let _ = ask::answer_keys(keys, &mut answers);
            }
            Report::Progress { total, done } => {
                shown.get_or_insert_with(|| Progress::new("open", common)).set(total, done);
            }
            last => {
                shown.inspect(|progress| progress.finish("", json!({}), exit::OK));
                return Some(last);
            }
        }
    }
    None
}

/// The way of passwords to the daemon: the end that it inherits, and the other one.
fn channel() -> Result<(OwnedFd, File)> {
    use rustix::pipe::{PipeFlags, pipe_with};
    let failed = |e: rustix::io::Errno| Error::io(e.into(), "cannot make a pipe");
    let (read, write) = pipe_with(PipeFlags::CLOEXEC).map_err(failed)?;
    rustix::io::fcntl_setfd(&read, rustix::io::FdFlags::empty()).map_err(failed)?;
    Ok((read, write.into()))
}

/// The daemon sees the same words, but no password, and a mount point that was made as one more: `ps` then shows both.
fn command(plan: &Mounting, given: &args::Mount, channel: &OwnedFd) -> Result<Command> {
    use std::os::fd::AsRawFd;
    let program = std::env::current_exe().map_err(|e| Error::io(e, "cannot find this program"))?;
    let mut argv = std::env::args_os();
    let mut command = Command::new(program);
    command.arg0(argv.next().unwrap_or_else(|| "stmount".into()));
    command.args(ask::without_password(argv, given.options.reading.passwords.password.as_deref()));
    command.args(plan.made.then_some(&plan.mountpoint));
    command.env(ROLE, if plan.made { "made" } else { "given" }).stdout(Stdio::piped());
    command.env(ask::CHANNEL, channel.as_raw_fd().to_string());
    // What the parent has read already, the daemon hears from it. Others can read what its environment was.
    given.options.reading.passwords.password_env.iter().for_each(|name| _ = command.env_remove(name));
    if std::env::var_os(LIFELINE).is_none() {
        command.stdin(Stdio::null());
    }
    Ok(command)
}

fn announce(ready: &Ready, plan: &Mounting, given: &args::Mount, quiet: bool, begun: Instant) {
    use std::io::IsTerminal;
    let out = io::stdout();
    let text = if out.is_terminal() && !quiet {
        let files = say::counted(ready.nodes, "file", "files");
        let (size, took) = (say::size(ready.bytes), say::time(begun.elapsed()));
        let (source, place) = (given.source.display(), shortest(&plan.mountpoint));
        format!("{source} → {} ({}, {size}, {files}, {took})", place.display(), ready.mode)
    } else if given.mountpoint.is_none() {
        // A script that left the choice to the program wants to know it.
        plan.mountpoint.display().to_string()
    } else {
        return;
    };
    let _ = writeln!(out.lock(), "{}", say::for_terminal(&text, out.is_terminal()));
}

/// A path below the working directory is shown as people would write it.
fn shortest(path: &Path) -> PathBuf {
    let here = std::env::current_dir().and_then(|d| d.canonicalize()).unwrap_or_default();
    path.strip_prefix(&here).map_or_else(|_| path.to_owned(), |rest| Path::new(".").join(rest))
}

fn be_daemon(planned: Result<Mounting>, given: &args::Mount) -> Code {
    // Fails only for a leader of a group, and then there is a session of its own already.
    let _ = rustix::process::setsid();
    logging::start_daemon(given.log_file.as_deref());
    let ask = |question: ask::Question<'_>| {
        send(&match question {
            ask::Question::Password { what, wrong } => Report::Ask { what: what.to_owned(), wrong },
            ask::Question::Keys => Report::Keys,
        })
    };
    let keys = Arc::new(AskParent::new(ask));
    let served = planned.and_then(|plan| {
        let how = how(&plan, keys.clone(), Arc::new(Told::default())).inspect_err(|_| plan.undo())?;
        serve(&plan, &how, |ready, _| {
            keys.learn_all();
            report_ready(ready)
        })
    });
    match served {
        Ok(()) => exit::OK,
        Err(e) => {
            let (exit, hint) = (exit::code(e.kind()), e.advice().map(str::to_owned));
            log::error!("{e}");
            // After the mount was ready nobody reads this any more; the log has it.
            let _ = send(&Report::Failed { exit, message: e.to_string(), hint });
            exit
        }
    }
}

/// Tells the parent how far the opening of an archive is, a few times in a second.
#[derive(Default)]
struct Told {
    total: AtomicU64,
    done: AtomicU64,
    last: Mutex<Option<Instant>>,
}

impl Watch for Told {
    fn total(&self, bytes: u64, _entries: u64) {
        self.total.store(bytes, Ordering::Relaxed);
    }

    fn advance(&self, bytes: u64, _entries: u64) {
        let done = self.done.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let mut last = lock(&self.last);
        let first = *last.get_or_insert_with(Instant::now);
        if first.elapsed() >= Duration::from_millis(300) {
            *last = Some(Instant::now());
            let _ = send(&Report::Progress { total: self.total.load(Ordering::Relaxed), done });
        }
    }
}

fn send(report: &Report) -> io::Result<()> {
    let mut line = serde_json::to_vec(report).expect("a report is plain data");
    line.push(b'\n');
    let mut out = io::stdout().lock();
    out.write_all(&line)?;
    out.flush()
}

/// Tells the parent, then lets go of everything that belongs to it.
fn report_ready(ready: &Ready) -> Result<()> {
    let gone = |e| Error::io(e, "nobody waits for the mount any more");
    send(&Report::Ready(ready.clone())).map_err(gone)?;
    detach().map_err(|e| Error::io(e, "cannot detach from the terminal"))
}

fn detach() -> io::Result<()> {
    let null = std::fs::OpenOptions::new().read(true).write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stdout(&null)?;
    rustix::stdio::dup2_stderr(&null)?;
    std::env::set_current_dir("/")
}

/// Mounts, says so, and serves until the mount is gone.
fn serve(plan: &Mounting, how: &How, ready: impl FnOnce(&Ready, &Mounting) -> Result<()>) -> Result<()> {
    heap::keep_small();
    // Signals wait from here on, so that none can end the process while the mount is there.
    let signals = Signals::new([SIGINT, SIGTERM, SIGHUP]).map_err(|e| Error::io(e, "cannot handle signals"))?;
    let lifeline = lifeline()?;
    let (mounted, entry, facts, temporary) = match bring_up(plan, how) {
        Ok(up) => up,
        Err(e) => {
            plan.undo();
            return Err(e);
        }
    };
    let place = plan.mountpoint.clone();
    std::thread::spawn(move || obey(signals, &place));
    if let Some(lifeline) = lifeline {
        let place = plan.mountpoint.clone();
        std::thread::spawn(move || follow(lifeline, &place));
    }
    let told = ready(&facts, plan).inspect_err(|_| drop(place::unmount(&plan.mountpoint, true)));
    let served = mounted.wait();
    let stored = mounted.sync().and_then(|()| mounted.settle());
    drop(mounted);
    drop(entry);
    drop(temporary);
    plan.undo();
    log::info!("{} is unmounted", plan.mountpoint.display());
    told.and(served).and(stored)
}

fn bring_up(plan: &Mounting, how: &How) -> Result<(Mounted, Entry, Ready, Option<Temporary>)> {
    let temporary = match plan.options.overlay {
        Some(Overlaying::Tmp) => Some(Temporary(overlay::temporary()?)),
        _ => None,
    };
    let mut volume = match plan.options.read_only {
        true if plan.options.follow => crate::open::follow(&plan.source, how)?,
        true => crate::open::open_as(&plan.source, how)?,
        false => open_to_write(plan, how, temporary.as_ref())?,
    };
    let mut notes = std::mem::take(&mut volume.notes);
    if let Some(Temporary(dir)) = &temporary {
        notes.push(format!("changes are in {} until it is unmounted, and are gone then", dir.display()));
    }
    notes.iter().for_each(|note| log::info!("{}: {note}", plan.source.display()));
    volume.meter = Some(how.far.meter.clone()).filter(|meter| meter.is_used());
    let Totals { nodes, bytes, .. } = volume.tree.totals()?;
    volume.tree.list(volume.tree.root(), None, &mut |_, _, _| ControlFlow::Break(()))?;
    let mode = if volume.writer.is_some() { "rw" } else { "ro" }.to_owned();
    let format = volume.format;
    let entry = Register::of_user().enter(&plan.source, &plan.mountpoint, format, &mode)?;
    let mounted = mount::mount(volume, &plan.mountpoint, &plan.options)?;
    log::info!("{} is mounted on {}", plan.source.display(), plan.mountpoint.display());
    Ok((mounted, entry, Ready { format: format.to_owned(), mode, bytes, nodes, notes }, temporary))
}

/// A directory that goes with the mount.
struct Temporary(PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        if let Err(e) = std::fs::remove_dir_all(&self.0) {
            log::warn!("{} is left: {e}", self.0.display());
        }
    }
}

fn open_to_write(plan: &Mounting, how: &How, temporary: Option<&Temporary>) -> Result<crate::formats::Volume> {
    let options = &plan.options;
    let claim = Claim { mountpoint: Some(plan.mountpoint.clone()), break_lock: options.break_lock };
    let dir = match &options.overlay {
        Some(Overlaying::Dir(dir)) => Some(dir),
        _ => temporary.map(|temporary| &temporary.0),
    };
    if let Some(dir) = dir {
        return patiently(&plan.source, || overlay::open_overlaid(&plan.source, dir, how, &claim));
    }
    locking(&plan.source, || crate::open::open_claimed(&plan.source, how, &claim, options.upkeep, options.read_write))
}

/// How long a process that is not there any more may still have a lock.
const DYING: Duration = Duration::from_secs(1);

/// Opens what somebody may still hold who is just ending.
fn patiently<T>(source: &Path, open: impl Fn() -> Result<T>) -> Result<T> {
    let (register, began) = (Register::of_user(), Instant::now());
    loop {
        match open() {
            Err(e) if e.kind() == Kind::Locked && (began.elapsed() < DYING || register.is_ending(source)) => {}
            opened => return opened,
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Opens a container with its lock. Somebody who has it mounted is named; somebody who is just ending is waited for.
pub(super) fn locking<T>(source: &Path, open: impl Fn() -> Result<T>) -> Result<T> {
    let register = Register::of_user();
    let (mut told, began) = (false, Instant::now());
    loop {
        let e = match open() {
            Err(e) if e.kind() == Kind::Locked => e,
            opened => return opened,
        };
        let live = register.live().unwrap_or_default();
        let holder = live.iter().find(|live| live.served && live.session.mode == "rw" && live.source() == *source);
        if let Some(holder) = holder {
            let (place, pid) = (holder.mountpoint(), holder.session.pid);
            let what = format!("{} is mounted on {} (pid {pid})", source.display(), place.display());
            return Err(Error::new(Kind::Locked, what)
                .hint("use that mount, or unmount it, or mount the last committed state with -o ro"));
        }
        // One that was killed keeps its lock for a moment: until the system has closed its files.
        let is_ending = register.is_ending(source);
        if !is_ending && began.elapsed() > DYING {
            return Err(e);
        }
        if is_ending && !std::mem::replace(&mut told, true) {
            log::info!("{}: waiting for the daemon of the last mount, which stores what is left", source.display());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Ready means that a person can list it. Who may not, because of the modes inside, is no failure of the mount.
fn readable(place: &Path) -> Result<()> {
    match std::fs::read_dir(place).and_then(|mut dir| dir.next().transpose()) {
        Ok(_) => Ok(()),
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        Err(e) => {
            let _ = place::unmount(place, true);
            Err(Error::new(Kind::MountFailed, format!("{} was mounted and cannot be read", place.display()))
                .caused_by(e))
        }
    }
}

/// The first signal unmounts, also when somebody is inside: then the name is free and the daemon ends with its last user.
/// The second signal ends it at once.
fn obey(mut signals: Signals, place: &Path) {
    let mut first = true;
    for signal in signals.forever() {
        if !first {
            std::process::exit(i32::from(exit::of_signal(signal)));
        }
        first = false;
        log::info!("signal {signal}: unmounting {}", place.display());
        if let Err(e) = place::unmount(place, false) {
            log::warn!("{e}; detaching it");
            let _ = place::unmount(place, true).inspect_err(|e| log::error!("{e}"));
        }
    }
}

fn lifeline() -> Result<Option<OwnedFd>> {
    if std::env::var_os(LIFELINE).is_none() {
        return Ok(None);
    }
    let copy = rustix::io::fcntl_dupfd_cloexec(io::stdin(), 3);
    Ok(Some(copy.map_err(|e| Error::io(e.into(), "cannot keep the lifeline"))?))
}

/// Unmounts when the other end is closed, and waits for those who are still inside.
fn follow(lifeline: OwnedFd, place: &Path) {
    let mut rest = Vec::new();
    let _ = std::fs::File::from(lifeline).read_to_end(&mut rest);
    while place::unmount(place, false).is_err_and(|e| e.kind() == Kind::Busy) {
        std::thread::sleep(Duration::from_millis(500));
    }
}

/// Runs `stmount mount` for another verb and waits until it is ready. The daemon ends with the returned lifeline.
pub fn mount_for(
    source: &Path,
    mountpoint: &Path,
    given: &args::MountOptions,
) -> Result<Result<std::process::ChildStdin, Code>> {
    let program = std::env::current_exe().map_err(|e| Error::io(e, "cannot find this program"))?;
    let mut words: Vec<OsString> = vec!["mount".into(), "--quiet".into()];
    words.extend(given.option.iter().flat_map(|o| ["-o".into(), o.into()]));
    words.extend(given.read_only.then(|| "--ro".into()));
    words.extend(given.reading.options().iter().flat_map(|o| ["-o".into(), o.into()]));
    words.extend(passwords_for(&given.reading.passwords)?);
    words.extend(given.overlay.iter().flat_map(|dir| ["--overlay".into(), dir.into()]));
    words.extend(given.break_lock.then(|| "--break-lock".into()));
    words.extend(["--".into(), source.into(), mountpoint.into()]);
    let mut command = Command::new(program);
    command.arg0("stmount").args(words).env(LIFELINE, "1").stdin(Stdio::piped()).stdout(Stdio::null());
    let mut child = command.spawn().map_err(|e| Error::io(e, "cannot start the daemon"))?;
    let lifeline = child.stdin.take().expect("its stdin is a pipe");
    let status = child.wait().map_err(|e| Error::io(e, "cannot wait for the daemon"))?;
    match status.code() {
        Some(0) => Ok(Ok(lifeline)),
        code => Ok(Err(code.and_then(|c| u8::try_from(c).ok()).unwrap_or(exit::SYSTEM))),
    }
}

/// The passwords and keys that another verb was given, for the mount that it starts, whose standard input is the lifeline.
fn passwords_for(given: &args::Passwords) -> Result<Vec<OsString>> {
    let mut files = [&given.password_file, &given.identity, &given.keyfile].into_iter().flatten();
    if files.any(|file| file.as_os_str() == "-") {
        return Err(Error::new(Kind::Usage, "the standard input belongs to the command, and has no passwords or keys"));
    }
    Ok(given.words())
}
