//! The thread that brings generations to the server.
//!
//! ```text
//!   plan ──► step ──► steps ──► ... ──► the tree of the server takes note ──► the journal goes
//!              │ failed
//!              └──► a while later the same step again; the while doubles up to a minute
//! ```
//!
//! Steps that follow each other and have nothing to do with each other are done several at a time: most of what a small file
//! costs is the way to the server and back.
//!
//! Before anything is renamed on the server it is written down: a journal finds entries by their paths, and the next attempt,
//! after a crash, has to know where they are.

use super::plan::{self, Step};
use super::{Generation, MOVES, Shared};
use crate::error::{Error, Kind, Result};
use crate::key::random;
use crate::pool::lock;
use crate::remote::{Set, Share, ShareTree, Writes};
use crate::source::ReadAt;
use crate::tree::{Changes, Merged, Time, Tree, find_path};
use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

const FIRST_WAIT: Duration = Duration::from_secs(1);
const LAST_WAIT: Duration = Duration::from_secs(60);

/// How often the thread looks whether it is time.
const TICK: Duration = Duration::from_secs(1);

pub struct Worker {
    shared: Arc<Shared>,
}

/// What is done of a generation, and what is to be done.
struct Attempt {
    generation: Arc<Generation>,
    merged: Arc<Merged>,
    steps: VecDeque<Step>,
    moves: Option<File>,
    /// Files that are open and have no name.
    nameless: Changes,
    /// The first step has been tried before.
    is_again: bool,
}

impl Worker {
    pub fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Until the outbox is closed.
    pub fn run(&self) {
        let (mut wait, mut attempt) = (FIRST_WAIT, None);
        while let Some((generation, kicks)) = self.next() {
            match self.bring(generation, &mut attempt) {
                Ok(()) => (wait, attempt) = (FIRST_WAIT, None),
                Err(_) if lock(&self.shared.state).is_closing => return,
                Err(e) => {
                    log::warn!("not on the server yet: {e}");
                    let mut state = lock(&self.shared.state);
                    state.progress.error = Some(e.to_string());
                    state.progress.failures += 1;
                    state.progress.again = Some(Time::now().secs + wait.as_secs() as i64);
                    drop(state);
                    self.shared.wake.notify_all();
                    self.rest(wait, kicks);
                    wait = (wait * 2).min(LAST_WAIT);
                }
            }
        }
    }

