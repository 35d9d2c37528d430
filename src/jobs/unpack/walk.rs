//! The walker: directories in the order of the tree, everything else to the workers, files in the order of their contents.

use super::dirs::{self, Dir};
use super::{Job, MAX_DEPTH, Work, entry};
use crate::error::{Error, Kind as ErrorKind, Result};
use crate::pool::lock;
use crate::tree::{Kind, Name, NameBuf, Node};
use std::collections::HashSet;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::ops::ControlFlow;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, Weak};

/// Jobs on the way. Each may hold a directory open, and a process may usually have 1024 files open.
const QUEUE: usize = 256;

/// Directories above the walker that stay open.
const HELD: usize = 64;

/// Entries taken from a listing at once: between two pages the tree is not being asked, so workers can ask it.
const PAGE: usize = 1024;

/// Files that are held back to be put in order: some 100 MB of memory.
const HELD_BACK: usize = 1 << 20;

/// Unpacks what is at `node`; failures are in `work`.
pub fn run(work: &Work<'_>, node: Node, target_is_new: bool) -> Result<()> {
    let is_dir = work.tree.attr(node)?.kind == Kind::Directory;
    let is_whole = is_dir && work.options.strip == 0;
    let root = Dir::root(work, is_whole.then_some(node), target_is_new);
    let threads = if work.options.threads == 0 { crate::pool::threads() } else { work.options.threads };
    let (jobs, queue) = sync_channel(QUEUE);
    let queue = Arc::new(Mutex::new(queue));
    std::thread::scope(|scope| {
        for _ in 0..threads {
            let queue = queue.clone();
            scope.spawn(move || serve(work, &queue));
        }
        // With the last worker goes the queue: were all of them to panic, the walker would not wait for ever.
        drop(queue);
        if is_dir { Walker::new(work, jobs).walk(root, node) } else { one(work, &jobs, root, node) }
    })
}

fn serve(work: &Work<'_>, queue: &Mutex<Receiver<Job>>) {
    let mut buffer = Vec::new();
    let mut last = Weak::new();
    loop {
        let next = lock(queue).recv();
        let Ok(job) = next else { return };
        leave(work, &last, &job.dir);
        last = Arc::downgrade(&job.dir);
        if !work.is_over() {
            entry::unpack(work, &job, &mut buffer);
        }
        dirs::release(work, job.dir);
    }
}

/// Closes the directory of the job before when this one is in another: in the order of their contents, files of any
/// number of directories may take turns.
fn leave(work: &Work<'_>, last: &Weak<Dir>, dir: &Arc<Dir>) {
    if let Some(last) = last.upgrade() {
        if !Arc::ptr_eq(&last, dir) {
            last.let_go();
        }
        dirs::release(work, last);
    }
}

/// A subdir that is no directory: it alone goes into the target, under its own name.
fn one(work: &Work<'_>, jobs: &SyncSender<Job>, root: Arc<Dir>, node: Node) -> Result<()> {
    let name = work.prefix.rsplit(|b| *b == b'/').find(|part| !part.is_empty() && *part != b".");
    let name = Name::new(name.unwrap_or_default())?.to_owned();
    let _ = jobs.send(Job { dir: root, name, node });
    Ok(())
}

struct Walker<'a> {
    work: &'a Work<'a>,
    jobs: SyncSender<Job>,
    /// The path of the current directory in the tree.
    path: Vec<u8>,
    /// Directories that were reached. A tree in which one is reached twice is none.
    reached: HashSet<Node>,
    hash: RandomState,
    /// Files by the place of their contents.
    held_back: Vec<(u64, Job)>,
}

/// A directory the walker is in.
struct Level {
    dir: Arc<Dir>,
    /// Directories in it still to be visited.
    rest: std::vec::IntoIter<(NameBuf, Node)>,
    /// The length of the path above it.
    above: usize,
}

impl<'a> Walker<'a> {
    fn new(work: &'a Work<'a>, jobs: SyncSender<Job>) -> Self {
        Self {
            work,
            jobs,
            path: work.prefix.clone(),
            reached: HashSet::new(),
            hash: RandomState::new(),
            held_back: Vec::new(),
        }
    }

