//! What is wrong with a tree of which rows are missing, and the rows that put it right.
//!
//! ```text
//!  a name without its inode, or without its directory      it goes
//!  an inode without a name                                 lost+found/ino-N
//!  directories in a circle                                 one of them goes to lost+found
//!  a link count that is not the number of names            it is counted
//! ```
//!
//! A tree that lost nothing needs no row. Memory: 21 bytes for each inode, of at most 2^24; and 2^20 rows that mend.

use super::super::create;
use super::super::index::Index;
use super::super::layout::TotalsItem;
use super::super::rows::{Block, ExtentRow, NameRow, Names, NodeRow, Nodes, Rows, name_key};
use super::super::table::NewTable;
use super::super::tree::ROOT;
use super::tables::Next;
use crate::error::{Error, Kind as ErrorKind, Result};
use crate::tree::{Kind, Time};
use std::collections::HashSet;

/// Inodes of a container that can be recovered.
const INODES: usize = 1 << 24;
/// Rows that mend, and bytes of the fields that they carry.
const ROWS: usize = 1 << 20;
const EXTRA: usize = 64 << 20;
/// No directory, as the place of one.
const NONE: u32 = u32::MAX;

/// How a tree was put right.
#[derive(Default)]
pub struct Mended {
    pub table: NewTable,
    pub totals: TotalsItem,
    /// Names that lead nowhere and are gone.
    pub dropped: u64,
    /// Inodes that are in `lost+found` now.
    pub found: u64,
    /// Inodes for which there was no room in it.
    pub unplaced: u64,
    /// Whether the root directory was lost.
    pub new_root: bool,
}

/// All inodes, in order, and what is known of each.
struct Census {
    inos: Vec<u64>,
    kinds: Vec<Kind>,
    nlinks: Vec<u32>,
    /// Names that lead to it; of a directory: how many directories are in it.
    counts: Vec<u32>,
    /// Which directory a directory is in.
    above: Vec<u32>,
    bytes: u64,
}

pub fn mend(index: &Index, next: &mut Next, lossy: bool) -> Result<Mended> {
    let mut mended = Mended::default();
    let mut census = Census::of(index, next)?;
    if census.inos.is_empty() {
        return Err(Error::new(ErrorKind::Header, "no file is left in what can be read of it"));
    }
    census.root(&mut mended);
    census.names(index, next, &mut mended)?;
    let mut lost = census.apart();
    census.detach(index, &lost, &mut mended)?;
    let nameless = (0..census.inos.len()).filter(|i| census.is_nameless(*i)).map(|i| i as u32);
    lost.extend(nameless.map(|inode| Lost { inode, named: false }));
    census.shelter(index, next, &lost, &mut mended)?;
    let lossy = lossy || !lost.is_empty() || mended.dropped > 0 || mended.new_root;
    census.links(index, lossy, &mut mended)?;
    mended.totals = TotalsItem { nodes: (census.inos.len() as u64).into(), bytes: census.bytes.into() };
    Ok(mended)
}

/// An inode that cannot be reached.
struct Lost {
    inode: u32,
    /// It has a name, in a circle.
    named: bool,
}

impl Census {
    fn of(index: &Index, next: &mut Next) -> Result<Self> {
        let (inos, kinds, nlinks) = (Vec::new(), Vec::new(), Vec::new());
        let mut this = Self { inos, kinds, nlinks, counts: Vec::new(), above: Vec::new(), bytes: 0 };
        let mut nodes = index.all::<Nodes>()?;
        while let Some(at) = nodes.step()? {
            let entry = at.block.entry(at.row);
            next.ino(entry.ino);
            next.ino(entry.data_id);
            at.block.extents(at.row).iter().for_each(|(address, len)| next.address(address + len));
            if at.block.deletes(at.row) {
                continue;
            }
            if this.inos.len() >= INODES {
                return Err(Error::new(ErrorKind::Limit, "it has more files than can be recovered"));
            }
            this.push(entry.ino, entry.kind, entry.nlink);
            let size = if entry.kind == Kind::File { entry.size } else { 0 };
            this.bytes = this.bytes.saturating_add(size);
        }
        let mut extents = index.all::<Rows<ExtentRow>>()?;
        while let Some(at) = extents.step()? {
            let row = at.block.get(at.row);
            next.ino(row.data_id);
            next.address(row.address + row.len);
        }
        Ok(this)
    }

