//! The list of entries, written: what [`database`](super::super::database) reads.
//!
//! ```text
//!   HEADER │ MAIN: PACK  UNPACK  PARTS │ FILES: which are empty, names, times, attributes │ END
//! ```
//!
//! What was read and is written again says the same: blocks keep their coders, and sums are where they were.

use super::super::database::{Block, Coder, File, Packed, Part, Streams, tag};
use super::super::find::{SIGNATURE, START};

/// The version of the format that 7-Zip writes.
const VERSION: [u8; 2] = [0, 4];

/// The list of these entries, in clear.
pub fn plain(streams: &Streams, files: &[File]) -> Vec<u8> {
    let mut out = Out(vec![tag::HEADER]);
    if !streams.blocks.is_empty() {
        out.byte(tag::MAIN);
        out.streams(streams);
    }
    out.files(files);
    out.byte(tag::END);
    out.0
}

/// That the list is packed, and how.
pub fn encoded(streams: &Streams) -> Vec<u8> {
    let mut out = Out(vec![tag::ENCODED]);
    out.streams(streams);
    out.0
}

/// What stands at the front: where the list is.
pub fn start(header_at: u64, header: &[u8]) -> [u8; START] {
    let sum = crc32fast::hash(header);
    let offset = if header.is_empty() { 0 } else { header_at.saturating_sub(START as u64) };
    let place = [&offset.to_le_bytes()[..], &(header.len() as u64).to_le_bytes(), &sum.to_le_bytes()].concat();
    let mut start = [0; START];
    start[..6].copy_from_slice(SIGNATURE);
    start[6..8].copy_from_slice(&VERSION);
    start[8..12].copy_from_slice(&crc32fast::hash(&place).to_le_bytes());
    start[12..].copy_from_slice(&place);
    start
}

struct Out(Vec<u8>);

