//! From the entries of an archive, in its order, to tables.

use super::names::{UP, numbered, shown};
use super::{Class, Extra, MISSING, Named, Row, Tables};
use crate::error::{Error, Kind as ErrorKind, Result};
use crate::tree::{Attr, Kind, Owner, Time, Xattr};
use hashbrown::{DefaultHashBuilder, HashMap, HashTable};
use std::borrow::Cow;
use std::hash::BuildHasher;

/// Directories below each other, and components of a path: as many as anybody can open.
const MAX_DEPTH: usize = 4096;

/// What becomes of an entry with the path of an earlier one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Duplicates {
    /// It takes the place of the earlier one, as in a tar to which newer files were added.
    LastWins,
    /// It gets a number, `name (1)`.
    Numbered,
}

/// An entry as an archive has it.
#[derive(Clone, Debug)]
pub struct Item {
    /// `nlink` is counted here and not taken from this.
    pub attr: Attr,
    pub owner: Owner,
    pub xattrs: Vec<Xattr>,
    /// Target of a symbolic link, where it is known already.
    pub target: Option<Vec<u8>>,
    /// By what number the format knows its contents.
    pub content: u64,
}

impl Item {
    pub fn new(attr: Attr, content: u64) -> Self {
        Self { attr, owner: Owner::default(), xattrs: Vec::new(), target: None, content }
    }
}

/// Where a path leads.
struct Place<'a> {
    dir: u32,
    name: Cow<'a, [u8]>,
    /// Whether the path is shown as it is in the archive.
    is_as_stored: bool,
}

impl Place<'_> {
    fn rewritten(self) -> Self {
        Self { is_as_stored: false, ..self }
    }
}

/// Makes a catalog.
pub struct Builder {
    tables: Tables,
    index: HashTable<u32>,
    hasher: DefaultHashBuilder,
    classes: HashMap<Class, u32>,
    /// The class of the last entry: the next has the same, mostly.
    last_class: u32,
    /// The directory of the last entry, with all of its path up to the name.
    last_dir: LastDir,
    /// Of each row, the place of its name.
    homes: Vec<u32>,
    /// Of names that are taken, the number that was given last.
    numbers: HashMap<(u32, Vec<u8>), u64>,
    duplicates: Duplicates,
    /// The most entries that are taken.
    most: usize,
    /// The time of directories without an entry.
    time: Time,
    links: Vec<(u32, Vec<u8>)>,
    /// What was shown under another name than the archive has.
    renamed: u64,
    replaced: u64,
    /// Links to what is not there.
    missing: u64,
    /// Paths that had something in them that cannot be shown.
    rewritten: u64,
}

/// A directory never loses its number: what it is once is right for ever.
#[derive(Default)]
struct LastDir {
    path: Vec<u8>,
    row: u32,
    is_as_stored: bool,
}

/// The root is the first row, and has no name.
const ROOT: u32 = 0;

/// What is shown of a file that has no name.
const NAMELESS: &[u8] = b"(no name)";

const NO_HOME: u32 = u32::MAX;

impl Builder {
    /// `time` is that of directories which the archive has no entry of, `most` how many entries are taken.
    pub fn new(duplicates: Duplicates, most: usize, time: Time) -> Self {
        let mut builder = Self {
            tables: Tables::default(),
            index: HashTable::new(),
            hasher: DefaultHashBuilder::default(),
            classes: HashMap::new(),
            last_class: 0,
            last_dir: LastDir::default(),
            homes: Vec::new(),
            numbers: HashMap::new(),
            duplicates,
            most,
            time,
            links: Vec::new(),
            renamed: 0,
            replaced: 0,
            missing: 0,
            rewritten: 0,
        };
        let root = builder.implied();
        builder.push_row(&root, NO_HOME);
        builder
    }