    /// The next generation that goes up, and how often it was asked for; nothing when the outbox is closed.
    fn next(&self) -> Option<(Arc<Generation>, u64)> {
        let mut state = lock(&self.shared.state);
        loop {
            if state.is_closing {
                return None;
            }
            match self.shared.frozen(&mut state) {
                Ok(Some(generation)) => return Some((generation, state.kicks)),
                Ok(None) => {}
                Err(e) => log::error!("{e}"),
            }
            state = self.shared.wake.wait_timeout(state, TICK).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Waits before another try; less, when somebody asks for it, or has asked since this one began.
    fn rest(&self, time: Duration, kicks: u64) {
        let until = Instant::now() + time;
        let mut state = lock(&self.shared.state);
        while !state.is_closing && state.kicks == kicks {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            state = self.shared.wake.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Does what is left of the steps of a generation.
    fn bring(&self, generation: Arc<Generation>, attempt: &mut Option<Attempt>) -> Result<()> {
        let share = self.shared.base.share();
        let Some(writes) = share.writes() else {
            return Err(Error::new(Kind::ReadOnly, "nobody can write there"));
        };
        if attempt.is_none() {
            let merged = generation.journaled.merged();
            let tag = format!("{:x}", u64::from_le_bytes(random()?));
            let steps = VecDeque::from(plan::plan(&self.shared.base, &merged, &tag)?);
            lock(&self.shared.state).progress.total = steps.iter().map(Step::bytes).sum();
            let nameless = generation.journaled.nameless();
            *attempt = Some(Attempt { generation, merged, steps, moves: None, nameless, is_again: false });
        }
        let Some(attempt) = attempt else { return Ok(()) };
        while let Some(first) = attempt.steps.front().cloned() {
            self.go_on()?;
            let step_after = |pair: &(&Step, &Step)| pair.1.is_apart_from(pair.0);
            let together = 1 + attempt.steps.iter().zip(attempt.steps.iter().skip(1)).take_while(step_after).count();
            let done = match together {
                1 => self.step(share, writes, &first, attempt).map(|()| drop(attempt.steps.pop_front())),
                _ => self.several(share, writes, attempt, together),
            };
            attempt.is_again = done.is_err();
            done?;
            let mut state = lock(&self.shared.state);
            (state.progress.error, state.progress.again) = (None, None);
        }
        let moves = attempt.generation.layer.moves();
        plan::take_note(&self.shared.base, &attempt.merged, moves, writes.holds())?;
        self.shared.has_come(&attempt.generation, attempt.nameless.clone());
        remove(&self.shared.dir.join(MOVES))
    }

    /// Waits until the limit lets so many bytes go.
    fn pace(&self, bytes: u64) {
        if let Some(limit) = self.shared.fleet.limit() {
            limit.pass(usize::try_from(bytes).unwrap_or(usize::MAX), true, &|| self.go_on().is_ok());
        }
    }

    fn go_on(&self) -> Result<()> {
        match lock(&self.shared.state).is_closing {
            true => Err(Error::new(Kind::Interrupted, "the mount is closed")),
            false => Ok(()),
        }
    }

    /// Does the first steps, which have nothing to do with each other, several at a time. What was not done of them is left.
    fn several(&self, share: &dyn Share, writes: &dyn Writes, attempt: &mut Attempt, together: usize) -> Result<()> {
        let behind = attempt.steps.split_off(together);
        let (queue, left) = (Mutex::new(std::mem::take(&mut attempt.steps)), Mutex::new(VecDeque::new()));
        let (failed, merged, rest) = (Mutex::new(None), &attempt.merged, behind.len());
        let work = || {
            while lock(&failed).is_none() {
                let mut waiting = lock(&queue);
                let Some(step) = waiting.pop_front() else { return };
                self.are_left(waiting.len() + 1 + rest);
                drop(waiting);
                if let Err(e) = self.go_on().and_then(|()| self.apart(share, writes, &step, merged)) {
                    lock(&left).push_back(step);
                    lock(&failed).get_or_insert(e);
                }
            }
        };
        std::thread::scope(|scope| {
            // Where there is no thread to be had, there is still this one.
            let more = (1..together.min(self.shared.fleet.most())).map_while(|_| {
                std::thread::Builder::new().name("stmount-upload".into()).spawn_scoped(scope, work).ok()
            });
            let more: Vec<_> = more.collect();
            work();
            more.into_iter().for_each(|thread| drop(thread.join()));
        });
        for mut steps in [lock(&left), lock(&queue)] {
            attempt.steps.append(&mut steps);
        }
        attempt.steps.extend(behind);
        lock(&failed).take().map_or(Ok(()), Err)
    }

    fn are_left(&self, steps: usize) {
        lock(&self.shared.state).progress.steps = steps as u64;
    }

    fn step(&self, share: &dyn Share, writes: &dyn Writes, step: &Step, attempt: &mut Attempt) -> Result<()> {
        self.are_left(attempt.steps.len());
        let Step::Move { node, from, to } = step else { return self.apart(share, writes, step, &attempt.merged) };
        let place = &self.shared.dir;
        let moved = note(place, &mut attempt.moves, &[from, to]).and_then(|()| {
            self.shared.base.moves(*node, to, || match writes.rename(from, to) {
                // The answer of the time before may have been lost on its way.
                Err(e) if attempt.is_again && e.kind() == Kind::NotFound && share.look(to).is_ok() => Ok(()),
                renamed => renamed,
            })
        });
        moved.and_then(|()| note(place, &mut attempt.moves, &[])).map_err(|e| e.within(step.words()))
    }

    /// A step that is no move: nothing has to be written down for it.
    fn apart(&self, share: &dyn Share, writes: &dyn Writes, step: &Step, merged: &Merged) -> Result<()> {
        let done = match step {
            Step::MakeDir { path } => writes.make_dir(path),
            Step::Link { path, target } => writes.link(path, target),
            // What a server cannot hold keeps nothing else from it.
            Step::Set { path, set } => match writes.set(path, set) {
                Err(e) if !matches!(e.kind(), Kind::Unreachable | Kind::TimedOut | Kind::NotLetIn) => {
                    log::warn!("{}: {e}", step.words());
                    Ok(())
                }
                done => done,
            },
            Step::Remove { path } => writes.remove(path),
            Step::RemoveDir { path } => writes.remove_dir(path),
            Step::Put { node, path, size, set } => self.put(share, writes, (path, *size), (&*merged.open(*node)?, set)),
            Step::Move { .. } => Err(Error::new(Kind::System, "a move is written down first")),
        };
        done.map_err(|e| e.within(step.words()))
    }

    /// Sends a file, and counts what has gone as long as it counts.
    fn put(
        &self,
        share: &dyn Share,
        writes: &dyn Writes,
        (path, size): (&str, u64),
        (bytes, set): (&dyn ReadAt, &Set),
    ) -> Result<()> {
        let (mut gone, mut counted) = (0, 0);
        let count = |now: u64, counted: &mut u64| {
            let mut state = lock(&self.shared.state);
            state.progress.done = (state.progress.done + now).saturating_sub(*counted);
            *counted = now;
        };
        let put = writes.put(path, bytes, set, &mut |sent| {
            self.pace(sent.saturating_sub(gone));
            gone = gone.max(sent);
            count(sent.min(size), &mut counted);
            self.go_on()
        });
        put.inspect_err(|_| count(0, &mut counted))?;
        self.pace(size.saturating_sub(gone));
        count(size, &mut counted);
        match share.look(path)?.len {
            Some(len) if len != size => Err(Error::new(Kind::Io, format!("the server has {len} bytes of {size}"))),
            _ => Ok(()),
        }
    }
}

/// Writes down what is going to be renamed, or that it is done.
fn note(dir: &Path, moves: &mut Option<File>, names: &[&str]) -> Result<()> {
    let path = dir.join(MOVES);
    let failed = |e| Error::io(e, format!("cannot write {}", path.display()));
    if moves.is_none() {
        *moves = Some(File::options().create(true).append(true).open(&path).map_err(failed)?);
        File::open(dir).and_then(|dir| dir.sync_all()).map_err(failed)?;
    }
    if let Some(file) = moves {
        let line = serde_json::to_string(names).map_err(|e| Error::new(Kind::System, e.to_string()))?;
        file.write_all(format!("{line}\n").as_bytes()).and_then(|()| file.sync_data()).map_err(failed)?;
    }
    Ok(())
}

/// The moves of an attempt before that have been done.
pub fn moves_of(dir: &Path, base: &ShareTree) -> Result<Vec<(String, String)>> {
    let text = match fs::read_to_string(dir.join(MOVES)) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        read => read.map_err(|e| Error::io(e, format!("cannot read {}", dir.join(MOVES).display())))?,
    };
    let mut moves = Vec::new();
    let mut begun: Option<(String, String)> = None;
    // A line that is not whole was never followed by anything.
    for line in text.split_inclusive('\n').filter(|line| line.ends_with('\n')) {
        match serde_json::from_str::<Vec<String>>(line).unwrap_or_default().as_slice() {
            [from, to] => begun = Some((from.clone(), to.clone())),
            _ => moves.extend(begun.take()),
        }
    }
    // Nothing was done behind the last one: where it came from tells whether it was.
    if let Some((from, to)) = begun {
        match find_path(base, from.as_bytes()) {
            Ok(_) => {}
            Err(e) if matches!(e.kind(), Kind::NotFound | Kind::NotADirectory) => {
                // The next move is written behind it, and nobody could tell it then.
                note(dir, &mut None, &[])?;
                moves.push((from, to));
            }
            Err(e) => return Err(e),
        }
    }
    Ok(moves)
}

fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != ErrorKind::NotFound => Err(Error::io(e, format!("cannot remove {}", path.display()))),
        _ => Ok(()),
    }
}