impl Out {
    fn byte(&mut self, byte: u8) {
        self.0.push(byte);
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    /// A number, in as few bytes as it takes: the ones in front of the first byte tell how many follow.
    fn number(&mut self, number: u64) {
        let more = (0..8).find(|more| number < 1 << (7 * (more + 1))).unwrap_or(8);
        let ones = !(0xff_u32 >> more) as u8;
        let high = if more < 7 { (number >> (8 * more)) as u8 } else { 0 };
        self.byte(ones | high);
        self.bytes(&number.to_le_bytes()[..more]);
    }

    fn count(&mut self, count: usize) {
        self.number(count as u64);
    }

    fn bits(&mut self, bits: impl Iterator<Item = bool>) {
        let bits: Vec<bool> = bits.collect();
        let byte =
            |eight: &[bool]| eight.iter().enumerate().fold(0, |byte, (at, bit)| byte | u8::from(*bit) << (7 - at));
        self.0.extend(bits.chunks(8).map(byte));
    }

    /// The same, with a byte in front that says whether all are set.
    fn bits_or_all(&mut self, bits: impl Iterator<Item = bool> + Clone) {
        let all = bits.clone().all(|bit| bit);
        self.byte(u8::from(all));
        if !all {
            self.bits(bits);
        }
    }

    /// Checksums, where any is known.
    fn sums(&mut self, sums: &[Option<u32>]) {
        if sums.iter().all(Option::is_none) {
            return;
        }
        self.byte(tag::SUMS);
        self.bits_or_all(sums.iter().map(Option::is_some));
        sums.iter().flatten().for_each(|sum| self.bytes(&sum.to_le_bytes()));
    }

    fn streams(&mut self, streams: &Streams) {
        self.packed(&streams.packed);
        self.blocks(&streams.blocks);
        self.parts(&streams.blocks, &streams.parts);
        self.byte(tag::END);
    }

    /// Packed streams, which lie one behind the other.
    fn packed(&mut self, packed: &[Packed]) {
        self.byte(tag::PACK);
        self.number(packed.first().map_or(0, |first| first.at.saturating_sub(START as u64)));
        self.count(packed.len());
        self.byte(tag::SIZE);
        packed.iter().for_each(|stream| self.number(stream.len));
        self.sums(&packed.iter().map(|stream| stream.sum).collect::<Vec<_>>());
        self.byte(tag::END);
    }

    fn blocks(&mut self, blocks: &[Block]) {
        self.byte(tag::UNPACK);
        self.byte(tag::BLOCK);
        self.count(blocks.len());
        self.not_elsewhere();
        blocks.iter().for_each(|block| self.block(block));
        self.byte(tag::BLOCK_SIZES);
        blocks.iter().flat_map(|block| &block.coders).for_each(|coder| self.number(coder.len));
        self.sums(&blocks.iter().map(|block| block.sum).collect::<Vec<_>>());
        self.byte(tag::END);
    }

    fn block(&mut self, block: &Block) {
        self.count(block.coders.len());
        block.coders.iter().for_each(|coder| self.coder(coder));
        for (input, coder) in &block.bonds {
            self.count(*input);
            self.count(*coder);
        }
        // Of one packed stream it is clear where it goes.
        if block.packed.len() > 1 {
            block.packed.iter().for_each(|input| self.count(*input));
        }
    }

    fn coder(&mut self, coder: &Coder) {
        let id = coder.method.to_be_bytes();
        let id = &id[id.iter().position(|byte| *byte != 0).unwrap_or(id.len() - 1)..];
        let (is_complex, has_properties) = (coder.inputs != 1, !coder.properties.is_empty());
        self.byte(id.len() as u8 | u8::from(is_complex) << 4 | u8::from(has_properties) << 5);
        self.bytes(id);
        if is_complex {
            self.count(coder.inputs);
            self.count(1);
        }
        if has_properties {
            self.count(coder.properties.len());
            self.bytes(&coder.properties);
        }
    }

    /// How blocks are cut into parts: nothing is said where each is one, with the sum of its block.
    fn parts(&mut self, blocks: &[Block], parts: &[Part]) {
        let mut of_block: Vec<&[Part]> = Vec::with_capacity(blocks.len());
        let mut rest = parts;
        for number in 0..blocks.len() {
            let (own, behind) = rest.split_at(rest.iter().take_while(|part| part.block as usize == number).count());
            of_block.push(own);
            rest = behind;
        }
        let has_sum = |(block, own): &(&Block, &&[Part])| own.len() == 1 && block.sum.is_some();
        let open = blocks.iter().zip(&of_block).filter(|pair| !has_sum(pair));
        let open: Vec<_> = open.flat_map(|(_, own)| own.iter().map(|part| part.sum)).collect();
        let is_cut = of_block.iter().any(|own| own.len() != 1);
        if !is_cut && open.iter().all(Option::is_none) {
            return;
        }
        self.byte(tag::PARTS);
        if is_cut {
            self.byte(tag::PART_COUNTS);
            of_block.iter().for_each(|own| self.count(own.len()));
        }
        self.part_sizes(&of_block);
        self.sums(&open);
        self.byte(tag::END);
    }

    /// The size of the last part of each block is what is left.
    fn part_sizes(&mut self, of_block: &[&[Part]]) {
        let told = || of_block.iter().flat_map(|own| &own[..own.len().saturating_sub(1)]);
        if told().next().is_some() {
            self.byte(tag::SIZE);
            told().for_each(|part| self.number(part.len));
        }
    }

    /// What follows is here, and not in a stream of its own.
    fn not_elsewhere(&mut self) {
        self.byte(0);
    }

    fn files(&mut self, files: &[File]) {
        self.byte(tag::FILES);
        self.count(files.len());
        let empty = || files.iter().filter(|file| file.part.is_none());
        if empty().next().is_some() {
            self.property(tag::NO_STREAM, |out| out.bits(files.iter().map(|file| file.part.is_none())));
        }
        if empty().any(|file| !file.is_dir) {
            self.property(tag::EMPTY_FILE, |out| out.bits(empty().map(|file| !file.is_dir)));
        }
        self.property(tag::NAMES, |out| out.names(files));
        self.known(tag::CREATED, files, |file| file.created.map(u64::to_le_bytes));
        self.known(tag::READ, files, |file| file.read.map(u64::to_le_bytes));
        self.known(tag::WRITTEN, files, |file| file.written.map(u64::to_le_bytes));
        self.known(tag::ATTRIBUTES, files, |file| file.attributes.map(u32::to_le_bytes));
        self.byte(tag::END);
    }

    fn property(&mut self, tag: u8, write: impl FnOnce(&mut Self)) {
        let mut own = Self(Vec::new());
        write(&mut own);
        self.byte(tag);
        self.count(own.0.len());
        self.bytes(&own.0);
    }

    fn names(&mut self, files: &[File]) {
        self.not_elsewhere();
        for file in files {
            file.name.iter().chain(&[0]).for_each(|unit| self.bytes(&unit.to_le_bytes()));
        }
    }

    /// Something that not every file has.
    fn known<const N: usize>(&mut self, tag: u8, files: &[File], field: impl Fn(&File) -> Option<[u8; N]>) {
        if files.iter().all(|file| field(file).is_none()) {
            return;
        }
        self.property(tag, |out| {
            out.bits_or_all(files.iter().map(|file| field(file).is_some()));
            out.not_elsewhere();
            files.iter().filter_map(&field).for_each(|bytes| out.bytes(&bytes));
        });
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::bytes::Bytes;
    use super::super::super::database::Header;
    use super::*;

    #[test]
    fn numbers_are_read_as_they_were_written() {
        let powers = (0..64).flat_map(|bit| [1_u64 << bit, (1 << bit) - 1, (1 << bit) + 1]);
        for number in powers.chain([u64::MAX]) {
            let mut out = Out(Vec::new());
            out.number(number);
            let mut bytes = Bytes(&out.0);
            assert_eq!((bytes.number().unwrap(), bytes.0.len()), (number, 0));
            assert!(out.0.len() <= 9 && (number >= 128 || out.0.len() == 1));
        }
    }

    fn coder(method: u64, inputs: usize, properties: &[u8], len: u64) -> Coder {
        Coder { method, inputs, properties: properties.to_vec(), len }
    }

    /// Blocks of all shapes: one with four packed streams, one with a sum, one without any part.
    fn streams() -> Streams {
        let sizes = [10, 300, 70_000, 5, 1, 0];
        let mut at = START as u64;
        let mut packed = Vec::new();
        for (number, len) in sizes.into_iter().enumerate() {
            packed.push(Packed { at, len, sum: (number == 2).then_some(77) });
            at += len;
        }
        let bcj2 = Block {
            coders: vec![coder(0x0303_011b, 4, &[], 900), coder(0x21, 1, &[24], 900)],
            bonds: vec![(0, 1)],
            packed: vec![4, 1, 2, 3],
            first: 0,
            last: 0,
            sum: None,
        };
        let simple = |len, first, sum| {
            let packed = vec![0];
            Block { coders: vec![coder(0, 1, &[], len)], packed, first, sum, ..Block::default() }
        };
        let part = |block, at, len, sum| Part { block, at, len, sum };
        let parts =
            vec![part(0, 0, 500, Some(1)), part(0, 500, 400, None), part(1, 0, 1, Some(9)), part(2, 0, 0, Some(3))];
        Streams { packed, blocks: vec![bcj2, simple(1, 4, Some(9)), simple(0, 5, None)], parts }
    }

    fn files() -> Vec<File> {
        let name = |name: &str| name.encode_utf16().collect::<Vec<_>>();
        let file = |text: &str, part| File { name: name(text), part, ..File::default() };
        vec![
            File { written: Some(5), attributes: Some(0x8020), ..file("a", Some(0)) },
            File { is_dir: true, created: Some(u64::MAX), ..file("d", None) },
            File { read: Some(1), ..file("d/ü", Some(1)) },
            File { written: Some(6), ..file("d/empty", None) },
            file("b", Some(2)),
            File { name: vec![0xd800, 0x61], part: Some(3), ..File::default() },
        ]
    }

    #[test]
    fn a_list_is_read_as_it_was_written() {
        let (streams, files) = (streams(), files());
        match Header::read(&plain(&streams, &files), START as u64, 1 << 20).unwrap() {
            Header::Plain(read, read_files) => assert_eq!((read, read_files), (streams.clone(), files)),
            Header::Encoded(_) => panic!("it is in clear"),
        }
        match Header::read(&encoded(&streams), START as u64, 1 << 20).unwrap() {
            Header::Encoded(read) => assert_eq!(read, streams),
            Header::Plain(..) => panic!("it is packed"),
        }
        match Header::read(&plain(&Streams::default(), &[]), START as u64, 100).unwrap() {
            Header::Plain(read, files) => assert_eq!((read, files.len()), (Streams::default(), 0)),
            Header::Encoded(_) => panic!("it is in clear"),
        }
    }
}
