//! `umount`, `sync`, `status` and `list`.

use super::args::{self, Common};
use super::progress::Progress;
use super::say;
use super::{exit, text_out};
use crate::error::{Error, Kind, Result};
use crate::formats::{Health, Outgoing};
use crate::mount::busy::{self, Holder};
use crate::mount::place;
use crate::mount::session::{self, Live, Register, absolute};
use crate::pool::lock;
use crate::remote;
use crate::source::{State, Traffic};
use crate::vfs::{SETTLE, STATUS, Scrubbing, Status};
use serde_json::json;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// So many processes are named when a mount is busy.
const NAMED: usize = 10;

/// The largest extended attribute there is.
const MOST_STATUS: usize = 64 << 10;

pub fn umount(given: &args::Umount, common: &Common) -> Result<u8> {
    let register = Register::of_user();
    let wanted: Vec<PathBuf> = match given.all {
        true => register.live()?.iter().rev().map(Live::mountpoint).collect(),
        false => given.named.clone(),
    };
    let mut codes = Vec::new();
    for named in &wanted {
        let done = one(&register, named, given.lazy, !given.no_wait && !given.lazy, Some(common));
        codes.push(done.map_or_else(
            |e| {
                say::error(&e);
                exit::code(e.kind())
            },
            |()| exit::OK,
        ));
    }
    let failed: Vec<u8> = codes.iter().copied().filter(|c| *c != exit::OK).collect();
    Ok(match failed.as_slice() {
        [] => exit::OK,
        [first, ..] if failed.len() == codes.len() => *first,
        _ => exit::PARTIAL,
    })
}

/// Makes durable what was written to a mount.
pub fn sync(given: &args::Sync) -> Result<u8> {
    for_each_written(&given.named, place::sync)
}

/// Brings what was written to a mount into its archive.
pub fn commit(given: &args::Commit, common: &Common) -> Result<u8> {
    for_each_written(&given.named, |place| {
        place::sync(place)?;
        settle(place, Some(common))
    })
}

fn for_each_written(named: &[PathBuf], work: impl Fn(&Path) -> Result<()>) -> Result<u8> {
    let register = Register::of_user();
    let wanted: Vec<PathBuf> = match named.is_empty() {
        true => register.live()?.iter().filter(|live| live.session.mode == "rw").map(Live::mountpoint).collect(),
        false => named.to_vec(),
    };
    for named in &wanted {
        let place = match register.find(named)? {
            Some(live) => live.mountpoint(),
            None => of_no_register(named)?,
        };
        work(&place)?;
    }
    Ok(exit::OK)
}

/// The daemon tells an error by its number; what it was is in the status.
fn settle(place: &Path, common: Option<&Common>) -> Result<()> {
    let is_over = (Mutex::new(false), Condvar::new());
    let done = std::thread::scope(|scope| {
        if let Some(common) = common {
            scope.spawn(|| show_settling(place, common, &is_over));
        }
        let done = rustix::fs::setxattr(place, SETTLE, b"", rustix::fs::XattrFlags::empty());
        *lock(&is_over.0) = true;
        is_over.1.notify_all();
        done
    });
    done.map_err(|e| {
        if let Some(e) = not_uploaded(place, e) {
            return e;
        }
        let why = asked(place).ok().and_then(|text| serde_json::from_slice::<Status>(&text).ok());
        let why = why.and_then(|status| status.errors.first().map(|failure| failure.what.clone()));
        let what = why.unwrap_or_else(|| std::io::Error::from(e).to_string());
        Error::io(e.into(), format!("{}: the changes stay in the journal: {what}", place.display()))
    })
}

/// What is told of changes that are not on the server yet, when that is why.
fn not_uploaded(place: &Path, e: rustix::io::Errno) -> Option<Error> {
    let status = asked(place).ok().and_then(|text| serde_json::from_slice::<Status>(&text).ok())?;
    let outgoing = status.outgoing.filter(|_| e == rustix::io::Errno::INPROGRESS && status.unsettled > 0)?;
    let (size, changes) = (say::size(status.unsettled_bytes), say::counted(status.unsettled, "change", "changes"));
    let why = outgoing.error.map_or(String::new(), |why| format!(": {why}"));
    let what = format!("{}: {size} in {changes} are stored here and not on the server yet{why}", place.display());
    Some(Error::new(Kind::NotUploaded, what).hint("they go up as soon as it is mounted with -o rw again"))
}

