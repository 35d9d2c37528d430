//! Does with a container, or an archive, what a user may do, in small measure where it claims to be large. What is found must agree with
//! itself; whether it is an error or not is no matter.

use std::collections::HashSet;
use std::ops::ControlFlow;
use std::sync::Arc;
use stmount::cache::Cache;
use stmount::error::Result;
use stmount::formats::st::{Container, St};
use stmount::formats::{Access, Format, HEAD, Match, Probe, Reading, Unwatched};
use stmount::key::{Keys, NoKeys, OneKey, Secret};
use stmount::source::{Memory, ReadAt};
use stmount::tree::{Kind, Name, NameBuf, Node, Tree};

/// Small enough that what is cached is pushed out.
const CACHE: u64 = 4 << 20;
/// Entries that are looked at, all together, and how deep.
const ENTRIES: usize = 5000;
const DEPTH: usize = 64;
/// Bytes that are read, all together.
const BYTES: usize = 4 << 20;
/// Bytes of one read.
const PIECE: usize = 10_000;

pub fn all(bytes: &[u8]) {
    let (head, tail) = (&bytes[..bytes.len().min(HEAD)], &bytes[bytes.len().saturating_sub(HEAD)..]);
    if St.recognise(&Probe { head, tail, name: "fuzz" }) == Match::No {
        return;
    }
    let bytes = Arc::new(Memory::new(bytes.to_vec()));
    let cache = Cache::new(CACHE);
    if let Ok(container) = Container::open(Access::to_read(bytes, cache.clone(), "fuzz")) {
        use_all(&container);
    }
    // What is decoded ahead belongs to this input and not to the next.
    while Arc::strong_count(&cache) > 1 {
        std::thread::yield_now();
    }
}

/// The same with an archive of another maker. With a password, what is encrypted is decrypted, though it is hardly right.
pub fn archive(format: &dyn Format, name: &str, bytes: &[u8], password: Option<&str>) {
    let keys: Arc<dyn Keys> = match password {
        Some(password) => Arc::new(OneKey(Secret::new(password.into()))),
        None => Arc::new(NoKeys),
    };
    let reading = Reading { keys, force: true, asks_late: true, max_entries: 100_000, ..Reading::default() };
    let bytes = Arc::new(Memory::new(bytes.to_vec()));
    let cache = Cache::new(CACHE);
    let access = Access { reading: Arc::new(reading), ..Access::to_read(bytes, cache.clone(), name) };
    if let Ok(volume) = format.open(access) {
        walk(&*volume.tree);
        let _ = volume.tree.totals();
    }
    while Arc::strong_count(&cache) > 1 {
        std::thread::yield_now();
    }
}

/// Looks at all of a tree.
pub fn walk(tree: &dyn Tree) {
    Walk { tree, entries: ENTRIES, bytes: BYTES, seen: HashSet::new(), piece: vec![0; PIECE] }.tree();
}

fn use_all(container: &Container) {
    walk(container);
    let _ = container.totals();
    let _ = container.info();
    let _ = container.check(1, &Unwatched);
}

struct Walk<'a> {
    tree: &'a dyn Tree,
    entries: usize,
    bytes: usize,
    seen: HashSet<Node>,
    piece: Vec<u8>,
}

impl Walk<'_> {
    fn tree(&mut self) {
        let mut todo = vec![(self.tree.root(), 0)];
        while let Some((node, depth)) = todo.pop() {
            if !self.seen.insert(node) {
                continue;
            }
            self.node(node);
            if depth < DEPTH {
                todo.extend(self.directory(node).into_iter().map(|node| (node, depth + 1)));
            }
        }
    }

    /// Everything is asked of everything: a hostile name may lead to an inode of another kind.
    fn node(&mut self, node: Node) {
        let _ = self.tree.attr(node);
        let _ = self.tree.xattrs(node);
        let _ = self.tree.owner(node);
        let _ = self.tree.target(node);
        if let Ok(file) = self.tree.open(node) {
            let _ = self.file(&*file);
        }
    }

    /// What is in a directory, if anything: names ascend, are found by themselves, and the list goes on behind each.
    fn directory(&mut self, dir: Node) -> Vec<Node> {
        let mut found: Vec<(NameBuf, Node, Kind)> = Vec::new();
        let listed = self.tree.list(dir, None, &mut |name, node, kind| {
            if self.entries == 0 {
                return ControlFlow::Break(());
            }
            self.entries -= 1;
            assert!(found.last().is_none_or(|(last, ..)| last.as_name().bytes() < name.bytes()), "names ascend");
            found.push((name.to_owned(), node, kind));
            ControlFlow::Continue(())
        });
        for (name, node, _) in found.iter().step_by(1 + found.len() / 16) {
            if let Ok(same) = self.tree.find(dir, name.as_name()) {
                assert_eq!(same, Some(*node), "a listed name is found");
            }
        }
        if let (Ok(()), [(name, ..), (next, ..), ..]) = (&listed, &found[..]) {
            assert_eq!(self.first_behind(dir, name.as_name()), Some(next.clone()), "a list goes on behind a name");
        }
        let _ = self.tree.find(dir, Name::new(b"no such name").expect("it is one"));
        found.into_iter().map(|(_, node, _)| node).collect()
    }

    fn first_behind(&self, dir: Node, name: Name<'_>) -> Option<NameBuf> {
        let mut first = None;
        let listed = self.tree.list(dir, Some(name), &mut |name, _, _| {
            first = Some(name.to_owned());
            ControlFlow::Break(())
        });
        listed.ok().and(first)
    }

    fn file(&mut self, file: &dyn ReadAt) -> Result<()> {
        let len = file.len()?;
        self.ranges(file, len)?;
        for at in [0, 1, len / 2, len.saturating_sub(100), len.saturating_sub(1), len, len.saturating_add(9), u64::MAX]
        {
            if self.bytes == 0 {
                break;
            }
            file.will_read(at..at.saturating_add(100_000));
            let _ = self.read(file, len, at);
        }
        Ok(())
    }

    fn read(&mut self, file: &dyn ReadAt, len: u64, at: u64) -> Result<()> {
        let got = file.read_at(at, &mut self.piece)?;
        assert_eq!(got as u64, len.saturating_sub(at).min(PIECE as u64), "a read is short at the end only");
        self.bytes = self.bytes.saturating_sub(got.max(1000));
        // From the same place only: segments of a hostile container may overlap, and then say different things.
        let mut again = vec![1; got];
        file.read_exact_at(at, &mut again)?;
        assert!(again == self.piece[..got], "the same bytes are read twice");
        Ok(())
    }

    /// Data and holes: ranges with something in them, in order, inside the file; what lies between them is zeros.
    fn ranges(&mut self, file: &dyn ReadAt, len: u64) -> Result<()> {
        let mut at = 0;
        for _ in 0..100 {
            let Some(range) = file.next_data(at)? else { break };
            assert!(range.start >= at && range.start < range.end && range.end <= len, "{range:?} at {at} of {len}");
            let hole = ((range.start - at) as usize).min(PIECE);
            if file.read_exact_at(at, &mut self.piece[..hole]).is_ok() {
                assert!(self.piece[..hole].iter().all(|byte| *byte == 0), "a hole is zeros");
            }
            at = range.end;
        }
        file.next_data(u64::MAX)?;
        Ok(())
    }
}
