//! What `info` and `check` find out. For any tree by reading all of it; a container knows more of itself.

use super::{heap, say};
use crate::error::{Error, Kind as ErrorKind, Result};
use crate::formats::{Found, Root, Signer, Volume, Watch, collect, st};
use crate::open::{self, How, trust::Trust};
use crate::pool::lock;
use crate::tree::{Filter, Kind, Node, Tree, path_display};
use serde_json::{Value, json};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// What `info` shows: rows for people, an object for programs.
#[derive(Debug)]
pub struct Facts {
    pub rows: Vec<(String, String)>,
    pub json: Value,
}

impl Checked {
    pub fn is_whole(&self) -> bool {
        self.damaged.is_empty() && self.damage.is_empty() && self.lacking.is_empty()
    }

    /// Whether nothing is wrong but that a base is not there.
    pub fn is_incomplete(&self) -> bool {
        !self.lacking.is_empty() && self.damage.is_empty() && self.damaged.len() as u64 == self.absent
    }
}

/// What `check` found.
#[derive(Debug, Default)]
pub struct Checked {
    pub files: u64,
    pub segments: u64,
    /// Bytes that were read and verified.
    pub bytes: u64,
    /// Every file that cannot be read as it was packed, and why.
    pub damaged: Vec<(Vec<u8>, String)>,
    /// What of the archive itself is damaged, in words.
    pub damage: Vec<String>,
    /// Bases that are not there, in words, and how many of the damaged files lack nothing but those.
    pub lacking: Vec<String>,
    pub absent: u64,
    /// What is not as it was written, and no file needs, in words.
    pub strays: Vec<String>,
}

/// States that are counted. Each takes some microseconds.
const COUNTED: usize = 100_000;

/// Opens what is to be looked at. A wrong signature is told, and does not keep it from being looked at.
fn open(source: &Path, how: &How) -> Result<Volume> {
    let e = match open::open_as(source, how) {
        Err(e) if e.kind() == ErrorKind::Untrusted => e,
        opened => return opened,
    };
    let volume = open::open_as(source, &How { trust: Trust::nobody(), ..how.clone() })?;
    if is_wrong(&volume) { Ok(volume) } else { Err(e) }
}

fn is_wrong(volume: &Volume) -> bool {
    volume.root.is_some_and(|root| root.signer == Signer::Bad)
}

const WRONG: &str = "its signature is wrong: it was changed without the key, or it is damaged";

fn of_signature(root: &Root, trust: &Trust, facts: &mut Facts) {
    let words = match root.signer {
        Signer::None => "nobody".to_owned(),
        Signer::By(key) => trust.called(&key),
        Signer::Bad => "nobody can tell: the signature is wrong".to_owned(),
    };
    let key = if let Signer::By(key) = root.signer { Some(key.to_string()) } else { None };
    if root.signer != Signer::None {
        facts.rows.push(("signed by".to_owned(), words));
    }
    facts.json["signed_by"] = json!(key);
    facts.json["signature"] = match root.signer {
        Signer::None => "none",
        Signer::By(_) => "valid",
        Signer::Bad => "wrong",
    }
    .into();
}

pub fn info(source: &Path, how: &How) -> Result<Facts> {
    let volume = open(source, how)?;
    let totals = volume.tree.totals()?;
    let mut facts = Facts { rows: Vec::new(), json: json!({}) };
    facts.tell("source", source.display().to_string(), source.display().to_string());
    facts.tell("format", volume.format.to_owned(), volume.format);
    if volume.format == CONTAINER {
        let container = container(source, how)?;
        of_container(&container.info()?, &mut facts);
        of_bases(&container.bases()?, &mut facts);
        of_seal(container.seal().map(|seal| seal.keys()), &mut facts);
        volume.root.iter().for_each(|root| of_signature(root, &how.trust, &mut facts));
        let states = st::count(&open::access(source, how)?, COUNTED)?;
        let words = states.map_or_else(|| format!("more than {}", say::count(COUNTED as u64)), say::count);
        facts.tell("states", words, states);
        return Ok(facts);
    }
    facts.tell("files", say::count(totals.nodes), totals.nodes);
    facts.tell("size", say::size(totals.bytes), totals.bytes);
    if totals.stored > 0 {
        facts.tell("stored", part(totals.stored, totals.bytes), totals.stored);
    }
    volume.facts.iter().for_each(|(label, value)| facts.tell(label, value.clone(), value.as_str()));
    facts.rows.extend(volume.notes.iter().map(|note| ("note".to_owned(), note.clone())));
    facts.json["notes"] = json!(volume.notes);
    Ok(facts)
}

fn part(bytes: u64, whole: u64) -> String {
    format!("{} ({} %)", say::size(bytes), say::percent(bytes, whole))
}

impl Facts {
    fn tell(&mut self, label: &str, words: String, value: impl Into<Value>) {
        self.rows.push((label.to_owned(), words));
        self.json[label.replace(' ', "_")] = value.into();
    }
}