    /// Makes room for so many entries, and names of so many bytes altogether: as many as there are, not as many as an
    /// archive says that there are.
    pub fn reserve(&mut self, entries: usize, text: usize) {
        let Self { tables, index, hasher, homes, .. } = self;
        tables.rows.reserve(entries);
        tables.names.reserve(entries);
        tables.text.reserve(text);
        homes.reserve(entries);
        let hash = |at: &u32| {
            let named = &tables.names[*at as usize];
            hasher.hash_one((named.parent, tables.name(named)))
        };
        index.reserve(entries, hash);
    }

    fn implied(&self) -> Item {
        Item::new(Attr::new(Kind::Directory, 0o755, self.time), 0)
    }

    /// Adds an entry. Its path may be anything:
    ///
    /// * `/` at its front, empty components and `.` are left out; a path without any other is that of the root;
    /// * `..` is shown as `%2E%2E`, a NUL as `%00`, and a name of more than 255 bytes is cut and ends with a hash;
    /// * of a file and a directory of the same name the file gets a number, `name (1)`;
    /// * what becomes of two files of one name is said by [`Duplicates`].
    ///
    /// What is shown under another path than it has in the archive tells that path by an attribute. Returns the number of
    /// the entry.
    ///
    /// # Errors
    /// `Limit` when there are too many entries, or too many directories in each other.
    pub fn add(&mut self, path: &[u8], item: Item) -> Result<u32> {
        let place = match self.descend(path)? {
            None if item.attr.kind != Kind::Directory => self.descend(NAMELESS)?.map(Place::rewritten),
            place => place,
        };
        let Some(Place { dir, name, is_as_stored }) = place else { return Ok(self.set_root(&item)) };
        let row = match self.find(dir, &name) {
            None => self.push(dir, &name, &item)?,
            Some(at) => self.meet(at, dir, &name, &item)?,
        };
        if !is_as_stored {
            self.rewritten += 1;
            self.note_path(row, path);
        }
        Ok(row)
    }

    /// Adds a further name of an entry. Where that is not there, it may come later.
    pub fn link(&mut self, path: &[u8], to: &[u8], item: Item) -> Result<()> {
        let known = self.row_of(to).filter(|row| self.kind(*row) != Kind::Directory);
        let row = self.add(path, Item { content: MISSING, ..item })?;
        match known {
            Some(to) if to == row => {}
            Some(to) => self.join(row, to),
            None => self.links.push((row, to.to_vec())),
        }
        Ok(())
    }

    /// Makes all names of an entry those of another one.
    fn join(&mut self, row: u32, to: u32) {
        if let Some(named) = self.tables.names.get_mut(self.homes[row as usize] as usize) {
            named.node = to;
        }
    }

    /// The contents of an entry that was added before.
    pub fn set_content(&mut self, row: u32, size: u64, content: u64) {
        if let Some(row) = self.tables.rows.get_mut(row as usize) {
            (row.size, row.content) = (size, content);
        }
    }

    /// The entry of a path, if it was added.
    pub fn row_of(&self, path: &[u8]) -> Option<u32> {
        let mut row = ROOT;
        for component in path.split(|b| *b == b'/').filter_map(shown) {
            row = self.tables.names[self.find(row, &component)?].node;
        }
        (row != ROOT).then_some(row)
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.tables.rows.len()
    }

    pub fn is_empty(&self) -> bool {
        self.tables.rows.len() <= 1
    }

