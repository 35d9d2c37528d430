//! A folder of a server that is written to: changes are durable here first, and go up behind.
//!
//! ```text
//!   commit ──► live generation: its journal, one sync ── quiet for a while ──► frozen generation ──► steps on the server
//!              what fsync waits for                                            in a thread of its own      │
//!                                                                              its journal goes  ◄── all are done
//!
//!   readers see    Merged { Merged { the folder, frozen }, live }      the same before and after, under the same numbers
//! ```
//!
//! At most two generations are there. While one goes up, all that is written goes to the next one. What a crash or a dead link
//! leaves is found in the journals by the next mount, and goes up then: each step may be done twice.
//!
//! ```text
//!   STATE/outbox/KEY/     address          whose it is, for people
//!                         lock             one mount at a time
//!                         secret           by which the parts of files are called on the server
//!                         1.journal ...    generations, the lower the older
//!                         moves            what was renamed on the server in the middle of a generation
//! ```

mod layer;
mod plan;
mod upload;

use super::sidecar::At;
use super::{Claim, record};
use crate::error::{Error, Kind, Result};
use crate::formats::journal::Journaled;
use crate::formats::{Holds, Outgoing, Settled, Watch, Writer};
use crate::key::random;
use crate::pool::lock;
use crate::remote::{self, ShareTree};
use crate::source::{Fleet, Held, Stamp};
use crate::tree::{Changes, Difference, Merged, Tree};
use layer::Layer;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use upload::Worker;

/// Nodes from here on are new: no folder has so many entries.
const FIRST_NEW: u64 = 1 << 40;

/// Changes go up when none has come for so long.
const QUIET: Duration = Duration::from_secs(5);

/// What goes on and on being changed goes up as it is after so long.
const LONGEST: Duration = Duration::from_secs(300);

const JOURNAL: &str = ".journal";
const MOVES: &str = "moves";

/// The writer of a folder of a server.
pub struct Outbox {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    /// No entry that a journal has brought has such a number or a greater one.
    first_new: u64,
    _held: Held,
}

/// What the mount and the thread that sends have together.
struct Shared {
    base: Arc<ShareTree>,
    fleet: Arc<Fleet>,
    dir: PathBuf,
    stamp: Stamp,
    state: Mutex<State>,
    wake: Condvar,
}

struct State {
    /// What is on its way.
    frozen: Option<Arc<Generation>>,
    live: Arc<Generation>,
    /// When the first change came that is not frozen, and the last.
    since: Option<Instant>,
    last: Instant,
    /// All that is there is to go up now.
    is_urgent: bool,
    is_closing: bool,
    commits: u64,
    /// How often somebody asked for another try at once.
    kicks: u64,
    progress: Outgoing,
    /// The tree that the mount has not seen yet.
    shown: Option<Arc<dyn Tree>>,
}

/// Changes with their journal.
struct Generation {
    /// Of its journal.
    number: u64,
    journaled: Journaled,
    layer: Arc<Layer>,
}

/// What was found of a mount before.
#[derive(Clone, Copy, Debug, Default)]
pub struct Left {
    pub entries: u64,
    pub bytes: u64,
}

impl Outbox {
    /// Takes a folder of a server over, with what an earlier mount has left to be done. What is sent keeps to the
    /// limits of the fleet.
    ///
    /// # Errors
    /// `Locked` when another mount has it; `ReadOnly` when nobody can write there; those of the journals.
    pub fn open(
        address: &str,
        base: Arc<ShareTree>,
        fleet: Arc<Fleet>,
        states: &Path,
        claim: &Claim,
    ) -> Result<(Self, Arc<dyn Tree>, Left)> {
        if base.share().writes().is_none() {
            return Err(Error::new(Kind::ReadOnly, format!("{address}: folders of its kind are only read"))
                .hint("-o overlay=DIR takes changes and keeps them here"));
        }
        let stamp = Stamp { len: 0, hash: blake3::hash(address.as_bytes()).into() };
        let dir = states.join("outbox").join(&blake3::hash(address.as_bytes()).to_hex()[..32]);
        let failed = |e| Error::io(e, format!("cannot make {}", dir.display()));
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir).map_err(failed)?;
        fs::write(dir.join("address"), format!("{address}\n")).map_err(failed)?;
        let lock_file = dir.join("lock");
        File::options().write(true).create(true).truncate(false).mode(0o600).open(&lock_file).map_err(failed)?;
        let held = Held::open(&lock_file).map_err(|e| e.within(address))?;
        record::claim(&held, claim).map_err(|e| e.within(address))?;
        remote::call_parts_by(secret_in(&dir)?);
        let (frozen, live, left) = generations(&base, &dir, stamp)?;
        let (tree, first_new) = (live.journaled.tree(), live.journaled.first_new_node());
        let state = State {
            since: (!live.journaled.is_empty()).then(Instant::now),
            last: Instant::now(),
            frozen,
            live,
            is_urgent: left.entries > 0,
            is_closing: false,
            commits: 0,
            kicks: 0,
            progress: Outgoing::default(),
            shown: None,
        };
        let shared = Shared { base, fleet, dir, stamp, state: Mutex::new(state), wake: Condvar::new() };
        let shared = Arc::new(shared);
        let worker = Worker::new(shared.clone());
        let thread = std::thread::Builder::new().name("stmount-upload".into()).spawn(move || worker.run());
        let thread = Some(thread.map_err(|e| Error::io(e, "no thread that sends"))?);
        Ok((Self { shared, thread, first_new, _held: held }, tree, left))
    }
}

