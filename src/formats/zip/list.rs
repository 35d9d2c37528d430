//! From the list of entries to a catalog. It is gone through twice: once to see how many there are and what their names may
//! be in, then for good.

use super::entry::{self, Cipher, Ids, Member, UNKNOWN, Wide, dos_time};
use super::extra::Extras;
use super::measure;
use super::names::{Names, Undeclared};
use super::overlap;
use super::own::{Own, Root};
use super::rebuild::{Exact, Rebuilt};
use super::records::{Record, Records};
use crate::error::{Error, Kind, Result};
use crate::formats::Reading;
use crate::formats::Slips;
use crate::source::{Memory, ReadAt};
use crate::tree::{Builder, Duplicates, Item, Kind as NodeKind, Node, Tables, Time};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Range;
use std::sync::Arc;

/// Lists of so many bytes are read once and kept in memory while they are gone through.
const KEPT: u64 = 64 << 20;

/// Comments of entries that are kept.
const COMMENTS: usize = 16 << 20;

pub const COMMENT_ATTRIBUTE: &[u8] = b"user.stmount.comment";

/// The bytes of a list, and how the places in it are to be understood.
pub struct List {
    bytes: Arc<dyn ReadAt>,
    range: Range<u64>,
    places: Places,
}

/// Where the headers of entries are.
pub enum Places {
    /// At the offset that is told, from the beginning of a volume, with something added to it.
    Told { starts: Vec<u64>, base: i64 },
    /// In an archive whose list was made anew.
    Found(Arc<dyn ReadAt>, Vec<Exact>),
}

/// What the first look at a list shows.
#[derive(Default)]
pub struct Survey {
    pub entries: u64,
    /// How long the list is.
    pub len: u64,
    /// Where the headers of the first entries are said to be.
    pub first: Vec<Wide>,
    undeclared: Undeclared,
    newest: Time,
}

/// How many of the first headers are looked for.
const FIRST: usize = 4;

/// All that is known of the entries.
pub struct Entries {
    pub tables: Tables,
    pub members: Vec<Member>,
    /// Whether something is said of the root.
    pub has_root: bool,
    /// Where each of them is shown.
    pub nodes: Vec<Option<Node>>,
    /// Those whose data overlap others.
    pub overlapping: HashSet<u64>,
    pub notes: Vec<String>,
    pub methods: BTreeMap<u16, u64>,
    pub ciphers: BTreeMap<String, u64>,
    /// What names are in that do not say it.
    pub charset: Option<&'static str>,
}

impl List {
    /// A list in an archive, of at most the bytes in a range.
    pub fn new(source: &Arc<dyn ReadAt>, range: Range<u64>, starts: &[u64], base: i64) -> Result<Self> {
        let places = Places::Told { starts: starts.to_vec(), base };
        let len = range.end.saturating_sub(range.start);
        if len > KEPT {
            return Ok(Self { bytes: source.clone(), range, places });
        }
        let mut bytes = vec![0; len as usize];
        source.read_exact_at(range.start, &mut bytes)?;
        Ok(Self { bytes: Arc::new(Memory::new(bytes)), range: 0..len, places })
    }

    /// One that was made anew, of an archive.
    pub fn rebuilt(rebuilt: Rebuilt, archive: &Arc<dyn ReadAt>) -> Self {
        let (range, places) = (0..rebuilt.list.len() as u64, Places::Found(archive.clone(), rebuilt.exact));
        Self { bytes: Arc::new(Memory::new(rebuilt.list)), range, places }
    }

    /// Other offsets than were thought first.
    pub fn with_base(self, base: i64) -> Self {
        match self.places {
            Places::Told { starts, .. } => Self { places: Places::Told { starts, base }, ..self },
            Places::Found(..) => self,
        }
    }

