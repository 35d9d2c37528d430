//! How a folder of a server of ssh is written to.
//!
//! ```text
//!   put      OPEN a hidden name beside ─► WRITE WRITE … ─► fsync ─► mode, time ─► CLOSE ─► posix-rename over the old one
//! ```
//!
//! What the server does not know of these is left out, or done in another way: without posix-rename the old file is gone for a
//! moment.

use super::{
    Amend, Amended, Asked, Attrs, Fault, Fetched, Holds, Part, Seen, Sent, Session, Set, SftpShare, Share, Writes,
    changed, checked, flag, is_broken, never, of_time, part_of, send, shown, status, system, taken, wait_for,
};
use crate::error::{Error, Kind, Result, Within};
use crate::key::NoKeys;
use crate::source::{Again, Failure, ReadAt};
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

const POSIX_RENAME: &str = "posix-rename@openssh.com";
const FSYNC: &str = "fsync@openssh.com";
const LSETSTAT: &str = "lsetstat@openssh.com";

/// Bytes of one WRITE, and so many of them on their way: 2 MiB.
const PIECE: usize = 32 << 10;
const WRITES: usize = 64;

/// The bits of a mode that say what it is, and a symbolic link.
const TYPE: u32 = 0o170_000;
const LINK: u32 = 0o120_000;
const FILE: u32 = 0o100_000;
const DIR: u32 = 0o040_000;

/// What a file takes the place of.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Over<'a> {
    Anything,
    Nothing,
    /// What is still as it was seen.
    Only(&'a Seen),
}

/// What a server said to a request that may have nothing to do.
fn is_gone<T>(asked: &Asked<T>) -> bool {
    matches!(asked, Err(Fault::Status(status::NO_SUCH_FILE, _)))
}

/// A hidden name beside a path, which nobody else has.
fn beside(path: &str) -> Fetched<String> {
    let dir = path.rsplit_once('/').map_or("", |(dir, _)| dir);
    let slash = if path.contains('/') { "/" } else { "" };
    Ok(format!("{dir}{slash}.{:016x}.part", part_of(path).map_err(|error| Failure { error, again: Again::Never })?))
}

/// What a server is asked to set.
fn attributes(what: &Set) -> Attrs {
    Attrs { mode: what.mode.map(|mode| mode & 0o7777), modified: what.modified.and_then(of_time), ..Attrs::default() }
}

/// Another name, in place of a file that has it.
async fn rename(session: &Session, from: &str, to: &str) -> Asked<()> {
    if session.knows(POSIX_RENAME) {
        return session.sftp.extended(POSIX_RENAME, &[from.into(), to.into()]).await;
    }
    let sftp = &session.sftp;
    match sftp.rename(from, to).await {
        Ok(()) => Ok(()),
        // A file is in the way, unless there is nothing to be renamed.
        Err(e) => {
            sftp.lstat(from).await?;
            if sftp.remove(to).await.is_err() {
                return Err(e);
            }
            sftp.rename(from, to).await
        }
    }
}

/// Sets what can be set, and nothing of what a link leads to.
async fn set(session: &Session, path: &str, what: &Set) -> Asked<()> {
    let mut attrs = attributes(what);
    let is_link = session.sftp.lstat(path).await?.mode.is_some_and(|mode| mode & TYPE == LINK);
    if !is_link {
        return if attrs.is_nothing() { Ok(()) } else { session.sftp.setstat(path, attrs).await };
    }
    attrs.mode = None;
    if attrs.is_nothing() || !session.knows(LSETSTAT) {
        return Ok(());
    }
    session.sftp.extended(LSETSTAT, &[path.into(), Part::Attrs(attrs)]).await
}

/// What stands in the way of something that the server could not do, where that can be seen.
async fn mode_of(session: &Session, path: &str) -> Option<u32> {
    session.sftp.lstat(path).await.ok()?.mode.map(|mode| mode & TYPE)
}

