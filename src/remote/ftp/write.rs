//! Writing to a folder of a server of FTP.
//!
//! ```text
//!   put    STOR .stmount-5f3a… ─► SIZE: all of it? ─► MFMT: its time ─► RNFR, RNTO: its name
//! ```
//!
//! What goes wrong before the last step leaves what had the name as it was, and nothing beside it.

use super::super::{Amend, Amended, Fetched, Holds, Rest, Set, Share, Writes, changed, never, part_of, soon, taken};
use super::control::{Control, refused};
use super::server::Held;
use super::{FtpShare, PIECE, entries, facts, is_directory, list, wire};
use crate::error::{Error, Kind, Result};
use crate::source::{Again, Failure, ReadAt};
use crate::tree::Time;
use std::io::Write;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// What of an entry can be set, as far as that is known.
#[derive(Default)]
pub struct Sets {
    /// `MFMT` is announced.
    mfmt: OnceLock<bool>,
    /// `MDTM` with a time in front of the path, which is not announced: it is known once it was tried.
    mdtm: OnceLock<bool>,
    /// `SITE CHMOD`.
    chmod: OnceLock<bool>,
}

/// One file that is sent.
struct Sending<'a> {
    bytes: &'a dyn ReadAt,
    what: &'a Set,
    told: &'a mut dyn FnMut(u64) -> Result<()>,
}

impl FtpShare {
    /// A connection that was there a moment ago: what changes something is not done twice.
    fn to_write(&self) -> Fetched<Held<'_>> {
        let until = Instant::now() + self.server.patience();
        let mut held = self.server.take(until)?;
        held.until(until.min(Instant::now() + self.server.patience() / 3));
        let asked = held.ask("NOOP", "");
        held.until(until);
        match asked {
            Err(failure) if held.has_ended(&failure.error) => {
                drop(held);
                self.server.take_new(until)
            }
            Err(failure) => Err(failure),
            Ok(_) => Ok(held),
        }
    }

    fn write<T>(&self, path: &str, work: impl FnOnce(&mut Control, &str) -> Fetched<T>) -> Result<T> {
        let done = self.to_write().and_then(|mut held| {
            let told = held.path(&self.path(path));
            work(&mut held, &told)
        });
        done.map_err(|failure| failure.error.within(self.shown(path)))
    }

    /// Sets what can be set of an entry.
    fn set_by(&self, control: &mut Control, path: &str, what: &Set) -> Fetched<()> {
        if let Some(time) = what.modified {
            self.set_time(control, path, time)?;
        }
        // It comes last: it may take away the right to do more.
        if let Some(mode) = what.mode.filter(|_| self.sets.chmod.get() != Some(&false)) {
            let known = self.knows_chmod(control)?;
            let reply =
                if known { Some(control.ask("SITE", &format!("CHMOD {:04o} {path}", mode & 0o7777))?) } else { None };
            done(reply.as_ref())?;
        }
        Ok(())
    }

    fn set_time(&self, control: &mut Control, path: &str, time: Time) -> Fetched<()> {
        let argument = format!("{} {path}", list::told(time));
        if *self.sets.mfmt.get_or_init(|| control.features.mfmt) {
            let reply = control.ask("MFMT", &argument)?;
            return done(Some(&reply));
        }
        if self.sets.mdtm.get() != Some(&false) {
            let is_set = control.ask("MDTM", &argument)?.is_done()
                && control.ask("MDTM", path)?.text().starts_with(&list::told(time));
            self.sets.mdtm.get_or_init(|| is_set);
        }
        Ok(())
    }

    fn knows_chmod(&self, control: &mut Control) -> Fetched<bool> {
        if let Some(known) = self.sets.chmod.get() {
            return Ok(*known);
        }
        let help = control.ask("SITE", "HELP")?;
        let known = help.is_done() && help.lines.iter().any(|line| line.to_ascii_uppercase().contains("CHMOD"));
        Ok(*self.sets.chmod.get_or_init(|| known))
    }

    /// Sends a whole file. `may_go` is asked, when all of it is there, whether it takes the place of what has the name.
    fn put_over(&self, path: &str, sending: Sending<'_>, may_go: &dyn Fn() -> Result<()>) -> Result<()> {
        let mut own = None;
        let put = self.write(path, |control, to| {
            let own = own.insert(beside(to)?);
            self.put_as(control, own, to, sending, may_go)
        });
        if let (Err(_), Some(own)) = (&put, own) {
            // By another connection, where this one broke.
            let removed = self.write(path, |control, _| control.ask("DELE", &own));
            if let Err(e) = removed {
                log::warn!("{own} may be left on the server: {e}");
            }
        }
        put
    }

    /// Sends a file under a name of its own, and gives it the other one when all is there.
    fn put_as(
        &self,
        control: &mut Control,
        own: &str,
        to: &str,
        sending: Sending<'_>,
        may_go: &dyn Fn() -> Result<()>,
    ) -> Fetched<()> {
        let what = sending.what;
        let sent = send(control, "STOR", own, sending, self.server.patience())?;
        let len = facts(control, own)?.len;
        if len != sent {
            return Err(soon(Kind::Io, format!("the server has {len} bytes of {sent}")));
        }
        self.set_by(control, own, what)?;
        may_go().map_err(ours)?;
        replace(control, own, to)
    }
}

