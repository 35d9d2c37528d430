//! A tree in memory that does as it likes: the same name twice, a directory in itself, files that cannot be read.

use std::ops::Range;
use std::sync::Arc;
use stmount::error::{Error, Kind as ErrorKind, Result};
use stmount::source::{Memory, ReadAt};
use stmount::tree::{Attr, Kind, Name, Node, Time, Totals, Tree, Visit, Xattr};

pub struct FakeNode {
    pub attr: Attr,
    pub entries: Vec<(Vec<u8>, usize)>,
    pub bytes: Vec<u8>,
    pub hole: u64,
    pub breaks_at: Option<u64>,
    pub xattrs: Vec<Xattr>,
}

pub struct Fake {
    pub nodes: Vec<FakeNode>,
}

impl Fake {
    pub fn new() -> Self {
        let mut fake = Self { nodes: Vec::new() };
        fake.push(Kind::Directory);
        fake
    }

    fn push(&mut self, kind: Kind) -> usize {
        let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        let time = Time { secs: 1_234_567_890, nanos: 987_654_321 };
        let mode = match kind {
            Kind::Directory => 0o755,
            Kind::Symlink => 0o777,
            _ => 0o644,
        };
        let attr = Attr { uid, gid, ..Attr::new(kind, mode, time) };
        let node =
            FakeNode { attr, entries: Vec::new(), bytes: Vec::new(), hole: 0, breaks_at: None, xattrs: Vec::new() };
        self.nodes.push(node);
        self.nodes.len() - 1
    }

    pub fn add(&mut self, dir: usize, name: &[u8], kind: Kind) -> usize {
        let node = self.push(kind);
        self.nodes[dir].entries.push((name.to_vec(), node));
        node
    }

    pub fn dir(&mut self, dir: usize, name: &[u8]) -> usize {
        self.add(dir, name, Kind::Directory)
    }

    pub fn file(&mut self, dir: usize, name: &[u8], bytes: &[u8]) -> usize {
        let node = self.add(dir, name, Kind::File);
        self.nodes[node].bytes = bytes.to_vec();
        self.nodes[node].attr.size = bytes.len() as u64;
        node
    }

    pub fn link(&mut self, dir: usize, name: &[u8], target: &[u8]) -> usize {
        let node = self.add(dir, name, Kind::Symlink);
        self.nodes[node].bytes = target.to_vec();
        node
    }

    pub fn again(&mut self, dir: usize, name: &[u8], node: usize) {
        self.nodes[dir].entries.push((name.to_vec(), node));
        self.nodes[node].attr.nlink += 1;
    }

    fn node(&self, node: Node) -> &FakeNode {
        &self.nodes[node.0 as usize]
    }
}

impl Tree for Fake {
    fn root(&self) -> Node {
        Node(0)
    }

    fn find(&self, dir: Node, name: Name<'_>) -> Result<Option<Node>> {
        Ok(self.node(dir).entries.iter().find(|(n, _)| n == name.bytes()).map(|(_, node)| Node(*node as u64)))
    }

    fn attr(&self, node: Node) -> Result<Attr> {
        Ok(self.node(node).attr.clone())
    }

    fn list(&self, dir: Node, after: Option<Name<'_>>, visit: &mut Visit<'_>) -> Result<()> {
        let entries = &self.node(dir).entries;
        let from = after.map_or(0, |a| entries.iter().rposition(|(n, _)| n == a.bytes()).unwrap() + 1);
        for (name, node) in &entries[from..] {
            let kind = self.nodes[*node].attr.kind;
            if visit(Name::new(name)?, Node(*node as u64), kind).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn target(&self, link: Node) -> Result<Vec<u8>> {
        Ok(self.node(link).bytes.clone())
    }

    fn open(&self, file: Node) -> Result<Arc<dyn ReadAt>> {
        let node = self.node(file);
        let bytes = Memory::new(node.bytes.clone());
        Ok(Arc::new(FakeFile { bytes, hole: node.hole, breaks_at: node.breaks_at }))
    }

    fn xattrs(&self, node: Node) -> Result<Vec<Xattr>> {
        Ok(self.node(node).xattrs.clone())
    }

    fn totals(&self) -> Result<Totals> {
        Ok(Totals { nodes: self.nodes.len() as u64, ..Totals::default() })
    }

    fn is_frozen(&self) -> bool {
        true
    }
}

/// Bytes, a hole behind them, and perhaps a place that cannot be read.
struct FakeFile {
    bytes: Memory,
    hole: u64,
    breaks_at: Option<u64>,
}

impl ReadAt for FakeFile {
    fn len(&self) -> Result<u64> {
        Ok(self.bytes.len()? + self.hole)
    }

    fn read_at(&self, at: u64, into: &mut [u8]) -> Result<usize> {
        if self.breaks_at.is_some_and(|b| b < at + into.len() as u64) {
            return Err(Error::new(ErrorKind::Damaged, "a segment fails its check"));
        }
        self.bytes.read_at(at, into)
    }

    fn next_data(&self, at: u64) -> Result<Option<Range<u64>>> {
        let len = self.bytes.len()?;
        Ok((at < len).then_some(at..len))
    }
}