fn of_container(info: &st::Info, facts: &mut Facts) {
    let index = info.index_tree + info.index_data;
    let each = info.index_tree as f64 / info.nodes.max(1) as f64;
    let tree = format!("names and inodes {}, {each:.1} bytes a file", say::size(info.index_tree));
    facts.tell("files", say::count(info.nodes), info.nodes);
    facts.tell("size", say::size(info.bytes), info.bytes);
    facts.tell("unique", part(info.unique, info.bytes), info.unique);
    facts.tell("stored", part(info.stored, info.bytes), info.stored);
    facts.tell("index", format!("{} ({tree})", say::size(index)), index);
    facts.json["index_tree"] = info.index_tree.into();
    facts.tell("tables", say::count(info.tables), info.tables);
    facts.tell("segments", say::count(info.segments), info.segments);
    facts.tell("largest segment", say::size(info.largest_segment), info.largest_segment);
    facts.json["random_read_us"] = (info.random_read.as_micros() as u64).into();
    facts.json["decode_rate"] = info.decode_rate.into();
    facts.rows.push(("reading".to_owned(), cost(info)));
}

/// What it lies over, and where that is.
fn of_bases(bases: &[st::BaseInfo], facts: &mut Facts) {
    for base in bases {
        let place = base.place.as_ref().map_or("NOT FOUND".to_owned(), |place| format!("found: {place}"));
        let (segments, raw) = (say::counted(base.segments, "segment", "segments"), say::size(base.raw));
        facts.rows.push(("lies over".to_owned(), format!("{}, {segments}, {raw}; {place}", base.words)));
    }
    let all = bases.iter().map(|base| {
        json!({"kind": if base.is_store { "store" } else { "container" }, "uid": base.uid, "hints": base.hints,
            "segments": base.segments, "bytes": base.raw, "stored": base.stored, "found": base.place})
    });
    facts.json["bases"] = all.collect();
}

/// What it is sealed with, and what opens it.
fn of_seal(keys: Option<&st::KeySet>, facts: &mut Facts) {
    facts.json["sealed"] = json!(keys.map(|keys| json!({"ciphers": keys.cipher_names(), "padded": keys.padded()})));
    let Some(keys) = keys else { return };
    let padded = if keys.padded() { "; lengths are padded" } else { "" };
    facts.rows.push(("sealed with".to_owned(), format!("{}{padded}", keys.cipher_names().join(", then "))));
    let slots = keys.slots();
    let described: Vec<_> = slots.iter().map(slot_json).collect();
    facts.json["sealed"]["slots"] = json!(described);
    let words = slots.into_iter().map(|slot| slot.words).collect::<Vec<_>>().join("; ");
    facts.rows.push(("opens with".to_owned(), words));
}

/// What everybody can see of a way to open it.
pub(super) fn slot_json(slot: &st::SlotInfo) -> Value {
    match slot.cost {
        Some(cost) => {
            json!({"kind": slot.kind, "memory_kib": cost.memory_kib, "passes": cost.passes, "lanes": cost.lanes})
        }
        None => json!({"kind": slot.kind}),
    }
}

/// What reading will cost, from a few segments that were decoded just now.
fn cost(info: &st::Info) -> String {
    if info.segments == 0 {
        return "nothing to decode".to_owned();
    }
    let (segment, rate) = (say::size(info.largest_segment), say::size(info.decode_rate));
    let millis = info.random_read.as_secs_f64() * 1000.0;
    format!("a random read decodes {segment} at most, about {millis:.1} ms; in sequence {rate}/s on each core")
}

/// The name of the container of this project.
const CONTAINER: &str = "st";

fn container(source: &Path, how: &How) -> Result<st::Container> {
    st::Container::open(open::access(source, how)?)
}

pub fn check(source: &Path, how: &How, threads: usize, watch: &dyn Watch) -> Result<Checked> {
    heap::keep_small();
    let volume = open(source, how)?;
    say::notes(source, &volume.notes);
    if volume.format == CONTAINER {
        let mut checked = of_check(container(source, how)?.check(threads, watch)?);
        checked.damage.extend(is_wrong(&volume).then(|| WRONG.to_owned()));
        return Ok(checked);
    }
    read_all(&volume, threads, watch)
}

