//! A tree in memory, made by hand: whatever a test wants to mount.

#![allow(dead_code)]

use std::collections::BTreeMap;
use std::ops::{ControlFlow, Range};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use stmount::error::{Error, Kind as ErrorKind, Result};
use stmount::source::{Memory, ReadAt};
use stmount::tree::{Attr, Kind, Name, Node, Time, Totals, Tree, Visit, Xattr, not_found};

/// The root is node 2 and the first thing in it node 1, so that the numbers of a kernel have to be exchanged.
pub const ROOT: Node = Node(2);

pub struct MemTree {
    nodes: Vec<MemNode>,
    pub frozen: bool,
    broken: Option<Node>,
    /// Calls of `list`.
    pub lists: AtomicUsize,
}

struct MemNode {
    attr: Attr,
    children: BTreeMap<Vec<u8>, Node>,
    target: Vec<u8>,
    data: Option<Arc<dyn ReadAt>>,
    xattrs: Vec<Xattr>,
}

fn index(node: Node) -> usize {
    match node.0 {
        2 => 0,
        1 => 1,
        n => n as usize - 1,
    }
}

impl Default for MemTree {
    fn default() -> Self {
        let mut tree = Self { nodes: Vec::new(), frozen: true, broken: None, lists: AtomicUsize::new(0) };
        tree.push(Kind::Directory, 0o755);
        tree.nodes[0].attr.nlink = 2;
        tree
    }
}

impl MemTree {
    fn push(&mut self, kind: Kind, mode: u32) -> Node {
        let time = Time { secs: 1_500_000_000, nanos: 123_456_789 };
        let attr = Attr { nlink: 0, ..Attr::new(kind, mode, time) };
        let (children, target, data, xattrs) = Default::default();
        self.nodes.push(MemNode { attr, children, target, data, xattrs });
        match self.nodes.len() as u64 {
            1 => Node(2),
            2 => Node(1),
            n => Node(n),
        }
    }

    fn get(&self, node: Node) -> Result<&MemNode> {
        self.nodes.get(index(node)).ok_or_else(|| not_found(node.0))
    }

    /// Adds a node without a name.
    pub fn add(&mut self, dir: Node, name: &[u8], kind: Kind, mode: u32) -> Node {
        let node = self.push(kind, mode);
        self.link(dir, name, node);
        node
    }

    /// One more name for a node.
    pub fn link(&mut self, dir: Node, name: &[u8], node: Node) {
        self.nodes[index(dir)].children.insert(name.to_vec(), node);
        let attr = &mut self.nodes[index(node)].attr;
        attr.nlink += if attr.kind == Kind::Directory { 2 } else { 1 };
        if attr.kind == Kind::Directory {
            self.nodes[index(dir)].attr.nlink += 1;
        }
    }

    pub fn dir(&mut self, dir: Node, name: &str) -> Node {
        self.add(dir, name.as_bytes(), Kind::Directory, 0o755)
    }

    pub fn file(&mut self, dir: Node, name: &[u8], bytes: &[u8]) -> Node {
        self.source(dir, name, Arc::new(Memory::new(bytes.to_vec())))
    }

    pub fn source(&mut self, dir: Node, name: &[u8], data: Arc<dyn ReadAt>) -> Node {
        let node = self.add(dir, name, Kind::File, 0o644);
        let attr = self.attr_mut(node);
        attr.size = data.len().unwrap();
        attr.allocated = attr.size;
        self.nodes[index(node)].data = Some(data);
        node
    }

    pub fn symlink(&mut self, dir: Node, name: &str, target: &[u8]) -> Node {
        let node = self.add(dir, name.as_bytes(), Kind::Symlink, 0o777);
        self.attr_mut(node).size = target.len() as u64;
        self.nodes[index(node)].target = target.to_vec();
        node
    }

