//! The list of entries: which packed streams there are, how blocks are made of them, which files are in each block.
//!
//! ```text
//!   packed streams ─► blocks ("folders") ─► parts of their contents ─► files
//!   PackInfo          UnpackInfo            SubStreamsInfo             FilesInfo
//! ```

use super::bytes::{Bytes, broken};
use crate::error::{Error, Kind, Result};

/// The tags of the format, as its own description calls them.
pub mod tag {
    pub const END: u8 = 0x00;
    pub const HEADER: u8 = 0x01;
    pub const PROPERTIES: u8 = 0x02;
    pub const ADDITIONAL: u8 = 0x03;
    pub const MAIN: u8 = 0x04;
    pub const FILES: u8 = 0x05;
    pub const PACK: u8 = 0x06;
    pub const UNPACK: u8 = 0x07;
    pub const PARTS: u8 = 0x08;
    pub const SIZE: u8 = 0x09;
    pub const SUMS: u8 = 0x0a;
    pub const BLOCK: u8 = 0x0b;
    pub const BLOCK_SIZES: u8 = 0x0c;
    pub const PART_COUNTS: u8 = 0x0d;
    pub const NO_STREAM: u8 = 0x0e;
    pub const EMPTY_FILE: u8 = 0x0f;
    pub const ANTI: u8 = 0x10;
    pub const NAMES: u8 = 0x11;
    pub const CREATED: u8 = 0x12;
    pub const READ: u8 = 0x13;
    pub const WRITTEN: u8 = 0x14;
    pub const ATTRIBUTES: u8 = 0x15;
    pub const ENCODED: u8 = 0x17;
}

/// Coders of one block, and what goes in and out of them: 7-Zip takes no more.
const MOST_CODERS: usize = 32;

/// One step from packed to plain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Coder {
    pub method: u64,
    pub inputs: usize,
    pub properties: Vec<u8>,
    /// Bytes that come out.
    pub len: u64,
}

/// A block: coders that take each other's output.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Block {
    pub coders: Vec<Coder>,
    /// Input, and the coder whose output it takes.
    pub bonds: Vec<(usize, usize)>,
    /// The inputs that are packed streams, in their order.
    pub packed: Vec<usize>,
    /// The first packed stream.
    pub first: usize,
    /// The coder whose output is the contents.
    pub last: usize,
    pub sum: Option<u32>,
}

impl Block {
    /// The number of the first input of a coder.
    pub fn input_of(&self, coder: usize) -> usize {
        self.coders[..coder].iter().map(|coder| coder.inputs).sum()
    }

    /// Bytes of all its files.
    pub fn len(&self) -> u64 {
        self.coders.get(self.last).map_or(0, |coder| coder.len)
    }
}

/// A packed stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Packed {
    pub at: u64,
    pub len: u64,
    pub sum: Option<u32>,
}

/// A part of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    pub block: u32,
    pub at: u64,
    pub len: u64,
    pub sum: Option<u32>,
}

/// What is stored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Streams {
    pub packed: Vec<Packed>,
    pub blocks: Vec<Block>,
    pub parts: Vec<Part>,
}

/// A file, or a directory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct File {
    /// UTF-16.
    pub name: Vec<u16>,
    /// Which part it is; nothing for what is empty.
    pub part: Option<u32>,
    pub is_dir: bool,
    /// It says that a file is to be deleted.
    pub is_anti: bool,
    pub created: Option<u64>,
    pub read: Option<u64>,
    pub written: Option<u64>,
    pub attributes: Option<u32>,
}

/// All that a header says.
pub enum Header {
    Plain(Streams, Vec<File>),
    /// The header itself is packed.
    Encoded(Streams),
}

impl Header {
    /// `base` is where packed streams count from, `limit` the end of the archive.
    pub fn read(bytes: &[u8], base: u64, limit: u64) -> Result<Self> {
        let mut bytes = Bytes(bytes);
        match bytes.byte()? {
            tag::ENCODED => Ok(Self::Encoded(streams(&mut bytes, base, limit)?)),
            tag::HEADER => plain(&mut bytes, base, limit),
            _ => Err(broken("it begins with something else")),
        }
    }
}