/// What takes no longer shows no progress; then it is asked for so often.
const PATIENCE: Duration = Duration::from_millis(700);

/// Shows how far the daemon is with an archive, until it is over.
fn show_settling(place: &Path, common: &Common, (over, end): &(Mutex<bool>, Condvar)) {
    let mut shown: Option<Arc<Progress>> = None;
    let mut is_over = lock(over);
    loop {
        is_over = end.wait_timeout_while(is_over, PATIENCE, |over| !*over).unwrap_or_else(PoisonError::into_inner).0;
        if *is_over {
            break;
        }
        let status = asked(place).ok().and_then(|text| serde_json::from_slice::<Status>(&text).ok());
        if let Some((done, total)) = status.and_then(|status| status.settling) {
            shown.get_or_insert_with(|| Progress::new("commit", common)).set(total, done);
        }
    }
    shown.inspect(|progress| progress.finish("", json!({}), exit::OK));
}

/// Tells how a mount is doing.
pub fn status(given: &args::Status) -> Result<u8> {
    let place = match Register::of_user().find(&given.named)? {
        Some(live) => live.mountpoint(),
        None => of_no_register(&given.named)?,
    };
    let mut text = asked(&place)?;
    if given.json {
        text.push(b'\n');
        return text_out(&String::from_utf8_lossy(&text)).map(|()| exit::OK);
    }
    let status: Status = serde_json::from_slice(&text)
        .map_err(|e| Error::new(Kind::System, "the daemon is of another version").caused_by(e))?;
    let told = in_words(&status);
    text_out(&say::for_terminal(&told, std::io::stdout().is_terminal()))?;
    Ok(exit::OK)
}

fn scrub_words(scrubbing: &Scrubbing) -> String {
    let damaged = say::counted(scrubbing.damaged, "file or part of the index is", "files or parts of the index are");
    let last =
        scrubbing.last.map(|last| format!("looked for damage: last on {}, {damaged} lost\n", say::date(last as i64)));
    let going =
        scrubbing.going.map(|(done, all)| format!("looking for damage: {} of {}\n", say::size(done), say::size(all)));
    [last, going].into_iter().flatten().collect()
}

fn link_words(link: &Traffic) -> String {
    let since = link.answered.map_or(String::new(), |at| format!(", it answered last at {}", say::date(at)));
    let mut told = match (link.state, &link.error) {
        (State::Offline, _) => "offline: nobody is asked\n".to_owned(),
        (State::Online, _) => "the server answers\n".to_owned(),
        (State::Unreachable, error) => {
            let why = error.as_deref().unwrap_or("no answer");
            let again = link.again.map_or(String::new(), |at| format!("; the next try is at {}", say::date(at)));
            format!("the server does not answer: {why}{since}{again}\n")
        }
    };
    let (requests, came) = (say::counted(link.requests, "request", "requests"), say::size(link.bytes));
    told.push_str(&format!("{requests}, {came} came, {} made again, {} reads failed\n", link.retries, link.failed));
    if let Some(percent) = (link.kept * 100).checked_div(link.total) {
        told.push_str(&format!("{percent} % of {} are kept here\n", say::size(link.total)));
    }
    told
}