fn done(reply: Option<&super::control::Reply>) -> Fetched<()> {
    match reply {
        Some(reply) if !reply.is_done() => Err(refused(reply)),
        _ => Ok(()),
    }
}

fn ours(error: Error) -> Failure {
    Failure { error, again: Again::Never }
}

fn send(control: &mut Control, verb: &str, to: &str, sending: Sending<'_>, patience: Duration) -> Fetched<u64> {
    let mut data = control.transfer(verb, to, 0)?;
    let (mut at, mut piece) = (0, vec![0; PIECE]);
    loop {
        let read = sending.bytes.read_at(at, &mut piece).map_err(ours)?;
        if read == 0 {
            break;
        }
        data.until(Instant::now() + patience);
        if let Err(e) = data.write_all(&piece[..read]) {
            drop(data);
            control.until(Instant::now() + patience);
            // Why it takes no more is said by its reply, if there is one.
            return match control.finished() {
                Err(failure) => Err(failure),
                Ok(()) => Err(wire::failed(&e)),
            };
        }
        at += read as u64;
        (sending.told)(at).map_err(ours)?;
    }
    let until = Instant::now() + patience;
    data.until(until);
    control.until(until);
    let ended = data.end();
    control.finished()?;
    ended.map_err(|e| wire::failed(&e))?;
    Ok(at)
}

/// Gives a file the name of another one. Servers of Windows give no name that is taken: there the old one steps aside first.
fn replace(control: &mut Control, from: &str, to: &str) -> Fetched<()> {
    let refusal = match rename(control, from, to) {
        Err(failure) if matches!(failure.error.kind(), Kind::NotFound | Kind::Denied) => failure,
        renamed => return renamed,
    };
    if facts(control, from).is_err() || facts(control, to).is_err() {
        return Err(refusal);
    }
    let aside = beside(to)?;
    if rename(control, to, &aside).is_err() {
        return Err(refusal);
    }
    if let Err(failure) = rename(control, from, to) {
        rename(control, &aside, to)?;
        return Err(failure);
    }
    control.ask("DELE", &aside).map(drop)
}

fn rename(control: &mut Control, from: &str, to: &str) -> Fetched<()> {
    let reply = control.ask("RNFR", from)?;
    if reply.code != 350 {
        return Err(refused(&reply));
    }
    let reply = control.ask("RNTO", to)?;
    done(Some(&reply))
}

/// A name in the same directory that nobody else has.
fn beside(path: &str) -> Fetched<String> {
    let (dir, _) = path.rsplit_once('/').unwrap_or_default();
    Ok(format!("{dir}/.stmount-{:016x}", part_of(path).map_err(ours)?))
}

impl Writes for FtpShare {
    fn holds(&self) -> Holds {
        let asked = self.write("", |control, _| {
            self.sets.mfmt.get_or_init(|| control.features.mfmt);
            self.knows_chmod(control)
        });
        let is = |known: &OnceLock<bool>| known.get() == Some(&true);
        let mode = asked.is_ok_and(|known| known);
        Holds { mtime: is(&self.sets.mfmt) || is(&self.sets.mdtm), mode, links: false, rename: true }
    }

