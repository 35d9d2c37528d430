//! How a folder of a server of ssh is written to.
//!
//! ```text
//!   put      OPEN a hidden name beside ─► WRITE WRITE … ─► fsync ─► mode, time ─► CLOSE ─► posix-rename over the old one
//! ```
//!
//! What the server does not know of these is left out, or done in another way: without posix-rename the old file is gone for a
//! moment.

use super::{
    Asked, Attrs, Fault, Fetched, Holds, Part, Sent, Session, Set, SftpShare, Writes, checked, flag, is_broken, never,
    of_time, part_of, send, shown, status, system, wait_for,
};
use crate::error::{Error, Kind, Result, Within};
use crate::key::NoKeys;
use crate::source::{Again, Failure, ReadAt};
use std::collections::VecDeque;
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
        let handle = self.ssh.wait(session, session.sftp.open(name, flags, first)).map_err(|failure| failure.error)?;
        let written = self.write(session, &handle, bytes, told).and_then(|()| {
            let finish = async {
                if session.knows(FSYNC) {
                    session.sftp.extended(FSYNC, &[handle.as_slice().into()]).await?;
                }
                if !attrs.is_nothing() {
                    session.sftp.fsetstat(&handle, attrs).await?;
                }
                Ok(())
            };
            self.ssh.wait(session, finish).map_err(|failure| failure.error)
        });
        let closed = self.ssh.wait(session, session.sftp.close(&handle)).map_err(|failure| failure.error);
        written.and(closed)
    }

    fn write(
        &self,
        session: &Session,
        handle: &[u8],
        bytes: &dyn ReadAt,
        told: &mut dyn FnMut(u64) -> Result<()>,
    ) -> Result<()> {
        let (len, mut at, mut gone) = (bytes.len()?, 0, 0);
        let mut sent: VecDeque<(Sent<'_, Asked<()>>, u64)> = VecDeque::new();
        while gone < len {
            while sent.len() < WRITES && at < len {
                let mut piece = vec![0; (len - at).min(PIECE as u64) as usize];
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
        what: &Set,
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
        let mode = what.mode.or(old.filter(|mode| mode & TYPE == FILE).map(|mode| mode & 0o7777));
        let (session, _) = self.ssh.session(&NoKeys, Instant::now()).map_err(plain)?;
        let uploaded = self.upload(&session, &part, bytes, &Set { mode, ..*what }, told);
        let put = uploaded.and_then(|()| self.ssh.wait(&session, rename(&session, &part, &full)).map_err(plain));
        put.inspect_err(|e| self.clean(&session, &part, e))
    }

    /// Takes away what a failure left, over another connection where this one is gone.
    fn clean(&self, session: &Arc<Session>, part: &str, why: &Error) {
        if matches!(why.kind(), Kind::Unreachable | Kind::TimedOut) {
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
        self.put_at(path, bytes, what, told).within(|| shown(self.address(path).as_str()))
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
        match super::Share::list(self, path) {
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