fn in_words(status: &Status) -> String {
    let mut told = match (status.sequence, status.pending) {
        (None, _) => "read-only: there is nothing to store\n".to_owned(),
        (Some(sequence), 0) => format!("everything is stored (commit {sequence})\n"),
        (Some(sequence), pending) => {
            let (size, changes) = (say::size(status.dirty_bytes), say::counted(pending, "change", "changes"));
            format!("{size} in {changes} not stored yet, for {:.1} s (commit {sequence})\n", status.waiting)
        }
    };
    if status.unsettled > 0 {
        let (size, changes) = (say::size(status.unsettled_bytes), say::counted(status.unsettled, "change", "changes"));
        let from_to = match status.outgoing {
            Some(_) => "stored here and not on the server yet",
            None => "in the journal and not in the archive yet",
        };
        told.push_str(&format!("{size} in {changes} are {from_to}\n"));
        if let Some((done, total)) = status.settling {
            told.push_str(&format!("on their way there: {} of {}\n", say::size(done), say::size(total)));
        }
    } else if status.outgoing.is_some() && status.pending == 0 {
        told.push_str("everything is on the server\n");
    }
    if let Some(Outgoing { error: Some(error), again, .. }) = &status.outgoing {
        let again = again.map_or(String::new(), |time| format!("; the next try is at {}", say::date(time)));
        told.push_str(&format!("the server takes nothing: {error}{again}\n"));
    }
    if let Some(error) = &status.last_error {
        told.push_str(&format!("the last commit failed: {error}\n"));
    }
    if let Some(refuge) = &status.refuge {
        told.push_str(&format!("the container was replaced, moved or changed: changes go to {refuge}\n"));
    }
    if let Some(health) = status.health.filter(|health| *health != Health::default()) {
        let pieces = say::counted(health.healed, "damaged piece was", "damaged pieces were");
        told.push_str(&format!("{pieces} made good by parity, {} of them are not written yet\n", health.waiting));
        if health.lost > 0 {
            let reads = say::counted(health.lost, "read", "reads");
            told.push_str(&format!("{reads} met damage that nothing makes good: stmount check names the files\n"));
        }
    }
    if let Some(scrubbing) = status.scrubbing {
        told.push_str(&scrub_words(&scrubbing));
    }
    if let Some(link) = &status.link {
        told.push_str(&link_words(link));
    }
    let cache = &status.cache;
    if cache.budget > 0 {
        let (used, budget) = (say::size(cache.bytes), say::size(cache.budget));
        told.push_str(&format!("cache: {used} of {budget}, {} hits, {} misses\n", cache.hits, cache.misses));
    }
    if status.states_open > 0 {
        told.push_str(&format!("earlier states that are open: {}\n", status.states_open));
    }
    for failure in &status.errors {
        let times = if failure.times > 1 { format!(" ({} times)", failure.times) } else { String::new() };
        let file = failure.file.as_deref().unwrap_or("commit");
        told.push_str(&format!("{}  {file}: {}{times}\n", say::date(failure.time), failure.what));
    }
    told
}

/// The status of a mount, as JSON, from the one who serves it.
fn asked(place: &Path) -> Result<Vec<u8>> {
    let mut text = vec![0; MOST_STATUS];
    let len = rustix::fs::getxattr(place, STATUS, &mut text)
        .map_err(|e| Error::io(e.into(), format!("cannot ask {}", place.display())))?;
    text.truncate(len);
    Ok(text)
}

/// How a mount is doing, if it can be asked without waiting for anybody but its daemon, and there is something to be told.
fn status_of(mount: &Live) -> Option<Status> {
    let is_worth_it = mount.session.mode == "rw" || remote::is_address(&mount.source()).is_some();
    let text = if mount.served && is_worth_it { asked(&mount.mountpoint()).ok()? } else { return None };
    serde_json::from_slice(&text).ok()
}

/// The same in the words of a list.
fn state_words(status: &Status) -> String {
    let mut told = String::new();
    if let Some(refuge) = &status.refuge {
        told.push_str(&format!(", changes go to {refuge}"));
    }
    match status.link.as_ref().map(|link| link.state) {
        Some(State::Unreachable) => told.push_str(", the server does not answer"),
        Some(State::Offline) => told.push_str(", offline"),
        _ => {}
    }
    if status.outgoing.is_some() && status.unsettled > 0 {
        told.push_str(&format!(", {} to go to the server", say::counted(status.unsettled, "change", "changes")));
    }
    told
}

/// Unmounts what the person named, by mount point or by source, and waits until its daemon is gone.
pub fn one(register: &Register, named: &Path, lazy: bool, wait: bool, common: Option<&Common>) -> Result<()> {
    let live = register.find(named)?;
    let place = match &live {
        Some(live) => live.mountpoint(),
        None => of_no_register(named)?,
    };
    let mut unsettled = None;
    // What cannot be stored is told while the mount is still there.
    if live.as_ref().is_some_and(|live| live.served && live.session.mode == "rw") {
        match place::sync(&place) {
            // Who may not look into it may unmount it; the daemon stores what there is.
            Err(e) if e.kind() == Kind::Denied => {}
            done => {
                done?;
                // In the journal it is safe: that is told, and keeps nobody from unmounting.
                unsettled = settle(&place, common).err().filter(|e| e.kind() != Kind::Denied);
            }
        }
    }
    // A mount that lost its daemon answers nothing, and whoever is inside cannot use it.
    let lazy = lazy || live.as_ref().is_some_and(|live| !live.served);
    when_left(&place, lazy)?;
    match live {
        Some(live) if wait => session::wait_until_gone(&live.session, None)?,
        _ => {}
    }
    unsettled.map_or(Ok(()), Err)
}

