//! What coders do, by their numbers: from a block to a stream of its contents.
//!
//! ```text
//!   packed ─► Span ─► AES ─► LZMA2 ─► BCJ ─► contents        bytes that can be read anywhere, then streams
//! ```

use super::cipher::{self, Key, Lock};
use super::database::{Block, Coder, Packed};
use crate::cache::Cache;
use crate::error::{Error, Kind, Result};
use crate::formats::Cbc;
use crate::source::streams::{
    Bcj2, Brotli, Bzip2, Deflate, Deflate64, Filter, Filtered, Lz4, Lzma, Lzma2, Ppmd, Raw, Zstd,
};
use crate::source::{Forward, ReadAt, Span, Stream};
use std::sync::Arc;

const COPY: u64 = 0;
const DELTA: u64 = 3;
pub const LZMA2: u64 = 0x21;
const LZMA: u64 = 0x03_01_01;
const PPMD: u64 = 0x03_04_01;
const BCJ: u64 = 0x03_03_01_03;
const BCJ2: u64 = 0x03_03_01_1b;
const DEFLATE: u64 = 0x04_01_08;
const DEFLATE64: u64 = 0x04_01_09;
const BZIP2: u64 = 0x04_02_02;
const ZSTD: u64 = 0x04_f7_11_01;
const BROTLI: u64 = 0x04_f7_11_02;
const LZ4: u64 = 0x04_f7_11_04;
pub const AES: u64 = 0x06_f1_07_01;

/// The name of a method.
pub fn name(method: u64) -> String {
    let name = match method {
        COPY => "copy",
        LZMA => "LZMA",
        LZMA2 => "LZMA2",
        PPMD => "PPMd",
        BCJ2 => "BCJ2",
        DEFLATE => "deflate",
        DEFLATE64 => "deflate64",
        BZIP2 => "bzip2",
        ZSTD => "zstd",
        BROTLI => "brotli",
        LZ4 => "lz4",
        AES => "AES-256",
        _ => match filter(method, &[]) {
            Some((Filter::Delta(_), _)) => "delta",
            Some((Filter::Swap(_), _)) => "swap",
            Some((Filter::X86, _)) => "BCJ",
            Some((Filter::PowerPc, _)) => "PPC",
            Some((Filter::Ia64, _)) => "IA64",
            Some((Filter::Arm, _)) => "ARM",
            Some((Filter::ArmThumb, _)) => "ARMT",
            Some((Filter::Sparc, _)) => "SPARC",
            Some((Filter::Arm64, _)) => "ARM64",
            Some((Filter::RiscV, _)) => "RISCV",
            None => return format!("method {method:x}"),
        },
    };
    name.to_owned()
}

/// Whether bytes stay where they are, so that any of them can be read by itself.
pub fn is_plain(method: u64) -> bool {
    matches!(method, COPY | AES)
}

/// Filters, and the address that they begin with.
fn filter(method: u64, properties: &[u8]) -> Option<(Filter, u32)> {
    let filter = match method {
        4 | BCJ => Filter::X86,
        5 | 0x03_03_02_05 => Filter::PowerPc,
        6 | 0x03_03_04_01 => Filter::Ia64,
        7 | 0x03_03_05_01 => Filter::Arm,
        8 | 0x03_03_07_01 => Filter::ArmThumb,
        9 | 0x03_03_08_05 => Filter::Sparc,
        0xa => Filter::Arm64,
        0xb => Filter::RiscV,
        DELTA => Filter::Delta(properties.first().map_or(1, |distance| usize::from(*distance) + 1)),
        0x02_03_02 => Filter::Swap(2),
        0x02_03_04 => Filter::Swap(4),
        _ => return None,
    };
    let start = properties.first_chunk().map_or(0, |start| u32::from_le_bytes(*start));
    Some((filter, if method == DELTA { 0 } else { start }))
}

/// Whether this build can undo a method.
pub fn is_known(method: u64) -> bool {
    let known = [COPY, LZMA, LZMA2, PPMD, BCJ2, DEFLATE, DEFLATE64, BZIP2, ZSTD, BROTLI, LZ4, AES];
    known.contains(&method) || filter(method, &[]).is_some()
}

/// A block with where its bytes are.
pub struct Opening<'a> {
    pub block: &'a Block,
    pub packed: &'a [Packed],
    pub source: &'a Arc<dyn ReadAt>,
    pub cache: &'a Arc<Cache>,
    /// The keys of its encrypted streams.
    pub keys: &'a [(Lock, Key)],
}

/// The contents of a block.
pub enum Opened {
    /// They can be read at any place as they are.
    Plain(Arc<dyn ReadAt>),
    Stream(Arc<dyn Stream>),
}