    pub fn survey(&self, most: usize) -> Result<Survey> {
        let mut records = Records::new(&*self.bytes, self.range.clone());
        let mut survey = Survey::default();
        while let Some(record) = records.next()? {
            survey.entries += 1;
            survey.undeclared.see(&record);
            survey.newest = survey.newest.max(dos_time(record.central));
            if survey.first.len() < FIRST {
                let extras = Extras::parse(record.extra, Time::default());
                survey.first.push(Wide::of(record.central, &extras));
            }
            if survey.entries > most as u64 {
                return Err(Error::new(Kind::Limit, format!("the archive has more than {most} entries"))
                    .hint("-o max-entries=N, when it is to be opened all the same"));
            }
        }
        survey.len = records.at() - self.range.start;
        Ok(survey)
    }

    /// Where a header is.
    fn exact(&self, number: usize, wide: Wide, slips: &mut Slips) -> Result<Wide> {
        let (starts, base) = match &self.places {
            Places::Told { starts, base } => (starts, *base),
            Places::Found(_, exact) => {
                let Exact { header_at, packed, size } = exact[number];
                return Ok(Wide { header_at, packed, size: size.unwrap_or(UNKNOWN), disk: 0, is_missing: false });
            }
        };
        if wide.is_missing {
            slips.add("a size or an offset of an entry is in a field that is not there")?;
        }
        let start = starts.get(wide.disk as usize).copied();
        if start.is_none() {
            slips.add("an entry is said to be in a volume that there is not")?;
        }
        let at = start.unwrap_or_default().checked_add(wide.header_at).and_then(|at| at.checked_add_signed(base));
        Ok(Wide { header_at: at.unwrap_or(u64::MAX), ..wide })
    }

    /// Makes the catalog. `list_at` is where the list begins in the archive.
    pub fn entries(&self, survey: &Survey, reading: &Reading, list_at: u64, mut slips: Slips) -> Result<Entries> {
        let names = Names::new(reading.encoding.as_deref(), &survey.undeclared)?;
        let mut builder = Builder::new(Duplicates::Numbered, reading.max_entries, survey.newest);
        builder.reserve(survey.entries as usize, 0);
        let members = Vec::with_capacity(survey.entries as usize);
        let nodes = Vec::with_capacity(survey.entries as usize);
        let (methods, ciphers) = (BTreeMap::new(), BTreeMap::new());
        let charset = survey.undeclared.any().then(|| names.charset());
        let mut made = Making {
            names,
            builder,
            members,
            nodes,
            linked: HashMap::new(),
            root: None,
            methods,
            ciphers,
            comments: 0,
            ids: ids(),
        };
        let mut patience = measure::PATIENCE;
        let mut records = Records::new(&*self.bytes, self.range.clone());
        while let Some(record) = records.next()? {
            let extras = Extras::parse(record.extra, dos_time(record.central));
            if extras.is_torn {
                slips.add("an extra field of an entry is torn")?;
            }
            let wide = self.exact(made.members.len(), Wide::of(record.central, &extras), &mut slips)?;
            let mut member = Member::new(record.central, &extras, wide);
            if let (UNKNOWN, Places::Found(archive, _)) = (member.size, &self.places) {
                member.size = measure::size(archive, &member, &mut patience)?;
            }
            if member.is_too_long_by_4_gib() {
                slips.add("an entry is said to be longer by 4 GiB than what is stored of it")?;
                member.size = member.packed;
            }
            made.root = extras.root.clone().or(made.root.take());
            made.take(&record, &extras, member, reading.max_entries, &mut slips)?;
        }
        let entries = made.finish(list_at, slips)?;
        Ok(Entries { charset, ..entries })
    }
}

struct Making {
    names: Names,
    builder: Builder,
    members: Vec<Member>,
    nodes: Vec<Option<Node>>,
    /// Files that have further names, by their first one.
    linked: HashMap<Vec<u8>, (Node, (u32, u64))>,
    methods: BTreeMap<u16, u64>,
    ciphers: BTreeMap<String, u64>,
    /// What belongs to the root.
    root: Option<Box<Root>>,
    /// Bytes of comments.
    comments: usize,
    ids: Ids,
}