/// A container knows its hashes; damage that belongs to no file is told under the name of the container.
fn of_check(found: st::Checked) -> Checked {
    let names = found.names.iter().map(|name| (name.path.clone(), name.what.to_owned()));
    let (lost, healed): (Vec<_>, Vec<_>) = found.files.iter().partition(|file| file.hurt.lost > 0);
    let absent = lost.iter().filter(|file| file.hurt.is_absent()).count() as u64;
    let damaged = lost.iter().map(|file| (file.path.clone(), hurt(&file.hurt))).chain(names).collect();
    let mut strays = found.strays.lines();
    if found.healed > 0 {
        let pieces = say::counted(found.healed, "piece is", "pieces are");
        strays.push(format!("{pieces} damaged and can be read by parity: check --repair writes them as they were"));
    }
    strays.extend(healed.iter().map(|file| format!("{}: {}", path_display(&file.path), hurt(&file.hurt))));
    Checked {
        files: found.entries,
        segments: found.segments,
        bytes: found.bytes,
        damaged,
        damage: found.damage,
        lacking: found.lacking,
        absent,
        strays,
    }
}

/// `768 KiB in 3 segments cannot be read, 14 are read by parity`
pub(super) fn hurt(hurt: &st::Hurt) -> String {
    let lost =
        format!("{} in {} cannot be read", say::size(hurt.lost), say::counted(hurt.segments, "segment", "segments"));
    let words = match (hurt.lost, hurt.healed) {
        (0, healed) => format!("{} read by parity", say::counted(healed, "segment is", "segments are")),
        (_, 0) => lost,
        (_, healed) => format!("{lost}, {healed} are read by parity"),
    };
    words
        + &match hurt.absent {
            0 => String::new(),
            _ if hurt.is_absent() => ": it lies in a base that is not there".to_owned(),
            absent => format!(", {absent} of them in a base that is not there"),
        }
}

/// Reads every byte of every file once: whatever a format verifies when it reads is verified. Files are read in the order
/// in which they lie, by several threads: those that share a solid block share its decoding.
fn read_all(volume: &Volume, threads: usize, watch: &dyn Watch) -> Result<Checked> {
    let tree = &*volume.tree;
    let notes = Notes { watch, damaged: Mutex::default() };
    let all = collect(tree, &Filter::default(), &notes)?;
    let reading =
        Reading { tree, notes: &notes, next: AtomicUsize::new(0), files: AtomicU64::new(0), bytes: AtomicU64::new(0) };
    watch.total(tree.totals()?.bytes, all.len() as u64);
    std::thread::scope(|scope| {
        (0..threads.max(1)).for_each(|_| drop(scope.spawn(|| reading.work(&all))));
    });
    if watch.is_cancelled() {
        return Err(Error::new(ErrorKind::Interrupted, "interrupted"));
    }
    let (files, bytes) = (reading.files.into_inner(), reading.bytes.into_inner());
    let mut damaged = std::mem::take(&mut *lock(&notes.damaged));
    damaged.sort();
    Ok(Checked { files, bytes, damaged, ..Checked::default() })
}

/// Takes note of what cannot be listed or read.
struct Notes<'a> {
    watch: &'a dyn Watch,
    damaged: Mutex<Vec<(Vec<u8>, String)>>,
}

impl Watch for Notes<'_> {
    fn skipped(&self, path: &[u8], why: &Error) {
        log::debug!("{}: {why}", path_display(path));
        lock(&self.damaged).push((path.to_owned(), why.to_string()));
    }

    fn is_cancelled(&self) -> bool {
        self.watch.is_cancelled()
    }
}

struct Reading<'a> {
    tree: &'a dyn Tree,
    notes: &'a Notes<'a>,
    next: AtomicUsize,
    files: AtomicU64,
    bytes: AtomicU64,
}

impl Reading<'_> {
    /// Takes the next entry until there is none.
    fn work(&self, all: &[Found]) {
        let mut piece = vec![0; 1 << 20];
        while let Some(found) = all.get(self.next.fetch_add(1, Ordering::Relaxed)) {
            if self.notes.is_cancelled() {
                return;
            }
            self.notes.watch.entry(&found.path);
            if let Err(e) = self.entry(found, &mut piece) {
                self.notes.skipped(&found.path, &e);
            }
            self.notes.watch.advance(0, 1);
        }
    }

    fn entry(&self, found: &Found, piece: &mut [u8]) -> Result<()> {
        self.tree.xattrs(found.node)?;
        match found.attr.kind {
            Kind::Symlink => drop(self.tree.target(found.node)?),
            // Of several names of one file the first is enough.
            Kind::File if found.same_as.is_none() => self.file(found.node, piece)?,
            _ => {}
        }
        Ok(())
    }

    fn file(&self, node: Node, piece: &mut [u8]) -> Result<()> {
        self.files.fetch_add(1, Ordering::Relaxed);
        let file = self.tree.open(node)?;
        let (len, mut at) = (file.len()?, 0);
        while at < len && !self.notes.is_cancelled() {
            let got = file.read_at(at, piece)?;
            if got == 0 {
                return Err(Error::new(ErrorKind::Damaged, format!("ends at {at} of {len} bytes")));
            }
            at += got as u64;
            self.bytes.fetch_add(got as u64, Ordering::Relaxed);
            self.notes.watch.advance(got as u64, 0);
        }
        Ok(())
    }
}