    fn put(&self, path: &str, bytes: &dyn ReadAt, what: &Set, told: &mut dyn FnMut(u64) -> Result<()>) -> Result<()> {
        self.put_over(path, Sending { bytes, what, told }, &|| Ok(()))
    }

    /// There is no command that leaves alone what has the name: it is looked at a moment before.
    fn create(&self, path: &str, bytes: &dyn ReadAt, told: &mut dyn FnMut(u64) -> Result<()>) -> Result<()> {
        self.put_over(path, Sending { bytes, what: &Set::default(), told }, &|| match self.look(path) {
            Ok(_) => Err(taken().within(self.shown(path))),
            Err(e) if e.kind() == Kind::NotFound => Ok(()),
            Err(e) => Err(e),
        })
    }

    /// What is only longer than it was is sent behind it; all else as a whole.
    fn amend(&self, path: &str, amend: &Amend<'_>, told: &mut dyn FnMut(u64) -> Result<()>) -> Result<Amended> {
        let what = &Set::default();
        if amend.from != amend.old.len || amend.from == 0 {
            let is_still = || amend.old.is_still(&self.open(path)?.1);
            self.put_over(path, Sending { bytes: amend.bytes, what, told }, &is_still)?;
            return Ok(Amended { sent: amend.bytes.len()?, whole: amend.from > 0 });
        }
        amend.old.is_still(&self.open(path)?.1)?;
        let rest = Rest { bytes: amend.bytes, from: amend.from };
        let sent = self.write(path, |control, to| {
            if facts(control, to)?.len != amend.old.len {
                return Err(ours(changed()));
            }
            let sent = send(control, "APPE", to, Sending { bytes: &rest, what, told }, self.server.patience())?;
            match facts(control, to)?.len {
                len if len == amend.from + sent => Ok(sent),
                len => {
                    Err(soon(Kind::Io, format!("the server has {len} bytes, {} were sent behind {}", sent, amend.from)))
                }
            }
        })?;
        Ok(Amended { sent, whole: false })
    }

    fn make_dir(&self, path: &str) -> Result<()> {
        self.write(path, |control, told| {
            let reply = control.ask("MKD", told)?;
            match reply.is_done() || is_directory(control, told)? {
                true => Ok(()),
                false if facts(control, told).is_ok() => Err(never(Kind::Exists, "a file has the name")),
                false => Err(refused(&reply)),
            }
        })
    }

    fn set(&self, path: &str, what: &Set) -> Result<()> {
        self.write(path, |control, told| self.set_by(control, told, what))
    }

    fn remove(&self, path: &str) -> Result<()> {
        self.write(path, |control, told| {
            let reply = control.ask("DELE", told)?;
            if reply.is_done() {
                return Ok(());
            }
            let failure = refused(&reply);
            match facts(control, told) {
                Ok(_) if failure.error.kind() == Kind::NotFound => Err(never(Kind::Denied, failure.error.to_string())),
                Err(found) if failure.error.kind() == Kind::NotFound && found.error.kind() == Kind::NotFound => {
                    match is_directory(control, told)? {
                        true => Err(never(Kind::IsADirectory, "it is a directory")),
                        false => Ok(()),
                    }
                }
                _ => Err(failure),
            }
        })
    }

    fn remove_dir(&self, path: &str) -> Result<()> {
        self.write(path, |control, told| {
            let reply = control.ask("RMD", told)?;
            if reply.is_done() {
                return Ok(());
            }
            if !is_directory(control, told)? {
                return match facts(control, told) {
                    Ok(_) => Err(never(Kind::NotADirectory, "it is no directory")),
                    Err(failure) if failure.error.kind() == Kind::NotFound => Ok(()),
                    Err(failure) => Err(failure),
                };
            }
            match entries(control, told)?.is_empty() {
                true => Err(never(Kind::Denied, refused(&reply).error.to_string())),
                false => Err(never(Kind::NotEmpty, "there is something in it")),
            }
        })
    }

    fn rename(&self, from: &str, to: &str) -> Result<()> {
        self.write(from, |control, told| {
            let to = control.path(&self.path(to));
            replace(control, told, &to)
        })
    }
}