    fn walk(mut self, root: Arc<Dir>, node: Node) -> Result<()> {
        self.reached.insert(node);
        let mut levels = vec![self.level(root, node, 0, 0)];
        while let Some(level) = levels.last_mut() {
            if self.work.is_over() {
                return Ok(());
            }
            let Some((name, node)) = level.rest.next() else {
                self.path.truncate(level.above);
                let done = levels.pop().expect("there is a last one");
                if !self.held_back.is_empty() {
                    done.dir.let_go();
                }
                dirs::release(self.work, done.dir);
                continue;
            };
            let (above, depth) = (self.path.len(), levels.len());
            self.push(name.as_name());
            match self.enter(&levels[depth - 1].dir, name, node, depth) {
                Ok(Some(dir)) => {
                    let level = self.level(dir, node, above, depth);
                    levels.push(level);
                    if depth > HELD {
                        levels[depth - HELD].dir.let_go();
                    }
                }
                Ok(None) => self.path.truncate(above),
                Err(e) => {
                    self.work.skip(&self.path, e);
                    self.path.truncate(above);
                }
            }
        }
        self.send_held_back();
        Ok(())
    }

    fn push(&mut self, name: Name<'_>) {
        if !self.path.is_empty() {
            self.path.push(b'/');
        }
        self.path.extend_from_slice(name.bytes());
    }

    /// A directory to go into, or `None` when it takes no part.
    fn enter(&mut self, above: &Arc<Dir>, name: NameBuf, node: Node, depth: usize) -> Result<Option<Arc<Dir>>> {
        let filter = &self.work.options.filter;
        if filter.excludes(&self.path) {
            return Ok(None);
        }
        let deep = || Error::new(ErrorKind::Limit, format!("more than {MAX_DEPTH} directories are in each other"));
        let twice = || Error::new(ErrorKind::Damaged, "the tree reaches this directory twice");
        if depth > MAX_DEPTH {
            return Err(deep());
        }
        if !self.reached.insert(node) {
            return Err(twice());
        }
        self.work.watch.entry(&self.path);
        if depth <= self.work.options.strip {
            return Ok(Some(above.clone()));
        }
        let dir = above.below(name, node);
        // With patterns to include, a directory is made for what is in it, or because it matches itself.
        if filter.includes(&self.path) {
            dir.fd(self.work)?;
        }
        Ok(Some(dir))
    }

    /// Lists a directory: files and the like go to the workers, its directories wait.
    fn level(&mut self, dir: Arc<Dir>, node: Node, above: usize, depth: usize) -> Level {
        let mut rest = Vec::new();
        let mut seen = HashSet::new();
        let mut after: Option<NameBuf> = None;
        while !self.work.is_over() {
            let page = match self.page(node, after.as_ref()) {
                Ok(page) => page,
                Err(e) => {
                    self.work.skip(&self.path, e);
                    break;
                }
            };
            let is_last = page.len() < PAGE;
            after = page.last().map(|(name, ..)| name.clone());
            for (name, node, kind) in page {
                if !seen.insert(self.hash.hash_one(name.as_name())) {
                    self.twice(name.as_name());
                } else if kind == Kind::Directory {
                    rest.push((name, node));
                } else if depth >= self.work.options.strip && !self.send(&dir, name, node) {
                    break;
                }
            }
            if is_last {
                break;
            }
        }
        Level { dir, rest: rest.into_iter(), above }
    }

    fn page(&self, node: Node, after: Option<&NameBuf>) -> Result<Vec<(NameBuf, Node, Kind)>> {
        let mut page = Vec::new();
        self.work.tree.list(node, after.map(NameBuf::as_name), &mut |name, node, kind| {
            page.push((name.to_owned(), node, kind));
            if page.len() < PAGE { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        Ok(page)
    }

    fn twice(&mut self, name: Name<'_>) {
        let above = self.path.len();
        self.push(name);
        self.work.skip(&self.path, Error::new(ErrorKind::Damaged, "the tree has this name twice; the first is kept"));
        self.path.truncate(above);
    }

    /// Hands an entry over; false when nobody takes it any more.
    fn send(&mut self, dir: &Arc<Dir>, name: NameBuf, node: Node) -> bool {
        let filter = &self.work.options.filter;
        if !filter.is_everything() {
            let above = self.path.len();
            self.push(name.as_name());
            let wanted = !filter.excludes(&self.path) && filter.includes(&self.path);
            self.path.truncate(above);
            if !wanted {
                return true;
            }
        }
        let job = Job { dir: dir.clone(), name, node };
        match self.work.tree.place(node) {
            0 => self.jobs.send(job).is_ok(),
            place => {
                self.held_back.push((place, job));
                self.held_back.len() < HELD_BACK || self.send_held_back()
            }
        }
    }

    /// Hands over what was held back; false when nobody takes it any more.
    fn send_held_back(&mut self) -> bool {
        let mut jobs = std::mem::take(&mut self.held_back);
        jobs.sort_by_key(|(place, _)| *place);
        jobs.into_iter().all(|(_, job)| self.jobs.send(job).is_ok())
    }
}