fn plain(bytes: &mut Bytes<'_>, base: u64, limit: u64) -> Result<Header> {
    let (mut all, mut files) = (Streams::default(), Vec::new());
    loop {
        match bytes.byte()? {
            tag::END => return Ok(Header::Plain(all, files)),
            tag::PROPERTIES => skip_properties(bytes)?,
            tag::ADDITIONAL => drop(streams(bytes, base, limit)?),
            tag::MAIN => all = streams(bytes, base, limit)?,
            tag::FILES => files = self::files(bytes, all.parts.len())?,
            _ => return Err(broken("a part of it is of an unknown kind")),
        }
    }
}

fn skip_properties(bytes: &mut Bytes<'_>) -> Result<()> {
    // Each begins with its kind, which is a number and no tag.
    while bytes.number()? != u64::from(tag::END) {
        let len = bytes.count()?;
        bytes.take(len)?;
    }
    Ok(())
}

fn expect(bytes: &mut Bytes<'_>, tag: u8) -> Result<()> {
    match bytes.byte()? == tag {
        true => Ok(()),
        false => Err(broken("something is not where it should be")),
    }
}

fn streams(bytes: &mut Bytes<'_>, base: u64, limit: u64) -> Result<Streams> {
    let (mut all, mut has_parts) = (Streams::default(), false);
    loop {
        match bytes.byte()? {
            tag::END => break,
            tag::PACK => all.packed = packed(bytes, base, limit)?,
            tag::UNPACK => all.blocks = blocks(bytes, all.packed.len())?,
            tag::PARTS => {
                all.parts = parts(bytes, &all.blocks)?;
                has_parts = true;
            }
            _ => return Err(broken("a stream is of an unknown kind")),
        }
    }
    if !has_parts {
        let part = |(at, block): (usize, &Block)| Part { block: at as u32, at: 0, len: block.len(), sum: block.sum };
        all.parts = all.blocks.iter().enumerate().map(part).collect();
    }
    Ok(all)
}

fn packed(bytes: &mut Bytes<'_>, base: u64, limit: u64) -> Result<Vec<Packed>> {
    let outside = || broken("data lie outside of the archive");
    let mut at = base.checked_add(bytes.number()?).ok_or_else(outside)?;
    let count = bytes.count()?;
    let mut packed = vec![Packed { at, len: 0, sum: None }; count];
    loop {
        match bytes.byte()? {
            tag::END => return Ok(packed),
            tag::SIZE => {
                for stream in &mut packed {
                    *stream = Packed { at, len: bytes.number()?, sum: None };
                    at = at.checked_add(stream.len).filter(|end| *end <= limit).ok_or_else(outside)?;
                }
            }
            tag::SUMS => packed.iter_mut().zip(bytes.sums(count)?).for_each(|(stream, sum)| stream.sum = sum),
            _ => return Err(broken("a packed stream is of an unknown kind")),
        }
    }
}

fn blocks(bytes: &mut Bytes<'_>, packed: usize) -> Result<Vec<Block>> {
    expect(bytes, tag::BLOCK)?;
    let count = bytes.count()?;
    not_elsewhere(bytes)?;
    let (mut blocks, mut first) = (Vec::with_capacity(count), 0);
    for _ in 0..count {
        let block = Block { first, ..block(bytes)? };
        first += block.packed.len();
        blocks.push(block);
    }
    if first > packed {
        return Err(broken("blocks have more streams than there are"));
    }
    expect(bytes, tag::BLOCK_SIZES)?;
    for coder in blocks.iter_mut().flat_map(|block| &mut block.coders) {
        coder.len = bytes.number()?;
    }
    loop {
        match bytes.byte()? {
            tag::END => return Ok(blocks),
            tag::SUMS => blocks.iter_mut().zip(bytes.sums(count)?).for_each(|(block, sum)| block.sum = sum),
            _ => return Err(broken("a block is of an unknown kind")),
        }
    }
}

/// The description of something may be in another stream; no program has ever made that.
fn not_elsewhere(bytes: &mut Bytes<'_>) -> Result<()> {
    match bytes.byte()? {
        0 => Ok(()),
        _ => Err(Error::new(Kind::Unsupported, "a part of the list of entries is in a stream of its own")),
    }
}