/// The secret of a directory, which is made with it.
fn secret_in(dir: &Path) -> Result<[u8; 32]> {
    let path = dir.join("secret");
    if let Some(known) = fs::read(&path).ok().and_then(|bytes| bytes.try_into().ok()) {
        return Ok(known);
    }
    let fresh: [u8; 32] = random()?;
    let file = File::options().write(true).create(true).truncate(true).mode(0o600).open(&path);
    let written = file.and_then(|mut file| file.write_all(&fresh));
    written.map(|()| fresh).map_err(|e| Error::io(e, format!("cannot write {}", path.display())))
}

/// The generations that are in a directory: at most one before the one that goes on.
type Found = (Option<Arc<Generation>>, Arc<Generation>, Left);

fn generations(base: &Arc<ShareTree>, dir: &Path, stamp: Stamp) -> Result<Found> {
    let mut numbers: Vec<u64> = Vec::new();
    for entry in fs::read_dir(dir).map_err(|e| Error::io(e, format!("cannot list {}", dir.display())))? {
        let name = entry.map_err(|e| Error::io(e, "cannot list it"))?.file_name();
        numbers.extend(name.to_str().and_then(|name| name.strip_suffix(JOURNAL)?.parse::<u64>().ok()));
    }
    numbers.sort_unstable();
    let moves = if numbers.is_empty() { Vec::new() } else { upload::moves_of(dir, base)? };
    let first = numbers.first().copied().unwrap_or(1);
    let oldest = Generation::open(base, None, dir, (first, stamp), FIRST_NEW, moves)?;
    let Some(second) = numbers.get(1).copied() else {
        let left = oldest.left();
        return Ok((None, oldest, left));
    };
    let before = (oldest.journaled.merged(), oldest.journaled.first_new_node());
    let next = Generation::open(base, Some(before.0), dir, (second, stamp), before.1, Vec::new())?;
    if numbers.len() > 2 {
        return Err(Error::new(Kind::Damaged, format!("{} has more journals than two", dir.display())));
    }
    let (one, two) = (oldest.left(), next.left());
    let left = Left { entries: one.entries + two.entries, bytes: one.bytes + two.bytes };
    Ok((Some(oldest), next, left))
}

/// A folder without what an attempt before has left on its way: it is where the journal says.
fn without_those_on_the_way(base: &Arc<ShareTree>, moves: &[(String, String)]) -> Arc<dyn Tree> {
    let mut hidden = Changes::default();
    plan::on_the_way(moves).for_each(|name| hidden.set_name(base.root(), name, None));
    if hidden.is_empty() { base.clone() } else { Arc::new(Merged::new(base.clone(), hidden)) }
}

impl Generation {
    fn open(
        base: &Arc<ShareTree>,
        before: Option<Arc<Merged>>,
        dir: &Path,
        (number, stamp): (u64, Stamp),
        first_new: u64,
        moves: Vec<(String, String)>,
    ) -> Result<Arc<Self>> {
        let tree: Arc<dyn Tree> = match &before {
            Some(before) => before.clone(),
            None => without_those_on_the_way(base, &moves),
        };
        let layer = Arc::new(Layer::new(base.clone(), before, dir.to_owned(), stamp, moves));
        let place = Box::new(At(dir.join(format!("{number}{JOURNAL}"))));
        let (journaled, _) =
            Journaled::new(tree, first_new, layer.clone(), place, None).map_err(|e| e.within(dir.display()))?;
        Ok(Arc::new(Self { number, journaled, layer }))
    }

    fn left(&self) -> Left {
        let Settled { entries, bytes, .. } = self.journaled.unsettled();
        Left { entries, bytes }
    }
}