    fn push(&mut self, ino: u64, kind: Kind, nlink: u32) {
        self.inos.push(ino);
        self.kinds.push(kind);
        self.nlinks.push(nlink);
        self.counts.push(0);
        self.above.push(NONE);
    }

    fn find(&self, ino: u64) -> Option<usize> {
        self.inos.binary_search(&ino).ok()
    }

    fn is_directory(&self, i: usize) -> bool {
        self.kinds[i] == Kind::Directory
    }

    /// Makes a root where there is none.
    fn root(&mut self, mended: &mut Mended) {
        match self.inos.binary_search(&ROOT) {
            Ok(i) if self.is_directory(i) => return,
            Ok(i) => self.kinds[i] = Kind::Directory,
            Err(i) => {
                self.inos.insert(i, ROOT);
                self.kinds.insert(i, Kind::Directory);
                self.nlinks.insert(i, 2);
                self.counts.insert(i, 0);
                self.above.insert(i, NONE);
            }
        }
        mended.new_root = true;
        mended.table.nodes.push(create::root(0, 0, Time::now()));
    }

    /// Counts the names; those that lead nowhere, or are nowhere, go.
    fn names(&mut self, index: &Index, next: &mut Next, mended: &mut Mended) -> Result<()> {
        let mut names = index.all::<Names>()?;
        while let Some(at) = names.step()? {
            let (parent, name) = at.block.key_of(at.row);
            next.ino(parent);
            let Some((ino, kind)) = at.block.value(at.row) else { continue };
            next.ino(ino);
            match self.name(parent, ino) {
                Some(child) if self.kinds[child] != kind && mended.has_room() => {
                    let kind = self.kinds[child];
                    mended.table.names.push(NameRow { parent, name: name.into(), ino, kind });
                }
                Some(_) => {}
                None => mended.drop_name(name_key(parent, name)),
            }
        }
        Ok(())
    }

    /// Counts a name; the inode that it leads to.
    fn name(&mut self, parent: u64, ino: u64) -> Option<usize> {
        let child = self.find(ino).filter(|_| ino != ROOT)?;
        let dir = self.find(parent).filter(|dir| self.is_directory(*dir))?;
        if !self.is_directory(child) {
            self.counts[child] = self.counts[child].saturating_add(1);
            return Some(child);
        }
        // A directory has one name.
        if self.above[child] != NONE {
            return None;
        }
        self.above[child] = dir as u32;
        self.counts[dir] = self.counts[dir].saturating_add(1);
        Some(child)
    }

    /// Directories from which the way up does not lead to the root: the uppermost of each.
    fn apart(&self) -> Vec<Lost> {
        const NEW: u8 = 0;
        const ON_THE_WAY: u8 = 1;
        const DONE: u8 = 2;
        let (mut state, mut lost, mut way) = (vec![NEW; self.inos.len()], Vec::new(), Vec::new());
        for start in (0..self.inos.len()).filter(|i| self.is_directory(*i)) {
            let mut at = start;
            while state[at] == NEW {
                state[at] = ON_THE_WAY;
                way.push(at);
                if self.above[at] == NONE {
                    break;
                }
                at = self.above[at] as usize;
            }
            let is_top = self.above[at] == NONE && way.last() == Some(&at);
            if is_top && self.inos[at] != ROOT {
                lost.push(Lost { inode: at as u32, named: false });
            } else if !is_top && state[at] == ON_THE_WAY {
                lost.push(Lost { inode: at as u32, named: true });
            }
            way.drain(..).for_each(|i| state[i] = DONE);
        }
        lost
    }

    /// Takes the names away that close a circle.
    fn detach(&mut self, index: &Index, lost: &[Lost], mended: &mut Mended) -> Result<()> {
        let circles: HashSet<u64> = lost.iter().filter(|l| l.named).map(|l| self.inos[l.inode as usize]).collect();
        if circles.is_empty() {
            return Ok(());
        }
        let mut names = index.all::<Names>()?;
        while let Some(at) = names.next()? {
            let (parent, name) = at.block.key_of(at.row);
            let Some((ino, _)) = at.block.value(at.row).filter(|(ino, _)| circles.contains(ino)) else { continue };
            let Some((child, dir)) = self.find(ino).zip(self.find(parent)) else { continue };
            if self.above[child] == dir as u32 {
                self.above[child] = NONE;
                self.counts[dir] -= 1;
                mended.drop_name(name_key(parent, name));
            }
        }
        Ok(())
    }