    /// The place of a path, with all directories above it; nothing for the path of the root.
    fn descend<'a>(&mut self, path: &'a [u8]) -> Result<Option<Place<'a>>> {
        let (above, last) = path.split_at(path.iter().rposition(|b| *b == b'/').map_or(0, |at| at + 1));
        if let Some(name) = shown(last).filter(|_| !above.is_empty() && above == self.last_dir.path) {
            let LastDir { row: dir, is_as_stored, .. } = self.last_dir;
            return Ok(Some(Place { dir, is_as_stored: is_as_stored && as_it_is(&name), name }));
        }
        let mut parts: Vec<_> = path.split(|b| *b == b'/').filter_map(shown).collect();
        if parts.len() > MAX_DEPTH {
            let what = format!("a path of {} names is deeper than {MAX_DEPTH}", parts.len());
            return Err(Error::new(ErrorKind::Limit, what));
        }
        let is_as_stored = !path.starts_with(b"/") && parts.iter().all(as_it_is);
        let Some(name) = parts.pop() else { return Ok(None) };
        let mut dir = ROOT;
        let is_dir_as_stored = !path.starts_with(b"/") && parts.iter().all(as_it_is);
        for part in parts {
            dir = self.directory(dir, &part)?;
        }
        if shown(last).is_some() {
            self.last_dir = LastDir { path: above.to_vec(), row: dir, is_as_stored: is_dir_as_stored };
        }
        Ok(Some(Place { dir, name, is_as_stored }))
    }

    fn directory(&mut self, parent: u32, name: &[u8]) -> Result<u32> {
        match self.find(parent, name) {
            Some(at) if self.kind(self.tables.names[at].node) == Kind::Directory => Ok(self.tables.names[at].node),
            found => {
                if let Some(at) = found {
                    self.give_number(at)?;
                }
                let directory = self.implied();
                self.push(parent, name, &directory)
            }
        }
    }

    /// An entry whose name is there already, at a place in the names.
    fn meet(&mut self, at: usize, dir: u32, name: &[u8], item: &Item) -> Result<u32> {
        let there = self.tables.names[at].node;
        let is_dir = item.attr.kind == Kind::Directory;
        match (self.kind(there) == Kind::Directory, is_dir) {
            (true, true) => {
                // A directory has one entry, and before it perhaps some that are in it.
                self.set_row(there, item);
                Ok(there)
            }
            (false, true) => {
                self.give_number(at)?;
                self.push(dir, name, item)
            }
            (false, false) if self.duplicates == Duplicates::LastWins => {
                self.replaced += 1;
                self.check_count()?;
                let row = self.push_row(item, at as u32);
                self.tables.names[at].node = row;
                Ok(row)
            }
            (_, false) => {
                let free = self.free_name(dir, name);
                self.renamed += 1;
                let row = self.push(dir, &free, item)?;
                let path = self.path_of(dir, name);
                self.note_path(row, &path);
                Ok(row)
            }
        }
    }

    /// A file makes room for a directory of its name.
    fn give_number(&mut self, at: usize) -> Result<()> {
        let Named { parent, node, .. } = self.tables.names[at];
        let name = self.tables.name(&self.tables.names[at]).to_vec();
        let free = self.free_name(parent, &name);
        let path = self.path_of(parent, &name);
        self.renamed += 1;
        let hash = self.hash(parent, &name);
        if let Ok(found) = self.index.find_entry(hash, |i| *i as usize == at) {
            found.remove();
        }
        let (text_at, len) = self.push_text(&free)?;
        (self.tables.names[at].at, self.tables.names[at].len) = (text_at, len);
        self.put_in_index(at);
        self.note_path(node, &path);
        Ok(())
    }

    fn free_name(&mut self, dir: u32, name: &[u8]) -> Vec<u8> {
        let key = (dir, name.to_vec());
        let mut number = self.numbers.get(&key).copied().unwrap_or(0);
        loop {
            number += 1;
            let free = numbered(name, number);
            if self.find(dir, &free).is_none() {
                self.numbers.insert(key, number);
                return free;
            }
        }
    }

    /// The path of a name in a directory, from the parents.
    fn path_of(&self, dir: u32, name: &[u8]) -> Vec<u8> {
        let (mut parts, mut dir) = (vec![name.to_vec()], dir);
        while let Some(named) = self.tables.names.get(self.homes[dir as usize] as usize) {
            parts.push(self.tables.name(named).to_vec());
            dir = named.parent;
        }
        parts.reverse();
        parts.join(&b'/')
    }

    fn note_path(&mut self, row: u32, path: &[u8]) {
        let mut extra = self.extra_of(row);
        extra.path = Some(path.to_vec());
        self.set_extra(row, extra);
    }

    fn extra_of(&self, row: u32) -> Extra {
        self.tables.extra(&self.tables.rows[row as usize]).cloned().unwrap_or_default()
    }

    fn set_extra(&mut self, row: u32, extra: Extra) {
        let row = &mut self.tables.rows[row as usize];
        match (row.extra as usize).checked_sub(1) {
            Some(at) => self.tables.extras[at] = extra,
            None if extra == Extra::default() => {}
            None => {
                self.tables.extras.push(extra);
                row.extra = self.tables.extras.len() as u32;
            }
        }
    }

    fn set_root(&mut self, item: &Item) -> u32 {
        if item.attr.kind == Kind::Directory {
            self.set_row(ROOT, item);
        }
        ROOT
    }

    fn set_row(&mut self, row: u32, item: &Item) {
        let made = self.make_row(item);
        let kept = self.tables.rows[row as usize].extra;
        self.tables.rows[row as usize] = Row { extra: kept, ..made };
        let path = self.extra_of(row).path;
        self.set_extra(row, Extra { path, ..extra(item) });
    }

    fn make_row(&mut self, item: &Item) -> Row {
        let attr = &item.attr;
        let (user, group) = (item.owner.user.clone(), item.owner.group.clone());
        let class =
            Class { kind: attr.kind.code(), mode: attr.mode & 0o7777, uid: attr.uid, gid: attr.gid, user, group };
        if self.tables.classes.get(self.last_class as usize) != Some(&class) {
            let next = self.classes.len() as u32;
            self.last_class = *self.classes.entry(class).or_insert_with_key(|class| {
                self.tables.classes.push(class.clone());
                next
            });
        }
        let class = self.last_class;
        let Time { secs, nanos } = attr.mtime;
        let size = match (&item.target, attr.kind) {
            (Some(target), Kind::Symlink) => target.len() as u64,
            _ => attr.size,
        };
        Row { class, nlink: 0, size, content: item.content, secs, nanos, extra: 0 }
    }

    fn push_row(&mut self, item: &Item, home: u32) -> u32 {
        let row = self.make_row(item);
        self.tables.rows.push(row);
        self.homes.push(home);
        let number = self.tables.rows.len() as u32 - 1;
        self.set_extra(number, extra(item));
        number
    }

    fn push(&mut self, parent: u32, name: &[u8], item: &Item) -> Result<u32> {
        self.check_count()?;
        let (at, len) = self.push_text(name)?;
        let node = self.push_row(item, self.tables.names.len() as u32);
        self.tables.names.push(Named { parent, node, at, len });
        self.put_in_index(self.tables.names.len() - 1);
        Ok(node)
    }

    fn check_count(&self) -> Result<()> {
        if self.tables.rows.len() > self.most {
            let what = format!("the archive has more than {} entries", self.most);
            return Err(
                Error::new(ErrorKind::Limit, what).hint("-o max-entries=N, when it is to be opened all the same")
            );
        }
        Ok(())
    }

    fn push_text(&mut self, name: &[u8]) -> Result<(u32, u16)> {
        let at = u32::try_from(self.tables.text.len());
        let (Ok(at), Ok(len)) = (at, u16::try_from(name.len())) else {
            return Err(Error::new(ErrorKind::Limit, "the names of the archive are longer than 4 GiB"));
        };
        self.tables.text.extend_from_slice(name);
        Ok((at, len))
    }

    fn kind(&self, row: u32) -> Kind {
        self.tables.kind(&self.tables.rows[row as usize])
    }

    fn hash(&self, parent: u32, name: &[u8]) -> u64 {
        self.hasher.hash_one((parent, name))
    }

    fn put_in_index(&mut self, at: usize) {
        let Self { tables, index, hasher, .. } = self;
        let hash = |at: &u32| {
            let named = &tables.names[*at as usize];
            hasher.hash_one((named.parent, tables.name(named)))
        };
        index.insert_unique(hash(&(at as u32)), at as u32, hash);
    }

    fn find(&self, parent: u32, name: &[u8]) -> Option<usize> {
        let is_it = |at: &u32| {
            let named = &self.tables.names[*at as usize];
            named.parent == parent && self.tables.name(named) == name
        };
        self.index.find(self.hash(parent, name), is_it).map(|at| *at as usize)
    }

    /// The complete tables, and what a person is to be told of how paths are shown.
    pub fn finish(mut self) -> (Tables, Vec<String>) {
        for (row, to) in std::mem::take(&mut self.links) {
            match self.row_of(&to).filter(|to| *to != row && self.kind(*to) != Kind::Directory) {
                Some(to) => self.join(row, to),
                None => self.note_missing(row),
            }
        }
        let notes = self.notes();
        let mut tables = self.tables;
        let text = std::mem::take(&mut tables.text);
        let name = |named: &Named| &text[named.at as usize..][..usize::from(named.len)];
        tables.names.sort_unstable_by(|a, b| (a.parent, name(a)).cmp(&(b.parent, name(b))));
        tables.text = text;
        count_links(&mut tables);
        tables.rows.shrink_to_fit();
        tables.text.shrink_to_fit();
        (tables, notes)
    }

    /// What a link leads to is not there: a file that cannot be read is. With a size of nothing, nobody would see that.
    fn note_missing(&mut self, row: u32) {
        self.missing += 1;
        let row = &mut self.tables.rows[row as usize];
        (row.content, row.size) = (MISSING, 1);
    }

    fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        let mut note = |count: u64, what: &str| {
            if count > 0 {
                notes.push(format!("{count} {what}"));
            }
        };
        note(self.renamed, "entries have a name that is taken and are shown with a number, as in `name (1)`");
        note(self.replaced, "entries stand for older ones of the same path, which are not shown");
        note(self.missing, "hard links lead to nothing that is in the archive, and cannot be read");
        note(
            self.rewritten,
            "paths cannot be shown as they are in the archive; getfattr -n user.stmount.path shows them",
        );
        notes
    }
}