/// How long it is tried to unmount what is in use: a program that just starts another one has its open files there, too,
/// for a moment. Where nobody can be seen in it, that is the likeliest.
const MOMENT: Duration = Duration::from_millis(100);
const UNSEEN: Duration = Duration::from_secs(1);

fn when_left(place: &Path, lazy: bool) -> Result<()> {
    let begun = Instant::now();
    loop {
        match place::unmount(place, lazy) {
            Err(e) if e.kind() == Kind::Busy => {
                let holders = place::mount_at(place).map(|line| busy::holders(&line)).unwrap_or_default();
                if begun.elapsed() > if holders.is_empty() { UNSEEN } else { MOMENT } {
                    return Err(told_who(&holders, place));
                }
            }
            done => return done,
        }
        std::thread::sleep(MOMENT / 5);
    }
}

/// Mounts of other users or of a register that is lost are known by their type.
fn of_no_register(named: &Path) -> Result<PathBuf> {
    let wanted = absolute(named);
    let table = place::mounts();
    let mut ours = table.iter().rev().filter(|l| l.fs_type == place::FS_TYPE);
    if let Some(line) = ours.find(|l| l.point == wanted || Path::new(&l.source) == wanted) {
        return Ok(line.point.clone());
    }
    let shown = named.display();
    Err(match table.iter().rev().find(|l| l.point == wanted) {
        Some(other) => Error::new(Kind::Usage, format!("{shown} is mounted by something else ({})", other.fs_type))
            .hint(format!("umount {shown}")),
        None => Error::new(Kind::NotFound, format!("{shown} is not mounted")).hint("stmount list, which shows what is"),
    })
}

/// The error of a busy mount, with everybody who is in it.
fn told_who(holders: &[Holder], place: &Path) -> Error {
    let mut what = format!("{} is in use", place.display());
    for holder in holders.iter().take(NAMED) {
        what.push_str(&format!("\n  {holder}"));
    }
    if holders.len() > NAMED {
        what.push_str(&format!("\n  and {} more", holders.len() - NAMED));
    }
    if holders.is_empty() {
        what.push_str("\n  by a process that this user may not see, or by a mount inside it");
    }
    let hint = "end them and unmount again, or -z: detached now, ended with the last of them";
    Error::new(Kind::Busy, what).hint(hint)
}

pub fn list(given: &args::List) -> Result<u8> {
    let live = Register::of_user().live()?;
    if given.json {
        let mounts: Vec<_> = live.iter().map(as_json).collect();
        text_out(&format!("{}\n", json!({"v": 1, "mounts": mounts})))?;
        return Ok(exit::OK);
    }
    let terminal = std::io::stdout().is_terminal();
    let mut out = std::io::stdout().lock();
    for mount in &live {
        let s = &mount.session;
        let state = match (mount.served, status_of(mount)) {
            (false, _) => ", its daemon is gone: stmount umount takes it away".to_owned(),
            (true, status) => status.as_ref().map(state_words).unwrap_or_default(),
        };
        let (source, place) = (mount.source(), mount.mountpoint());
        let line =
            format!("{} → {} ({}, {}, pid {}{state})", source.display(), place.display(), s.mode, s.format, s.pid);
        writeln!(out, "{}", say::for_terminal(&line, terminal)).map_err(super::cannot_print)?;
    }
    Ok(exit::OK)
}

fn as_json(mount: &Live) -> serde_json::Value {
    let mut value = serde_json::to_value(&mount.session).expect("a session is plain data");
    value["served"] = mount.served.into();
    let status = status_of(mount);
    value["refuge"] = status.as_ref().and_then(|status| status.refuge.clone()).into();
    value["link"] = json!(status.as_ref().and_then(|status| status.link.as_ref()));
    value["queue"] = json!(status.as_ref().filter(|s| s.outgoing.is_some()).map(|status| status.unsettled));
    value
}