fn block(bytes: &mut Bytes<'_>) -> Result<Block> {
    let wrong = || broken("the coders of a block do not fit together");
    let count = bytes.count()?;
    if !(1..=MOST_CODERS).contains(&count) {
        return Err(wrong());
    }
    let coders = (0..count).map(|_| coder(bytes)).collect::<Result<Vec<_>>>()?;
    let inputs: usize = coders.iter().map(|coder| coder.inputs).sum();
    if inputs > MOST_CODERS {
        return Err(wrong());
    }
    let mut block = Block { coders, ..Block::default() };
    for _ in 1..count {
        let (input, coder) = (bytes.number()?, bytes.number()?);
        if input >= inputs as u64 || coder >= count as u64 {
            return Err(wrong());
        }
        block.bonds.push((input as usize, coder as usize));
    }
    let bound = |input: &usize| block.bonds.iter().any(|(known, _)| known == input);
    let packed = inputs.checked_sub(count - 1).filter(|packed| *packed > 0).ok_or_else(wrong)?;
    block.packed = match packed {
        1 => (0..inputs).filter(|input| !bound(input)).take(1).collect(),
        _ => (0..packed).map(|_| bytes.number().map(|input| input as usize)).collect::<Result<_>>()?,
    };
    let is_last = |coder: &usize| block.bonds.iter().all(|(_, known)| known != coder);
    block.last = (0..count).find(is_last).ok_or_else(wrong)?;
    match block.packed.len() == packed && reaches_all(&block) {
        true => Ok(block),
        false => Err(wrong()),
    }
}

/// Whether each input has one source, and no coder comes before itself.
fn reaches_all(block: &Block) -> bool {
    let (mut todo, mut seen) = (vec![block.last], vec![false; block.coders.len()]);
    while let Some(coder) = todo.pop() {
        if std::mem::replace(&mut seen[coder], true) {
            return false;
        }
        let first = block.input_of(coder);
        for input in first..first + block.coders[coder].inputs {
            let bonds: Vec<_> = block.bonds.iter().filter(|(known, _)| *known == input).collect();
            let packed = block.packed.iter().filter(|known| **known == input).count();
            match (bonds.as_slice(), packed) {
                ([(_, from)], 0) => todo.push(*from),
                ([], 1) => {}
                _ => return false,
            }
        }
    }
    seen.into_iter().all(|seen| seen)
}

fn coder(bytes: &mut Bytes<'_>) -> Result<Coder> {
    let flags = bytes.byte()?;
    let id = bytes.take(usize::from(flags & 15))?;
    if id.len() > 8 || flags & 0xc0 != 0 {
        return Err(broken("a coder is of an unknown kind"));
    }
    let method = id.iter().fold(0, |method, byte| method << 8 | u64::from(*byte));
    let (inputs, outputs) = if flags & 0x10 != 0 { (bytes.number()?, bytes.number()?) } else { (1, 1) };
    if outputs != 1 || !(1..=MOST_CODERS as u64).contains(&inputs) {
        return Err(Error::new(Kind::Unsupported, "a coder with several outputs, as only very old archives have it"));
    }
    let properties = if flags & 0x20 != 0 {
        let len = bytes.count()?;
        bytes.take(len)?.to_vec()
    } else {
        Vec::new()
    };
    Ok(Coder { method, inputs: inputs as usize, properties, len: 0 })
}

fn parts(bytes: &mut Bytes<'_>, blocks: &[Block]) -> Result<Vec<Part>> {
    let mut counts = vec![1usize; blocks.len()];
    let mut next = bytes.byte()?;
    if next == tag::PART_COUNTS {
        for count in &mut counts {
            // The size of the last one is not written.
            *count =
                bytes.number()?.try_into().ok().filter(|count| *count <= bytes.0.len() + 1).ok_or_else(too_many)?;
        }
        next = bytes.byte()?;
    }
    if counts.iter().sum::<usize>() > bytes.0.len() + blocks.len() {
        return Err(too_many());
    }
    let mut parts = Vec::new();
    for (at, (block, count)) in blocks.iter().zip(&counts).enumerate() {
        cut(bytes, next == tag::SIZE, (at as u32, block), *count, &mut parts)?;
    }
    if next == tag::SIZE {
        next = bytes.byte()?;
    }
    let has_sum = |block: &Block, count: usize| count == 1 && block.sum.is_some();
    let open: usize = blocks.iter().zip(&counts).filter(|(b, c)| !has_sum(b, **c)).map(|(_, c)| c).sum();
    let mut sums = vec![None; open].into_iter();
    while next != tag::END {
        match next {
            tag::SUMS => sums = bytes.sums(open)?.into_iter(),
            _ => return Err(broken("a part of a block is of an unknown kind")),
        }
        next = bytes.byte()?;
    }
    for part in &mut parts {
        let block = part.block as usize;
        part.sum = if has_sum(&blocks[block], counts[block]) { blocks[block].sum } else { sums.next().flatten() };
    }
    Ok(parts)
}