impl Opening<'_> {
    pub fn open(&self) -> Result<Opened> {
        self.coder(self.block.last)
    }

    fn coder(&self, number: usize) -> Result<Opened> {
        let coder = &self.block.coders[number];
        let first = self.block.input_of(number);
        if coder.method == BCJ2 {
            let input = |at| -> Result<Arc<dyn Stream>> { Ok(streamed(self.input(first + at)?)) };
            if coder.inputs != 4 {
                return Err(Error::new(Kind::Damaged, "BCJ2 without its four inputs"));
            }
            let inputs = [input(0)?, input(1)?, input(2)?, input(3)?];
            return Ok(Opened::Stream(Arc::new(Bcj2::new(inputs, coder.len))));
        }
        if coder.inputs != 1 {
            return Err(unknown(coder));
        }
        let input = self.input(first)?;
        if let Some((filter, start)) = filter(coder.method, &coder.properties) {
            return Ok(Opened::Stream(Arc::new(Filtered::new(streamed(input), filter, start))));
        }
        let bytes = self.bytes(input)?;
        Ok(match coder.method {
            COPY => Opened::Plain(Arc::new(Span::new(bytes.clone(), 0..coder.len.min(bytes.len()?)))),
            AES => Opened::Plain(Arc::new(self.decrypted(coder, bytes)?)),
            _ => Opened::Stream(decoded(coder, bytes)?),
        })
    }

    /// What goes into a coder.
    fn input(&self, input: usize) -> Result<Opened> {
        if let Some((_, coder)) = self.block.bonds.iter().find(|(known, _)| *known == input) {
            return self.coder(*coder);
        }
        let place = self.block.packed.iter().position(|known| *known == input);
        let packed = place.and_then(|place| self.packed.get(self.block.first + place));
        let packed = packed.ok_or_else(|| Error::new(Kind::Damaged, "a block lacks a part of its data"))?;
        Ok(Opened::Plain(Arc::new(Span::new(self.source.clone(), packed.at..packed.at + packed.len))))
    }

    /// What can be read at any place, as decoders need it.
    fn bytes(&self, input: Opened) -> Result<Arc<dyn ReadAt>> {
        match input {
            Opened::Plain(bytes) => Ok(bytes),
            Opened::Stream(stream) => Ok(Forward::new(stream, self.cache.clone())?),
        }
    }

    fn decrypted(&self, coder: &Coder, bytes: Arc<dyn ReadAt>) -> Result<Cbc<cipher::Opened>> {
        let lock = Lock::read(&coder.properties)?;
        let key = self.keys.iter().find(|(known, _)| known.has_key_of(&lock));
        let key = key.ok_or_else(|| Error::new(Kind::NeedsPassword, "it is encrypted, and no password was given"))?;
        Cbc::new(bytes, cipher::Opened::new(&lock, &key.1), coder.len)
    }
}

pub fn streamed(opened: Opened) -> Arc<dyn Stream> {
    match opened {
        Opened::Plain(bytes) => Arc::new(Raw(bytes)),
        Opened::Stream(stream) => stream,
    }
}

fn unknown(coder: &Coder) -> Error {
    let what = format!("it is compressed by {}, which this build cannot undo", name(coder.method));
    Error::new(Kind::Unsupported, what)
}

fn decoded(coder: &Coder, bytes: Arc<dyn ReadAt>) -> Result<Arc<dyn Stream>> {
    let (properties, len) = (&coder.properties[..], Some(coder.len));
    let torn = || Error::new(Kind::Damaged, format!("the properties of {} are missing", name(coder.method)));
    Ok(match coder.method {
        LZMA => Arc::new(Lzma::bare(bytes, *properties.first_chunk().ok_or_else(torn)?, len)),
        LZMA2 => Arc::new(Lzma2::new(bytes, *properties.first().ok_or_else(torn)?, len)),
        PPMD => {
            let [order, memory @ ..] = *properties.first_chunk::<5>().ok_or_else(torn)?;
            Arc::new(Ppmd::in_7z(bytes, order, u32::from_le_bytes(memory), coder.len)?)
        }
        DEFLATE => Arc::new(Deflate::new(bytes, len)),
        DEFLATE64 => Arc::new(Deflate64::new(bytes, len)),
        BZIP2 => Arc::new(Bzip2::new(bytes, len)),
        ZSTD => Arc::new(Zstd::new(bytes)),
        BROTLI => Arc::new(Brotli::new(bytes, len)),
        LZ4 => Arc::new(Lz4::new(bytes)),
        _ => return Err(unknown(coder)),
    })
}