impl Making {
    fn take(
        &mut self,
        record: &Record<'_>,
        extras: &Extras<'_>,
        member: Member,
        most: usize,
        slips: &mut Slips,
    ) -> Result<()> {
        let number = self.members.len() as u64;
        let path = self.names.path(record, extras);
        let mut item = entry::item(record, extras, &member, number, &path, self.ids);
        self.comment(record, extras, &mut item);
        self.members.push(member);
        if item.attr.kind == NodeKind::File {
            *self.methods.entry(member.method).or_default() += 1;
        }
        if member.is_encrypted() {
            *self.ciphers.entry(cipher_name(member.cipher)).or_default() += 1;
        }
        let sum = (member.crc, member.size);
        let own = extras.own.as_deref();
        if let Some(first) = own.and_then(|own| self.first_of(own, sum)) {
            let to = own.and_then(|own| own.same_as.clone()).unwrap_or_default();
            self.nodes.push(Some(first));
            return self.builder.link(&path, &to, item);
        }
        let row = match self.builder.add(&path, item) {
            Err(e) if e.kind() == Kind::Limit && self.builder.len() <= most => {
                slips.add("an entry lies too deep to be shown")?;
                None
            }
            added => Some(added?),
        };
        let node = row.map(|row| Node(u64::from(row) + 1));
        if let Some(node) = node.filter(|_| own.is_some_and(|own| own.has_links && own.same_as.is_none())) {
            self.linked.insert(path.into_owned(), (node, sum));
        }
        self.nodes.push(node);
        Ok(())
    }

    /// The file that an entry is a further name of, if that has the same contents: a program that knows nothing of links may
    /// have changed one of the two.
    fn first_of(&self, own: &Own, sum: (u32, u64)) -> Option<Node> {
        let (node, known) = self.linked.get(own.same_as.as_ref()?)?;
        (*known == sum).then_some(*node)
    }

    fn comment(&mut self, record: &Record<'_>, extras: &Extras<'_>, item: &mut Item) {
        if !record.comment.is_empty() && self.comments < COMMENTS {
            self.comments += record.comment.len();
            item.xattrs.push((COMMENT_ATTRIBUTE.to_vec(), self.names.comment(record, extras).into_owned()));
        }
    }

    fn finish(mut self, list_at: u64, mut slips: Slips) -> Result<Entries> {
        let overlapping = overlap::find(&self.members, list_at);
        for _ in &overlapping {
            slips.add("the data of an entry reach into those of another one, or into the list of entries")?;
        }
        let has_root = self.root.is_some();
        if let Some(root) = self.root.take() {
            let xattrs = root.own.xattrs.clone();
            self.builder.add(b"", Item { xattrs, ..Item::new(root.attr(), 0) })?;
        }
        let (tables, shown) = self.builder.finish();
        let notes = [slips.notes(), shown].concat();
        let (members, nodes, methods, ciphers) = (self.members, self.nodes, self.methods, self.ciphers);
        Ok(Entries { tables, members, nodes, overlapping, notes, methods, ciphers, charset: None, has_root })
    }
}

fn cipher_name(cipher: Cipher) -> String {
    match cipher {
        Cipher::None => "none".into(),
        Cipher::ZipCrypto => "ZipCrypto".into(),
        Cipher::Aes(strength) => format!("AES-{}", strength.bits()),
        Cipher::Other => "unknown".into(),
    }
}

/// Whoever opens an archive owns what nobody else does.
fn ids() -> Ids {
    #[cfg(unix)]
    return Ids { uid: rustix::process::getuid().as_raw(), gid: rustix::process::getgid().as_raw() };
    #[cfg(not(unix))]
    Ids { uid: 0, gid: 0 }
}