/// Cuts a block into parts: all but the last have a size.
fn cut(
    bytes: &mut Bytes<'_>,
    has_sizes: bool,
    (number, block): (u32, &Block),
    count: usize,
    parts: &mut Vec<Part>,
) -> Result<()> {
    let mut at = 0u64;
    for left in (0..count).rev() {
        let rest = block.len() - at;
        let len = match left {
            0 => rest,
            _ if has_sizes => bytes.number()?,
            _ => return Err(broken("the sizes of the parts of a block are missing")),
        };
        if len > rest {
            return Err(broken("the parts of a block are larger than it is"));
        }
        parts.push(Part { block: number, at, len, sum: None });
        at += len;
    }
    Ok(())
}

fn too_many() -> Error {
    broken("there are more parts than there can be")
}

fn files(bytes: &mut Bytes<'_>, parts: usize) -> Result<Vec<File>> {
    // Each has a name, which ends with two bytes.
    let count = bytes.count()?;
    let mut files = vec![File::default(); count];
    let (mut empty, mut empty_files, mut anti) = (vec![false; count], Vec::new(), Vec::new());
    loop {
        let tag = bytes.byte()?;
        if tag == tag::END {
            break;
        }
        let len = bytes.count()?;
        let mut bytes = Bytes(bytes.take(len)?);
        let empties = empty.iter().filter(|empty| **empty).count();
        match tag {
            tag::NO_STREAM => empty = bytes.bits(count)?,
            tag::EMPTY_FILE => empty_files = bytes.bits(empties)?,
            tag::ANTI => anti = bytes.bits(empties)?,
            tag::NAMES => names(&mut bytes, &mut files)?,
            tag::CREATED => times(&mut bytes, &mut files, |file| &mut file.created)?,
            tag::READ => times(&mut bytes, &mut files, |file| &mut file.read)?,
            tag::WRITTEN => times(&mut bytes, &mut files, |file| &mut file.written)?,
            tag::ATTRIBUTES => attributes(&mut bytes, &mut files)?,
            // Filling, and what later versions may add.
            _ => {}
        }
    }
    let (mut empty_files, mut anti, mut next) = (empty_files.into_iter(), anti.into_iter(), 0);
    for (file, empty) in files.iter_mut().zip(empty) {
        if empty {
            file.is_dir = !empty_files.next().unwrap_or(false);
            file.is_anti = anti.next().unwrap_or(false);
        } else {
            file.part = Some(next);
            next += 1;
        }
    }
    match next as usize > parts {
        true => Err(broken("there are more files than parts of blocks")),
        false => Ok(files),
    }
}

fn names(bytes: &mut Bytes<'_>, files: &mut [File]) -> Result<()> {
    not_elsewhere(bytes)?;
    let mut units = bytes.0.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]]));
    for file in files {
        loop {
            match units.next() {
                Some(0) => break,
                Some(unit) => file.name.push(unit),
                None => return Err(broken("names are missing")),
            }
        }
    }
    Ok(())
}

fn times(bytes: &mut Bytes<'_>, files: &mut [File], field: fn(&mut File) -> &mut Option<u64>) -> Result<()> {
    let known = bytes.bits_or_all(files.len())?;
    not_elsewhere(bytes)?;
    for file in files.iter_mut().zip(known).filter(|(_, known)| *known).map(|(file, _)| file) {
        *field(file) = Some(u64::from_le_bytes(bytes.array()?));
    }
    Ok(())
}

fn attributes(bytes: &mut Bytes<'_>, files: &mut [File]) -> Result<()> {
    let known = bytes.bits_or_all(files.len())?;
    not_elsewhere(bytes)?;
    for file in files.iter_mut().zip(known).filter(|(_, known)| *known).map(|(file, _)| file) {
        file.attributes = Some(u32::from_le_bytes(bytes.array()?));
    }
    Ok(())
}