impl Shared {
    /// What there is to be done next: freezes the live generation where it is time.
    fn frozen(&self, state: &mut State) -> Result<Option<Arc<Generation>>> {
        let is_time = |since: Instant| since.elapsed() > LONGEST || state.last.elapsed() > QUIET;
        if state.frozen.is_none() && (state.is_urgent || state.since.is_some_and(is_time)) {
            if state.live.journaled.is_empty() {
                (state.is_urgent, state.since) = (false, None);
                return Ok(None);
            }
            let live = state.live.clone();
            let (before, number) = (Some(live.journaled.merged()), (live.number + 1, self.stamp));
            let next = Generation::open(&self.base, before, &self.dir, number, FIRST_NEW, Vec::new())?;
            (state.frozen, state.live, state.since) = (Some(live), next, None);
        }
        Ok(state.frozen.clone())
    }

    /// The frozen generation is on the server.
    fn has_come(&self, generation: &Generation, kept: Changes) {
        let mut state = lock(&self.state);
        generation.journaled.finish();
        state.frozen = None;
        state.live.layer.has_come();
        state.shown = Some(state.live.journaled.rebase(self.base.clone(), kept));
        state.progress = Outgoing::default();
        drop(state);
        self.wake.notify_all();
    }
}

impl State {
    fn waiting(&self) -> Settled {
        let frozen = self.frozen.as_ref().map(|frozen| frozen.journaled.unsettled()).unwrap_or_default();
        let live = self.live.journaled.unsettled();
        Settled { entries: frozen.entries + live.entries, bytes: frozen.bytes + live.bytes }
    }
}

impl Writer for Outbox {
    fn first_new_node(&self) -> u64 {
        self.first_new
    }

    fn reserve(&self, bytes: u64, entries: u64) -> Result<()> {
        let live = lock(&self.shared.state).live.clone();
        live.journaled.reserve(bytes, entries)
    }

    fn commit(&self, changes: &Changes) -> Result<Arc<dyn Tree>> {
        let mut state = lock(&self.shared.state);
        let tree = state.live.journaled.commit(changes)?;
        state.last = Instant::now();
        state.since.get_or_insert(Instant::now());
        state.commits += 1;
        // It is newer than what was to be shown.
        state.shown = None;
        Ok(tree)
    }

    /// Has all that is there go up, and does not wait for it.
    fn settle(&self, _: &dyn Watch, show: &mut dyn FnMut(Arc<dyn Tree>)) -> Result<Settled> {
        let mut state = lock(&self.shared.state);
        state.is_urgent = !state.live.journaled.is_empty();
        if let Some(tree) = state.shown.take() {
            show(tree);
        }
        drop(state);
        self.shared.wake.notify_all();
        Ok(Settled::default())
    }

    /// Waits until all is on the server, or it is known that nobody can be reached there.
    fn flush(&self, watch: &dyn Watch) -> Result<()> {
        let mut state = lock(&self.shared.state);
        let failures = state.progress.failures;
        state.kicks += 1;
        loop {
            if state.frozen.is_none() && state.live.journaled.is_empty() {
                return Ok(());
            }
            state.is_urgent = true;
            self.shared.wake.notify_all();
            if watch.is_cancelled() || state.progress.failures > failures {
                return Err(self.not_there(&state));
            }
            let tick = Duration::from_millis(200);
            state = self.shared.wake.wait_timeout(state, tick).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn unsettled(&self) -> Settled {
        lock(&self.shared.state).waiting()
    }

    fn outgoing(&self) -> Option<Outgoing> {
        Some(lock(&self.shared.state).progress.clone())
    }

    fn settling(&self) -> Option<(u64, u64)> {
        let progress = lock(&self.shared.state).progress.clone();
        (progress.total > 0).then_some((progress.done, progress.total))
    }

    fn differences(&self) -> Result<BTreeMap<Vec<u8>, Difference>> {
        let state = lock(&self.shared.state);
        let mut all = match &state.frozen {
            Some(frozen) => frozen.journaled.differences()?,
            None => BTreeMap::new(),
        };
        all.append(&mut state.live.journaled.differences()?);
        Ok(all)
    }

    fn holds(&self) -> &'static Holds {
        lock(&self.shared.state).live.journaled.holds()
    }

    fn sequence(&self) -> u64 {
        lock(&self.shared.state).commits
    }

    fn free(&self) -> Result<u64> {
        let live = lock(&self.shared.state).live.clone();
        live.journaled.free()
    }
}

impl Outbox {
    fn not_there(&self, state: &State) -> Error {
        let waiting = state.waiting();
        let why = state.progress.error.clone().unwrap_or_else(|| "it takes its time".to_owned());
        let what = format!(
            "{} changes with {} bytes are stored here and not on the server yet: {why}",
            waiting.entries, waiting.bytes
        );
        let hint = format!("the next mount sends them; until then they are in {}", self.shared.dir.display());
        Error::new(Kind::NotUploaded, what).hint(hint)
    }
}

impl Drop for Outbox {
    fn drop(&mut self) {
        lock(&self.shared.state).is_closing = true;
        self.shared.wake.notify_all();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