    /// Whether a file has no name and should have one. Without a link it was open when it was deleted.
    fn is_nameless(&self, i: usize) -> bool {
        !self.is_directory(i) && self.counts[i] == 0 && self.nlinks[i] > 0
    }

    /// Gives what has no name one in `lost+found`.
    fn shelter(&mut self, index: &Index, next: &mut Next, lost: &[Lost], mended: &mut Mended) -> Result<()> {
        if lost.is_empty() {
            return Ok(());
        }
        let dir = self.lost_and_found(index, next, mended)?;
        for Lost { inode, .. } in lost {
            let i = *inode as usize;
            let (ino, kind) = (self.inos[i], self.kinds[i]);
            let Some(name) = free_name(index, self.inos[dir], &format!("ino-{ino}"))?.filter(|_| mended.has_room())
            else {
                mended.unplaced += 1;
                continue;
            };
            mended.table.names.push(NameRow { parent: self.inos[dir], name, ino, kind });
            mended.found += 1;
            let counted = if kind == Kind::Directory { dir } else { i };
            self.counts[counted] = self.counts[counted].saturating_add(1);
        }
        Ok(())
    }

    fn lost_and_found(&mut self, index: &Index, next: &mut Next, mended: &mut Mended) -> Result<usize> {
        const NAME: &str = "lost+found";
        let root = self.find(ROOT).expect("it was made");
        if let Some(at) = index.name(ROOT, NAME.as_bytes())? {
            let dir = at.block.value(at.row).and_then(|(ino, _)| self.find(ino));
            if let Some(dir) = dir.filter(|dir| self.above[*dir] == root as u32) {
                return Ok(dir);
            }
        }
        let name = free_name(index, ROOT, NAME)?;
        let name = name.ok_or_else(|| Error::new(ErrorKind::Exists, "all names like lost+found are taken"))?;
        let ino = next.ino;
        if ino >= u64::MAX - 1 || self.inos.last().is_some_and(|last| *last >= ino) {
            return Err(Error::new(ErrorKind::Limit, "its inodes are used up"));
        }
        next.ino(ino);
        self.push(ino, Kind::Directory, 2);
        self.counts[root] += 1;
        mended.table.names.push(NameRow { parent: ROOT, name, ino, kind: Kind::Directory });
        mended.table.nodes.push(create::directory(ino, 0o700, (0, 0), Time::now()));
        Ok(self.inos.len() - 1)
    }

    /// Counts links anew where they are wrong.
    fn links(&self, index: &Index, lossy: bool, mended: &mut Mended) -> Result<()> {
        let mut extra = 0;
        for row in &mut mended.table.nodes {
            let i = self.find(row.ino).expect("it is in the census");
            row.nlink = 2 + self.counts[i];
        }
        let made: HashSet<u64> = mended.table.nodes.iter().map(|row| row.ino).collect();
        for (i, ino) in self.inos.iter().enumerate().filter(|(_, ino)| !made.contains(ino)) {
            let right = match (self.is_directory(i), self.nlinks[i]) {
                (true, 1) => 1,
                (true, nlink) if !lossy => nlink,
                (true, _) => self.counts[i].saturating_add(2),
                (false, _) => self.counts[i],
            };
            if right == self.nlinks[i] || (right == 0 && !self.is_directory(i)) {
                continue;
            }
            let Some(at) = index.node(*ino)? else { continue };
            let row = NodeRow { nlink: right, ..at.block.row(at.row) };
            extra += row.extra.len();
            if !mended.has_room() || extra > EXTRA {
                break;
            }
            mended.table.nodes.push(row);
        }
        Ok(())
    }
}

impl Mended {
    fn has_room(&self) -> bool {
        self.table.len() < ROWS
    }

    fn drop_name(&mut self, key: Vec<u8>) {
        self.dropped += 1;
        if self.has_room() {
            self.table.gone.push(key);
        }
    }
}

/// The name, or one like it, that nothing else has.
fn free_name(index: &Index, dir: u64, name: &str) -> Result<Option<Box<[u8]>>> {
    for number in 1..100 {
        let name = if number == 1 { name.to_owned() } else { format!("{name}.{number}") };
        if index.name(dir, name.as_bytes())?.is_none() {
            return Ok(Some(name.into_bytes().into()));
        }
    }
    Ok(None)
}