/// Whether a component is shown as it is in the archive.
#[allow(clippy::ptr_arg)] // Whether it is borrowed is what tells.
fn as_it_is(part: &Cow<'_, [u8]>) -> bool {
    matches!(part, Cow::Borrowed(name) if *name != UP)
}

fn extra(item: &Item) -> Extra {
    let attr = &item.attr;
    let pair = |t: Time| (t != attr.mtime).then_some((t.secs, t.nanos));
    Extra {
        atime: pair(attr.atime),
        ctime: pair(attr.ctime),
        rdev: attr.rdev,
        allocated: (attr.kind == Kind::File && attr.allocated < attr.size).then_some(attr.allocated),
        xattrs: item.xattrs.clone(),
        target: item.target.clone(),
        path: None,
    }
}

/// Gives each directory the range of its names, and each node the count of its own.
fn count_links(tables: &mut Tables) {
    let is_dir: Vec<bool> = tables.rows.iter().map(|row| tables.kind(row) == Kind::Directory).collect();
    for (row, is_dir) in tables.rows.iter_mut().zip(&is_dir) {
        row.nlink = if *is_dir { 2 } else { 0 };
        if *is_dir {
            (row.content, row.size) = (0, 0);
        }
    }
    for (at, named) in tables.names.iter().enumerate() {
        let parent = &mut tables.rows[named.parent as usize];
        if parent.size == 0 {
            parent.content = at as u64;
        }
        parent.size += 1;
        if is_dir[named.node as usize] {
            parent.nlink += 1;
        } else {
            tables.rows[named.node as usize].nlink += 1;
        }
    }
}