    pub fn xattr(&mut self, node: Node, name: &str, value: &[u8]) {
        self.nodes[index(node)].xattrs.push((name.as_bytes().to_vec(), value.to_vec()));
    }

    /// A name whose attributes cannot be read.
    pub fn broken(&mut self, dir: Node, name: &[u8]) {
        let node = self.add(dir, name, Kind::File, 0o644);
        self.broken = Some(node);
    }

    pub fn attr_mut(&mut self, node: Node) -> &mut Attr {
        &mut self.nodes[index(node)].attr
    }
}

impl Tree for MemTree {
    fn root(&self) -> Node {
        ROOT
    }

    fn find(&self, dir: Node, name: Name<'_>) -> Result<Option<Node>> {
        Ok(self.get(dir)?.children.get(name.bytes()).copied())
    }

    fn attr(&self, node: Node) -> Result<Attr> {
        if self.broken == Some(node) {
            return Err(Error::new(ErrorKind::Damaged, "on purpose"));
        }
        Ok(self.get(node)?.attr.clone())
    }

    fn list(&self, dir: Node, after: Option<Name<'_>>, visit: &mut Visit<'_>) -> Result<()> {
        self.lists.fetch_add(1, Ordering::Relaxed);
        for (name, node) in &self.get(dir)?.children {
            let behind = after.is_none_or(|after| name.as_slice() > after.bytes());
            let kind = self.get(*node)?.attr.kind;
            if behind && visit(Name::new(name)?, *node, kind) == ControlFlow::Break(()) {
                break;
            }
        }
        Ok(())
    }

    fn target(&self, link: Node) -> Result<Vec<u8>> {
        Ok(self.get(link)?.target.clone())
    }

    fn open(&self, file: Node) -> Result<Arc<dyn ReadAt>> {
        self.get(file)?.data.clone().ok_or_else(|| not_found(file.0))
    }

    fn xattrs(&self, node: Node) -> Result<Vec<Xattr>> {
        Ok(self.get(node)?.xattrs.clone())
    }

    fn totals(&self) -> Result<Totals> {
        let bytes = self.nodes.iter().map(|n| n.attr.size).sum();
        Ok(Totals { nodes: self.nodes.len() as u64, bytes, stored: bytes })
    }

    fn is_frozen(&self) -> bool {
        self.frozen
    }
}

/// A source that does at each read what it is told, and remembers what was announced.
pub struct Odd {
    pub len: u64,
    pub at_read: Box<dyn Fn(u64) -> Result<()> + Send + Sync>,
    pub announced: Mutex<Vec<Range<u64>>>,
    /// What is data; nothing here: everything.
    pub data: Vec<Range<u64>>,
}

impl Odd {
    pub fn new(len: u64, at_read: impl Fn(u64) -> Result<()> + Send + Sync + 'static) -> Self {
        Self { len, at_read: Box::new(at_read), announced: Mutex::default(), data: Vec::new() }
    }
}

impl ReadAt for Odd {
    fn len(&self) -> Result<u64> {
        Ok(self.len)
    }

    fn read_at(&self, at: u64, into: &mut [u8]) -> Result<usize> {
        (self.at_read)(at)?;
        let got = self.len.saturating_sub(at).min(into.len() as u64) as usize;
        for (place, byte) in (at..).zip(&mut into[..got]) {
            let is_data = self.data.is_empty() || self.data.iter().any(|d| d.contains(&place));
            *byte = if is_data { (place % 251) as u8 + 1 } else { 0 };
        }
        Ok(got)
    }

    fn will_read(&self, range: Range<u64>) {
        self.announced.lock().unwrap().push(range);
    }

    fn next_data(&self, at: u64) -> Result<Option<Range<u64>>> {
        if self.data.is_empty() {
            return Ok((at < self.len).then_some(at..self.len));
        }
        let next = self.data.iter().find(|d| d.end > at);
        Ok(next.map(|d| d.start.max(at)..d.end))
    }
}