impl SftpShare {
    fn full(&self, path: &str) -> Fetched<String> {
        match path {
            "" => Err(never(Kind::Invalid, "the folder itself is not replaced")),
            path => checked(&self.root, path),
        }
    }

    /// A whole file at a name of its own.
    fn upload(
        &self,
        session: &Session,
        name: &str,
        bytes: &dyn ReadAt,
        what: &Set,
        told: &mut dyn FnMut(u64) -> Result<()>,
    ) -> Result<()> {
        let attrs = attributes(what);
        // Nobody reads it before its time who may not read it then.
        let first = Attrs { mode: attrs.mode.map(|mode| mode & 0o777), ..Attrs::default() };
        let flags = flag::WRITE | flag::CREATE | flag::TRUNCATE;
        let opened = self.ssh.wait(session, session.sftp.open(name, flags, first));
        let handle = opened.map_err(|failure| failure.error)?;
        let len = bytes.len()?;
        let written = self.write(session, &handle, bytes, 0..len, told);
        // All of these are on their way at once: a server does in their order what is to be done to one file.
        let finish = async {
            let (sftp, file) = (&session.sftp, [handle.as_slice().into()]);
            let mut sent: Vec<Sent<'_, Asked<()>>> = Vec::new();
            if written.is_ok() && session.knows(FSYNC) {
                sent.push(send(sftp.extended(FSYNC, &file)).await);
            }
            if written.is_ok() && !attrs.is_nothing() {
                sent.push(send(sftp.fsetstat(&handle, attrs)).await);
            }
            sent.push(send(sftp.close(&handle)).await);
            for one in sent {
                one.answer().await?;
            }
            Ok(())
        };
        let finished = self.ssh.wait(session, finish).map_err(|failure| failure.error);
        written.and(finished)
    }

    fn write(
        &self,
        session: &Session,
        handle: &[u8],
        bytes: &dyn ReadAt,
        range: Range<u64>,
        told: &mut dyn FnMut(u64) -> Result<()>,
    ) -> Result<()> {
        let (mut at, mut gone) = (range.start, range.start);
        let mut sent: VecDeque<(Sent<'_, Asked<()>>, u64)> = VecDeque::new();
        while gone < range.end {
            while sent.len() < WRITES && at < range.end {
                let mut piece = vec![0; (range.end - at).min(PIECE as u64) as usize];
                let read = bytes.read_at(at, &mut piece)?;
                if read == 0 {
                    return Err(Error::new(Kind::Changed, "it became shorter while it was read"));
                }
                piece.truncate(read);
                let write = wait_for(send(async move { session.sftp.write(handle, at, &piece).await }));
                sent.push_back((write.map_err(|e| system(e).error)?, read as u64));
                at += read as u64;
            }
            let Some((write, count)) = sent.pop_front() else { break };
            self.ssh.wait(session, write.answer()).map_err(|failure| failure.error)?;
            gone += count;
            told(gone)?;
        }
        Ok(())
    }

    fn put_at(
        &self,
        path: &str,
        bytes: &dyn ReadAt,
        (what, over): (&Set, Over<'_>),
        told: &mut dyn FnMut(u64) -> Result<()>,
    ) -> Result<()> {
        let plain = |failure: crate::source::Failure| failure.error;
        let full = self.full(path).map_err(plain)?;
        let part = beside(&full).map_err(plain)?;
        // This also finds out whether the connection is still there.
        let old = self.ssh.ask(async |session, _| match session.sftp.lstat(&full).await {
            gone if is_gone(&gone) => Ok(None),
            attrs => attrs.map(|attrs| attrs.mode),
        });
        let old = old.map_err(plain)?;
        if old.is_some_and(|mode| mode & TYPE == DIR) {
            return Err(Error::new(Kind::IsADirectory, "a directory has the name"));
        }
        if over == Over::Nothing && old.is_some() {
            return Err(taken());
        }
        let mode = what.mode.or(old.filter(|mode| mode & TYPE == FILE).map(|mode| mode & 0o7777));
        let (session, _) = self.ssh.session(&NoKeys, Instant::now()).map_err(plain)?;
        let uploaded = self.upload(&session, &part, bytes, &Set { mode, ..*what }, told);
        let named = || self.ssh.wait(&session, rename(&session, &part, &full)).map_err(plain);
        let put = uploaded.and_then(|()| match over {
            Over::Anything => named(),
            Over::Nothing => self.name_new(&session, &part, &full),
            Over::Only(old) => {
                old.is_still(&self.open(path)?.1)?;
                named()
            }
        });
        put.inspect_err(|e| self.clean(&session, &part, e))
    }

    /// Gives a file a name that nothing has. By the protocol, what has a name is not replaced by a plain rename.
    fn name_new(&self, session: &Session, part: &str, full: &str) -> Result<()> {
        let named = async {
            match session.sftp.rename(part, full).await {
                Err(Fault::Status(..)) if mode_of(session, full).await.is_some() => Ok(false),
                renamed => renamed.map(|()| true),
            }
        };
        match self.ssh.wait(session, named).map_err(|failure| failure.error)? {
            true => Ok(()),
            false => Err(taken()),
        }
    }

    /// Writes in the place of a file what is new of it. What is there already is overwritten only where it is another.
    fn amend_at(&self, path: &str, amend: &Amend<'_>, told: &mut dyn FnMut(u64) -> Result<()>) -> Result<Amended> {
        let plain = |failure: crate::source::Failure| failure.error;
        let (len, full) = (amend.bytes.len()?, self.full(path).map_err(plain)?);
        if amend.from == 0 {
            self.put_at(path, amend.bytes, (&Set::default(), Over::Only(amend.old)), told)?;
            return Ok(Amended { sent: len, whole: false });
        }
        amend.old.is_still(&self.open(path)?.1)?;
        let (session, _) = self.ssh.session(&NoKeys, Instant::now()).map_err(plain)?;
        let opened = self.ssh.wait(&session, session.sftp.open(&full, flag::WRITE, Attrs::default()));
        let handle = opened.map_err(plain)?;
        let done = self.amend_open(&session, &handle, amend, len, told);
        if done.as_ref().is_err_and(Error::is_of_link) {
            self.ssh.forget(&session);
        }
        let closed = self.ssh.wait(&session, session.sftp.close(&handle)).map_err(plain);
        done.and(closed).map(|()| Amended { sent: len.saturating_sub(amend.from), whole: false })
    }

    fn amend_open(
        &self,
        session: &Session,
        handle: &[u8],
        amend: &Amend<'_>,
        len: u64,
        told: &mut dyn FnMut(u64) -> Result<()>,
    ) -> Result<()> {
        let attrs = self.ssh.wait(session, session.sftp.fstat(handle)).map_err(|failure| failure.error)?;
        if attrs.size != Some(amend.old.len) {
            return Err(changed());
        }
        let settle = async || match session.knows(FSYNC) {
            true => session.sftp.extended(FSYNC, &[handle.into()]).await,
            false => Ok(()),
        };
        let mut at = amend.from;
        if len < amend.old.len {
            let cut = Attrs { size: Some(len), ..Attrs::default() };
            self.ssh.wait(session, session.sftp.fsetstat(handle, cut)).map_err(|failure| failure.error)?;
        }
        for end in amend.steps.iter().copied().filter(|step| *step > amend.from && *step < len).chain([len]) {
            self.write(session, handle, amend.bytes, at..end, &mut |gone| told(gone - amend.from))?;
            self.ssh.wait(session, settle()).map_err(|failure| failure.error)?;
            at = end;
        }
        Ok(())
    }

    /// Takes away what a failure left, over another connection where this one is gone.
    fn clean(&self, session: &Arc<Session>, part: &str, why: &Error) {
        if why.is_of_link() {
            self.ssh.forget(session);
        }
        let removed = self.ssh.ask(async |session, _| session.sftp.remove(part).await);
        if let Err(failure) = removed
            && failure.error.kind() != Kind::NotFound
        {
            let gone = if is_broken(&failure) { "the server is gone" } else { "it stays" };
            log::warn!("{part}: {gone}: {}", failure.error);
        }
    }
}

impl Writes for SftpShare {
    fn holds(&self) -> Holds {
        Holds { mtime: true, mode: true, links: true, rename: true }
    }

    fn put(&self, path: &str, bytes: &dyn ReadAt, what: &Set, told: &mut dyn FnMut(u64) -> Result<()>) -> Result<()> {
        self.put_at(path, bytes, (what, Over::Anything), told).within(|| shown(self.address(path).as_str()))
    }

    fn create(&self, path: &str, bytes: &dyn ReadAt, told: &mut dyn FnMut(u64) -> Result<()>) -> Result<()> {
        let what = (&Set::default(), Over::Nothing);
        self.put_at(path, bytes, what, told).within(|| shown(self.address(path).as_str()))
    }

    fn amend(&self, path: &str, amend: &Amend<'_>, told: &mut dyn FnMut(u64) -> Result<()>) -> Result<Amended> {
        self.amend_at(path, amend, told).within(|| shown(self.address(path).as_str()))
    }

    fn make_dir(&self, path: &str) -> Result<()> {
        let made = self.ask(path, async |session, full, _| match session.sftp.mkdir(full).await {
            Err(Fault::Status(..)) if mode_of(session, full).await == Some(DIR) => Ok(true),
            Err(Fault::Status(..)) if mode_of(session, full).await.is_some() => Ok(false),
            made => made.map(|()| true),
        })?;
        match made {
            true => Ok(()),
            false => Err(Error::new(Kind::Exists, format!("{path}: something else has the name"))),
        }
    }

    fn link(&self, path: &str, target: &[u8]) -> Result<()> {
        if target.is_empty() || target.contains(&0) {
            return Err(Error::new(Kind::Invalid, format!("{path}: a symbolic link leads somewhere")));
        }
        let part = self.full(path).and_then(|full| beside(&full)).map_err(|failure| failure.error.within(path))?;
        self.ask(path, async |session, full, is_again| {
            if is_again {
                let _ = session.sftp.remove(&part).await;
            }
            session.sftp.symlink(target, &part).await?;
            let renamed = rename(session, &part, full).await;
            if renamed.is_err() {
                let _ = session.sftp.remove(&part).await;
            }
            renamed
        })
    }

    fn set(&self, path: &str, what: &Set) -> Result<()> {
        self.ask(path, async |session, full, _| set(session, full, what).await)
    }

    fn remove(&self, path: &str) -> Result<()> {
        let is_dir = self.ask(path, async |session, full, _| match session.sftp.remove(full).await {
            gone if is_gone(&gone) => Ok(false),
            Err(Fault::Status(..)) if mode_of(session, full).await == Some(DIR) => Ok(true),
            removed => removed.map(|()| false),
        })?;
        match is_dir {
            true => Err(Error::new(Kind::IsADirectory, format!("{path}: it is a directory"))),
            false => Ok(()),
        }
    }

    fn remove_dir(&self, path: &str) -> Result<()> {
        self.full(path).map_err(|failure| failure.error)?;
        let removed = self.ask(path, async |session, full, _| match session.sftp.rmdir(full).await {
            gone if is_gone(&gone) => Ok(()),
            removed => removed,
        });
        let Err(e) = removed else { return Ok(()) };
        match self.list(path) {
            _ if e.kind() != Kind::Io => Err(e),
            Ok(_) => Err(Error::new(Kind::NotEmpty, format!("{path}: there is something in it"))),
            Err(_) => Err(e),
        }
    }

    fn rename(&self, from: &str, to: &str) -> Result<()> {
        let full = self.full(to).and_then(|to| self.full(from).map(|_| to));
        let full = full.map_err(|failure| failure.error.within(to))?;
        self.ask(from, async |session, from, is_again| match rename(session, from, &full).await {
            // The first time it was done, and the answer was lost.
            gone if is_again && is_gone(&gone) && mode_of(session, &full).await.is_some() => Ok(()),
            renamed => renamed,
        })
    }
}
